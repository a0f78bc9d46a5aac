// The demo desktop. Everything that a desktop of your own needs is in this file: two Contact Control Panels by amazon-connect-streams,
// the client, the bridge between them, and what an agent has to be told. It never reloads itself.
import { createFailoverClient, type AgentStatus, type ChangeoverError, type ConnectionState, type FailoverCompleted } from "changeover-client";
import { bridgeStreams, type Disagreement, type StreamsApi } from "changeover-client/streams";
import "./style.css";

/** What the server of this page knows: settings.json. */
interface Settings {
  endpoints: string[];
  heartbeat: number; // ms
  ccps: { region: string; url: string }[]; // the source Region first
  loginUrl: string;
}

const $ = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
const clockTime = (t: Date) => t.toLocaleTimeString([], { hour12: false });
const element = <K extends keyof HTMLElementTagNameMap>(name: K, text = "") => Object.assign(document.createElement(name), { textContent: text });

/** Sets a text only if it is another one: screen readers say again what is set again. */
function say(id: string, text: string): void {
  const e = $(id);
  if (e.textContent !== text) e.textContent = text;
}

const agentId = new URLSearchParams(location.search).get("agent") ?? "";
const settings = (await (await fetch("settings.json")).json()) as Settings;

// --- the client, the panels, the bridge ------------------------------------------------------------------------------

const failover = createFailoverClient({
  endpoints: settings.endpoints,
  agentId,
  heartbeat: settings.heartbeat,
  worker: new URL("changeover-worker.js", location.href), // all tabs share one connection
});

const signedIn = (ccp: string) => `${ccp}?agent=${encodeURIComponent(agentId)}`; // with Amazon Connect the sign-in's cookie says who it is
connect.core.initCCP($("ccp"), {
  ccpUrl: signedIn(settings.ccps[0]!.url),
  secondaryCCPUrl: signedIn(settings.ccps[1]!.url),
  loginUrl: settings.loginUrl,
  loginPopup: false, // nobody signs in to a simulated Amazon Connect
  enableGlobalResiliency: true,
  softphone: { allowFramedSoftphone: false },
  style: "flex: 1; width: 100%; height: 100%; min-height: 30rem; border: 0; ",
} as connect.InitCCPOptions);
document.querySelectorAll("#ccp iframe").forEach((frame, i) => ((frame as HTMLIFrameElement).title = `Contact Control Panel of ${settings.ccps[i]!.region}`));

const bridge = bridgeStreams(connect as unknown as StreamsApi, failover);

// --- what the agent is told ------------------------------------------------------------------------------------------

let agent: connect.Agent | undefined;
let told: { mood: "done" | "bad"; headline: string; detail: string } | undefined; // until the next failover
let apart: Disagreement | null = null;
let reportError: ChangeoverError | undefined;

function note(text: string): void {
  const line = element("li");
  line.append(element("time", clockTime(new Date())), element("span", text));
  $("history").prepend(line);
  while ($("history").childElementCount > 100) $("history").lastElementChild!.remove();
}

/** A contact as the agent knows it. The service names ids; the panel knows what they are. */
function describe(contactId: string): HTMLLIElement {
  const line = element("li");
  let text = "Contact";
  try {
    const contact = agent?.getContacts().find((c) => c.getContactId() === contactId);
    if (contact) {
      const state: string = contact.getStatus().type;
      text = `${{ voice: "Call", queue_callback: "Callback", chat: "Chat" }[contact.getType() as string] ?? contact.getType()}, ${
        { ended: "after-contact work", connected: "connected", connecting: "ringing", incoming: "ringing" }[state] ?? state}`;
    }
  } catch {
    // the panel has no agent data yet
  }
  line.append(element("span", text), element("code", contactId));
  return line;
}

/** Replaces the children only if what they say has changed, so that nothing is said twice and no focus is lost. */
function list(id: string, lines: HTMLElement[]): void {
  const now = element("div");
  now.append(...lines);
  if ($(id).innerHTML !== now.innerHTML) $(id).replaceChildren(...now.children);
}

function headline(s: AgentStatus): [mood: string, headline: string, detail: string] {
  const { activeRegion: here, nextActiveRegion: next, paused } = s;
  const panel = connect.globalResiliency.getActiveRegion();
  if (paused) return ["wait", `${next} takes over later`, `Your operators hold the change until ${clockTime(new Date(paused.until))}: ${paused.reason}.`];
  if (s.state === "pending" && s.contactIds.length === 0) return ["wait", `${next} takes over`, "No contact holds you any more; your Contact Control Panel is about to change."];
  if (s.state === "pending") {
    const n = s.contactIds.length;
    return ["wait", `${next} takes over when you are done`,
      `${n === 1 ? "One contact holds" : `${n} contacts hold`} you in ${here}. Finish your conversation and your after-contact work, and clear it; then this desktop switches by itself.`];
  }
  if (s.state === "detected") return ["wait", `${next} takes over`, `You go there as soon as it is certain that no conversation of yours is open in ${here}.`];
  if (apart) return ["bad", "Your Contact Control Panel is in another Region than it should be", `It works in ${apart.ccpRegion}; Amazon Connect wants you in ${apart.serverRegion}. Tell your supervisor.`];
  if (told) return [told.mood, told.headline, told.detail];
  if (!here) return ["calm", "Waiting for the service…", "Your Contact Control Panel works without it."];
  return ["calm", `You work in ${here}`, panel && panel !== here ? `Your Contact Control Panel shows ${panel}; it may take up to five minutes to follow.` : "Nothing is about to change."];
}

function show(): void {
  const s = failover.getStatus();
  const [mood, head, detail] = headline(s);
  $("banner").dataset.mood = mood;
  say("headline", head);
  say("detail", detail);
  $("switch").hidden = s.failoverId === null;
  if (s.failoverId === null && $<HTMLDialogElement>("force").open) $<HTMLDialogElement>("force").close();
  say("force-region", s.nextActiveRegion ?? "");
  list("holding", s.contactIds.map(describe));
  $("none").hidden = s.contactIds.length > 0;

  const panel = connect.globalResiliency.getActiveRegion();
  const { standby } = bridge.getReport();
  list("regions", settings.ccps.map(({ region }) => {
    const line = element("li");
    const ready = standby?.region === region && { true: "stands by", false: "does not answer", null: "is starting" }[String(standby.ready)];
    const words = [
      region === s.activeRegion && "you work here",
      region === s.nextActiveRegion && "takes over next",
      region === panel ? "panel shown" : ready,
    ].filter(Boolean);
    line.append(element("b", region), element("span", words.join(", ") || "not known yet"));
    return line;
  }));
  const problems = s.configureErrors.map((e) => `${e.code}: ${e.message}`);
  if (reportError) problems.push(`The service does not take this desktop's reports: ${reportError.message}`);
  list("problems", problems.map((text) => element("li", text)));
}

function showConnection(c: ConnectionState): void {
  const host = c.endpoint ? new URL(c.endpoint).host : "";
  $("connection").dataset.state = c.state;
  $("connection").title = `${c.state} (${c.reason}) since ${clockTime(c.since)}${host && `, ${host}`}`;
  say("connection-text", {
    open: "Connected", polling: "Connected by polling", connecting: "Connecting…", closed: "Closed",
    waiting: c.retryAt ? `Reconnecting at ${clockTime(c.retryAt)}` : "Reconnecting…",
  }[c.state]);
}

failover.onStatus(show);
failover.onConnectionState(showConnection);
failover.onFailoverDetected(({ nextActiveRegion }) => { told = undefined; note(`Detected: ${nextActiveRegion} takes over`); show(); });
const holds = (n: number) => (n === 0 ? "no contact holds it any more" : n === 1 ? "one contact holds it" : `${n} contacts hold it`);
failover.onFailoverPending(({ contactIds }) => note(`Pending: ${holds(contactIds.length)}`));
failover.onFailoverPendingUpdated(({ contactIds }) => note(`Pending: ${holds(contactIds.length)}`));
failover.onFailoverCancelled(({ activeRegion, cancelledRegion }) => {
  told = { mood: "done", headline: `You stay in ${activeRegion}`, detail: `The change to ${cancelledRegion} was called off.` };
  note(`Cancelled: stays in ${activeRegion}`);
  show();
});
failover.onFailoverPaused(({ reason }) => note(`Paused: ${reason}`));
failover.onFailoverResumed(() => note("Resumed"));
failover.onFailoverStalled(() => {
  told = { mood: "bad", headline: "You have not arrived yet", detail: "Set your status to Available in the panel, or sign in again." };
  note("Stalled: not seen where you should work");
  show();
});
failover.onConfigureError(({ code }) => note(`Set-up error: ${code}`));
failover.onConfigureErrorCleared(({ code }) => note(`Set-up error is over: ${code}`));

// When both the service and the panel have moved: what belongs to the old Region is forgotten, and the work goes on.
bridge.onFailoverCompleted((data: FailoverCompleted) => {
  told = {
    mood: "done", headline: `You work in ${data.activeRegion} now`,
    detail: data.forced ? "It was forced; conversations that were open may be lost." : "Check that your status is Available.",
  };
  note(`Completed: works in ${data.activeRegion}${data.evidence ? ` (${data.evidence})` : ""}`);
  show();
});
bridge.onDisagreement((d) => { apart = d; if (d) note(`Service says ${d.serverRegion}, panel says ${d.ccpRegion}`); show(); });
bridge.onReportError((e) => { reportError = e; show(); });

connect.agent((a) => {
  agent = a;
  say("agent", `${a.getName()} (${a.getConfiguration().username})`);
  a.onRefresh(() => { reportError = undefined; show(); });
});

// --- buttons ---------------------------------------------------------------------------------------------------------

const force = $<HTMLDialogElement>("force");
const reason = $<HTMLInputElement>("reason");
$("switch").addEventListener("click", () => {
  reason.value = "";
  say("force-error", "");
  force.showModal();
});
$("force-cancel").addEventListener("click", () => force.close());
force.addEventListener("close", () => $("switch").focus());
force.querySelector("form")!.addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await failover.forceFailover({ reason: reason.value.trim() || "no reason given" });
    force.close();
  } catch (e) {
    say("force-error", (e as ChangeoverError).message);
  }
});

$("logs").addEventListener("click", async () => {
  try {
    const logs = await failover.downloadLogs();
    note(`Saved ${logs.map((log) => log.name).join(", ")}`);
  } catch (e) {
    note(`The logs could not be had: ${(e as ChangeoverError).message}`);
  }
});

// --- the proof that nothing reloads ----------------------------------------------------------------------------------

const loads = Number(sessionStorage.getItem("loads") ?? 0) + 1;
sessionStorage.setItem("loads", String(loads));
say("loads", loads === 1 ? "once" : `${loads} times`);
say("loaded", clockTime(new Date(performance.timeOrigin)));
show();
setInterval(show, 1000); // nobody tells when the standby panel has answered
showConnection(failover.getConnectionState());
