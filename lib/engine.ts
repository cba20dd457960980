/**
 * What is remembered or shared: the log of every room, private messages, presence, and how news of
 * all that reaches the hub.
 *
 * A message is appended to its room's log, and the log tells its subscribers, those of the process
 * that appended it included. There is no other way from a sender to a room, so what people saw and
 * what is stored can never differ.
 *
 * `tests/engine_test.ts` is what an engine must pass to be one.
 *
 * @module
 */

import { Channels, closedError } from "./channels.ts";
import { nameKey } from "./names.ts";
import {
  type ChatEvent,
  type MessageDeletedEvent,
  type MessageUpdatedEvent,
  ProtocolError,
} from "./protocol.ts";

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
}

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
export type News =
  | { readonly type: "logged"; readonly event: LogEvent; readonly origin: string }
  | { readonly type: "private"; readonly message: PrivateMessage; readonly origin: string }
  | {
    readonly type: "typing";
    readonly username: string;
    readonly isActive: boolean;
    readonly origin: string;
  }
  | { readonly type: "entered" | "left"; readonly presence: Presence };

/** Is told of all that happens in one room; logged events come in order of `seq`. */
export type Subscriber = (news: News) => void;

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
  publish(room: string, news: News): Promise<void>;
  /**
   * Makes a connection present, and tells the room that it `entered`.
   *
   * @throws {ProtocolError} `name_in_use` if another person is present under the name
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
export interface Engine extends LiveEngine {
  /**
   * Adds a message to a room's log and tells the room. Resolves when it is stored.
   * Calls of one process take effect in the order in which they are made.
   */
  append(room: string, draft: Draft): Promise<Receipt<ChatEvent>>;
  /**
   * Changes the text of a message, adds that to the log, and tells the room.
   *
   * @throws {ProtocolError} `not_found`, or `forbidden` if it is another's message
   */
  edit(room: string, change: Change & { content: string }): Promise<Receipt<MessageUpdatedEvent>>;
  /**
   * Wipes a message's text, adds that to the log, and tells the room.
   *
   * @throws {ProtocolError} `not_found`, or `forbidden` if it is another's message
   */
  delete(room: string, change: Change): Promise<Receipt<MessageDeletedEvent>>;
  /**
   * Stores a private message for its two people, and tells the room's subscribers.
   *
   * @throws {ProtocolError} `not_found` if it is to nobody and no repeat
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
    throw new ProtocolError("not_found", "There is no such message in this room.");
  }
  if (found.person !== change.person) {
    throw new ProtocolError("forbidden", "Only its author may change a message.");
  }
}

/** What a private message to nobody is refused with. */
export function nobodyError(): ProtocolError {
  return new ProtocolError("not_found", "Nobody with this name is in the room.");
}

/** Under what a message is found again when its sender repeats it. */
export function refKey(author: Author, ref: string): string {
  return `${nameKey(author.username)}\n${ref}`;
}

/** What is left of an event when its message is deleted. */
export function withoutText(event: LogEvent): LogEvent {
  if (event.type !== "chat") return { ...event, content: "" };
  const { edited: _, ...rest } = event;
  return { ...rest, content: "", deleted: true };
}

/** One event with what only the log knows of it. */
interface Entry {
  event: LogEvent;
  readonly person: string;
  readonly refKey: string | undefined;
}

/** The log of one room, in memory. */
interface RoomLog {
  readonly epoch: string;
  entries: Entry[];
  lastSeq: number;
  lastTime: number;
  /** `refKey` to the message that was written under it. */
  readonly refs: Map<string, Entry>;
  /** By person. */
  readonly inboxes: Map<string, Inbox>;
  /** UTF-16 units of all that is kept here. */
  size: number;
}

interface Inbox {
  entries: InboxEntry[];
  lastSeq: number;
  readonly refs: Map<string, PrivateMessage>;
}

/** What {@linkcode MemoryEngine} needs. */
export interface MemoryEngineOptions extends EngineOptions {
  /**
   * UTF-16 units of text kept in all rooms together. Beyond it the rooms not written to for the
   * longest lose their oldest events. @default 33554432
   */
  readonly maxSize?: number;
}

/** What an event takes besides its text, roughly, in UTF-16 units. */
const ENTRY_SIZE = 200;

/** Remembers in this process, until it ends. */
export class MemoryEngine implements Engine {
  readonly #options: MemoryEngineOptions;
  readonly #channels: Channels;
  /** Least recently written first. */
  readonly #logs = new Map<string, RoomLog>();
  #size = 0;
  #isClosed = false;

  constructor(options: MemoryEngineOptions) {
    this.#options = options;
    this.#channels = new Channels(options);
  }

  append(room: string, draft: Draft): Promise<Receipt<ChatEvent>> {
    return this.#write(room, (log) => {
      const key = draft.ref === undefined ? undefined : refKey(draft, draft.ref);
      const first = key === undefined ? undefined : log.refs.get(key);
      if (first !== undefined) return { event: first.event as ChatEvent, isDuplicate: true };
      const event: ChatEvent = {
        type: "chat",
        content: draft.content,
        room,
        username: draft.username,
        id: this.#options.newId(),
        ...this.#place(log),
      };
      const entry: Entry = { event, person: draft.person, refKey: key };
      if (key !== undefined) log.refs.set(key, entry);
      this.#add(room, log, entry, draft.origin);
      return { event, isDuplicate: false };
    });
  }

  edit(room: string, change: Change & { content: string }): Promise<Receipt<MessageUpdatedEvent>> {
    return this.#write(room, (log) => {
      const entry = this.#find(log, change);
      const message = entry.event as ChatEvent;
      const { id, username } = message;
      const { content } = change;
      const place = this.#place(log);
      this.#replace(log, entry, { ...message, content, edited: true });
      const event = { type: "message_updated", content, room, username, id, ...place } as const;
      this.#add(room, log, { event, person: change.person, refKey: undefined }, change.origin);
      return { event, isDuplicate: false };
    });
  }

  delete(room: string, change: Change): Promise<Receipt<MessageDeletedEvent>> {
    return this.#write(room, (log) => {
      const message = this.#find(log, change).event;
      const { id, username } = message;
      for (const entry of log.entries) {
        if (entry.event.id === id) this.#replace(log, entry, withoutText(entry.event));
      }
      const place = this.#place(log);
      const event = { type: "message_deleted", content: "", room, username, id, ...place } as const;
      this.#add(room, log, { event, person: change.person, refKey: undefined }, change.origin);
      return { event, isDuplicate: false };
    });
  }

  whisper(room: string, draft: PrivateDraft): Promise<Receipt<PrivateMessage>> {
    return this.#write(room, (log) => {
      const { content, username, person, to } = draft;
      const from = this.#inbox(log, person);
      const key = draft.ref === undefined ? undefined : refKey(draft, draft.ref);
      const first = key === undefined ? undefined : from.refs.get(key);
      if (first !== undefined) return { event: first, isDuplicate: true };
      if (to === undefined) throw nobodyError();
      const receiver = this.#inbox(log, to.person);
      const message: PrivateMessage = {
        id: this.#options.newId(),
        content,
        timestamp: this.#time(log),
        from: { username, person },
        to,
        fromSeq: ++from.lastSeq,
        toSeq: ++receiver.lastSeq,
      };
      this.#grow(log, 2 * (ENTRY_SIZE + content.length));
      from.entries.push({ inboxSeq: message.fromSeq, message });
      receiver.entries.push({ inboxSeq: message.toSeq, message });
      if (key !== undefined) from.refs.set(key, message);
      for (const inbox of [from, receiver]) {
        if (inbox.entries.length > this.#options.keep) this.#trimInbox(log, inbox, 1);
      }
      this.publish(room, { type: "private", message, origin: draft.origin });
      return { event: message, isDuplicate: false };
    });
  }

  state(room: string): Promise<LogState> {
    return this.#read(room, ({ epoch, entries, lastSeq }) => ({
      epoch,
      oldestSeq: lastSeq - entries.length + 1,
      lastSeq,
    }));
  }

  log(room: string, after: number, limit: number): Promise<LogEvent[]> {
    return this.#read(room, ({ entries, lastSeq }) => {
      const start = Math.max(0, after - (lastSeq - entries.length));
      return entries.slice(start, start + limit).map(({ event }) => event);
    });
  }

  messages(room: string, { before = Infinity, after, limit }: MessageRange): Promise<ChatEvent[]> {
    return this.#read(room, ({ entries }) => {
      const found = entries.map(({ event }) => event).filter((event): event is ChatEvent =>
        event.type === "chat" && !event.deleted && event.seq < before && event.seq > (after ?? 0)
      );
      if (after !== undefined) return found.slice(0, limit);
      return limit === 0 ? [] : found.slice(-limit);
    });
  }

  inbox(room: string, person: string, after: number, limit: number): Promise<InboxEntry[]> {
    return this.#read(room, ({ inboxes }) => {
      const entries = inboxes.get(person)?.entries ?? [];
      return entries.filter(({ inboxSeq }) => inboxSeq > after).slice(0, limit);
    });
  }

  inboxSeq(room: string, person: string): Promise<number> {
    return this.#read(room, ({ inboxes }) => inboxes.get(person)?.lastSeq ?? 0);
  }

  subscribe(room: string, subscriber: Subscriber): () => void {
    return this.#channels.subscribe(room, subscriber);
  }

  publish(room: string, news: News): Promise<void> {
    return this.#channels.publish(room, news);
  }

  enter(room: string, presence: Presence): Promise<void> {
    return this.#channels.enter(room, presence);
  }

  leave(room: string, connection: string): Promise<void> {
    return this.#channels.leave(room, connection);
  }

  present(room: string): Promise<Presence[]> {
    return this.#channels.present(room);
  }

  renew(instance: string): Promise<void> {
    return this.#channels.renew(instance);
  }

  close(): Promise<void> {
    this.#isClosed = true;
    this.#channels.close();
    return Promise.resolve();
  }

  /** Runs a change at once, so that changes take effect in the order of the calls. */
  #write<T>(room: string, change: (log: RoomLog) => T): Promise<T> {
    if (this.#isClosed) return Promise.reject(closedError());
    const log = this.#log(room);
    this.#logs.delete(room);
    this.#logs.set(room, log);
    try {
      return Promise.resolve(change(log));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #read<T>(room: string, look: (log: RoomLog) => T): Promise<T> {
    if (this.#isClosed) return Promise.reject(closedError());
    return Promise.resolve(look(this.#log(room)));
  }

  /** A room's log, made if need be: its epoch begins when it is first asked for. */
  #log(room: string): RoomLog {
    let log = this.#logs.get(room);
    if (log === undefined) {
      log = {
        epoch: this.#options.newId(),
        entries: [],
        lastSeq: 0,
        lastTime: 0,
        refs: new Map(),
        inboxes: new Map(),
        size: 0,
      };
      this.#logs.set(room, log);
      this.#grow(log, ENTRY_SIZE);
    }
    return log;
  }

  /** The next place in the log. */
  #place(log: RoomLog): { seq: number; timestamp: string } {
    return { seq: ++log.lastSeq, timestamp: this.#time(log) };
  }

  #time(log: RoomLog): string {
    log.lastTime = Math.max(log.lastTime, this.#options.clock());
    return new Date(log.lastTime).toISOString();
  }

  #find(log: RoomLog, change: Change): Entry {
    const entry = log.entries.find(({ event }) => event.type === "chat" && event.id === change.id);
    const event = entry?.event as ChatEvent | undefined;
    checkChange(entry && { person: entry.person, isDeleted: event?.deleted === true }, change);
    return entry!;
  }

  #add(room: string, log: RoomLog, entry: Entry, origin: string): void {
    this.#grow(log, ENTRY_SIZE + entry.event.content.length);
    log.entries.push(entry);
    // Trimmed in batches: taking one off the front of an array costs its length.
    const { keep } = this.#options;
    if (log.entries.length > keep + Math.max(16, keep / 8)) {
      this.#trim(log, log.entries.length - keep);
    }
    this.publish(room, { type: "logged", event: entry.event, origin });
  }

  #replace(log: RoomLog, entry: Entry, event: LogEvent): void {
    this.#count(log, event.content.length - entry.event.content.length);
    entry.event = event;
  }

  #trim(log: RoomLog, count: number): void {
    for (const { event, refKey } of log.entries.splice(0, count)) {
      if (refKey !== undefined) log.refs.delete(refKey);
      this.#count(log, -ENTRY_SIZE - event.content.length);
    }
  }

  #trimInbox(log: RoomLog, inbox: Inbox, count: number): void {
    const gone = new Set(inbox.entries.splice(0, count).map(({ message }) => message));
    for (const [key, message] of inbox.refs) if (gone.has(message)) inbox.refs.delete(key);
    for (const { content } of gone) this.#count(log, -ENTRY_SIZE - content.length);
  }

  /** Makes place for what is about to be added. */
  #grow(log: RoomLog, size: number): void {
    this.#count(log, size);
    const { maxSize = 32 * 1024 * 1024 } = this.#options;
    for (const [room, other] of this.#logs) {
      if (this.#size <= maxSize) return;
      if (other === log) continue;
      this.#forgetHalf(other);
      if (other.entries.length === 0 && !this.#channels.hasSubscribers(room)) {
        this.#size -= other.size;
        this.#logs.delete(room);
      }
    }
    if (this.#size > maxSize) this.#forgetHalf(log);
  }

  /** Drops the older half of what a room holds. */
  #forgetHalf(log: RoomLog): void {
    this.#trim(log, Math.ceil(log.entries.length / 2));
    for (const inbox of log.inboxes.values()) {
      this.#trimInbox(log, inbox, Math.ceil(inbox.entries.length / 2));
    }
  }

  #count(log: RoomLog, size: number): void {
    log.size += size;
    this.#size += size;
  }

  #inbox(log: RoomLog, person: string): Inbox {
    let inbox = log.inboxes.get(person);
    if (inbox === undefined) {
      inbox = { entries: [], lastSeq: 0, refs: new Map() };
      log.inboxes.set(person, inbox);
      this.#grow(log, ENTRY_SIZE);
    }
    return inbox;
  }
}
