import {
  assert,
  assertEquals,
  assertNotEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { DatabaseSync } from "node:sqlite";
import { setImmediate } from "node:timers";
import { applyChange, checkChange, isErasure, toLogEvent } from "../lib/engine/changes.ts";
import type { Author, Change, EngineOptions } from "../lib/engine/engine.ts";
import { MemoryEngine, MemoryStore } from "../lib/engine/memory.ts";
import { SqliteEngine } from "../lib/engine/sqlite.ts";
import { MAX_CACHED_ROOMS } from "../lib/engine/sqlite_log.ts";
import { ChatError, type ErrorCode } from "../lib/errors.ts";
import type { ChatEvent, LogEvent } from "../lib/protocol/events.ts";
import {
  ALICE,
  ALL,
  BOB,
  change,
  deleteMessage,
  draft,
  editMessage,
  Lab,
  Listener,
  privateDraft,
  type Store,
} from "./support/engine_lab.ts";
import { testEngine } from "./support/engine_suite.ts";
import { Random, seeds } from "./support/random.ts";

const OPTIONS: EngineOptions = {
  clock: Date.now,
  newId: () => crypto.randomUUID(),
  keep: Infinity,
  leaseMs: 30_000,
};

testEngine("MemoryEngine", () => ({
  isLasting: false,
  isShared: false,
  open: (options) => new MemoryEngine(options),
  [Symbol.asyncDispose]: () => Promise.resolve(),
}));

/** Memory that outlives the engines on it. */
class SharedMemory implements Store {
  readonly isLasting = true;
  readonly isShared = true;
  #store: MemoryStore | undefined;

  open(options: EngineOptions): MemoryEngine {
    return new MemoryEngine(options, this.#store ??= new MemoryStore(options));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }
}

testEngine("MemoryEngine on a shared store", () => new SharedMemory());

/** A folder of its own for a file. */
class SqliteStore implements Store {
  readonly isLasting = true;
  readonly isShared = false;
  path: string;
  readonly #dir: string;

  constructor() {
    this.#dir = Deno.makeTempDirSync();
    this.path = `${this.#dir}/chat.db`;
  }

  open(options: EngineOptions = OPTIONS): SqliteEngine {
    return new SqliteEngine({ ...options, path: this.path, atCommit: setImmediate });
  }

  /** Goes on with a copy of the files as they are now. */
  freeze(): void {
    const copy = `${this.path}.copy`;
    Deno.copyFileSync(this.path, copy);
    Deno.copyFileSync(`${this.path}-wal`, `${copy}-wal`);
    this.path = copy;
  }

  /** Every row of a table, as text. */
  rows(table: string): string[] {
    const all = (db: DatabaseSync) => db.prepare(`SELECT * FROM ${table}`).all();
    return this.inspect(all).map((row) => JSON.stringify(row));
  }

  /** Does something with the file itself, while no engine has it. */
  inspect<T>(look: (db: DatabaseSync) => T): T {
    const db = new DatabaseSync(this.path);
    try {
      return look(db);
    } finally {
      db.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.#dir, { recursive: true });
  }
}

testEngine("SqliteEngine", () => new SqliteStore());

/** An engine whose file refuses every message with the text "poison", in the journal or in a block. */
async function openPoisoned(how: "ABORT" | "ROLLBACK", table = "journal", column = "entries") {
  const store = new SqliteStore();
  await store.open().close();
  store.inspect((db) =>
    db.exec(`
      CREATE TRIGGER poison BEFORE INSERT ON ${table} WHEN instr(NEW.${column}, '"poison"')
      BEGIN SELECT RAISE(${how}, 'the disk is full'); END
    `)
  );
  return await Lab.open(() => store);
}

describe("SqliteEngine: a file", () => {
  it("belongs to one engine at a time", async () => {
    await using store = new SqliteStore();
    const first = store.open();
    for (let i = 0; i < 2; i++) assertThrows(() => store.open(), Error, "locked");
    await first.log.append("r", draft(ALICE, "still here"));
    await first.close();
    const second = store.open();
    assertThrows(() => store.open(), Error, "locked");
    assertEquals((await second.log.events("r", 0, 10)).length, 1);
    await second.close();
  });

  it("says how far its schema is, and is brought there once", async () => {
    await using store = new SqliteStore();
    const version = () =>
      store.inspect((db) => db.prepare("PRAGMA user_version").get()!.user_version as number);
    for (let i = 0; i < 3; i++) {
      const engine = store.open();
      await engine.log.append("r", draft(ALICE, `life ${i}`));
      await engine.close();
      assert(version() > 0);
    }
    const engine = store.open();
    assertEquals((await engine.log.state("r")).lastSeq, 3);
    await engine.close();
  });

  it("of a newer version is refused, and left as it is", async () => {
    await using store = new SqliteStore();
    await store.open().close();
    let version = 0;
    store.inspect((db) => {
      version = Number(db.prepare("PRAGMA user_version").get()!.user_version);
      db.exec("PRAGMA user_version = 1000");
    });
    for (let i = 0; i < 2; i++) assertThrows(() => store.open(), Error, "newer version of Hubbub");
    store.inspect((db) => {
      assertEquals(db.prepare("PRAGMA user_version").get()!.user_version, 1000);
      db.exec(`PRAGMA user_version = ${version}`);
    });
    await store.open().close();
  });

  it("that is no database is refused", async () => {
    await using store = new SqliteStore();
    await Deno.writeTextFile(store.path, "a shopping list, and a long one at that\n".repeat(100));
    assertThrows(() => store.open(), Error, "not a database");
    assertStringIncludes(await Deno.readTextFile(store.path), "shopping");
  });

  it("of an older version is brought up to date", async () => {
    await using store = new SqliteStore();
    const engine = store.open();
    await engine.log.append("r", draft(ALICE, "old"));
    await engine.close();
    store.inspect((db) => db.exec("DROP TABLE journal; PRAGMA user_version = 2"));
    const next = store.open();
    await next.log.append("r", draft(ALICE, "new"));
    assertEquals((await next.log.events("r", 0, 10)).map(({ content }) => content), ["old", "new"]);
    await next.close();
  });

  it("of the first release has settings without a version, which can be changed", async () => {
    await using store = new SqliteStore();
    await store.open().close();
    const old = { owner: "alice", isPrivate: true, members: [], bans: [] };
    store.inspect((db) =>
      db.prepare("INSERT INTO settings VALUES ('r', 'alice', ?)").run(JSON.stringify(old))
    );
    const engine = store.open();
    const { roomSettings } = engine;
    const settings = await roomSettings.settings("r");
    assertEquals(settings, { ...old, version: 1 });
    assert(await roomSettings.setSettings("r", { ...settings, isPrivate: false }));
    assertEquals((await roomSettings.settings("r")).version, 2);
    await engine.close();
  });

  it("holds nothing of a deleted message's text", async () => {
    await using store = new SqliteStore();
    const engine = store.open();
    const { event } = await engine.log.append("r", draft(ALICE, "secret one"));
    await editMessage(engine, "r", { ...change(ALICE, event.id), content: "secret two" });
    await editMessage(engine, "r", { ...change(ALICE, event.id), content: "secret three" });
    await engine.log.append("r", draft(BOB, "known to all"));
    await deleteMessage(engine, "r", change(ALICE, event.id));
    store.freeze();
    await engine.close();
    const rows = `${store.rows("blocks")}${store.rows("journal")}`;
    assertStringIncludes(rows, "known to all");
    assert(!rows.includes("secret"), rows);
  });
});

describe("SqliteEngine: blocks", () => {
  it("hold what a room said, up to a size, and read as if each were alone", async () => {
    await using store = new SqliteStore();
    let engine = store.open();
    const say = (room: string, count: number) =>
      Promise.all(
        Array.from({ length: count }, (_, i) =>
          engine.log.append(room, draft(ALICE, `${room} ${i}`))),
      );
    const receipts = await say("busy", 300);
    for (let i = 0; i < 3; i++) await say("quiet", 1);
    await engine.log.append("long", draft(ALICE, "x".repeat(70_000)));
    await Promise.all([1, 2].map((n) => engine.log.append("long", draft(ALICE, `after it ${n}`))));

    for (let life = 0; life < 2; life++) {
      for (const after of [0, 1, 127, 128, 129, 255, 256, 257, 299, 300]) {
        const log = await engine.log.events("busy", after, 50);
        assertEquals(log, receipts.slice(after, after + 50).map(({ event }) => event));
        const messages = await engine.log.messages("busy", { before: after + 1, limit: 50 });
        const before = receipts.slice(Math.max(0, after - 50), after);
        assertEquals(messages, before.map(({ event }) => event));
      }
      await engine.close();
      assertEquals([store.rows("blocks").length, store.rows("journal").length], [3 + 1 + 2, 0]);
      engine = store.open();
    }
    await engine.close();
  });

  it("let go of a text that was changed in the same turn, in another, and in another life", async () => {
    await using store = new SqliteStore();
    let engine = store.open();
    const first = await engine.log.append("r", draft(ALICE, "secret one"));
    const { id } = first.event;
    const edit = (content: string) => editMessage(engine, "r", { ...change(ALICE, id), content });
    await Promise.all([
      edit("secret two"),
      edit("secret three"),
      engine.log.append("r", draft(BOB, "b")),
    ]);
    await engine.close();
    engine = store.open();
    await Promise.all([edit("secret four"), deleteMessage(engine, "r", change(ALICE, id))]);
    const log = await engine.log.events("r", 0, 10);
    assertEquals(log.map(({ content }) => content), ["", "", "", "b", "", ""]);
    await engine.close();
    const rows = `${store.rows("blocks")}`;
    assert(!rows.includes("secret"), rows);
  });

  it("say after a restart which refs were used, the newest ten thousand of a room", async () => {
    await using store = new SqliteStore();
    let engine = store.open();
    for (let i = 0; i < 130; i++) {
      await Promise.all(
        Array.from(
          { length: 100 },
          (_, k) => engine.log.append("r", draft(ALICE, "x", `${i * 100 + k}`)),
        ),
      );
    }
    for (let life = 0; life < 2; life++) {
      const again = await engine.log.append("r", draft(ALICE, "x", "12999"));
      assertEquals([again.isDuplicate, again.event.seq], [true, 13_000]);
      const old = await engine.log.append("r", draft(ALICE, "x", "3001"));
      assertEquals([old.isDuplicate, old.event.seq], [true, 3002]);
      if (life === 0) store.freeze();
      await engine.close();
      engine = store.open();
    }
    const forgotten = await engine.log.append("r", draft(ALICE, "x", "7"));
    assertEquals([forgotten.isDuplicate, forgotten.event.seq], [false, 13_001]);
    await engine.close();
  });
});

describe("SqliteEngine: the journal", () => {
  it("has what a server that was killed had put into no block yet", async () => {
    await using store = new SqliteStore();
    let engine = store.open();
    const said = new Map<string, LogEvent[]>();
    let count = 0;
    const say = async (room: string, often: number) => {
      const messages = Array.from({ length: often }, () => `${room} ${++count}`);
      const receipts = await Promise.all(
        messages.map((content, i) =>
          engine.log.append(room, draft(ALICE, content, `${room} ${i}`))
        ),
      );
      said.set(room, [...said.get(room) ?? [], ...receipts.map(({ event }) => event)]);
    };
    // In one turn, in several, and with a block in between.
    await Promise.all([say("red", 1), say("green", 3), say("blue", 100)]);
    await Promise.all([say("yellow", 2), say("blue", 0)]);
    await editMessage(engine, "green", {
      ...change(ALICE, said.get("green")![1]!.id),
      content: "new",
    });
    for (let life = 0; life < 3; life++) {
      store.freeze();
      await engine.close();
      engine = store.open();
      for (const [room, events] of said) {
        const log = await engine.log.events(room, 0, 1000);
        assertEquals(log.length, (await engine.log.state(room)).lastSeq);
        const messages = log.filter(({ type }) => type === "chat");
        assertEquals(messages.map(({ id }) => id), events.map(({ id }) => id));
        const again = await engine.log.append(room, draft(ALICE, "again", `${room} 0`));
        assertEquals([again.isDuplicate, again.event.id], [true, events[0]!.id]);
      }
      await engine.log.append("red", draft(BOB, `life ${life}`));
      said.get("red")!.push((await engine.log.events("red", life + 1, 1))[0]!);
    }
    assertEquals((await engine.log.events("green", 1, 1))[0]!.content, "new");
    await engine.close();
  });

  it("stays short, however much is said in however many rooms", async () => {
    await using store = new SqliteStore();
    const engine = store.open();
    const rooms = Array.from({ length: 2000 }, (_, i) => `room ${i}`);
    const text = "x".repeat(1000);
    for (let i = 0; i < rooms.length; i += 100) {
      for (let n = 0; n < 3; n++) {
        const some = rooms.slice(i, i + 100);
        await Promise.all(
          some.map((room) => engine.log.append(room, draft(ALICE, `${n} ${text}`))),
        );
      }
    }
    store.freeze();
    await engine.close();
    const size = store.rows("journal").reduce((sum, row) => sum + row.length, 0);
    assert(size > 1e6 && size < 6e6, `The journal has ${size} characters.`);
    const blocks = store.rows("blocks").length;
    assert(blocks > 100 && blocks < 2000, `${blocks} rooms have a block.`);

    const next = store.open();
    for (const room of rooms) {
      const log = await next.log.events(room, 0, 100);
      assertEquals(log.map(({ content }) => parseInt(content)), [0, 1, 2]);
    }
    await next.close();
  });
});

describe("SqliteEngine: what is written in one turn", () => {
  for (const how of ["ABORT", "ROLLBACK"] as const) {
    it(`is stored whole or not at all (${how})`, async () => {
      await using lab = await openPoisoned(how);
      const { engine } = lab;
      using red = await Listener.open(engine, "red");
      using blue = await Listener.open(engine, "blue");
      await engine.log.append("red", draft(ALICE, "one", "ref"));
      const results = await Promise.allSettled([
        engine.log.append("red", draft(ALICE, "two", "two")),
        engine.log.append("blue", draft(ALICE, "a")),
        engine.log.whisper("red", privateDraft(ALICE, BOB, "psst", "psst")),
        engine.log.append("red", draft(ALICE, "poison")),
        engine.log.append("blue", draft(ALICE, "b")),
      ]);
      for (const result of results) {
        assert(result.status === "rejected");
        assertStringIncludes(String(result.reason), "the disk is full");
      }
      assertEquals((await engine.log.state("red")).lastSeq, 1);
      assertEquals((await engine.log.state("blue")).lastSeq, 0);
      assertEquals(await engine.log.inboxSeq("red", BOB.person), 0);

      const [two, first, a, psst] = await Promise.all([
        engine.log.append("red", draft(ALICE, "two", "two")),
        engine.log.append("red", draft(ALICE, "one", "ref")),
        engine.log.append("blue", draft(ALICE, "a")),
        engine.log.whisper("red", privateDraft(ALICE, BOB, "psst", "psst")),
      ]);
      assertEquals([two.event.seq, two.isDuplicate], [2, false]);
      assertEquals([first.event.seq, first.isDuplicate], [1, true]);
      assertEquals([a.event.seq, a.isDuplicate], [1, false]);
      assertEquals([psst.event.toSeq, psst.isDuplicate], [1, false]);
      assertEquals((await red.count(3)).map(({ type }) => type), ["logged", "logged", "private"]);
      assertEquals((await blue.seq(1)).map(({ content }) => content), ["a"]);
    });
  }

  it("is not stored at all if it cannot be put into a block", async () => {
    await using lab = await openPoisoned("ABORT", "blocks", "events");
    const { engine } = lab;
    await engine.log.append("quiet", draft(BOB, "before"));
    await engine.log.append("r", draft(ALICE, "poison"));
    // Enough for a block, which takes the poison with it.
    const many = Array.from({ length: 200 }, (_, i) => draft(ALICE, `${i}`, `${i}`));
    const results = await Promise.allSettled([
      engine.log.append("quiet", draft(BOB, "lost")),
      ...many.map((one) => engine.log.append("r", one)),
    ]);
    for (const { status } of results) assertEquals(status, "rejected");
    for (const room of ["quiet", "r"]) assertEquals((await engine.log.state(room)).lastSeq, 1);
    const receipt = await engine.log.append("quiet", draft(BOB, "after"));
    assertEquals(receipt.event.seq, 2);
    const few = await Promise.all(many.slice(0, 5).map((one) => engine.log.append("r", one)));
    assertEquals(few.map(({ event, isDuplicate }) => [event.seq, isDuplicate]), [
      [2, false],
      [3, false],
      [4, false],
      [5, false],
      [6, false],
    ]);
    const contents = async (room: string) =>
      (await engine.log.events(room, 0, 10)).map(({ content }) => content);
    assertEquals(await contents("quiet"), ["before", "after"]);
    assertEquals(await contents("r"), ["poison", "0", "1", "2", "3", "4"]);
  });

  it("fails without a change of the epoch, not even of a room that was empty till then", async () => {
    await using lab = await openPoisoned("ABORT");
    const { engine } = lab;
    using _ = await Listener.open(engine, "r");
    const { epoch } = await engine.log.state("r");
    await assertRejects(
      () => engine.log.append("r", draft(ALICE, "poison")),
      Error,
      "the disk is full",
    );
    assertEquals(await engine.log.state("r"), { epoch, oldestSeq: 1, lastSeq: 0 });
    await engine.log.append("r", draft(ALICE, "one"));
    assertEquals(await engine.log.state("r"), { epoch, oldestSeq: 1, lastSeq: 1 });
    await lab.reopen();
    assertEquals(await lab.engine.log.state("r"), { epoch, oldestSeq: 1, lastSeq: 1 });
  });

  it("leaves no ref behind if it fails, though another message takes its number", async () => {
    await using lab = await openPoisoned("ABORT");
    const { log } = lab.engine;
    await log.append("r", draft(ALICE, "one", "1"));
    const failing = [draft(ALICE, "two", "2"), draft(ALICE, "poison", "3")];
    const results = await Promise.allSettled(failing.map((one) => log.append("r", one)));
    for (const { status } of results) assertEquals(status, "rejected");
    await log.append("r", draft(BOB, "taken"));
    await log.append("r", draft(BOB, "taken too"));
    const again = await log.append("r", draft(ALICE, "two", "2"));
    assertEquals([again.isDuplicate, again.event.seq, again.event.content], [false, 4, "two"]);
    assert((await log.append("r", draft(ALICE, "one", "1"))).isDuplicate);
  });

  it("fails whole, though a room was forgotten in the middle of it", async () => {
    await using lab = await openPoisoned("ABORT");
    const { log } = lab.engine;
    // Enough for a block, so that the room waits for none.
    const many = Array.from({ length: 128 }, (_, i) => draft(ALICE, `${i}`));
    const rooms = Array.from({ length: MAX_CACHED_ROOMS }, (_, i) => `room ${i}`);
    const results = await Promise.allSettled([
      ...many.map((one) => log.append("r", one)),
      ...rooms.map((room) => log.append(room, draft(ALICE, "hello"))),
      log.append("r", draft(ALICE, "poison")),
    ]);
    assert(results.every(({ status }) => status === "rejected"));
    assertEquals((await log.append("r", draft(ALICE, "one"))).event.seq, 1);
    assertEquals((await log.events("r", 0, 10)).map(({ content }) => content), ["one"]);
  });

  it("is given up whole when the engine ends before the turn does", async () => {
    await using lab = await Lab.open(() => new SqliteStore());
    const writes = [1, 2, 3].map((n) => lab.engine.log.append("r", draft(ALICE, `late ${n}`)));
    const closing = lab.engine.close();
    for (const write of writes) {
      const error = await assertRejects(() => write, ChatError);
      assertEquals(error.code, "unavailable");
    }
    await closing;
    await lab.reopen();
    assertEquals((await lab.engine.log.state("r")).lastSeq, 0);
  });
});

describe("SqliteEngine: rooms in memory", () => {
  it("are forgotten if nobody uses them, and read back as they were", async () => {
    await using lab = await Lab.open(() => new SqliteStore());
    const { log, bus } = lab.engine;
    const stop = await bus.subscribe("heard", () => {});
    const epochOf = async (room: string) => (await log.state(room)).epoch;
    // An epoch that nothing was written under shows whether its room was forgotten.
    const [heard, unheard] = [await epochOf("heard"), await epochOf("unheard")];
    const block = Array.from({ length: 128 }, (_, i) => draft(ALICE, `${i}`, `${i}`));
    const stored = await Promise.all(block.map((one) => log.append("stored", one)));
    const waiting = await log.append("waiting", draft(ALICE, "hello", "ref"));
    const states = [await log.state("stored"), await log.state("waiting")];

    // Two are kept: the room with a subscriber, and the one that waits for a block.
    const rooms = Array.from({ length: MAX_CACHED_ROOMS - 4 }, (_, i) => `room ${i}`);
    const epochs: string[] = [];
    for (const room of rooms) epochs.push(await epochOf(room));
    assertEquals(await epochOf("unheard"), unheard);
    await log.state("one too many");

    const half = rooms.length - (MAX_CACHED_ROOMS / 2 - 2);
    assertEquals(await epochOf(rooms[half]!), epochs[half]);
    assertEquals(await epochOf(rooms.at(-1)!), epochs.at(-1));
    assertNotEquals(await epochOf(rooms[half - 1]!), epochs[half - 1]);
    assertNotEquals(await epochOf("unheard"), unheard);
    assertEquals(await epochOf("heard"), heard);
    assertEquals([await log.state("stored"), await log.state("waiting")], states);
    assertEquals(await log.events("stored", 127, 10), [stored[127]!.event]);
    assertEquals(await log.events("waiting", 0, 10), [waiting.event]);
    for (const [room, ref, seq] of [["stored", "5", 6], ["waiting", "ref", 1]] as const) {
      const again = await log.append(room, draft(ALICE, "again", ref));
      assertEquals([again.isDuplicate, again.event.seq], [true, seq]);
      const next = await log.append(room, draft(ALICE, "next"));
      assertEquals(next.event.seq, (room === "stored" ? 128 : 1) + 1);
    }
    stop();
  });
});

describe("MemoryEngine: maxSize", () => {
  /** A message takes 300 units, a room and an inbox 200 each. */
  const text = "x".repeat(100);
  const open = (maxSize: number) => new MemoryEngine({ ...OPTIONS, maxSize });
  const fill = async (engine: MemoryEngine, room: string, count: number) => {
    for (let i = 0; i < count; i++) await engine.log.append(room, draft(ALICE, text, `${i}`));
  };

  it("drops the oldest of the room that was not written to for the longest", async () => {
    const engine = open(20_000);
    using _red = await Listener.open(engine, "red");
    using _green = await Listener.open(engine, "green");
    await fill(engine, "red", 20);
    await fill(engine, "green", 20);
    await engine.log.append("red", draft(BOB, "red is newer now"));
    await fill(engine, "blue", 28);
    const [red, green, blue] = await Promise.all(
      ["red", "green", "blue"].map((room) => engine.log.state(room)),
    );
    assertEquals([red!.oldestSeq, red!.lastSeq], [1, 21]);
    assertEquals([green!.oldestSeq, green!.lastSeq], [11, 20]);
    assertEquals([blue!.oldestSeq, blue!.lastSeq], [1, 28]);
    const [again, forgotten] = await Promise.all([
      engine.log.append("green", draft(ALICE, text, "19")),
      engine.log.append("green", draft(ALICE, text, "0")),
    ]);
    assertEquals([again.isDuplicate, again.event.seq], [true, 20]);
    assertEquals([forgotten.isDuplicate, forgotten.event.seq], [false, 21]);
  });

  it("never lets a room that is listened to begin to count again", async () => {
    const engine = open(20_000);
    using _ = await Listener.open(engine, "heard");
    await fill(engine, "heard", 5);
    await engine.log.whisper("heard", privateDraft(ALICE, BOB, text));
    await fill(engine, "unheard", 5);
    const [heard, unheard] = [await engine.log.state("heard"), await engine.log.state("unheard")];
    for (let i = 0; i < 20; i++) await fill(engine, `room ${i}`, 20);
    assertEquals(await engine.log.state("heard"), { epoch: heard.epoch, oldestSeq: 6, lastSeq: 5 });
    assertEquals(await engine.log.inboxSeq("heard", BOB.person), 1);
    const { epoch, lastSeq } = await engine.log.state("unheard");
    assert(epoch !== unheard.epoch);
    assertEquals(lastSeq, 0);
    assertEquals((await engine.log.append("heard", draft(ALICE, "on"))).event.seq, 6);
  });

  it("holds for a single room, and for private messages", async () => {
    const engine = open(20_000);
    for (let i = 0; i < 20; i++) {
      await fill(engine, "r", 20);
      const { oldestSeq, lastSeq } = await engine.log.state("r");
      const kept = lastSeq - oldestSeq + 1;
      assert(kept >= 20 && kept * 300 <= 20_000, `${kept} are kept.`);
      assertEquals((await engine.log.events("r", 0, 1000)).length, kept);
    }
    for (let i = 0; i < 200; i++) await engine.log.whisper("s", privateDraft(ALICE, BOB, text));
    const notes = (await engine.log.inbox("s", ALICE.person, 0, 1000)).length;
    assert(notes * 600 <= 20_000 * 1.1, `${notes} are kept.`);
    assertEquals(await engine.log.inboxSeq("s", ALICE.person), 200);
  });

  /** What everything in a room takes, as it can be read: 200 units and its text each. */
  const sizeOf = async ({ log }: MemoryEngine, room: string, people: readonly Author[]) => {
    const sizes = (all: readonly { content: string }[]) =>
      all.reduce((sum, { content }) => sum + 200 + content.length, 200);
    let size = sizes(await log.events(room, 0, ALL));
    for (const { person } of people) {
      if (await log.inboxSeq(room, person) === 0) continue;
      size += sizes((await log.inbox(room, person, 0, ALL)).map(({ message }) => message));
    }
    return size;
  };

  const seed = seeds(1)[0]!;
  it(`counts exactly what is kept, whatever is written and forgotten (SEED=${seed})`, async () => {
    const maxSize = 20_000;
    const random = new Random(seed);
    const engine = open(maxSize);
    const { log } = engine;
    const people = [ALICE, BOB];
    const extent = async () => {
      const inboxes = await Promise.all(people.map(({ person }) => log.inbox("r", person, 0, 1)));
      return [(await log.state("r")).oldestSeq, ...inboxes.map(([first]) => first?.inboxSeq ?? 0)];
    };
    // Both inboxes are there.
    await log.whisper("r", privateDraft(ALICE, BOB, "psst"));
    let forgettings = 0;
    for (let i = 0; i < 2000; i++) {
      const before = { size: await sizeOf(engine, "r", people), extent: await extent() };
      const content = "x".repeat(random.between(0, 300));
      const messages = await log.messages("r", { limit: ALL });
      const message = messages.length === 0 ? undefined : random.pick(messages);
      let needed = 200 + content.length;
      const step = random.weighted({ append: 4, edit: 3, delete: 2, whisper: 2 });
      if (step === "whisper") {
        await log.whisper("r", privateDraft(ALICE, BOB, content));
        needed *= 2;
      } else if (step === "append" || message === undefined) {
        await log.append("r", draft(ALICE, content));
      } else if (step === "edit") {
        await editMessage(engine, "r", { ...change(ALICE, message.id), content });
      } else {
        await deleteMessage(engine, "r", change(ALICE, message.id));
        needed = 200;
      }
      const size = await sizeOf(engine, "r", people);
      // An edit may make its message longer, which counts from the next write on.
      const growth = step === "edit" ? 300 : 0;
      assert(size <= maxSize + growth, `${size} units are kept.`);
      const isForgetting = (await extent()).some((first, i) => first > before.extent[i]!);
      if (isForgetting) forgettings++;
      assertEquals(isForgetting, before.size + needed > maxSize, `Step ${i}: ${step}`);
    }
    assert(forgettings > 20, `It forgot ${forgettings} times.`);
  });

  it("is not used up by what keep has dropped", async () => {
    const engine = new MemoryEngine({ ...OPTIONS, keep: 10, maxSize: 20_000 });
    for (let i = 0; i < 500; i++) {
      await engine.log.append("r", draft(ALICE, text));
      await engine.log.whisper("r", privateDraft(ALICE, BOB, text));
      const { oldestSeq, lastSeq } = await engine.log.state("r");
      assert(lastSeq - oldestSeq + 1 >= Math.min(10, i + 1), `Forgot too early in round ${i}.`);
      const notes = await engine.log.inbox("r", BOB.person, 0, ALL);
      assertEquals(notes.length, Math.min(10, i + 1));
    }
  });

  it("is free again of rooms that are forgotten whole", async () => {
    const engine = open(20_000);
    for (let i = 0; i < 500; i++) {
      await fill(engine, `room ${i}`, 5);
      await engine.log.whisper(`room ${i}`, privateDraft(ALICE, BOB, text));
      const { oldestSeq, lastSeq } = await engine.log.state(`room ${i}`);
      assertEquals([oldestSeq, lastSeq], [1, 5]);
    }
    // 2,700 units each: six of them and the beginning of a seventh.
    const rooms = Array.from({ length: 500 }, (_, i) => `room ${i}`);
    const sizes = await Promise.all(
      rooms.slice(-6).map((room) => sizeOf(engine, room, [ALICE, BOB])),
    );
    assertEquals(sizes.at(-1), 200 + 5 * 300 + 2 * 500);
  });

  it("forgets a ref no sooner than its message", async () => {
    const engine = open(20_000);
    await fill(engine, "r", 200);
    const { oldestSeq, lastSeq } = await engine.log.state("r");
    assert(oldestSeq > 1);
    for (let seq = oldestSeq; seq <= lastSeq; seq++) {
      const again = await engine.log.append("r", draft(ALICE, text, `${seq - 1}`));
      assertEquals([again.isDuplicate, again.event.seq], [true, seq]);
    }
  });
});

const timestamp = "2026-01-02T03:04:05.678Z";
const message: ChatEvent = {
  type: "chat",
  content: "first",
  room: "r",
  username: "alice",
  id: "e-1",
  seq: 1,
  timestamp,
};
const author = { username: "ALICE", person: "guest:a", origin: "c", id: "e-1" };
const edit: Change = { ...author, type: "edit", content: "second" };
const deletion: Change = { ...author, type: "delete" };
const edited = toLogEvent(message, edit, { seq: 2, timestamp });
const deleted = toLogEvent(message, deletion, { seq: 3, timestamp });

function assertRefused(run: () => void, code: ErrorCode): void {
  assertEquals(assertThrows(run, ChatError).code, code);
}

describe("A change", () => {
  it("is the author's, or a moderator's, of a message that is there", () => {
    const found = { event: message, person: "guest:a" };
    assertEquals(checkChange(found, edit), message);
    const stranger = { ...deletion, person: "guest:b" };
    assertRefused(() => checkChange(found, stranger), "forbidden");
    assertEquals(checkChange(found, { ...stranger, isModerator: true }), message);
    const gone = [undefined, { ...found, event: edited }, {
      ...found,
      event: applyChange(message, deleted),
    }];
    for (const one of gone) assertRefused(() => checkChange(one, deletion), "not_found");
  });

  it("is an event of its own, under the message's id and name", () => {
    const { type: _, ...base } = message;
    assertEquals(edited, { ...base, type: "message_updated", content: "second", seq: 2 });
    assertEquals(deleted, { ...base, type: "message_deleted", content: "", seq: 3 });
    assert(isErasure(deleted) && !isErasure(edited) && !isErasure(message));
  });

  it("alters its message, and as a deletion its edits too", () => {
    const now = applyChange(message, edited);
    assertEquals(now, { ...message, content: "second", edited: true });
    assertEquals(applyChange(edited, { ...edited, content: "third", seq: 4 }), edited);
    assertEquals(applyChange(now, deleted), { ...message, content: "", deleted: true });
    assertEquals(applyChange(edited, deleted), { ...edited, content: "" });
    assertEquals(applyChange(deleted, deleted), deleted);
  });

  it("alters nothing about another message", () => {
    const other = { ...message, id: "e-9", seq: 9 };
    for (const change of [edited, deleted, message]) {
      assertEquals(applyChange(other, change), other);
    }
    assertEquals(applyChange(message, message), message);
  });
});
