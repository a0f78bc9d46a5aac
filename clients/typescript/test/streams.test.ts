// The bridge with the real amazon-connect-streams. Its script runs in a page of jsdom; the Contact Control Panels in its two frames are played
// here, by the messages that Streams itself names.
import { readFileSync } from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import { JSDOM, VirtualConsole } from "jsdom";
import { afterEach, expect, test } from "vitest";
import { createFailoverClient, type FailoverClient, type Report } from "../src/index.js";
import { bridgeStreams, type Disagreement, type StreamsApi, type StreamsBridge } from "../src/streams.js";
import { waitFor } from "./wait.js";

const east = "us-east-1";
const west = "us-west-2";
const agentId = "11111111-2222-3333-4444-555555555555";
const script = readFileSync(createRequire(import.meta.url).resolve("amazon-connect-streams"), "utf8");
const ccpUrl = { [east]: "https://east.my.connect.aws/ccp-v2/", [west]: "https://west.my.connect.aws/ccp-v2/" } as Record<string, string>;

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const f of cleanups.splice(0).reverse()) f();
});

interface Contact { contactId: string; type: string; state: string; hold?: boolean }

/** A page with Streams in it, and its panels. */
class Page {
  readonly dom = new JSDOM("<!doctype html><div id=ccp></div>", { url: "https://desktop.example/", runScripts: "outside-only", virtualConsole: new VirtualConsole() });
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- its own types leave out what the panels are told
  readonly connect: any;
  readonly told: { region: string; event: string; data: unknown }[] = [];
  readonly silent = new Set<string>();
  readonly contacts: Record<string, Contact[]> = {};
  loads = 0;

  constructor() {
    const { window } = this.dom;
    this.dom.window.addEventListener("beforeunload", () => { this.loads++; });
    window.eval(script);
    this.connect = (window as unknown as { connect: unknown }).connect;
    cleanups.push(() => window.close());
  }

  init(options: object): void {
    const container = this.dom.window.document.getElementById("ccp");
    this.connect.core.initCCP(container, { ccpUrl: ccpUrl[east], loginPopup: false, softphone: { allowFramedSoftphone: false }, ...options });
    for (const frame of this.dom.window.document.querySelectorAll("iframe")) {
      const region = frame.src.startsWith("https://east") ? east : west;
      frame.contentWindow!.addEventListener("message", (m: MessageEvent<{ event: string; data: unknown }>) => {
        this.told.push({ region, ...m.data });
        if (m.data.event === this.connect.GlobalResiliencyEvents.VALIDATE_GLOBAL_SIGNIN) this.say(region, this.connect.GlobalResiliencyEvents.GLOBAL_SIGNIN_VALID, {});
        if (m.data.event === this.connect.AgentEvents.FETCH_AGENT_DATA_FROM_CCP) this.say(region, this.connect.AgentEvents.FETCH_AGENT_DATA_FROM_CCP, this.agent(region, this.contacts[region] ?? []));
      });
    }
  }

  /** A panel says something to the page. */
  say(region: string, event: string, data: unknown): void {
    const { window } = this.dom;
    const frame = [...window.document.querySelectorAll("iframe")].find((f) => f.src === ccpUrl[region])!;
    window.dispatchEvent(new window.MessageEvent("message", { data: { event, data }, source: frame.contentWindow, origin: new URL(frame.src).origin }));
  }

  /** Agent data as the panel of a Region has it. */
  agent(region: string, contacts: Contact[]): unknown {
    return {
      snapshot: {
        state: { name: "Available", type: "routable" }, agentAvailabilityState: { state: "Routable" },
        contacts: contacts.map((c) => ({
          contactId: c.contactId, type: c.type, state: { type: c.state, timestamp: new Date() },
          connections: [{ connectionId: "x", type: "agent", state: { type: c.hold ? "hold" : "connected" } }],
        })),
      },
      configuration: { agentARN: `arn:aws:connect:${region}:111122223333:instance/i/agent/${agentId}`, agentStates: [], routingProfile: {} },
    };
  }

  update(region: string, contacts: Contact[] = []): void {
    this.contacts[region] = contacts;
    this.say(region, this.connect.AgentEvents.UPDATE, this.agent(region, contacts));
  }

  /** Both panels come up, in the state that a page finds. */
  async up(active: string): Promise<void> {
    for (const region of [east, west]) {
      if (this.silent.has(region)) continue;
      this.say(region, this.connect.EventType.ACKNOWLEDGE, { id: `port-${region}` });
    }
    await waitFor(() => expect(this.told.some((t) => t.event === this.connect.EventType.OUTER_CONTEXT_INFO)).toBe(true));
    for (const region of [east, west]) {
      if (this.silent.has(region)) continue;
      this.say(region, this.connect.GlobalResiliencyEvents.INIT, { instanceRegion: region, instanceState: region === active ? "active" : "inactive", activeRegion: active });
    }
    this.update(active);
  }

  /** What Amazon does at a shift. */
  detected(to: string): void { this.say(east, this.connect.GlobalResiliencyEvents.FAILOVER_DETECTED, { activeRegion: to }); }
  switches(to: string): void {
    this.say(to, this.connect.GlobalResiliencyEvents.FAILOVER_INITIATED, { activeRegion: to });
    this.update(to);
  }
}

/** A service that streams what the test says and keeps what is reported. */
async function service() {
  const reports: Report[] = [];
  const streams = new Set<http.ServerResponse>();
  let id = 0;
  let status = 202;
  let first: object = { activeRegion: east, activeCcpUrl: ccpUrl[east], state: "active", configureErrors: [] };
  const frame = (event: string, data: object) => `id: log-1-${++id}\nevent: ${event}\ndata: ${JSON.stringify({ agentId, time: "2026-11-21T10:15:30.250Z", ...data })}\n\n`;
  const server = http.createServer((request, response) => {
    if (request.method === "GET") {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("retry: 10\n\n");
      if (!request.url!.includes("lastEventId")) response.write(frame("snapshot", first));
      streams.add(response);
      response.on("close", () => streams.delete(response));
      return;
    }
    let body = "";
    request.on("data", (b: Buffer) => { body += String(b); });
    request.on("end", () => {
      expect(request.headers["idempotency-key"]).toMatch(/^[0-9a-f]{32}$/);
      if (status === 202) reports.push(JSON.parse(body) as Report);
      response.writeHead(status, { "content-type": status === 202 ? "application/json" : "application/problem+json" });
      response.end(status === 202 ? "{}" : JSON.stringify({ type: "urn:changeover:problem:invalid-request", title: "t", status, detail: "west is no Region", requestId: "r1" }));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => { server.closeAllConnections(); server.close(); });
  return {
    url: `http://127.0.0.1:${(server.address() as { port: number }).port}`, reports,
    tell: (event: string, data: object) => { const f = frame(event, data); for (const s of streams) s.write(f); },
    drop: () => { for (const s of streams) s.destroy(); },
    begins: (data: object) => { first = { ...first, ...data }; },
    answers: (s: number) => { status = s; },
    streams,
  };
}

/** A clock that the test moves. */
class Clock {
  time = 1_000_000;
  readonly timers = new Map<number, { at: number; f: () => void }>();
  #n = 0;
  now = () => this.time;
  setTimeout = (f: () => void, ms: number) => { this.timers.set(++this.#n, { at: this.time + ms, f }); return this.#n; };
  clearTimeout = (t: never) => void this.timers.delete(t as unknown as number);
  advance(ms: number): void {
    const end = this.time + ms;
    for (;;) {
      const due = [...this.timers].filter(([, t]) => t.at <= end).sort(([, a], [, b]) => a.at - b.at)[0];
      if (!due) break;
      this.timers.delete(due[0]);
      this.time = Math.max(this.time, due[1].at);
      due[1].f();
    }
    this.time = end;
  }
}

interface Desk { page: Page; server: Awaited<ReturnType<typeof service>>; failover: FailoverClient; bridge: StreamsBridge; clock: Clock }

async function desk(o: { resilient?: boolean; before?: (s: Desk["server"], p: Page) => void } = {}): Promise<Desk> {
  const server = await service();
  const page = new Page();
  o.before?.(server, page);
  const failover = createFailoverClient({ endpoints: [server.url], agentId });
  const clock = new Clock();
  const bridge = bridgeStreams(page.connect as StreamsApi, failover, { clock });
  cleanups.push(() => { bridge.close(); failover.close(); });
  // After the bridge: a desktop need not mind the order.
  page.init(o.resilient === false ? {} : { enableGlobalResiliency: true, secondaryCCPUrl: ccpUrl[west], loginUrl: "https://login.example/" });
  clock.advance(500);
  if (o.resilient === false) {
    page.say(east, page.connect.EventType.ACKNOWLEDGE, { id: "port" });
    page.update(east);
  } else await page.up(east);
  await waitFor(() => expect(failover.getActiveRegion()).not.toBeNull());
  clock.advance(200);
  return { page, server, failover, bridge, clock };
}

const reported = (d: Desk, want: object) => waitFor(() => { d.clock.advance(200); expect(d.server.reports.at(-1)).toEqual(want); });
const call = { contactId: "c1", type: "voice", state: "connected" };
const asReported = { contactId: "c1", channel: "VOICE", state: "CONNECTED" };
const settled = { activeRegion: east, contacts: [], contactsRegion: east, standby: { region: west, ready: true }, configureError: null };

test("on connecting it reports what the panel shows, and then every change", async () => {
  const d = await desk();
  await reported(d, settled);
  d.page.update(east, [call, { contactId: "b", type: "chat", state: "ended" }, { contactId: "a", type: "queue_callback", state: "connected", hold: true }]);
  await reported(d, {
    ...settled,
    contacts: [{ contactId: "a", channel: "VOICE", state: "CONNECTED_ONHOLD" }, { contactId: "b", channel: "CHAT", state: "ENDED" }, asReported],
  });
  const n = d.server.reports.length;
  d.page.update(east, [call, { contactId: "b", type: "chat", state: "ended" }, { contactId: "a", type: "queue_callback", state: "connected", hold: true }]);
  d.clock.advance(60_000);
  await new Promise((r) => setTimeout(r, 50));
  expect(d.server.reports.length, "nothing changed, nothing is open: nothing is reported").toBe(n);
  d.server.drop();
  await waitFor(() => { d.clock.advance(200); expect(d.server.reports.length).toBe(n + 1); });
}, 15_000);

test("a failover: what the panel says comes next, and a report at least every minute", async () => {
  const d = await desk();
  await reported(d, settled);
  d.page.update(east, [call]);
  d.page.detected(west);
  await reported(d, { ...settled, contacts: [asReported], nextActiveRegion: west });
  d.server.tell("failoverDetected", { failoverId: "f1", nextActiveRegion: west });
  await waitFor(() => expect(d.failover.getStatus().state).toBe("detected"));
  for (let minute = 0; minute < 5; minute++) {
    await new Promise((r) => setTimeout(r, 20));
    const n = d.server.reports.length;
    d.clock.advance(60_000);
    await waitFor(() => expect(d.server.reports.length).toBeGreaterThan(n));
  }
  const completed: string[] = [];
  d.bridge.onFailoverCompleted(({ activeRegion }) => completed.push(activeRegion));
  d.page.switches(west);
  await reported(d, { ...settled, activeRegion: west, nextActiveRegion: null, contactsRegion: west, standby: { region: east, ready: true } });
  d.server.tell("failoverCompleted", { failoverId: "f1", activeRegion: west, activeCcpUrl: ccpUrl[west], previousRegion: east, forced: false, evidence: "desktop", clear: [] });
  await waitFor(() => expect(completed).toEqual([west]));
  expect(d.page.connect.globalResiliency.getActiveRegion()).toBe(west);
  expect(d.page.told.some((t) => t.event === d.page.connect.GlobalResiliencyEvents.FORCE_FAILOVER)).toBe(false);
});

test("the bridge's completion waits for the panel", async () => {
  const d = await desk();
  const completed: string[] = [];
  d.bridge.onFailoverCompleted(({ activeRegion }) => completed.push(activeRegion));
  d.server.tell("failoverDetected", { failoverId: "f1", nextActiveRegion: west });
  d.server.tell("failoverCompleted", { failoverId: "f1", activeRegion: west, activeCcpUrl: ccpUrl[west], previousRegion: east, forced: false, evidence: "inferred", clear: [] });
  await waitFor(() => expect(d.failover.getActiveRegion()).toBe(west));
  expect(completed).toEqual([]);
  d.page.switches(west);
  await waitFor(() => { d.clock.advance(200); expect(completed).toEqual([west]); });
});

test("a forced failover is forwarded to the panels, once, and not when the panel moved by itself", async () => {
  const d = await desk();
  const forces = () => d.page.told.filter((t) => t.event === d.page.connect.GlobalResiliencyEvents.FORCE_FAILOVER).length;
  d.page.update(east, [call]);
  d.page.detected(west);
  d.server.tell("failoverDetected", { failoverId: "f1", nextActiveRegion: west });
  d.server.tell("failoverCompleted", { failoverId: "f1", activeRegion: west, activeCcpUrl: ccpUrl[west], previousRegion: east, forced: true, evidence: "forced", clear: [] });
  await waitFor(() => { d.clock.advance(200); expect(forces()).toBe(2); }); // one to each panel
  d.page.switches(west);
  d.server.tell("failoverDetected", { failoverId: "f2", nextActiveRegion: east });
  d.page.switches(east);
  d.server.tell("failoverCompleted", { failoverId: "f2", activeRegion: east, activeCcpUrl: ccpUrl[east], previousRegion: west, forced: true, evidence: "forced", clear: [] });
  await waitFor(() => expect(d.failover.getActiveRegion()).toBe(east));
  d.clock.advance(1_000);
  await new Promise((r) => setTimeout(r, 20));
  expect(forces()).toBe(2);
});

test("service and panel may disagree for six minutes; then the desktop is told, and when it is over", async () => {
  const d = await desk();
  const seen: (Disagreement | null)[] = [];
  d.bridge.onDisagreement((x) => seen.push(x));
  d.server.tell("failoverDetected", { failoverId: "f1", nextActiveRegion: west });
  d.server.tell("failoverCompleted", { failoverId: "f1", activeRegion: west, activeCcpUrl: ccpUrl[west], previousRegion: east, forced: false, evidence: "inferred", clear: [] });
  await waitFor(() => expect(d.failover.getActiveRegion()).toBe(west));
  const since = new Date(d.clock.now());
  d.clock.advance(6 * 60_000 - 1_000);
  expect(seen).toEqual([]);
  d.clock.advance(1_000);
  expect(seen).toEqual([{ serverRegion: west, ccpRegion: east, since }]);
  d.clock.advance(600_000);
  expect(seen.length).toBe(1);
  d.page.switches(west);
  await waitFor(() => { d.clock.advance(200); expect(seen.length).toBe(2); });
  expect(seen[1]).toBeNull();
});

test("a standby panel that does not answer is reported, after Streams itself would have given up", async () => {
  const d = await desk({ before: (_, page) => page.silent.add(west) });
  d.page.detected(west); // so that its Region is known
  d.server.tell("failoverDetected", { failoverId: "f1", nextActiveRegion: west });
  await reported(d, { ...settled, nextActiveRegion: west, standby: { region: west, ready: null } });
  d.clock.advance(31_000);
  await reported(d, { ...settled, nextActiveRegion: west, standby: { region: west, ready: false, reason: "The standby CCP has not answered since the page was opened." } });
});

test("a regional sign-in is reported with Streams' type, and when it is mended", async () => {
  const d = await desk();
  await reported(d, settled);
  d.page.say(east, d.page.connect.GlobalResiliencyEvents.GLOBAL_SIGNIN_INVALID, { errorType: "LILY_AGENT_CONFIG_MISSING", error: "[GR] Global signin authentication not found" });
  await reported(d, { ...settled, configureError: { code: "LILY_AGENT_CONFIG_MISSING", message: "[GR] Global signin authentication not found" } });
  d.page.say(west, d.page.connect.GlobalResiliencyEvents.GLOBAL_SIGNIN_VALID, {}); // which says nothing of the other panel's
  expect(d.bridge.getReport().configureError).toMatchObject({ code: "LILY_AGENT_CONFIG_MISSING" });
  d.page.say(east, d.page.connect.GlobalResiliencyEvents.GLOBAL_SIGNIN_VALID, {});
  await reported(d, settled);
});

test.each([
  ["secondaryCCPUrl", { enableGlobalResiliency: true, loginUrl: "https://l/" }, "SECONDARY_CCP_URL_MISSING"],
  ["loginUrl", { enableGlobalResiliency: true, secondaryCCPUrl: ccpUrl[west] }, "LOGIN_URL_MISSING"],
])("initCCP without %s is reported", async (_, options, code) => {
  const server = await service();
  const page = new Page();
  const failover = createFailoverClient({ endpoints: [server.url], agentId });
  const clock = new Clock();
  page.init(options);
  const bridge = bridgeStreams(page.connect as StreamsApi, failover, { clock });
  cleanups.push(() => { bridge.close(); failover.close(); });
  page.say(east, page.connect.EventType.ACKNOWLEDGE, { id: "port" });
  page.update(east);
  await waitFor(() => { clock.advance(200); expect(server.reports.at(-1)).toMatchObject({ configureError: { code }, contactsRegion: east }); });
  expect(server.reports.at(-1)!.activeRegion).toBeUndefined();
});

test("without Global Resiliency contacts are reported, no Region, and nothing is forced", async () => {
  const d = await desk({ resilient: false });
  d.page.update(east, [call]);
  await reported(d, { contacts: [asReported], contactsRegion: east });
  const completed: string[] = [];
  d.bridge.onFailoverCompleted(({ activeRegion }) => completed.push(activeRegion));
  d.server.tell("failoverDetected", { failoverId: "f1", nextActiveRegion: west });
  d.server.tell("failoverCompleted", { failoverId: "f1", activeRegion: west, activeCcpUrl: ccpUrl[west], previousRegion: east, forced: true, evidence: "forced", clear: [] });
  await waitFor(() => expect(completed).toEqual([west]));
  d.clock.advance(1_000);
  expect(d.page.told.some((t) => t.event === d.page.connect.GlobalResiliencyEvents.FORCE_FAILOVER)).toBe(false);
});

test("a report that is refused is told, and tried again", async () => {
  const d = await desk({ before: (s) => s.answers(400) });
  const errors: string[] = [];
  d.bridge.onReportError((e) => errors.push(`${e.code}: ${e.message} (${e.requestId})`));
  d.page.update(east, [call]);
  await waitFor(() => { d.clock.advance(200); expect(errors).toContain("invalid-request: west is no Region (r1)"); });
  d.server.answers(202);
  d.clock.advance(60_000);
  await reported(d, { ...settled, contacts: [asReported] });
});

test("closed, it does nothing more", async () => {
  const d = await desk();
  await reported(d, settled);
  const n = d.server.reports.length;
  d.bridge.close();
  d.page.update(east, [call]);
  d.clock.advance(600_000);
  await new Promise((r) => setTimeout(r, 50));
  expect(d.server.reports.length).toBe(n);
  expect(d.page.loads, "it never reloads the page").toBe(0);
});
