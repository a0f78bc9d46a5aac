import { useState } from "preact/hooks";
import { api, data, type Schemas } from "../api";
import { may, whyNot } from "../session";
import { route, setQuery } from "../router";
import { useRows } from "../rows";
import { Dialog } from "../ui/dialog";
import { At, Pill, Unread } from "../ui/parts";
import { Table, type Column } from "../ui/table";

type Entry = Schemas["AuditEntry"];

/** What a mutation can be, for the filter: `operationId` of the API. */
const actions = [
  "forceFailover", "forceFailovers", "pauseFailoverGroup", "resumeFailoverGroup", "startDrill", "replayWebhookDelivery", "reportObservation", "createStreamTicket",
];

function Outcome({ entry }: { entry: Entry }) {
  return <Pill mood={entry.outcome === "done" ? "good" : entry.outcome === "accepted" ? "calm" : "bad"}>{entry.outcome}</Pill>;
}

const columns: Column<Entry>[] = [
  { name: "id", title: "No.", width: "5rem", number: true, cell: (e) => e.auditId },
  { name: "time", title: "Time", width: "10rem", cell: (e) => <At at={e.time} /> },
  { name: "subject", title: "Who", width: "minmax(9rem, 1fr)", cell: (e) => <span title={e.subject}>{e.subject}</span> },
  { name: "action", title: "Action", width: "12rem", cell: (e) => e.action },
  { name: "outcome", title: "Outcome", width: "10rem", cell: (e) => <Outcome entry={e} /> },
  { name: "reason", title: "Why", width: "minmax(10rem, 2fr)", cell: (e) => <span title={e.reason ?? undefined}>{e.reason ?? "–"}</span> },
  { name: "target", title: "To what", width: "minmax(12rem, 2fr)", cell: (e) => <span class="id" title={e.target}>{e.target}</span> },
];

/** Who changed what, why, and what came of it. */
export function Audit() {
  return (
    <>
      <div class="title"><h1>Audit</h1></div>
      {may("admin") ? <Trail /> : <p class="warning">{whyNot("admin")}</p>}
    </>
  );
}

function Trail() {
  const { query } = route.value;
  const filter = (name: string) => query.get(name) || undefined;
  const [open, setOpen] = useState<Entry | undefined>(undefined);
  const wanted = { subject: filter("subject"), action: filter("action"), target: filter("target"), outcome: filter("outcome"), since: since(filter("days")) };
  const list = useRows(`audit/${JSON.stringify(wanted)}`, {
    load: (cursor, limit, signal) => data(api.GET("/v1/audit", { params: { query: { ...wanted, limit, cursor } }, signal })), keyOf: (e: Entry) => e.auditId, every: 4000,
  });
  return (
    <>
      <form class="filters" role="search" onSubmit={(e) => e.preventDefault()}>
        <Filter name="subject" title="Who" />
        <Filter name="action" title="Action" options={actions} />
        <Filter name="target" title="To what" hint="failover-groups/main" />
        <Filter name="outcome" title="Outcome" options={["accepted", "done", "forbidden", "rule-refused", "failover-not-open", "not-found"]} />
        <label class="field">
          <span>Since</span>
          <select value={query.get("days") ?? ""} onChange={(e) => setQuery({ days: e.currentTarget.value })}>
            <option value="">the beginning</option><option value="1">a day</option><option value="7">a week</option><option value="30">a month</option>
          </select>
        </label>
        {[...query.keys()].length > 0 && <button type="button" onClick={() => setQuery(Object.fromEntries([...query.keys()].map((k) => [k, undefined])))}>Clear</button>}
      </form>
      <Unread live={list.live} what="The audit" />
      <Table label="Audit" columns={columns} rows={list.rows} rowKey={(e) => e.auditId} more={list.more} loading={list.loading} onView={list.view} onOpen={(e) => setOpen(e)}
        empty={[...query.keys()].length > 0 ? "No entry is like this. Texts have to match exactly." : "Nobody has changed anything yet."} />
      {open && <EntryDialog entry={open} onClose={() => setOpen(undefined)} />}
    </>
  );
}

/** Whole days back, so that the same question is asked again. */
function since(days: string | undefined): string | undefined {
  if (!days || !(Number(days) > 0)) return undefined;
  const t = new Date();
  t.setUTCHours(0, 0, 0, 0);
  return new Date(t.getTime() - (Number(days) - 1) * 86_400_000).toISOString();
}

/** A text that has to match exactly, asked for when it was typed to its end. */
function Filter({ name, title, hint, options }: { name: string; title: string; hint?: string; options?: string[] }) {
  const { query } = route.value;
  return (
    <label class="field">
      <span>{title}</span>
      <input type="search" name={name} placeholder={hint} autocomplete="off" list={options && `${name}-options`} value={query.get(name) ?? ""} onChange={(e) => setQuery({ [name]: e.currentTarget.value.trim() })} />
      {options && <datalist id={`${name}-options`}>{options.map((o) => <option key={o} value={o} />)}</datalist>}
    </label>
  );
}

function EntryDialog({ entry, onClose }: { entry: Entry; onClose(): void }) {
  return (
    <Dialog title={`Entry ${entry.auditId}: ${entry.action}`} onClose={onClose} wide>
      <dl class="facts">
        <dt>When</dt><dd>{entry.time}</dd>
        <dt>Who</dt><dd>{entry.subject} <small>{entry.roles.join(", ")}</small></dd>
        <dt>To what</dt><dd class="id">{entry.target}</dd>
        <dt>Outcome</dt><dd><Outcome entry={entry} /></dd>
        <dt>Why</dt><dd>{entry.reason ?? "–"}</dd>
        <dt>Request</dt><dd class="id">{entry.requestId}</dd>
      </dl>
      {([["Asked for", entry.details], ["Before", entry.before], ["After", entry.after]] as const).map(([title, value]) => value && (
        <section key={title}><h3>{title}</h3><pre tabIndex={0} aria-label={title}>{JSON.stringify(value, null, 2)}</pre></section>
      ))}
      <div class="menu"><button type="button" onClick={onClose}>Close</button></div>
    </Dialog>
  );
}
