// The package as it is published: packed, installed into an empty project, used there.
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const fixtures = join(root, "test", "package");
let project: string;
let installed: string;

function run(command: string, args: string[], cwd: string): string {
  try {
    return execFileSync(command, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  } catch (e) {
    const { stdout, stderr } = e as { stdout: string; stderr: string };
    throw new Error(`${command} ${args.join(" ")} failed:\n${stdout}${stderr}`);
  }
}

beforeAll(() => {
  project = mkdtempSync(join(tmpdir(), "changeover-client-"));
  const tarball = run("npm", ["pack", "--silent", "--pack-destination", project], root).trim().split("\n").at(-1)!;
  writeFileSync(join(project, "package.json"), '{ "name": "empty", "private": true }');
  run("npm", ["install", "--offline", "--no-audit", "--no-fund", `./${tarball}`], project);
  installed = join(project, "node_modules", "changeover-client");
  for (const f of ["fixture.mjs", "fixture.cjs"]) cpSync(join(fixtures, f), join(project, f));
  symlinkSync(join(root, "node_modules", "amazon-connect-streams"), join(project, "node_modules", "amazon-connect-streams"));
}, 120_000);
afterAll(() => rmSync(project, { recursive: true, force: true }));

test("it brings its licence", () => expect(readFileSync(join(installed, "LICENSE"), "utf8")).toContain("Apache License"));

test("it depends on nothing", () => {
  const manifest = JSON.parse(readFileSync(join(installed, "package.json"), "utf8")) as Record<string, unknown>;
  expect(manifest["dependencies"]).toBeUndefined();
  expect(manifest["peerDependencies"]).toBeUndefined();
  expect(readdirSync(join(project, "node_modules")).filter((n) => !n.startsWith("."))).toEqual(["amazon-connect-streams", "changeover-client"]);
});

test.each(["dist/esm/index.js", "dist/cjs/index.js", "dist/worker.js", "dist/esm/streams.js"])("%s is under 10 KiB gzipped", (file) => {
  const size = gzipSync(readFileSync(join(installed, file)), { level: 9 }).length;
  expect(size).toBeGreaterThan(1_000);
  expect(size).toBeLessThan(10 * 1024);
});

test("it runs as an ES module", () => expect(run(process.execPath, ["fixture.mjs"], project)).toBe("esm\n"));
test("it runs as CommonJS", () => expect(run(process.execPath, ["fixture.cjs"], project)).toBe("cjs\n"));

describe("its types", () => {
  test.each([
    ["node16, ES module", "mts", { module: "node16", moduleResolution: "node16" }],
    ["node16, CommonJS", "cts", { module: "node16", moduleResolution: "node16" }],
    ["nodenext", "mts", { module: "nodenext", moduleResolution: "nodenext" }],
    ["bundler", "ts", { module: "esnext", moduleResolution: "bundler" }],
  ])("%s", (name, extension, options) => {
    const dir = join(project, name.replace(/\W/g, ""));
    mkdirSync(dir);
    cpSync(join(fixtures, "types.ts"), join(dir, `types.${extension}`));
    writeFileSync(join(dir, "tsconfig.json"), JSON.stringify({
      compilerOptions: { ...options, strict: true, noEmit: true, target: "es2022", lib: ["es2022", "dom"], types: [], skipLibCheck: false },
      include: ["*"],
    }));
    run(process.execPath, [join(root, "node_modules", "typescript", "bin", "tsc"), "-p", dir], dir);
  }, 60_000);
});
