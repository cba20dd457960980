/** The page, driven by a real browser against a real server; and its connection, with time in hand. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { afterAll, afterEach, beforeAll, beforeEach, describe, it } from "@std/testing/bdd";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { Connection } from "../public/connection.js";
import { CHROMIUM_ARGS, findChromium, NO_CHROMIUM } from "./chromium.ts";
import { startServer, type TestServer } from "./server.ts";

const SCREENSHOTS = `${import.meta.dirname}/screenshots`;
const WIDE = { viewport: { width: 1280, height: 800 } };
const PHONE = { viewport: { width: 320, height: 640 }, isMobile: true, hasTouch: true };
/** What the browser itself says when it is refused, or finds no server: part of those tests. */
const NETWORK_NOISE = /^(WebSocket connection to|Failed to load resource)/;

const executablePath = findChromium();
const describePage = executablePath ? describe : describe.skip;
if (!executablePath) {
  // deno-lint-ignore no-console
  console.log(NO_CHROMIUM);
  if (Deno.env.get("REQUIRE_ALL") === "1") {
    it("page tests have a browser", () => {
      throw new Error(NO_CHROMIUM);
    });
  }
}

describePage("page", () => {
  let browser: Browser;
  let server: TestServer;
  /** Everything the browser complained about, by console or exception. */
  let complaints: string[];

  beforeAll(async () => {
    const { chromium } = await import("playwright-core");
    browser = await chromium.launch({ executablePath: executablePath!, args: CHROMIUM_ARGS });
    await Deno.mkdir(SCREENSHOTS, { recursive: true });
  });
  afterAll(() => browser.close());

  beforeEach(async () => {
    server = await startServer();
    complaints = [];
  });
  afterEach(async () => {
    for (const context of browser.contexts()) await context.close();
    await server.stop();
    assertEquals(complaints.filter((text) => !NETWORK_NOISE.test(text)), []);
  });

  /** One person's browser, at the join dialog. */
  async function visit(
    { room = "lobby", url = server.url, ...options }:
      & BrowserContextOptions
      & { room?: string; url?: string } = {},
  ): Promise<Page> {
    const context = await browser.newContext({ ...WIDE, reducedMotion: "reduce", ...options });
    context.setDefaultTimeout(15_000);
    const page = await context.newPage();
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) complaints.push(message.text());
    });
    page.on("pageerror", (error) => complaints.push(error.message));
    await page.goto(`${url}/?room=${encodeURIComponent(room)}`);
    await page.locator("#join[open]").waitFor();
    return page;
  }

  async function enter(page: Page, name: string): Promise<Page> {
    await page.getByLabel("Your name").fill(name);
    await page.getByRole("button", { name: "Join", exact: true }).click();
    await reaches(page, "live");
    return page;
  }

  async function joins(name: string, options?: Parameters<typeof visit>[0]): Promise<Page> {
    return enter(await visit(options), name);
  }

  async function says(page: Page, text: string): Promise<void> {
    await page.getByLabel("Message", { exact: true }).fill(text);
    await page.getByLabel("Message", { exact: true }).press("Enter");
    await sees(page, text);
  }

  async function sees(page: Page, text: string): Promise<void> {
    await page.locator(".text").filter({ hasText: text }).first().waitFor();
  }

  async function reaches(page: Page, state: string): Promise<void> {
    await page.locator(`#status[data-state="${state}"]`).waitFor();
  }

  function texts(page: Page): Promise<string[]> {
    return page.locator(".text").allInnerTexts();
  }

  async function shoot(page: Page, name: string): Promise<void> {
    await page.screenshot({ path: `${SCREENSHOTS}/${name}.png`, animations: "disabled" });
  }

  it("shows what two people say to each other", async () => {
    const ada = await joins("Ada");
    const grace = await joins("Grace");
    await ada.getByText("Grace joined").waitFor();
    await says(ada, "Good morning");
    await sees(grace, "Good morning");
    await says(grace, "Morning! Is it Thursday already?");
    await sees(ada, "Morning!");
    assertEquals(await ada.locator(".own .text").allInnerTexts(), ["Good morning"]);
    assertEquals(await ada.locator("#people-list .name").allInnerTexts(), ["Ada", "Grace"]);
    await grace.getByRole("button", { name: "Leave" }).click();
    await ada.getByText("Grace left").waitFor();
    await grace.getByRole("heading", { name: "You left lobby" }).waitFor();
    assertEquals(complaints, []);
  });

  it("looks as it should", async () => {
    const conversation: [name: string, text: string][] = [
      ["Grace", "I finished the last two chapters on the train"],
      ["Grace", "No spoilers, but the ending is not what I expected"],
      ["Linus", "I am still at chapter nine. Give me until Thursday"],
      ["Ada", "Thursday works for me. Same place?"],
      ["Grace", "Yes. They close at eight: https://example.org/library/hours"],
      ["Ada", "Then let us meet at six"],
      ["Ada", "I will bring the tea"],
    ];
    const ada = await visit({ room: "book-club", colorScheme: "light" });
    await shoot(ada, "join");
    const people: Record<string, Page> = { Ada: await enter(ada, "Ada") };
    await ada.getByRole("heading", { name: "Nothing said here yet" }).waitFor();
    await shoot(ada, "empty");
    for (const name of ["Grace", "Linus"]) people[name] = await joins(name, { room: "book-club" });
    for (const [name, text] of conversation) await says(people[name]!, text);
    await shoot(ada, "chat_light");
    await ada.emulateMedia({ colorScheme: "dark" });
    await shoot(ada, "chat_dark");
    await ada.emulateMedia({ colorScheme: "light", forcedColors: "active" });
    await shoot(ada, "chat_forced_colours");
  });

  it("shows names and messages as text, whatever is in them", async () => {
    const ada = await joins("Ada");
    const grace = await joins("__proto__");
    const markup = `<img src=x onerror="document.title='gone'"> &amp; <b>bold</b>`;
    await says(ada, markup);
    await sees(grace, markup);
    await says(grace, "javascript:alert(1) and (https://example.org/a_(b)).");
    await sees(ada, "javascript:");
    assertEquals(await grace.locator("#rows :is(img, b, script)").count(), 0);
    const link = ada.locator("#rows a");
    assertEquals(await link.count(), 1);
    assertEquals(await link.getAttribute("href"), "https://example.org/a_(b)");
    assertEquals(await link.getAttribute("rel"), "noopener nofollow");
    assertEquals(await ada.locator("#people-list .name").allInnerTexts(), ["Ada", "__proto__"]);
  });

  it("shows a late joiner what was said before", async () => {
    const ada = await joins("Ada");
    for (const text of ["one", "two", "three"]) await says(ada, text);
    const grace = await joins("Grace");
    await sees(grace, "three");
    assertEquals(await texts(grace), ["one", "two", "three"]);
    await grace.locator('#log[aria-busy="false"]').waitFor();
  });

  it("explains in the dialog that a name is in use", async () => {
    await joins("Ada");
    const other = await visit();
    await other.getByLabel("Your name").fill("ada");
    await other.getByLabel("Your name").press("Enter");
    await other.locator("#name-error:not(:empty)").waitFor();
    assertStringIncludes(await other.locator("#name-error").innerText(), "in use");
    assertEquals(await other.getByLabel("Your name").getAttribute("aria-invalid"), "true");
    await shoot(other, "refused");
    await enter(other, "Ada Two");
  });

  it("explains in the dialog what is wrong with a name or a room", async () => {
    const page = await visit();
    const name = page.getByLabel("Your name");
    const room = page.getByRole("textbox", { name: "Room" });
    await name.press("Enter");
    assertEquals(await page.locator("#name-error").innerText(), "Type your name.");
    await name.fill("Ada, Countess");
    await name.press("Enter");
    await page.locator("#name-error", { hasText: "letters" }).waitFor();
    await name.fill("Ada");
    for (const wrong of ["a/b", ".."]) {
      await room.fill(wrong);
      await room.press("Enter");
      await page.locator("#room-error:not(:empty)").waitFor();
      assertEquals(await page.locator("#name-error").innerText(), "");
    }
    await room.fill("tea");
    await enter(page, "Ada");
    assertEquals(new URL(page.url()).searchParams.get("room"), "tea");
  });

  it("keeps the name, the room and the draft over a reload", async () => {
    const page = await joins("Ada", { room: "tea" });
    await says(page, "kettle is on");
    await page.getByLabel("Message", { exact: true }).fill("half a thought");
    await page.reload();
    await reaches(page, "live");
    await sees(page, "kettle is on");
    assertEquals(await page.locator("#join[open]").count(), 0);
    assertEquals(await page.locator("#people-list .name").allInnerTexts(), ["Ada"]);
    assertEquals(await page.getByLabel("Message", { exact: true }).inputValue(), "half a thought");
    await page.getByRole("button", { name: "Leave" }).click();
    await page.reload();
    await page.locator("#join[open]").waitFor();
    assertEquals(await page.getByLabel("Your name").inputValue(), "Ada");
  });

  it("comes back when the server does", async () => {
    const page = await joins("Ada");
    await says(page, "before");
    await page.getByLabel("Message", { exact: true }).fill("not sent yet");
    const port = String(server.port);
    await server.stop();
    await page.getByText("The connection was lost").waitFor();
    await page.locator("#countdown", { hasText: /^in \d+ s$/ }).waitFor();
    assert(await page.getByRole("button", { name: "Send" }).isDisabled());
    await shoot(page, "reconnecting");
    server = await startServer({ PORT: port });
    await reaches(page, "live");
    await page.locator("#trouble").waitFor({ state: "hidden" });
    assertEquals(await page.getByLabel("Message", { exact: true }).inputValue(), "not sent yet");
    await page.getByRole("button", { name: "Send" }).click();
    await sees(page, "not sent yet");
    assertEquals(await texts(page), ["before", "not sent yet"]);
  });

  it("shows what was missed while away once, and nothing twice", async () => {
    await using line = new Line(server.port);
    const ada = await joins("Ada", { url: line.url });
    const grace = await joins("Grace");
    await says(ada, "one");
    await says(grace, "two");
    await sees(ada, "two");
    line.cut();
    await reaches(ada, "reconnecting");
    await says(grace, "three");
    line.mend();
    await reaches(ada, "live");
    await sees(ada, "three");
    await says(grace, "four");
    await sees(ada, "four");
    assertEquals(await texts(ada), ["one", "two", "three", "four"]);
  });

  it("waits for its name while its own lost connection still holds it", async () => {
    await using line = new Line(server.port);
    const ada = await joins("Ada", { url: line.url });
    line.cut({ serverNotices: false });
    await reaches(ada, "reconnecting");
    line.mend();
    await ada.getByText("Your last connection still holds your name.").waitFor();
    assertEquals(await ada.locator("#join[open]").count(), 0);
    line.letGo();
    await ada.getByRole("button", { name: "Try now" }).click();
    await reaches(ada, "live");
  });

  it("follows the end only for those who are there", async () => {
    const ada = await joins("Ada");
    const grace = await joins("Grace");
    const log = ada.getByRole("log");
    for (let n = 1; n <= 20; n++) await says(grace, `message ${n}.`);
    await sees(ada, "message 20.");
    assert(await ada.getByText("message 20.").isVisible());
    await log.evaluate((element) => element.scrollTop = 0);
    await ada.waitForFunction("document.querySelector('#log').scrollTop === 0");
    await says(grace, "the newest");
    const button = ada.getByRole("button", { name: "New messages" });
    await button.waitFor();
    assertEquals(await log.evaluate((element) => element.scrollTop), 0);
    await button.click();
    await button.waitFor({ state: "hidden" });
    const short = await log.evaluate((element) =>
      element.scrollHeight - element.scrollTop - element.clientHeight
    );
    assert(short < 2);
  });

  it("sends with Enter, but not while composing, nor what is too long", async () => {
    const page = await joins("Ada");
    const box = page.getByLabel("Message", { exact: true });
    const send = page.getByRole("button", { name: "Send" });
    assert(await send.isDisabled());
    await box.fill("first");
    await box.press("Shift+Enter");
    await box.pressSequentially("second");
    await box.dispatchEvent("keydown", { key: "Enter", isComposing: true });
    assertEquals(await box.inputValue(), "first\nsecond");
    await box.press("Enter");
    await sees(page, "second");
    assertEquals(await texts(page), ["first\nsecond"]);
    await box.fill("é".repeat(2049));
    assertEquals(await page.locator("#counter").innerText(), "2 bytes too long");
    assert(await send.isDisabled());
    await box.press("Enter");
    await box.press("Backspace");
    assertEquals(await page.locator("#counter").innerText(), "0 bytes left");
    await box.press("Enter");
    await sees(page, "é".repeat(2048));
  });

  it("gives back what the server did not take", async () => {
    const page = await joins("Ada");
    const box = page.getByLabel("Message", { exact: true });
    await box.fill("a bell: \u0007");
    await box.press("Enter");
    await page.locator("#trouble-words", { hasText: "control characters" }).waitFor();
    assertEquals(await box.inputValue(), "a bell: \u0007");
    await says(page, "no bell");
    await page.locator("#trouble").waitFor({ state: "hidden" });
  });

  it("counts in the title what came while nobody looked", async () => {
    const ada = await joins("Ada");
    const grace = await joins("Grace");
    await ada.evaluate("Object.defineProperty(document, 'hidden', {value: true, writable: true})");
    await says(grace, "hello?");
    await sees(ada, "hello?");
    assertEquals(await ada.title(), "(1) lobby · Hubbub");
    await ada.evaluate(
      "document.hidden = false; document.dispatchEvent(new Event('visibilitychange'))",
    );
    assertEquals(await ada.title(), "lobby · Hubbub");
  });

  it("copies the link to the room", async () => {
    const page = await joins("Ada", {
      room: "tea and cake",
      permissions: ["clipboard-read", "clipboard-write"],
    });
    await page.getByRole("button", { name: "Copy the link", exact: true }).click();
    await page.getByText("Link copied").waitFor();
    await shoot(page, "link_copied");
    assertEquals(
      await page.evaluate("navigator.clipboard.readText()"),
      `${server.url}/?room=tea+and+cake`,
    );
  });

  it("fits a phone, with the people in a popover", async () => {
    const page = await joins("Ada", {
      ...PHONE,
      room: "a-room-with-a-rather-long-name-for-a-phone",
    });
    await says(page, "long".repeat(100));
    await says(page, "Ordinary words that take more than one line on a phone");
    const wide = () => page.evaluate("document.documentElement.scrollWidth");
    assertEquals(await wide(), 320);
    await shoot(page, "phone");
    const people = page.locator("#people");
    assert(await people.isHidden());
    await page.getByRole("button", { name: "People" }).tap();
    await people.getByText("Ada").waitFor();
    assertEquals(await people.evaluate((element) => element.matches(":popover-open")), true);
    assertEquals(await wide(), 320);
    await shoot(page, "phone_people");
    await page.keyboard.press("Escape");
    await people.waitFor({ state: "hidden" });
  });

  for (const colorScheme of ["light", "dark"] as const) {
    it(`has nothing for axe to complain about in ${colorScheme}`, async () => {
      const { default: { source } } = await import("npm:axe-core@^4");
      const check = async (page: Page) => {
        await page.addScriptTag({ content: source });
        const found = await page.evaluate(`axe.run().then(({ violations }) =>
          violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => id + ": " + html)))`);
        assertEquals(found, []);
      };
      const page = await visit({ colorScheme, bypassCSP: true });
      await page.getByLabel("Your name").press("Enter");
      await check(page);
      await enter(page, "Ada");
      const friends = ["Grace", "Linus", "Margaret", "Alan"].map((name) =>
        new WebSocket(`${server.ws}/ws/lobby?username=${name}`)
      );
      for (const friend of friends) friend.onopen = () => friend.send("See https://example.org/");
      await page.locator(".text").nth(friends.length - 1).waitFor();
      await says(page, "Thanks, all four of you");
      await says(page, "That helps");
      await check(page);
      await page.setViewportSize(PHONE.viewport);
      await page.getByRole("button", { name: "People" }).click();
      await page.getByLabel("Message", { exact: true }).fill("x".repeat(5000));
      await check(page);
      await server.stop();
      await page.getByText("The connection was lost").waitFor();
      await check(page);
    });
  }
});

describe("Connection", () => {
  it("waits twice as long each time, and never more than 30 seconds", async () => {
    const world = new World();
    const waits = [];
    world.connection.open();
    for (let n = 0; n < 9; n++) {
      await world.closeSocket(1006);
      waits.push(world.timers.at(-1)!.delayMs);
      world.ring();
    }
    assertEquals(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
  });

  it("does not come back where it is not wanted", async () => {
    for (const code of [1003, 1008, 1009, 4001, 4003, 4009]) {
      const world = new World();
      world.connection.open();
      await world.closeSocket(code);
      const { state } = world.connection;
      assert(state.state === "refused" && state.code === code && state.reason.endsWith("."));
    }
  });

  it("says in the server's words why it was refused", async () => {
    const world = new World();
    world.answer = Response.json({ error: "the room is closed on Sundays" }, { status: 403 });
    world.connection.open();
    await world.closeSocket(1006);
    const reason = "The room is closed on Sundays.";
    assertEquals(world.connection.state, { state: "refused", reason, code: 403 });
  });

  it("waits for the name of a lost connection for 90 seconds and no longer", async () => {
    const world = new World();
    world.connection.open();
    world.frame();
    assertEquals(world.connection.state, { state: "live" });
    await world.closeSocket(1006);
    for (world.now = 0; world.now < 90_000; world.now += 10_000) {
      world.ring();
      await world.closeSocket(4009);
      assertEquals(world.connection.state.state, "reconnecting");
    }
    world.ring();
    await world.closeSocket(4009);
    assertEquals(world.connection.state.state, "refused");
  });

  it("hears nothing more from a socket it has given up", () => {
    const world = new World();
    world.connection.open();
    world.connection.close();
    world.frame();
    assertEquals(world.connection.state, { state: "closed" });
    assertEquals(world.connection.send("hello"), false);
  });
});

/** A network and a clock for one connection, moved by hand. No jitter. */
class World {
  now = 0;
  timers: { task: () => void; delayMs: number }[] = [];
  answer = Response.json({ error: "upgrade required" }, { status: 426 });
  connection: Connection;
  #socket = {} as WebSocket;

  constructor() {
    const options = { base: "http://chat.example/", room: "tea", username: "Ada" };
    this.connection = new Connection(options, {
      openSocket: () => this.#socket = { close() {}, readyState: 1 } as unknown as WebSocket,
      fetch: () => Promise.resolve(this.answer.clone()),
      setTimeout: (task, delayMs) => this.timers.push({ task, delayMs }),
      clearTimeout: () => {},
      now: () => this.now,
      random: () => 1,
    });
  }

  /** Runs the timer that was set last. */
  ring(): void {
    this.timers.at(-1)!.task();
  }

  frame(): void {
    const frame = { type: "online_users", content: "Ada", room: "tea", username: "" };
    this.#socket.onmessage?.({ data: JSON.stringify(frame) } as MessageEvent);
  }

  /** Closes the socket from afar; resolves when the connection knows what to make of it. */
  async closeSocket(code: number): Promise<void> {
    const decided = new Promise<void>((resolve) => this.connection.onState(() => resolve()));
    this.#socket.onclose?.({ code } as CloseEvent);
    await decided;
  }
}

/** A telephone line between browsers and the server: TCP, passed on until it is cut. */
class Line implements AsyncDisposable {
  readonly url: string;
  readonly #serverPort: number;
  readonly #port: number;
  #listener: Deno.TcpListener;
  #callers = new Set<Deno.TcpConn>();
  #servers = new Set<Deno.TcpConn>();
  #running: Promise<unknown>[] = [];
  #serverNotices = true;

  constructor(serverPort: number) {
    this.#serverPort = serverPort;
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.#port = this.#listener.addr.port;
    this.url = `http://127.0.0.1:${this.#port}`;
    this.#running.push(this.#accept());
  }

  /** Ends all calls and takes no more. The server may be left to think that they go on. */
  cut({ serverNotices = true } = {}): void {
    this.#serverNotices = serverNotices;
    this.#listener.close();
    hangUp(this.#callers);
    if (serverNotices) this.letGo();
  }

  /** Takes calls again. */
  mend(): void {
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: this.#port });
    this.#running.push(this.#accept());
  }

  /** Lets the server notice which calls have ended. */
  letGo(): void {
    hangUp(this.#servers);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    await Promise.all(this.#running);
  }

  async #accept(): Promise<void> {
    for await (const caller of this.#listener) this.#running.push(this.#connect(caller));
  }

  async #connect(caller: Deno.TcpConn): Promise<void> {
    const server = await Deno.connect({ hostname: "127.0.0.1", port: this.#serverPort });
    this.#callers.add(caller);
    this.#servers.add(server);
    await Promise.all([
      pass(caller, server).then(() => this.#serverNotices && hangUp(new Set([server]))),
      pass(server, caller).then(() => hangUp(new Set([caller]))),
    ]);
  }
}

async function pass(from: Deno.TcpConn, to: Deno.TcpConn): Promise<void> {
  const bytes = new Uint8Array(16 * 1024);
  try {
    for (let n = await from.read(bytes); n !== null; n = await from.read(bytes)) {
      for (let at = 0; at < n;) at += await to.write(bytes.subarray(at, n));
    }
  } catch { /* One of them hung up. */ }
}

function hangUp(calls: Set<Deno.TcpConn>): void {
  for (const call of calls) {
    try {
      call.close();
    } catch { /* It had ended by itself. */ }
  }
  calls.clear();
}
