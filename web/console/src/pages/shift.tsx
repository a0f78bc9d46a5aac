import { api, data, type Schemas } from "../api";
import { count, duration } from "../format";
import { useLive } from "../live";
import { href } from "../router";
import { ShiftChart } from "../ui/shiftchart";
import { At, Loaded, Skeleton, Unread } from "../ui/parts";
import { shares, ShiftState } from "./shifts";

type Report = Schemas["ShiftReport"];

const phases: { name: keyof Report["phases"]; title: string; what: string }[] = [
  { name: "detection", title: "Detection", what: "from the last look at the old distribution to the detection: an upper bound" },
  { name: "release", title: "Release", what: "from the detection to the completion of those that no contact held" },
  { name: "pending", title: "Pending", what: "from pending to completion" },
  { name: "total", title: "Total", what: "from the detection to the completion" },
  { name: "confirmation", title: "Confirmation", what: "from the completion until the agent was seen in the new Region" },
];

const evidence: Record<Schemas["Evidence"], string> = {
  inferred: "Amazon Connect showed no contact", desktop: "the agent's desktop said so", lastKnown: "the Region is down, and the last list was empty", forced: "forced",
};

/** The report on one shift. */
export function ShiftPage({ id }: { id: string }) {
  const report = useLive(`shift ${id}`, (signal) => data(api.GET("/v1/shifts/{shiftId}", { params: { path: { shiftId: id } }, signal })), { every: 3000 });
  const base = `/v1/shifts/${encodeURIComponent(id)}`;
  return (
    <>
      <div class="title">
        <h1><a href={href("shifts")}>Shifts</a> / {id}</h1>
        {report.data && <ShiftState shift={report.data.shift} />}
        <div class="actions">
          <a class="button" href={base} download={`shift-${id}.json`}>Report as JSON</a>
          <a class="button" href={`${base}/failovers.csv`} download={`shift-${id}-failovers.csv`}>Failovers as CSV</a>
        </div>
      </div>
      <Loaded live={report} lines={12} what="The report">{(r) => <ReportCards report={r} />}</Loaded>
    </>
  );
}

function ReportCards({ report }: { report: Report }) {
  const s = report.shift;
  return (
    <div class="report">
      <section class="card">
        <h2>{shares(s.before)} → {shares(s.after)}</h2>
        <dl class="facts">
          <dt>Failover group</dt><dd><a href={href("overview", { group: s.failoverGroup })}>{s.failoverGroup}</a></dd>
          <dt>Distribution group</dt><dd class="id">{s.tdgId}</dd>
          <dt>Started</dt><dd><At at={s.startedAt} /></dd>
          <dt>Next shift</dt><dd>{s.endedAt ? <At at={s.endedAt} /> : "none yet"}</dd>
          <dt>Seen in</dt><dd>{s.observedBy}{s.conflict && ", after the two Regions had disagreed"}</dd>
        </dl>
      </section>
      <section class="card">
        <h2>Failovers</h2>
        <dl class="figures">
          {([["Detected", s.failovers], ["Completed", s.completed], ["Still open", s.detected + s.pending], ["Cancelled", s.cancelled], ["Forced", s.forced], ["Stalled", s.stalled]] as const).map(([name, n]) => (
            <div key={name}><dt>{name}</dt><dd>{count(n)}</dd></div>
          ))}
        </dl>
      </section>
      <section class="card whole">
        <h2>How long it took</h2>
        <div class="scroll"><table class="small">
          <thead><tr><th scope="col">Phase</th><th scope="col" class="number">Failovers</th><th scope="col" class="number">Median</th><th scope="col" class="number">95 %</th><th scope="col" class="number">Longest</th><th scope="col">What it is</th></tr></thead>
          <tbody>
            {phases.map(({ name, title, what }) => {
              const p = report.phases[name];
              return (
                <tr key={name}>
                  <th scope="row">{title}</th><td class="number">{count(p.count)}</td>
                  {[p.p50Seconds, p.p95Seconds, p.maxSeconds].map((v, i) => <td key={i} class="number">{precise(v)}</td>)}
                  <td class="quiet">{what}</td>
                </tr>
              );
            })}
          </tbody>
        </table></div>
      </section>
      <Course shift={s} />
      <section class="card">
        <h2>What completions rest on</h2>
        <Counts rows={report.byEvidence.map((e) => [evidence[e.evidence], e.count])} none="Nothing is completed yet." />
      </section>
      <section class="card">
        <h2>Forced by</h2>
        <Counts rows={report.forcedBy.map((f) => [f.by, f.count])} none="Nothing was forced." />
      </section>
    </div>
  );
}

/** 0.4 s, 12.3 s, 3 min 04 s. */
export function precise(seconds: number | null): string {
  if (seconds === null) return "–";
  return seconds < 60 ? `${seconds.toFixed(1)} s` : duration(seconds * 1000);
}

function Counts({ rows, none }: { rows: [string, number][]; none: string }) {
  if (rows.length === 0) return <p class="quiet">{none}</p>;
  return <table class="small"><tbody>{rows.map(([name, n]) => <tr key={name}><th scope="row">{name}</th><td class="number">{count(n)}</td></tr>)}</tbody></table>;
}

/** How it went over time. */
function Course({ shift }: { shift: Schemas["PastShift"] }) {
  const { shiftId } = shift;
  const progress = useLive(`progress/${shiftId}`, (signal) => data(api.GET("/v1/shifts/{shiftId}/progress", { params: { path: { shiftId } }, signal })), {
    every: 3000, matters: (e) => e.event.startsWith("failover"),
  });
  return (
    <section class="card whole">
      <h2>Its course</h2>
      <Unread live={progress} what="The course" />
      <div class="chart-place">{progress.data ? <ShiftChart progress={progress.data} /> : <Skeleton lines={6} />}</div>
    </section>
  );
}
