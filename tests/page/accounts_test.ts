/** Accounts on the page, and the actions of owners, admins and moderators. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { it } from "@std/testing/bdd";
import type { Page } from "npm:playwright-core@^1";
import {
  box,
  check,
  describePage,
  enter,
  NARROW,
  people,
  PHONE,
  reaches,
  says,
  sees,
  seesPeople,
  shoot,
  tells,
  texts,
  type VisitOptions,
  WIDE,
  writes,
} from "../support/chromium.ts";
import { Line } from "../support/line.ts";
import { call, cookieName, PASSWORD, register, signIn, signUp } from "../support/people.ts";
import { TEST_ENV } from "../support/server.ts";
import { V1Client } from "../support/v1_client.ts";

describePage("page, with accounts", (stage) => {
  it("creates an account and signs in, stays signed in over a reload, and signs out", async () => {
    const ada = await stage.visit({ path: "/r/tea" });
    await ada.getByRole("button", { name: "Create an account" }).click();
    await fill(ada, "Ada", "short");
    await ada.getByRole("button", { name: "Create account", exact: true }).click();
    await ada.locator("#password-error", { hasText: "8 to 256" }).waitFor();
    assertEquals(await ada.getByLabel("Password").getAttribute("aria-invalid"), "true");
    await fill(ada, "Ada", PASSWORD);
    await ada.getByLabel("Password").press("Enter");
    await isIn(ada);
    await says(ada, "Good morning");
    await ada.reload();
    await reaches(ada, "live");
    await sees(ada, "Good morning");
    const kept = await ada.evaluate<string>(
      "JSON.stringify([localStorage, sessionStorage, document.cookie])",
    );
    const [cookie] = (await ada.context().cookies()).filter(({ name }) =>
      name === cookieName(stage.server, "session")
    );
    assert(cookie!.httpOnly && !kept.includes(cookie!.value));
    // For another room the dialog asks for no name.
    await ada.goto(`${stage.server.url}/r/cake`);
    await ada.locator("#join-me", { hasText: "Signed in as Ada" }).waitFor();
    assertEquals(await ada.getByLabel("Your name").isVisible(), false);
    await ada.getByRole("button", { name: "Join", exact: true }).click();
    await isIn(ada);
    assertEquals(await people(ada), ["Ada"]);
    const tab = await stage.openTab(ada.context(), `${stage.server.url}/r/cake`);
    await tab.getByRole("button", { name: "Join", exact: true }).click();
    await isIn(tab);
    await ada.getByRole("button", { name: "More" }).click();
    await ada.locator("#me", { hasText: "Signed in as Ada" }).waitFor();
    await ada.getByRole("button", { name: "Sign out" }).click();
    await ada.getByRole("heading", { name: "You are signed out" }).waitFor();
    assertEquals(await ada.getByLabel("Your name").inputValue(), "");
    // The next person finds nothing of hers.
    assertEquals(await ada.locator("#rooms-list a").count(), 0);
    assertEquals(await texts(ada), []);
    assert(!/tea|cake|Ada/.test(await ada.evaluate<string>("localStorage['hubbub.rooms']")));
    // The other tab had the same session.
    await tab.locator("#account-reason", { hasText: "session has ended" }).waitFor();
    assertEquals(await tab.getByLabel("Name", { exact: true }).inputValue(), "Ada");
    await enter(ada, "Somebody");
  });

  it("hides an account's unsent texts from everybody, and sends them at its next sign-in", async () => {
    await using line = new Line(stage.server.port);
    await signUp(stage.server, "Ada");
    const page = await stage.visit({ path: "/r/tea", url: line.url });
    const signsIn = async () => {
      await page.getByRole("button", { name: "Sign in", exact: true }).click();
      await page.getByLabel("Password").waitFor();
      await fill(page, "Ada", PASSWORD);
      await page.getByLabel("Password").press("Enter");
      await isIn(page);
    };
    await signsIn();
    await page.evaluate("dispatchEvent(new Event('offline'))");
    line.cut();
    await reaches(page, "reconnecting");
    await writes(page, "between Ada and the tea");
    await box(page).fill("half a thought");
    await page.getByRole("button", { name: "More" }).click();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByText("wait until you sign in again").waitFor();
    // Only the sign-out reaches the server: over a mended line, the texts might leave before it.
    await page.route("**/api/**", async (route) => {
      const { host, pathname } = new URL(route.request().url());
      const headers = { ...await route.request().allHeaders(), host };
      const url = stage.server.url + pathname;
      await route.fulfill({ response: await route.fetch({ url, headers }) });
    });
    await page.getByRole("button", { name: "Leave", exact: true }).click();
    await page.getByRole("heading", { name: "You are signed out" }).waitFor();
    await page.unroute("**/api/**");
    line.mend();
    await enter(page, "Somebody");
    assertEquals([await texts(page), await box(page).inputValue()], [[], ""]);
    await page.getByRole("button", { name: "More" }).click();
    await signsIn();
    await page.locator('.message[data-status="sent"]').waitFor();
    await using reader = await V1Client.join(stage.server.ws, "tea", "Reader");
    const { content, username } = await reader.nextOf("chat");
    assertEquals([content, username], ["between Ada and the tea", "Ada"]);
  });

  it("explains a bad name or password, and how long to wait", async () => {
    await stage.restart({ AUTH_RATE_PER_ADDRESS: "4" });
    await signUp(stage.server, "Ada");
    const page = await stage.visit();
    await page.getByRole("button", { name: "Sign in" }).click();
    const password = page.getByLabel("Password");
    await password.waitFor();
    await page.getByRole("button", { name: "Sign in" }).click();
    assertEquals(await page.locator("#account-name-error").innerText(), "Type your name.");
    await fill(page, "Ada", "wrong horse battery");
    await password.press("Enter");
    await page.locator("#password-error:not(:empty)").waitFor();
    assertEquals(
      await page.locator("#password-error").innerText(),
      "The name or the password is wrong.",
    );
    await page.locator("#password:focus").waitFor();
    assertEquals(await password.getAttribute("autocomplete"), "current-password");
    await shoot(page, "wrong_password");
    await page.getByRole("button", { name: "Create an account" }).click();
    assertEquals(await password.getAttribute("autocomplete"), "new-password");
    await fill(page, "ada", PASSWORD);
    await password.press("Enter");
    await page.locator("#account-name-error", { hasText: "An account has this name" }).waitFor();
    await password.press("Enter");
    await page.locator("#account-error:not(:empty)").waitFor();
    assertMatch(await page.locator("#account-error").innerText(), /Wait 1?\d seconds\.$/);
    await page.getByRole("button", { name: "Continue without an account" }).click();
    await enter(page, "Grace");
  });

  it("tells a guest that a name belongs to an account, and offers to sign in", async () => {
    const ada = await stage.joins("Ada", { path: "/r/tea" });
    await register(stage.server, "Ada");
    await ada.locator("#account-reason", { hasText: "belongs to an account" }).waitFor();
    await ada.getByRole("button", { name: "Continue without an account" }).click();
    await ada.getByLabel("Your name").fill("ada");
    await ada.getByLabel("Your name").press("Enter");
    await ada.locator("#account-reason", { hasText: "belongs to an account. Sign in" }).waitFor();
    assertEquals(await ada.getByLabel("Name", { exact: true }).inputValue(), "ada");
    await ada.getByLabel("Password").fill(PASSWORD);
    await ada.getByLabel("Password").press("Enter");
    await isIn(ada);
    assertEquals(await people(ada), ["Ada"]);
    assertEquals(new URL(ada.url()).pathname, "/r/tea");
  });

  it("turns a guest into an account of the same name without leaving the room", async () => {
    const ada = await stage.joins("Ada", { path: "/r/tea" });
    await says(ada, "as a guest");
    await ada.getByRole("button", { name: "More" }).click();
    await ada.getByRole("button", { name: "Sign in" }).click();
    await ada.getByRole("button", { name: "Create an account" }).click();
    await fill(ada, "Ada", PASSWORD);
    await ada.getByLabel("Password").press("Enter");
    await isIn(ada);
    await says(ada, "with an account");
    assertEquals(await texts(ada), ["as a guest", "with an account"]);
    await seesPeople(ada, "Ada");
  });

  it("asks everyone to sign in with GUESTS=off", async () => {
    await stage.restart({ GUESTS: "off" });
    const page = await stage.visit({ path: "/r/tea" });
    await page.getByText("You need an account to use this server.").waitFor();
    assertEquals(await page.getByLabel("Your name").isVisible(), false);
    assertEquals(
      await page.getByRole("button", { name: "Continue without an account" }).isVisible(),
      false,
    );
    await shoot(page, "no_guests");
    await page.getByRole("button", { name: "Create an account" }).click();
    await fill(page, "Ada", PASSWORD);
    await page.getByLabel("Password").press("Enter");
    await isIn(page);
    await page.getByRole("button", { name: "More" }).click();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByRole("heading", { name: "Sign in" }).waitFor();
  });

  it("makes a room private: removed strangers see the reason, members reconnect", async () => {
    const token = await signUp(stage.server, "Ada");
    await call(stage.server, "PUT", "/api/rooms/tea", { body: { private: false }, token });
    const ada = await signsIn("Ada", { path: "/r/tea" }, false);
    await signUp(stage.server, "Grace");
    const stranger = await stage.joins("Stranger", { path: "/r/tea" });
    await ada.getByRole("button", { name: "More" }).click();
    await ada.getByRole("button", { name: "Room settings" }).click();
    await ada.getByLabel("Private: members only").check();
    await ada.getByLabel("Members", { exact: true }).fill("grace\nNobody");
    await ada.getByRole("button", { name: "Save" }).click();
    await ada.getByText("There is no account with the name Nobody.").waitFor();
    await ada.getByLabel("Members", { exact: true }).fill("grace");
    await ada.getByRole("button", { name: "Save" }).click();
    await stranger.getByRole("heading", { name: "You are no longer in tea" }).waitFor();
    const why = stranger.locator("#join-reason");
    assertEquals(
      await why.innerText(),
      "This room is private. Ask its owner to let you in.",
    );
    await reaches(stranger, "refused");
    await shoot(stranger, "let_go");
    await stranger.getByRole("button", { name: "Join", exact: true }).click();
    await why.getByText("This room is private.").waitFor();
    await ada.getByRole("button", { name: "Private", exact: true }).click();
    await ada.locator("#room-settings[open]").waitFor();
    assertEquals(await ada.getByLabel("Members", { exact: true }).inputValue(), "grace");
    await ada.getByRole("button", { name: "Cancel" }).click();
    const grace = await signsIn("Grace", { path: "/r/tea" }, false);
    await grace.getByRole("button", { name: "Private", exact: true }).click();
    await grace.getByText("Only members can join.").waitFor();
    await grace.getByRole("button", { name: "More" }).click();
    assertEquals(await grace.getByRole("button", { name: "Room settings" }).count(), 0);
    assertEquals(await grace.locator("#people-list .tool").count(), 0);
  });

  it("shows a room's owner and moderators, lets an account take a free room, and name moderators", async () => {
    await signUp(stage.server, "Zoë");
    const ada = await signsIn("Ada", { path: "/r/tea" });
    await opensAbout(ada, "About this room");
    assertEquals(await facts(ada), ["Owner: Nobody", "Moderators: None", "Open to: Everyone"]);
    await ada.getByRole("button", { name: "Take this room" }).click();
    await ada.getByRole("heading", { name: "Room settings" }).waitFor();
    assertEquals(await facts(ada), ["Owner: Ada"]);
    assertEquals(await ada.getByLabel("Private: members only").isChecked(), false);
    await ada.getByText("This room is yours now").waitFor();
    await ada.getByLabel("Moderators").fill("zoë\nNobody");
    await ada.getByRole("button", { name: "Save" }).click();
    await ada.getByText("There is no account with the name Nobody.").waitFor();
    await ada.getByLabel("Moderators").fill("zoë");
    await ada.getByRole("button", { name: "Save" }).click();
    await ada.getByText("Room settings saved").waitFor();
    // Moderators, other accounts and guests can read the settings.
    const zoe = await signsIn("Zoë", { path: "/r/tea" }, false);
    const grace = await signsIn("Grace", { path: "/r/tea" });
    const guest = await stage.joins("Guest", { path: "/r/tea" });
    for (const page of [zoe, grace, guest]) {
      await opensAbout(page, "About this room");
      assertEquals(await facts(page), ["Owner: Ada", "Moderators: Zoë", "Open to: Everyone"]);
      assertEquals(await page.locator("#room-settings").getByRole("button").allInnerTexts(), [
        "Close",
      ]);
      assertEquals(
        await page.locator("#room-settings :is(input, textarea)").first().isVisible(),
        false,
      );
    }
    await opensAbout(ada, "Room settings");
    assertEquals(await ada.getByLabel("Moderators").inputValue(), "Zoë");
  });

  it("explains that a room in use, or the lobby, cannot be taken", async () => {
    await using bob = await V1Client.join(stage.server.ws, "tea", "Bob");
    await tells(bob, "hello");
    const ada = await signsIn("Ada", { path: "/r/tea" });
    await opensAbout(ada, "About this room");
    await ada.getByRole("button", { name: "Take this room" }).click();
    await ada.locator("#room-settings-error", { hasText: "This room is in use." }).waitFor();
    await ada.getByRole("button", { name: "Cancel" }).click();
    const grace = await signsIn("Grace", { path: "/r/lobby" });
    await opensAbout(grace, "About this room");
    assertEquals(await grace.getByRole("button", { name: "Take this room" }).isVisible(), false);
  });

  it("has dialogs that return the focus, fit a small screen, and leave a toast visible", async () => {
    const ada = await signsIn("Ada", { path: "/r/tea" });
    await opensAbout(ada, "About this room");
    await ada.keyboard.press("Escape");
    await ada.locator("#room-settings").waitFor({ state: "hidden" });
    await ada.locator("[popovertarget=menu]:focus").waitFor();
    await opensAbout(ada, "About this room");
    await ada.getByRole("button", { name: "Take this room" }).click();
    await ada.getByText("This room is yours now").waitFor();
    // The toast is painted above the dialog: without it, the picture differs.
    const toast = ada.locator("#toast");
    const clip = (await toast.boundingBox())!;
    const withToast = await ada.screenshot({ clip });
    await ada.evaluate("document.getElementById('toast').style.visibility = 'hidden'");
    assert(!withToast.equals(await ada.screenshot({ clip })));
    await shoot(ada, "room_taken");
    await ada.getByLabel("Private: members only").check();
    for (const viewport of [NARROW.viewport, { width: 640, height: 320 }]) {
      await ada.setViewportSize(viewport);
      const save = ada.getByRole("button", { name: "Save" });
      await save.scrollIntoViewIfNeeded();
      const { x, y, width, height } = (await save.boundingBox())!;
      assert(x >= 0 && x + width <= viewport.width, `${x} ${width}`);
      assert(y >= 0 && y + height <= viewport.height, `${y} ${height}`);
      assert(
        await ada.evaluate(`(() => {
        const dialog = document.getElementById("room-settings");
        return dialog.scrollWidth <= dialog.clientWidth;
      })()`),
      );
      await shoot(ada, `room_settings_${viewport.width}`);
    }
  });

  it("removes and bans people, with a reason, and lifts bans", async () => {
    const token = await signUp(stage.server, "Ada");
    await call(stage.server, "PUT", "/api/rooms/tea", { body: { private: false }, token });
    const ada = await signsIn("Ada", { path: "/r/tea" }, false);
    const bob = await stage.joins("Bob", { path: "/r/tea" });
    await ada.locator("#people-list li").last().hover();
    await ada.getByRole("button", { name: "Remove Bob" }).click();
    await ada.getByLabel("Reason").fill("spam");
    await ada.getByRole("button", { name: "Remove", exact: true }).click();
    await ada.getByText("Bob was removed").waitFor();
    await ada.locator("#log:focus").waitFor();
    await bob.locator("#join-reason", { hasText: "You were removed from this room: spam." })
      .waitFor();
    await reaches(bob, "refused");
    await seesPeople(ada, "Ada");
    await enter(bob, "Bob");
    await ada.getByRole("button", { name: "Remove Bob" }).click();
    await ada.getByLabel("Ban: they").check();
    await ada.getByRole("button", { name: "Remove", exact: true }).click();
    await bob.locator("#join-reason", { hasText: "You were removed from this room." }).waitFor();
    await bob.getByRole("button", { name: "Join", exact: true }).click();
    await bob.locator("#join-reason", { hasText: "You are banned from this room." }).waitFor();
    await ada.getByRole("button", { name: "More" }).click();
    await ada.getByRole("button", { name: "Room settings" }).click();
    await ada.getByRole("checkbox", { name: "bob" }).check();
    await ada.getByRole("button", { name: "Save" }).click();
    await ada.getByText("Room settings saved").waitFor();
    await enter(bob, "Bob");
  });

  it("lets moderators delete messages of others", async () => {
    await stage.restart({ ADMINS: "root" });
    const root = await signsIn("root");
    await using bob = await stage.friend("Bob");
    await tells(bob, "something rude");
    await tells(bob, "something kind");
    await sees(root, "kind");
    const rude = root.locator(".message", { hasText: "rude" });
    await rude.hover();
    assertEquals(await rude.getByRole("button", { name: "Edit" }).count(), 0);
    await rude.getByRole("button", { name: "Delete" }).click();
    await root.locator("#ask").getByRole("button", { name: "Delete" }).click();
    await sees(root, "Message deleted");
    await bob.nextOf("message_deleted");
    assertEquals(await texts(root), ["Message deleted", "something kind"]);
    // Other people have no such button.
    const ada = await stage.joins("Ada");
    await ada.locator(".text", { hasText: "kind" }).hover();
    await ada.getByRole("button", { name: "Reply" }).waitFor();
    assertEquals(await ada.getByRole("button", { name: "Delete" }).count(), 0);
    assertEquals(await ada.locator("#people-list .tool").count(), 0);
  });

  it("asks to slow down, and sends the held messages later", async () => {
    await stage.restart({ MESSAGE_RATE: "1", MESSAGE_BURST: "2" });
    const ada = await stage.joins("Ada");
    const said = ["one", "two", "three", "four", "five"];
    for (const text of said) await writes(ada, text);
    await ada.locator("#trouble", { hasText: "Slow down a little." }).waitFor();
    await shoot(ada, "slow_down");
    await ada.locator('.message:not([data-status="sent"])').first().waitFor({ state: "detached" });
    await ada.locator("#trouble").waitFor({ state: "hidden" });
    assertEquals(await texts(ada), said);
    assertEquals(await ada.getByText("Not sent.").count(), 0);
  });

  it("passes axe, wide and narrow, in light and dark", async () => {
    await stage.restart({ ADMINS: "root" });
    const root = await stage.visit({ path: "/r/book-club", bypassCSP: true });
    const look = async (name: string) => {
      for (const colorScheme of ["light", "dark"] as const) {
        await root.emulateMedia({ colorScheme });
        await shoot(root, `${name}_${colorScheme}`);
        await check(root);
      }
      await root.setViewportSize(NARROW.viewport);
      assertEquals(await root.evaluate("document.documentElement.scrollWidth"), 320);
      await shoot(root, `phone_${name}_dark`);
      await root.setViewportSize(WIDE.viewport);
    };
    await root.getByRole("button", { name: "Sign in" }).click();
    await look("sign_in");
    await root.getByRole("button", { name: "Create an account" }).click();
    await fill(root, "root", "short");
    await root.getByLabel("Password").press("Enter");
    await root.locator("#password-error:not(:empty)").waitFor();
    await look("create_account");
    await fill(root, "root", PASSWORD);
    assertEquals(await root.getByLabel("Admin code").isVisible(), false);
    await root.getByLabel("Password").press("Enter");
    await root.locator("#admin-code-error", { hasText: "This is an admin's name." }).waitFor();
    await look("admin_code");
    await root.getByLabel("Admin code").fill(TEST_ENV.ADMIN_CODE!);
    await root.getByLabel("Admin code").press("Enter");
    await isIn(root);
    await using bob = await V1Client.join(stage.server.ws, "book-club", "Bob");
    for (const text of ["Has anybody finished it?", "Buy cheap watches here"]) {
      await tells(bob, text);
      await sees(root, text);
    }
    await root.getByRole("button", { name: "Remove Bob" }).focus();
    await root.locator(".bubble").last().hover();
    await look("moderator");
    await root.getByRole("button", { name: "Remove Bob" }).click();
    await look("remove");
    await root.getByLabel("Ban: they").check();
    await root.getByRole("button", { name: "Remove", exact: true }).click();
    await root.getByText("Bob was banned").waitFor();
    await root.getByRole("button", { name: "More" }).click();
    await look("signed_in");
    await root.getByRole("button", { name: "Room settings" }).click();
    await root.getByLabel("Private: members only").check();
    await root.getByRole("button", { name: "Save" }).click();
    await root.getByRole("button", { name: "Private", exact: true }).click();
    await root.getByRole("checkbox", { name: "bob" }).waitFor();
    await look("room_settings");
    await root.getByRole("button", { name: "Cancel" }).click();
    await root.getByRole("button", { name: "More" }).click();
    await root.getByRole("button", { name: "Change room" }).click();
    await root.locator("#join-me", { hasText: "Signed in as root" }).waitFor();
    await shoot(root, "switch_account");
    await check(root);
    const stranger = await stage.visit({ path: "/r/book-club", bypassCSP: true, ...PHONE });
    await stranger.getByLabel("Your name").fill("Stranger");
    await stranger.getByLabel("Your name").press("Enter");
    await stranger.locator("#join-reason", { hasText: "This room is private." }).waitFor();
    await shoot(stranger, "phone_refused");
    await check(stranger);
    await call(stage.server, "PUT", "/api/rooms/book-club", {
      body: { private: false, owner: "root" },
      token: await signIn(stage.server, "root"),
    });
    const guest = await stage.joins("Guest", { path: "/r/book-club", bypassCSP: true });
    await opensAbout(guest, "About this room");
    for (const colorScheme of ["light", "dark"] as const) {
      await guest.emulateMedia({ colorScheme });
      await shoot(guest, `about_room_${colorScheme}`);
      await check(guest);
    }
    await guest.setViewportSize(NARROW.viewport);
    await shoot(guest, "phone_about_room_dark");
  });

  /** A person with an account, in the room. */
  async function signsIn(name: string, options?: VisitOptions, isNew = true): Promise<Page> {
    const value = await (isNew ? signUp : signIn)(stage.server, name);
    const cookie = {
      ...{
        name: cookieName(stage.server, "session"),
        value,
        domain: "127.0.0.1",
        path: "/",
        expires: -1,
      },
      ...{ httpOnly: true, secure: false, sameSite: "Lax" as const },
    };
    const storageState = { cookies: [cookie], origins: [] };
    const page = await stage.visit({ ...options, storageState });
    await page.getByRole("button", { name: "Join", exact: true }).click();
    return await isIn(page);
  }
});

/** Opens the dialog about the room from the menu. */
async function opensAbout(page: Page, title: string): Promise<void> {
  await page.getByRole("button", { name: "More" }).click();
  await page.getByRole("button", { name: title }).click();
  await page.locator("#room-settings").getByRole("heading", { name: title }).waitFor();
}

/** The texts of the dialog about the room. */
async function facts(page: Page): Promise<string[]> {
  const rows = await page.locator(".facts > div:visible").all();
  return await Promise.all(
    rows.map(async (row) => (await row.locator("dt, dd").allInnerTexts()).join(": ")),
  );
}

async function fill(page: Page, name: string, password: string): Promise<void> {
  await page.getByLabel("Name", { exact: true }).fill(name);
  await page.getByLabel("Password").fill(password);
}

async function isIn(page: Page): Promise<Page> {
  await page.locator("#join").waitFor({ state: "hidden" });
  await reaches(page, "live");
  return page;
}
