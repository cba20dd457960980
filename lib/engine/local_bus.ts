/**
 * Subscribers, presence and leases within one process.
 *
 * The memory engine and the SQLite engine use it. Every call takes effect before it returns.
 *
 * @module
 */

import { nameInUse } from "../errors.ts";
import { nameKey } from "../names.ts";
import type { EngineEvent, EngineListener, Presence } from "./engine.ts";

/** What {@linkcode LocalBus} needs. */
export interface LocalBusOptions {
  /** The time in milliseconds. */
  readonly clock: () => number;
  /** How long an instance counts as alive after its last renewal, in milliseconds. */
  readonly leaseMs: number;
}

/** A presence, and the instance that holds its connection. */
interface Holding {
  readonly presence: Presence;
  readonly instance: string;
}

/** The presences of one room. */
interface Attendance {
  /** By connection, in order of entering. */
  readonly holdings: Map<string, Holding>;
  /** The holder of each name, by `nameKey`, and the number of its connections. */
  readonly holders: Map<string, { readonly person: string; connections: number }>;
}

/** Subscribers, presence and leases within one process. */
export class LocalBus {
  readonly #options: LocalBusOptions;
  readonly #subscribers = new Map<string, Set<EngineListener>>();
  readonly #rooms = new Map<string, Attendance>();
  /** The end of each instance's lease, in milliseconds. */
  readonly #leases = new Map<string, number>();
  /** Events that subscribers published while another event was being handed out. */
  readonly #waiting: { readonly room: string; readonly event: EngineEvent }[] = [];
  #isPublishing = false;
  #position = 0;

  constructor(options: LocalBusOptions) {
    this.#options = options;
  }

  /** The position of the newest change of presence in any room. */
  get position(): number {
    return this.#position;
  }

  /**
   * Hands every event of a room to a subscriber.
   *
   * @returns a function that ends the subscription; a repeat does nothing
   */
  subscribe(room: string, subscriber: EngineListener): () => void {
    const subscribers = this.#subscribers.get(room) ?? new Set();
    this.#subscribers.set(room, subscribers.add(subscriber));
    return () => {
      subscribers.delete(subscriber);
      if (subscribers.size === 0 && this.#subscribers.get(room) === subscribers) {
        this.#subscribers.delete(room);
      }
    };
  }

  /** Whether a room has a subscriber. */
  hasSubscribers(room: string): boolean {
    return this.#subscribers.has(room);
  }

  /**
   * Hands an event to the subscribers of a room. An event that a subscriber publishes meanwhile
   * comes next, so that all subscribers hear the same order.
   */
  publish(room: string, event: EngineEvent): void {
    if (this.#isPublishing) {
      this.#waiting.push({ room, event });
      return;
    }
    this.#isPublishing = true;
    try {
      this.#tell(room, event);
      // Subscribers may extend the list during this loop.
      for (const next of this.#waiting) this.#tell(next.room, next.event);
    } finally {
      this.#waiting.length = 0;
      this.#isPublishing = false;
    }
  }

  /**
   * Makes a connection of an instance present, which the room hears as `entered`.
   *
   * @returns the position of the `entered` event
   * @throws {ChatError} `name_in_use` if another person is present under the name
   */
  enter(instance: string, room: string, presence: Presence): number {
    const attendance: Attendance = this.#rooms.get(room) ??
      { holdings: new Map(), holders: new Map() };
    const key = nameKey(presence.username);
    const holder = attendance.holders.get(key) ?? { person: presence.person, connections: 0 };
    if (holder.person !== presence.person) throw nameInUse();
    holder.connections++;
    attendance.holders.set(key, holder);
    attendance.holdings.set(presence.connection, { presence, instance });
    this.#rooms.set(room, attendance);
    if (!this.#leases.has(instance)) this.#extend(instance);
    const position = ++this.#position;
    this.publish(room, { type: "entered", presence, position });
    return position;
  }

  /** Ends a presence of an instance, which the room hears as `left`. A repeat does nothing. */
  leave(instance: string, room: string, connection: string): void {
    const attendance = this.#rooms.get(room);
    const holding = attendance?.holdings.get(connection);
    if (attendance === undefined || holding?.instance !== instance) return;
    const { presence } = holding;
    attendance.holdings.delete(connection);
    if (attendance.holdings.size === 0) this.#rooms.delete(room);
    const key = nameKey(presence.username);
    const holder = attendance.holders.get(key)!;
    if (--holder.connections === 0) attendance.holders.delete(key);
    this.publish(room, { type: "left", presence, position: ++this.#position });
  }

  /** The presences of a room, in order of entering. */
  present(room: string): Presence[] {
    const holdings = this.#rooms.get(room)?.holdings.values() ?? [];
    return Array.from(holdings, ({ presence }) => presence);
  }

  /** Extends the lease of an instance, and ends the instances whose lease has expired. */
  renew(instance: string): void {
    this.#extend(instance);
    const now = this.#options.clock();
    for (const [other, until] of this.#leases) {
      if (until < now) this.end(other);
    }
  }

  /** Ends the lease and all presences of an instance. */
  end(instance: string): void {
    // An instance without a lease has no presences.
    if (!this.#leases.delete(instance)) return;
    for (const [room, { holdings }] of this.#rooms) {
      for (const connection of holdings.keys()) this.leave(instance, room, connection);
    }
  }

  #tell(room: string, event: EngineEvent): void {
    for (const subscriber of this.#subscribers.get(room) ?? []) subscriber(event);
  }

  #extend(instance: string): void {
    this.#leases.set(instance, this.#options.clock() + this.#options.leaseMs);
  }
}
