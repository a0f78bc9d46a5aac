import { expect, test } from "vitest";
import { ApiError, explain } from "../src/api";
import { longest, phase, toll } from "../src/contacts";
import { byCode, distributionRows } from "../src/distribution";
import { tellEvent } from "../src/events";
import { age, count, duration, plural, shortId } from "../src/format";
import { join, pagesInView, type Page } from "../src/paging";
import { href, parseRoute } from "../src/router";
import { estimate, series, type Progress } from "../src/shift";
import { span } from "../src/ui/window";

test("durations have two units at most", () => {
  const of = (s: number) => duration(s * 1000);
  expect([0, 59.4, 60, 200, 3599, 3600, 7500, 86_400, 277_000].map(of))
    .toEqual(["0 s", "59 s", "1 min 00 s", "3 min 20 s", "59 min 59 s", "1 h 00 min", "2 h 05 min", "1 d 0 h", "3 d 4 h"]);
  expect(duration(-5000), "clocks differ").toBe("0 s");
  expect([duration(null), age(null, 0), count(null)]).toEqual(["–", "–", "–"]);
  expect([plural(1, "agent"), plural(0, "agent")]).toEqual(["1 agent", "0 agents"]);
  expect(shortId("87654321-1111-2222-3333-444455556666")).toBe("87654321…");
});

test("routes survive what people and ids hold", () => {
  const r = parseRoute(href("agents", "a/b?c#d", { state: "pending", search: "ä & ö", none: undefined, empty: "" }));
  expect(r.path).toEqual(["agents", "a/b?c#d"]);
  expect(Object.fromEntries(r.query)).toEqual({ state: "pending", search: "ä & ö" });
  expect(parseRoute("").path).toEqual([]);
  expect(parseRoute("#/agents/%zz").path, "typed by hand").toEqual(["agents", "%zz"]);
});

test("of 50,000 lines those in view are drawn", () => {
  expect(span(0, 600, 44, 50_000)).toEqual({ from: 0, to: 22 });
  expect(span(44 * 25_000, 600, 44, 50_000)).toEqual({ from: 24_992, to: 25_022 });
  expect(span(1e9, 600, 44, 50_000).to).toBe(50_000);
  expect(span(1e9, 600, 44, 3)).toEqual({ from: 0, to: 3 });
  expect(span(0, 600, 44, 0)).toEqual({ from: 0, to: 0 });
});

const page = (cursor: string | undefined, rows: string, next?: string): Page<string> => ({ cursor, rows: [...rows], next });

test("the pages in view are read again, the first at least", () => {
  const pages = [page(undefined, "abc", "1"), page("1", "def", "2"), page("2", "ghi")];
  expect(pagesInView(pages, 0, 2)).toEqual([0]);
  expect(pagesInView(pages, 2, 4)).toEqual([0, 1]);
  expect(pagesInView(pages, 7, 20)).toEqual([2]);
  expect(pagesInView([], 0, 10)).toEqual([0]);
  expect(pagesInView(pages, 100, 110)).toEqual([0]);
});

test("pages that reach into each other are one list without doubles", () => {
  const rows = (pages: Page<string>[]) => join(pages, (r) => r).map((p) => p.rows.join("")).join("|");
  expect(rows([page(undefined, "bde", "1"), page("1", "def")]), "a and c have gone").toBe("bde|f");
  expect(rows([page(undefined, "abc", "1"), page("1", "def")])).toBe("abc|def");
  expect(rows([page(undefined, "ab"), page("1", "def")]), "no further page: that is all").toBe("ab");
});

const t0 = Date.UTC(2026, 10, 22, 12);
const at = (s: number) => new Date(t0 + s * 1000).toISOString();
const progress = (until: number, ...points: [number, number, number, number][]): Progress => ({
  shiftId: "2", startedAt: at(0), until: at(until), stepSeconds: 1, points: points.map(([s, detected, pending, completed]) => ({ at: at(s), detected, pending, completed, cancelled: 0 })),
});

test("a line goes on to the present", () => {
  expect(series(progress(10, [1, 5, 3, 2], [4, 5, 2, 3]))).toEqual([[0, 1, 4, 10].map((s) => t0 / 1000 + s), [0, 5, 5, 5], [0, 3, 2, 2], [0, 2, 3, 3]]);
  expect(series(progress(0))[0]).toEqual([t0 / 1000]);
});

test("the rest is estimated from how contacts end", () => {
  // A thousand contacts that end with a mean of 200 seconds: after another 200 a share of 1/e is left.
  const points: [number, number, number, number][] = [];
  for (let s = 1; s <= 120; s++) points.push([s, 1000, Math.round(1000 * Math.exp(-(s - 1) / 200)), 0]);
  const e = estimate(progress(120, ...points))!;
  expect(e.half / 1000).toBeGreaterThan(130);
  expect(e.half / 1000).toBeLessThan(147); // ln 2 · 200 = 139
  const left = 1000 * Math.exp(-119 / 200);
  expect(e.last / 1000 / (200 * (Math.log(left) + 0.577))).toBeCloseTo(1, 1);
});

test("nothing is estimated from nothing", () => {
  expect(estimate(progress(60))).toBeUndefined();
  expect(estimate(progress(60, [1, 9, 9, 0])), "none has ended").toBeUndefined();
  expect(estimate(progress(60, [1, 9, 9, 0], [30, 9, 6, 3])), "three have").toBeUndefined();
  expect(estimate(progress(60, [1, 9, 9, 0], [30, 9, 0, 9])), "all have").toBeUndefined();
  expect(estimate(progress(60, [1, 50, 5, 0], [30, 50, 30, 20], [50, 50, 50, 0])), "more come than go").toBeUndefined();
  const old = progress(1200, [1, 100, 100, 0], [60, 100, 10, 90]);
  expect(estimate(old), "long ago many, now none for minutes").toBeUndefined();
});

const contact = (state: string, stateSince: string | null = null) => ({ contactId: state, channel: "VOICE", state, stateSince });
const open = (status: "detected" | "pending", ...contacts: ReturnType<typeof contact>[]) => ({
  failoverId: "f", agentId: "a", username: null, failoverGroup: "main", tdgId: null, fromRegion: "us-east-1", toRegion: "us-west-2", status,
  detectedAt: at(0), pendingAt: null, staleSince: null, contacts,
});

test("a force drops live contacts, and what is not known is said", () => {
  expect(toll([open("pending", contact("CONNECTED"), contact("ENDED")), open("pending", contact("CONNECTED_ONHOLD")), open("detected")]))
    .toEqual({ failovers: 3, live: 2, afterContactWork: 1, unknown: 1 });
  expect(phase([contact("ENDED"), contact("CONNECTED")])).toBe("talking");
  expect(phase([contact("ENDED")])).toBe("after-contact work");
  expect(phase([contact("NEW_AMAZON_STATE")])).toBe("new amazon state");
  expect(phase([])).toBe("not known yet");
  expect(longest([contact("CONNECTED", at(5)), contact("CONNECTED", at(3)), contact("ENDED")])).toBe(at(3));
});

test("distributions stand side by side, and a disagreement shows", () => {
  const regions = ["us-east-1", "us-west-2"];
  const d = (east: number) => ({
    telephony: [{ region: "us-east-1", percent: east }, { region: "us-west-2", percent: 100 - east }], agent: [{ region: "us-east-1", percent: east }, { region: "us-west-2", percent: 100 - east }],
    signIn: [{ region: "us-east-1", enabled: east > 0 }, { region: "us-west-2", enabled: east < 100 }],
  });
  const answer = (region: string, east: number) => ({ region, observedAt: at(0), ...d(east) });
  const tdg = {
    tdgId: "t", arn: "arn", name: "default", failoverGroup: "main", status: "ACTIVE", isDefault: true, ...d(100), answers: [answer("us-east-1", 100), answer("us-west-2", 0)],
    observedAt: at(0), splitSince: null, membersReadAt: null, warnings: [],
  };
  const both = (east: string, west: string) => [{ region: "us-east-1", text: east, at: at(0) }, { region: "us-west-2", text: west, at: at(0) }];
  expect(distributionRows(tdg, regions)).toEqual([
    { what: "Phone calls", cells: ["100 %", "0 %"], answers: both("100 % / 0 %", "0 % / 100 %") },
    { what: "Agents", cells: ["100 %", "0 %"], answers: both("100 % / 0 %", "0 % / 100 %") },
    { what: "Sign-in", cells: ["on", "off"], answers: both("on / off", "off / on") },
  ]);
  const silent = { ...tdg, agent: null, answers: [answer("us-east-1", 100), { ...answer("us-west-2", 0), observedAt: null }] };
  expect(distributionRows(silent, regions)[1]).toEqual({ what: "Agents", cells: ["unknown", "unknown"], answers: [] });
  expect(distributionRows({ ...tdg, isDefault: false, signIn: null }, regions).map((r) => r.what)).toEqual(["Phone calls", "Agents"]);
});

test("warnings of one kind are one, since the first", () => {
  const w = (code: string, message: string, since: string | null) => ({ code, message, since });
  expect(byCode([w("REGIONS_DISAGREE", "calls", at(5)), w("SPLIT", "s", null), w("REGIONS_DISAGREE", "agents", at(2))]))
    .toEqual([{ code: "REGIONS_DISAGREE", since: at(2), messages: ["calls", "agents"] }, { code: "SPLIT", since: null, messages: ["s"] }]);
});

test("events are told in words, new ones by their name", () => {
  const e = (event: string, data = {}) => tellEvent({ id: "1", event, data: { agentId: "a", time: at(0), ...data } });
  expect(e("failoverPending", { contactIds: ["c1"] })).toEqual({ title: "Pending", detail: "held by 1 contact: c1", mood: "busy" });
  expect(e("failoverCompleted", { forced: true, activeRegion: "w", previousRegion: "e", evidence: "forced" }).mood).toBe("bad");
  expect(e("somethingNew")).toEqual({ title: "somethingNew", detail: "", mood: "calm" });
});

test("a refusal is explained with the fields' names", () => {
  const problem = {
    type: "urn:changeover:problem:invalid-request", title: "", status: 400, detail: "no", requestId: "r", errors: [{ field: "reason", in: "body" as const, message: "must not be empty" }],
  };
  expect(explain(new ApiError("no", 400, problem))).toBe("reason: must not be empty");
  expect(new ApiError("no", 400, problem).kind).toBe("invalid-request");
  expect(explain(new ApiError("The service cannot be reached.", 0, null))).toBe("The service cannot be reached.");
});
