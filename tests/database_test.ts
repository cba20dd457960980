/**
 * The database for its owner: its contents and queries, and the backup and restore of the SQLite
 * file.
 */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { afterEach, beforeEach, describe, it } from "@std/testing/bdd";
import { DatabaseSync } from "node:sqlite";
import type { AckEvent, ErrorEvent, Event } from "../lib/protocol/events.ts";
import { blocksIn } from "./support/docs.ts";
import { PostgresServer, withPostgres } from "./support/postgres_server.ts";
import { ServerProcess } from "./support/process.ts";
import { hasDisks, mount, NO_TMPFS, unmount } from "./support/small_disk.ts";
import { V1Client } from "./support/v1_client.ts";

const ROOT = new URL("..", import.meta.url);

const docs = await Deno.readTextFile(new URL("docs/database.md", ROOT));
const [sqliteDocs, postgresDocs] = docs.split(/^## (?=PostgreSQL$|Redis$)/m) as [string, string];

/** The reason for skipping a test, and the remedy. */
const NO_SQLITE3 = "The tests with sqlite3 are skipped. Install it: apt-get install -y sqlite3";

/** Runs a program to its end. `undefined` if the machine does not have it. */
async function run(program: string, args: string[], options: Deno.CommandOptions = {}) {
  try {
    const output = await new Deno.Command(program, { args, ...options }).output();
    const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    return { code: output.code, stdout: decode(output.stdout), stderr: decode(output.stderr) };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Declares a test that needs a program or a right; skips it visibly without. */
function itWith(isThere: boolean, reason: string, name: string, test: () => Promise<void>): void {
  if (isThere) return void it(name, test);
  // deno-lint-ignore no-console
  console.log(reason);
  // A container may not mount a disk.
  if (reason === NO_TMPFS || Deno.env.get("REQUIRE_ALL") !== "1") return void it.skip(name, test);
  it(name, () => {
    throw new Error(reason);
  });
}

const hasSqlite3 = await run("sqlite3", ["--version"]) !== undefined;

let folder: string;
let path: string;
let env: Record<string, string>;

beforeEach(async () => {
  folder = await Deno.makeTempDir();
  path = `${folder}/chat.db`;
  env = { DATABASE_URL: `sqlite:${path}` };
});

afterEach(() => Deno.remove(folder, { recursive: true }));

/** The rows of a query on a file. */
function query(file: string, sql: string): Record<string, unknown>[] {
  const db = new DatabaseSync(file, { readOnly: true });
  try {
    return db.prepare(sql).all().map((row) => ({ ...row }));
  } finally {
    db.close();
  }
}

function backUp(copy: string, url = `sqlite:${path}`) {
  return run(Deno.execPath(), ["task", "backup", copy], { cwd: ROOT, env: { DATABASE_URL: url } });
}

let refs = 0;

/** Sends a command, and waits until it is stored or refused. */
async function ask(client: V1Client, command: { type: string; [field: string]: unknown }) {
  const ref = `ask-${++refs}`;
  client.send({ ...command, ref });
  const isAnswer = ({ type }: Event) => type === "ack" || type === "error";
  return await client.next((event) => isAnswer(event) && "ref" in event && event.ref === ref) as
    | AckEvent
    | ErrorEvent;
}

/** Some of everything that docs/database.md queries. */
async function talk(server: ServerProcess): Promise<void> {
  await using alice = await V1Client.join(server.ws, "lobby", "alice");
  await using bob = await V1Client.join(server.ws, "lobby", "bob");
  await ask(alice, { type: "chat", content: "hello bob" });
  const said = await ask(bob, { type: "chat", content: 'hello "alice", and a comma' });
  await ask(alice, { type: "chat", content: "one more" });
  assert("id" in said, JSON.stringify(said));
  await ask(bob, { type: "edit", id: said.id, content: 'hello "alice", again' });
  const slip = await ask(alice, { type: "chat", content: "hello, a slip" });
  assert("id" in slip, JSON.stringify(slip));
  await ask(alice, { type: "delete", id: slip.id });
}

/** The fenced blocks of a part of docs/database.md in a language. */
function readBlocks(language: string, part = sqliteDocs): string[] {
  return blocksIn(part, language);
}

describe("docs/database.md, of SQLite", () => {
  it("names every table and view with its columns, and no other", async () => {
    await using server = await ServerProcess.start({ env });
    await talk(server);
    const real = Object.fromEntries(
      query(path, "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')")
        .map(({ name }) => String(name))
        .filter((name) => !name.startsWith("sqlite_"))
        .map((name) => [name, query(path, `SELECT name FROM pragma_table_info('${name}')`)])
        .map(([name, columns]) => [name, (columns as { name: string }[]).map(({ name }) => name)]),
    );
    const documented = Object.fromEntries(
      sqliteDocs.split(/^#### `/m).slice(1).map((section) => [
        section.slice(0, section.indexOf("`")),
        [...section.matchAll(/^\| `(\w+)` +\|/gm)].map(([, column]) => column),
      ]),
    );
    assertEquals(documented, real);
  });

  it("has queries that work", async () => {
    await using server = await ServerProcess.start({ env });
    await talk(server);
    const [lastDay, search, ofAlice, sizes, ...more] = readBlocks("sql")
      .map((sql) => query(path, sql));
    assertEquals(more, []);
    const edited = 'hello "alice", again';
    assertEquals(lastDay!.map(({ content }) => content), ["hello bob", edited, "one more"]);
    assertEquals(search!.map(({ content }) => content).sort(), [edited, "hello bob"]);
    assertEquals(search!.map(({ room }) => room), ["lobby", "lobby"]);
    assertEquals(ofAlice!.map(({ content }) => content), ["hello bob", "one more"]);
    const bytes = `hello bob${edited}one more`.length;
    assertEquals(
      sizes!.map(({ room, messages, bytes }) => [room, messages, bytes]),
      [["lobby", 4, bytes]],
    );
    assert(
      Date.parse(String(sizes![0]!.newest)) > Date.now() - 60_000,
      String(sizes![0]!.newest),
    );
  });

  it("describes the row of a deleted message", async () => {
    await using server = await ServerProcess.start({ env });
    await talk(server);
    const sql = "SELECT username, content, edited, deleted FROM messages WHERE deleted OR edited";
    assertEquals(query(path, sql), [
      { username: "bob", content: 'hello "alice", again', edited: 1, deleted: 0 },
      { username: "alice", content: "", edited: 0, deleted: 1 },
    ]);
  });

  itWith(hasSqlite3, NO_SQLITE3, "has commands that work beside the server", async () => {
    await using server = await ServerProcess.start({ env });
    await talk(server);
    const blocks = readBlocks("sh").filter((block) => block.includes("sqlite3"));
    assertEquals(blocks.length, 3);
    for (const block of blocks) {
      // Two commands in one block make one copy each.
      for (const line of block.includes("copy.db") ? block.trim().split("\n") : [block]) {
        const result = await run("sh", ["-ec", line], { cwd: folder });
        assertEquals([result!.code, result!.stderr], [0, ""], line);
        if (!line.includes("copy.db")) continue;
        assertEquals(query(`${folder}/copy.db`, "SELECT * FROM messages").length, 4);
        await Deno.remove(`${folder}/copy.db`);
      }
    }
    const csv = await Deno.readTextFile(`${folder}/lobby.csv`);
    const [head, ...rows] = csv.trim().split(/\r?\n/);
    assertEquals([head, rows.length], ["seq,timestamp,username,content", 3]);
    assertStringIncludes(csv, 'bob,"hello ""alice"", again"');
  });
});

/** Sends messages, with up to 20 under way, until it is stopped. */
function keepTalking(client: V1Client) {
  let isStopped = false;
  let sent = 0;
  const done = (async () => {
    for (let acked = 0; !isStopped; acked++) {
      for (; sent < acked + 20; sent++) {
        client.send({ type: "chat", content: `message ${sent}`, ref: `${sent}` });
      }
      await client.nextOf("ack");
    }
  })();
  return {
    stop: () => {
      isStopped = true;
      return done;
    },
  };
}

withPostgres(() =>
  describe("docs/database.md, of PostgreSQL", () => {
    let postgres: PostgresServer;
    let server: ServerProcess;
    let database: string;

    beforeEach(async () => {
      postgres = await PostgresServer.start();
      const url = await postgres.createDatabase();
      database = url.split("/").at(-1)!;
      server = await ServerProcess.start({ env: { DATABASE_URL: url } });
      await talk(server);
    });

    afterEach(async () => {
      await server[Symbol.asyncDispose]();
      await postgres[Symbol.asyncDispose]();
    });

    it("names every table and view with its columns, and no other", async () => {
      const real = await postgres.query(
        `SELECT table_name, string_agg(column_name, ' ' ORDER BY ordinal_position)
        FROM information_schema.columns WHERE table_schema = 'hubbub' GROUP BY table_name`,
        database,
      );
      const tables = postgresDocs.slice(postgresDocs.indexOf("### The tables"));
      const documented = tables.matchAll(/^\| `(\w+)` +\| (`[^|]*`) +\|/gm).map((
        [, name, columns],
      ) => `${name}|${columns!.replaceAll(/[`,]/g, "")}`);
      assertEquals([...documented].sort(), real.split("\n").sort());
    });

    it("has queries that work for a read-only user", async () => {
      const [user, ...queries] = readBlocks("sql", postgresDocs);
      await postgres.query(user!, database);
      const settings = "SET ROLE reader; SET search_path = hubbub;";
      const [lastDay, search, ofAlice, sizes, ...more] = await Promise.all(
        queries.map(async (sql) => (await postgres.query(settings + sql, database)).split("\n")),
      );
      assertEquals(more, []);
      const contents = (rows: string[]) => rows.map((row) => row.split("|").at(-1));
      const edited = 'hello "alice", again';
      assertEquals(contents(lastDay!), ["hello bob", edited, "one more"]);
      assertEquals(contents(search!).sort(), [edited, "hello bob"]);
      assertEquals(contents(ofAlice!), ["hello bob", "one more"]);
      const bytes = `hello bob${edited}one more`.length;
      assertEquals(sizes!.map((row) => row.replace(/\|[^|]*$/, "")), [`lobby|4|${bytes}`]);
    });
  })
);

describe("A backup of a server under load", () => {
  /** Backs up while three members talk; then compares the copy with their messages. */
  async function check(back: (copy: string) => Promise<void>): Promise<void> {
    const copy = `${folder}/copy.db`;
    const acks = [];
    let sentAfter = 0;
    {
      await using server = await ServerProcess.start({ env });
      const members = await Promise.all(
        ["alice", "bob", "carol"].map((name) => V1Client.join(server.ws, "r", name)),
      );
      const talks = members.map(keepTalking);
      for (const member of members) {
        while (member.all("ack").length < 500) await new Promise((done) => setTimeout(done, 10));
      }
      acks.push(...members.flatMap((member) => member.all("ack")));
      await back(copy);
      await Promise.all(talks.map(({ stop }) => stop()));
      sentAfter = members.flatMap((member) => member.all("ack")).length - acks.length;
      await Promise.all(members.map((member) => member.close()));
    }
    assert(sentAfter > 0, "Nobody talked meanwhile.");
    const stored = query(copy, "SELECT seq, id FROM messages WHERE room = 'r' ORDER BY seq");
    assertEquals(stored.map(({ seq }) => seq), stored.map((_, i) => i + 1));
    for (const { seq, id } of acks) assertEquals(stored[seq! - 1], { seq, id });

    const restored = await ServerProcess.start({ env: { DATABASE_URL: `sqlite:${copy}` } });
    await using _restored = restored;
    await using dave = await V1Client.join(restored.ws, "r", "dave");
    assertEquals(dave.welcome.seq, stored.length);
    const { seq, id } = await dave.nextOf("chat", ({ seq }) => seq === stored.length);
    assertEquals({ seq, id }, stored.at(-1));
    const answer = await ask(dave, { type: "chat", content: "and on" });
    assertEquals("seq" in answer && answer.seq, stored.length + 1);
  }

  it("by deno task backup holds every message acked before it, and a server starts on it", () =>
    check(async (copy) => {
      const { code, stdout, stderr } = (await backUp(copy))!;
      assertEquals(code, 0, stderr);
      assertMatch(stdout, /^\/.*\/copy\.db holds \d+ messages in 1 room\.\n$/);
      const [{ messages }] = query(copy, "SELECT count(*) AS messages FROM messages") as [
        { messages: number },
      ];
      assertStringIncludes(stdout, ` ${messages} messages `);
    }));

  for (const [name, command] of [[".backup", ".backup "], ["VACUUM INTO", "VACUUM INTO "]]) {
    itWith(
      hasSqlite3,
      NO_SQLITE3,
      `by sqlite3 and ${name} is as complete`,
      () =>
        check(async (copy) => {
          const result = await run("sqlite3", [path, `${command}'${copy}'`]);
          assertEquals(result, { code: 0, stdout: "", stderr: "" });
        }),
    );
  }
});

describe("deno task backup", () => {
  const fill = async () => {
    await using server = await ServerProcess.start({ env });
    await talk(server);
    await server.stop();
  };

  it("copies the file of a stopped server, and leaves nothing else behind", async () => {
    await fill();
    const before = [...Deno.readDirSync(folder)].map(({ name }) => name);
    const { code, stdout } = (await backUp(`${folder}/copy.db`))!;
    assertEquals([code, stdout], [0, `${folder}/copy.db holds 3 messages in 1 room.\n`]);
    const after = [...Deno.readDirSync(folder)].map(({ name }) => name);
    assertEquals(after.sort(), [...before, "copy.db"].sort());
  });

  it("makes a copy that only its owner can read", async () => {
    await fill();
    await backUp(`${folder}/copy.db`);
    if (Deno.build.os === "windows") return;
    assertEquals((await Deno.stat(`${folder}/copy.db`)).mode! & 0o777, 0o600);
  });

  it("resolves the copy's path in the current folder", async () => {
    await fill();
    const config = new URL("deno.json", ROOT).pathname;
    const args = [Deno.execPath(), "task", "--config", config, "backup", "copy.db"];
    // The task that runs this test has set it already.
    const { code, stderr } = (await run("env", ["-u", "INIT_CWD", ...args], { cwd: folder, env }))!;
    assertEquals(code, 0, stderr);
    assertEquals(query(`${folder}/copy.db`, "SELECT * FROM messages").length, 4);
  });

  it("replaces no file", async () => {
    await fill();
    for (const name of ["other.txt", "chat.db"]) {
      const file = `${folder}/${name}`;
      if (name !== "chat.db") await Deno.writeTextFile(file, "precious");
      const before = await Deno.readFile(file);
      const { code, stderr } = (await backUp(file))!;
      assertEquals(code, 1);
      assertStringIncludes(stderr, `${file} exists already. Name a new file.\n`);
      assertEquals(await Deno.readFile(file), before);
    }
  });

  it("explains a failure in one sentence, and leaves no partial copy", async () => {
    const copy = `${folder}/copy.db`;
    const other = `${folder}/other.db`;
    const db = new DatabaseSync(other);
    db.exec("CREATE TABLE notes (text)");
    db.close();
    await Deno.writeTextFile(`${folder}/text.db`, "This is no database. ".repeat(100));
    await fill();
    const CASES: [url: string, copy: string, sentence: string][] = [
      ["memory:", copy, "DATABASE_URL is memory:, which keeps nothing to back up."],
      [
        "postgres://alice:secret@host/chat",
        copy,
        "DATABASE_URL is PostgreSQL. Back it up with pg_dump: docs/deploy.md says how.",
      ],
      [
        "rediss://:secret@host",
        copy,
        "DATABASE_URL is Redis. Back it up with redis-cli --rdb: docs/deploy.md says how.",
      ],
      ["sqlite::memory:", copy, "DATABASE_URL must be memory:, not sqlite::memory:."],
      [`sqlite:${folder}/none.db`, copy, `There is no database at ${folder}/none.db.`],
      [
        `sqlite:${other}`,
        copy,
        `Cannot copy ${other} to ${copy}: The file is not a database of this version.`,
      ],
      [`sqlite:${folder}/text.db`, copy, `Cannot copy ${folder}/text.db to ${copy}: `],
      [`sqlite:${path}`, `${folder}/no/copy.db`, `Cannot copy ${path} to ${folder}/no/copy.db: `],
      [`sqlite:${path}`, "", "Name one file: deno task backup COPY"],
      [`sqlite:${path}`, "--help", "Name one file: deno task backup COPY"],
    ];
    const before = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
    for (const [url, target, sentence] of CASES) {
      const { code, stdout, stderr } = (await backUp(target, url))!;
      assertEquals([code, stdout], [1, ""], url);
      assertStringIncludes(stderr, sentence);
      assert(!stderr.includes("    at "), stderr);
    }
    assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name).sort(), before);
  });
});

describe("A restore", () => {
  it("as in docs/database.md restores the copy, without the old -wal", async () => {
    const copy = `${folder}/copy.db`;
    {
      await using server = await ServerProcess.start({ env });
      await talk(server);
      assertEquals((await backUp(copy))!.code, 0);
      await using carol = await V1Client.join(server.ws, "lobby", "carol");
      await ask(carol, { type: "chat", content: "too late" });
      await server.stop("SIGKILL");
    }
    for (const suffix of ["", "-wal", "-shm"]) await Deno.remove(path + suffix);
    await Deno.copyFile(copy, path);
    await using server = await ServerProcess.start({ env });
    const contents = query(path, "SELECT content FROM messages WHERE NOT deleted ORDER BY seq");
    assertEquals(contents.map(({ content }) => content), [
      "hello bob",
      'hello "alice", again',
      "one more",
    ]);
    await using alice = await V1Client.join(server.ws, "lobby", "alice");
    assertEquals((await ask(alice, { type: "chat", content: "on" })).type, "ack");
  });
});

/** An answer to `GET /health`. */
type Health = [status: number, body: unknown];

async function readHealth({ url }: ServerProcess): Promise<Health> {
  const response = await fetch(`${url}/health`);
  return [response.status, await response.json()];
}

const OK: Health = [200, { status: "ok" }];
const DEGRADED: Health = [503, { status: "degraded" }];

describe("A server whose store fails", () => {
  const changed = async (server: ServerProcess, msg: string, wanted: Health) => {
    await server.logLine((line) => line.msg === msg);
    assertEquals(await readHealth(server), wanted);
  };
  it("is degraded while the file is gone, logs it once, and recovers when it is back", async () => {
    await using server = await ServerProcess.start({ env });
    await using alice = await V1Client.join(server.ws, "r", "alice");
    assertEquals((await ask(alice, { type: "chat", content: "before" })).type, "ack");
    assertEquals(await readHealth(server), OK);
    await Deno.rename(path, `${path}.away`);
    await changed(server, "store unavailable", DEGRADED);
    await Deno.rename(`${path}.away`, path);
    await changed(server, "store is back", OK);
    assertEquals((await ask(alice, { type: "chat", content: "after" })).type, "ack");
    const changes = server.log.map(({ msg }) => msg).filter((msg) => msg.startsWith("store "));
    assertEquals(changes, ["store unavailable", "store is back"]);
    assert(server.log.find(({ msg }) => msg === "store unavailable")!.reason);
  });

  itWith(
    hasDisks,
    NO_TMPFS,
    "refuses messages on a full disk, and accepts the next once there is space",
    async () => {
      const disk = `${folder}/disk`;
      await Deno.mkdir(disk);
      await mount(disk);
      try {
        await Deno.writeFile(`${disk}/ballast`, new Uint8Array(1_500_000));
        await using server = await ServerProcess.start({
          env: { DATABASE_URL: `sqlite:${disk}/chat.db` },
        });
        await using alice = await V1Client.join(server.ws, "r", "alice");
        const say = () => ask(alice, { type: "chat", content: "x".repeat(4000) });
        let acked = -1;
        let answer;
        do {
          answer = await say();
          acked++;
        } while (answer.type === "ack");
        assertEquals(answer.code, "unavailable");
        await changed(server, "store unavailable", DEGRADED);
        const before = server.log.length;
        for (let i = 0; i < 60; i++) assertEquals((await say()).type, "error");
        const [first, ...lines] = server.log.slice(before);
        assert(first !== undefined && Number(lines[0]?.omitted) > 0, JSON.stringify(lines));
        const took = Date.parse(lines.at(-1)!.time) - Date.parse(first.time);
        assert(lines.length <= took / 1000 + 1, `${lines.length} lines in ${took} ms.`);
        assertEquals(await readHealth(server), DEGRADED);
        await Deno.remove(`${disk}/ballast`);
        await changed(server, "store is back", OK);
        assertEquals((await say()).type, "ack");
        assertEquals((await server.stop()).code, 0);
        const [row] = query(`${disk}/chat.db`, "SELECT count(*) AS stored FROM messages");
        assertEquals(row, { stored: acked + 1 });
      } finally {
        await unmount(disk);
      }
    },
  );
});
