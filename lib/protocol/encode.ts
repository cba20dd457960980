/**
 * Encodes events as JSON, as messages of an event stream, as lines for people or as bare texts, and
 * puts several `chat.v1` events into one frame.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { type Event, IS_FOR_PLAIN_CLIENTS } from "./events.ts";

/**
 * The format of a connection: `v1` is `chat.v1`, the whole protocol, and `sse` carries the same
 * events as Server-Sent Events; plain clients receive JSON objects, lines for people (`text`), or
 * bare message texts (`raw`).
 */
export type Format = (typeof FORMATS)[number];

/** Every format. */
export const FORMATS = ["v1", "sse", "json", "text", "raw"] as const;

/** Whether a format carries every event of the protocol. */
export function isWhole(format: Format): boolean {
  return format === "v1" || format === "sse";
}

/** The name of the subprotocol `chat.v1`. */
export const SUBPROTOCOL = "chat.v1";

/**
 * Writes one event in one format.
 *
 * @param epoch the epoch of the room, for an event of the log: a stream can resume after it
 * @returns the event's text, or `undefined` if the format does not carry such an event
 */
export function encode(event: Event, format: Format, epoch?: string): string | undefined {
  switch (format) {
    case "v1":
      return JSON.stringify(event);
    case "sse":
      return `${idLine(event, epoch)}data: ${JSON.stringify(event)}\n\n`;
    case "json":
      if (event.type === "online_users") {
        // `content` already has the names.
        const { users: _, ...plain } = event;
        return JSON.stringify(plain);
      }
      return IS_FOR_PLAIN_CLIENTS[event.type] ? JSON.stringify(event) : undefined;
    case "text":
      return IS_FOR_PLAIN_CLIENTS[event.type] ? encodeLine(event) : undefined;
    case "raw":
      if (event.type === "chat") return event.content;
      return event.type === "error" ? encodeLine(event) : undefined;
  }
}

/**
 * The `id` of an event in a stream: its place in the log. A reader that reconnects sends the last
 * id as `Last-Event-ID` (HTML, section 9.2), and resumes after it. An event outside the log has no
 * id; a `welcome` has one only if no event of the log follows it at once.
 */
function idLine(event: Event, epoch: string | undefined): string {
  return epoch !== undefined && "seq" in event && event.seq !== undefined
    ? `id: ${epoch}:${event.seq}\n`
    : "";
}

function encodeLine(event: Event): string | undefined {
  switch (event.type) {
    case "chat":
      return `${event.username}: ${indent(event.content)}`;
    case "dm":
      // No name contains a parenthesis.
      return `${event.username} (to ${event.to}): ${indent(event.content)}`;
    case "user_joined":
      return `User '${event.username}' joined the chat`;
    case "user_left":
      return `User '${event.username}' left the chat`;
    case "online_users":
      return `Online: ${event.content.replaceAll(",", ", ")}`;
    case "error":
      // The reason for a kick is another person's text.
      return `Error: ${indent(event.content)}`;
    case "pong":
      return "Pong";
    case "history":
      return event.messages.map(encodeLine).join("\n");
    default:
      return undefined;
  }
}

/**
 * Indents all lines but the first, so that no line of a text looks like another person's message. A
 * line ends at every line, paragraph and page break of Unicode (UAX #14).
 */
function indent(content: string): string {
  return content.replace(/\r\n|[\n\v\f\r\x85\u2028\u2029]/g, "\n  ");
}

/** Maximum bytes of a frame or a chunk with several events. */
const MAX_BATCH_BYTES = 64 * 1024;

/**
 * Puts the texts of `chat.v1` events into as few frames as possible: a single event stands alone,
 * several form an array, and no array is longer than 64 KiB.
 */
export function frameEvents(texts: readonly string[]): string[] {
  if (texts.length === 1) return [texts[0]!];
  const frames: string[] = [];
  let start = 0;
  let length = 2;
  for (let i = 0; i < texts.length; i++) {
    const next = Buffer.byteLength(texts[i]!) + 1;
    if (i > start && length + next > MAX_BATCH_BYTES) {
      frames.push(frameOf(texts, start, i));
      start = i;
      length = 2;
    }
    length += next;
  }
  if (start < texts.length) frames.push(frameOf(texts, start, texts.length));
  return frames;
}

/**
 * Puts the messages of an event stream into as few chunks as possible: no chunk of several messages
 * is longer than 64 KiB.
 */
export function chunkMessages(texts: readonly string[]): string[] {
  const chunks: string[] = [];
  let chunk = "";
  let bytes = 0;
  for (const text of texts) {
    const next = Buffer.byteLength(text);
    if (chunk !== "" && bytes + next > MAX_BATCH_BYTES) {
      chunks.push(chunk);
      chunk = "";
      bytes = 0;
    }
    chunk += text;
    bytes += next;
  }
  return chunk === "" ? chunks : [...chunks, chunk];
}

/**
 * Appends events to frames. The given frames stay as they are: other subscribers receive them too.
 */
export function extendFrames(frames: readonly string[], texts: readonly string[]): string[] {
  const last = frames.at(-1);
  if (last === undefined) return frameEvents(texts);
  const body = last.startsWith("[") ? last.slice(1, -1) : last;
  const longer = `[${body},${texts.join(",")}]`;
  if (isLongerThan(longer, MAX_BATCH_BYTES)) return [...frames, ...frameEvents(texts)];
  return [...frames.slice(0, -1), longer];
}

function frameOf(texts: readonly string[], start: number, end: number): string {
  return end - start === 1 ? texts[start]! : `[${texts.slice(start, end).join(",")}]`;
}

/** Whether a text has more UTF-8 bytes than `limit`. A UTF-16 unit takes one to three bytes. */
export function isLongerThan(text: string, limit: number): boolean {
  if (text.length * 3 <= limit) return false;
  return text.length > limit || Buffer.byteLength(text) > limit;
}
