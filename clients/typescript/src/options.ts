/** Why a token or a ticket is asked for. */
export interface CredentialRequest {
  /** The last one is about to expire, or was refused: do not answer with a cached one. */
  renew: boolean;
}

type Credential = (request: CredentialRequest) => string | Promise<string>;

/** The options of {@link createFailoverClient}. */
export interface FailoverClientOptions {
  /**
   * Where the service is, best first: `["https://a.example", "https://b.example"]`. When one fails or stays silent the next is used.
   * In a page, an address may be relative to it.
   */
  endpoints: readonly string[];
  /** The Amazon Connect user id of the agent. */
  agentId: string;
  /** Gets a token of the identity provider. It is asked once, and again when that token expires or is refused. */
  token?: Credential;
  /**
   * Gets a single-use stream ticket (`POST /v1/agents/{agentId}/stream-tickets`), which opens the stream in place of the token: for
   * pages that hold no token, whose own server gets the ticket for them.
   */
  ticket?: Credential;
  /** `include` sends the session's cookie (`POST /v1/session`), also to another origin. */
  credentials?: "include" | "same-origin" | "omit";
  /** `stream.heartbeat` of the service in milliseconds, if it is not 15000. */
  heartbeat?: number;
  /** false: this tab keeps a connection of its own. Default: the tabs of an origin share one. */
  share?: boolean;
  /**
   * Where your site serves this package's `worker.js`: then the tabs share their connection by a SharedWorker. Without it, or where
   * there is none, one tab at a time holds it for all.
   */
  worker?: string | URL;
  /** A `fetch` to use in place of the global one, for example with a proxy in Node. */
  fetch?: typeof fetch;
}

/** Options that were checked, as the connection needs them. */
export interface Settings {
  agentId: string;
  endpoints: string[];
  heartbeat: number;
  credentials: RequestCredentials;
}

/** @throws TypeError that says which option is wrong, and what it should be. */
export function settings(o: FailoverClientOptions): Settings {
  const wrong = (what: string, value: unknown, want: string) => new TypeError(`createFailoverClient: ${what} is ${JSON.stringify(value)}; ${want} is expected`);
  if (typeof o.agentId !== "string" || !/^[!-~]{1,256}$/.test(o.agentId)) throw wrong("agentId", o.agentId, "the agent's Amazon Connect user id");
  if (!Array.isArray(o.endpoints) || o.endpoints.length === 0) throw wrong("endpoints", o.endpoints, "a list of addresses");
  const heartbeat = o.heartbeat ?? 15_000;
  if (!(heartbeat >= 100 && heartbeat <= 600_000)) throw wrong("heartbeat", heartbeat, "a number of milliseconds");
  const endpoints = o.endpoints.map((address: string) => {
    let url: URL;
    try {
      url = new URL(address, (globalThis as { location?: Location }).location?.href);
    } catch {
      throw wrong("endpoint", address, "an http or https address");
    }
    if (!/^https?:$/.test(url.protocol)) throw wrong("endpoint", address, "an http or https address");
    return url.origin + url.pathname.replace(/\/+$/, "");
  });
  return { agentId: o.agentId, endpoints: [...new Set(endpoints)], heartbeat, credentials: o.credentials ?? "same-origin" };
}
