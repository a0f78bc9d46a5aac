import type { AgentStatus, Call, EventData, FailoverCompleted, Snapshot } from "./types.js";

/** An event as it travels: from the service, and from the tab that holds the connection to the others. */
export interface LoggedEvent {
  id?: string;
  event: string;
  data: EventData & Record<string, unknown>;
}

/** More than one answer of a long poll holds, so that what a stream repeats after it is known. */
const remembered = 2048;

/** What a desktop has to drop of the Region that was left, when only the outcome of the failover is known. */
const clear = ["agentStateArns", "queueArns", "quickConnects", "routingProfile", "contacts"];

/**
 * What one desktop was told: where the agent stands, how far the log was read, and which events were seen. It says what each event means
 * for the desktop, and does nothing else.
 */
export class Ledger {
  /** From where to resume; undefined: from a snapshot. */
  cursor: string | undefined;
  status: AgentStatus;
  /** Whether the service has said anything yet. */
  known = false;

  readonly #agentId: string;
  readonly #seen = new Set<string>();
  // The last Region that was known: an "unknown" in between is no change of Region.
  #lastRegion: string | null = null;

  constructor(agentId: string) {
    this.#agentId = agentId;
    this.status = nothing(agentId);
  }

  /** Takes what another tab knows. Open failovers and set-up errors are due as with a first snapshot. */
  adopt(status: AgentStatus, cursor: string | undefined): Call[] {
    if (cursor !== undefined) this.cursor = cursor;
    return this.#snapshot({ ...status, time: new Date().toISOString() });
  }

  /**
   * Takes an event and returns the callbacks that are due, in their order; null if it was seen already. Snapshots, resets and notices
   * may carry the id of an event that was told before: they say where things stand, so taking them twice changes nothing.
   */
  accept({ id, event, data }: LoggedEvent): Call[] | null {
    const logged = event !== "snapshot" && event !== "reset" && event !== "draining";
    if (id !== undefined) {
      if (logged && this.#seen.has(id)) return null;
      this.#seen.add(id);
      if (this.#seen.size > remembered) for (const oldest of this.#seen) { this.#seen.delete(oldest); break; }
      this.cursor = id;
    }
    return event === "snapshot" ? this.#snapshot(data as unknown as Snapshot) : logged ? this.#apply(event, data) : [];
  }

  #apply(event: string, data: Record<string, unknown>): Call[] {
    const call = { name: event, data } as unknown as Call;
    const s = this.status;
    switch (call.name) {
      case "failoverDetected":
        this.#set({ ...s, ...settled, state: "detected", nextActiveRegion: call.data.nextActiveRegion, failoverId: call.data.failoverId });
        break;
      case "failoverPending":
      case "failoverPendingUpdated":
        this.#set({
          ...s, state: "pending", nextActiveRegion: call.data.nextActiveRegion, failoverId: call.data.failoverId, contactIds: call.data.contactIds,
        });
        break;
      case "failoverCompleted":
        this.#set({ ...s, ...settled, activeRegion: call.data.activeRegion, activeCcpUrl: call.data.activeCcpUrl });
        break;
      case "failoverCancelled":
        this.#set({ ...s, ...settled, activeRegion: call.data.activeRegion });
        break;
      case "configureError": {
        const { code, message } = call.data;
        this.#set({ ...s, configureErrors: [...s.configureErrors.filter((e) => e.code !== code), { code, message }] });
        break;
      }
      case "configureErrorCleared": {
        const { code } = call.data;
        this.#set({ ...s, configureErrors: s.configureErrors.filter((e) => e.code !== code) });
        break;
      }
      case "failoverPaused": {
        const { reason, until } = call.data;
        this.#set({ ...s, paused: { reason, until } });
        break;
      }
      case "failoverResumed":
        this.#set({ ...s, paused: null });
        break;
      case "failoverStalled":
        break;
      default:
        return []; // of a newer service
    }
    return [call];
  }

  /**
   * A snapshot replaces what was believed; due is what really changed. It is no failover by itself, so the first one completes
   * nothing: it tells an open failover and what is wrong with the set-up, for a page that was just opened has to show both.
   *
   * Failovers are compared by where they lead and not by their ids, because another stack has another id for the same change.
   */
  #snapshot(s: Snapshot | (AgentStatus & { time: string })): Call[] {
    const before = this.status;
    const region = s.activeRegion;
    const now: AgentStatus = {
      agentId: this.#agentId,
      activeRegion: region,
      activeCcpUrl: s.activeCcpUrl,
      state: s.state,
      nextActiveRegion: s.nextActiveRegion ?? null,
      failoverId: s.failoverId ?? null,
      contactIds: s.contactIds ?? [],
      paused: s.paused ?? null,
      configureErrors: s.configureErrors,
    };
    const from = this.#lastRegion;
    const calls: Call[] = [];
    const common = { agentId: this.#agentId, time: s.time };

    const moved = from !== null && region !== null && region !== from;
    const next = now.nextActiveRegion;
    const same = !moved && before.nextActiveRegion !== null && before.nextActiveRegion === next && (before.state === now.state || now.state === "pending");
    if (moved) {
      const data: FailoverCompleted = {
        ...common, failoverId: before.nextActiveRegion === region ? before.failoverId : null, activeRegion: region, activeCcpUrl: s.activeCcpUrl,
        previousRegion: from, forced: null, evidence: null, clear,
      };
      calls.push({ name: "failoverCompleted", data });
    } else if (before.failoverId !== null && before.nextActiveRegion !== null && before.nextActiveRegion !== next && from !== null) {
      // Also when the service does not know the agent any more: nothing is under way then.
      calls.push({
        name: "failoverCancelled",
        data: { ...common, failoverId: before.failoverId, activeRegion: from, cancelledRegion: before.nextActiveRegion },
      });
    }
    if (next !== null && now.failoverId !== null) {
      const open = { ...common, failoverId: now.failoverId, nextActiveRegion: next };
      const contactIds = [...now.contactIds];
      if (!same) calls.push({ name: "failoverDetected", data: open });
      if (now.state === "pending") {
        if (!same || before.state !== "pending") calls.push({ name: "failoverPending", data: { ...open, contactIds } });
        else if (contactIds.join() !== before.contactIds.join()) calls.push({ name: "failoverPendingUpdated", data: { ...open, contactIds } });
      }
      const held = same ? before.paused : null;
      if (now.paused && (held?.reason !== now.paused.reason || held.until !== now.paused.until)) calls.push({ name: "failoverPaused", data: { ...open, ...now.paused } });
      else if (held && !now.paused) calls.push({ name: "failoverResumed", data: open });
    }
    for (const e of before.configureErrors) {
      if (!now.configureErrors.some((n) => n.code === e.code)) {
        calls.push({ name: "configureErrorCleared", data: { ...common, code: e.code } });
      }
    }
    for (const e of now.configureErrors) {
      if (!before.configureErrors.some((b) => b.code === e.code && b.message === e.message)) {
        calls.push({ name: "configureError", data: { ...common, ...e } });
      }
    }
    this.#set(now);
    return calls;
  }

  #set(status: AgentStatus): void {
    this.known = true;
    this.status = status;
    this.#lastRegion = status.activeRegion ?? this.#lastRegion;
  }
}

const settled = { state: "active", nextActiveRegion: null, failoverId: null, contactIds: [] as string[], paused: null } as const;

function nothing(agentId: string): AgentStatus {
  return { agentId, activeRegion: null, activeCcpUrl: null, configureErrors: [], ...settled, state: "unknown" };
}
