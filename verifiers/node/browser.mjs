// Opens verify.html in Chromium from a file: address, without a network, and chooses files: each argument after the page
// is a receipt, and what stands beside it goes with it. One line of what the page then shows for each.

import { existsSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [page, ...receipts] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
const context = await browser.newContext({ offline: true });
const tab = await context.newPage();
await tab.goto(pathToFileURL(page).href);
for (const receipt of receipts) {
  const files = [receipt, ...[".statement", ".leaf", ".vkey"].map((ending) => receipt + ending)].filter((name) => existsSync(name));
  await tab.evaluate(() => { document.getElementById("result").textContent = ""; });
  await tab.setInputFiles("#files", files);
  await tab.waitForFunction(() => /VERIFIED/.test(document.getElementById("result").textContent));
  console.log((await tab.textContent("#result")).replaceAll(/\s+/g, " ").slice(0, 400));
}
await browser.close();
