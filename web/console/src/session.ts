// Who is signed in, and what they may do.
import { signal } from "@preact/signals";
import { api, ApiError, data, newKey, idempotency, type Schemas } from "./api";

export type Session = Schemas["Session"];
export type Role = "viewer" | "operator" | "admin";

type State =
  | { state: "asking" }
  | { state: "in"; session: Session }
  | { state: "out" }
  /** Signed in, and none of the roles that see the whole floor. */
  | { state: "noRole"; session: Session | null }
  | { state: "failed"; error: ApiError };

/** Whether somebody is signed in. */
export const session = signal<State>({ state: "asking" });

/** Where people sign in, from settings.json; empty: not with a browser. */
export const signInFolder = signal<string>("");

const floorRoles: Role[] = ["viewer", "operator", "admin"];

/** Asks who is signed in, at the start and when a call was answered 401. */
export async function askSession(): Promise<void> {
  try {
    const s = await data(api.GET("/v1/session"));
    const sees = s.roles.some((r) => (floorRoles as string[]).includes(r));
    session.value = sees ? { state: "in", session: s } : { state: "noRole", session: s };
  } catch (e) {
    if (!(e instanceof ApiError)) throw e;
    if (e.status === 401) session.value = { state: "out" };
    else if (e.status === 403) session.value = { state: "noRole", session: null };
    // Who was in stays in while the service cannot be asked: what is on the screen is theirs.
    else if (session.value.state !== "in") {
      session.value = { state: "failed", error: e };
      setTimeout(() => { if (session.value.state === "failed") void askSession(); }, 3000); // nobody has to press anything
    }
  }
}

/** Reads where to sign in. A console without the file is one without a sign-in. */
export async function loadSettings(): Promise<void> {
  try {
    const answer = await fetch("./settings.json", { cache: "no-cache" });
    if (answer.ok) signInFolder.value = ((await answer.json()) as { signIn: string }).signIn;
  } catch {
    // Asked again with the next load of the page; until then the session may do.
  }
}

/** Whether the user has one of the roles. No role includes another, so list all that the operation's x-roles list. */
export function may(...roles: Role[]): boolean {
  const s = session.value;
  return s.state === "in" && s.session.roles.some((r) => (roles as string[]).includes(r));
}

/** Why a control is not there for this user, for the place where it would be; undefined if it is. */
export function whyNot(...roles: Role[]): string | undefined {
  return may(...roles) ? undefined : `This takes the role ${roles.join(" or ")}.`;
}

/** Where to go to sign in and come back to this very page. */
export function signInURL(): string {
  const { pathname, hash } = location;
  return `${signInFolder.value}login?return=${encodeURIComponent(pathname + hash)}`;
}

/** Makes a session of a token, where there is no identity provider to sign in at. */
export async function signInWithToken(token: string): Promise<void> {
  await api.POST("/v1/session", { params: { header: idempotency(newKey()) }, headers: { Authorization: `Bearer ${token}` } });
  await askSession();
}

/** Ends the session in this browser, where there is no identity provider to sign out at. */
export async function signOut(): Promise<void> {
  await api.DELETE("/v1/session", { params: { header: idempotency(newKey()) } });
  await askSession();
}
