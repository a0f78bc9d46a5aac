// What happens at a desktop. Each scenario has a stack of its own: service, PostgreSQL, simulated Amazon Connect.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";

/** The whole story of a shift with an agent on a call, and back again. */
export async function story(desk) {
  const { east, west } = desk;
  const call = await desk.call();
  const page = await desk.open();
  const box = await page.locator("#ccp").boundingBox();
  await desk.panel(page, east).getByText("voice, connected").waitFor();
  await desk.shot(page, "before");
  await desk.happened(page); // no event for the Region that a page finds

  await desk.shift(west);
  await desk.headline(page, `${west} takes over when you are done`);
  await page.locator("#holding", { hasText: call }).waitFor();
  assert.match(await page.textContent("#holding"), /Call, connected/);
  await desk.panel(page, east).getByText(`moves to ${west} after the contacts`).waitFor();
  await desk.shows(page, east);
  await desk.shot(page, "pending");

  await desk.panel(page, east).getByRole("button", { name: "End" }).click();
  await page.locator("#holding", { hasText: "Call, after-contact work" }).waitFor();
  await desk.shows(page, east);
  await desk.shot(page, "after-contact-work");

  await desk.panel(page, east).getByRole("button", { name: "Clear contact" }).click();
  await desk.headline(page, `You work in ${west} now`);
  await desk.shows(page, west);
  await desk.regions(page, west, "you work here, panel shown");
  await desk.regions(page, east, "stands by");
  assert.equal(await page.evaluate(() => connect.globalResiliency.getActiveRegion()), west);
  await desk.happened(page, `Detected: ${west}`, "Pending: one contact holds it", `Completed: works in ${west} (desktop)`);
  await desk.shot(page, "completed");

  const saved = [];
  page.on("download", (d) => saved.push(d));
  await page.click("#logs");
  await page.locator("#history", { hasText: "Saved" }).waitFor();
  await desk.until("downloads", async () => saved, (s) => s.length === 2);
  const files = Object.fromEntries(await Promise.all(saved.map(async (d) => [d.suggestedFilename(), await readFile(await d.path(), "utf8")])));
  assert.deepEqual(Object.keys(files).sort(), [`${east}-agent-log.txt`, `${west}-agent-log.txt`].sort());
  assert.match(files[`${east}-agent-log.txt`], new RegExp(call), "the log of the old Region names the call");
  assert.doesNotMatch(files[`${west}-agent-log.txt`], new RegExp(call));

  // Back again, with a chat this time; and from the panel's own point of view.
  desk.expectErrors(/Media info does not exist for a media type chat/); // the simulator has no media
  const chat = await desk.call("CHAT");
  await desk.panel(page, west).getByText("chat, connected").waitFor();
  await desk.shift(east);
  await desk.headline(page, `${east} takes over when you are done`);
  await page.locator("#holding", { hasText: "Chat, connected" }).waitFor();
  await desk.end(chat);
  await desk.clear(chat);
  await desk.headline(page, `You work in ${east} now`);
  await desk.shows(page, east);
  await page.emulateMedia({ colorScheme: "dark" });
  await desk.shot(page, "back-dark");

  assert.equal(await desk.loads(page), 1, "the page was never loaded again");
  assert.deepEqual(await page.locator("#ccp").boundingBox(), box, "the panel stands where it stood");
  await desk.noLayoutShift(page);
  const events = await desk.events();
  assert.deepEqual(events.map((e) => e.event).filter((e) => e !== "failoverPendingUpdated"), [
    "failoverDetected", "failoverPending", "failoverCompleted", "failoverDetected", "failoverPending", "failoverCompleted",
  ]);
}

/** A shift that is taken back, and made again. */
export async function cancel(desk) {
  const { east, west } = desk;
  const call = await desk.call();
  const page = await desk.open();
  await desk.shift(west);
  await desk.headline(page, `${west} takes over when you are done`);
  await desk.shift(east);
  await desk.headline(page, `You stay in ${east}`);
  await desk.shows(page, east);
  assert.equal(await page.locator("#switch").isVisible(), false);
  await desk.shot(page, "cancelled");
  await desk.happened(page, `Detected: ${west}`, "Pending", `Cancelled: stays in ${east}`);

  // Streams (2.28.2) has forgotten nothing and would not tell of the second one.
  await desk.shift(west);
  await desk.headline(page, `${west} takes over when you are done`);
  await desk.end(call);
  await desk.clear(call);
  await desk.headline(page, `You work in ${west} now`);
  await desk.shows(page, west);
  await desk.happened(page, `Detected: ${west}`, "Pending", `Cancelled: stays in ${east}`, `Detected: ${west}`, "Pending", `Completed: works in ${west}`);
  assert.equal(await desk.loads(page), 1);
}

/** Switch now, with a reason, by the keyboard alone. */
export async function force(desk) {
  const { west } = desk;
  const call = await desk.call();
  const page = await desk.open();
  assert.equal(await page.locator("#switch").isVisible(), false, "there is nothing to force");
  await desk.shift(west);
  await desk.headline(page, `${west} takes over when you are done`);

  await page.locator("#logs").focus();
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.id), "switch");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog", { name: `Switch to ${west} now?` }).waitFor();
  await page.keyboard.press("Escape");
  await page.locator("#force").waitFor({ state: "hidden" });
  assert.equal(await page.evaluate(() => document.activeElement.id), "switch", "the focus is where it was");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "reason");
  await page.keyboard.press("Enter"); // without a reason nothing happens
  assert.equal(await page.locator("#force").isVisible(), true);
  await page.keyboard.type("The caller cannot hear me");
  await desk.shot(page, "dialog");
  await page.keyboard.press("Enter");

  await desk.headline(page, `You work in ${west} now`);
  await desk.shows(page, west); // the panel was forced too
  await page.locator("#force").waitFor({ state: "hidden" });
  await desk.shot(page, "forced");
  const completed = (await desk.until("the completion", () => desk.events(), (all) => all.at(-1)?.event === "failoverCompleted")).at(-1);
  assert.equal(completed.event, "failoverCompleted");
  assert.equal(completed.data.forced, true);
  assert.equal(completed.data.evidence, "forced");
  const f = await desk.api(`/v1/failovers/${completed.data.failoverId}`);
  assert.equal(f.forcedReason, "The caller cannot hear me");
  assert.deepEqual(f.contactIds, [call]);
  const a = await desk.sim("GET", `agents/${desk.agent}`);
  assert.equal(a.activeRegion, west, "Amazon Connect has moved the agent");
  assert.equal(await desk.loads(page), 1);
}

/** The page is refreshed in the middle of pending: what it shows is right at once. */
export async function reload(desk) {
  const { east, west } = desk;
  const call = await desk.call();
  const page = await desk.open();
  await desk.shift(west);
  await desk.headline(page, `${west} takes over when you are done`);
  await page.reload();
  await desk.headline(page, `${west} takes over when you are done`);
  await page.locator("#holding", { hasText: call }).waitFor();
  await page.locator("#holding", { hasText: "Call, connected" }).waitFor();
  await desk.shows(page, east);
  assert.equal(await desk.loads(page), 2, "this time the agent did it");
  await desk.shot(page, "reloaded");
  await desk.happened(page, `Detected: ${west}`, "Pending: one contact holds it"); // an open failover is told to whoever comes
  await desk.end(call);
  await desk.clear(call);
  await desk.headline(page, `You work in ${west} now`);
  await desk.shows(page, west);
  await desk.happened(page, `Detected: ${west}`, "Pending: one contact holds it", `Completed: works in ${west}`);
  await page.reload();
  await desk.headline(page, `You work in ${west}`);
  await desk.shows(page, west);
  await desk.happened(page); // no completed on initialisation
}

/** The service is restarted in the middle. */
export async function restart(desk) {
  const { west } = desk;
  const call = await desk.call();
  const page = await desk.open();
  await desk.shift(west);
  await desk.headline(page, `${west} takes over when you are done`);
  desk.expectErrors(/Failed to load resource: net::ERR_/);
  await desk.control("stop");
  await page.waitForFunction(() => ["waiting", "connecting"].includes(document.getElementById("connection").dataset.state));
  await desk.headline(page, `${west} takes over when you are done`); // the banner stands
  await desk.shot(page, "away");
  await desk.end(call);
  await desk.clear(call);
  await desk.shows(page, west); // Amazon's panel needs no service
  await desk.control("start");
  await desk.connection(page, "open");
  await desk.headline(page, `You work in ${west} now`);
  await desk.happened(page, `Detected: ${west}`, "Pending", `Completed: works in ${west}`);
  assert.equal(await desk.loads(page), 1);
}

/** Eight tabs have one connection and report once; both outlive the tab that was there first. A tab that only listens silences nobody. */
export async function tabs(desk) {
  const { west } = desk;
  const call = await desk.call();
  const listener = await desk.listen();
  const reports = async () => (await desk.api("/v1/audit?limit=1000")).items.filter((e) => e.action === "reportObservation").length;
  const pages = [await desk.open()];
  await desk.until("a report", reports, (n) => n > 0);
  pages.push(...await Promise.all(Array.from({ length: 7 }, () => desk.open())));
  const streams = () => desk.api(`/v1/connections?agentId=${desk.agent}`);
  await desk.until("streams of the agent", streams, ({ items }) => items.length === 1);
  const before = await reports();
  assert.ok(before <= 5, `${before} reports: those of one tab as it came up`);
  await desk.shift(west);
  for (const page of pages) {
    await desk.headline(page, `${west} takes over when you are done`);
    await page.locator("#holding", { hasText: call }).waitFor();
  }
  assert.equal(await listener.title(), "failoverDetected, failoverPending");
  await pages.shift().close(); // which reported
  await desk.until("a report of another tab", reports, (n) => n > before);
  await desk.end(call);
  await desk.clear(call);
  for (const page of pages) {
    await desk.headline(page, `You work in ${west} now`);
    await desk.shows(page, west);
  }
  assert.deepEqual((await desk.events()).filter((e) => e.event !== "failoverPendingUpdated" || e.data.contactIds.length > 0).map((e) => e.event),
    ["failoverDetected", "failoverPending", "failoverCompleted"], "no tab reports a contact that another one saw go");
  for (const page of pages) await desk.happened(page, `Detected: ${west}`, "Pending: one contact holds it", `Completed: works in ${west} (desktop)`);
  const all = await reports();
  assert.ok(all <= before + 12, `${all} reports, ${before} before the shift`);
  const { items } = await streams();
  assert.equal(items.length, 1);
  await desk.shot(pages[6], "eighth-tab");
}

/** Endpoint A falls silent, as a half-open connection does, and B takes over; then B is gone and A is back. */
export async function takeover(desk) {
  const { west } = desk;
  const call = await desk.call();
  const page = await desk.open();
  const at = (entry, ...states) => page.waitForFunction(([host, states]) => {
    const c = document.getElementById("connection");
    return states.includes(c.dataset.state) && c.title.endsWith(host);
  }, [new URL(desk.stack.entries[entry]).host, states]);
  await at(0, "open");
  await desk.shift(west);
  await desk.headline(page, `${west} takes over when you are done`);
  desk.expectErrors(/Failed to load resource: net::ERR_/);
  await desk.control("silence", 0);
  await at(1, "open");
  await desk.shot(page, "at-b");
  await desk.end(call);
  await desk.clear(call);
  await desk.headline(page, `You work in ${west} now`);
  await desk.shows(page, west);
  await desk.control("restore", 0);
  await desk.control("stop", 1);
  await at(0, "open", "polling"); // if A was tried while it was silent, its streams seem to be blocked
  await desk.happened(page, `Detected: ${west}`, "Pending", `Completed: works in ${west}`);
  assert.equal(await desk.loads(page), 1);
}

/** Something on the way holds streams back: long polls take over. */
export async function polling(desk) {
  const { west } = desk;
  const call = await desk.call();
  const page = await desk.open();
  await desk.connection(page, "polling");
  assert.equal(await page.textContent("#connection-text"), "Connected by polling");
  await desk.shift(west);
  await desk.headline(page, `${west} takes over when you are done`);
  await desk.shot(page, "pending-by-polling");
  await desk.end(call);
  await desk.clear(call);
  await desk.headline(page, `You work in ${west} now`);
  await desk.shows(page, west);
  await desk.happened(page, `Detected: ${west}`, "Pending", `Completed: works in ${west}`);
}

/** The standby panel's agent did not come by the global sign-in. */
export async function setup(desk) {
  const { east, west } = desk;
  await desk.sim("PUT", `regions/${west}/ccp`, { fault: "signin-missing" });
  const page = await desk.open({ ready: false });
  await desk.headline(page, `You work in ${east}`);
  await desk.shows(page, east);
  await page.locator("#problems", { hasText: "LILY_AGENT_CONFIG_MISSING" }).waitFor();
  await desk.until("set-up errors of the agent", () => desk.api(`/v1/agents/${desk.agent}`), (a) => a.configureErrors.length === 1);
  await desk.shot(page, "sign-in-missing");
  assert.equal(await page.evaluate(() => connect.core.initialized), true, "the desktop works with the one panel");
}

/** The desktop is opened while the service is away: the panels work, and it is caught up with when it comes. */
export async function late(desk) {
  const { east } = desk;
  await desk.until("the agent", () => desk.api(`/v1/agents/${desk.agent}`), (a) => a.activeRegion === east);
  await desk.control("stop");
  desk.expectErrors(/Failed to load resource: net::ERR_/);
  const page = await desk.open({ ready: false });
  await desk.headline(page, "Waiting for the service…");
  await desk.shows(page, east);
  await desk.panel(page, east).getByRole("heading").first().waitFor();
  await desk.shot(page, "without-service");
  await desk.control("start");
  await desk.headline(page, `You work in ${east}`);
  await desk.happened(page);
}

/**
 * The panel learns of a shift later than the service, and the agent was idle for long, so that the desktop has reported nothing: it does not switch
 * before Amazon does all the same.
 */
export async function lag(desk) {
  const { east, west } = desk;
  const page = await desk.open();
  await page.evaluate(() => {
    connect.globalResiliency.onFailoverCompleted(() => { window.panelMoved = performance.now(); });
    new MutationObserver(() => {
      if (document.getElementById("history").textContent.includes("Completed")) window.completed ??= performance.now();
    }).observe(document.getElementById("history"), { childList: true });
  });
  await desk.until("the desktop's report and its stream", () => desk.api(`/v1/agents/${desk.agent}`), (a) => a.standby?.ready && a.connections === 1);
  await desk.idle();
  // What it says of the shift comes too late to be waited for.
  await page.route("**/reports", async (route) => { await new Promise((resolve) => setTimeout(resolve, 2_000)); await route.continue(); });
  await desk.shift(west);
  await desk.headline(page, `${west} takes over`);
  await desk.shows(page, east);
  assert.deepEqual((await desk.events()).map((e) => e.event), ["failoverDetected"], "nothing holds the agent but the panel");
  await desk.shot(page, "panel-is-late");
  await desk.headline(page, `You work in ${west} now`);
  const [panelMoved, completed] = await page.evaluate(() => [window.panelMoved, window.completed]);
  assert.ok(panelMoved <= completed, `the panel moved at ${panelMoved}, the desktop at ${completed}`);
  await desk.happened(page, `Detected: ${west}`, `Completed: works in ${west} (desktop)`);
  assert.deepEqual((await desk.events()).map((e) => e.event), ["failoverDetected", "failoverCompleted"]);
}

/** Operators hold the change: the panel moves by itself, and the desktop says why the rest waits. */
export async function pause(desk) {
  const { west } = desk;
  const call = await desk.call();
  const page = await desk.open();
  await desk.shift(west);
  await desk.headline(page, `${west} takes over when you are done`);
  const path = "/v1/failover-groups/main/pause";
  await desk.api(path, { method: "POST", body: { reason: "the payment system is down there", ttlSeconds: 600 } });
  await desk.headline(page, `${west} takes over later`);
  assert.match(await page.textContent("#detail"), /until .*: the payment system is down there/);
  await desk.shot(page, "paused");
  await page.reload(); // whoever comes in the middle learns of it
  await desk.headline(page, `${west} takes over later`);
  assert.match(await page.textContent("#detail"), /until .*: the payment system is down there/);
  await desk.end(call);
  await desk.clear(call);
  await desk.shows(page, west);
  await desk.headline(page, `${west} takes over later`);
  await desk.api(path, { method: "DELETE" });
  await desk.headline(page, `You work in ${west} now`);
  await desk.happened(page, `Detected: ${west}`, "Pending", "Paused: the payment system is down there", "Resumed", `Completed: works in ${west}`);
}

/** The panel does not follow: six minutes later, and not earlier, the desktop says that it is elsewhere; and it takes that back. */
export async function disagree(desk) {
  const { east, west } = desk;
  await desk.context.clock.install();
  const page = await desk.open();
  await desk.shift(west);
  await desk.until("the completion", () => desk.events(), (all) => all.some((e) => e.event === "failoverCompleted"));
  await desk.regions(page, west, "you work here");
  await desk.shows(page, east);
  await page.locator("#detail", { hasText: `Your Contact Control Panel shows ${east}` }).waitFor();
  const history = () => page.textContent("#history");
  assert.doesNotMatch(await history(), /Completed/, "the panel has not moved");
  await desk.context.clock.fastForward("05:30");
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.doesNotMatch(await history(), /panel says/, "a panel may need five minutes");
  await desk.context.clock.fastForward("00:40");
  await desk.headline(page, "Your Contact Control Panel is in another Region than it should be");
  assert.equal((await history()).split(`Service says ${west}, panel says ${east}`).length, 2, "told once");
  await desk.shot(page, "disagreement");
  await desk.shift(east);
  await desk.headline(page, `You work in ${east} now`);
  await desk.shows(page, east);
  assert.doesNotMatch(await history(), new RegExp(`Completed: works in ${west}`));
  assert.equal(await desk.loads(page), 1);
}

/** Without enableGlobalResiliency nobody but the page moves the panel: the service waits for no panel, and no force goes to Streams. */
export async function single(desk) {
  const { east, west } = desk;
  const call = await desk.call();
  // Streams (2.28.2) says so whenever another panel is initialised in a page, and goes on.
  desk.expectErrors(/initialize provider more than one time/, /Error when setting up AmazonConnectStreamsSite/);
  const page = await desk.single();
  await page.waitForFunction((call) => window.report?.().contacts?.some((c) => c.contactId === call), call);
  const report = await page.evaluate(() => window.report());
  assert.equal(report.contactsRegion, east);
  for (const field of ["activeRegion", "nextActiveRegion", "standby", "configureError"]) assert.equal(field in report, false, `${field} is the service's to know`);
  await desk.until("the report", () => desk.api("/v1/audit"), ({ items }) => items.some((e) => e.action === "reportObservation"));
  await desk.shift(west);
  await desk.until("pending", () => desk.api(`/v1/agents/${desk.agent}`), (a) => a.state === "pending");
  assert.equal(await page.title(), "");
  await desk.end(call);
  await desk.clear(call);
  await page.waitForFunction((title) => document.title === title, `${west};`);
  await page.waitForFunction((west) => window.report().contactsRegion === west && document.querySelectorAll("#ccp iframe").length === 1, west);
  await desk.shot(page, "moved");

  // And back, by force: the page is told once, as by any other completion.
  const chat = await desk.call();
  await page.waitForFunction((chat) => window.report().contacts.some((c) => c.contactId === chat), chat);
  await desk.shift(east);
  const { failoverId } = await desk.until("pending again", () => desk.api(`/v1/agents/${desk.agent}`), (a) => a.state === "pending");
  await desk.api(`/v1/failovers/${failoverId}/force`, { method: "POST", body: { reason: "the caller has gone" } });
  await page.waitForFunction((title) => document.title === title, `${west};${east};`);
  const completed = (await desk.events()).filter((e) => e.event === "failoverCompleted").map((e) => e.data.evidence);
  assert.deepEqual(completed, ["inferred", "forced"]);
}
