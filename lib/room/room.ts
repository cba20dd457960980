/**
 * What this process knows of one room: who is in it, what was said last, what is to be delivered.
 * State and questions to it; what is done with it is the hub's.
 *
 * @module
 */

import type { EncodedEvent } from "../delivery/batch.ts";
import type { Outbox, Peer } from "../delivery/outbox.ts";
import { DEFAULT_SETTINGS, type Presence, type RoomSettings } from "../engine/engine.ts";
import { ChatError } from "../errors.ts";
import type { JoinRequest } from "../http/rooms.ts";
import { nameKey } from "../names.ts";
import type { Identity } from "../people/accounts.ts";
import type { Format } from "../protocol/encode.ts";
import type {
  LogEvent,
  OnlineUsersEvent,
  PresenceEvent,
  Role,
  UserEntry,
} from "../protocol/events.ts";
import type { TokenBucket } from "../rate_limit.ts";
import { RecentEvents } from "./recent.ts";

export type { JoinRequest };

/** Up to how many users a room tells everyone of each who comes and goes, as it happens. */
export const CROWD = 100;

/** Most members of an audience before it is split. */
const MAX_AUDIENCE = 400;

/** Most names in a `presence`. */
const PRESENCE_NAMES = 50;

/** One connection in one room. Made by {@linkcode Hub.join}, opaque to everyone else. */
export class Member {
  /** Names this connection, here and in the engine. */
  readonly id: string;
  readonly peer: Peer;
  readonly room: Room;
  readonly request: JoinRequest;
  /** The name it goes by; absent in the raw relay. */
  readonly username: string | undefined;
  readonly format: Format;
  readonly echo: boolean;
  /** Who is behind it. */
  readonly identity: Identity;
  readonly outbox: Outbox;
  /** How often it may still ask for something. */
  readonly allowance: TokenBucket;
  /** Commands that were refused one after the other because it asked too often. */
  refusals = 0;
  /** Whether it is sent what happens. Not yet, while it is being told what it missed. */
  isLive = false;
  /** With whom it is sent what happens. */
  audience: Audience;
  /** What stands before this place in `audience.pending` happened before it came. */
  since = 0;
  /** What it alone is sent, each before place `at` of `audience.pending`. */
  aside: { at: number; news: EncodedEvent }[] = [];
  /** Private messages that came before it was live. */
  held: EncodedEvent[] = [];
  isGone = false;

  /** Use {@linkcode Hub.join}. */
  constructor(
    id: string,
    peer: Peer,
    room: Room,
    request: JoinRequest,
    { outbox, allowance }: { outbox: Outbox; allowance: TokenBucket },
  ) {
    this.id = id;
    this.peer = peer;
    this.room = room;
    this.audience = room.audiences.at(-1)!;
    this.request = request;
    this.username = request.username;
    this.format = request.format ?? "json";
    this.echo = request.echo ?? true;
    this.identity = request.identity;
    this.outbox = outbox;
    this.allowance = allowance;
  }

  /** Who is behind it, for the engine: the same for all connections of one person. */
  get person(): string {
    return this.identity.person;
  }

  /** Whether it may have missed something that it is to be told first. */
  get isReturning(): boolean {
    const { identity, resume } = this.request;
    return this.format === "v1" && (identity.isProven || resume !== undefined);
  }
}

/** Somebody in a room, through one connection or several. */
export interface User {
  readonly username: string;
  readonly person: string;
  readonly connections: Set<string>;
}

/** Members of one room that are delivered to together: all of a small room, a part of a large one. */
export class Audience {
  readonly room: Room;
  readonly members = new Set<Member>();
  /** What happened since the last delivery. */
  pending: EncodedEvent[] = [];
  /** Members that are sent something alone. */
  told: Member[] = [];
  /**
   * Until when nothing is delivered, so that more goes into one frame, in milliseconds; `Infinity`
   * while a delivery is leaving.
   */
  restsUntil = 0;
  /** When the last delivery to everyone began, in milliseconds. */
  deliveredAt = -Infinity;
  /** How long a delivery to everyone takes, in milliseconds; 0 if that has not been measured. */
  tookMs = 0;

  constructor(room: Room) {
    this.room = room;
  }

  /** Takes note how long a delivery took. A hiccup must not count for more than twice the usual. */
  noteDelivery(ms: number): void {
    this.tookMs = this.tookMs === 0 ? ms : Math.min(ms, 2 * this.tookMs);
  }

  /** Makes a new one of half of its members. To be called when nothing is pending. */
  split(): Audience {
    const half = new Audience(this.room);
    half.deliveredAt = this.deliveredAt;
    let left = this.members.size >> 1;
    for (const member of this.members) {
      if (left-- === 0) break;
      this.members.delete(member);
      half.members.add(member);
      member.audience = half;
    }
    return half;
  }
}

/** A room that somebody is in, or is on the way into. */
export class Room {
  readonly name: string;
  /** The connections of this process, by id. */
  readonly members = new Map<string, Member>();
  /** Everyone who is present, by `nameKey`, in order of joining. */
  readonly users = new Map<string, User>();
  /** Who may come in, and who decides that. */
  settings: RoomSettings = DEFAULT_SETTINGS;
  epoch = "";
  lastSeq = 0;
  /** The newest of the log, up to `lastSeq`. */
  tail = new RecentEvents(0);
  /** All members, in parts that are delivered to at times of their own. There is always one. */
  readonly audiences: Audience[] = [new Audience(this)];
  /** How many deliveries are leaving after which an audience will rest. */
  leaving = 0;
  /** Who came and went since the last `presence`. */
  readonly changes = new Map<string, { username: string; type: "joined" | "left" }>();
  /** When the next `presence` of a crowd is due, in milliseconds. */
  presenceDue: number | undefined;
  /** Who of this process types, and until when, in milliseconds; by `nameKey`. */
  readonly typing = new Map<string, { username: string; until: number }>();
  /** When it was last empty, in milliseconds. */
  emptySince: number;
  /** Resolves when the room has been read from the engine. */
  ready: Promise<void> = Promise.resolve();
  /** Ends the subscription to the engine. */
  unsubscribe: () => void = () => {};

  constructor(name: string, now: number) {
    this.name = name;
    this.emptySince = now;
  }

  /** Takes a member in. */
  seat(member: Member): void {
    this.members.set(member.id, member);
    member.audience.members.add(member);
  }

  /** Takes a member out. */
  unseat(member: Member): void {
    const { audience } = member;
    this.members.delete(member.id);
    audience.members.delete(member);
    if (audience.members.size > 0 || this.audiences.length === 1) return;
    this.audiences.splice(this.audiences.indexOf(audience), 1);
  }

  /** Splits an audience that is too large. To be called when nothing is pending in it. */
  splitIfLarge(audience: Audience): void {
    // New members come to the last one.
    if (audience.members.size > MAX_AUDIENCE) this.audiences.unshift(audience.split());
  }

  /** Why somebody may not be in the room, if so. */
  reasonToRefuse({ identity, username }: JoinRequest): ChatError | undefined {
    if (isBanned(this.settings, identity, username)) {
      return new ChatError("forbidden", "You may not come into this room.");
    }
    if (!isAdmitted(this.settings, identity)) {
      return new ChatError("forbidden", "This room is private. Ask its owner to let you in.");
    }
    return undefined;
  }

  /** The users and how many connections each has; at most 100. */
  userEntries(): UserEntry[] {
    const entries: UserEntry[] = [];
    for (const { username, connections } of this.users.values()) {
      if (entries.length === CROWD) break;
      entries.push({ username, connections: connections.size });
    }
    return entries;
  }

  onlineUsers(): OnlineUsersEvent {
    const users = this.userEntries();
    const content = users.map(({ username }) => username).join(",");
    const base = { type: "online_users", content, room: this.name, username: "" } as const;
    return { ...base, users, online: this.users.size };
  }

  /** Takes note of who came or went, for the next `presence`. Coming and going is nothing. */
  change(username: string, type: "joined" | "left"): void {
    const key = nameKey(username);
    const before = this.changes.get(key);
    if (before !== undefined && before.type !== type) this.changes.delete(key);
    else this.changes.set(key, { username, type });
  }

  /** Who came and went since the last call. */
  takePresence(): PresenceEvent {
    const changes = [...this.changes.values()];
    this.changes.clear();
    this.presenceDue = undefined;
    const names = (type: "joined" | "left") =>
      changes.filter((change) => change.type === type).map(({ username }) => username);
    const [joined, left] = [names("joined"), names("left")];
    return {
      type: "presence",
      content: "",
      room: this.name,
      username: "",
      joined: joined.slice(0, PRESENCE_NAMES),
      joined_count: joined.length,
      left: left.slice(0, PRESENCE_NAMES),
      left_count: left.length,
      online: this.users.size,
    };
  }

  /** Keeps the next event of the log at hand. */
  remember(event: LogEvent, json: string): void {
    this.lastSeq = event.seq;
    this.tail.add(event, json);
  }

  /** Adds a connection to its user. True if the user was not there before. */
  add({ username, person, connection }: Presence): boolean {
    const key = nameKey(username);
    const user = this.users.get(key);
    if (user === undefined) {
      this.users.set(key, { username, person, connections: new Set([connection]) });
      return true;
    }
    user.connections.add(connection);
    return false;
  }

  /** Takes a connection from its user. True if it was the user's last one. */
  remove({ username, connection }: Presence): boolean {
    const key = nameKey(username);
    const user = this.users.get(key);
    if (user === undefined || !user.connections.delete(connection)) return false;
    return user.connections.size === 0 && this.users.delete(key);
  }
}

/** What somebody may do in a room with these settings. */
export function roleIn({ owner }: RoomSettings, { account }: Identity): Role {
  if (account === undefined) return "member";
  if (account.isAdmin) return "admin";
  return account.key === owner ? "owner" : "member";
}

/** Whether a room with these settings lets somebody in, as far as it is private. */
function isAdmitted(settings: RoomSettings, identity: Identity): boolean {
  if (!settings.isPrivate || roleIn(settings, identity) !== "member") return true;
  return identity.account !== undefined && settings.members.includes(identity.account.key);
}

function isBanned(settings: RoomSettings, identity: Identity, username?: string): boolean {
  if (settings.bans.length === 0 || roleIn(settings, identity) !== "member") return false;
  const key = username === undefined ? undefined : nameKey(username);
  return settings.bans.some((ban) => ban.person === identity.person || ban.key === key);
}
