/**
 * What is remembered: the log of every room, and how its news reaches the hub.
 *
 * A message is appended to its room's log, and the log tells its subscribers. There is no other
 * way from a sender to a room, so what people saw and what is stored can never differ.
 *
 * @module
 */

import type { ChatEvent } from "./protocol.ts";

/** A message before the log gives it its place. */
export interface Draft {
  readonly username: string;
  readonly content: string;
  /** Which connection it came from; handed on to subscribers, not stored. */
  readonly origin: string;
}

/** Is told of every new event of one room, in order of `seq`, and which connection it came from. */
export type Subscriber = (event: ChatEvent, origin: string) => void;

/** A store of room logs. */
export interface Engine {
  /**
   * Adds a message to the end of a room's log and tells the room's subscribers.
   * Calls take effect in the order in which they are made.
   *
   * @returns the event, once it is stored
   */
  append(room: string, draft: Draft): Promise<ChatEvent>;

  /** The newest events of a room, oldest first, at most `limit`. */
  latest(room: string, limit: number): Promise<ChatEvent[]>;

  /**
   * Tells of every event appended from now on.
   *
   * @returns ends the subscription
   */
  subscribe(room: string, subscriber: Subscriber): () => void;
}

/** What {@linkcode MemoryEngine} needs. */
export interface MemoryEngineOptions {
  /** The time in milliseconds. */
  readonly clock: () => number;
  /** A new id, unique for ever. */
  readonly newId: () => string;
  /** Events kept per room. */
  readonly keep: number;
  /** Rooms remembered; the one not written to for the longest is forgotten first. */
  readonly maxRooms: number;
}

interface RoomLog {
  events: ChatEvent[];
  lastSeq: number;
  lastTime: number;
}

/** Remembers in this process, until it ends. */
export class MemoryEngine implements Engine {
  readonly #options: MemoryEngineOptions;
  /** Least recently written first. */
  readonly #logs = new Map<string, RoomLog>();
  readonly #subscribers = new Map<string, Set<Subscriber>>();

  constructor(options: MemoryEngineOptions) {
    this.#options = options;
  }

  append(room: string, draft: Draft): Promise<ChatEvent> {
    const log = this.#touch(room);
    log.lastTime = Math.max(log.lastTime, this.#options.clock());
    const event: ChatEvent = {
      type: "chat",
      content: draft.content,
      room,
      username: draft.username,
      id: this.#options.newId(),
      seq: ++log.lastSeq,
      timestamp: new Date(log.lastTime).toISOString(),
    };
    log.events.push(event);
    // Trimmed in batches: shifting an array by one on every message would cost its length.
    if (log.events.length >= 2 * this.#options.keep) {
      log.events = this.#newest(log, this.#options.keep);
    }
    for (const subscriber of this.#subscribers.get(room) ?? []) subscriber(event, draft.origin);
    return Promise.resolve(event);
  }

  latest(room: string, limit: number): Promise<ChatEvent[]> {
    const log = this.#logs.get(room);
    return Promise.resolve(log ? this.#newest(log, Math.min(limit, this.#options.keep)) : []);
  }

  subscribe(room: string, subscriber: Subscriber): () => void {
    const subscribers = this.#subscribers.get(room) ?? new Set();
    this.#subscribers.set(room, subscribers.add(subscriber));
    return () => {
      subscribers.delete(subscriber);
      if (subscribers.size === 0) this.#subscribers.delete(room);
    };
  }

  #newest(log: RoomLog, count: number): ChatEvent[] {
    return log.events.slice(Math.max(0, log.events.length - count));
  }

  /** The room's log, made if need be, and now the most recently written. */
  #touch(room: string): RoomLog {
    const log = this.#logs.get(room) ?? { events: [], lastSeq: 0, lastTime: 0 };
    this.#logs.delete(room);
    this.#logs.set(room, log);
    if (this.#logs.size > this.#options.maxRooms) {
      const [oldest] = this.#logs.keys();
      this.#logs.delete(oldest!);
    }
    return log;
  }
}
