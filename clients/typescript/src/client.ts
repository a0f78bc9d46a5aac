import { Auth } from "./auth.js";
import { text } from "./body.js";
import { Emitter } from "./emitter.js";
import { ChangeoverError, errorOf, noAnswer } from "./errors.js";
import { Ledger } from "./ledger.js";
import { direct, locked, worked, type Link, type LinkParts } from "./link.js";
import { settings, type FailoverClientOptions, type Settings } from "./options.js";
import type { Agent, AgentStatus, Call, Callbacks, ConnectionState, Failover, Report } from "./types.js";

/** Deregisters a callback. */
export type Off = () => void;

/** A Region's log of the agent. */
export interface AgentLog {
  region: string;
  /** `<region>-agent-log.txt`, or `<region>-<logName>.txt`. */
  name: string;
  text: string;
}

/** The client of one agent; {@link createFailoverClient} makes it. */
export interface FailoverClient {
  readonly agentId: string;
  /** The addresses of the service, best first. */
  readonly endpoints: readonly string[];
  /** The Region where the agent works; null until the service has told. As `connect.globalResiliency.getActiveRegion`. */
  getActiveRegion(): string | null;
  /** Where the agent stands: Region, Contact Control Panel, an open failover and what holds it. */
  getStatus(): AgentStatus;
  /** How the connection to the service is. */
  getConnectionState(): ConnectionState;

  /** The agent will work in another Region. Always the first of a failover. */
  onFailoverDetected(callback: (data: Callbacks["failoverDetected"]) => void): Off;
  /** Open voice or chat contacts hold the failover. */
  onFailoverPending(callback: (data: Callbacks["failoverPending"]) => void): Off;
  /** The contacts that hold the failover changed. */
  onFailoverPendingUpdated(callback: (data: Callbacks["failoverPendingUpdated"]) => void): Off;
  /** The agent works in another Region now. Never called for the Region that a page finds when it is opened. */
  onFailoverCompleted(callback: (data: Callbacks["failoverCompleted"]) => void): Off;
  /** The change was taken back; the agent stays. */
  onFailoverCancelled(callback: (data: Callbacks["failoverCancelled"]) => void): Off;
  /** Long after the completion the agent was seen elsewhere than in the new Region. */
  onFailoverStalled(callback: (data: Callbacks["failoverStalled"]) => void): Off;
  /** Operators hold the completions of the agent's failover group, until a time. The failover goes on afterwards. */
  onFailoverPaused(callback: (data: Callbacks["failoverPaused"]) => void): Off;
  /** They hold them no more. */
  onFailoverResumed(callback: (data: Callbacks["failoverResumed"]) => void): Off;
  /** The set-up is wrong for this agent. */
  onConfigureError(callback: (data: Callbacks["configureError"]) => void): Off;
  /** It was repaired. */
  onConfigureErrorCleared(callback: (data: Callbacks["configureErrorCleared"]) => void): Off;
  /** {@link getStatus} changed, also by the first answer of the service. Called before the callbacks of what changed it. */
  onStatus(callback: (status: AgentStatus) => void): Off;
  /** {@link getConnectionState} changed. */
  onConnectionState(callback: (state: ConnectionState) => void): Off;

  /**
   * Completes the open failover without waiting for its contacts, whose conversations may be lost.
   *
   * @throws ChangeoverError `failover-not-open` when there is none, and what else the service answers
   */
  forceFailover(request: { reason: string }): Promise<Failover>;
  /**
   * Gets the agent's log of each Region. In a page each is also saved as a file.
   *
   * @throws ChangeoverError
   */
  downloadLogs(options?: { logName?: string }): Promise<AgentLog[]>;
  /**
   * Tells the service what this desktop sees. The bridge to Streams does it by itself.
   *
   * @throws ChangeoverError
   */
  report(report: Report): Promise<void>;
  /** Ends the connection, and all callbacks after the last one (`closed`). */
  close(): void;
}

const requestTimeout = 10_000;
const requestsUntil = 20_000; // after that, a request that may be repeated is given up

/** Follows the failovers of one agent. It connects at once, and stays connected until {@link FailoverClient.close}. */
export function createFailoverClient(options: FailoverClientOptions): FailoverClient {
  return new Client(options);
}

class Client implements FailoverClient {
  readonly agentId: string;
  readonly endpoints: readonly string[];
  readonly #settings: Settings;
  readonly #options: FailoverClientOptions;
  readonly #auth: Auth;
  readonly #fetch: typeof fetch;
  readonly #ledger: Ledger;
  readonly #emitter = new Emitter<Callbacks & { status: AgentStatus; connectionState: ConnectionState }>();
  readonly #off: Off[] = [];
  #link: Link | undefined;
  #state: ConnectionState;
  #closed = false;

  constructor(options: FailoverClientOptions) {
    this.#settings = settings(options);
    this.#options = options;
    this.agentId = this.#settings.agentId;
    this.endpoints = this.#settings.endpoints;
    this.#auth = new Auth(options);
    this.#fetch = options.fetch ?? ((...a) => globalThis.fetch(...a));
    this.#ledger = new Ledger(this.agentId);
    this.#state = { state: "connecting", since: new Date(), reason: "started", endpoint: this.#settings.endpoints[0]!, retryAt: null, error: null };
    this.#watchPage();
    // Not before the callbacks of the page are registered.
    queueMicrotask(() => this.#connect());
  }

  getActiveRegion = () => this.#ledger.status.activeRegion;
  getStatus = () => this.#ledger.status;
  getConnectionState = () => this.#state;

  onFailoverDetected = (f: (d: Callbacks["failoverDetected"]) => void) => this.#emitter.on("failoverDetected", f);
  onFailoverPending = (f: (d: Callbacks["failoverPending"]) => void) => this.#emitter.on("failoverPending", f);
  onFailoverPendingUpdated = (f: (d: Callbacks["failoverPendingUpdated"]) => void) => this.#emitter.on("failoverPendingUpdated", f);
  onFailoverCompleted = (f: (d: Callbacks["failoverCompleted"]) => void) => this.#emitter.on("failoverCompleted", f);
  onFailoverCancelled = (f: (d: Callbacks["failoverCancelled"]) => void) => this.#emitter.on("failoverCancelled", f);
  onFailoverStalled = (f: (d: Callbacks["failoverStalled"]) => void) => this.#emitter.on("failoverStalled", f);
  onFailoverPaused = (f: (d: Callbacks["failoverPaused"]) => void) => this.#emitter.on("failoverPaused", f);
  onFailoverResumed = (f: (d: Callbacks["failoverResumed"]) => void) => this.#emitter.on("failoverResumed", f);
  onConfigureError = (f: (d: Callbacks["configureError"]) => void) => this.#emitter.on("configureError", f);
  onConfigureErrorCleared = (f: (d: Callbacks["configureErrorCleared"]) => void) => this.#emitter.on("configureErrorCleared", f);
  onStatus = (f: (s: AgentStatus) => void) => this.#emitter.on("status", f);
  onConnectionState = (f: (s: ConnectionState) => void) => this.#emitter.on("connectionState", f);

  async forceFailover({ reason }: { reason: string }): Promise<Failover> {
    const id = this.#ledger.status.failoverId;
    if (id === null) throw new ChangeoverError("failover-not-open", "No failover of this agent is open, so there is nothing to force.");
    return JSON.parse(await this.#request("POST", `/v1/failovers/${encodeURIComponent(id)}/force`, { reason })) as Failover;
  }

  async downloadLogs({ logName = "agent-log" }: { logName?: string } = {}): Promise<AgentLog[]> {
    const own = `/v1/agents/${encodeURIComponent(this.agentId)}`;
    const agent = JSON.parse(await this.#request("GET", own)) as Agent;
    const logs = await Promise.all(
      agent.regions.map(async (region) => ({
        region, name: `${region}-${logName}.txt`, text: await this.#request("GET", `${own}/logs/${region}`),
      })),
    );
    if (typeof document === "object") logs.forEach(save);
    return logs;
  }

  async report(report: Report): Promise<void> {
    await this.#request("POST", `/v1/agents/${encodeURIComponent(this.agentId)}/reports`, report);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#link?.close();
    for (const off of this.#off) off();
    this.#setState({ state: "closed", since: new Date(), reason: "closed", endpoint: null, retryAt: null, error: null });
  }

  #connect(): void {
    if (this.#closed || this.#link) return;
    const parts: LinkParts = {
      settings: this.#settings, auth: this.#auth, fetch: this.#fetch, ledger: this.#ledger,
      event: (e) => {
        if (this.#closed) return;
        const before = this.#ledger.status;
        this.#told(before, this.#ledger.accept(e));
      },
      state: (s) => this.#closed || s.state === "closed" || this.#setState(s),
      adopt: ({ status, cursor, state }) => {
        if (this.#closed) return;
        const before = this.#ledger.status;
        if (status) this.#told(before, this.#ledger.adopt(status, cursor));
        if (state) this.#setState(state);
      },
    };
    this.#link = this.#join(parts);
  }

  /** Shares a connection where tabs can. */
  #join(parts: LinkParts): Link {
    const { share = true, worker, token, ticket } = this.#options;
    if (!share || typeof document !== "object") return direct(parts);
    const others = () =>
      typeof navigator.locks === "object" && typeof BroadcastChannel === "function" ? locked(parts) : direct(parts);
    if (worker === undefined || typeof SharedWorker !== "function") return others();
    try {
      return worked(parts, worker, (what, request) => Promise.resolve(this.#options[what]!(request)), { token: !!token, ticket: !!ticket }, () => {
        if (!this.#closed) this.#link = others();
      });
    } catch {
      return others(); // the page's policy forbids it
    }
  }

  #told(before: AgentStatus, calls: Call[] | null): void {
    if (calls === null) return;
    if (this.#ledger.status !== before) this.#emitter.emit("status", this.#ledger.status);
    for (const call of calls) {
      if (!this.#closed) this.#emitter.emit(call.name, call.data as never);
    }
  }

  #setState(s: ConnectionState): void {
    this.#state = s;
    this.#emitter.emit("connectionState", s);
  }

  /** What a page lives through: its network, sleep, and a browser that puts it away and brings it back. */
  #watchPage(): void {
    if (typeof addEventListener !== "function" || typeof document !== "object") return;
    const listen = (target: EventTarget, name: string, f: (e: Event) => void) => {
      target.addEventListener(name, f);
      this.#off.push(() => target.removeEventListener(name, f));
    };
    listen(globalThis as unknown as EventTarget, "online", () => this.#link?.nudge());
    listen(document, "visibilitychange", () => {
      if (document.visibilityState === "visible" && this.#state.state === "waiting") this.#link?.nudge();
    });
    listen(globalThis as unknown as EventTarget, "pagehide", () => {
      this.#link?.close();
      this.#link = undefined;
    });
    listen(globalThis as unknown as EventTarget, "pageshow", (e) => {
      if ((e as PageTransitionEvent).persisted) this.#connect();
    });
  }

  /** A request that is repeated, also at the next endpoint, while its outcome is not known. */
  async #request(method: string, path: string, body?: unknown): Promise<string> {
    const { endpoints, credentials } = this.#settings;
    const first = Math.max(0, endpoints.indexOf(this.#link?.endpoint() ?? this.#state.endpoint ?? ""));
    const key = method === "GET" ? undefined : newKey();
    const until = performance.now() + requestsUntil;
    for (let attempt = 0; ; attempt++) {
      if (this.#closed) throw new ChangeoverError("closed", "This client was closed.");
      const url = endpoints[(first + attempt) % endpoints.length]! + path;
      let error: ChangeoverError;
      const signal = AbortSignal.timeout(requestTimeout);
      let wait = 250 * 2 ** Math.floor(attempt / endpoints.length);
      try {
        const { headers } = await this.#auth.proof(false);
        const response = await this.#fetch(url, {
          method, credentials, cache: "no-store", redirect: "error", signal,
          headers: { ...headers, ...(key && { "Idempotency-Key": key }), ...(body !== undefined && { "Content-Type": "application/json" }) },
          body: body === undefined ? null : JSON.stringify(body),
        });
        if (response.ok) {
          this.#auth.good();
          return await text(response, signal);
        }
        error = await errorOf(response, signal);
        if (error.status === 401 && this.#auth.expire()) {
          attempt--; // the same endpoint, with another token
          continue;
        }
        if (![429, 502, 503, 504].includes(error.status) && error.code !== "request-in-progress") throw error;
        wait = Math.max(wait, 1000 * Number(response.headers.get("retry-after") ?? 0) || 0);
      } catch (cause) {
        if (cause instanceof ChangeoverError) throw cause;
        error = (cause as Error)?.name === "TimeoutError"
          ? new ChangeoverError("timeout", `${new URL(url).origin} did not answer in time.`, { cause })
          : noAnswer(cause, url);
      }
      if (performance.now() + wait > until) throw error;
      await new Promise((resolve) => setTimeout(resolve, wait * (0.5 + Math.random() / 2)));
    }
  }
}

/** A key that makes a repeated mutation happen once. `crypto.randomUUID` is missing in pages that are not secure. */
function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

function save({ name, text }: AgentLog): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
