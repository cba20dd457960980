/** The terminal client: its input and output, in parts and as the real program in a pipe and a terminal. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { lineOf, printable, readCall } from "../public/chat.js";
import { createKey } from "../public/cipher.js";
import { freePort } from "./support/free_port.ts";
import { Gate } from "./support/gate.ts";
import { signUp } from "./support/people.ts";
import { startServer } from "./support/server.ts";
import { V1Client } from "./support/v1_client.ts";

const CHAT = new URL("../public/chat.js", import.meta.url).pathname;
const CONNECTED = "Connected to WebSocket server. Type messages to send:";
/** Maximum wait for an expected event, in milliseconds. */
const PATIENCE_MS = 30_000;

const hasScript = isInstalled("script");
if (!hasScript) {
  // deno-lint-ignore no-console
  console.log("Skipped: script is not installed. Install it with: apt-get install -y bsdutils");
}

describe("terminal client, in parts", () => {
  it("finds its server by its arguments and its own address", () => {
    const local = "file:///home/ada/chat.js";
    const base = "http://localhost:8080/";
    const call = { base, room: "tea", key: "", username: "Ada" };
    assertEquals(readCall(["tea", "Ada"], local), call);
    const far = "https://chat.example/";
    assertEquals(readCall(["tea", "Ada"], `${far}chat.js`), { ...call, base: far });
    assertEquals(readCall(["tea", "Ada", "https://chat.example"], local), { ...call, base: far });
    const key = createKey();
    const link = `${far}r/tea%20room#key=${key}`;
    const linked = { base: far, room: "tea room", key, username: "Ada" };
    assertEquals(readCall([link, "Ada"], local), linked);
    assertEquals(readCall([`${far}?room=tea`, "Ada"], local), { ...call, base: far });
    // Below a path of a site.
    const below = { ...call, base: `${far}chat/` };
    assertEquals(readCall(["tea", "Ada"], `${far}chat/chat.js`), below);
    assertEquals(readCall(["tea", "Ada", `${far}chat`], local), below);
    for (const end of ["r/tea", "r/tea/", "?room=tea"]) {
      assertEquals(readCall([`${far}chat/${end}`, "Ada"], local), below);
    }
    const wrong = [[], ["tea"], ["tea", "Ada", "?"], ["tea", "Ada", far, "x"], [far, "Ada"]];
    for (const args of [...wrong, ["tea", "Ada", "localhost:8080"]]) {
      assertEquals(readCall(args, local), undefined);
    }
  });

  it("needs no name with a token", () => {
    const local = "file:///home/ada/chat.js";
    const call = { base: "http://localhost:8080/", room: "tea", key: "", username: "", token: "t" };
    assertEquals(readCall(["tea"], local, "t"), call);
    const far = "https://chat.example/";
    assertEquals(readCall(["tea", far], local, "t"), { ...call, base: far });
    assertEquals(readCall([`${far}r/tea`], local, "t"), { ...call, base: far });
    for (const args of [[], ["tea", "Ada"], ["tea", far, "x"]]) {
      assertEquals(readCall(args, local, "t"), undefined);
    }
  });

  it("prints no control characters, and no forged line", () => {
    assertEquals(printable("a\x1b[2Jb\x07\x9b31mc\u202ed\x00"), "a[2Jb31mcd");
    assertEquals(
      printable("one\nGrace: two\r\nthree\rfour\t5"),
      "one\n  Grace: two\n  three\n  four\t5",
    );
    for (const end of ["\v", "\f", "\x85", "\u2028", "\u2029"]) {
      assertEquals(printable(`one${end}Grace: two`), "one\n  Grace: two");
    }
  });

  it("prints one line for each event", () => {
    const base = { room: "tea", username: "Ada", id: "1", timestamp: "" };
    const chat = { ...base, type: "chat", content: "hello", seq: 1 } as const;
    assertEquals(lineOf(chat), "Ada: hello");
    assertEquals(lineOf({ ...chat, deleted: true }), undefined);
    assertEquals(lineOf({ ...chat, seal: "bare" }), "Ada (not encrypted): hello");
    assert(lineOf({ ...chat, content: "", seal: "broken" })?.startsWith("Ada: [cannot be read"));
    assert(lineOf({ ...chat, content: "sealed.2.AA" })?.startsWith("Ada: [encrypted"));
    const dm = { ...base, type: "dm", content: "psst", to: "Grace", inbox_seq: 1 } as const;
    assertEquals(lineOf(dm), "Ada (to Grace): psst");
    const updated = { ...base, type: "message_updated", content: "hullo", seq: 2 } as const;
    assertEquals(lineOf(updated), "Ada, corrected: hullo");
  });
});

describe("terminal client", () => {
  it("joins as the account of the token in HUBBUB_TOKEN", async () => {
    await using server = await startServer();
    await using grace = await V1Client.join(server.ws, "tea", "Grace");
    const token = await signUp(server, "Ada");
    await using ada = new Terminal(["tea", server.url], { token });
    await ada.write("hi");
    await ada.closeInput();
    assertEquals([await ada.exited, ada.errors], [0, ""]);
    await grace.nextOf("chat", ({ content, username }) => content === "hi" && username === "Ada");
  });

  it("sends the input of a pipe, waits until it is stored, and ends", async () => {
    await using server = await startServer();
    await using grace = await V1Client.join(server.ws, "tea", "Grace");
    await using ada = new Terminal(["tea", "Ada", server.url]);
    await ada.write("hi\n/me waves\n/frobnicate\nno line break at the end");
    await ada.closeInput();
    assertEquals(await ada.exited, 0);
    assertEquals(ada.errors, "");
    for (const text of ["hi", "/me waves", "/frobnicate", "no line break at the end"]) {
      await grace.nextOf("chat", ({ content, username }) => content === text && username === "Ada");
    }
    const lines = ada.output.split("\n");
    assertEquals(lines[0], CONNECTED);
    assert(lines.includes("Ada joined the room") && !lines.includes("Ada: hi"));
  });

  it("reports once that WebSockets are blocked, and chats by plain HTTP", async () => {
    await using server = await startServer();
    await using gate = new Gate(server, 403);
    await using grace = await V1Client.join(server.ws, "tea", "Grace");
    await using ada = new Terminal(["tea", "Ada", gate.url]);
    await ada.write("one\n");
    await grace.nextOf("chat", ({ content }) => content === "one");
    gate.cut();
    await ada.prints("Disconnected, reconnecting...");
    await ada.write("two\n");
    await grace.nextOf("chat", ({ content }) => content === "two");
    await grace.ask({ type: "chat", content: "three" });
    await ada.prints("Grace: three");
    await ada.closeInput();
    assertEquals(await ada.exited, 0);
    assertEquals(ada.output.split("WebSockets are blocked here").length, 2);
  });

  it("knows the receiver of a pipe's first line, and sends nothing private to the room", async () => {
    await using server = await startServer();
    await using grace = await V1Client.join(server.ws, "tea", "Grace Hopper");
    await using ada = new Terminal(["tea", "Ada", server.url]);
    await ada.write("/msg grace hopper psst\n/msg Grace secret\nto all\n");
    await ada.closeInput();
    assertEquals(await ada.exited, 1);
    assertStringIncludes(ada.errors, "Not sent: Nobody here is called Grace.");
    await grace.nextOf("chat", ({ content }) => content === "to all");
    assertEquals(grace.all("dm").map(({ content }) => content), ["psst"]);
    assertEquals(grace.all("chat").map(({ content }) => content), ["to all"]);
  });

  it("runs from the server's own address", async () => {
    await using server = await startServer();
    await using ada = new Terminal(["tea", "Ada"], { from: `${server.url}/chat.js` });
    await ada.write("hi\n");
    await ada.closeInput();
    assertEquals(await ada.exited, 0);
    assertEquals(ada.output.split("\n")[0], CONNECTED);
  });

  it("prints messages, reconnects, and closes on Ctrl-C", async () => {
    let server = await startServer({ PORT: String(freePort()) });
    const { port } = server;
    try {
      const grace = await V1Client.join(server.ws, "tea", "Grace");
      await using ada = new Terminal(["tea", "Ada", server.url]);
      await ada.prints(CONNECTED);
      await grace.nextOf("user_joined", ({ username }) => username === "Ada");
      grace.send({ type: "chat", content: "hello[2J" });
      await ada.prints("Grace: hello[2J");
      grace.send({ type: "dm", to: "Ada", content: "psst" });
      await ada.prints("Grace (to Ada): psst");
      await ada.write("/msg Grace yes?\n");
      await grace.nextOf("dm", ({ content }) => content === "yes?");
      await server.stop();
      await ada.prints("Disconnected, reconnecting...");
      await ada.write("written while away\n");
      server = await startServer({ PORT: String(port) });
      await ada.prints(`Disconnected, reconnecting...\n${CONNECTED}`);
      await using again = await V1Client.join(server.ws, "tea", "Grace");
      await again.nextOf("chat", ({ content }) => content === "written while away");
      ada.kill("SIGINT");
      assertEquals(await ada.exited, 0);
      assert(ada.output.endsWith("Shutting down client...\n"));
      await server.logged("left");
      assertEquals(server.log.find(({ msg }) => msg === "left")?.code, 1000);
    } finally {
      await server.stop();
    }
  });

  it("reads and writes in an encrypted room by its link", async () => {
    await using server = await startServer();
    const link = `${server.url}/r/tea#key=${createKey()}`;
    await using grace = new Terminal([link, "Grace"]);
    await grace.prints(CONNECTED);
    await using ada = new Terminal([link, "Ada"]);
    await ada.write("the plan\n");
    await ada.closeInput();
    assertEquals(await ada.exited, 0);
    await grace.prints("Ada: the plan");
    await using spy = await V1Client.join(server.ws, "tea", "Spy");
    const { content } = await spy.nextOf("chat");
    assert(content.startsWith("sealed.2."));
    grace.kill("SIGINT");
    assertEquals(await grace.exited, 0);
  });

  it("ends with 1 and the reason when it or a message is refused", async () => {
    await using server = await startServer();
    await using grace = await V1Client.join(server.ws, "tea", "Grace");
    await using taken = new Terminal(["tea", "grace", server.url]);
    await taken.write("hello?\n");
    await taken.closeInput();
    await using nobody = new Terminal(["tea", "Ada", "http://127.0.0.1:1"]);
    await using nonsense = new Terminal([]);
    await using unheard = new Terminal(["tea", "Ada", server.url]);
    await unheard.write("/msg Nobody hello\nhello\n");
    await unheard.closeInput();
    for (const terminal of [taken, nobody, nonsense, unheard]) {
      assertEquals(await terminal.exited, 1);
    }
    assertStringIncludes(taken.errors, "This name is in use");
    assertStringIncludes(nobody.errors, "Cannot connect");
    assertStringIncludes(nonsense.errors, "Usage:");
    assertStringIncludes(unheard.errors, "Not sent: Nobody with this name is in the room.");
    await grace.nextOf("chat", ({ content }) => content === "hello");
  });

  const isRequired = Deno.env.get("REQUIRE_ALL") === "1";
  (hasScript || isRequired ? it : it.skip)("works in a terminal", async () => {
    await using server = await startServer();
    await using grace = await V1Client.join(server.ws, "tea", "Grace");
    await using ada = new Terminal(["tea", "Ada", server.url], { inTerminal: true });
    await ada.prints(CONNECTED);
    await ada.write("hello from a terminal\n");
    await grace.nextOf("chat", ({ content }) => content === "hello from a terminal");
    await ada.write("/frob\n");
    await ada.prints("There is no /frob.");
    // Ctrl-C, as a keyboard sends it.
    await ada.write("\x03");
    await ada.prints("Shutting down client...");
    assertEquals(await ada.exited, 0);
  });
});

function isInstalled(program: string): boolean {
  try {
    return new Deno.Command(program, { args: ["--version"] }).outputSync().success;
  } catch {
    return false;
  }
}

/** The program as people run it. Disposing of it kills it if it still runs. */
class Terminal implements AsyncDisposable {
  output = "";
  errors = "";
  /** Its exit code. */
  readonly exited: Promise<number>;
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  #hasEnded = false;
  #wake = () => {};

  constructor(args: string[], { from = CHAT, inTerminal = false, token = "" } = {}) {
    const leave = token === "" ? ["-N"] : ["-N", "-E=HUBBUB_TOKEN"];
    const command = [Deno.execPath(), "run", "-q", "--no-lock", ...leave, from, ...args];
    // Without exec, the shell would also get the Ctrl-C and return its own exit code.
    const [program, ...rest] = inTerminal
      ? ["script", "-qec", `exec ${command.map((word) => `'${word}'`).join(" ")}`, "/dev/null"]
      : command;
    const options = { stdin: "piped", stdout: "piped", stderr: "piped" } as const;
    const env = { NO_COLOR: "1", SHELL: "/bin/sh", HUBBUB_TOKEN: token };
    this.#child = new Deno.Command(program!, { args: rest, env, ...options }).spawn();
    this.#input = this.#child.stdin.getWriter();
    this.exited = this.#watch();
  }

  async write(text: string): Promise<void> {
    await this.#input.write(new TextEncoder().encode(text));
  }

  async closeInput(): Promise<void> {
    await this.#input.close();
  }

  /** Waits until it has printed this. */
  async prints(text: string): Promise<void> {
    const stop = AbortSignal.timeout(PATIENCE_MS);
    stop.onabort = () => this.#wake();
    while (!this.output.includes(text)) {
      if (stop.aborted || this.#hasEnded) {
        throw new Error(`"${text}" was not printed.\n${this.output}\n${this.errors}`);
      }
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    stop.onabort = null;
  }

  kill(signal: Deno.Signal): void {
    if (!this.#hasEnded) this.#child.kill(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill("SIGKILL");
    await this.exited;
    await this.#input.close().catch(() => {});
  }

  async #watch(): Promise<number> {
    const [{ code }] = await Promise.all([
      this.#child.status,
      this.#read(this.#child.stdout, (text) => this.output += text.replaceAll("\r", "")),
      this.#read(this.#child.stderr, (text) => this.errors += text),
    ]);
    this.#hasEnded = true;
    this.#wake();
    return code;
  }

  async #read(stream: ReadableStream<Uint8Array<ArrayBuffer>>, keep: (text: string) => void) {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      keep(text);
      this.#wake();
    }
  }
}
