/**
 * Announcements of joins and leaves: at once in a small room, gathered in a crowd.
 *
 * Every member receives a notice of every other member, so their cost grows with the square of the
 * number of users. Above {@linkcode CROWD} users a room gathers them for a while, the longer the
 * larger it is, and announces them in one event.
 *
 * A room whose users keep coming and going is restless, and gathers for longer. A small one then
 * announces each join and leave, with one list for all of them.
 *
 * @module
 */

import { EncodedEvent } from "../delivery/batch.ts";
import { nameKey } from "../names.ts";
import {
  envelope,
  type Event,
  type NoticeEvent,
  type OnlineUsersEvent,
  type PresenceEvent,
} from "../protocol/events.ts";
import { type Rate, TokenBucket } from "../rate_limit.ts";
import { Alarm, type AlarmOptions } from "../time.ts";
import type { Room } from "./room.ts";
import { CROWD } from "./roster.ts";

/** How long a crowd's notices are gathered: milliseconds per user, and the minimum. */
const GATHER_MS_PER_USER = 1 / 10;
const MIN_GATHER_MS = 50;

/** How long the notices of a restless room are gathered, in milliseconds. */
const RESTLESS_GATHER_MS = 2000;

/** A shorter visit counts as short, in milliseconds. */
const SHORT_VISIT_MS = 60_000;

/**
 * How many names a room may send at once for joins that follow a short visit, summed over the lists
 * of users that its members receive. Beyond it the room is restless.
 */
const RETURN_NAMES: Rate = { perSecond: 5000, burst: 50_000 };

/** How long a room stays restless after the last join beyond the rate, in milliseconds. */
const CALM_MS = 10_000;

/** Maximum names in each list of a crowd's `presence`. */
const MAX_PRESENCE_NAMES = 50;

/** Maximum remembered names of users that left a crowd without being named. */
const MAX_UNNAMED = 1000;

type Change = "joined" | "left";

interface GatheredChange {
  readonly username: string;
  readonly change: Change;
  /** How many lists were sent before the change, plus those sent to the user itself since. */
  lists: number;
}

/** The joins and leaves of one room that are not announced yet. */
class Untold {
  readonly room: Room;
  /** By `nameKey`. */
  readonly #changes = new Map<string, GatheredChange>();
  /** Names of users that left a crowd without being named, by `nameKey`. */
  readonly #unnamed = new Map<string, string>();
  /** How many lists of the users were sent to new members. */
  #lists = 0;
  /** When each user joined, in milliseconds, by `nameKey`; only while its visit is short. */
  readonly #arrivals = new Map<string, number>();
  /**
   * Ended short visits not yet followed by a join, and when the last one ended, in milliseconds.
   */
  #shortVisits = 0;
  #shortVisitAt = -Infinity;
  readonly #names: TokenBucket;
  /** Whether the room was announced as a crowd, without every name. */
  #hasToldCrowd = false;
  /** Whether a new member received a list that lacks some users. */
  #hasSentPart = false;
  #restlessUntil = -Infinity;
  #due: number | undefined;

  /** @param now the time in milliseconds */
  constructor(room: Room, now: number) {
    this.room = room;
    this.#names = new TokenBucket(RETURN_NAMES, now);
  }

  /** When the changes are due to be announced, in milliseconds; absent if there are none. */
  get due(): number | undefined {
    return this.#due;
  }

  /**
   * Adds a change. Returns whether it must be announced at once.
   *
   * @param now the time in milliseconds
   */
  add(username: string, change: Change, now: number): boolean {
    const { roster } = this.room;
    this.#countVisit(username, change, now);
    this.#gather(username, change);
    const isCrowd = roster.size > CROWD;
    const isRestless = now < this.#restlessUntil;
    if (!isCrowd && !isRestless) return true;
    const ms = isRestless
      ? RESTLESS_GATHER_MS
      : Math.max(MIN_GATHER_MS, roster.size * GATHER_MS_PER_USER);
    this.#due ??= now + ms;
    return false;
  }

  /** Counts a list of the users that a user received. */
  countList(reader: string): void {
    this.#lists++;
    this.#hasSentPart ||= this.room.roster.size > CROWD;
    const own = this.#changes.get(nameKey(reader));
    if (own !== undefined) own.lists++;
  }

  /** The events that announce everything so far. */
  take(): EncodedEvent[] {
    const changes = [...this.#changes.values()];
    const isCrowd = this.room.roster.size > CROWD;
    this.#changes.clear();
    this.#due = undefined;
    if (changes.length === 0 && (isCrowd || !this.#hasToldCrowd)) return [];
    const namesOf = (wanted: Change) =>
      changes.filter(({ change }) => change === wanted).map(({ username }) => username);
    const joined = namesOf("joined");
    const left = namesOf("left");
    return isCrowd ? this.#toCrowd(joined, left) : this.#toSmallRoom(joined, left);
  }

  #toCrowd(joined: string[], left: string[]): EncodedEvent[] {
    const { room } = this;
    this.#hasToldCrowd = true;
    for (const username of joined) this.#unnamed.delete(nameKey(username));
    for (const username of left.slice(MAX_PRESENCE_NAMES)) {
      this.#unnamed.set(nameKey(username), username);
      if (this.#unnamed.size > MAX_UNNAMED) dropFirst(this.#unnamed);
    }
    const event = {
      ...presence(room, joined, left),
      joined: joined.slice(0, MAX_PRESENCE_NAMES),
      left: left.slice(0, MAX_PRESENCE_NAMES),
    };
    return [
      new EncodedEvent(event),
      new EncodedEvent(onlineUsers(room), { isForPlainOnly: true }),
    ];
  }

  #toSmallRoom(joined: string[], left: string[]): EncodedEvent[] {
    const { room } = this;
    const isInexact = this.#hasToldCrowd || this.#hasSentPart;
    const events: Event[] = [
      // A crowd that shrinks does not announce every leave.
      ...left.slice(-MAX_PRESENCE_NAMES).map((username) => notice(room, username, "left")),
      onlineUsers(room),
      ...joined.slice(-MAX_PRESENCE_NAMES).map((username) => notice(room, username, "joined")),
      isInexact ? this.#exactPresence(joined, left) : presence(room, joined, left),
    ];
    return events.map((event) => new EncodedEvent(event));
  }

  /** The `presence` of a crowd that has shrunk: who is present, and who has left. */
  #exactPresence(joined: string[], left: string[]): PresenceEvent {
    const users = this.room.roster.entries();
    const present = users.map(({ username }) => username);
    for (const name of present) this.#unnamed.delete(nameKey(name));
    const gone = [...this.#unnamed.values(), ...left].slice(-MAX_UNNAMED);
    this.#unnamed.clear();
    this.#hasToldCrowd = false;
    this.#hasSentPart = false;
    return { ...presence(this.room, joined, left), joined: present, left: gone, users };
  }

  #gather(username: string, change: Change): void {
    const key = nameKey(username);
    const before = this.#changes.get(key);
    // A join and a leave cancel out, unless another user received a list in between.
    if (before !== undefined && before.change !== change && before.lists === this.#lists) {
      this.#changes.delete(key);
    } else {
      this.#changes.set(key, { username, change, lists: this.#lists });
    }
  }

  /** Makes the room restless if too many joins follow short visits. */
  #countVisit(username: string, change: Change, now: number): void {
    const key = nameKey(username);
    for (const [other, since] of this.#arrivals) {
      if (now - since < SHORT_VISIT_MS) break;
      this.#arrivals.delete(other);
    }
    if (change === "left") {
      if (!this.#arrivals.delete(key)) return;
      this.#shortVisits++;
      this.#shortVisitAt = now;
      return;
    }
    this.#arrivals.set(key, now);
    if (now - this.#shortVisitAt >= SHORT_VISIT_MS) this.#shortVisits = 0;
    if (this.#shortVisits === 0) return;
    this.#shortVisits--;
    // Every member receives a list of all users at the leave and at the join.
    const names = 2 * Math.min(this.room.roster.size, CROWD) ** 2;
    if (this.#names.take(now, names) > 0) this.#restlessUntil = now + CALM_MS;
  }
}

/** Announces joins and leaves in every room. */
export class JoinNotices {
  readonly #options: AlarmOptions;
  readonly #rooms = new WeakMap<Room, Untold>();
  /** Rooms with changes to announce later. */
  readonly #waiting = new Set<Untold>();
  readonly #alarm: Alarm;

  constructor(options: AlarmOptions) {
    this.#options = options;
    this.#alarm = new Alarm(options, () => this.#announceDue());
  }

  /** Announces that a user has joined. The roster must include the user already. */
  joined(room: Room, username: string): void {
    this.#add(room, username, "joined");
  }

  /** Announces that a user has left. The roster must no longer include the user. */
  left(room: Room, username: string): void {
    this.#add(room, username, "left");
  }

  /** Records that a new member received a list of the users. */
  listed(room: Room, reader: string): void {
    this.#rooms.get(room)?.countList(reader);
  }

  #add(room: Room, username: string, change: Change): void {
    const now = this.#options.clock();
    let untold = this.#rooms.get(room);
    if (untold === undefined) this.#rooms.set(room, untold = new Untold(room, now));
    if (untold.add(username, change, now)) return this.#announce(untold);
    this.#waiting.add(untold);
    this.#alarm.set(untold.due!);
  }

  #announce(untold: Untold): void {
    this.#waiting.delete(untold);
    for (const event of untold.take()) untold.room.fanout.tell(event);
  }

  #announceDue(): void {
    const now = this.#options.clock();
    for (const untold of this.#waiting) {
      if (untold.due! > now) this.#alarm.set(untold.due!);
      else this.#announce(untold);
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

/** Makes the event that names and counts the users that joined and left. */
export function presence(
  { name, roster }: Room,
  joined: readonly string[],
  left: readonly string[],
): PresenceEvent {
  return {
    type: "presence",
    ...envelope(name),
    joined,
    joined_count: joined.length,
    left,
    left_count: left.length,
    online: roster.size,
  };
}

/** Makes the notice of one join or leave. */
export function notice({ name }: Room, username: string, change: Change): NoticeEvent {
  return { type: `user_${change}`, ...envelope(name, `${username} ${change} the room`, username) };
}

function dropFirst(map: Map<string, unknown>): void {
  const [first] = map.keys();
  map.delete(first!);
}
