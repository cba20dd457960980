/** A person's text is sent once, whatever happens to the line, the server and the page. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type { Command } from "../lib/protocol/commands.ts";
import { Cipher, createKey, isSealed } from "../public/cipher.js";
import { Connection } from "../public/connection.js";
import type { Told } from "../public/inbox.js";
import { Outbox, type Unsent, type Way } from "../public/outbox.js";
import { Line } from "./support/line.ts";
import { ServerProcess } from "./support/process.ts";
import { Random, seeds } from "./support/random.ts";

const ROOM = "tea";
/** Rounds of typing and trouble, over all runs. */
const ROUNDS = 1000;
const RUNS = 4;
/** How soon an impatient person presses "Try now". */
const RETRY_MS = 10;

/** A connection to a server that records everything and answers nothing. */
class Wire implements Way {
  readonly sent: Command[] = [];
  readonly identity: string;

  constructor(readonly username = "Ada", identity = `guest ${username}`) {
    this.identity = identity;
  }

  put = (command: Command) => {
    this.sent.push(command);
    return true;
  };
}

describe("Outbox", () => {
  it("keeps unacked texts over a reload, and sends exactly the same again", async () => {
    const cipher = await Cipher.fromKey(createKey());
    for (const key of [undefined, cipher]) {
      const before = new Outbox({ room: ROOM, cipher: key });
      const wire = new Wire();
      before.start(wire);
      before.add({ content: "one" });
      before.add({ content: "two", to: "Grace" });
      before.add({ content: "three", edits: { id: "m1", ref: "r1" } });
      await before.sealed();
      assertEquals(wire.sent.length, 3);
      const kept: Unsent[] = JSON.parse(JSON.stringify(before.save()));
      const after = new Outbox({ room: ROOM, cipher: key });
      await after.load(kept);
      assertEquals(after.items.map(({ content }) => content), ["one", "two", "three"]);
      const again = new Wire();
      after.start(again);
      assertEquals(again.sent, wire.sent);
    }
  });

  it("stores no plain text of an encrypted room, even before joining", async () => {
    const cipher = await Cipher.fromKey(createKey());
    const outbox = new Outbox({ room: ROOM, cipher });
    outbox.author = "Ada";
    outbox.add({ content: "the plan" });
    assert(!JSON.stringify(outbox.save()).includes("plan"));
    await outbox.sealed();
    const [kept] = outbox.save();
    assert(isSealed(kept!.content) && kept!.key === cipher.fingerprint);
    assert(!JSON.stringify(kept).includes("plan"));
  });

  it("fails a sealed text without its key, with the reason", async () => {
    const [one, other] = [await Cipher.fromKey(createKey()), await Cipher.fromKey(createKey())];
    const outbox = new Outbox({ room: ROOM, cipher: one });
    outbox.author = "Ada";
    outbox.add({ content: "the plan" });
    await outbox.sealed();
    const kept = outbox.save();
    for (const cipher of [undefined, other]) {
      const wrong = new Outbox({ room: ROOM, cipher });
      await wrong.load(kept);
      const wire = new Wire();
      wrong.start(wire);
      const [item] = wrong.items;
      assertEquals([item!.status, item!.isLocked, item!.content], ["failed", true, ""]);
      assert(item!.reason.includes("key"));
      wrong.sendAgain(item!.ref);
      assertEquals([wire.sent, wrong.save()], [[], []]);
    }
    const right = new Outbox({ room: ROOM, cipher: one });
    await right.load(kept);
    const wire = new Wire();
    right.start(wire);
    assertEquals(wire.sent.length, 1);
  });

  it("seals a text written without encryption only when its author sends it again", async () => {
    const open = new Outbox({ room: ROOM });
    open.add({ content: "hello" });
    const cipher = await Cipher.fromKey(createKey());
    const outbox = new Outbox({ room: ROOM, cipher });
    await outbox.load(open.save());
    const wire = new Wire();
    outbox.start(wire);
    assertEquals([wire.sent.length, outbox.items[0]!.status], [0, "failed"]);
    outbox.sendAgain(outbox.items[0]!.ref);
    await outbox.sealed();
    const [command] = wire.sent as Extract<Command, { type: "chat" }>[];
    assertEquals(
      await cipher.open(command!.content, { room: ROOM, from: "Ada", ref: command!.ref! }),
      "hello",
    );
  });

  it("repeats no text as another person, and asks the author to check first", () => {
    const outbox = new Outbox({ room: ROOM });
    const guest = new Wire("Ada", "guest Ada");
    outbox.start(guest);
    outbox.add({ content: "was it stored?" });
    outbox.stop(guest);
    outbox.add({ content: "not sent yet" });
    const account = new Wire("Ada", "account Ada");
    outbox.start(account);
    assertEquals(account.sent.map((command) => "content" in command && command.content), [
      "not sent yet",
    ]);
    const [item] = outbox.items;
    assertEquals(item!.status, "failed");
    outbox.sendAgain(item!.ref);
    assertEquals(account.sent.length, 2);
  });

  it("sends no text under another name unless its author sends it again", () => {
    const outbox = new Outbox({ room: ROOM });
    outbox.author = "Ada";
    outbox.add({ content: "hello" });
    const contentsTo = (wire: Wire) => wire.sent.map((it) => "content" in it && it.content);
    const bob = new Wire("Bob");
    outbox.start(bob);
    assertEquals([contentsTo(bob), outbox.items[0]!.status], [[], "failed"]);
    outbox.stop(bob);
    const ada = new Wire("ADA");
    outbox.start(ada);
    assertEquals(contentsTo(ada), ["hello"]);
    const other = new Outbox({ room: ROOM });
    other.author = "Ada";
    const { ref } = other.add({ content: "hello" });
    other.start(bob);
    other.sendAgain(ref);
    assertEquals(contentsTo(bob), ["hello"]);
  });

  it("seals no text again that may be stored, and asks the author to check first", async () => {
    const cipher = await Cipher.fromKey(createKey());
    const outbox = new Outbox({ room: ROOM, cipher });
    const ada = new Wire("Ada", "guest 1");
    outbox.start(ada);
    outbox.add({ content: "was it stored?" });
    await outbox.sealed();
    outbox.stop(ada);
    const spelled = new Wire("ADA", "guest 1");
    outbox.start(spelled);
    outbox.add({ content: "next" });
    await outbox.sealed();
    assertEquals([spelled.sent.length, outbox.items[0]!.status], [1, "failed"]);
    outbox.sendAgain(outbox.items[0]!.ref);
    await outbox.sealed();
    assertEquals(spelled.sent.length, 2);
    const [{ content, ref }] = spelled.sent.slice(1) as [Extract<Command, { type: "chat" }>];
    assertEquals(
      await cipher.open(content, { room: ROOM, from: "ADA", ref: ref! }),
      "was it stored?",
    );
  });

  it("sends no text that was tampered with in the browser's memory", async () => {
    const cipher = await Cipher.fromKey(createKey());
    const outbox = new Outbox({ room: ROOM, cipher });
    outbox.author = "Ada";
    outbox.add({ content: "the plan" });
    await outbox.sealed();
    const [kept] = outbox.save();
    const after = new Outbox({ room: ROOM, cipher });
    await after.load([{ ...kept!, content: kept!.content.slice(0, -2) + "AA" }]);
    assertEquals([after.items[0]!.status, after.items[0]!.isLocked], ["failed", true]);
    after.remove(kept!.ref);
    assertEquals(after.items, []);
  });

  it("continues with the next text when one is refused", () => {
    const outbox = new Outbox({ room: ROOM });
    const wire = new Wire();
    outbox.start(wire);
    const items = Array.from({ length: 17 }, (_, n) => outbox.add({ content: `${n}` }));
    assertEquals(wire.sent.length, 16);
    outbox.refuse({ ref: items[0]!.ref, content: "no", code: "forbidden" });
    assertEquals([wire.sent.length, items[0]!.reason], [17, "No."]);
  });

  it("counts the room's own event as an ack, but only from its author", () => {
    const outbox = new Outbox({ room: ROOM });
    outbox.start(new Wire());
    const { ref } = outbox.add({ content: "one" });
    const base = { type: "chat", content: "one", room: ROOM, timestamp: "", seq: 1, ref } as const;
    outbox.heard({ ...base, id: "m0", username: "Mallory" });
    assertEquals(outbox.isDone, false);
    outbox.heard({ ...base, id: "m1", username: "Ada" });
    assertEquals(outbox.items, []);
  });

  it("replaces an unsent edit by the next one", () => {
    const outbox = new Outbox({ room: ROOM });
    outbox.add({ content: "teh", edits: { id: "m1" } });
    outbox.add({ content: "other", edits: { id: "m2" } });
    outbox.add({ content: "the", edits: { id: "m1" } });
    const wire = new Wire();
    outbox.start(wire);
    assertEquals(wire.sent.map((command) => "content" in command && command.content), [
      "other",
      "the",
    ]);
  });
});

/** The sending part of a page: it writes, loses its connection, and reloads. */
class Page {
  connection!: Connection;
  /** Stored own messages, by their index among all texts. */
  readonly stored = new Map<string, number>();
  #kept = "[]";
  readonly #base: string;
  readonly #cipher: Cipher | undefined;

  constructor(base: string, cipher: Cipher | undefined) {
    this.#base = base;
    this.#cipher = cipher;
  }

  async open(): Promise<void> {
    const outbox = new Outbox({ room: ROOM, cipher: this.#cipher });
    outbox.onChange(() => this.#kept = JSON.stringify(outbox.save()));
    const session = this.connection?.session;
    await outbox.load(JSON.parse(this.#kept));
    this.connection = new Connection({
      base: this.#base,
      room: ROOM,
      username: "Ada",
      outbox,
      ...(session && { session }),
      ...(this.#cipher && { cipher: this.#cipher }),
    });
    const { connection } = this;
    connection.on("state", ({ state }) => {
      if (state === "reconnecting") setTimeout(() => connection.retry(), RETRY_MS);
    });
    this.connection.on("outgoing", ({ status, content, ack, edits }) => {
      if (status === "sent" && !edits) this.stored.set(ack!.id!, Number(content.split(" ")[1]));
    });
    this.connection.open();
  }

  /** Reloads the page: everything not stored is gone. */
  async reload(): Promise<void> {
    await this.connection.outbox.sealed();
    this.connection.close();
    this.stored.clear();
    await this.open();
  }

  async until(isSo: () => boolean): Promise<void> {
    const stops: (() => void)[] = [];
    await new Promise<void>((resolve) => {
      const look = () => isSo() && resolve();
      for (const type of ["state", "outgoing", "events"] as const) {
        stops.push(this.connection.on(type, look));
      }
      look();
    });
    for (const stop of stops) stop();
  }
}

describe("A person's text", () => {
  for (const seed of seeds(RUNS)) {
    it(`is stored once and in order over cuts, kill -9 and reloads (seed ${seed})`, async () => {
      const random = new Random(seed);
      const folder = await Deno.makeTempDir();
      const env = { DATABASE_URL: `sqlite:${folder}/chat.db` };
      let server = await ServerProcess.start({ env });
      const line = new Line(server.port);
      const cipher = seed % 2 === 0 ? undefined : await Cipher.fromKey(createKey());
      const page = new Page(line.url, cipher);
      /** The final text of each message. */
      const texts: string[] = [];
      try {
        await page.open();
        // Before the first welcome, the page has no secret to prove its identity.
        await page.until(() => page.connection.state.state === "live");
        for (let round = 0; round < ROUNDS / RUNS; round++) {
          for (let n = random.below(4); n > 0; n--) {
            const [id, at] = random.pick([...page.stored, ["", -1] as const]);
            if (id !== "" && random.percent(20)) {
              texts[at] = `text ${at} edited in ${round}`;
              page.connection.edit(id, texts[at]!);
            } else page.connection.send(texts[texts.push(`text ${texts.length}`) - 1]!);
          }
          switch (
            random.weighted({ none: 40, settle: 20, cut: 20, deafen: 10, reload: 10, kill: 2 })
          ) {
            case "settle":
              await page.until(() => page.connection.outbox.isDone);
              break;
            case "cut":
              line.drop({ serverNotices: random.percent(50) });
              break;
            case "deafen":
              line.deafen();
              page.connection.send(texts[texts.push(`text ${texts.length}`) - 1]!);
              await page.connection.outbox.sealed();
              line.drop();
              break;
            case "reload":
              await page.reload();
              break;
            case "kill":
              await server.stop("SIGKILL");
              server = await ServerProcess.start({ env });
              line.serverPort = server.port;
              break;
          }
        }
        await page.until(() => page.connection.outbox.isDone);
        assertEquals(page.connection.outbox.items.map(({ reason }) => reason), []);
        assertEquals((await readAll(server.url, cipher)).map(({ content }) => content), texts);
      } finally {
        await page.connection.close();
        await line[Symbol.asyncDispose]();
        await server.stop("SIGKILL");
        await Deno.remove(folder, { recursive: true });
      }
    });
  }
});

/** All current messages of the room. */
async function readAll(base: string, cipher: Cipher | undefined): Promise<Told[]> {
  const reader = new Connection({ base, room: ROOM, username: "R", ...(cipher && { cipher }) });
  const isLive = new Promise<void>((resolve) => {
    reader.on("state", ({ state }) => state === "live" && resolve());
  });
  reader.open();
  await isLive;
  const all: Told[] = [];
  for (let after = 0, more = true; more;) {
    const page = await reader.history({ after, limit: 100 });
    all.push(...page.messages);
    after = page.messages.at(-1)?.seq ?? after;
    more = page.more;
  }
  await reader.close();
  return all;
}
