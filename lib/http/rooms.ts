/**
 * The hub as HTTP needs it. HTTP declares it here, and `hub.ts` implements it.
 *
 * @module
 */

import type { Peer } from "../delivery/outbox.ts";
import type { Identity } from "../people/accounts.ts";
import type { CloseReason } from "../protocol/codes.ts";
import type { Command, RoomChange } from "../protocol/commands.ts";
import type { Format } from "../protocol/encode.ts";
import type { Event, UserEntry } from "../protocol/events.ts";

/** What a client asks for when it joins a room. */
export interface JoinRequest {
  /** A name that has passed `parseName`. */
  readonly room: string;
  /**
   * A name that has passed `parseName`; absent for members of the raw relay, and for people who
   * only read.
   */
  readonly username?: string;
  /** @default "json" */
  readonly format?: Format;
  /** Whether the member receives its own messages. @default true */
  readonly echo?: boolean;
  /** The person behind the connection. */
  readonly identity: Identity;
  /** The key of the client's address, by `addressKey`. @default "" */
  readonly address?: string;
  /** What a client of the whole protocol has already seen. */
  readonly resume?: Resume | undefined;
}

/** The last events that a returning client has seen. */
export interface Resume {
  readonly epoch: string;
  /** The last `seq` of the room that the client has seen. */
  readonly after: number;
  /** The last `inbox_seq` that the client has seen; absent if it asks for no private messages. */
  readonly inbox?: number | undefined;
}

/** A member as HTTP knows it. */
export interface JoinedMember {
  /** Whether the member has left its room. */
  readonly isGone: boolean;
}

/** A request for the settings of a room, and the person behind it. */
export type RoomVisit = Pick<JoinRequest, "room" | "username" | "identity">;

/** The access settings of a room. */
export interface RoomAccess {
  /** The owner's account, by key. */
  readonly owner: string | undefined;
  /** The moderators' accounts, by key. */
  readonly moderators: readonly string[];
  /** Whether the room admits only its owner, its moderators, its members and admins. */
  readonly isPrivate: boolean;
  /** Accounts, by key; absent for those who may not change the room. */
  readonly members?: readonly string[];
  /** Names, by `nameKey`; absent for those who may not change the room. */
  readonly bans?: readonly { readonly key: string }[];
}

/** The users in a room. */
export interface Attendance {
  /** At most 100. */
  readonly users: readonly UserEntry[];
  /** The number of all users. */
  readonly online: number;
}

/** The hub as HTTP needs it. */
export interface Rooms {
  /**
   * Opens the room, and keeps it open for the join that follows.
   *
   * @throws {ChatError} if the hub would refuse the join now
   */
  admit(request: JoinRequest): Promise<void>;
  /**
   * Checks a join as {@linkcode Rooms.admit} does, without opening the room.
   *
   * @throws {ChatError} if the hub would refuse the join now
   */
  check(request: JoinRequest): Promise<void>;
  /**
   * Makes a peer a member.
   *
   * @throws {ChatError} if the hub refuses the join
   */
  join(peer: Peer, request: JoinRequest): JoinedMember;
  /**
   * Performs a command of a person who has not joined.
   *
   * @returns the answer, if there is one
   * @throws {ChatError} if the hub would refuse the join now, or refuses the command
   */
  ask(request: JoinRequest, command: Command): Promise<Event | undefined>;
  /** Reads who is in a room. @throws {ChatError} if the hub would refuse the join now */
  readPresence(request: JoinRequest): Promise<Attendance>;
  /** Handles one text frame of a member. */
  receive(member: JoinedMember, text: string): void;
  /** Removes a member from its room. A repeat does nothing. */
  leave(member: JoinedMember): void;
  /** Removes a member from its room and closes its connection. */
  dismiss(member: JoinedMember, close: CloseReason): void;
  /** @throws {ChatError} `forbidden` if the room does not admit the person */
  readRoom(visit: RoomVisit): Promise<RoomAccess>;
  /** @throws {ChatError} `forbidden`, `not_found` or `bad_request` */
  changeRoom(room: string, identity: Identity, change: RoomChange): Promise<RoomAccess>;
}
