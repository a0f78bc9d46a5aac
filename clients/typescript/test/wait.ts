import { vi } from "vitest";

/** Waits for what takes milliseconds on an idle machine, as long as a busy one may need. */
export const waitFor = <T>(f: () => T | Promise<T>): Promise<T> => vi.waitFor(f, { timeout: 15_000, interval: 5 });
