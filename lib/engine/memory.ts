/**
 * Remembers in this process, until it ends: for tests, for trying things out, and for places
 * without a disk. What it keeps is bounded.
 *
 * @module
 */

import { ChatError, nobodyWithName } from "../errors.ts";
import { nameKey } from "../names.ts";
import type { Account, Token } from "../people/accounts.ts";
import type { ChatEvent, MessageDeletedEvent, MessageUpdatedEvent } from "../protocol/events.ts";
import {
  type Change,
  checkChange,
  DEFAULT_SETTINGS,
  type Draft,
  type Engine,
  type EngineOptions,
  EVERYWHERE,
  type InboxEntry,
  type LogEvent,
  type LogState,
  type MessageRange,
  type PrivateDraft,
  type PrivateMessage,
  type Receipt,
  refKey,
  type RoomSettings,
  toMessageId,
  toSeq,
  toTimestamp,
  withoutText,
} from "./engine.ts";
import { LocalBus } from "./local_bus.ts";
import { Refs } from "./refs.ts";

/** One event with what only the log knows of it. */
interface Entry {
  event: LogEvent;
  readonly person: string;
}

/** The log of one room, in memory. */
interface RoomLog {
  readonly epoch: string;
  entries: Entry[];
  lastSeq: number;
  lastTime: number;
  readonly refs: Refs;
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

/** Maximum accounts and tokens; beyond it the oldest token ends. */
const MAX_ACCOUNTS = 100_000;
const MAX_TOKENS = 100_000;

/** Remembers in this process, until it ends. */
export class MemoryEngine extends LocalBus implements Engine {
  readonly #options: MemoryEngineOptions;
  /** Least recently written first. */
  readonly #logs = new Map<string, RoomLog>();
  readonly #settings = new Map<string, RoomSettings>();
  readonly #accounts = new Map<string, Account>();
  readonly #tokens = new Map<string, Token>();
  #size = 0;

  constructor(options: MemoryEngineOptions) {
    super(options);
    this.#options = options;
  }

  append(room: string, draft: Draft): Promise<Receipt<ChatEvent>> {
    return this.#write(room, (log) => {
      const { content, username, person, ref } = draft;
      const author = nameKey(username);
      const first = ref === undefined ? undefined : entryAt(log, log.refs.get(author, ref));
      if (first !== undefined) return { event: first.event as ChatEvent, isDuplicate: true };
      const { seq, timestamp } = this.#place(log);
      const id = toMessageId(log.epoch, seq);
      const event: ChatEvent = { type: "chat", content, room, username, id, seq, timestamp };
      if (ref !== undefined) log.refs.add(author, ref, seq);
      this.#add(room, log, { event, person }, draft.origin);
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
      this.#add(room, log, { event, person: change.person }, change.origin);
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
      this.#add(room, log, { event, person: change.person }, change.origin);
      return { event, isDuplicate: false };
    });
  }

  whisper(room: string, draft: PrivateDraft): Promise<Receipt<PrivateMessage>> {
    return this.#write(room, (log) => {
      const { content, username, person, to } = draft;
      const from = this.#inbox(log, person);
      const key = draft.ref === undefined ? undefined : refKey(nameKey(username), draft.ref);
      const first = key === undefined ? undefined : from.refs.get(key);
      if (first !== undefined) return { event: first, isDuplicate: true };
      if (to === undefined) throw nobodyWithName();
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

  settings(room: string): Promise<RoomSettings> {
    return this.attempt(() => this.#settings.get(room) ?? DEFAULT_SETTINGS);
  }

  setSettings(room: string, settings: RoomSettings): Promise<void> {
    return this.attempt(() => {
      this.#settings.set(room, settings);
      this.publish(room, { type: "settings", settings });
    });
  }

  countOwned(owner: string): Promise<number> {
    return this.attempt(() =>
      [...this.#settings.values()].filter((settings) => settings.owner === owner).length
    );
  }

  addAccount(account: Account): Promise<boolean> {
    return this.attempt(() => {
      if (this.#accounts.has(account.key)) return false;
      if (this.#accounts.size >= MAX_ACCOUNTS) {
        throw new ChatError("full", "There are too many accounts.");
      }
      this.#accounts.set(account.key, account);
      this.publish(EVERYWHERE, { type: "registered", key: account.key });
      return true;
    });
  }

  account(key: string): Promise<Account | undefined> {
    return this.attempt(() => this.#accounts.get(key));
  }

  addToken(token: Token): Promise<void> {
    return this.attempt(() => {
      const now = this.#options.clock();
      for (const { hash, expiresAt } of this.#tokens.values()) {
        // They were added in the order in which they expire.
        if (expiresAt > now && this.#tokens.size < MAX_TOKENS) break;
        this.#tokens.delete(hash);
      }
      this.#tokens.set(token.hash, token);
    });
  }

  token(hash: string): Promise<Token | undefined> {
    return this.attempt(() => this.#tokens.get(hash));
  }

  endToken(hash: string): Promise<void> {
    return this.attempt(() => {
      this.#tokens.delete(hash);
      this.publish(EVERYWHERE, { type: "token_ended", hash });
    });
  }

  /** Runs a change at once, so that changes take effect in the order of the calls. */
  #write<T>(room: string, change: (log: RoomLog) => T): Promise<T> {
    return this.attempt(() => {
      const log = this.#log(room);
      this.#logs.delete(room);
      this.#logs.set(room, log);
      return change(log);
    });
  }

  #read<T>(room: string, look: (log: RoomLog) => T): Promise<T> {
    return this.attempt(() => look(this.#log(room)));
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
        refs: new Refs(this.#options.keep),
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
    return toTimestamp(log.lastTime);
  }

  #find(log: RoomLog, change: Change): Entry {
    const entry = entryAt(log, toSeq(log.epoch, change.id));
    const event = entry?.event.type === "chat" ? entry.event : undefined;
    checkChange(event && { person: entry!.person, isDeleted: event.deleted === true }, change);
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
    for (const { event } of log.entries.splice(0, count)) {
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
    // To look at the first is dear: rooms that moved to the end left gaps that are stepped over.
    if (this.#size <= maxSize) return;
    for (const [room, other] of this.#logs) {
      if (this.#size <= maxSize) return;
      if (other === log) continue;
      this.#forgetHalf(other);
      if (other.entries.length === 0 && !this.hasSubscribers(room)) {
        this.#size -= other.size;
        this.#logs.delete(room);
      }
    }
    if (this.#size > maxSize) this.#forgetHalf(log);
  }

  /** Drops the older half of what a room holds. */
  #forgetHalf(log: RoomLog): void {
    this.#trim(log, Math.ceil(log.entries.length / 2));
    log.refs.forgetBefore(log.lastSeq - log.entries.length + 1);
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

/** The event of a log with a `seq`, if it is still there. */
function entryAt({ entries, lastSeq }: RoomLog, seq = NaN): Entry | undefined {
  return entries[entries.length - 1 - (lastSeq - seq)];
}
