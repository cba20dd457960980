/** Encrypted rooms in a real browser: people with the link can read, others see that they cannot. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { it } from "@std/testing/bdd";
import type { Page } from "npm:playwright-core@^1";
import { createKey } from "../../public/cipher.js";
import {
  box,
  describePage,
  enter,
  reaches,
  says,
  sees,
  seesPeople,
  shoot,
  texts,
  writes,
} from "../support/chromium.ts";
import { V1Client } from "../support/v1_client.ts";

describePage("page, in an encrypted room", (stage) => {
  it("can be read with the link only", async () => {
    const ada = await stage.visit({ path: "/" });
    await ada.getByLabel("Your name").fill("Ada");
    await ada.getByRole("button", { name: "Start an encrypted room" }).click();
    await ada.getByRole("heading", { name: "This room is encrypted" }).waitFor();
    const { path, room } = linkOf(ada);
    await using spy = await V1Client.join(stage.server.ws, room, "Spy");
    await says(ada, "the plan");
    const grace = await stage.visit({ path });
    await grace.getByRole("heading", { name: "Join an encrypted room" }).waitFor();
    assertEquals(await grace.getByRole("textbox", { name: "Room" }).count(), 0);
    await enter(grace, "Grace");
    await sees(grace, "the plan");
    await writes(grace, "/msg Ada the secret");
    await sees(ada, "the secret");
    await says(grace, "/me agrees");
    await sees(ada, "Grace agrees");
    await box(ada).press("ArrowUp");
    await box(ada).fill("the new plan");
    await box(ada).press("Enter");
    await sees(grace, "the new plan");
    await shoot(grace, "encrypted_room");

    const eve = await stage.joins("Eve", { path: path.split("#")[0]! });
    await eve.getByText("Encrypted. Open the room with its whole link").first().waitFor();
    assert(await box(eve).isDisabled());
    await shoot(eve, "encrypted_room_without_key");
    const mallory = await stage.joins("Mallory", {
      path: `${path.split("#")[0]}#key=${createKey()}`,
    });
    await mallory.getByText("This message cannot be read").first().waitFor();
    await shoot(mallory, "encrypted_room_wrong_key");
    for (const page of [eve, mallory]) {
      assert(!/plan|secret|agrees|sealed/.test(await page.locator("body").innerText()));
    }

    await spy.ask({ type: "ping" });
    const heard = JSON.stringify(spy.events);
    assert(!/plan|secret|agrees/.test(heard));
    assert(!heard.includes(linkOf(ada).key) && heard.includes("sealed.2."));
    assert(!JSON.stringify(stage.server.log).includes(linkOf(ada).key));
    // A reload shows everything again, and no sealed text is ever sent in the clear.
    await grace.reload();
    await reaches(grace, "live");
    await sees(grace, "Grace agrees");
    assertEquals(await texts(grace), ["the new plan", "the secret", "Grace agrees"]);
    assertEquals(await grace.getByText("not encrypted").count(), 0);
  });

  it("marks texts that were not sealed, or were tampered with", async () => {
    const ada = await stage.joins("Ada");
    await ada.getByRole("button", { name: "More" }).click();
    await ada.getByRole("button", { name: "New encrypted room" }).click();
    await ada.getByRole("heading", { name: "This room is encrypted" }).waitFor();
    const { room } = linkOf(ada);
    assertMatch(room, /^private-[a-z2-7]{16}$/);
    await using spy = await V1Client.join(stage.server.ws, room, "Spy");
    await says(ada, "hello");
    const { content } = await spy.nextOf("chat");
    await spy.ask({ type: "chat", content: "I have no key" });
    await ada.locator(".message", { hasText: "I have no key" }).getByText("not encrypted")
      .waitFor();
    for (const forged of [content, content.slice(0, -1), "sealed.1.", "sealed.9.AAAA"]) {
      await spy.ask({ type: "chat", content: forged });
    }
    await ada.getByText("This message cannot be read").nth(3).waitFor();
    assertEquals((await ada.locator("body").innerText()).includes("sealed"), false);
    await shoot(ada, "encrypted_room_tampered");
  });

  it("limits a text to its sealed size, and sends texts written offline", async () => {
    const ada = await stage.visit({ path: "/" });
    await ada.getByLabel("Your name").fill("Ada");
    await ada.getByRole("button", { name: "Start an encrypted room" }).click();
    await ada.getByRole("heading", { name: "This room is encrypted" }).waitFor();
    await box(ada).fill("x".repeat(3038));
    await ada.getByText("1 byte too long").waitFor();
    await box(ada).fill("x".repeat(3037));
    await box(ada).press("Enter");
    await ada.locator('[data-status="sent"]').waitFor();
    const { path } = linkOf(ada);
    await stage.server.stop();
    await reaches(ada, "reconnecting");
    await writes(ada, "one");
    await writes(ada, "two");
    await stage.restart();
    const grace = await stage.joins("Grace", { path });
    await ada.evaluate("dispatchEvent(new Event('online'))");
    await sees(grace, "two");
    await seesPeople(ada, "Ada", "Grace");
    assertEquals(await texts(grace), ["one", "two"]);
  });

  it("leaves no trace of the key when the person goes to an open room", async () => {
    const ada = await stage.visit({ path: `/r/tea#key=${createKey()}` });
    await enter(ada, "Ada");
    await says(ada, "sealed in tea");
    await ada.getByRole("button", { name: "More" }).click();
    await ada.getByRole("button", { name: "Change name or room" }).click();
    await ada.getByRole("textbox", { name: "Room" }).fill("coffee");
    await ada.getByRole("button", { name: "Join", exact: true }).click();
    await ada.getByRole("heading", { name: "coffee" }).waitFor();
    assertEquals(new URL(ada.url()).hash, "");
    await says(ada, "in the open");
    await ada.goBack();
    await sees(ada, "sealed in tea");
    assertEquals(await texts(ada), ["sealed in tea"]);
  });
});

/** The address of an encrypted room. */
function linkOf(page: Page): { path: string; room: string; key: string } {
  const { pathname, hash } = new URL(page.url());
  const [, room] = /^\/r\/([^/]+)$/.exec(pathname)!;
  return { path: pathname + hash, room: room!, key: hash.slice("#key=".length) };
}
