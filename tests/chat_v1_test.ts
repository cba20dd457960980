/** The `chat.v1` protocol, over real sockets. */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { frameEvents } from "../lib/protocol/encode.ts";
import type { AckEvent, ErrorEvent, Event, HistoryEvent } from "../lib/protocol/events.ts";
import { Client, type Frame } from "./support/client.ts";
import { makeFolder } from "./support/folder.ts";
import { handshake, RawClient } from "./support/raw.ts";
import { startServer, type TestServer } from "./support/server.ts";
import { V1Client } from "./support/v1_client.ts";

let server: TestServer;
let rooms = 0;

beforeAll(async () => {
  server = await startServer();
});

afterAll(() => server.stop());

/** A room that no other test uses. */
const newRoom = () => `room-${++rooms}`;

/** Joins a room of the common server. */
const join = (room: string, username: string, options = {}) =>
  V1Client.join(server.ws, room, username, options);

/** The types and contents of events. */
const inShort = (events: Event[]) => events.map(({ type, content }) => `${type}: ${content}`);

describe("A chat.v1 handshake", () => {
  it("gets the subprotocol, however the list is spelled", async () => {
    for (const offer of ["chat.v1", "mqtt, chat.v1", "mqtt,chat.v1", " chat.v1 ,x"]) {
      using client = await RawClient.connect(server.port);
      const headers = { "Sec-WebSocket-Protocol": offer };
      await client.write(handshake(`/ws/${newRoom()}?username=alice`, { headers }));
      const { status, headers: answer } = await client.readAnswer();
      assertEquals([status, answer.get("sec-websocket-protocol")], [101, "chat.v1"], offer);
    }
  });

  it("is refused with 400 without a known subprotocol, and on routes without one", async () => {
    const offers: [path: string, offer: string][] = [
      ["/ws/r?username=alice", "chat.v2"],
      ["/ws/r?username=alice", "CHAT.V1"],
      ["/ws/r?username=alice", ""],
      ["/ws", "chat.v1"],
      ["/echo", "chat.v1"],
    ];
    for (const [path, offer] of offers) {
      using client = await RawClient.connect(server.port);
      const headers = { "Sec-WebSocket-Protocol": offer };
      await client.write(handshake(path, { headers }));
      assertEquals((await client.readAnswer()).status, 400, `${path} ${offer}`);
    }
  });

  it("is refused with a malformed session or place to resume", async () => {
    const queries = ["session=abc", "after=1", "epoch=x", "epoch=x&after=-1", "epoch=x&after=1e3"];
    for (const query of [...queries, "epoch=x&after=1&inbox=y"]) {
      using client = await RawClient.connect(server.port);
      const headers = { "Sec-WebSocket-Protocol": "chat.v1" };
      await client.write(handshake(`/ws/r?username=alice&${query}`, { headers }));
      const { status, body } = await client.readAnswer();
      assertEquals(status, 400, query);
      assertMatch(JSON.parse(body).error, /\.$/);
    }
  });
});

describe("welcome", () => {
  it("comes first, with the name, the room and the newest number", async () => {
    const room = newRoom();
    await using alice = await join(room, "alice");
    const { session, epoch, ...rest } = alice.welcome;
    assertMatch(session, /^[\w-]{43}$/);
    assert(epoch.length > 0);
    assertEquals(rest, {
      type: "welcome",
      content: "",
      room,
      username: "alice",
      role: "member",
      private: false,
      seq: 0,
      inbox_seq: 0,
      recovered: false,
      users: [{ username: "alice", connections: 1 }],
      online: 1,
      typing: [],
      limits: { max_message_bytes: 4096, max_frame_bytes: 32768 },
    });
  });

  it("precedes the notices of the own join, then the last 50 messages", async () => {
    const room = newRoom();
    await using alice = await join(room, "alice");
    for (let i = 1; i <= 60; i++) alice.send({ type: "chat", content: `message ${i}` });
    await alice.nextOf("chat", ({ seq }) => seq === 60);
    await using bob = await join(room, "bob");
    await bob.nextOf("chat", ({ seq }) => seq === 60);
    assertEquals(bob.welcome.seq, 60);
    assertEquals(inShort(bob.events), [
      "welcome: ",
      "online_users: alice,bob",
      "user_joined: bob joined the room",
      "presence: ",
      ...Array.from({ length: 50 }, (_, i) => `chat: message ${i + 11}`),
    ]);
    assert(bob.all("chat").every(({ history }) => history));
  });
});

describe("A chat command", () => {
  it("is acked with its ref once stored, in the same frame as the message", async () => {
    await using alice = await join(newRoom(), "alice");
    await alice.nextOf("presence");
    alice.frames = 0;
    alice.send({ type: "chat", content: "hello", ref: "r1" });
    const chat = await alice.nextOf("chat");
    const ack = await alice.nextOf("ack");
    assertEquals(alice.frames, 1);
    assertEquals([chat.content, chat.username, chat.seq], ["hello", "alice", 1]);
    assertEquals(ack, {
      type: "ack",
      content: "",
      room: chat.room,
      username: "",
      ref: "r1",
      id: chat.id,
      seq: 1,
      timestamp: chat.timestamp,
    });
  });

  it("without a ref is not acked", async () => {
    await using alice = await join(newRoom(), "alice");
    alice.send({ type: "chat", content: "hello" });
    await alice.ask({ type: "ping" });
    assertEquals(alice.all("ack"), []);
  });

  it("with a used ref is acked again with the first number, and delivered to nobody", async () => {
    const room = newRoom();
    await using bob = await join(room, "bob");
    const alice = await join(room, "alice");
    alice.send({ type: "chat", content: "hello", ref: "r1" });
    const first = await alice.nextOf("ack");
    const { session } = alice.welcome;
    await alice.close();
    await using again = await V1Client.connect(
      `${server.ws}/ws/${room}?username=Liddell&session=${session}`,
    );
    again.send({ type: "chat", content: "hello", ref: "r1" });
    const second = await again.nextOf("ack");
    assertEquals(second, { ...first, duplicate: true });
    await bob.ask({ type: "ping" });
    assertEquals(bob.all("chat").map(({ ref }) => ref), ["r1"]);
  });

  it("with a ref used for another text is refused, but not with another person's ref", async () => {
    const room = newRoom();
    await using alice = await join(room, "alice");
    alice.send({ type: "chat", content: "hello", ref: "r1" });
    alice.send({ type: "chat", content: "good-bye", ref: "r1" });
    const error = await alice.nextOf("error");
    assertEquals([error.code, error.ref], ["conflict", "r1"]);
    await alice.close();
    // The next holder of the name is another person.
    await using stranger = await join(room, "alice");
    stranger.send({ type: "chat", content: "good-bye", ref: "r1" });
    const ack = await stranger.nextOf("ack");
    assertEquals([ack.seq, ack.duplicate], [2, undefined]);
  });

  it("in a burst reaches everyone in few frames, in order", async () => {
    const room = newRoom();
    await using bob = await join(room, "bob");
    await using alice = await join(room, "alice");
    await bob.nextOf("presence", ({ online }) => online === 2);
    bob.frames = 0;
    for (let i = 0; i < 200; i++) alice.send({ type: "chat", content: `${i}` });
    await bob.nextOf("chat", ({ seq }) => seq === 200);
    assertEquals(bob.all("chat").map(({ content }) => Number(content)), [...Array(200).keys()]);
    assert(bob.frames < 200, `${bob.frames} frames`);
  });
});

describe("Frames", () => {
  it("hold one event as an object, several as an array, and at most 64 KiB in an array", () => {
    assertEquals(frameEvents(["{}"]), ["{}"]);
    assertEquals(frameEvents([]), []);
    assertEquals(frameEvents(['"a"', '"b"']), ['["a","b"]']);
    const texts = Array.from({ length: 50 }, (_, i) => JSON.stringify("é".repeat(1500) + i));
    const frames = frameEvents(texts);
    assert(frames.length > 1);
    for (const frame of frames) assert(new TextEncoder().encode(frame).length <= 65536);
    assertEquals(
      frames.flatMap((frame) => JSON.parse(frame)),
      texts.map((text) => JSON.parse(text)),
    );
    const [half, rest] = [JSON.stringify("x".repeat(32_764)), JSON.stringify("x".repeat(32_764))];
    assertEquals(frameEvents([half, rest]).map(({ length }) => length), [65_535]);
    assertEquals(frameEvents([half, `${rest} `]), [half, `${rest} `]);
    const long = JSON.stringify("x".repeat(70_000));
    assertEquals(frameEvents(["1", long, "2", "3"]), ["1", long, "[2,3]"]);
  });

  it("that are not a command object get an error, and the socket stays open", async () => {
    await using alice = await join(newRoom(), "alice");
    const bad = ["hello", "{", "[]", "7", '{"content":"x"}', '{"type":7}', '{"type":"fly"}', ""];
    for (const frame of bad) {
      alice.socket.send(frame);
      assertEquals((await alice.nextOf("error")).code, "bad_request", frame);
    }
    assertEquals((await alice.ask({ type: "ping" })).type, "pong");
  });

  it("that are binary close with 1003", async () => {
    const alice = await join(newRoom(), "alice");
    alice.socket.send(new Uint8Array([1]));
    await assertRejects(() => alice.nextOf("pong"), Error);
    assertEquals((await alice.closed).code, 1003);
  });

  it("that are too big get an error, then close with 1009", async () => {
    const alice = await join(newRoom(), "alice");
    const error = await alice.ask({ type: "chat", content: "x".repeat(4097) }) as ErrorEvent;
    assertEquals(error.code, "too_big");
    await assertRejects(() => alice.nextOf("pong"), Error);
    assertEquals((await alice.closed).code, 1009);
  });
});

describe("edit and delete", () => {
  it("change a message for everyone, also later members, with a number of their own", async () => {
    const room = newRoom();
    await using bob = await join(room, "bob");
    await using alice = await join(room, "alice");
    const { id } = await alice.ask({ type: "chat", content: "helo" }) as AckEvent;
    const other = await alice.ask({ type: "chat", content: "other" }) as AckEvent;
    const edited = await alice.ask({ type: "edit", id, content: "hello" }) as AckEvent;
    assertEquals([edited.type, edited.id, edited.seq], ["ack", id, 3]);
    const update = await bob.nextOf("message_updated");
    assertEquals([update.id, update.content, update.username, update.seq], [
      id,
      "hello",
      "alice",
      3,
    ]);
    const deleted = await alice.ask({ type: "delete", id: other.id }) as AckEvent;
    assertEquals(deleted.seq, 4);
    assertEquals((await bob.nextOf("message_deleted")).id, other.id);
    await using carol = await join(room, "carol");
    await carol.ask({ type: "ping" });
    const [message, ...more] = carol.all("chat");
    assertEquals([message!.content, message!.edited, message!.seq], ["hello", true, 1]);
    assertEquals(more, []);
  });

  it("are refused to other people, and for deleted or unknown messages", async () => {
    const room = newRoom();
    await using bob = await join(room, "bob");
    await using alice = await join(room, "alice");
    const { id } = await alice.ask({ type: "chat", content: "mine" }) as AckEvent;
    const code = async (client: V1Client, command: { type: string; id: string | undefined }) =>
      (await client.ask({ content: "x", ...command }) as ErrorEvent).code;
    assertEquals(await code(bob, { type: "edit", id }), "forbidden");
    assertEquals(await code(bob, { type: "delete", id }), "forbidden");
    assertEquals(await code(alice, { type: "edit", id: "nothing" }), "not_found");
    await alice.ask({ type: "delete", id });
    assertEquals(await code(alice, { type: "edit", id }), "not_found");
    assertEquals(await code(alice, { type: "delete", id }), "not_found");
  });

  it("are refused to another guest who took the name later", async () => {
    const room = newRoom();
    await using _bob = await join(room, "bob");
    const alice = await join(room, "alice");
    const { id } = await alice.ask({ type: "chat", content: "mine" }) as AckEvent;
    await alice.close();
    await _bob.nextOf("user_left");
    await using other = await join(room, "alice");
    assertEquals((await other.ask({ type: "delete", id }) as ErrorEvent).code, "forbidden");
    await other.close();
    await _bob.nextOf("user_left");
    await using same = await join(room, "alice", { session: alice.welcome.session });
    assertEquals((await same.ask({ type: "delete", id })).type, "ack");
  });
});

describe("dm", () => {
  it("reaches every connection of the two people and nobody else; the sender also gets the ack", async () => {
    const room = newRoom();
    await using carol = await join(room, "carol");
    await using alice = await join(room, "alice");
    await using alice2 = await join(room, "alice", { session: alice.welcome.session });
    await using bob = await join(room, "bob");
    await using bob2 = await join(room, "bob", { session: bob.welcome.session });
    const ack = await alice.ask({ type: "dm", to: "Bob", content: "psst" }) as AckEvent;
    assertEquals([ack.type, ack.inbox_seq, ack.seq], ["ack", 1, undefined]);
    for (const client of [bob, bob2, alice2]) {
      const { content, username, to, id, inbox_seq } = await client.nextOf("dm");
      assertEquals([content, username, to, id, inbox_seq], ["psst", "alice", "bob", ack.id, 1]);
    }
    const answer = await bob.ask({ type: "dm", to: "alice", content: "what?" }) as AckEvent;
    assertEquals(answer.inbox_seq, 2);
    assertEquals((await alice.nextOf("dm")).content, "what?");
    for (const client of [alice, carol]) await client.ask({ type: "ping" });
    assertEquals(alice.all("dm").length, 1);
    assertEquals(carol.all("dm"), []);
    assertEquals(carol.all("chat"), []);
  });

  it("with a used ref is acked again and delivered to nobody", async () => {
    const room = newRoom();
    await using alice = await join(room, "alice");
    await using bob = await join(room, "bob");
    alice.send({ type: "dm", to: "bob", content: "psst", ref: "r1" });
    const first = await alice.nextOf("ack");
    alice.send({ type: "dm", to: "bob", content: "psst", ref: "r1" });
    assertEquals(await alice.nextOf("ack"), { ...first, duplicate: true });
    await bob.ask({ type: "ping" });
    assertEquals(bob.all("dm").length, 1);
  });

  it("to an unknown person, or to oneself, is an error", async () => {
    await using alice = await join(newRoom(), "alice");
    const nobody = await alice.ask({ type: "dm", to: "bob", content: "x" }) as ErrorEvent;
    assertEquals([nobody.code, nobody.content], [
      "not_found",
      "Nobody with this name is in the room.",
    ]);
    const self = await alice.ask({ type: "dm", to: "alice", content: "x" }) as ErrorEvent;
    assertEquals(self.code, "bad_request");
  });

  it("is resumed by both people, and by nobody else who takes a name", async () => {
    const room = newRoom();
    await using alice = await join(room, "alice");
    const bob = await join(room, "bob");
    await alice.ask({ type: "dm", to: "bob", content: "one" });
    await bob.nextOf("dm");
    await alice.ask({ type: "dm", to: "bob", content: "two" });
    const { session, epoch, seq: after } = bob.welcome;
    await bob.close();
    await alice.nextOf("user_left");
    const thief = await join(room, "bob", { epoch, after, inbox: 0 });
    await thief.ask({ type: "ping" });
    assertEquals(thief.all("dm"), []);
    await thief.close();
    await alice.nextOf("user_left");
    await using again = await join(room, "bob", { session, epoch, after, inbox: 1 });
    assertEquals([again.welcome.recovered, again.welcome.inbox_seq], [true, 2]);
    await again.ask({ type: "ping" });
    assertEquals(again.all("dm").map(({ content, inbox_seq }) => [content, inbox_seq]), [[
      "two",
      2,
    ]]);
  });

  it("reaches plain clients too", async () => {
    const room = newRoom();
    await using json = await Client.join(server.ws, room, "json");
    await using text = await Client.connect(`${server.ws}/ws/${room}?username=text&format=text`);
    await using alice = await join(room, "alice");
    await alice.ask({ type: "dm", to: "json", content: "psst" });
    await alice.ask({ type: "dm", to: "text", content: "psst" });
    const frame = await json.nextFrame(({ type }) => type === "dm");
    assertEquals([frame.content, frame.username, frame.room], ["psst", "alice", room]);
    let line = "";
    while (!line.includes("psst")) line = await text.nextText();
    assertEquals(line, "alice (to text): psst");
  });
});

describe("history", () => {
  it("pages back and forth through the kept messages", async () => {
    const room = newRoom();
    await using alice = await join(room, "alice");
    for (let i = 1; i <= 30; i++) alice.send({ type: "chat", content: `${i}` });
    await alice.nextOf("chat", ({ seq }) => seq === 30);
    const page = async (range: object) => {
      const { messages, more, epoch } = await alice.ask({
        type: "history",
        ...range,
      }) as HistoryEvent;
      assertEquals(epoch, alice.welcome.epoch);
      return { seqs: messages.map(({ seq }) => seq), more };
    };
    assertEquals(await page({ limit: 3 }), { seqs: [28, 29, 30], more: true });
    assertEquals(await page({ before: 28, limit: 3 }), { seqs: [25, 26, 27], more: true });
    assertEquals(await page({ before: 4, limit: 3 }), { seqs: [1, 2, 3], more: false });
    assertEquals(await page({ before: 1, limit: 3 }), { seqs: [], more: false });
    assertEquals(await page({ after: 0, limit: 2 }), { seqs: [1, 2], more: true });
    assertEquals(await page({ after: 28 }), { seqs: [29, 30], more: false });
    assertEquals(await page({ after: 99 }), { seqs: [], more: false });
    assertEquals((await page({})).seqs.length, 30);
  });

  it("limits a page of long messages to one frame", async () => {
    await using alice = await join(newRoom(), "alice");
    for (let i = 1; i <= 30; i++) alice.send({ type: "chat", content: "x".repeat(4000) });
    await alice.nextOf("chat", ({ seq }) => seq === 30);
    const { messages, more } = await alice.ask({ type: "history", limit: 30 }) as HistoryEvent;
    assertEquals([messages.at(-1)!.seq, more], [30, true]);
    assert(JSON.stringify(messages).length < 65536);
  });

  it("refuses a contradictory range", async () => {
    await using alice = await join(newRoom(), "alice");
    const bad = [{ before: 1, after: 1 }, { before: 0 }, { after: -1 }, { after: 1.5 }, {
      limit: 0,
    }];
    for (const range of [...bad, { limit: 101 }, { before: "1" }]) {
      assertEquals((await alice.ask({ type: "history", ...range })).type, "error");
    }
  });
});

describe("typing", () => {
  it("reaches chat.v1 members only, once until it ends, and ends with a message", async () => {
    const room = newRoom();
    await using plain = await Client.join(server.ws, room, "plain");
    await using bob = await join(room, "bob");
    await using alice = await join(room, "alice");
    alice.send({ type: "typing", active: true });
    alice.send({ type: "typing", active: true });
    alice.send({ type: "chat", content: "done" });
    const first = await bob.nextOf("typing");
    assertEquals([first.username, first.active], ["alice", true]);
    assertEquals((await bob.nextOf("typing")).active, false);
    await bob.nextOf("chat");
    assertEquals(bob.all("typing").length, 2);
    await plain.nextFrame(({ type }) => type === "chat");
    assert(plain.frames.every(({ type }) => type !== "typing"));
    alice.send({ type: "typing", active: "yes" });
    assertEquals((await alice.nextOf("error")).content, "active must be true or false.");
  });

  it("ends when the member leaves", async () => {
    const room = newRoom();
    await using bob = await join(room, "bob");
    const alice = await join(room, "alice");
    alice.send({ type: "typing", active: true });
    await bob.nextOf("typing");
    await alice.close();
    assertEquals((await bob.nextOf("typing")).active, false);
    await bob.nextOf("user_left");
  });
});

describe("ping", () => {
  it("is answered with pong and its ref", async () => {
    await using alice = await join(newRoom(), "alice");
    const { type } = await alice.ask({ type: "ping" });
    assertEquals(type, "pong");
  });
});

describe("Two connections of one person", () => {
  it("are one user, who joins with the first and leaves with the last", async () => {
    const room = newRoom();
    await using bob = await join(room, "bob");
    const one = await join(room, "alice");
    const two = await join(room, "alice", { session: one.welcome.session });
    assertEquals(two.welcome.users, [
      { username: "bob", connections: 1 },
      { username: "alice", connections: 2 },
    ]);
    await one.close();
    two.send({ type: "chat", content: "still here" });
    await bob.nextOf("chat");
    await two.close();
    await bob.nextOf("user_left");
    assertEquals(bob.all("user_joined").length, 2);
    assertEquals(bob.all("presence").map(({ online }) => online), [1, 2, 1]);
  });

  it("need the secret of the first", async () => {
    const room = newRoom();
    await using _alice = await join(room, "alice");
    await using stranger = await join(newRoom(), "alice");
    await assertRejects(() => join(room, "alice"), Error);
    const { session } = stranger.welcome;
    await assertRejects(() => join(room, "alice", { session }), Error);
  });
});

describe("Plain clients in the same room", () => {
  it("get the tutorial's events, and are seen by chat.v1 members", async () => {
    const room = newRoom();
    await using plain = await Client.join(server.ws, room, "plain");
    await using alice = await join(room, "alice");
    plain.send("from plain");
    assertEquals((await alice.nextOf("chat")).content, "from plain");
    const { id } = await alice.ask({ type: "chat", content: "from v1" }) as AckEvent;
    await alice.ask({ type: "edit", id, content: "changed" });
    await alice.ask({ type: "dm", to: "plain", content: "end" });
    await plain.nextFrame(({ type }) => type === "dm");
    const types = plain.frames.map(({ type, content }) => `${type}: ${content}`);
    assertEquals(types, [
      "online_users: plain",
      "user_joined: plain joined the room",
      "online_users: plain,alice",
      "user_joined: alice joined the room",
      "chat: from plain",
      "chat: from v1",
      "dm: end",
    ]);
  });

  it("may send commands and get answers", async () => {
    const room = newRoom();
    await using plain = await Client.join(server.ws, room, "plain");
    plain.send('{"type":"chat","content":"hello","ref":"1"}');
    assertEquals((await plain.nextFrame()).type, "chat");
    assertEquals((await plain.nextFrame()).ref, "1");
    plain.send('{"type":"history","limit":1}');
    assertEquals((await plain.nextFrame()).type, "history");
  });
});

describe("Resume", () => {
  /** Ada left after `seen` of `total` messages. */
  const setUp = async (total: number) => {
    const room = newRoom();
    const alice = await join(room, "alice");
    const bob = await join(room, "bob");
    const { session, epoch } = bob.welcome;
    await bob.close();
    await alice.nextOf("user_left");
    for (let i = 1; i <= total; i++) alice.send({ type: "chat", content: `${i}` });
    if (total > 0) await alice.nextOf("chat", ({ seq }) => seq === total);
    return { room, alice, session, epoch };
  };

  for (const total of [0, 1, 100, 1000]) {
    it(`delivers ${total} missed messages once and in order, then live ones`, async () => {
      const { room, alice, session, epoch } = await setUp(total);
      const bob = await join(room, "bob", { session, epoch, after: 0 });
      assertEquals(bob.welcome.recovered, true);
      alice.send({ type: "chat", content: `${total + 1}` });
      await bob.nextOf("chat", ({ seq }) => seq === total + 1);
      const seqs = bob.all("chat").map(({ seq }) => seq);
      assertEquals(seqs, Array.from({ length: total + 1 }, (_, i) => i + 1));
      assert(bob.all("chat").every(({ history }) => history === undefined));
      await bob.close();
      await alice.close();
    });
  }

  it("delivers missed edits and deletions", async () => {
    const { room, alice, session, epoch } = await setUp(0);
    const one = await alice.ask({ type: "chat", content: "one" }) as AckEvent;
    const two = await alice.ask({ type: "chat", content: "two" }) as AckEvent;
    await alice.ask({ type: "edit", id: one.id, content: "uno" });
    await alice.ask({ type: "delete", id: two.id });
    for (const after of [0, 2]) {
      const bob = await join(room, "bob", { session, epoch, after });
      await bob.ask({ type: "ping" });
      const missed = bob.events.filter((event) => "seq" in event && event.type !== "welcome");
      assertEquals(
        missed.map((event) => (event as { seq: number }).seq),
        [1, 2, 3, 4].slice(after),
      );
      assertEquals(inShort(missed).slice(-2), ["message_updated: uno", "message_deleted: "]);
      await bob.close();
      await alice.nextOf("user_left");
    }
    await alice.close();
  });

  const WRONG: [why: string, resume: (epoch: string) => { epoch: string; after: number }][] = [
    ["a foreign epoch", () => ({ epoch: "elsewhere", after: 1 })],
    ["a seq from the future", (epoch) => ({ epoch, after: 6 })],
  ];
  for (const [why, resume] of WRONG) {
    it(`with ${why}: recovered is false, and the newest messages follow`, async () => {
      const { room, alice, session, epoch } = await setUp(5);
      const bob = await join(room, "bob", { session, ...resume(epoch) });
      assertEquals(bob.welcome.recovered, false);
      await bob.nextOf("chat", ({ seq, history }) => seq === 5 && history === true);
      assertEquals(bob.all("chat").length, 5);
      await bob.close();
      await alice.close();
    });
  }

  it("with a seq older than the kept log: recovered is false", async () => {
    await using small = await startServer({ HISTORY_KEEP: "100" });
    await using alice = await V1Client.join(small.ws, "r", "alice");
    for (let i = 1; i <= 300; i++) alice.send({ type: "chat", content: `${i}` });
    await alice.nextOf("chat", ({ seq }) => seq === 300);
    const { epoch } = alice.welcome;
    await using bob = await V1Client.join(small.ws, "r", "bob", { epoch, after: 150 });
    assertEquals(bob.welcome.recovered, false);
    await bob.nextOf("chat", ({ seq }) => seq === 300);
    assertEquals(
      bob.all("chat").map(({ seq }) => seq),
      Array.from({ length: 50 }, (_, i) => i + 251),
    );
    await using carol = await V1Client.join(small.ws, "r", "carol", { epoch, after: 210 });
    assertEquals(carol.welcome.recovered, true);
  });

  it("needs no session for the room's messages", async () => {
    const { room, alice, epoch } = await setUp(3);
    await using carol = await join(room, "carol", { epoch, after: 1 });
    await carol.ask({ type: "ping" });
    assertEquals(carol.all("chat").map(({ seq }) => seq), [2, 3]);
    await alice.close();
  });
});

describe("A reply", () => {
  it("carries the id of the answered message: live, in history, on resume and to plain clients", async () => {
    await using folder = await makeFolder();
    const env = { DATABASE_URL: `sqlite:${folder.path}/chat.db` };
    const room = newRoom();
    const isAnswer = ({ type, content }: Frame) => type === "chat" && content === "answer";
    let ids: [message: string, reply: string];
    const check = async (ws: string) => {
      await using returning = await V1Client.join(ws, room, "carol", { epoch: "x", after: 0 });
      const resumed = await returning.nextOf("chat", ({ content }) => content === "answer");
      assertEquals([resumed.reply_to, resumed.history], [ids[0], undefined]);
      const page = await returning.ask({ type: "history", limit: 1 }) as HistoryEvent;
      assertEquals(page.messages[0]!.reply_to, ids[0]);
      await using newcomer = await V1Client.join(ws, room, "dave");
      const old = await newcomer.nextOf("chat", ({ content }) => content === "answer");
      assertEquals([old.reply_to, old.history], [ids[0], true]);
      const plain = await Client.connect(`${ws}/ws/${room}?username=erin`);
      assertEquals((await plain.nextFrame(isAnswer)).reply_to, ids[0]);
      await plain.close();
    };
    {
      await using first = await startServer(env);
      await using alice = await V1Client.join(first.ws, room, "alice");
      const plain = await Client.connect(`${first.ws}/ws/${room}?username=bob`);
      const asked = await alice.ask({ type: "chat", content: "question" }) as AckEvent;
      plain.send(JSON.stringify({ type: "chat", content: "answer", reply_to: asked.id }));
      const reply = await alice.nextOf("chat", ({ content }) => content === "answer");
      assertEquals(reply.reply_to, asked.id);
      assertEquals((await plain.nextFrame(isAnswer)).reply_to, asked.id);
      ids = [asked.id!, reply.id];
      await check(first.ws);
      await plain.close();
    }
    await using second = await startServer(env);
    await check(second.ws);
  });

  it("is refused with a sentence if the room does not have the answered message", async () => {
    await using alice = await join(newRoom(), "alice");
    await using elsewhere = await join(newRoom(), "alice");
    const { id } = await elsewhere.ask({ type: "chat", content: "elsewhere" }) as AckEvent;
    for (const reply_to of [id, "no-such-1"]) {
      const error = await alice.ask({ type: "chat", content: "answer", reply_to }) as ErrorEvent;
      assertEquals([error.code, error.content], [
        "not_found",
        "This room does not have the message that you answer. Send yours without reply_to.",
      ]);
    }
    for (const reply_to of ["", 1, "x".repeat(65), "a\nb", {}]) {
      const error = await alice.ask({ type: "chat", content: "answer", reply_to }) as ErrorEvent;
      assertEquals(error.code, "bad_request", String(reply_to));
    }
    const ack = await alice.ask({ type: "chat", content: "no answer", reply_to: null }) as AckEvent;
    assertEquals(ack.seq, 1);
  });

  it("loses its reply_to when it is deleted, also on resume", async () => {
    const room = newRoom();
    await using alice = await join(room, "alice");
    const { id } = await alice.ask({ type: "chat", content: "question" }) as AckEvent;
    const reply = { type: "chat", content: "answer", reply_to: id };
    const { id: answer } = await alice.ask(reply) as AckEvent;
    await alice.ask({ type: "edit", id: answer, content: "edited" });
    await using bob = await join(room, "bob", { epoch: "x", after: 0 });
    assertEquals((await bob.nextOf("chat", ({ seq }) => seq === 2)).reply_to, id);
    await alice.ask({ type: "delete", id: answer });
    await using carol = await join(room, "carol", { epoch: "x", after: 0 });
    const deleted = await carol.nextOf("chat", ({ seq }) => seq === 2);
    assertEquals([deleted.deleted, deleted.reply_to], [true, undefined]);
  });
});

describe("A ref", () => {
  it("reaches everyone with its message, live, in history, on resume and after a restart", async () => {
    await using folder = await makeFolder();
    const env = { DATABASE_URL: `sqlite:${folder.path}/chat.db` };
    const room = newRoom();
    const check = async (ws: string, session: string) => {
      const resume = { session, epoch: "x", after: 0, inbox: 0 };
      await using bob = await V1Client.join(ws, room, "bob", resume);
      assertEquals((await bob.nextOf("chat")).ref, "c1");
      assertEquals((await bob.nextOf("dm")).ref, "d1");
      const page = await bob.ask({ type: "history" }) as HistoryEvent;
      assertEquals(page.messages.map(({ ref }) => ref), ["c1"]);
      await using newcomer = await V1Client.join(ws, room, "carol");
      assertEquals((await newcomer.nextOf("chat")).ref, "c1");
      const plain = await Client.connect(`${ws}/ws/${room}?username=dave`);
      assertEquals((await plain.nextFrame(({ type }) => type === "chat")).ref, "c1");
      await plain.close();
    };
    let session: string;
    {
      await using first = await startServer(env);
      await using alice = await V1Client.join(first.ws, room, "alice");
      await using bob = await V1Client.join(first.ws, room, "bob");
      await using plain = await Client.join(first.ws, room, "plain");
      alice.send({ type: "chat", content: "hello", ref: "c1" });
      alice.send({ type: "dm", to: "bob", content: "psst", ref: "d1" });
      alice.send({ type: "dm", to: "plain", content: "psst", ref: "d2" });
      assertEquals((await bob.nextOf("chat")).ref, "c1");
      assertEquals((await bob.nextOf("dm")).ref, "d1");
      assertEquals((await plain.nextFrame(({ type }) => type === "chat")).ref, "c1");
      assertEquals((await plain.nextFrame(({ type }) => type === "dm")).ref, "d2");
      session = bob.welcome.session;
      await check(first.ws, session);
    }
    await using second = await startServer(env);
    await check(second.ws, session);
  });
});
