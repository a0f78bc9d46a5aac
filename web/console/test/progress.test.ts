import { describe, expect, test } from "vitest";
import { parseCSV, progress } from "../src/progress";

describe("CSV", () => {
  test("has lines by name, and quotes", () => {
    expect(parseCSV('a,b\r\n1,"x, ""y""\nz"\r\n2,\r\n')).toEqual([{ a: "1", b: 'x, "y"\nz' }, { a: "2", b: "" }]);
  });
  test("may be nothing but a header, or nothing", () => {
    expect(parseCSV("a,b\r\n")).toEqual([]);
    expect(parseCSV("")).toEqual([]);
  });
});

describe("progress", () => {
  const at = (s: number) => new Date(s * 1000).toISOString();
  const failover = (detected: number, pending?: number, completed?: number, cancelled?: number) => ({
    detectedAt: at(detected), pendingAt: pending ? at(pending) : "", completedAt: completed ? at(completed) : "", cancelledAt: cancelled ? at(cancelled) : "",
  });

  test("counts what is detected, held and over", () => {
    const p = progress([failover(101, undefined, 102), failover(101, 103, 110), failover(101, 103, undefined, 105)], at(100), 0);
    expect(p).toEqual({ times: [100, 101, 102, 103, 105, 110], detected: [0, 3, 3, 3, 3, 3], pending: [0, 0, 0, 2, 1, 0], over: [0, 0, 1, 1, 2, 3] });
  });
  test("of a shift under way goes on until now", () => {
    const p = progress([failover(101, 103)], at(100), 200_000);
    expect(p.times.at(-1)).toBe(200);
    expect(p.pending.at(-1)).toBe(1);
  });
  test("of many failovers has few points and the right end", () => {
    const p = progress(Array.from({ length: 20_000 }, (_, i) => failover(101 + i / 1000, undefined, 130 + i / 500)), at(100), 0, 100);
    expect(p.times.length).toBeLessThanOrEqual(101);
    expect(p.over.at(-1)).toBe(20_000);
    expect(p.detected.at(-1)).toBe(20_000);
  });
  test("of nothing is a line at zero", () => {
    expect(progress([], at(100), 0)).toEqual({ times: [100], detected: [0], pending: [0], over: [0] });
  });
});
