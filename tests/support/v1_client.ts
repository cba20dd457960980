/** A `chat.v1` client for tests: splits frames, records every event, and waits for some. */

import { AssertionError } from "@std/assert";
import { SUBPROTOCOL } from "../../lib/protocol/encode.ts";
import type { Event, WelcomeEvent } from "../../lib/protocol/events.ts";
import { Client, type Closed } from "./client.ts";

/** Settings of a connection. */
export interface V1Options {
  session?: string;
  epoch?: string;
  after?: number;
  inbox?: number;
  /** @default true */
  echo?: boolean;
}

type Kind<T extends Event["type"]> = Extract<Event, { type: T }>;

export class V1Client implements AsyncDisposable {
  /** Every event so far, in order. */
  readonly events: Event[] = [];
  /** The count of their frames. */
  frames = 0;
  /** Bytes received, for ASCII. */
  bytes = 0;
  readonly #client: Client;
  #read = 0;
  #refs = 0;

  private constructor(client: Client) {
    this.#client = client;
  }

  /** Connects to a complete address. */
  static async connect(url: string): Promise<V1Client> {
    return new V1Client(await Client.connect(url, [SUBPROTOCOL]));
  }

  /** Joins a room and reads its welcome. */
  static async join(
    ws: string,
    room: string,
    username: string,
    options: V1Options = {},
  ): Promise<V1Client & { welcome: WelcomeEvent }> {
    const query = new URLSearchParams({ username });
    for (const [name, value] of Object.entries(options)) {
      query.set(name, value === false ? "0" : String(value));
    }
    const client = await V1Client.connect(`${ws}/ws/${room}?${query}`);
    const welcome = await client.nextOf("welcome");
    return Object.assign(client, { welcome });
  }

  get socket(): WebSocket {
    return this.#client.socket;
  }

  get closed(): Promise<Closed> {
    return this.#client.closed;
  }

  /** Sends a command. */
  send(command: { type: string; [field: string]: unknown }): void {
    this.#client.send(JSON.stringify(command));
  }

  /** Sends a command and waits for its answer: an event with its `ref`. */
  async ask(command: { type: string; [field: string]: unknown }): Promise<Event> {
    const ref = `ask-${++this.#refs}`;
    this.send({ ...command, ref });
    const isAnswer = ({ type }: Event) => type !== "chat" && type !== "dm";
    return await this.next((event) => isAnswer(event) && "ref" in event && event.ref === ref);
  }

  /** The next unread event that satisfies `isWanted`, skipping others. */
  async next(isWanted: (event: Event) => boolean = () => true): Promise<Event> {
    while (true) {
      while (this.#read < this.events.length) {
        const event = this.events[this.#read++]!;
        if (isWanted(event)) return event;
      }
      await this.#receive();
    }
  }

  /** The next event of a type. */
  async nextOf<T extends Event["type"]>(
    type: T,
    isWanted: (event: Kind<T>) => boolean = () => true,
  ): Promise<Kind<T>> {
    return await this.next((event) => event.type === type && isWanted(event as Kind<T>)) as Kind<T>;
  }

  /** Like {@linkcode nextOf}, but leaves the event unread. */
  async peek<T extends Event["type"]>(
    type: T,
    isWanted: (event: Kind<T>) => boolean = () => true,
  ): Promise<Kind<T>> {
    const read = this.#read;
    const event = await this.nextOf(type, isWanted);
    this.#read = read;
    return event;
  }

  /** The events of a type so far, read or not. */
  all<T extends Event["type"]>(type: T): Kind<T>[] {
    return this.events.filter((event): event is Kind<T> => event.type === type);
  }

  async close(code = 1000): Promise<Closed> {
    return await this.#client.close(code);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #receive(): Promise<void> {
    const text = await this.#client.nextText();
    const frame = JSON.parse(text);
    this.frames++;
    this.bytes += text.length;
    if (Array.isArray(frame)) {
      if (frame.length < 2) throw new AssertionError("An array holds at least two events.");
      this.events.push(...frame);
    } else this.events.push(frame);
  }
}
