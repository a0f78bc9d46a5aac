import type { Auth } from "./auth.js";
import { Connection } from "./connection.js";
import type { Ledger, LoggedEvent } from "./ledger.js";
import type { CredentialRequest, Settings } from "./options.js";
import type { AgentStatus, ConnectionState } from "./types.js";

/** What a client needs of its connection, whoever holds it. */
export interface Link {
  close(): void;
  nudge(): void;
  /** The endpoint that works, if it is known here. */
  endpoint(): string | undefined;
}

/** What a link is made of. */
export interface LinkParts {
  settings: Settings;
  auth: Auth;
  fetch: typeof fetch;
  ledger: Ledger;
  event(e: LoggedEvent): void;
  state(s: ConnectionState): void;
  /** What another tab knows. */
  adopt(w: Welcome): void;
}

/** What the holder of the connection tells a tab that joins. */
export interface Welcome {
  status: AgentStatus | null;
  cursor: string | undefined;
  state: ConnectionState | null;
}

/** From the holder to the other tabs. */
export type Down =
  | { kind: "event"; event: LoggedEvent }
  | { kind: "state"; state: ConnectionState }
  | { kind: "welcome"; welcome: Welcome }
  | { kind: "proof"; id: number; request: CredentialRequest; what: "token" | "ticket" };

/** From a tab to the holder. */
export type Up =
  | { kind: "hello"; settings: Settings; has: { token: boolean; ticket: boolean } }
  | { kind: "nudge" }
  | { kind: "bye" }
  | { kind: "proof"; id: number; value?: string };

/** The tabs of an origin share a connection if they would ask the same service the same. */
export const keyOf = (s: Settings) => `changeover:${s.agentId}:${s.endpoints.join()}:${s.credentials}`;

/** A connection of one's own. */
export function direct(p: LinkParts): Link {
  const c = new Connection(p.settings, p.auth, { cursor: () => p.ledger.cursor, event: p.event, state: p.state }, p.fetch);
  return { close: () => c.close(), nudge: () => c.nudge(), endpoint: () => c.endpoint };
}

/**
 * One connection among all tabs of the origin: whoever has the lock holds it and tells the others. A tab that closes, or
 * crashes, loses the lock, and the next one goes on from its own cursor: what was told meanwhile is dropped by its id.
 */
export function locked(p: LinkParts): Link {
  const key = keyOf(p.settings);
  const channel = new BroadcastChannel(key);
  const waiting = new AbortController();
  let release: (() => void) | undefined;
  let holding: Link | undefined;
  let last: ConnectionState | null = null;
  let joined = false;
  let closed = false;
  const tell = (m: Down) => closed || channel.postMessage(m);
  const welcome = () => tell({ kind: "welcome", welcome: { status: p.ledger.known ? p.ledger.status : null, cursor: p.ledger.cursor, state: last } });

  channel.onmessage = ({ data: m }: MessageEvent<Down | Up>) => {
    if (holding) {
      if (m.kind === "hello") welcome();
      else if (m.kind === "nudge") holding.nudge();
    } else if (m.kind === "welcome") {
      if (joined) return;
      joined = m.welcome.status !== null;
      p.adopt(m.welcome);
    } else if (m.kind === "event") {
      // Before the welcome only a snapshot says where the agent stands; the welcome holds everything else that came before it.
      joined ||= m.event.event === "snapshot";
      if (joined) p.event(m.event);
    } else if (m.kind === "state" && m.state.state !== "closed") {
      p.state(m.state); // the holder's end is not this tab's
    }
  };

  navigator.locks
    .request(key, { signal: waiting.signal }, () => new Promise<void>((resolve) => {
      release = resolve;
      if (waiting.signal.aborted) return resolve();
      welcome(); // for those who asked the one before
      holding = direct({
        ...p,
        event: (event) => { tell({ kind: "event", event }); p.event(event); },
        state: (state) => { last = state; tell({ kind: "state", state }); p.state(state); },
      });
    }))
    .catch(() => {}); // closed while waiting
  channel.postMessage({ kind: "hello" });

  return {
    close() {
      closed = true;
      waiting.abort();
      holding?.close();
      release?.();
      setTimeout(() => channel.close()); // after what was told last
    },
    nudge: () => (holding ? holding.nudge() : channel.postMessage({ kind: "nudge" })),
    endpoint: () => holding?.endpoint(),
  };
}

/** One connection in a SharedWorker. fail is called if there is none to be had. */
export function worked(p: LinkParts, url: string | URL, credential: (what: "token" | "ticket", r: CredentialRequest) => Promise<string>,
  has: { token: boolean; ticket: boolean }, fail: () => void): Link {
  let heard = false;
  let joined = false;
  const worker = new SharedWorker(url, { name: keyOf(p.settings) });
  const { port } = worker;
  const up = (m: Up) => port.postMessage(m);
  const giveUp = () => {
    if (heard) return;
    heard = true;
    clearTimeout(timer);
    port.onmessage = null;
    up({ kind: "bye" }); // if it only was late
    setTimeout(() => port.close());
    fail();
  };
  const timer = setTimeout(giveUp, 3_000);
  worker.onerror = giveUp;
  port.onmessage = ({ data: m }: MessageEvent<Down>) => {
    heard = true;
    clearTimeout(timer);
    if (m.kind === "welcome") {
      if (!joined) p.adopt(m.welcome);
      joined ||= m.welcome.status !== null;
    } else if (m.kind === "event") {
      joined ||= m.event.event === "snapshot";
      if (joined) p.event(m.event);
    } else if (m.kind === "state") {
      p.state(m.state);
    } else {
      credential(m.what, m.request).then((value) => up({ kind: "proof", id: m.id, value }), () => up({ kind: "proof", id: m.id }));
    }
  };
  up({ kind: "hello", settings: p.settings, has });
  return {
    close() {
      heard = true;
      clearTimeout(timer);
      up({ kind: "bye" });
      setTimeout(() => port.close());
    },
    nudge: () => up({ kind: "nudge" }),
    endpoint: () => undefined,
  };
}
