/**
 * The client of Changeover for agent desktops: it follows the failovers of one Amazon Connect agent, with the names and payloads of
 * `connect.globalResiliency`.
 *
 * @module
 */
export { createFailoverClient, type AgentLog, type FailoverClient, type Off } from "./client.js";
export { ChangeoverError, type ErrorCode } from "./errors.js";
export type { CredentialRequest, FailoverClientOptions } from "./options.js";
export type {
  AgentState, AgentStatus, Callbacks, ConfigureError, ConfigureErrorCleared, ConfigureErrorCode, ConnectionReason, ConnectionState,
  ConnectionStateName, Evidence, Failover, FailoverCancelled, FailoverCompleted, FailoverDetected, FailoverPending, FailoverPendingUpdated,
  FailoverPaused, FailoverResumed, FailoverStalled, Problem, Report,
} from "./types.js";
export type { components, operations, paths } from "./openapi.js";
