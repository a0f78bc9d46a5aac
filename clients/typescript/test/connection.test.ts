// What a connection does when something is wrong, one thing at a time. The servers are real ones on loopback; time is a hundred times as fast.
import http from "node:http";
import net from "node:net";
import { afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { createFailoverClient, type ConnectionState, type FailoverClient, type FailoverClientOptions } from "../src/index.js";
import { timing } from "../src/connection.js";
import { hurry } from "./fault/timing.js";
import { waitFor } from "./wait.js";

const agentId = "a1";
const east = "us-east-1";
const west = "us-west-2";
const cleanups: (() => void)[] = [];

beforeAll(() => hurry({ firstByte: 1_000 })); // a busy machine is none that keeps silent
afterEach(() => {
  for (const f of cleanups.splice(0).reverse()) f();
});

interface Request { url: URL; headers: http.IncomingHttpHeaders; method: string; body: string; at: number }
type Answer = (response: http.ServerResponse, request: Request, n: number) => void;

/** A server that answers as the test says, and keeps what it was asked. */
async function server(answer: Answer) {
  const requests: Request[] = [];
  const s = http.createServer((request, response) => {
    let body = "";
    request.on("data", (b: Buffer) => { body += String(b); });
    request.on("end", () => {
      const r = { url: new URL(request.url!, "http://x"), headers: request.headers, method: request.method!, body, at: performance.now() };
      requests.push(r);
      answer(response, r, requests.length);
    });
  });
  s.keepAliveTimeout = 1;
  await new Promise<void>((resolve) => s.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => { s.closeAllConnections(); s.close(); });
  return { url: `http://127.0.0.1:${(s.address() as net.AddressInfo).port}`, requests, set: (a: Answer) => { answer = a; }, cut: () => s.closeAllConnections() };
}

const data = (d: object) => JSON.stringify({ agentId, time: "2026-11-21T10:15:30.250Z", ...d });
const settled = { activeRegion: east, activeCcpUrl: "https://east/", state: "active", configureErrors: [] };
const frame = (id: number | string, event: string, d: object) => `id: log-1-${id}\nevent: ${event}\ndata: ${data(d)}\n\n`;

/** A good stream: retry, a snapshot unless it resumes, heartbeats. */
const stream = (...frames: string[]): Answer => (response, request) => {
  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
  response.write("retry: 20\n\n");
  if (!request.url.searchParams.has("lastEventId")) response.write(frame(1, "snapshot", settled));
  for (const f of frames) response.write(f);
  const beat = setInterval(() => response.write(": heartbeat\n\n"), 40);
  response.on("close", () => clearInterval(beat));
};
const status = (code: number, headers: Record<string, string> = {}, type = "unavailable"): Answer => (response) => {
  response.writeHead(code, { "content-type": "application/problem+json", ...headers });
  response.end(JSON.stringify({ type: `urn:changeover:problem:${type}`, title: "t", status: code, detail: `it says ${code}`, requestId: "r1" }));
};
const silence: Answer = (response) => { response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders(); };

function client(o: Partial<FailoverClientOptions> & { endpoints: string[] }): { failover: FailoverClient; states: ConnectionState[]; seen: string[] } {
  const failover = createFailoverClient({ agentId, heartbeat: 400, ...o });
  cleanups.push(() => failover.close());
  const states: ConnectionState[] = [];
  const seen: string[] = [];
  failover.onConnectionState((s) => states.push(s));
  failover.onFailoverDetected((d) => seen.push(`detected ${d.nextActiveRegion}`));
  failover.onFailoverPending((d) => seen.push(`pending ${d.contactIds.join()}`));
  failover.onFailoverCompleted((d) => seen.push(`completed ${d.activeRegion}`));
  return { failover, states, seen };
}
const is = (c: { failover: FailoverClient }, state: string, more: object = {}) =>
  waitFor(() => expect(c.failover.getConnectionState()).toMatchObject({ state, ...more }));
/** It is, or was and is not any more. */
const was = (c: { states: ConnectionState[] }, state: string, more: object = {}) =>
  waitFor(() => expect(c.states).toContainEqual(expect.objectContaining({ state, ...more })));

describe("options", () => {
  test.each([
    [{ endpoints: [], agentId }, /endpoints is \[\]; a list of addresses is expected/],
    [{ endpoints: ["ftp://x"], agentId }, /endpoint is "ftp:\/\/x"; an http or https address is expected/],
    [{ endpoints: ["/relative"], agentId }, /endpoint is "\/relative"/],
    [{ endpoints: ["http://x"], agentId: "" }, /agentId is ""/],
    [{ endpoints: ["http://x"], agentId: "a b" }, /agentId is "a b"/],
    [{ endpoints: ["http://x"], agentId, heartbeat: 0 }, /heartbeat is 0; a number of milliseconds is expected/],
  ])("%j is refused, and says what is expected", (o, message) => {
    expect(() => createFailoverClient(o as FailoverClientOptions)).toThrow(message);
  });

  test("addresses may have a path and a slash", async () => {
    const s = await server(stream());
    const c = client({ endpoints: [`${s.url}/changeover/`], agentId: "a%/b" });
    await waitFor(() => expect(s.requests[0]!.url.pathname).toBe("/changeover/v1/agents/a%25%2Fb/events"));
    c.failover.close();
  });
});

describe("callbacks", () => {
  test("are registered and deregistered one by one, and one that throws hurts no other", async () => {
    const s = await server(stream());
    const c = client({ endpoints: [s.url] });
    const calls: string[] = [];
    const errors = vi.spyOn(console, "error").mockImplementation(() => {});
    c.failover.onFailoverDetected(() => { throw new Error("of a callback"); });
    const off = c.failover.onFailoverDetected(() => { calls.push("a"); off(); off(); });
    const twice = () => calls.push("b");
    c.failover.onFailoverDetected(twice);
    const offB = c.failover.onFailoverDetected(twice);
    await is(c, "open");
    s.cut();
    s.set(stream(frame(2, "failoverDetected", { failoverId: "f", nextActiveRegion: west })));
    await waitFor(() => expect(calls).toEqual(["a", "b", "b"]));
    expect(errors).toHaveBeenCalledOnce();
    offB();
    s.cut();
    s.set(stream(frame(3, "failoverDetected", { failoverId: "g", nextActiveRegion: west })));
    await waitFor(() => expect(calls).toEqual(["a", "b", "b", "b"]));
    errors.mockRestore();
    expect(() => c.failover.onFailoverDetected(undefined as never)).toThrow(TypeError);
  });

  test("registered after the client was made hear everything, and nothing after it was closed", async () => {
    const s = await server(stream(frame(2, "failoverDetected", { failoverId: "f", nextActiveRegion: west }), frame(3, "failoverPending", { failoverId: "f", nextActiveRegion: west, contactIds: ["c"] })));
    const c = client({ endpoints: [s.url] });
    c.failover.onFailoverDetected(() => c.failover.close());
    await is(c, "closed");
    await new Promise((r) => setTimeout(r, 50));
    expect(c.seen).toEqual([`detected ${west}`]);
    expect(c.states.at(-1)!.state).toBe("closed");
  });

  test("no completed on initialisation, and the status is there before they are called", async () => {
    const s = await server(stream(frame(2, "failoverPending", { failoverId: "f", nextActiveRegion: west, contactIds: ["c"] })));
    const c = client({ endpoints: [s.url] });
    expect(c.failover.getActiveRegion()).toBeNull();
    const at: unknown[] = [];
    c.failover.onStatus((x) => at.push(x.state));
    c.failover.onFailoverPending(() => at.push(c.failover.getStatus().contactIds));
    await waitFor(() => expect(at).toEqual(["active", "pending", ["c"]]));
    expect(c.seen).toEqual(["pending c"]);
    expect(c.failover.getActiveRegion()).toBe(east);
  });
});

describe("it comes back", () => {
  test.each([400, 401, 403, 404, 429, 500, 502, 503, 504])("after %i, at which an EventSource gives up", async (code) => {
    const s = await server((r, q, n) => (n < 4 ? status(code) : stream())(r, q, n));
    const c = client({ endpoints: [s.url] });
    await is(c, "open");
    expect(c.states.some((x) => x.state === "waiting" && x.error?.status === code && x.retryAt instanceof Date)).toBe(true);
    expect(c.failover.getConnectionState().error).toBeNull();
  });

  test("with waits that grow, and jitter", async () => {
    const s = await server(status(503));
    const c = client({ endpoints: [s.url] });
    const waits: number[] = [];
    c.failover.onConnectionState((x) => { if (x.retryAt) waits.push(x.retryAt.getTime() - x.since.getTime()); });
    await waitFor(() => expect(waits.length).toBeGreaterThan(6));
    // 10, 20, 40, 80, 150, 150: each by half to all. The clock has milliseconds.
    [10, 20, 40, 80, 150, 150].forEach((most, i) => {
      expect(waits[i]!).toBeGreaterThanOrEqual(most / 2 - 2);
      expect(waits[i]!).toBeLessThanOrEqual(Math.max(most, timing.spread) + 1);
    });
  });

  test("not before Retry-After, in seconds or as a date", async () => {
    for (const value of [() => "1", () => new Date(Date.now() + 3_000).toUTCString()]) {
      const s = await server((r, q, n) => (n === 1 ? status(429, { "retry-after": value() }, "too-many-requests") : stream())(r, q, n));
      const c = client({ endpoints: [s.url] });
      await was(c, "waiting", { reason: "too-many-requests" });
      await is(c, "open");
      expect(s.requests[1]!.at - s.requests[0]!.at).toBeGreaterThan(850);
    }
  }, 10_000);

  test("not before retry:, when the stream ends", async () => {
    const s = await server((r, q, n) => {
      if (n > 1) return stream()(r, q, n);
      r.writeHead(200, { "content-type": "text/event-stream" });
      r.end(`retry: 400\n\n${frame(1, "snapshot", settled)}`);
    });
    const c = client({ endpoints: [s.url] });
    await was(c, "waiting", { reason: "ended" });
    await is(c, "open");
    expect(s.requests[1]!.at - s.requests[0]!.at).toBeGreaterThan(390);
    expect(s.requests[1]!.url.searchParams.get("lastEventId")).toBe("log-1-1");
  });

  test("from overload, as long as it is told, without having seemed open", async () => {
    const s = await server((r, q, n) => {
      if (n > 1) return stream()(r, q, n);
      r.writeHead(200, { "content-type": "text/event-stream" });
      r.end(": overload\nretry: 15000\n\n");
    });
    const c = client({ endpoints: [s.url] });
    await was(c, "waiting", { reason: "overloaded" });
    expect(c.failover.getConnectionState().retryAt!.getTime() - Date.now()).toBeGreaterThan(14_000);
    expect(c.states.some((x) => x.state === "open")).toBe(false);
  });

  test("when a stream falls silent: two heartbeats", async () => {
    let beats = 0;
    const s = await server((r, q, n) => {
      if (n > 1) return stream()(r, q, n);
      r.writeHead(200, { "content-type": "text/event-stream" });
      r.write(`retry: 10\n\n${frame(1, "snapshot", settled)}`);
      const beat = setInterval(() => (++beats < 5 ? r.write(": heartbeat\n\n") : clearInterval(beat)), 40);
    });
    const c = client({ endpoints: [s.url] });
    await waitFor(() => expect(s.requests.length).toBe(2));
    await is(c, "open");
    const took = s.requests[1]!.at - s.requests[0]!.at;
    expect(took).toBeGreaterThan(4 * 40 + 800 - 30);
    expect(c.states.some((x) => x.reason === "silent")).toBe(true);
  });

  test("when the machine slept", async () => {
    const s = await server(stream());
    const c = client({ endpoints: [s.url], heartbeat: 600 });
    await is(c, "open");
    const now = Date.now;
    Date.now = () => now() + 3_600_000;
    cleanups.push(() => { Date.now = now; });
    await waitFor(() => expect(s.requests.length).toBe(2));
    expect(c.states.some((x) => x.reason === "woken")).toBe(true);
  });
});

describe("endpoints", () => {
  test("a dead one is left at once, for good", async () => {
    const dead = await new Promise<string>((resolve) => {
      const s = net.createServer().listen(0, "127.0.0.1", () => { const { port } = s.address() as net.AddressInfo; s.close(() => resolve(`http://127.0.0.1:${port}`)); });
    });
    const b = await server(stream());
    const c = client({ endpoints: [dead, b.url] });
    await is(c, "open", { endpoint: b.url });
    b.cut();
    await waitFor(() => expect(b.requests.length).toBe(2));
    await is(c, "open", { endpoint: b.url });
  });

  test("one that falls silent is left for the next, which goes on from the cursor", async () => {
    const a = await server((r) => {
      r.writeHead(200, { "content-type": "text/event-stream" });
      r.write(`retry: 10\n\n${frame(1, "snapshot", settled)}${frame(2, "failoverDetected", { failoverId: "f", nextActiveRegion: west })}`);
    });
    const b = await server(stream(frame(2, "failoverDetected", { failoverId: "f", nextActiveRegion: west }), frame(3, "failoverPending", { failoverId: "f", nextActiveRegion: west, contactIds: ["c"] })));
    const c = client({ endpoints: [a.url, b.url] });
    await is(c, "open", { endpoint: a.url });
    await is(c, "open", { endpoint: b.url });
    expect(b.requests[0]!.url.searchParams.get("lastEventId")).toBe("log-1-2");
    await waitFor(() => expect(c.seen).toEqual([`detected ${west}`, "pending c"]));
  });

  test("one that takes connections and never answers is left", async () => {
    const a = await server(() => {});
    const b = await server(stream());
    const c = client({ endpoints: [a.url, b.url] });
    await is(c, "open", { endpoint: b.url });
  });

  test("when all are down they are asked in turn, with waits", async () => {
    const a = await server(status(503));
    const b = await server(status(503));
    const c = client({ endpoints: [a.url, b.url] });
    await waitFor(() => expect(a.requests.length).toBeGreaterThan(8));
    expect(c.states.filter((x) => x.retryAt).length).toBeGreaterThan(8);
    expect(Math.abs(a.requests.length - b.requests.length)).toBeLessThan(8);
  });

  test("another stack has another log: what changed is told, and nothing else", async () => {
    const pending = { state: "pending", nextActiveRegion: west, failoverId: "of-a", contactIds: ["c"] };
    const a = await server((r) => {
      r.writeHead(200, { "content-type": "text/event-stream" });
      r.write(`retry: 10\n\n${frame(1, "snapshot", { ...settled, ...pending })}`);
    });
    const b = await server((r) => {
      r.writeHead(200, { "content-type": "text/event-stream" });
      r.write(`id: other-0-1\nevent: reset\ndata: ${data({ reason: "other_log" })}\n\nid: other-1-7\nevent: snapshot\ndata: ${data({ ...settled, ...pending, failoverId: "of-b" })}\n\n`);
      setInterval(() => r.write(": heartbeat\n\n"), 40).unref();
    });
    const c = client({ endpoints: [a.url, b.url] });
    await is(c, "open", { endpoint: b.url });
    expect(c.seen).toEqual([`detected ${west}`, "pending c"]);
    expect(c.failover.getStatus().failoverId).toBe("of-b");
  });
});

describe("streams that are blocked", () => {
  const polls = (items: object[] = []): Answer => (r, q) => {
    const wait = parseInt(q.url.searchParams.get("wait")!);
    setTimeout(() => r.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ items, nextCursor: "log-1-9" })), items.length ? 0 : wait);
  };
  const isPoll = (q: Request) => q.headers.accept === "application/json";

  test.each<[string, Answer]>([
    ["406", status(406)],
    ["the page of a proxy", (r) => r.writeHead(200, { "content-type": "text/html" }).end("<h1>no</h1>")],
    ["a proxy that buffers", silence],
    ["a proxy that keeps even the headers", () => {}],
    ["a proxy that lets the beginning through and then buffers", (r) => { r.writeHead(200, { "content-type": "text/event-stream" }).write("retry: 10\n\n"); }],
  ])("%s: long polls take over", async (_, blocking) => {
    const first = [{ id: "log-1-1", event: "snapshot", data: JSON.parse(data(settled)) as object }];
    const s = await server((r, q, n) => {
      if (!isPoll(q)) return blocking(r, q, n);
      polls(q.url.searchParams.get("after") === "-" ? first : q.url.searchParams.get("after") === "log-1-1"
        ? [{ id: "log-1-2", event: "failoverDetected", data: JSON.parse(data({ failoverId: "f", nextActiveRegion: west })) as object }] : [])(r, q, n);
    });
    const c = client({ endpoints: [s.url] });
    await is(c, "polling", { reason: "blocked", error: null });
    await waitFor(() => expect(c.seen).toEqual([`detected ${west}`]));
    expect(c.failover.getActiveRegion()).toBe(east);
    await waitFor(() => expect(s.requests.filter(isPoll).at(-1)!.url.searchParams.get("after")).toBe("log-1-2"));
  });

  test("and streaming comes back when it can, without an event lost or told twice", async () => {
    let blocked = true;
    let n = 1;
    const log: string[] = [];
    const s = await server((r, q) => {
      if (isPoll(q)) {
        const after = Number(/-(\d+)$/.exec(q.url.searchParams.get("after")!)?.[1] ?? 0);
        const items = after === 0 ? [{ id: "log-1-1", event: "snapshot", data: JSON.parse(data(settled)) as object }]
          : log.slice(after - 1).map((x, i) => ({ id: `log-1-${after + 1 + i}`, event: "failoverPendingUpdated", data: JSON.parse(x) as object }));
        return polls(items)(r, q, 0);
      }
      if (blocked) return silence(r, q, 0);
      r.writeHead(200, { "content-type": "text/event-stream" });
      r.write("retry: 10\n\n");
      let at = Number(/-(\d+)$/.exec(q.url.searchParams.get("lastEventId")!)![1]);
      const feed = setInterval(() => {
        while (at <= log.length) { r.write(`id: log-1-${at + 1}\nevent: failoverPendingUpdated\ndata: ${log[at - 1]!}\n\n`); at++; }
        r.write(": heartbeat\n\n");
      }, 30);
      r.on("close", () => clearInterval(feed));
    });
    const c = client({ endpoints: [s.url] });
    const updates: string[] = [];
    c.failover.onFailoverPendingUpdated((d) => updates.push(d.contactIds.join()));
    await is(c, "polling");
    const happening = setInterval(() => log.push(data({ failoverId: "f", nextActiveRegion: west, contactIds: [`c${++n}`] })), 20);
    cleanups.push(() => clearInterval(happening));
    await new Promise((r) => setTimeout(r, 300));
    blocked = false;
    await is(c, "open");
    await new Promise((r) => setTimeout(r, 200));
    clearInterval(happening);
    await waitFor(() => expect(updates.length).toBe(log.length));
    expect(updates).toEqual(log.map((x) => (JSON.parse(x) as { contactIds: string[] }).contactIds.join()));
    const polled = s.requests.filter(isPoll).length;
    await new Promise((r) => setTimeout(r, 400));
    expect(s.requests.filter(isPoll).length, "it polls no more").toBe(polled);
    expect(c.failover.getConnectionState().state).toBe("open");
  });

  test("an endpoint that is down is not taken for one that blocks", async () => {
    const s = await server(() => {});
    const c = client({ endpoints: [s.url] });
    await was(c, "waiting", { reason: "timeout" });
    expect(c.states.some((x) => x.state === "polling")).toBe(false);
    s.set(stream());
    await is(c, "open");
  });
});

describe("who it is", () => {
  test("a token is asked for once, goes in a header, and never into an address", async () => {
    const s = await server(stream());
    const token = vi.fn(async () => "ey.to.ken");
    const c = client({ endpoints: [s.url], token });
    await is(c, "open");
    s.cut();
    await waitFor(() => expect(s.requests.length).toBe(2));
    expect(token.mock.calls).toEqual([[{ renew: false }]]);
    for (const r of s.requests) {
      expect(r.headers.authorization).toBe("Bearer ey.to.ken");
      expect(r.url.search).not.toContain("ken");
    }
  });

  test("a refused token is renewed at once; a second refusal is waited for", async () => {
    const s = await server((r, q, n) => (q.headers.authorization === "Bearer 2" ? stream() : status(401, {}, "unauthenticated"))(r, q, n));
    let n = 0;
    const asked: boolean[] = [];
    const c = client({ endpoints: [s.url], token: ({ renew }) => { asked.push(renew); return String(n++); } });
    await is(c, "open");
    expect(asked).toEqual([false, true, true]);
    expect(c.states.map((x) => `${x.state} ${x.reason}`)).toEqual([
      "connecting started", "connecting unauthenticated", "waiting unauthenticated", "connecting unauthenticated", "open connected",
    ]);
  });

  test("a token that is about to expire is renewed before it does, and nothing is missed", async () => {
    const s = await server((r, q, n) => {
      stream()(r, q, n);
      if (n === 1) setTimeout(() => r.write(frame(1, "draining", { reason: "token_expiring" })), 200);
    });
    const asked: boolean[] = [];
    const c = client({ endpoints: [s.url], token: async ({ renew }) => { asked.push(renew); return renew ? "new" : "old"; } });
    await waitFor(() => expect(s.requests.length).toBe(2));
    await is(c, "open");
    expect(asked).toEqual([false, true]);
    expect(s.requests[1]!.headers.authorization).toBe("Bearer new");
    expect(s.requests[1]!.url.searchParams.get("lastEventId")).toBe("log-1-1");
    expect(c.states.some((x) => x.state === "waiting")).toBe(false);
  });

  test("each stream takes a ticket of its own", async () => {
    const s = await server(stream());
    let n = 0;
    const c = client({ endpoints: [s.url], ticket: async () => `t${++n}` });
    await is(c, "open");
    s.cut();
    await waitFor(() => expect(s.requests.length).toBe(2));
    expect(s.requests.map((r) => r.url.searchParams.get("ticket"))).toEqual(["t1", "t2"]);
    expect(s.requests[0]!.headers.authorization).toBeUndefined();
  });

  test("the cookie is sent if it is asked for", async () => {
    const s = await server(stream());
    const given: RequestInit[] = [];
    const c = client({ endpoints: [s.url], credentials: "include", fetch: (u, i) => { given.push(i!); return fetch(u, i); } });
    await is(c, "open");
    expect(given[0]).toMatchObject({ credentials: "include", redirect: "error", cache: "no-store" });
  });

  test("a function that fails, hangs or returns nonsense is told, and its value is not", async () => {
    const s = await server(stream());
    const answers: (() => unknown)[] = [() => { throw new Error("away"); }, () => Promise.reject(new Error("away")), () => undefined, () => "not a token", () => "good"];
    const c = client({ endpoints: [s.url], token: (() => answers.shift()!()) as () => string });
    await is(c, "open");
    expect(s.requests.length).toBe(1);
    const messages = c.states.flatMap((x) => (x.error ? [`${x.error.code}: ${x.error.message}`] : []));
    expect(new Set(messages)).toEqual(new Set(["token: The function token failed.", "token: The function token returned undefined.", "token: The function token returned no token."]));
    expect(JSON.stringify(c.states)).not.toContain("not a");
    const hanging = client({ endpoints: [s.url], token: () => new Promise(() => {}) });
    await is(hanging, "connecting");
    hanging.failover.close();
    await is(hanging, "closed");
  });

  test("an event of another agent is told to nobody", async () => {
    const s = await server((r, q, n) => {
      stream(...(n === 1 ? [`id: log-1-2\nevent: failoverDetected\ndata: {"agentId":"b","time":"t","failoverId":"f","nextActiveRegion":"${west}"}\n\n`] : []))(r, q, n);
    });
    const c = client({ endpoints: [s.url] });
    await was(c, "waiting", { reason: "protocol" });
    await is(c, "open");
    expect(c.seen).toEqual([]);
    expect(s.requests[1]!.url.searchParams.get("lastEventId")).toBe("log-1-1");
  });
});

describe("requests", () => {
  const open = async (answer: Answer, more: Partial<FailoverClientOptions> = {}) => {
    const s = await server((r, q, n) => (q.url.pathname.endsWith("/events")
      ? stream(frame(2, "failoverPending", { failoverId: "f1", nextActiveRegion: west, contactIds: ["c"] })) : answer)(r, q, n));
    const c = client({ endpoints: [s.url], ...more });
    await waitFor(() => expect(c.seen).toEqual(["pending c"]));
    return { ...c, requests: () => s.requests.filter((r) => !r.url.pathname.endsWith("/events")) };
  };
  const json = (body: unknown, code = 200): Answer => (r) => r.writeHead(code, { "content-type": "application/json" }).end(JSON.stringify(body));

  test("a force names the failover and the reason, and gives the failover", async () => {
    const c = await open(json({ failoverId: "f1", status: "completed" }, 202), { token: () => "t" });
    expect(await c.failover.forceFailover({ reason: "the caller agreed" })).toEqual({ failoverId: "f1", status: "completed" });
    const [r] = c.requests();
    expect(r).toMatchObject({ method: "POST", body: '{"reason":"the caller agreed"}' });
    expect(r!.url.pathname).toBe("/v1/failovers/f1/force");
    expect(r!.headers).toMatchObject({ authorization: "Bearer t", "content-type": "application/json", "idempotency-key": expect.stringMatching(/^[0-9a-f]{32}$/) as unknown });
  });

  test("what the service refuses is a typed error, with what it said", async () => {
    const c = await open(status(409, {}, "failover-not-open"));
    await expect(c.failover.forceFailover({ reason: "r" })).rejects.toMatchObject({
      name: "ChangeoverError", code: "failover-not-open", status: 409, message: "it says 409", requestId: "r1", problem: { title: "t" },
    });
    expect(c.requests().length).toBe(1);
  });

  test("nothing to force is no request", async () => {
    const s = await server(stream());
    const c = client({ endpoints: [s.url] });
    await is(c, "open");
    await expect(c.failover.forceFailover({ reason: "r" })).rejects.toMatchObject({ code: "failover-not-open", status: 0 });
    expect(s.requests.length).toBe(1);
  });

  test("what got no answer is repeated with the same key, so that it happens once", async () => {
    let n = 0;
    const c = await open((r, q) => (++n < 3 ? (n === 1 ? r.destroy() : status(503, { "retry-after": "1" })(r, q, 0)) : json({ failoverId: "f1" }, 202)(r, q, 0)));
    await c.failover.forceFailover({ reason: "r" });
    const keys = c.requests().map((r) => r.headers["idempotency-key"]);
    expect(keys.length).toBe(3);
    expect(new Set(keys).size).toBe(1);
  });

  test("a refused token is renewed for a request too", async () => {
    const c = await open((r, q, n) => (q.headers.authorization === "Bearer new" ? json({}, 202) : status(401, {}, "unauthenticated"))(r, q, n), { token: ({ renew }) => (renew ? "new" : "old") });
    await c.failover.report({ activeRegion: east });
    expect(c.requests().map((r) => r.headers.authorization)).toEqual(["Bearer old", "Bearer new"]);
  });

  test("one log of each Region, under its name", async () => {
    const c = await open((r, q, n) => {
      const region = /logs\/(.*)$/.exec(q.url.pathname)?.[1];
      if (!region) return json({ regions: [east, west] })(r, q, n);
      r.writeHead(200, { "content-type": "text/plain" }).end(`log of ${region}`);
    });
    expect(await c.failover.downloadLogs()).toEqual([
      { region: east, name: "us-east-1-agent-log.txt", text: "log of us-east-1" }, { region: west, name: "us-west-2-agent-log.txt", text: "log of us-west-2" },
    ]);
    expect((await c.failover.downloadLogs({ logName: "jane" })).map((l) => l.name)).toEqual(["us-east-1-jane.txt", "us-west-2-jane.txt"]);
  });

  test("a closed client asks for nothing", async () => {
    const c = await open(json({}));
    c.failover.close();
    await expect(c.failover.report({})).rejects.toMatchObject({ code: "closed" });
    expect(c.requests()).toEqual([]);
  });
});
