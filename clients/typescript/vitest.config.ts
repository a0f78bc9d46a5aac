import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // What one test does to timers, globals and the page is its own.
    isolate: true,
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
