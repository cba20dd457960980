import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { EMPTY_ROOM_MS, Hub, type HubLimits } from "../hub.ts";
import {
  type EngineEvent,
  type EngineListener,
  type EngineOptions,
  EVERYWHERE,
} from "../lib/engine/engine.ts";
import { MemoryEngine, MemoryStore } from "../lib/engine/memory.ts";
import { ChatError, storeUnavailable } from "../lib/errors.ts";
import type { Event } from "../lib/protocol/events.ts";
import type { Member } from "../lib/room/room.ts";
import { TYPING_MS } from "../lib/room/roster.ts";
import { account, createHub, FakePeer, guest } from "./support/fake_hub.ts";

describe("Hub.join", () => {
  it("sends everyone online_users, then user_joined, the joiner included", async () => {
    const { join, turn } = createHub();
    const alice = await join("alice");
    turn();
    assertEquals(alice.peer.read(), ["online_users: alice", "user_joined: alice joined the room"]);
    const bob = await join("bob");
    turn();
    const both = ["online_users: alice,bob", "user_joined: bob joined the room"];
    assertEquals(alice.peer.read(), both);
    assertEquals(bob.peer.read(), both);
  });

  it("sends the newest messages to the joiner only, after the notices", async () => {
    const { hub, join, turn } = createHub({ historySize: 2 });
    const alice = await join("alice");
    for (const text of ["one", "two", "three"]) hub.receive(alice.member, text);
    turn();
    alice.peer.read();
    const bob = await join("bob");
    turn();
    assertEquals(bob.peer.read(), [
      "online_users: alice,bob",
      "user_joined: bob joined the room",
      "chat again: two",
      "chat again: three",
    ]);
    assertEquals(alice.peer.read().length, 2);
  });

  it("delivers a message of the same turn once: before the join as history, after it live", async () => {
    const { hub, join, turn } = createHub();
    const alice = await join("alice");
    hub.receive(alice.member, "before");
    const bob = await join("bob");
    hub.receive(alice.member, "after");
    turn();
    assertEquals(bob.peer.read(), [
      "online_users: alice,bob",
      "user_joined: bob joined the room",
      "chat again: before",
      "chat: after",
    ]);
    assertEquals(alice.peer.read().slice(2), [
      "chat: before",
      "online_users: alice,bob",
      "user_joined: bob joined the room",
      "chat: after",
    ]);
  });

  it("refuses a name in use in this room, in any case, and only there", async () => {
    const { hub, join } = createHub();
    await join("alice");
    const error = await assertRejects(() => join("ALICE"), ChatError, "in use");
    assertEquals(error.code, "name_in_use");
    await hub.admit({ room: "other", username: "alice", identity: guest("1") });
    hub.join(new FakePeer(), { room: "other", username: "alice", identity: guest("1") });
  });

  it("refuses the second of two members admitted under one name", async () => {
    const { hub } = createHub();
    const request = { room: "r", username: "alice", identity: guest("1") };
    const other = { ...request, identity: guest("2") };
    await Promise.all([hub.admit(request), hub.admit(other)]);
    hub.join(new FakePeer(), request);
    assertThrows(() => hub.join(new FakePeer(), other), ChatError, "in use");
  });

  it("refuses a room above the maximum, until one is forgotten", async () => {
    const { hub, join, pass } = createHub({ maxRooms: 1 });
    const { member } = await join("alice", { room: "one" });
    const error = await assertRejects(() => join("bob", { room: "two" }), ChatError);
    assertEquals(error.code, "full");
    hub.leave(member);
    pass(EMPTY_ROOM_MS);
    hub.sweep();
    await join("bob", { room: "two" });
  });

  it("keeps no empty rooms beyond the maximum", async () => {
    const { hub, join } = createHub({ maxRooms: 2 });
    await join("alice", { room: "one" });
    for (const room of ["x", "y", "z"]) {
      await hub.admit({ room, username: "ghost", identity: guest("ghost") });
    }
    await join("bob", { room: "two" });
    await assertRejects(() => join("carol", { room: "three" }), ChatError, "Too many rooms");
  });

  it("refuses a late joiner whose room is forgotten", async () => {
    const { hub, pass } = createHub();
    const request = { room: "r", username: "alice", identity: guest("1") };
    await hub.admit(request);
    pass(EMPTY_ROOM_MS);
    hub.sweep();
    assertThrows(() => hub.join(new FakePeer(), request), ChatError, "too long");
  });

  it("keeps a room open for a while after its last leave", async () => {
    const { hub, join, pass } = createHub();
    const request = { room: "r", username: "bob", identity: guest("1") };
    const alice = await join("alice");
    pass(10 * EMPTY_ROOM_MS);
    hub.leave(alice.member);
    pass(EMPTY_ROOM_MS - 1);
    hub.sweep();
    const bob = hub.join(new FakePeer(), request);
    pass(EMPTY_ROOM_MS);
    hub.sweep();
    hub.leave(bob);
    pass(EMPTY_ROOM_MS);
    hub.sweep();
    assertThrows(() => hub.join(new FakePeer(), request), ChatError, "too long");
  });

  it("reads the messages of a forgotten room again", async () => {
    const { hub, join, turn, pass } = createHub();
    const alice = await join("alice");
    hub.receive(alice.member, "hello");
    turn();
    hub.leave(alice.member);
    pass(EMPTY_ROOM_MS);
    hub.sweep();
    const bob = await join("bob");
    turn();
    assertEquals(bob.peer.read().at(-1), "chat again: hello");
  });

  it("reports a room that cannot be loaded, and loads it again for the next member", async () => {
    const { engine, join, log } = createHub();
    const open = engine.open.bind(engine);
    engine.open = () => Promise.reject(new Error("disk"));
    const error = await assertRejects(() => join("alice"), ChatError, "cannot be loaded");
    assertEquals(error.code, "unavailable");
    assertEquals(log.filter((line) => line.includes("disk")).length, 1);
    engine.open = open;
    await join("alice");
  });

  it("misses and repeats no message sent while the room loads", async () => {
    const asked = Promise.withResolvers<void>();
    const read = Promise.withResolvers<void>();
    const { hub, engine, join, turn } = createHub();
    const open = engine.open.bind(engine);
    engine.open = async (room, wanted) => {
      const opened = await open(room, wanted);
      asked.resolve();
      await read.promise;
      return opened;
    };
    const say = (content: string) =>
      engine.log.append("r", { content, username: "bob", person: "p", origin: "elsewhere" });
    await say("1");
    const joining = join("alice");
    await say("2");
    await asked.promise;
    await say("3");
    read.resolve();
    const { peer } = await joining;
    await say("4");
    turn();
    assertEquals(peer.read().slice(2), [
      "chat again: 1",
      "chat again: 2",
      "chat again: 3",
      "chat: 4",
    ]);
    await hub.drain();
  });
});

describe("Hub.receive", () => {
  it("sends a message to everyone in the room, sender included, and to nobody else", async () => {
    const { hub, join, turn } = createHub();
    const [alice, bob] = [await join("alice"), await join("bob")];
    const carol = await join("carol", { room: "other" });
    turn();
    for (const { peer } of [alice, bob, carol]) peer.read();
    hub.receive(alice.member, "hello");
    turn();
    assertEquals(alice.peer.read(), ["chat: hello"]);
    assertEquals(bob.peer.read(), ["chat: hello"]);
    assertEquals(carol.peer.read(), []);
  });

  it("skips a sender with echo=0, for its own messages only", async () => {
    const { hub, join, turn } = createHub();
    const alice = await join("alice", { echo: false });
    const bob = await join("bob");
    turn();
    alice.peer.read();
    hub.receive(alice.member, "mine");
    hub.receive(bob.member, "yours");
    turn();
    assertEquals(alice.peer.read(), ["chat: yours"]);
  });

  it("gives each message a number, an id and a time", async () => {
    const { hub, join, turn, pass } = createHub();
    const { peer, member } = await join("alice");
    turn();
    peer.sent.length = 0;
    hub.receive(member, "one");
    pass(1500);
    hub.receive(member, "two");
    turn();
    const [one, two] = peer.sent.map((text) => JSON.parse(text));
    assertEquals([one.seq, two.seq], [1, 2]);
    assertEquals(two.timestamp, "1970-01-01T00:00:01.500Z");
    assert(one.id !== two.id);
  });

  it("relays only texts between members without a name, who do not show in the room", async () => {
    const { hub, join, turn } = createHub();
    const raw = await join(undefined, { format: "raw" });
    const alice = await join("alice");
    turn();
    assertEquals(alice.peer.read()[0], "online_users: alice");
    hub.receive(raw.member, "hi");
    hub.receive(alice.member, "hello");
    turn();
    assertEquals(raw.peer.sent, ["hi", "hello"]);
    assertEquals(JSON.parse(alice.peer.sent[0]!).username, "anonymous");
  });

  it("sends an error for a bad command to its sender, who stays", async () => {
    const { hub, join, turn } = createHub();
    const [alice, bob] = [await join("alice"), await join("bob")];
    turn();
    bob.peer.read();
    alice.peer.sent.length = 0;
    hub.receive(alice.member, '{"type":"fly","ref":"7"}');
    turn();
    const { type, code, ref, room, username } = JSON.parse(alice.peer.sent[0]!);
    assertEquals([type, code, ref, room, username], ["error", "bad_request", "7", "r", ""]);
    assertEquals(bob.peer.read(), []);
    assertEquals(alice.peer.closed, undefined);
  });

  it("refuses a message that is too big, closes, and delivers earlier messages", async () => {
    const { hub, join, turn } = createHub({ maxMessageBytes: 5 });
    const [alice, bob] = [await join("alice"), await join("bob")];
    turn();
    for (const { peer } of [alice, bob]) peer.read();
    hub.receive(alice.member, "short");
    hub.receive(alice.member, "longer");
    hub.receive(alice.member, "after");
    turn();
    assertEquals(alice.peer.read(), [
      "chat: short",
      "error: A message may have at most 5 bytes of text.",
    ]);
    assertEquals(alice.peer.closed, 1009);
    assertEquals(bob.peer.read(), [
      "chat: short",
      "user_left: alice left the room",
      "online_users: bob",
    ]);
  });

  it("tells only the sender that a message cannot be stored", async () => {
    const { hub, join, turn, pass, log } = createHub({}, {
      log: { append: () => Promise.reject(new Error("disk")) },
    });
    const [alice, bob] = [await join("alice"), await join("bob")];
    turn();
    for (const { peer } of [alice, bob]) peer.read();
    hub.receive(alice.member, "hello");
    pass(1000);
    await hub.drain();
    assertEquals(alice.peer.read(), [
      "error: The server cannot store or read anything now. Try again later.",
    ]);
    assertEquals(bob.peer.read(), []);
    assert(
      log.some((line) => line.includes("disk")) && !log.some((line) => line.includes("hello")),
    );
  });

  it("logs a failing store at most once a second, however many messages fail", async () => {
    const { hub, engine, join, turn, pass, settle, log } = createHub({}, {
      log: { append: () => Promise.reject(new Error("disk")) },
    });
    const { member } = await join("alice");
    turn();
    const fail = () => Promise.reject(new Error("disk"));
    Object.assign(engine.bus, { publish: fail, renew: fail });
    const readFailures = () => log.splice(0).map((line) => JSON.parse(line));
    readFailures();
    const say = async () => {
      for (let i = 0; i < 10; i++) hub.receive(member, "hello");
      hub.receive(member, '{"type":"typing","active":true}');
      hub.sweep();
      await settle();
    };
    await say();
    assertEquals(readFailures().map(({ level, error }) => [level, error]), [
      ["error", "Error: disk"],
    ]);
    pass(999);
    await say();
    assertEquals(readFailures(), []);
    pass(1);
    await say();
    const failures = readFailures();
    assertEquals(failures.length, 1);
    assert(failures[0].omitted >= 22, failures[0].omitted);
  });

  it("flushes once a turn, for all events in all rooms", async () => {
    const hub = createHub();
    for (const room of ["a", "b", "c"]) {
      const { member } = await hub.join("alice", { room });
      for (let i = 0; i < 10; i++) hub.hub.receive(member, "hi");
    }
    assertEquals(hub.waiting, 1);
    hub.turn();
    assertEquals(hub.waiting, 0);
  });
});

describe("Hub.leave", () => {
  it("sends the remaining members user_left and online_users, once", async () => {
    const { hub, join, turn } = createHub();
    const [alice, bob] = [await join("alice"), await join("bob")];
    turn();
    bob.peer.read();
    hub.leave(alice.member);
    hub.leave(alice.member);
    hub.dismiss(alice.member, { code: 4003, reason: "", reconnect: false });
    turn();
    assertEquals(bob.peer.read(), ["user_left: alice left the room", "online_users: bob"]);
  });

  it("ends the member's deliveries", async () => {
    const { hub, join, turn } = createHub();
    const [alice, bob] = [await join("alice"), await join("bob")];
    const raw = await join(undefined, { format: "raw" });
    turn();
    for (const { peer } of [alice, raw]) peer.sent.length = 0;
    hub.receive(bob.member, "before");
    for (const { member } of [alice, raw]) hub.leave(member);
    hub.receive(bob.member, "after");
    turn();
    assertEquals([alice.peer.sent, raw.peer.sent], [[], []]);
  });

  it("frees the name at once", async () => {
    const { hub, join } = createHub();
    hub.leave((await join("alice")).member);
    await join("Alice");
  });

  it("ends the member's right to send", async () => {
    const { hub, join, turn } = createHub();
    const [alice, bob] = [await join("alice"), await join("bob")];
    hub.leave(alice.member);
    turn();
    bob.peer.read();
    hub.receive(alice.member, "from beyond");
    turn();
    assertEquals(bob.peer.read(), []);
  });

  it("is exact when 100 leave in one turn", async () => {
    const { hub, join, turn } = createHub();
    const watcher = await join("watcher");
    const others = [];
    for (let i = 0; i < 99; i++) others.push((await join(`user-${i}`)).member);
    turn();
    watcher.peer.read();
    for (const member of others) hub.leave(member);
    turn();
    const frames = watcher.peer.read();
    const left = frames.filter((frame) => frame.startsWith("user_left"));
    assertEquals(new Set(left).size, 99);
    assertEquals(left.length, 99);
    assertEquals(frames.at(-1), "online_users: watcher");
  });
});

describe("A member that cannot keep up", () => {
  const setUp = async (limits: Partial<HubLimits>) => {
    const test = createHub(limits);
    const [slow, fast] = [await test.join("slow"), await test.join("fast")];
    test.turn();
    slow.peer.isStalled = true;
    fast.peer.read();
    return { ...test, slow, fast };
  };
  const say = (hub: Hub, member: Member, count: number, turn: () => void) => {
    for (let i = 0; i < count; i++) {
      hub.receive(member, `message ${i}`);
      turn();
    }
  };

  it("is evicted above the maximum frames in its queue, and its leave is announced", async () => {
    const { hub, slow, fast, turn } = await setUp({ sendQueueFrames: 3 });
    say(hub, fast.member, 3, turn);
    assertEquals(slow.peer.closed, undefined);
    say(hub, fast.member, 1, turn);
    turn();
    assertEquals(slow.peer.closed, 4008);
    assertEquals(fast.peer.read().slice(-2), [
      "user_left: slow left the room",
      "online_users: fast",
    ]);
  });

  it("is evicted above the maximum bytes in its queue", async () => {
    const { hub, slow, fast, turn } = await setUp({ sendQueueBytes: 500 });
    say(hub, fast.member, 10, turn);
    assertEquals(slow.peer.closed, 4008);
    assert(slow.peer.bufferedAmount < 800, `${slow.peer.bufferedAmount} bytes wait.`);
  });

  it("is evicted by the sweep when its queue does not drain for the write wait", async () => {
    const { hub, slow, fast, turn, pass } = await setUp({ writeWaitMs: 10_000 });
    say(hub, fast.member, 1, turn);
    pass(9_999);
    hub.sweep();
    assertEquals(slow.peer.closed, undefined);
    pass(1);
    hub.sweep();
    assertEquals(slow.peer.closed, 4008);
    turn();
    assertEquals(fast.peer.read().slice(-2), [
      "user_left: slow left the room",
      "online_users: fast",
    ]);
  });

  it("stays while its queue drains, however slowly", async () => {
    const { hub, slow, fast, turn, pass } = await setUp({ writeWaitMs: 10_000 });
    say(hub, fast.member, 20, turn);
    for (let i = 0; i < 19; i++) {
      pass(9_000);
      slow.peer.bufferedAmount -= 100;
      hub.sweep();
    }
    assertEquals(slow.peer.closed, undefined);
  });

  it("stays if one turn exceeds its queue and it reads everything", async () => {
    const { hub, slow, fast, turn } = await setUp({ sendQueueFrames: 3 });
    for (let i = 0; i < 100; i++) hub.receive(fast.member, "burst");
    turn();
    slow.peer.bufferedAmount = 0;
    say(hub, fast.member, 1, turn);
    hub.sweep();
    assertEquals(slow.peer.closed, undefined);
    assertEquals(slow.peer.read().filter((frame) => frame === "chat: burst").length, 100);
  });

  it("costs bounded memory, however much one turn brings", async () => {
    const { hub, slow, fast, turn } = await setUp({ sendQueueBytes: 1000 });
    say(hub, fast.member, 1, turn);
    for (let i = 0; i < 1000; i++) hub.receive(fast.member, "burst");
    turn();
    assertEquals(slow.peer.closed, 4008);
    assert(slow.peer.bufferedAmount < 1500, `${slow.peer.bufferedAmount} bytes wait.`);
    assertEquals(fast.peer.read().filter((frame) => frame === "chat: burst").length, 1000);
  });

  it("does not disturb the others when its connection throws", async () => {
    const { hub, slow, fast, turn } = await setUp({});
    slow.peer.send = () => {
      throw new DOMException("not open", "InvalidStateError");
    };
    say(hub, fast.member, 1, turn);
    assertEquals(fast.peer.read(), ["chat: message 0"]);
  });
});

describe("A large, busy room", () => {
  /** A room of this size, whose delivery takes this long, in milliseconds. */
  async function setUp(ms = 30, members = 60) {
    const lab = createHub();
    const people = [];
    for (let i = 0; i < members; i++) {
      people.push(await lab.join(`user ${i}`, { format: "v1" }));
      await lab.settle();
    }
    const [{ member, peer }] = people as [typeof people[0], ...typeof people];
    const say = (count: number) => {
      for (let i = 0; i < count; i++) lab.hub.receive(member, '{"type":"chat","content":"hi"}');
    };
    lab.pass(1000);
    await lab.settle();
    for (const { peer } of people) peer.sent.length = 0;
    /** Delivers, and advances the clock by the time it takes. */
    const deliver = () => {
      lab.turn();
      lab.pass(ms);
      lab.turn();
    };
    const count = () => peer.sent.splice(0).map((text) => [JSON.parse(text)].flat().length);
    /** Sends messages during a delivery, for the next one. */
    const talk = (events: number) => {
      say(1);
      lab.turn();
      say(events);
      lab.pass(ms);
      deliver();
    };
    return { ...lab, people, say, deliver, talk, count };
  }

  it("rests after a delivery for as long as that took, then delivers all in one frame", async () => {
    const { say, talk, turn, pass, count } = await setUp();
    talk(5);
    assertEquals(count(), [1, 5]);
    for (let i = 0; i < 10; i++) {
      say(2);
      turn();
      assertEquals(count(), []);
      pass(3);
    }
    assertEquals(count(), [20]);
  });

  it("is large from fifty members on", async () => {
    for (const members of [49, 50]) {
      const { say, talk, turn, count } = await setUp(30, members);
      talk(5);
      say(1);
      turn();
      assertEquals(count(), members < 50 ? [1, 5, 1] : [1, 5]);
    }
  });

  it("rests less with fewer messages, and never long, however long a delivery took", async () => {
    const { say, talk, turn, pass, count } = await setUp(1000);
    talk(2);
    say(1);
    pass(49);
    turn();
    assertEquals(count(), [1, 2]);
    pass(1);
    assertEquals(count(), [1]);
  });

  it("measures messages during a delivery, not during a rest", async () => {
    const { say, deliver, talk, turn, pass, count } = await setUp();
    talk(5);
    count();
    // Three in sixty milliseconds are fewer than two in thirty.
    say(2);
    pass(30);
    deliver();
    assertEquals(count(), [2]);
    say(1);
    turn();
    assertEquals(count(), [1]);
  });

  it("rests at most twice as long after one far longer delivery", async () => {
    const { say, talk, pass, turn, count } = await setUp(20);
    talk(5);
    say(20);
    pass(20);
    assertEquals(count(), [1, 5, 20]);
    pass(200);
    turn();
    say(1);
    pass(39);
    turn();
    assertEquals(count(), []);
    pass(1);
    assertEquals(count(), [1]);
  });

  it("receives deliveries in parts, one after the other, without loss", async () => {
    const { hub, people, say, talk, turn, pass } = await setUp(30, 500);
    talk(5);
    const [first, last] = [people[0]!, people.at(-1)!];
    /** The number of a member's newest message. */
    const newest = ({ peer }: typeof first) => JSON.parse(peer.sent.at(-1)!).at(-1).seq;
    const before = newest(last);
    say(2);
    pass(15);
    assertEquals([newest(first), newest(last)], [before + 2, before]);
    pass(15);
    turn();
    assertEquals(newest(last), before + 2);
    // An empty half leaves nothing behind.
    for (const { member } of people.slice(0, 250)) hub.leave(member);
    for (let i = 0; i < 20; i++) {
      hub.receive(last.member, '{"type":"chat","content":"hi"}');
      turn();
      pass(30);
    }
    turn();
    const numbers = last.peer.sent.flatMap((text) => [JSON.parse(text)].flat())
      .filter(({ type }) => type === "chat").map(({ seq }) => seq);
    assertEquals(numbers, numbers.map((_, index) => numbers[0] + index));
    assertEquals(numbers.at(-1), before + 22);
  });

  it("announces an eviction to all parts while it is being divided", async () => {
    const { hub, join, people, say, turn, pass } = await setUp(30, 400);
    const slow = people[10]!;
    slow.peer.isStalled = true;
    hub.receive(slow.member, '{"type":"typing","active":true}');
    turn();
    pass(10_000);
    for (const name of ["one", "another"]) people.push(await join(name, { format: "v1" }));
    say(1);
    for (let i = 0; i < 3; i++) turn();
    assertEquals(slow.peer.closed, 4008);
    for (const { peer } of people) {
      if (peer === slow.peer) continue;
      const { type, active } = [JSON.parse(peer.sent.at(-1)!)].flat().at(-1);
      assertEquals({ type, active }, { type: "typing", active: false });
    }
  });

  it("does not rest after one burst in a quiet room", async () => {
    const { say, deliver, turn, count } = await setUp();
    say(20);
    deliver();
    say(1);
    turn();
    assertEquals(count(), [20, 1]);
  });

  it("does not rest with one message at a time", async () => {
    const { say, deliver, count } = await setUp();
    for (let i = 0; i < 5; i++) {
      say(1);
      deliver();
      assertEquals(count(), [1]);
    }
  });

  it("does not rest when its frames are long", async () => {
    const { say, deliver, count } = await setUp();
    for (let i = 0; i < 3; i++) {
      say(150);
      deliver();
      assertEquals(count(), [150]);
    }
  });

  it("receives everything when the server stops", async () => {
    const { hub, say, talk, turn, pass, settle, count } = await setUp();
    talk(5);
    count();
    say(3);
    turn();
    assertEquals(count(), []);
    const drained = hub.drain();
    for (let i = 0; i < 40; i++) {
      pass(25);
      await settle();
    }
    await drained;
    assertEquals(count(), [3]);
  });
});

describe("Hub.drain", () => {
  it("delivers accepted messages, then closes everyone with 1012, and admits nobody", async () => {
    const { hub, join, turn, pass } = createHub();
    const [alice, bob] = [await join("alice"), await join("bob", { room: "other" })];
    turn();
    alice.peer.read();
    hub.receive(alice.member, "last words");
    pass(1000);
    await hub.drain();
    assertEquals(alice.peer.read(), ["chat: last words"]);
    assertEquals([alice.peer.closed, bob.peer.closed], [1012, 1012]);
    const error = await assertRejects(() => join("carol"), ChatError, "restarting");
    assertEquals(error.code, "unavailable");
  });

  it("waits for commands in flight, for a limited time", async () => {
    const { hub, join, turn, pass, settle } = createHub();
    const alice = await join("alice");
    turn();
    alice.peer.read();
    hub.receive(alice.member, "1");
    const drained = hub.drain();
    let count = 1;
    for (; alice.peer.closed === undefined; count++) {
      hub.receive(alice.member, `${count + 1}`);
      pass(25);
      await settle();
    }
    await drained;
    assert(count >= 20 && count < 30, `${count}`);
    assert(alice.peer.read().length >= 20);
  });
});

describe("A member that types and then stays silent", () => {
  it("counts as stopped after 5 seconds, at the next sweep", async () => {
    const { hub, join, turn, pass } = createHub();
    const alice = await join("alice", { format: "v1" });
    const bob = await join("bob", { format: "v1" });
    turn();
    const typing = () => {
      turn();
      return bob.peer.events().filter((event) => event.type === "typing")
        .map((event) => event.active);
    };
    const type = () => hub.receive(alice.member, '{"type":"typing","active":true}');
    type();
    assertEquals(typing(), [true]);
    pass(TYPING_MS - 1);
    type();
    pass(TYPING_MS - 1);
    hub.sweep();
    assertEquals(typing(), []);
    pass(1);
    hub.sweep();
    assertEquals(typing(), [false]);
    hub.sweep();
    assertEquals(typing(), []);
  });
});

describe("Two hubs on one store", () => {
  const setUp = async () => {
    let store: MemoryStore | undefined;
    const open = (options: EngineOptions) =>
      new MemoryEngine(options, store ??= new MemoryStore(options));
    const one = createHub({}, {}, { open });
    const two = createHub({}, {}, { open, firstId: 1_000_000 });
    const alice = await one.join("alice", { format: "v1" });
    const bob = await two.join("bob", { format: "v1" });
    for (const { turn } of [one, two]) turn();
    for (const { peer } of [alice, bob]) peer.events();
    return { one, two, alice, bob };
  };

  it("are one room: members of one see messages, changes and typing of the other, in one order", async () => {
    const { one, two, alice, bob } = await setUp();
    one.hub.receive(alice.member, '{"type":"typing","active":true}');
    one.hub.receive(alice.member, '{"type":"chat","content":"hello"}');
    two.hub.receive(bob.member, '{"type":"chat","content":"hi"}');
    two.hub.receive(bob.member, '{"type":"dm","to":"alice","content":"psst"}');
    one.hub.leave(alice.member);
    for (const { settle } of [one, two]) await settle();
    const inShort = bob.peer.events().map(({ type, content }) => `${type} ${content}`);
    assertEquals(inShort, [
      "typing ",
      "typing ",
      "chat hello",
      "chat hi",
      "user_left alice left the room",
      "online_users bob",
      "presence ",
    ]);
  });

  it("know each other's names", async () => {
    const { one } = await setUp();
    const error = await assertRejects(() => one.join("Bob"), ChatError);
    assertEquals(error.code, "name_in_use");
  });

  it("drop the members of a hub whose lease has expired", async () => {
    const { one, two, alice } = await setUp();
    // The store's clock is the first one's.
    for (let i = 0; i < 4; i++) {
      one.pass(10_000);
      one.hub.sweep();
    }
    one.turn();
    const left = alice.peer.events().filter(({ type }) => type === "user_left");
    assertEquals(left.map(({ username }) => username), ["bob"]);
    await two.settle();
  });
});

/** An engine whose events the test hands to the hub. */
function lateEngine(options: EngineOptions) {
  const engine = new MemoryEngine(options);
  const late: (() => void)[] = [];
  const open = engine.open.bind(engine);
  engine.open = async (room, wanted) => {
    const opened = await open(room, wanted);
    const listen = (subscriber: EngineListener) =>
      opened.listen((event) => late.push(() => subscriber(event)));
    return { ...opened, listen };
  };
  return {
    engine,
    handOver: (count = Infinity) => late.splice(0, count).forEach((one) => one()),
    drop: () => void late.splice(0),
  };
}

describe("A member on an engine far away", () => {
  const setUp = () => {
    let late!: ReturnType<typeof lateEngine>;
    const open = (options: EngineOptions) => (late = lateEngine(options)).engine;
    return { ...createHub({}, {}, { open }), handOver: (count?: number) => late.handOver(count) };
  };

  it("goes live when the room hears of its presence, without loss or repeat", async () => {
    const { engine, join, turn, handOver } = setUp();
    const say = (content: string) =>
      engine.log.append("r", { content, username: "bob", person: "p", origin: "elsewhere" });
    await say("1");
    const { peer } = await join("alice");
    await say("2");
    turn();
    assertEquals(peer.read(), []);
    // The presence is answered first.
    handOver(1);
    await say("3");
    turn();
    assertEquals(peer.read(), [
      "online_users: alice",
      "user_joined: alice joined the room",
      "chat again: 1",
    ]);
    handOver();
    turn();
    assertEquals(peer.read(), ["chat: 2", "chat: 3"]);
  });

  it("that leaves before never goes live", async () => {
    const { hub, join, turn, handOver } = setUp();
    const { peer, member } = await join("alice");
    hub.leave(member);
    handOver();
    turn();
    assertEquals(peer.read(), []);
  });

  it("that waits for one position does not go live at an earlier one", async () => {
    const { join, turn, handOver } = setUp();
    const alice = await join("alice");
    const bob = await join("bob");
    handOver(1);
    turn();
    assertEquals(alice.peer.read().length, 2);
    assertEquals(bob.peer.read(), []);
    handOver(1);
    turn();
    assertEquals(bob.peer.read(), ["online_users: alice,bob", "user_joined: bob joined the room"]);
  });
});

describe("A room that misses an event", () => {
  it("closes its members with 1011, so that they reconnect, and reads its log again", async () => {
    let late!: ReturnType<typeof lateEngine>;
    const open = (options: EngineOptions) => (late = lateEngine(options)).engine;
    const { engine, join, log, turn } = createHub({}, {}, { open });
    const say = (content: string) =>
      engine.log.append("r", { content, username: "bob", person: "p", origin: "" });
    const alice = await join("alice", { format: "v1" });
    late.handOver();
    await say("one");
    late.handOver();
    turn();
    await say("lost");
    late.drop();
    await say("two");
    late.handOver();
    turn();
    assertEquals(alice.peer.closed, 1011);
    const heard = alice.peer.events().filter(({ type }) => type === "chat");
    assertEquals(heard.map(({ content }) => content), ["one"]);
    assertEquals(log.filter((line) => line.includes("room missed events")).length, 1);
    const back = await join("alice", { format: "v1" });
    late.handOver();
    turn();
    const history = back.peer.events().filter(({ type }) => type === "chat");
    assertEquals(history.map(({ content }) => content), ["one", "lost", "two"]);
  });

  it("ignores an event that it already has", async () => {
    const { hub, engine, join, turn } = createHub();
    const { peer, member } = await join("alice");
    hub.receive(member, "one");
    turn();
    const [event] = await engine.log.events("r", 0, 1);
    await engine.bus.publish("r", { type: "logged", event: event!, origin: "" });
    turn();
    assertEquals(peer.read().slice(2), ["chat: one"]);
    assertEquals(peer.closed, undefined);
  });
});

describe("News of a remote engine", () => {
  const setUp = async () => {
    const { engine, join, turn, log, ...rest } = createHub();
    const alice = await join("alice", { format: "v1" });
    const bob = await join("bob");
    turn();
    alice.peer.events();
    bob.peer.read();
    const tell = (event: EngineEvent, room = "r") => engine.bus.publish(room, event);
    return { engine, join, turn, log, alice, bob, tell, ...rest };
  };

  it("a new epoch reaches chat.v1 members, and every later welcome", async () => {
    const { alice, bob, join, turn, tell } = await setUp();
    await tell({ type: "epoch", epoch: "another" });
    turn();
    const event = { type: "epoch", content: "", room: "r", username: "", epoch: "another" };
    assertEquals(alice.peer.events(), [event as Event]);
    assertEquals(bob.peer.read(), []);
    const carol = await join("carol", { format: "v1" });
    turn();
    const [welcome] = carol.peer.events();
    assert(welcome?.type === "welcome");
    assertEquals(welcome.epoch, "another");
  });

  it("a lost room closes its members with 1012, and is read again for the next", async () => {
    const { engine, alice, bob, join, turn, log, tell } = await setUp();
    await tell({ type: "lost" });
    assertEquals([alice.peer.closed, bob.peer.closed], [1012, 1012]);
    assertEquals(await engine.bus.present("r"), []);
    assertEquals(log.filter((line) => line.includes("room lost events")).length, 1);
    const back = await join("alice", { format: "v1" });
    turn();
    assertEquals(back.peer.events()[0]?.type, "welcome");
  });

  it("a lost presence closes its member with 4009, and nobody else", async () => {
    const { alice, bob, turn, tell } = await setUp();
    await tell({ type: "displaced", connection: alice.member.id });
    await tell({ type: "displaced", connection: "of another instance" });
    turn();
    assertEquals([alice.peer.closed, bob.peer.closed], [4009, undefined]);
    const [error] = alice.peer.events();
    assert(error?.type === "error");
    assertEquals(error.code, "name_in_use");
  });

  it("missed events close members with ended sessions, and guests with registered names", async () => {
    const { engine, bob, join, tell, settle } = await setUp();
    const { accounts } = engine;
    const join2 = (key: string) => join(key, { identity: account(key), room: "s" });
    const [signedIn, signedOut] = [await join2("dora"), await join2("emil")];
    await accounts.addToken({ hash: "token of dora", account: "dora", expiresAt: Infinity });
    const raw = await join(undefined, { format: "raw" });
    await settle();
    await tell({ type: "missed" }, EVERYWHERE);
    await settle();
    const closed = () => [signedIn, signedOut, bob, raw].map(({ peer }) => peer.closed);
    assertEquals(closed(), [undefined, 4001, undefined, undefined]);
    accounts.recheck = ({ keys }) => Promise.resolve({ tokens: [], keys: [keys.at(-1)!] });
    await tell({ type: "missed" }, EVERYWHERE);
    await settle();
    assertEquals(closed(), [undefined, 4001, 4001, undefined]);
  });

  it("a failed check of sessions runs again a second later", async () => {
    const { engine, join, tell, settle, pass } = await setUp();
    const dora = await join("dora", { identity: account("dora") });
    await settle();
    const { recheck } = engine.accounts;
    engine.accounts.recheck = () => Promise.reject(storeUnavailable());
    await tell({ type: "missed" }, EVERYWHERE);
    await settle();
    assertEquals(dora.peer.closed, undefined);
    engine.accounts.recheck = recheck;
    pass(1000);
    await settle();
    assertEquals(dora.peer.closed, 4001);
  });
});

describe("A reopened room", () => {
  it("has the changes of another instance: names, bans, messages and edits", async () => {
    let store: MemoryStore | undefined;
    const open = (options: EngineOptions) =>
      new MemoryEngine(options, store ??= new MemoryStore(options));
    const one = createHub({}, {}, { open });
    const two = createHub({}, {}, { open, firstId: 1_000_000 });
    two.hub.leave((await two.join("early")).member);
    two.pass(EMPTY_ROOM_MS);
    two.hub.sweep();

    const alice = await one.join("alice", { format: "v1" });
    one.hub.receive(alice.member, '{"type":"chat","content":"first"}');
    one.hub.receive(alice.member, '{"type":"chat","content":"second"}');
    const [, second] = await one.engine.log.events("r", 0, 10);
    const edit = { type: "edit", id: second!.id, content: "better" };
    one.hub.receive(alice.member, JSON.stringify(edit));
    const ban = { key: "mallory", person: "guest:m" };
    const settings = await one.engine.roomSettings.settings("r");
    await one.engine.roomSettings.setSettings("r", { ...settings, bans: [ban] });

    const taken = await assertRejects(() => two.join("Alice"), ChatError);
    assertEquals(taken.code, "name_in_use");
    const banned = await assertRejects(() => two.join("mallory"), ChatError);
    assertEquals(banned.code, "forbidden");
    const bob = await two.join("bob", { format: "v1" });
    two.turn();
    const events = bob.peer.events();
    const welcome = events[0]!;
    assert(welcome.type === "welcome");
    assertEquals([welcome.seq, welcome.online], [3, 2]);
    const chats = events.filter(({ type }) => type === "chat");
    assertEquals(chats.map(({ content }) => content), ["first", "better"]);
  });
});

describe("A crowd", () => {
  it("sends a member no notices of its own join, new or returning", async () => {
    const { join, turn } = createHub();
    const types = ({ peer }: { peer: FakePeer }) => peer.events().map(({ type }) => type);
    for (let i = 0; i < 99; i++) await join(`user ${i}`);
    const last = await join("user 99", { format: "v1" });
    turn();
    assertEquals(types(last), ["welcome", "online_users", "user_joined", "presence"]);
    const isProven = guest("back", true);
    const returning = await join("back", { format: "v1", identity: isProven });
    for (let i = 0; i < 5; i++) await null;
    const fresh = await join("new", { format: "v1" });
    turn();
    assertEquals(types(returning), ["welcome"]);
    assertEquals(types(fresh), ["welcome"]);
  });
});

describe("A member that catches up", () => {
  it("receives its errors after the welcome and the missed events, in order", async () => {
    const read = Promise.withResolvers<void>();
    const { hub, engine, join, settle } = createHub();
    const inboxSeq = engine.log.inboxSeq;
    engine.log.inboxSeq = async (room, person) => {
      await read.promise;
      return await inboxSeq(room, person);
    };
    const { peer, member } = await join("alice", { format: "v1", identity: guest("a", true) });
    hub.receive(member, '{"type":"fly","ref":"1"}');
    hub.receive(member, '{"type":"ping","ref":"2"}');
    await settle();
    assertEquals(peer.events(), []);
    read.resolve();
    await settle();
    const refs = peer.events().map((event) => "ref" in event ? event.ref : event.type);
    assertEquals(refs, ["welcome", "online_users", "user_joined", "presence", "1", "2"]);
  });
});

describe("An ack", () => {
  it("says duplicate for a repeat, and only then", async () => {
    const { hub, join, settle } = createHub();
    const { peer, member } = await join("alice", { format: "v1" });
    const say = async () => {
      hub.receive(member, '{"type":"chat","content":"hi","ref":"1"}');
      await settle();
      return peer.events().find(({ type }) => type === "ack");
    };
    const first = await say();
    assertEquals([first !== undefined, first && "duplicate" in first], [true, false]);
    const again = await say();
    assertEquals(again && "duplicate" in again && again.duplicate, true);
  });
});

describe("Hub.drain, on an engine that does not answer", () => {
  it("accepts no commands, and still closes everyone with 1012 after a second", async () => {
    const { hub, join, turn, pass, settle } = createHub({}, {
      log: { append: () => new Promise(() => {}) },
    });
    const { peer, member } = await join("alice", { format: "v1" });
    turn();
    peer.events();
    hub.receive(member, '{"type":"chat","content":"never stored"}');
    pass(1000);
    const drained = hub.drain();
    for (let i = 0; i < 4; i++) await settle();
    hub.receive(member, '{"type":"ping"}');
    await settle();
    assertEquals([peer.events(), peer.closed], [[], undefined]);
    pass(999);
    await settle();
    assertEquals(peer.closed, undefined);
    pass(1);
    await drained;
    assertEquals(peer.closed, 1012);
  });
});

describe("history", () => {
  it("has at least one message, and at most one frame of them", async () => {
    const { hub, join, turn, settle } = createHub({
      maxMessageBytes: 100_000,
      maxFrameBytes: 200_000,
    });
    const { peer, member } = await join("alice", { format: "v1" });
    const say = (content: string) => hub.receive(member, JSON.stringify({ type: "chat", content }));
    for (const length of [10, 20_000, 50_000]) say("x".repeat(length));
    turn();
    peer.events();
    const page = async (before: number) => {
      hub.receive(member, JSON.stringify({ type: "history", before }));
      await settle();
      const [page] = peer.events();
      assert(page?.type === "history");
      return [page.messages.map(({ seq }) => seq), page.more];
    };
    assertEquals(await page(4), [[3], true]);
    assertEquals(await page(3), [[1, 2], false]);
    for (const length of [16 * 1024, 16 * 1024, 1]) say("x".repeat(length));
    turn();
    peer.events();
    assertEquals(await page(6), [[4, 5], true]);
    assertEquals(await page(7), [[5, 6], true]);
  });
});

describe("A command refused at once", () => {
  it("gets an error with its ref, like one refused later", async () => {
    const { hub, join, settle } = createHub({}, {
      log: {
        append: () => {
          throw new ChatError("forbidden", "No.");
        },
      },
    });
    const { peer, member } = await join("alice", { format: "v1" });
    await settle();
    peer.events();
    hub.receive(member, '{"type":"chat","content":"hi","ref":"7"}');
    await settle();
    const [error] = peer.events();
    assert(error?.type === "error");
    assertEquals([error.code, error.ref], ["forbidden", "7"]);
  });
});

describe("Rooms opened at the same time", () => {
  it("never exceed the maximum", async () => {
    const { hub } = createHub({ maxRooms: 2 });
    const admit = (room: string) =>
      hub.admit({ room, username: "alice", identity: guest("1") }).then(
        () => room,
        ({ code }) => code,
      );
    const answers = await Promise.all(["a", "b", "c", "d"].map(admit));
    assertEquals(answers, ["a", "b", "full", "full"]);
  });
});

describe("A user who joins and leaves a large room between two announcements", () => {
  it("is announced to nobody", async () => {
    const { hub, join, turn, pass } = createHub();
    const first = await join("user 0", { format: "v1" });
    for (let i = 1; i < 100; i++) await join(`user ${i}`);
    turn();
    first.peer.events();
    hub.leave((await join("shy")).member);
    turn();
    pass(1000);
    turn();
    assertEquals(first.peer.events(), []);
  });
});

describe("Hub.admit", () => {
  it("opens no room while draining", async () => {
    const { hub, engine, pass } = createHub();
    let opened = 0;
    const open = engine.open.bind(engine);
    engine.open = (...asked) => {
      opened++;
      return open(...asked);
    };
    pass(1000);
    await hub.drain();
    const request = { room: "r", username: "alice", identity: guest("1") };
    await assertRejects(() => hub.admit(request), ChatError, "restarting");
    assertEquals(opened, 0);
  });
});

describe("A leave unknown to its room", () => {
  it("is announced to nobody", async () => {
    const { engine, join, turn } = createHub();
    const { peer } = await join("alice");
    turn();
    peer.read();
    const leave = (username: string) => {
      const presence = { username, person: "guest:x", connection: "unknown" };
      return engine.bus.publish("r", { type: "left", presence, position: 1000 });
    };
    await leave("alice");
    await leave("bob");
    turn();
    assertEquals(peer.read(), []);
  });
});
