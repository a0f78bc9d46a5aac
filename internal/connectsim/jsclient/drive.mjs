// Drives the simulator with Amazon's JavaScript SDK: every operation, paging and errors. Started by the Go tests as
//   node drive.mjs ENDPOINT QUOTA_ENDPOINT
// and prints, as its last line, the operations and error names that it has seen. Any surprise is an exception.
import assert from "node:assert/strict";
import * as sdk from "@aws-sdk/client-connect";

const [endpoint, quotaEndpoint] = process.argv.slice(2);
const east = "us-east-1";
const west = "us-west-2";
const operations = new Set();
const errors = new Set();

function client(region, url = endpoint, options = {}) {
  const c = new sdk.ConnectClient({
    region,
    endpoint: url,
    credentials: { accessKeyId: "AKIDEXAMPLE", secretAccessKey: "secret" },
    maxAttempts: 1,
    ...options,
  });
  return c;
}

const source = client(east);
const replica = client(west);

/** call sends a command and remembers its operation. */
async function call(c, name, input) {
  const out = await c.send(new sdk[`${name}Command`](input));
  assert.equal(out.$metadata.httpStatusCode, 200);
  assert.ok(out.$metadata.requestId, `${name} has a request id`);
  operations.add(name);
  return out;
}

/** refuses expects an error of the SDK's own class, as typed exceptions are, or by name where the model has none. */
async function refuses(c, name, input, error, status) {
  await assert.rejects(call(c, name, input), (e) => {
    assert.equal(e.name, error, `${name}: ${e.name}: ${e.message}`);
    if (sdk[error]) assert.ok(e instanceof sdk[error], `${error} is a typed exception`);
    assert.equal(e.$metadata?.httpStatusCode, status);
    assert.ok(e.message, "the error has a message");
    return true;
  });
  errors.add(error);
}

async function control(method, path, body) {
  const r = await fetch(`${endpoint}/_control/${path}`, { method, body: body && JSON.stringify(body) });
  assert.ok(r.ok, `${method} ${path}: ${r.status}`);
  return r.status === 204 ? undefined : r.json();
}

/** pages collects a paginator's items and checks the size of every page. */
async function pages(paginate, c, input, list, pageSize) {
  const items = [];
  let n = 0;
  for await (const p of paginate({ client: c, pageSize }, input)) {
    assert.ok(p[list].length <= pageSize);
    items.push(...p[list]);
    n++;
  }
  return { items, n };
}

// ---- the instance

const { InstanceSummaryList: instances } = await call(source, "ListInstances", {});
assert.equal(instances.length, 1);
const InstanceId = instances[0].Id;
assert.ok(instances[0].CreatedTime instanceof Date);
const described = await call(replica, "DescribeInstance", { InstanceId });
assert.equal(described.Instance.Arn, `arn:aws:connect:${west}:111122223333:instance/${InstanceId}`);
assert.equal(described.ReplicationConfiguration.SourceRegion, east);
assert.deepEqual(described.ReplicationConfiguration.ReplicationStatusSummaryList.map((s) => s.Region), [west]);
await refuses(source, "DescribeInstance", { InstanceId: "00000000-0000-0000-0000-000000000000" }, "ResourceNotFoundException", 404);

// ---- traffic distribution groups

const groups = await pages(sdk.paginateListTrafficDistributionGroups, source, { InstanceId }, "TrafficDistributionGroupSummaryList", 1);
operations.add("ListTrafficDistributionGroups");
assert.deepEqual(groups.items.map((g) => [g.Name, g.IsDefault, g.Status]), [["default", true, "ACTIVE"], ["second", false, "ACTIVE"]]);
assert.equal(groups.n, 2);
const [byDefault, second] = groups.items;
await refuses(source, "ListTrafficDistributionGroups", { MaxResults: 11 }, "InvalidRequestException", 400);

// The replica lists the same ARNs, of the source Region, and resolves nothing but ARNs.
const fromReplica = await call(replica, "ListTrafficDistributionGroups", { InstanceId: described.Instance.Arn });
assert.deepEqual(fromReplica.TrafficDistributionGroupSummaryList, groups.items);
const one = await call(replica, "DescribeTrafficDistributionGroup", { TrafficDistributionGroupId: byDefault.Arn });
assert.equal(one.TrafficDistributionGroup.Id, byDefault.Id);
await refuses(replica, "DescribeTrafficDistributionGroup", { TrafficDistributionGroupId: byDefault.Id }, "ResourceNotFoundException", 404);
await refuses(replica, "GetTrafficDistribution", { Id: byDefault.Id }, "ResourceNotFoundException", 404);

const created = await call(source, "CreateTrafficDistributionGroup", { InstanceId, Name: "third", Description: "Night shift", Tags: { team: "night" } });
const third = (await call(source, "DescribeTrafficDistributionGroup", { TrafficDistributionGroupId: created.Id })).TrafficDistributionGroup;
assert.deepEqual([third.Arn, third.Description, third.Tags], [created.Arn, "Night shift", { team: "night" }]);
await refuses(source, "CreateTrafficDistributionGroup", { InstanceId, Name: "third" }, "ResourceConflictException", 409);
await refuses(source, "DeleteTrafficDistributionGroup", { TrafficDistributionGroupId: byDefault.Id }, "InvalidRequestException", 400);
await call(source, "DeleteTrafficDistributionGroup", { TrafficDistributionGroupId: created.Arn });
await refuses(source, "DescribeTrafficDistributionGroup", { TrafficDistributionGroupId: created.Arn }, "ResourceNotFoundException", 404);

// ---- users and their groups

const users = await pages(sdk.paginateListUsers, source, { InstanceId }, "UserSummaryList", 10);
operations.add("ListUsers");
assert.equal(users.items.length, 25);
assert.equal(users.n, 3);
await refuses(source, "ListUsers", { InstanceId, MaxResults: 1001 }, "InvalidParameterException", 400);
const user = users.items[0];
assert.equal((await call(replica, "DescribeUser", { InstanceId, UserId: user.Id })).User.Username, user.Username);
const search = { InstanceId, SearchCriteria: { StringCondition: { FieldName: "Username", Value: "agent0000", ComparisonType: "STARTS_WITH" } } };
const found = await pages(sdk.paginateSearchUsers, source, search, "Users", 5);
operations.add("SearchUsers");
assert.deepEqual(found.items.map((u) => u.Id), users.items.slice(0, 9).map((u) => u.Id));

const TrafficDistributionGroupId = byDefault.Arn;
const members = async (c) =>
  (await pages(sdk.paginateListTrafficDistributionGroupUsers, c, { TrafficDistributionGroupId }, "TrafficDistributionGroupUserSummaryList", 10)).items.map((u) => u.UserId);
operations.add("ListTrafficDistributionGroupUsers");
const all = users.items.map((u) => u.Id);
assert.deepEqual(await members(source), all);
assert.deepEqual(await members(replica), all);
const membership = { TrafficDistributionGroupId, InstanceId, UserId: user.Id };
await refuses(source, "AssociateTrafficDistributionGroupUser", { ...membership, TrafficDistributionGroupId: second.Id }, "ResourceConflictException", 409);
await refuses(source, "DeleteTrafficDistributionGroup", { TrafficDistributionGroupId: second.Id.replace("2", "9") }, "InvalidRequestException", 400);
await call(source, "DisassociateTrafficDistributionGroupUser", membership);
assert.deepEqual(await members(source), all.slice(1));
await call(source, "AssociateTrafficDistributionGroupUser", { ...membership, TrafficDistributionGroupId: second.Id, UserId: user.Arn });
await refuses(source, "DeleteTrafficDistributionGroup", { TrafficDistributionGroupId: second.Id }, "ResourceInUseException", 409);
await call(source, "DisassociateTrafficDistributionGroupUser", { ...membership, TrafficDistributionGroupId: second.Id });
await call(source, "AssociateTrafficDistributionGroupUser", membership);
await refuses(replica, "AssociateTrafficDistributionGroupUser", membership, "ResourceNotFoundException", 404);
assert.deepEqual(await members(source), all);

// ---- what agents are doing

const profiles = await pages(sdk.paginateListRoutingProfiles, source, { InstanceId }, "RoutingProfileSummaryList", 2);
operations.add("ListRoutingProfiles");
assert.equal(profiles.items.length, 3);
const RoutingProfiles = profiles.items.map((p) => p.Id);
const call1 = await control("POST", `agents/${user.Id}/contacts`, { channel: "VOICE" });
const data = await pages(sdk.paginateGetCurrentUserData, source, { InstanceId, Filters: { RoutingProfiles } }, "UserDataList", 10);
operations.add("GetCurrentUserData");
assert.deepEqual(data.items.map((u) => u.User.Id).sort(), [...all].sort());
assert.equal(data.n, 3);
const nobody = await call(replica, "GetCurrentUserData", { InstanceId, Filters: { RoutingProfiles } });
assert.deepEqual(nobody.UserDataList, []);

const talking = async (c) =>
  (await call(c, "GetCurrentUserData", { InstanceId, Filters: { Agents: [user.Id], ContactFilter: { ContactStates: ["CONNECTED", "ENDED"] } } })).UserDataList;
let [u] = await talking(source);
assert.equal(u.Status.StatusName, "Available");
assert.ok(u.Status.StatusStartTimestamp instanceof Date);
assert.deepEqual(u.ActiveSlotsByChannel, { VOICE: 1 });
assert.deepEqual(u.Contacts.map((c) => [c.ContactId, c.Channel, c.AgentContactState]), [[call1.contactId, "VOICE", "CONNECTED"]]);
assert.ok(Math.abs(u.Contacts[0].StateStartTimestamp - Date.now()) < 60_000, "epoch seconds are read as seconds");
const contact = (await call(source, "DescribeContact", { InstanceId, ContactId: call1.contactId })).Contact;
assert.equal(contact.GlobalResiliencyMetadata.ActiveRegion, east);
assert.equal(contact.AgentInfo.Id, user.Id);
assert.equal(contact.DisconnectTimestamp, undefined);
await refuses(replica, "DescribeContact", { InstanceId, ContactId: call1.contactId }, "ResourceNotFoundException", 404);
await refuses(source, "GetCurrentUserData", { InstanceId, Filters: {} }, "InvalidParameterException", 400);
await refuses(source, "GetCurrentUserData", { InstanceId, Filters: { Agents: [user.Id] }, MaxResults: 101 }, "InvalidParameterException", 400);

// ---- a shift

const shares = (w) => ({ Distributions: [{ Region: east, Percentage: 100 - w }, { Region: west, Percentage: w }] });
const signIn = (w) => ({ Distributions: [{ Region: east, Enabled: w < 100 }, { Region: west, Enabled: w > 0 }] });
const shift = (w) => ({ Id: byDefault.Arn, TelephonyConfig: shares(w), AgentConfig: shares(w), SignInConfig: signIn(w) });
await refuses(replica, "UpdateTrafficDistribution", shift(55), "InvalidRequestException", 400);
await refuses(replica, "UpdateTrafficDistribution", { Id: second.Arn, SignInConfig: signIn(100) }, "InvalidRequestException", 400);
await call(replica, "UpdateTrafficDistribution", shift(100));
for (const c of [source, replica]) {
  const d = await call(c, "GetTrafficDistribution", { Id: byDefault.Arn });
  assert.deepEqual([d.TelephonyConfig, d.AgentConfig, d.SignInConfig], [shares(100), shares(100), signIn(100)]);
}
const other = await call(source, "GetTrafficDistribution", { Id: second.Id });
assert.deepEqual(other.AgentConfig, shares(0));
assert.equal(other.SignInConfig, undefined);

// Everyone but the agent on the call has moved; after-contact work holds, clearing does not.
const there = async (c) => (await pages(sdk.paginateGetCurrentUserData, c, { InstanceId, Filters: { RoutingProfiles } }, "UserDataList", 100)).items.length;
assert.deepEqual([await there(source), await there(replica)], [1, 24]);
await control("POST", `contacts/${call1.contactId}/end`);
[u] = await talking(source);
assert.equal(u.Contacts[0].AgentContactState, "ENDED");
await control("POST", `contacts/${call1.contactId}/clear`);
assert.deepEqual([await there(source), await there(replica)], [0, 25]);

// ---- what goes wrong

for (const [fault, name, status] of [
  ["429", "ThrottlingException", 429],
  ["429-too-many", "TooManyRequestsException", 429],
  ["500", "InternalServiceException", 500],
  ["denied", "AccessDeniedException", 403],
  ["not-found", "ResourceNotFoundException", 404],
]) {
  await control("PUT", "faults", { region: east, operation: "GetCurrentUserData", fault });
  await refuses(source, "GetCurrentUserData", { InstanceId, Filters: { RoutingProfiles } }, name, status);
}
for (const fault of ["503", "429-untyped", "truncated", "reset"]) {
  await control("PUT", "faults", { region: east, operation: "GetCurrentUserData", fault });
  await assert.rejects(call(source, "GetCurrentUserData", { InstanceId, Filters: { RoutingProfiles } }), undefined, fault);
}
await control("PUT", "faults", { region: east, operation: "GetCurrentUserData", fault: "hang" });
await assert.rejects(
  source.send(new sdk.GetCurrentUserDataCommand({ InstanceId, Filters: { RoutingProfiles } }), { abortSignal: AbortSignal.timeout(300) }),
  { name: /AbortError|TimeoutError/ },
);
await control("PUT", "faults", { operation: "ListUsers", fault: "empty-pages" });
const gappy = await pages(sdk.paginateListUsers, source, { InstanceId }, "UserSummaryList", 10);
assert.deepEqual([gappy.items.length, gappy.n], [25, 6]);
await control("DELETE", "faults");

// The quota of each operation in each Region: a burst of five. With its own retries the SDK gets through.
const limited = client(west, quotaEndpoint);
for (let i = 0; i < 5; i++) await call(limited, "ListInstances", {});
await refuses(limited, "ListInstances", {}, "ThrottlingException", 429);
await call(limited, "DescribeInstance", { InstanceId });
await call(client(east, quotaEndpoint), "ListInstances", {});
await call(client(west, quotaEndpoint, { maxAttempts: 5 }), "ListInstances", {});

console.log(JSON.stringify({ operations: [...operations].sort(), errors: [...errors].sort() }));
