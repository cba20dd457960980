/** The engine on a real Redis, which the tests start themselves. */

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
import { freePort, hasRedis, NO_REDIS, RedisServer } from "./support/redis_server.ts";

const SILENT = { error() {}, warn() {}, info() {} };

/** A server of its own for each store. */
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

/** A link, and what it hears. */
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

  /** Waits until so many news and probes have come. */
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

function append(room: string, content: string, ref?: string): Job {
  return { type: "append", room, draft: draft(ALICE, content, ref) };
}

/** The message of a connection that fails. */
async function refusalOf(url: string, signal?: AbortSignal): Promise<string> {
  return (await assertRejects(() => Hearing.open(url, signal && { signal }), Error)).message;
}

function testLink(): void {
  describe("A turn in Redis", () => {
    it("runs the jobs of several rooms, and tells each its own", async () => {
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

    it("is answered again, and not done again, if it is repeated", async () => {
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

    it("is done though the server has forgotten its scripts", async () => {
      await using server = await RedisServer.start();
      await using one = await Hearing.open(server.url);
      await server.ask("SCRIPT", "FLUSH");
      await one.turn(append("r", "a"), append("s", "b"));
      assertEquals((await one.link.state("s")).lastSeq, 1);
    });

    it("lets nobody enter without a lease, and ends a lease once", async () => {
      await using server = await RedisServer.start();
      let time = Date.now();
      await using one = await Hearing.open(server.url, { clock: () => time });
      await using two = await Hearing.open(server.url, { clock: () => time });
      const enter: Job = { type: "enter", room: "r", presence: presence(ALICE, "a1") };
      const [refused] = await one.turn(enter);
      assertEquals((refused as ChatError).code, "unavailable");
      assert(!(await one.beat()).isAlive);
      const other = { instance: "other" };
      assert((await one.beat(other)).isAlive);
      const [position] = await one.link.turn({ ...one.batch([enter]), ...other });
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

    it("touches only keys of its room, whatever it does", async () => {
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
    it("is lost once when the server is killed, and rejects what is under way", async () => {
      await using server = await RedisServer.start();
      await using one = await Hearing.open(server.url);
      server.freeze();
      const pending = assertRejects(() => one.turn(append("r", "a")), Error);
      await server.kill();
      await pending;
      assert((await one.lost) instanceof Error);
      await assertRejects(() => one.link.state("r"), Error);
    });

    it("closes at once though the server is frozen", async () => {
      await using server = await RedisServer.start();
      await using one = await Hearing.open(server.url);
      server.freeze();
      const pending = assertRejects(() => one.turn(append("r", "a")), Error);
      one.link.close();
      await pending;
    });

    it("gives up a server that does not answer when it is told to", async () => {
      await using server = await RedisServer.start();
      server.freeze();
      const backend = new RedisBackend({ url: server.url, keep: Infinity });
      const listener = { onNews() {}, onProbe() {}, onLost() {} };
      await assertRejects(() => backend.connect(listener, AbortSignal.timeout(50)), Error);
    });

    it("hears nothing of another database of the server", async () => {
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

    it("begins an epoch after a restart, in which earlier ones can be resumed", async () => {
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

    it("notices a failover that lost the newest events, and gives no id twice", async () => {
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

    it("goes on reading when the server is full", async () => {
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
    it("is refused with a sentence that says what to do, and never with the password", async () => {
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
