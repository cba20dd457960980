import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { setImmediate } from "node:timers";
import { DatabaseSync } from "node:sqlite";
import type { EngineOptions } from "../lib/engine/engine.ts";
import { MemoryEngine, MemoryStore } from "../lib/engine/memory.ts";
import { SqliteEngine } from "../lib/engine/sqlite.ts";
import { ChatError } from "../lib/errors.ts";
import type { LogEvent } from "../lib/protocol/events.ts";
import {
  ALICE,
  BOB,
  change,
  deleteMessage,
  draft,
  editMessage,
  Lab,
  Listener,
  privateDraft,
  type Store,
  testEngine,
} from "./support/engine_suite.ts";

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
});
