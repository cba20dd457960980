/** A real browser for the page's tests: finding it, and the people who use it. */

import { assertEquals, AssertionError } from "@std/assert";
import { afterAll, afterEach, beforeAll, beforeEach, describe, it } from "@std/testing/bdd";
import type { Browser, BrowserContext, BrowserContextOptions, Page } from "npm:playwright-core@^1";
import { freePort } from "./free_port.ts";
import { startServer, type TestServer } from "./server.ts";
import { V1Client } from "./v1_client.ts";

const NAMES = ["chromium", "chromium-browser", "google-chrome"];
const PLACES = ["/usr/bin/chromium"];

/** The sentence if Chromium is missing. */
const NO_CHROMIUM =
  "Skipped: Chromium is not installed. Install it with: apt-get install -y chromium";

/** Flags for Chromium: start anywhere, show nothing, and connect to our server only. */
const CHROMIUM_ARGS = [
  "--no-sandbox",
  "--headless=new",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // Names for tests that need several sites.
  "--host-resolver-rules=MAP *.test 127.0.0.1",
];

/** Maximum wait for an expected event, in milliseconds. */
const PATIENCE_MS = 15_000;

/**
 * Expected messages of the browser: about refusals, a missing server, and the focus of a dialog in
 * another site's frame.
 */
const NOISE = /^(WebSocket connection to|Failed to load resource|Blocked autofocusing)/;

const SCREENSHOTS = `${import.meta.dirname}/../screenshots`;

export const WIDE = { viewport: { width: 1280, height: 800 } };
export const PHONE = { viewport: { width: 390, height: 780 }, isMobile: true, hasTouch: true };
/** Minimum width of the page: a window of 1280 px at a zoom of 400 %. */
export const NARROW = { viewport: { width: 320, height: 640 }, isMobile: true, hasTouch: true };

export type VisitOptions = BrowserContextOptions & { path?: string; url?: string };

/** Tests of the page, each with its own server. Skipped visibly without Chromium. */
export function describePage(name: string, tests: (stage: Stage) => void): void {
  const executablePath = findChromium();
  if (executablePath === undefined) {
    // deno-lint-ignore no-console
    console.log(NO_CHROMIUM);
    describe(name, () => {
      (Deno.env.get("REQUIRE_ALL") === "1" ? it : it.skip)("has a browser", () => {
        throw new Error(NO_CHROMIUM);
      });
    });
    return;
  }
  describe(name, () => {
    const stage = new Stage();
    beforeAll(async () => {
      const { chromium } = await import("npm:playwright-core@^1");
      stage.browser = await chromium.launch({ executablePath, args: CHROMIUM_ARGS });
      await Deno.mkdir(SCREENSHOTS, { recursive: true });
    });
    afterAll(() => stage.browser.close());
    beforeEach(async () => {
      stage.server = await startServer({ PORT: String(freePort()) });
      stage.complaints = [];
    });
    afterEach(async () => {
      for (const context of stage.browser.contexts()) await context.close();
      await stage.server.stop();
      assertEquals(stage.complaints.filter((text) => !NOISE.test(text)), []);
    });
    tests(stage);
  });
}

/** A browser, a server, and the browser's complaints. */
export class Stage {
  browser!: Browser;
  server!: TestServer;
  /** From the console or an exception. */
  complaints: string[] = [];

  /** A new browser, with the page just opened. */
  async open({ path = "/r/lobby", url, ...options }: VisitOptions = {}): Promise<Page> {
    const context = await this.browser.newContext({ ...WIDE, reducedMotion: "reduce", ...options });
    context.setDefaultTimeout(PATIENCE_MS);
    return await this.openTab(context, `${url ?? this.server.url}${path}`);
  }

  /** Another tab of the same browser. */
  async openTab(context: BrowserContext, url: string): Promise<Page> {
    const page = await context.newPage();
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) this.complaints.push(message.text());
    });
    page.on("pageerror", (error) => this.complaints.push(error.message));
    await page.goto(url);
    return page;
  }

  /** A new browser, at the join dialog. */
  async visit(options: VisitOptions = {}): Promise<Page> {
    const page = await this.open(options);
    await page.locator("#join[open]").waitFor();
    return page;
  }

  /** A person who has joined. */
  async joins(name: string, options?: VisitOptions): Promise<Page> {
    return await enter(await this.visit(options), name);
  }

  /** A person in the lobby without a browser: faster, for tests that do not need their page. */
  async friend(name: string): Promise<V1Client> {
    return await V1Client.join(this.server.ws, "lobby", name);
  }

  /** Restarts the server on the same port. */
  async restart(env: Record<string, string> = {}): Promise<void> {
    const { port } = this.server;
    await this.server.stop();
    this.server = await startServer({ PORT: String(port), ...env });
  }
}

/** Joins, from the dialog. */
export async function enter(page: Page, name: string): Promise<Page> {
  await page.getByLabel("Your name").fill(name);
  await page.getByRole("button", { name: "Join", exact: true }).click();
  await reaches(page, "live");
  await page.locator("#join").waitFor({ state: "hidden" });
  return page;
}

export function box(page: Page) {
  return page.getByLabel("Message", { exact: true });
}

/** Sends a message and waits until it is stored. */
export async function says(page: Page, text: string): Promise<void> {
  await writes(page, text);
  await sees(page, text.replace(/^\/me /, ""));
  await page.locator('.message[data-status="sending"], .message[data-status="waiting"]').first()
    .waitFor({ state: "detached" });
}

/** Writes a message and sends it: by the button on a phone, where Enter breaks the line. */
export async function writes(page: Page, text: string): Promise<void> {
  await box(page).fill(text);
  if (await box(page).getAttribute("enterkeyhint") === "send") await box(page).press("Enter");
  else await page.getByRole("button", { name: "Send", exact: true }).tap();
}

/** Sends a friend's message and waits until it is stored. */
export async function tells(friend: V1Client, text: string): Promise<void> {
  await friend.ask({ type: "chat", content: text });
}

export async function sees(page: Page, text: string): Promise<void> {
  await page.locator(".text").filter({ hasText: text }).first().waitFor();
}

export async function reaches(page: Page, state: string): Promise<void> {
  await page.locator(`#status[data-state="${state}"]`).waitFor({ state: "attached" });
}

export async function texts(page: Page): Promise<string[]> {
  return await page.locator(".text").allInnerTexts();
}

export async function people(page: Page): Promise<string[]> {
  return await page.locator("#people-list .name").allInnerTexts();
}

/** Waits until the roster has these names. */
export async function seesPeople(page: Page, ...names: string[]): Promise<void> {
  for (const [index, name] of names.entries()) {
    const row = page.locator(`#people-list li:nth-child(${index + 1}) .name`);
    await row.filter({ hasText: new RegExp(`^${name}$`) }).waitFor({ state: "attached" });
  }
  await page.locator(`#people-list li:nth-child(${names.length + 1})`).waitFor({
    state: "detached",
  });
}

/** Waits until the page has painted and handled its scroll events. */
export async function painted(page: Page): Promise<void> {
  await page.evaluate(
    "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))",
  );
}

/** Waits until an expression is true in the page, whose policy forbids `eval`. */
export async function until(page: Page, expression: string): Promise<void> {
  const end = performance.now() + PATIENCE_MS;
  while (!await page.evaluate(expression)) {
    if (performance.now() > end) throw new AssertionError(`In vain: ${expression}`);
    await painted(page);
  }
}

/** Writes a picture for people to look at. In CI nobody does. */
export async function shoot(page: Page, name: string): Promise<void> {
  if (Deno.env.get("REQUIRE_ALL") === "1") return;
  await page.screenshot({ path: `${SCREENSHOTS}/${name}.png`, animations: "disabled" });
}

/** Checks the page with axe, which must find no violation. */
export async function check(page: Page): Promise<void> {
  if (!await page.evaluate("'axe' in globalThis")) {
    const { default: { source } } = await import("npm:axe-core@^4");
    await page.addScriptTag({ content: source });
  }
  const found = await page.evaluate(`axe.run().then(({ violations }) =>
    violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => id + ": " + html)))`);
  assertEquals(found, []);
}

/**
 * Finds Chromium: the environment's `CHROMIUM`, else the usual names in `PATH`, else the usual folder.
 *
 * @returns its absolute path, or `undefined` when it is not installed
 */
export function findChromium(): string | undefined {
  const chosen = Deno.env.get("CHROMIUM");
  if (chosen) return isFile(chosen) ? chosen : undefined;
  const folders = (Deno.env.get("PATH") ?? "").split(Deno.build.os === "windows" ? ";" : ":");
  const inPath = folders.flatMap((folder) => NAMES.map((name) => `${folder}/${name}`));
  return [...inPath, ...PLACES].find(isFile);
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}
