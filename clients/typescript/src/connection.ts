import type { Auth, Proof } from "./auth.js";
import { pieces, text } from "./body.js";
import { ChangeoverError, errorOf, noAnswer } from "./errors.js";
import type { LoggedEvent } from "./ledger.js";
import type { Settings } from "./options.js";
import { FrameParser } from "./sse.js";
import type { ConnectionReason, ConnectionState, ConnectionStateName } from "./types.js";

/** To whom a connection tells what it hears. */
export interface Listener {
  /** Where to resume; undefined: from a snapshot. */
  cursor(): string | undefined;
  event(e: LoggedEvent): void;
  state(s: ConnectionState): void;
}

/** How long things take, in milliseconds. The package's own tests shorten it; no one else can. */
export const timing = {
  /** The service's first frame comes at once. */
  firstByte: 10_000,
  /** Proxies give up on silent answers after half a minute. */
  poll: 20_000,
  /** The first poll only has to show that it gets through. */
  probe: 1_000,
  /** Attempts that fail wait twice as long each time: from, to, and to where another attempt would be refused as well. */
  backOff: 1_000,
  backOffMost: 30_000,
  backOffRefused: 60_000,
  /** After that all clients of a dead endpoint have gone to the next one, or come back with their network. */
  spread: 500,
  /** A refusal is closed at once; what lasts longer is an open stream. */
  settle: 250,
  /** What comes later than that after the first byte is not of the beginning of a stream any more. */
  beyond: 1_000,
  /** A stream that lived so long was no failure. */
  lasting: 5_000,
  /** Browsers let timers of hidden tabs run once a minute: only a longer gap is sleep. */
  slept: 90_000,
  /** Between attempts to stream while polling: from, to. */
  trial: 60_000,
  trialMost: 900_000,
};

/** One address of the service. */
interface Endpoint {
  url: string;
  /** Not to be tried before; on the monotonic clock. */
  notBefore: number;
  failures: number;
  /** What its last `retry:` said. */
  retry: number;
  /** Streams that fell silent right after their beginning, one after the other. */
  silences: number;
  /** Streams do not get through: it is polled. */
  blocked: boolean;
  /** A poll got through. */
  polled: boolean;
}

/** How an attempt ended. */
interface Outcome {
  reason: ConnectionReason;
  error?: ChangeoverError;
  /** Milliseconds; of Retry-After. */
  retryAfter?: number;
  /** The stream was open and lasted. */
  lasted?: boolean;
  /** Try again at once. */
  now?: boolean;
}

const monotonic = () => performance.now();

/** A random share, half to all, of a time: what breaks for many at once must not come back at once. */
const jitter = (ms: number) => ms * (0.5 + Math.random() / 2);

/**
 * Keeps one connection to the service until it is closed: a stream where streams get through, else long polls; at the next endpoint when one fails. It
 * tells everything it hears, repetitions included, and never gives up.
 */
export class Connection {
  readonly #settings: Settings;
  readonly #auth: Auth;
  readonly #to: Listener;
  readonly #fetch: typeof fetch;
  readonly #endpoints: Endpoint[];
  readonly #closing = new AbortController();
  #at = 0;
  #notBefore = 0; // for all endpoints
  #state: ConnectionState | undefined;
  #wake: (() => void) | undefined;
  #attempt: AbortController | undefined;
  #trialAfter = timing.trial;
  #nudged = -Infinity;
  #asked = false; // the present wait is what a server asked for

  constructor(settings: Settings, auth: Auth, to: Listener, fetcher: typeof fetch) {
    this.#settings = settings;
    this.#auth = auth;
    this.#to = to;
    this.#fetch = fetcher;
    this.#endpoints = settings.endpoints.map((url) => ({ url, notBefore: 0, failures: 0, retry: 0, silences: 0, blocked: false, polled: false }));
    void this.#run();
  }

  close(): void {
    this.#closing.abort();
    this.#wake?.();
  }

  /**
   * The network came back, or the machine woke: what seems open may be dead, and what waits need not. Nothing is cut short that a
   * server asked for.
   */
  nudge(): void {
    if (monotonic() - this.#nudged < timing.spread) return; // all tabs hear of the same network
    this.#nudged = monotonic();
    if (!this.#wake) {
      this.#attempt?.abort("woken" satisfies ConnectionReason);
    } else if (!this.#asked) {
      this.#notBefore = monotonic() + Math.random() * timing.spread; // a whole office comes back at once
      for (const e of this.#endpoints) e.notBefore = 0;
      this.#wake();
    }
  }

  /** Where a request of its own goes first. */
  get endpoint(): string {
    return this.#endpoints[this.#at]!.url;
  }

  get #closed(): boolean {
    return this.#closing.signal.aborted;
  }

  async #run(): Promise<void> {
    let last: Outcome = { reason: "started" };
    while (!this.#closed) {
      const endpoint = await this.#next(last);
      if (this.#closed) break;
      if (this.#state?.state !== "polling") this.#tell("connecting", last.reason, last.error);
      last = await (endpoint.blocked ? this.#poll(endpoint) : this.#stream(endpoint));
      this.#judge(endpoint, last);
    }
    this.#tell("closed", "closed");
  }

  /** Waits for the endpoint that may be tried first. */
  async #next(last: Outcome): Promise<Endpoint> {
    for (;;) {
      const now = monotonic();
      const due = (i: number) => Math.max(this.#endpoints[i]!.notBefore, this.#notBefore, now);
      let best = this.#at;
      for (let i = 1; i < this.#endpoints.length; i++) {
        const other = (this.#at + i) % this.#endpoints.length;
        if (due(other) < due(best)) best = other;
      }
      const left = due(best) - now;
      if (left <= 0 || this.#closed) {
        this.#at = best;
        return this.#endpoints[best]!;
      }
      this.#tell("waiting", last.reason, last.error, left);
      await this.#sleep(Math.ceil(left) + 1); // timers may be a little early
    }
  }

  /** Waits, unless nudged or closed. */
  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#wake!(), ms);
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = undefined;
        resolve();
      };
    });
  }

  /** Decides when to try what next. */
  #judge(e: Endpoint, o: Outcome): void {
    const now = monotonic();
    this.#notBefore = 0;
    this.#asked = o.retryAfter !== undefined || (e.retry > 0 && o.error === undefined);
    if (o.lasted) e.failures = 0;
    if (o.now) return;
    if (o.reason === "blocked" || o.reason === "silent") {
      // Perhaps another endpoint streams; else this one is polled, or tried once more.
      if (this.#endpoints.length > 1) e.notBefore = now + jitter(timing.backOff);
      return;
    }
    if (o.lasted || o.reason === "draining") {
      this.#notBefore = now + (e.retry || jitter(timing.backOff));
      return;
    }
    const most = o.error && [400, 401, 403, 404].includes(o.error.status) ? timing.backOffRefused : timing.backOffMost;
    const growing = Math.min(most, (e.retry || timing.backOff) * 2 ** e.failures);
    const wait = Math.max(jitter(growing), e.retry, o.retryAfter ?? 0);
    e.failures++;
    e.notBefore = now + wait;
    // All clients of a dead endpoint go to the next one: not in the same moment.
    this.#notBefore = now + Math.random() * timing.spread;
  }

  /** One stream, to its end. proven is called once it has carried more than its beginning. */
  async #stream(e: Endpoint, proven?: () => void, trialOf?: AbortSignal): Promise<Outcome> {
    const attempt = new AbortController();
    const abort = (reason: ConnectionReason) => attempt.abort(reason);
    const onClosing = () => abort("closed");
    this.#closing.signal.addEventListener("abort", onClosing, { once: true });
    trialOf?.addEventListener("abort", onClosing, { once: true });
    if (!trialOf) this.#attempt = attempt;

    let opened = 0; // when the first byte came
    let heard = monotonic();
    let wall = Date.now();
    let beyond = false; // something came after the beginning
    let ending: ConnectionReason | undefined;
    let late: ReturnType<typeof setTimeout> | undefined;
    let opening: ReturnType<typeof setTimeout> | undefined;
    const quiet = 2 * this.#settings.heartbeat;
    // Silence is measured on a clock that no one sets; it may stand still while the machine sleeps, which the other one shows.
    const watch = setInterval(() => {
      const jump = Date.now() - wall;
      wall += jump;
      if (jump > timing.slept) abort("woken");
      else if (opened && monotonic() - heard >= quiet) abort("silent");
    }, Math.min(5_000, this.#settings.heartbeat / 3));
    const open = () => {
      clearTimeout(opening);
      if (!proven) this.#tell("open", "connected");
    };

    e.retry = 0;
    const parser = new FrameParser({
      retry: (ms) => { e.retry = ms; },
      event: ({ event, id, data }) => {
        open();
        const logged = this.#read(id === undefined ? { event, data } : { id, event, data });
        if (event === "draining") ending = logged.data["reason"] === "token_expiring" ? "token-expiring" : "draining";
        this.#to.event(logged);
      },
    });
    try {
      const proof = await this.#proof();
      late = setTimeout(() => opened || abort("blocked"), timing.firstByte);
      wall = Date.now();
      const query = new URLSearchParams();
      const cursor = this.#to.cursor();
      if (cursor !== undefined) query.set("lastEventId", cursor);
      if (proof.ticket !== undefined) query.set("ticket", proof.ticket);
      const response = await this.#get(e, query, "text/event-stream", proof.headers, attempt.signal);
      if (!response.headers.get("content-type")?.startsWith("text/event-stream")) {
        await response.body?.cancel().catch(() => {});
        throw blocked(`${e.url} answered a stream with ${response.headers.get("content-type") ?? "no content type"}.`);
      }
      await pieces(response, attempt.signal, (bytes) => {
        heard = monotonic();
        if (opened === 0) {
          opened = heard;
          this.#auth.good();
          opening = setTimeout(open, timing.settle);
        } else if (!beyond && heard - opened > timing.beyond) {
          beyond = true;
          e.silences = 0;
          e.blocked = false;
          if (proven) {
            this.#attempt = attempt;
            proven();
          }
        }
        parser.push(bytes);
        return { stop: ending !== undefined };
      });
      return this.#ended(opened, ending ?? (opened && monotonic() - opened < timing.beyond && e.retry >= 10_000 ? "overloaded" : "ended"));
    } catch (cause) {
      const reason = attempt.signal.reason as ConnectionReason | undefined;
      if (this.#closed || reason === "closed") return { reason: "closed" };
      if (reason === "woken") return { reason, now: true };
      if (reason === "silent" || reason === "blocked") {
        const error = new ChangeoverError("silent", `${e.url} was silent.`);
        if (reason === "silent" && !beyond) e.silences++;
        e.blocked ||= reason === "blocked" || e.silences > 1;
        return { reason: e.blocked ? "blocked" : "silent", error };
      }
      const o = this.#failed(cause, e, opened);
      e.blocked ||= o.reason === "blocked";
      return o;
    } finally {
      attempt.abort();
      clearTimeout(late);
      clearTimeout(opening);
      clearInterval(watch);
      this.#closing.signal.removeEventListener("abort", onClosing);
      if (this.#attempt === attempt) this.#attempt = undefined;
    }
  }

  #ended(opened: number, reason: ConnectionReason): Outcome {
    const lasted = opened > 0 && monotonic() - opened >= timing.lasting;
    if (reason === "token-expiring") {
      // At once, unless the new token does not live long either.
      const now = this.#auth.expire() && lasted;
      return { reason, lasted, now };
    }
    return { reason, lasted };
  }

  /** Long polls until one fails, or until streams get through again. */
  async #poll(e: Endpoint): Promise<Outcome> {
    let streaming: Promise<Outcome> | undefined;
    let proven = false;
    let polling: AbortController | undefined;
    const trials = new AbortController();
    let trialAt = monotonic() + this.#trialAfter;
    try {
      for (;;) {
        if (proven) return await this.#adopt(streaming!);
        const attempt = new AbortController();
        this.#attempt = polling = attempt;
        const onClosing = () => attempt.abort("closed");
        this.#closing.signal.addEventListener("abort", onClosing, { once: true });
        const wait = e.polled ? timing.poll : timing.probe;
        let late: ReturnType<typeof setTimeout> | undefined;
        if (!streaming && monotonic() >= trialAt) {
          const onProven = () => {
            proven = true;
            polling?.abort();
            this.#wake?.();
          };
          streaming = this.#stream(e, onProven, trials.signal).then((o) => {
            if (!proven) {
              streaming = undefined;
              e.blocked = true;
              this.#trialAfter = Math.min(timing.trialMost, 2 * this.#trialAfter);
              trialAt = monotonic() + this.#trialAfter;
            }
            return o;
          });
        }
        try {
          const proof = await this.#proof();
          late = setTimeout(() => attempt.abort("silent"), wait + timing.firstByte / 2);
          // A cursor that is none is answered with a snapshot, as a stream without one begins.
          const query = new URLSearchParams({ after: this.#to.cursor() ?? "-", wait: `${wait}ms`, limit: "1000" });
          if (proof.ticket !== undefined) query.set("ticket", proof.ticket);
          const began = monotonic();
          const response = await this.#get(e, query, "application/json", proof.headers, attempt.signal);
          const page = pageOf(await text(response, attempt.signal));
          if (!page) throw new ChangeoverError("protocol", `${e.url} answered a poll with something else.`);
          this.#auth.good();
          e.polled = true;
          e.failures = 0;
          this.#tell("polling", "blocked");
          for (const item of page.items) this.#to.event(this.#checked(item));
          // A proxy that answers for the service must not be asked without end.
          if (page.items.length === 0 && monotonic() - began < timing.settle) await this.#sleep(jitter(timing.backOff));
          if (this.#closed) return { reason: "closed" };
        } catch (cause) {
          const reason = attempt.signal.reason as ConnectionReason | undefined;
          if (this.#closed) return { reason: "closed" };
          if (proven) continue;
          if (reason === "woken") continue;
          if (!e.polled) e.blocked = false; // it is not streams that do not get through
          if (reason === "silent") return { reason: "timeout", error: new ChangeoverError("timeout", `${e.url} did not answer in time.`) };
          return this.#failed(cause, e, 0);
        } finally {
          clearTimeout(late);
          this.#closing.signal.removeEventListener("abort", onClosing);
        }
      }
    } finally {
      if (!proven) trials.abort();
    }
  }

  /** Goes on with a stream that was tried while polling. */
  #adopt(streaming: Promise<Outcome>): Promise<Outcome> {
    this.#trialAfter = timing.trial;
    this.#tell("open", "connected");
    return streaming;
  }

  /** Waits for a token as long as its function takes (somebody may have to sign in), or until the client is closed. */
  async #proof(): Promise<Proof> {
    const { signal } = this.#closing;
    let onClosing: (() => void) | undefined;
    const closing = new Promise<never>((_, reject) => signal.addEventListener("abort", (onClosing = () => reject(signal.reason as Error))));
    try {
      return await Promise.race([this.#auth.proof(true), closing]);
    } finally {
      signal.removeEventListener("abort", onClosing!);
    }
  }

  async #get(e: Endpoint, query: URLSearchParams, accept: string, headers: Record<string, string>, signal: AbortSignal): Promise<Response> {
    const url = `${e.url}/v1/agents/${encodeURIComponent(this.#settings.agentId)}/events?${query}`;
    const response = await this.#fetch(url, {
      headers: { ...headers, Accept: accept }, credentials: this.#settings.credentials, cache: "no-store", redirect: "error", signal,
    });
    if (response.status === 406) throw blocked(`${e.url} refuses streams.`);
    if (response.status !== 200) {
      const error = await errorOf(response, signal);
      throw Object.assign(error, { retryAfter: retryAfter(response) });
    }
    return response;
  }

  #failed(cause: unknown, e: Endpoint, opened: number): Outcome {
    const error = noAnswer(cause, e.url) as ChangeoverError & { retryAfter?: number; blocked?: true };
    const o: Outcome = { reason: error.blocked ? "blocked" : error.code, error, lasted: opened > 0 && monotonic() - opened >= timing.lasting };
    if (error.retryAfter !== undefined) o.retryAfter = error.retryAfter;
    if (error.status === 401) o.now = this.#auth.expire();
    return o;
  }

  #read({ data, ...frame }: { id?: string; event: string; data: string }): LoggedEvent {
    let parsed: LoggedEvent["data"];
    try {
      parsed = JSON.parse(data) as LoggedEvent["data"];
    } catch (cause) {
      throw new ChangeoverError("protocol", `An event ${frame.event} holds no JSON.`, { cause });
    }
    return this.#checked({ ...frame, data: parsed });
  }

  /** Whatever caches or mixes up answers on the way: another agent's events are told to nobody. */
  #checked(e: LoggedEvent): LoggedEvent {
    if (e?.data?.agentId !== this.#settings.agentId) {
      throw new ChangeoverError("protocol", `An event ${String(e?.event)} is about another agent.`);
    }
    return e;
  }

  #tell(state: ConnectionStateName, reason: ConnectionReason, error?: ChangeoverError, wait?: number): void {
    const endpoint = state === "closed" ? null : this.endpoint;
    const is = this.#state;
    if (is?.state === state && is.reason === reason && is.endpoint === endpoint && wait === undefined) return;
    this.#state = {
      state, reason, endpoint,
      since: is?.state === state ? is.since : new Date(),
      retryAt: wait === undefined ? null : new Date(Date.now() + wait),
      error: error ? { code: error.code, message: error.message, status: error.status } : null,
    };
    this.#to.state(this.#state);
  }
}

/** The answer of a poll; undefined if it is none. */
function pageOf(body: string): { items: LoggedEvent[] } | undefined {
  try {
    const page = JSON.parse(body) as { items: LoggedEvent[] };
    return Array.isArray(page?.items) ? page : undefined;
  } catch {
    return undefined;
  }
}

function blocked(message: string): ChangeoverError {
  return Object.assign(new ChangeoverError("protocol", message), { blocked: true as const });
}

/** Retry-After in milliseconds: seconds, or a date. */
function retryAfter(response: Response): number | undefined {
  const value = response.headers.get("retry-after");
  if (value === null) return undefined;
  const ms = /^\d{1,6}$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return ms > 0 ? Math.min(ms, 3_600_000) : undefined;
}
