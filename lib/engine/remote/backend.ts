/**
 * The interface between the remote engine and a server that several instances share. PostgreSQL and
 * Redis implement it; so does, for tests, a memory store behind an unreliable wire.
 *
 * A backend translates calls into statements and scripts. It has no queue, repeats nothing, and
 * keeps only its connections. The remote engine decides what to send when, and what to do after an
 * answer or without one.
 *
 * @module
 */

import type { ChatError } from "../../errors.ts";
import type { Account, BotToken, Known, Token } from "../../people/accounts.ts";
import type { ChatEvent, LogEvent } from "../../protocol/events.ts";
import type {
  Author,
  Change,
  Draft,
  EngineEvent,
  InboxEntry,
  LogState,
  MessageRange,
  Presence,
  PrivateDraft,
  PrivateMessage,
  Receipt,
  RoomSettings,
  Wanted,
} from "../engine.ts";

/** A server that several instances share. */
export interface Backend {
  /** The server, for people: `PostgreSQL`, `Redis`. */
  readonly name: string;
  /**
   * Opens connections to the server, checks that the server can be used, and updates its tables or
   * scripts. Begins an epoch if the server has restarted since the last write.
   *
   * @param signal ends the attempt, and closes what it has opened
   * @throws {Error} whose message is a sentence that says what is wrong and what to do
   */
  connect(listener: LinkListener, signal: AbortSignal): Promise<Link>;
}

/** Receives what a link receives, until the link is closed. */
export interface LinkListener {
  /** News of a room that this link subscribed to, or of `EVERYWHERE`, in the order of sending. */
  onNews(news: News): void;
  /** A probe of {@linkcode Link.beat} came back through the subscription. */
  onProbe(probe: string): void;
  /** A connection has failed. The link cannot be used any more. */
  onLost(reason: Error): void;
}

/**
 * The connections of one instance to the server. If one of them fails, the whole link is closed,
 * and another link is opened.
 *
 * Every call is one round trip. A call that gets no answer because its connection fails is
 * rejected; so is every call after {@linkcode Link.close}. A write that is rejected with an error
 * other than {@linkcode ChatError} or {@linkcode NotDone} may or may not have taken effect.
 */
export interface Link {
  /** The time of the server's clock when the link was opened, in milliseconds since 1970. */
  readonly time: number;
  /**
   * Runs jobs in order. Each room receives the news of its jobs in this order.
   *
   * If the instance has no live lease, `enter` answers `unavailable`: nobody would ever end the
   * presence. The other jobs need no lease.
   *
   * The server keeps the answers to the last batch of each instance. To a repeat of that batch it
   * gives the same answers, and does nothing again.
   *
   * @returns an answer for each job
   * @throws {TooLate} if the server reached the batch after its deadline, and did nothing
   */
  turn(batch: Batch): Promise<Answer[]>;
  /** Subscribes to a room. Resolves when the subscription is live. */
  subscribe(room: string): Promise<void>;
  /** Ends the subscription to a room. */
  unsubscribe(room: string): void;
  /** Reads a room at one moment. */
  open(room: string, wanted: Wanted): Promise<Opened>;
  /** Reads, at one moment, everything that a room's feed has missed. */
  page(room: string, since: Position, limit: number): Promise<Page>;
  /** Renews the lease of the instance, sends a probe, and returns the positions of rooms. */
  beat(beat: Beat): Promise<Pulse>;
  /** Ends the lease of an instance and its presences: their rooms receive `left`. */
  end(instance: string): Promise<void>;
  /** The presences that an instance has on the server. */
  presences(instance: string): Promise<{ readonly room: string; readonly connection: string }[]>;

  // The reading half of `Log`
  author(room: string, id: string): Promise<Author | undefined>;
  state(room: string): Promise<LogState>;
  canResume(room: string, epoch: string, seq: number): Promise<boolean>;
  canResumeInbox(room: string, person: string, epoch: string, inboxSeq: number): Promise<boolean>;
  events(room: string, after: number, limit: number): Promise<LogEvent[]>;
  messages(room: string, range: MessageRange): Promise<ChatEvent[]>;
  inbox(room: string, person: string, after: number, limit: number): Promise<InboxEntry[]>;
  inboxSeq(room: string, person: string): Promise<number>;

  // Settings, see `RoomSettingsStore`. A job in a turn changes them.
  settings(room: string): Promise<RoomSettings>;
  countOwned(owner: string): Promise<number>;

  // Accounts, see `AccountStore`. Writes carry a deadline as a batch does.
  addAccount(account: Account, deadline: number): Promise<boolean>;
  account(key: string): Promise<Account | undefined>;
  addToken(token: Token, deadline: number): Promise<void>;
  token(hash: string): Promise<Token | undefined>;
  addBotToken(token: BotToken, most: number, deadline: number): Promise<boolean>;
  botTokens(account: string): Promise<BotToken[]>;
  endBotToken(account: string, name: string, deadline: number): Promise<boolean>;
  endToken(hash: string, deadline: number): Promise<void>;
  endTokens(account: string, deadline: number): Promise<void>;
  setPassword(key: string, hash: string, kept: string, deadline: number): Promise<boolean>;
  removeAccount(key: string, deadline: number): Promise<boolean>;
  eraseNext(deadline: number): Promise<boolean>;
  /** Which of these tokens have ended, and which of these keys have an account now. */
  recheck(known: Known): Promise<Known>;

  /**
   * Closes every connection at once, and rejects calls without an answer. A repeat does nothing.
   */
  close(): void;
}

/** The server answered a write with an error, and did nothing. */
export class NotDone extends Error {
  override readonly name: string = "NotDone";
}

/** The server reached a write after its deadline, and did nothing. */
export class TooLate extends NotDone {
  override readonly name = "TooLate";

  constructor() {
    super("The server did not begin in time.");
  }
}

/** Jobs that the server runs together. */
export interface Batch {
  readonly instance: string;
  /** Grows from batch to batch of one instance. */
  readonly number: number;
  readonly jobs: readonly Job[];
  /** The latest time for the server to begin, by its own clock, in milliseconds since 1970. */
  readonly deadline: number;
}

/** A change, or a read that must see the changes before it. */
export type Job =
  /** See `Log.append`. */
  | { readonly type: "append"; readonly room: string; readonly draft: Draft }
  /** See `Log.change`. */
  | { readonly type: "change"; readonly room: string; readonly change: Change }
  /** See `Log.whisper`. `id` becomes the message's id. */
  | {
    readonly type: "whisper";
    readonly room: string;
    readonly draft: PrivateDraft;
    readonly id: string;
  }
  /**
   * See `Bus.enter`. A connection that is already present stays present, now as one of this
   * instance, and the answer is its position.
   */
  | { readonly type: "enter"; readonly room: string; readonly presence: Presence }
  /** See `Bus.leave`. */
  | { readonly type: "leave"; readonly room: string; readonly connection: string }
  /** Passes an event that is not stored to the subscribers of a room. */
  | { readonly type: "publish"; readonly room: string; readonly event: EngineEvent }
  /** See `RoomSettingsStore.setSettings`. */
  | { readonly type: "settings"; readonly room: string; readonly settings: RoomSettings }
  /** See `Bus.present`. */
  | { readonly type: "present"; readonly room: string }
  /** See `Bus.lastSeen`. */
  | { readonly type: "lastSeen"; readonly room: string; readonly username: string };

/**
 * The answer to a job, or its refusal, which does not affect the other jobs.
 *
 * `append`, `change`: a receipt; `whisper`: a receipt of a private message; `enter`: the position;
 * `settings`: whether it was stored; `present`: the presences; `lastSeen`: the author, if there is
 * one; any other job: `undefined`.
 */
export type Answer =
  | Receipt<LogEvent>
  | Receipt<PrivateMessage>
  | number
  | boolean
  | readonly Presence[]
  | Author
  | ChatError
  | undefined;

/**
 * The newest numbers of a room. Every event of a room has one of these numbers, except those of the
 * {@linkcode Job} `publish`.
 *
 * When an epoch begins, `presence` and `privates` jump to the server's time in microseconds, so
 * that no number is given twice, even if the server has lost the newest ones.
 */
export interface Position {
  readonly epoch: string;
  /** The newest event of the log. */
  readonly seq: number;
  /** The newest change of presence: the `position` of `entered` and `left`. */
  readonly presence: number;
  /** The newest private message of the room, whoever its people are. */
  readonly privates: number;
  /** The version of the settings. */
  readonly settings: number;
  /** How often messages have been erased without an event of the log. */
  readonly erasures: number;
}

/** New events of one room. */
export interface News {
  readonly room: string;
  readonly epoch: string;
  /**
   * The events, in order. Absent if they do not fit: then the room has reached `position`, and the
   * feed must read the events.
   */
  readonly items?: readonly NewsItem[];
  /** The room's position after the events; present if `items` is absent. */
  readonly position?: Position;
}

/** One event, with its number. */
export interface NewsItem {
  readonly event: EngineEvent;
  /**
   * For `entered` and `left`, `event.position`. For `private`, `erased`, and any event of
   * `EVERYWHERE`, a count of such events. `logged` and `settings` have their own numbers (`seq` and
   * `version`); events that are not stored have none. The numbers of each kind have no holes.
   */
  readonly number?: number | undefined;
}

/** A room at one moment. */
export interface Opened {
  readonly position: Position;
  readonly oldestSeq: number;
  readonly events: readonly LogEvent[];
  readonly messages: readonly ChatEvent[];
  readonly settings: RoomSettings;
  /** In order of entering. */
  readonly present: readonly Presence[];
}

/** Everything that a feed at an earlier position has missed, or the beginning of it. */
export interface Page {
  /** The room's present position. */
  readonly position: Position;
  /**
   * Whether the log continues from the feed's epoch and `seq`, and contains every event since: as
   * in `Log.canResume`, and also at `seq` 0 if the log has its beginning.
   */
  readonly continues: boolean;
  /** The events of the log after the feed's `seq`, at most `limit`. */
  readonly events: readonly LogEvent[];
  /** The private messages after the feed's number, oldest first, at most `limit`. */
  readonly privates: readonly { readonly number: number; readonly message: PrivateMessage }[];
  /** The page has every private message up to this number. The room may have further ones. */
  readonly privatesTo: number;
  /** Present if their version differs from the feed's. */
  readonly settings?: RoomSettings | undefined;
  /** Present if their number differs from the feed's. */
  readonly present?: readonly Presence[] | undefined;
}

/** The call that an instance makes once a second. */
export interface Beat {
  readonly instance: string;
  /** How long the lease lasts from now, in milliseconds. */
  readonly leaseMs: number;
  /** Comes back through the subscription of this link. */
  readonly probe: string;
  /** The rooms whose positions the instance asks for. */
  readonly rooms: readonly string[];
  /** The batches up to this number are answered, so the server may drop its answers to them. */
  readonly answered: number;
}

/** The answer to a {@linkcode Beat}. */
export interface Pulse {
  /** The time of the server's clock, in milliseconds since 1970. */
  readonly time: number;
  /**
   * Whether the lease was renewed, or is new. False if it had expired: its presences are ending,
   * and the instance needs another name.
   */
  readonly isAlive: boolean;
  /** The positions of the rooms, in the order of {@linkcode Beat.rooms}. */
  readonly positions: readonly Position[];
  /** The number of the newest event of `EVERYWHERE`. */
  readonly everywhere: number;
}

/** Settings that every backend has. */
export interface BackendOptions {
  /** Minimum events kept per room, and private messages per person and room; `Infinity` for all. */
  readonly keep: number;
  /**
   * For tests: replaces the server's clock for stored times and leases, in milliseconds since 1970;
   * deadlines still use the server's clock. @default the server's clock
   */
  readonly clock?: (() => number) | undefined;
}
