/**
 * The bridge between Changeover and amazon-connect-streams: what the Contact Control Panel knows goes to the service, what is forced at the
 * service goes to the panel.
 *
 * @module
 */
import type { FailoverClient, Off } from "./client.js";
import { Emitter } from "./emitter.js";
import type { ChangeoverError } from "./errors.js";
import type { ConfigureErrorCode, FailoverCompleted, Report } from "./types.js";

interface Subscription {
  /** Amazon's types say no more of it. */
  unsubscribe: Function;
}

/** A contact, as far as the bridge reads it. */
interface StreamsContact {
  getContactId(): string;
  getType(): string;
  getStatus(): { type: string };
  getAgentConnection?(): { isOnHold?(): boolean } | null | undefined;
}

/** The part of amazon-connect-streams that the bridge uses: pass its global `connect`. */
export interface StreamsApi {
  globalResiliency?: {
    getActiveRegion(): string | null | undefined;
    onFailoverDetected(f: (data: { nextActiveRegion: string }) => void): Subscription;
    onFailoverPending(f: (data: { nextActiveRegion: string }) => void): Subscription;
    onFailoverCompleted(f: (data: { activeRegion: string; activeCcpUrl: string }) => void): Subscription;
    onConfigureError(f: (error: Error) => void): Subscription;
  };
  agent(f: (agent: { onRefresh(f: () => void): Subscription }) => void): Subscription;
  Agent: new () => unknown;
  core: object;
}

/** What Streams has and its types do not declare. */
interface Undeclared {
  globalResiliency?: { globalResiliencyEnabled?: boolean; forceFailover?(): void };
  GlobalResiliencyEvents?: { GLOBAL_SIGNIN_INVALID?: string; GLOBAL_SIGNIN_VALID?: string };
  core: {
    getEventBus?(): object | null;
    upstream?: {
      getInactiveConduit?(): { region?: string | null; portStreamId?: unknown } | undefined;
      getAllConduits?(): { onUpstream(event: string, f: (data: unknown) => void): Subscription }[];
    } | null;
  };
}

/** Service and Contact Control Panel show different Regions, for longer than the panel may take. */
export interface Disagreement {
  /** Where the service says that the agent works. */
  serverRegion: string;
  /** Where the Contact Control Panel works. */
  ccpRegion: string;
  /** Since when they differ. */
  since: Date;
}

/** The bridge that {@link bridgeStreams} made. */
export interface StreamsBridge {
  /**
   * The agent works in another Region, and its Contact Control Panel has moved there: the later of the service's word and the panel's. Without
   * `enableGlobalResiliency` it is the service's alone, because nobody else moves the panel then.
   */
  onFailoverCompleted(callback: (data: FailoverCompleted) => void): Off;
  /** Called when service and panel have disagreed for six minutes, and with null when they agree again. */
  onDisagreement(callback: (d: Disagreement | null) => void): Off;
  /** A report was not taken, and why. The next one follows by itself. Only the tab that reports is told. */
  onReportError(callback: (error: ChangeoverError) => void): Off;
  /** What would be reported now. */
  getReport(): Report;
  /** Ends the bridge. The client and Streams go on. */
  close(): void;
}

export interface BridgeOptions {
  /** The time, for tests. */
  clock?: {
    now(): number;
    setTimeout(f: () => void, ms: number): unknown;
    clearTimeout(timer: never): void;
  };
}

const patience = 6 * 60_000; // a panel may take five minutes
const standbyPatience = 30_000; // Streams itself looks after that time whether both panels answered
const every = 45_000; // a report is good for two minutes; hidden pages have timers once a minute
const attachEvery = 250;
const burst = 100;
const hidden = () => typeof document === "object" && document.visibilityState === "hidden";

/**
 * Connects Streams with a client. Call it before or after `connect.core.initCCP`, with `enableGlobalResiliency` or without; it never
 * reloads the page.
 *
 * With it, the service completes a failover when the panel has moved; {@link StreamsBridge.onFailoverCompleted} never runs before.
 */
export function bridgeStreams(connect: StreamsApi, failover: FailoverClient, options: BridgeOptions = {}): StreamsBridge {
  const api = connect as StreamsApi & Undeclared;
  const clock = options.clock ?? { now: () => Date.now(), setTimeout: (f: () => void, ms: number) => setTimeout(f, ms), clearTimeout: (t: never) => clearTimeout(t) };
  const emitter = new Emitter<{ completed: FailoverCompleted; disagreement: Disagreement | null; error: ChangeoverError }>();
  const off: Off[] = [];
  const timers = new Map<string, unknown>();
  let closed = false;
  let attachedAt: number | undefined;
  let next: string | null | undefined; // what Streams said last; undefined: nothing yet
  let configureError: Report["configureError"] | undefined; // in the parameters of initCCP: nothing ends it
  const signIns = new Map<object, NonNullable<Report["configureError"]>>(); // what is wrong with them, by panel
  // Where tabs cannot agree on one, each reports.
  let speaks = typeof document !== "object" || typeof navigator.locks !== "object";
  let silence: (() => void) | undefined; // ends speaking, or waiting for it
  let sent = "";
  let sending = false;
  let due: { always: boolean } | undefined; // meanwhile another one was asked for
  let held: FailoverCompleted | undefined; // told by the service, and not by the panel yet
  let apart: { since: number; told: boolean } | undefined;

  /** One timer a name; a new one replaces it. */
  const later = (name: string, ms: number, f: () => void) => {
    clock.clearTimeout(timers.get(name) as never);
    timers.set(name, clock.setTimeout(() => closed || f(), ms));
  };
  const keep = (s: Subscription | undefined) => void (s && off.push(() => (s.unsubscribe as Off)()));

  const resilient = () => api.globalResiliency?.globalResiliencyEnabled === true;

  /** The Region of the agent data that Streams holds: that of the agent's own ARN, which each Region has another of. */
  const dataRegion = (): string | null => {
    try {
      const { agentARN } = (new api.Agent() as { getConfiguration(): { agentARN?: string } }).getConfiguration();
      return agentARN?.split(":")[3] || null;
    } catch {
      return null; // no agent data yet
    }
  };

  /** Where the panel works. */
  const ccpRegion = (): string | null => (resilient() ? api.globalResiliency!.getActiveRegion() ?? null : dataRegion());

  const contacts = (): Report["contacts"] => {
    let all: StreamsContact[];
    try {
      all = (new api.Agent() as { getContacts(): StreamsContact[] }).getContacts();
    } catch {
      return undefined; // no agent data yet: that is not "none"
    }
    return all.slice(0, 100).map((c) => ({ contactId: c.getContactId(), channel: channelOf(c), state: stateOf(c) }))
      .sort((a, b) => (a.contactId < b.contactId ? -1 : 1));
  };

  /** Whether the panel that is hidden has answered. Streams keeps one conduit for each; a conduit learns its Region from the panel. */
  const standby = (active: string): Report["standby"] => {
    const conduit = api.core.upstream?.getInactiveConduit?.();
    const open = failover.getStatus().nextActiveRegion;
    const region = conduit?.region ?? (open !== active ? open : null);
    if (!conduit || !region || region === active) return undefined;
    if (conduit.portStreamId) return { region, ready: true };
    if (clock.now() - (attachedAt ?? clock.now()) < standbyPatience) return { region, ready: null };
    return { region, ready: false, reason: "The standby CCP has not answered since the page was opened." };
  };

  const report = (): Report => {
    const r: Report = {};
    const region = ccpRegion();
    const list = contacts();
    // Without Global Resiliency the panel does not move by itself: the service must not wait for it.
    if (resilient() && region) {
      r.activeRegion = region;
      if (next !== undefined) r.nextActiveRegion = next === region ? null : next;
      const other = standby(region);
      if (other) r.standby = other;
    }
    // Right after a switch Streams still holds the contacts of the Region that it left.
    const of = dataRegion() ?? region;
    if (list && of) {
      r.contacts = list;
      r.contactsRegion = of;
    }
    const error = configureError ?? [...signIns.values()][0];
    if (error) r.configureError = error;
    else if (resilient() && region) r.configureError = null;
    return r;
  };

  /** Sends what the panel shows, unless the service has it already. */
  const send = (always: boolean) => {
    if (closed || attachedAt === undefined) return;
    compare();
    if (sending) {
      due = { always: always || due?.always === true };
      return;
    }
    const r = report();
    const json = JSON.stringify(r);
    const state = failover.getConnectionState().state;
    if (json === "{}") return;
    if (!speaks) return speak();
    if ((!always && json === sent) || (state !== "open" && state !== "polling")) return;
    sending = true;
    sent = json;
    schedule();
    failover.report(r).catch((error: ChangeoverError) => {
      sent = "";
      schedule(true);
      if (!closed) emitter.emit("error", error);
    }).finally(() => {
      sending = false;
      const again = due;
      due = undefined;
      if (again) send(again.always);
    });
  };
  /**
   * The tabs of an origin show the same agent, so one that has something to report speaks for all, and another one when it is closed; a tab that
   * only listens has no part in it. What a panel without Global Resiliency says goes beside that of one with it.
   */
  const speak = () => {
    if (silence) return;
    const waiting = new AbortController();
    silence = () => waiting.abort();
    navigator.locks
      .request(`changeover:${failover.agentId}:${failover.endpoints.join()}:reports:${resilient()}`, { signal: waiting.signal }, () => new Promise<void>((resolve) => {
        silence = resolve;
        if (closed) return resolve();
        speaks = true;
        send(true);
      }))
      .catch(() => {}); // closed while waiting
  };
  /** While a stream is open the last report stands, and every one is work for the service. */
  const schedule = (failed = false) => {
    if (failed || apart || failover.getStatus().failoverId !== null || failover.getConnectionState().state === "polling") later("report", every * (0.8 + Math.random() / 5), () => send(true));
  };
  /** A page that is hidden has timers once a minute. */
  const changed = () => (hidden() ? send(false) : later("changed", burst, () => send(false)));

  /** Tells once when service and panel have disagreed for too long, and when that is over. */
  const compare = () => {
    const serverRegion = failover.getActiveRegion();
    const region = ccpRegion();
    if (serverRegion === null || region === null || serverRegion === region) {
      if (apart?.told) emitter.emit("disagreement", null);
      apart = undefined;
      if (held?.activeRegion === region) {
        const data = held;
        held = undefined;
        emitter.emit("completed", data);
      }
      return;
    }
    apart ??= { since: clock.now(), told: false };
    const left = apart.since + patience - clock.now();
    if (left > 0) later("compare", left, compare);
    else if (!apart.told) {
      apart.told = true;
      emitter.emit("disagreement", { serverRegion, ccpRegion: region, since: new Date(apart.since) });
    }
  };

  /** A failover that was forced at the service is forced in the panel too, unless it moved or things moved on meanwhile. */
  const forward = (activeRegion: string) => later("force", burst, () => {
    const region = ccpRegion();
    if (resilient() && region && region !== activeRegion && failover.getActiveRegion() === activeRegion) api.globalResiliency?.forceFailover?.();
  });

  /** Streams has no event bus before initCCP. */
  const attach = () => {
    const bus = api.core.getEventBus?.();
    if (!bus) return later("attach", attachEvery, attach);
    attachedAt = clock.now();
    const gr = api.globalResiliency;
    const coming = ({ nextActiveRegion }: { nextActiveRegion: string }) => { next = nextActiveRegion; send(false); };
    keep(gr?.onFailoverDetected(coming));
    keep(gr?.onFailoverPending(coming));
    keep(gr?.onFailoverCompleted(() => { next = null; send(false); }));
    keep(gr?.onConfigureError((e) => failed(e)));
    // Each panel has a sign-in of its own, and the event bus does not say whose it is.
    const { GLOBAL_SIGNIN_INVALID: invalid, GLOBAL_SIGNIN_VALID: valid } = api.GlobalResiliencyEvents ?? {};
    for (const panel of (invalid && valid && api.core.upstream?.getAllConduits?.()) || []) {
      keep(panel.onUpstream(invalid!, (e) => {
        const error = configureErrorOf(e);
        if (error) signIns.set(panel, error);
        changed();
      }));
      keep(panel.onUpstream(valid!, () => { if (signIns.delete(panel)) changed(); }));
    }
    keep(api.agent((agent) => { keep(agent.onRefresh(changed)); changed(); }));
    later("standby", standbyPatience, changed);
    changed();
  };
  const failed = (error: unknown) => {
    configureError = configureErrorOf(error) ?? configureError;
    changed();
  };

  let connected = false;
  const onState = () => {
    const { state } = failover.getConnectionState();
    const was = connected;
    connected = state === "open" || state === "polling";
    // On connecting, so that a stack that knows nothing of a forced failover learns of it.
    if (connected && !was) send(true);
    if (state === "closed") close();
  };
  const close = () => {
    closed = true;
    silence?.();
    for (const f of off) f();
    for (const timer of timers.values()) clock.clearTimeout(timer as never);
  };
  off.push(
    failover.onConnectionState(onState),
    failover.onStatus(() => send(false)),
    // At once: the service completes as soon as it knows that no contact is open, unless it hears from the panel.
    failover.onFailoverDetected(() => send(true)),
    failover.onFailoverCompleted((data) => {
      if (data.forced) forward(data.activeRegion);
      held = resilient() ? data : undefined;
      if (!held) emitter.emit("completed", data);
      compare();
    }),
  );
  attach();
  onState();
  return {
    onFailoverCompleted: (f) => emitter.on("completed", f),
    onDisagreement: (f) => emitter.on("disagreement", f),
    onReportError: (f) => emitter.on("error", f),
    getReport: report,
    close,
  };
}

function channelOf(c: StreamsContact): string {
  const type = c.getType().toUpperCase();
  return type === "QUEUE_CALLBACK" ? "VOICE" : type; // a callback is a call
}

/** Streams' state in the words of Amazon's AgentContactState. */
function stateOf(c: StreamsContact): string {
  const type = c.getStatus().type.toUpperCase();
  if (type === "INIT") return "INCOMING";
  try {
    if (type === "CONNECTED" && c.getAgentConnection?.()?.isOnHold?.()) return "CONNECTED_ONHOLD";
  } catch {
    // a contact without a connection of the agent
  }
  return type;
}

/** Streams gives an Error for what is wrong with the parameters of initCCP, and a type for what is wrong with the sign-in. */
function configureErrorOf(error: unknown): NonNullable<Report["configureError"]> | undefined {
  const e = (error ?? {}) as { message?: unknown; error?: unknown; errorType?: unknown };
  const message = String(e.message ?? e.error ?? "").replace(/[\x00-\x1F\x7F]+/g, " ").slice(0, 500);
  const type = String(e.errorType ?? "").toUpperCase();
  let code: ConfigureErrorCode | undefined;
  if (type === "LILY_AGENT_CONFIG_MISSING" || type === "LILY_AGENT_CONFIG_PARSE_ERROR") code = type;
  else if (/secondaryCCPUrl/.test(message)) code = "SECONDARY_CCP_URL_MISSING";
  else if (/loginUrl/.test(message)) code = "LOGIN_URL_MISSING";
  return code && { code, message };
}
