// Builds dist/: ES modules and CommonJS, each one file and its declarations, and the SharedWorker. Run by `npm run build`.
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
process.chdir(root);
rmSync("dist", { recursive: true, force: true });

const common = { bundle: true, target: "es2022", minify: true, sourcemap: false, logLevel: "warning", legalComments: "none" };
const entryPoints = ["src/index.ts", "src/streams.ts"];
await Promise.all([
  build({ ...common, entryPoints, outdir: "dist/esm", format: "esm" }),
  build({ ...common, entryPoints, outdir: "dist/cjs", format: "cjs" }),
  build({ ...common, entryPoints: ["src/worker.ts"], outdir: "dist", format: "iife" }),
]);

const tsc = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin", "tsc");
execFileSync(process.execPath, [tsc, "--noEmit", "false", "--declaration", "--emitDeclarationOnly", "--outDir", "dist/esm"], { stdio: "inherit" });
// The same declarations stand for CommonJS: they import each other and nothing else, and the folder says what they are.
mkdirSync("dist/cjs", { recursive: true });
cpSync("dist/esm", "dist/cjs", { recursive: true, filter: (path) => !path.endsWith(".js") });
writeFileSync("dist/cjs/package.json", '{ "type": "commonjs" }\n');
