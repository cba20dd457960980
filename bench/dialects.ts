/**
 * The protocol of each kind of server. All servers get the same texts, in different frames.
 *
 * A text is `~`, the time in microseconds (9 digits), the sender's number (5 digits), and words. No
 * server writes a `~` itself, so the load finds texts in received data without parsing JSON.
 *
 * @module
 */

import { clientFrame } from "./websocket.ts";

/** The byte in front of the fields: `~`. */
export const MARKER = 126;
const TIME_DIGITS = 9;
const SENDER_DIGITS = 5;
/** Bytes of the marker and its fields. */
export const FIELDS = 1 + TIME_DIGITS + SENDER_DIGITS;

const WORDS = "the quick brown fox jumps over the lazy dog ";
/** Each character takes three bytes. */
const CHINESE_WORDS = "天地玄黃宇宙洪荒日月盈昃辰宿列張";
const CHINESE_BYTES = 3;

/** A text of this many bytes, or up to two fewer if it is Chinese. */
export function words(bytes: number, isChinese = false): string {
  const length = Math.max(0, Math.floor(isChinese ? bytes / CHINESE_BYTES : bytes));
  const text = isChinese ? CHINESE_WORDS : WORDS;
  return text.repeat(Math.ceil(length / text.length)).slice(0, length);
}

/** The protocol of one kind of server. */
export interface Dialect {
  /** The path that a client connects to. */
  path(room: string, username: string): string;
  readonly subprotocol?: string;
  /** The frame around a text, and around a `ref` that differs each time. */
  message(text: string, ref: string): string;
  /** The packet that asks to join, after the server's first frame. */
  readonly hello?: string;
  /** The answer to a text frame that asks whether the client is alive. */
  readonly heartbeat?: { readonly asks: string; readonly answer: string };
}

export type DialectName = keyof typeof DIALECTS;

const chatPath = (room: string, username: string) => `/ws/${room}?username=${username}`;

export const DIALECTS = {
  /** The tutorials' client: text in, one JSON object a frame out. */
  plain: { path: chatPath, message: (text) => text } as Dialect,
  /** `chat.v1`, with a `ref`, so that each message is acknowledged. */
  v1: {
    path: chatPath,
    subprotocol: "chat.v1",
    message: (content, ref) => JSON.stringify({ type: "chat", content, ref }),
  } as Dialect,
  /**
   * Socket.IO over its WebSocket transport: packets of Engine.IO 4, in JSON behind a digit or two.
   */
  socketio: {
    path: (room, username) =>
      `/socket.io/?EIO=4&transport=websocket&room=${room}&username=${username}`,
    message: (text) => `42${JSON.stringify(["chat", text])}`,
    hello: "40",
    heartbeat: { asks: "2", answer: "3" },
  } as Dialect,
} as const;

/** The names of rooms and clients. All are equally long, so all frames are too. */
export const roomName = (room: number) => `r${digits(room, SENDER_DIGITS)}`;
export const clientName = (client: number) => `u${digits(client, SENDER_DIGITS)}`;

const REF_DIGITS = 8;

/** The message that one client sends. It is made once; after that only its digits change. */
export class Message {
  /** The whole frame. */
  readonly frame: Uint8Array;
  readonly #timeAt: number;
  readonly #refAt: number;
  #count = 0;

  constructor(dialect: Dialect, sender: number, contentBytes: number, isChinese: boolean) {
    const fields = "~" + "0".repeat(TIME_DIGITS) + digits(sender, SENDER_DIGITS);
    const ref = "#".repeat(REF_DIGITS);
    const text = fields + words(contentBytes - fields.length, isChinese);
    this.frame = clientFrame(dialect.message(text, ref));
    this.#timeAt = this.frame.indexOf(MARKER) + 1;
    this.#refAt = this.frame.indexOf("#".charCodeAt(0));
  }

  /** Turns it into the next message, sent at this time. */
  setTime(time: number): void {
    setDigits(this.frame, this.#timeAt, time, TIME_DIGITS);
    if (this.#refAt >= 0) setDigits(this.frame, this.#refAt, this.#count++, REF_DIGITS);
  }
}

/** The time in the fields that begin at `marker`. */
export function timeAt(data: Uint8Array, marker: number): number {
  let time = 0;
  for (let i = marker + 1; i <= marker + TIME_DIGITS; i++) time = time * 10 + data[i]! - 48;
  return time;
}

/** The sender in the fields that begin at `marker`. */
export function senderAt(data: Uint8Array, marker: number): number {
  let sender = 0;
  const first = marker + 1 + TIME_DIGITS;
  for (let i = first; i < first + SENDER_DIGITS; i++) sender = sender * 10 + data[i]! - 48;
  return sender;
}

function digits(value: number, count: number): string {
  return String(value).padStart(count, "0");
}

function setDigits(data: Uint8Array, at: number, value: number, count: number): void {
  for (let i = at + count - 1; i >= at; i--) {
    data[i] = 48 + value % 10;
    value = Math.floor(value / 10);
  }
}
