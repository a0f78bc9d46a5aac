// A shift over time, as GET /v1/shifts/{shiftId}/progress tells it.
import { useMemo } from "preact/hooks";
import { count } from "../format";
import { series, type Progress } from "../shift";
import { Chart } from "./chart";

export function ShiftChart({ progress }: { progress: Progress }) {
  const [times, lines] = useMemo(() => {
    const [times, detected, pending, completed] = series(progress);
    return [times, [
      { label: "Detected", colour: "--quiet", values: detected, dashed: true },
      { label: "Pending", colour: "--busy", values: pending },
      { label: "Completed", colour: "--good", values: completed },
    ]] as const;
  }, [progress]);
  const last = progress.points.at(-1);
  return (
    <Chart times={times} lines={lines} height={240}
      label={last ? `Over time, at the end ${count(last.detected)} detected, ${count(last.pending)} pending and ${count(last.completed)} completed.` : "Over time: nothing yet."} />
  );
}
