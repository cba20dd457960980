/** The page, in a real browser: writing, receivers and suggestions. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { it } from "@std/testing/bdd";
import type { Page } from "npm:playwright-core@^1";
import {
  box,
  check,
  describePage,
  NARROW,
  painted,
  PHONE,
  reaches,
  says,
  sees,
  shoot,
  tells,
  texts,
  until,
  writes,
} from "../support/chromium.ts";
import { V1Client } from "../support/v1_client.ts";

const LANDSCAPE = { ...PHONE, viewport: { width: 740, height: 360 } };

describePage("page, writing", (stage) => {
  it("never sends a private text to the room", async () => {
    const ada = await stage.joins("Ada");
    await using grace = await stage.friend("Grace");
    await box(ada).fill("for all");
    await whisperTo(ada, "Grace");
    assertEquals(await box(ada).inputValue(), "");
    await box(ada).fill("for Grace alone");
    await box(ada).press("Escape");
    assertEquals(await box(ada).inputValue(), "for all");
    await box(ada).press("Enter");
    await grace.nextOf("chat", ({ content }) => content === "for all");
    await whisperTo(ada, "Grace");
    assertEquals(await box(ada).inputValue(), "for Grace alone");
    await ada.getByRole("button", { name: "Back to the room" }).click();
    assertEquals(await box(ada).inputValue(), "");
    assertEquals(grace.all("chat").map(({ content }) => content), ["for all"]);
  });

  it("keeps a draft for each person and each room", async () => {
    const ada = await stage.joins("Ada", { path: "/r/one" });
    await using _grace = await V1Client.join(stage.server.ws, "one", "Grace");
    await using _linus = await V1Client.join(stage.server.ws, "one", "Linus");
    for (const name of ["Grace", "Linus"]) {
      await whisperTo(ada, name);
      await box(ada).fill(`dear ${name}`);
    }
    await box(ada).press("Escape");
    await box(ada).fill("dear all");
    await ada.getByRole("button", { name: "More" }).click();
    await ada.getByRole("button", { name: "Change name or room" }).click();
    await ada.getByRole("textbox", { name: "Room" }).fill("two");
    await ada.getByRole("button", { name: "Join", exact: true }).click();
    await ada.getByRole("heading", { name: "two", exact: true }).waitFor();
    assertEquals(await box(ada).inputValue(), "");
    await ada.goBack();
    await ada.getByRole("heading", { name: "one", exact: true }).waitFor();
    assertEquals(await box(ada).inputValue(), "dear all");
    await whisperTo(ada, "Linus");
    assertEquals(await box(ada).inputValue(), "dear Linus");
  });

  it("quotes the edited message, and keeps the unfinished text", async () => {
    const ada = await stage.joins("Ada", { bypassCSP: true });
    const long = `${"a rather long line ".repeat(10)}\nand another`;
    await says(ada, long);
    await box(ada).press("ArrowUp");
    const chip = ada.locator("#mode-words");
    assertStringIncludes(await chip.innerText(), "Editing your message");
    assert(!(await chip.innerText()).includes("another"));
    await box(ada).press("Escape");
    await box(ada).fill("half a thought");
    await ada.locator(".own .bubble").hover();
    await ada.getByRole("button", { name: "Edit" }).click();
    await box(ada).fill("a short one");
    await check(ada);
    await box(ada).press("Enter");
    await sees(ada, "a short one");
    assertEquals(await box(ada).inputValue(), "half a thought");
  });

  it("leaves refused text in the box", async () => {
    const ada = await stage.joins("Ada");
    await using grace = await stage.friend("Grace Hopper");
    await seesName(ada, "Grace Hopper");
    for (
      const text of ["/msg Grace psst", '/msg "Grace Hopper psst', "/help me!", "/mgs Grace a"]
    ) {
      await writes(ada, text);
      await ada.locator("#hint:not(:empty)").waitFor();
      assertEquals(await box(ada).inputValue(), text);
    }
    await writes(ada, "/msg “grace hopper” psst");
    await grace.nextOf("dm", ({ content }) => content === "psst");
    await writes(ada, "// TODO");
    await grace.nextOf("chat", ({ content }) => content === "// TODO");
    assertEquals(grace.all("chat").length, 1);
  });

  it("switches rooms, replies and edits without losing a word", async () => {
    const ada = await stage.joins("Ada");
    // The composer alone, beside the page's own.
    const seen = await ada.evaluate<{ values: string[]; sent: unknown[] }>(`(async () => {
      const { Composer } = await import("/page/composer.js");
      const make = (tag) => document.body.appendChild(document.createElement(tag));
      const [text, form, modeEnd] = ["textarea", "form", "button"].map(make);
      const names = "options optionsStatus send keys counter hint mode modeWords".split(" ");
      const parts = Object.fromEntries(names.map((name) => [name, make("p")]));
      const values = [], sent = [];
      const composer = new Composer({ ...parts, form, text, modeEnd }, {
        onSubmit: (text, mode) => sent.push([text, mode]) > 0,
        onTyping: () => {},
        onMode: () => {},
        onEditLast: () => {},
        names: () => [],
      });
      const draftsOf = (kept = new Map()) => ({
        get: (to) => kept.get(to) ?? "",
        set: (to, text) => kept.set(to, text),
      });
      const type = (words) => {
        text.value = words;
        text.dispatchEvent(new Event("input"));
      };
      const look = () => values.push(text.value);
      const [one, two] = [draftsOf(), draftsOf()];
      composer.use(one);
      type("in one");
      composer.edit("7", "old");
      type("edited");
      composer.use(two);
      look();
      type("in two");
      composer.use(one);
      look();
      composer.edit("7", "old");
      look();
      modeEnd.click();
      look();
      composer.reply({ id: "8", author: "Grace", text: "what?\\nwhere?" });
      look();
      values.push(parts.modeWords.textContent);
      form.dispatchEvent(new Event("submit", { cancelable: true }));
      look();
      composer.use(two);
      look();
      return { values, sent };
    })()`);
    assertEquals(seen.values, [
      "",
      "edited",
      "edited",
      "in one",
      "in one",
      "Reply to Grace what?",
      "",
      "in two",
    ]);
    const reply = { type: "reply", id: "8", author: "Grace", text: "what?\nwhere?" };
    assertEquals(seen.sent, [["in one", reply]]);
  });

  it("breaks the line with Enter on a touch screen, and sends by the button", async () => {
    const ada = await stage.joins("Ada", PHONE);
    assertEquals(await box(ada).getAttribute("enterkeyhint"), "enter");
    await box(ada).fill("one");
    await box(ada).press("Enter");
    await box(ada).pressSequentially("two");
    await ada.getByRole("button", { name: "Send", exact: true }).tap();
    await sees(ada, "two");
    assertEquals(await texts(ada), ["one\ntwo"]);
    assert(await box(ada).evaluate((element) => element.matches(":focus")));
    await box(ada).fill("three");
    await box(ada).press("Control+Enter");
    await sees(ada, "three");
    const desk = await stage.joins("Grace");
    assertEquals(await box(desk).getAttribute("enterkeyhint"), "send");
  });

  it("completes names and commands by keyboard", async () => {
    const ada = await stage.joins("Ada", { bypassCSP: true });
    await using grace = await stage.friend("Grace Hopper");
    await using _other = await stage.friend("Grace");
    await seesName(ada, "Grace");
    await box(ada).pressSequentially("hello @gra");
    await offers(ada, "Grace", "Grace Hopper");
    assertEquals(await chosen(ada), "Grace");
    await check(ada);
    await box(ada).press("ArrowDown");
    assertEquals(await chosen(ada), "Grace Hopper");
    await box(ada).press("Enter");
    assertEquals(await box(ada).inputValue(), "hello @Grace Hopper ");
    await offers(ada);
    await box(ada).press("Enter");
    await grace.nextOf("chat", ({ content }) => content === "hello @Grace Hopper");
    await box(ada).pressSequentially("/ms");
    await box(ada).press("Tab");
    await offers(ada, "Grace", "Grace Hopper");
    await box(ada).pressSequentially("hop");
    await box(ada).press("Tab");
    await box(ada).pressSequentially("psst");
    assertEquals(await box(ada).inputValue(), '/msg "Grace Hopper" psst');
    await box(ada).press("Enter");
    await grace.nextOf("dm", ({ content }) => content === "psst");
  });

  it("closes its suggestions first, and opens none for pasted or composed text", async () => {
    const ada = await stage.joins("Ada");
    await using _grace = await stage.friend("Grace");
    await seesName(ada, "Grace");
    await whisperTo(ada, "Grace");
    await box(ada).pressSequentially("@g");
    await offers(ada, "Grace");
    await box(ada).press("Escape");
    await offers(ada);
    assertStringIncludes(await ada.locator("#mode-words").innerText(), "Only to Grace");
    await box(ada).press("Escape");
    assertEquals(await box(ada).inputValue(), "");
    await paste(ada, "@g");
    await offers(ada);
    await box(ada).pressSequentially("r");
    await offers(ada, "Grace");
    await box(ada).dispatchEvent("keydown", { key: "Enter", isComposing: true });
    assertEquals(await box(ada).inputValue(), "@gr");
    await box(ada).press("Home");
    await offers(ada);
    await box(ada).fill("meet @");
    await offers(ada, "Grace");
    await box(ada).press("Enter");
    await sees(ada, "meet @");
  });

  for (const colorScheme of ["light", "dark"] as const) {
    it(`completes by touch, in ${colorScheme}`, async () => {
      const ada = await stage.joins("Ada", { ...PHONE, colorScheme, bypassCSP: true });
      await using _friends = await crowd("Grace Hopper", "Grace", "Graham", "أحمد علي");
      await seesName(ada, "أحمد علي");
      await box(ada).tap();
      await box(ada).pressSequentially("@");
      await offers(ada, "Grace", "Grace Hopper", "Graham", "أحمد علي");
      await box(ada).pressSequentially("gra");
      await shoot(ada, `phone_completion_${colorScheme}`);
      await check(ada);
      await ada.getByRole("option", { name: "Grace Hopper" }).tap();
      assertEquals(await box(ada).inputValue(), "@Grace Hopper ");
      assert(await box(ada).evaluate((element) => element.matches(":focus")));
    });

    it(`has a picture in ${colorScheme}`, async () => {
      const ada = await stage.joins("Ada", { colorScheme, bypassCSP: true });
      await using _friends = await crowd("Grace Hopper", "Grace", "أحمد علي");
      await seesName(ada, "أحمد علي");
      await says(ada, "Good morning");
      await box(ada).pressSequentially("/");
      await offers(ada, "/me waves", "/msg NAME text", "/nick NAME", "/say /text", "/help");
      await shoot(ada, `completion_commands_${colorScheme}`);
      await check(ada);
      await box(ada).fill("@gra");
      await shoot(ada, `completion_${colorScheme}`);
      await ada.getByRole("option", { name: "Grace Hopper" }).click();
      await ada.keyboard.type("hello");
      assertEquals(await box(ada).inputValue(), "@Grace Hopper hello");
      await box(ada).fill("");
      await box(ada).press("ArrowUp");
      await box(ada).fill(`z${"\u0351\u0353\u0354".repeat(40)}algo`);
      await shoot(ada, `editing_${colorScheme}`);
      await check(ada);
    });
  }

  it("shows the chosen option in forced colours", async () => {
    const ada = await stage.joins("Ada", { forcedColors: "active" });
    await using grace = await stage.friend("Grace");
    await tells(grace, "are you there, Ada?");
    await tells(grace, "hello?");
    await sees(ada, "hello?");
    await box(ada).pressSequentially("/m");
    await shoot(ada, "forced_colours_completion");
    const look = (selector: string) =>
      ada.evaluate<string>(`(({ backgroundColor, borderColor, borderWidth }) =>
        [backgroundColor, borderColor, borderWidth].join())(
          getComputedStyle(document.querySelector(${JSON.stringify(selector)})))`);
    assert(await look("[aria-selected=true]") !== await look("[aria-selected=false]"));
    assert(await look(".mention .bubble") !== await look(".message:not(.mention) .bubble"));
    const ready = await look(".send");
    await box(ada).fill("");
    assert(await look(".send") !== ready);
    await ada.getByRole("button", { name: "More" }).click();
    await shoot(ada, "forced_colours_menu");
    assert(
      await look(".theme label:has(:checked)") !== await look(".theme label:not(:has(:checked))"),
    );
  });

  it("accepts dropped text and no files, anywhere, and stays on the page", async () => {
    const ada = await stage.joins("Ada");
    const url = ada.url();
    for (const target of ["#text", "#log", "header", "#people"]) {
      await box(ada).fill("x");
      await box(ada).fill("");
      assert(await drop(ada, target, true), target);
      await ada.getByText("Hubbub sends text only.").waitFor();
    }
    assert(!await drop(ada, "#text", false));
    assert(await drop(ada, "#log", false));
    await paste(ada, "words", true);
    assertEquals(await box(ada).inputValue(), "words");
    await paste(ada, "", true);
    await ada.getByText("Hubbub sends text only.").waitFor();
    assertEquals(await box(ada).inputValue(), "words");
    assertEquals(ada.url(), url);
  });

  it("explains its keys until the first message", async () => {
    const ada = await stage.joins("Ada");
    assert(await ada.getByText("starts a new line").isVisible());
    await writes(ada, "/frob");
    await ada.getByText("There is no /frob").waitFor();
    await says(ada, "hello");
    assertEquals(await ada.getByText("starts a new line").count(), 0);
    await ada.reload();
    await reaches(ada, "live");
    assertEquals(await ada.getByText("starts a new line").count(), 0);
  });

  it("reports waiting messages in one line, and moves nothing", async () => {
    await stage.restart({ MESSAGE_RATE: "10" });
    const ada = await stage.joins("Ada", { bypassCSP: true });
    await ada.evaluate(`
      globalThis.shift = 0;
      new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) shift += entry.value;
      }).observe({ type: "layout-shift", buffered: true });
      globalThis.said = [];
      new MutationObserver(() => said.push(document.querySelector("#trouble-words").textContent))
        .observe(document.querySelector("#trouble-words"), { childList: true });`);
    await ada.evaluate(`for (let n = 1; n <= 60; n++) {
      text.value = "message " + n;
      text.dispatchEvent(new Event("input"));
      text.form.requestSubmit();
    }`);
    await ada.locator("#trouble-words", { hasText: "Slow down" }).waitFor();
    await shoot(ada, "too_fast");
    await check(ada);
    assertEquals(await ada.getByText("Waiting to be sent").filter({ visible: true }).count(), 0);
    await ada.locator("#trouble-words:empty").waitFor({ state: "attached" });
    await ada.locator('.message:not([data-status="sent"])').first().waitFor({ state: "detached" });
    assertEquals((await ada.evaluate<string[]>("said")).length, 2);
    const shift = await ada.evaluate<number>("shift");
    assert(shift < 0.02, `The page moved by ${shift}.`);
  });

  it("can be joined on a phone in landscape, and on the narrowest one", async () => {
    for (const [name, size] of Object.entries({ landscape: LANDSCAPE, narrow: NARROW })) {
      const ada = await stage.visit(size);
      await painted(ada);
      await shoot(ada, `join_${name}`);
      await ada.getByLabel("Your name").fill(`Ada ${name}`);
      const join = ada.getByRole("button", { name: "Join", exact: true });
      const { width, height } = size.viewport;
      const { x, y, ...button } = (await join.boundingBox())!;
      assert(x >= 0 && y >= 0 && x + button.width <= width && y + button.height <= height);
      assertEquals(await ada.evaluate("document.documentElement.scrollWidth"), width);
      await join.tap();
      await reaches(ada, "live");
      await box(ada).pressSequentially("/");
      await shoot(ada, `completion_${name}`);
      const list = (await ada.getByRole("listbox").boundingBox())!;
      assert(list.y >= 0 && list.x >= 0 && list.x + list.width <= width);
    }
  });

  it("keeps piled-up marks inside the box", async () => {
    const ada = await stage.joins("Ada", NARROW);
    await box(ada).fill(`z${"\u0351".repeat(300)}algo ${"w".repeat(300)}`);
    assertEquals(await box(ada).getAttribute("dir"), "auto");
    assertEquals(await ada.evaluate("document.documentElement.scrollWidth"), 320);
    assertEquals(await ada.evaluate("getComputedStyle(text).overflow"), "auto");
    await shoot(ada, "zalgo");
  });

  /** Opens the private conversation with a person. */
  async function whisperTo(page: Page, name: string): Promise<void> {
    await page.getByRole("button", { name: `Write privately to ${name}` }).click();
  }

  async function seesName(page: Page, name: string): Promise<void> {
    await page.locator("#people-list .name").getByText(name, { exact: true }).waitFor({
      state: "attached",
    });
  }

  /** Waits until these are the suggestions. */
  async function offers(page: Page, ...labels: string[]): Promise<void> {
    await until(
      page,
      `[...document.querySelectorAll("#options bdi")]
      .map((label) => label.textContent).join() === ${JSON.stringify(labels.join())}`,
    );
    assertEquals(await page.locator("#options").isVisible(), labels.length > 0);
  }

  /** The active option for screen readers. */
  async function chosen(page: Page): Promise<string> {
    return await page.evaluate<string>(
      "document.getElementById(text.getAttribute('aria-activedescendant') ?? '')?.textContent",
    );
  }

  /** People in the room until disposed of. */
  async function crowd(...names: string[]): Promise<AsyncDisposable> {
    const friends: V1Client[] = [];
    for (const name of names) friends.push(await stage.friend(name));
    return {
      [Symbol.asyncDispose]: async () => {
        for (const friend of friends) await friend.close();
      },
    };
  }

  /** Drops a file or a text; returns whether the page prevented the browser's default. */
  async function drop(page: Page, target: string, isFile: boolean): Promise<boolean> {
    return await page.evaluate<boolean>(`(() => {
      const dataTransfer = new DataTransfer();
      if (${isFile}) dataTransfer.items.add(new File(["x"], "x.png", { type: "image/png" }));
      else dataTransfer.setData("text/plain", "words");
      return ["dragover", "drop"].every((type) =>
        !document.querySelector("${target}").dispatchEvent(
          new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer })));
    })()`);
  }

  /** Pastes a text into the box, a file, or both. */
  async function paste(page: Page, words: string, withFile = false): Promise<void> {
    await page.evaluate(`(() => {
      const clipboardData = new DataTransfer();
      if (${withFile}) clipboardData.items.add(new File(["x"], "x.png", { type: "image/png" }));
      if ("${words}") clipboardData.setData("text/plain", "${words}");
      const init = { bubbles: true, cancelable: true };
      // Browsers insert nothing for a scripted event: this does it in their place.
      if (!text.dispatchEvent(new ClipboardEvent("paste", { ...init, clipboardData }))) return;
      text.focus();
      text.setRangeText("${words}", text.selectionStart, text.selectionEnd, "end");
      text.dispatchEvent(new InputEvent("input", { ...init, inputType: "insertFromPaste" }));
    })()`);
  }
});
