// What the package's types promise. It is compiled, never run: as an ES module and as CommonJS, with the resolution of Node and of bundlers.
import "amazon-connect-streams";
import {
  ChangeoverError, createFailoverClient, type AgentStatus, type ConnectionState, type Failover, type FailoverClientOptions, type FailoverCompleted, type Report,
} from "changeover-client";
import { bridgeStreams, type Disagreement } from "changeover-client/streams";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const is = <T extends true>(): T | void => {};

declare function fetchToken(): Promise<string>;
declare const agentId: string;

// The first lines that anybody writes.
const failover = createFailoverClient({ endpoints: ["https://a.example", "https://b.example"], agentId, token: () => fetchToken() });
is<Equal<ReturnType<typeof failover.getActiveRegion>, string | null>>();
const off = failover.onFailoverPending(({ nextActiveRegion, contactIds }) => {
  is<Equal<typeof nextActiveRegion, string>>();
  is<Equal<typeof contactIds, string[]>>();
});
is<Equal<typeof off, () => void>>();
failover.onFailoverDetected(({ nextActiveRegion, failoverId }) => is<Equal<[typeof nextActiveRegion, typeof failoverId], [string, string]>>());
failover.onFailoverPendingUpdated(({ contactIds }) => is<Equal<typeof contactIds, string[]>>());
failover.onFailoverCompleted(({ activeRegion, activeCcpUrl, previousRegion, forced, evidence, clear }) => {
  is<Equal<typeof activeRegion, string>>();
  is<Equal<typeof activeCcpUrl, string | null>>();
  is<Equal<typeof previousRegion, string>>();
  is<Equal<typeof forced, boolean | null>>();
  is<Equal<typeof evidence, "inferred" | "desktop" | "lastKnown" | "forced" | null>>();
  is<Equal<typeof clear, string[]>>();
});
failover.onFailoverCancelled(({ activeRegion, cancelledRegion }) => is<Equal<[typeof activeRegion, typeof cancelledRegion], [string, string]>>());
failover.onFailoverStalled(({ activeRegion }) => is<Equal<typeof activeRegion, string | null>>());
failover.onFailoverPaused(({ reason, until }) => is<Equal<[typeof reason, typeof until], [string, string]>>());
failover.onFailoverResumed(({ nextActiveRegion }) => is<Equal<typeof nextActiveRegion, string>>());
failover.onConfigureError(({ code, message }) => { if (code === "TDG_NOT_FOUND") message.trim(); });
failover.onConfigureErrorCleared(({ code }) => code satisfies string);
failover.onStatus((s) => is<Equal<typeof s, AgentStatus>>());
failover.onConnectionState((s) => {
  is<Equal<typeof s, ConnectionState>>();
  is<Equal<typeof s.state, "connecting" | "open" | "waiting" | "polling" | "closed">>();
  is<Equal<typeof s.since, Date>>();
});
failover.forceFailover({ reason: "r" }).then((f) => is<Equal<typeof f, Failover>>(), (e: unknown) => {
  if (e instanceof ChangeoverError && e.code === "failover-not-open") e.problem?.detail.trim();
});
failover.downloadLogs({ logName: "x" }).then((logs) => logs[0]!.region.trim());
failover.downloadLogs();
failover.report({ activeRegion: "us-east-1", contacts: [] } satisfies Report);
failover.close();

createFailoverClient({ endpoints: ["/"], agentId, ticket: async ({ renew }) => (renew ? "a" : "b"), credentials: "include", heartbeat: 5_000, share: false, worker: "/worker.js", fetch });

// The callbacks of connect.globalResiliency fit.
const streamsCallback: (data: { activeRegion: string; activeCcpUrl: string | null }) => void = () => {};
failover.onFailoverCompleted(streamsCallback);

// Amazon's own types fit the bridge.
const bridge = bridgeStreams(connect, failover);
bridge.onDisagreement((d) => is<Equal<typeof d, Disagreement | null>>());
bridge.onFailoverCompleted((d) => is<Equal<typeof d, FailoverCompleted>>());
bridge.onReportError((e) => is<Equal<typeof e, ChangeoverError>>());
bridge.close();

// And what is wrong is refused.
// @ts-expect-error an agent is needed
createFailoverClient({ endpoints: ["/"] });
// @ts-expect-error endpoints are a list
createFailoverClient({ endpoints: "/", agentId });
// @ts-expect-error there is no such option
createFailoverClient({ endpoints: ["/"], agentId, tokn: fetchToken } satisfies FailoverClientOptions);
// @ts-expect-error a reason is needed
failover.forceFailover({});
// @ts-expect-error what a callback gets cannot be asked for more than there is
failover.onFailoverDetected(({ contactIds }) => contactIds);
// @ts-expect-error the status is read only
failover.getStatus().state = "active";
// @ts-expect-error a report has no such field
failover.report({ region: "us-east-1" });
// @ts-expect-error not something else
bridgeStreams({}, failover);
