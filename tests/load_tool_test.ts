/** The load tool against real servers, honest and cheating ones. */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Load } from "../bench/load_tool/main.ts";
import { readLoadOptions, UsageError } from "../bench/load_tool/options.ts";
import { CheatingServer } from "./support/cheat.ts";
import { makeFolder } from "./support/folder.ts";
import { ServerProcess } from "./support/process.ts";
import { startServer } from "./support/server.ts";

const MAIN = new URL("../bench/load_tool/main.ts", import.meta.url).pathname;

/** A run of the tool. */
class LoadRun implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #ended: Promise<number>;
  #stdout = "";
  #stderr = "";
  #wake = () => {};

  constructor(...args: string[]) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-lock", "--no-check", MAIN, ...args],
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#ended = this.#collect();
  }

  get stderr(): string {
    return this.#stderr;
  }

  /** Its rows by name, and its exit code. */
  async result(): Promise<{ rows: Record<string, string>; code: number; stdout: string }> {
    const code = await this.#ended;
    const stdout = this.#stdout;
    const rows = stdout.split("\n").map((line) => [line.slice(0, 14).trim(), line.slice(14)]);
    return { code, rows: Object.fromEntries(rows), stdout };
  }

  /** Resolves at a line of progress with this text. */
  async says(pattern: RegExp): Promise<void> {
    let hasEnded = false;
    this.#ended.then(() => {
      hasEnded = true;
      this.#wake();
    });
    while (!pattern.test(this.#stderr)) {
      assert(!hasEnded, `The load has ended. ${this.#stderr}`);
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }

  interrupt(): void {
    this.#child.kill("SIGINT");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await this.#ended;
  }

  async #collect(): Promise<number> {
    const read = async (
      stream: ReadableStream<Uint8Array<ArrayBuffer>>,
      add: (t: string) => void,
    ) => {
      for await (const text of stream.pipeThrough(new TextDecoderStream())) {
        add(text);
        this.#wake();
      }
    };
    const outputs = [
      read(this.#child.stdout, (text) => this.#stdout += text),
      read(this.#child.stderr, (text) => this.#stderr += text),
    ];
    await Promise.all(outputs);
    return (await this.#child.status).code;
  }
}

/** Whether a text is XML: every element that begins ends, in order. */
function assertWellFormed(xml: string): void {
  const open: string[] = [];
  const rest = xml.replace(
    /<(\/?)([\w-]+)((?: [\w:-]+="[^"<]*")*)(\/?)>/g,
    (_, end, name, __, single) => {
      if (end) assertEquals(open.pop(), name);
      else if (!single) open.push(name);
      return "";
    },
  );
  assertEquals(open, []);
  assert(!/[<>]|&(?!amp;|lt;)/.test(rest), rest);
}

/** Four guests in each of three rooms. */
const FEW = ["--clients=12", "--rooms=3", "--rate=40", "--seconds=1"];

describe("A load", () => {
  it("counts and draws the messages that an honest server stores and delivers", async () => {
    await using server = await startServer();
    await using folder = await makeFolder();
    const chart = `${folder.path}/load.svg`;
    await using load = new LoadRun(server.url, ...FEW, "--seconds=2", `--chart=${chart}`);
    const { code, rows, stdout } = await load.result();
    assertEquals(code, 0, stdout + load.stderr);
    assertEquals(rows.connected, "12 of 12");
    for (const name of ["turned away", "cut off", "refused", "held back", "lost", "doubled"]) {
      assertEquals(rows[name], "0", name);
    }
    assertEquals(rows["out of order"], "0");
    const sent = Number(rows["messages sent"]);
    assert(sent > 20 && sent <= 80, `${sent} messages`);
    assertEquals(rows.acknowledged, String(sent));
    const [, stored, delivered] = /^([\d.]+) stored, ([\d.]+) delivered/.exec(rows.throughput!)!;
    assert(Math.abs(Number(delivered) - 4 * Number(stored)) < 4, rows.throughput);
    assert(/^p50 [\d.]+ ms, p90 [\d.]+ ms, p99 [\d.]+ ms, max [\d.]+ ms$/.test(rows.latency!));
    // A line a second without a terminal.
    assert(/^\d of 2 s {3}12 connected/m.test(load.stderr), load.stderr);
    const joined = server.log.filter(({ msg }) => msg === "joined");
    assert(joined.every(({ room, username }) => `${room}${username}`.startsWith("load-")));
    assertEquals(new Set(joined.map(({ room }) => room)).size, 3);

    const svg = await Deno.readTextFile(chart);
    assertWellFormed(svg);
    assertEquals(svg.match(/<polyline /g)?.length, 4);
    assert(!/NaN|Infinity|undefined/.test(svg), svg);
    assertStringIncludes(svg, "prefers-color-scheme: dark");
  });

  it("explains refused guests and messages, and what to do", async () => {
    await using server = await startServer({
      MAX_CONNECTIONS_PER_ADDRESS: "5",
      MESSAGE_RATE: "1",
      MESSAGE_BURST: "2",
    });
    await using load = new LoadRun(server.ws, ...FEW);
    const { code, rows, stdout } = await load.result();
    assertEquals([code, rows.connected], [0, "5 of 12"], stdout);
    assertEquals(rows["turned away"], "7 (429: 7)");
    assert(/^\d+ \(rate_limited: \d+\)$/.test(rows.refused!), rows.refused);
    const counted = Number(rows.acknowledged) + parseInt(rows.refused!);
    assertEquals(counted, Number(rows["messages sent"]));
    assertEquals([rows.lost, rows.doubled], ["0", "0"]);
    assertStringIncludes(stdout, "MAX_CONNECTIONS_PER_ADDRESS=0");
  });

  it("loads a server below a path", async () => {
    await using server = await startServer();
    await using site = new CheatingServer(server.ws, "/chat");
    await using load = new LoadRun(`${site.url}/chat`, "--clients=2", "--rate=20", "--seconds=1");
    const { code, rows } = await load.result();
    assertEquals([code, rows.connected, rows.lost], [0, "2 of 2", "0"]);
  });

  it("stops with a sentence if nothing listens", async () => {
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr;
    listener.close();
    await using load = new LoadRun(`ws://127.0.0.1:${port}`, ...FEW);
    const { code, rows } = await load.result();
    assertEquals([code, rows["turned away"]], [1, "12 (no answer: 12)"]);
  });
});

describe("A server that cheats is caught when it", () => {
  for (
    const { name, lie, row } of [
      {
        name: "drops a message on its way to one guest",
        lie: (count: number) => count === 10 ? 0 : 1,
        row: ["lost", "1 deliveries, 0 without an answer"],
      },
      {
        name: "delivers a message twice",
        lie: (count: number) => count === 10 ? 2 : 1,
        row: ["doubled", "1"],
      },
    ] as const
  ) {
    it(name, async () => {
      await using server = await startServer();
      await using cheat = new CheatingServer(server.ws);
      let count = 0;
      cheat.lie = (event) => event.type === "chat" ? Array(lie(++count)).fill(event) : event;
      await using load = new LoadRun(cheat.url, ...FEW);
      const { code, rows, stdout } = await load.result();
      assertEquals([code, rows[row[0]]], [2, row[1]], stdout);
    });
  }

  it("acks a message that it does not deliver", async () => {
    await using server = await startServer();
    await using cheat = new CheatingServer(server.ws);
    const kept = new Set<string>();
    cheat.lie = (event) => {
      if (event.type === "chat" && kept.size === 0) kept.add(event.id);
      return event.type === "chat" && kept.has(event.id) ? [] : event;
    };
    await using load = new LoadRun(cheat.url, ...FEW);
    const { code, rows } = await load.result();
    assertEquals([code, rows.lost], [2, "4 deliveries, 0 without an answer"]);
  });

  it("does not ack a message, or changes the order", async () => {
    await using server = await startServer();
    await using cheat = new CheatingServer(server.ws);
    let acks = 0;
    cheat.lie = (event) => {
      if (event.type === "ack" && ++acks === 5) return [];
      // Its number shows that a later one exists.
      return event.type === "chat" && event.seq === 3 ? { ...event, seq: 1 } : event;
    };
    await using load = new LoadRun(cheat.url, ...FEW);
    const { code, rows } = await load.result();
    assertEquals([code, rows.lost], [2, "0 deliveries, 1 without an answer"]);
    assertEquals(rows["out of order"], "12");
  });
});

describe("A load ends in time", () => {
  it("when it is interrupted, with the table", async () => {
    await using server = await startServer();
    await using load = new LoadRun(server.ws, "--clients=6", "--rate=50", "--seconds=300");
    await load.says(/[1-9] of 300 s/);
    load.interrupt();
    const { code, rows } = await load.result();
    assertEquals([code, rows.connected, rows.lost], [0, "6 of 6", "0"]);
    assert(Number(rows.acknowledged) > 0);
  });

  it("while guests still join, without counting earlier messages as lost", async () => {
    await using server = await startServer({ JOIN_RATE_PER_ADDRESS: "0" });
    const options = await readLoadOptions([
      server.url,
      "--clients=250",
      "--rooms=1",
      "--seconds=3",
    ]);
    // Two and a half seconds would be enough.
    const load = new Load(options!, 1000);
    const { lost, unanswered, late } = await load.run();
    const { connected, stored } = load.tally;
    assertEquals([lost, unanswered, connected + late], [0, 0, 250]);
    assert(connected > 0 && late > 0 && stored > 0, `${connected} guests, ${stored} messages`);
  });

  it("if the server hangs in the middle of it", async () => {
    await using server = await ServerProcess.start();
    await using load = new LoadRun(server.ws, "--clients=6", "--rate=50", "--seconds=3");
    await load.says(/[12] of 3 s/);
    server.kill("SIGSTOP");
    const begin = performance.now();
    const { code, rows } = await load.result();
    const seconds = (performance.now() - begin) / 1000;
    assertEquals(code, 2);
    assert(/^\d+ deliveries, [1-9]\d* without an answer$/.test(rows.lost!), rows.lost);
    assert(seconds < 20, `It took ${seconds} seconds.`);
  });

  it("if the server hangs before it, when interrupted", async () => {
    await using server = await ServerProcess.start();
    server.kill("SIGSTOP");
    await using load = new LoadRun(server.ws, ...FEW);
    await load.says(/joining: 0 of 12/);
    load.interrupt();
    const { code, rows } = await load.result();
    assertEquals([code, rows.connected], [1, "0 of 12"]);
  });
});

describe("The command line", () => {
  const refusal = async (...args: string[]) =>
    (await assertRejects(() => readLoadOptions(args), UsageError)).message;

  it("has a default for every option but the server", async () => {
    const options = await readLoadOptions(["https://localhost:8443/chat"]);
    assertEquals(options?.base.href, "wss://localhost:8443/chat/");
    const { base: _, ...rest } = options!;
    assertEquals(rest, {
      clients: 100,
      rate: 50,
      rooms: 10,
      seconds: 20,
      size: 64,
      chart: undefined,
    });
    assertEquals((await readLoadOptions(["ws://127.1.2.3", "--clients=2"]))?.rooms, 2);
    assertEquals(await readLoadOptions(["--help"]), undefined);
  });

  it("loads another machine only if told to", async () => {
    for (const host of ["192.0.2.7", "[2001:db8::1]", "0.0.0.0", "[::ffff:192.0.2.7]"]) {
      assertStringIncludes(await refusal(`ws://${host}:8080`), "add --yes if you may load it");
      const options = await readLoadOptions([`ws://${host}:8080`, "--yes"]);
      assertEquals(options?.base.hostname, new URL(`ws://${host}`).hostname);
    }
    for (const host of ["localhost", "127.8.9.1", "[::1]"]) {
      assertEquals((await readLoadOptions([`ws://${host}`]))?.clients, 100);
    }
    assertEquals(
      await refusal("ws://no.invalid"),
      "There is no host no.invalid: check the address.",
    );
  });

  it("refuses a wrong option in one sentence", async () => {
    const wrong = [
      [],
      ["ws://localhost", "ws://localhost"],
      ["localhost:8080"],
      ["ftp://localhost"],
      ["ws://localhost/?a=b"],
      ["ws://a:b@localhost"],
      ["ws://localhost", "--clients=2001"],
      ["ws://localhost", "--rate=1e3"],
      ["ws://localhost", "--seconds=301"],
      ["ws://localhost", "--rooms=3", "--clients=2"],
      ["ws://localhost", "--size="],
      ["ws://localhost", "--nothing"],
      ["ws://localhost", "--chart"],
    ];
    for (const args of wrong) {
      const sentence = await refusal(...args);
      assert(/^[^\n]+\.$/.test(sentence), sentence);
    }
    await using load = new LoadRun("ws://localhost", "--seconds=301");
    const { code, stdout } = await load.result();
    assertEquals([code, stdout], [1, ""]);
    assertEquals(load.stderr, '--seconds must be a whole number from 1 to 300, not "301".\n');
  });
});
