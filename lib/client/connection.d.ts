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
 * What the connection is doing. It is live `via` a WebSocket or, where none gets through, a stream
 * of Server-Sent Events; what it does is the same. `retryAt` is in milliseconds of
 * `performance.now()`. `reason` is a sentence for a person, `""` when there is nothing worth saying.
 * `code` is the HTTP status or the close code that ended it.
 */
export type ConnectionState =
  | { state: "connecting" }
  | { state: "live"; via: "socket" | "stream" }
  | { state: "reconnecting"; retryAt: number; attempt: number; reason: string }
  | { state: "refused"; reason: string; code: number }
  | { state: "closed" };

/**
 * What opening a sealed text came to: it was `sound`, it could not be opened (`broken`), it is a
 * repeat of another message or of an earlier text (`replayed`), or it was not sealed at all
 * (`bare`).
 */
export type Seal = "sound" | "broken" | "replayed" | "bare";

/** An event of the server. `seal` is absent where there is no cipher. */
export type Told = Event & { seal?: Seal };

/** What a sealed text is bound to: it opens nowhere else. */
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
  /** The id of the message whose new text it is. */
  edits?: string | undefined;
}

/** Seals the texts that go out, and opens those that come in. */
export interface Sealer {
  /** Names the key. */
  fingerprint: string;
  /** Seals a text. */
  seal(text: string, label: Label): Promise<string>;
  /** Opens a text; rejects if the key or the label is another one. */
  open(sealed: string, label: Label): Promise<string>;
}

/** A text on its way out. */
export interface Outgoing {
  /** The text. */
  content: string;
  /** The only receiver. */
  to?: string;
  /** The id of the message that it answers. */
  replyTo?: string;
  /** The message that it changes. */
  edits?: { id: string; ref?: string | undefined; replyTo?: string | undefined };
  /** Names it here and for the server, which takes the same `ref` only once. */
  ref: string;
  /**
   * It is `waiting` until it can go, `sending` until the server has stored it, then `sent`; or it
   * has `failed` for `reason`, and may be sent again.
   */
  status: "waiting" | "sending" | "sent" | "failed";
  /** Why it failed, or waits, as a sentence; else `""`. */
  reason: string;
  /** Sealed with a key that is not here: it has no text, and can only be discarded. */
  isLocked?: boolean;
  /** The server's answer, once it is sent. */
  ack?: Pick<AckEvent, "id" | "seq" | "inbox_seq" | "timestamp" | "duplicate">;
}

/**
 * A text as it is kept over the end of a program, which need not look into it: with a cipher it is
 * sealed.
 */
export interface Unsent {
  /** Names it for the server, which takes the same `ref` only once. */
  ref: string;
  /** The text, which may be sealed. */
  content: string;
  /** Its author. */
  by: string;
}

/** The texts of one person in one room that the server has not stored yet. */
export interface Outbox {
  /** All of them, oldest first. */
  readonly items: Outgoing[];
  /** Whether everything is stored, or has failed. */
  readonly isDone: boolean;
  /** Sends an item again that has failed. */
  sendAgain(ref: string): void;
  /** Forgets an item that has failed. */
  discard(ref: string): void;
  /** Everything that is not stored, in a form that can be kept as JSON. */
  save(): Unsent[];
  /** Takes over what {@linkcode Outbox.save} gave in another life of the program. */
  load(unsent: readonly Unsent[]): Promise<void>;
}

/** Who is in the room: everyone in a small room; in a crowd the known names and the count of all. */
export interface Roster {
  /** The names that are known, in order of joining. */
  readonly names: string[];
  /** How many people there are in all. */
  readonly online: number;
  /** How many there are whose names are not known. */
  readonly unknown: number;
  /** Whether a name is known to be there. */
  has(name: string): boolean;
}

/** The events of a {@linkcode Connection}. */
export interface Emits {
  /** Its state has changed. */
  state: ConnectionState;
  /**
   * The events of one frame, in order. Every message comes once, and in the order of its `seq`; an
   * own one comes after its `outgoing` has said `sent`.
   */
  events: readonly Told[];
  /** A text to be sent has another status. */
  outgoing: Outgoing;
  /**
   * Something may have been missed for good. `isNewLife`: the numbering starts anew, and what was
   * told before has no place in it.
   */
  gap: { isNewLife: boolean };
  /** Somebody came or went. */
  people: Roster;
}

/** Where to join, and as whom. */
export interface ConnectionOptions {
  /** Where the server is, `http:` or `https:`; `ws/ROOM` is beside it. */
  base: string | URL;
  /** The room. */
  room: string;
  /** The person's name. It may be absent with a `token`, with which a name comes. */
  username?: string;
  /**
   * The token of an account, from signing in or made for a bot; or one with which the site's own
   * server signs the person in.
   */
  token?: string;
  /** The secret from an earlier welcome: proves to be the same person. */
  session?: string;
  /**
   * The way of the first attempt, a socket by default: another connection to the server may know
   * that none gets through.
   */
  via?: "socket" | "stream";
  /** Seals every text. Without it nothing is sealed. */
  cipher?: Sealer;
}

/** The server refuses what was asked for. The message is its sentence. */
export class RefusedError extends Error {
  /** One of the error codes of `chat.v1`. */
  readonly code: string;
  /** Makes the error of a sentence and a code. */
  constructor(sentence: string, code: string);
}

/** Joins a room and stays there until told to leave or turned away. */
export class Connection {
  /** The room. */
  readonly room: string;
  /** The person's name; once joined, as the server spells it. Empty before, if only a token tells. */
  readonly username: string;
  /** What is still to be sent. */
  readonly outbox: Outbox;
  /** Who is in the room. */
  readonly roster: Roster;
  /** The secret that proves to be the same person again, once the server gave one. */
  readonly session: string | undefined;
  /** UTF-8 bytes of a message, as the server takes it; `null` for no limit. */
  readonly maxMessageBytes: number | null;
  /**
   * What the person may do here: owners and admins may remove people, delete any message, and
   * change the room's settings.
   */
  readonly role: Role;
  /** Whether only the room's members may come in. */
  readonly isPrivate: boolean;
  /** What the connection is doing. */
  readonly state: ConnectionState;

  /**
   * Nothing happens before {@linkcode Connection.open}.
   *
   * @throws {TypeError} if `base` is no address of a server
   */
  constructor(options: ConnectionOptions);

  /** Calls back at every later event of a type. The returned function stops it. */
  on<T extends keyof Emits>(type: T, listener: (what: Emits[T]) => void): () => void;

  /**
   * Joins. Does nothing when already joining or joined.
   *
   * @param how `token`: a new one in place of the old, from the next attempt on
   */
  open(how?: { token?: string }): void;

  /** Ends the wait for the next attempt, because the network is back or a person asked. */
  retry(): void;

  /**
   * To be called when the connection may have died unnoticed: the computer slept, the network is
   * another one. A connection that is waiting tries now, a live one asks the server for an answer.
   */
  check(): void;

  /**
   * To be called when the network is known to be gone: the wait for it begins at once.
   *
   * @param reason a sentence for the person
   */
  interrupt(reason: string): void;

  /**
   * Leaves. {@linkcode Connection.open} joins again, and goes on from there. What is unsent stays in
   * the outbox. Resolves when the connection is closed.
   *
   * @param code the close code; 1000 by default
   */
  close(code?: number): Promise<void>;

  /**
   * Says something to the room. It goes out now, or as soon as there is a connection, and once.
   *
   * @param how `replyTo`: the id of the message that it answers
   */
  send(content: string, how?: { replyTo?: string }): Outgoing;

  /** Says something to one person in the room. */
  whisper(to: string, content: string): Outgoing;

  /** Gives an own message another text. It goes out like a message: now, or as soon as it can. */
  edit(id: string, content: string): Outgoing;

  /**
   * Takes an own message back; owners and admins any message.
   *
   * @throws {RefusedError} if the server does not do it, or there is no connection
   */
  delete(id: string): Promise<AckEvent>;

  /**
   * Removes everyone under a name from the room. For its owner and for admins.
   *
   * @param how `reason` is what they are told; with `ban` neither the name nor the person can come
   *   back
   * @throws {RefusedError} if the server does not do it, or there is no connection
   */
  kick(username: string, how?: { reason?: string; ban?: boolean }): Promise<AckEvent>;

  /**
   * Changes the room's settings, those that are named. For its owner and for admins; whoever has an
   * account and changes those of a room without an owner owns it from then on.
   *
   * @throws {RefusedError} if the server does not do it, or there is no connection
   */
  setRoom(change: RoomChange): Promise<AckEvent>;

  /**
   * Asks for the messages before or after a `seq`, or for the newest.
   *
   * @throws {RefusedError} if the server does not do it, or there is no connection
   */
  history(
    range?: { before?: number; after?: number; limit?: number },
  ): Promise<HistoryEvent & { messages: readonly Told[] }>;

  /** Says that one types, or no longer does. May be called on every key. */
  typing(active: boolean): void;
}
