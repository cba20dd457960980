/**
 * The interfaces of an engine, which keeps everything that is stored, or shared by instances.
 *
 * The engine appends a message to its room's log, and publishes it to every subscriber, those of
 * this instance included. There is no other way from a sender to a room, so the delivered text and
 * the stored text never differ.
 *
 * Every engine passes `tests/support/engine_suite.ts`.
 *
 * @module
 */

import type { AccountStore } from "../people/accounts.ts";
import type { ChatEvent, LogEvent } from "../protocol/events.ts";

/** One instance's access to everything that is stored or shared. */
export interface Engine {
  readonly log: Log;
  readonly bus: Bus;
  readonly accounts: AccountStore;
  readonly roomSettings: RoomSettingsStore;
  /**
   * Opens a room: subscribes to it, and reads its state at one moment.
   *
   * @returns the room, when the subscription is live
   */
  open(room: string, wanted: Wanted): Promise<OpenRoom>;
  /**
   * Resolves if the engine can store and read now. Call it about once a second.
   *
   * @throws {Error} the reason, as a sentence, if it cannot
   */
  check(): Promise<void>;
  /**
   * Ends the instance with its subscriptions and presences. Writes that are not stored yet, and all
   * later calls, are rejected with `unavailable`. A repeat does nothing.
   *
   * A write that is on its way to a server is awaited for one second, and then rejected, although
   * the server may store it.
   */
  close(): Promise<void>;
}

/** How much of a room {@linkcode Engine.open} reads. */
export interface Wanted {
  /** Maximum events. */
  readonly events: number;
  /** Maximum messages. */
  readonly messages: number;
}

/** The state of a room at one moment, and every event after that moment. */
export interface OpenRoom {
  readonly state: LogState;
  /** The newest events of the log, oldest first, without a hole. */
  readonly events: readonly LogEvent[];
  /** The newest messages that are not deleted, oldest first. */
  readonly messages: readonly ChatEvent[];
  readonly settings: RoomSettings;
  /** The room's presences, in order of entering. */
  readonly present: readonly Presence[];
  /** `present` includes every change of presence up to this position, and no later one. */
  readonly position: number;
  /**
   * Passes every event after that moment to a subscriber, in order: queued events at once, later
   * ones as they arrive. Call it once.
   */
  listen(subscriber: EngineListener): void;
  /** Ends the subscription. A repeat does nothing. */
  close(): void;
}

/**
 * The messages of every room, and the private messages of every person.
 *
 * Writes of one instance take effect in the order of the calls. A write resolves when it is stored;
 * the room's subscribers may receive its event before or after that.
 */
export interface Log {
  /**
   * Adds a message to a room's log.
   *
   * @throws {ChatError} `conflict` if the person used the `ref` for a message with another text or
   *   another `replyTo`; `not_found` if the log does not have the message with the id `replyTo`
   */
  append(room: string, draft: Draft): Promise<Receipt<ChatEvent>>;
  /**
   * Changes a message, and adds the change to the room's log.
   *
   * @throws {ChatError} `not_found`, or `forbidden` if another person wrote the message
   */
  change(room: string, change: Change): Promise<Receipt<LogEvent>>;
  /**
   * Stores a private message in the inboxes of its two people.
   *
   * @throws {ChatError} `not_found` if it has no receiver and repeats no earlier message; `conflict`
   *   if the person used the `ref` for a private message with another text
   */
  whisper(room: string, draft: PrivateDraft): Promise<Receipt<PrivateMessage>>;
  /** The author of a message, deleted or not, if the log has it. */
  author(room: string, id: string): Promise<Author | undefined>;
  /** The extent of a room's log. */
  state(room: string): Promise<LogState>;
  /**
   * Whether a client that had this epoch and saw the log up to `seq` can resume: the log still
   * contains everything that the client saw, and every event since.
   *
   * With `seq` 0 the epoch does not matter, if the log contains every event from 1 on.
   */
  canResume(room: string, epoch: string, seq: number): Promise<boolean>;
  /** The same for the private messages of a person in a room, up to an `inboxSeq`. */
  canResumeInbox(room: string, person: string, epoch: string, inboxSeq: number): Promise<boolean>;
  /**
   * The events after a `seq`, in order, without a hole, at most `limit`. Each message is in its
   * present form: an edited one has its new text and `edited`, a deleted one has `deleted` and no
   * text. An edit that a later one replaced has the present text of its message, if that is kept.
   */
  events(room: string, after: number, limit: number): Promise<LogEvent[]>;
  /** The messages that are not deleted, in their present form, oldest first. */
  messages(room: string, range: MessageRange): Promise<ChatEvent[]>;
  /** The private messages of a person in a room after an `inboxSeq`, in order, at most `limit`. */
  inbox(room: string, person: string, after: number, limit: number): Promise<InboxEntry[]>;
  /** The `inboxSeq` of a person's newest private message in a room; 0 if there is none. */
  inboxSeq(room: string, person: string): Promise<number>;
}

/**
 * Subscriptions and presence: everything about a room that is not stored.
 *
 * Calls of one instance take effect in order. All subscribers of a room receive its events in the
 * same order.
 */
export interface Bus {
  /**
   * Passes every event of a room to a subscriber.
   *
   * @returns when the subscription is live, a function that ends it
   */
  subscribe(room: string, subscriber: EngineListener): Promise<() => void>;
  /** Passes an event that is not stored to the subscribers of a room. */
  publish(room: string, event: EngineEvent): Promise<void>;
  /**
   * Makes a connection of this instance present: the room receives `entered`.
   *
   * @returns the position of the `entered` event
   * @throws {ChatError} `name_in_use` if another person is present with this name
   */
  enter(room: string, presence: Presence): Promise<number>;
  /**
   * Ends a presence of this instance: the room receives `left`. A repeat does nothing.
   *
   * There is nothing to await: the engine retries until the presence has ended.
   */
  leave(room: string, connection: string): void;
  /** The presences of a room, in order of entering. */
  present(room: string): Promise<Presence[]>;
  /**
   * The user that has a name in a room, or had it within the last 10 minutes. A user that was
   * present when the server stopped counts as present until the server started again.
   */
  lastSeen(room: string, username: string): Promise<Author | undefined>;
  /**
   * Renews this instance's lease, and ends the presences of instances whose lease has expired.
   *
   * An expired lease cannot be renewed: the presences of its instance have ended. An engine on a
   * server enters them again: their rooms receive `left` and `entered`, or `displaced` if another
   * person has the name by then.
   */
  renew(): Promise<void>;
}

/** The settings of every room. */
export interface RoomSettingsStore {
  /** The settings of a room; {@linkcode DEFAULT_SETTINGS} if nobody has changed them. */
  settings(room: string): Promise<RoomSettings>;
  /**
   * Compare-and-set: stores `{ ...settings, version: settings.version + 1 }` and publishes it to
   * the room, unless another change came first.
   *
   * @returns false, with nothing changed, if the stored version is no longer `settings.version`
   */
  setSettings(room: string, settings: RoomSettings): Promise<boolean>;
  /** The number of rooms that an account owns. */
  countOwned(owner: string): Promise<number>;
}

/** An author: a name, and the person behind it. */
export interface Author {
  readonly username: string;
  /** The same for every connection of one person; never sent to a client. */
  readonly person: string;
}

/** A message before the log gives it a place. */
export interface Draft extends Author {
  readonly content: string;
  /**
   * The sender's own id of the message. A draft of the same sender with the same `ref` is a repeat.
   */
  readonly ref?: string | undefined;
  /** The id of the message that this one answers, deleted or not. */
  readonly replyTo?: string | undefined;
  /** The sending connection; part of the event, but not stored. */
  readonly origin: string;
}

/** A private message before it is stored. */
export interface PrivateDraft extends Omit<Draft, "replyTo"> {
  /**
   * Absent if no user has the name. Then the draft is refused unless it repeats an earlier message.
   */
  readonly to?: Author | undefined;
}

/** The common part of every {@linkcode Change}. */
export interface ChangeBase extends Author {
  /** The id of the message. */
  readonly id: string;
  /** The sending connection; part of the event, but not stored. */
  readonly origin: string;
  /** Whether the person may change messages of other people. @default false */
  readonly isModerator?: boolean;
}

/** A request to change a message. `changes.ts` applies it. */
export type Change =
  & ChangeBase
  & (
    | { readonly type: "edit"; readonly content: string }
    | { readonly type: "delete" }
    /** A deletion that also removes the author's name. */
    | { readonly type: "erase" }
  );

/** The rules of one room: its owner, and the people it admits. */
export interface RoomSettings {
  /** The key of the owner's account; absent if the room has no owner. */
  readonly owner: string | undefined;
  /** The moderators' accounts, by key. */
  readonly moderators: readonly string[];
  /** Whether the room admits only its owner, its moderators, its members and admins. */
  readonly isPrivate: boolean;
  /** The members' accounts, by key. */
  readonly members: readonly string[];
  readonly bans: readonly Ban[];
  /** 0 for {@linkcode DEFAULT_SETTINGS}; each change adds one. */
  readonly version: number;
}

/** A person and a name that a room does not admit. */
export interface Ban {
  /** The banned name, by `nameKey`, for every person; `ANONYMOUS` for a member without a name. */
  readonly key: string;
  /** The banned person, under every name. */
  readonly person: string;
  /** The banned address, by `addressKey`, for members without a name. */
  readonly address?: string | undefined;
}

/** The settings of a room that nobody has changed. */
export const DEFAULT_SETTINGS: RoomSettings = Object.freeze({
  owner: undefined,
  moderators: [],
  isPrivate: false,
  members: [],
  bans: [],
  version: 0,
});

/** The result of a write. */
export interface Receipt<E> {
  readonly event: E;
  /**
   * Whether an earlier write had the same `ref`. Then `event` is the earlier one, and is not
   * published again.
   */
  readonly isDuplicate: boolean;
}

/** A stored private message between two people. */
export interface PrivateMessage {
  readonly id: string;
  readonly content: string;
  readonly timestamp: string;
  readonly from: Author;
  readonly to: Author;
  /** Its number among the sender's private messages in this room. */
  readonly fromSeq: number;
  /** Its number among the receiver's private messages in this room. */
  readonly toSeq: number;
  /** The sender's own id of the message. */
  readonly ref?: string;
}

/** A private message in the inbox of one person. */
export interface InboxEntry {
  readonly inboxSeq: number;
  readonly message: PrivateMessage;
}

/** A connection of a person who is in a room. */
export interface Presence extends Author {
  /** Unique for ever. */
  readonly connection: string;
}

/** An event that subscribers receive. */
export type EngineEvent =
  | {
    readonly type: "logged";
    readonly event: LogEvent;
    readonly origin: string;
  }
  | { readonly type: "private"; readonly message: PrivateMessage; readonly origin: string }
  | {
    readonly type: "typing";
    readonly username: string;
    readonly isActive: boolean;
    readonly origin: string;
  }
  | {
    readonly type: "entered" | "left";
    readonly presence: Presence;
    /** Grows with every change of presence in the room; numbers may be skipped. */
    readonly position: number;
  }
  | { readonly type: "settings"; readonly settings: RoomSettings }
  | {
    /** Removes all connections with a name, or all of a person. */
    readonly type: "kicked";
    readonly who: { readonly key: string } | { readonly person: string };
    readonly reason: string | undefined;
  }
  /** Messages have lost text and author, without an event of the log. */
  | { readonly type: "erased"; readonly ids: readonly string[] }
  | { readonly type: "token_ended"; readonly hash: string }
  /** Every token of an account has ended, except the one with the hash `kept`. */
  | { readonly type: "tokens_ended"; readonly account: string; readonly kept: string }
  | { readonly type: "registered"; readonly key: string }
  /** The log continues in a new epoch. What a client has seen of it stays valid. */
  | { readonly type: "epoch"; readonly epoch: string }
  /**
   * The log has lost events, published or not: the room must be opened again. It is the last event
   * that a subscriber receives.
   */
  | { readonly type: "lost" }
  /**
   * After the lease of this instance had expired, the engine cannot enter a presence again: another
   * person has the name.
   */
  | { readonly type: "displaced"; readonly connection: string }
  /** Server-wide events may have been missed. */
  | { readonly type: "missed" };

/** Pseudo-room for server-wide events: registrations and ended tokens. No room has this name. */
export const EVERYWHERE = "";

/**
 * Receives every event of one room; logged events in order of `seq`. It must not throw, or the
 * subscribers after it miss the event.
 */
export type EngineListener = (event: EngineEvent) => void;

/** The extent of a log. */
export interface LogState {
  /**
   * Names one life of the numbering: every start of an engine begins another. A message's id
   * consists of the epoch that it was written in and its `seq`, so ids are unique.
   */
  readonly epoch: string;
  /** The oldest `seq` that is still kept; `lastSeq + 1` if there is none. */
  readonly oldestSeq: number;
  /** The newest `seq`; 0 if there is none yet. */
  readonly lastSeq: number;
}

/** A range of messages: before a `seq`, after one, or the newest. */
export interface MessageRange {
  /** Selects the newest messages with a smaller `seq`. */
  readonly before?: number | undefined;
  /** Selects the oldest messages with a greater `seq`. */
  readonly after?: number | undefined;
  /** Maximum messages. */
  readonly limit: number;
}

/** Settings that every engine has. */
export interface EngineOptions {
  /** The time in milliseconds since 1970. */
  readonly clock: () => number;
  /** Makes an id that is unique for ever. */
  readonly newId: () => string;
  /** Minimum events kept per room, and private messages per person and room; `Infinity` for all. */
  readonly keep: number;
  /** How long an instance counts as alive after its last renewal, in milliseconds. */
  readonly leaseMs: number;
}
