import { useState } from "preact/hooks";
import { api, data, idempotency, type Schemas } from "../api";
import { count, plural } from "../format";
import { useLive } from "../live";
import { href, route, setQuery } from "../router";
import { useRows } from "../rows";
import { Ago, At, Fault, Loaded, Pill, RoleButton, useAction, Unread } from "../ui/parts";
import { Table, type Column } from "../ui/table";

type Webhook = Schemas["Webhook"];
type Delivery = Schemas["Delivery"];

const statuses = ["pending", "delivered", "dead"] as const;

function Mood({ webhook: w }: { webhook: Webhook }) {
  if (w.dead > 0) return <Pill mood="bad">{plural(w.dead, "dead letter")}</Pill>;
  // What succeeded after the last failure has healed.
  if (w.lastErrorAt && (!w.lastSuccessAt || w.lastErrorAt > w.lastSuccessAt) && w.pending > 0) return <Pill mood="busy">failing</Pill>;
  return <Pill mood="good">delivers</Pill>;
}

/** The configured receivers and how their deliveries stand. */
export function Webhooks() {
  const list = useLive("webhooks", async (signal) => (await data(api.GET("/v1/webhooks", { signal }))).items, { every: 4000 });
  return (
    <>
      <div class="title"><h1>Webhooks</h1></div>
      <Loaded live={list} lines={8} what="The webhooks">
        {(webhooks) => webhooks.length === 0
          ? <p class="card">None is configured (<code>webhooks</code> in the configuration). A receiver would be told of failovers and of Regions that fail.</p>
          : <div class="cards">{webhooks.map((w) => <Card key={w.name} webhook={w} />)}</div>}
      </Loaded>
    </>
  );
}

function Card({ webhook: w }: { webhook: Webhook }) {
  return (
    <section class="card">
      <div class="title"><h2><a href={href("webhooks", w.name)}>{w.name}</a></h2><Mood webhook={w} /></div>
      <dl class="figures">
        <div><dt>Not in a delivery yet</dt><dd>{count(w.behind)}</dd></div>
        <div><dt><a href={href("webhooks", w.name, { status: "pending" })}>Pending</a></dt><dd>{count(w.pending)}</dd></div>
        <div><dt><a href={href("webhooks", w.name, { status: "dead" })}>Dead</a></dt><dd>{count(w.dead)}</dd></div>
      </dl>
      <dl class="facts">
        <dt>To</dt><dd>{w.origin}</dd>
        <dt>Events</dt><dd>{w.events.join(", ")}</dd>
        <dt>Failover groups</dt><dd>{w.failoverGroups.length > 0 ? w.failoverGroups.join(", ") : "all"}</dd>
        <dt>Last success</dt><dd>{w.lastSuccessAt ? <><Ago at={w.lastSuccessAt} /> ago</> : "never"}</dd>
        <dt>Last failure</dt><dd>{w.lastErrorAt ? <><Ago at={w.lastErrorAt} /> ago: {w.lastError}</> : "none"}</dd>
      </dl>
    </section>
  );
}

const columns: Column<Delivery>[] = [
  { name: "created", title: "Made", width: "10rem", cell: (d) => <At at={d.createdAt} /> },
  { name: "status", title: "Status", width: "8rem", cell: (d) => <Pill mood={({ pending: "busy", delivered: "good", dead: "bad" } as const)[d.status]}>{d.status}</Pill> },
  { name: "events", title: "Events", width: "5.5rem", number: true, cell: (d) => count(d.events) },
  { name: "attempts", title: "Attempts", width: "6rem", number: true, cell: (d) => count(d.attempts) },
  { name: "next", title: "Next attempt", width: "10rem", cell: (d) => <At at={d.nextAttemptAt} /> },
  { name: "delivered", title: "Delivered", width: "10rem", cell: (d) => <At at={d.deliveredAt} /> },
  { name: "error", title: "Last failure", width: "minmax(12rem, 2fr)", cell: (d) => <span title={d.lastError ?? undefined}>{d.lastError ?? "–"}</span> },
  { name: "id", title: "Delivery", width: "minmax(12rem, 1fr)", cell: (d) => <span class="id" title={d.deliveryId}>{d.deliveryId}</span> },
];

/** The deliveries of one webhook; those that are over can be made once more. */
export function WebhookPage({ id: webhook }: { id: string }) {
  const status = statuses.find((s) => s === route.value.query.get("status"));
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set());
  const list = useRows(`deliveries/${webhook}/${status}`, {
    load: (cursor, limit, signal) => data(api.GET("/v1/webhooks/{webhook}/deliveries", { params: { path: { webhook }, query: { status, limit, cursor } }, signal })),
    keyOf: (d: Delivery) => d.deliveryId, every: 3000,
  });
  // What is pending is tried anyway.
  const chosen = list.rows.filter((d) => selected.has(d.deliveryId) && d.status !== "pending").map((d) => d.deliveryId);
  const replay = useAction(async (ids: string[], key) => {
    for (const deliveryId of ids) {
      await api.POST("/v1/webhooks/{webhook}/deliveries/{deliveryId}/replay", { params: { path: { webhook, deliveryId }, header: idempotency(`${key}-${deliveryId}`) } });
    }
    return `${plural(ids.length, "delivery is", "deliveries are")} made once more.`;
  });
  return (
    <>
      <div class="title">
        <h1><a href={href("webhooks")}>Webhooks</a> / {webhook}</h1>
        <div class="actions">
          <RoleButton class="main" roles={["operator", "admin"]} disabled={chosen.length === 0 || replay.busy}
            onClick={() => void replay.run(chosen).then((done) => { if (done) setSelected(new Set()); })}>
            Deliver {chosen.length > 0 && count(chosen.length)} once more
          </RoleButton>
        </div>
      </div>
      <div class="filters">
        <label class="field">
          <span>Status</span>
          <select value={status ?? ""} onChange={(e) => { setSelected(new Set()); setQuery({ status: e.currentTarget.value }); }}>
            <option value="">All</option>
            {statuses.map((s) => <option key={s}>{s}</option>)}
          </select>
        </label>
        <p class="quiet">The id and the body stay the same, so a receiver that has it already drops it.</p>
      </div>
      <Unread live={list.live} what="The list of deliveries" />
      <Fault error={replay.error} what="Not made once more." asked />
      <Table label="Deliveries" columns={columns} rows={list.rows} rowKey={(d) => d.deliveryId} more={list.more} loading={list.loading} onView={list.view} selected={selected} onSelect={setSelected}
        empty={status ? `No delivery is ${status}.` : "Nothing was delivered yet."} />
    </>
  );
}
