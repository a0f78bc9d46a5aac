// A server that misbehaves: a process of its own, one world for each seed, each with its own event log, ports and faults. It speaks what
// api/openapi.yaml says of /v1/agents/{agentId}/events, when it speaks.
//
// From the parent: {start: seed} makes a world, {go: seed} lets things happen, {calm: seed} ends the faults, {end: seed} the world.
// To the parent: {seed, agentId, endpoints}, and {seed, log} when everything has happened.
import http from "node:http";

const regions = ["us-east-1", "us-west-2"];

/** Addresses of its own, where the system has them: while a server is down nobody else takes its port. */
const host = (seed) => (process.platform === "linux" ? `127.${1 + (process.pid >> 8) % 250}.${process.pid & 255}.${1 + (seed % 250)}` : "127.0.0.1");

/** Random numbers that are the same for the same seed (mulberry32). */
export function random(seed) {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

class World {
  constructor(seed) {
    this.seed = seed;
    this.agentId = `agent-${process.pid}-${seed}`; // so that no other server's events can be taken for this one's
    this.random = random(seed);
    this.log = [];
    this.epoch = 1;
    this.state = { active: regions[0], failover: null, errors: [] };
    this.calm = false;
    this.left = 15 + this.below(25); // events that will happen
    this.streams = new Set();
    this.endpoints = Array.from({ length: 1 + (seed % 2) }, () => new Endpoint(this));
  }

  below(n) { return Math.floor(this.random() * n); }
  chance(p) { return this.random() < p; }
  pick(...of) { return of[this.below(of.length)]; }

  /** The next thing that happens to the agent. The order is that of the service: detected, pending and updates, one end. */
  happen() {
    const s = this.state;
    const f = s.failover;
    const to = regions.find((r) => r !== s.active);
    const contactIds = () => Array.from({ length: 1 + this.below(3) }, (_, i) => `c${i}-${this.below(1e6)}`);
    if (this.chance(0.15)) {
      const code = s.errors.pop();
      if (code) return this.append("configureErrorCleared", { code });
      s.errors.push("ACCESS_DENIED");
      return this.append("configureError", { code: "ACCESS_DENIED", message: `no. ${this.log.length}: é → 🚀` });
    }
    if (!f) {
      if (this.chance(0.1)) return this.append("failoverStalled", { failoverId: "old", activeRegion: null });
      s.failover = { id: `f${this.log.length}`, pending: false };
      return this.append("failoverDetected", { failoverId: s.failover.id, nextActiveRegion: to });
    }
    if (this.chance(0.1)) {
      f.paused = !f.paused;
      if (!f.paused) return this.append("failoverResumed", { failoverId: f.id, nextActiveRegion: to });
      return this.append("failoverPaused", { failoverId: f.id, nextActiveRegion: to, reason: "r", until: "2026-11-21T11:00:00Z" });
    }
    if (!f.pending && this.chance(0.7)) {
      f.pending = true;
      return this.append("failoverPending", { failoverId: f.id, nextActiveRegion: to, contactIds: (f.contactIds = contactIds()) });
    }
    if (f.pending && this.chance(0.5)) {
      return this.append("failoverPendingUpdated", { failoverId: f.id, nextActiveRegion: to, contactIds: (f.contactIds = contactIds()) });
    }
    s.failover = null;
    if (this.chance(0.3)) return this.append("failoverCancelled", { failoverId: f.id, activeRegion: s.active, cancelledRegion: to });
    const previousRegion = s.active;
    s.active = to;
    this.append("failoverCompleted", {
      failoverId: f.id, activeRegion: to, activeCcpUrl: `https://${to}/`, previousRegion, forced: this.chance(0.2), evidence: "inferred", clear: [],
    });
  }

  append(event, data) {
    if (this.chance(0.05)) this.epoch++;
    this.log.push({
      id: `log-${this.epoch}-${this.log.length + 1}`, event, data: { agentId: this.agentId, time: "2026-11-21T10:15:30.250Z", ...data },
    });
    for (const s of this.streams) s.feed();
  }

  snapshot() {
    const { active, failover: f, errors } = this.state;
    return {
      id: `log-${this.epoch}-${this.log.length}`, event: "snapshot",
      data: {
        agentId: this.agentId, time: "2026-11-21T10:15:30.250Z", activeRegion: active, activeCcpUrl: `https://${active}/`,
        state: f ? (f.pending ? "pending" : "detected") : "active",
        ...(f && { failoverId: f.id, nextActiveRegion: regions.find((r) => r !== active), contactIds: f.contactIds }),
        ...(f?.paused && { paused: { reason: "r", until: "2026-11-21T11:00:00Z" } }),
        configureErrors: errors.map((code) => ({ code, message: "m" })),
      },
    };
  }

  go() {
    const next = () => {
      if (this.left-- <= 0) return process.send({ seed: this.seed, log: this.log });
      this.happen();
      this.timer = setTimeout(next, this.below(60));
    };
    next();
  }

  end() {
    clearTimeout(this.timer);
    for (const e of this.endpoints) e.end();
  }
}

/** One address of a world. */
class Endpoint {
  constructor(world) {
    this.world = world;
    this.sockets = new Set();
  }

  /** Listens, again on the same port. */
  listen() {
    return new Promise((resolve) => {
      this.server = http.createServer((request, response) => this.serve(request, response));
      this.server.on("connection", (s) => {
        this.sockets.add(s);
        s.on("close", () => this.sockets.delete(s));
        s.on("error", () => {});
      });
      const attempt = () => this.server.listen(this.port ?? 0, host(this.world.seed));
      this.server.on("error", () => setTimeout(attempt, 20)); // the port is not free again yet
      this.server.on("listening", () => {
        this.port = this.server.address().port;
        resolve(this.port);
      });
      attempt();
    });
  }

  end() {
    this.over = true;
    clearTimeout(this.timer);
    this.server.close();
    for (const s of this.sockets) s.destroy();
  }

  /** Dies like a process, and comes back. */
  restarts() {
    this.timer = setTimeout(async () => {
      if (this.over || this.world.calm) return;
      this.server.close();
      for (const s of this.sockets) s.destroy();
      await new Promise((r) => setTimeout(r, this.world.below(120)));
      if (this.over) return;
      await this.listen();
      this.restarts();
    }, 150 + this.world.below(600));
  }

  serve(request, response) {
    const w = this.world;
    const url = new URL(request.url, "http://x");
    response.on("error", () => {});
    const refuse = (status, headers = {}) => response.writeHead(status, { "content-type": "application/problem+json", ...headers }).end(JSON.stringify({
      type: `urn:changeover:problem:${{ 401: "unauthenticated", 429: "too-many-requests", 503: "unavailable" }[status]}`, title: "t", status, detail: "d", requestId: "r",
    }));
    if (!w.calm) {
      const p = w.random();
      if (p < 0.06) return refuse(401, { "www-authenticate": "Bearer" });
      if (p < 0.10) return refuse(429, w.chance(0.2) ? { "retry-after": "1" } : {});
      if (p < 0.16) return refuse(503);
      if (p < 0.20) return request.socket.destroy();
      if (p < 0.23) return; // never an answer
      if (p < 0.26) return response.writeHead(200, { "content-type": "text/html" }).end("<h1>Welcome to our Wi-Fi</h1>");
    }
    if (request.headers.accept === "application/json") return this.poll(url, response);
    if (!w.calm && w.chance(0.04)) return refuse(406);
    new Stream(this, url, response);
  }

  poll(url, response) {
    const w = this.world;
    const answer = () => {
      if (response.destroyed) return;
      const after = /^log-\d+-(\d+)$/.exec(url.searchParams.get("after"));
      const items = after ? w.log.slice(Number(after[1])) : [{ ...w.snapshot(), event: "reset", id: "log-0-1", data: { agentId: w.agentId, time: "t", reason: "malformed" } }, w.snapshot()];
      if (items.length === 0 && !answer.waited) {
        answer.waited = true;
        setTimeout(answer, parseInt(url.searchParams.get("wait")));
        return;
      }
      const body = JSON.stringify({ items, nextCursor: `log-${w.epoch}-${w.log.length}` });
      response.writeHead(200, { "content-type": "application/json" });
      if (!w.calm && w.chance(0.15)) {
        response.write(body.slice(0, w.below(body.length)));
        setTimeout(() => response.destroy(), 5);
      } else response.end(body);
    };
    answer();
  }
}

/** One stream, with whatever goes wrong with it. */
class Stream {
  constructor(endpoint, url, response) {
    this.world = endpoint.world;
    this.response = response;
    const w = this.world;
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache, no-transform" });
    if (!w.calm && w.chance(0.04)) return void response.flushHeaders(); // a proxy that buffers
    if (!w.calm && w.chance(0.04)) return void response.end(`: overload\nretry: ${w.below(60)}\n\n`);
    this.eol = w.pick("\n", "\n", "\r\n", "\r");
    const from = /^log-\d+-(\d+)$/.exec(url.searchParams.get("lastEventId"));
    this.at = from ? Number(from[1]) : w.log.length;
    this.write([`retry: ${5 + w.below(40)}`, "", ""]);
    if (!from) this.frame(w.snapshot());
    // At least once: now and then one more than was asked for.
    else if (this.at > 0 && w.chance(0.2)) this.frame(w.log[this.at - 1]);
    this.beat = setInterval(() => this.write([": heartbeat", "", ""]), 40);
    w.streams.add(this);
    response.on("close", () => this.stop());
    if (!w.calm) this.timer = setTimeout(() => this.fail(), w.below(300));
    this.feed();
  }

  stop() {
    clearInterval(this.beat);
    clearTimeout(this.timer);
    this.world.streams.delete(this);
  }

  feed() {
    while (this.at < this.world.log.length && !this.dead) {
      if (!this.world.calm && this.world.chance(0.03)) return this.cut(this.world.log[this.at]);
      this.frame(this.world.log[this.at++]);
    }
  }

  frame({ id, event, data }) {
    this.write([`id: ${id}`, `event: ${event}`, `data: ${JSON.stringify(data)}`, "", ""]);
  }

  /** In pieces, sometimes in the middle of a character. */
  write(lines) {
    if (this.dead) return;
    const all = Buffer.from(lines.join(this.eol));
    const cut = this.world.below(all.length);
    this.response.write(all.subarray(0, cut));
    this.response.write(all.subarray(cut));
  }

  cut({ id, event, data }) {
    this.write([`id: ${id}`, `event: ${event}`, `data: ${JSON.stringify(data).slice(0, this.world.below(60))}`]);
    this.dead = true;
    setTimeout(() => this.response.destroy(), this.world.below(20));
  }

  fail() {
    const w = this.world;
    if (w.calm) return;
    switch (w.below(8)) {
      case 0: return void this.response.destroy();
      case 1: return void this.response.end();
      case 2: // half-open: the socket stays, nothing comes
      case 3:
        this.stop();
        this.dead = true;
        return;
      case 4:
      case 5: {
        const notice = { agentId: w.agentId, time: "t", reason: w.pick("shutdown", "token_expiring") };
        this.frame({ id: `log-${w.epoch}-${this.at}`, event: "draining", data: notice });
        return void this.response.end();
      }
      case 6: // a mix-up of answers: the next event is somebody else's
        this.frame({ id: `log-${w.epoch}-${this.at + 1}`, event: "failoverDetected", data: { agentId: "another", time: "t", failoverId: "f", nextActiveRegion: "x" } });
        return;
      default:
        this.write([`id: log-${w.epoch}-${this.at + 1}`, "event: failoverDetected", 'data: {"agentId":', "", ""]);
    }
  }
}

const worlds = new Map();
process.on("message", async (m) => {
  if (m.start !== undefined) {
    const w = new World(m.start);
    worlds.set(m.start, w);
    const ports = await Promise.all(w.endpoints.map((e) => e.listen()));
    for (const e of w.endpoints) e.restarts();
    process.send({ seed: m.start, agentId: w.agentId, endpoints: ports.map((p) => `http://${host(m.start)}:${p}`) });
  } else if (m.go !== undefined) worlds.get(m.go).go();
  else if (m.calm !== undefined) worlds.get(m.calm).calm = true;
  else if (m.end !== undefined) {
    worlds.get(m.end).end();
    worlds.delete(m.end);
  }
});
process.on("disconnect", () => process.exit());
