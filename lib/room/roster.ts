/**
 * The users present in a room, and the users of this instance that are typing.
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

  /** How many users are present. */
  get size(): number {
    return this.#users.size;
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

/** Which users are typing, through connections of this instance. */
export class Typists {
  /** By `nameKey`; `until` is a time in milliseconds. */
  readonly #typing = new Map<string, { readonly username: string; readonly until: number }>();

  /** Starts the user's typing. True if it did not type before. @param now the time in milliseconds */
  start(username: string, now: number): boolean {
    const key = nameKey(username);
    const isNew = !this.#typing.has(key);
    this.#typing.set(key, { username, until: now + TYPING_MS });
    return isNew;
  }

  /** Stops the user's typing. True if it typed before. */
  stop(username: string): boolean {
    return this.#typing.delete(nameKey(username));
  }

  /** Stops all expired typing, and returns the names of its users. */
  expire(now: number): string[] {
    const expired = [...this.#typing.values()].filter(({ until }) => until <= now);
    for (const { username } of expired) this.stop(username);
    return expired.map(({ username }) => username);
  }
}
