/** The log alone in a real browser: the shown rows, and the reader's place. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { it } from "@std/testing/bdd";
import type { Page } from "npm:playwright-core@^1";
import {
  check,
  describePage,
  NARROW,
  painted,
  PHONE,
  shoot,
  type Stage,
  type VisitOptions,
  WIDE,
} from "../support/chromium.ts";

/**
 * Runs in the page in place of `app.js`: a log of one timeline, and its reports. `say` adds messages
 * of Grace, `mine` of the reader.
 */
const SCRIPT = `
import { Log } from "/page/log.js";
import { Timeline } from "/page/timeline.js";
import { get } from "/page/dom.js";
const wishes = [];
const wish = (name) => (...what) => void wishes.push([name, ...what.map((it) =>
  it?.kind === "hole" ? [it.after, it.before] : it?.id ?? it)]);
const names = ["Follow", "Seen", "Hole", "Reply", "Edit", "Delete", "Retry", "Discard", "EditAgain",
  "DiscardChange", "Whisper", "Jump", "Copy"];
const log = new Log(
  { scroller: get("log", HTMLElement), rows: get("rows", HTMLElement), top: get("top", HTMLElement) },
  { ...Object.fromEntries(names.map((name) => ["on" + name, wish(name)])),
    linkTo: ({ seq }) => "/r/tea?at=" + seq },
);
let next = 1;
const numbered = (seq, more) => ({ id: "m" + seq, seq, at: new Date(Date.UTC(2024, 4, 1, 12) + seq * 1000),
  author: "Grace", text: "message " + seq, own: false, status: "sent", ...more });
Object.assign(globalThis, {
  log, wishes, Timeline, numbered, timeline: new Timeline(),
  say: (text, more) => timeline.add(numbered(next++, { text, ...more })),
  mine: (text, more) => say(text, { own: true, author: "Ada", ...more }),
  range: (from, to) => Array.from({ length: to - from + 1 }, (_, i) => numbered(from + i)),
  wished: (name) => wishes.filter(([wished]) => wished === name).map(([, ...what]) => what),
});
log.show(timeline);
get("join", HTMLElement).remove();
document.documentElement.dataset.ready = "";
`;

/** A page in which only the log works. */
async function openLog(
  stage: Stage,
  options: VisitOptions = {},
  page?: Page,
): Promise<Page> {
  page ??= await stage.open({ ...options, path: "/favicon.svg" });
  await page.route(
    "**/page/app.js",
    (route) => route.fulfill({ contentType: "text/javascript", body: SCRIPT }),
  );
  await page.goto(`${stage.server.url}/`);
  await page.locator("html[data-ready]").waitFor();
  return page;
}

/** Runs a function on the log, and waits until it is painted. */
async function run<T>(page: Page, script: string): Promise<T> {
  const result = await page.evaluate<T>(script);
  await painted(page);
  return result;
}

function distanceToEnd(page: Page): Promise<number> {
  return page.evaluate(
    "(({ scrollHeight, scrollTop, clientHeight }) =>" +
      "scrollHeight - scrollTop - clientHeight)(document.querySelector('#log'))",
  );
}

function topOf(page: Page, text: string): Promise<number> {
  return page.locator(".text").getByText(text, { exact: true }).evaluate((element) =>
    element.getBoundingClientRect().top
  );
}

function focused(page: Page): Promise<string> {
  return page.evaluate(
    "document.activeElement.closest('article')?.querySelector('.text')" +
      "?.textContent ?? document.activeElement.id",
  );
}

const CONVERSATION = `
  say("Has anyone tried the new build?");
  say("It fails here with \`ENOENT\`, see https://example.org/builds/42");
  mine("Same. This is what I have:\\n\`\`\`ts\\nconst path = new URL(\\"../public/\\", import.meta.url).pathname; // a rather long line of code\\nawait Deno.readTextFile(path);\\n\`\`\`\\nand it worked yesterday");
  say("Use fromFileUrl there", { author: "Linus", replyTo: "m3" });
  mine("That is it, thanks", { replyTo: "m4" });
  mine("Who writes it down?");
  say("I do", { author: "Linus", edited: true, seal: "bare" });
  say("", { seal: "replayed" });
  mine("Lovely", { replyTo: "gone" });
  timeline.change("m9", { change: { text: "Lovely!", status: "failed", reason: "It was deleted meanwhile." } });
  timeline.add({ ref: "r", at: new Date(), author: "Ada", text: "on its way", own: true, status: "waiting" });
  log.editing = "m6";
  timeline.lastRead = { seq: 6 };
`;

describePage("log", (stage) => {
  for (const colorScheme of ["light", "dark"] as const) {
    it(`has pictures in ${colorScheme}, wide and narrow, and passes axe`, async () => {
      for (const [name, size] of Object.entries({ wide: WIDE, phone: PHONE, narrow: NARROW })) {
        const page = await openLog(stage, { ...size, colorScheme, bypassCSP: true });
        await run(page, CONVERSATION);
        await shoot(page, `log_${name}_${colorScheme}`);
        await check(page);
        const { width } = size.viewport;
        assertEquals(await page.evaluate("document.documentElement.scrollWidth"), width);
        await page.locator(".message article").nth(3).click({ position: { x: 60, y: 30 } });
        await shoot(page, `log_${name}_tools_${colorScheme}`);
        await page.context().close();
      }
    });
  }

  it("returns to the reader's place in another timeline", async () => {
    const page = await openLog(stage);
    await run(page, `for (const message of range(1, 400)) timeline.add(message);`);
    await run(page, "log.reveal('m100')");
    const before = await topOf(page, "message 100");
    await run(
      page,
      `
      globalThis.other = new Timeline();
      for (const message of range(1, 50)) other.add(message);
      log.show(other)`,
    );
    assert(await distanceToEnd(page) < 2);
    await run(page, `for (const message of range(401, 450)) timeline.add(message);`);
    await run(page, "log.show(timeline)");
    assert(Math.abs(await topOf(page, "message 100") - before) < 2);
    await run(page, "log.show(other)");
    assert(await distanceToEnd(page) < 2);
  });

  it("loads missing messages from the reader's side", async () => {
    const page = await openLog(stage);
    await run(
      page,
      `
      timeline.expect(1000, { recovered: false });
      timeline.addPage(timeline.holeAt(1000), "older", range(901, 1000), true);
      timeline.addAround(timeline.holeAt(500), range(481, 520), { older: true, newer: true })`,
    );
    await run(page, "log.reveal('m500')");
    assertEquals(await page.evaluate("wished('Hole')"), [[[0, 481], "older"], [
      [520, 901],
      "newer",
    ]]);
    const before = await topOf(page, "message 500");
    await run(
      page,
      `
      timeline.addPage(timeline.holeAt(480), "older", range(431, 480), true);
      timeline.addPage(timeline.holeAt(521), "newer", range(521, 570), true)`,
    );
    assert(Math.abs(await topOf(page, "message 500") - before) < 2);
    await run(
      page,
      "log.toEnd(); wishes.length = 0; document.querySelector('#log').scrollTop -= 1",
    );
    await page.locator("#log").evaluate((log) =>
      [...log.querySelectorAll(".hole")].at(-1)!.scrollIntoView()
    );
    await page.locator('#log[aria-busy="true"]').waitFor();
    assertEquals(await page.evaluate("wished('Hole')[0]"), [[570, 901], "older"]);
    await run(page, "timeline.failPage(timeline.holeAt(600))");
    const again = page.getByRole("button", { name: "Try again" });
    await again.click();
    await again.waitFor({ state: "detached" });
    assertEquals(await page.evaluate("wished('Hole').length > 1"), true);
  });

  it("loads older messages if the server sent none", async () => {
    const page = await openLog(stage);
    await run(page, "timeline.expect(30, { recovered: false })");
    assertEquals(await page.evaluate("wished('Hole')"), [[[0, 31], "older"]]);
    await run(page, `timeline.addPage(timeline.holeAt(30), "older", range(1, 30), false)`);
    await page.getByText("message 30", { exact: true }).waitFor();
    assertEquals(await page.locator(".hole").count(), 0);
    assert(await distanceToEnd(page) < 2);
  });

  it("highlights the target of a jump", async () => {
    const page = await openLog(stage, { reducedMotion: "no-preference" });
    await run(page, `for (const message of range(1, 400)) timeline.add(message);`);
    assertEquals(await run(page, "log.reveal('gone')"), false);
    assertEquals(await run(page, "log.reveal(50)"), true);
    assertEquals(await focused(page), "message 50");
    const y = await topOf(page, "message 50");
    assert(y > 200 && y < 500, `${y}`);
    await page.locator(".found").waitFor();
    await page.locator(".found").waitFor({ state: "detached" });
  });

  it("begins at the line if the new messages do not fit, else at the end", async () => {
    const page = await openLog(stage);
    const line = page.getByRole("separator", { name: "New since you were here" });
    await run(
      page,
      `timeline.lastRead = { seq: 60 };
      timeline.expect(100, { recovered: false });
      for (const message of range(51, 100)) timeline.add(message, { isOld: true });`,
    );
    assert(await line.isVisible());
    assert(await topOf(page, "message 61") < 200);
    assertEquals(await page.evaluate("log.following"), false);
    await run(
      page,
      `globalThis.other = new Timeline(); other.lastRead = { seq: 97 };
      for (const message of range(51, 100)) other.add(message, { isOld: true });
      log.show(other)`,
    );
    assert(await distanceToEnd(page) < 2);
    assert(await line.isVisible());
    await run(
      page,
      `other.add({ ref: "r", at: new Date(), author: "Ada", text: "mine", own: true, status: "sending" })`,
    );
    assertEquals(await line.count(), 0);
  });

  it("begins at the line again in a room with new messages", async () => {
    const page = await openLog(stage);
    await run(page, `for (const message of range(1, 50)) timeline.add(message);`);
    await run(page, "log.show(new Timeline()); timeline.lastRead = { seq: 50 }");
    await run(
      page,
      "for (const message of range(51, 90)) timeline.add(message); log.show(timeline)",
    );
    assert(await topOf(page, "message 51") < 200);
    await page.keyboard.press("Tab");
    await run(page, "log.toEnd()");
    await run(page, "log.show(new Timeline()); log.show(timeline)");
    assert(await distanceToEnd(page) < 2);
  });

  it("reports seen messages, only while the page is visible", async () => {
    const page = await openLog(stage);
    const seen = () => page.evaluate<number>("wished('Seen').at(-1)?.[0] ?? 0");
    await run(page, `for (const message of range(1, 100)) timeline.add(message);`);
    assertEquals(await seen(), 100);
    await page.evaluate("Object.defineProperty(document, 'hidden', {value: true, writable: true})");
    await run(page, "timeline.add(numbered(101))");
    await page.getByText("message 101", { exact: true }).waitFor();
    assertEquals(await seen(), 100);
    await run(
      page,
      "document.hidden = false; document.dispatchEvent(new Event('visibilitychange'))",
    );
    assertEquals(await seen(), 101);
    await run(
      page,
      "log.reveal('m20'); for (const message of range(102, 120)) timeline.add(message)",
    );
    assertEquals(await seen(), 101);
  });

  it("goes to both ends by key, and reports whether it follows", async () => {
    const page = await openLog(stage);
    await run(page, `for (const message of range(1, 500)) timeline.add(message);`);
    await page.locator("#log").focus();
    await page.keyboard.press("ArrowUp");
    assertEquals(await focused(page), "message 500");
    await page.keyboard.press("Home");
    await painted(page);
    assertEquals(await focused(page), "message 1");
    assertEquals(await page.evaluate("log.following"), false);
    await page.keyboard.press("End");
    await painted(page);
    assertEquals(await focused(page), "message 500");
    assertEquals(await page.evaluate("wished('Follow').at(-1)"), [true]);
  });

  it("moves the focus to the neighbour of a removed message", async () => {
    const page = await openLog(stage);
    await run(
      page,
      `for (const message of range(1, 5)) timeline.add(message);
      for (const ref of ["a", "b"]) timeline.add({ ref, at: new Date(), author: "Ada", text: ref,
        own: true, status: "failed", reason: "It was too long." })`,
    );
    for (const [text, next] of [["b", "a"], ["a", "message 5"]] as const) {
      await page.locator(".message", { hasText: "Not sent" }).filter({
        has: page.locator(".text").getByText(text, { exact: true }),
      }).getByRole("button", { name: "Discard" }).focus();
      await run(page, `timeline.discard("${text}")`);
      assertEquals(await focused(page), next);
    }
  });

  it("shows code that scrolls and can be copied, and links outside of it only", async () => {
    const page = await openLog(stage, PHONE);
    await run(page, CONVERSATION);
    const block = page.locator("pre").first();
    assert(await block.evaluate((pre) => pre.scrollWidth > pre.clientWidth));
    await page.locator(".block").hover();
    await page.getByRole("button", { name: "Copy code" }).click();
    const [[code]] = await page.evaluate<[[string]]>("wished('Copy')");
    assertStringIncludes(code, "import.meta.url).pathname; // a rather long line of code\nawait");
    assertEquals(await page.locator(".text a").allInnerTexts(), ["https://example.org/builds/42"]);
  });

  it("quotes the answered message in its current form", async () => {
    const page = await openLog(stage);
    await run(
      page,
      `say("first\\nand more"); say("so", { replyTo: "m1" }); say("?", { replyTo: "m0" });
      say("", { seal: "broken" }); say("what?", { replyTo: "m4" })`,
    );
    const quotes = () => page.locator(".quote").allInnerTexts();
    assertEquals(await quotes(), [
      "Grace first",
      "an earlier message",
      "Grace a message that cannot be read",
    ]);
    await page.locator(".quote").first().click();
    assertEquals(await page.evaluate("wished('Jump')"), [["m1"]]);
    await run(page, `timeline.change("m1", { text: "changed", edited: true })`);
    assertEquals((await quotes())[0], "Grace changed");
    await run(page, `timeline.change("m1", { text: "", deleted: true })`);
    assertEquals((await quotes())[0], "a deleted message");
    await page.locator(".message", { hasText: "what?" }).hover();
    await page.locator(".message", { hasText: "what?" }).getByRole("button", { name: "Reply" })
      .click();
    assertEquals(await page.evaluate("wished('Reply')"), [["m5"]]);
  });

  it("offers no reply to private, deleted or unsent messages", async () => {
    const page = await openLog(stage);
    await run(
      page,
      `say("psst", { to: "Ada" }); say("", { deleted: true }); say("gone");
      timeline.change("m3", { deleted: true });
      timeline.add({ ref: "r", at: new Date(), author: "Ada", text: "mine", own: true, status: "waiting" })`,
    );
    assertEquals(await page.locator(".message").count(), 3);
    for (const message of await page.locator(".message").all()) await message.hover();
    assertEquals(await page.locator(".tools").count(), 0);
    await run(page, `say("hello")`);
    await page.locator(".message", { hasText: "hello" }).hover();
    assertEquals(await page.locator(".tools").count(), 1);
  });

  it("turns the time into a link, which a plain click does not follow", async () => {
    const page = await openLog(stage);
    await run(page, `say("one")`);
    const time = page.locator(".when");
    assertEquals(await time.getAttribute("href"), "/r/tea?at=1");
    await time.click();
    assertEquals(await page.evaluate("wished('Jump')"), [["m1"]]);
    const [tab] = await Promise.all([
      page.context().waitForEvent("page"),
      time.click({ modifiers: ["ControlOrMeta"] }),
    ]);
    assertStringIncludes(tab.url(), "/r/tea?at=1");
    assertEquals(await page.evaluate("wished('Jump').length"), 1);
  });

  it("is copied as author, time and text", async () => {
    const page = await openLog(stage);
    await run(page, CONVERSATION);
    const copied = await page.evaluate<string>(`(() => {
      getSelection().selectAllChildren(document.querySelector("#rows"));
      const data = new DataTransfer();
      document.querySelector("#rows article").dispatchEvent(
        new ClipboardEvent("copy", { clipboardData: data, bubbles: true, cancelable: true }));
      return data.getData("text/plain");
    })()`);
    const lines = copied.split("\n");
    assert(/^Grace, \d+:\d\d.*: Has anyone tried the new build\?$/.test(lines[0]!), copied);
    assertStringIncludes(copied, "await Deno.readTextFile(path);\n");
    assert(!/^[GAL]$|Reply|Edit|Copy code/m.test(copied), copied);
    const alone = await page.evaluate<string>(`(() => {
      getSelection().selectAllChildren(document.querySelector("#rows article"));
      return String(getSelection());
    })()`);
    assertEquals(alone.split(/\s+/)[0], "Grace");
  });

  it("keeps piled-up marks within the row, in names too", async () => {
    const page = await openLog(stage);
    const zalgo = "Z" + "\u0301\u0327\u0334".repeat(4) + "a" + "\u030d".repeat(60);
    await run(
      page,
      `say(${JSON.stringify(zalgo)}, { author: ${JSON.stringify(zalgo)} });
      say("/me " + ${JSON.stringify(zalgo)}, { author: "Linus" })`,
    );
    await shoot(page, "log_zalgo");
    for (const part of [".bubble", ".author"]) {
      const overflow = await page.locator(part).first().evaluate((element) =>
        element.ownerDocument.defaultView!.getComputedStyle(element).overflowY
      );
      assert(["clip", "hidden"].includes(overflow), overflow);
    }
  });

  it("names each message for screen readers, marks included", async () => {
    const page = await openLog(stage);
    await run(page, `say("hello", { seal: "bare", edited: true })`);
    await page.getByRole("article", { name: /^Grace .*hello edited not encrypted$/ }).waitFor();
  });

  it("shows a waiting or refused edit at its message, and resumes it", async () => {
    const page = await openLog(stage);
    await run(
      page,
      `mine("teh"); timeline.change("m1", { change: { text: "the", status: "waiting" } })`,
    );
    await page.getByText("Edit waiting to be sent").waitFor();
    await run(
      page,
      `timeline.change("m1", { change: { text: "the", status: "failed", reason: "No." } })`,
    );
    await page.getByText("Edit not saved. No.").waitFor();
    await page.getByRole("button", { name: "Edit again" }).click();
    await page.getByRole("button", { name: "Discard" }).click();
    assertEquals(await page.evaluate("[wished('EditAgain'), wished('DiscardChange')]"), [[["m1"]], [
      ["m1"],
    ]]);
    await run(page, `timeline.change("m1", { text: "the", change: undefined })`);
    assertEquals(await page.locator(".progress").count(), 0);
  });

  it("does not move when an own message is sent", async () => {
    const page = await openLog(stage);
    await run(
      page,
      `for (const message of range(1, 30)) timeline.add(message);
      timeline.add({ ref: "r", at: new Date(numbered(31).at), author: "Ada", text: "mine", own: true, status: "sending" })`,
    );
    const before = [await topOf(page, "message 30"), await topOf(page, "mine")];
    for (const news of ['{ status: "waiting" }', '{ status: "sent", id: "m31", seq: 31 }']) {
      await run(page, `timeline.settle("r", ${news})`);
      assertEquals([await topOf(page, "message 30"), await topOf(page, "mine")], before);
    }
  });

  for (const timezoneId of ["Europe/Berlin", "America/New_York", "Africa/Cairo"]) {
    it(`names days by the calendar, also with days of 23 or 25 hours (${timezoneId})`, async () => {
      const page = await openLog(stage, { timezoneId });
      // Just after midnight on the days after a change of the clocks.
      for (const now of ["2024-03-11", "2024-11-04", "2024-04-01", "2024-10-28", "2024-04-27"]) {
        await page.clock.install({ time: new Date(`${now}T12:00:00Z`) });
        await run(
          page,
          `
          const now = new Date(); now.setHours(0, 30);
          Date.now = () => now.getTime();
          globalThis.day = (days) => new Date(now.getFullYear(), now.getMonth(), now.getDate() + days, 23, 30);
          log.show(globalThis.timeline = new Timeline());
          for (const [n, days] of [-2, -1, 0].entries()) timeline.add(numbered(n + 1, { at: day(days) }))`,
        );
        const labels = await page.locator(".day").allInnerTexts();
        assertEquals(labels.slice(1), ["Yesterday", "Today"], now);
      }
    });
  }

  it("renames the days when midnight passes", async () => {
    const page = await stage.open({ path: "/favicon.svg" });
    await page.clock.install({ time: new Date(2024, 4, 1, 23, 59, 50) });
    const log = await openLog(stage, {}, page);
    await run(log, `timeline.add(numbered(1, { at: new Date() }))`);
    assertEquals(await log.locator(".day").allInnerTexts(), ["Today"]);
    await log.clock.runFor(11_000);
    await log.locator(".day", { hasText: "Yesterday" }).waitFor();
  });

  it("shows times without a mouse, and on narrow screens", async () => {
    for (const size of [PHONE, NARROW, { viewport: { width: 320, height: 640 } }]) {
      const page = await openLog(stage, size);
      await run(
        page,
        `for (let n = 0; n < 3; n++) { say("theirs " + n); } for (let n = 0; n < 3; n++) mine("mine " + n)`,
      );
      const times = page.locator("header time");
      for (let n = 0; n < 6; n++) {
        const opacity = await times.nth(n).evaluate((time) =>
          time.ownerDocument.defaultView!.getComputedStyle(time.closest("header")!).opacity
        );
        assertEquals(opacity, "1");
        const { box, text } = await times.nth(n).evaluate((time) => ({
          box: time.getBoundingClientRect().toJSON(),
          text: time.closest("li")!.querySelector(".bubble")!.getBoundingClientRect().toJSON(),
        }));
        assert(box.left >= 0 && box.width > 0, JSON.stringify(box));
        const isApart = box.right <= text.left + 1 || box.bottom <= text.top + 1;
        assert(isApart, `${n}: ${JSON.stringify([box, text])}`);
      }
      await page.context().close();
    }
  });

  it("keeps ten rooms of 5,000 messages in less than 40 MB", async () => {
    const page = await openLog(stage);
    await page.evaluate(`
      globalThis.rooms = Array.from({ length: 10 }, (_, room) => {
        const timeline = new Timeline();
        timeline.expect(5000, { recovered: false });
        for (let seq = 1; seq <= 5000; seq++) {
          // As from the network: no two messages share a string.
          timeline.add(JSON.parse(JSON.stringify({ id: "019345ab" + room + "-" + seq, seq,
            ref: crypto.randomUUID(), author: "Grace Hopper " + seq % 40, own: false,
            text: "what was said in message " + seq + " of this room, at some length, as people do",
            status: "sent", mention: false, edited: false, deleted: false }),
            (key, value) => key === "" ? { ...value, at: new Date(1.7e12 + seq) } : value), { isOld: true });
        }
        log.show(timeline);
        return timeline;
      })`);
    const devTools = await page.context().newCDPSession(page);
    await devTools.send("HeapProfiler.enable");
    await devTools.send("HeapProfiler.collectGarbage");
    const { usedSize } = await devTools.send("Runtime.getHeapUsage");
    assertEquals(await page.evaluate("rooms.map(({ size }) => size)"), Array(10).fill(5000));
    assert(usedSize < 40e6, `${usedSize}`);
  });

  it("has a picture in forced colours", async () => {
    const page = await openLog(stage, { forcedColors: "active" });
    await run(page, CONVERSATION);
    await run(page, "log.reveal('m1')");
    await shoot(page, "log_forced_colours");
  });
});
