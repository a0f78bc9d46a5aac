import { useState } from "preact/hooks";
import { api, data, idempotency, type Schemas } from "../api";
import { count, duration, plural, shortId, time } from "../format";
import { useLive } from "../live";
import { go, href, route, setQuery } from "../router";
import { useRows } from "../rows";
import { Dialog } from "../ui/dialog";
import { GroupFilter, useGroups } from "../ui/groups";
import { At, Fault, Loaded, Pill, Reason, RoleButton, useAction, Unread } from "../ui/parts";
import { Table, type Column } from "../ui/table";

type Drill = Schemas["Drill"];
type Part = Schemas["DrillAgent"];

/** As many agents as a drill takes. */
export const maxDrill = 200;

function DrillState({ drill }: { drill: Drill }) {
  if (!drill.startedAt) return <Pill mood="busy">begins</Pill>;
  return drill.endedAt ? <Pill mood="calm">over</Pill> : <Pill mood="busy">under way</Pill>;
}

const columns: Column<Drill>[] = [
  { name: "started", title: "Began", width: "10rem", cell: (d) => <At at={d.startedAt} /> },
  { name: "state", title: "State", width: "8rem", cell: (d) => <DrillState drill={d} /> },
  { name: "group", title: "Group", width: "minmax(6rem, 1fr)", cell: (d) => d.failoverGroup },
  { name: "agents", title: "Agents", width: "5.5rem", number: true, cell: (d) => count(d.agents.length) },
  { name: "gone", title: "Would have gone", width: "9.5rem", number: true, cell: (d) => count(d.counts.completed) },
  { name: "trouble", title: "Not reached or not ready", width: "13rem", number: true, cell: (d) => count(d.counts.notStreaming + d.counts.standbyNotReady) },
  { name: "by", title: "By", width: "minmax(8rem, 1fr)", cell: (d) => <span title={d.by}>{d.by}</span> },
  { name: "reason", title: "Why", width: "minmax(10rem, 2fr)", cell: (d) => <span title={d.reason}>{d.reason}</span> },
];

/** Rehearsals: what they were for each agent. */
export function Drills() {
  const group = route.value.query.get("group") || undefined;
  const groups = useGroups();
  const [asking, setAsking] = useState(false);
  const list = useRows(`drills/${group}`, {
    load: (cursor, limit, signal) => data(api.GET("/v1/drills", { params: { query: { failoverGroup: group, limit, cursor } }, signal })), keyOf: (d: Drill) => d.drillId, every: 4000,
  });
  const of = group ?? groups.data?.[0]?.name;
  return (
    <>
      <div class="title">
        <h1>Drills</h1>
        <div class="actions"><RoleButton class="main" roles={["operator", "admin"]} disabled={!of} onClick={() => setAsking(true)}>Begin a drill…</RoleButton></div>
      </div>
      <GroupFilter value={group} onChange={(g) => setQuery({ group: g })} />
      <Unread live={list.live} what="The list of drills" />
      <Table label="Drills" columns={columns} rows={list.rows} rowKey={(d) => d.drillId} more={list.more} loading={list.loading} onView={list.view} onOpen={(d) => go("drills", d.drillId)}
        empty="None yet. A drill tells the desktops of some agents of a shift that is none, and reports what would have come of it." />
      {asking && of && <DrillDialog group={of} agents={[]} onClose={() => setAsking(false)} />}
    </>
  );
}

/** Who takes part may be told by Connect user id or by user name. */
export function DrillDialog({ group, agents, onClose }: { group: string; agents: string[]; onClose(): void }) {
  const [who, setWho] = useState(agents.join("\n"));
  const [reason, setReason] = useState("");
  const [minutes, setMinutes] = useState("10");
  const drill = useAction(async (input: { who: string; reason: string; ttlSeconds: number }, key) => {
    const agentIds = await resolve(group, [...new Set(input.who.split(/[\s,]+/).filter(Boolean))]);
    const begun = await data(api.POST("/v1/failover-groups/{name}/drills", {
      params: { path: { name: group }, header: idempotency(key) }, body: { agentIds, reason: input.reason, ttlSeconds: input.ttlSeconds },
    }));
    go("drills", begun.drillId);
    return `The drill with ${plural(agentIds.length, "agent")} has begun.`;
  });
  const lines = who.split(/[\s,]+/).filter(Boolean).length;
  return (
    <Dialog title={`A drill in ${group}`} onClose={onClose} busy={drill.busy} wide>
      <form onSubmit={(e) => { e.preventDefault(); void drill.run({ who, reason: reason.trim(), ttlSeconds: Math.round(Number(minutes) * 60) }).then((done) => { if (done) onClose(); }); }}>
        <p>The desktops of these agents are told of a shift that is none. Nothing real changes; a real failover ends the drill for its agent.</p>
        <label class="field">
          <span>Agents <small>(user names or Connect user ids, {count(lines)} of {maxDrill} at most)</small></span>
          <textarea name="agents" rows={6} required value={who} onInput={(e) => setWho(e.currentTarget.value)} />
        </label>
        <Reason value={reason} onInput={setReason} hint="Tuesday rehearsal" />
        <label class="field">
          <span>Ends after how many minutes</span>
          <input name="minutes" type="number" min="1" max="60" step="1" required value={minutes} onInput={(e) => setMinutes(e.currentTarget.value)} />
        </label>
        <Fault error={drill.error} what="The drill has not begun." asked />
        <div class="menu">
          <button type="button" onClick={onClose} disabled={drill.busy}>Cancel</button>
          <button class="main" disabled={drill.busy || lines > maxDrill}>Begin</button>
        </div>
      </form>
    </Dialog>
  );
}

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Ids of those who were told by their user name. Of who is not found the service would say so only by id. */
async function resolve(group: string, who: string[]): Promise<string[]> {
  const ids: string[] = [];
  for (const one of who) {
    if (uuid.test(one)) ids.push(one);
    else {
      const found = (await data(api.GET("/v1/agents", { params: { query: { failoverGroup: group, username: one } } }))).items[0];
      if (!found) throw new Error(`There is no agent with the user name ${one} in ${group}.`);
      ids.push(found.agentId);
    }
  }
  return ids;
}

const parts: Column<Part>[] = [
  { name: "agent", title: "Agent", width: "minmax(14rem, 1.5fr)", cell: (a) => <a href={href("agents", a.agentId)} title={a.agentId}>{a.username ?? shortId(a.agentId)}</a> },
  { name: "outcome", title: "Outcome", width: "10rem", cell: (a) => <Pill mood={({ detected: "busy", pending: "busy", completed: "good", cancelled: "calm", skipped: "bad" } as const)[a.outcome]}>{{ detected: "told", pending: "held", completed: "would have gone", cancelled: "cancelled", skipped: "not told" }[a.outcome]}</Pill> },
  { name: "way", title: "Way", width: "minmax(12rem, 1fr)", cell: (a) => a.fromRegion && a.toRegion ? `${a.fromRegion} → ${a.toRegion}` : "–" },
  { name: "stream", title: "Stream", width: "7rem", cell: (a) => a.streaming ? "open" : <Pill mood="bad">none</Pill> },
  { name: "standby", title: "Standby", width: "8rem", cell: (a) => a.standbyReady === null ? "not told" : a.standbyReady ? "ready" : <Pill mood="bad">not ready</Pill> },
  { name: "held", title: "Held by", width: "6.5rem", number: true, cell: (a) => a.contactIds.length === 0 ? "–" : plural(a.contactIds.length, "contact") },
  { name: "for", title: "Held for", width: "8rem", cell: (a) => a.pendingAt && (a.completedAt ?? a.cancelledAt) ? duration(new Date(a.completedAt ?? a.cancelledAt!).getTime() - new Date(a.pendingAt).getTime()) : "–" },
  { name: "detail", title: "", width: "minmax(8rem, 1.5fr)", cell: (a) => <span title={a.detail ?? undefined}>{a.detail ?? ""}</span> },
];

/** The report on one drill, while it is under way and after it. */
export function DrillPage({ id }: { id: string }) {
  const drill = useLive(`drill ${id}`, (signal) => data(api.GET("/v1/drills/{drillId}", { params: { path: { drillId: id } }, signal })));
  return (
    <>
      <div class="title">
        <h1><a href={href("drills")}>Drills</a> / {drill.data ? time(drill.data.startedAt) : "…"}</h1>
        {drill.data && <DrillState drill={drill.data} />}
        <div class="actions"><a class="button" href={`/v1/drills/${encodeURIComponent(id)}`} download={`drill-${id}.json`}>Report as JSON</a></div>
      </div>
      <Loaded live={drill} lines={10} what="The drill">
        {(d) => (
          <>
            <div class="report spaced">
              <section class="card">
                <h2>{d.reason}</h2>
                <dl class="facts">
                  <dt>Failover group</dt><dd>{d.failoverGroup}</dd>
                  <dt>By</dt><dd>{d.by}</dd>
                  <dt>Began</dt><dd><At at={d.startedAt} /></dd>
                  <dt>{d.endedAt ? "Ended" : "Ends at the latest"}</dt><dd><At at={d.endedAt ?? d.until} /></dd>
                </dl>
              </section>
              <section class="card">
                <h2>{plural(d.agents.length, "agent")}</h2>
                <dl class="figures">
                  {([["Would have gone", d.counts.completed], ["Held", d.counts.pending], ["Told", d.counts.detected], ["Cancelled", d.counts.cancelled], ["Not told", d.counts.skipped], ["Without a stream", d.counts.notStreaming], ["Standby not ready", d.counts.standbyNotReady]] as const).map(([name, n]) => (
                    <div key={name}><dt>{name}</dt><dd>{count(n)}</dd></div>
                  ))}
                </dl>
              </section>
            </div>
            <div style="--table-height: calc(100vh - 27.5rem)"><Table label="Agents of the drill" columns={parts} rows={d.agents} rowKey={(a) => a.agentId} onOpen={(a) => go("agents", a.agentId)} empty="Nobody." /></div>
          </>
        )}
      </Loaded>
    </>
  );
}
