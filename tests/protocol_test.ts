import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ChatError, type ErrorCode } from "../lib/errors.ts";
import { ERROR_STATUS } from "../lib/http/app.ts";
import { CLOSE, type CloseReason, ERROR_CLOSE } from "../lib/protocol/codes.ts";
import { type Command, decode } from "../lib/protocol/commands.ts";
import { chunkMessages, encode, type Format } from "../lib/protocol/encode.ts";
import type { Event } from "../lib/protocol/events.ts";

const limits = { maxMessageBytes: 20, maxFrameBytes: 120 };

const GOOD: [frame: string, command: Command][] = [
  ["hello", { type: "chat", content: "hello" }],
  [" spaces stay ", { type: "chat", content: " spaces stay " }],
  ["two\nlines\tand", { type: "chat", content: "two\nlines\tand" }],
  ["{not json", { type: "chat", content: "{not json" }],
  ["[1,2]", { type: "chat", content: "[1,2]" }],
  ['"text"', { type: "chat", content: '"text"' }],
  ["null", { type: "chat", content: "null" }],
  ['{"a":1}', { type: "chat", content: '{"a":1}' }],
  ['{"type":1}', { type: "chat", content: '{"type":1}' }],
  ['{"__proto__":{}}', { type: "chat", content: '{"__proto__":{}}' }],
  ['{"type":"chat","content":"hi"}', { type: "chat", content: "hi" }],
  [' \n{"type":"chat","content":"hi"}', { type: "chat", content: "hi" }],
  ['{"type":"chat","content":"hi","ref":"7"}', { type: "chat", content: "hi", ref: "7" }],
  ['{"type":"chat","content":"hi","more":{"deep":[]}}', { type: "chat", content: "hi" }],
  ["a".repeat(20), { type: "chat", content: "a".repeat(20) }],
  ["é".repeat(10), { type: "chat", content: "é".repeat(10) }],
  ["😀".repeat(5), { type: "chat", content: "😀".repeat(5) }],
];

const BAD: [frame: string, code: ErrorCode, sentence: string][] = [
  ["", "bad_request", "must not be empty"],
  [" \n\t ", "bad_request", "must not be empty"],
  ["bell \u0007", "bad_request", "without control characters"],
  ["escape \u001b[2J", "bad_request", "without control characters"],
  ["c1 \u0085", "bad_request", "without control characters"],
  ["a".repeat(21), "too_big", "at most 20 bytes"],
  ["é".repeat(11), "too_big", "at most 20 bytes"],
  ["日".repeat(7), "too_big", "at most 20 bytes"],
  ["😀".repeat(6), "too_big", "at most 20 bytes"],
  ["x".repeat(121), "too_big", "A frame may have at most 120 bytes"],
  ["日".repeat(41), "too_big", "A frame may have at most 120 bytes"],
  [`{"type":"chat","content":"${"a".repeat(21)}"}`, "too_big", "at most 20 bytes"],
  ['{"type":"chat"}', "bad_request", "content must be a string"],
  ['{"type":"chat","content":7}', "bad_request", "content must be a string"],
  ['{"type":"chat","content":null}', "bad_request", "content must be a string"],
  ['{"type":"chat","content":["hi"]}', "bad_request", "content must be a string"],
  ['{"type":"chat","content":""}', "bad_request", "must not be empty"],
  ['{"type":"chat","content":"\\u0000"}', "bad_request", "without control characters"],
  ['{"type":"chat","content":"\\ud800"}', "bad_request", "must be Unicode text"],
  ['{"type":"chat","content":"hi","ref":7}', "bad_request", "ref must be a string"],
  ['{"type":"chat","content":"hi","ref":""}', "bad_request", "ref must be a string"],
  [`{"type":"chat","content":"a","ref":"${"r".repeat(65)}"}`, "bad_request", "1 to 64"],
  ['{"type":"fly"}', "bad_request", "unknown"],
  ['{"type":"__proto__"}', "bad_request", "unknown"],
  ['{"type":"toString"}', "bad_request", "unknown"],
  ['{"type":""}', "bad_request", "unknown"],
];

describe("decode", () => {
  for (const [frame, command] of GOOD) {
    it(`reads ${JSON.stringify(frame.slice(0, 60))}`, () => {
      assertEquals(decode(frame, "json", limits), command);
    });
  }

  for (const [frame, code, sentence] of BAD) {
    it(`refuses ${JSON.stringify(frame.slice(0, 60))} (${frame.length} characters)`, () => {
      const error = assertThrows(() => decode(frame, "json", limits), ChatError, sentence);
      assertEquals(error.code, code);
    });
  }

  it("reads every text of the raw relay as a message", () => {
    const frame = '{"type":"fly"}';
    assertEquals(decode(frame, "raw", limits), { type: "chat", content: frame });
  });

  it("names the ref of a refused command", () => {
    const error = assertThrows(
      () => decode('{"type":"fly","ref":"7"}', "json", limits),
      ChatError,
    );
    assertEquals(error.ref, "7");
  });

  it("reads JSON nested as deep as a frame allows", () => {
    const wide = { maxMessageBytes: 16384, maxFrameBytes: 16384 };
    const frame = `{"type":"chat","content":"a","deep":${"[".repeat(8000)}${"]".repeat(8000)}}`;
    assertEquals(decode(frame, "json", wide), { type: "chat", content: "a" });
  });

  it("accepts every length up to the maximum, and none above", () => {
    const kick = (length: number) =>
      JSON.stringify({ type: "kick", username: "bob", reason: "x".repeat(length) });
    const unban = (count: number) =>
      JSON.stringify({ type: "room", unban: Array.from({ length: count }, (_, i) => `n${i}`) });
    const ping = (length: number) => JSON.stringify({ type: "ping", ref: "x".repeat(length) });
    const history = (limit: number) => JSON.stringify({ type: "history", limit });
    const wide = { maxMessageBytes: 4096, maxFrameBytes: 32768 };
    for (
      const [make, longest] of [[kick, 200], [unban, 200], [ping, 64], [history, 100]] as const
    ) {
      assertEquals(JSON.parse(make(longest)), decode(make(longest), "v1", wide));
      assertThrows(() => decode(make(longest + 1), "v1", wide), ChatError);
    }
  });

  it("has no limit if the limit is off", () => {
    const none = { maxMessageBytes: Infinity, maxFrameBytes: Infinity };
    const text = "a".repeat(1_000_000);
    assertEquals(decode(text, "json", none), { type: "chat", content: text });
  });
});

const chat: Event = {
  type: "chat",
  content: "Hello everyone!",
  room: "general",
  username: "alice",
  id: "1",
  seq: 1,
  timestamp: "2030-01-01T00:00:00.000Z",
};
const notice = { content: "", room: "general", username: "alice" };
const online: Event = {
  type: "online_users",
  content: "alice,bob",
  room: "general",
  username: "",
  users: [{ username: "alice", connections: 1 }, { username: "bob", connections: 2 }],
  online: 2,
};
const error: Event = {
  type: "error",
  content: "No.",
  room: "general",
  username: "",
  code: "bad_request",
};

const ENCODED: [event: Event, format: Format, frame: string | undefined][] = [
  [chat, "json", JSON.stringify(chat)],
  [chat, "text", "alice: Hello everyone!"],
  [chat, "raw", "Hello everyone!"],
  [{ ...chat, content: "one\nbob: two\r\nthree" }, "text", "alice: one\n  bob: two\n  three"],
  [{ ...notice, type: "user_joined" }, "text", "User 'alice' joined the chat"],
  [{ ...notice, type: "user_left" }, "text", "User 'alice' left the chat"],
  [{ ...notice, type: "user_joined" }, "raw", undefined],
  [{ ...notice, type: "user_left" }, "raw", undefined],
  [
    online,
    "json",
    '{"type":"online_users","content":"alice,bob","room":"general","username":"","online":2}',
  ],
  [online, "text", "Online: alice, bob"],
  [online, "raw", undefined],
  [error, "json", JSON.stringify(error)],
  [error, "text", "Error: No."],
  [error, "raw", "Error: No."],
];

describe("encode", () => {
  for (const [event, format, frame] of ENCODED) {
    it(`writes ${event.type} as ${format}: ${JSON.stringify(frame)?.slice(0, 50)}`, () => {
      assertEquals(encode(event, format), frame);
    });
  }
});

describe("encode, for a stream", () => {
  const data = (event: Event) => `data: ${JSON.stringify(event)}\n\n`;
  const welcome: Event = {
    ...notice,
    type: "welcome",
    session: "s",
    epoch: "e-2",
    seq: 3,
    inbox_seq: 0,
    recovered: false,
    users: [],
    online: 0,
    typing: [],
    role: "member",
    private: false,
    limits: { max_message_bytes: 4096, max_frame_bytes: 32768 },
  };

  it("puts the place of a log event before it", () => {
    assertEquals(encode(chat, "sse", "e-1"), `id: e-1:1\n${data(chat)}`);
  });

  it("gives no place to an event without a number or an epoch", () => {
    const joined: Event = { ...notice, type: "user_joined" };
    for (const event of [joined, online, error]) {
      assertEquals(encode(event, "sse", "e-1"), data(event));
    }
    for (const event of [chat, welcome]) assertEquals(encode(event, "sse"), data(event));
    assertEquals(encode(welcome, "sse", "e-2"), `id: e-2:3\n${data(welcome)}`);
  });
});

describe("chunkMessages", () => {
  it("joins messages up to 64 KiB, and cuts none", () => {
    const half = "é".repeat(16 * 1024);
    assertEquals(chunkMessages([]), []);
    assertEquals(chunkMessages([half, half]), [half + half]);
    assertEquals(chunkMessages([half, half, "x", "y"]), [half + half, "xy"]);
    assertEquals(chunkMessages([half, `${half}x`]), [half, `${half}x`]);
    const long = "x".repeat(100_000);
    assertEquals(chunkMessages(["1", long, "2", "3"]), ["1", long, "23"]);
  });
});

describe("CLOSE", () => {
  const closes: CloseReason[] = Object.values(CLOSE);

  it("contains only codes that a server may send (RFC 6455, section 7.4)", () => {
    for (const { code } of closes) {
      assert(
        code >= 4000 ? code < 5000 : [1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013]
          .includes(code),
        `${code}`,
      );
    }
  });

  it("contains each code once, with a reason that fits a close frame", () => {
    assertEquals(new Set(closes.map(({ code }) => code)).size, closes.length);
    for (const { reason } of closes) assert(new TextEncoder().encode(reason).length <= 123);
  });

  it("matches every error code, as the HTTP status does", () => {
    assertEquals(Object.keys(ERROR_CLOSE), Object.keys(ERROR_STATUS));
  });
});
