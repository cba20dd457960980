/** The remote engine, on a server in this process whose wire the test breaks. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { setImmediate } from "node:timers";
import {
  DEFAULT_SETTINGS,
  type Engine,
  type EngineEvent,
  type EngineOptions,
  EVERYWHERE,
} from "../lib/engine/engine.ts";
import { RemoteEngine } from "../lib/engine/remote/remote_engine.ts";
import { ChatError } from "../lib/errors.ts";
import { Turn } from "../lib/time.ts";
import {
  account,
  ALICE,
  ALL,
  assertRefused,
  BOB,
  contents,
  draft,
  Lab,
  Listener,
  numbers,
  presence,
  privateDraft,
  say,
  type Store,
  token,
  upTo,
} from "./support/engine_lab.ts";
import { testEngine } from "./support/engine_suite.ts";
import { FarServer, FarWire } from "./support/far_server.ts";

const turn = new Turn(setImmediate);
const silent = { info() {}, warn() {}, error() {} };

/** A far server, and instances with a wire each. */
class FarStore implements Store {
  readonly isLasting = true;
  readonly isShared = true;
  readonly wires: FarWire[] = [];
  readonly #delays: Partial<Pick<FarWire, "there" | "back" | "news">>;
  server!: FarServer;

  constructor(delays: Partial<Pick<FarWire, "there" | "back" | "news">> = {}) {
    this.#delays = delays;
  }

  open(options: EngineOptions): Promise<Engine> {
    this.server ??= new FarServer(options);
    const wire = Object.assign(new FarWire(this.server), this.#delays);
    this.wires.push(wire);
    return RemoteEngine.connect({
      backend: wire,
      newId: options.newId,
      leaseMs: options.leaseMs,
      atCommit: (callback) => turn.commit(callback),
      logger: silent,
      failures: silent,
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }
}

testEngine("RemoteEngine", () => new FarStore());
testEngine("RemoteEngine with late news", () => new FarStore({ news: 4 }));

/** Two instances on one server, and their wires. */
async function setUp() {
  const store = new FarStore();
  const lab = await Lab.open(() => store);
  const other = await lab.openAnother();
  const [wire, otherWire] = store.wires as [FarWire, FarWire];
  return { lab, engine: lab.engine, other, wire, otherWire, server: store.server };
}

/** Waits for a condition that no event reports. */
async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!await holds()) await new Promise((resolve) => setTimeout(resolve, 5));
}

const write = (engine: Engine, content: string) => engine.log.append("r", draft(ALICE, content));

describe("RemoteEngine: its round trips", () => {
  it("are one for all writes of a turn, one for each opened room, and one a beat", async () => {
    const { lab, engine, wire } = await setUp();
    await using _ = lab;
    const asked = async (run: () => Promise<unknown>) => {
      wire.calls.length = 0;
      await run();
      return wire.calls.join();
    };
    assertEquals(
      await asked(() => Promise.all([say(engine, "r", 50), say(engine, "s", 50)])),
      "turn",
    );
    // Writes made meanwhile are sent together, too.
    const many = upTo(20).map(async (n) => {
      for (let i = 0; i < n % 3; i++) await Promise.resolve();
      await write(engine, "text");
    });
    assert((await asked(() => Promise.all(many))).split(",").length <= 2);
    assertEquals(await asked(() => engine.open("r", { events: 9, messages: 9 })), "subscribe,open");
    assertEquals(await asked(() => engine.bus.renew()), "beat");
  });
});

describe("RemoteEngine: lost news", () => {
  it("are read when later ones show the hole, and delivered once and in order", async () => {
    const { lab, engine, other, wire } = await setUp();
    await using _ = lab;
    using listener = await Listener.open(engine, "r");
    await say(other, "r", 2);
    await listener.seq(2);
    wire.isDeaf = true;
    await say(other, "r", 300);
    await other.bus.enter("r", presence(BOB, "b1"));
    await other.log.whisper("r", privateDraft(BOB, ALICE, "psst"));
    await other.roomSettings.setSettings("r", { ...DEFAULT_SETTINGS, isPrivate: true });
    wire.isDeaf = false;
    await say(other, "r", 1);
    assertEquals(numbers(await listener.seq(303)), upTo(303));
    await listener.count(306);
    const rest = listener.heard.slice(303).map(({ type }) => type);
    assertEquals(rest.toSorted(), ["entered", "private", "settings"]);
  });

  it("are noticed by the next beat when nothing follows them", async () => {
    const { lab, engine, other, wire } = await setUp();
    await using _ = lab;
    using listener = await Listener.open(engine, "r");
    wire.isDeaf = true;
    await say(other, "r", 1);
    wire.isDeaf = false;
    await engine.bus.renew();
    assertEquals(numbers(await listener.seq(1)), [1]);
  });

  it("are noticed by the receipt of the engine's own write", async () => {
    const { lab, engine, wire } = await setUp();
    await using _ = lab;
    using listener = await Listener.open(engine, "r");
    wire.isDeaf = true;
    await say(engine, "r", 1);
    await listener.seq(1);
    await engine.bus.enter("r", presence(ALICE, "a1"));
    await listener.count(2);
    await engine.roomSettings.setSettings("r", { ...DEFAULT_SETTINGS, isPrivate: true });
    await listener.count(3);
  });

  it("of the whole server are reported as missed", async () => {
    const { lab, engine, other, wire } = await setUp();
    await using _ = lab;
    using listener = await Listener.open(engine, EVERYWHERE);
    await other.accounts.addAccount(account("alice"));
    await listener.count(1);
    wire.isDeaf = true;
    await other.accounts.endToken("one");
    wire.isDeaf = false;
    await other.accounts.endToken("two");
    const types = (await listener.count(3)).map(({ type }) => type);
    assertEquals(types, ["registered", "token_ended", "missed"]);
    wire.isDeaf = true;
    await other.accounts.endToken("three");
    wire.isDeaf = false;
    await engine.bus.renew();
    await engine.bus.renew();
    assertEquals((await listener.count(4)).at(-1)!.type, "missed");
    const known = { tokens: ["one"], keys: ["alice", "bob"] };
    assertEquals(await engine.accounts.recheck(known), { tokens: ["one"], keys: ["alice"] });
  });

  it("for good are replaced by polling, until news arrive again", async () => {
    const store = new FarStore();
    await using lab = await Lab.open(() => store);
    const { engine } = lab;
    const other = await lab.openAnother();
    const wire = store.wires[0]!;
    wire.isDeaf = true;
    wire.kick();
    using listener = await Listener.open(engine, "r");
    await until(async () => {
      await engine.bus.renew().catch(() => {});
      await say(other, "r", 1);
      return wire.links > 2 && numbers(listener.logged).length > 3;
    });
    // It delivers its own unstored events itself.
    const typing: EngineEvent = { type: "typing", username: "a", isActive: true, origin: "" };
    await until(async () => {
      await engine.bus.publish("r", typing);
      return listener.heard.some(({ type }) => type === "typing");
    });
    await engine.check();
    const { links } = wire;
    wire.isDeaf = false;
    await engine.bus.renew();
    const { lastSeq } = await other.log.state("r");
    assertEquals(numbers(await listener.seq(lastSeq)), upTo(lastSeq));
    assertEquals(wire.links, links);
  });
});

describe("RemoteEngine: a broken link", () => {
  it("loses and repeats nothing, with refs or without", async () => {
    const { lab, engine, other, wire, otherWire } = await setUp();
    await using _ = lab;
    using ones = await Listener.open(engine, "r");
    using twos = await Listener.open(other, "r");
    const answers: Promise<unknown>[] = [];
    for (const n of upTo(60)) {
      answers.push(write(engine, `${n}`), write(other, `${n}`));
      if (n % 9 === 0) wire.kick();
      if (n % 13 === 0) otherWire.kick();
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    await Promise.all(answers);
    const texts = contents(await engine.log.events("r", 0, ALL));
    assertEquals(texts.toSorted(), upTo(60).flatMap((n) => [`${n}`, `${n}`]).sort());
    assertEquals(contents(await ones.seq(120)), texts);
    assertEquals(contents(await twos.seq(120)), texts);
  });

  it("repeats a batch whose answer was lost, and the server runs it once", async () => {
    const { lab, engine, other, wire } = await setUp();
    await using _ = lab;
    wire.isMute = true;
    const answer = write(engine, "once");
    await until(() => wire.calls.includes("turn"));
    wire.isMute = false;
    wire.kick();
    const { event, isDuplicate } = await answer;
    assertEquals([event.seq, isDuplicate], [1, false]);
    assertEquals(contents(await other.log.events("r", 0, ALL)), ["once"]);
  });

  it("rejects in time the writes behind a batch whose answer was lost", async () => {
    const { lab, engine, wire } = await setUp();
    await using _ = lab;
    wire.isMute = true;
    const answer = write(engine, "once");
    await until(() => wire.calls.includes("turn"));
    wire.isMute = false;
    wire.cut();
    await new Promise((resolve) => setTimeout(resolve, 20));
    const start = performance.now();
    await assertRefused(() => write(engine, "refused"), "unavailable");
    assert(performance.now() - start < 1500);
    wire.mend();
    await answer;
    assertEquals(contents(await engine.log.events("r", 0, ALL)), ["once"]);
  });

  it("rejects at once after a while, and reports that it is down", async () => {
    const { lab, engine, wire } = await setUp();
    await using _ = lab;
    wire.cut();
    await assertRejects(() => engine.check(), Error);
    await assertRefused(() => write(engine, "refused"), "unavailable");
    const start = performance.now();
    await assertRefused(() => write(engine, "refused"), "unavailable");
    await assertRefused(() => engine.log.events("r", 0, 1), "unavailable");
    assert(performance.now() - start < 100);
    wire.mend();
    await until(() => engine.check().then(() => true, () => false));
    await write(engine, "stored");
    assertEquals(contents(await engine.log.events("r", 0, ALL)), ["stored"]);
  });

  it("ends a presence left meanwhile", async () => {
    const { lab, engine, other, wire } = await setUp();
    await using _ = lab;
    await engine.bus.enter("r", presence(ALICE, "a1"));
    await engine.bus.enter("r", presence(ALICE, "a2"));
    wire.cut();
    engine.bus.leave("r", "a1");
    await assertRefused(() => engine.bus.enter("r", presence(BOB, "b1")), "unavailable");
    wire.mend();
    await until(async () => (await other.bus.present("r")).length === 1);
    assertEquals(await other.bus.present("r"), [presence(ALICE, "a2")]);
  });
});

describe("RemoteEngine: a frozen server", () => {
  it("rejects unsent calls, and reports the fate of the others once known", async () => {
    const { lab, engine, server } = await setUp();
    await using _ = lab;
    server.freeze();
    const underWay = [write(engine, "under way"), engine.bus.present("r")] as const;
    const present = underWay[1].then(() => "", ({ code }) => code);
    let isKnown = false;
    const known = underWay[0].then(() => "stored", ({ code }) => code).finally(() =>
      isKnown = true
    );
    await new Promise((resolve) => setTimeout(resolve, 20));
    const start = performance.now();
    await assertRefused(() => write(engine, "refused"), "unavailable");
    assert(performance.now() - start < 1500);
    assertEquals([await present, isKnown], ["unavailable", false]);
    server.thaw();
    const outcome = await known;
    const stored = contents(await engine.log.events("r", 0, ALL));
    assertEquals(stored, outcome === "stored" ? ["under way"] : []);
  });

  it("leaves no presence of a refused member", async () => {
    const { lab, engine, other, server } = await setUp();
    await using _ = lab;
    server.freeze();
    const entering = engine.bus.enter("r", presence(ALICE, "a1"));
    const refused = assertRefused(() => entering, "unavailable");
    await new Promise((resolve) => setTimeout(resolve, 20));
    await refused;
    engine.bus.leave("r", "a1");
    server.thaw();
    await until(() => engine.check().then(() => true, () => false));
    await write(engine, "after it");
    assertEquals(await other.bus.present("r"), []);
  });

  it("delays no close", async () => {
    const { lab, engine, server } = await setUp();
    await using _ = lab;
    server.freeze();
    const underWay = write(engine, "under way");
    const refused = assertRefused(() => underWay, "unavailable");
    await new Promise((resolve) => setTimeout(resolve, 20));
    const start = performance.now();
    await engine.close();
    assert(performance.now() - start < 1500);
    await refused;
    server.thaw();
  });

  it("rejects calls beyond the limits of the queue", async () => {
    const { lab, engine, server } = await setUp();
    await using _ = lab;
    server.freeze();
    const text = "x".repeat(4000);
    const results = upTo(10_000).map(() => write(engine, text).then(() => "", ({ code }) => code));
    const start = performance.now();
    await assertRefused(() => write(engine, text), "unavailable");
    assert(performance.now() - start < 500);
    server.thaw();
    const refused = (await Promise.all(results)).filter((code) => code !== "");
    assert(refused.length > 0 && refused.every((code) => code === "unavailable"));
  });
});

describe("RemoteEngine: an expired lease", () => {
  it("is never renewed: the instance joins again, and a taken name displaces its member", async () => {
    const { lab, engine, other } = await setUp();
    await using _ = lab;
    await engine.bus.enter("r", presence(ALICE, "a1"));
    await engine.bus.enter("r", presence(BOB, "b1"));
    using listener = await Listener.open(engine, "r");
    lab.time += 60_000;
    await other.bus.renew();
    await listener.count(2);
    const stranger = presence({ ...ALICE, person: "guest:x" }, "x1");
    await other.bus.renew();
    await other.bus.enter("r", stranger);
    await engine.bus.renew();
    const events = (await listener.count(5)).slice(2);
    assertEquals(events.map(({ type }) => type).toSorted(), ["displaced", "entered", "entered"]);
    const displaced = events.find(({ type }) => type === "displaced");
    assertEquals(displaced, { type: "displaced", connection: "a1" });
    assertEquals(await other.bus.present("r"), [stranger, presence(BOB, "b1")]);
    // Its end must not end the presence that displaced it.
    engine.bus.leave("r", "a1");
    engine.bus.leave("r", "x1");
    assertEquals((await engine.bus.present("r")).length, 2);
  });

  it("takes no new presence until the instance has another", async () => {
    const { lab, engine, other } = await setUp();
    await using _ = lab;
    lab.time += 60_000;
    await other.bus.renew();
    await assertRefused(() => engine.bus.enter("r", presence(ALICE, "a1")), "unavailable");
    await engine.bus.renew();
    await engine.bus.enter("r", presence(ALICE, "a1"));
    assertEquals(await other.bus.present("r"), [presence(ALICE, "a1")]);
  });
});

describe("RemoteEngine: after its close", () => {
  it("nothing is delivered, and nobody is present", async () => {
    const { lab, engine, other, wire } = await setUp();
    await using _ = lab;
    await engine.bus.enter("r", presence(ALICE, "a1"));
    using listener = await Listener.open(engine, "r");
    const { calls } = wire;
    await engine.close();
    calls.length = 0;
    await say(other, "r", 3);
    await other.accounts.addToken(token("one", Infinity));
    assertEquals([listener.heard, calls], [[], []]);
    assertEquals(await other.bus.present("r"), []);
    const { code } = await assertRejects(() => engine.check(), ChatError);
    assertEquals(code, "unavailable");
  });
});
