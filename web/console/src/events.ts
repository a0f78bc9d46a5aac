// Events in words. No DOM here.
import type { LoggedEvent } from "./live";

export interface Told {
  title: string;
  detail: string;
  mood: "good" | "busy" | "bad" | "calm";
}

const list = (v: unknown) => (Array.isArray(v) ? v : []);
const contacts = (v: unknown) => {
  const n = list(v).length;
  return n === 1 ? "1 contact" : `${n} contacts`;
};

const words: Record<string, (d: LoggedEvent["data"]) => Told> = {
  snapshot: (d) => ({ title: "First seen", detail: `works in ${d.activeRegion ?? "no known Region"}`, mood: "calm" }),
  failoverDetected: (d) => ({ title: "Failover detected", detail: `to ${d.nextActiveRegion}`, mood: "busy" }),
  failoverPending: (d) => ({ title: "Pending", detail: `held by ${contacts(d.contactIds)}: ${list(d.contactIds).join(", ")}`, mood: "busy" }),
  failoverPendingUpdated: (d) => ({
    title: "Contacts changed", detail: list(d.contactIds).length ? `held by ${contacts(d.contactIds)}: ${list(d.contactIds).join(", ")}` : "none holds it any more", mood: "busy",
  }),
  failoverCompleted: (d) => ({
    title: d.forced ? "Completed by force" : "Completed", detail: `works in ${d.activeRegion}, before in ${d.previousRegion} (${d.evidence})`, mood: d.forced ? "bad" : "good",
  }),
  failoverCancelled: (d) => ({ title: "Cancelled", detail: `stays in ${d.activeRegion}; would have gone to ${d.cancelledRegion}`, mood: "calm" }),
  failoverStalled: (d) => ({ title: "Stalled", detail: `completed, and still seen in ${d.activeRegion ?? "another Region"}`, mood: "bad" }),
  failoverPaused: (d) => ({ title: "Held by a pause", detail: String(d.reason), mood: "busy" }),
  failoverResumed: () => ({ title: "Pause ended", detail: "", mood: "calm" }),
  drillDetected: (d) => ({ title: "Drill: detected", detail: `would go to ${d.nextActiveRegion}`, mood: "calm" }),
  drillPending: (d) => ({ title: "Drill: pending", detail: `would be held by ${contacts(d.contactIds)}`, mood: "calm" }),
  drillCompleted: (d) => ({ title: "Drill: completed", detail: `would work in ${d.activeRegion}`, mood: "calm" }),
  drillCancelled: () => ({ title: "Drill: ended", detail: "before it was completed", mood: "calm" }),
  configureError: (d) => ({ title: "Set-up is wrong", detail: `${d.code}: ${d.message}`, mood: "bad" }),
  configureErrorCleared: (d) => ({ title: "Set-up repaired", detail: String(d.code), mood: "good" }),
};

/** What an event says. One that a newer service adds is told by its name. */
export function tellEvent(e: LoggedEvent): Told {
  return words[e.event]?.(e.data) ?? { title: e.event, detail: "", mood: "calm" };
}
