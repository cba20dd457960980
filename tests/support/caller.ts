/** The client module in tests: with a fake clock and network, and against a server. */

import type { Event } from "../../lib/protocol/events.ts";
import { Connection } from "../../public/connection.js";
import type { ConnectionOptions, ConnectionState, Surroundings } from "../../public/connection.js";
import type { Told } from "../../public/inbox.js";
import type { Outgoing } from "../../public/outbox.js";

/** Maximum wait for an expected event, in milliseconds. */
const PATIENCE_MS = 20_000;

export type ToldOf<T extends Event["type"]> = Extract<Told, { type: T }>;

/** A connection that records its events and waits for some. It opens at once. */
export class Caller implements AsyncDisposable {
  readonly connection: Connection;
  /** All events, in order. */
  readonly story: (ConnectionState | Told | Outgoing)[] = [];
  readonly gaps: { isNewLife: boolean }[] = [];
  #wake = () => {};

  constructor(
    { url }: { url: string },
    options: Partial<ConnectionOptions> = {},
    around: Partial<Surroundings> = {},
  ) {
    const who = { base: url, room: "tea", username: "Ada", ...options };
    this.connection = new Connection(who, around);
    const tell = (...entries: (ConnectionState | Told | Outgoing)[]) => {
      this.story.push(...entries);
      this.#wake();
    };
    this.connection.on("state", tell);
    this.connection.on("events", (events) => tell(...events));
    this.connection.on("outgoing", tell);
    this.connection.on("gap", (gap) => this.gaps.push(gap));
    this.connection.open();
  }

  get events(): Told[] {
    return this.story.filter((entry): entry is Told => "type" in entry);
  }

  chats(): ToldOf<"chat">[] {
    return this.events.filter((event): event is ToldOf<"chat"> => event.type === "chat");
  }

  whispers(): ToldOf<"dm">[] {
    return this.events.filter((event): event is ToldOf<"dm"> => event.type === "dm");
  }

  async until(isSo: () => boolean): Promise<void> {
    const stop = AbortSignal.timeout(PATIENCE_MS);
    stop.onabort = () => this.#wake();
    while (!isSo()) {
      if (stop.aborted) throw new Error(`In vain: ${isSo}. ${JSON.stringify(this.story)}`);
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    stop.onabort = null;
  }

  async reaches(state: ConnectionState["state"]): Promise<ConnectionState> {
    await this.until(() => this.connection.state.state === state);
    return this.connection.state;
  }

  async live(): Promise<void> {
    await this.reaches("live");
  }

  async hears<T extends Event["type"]>(
    type: T,
    isWanted: (event: ToldOf<T>) => boolean = () => true,
  ): Promise<void> {
    await this.until(() =>
      this.events.some((event) => event.type === type && isWanted(event as ToldOf<T>))
    );
  }

  async said(content: string): Promise<void> {
    await this.hears("chat", (event) => event.content === content);
  }

  async whispered(content: string): Promise<void> {
    await this.hears("dm", (event) => event.content === content);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.connection.close();
  }
}

/** A fake network and clock for one connection. No jitter. */
export class World {
  now = 0;
  url = "";
  /** The value of `random()`. */
  luck = 1;
  sent: Record<string, unknown>[] = [];
  /** The answer to the request for a reason; `undefined` without a network. */
  answer: Response | undefined;
  /** The answer to the request for a stream. */
  streamAnswer: Response | undefined;
  /** The opened and requested addresses. */
  readonly calls: string[] = [];
  readonly connection: Connection;
  #events: Told[] = [];
  #timers = new Map<number, { task: () => void; delayMs: number; due: number }>();
  #lastTimer = 0;
  #socket = {} as WebSocket;
  #refs = 0;

  constructor(who: { username?: string; token?: string } = { username: "Ada" }) {
    const options = { base: "http://chat.example/", room: "tea", ...who };
    this.connection = new Connection(options, {
      openSocket: (url) => {
        this.url = url;
        this.calls.push(url);
        const socket = {
          readyState: 1,
          send: (text: string) => this.sent.push(JSON.parse(text)),
          close: () => {},
        };
        return this.#socket = socket as unknown as WebSocket;
      },
      fetch: (url) => {
        this.calls.push(url);
        const answer = url.includes("/api/") ? this.streamAnswer : this.answer;
        return answer ? Promise.resolve(answer.clone()) : Promise.reject(new Error("No network"));
      },
      setTimeout: (task, delayMs) => {
        this.#timers.set(++this.#lastTimer, { task, delayMs, due: this.now + delayMs });
        return this.#lastTimer;
      },
      clearTimeout: (timer) => this.#timers.delete(timer),
      now: () => this.now,
      random: () => this.luck,
      newRef: () => `ref-${++this.#refs}`,
    });
    this.connection.on("events", (events) => this.#events.push(...events));
  }

  /** The next timer. */
  nextTimer() {
    return [...this.#timers.values()].reduce((a, b) => b.due < a.due ? b : a);
  }

  /** Runs the next timer. */
  ring(): void {
    const next = this.nextTimer();
    for (const [id, timer] of this.#timers) if (timer === next) this.#timers.delete(id);
    this.now = Math.max(this.now, next.due);
    next.task();
  }

  /** Advances the clock. */
  pass(ms: number): void {
    const until = this.now + ms;
    while (this.#timers.size > 0 && this.nextTimer().due <= until) this.ring();
    this.now = until;
  }

  data(data: unknown): void {
    this.#socket.onmessage?.({ data } as MessageEvent);
  }

  frame(events: object | object[]): void {
    const base = { content: "", room: "tea", username: "" };
    const all = [events].flat().map((event) => ({ ...base, ...event }));
    this.data(JSON.stringify(all.length === 1 ? all[0] : all));
  }

  welcome(fields: object = {}): void {
    const numbers = { session: "s", epoch: "e", seq: 0, inbox_seq: 0, recovered: false };
    const limits = { max_message_bytes: 4096, max_frame_bytes: 16384 };
    const users = [{ username: "Ada", connections: 1 }];
    const who = { username: "Ada", users, online: 1 };
    this.frame({ type: "welcome", ...numbers, ...who, limits, ...fields });
  }

  /** The numbers of the emitted events of a type. */
  told(type: string): unknown[] {
    const found = this.#events.filter((event) => event.type === type) as unknown as {
      seq?: number;
      inbox_seq?: number;
    }[];
    return found.map((event) => event.seq ?? event.inbox_seq);
  }

  /** Closes the socket from the server's side; resolves when the connection has reacted. */
  async closeSocket(code: number): Promise<void> {
    const decided = this.decides();
    this.#socket.onclose?.({ code } as CloseEvent);
    await decided;
  }

  /** Fails the socket; resolves when the connection has given up this attempt on both ways. */
  async fails(): Promise<void> {
    const over = this.decides(({ state }) => state !== "connecting");
    this.#socket.onclose?.({ code: 1006 } as CloseEvent);
    await over;
  }

  /** Resolves at the next change of state. */
  async decides(isOver: (state: ConnectionState) => boolean = () => true): Promise<void> {
    const decided = Promise.withResolvers<void>();
    const stop = this.connection.on("state", (state) => isOver(state) && decided.resolve());
    await decided.promise;
    stop();
  }
}

export function chat(seq: number) {
  return { type: "chat", content: `${seq}`, username: "Grace", id: `m${seq}`, seq, timestamp: "" };
}

export function dm(inbox_seq: number) {
  const base = { type: "dm", content: "hi", username: "Grace", to: "Ada", timestamp: "" };
  return { ...base, id: `d${inbox_seq}`, inbox_seq };
}
