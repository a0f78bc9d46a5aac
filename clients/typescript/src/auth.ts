import { ChangeoverError } from "./errors.js";
import type { CredentialRequest, FailoverClientOptions } from "./options.js";

/** What a request has to carry to prove who sends it. */
export interface Proof {
  headers: Record<string, string>;
  /** For the query of a stream. */
  ticket?: string;
}

/** Asks for tokens and tickets, and remembers the token. */
export class Auth {
  readonly #options: Pick<FailoverClientOptions, "token" | "ticket">;
  #token: Promise<string> | undefined;
  #renew = false;

  constructor(options: Pick<FailoverClientOptions, "token" | "ticket">) {
    this.#options = options;
  }

  /** Says that the token is no good any more. False: it was new, so that another would be no better. */
  expire(): boolean {
    const had = this.#token !== undefined || this.#options.ticket !== undefined;
    const again = had && !this.#renew;
    this.#token = undefined;
    this.#renew = true;
    return again;
  }

  /** The last token was good. */
  good(): void {
    this.#renew = false;
  }

  /** @throws ChangeoverError with code `token` */
  async proof(stream: boolean): Promise<Proof> {
    const { token, ticket } = this.#options;
    if (stream && ticket) return { headers: {}, ticket: await ask("ticket", ticket, { renew: this.#renew }) };
    if (!token) return { headers: {} };
    this.#token ??= ask("token", token, { renew: this.#renew });
    try {
      return { headers: { Authorization: `Bearer ${await this.#token}` } };
    } catch (error) {
      this.#token = undefined;
      throw error;
    }
  }
}

async function ask(what: string, f: (r: CredentialRequest) => string | Promise<string>, request: CredentialRequest): Promise<string> {
  let answer: unknown;
  try {
    answer = await f(request);
  } catch (cause) {
    throw new ChangeoverError("token", `The function ${what} failed.`, { cause });
  }
  // Never the value itself: it may be half a token.
  if (typeof answer !== "string" || !/^[!-~]+$/.test(answer)) {
    throw new ChangeoverError("token", `The function ${what} returned ${typeof answer === "string" ? "no token" : typeof answer}.`);
  }
  return answer;
}
