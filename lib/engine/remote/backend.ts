/**
 * What the remote engine asks of a server that several instances share. PostgreSQL and Redis
 * implement it, and a memory store at the other end of an unreliable wire, for tests.
 *
 * A backend translates calls into statements and scripts. It has no queue, repeats nothing, and
 * keeps nothing but its connections: the remote engine decides what is sent when, and what follows
 * from an answer, or from none.
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
   * Opens connections to the server, checks that it can be used, brings what it stores up to date,
   * and begins an epoch if this is another life of the server than the one that wrote last.
   *
   * @param signal ends the attempt: what is open is closed
   * @throws {Error} whose message is a sentence that says what is wrong and what to do
   */
  connect(listener: LinkListener, signal: AbortSignal): Promise<Link>;
}

/** Hears what a link hears, until it is closed. */
export interface LinkListener {
  /** News of a room that this link subscribed to, or of `EVERYWHERE`, in the order of sending. */
  onNews(news: News): void;
  /** A probe of {@linkcode Link.beat} came back through the subscription. */
  onProbe(probe: string): void;
  /** A connection has failed. The link is of no further use. */
  onLost(reason: Error): void;
}

/**
 * The connections of one instance to the server, as one thing: if one of them fails, the link is
 * closed, and another one is opened.
 *
 * Every call is one round trip. A call that a failing connection leaves unanswered is rejected; so
 * is every call after {@linkcode Link.close}. A write that is rejected with any other error than a
 * {@linkcode ChatError} or {@linkcode NotDone} may or may not have taken effect.
 */
export interface Link {
  /** The time of the server's clock when the link was opened, in milliseconds since 1970. */
  readonly time: number;
  /**
   * Runs jobs in order. Each room hears what its jobs did, in this order.
   *
   * Without a live lease of the instance, `enter` answers `unavailable`: nobody would ever end the
   * presence. The other jobs need none.
   *
   * The server keeps the answers to the last batch of each instance. A batch with the number of the
   * last one is answered from them, and nothing is done again.
   *
   * @returns an answer for each job
   * @throws {TooLate} if the server began with the batch after its deadline: it did nothing
   */
  turn(batch: Batch): Promise<Answer[]>;
  /** Subscribes to a room. Resolves when the subscription is live. */
  subscribe(room: string): Promise<void>;
  /** Ends the subscription to a room. */
  unsubscribe(room: string): void;
  /** Reads a room at one moment. */
  open(room: string, wanted: Wanted): Promise<Opened>;
  /** Reads, at one moment, what a room's feed is missing. */
  page(room: string, since: Position, limit: number): Promise<Page>;
  /** Renews the lease of the instance, sends a probe, and says where rooms stand. */
  beat(beat: Beat): Promise<Pulse>;
  /** Ends the lease of an instance and its presences, which their rooms hear. */
  end(instance: string): Promise<void>;
  /** The presences of an instance, by room, for comparison with what it should have. */
  presences(instance: string): Promise<{ readonly room: string; readonly connection: string }[]>;

  // What `Log` reads
  author(room: string, id: string): Promise<Author | undefined>;
  state(room: string): Promise<LogState>;
  canResume(room: string, epoch: string, seq: number): Promise<boolean>;
  canResumeInbox(room: string, person: string, epoch: string, inboxSeq: number): Promise<boolean>;
  events(room: string, after: number, limit: number): Promise<LogEvent[]>;
  messages(room: string, range: MessageRange): Promise<ChatEvent[]>;
  inbox(room: string, person: string, after: number, limit: number): Promise<InboxEntry[]>;
  inboxSeq(room: string, person: string): Promise<number>;

  // Settings, see `RoomSettingsStore`; they change in a turn
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
  /** Which of these tokens have ended, and which of these keys are accounts' by now. */
  recheck(known: Known): Promise<Known>;

  /** Closes every connection at once. What is under way is rejected. A repeat does nothing. */
  close(): void;
}

/** The server answered a write with an error, and did nothing. */
export class NotDone extends Error {
  override readonly name: string = "NotDone";
}

/** The server began with a write after its deadline, and did nothing. */
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
  /** When the server must have begun, by its own clock, in milliseconds since 1970. */
  readonly deadline: number;
}

/** A change, or a read that must see the changes before it. */
export type Job =
  /** See `Log.append`. */
  | { readonly type: "append"; readonly room: string; readonly draft: Draft }
  /** See `Log.change`. */
  | { readonly type: "change"; readonly room: string; readonly change: Change }
  /** See `Log.whisper`. `id` is that of the new message. */
  | {
    readonly type: "whisper";
    readonly room: string;
    readonly draft: PrivateDraft;
    readonly id: string;
  }
  /**
   * See `Bus.enter`. A connection that is present already stays so, as one of this instance, and the
   * answer is its position.
   */
  | { readonly type: "enter"; readonly room: string; readonly presence: Presence }
  /** See `Bus.leave`. */
  | { readonly type: "leave"; readonly room: string; readonly connection: string }
  /** Hands an event that is not stored to the subscribers of a room. */
  | { readonly type: "publish"; readonly room: string; readonly event: EngineEvent }
  /** See `RoomSettingsStore.setSettings`. */
  | { readonly type: "settings"; readonly room: string; readonly settings: RoomSettings }
  /** See `Bus.present`. */
  | { readonly type: "present"; readonly room: string }
  /** See `Bus.lastSeen`. */
  | { readonly type: "lastSeen"; readonly room: string; readonly username: string };

/**
 * The answer to a job, or the refusal of it, which leaves the other jobs as they are.
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
 * Where a room stands. Everything that happens in a room is numbered in one of these ways, except
 * what {@linkcode Job} `publish` sends.
 *
 * When an epoch begins, `presence` and `privates` jump to the server's time in microseconds, so that
 * no number comes twice, though the server lost its newest ones.
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

/** What happened in one room. */
export interface News {
  readonly room: string;
  readonly epoch: string;
  /**
   * What happened, in order. Absent if it does not fit: then the room has reached `position`, and
   * what happened is to be read.
   */
  readonly items?: readonly NewsItem[];
  /** Where the room stands afterwards; present if `items` is not. */
  readonly position?: Position;
}

/** One thing that happened, with its number. */
export interface NewsItem {
  readonly event: EngineEvent;
  /**
   * `entered` and `left`: `event.position`. `private`: counts the room's private messages.
   * `erased`: counts erasures. Any event of `EVERYWHERE`: counts them. `logged` and `settings` have
   * their own numbers (`seq` and `version`), and what is not stored has none. All numbers of one kind
   * follow each other without a hole.
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

/** What a feed that stands at an earlier position is missing. */
export interface Page {
  /** Where the room stands now. */
  readonly position: Position;
  /**
   * Whether the log goes on from the feed's epoch and `seq`, and contains every event since; as
   * `Log.canResume` says, but also true at `seq` 0 of a log that has its beginning.
   */
  readonly continues: boolean;
  /** The events of the log after the feed's `seq`, at most `limit`. */
  readonly events: readonly LogEvent[];
  /** The private messages after the feed's number, oldest first, at most `limit`. */
  readonly privates: readonly { readonly number: number; readonly message: PrivateMessage }[];
  /** Every private message up to this number is here. More follow if the room has reached another. */
  readonly privatesTo: number;
  /** Present if the version is another one than the feed's. */
  readonly settings?: RoomSettings | undefined;
  /** Present if the number is another one than the feed's. */
  readonly present?: readonly Presence[] | undefined;
}

/** What an instance sends once a second. */
export interface Beat {
  readonly instance: string;
  /** How long the lease lasts from now, in milliseconds. */
  readonly leaseMs: number;
  /** Comes back through the subscription of this link. */
  readonly probe: string;
  /** Rooms whose positions are wanted. */
  readonly rooms: readonly string[];
  /** The batch of this number, and every earlier one, has been answered: its answers may go. */
  readonly answered: number;
}

/** The answer to a {@linkcode Beat}. */
export interface Pulse {
  /** The time of the server's clock, in milliseconds since 1970. */
  readonly time: number;
  /**
   * Whether the lease was renewed, or is new. False if it had run out: its presences are ending, and
   * the instance needs another name.
   */
  readonly isAlive: boolean;
  /** Where the rooms stand, in the order of {@linkcode Beat.rooms}. */
  readonly positions: readonly Position[];
  /** The number of the newest event of `EVERYWHERE`. */
  readonly everywhere: number;
}

/** Settings that every backend has. */
export interface BackendOptions {
  /** Minimum events kept per room, and private messages per person and room; `Infinity` for all. */
  readonly keep: number;
  /**
   * For tests: the time that the server takes for its own wherever it stores one or compares a lease
   * with it, in milliseconds since 1970; deadlines are by the real clock. @default the server's clock
   */
  readonly clock?: (() => number) | undefined;
}
