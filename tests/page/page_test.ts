/** The page, in a real browser against a real server: conversations and navigation. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { it } from "@std/testing/bdd";
import type { Page } from "npm:playwright-core@^1";
import {
  box,
  check,
  describePage,
  enter,
  NARROW,
  painted,
  people,
  reaches,
  says,
  sees,
  seesPeople,
  shoot,
  tells,
  texts,
  writes,
} from "../support/chromium.ts";
import { Gate } from "../support/gate.ts";
import { Line } from "../support/line.ts";
import { V1Client } from "../support/v1_client.ts";

describePage("page", (stage) => {
  it("shows the messages of two people to each other", async () => {
    const ada = await stage.joins("Ada");
    const grace = await stage.joins("Grace");
    await ada.getByText("Grace joined").waitFor();
    await says(ada, "Good morning");
    await sees(grace, "Good morning");
    await says(grace, "Morning! Is it Thursday already?");
    await sees(ada, "Morning!");
    assertEquals(await ada.locator(".own .text").allInnerTexts(), ["Good morning"]);
    assertEquals(await texts(ada), await texts(grace));
    assertEquals(await people(ada), ["Ada", "Grace"]);
    await grace.getByRole("button", { name: "More" }).click();
    await grace.getByRole("button", { name: "Leave this room" }).click();
    await ada.getByText("Grace left").waitFor();
    await seesPeople(ada, "Ada");
    await grace.getByRole("heading", { name: "You left lobby" }).waitFor();
    assertEquals(stage.complaints, []);
  });

  it("shows any names and messages as text", async () => {
    const ada = await stage.joins("Ada");
    const grace = await stage.joins("__proto__");
    const markup = `<img src=x onerror="document.title='gone'"> &amp; <b>bold</b>`;
    await says(ada, markup);
    await sees(grace, markup);
    await says(ada, `/me ${markup}`);
    await says(grace, "javascript:alert(1) and (https://example.org/a_(b)).");
    await sees(ada, "javascript:");
    await writes(ada, `/msg "<script>" ${markup}`);
    await ada.getByText("Not sent.").waitFor();
    assertEquals(await grace.locator("#rows :is(img, script, style)").count(), 0);
    assertEquals(await ada.locator("#rows :is(img, script, style)").count(), 0);
    assertEquals(await ada.title(), "lobby · Hubbub");
    const link = ada.locator("#rows .text a");
    assertEquals(await link.count(), 1);
    assertEquals(await link.getAttribute("href"), "https://example.org/a_(b)");
    assertEquals(await link.getAttribute("rel"), "noopener nofollow");
    assertEquals(await people(ada), ["Ada", "__proto__"]);
  });

  it("shows a late joiner earlier messages, and announces only new ones", async () => {
    const ada = await stage.joins("Ada");
    for (const text of ["one", "two", "three"]) await says(ada, text);
    const grace = await stage.joins("Grace");
    await sees(grace, "three");
    assertEquals(await texts(grace), ["one", "two", "three"]);
    await grace.locator('#log[aria-busy="false"]').waitFor();
    await says(ada, "four");
    await grace.locator("#announcer", { hasText: "Ada: four" }).waitFor({ state: "attached" });
    assertEquals((await grace.locator("#announcer").textContent())?.trim(), "Ada: four");
    assertEquals(await grace.locator("#log").getAttribute("aria-live"), "off");
  });

  it("explains in the dialog that a name is in use", async () => {
    await using _ada = await stage.friend("Ada");
    const other = await stage.visit();
    await other.getByLabel("Your name").fill("ada");
    await other.getByLabel("Your name").press("Enter");
    await other.locator("#name-error:not(:empty)").waitFor();
    assertStringIncludes(await other.locator("#name-error").innerText(), "in use");
    assertEquals(await other.getByLabel("Your name").getAttribute("aria-invalid"), "true");
    await shoot(other, "refused");
    await enter(other, "Ada Two");
  });

  it("explains a bad name or room in the dialog", async () => {
    const page = await stage.visit();
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
    await room.fill("tea & cake".replace("&", "and"));
    await enter(page, "Ada");
    assertEquals(new URL(page.url()).pathname, "/r/tea%20and%20cake");
  });

  it("keeps the name, the room, the draft and unsent messages over a reload", async () => {
    await using line = new Line(stage.server.port);
    const page = await stage.joins("Ada", { path: "/?room=tea", url: line.url });
    await says(page, "kettle is on");
    line.deafen();
    await writes(page, "milk?");
    await stage.server.logged("joined");
    line.cut();
    await reaches(page, "reconnecting");
    await writes(page, "sugar?");
    await box(page).fill("half a thought");
    line.mend();
    await page.reload();
    await reaches(page, "live");
    await page.locator('.message:not([data-status="sent"])').first().waitFor({ state: "detached" });
    await sees(page, "sugar?");
    assertEquals(await texts(page), ["kettle is on", "milk?", "sugar?"]);
    assertEquals(await page.locator("#join[open]").count(), 0);
    await seesPeople(page, "Ada");
    assertEquals(await box(page).inputValue(), "half a thought");
    await page.getByRole("button", { name: "More" }).click();
    await page.getByRole("button", { name: "Leave this room" }).click();
    await page.reload();
    await page.locator("#join[open]").waitFor();
    assertEquals(await page.getByLabel("Your name").inputValue(), "Ada");
  });

  it("is the same person in two tabs", async () => {
    const one = await stage.joins("Ada");
    await says(one, "from the first tab");
    const two = await stage.openTab(one.context(), `${stage.server.url}/r/lobby`);
    // The dialog offers another name, and explains the same one.
    await two.getByText("In another window you are here as Ada.").waitFor();
    assertEquals(await two.getByLabel("Your name").inputValue(), "Ada 2");
    await enter(two, "Ada");
    await says(two, "from the second tab");
    await sees(one, "from the second tab");
    assertEquals(await one.locator(".own .text").allInnerTexts(), await texts(two));
    await seesPeople(one, "Ada");
    await using grace = await stage.friend("Grace");
    await grace.ask({ type: "dm", to: "Ada", content: "hello to both" });
    await sees(one, "hello to both");
    await sees(two, "hello to both");
    await writes(two, "/msg Grace hello back");
    await sees(one, "hello back");
    await grace.nextOf("dm", ({ content }) => content === "hello back");
    await two.close();
    await tells(grace, "still here?");
    await sees(one, "still here?");
    assertEquals(grace.all("user_left"), []);
  });

  it("loses nothing when the server restarts", async () => {
    const path = await Deno.makeTempFile({ suffix: ".db" });
    const env = { DATABASE_URL: `sqlite:${path}` };
    await stage.restart(env);
    const ada = await stage.joins("Ada");
    const grace = await stage.joins("Grace");
    await says(ada, "before");
    const { port } = stage.server;
    await stage.server.stop();
    await ada.getByText("The connection was lost").waitFor();
    await ada.locator("#countdown", { hasText: /^in \d+ s$/ }).waitFor();
    await writes(ada, "into the tunnel");
    await ada.getByText("Waiting to be sent").waitFor();
    await shoot(ada, "reconnecting");
    const { startServer } = await import("../support/server.ts");
    stage.server = await startServer({ PORT: String(port), ...env });
    for (const page of [ada, grace]) {
      await reaches(page, "live");
      await sees(page, "into the tunnel");
      await page.locator("#trouble").waitFor({ state: "hidden" });
      await page.getByText("Waiting to be sent").waitFor({ state: "detached" });
      assertEquals(await texts(page), ["before", "into the tunnel"]);
    }
    assertEquals(await ada.getByText("may be missing").count(), 0);
    await says(grace, "after");
    await sees(ada, "after");
    for (const end of ["", "-wal", "-shm"]) await Deno.remove(path + end).catch(() => {});
  });

  it("reports that the server lost its messages", async () => {
    const ada = await stage.joins("Ada");
    await says(ada, "before");
    await stage.restart();
    await ada.getByText("The server started anew").waitFor();
    await says(ada, "after");
    assertEquals(await texts(ada), ["before", "after"]);
  });

  it("shows missed messages once, and does not repeat stored ones", async () => {
    await using line = new Line(stage.server.port);
    const ada = await stage.joins("Ada", { url: line.url });
    await using grace = await stage.friend("Grace");
    await says(ada, "one");
    await tells(grace, "two");
    await sees(ada, "two");
    line.deafen();
    await writes(ada, "three, of which no ack comes");
    await grace.nextOf("chat", ({ content }) => content.startsWith("three"));
    line.cut({ serverNotices: false });
    await reaches(ada, "reconnecting");
    await tells(grace, "four");
    await writes(ada, "five, offline");
    line.mend();
    await grace.nextOf("chat", ({ content }) => content.startsWith("five"));
    await tells(grace, "six");
    await sees(ada, "six");
    const expected = ["one", "two", "three, of which no ack comes", "four", "five, offline", "six"];
    assertEquals(await texts(ada), expected);
    assertEquals(grace.all("chat").map(({ content }) => content), expected);
    line.letGo();
  });

  it("loads history without a jump of the view", async () => {
    await using writer = await V1Client.join(stage.server.ws, "lobby", "Grace");
    for (let n = 1; n <= 180; n++) {
      await writer.ask({ type: "chat", content: `message ${n}${n % 7 ? "" : "\nof two lines"}` });
    }
    const ada = await stage.joins("Ada");
    await sees(ada, "message 180");
    const log = ada.getByRole("log");
    const first = () => ada.locator(".text").first().innerText();
    const y = (text: string) =>
      ada.locator(".text").getByText(text, { exact: true }).evaluate((e) =>
        e.getBoundingClientRect().top
      );
    const start = await first();
    assertEquals(start, "message 131");
    await log.evaluate((element) => element.scrollTop = 300);
    const before = await y("message 139");
    await ada.locator(".text").getByText("message 81", { exact: true }).waitFor({
      state: "attached",
    });
    assert(Math.abs(await y("message 139") - before) < 1.5);
    for (const oldest of ["message 31", "message 1"]) {
      await log.evaluate((element) => element.scrollTop = 0);
      await ada.locator(".text").getByText(oldest, { exact: true }).waitFor({ state: "attached" });
    }
    await log.evaluate((element) => element.scrollTop = 0);
    await ada.getByText("This is where the conversation begins").waitFor();
    const all = await texts(ada);
    assertEquals(all.length, 180);
    assertEquals(all.map((text) => Number(/\d+/.exec(text))), all.map((_, index) => index + 1));
    await shoot(ada, "history");
  });

  it("keeps a bounded number of rows on the page", async () => {
    const ada = await stage.joins("Ada");
    await using writer = await V1Client.join(stage.server.ws, "lobby", "Grace");
    const write = async (from: number, to: number) => {
      for (let n = from; n <= to; n++) await writer.ask({ type: "chat", content: `message ${n}` });
    };
    const rows = () => ada.locator("#rows > li").count();
    await write(1, 700);
    await sees(ada, "message 700");
    assert(await rows() <= 301);
    const log = ada.getByRole("log");
    await log.evaluate((element) => element.scrollTop = 2000);
    await painted(ada);
    await write(701, 1200);
    await ada.getByRole("button", { name: "500 new messages" }).waitFor();
    assert(await rows() <= 361);
    for (let n = 0; await ada.getByText("message 1", { exact: true }).count() === 0; n++) {
      await log.evaluate((element) => element.scrollTop = 0);
      await painted(ada);
      assert(n < 100 && await rows() <= 361);
    }
    await ada.getByRole("button", { name: "new messages" }).click();
    await sees(ada, "message 1200");
    assert(await rows() <= 301);
  });

  it("follows the end only while the reader is there", async () => {
    const ada = await stage.joins("Ada");
    await using grace = await stage.friend("Grace");
    const log = ada.getByRole("log");
    for (let n = 1; n <= 20; n++) await tells(grace, `message ${n}.`);
    await sees(ada, "message 20.");
    assert(await ada.getByText("message 20.").isVisible());
    await log.evaluate((element) => element.scrollTop = 0);
    await painted(ada);
    await tells(grace, "the newest");
    const button = ada.getByRole("button", { name: "1 new message" });
    await button.waitFor();
    assertEquals(await log.evaluate((element) => element.scrollTop), 0);
    await shoot(ada, "newer");
    await button.click();
    await button.waitFor({ state: "hidden" });
    const short = await log.evaluate((element) =>
      element.scrollHeight - element.scrollTop - element.clientHeight
    );
    assert(short < 2);
  });

  it("loads earlier messages if the server sends no history", async () => {
    await stage.restart({ HISTORY_SIZE: "0" });
    await using grace = await stage.friend("Grace");
    for (let n = 1; n <= 70; n++) await tells(grace, `message ${n}`);
    const ada = await stage.joins("Ada");
    await sees(ada, "message 70");
    assertEquals(await ada.getByText("No messages yet").isVisible(), false);
    for (let n = 0; await ada.getByText("message 1", { exact: true }).count() === 0; n++) {
      await ada.getByRole("log").evaluate((element) => element.scrollTop = 0);
      await painted(ada);
      assert(n < 300);
    }
    assertEquals((await texts(ada)).length, 70);
  });

  it("offers the latest message whenever the reader is away from it", async () => {
    const ada = await stage.joins("Ada");
    await using grace = await stage.friend("Grace");
    for (let n = 1; n <= 40; n++) await tells(grace, `message ${n}.`);
    await sees(ada, "message 40.");
    const button = ada.locator("#newer");
    assert(await button.isHidden());
    await ada.getByRole("log").evaluate((element) => element.scrollTop -= 400);
    await ada.getByRole("button", { name: "Jump to the latest" }).waitFor();
    await tells(grace, "the newest");
    await ada.getByRole("button", { name: "1 new message" }).click();
    await button.waitFor({ state: "hidden" });
    assert(await ada.getByText("the newest").isVisible());
  });

  it("sends with Enter, but not during composition, and no text that is too long", async () => {
    const page = await stage.joins("Ada");
    const send = page.getByRole("button", { name: "Send" });
    assert(await send.isDisabled());
    await box(page).fill("first");
    await box(page).press("Shift+Enter");
    await box(page).pressSequentially("second");
    await box(page).dispatchEvent("keydown", { key: "Enter", isComposing: true });
    assertEquals(await box(page).inputValue(), "first\nsecond");
    await box(page).press("Enter");
    await sees(page, "second");
    assertEquals(await texts(page), ["first\nsecond"]);
    await box(page).fill("é".repeat(2049));
    assertEquals(await page.locator("#counter").innerText(), "2 bytes too long");
    assert(await send.isDisabled());
    await box(page).press("Enter");
    await box(page).press("Backspace");
    assertEquals(await page.locator("#counter").innerText(), "0 bytes left");
    await box(page).press("Enter");
    await sees(page, "é".repeat(2048));
  });

  it("offers to send refused messages again", async () => {
    const ada = await stage.joins("Ada");
    await writes(ada, "a bell: \u0007");
    const failed = ada.locator('[data-status="failed"]');
    await failed.getByText("control characters").waitFor();
    await failed.getByRole("button", { name: "Send again" }).click();
    await failed.getByText("control characters").waitFor();
    await failed.getByRole("button", { name: "Discard" }).click();
    await failed.waitFor({ state: "detached" });
    await writes(ada, "/msg Grace are you coming?");
    await failed.getByText("Nobody with this name").waitFor();
    await using grace = await stage.friend("Grace");
    await failed.getByRole("button", { name: "Send again" }).click();
    await grace.nextOf("dm", ({ content }) => content === "are you coming?");
    await failed.waitFor({ state: "detached" });
  });

  it("shows private messages to two people only", async () => {
    const ada = await stage.joins("Ada");
    const grace = await stage.joins("Grace Two");
    await using linus = await stage.friend("Linus");
    await ada.getByRole("button", { name: "Write privately to Grace Two" }).click();
    await ada.getByText("Only to Grace Two").waitFor();
    await says(ada, "psst");
    await sees(grace, "psst");
    await grace.getByRole("button", { name: "only to you" }).click();
    await says(grace, "yes?");
    await writes(ada, "never mind");
    await box(ada).press("Escape");
    await writes(ada, "/msg grace two no, do");
    await says(ada, "to all");
    await linus.nextOf("chat", ({ content }) => content === "to all");
    assertEquals(linus.all("dm"), []);
    assertEquals(await texts(grace), ["psst", "yes?", "never mind", "no, do", "to all"]);
    assertEquals(await grace.locator(".private").count(), 4);
    await grace.reload();
    await sees(grace, "to all");
    assertEquals(await texts(grace), ["psst", "yes?", "never mind", "no, do", "to all"]);
  });

  it("knows the commands", async () => {
    const ada = await stage.joins("Ada");
    const grace = await stage.joins("Grace");
    await says(ada, "/me waves");
    await sees(grace, "Ada waves");
    await writes(ada, "/help");
    await ada.getByRole("heading", { name: "What you can type" }).waitFor();
    await writes(ada, "/frobnicate");
    await ada.getByText("There is no /frobnicate.").waitFor();
    assertEquals(await box(ada).inputValue(), "/frobnicate");
    await writes(ada, "// TODO: frobnicate");
    await sees(grace, "// TODO: frobnicate");
    await writes(ada, "/say /frobnicate");
    await sees(grace, "/frobnicate");
    await writes(ada, "/nick grace");
    await ada.locator("#hint", { hasText: "in use" }).waitFor();
    assertEquals(await people(ada), ["Ada", "Grace"]);
    await writes(ada, "/nick Countess Ada");
    await seesPeople(grace, "Grace", "Countess Ada");
    await seesPeople(ada, "Countess Ada", "Grace");
    await says(ada, "still me");
    await sees(grace, "still me");
    assertEquals(await grace.locator(".author").last().textContent(), "Countess Ada");
    assertEquals(await ada.locator(".own").count(), 1);
  });

  it("edits and deletes own messages, by keyboard too", async () => {
    const ada = await stage.joins("Ada");
    const grace = await stage.joins("Grace");
    await says(ada, "teh tea");
    await says(ada, "and cake");
    await box(ada).press("ArrowUp");
    assertEquals(await box(ada).inputValue(), "and cake");
    await box(ada).fill("and two cakes");
    await box(ada).press("Enter");
    await sees(grace, "and two cakes");
    await grace.getByText("edited").waitFor();
    await ada.getByRole("log").focus();
    for (const key of ["ArrowUp", "ArrowUp", "Tab", "Enter"]) await ada.keyboard.press(key);
    assertEquals(await box(ada).inputValue(), "teh tea");
    await ada.keyboard.press("Escape");
    await ada.getByRole("log").focus();
    for (const key of ["ArrowUp", "ArrowUp", "Tab", "Tab", "Enter"]) await ada.keyboard.press(key);
    await ada.getByRole("heading", { name: "Delete this message?" }).waitFor();
    await ada.getByRole("button", { name: "Delete", exact: true }).click();
    await sees(grace, "Message deleted");
    assertEquals(await texts(grace), ["Message deleted", "and two cakes"]);
    await grace.getByText("Message deleted").hover();
    assertEquals(await grace.locator(".tools").count(), 0);
  });

  it("keeps the focus in the log when the focused message changes", async () => {
    const ada = await stage.joins("Ada");
    const grace = await stage.joins("Grace");
    await says(grace, "one");
    await says(grace, "two");
    await sees(ada, "two");
    await ada.getByRole("log").focus();
    await ada.keyboard.press("ArrowUp");
    await box(grace).press("ArrowUp");
    await box(grace).fill("changed");
    await box(grace).press("Enter");
    await sees(ada, "changed");
    const focused = () =>
      ada.evaluate("document.activeElement.closest('article')?.innerText ?? ''");
    assertStringIncludes(await focused() as string, "changed");
    await ada.keyboard.press("ArrowUp");
    assertStringIncludes(await focused() as string, "one");
  });

  it("shows who types", async () => {
    const ada = await stage.joins("Ada");
    const grace = await stage.joins("Grace");
    await box(grace).pressSequentially("hm");
    await ada.getByText("Grace is typing…").waitFor();
    await box(grace).fill("");
    await ada.getByText("Grace is typing…").waitFor({ state: "detached" });
    await box(grace).pressSequentially("/msg Ada");
    await says(ada, "psst");
    await sees(grace, "psst");
    assertEquals(await ada.locator("#typing").innerText(), "");
  });

  it("counts unseen messages in the title, and marks mentions", async () => {
    const ada = await stage.joins("Ada");
    await using grace = await stage.friend("Grace");
    await ada.evaluate("Object.defineProperty(document, 'hidden', {value: true, writable: true})");
    await tells(grace, "hello?");
    await tells(grace, "are you there, ada?");
    await tells(grace, "Adamant, canada");
    await sees(ada, "Adamant");
    assertEquals(await ada.title(), "(3) lobby · Hubbub");
    assertEquals(await ada.locator(".mention .text").allInnerTexts(), ["are you there, ada?"]);
    assertEquals(await ada.locator(".new-line + .message .text").allInnerTexts(), ["hello?"]);
    await ada.evaluate(
      "document.hidden = false; document.dispatchEvent(new Event('visibilitychange'))",
    );
    assertEquals(await ada.title(), "lobby · Hubbub");
    await shoot(ada, "unread");
  });

  it("notifies of mentions only on request", async () => {
    const ada = await stage.joins("Ada", { permissions: ["notifications"] });
    await using grace = await stage.friend("Grace");
    await ada.evaluate(`
      Object.defineProperty(document, "hidden", { value: true, writable: true });
      globalThis.notes = [];
      globalThis.Notification = class extends EventTarget {
        static permission = "default";
        static requestPermission = async () => this.permission = "granted";
        constructor(title, { body }) { super(); notes.push(title + ": " + body); }
      };`);
    await tells(grace, "Ada, one");
    await sees(ada, "Ada, one");
    await ada.getByRole("button", { name: "More" }).click();
    await ada.getByRole("button", { name: "Notify me of mentions" }).click();
    await ada.getByText("You will be notified").waitFor();
    const toggle = ada.getByRole("button", { name: "Notify me of mentions", pressed: true });
    await toggle.waitFor();
    for (const text of ["Ada, two", "nobody"]) await tells(grace, text);
    await grace.ask({ type: "dm", to: "Ada", content: "three" });
    await sees(ada, "three");
    assertEquals(await ada.evaluate("notes"), [
      "Grace in lobby: Ada, two",
      "Grace, privately: three",
    ]);
  });

  it("changes rooms by dialog, address and the browser's buttons", async () => {
    const ada = await stage.joins("Ada", { path: "/r/one" });
    await says(ada, "in one");
    await ada.getByRole("button", { name: "More" }).click();
    await ada.getByRole("button", { name: "Change name or room" }).click();
    await ada.getByRole("textbox", { name: "Room" }).fill("two");
    await ada.getByRole("button", { name: "Join", exact: true }).click();
    await ada.getByRole("heading", { name: "two" }).waitFor();
    await ada.getByRole("heading", { name: "No messages yet" }).waitFor();
    assertEquals(new URL(ada.url()).pathname, "/r/two");
    await ada.goBack();
    await sees(ada, "in one");
    await ada.goForward();
    await ada.getByRole("heading", { name: "No messages yet" }).waitFor();
    assertEquals(await people(ada), ["Ada"]);
    await ada.goto(`${stage.server.url}/?room=one`);
    await sees(ada, "in one");
    assertEquals(new URL(ada.url()).pathname, "/r/one");
    await ada.goto(`${stage.server.url}/?room=three`);
    await ada.locator("#join[open]").waitFor();
    assertEquals(await ada.getByRole("textbox", { name: "Room" }).inputValue(), "three");
  });

  it("copies the link to the room", async () => {
    const page = await stage.joins("Ada", {
      path: "/r/tea%20and%20cake",
      permissions: ["clipboard-read", "clipboard-write"],
    });
    await page.getByRole("button", { name: "Copy link", exact: true }).click();
    await page.getByText("Link copied").waitFor();
    await shoot(page, "link_copied");
    const copied = await page.evaluate("navigator.clipboard.readText()");
    assertEquals(copied, `${stage.server.url}/r/tea%20and%20cake`);
  });

  it("keeps the chosen colours", async () => {
    const page = await stage.joins("Ada", { colorScheme: "light" });
    await page.getByRole("button", { name: "More" }).click();
    await page.getByRole("radio", { name: "Dark" }).check();
    const background = () =>
      page.evaluate<string>("getComputedStyle(document.documentElement).backgroundColor");
    const dark = await background();
    await page.reload();
    await reaches(page, "live");
    assertEquals(await background(), dark);
  });

  it("shows a large room by its count and the known names", async () => {
    const crowd: V1Client[] = [];
    for (let n = 0; n < 150; n++) {
      crowd.push(await V1Client.join(stage.server.ws, "lobby", `Guest ${n}`));
    }
    const ada = await stage.joins("Ada");
    await ada.locator("#people-count", { hasText: "151" }).waitFor();
    await ada.locator("#people-rest", { hasText: /^and \d+ more$/ }).waitFor();
    await shoot(ada, "crowd");
    for (const guest of crowd) await guest.close();
    await ada.locator("#people-count", { hasText: /^1$/ }).waitFor();
    await ada.locator("#people-rest").waitFor({ state: "hidden" });
  });

  it("uses plain HTTP if WebSockets are blocked, and reports it once", async () => {
    await using gate = new Gate(stage.server, 403);
    await using grace = await stage.friend("Grace");
    const ada = await stage.joins("Ada", { url: gate.url, bypassCSP: true });
    const remark = ada.getByRole("status").getByText("WebSockets are blocked here");
    await remark.waitFor();
    await check(ada);
    await shoot(ada, "plain_http");
    await says(ada, "good mornign");
    await grace.nextOf("chat", ({ content }) => content === "good mornign");
    await box(ada).press("ArrowUp");
    await writes(ada, "good morning");
    await grace.nextOf("message_updated", ({ content }) => content === "good morning");
    await tells(grace, "same to you");
    await sees(ada, "same to you");
    await ada.evaluate("document.getElementById('toast').replaceChildren()");
    gate.cut();
    await reaches(ada, "reconnecting");
    await tells(grace, "still there?");
    await sees(ada, "still there?");
    await says(ada, "yes");
    assertEquals(await texts(ada), ["good morning", "same to you", "still there?", "yes"]);
    assertEquals(await remark.count(), 0);
    assertEquals(gate.upgrades.length, 1);
  });

  it("fits 320 pixels, with the people in a popover", async () => {
    const page = await stage.joins("Ada", {
      ...NARROW,
      path: "/r/a-room-with-a-rather-long-name-for-a-phone",
    });
    await says(page, "long".repeat(100));
    await says(page, "Ordinary words that take more than one line on a phone");
    await fits(page);
    await shoot(page, "narrow");
    const roster = page.locator("#people");
    assert(await roster.isHidden());
    await page.getByRole("button", { name: "People" }).tap();
    await roster.getByText("Ada").waitFor();
    assertEquals(await roster.evaluate((element) => element.matches(":popover-open")), true);
    await fits(page);
    await page.keyboard.press("Escape");
    await roster.waitFor({ state: "hidden" });
    await page.locator(".own .bubble").last().tap();
    await page.locator(".own").last().getByRole("button", { name: "Edit" }).tap();
    await page.getByText("Editing your message").waitFor();
    await fits(page);
    await shoot(page, "narrow_edit");
  });

  async function fits(page: Page): Promise<void> {
    assertEquals(await page.evaluate("document.documentElement.scrollWidth"), 320);
  }
});
