// Two hundred random sequences of faults, each from its seed: server restarts, dropped connections, 401, 429, 503, cut frames, half-open
// sockets, proxies that buffer or answer in the server's place, answers mixed up, clocks that jump. What the desktop is told
// has to be the event log, in order, each event once.
//
//	SEED=17 npx vitest run test/fault      one sequence, again
//	SEEDS=5000 npx vitest run test/fault   more of them
import { fork, type ChildProcess } from "node:child_process";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createFailoverClient, type FailoverClient } from "../../src/index.js";
import { hurry } from "./timing.js";

interface Message { seed: number; agentId?: string; endpoints?: string[]; log?: { id: string; event: string; data: unknown }[] }

const one = process.env["SEED"];
const count = Number(process.env["SEEDS"] ?? 200);
const together = 25;

let server: ChildProcess;
const waiting = new Map<string, (m: Message) => void>();
const now = Date.now;
const reasons = new Set<string>();
let jumping: ReturnType<typeof setInterval>;

beforeAll(() => {
  hurry();
  server = fork(new URL("server.mjs", import.meta.url), { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  server.on("message", (m: Message) => waiting.get(`${m.seed} ${m.endpoints ? "endpoints" : "log"}`)!(m));
  let offset = 0;
  Date.now = () => now() + offset;
  jumping = setInterval(() => { offset = Math.random() < 0.5 ? offset : (Math.random() - 0.5) * 7_200_000; }, 40);
});
afterAll(() => {
  clearInterval(jumping);
  Date.now = now;
  server.disconnect();
});

const answer = (seed: number, what: "endpoints" | "log") => new Promise<Message>((resolve) => waiting.set(`${seed} ${what}`, resolve));

/** The callbacks of a client, as a log. */
function record(c: FailoverClient): { event: string; data: unknown }[] {
  const seen: { event: string; data: unknown }[] = [];
  const note = (event: string) => (data: unknown) => void seen.push({ event, data });
  c.onFailoverDetected(note("failoverDetected"));
  c.onFailoverPending(note("failoverPending"));
  c.onFailoverPendingUpdated(note("failoverPendingUpdated"));
  c.onFailoverCompleted(note("failoverCompleted"));
  c.onFailoverCancelled(note("failoverCancelled"));
  c.onFailoverStalled(note("failoverStalled"));
  c.onFailoverPaused(note("failoverPaused"));
  c.onFailoverResumed(note("failoverResumed"));
  c.onConfigureError(note("configureError"));
  c.onConfigureErrorCleared(note("configureErrorCleared"));
  return seen;
}

async function sequence(seed: number): Promise<void> {
  const started = answer(seed, "endpoints");
  server.send({ start: seed });
  const { agentId, endpoints } = await started;
  const states: string[] = [];
  const failover = createFailoverClient({
    endpoints: endpoints!, agentId: agentId!, heartbeat: 100,
    token: async ({ renew }) => {
      if (Math.random() < 0.05) throw new Error("the identity provider is away");
      return renew ? "renewed" : "token";
    },
  });
  failover.onConnectionState((s) => {
    states.push(`${s.state} ${s.reason}`);
    reasons.add(s.reason);
  });
  const seen = record(failover);
  await new Promise<void>((resolve) => { const off = failover.onStatus(() => { off(); resolve(); }); });
  const happened = answer(seed, "log");
  server.send({ go: seed });
  const log = (await happened).log!.map(({ event, data }) => ({ event, data }));
  server.send({ calm: seed });
  try {
    await expect.poll(() => seen.length, { timeout: 15_000, interval: 20 }).toBeGreaterThanOrEqual(log.length);
    expect(seen).toEqual(log);
    await expect.poll(() => failover.getConnectionState().state, { timeout: 15_000 }).toMatch(/open|polling/);
    expect(seen).toEqual(log);
  } catch (error) {
    throw new Error(`SEED=${seed}: what was told is not the log. Connection: ${states.slice(-12).join(", ")}`, { cause: error });
  } finally {
    failover.close();
    server.send({ end: seed });
  }
}

test(`${one ? 1 : count} sequences of faults: the callbacks are the event log`, { timeout: 60_000 + count * 1_000 }, async () => {
  const seeds = one ? [Number(one)] : Array.from({ length: count }, (_, i) => i + 1);
  const failed: unknown[] = [];
  await Promise.all(Array.from({ length: together }, async () => {
    for (let seed = seeds.shift(); seed !== undefined; seed = seeds.shift()) await sequence(seed).catch((e: unknown) => failed.push(e));
  }));
  for (const e of failed) console.error(e);
  expect(failed.map(String)).toEqual([]);
  if (!one) {
    // The faults were there, or this says nothing.
    expect([...reasons]).toEqual(expect.arrayContaining([
      "network", "unauthenticated", "too-many-requests", "unavailable", "protocol", "ended", "draining", "token-expiring", "token", "blocked", "woken",
    ]));
  }
});
