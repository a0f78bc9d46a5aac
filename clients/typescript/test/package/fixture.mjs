// A program that uses the package as an ES module.
import assert from "node:assert/strict";
import { ChangeoverError, createFailoverClient } from "changeover-client";
import { bridgeStreams } from "changeover-client/streams";

const failover = createFailoverClient({ endpoints: ["http://127.0.0.1:9"], agentId: "a" });
assert.equal(failover.getActiveRegion(), null);
assert.equal(typeof bridgeStreams, "function");
await assert.rejects(failover.forceFailover({ reason: "r" }), (e) => e instanceof ChangeoverError && e.code === "failover-not-open");
failover.close();
assert.equal(failover.getConnectionState().state, "closed");
console.log("esm");
