// Opens the pages of examples/ in Chromium and lives a shift in each: node pages.mjs, with STACK and CHROMIUM in the environment (service_test.go).
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const { site, service, sim, ccps, agents } = JSON.parse(process.env.STACK);
const [east, west] = ["us-east-1", "us-west-2"];
const control = async (method, path, body) => {
  const r = await fetch(`${sim}/_control${path}`, { method, body: body && JSON.stringify(body) });
  assert.ok(r.ok, `${method} ${path}: ${r.status}`);
  return r.status === 204 ? undefined : r.json();
};

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

/** A page with an agent in it; its errors are the example's. */
async function open(name, agent, more = {}) {
  const page = await browser.newPage();
  page.setDefaultTimeout(30_000);
  const errors = [];
  page.on("pageerror", (e) => errors.push(String(e)));
  await page.goto(`${site}/examples/${name}?${new URLSearchParams({ service, agent, ...more })}`);
  const text = (id, want) => page.waitForFunction(([i, w]) => new RegExp(w).test(document.getElementById(i).textContent), [id, want]);
  const hidden = (id, is) => page.waitForFunction(([i, w]) => document.getElementById(i).hidden === w, [id, is]);
  let loads = 0;
  page.on("load", () => { loads++; });
  return { page, text, hidden, end: async () => { assert.deepEqual(errors, []); assert.equal(loads, 0, "the page was loaded again"); await page.close(); } };
}

const ccp = (region, agent) => `${ccps[region]}?agent=${agent}`;
const [first, second] = agents;
const pages = [
  await open("eventsource.html", first),
  await open("bridge.html", second, { primary: ccp(east, second), secondary: ccp(west, second), login: sim }),
];
for (const p of pages) {
  await p.text("region", east);
  await p.hidden("banner", true);
}
await pages[1].text("connection", "open");

const contacts = [];
for (const agent of [first, second]) contacts.push((await control("POST", `/agents/${agent}/contacts`, { channel: "VOICE" })).contactId);
await control("POST", "/shift", { tdg: "default", to: west, percent: 100 });
await pages[0].text("banner", "us-west-2 takes over when 1 of your contacts");
await pages[1].text("banner", `us-west-2 takes over when these are cleared: ${contacts[1]}`);

// One is cleared, the other one switches now.
await control("POST", `/contacts/${contacts[0]}/end`);
await control("POST", `/contacts/${contacts[0]}/clear`);
await pages[1].page.click("#switch");
for (const p of pages) {
  await p.text("region", west);
  await p.hidden("banner", true);
}
await pages[1].page.waitForFunction(() => document.title === "works in us-west-2"); // the panel has moved, too
for (const p of pages) await p.end();
await browser.close();
