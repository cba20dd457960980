/** The looks of the page: pictures of every main state for people to judge, each checked by axe. */

import { assertEquals } from "@std/assert";
import { it } from "@std/testing/bdd";
import type { Page } from "npm:playwright-core@^1";
import {
  box,
  check,
  describePage,
  enter,
  people,
  PHONE,
  says,
  sees,
  shoot as takePicture,
  writes,
} from "../support/chromium.ts";
import { V1Client } from "../support/v1_client.ts";

const PATH = "/r/book-club";
const CONVERSATION: [name: string, text: string][] = [
  ["Grace", "I finished the last two chapters on the train"],
  ["Grace", "No spoilers, but the ending is not what I expected"],
  ["Linus", "I am still at chapter nine. Give me until Thursday"],
  ["Ada", "Thursday works for me. Same place?"],
  ["Grace", "Yes. They close at eight: https://example.org/library/hours"],
  ["Ada", "Then let us meet at six"],
  ["Ada", "I will bring the tea"],
  ["Linus", "/me puts the book into the bag for once"],
  ["Grace", "@Ada could you bring the umbrella too? Somebody left it last time"],
];

describePage("the looks of the page", (stage) => {
  for (const colorScheme of ["light", "dark"] as const) {
    it(`has pictures in ${colorScheme}, and passes axe`, async () => {
      const ada = await stage.visit({ path: PATH, colorScheme, bypassCSP: true });
      const shoot = async (name: string) => {
        await takePicture(ada, `${name}_${colorScheme}`);
        await check(ada);
      };
      await ada.getByLabel("Your name").press("Enter");
      await shoot("join");
      await enter(ada, "Ada");
      await ada.getByRole("heading", { name: "No messages yet" }).waitFor();
      await shoot("empty");
      await using grace = await V1Client.join(stage.server.ws, "book-club", "Grace");
      await using linus = await V1Client.join(stage.server.ws, "book-club", "Linus");
      await converse(ada, { Grace: grace, Linus: linus });
      await shoot("chat");
      linus.send({ type: "typing", active: true });
      await ada.getByText("Linus is typing…").waitFor();
      await ada.locator(".own .bubble").last().hover();
      await shoot("tools");
      await ada.getByRole("button", { name: "Write privately to Grace" }).click();
      await says(ada, "Between us: did you like it?");
      grace.send({ type: "dm", to: "Ada", content: "I cried. Do not tell Linus" });
      await sees(ada, "I cried");
      await shoot("private_message");
      await ada.getByRole("button", { name: "Back to the room" }).click();
      await writes(ada, "/help");
      await writes(ada, "/mesg");
      await shoot("help");
      await box(ada).fill("");
      await ada.getByRole("button", { name: "More" }).click();
      await shoot("menu");
      await ada.getByRole("button", { name: "Change name or room" }).click();
      await shoot("switch");
      await ada.getByRole("button", { name: "Stay in this room" }).click();
      await box(ada).press("ArrowUp");
      await shoot("edit");
      await box(ada).press("Escape");
      await ada.locator(".own .bubble").first().hover();
      await ada.locator(".own").first().getByRole("button", { name: "Delete" }).click();
      await shoot("delete");
      await ada.getByRole("button", { name: "Delete", exact: true }).click();
      await sees(ada, "Message deleted");
      await writes(ada, "/msg Nobody are you there?");
      await ada.getByText("Not sent.").waitFor();
      await box(ada).fill("x".repeat(4100));
      await shoot("failed");
      await box(ada).fill("");
      await stage.server.stop();
      await ada.getByText("The connection was lost").waitFor();
      await writes(ada, "This goes out when the train leaves the tunnel");
      await sees(ada, "This goes out");
      await ada.mouse.move(0, 0);
      await shoot("offline");
    });

    it(`has pictures on a phone in ${colorScheme}`, async () => {
      const ada = await stage.visit({ path: PATH, colorScheme, bypassCSP: true, ...PHONE });
      const shoot = async (name: string) => {
        await takePicture(ada, `phone_${name}_${colorScheme}`);
        await check(ada);
        const width = await ada.evaluate("document.documentElement.scrollWidth");
        assertEquals(width, PHONE.viewport.width);
      };
      await shoot("join");
      await enter(ada, "Ada");
      await using grace = await V1Client.join(stage.server.ws, "book-club", "Grace");
      await using linus = await V1Client.join(stage.server.ws, "book-club", "Linus");
      await converse(ada, { Grace: grace, Linus: linus });
      await shoot("chat");
      await ada.locator(".own .bubble").last().tap();
      await shoot("tools");
      await ada.getByRole("button", { name: "People" }).tap();
      await shoot("people");
      await ada.getByRole("button", { name: "Write privately to Grace" }).tap();
      await says(ada, "Between us: did you like it?");
      await shoot("private_message");
      await ada.getByRole("button", { name: "Back to the room" }).tap();
      await ada.getByRole("button", { name: "More" }).tap();
      await shoot("menu");
      await ada.getByRole("button", { name: "New encrypted room" }).tap();
      await ada.getByRole("heading", { name: "This room is encrypted" }).waitFor();
      await shoot("encrypted_room");
      await ada.getByRole("button", { name: "Encrypted", exact: true }).tap();
      await shoot("privacy");
      await ada.getByRole("button", { name: "Good to know" }).tap();
      await ada.goto(ada.url().split("#")[0]!);
      await ada.reload();
      await ada.getByText("lacks the key").first().waitFor();
      await shoot("no_key");
    });
  }

  it("has a picture in forced colours", async () => {
    const ada = await stage.joins("Ada", { path: PATH, forcedColors: "active" });
    await using grace = await V1Client.join(stage.server.ws, "book-club", "Grace");
    await using linus = await V1Client.join(stage.server.ws, "book-club", "Linus");
    await converse(ada, { Grace: grace, Linus: linus });
    await ada.getByRole("button", { name: "Write privately to Grace" }).click();
    await says(ada, "psst");
    await takePicture(ada, "forced_colours");
    assertEquals(await people(ada), ["Ada", "Grace", "Linus"]);
  });

  /** The friends' messages come from clients, Ada's from her page. */
  async function converse(ada: Page, friends: Record<string, V1Client>): Promise<void> {
    for (const [name, text] of CONVERSATION) {
      if (name === "Ada") await says(ada, text);
      else await friends[name]!.ask({ type: "chat", content: text });
      await sees(ada, text.replace(/^\/me /, ""));
    }
    await ada.mouse.move(0, 0);
  }
});
