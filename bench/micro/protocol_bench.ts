/** The cost of reading a frame from a client, and of writing an event. */

import { decode } from "../../lib/protocol/commands.ts";
import { encode } from "../../lib/protocol/encode.ts";
import type { Event } from "../../lib/protocol/events.ts";

const limits = { maxMessageBytes: 4096, maxFrameBytes: 16384 };
const words = "the quick brown fox jumps over the lazy dog ".repeat(100);
const text = (length: number) => words.slice(0, length);
const command = (length: number) =>
  JSON.stringify({ type: "chat", content: text(length), ref: "00000001" });

for (const length of [64, 4000]) {
  const frame = command(length);
  Deno.bench(`decode a chat.v1 message of ${length} bytes`, { group: "decode" }, () => {
    decode(frame, "v1", limits);
  });
}
const plain = text(64);
Deno.bench("decode a plain message of 64 bytes", { group: "decode" }, () => {
  decode(plain, "json", limits);
});
const cyrillic = JSON.stringify({ type: "chat", content: "ж".repeat(64), ref: "00000001" });
Deno.bench("decode a chat.v1 message of 64 Cyrillic letters", { group: "decode" }, () => {
  decode(cyrillic, "v1", limits);
});
Deno.bench("refuse a frame that is no command", { group: "decode" }, () => {
  try {
    decode("hello", "v1", limits);
  } catch {
    // The refusal is what is timed.
  }
});

const chat: Event = {
  type: "chat",
  content: text(64),
  room: "general",
  username: "alice",
  id: "AAAAAAAAAAAAAAAA-1",
  seq: 12345,
  timestamp: "2026-01-01T00:00:00.000Z",
};
for (const format of ["v1", "json", "text"] as const) {
  Deno.bench(`encode a message as ${format}`, { group: "encode" }, () => {
    encode(chat, format);
  });
}
