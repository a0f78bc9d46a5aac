// What holds agents, in words and figures. No DOM here.
import type { Schemas } from "./api";

type Holding = Schemas["PlannedContact"];

/** Whether somebody is on the other end. */
export const live = (c: { state: string }) => c.state !== "ENDED";

export interface Toll {
  failovers: number;
  /** Contacts with somebody on the other end, which a force drops. */
  live: number;
  afterContactWork: number;
  /** Failovers of which nobody knows yet whether contacts hold them. */
  unknown: number;
}

/** What forcing these would cost. */
export function toll(open: readonly Schemas["OpenFailover"][]): Toll {
  const t: Toll = { failovers: open.length, live: 0, afterContactWork: 0, unknown: 0 };
  for (const f of open) {
    if (f.status === "detected") t.unknown++;
    for (const c of f.contacts) {
      if (live(c)) t.live++;
      else t.afterContactWork++;
    }
  }
  return t;
}

const states: Record<string, string> = {
  INCOMING: "ringing", PENDING: "pending", CONNECTING: "connecting", CONNECTED: "talking", CONNECTED_ONHOLD: "on hold", MISSED: "missed", ERROR: "error",
  REJECTED: "rejected", ENDED: "after-contact work",
};

/** A contact's state as people say it; what Amazon adds passes through. */
export const stateWord = (state: string) => states[state] ?? state.toLowerCase().replaceAll("_", " ");

/** The most that is going on: an agent with a call and an ended chat is talking. */
export function phase(contacts: readonly Holding[]): string {
  const first = contacts.find(live) ?? contacts[0];
  return first ? stateWord(first.state) : "not known yet";
}

/** Since when the longest contact is in its state. */
export function longest(contacts: readonly Holding[]): string | null {
  return contacts.map((c) => c.stateSince).filter((t) => t !== null).sort()[0] ?? null;
}
