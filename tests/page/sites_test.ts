/** The server on other sites, in a browser: its client module, its button, its frame. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { it } from "@std/testing/bdd";
import type { Frame, FrameLocator, Page } from "npm:playwright-core@^1";
import { check, describePage, shoot, type Stage, until } from "../support/chromium.ts";
import { makeFolder } from "../support/folder.ts";
import { freePort } from "../support/free_port.ts";
import { PASSWORD } from "../support/people.ts";
import { describeTls, makeCertificate, nginxSettings, startNginx } from "../support/proxies.ts";
import { startServer } from "../support/server.ts";
import { startSite } from "../support/site.ts";
import { V1Client } from "../support/v1_client.ts";

const MAIN = "<main><h1>A shop</h1><p>We sell umbrellas.</p></main>";

function scriptOf(stage: Stage, attributes = 'data-room="help"'): string {
  return `${MAIN}<script src="${stage.server.url}/embed.js" ${attributes}></script>`;
}

/** The chat inside the page of a site. */
function chatIn(page: Page, at = 0): FrameLocator {
  return page.locator("hubbub-chat").nth(at).frameLocator("iframe");
}

/** Joins in the frame, under a name. */
async function enterIn(chat: FrameLocator, name: string): Promise<void> {
  await chat.getByLabel("Your name").fill(name);
  await chat.getByRole("button", { name: "Join", exact: true }).click();
  await liveIn(chat);
}

async function liveIn(chat: FrameLocator): Promise<void> {
  await chat.locator('#status[data-state="live"]').waitFor({ state: "attached" });
  await chat.locator("#join").waitFor({ state: "hidden" });
}

async function sayIn(chat: FrameLocator, text: string): Promise<void> {
  await chat.getByLabel("Message", { exact: true }).fill(text);
  await chat.getByLabel("Message", { exact: true }).press("Enter");
  await chat.locator('.message:not([data-status="sending"]) .text').filter({ hasText: text })
    .waitFor();
}

describePage("connection.js on another site", (stage) => {
  const PAGE = (server: string) =>
    `<main><h1>A shop</h1><p id="state"></p><ul id="told"></ul></main>
    <script type="module">
      import { Connection } from "${server}/connection.js";
      const username = new URLSearchParams(location.search).get("name");
      globalThis.chat = new Connection({ base: "${server}", room: "help", username });
      chat.on("state", ({ state, reason = "" }) => {
        document.querySelector("#state").textContent = state + " " + reason;
      });
      chat.on("events", (events) => {
        for (const { type, content } of events) {
          if (type !== "chat") continue;
          const row = document.createElement("li");
          row.textContent = content;
          document.querySelector("#told").append(row);
        }
      });
      chat.open();
    </script>`;

  it("joins, chats, and explains a refusal", async () => {
    await using site = startSite(() => PAGE(stage.server.url));
    await stage.restart({ ALLOWED_ORIGINS: site.url });
    const page = await stage.open({ url: site.url, path: "/?name=Ada" });
    await page.getByText("live").waitFor();
    await using grace = await V1Client.join(stage.server.ws, "help", "Grace");
    await page.evaluate('void chat.send("Hello from the shop")');
    await grace.nextOf("chat", ({ content }) => content === "Hello from the shop");
    grace.send({ type: "chat", content: "Hello, shop" });
    await page.locator("#told").getByText("Hello, shop").waitFor();
    const twin = await stage.open({ url: site.url, path: "/?name=Grace" });
    await twin.getByText("refused This name is in use in this room.").waitFor();
    await grace.close();
  });

  it("cannot be loaded without ALLOWED_ORIGINS", async () => {
    await using site = startSite(() => PAGE(stage.server.url));
    const page = await stage.open({ url: site.url, path: "/?name=Ada" });
    await until(page, "document.readyState === 'complete'");
    assertEquals(await page.evaluate("typeof chat"), "undefined");
    const complaints = stage.complaints.splice(0);
    assert(complaints.some((text) => text.includes("blocked by CORS policy")), `${complaints}`);
  });
});

describePage("embed.js on another site", (stage) => {
  it("has at most 3 KB", async () => {
    const { size } = await Deno.stat(new URL("../../public/embed.js", import.meta.url));
    assert(size <= 3 * 1024, `${size} bytes`);
  });

  it("opens the room in a frame, unchanged by a reload", async () => {
    await using site = startSite(() => scriptOf(stage));
    await stage.restart({ EMBED_ORIGINS: site.url });
    const page = await stage.open({ url: site.url, path: "/shop" });
    const button = page.getByRole("button", { name: "Chat" });
    assertEquals(await page.locator("iframe[src]").count(), 0);
    assertEquals(await button.getAttribute("aria-expanded"), "false");
    await button.click();
    assertEquals(await button.getAttribute("aria-expanded"), "true");
    const chat = chatIn(page);
    await enterIn(chat, "Ada");
    await sayIn(chat, "Is the red one in stock?");
    await using grace = await V1Client.join(stage.server.ws, "help", "Grace");
    await grace.nextOf("chat", ({ content }) => content.startsWith("Is the red"));
    // The person stays the same when the frame or the whole page reloads.
    const frame = page.frames()[1]!;
    assertEquals(frame.url(), `${stage.server.url}/r/help?embed=1&theme=`);
    await frame.evaluate("location.reload()");
    await liveIn(chat);
    await page.reload();
    await button.click();
    await liveIn(chat);
    await sayIn(chat, "And in large?");
    const said = await grace.nextOf("chat", ({ content }) => content.startsWith("And in"));
    assertEquals(said.username, "Ada");
    await chat.getByRole("button", { name: "People" }).click();
    assertEquals(await chat.locator("#people-list .name").allInnerTexts(), ["Ada", "Grace"]);
    await grace.close();
  });

  it("has no way out of the room, and opens links outside", async () => {
    await using site = startSite(() => scriptOf(stage, 'data-room="help" data-open'));
    await stage.restart({ EMBED_ORIGINS: site.url });
    const page = await stage.open({ url: site.url });
    const chat = chatIn(page);
    await chat.getByRole("heading", { name: "Join the conversation" }).waitFor();
    assertEquals(await chat.locator("#room").isVisible(), false);
    assertEquals(await chat.getByText("Start an encrypted room").isVisible(), false);
    await enterIn(chat, "Ada");
    await sayIn(chat, "See https://umbrellas.example/red");
    const link = chat.getByRole("link", { name: "umbrellas.example" });
    assertEquals(await link.getAttribute("target"), "_blank");
    assertStringIncludes(await link.getAttribute("rel") ?? "", "noopener");
    for (const name of ["Your rooms", "Copy link", "New encrypted room", "Leave this room"]) {
      assertEquals(await chat.getByRole("button", { name }).count(), 0, name);
    }
    // People, the name and signing in remain.
    await chat.getByRole("button", { name: "People" }).click();
    await chat.locator("#people-list").getByText("Ada").waitFor();
    await chat.getByTitle("More").click();
    await chat.getByRole("button", { name: "Change name" }).click();
    await enterIn(chat, "Adele");
    await chat.locator(".when").last().click();
    await until(page, "history.length < 4");
    const [, frame] = page.frames();
    assertStringIncludes(frame!.url(), "/r/help?at=1&embed=1");
  });

  it("closes with Escape, in the page and in the frame, and counts missed messages", async () => {
    await using site = startSite(() => scriptOf(stage, 'data-room="help" data-label="Ask us"'));
    await stage.restart({ EMBED_ORIGINS: site.url });
    const page = await stage.open({ url: site.url });
    const button = page.getByRole("button", { name: "Ask us" });
    await button.press("Enter");
    const chat = chatIn(page);
    await enterIn(chat, "Ada");
    await using grace = await V1Client.join(stage.server.ws, "help", "Grace");
    await sayIn(chat, "Hello?");
    await chat.getByLabel("Message", { exact: true }).press("Escape");
    await page.locator("iframe").waitFor({ state: "hidden" });
    await until(page, "document.activeElement.shadowRoot?.activeElement.tagName === 'BUTTON'");
    for (const content of ["Good morning", "What is it?"]) grace.send({ type: "chat", content });
    await page.getByRole("button", { name: "Ask us (2 new)" }).click();
    await chat.getByText("What is it?").waitFor();
    await page.getByRole("button", { name: /Ask us$/ }).waitFor();
    await button.press("Escape");
    await page.locator("iframe").waitFor({ state: "hidden" });
    // A dialog in the frame uses Escape itself.
    await button.click();
    // By keyboard: right after a frame appears, Chromium may send a click to where it was before.
    await chat.getByTitle("More").press("Enter");
    await chat.getByRole("button", { name: "Change name" }).press("Enter");
    await chat.getByLabel("Your name").press("Escape");
    await chat.locator("#join").waitFor({ state: "hidden" });
    await page.locator("iframe").waitFor();
    await grace.close();
  });

  it("explains, with a link, that the site may not frame the room", async () => {
    await using site = startSite(() => scriptOf(stage));
    await stage.restart({ EMBED_ORIGINS: "https://other.example" });
    const page = await stage.open({ url: site.url });
    await page.getByRole("button", { name: "Chat" }).click();
    await page.getByText("The chat cannot be shown here.").waitFor();
    assertEquals(await page.locator("iframe").isVisible(), false);
    const link = page.getByRole("link", { name: "Open it alone" });
    assertEquals(await link.getAttribute("href"), `${stage.server.url}/r/help`);
    const complaints = stage.complaints.splice(0);
    const warning = `EMBED_ORIGINS of ${stage.server.url}/embed.js lacks ${site.url}`;
    assert(complaints.includes(warning), complaints.join("\n"));
    await check(page);
  });

  it("opens the lobby without a room name, and explains a bad one", async () => {
    await stage.restart({ EMBED_ORIGINS: "*" });
    const tag = (room: string) =>
      `<script src="${stage.server.url}/embed.js" data-label="${room}!" data-room="${room}"></script>`;
    await using site = startSite(() => `${MAIN}${tag("")}${tag("a/b")}`);
    const page = await stage.open({ url: site.url });
    await page.getByRole("button", { name: "!", exact: true }).click();
    await enterIn(chatIn(page, 0), "Ada");
    assertStringIncludes(page.frames()[1]!.url(), "/r/lobby?");
    await page.getByRole("button", { name: "a/b!" }).click();
    const chat = chatIn(page, 1);
    await chat.getByLabel("Your name").fill("Ada");
    await chat.getByRole("button", { name: "Join", exact: true }).click();
    await chat.getByText(/^The room .*may only have/).waitFor();
  });

  it("works twice on a page, from its head, and under a strict policy", async () => {
    const policy = () =>
      `default-src 'none'; script-src ${stage.server.url}; frame-src ${stage.server.url}`;
    const tag = (attributes: string) =>
      `<script src="${stage.server.url}/embed.js" ${attributes}></script>`;
    await stage.restart({ EMBED_ORIGINS: "*" });
    await using site = startSite(
      () => `${tag('data-room="help"')}<body>${MAIN}${tag('data-room="sales" data-label="Sales"')}`,
      { "content-security-policy": policy() },
    );
    const page = await stage.open({ url: site.url });
    const [help, sales] = [
      page.getByRole("button", { name: "Chat" }),
      page.getByRole("button", { name: "Sales" }),
    ];
    const [low, high] = [(await help.boundingBox())!, (await sales.boundingBox())!];
    assert(high.y + high.height < low.y, "One button lies above the other.");
    await help.click();
    await enterIn(chatIn(page, 0), "Ada");
    await help.click();
    await sales.click();
    await enterIn(chatIn(page, 1), "Ada");
    await sayIn(chatIn(page, 1), "To the sales");
    await using grace = await V1Client.join(stage.server.ws, "sales", "Grace");
    await grace.nextOf("chat", ({ content }) => content === "To the sales");
    await grace.close();
  });

  for (const [theme, width] of [["light", 1200], ["dark", 375]] as const) {
    it(`has a picture in ${theme}, ${width} px wide`, async () => {
      const attributes = `data-room="help" data-theme="${theme}" data-label="Ask us"`;
      const colours = `<style>body { font: 1rem system-ui; color-scheme: ${theme} }</style>
          <meta name="color-scheme" content="${theme}">
          <meta name="viewport" content="width=device-width">`;
      await using site = startSite(() => `${colours}${scriptOf(stage, attributes)}`);
      await stage.restart({ EMBED_ORIGINS: site.url });
      // The system's colours are the opposite ones.
      const colorScheme = theme === "light" ? "dark" : "light";
      const viewport = { width, height: width === 375 ? 700 : 800 };
      const page = await stage.open({ url: site.url, viewport, colorScheme, bypassCSP: true });
      const name = (state: string) => `embed_${state}_${width}_${theme}`;
      await shoot(page, name("button"));
      await page.getByRole("button", { name: "Ask us" }).click();
      const chat = chatIn(page);
      await chat.getByLabel("Your name").waitFor();
      await shoot(page, name("join"));
      await enterIn(chat, "Ada");
      await using grace = await V1Client.join(stage.server.ws, "help", "Grace");
      await sayIn(chat, "Is the red umbrella in stock?");
      await grace.ask({ type: "chat", content: "It is, and so is the green one." });
      await chat.getByText("so is the green one").waitFor();
      await shoot(page, name("chat"));
      await check(page);
      const frame = page.frames()[1]!;
      assertEquals(await schemeOf(frame), theme);
      const alone = await stage.open({
        path: "/r/help?embed=1",
        viewport,
        colorScheme: theme,
        bypassCSP: true,
      });
      await alone.getByLabel("Your name").fill("Linus");
      await alone.getByRole("button", { name: "Join", exact: true }).click();
      await alone.getByText("so is the green one").waitFor();
      await shoot(alone, name("page"));
      await check(alone);
      await grace.close();
    });
  }
});

describePage("?theme= in the page's address", (stage) => {
  it("sets the colours until the person chooses", async () => {
    const ada = await stage.joins("Ada", { path: "/?theme=dark", colorScheme: "light" });
    assertEquals(await schemeOf(ada.mainFrame()), "dark");
    assertEquals(ada.url(), `${stage.server.url}/r/lobby?theme=dark`);
    await ada.getByTitle("More").click();
    await ada.getByRole("radio", { name: "Light" }).check();
    assertEquals(await schemeOf(ada.mainFrame()), "light");
    const odd = await stage.visit({ path: "/r/tea?theme=blue", colorScheme: "light" });
    assertEquals(await schemeOf(odd.mainFrame()), "light dark");
  });
});

describePage("the frame of another site, on https", (stage) => {
  describeTls("behind nginx", () => {
    it("keeps cookies for that site only, and lets a person sign in", async () => {
      await using folder = await makeFolder();
      await makeCertificate(folder.path);
      const port = freePort();
      const [chatUrl, siteUrl] = ["chat", "site"].map((name) => `https://${name}.test:${port}`);
      await using server = await startServer({
        TRUST_PROXY: "1",
        PUBLIC_URL: chatUrl!,
        EMBED_ORIGINS: siteUrl!,
      });
      const tls = `listen 127.0.0.1:${port} ssl; ssl_certificate ${folder.path}/cert.pem;
        ssl_certificate_key ${folder.path}/key.pem;`;
      const html = `<!DOCTYPE html><html lang=en><title>A site</title>${
        MAIN.replaceAll('"', "'")
      }<script src='${chatUrl}/embed.js' data-room=help></script>`;
      const chatSettings = await nginxSettings([
        ["listen 80;", tls],
        ["listen [::]:80;", ""],
        ["chat.example", "chat.test"],
        ["127.0.0.1:8080", `127.0.0.1:${server.port}`],
        ["/var/log/nginx", folder.path],
      ]);
      const siteSettings = `server { ${tls} server_name site.test; default_type text/html;
        location / { return 200 "${html}"; } }`;
      const stop = await startNginx(folder.path, `${chatSettings}\n${siteSettings}`, port);
      try {
        const page = await stage.open({ url: siteUrl!, path: "/", ignoreHTTPSErrors: true });
        const button = page.getByRole("button", { name: "Chat" });
        await button.click();
        const chat = chatIn(page);
        await enterIn(chat, "Ada");
        await page.reload();
        await button.click();
        await liveIn(chat);
        assertEquals(await chat.locator("#people-list .name").allInnerTexts(), ["Ada"]);
        await chat.getByTitle("More").click();
        await chat.getByRole("button", { name: "Sign in", exact: true }).click();
        await chat.getByRole("button", { name: "Create an account" }).click();
        await chat.locator("#account-name").fill("Adele");
        await chat.getByLabel("Password").fill(PASSWORD);
        await chat.getByRole("button", { name: "Create account" }).click();
        await liveIn(chat);
        await sayIn(chat, "Signed in, in a frame");
        const cookies = (await page.context().cookies()).filter(({ httpOnly }) => httpOnly);
        assertEquals(
          cookies.map(({ name, sameSite, secure }) => ({ name, sameSite, secure })).sort((a, b) =>
            a.name < b.name ? -1 : 1
          ),
          ["guest", "session"].map((kind) => ({
            name: `__Host-hubbub_${kind}_embedded_${port}`,
            sameSite: "None" as const,
            secure: true,
          })),
        );
        await page.reload();
        await button.click();
        await liveIn(chat);
        await chat.getByTitle("More").click();
        await chat.locator("#me").getByText("Signed in as Adele").first().waitFor();
        // The server's own page does not see the frame's cookies.
        const alone = await stage.openTab(page.context(), `${chatUrl}/r/help`);
        await alone.getByLabel("Your name").waitFor();
        await chat.getByRole("button", { name: "Sign out" }).first().click();
        await chat.getByRole("heading", { name: "You are signed out" }).waitFor();
        await page.close();
        await alone.close();
      } finally {
        await stop();
      }
    });
  });
});

/** The colours of a document. */
async function schemeOf(frame: Frame): Promise<string> {
  return await frame.evaluate("getComputedStyle(document.documentElement).colorScheme") as string;
}
