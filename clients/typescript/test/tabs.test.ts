// Tabs that share a connection. Channels, ports and fetch are Node's own; locks, the page and the way to a SharedWorker are played, as far as
// Node has none. Eight tabs in a real browser: web/desktop.
import http from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { createFailoverClient, type FailoverClient, type FailoverClientOptions } from "../src/index.js";
import { hurry } from "./fault/timing.js";
import { waitFor } from "./wait.js";

const agentId = "a1";
const east = "us-east-1";
const west = "us-west-2";
const cleanups: (() => void)[] = [];

/** One holder at a time, in the order of the requests. */
class Locks {
  readonly #queues = new Map<string, (() => Promise<void>)[]>();
  request(name: string, { signal }: { signal: AbortSignal }, f: () => Promise<void>): Promise<void> {
    return new Promise((resolve, reject) => {
      const queue = this.#queues.get(name) ?? [];
      this.#queues.set(name, queue);
      const turn = async () => {
        resolve(await f());
        queue.shift();
        void queue[0]?.();
      };
      signal.addEventListener("abort", () => {
        const i = queue.indexOf(turn);
        if (i > 0) queue.splice(i, 1);
        reject(signal.reason as Error);
      });
      queue.push(turn);
      if (queue.length === 1) void turn();
    });
  }
}

beforeAll(() => hurry({ firstByte: 1_000 }));
beforeEach(() => {
  vi.stubGlobal("document", Object.assign(new EventTarget(), { visibilityState: "visible" }));
  vi.stubGlobal("navigator", { locks: new Locks() });
});
afterEach(() => {
  for (const f of cleanups.splice(0).reverse()) f();
  vi.unstubAllGlobals();
});

/** A service with a log; it counts the streams that are open and that ever were. */
async function service() {
  const log: string[] = [];
  const open = new Set<http.ServerResponse>();
  const tokens: (string | undefined)[] = [];
  let opened = 0;
  let most = 0;
  const frame = (id: number, event: string, d: object) => `id: log-1-${id}\nevent: ${event}\ndata: ${JSON.stringify({ agentId, time: "t", ...d })}\n\n`;
  const s = http.createServer((request, response) => {
    opened++;
    tokens.push(request.headers.authorization);
    open.add(response);
    most = Math.max(most, open.size);
    response.on("close", () => { open.delete(response); clearInterval(beat); });
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write("retry: 10\n\n");
    const from = /lastEventId=log-1-(\d+)/.exec(request.url!);
    if (from) for (const f of log.slice(Number(from[1]))) response.write(f);
    else response.write(frame(log.length, "snapshot", { activeRegion: east, activeCcpUrl: null, state: "active", configureErrors: [] }));
    const beat = setInterval(() => response.write(": heartbeat\n\n"), 40);
  });
  await new Promise<void>((resolve) => s.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => { s.closeAllConnections(); s.close(); });
  return {
    url: `http://127.0.0.1:${(s.address() as AddressInfo).port}`, open, tokens,
    opened: () => opened, most: () => most,
    happens: (event: string, d: object) => {
      const f = frame(log.length + 1, event, d);
      log.push(f);
      for (const r of open) r.write(f);
    },
  };
}

interface Tab { failover: FailoverClient; seen: string[] }

function tab(url: string, more: Partial<FailoverClientOptions> = {}): Tab {
  const failover = createFailoverClient({ endpoints: [url], agentId, heartbeat: 2_000, ...more });
  cleanups.push(() => failover.close());
  const seen: string[] = [];
  failover.onFailoverDetected((d) => seen.push(`detected ${d.failoverId}`));
  failover.onFailoverPending((d) => seen.push(`pending ${d.failoverId}`));
  failover.onFailoverCompleted((d) => seen.push(`completed ${d.failoverId}`));
  return { failover, seen };
}
const all = (tabs: Tab[], want: string[]) => waitFor(() => { for (const t of tabs) expect(t.seen).toEqual(want); });
const ready = (tabs: Tab[]) => waitFor(() => {
  for (const t of tabs) expect([t.failover.getActiveRegion(), t.failover.getConnectionState().state]).toEqual([east, "open"]);
});
const detected = { failoverId: "f1", nextActiveRegion: west };
const pending = { ...detected, contactIds: ["c"] };

let copy = 0;
let loading = Promise.resolve(); // one module at a time: each leaves its onconnect in the same place

/** SharedWorkers by name, each a fresh copy of the module. */
function workers(fail = false): void {
  const running = new Map<string, Promise<(e: { ports: MessagePort[] }) => void>>();
  vi.stubGlobal("SharedWorker", class {
    readonly port: MessagePort;
    onerror: (() => void) | undefined;
    constructor(_: string, { name }: { name: string }) {
      const { port1, port2 } = new MessageChannel();
      this.port = port1;
      if (fail) return void setTimeout(() => this.onerror?.(), 5);
      if (!running.has(name)) {
        const loaded = loading.then(async () => {
          await import(/* @vite-ignore */ `../src/worker.js?copy=${++copy}`);
          return (globalThis as unknown as { onconnect: (e: { ports: MessagePort[] }) => void }).onconnect;
        });
        loading = loaded.then(() => {});
        running.set(name, loaded);
      }
      void running.get(name)!.then((onconnect) => onconnect({ ports: [port2] }));
      cleanups.push(() => { port1.close(); port2.close(); });
    }
  });
}

for (const how of ["locks", "worker"] as const) {
  const options = how === "worker" ? { worker: "/worker.js" } : {};
  const prepare = () => how === "worker" && workers();

  test(`${how}: eight tabs and one connection`, async () => {
    prepare();
    const s = await service();
    const tabs = Array.from({ length: 8 }, () => tab(s.url, options));
    await ready(tabs);
    s.happens("failoverDetected", detected);
    s.happens("failoverPending", pending);
    await all(tabs, ["detected f1", "pending f1"]);
    expect(s.most()).toBe(1);
  });

  test(`${how}: a tab that joins knows at once where things stand`, async () => {
    prepare();
    const s = await service();
    const first = tab(s.url, options);
    await ready([first]);
    s.happens("failoverDetected", detected);
    s.happens("failoverPending", pending);
    await all([first], ["detected f1", "pending f1"]);
    const second = tab(s.url, options);
    await all([second], ["detected f1", "pending f1"]);
    expect(second.failover.getStatus()).toEqual(first.failover.getStatus());
    expect(second.failover.getConnectionState().state).toBe("open");
    s.happens("failoverCompleted", { ...detected, activeRegion: west, activeCcpUrl: null, previousRegion: east, forced: false, evidence: "inferred", clear: [] });
    await all([first, second], ["detected f1", "pending f1", "completed f1"]);
    expect(s.opened()).toBe(1);
  });

  test(`${how}: one tab after the other closes, and no event is lost or told twice`, async () => {
    prepare();
    const s = await service();
    const tabs = Array.from({ length: 4 }, () => tab(s.url, options));
    await ready(tabs);
    const want: string[] = [];
    while (tabs.length > 1) {
      const id = `f${want.length}`;
      s.happens("failoverDetected", { ...detected, failoverId: id });
      want.push(`detected ${id}`);
      tabs.shift()!.failover.close();
      s.happens("failoverPending", { ...pending, failoverId: id });
      want.push(`pending ${id}`);
      await all(tabs, want);
    }
    tabs[0]!.failover.close();
    await waitFor(() => expect(s.open.size).toBe(0));
  });

  test(`${how}: the token of a tab serves all`, async () => {
    prepare();
    const s = await service();
    const tabs = [0, 1, 2].map((n) => tab(s.url, { ...options, token: async () => `of-${n}` }));
    await ready(tabs);
    expect(s.tokens.length).toBe(1);
    expect(s.tokens[0]).toMatch(/^Bearer of-[012]$/);
  });

  test(`${how}: tabs of different agents share nothing`, async () => {
    prepare();
    const s = await service();
    const one = tab(s.url, options);
    const other = createFailoverClient({ endpoints: [s.url], agentId: "b", heartbeat: 2_000, ...options });
    cleanups.push(() => other.close());
    const reasons: string[] = [];
    other.onConnectionState((x) => reasons.push(x.reason));
    await ready([one]);
    await waitFor(() => expect(reasons).toContain("protocol")); // the service knows one agent
    expect(other.getActiveRegion()).toBeNull();
  });
}

test("a page that is put away and brought back says what changed meanwhile", async () => {
  const target = new EventTarget();
  vi.stubGlobal("addEventListener", target.addEventListener.bind(target));
  vi.stubGlobal("removeEventListener", target.removeEventListener.bind(target));
  vi.stubGlobal("dispatchEvent", target.dispatchEvent.bind(target));
  const window = globalThis as unknown as EventTarget;
  const s = await service();
  const t = tab(s.url);
  await ready([t]);
  window.dispatchEvent(new Event("pagehide"));
  await waitFor(() => expect(s.open.size).toBe(0));
  s.happens("failoverDetected", detected);
  window.dispatchEvent(Object.assign(new Event("pageshow"), { persisted: true }));
  await all([t], ["detected f1"]);
  window.dispatchEvent(new Event("online"));
  await waitFor(() => expect(s.opened()).toBe(3));
});

test("the network comes back for all tabs, and there is one attempt", async () => {
  const target = new EventTarget();
  vi.stubGlobal("addEventListener", target.addEventListener.bind(target));
  vi.stubGlobal("removeEventListener", target.removeEventListener.bind(target));
  const s = await service();
  const tabs = Array.from({ length: 8 }, () => tab(s.url));
  await ready(tabs);
  target.dispatchEvent(new Event("online"));
  await waitFor(() => expect(s.opened()).toBe(2));
  await ready(tabs);
  await new Promise((r) => setTimeout(r, 100));
  expect(s.opened()).toBe(2);
});

test("share: false keeps a connection of its own, and a worker that cannot be had is done without", async () => {
  const s = await service();
  const own = [tab(s.url, { share: false }), tab(s.url, { share: false })];
  await ready(own);
  expect(s.most()).toBe(2);
  for (const t of own) t.failover.close();
  workers(true);
  const before = s.opened();
  const tabs = [tab(s.url, { worker: "/missing.js" }), tab(s.url, { worker: "/missing.js" })];
  await ready(tabs);
  expect(s.opened()).toBe(before + 1);
});
