// What can be said of a shift that is under way. No DOM here.
import type { Schemas } from "./api";

export type Progress = Schemas["ShiftProgress"];

/** One line of a chart for each figure: times in seconds, as uPlot wants them. */
export function series(p: Progress): [number[], number[], number[], number[]] {
  const s = (t: string) => new Date(t).getTime() / 1000;
  const out: [number[], number[], number[], number[]] = [[s(p.startedAt)], [0], [0], [0]];
  for (const point of p.points) {
    out[0].push(s(point.at));
    out[1].push(point.detected);
    out[2].push(point.pending);
    out[3].push(point.completed);
  }
  const until = s(p.until);
  if (out[0].at(-1)! < until) { // it stands as it stood
    out[0].push(until);
    for (const line of [out[1], out[2], out[3]]) line.push(line.at(-1)!);
  }
  return out;
}

export interface Estimate {
  /** Milliseconds until half of those who wait now have gone, and until about the last has. */
  half: number;
  last: number;
}

const window = 5 * 60_000;
const fewest = 5;

/**
 * How long the rest will take, if contacts go on ending as they did in the last five minutes: each that is open ends in the next second with the same
 * probability, which is how many ended divided by how long all of them waited together. Undefined where nothing says: too few have ended, or more come than go.
 */
export function estimate(p: Progress): Estimate | undefined {
  const until = new Date(p.until).getTime();
  const points = p.points.map((x) => ({ at: new Date(x.at).getTime(), pending: x.pending }));
  const now = points.at(-1)?.pending ?? 0;
  if (now === 0) return undefined;
  // Before the peak contacts were still being found.
  let peak = 0;
  points.forEach((x, i) => { if (x.pending >= points[peak]!.pending) peak = i; });
  const from = Math.max(points[peak]!.at, until - window);
  let waited = 0;
  let first: number | undefined;
  points.forEach((x, i) => {
    const end = points[i + 1]?.at ?? until;
    if (i < peak || end <= from) return;
    first ??= x.pending;
    waited += x.pending * (end - Math.max(x.at, from));
  });
  const gone = (first ?? 0) - now;
  if (gone < fewest || waited <= 0) return undefined;
  const rate = gone / waited; // of one contact, per millisecond
  let harmonic = 0;
  for (let i = 1; i <= now; i++) harmonic += 1 / i;
  return { half: Math.LN2 / rate, last: harmonic / rate };
}
