import { text } from "./body.js";
import type { Problem } from "./types.js";

/**
 * What went wrong, to branch on. The first nine are the service's own (the end of a problem's `type`; the service may add to them),
 * the others are found here.
 *
 * - `network`: no answer came: no connection, a broken one, or a page of another origin that `cors.allowedOrigins` does not name
 * - `timeout`: no answer came in time
 * - `silent`: the stream was silent for two heartbeats
 * - `protocol`: the answer is none of the service's, such as the page of a proxy or the event of another agent
 * - `token`: the function `token` or `ticket` failed; see `cause`
 * - `closed`: the client was closed
 */
export type ErrorCode =
  | "unauthenticated" | "forbidden" | "not-found" | "failover-not-open" | "invalid-request" | "rule-refused"
  | "too-many-requests" | "unavailable" | "internal"
  | "network" | "timeout" | "silent" | "protocol" | "token" | "closed"
  | (string & {});

/** Every error of this package. */
export class ChangeoverError extends Error {
  override readonly name = "ChangeoverError";
  readonly code: ErrorCode;
  /** The HTTP status; 0 if there was no answer. */
  readonly status: number;
  /** What the service said, if it did. */
  readonly problem: Problem | null;

  constructor(code: ErrorCode, message: string, more: { status?: number; problem?: Problem | null; cause?: unknown } = {}) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.code = code;
    this.status = more.status ?? 0;
    this.problem = more.problem ?? null;
  }

  /** Quote it when asking those who run the service for help. */
  get requestId(): string | null {
    return this.problem?.requestId ?? null;
  }
}

const prefix = "urn:changeover:problem:";

/** Codes of answers that hold no problem document, as a proxy gives them. */
const byStatus: Record<number, ErrorCode> = { 401: "unauthenticated", 403: "forbidden", 404: "not-found", 429: "too-many-requests" };

/** The error that an answer other than 2xx stands for. */
export async function errorOf(response: Response, signal: AbortSignal): Promise<ChangeoverError> {
  const { status } = response;
  let problem: Problem | null = null;
  if (response.headers.get("content-type")?.startsWith("application/problem+json")) {
    try {
      problem = JSON.parse(await text(response, signal)) as Problem;
    } catch {
      // cut off, or none: the status says enough
    }
  } else {
    await response.body?.cancel().catch(() => {});
  }
  const code = problem?.type?.startsWith(prefix)
    ? problem.type.slice(prefix.length)
    : byStatus[status] ?? (status >= 500 ? "unavailable" : "protocol");
  return new ChangeoverError(code, problem?.detail ?? `The answer was ${status} ${response.statusText}`.trim() + ".", { status, problem });
}

/** The error of a request that got no answer. */
export function noAnswer(cause: unknown, url: string): ChangeoverError {
  if (cause instanceof ChangeoverError) return cause;
  return new ChangeoverError("network", `${new URL(url).origin} could not be reached.`, { cause });
}
