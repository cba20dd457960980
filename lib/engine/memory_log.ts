/**
 * The logs of all rooms, in memory. Their size is bounded.
 *
 * @module
 */

import { nobodyWithName } from "../errors.ts";
import { nameKey } from "../names.ts";
import { accountPerson } from "../people/accounts.ts";
import type { ChatEvent, LogEvent } from "../protocol/events.ts";
import {
  applyChange,
  checkAnswered,
  checkChange,
  erase,
  isMessage,
  LIVE_EVENTS,
  toLogEvent,
  toMessage,
  toRepeated,
  withPresentText,
} from "./changes.ts";
import type {
  Author,
  Change,
  Draft,
  EngineOptions,
  InboxEntry,
  LogState,
  MessageRange,
  PrivateDraft,
  PrivateMessage,
  Receipt,
} from "./engine.ts";
import type { LocalBus } from "./local_bus.ts";
import type { LogReader } from "./local_instance.ts";
import { type Place, toMessageId, toSeq, toTimestamp } from "./places.ts";

/** An event, and the data about it that only the log keeps. */
interface Entry {
  event: LogEvent;
  /** The person who caused the event. */
  person: string;
  /** The `seq` of the newest change of this message. */
  changed?: number;
}

/** The log of one room. */
interface RoomLog {
  readonly epoch: string;
  /** Whether an earlier log of this room may have been forgotten. */
  readonly isLaterLife: boolean;
  /** Without a hole, up to `lastSeq`. */
  readonly entries: Entry[];
  lastSeq: number;
  lastTime: number;
  /** The messages that have a ref, by person and then by ref. */
  readonly refs: Map<string, Map<string, Entry>>;
  /** By person. */
  readonly inboxes: Map<string, Inbox>;
  /** UTF-16 units of all entries and inboxes. */
  size: number;
}

/** The private messages of one person in one room. */
interface Inbox {
  readonly entries: InboxEntry[];
  lastSeq: number;
  /** The messages that the person sent, by `ref`. */
  readonly refs: Map<string, PrivateMessage>;
}

/** What {@linkcode MemoryLog} needs. */
export interface MemoryLogOptions extends Pick<EngineOptions, "clock" | "newId" | "keep"> {
  /**
   * Maximum UTF-16 units kept in all rooms together. Beyond it, the least recently written rooms
   * lose their oldest events. @default 33554432
   */
  readonly maxSize?: number;
}

/** Approximate size of a room, an inbox or an event besides its text, in UTF-16 units. */
const ENTRY_SIZE = 200;

/** The logs of all rooms. A write is published before it returns. */
export class MemoryLog implements LogReader {
  readonly #options: MemoryLogOptions;
  readonly #bus: LocalBus;
  /** Least recently written first. */
  readonly #logs = new Map<string, RoomLog>();
  /** Whether the log of any room was forgotten as a whole. */
  #hasForgotten = false;
  #size = 0;

  constructor(options: MemoryLogOptions, bus: LocalBus) {
    this.#options = options;
    this.#bus = bus;
  }

  /**
   * Adds a message, or finds the one that it repeats.
   *
   * @throws {ChatError} `conflict` or `not_found`
   */
  append(room: string, draft: Draft): Receipt<ChatEvent> {
    const log = this.#toWrite(room);
    const { person, ref, replyTo, origin } = draft;
    const first = ref === undefined ? undefined : log.refs.get(person)?.get(ref);
    if (first !== undefined) return toRepeated(first.event as ChatEvent, draft);
    if (replyTo !== undefined) checkAnswered(entryAt(log, toSeq(log.epoch, replyTo))?.event);
    const place = this.#place(log);
    const event = toMessage(room, draft, toMessageId(log.epoch, place.seq), place);
    const entry = { event, person };
    // Before `#add`, which may drop the entry at once and then forgets its ref.
    if (ref !== undefined) rememberRef(log, ref, entry);
    this.#add(log, entry);
    this.#bus.publish(room, { type: "logged", event, origin });
    return { event, isDuplicate: false };
  }

  /**
   * Changes a message, and adds the change.
   *
   * @throws {ChatError} `not_found` or `forbidden`
   */
  change(room: string, change: Change): Receipt<LogEvent> {
    const log = this.#toWrite(room);
    const entry = entryAt(log, toSeq(log.epoch, change.id));
    const message = checkChange(entry, change);
    const event = toLogEvent(message, change, this.#place(log));
    const before = entryAt(log, entry!.changed);
    this.#add(log, { event, person: change.person });
    this.#rewrite(log, entry!, applyChange(message, event));
    if (before !== undefined) this.#rewrite(log, before, { ...before.event, content: "" });
    entry!.changed = event.seq;
    this.#bus.publish(room, { type: "logged", event, origin: change.origin });
    return { event, isDuplicate: false };
  }

  /**
   * Adds a private message for its two people, or finds the one that it repeats.
   *
   * @throws {ChatError} `not_found` or `conflict`
   */
  whisper(room: string, draft: PrivateDraft): Receipt<PrivateMessage> {
    const log = this.#toWrite(room);
    const { content, username, person, ref, to, origin } = draft;
    const from = this.#inboxOf(log, person);
    const first = ref === undefined ? undefined : from.refs.get(ref);
    if (first !== undefined) return toRepeated(first, draft);
    if (to === undefined) throw nobodyWithName();
    const receiver = this.#inboxOf(log, to.person);
    const message: PrivateMessage = {
      id: this.#options.newId(),
      content,
      timestamp: this.#time(log),
      from: { username, person },
      to,
      fromSeq: ++from.lastSeq,
      toSeq: ++receiver.lastSeq,
      ...(ref !== undefined && { ref }),
    };
    this.#addPrivate(log, from, { inboxSeq: message.fromSeq, message });
    this.#addPrivate(log, receiver, { inboxSeq: message.toSeq, message });
    if (ref !== undefined) from.refs.set(ref, message);
    this.#bus.publish(room, { type: "private", message, origin });
    return { event: message, isDuplicate: false };
  }

  author(room: string, id: string): Author | undefined {
    const log = this.#log(room);
    const entry = entryAt(log, toSeq(log.epoch, id));
    if (entry?.event.type !== "chat" || entry.person === "") return undefined;
    return { username: entry.event.username, person: entry.person };
  }

  /** The rooms with a log. */
  rooms(): string[] {
    return [...this.#logs.keys()];
  }

  /** Erases an account's messages in a room, see {@linkcode LIVE_EVENTS}. */
  erase(room: string, account: string): void {
    const log = this.#logs.get(room);
    if (log === undefined) return;
    const person = accountPerson(account);
    const ids: string[] = [];
    for (const entry of [...log.entries]) {
      const { event } = entry;
      const isOwn = entry.person === person;
      if (isOwn && event.type === "chat") {
        if (!this.#eraseLive(room, log, event)) ids.push(event.id);
      }
      if (isOwn) entry.person = "";
      // A moderator's change of the account's message has the account's name.
      const hasName = nameKey(event.username) === account;
      if (hasName && (isOwn || event.type !== "chat")) this.#rewrite(log, entry, erase(event));
    }
    log.refs.delete(person);
    this.#eraseInboxes(log, person);
    if (ids.length > 0) this.#bus.publish(room, { type: "erased", ids });
  }

  /** Deletes a message and its author's name, if members may see it. False if they may not. */
  #eraseLive(room: string, log: RoomLog, event: ChatEvent): boolean {
    const isSeen = isMessage(event) && log.lastSeq - event.seq < LIVE_EVENTS;
    if (!isSeen || !this.#bus.hasSubscribers(room)) return false;
    const nobody = { username: "", person: "", origin: "", isModerator: true };
    this.change(room, { type: "erase", id: event.id, ...nobody });
    return true;
  }

  #eraseInboxes(log: RoomLog, person: string): void {
    const own = log.inboxes.get(person);
    if (own !== undefined) this.#trimInbox(log, own, own.entries.length);
    log.inboxes.delete(person);
    for (const { entries } of log.inboxes.values()) {
      for (const [i, { inboxSeq, message }] of entries.entries()) {
        if (message.from.person !== person) continue;
        this.#count(log, -message.content.length);
        const { ref: _, ...rest } = message;
        const nobody = { username: "", person: "" };
        entries[i] = { inboxSeq, message: { ...rest, content: "", from: nobody } };
      }
    }
  }

  state(room: string): LogState {
    const { epoch, entries, lastSeq } = this.#log(room);
    return { epoch, oldestSeq: lastSeq - entries.length + 1, lastSeq };
  }

  canResume(room: string, epoch: string, seq: number): boolean {
    const log = this.#log(room);
    const oldest = log.lastSeq - log.entries.length;
    if (seq === 0 && oldest === 0 && !log.isLaterLife) return true;
    return epoch === log.epoch && seq >= oldest && seq <= log.lastSeq;
  }

  canResumeInbox(room: string, person: string, epoch: string, inboxSeq: number): boolean {
    const log = this.#log(room);
    const { entries, lastSeq } = log.inboxes.get(person) ?? { entries: [], lastSeq: 0 };
    if (inboxSeq === 0 && entries.length === lastSeq && !log.isLaterLife) return true;
    return epoch === log.epoch && inboxSeq >= lastSeq - entries.length && inboxSeq <= lastSeq;
  }

  events(room: string, after: number, limit: number): LogEvent[] {
    const log = this.#log(room);
    const { entries, lastSeq } = log;
    const start = Math.max(0, after - (lastSeq - entries.length));
    const find = (id: string) => entryAt(log, toSeq(log.epoch, id))?.event;
    return entries.slice(start, start + limit).map(({ event }) => withPresentText(event, find));
  }

  messages(room: string, { before = Infinity, after, limit }: MessageRange): ChatEvent[] {
    const { entries, lastSeq } = this.#log(room);
    const indexOf = (seq: number) => seq - (lastSeq - entries.length + 1);
    const first = Math.max(0, indexOf((after ?? 0) + 1));
    const end = Math.min(entries.length, indexOf(before));
    if (after !== undefined) return takeMessages(entries, first, end, 1, limit);
    return takeMessages(entries, end - 1, first - 1, -1, limit).reverse();
  }

  inbox(room: string, person: string, after: number, limit: number): InboxEntry[] {
    const entries = this.#log(room).inboxes.get(person)?.entries ?? [];
    return entries.filter(({ inboxSeq }) => inboxSeq > after).slice(0, limit);
  }

  inboxSeq(room: string, person: string): number {
    return this.#log(room).inboxes.get(person)?.lastSeq ?? 0;
  }

  /** The log of a room, for a write: the room becomes the most recently written. */
  #toWrite(room: string): RoomLog {
    const log = this.#log(room);
    this.#logs.delete(room);
    this.#logs.set(room, log);
    return log;
  }

  /** The log of a room. The first call begins its epoch. */
  #log(room: string): RoomLog {
    let log = this.#logs.get(room);
    if (log === undefined) {
      log = {
        epoch: this.#options.newId(),
        isLaterLife: this.#hasForgotten,
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

  #inboxOf(log: RoomLog, person: string): Inbox {
    let inbox = log.inboxes.get(person);
    if (inbox === undefined) {
      inbox = { entries: [], lastSeq: 0, refs: new Map() };
      log.inboxes.set(person, inbox);
      this.#grow(log, ENTRY_SIZE);
    }
    return inbox;
  }

  /** The next place in a log. The caller must add its event at once. */
  #place(log: RoomLog): Place {
    return { seq: log.lastSeq + 1, timestamp: this.#time(log) };
  }

  #time(log: RoomLog): string {
    log.lastTime = Math.max(log.lastTime, this.#options.clock());
    return toTimestamp(log.lastTime);
  }

  /** Adds an event, and drops events beyond `keep`. */
  #add(log: RoomLog, entry: Entry): void {
    this.#grow(log, ENTRY_SIZE + entry.event.content.length);
    log.entries.push(entry);
    log.lastSeq = entry.event.seq;
    // Drop in batches: an array that loses its first entry moves all others.
    const { keep } = this.#options;
    const { length } = log.entries;
    if (length > keep + Math.max(16, keep / 8)) this.#trim(log, length - keep);
  }

  #addPrivate(log: RoomLog, inbox: Inbox, entry: InboxEntry): void {
    this.#grow(log, ENTRY_SIZE + entry.message.content.length);
    inbox.entries.push(entry);
    if (inbox.entries.length > this.#options.keep) this.#trimInbox(log, inbox, 1);
  }

  #rewrite(log: RoomLog, entry: Entry, event: LogEvent): void {
    // Adding the change may have dropped the event.
    if (entryAt(log, event.seq) !== entry) return;
    this.#count(log, event.content.length - entry.event.content.length);
    entry.event = event;
  }

  #trim(log: RoomLog, count: number): void {
    for (const entry of log.entries.splice(0, count)) {
      this.#count(log, -ENTRY_SIZE - entry.event.content.length);
      forgetRef(log, entry);
    }
  }

  #trimInbox(log: RoomLog, inbox: Inbox, count: number): void {
    const gone = new Set(inbox.entries.splice(0, count).map(({ message }) => message));
    for (const [key, message] of inbox.refs) if (gone.has(message)) inbox.refs.delete(key);
    for (const { content } of gone) this.#count(log, -ENTRY_SIZE - content.length);
  }

  /** Counts added units, and drops the oldest entries beyond the maximum. */
  #grow(log: RoomLog, size: number): void {
    this.#count(log, size);
    const { maxSize = 32 * 1024 * 1024 } = this.#options;
    // Check before the loop: in a map that is often reordered, the first key is slow to find.
    if (this.#size <= maxSize) return;
    for (const [room, other] of this.#logs) {
      if (this.#size <= maxSize) return;
      if (other === log) continue;
      this.#forgetHalf(other);
      if (other.entries.length === 0 && !this.#bus.hasSubscribers(room)) {
        this.#size -= other.size;
        this.#hasForgotten = true;
        this.#logs.delete(room);
      }
    }
    if (this.#size > maxSize) this.#forgetHalf(log);
  }

  /** Drops the older half of a room's events and private messages. */
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
}

/** Remembers a message's ref, to recognise a repeat. */
function rememberRef({ refs }: RoomLog, ref: string, entry: Entry): void {
  let own = refs.get(entry.person);
  if (own === undefined) refs.set(entry.person, own = new Map());
  own.set(ref, entry);
}

/** Forgets a dropped message's ref, if it has one. */
function forgetRef({ refs }: RoomLog, { event, person }: Entry): void {
  if (event.type !== "chat" || event.ref === undefined) return;
  const own = refs.get(person);
  if (own?.delete(event.ref) && own.size === 0) refs.delete(person);
}

/** The entry of a log with a `seq`, if it is still kept. */
function entryAt({ entries, lastSeq }: RoomLog, seq = NaN): Entry | undefined {
  return entries[entries.length - 1 - (lastSeq - seq)];
}

/**
 * Up to `limit` messages that are not deleted, from index `from` towards index `end`, which is
 * excluded.
 */
function takeMessages(
  entries: readonly Entry[],
  from: number,
  end: number,
  step: 1 | -1,
  limit: number,
): ChatEvent[] {
  const taken: ChatEvent[] = [];
  for (let i = from; step * (end - i) > 0 && taken.length < limit; i += step) {
    const { event } = entries[i]!;
    if (isMessage(event)) taken.push(event);
  }
  return taken;
}
