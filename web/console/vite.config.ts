// Builds dist/, which is committed and embedded, so that the service needs no Node. The same sources give the same files: scripts/generate
// --check compares. Names hold a hash of the content, so a browser may keep assets for ever (console.go).
import { defineConfig } from "vitest/config";

export default defineConfig({
  base: "./",
  build: {
    outDir: "dist",
    target: "es2022",
    assetsInlineLimit: 0, // the page's policy allows files of its own alone
    modulePreload: { polyfill: false },
  },
  test: { include: ["test/**/*.test.ts"] },
});
