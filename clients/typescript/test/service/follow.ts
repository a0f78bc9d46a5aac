// Follows agents of a real service and says what it was told, one JSON line each, until its input ends. service_test.go bundles and runs it.
//
//	node follow.js '{"endpoints":{"<agentId>":["http://…"]},"heartbeat":1000}'
import { createFailoverClient } from "../../src/index.js";
import { timing } from "../../src/connection.js";

const { endpoints, heartbeat } = JSON.parse(process.argv[2]!) as { endpoints: Record<string, string[]>; heartbeat: number };
// Ten times as fast; the service's own times are what it is configured to.
Object.assign(timing, {
  firstByte: 1_500, poll: 2_000, probe: 300, backOff: 100, backOffMost: 1_000, backOffRefused: 1_000, spread: 50, lasting: 500, trial: 1_000, trialMost: 2_000,
} satisfies Partial<typeof timing>);

const say = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`);
const clients = Object.entries(endpoints).map(([agentId, of]) => {
  const c = createFailoverClient({ agentId, endpoints: of, heartbeat });
  const tell = (event: string) => (data: unknown) => say({ agentId, event, data });
  c.onFailoverDetected(tell("failoverDetected"));
  c.onFailoverPending(tell("failoverPending"));
  c.onFailoverPendingUpdated(tell("failoverPendingUpdated"));
  c.onFailoverCompleted(tell("failoverCompleted"));
  c.onFailoverCancelled(tell("failoverCancelled"));
  c.onFailoverStalled(tell("failoverStalled"));
  c.onConfigureError(tell("configureError"));
  c.onConfigureErrorCleared(tell("configureErrorCleared"));
  const off = c.onStatus(({ activeRegion }) => {
    if (activeRegion === null) return;
    off();
    say({ agentId, event: "ready" });
  });
  c.onConnectionState(({ state, reason }) => process.stderr.write(`${agentId} ${state} ${reason}\n`));
  return c;
});
process.stdin.on("end", () => { for (const c of clients) c.close(); }).resume();
