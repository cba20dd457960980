import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type { Engine } from "../lib/engine/engine.ts";
import { MemoryEngine } from "../lib/engine/memory.ts";
import { SqliteEngine } from "../lib/engine/sqlite.ts";
import type { JoinRequest, Resume } from "../lib/http/rooms.ts";
import { createSecret } from "../lib/people/secrets.ts";
import { SUBPROTOCOL } from "../lib/protocol/encode.ts";
import type { ChatEvent, Event, LogEvent, WelcomeEvent } from "../lib/protocol/events.ts";
import { MAX_RECENT_EVENTS as MAX, RecentEvents } from "../lib/room/recent.ts";
import type { Member } from "../lib/room/room.ts";
import { createHub, type FakeHubOptions, FakePeer, guest } from "./support/fake_hub.ts";
import { Random, seeds } from "./support/random.ts";
import { frame, handshake, OPCODE, RawClient } from "./support/raw.ts";
import { startServer } from "./support/server.ts";
import { V1Client } from "./support/v1_client.ts";

const ROOM = "r";

/** More than any test writes. */
const ALL = 1_000_000;

const ENGINES: Record<string, NonNullable<FakeHubOptions["open"]>> = {
  memory: (options) => new MemoryEngine(options),
  sqlite: (options) => new SqliteEngine({ ...options, path: ":memory:" }),
};

type Order = { type: string; ref: string; content: string; to?: string };

/**
 * A client's view of the room from its events, over one connection after another. Throws at the first
 * repeated or missing event.
 */
class Follower {
  epoch = "";
  /** The last log event received. */
  seq = 0;
  /** The last private message received. */
  inboxSeq = 0;
  /** Current messages, by id. */
  readonly messages = new Map<string, { seq: number; content: string }>();
  /** Private messages by `inbox_seq`. */
  readonly notes = new Map<number, string>();
  /** The ends of the log and of the private messages at the last new start. */
  floor = { seq: 0, inboxSeq: 0 };
  /** Who is in the room. */
  present = new Set<string>();
  /** Unanswered commands, by `ref`. */
  readonly unanswered = new Map<string, Order>();
  readonly errors: string[] = [];
  recoveries = 0;
  restarts = 0;
  welcome: WelcomeEvent | undefined;
  #lastOld = { seq: 0, inboxSeq: 0 };

  /** The query for the next connection. */
  get resume(): Resume | undefined {
    if (this.epoch === "") return undefined;
    return { epoch: this.epoch, after: this.seq, inbox: this.inboxSeq };
  }

  /** Begins a new connection. */
  begin(): void {
    this.welcome = undefined;
  }

  take(event: Event): void {
    const isFirst = this.welcome === undefined;
    assert(
      (event.type === "welcome") === isFirst || event.type === "error",
      "Welcome comes first.",
    );
    switch (event.type) {
      case "welcome":
        return this.#begin(event);
      case "chat":
        if (event.history) {
          this.#old("seq", event.seq);
        } else {
          this.#next(event.seq);
        }
        if (!event.deleted) this.messages.set(event.id, event);
        return;
      case "message_updated": {
        this.#next(event.seq);
        const message = this.messages.get(event.id);
        if (message === undefined) return;
        this.messages.set(event.id, { ...message, content: event.content });
        return;
      }
      case "message_deleted":
        this.#next(event.seq);
        this.messages.delete(event.id);
        return;
      case "dm":
        if (event.history) {
          this.#old("inboxSeq", event.inbox_seq);
        } else {
          const { inbox_seq } = event;
          assert(inbox_seq > this.inboxSeq, `dm ${inbox_seq} comes after ${this.inboxSeq}.`);
          assert(!this.notes.has(inbox_seq), `dm ${inbox_seq} is repeated.`);
          this.inboxSeq = inbox_seq;
        }
        this.notes.set(event.inbox_seq, event.content);
        return;
      case "ack": {
        const order = this.unanswered.get(event.ref!);
        this.unanswered.delete(event.ref!);
        if (event.inbox_seq === undefined || order === undefined) return;
        this.notes.set(event.inbox_seq, order.content);
        this.inboxSeq = Math.max(this.inboxSeq, event.inbox_seq);
        return;
      }
      case "error":
        if (event.ref !== undefined) this.unanswered.delete(event.ref);
        this.errors.push(event.code);
        return;
      case "presence":
        for (const name of event.joined) this.present.add(name);
        for (const name of event.left) this.present.delete(name);
        assertEquals(this.present.size, event.online, "Who came and went adds up.");
        return;
      case "online_users":
        this.present = new Set(event.users.map(({ username }) => username));
        return;
    }
  }

  #begin(welcome: WelcomeEvent): void {
    this.welcome = welcome;
    this.present = new Set(welcome.users.map(({ username }) => username));
    if (welcome.recovered) {
      this.recoveries++;
      assertEquals(welcome.epoch, this.epoch);
      assert(welcome.seq >= this.seq);
      return;
    }
    this.restarts++;
    this.messages.clear();
    this.notes.clear();
    this.epoch = welcome.epoch;
    this.floor = { seq: welcome.seq, inboxSeq: welcome.inbox_seq };
    this.#lastOld = { seq: 0, inboxSeq: 0 };
    Object.assign(this, this.floor);
  }

  #next(seq: number): void {
    assertEquals(seq, this.seq + 1, "The log has no holes and no repeats.");
    this.seq = seq;
  }

  /** An event from before a new start. */
  #old(kind: "seq" | "inboxSeq", seq: number): void {
    assertEquals(this.welcome?.recovered, false, "History is for those who begin anew.");
    assert(seq > this.#lastOld[kind] && seq <= this.floor[kind], `History has ${kind} ${seq}.`);
    this.#lastOld[kind] = seq;
  }
}

type FakeHub = ReturnType<typeof createHub>;

/** Sends a message to the room from elsewhere. */
async function say({ engine, settle }: FakeHub, count: number, from = 1): Promise<void> {
  const author = { username: "elsewhere", person: "guest:elsewhere", origin: "" };
  const stored = [];
  for (let i = from; i < from + count; i++) {
    stored.push(engine.log.append(ROOM, { ...author, content: `message ${i}` }));
  }
  await settle();
  await Promise.all(stored);
}

/** Joins with `chat.v1`. */
function joinV1(fake: FakeHub, username: string, request: Partial<JoinRequest> = {}) {
  return fake.join(username, { format: "v1", ...request });
}

/** Joins as a returning person, and reads all events. */
async function comeBack(fake: FakeHub, session: string, resume: Resume | undefined) {
  const { peer, member } = await joinV1(fake, "back", { identity: guest(session, true), resume });
  await fake.settle();
  const events = peer.events();
  return { peer, member, events, welcome: events[0] as WelcomeEvent };
}

function logged(events: readonly Event[]): number[] {
  return events.flatMap((event) =>
    event.type === "chat" || event.type === "message_updated" || event.type === "message_deleted"
      ? [event.seq]
      : []
  );
}

function from(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

for (const [kind, open] of Object.entries(ENGINES)) {
  describe(`Resume (${kind})`, () => {
    /** A room with this many messages, and their places. */
    const setUp = async (count: number, options: FakeHubOptions = {}) => {
      const fake = createHub({}, {}, { open, ...options });
      const steady = await joinV1(fake, "steady");
      await say(fake, count);
      steady.peer.events();
      const { epoch } = await fake.engine.log.state(ROOM);
      return { fake, steady, epoch, session: createSecret() };
    };

    for (const missed of [0, 1, 63, 64, 65, MAX - 1, MAX, MAX + 1, 2 * MAX, 500]) {
      it(`delivers ${missed} missed events once and in order, then live ones`, async () => {
        const { fake, epoch, session } = await setUp(600);
        const after = 600 - missed;
        const { peer, events, welcome } = await comeBack(fake, session, { epoch, after });
        assertEquals([welcome.type, welcome.recovered, welcome.seq], ["welcome", true, 600]);
        assertEquals(logged(events), from(after + 1, 600));
        assert(events.every((event) => !("history" in event)));
        await say(fake, 3);
        assertEquals(logged(peer.events()), [601, 602, 603]);
        await fake.engine.close();
      });
    }

    it("delivers at most 10,000 missed events", async () => {
      const { fake, epoch, session } = await setUp(10_001, { keep: 20_000 });
      const some = await comeBack(fake, session, { epoch, after: 1 });
      assertEquals([some.welcome.recovered, logged(some.events).length], [true, 10_000]);
      const tooMany = await comeBack(fake, session, { epoch, after: 0 });
      assertEquals([tooMany.welcome.recovered, logged(tooMany.events).length], [false, 50]);
      await fake.engine.close();
    });

    const hopeless: Record<string, (epoch: string) => Resume> = {
      "a foreign epoch": () => ({ epoch: "another", after: 590 }),
      "a foreign epoch, with private messages": () => ({ epoch: "another", after: 590, inbox: 1 }),
      "a foreign epoch that was longer": () => ({ epoch: "another", after: 7000, inbox: 9 }),
      "a seq from the future": (epoch) => ({ epoch, after: 601 }),
      "a seq from the far future": (epoch) => ({ epoch, after: Number.MAX_SAFE_INTEGER }),
      "a seq older than the kept log": (epoch) => ({ epoch, after: 1 }),
      "the beginning, which was dropped": (epoch) => ({ epoch, after: 0 }),
      "an inbox_seq from the future": (epoch) => ({ epoch, after: 600, inbox: 99 }),
    };
    for (const [what, resumeIn] of Object.entries(hopeless)) {
      it(`starts again with recovered: false and the newest messages: ${what}`, async () => {
        const { fake, epoch, session } = await setUp(600, { keep: 100 });
        const person = guest(session).person;
        const sender = { username: "elsewhere", person: "guest:elsewhere", origin: "" };
        const to = { username: "back", person };
        const notes = [1, 2, 3].map((n) =>
          fake.engine.log.whisper(ROOM, { ...sender, content: `note ${n}`, to })
        );
        await fake.settle();
        await Promise.all(notes);
        const resume = resumeIn(epoch);
        const { peer, events, welcome } = await comeBack(fake, session, resume);
        const { type, recovered, seq, inbox_seq } = welcome;
        assertEquals([type, recovered, seq, inbox_seq], ["welcome", false, 600, 3]);
        assertEquals(welcome.epoch, epoch);
        const chats = events.filter((event) => event.type === "chat");
        assertEquals(chats.map(({ seq }) => seq), from(551, 600));
        assert(chats.every(({ history }) => history));
        await say(fake, 2);
        assertEquals(logged(peer.events()), [601, 602]);
        // A client that resumes private messages gets the newest ones then, as on a first visit.
        const dms = events.filter((event) => event.type === "dm");
        const expected = resume.inbox === undefined ? [] : [1, 2, 3];
        assertEquals(dms.map(({ inbox_seq }) => inbox_seq), expected);
        assert(dms.every(({ history }) => history));
        await fake.engine.close();
      });
    }

    it("depends on the events kept at that moment, exactly", async () => {
      const { fake, epoch, session } = await setUp(600, { keep: 200 });
      const { oldestSeq } = await fake.engine.log.state(ROOM);
      assert(oldestSeq > 1);
      const whole = await comeBack(fake, session, { epoch, after: oldestSeq - 1 });
      assertEquals(whole.welcome.recovered, true);
      assertEquals(logged(whole.events), from(oldestSeq, 600));
      const cut = await comeBack(fake, session, { epoch, after: oldestSeq - 2 });
      assertEquals(cut.welcome.recovered, false);
      await fake.engine.close();
    });

    it("delivers changed messages in their current form, and never a deleted text", async () => {
      for (const between of [0, 2 * MAX]) {
        const { fake, steady, epoch, session } = await setUp(10);
        const author = { username: "a", person: "p", origin: "" };
        const append = async (content: string) => {
          const stored = fake.engine.log.append(ROOM, { ...author, content });
          await fake.settle();
          return (await stored).event.id;
        };
        const [kept, gone] = [await append("first text"), await append("secret")];
        const changes = [
          fake.engine.log.change(ROOM, {
            ...author,
            type: "edit",
            id: gone,
            content: "secret too",
          }),
          fake.engine.log.change(ROOM, { ...author, type: "edit", id: kept, content: "last text" }),
          fake.engine.log.change(ROOM, { ...author, type: "delete", id: gone }),
        ];
        await fake.settle();
        await Promise.all(changes);
        await say(fake, between);
        steady.peer.events();
        const { events } = await comeBack(fake, session, { epoch, after: 10 });
        assertEquals(logged(events), from(11, 15 + between));
        const text = JSON.stringify(events);
        assert(text.includes("last text"));
        assert(!text.includes("secret"), `A deleted text is sent (${between} events later).`);
        await fake.engine.close();
      }
    });

    it("has no gap and no repeat, with messages at any moment meanwhile", async () => {
      for (const missed of [3, MAX + 40]) {
        for (let moment = 0; moment < 40; moment++) {
          const { fake, epoch, session } = await setUp(200);
          const request: JoinRequest = {
            room: ROOM,
            username: "back",
            format: "v1",
            identity: guest(session, true),
            resume: { epoch, after: 200 - missed },
          };
          await fake.hub.admit(request);
          const peer = new FakePeer();
          fake.hub.join(peer, request);
          const author = { username: "elsewhere", person: "p", origin: "" };
          for (let i = 0; i < moment; i++) await null;
          const stored = fake.engine.log.append(ROOM, { ...author, content: "meanwhile" });
          if (moment % 2 === 0) fake.turn();
          await fake.settle();
          await stored;
          await say(fake, 1);
          const seen = logged(peer.events());
          assertEquals(seen, from(201 - missed, 202), `${missed} missed, moment ${moment}`);
          await fake.engine.close();
        }
      }
    });

    it("delivers private messages of any moment once and in order", async () => {
      for (let moment = 0; moment < 40; moment++) {
        const { fake, epoch, session } = await setUp(10);
        const { engine } = fake;
        const to = { username: "back", person: guest(session).person };
        const sender = { username: "elsewhere", person: "p", origin: "" };
        const whisper = (content: string) => engine.log.whisper(ROOM, { ...sender, content, to });
        const stored = [whisper("1"), whisper("2"), whisper("3")];
        await fake.settle();
        const resume = { epoch, after: 10, inbox: 1 };
        const { peer } = await joinV1(fake, "back", { identity: guest(session, true), resume });
        for (let i = 0; i < moment; i++) await null;
        stored.push(whisper("4"));
        if (moment % 2 === 0) fake.turn();
        await fake.settle();
        stored.push(whisper("5"));
        await fake.settle();
        await Promise.all(stored);
        const events = peer.events();
        assertEquals((events[0] as WelcomeEvent).recovered, true);
        const dms = events.filter((event) => event.type === "dm");
        assertEquals(dms.map(({ inbox_seq }) => inbox_seq), [2, 3, 4, 5], `moment ${moment}`);
        await engine.close();
      }
    });

    it("reads on for a slow reader only when its queue is empty", async () => {
      const { fake, epoch, session } = await setUp(600);
      const { peer } = await joinV1(fake, "back", {
        identity: guest(session, true),
        resume: { epoch, after: 0 },
      });
      peer.isStalled = true;
      const seen: number[] = [];
      for (let i = 0; i < 100 && seen.length < 604; i++) {
        await fake.settle();
        if (i < 4) await say(fake, 1, 601 + i);
        seen.push(...logged(peer.events()));
        fake.pass(20);
        await fake.settle();
        assertEquals(peer.sent, [], "Nothing more is sent while something waits.");
        peer.bufferedAmount = 0;
        fake.pass(20);
      }
      assertEquals(seen, from(1, 604));
      await fake.engine.close();
    });

    it("sends a slow reader the joins and leaves during its catching up", async () => {
      const { fake, steady, epoch, session } = await setUp(600);
      const follower = new Follower();
      Object.assign(follower, { epoch, seq: 0 });
      const { peer } = await joinV1(fake, "back", {
        identity: guest(session, true),
        resume: { epoch, after: 0 },
      });
      peer.isStalled = true;
      await fake.settle();
      await joinV1(fake, "newcomer");
      fake.hub.leave(steady.member);
      await fake.settle();
      peer.drain();
      for (let i = 0; i < 20; i++) {
        fake.pass(20);
        await fake.settle();
      }
      for (const event of peer.events()) follower.take(event);
      assertEquals(follower.seq, 600);
      assertEquals([...follower.present].sort(), ["back", "newcomer"]);
      await fake.engine.close();
    });

    it("ends with an error when the log is trimmed while being read", async () => {
      const { fake, epoch, session } = await setUp(400, { keep: 400 });
      const { peer } = await joinV1(fake, "back", {
        identity: guest(session, true),
        resume: { epoch, after: 0 },
      });
      peer.isStalled = true;
      await fake.settle();
      await say(fake, 600, 401);
      peer.drain();
      fake.pass(20);
      await fake.settle();
      const error = peer.events().at(-1)!;
      assertEquals(error.type === "error" && error.code, "unavailable");
      assertEquals(peer.closed, 1013);
      const { welcome } = await comeBack(fake, session, { epoch, after: 64 });
      assertEquals(welcome.recovered, false);
      await fake.engine.close();
    });

    it("acks a repeated private message even if its receiver has left", async () => {
      const { fake, steady, session } = await setUp(1);
      const first = await comeBack(fake, session, undefined);
      const note = JSON.stringify({ type: "dm", to: "steady", content: "psst", ref: "7" });
      fake.hub.receive(first.member, note);
      await fake.settle();
      fake.hub.leave(first.member);
      fake.hub.leave(steady.member);
      const second = await comeBack(fake, session, undefined);
      fake.hub.receive(second.member, note);
      await fake.settle();
      const answer = second.peer.events().find((event) => "ref" in event && event.ref === "7");
      assertEquals(answer?.type, "ack");
      assertEquals(answer?.type === "ack" && answer.duplicate, true);
      await fake.engine.close();
    });
  });
}

/** One connection of a client in the simulation. */
interface Link {
  peer: FakePeer;
  member: Member;
}

interface Client {
  readonly name: string;
  readonly session: string;
  readonly follower: Follower;
  /** Whether its connection is cut at times. */
  readonly isTraveller: boolean;
  link: Link | undefined;
  arriving: Promise<void> | undefined;
}

/** The settings of a simulation. */
interface Course {
  /** Events kept. */
  keep: number;
  /** Maximum messages sent at once. */
  burst: number;
  /** How often a client is cut and returns, in a hundred steps. */
  cuts: number;
  returns: number;
  /** How often a connection stalls. */
  stalls: number;
  /** Whether two members are always connected. */
  isAttended: boolean;
}

/** People who talk in a room; some are cut off at any moment and return. */
class Simulation {
  readonly #fake: FakeHub;
  readonly #random: Random;
  readonly #course: Course;
  readonly #clients: Client[] = [];
  /** Dead connections, unnoticed by the server. */
  #lost: Member[] = [];
  readonly #acked = new Set<string>();
  #count = 0;

  constructor(engine: NonNullable<FakeHubOptions["open"]>, course: Course, random: Random) {
    const { keep } = course;
    this.#fake = createHub({ sendQueueFrames: 60 }, {}, { keep, open: engine });
    this.#random = random;
    this.#course = course;
    const tabs = [["cara", 2], ["dora", 1], ["emil", 1], ["fred", 2]] as const;
    for (const name of course.isAttended ? ["anna", "ben"] : []) this.#addClient(name, 1, false);
    for (const [name, count] of tabs) this.#addClient(name, count, true);
  }

  get restarts(): number {
    return this.#clients.reduce((sum, { follower }) => sum + follower.restarts, 0);
  }

  get recoveries(): number {
    return this.#clients.reduce((sum, { follower }) => sum + follower.recoveries, 0);
  }

  get clients(): number {
    return this.#clients.length;
  }

  async run(steps: number): Promise<void> {
    for (const client of this.#clients) {
      this.#comeBack(client);
      await client.arriving;
    }
    await this.#fake.settle();
    for (const client of this.#clients) this.#read(client);
    for (let i = 0; i < steps; i++) {
      this.#step();
      // Answers may arrive at any point between the steps.
      for (let left = this.#random.below(6); left > 0; left--) await null;
      if (this.#random.percent(5)) await this.#fake.settle();
    }
    await this.#end();
  }

  /** Everybody returns and reads everything. */
  async #end(): Promise<void> {
    for (const member of this.#lost) this.#fake.hub.leave(member);
    for (let round = 0; round < 40; round++) {
      for (const client of this.#clients) {
        await client.arriving;
        client.link?.peer.drain();
        this.#read(client);
        if (client.link === undefined) this.#comeBack(client);
      }
      this.#fake.pass(20);
      await this.#fake.settle();
    }
    await this.#check();
    await this.#fake.hub.drain();
    await this.#fake.engine.close();
  }

  #addClient(name: string, tabs: number, isTraveller: boolean): void {
    const session = createSecret();
    for (let i = 0; i < tabs; i++) {
      const follower = new Follower();
      this.#clients.push({
        name,
        session,
        follower,
        isTraveller,
        link: undefined,
        arriving: undefined,
      });
    }
  }

  #step(): void {
    const { cuts, returns, stalls } = this.#course;
    const random = this.#random;
    const client = random.pick(this.#clients);
    const { link } = client;
    const weights = {
      chat: 20,
      change: 12,
      dm: 10,
      burst: 2,
      read: 15,
      turn: 15,
      pass: 8,
      stall: stalls,
      drain: 6,
      cut: cuts,
      comeBack: returns,
      bury: 4,
    };
    switch (random.weighted(weights)) {
      case "chat":
        return this.#send(client, { type: "chat" });
      case "change":
        return this.#changeSomething(client);
      case "dm": {
        // Clients that may resend write to those that stay.
        const others = this.#clients.filter(({ name }) => name !== client.name);
        const to = random.pick(
          others.filter(({ isTraveller }) => !client.isTraveller || !isTraveller),
        );
        if (to !== undefined) this.#send(client, { type: "dm", to: to.name });
        return;
      }
      case "burst":
        for (let left = random.between(1, this.#course.burst); left > 0; left--) {
          this.#send(client, { type: "chat" });
        }
        return;
      case "read":
        return this.#read(client);
      case "turn":
        // Deferred work runs in the same go, before any answer, or in the next turn.
        for (let left = random.between(1, 2); left > 0; left--) this.#fake.turn();
        return;
      case "pass":
        this.#fake.pass(random.percent(5) ? 11_000 : random.between(1, 60));
        return random.percent(30) ? this.#fake.hub.sweep() : undefined;
      case "stall":
        if (client.isTraveller && link !== undefined) link.peer.isStalled = true;
        return;
      case "drain":
        return link?.peer.drain();
      case "cut":
        return client.isTraveller ? this.#cut(client) : undefined;
      case "comeBack":
        return this.#comeBack(client);
      case "bury":
        for (const member of this.#lost.splice(0, 1)) this.#fake.hub.leave(member);
        return;
    }
  }

  #send(client: Client, order: { type: string; to?: string }): void {
    if (client.link === undefined) return;
    const ref = `${++this.#count}`;
    const whole: Order = { ...order, ref, content: `text ${ref}` };
    client.follower.unanswered.set(ref, whole);
    this.#fake.hub.receive(client.link.member, JSON.stringify(whole));
  }

  /** Edits or deletes a known message, own or not. */
  #changeSomething({ link, follower }: Client): void {
    const id = [...follower.messages.keys()].at(-1 - this.#random.below(12));
    if (link === undefined || id === undefined) return;
    const command = this.#random.percent(70)
      ? { type: "edit", id, content: `changed ${++this.#count}` }
      : { type: "delete", id };
    this.#fake.hub.receive(link.member, JSON.stringify(command));
  }

  /** Reads the received frames; at most `frames` of them. */
  #read(client: Client, frames = Infinity): void {
    const { link, follower } = client;
    if (link === undefined || link.peer.isStalled) return;
    const sent = [...follower.unanswered.values()];
    for (const event of link.peer.events(frames)) {
      follower.take(event);
      if (event.type === "ack") this.#acked.add(event.ref!);
      if (event.type !== "welcome") continue;
      // Unanswered commands are sent again.
      for (const order of sent) this.#fake.hub.receive(link.member, JSON.stringify(order));
    }
    if (link.peer.closed !== undefined) client.link = undefined;
  }

  /** Cuts a connection: the last frames are lost, and the server may notice late. */
  #cut(client: Client): void {
    const { link } = client;
    if (link === undefined) return;
    this.#read(client, this.#random.between(0, link.peer.sent.length));
    client.link = undefined;
    if (this.#random.percent(50)) this.#fake.hub.leave(link.member);
    else this.#lost.push(link.member);
  }

  #comeBack(client: Client): void {
    if (client.link !== undefined || client.arriving !== undefined) return;
    client.arriving = this.#arrive(client).then(() => {
      client.arriving = undefined;
    });
  }

  async #arrive(client: Client): Promise<void> {
    const { name: username, session, follower } = client;
    const { resume } = follower;
    const identity = guest(session, true);
    const request: JoinRequest = { room: ROOM, username, format: "v1", identity, resume };
    await this.#fake.hub.admit(request);
    const peer = new FakePeer();
    follower.begin();
    client.link = { peer, member: this.#fake.hub.join(peer, request) };
  }

  /** Every client's view matches the engine. */
  async #check(): Promise<void> {
    const { engine } = this.#fake;
    const { epoch, oldestSeq, lastSeq } = await engine.log.state(ROOM);
    const messages = await engine.log.messages(ROOM, { limit: ALL });
    const present = new Set((await engine.bus.present(ROOM)).map(({ username }) => username));
    for (const { name, session, follower, link } of this.#clients) {
      assert(link !== undefined, `${name} is in the room.`);
      assertEquals([follower.epoch, follower.seq], [epoch, lastSeq], `${name} has seen it all`);
      const stored = new Map(messages.map(({ id, content }) => [id, content]));
      for (const { id, seq, content } of messages) {
        if (seq > follower.floor.seq) assertEquals(follower.messages.get(id)?.content, content);
      }
      for (const [id, { seq, content }] of follower.messages) {
        if (seq >= oldestSeq) assertEquals(stored.get(id), content);
      }
      const notes = await engine.log.inbox(ROOM, guest(session).person, 0, ALL);
      for (const { inboxSeq, message } of notes) {
        if (inboxSeq <= follower.floor.inboxSeq && !follower.notes.has(inboxSeq)) continue;
        assertEquals(follower.notes.get(inboxSeq), message.content, `${name}: note ${inboxSeq}`);
      }
      assertEquals(follower.unanswered.size, 0, `${name} has an answer to everything.`);
      assertEquals([...follower.present].sort(), [...present].sort(), `${name} sees who is there`);
      // Changes of deleted or foreign messages, and a log trimmed while being read.
      const expected = oldestSeq > 1 ? ["not_found", "forbidden", "unavailable"] : [
        "not_found",
        "forbidden",
      ];
      assertEquals(follower.errors.filter((code) => !expected.includes(code)), []);
    }
    if (oldestSeq > 1) return;
    // Every text was stored once, however often sent.
    const log = await engine.log.events(ROOM, 0, ALL);
    const said = log.filter(({ type }) => type === "chat").length;
    const refs = await this.#storedRefs(engine);
    assertEquals(said, refs);
  }

  /** The count of acked messages of the room. */
  async #storedRefs(engine: Engine): Promise<number> {
    let notes = 0;
    const persons = new Set(this.#clients.map(({ session }) => guest(session).person));
    for (const person of persons) {
      for (const { message } of await engine.log.inbox(ROOM, person, 0, ALL)) {
        if (message.from.person === person) notes++;
      }
    }
    return this.#acked.size - notes;
  }
}

const COURSES: Record<string, Course> = {
  "are away for moments": {
    keep: Infinity,
    burst: 20,
    cuts: 12,
    returns: 40,
    stalls: 0,
    isAttended: true,
  },
  "are away for long": {
    keep: Infinity,
    burst: 300,
    cuts: 10,
    returns: 6,
    stalls: 0,
    isAttended: true,
  },
  "are away for long and read slowly": {
    keep: Infinity,
    burst: 200,
    cuts: 10,
    returns: 8,
    stalls: 5,
    isAttended: true,
  },
  "are away for longer than the log is kept": {
    keep: 150,
    burst: 200,
    cuts: 10,
    returns: 8,
    stalls: 3,
    isAttended: true,
  },
  "leave nobody behind": {
    keep: Infinity,
    burst: 20,
    cuts: 30,
    returns: 20,
    stalls: 3,
    isAttended: false,
  },
};

for (const [kind, open] of Object.entries(ENGINES)) {
  describe(`Returning people (${kind})`, () => {
    for (const [what, course] of Object.entries(COURSES)) {
      for (const seed of seeds(3)) {
        it(`have the same events as the others when they ${what} (SEED=${seed})`, async () => {
          const simulation = new Simulation(open, course, new Random(seed));
          await simulation.run(800);
          // With the whole log kept, only the first welcome of each is not recovered.
          if (course.keep === Infinity) assertEquals(simulation.restarts, simulation.clients);
        });
      }
    }
  });
}

/** A `chat.v1` client on a bare TCP connection, to cut without a close. */
class CutClient {
  readonly follower = new Follower();
  readonly #port: number;
  readonly #session = createSecret();
  #raw: RawClient | undefined;
  #refs = 0;

  constructor(port: number) {
    this.#port = port;
  }

  async connect(): Promise<void> {
    const { follower } = this;
    const query = new URLSearchParams({ username: "cut", session: this.#session });
    const { epoch, after, inbox } = follower.resume ?? {};
    if (epoch !== undefined) {
      query.set("epoch", epoch);
      query.set("after", String(after));
      query.set("inbox", String(inbox));
    }
    follower.begin();
    this.#raw = await RawClient.connect(this.#port);
    const headers = { "Sec-WebSocket-Protocol": SUBPROTOCOL };
    await this.#raw.write(handshake(`/ws/${ROOM}?${query}`, { headers }));
  }

  async readAnswer(): Promise<void> {
    assertEquals((await this.#raw!.readAnswer()).status, 101);
  }

  /** Reads one frame. After the welcome, what was not answered is sent again. */
  async read(): Promise<void> {
    const { opcode, text } = await this.#raw!.readFrame() ?? {};
    if (opcode !== OPCODE.text) return;
    const again = [...this.follower.unanswered.values()];
    for (const event of [JSON.parse(text!)].flat()) {
      this.follower.take(event);
      if (event.type === "welcome") { for (const order of again) await this.#write(order); }
    }
  }

  async say(): Promise<void> {
    const ref = `${++this.#refs}`;
    const order = { type: "chat", ref, content: `from the cut one ${ref}` };
    this.follower.unanswered.set(ref, order);
    await this.#write(order);
  }

  get said(): number {
    return this.#refs;
  }

  /** Ends the connection: a reset if received data is unread. */
  cut(): void {
    this.#raw?.close();
  }

  async #write(order: Order): Promise<void> {
    await this.#raw!.write(frame(JSON.stringify(order)));
  }
}

describe("A client cut 100 times while three others talk", () => {
  const testWith = async (databaseUrl: string, seed: number) => {
    const random = new Random(seed);
    await using server = await startServer({ DATABASE_URL: databaseUrl, HISTORY_KEEP: "0" });
    const talkers: V1Client[] = [];
    for (const name of ["anna", "ben", "cara"]) {
      talkers.push(await V1Client.join(server.ws, ROOM, name));
    }
    let isOver = false;
    const talking = talkers.map(async (talker, i) => {
      let ids: string[] = [];
      for (let n = 0; !isOver; n++) {
        const answer = await talker.ask({ type: "chat", content: `talker ${i}: ${n}` });
        assert(answer.type === "ack");
        ids.push(answer.id!);
        if (n % 5 !== 4) continue;
        await talker.ask({ type: "edit", id: ids[0]!, content: `changed ${n}` });
        await talker.ask({ type: "delete", id: ids[2]! });
        ids = [];
      }
    });

    const client = new CutClient(server.port);
    for (let cuts = 0; cuts < 100; cuts++) {
      await client.connect();
      // Cut before the answer, between the answer and the welcome, or some frames later.
      const depth = random.between(0, 6);
      if (depth > 0) await client.readAnswer();
      for (let i = 1; i < depth; i++) {
        await client.read();
        if (client.follower.welcome !== undefined && random.percent(40)) await client.say();
      }
      client.cut();
    }
    isOver = true;
    await Promise.all(talking);

    await client.connect();
    await client.readAnswer();
    while (client.follower.welcome === undefined) await client.read();
    while (client.follower.unanswered.size > 0) await client.read();
    const { seq: last } = await talkers[0]!.ask({ type: "chat", content: "the end" }) as {
      seq: number;
    };
    while (client.follower.seq < last) await client.read();
    client.cut();

    const { follower } = client;
    assertEquals([follower.seq, follower.restarts], [last, 1]);
    for (const talker of talkers) {
      const other = new Follower();
      let read = 0;
      while (other.seq < last) {
        if (read === talker.events.length) await talker.next();
        while (read < talker.events.length) other.take(talker.events[read++]!);
      }
      const later = [...other.messages].filter(([, { seq }]) => seq > follower.floor.seq);
      const own = [...follower.messages].filter(([, { seq }]) => seq > follower.floor.seq);
      const short = ([id, { seq, content }]: typeof own[number]) => [id, seq, content];
      assertEquals(own.map(short), later.map(short));
      const said = later.filter(([, { content }]) => content.startsWith("from the cut one"));
      assertEquals(said.length, client.said);
      await talker.close();
    }
    assert(follower.recoveries > 50, `${follower.recoveries} times it came back to a welcome.`);
  };

  for (const seed of seeds(1)) {
    it(`ends with exactly their events, in memory (SEED=${seed})`, async () => {
      await testWith("memory:", seed);
    });

    it(`ends with exactly their events, in SQLite (SEED=${seed})`, async () => {
      const dir = await Deno.makeTempDir();
      try {
        await testWith(`sqlite:${dir}/chat.db`, seed);
      } finally {
        await Deno.remove(dir, { recursive: true });
      }
    });
  }
});

const RECENT = { room: "r", username: "alice", timestamp: "2026-01-02T03:04:05.678Z" };

function recentChat(seq: number, content = `text ${seq}`): ChatEvent {
  return { type: "chat", content, ...RECENT, id: `e-${seq}`, seq };
}

function add(recent: RecentEvents, ...events: LogEvent[]): void {
  for (const event of events) recent.add(event, JSON.stringify(event));
}

function chats(from: number, to: number, content?: string): ChatEvent[] {
  return Array.from({ length: to - from + 1 }, (_, i) => recentChat(from + i, content));
}

/** The newest `count` events, or `undefined` if one of them is missing. */
const last = (recent: RecentEvents, count: number) => recent.after(recent.lastSeq - count, "e");

const seqs = (recent: RecentEvents, count: number) =>
  last(recent, count)?.map(({ event }) => (event as LogEvent).seq);

describe("RecentEvents", () => {
  it("has the newest events, at least the minimum and not many more", () => {
    const recent = new RecentEvents(10, 5, chats(1, 5));
    for (let seq = 6; seq <= 1000; seq++) {
      add(recent, recentChat(seq));
      const count = Math.min(seq, MAX);
      assertEquals(seqs(recent, count)?.at(0), seq - count + 1);
      assertEquals(seqs(recent, count)?.at(-1), seq);
      assertEquals(last(recent, MAX * 2), undefined);
    }
    assertEquals(last(recent, 0), []);
  });

  it("has fewer long events", () => {
    const recent = new RecentEvents(10);
    for (let seq = 1; seq <= 500; seq++) {
      add(recent, recentChat(seq, "x".repeat(4000)));
      const most = [...Array(MAX).keys()].findLast((count) => last(recent, count) !== undefined)!;
      assert(most >= Math.min(seq, 15) && most <= 21, `${most} of ${seq}`);
      assertEquals(seqs(recent, most)?.at(-1), seq);
    }
    add(recent, recentChat(501, "x".repeat(100_000)));
    assertEquals(last(recent, 1), undefined);
    add(recent, recentChat(502));
    assertEquals(seqs(recent, 1), [502]);
  });

  it("gives the newest messages to new members, as history", () => {
    const recent = new RecentEvents(3, 2, [], [recentChat(1), recentChat(2)]);
    const history = () => recent.history("e").map(({ event }) => event);
    const again = (seq: number) => ({ ...recentChat(seq), history: true }) as const;
    assertEquals(history(), [again(1), again(2)]);
    add(recent, recentChat(3), recentChat(4));
    assertEquals(history(), [again(2), again(3), again(4)]);
    assertEquals(new RecentEvents(0, 0, [], []).history("e"), []);
    const none = new RecentEvents(0);
    add(none, recentChat(1), recentChat(2));
    assertEquals(none.history("e"), []);
  });

  it("has messages in their current form", () => {
    const recent = new RecentEvents(10);
    // A text that looks like a message's id is a text.
    const quoted = recentChat(3, '"id":"e-1"');
    add(recent, recentChat(1), recentChat(2), quoted);
    const edit = { ...RECENT, type: "message_updated", content: "new", id: "e-1", seq: 4 } as const;
    add(recent, edit);
    const edited = { ...recentChat(1), content: "new", edited: true } as const;
    const events = () => last(recent, 4)?.map(({ event }) => event);
    assertEquals(events(), [edited, recentChat(2), quoted, edit]);
    assertEquals(recent.history("e").map(({ event }) => (event as ChatEvent).content), [
      "new",
      "text 2",
      '"id":"e-1"',
    ]);

    const wiped = { ...RECENT, type: "message_deleted", content: "", id: "e-1", seq: 5 } as const;
    add(recent, wiped);
    const deleted = { ...recentChat(1), content: "", deleted: true } as const;
    assertEquals(last(recent, 5)?.map(({ event }) => event), [
      deleted,
      recentChat(2),
      quoted,
      { ...edit, content: "" },
      wiped,
    ]);
    assertEquals(recent.history("e").map(({ event }) => (event as ChatEvent).id), ["e-2", "e-3"]);
    for (
      const { event, text } of last(recent, 5)!.map((one) => ({
        event: one.event,
        text: one.text("v1"),
      }))
    ) {
      assertEquals(JSON.parse(text!), event);
    }
  });
});
