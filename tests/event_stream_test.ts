/** Rooms as Server-Sent Events. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { EventStream } from "../lib/http/event_stream.ts";
import type { ChatEvent } from "../lib/protocol/events.ts";
import { createFakeApp } from "./support/fake_app.ts";
import { call, signUp } from "./support/people.ts";
import { RawClient } from "./support/raw.ts";
import { startServer, type TestServer } from "./support/server.ts";
import { StreamReader } from "./support/stream_reader.ts";
import { V1Client } from "./support/v1_client.ts";

let server: TestServer;
let count = 0;

beforeAll(async () => {
  server = await startServer();
});

afterAll(async () => {
  await server.stop();
});

const newRoom = () => `stream-${++count}`;

/** The guest of these tests, with the secret. */
const CI = `username=ci&session=${"c".repeat(43)}`;

async function say(room: string, content: string, where = server): Promise<ChatEvent> {
  const answer = await call(where, "POST", `/api/rooms/${room}/messages?${CI}`, {
    body: { content },
  });
  assertEquals(answer.status, 201, JSON.stringify(answer.body));
  return answer.body;
}

describe("a stream", () => {
  it("begins with retry and the welcome, then the newest messages", async () => {
    const room = newRoom();
    await say(room, "one");
    await using reader = await StreamReader.open(server, room);
    const { headers } = reader.response;
    assertEquals(headers.get("content-type"), "text/event-stream");
    assert(headers.get("cache-control")!.includes("no-store"));
    const { retry } = (await reader.next())!;
    assert(Number(retry) >= 1000 && Number(retry) <= 5000, retry);
    const { id, event } = await reader.nextMessage("welcome");
    assertEquals([id, event.recovered, event.seq, event.username], [undefined, false, 1, ""]);
    const old = await reader.nextMessage("chat");
    assertEquals([old.id, old.event.history], [`${event.epoch}:1`, true]);
  });

  it("carries every event of the room, each with its place in the log", async () => {
    const room = newRoom();
    await using reader = await StreamReader.join(server, room);
    const { epoch } = reader.welcome;
    await using ann = await V1Client.join(server.ws, room, "ann");
    ann.send({ type: "chat", content: "line\nbreaks \r\u2028 and 日本", ref: "r" });
    const { id } = await ann.nextOf("chat");
    ann.send({ type: "edit", id, content: "better" });
    ann.send({ type: "delete", id });
    ann.send({ type: "typing", active: true });
    const chat = await reader.nextMessage("chat");
    assertEquals([chat.id, chat.event.content], [`${epoch}:1`, "line\nbreaks \r\u2028 and 日本"]);
    assertEquals((await reader.nextMessage("message_updated")).id, `${epoch}:2`);
    assertEquals((await reader.nextMessage("message_deleted")).id, `${epoch}:3`);
    assertEquals((await reader.nextMessage("typing")).id, undefined);
    assertEquals(reader.all("user_joined").map(({ username }) => username), ["ann"]);
    assertEquals(reader.all("presence").length, 1);
  });

  it("of a reader without a name does not show in the room", async () => {
    const room = newRoom();
    await using ann = await V1Client.join(server.ws, room, "ann");
    await using _reader = await StreamReader.join(server, room);
    await say(room, "x");
    await ann.nextOf("chat");
    const { body } = await call(server, "GET", `/api/rooms/${room}/presence`);
    assertEquals(body.online, 1);
    assertEquals(ann.all("user_joined").length, 1);
  });

  it("of a reader with a name is a member until it ends", async () => {
    const room = newRoom();
    await using ann = await V1Client.join(server.ws, room, "ann");
    const bob = await StreamReader.join(server, room, { query: { username: "bob" } });
    assertEquals(bob.welcome.users.map(({ username }) => username), ["ann", "bob"]);
    await ann.nextOf("user_joined", ({ username }) => username === "bob");
    ann.send({ type: "dm", to: "bob", content: "psst" });
    assertEquals((await bob.nextOf("dm")).content, "psst");
    const query = `username=bob&session=${bob.welcome.session}`;
    const body = { type: "chat", content: "hi", ref: "1" };
    const path = `/api/rooms/${room}/commands?${query}`;
    assertEquals((await call(server, "POST", path, { body })).body.type, "ack");
    assertEquals((await ann.nextOf("chat")).username, "bob");
    assertEquals((await bob.nextOf("chat")).ref, "1");
    await bob.close();
    await ann.nextOf("user_left", ({ username }) => username === "bob");
  });

  it("of an account needs no name, and ends when the account signs out", async () => {
    const room = newRoom();
    const token = await signUp(server, "Hopper");
    const headers = { authorization: `Bearer ${token}` };
    await using reader = await StreamReader.join(server, room, { headers });
    assertEquals(reader.welcome.username, "Hopper");
    await call(server, "POST", "/api/logout", { token });
    assertEquals((await reader.end())?.code, 4001);
    assertEquals(reader.all("error").map(({ code }) => code), ["unauthenticated"]);
  });

  it("ends for a member removed from the room", async () => {
    const room = newRoom();
    const token = await signUp(server, "Keeper");
    const ask = (body: unknown) =>
      call(server, "POST", `/api/rooms/${room}/commands`, { body, token });
    await ask({ type: "room", private: false });
    await using bob = await StreamReader.join(server, room, { query: { username: "bob" } });
    await ask({ type: "kick", username: "bob", reason: "enough" });
    assertEquals(await bob.end(), { code: 4003, reason: "you may not be here" });
  });

  it("leaves out its own person's posts only with echo=0", async () => {
    const room = newRoom();
    const session = "b".repeat(43);
    const who = { username: "bob", session };
    await using quiet = await StreamReader.join(server, room, { query: { ...who, echo: "0" } });
    await using loud = await StreamReader.join(server, room, { query: who });
    const path = `/api/rooms/${room}/messages?username=bob&session=${session}`;
    await call(server, "POST", path, { body: { content: "own" } });
    await say(room, "another's");
    assertEquals((await quiet.nextOf("chat")).content, "another's");
    assertEquals((await loud.nextOf("chat")).content, "own");
  });

  it("answers HEAD with its headers, and opens nothing", async () => {
    const room = newRoom();
    const { status, body, headers } = await call(server, "HEAD", `/api/rooms/${room}/events`);
    assertEquals([status, body, headers.get("content-type")], [
      200,
      undefined,
      "text/event-stream",
    ]);
    await using _ann = await V1Client.join(server.ws, room, "ann");
    const refused = await call(server, "HEAD", `/api/rooms/${room}/events?username=ann`);
    assertEquals(refused.status, 409);
  });
});

describe("a reader that reconnects", () => {
  /** The numbered events that a reader has received, as `seq type`. */
  const seen = (reader: StreamReader) =>
    reader.messages.filter(({ id }) => id !== undefined).map(({ id, data }) =>
      `${id!.split(":")[1]} ${JSON.parse(data!).type}`
    );

  it("receives missed events once and in order, then new ones", async () => {
    const room = newRoom();
    const first = await StreamReader.join(server, room);
    const { id: messageId } = await say(room, "one");
    const { id } = await first.nextMessage("chat");
    await first.close();
    await say(room, "two");
    const edit = { type: "edit", id: messageId, content: "1" };
    await call(server, "POST", `/api/rooms/${room}/commands?${CI}`, { body: edit });
    const headers = { "last-event-id": id! };
    await using again = await StreamReader.join(server, room, { headers });
    assertEquals([again.welcome.recovered, again.welcome.seq], [true, 3]);
    await say(room, "four");
    await again.nextOf("chat", ({ content }) => content === "four");
    assertEquals(seen(again), ["2 chat", "3 message_updated", "4 chat"]);
  });

  it("of a room that was empty misses nothing", async () => {
    const room = newRoom();
    const first = await StreamReader.open(server, room);
    const { id } = await first.nextMessage("welcome");
    await first.close();
    for (let i = 1; i <= 60; i++) await say(room, String(i));
    await using again = await StreamReader.join(server, room, {
      headers: { "last-event-id": id! },
    });
    assertEquals(again.welcome.recovered, true);
    await again.nextOf("chat", ({ content }) => content === "60");
    assertEquals(seen(again).length, 60);
  });

  it("of a room whose messages are not shown misses nothing either", async () => {
    await using quiet = await startServer({ HISTORY_SIZE: "0" });
    await say("r", "one", quiet);
    const first = await StreamReader.open(quiet, "r");
    const { id } = await first.nextMessage("welcome");
    await first.close();
    await say("r", "two", quiet);
    const headers = { "last-event-id": id! };
    const again = await StreamReader.join(quiet, "r", { headers });
    assertEquals(again.welcome.recovered, true);
    const { id: next, event } = await again.nextMessage("chat");
    assertEquals([event.content, next], ["two", `${again.welcome.epoch}:2`]);
    await again.close();
    await using last = await StreamReader.open(quiet, "r", { headers: { "last-event-id": next! } });
    assertEquals((await last.nextMessage("welcome")).id, next);
  });

  it("resumes from its last event, not from the older place in its address", async () => {
    const room = newRoom();
    await using first = await StreamReader.join(server, room);
    const { epoch } = first.welcome;
    for (const content of ["1", "2", "3"]) await say(room, content);
    const query = { epoch, after: "1" };
    await using byQuery = await StreamReader.join(server, room, { query });
    await byQuery.nextOf("chat", ({ content }) => content === "3");
    assertEquals(seen(byQuery), ["2 chat", "3 chat"]);
    const headers = { "last-event-id": `${epoch}:2` };
    await using byHeader = await StreamReader.join(server, room, { query, headers });
    await byHeader.nextOf("chat", ({ content }) => content === "3");
    assertEquals(seen(byHeader), ["3 chat"]);
  });

  it("after more than the kept log, or from another life, gets recovered: false and the newest", async () => {
    const room = newRoom();
    for (const content of ["1", "2"]) await say(room, content);
    for (const id of ["another:1", "x:99999"]) {
      const headers = { "last-event-id": id };
      await using reader = await StreamReader.join(server, room, { headers });
      assertEquals(reader.welcome.recovered, false);
      await reader.nextOf("chat", ({ content }) => content === "2");
      assertEquals(reader.all("chat").map(({ history }) => history), [true, true]);
    }
  });

  it("as a guest gets missed private messages by inbox", async () => {
    const room = newRoom();
    await using ann = await V1Client.join(server.ws, room, "ann");
    const bob = await StreamReader.join(server, room, { query: { username: "bob" } });
    const { epoch, session } = bob.welcome;
    await bob.close();
    await ann.nextOf("user_left");
    await ann.ask({ type: "dm", to: "bob", content: "while you were away" });
    const query = { username: "bob", session, epoch, after: "0", inbox: "0" };
    await using again = await StreamReader.join(server, room, { query });
    assertEquals((await again.nextOf("dm")).content, "while you were away");
  });

  for (const id of ["x", "1", ":1", "e:", "e:x", "e:-1", "e:1:2", `${"e".repeat(300)}:1`]) {
    it(`with the id ${id.slice(0, 20)} is refused`, async () => {
      const headers = { "last-event-id": id };
      const open = () => StreamReader.open(server, newRoom(), { headers });
      await assertRejects(open, Error, "400 Last-Event-ID");
    });
  }
});

describe("a stream that is refused", () => {
  it("gets the same status and sentence as any other request", async () => {
    const room = newRoom();
    await using _ann = await V1Client.join(server.ws, room, "ann");
    const open = (query: Record<string, string>) => () =>
      StreamReader.open(server, room, { query });
    await assertRejects(open({ username: "ann" }), Error, "409 This name is in use");
    await assertRejects(open({ username: "a,b" }), Error, "400 ");
    await assertRejects(open({ username: " " }), Error, "400 room and username are required");
    await assertRejects(open({ token: "x" }), Error, "401 ");
    await assertRejects(open({ after: "1" }), Error, "400 To resume");
  });

  it("counts as a connection until it ends", async () => {
    await using strict = await startServer({ MAX_CONNECTIONS_PER_ADDRESS: "1" });
    const first = await StreamReader.join(strict, "r");
    await assertRejects(() => StreamReader.open(strict, "r"), Error, "429 ");
    await first.close();
    await strict.logged("left");
    await using _second = await StreamReader.join(strict, "r");
  });
});

describe("a reader that does not read", () => {
  it("is evicted within the limits of a socket, and its leave is announced", async () => {
    await using strict = await startServer({ SEND_QUEUE_BYTES: "65536", MAX_MESSAGE_BYTES: "0" });
    await using ann = await V1Client.join(strict.ws, "r", "ann");
    using slow = await RawClient.connect(strict.port);
    await slow.write(
      "GET /api/rooms/r/events?username=slow HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    );
    await ann.nextOf("user_joined", ({ username }) => username === "slow");
    const content = "x".repeat(30_000);
    let isGone = false;
    ann.nextOf("user_left", ({ username }) => username === "slow").then(() => isGone = true);
    for (let i = 0; !isGone; i++) {
      assert(i < 1000, "The slow reader was kept.");
      assertEquals(await ann.socket.readyState, 1);
      await call(strict, "POST", "/api/rooms/r/messages", { body: { content, username: "ci" } });
    }
    await strict.logged("member evicted");
  });
});

describe("a stopping server", () => {
  it("sends every reader a close event, and ends its stream", async () => {
    const own = await startServer();
    await using reader = await StreamReader.join(own, "r", { query: { username: "ann" } });
    const stopped = own.stop();
    assertEquals(await reader.end(), { code: 1012, reason: "server is restarting" });
    await stopped;
  });
});

describe("the body of a stream", () => {
  const decoder = new TextDecoder();

  /** Reads once. */
  async function take(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<string> {
    const { value, done } = await reader.read();
    return done ? "(end)" : decoder.decode(value);
  }

  it("counts waiting bytes, hands them over at once, and ends after the reason", async () => {
    let ends = 0;
    const stream = new EventStream(() => ends++);
    stream.send("a");
    stream.send("é");
    assertEquals(stream.bufferedAmount, 3);
    const reader = stream.body.getReader();
    assertEquals([await take(reader), stream.bufferedAmount], ["aé", 0]);
    const next = take(reader);
    await Promise.resolve();
    stream.send("b");
    stream.close(1012, "bye");
    stream.send("never");
    stream.close(4003, "never");
    assertEquals(await next, "b");
    assertEquals(await take(reader), 'event: close\ndata: {"code":1012,"reason":"bye"}\n\n');
    assertEquals([await take(reader), ends], ["(end)", 1]);
  });

  it("drops events that a slow reader has not taken", async () => {
    const stream = new EventStream(() => {});
    stream.send("x".repeat(1000));
    stream.close(4008, "slow");
    assert(stream.bufferedAmount < 100);
    assert((await take(stream.body.getReader())).startsWith("event: close"));
  });

  it("ends once when the reader disconnects", async () => {
    let ends = 0;
    const stream = new EventStream(() => ends++);
    stream.send("x");
    await stream.body.cancel();
    stream.send("y");
    stream.close(1012, "bye");
    assertEquals([ends, stream.bufferedAmount], [1, 0]);
  });

  it("carries regular comments while idle", async () => {
    const { app, hub, timers } = createFakeApp();
    const { body } = await app.request("/api/rooms/r/events");
    const reader = body!.getReader();
    assert((await take(reader)).startsWith("retry: "));
    const next = take(reader);
    await Promise.resolve();
    assertEquals(timers.map(({ ms }) => ms), [15_000]);
    timers.shift()!.callback();
    assertEquals(await next, ":\n\n");
    hub.joined[0]!.peer.send("waits");
    hub.joined[0]!.peer.send("waits too");
    timers.shift()!.callback();
    assertEquals(await take(reader), "waitswaits too");
    await reader.cancel();
    assertEquals(hub.left.length, 1);
    timers.shift()!.callback();
    assertEquals(timers, []);
  });
});
