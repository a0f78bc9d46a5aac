// Plays one scenario in Chromium: node test/run.mjs NAME, with the file that describes the stack in the environment (browser_test.go).
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";
import { Floor } from "./floor.mjs";
import * as scenarios from "./scenarios.mjs";

const name = process.argv[2];
const stack = JSON.parse(readFileSync(process.env.STACK, "utf8"));
const play = scenarios[name];
if (!play) throw new Error(`there is no scenario ${name}`);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    `--host-resolver-rules=MAP ${stack.host}:443 ${stack.address}`,
  ],
});
const floor = new Floor(stack, browser, name);
try {
  await play(floor);
  floor.checkMessages();
} catch (e) {
  for (const [i, page] of browser.contexts().flatMap((c) => c.pages()).entries()) {
    await page.screenshot({ path: `${stack.shots}/${name}-failed-${i}.png` }).catch(() => {});
    console.error(page.url(), await page.locator("body").innerText().then((text) => text.slice(0, 3000)).catch(String));
  }
  console.error(e, "\n", floor.messages.join("\n"));
  process.exitCode = 1;
} finally {
  await browser.close();
}
