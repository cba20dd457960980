/** The feed of a room on another machine: each event once and in order, over any wire. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { DEFAULT_SETTINGS, type EngineEvent, type Presence } from "../lib/engine/engine.ts";
import type { News, NewsItem, Page, Position } from "../lib/engine/remote/backend.ts";
import { Feed } from "../lib/engine/remote/feed.ts";
import type { LogEvent } from "../lib/protocol/events.ts";
import { Random, seeds } from "./support/random.ts";

const START: Position = {
  epoch: "e",
  seq: 0,
  presence: 0,
  privates: 0,
  settings: 0,
  erasures: 0,
};

/** A room on another machine, and a wire to it under the test's control. */
class Far {
  position: Position;
  /** The oldest kept event. */
  oldest = 1;
  /** Whether the log lost events that the feed has seen. */
  isCut = false;
  /** Whether reads fail. */
  isDown = false;
  reads = 0;
  readonly told: EngineEvent[] = [];
  readonly timers: { ms: number; callback: () => void }[] = [];
  readonly feed: Feed;
  readonly #pageSize: number;
  readonly #privates: Page["privates"][number][] = [];
  readonly #present = new Map<string, Presence>();
  #waiting: (() => void)[] = [];

  constructor({ from = 0, pageSize = 3, isOpen = true } = {}) {
    this.#pageSize = pageSize;
    this.position = { ...START, seq: from };
    this.feed = new Feed({
      read: (since) => this.#read(since),
      onEvent: (event) => this.told.push(event),
      after: (ms, callback) => this.timers.push({ ms, callback }),
    });
    if (isOpen) this.open();
  }

  /** Starts the feed at the room's newest event. */
  open(): void {
    this.feed.start({
      position: this.position,
      oldestSeq: 1,
      events: [],
      messages: [],
      settings: DEFAULT_SETTINGS,
      present: [...this.#present.values()],
    });
  }

  /** Writes events to the log, and returns their news. */
  write(count = 1): News {
    const first = this.position.seq + 1;
    this.#move({ seq: this.position.seq + count });
    return this.#news(range(first, count).map((seq) => ({ event: logged(seq) })));
  }

  enter(connection: string): News {
    const presence = { connection, username: connection, person: "p" };
    this.#present.set(connection, presence);
    return this.#change("entered", presence);
  }

  leave(connection: string): News {
    const presence = this.#present.get(connection)!;
    this.#present.delete(connection);
    return this.#change("left", presence);
  }

  get present(): string[] {
    return [...this.#present.keys()];
  }

  whisper(): News {
    this.#move({ privates: this.position.privates + 1 });
    const number = this.position.privates;
    const event = whispered(number);
    this.#privates.push({ number, message: event.message });
    return this.#news([{ event, number }]);
  }

  changeSettings(): News {
    this.#move({ settings: this.position.settings + 1 });
    return this.#news([{ event: { type: "settings", settings: this.#settings } }]);
  }

  erase(): News {
    this.#move({ erasures: this.position.erasures + 1 });
    const event = { type: "erased", ids: [] } as const;
    return this.#news([{ event, number: this.position.erasures }]);
  }

  /** News of an event without a number. */
  type(username: string): News {
    return this.#news([{ event: typing(username) }]);
  }

  /** A new life of the server, with a complete log. */
  begin(epoch: string): void {
    this.#move({ epoch });
  }

  /** The news of events that do not fit. */
  tooLong({ room, epoch }: News): News {
    return { room, epoch, position: this.position };
  }

  /** Answers every waiting read, and those that follow. */
  async answer(): Promise<void> {
    do {
      for (const answer of this.#waiting.splice(0)) answer();
      for (let i = 0; i < 5; i++) await Promise.resolve();
    } while (this.#waiting.length > 0);
  }

  /** Runs every timer that is set now. */
  ring(): void {
    for (const { callback } of this.timers.splice(0)) callback();
  }

  /** The delivered events, in short form. */
  get short(): string[] {
    return this.told.map(toShort);
  }

  /** The numbers of the delivered log events. */
  get seqs(): number[] {
    return this.told.flatMap((one) => one.type === "logged" ? [one.event.seq] : []);
  }

  get #settings() {
    return { ...DEFAULT_SETTINGS, version: this.position.settings };
  }

  #move(to: Partial<Position>): void {
    this.position = { ...this.position, ...to };
  }

  #news(items: NewsItem[]): News {
    return { room: "r", epoch: this.position.epoch, items };
  }

  #change(type: "entered" | "left", presence: Presence): News {
    this.#move({ presence: this.position.presence + 1 });
    return this.#news([{ event: { type, presence, position: this.position.presence } }]);
  }

  #read(since: Position): Promise<Page> {
    this.reads++;
    return new Promise((resolve, reject) =>
      this.#waiting.push(() => this.isDown ? reject(new Error("down")) : resolve(this.page(since)))
    );
  }

  page({ seq, privates, settings, presence }: Position): Page {
    const { position } = this;
    const count = Math.min(position.seq - seq, this.#pageSize);
    return {
      position,
      continues: !this.isCut && seq >= this.oldest - 1 && seq <= position.seq,
      events: range(seq + 1, Math.max(0, count)).map((seq) => logged(seq).event),
      privates: this.#privates.slice(privates, privates + this.#pageSize),
      privatesTo: Math.min(position.privates, privates + this.#pageSize),
      settings: settings === position.settings ? undefined : this.#settings,
      present: presence === position.presence ? undefined : [...this.#present.values()],
    };
  }
}

function range(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => first + i);
}

function logged(seq: number) {
  const event = { type: "chat", content: "", room: "r", username: "", id: `e-${seq}`, seq };
  return { type: "logged", event: { ...event, timestamp: "" } as LogEvent, origin: "" } as const;
}

function whispered(number: number) {
  const author = { username: "", person: "" };
  const seqs = { fromSeq: number, toSeq: number };
  const message = { id: "", content: `${number}`, timestamp: "", from: author, to: author };
  return { type: "private", message: { ...message, ...seqs }, origin: "" } as const;
}

function typing(username: string): EngineEvent {
  return { type: "typing", username, isActive: true, origin: "" };
}

function toShort(event: EngineEvent): string {
  switch (event.type) {
    case "logged":
      return `${event.event.seq}`;
    case "entered":
      return `+${event.presence.connection}@${event.position}`;
    case "left":
      return `-${event.presence.connection}@${event.position}`;
    case "private":
      return `private ${event.message.content}`;
    case "settings":
      return `settings ${event.settings.version}`;
    case "typing":
      return `typing ${event.username}`;
    case "epoch":
      return `epoch ${event.epoch}`;
    default:
      return event.type;
  }
}

describe("Feed", () => {
  it("delivers news at once, and a repeat once", async () => {
    const far = new Far();
    const [one, two] = [far.write(2), far.write(1)];
    for (const news of [one, one, two, one, two]) far.feed.hear(news);
    assertEquals([far.short, far.reads], [["1", "2", "3"], 0]);
    await far.answer();
  });

  it("reads the events of a hole page by page, and delivers later news after them", async () => {
    const far = new Far();
    far.write(8);
    const news = far.write(1);
    far.feed.hear(news);
    assertEquals(far.told, []);
    far.feed.hear(far.write(1));
    await far.answer();
    assertEquals(far.seqs, range(1, 10));
    far.feed.hear(news);
    assertEquals([far.short.length, far.reads], [10, 4]);
  });

  it("reports when all events up to a position are delivered, or that it is closed", async () => {
    const far = new Far();
    const reached: string[] = [];
    const wait = (name: string, settings: number) =>
      far.feed.reach({ settings }).then(() => reached.push(name));
    const waits = [wait("first", 1), wait("second", 2), wait("never", 9)];
    far.feed.hear(far.changeSettings());
    await waits[0];
    assertEquals(reached, ["first"]);
    far.changeSettings();
    far.feed.catchUp();
    await far.answer();
    await waits[1];
    assertEquals(reached, ["first", "second"]);
    await wait("at once", 2);
    far.feed.close();
    await Promise.all(waits);
    assertEquals(reached, ["first", "second", "at once", "never"]);
  });

  it("reads all missed events, and delivers the log first", async () => {
    const far = new Far();
    far.feed.hear(far.enter("a"));
    far.feed.hear(far.enter("b"));
    far.whisper();
    far.leave("a");
    far.enter("c");
    far.leave("c");
    far.enter("d");
    far.write(2);
    far.feed.hear(far.changeSettings());
    far.changeSettings();
    far.feed.hear(far.changeSettings());
    await far.answer();
    assertEquals(far.short, [
      "+a@1",
      "+b@2",
      "settings 1",
      "1",
      "2",
      "private 1",
      "settings 3",
      "-a@2",
      "+d@6",
    ]);
    for (const news of [far.write(), far.leave("b"), far.whisper(), far.changeSettings()]) {
      far.feed.hear(news);
    }
    assertEquals(far.short.slice(9), ["3", "-b@7", "private 2", "settings 4"]);
  });

  it("delivers events without a number once, even before a hole", async () => {
    const far = new Far();
    const [kept, lost, late] = [far.write(), far.write(), far.write()];
    far.feed.hear({ ...kept, items: [...far.type("a").items!, ...kept.items!] });
    void lost;
    far.feed.hear({ ...late, items: [...far.type("b").items!, ...late.items!] });
    far.feed.hear(far.type("c"));
    await far.answer();
    assertEquals(far.short, ["typing a", "1", "typing b", "2", "3", "typing c"]);
  });

  it("reads events that do not fit into their news, unless it has them", async () => {
    const far = new Far();
    far.feed.hear(far.tooLong(far.write(2)));
    await far.answer();
    far.feed.hear(far.tooLong(far.type("a")));
    assertEquals([far.short, far.reads], [["1", "2"], 1]);
  });

  it("starts where the room was read, with the news since then", () => {
    const far = new Far({ from: 40, isOpen: false });
    const early = [far.enter("a"), far.write(1), far.type("a")];
    const opened = far.position;
    far.feed.hear(early[0]!);
    far.feed.hear(early[1]!);
    const later = far.write(1);
    far.feed.hear(later);
    far.position = opened;
    far.open();
    far.feed.hear(far.leave("a"));
    assertEquals(far.short, ["42", "-a@2"]);
  });

  it("reads once more after news during a read", async () => {
    const far = new Far();
    far.write(1);
    far.feed.catchUp();
    far.write(1);
    far.feed.catchUp();
    await far.answer();
    assertEquals(far.seqs, [1, 2]);
    assert(far.reads <= 3);
  });

  it("reads events that a receipt names, unless their news arrives in time", async () => {
    const far = new Far();
    const news = far.write(1);
    far.feed.expect({ seq: 1 });
    far.feed.hear(news);
    far.ring();
    assertEquals(far.reads, 0);
    far.write(1);
    far.enter("a");
    for (const ahead of [{ seq: 2 }, { presence: 1 }]) far.feed.expect(ahead);
    far.ring();
    await far.answer();
    assertEquals([far.short, far.reads], [["1", "2", "+a@1"], 1]);
  });

  it("waits once for many receipts, then for those that arrived meanwhile", async () => {
    const far = new Far();
    const news = far.write(1);
    far.feed.expect({ seq: 1 });
    far.write(1);
    far.feed.expect({ seq: 2 });
    assertEquals(far.timers.map(({ ms }) => ms), [250]);
    far.feed.hear(news);
    far.ring();
    assertEquals([far.reads, far.timers.map(({ ms }) => ms)], [0, [250]]);
    far.ring();
    await far.answer();
    assertEquals([far.seqs, far.reads], [[1, 2], 1]);
  });

  it("learns of a lost last event by comparing positions", async () => {
    const far = new Far();
    far.write(1);
    far.feed.compare(far.position);
    await far.answer();
    assertEquals(far.seqs, [1]);
    far.feed.compare(far.position);
    assertEquals(far.reads, 1);
  });

  it("reads again after a failed read, and keeps the news since then", async () => {
    const far = new Far();
    far.write(2);
    far.isDown = true;
    far.feed.hear(far.write(1));
    far.feed.hear(far.type("a"));
    await far.answer();
    assertEquals([far.told, far.timers.map(({ ms }) => ms)], [[], [200]]);
    far.isDown = false;
    far.ring();
    await far.answer();
    assertEquals(far.short, ["1", "2", "3", "typing a"]);
  });

  it("continues in a new epoch of the same log, announced before its events", async () => {
    const far = new Far();
    far.feed.hear(far.write(2));
    far.begin("f");
    far.feed.hear(far.write(1));
    far.feed.hear(far.write(1));
    await far.answer();
    far.feed.hear(far.write(1));
    const told = ["1", "2", "epoch f", "3", "4", "settings 0", "5"];
    assertEquals([far.short, far.reads], [told, 2]);
    far.begin("g");
    far.feed.compare(far.position);
    await far.answer();
    assertEquals(far.short.slice(7), ["epoch g", "settings 0"]);
  });

  it("is lost after a lost tail, dropped events, or unheard erasures", async () => {
    const losses: ((far: Far) => void)[] = [
      (far) => {
        far.isCut = true;
        far.begin("f");
        far.feed.hear(far.write(1));
      },
      (far) => {
        far.position = { ...far.position, seq: 1 };
        far.feed.catchUp();
      },
      (far) => {
        far.write(5);
        far.oldest = 5;
        far.feed.catchUp();
      },
      (far) => {
        far.position = { ...far.position, erasures: 1 };
        far.feed.compare(far.position);
      },
    ];
    for (const lose of losses) {
      const far = new Far();
      far.feed.hear(far.write(2));
      lose(far);
      await far.answer();
      assertEquals(far.short, ["1", "2", "lost"], String(lose));
      // It has ended, and delivers nothing.
      far.isCut = false;
      far.feed.hear(far.write(1));
      far.feed.catchUp();
      far.feed.tell(typing("a"));
      await far.answer();
      assertEquals(far.short.length, 3);
    }
  });

  it("survives erasures that it hears during a read", async () => {
    const far = new Far();
    far.write(2);
    far.feed.hear(far.write(1));
    far.feed.hear(far.erase());
    far.feed.hear(far.erase());
    await far.answer();
    assertEquals(far.short, ["erased", "erased", "1", "2", "3"]);
  });

  it("reads many private messages in pages", async () => {
    const far = new Far({ pageSize: 3 });
    for (let i = 0; i < 10; i++) far.whisper();
    far.enter("a");
    far.feed.compare(far.position);
    await far.answer();
    assertEquals(far.short, [...range(1, 10).map((n) => `private ${n}`), "+a@1"]);
    far.feed.hear(far.whisper());
    assertEquals([far.short.at(-1), far.reads], ["private 11", 4]);
  });

  it("delivers nothing after it was closed, even during a read", async () => {
    const far = new Far();
    far.write(2);
    far.feed.catchUp();
    far.feed.close();
    await far.answer();
    far.feed.hear(far.write(1));
    far.ring();
    assertEquals(far.told, []);
  });

  for (const seed of seeds(5)) {
    it(`delivers each event once and in order, with news lost, late or repeated (SEED=${seed})`, async () => {
      const random = new Random(seed);
      for (let run = 0; run < 100; run++) await runAtRandom(random);
    });
  }
});

const STEPS = {
  write: 40,
  enter: 8,
  leave: 6,
  whisper: 5,
  settings: 3,
  hear: 40,
  lose: 8,
  expect: 10,
  begin: 1,
  down: 5,
  answer: 10,
};

/** A room whose wire fails at random, and is up to date in the end. */
async function runAtRandom(random: Random): Promise<void> {
  const far = new Far({ pageSize: random.between(1, 5) });
  const wire: News[] = [];
  for (let step = 0; step < 80; step++) {
    switch (random.weighted(STEPS)) {
      case "write":
        wire.push(far.write(random.between(1, 3)));
        break;
      case "enter":
        wire.push(far.enter(`c${step}`));
        break;
      case "leave":
        if (far.present.length > 0) wire.push(far.leave(random.pick(far.present)));
        break;
      case "whisper":
        wire.push(far.whisper());
        break;
      case "settings":
        wire.push(far.changeSettings());
        break;
      case "hear": {
        const [news] = wire.splice(random.percent(80) ? 0 : random.below(wire.length || 1), 1);
        if (news) far.feed.hear(news);
        if (news && random.percent(20)) far.feed.hear(news);
        break;
      }
      case "lose":
        wire.splice(0, random.below(3));
        break;
      case "expect":
        far.feed.expect(far.position);
        break;
      case "begin":
        far.begin(`epoch ${step}`);
        break;
      case "down":
        far.isDown = !far.isDown;
        break;
      case "answer":
        far.ring();
        await far.answer();
        break;
    }
    assertEquals(far.seqs, range(1, far.seqs.length));
  }
  far.isDown = false;
  for (let i = 0; i < 2; i++) {
    far.feed.compare(far.position);
    far.ring();
    await far.answer();
  }
  assertLevel(far);
}

/** Asserts that the delivered events add up to the room's state. */
function assertLevel(far: Far): void {
  assertEquals(far.seqs, range(1, far.position.seq));
  const present = new Set<string>();
  for (const event of far.told) {
    if (event.type === "entered") {
      assert(!present.has(event.presence.connection));
      present.add(event.presence.connection);
    } else if (event.type === "left") assert(present.delete(event.presence.connection));
  }
  assertEquals([...present].sort(), far.present.sort());
  const privates = far.told.flatMap((one) => one.type === "private" ? [one.message.content] : []);
  assertEquals(privates, range(1, far.position.privates).map(String));
  const settings = far.told.findLast(({ type }) => type === "settings");
  if (far.position.settings > 0) {
    assert(settings?.type === "settings");
    assertEquals(settings.settings.version, far.position.settings);
  }
}
