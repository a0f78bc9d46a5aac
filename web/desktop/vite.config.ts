// Builds dist/, which is committed, so that `make demo` needs no Node. The names of files are always the same, and so is what comes out of
// the same sources: scripts/web --check compares.
import { copyFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { defineConfig } from "vite";

const require = createRequire(import.meta.url);

export default defineConfig({
  base: "./",
  build: {
    outDir: "dist",
    target: "es2022",
    assetsInlineLimit: 0, // the page's policy allows files of its own alone
    modulePreload: { polyfill: false },
    rollupOptions: { output: { entryFileNames: "[name].js", chunkFileNames: "[name].js", assetFileNames: "[name][extname]" } },
  },
  plugins: [
    {
      name: "unmodified files",
      writeBundle({ dir }) {
        // Amazon's library as it is published, and the worker that holds the connection for all tabs.
        copyFileSync(require.resolve("amazon-connect-streams/release/connect-streams-min.js"), join(dir!, "connect-streams.js"));
        copyFileSync(require.resolve("amazon-connect-streams/LICENSE.txt"), join(dir!, "connect-streams.LICENSE.txt"));
        copyFileSync(require.resolve("changeover-client/worker.js"), join(dir!, "changeover-worker.js"));
      },
    },
  ],
});
