/**
 * Subscribers, presence and leases within one process.
 *
 * The memory engine and the SQLite engine use it. Every call takes effect before it returns.
 *
 * @module
 */

import { nameInUse } from "../errors.ts";
import { nameKey } from "../names.ts";
import type { Author, EngineEvent, EngineListener, Presence } from "./engine.ts";

/** What {@linkcode LocalBus} needs. */
export interface LocalBusOptions {
  /** The time in milliseconds. */
  readonly clock: () => number;
  /** How long an instance counts as alive after its last renewal, in milliseconds. */
  readonly leaseMs: number;
}

/** How long a user can be found after it has left, in milliseconds. */
export const REACHABLE_MS = 10 * 60 * 1000;

/** Maximum users that can be found after they have left. */
const MAX_DEPARTURES = 100_000;

/** A user that has left a room. */
export interface Departure extends Author {
  readonly room: string;
  /** When it left, in milliseconds. */
  readonly ended: number;
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
  readonly holders: Map<string, Author & { connections: number }>;
}

/** Subscribers, presence and leases within one process. */
export class LocalBus {
  readonly #options: LocalBusOptions;
  readonly #subscribers = new Map<string, Set<EngineListener>>();
  readonly #rooms = new Map<string, Attendance>();
  /** Users that have left, by room and `nameKey`, in order of leaving. */
  readonly #departures = new Map<string, Departure>();
  /** The end of each instance's lease, in milliseconds. */
  readonly #leases = new Map<string, number>();
  /** Events that subscribers published during another publication. */
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
   * Passes every event of a room to a subscriber.
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
   * Passes an event to the subscribers of a room. An event that a subscriber publishes meanwhile
   * comes next, so that all subscribers receive the same order.
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
   * Makes a connection of an instance present: the room receives `entered`.
   *
   * @returns the position of the `entered` event
   * @throws {ChatError} `name_in_use` if another person is present with this name
   */
  enter(instance: string, room: string, presence: Presence): number {
    const attendance: Attendance = this.#rooms.get(room) ??
      { holdings: new Map(), holders: new Map() };
    const key = nameKey(presence.username);
    const { username, person } = presence;
    const holder = attendance.holders.get(key) ?? { username, person, connections: 0 };
    if (holder.person !== presence.person) throw nameInUse();
    holder.connections++;
    attendance.holders.set(key, holder);
    attendance.holdings.set(presence.connection, { presence, instance });
    this.#rooms.set(room, attendance);
    this.#departures.delete(departureKey(room, key));
    if (!this.#leases.has(instance)) this.#extend(instance);
    const position = ++this.#position;
    this.publish(room, { type: "entered", presence, position });
    return position;
  }

  /** Ends a presence of an instance: the room receives `left`. A repeat does nothing. */
  leave(instance: string, room: string, connection: string): void {
    const attendance = this.#rooms.get(room);
    const holding = attendance?.holdings.get(connection);
    if (attendance === undefined || holding?.instance !== instance) return;
    const { presence } = holding;
    attendance.holdings.delete(connection);
    if (attendance.holdings.size === 0) this.#rooms.delete(room);
    const key = nameKey(presence.username);
    const holder = attendance.holders.get(key)!;
    if (--holder.connections === 0) {
      attendance.holders.delete(key);
      this.addDeparture({ ...presence, room, ended: this.#options.clock() });
    }
    this.publish(room, { type: "left", presence, position: ++this.#position });
  }

  /** The presences of a room, in order of entering. */
  present(room: string): Presence[] {
    const holdings = this.#rooms.get(room)?.holdings.values() ?? [];
    return Array.from(holdings, ({ presence }) => presence);
  }

  /** The user that has a name in a room, or had it within {@linkcode REACHABLE_MS}. */
  lastSeen(room: string, username: string): Author | undefined {
    const key = nameKey(username);
    const holder = this.#rooms.get(room)?.holders.get(key);
    if (holder !== undefined) return { username: holder.username, person: holder.person };
    const departure = this.#departures.get(departureKey(room, key));
    return departure !== undefined && this.#isReachable(departure) ? departure : undefined;
  }

  /** The presence of a connection in a room. */
  presence(room: string, connection: string): Presence | undefined {
    return this.#rooms.get(room)?.holdings.get(connection)?.presence;
  }

  /** Whether a name in a room has a user now. */
  hasUser(room: string, username: string): boolean {
    return this.#rooms.get(room)?.holders.has(nameKey(username)) ?? false;
  }

  /** Remembers the latest user that left, and forgets those that left too long ago. */
  addDeparture({ room, username, person, ended }: Departure): void {
    const key = departureKey(room, nameKey(username));
    this.#departures.delete(key);
    this.#departures.set(key, { room, username, person, ended });
    for (const [oldest, departure] of this.#departures) {
      if (this.#departures.size <= MAX_DEPARTURES && this.#isReachable(departure)) break;
      this.#departures.delete(oldest);
    }
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

  #isReachable({ ended }: Departure): boolean {
    return this.#options.clock() - ended < REACHABLE_MS;
  }

  #tell(room: string, event: EngineEvent): void {
    for (const subscriber of this.#subscribers.get(room) ?? []) subscriber(event);
  }

  #extend(instance: string): void {
    this.#leases.set(instance, this.#options.clock() + this.#options.leaseMs);
  }
}

/** The key of a departure. No room's name contains a line break. */
function departureKey(room: string, key: string): string {
  return `${room}\n${key}`;
}
