// A program that uses the package as CommonJS.
const assert = require("node:assert/strict");
const { ChangeoverError, createFailoverClient } = require("changeover-client");
const { bridgeStreams } = require("changeover-client/streams");

const failover = createFailoverClient({ endpoints: ["http://127.0.0.1:9"], agentId: "a" });
assert.equal(typeof bridgeStreams, "function");
failover.forceFailover({ reason: "r" }).then(assert.fail, (e) => {
  assert.ok(e instanceof ChangeoverError);
  failover.close();
  console.log("cjs");
});
