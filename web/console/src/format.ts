// How numbers and times are written.

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const whole = new Intl.NumberFormat();

export type Time = string | number | Date | null | undefined;

export function millis(t: Time): number | null {
  if (t === null || t === undefined || t === "") return null;
  const ms = typeof t === "number" ? t : new Date(t).getTime();
  return Number.isNaN(ms) ? null : ms;
}

/** 14:03:12, with the day if it is not today. Local time, for people. */
export function time(t: Time, now = Date.now()): string {
  const ms = millis(t);
  if (ms === null) return "–";
  const same = new Date(ms).toDateString() === new Date(now).toDateString();
  return (same ? clock : day).format(ms);
}

/** 7 s, 3 min 20 s, 2 h 05 min, 3 d 4 h: two units at most. Negative ones (clocks differ) are 0 s. */
export function duration(ms: number | null): string {
  if (ms === null) return "–";
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  const m = Math.floor(s / 60);
  if (m < 60) return `${m} min ${String(s % 60).padStart(2, "0")} s`;
  const h = Math.floor(m / 60);
  if (h < 24) return `${h} h ${String(m % 60).padStart(2, "0")} min`;
  return `${Math.floor(h / 24)} d ${h % 24} h`;
}

/** How long ago. */
export function age(t: Time, now: number): string {
  const ms = millis(t);
  return ms === null ? "–" : duration(now - ms);
}

export function count(n: number | null | undefined): string {
  return n === null || n === undefined ? "–" : whole.format(n);
}

/** 3 agents, 1 agent. */
export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** The first part of a UUID: enough to tell apart, short enough to read; the whole of it belongs into a title. */
export function shortId(id: string): string {
  return id.length > 12 ? `${id.slice(0, 8)}…` : id;
}
