// Follows one agent from Node:  npm install changeover-client && node watch.mjs https://changeover.example <Amazon Connect user id>
// TOKEN is a token of your identity provider; with auth.mode none there is none. Ctrl-C ends it.
import { createFailoverClient } from "changeover-client";

const [service, agentId] = process.argv.slice(2);
const token = process.env.TOKEN;
const failover = createFailoverClient({ endpoints: [service], agentId, ...(token && { token: () => token }) });

const say = (...words) => console.log(new Date().toISOString(), ...words);
failover.onConnectionState(({ state, reason, error }) => say(`connection ${state} (${reason})`, error?.message ?? ""));
failover.onStatus(({ activeRegion, state }) => say(`works in ${activeRegion ?? "an unknown Region"}, ${state}`));
failover.onFailoverDetected(({ nextActiveRegion }) => say("detected:", nextActiveRegion));
failover.onFailoverPending(({ contactIds }) => say("pending, held by", ...contactIds));
failover.onFailoverPendingUpdated(({ contactIds }) => say("still pending, held by", ...contactIds));
failover.onFailoverCompleted(({ activeRegion, previousRegion }) => say("completed:", previousRegion, "→", activeRegion));
failover.onFailoverCancelled(({ activeRegion }) => say("cancelled, stays in", activeRegion));
failover.onConfigureError(({ code, message }) => say("set-up:", code, message));

process.once("SIGINT", () => failover.close());
process.once("SIGTERM", () => failover.close());
