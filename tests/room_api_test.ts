/** Rooms over HTTP: posting and reading without a connection. */

import { assert, assertEquals } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { type Answer, call, type CallOptions, signUp } from "./support/people.ts";
import { RawClient } from "./support/raw.ts";
import { startServer, type TestServer } from "./support/server.ts";
import { Client } from "./support/client.ts";
import { V1Client } from "./support/v1_client.ts";

let server: TestServer;
let count = 0;

beforeAll(async () => {
  server = await startServer();
});

afterAll(async () => {
  await server.stop();
});

/** A room that no other test uses. */
const newRoom = () => `room-${++count}`;

/** Posts as curl does: a text with a form's content type. */
function post(room: string, text: string, query = "username=ci", options: CallOptions = {}) {
  const headers = { "content-type": "application/x-www-form-urlencoded", ...options.headers };
  const path = `/api/rooms/${room}/messages?${query}`;
  return call(server, "POST", path, { ...options, body: text, headers });
}

function postJson(room: string, body: unknown, query = "", options: CallOptions = {}) {
  return call(server, "POST", `/api/rooms/${room}/messages?${query}`, { ...options, body });
}

function command(room: string, body: unknown, query = "username=ci", options: CallOptions = {}) {
  return call(server, "POST", `/api/rooms/${room}/commands?${query}`, { ...options, body });
}

/** The beginning of a request that posts to a room. */
const head = (room: string) =>
  `POST /api/rooms/${room}/messages?username=ci HTTP/1.1\r\nHost: 127.0.0.1\r\n`;

const read = (room: string, query = "", options: CallOptions = {}) =>
  call(server, "GET", `/api/rooms/${room}/messages?${query}`, options);

const contents = ({ body }: Answer) =>
  body.messages.map(({ content }: { content: string }) => content);

/** Checks the status of a refusal, and that its body is only a sentence. */
function assertRefused({ status, body }: Answer, wanted: number, sentence: RegExp): void {
  assertEquals(Object.keys(body), ["error"]);
  assertEquals([status, sentence.test(body.error)], [wanted, true], body.error);
}

describe("a posted message", () => {
  it("reaches everyone in the room like any other", async () => {
    const room = newRoom();
    await using ann = await V1Client.join(server.ws, room, "ann");
    await using bob = await Client.join(server.ws, room, "bob");
    const { status, body } = await post(room, "the build is green");
    assertEquals(status, 201);
    assertEquals(Object.keys(body), ["id", "seq", "timestamp", "room", "username"]);
    assertEquals([body.seq, body.room, body.username], [1, room, "ci"]);
    const { type: _, ...event } = await ann.nextOf("chat");
    const { id, seq, timestamp, username } = body;
    assertEquals(event, { content: "the build is green", room, username, id, seq, timestamp });
    assertEquals((await bob.nextFrame(({ type }) => type === "chat")).content, event.content);
    assertEquals(ann.all("user_joined").map(({ username }) => username), ["ann", "bob"]);
  });

  for (
    const [type, text, wanted] of [
      ["text/plain", "plain\n", "plain"],
      ["text/plain; charset=utf-8", "日本 🎉\r\n", "日本 🎉"],
      ["application/x-www-form-urlencoded", "a=1&b=%20+", "a=1&b=%20+"],
      ["application/octet-stream", "two\n\n", "two\n"],
      ["application/xml", `{"content":"no object"}`, `{"content":"no object"}`],
    ] as const
  ) {
    it(`as ${type} is the unchanged text`, async () => {
      const room = newRoom();
      const { status } = await post(room, text, undefined, { headers: { "content-type": type } });
      assertEquals([status, contents(await read(room))], [201, [wanted]]);
    });
  }

  it("as JSON has its sender, its ref and the message it answers", async () => {
    const room = newRoom();
    const first = await postJson(room, { content: "one", username: "ann", reply_to: null });
    const { id } = first.body;
    const answer = { content: "two", username: "bob", ref: "b-1", reply_to: id };
    const second = await postJson(room, answer);
    assertEquals([first.status, second.status, second.body.ref], [201, 201, "b-1"]);
    const { messages } = (await read(room)).body;
    assertEquals([messages[1].reply_to, messages[1].ref, messages[1].username], [id, "b-1", "bob"]);
  });

  it("twice under one key is stored once", async () => {
    const room = newRoom();
    const key = (value: string) => ({ headers: { "idempotency-key": value } });
    const first = await post(room, "one", undefined, key("k-1"));
    const again = await post(room, "one", undefined, key('"k-1"'));
    const json = await postJson(room, { content: "one", username: "ci", ref: "k-1" });
    assertEquals([first.status, again.status, json.status], [201, 200, 200]);
    assertEquals([again.body.duplicate, again.body.id], [true, first.body.id]);
    assertRefused(await post(room, "two", undefined, key("k-1")), 409, /^This ref belongs/);
    assertEquals((await post(room, "two", "username=cd", key("k-1"))).status, 201);
    assertEquals((await post(room, "two", undefined, key("k-2"))).status, 201);
    assertEquals(contents(await read(room)), ["one", "two", "two"]);
  });

  it("of a guest in the room needs the guest's secret", async () => {
    const room = newRoom();
    await using ann = await V1Client.join(server.ws, room, "ann");
    assertRefused(await post(room, "no", "username=ann"), 409, /^This name is in use/);
    const { session } = ann.welcome;
    assertEquals((await post(room, "yes", `username=ANN&session=${session}`)).status, 201);
    assertEquals((await ann.nextOf("chat")).content, "yes");
  });

  it("of an account needs a token, and no name", async () => {
    const room = newRoom();
    const token = await signUp(server, "Grace");
    const { status, body } = await post(room, "hi", "", { token });
    assertEquals([status, body.username], [201, "Grace"]);
    assertEquals((await post(room, "hi", `token=${token}`)).status, 201);
    assertRefused(await post(room, "hi", "username=grace"), 401, /belongs to an account/);
    assertRefused(await post(room, "hi", "username=ada", { token }), 403, /signed in as Grace/);
    assertRefused(await post(room, "hi", "username=ada", { token: "x" }), 401, /has ended/);
  });

  for (
    const [what, text, query, status, sentence] of [
      ["without a name", "x", "", 400, /^room and username are required$/],
      ["with a blank name", "x", "username=%20", 400, /^room and username are required$/],
      ["with a bad name", "x", "username=a,b", 400, /username/],
      ["without a text", "", "username=ci", 400, /must not be empty/],
      ["with a text that shows nothing", "\u200b \n", "username=ci", 400, /must not be empty/],
      ["with a control character", "a\x07", "username=ci", 400, /control characters/],
      ["with a long text", "x".repeat(4097), "username=ci", 413, /at most 4096 bytes/],
      ["with a body too big", "x".repeat(65537), "username=ci", 413, /at most 65536 bytes/],
      ["with another's session", "x", "username=ci&session=x", 400, /session/],
    ] as const
  ) {
    it(`${what} is refused`, async () => {
      const room = newRoom();
      assertRefused(await post(room, text, query), status, sentence);
      assertEquals(contents(await read(room)), []);
    });
  }

  for (
    const [what, body, status, sentence] of [
      ["no object", "[]", 400, /must be a JSON object/],
      ["damaged JSON", "{", 400, /must be a JSON object/],
      ["a number as content", { content: 1, username: "a" }, 400, /content must be a string/],
      ["a number as name", { content: "x", username: 1 }, 400, /username must be a name/],
      ["a long ref", { content: "x", username: "a", ref: "r".repeat(65) }, 400, /ref must be/],
      ["no such reply", { content: "x", username: "a", reply_to: "none" }, 404, /message/],
      ["nobody", { content: "x" }, 400, /^room and username are required$/],
    ] as const
  ) {
    it(`as JSON with ${what} is refused`, async () => {
      assertRefused(await postJson(newRoom(), body), status, sentence);
    });
  }

  it("in invalid UTF-8 is refused", async () => {
    const path = `${server.url}/api/rooms/${newRoom()}/messages?username=ci`;
    const answer = await fetch(path, { method: "POST", body: Uint8Array.of(0x61, 0xff) });
    assertEquals([answer.status, await answer.json()], [400, {
      error: "The body must be complete, and UTF-8 text.",
    }]);
  });

  it("in chunks is read up to the limit only", async () => {
    const room = newRoom();
    const send = async (more: string, ...chunks: string[]) => {
      using client = await RawClient.connect(server.port);
      await client.write(`${head(room)}${more}Transfer-Encoding: chunked\r\n\r\n`);
      for (const chunk of chunks) {
        await client.write(`${chunk.length.toString(16)}\r\n${chunk}\r\n`);
      }
      return await client.readAnswer();
    };
    assertEquals((await send("", "the build ", "is green", "")).status, 201);
    const page = "x".repeat(32 * 1024);
    assertEquals((await send("", page, page, "x")).status, 413);
    // The runtime may refuse it first.
    const { status } = await send("Content-Length: 5\r\n", page, page, "x");
    assert(status === 400 || status === 413, String(status));
    assertEquals(contents(await read(room)), ["the build is green"]);
  });

  it("that breaks off is not logged as a failure", async () => {
    await using own = await startServer();
    {
      using client = await RawClient.connect(own.port);
      await client.write(`${head("r")}Content-Length: 100\r\n\r\nthe bui`);
    }
    await own.logged("refused");
    assertEquals(own.log.filter(({ level }) => level === "error"), []);
    const { body } = await call(own, "GET", "/api/rooms/r/messages");
    assertEquals(body.messages, []);
  });

  it("from a page of another site is refused", async () => {
    const options = { headers: { origin: "https://evil.example" } };
    assertRefused(await post(newRoom(), "x", undefined, options), 403, /Pages of this origin/);
  });

  it("to a private room, or by someone who is banned, is refused, and reads nothing", async () => {
    const room = newRoom();
    const token = await signUp(server, "Owner");
    assertEquals(
      (await command(room, { type: "room", private: false }, "", { token })).status,
      200,
    );
    const { body: { id } } = await post(room, "rude", "username=mallory");
    const kick = { type: "kick", id, ban: true };
    assertEquals((await command(room, kick, "", { token })).body.type, "ack");
    assertRefused(await post(room, "again", "username=mallory"), 403, /banned/);
    const isPrivate = { type: "room", private: true };
    assertEquals((await command(room, isPrivate, "", { token })).status, 200);
    for (const answer of [await post(room, "x"), await read(room), await presence(room)]) {
      assertRefused(answer, 403, /private/);
    }
    assertEquals((await post(room, "mine", "", { token })).status, 201);
  });
});

const presence = (room: string, query = "") =>
  call(server, "GET", `/api/rooms/${room}/presence?${query}`);

describe("a posted command", () => {
  it("has the same effect and answer as on a socket", async () => {
    const room = newRoom();
    await using ann = await V1Client.join(server.ws, room, "ann");
    const query = `username=bob&session=${"b".repeat(43)}`;
    const said = await command(room, { type: "chat", content: "one", ref: "r" }, query);
    const { id } = said.body;
    assertEquals([said.status, said.body.type, said.body.ref], [200, "ack", "r"]);
    const edited = await command(room, { type: "edit", id, content: "two" }, query);
    assertEquals([edited.body.type, edited.body.seq, "ref" in edited.body], ["ack", 2, false]);
    const whisper = await command(room, { type: "dm", to: "ann", content: "psst" }, query);
    assertEquals([whisper.body.type, whisper.body.inbox_seq], ["ack", 1]);
    const page = await command(room, { type: "history", ref: "h" }, query);
    assertEquals([page.body.type, page.body.ref, contents(page)], ["history", "h", ["two"]]);
    assertEquals((await command(room, { type: "ping" }, query)).body.type, "pong");
    assertEquals((await command(room, { type: "delete", id }, query)).body.seq, 3);
    assertEquals((await ann.nextOf("chat")).content, "one");
    assertEquals((await ann.nextOf("message_updated")).content, "two");
    assertEquals((await ann.nextOf("dm")).content, "psst");
    assertEquals((await ann.nextOf("message_deleted")).id, id);
  });

  it("without an answer gets 204, and typing counts for members only", async () => {
    const room = newRoom();
    await using ann = await V1Client.join(server.ws, room, "ann");
    await using bob = await V1Client.join(server.ws, room, "bob");
    const typing = { type: "typing", active: true };
    const absent = await command(room, typing, "username=ci");
    assertEquals([absent.status, absent.body], [204, undefined]);
    const present = `username=bob&session=${bob.welcome.session}`;
    assertEquals((await command(room, typing, present)).status, 204);
    assertEquals((await ann.nextOf("typing")).username, "bob");
  });

  it("has the rights of its sender", async () => {
    const room = newRoom();
    const { body: { id } } = await post(room, "mine", "username=ann");
    assertRefused(await command(room, { type: "edit", id, content: "x" }), 403, /author/);
    assertRefused(await command(room, { type: "delete", id }), 403, /author/);
    assertRefused(await command(room, { type: "kick", id }), 403, /owner/);
    assertRefused(await command(room, { type: "room", private: true }), 403, /owner/);
    assertRefused(await command(room, { type: "dm", to: "nobody", content: "x" }), 404, /name/);
    // Anyone at this address may claim the name ann.
    const edit = { type: "edit", id, content: "still mine?" };
    assertRefused(await command(room, edit, "username=ann"), 403, /author/);
  });

  for (
    const [what, body, status, sentence] of [
      ["of an unknown type", { type: "shout" }, 400, /type of command is unknown/],
      ["without a type", { content: "x" }, 400, /must be a JSON object with a type/],
      ["that is no object", "[]", 400, /must be a JSON object with a type/],
      ["that is damaged", "{", 400, /must be a JSON object with a type/],
      ["with a long text", { type: "chat", content: "x".repeat(4097) }, 413, /at most 4096/],
      ["with a long frame", { type: "chat", x: "x".repeat(33000) }, 413, /at most 32768/],
    ] as const
  ) {
    it(`${what} is refused`, async () => {
      assertRefused(await command(newRoom(), body), status, sentence);
    });
  }

  it("is refused without a name, and in any type but JSON", async () => {
    assertRefused(await command(newRoom(), { type: "ping" }, ""), 400, /username are required/);
    const headers = { "content-type": "text/plain" };
    const answer = await command(newRoom(), `{"type":"ping"}`, undefined, { headers });
    assertRefused(answer, 400, /content-type/);
  });
});

describe("the messages of a room", () => {
  it("come in pages, in both directions, also without a name", async () => {
    const room = newRoom();
    for (const text of ["1", "2", "3", "4"]) await post(room, text);
    const newest = await read(room, "limit=2");
    assertEquals(Object.keys(newest.body), ["room", "epoch", "messages", "more"]);
    assertEquals([contents(newest), newest.body.more], [["3", "4"], true]);
    assertEquals(contents(await read(room, "before=3&limit=1")), ["2"]);
    assertEquals(contents(await read(room, "after=0&limit=2")), ["1", "2"]);
    const rest = await read(room, "after=2");
    assertEquals([contents(rest), rest.body.more], [["3", "4"], false]);
  });

  for (
    const query of [
      ...[
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=1e1",
        "before=0",
        "before=99999999999999999999",
      ],
      ...["after=-1", "before=1&after=1"],
    ]
  ) {
    it(`are refused with ${query}`, async () => {
      assertRefused(await read(newRoom(), query), 400, /whole number|not both/);
    });
  }

  it("of a room with a bad name are refused", async () => {
    assertRefused(await read("%20"), 400, /^room and username are required$/);
    assertRefused(await read("a%00b"), 400, /room/);
  });
});

describe("the presence of a room", () => {
  it("lists the members, and not people who post or read", async () => {
    const room = newRoom();
    await using _ann = await V1Client.join(server.ws, room, "ann");
    await using _tab = await V1Client.join(server.ws, room, "ann", {
      session: _ann.welcome.session,
    });
    await post(room, "x");
    const users = [{ username: "ann", connections: 2 }];
    assertEquals((await presence(room)).body, { room, online: 1, users });
    assertEquals((await presence(newRoom())).body.users, []);
  });
});

describe("a limit", () => {
  it("on a person's messages applies over HTTP, with Retry-After", async () => {
    await using strict = await startServer({ MESSAGE_RATE: "1", MESSAGE_BURST: "2" });
    const say = (name: string, text: string) =>
      call(strict, "POST", `/api/rooms/r/messages?username=${name}`, { body: { content: text } });
    assertEquals((await say("ann", "1")).status, 201);
    assertEquals((await say("ann", "2")).status, 201);
    const refused = await say("ann", "3");
    assertRefused(refused, 429, /^Too many requests at once\. Wait/);
    assert(Number(refused.headers.get("retry-after")) >= 1);
    assertEquals((await say("bob", "1")).status, 201);
  });

  it("on an address covers all its requests", async () => {
    await using strict = await startServer({ MESSAGE_RATE_PER_ADDRESS: "1" });
    const ask = (n: number) => call(strict, "GET", `/api/rooms/r${n}/messages`);
    assertEquals([(await ask(1)).status, (await ask(2)).status, (await ask(3)).status], [
      200,
      200,
      200,
    ]);
    assertRefused(await ask(4), 429, /from your address/);
    const body = { content: "x", username: "ann" };
    for (const path of ["messages", "commands?username=ann"]) {
      const answer = await call(strict, "POST", `/api/rooms/r/${path}`, { body });
      assertRefused(answer, 429, /from your address/);
    }
  });

  it("on guests refuses all their requests", async () => {
    await using closed = await startServer({ GUESTS: "off" });
    for (const path of ["messages", "presence", "events"]) {
      assertRefused(await call(closed, "GET", `/api/rooms/r/${path}`), 401, /Sign in/);
    }
    const body = { content: "x", username: "ann" };
    assertRefused(await call(closed, "POST", "/api/rooms/r/messages", { body }), 401, /Sign in/);
    const token = await signUp(closed, "Ada");
    assertEquals(
      (await call(closed, "POST", "/api/rooms/r/messages", { body: { content: "x" }, token }))
        .status,
      201,
    );
  });
});
