// One agent: where, held by what, and everything that was told.
import { useEffect, useRef, useState } from "preact/hooks";
import { api, data, type Agent, type Schemas } from "../api";
import { live, stateWord, type Toll } from "../contacts";
import { tellEvent } from "../events";
import { age, duration, millis, plural, time } from "../format";
import { now } from "../clock";
import { useLive, type LoggedEvent } from "../live";
import { href } from "../router";
import { may } from "../session";
import { useShortcuts } from "../ui/keys";
import { Ago, At, Loaded, Pill, RoleButton } from "../ui/parts";
import { ForceDialog } from "./force";
import { stateMoods } from "./agents";

const page = 1000;

export function AgentPage({ id }: { id: string }) {
  const mine = (e: LoggedEvent) => e.data.agentId === id;
  const path = { agentId: id };
  const agent = useLive(`agent/${id}`, (signal) => data(api.GET("/v1/agents/{agentId}", { params: { path }, signal })), { every: 1000, poll: 5000, matters: mine });
  const contacts = useLive(`contacts/${id}`, (signal) => data(api.GET("/v1/agents/{agentId}/contacts", { params: { path, query: { limit: page } }, signal })), { every: 1000, poll: 5000, matters: mine });
  const connections = useLive(`connections/${id}`, (signal) => data(api.GET("/v1/connections", { params: { query: { agentId: id, limit: page } }, signal })), { every: 5000, poll: 10_000, matters: () => false });
  const failovers = useLive(`failovers/${id}`, (signal) => data(api.GET("/v1/failovers", { params: { query: { agentId: id, limit: 50 } }, signal })), { matters: mine });
  const [forcing, setForcing] = useState(false);
  const a = agent.data;
  const open = a?.failoverId && (a.state === "detected" || a.state === "pending") ? a.failoverId : undefined;
  useShortcuts([{ keys: "f", what: "Force this agent's failover", do: () => { if (open) setForcing(true); } }]);

  const holding = contacts.data?.items.filter((c) => c.blocking) ?? [];
  const toll: Toll | undefined = contacts.data && a && {
    failovers: open ? 1 : 0, live: holding.filter(live).length, afterContactWork: holding.filter((c) => !live(c)).length, unknown: a.state === "detected" ? 1 : 0,
  };
  if (agent.error?.status === 404 && !a) {
    return <><h1>There is no such agent</h1><p><span class="id">{id}</span> is nobody's user id. <a href={href("agents", { search: id })}>Search for a user name that begins so</a></p></>;
  }
  return (
    <>
      <div class="title">
        <h1>{a?.username ?? (a ? id : "Agent")}</h1>
        {a && <Pill mood={stateMoods[a.state]}>{a.state}</Pill>}
        {a?.partial && <Pill mood="bad" title="The database is away: from the replica's memory">partial</Pill>}
        <div class="actions">
          {a?.regions.map((r) => <a key={r} class="button" href={`/v1/agents/${encodeURIComponent(id)}/logs/${encodeURIComponent(r)}`} download>Log of {r}</a>)}
          <RoleButton roles={["operator", "admin"]} class="danger" disabled={!open} title={open ? "f" : "There is no open failover"} onClick={() => setForcing(true)}>Force…</RoleButton>
        </div>
      </div>
      <div class="cards agent">
        <section class="card" aria-label="Where" tabIndex={0}>
          <h2>Where</h2>
          <Loaded live={agent} what="The agent" lines={8}>{(a) => <Facts agent={a} />}</Loaded>
        </section>
        <section class="card" aria-label="Desktop and contacts" tabIndex={0}>
          <h2>Desktop</h2>
          <Loaded live={connections} what="The streams" lines={2}>{(list) => <Connections items={list.items} />}</Loaded>
          {a && <Standby agent={a} />}
          <h2 class="second">Contacts</h2>
          <Loaded live={contacts} what="The contacts" lines={3}>{(list) => <Contacts items={list.items} />}</Loaded>
        </section>
        <section class="card" aria-label="Failovers" tabIndex={0}>
          <h2>Failovers</h2>
          <Loaded live={failovers} what="The failovers" lines={4}>{(list) => <Failovers items={list.items} />}</Loaded>
        </section>
      </div>
      <Timeline id={id} />
      {forcing && open && <ForceDialog target={{ kind: "one", failoverId: open, who: a?.username ?? id }} toll={toll} onClose={() => setForcing(false)} />}
    </>
  );
}

const sources = { distribution: "the distribution", desktop: "the agent's desktop", presence: "where the agent is signed in" } as const;

function Facts({ agent: a }: { agent: Agent }) {
  return (
    <>
      <p class="figure">{a.activeRegion ?? "Unknown"}{a.nextActiveRegion && <small> → {a.nextActiveRegion}</small>}</p>
      <dl class="facts">
        <dt>Known by</dt><dd>{a.regionSource ? sources[a.regionSource] : "–"}</dd>
        <dt>Observed</dt><dd><Ago at={a.observedAt} /> ago</dd>
        <dt>User id</dt><dd class="id">{a.agentId}</dd>
        <dt>Group</dt><dd>{a.failoverGroup}</dd>
        <dt>Distribution</dt><dd class="id">{a.tdgId ?? "in none that is known"}</dd>
        <dt>CCP</dt><dd>{a.activeCcpUrl ? <a href={a.activeCcpUrl} target="_blank" rel="noreferrer">{a.activeCcpUrl}</a> : "–"}</dd>
        <dt>Failover</dt><dd class="id">{a.failoverId ?? "none is open"}</dd>
      </dl>
      {a.configureErrors.map((e) => <p key={e.code} class="warning"><b>{e.code}</b> {e.message}{e.since && <> Since <At at={e.since} />.</>}</p>)}
    </>
  );
}

function Contacts({ items }: { items: Schemas["Contact"][] }) {
  if (items.length === 0) return <p class="quiet">No contact is open.</p>;
  return (
    <ul class="lines">
      {items.map((c) => (
        <li key={c.contactId + c.region}>
          <Pill mood={live(c) ? "busy" : "calm"}>{stateWord(c.state)}</Pill> {c.channel.toLowerCase()} for <Ago at={c.stateSince} />{c.region && <> in {c.region}</>}
          {c.blocking && <b> holds a failover</b>}{!c.surfaced && <span class="quiet"> not shown to the agent</span>}
          {c.stale && <> <Pill mood="bad" title="Its Region cannot be read: nobody knows whether it is still there">stale</Pill></>}
          <span class="id quiet">{c.contactId}</span>
        </li>
      ))}
    </ul>
  );
}

function Connections({ items }: { items: Schemas["Connection"][] }) {
  if (items.length === 0) return <p class="quiet">No event stream is open: the desktop hears of nothing.</p>;
  return <ul class="lines">{items.map((c) => <li key={c.connectionId}>Stream from {c.remoteAddress} for <Ago at={c.since} />, served by {c.replica}</li>)}</ul>;
}

function Standby({ agent: a }: { agent: Agent }) {
  if (!a.standby) return <p class="quiet">The desktop has said nothing of its CCP in the other Region.</p>;
  const s = a.standby;
  return <p>CCP in {s.region}: <Pill mood={s.ready === false ? "bad" : s.ready ? "good" : "calm"}>{s.ready === false ? "not ready" : s.ready ? "ready" : "not known"}</Pill>{s.reason && <> {s.reason}</>} <span class="quiet">said <Ago at={s.reportedAt} /> ago</span></p>;
}

const statusMoods = { detected: "busy", pending: "busy", completed: "good", cancelled: "calm" } as const;

function Failovers({ items }: { items: Schemas["Failover"][] }) {
  if (items.length === 0) return <p class="quiet">None yet.</p>;
  return (
    <ul class="lines">
      {items.map((f) => {
        const end = millis(f.completedAt ?? f.cancelledAt);
        return (
          <li key={f.failoverId}>
            <Pill mood={f.stalledAt && !f.confirmedAt ? "bad" : statusMoods[f.status]}>{f.stalledAt && !f.confirmedAt ? "stalled" : f.status}</Pill> {f.fromRegion} → {f.toRegion} <At at={f.detectedAt} />
            <span class="quiet"> {end ? `after ${duration(end - millis(f.detectedAt)!)}` : `for ${age(f.detectedAt, now.value)}`}{f.evidence && `, ${f.evidence}`}{f.confirmedAt && ", confirmed"}</span>
            {f.forced && <span class="quiet"> forced by {f.forcedBy}: {f.forcedReason}</span>}
          </li>
        );
      })}
    </ul>
  );
}

/** Everything that was told of the agent, as far back as events are kept; the latest first. */
function Timeline({ id }: { id: string }) {
  const kept = useRef<{ id: string; after: string | undefined; events: LoggedEvent[] }>({ id, after: undefined, events: [] });
  const timeline = useLive(`events/${id}`, async (signal) => {
    if (kept.current.id !== id) kept.current = { id, after: undefined, events: [] };
    for (;;) {
      const k = kept.current;
      const answer = await data(api.GET("/v1/agents/{agentId}/events", {
        params: { path: { agentId: id }, query: { limit: page, ...(k.after ? { after: k.after } : {}) } }, headers: { Accept: "application/json" }, signal,
      })) as Schemas["EventList"];
      // After a reset what is kept does not go on.
      const events = answer.items as unknown as LoggedEvent[];
      const lost = events.some((e) => e.event === "reset");
      kept.current = { id, after: answer.nextCursor, events: [...(lost ? [] : k.events), ...events.filter((e) => e.event !== "reset")] };
      if (events.length < page) return kept.current.events;
    }
  }, { every: 1000, poll: 30_000, matters: (e) => e.data.agentId === id });
  const [all, setAll] = useState(false);
  useEffect(() => setAll(false), [id]);
  return (
    <section class="card timeline" aria-label="Timeline">
      <Loaded live={timeline} what="The timeline" lines={6}>
        {(events) => {
          const shown = all ? events : events.slice(-100);
          return (
            <>
              <h2>Timeline <small>{plural(events.length, "event")}, the latest first</small></h2>
              {events.length === 0 && <p class="quiet">Nothing was told of this agent in the time for which events are kept.</p>}
              <ol>
                {shown.toReversed().map((e) => {
                  const told = tellEvent(e);
                  return (
                    <li key={e.id}>
                      <time title={e.data.time}>{time(e.data.time)}</time>
                      <Pill mood={told.mood}>{told.title}</Pill>
                      <span>{told.detail}</span>
                    </li>
                  );
                })}
              </ol>
              {shown.length < events.length && <button type="button" onClick={() => setAll(true)}>Show all {events.length}</button>}
            </>
          );
        }}
      </Loaded>
      <p class="quiet">The logs above have more, with the reasons of forces{may("admin") && <>, and the <a href={href("audit")}>audit</a> has who asked for what</>}.</p>
    </section>
  );
}
