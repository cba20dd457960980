/**
 * The types of `public/connection.js`, for programs in TypeScript.
 *
 * @module
 */

import type { RoomChange } from "../protocol/commands.ts";
import type { AckEvent, Event, HistoryEvent, Role } from "../protocol/events.ts";

export type { ErrorCode } from "../errors.ts";
export type { RoomChange } from "../protocol/commands.ts";
export type {
  AckEvent,
  ChatEvent,
  DmEvent,
  EpochEvent,
  ErrorEvent,
  Event,
  EventBase,
  HistoryEvent,
  MessageDeletedEvent,
  MessageUpdatedEvent,
  NoticeEvent,
  OnlineUsersEvent,
  PongEvent,
  PresenceEvent,
  Role,
  TypingEvent,
  UserEntry,
  WelcomeEvent,
} from "../protocol/events.ts";

/**
 * What the connection is doing. It is live `via` a WebSocket or, if the network blocks WebSockets,
 * a stream of Server-Sent Events, which does the same. `retryAt` is in milliseconds of
 * `performance.now()`. `reason` is a sentence for a person, or `""`. `code` is the HTTP status or
 * the close code that ended the connection.
 */
export type ConnectionState =
  | { state: "connecting" }
  | { state: "live"; via: "socket" | "stream" }
  | { state: "reconnecting"; retryAt: number; attempt: number; reason: string }
  | { state: "refused"; reason: string; code: number }
  | { state: "closed" };

/**
 * The result of opening a sealed text: it is `sound`, it cannot be opened (`broken`), it repeats
 * another message or an earlier text (`replayed`), or it is not sealed (`bare`).
 */
export type Seal = "sound" | "broken" | "replayed" | "bare";

/** An event of the server. `seal` is absent without a cipher. */
export type Told = Event & { seal?: Seal };

/** The place that a sealed text is bound to: it opens nowhere else. */
export interface Label {
  /** The room. */
  room: string;
  /** The author's name, as the server spells it. */
  from: string;
  /** The only receiver of a private message. */
  to?: string | undefined;
  /** The author's `ref` of the message; of an edit, that of the edited message. */
  ref?: string | undefined;
  /** The id of the message that this one, or the edited one, answers. */
  replyTo?: string | undefined;
  /** The id of the message that the text replaces. */
  edits?: string | undefined;
}

/** Seals outgoing texts, and opens incoming ones. */
export interface Sealer {
  /** Identifies the key. */
  fingerprint: string;
  /** Seals a text. */
  seal(text: string, label: Label): Promise<string>;
  /** Opens a text; rejects if the key or the label differs. */
  open(sealed: string, label: Label): Promise<string>;
}

/** A text to be sent. */
export interface Outgoing {
  /** The text. */
  content: string;
  /** The only receiver. */
  to?: string;
  /** The id of the message that this one answers. */
  replyTo?: string;
  /** The message that it edits. */
  edits?: { id: string; ref?: string | undefined; replyTo?: string | undefined };
  /** Identifies it here and to the server, which stores each `ref` only once. */
  ref: string;
  /**
   * It is `waiting` until it can go, `sending` until the server has stored it, then `sent`; or it
   * has `failed`, as `reason` says, and can be sent again.
   */
  status: "waiting" | "sending" | "sent" | "failed";
  /** Why it failed, or waits, as a sentence; else `""`. */
  reason: string;
  /**
   * Whether it is sealed with a key that is missing. Then it has no text, and can only be
   * discarded.
   */
  isLocked?: boolean;
  /** The server's answer, once it is sent. */
  ack?: Pick<AckEvent, "id" | "seq" | "inbox_seq" | "timestamp" | "duplicate">;
}

/**
 * A text to be stored until the program runs again. The program need not read it: with a cipher it
 * is sealed.
 */
export interface Unsent {
  /** Identifies it to the server, which stores each `ref` only once. */
  ref: string;
  /** The text, which may be sealed. */
  content: string;
  /** Its author. */
  by: string;
}

/** One person's texts for one room that the server has not stored yet. */
export interface Outbox {
  /** All of them, oldest first. */
  readonly items: Outgoing[];
  /** Whether everything is stored, or has failed. */
  readonly isDone: boolean;
  /** Sends a failed item again. */
  sendAgain(ref: string): void;
  /** Drops a failed item. */
  discard(ref: string): void;
  /** Every item that the server has not stored, as values for JSON. */
  save(): Unsent[];
  /** Adds the items that {@linkcode Outbox.save} returned in an earlier run of the program. */
  load(unsent: readonly Unsent[]): Promise<void>;
}

/** The people in the room: everyone in a small room; in a crowd the known names and the count. */
export interface Roster {
  /** The known names, in order of joining. */
  readonly names: string[];
  /** The number of all people. */
  readonly online: number;
  /** The number of people whose names are not known. */
  readonly unknown: number;
  /** Whether a name is among the known ones. */
  has(name: string): boolean;
}

/** The events of a {@linkcode Connection}. */
export interface Emits {
  /** The connection has a new state. */
  state: ConnectionState;
  /**
   * The events of one frame, in order. Every message comes once, in the order of `seq`. Your own
   * message comes after its `outgoing` with `sent`.
   */
  events: readonly Told[];
  /** A text to be sent has a new status. */
  outgoing: Outgoing;
  /**
   * Events may be lost for good. `isNewLife`: the numbering starts anew, so earlier `seq`s are no
   * longer valid.
   */
  gap: { isNewLife: boolean };
  /** Somebody has joined or left. */
  people: Roster;
}

/** The room to join, and the person who joins. */
export interface ConnectionOptions {
  /** The address of the server, `http:` or `https:`; `ws/ROOM` is relative to it. */
  base: string | URL;
  /** The room. */
  room: string;
  /** The person's name. With a `token` it may be absent: a name comes with the token. */
  username?: string;
  /**
   * The token of an account, from signing in or made for a bot; or one with which the site's own
   * server signs the person in.
   */
  token?: string;
  /** The secret from an earlier welcome, which proves that a guest is the same person. */
  session?: string;
  /**
   * The kind of the first attempt, a socket by default. Choose `stream` if an earlier connection
   * found that WebSockets are blocked.
   */
  via?: "socket" | "stream";
  /** Seals every text. Without it nothing is sealed. */
  cipher?: Sealer;
}

/** The server refuses a command. The message is the server's sentence. */
export class RefusedError extends Error {
  /** One of the error codes of `chat.v1`. */
  readonly code: string;
  /** Makes the error from a sentence and a code. */
  constructor(sentence: string, code: string);
}

/** Joins a room, and stays there until {@linkcode Connection.close} or a refusal. */
export class Connection {
  /** The room. */
  readonly room: string;
  /**
   * The person's name, after the join as the server spells it; empty before, without a `username`.
   */
  readonly username: string;
  /** The texts that are not sent yet. */
  readonly outbox: Outbox;
  /** The people in the room. */
  readonly roster: Roster;
  /** A guest's secret, which proves later that it is the same person; absent before the welcome. */
  readonly session: string | undefined;
  /** Maximum UTF-8 bytes of a message; `null` for no limit. */
  readonly maxMessageBytes: number | null;
  /**
   * The person's rights here: owners, moderators and admins may remove people and delete any
   * message; owners and admins may change the room's settings.
   */
  readonly role: Role;
  /** Whether the room admits only its members. */
  readonly isPrivate: boolean;
  /** What the connection is doing. */
  readonly state: ConnectionState;

  /**
   * Does not connect yet: call {@linkcode Connection.open}.
   *
   * @throws {TypeError} if `base` is not the address of a server
   */
  constructor(options: ConnectionOptions);

  /** Calls back at every later event of a type. Returns a function that ends this. */
  on<T extends keyof Emits>(type: T, listener: (what: Emits[T]) => void): () => void;

  /**
   * Joins the room. Does nothing if it is joining or has joined.
   *
   * @param how `token`: a new one in place of the old, from the next attempt on
   */
  open(how?: { token?: string }): void;

  /** Tries to reconnect now. Call it when the network is back, or a person asks. */
  retry(): void;

  /**
   * Checks the connection. Call it when it may have died unnoticed, for example after the computer
   * slept or the network changed. A waiting connection tries now, a live one asks the server for an
   * answer.
   */
  check(): void;

  /**
   * Stops using a connection that is known to be dead, and waits for the network. Call it when the
   * network is gone.
   *
   * @param reason a sentence for the person
   */
  interrupt(reason: string): void;

  /**
   * Leaves the room. {@linkcode Connection.open} joins again, and continues there. Unsent texts
   * stay in the outbox. Resolves when the connection is closed.
   *
   * @param code the close code; 1000 by default
   */
  close(code?: number): Promise<void>;

  /**
   * Sends a message to the room, now or as soon as there is a connection, and only once.
   *
   * @param how `replyTo`: the id of the message that this one answers
   */
  send(content: string, how?: { replyTo?: string }): Outgoing;

  /** Sends a private message to one person in the room. */
  whisper(to: string, content: string): Outgoing;

  /** Replaces the text of your own message, now or as soon as there is a connection. */
  edit(id: string, content: string): Outgoing;

  /**
   * Deletes your own message; as owner, moderator or admin, any message.
   *
   * @throws {RefusedError} if the server refuses, or there is no connection
   */
  delete(id: string): Promise<AckEvent>;

  /**
   * Removes everyone with a name from the room. For owner, moderators and admins.
   *
   * @param how `reason` is shown to them; with `ban` neither the name nor the person can return
   * @throws {RefusedError} if the server refuses, or there is no connection
   */
  kick(username: string, how?: { reason?: string; ban?: boolean }): Promise<AckEvent>;

  /**
   * Changes the named settings of the room. For owner and admins. An account that changes a room
   * without an owner owns it from then on.
   *
   * @throws {RefusedError} if the server refuses, or there is no connection
   */
  setRoom(change: RoomChange): Promise<AckEvent>;

  /**
   * Asks for the messages before or after a `seq`, or for the newest.
   *
   * @throws {RefusedError} if the server refuses, or there is no connection
   */
  history(
    range?: { before?: number; after?: number; limit?: number },
  ): Promise<HistoryEvent & { messages: readonly Told[] }>;

  /** Tells the room whether you are typing. You may call it on every key. */
  typing(active: boolean): void;
}
