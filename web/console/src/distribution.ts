// Distributions side by side. No DOM here.
import type { Schemas } from "./api";

type Tdg = Schemas["TrafficDistributionGroup"];

export interface DistributionRow {
  what: "Phone calls" | "Agents" | "Sign-in";
  /** By Region, in their order: "100 %", "on", "unknown". */
  cells: string[];
  /** What each Region answers, if that is not the same: "us-east-1: 100 % / 0 %". */
  answers: string[];
}

const share = (list: Schemas["Share"][] | null, region: string) =>
  list === null ? "unknown" : `${list.find((s) => s.region === region)?.percent ?? 0} %`;
const on = (list: Schemas["SignInShare"][] | null, region: string) =>
  list === null ? "unknown" : list.find((s) => s.region === region)?.enabled ? "on" : "off";

export function distributionRows(t: Tdg, regions: string[]): DistributionRow[] {
  const row = (what: DistributionRow["what"], of: (from: Schemas["Distributions"], region: string) => string): DistributionRow => {
    const cells = regions.map((r) => of(t, r));
    const answers = t.answers.filter((a) => a.observedAt !== null).map((a) => ({ region: a.region, text: regions.map((r) => of(a, r)).join(" / ") }));
    const differ = new Set(answers.map((a) => a.text)).size > 1;
    return { what, cells, answers: differ ? answers.map((a) => `${a.region} answers ${a.text}`) : [] };
  };
  const rows = [row("Phone calls", (d, r) => share(d.telephony, r)), row("Agents", (d, r) => share(d.agent, r))];
  // Only the default group has it; of another one unknown would be a false alarm.
  if (t.isDefault || t.signIn) rows.push(row("Sign-in", (d, r) => on(d.signIn, r)));
  return rows;
}
