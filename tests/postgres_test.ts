/** The remote engine on PostgreSQL, and the failures of the link between them. */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { setImmediate } from "node:timers";
import { DEFAULT_SETTINGS, type EngineOptions } from "../lib/engine/engine.ts";
import { PostgresBackend } from "../lib/engine/postgres/postgres.ts";
import { parseTarget } from "../lib/engine/postgres/url.ts";
import {
  type Beat,
  type Job,
  type Link,
  type LinkListener,
  type News,
  NotDone,
  TooLate,
} from "../lib/engine/remote/backend.ts";
import { RemoteEngine } from "../lib/engine/remote/remote_engine.ts";
import { Turn } from "../lib/time.ts";
import {
  ALICE,
  BOB,
  botToken,
  draft,
  Lab,
  Listener,
  presence,
  privateDraft,
  type Store,
} from "./support/engine_lab.ts";
import { testEngine } from "./support/engine_suite.ts";
import { hasDisks, mount, NO_TMPFS, unmount } from "./support/small_disk.ts";
import { itPools, Pooler, PostgresServer, withPostgres } from "./support/postgres_server.ts";

const turn = new Turn(setImmediate);
const silent = { info() {}, warn() {}, error() {} };

/** A new database, for one or more engines. */
class Database implements Store {
  readonly isLasting = true;
  readonly isShared = true;
  readonly #url: string;

  constructor(url: string) {
    this.#url = url;
  }

  open({ clock, keep, newId, leaseMs }: EngineOptions): Promise<RemoteEngine> {
    return RemoteEngine.connect({
      ...{ newId, leaseMs },
      backend: new PostgresBackend({ url: this.#url, keep, clock }),
      atCommit: (callback) => turn.commit(callback),
      logger: silent,
      failures: silent,
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }
}

/** A link, and its news. */
class Linked implements Disposable {
  readonly news: News[] = [];
  readonly probes: string[] = [];
  readonly lost: Error[] = [];
  link!: Link;
  #wake = () => {};
  #number = 0;

  static async open(url: string): Promise<Linked> {
    const linked = new Linked();
    const listener: LinkListener = {
      onNews: (news) => linked.#hear(linked.news, news),
      onProbe: (probe) => linked.#hear(linked.probes, probe),
      onLost: (reason) => linked.#hear(linked.lost, reason),
    };
    const backend = new PostgresBackend({ url, keep: Infinity });
    linked.link = await backend.connect(listener, new AbortController().signal);
    return linked;
  }

  /** Waits until the news match a condition. */
  async until(isDone: () => boolean): Promise<void> {
    while (!isDone()) await new Promise<void>((resolve) => this.#wake = resolve);
  }

  beat(instance = "one", { leaseMs = 10_000, rooms = [] as string[] } = {}) {
    const beat: Beat = { instance, leaseMs, probe: "probe", rooms, answered: -1 };
    return this.link.beat(beat);
  }

  /** Runs jobs as the next batch, or as the batch with this number. */
  run(jobs: readonly Job[], { number = ++this.#number, instance = "one", in: ms = 5000 } = {}) {
    return this.link.turn({ instance, number, jobs, deadline: Date.now() + ms });
  }

  [Symbol.dispose](): void {
    this.link.close();
  }

  #hear<T>(told: T[], one: T): void {
    told.push(one);
    this.#wake();
  }
}

function append(content: string, room = "r"): Job {
  return { type: "append", room, draft: draft(ALICE, content) };
}

async function startError(url: string): Promise<string> {
  const error = await assertRejects(() => Linked.open(url), Error);
  assert(!error.message.includes("secret"), error.message);
  return error.message;
}

/** Locks in a transaction, runs a function, and ends the transaction once a query finds a row. */
async function hold(
  server: PostgresServer,
  database: string,
  { lock, until, then = "NULL" }: { lock: string; until: string; then?: string },
  run: () => Promise<unknown>,
): Promise<void> {
  const held = server.query(
    `SET statement_timeout = '10s';
    DO $do$ BEGIN
      ${lock};
      PERFORM pg_advisory_xact_lock(7);
      WHILE NOT EXISTS (${until}) LOOP PERFORM pg_stat_clear_snapshot(); END LOOP;
      ${then};
    END $do$`,
    database,
  );
  const isHeld = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7";
  while (await server.query(isHeld) === "0");
  await Promise.all([held, run()]);
}

/** Finds a row when a call of a function waits for a lock. */
function waits(name: string): string {
  return `SELECT FROM pg_stat_activity
    WHERE query LIKE '%hubbub.${name}(%' AND wait_event_type = 'Lock'`;
}

withPostgres(() =>
  describe("PostgreSQL", () => {
    let server: PostgresServer;
    beforeAll(async () => {
      server = await PostgresServer.start();
    });
    afterAll(() => server[Symbol.asyncDispose]());

    it("answers a repeated batch from its kept answer, and begins no batch past its deadline", async () => {
      using one = await Linked.open(await server.createDatabase());
      await one.beat();
      const jobs: Job[] = [
        append("hello"),
        { type: "enter", room: "r", presence: presence(ALICE, "a1") },
        { type: "whisper", room: "r", draft: privateDraft(ALICE, BOB, "psst"), id: "id" },
        { type: "append", room: "r", draft: { ...draft(ALICE, "x"), replyTo: "none" } },
        { type: "settings", room: "r", settings: DEFAULT_SETTINGS },
        { type: "lastSeen", room: "r", username: "ALICE" },
      ];
      const answers = await one.run(jobs, { number: 7 });
      assertEquals(await one.run(jobs, { number: 7, in: -5000 }), answers);
      assertEquals(answers.at(-1), ALICE);
      await assertRejects(() => one.run([append("late")], { number: 8, in: -1 }), TooLate);
      assertEquals((await one.link.state("r")).lastSeq, 1);
    });

    it("delivers all news in order, also those too long for a notification", async () => {
      using one = await Linked.open(await server.createDatabase());
      await one.link.subscribe("r");
      const long = "\u0001".repeat(4000);
      const typing: Job = {
        type: "publish",
        room: "r",
        event: { type: "typing", username: "alice", isActive: true, origin: "c" },
      };
      const texts = Array.from({ length: 300 }, (_, i) => `${i} ${"x".repeat(i * 10)}`);
      await one.run([...texts.map((text) => append(text)), typing, typing, append(long), typing]);
      const items = () => one.news.flatMap(({ items = [] }) => items.map(({ event }) => event));
      await one.until(() => items().length === 303);
      const told = items().flatMap((event) =>
        event.type === "logged" ? [event.event.content] : [event.type]
      );
      assertEquals(told, [...texts, "typing", "typing", "typing"]);
      const positions = one.news.flatMap(({ position }) => position ?? []);
      assertEquals(positions.map(({ seq }) => seq), [301]);
      const { position } = await one.link.open("r", { events: 0, messages: 0 });
      assertEquals(positions, [position]);
      const since = { ...position, seq: 299 };
      const page = await one.link.page("r", since, 10);
      assertEquals(page.events.map(({ content }) => content), [texts[299]!, long]);
      assertEquals([page.continues, page.settings, page.present], [true, undefined, undefined]);
    });

    it("ends the presences of an instance once, when its lease has expired", async () => {
      const url = await server.createDatabase();
      using one = await Linked.open(url);
      using two = await Linked.open(url);
      await two.link.subscribe("r");
      await one.beat("one", { leaseMs: 1 });
      const enter: Job = { type: "enter", room: "r", presence: presence(ALICE, "a1") };
      while ((await two.beat("two")).isAlive && (await one.run([enter]))[0] === undefined);
      await two.until(() => two.probes.length > 0);
      assertEquals((await one.beat("one")).isAlive, false);
      const [refusal] = await one.run([enter]);
      assertEquals((refusal as Error).name, "ChatError");
      await one.beat("three");
      await one.run([enter], { instance: "three" });
      await one.link.end("three");
      await one.link.end("three");
      await two.beat("two");
      const types = () => two.news.flatMap(({ items }) => items!.map(({ event }) => event.type));
      await two.until(() => types().includes("left"));
      assertEquals(types().filter((type) => type === "left").length, types().length / 2);
      assertEquals(await two.link.presences("three"), []);
    });

    it("ends many presences in steps, with consecutive numbers", async () => {
      const url = await server.createDatabase();
      using one = await Linked.open(url);
      using two = await Linked.open(url);
      await one.beat("one");
      const enters = Array.from({ length: 2500 }, (_, i): Job => {
        const member = { username: `u${i}`, person: `p${i}` };
        return { type: "enter", room: "r", presence: presence(member, `c${i}`) };
      });
      const entered = (await one.run(enters)).at(-1) as number;
      await two.link.subscribe("r");
      await server.query("UPDATE hubbub.instances SET expires = 0", url.split("/").at(-1));
      await two.beat("two");
      assertEquals((await two.link.presences("one")).length, 500);
      await two.beat("two");
      assertEquals(await two.link.presences("one"), []);
      // News of the joins may still arrive.
      const items = () =>
        two.news.flatMap(({ items = [] }) => items).filter(({ event }) => event.type === "left");
      await two.until(() => items().length === 2500);
      const numbers = items().map(({ number }) => number! - entered);
      assertEquals(numbers, Array.from({ length: 2500 }, (_, i) => i + 1));
      const visits = "SELECT count(*) FROM hubbub.visits WHERE room = 'r'";
      assertEquals(await server.query(visits, url.split("/").at(-1)), "2500");
    });

    it("changes a room only after locking it", async () => {
      const url = await server.createDatabase();
      const database = url.split("/").at(-1)!;
      using one = await Linked.open(url);
      const member = { username: "alice", person: "account:alice" };
      const account = { key: "alice", username: "alice", passwordHash: "hash" };
      await one.link.addAccount(account, Infinity);
      await one.link.removeAccount("alice", Infinity);
      await one.run([
        append("old"),
        append("new"),
        { type: "whisper", room: "r", draft: privateDraft(member, BOB, "psst"), id: "id" },
      ]);
      const during = (waiting: string, run: () => Promise<unknown>, change: string) =>
        hold(server, database, {
          lock: "PERFORM FROM hubbub.rooms WHERE name = 'r' FOR UPDATE",
          until: waits(waiting),
          then: change,
        }, run);
      const trim = () => server.query("SELECT hubbub.trim_v1('r', 1, 9)", database);
      await during("trim_v1", trim, "UPDATE hubbub.events SET username = ''");
      const erase = () => one.link.eraseNext(Infinity);
      await during("erase_v1", erase, "UPDATE hubbub.inbox SET from_name = ''");
      assertEquals((await one.link.open("r", { events: 0, messages: 0 })).oldestSeq, 2);
      while (await one.link.eraseNext(Infinity));
      assertEquals(await one.link.inboxSeq("r", member.person), 0);
      assertEquals((await one.link.inbox("r", BOB.person, 0, 9))[0]!.message.content, "");
    });

    it("removes the rows of empty rooms, and gives no number twice", async () => {
      const url = await server.createDatabase();
      const names = () =>
        server.query(
          "SELECT string_agg(name, ',' ORDER BY name) FROM hubbub.rooms",
          url.split("/").at(-1),
        );
      const enter = (room: string): Job => {
        return { type: "enter", room, presence: presence(ALICE, `in ${room}`) };
      };
      const leave: Job = { type: "leave", room: "left", connection: "in left" };
      const whisper = { draft: privateDraft(ALICE, BOB, "psst"), id: "id" };
      const jobs: Job[] = [
        append("hello", "talk"),
        { type: "whisper", room: "private", ...whisper },
        { type: "settings", room: "set", settings: DEFAULT_SETTINGS },
        ...[enter("entered"), enter("left"), enter("other"), leave, enter("left"), leave],
      ];
      let number: number;
      {
        using linked = await Linked.open(url);
        await linked.beat();
        while (await names() !== "");
        await linked.run(jobs);
        number = (await linked.link.open("left", { events: 0, messages: 0 })).position.presence;
      }
      using one = await Linked.open(url);
      await one.beat();
      while ((await names()).includes("left"));
      assertEquals(await names(), "entered,other,private,set,talk");
      const rooms = ["left", "new", "other"];
      const before = (await one.beat("one", { rooms })).positions;
      assertEquals(before[0]!.presence, number);
      const { position } = await one.link.open("new", { events: 0, messages: 0 });
      assertEquals(position.presence, number);
      const since = { ...position, presence: 0 };
      assertEquals((await one.link.page("left", since, 9)).position, before[0]);
      const answers = await one.run(rooms.map(enter), { number: 2 });
      assertEquals(answers.slice(0, 2), [number + 1, number + 1]);
    });

    it("runs a batch again if its room is removed meanwhile", async () => {
      const url = await server.createDatabase();
      const database = url.split("/").at(-1)!;
      using one = await Linked.open(url);
      await one.beat();
      await one.run([append("gone")]);
      const lock = "DELETE FROM hubbub.rooms WHERE name = 'r'";
      await hold(server, database, { lock, until: waits("turn_v1") }, () =>
        one.run([append("hello")]));
      assertEquals((await one.link.state("r")).lastSeq, 1);
    });

    it("delays no beat for a read", async () => {
      const url = await server.createDatabase();
      using one = await Linked.open(url);
      const lock = "LOCK TABLE hubbub.accounts IN ACCESS EXCLUSIVE MODE";
      const until = "SELECT FROM hubbub.instances WHERE name = 'one'";
      await hold(server, url.split("/").at(-1)!, { lock, until }, () =>
        Promise.all([one.link.account("alice"), one.beat("one")]));
    });

    (hasDisks ? it : it.skip)(
      hasDisks ? "fails a beat while the disk is full, and keeps the lease" : NO_TMPFS,
      async () => {
        const disk = `${server.folder}/disk`;
        await Deno.mkdir(disk);
        await mount(disk, "32m");
        try {
          const create = `CREATE TABLESPACE small LOCATION '${disk}/data'`;
          await new Deno.Command("install", { args: ["-d", "-o", "postgres", `${disk}/data`] })
            .output();
          await server.query(create);
          const url = await server.createDatabase("TABLESPACE small");
          {
            using one = await Linked.open(url);
            await one.beat();
            const big = Array.from({ length: 50 }, () =>
              append("x".repeat(4000)));
            await one.run(big);
            const ballast = await Deno.open(`${disk}/ballast`, { create: true, write: true });
            await ballast.write(new Uint8Array(40_000_000)).catch(() => {});
            while (
              await ballast.write(new Uint8Array(4096)).then(() =>
                true, () =>
                false)
            );
            ballast.close();
            await assertRejects(
              () =>
                one.beat("one", { leaseMs: 60_000 }),
              NotDone,
              "space",
            );
            await assertRejects(
              () =>
                one.run(big),
              NotDone,
              "space",
            );
            const left = "SELECT expires - extract(epoch FROM now()) * 1000 FROM hubbub.instances";
            assert(Number(await server.query(left, url.split("/").at(-1))) > 30_000);
            await Deno.remove(`${disk}/ballast`);
            await one.beat();
            await one.run(big);
            assertEquals(one.lost, []);
          }
          await server.query(`DROP DATABASE ${url.split("/").at(-1)} WITH (FORCE)`);
          await server.query("DROP TABLESPACE small");
        } finally {
          await unmount(disk);
        }
      },
    );

    it("begins an epoch at each start of the server and each creation of the tables", async () => {
      await using own = await PostgresServer.start();
      const url = await own.createDatabase();
      const epochs: string[] = [];
      const epoch = async () => {
        using linked = await Linked.open(url);
        await linked.run([append("hello")], { instance: crypto.randomUUID(), number: 1 });
        const state = await linked.link.state("r");
        assert(await linked.link.canResume("r", state.epoch, state.lastSeq));
        for (const before of epochs) {
          assert(!await linked.link.canResume("r", before, state.lastSeq));
        }
        epochs.push(state.epoch);
        return await linked.link.state("r");
      };
      await epoch();
      const dump = await own.dump("db1");
      await own.kill();
      await own.start();
      await epoch();
      {
        using linked = await Linked.open(url);
        await own.restore("db1", dump);
        await assertRejects(() =>
          linked.run([append("lost")], { number: 2 }), Error);
        assertEquals(linked.lost.length, 1);
      }
      assertEquals((await epoch()).lastSeq, 2);
      assertEquals(new Set(epochs).size, 3);
      using linked = await Linked.open(url);
      const id = await own.query("SELECT id FROM hubbub.messages WHERE seq = 2", "db1");
      assertEquals(id, (await linked.link.events("r", 1, 1))[0]!.id);
    });

    it("refuses a standby, and finds it once promoted", async () => {
      await using primary = await PostgresServer.start();
      await primary.createDatabase();
      using before = await Linked.open(primary.urlOf("db1"));
      await before.run([append("hello")]);
      const { epoch } = await before.link.state("r");
      await using standby = await primary.startStandby();
      assertStringIncludes(await startError(standby.urlOf("db1")), "is a standby");
      await primary.kill();
      await before.until(() =>
        before.lost.length === 1
      );
      await standby.promote();
      using after = await Linked.open(standby.urlOf("db1"));
      await after.run([append("again")], { number: 2 });
      assert((await after.link.state("r")).epoch !== epoch);
      assertEquals(await after.link.canResume("r", epoch, 1), true);
      assertEquals(await after.link.canResume("r", epoch, 2), false);
    });

    it("rejects everything at once when closed, even if the server is frozen", async () => {
      await using own = await PostgresServer.start();
      using linked = await Linked.open(await own.createDatabase());
      await own.freeze();
      const big = "x".repeat(100_000);
      const calls = Array.from({ length: 200 }, () => linked.run([append(big)]));
      const reads = Array.from({ length: 200 }, () => linked.link.state("r"));
      const results = Promise.allSettled([...calls, ...reads]);
      linked.link.close();
      const kinds = new Set((await results).map(({ status }) => status));
      assertEquals([...kinds], ["rejected"]);
      await assertRejects(() => linked.link.state("r"), Error);
      assertEquals(linked.lost, []);
      await own.thaw();
    });

    it("reports its loss once when the server stops", async () => {
      await using own = await PostgresServer.start();
      using linked = await Linked.open(await own.createDatabase());
      await own.kill();
      await linked.until(() => linked.lost.length > 0);
      await assertRejects(() => linked.run([append("late")]), Error);
      assertEquals(linked.lost.length, 1);
    });

    it("uses three connections, or two", async () => {
      const url = await server.createDatabase();
      const name = url.split("/").at(-1);
      const count = async () =>
        Number(
          await server.query(`SELECT count(*) FROM pg_stat_activity WHERE datname = '${name}'`),
        );
      {
        using linked = await Linked.open(url);
        await linked.beat();
        assertEquals(await count(), 3);
      }
      while (await count() > 0);
      using few = await Linked.open(`${url}?connections=2&pool=true&sslmode=prefer`);
      await few.beat();
      await few.run([append("hello")]);
      assertEquals([await count(), (await few.link.state("r")).lastSeq], [2, 1]);
      await few.until(() => few.probes.length > 0);
    });

    it("works with two connections if the server has no third", async () => {
      const url = await server.createDatabase();
      const database = url.split("/").at(-1)!;
      await server.query(`CREATE ROLE few LOGIN PASSWORD 'secret' CONNECTION LIMIT 2`);
      await server.query(`GRANT CREATE ON DATABASE ${database} TO few`);
      using linked = await Linked.open(server.urlOf(database, "few"));
      await linked.run([append("hello")]);
      assertEquals((await linked.link.state("r")).lastSeq, 1);
      const { message } = await assertRejects(
        () => Linked.open(server.urlOf(database, "few")),
        Error,
      );
      assertStringIncludes(message, "has no connection left");
    });

    it("is set up by one of several instances that start at once", async () => {
      const url = await server.createDatabase();
      const links = await Promise.all([1, 2, 3, 4].map(() => Linked.open(url)));
      const states = await Promise.all(links.map(({ link }) => link.state("r")));
      assertEquals(new Set(states.map(({ epoch }) => epoch)).size, 1);
      for (const { link } of links) link.close();
    });

    it("migrates tables of version 1 once, and keeps their rows", async () => {
      const url = await server.createDatabase();
      const database = url.split("/").at(-1)!;
      {
        using linked = await Linked.open(url);
        await linked.run([append("before")]);
      }
      await server.query(
        `DROP FUNCTION hubbub.add_bot_v1, hubbub.end_bot_v1;
        ALTER TABLE hubbub.sessions DROP COLUMN name, DROP COLUMN created;
        INSERT INTO hubbub.sessions VALUES ('session', 'alice', ${Date.now() * 2});
        COMMENT ON SCHEMA hubbub IS 'Hubbub, version 1'`,
        database,
      );
      const links = await Promise.all([1, 2, 3].map(() => Linked.open(url)));
      for (const { link } of links) {
        assertEquals((await link.state("r")).lastSeq, 1);
        assertEquals((await link.token("session"))?.account, "alice");
      }
      const [{ link: one }, { link: two }] = links as [Linked, Linked];
      const deadline = Date.now() + 5000;
      assertEquals(await one.addBotToken(botToken("dice"), 20, deadline), true);
      assertEquals(await two.botTokens("alice"), [botToken("dice")]);
      const comment = "SELECT obj_description('hubbub'::regnamespace, 'pg_namespace')";
      assertEquals((await server.query(comment, database)).trim(), "Hubbub, version 2");
      for (const linked of links) linked[Symbol.dispose]();
    });

    it("explains an error at the start, without the password", async () => {
      const url = await server.createDatabase();
      const database = url.split("/").at(-1)!;
      assertStringIncludes(await startError(server.urlOf("none")), "createdb none");
      assertStringIncludes(
        await startError(server.urlOf(database, "postgres", "secret2")),
        "refuses the password of postgres",
      );
      await server.query("CREATE ROLE weak LOGIN PASSWORD 'secret'");
      assertStringIncludes(
        await startError(server.urlOf(database, "weak")),
        "CREATE SCHEMA hubbub AUTHORIZATION weak",
      );
      assertStringIncludes(await startError(`${url}?sslmode=require`), "offers no TLS");
      using free = Deno.listen({ hostname: "127.0.0.1", port: 0 });
      const { port } = free.addr as Deno.NetAddr;
      free.close();
      const nowhere = url.replace(String(server.port), String(port));
      assertStringIncludes(await startError(nowhere), "Start PostgreSQL");
      const latin = "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0";
      assertStringIncludes(await startError(await server.createDatabase(latin)), "LATIN1");
      await server.query(
        "CREATE SCHEMA hubbub; COMMENT ON SCHEMA hubbub IS 'Hubbub, version 99'",
        database,
      );
      assertStringIncludes(await startError(url), "version 99");
    });

    it("gives up on an abort", async () => {
      using mute = Deno.listen({ hostname: "127.0.0.1", port: 0 });
      const { port } = mute.addr as Deno.NetAddr;
      const url = server.url.replace(String(server.port), String(port));
      const backend = new PostgresBackend({ url, keep: 1 });
      const listener = { onNews() {}, onProbe() {}, onLost() {} };
      const stop = new AbortController();
      const connecting = assertRejects(() => backend.connect(listener, stop.signal), Error);
      using accepted = await mute.accept();
      assert(accepted !== undefined);
      stop.abort();
      assertStringIncludes((await connecting).message, "does not answer");
    });

    itPools("works through a pooler without LISTEN", async () => {
      await using pooler = await Pooler.start(server);
      const url = pooler.through(await server.createDatabase());
      await using lab = await Lab.open(() => new Database(url));
      const other = await lab.openAnother();
      using listener = await Listener.open(other, "r");
      await lab.engine.log.append("r", draft(ALICE, "hello"));
      await lab.engine.bus.enter("r", presence(ALICE, "a1"));
      // As the server does. Errors between two links are rejected.
      const beat = () => [lab.engine, other].forEach(({ bus }) => void bus.renew().catch(() => {}));
      const timer = setInterval(beat, 500);
      const told = await listener.count(2);
      clearInterval(timer);
      assertEquals(told.map(({ type }) => type), ["logged", "entered"]);
    });

    itPools("ignores news that a pooler delivers to another connection", async () => {
      await using pooler = await Pooler.start(server);
      using one = await Linked.open(pooler.through(await server.createDatabase()));
      for (let i = 0; i < 10; i++) {
        await one.beat();
        await one.run([append("hello")]);
      }
      assertEquals([one.probes, one.news], [[], []]);
    });

    testEngine(
      "RemoteEngine on PostgreSQL",
      async () => new Database(await server.createDatabase()),
    );
  })
);

describe("the URL of a PostgreSQL database", () => {
  const sentence = (url: string) => {
    try {
      parseTarget(url);
    } catch (error) {
      return (error as Error).message;
    }
  };

  it("may have the parameters of other programs", () => {
    const { host, port, user, password, database, ssl, connections } = parseTarget(
      "postgresql://us%40er:p%2Fw@[::1]/db?sslmode=require&pool=true&pgbouncer=true&schema=public",
    );
    const read = [host, port, user, password, database, ssl, connections];
    assertEquals(read, ["::1", 5432, "us@er", "p/w", "db", "require", 3]);
  });

  it("is refused with a sentence, without the password", () => {
    const wrong = [
      ["postgres", "is not a URL"],
      ["postgres://user:secret@host", "lacks"],
      ["postgres://user:secret@host/db?sslmode=yes", "sslmode=yes"],
      ["postgres://user:secret@host/db?connections=9", "one of: 2, 3"],
      ["postgres://user:%zzsecret@host/db", "Write %25"],
    ];
    for (const [url, part] of wrong) {
      const text = sentence(url!) ?? "";
      assertStringIncludes(text, part!);
      assert(!text.includes("secret"), text);
    }
  });
});
