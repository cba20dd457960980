/**
 * What is remembered or shared: the log of every room, private messages, presence, and how news of
 * all that reaches the hub.
 *
 * A message is appended to its room's log, and the log tells its subscribers, those of the process
 * that appended it included. There is no other way from a sender to a room, so what people saw and
 * what is stored can never differ.
 *
 * `tests/support/engine_suite.ts` is what an engine must pass to be one.
 *
 * @module
 */

import { ChatError } from "../errors.ts";
import type { AccountStore } from "../people/accounts.ts";
import type { ChatEvent, MessageDeletedEvent, MessageUpdatedEvent } from "../protocol/events.ts";

/** What a room's log holds. Each has its own `seq`. */
export type LogEvent = ChatEvent | MessageUpdatedEvent | MessageDeletedEvent;

/** Who does something: the name it goes by, and who that is for the server. */
export interface Author {
  readonly username: string;
  /** The same for every connection of one person; never sent to anyone. */
  readonly person: string;
}

/** A message before the log gives it its place. */
export interface Draft extends Author {
  readonly content: string;
  /** The sender's own id of it: a repeat by the same sender is the same message. */
  readonly ref?: string | undefined;
  /** Which connection it came from; handed on with the news, not stored. */
  readonly origin: string;
}

/** A private message before it is stored. */
export interface PrivateDraft extends Draft {
  /** Absent if there is nobody of that name now: then it can only be a repeat. */
  readonly to?: Author | undefined;
}

/** A wish to change a message. */
export interface Change extends Author {
  /** The message. */
  readonly id: string;
  readonly origin: string;
  /** Whether it may be another's message. @default false */
  readonly isModerator?: boolean;
}

/** Who may be in a room, and who decides that. */
export interface RoomSettings {
  /** The account that made the room private first, by key. */
  readonly owner: string | undefined;
  /** Whether only the owner, its members and admins may come in. */
  readonly isPrivate: boolean;
  /** Accounts, by key. */
  readonly members: readonly string[];
  readonly bans: readonly Ban[];
}

/** Somebody who may not come in. */
export interface Ban {
  /** The name, by `nameKey`: nobody may come in under it. */
  readonly key: string;
  /** Who had it: that person may not come in under another name either. */
  readonly person: string;
}

/** The settings of a room that nobody has changed. */
export const DEFAULT_SETTINGS: RoomSettings = Object.freeze({
  owner: undefined,
  isPrivate: false,
  members: [],
  bans: [],
});

/** What became of something that was written. */
export interface Receipt<E> {
  readonly event: E;
  /** Whether it had been written before, under the same `ref`. Then nobody is told again. */
  readonly isDuplicate: boolean;
}

/** A private message as it is stored, for two people. */
export interface PrivateMessage {
  readonly id: string;
  readonly content: string;
  readonly timestamp: string;
  readonly from: Author;
  readonly to: Author;
  /** Its number among the sender's private messages in this room. */
  readonly fromSeq: number;
  /** Its number among the receiver's. */
  readonly toSeq: number;
}

/** A private message in one person's log of them. */
export interface InboxEntry {
  readonly inboxSeq: number;
  readonly message: PrivateMessage;
}

/** One connection of somebody who is in a room. */
export interface Presence extends Author {
  /** Unique for ever. */
  readonly connection: string;
  /** The server process that holds the connection. */
  readonly instance: string;
}

/** What subscribers are told. */
export type EngineEvent =
  | {
    readonly type: "logged";
    readonly event: LogEvent;
    /** The event's JSON, if the engine has it at hand. */
    readonly json?: string;
    readonly origin: string;
  }
  | { readonly type: "private"; readonly message: PrivateMessage; readonly origin: string }
  | {
    readonly type: "typing";
    readonly username: string;
    readonly isActive: boolean;
    readonly origin: string;
  }
  | { readonly type: "entered" | "left"; readonly presence: Presence }
  | { readonly type: "settings"; readonly settings: RoomSettings }
  | { readonly type: "kicked"; readonly key: string; readonly reason: string | undefined }
  | { readonly type: "token_ended"; readonly hash: string }
  | { readonly type: "registered"; readonly key: string };

/** The room in which everyone is told what concerns no single one. No room has this name. */
export const EVERYWHERE = "";

/** Is told of all that happens in one room; logged events come in order of `seq`. */
export type Subscriber = (news: EngineEvent) => void;

/** How far a log goes. */
export interface LogState {
  /** Names the life of the numbering: with another epoch, all numbers mean something else. */
  readonly epoch: string;
  /** The oldest `seq` still kept; one more than `lastSeq` if there is none. */
  readonly oldestSeq: number;
  /** The newest `seq`; 0 if there is none yet. */
  readonly lastSeq: number;
}

/** Which messages of a log: before, after, or (with neither) the newest. */
export interface MessageRange {
  /** Only those with a smaller `seq`, and of those the newest. */
  readonly before?: number | undefined;
  /** Only those with a greater `seq`, and of those the oldest. */
  readonly after?: number | undefined;
  /** How many at the most. */
  readonly limit: number;
}

/** The part of an engine that lives in its subscribers and not in the log. */
export interface LiveEngine {
  /**
   * Tells of everything that happens in a room from now on.
   *
   * @returns ends the subscription
   */
  subscribe(room: string, subscriber: Subscriber): () => void;
  /** Tells a room something that is not stored. */
  publish(room: string, news: EngineEvent): Promise<void>;
  /**
   * Makes a connection present, and tells the room that it `entered`.
   *
   * @throws {ChatError} `name_in_use` if another person is present under the name
   */
  enter(room: string, presence: Presence): Promise<void>;
  /** Ends a connection's presence, and tells the room that it `left`. Once: a repeat does nothing. */
  leave(room: string, connection: string): Promise<void>;
  /** Who is present in a room, in order of entering. */
  present(room: string): Promise<Presence[]>;
  /**
   * Says that an instance is alive, and ends the presence of those that have not said so for the
   * time of their lease.
   */
  renew(instance: string): Promise<void>;
}

/** A store of logs, and the way to everyone who listens to them. */
export interface Engine extends LiveEngine, AccountStore {
  /**
   * Adds a message to a room's log and tells the room. Resolves when it is stored.
   * Calls of one process take effect in the order in which they are made.
   */
  append(room: string, draft: Draft): Promise<Receipt<ChatEvent>>;
  /**
   * Changes the text of a message, adds that to the log, and tells the room.
   *
   * @throws {ChatError} `not_found`, or `forbidden` if it is another's message
   */
  edit(room: string, change: Change & { content: string }): Promise<Receipt<MessageUpdatedEvent>>;
  /**
   * Wipes a message's text, adds that to the log, and tells the room.
   *
   * @throws {ChatError} `not_found`, or `forbidden` if it is another's message
   */
  delete(room: string, change: Change): Promise<Receipt<MessageDeletedEvent>>;
  /**
   * Stores a private message for its two people, and tells the room's subscribers.
   *
   * @throws {ChatError} `not_found` if it is to nobody and no repeat
   */
  whisper(room: string, draft: PrivateDraft): Promise<Receipt<PrivateMessage>>;
  /** How far a room's log goes. */
  state(room: string): Promise<LogState>;
  /**
   * The log after a `seq`, in order, without a hole, at most `limit` events. Messages are as they
   * are now: one that was changed later has its new text and `edited`, one that was deleted has no
   * text and `deleted`.
   */
  log(room: string, after: number, limit: number): Promise<LogEvent[]>;
  /** The messages that are not deleted, as they are now, oldest first. */
  messages(room: string, range: MessageRange): Promise<ChatEvent[]>;
  /** A person's private messages in a room after a number, in order, at most `limit`. */
  inbox(room: string, person: string, after: number, limit: number): Promise<InboxEntry[]>;
  /** The number of a person's newest private message in a room; 0 if there is none. */
  inboxSeq(room: string, person: string): Promise<number>;
  /** A room's settings; {@linkcode DEFAULT_SETTINGS} if nobody has changed them. */
  settings(room: string): Promise<RoomSettings>;
  /** Stores a room's settings, and tells the room. */
  setSettings(room: string, settings: RoomSettings): Promise<void>;
  /** How many rooms an account owns. */
  countOwned(owner: string): Promise<number>;
  /** Ends the engine. What was not stored by now is rejected, and so is every later call. */
  close(): Promise<void>;
}

/** Settings that every engine has. */
export interface EngineOptions {
  /** The time in milliseconds since 1970. */
  readonly clock: () => number;
  /** A new id, unique for ever. */
  readonly newId: () => string;
  /** Events kept per room, and private messages per person and room; `Infinity` for all. */
  readonly keep: number;
  /** How long an instance counts as alive after it was last heard of, in milliseconds. */
  readonly leaseMs: number;
}

/** Says that there is no such message to change, or that it is another's. */
export function checkChange(
  found: { person: string; isDeleted: boolean } | undefined,
  change: Change,
): void {
  if (found === undefined || found.isDeleted) {
    throw new ChatError("not_found", "There is no such message in this room.");
  }
  if (found.person !== change.person && !change.isModerator) {
    throw new ChatError("forbidden", "Only its author may change a message.");
  }
}

let lastTime = NaN;
let lastTimestamp = "";

/**
 * A time in milliseconds since 1970 as RFC 3339 has it, in UTC. Many messages share a millisecond,
 * so the last answer is kept.
 */
export function toTimestamp(time: number): string {
  if (time !== lastTime) {
    lastTimestamp = new Date(time).toISOString();
    lastTime = time;
  }
  return lastTimestamp;
}

/** The id of the message that a log has at a `seq`: a log is found by its epoch, a message by both. */
export function toMessageId(epoch: string, seq: number): string {
  return `${epoch}-${seq}`;
}

/** The `seq` of the message with this id, if it can be one of the log with this epoch. */
export function toSeq(epoch: string, id: string): number | undefined {
  if (!id.startsWith(`${epoch}-`)) return undefined;
  const seq = Number(id.slice(epoch.length + 1));
  return toMessageId(epoch, seq) === id ? seq : undefined;
}

/** Under what a message is found again when its sender, by `nameKey`, repeats it. */
export function refKey(author: string, ref: string): string {
  return `${author}\n${ref}`;
}

/** The sender and the ref that a {@linkcode refKey} is made of. No name has a line break. */
export function splitRefKey(key: string): [author: string, ref: string] {
  const end = key.indexOf("\n");
  return [key.slice(0, end), key.slice(end + 1)];
}

/** What is left of an event when its message is deleted. */
export function withoutText(event: LogEvent): LogEvent {
  if (event.type !== "chat") return { ...event, content: "" };
  const { edited: _, ...rest } = event;
  return { ...rest, content: "", deleted: true };
}
