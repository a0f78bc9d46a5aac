import { useEffect, useRef, useState } from "preact/hooks";
import { api, data, idempotency, type FailoverGroup, type Schemas } from "../api";
import { stateWord } from "../contacts";
import { count, duration, plural, time } from "../format";
import { now } from "../clock";
import { useLive } from "../live";
import { go, href, route, setQuery } from "../router";
import { useRows } from "../rows";
import { Dialog } from "../ui/dialog";
import { useGroups } from "../ui/groups";
import { Ago, At, Fault, Loaded, Pill, Reason, RoleButton, useAction } from "../ui/parts";
import { Table, type Column } from "../ui/table";
import { DrillDialog, maxDrill } from "./drills";

/** Hold completions, and look at what a shift would mean. */
export function Controls() {
  const groups = useGroups();
  const name = route.value.query.get("group");
  return (
    <>
      <div class="title"><h1>Controls</h1></div>
      <Loaded live={groups} lines={10} what="The failover groups">
        {(all) => {
          const group = all.find((g) => g.name === name) ?? all[0];
          if (!group) return <p class="card">No failover group is configured.</p>;
          return (
            <>
              {all.length > 1 && (
                <div class="filters" role="group" aria-label="Failover group">
                  {all.map((g) => <button key={g.name} type="button" aria-pressed={g === group} onClick={() => setQuery({ group: g.name, to: undefined, outcome: undefined })}>{g.name}</button>)}
                </div>
              )}
              <PauseCard key={`pause ${group.name}`} group={group} />
              <PlanCard key={`plan ${group.name}`} group={group} />
            </>
          );
        }}
      </Loaded>
    </>
  );
}

function PauseCard({ group }: { group: FailoverGroup }) {
  const [asking, setAsking] = useState(false);
  const summary = useLive("summary of controls", () => data(api.GET("/v1/summary")));
  const floor = summary.data?.items.find((g) => g.failoverGroup === group.name);
  const resume = useAction(async (_: Record<string, never>, key) => {
    await api.DELETE("/v1/failover-groups/{name}/pause", { params: { path: { name: group.name }, header: idempotency(key) } });
    return `${group.name} goes on.`;
  });
  const pause = floor ? floor.pause : group.pause; // the group's is a second or two behind
  return (
    <section class="card whole spaced" aria-label="Pause">
      <div class="title">
        <h2>Completions of {group.name}</h2>
        {pause ? <Pill mood="busy">paused</Pill> : <Pill mood="good">go on</Pill>}
        <div class="actions">
          {pause && <RoleButton class="main" roles={["operator", "admin"]} disabled={resume.busy} onClick={() => void resume.run({})}>Resume</RoleButton>}
          <RoleButton roles={["operator", "admin"]} onClick={() => setAsking(true)}>{pause ? "Change the pause…" : "Pause…"}</RoleButton>
        </div>
      </div>
      <Fault error={resume.error} what="Not resumed." asked />
      {pause
        ? <dl class="facts">
            <dt>Why</dt><dd>{pause.reason}</dd>
            <dt>By</dt><dd>{pause.by}, since <At at={pause.since} /></dd>
            <dt>Ends by itself</dt><dd>at {time(pause.until)}, in {duration(new Date(pause.until).getTime() - now.value)}</dd>
            <dt>Held by it</dt><dd>{floor ? plural(floor.held, "failover") : "–"}</dd>
          </dl>
        : <p class="quiet">A pause holds what would complete. Detections, contacts and cancellations go on, and force goes past it.</p>}
      {asking && <PauseDialog name={group.name} pause={pause} open={floor ? floor.detected + floor.pending : undefined} onClose={() => setAsking(false)} />}
    </section>
  );
}

function PauseDialog({ name, pause: before, open, onClose }: { name: string; pause: Schemas["Pause"] | null; open: number | undefined; onClose(): void }) {
  const [reason, setReason] = useState(before?.reason ?? "");
  const [minutes, setMinutes] = useState("30");
  const pause = useAction(async (input: { reason: string; ttlSeconds: number }, key) => {
    await api.POST("/v1/failover-groups/{name}/pause", { params: { path: { name }, header: idempotency(key) }, body: input });
    return `${name} is paused for ${plural(input.ttlSeconds / 60, "minute")}.`;
  });
  return (
    <Dialog title={`Pause ${name}`} onClose={onClose} busy={pause.busy}>
      <form onSubmit={(e) => { e.preventDefault(); void pause.run({ reason: reason.trim(), ttlSeconds: Math.round(Number(minutes) * 60) }).then((done) => { if (done) onClose(); }); }}>
        <p>Nobody of this failover group is completed until the pause ends{open ? `; ${plural(open, "failover is", "failovers are")} open now` : ""}. Agents who wait are told why.</p>
        <Reason value={reason} onInput={setReason} hint="payment system is down in us-west-2" />
        <label class="field">
          <span>For how many minutes</span>
          <input name="minutes" type="number" min="1" max="1440" step="1" required value={minutes} onInput={(e) => setMinutes(e.currentTarget.value)} />
        </label>
        <Fault error={pause.error} what="Not paused." asked />
        <div class="menu">
          <button type="button" onClick={onClose} disabled={pause.busy}>Cancel</button>
          <button class="main" disabled={pause.busy}>Pause</button>
        </div>
      </form>
    </Dialog>
  );
}

type Planned = Schemas["PlannedAgent"];
type Outcome = Schemas["PlanOutcome"];

const outcomes: { name: Outcome; title: string; mood: "good" | "busy" | "bad" | "calm" }[] = [
  { name: "atOnce", title: "Would go at once", mood: "good" },
  { name: "waits", title: "Would wait for contacts", mood: "busy" },
  { name: "unknown", title: "Cannot be told", mood: "bad" },
  { name: "there", title: "Are there already", mood: "calm" },
];

const columns: Column<Planned>[] = [
  { name: "agent", title: "Agent", width: "minmax(10rem, 1.2fr)", cell: (a) => <a href={href("agents", a.agentId)} title={a.agentId}>{a.username ?? a.agentId}</a> },
  { name: "outcome", title: "Outcome", width: "9rem", cell: (a) => <Said agent={a} /> },
  { name: "from", title: "Works in", width: "8rem", cell: (a) => <>{a.fromRegion ?? "–"}{a.stale && <> <Pill mood="bad" title="The Region does not answer">stale</Pill></>}</> },
  {
    name: "contacts", title: "Would wait for", width: "minmax(14rem, 2fr)",
    cell: (a) => a.contacts.length === 0 ? "–" : a.contacts.map((c) => `${c.channel.toLowerCase()}, ${stateWord(c.state)}${c.stateSince ? ` for ${duration(now.value - new Date(c.stateSince).getTime())}` : ""}`).join("; "),
  },
  { name: "read", title: "Read", width: "7.5rem", cell: (a) => a.readAt ? <><Ago at={a.readAt} /> ago</> : "never" },
  { name: "stream", title: "Desktop", width: "8rem", cell: (a) => a.reports ? "reports" : a.streaming ? "hears" : "not there" },
];

function Said({ agent }: { agent: Planned }) {
  const { mood } = outcomes.find((o) => o.name === agent.outcome)!;
  return <Pill mood={mood}>{{ there: "is there", atOnce: agent.evidence === "lastKnown" ? "as last known" : "at once", waits: "waits", unknown: "unknown" }[agent.outcome]}</Pill>;
}

/** What a shift would mean, as of the last look. */
function PlanCard({ group }: { group: FailoverGroup }) {
  const { query } = route.value;
  const regions = group.instances.map((i) => i.region);
  const to = regions.find((r) => r === query.get("to"));
  return (
    <section class="card whole spaced" aria-label="Plan">
      <div class="title">
        <h2>If agents were sent to</h2>
        <div class="choice" role="group" aria-label="Region">
          {regions.map((r) => <button key={r} type="button" aria-pressed={r === to} onClick={() => setQuery({ to: r, outcome: undefined })}>{r}</button>)}
        </div>
      </div>
      {to ? <Plan key={to} group={group.name} to={to} /> : <p class="quiet">Choose a Region to see who would go at once, who would wait for which contacts, and of whom that is not known. It changes nothing.</p>}
    </section>
  );
}

function Plan({ group, to }: { group: string; to: string }) {
  const outcome = outcomes.find((o) => o.name === route.value.query.get("outcome"))?.name;
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set());
  const [drilling, setDrilling] = useState(false);
  const list = useRows(`plan/${group}/${to}/${outcome}`, {
    load: (cursor, limit, signal) => data(api.POST("/v1/failover-groups/{name}/plan", { params: { path: { name: group }, query: { outcome, limit, cursor } }, body: { toRegion: to }, signal })),
    keyOf: (a: Planned) => a.agentId, every: 10_000,
  });
  const last = useRef(list.live.data);
  last.current = list.live.data ?? last.current; // another outcome is of the same plan
  const look = last.current;
  useEffect(() => setSelected(new Set()), [outcome]);
  return (
    <>
      <Fault error={list.live.error} what="There is no plan." />
      <div class="outcomes" role="group" aria-label="Outcome">
        {outcomes.map((o) => (
          <button key={o.name} type="button" class={o.mood} aria-pressed={o.name === outcome} onClick={() => setQuery({ outcome: o.name === outcome ? undefined : o.name })}>
            <b class={look?.counts[o.name] ? undefined : "none"}>{look ? count(look.counts[o.name]) : "–"}</b> {o.title}
          </button>
        ))}
      </div>
      <div class="title">
        <p class="quiet">As of {look ? time(look.at) : "–"}. {outcome ? "Only those; press again for all." : "Press a number to see only those."}</p>
        <div class="actions">
          <RoleButton roles={["operator", "admin"]} disabled={selected.size === 0 || selected.size > maxDrill} onClick={() => setDrilling(true)}
            title={selected.size > maxDrill ? `A drill takes ${maxDrill} agents at most` : "Rehearse with the selected agents; nothing real changes"}>
            Drill with {selected.size > 0 ? plural(selected.size, "agent") : "the selected"}…
          </RoleButton>
        </div>
      </div>
      <div style="--table-height: calc(100vh - 35rem)"><Table label="Plan" columns={columns} rows={list.rows} rowKey={(a) => a.agentId} more={list.more} loading={list.loading} onView={list.view} onOpen={(a) => go("agents", a.agentId)}
        selected={selected} onSelect={setSelected} empty={outcome ? "Nobody." : "The failover group has no agents yet."} /></div>
      {drilling && <DrillDialog group={group} agents={[...selected]} onClose={() => setDrilling(false)} />}
    </>
  );
}
