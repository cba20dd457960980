/** Every kind of client in one conversation: all receive the same messages in one order. */

import { assert, assertEquals } from "@std/assert";
import type { FrameLocator } from "npm:playwright-core@^1";
import { describePage } from "../support/chromium.ts";
import { blocksIn, readPage } from "../support/docs.ts";
import { makeFolder } from "../support/folder.ts";
import { signUp } from "../support/people.ts";
import { startSite } from "../support/site.ts";
import { itWith } from "../support/tools.ts";
import { Wscat } from "../support/wscat.ts";

/** Maximum wait for an expected event, in milliseconds. */
const PATIENCE_MS = 30_000;

const ROOM = "ops";
const ROUNDS = 5;

/** Runs curl to its end. Returns what it printed. */
async function curl(...args: string[]): Promise<string> {
  const command = new Deno.Command("curl", { args: ["-sS", ...args], stderr: "inherit" });
  const { success, stdout } = await command.output();
  const text = new TextDecoder().decode(stdout);
  assert(success, text);
  return text;
}

/** `curl -N` on a room's events. */
class Listener implements AsyncDisposable {
  readonly contents: string[] = [];
  readonly #child: Deno.ChildProcess;
  readonly #reading: Promise<void>;

  constructor(url: string) {
    this.#child = new Deno.Command("curl", { args: ["-sSN", url], stdout: "piped" }).spawn();
    this.#reading = this.#read();
  }

  async #read(): Promise<void> {
    let text = "";
    for await (const chunk of this.#child.stdout.pipeThrough(new TextDecoderStream())) {
      const lines = (text + chunk).split("\n");
      text = lines.pop()!;
      for (const line of lines) {
        if (!line.startsWith("data: ")) continue;
        const { type, content } = JSON.parse(line.slice("data: ".length));
        if (type === "chat") this.contents.push(content);
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill();
    await this.#child.status;
    await this.#reading;
  }
}

/** The bot of docs/bots.md, at work in our room. */
async function startBot(url: string, folder: string): Promise<AsyncDisposable> {
  const [code] = blocksIn(await readPage("bots.md"), "js");
  const { host } = new URL(url);
  const program = code!.replaceAll("localhost:8080", host).replace('"lobby"', `"${ROOM}"`);
  await Deno.writeTextFile(`${folder}/dice.js`, program);
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "-q", "--no-lock", "--no-config", "--reload", "dice.js"],
    cwd: folder,
    env: { HUBBUB_TOKEN: await signUp({ url, port: Number(new URL(url).port) }, "Dice") },
    stdout: "null",
  }).spawn();
  return {
    async [Symbol.asyncDispose]() {
      child.kill("SIGINT");
      await child.status;
    },
  };
}

const itWithCurl = await itWith("everyone in one room", "curl");

describePage("everyone in one room", (stage) => {
  itWithCurl("sees the same conversation in the same order", async () => {
    await using site = startSite(() =>
      `<script src="${stage.server.url}/embed.js" data-room="${ROOM}" data-open></script>`
    );
    await stage.restart({ EMBED_ORIGINS: site.url });
    const { url, ws } = stage.server;
    await using folder = await makeFolder();
    const messages = `${url}/api/rooms/${ROOM}/messages`;

    const ada = await stage.joins("Ada", { path: `/r/${ROOM}` });
    const visitor = await stage.open({ url: site.url, path: "/" });
    const frame: FrameLocator = visitor.locator("hubbub-chat").frameLocator("iframe");
    await frame.getByLabel("Your name").fill("Fran");
    await frame.getByRole("button", { name: "Join", exact: true }).click();
    await frame.locator('#status[data-state="live"]').waitFor({ state: "attached" });
    await using walt = new Wscat(`${ws}/ws/${ROOM}?username=walt`);
    await using listener = new Listener(`${url}/api/rooms/${ROOM}/events`);
    await using _bot = await startBot(url, folder.path);
    // Ada, Fran, walt, the listener without a name, and the bot.
    await stage.server.logged("joined", 5);

    const heardByWalt: string[] = [];
    // wscat drops lines typed before it sees the connection open.
    await walt.nextLine();
    const hearing = (async () => {
      while (heardByWalt.at(-1) !== "the end") {
        const { type, content } = JSON.parse(await walt.nextLine());
        if (type === "chat") heardByWalt.push(content);
      }
    })();
    for (let round = 1; round <= ROUNDS; round++) {
      const box = (where: typeof ada | FrameLocator) =>
        where.getByLabel("Message", { exact: true });
      await box(ada).fill(`page ${round}`);
      await box(frame).fill(`frame ${round}`);
      await Promise.all([
        box(ada).press("Enter"),
        box(frame).press("Enter"),
        walt.send(`wscat ${round}`),
        curl("-d", `curl ${round}`, `${messages}?username=ci`),
      ]);
      // The bot answers every client.
      await curl("-d", "!roll", `${messages}?username=asker-${round}`);
    }

    const total = ROUNDS * 6;
    const stored = await until(async () => {
      const { messages: page } = JSON.parse(await curl(`${messages}?limit=100`));
      const contents: string[] = page.map(({ content }: { content: string }) => content);
      return contents.length >= total ? contents : undefined;
    });
    await curl("-d", "the end", `${messages}?username=ci`);
    stored.push("the end");
    const rolls = stored.filter((text) => /^asker-\d rolled [1-6]\.$/.test(text));
    assertEquals([stored.length, rolls.length], [total + 1, ROUNDS]);

    await hearing;
    assertEquals(heardByWalt, stored);
    await until(() => listener.contents.length >= stored.length || undefined);
    assertEquals(listener.contents, stored);
    for (const where of [ada, frame]) {
      await where.locator(".text").filter({ hasText: /^the end$/ }).waitFor();
      assertEquals(await where.locator("#rows .message .text").allInnerTexts(), stored);
    }
  });
});

/** Repeats the question until there is an answer. */
async function until<T>(ask: () => T | undefined | Promise<T | undefined>): Promise<T> {
  const end = performance.now() + PATIENCE_MS;
  while (performance.now() < end) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`In vain: ${ask}`);
}
