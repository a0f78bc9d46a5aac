// How a shift went, from the failovers of it.

/** Lines of CSV as RFC 4180 has them, each by the names of the header. */
export function parseCSV(text: string): Record<string, string>[] {
  const lines: string[][] = [];
  let line: string[] = [];
  let field = "";
  let quoted = false;
  const end = () => { line.push(field); field = ""; };
  for (let i = 0; i < text.length; i++) {
    const c = text[i]!;
    if (quoted) {
      if (c !== '"') field += c;
      else if (text[i + 1] === '"') field += text[++i];
      else quoted = false;
    } else if (c === '"') quoted = true;
    else if (c === ",") end();
    else if (c === "\n") {
      end();
      lines.push(line);
      line = [];
    } else if (c !== "\r") field += c;
  }
  if (field || line.length > 0) {
    end();
    lines.push(line);
  }
  const [names = [], ...rows] = lines;
  return rows.map((row) => Object.fromEntries(names.map((name, i) => [name, row[i] ?? ""])));
}

export interface Progress {
  /** Seconds since 1970. */
  times: number[];
  /** At each of them, how many were detected so far, how many of them are held by contacts, and how many are over. */
  detected: number[];
  pending: number[];
  over: number[];
}

const seconds = (text: string | undefined) => (text ? new Date(text).getTime() / 1000 : null);

/** Counts failovers over time; where there are more moments than `points`, the last of each interval stands for it. */
export function progress(failovers: readonly Record<string, string>[], startedAt: string, now: number, points = 600): Progress {
  const begin = seconds(startedAt) ?? 0;
  const changes: { at: number; detected: number; pending: number; over: number }[] = [{ at: begin, detected: 0, pending: 0, over: 0 }];
  for (const f of failovers) {
    const detected = seconds(f.detectedAt);
    const pending = seconds(f.pendingAt);
    const over = seconds(f.completedAt) ?? seconds(f.cancelledAt);
    if (detected !== null) changes.push({ at: detected, detected: 1, pending: 0, over: 0 });
    if (pending !== null) changes.push({ at: pending, detected: 0, pending: 1, over: 0 });
    if (over !== null) changes.push({ at: over, detected: 0, pending: pending === null ? 0 : -1, over: 1 });
  }
  changes.sort((a, b) => a.at - b.at);
  const last = changes.at(-1)!.at;
  const open = failovers.some((f) => !f.completedAt && !f.cancelledAt);
  const until = open ? Math.max(last, now / 1000) : last;
  const width = (until - begin) / points;
  const out: Progress = { times: [], detected: [], pending: [], over: [] };
  const sum = { detected: 0, pending: 0, over: 0 };
  const put = (at: number) => {
    out.times.push(at);
    out.detected.push(sum.detected);
    out.pending.push(sum.pending);
    out.over.push(sum.over);
  };
  changes.forEach((c, i) => {
    sum.detected += c.detected;
    sum.pending += c.pending;
    sum.over += c.over;
    const next = changes[i + 1];
    if (!next || Math.floor((next.at - begin) / width) !== Math.floor((c.at - begin) / width)) put(c.at);
  });
  if (out.times.at(-1)! < until) put(until);
  return out;
}
