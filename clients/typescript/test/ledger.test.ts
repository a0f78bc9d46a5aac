import { describe, expect, test } from "vitest";
import { Ledger } from "../src/ledger.js";

const east = "us-east-1";
const west = "us-west-2";
const agentId = "a1";
const time = "2026-11-21T10:15:30.250Z";

let n = 0;
const event = (name: string, data: object, id: string | undefined = `L-1-${++n}`) =>
  ({ ...(id !== undefined && { id }), event: name, data: { agentId, time, ...data } }) as Parameters<Ledger["accept"]>[0];
const snapshot = (data: object, id?: string) =>
  event("snapshot", { activeRegion: east, activeCcpUrl: "https://east/", state: "active", configureErrors: [], ...data }, id);
const held = { reason: "call storm", until: "2026-11-21T11:00:00.000Z" };
const pending = { state: "pending", nextActiveRegion: west, failoverId: "f1", contactIds: ["c1"] };

/** What is called, in short. */
function calls(l: Ledger, e: Parameters<Ledger["accept"]>[0]): string[] | null {
  return l.accept(e)?.map(({ name, data }) => {
    const d = data as Record<string, unknown>;
    return [name, d["nextActiveRegion"] ?? d["activeRegion"] ?? d["code"], ...((d["contactIds"] as string[]) ?? [])].join(" ");
  }) ?? null;
}

/** A ledger that has heard these. */
function after(...events: Parameters<Ledger["accept"]>[0][]): Ledger {
  const l = new Ledger(agentId);
  for (const e of events) l.accept(e);
  return l;
}

describe("the log", () => {
  test("each event is told as it is, once", () => {
    const l = after(snapshot({}));
    const detected = event("failoverDetected", { failoverId: "f1", nextActiveRegion: west });
    expect(l.accept(detected)).toEqual([{ name: "failoverDetected", data: detected.data }]);
    expect(l.accept(detected)).toBeNull();
    expect(l.status).toMatchObject({ state: "detected", activeRegion: east, nextActiveRegion: west, failoverId: "f1" });
    expect(calls(l, event("failoverPending", { failoverId: "f1", nextActiveRegion: west, contactIds: ["c1", "c2"] }))).toEqual(["failoverPending us-west-2 c1 c2"]);
    expect(l.status.contactIds).toEqual(["c1", "c2"]);
    expect(calls(l, event("failoverPendingUpdated", { failoverId: "f1", nextActiveRegion: west, contactIds: [] }))).toEqual(["failoverPendingUpdated us-west-2"]);
    expect(calls(l, event("failoverCompleted", { failoverId: "f1", activeRegion: west, activeCcpUrl: "https://west/", previousRegion: east, forced: false, evidence: "inferred", clear: [] })))
      .toEqual(["failoverCompleted us-west-2"]);
    expect(l.status).toEqual({
      agentId, activeRegion: west, activeCcpUrl: "https://west/", state: "active", nextActiveRegion: null, failoverId: null, contactIds: [], paused: null, configureErrors: [],
    });
  });

  test("a pause lasts until it is over, or the failover is", () => {
    const l = after(snapshot(pending));
    const paused = event("failoverPaused", { failoverId: "f1", nextActiveRegion: west, reason: "r", until: time });
    expect(calls(l, paused)).toEqual(["failoverPaused us-west-2"]);
    expect(l.status.paused).toEqual({ reason: "r", until: time });
    l.accept(event("failoverPendingUpdated", { failoverId: "f1", nextActiveRegion: west, contactIds: [] }));
    expect(l.status.paused).toEqual({ reason: "r", until: time });
    expect(calls(l, event("failoverResumed", { failoverId: "f1", nextActiveRegion: west }))).toEqual(["failoverResumed us-west-2"]);
    expect(l.status.paused).toBeNull();
    for (const [name, data] of [["failoverCompleted", { failoverId: "f1", activeRegion: west }], ["failoverCancelled", { failoverId: "f1", activeRegion: east }], ["failoverDetected", { failoverId: "f2", nextActiveRegion: west }]] as const) {
      l.accept(event("failoverPaused", { ...paused.data }));
      expect(l.status.paused).not.toBeNull();
      l.accept(event(name, data));
      expect(l.status.paused).toBeNull();
    }
  });

  test("what changes nothing is told all the same", () => {
    const l = after(snapshot(pending));
    const before = l.status;
    expect(calls(l, event("failoverStalled", { failoverId: "f0", activeRegion: east }))).toEqual(["failoverStalled us-east-1"]);
    expect(l.status).toBe(before);
  });

  test("the cursor is the last id, also of events that mean nothing here", () => {
    const l = after(snapshot({}, "L-1-900"));
    expect(l.cursor).toBe("L-1-900");
    expect(calls(l, event("somethingNewer", {}, "L-1-901"))).toEqual([]);
    expect(l.cursor).toBe("L-1-901");
  });

  test("a set-up error replaces the one of the same code, and is cleared", () => {
    const l = after(snapshot({}));
    l.accept(event("configureError", { code: "ACCESS_DENIED", message: "a" }));
    l.accept(event("configureError", { code: "ACCESS_DENIED", message: "b" }));
    expect(l.status.configureErrors).toEqual([{ code: "ACCESS_DENIED", message: "b" }]);
    expect(calls(l, event("configureErrorCleared", { code: "ACCESS_DENIED" }))).toEqual(["configureErrorCleared ACCESS_DENIED"]);
    expect(l.status.configureErrors).toEqual([]);
  });

  test("of thousands of ids the last ones are remembered", () => {
    const l = after(snapshot({}));
    const last = event("failoverStalled", { failoverId: "f", activeRegion: east });
    for (let i = 0; i < 5000; i++) l.accept(event("failoverStalled", { failoverId: "f", activeRegion: east }));
    l.accept(last);
    expect(l.accept(last)).toBeNull();
  });
});

describe("a snapshot tells what really changed, and only that", () => {
  test.each([
    ["the first one completes nothing", [], snapshot({}), []],
    ["the first one of an unknown agent", [], snapshot({ activeRegion: null, activeCcpUrl: null, state: "unknown" }), []],
    ["a page that is opened while pending", [], snapshot(pending), ["failoverDetected us-west-2", "failoverPending us-west-2 c1"]],
    ["a page that is opened while detected", [], snapshot({ ...pending, state: "detected", contactIds: undefined }), ["failoverDetected us-west-2"]],
    ["a page that is opened in a pause", [], snapshot({ ...pending, paused: held }), ["failoverDetected us-west-2", "failoverPending us-west-2 c1", "failoverPaused us-west-2"]],
    ["the same pause", [snapshot({ ...pending, paused: held })], snapshot({ ...pending, paused: { ...held } }), []],
    ["a pause that is longer now", [snapshot({ ...pending, paused: held })], snapshot({ ...pending, paused: { ...held, until: "2026-11-21T12:00:00.000Z" } }), ["failoverPaused us-west-2"]],
    ["a pause that has ended", [snapshot({ ...pending, paused: held })], snapshot(pending), ["failoverResumed us-west-2"]],
    ["a pause that ended with the failover", [snapshot({ ...pending, paused: held })], snapshot({ activeRegion: west }), ["failoverCompleted us-west-2"]],
    ["a page that is opened with a wrong set-up", [], snapshot({ configureErrors: [{ code: "ACCESS_DENIED", message: "m" }] }), ["configureError ACCESS_DENIED"]],
    ["the first Region", [snapshot({ activeRegion: null, activeCcpUrl: null, state: "unknown" })], snapshot({}), []],
    ["nothing changed", [snapshot({})], snapshot({}), []],
    ["nothing changed while pending", [snapshot(pending)], snapshot(pending), []],
    ["another stack has another id for the same change", [snapshot(pending)], snapshot({ ...pending, failoverId: "f2" }), []],
    ["other contacts", [snapshot(pending)], snapshot({ ...pending, contactIds: ["c2"] }), ["failoverPendingUpdated us-west-2 c2"]],
    ["pending by now", [snapshot({ ...pending, state: "detected", contactIds: [] })], snapshot(pending), ["failoverPending us-west-2 c1"]],
    ["detected again", [snapshot(pending)], snapshot({ ...pending, state: "detected", failoverId: "f2", contactIds: [] }), ["failoverDetected us-west-2"]],
    ["completed meanwhile", [snapshot(pending)], snapshot({ activeRegion: west }), ["failoverCompleted us-west-2"]],
    ["begun and completed meanwhile", [snapshot({})], snapshot({ activeRegion: west }), ["failoverCompleted us-west-2"]],
    ["cancelled meanwhile", [snapshot(pending)], snapshot({}), ["failoverCancelled us-east-1"]],
    ["there and on the way back", [snapshot(pending)], snapshot({ ...pending, activeRegion: west, nextActiveRegion: east, failoverId: "f2" }),
      ["failoverCompleted us-west-2", "failoverDetected us-east-1", "failoverPending us-east-1 c1"]],
    ["there and back", [snapshot({})], snapshot({}), []],
    ["the agent is not known any more", [snapshot({})], snapshot({ activeRegion: null, activeCcpUrl: null, state: "unknown" }), []],
    ["not known any more while pending", [snapshot(pending)], snapshot({ activeRegion: null, activeCcpUrl: null, state: "unknown" }), ["failoverCancelled us-east-1"]],
    ["unknown for a while is no change", [snapshot({}), snapshot({ activeRegion: null, activeCcpUrl: null, state: "unknown" })], snapshot({}), []],
    ["unknown for a while, and moved", [snapshot({}), snapshot({ activeRegion: null, activeCcpUrl: null, state: "unknown" })], snapshot({ activeRegion: west }), ["failoverCompleted us-west-2"]],
    ["errors come and go", [snapshot({ configureErrors: [{ code: "ACCESS_DENIED", message: "m" }] })], snapshot({ configureErrors: [{ code: "TDG_NOT_FOUND", message: "m" }] }),
      ["configureErrorCleared ACCESS_DENIED", "configureError TDG_NOT_FOUND"]],
  ])("%s", (_, before, now, want) => {
    const l = after(...before);
    expect(calls(l, event("reset", { reason: "pruned" }, "L-0-1"))).toEqual([]);
    expect(calls(l, now)).toEqual(want);
    // And again nothing, though its id was seen.
    expect(calls(l, now)).toEqual([]);
  });

  test("what is not known of a completion is null", () => {
    const l = after(snapshot({}));
    expect(l.accept(snapshot({ activeRegion: west, activeCcpUrl: "https://west/" }))).toEqual([{
      name: "failoverCompleted",
      data: {
        agentId, time, failoverId: null, activeRegion: west, activeCcpUrl: "https://west/", previousRegion: east, forced: null, evidence: null,
        clear: ["agentStateArns", "queueArns", "quickConnects", "routingProfile", "contacts"],
      },
    }]);
  });

  test("an event that the snapshot holds already is not told", () => {
    const l = after(snapshot({}, "L-1-5"), snapshot(pending, "L-1-7"));
    expect(l.accept(event("failoverPending", { failoverId: "f1", nextActiveRegion: west, contactIds: ["c1"] }, "L-1-7"))).toBeNull();
  });

  test("a tab that joins learns what the others know", () => {
    const holder = after(snapshot(pending, "L-1-9"));
    const tab = new Ledger(agentId);
    expect(tab.adopt(holder.status, holder.cursor).map((c) => c.name)).toEqual(["failoverDetected", "failoverPending"]);
    expect(tab.status).toEqual(holder.status);
    expect(tab.cursor).toBe("L-1-9");
  });
});
