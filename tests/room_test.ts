/** The tutorial contract for plain clients, row by row, over real sockets. */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { Client } from "./support/client.ts";
import { RawClient } from "./support/raw.ts";
import { startServer, type TestServer } from "./support/server.ts";

let server: TestServer;
let rooms = 0;

beforeAll(async () => {
  server = await startServer();
});

afterAll(() => server.stop());

/** A room that no other test uses. */
const newRoom = () => `room-${++rooms}`;

const without = (frame: object, ...fields: string[]) =>
  Object.fromEntries(Object.entries(frame).filter(([name]) => !fields.includes(name)));

describe("A client that joins", () => {
  it("gets exactly online_users, then user_joined", async () => {
    await using alice = await Client.connect(`${server.ws}/ws/general?username=alice`);
    assertEquals(await alice.nextFrames(2), [
      { type: "online_users", content: "alice", room: "general", username: "", online: 1 },
      {
        type: "user_joined",
        content: "alice joined the room",
        room: "general",
        username: "alice",
      },
    ]);
  });

  it("is announced to the others in the same way", async () => {
    const room = newRoom();
    await using alice = await Client.join(server.ws, room, "alice");
    await using _bob = await Client.join(server.ws, room, "bob");
    assertEquals(await alice.nextFrames(2), [
      { type: "online_users", content: "alice,bob", room, username: "", online: 2 },
      { type: "user_joined", content: "bob joined the room", room, username: "bob" },
    ]);
  });

  it("then gets the last 50 messages, marked as history; nobody else does", async () => {
    const room = newRoom();
    await using alice = await Client.join(server.ws, room, "alice");
    for (let i = 1; i <= 60; i++) alice.send(`message ${i}`);
    await alice.nextFrame(({ content }) => content === "message 60");
    await using bob = await Client.join(server.ws, room, "bob");
    const history = await bob.nextFrames(50);
    assertEquals(
      history.map(({ content }) => content),
      [...Array(50)].map((_, i) => `message ${i + 11}`),
    );
    for (const { type, username, history: isHistory } of history) {
      assertEquals([type, username, isHistory], ["chat", "alice", true]);
    }
    alice.send("live");
    assertEquals((await bob.nextFrame()).history, undefined);
    await alice.nextFrame(({ type }) => type === "user_joined");
    assertEquals((await alice.nextFrame()).content, "live");
  });

  it("gets the messages of a room that was empty in between", async () => {
    const room = newRoom();
    const alice = await Client.join(server.ws, room, "alice");
    alice.send("anyone here?");
    await alice.nextFrame(({ type }) => type === "chat");
    await alice.close();
    await using bob = await Client.join(server.ws, room, "bob");
    const { content, username, history } = await bob.nextFrame();
    assertEquals([content, username, history], ["anyone here?", "alice", true]);
  });

  it("may use a name and a room in any script, percent-encoded", async () => {
    const [room, username] = ["café 🦊", "李小龍"];
    const url = `${server.ws}/ws/${encodeURIComponent(room)}?username=${
      encodeURIComponent(username)
    }`;
    await using client = await Client.connect(url);
    const [online, joined] = await client.nextFrames(2);
    assertEquals([online!.content, online!.room], [username, room]);
    assertEquals(joined!.content, `${username} joined the room`);
  });

  it("is refused with a name that another person holds in this room", async () => {
    const room = newRoom();
    await using _alice = await Client.join(server.ws, room, "alice");
    await assertRejects(() => Client.connect(`${server.ws}/ws/${room}?username=Alice`), Error);
    await using _elsewhere = await Client.join(server.ws, newRoom(), "alice");
  });

  it("is refused without a name, before any upgrade", async () => {
    await assertRejects(() => Client.connect(`${server.ws}/ws/general`), Error);
    await assertRejects(() => Client.connect(`${server.ws}/ws/general?username=%20`), Error);
  });
});

describe("A message", () => {
  it("reaches everyone in the room, sender included, with its id, number and time", async () => {
    const room = newRoom();
    await using alice = await Client.join(server.ws, room, "alice");
    await using bob = await Client.join(server.ws, room, "bob");
    alice.send("Hello everyone!");
    const frame = await bob.nextFrame();
    assertEquals(without(frame, "id", "timestamp"), {
      type: "chat",
      content: "Hello everyone!",
      room,
      username: "alice",
      seq: 1,
    });
    assertMatch(String(frame.id), /^\S{8,}$/);
    assertMatch(String(frame.timestamp), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    assertEquals(await alice.nextFrame(({ type }) => type === "chat"), frame);
  });

  it("may be sent as a command", async () => {
    await using alice = await Client.join(server.ws, newRoom(), "alice");
    alice.send(JSON.stringify({ type: "chat", content: "hello" }));
    assertEquals((await alice.nextFrame()).content, "hello");
  });

  it("may be JSON, unless it is an object with a type", async () => {
    await using alice = await Client.join(server.ws, newRoom(), "alice");
    for (const text of ["[1]", '{"a":1}', '{"type":7}', '"x"', "{"]) {
      alice.send(text);
      assertEquals((await alice.nextFrame()).content, text);
    }
  });

  it("is not echoed to a sender with echo=0", async () => {
    const room = newRoom();
    await using alice = await Client.join(server.ws, room, "alice", "&echo=0");
    await using bob = await Client.join(server.ws, room, "bob");
    alice.send("mine");
    assertEquals((await bob.nextFrame()).content, "mine");
    bob.send("yours");
    assertEquals((await alice.nextFrame(({ type }) => type === "chat")).content, "yours");
  });

  it("of 4096 bytes passes; one more gets an error and a close with 1009, and reaches nobody", async () => {
    const room = newRoom();
    await using bob = await Client.join(server.ws, room, "bob");
    const alice = await Client.join(server.ws, room, "alice");
    await bob.nextFrames(2);
    alice.send("é".repeat(2048));
    assertEquals((await bob.nextFrame()).content.length, 2048);
    alice.send("é".repeat(2048) + "!");
    const error = await alice.nextFrame(({ type }) => type === "error");
    assertEquals(error, {
      type: "error",
      content: "A message may have at most 4096 bytes of text.",
      room,
      username: "",
      code: "too_big",
    });
    const { code, reason } = await alice.closed;
    assertEquals([code, reason], [1009, "message is too big"]);
    assertEquals((await bob.nextFrame()).type, "user_left");
  });

  it("that is empty gets an error, and the connection stays", async () => {
    await using alice = await Client.join(server.ws, newRoom(), "alice");
    alice.send("");
    assertEquals((await alice.nextFrame()).code, "bad_request");
    alice.send("hello");
    assertEquals((await alice.nextFrame()).content, "hello");
  });

  it("that is binary closes with 1003", async () => {
    const alice = await Client.join(server.ws, newRoom(), "alice");
    alice.send(new Uint8Array([1, 2, 3]));
    assertEquals((await alice.closed).code, 1003);
  });
});

describe("A client that leaves", () => {
  it("is announced to the remaining members: user_left, then online_users", async () => {
    const room = newRoom();
    await using alice = await Client.join(server.ws, room, "alice");
    await (await Client.join(server.ws, room, "bob")).close();
    await alice.nextFrames(2);
    assertEquals(await alice.nextFrames(2), [
      { type: "user_left", content: "bob left the room", room, username: "bob" },
      { type: "online_users", content: "alice", room, username: "", online: 1 },
    ]);
  });

  it("frees its name at once", async () => {
    const room = newRoom();
    await using watcher = await Client.join(server.ws, room, "watcher");
    await (await Client.join(server.ws, room, "alice")).close();
    await watcher.nextFrame(({ type }) => type === "user_left");
    await using _again = await Client.join(server.ws, room, "alice");
  });
});

describe("?format=text", () => {
  it("sends lines", async () => {
    const room = newRoom();
    await using bob = await Client.connect(`${server.ws}/ws/${room}?username=bob&format=text`);
    assertEquals(await bob.nextText(), "Online: bob");
    assertEquals(await bob.nextText(), "User 'bob' joined the chat");
    const alice = await Client.join(server.ws, room, "alice");
    assertEquals(await bob.nextText(), "Online: bob, alice");
    assertEquals(await bob.nextText(), "User 'alice' joined the chat");
    alice.send("Hello everyone!");
    assertEquals(await bob.nextText(), "alice: Hello everyone!");
    await alice.close();
    assertEquals(await bob.nextText(), "User 'alice' left the chat");
    assertEquals(await bob.nextText(), "Online: bob");
    await using carol = await Client.connect(`${server.ws}/ws/${room}?username=carol&format=text`);
    await carol.next();
    await carol.next();
    assertEquals(await carol.nextText(), "alice: Hello everyone!");
  });
});

describe("/ws", () => {
  it("relays only the texts, to all in the lobby, sender included", async () => {
    await using member = await Client.connect(`${server.ws}/ws?username=ann`);
    await member.nextFrames(2);
    await using one = await Client.connect(`${server.ws}/ws`);
    await using two = await Client.connect(`${server.ws}/ws`);
    one.send("from one");
    two.send('{"type":"chat","content":"json is text here"}');
    member.send("from ann");
    for (const client of [one, two]) {
      const texts = [await client.nextText(), await client.nextText(), await client.nextText()];
      assertEquals(texts.sort(), [
        "from ann",
        "from one",
        '{"type":"chat","content":"json is text here"}',
      ]);
    }
    const { content, username, room } = await member.nextFrame();
    assertEquals([content, username, room], ["from one", "anonymous", "lobby"]);
  });

  it("is /ws/lobby for a client with a name", async () => {
    await using fresh = await startServer();
    await using bob = await Client.join(fresh.ws, "lobby", "bob");
    await using alice = await Client.connect(`${fresh.ws}/ws?username=alice`);
    const [online, joined] = await alice.nextFrames(2);
    assertEquals([online!.content, joined!.room], ["bob,alice", "lobby"]);
    assertEquals((await bob.nextFrame()).content, "bob,alice");
  });
});

describe("/echo", () => {
  it("returns text as text and binary as binary", async () => {
    await using client = await Client.connect(`${server.ws}/echo`);
    client.send("text");
    client.send(new Uint8Array([0, 255, 7]));
    client.send("");
    assertEquals(await client.next(), "text");
    assertEquals(new Uint8Array(await client.next() as ArrayBuffer), new Uint8Array([0, 255, 7]));
    assertEquals(await client.next(), "");
  });

  it("closes with 4029 on more frames than MESSAGE_RATE and MESSAGE_BURST allow", async () => {
    await using slow = await startServer({ MESSAGE_RATE: "1", MESSAGE_BURST: "2" });
    const client = await Client.connect(`${slow.ws}/echo`);
    for (const text of ["one", "two", "three"]) client.send(text);
    assertEquals([await client.nextText(), await client.nextText()], ["one", "two"]);
    assertEquals((await client.closed).code, 4029);
  });

  it("closes with 1009 on a frame that is too big", async () => {
    const client = await Client.connect(`${server.ws}/echo`);
    client.send("a".repeat(32769));
    assertEquals((await client.closed).code, 1009);
  });
});

describe("A server with other settings", () => {
  it("applies them", async () => {
    await using small = await startServer({ MAX_MESSAGE_BYTES: "5", HISTORY_SIZE: "1" });
    await using alice = await Client.join(small.ws, "r", "alice");
    alice.send("one");
    alice.send("two");
    await alice.nextFrames(2);
    await using bob = await Client.join(small.ws, "r", "bob");
    assertEquals((await bob.nextFrame()).content, "two");
    bob.send("longer");
    assertEquals((await bob.nextFrame()).code, "too_big");
  });

  it("refuses a connection above the maximum, until one closes", async () => {
    await using full = await startServer({ MAX_CONNECTIONS: "2" });
    await using _alice = await Client.join(full.ws, "r", "alice");
    const bob = await Client.join(full.ws, "r", "bob");
    await assertRejects(() => Client.connect(`${full.ws}/echo`), Error);
    const response = await fetch(`${full.url}/ws/r?username=carol`);
    assertEquals([response.status, (await response.json()).error.includes("full")], [503, true]);
    await bob.close();
    await full.logged("left");
    await using _carol = await Client.join(full.ws, "r", "carol");
  });

  it("removes a peer that answers no ping, and announces it", async () => {
    await using brisk = await startServer({ PONG_WAIT_SECONDS: "2" });
    await using alice = await Client.join(brisk.ws, "r", "alice");
    using _silent = await RawClient.open(brisk.port, "/ws/r?username=silent");
    await alice.nextFrame(({ content }) => content === "silent joined the room");
    assertEquals((await alice.nextFrame()).content, "silent left the room");
    assertEquals((await alice.nextFrame()).content, "alice");
  });
});

describe("The log", () => {
  it("contains joins, leaves and refusals, and no messages", async () => {
    await using quiet = await startServer();
    const alice = await Client.join(quiet.ws, "r", "alice");
    alice.send("a secret");
    alice.send('{"type":"fly","content":"a secret"}');
    await alice.nextFrames(2);
    await fetch(`${quiet.url}/ws/r?username=alice`).then((response) => response.body?.cancel());
    await alice.close();
    await quiet.stop();
    const messages = quiet.log.map(({ msg }) => msg);
    assertMatch(String(messages[0]), /^Server starting on :\d+$/);
    assertEquals(messages.slice(1), [
      "joined",
      "frame refused",
      "refused",
      "left",
      "draining",
      "stopped",
    ]);
    assert(!JSON.stringify(quiet.log).includes("secret"));
  });
});
