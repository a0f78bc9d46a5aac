// Plays one scenario in Chromium: node test/run.mjs NAME, with the stack in the environment (browser_test.go).
import { chromium } from "playwright-core";
import { Desk } from "./desk.mjs";
import * as scenarios from "./scenarios.mjs";

const name = process.argv[2];
const stack = JSON.parse(process.env.STACK);
const play = scenarios[name];
if (!play) throw new Error(`there is no scenario ${name}`);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, acceptDownloads: true, locale: "en-GB" });
context.setDefaultTimeout(60_000);
const desk = new Desk(stack, context, name);
try {
  await play(desk);
  desk.checkErrors();
} catch (e) {
  for (const [i, page] of context.pages().entries()) await page.screenshot({ path: `${stack.shots}/${name}-failed-${i}.png` }).catch(() => {});
  console.error(e, "\n", desk.console.filter((line) => !/\[(INFO|LOG)\]/.test(line)).join("\n"));
  console.error(JSON.stringify(await desk.events().catch(String)));
  process.exitCode = 1;
} finally {
  await browser.close();
}
