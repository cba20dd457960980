/**
 * EngineEvent within one process: who listens to a room, who is present in it, and until when an instance
 * that is not heard of counts as alive.
 *
 * An engine whose listeners are all in its own process (memory, SQLite) is this and a log.
 *
 * @module
 */

import { nameInUse, restarting } from "../errors.ts";
import { nameKey } from "../names.ts";
import type { EngineEvent, LiveEngine, Presence, Subscriber } from "./engine.ts";

/** What {@linkcode LocalBus} needs. */
export interface LocalBusOptions {
  /** The time in milliseconds. */
  readonly clock: () => number;
  /** How long an instance counts as alive after it was last heard of, in milliseconds. */
  readonly leaseMs: number;
}

/** Who is present in one room. */
interface Attendance {
  /** By connection, in order of entering. */
  readonly present: Map<string, Presence>;
  /** Who holds each name, by `nameKey`, and through how many connections. */
  readonly holders: Map<string, { person: string; connections: number }>;
}

/** Subscribers, presence and leases, within one process. */
export class LocalBus implements LiveEngine {
  readonly #options: LocalBusOptions;
  readonly #subscribers = new Map<string, Set<Subscriber>>();
  readonly #rooms = new Map<string, Attendance>();
  /** When each instance's lease runs out. */
  readonly #leases = new Map<string, number>();
  #isClosed = false;

  constructor(options: LocalBusOptions) {
    this.#options = options;
  }

  subscribe(room: string, subscriber: Subscriber): () => void {
    const subscribers = this.#subscribers.get(room) ?? new Set();
    this.#subscribers.set(room, subscribers.add(subscriber));
    return () => {
      subscribers.delete(subscriber);
      if (subscribers.size === 0 && this.#subscribers.get(room) === subscribers) {
        this.#subscribers.delete(room);
      }
    };
  }

  /** Whether anybody listens to a room. */
  hasSubscribers(room: string): boolean {
    return this.#subscribers.has(room);
  }

  /** Hands news to a room's subscribers, before it returns. */
  publish(room: string, news: EngineEvent): Promise<void> {
    if (this.#isClosed) return Promise.reject(restarting());
    for (const subscriber of this.#subscribers.get(room) ?? []) subscriber(news);
    return Promise.resolve();
  }

  enter(room: string, presence: Presence): Promise<void> {
    if (this.#isClosed) return Promise.reject(restarting());
    const { present, holders } = this.#rooms.get(room) ??
      { present: new Map<string, Presence>(), holders: new Map() };
    const key = nameKey(presence.username);
    const holder = holders.get(key) ?? { person: presence.person, connections: 0 };
    if (holder.person !== presence.person) {
      return Promise.reject(nameInUse());
    }
    holder.connections++;
    holders.set(key, holder);
    present.set(presence.connection, presence);
    this.#rooms.set(room, { present, holders });
    if (!this.#leases.has(presence.instance)) this.#extend(presence.instance);
    return this.publish(room, { type: "entered", presence });
  }

  leave(room: string, connection: string): Promise<void> {
    if (this.#isClosed) return Promise.reject(restarting());
    const attendance = this.#rooms.get(room);
    const presence = attendance?.present.get(connection);
    if (attendance === undefined || presence === undefined) return Promise.resolve();
    attendance.present.delete(connection);
    if (attendance.present.size === 0) this.#rooms.delete(room);
    const key = nameKey(presence.username);
    const holder = attendance.holders.get(key)!;
    if (--holder.connections === 0) attendance.holders.delete(key);
    return this.publish(room, { type: "left", presence });
  }

  present(room: string): Promise<Presence[]> {
    if (this.#isClosed) return Promise.reject(restarting());
    return Promise.resolve([...this.#rooms.get(room)?.present.values() ?? []]);
  }

  renew(instance: string): Promise<void> {
    if (this.#isClosed) return Promise.reject(restarting());
    this.#extend(instance);
    const now = this.#options.clock();
    for (const [other, until] of this.#leases) {
      if (until < now) this.#expire(other);
    }
    return Promise.resolve();
  }

  /** Whether it was ended. */
  protected get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Does something at once. What it throws is a rejection, and so is everything after the end. */
  protected attempt<T>(act: () => T): Promise<T> {
    if (this.#isClosed) return Promise.reject(restarting());
    try {
      return Promise.resolve(act());
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Ends it. Every later call is rejected. */
  close(): Promise<void> {
    this.#isClosed = true;
    return Promise.resolve();
  }

  #extend(instance: string): void {
    this.#leases.set(instance, this.#options.clock() + this.#options.leaseMs);
  }

  #expire(instance: string): void {
    this.#leases.delete(instance);
    for (const [room, { present }] of this.#rooms) {
      for (const presence of present.values()) {
        if (presence.instance === instance) this.leave(room, presence.connection);
      }
    }
  }
}
