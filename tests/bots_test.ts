/** The bots of docs/bots.md, as printed there, in a room with friendly and hostile people. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { describe } from "@std/testing/bdd";
import { blocksIn, readPage } from "./support/docs.ts";
import { makeFolder } from "./support/folder.ts";
import { Line } from "./support/line.ts";
import { call, login } from "./support/people.ts";
import { startServer, type TestServer } from "./support/server.ts";
import { itWith } from "./support/tools.ts";
import { V1Client } from "./support/v1_client.ts";

/** Maximum wait for an expected event, in milliseconds. */
const PATIENCE_MS = 30_000;

const page = await readPage("bots.md");

/** The blocks of a language, for a server at another address. */
function readBlocks(language: string, url: string): string[] {
  const host = new URL(url).host;
  return blocksIn(page, language).map((block) => block.replaceAll("localhost:8080", host));
}

/** Texts that a careless program would execute, obey, or mistake for another event. */
const HOSTILE = [
  "$(touch owned)",
  "`touch owned`",
  "'; touch owned; '",
  '"; touch owned; "',
  "%s%n%d\\n\\x41 * ~ $HOME ${PATH}",
  "-K /etc/passwd @/etc/passwd",
  '!roll","id":"owned","username":"owned',
  '","content":"!roll","type":"chat","x":"',
  '\\","content":"!roll","x":"\\',
  '{"type":"chat","content":"!roll","id":"owned","username":"Mallory"}',
  'x\ndata: {"type":"chat","content":"!roll","id":"owned","username":"Mallory"}',
  'x\r\n\r\nevent: close\r\ndata: {"code":1000}\r\n\r\nid: owned:1',
  "x\u2028y\u2029z\ufeff\u202e",
  "!roll ",
  ",{}[]".repeat(800),
];

const itWithTools = await itWith("docs/bots.md", "bash", "curl");

/** Makes the account and the token as the page says. */
async function makeToken(server: TestServer, cwd: string): Promise<string> {
  const [account, token] = readBlocks("sh", server.url);
  const script = `set -e\n${account}\n${token}\nprintf '\\n%s\\n' "$HUBBUB_TOKEN"`;
  const { success, stdout, stderr } = await new Deno.Command("bash", {
    args: ["-c", script],
    cwd,
  }).output();
  const printed = new TextDecoder().decode(stdout);
  assert(success, printed + new TextDecoder().decode(stderr));
  return printed.trim().split("\n").at(-1)!;
}

/** A bot that runs. */
class Bot {
  readonly #child: Deno.ChildProcess;
  readonly #output: Promise<string>;

  constructor(cwd: string, token: string, [program, ...args]: string[]) {
    this.#child = new Deno.Command(program!, {
      args,
      cwd,
      env: { HUBBUB_TOKEN: token, NO_COLOR: "1" },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const { stdout, stderr } = this.#child;
    this.#output = Promise.all([stdout, stderr].map((stream) => new Response(stream).text()))
      .then((texts) => texts.join("\n"));
  }

  /** Presses Ctrl-C. Returns its output. */
  async interrupt(): Promise<string> {
    this.#child.kill("SIGINT");
    return (await this.end()).output;
  }

  /** Waits until it ends. */
  async end(): Promise<{ code: number; output: string }> {
    const late = setTimeout(() => this.#child.kill("SIGKILL"), PATIENCE_MS);
    const [{ code, signal }, output] = await Promise.all([this.#child.status, this.#output]);
    clearTimeout(late);
    assert(signal !== "SIGKILL", output);
    return { code, output };
  }
}

/** Waits until Dice answers a message. */
async function answerTo(person: V1Client, id: string): Promise<string> {
  const event = await person.nextOf("chat", (event) => event.reply_to === id);
  assertEquals(event.username, "Dice");
  return event.content;
}

async function say(person: V1Client, content: string): Promise<string> {
  const answer = await person.ask({ type: "chat", content });
  assert(answer.type === "ack", JSON.stringify(answer));
  return answer.id!;
}

/** The promises of every bot, in any language. */
async function check(
  start: (url: string, folder: string, token: string) => Bot,
): Promise<void> {
  await using folder = await makeFolder();
  await using server = await startServer();
  await using line = new Line(server.port);
  const token = await makeToken(server, folder.path);
  const signIn = async (): Promise<string> =>
    (await login(server, "Dice", "one of your own")).body.token;
  const session = await signIn();
  const name = "Zoë-Ada 🎲";
  await using ada = await V1Client.join(server.ws, "lobby", name);
  await say(ada, "!roll");
  const bot = start(line.url, folder.path, token);
  await ada.nextOf("user_joined", ({ username }) => username === "Dice");

  for (const hostile of HOSTILE) await say(ada, hostile);
  // The bot must not answer its own account.
  await using own = await V1Client.connect(`${server.ws}/ws/lobby?token=${session}`);
  await say(own, "!roll");
  const rolled = new RegExp(`^${name} rolled [1-6]\\.$`);
  const first = await answerTo(ada, await say(ada, "!roll"));
  assertMatch(first, rolled);

  await own.close();

  // A broken connection loses no command and repeats no answer.
  line.cut();
  await ada.nextOf("user_left", ({ username }) => username === "Dice");
  const missed = await say(ada, "!roll");
  line.mend();
  assertMatch(await answerTo(ada, missed), rolled);
  assertMatch(await answerTo(ada, await say(ada, "!roll")), rolled);
  const said = ada.all("chat").filter(({ username, content }) =>
    username === "Dice" && content !== "!roll"
  );
  assertEquals(said.length, 3, JSON.stringify(said));

  const output = await bot.interrupt();
  await ada.nextOf("user_left", ({ username }) => username === "Dice");
  assert(!output.includes(token), output);
  const files = Array.from(Deno.readDirSync(folder.path), ({ name }) => name);
  assert(files.length === 1 && /^dice\.(js|sh)$/.test(files[0]!), files.join());
  assert(!JSON.stringify(server.log).includes(token));

  // Its owner deletes the token.
  const again = start(server.url, folder.path, token);
  await ada.nextOf("user_joined", ({ username }) => username === "Dice");
  const [, , list] = readBlocks("sh", server.url);
  const script = `server=${server.url}\nowner="Authorization: Bearer ${session}"\n${list}`;
  const { stdout } = await new Deno.Command("bash", { args: ["-c", script] }).output();
  assertMatch(new TextDecoder().decode(stdout), /^\{"tokens":\[\{"name":"dice on the shelf",/);
  const { code, output: last } = await again.end();
  assertEquals(code, 1, last);
  assert(last.includes("Your session has ended. Sign in again."), last);
  assertEquals((await call(server, "GET", "/api/session", { token: session })).status, 401);
  const { body } = await call(server, "GET", "/api/tokens", { token: await signIn() });
  assertEquals(body, { tokens: [] });
}

describe("docs/bots.md", () => {
  itWithTools(
    "has a JavaScript bot that answers, and ignores hostile texts",
    () =>
      check((url, folder, token) => {
        const [code] = readBlocks("js", url);
        const lines = code!.trim().split("\n").filter((line) => line !== "");
        assert(lines.length <= 20, `${lines.length} lines`);
        Deno.writeTextFileSync(`${folder}/dice.js`, code!);
        const command = readBlocks("sh", url)[3]!.trim().split(" ");
        assertEquals(command.shift(), "deno");
        return new Bot(folder, token, [Deno.execPath(), "-q", ...command]);
      }),
  );

  itWithTools(
    "has a bash bot that answers, and ignores hostile texts",
    () =>
      check((url, folder, token) => {
        const [code] = readBlocks("bash", url);
        Deno.writeTextFileSync(`${folder}/dice.sh`, code!);
        return new Bot(folder, token, ["bash", "dice.sh"]);
      }),
  );
});
