// Who is held by what, and the way out.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { api, data, type Schemas } from "../api";
import { longest, phase, toll, type Toll } from "../contacts";
import { floor, groupNames } from "../floor";
import { count, plural, shortId, time } from "../format";
import { useLive } from "../live";
import { go, href, route, setQuery } from "../router";
import { useRows } from "../rows";
import { useShortcuts } from "../ui/keys";
import { Ago, Pill, RoleButton, Unread } from "../ui/parts";
import { Table, type Column } from "../ui/table";
import { ForceDialog, type Filter, type Target } from "./force";

type Open = Schemas["OpenFailover"];
type Query = NonNullable<Parameters<typeof loadPage>[0]>;

const most = 1000; // a bulk force names no more

function loadPage(query: Partial<{ failoverGroup: string; fromRegion: string; channel: string; status: Open["status"]; phase: "talking" | "afterContactWork"; stale: boolean; order: "longest" | "shortest" | "username" }>,
  cursor: string | undefined, limit: number, signal: AbortSignal) {
  return data(api.GET("/v1/open-failovers", { params: { query: { ...query, limit, ...(cursor ? { cursor } : {}) } }, signal }));
}

const columns: Column<Open>[] = [
  { name: "agent", title: "Agent", width: "minmax(10rem, 1.4fr)", sort: "username", cell: (f) => <a href={href("agents", f.agentId)} title={f.agentId}>{f.username ?? shortId(f.agentId)}</a> },
  { name: "wait", title: "Waits", width: "8rem", sort: "wait", number: true, cell: (f) => <Ago at={f.pendingAt ?? f.detectedAt} /> },
  {
    name: "doing", title: "Is", width: "11rem",
    cell: (f) => (f.status === "detected" ? <Pill mood="calm">{f.staleSince ? "not known" : "being looked at"}</Pill> : <Pill mood={f.contacts.some((c) => c.state !== "ENDED") ? "busy" : "calm"}>{phase(f.contacts)}</Pill>),
  },
  { name: "since", title: "For", width: "8rem", number: true, cell: (f) => <Ago at={longest(f.contacts)} /> },
  { name: "channel", title: "Channel", width: "8rem", cell: (f) => [...new Set(f.contacts.map((c) => c.channel.toLowerCase()))].join(", ") || "–" },
  { name: "contacts", title: "Contacts", width: "minmax(9rem, 1fr)", cell: (f) => <span class="id" title={f.contacts.map((c) => c.contactId).join("\n")}>{f.contacts.map((c) => shortId(c.contactId)).join(" ") || "–"}</span> },
  { name: "way", title: "From → to", width: "minmax(13rem, 1fr)", cell: (f) => `${f.fromRegion} → ${f.toRegion}` },
  { name: "stale", title: "Data", width: "9rem", cell: (f) => (f.staleSince ? <Pill mood="bad" title={`${f.fromRegion} cannot be read since ${time(f.staleSince)}: contacts as they were then`}>stale</Pill> : <span class="quiet">fresh</span>) },
];

export function Pending() {
  const q = route.value.query;
  const group = q.get("group") ?? "", from = q.get("from") ?? "", channel = q.get("channel") ?? "", doing = q.get("phase") ?? "", stale = q.get("stale") ?? "";
  const order = (q.get("order") ?? "longest") as "longest" | "shortest" | "username";
  const chosenBy = { // of the list, and of a force of all that is in it
    ...(from && { fromRegion: from }), ...(channel && { channel }), ...(doing === "looking" ? { status: "detected" as const } : doing ? { phase: doing as "talking" } : {}),
  };
  const query: Query = { ...(group && { failoverGroup: group }), ...chosenBy, ...(stale && { stale: stale === "yes" }), order };
  const key = `open/${JSON.stringify(query)}`;
  const list = useRows(key, {
    load: (cursor, limit, signal) => loadPage(query, cursor, limit, signal), keyOf: (f: Open) => f.failoverId,
    matters: (e) => e.event.startsWith("failover"),
  });
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set());
  const [target, setTarget] = useState<{ target: Target; toll?: Toll }>();
  const search = useRef<HTMLSelectElement>(null);

  // Whoever has gone is selected no more, so that the count is of those who are there.
  const chosen = useMemo(() => list.rows.filter((f) => selected.has(f.failoverId)), [list.rows, selected]);
  useEffect(() => { setSelected(new Set()); }, [key]);
  const totals = list.live.data?.totals;
  const regions = [...new Set(floor.value.data?.items.filter((g) => !group || g.failoverGroup === group).flatMap((g) => g.byActiveRegion.map((r) => r.activeRegion ?? "")) ?? [])].filter(Boolean).sort();
  const groups = groupNames();
  const chosenGroups = [...new Set(chosen.map((f) => f.failoverGroup))];
  const theGroup = group || (groups.length === 1 ? groups[0]! : "");
  const matching = theGroup
    ? { kind: "matching" as const, group: theGroup, filter: { ...chosenBy, ...(stale && (stale === "yes" ? { onlyStale: true } : { onlyFresh: true })) } satisfies Filter } : undefined;

  const forceSelected = () => {
    if (chosen.length === 0 || chosen.length > most || chosenGroups.length > 1) return;
    const one = chosen[0]!;
    setTarget({ target: chosen.length === 1 ? { kind: "one", failoverId: one.failoverId, who: one.username ?? one.agentId } : { kind: "selected", group: one.failoverGroup, failoverIds: chosen.map((f) => f.failoverId) } });
  };
  useShortcuts([
    { keys: "f", what: "Force those that are selected", do: forceSelected },
    { keys: "/", what: "Go to the filters", do: () => search.current?.focus() },
    { keys: "x", what: "Select none", do: () => setSelected(new Set()) },
  ]);
  const filter = (name: string, value: string) => setQuery({ [name]: value || undefined });
  const why = chosen.length > most ? `At most ${count(most)} at a time.` : chosenGroups.length > 1 ? "Select agents of one failover group." : undefined;
  return (
    <>
      <div class="title">
        <h1>Pending</h1>
        <p class="sum">{totals?.failovers === 0 ? "Nobody waits" : totals ? <>{plural(totals.failovers, "agent")} {totals.failovers === 1 ? "waits" : "wait"}: {plural(totals.live, "live contact")}, {count(totals.afterContactWork)} in after-contact work{totals.failovers > totals.pending && <>; of {plural(totals.failovers - totals.pending, "agent")} not known yet</>}</> : "…"}</p>
        <div class="actions">
          <RoleButton roles={["operator", "admin"]} class="danger" disabled={chosen.length === 0 || why !== undefined} title={why ?? (chosen.length === 0 ? "Select agents first" : undefined)} onClick={forceSelected}>
            Force selected{chosen.length > 0 ? ` (${count(chosen.length)})` : ""}…
          </RoleButton>
          <RoleButton roles={["operator", "admin"]} disabled={!matching || !totals?.failovers} title={matching ? undefined : "A force is of one failover group: choose it first"}
            onClick={() => matching && setTarget({ target: matching })}>
            Force all that match…
          </RoleButton>
        </div>
      </div>
      <div class="filters" role="search" aria-label="Filters">
        {groups.length > 1 && <Choice label="Failover group" value={group} onChange={(v) => filter("group", v)} options={["", ...groups].map((g) => [g, g || "All"])} />}
        <label class="field"><span>Is</span>
          <select ref={search} value={doing} onChange={(e) => filter("phase", e.currentTarget.value)}>
            {[["", "Anything"], ["talking", "Talking"], ["afterContactWork", "In after-contact work"], ["looking", "Being looked at"]].map(([v, t]) => <option key={v} value={v}>{t}</option>)}
          </select>
        </label>
        <Choice label="Channel" value={channel} onChange={(v) => filter("channel", v)} options={[["", "All"], ["VOICE", "Voice"], ["CHAT", "Chat"]]} />
        <Choice label="Leaves" value={from} onChange={(v) => filter("from", v)} options={["", ...regions].map((r) => [r, r || "Any Region"])} />
        <Choice label="Data" value={stale} onChange={(v) => filter("stale", v)} options={[["", "All"], ["yes", "Stale: Region down"], ["no", "Fresh"]]} />
        <Choice label="First" value={order} onChange={(v) => filter("order", v === "longest" ? "" : v)} options={[["longest", "Longest waiting"], ["shortest", "Shortest waiting"], ["username", "By name"]]} />
      </div>
      <Unread live={list.live} what="The list" />
      <Table label="Open failovers" columns={columns} rows={list.rows} rowKey={(f) => f.failoverId} more={list.more} total={totals?.failovers} loading={list.loading} onView={list.view}
        onOpen={(f) => go("agents", f.agentId)} selected={selected} onSelect={setSelected}
        sorting={order === "username" ? { by: "username", descending: false } : { by: "wait", descending: order === "longest" }}
        onSort={(s) => filter("order", s.by === "username" ? "username" : order === "longest" ? "shortest" : "")}
        empty={Object.keys(query).length > 1 ? "Nobody who waits matches the filters." : "Nobody waits. During a shift those appear here whom a contact holds."} />
      {target?.target.kind === "matching"
        ? <ForceMatching target={target.target} onClose={() => setTarget(undefined)} />
        : target && <ForceDialog target={target.target} toll={toll(chosen)} onClose={(done) => { setTarget(undefined); if (done) setSelected(new Set()); }} />}
    </>
  );
}

/** Counts anew while the dialog is open: what is confirmed is what is there. */
function ForceMatching({ target, onClose }: { target: Extract<Target, { kind: "matching" }>; onClose(): void }) {
  const { onlyStale, onlyFresh, ...filter } = target.filter;
  const all = useLive("force", (signal) => data(api.GET("/v1/open-failovers", {
    params: { query: { ...filter, failoverGroup: target.group, ...(onlyStale || onlyFresh ? { stale: onlyStale === true } : {}), limit: 1 } }, signal,
  })), { every: 1000 });
  const t = all.data?.totals;
  return <ForceDialog target={target} toll={t && { failovers: t.failovers, live: t.live, afterContactWork: t.afterContactWork, unknown: t.failovers - t.pending }} onClose={onClose} />;
}

export function Choice({ label, value, options, onChange }: { label: string; value: string; options: string[][]; onChange(value: string): void }) {
  return (
    <label class="field"><span>{label}</span>
      <select value={value} onChange={(e) => onChange(e.currentTarget.value)}>{options.map(([v, t]) => <option key={v} value={v}>{t}</option>)}</select>
    </label>
  );
}
