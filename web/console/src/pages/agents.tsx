// Every agent, and where they work.
import { useEffect, useRef, useState } from "preact/hooks";
import { api, data, type Agent, type Schemas } from "../api";
import { floor, groupNames } from "../floor";
import { count, shortId } from "../format";
import { go, href, route, setQuery } from "../router";
import { useRows } from "../rows";
import { useShortcuts } from "../ui/keys";
import { Ago, Pill, Unread } from "../ui/parts";
import { Table, type Column } from "../ui/table";
import { Choice } from "./pending";

export const stateMoods = { active: "good", detected: "busy", pending: "busy", unknown: "bad" } as const;

const columns: Column<Agent>[] = [
  { name: "agent", title: "Agent", width: "minmax(11rem, 1.4fr)", sort: "username", cell: (a) => <a href={href("agents", a.agentId)} title={a.agentId}>{a.username ?? shortId(a.agentId)}</a> },
  { name: "state", title: "State", width: "7rem", cell: (a) => <Pill mood={stateMoods[a.state]}>{a.state}</Pill> },
  { name: "region", title: "Works in", width: "9rem", cell: (a) => a.activeRegion ?? "unknown" },
  { name: "next", title: "Goes to", width: "9rem", cell: (a) => a.nextActiveRegion ?? "" },
  { name: "contacts", title: "Contacts", width: "6rem", number: true, cell: (a) => count(a.openContacts) },
  { name: "connections", title: "Streams", width: "6rem", number: true, cell: (a) => count(a.connections) },
  { name: "standby", title: "Standby", width: "8rem", cell: (a) => (a.standby ? <Pill mood={a.standby.ready === false ? "bad" : a.standby.ready ? "good" : "calm"} title={a.standby.reason ?? undefined}>{a.standby.ready === false ? "not ready" : a.standby.ready ? "ready" : "not known"}</Pill> : <span class="quiet">no word</span>) },
  { name: "seen", title: "Observed", width: "9rem", number: true, cell: (a) => <Ago at={a.observedAt} /> },
  { name: "errors", title: "Set-up", width: "minmax(10rem, 1fr)", cell: (a) => (a.configureErrors.length > 0 ? <span class="disagree" title={a.configureErrors.map((e) => e.message).join("\n")}>{a.configureErrors.map((e) => e.code).join(", ")}</span> : "") },
];

export function Agents() {
  const q = route.value.query;
  const group = q.get("group") ?? "", region = q.get("region") ?? "", state = q.get("state") ?? "", search = q.get("search") ?? "";
  const byName = q.get("order") === "username";
  const query = { ...(group && { failoverGroup: group }), ...(region && { activeRegion: region }), ...(state && { state: state as Schemas["AgentState"] }), ...(search && { search }) };
  const list = useRows(`agents/${byName}/${JSON.stringify(query)}`, {
    load: (cursor, limit, signal) => data(api.GET("/v1/agents", { params: { query: { ...query, ...(byName ? { order: "username" as const } : {}), limit, ...(cursor ? { cursor } : {}) } }, signal })), keyOf: (a: Agent) => a.agentId, every: 3000,
  });
  const field = useRef<HTMLInputElement>(null);
  const [typed, setTyped] = useState(search);
  useEffect(() => { setTyped(search); }, [search]);
  useEffect(() => { // when typing pauses
    const timer = setTimeout(() => { if (typed.trim() !== search) setQuery({ search: typed.trim() || undefined }); }, 300);
    return () => clearTimeout(timer);
  }, [typed]);
  useShortcuts([{ keys: "/", what: "Search", do: () => field.current?.focus() }]);

  const items = floor.value.data?.items.filter((g) => !group || g.failoverGroup === group);
  const total = items?.reduce((n, g) => n + g.byActiveRegion.filter((c) => (!region || c.activeRegion === region) && (!state || c.state === state)).reduce((m, c) => m + c.count, 0), 0);
  const regions = [...new Set(items?.flatMap((g) => g.byActiveRegion.map((r) => r.activeRegion ?? "")) ?? [])].filter(Boolean).sort();
  const groups = groupNames();
  const filter = (name: string, value: string) => setQuery({ [name]: value || undefined });
  return (
    <>
      <div class="title"><h1>Agents</h1><p class="sum">{search ? (list.more ? `more than ${count(list.rows.length)} found` : `${count(list.rows.length)} found`) : count(total)}</p></div>
      <div class="filters" role="search" aria-label="Filters">
        <label class="field"><span>Name or id begins with</span><input ref={field} type="search" value={typed} onInput={(e) => setTyped(e.currentTarget.value)} maxLength={100} spellcheck={false} /></label>
        {groups.length > 1 && <Choice label="Failover group" value={group} onChange={(v) => filter("group", v)} options={["", ...groups].map((g) => [g, g || "All"])} />}
        <Choice label="Works in" value={region} onChange={(v) => filter("region", v)} options={["", ...regions].map((r) => [r, r || "Any Region"])} />
        <Choice label="State" value={state} onChange={(v) => filter("state", v)} options={[["", "Any"], ["active", "Active"], ["detected", "Detected"], ["pending", "Pending"], ["unknown", "Unknown"]]} />
        <Choice label="In the order of" value={byName ? "username" : ""} onChange={(v) => filter("order", v)} options={[["", "Ids"], ["username", "Names"]]} />
      </div>
      <Unread live={list.live} what="The list" />
      <Table label="Agents" columns={columns} rows={list.rows} rowKey={(a) => a.agentId} more={list.more} total={search ? undefined : total} loading={list.loading} onView={list.view}
        sorting={byName ? { by: "username", descending: false } : undefined} onSort={() => filter("order", byName ? "" : "username")}
        onOpen={(a) => go("agents", a.agentId)} empty={Object.keys(query).length > 0 ? "No agent matches." : "No agents are known yet."} />
    </>
  );
}
