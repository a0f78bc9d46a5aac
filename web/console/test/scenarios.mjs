// What people do with the console, each on a stack of its own.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";

const number = (text) => Number(text.replaceAll(",", ""));

/** A shift of the whole floor, seen by an operator: what the console shows is what REST says, while it happens and at the end. */
export async function shift(floor) {
  const { agents, east, west } = floor;
  // Some talk, some chat, some are in after-contact work; one does both.
  const held = agents.slice(0, 80);
  const contacts = await Promise.all(held.map((a, i) => floor.contact(a, i % 4 === 3 ? "CHAT" : "VOICE")));
  contacts.push(await floor.contact(held[0], "CHAT"));
  const ended = contacts.filter((_, i) => i % 5 === 1 && i < 80);
  await Promise.all(ended.map((c) => floor.ends(c)));

  const me = await floor.person();
  const page = await floor.open(me, "overview");
  const summary = async () => (await floor.get(page, "/v1/summary")).items[0];
  const open = async (query = "") => floor.get(page, `/v1/open-failovers?limit=1000${query}`);
  await floor.until("the floor is known", summary, (s) => s.agents === agents.length && s.byState.active === agents.length);
  await floor.until("the contacts are known", () => floor.plan(page, "?limit=1"), (p) => p.counts.waits === held.length && p.counts.unknown === 0);
  await overviewAgrees(floor, page, summary);
  await floor.look(page, "overview-calm");

  // Everybody who can goes; nothing on the page moves but what is new.
  await floor.shift(west);
  await page.getByText("Shift under way").waitFor();
  await page.locator(".chart canvas").waitFor();
  await floor.layoutShift(page);
  await floor.until("those who can have gone", summary, (s) => s.byState.active === agents.length - held.length && s.pending === held.length);
  await overviewAgrees(floor, page, summary);
  await floor.stands(page, "the overview during a shift");
  await floor.look(page, "overview-shift");

  // Who waits, and for what.
  await floor.visit(page, "pending");
  const grid = page.getByRole("grid", { name: "Open failovers" });
  const said = async () => (await page.locator("main .sum").innerText()).match(/\d[\d,]*/g).map(number);
  await floor.agrees("the pending list", said, async () => { const { totals: t } = await open(); return [t.failovers, t.live, t.afterContactWork]; });
  assert.equal(number(await grid.getAttribute("aria-rowcount")) - 1, held.length);
  await floor.look(page, "pending");
  await page.getByRole("combobox", { name: "Is", exact: true }).selectOption("afterContactWork");
  await floor.agrees("those in after-contact work",
    async () => (await grid.locator("[data-row] a").allInnerTexts()).slice(0, 5), async () => (await open("&phase=afterContactWork")).items.slice(0, 5).map((f) => f.username));
  await page.getByRole("combobox", { name: "Is", exact: true }).selectOption("");

  // Force one, by keyboard alone: how many live contacts that drops is said before.
  const rows = grid.locator("[data-row]");
  await floor.until("the list is whole again", async () => number(await grid.getAttribute("aria-rowcount")), (n) => n === held.length + 1);
  const both = (await open()).items.find((f) => f.agentId === held[0].id);
  const at = (await open()).items.findIndex((f) => f.failoverId === both.failoverId);
  await rows.first().focus();
  for (let i = 0; i < at; i++) await page.keyboard.press("ArrowDown");
  await grid.locator("[data-row]:focus", { hasText: both.username }).waitFor();
  await page.keyboard.press("Space");
  await page.keyboard.press("f");
  const dialog = page.getByRole("dialog");
  const toll = async () => number((await dialog.locator(".figure").innerText()).match(/\d[\d,]*/)[0]);
  assert.equal(await toll(), both.contacts.filter((c) => c.state !== "ENDED").length);
  await dialog.getByLabel("Why").focus();
  await page.keyboard.type("the callers agreed to be called back");
  await floor.look(page, "force-one");
  await page.keyboard.press("Enter"); // not without saying yes
  assert.equal((await floor.get(page, `/v1/failovers/${both.failoverId}`)).status, "pending");
  await dialog.getByRole("checkbox").focus();
  await page.keyboard.press("Space");
  await page.keyboard.press("Enter");
  await dialog.waitFor({ state: "detached" });
  await forced(floor, page, [both], "the callers agreed to be called back");

  // And some, whoever is chosen.
  await floor.until("who was forced is gone from the list", async () => grid.locator("[data-row]", { hasText: both.username }).count(), (n) => n === 0);
  const names = (await grid.locator("[data-row] a").allInnerTexts()).slice(0, 5);
  const some = (await open()).items.filter((f) => names.includes(f.username));
  for (const f of some) await grid.locator("[data-row]", { hasText: f.username }).getByRole("checkbox").click();
  await page.getByRole("button", { name: "Force selected (5)" }).click();
  assert.equal(await toll(), some.flatMap((f) => f.contacts).filter((c) => c.state !== "ENDED").length);
  await dialog.getByLabel("Why").fill("INC-2041");
  await dialog.getByRole("checkbox").click();
  await floor.look(page, "force-many");
  await dialog.getByRole("button", { name: /^Force/ }).click();
  await dialog.waitFor({ state: "detached" });
  await forced(floor, page, some, "INC-2041");

  // And all that the list is narrowed down to: who is in after-contact work, of which nothing live is lost.
  await page.getByRole("combobox", { name: "Is", exact: true }).selectOption("afterContactWork");
  await page.getByRole("combobox", { name: "Channel" }).selectOption("CHAT");
  const chats = (await open("&phase=afterContactWork&channel=CHAT")).items;
  assert.ok(chats.length > 0 && chats.length < ended.length);
  await page.getByRole("button", { name: "Force all that match" }).click();
  assert.equal(await toll(), 0);
  await dialog.getByLabel("Why").fill("they have forgotten to close");
  await floor.look(page, "force-matching");
  await dialog.getByRole("button", { name: /^Force/ }).click();
  await dialog.waitFor({ state: "detached" });
  await forced(floor, page, chats, "they have forgotten to close");
  const [entry] = (await floor.all(page, "/v1/audit")).filter((e) => e.reason === "they have forgotten to close" && e.outcome === "accepted");
  assert.deepEqual([entry.details.channel, entry.details.phase], ["CHAT", "afterContactWork"]);
  assert.equal((await open()).totals.failovers, held.length - 6 - chats.length, "others are where they were");

  // One of those who wait.
  const one = (await open()).items[0];
  await floor.visit(page, `agents/${one.agentId}`);
  await page.getByRole("heading", { level: 1, name: one.username }).waitFor();
  const events = async () => (await floor.get(page, `/v1/agents/${one.agentId}/events?limit=1000`)).items.length;
  await floor.agrees("the timeline", async () => page.locator(".timeline li").count(), events);
  await floor.look(page, "agent");
  const [log] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: `Log of ${east}` }).click()]);
  assert.match(await readFile(await log.path(), "utf8"), new RegExp(`agent ${one.agentId}`));
  await floor.visit(page, "agents");
  await floor.agrees("the number of agents", async () => number((await page.locator("main .sum").innerText()).match(/\d[\d,]*/)[0]), async () => (await summary()).agents);
  await floor.look(page, "agents");
  await page.getByRole("columnheader", { name: "Agent" }).getByRole("button").click();
  await page.getByRole("columnheader", { name: "Agent" }).and(page.locator("[aria-sort=ascending]")).waitFor();
  await floor.agrees("the agents by name", async () => (await page.getByRole("grid", { name: "Agents" }).locator("[data-row] a").allInnerTexts()).slice(0, 20),
    async () => (await floor.get(page, "/v1/agents?order=username&limit=20")).items.map((a) => a.username));

  // All contacts end, and with them the shift.
  await Promise.all(contacts.filter((c) => !ended.includes(c)).map((c) => floor.ends(c)));
  await floor.visit(page, "overview");
  await page.locator(".chart canvas").waitFor();
  await floor.layoutShift(page);
  await Promise.all(contacts.map((c) => floor.clears(c)));
  await floor.until("the shift is over", summary, (s) => s.byState.active === agents.length);
  await overviewAgrees(floor, page, summary);
  await page.getByText("Last shift").waitFor();
  await floor.stands(page, "the overview at the end of a shift");
  await floor.look(page, "overview-over");
  await floor.visit(page, "pending");
  await page.getByText("Nobody waits.").waitFor();
  await floor.visit(page, "shifts");
  await page.getByRole("grid", { name: "Shifts" }).locator("[data-row]").first().focus();
  await page.keyboard.press("Enter");
  await page.waitForURL(/#\/shifts\/\d+$/);
  await floor.settled(page);
  const report = await reportAgrees(floor, page, () => floor.get(page, `/v1/shifts/${page.url().split("/").pop()}`));
  assert.equal(report.shift.completed, agents.length);
  assert.equal(report.shift.forced, 6 + chats.length);
}

/** Agents by state and by Region are those of REST. */
async function overviewAgrees(floor, page, summary) {
  const states = ["Active", "Detected", "Pending", "Unknown"];
  await floor.agrees("the overview", async () => ({
    states: await Promise.all(states.map(async (name) => number(await page.locator(".states dl > div", { hasText: name }).locator("dd").innerText()))),
    regions: Object.fromEntries(await page.locator(".region").evaluateAll((cards) => cards.map((c) => [c.querySelector("h3").firstChild.textContent.trim(), Number(c.querySelector(".figure").firstChild.textContent.replaceAll(",", ""))]))),
  }), async () => {
    const s = await summary();
    const regions = Object.fromEntries(floor.stack.regions.map((r) => [r, s.byActiveRegion.filter((c) => c.activeRegion === r).reduce((n, c) => n + c.count, 0)]));
    return { states: states.map((name) => s.byState[name.toLowerCase()]), regions };
  });
}

/** They were forced by whoever is signed in, and the audit says why. */
async function forced(floor, page, failovers, reason) {
  for (const { failoverId } of failovers) {
    const f = await floor.until("it is forced", () => floor.get(page, `/v1/failovers/${failoverId}`), (f) => f.status === "completed");
    assert.equal(f.forced, true);
    assert.equal(f.forcedReason, reason);
  }
  const entries = (await floor.all(page, "/v1/audit")).filter((e) => e.reason === reason);
  assert.ok(entries.some((e) => e.outcome === "accepted"), `the audit has nothing of ${reason}`);
}

/** Plan, drill, pause, resume, dead letters, reports, audit: everything that operators do beside forcing. */
export async function operations(floor) {
  const { agents, west } = floor;
  const calls = [await floor.contact(agents[0]), await floor.contact(agents[1]), await floor.contact(agents[2], "CHAT")];
  await floor.ends(calls[1]); // after-contact work
  const me = await floor.person();
  const page = await floor.open(me, "controls");

  // The plan says what REST says.
  const plan = (query) => floor.plan(page, query);
  await floor.until("everybody is known", plan, (p) => p.counts.waits === 3 && p.counts.atOnce === agents.length - 3);
  await page.getByRole("group", { name: "Region" }).getByRole("button", { name: west }).click();
  const outcomes = page.getByRole("group", { name: "Outcome" });
  await floor.agrees("the plan's counts",
    async () => (await outcomes.getByRole("button").locator("b").allInnerTexts()).map(number),
    async () => { const { counts } = await plan(); return [counts.atOnce, counts.waits, counts.unknown, counts.there]; });
  await outcomes.getByRole("button", { name: "Would wait" }).click();
  const rows = page.getByRole("grid", { name: "Plan" }).locator("[data-row]");
  await floor.agrees("who would wait", async () => (await rows.locator("a").allInnerTexts()).sort(), async () => (await plan("?outcome=waits")).items.map((a) => a.username).sort());
  await page.getByRole("row", { name: /after-contact work/ }).waitFor();
  await floor.look(page, "controls-plan");

  // A drill with two of them, by keyboard alone.
  await rows.first().focus();
  for (const key of ["Space", "ArrowDown", "Space"]) await page.keyboard.press(key);
  await page.getByRole("button", { name: "Drill with 2 agents" }).focus();
  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Why").focus();
  await page.keyboard.type("Tuesday rehearsal");
  await floor.look(page, "drill-dialog");
  await page.keyboard.press("Enter");
  await page.waitForURL(/#\/drills\/[0-9a-f-]+$/);
  await floor.settled(page);
  const drillId = page.url().split("/").pop();
  const drill = () => floor.get(page, `/v1/drills/${drillId}`);
  await floor.agrees("the drill's report",
    async () => [number(await floor.figure(page, "Held")), number(await floor.figure(page, "Would have gone")), number(await floor.figure(page, "Without a stream"))],
    async () => { const { counts } = await drill(); return [counts.pending, counts.completed, counts.notStreaming]; });
  assert.equal((await drill()).reason, "Tuesday rehearsal");
  assert.deepEqual((await page.getByRole("grid", { name: "Agents of the drill" }).locator("[data-row] a").allInnerTexts()).sort(), (await drill()).agents.map((a) => a.username).sort());
  await floor.look(page, "drill");
  await floor.visit(page, "drills");
  await page.getByRole("row", { name: /Tuesday rehearsal/ }).waitFor();
  await floor.look(page, "drills");

  // Somebody who types wrong is told what; nothing has happened then.
  floor.expect(/422|404/);
  await page.getByRole("button", { name: "Begin a drill" }).click();
  await dialog.getByLabel("Agents").fill("nobody-of-this-name");
  await dialog.getByLabel("Why").fill("x");
  await dialog.getByRole("button", { name: "Begin" }).click();
  await dialog.getByRole("alert").filter({ hasText: "nobody-of-this-name" }).waitFor();
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });

  // Hold, shift, let go.
  await floor.visit(page, "controls");
  await page.getByRole("button", { name: "Pause…" }).click();
  await dialog.getByLabel("Why").fill("payment system is down in us-west-2");
  await dialog.getByLabel("minutes").fill("15");
  await floor.look(page, "pause-dialog");
  await dialog.getByRole("button", { name: "Pause" }).click();
  await page.getByText("main is paused", { exact: false }).first().waitFor();
  const group = () => floor.get(page, "/v1/failover-groups/main");
  const { pause } = await floor.until("the group is paused", group, (g) => g.pause);
  assert.equal(pause.reason, "payment system is down in us-west-2");
  assert.equal(Math.round((new Date(pause.until) - new Date(pause.since)) / 60_000), 15);

  await floor.control("receiver/503");
  await floor.shift(west);
  const summary = async () => (await floor.get(page, "/v1/summary")).items[0];
  await floor.until("the pause holds", summary, (s) => s.held === agents.length - 3 && s.pending === 3);
  await floor.agrees("what the pause holds", () => floor.figure(page, "Held by it"), async () => `${(await summary()).held} failovers`);
  await floor.look(page, "controls-paused");
  await page.getByRole("button", { name: "Resume" }).click();
  await page.getByRole("button", { name: "Resume" }).waitFor({ state: "detached" });
  await floor.until("the group goes on", group, (g) => g.pause === null);
  await floor.until("they go", summary, (s) => s.byState.active === agents.length - 3);

  // The pager was down for a day.
  const webhook = async () => (await floor.get(page, "/v1/webhooks")).items[0];
  await floor.until("the deliveries were tried", webhook, (w) => w.pending > 0 && w.behind === 0 && w.lastErrorAt);
  await floor.control("a-day-passes");
  await floor.until("the deliveries are dead", webhook, (w) => w.dead > 0 && w.pending === 0);
  await floor.control("receiver/204");
  await floor.visit(page, "webhooks");
  await floor.agrees("dead letters", async () => number(await floor.figure(page, "Dead")), async () => (await webhook()).dead);
  await floor.look(page, "webhooks");
  await page.getByRole("link", { name: "Dead" }).click();
  await page.waitForURL(/status=dead/);
  await floor.settled(page);
  await page.getByRole("checkbox", { name: "Select all" }).click();
  await floor.look(page, "webhook");
  await page.getByRole("button", { name: /once more/ }).click();
  await floor.until("the pager has it all", webhook, (w) => w.dead === 0 && w.pending === 0);
  await page.getByText("No delivery is dead.").waitFor();

  // The report, and the same as files.
  await floor.visit(page, "shifts");
  await page.getByRole("row", { name: new RegExp(west) }).last().waitFor();
  await floor.look(page, "shifts");
  await page.getByRole("grid", { name: "Shifts" }).locator("[data-row]").first().click();
  await page.waitForURL(/#\/shifts\/\d+$/);
  await floor.settled(page);
  const shiftId = page.url().split("/").pop();
  const report = () => floor.get(page, `/v1/shifts/${shiftId}`);
  await reportAgrees(floor, page, report);
  for (const call of calls) {
    if (call !== calls[1]) await floor.ends(call);
    await floor.clears(call);
  }
  await floor.until("the shift is over", report, (r) => r.shift.detected + r.shift.pending === 0);
  const over = await reportAgrees(floor, page, report);
  assert.equal(over.shift.completed, agents.length);
  await page.locator(".chart canvas").waitFor();
  await floor.look(page, "shift");
  const save = async (name) => {
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name }).click()]);
    return readFile(await download.path(), "utf8");
  };
  assert.deepEqual(JSON.parse(await save("Report as JSON")).shift, (await report()).shift);
  const csv = (await save("Failovers as CSV")).trim().split("\r\n");
  assert.equal(csv.length, 1 + agents.length);
  assert.match(csv[0], /^failoverId,agentId,/);

  // It is all in the audit.
  await floor.visit(page, "audit");
  const trail = page.getByRole("grid", { name: "Audit" });
  await floor.agrees("the audit", async () => number(await trail.getAttribute("aria-rowcount")) - 1, async () => (await floor.all(page, "/v1/audit")).length);
  await floor.look(page, "audit");
  await page.getByLabel("Action").fill("pauseFailoverGroup");
  await page.keyboard.press("Enter");
  await floor.until("the filter", async () => trail.getByRole("row", { name: /startDrill/ }).count(), (n) => n === 0);
  await trail.locator("[data-row]").first().focus();
  await page.keyboard.press("Enter");
  await dialog.getByText("payment system is down in us-west-2").first().waitFor();
  await floor.look(page, "audit-entry");
  await page.keyboard.press("Escape");
  await page.getByLabel("Who").fill("nobody");
  await page.keyboard.press("Enter");
  await page.getByText("No entry is like this").waitFor();
}

/** The figures of a shift's report are those of REST. */
async function reportAgrees(floor, page, report) {
  const shown = async () => ({
    figures: await Promise.all(["Detected", "Completed", "Still open", "Cancelled", "Forced", "Stalled"].map(async (name) => number(await floor.figure(page, name)))),
    phases: await page.locator("table.small").first().locator("tbody tr").evaluateAll((rows) => rows.map((r) => [...r.cells].slice(0, 5).map((c) => c.innerText))),
  });
  await floor.agrees("the report", shown, async () => {
    const { shift: s, phases } = await report();
    const precise = (v) => {
      if (v === null) return "–";
      if (v < 60) return `${v.toFixed(1)} s`;
      const whole = Math.round(v);
      return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
    };
    return {
      figures: [s.failovers, s.completed, s.detected + s.pending, s.cancelled, s.forced, s.stalled],
      phases: ["detection", "release", "pending", "total", "confirmation"].map((name) => {
        const p = phases[name];
        return [name[0].toUpperCase() + name.slice(1), p.count.toLocaleString("en-GB"), precise(p.p50Seconds), precise(p.p95Seconds), precise(p.maxSeconds)];
      }),
    };
  });
  return report();
}

/** People sign in at the identity provider; what somebody may not do is there, does nothing, says why, and is refused by the service too. */
export async function signin(floor) {
  const { stack } = floor;
  const signIn = async (role, hash) => {
    const context = await floor.person();
    const page = await context.newPage();
    floor.expect(/status of 401/);
    await page.goto(`${stack.console}/console/#/${hash}`);
    const link = page.getByRole("link", { name: "Sign in" });
    await link.waitFor();
    if (role === "viewer") await floor.look(page, "sign-in");
    await link.click();
    await page.locator("input[name=login]").fill(stack.people[role].email);
    await page.locator("input[name=password]").fill(stack.people[role].password);
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: /grant/i }).click();
    await page.waitForURL(`${stack.console}/console/#/${hash}`);
    await floor.settled(page);
    await page.getByRole("banner").getByText(role, { exact: true }).waitFor();
    return page;
  };
  const force = (page) => page.evaluate(async () => (await fetch("/v1/failovers/force", {
    method: "POST", headers: { "Content-Type": "application/json", "Idempotency-Key": "one" }, body: JSON.stringify({ failoverGroup: "main", reason: "a viewer tries" }),
  })).status);

  const viewer = await signIn("viewer", "controls");
  const pause = viewer.getByRole("button", { name: "Pause…" });
  assert.equal(await pause.getAttribute("aria-disabled"), "true");
  assert.match(await pause.getAttribute("title"), /operator or admin/);
  await pause.click({ force: true });
  assert.equal(await viewer.getByRole("dialog").count(), 0);
  assert.equal(await viewer.getByRole("link", { name: "Audit" }).count(), 0);
  await floor.look(viewer, "viewer");
  floor.expect(/status of 403/);
  assert.equal(await force(viewer), 403);
  await floor.visit(viewer, "audit");
  await viewer.getByText("This takes the role admin.").waitFor();

  // The whole of a small floor waits: more than a fifth of it is forced by an admin alone, who says so.
  await Promise.all(floor.agents.map((a) => floor.contact(a)));
  await floor.until("the calls are known", () => floor.get(viewer, "/v1/agents"), (l) => l.items.length === floor.agents.length && l.items.every((a) => a.openContacts === 1));
  await floor.shift(floor.west);
  const open = () => floor.get(viewer, "/v1/open-failovers");
  const waiting = await floor.until("all wait", open, (l) => l.totals.pending === floor.agents.length);
  await floor.visit(viewer, "pending");
  await viewer.getByRole("checkbox", { name: "Select all" }).click();
  const force3 = (page) => page.getByRole("button", { name: `Force selected (${floor.agents.length})` });
  assert.equal(await force3(viewer).getAttribute("aria-disabled"), "true");
  await viewer.keyboard.press("Escape");
  await viewer.keyboard.press("f");
  const operator = await signIn("operator", "pending");
  const dialog = operator.getByRole("dialog");
  await operator.getByRole("checkbox", { name: "Select all" }).click();
  await force3(operator).click();
  await dialog.getByLabel("Why").fill("an operator tries");
  await dialog.getByRole("checkbox").click();
  floor.expect(/status of 422/);
  await dialog.getByRole("button", { name: /^Force/ }).click();
  await dialog.getByText("Nothing was forced.").waitFor();
  assert.deepEqual(await dialog.getByRole("combobox", { name: /At most/ }).locator("option:not([disabled])").allInnerTexts(), ["A fifth of the group"]);
  await floor.look(operator, "force-refused");
  await dialog.getByRole("button", { name: "Cancel" }).click();
  assert.deepEqual((await open()).items, waiting.items);

  await floor.visit(operator, "controls");
  await operator.getByRole("button", { name: "Pause…" }).click();
  await dialog.getByLabel("Why").fill("an operator may");
  await dialog.getByRole("button", { name: "Pause" }).click();
  // The others see it without doing anything.
  await viewer.getByText("an operator may").first().waitFor();
  await floor.until("REST says so too", () => floor.get(viewer, "/v1/failover-groups/main"), (g) => g.pause?.reason === "an operator may");

  const admin = await signIn("admin", "audit?outcome=forbidden");
  await admin.getByRole("row", { name: /forceFailovers/ }).waitFor();
  const entries = await floor.all(admin, "/v1/audit");
  const who = Object.fromEntries(await Promise.all([["viewer", viewer], ["operator", operator]].map(async ([role, page]) => [role, (await floor.get(page, "/v1/session")).subject])));
  assert.deepEqual(entries.filter((e) => e.subject === who.viewer).map((e) => e.outcome), ["forbidden"]);
  await floor.visit(admin, "pending");
  await admin.getByRole("checkbox", { name: "Select all" }).click();
  await force3(admin).click();
  const sure = admin.getByRole("dialog");
  await sure.getByLabel("Why").fill("an admin may");
  await sure.getByRole("checkbox").click();
  await sure.getByRole("combobox", { name: /At most/ }).selectOption("1");
  await sure.getByRole("button", { name: /^Force/ }).click();
  await sure.waitFor({ state: "detached" });
  const done = await floor.until("all are forced", () => floor.get(admin, "/v1/failovers"), (l) => l.items.every((f) => f.forced));
  const { subject } = await floor.get(admin, "/v1/session");
  assert.ok(done.items.length === floor.agents.length && done.items.every((f) => f.forcedBy === subject && f.forcedReason === "an admin may"), JSON.stringify(done.items));
  assert.ok(entries.some((e) => e.subject === who.operator && e.action === "pauseFailoverGroup" && e.outcome === "done" && e.reason === "an operator may"));

  // Who signs out sees nothing any more.
  await operator.getByRole("button", { name: "Sign out" }).click();
  await operator.getByRole("link", { name: "Sign in" }).waitFor();
}

/** What is wrong on the side of Amazon Connect is on the overview: Regions that disagree, one that is silent. */
export async function trouble(floor) {
  const page = await floor.open(await floor.person(), "overview");
  const warnings = page.locator(".warning");
  const group = () => floor.get(page, "/v1/failover-groups/main");
  const tdg = async () => (await floor.get(page, "/v1/traffic-distribution-groups")).items[0];
  await floor.until("the group is read", tdg, (t) => t);
  const { tdgId } = await tdg();
  await floor.sim("PUT", `regions/${floor.east}/views/${tdgId}`, { frozen: true });
  await floor.shift(floor.west);
  await warnings.filter({ hasText: "The two Regions answer differently." }).first().waitFor();
  assert.ok((await tdg()).warnings.some((w) => w.code === "REGIONS_DISAGREE"));
  await floor.look(page, "overview-disagree");
  await floor.sim("PUT", `regions/${floor.east}/views/${tdgId}`, { frozen: false });
  await warnings.filter({ hasText: "The two Regions answer differently." }).waitFor({ state: "detached" });

  // A Region that is silent says so, and since when.
  await floor.sim("PUT", `regions/${floor.east}`, { down: "refuse" });
  const card = page.locator(".region", { hasText: floor.east });
  await card.getByText("down", { exact: true }).waitFor();
  assert.equal((await group()).health.find((h) => h.region === floor.east).state, "down");
  await floor.look(page, "overview-down");
  await floor.sim("PUT", `regions/${floor.east}`, { down: "" });
  await card.getByText("healthy", { exact: true }).waitFor();
}

/** The service is away: the console says how old it is, keeps what it showed, does nothing twice, and goes on by itself. */
export async function away(floor) {
  const context = await floor.person();
  const page = await floor.open(context, "controls");
  const status = page.locator(".status").getByRole("status");
  await status.filter({ hasText: /^Live$/ }).waitFor();
  await page.getByRole("button", { name: "Pause…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Why").fill("asked while it was away");
  await floor.layoutShift(page);

  floor.expect(/ERR_|status of 50/);
  await floor.control("stop");
  await dialog.getByRole("button", { name: "Pause" }).click();
  await dialog.getByRole("alert").filter({ hasText: "cannot be reached" }).waitFor();
  assert.equal(await dialog.getByLabel("Why").inputValue(), "asked while it was away", "what was typed is still there");
  await status.filter({ hasText: "What is shown is old" }).waitFor();
  await page.getByText("Completions of main").waitFor(); // it is still shown
  await floor.look(page, "away");

  await floor.control("start");
  await status.filter({ hasText: /^Live$/ }).waitFor();
  await dialog.getByRole("button", { name: "Pause" }).click();
  await dialog.waitFor({ state: "detached" });
  await page.locator(".status").getByText("asked while it was away").waitFor();
  const asked = (await floor.all(page, "/v1/audit")).filter((e) => e.action === "pauseFailoverGroup");
  assert.deepEqual(asked.map((e) => e.outcome).sort(), ["accepted", "done"]);
  await floor.visit(page, "shifts");
  await page.getByText("No shift was seen yet.").waitFor();
}

/** Every page stands still while what it shows comes in, and shows it. Each is in a window of its own, where it is drawn all the time. */
export async function still(floor) {
  const { agents, east, west } = floor;
  const steer = await floor.open(await floor.person(), "overview");
  const summary = async () => (await floor.get(steer, "/v1/summary")).items[0];
  const post = (path, body) => steer.evaluate(async ([path, body]) => {
    const answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    return answer.ok ? answer.json() : Promise.reject(new Error(await answer.text()));
  }, [path, body]);
  await floor.until("the floor is known", summary, (s) => s.byState.active === agents.length);
  await floor.shift(west);
  await floor.until("they have gone", summary, (s) => s.byActiveRegion.every((c) => c.activeRegion === west) && s.byState.active === agents.length);
  const calls = await Promise.all(agents.slice(0, 20).map((a, i) => floor.contact(a, i % 2 ? "CHAT" : "VOICE")));
  await floor.until("the contacts are known", () => post("/v1/failover-groups/main/plan?limit=1", { toRegion: east }), (p) => p.counts.waits === calls.length);
  const { drillId } = await post("/v1/failover-groups/main/drills", { agentIds: agents.slice(0, 30).map((a) => a.id), reason: "rehearsal", ttlSeconds: 600 });
  const pages = {};
  for (const hash of [
    "overview", "pending", "agents", `agents/${agents[0].id}`, "controls", "shifts", "drills", `drills/${drillId}`, "webhooks", "webhooks/pager", "audit",
  ]) pages[hash] = await floor.open(await floor.person(), hash);
  const shown = async (page) => page.locator("main").innerText();
  const before = Object.fromEntries(await Promise.all(Object.entries(pages).map(async ([hash, page]) => [hash, await shown(page)])));

  // The shift of which there is a page while it goes on.
  await floor.shift(east);
  const { shiftId } = (await floor.until("it is noticed", summary, (s) => s.pending === calls.length)).shifts[0];
  const ofShift = `shifts/${shiftId}`;
  pages[ofShift] = await floor.open(await floor.person(), ofShift);
  before[ofShift] = await shown(pages[ofShift]);
  await Promise.all(Object.values(pages).map(async (page) => {
    await page.evaluate(() => document.fonts.ready);
    await new Promise((resolve) => setTimeout(resolve, 600)); // a sign of half a second, which tells what is under way, has come or does not
    await floor.layoutShift(page);
  }));

  // Everything happens that a shift has.
  for (const [i, call] of calls.entries()) {
    await floor.ends(call);
    if (i % 4 === 3) await new Promise((resolve) => setTimeout(resolve, 300));
  }
  await floor.until("they are in after-contact work", async () => (await floor.get(steer, "/v1/open-failovers?limit=1")).totals, (t) => t.afterContactWork === calls.length);
  await post("/v1/failovers/force", { failoverGroup: "main", reason: "forgotten", phase: "afterContactWork", channel: "CHAT", maxFraction: 1 });
  await Promise.all(calls.map((call) => floor.clears(call)));
  await floor.until("the shift is over", summary, (s) => s.byState.active === agents.length);
  const webhook = async () => (await floor.get(steer, "/v1/webhooks")).items[0];
  await floor.until("the pager knows", webhook, (w) => w.pending === 0 && w.behind === 0);
  for (const [hash, page] of Object.entries(pages)) {
    if (hash !== "controls") await floor.until(`${hash} shows what happened`, () => shown(page), (text) => text !== before[hash]);
  }
  const moved = [];
  for (const [hash, page] of Object.entries(pages)) await floor.stands(page, hash.replace(/[0-9a-f-]{36}/, "…")).catch((e) => moved.push(e.message));
  assert.deepEqual(moved, []);

  // What is measured can be seen: a block that pushes a page down is.
  for (const [hash, page] of Object.entries(pages)) {
    await page.evaluate(() => { const block = document.createElement("div"); block.style.height = "20rem"; document.querySelector("main").prepend(block); });
    await floor.until(`${hash} is measured`, () => floor.layoutShift(page), (s) => s.sum > 0.02);
  }
}

/** A large floor: lists draw what is in view, the last of them is reached, a shift of all of them moves nothing and does not stop the page. */
export async function fleet(floor) {
  const { stack, east, west } = floor;
  const me = await floor.person();
  const page = await floor.open(me, "agents");
  await page.evaluate(() => {
    window.longTasks = [];
    new PerformanceObserver((list) => { for (const e of list.getEntries()) window.longTasks.push(Math.round(e.duration)); }).observe({ type: "longtask" });
  });
  const summary = async () => (await floor.get(page, "/v1/summary")).items[0];
  await floor.until("the floor is known", summary, (s) => s?.agents === stack.size && s.byState.active === stack.size, 10 * 60_000);
  await page.reload();
  await floor.settled(page);
  const grid = page.getByRole("grid", { name: "Agents" });
  const drawn = () => grid.locator("[data-row]").count();
  await grid.locator("[data-row]").first().focus();
  const began = Date.now();
  for (;;) { // to the end, page after page
    await page.keyboard.press("End");
    assert.ok(await drawn() < 80, `${await drawn()} lines are drawn`);
    const last = Number(await grid.locator("[data-row]").last().getAttribute("data-row"));
    if (last === stack.size - 1) break;
    assert.ok(Date.now() - began < 5 * 60_000, `the end is not reached: ${last}`);
  }
  console.log(`${stack.size} agents are scrolled through in ${((Date.now() - began) / 1000).toFixed(1)} s, ${await drawn()} lines drawn`);
  await floor.look(page, "fleet-agents");
  const name = stack.agents.at(-1).username;
  await page.keyboard.press("/");
  await page.keyboard.type(name);
  await floor.until("the one that is searched", () => grid.locator("[data-row]").allInnerTexts(), (rows) => rows.length > 0 && rows.every((r) => r.includes(name)));

  await floor.visit(page, "overview");
  await overviewAgrees(floor, page, summary);
  await page.evaluate(() => { window.longTasks = []; new PerformanceObserver((list) => { for (const e of list.getEntries()) window.longTasks.push(Math.round(e.duration)); }).observe({ type: "longtask" }); });
  const from = Date.now();
  await floor.shift(west);
  await page.getByText(/Shift under way|Last shift/).first().waitFor();
  await page.locator(".chart canvas").waitFor();
  await floor.layoutShift(page);
  await floor.until("the shift is over", summary, (s) => s.byActiveRegion.every((c) => c.activeRegion !== east) && s.byState.active === stack.size, 10 * 60_000);
  const took = (Date.now() - from) / 1000;
  await overviewAgrees(floor, page, summary);
  await floor.stands(page, "the overview during a shift of the whole floor");
  const tasks = await page.evaluate(() => window.longTasks.sort((a, b) => b - a));
  console.log(`a shift of ${stack.size} agents in ${took.toFixed(1)} s; tasks over 50 ms: ${tasks.length}, the longest ${tasks[0] ?? 0} ms`);
  assert.ok((tasks[0] ?? 0) < 2000, `the page stood still for ${tasks[0]} ms`);
  await floor.look(page, "fleet-overview");
}
