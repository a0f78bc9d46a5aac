// The REST API, typed by api/openapi.yaml. Everything that the console does is one of these calls.
import createClient, { type Middleware } from "openapi-fetch";
import type { components, paths } from "../../../clients/typescript/src/openapi";

export type Schemas = components["schemas"];
export type Agent = Schemas["Agent"];
export type Contact = Schemas["Contact"];
export type Failover = Schemas["Failover"];
export type FailoverGroup = Schemas["FailoverGroup"];
export type GroupSummary = Schemas["GroupSummary"];
export type Problem = Schemas["Problem"];

/** A call that was refused or failed. `problem` is null if no answer came, or none of the service's own. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly problem: Problem | null,
    /** Milliseconds to wait before trying again, if the service said so. */
    readonly retryAfter: number | null = null,
  ) {
    super(message);
    this.name = "ApiError";
  }

  /** The last part of the problem's type, such as `rule-refused`. */
  get kind(): string {
    return this.problem?.type.split(":").pop() ?? "";
  }

  /** The service is away, or its database: the frame says so for the whole page, and what is on it stays. */
  get away(): boolean {
    return this.status === 0 || this.status >= 500 || this.status === 429;
  }

  /** What is wrong, field by field, such as `reason: must not be empty`. */
  get fields(): string[] {
    return (this.problem?.errors ?? []).map((e) => (e.field ? `${e.field}: ${e.message}` : e.message));
  }
}

/** A call that is answered in no time is a call that failed: a stuck connection must not freeze the page. */
const patience = 20_000;

const failures: Middleware = {
  async onResponse({ response }) {
    if (response.ok) return undefined;
    const after = Number(response.headers.get("Retry-After"));
    const retryAfter = after > 0 ? after * 1000 : null;
    let problem: Problem | null = null;
    if (response.headers.get("Content-Type")?.startsWith("application/problem+json")) problem = await response.json().catch(() => null);
    throw new ApiError(problem?.detail ?? `The service, or something before it, answered ${response.status}.`, response.status, problem, retryAfter);
  },
  onError({ error }) {
    if (error instanceof ApiError) return error;
    if (error instanceof DOMException && error.name === "TimeoutError") return new ApiError(`The service did not answer within ${patience / 1000} seconds.`, 0, null);
    return new ApiError("The service cannot be reached.", 0, null);
  },
};

const client = createClient<paths>({
  baseUrl: globalThis.location?.origin ?? "http://localhost",
  credentials: "same-origin",
  cache: "no-store",
  // Looked up at each call, so that tests can put another in its place.
  fetch: (request) => globalThis.fetch(request, { signal: AbortSignal.any([request.signal, AbortSignal.timeout(patience)]) }),
});
client.use(failures);

/**
 * The calls, by method: `await data(api.GET("/v1/agents/{agentId}", { params: { path: { agentId } } }))`. Whatever is not a success throws
 * an {@link ApiError}.
 */
export const api = client;

/** The body of an answer. */
export async function data<T>(call: Promise<{ data?: T }>): Promise<NonNullable<T>> {
  return (await call).data as NonNullable<T>; // failures have thrown
}

/**
 * The header of a mutation. Make the key when the dialog opens and keep it for retries: the same key does nothing twice. With another body it is refused,
 * so make a new one when the input changes ({@link useAction} does).
 */
export function idempotency(key: string): { "Idempotency-Key": string } {
  return { "Idempotency-Key": key };
}

/** Unique enough. crypto.randomUUID is there on https and localhost alone. */
export function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

/** What to tell people of whatever was thrown. */
export function explain(error: unknown): string {
  if (!(error instanceof ApiError)) return error instanceof Error ? error.message : String(error);
  if (error.fields.length > 0) return error.fields.join("; ");
  return error.message;
}
