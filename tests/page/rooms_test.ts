/** Several rooms: switching without losing a word, and returning to the same place. */

import { assert, assertEquals } from "@std/assert";
import { it } from "@std/testing/bdd";
import type { Page } from "npm:playwright-core@^1";
import type { HistoryEvent } from "../../lib/protocol/events.ts";
import { createKey } from "../../public/cipher.js";
import {
  box,
  check,
  describePage,
  enter,
  PHONE,
  reaches,
  says,
  sees,
  shoot,
  tells,
  texts,
  until,
  WIDE,
  writes,
} from "../support/chromium.ts";
import { Gate } from "../support/gate.ts";
import { Line } from "../support/line.ts";
import { V1Client } from "../support/v1_client.ts";

describePage("page, in several rooms", (stage) => {
  it("switches without leaving, and counts messages in other rooms", async () => {
    const ada = await stage.joins("Ada", { path: "/r/tea", bypassCSP: true });
    await using grace = await V1Client.join(stage.server.ws, "tea", "Grace");
    await says(ada, "in tea");
    await joinAnother(ada, "Coffee");
    await tells(grace, "anyone?");
    await room(ada, "tea").getByText("1 unread").waitFor();
    await tells(grace, "Ada, are you there?");
    await room(ada, "tea").getByText("2 unread, some for you").waitFor();
    assertEquals(await ada.title(), "(2) coffee · Hubbub");
    await shoot(ada, "rooms");
    await check(ada);
    await room(ada, "tea").click();
    await sees(ada, "Ada, are you there?");
    await ada.getByText("New since you were here").waitFor();
    assertEquals(await texts(ada), ["in tea", "anyone?", "Ada, are you there?"]);
    await room(ada, "tea").getByText("unread").waitFor({ state: "detached" });
    assertEquals(await ada.title(), "tea · Hubbub");
    assertEquals(grace.all("user_left"), []);
  });

  it("keeps three rooms by plain HTTP, since browsers limit connections to a server", async () => {
    await using gate = new Gate(stage.server, 403);
    await using grace = await V1Client.join(stage.server.ws, "one", "Grace");
    const ada = await stage.joins("Ada", { path: "/r/one", url: gate.url });
    for (const name of ["two", "three", "four"]) await joinAnother(ada, name);
    await grace.nextOf("user_left", ({ username }) => username === "Ada");
    await tells(grace, "anyone?");
    await room(ada, "one").click();
    await sees(ada, "anyone?");
    await says(ada, "back again");
    // Other rooms reuse the transport that worked.
    assertEquals(gate.upgrades.length, 1);
    await using linus = await V1Client.join(stage.server.ws, "three", "Linus");
    assertEquals(linus.welcome.users.map(({ username }) => username), ["Ada", "Linus"]);
  });

  it("begins at the new messages, and counts only seen ones as read", async () => {
    const ada = await stage.joins("Ada", { path: "/r/tea" });
    await using grace = await V1Client.join(stage.server.ws, "tea", "Grace");
    await tells(grace, "before");
    await sees(ada, "before");
    await joinAnother(ada, "coffee");
    for (let n = 1; n <= 40; n++) await tells(grace, `after ${n}`);
    await room(ada, "tea").getByText("40 unread").waitFor();
    await room(ada, "tea").click();
    await ada.getByText("New since you were here").waitFor();
    await ada.getByRole("button", { name: /^[123]?\d new messages$/ }).waitFor();
    assert(await ada.getByText("after 1", { exact: true }).isVisible());
    assert(/^\([123]?\d\) tea/.test(await ada.title()), await ada.title());
    await ada.getByRole("button", { name: /new messages$/ }).click();
    await until(ada, "document.title === 'tea · Hubbub'");
  });

  it("remembers the rooms and their read positions until the person leaves", async () => {
    const ada = await stage.joins("Ada", { path: "/r/tea" });
    await using grace = await V1Client.join(stage.server.ws, "tea", "Grace");
    for (let n = 1; n <= 30; n++) await tells(grace, `before ${n}`);
    await sees(ada, "before 30");
    await joinAnother(ada, "coffee");
    const context = ada.context();
    await ada.close();
    for (let n = 1; n <= 30; n++) await tells(grace, `after ${n}`);
    // Another day, another tab: the address names no room.
    const again = await stage.openTab(context, `${stage.server.url}/`);
    await again.getByRole("heading", { name: "coffee" }).waitFor();
    await room(again, "tea").click();
    await sees(again, "after 1");
    const line = again.getByText("New since you were here");
    await line.waitFor();
    assert(await line.isVisible());
    assertEquals(
      await again.locator("li:has-text('New since you were here') + li .text").innerText(),
      "after 1",
    );
    // The messages do not fit: the view is at the old place, and a button leads to the latest.
    await again.getByRole("button", { name: /new messages$|Jump to the latest/ }).click();
    await again.getByText("after 30").waitFor();
    await again.getByRole("button", { name: "Leave tea" }).click();
    await again.getByText("You left tea").waitFor();
    await again.getByRole("heading", { name: "coffee" }).waitFor();
    await again.reload();
    await reaches(again, "live");
    assertEquals(await again.locator("#rooms-list a").allInnerTexts(), ["#\ncoffee"]);
  });

  it("keeps each room's unsent messages, and asks before losing them", async () => {
    await using line = new Line(stage.server.port);
    const ada = await stage.joins("Ada", { path: "/r/tea", url: line.url, bypassCSP: true });
    await joinAnother(ada, "coffee");
    line.cut();
    await reaches(ada, "reconnecting");
    await writes(ada, "for coffee");
    await room(ada, "tea").click();
    await ada.getByRole("heading", { name: "tea" }).waitFor();
    await writes(ada, "for tea");
    await box(ada).fill("half a thought for tea");
    await ada.goBack();
    await ada.getByRole("heading", { name: "coffee" }).waitFor();
    assertEquals([await texts(ada), await box(ada).inputValue()], [["for coffee"], ""]);
    await ada.getByRole("button", { name: "Leave coffee" }).click();
    await ada.getByText("A message is not sent yet. Unsent messages are lost").waitFor();
    await shoot(ada, "leave_unsent");
    await check(ada);
    await ada.getByRole("button", { name: "Stay" }).click();
    line.mend();
    await ada.evaluate("dispatchEvent(new Event('online'))");
    await ada.locator('.message[data-status="sent"]').waitFor();
    await room(ada, "tea").click();
    await sees(ada, "for tea");
    assertEquals(await box(ada).inputValue(), "half a thought for tea");
    await ada.locator('.message[data-status="sent"]').waitFor();
    for (const name of ["tea", "coffee"]) {
      await using reader = await V1Client.join(stage.server.ws, name, "Reader");
      await reader.nextOf("chat", ({ content }) => content === `for ${name}`);
      assertEquals(reader.all("chat").length, 1);
    }
  });

  it("keeps an edit made offline, and offers a refused one again", async () => {
    await using line = new Line(stage.server.port);
    const ada = await stage.joins("Ada", { url: line.url, bypassCSP: true });
    await using grace = await stage.friend("Grace");
    await says(ada, "teh tea");
    line.cut();
    await reaches(ada, "reconnecting");
    await edits(ada, "the tea");
    await ada.getByText("Edit waiting to be sent").waitFor();
    line.mend();
    await ada.evaluate("dispatchEvent(new Event('online'))");
    await grace.nextOf("message_updated", ({ content }) => content === "the tea");
    await ada.getByText("Edit waiting to be sent").waitFor({ state: "detached" });
    assertEquals(await texts(ada), ["the tea"]);
    await edits(ada, "a bell: \u0007");
    await ada.getByText("Edit not saved.").waitFor();
    await shoot(ada, "edit_refused");
    await check(ada);
    assertEquals(await texts(ada), ["the tea"]);
    await ada.getByRole("button", { name: "Edit again" }).click();
    assertEquals(await box(ada).inputValue(), "a bell: \u0007");
    await box(ada).fill("a bell");
    await box(ada).press("Enter");
    await grace.nextOf("message_updated", ({ content }) => content === "a bell");
    await ada.getByText("Edit not saved.").waitFor({ state: "detached" });
    await edits(ada, "another bell: \u0007");
    await ada.getByRole("button", { name: "Discard" }).click();
    await ada.getByText("Edit not saved.").waitFor({ state: "detached" });
    await ada.reload();
    await sees(ada, "a bell");
    assertEquals(await ada.getByText("Edit not saved.").count(), 0);
  });

  it("shows one room in the address, the header, the link and the connection", async () => {
    const ada = await stage.joins("Ada", {
      path: "/r/tea",
      permissions: ["clipboard-read", "clipboard-write"],
    });
    await using _grace = await V1Client.join(stage.server.ws, "private", "Ada's twin");
    const places = ["tea", "coffee", "milk"];
    for (const name of places.slice(1)) {
      await joinAnother(ada, name);
    }
    const isAt = async (name: string) => {
      await ada.getByRole("heading", { name }).waitFor();
      await reaches(ada, "live");
      await ada.getByRole("button", { name: "Copy link", exact: true }).click();
      assertEquals(await ada.evaluate("navigator.clipboard.readText()"), ada.url());
      assertEquals(new URL(ada.url()).pathname, `/r/${name}`);
      await says(ada, `said in ${name}`);
      await using reader = await V1Client.join(stage.server.ws, name, "Reader");
      await reader.nextOf("chat", ({ content }) => content === `said in ${name}`);
      await reader.close();
    };
    await isAt("milk");
    await ada.goBack();
    await ada.goBack();
    await isAt("tea");
    // The name is taken there: the room and the address stay.
    await using twin = await V1Client.join(stage.server.ws, "full", "Ada");
    await asksFor(ada, "full");
    await ada.getByText("in use").waitFor();
    await ada.keyboard.press("Escape");
    await isAt("tea");
    await twin.close();
  });

  it("goes to a message by its link, with the messages around it", async () => {
    await using grace = await stage.friend("Grace");
    for (let n = 1; n <= 150; n++) await tells(grace, `message ${n}`);
    const ada = await stage.joins("Ada", { path: "/r/lobby?at=20" });
    await ada.locator(".found").getByText("message 20", { exact: true }).waitFor();
    assert(await ada.getByText("message 20", { exact: true }).isVisible());
    for (const near of ["message 15", "message 25"]) await sees(ada, near);
    await ada.getByRole("button", { name: /new messages$|Jump to the latest/ }).click();
    await sees(ada, "message 150");
    // Scrolling loads the messages between.
    for (let n = 0; !(await texts(ada)).includes("message 60"); n++) {
      await ada.getByRole("log").evaluate((element) => element.scrollTop = 0);
      await until(ada, "document.querySelector('#log').ariaBusy !== 'true'");
      assert(n < 60, "Not everything can be read.");
    }
    const link = ada.locator(".message", { hasText: "message 60" }).locator("a.when");
    assertEquals(await link.getAttribute("href"), "/r/lobby?at=60");
  });

  it("loads earlier messages also from a server that sends no history", async () => {
    await stage.restart({ HISTORY_SIZE: "0" });
    await using grace = await stage.friend("Grace");
    for (let n = 1; n <= 60; n++) await tells(grace, `message ${n}`);
    const ada = await stage.joins("Ada");
    await sees(ada, "message 60");
    assertEquals(await ada.getByText("No messages yet").isVisible(), false);
    await ada.getByRole("log").evaluate((element) => element.scrollTop = 0);
    await sees(ada, "message 1");
  });

  it("replies to a message, and goes from the reply to it", async () => {
    const ada = await stage.joins("Ada");
    await using grace = await stage.friend("Grace");
    await tells(grace, "Tea or coffee?");
    for (let n = 0; n < 40; n++) await tells(grace, `And ${n}`);
    await sees(ada, "And 39");
    await ada.getByRole("log").evaluate((element) => element.scrollTop = 0);
    const question = ada.locator(".message", { hasText: "Tea or coffee?" });
    await question.locator("article").hover();
    await question.getByRole("button", { name: "Reply" }).click();
    await ada.getByText("Reply to Grace").waitFor();
    await says(ada, "Tea, please");
    const { reply_to } = await grace.nextOf("chat", ({ content }) => content === "Tea, please");
    assertEquals(reply_to, grace.all("chat")[0]!.id);
    await ada.getByRole("button", { name: "Grace Tea or coffee?" }).click();
    await ada.locator(".found").getByText("Tea or coffee?").waitFor();
    assertEquals(new URL(ada.url()).search, "?at=1");
  });

  it("is a menu on a phone, and accepts capitalised room names there", async () => {
    for (const colorScheme of ["light", "dark"] as const) {
      const ada = await stage.visit({ ...PHONE, path: "/", colorScheme, bypassCSP: true });
      await ada.getByRole("textbox", { name: "Room" }).fill("Tea");
      await enter(ada, "Ada");
      await ada.getByRole("heading", { name: "tea" }).waitFor();
      await using grace = await V1Client.join(stage.server.ws, "tea", "Grace");
      await ada.getByRole("button", { name: "Your rooms" }).tap();
      await ada.getByRole("button", { name: "Join another room" }).tap();
      await ada.getByRole("textbox", { name: "Room" }).fill("Coffee");
      await ada.getByRole("button", { name: "Join", exact: true }).tap();
      await ada.getByRole("heading", { name: "coffee" }).waitFor();
      await tells(grace, "Ada?");
      await ada.locator("#rooms-total").getByText("1 unread").waitFor();
      await ada.getByRole("button", { name: "Your rooms" }).tap();
      await shoot(ada, `phone_rooms_${colorScheme}`);
      await check(ada);
      await room(ada, "tea").tap();
      await sees(ada, "Ada?");
      await ada.context().close();
    }
  });
});

describePage("page, with nothing left behind", (stage) => {
  it("sends no waiting message of a room that the person left", async () => {
    await using line = new Line(stage.server.port);
    const ada = await stage.joins("Ada", { path: "/r/tea", url: line.url });
    await joinAnother(ada, "coffee");
    line.cut();
    await reaches(ada, "reconnecting");
    await writes(ada, "I regret this");
    await box(ada).fill("and this");
    await ada.getByRole("button", { name: "Leave coffee" }).click();
    await ada.getByRole("button", { name: "Leave", exact: true }).click();
    await ada.getByRole("heading", { name: "tea" }).waitFor();
    line.mend();
    await ada.evaluate("dispatchEvent(new Event('online'))");
    await reaches(ada, "live");
    await joinAnother(ada, "coffee");
    await ada.getByRole("heading", { name: "No messages yet" }).waitFor();
    assertEquals(await box(ada).inputValue(), "");
    await says(ada, "hello");
    assertEquals(await texts(ada), ["hello"]);
    assertEquals(await ada.evaluate("sessionStorage['hubbub.unsent'] ?? '{}'"), "{}");
  });

  it("sends waiting messages of all rooms after a reload", async () => {
    await using line = new Line(stage.server.port);
    const ada = await stage.joins("Ada", { path: "/r/tea", url: line.url });
    await joinAnother(ada, "coffee");
    line.cut();
    await reaches(ada, "reconnecting");
    await writes(ada, "for coffee");
    await room(ada, "tea").click();
    await ada.getByRole("heading", { name: "tea" }).waitFor();
    line.mend();
    await using reader = await V1Client.join(stage.server.ws, "coffee", "Reader");
    ada.once("dialog", (dialog) => dialog.accept());
    await ada.reload();
    await reader.nextOf("chat", ({ content }) => content === "for coffee");
    await ada.getByRole("heading", { name: "tea" }).waitFor();
  });

  it("shows a failed edit, also when its message is gone", async () => {
    await using line = new Line(stage.server.port);
    const ada = await stage.joins("Ada", { url: line.url });
    await says(ada, "teh tea");
    const session = await ada.evaluate<string>(
      "JSON.parse(localStorage['hubbub.sessions'])[0].session",
    );
    await using other = await V1Client.join(stage.server.ws, "lobby", "Ada", { session });
    const { messages } = await other.ask({ type: "history" }) as HistoryEvent;
    line.cut();
    await reaches(ada, "reconnecting");
    await edits(ada, "the tea");
    await ada.getByText("Edit waiting to be sent").waitFor();
    await other.ask({ type: "delete", id: messages[0]!.id });
    line.mend();
    await ada.evaluate("dispatchEvent(new Event('online'))");
    const failed = ada.locator('.message[data-status="failed"]');
    await failed.getByText("the tea", { exact: true }).waitFor();
    await failed.getByRole("button", { name: "Discard" }).click();
    await failed.waitFor({ state: "detached" });
    await writes(ada, "/nick Countess");
    await ada.locator("#people-list").getByText("Countess").waitFor();
  });

  it("counts a private message as read once seen", async () => {
    const ada = await stage.joins("Ada", { path: "/r/tea" });
    await using grace = await V1Client.join(stage.server.ws, "tea", "Grace");
    await grace.ask({ type: "dm", to: "Ada", content: "psst" });
    await sees(ada, "psst");
    await until(ada, "document.title === 'tea · Hubbub'");
    assertEquals(await room(ada, "tea").getByText("unread").count(), 0);
    await joinAnother(ada, "coffee");
    await grace.ask({ type: "dm", to: "Ada", content: "psst again" });
    await room(ada, "tea").getByText("1 unread, some for you").waitFor();
    await room(ada, "tea").click();
    await sees(ada, "psst again");
    await room(ada, "tea").getByText("unread").waitFor({ state: "detached" });
  });

  it("creates the requested encrypted room, also at the second try", async () => {
    const ada = await stage.visit({ path: "/" });
    await ada.getByLabel("Your name").fill("a,b");
    await ada.getByRole("button", { name: "Start an encrypted room" }).click();
    await ada.locator("#name-error:not(:empty)").waitFor();
    await enter(ada, "Ada");
    await ada.getByRole("heading", { name: "This room is encrypted" }).waitFor();
  });

  it("keeps the receiver of the text in each room", async () => {
    const ada = await stage.joins("Ada", { path: "/r/tea" });
    await using grace = await V1Client.join(stage.server.ws, "tea", "Grace");
    await ada.getByRole("button", { name: "Write privately to Grace" }).click();
    await box(ada).fill("between us");
    await joinAnother(ada, "coffee");
    await room(ada, "tea").click();
    await ada.getByText("Only to Grace").waitFor();
    assertEquals(await box(ada).inputValue(), "between us");
    await box(ada).press("Enter");
    await grace.nextOf("dm", ({ content }) => content === "between us");
    assertEquals(grace.all("chat"), []);
  });

  it("goes to a message of the room in its link, and of no other", async () => {
    await using grace = await V1Client.join(stage.server.ws, "tea", "Grace");
    for (let n = 1; n <= 3; n++) await tells(grace, `message ${n}`);
    const ada = await stage.visit({ path: "/r/tea?at=1" });
    await ada.getByRole("textbox", { name: "Room" }).fill("coffee");
    await enter(ada, "Ada");
    await says(ada, "in coffee");
    assertEquals(await ada.locator(".found").count(), 0);
    assertEquals(await ada.locator("#toast").innerText(), "");
    await ada.goto(`${stage.server.url}/r/tea?at=1`);
    await enter(ada, "Ada");
    await ada.locator(".found").getByText("message 1").waitFor();
  });
});

describePage("page, over a changing network", (stage) => {
  it("notices at once that the network is gone or back", async () => {
    const ada = await stage.joins("Ada");
    await ada.evaluate("dispatchEvent(new Event('offline'))");
    await ada.getByText("Your device is offline.").waitFor();
    await ada.evaluate("dispatchEvent(new Event('online'))");
    await reaches(ada, "live");
    await ada.getByText("Your device is offline.").waitFor({ state: "hidden" });
  });

  it("leaves the room while the browser caches the page, and rejoins at once", async () => {
    const ada = await stage.joins("Ada");
    await joinAnother(ada, "tea");
    await using grace = await V1Client.join(stage.server.ws, "tea", "Grace");
    await using linus = await stage.friend("Linus");
    await ada.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))");
    for (const friend of [grace, linus]) {
      await friend.nextOf("user_left", ({ username }) => username === "Ada");
    }
    await tells(grace, "said meanwhile");
    await ada.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))");
    for (const friend of [grace, linus]) {
      await friend.nextOf("user_joined", ({ username }) => username === "Ada");
    }
    await sees(ada, "said meanwhile");
  });

  it("reports when something on the way blocks every connection", async () => {
    await using gate = new Gate(stage.server, 403);
    gate.pages.set("/api/rooms/", 403);
    const ada = await stage.visit({ url: gate.url });
    await ada.getByLabel("Your name").fill("Ada");
    await ada.getByRole("button", { name: "Join", exact: true }).click();
    await ada.getByText("blocks the connection").first().waitFor();
    await shoot(ada, "no_connection");
    await ada.context().close();
  });
});

describePage("page, with texts for an encrypted room", (stage) => {
  it("sends no text unsealed that was written with a key", async () => {
    await using line = new Line(stage.server.port);
    const path = `/r/tea#key=${createKey()}`;
    const ada = await enter(await stage.visit({ path, url: line.url, bypassCSP: true }), "Ada");
    line.cut();
    await reaches(ada, "reconnecting");
    await writes(ada, "the plan");
    await box(ada).fill("half of the secret");
    await ada.locator('.message[data-status="waiting"]').waitFor();
    // Sealing takes a moment.
    await until(ada, "(sessionStorage['hubbub.unsent'] ?? '').includes('sealed.2.')");
    await until(ada, "(sessionStorage['hubbub.drafts'] ?? '').includes('sealed.2.')");
    const stored = await ada.evaluate<string>(
      "JSON.stringify([{ ...sessionStorage }, { ...localStorage }])",
    );
    assert(!/plan|secret/.test(stored), stored);
    line.mend();
    // The same room, without its key: sealed texts are shown, and stay.
    ada.once("dialog", (dialog) => dialog.accept());
    await ada.goto(`${line.url}/r/tea`);
    await ada.evaluate("localStorage.removeItem('hubbub.rooms')");
    await ada.reload();
    await enter(ada, "Ada");
    await ada.getByText("It is encrypted with a key that this link does not have.").first()
      .waitFor();
    await shoot(ada, "sealed_unsent");
    await check(ada);
    assertEquals(await ada.getByRole("button", { name: "Send again" }).count(), 0);
    await using spy = await V1Client.join(stage.server.ws, "tea", "Spy");
    await says(ada, "in the open");
    await spy.nextOf("chat", ({ content }) => content === "in the open");
    assertEquals(spy.all("chat").length, 1);
    // With the key it is sent, sealed.
    await ada.goto(line.url + path);
    const { content } = await spy.nextOf("chat", ({ content }) => content.startsWith("sealed.2."));
    assert(!content.includes("plan"));
    await sees(ada, "the plan");
    assertEquals(await box(ada).inputValue(), "half of the secret");
  });

  it("marks unencrypted messages on screen, for screen readers and in notifications", async () => {
    const key = createKey();
    const name = `private-${"a".repeat(16)}`;
    for (const hash of [`#key=${key}`, ""]) {
      const options = { path: `/r/${name}${hash}`, permissions: ["notifications"] };
      const ada = await enter(await stage.visit(options), "Ada");
      await ada.evaluate(`
        localStorage["hubbub.notify"] = "yes";
        globalThis.notes = [];
        globalThis.Notification = class extends EventTarget {
          static permission = "granted";
          constructor(title, { body }) { super(); notes.push(body); }
        };
        Object.defineProperty(document, "hidden", { value: true, writable: true });`);
      await using spy = await V1Client.join(stage.server.ws, name, `Spy ${hash === ""}`);
      await spy.ask({ type: "chat", content: "Ada, pay at once" });
      const message = ada.locator(".message", { hasText: "Ada, pay at once" }).last();
      await message.getByText("not encrypted").waitFor();
      await ada.locator("#announcer", { hasText: "not encrypted: Ada, pay at once" })
        .waitFor({ state: "attached" });
      assertEquals(await ada.evaluate("notes"), ["not encrypted: Ada, pay at once"]);
      await ada.context().close();
    }
  });
});

/** The link to a room in the list. */
function room(page: Page, name: string) {
  return page.locator("#rooms-list a", { hasText: name });
}

/** Joins another room, from the list. */
async function joinAnother(page: Page, name: string): Promise<void> {
  await asksFor(page, name);
  await page.getByRole("heading", { name: name.toLowerCase() }).waitFor();
}

/** Asks for another room, from the list. */
async function asksFor(page: Page, name: string): Promise<void> {
  assertEquals(page.viewportSize(), WIDE.viewport);
  await page.getByRole("button", { name: "Join another room" }).click();
  await page.getByRole("textbox", { name: "Room" }).fill(name);
  await page.getByRole("button", { name: "Join", exact: true }).click();
}

/** Edits the last own message. */
async function edits(page: Page, text: string): Promise<void> {
  await box(page).press("ArrowUp");
  await box(page).fill(text);
  await box(page).press("Enter");
}
