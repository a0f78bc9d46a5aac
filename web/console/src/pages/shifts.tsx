import { api, data, type Schemas } from "../api";
import { count } from "../format";
import { go, route, setQuery } from "../router";
import { useRows } from "../rows";
import { GroupFilter } from "../ui/groups";
import { At, Pill, Unread } from "../ui/parts";
import { Table, type Column } from "../ui/table";

type PastShift = Schemas["PastShift"];

/** "us-east-1 70 %, us-west-2 30 %", or a single Region. */
export function shares(all: readonly Schemas["Share"][] | null): string {
  const some = (all ?? []).filter((s) => s.percent > 0);
  if (some.length === 1) return some[0]!.region;
  return some.map((s) => `${s.region} ${s.percent} %`).join(", ") || "–";
}

/** Whether it is over, in a word. */
export function ShiftState({ shift }: { shift: PastShift }) {
  const open = shift.detected + shift.pending;
  if (open > 0) return <Pill mood="busy">{count(open)} open</Pill>;
  if (shift.stalled > 0) return <Pill mood="bad">{count(shift.stalled)} stalled</Pill>;
  return <Pill mood="good">over</Pill>;
}

const columns: Column<PastShift>[] = [
  { name: "started", title: "Started", width: "10rem", cell: (s) => <At at={s.startedAt} /> },
  { name: "group", title: "Group", width: "minmax(6rem, 1fr)", cell: (s) => s.failoverGroup },
  { name: "from", title: "From", width: "minmax(9rem, 1.5fr)", cell: (s) => shares(s.before) },
  { name: "to", title: "To", width: "minmax(9rem, 1.5fr)", cell: (s) => <>{shares(s.after)}{s.conflict && <> <Pill mood="busy" title="It won after the two Regions had disagreed">disputed</Pill></>}</> },
  { name: "state", title: "State", width: "8rem", cell: (s) => <ShiftState shift={s} /> },
  { name: "failovers", title: "Failovers", width: "6.5rem", number: true, cell: (s) => count(s.failovers) },
  { name: "completed", title: "Completed", width: "6.5rem", number: true, cell: (s) => count(s.completed) },
  { name: "cancelled", title: "Cancelled", width: "6.5rem", number: true, cell: (s) => count(s.cancelled) },
  { name: "forced", title: "Forced", width: "5.5rem", number: true, cell: (s) => count(s.forced) },
  { name: "stalled", title: "Stalled", width: "5.5rem", number: true, cell: (s) => count(s.stalled) },
];

/** Every change of where agents work, the latest first. */
export function Shifts() {
  const group = route.value.query.get("group") || undefined;
  const list = useRows(`shifts/${group}`, {
    load: (cursor, limit, signal) => data(api.GET("/v1/shifts", { params: { query: { failoverGroup: group, limit, cursor } }, signal })), keyOf: (s: PastShift) => s.shiftId, every: 5000,
  });
  return (
    <>
      <div class="title"><h1>Shifts</h1></div>
      <GroupFilter value={group} onChange={(g) => setQuery({ group: g })} />
      <Unread live={list.live} what="The list of shifts" />
      <Table label="Shifts" columns={columns} rows={list.rows} rowKey={(s) => s.shiftId} more={list.more} loading={list.loading} onView={list.view} onOpen={(s) => go("shifts", s.shiftId)}
        empty="No shift was seen yet. A report on each will be here." />
    </>
  );
}
