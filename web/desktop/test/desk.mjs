// What scenarios do and see: an agent at a desktop, an administrator who shifts, people who call.
import assert from "node:assert/strict";

export class Desk {
  /** Messages of the console, of all pages. */
  console = [];
  #expected = [];
  #shots = 0;

  constructor(stack, context, name) {
    Object.assign(this, { stack, context, name, agent: stack.agents[0].id });
    [this.east, this.west] = stack.panels.map((p) => p.region);
  }

  /** A page with the agent's desktop. */
  async open({ ready = true } = {}) {
    const page = await this.context.newPage();
    page.on("console", (m) => this.console.push(`${m.type()}: ${m.text().slice(0, 500)}`));
    page.on("pageerror", (e) => this.console.push(`error: ${e.stack}`));
    // What moves without the agent's doing.
    await page.addInitScript(() => {
      window.shifts = [];
      new PerformanceObserver((list) => {
        // A new line in a list moves the older ones.
        for (const e of list.getEntries()) for (const { node } of e.sources ?? []) window.shifts.push((node?.parentElement ?? node)?.closest("[id]")?.id ?? "gone");
      }).observe({ type: "layout-shift" });
    });
    await page.goto(`${this.stack.desktop}/?agent=${this.agent}`);
    if (ready) {
      await this.headline(page, `You work in ${this.east}`);
      await this.shows(page, this.east);
      await this.regions(page, this.west, "stands by");
      await page.evaluate(() => { window.shifts = []; });
    }
    return page;
  }

  /** A page of the same origin that has the client, and no panel and no bridge. What it was told is its title. */
  listen() {
    return this.#page(`
      const told = (name) => () => { document.title += (document.title && ", ") + name; };
      failover.onFailoverDetected(told("failoverDetected"));
      failover.onFailoverPending(told("failoverPending"));
    `);
  }

  /** A desktop with one panel, without Global Resiliency: when the service says so, the page itself moves the panel. */
  single() {
    return this.#page(`
      const { bridgeStreams } = await import("./streams.js");
      let bridge;
      const show = (region) => {
        if (bridge) { // another panel is another page: both are begun anew
          bridge.close();
          connect.core.terminate();
          document.getElementById("ccp").replaceChildren();
        }
        const { url } = ccps.find((c) => c.region === region);
        connect.core.initCCP(document.getElementById("ccp"), { ccpUrl: url + "?agent=" + agentId, loginPopup: false, softphone: { allowFramedSoftphone: false }, style: "width: 100%; height: 100%" });
        bridge = bridgeStreams(connect, failover);
        bridge.onFailoverCompleted(({ activeRegion }) => { document.title += activeRegion + ";"; show(activeRegion); });
        window.report = () => bridge.getReport();
      };
      show(ccps[0].region);
    `);
  }

  /** The desktop's page with another script, which has the client. */
  async #page(script) {
    const page = await this.context.newPage();
    page.on("console", (m) => this.console.push(`${m.type()}: ${m.text().slice(0, 500)}`));
    page.on("pageerror", (e) => this.console.push(`error: ${e.stack}`));
    const serve = (path, what) => page.route(this.stack.desktop + path, (route) => route.fulfill(what));
    await serve("/index.js", { contentType: "text/javascript", body: `
      document.title = "";
      import { createFailoverClient } from "./client.js";
      const { endpoints, heartbeat, ccps } = await (await fetch("settings.json")).json();
      const agentId = ${JSON.stringify(this.agent)};
      const failover = createFailoverClient({ endpoints, heartbeat, agentId, worker: new URL("changeover-worker.js", location.href) });
      ${script}` });
    await serve("/client.js", { contentType: "text/javascript", path: "node_modules/changeover-client/dist/esm/index.js" });
    await serve("/streams.js", { contentType: "text/javascript", path: "node_modules/changeover-client/dist/esm/streams.js" });
    await page.goto(this.stack.desktop);
    return page;
  }

  /** Waits until the banner says something that begins so. */
  async headline(page, text) {
    await page.waitForFunction((text) => document.getElementById("headline").textContent.startsWith(text), text)
      .catch(async (e) => { throw new Error(`the banner says ${JSON.stringify(await page.textContent("#headline"))} and not ${JSON.stringify(text)}: ${e.message}`); });
  }

  /** Waits until the panel of a Region is shown, and the other hidden. */
  async shows(page, region) {
    const index = this.stack.panels.findIndex((p) => p.region === region);
    await page.waitForFunction((index) => {
      const frames = [...document.querySelectorAll("#ccp iframe")];
      return frames.length === 2 && frames.every((f, i) => (getComputedStyle(f).display !== "none") === (i === index));
    }, index);
  }

  /** Waits until the list of Regions says so of one. */
  async regions(page, region, text) {
    await page.locator("#regions li", { hasText: region }).filter({ hasText: text }).waitFor();
  }

  /**
   * Waits until the page's own list of what happened is this, the newest last. Whether it learns that the last contact has gone before it
   * learns that the failover is completed is a matter of milliseconds.
   */
  async happened(page, ...lines) {
    const read = async () => (await page.$$eval("#history li span", (all) => all.map((e) => e.textContent).reverse()))
      .filter((line) => line !== "Pending: no contact holds it any more");
    await this.until("what happened", read, (got) => got.length >= lines.length);
    const got = await read();
    assert.equal(got.length, lines.length, JSON.stringify(got));
    lines.forEach((line, i) => assert.ok(got[i].startsWith(line), `${i}: ${got[i]} instead of ${line}`));
  }

  /** How the connection is shown: open, polling, waiting… */
  async connection(page, state) {
    await page.locator(`#connection[data-state="${state}"]`).waitFor();
  }

  /** The frame of a Region's panel. */
  panel(page, region) {
    const { url } = this.stack.panels.find((p) => p.region === region);
    return page.frameLocator(`#ccp iframe[src^="${url}"]`);
  }

  async loads(page) {
    return { once: 1, "2 times": 2 }[await page.textContent("#loads")];
  }

  async shot(page, what) {
    await page.screenshot({ path: `${this.stack.shots}/${this.name}-${++this.#shots}-${what}.png` });
  }

  /** Nothing moved by itself since the page was complete. */
  async noLayoutShift(page) {
    const moved = await page.evaluate(() => window.shifts);
    assert.deepEqual(moved.filter((id) => id !== "history"), [], "something moved under the agent's hand");
  }

  /** Messages of the console that this scenario brings about. */
  expectErrors(...patterns) {
    this.#expected.push(...patterns);
  }

  checkErrors() {
    const errors = this.console.filter((line) => line.startsWith("error") && !this.#expected.some((p) => p.test(line)));
    assert.deepEqual(errors, []);
  }

  // --- the world outside ---------------------------------------------------------------------------------------------

  async #send(method, url, body) {
    const answer = await fetch(url, { method, headers: body && { "Content-Type": "application/json" }, body: body && JSON.stringify(body) });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${url}: ${answer.status} ${text}`);
    return text ? JSON.parse(text) : undefined;
  }
  sim(method, path, body) {
    return this.#send(method, `${this.stack.sim}/_control/${path}`, body);
  }
  /** stop, start, silence or restore a replica. */
  control(what, replica = 0) {
    return this.#send("POST", `${this.stack.control}/${what}/${replica}`);
  }
  /** An hour passes in which the desktop has nothing to report. */
  idle() {
    return this.#send("POST", `${this.stack.control}/idle`);
  }
  /** The service's REST API, past all proxies. */
  api(path, { method = "GET", body } = {}) {
    return this.#send(method, `http://${this.stack.replicas[0]}${path}`, body);
  }
  /** An administrator shifts everybody to a Region. */
  shift(to) {
    return this.sim("POST", "shift", { to });
  }
  /** Somebody calls the agent, who takes the call. */
  async call(channel = "VOICE") {
    return (await this.sim("POST", `agents/${this.agent}/contacts`, { channel })).contactId;
  }
  end(contact) {
    return this.sim("POST", `contacts/${contact}/end`);
  }
  clear(contact) {
    return this.sim("POST", `contacts/${contact}/clear`);
  }
  /** The agent's events as the service has them. */
  async events() {
    const { items } = await this.api(`/v1/agents/${this.agent}/events`);
    return items.filter((i) => i.event !== "snapshot");
  }
  /** Asks until an answer is as wanted. */
  async until(what, ask, ok) {
    const deadline = Date.now() + 30_000;
    for (;;) {
      const got = await ask().catch((e) => e);
      if (!(got instanceof Error) && ok(got)) return got;
      if (Date.now() > deadline) throw new Error(`${what}: still ${got instanceof Error ? got : JSON.stringify(got)}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
