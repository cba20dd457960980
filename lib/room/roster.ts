/**
 * The users present in a room, and those that are typing.
 *
 * @module
 */

import type { Presence } from "../engine/engine.ts";
import { nameInUse } from "../errors.ts";
import { nameKey } from "../names.ts";
import type { UserEntry } from "../protocol/events.ts";

/** Maximum users of a room that announces each join and leave at once, and lists all its users. */
export const CROWD = 100;

/** A person in a room, through one connection or several. */
export interface User {
  readonly username: string;
  readonly person: string;
  /** The ids of the connections, in order of entering. */
  readonly connections: ReadonlySet<string>;
}

/** Everyone who is present in a room, on all instances. */
export class Roster {
  /** By `nameKey`, in order of entering. */
  readonly #users = new Map<string, User & { readonly connections: Set<string> }>();
  #listings = 0;

  /** How many users are present. */
  get size(): number {
    return this.#users.size;
  }

  /** How often the users were listed for clients. */
  get listings(): number {
    return this.#listings;
  }

  /** The user with this name, in any case and any Unicode form. */
  user(username: string): User | undefined {
    return this.#users.get(nameKey(username));
  }

  /** @throws {ChatError} `name_in_use` if another person holds the name */
  checkName(username: string, person: string): void {
    const user = this.user(username);
    if (user !== undefined && user.person !== person) throw nameInUse();
  }

  /** Whether a connection is the first of its user. */
  isFirst({ username, connection }: Pick<Presence, "username" | "connection">): boolean {
    const [first] = this.user(username)?.connections ?? [];
    return first === connection;
  }

  /** Adds a connection. True if its user was not present before. */
  add({ username, person, connection }: Presence): boolean {
    const key = nameKey(username);
    const user = this.#users.get(key);
    user?.connections.add(connection);
    if (user === undefined) {
      this.#users.set(key, { username, person, connections: new Set([connection]) });
    }
    return user === undefined;
  }

  /** Removes a connection. True if its user is no longer present. */
  remove({ username, connection }: Presence): boolean {
    const key = nameKey(username);
    const user = this.#users.get(key);
    if (user === undefined || !user.connections.delete(connection)) return false;
    return user.connections.size === 0 && this.#users.delete(key);
  }

  /** The first {@linkcode CROWD} users, as clients receive them. */
  entries(): UserEntry[] {
    this.#listings++;
    const entries: UserEntry[] = [];
    for (const { username, connections } of this.#users.values()) {
      if (entries.length === CROWD) break;
      entries.push({ username, connections: connections.size });
    }
    return entries;
  }
}

/** How long a user counts as typing without renewing it, in milliseconds. */
export const TYPING_MS = 5000;

/** A user that is typing. */
interface Typist {
  readonly username: string;
  /** When each of its connections stops, in milliseconds. */
  readonly until: Map<string, number>;
  /** `Roster.listings` when its typing was last announced. */
  listings: number;
}

/** Which users are typing, and through which connections of this instance. */
export class Typists {
  /** The users that type through connections of this instance, by `nameKey`. */
  readonly #typing = new Map<string, Typist>();
  /** The names of all users that any instance has announced, by `nameKey`. */
  readonly #announced = new Map<string, string>();

  /** The names of the users that are typing, at most {@linkcode CROWD}. */
  names(): string[] {
    return [...this.#announced.values().take(CROWD)];
  }

  /** Records what an instance has announced, or that a user is no longer present. */
  record(username: string, isActive: boolean): void {
    if (isActive) this.#announced.set(nameKey(username), username);
    else this.#announced.delete(nameKey(username));
  }

  /**
   * Starts or renews the typing of a user's connection.
   *
   * @param listings `Roster.listings`
   * @param now the time in milliseconds
   * @returns whether to announce it: the user did not type before, or a new member has joined since
   */
  start(username: string, connection: string, listings: number, now: number): boolean {
    const key = nameKey(username);
    const typist = this.#typing.get(key) ?? { username, until: new Map(), listings: NaN };
    const isNews = typist.listings !== listings;
    typist.until.set(connection, now + TYPING_MS);
    typist.listings = listings;
    this.#typing.set(key, typist);
    return isNews;
  }

  /** Stops the typing of a user's connection. True if the user typed before, and does not now. */
  stop(username: string, connection: string): boolean {
    const key = nameKey(username);
    const until = this.#typing.get(key)?.until;
    return until !== undefined && until.delete(connection) && until.size === 0 &&
      this.#typing.delete(key);
  }

  /** Stops all expired typing, and returns the names of the users that stopped. */
  expire(now: number): string[] {
    const stopped: string[] = [];
    for (const [key, { username, until }] of this.#typing) {
      for (const [connection, end] of until) if (end <= now) until.delete(connection);
      if (until.size > 0) continue;
      this.#typing.delete(key);
      stopped.push(username);
    }
    return stopped;
  }
}
