// What scenarios do and see: the simulated floor, the service behind REST, and people with a browser.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** How long anything may take on a machine with much else to do. */
export const patience = 60_000;

export class Floor {
  /** Complaints of all pages' consoles. */
  messages = [];
  /** Interfaces of the machine may come and go while the test runs, and a machine with much else to do may answer 503; the console goes on by itself. */
  #expected = [/ERR_NETWORK_CHANGED/, /status of 503/];
  #shots = new Set();

  constructor(stack, browser, name) {
    Object.assign(this, { stack, browser, name, agents: stack.agents });
    [this.east, this.west] = stack.regions;
  }

  // --- people ---

  /** Somebody's browser with cookies of its own. Pages of it know the sum of what moved by itself (`layoutShift`). */
  async person({ width = 1440, height = 900 } = {}) {
    const context = await this.browser.newContext({
      viewport: { width, height }, colorScheme: "light", acceptDownloads: true, locale: "en-GB", timezoneId: "UTC", ignoreHTTPSErrors: true, reducedMotion: "reduce",
    });
    context.setDefaultTimeout(patience);
    await context.addInitScript(() => {
      window.layoutShifts = [];
      new PerformanceObserver((list) => {
        // What follows a click or a key within half a second is the user's doing.
        for (const e of list.getEntries()) {
          if (e.hadRecentInput) continue;
          // Lines of a list that stand in an order: who goes, or comes, is what the list tells.
          if (e.sources?.length > 0 && e.sources.every(({ node }) => node && (node.nodeType === 1 ? node : node.parentElement)?.closest("[data-row], .timeline li"))) continue;
          const what = (e.sources ?? []).map(({ node, previousRect: a, currentRect: b }) => {
            const n = node?.nodeType === 1 ? node : node?.parentElement;
            return `${n ? `${n.tagName}.${n.className} "${n.textContent.slice(0, 40)}"` : "gone"} from ${[a.x, a.y, a.width, a.height].map(Math.round)} to ${[b.x, b.y, b.width, b.height].map(Math.round)}`;
          });
          window.layoutShifts.push({ value: e.value, what: what.map((w) => `${e.value.toFixed(4)}: ${w}`) });
        }
      }).observe({ type: "layout-shift", buffered: true });
    });
    context.on("page", (page) => {
      page.on("console", (m) => { if (["error", "warning"].includes(m.type())) this.messages.push(`${page.url()}: ${m.text().slice(0, 500)}`); });
      page.on("pageerror", (e) => this.messages.push(`${page.url()}: ${e.stack}`));
    });
    return context;
  }

  /** Complaints like this are part of the scenario: Chromium writes a line for each answer that is none of 2xx. */
  expect(pattern) {
    this.#expected.push(pattern);
  }

  /** Nothing went wrong that nobody has seen. */
  checkMessages() {
    assert.deepEqual(this.messages.filter((m) => !this.#expected.some((p) => p.test(m))), [], "the consoles of the pages complain");
  }

  /** Opens a page of the console, such as "shifts/3", and waits until it is there with its data. */
  async open(context, hash = "") {
    const page = await context.newPage();
    await page.goto(`${this.stack.console}/console/#/${hash}`);
    await this.settled(page);
    return page;
  }

  async visit(page, hash) {
    await page.evaluate((to) => { location.hash = to; }, `#/${hash}`);
    await this.settled(page);
  }

  /** There is a heading, and nothing says that it is loading. */
  async settled(page) {
    await page.waitForFunction(() => document.querySelector("main h1") && !document.querySelector("main [aria-busy=true]"));
  }

  // --- what is checked everywhere ---

  /** In both themes axe-core finds nothing serious, and a screenshot is left for people to look at. */
  async look(page, name) {
    assert.ok(!this.#shots.has(name), `${name} is looked at twice`);
    this.#shots.add(name);
    // Not addScriptTag: the page's policy has no scripts but its own.
    if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(axe);
    for (const theme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: theme });
      await page.evaluate(() => new Promise((resolve) => { requestAnimationFrame(() => requestAnimationFrame(resolve)); }));
      await page.screenshot({ path: `${this.stack.shots}/${name}-${theme}.png`, fullPage: true });
      const found = await page.evaluate((theme) => window.axe.run(document, {
        resultTypes: ["violations"],
        ...(theme === "dark" && { runOnly: ["color-contrast", "link-in-text-block"] }), // nothing else is another with other colours
      }), theme);
      const serious = found.violations.filter((v) => ["serious", "critical"].includes(v.impact));
      assert.deepEqual(serious.map((v) => `${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => `${n.html} ${n.failureSummary}`).join(" | ")}`), [], `axe-core on ${name}, ${theme}`);
    }
    await page.emulateMedia({ colorScheme: "light" });
  }

  /** What moved by itself since the last time it was asked; what moves while a page is built up does not count. */
  async layoutShift(page) {
    return page.evaluate(() => {
      const all = window.layoutShifts.splice(0);
      return { sum: all.reduce((sum, s) => sum + s.value, 0), what: all.flatMap((s) => s.what) };
    });
  }

  /** A figure that the page shows, by its name: "Completed" of a list of figures, "Why" of one of facts. */
  async figure(page, name) {
    return (await page.locator("main dl > div:has(dt), main dl").locator("dt", { hasText: new RegExp(`^${name}$`) }).first().locator("xpath=following-sibling::dd[1]").innerText()).trim();
  }

  /** Waits until the page shows what REST says. */
  async agrees(what, shown, told) {
    const last = {};
    await this.until(what, async () => Object.assign(last, { shown: await shown(), told: await told() }), ({ shown, told }) => {
      try { assert.deepEqual(shown, told); return true; } catch { return false; }
    });
    return last.told;
  }

  async stands(page, doing) {
    const { sum, what } = await this.layoutShift(page);
    assert.ok(sum < 0.02, `${doing}: the layout moved by ${sum.toFixed(4)}:\n${[...new Set(what)].join("\n")}`);
  }

  // --- the service ---

  /** The answer of a GET, as the session of this page has it. Who is told to come again does. */
  async get(page, path) {
    return this.#call(page, path, { headers: { Accept: "application/json" } });
  }

  /** The plan of a shift to the west. */
  async plan(page, query = "") {
    return this.#call(page, `/v1/failover-groups/main/plan${query}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ toRegion: this.west }) });
  }

  async #call(page, path, init) {
    const { status, body } = await this.until(path, () => page.evaluate(async ([path, init]) => {
      const answer = await fetch(path, init);
      return { status: answer.status, body: await answer.text() };
    }, [path, init]), (a) => a.status !== 503);
    assert.equal(status, 200, `${path}: ${body}`);
    return JSON.parse(body);
  }

  /** All pages of a list. */
  async all(page, path) {
    const items = [];
    for (let cursor = ""; ;) {
      const list = await this.get(page, `${path}${path.includes("?") ? "&" : "?"}limit=1000${cursor && `&cursor=${encodeURIComponent(cursor)}`}`);
      items.push(...list.items);
      if (!list.nextCursor) return items;
      cursor = list.nextCursor;
    }
  }

  /** Waits until something is so; what it was last is in the failure. */
  async until(what, look, good, within = patience) {
    const end = Date.now() + within;
    for (;;) {
      const last = await look();
      if (good(last)) return last;
      assert.ok(Date.now() < end, `${what}: ${JSON.stringify(last)?.slice(0, 2000)}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  async control(path) {
    const answer = await fetch(`${this.stack.control}/${path}`, { method: "POST" });
    assert.ok(answer.ok, `${path}: ${await answer.text()}`);
  }

  // --- the simulated Amazon Connect ---

  async sim(method, path, body) {
    const answer = await fetch(`${this.stack.sim}/_control/${path}`, { method, body: body && JSON.stringify(body) });
    const text = await answer.text();
    assert.ok(answer.ok, `${method} ${path}: ${text}`);
    return text ? JSON.parse(text) : null;
  }

  /** Gives an agent a contact, and returns its id. */
  async contact(agent, channel = "VOICE", state = undefined) {
    return (await this.sim("POST", `agents/${agent.id}/contacts`, { channel, region: "", state: state ?? "CONNECTED" })).contactId;
  }

  async ends(contact) {
    await this.sim("POST", `contacts/${contact}/end`);
  }

  async clears(contact) {
    await this.sim("POST", `contacts/${contact}/clear`);
  }

  async shift(to) {
    await this.sim("POST", "shift", { tdg: "default", to, percent: 100 });
  }
}
