import type { components } from "./openapi.js";

type Schemas = components["schemas"];

export type AgentState = Schemas["AgentState"];
export type Agent = Schemas["Agent"];
export type ConfigureErrorCode = Schemas["ConfigureErrorCode"];
export type Evidence = Schemas["Evidence"];
/** A failover as the service's REST API shows it. */
export type Failover = Schemas["Failover"];
/** An error of the service (RFC 9457). */
export type Problem = Schemas["Problem"];
/** What a desktop sees and the service cannot. */
export type Report = Schemas["Report"];

export type FailoverDetected = Schemas["FailoverDetectedData"];
export type FailoverPending = Schemas["FailoverPendingData"];
export type FailoverPendingUpdated = Schemas["FailoverPendingUpdatedData"];
/**
 * The agent works in `activeRegion` now.
 *
 * When the completion itself was missed (the page was away for longer than the service keeps events, or another stack took over)
 * it is known from where things stand: `failoverId`, `forced` and `evidence` are then null.
 */
export type FailoverCompleted = Omit<Schemas["FailoverCompletedData"], "failoverId" | "forced" | "evidence"> & {
  failoverId: string | null;
  forced: boolean | null;
  evidence: Evidence | null;
};
export type FailoverCancelled = Schemas["FailoverCancelledData"];
export type FailoverStalled = Schemas["FailoverStalledData"];
export type FailoverPaused = Schemas["FailoverPausedData"];
export type FailoverResumed = Schemas["FailoverResumedData"];
export type ConfigureError = Schemas["ConfigureErrorData"];
export type ConfigureErrorCleared = Schemas["ConfigureErrorClearedData"];

/** Where the agent stands, as the service last said. */
export interface AgentStatus {
  readonly agentId: string;
  /** Where the agent works; null until the service knows. */
  readonly activeRegion: string | null;
  /** The Contact Control Panel to show. */
  readonly activeCcpUrl: string | null;
  readonly state: AgentState;
  /** Where an open failover goes; null if none is open. */
  readonly nextActiveRegion: string | null;
  /** The open failover; null if none is open. */
  readonly failoverId: string | null;
  /** The contacts that hold it. */
  readonly contactIds: readonly string[];
  /** Why, and until when, operators hold it; null if they do not. */
  readonly paused: Readonly<Schemas["ToldPause"]> | null;
  /** What is wrong with the set-up for this agent. */
  readonly configureErrors: readonly Schemas["ToldConfigureError"][];
}

/** What the callbacks get. */
export interface Callbacks {
  failoverDetected: FailoverDetected;
  failoverPending: FailoverPending;
  failoverPendingUpdated: FailoverPendingUpdated;
  failoverCompleted: FailoverCompleted;
  failoverCancelled: FailoverCancelled;
  failoverStalled: FailoverStalled;
  failoverPaused: FailoverPaused;
  failoverResumed: FailoverResumed;
  configureError: ConfigureError;
  configureErrorCleared: ConfigureErrorCleared;
}

/** One callback that is due. */
export type Call = { [K in keyof Callbacks]: { name: K; data: Callbacks[K] } }[keyof Callbacks];

/** The data of all events of a stream have these. */
export interface EventData {
  agentId: string | null;
  time: string;
}

/** The data of `snapshot`. */
export type Snapshot = Schemas["SnapshotData"];

/**
 * - `connecting`: a request is under way
 * - `open`: the stream is open
 * - `waiting`: the next attempt is at `retryAt`
 * - `polling`: something between here and the service blocks streams, so events are asked for; streams are tried again now and then
 * - `closed`: `close()` was called
 */
export type ConnectionStateName = "connecting" | "open" | "waiting" | "polling" | "closed";

/**
 * Why the connection is in its state.
 *
 * - `started`, `connected`, `closed`: nothing is wrong
 * - `ended`: the server, or something in between, ended the stream
 * - `draining`: the server stops, or sends its clients elsewhere
 * - `overloaded`: the server has no room for this stream now
 * - `token-expiring`: the token is about to expire, and is renewed
 * - `silent`: nothing came for two heartbeats
 * - `woken`: the machine slept, or its network came back
 * - `blocked`: streams do not get through
 * - any {@link ErrorCode}: the last attempt failed, see `error`
 */
export type ConnectionReason =
  | "started" | "connected" | "closed" | "ended" | "draining" | "overloaded" | "token-expiring" | "silent" | "woken" | "blocked"
  | import("./errors.js").ErrorCode;

/** How the connection to the service is. */
export interface ConnectionState {
  readonly state: ConnectionStateName;
  /** Since when it is in this state. */
  readonly since: Date;
  readonly reason: ConnectionReason;
  /** The endpoint in use, or the one that is tried. */
  readonly endpoint: string | null;
  /** While waiting, when the next attempt is due. */
  readonly retryAt: Date | null;
  /** What went wrong last; null while open or polling. */
  readonly error: { readonly code: import("./errors.js").ErrorCode; readonly message: string; readonly status: number } | null;
}
