/** The engine on a real Redis, started by the tests. */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { setImmediate } from "node:timers";
import { DEFAULT_SETTINGS } from "../lib/engine/engine.ts";
import { RedisBackend } from "../lib/engine/redis/redis.ts";
import {
  type Batch,
  type Beat,
  type Job,
  type Link,
  type News,
  NotDone,
  TooLate,
} from "../lib/engine/remote/backend.ts";
import { RemoteEngine } from "../lib/engine/remote/remote_engine.ts";
import { ChatError } from "../lib/errors.ts";
import {
  ALICE,
  BOB,
  change,
  draft,
  presence,
  privateDraft,
  type Store,
} from "./support/engine_lab.ts";
import { testEngine } from "./support/engine_suite.ts";
import { freePort } from "./support/free_port.ts";
import { hasRedis, NO_REDIS, RedisServer } from "./support/redis_server.ts";

const SILENT = { error() {}, warn() {}, info() {} };

/** Each store has its own server. */
async function createStore(): Promise<Store> {
  const server = await RedisServer.start();
  return {
    isLasting: true,
    isShared: true,
    open: ({ clock, newId, keep, leaseMs }) =>
      RemoteEngine.connect({
        backend: new RedisBackend({ url: server.url, keep, clock }),
        newId,
        leaseMs,
        atCommit: (callback) => void setImmediate(callback),
        logger: SILENT,
        failures: SILENT,
      }),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/** A link, and its news. */
class Hearing implements AsyncDisposable {
  readonly news: News[] = [];
  readonly probes: string[] = [];
  readonly instance = crypto.randomUUID();
  readonly lost: Promise<Error>;
  link!: Link;
  #lose!: (reason: Error) => void;
  #wake = () => {};
  #number = 0;

  private constructor() {
    this.lost = new Promise((resolve) => this.#lose = resolve);
  }

  static async open(url: string, { signal = new AbortController().signal, ...options }: {
    clock?: () => number;
    signal?: AbortSignal;
  } = {}): Promise<Hearing> {
    const hearing = new Hearing();
    const backend = new RedisBackend({ url, keep: Infinity, ...options });
    hearing.link = await backend.connect({
      onNews: (news) => hearing.#hear(hearing.news, news),
      onProbe: (probe) => hearing.#hear(hearing.probes, probe),
      onLost: (reason) => hearing.#lose(reason),
    }, signal);
    return hearing;
  }

  /** Waits until this many news and probes have arrived. */
  async count(count: number): Promise<readonly News[]> {
    while (this.news.length + this.probes.length < count) {
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    return this.news;
  }

  batch(jobs: Job[], more: Partial<Batch> = {}): Batch {
    const deadline = Date.now() + 5000;
    return { instance: this.instance, number: ++this.#number, jobs, deadline, ...more };
  }

  turn(...jobs: Job[]) {
    return this.link.turn(this.batch(jobs));
  }

  beat(more: Partial<Beat> = {}) {
    const beat = { instance: this.instance, leaseMs: 10_000, probe: "p", rooms: [], answered: 0 };
    return this.link.beat({ ...beat, ...more });
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.link.close();
    return Promise.resolve();
  }

  #hear<T>(list: T[], one: T): void {
    list.push(one);
    this.#wake();
  }
}

function enter(room: string, connection: string): Job {
  return { type: "enter", room, presence: presence(ALICE, connection) };
}

function leave(room: string, connection: string): Job {
  return { type: "leave", room, connection };
}

function append(room: string, content: string, ref?: string): Job {
  return { type: "append", room, draft: draft(ALICE, content, ref) };
}

/** The message of a failing connection. */
async function refusalOf(url: string, signal?: AbortSignal): Promise<string> {
  return (await assertRejects(() => Hearing.open(url, signal && { signal }), Error)).message;
}

function testLink(): void {
  describe("A turn in Redis", () => {
    it("runs the jobs of several rooms, and answers each", async () => {
      await using server = await RedisServer.start();
      await using one = await Hearing.open(server.url);
      await one.link.subscribe("r");
      await one.link.subscribe("s");
      const answers = await one.turn(append("r", "a"), append("s", "b"), append("r", "c"));
      assertEquals(answers.map((answer) => (answer as { event: { seq: number } }).event.seq), [
        1,
        1,
        2,
      ]);
      const news = await one.count(2);
      assertEquals(news.map(({ room, items }) => [room, items!.length]), [["r", 2], ["s", 1]]);
    });

    it("gets the same answer when repeated, and runs once", async () => {
      await using server = await RedisServer.start();
      await using one = await Hearing.open(server.url);
      const batch = one.batch([append("r", "a"), append("s", "b"), append("r", "c")]);
      const answers = await one.link.turn(batch);
      await using two = await Hearing.open(server.url);
      assertEquals(await two.link.turn({ ...batch, deadline: Date.now() - 1 }), answers);
      assertEquals((await two.link.state("r")).lastSeq, 2);
    });

    it("does nothing after its deadline", async () => {
      await using server = await RedisServer.start();
      await using one = await Hearing.open(server.url);
      const late = one.batch([append("r", "late")], { deadline: Date.now() - 1 });
      await assertRejects(() => one.link.turn(late), TooLate);
      const register = () =>
        one.link.addAccount({ key: "a", username: "A", passwordHash: "h" }, Date.now() - 1);
      await assertRejects(register, TooLate);
      assertEquals((await one.link.state("r")).lastSeq, 0);
      assertEquals(await one.link.account("a"), undefined);
    });

    it("runs even if the server has forgotten its scripts", async () => {
      await using server = await RedisServer.start();
      await using one = await Hearing.open(server.url);
      await server.ask("SCRIPT", "FLUSH");
      await one.turn(append("r", "a"), append("s", "b"));
      assertEquals((await one.link.state("s")).lastSeq, 1);
    });

    it("admits nobody without a lease, and ends a lease once", async () => {
      await using server = await RedisServer.start();
      let time = Date.now();
      await using one = await Hearing.open(server.url, { clock: () => time });
      await using two = await Hearing.open(server.url, { clock: () => time });
      const [refused] = await one.turn(enter("r", "a1"));
      assertEquals((refused as ChatError).code, "unavailable");
      assert((await one.beat()).isAlive);
      const other = { instance: "other" };
      assert((await one.beat(other)).isAlive);
      const [position] = await one.link.turn({ ...one.batch([enter("r", "a1")]), ...other });
      assertEquals(typeof position, "number");
      await two.link.subscribe("r");
      time += 10_001;
      assert((await two.beat()).isAlive);
      assert((await two.beat()).isAlive);
      assert(!(await one.beat(other)).isAlive);
      await two.turn({ type: "publish", room: "r", event: { type: "token_ended", hash: "" } });
      const news = (await two.count(4)).flatMap(({ items }) => items!);
      assertEquals(news.map(({ event }) => event.type), ["left", "token_ended"]);
    });

    it("admits nobody after the lease has ended, even while others end the instance", async () => {
      await using server = await RedisServer.start();
      let time = Date.now();
      await using one = await Hearing.open(server.url, { clock: () => time });
      await using two = await Hearing.open(server.url, { clock: () => time });
      const rooms: string[] = [];
      for (const round of ["a", "b", "c", "d", "e", "f"]) {
        const instance = { instance: round };
        const join = (i: number) => {
          const room = `${round}${i}`;
          rooms.push(room);
          return one.link.turn({ ...one.batch([enter(room, `in ${room}`)]), ...instance });
        };
        await one.beat(instance);
        for (let i = 0; i < 5; i++) await join(i);
        time += 10_001;
        // Joins continue while the other instance notices the end of the lease.
        const ending = two.beat({ instance: `other than ${round}` });
        for (let i = 5; i < 15; i++) {
          const [answer] = await join(i);
          assertEquals((answer as ChatError).code, "unavailable");
        }
        await ending;
      }
      const present = await two.turn(...rooms.map((room): Job => ({ type: "present", room })));
      assertEquals(present, rooms.map(() => []));
    });

    it("admits nobody whose presence could not be ended later", async () => {
      await using server = await RedisServer.start();
      await using one = await Hearing.open(server.url);
      await one.beat();
      const key = `hubbub:{instances}:rooms:${one.instance}`;
      await server.ask("SET", key, "not a list of rooms");
      await assertRejects(() => one.turn(enter("r", "a1")), NotDone);
      assertEquals(await one.turn({ type: "present", room: "r" }), [[]]);
      await server.ask("DEL", key);
      await one.turn(enter("r", "a1"));
      assertEquals((await one.link.presences(one.instance)).length, 1);
    });

    it("takes over a presence from an earlier name of the instance", async () => {
      await using server = await RedisServer.start();
      await using one = await Hearing.open(server.url);
      await one.beat();
      const [position] = await one.turn(enter("r", "a1"));
      const later = { instance: "later" };
      await one.beat(later);
      assertEquals(await one.link.turn({ ...one.batch([enter("r", "a1")]), ...later }), [position]);
      await one.link.end(one.instance);
      assertEquals(await one.turn({ type: "present", room: "r" }), [[presence(ALICE, "a1")]]);
      assertEquals(await one.link.presences("later"), [{ room: "r", connection: "a1" }]);
      await one.link.end("later");
      assertEquals(await one.turn({ type: "present", room: "r" }), [[]]);
    });

    it("forgets a room that its instance has left, until the next join", async () => {
      await using server = await RedisServer.start();
      await using one = await Hearing.open(server.url);
      await one.beat();
      const noted = async () =>
        (await server.ask("ZRANGE", `hubbub:{instances}:rooms:${one.instance}`, "0", "-1"))
          .split("\r\n").filter((line) => /^[a-z]/.test(line));
      await one.turn(enter("a", "a1"), enter("b", "b1"), enter("b", "b2"));
      await one.turn(leave("a", "a1"), leave("b", "b1"));
      await one.beat();
      assertEquals(await noted(), ["b"]);
      await one.turn(leave("b", "b2"), enter("b", "b3"));
      await one.turn(enter("a", "a2"));
      await one.beat();
      assertEquals((await noted()).toSorted(), ["a", "b"]);
    });

    it("leaves nothing behind in a room without messages, and gives no number twice", async () => {
      await using server = await RedisServer.start();
      let time = Date.now();
      await using one = await Hearing.open(server.url, { clock: () => time });
      await one.beat({ leaseMs: 10 * 60 * 60 * 1000 });
      const key = (room: string) => `hubbub:{:${room}}:meta`;
      const expires = async (room: string) =>
        Number((await server.ask("PTTL", key(room))).slice(1)) > 0;
      const [first] = await one.turn(enter("r", "a1"), enter("s", "b1"), enter("t", "c1"));
      assert(!await expires("r"));
      await one.turn(leave("r", "a1"), append("s", "kept"), leave("s", "b1"), leave("t", "c1"));
      assertEquals(await Promise.all(["r", "s", "t"].map(expires)), [true, false, true]);
      const { position } = await one.link.open("r", { events: 1, messages: 1 });
      await one.turn(append("t", "kept"));
      assert(!await expires("t"));
      const lasting = (await server.ask(
        "EVAL",
        "local n = {} for _, k in ipairs(redis.call('KEYS', '*{:r}*')) do " +
          "if redis.call('PTTL', k) < 0 then n[#n + 1] = k end end return n",
        "0",
      )).trim();
      assertEquals(lasting, "*0");
      assertEquals(await server.ask("SISMEMBER", "hubbub:{server}:rooms", "r"), ":0\r\n");
      // Redis does this after ten minutes.
      await server.ask("DEL", key("r"));
      time += 601_000;
      const { position: empty } = await one.link.open("r", { events: 1, messages: 1 });
      const [again] = await one.turn(enter("r", "a2"));
      assert(empty.presence > Math.max(first as number, position.presence));
      assertEquals(again, empty.presence + 1);
      assert(!await expires("r"));
    });

    it("drops private messages after 30 days, except a person's newest", async () => {
      await using server = await RedisServer.start();
      let time = Date.now();
      const clock = () => time;
      await using one = await Hearing.open(server.url, { clock });
      const whisper = (i: number): Job => ({
        type: "whisper",
        room: "r",
        draft: privateDraft(ALICE, BOB, `old ${i}`, `ref ${i}`),
        id: `p${i}`,
      });
      await one.turn(...Array.from({ length: 40 }, (_, i) => whisper(i)));
      time += 31 * 24 * 60 * 60 * 1000;
      await one.turn(append("r", "today"));
      await using two = await Hearing.open(server.url, { clock });
      await two.beat();
      const inboxOf = (person: string) => two.link.inbox("r", person, 0, 100);
      for (const { person } of [ALICE, BOB]) {
        // They are dropped in steps.
        for (let i = 0; i < 2000 && (await inboxOf(person)).length > 1; i++);
        assertEquals((await inboxOf(person)).map(({ inboxSeq }) => inboxSeq), [40]);
      }
      assertEquals(await server.ask("HLEN", "hubbub:{:r}:privates"), ":1\r\n");
      assertEquals(await server.ask("HLEN", "hubbub:{:r}:private_refs"), ":1\r\n");
    });

    it("signs in, and out everywhere, in the same time with few and many sessions", async () => {
      await using server = await RedisServer.start();
      await using one = await Hearing.open(server.url);
      const deadline = Date.now() + 60_000;
      await one.link.addAccount({ key: "a", username: "A", passwordHash: "h" }, deadline);
      const tokens = Array.from({ length: 3000 }, (_, i) => `t${i}`);
      const add = (hash: string) =>
        one.link.addToken({ hash, account: "a", expiresAt: deadline }, deadline);
      await Promise.all(tokens.map(add));
      const calls = async () =>
        [...(await server.ask("INFO", "commandstats")).matchAll(/calls=(\d+)/g)]
          .reduce((sum, [, count]) => sum + Number(count), 0);
      const before = await calls();
      await add("new");
      assert(await one.link.setPassword("a", "other", "new", deadline));
      assert(await calls() < before + 50);
      assertEquals(await one.link.token("t7"), undefined);
      assertEquals((await one.link.token("new"))?.account, "a");
      const { tokens: ended } = await one.link.recheck({ tokens: [...tokens, "new"], keys: [] });
      assertEquals(ended, tokens);
      await one.link.endTokens("a", deadline);
      assertEquals(await one.link.token("new"), undefined);
    });

    it("touches only keys of its room", async () => {
      await using server = await RedisServer.start(["--cluster-enabled", "no"]);
      await using one = await Hearing.open(server.url);
      await one.beat();
      const settings = { ...DEFAULT_SETTINGS, owner: "alice" };
      const [, said] = await one.turn(
        { type: "enter", room: "r", presence: presence(ALICE, "a1") },
        append("r", "a", "ref"),
        { type: "whisper", room: "r", draft: privateDraft(ALICE, BOB, "psst", "ref"), id: "p" },
        { type: "settings", room: "r", settings },
      );
      const { id } = (said as { event: { id: string } }).event;
      await one.turn(
        { type: "change", room: "r", change: { ...change(ALICE, id), type: "delete" } },
        { type: "leave", room: "r", connection: "a1" },
      );
      const keys = (await server.ask("KEYS", "*")).split("\r\n").filter((line) =>
        line.startsWith("hubbub:")
      );
      const tags = new Set(keys.map((key) => /\{([^}]*)\}/.exec(key)![1]));
      assertEquals([...tags].toSorted(), [":r", "instances", "owner:alice", "server"]);
    });
  });

  describe("A link to Redis", () => {
    it("beats while it ends an instance with presences in many rooms", async () => {
      await using server = await RedisServer.start();
      await using one = await Hearing.open(server.url);
      await one.beat();
      const rooms = Array.from({ length: 1500 }, (_, i) => `r${i}`);
      for (let i = 0; i < rooms.length; i += 500) {
        await one.turn(...rooms.slice(i, i + 500).map((room) => enter(room, `in ${room}`)));
      }
      await server.ask("ZADD", "hubbub:{instances}:leases", "1", one.instance);
      const lease = () => server.ask("ZSCORE", "hubbub:{instances}:leases", one.instance);
      const two = { instance: "two" };
      assert((await one.beat(two)).isAlive);
      assertEquals(await lease(), "$1\r\n1\r\n");
      while (await lease() !== "$-1\r\n") assert((await one.beat(two)).isAlive);
      const jobs = rooms.slice(0, 500).map((room): Job => ({ type: "present", room }));
      assert((await one.turn(...jobs)).every((present) => (present as []).length === 0));
      assertEquals(await one.link.presences(one.instance), []);
    });

    it("is lost once when the server is killed, and rejects pending calls", async () => {
      await using server = await RedisServer.start();
      await using one = await Hearing.open(server.url);
      server.freeze();
      const pending = assertRejects(() => one.turn(append("r", "a")), Error);
      await server.kill();
      await pending;
      assertEquals((await one.lost).message, "Redis has closed the connection.");
      await assertRejects(() => one.link.state("r"), Error);
    });

    it("closes at once, even if the server is frozen", async () => {
      await using server = await RedisServer.start();
      await using one = await Hearing.open(server.url);
      server.freeze();
      const pending = assertRejects(() => one.turn(append("r", "a")), Error);
      one.link.close();
      await pending;
    });

    it("gives up on a silent server on an abort", async () => {
      await using server = await RedisServer.start();
      server.freeze();
      const backend = new RedisBackend({ url: server.url, keep: Infinity });
      const listener = { onNews() {}, onProbe() {}, onLost() {} };
      await assertRejects(() => backend.connect(listener, AbortSignal.timeout(50)), Error);
    });

    it("receives nothing from another database of the server", async () => {
      await using server = await RedisServer.start();
      await using one = await Hearing.open(`${server.url}/1`);
      await using two = await Hearing.open(`${server.url}/12`);
      for (const { link } of [one, two]) await link.subscribe("r");
      await one.turn(append("r", "in the first"));
      await two.turn(append("r", "in the other"));
      const heard = (await two.count(1)).flatMap(({ items }) => items!.map(({ event }) => event));
      assertEquals(heard.map((event) => event.type === "logged" && event.event.content), [
        "in the other",
      ]);
    });

    it("begins an epoch after a restart, and resumes earlier ones", async () => {
      await using server = await RedisServer.start();
      await using one = await Hearing.open(server.url);
      await one.turn(append("r", "a"));
      const before = await one.link.state("r");
      const { position } = await one.link.open("r", { events: 1, messages: 1 });
      await server.kill();
      await server.start();
      await using two = await Hearing.open(server.url);
      const { epoch } = await two.link.state("r");
      assert(epoch !== before.epoch);
      await two.turn(append("r", "b"));
      const after = await two.link.state("r");
      assertEquals(after, { epoch, oldestSeq: 1, lastSeq: 2 });
      const can = (name: string, seq: number) => two.link.canResume("r", name, seq);
      assertEquals(
        await Promise.all([can(before.epoch, 1), can(before.epoch, 2), can(epoch, 2)]),
        [true, false, true],
      );
      const page = await two.link.page("r", position, 10);
      assertEquals([page.continues, page.events.length], [true, 1]);
      assert(page.position.privates > position.privates);
    });

    it("notices a failover that lost events, and gives no id twice", async () => {
      await using server = await RedisServer.start();
      await using replica = await server.startReplica();
      await using one = await Hearing.open(server.url);
      await one.turn(append("r", "kept"));
      await server.level(replica);
      await replica.cutReplication();
      const [lost] = await one.turn(append("r", "lost"));
      const { epoch } = await one.link.state("r");
      assertMatch(await refusalOf(replica.url), /is a replica.*Name the primary/);
      await replica.promote();
      await using two = await Hearing.open(replica.url);
      const [said] = await two.turn(append("r", "after"));
      const ids = [lost, said].map((answer) => (answer as { event: { id: string } }).event.id);
      assert(ids[0] !== ids[1]);
      assertEquals(await two.link.canResume("r", epoch, 2), false);
      assertEquals(await two.link.canResume("r", epoch, 1), true);
    });

    it("is lost when its server becomes a replica", async () => {
      await using server = await RedisServer.start();
      await using one = await Hearing.open(server.url);
      await server.cutReplication();
      await assertRejects(() => one.turn(append("r", "a")), NotDone, "is a replica");
      await one.lost;
    });

    it("continues to read when the server is full", async () => {
      await using server = await RedisServer.start();
      await using one = await Hearing.open(server.url);
      await one.turn(append("r", "a"));
      await server.ask("CONFIG", "SET", "maxmemory", "1");
      await assertRejects(() => one.turn(append("r", "b")), NotDone, "Redis is full.");
      assertEquals((await one.link.events("r", 0, 10)).length, 1);
      assertEquals((await one.link.open("r", { events: 9, messages: 9 })).messages.length, 1);
      await server.ask("CONFIG", "SET", "maxmemory", "0");
      await one.turn(append("r", "c"));
    });
  });

  describe("A Redis that cannot be used", () => {
    it("is refused with a sentence that says what to do, without the password", async () => {
      await using server = await RedisServer.start(["--databases", "2"]);
      const at = (rest: string) => `redis://${rest}`;
      const here = `127.0.0.1:${server.port}`;
      assertMatch(await refusalOf(at(`127.0.0.1:${freePort()}`)), /^Nothing answers at .* Start/);
      assertMatch(await refusalOf(at(`${here}/7`)), /no database 7/);
      assertMatch(await refusalOf("redis://host.invalid"), /no host host\.invalid/);
      assertMatch(await refusalOf(at(`:secret@${here}`)), /has no password/);
      const soon = AbortSignal.timeout(100);
      assertMatch(
        await refusalOf(`rediss://${here}`, soon),
        /does not answer.*redis:\/\/ if it has/,
      );
      await server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru");
      assertMatch(await refusalOf(at(here)), /maxmemory-policy is allkeys-lru.*CONFIG SET/);
      await server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction");
      await server.ask("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+@read", "+info");
      const [, advice] = /with: (ACL .*)$/.exec(await refusalOf(at(`reader:secret@${here}`)))!;
      await server.ask(...advice!.split(" "));
      await using reader = await Hearing.open(at(`reader:secret@${here}`));
      await reader.turn(append("r", "a"));
      await server.ask("CONFIG", "SET", "requirepass", "other");
      assertMatch(await refusalOf(at(here)), /wants a password/);
      const wrong = await refusalOf(at(`:secret@${here}`));
      assertMatch(wrong, /refuses the user or the password/);
      assert(!wrong.includes("secret"));
      await using one = await Hearing.open(at(`:other@${here}/1`));
      await one.turn(append("r", "a"));
    });
  });
}

if (hasRedis) {
  testEngine("RemoteEngine on Redis", createStore);
  testLink();
} else {
  // deno-lint-ignore no-console
  console.log(NO_REDIS);
  if (Deno.env.get("REQUIRE_ALL") === "1") {
    it("Redis tests have a redis-server", () => {
      throw new Error(NO_REDIS);
    });
  }
}
