// Distributions side by side. No DOM here.
import type { Schemas } from "./api";

type Tdg = Schemas["TrafficDistributionGroup"];

export interface DistributionRow {
  what: "Phone calls" | "Agents" | "Sign-in";
  /** By Region, in their order: "100 %", "on", "unknown". */
  cells: string[];
  /** What each Region answered last, if that is not the same, and when: an old answer is that of a Region which is silent now. */
  answers: { region: string; text: string; at: string }[];
}

const share = (list: Schemas["Share"][] | null, region: string) =>
  list === null ? "unknown" : `${list.find((s) => s.region === region)?.percent ?? 0} %`;
const on = (list: Schemas["SignInShare"][] | null, region: string) =>
  list === null ? "unknown" : list.find((s) => s.region === region)?.enabled ? "on" : "off";

/** Warnings of one kind together: the Regions disagree about calls, agents and sign-in at once. */
export function byCode(warnings: readonly Schemas["Warning"][]): { code: string; since: string | null; messages: string[] }[] {
  const out = new Map<string, { code: string; since: string | null; messages: string[] }>();
  for (const w of warnings) {
    const one = out.get(w.code) ?? { code: w.code, since: w.since, messages: [] };
    one.messages.push(w.message);
    if (w.since && (!one.since || w.since < one.since)) one.since = w.since;
    out.set(w.code, one);
  }
  return [...out.values()];
}

export function distributionRows(t: Tdg, regions: string[]): DistributionRow[] {
  const row = (what: DistributionRow["what"], of: (from: Schemas["Distributions"], region: string) => string): DistributionRow => {
    const cells = regions.map((r) => of(t, r));
    const answers = t.answers.flatMap((a) => (a.observedAt === null ? [] : [{ region: a.region, text: regions.map((r) => of(a, r)).join(" / "), at: a.observedAt }]));
    const differ = new Set(answers.map((a) => a.text)).size > 1;
    return { what, cells, answers: differ ? answers : [] };
  };
  const rows = [row("Phone calls", (d, r) => share(d.telephony, r)), row("Agents", (d, r) => share(d.agent, r))];
  // Only the default group has it; of another one unknown would be a false alarm.
  if (t.isDefault || t.signIn) rows.push(row("Sign-in", (d, r) => on(d.signIn, r)));
  return rows;
}
