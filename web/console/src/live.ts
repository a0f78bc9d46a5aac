// Live data. REST has the state and is always right; events say when to ask it again. However many come, a page asks once in
// its interval: a shift of 50,000 agents is 150,000 events and a few hundred requests.
//
//   const floor = useLive("summary", () => data(api.GET("/v1/summary")), { every: 2000 });
//   floor.data, floor.error, floor.loadedAt, floor.refresh()
import { signal } from "@preact/signals";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { api, ApiError, data } from "./api";
import { askSession, session } from "./session";
import { readStream, StreamRefused } from "./stream";
import { Backoff, Gate } from "./timing";

export interface LoggedEvent {
  id: string;
  event: string;
  data: { agentId: string | null; time: string; failoverId?: string; [field: string]: unknown };
}

type Connection =
  | { state: "connecting" }
  /** Open; when anything was last heard. */
  | { state: "open" }
  /** Lost, and tried again at that time (milliseconds). */
  | { state: "waiting"; since: number; retryAt: number };

/** How the stream of events is. */
export const connection = signal<Connection>({ state: "connecting" });

/** When the service last said anything at all, by stream or answer (milliseconds); 0: never. For display, so not more often than each second. */
export const heardAt = signal(0);

function heard(): void {
  const t = Date.now();
  if (t - heardAt.peek() > 900) heardAt.value = t;
}

type Listener = (events: LoggedEvent[]) => void;
const listeners = new Set<Listener>();

/** Calls back with events as they come, some at a time; null for "anything may have happened". For pages that show events themselves. */
export function useEvents(listener: Listener): void {
  const latest = useRef(listener);
  latest.current = listener;
  useEffect(() => {
    const call: Listener = (events) => latest.current(events);
    listeners.add(call);
    return () => { listeners.delete(call); };
  }, []);
}

/** Asked by whoever changed something, and when events were missed: everything on the screen is read again. */
const refreshers = new Set<() => void>();
export function refreshAll(): void {
  for (const refresh of refreshers) refresh();
}

// --- the stream ---

/** A silence of this long is a dead connection; heartbeats come every 15 seconds. */
const silence = 40_000;

let batch: LoggedEvent[] = [];
let flushing = false;
function tell(event: LoggedEvent): void {
  batch.push(event);
  if (flushing) return;
  flushing = true;
  setTimeout(() => {
    flushing = false;
    const events = batch;
    batch = [];
    for (const listener of listeners) listener(events);
  }, 100);
}

/** Follows the events for as long as somebody is signed in. Call it once. */
export async function follow(): Promise<never> {
  const backoff = new Backoff(500, 15_000);
  let cursor = "";
  let since = 0;
  for (;;) {
    if (session.value.state !== "in") await changed();
    let retry = 0;
    const ended = new AbortController();
    let dog = setTimeout(() => ended.abort(), silence);
    try {
      if (!cursor) cursor = await head();
      let missed = connection.peek().state !== "open";
      await readStream(cursor, ended.signal, {
        opened() {
          since = 0;
          connection.value = { state: "open" };
          if (missed) refreshAll();
          missed = false;
        },
        heard() {
          heard();
          backoff.reset();
          clearTimeout(dog);
          dog = setTimeout(() => ended.abort(), silence);
        },
        retry(ms) { retry = ms; },
        event(frame) {
          if (frame.event === "reset") { // what was missed is not told one by one; a snapshot of each agent would follow
            cursor = "";
            refreshAll();
            ended.abort();
            return;
          }
          if (frame.id) cursor = frame.id;
          if (frame.event !== "draining") tell({ id: frame.id ?? "", event: frame.event, data: JSON.parse(frame.data) });
        },
      });
    } catch (e) {
      const status = e instanceof StreamRefused || e instanceof ApiError ? e.status : 0;
      if (status === 401 || status === 403) await askSession();
    } finally {
      clearTimeout(dog);
    }
    // A replica that drains closes in form: the next one is asked at once, and nothing has been missed.
    since ||= Date.now();
    const pause = backoff.next(retry);
    connection.value = { state: "waiting", since, retryAt: Date.now() + pause };
    await sleep(pause);
  }
}

/** The end of the log. A cursor that is none is answered with a reset and the present one; the snapshots of a new stream would be the whole floor. */
async function head(): Promise<string> {
  const list = await data(api.GET("/v1/events", { params: { query: { after: "now", limit: 1 } }, headers: { Accept: "application/json" } }));
  return (list as { nextCursor: string }).nextCursor; // JSON was asked for
}

const sleep = (ms: number) => new Promise<void>((resolve) => {
  const wake = () => {
    clearTimeout(timer);
    removeEventListener("online", wake);
    resolve();
  };
  const timer = setTimeout(wake, ms);
  addEventListener("online", wake);
});

const changed = () => new Promise<void>((resolve) => {
  const stop = session.subscribe((s) => {
    if (s.state === "in") queueMicrotask(() => { stop(); resolve(); });
  });
});

// --- what is on the screen ---

export interface Live<T> {
  data: T | undefined;
  /** Why the last attempt failed; undefined when it did not. `data` is then still what was there before. */
  error: ApiError | undefined;
  /** When `data` was asked for (milliseconds). */
  loadedAt: number;
  loading: boolean;
  refresh(): void;
}

export interface LiveOptions {
  /** Not more often than this, in milliseconds, whatever happens. Default 2000. */
  every?: number;
  /** Also without events, for what they do not tell, such as the health of Regions. Default 15 s. */
  poll?: number;
  /** Which events matter; default: all. */
  matters?(event: LoggedEvent): boolean;
}

/** When each thing on the screen was last loaded, for the line that says how old the page is. */
export const loaded = signal<ReadonlyMap<object, { at: number; due: number }>>(new Map());

/** Loads, and loads again when events say that it may have changed. `key` says what is loaded: another key starts anew. */
export function useLive<T>(key: string, load: (signal: AbortSignal) => Promise<T>, options: LiveOptions = {}): Live<T> {
  const { every = 2000, poll = 15_000 } = options;
  const [state, setState] = useState<{ key: string } & Omit<Live<T>, "refresh">>({ key, data: undefined, error: undefined, loadedAt: 0, loading: true });
  const latest = useRef({ load, options });
  latest.current = { load, options };
  const gate = useRef<Gate>(undefined);

  useEffect(() => {
    const ended = new AbortController();
    const token = {};
    const note = (at: number) => { loaded.value = new Map(loaded.peek()).set(token, { at, due: poll + 2 * every }); };
    const g = new Gate(every, async () => {
      const asked = Date.now();
      setState((s) => ({ ...s, loading: true }));
      try {
        const data = await latest.current.load(ended.signal);
        if (ended.signal.aborted) return;
        heard();
        note(asked);
        setState({ key, data, error: undefined, loadedAt: asked, loading: false });
      } catch (e) {
        if (ended.signal.aborted) return;
        if (!(e instanceof ApiError)) throw e;
        if (e.status === 401) void askSession();
        if (e.problem) heard();
        setState((s) => ({ ...s, error: e, loading: false }));
        return e.retryAfter ?? undefined;
      }
      return undefined;
    });
    gate.current = g;
    setState({ key, data: undefined, error: undefined, loadedAt: 0, loading: true });
    note(Date.now());
    g.ring(true);
    const beat = setInterval(() => { if (!document.hidden) g.ring(); }, poll);
    const shown = () => { if (!document.hidden) g.ring(); };
    document.addEventListener("visibilitychange", shown);
    const listener: Listener = (events) => {
      const { matters } = latest.current.options;
      if (!document.hidden && (!matters || events.some(matters))) g.ring();
    };
    listeners.add(listener);
    const refresh = () => g.ring(true);
    refreshers.add(refresh);
    return () => {
      ended.abort();
      g.close();
      clearInterval(beat);
      document.removeEventListener("visibilitychange", shown);
      listeners.delete(listener);
      refreshers.delete(refresh);
      const rest = new Map(loaded.peek());
      rest.delete(token);
      loaded.value = rest;
    };
  }, [key, every, poll]);

  const refresh = useCallback(() => gate.current?.ring(true), []);
  // Until the effect has run, what is there belongs to another key.
  const { key: of, ...rest } = state;
  return of === key ? { ...rest, refresh } : { data: undefined, error: undefined, loadedAt: 0, loading: true, refresh };
}
