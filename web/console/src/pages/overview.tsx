// The floor at a glance: is it well, do the Regions agree, how far is the shift.
import { api, data, ApiError, type FailoverGroup, type GroupSummary, type Schemas } from "../api";
import { now } from "../clock";
import { byCode, distributionRows } from "../distribution";
import { floor } from "../floor";
import { age, count, duration, millis, plural, time } from "../format";
import { useLive } from "../live";
import { href } from "../router";
import { estimate } from "../shift";
import { Ago, At, Loaded, Pill, Skeleton, Unread } from "../ui/parts";
import { ShiftChart } from "../ui/shiftchart";

type Tdg = Schemas["TrafficDistributionGroup"];

/** How old the word of a Region may be before it is pointed at. */
const oldAfter = 30_000;

export function Overview() {
  const groups = useLive("groups", (signal) => data(api.GET("/v1/failover-groups", { params: { query: { limit: 1000 } }, signal })), { every: 3000, poll: 5000 });
  const tdgs = useLive("tdgs", (signal) => data(api.GET("/v1/traffic-distribution-groups", { params: { query: { limit: 1000 } }, signal })), { every: 3000, poll: 5000 });
  const summary = floor.value;
  return (
    <>
      <h1 class="off-screen">Overview</h1>
      <Unread live={summary} what="The floor" />
      <Unread live={tdgs} what="The list of distributions" />
      <Loaded live={groups} what="The list of failover groups" lines={12}>
        {(list) => list.items.map((g) => (
          <Group key={g.name} group={g} floor={summary.data?.items.find((f) => f.failoverGroup === g.name)} tdgs={tdgs.data?.items.filter((t) => t.failoverGroup === g.name)} />
        ))}
      </Loaded>
      <Replica />
    </>
  );
}

function Group({ group, floor: f, tdgs }: { group: FailoverGroup; floor: GroupSummary | undefined; tdgs: Tdg[] | undefined }) {
  const regions = group.instances.map((i) => i.region);
  const shifts = f?.shifts.filter((s) => s.failovers > 0) ?? [];
  return (
    <section class="group" aria-label={`Failover group ${group.name}`}>
      <div class="title">
        <h2>{group.name}</h2>
        <span class="quiet">{f ? plural(f.agents, "agent") : "–"}</span>
        {group.pause && <Pill mood="busy" title={group.pause.reason}>Completions are held until {time(group.pause.until)}</Pill>}
        {f?.held ? <span class="quiet">{count(f.held)} held by the pause alone</span> : null}
        <div class="actions">
          <a class="button" href={href("pending", { group: group.name })}>Pending: <Count of={f?.pending} most={f?.agents} /></a>
          <a class="button" href={href("agents", { group: group.name })}>Agents</a>
          <a class="button" href={href("controls", { group: group.name })}>Pause, plan, drill</a>
        </div>
      </div>

      {group.configureErrors.map((e) => <p key={e.code} class="warning"><b>{e.code}</b> {e.message}</p>)}
      {tdgs?.flatMap((t) => byCode(t.warnings).map((w) => (
        <div key={t.tdgId + w.code} class="warning">
          <b>{tdgs.length > 1 ? `${t.name}: ` : ""}{warningTitle(w.code)}{w.since && <> Since <At at={w.since} />.</>}</b>
          {w.messages.map((m) => <p key={m}>{m}</p>)}
        </div>
      )))}

      <div class="regions">
        {group.instances.map((i) => (
          <Region key={i.region} instance={i} health={group.health.find((h) => h.region === i.region)} floor={f} />
        ))}
        <div class="card states">
          <h3>Agents by state</h3>
          <dl>
            <div><dt>Active</dt><dd>{count(f?.byState.active)}</dd></div>
            <div class={f?.byState.detected ? "busy" : ""}><dt>Detected</dt><dd>{count(f?.byState.detected)}</dd></div>
            <div class={f?.byState.pending ? "busy" : ""}><dt>Pending</dt><dd>{count(f?.byState.pending)}</dd></div>
            <div class={f?.byState.unknown ? "bad" : ""}><dt>Unknown</dt><dd>{count(f?.byState.unknown)}</dd></div>
          </dl>
          <p class="quiet oldest">
            {f?.oldestPendingAt ? <>Longest pending for <b><Ago at={f.oldestPendingAt} /></b>{f.stale ? <>; <a href={href("pending", { group: group.name, stale: "yes" })}>{plural(f.stale, "agent")} leave a Region that cannot be read</a></> : null}</> : "Nobody is pending."}
          </p>
        </div>
      </div>

      {tdgs === undefined ? <Skeleton lines={4} /> : tdgs.map((t) => <Distribution key={t.tdgId} tdg={t} regions={regions} />)}
      {shifts.map((s) => <ShiftNow key={s.tdgId} shift={s} name={tdgs?.find((t) => t.tdgId === s.tdgId)?.name ?? s.tdgId} paused={group.pause !== null} oldest={f?.oldestPendingAt ?? null} group={group.name} />)}
      {f && shifts.length === 0 && <p class="quiet card">No shift has been seen yet. <a href={href("controls", { group: group.name })}>Plan one</a> to see what it would mean now.</p>}
    </section>
  );
}

/** A number in a line: it takes the room of the largest that it can be, so that what follows stays where it is. */
function Count({ of, most }: { of: number | undefined; most: number | undefined }) {
  return <span class="count" style={`min-width: ${count(most).length}ch`}>{count(of)}</span>;
}

function warningTitle(code: string): string {
  return {
    REGIONS_DISAGREE: "The two Regions answer differently.", TELEPHONY_DIFFERS: "Phone calls and agents are distributed differently.",
    SIGN_IN_DIFFERS: "Sign-in is off where agents are sent.", SPLIT: "Agents are split over both Regions.", NOT_OBSERVED: "Not read yet.",
  }[code] ?? code;
}

const moods = { healthy: "good", degraded: "busy", down: "bad", unknown: "calm" } as const;

function Region({ instance, health, floor: f }: { instance: FailoverGroup["instances"][number]; health: Schemas["RegionHealth"] | undefined; floor: GroupSummary | undefined }) {
  const here = f?.byActiveRegion.filter((c) => c.activeRegion === instance.region).reduce((n, c) => n + c.count, 0);
  const success = millis(health?.lastSuccess);
  const old = success === null || now.value - success > oldAfter;
  return (
    <div class={`card region ${health?.state === "down" ? "down" : ""}`}>
      <h3>{instance.region} <small>{instance.source ? "source" : "replica"}</small></h3>
      <p class="figure"><Count of={here} most={f?.agents} /><small> agents work here</small></p>
      <p><Pill mood={health ? moods[health.state] : "calm"}>{health?.state ?? "unknown"}</Pill> <span class="quiet">{health?.since ? <>for <Ago at={health.since} /></> : ""}</span></p>
      <p class={old ? "old" : "quiet"}>{old ? "Old: last read " : "Read "}{success === null ? "never" : <><Ago at={success} /> ago</>}</p>
      <p class="quiet error" title={health?.lastError ?? undefined}>{health?.lastError && health.state !== "healthy" ? health.lastError : " "}</p>
    </div>
  );
}

function Distribution({ tdg, regions }: { tdg: Tdg; regions: string[] }) {
  return (
    <div class="card distribution">
      <h3>{tdg.name} <small>traffic distribution group, {tdg.status.toLowerCase().replaceAll("_", " ")}, read <Ago at={tdg.observedAt} /> ago{tdg.splitSince && <>, split for <Ago at={tdg.splitSince} /></>}</small></h3>
      <table>
        <thead><tr><th scope="col">Where they are sent</th>{regions.map((r) => <th key={r} scope="col">{r}</th>)}<th scope="col">Do the Regions agree?</th></tr></thead>
        <tbody>
          {distributionRows(tdg, regions).map((row) => (
            <tr key={row.what} class={row.answers.length > 0 ? "differs" : undefined}>
              <th scope="row">{row.what}</th>
              {row.cells.map((c, i) => <td key={regions[i]} class={c === "0 %" || c === "off" ? "none" : ""}>{c}</td>)}
              <td>{row.answers.length > 0 ? <span class="disagree">{row.answers.map((a) => <span key={a.region}>{a.region} {now.value - millis(a.at)! > oldAfter ? <>said {age(a.at, now.value)} ago</> : "says"} {a.text}</span>)}</span> : <span class="quiet">yes</span>}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function ShiftNow({ shift, name, paused, oldest, group }: { shift: Schemas["Shift"]; name: string; paused: boolean; oldest: string | null; group: string }) {
  const id = shift.shiftId;
  const open = shift.detected + shift.pending;
  const progress = useLive(`progress/${id}`, async (signal) => (id === null ? undefined : data(api.GET("/v1/shifts/{shiftId}/progress", { params: { path: { shiftId: id } }, signal }))), {
    every: 3000, poll: open > 0 ? 5000 : 60_000, matters: (e) => e.event.startsWith("failover"),
  });
  const to = shift.agent?.filter((s) => s.percent > 0).map((s) => (s.percent === 100 ? s.region : `${s.region} ${s.percent} %`)).join(", ");
  const done = shift.completed + shift.cancelled;
  const rest = progress.data && open > 0 && !paused ? estimate(progress.data) : undefined;
  return (
    <div class="card shift">
      <div class="title">
        <h3>{open > 0 ? "Shift under way" : "Last shift"}: {name} to {to ?? "an unknown Region"} <small>began <At at={shift.startedAt} />, <Ago at={shift.startedAt} /> ago</small></h3>
        <div class="actions">{id && <a class="button" href={href("shifts", id)}>Report</a>}</div>
      </div>
      <div class="progress" role="progressbar" aria-label="Failovers that are over" aria-valuemin={0} aria-valuemax={shift.failovers} aria-valuenow={done}
        aria-valuetext={`${done} of ${shift.failovers}`}>
        <span style={{ width: `${(100 * done) / Math.max(1, shift.failovers)}%` }} />
      </div>
      <dl class="figures">
        <div><dt>Detected</dt><dd>{count(shift.failovers)}</dd></div>
        <div class="good"><dt>Completed</dt><dd>{count(shift.completed)}</dd></div>
        <div class={shift.pending ? "busy" : ""}><dt>Pending</dt><dd>{count(shift.pending)}</dd></div>
        <div><dt>Being looked at</dt><dd>{count(shift.detected)}</dd></div>
        <div><dt>Cancelled</dt><dd>{count(shift.cancelled)}</dd></div>
        <div class={shift.forced ? "bad" : ""}><dt>Forced</dt><dd>{count(shift.forced)}</dd></div>
        <div class={shift.stalled ? "bad" : ""}><dt>Stalled</dt><dd>{count(shift.stalled)}</dd></div>
      </dl>
      <p class="rest">
        {open === 0 ? <>All {count(shift.failovers)} are over.</>
          : paused ? <>Held: nothing completes until the pause ends.</>
          : rest ? <>At the pace of the last minutes half of the {count(shift.pending)} are through in about <b>{duration(rest.half)}</b>, the last in about <b>{duration(rest.last)}</b>.</>
          : <>Too early to say how long the rest takes.</>}
        {open > 0 && oldest && <> Longest pending: <a href={href("pending", { group })}><Ago at={oldest} /></a>.</>}
      </p>
      <Unread live={progress} what="The progress" />
      <div class="chart-place">{progress.data ? <ShiftChart progress={progress.data} /> : <Skeleton lines={6} />}</div>
    </div>
  );
}

/** What the replica that answers says of itself. */
function Replica() {
  const ready = useLive("readyz", (signal) => data(api.GET("/readyz", { signal })).catch((e) => {
    // 503 is an answer too: the replica loads or is about to stop.
    if (e instanceof ApiError && e.status === 503) return { status: "not ready", checks: [] } as const;
    throw e;
  }), { every: 5000, poll: 10_000, matters: () => false });
  return (
    <section class="card replica" aria-label="The replica that answers">
      <h2>The replica that answers this page</h2>
      <Loaded live={ready} what="Its readiness" lines={2}>
        {(r) => (
          <ul class="checks">
            <li><Pill mood={r.status === "ready" ? "good" : "bad"}>{r.status}</Pill></li>
            {r.checks.filter((c) => !c.name.startsWith("connect/")).map((c) => (
              <li key={c.name} title={c.lastError ?? undefined}>
                {{ database: "Database", eventLog: "Event log", leader: "Leader" }[c.name] ?? c.name}{" "}
                <Pill mood={moods[c.state]}>{c.name === "leader" && c.state === "unknown" ? "another replica leads" : c.name === "leader" && c.state === "healthy" ? "this replica leads" : c.state}</Pill>
                {c.since && <span class="quiet"> for {age(c.since, now.value)}</span>}
              </li>
            ))}
          </ul>
        )}
      </Loaded>
    </section>
  );
}
