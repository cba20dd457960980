/**
 * Announcements of joins and leaves: at once in a small room, gathered in a crowd.
 *
 * Every member receives a notice of every other member, so their cost grows with the square of the
 * number of users. Above {@linkcode CROWD} users a room gathers them for a while, the longer the
 * larger it is, and announces them in one event.
 *
 * @module
 */

import { EncodedEvent } from "../delivery/batch.ts";
import { nameKey } from "../names.ts";
import {
  envelope,
  type Event,
  type OnlineUsersEvent,
  type PresenceEvent,
} from "../protocol/events.ts";
import { Alarm, type AlarmOptions } from "../time.ts";
import type { Room } from "./room.ts";
import { CROWD } from "./roster.ts";

/** How long a crowd's notices are gathered: milliseconds per user, and the minimum. */
const GATHER_MS_PER_USER = 1 / 10;
const MIN_GATHER_MS = 50;

/** Maximum names in each list of a `presence`. */
const MAX_PRESENCE_NAMES = 50;

type Change = "joined" | "left";

/** The joins and leaves that a room has not announced yet. */
class Gathered {
  /** When they are announced, in milliseconds. */
  readonly due: number;
  /** By `nameKey`. */
  readonly #changes = new Map<string, { readonly username: string; readonly change: Change }>();

  constructor(due: number) {
    this.due = due;
  }

  get isEmpty(): boolean {
    return this.#changes.size === 0;
  }

  /** Adds a change. A join and a leave of one name cancel out. */
  add(username: string, change: Change): void {
    const key = nameKey(username);
    const before = this.#changes.get(key);
    if (before !== undefined && before.change !== change) this.#changes.delete(key);
    else this.#changes.set(key, { username, change });
  }

  toEvent(room: Room): PresenceEvent {
    const names = (wanted: Change) =>
      [...this.#changes.values()].filter(({ change }) => change === wanted)
        .map(({ username }) => username);
    return presence(room, names("joined"), names("left"));
  }
}

/** Announces joins and leaves in every room. */
export class JoinNotices {
  readonly #options: AlarmOptions;
  /** Rooms with joins and leaves that are not announced yet. */
  readonly #gathered = new Map<Room, Gathered>();
  readonly #alarm: Alarm;

  constructor(options: AlarmOptions) {
    this.#options = options;
    this.#alarm = new Alarm(options, () => this.#announceDue());
  }

  /** Announces that a user has joined. The roster must include the user already. */
  joined(room: Room, username: string): void {
    this.#announce(room, username, "joined");
  }

  /** Announces that a user has left. The roster must not include the user any more. */
  left(room: Room, username: string): void {
    this.#announce(room, username, "left");
  }

  #announce(room: Room, username: string, change: Change): void {
    const gathered = this.#gathered.get(room) ?? this.#begin(room);
    gathered.add(username, change);
    if (room.roster.size > CROWD) {
      this.#gathered.set(room, gathered);
      return this.#alarm.set(gathered.due);
    }
    this.#gathered.delete(room);
    // A join and a leave that cancel out are not announced.
    if (gathered.isEmpty) return;
    const notices = change === "joined"
      ? joinNotices(room, username)
      : leaveNotices(room, username);
    for (const event of [...notices, gathered.toEvent(room)]) room.fanout.tell(event);
  }

  #begin({ roster }: Room): Gathered {
    const ms = Math.max(MIN_GATHER_MS, roster.size * GATHER_MS_PER_USER);
    return new Gathered(this.#options.clock() + ms);
  }

  #announceDue(): void {
    const now = this.#options.clock();
    for (const [room, gathered] of this.#gathered) {
      if (gathered.due > now) {
        this.#alarm.set(gathered.due);
        continue;
      }
      this.#gathered.delete(room);
      if (gathered.isEmpty) continue;
      room.fanout.tell(gathered.toEvent(room));
      room.fanout.tell(new EncodedEvent(onlineUsers(room), { isForPlainOnly: true }));
    }
  }
}

/**
 * Makes the event that lists the users of a room: at most {@linkcode CROWD} names, and the number
 * of users.
 */
export function onlineUsers({ name, roster }: Room): OnlineUsersEvent {
  const users = roster.entries();
  const content = users.map(({ username }) => username).join(",");
  return { type: "online_users", ...envelope(name, content), users, online: roster.size };
}

/**
 * Makes the event that counts joins and leaves, with at most {@linkcode MAX_PRESENCE_NAMES} names
 * each.
 */
export function presence(
  { name, roster }: Room,
  joined: readonly string[],
  left: readonly string[],
): PresenceEvent {
  return {
    type: "presence",
    ...envelope(name),
    joined: joined.slice(0, MAX_PRESENCE_NAMES),
    joined_count: joined.length,
    left: left.slice(0, MAX_PRESENCE_NAMES),
    left_count: left.length,
    online: roster.size,
  };
}

/** The events that a small room receives when a user joins, before the `presence`. */
export function joinNotices(room: Room, username: string): Event[] {
  const content = `${username} joined the room`;
  return [onlineUsers(room), { type: "user_joined", ...envelope(room.name, content, username) }];
}

/** The events that a small room receives when a user leaves, before the `presence`. */
function leaveNotices(room: Room, username: string): Event[] {
  const content = `${username} left the room`;
  return [{ type: "user_left", ...envelope(room.name, content, username) }, onlineUsers(room)];
}
