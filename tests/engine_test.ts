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
import {
  applyChange,
  checkChange,
  isErasure,
  toLogEvent,
  withPresentText,
} from "../lib/engine/changes.ts";
import type { Author, Change, EngineOptions } from "../lib/engine/engine.ts";
import { GroupCommit } from "../lib/engine/group_commit.ts";
import { MemoryEngine, MemoryStore } from "../lib/engine/memory.ts";
import { SqliteEngine } from "../lib/engine/sqlite.ts";
import { MAX_CACHED_ROOMS } from "../lib/engine/sqlite_log.ts";
import { Checkpoints } from "../lib/engine/sqlite_wal.ts";
import { ChatError, type ErrorCode } from "../lib/errors.ts";
import type { ChatEvent, LogEvent } from "../lib/protocol/events.ts";
import {
  ALICE,
  ALL,
  BOB,
  botToken,
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

/** A new folder for a file. */
class SqliteStore implements Store {
  readonly isLasting = true;
  readonly isShared = false;
  path: string;
  readonly dir: string;
  #copies = 0;

  constructor() {
    this.dir = Deno.makeTempDirSync();
    this.path = `${this.dir}/chat.db`;
  }

  open(options: EngineOptions = OPTIONS): SqliteEngine {
    return new SqliteEngine({ ...options, path: this.path, atCommit: setImmediate });
  }

  /** Continues with a copy of the current files. */
  freeze(): void {
    const copy = `${this.dir}/copy${++this.#copies}.db`;
    // In this order, a checkpoint between the two is harmless.
    Deno.copyFileSync(`${this.path}-wal`, `${copy}-wal`);
    Deno.copyFileSync(this.path, copy);
    this.path = copy;
  }

  /** Every row of a table, as text. */
  rows(table: string): string[] {
    const all = (db: DatabaseSync) => db.prepare(`SELECT * FROM ${table}`).all();
    return this.inspect(all).map((row) => JSON.stringify(row));
  }

  /** Runs a function on the file while no engine has it open. */
  inspect<T>(look: (db: DatabaseSync) => T): T {
    const db = new DatabaseSync(this.path);
    try {
      return look(db);
    } finally {
      db.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.dir, { recursive: true });
  }
}

testEngine("SqliteEngine", () => new SqliteStore());

/** An engine whose file refuses every message with the text "poison". */
async function openPoisoned(how: "ABORT" | "ROLLBACK", options: { keep?: number } = {}) {
  const store = new SqliteStore();
  await store.open().close();
  store.inspect((db) =>
    db.exec(`
      CREATE TRIGGER poison BEFORE INSERT ON events WHEN NEW.content = 'poison'
      BEGIN SELECT RAISE(${how}, 'the disk is full'); END
    `)
  );
  return await Lab.open(() => store, options);
}

/** The size of a store's write-ahead log. */
function walOf({ path }: SqliteStore): number {
  return Deno.statSync(`${path}-wal`).size;
}

/** Every byte of a store's files, as text. */
function bytesOf(path: string): string {
  const texts = [path, `${path}-wal`].map((file) => {
    try {
      return new TextDecoder("latin1").decode(Deno.readFileSync(file));
    } catch {
      return "";
    }
  });
  return texts.join("");
}

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Waits until a condition holds. */
async function until(isDone: () => boolean, what: string): Promise<void> {
  const end = performance.now() + 10_000;
  while (!isDone()) {
    assert(performance.now() < end, `Waited in vain: ${what}`);
    await sleep(50);
  }
}

/** Runs a program until it writes that it is ready. */
async function runUntilReady(code: string): Promise<{ pid: number; kill: () => Promise<void> }> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["eval", "--no-lock", code],
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.getReader();
  await reader.read();
  const kill = async () => {
    child.kill("SIGKILL");
    await child.status;
    await reader.cancel();
  };
  return { pid: child.pid, kill };
}

/** How a sentence goes on that names a process. Only Linux tells. */
function named(pid: number): string {
  return Deno.build.os === "linux" ? `: process ${pid} (${Deno.execPath()} eval ` : "";
}

describe("SqliteEngine: a file", () => {
  it("belongs to one engine at a time", async () => {
    await using store = new SqliteStore();
    const first = store.open();
    for (let i = 0; i < 2; i++) assertThrows(() => store.open(), Error, "Another Hubbub uses");
    await first.log.append("r", draft(ALICE, "still here"));
    await first.close();
    const second = store.open();
    assertThrows(() => store.open(), Error, "Another Hubbub uses");
    assertEquals((await second.log.events("r", 0, 10)).length, 1);
    await second.close();
  });

  it("is one file under any name", async () => {
    await using store = new SqliteStore();
    const first = store.open();
    Deno.symlinkSync(store.path, `${store.path}.link`);
    store.path = `${store.path}.link`;
    assertThrows(() => store.open(), Error, "Another Hubbub uses");
    await first.close();
  });

  it("is one file behind an existing link", async () => {
    await using store = new SqliteStore();
    const link = `${store.dir}/link.db`;
    Deno.symlinkSync(store.path, link);
    const engine = new SqliteEngine({ ...OPTIONS, path: link, atCommit: setImmediate });
    assertThrows(() => store.open(), Error, "Another Hubbub uses this file. Stop it first,");
    await engine.close();
    await store.open().close();
  });

  it("is free as soon as its server is killed, and has every message", async () => {
    await using store = new SqliteStore();
    const url = new URL("../lib/engine/sqlite.ts", import.meta.url);
    const code = `
      const { SqliteEngine } = await import(${JSON.stringify(url.href)});
      const engine = new SqliteEngine({
        ...{ clock: Date.now, newId: () => crypto.randomUUID(), keep: Infinity, leaseMs: 30000 },
        ...{ path: ${JSON.stringify(store.path)}, atCommit: (callback) => setTimeout(callback) },
      });
      await engine.log.append("r", { username: "a", person: "p", content: "acked", origin: "o" });
      console.log("ready");
      setInterval(() => {}, 1000);
    `;
    const { pid, kill } = await runUntilReady(code);
    const sentence = `Another Hubbub uses this file${named(pid)}`;
    assertThrows(() => store.open(), Error, sentence);
    await kill();
    const engine = store.open();
    assertEquals((await engine.log.events("r", 0, 10)).map(({ content }) => content), ["acked"]);
    await engine.close();
  });

  it("that another program has locked is refused, and the sentence names the program", async () => {
    await using store = new SqliteStore();
    await store.open().close();
    const { pid, kill } = await runUntilReady(`
      const { DatabaseSync } = await import("node:sqlite");
      const db = new DatabaseSync(${JSON.stringify(store.path)});
      db.exec("BEGIN IMMEDIATE");
      console.log("ready");
      setInterval(() => db.isOpen, 1000);
    `);
    const sentence = `Another program has locked the file${named(pid)}`;
    assertThrows(() => store.open(), Error, sentence);
    await kill();
    await store.open().close();
  });

  it("can be read by other programs while its server runs", async () => {
    await using store = new SqliteStore();
    const engine = store.open();
    const { event } = await engine.log.append("café", draft(ALICE, "first", "ref"));
    await engine.log.append("café", draft(BOB, "second"));
    await editMessage(engine, "café", { ...change(ALICE, event.id), content: "third" });
    const gone = await engine.log.append("café", draft(BOB, "fourth"));
    await deleteMessage(engine, "café", change(BOB, gone.event.id));
    const sql = "SELECT * FROM messages ORDER BY seq";
    const read = () => store.inspect((db) => db.prepare(sql).all().map((row) => ({ ...row })));
    const [first, , last] = read();
    const { id, timestamp } = event;
    assertEquals(first, {
      ...{ room: "café", seq: 1, id, username: "alice", content: "third", timestamp },
      ...{ edited: 1, deleted: 0, reply_to: null, ref: "ref" },
    });
    assertEquals([last!.id, last!.content, last!.edited, last!.deleted], [gone.event.id, "", 0, 1]);
    await engine.log.append("café", draft(ALICE, "fifth"));
    assertEquals(read().map(({ content }) => content), ["third", "second", "", "fifth"]);
    await engine.close();
  });

  it("names its program and its schema version", async () => {
    await using store = new SqliteStore();
    for (let i = 0; i < 2; i++) {
      const engine = store.open();
      await engine.log.append("r", draft(ALICE, `life ${i}`));
      await engine.close();
      const pragma = (name: string) =>
        store.inspect((db) => Object.values(db.prepare(`PRAGMA ${name}`).get()!)[0]);
      assertEquals([pragma("application_id"), pragma("user_version")], [0x48554242, 6]);
    }
    const engine = store.open();
    assertEquals((await engine.log.state("r")).lastSeq, 2);
    await engine.close();
  });

  it("may have settings of the first release without a version, which can be changed", async () => {
    await using store = new SqliteStore();
    await store.open().close();
    const old = { owner: "alice", isPrivate: true, members: [], bans: [] };
    store.inspect((db) =>
      db.prepare("INSERT INTO settings VALUES ('r', 'alice', ?)").run(JSON.stringify(old))
    );
    const engine = store.open();
    const { roomSettings } = engine;
    const settings = await roomSettings.settings("r");
    assertEquals(settings, { ...old, moderators: [], version: 1 });
    assert(await roomSettings.setSettings("r", { ...settings, isPrivate: false }));
    assertEquals((await roomSettings.settings("r")).version, 2);
    await engine.close();
  });
});

/** Turns the current tables into those of version 5. */
const WITHOUT_BOTS = `
  DROP INDEX sessions_name;
  ALTER TABLE sessions DROP COLUMN name;
  ALTER TABLE sessions DROP COLUMN created;
`;

/** The schema of versions 1 to 3, as steps. */
const OLD_SCHEMA = [
  `
    CREATE TABLE rooms (
      id INTEGER PRIMARY KEY,
      name TEXT NOT NULL UNIQUE,
      epoch TEXT NOT NULL
    ) STRICT;
    CREATE TABLE blocks (
      room INTEGER NOT NULL,
      first INTEGER NOT NULL,
      events TEXT NOT NULL,
      authors TEXT NOT NULL,
      PRIMARY KEY (room, first)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE inbox (
      room INTEGER NOT NULL,
      person TEXT NOT NULL,
      seq INTEGER NOT NULL,
      id TEXT NOT NULL,
      content TEXT NOT NULL,
      time INTEGER NOT NULL,
      from_name TEXT NOT NULL,
      from_person TEXT NOT NULL,
      from_seq INTEGER NOT NULL,
      to_name TEXT NOT NULL,
      to_person TEXT NOT NULL,
      to_seq INTEGER NOT NULL,
      ref TEXT,
      PRIMARY KEY (room, person, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX inbox_ref ON inbox (room, person, ref) WHERE ref IS NOT NULL;
    CREATE INDEX inbox_time ON inbox (time);
  `,
  `
    CREATE TABLE accounts (
      key TEXT PRIMARY KEY,
      username TEXT NOT NULL,
      password_hash TEXT NOT NULL
    ) STRICT;
    CREATE TABLE sessions (
      hash TEXT PRIMARY KEY,
      account TEXT NOT NULL,
      expires_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX sessions_expiry ON sessions (expires_at);
    CREATE TABLE settings (
      room TEXT PRIMARY KEY,
      owner TEXT,
      value TEXT NOT NULL
    ) STRICT;
    CREATE INDEX settings_owner ON settings (owner);
  `,
  "CREATE TABLE journal (start INTEGER PRIMARY KEY, entries TEXT NOT NULL) STRICT;",
];

describe("SqliteEngine: a file of an earlier version", () => {
  const time = Date.now() - 60_000;
  const timestamp = new Date(time).toISOString();
  const at = (seq: number) => ({
    room: "r",
    username: "alice",
    id: `old-1-${seq}`,
    seq,
    timestamp,
  });
  const chat = (seq: number, content: string, more: Partial<ChatEvent> = {}): ChatEvent => {
    return { type: "chat", content, ...at(seq), ...more };
  };
  const updated = (seq: number, of: number, content: string): LogEvent => {
    return { type: "message_updated", content, ...at(of), seq };
  };
  const deleted = (seq: number, of: number): LogEvent => {
    return { type: "message_deleted", content: "", ...at(of), seq };
  };
  const block = [
    chat(5, "five"),
    chat(6, "secret-6 now", { edited: true }),
    updated(7, 6, "secret-6 once"),
    chat(8, "", { deleted: true }),
    updated(9, 8, ""),
    updated(10, 6, "secret-6 now"),
    deleted(11, 8),
  ];
  const blockAuthors = [
    ["guest:a", "alice\n5"],
    ["guest:a", null, [7, 10]],
    ["guest:a"],
    ["guest:a", null, [9, 11]],
    ["guest:a"],
    ["guest:a"],
    ["guest:b"],
  ];
  const [twelve, thirteen] = [chat(12, "twelve"), chat(13, "thirteen")];
  const refs: Record<number, string> = { 5: "5", 13: "13" };
  // A replaced edit has the current text of its message.
  const events = [...block, twelve, thirteen].map((event) => {
    if (event.seq === 7) return { ...event, content: "secret-6 now" };
    return event.seq in refs ? { ...event, ref: refs[event.seq]! } : event;
  });

  /** Creates a file of that version, killed with events in the journal. */
  function make(store: SqliteStore, version: number): void {
    store.inspect((db) => {
      db.exec(`PRAGMA journal_mode = WAL; ${OLD_SCHEMA.slice(0, version).join("")}`);
      db.exec(`
        PRAGMA user_version = ${version};
        INSERT INTO rooms VALUES (1, 'r', 'old-1'), (2, 'quiet', 'old-2'), (7, 's', 'old-7');
      `);
      const addBlock = db.prepare("INSERT INTO blocks VALUES (?, ?, ?, ?)");
      addBlock.run(1, 5, JSON.stringify(block), JSON.stringify(blockAuthors));
      if (version < 3) {
        addBlock.run(1, 12, JSON.stringify([twelve]), '[["guest:b"]]');
        addBlock.run(1, 13, JSON.stringify([thirteen]), '[["guest:a","alice\\n13"]]');
      } else {
        const s = { ...chat(1, "only in the journal"), room: "s", id: "old-7-1" };
        const entries = [
          // A block has the first of these already.
          [[1, 10, block.slice(5), blockAuthors.slice(5)], [7, 1, [s], [["guest:c"]]]],
          [[1, 12, [twelve], [["guest:b"]]]],
          [[1, 13, [thirteen], [["guest:a", "alice\n13"]]]],
        ];
        const add = db.prepare("INSERT INTO journal VALUES (?, ?)");
        for (const [i, entry] of entries.entries()) add.run(i * 1000, JSON.stringify(entry));
      }
      const add = db.prepare("INSERT INTO inbox VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
      const note = (owner: string, seq: number, id: string, ref: string | null) =>
        add.run(
          ...[2, owner, seq, id, `note ${id}`, time],
          ...["alice", "guest:a", seq, "bob", "guest:b", seq, ref],
        );
      note("guest:a", 1, "n1", "alice\nref");
      // The same ref under another name of the same person.
      note("guest:a", 2, "n2", "alicia\nref");
      note("guest:b", 1, "n1", null);
      note("guest:b", 2, "n2", null);
      if (version < 2) return;
      db.exec(`
        INSERT INTO accounts VALUES ('alice', 'Alice', 'hash');
        INSERT INTO sessions VALUES ('token', 'alice', ${time * 2});
        INSERT INTO settings VALUES ('r', 'alice',
          '{"owner":"alice","isPrivate":true,"members":[],"bans":[],"version":3}');
      `);
    });
  }

  for (const version of [1, 2, 3]) {
    it(`keeps all its data (version ${version})`, async () => {
      await using store = new SqliteStore();
      make(store, version);
      let engine = store.open();
      for (let life = 0; life < 2; life++) {
        const { log } = engine;
        assertEquals(await log.events("r", 0, 100), events);
        const messages = await log.messages("r", { limit: 100 });
        assertEquals(messages.map(({ seq }) => seq), [5, 6, 12, 13]);
        const { epoch, ...state } = await log.state("r");
        assertEquals(state, { oldestSeq: 5, lastSeq: 13 });
        const able = [[3, false], [4, true], [8, true], [13, true], [14, false]] as const;
        for (const [seq, can] of able) {
          assertEquals(await log.canResume("r", "old-1", seq), can);
          assertEquals(await log.canResume("r", epoch, seq), can);
          assertEquals(await log.canResume("r", "old-2", seq), false);
        }
        if (version === 3) {
          assertEquals((await log.events("s", 0, 9)).map(({ id }) => id), ["old-7-1"]);
          assert(await log.canResume("s", "old-7", 1));
        }
        const inbox = await log.inbox("quiet", "guest:b", 0, 9);
        assertEquals(inbox.map(({ message: { id, ref } }) => [id, ref]), [
          ["n1", undefined],
          ["n2", "ref"],
        ]);
        assert(await log.canResumeInbox("quiet", "guest:b", "old-2", 1));
        assertEquals(await log.canResumeInbox("quiet", "guest:b", "old-2", 3), false);
        const again = privateDraft(ALICE, BOB, "note n2", "ref");
        assertEquals((await log.whisper("quiet", again)).event.id, "n2");
        for (const [ref, seq, content] of [["5", 5, "five"], ["13", 13, "thirteen"]] as const) {
          const receipt = await log.append("r", draft(ALICE, content, ref));
          assertEquals([receipt.isDuplicate, receipt.event.seq], [true, seq]);
        }
        const account = await engine.accounts.account("alice");
        assertEquals(account?.username, version < 2 ? undefined : "Alice");
        assertEquals((await engine.roomSettings.settings("r")).version, version < 2 ? 0 : 3);
        await engine.close();
        engine = store.open();
      }
      const { epoch } = await engine.log.state("r");
      assertEquals((await engine.log.append("r", draft(ALICE, "on"))).event.id, `${epoch}-14`);
      assertEquals((await engine.log.append("new", draft(ALICE, "on"))).event.seq, 1);
      // A deletion finds every earlier text.
      await deleteMessage(engine, "r", change(ALICE, "old-1-6"));
      const log = await engine.log.events("r", 5, 2);
      assertEquals(log.map(({ content }) => content), ["", ""]);
      await engine.close();
      assert(!bytesOf(store.path).includes("secret-6"));
      assert(!store.rows("sqlite_schema").join().includes("blocks"));
    });
  }

  it("has the refs of private messages in both inboxes (version 4)", async () => {
    await using store = new SqliteStore();
    let engine = store.open();
    await engine.log.whisper("r", privateDraft(ALICE, BOB, "one", "ref"));
    await engine.log.whisper("r", privateDraft(BOB, ALICE, "two"));
    await engine.close();
    store.inspect((db) =>
      db.exec(`
        DROP INDEX inbox_ref;
        CREATE UNIQUE INDEX inbox_ref ON inbox (room, person, ref) WHERE ref IS NOT NULL;
        UPDATE inbox SET ref = NULL WHERE person = 'guest:b';
        ${WITHOUT_BOTS}
        PRAGMA user_version = 4;
      `)
    );
    engine = store.open();
    for (const person of ["guest:a", "guest:b"]) {
      const inbox = await engine.log.inbox("r", person, 0, 9);
      assertEquals(inbox.map(({ message }) => message.ref), ["ref", undefined]);
    }
    const third = await engine.log.whisper("r", privateDraft(BOB, ALICE, "three", "ref"));
    assertEquals(third.isDuplicate, false);
    await engine.close();
    assertEquals(store.inspect((db) => db.prepare("PRAGMA user_version").get()!.user_version), 6);
  });

  for (const version of [1, 2, 3, 4, 5]) {
    it(`accepts tokens of bots (version ${version}), and keeps the sessions`, async () => {
      await using store = new SqliteStore();
      if (version <= 3) make(store, version);
      else {
        await store.open().close();
        store.inspect((db) =>
          db.exec(`
            ${WITHOUT_BOTS}
            INSERT INTO sessions VALUES ('token', 'alice', ${Date.now() * 2});
            PRAGMA user_version = ${version};
          `)
        );
      }
      for (const isNew of [true, false]) {
        const engine = store.open();
        const { accounts } = engine;
        assertEquals((await accounts.token("token"))?.account, version > 1 ? "alice" : undefined);
        const dice = botToken("dice", { name: "dice" });
        assertEquals(await accounts.addBotToken(dice, 20), isNew);
        assertEquals(await accounts.botTokens("alice"), [dice]);
        await engine.close();
      }
    });
  }

  it("has accounts and rooms under the current keys of their names", async () => {
    await using store = new SqliteStore();
    make(store, 3);
    const bans = [
      { key: "sun☀\ufe0f", person: "account:sun☀\ufe0f" },
      { key: "moon☀\ufe0f", person: "guest:m" },
    ];
    const settings = { owner: "sun☀\ufe0f", isPrivate: true, members: ["sun☀\ufe0f"], bans };
    store.inspect((db) => {
      db.exec(`
        INSERT INTO accounts VALUES ('sun☀\ufe0f', 'Sun☀\ufe0f', 'hash');
        INSERT INTO sessions VALUES ('its token', 'sun☀\ufe0f', ${Date.now() * 2});
        INSERT INTO rooms VALUES (9, '☕\ufe0f', 'old-9');
        UPDATE inbox SET person = 'account:sun☀\ufe0f' WHERE person = 'guest:b';
      `);
      const value = JSON.stringify({ ...settings, version: 3 });
      db.prepare("INSERT INTO settings VALUES (?, ?, ?)").run("☕\ufe0f", settings.owner, value);
    });
    const engine = store.open();
    assertEquals((await engine.accounts.account("sun☀"))?.username, "Sun☀\ufe0f");
    assertEquals((await engine.accounts.token("its token"))?.account, "sun☀");
    const now = await engine.roomSettings.settings("☕");
    assertEquals([now.owner, now.members, now.isPrivate], ["sun☀", ["sun☀"], true]);
    assertEquals(now.bans, [
      { key: "sun☀", person: "account:sun☀" },
      { key: "moon☀", person: "guest:m" },
    ]);
    assertEquals(await engine.roomSettings.countOwned("sun☀"), 1);
    assertEquals(await engine.log.inboxSeq("quiet", "account:sun☀"), 2);
    await engine.close();
    const names = store.inspect((db) => db.prepare("SELECT name FROM rooms ORDER BY id").all());
    assertEquals(names.map(({ name }) => name), ["r", "quiet", "s", "☕"]);
  });

  it("stays unchanged if the migration fails", async () => {
    await using store = new SqliteStore();
    make(store, 3);
    store.inspect((db) => db.exec("INSERT INTO journal VALUES (9000, 'no list')"));
    assertThrows(() => store.open(), Error);
    assertEquals(store.rows("blocks").length, 1);
    store.inspect((db) => db.exec("DELETE FROM journal WHERE start = 9000"));
    const engine = store.open();
    assertEquals((await engine.log.events("r", 0, 100)).length, 9);
    await engine.close();
  });
});

describe("SqliteEngine: a file that is refused", () => {
  const refusals: Record<string, [make: (path: string) => void, sentence: string]> = {
    "of another program": [
      (path) => exec(path, "CREATE TABLE invoices (a); INSERT INTO invoices VALUES (1)"),
      "The file belongs to another program.",
    ],
    "of another program, with a version": [
      (path) => exec(path, "CREATE TABLE rooms (a); PRAGMA user_version = 3"),
      "The file belongs to another program.",
    ],
    "of another program, without a table": [
      (path) => exec(path, "PRAGMA application_id = 7"),
      "The file belongs to another program.",
    ],
    "of a newer version": [
      (path) =>
        exec(
          path,
          "CREATE TABLE rooms (a); PRAGMA application_id = 0x48554242; PRAGMA user_version = 7",
        ),
      "The file was written by a newer version of Hubbub. Use that version for it.",
    ],
    "that is no database": [
      (path) => Deno.writeTextFileSync(path, "a shopping list, and a long one\n".repeat(300)),
      "The file is not a database.",
    ],
    "that was cut": [
      (path) => {
        exec(path, "CREATE TABLE rooms (a); INSERT INTO rooms VALUES (zeroblob(100000))");
        Deno.truncateSync(path, 8192);
      },
      "The file is damaged.",
    ],
  };

  function exec(path: string, sql: string): void {
    const db = new DatabaseSync(path);
    db.exec(sql);
    db.close();
  }

  for (const [what, [make, sentence]] of Object.entries(refusals)) {
    it(`${what}, stays unchanged`, async () => {
      await using store = new SqliteStore();
      make(store.path);
      const before = Deno.readFileSync(store.path);
      for (let i = 0; i < 2; i++) assertThrows(() => store.open(), Error, sentence);
      assertEquals(Deno.readFileSync(store.path), before);
    });
  }

  it("is a folder, or in none", async () => {
    await using store = new SqliteStore();
    Deno.mkdirSync(store.path);
    assertThrows(() => store.open(), Error, "It is a folder.");
    store.path = `${store.path}/no/chat.db`;
    assertThrows(() => store.open(), Error, "The folder of the file does not exist.");
  });

  it("cannot be written to", async () => {
    await using store = new SqliteStore();
    await store.open().close();
    Deno.chmodSync(store.path, 0o444);
    // To the superuser, every file is writable.
    if (Deno.uid() === 0) return await store.open().close();
    assertThrows(() => store.open(), Error, "The file cannot be read and written.");
  });
});

describe("SqliteEngine: a deleted text", () => {
  it("is in no byte of the file, nor of its log after a checkpoint", async () => {
    await using store = new SqliteStore();
    let engine = store.open();
    const other = "x".repeat(300);
    const secrets: string[] = [];
    for (let round = 0; round < 30; round++) {
      // Also long texts, on pages of their own, and edits, which move rows.
      const texts = [`secret-${round}`, `secret-${round} `.repeat(800)];
      const said = await Promise.all([
        ...texts.map((text) => engine.log.append(`room ${round % 3}`, draft(ALICE, text))),
        ...[1, 2, 3].map((n) => engine.log.append(`room ${n}`, draft(BOB, `${other}${n}`))),
      ]);
      for (const { event } of said.slice(0, 2)) {
        const content = `secret-${round} ${"edited".repeat(round * 20)}`;
        await editMessage(engine, event.room, { ...change(ALICE, event.id), content });
        secrets.push(event.id);
      }
    }
    await until(() => Deno.statSync(`${store.path}-wal`).size === 0, "the log is emptied");
    assertStringIncludes(bytesOf(store.path), "secret-7 ");
    for (const [i, id] of secrets.entries()) {
      const room = `room ${Math.floor(i / 2) % 3}`;
      await deleteMessage(engine, room, change(ALICE, id));
    }
    // Another room keeps writing, so that the log is never idle.
    let isWiped = false;
    const writing = (async () => {
      while (!isWiped) {
        await engine.log.append("busy", draft(BOB, "on and on"));
        await sleep(20);
      }
    })();
    await until(() => !bytesOf(store.path).includes("secret-"), "the bytes are gone")
      .finally(() => isWiped = true);
    await writing;
    await engine.close();
    engine = store.open();
    assertEquals((await engine.log.messages("room 2", { limit: 100 })).length, 30);
    await engine.close();
    assert(!bytesOf(store.path).includes("secret-"));
  });
});

describe("SqliteEngine: an epoch", () => {
  /** Appends messages one after the other. */
  async function sayEach(engine: SqliteEngine, texts: string[], room = "r") {
    const receipts = texts.map((text) => engine.log.append(room, draft(ALICE, text)));
    return (await Promise.all(receipts)).map(({ event }) => event);
  }
  const upTo = (name: string, count: number) => Array.from({ length: count }, (_, i) => name + i);

  it("of a restored backup ends with the backup, and no id is given twice", async () => {
    await using store = new SqliteStore();
    const original = store.path;
    let engine = store.open();
    const kept = await sayEach(engine, upTo("kept", 10));
    const older = (await engine.log.state("r")).epoch;
    await engine.close();
    Deno.copyFileSync(original, `${original}.backup`);

    engine = store.open();
    const { epoch } = await engine.log.state("r");
    const lost = await sayEach(engine, upTo("lost", 5));
    await engine.log.whisper("r", privateDraft(ALICE, BOB, "lost"));
    await engine.close();

    Deno.copyFileSync(`${original}.backup`, original);
    engine = store.open();
    const fresh = await sayEach(engine, upTo("new", 8));
    await engine.log.whisper("r", privateDraft(ALICE, BOB, "new"));
    const { log } = engine;
    assertEquals(fresh[0]!.seq, 11);
    const ids = [...kept, ...lost, ...fresh].map(({ id }) => id);
    assertEquals(new Set(ids).size, ids.length);
    for (const seq of [1, 10, 11, 15, 18]) {
      assertEquals(await log.canResume("r", epoch, seq), false);
      assertEquals(await log.canResume("r", older, seq), seq <= 10);
      assertEquals(await log.canResume("r", (await log.state("r")).epoch, seq), true);
    }
    assert(await log.canResume("r", epoch, 0));
    assertEquals(await log.canResumeInbox("r", BOB.person, epoch, 1), false);
    assert(await log.canResumeInbox("r", BOB.person, epoch, 0));
    assert(await log.canResumeInbox("r", BOB.person, (await log.state("r")).epoch, 1));
    await assertRejects(() => deleteMessage(engine, "r", change(ALICE, lost[0]!.id)), ChatError);
    await engine.close();
  });

  it("of a log that lost its end stops where it was cut", async () => {
    await using store = new SqliteStore();
    const engine = store.open();
    await sayEach(engine, upTo("kept", 10));
    const { size } = Deno.statSync(`${store.path}-wal`);
    await sayEach(engine, upTo("lost", 5));
    const { epoch } = await engine.log.state("r");
    store.freeze();
    Deno.truncateSync(`${store.path}-wal`, size);
    await engine.close();
    const next = store.open();
    await sayEach(next, upTo("new", 8));
    for (const [seq, can] of [[10, true], [11, false], [15, false], [18, false]] as const) {
      assertEquals(await next.log.canResume("r", epoch, seq), can);
    }
    await next.close();
  });

  it("of an earlier life can be resumed while nothing is missing", async () => {
    await using store = new SqliteStore();
    const seen: [epoch: string, seq: number][] = [];
    for (let life = 0; life < 4; life++) {
      const engine = store.open();
      // Every second life has no messages.
      if (life % 2 === 0) await sayEach(engine, upTo(`${life} `, 3));
      const { epoch, lastSeq } = await engine.log.state("r");
      for (const [old, seq] of seen) {
        assert(await engine.log.canResume("r", old, seq));
        assertEquals(await engine.log.canResume("s", old, seq), false);
        assertEquals(await engine.log.canResume("r", old, lastSeq + 1), false);
        assertNotEquals(old, epoch);
      }
      seen.push([epoch, lastSeq]);
      const nonsense = ["", "-", `${epoch}0`, `-${epoch}`, epoch.slice(1), "\ud800", epoch + "\0"];
      for (const text of nonsense) assertEquals(await engine.log.canResume("r", text, 1), false);
      for (const seq of [-1, 0.5, NaN, Infinity]) {
        assertEquals(await engine.log.canResume("r", epoch, seq), false);
      }
      await engine.close();
    }
  });

  it("can be resumed from the trimmed end of a log, not before", async () => {
    await using store = new SqliteStore();
    const options = { ...OPTIONS, keep: 20 };
    let engine = store.open(options);
    const before = (await engine.log.state("r")).epoch;
    await sayEach(engine, upTo("a", 100));
    await engine.close();
    engine = store.open(options);
    await sayEach(engine, upTo("b", 100));
    for (let life = 0; life < 2; life++) {
      const { oldestSeq, epoch } = await engine.log.state("r");
      assert(oldestSeq > 101);
      // In the first life, the client cannot have seen the dropped events.
      assertEquals(await engine.log.canResume("r", before, oldestSeq - 1), false);
      assertEquals(await engine.log.canResume("r", epoch, oldestSeq - 1), true);
      assertEquals(await engine.log.canResume("r", epoch, oldestSeq - 2), false);
      assertEquals(await engine.log.canResume("r", epoch, 0), false);
      if (life === 0) await engine.close(), engine = store.open(options);
    }
    await engine.close();
  });

  it("cannot be resumed across a hole, and logs the hole", async () => {
    await using store = new SqliteStore();
    let engine = store.open();
    const { epoch } = await engine.log.state("r");
    await sayEach(engine, upTo("a", 30));
    await engine.close();
    store.inspect((db) => db.exec("DELETE FROM events WHERE seq BETWEEN 10 AND 12"));
    const lines: string[] = [];
    const note = (message: string) => void lines.push(message);
    engine = new SqliteEngine({
      ...OPTIONS,
      path: store.path,
      atCommit: setImmediate,
      logger: { info: note, warn: note, error: note },
    });
    const { log } = engine;
    for (
      const [seq, can] of [[0, false], [9, false], [11, false], [12, true], [13, true]] as const
    ) {
      assertEquals(await log.canResume("r", epoch, seq), can, `${seq}`);
    }
    const numbers = async (after: number, limit: number) =>
      (await log.events("r", after, limit)).map(({ seq }) => seq);
    assertEquals(await numbers(20, 5), [21, 22, 23, 24, 25]);
    assertEquals(await numbers(8, 7), [13, 14, 15, 16, 17, 18, 19]);
    assertEquals((await log.state("r")).oldestSeq, 13);
    assert(lines.length > 0 && lines.every((line) => line === "events are missing in a log"));
    assertEquals((await sayEach(engine, ["on"]))[0]!.seq, 31);
    await engine.close();
  });
});

/** A client that follows a room, and believes what `canResume` says. */
class Follower {
  #epoch = "";
  #seq = 0;
  /** The events it received, by `seq`. */
  readonly #told = new Map<number, LogEvent>();

  async resume({ log }: SqliteEngine): Promise<boolean> {
    const { epoch, oldestSeq, lastSeq } = await log.state("r");
    const can = await log.canResume("r", this.#epoch, this.#seq);
    if (!can) this.#told.clear();
    const missed = await log.events("r", can ? this.#seq : oldestSeq - 1, ALL);
    const first = can ? this.#seq + 1 : oldestSeq;
    assertEquals(missed.map(({ seq }) => seq), missed.map((_, i) => first + i));
    assertEquals(missed.at(-1)?.seq ?? (can ? this.#seq : 0), lastSeq);
    for (const event of missed) this.#told.set(event.seq, event);
    // Its earlier events match the log and the newest text of each message.
    const texts = new Map(
      [...this.#told].sort(([a], [b]) => a - b).map(([, { id, content }]) => [id, content]),
    );
    for (const event of await log.events("r", 0, ALL)) {
      const { type, id } = this.#told.get(event.seq)!;
      assertEquals([event.type, event.id], [type, id]);
      if (type === "chat") assertEquals(event.content, texts.get(id));
    }
    [this.#epoch, this.#seq] = [epoch, lastSeq];
    return can;
  }
}

describe("SqliteEngine: any accident of its file", () => {
  for (const seed of seeds(3)) {
    it(`gives every client all events, or recovered: false (SEED=${seed})`, async () => {
      await using store = new SqliteStore();
      const random = new Random(seed);
      const options = { ...OPTIONS, keep: 60 };
      let engine = store.open(options);
      const followers = Array.from({ length: 4 }, () => new Follower());
      const texts = new Map<string, string>();
      const backups: string[] = [];
      let [count, resumed, lost] = [0, 0, 0];
      const write = async () => {
        const { event } = await engine.log.append("r", draft(ALICE, `text ${++count}`));
        assertEquals(texts.get(event.id), undefined, "An id was given twice.");
        texts.set(event.id, event.content);
      };
      const changeOne = async () => {
        const messages = await engine.log.messages("r", { limit: 10 });
        if (messages.length === 0) return;
        const wish = change(ALICE, random.pick(messages).id);
        if (random.percent(30)) await deleteMessage(engine, "r", wish);
        else await editMessage(engine, "r", { ...wish, content: `edit ${++count}` });
      };
      for (let i = 0; i < 500; i++) {
        switch (
          random.weighted({
            write: 40,
            change: 15,
            resume: 30,
            restart: 4,
            kill: 4,
            cut: 3,
            restore: 3,
          })
        ) {
          case "write":
            await write();
            break;
          case "change":
            await changeOne();
            break;
          case "resume":
            if (await random.pick(followers).resume(engine)) resumed++;
            else lost++;
            break;
          case "restart":
            await engine.close();
            backups.push(Deno.makeTempFileSync({ dir: store.dir }));
            Deno.copyFileSync(store.path, backups.at(-1)!);
            engine = store.open(options);
            break;
          case "kill":
          case "cut": {
            store.freeze();
            await engine.close();
            const wal = `${store.path}-wal`;
            const { size } = Deno.statSync(wal);
            if (random.percent(50)) Deno.truncateSync(wal, random.between(0, size));
            engine = store.open(options);
            break;
          }
          case "restore":
            if (backups.length === 0) break;
            await engine.close();
            Deno.copyFileSync(random.pick(backups), store.path);
            engine = store.open(options);
        }
      }
      for (const follower of followers) await follower.resume(engine);
      assert(resumed > 20 && lost > 5, `${resumed} resumed, and ${lost} did not.`);
      await engine.close();
    });
  }
});

describe("SqliteEngine: a ref", () => {
  it("is known after a restart, for the newest 10,000 messages of a room", async () => {
    await using store = new SqliteStore();
    let engine = store.open();
    for (let i = 0; i < 130; i++) {
      const refs = Array.from({ length: 100 }, (_, k) => `${i * 100 + k}`);
      await Promise.all(refs.map((ref) => engine.log.append("r", draft(ALICE, "x", ref))));
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

  it("is known as long as its message is kept, even if few are kept", async () => {
    await using store = new SqliteStore();
    const engine = store.open({ ...OPTIONS, keep: 3 });
    for (let i = 1; i <= 300; i++) {
      await engine.log.append("r", draft(ALICE, "x", `${i}`));
      const { oldestSeq } = await engine.log.state("r");
      const again = await engine.log.append("r", draft(ALICE, "x", `${oldestSeq}`));
      assertEquals([again.isDuplicate, again.event.seq], [true, oldestSeq]);
    }
    await engine.close();
  });
});

describe("SqliteEngine: maxStoredBytes", () => {
  /** An engine whose clock moves a minute with each room. */
  function openBounded(store: SqliteStore, maxStoredBytes: number) {
    const options = { ...OPTIONS, clock: () => time, path: store.path };
    let time = Date.now();
    const engine = new SqliteEngine({ ...options, atCommit: setImmediate, maxStoredBytes });
    return { engine, wait: () => void (time += 60_000) };
  }
  const text = "x".repeat(1000);
  const size = (store: SqliteStore) =>
    store.inspect((db) => {
      const pragma = (name: string) => Object.values(db.prepare(`PRAGMA ${name}`).get()!)[0];
      return (Number(pragma("page_count")) - Number(pragma("freelist_count"))) *
        Number(pragma("page_size"));
    });

  it("drops the rooms first that have been silent for longest", async () => {
    await using store = new SqliteStore();
    const { engine, wait } = openBounded(store, 1_000_000);
    const { log, bus } = engine;
    const stop = await bus.subscribe("open", () => {});
    const say = (room: string, count: number) =>
      Promise.all(Array.from({ length: count }, () => log.append(room, draft(ALICE, text))));
    await say("open", 100);
    await say("lobby", 100);
    for (let i = 0; i < 1500; i++) {
      wait();
      await say(`one-off ${i}`, 1);
      if (i % 100 === 0) await say("lobby", 1);
    }
    await until(() => size(store) <= 1_100_000, "the file is small");
    assertEquals((await log.state("one-off 0")).lastSeq, 0);
    assertEquals((await log.state("one-off 1499")).lastSeq, 1);
    // A room with members keeps its numbers.
    assertEquals((await log.state("open")).lastSeq, 100);
    assert((await log.state("open")).oldestSeq > 50);
    assertEquals((await log.state("lobby")).lastSeq, 115);
    const rooms = store.rows("rooms").length;
    assert(rooms > 300 && rooms < 1000, `${rooms} rooms are left.`);
    stop();
    await engine.close();
  });

  it("applies to the private messages of a room with members", async () => {
    await using store = new SqliteStore();
    const { engine } = openBounded(store, 500_000);
    const { log, bus } = engine;
    const stop = await bus.subscribe("lobby", () => {});
    const to = Array.from({ length: 20 }, (_, i) => ({ username: `to${i}`, person: `guest:${i}` }));
    await log.append("lobby", draft(ALICE, "hello"));
    for (let i = 0; i < 1500; i++) {
      await log.whisper("lobby", privateDraft(ALICE, to[i % 20]!, text));
    }
    assert(size(store) <= 600_000, `${size(store)} bytes are in use.`);
    assertEquals(await log.inboxSeq("lobby", ALICE.person), 1500);
    for (const { person } of to) assertEquals(await log.inboxSeq("lobby", person), 75);
    assertEquals((await log.messages("lobby", { limit: 5 })).length, 1);
    stop();
    await engine.close();
  });

  it("does not tell a client that it has seen all of a dropped room", async () => {
    await using store = new SqliteStore();
    const { engine, wait } = openBounded(store, 500_000);
    const { log } = engine;
    const { epoch } = await log.state("gone");
    await log.append("gone", draft(ALICE, text));
    const other = (await log.state("never")).epoch;
    for (let i = 0; i < 800; i++) {
      wait();
      await log.append(`room ${i}`, draft(ALICE, text));
    }
    const now = await log.state("gone");
    assertEquals(now.lastSeq, 0);
    assertNotEquals(now.epoch, epoch);
    for (const seq of [0, 1]) assertEquals(await log.canResume("gone", epoch, seq), false);
    assert(await log.canResume("gone", now.epoch, 0));
    assert(await log.canResume("never", other, 0));
    await engine.close();
  });
});

describe("SqliteEngine: check", () => {
  it("fails while the file is gone or replaced, and so does every write", async () => {
    await using store = new SqliteStore();
    const engine = store.open();
    await engine.check();
    await engine.log.append("r", draft(ALICE, "before"));
    // The thread that makes the checkpoints has opened the file by then.
    await until(() => walOf(store) === 0, "the log is emptied");
    const moved = `${store.path}.moved`;
    Deno.renameSync(store.path, moved);
    await assertRejects(() => engine.check(), Error, "The database file is gone.");
    const error = await assertRejects(() => engine.log.append("r", draft(ALICE, "x")), ChatError);
    assertEquals(error.code, "unavailable");
    Deno.writeTextFileSync(store.path, "something else");
    await assertRejects(() => engine.check(), Error, "Another file is in the place");
    Deno.renameSync(moved, store.path);
    await engine.check();
    assertEquals((await engine.log.append("r", draft(ALICE, "after"))).event.seq, 2);
    await engine.close();
  });

  it("tries to write after a failed commit", async () => {
    await using store = new SqliteStore();
    await store.open().close();
    store.inspect((db) =>
      db.exec(`
        CREATE TRIGGER poison BEFORE INSERT ON events WHEN NEW.content = 'poison'
        BEGIN SELECT RAISE(ABORT, 'poison'); END
      `)
    );
    const engine = store.open();
    await assertRejects(() => engine.log.append("r", draft(ALICE, "poison")), Error, "poison");
    await engine.check();
    assertEquals((await engine.log.append("r", draft(ALICE, "on"))).event.seq, 1);
    await engine.close();
  });

  it("finds nothing wrong with a database in memory", async () => {
    const engine = new SqliteEngine({ ...OPTIONS, path: ":memory:", atCommit: setImmediate });
    await engine.log.append("r", draft(ALICE, "hello"));
    await engine.check();
    await engine.close();
  });
});

describe("SqliteEngine: the write-ahead log", () => {
  it("stays small under load, and is emptied when idle", async () => {
    await using store = new SqliteStore();
    const engine = store.open();
    let largest = 0;
    const rooms = Array.from({ length: 100 }, (_, i) => `room ${i}`);
    // Far more than 16 MB, and before the next scheduled checkpoint.
    const text = "x".repeat(2000);
    for (let i = 0; i < 200; i++) {
      await Promise.all(rooms.map((room) => engine.log.append(room, draft(ALICE, text))));
      largest = Math.max(largest, walOf(store));
    }
    assert(largest < 16e6, `It was ${largest} bytes long.`);
    await until(() => walOf(store) === 0, "the log is emptied");
    for (const room of rooms) assertEquals((await engine.log.state(room)).lastSeq, 200);
    await engine.close();
    assertThrows(() => walOf(store), Deno.errors.NotFound);
  });

  it("delays no commit while a reader holds it", async () => {
    await using store = new SqliteStore();
    const engine = store.open();
    await engine.log.append("r", draft(ALICE, "one"));
    const reader = new DatabaseSync(store.path, { readOnly: true });
    reader.exec("BEGIN; SELECT * FROM events");
    reader.prepare("SELECT * FROM events").all();
    for (let i = 0; i < 1500; i++) await engine.log.append("r", draft(ALICE, "more"));
    await deleteMessage(
      engine,
      "r",
      change(ALICE, (await engine.log.events("r", 0, 1))[0]!.id),
    );
    assertEquals(reader.prepare("SELECT count(*) AS n FROM events").get()!.n, 1);
    reader.close();
    await until(() => walOf(store) === 0, "the log is emptied");
    assertEquals((await engine.log.state("r")).lastSeq, 1502);
    await engine.close();
  });
});

describe("Checkpoints", () => {
  /** A database with a long log, and its checkpoints. */
  function open(store: SqliteStore, path = store.path) {
    const db = new DatabaseSync(store.path);
    db.exec("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (x)");
    const lines: string[] = [];
    const note = (line: string) => void lines.push(line);
    let released = Promise.withResolvers<void>();
    const checkpoints = new Checkpoints({
      path,
      db,
      logger: { info: note, warn: note, error: note },
      onRelease: () => released.resolve(),
    });
    /** Waits until commits have been delayed and are not any more. */
    const release = async () => {
      await released.promise;
      released = Promise.withResolvers();
    };
    // Unlike a server's port, the thread alone keeps no program running.
    const port = setInterval(() => {}, 1000);
    const close = async () => {
      await checkpoints.close();
      db.close();
      clearInterval(port);
    };
    return { db, checkpoints, release, lines, close };
  }

  it("are retried until the reader that holds the log has ended", async () => {
    await using store = new SqliteStore();
    const { db, checkpoints, release, lines, close } = open(store);
    const reader = new DatabaseSync(store.path);
    reader.exec("BEGIN");
    reader.prepare("SELECT * FROM t").all();
    db.exec("INSERT INTO t VALUES (1)");
    checkpoints.note(1, true);
    for (let i = 0; i < 2; i++) await release();
    assert(walOf(store) > 0);
    assert(!checkpoints.isHolding && !checkpoints.isStuck);
    reader.close();
    await release();
    assertEquals(walOf(store), 0);
    await close();
    assertEquals(lines, []);
  });

  it("run on the main thread if the worker fails, and log it", async () => {
    await using store = new SqliteStore();
    const { checkpoints, release, lines, close } = open(store, `${store.dir}/no/such.db`);
    assert(walOf(store) > 0);
    checkpoints.note(1, true);
    await release();
    await until(() => walOf(store) === 0, "the log is emptied");
    assertEquals(lines, ["checkpoints run on the main thread"]);
    await close();
  });
});

describe("SqliteEngine: the writes of one turn", () => {
  for (const how of ["ABORT", "ROLLBACK"] as const) {
    it(`are stored together or not at all (${how})`, async () => {
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

  it("fail without a change of the epoch, even in an empty room", async () => {
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
    const { oldestSeq, lastSeq } = await lab.engine.log.state("r");
    assertEquals([oldestSeq, lastSeq], [1, 1]);
  });

  it("drop nothing if they fail", async () => {
    await using lab = await openPoisoned("ABORT", { keep: 20 });
    const { log } = lab.engine;
    const say = (text: string) => log.append("r", draft(ALICE, text));
    await Promise.all(Array.from({ length: 147 }, (_, i) => say(`${i}`)));
    const before = await log.state("r");
    assertEquals([before.oldestSeq, before.lastSeq], [1, 147]);
    // The next message has the oldest ones dropped.
    const results = await Promise.allSettled([say("one more"), say("poison")]);
    assert(results.every(({ status }) => status === "rejected"));
    assertEquals(await log.state("r"), before);
    assertEquals((await log.events("r", 0, 1000)).length, 147);
    await say("one more");
    assert((await log.state("r")).oldestSeq > 100);
  });

  it("leave no ref behind if they fail, though another message takes the number", async () => {
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

  it("fail together, even if a room was forgotten meanwhile", async () => {
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

  it("are all dropped when the engine ends before the turn", async () => {
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

describe("GroupCommit", () => {
  it("queues writes in order, and refuses those beyond its limit", async () => {
    let mustWait = true;
    const published: string[] = [];
    const commits = new GroupCommit({
      atCommit: (callback) => callback(),
      transact: (write) => write(),
      mustWait: () => mustWait,
      publish: (room) => published.push(room),
    });
    const put = (room: string) =>
      commits.put(room, () => ({
        value: room,
        event: { type: "token_ended", hash: room },
      }));
    const waiting = Array.from({ length: 10_000 }, (_, i) => put(`${i}`));
    const refusal = await assertRejects(() => put("too many"), ChatError);
    assertEquals(refusal.code, "unavailable");
    assertEquals(published, []);
    mustWait = false;
    commits.commit();
    const rooms = Array.from({ length: 10_000 }, (_, i) => `${i}`);
    assertEquals(await Promise.all(waiting), rooms);
    assertEquals(published, rooms);
  });
});

describe("SqliteEngine: rooms in memory", () => {
  it("are forgotten when unused, and read back unchanged", async () => {
    await using lab = await Lab.open(() => new SqliteStore());
    const { log, bus } = lab.engine;
    const stop = await bus.subscribe("heard", () => {});
    const epochOf = async (room: string) => (await log.state(room)).epoch;
    // The epoch of a room without a row shows whether it was forgotten.
    const [heard, unheard] = [await epochOf("heard"), await epochOf("unheard")];
    const drafts = Array.from({ length: 128 }, (_, i) => draft(ALICE, `${i}`, `${i}`));
    const stored = await Promise.all(drafts.map((one) => log.append("stored", one)));
    const state = await log.state("stored");

    const rooms = Array.from({ length: MAX_CACHED_ROOMS - 3 }, (_, i) => `room ${i}`);
    const epochs: string[] = [];
    for (const room of rooms) epochs.push(await epochOf(room));
    assertEquals(await epochOf("unheard"), unheard);
    await log.state("one too many");

    const half = rooms.length - (MAX_CACHED_ROOMS / 2 - 1);
    assertEquals(await epochOf(rooms[half]!), epochs[half]);
    assertEquals(await epochOf(rooms.at(-1)!), epochs.at(-1));
    assertNotEquals(await epochOf(rooms[half - 1]!), epochs[half - 1]);
    assertNotEquals(await epochOf("unheard"), unheard);
    // Nothing was said there, so nobody has missed anything.
    assert(await log.canResume("unheard", unheard, 0));
    assertEquals(await epochOf("heard"), heard);
    assertEquals(await log.state("stored"), state);
    assertEquals(await log.events("stored", 127, 10), [stored[127]!.event]);
    const again = await log.append("stored", draft(ALICE, "5", "5"));
    assertEquals([again.isDuplicate, again.event.seq], [true, 6]);
    assertEquals((await log.append("stored", draft(ALICE, "next"))).event.seq, 129);
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

  it("drops the oldest messages of the longest silent room", async () => {
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

  it("never restarts the numbers of a room with subscribers", async () => {
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

  it("applies to a single room, and to private messages", async () => {
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

  /** The size of a room's readable contents: 200 units and the text for each. */
  const sizeOf = async ({ log }: MemoryEngine, room: string, people: readonly Author[]) => {
    const sizes = (all: readonly { content: string }[]) =>
      all.reduce((sum, { content }) => sum + 200 + content.length, 200);
    const events = await log.events(room, 0, ALL);
    // A replaced edit has no text of its own.
    const kept = events.map((event, i) => {
      const isReplaced = event.type !== "chat" &&
        events.slice(i + 1).some(({ id }) => id === event.id);
      return isReplaced ? { content: "" } : event;
    });
    let size = sizes(kept);
    for (const { person } of people) {
      if (await log.inboxSeq(room, person) === 0) continue;
      size += sizes((await log.inbox(room, person, 0, ALL)).map(({ message }) => message));
    }
    return size;
  };

  const seed = seeds(1)[0]!;
  it(`counts exactly the kept size through random writes (SEED=${seed})`, async () => {
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
      // An edit may lengthen its message, which counts from the next write.
      const growth = step === "edit" ? 300 : 0;
      assert(size <= maxSize + growth, `${size} units are kept.`);
      const isForgetting = (await extent()).some((first, i) => first > before.extent[i]!);
      if (isForgetting) forgettings++;
      assertEquals(isForgetting, before.size + needed > maxSize, `Step ${i}: ${step}`);
    }
    assert(forgettings > 20, `It forgot ${forgettings} times.`);
  });

  it("does not count messages dropped by keep", async () => {
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

  it("does not count forgotten rooms", async () => {
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
  it("needs an existing message, and its author or a moderator", () => {
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

  it("is a separate event, with the message's id and name", () => {
    const { type: _, ...base } = message;
    assertEquals(edited, { ...base, type: "message_updated", content: "second", seq: 2 });
    assertEquals(deleted, { ...base, type: "message_deleted", content: "", seq: 3 });
    assert(isErasure(deleted) && !isErasure(edited) && !isErasure(message));
  });

  it("alters its message, and an earlier edit of it", () => {
    const now = applyChange(message, edited);
    assertEquals(now, { ...message, content: "second", edited: true });
    const third = { ...edited, content: "third", seq: 4 };
    assertEquals(applyChange(edited, third), { ...edited, content: "third" });
    assertEquals(applyChange(now, deleted), { ...message, content: "", deleted: true });
    assertEquals(applyChange(edited, deleted), { ...edited, content: "" });
    assertEquals(applyChange(deleted, deleted), deleted);
  });

  it("replaced by a later one has the current text of its message, if kept", () => {
    const replaced = { ...edited, content: "" };
    const find = (id: string) => id === message.id ? { ...message, content: "now" } : undefined;
    assertEquals(withPresentText(replaced, find), { ...edited, content: "now" });
    assertEquals(withPresentText(replaced, () => undefined), replaced);
    for (const event of [message, edited, deleted]) {
      assertEquals(withPresentText(event, find), event);
    }
  });

  it("leaves other messages unchanged", () => {
    const other = { ...message, id: "e-9", seq: 9 };
    for (const change of [edited, deleted, message]) {
      assertEquals(applyChange(other, change), other);
    }
    assertEquals(applyChange(message, message), message);
  });
});
