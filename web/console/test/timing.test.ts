import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Backoff, Gate } from "../src/timing";

beforeEach(() => { vi.useFakeTimers(); });
afterEach(() => { vi.useRealTimers(); });

test("however often it rings, it runs once in its interval", async () => {
  const at: number[] = [];
  const start = Date.now();
  const gate = new Gate(2000, async () => { at.push(Date.now() - start); return undefined; });
  for (let i = 0; i < 10_000; i++) { // a thousand events a second
    gate.ring();
    await vi.advanceTimersByTimeAsync(1);
  }
  await vi.advanceTimersByTimeAsync(10_000);
  expect(at).toEqual([0, 2000, 4000, 6000, 8000, 10_000]);
});

test("what happens during a run is looked at after it, and never beside it", async () => {
  let running = 0, runs = 0;
  const gate = new Gate(100, async () => {
    expect(++running).toBe(1);
    await new Promise((resolve) => { setTimeout(resolve, 1000); });
    running--;
    runs++;
    return undefined;
  });
  gate.ring();
  await vi.advanceTimersByTimeAsync(500);
  gate.ring();
  gate.ring(true);
  await vi.advanceTimersByTimeAsync(5000);
  expect(runs).toBe(2);
});

test("a run may ask for a pause, which only the user goes past", async () => {
  let runs = 0;
  const gate = new Gate(100, async () => { runs++; return 10_000; });
  gate.ring();
  await vi.advanceTimersByTimeAsync(5000);
  gate.ring();
  await vi.advanceTimersByTimeAsync(4000);
  expect(runs).toBe(1);
  gate.ring(true);
  expect(runs).toBe(2);
  await vi.advanceTimersByTimeAsync(20_000);
  expect(runs).toBe(2);
});

test("closed, it runs no more", async () => {
  let runs = 0;
  const gate = new Gate(100, async () => { runs++; return undefined; });
  gate.ring();
  gate.ring();
  gate.close();
  gate.ring(true);
  await vi.advanceTimersByTimeAsync(1000);
  expect(runs).toBe(1);
});

test("a run that fails does not end the gate", async () => {
  let runs = 0;
  const gate = new Gate(100, async () => { if (runs++ === 0) throw new Error("bug"); return undefined; });
  const bug = new Promise((resolve) => { process.once("unhandledRejection", resolve); });
  gate.ring();
  await bug;
  await vi.advanceTimersByTimeAsync(200);
  gate.ring();
  expect(runs).toBe(2);
});

test("pauses grow to a limit, jittered, and never below what the service asks for", () => {
  const low = new Backoff(500, 15_000, () => 0), high = new Backoff(500, 15_000, () => 1);
  expect([1, 2, 3, 4, 5, 6, 7].map(() => high.next())).toEqual([500, 1000, 2000, 4000, 8000, 15_000, 15_000]);
  expect([1, 2].map(() => low.next())).toEqual([250, 500]);
  expect(low.next(30_000)).toBe(30_000);
  expect(low.next(3_600_000)).toBe(60_000);
  high.reset();
  expect(high.next()).toBe(500);
});
