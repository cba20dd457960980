/** A reader of Server-Sent Events for tests: records every event, and waits for some. */

import { AssertionError } from "@std/assert";
import type { Event, WelcomeEvent } from "../../lib/protocol/events.ts";
import type { Where } from "./people.ts";

/** Maximum wait for an expected event, in milliseconds. */
const PATIENCE_MS = 20_000;

/** One message of a stream, field by field. */
export interface Message {
  /** The lines of each field, joined by line breaks; absent without one. */
  readonly id?: string;
  readonly event?: string;
  readonly data?: string;
  readonly retry?: string;
  /** The text of a comment. */
  readonly comment?: string;
}

/** The options of {@linkcode StreamReader.open}. */
export interface StreamOptions {
  query?: Record<string, string>;
  headers?: Record<string, string>;
}

type Kind<T extends Event["type"]> = Extract<Event, { type: T }>;

/** Reads one message by HTML, section 9.2.6. The server ends every line with LF. */
function readMessage(block: string): Message {
  const fields: Record<string, string> = {};
  for (const line of block.split("\n")) {
    const [, name = "", value = ""] = /^([^:]*):? ?(.*)$/s.exec(line)!;
    const field = name === "" ? "comment" : name;
    fields[field] = field in fields ? `${fields[field]}\n${value}` : value;
  }
  return fields;
}

export class StreamReader implements AsyncDisposable {
  /** Every message so far. */
  readonly messages: Message[] = [];
  readonly response: Response;
  readonly #reader: ReadableStreamDefaultReader<string>;
  readonly #stop: AbortController;
  #text = "";
  #read = 0;
  #isOver = false;

  private constructor(response: Response, stop: AbortController) {
    this.response = response;
    this.#stop = stop;
    this.#reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Opens a stream of a room. Throws, with status and sentence, if the server refuses. */
  static async open(
    server: Pick<Where, "url">,
    room: string,
    { query = {}, headers = {} }: StreamOptions = {},
  ): Promise<StreamReader> {
    const stop = new AbortController();
    const address = `${server.url}/api/rooms/${room}/events?${new URLSearchParams(query)}`;
    const response = await fetch(address, { headers, signal: stop.signal });
    if (response.ok) return new StreamReader(response, stop);
    throw new AssertionError(`${response.status} ${(await response.json()).error}`);
  }

  /** Opens a stream and reads its welcome. */
  static async join(
    server: Pick<Where, "url">,
    room: string,
    options: StreamOptions = {},
  ): Promise<StreamReader & { welcome: WelcomeEvent }> {
    const reader = await StreamReader.open(server, room, options);
    return Object.assign(reader, { welcome: await reader.nextOf("welcome") });
  }

  /** The next unread message; `undefined` at the end of the stream. */
  async next(): Promise<Message | undefined> {
    while (this.#read === this.messages.length && !this.#isOver) await this.#receive();
    return this.messages[this.#read++];
  }

  /** The next message with an event of a type, skipping others. */
  async nextMessage<T extends Event["type"]>(
    type: T,
    isWanted: (event: Kind<T>) => boolean = () => true,
  ): Promise<{ id: string | undefined; event: Kind<T> }> {
    while (true) {
      const message = await this.next();
      if (message === undefined) throw new AssertionError(`The stream ended before a ${type}.`);
      if (message.data === undefined || message.event !== undefined) continue;
      const event = JSON.parse(message.data);
      if (event.type === type && isWanted(event)) return { id: message.id, event };
    }
  }

  /** The next event of a type. */
  async nextOf<T extends Event["type"]>(
    type: T,
    isWanted: (event: Kind<T>) => boolean = () => true,
  ): Promise<Kind<T>> {
    return (await this.nextMessage(type, isWanted)).event;
  }

  /** Reads to the end of the stream. Returns the server's reason. */
  async end(): Promise<{ code: number; reason: string } | undefined> {
    let message: Message | undefined;
    let last: Message | undefined;
    while ((message = await this.next()) !== undefined) last = message;
    return last?.event === "close" ? JSON.parse(last.data!) : undefined;
  }

  /** The events of a type so far, read or not. */
  all<T extends Event["type"]>(type: T): Kind<T>[] {
    return this.messages.filter(({ data, event }) => data !== undefined && event === undefined)
      .map(({ data }) => JSON.parse(data!)).filter((event) => event.type === type);
  }

  /** Disconnects. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#reader.cancel().catch(() => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #receive(): Promise<void> {
    const timer = setTimeout(() => this.#stop.abort(), PATIENCE_MS);
    try {
      const { value, done } = await this.#reader.read();
      this.#isOver = done;
      const blocks = (this.#text + (value ?? "")).split("\n\n");
      this.#text = blocks.pop()!;
      this.messages.push(...blocks.map(readMessage));
    } finally {
      clearTimeout(timer);
    }
  }
}
