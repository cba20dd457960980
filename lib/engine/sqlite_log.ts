/**
 * The logs of rooms, in SQLite: many events in one row, a block.
 *
 * A row for each message would cost more than everything else that is done with it. So a room's
 * events become a row when they fill a page of the file: a block, with their JSON as it goes over the
 * wire, and beside it who wrote them. Until then they are kept at hand, and are in the journal
 * (`lib/sqlite_journal.ts`), which takes what all rooms say in a turn as one row. When it has grown
 * long, the rooms whose events have waited for the longest get their blocks, and it is cut. What it
 * holds when a server starts was said to a server that was killed.
 *
 * Which refs were used is kept in memory and read back from the blocks when a room is first written
 * to: an index of them would be written to in as many places as there are senders.
 *
 * @module
 */

import type { DatabaseSync, StatementSync } from "node:sqlite";
import { nameKey } from "../names.ts";
import type { ChatEvent, MessageDeletedEvent, MessageUpdatedEvent } from "../protocol/events.ts";
import {
  type Change,
  checkChange,
  type Draft,
  type LogEvent,
  type LogState,
  type MessageRange,
  refKey,
  splitRefKey,
  toMessageId,
  toSeq,
  toTimestamp,
  withoutText,
} from "./engine.ts";
import { Refs } from "./refs.ts";
import { SqliteJournal } from "./sqlite_journal.ts";

/** The tables. */
export const LOG_SCHEMA = `
  CREATE TABLE rooms (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    epoch TEXT NOT NULL
  ) STRICT;

  -- The events of a room from the seq "first" on, without a hole up to the next block.
  CREATE TABLE blocks (
    room INTEGER NOT NULL,
    first INTEGER NOT NULL,
    -- A list of LogEvent: a message has its present text.
    events TEXT NOT NULL,
    -- For each of them, in a list: [who wrote it, its ref if it has one, the seq of each edit].
    authors TEXT NOT NULL,
    PRIMARY KEY (room, first)
  ) STRICT, WITHOUT ROWID;
`;

/** From which size on, in UTF-16 units, a room's events are a block: it fills a page of the file. */
const MIN_BLOCK_SIZE = 4096;

/** Events in a block at the most, and about how many UTF-16 units: a change reads and writes it all. */
const MAX_BLOCK_EVENTS = 128;
const MAX_BLOCK_SIZE = 64 * 1024;

/** How long the journal may be, in UTF-16 units, and how much is cut off it at a time. */
const MAX_JOURNAL_SIZE = 4 * 1024 * 1024;
const MIN_CUT_SIZE = 256 * 1024;

/** How many blocks are read at a time, until there are as many events as were asked for. */
const BLOCKS_AT_A_TIME = 16;

/** Rooms whose numbers are kept at hand. */
const MAX_CACHED_ROOMS = 10_000;

/** Refs that are known of one room at the least, and of all together at the most. */
const MAX_REFS = 10_000;
const MAX_ALL_REFS = 500_000;

/** How many events a room may have beyond those that are kept, before they are dropped in one go. */
const MIN_EXCESS = 100;

/** Who wrote an event, under which name and ref if it has one, and the `seq` of each edit of it. */
type AuthorEntry = [person: string, key?: string | null, edits?: number[]];

interface RoomLog {
  readonly name: string;
  readonly epoch: string;
  /** Its row; absent until something is written. */
  id: number | undefined;
  /** The oldest `seq` still kept; one more than `lastSeq` if there is none. */
  oldestSeq: number;
  lastSeq: number;
  lastTime: number;
  /** Absent until somebody uses one. */
  refs: Refs | undefined;
  /** The JSON of the newest events, which are in no block yet. */
  events: string[];
  authors: AuthorEntry[];
  size: number;
  /** How many of these are in the journal, and where there the first of them stands. */
  journaled: number;
  since: number;
}

/** A room's log as it was when the transaction began. */
interface Before {
  readonly log: Readonly<RoomLog>;
  readonly count: number;
}

interface Block {
  readonly first: number;
  readonly events: LogEvent[];
  readonly authors: AuthorEntry[];
}

/** An event that was just stored, and its JSON. */
export interface Logged<E> {
  readonly event: E;
  readonly json: string;
}

/** What {@linkcode SqliteLog} needs. */
export interface SqliteLogOptions {
  /** The time in milliseconds since 1970. */
  readonly clock: () => number;
  /** A new epoch. */
  readonly newId: () => string;
  /** Events kept per room; `Infinity` for all. */
  readonly keep: number;
  /** Whether a room's numbers must stay at hand. */
  readonly isInUse: (room: string) => boolean;
}

/** The logs of all rooms. What changes them is called within a transaction. */
export class SqliteLog {
  readonly #options: SqliteLogOptions;
  readonly #sql: ReturnType<typeof prepare>;
  readonly #rooms = new Map<string, RoomLog>();
  readonly #journal: SqliteJournal;
  /** Rooms with events that are in no block yet; those who have waited for the longest first. */
  #open = new Set<RoomLog>();
  /** What the transaction has changed. */
  #touched = new Map<RoomLog, Before>();
  /** How many refs were taken note of since the older ones were last forgotten. */
  #refsAdded = 0;

  constructor(db: DatabaseSync, options: SqliteLogOptions) {
    this.#options = options;
    this.#sql = prepare(db);
    this.#journal = new SqliteJournal(db);
  }

  /** The row of a room, if it has one. */
  findRow(name: string): number | undefined {
    return this.#room(name).id;
  }

  /** The row of a room, made if need be. */
  rowOf(name: string): number {
    return this.#rowOf(this.#room(name));
  }

  /** The time of something that happens in a room now: it never goes backwards. */
  timeIn(name: string): string {
    return this.#time(this.#room(name));
  }

  /** Adds a message, or finds the one that it repeats. */
  append(name: string, draft: Draft): Logged<ChatEvent> | { readonly repeated: ChatEvent } {
    const room = this.#room(name);
    const { content, username, person, ref } = draft;
    const author = nameKey(username);
    const repeated = ref === undefined ? undefined : this.#repeated(room, author, ref);
    if (repeated !== undefined) return { repeated };
    const { seq, timestamp } = this.#place(room);
    const id = toMessageId(room.epoch, seq);
    const event: ChatEvent = { type: "chat", content, room: name, username, id, seq, timestamp };
    if (ref === undefined) return { event, json: this.#add(room, event, [person]) };
    this.#remember(this.#refs(room), author, ref, seq);
    return { event, json: this.#add(room, event, [person, refKey(author, ref)]) };
  }

  /**
   * Changes the text of a message.
   *
   * @throws {ChatError} `not_found` or `forbidden`
   */
  edit(name: string, change: Change & { content: string }): Logged<MessageUpdatedEvent> {
    const room = this.#room(name);
    const { block, index, event: { username } } = this.#findForChange(room, change);
    const { id, content, person } = change;
    const { seq, timestamp } = this.#place(room);
    const message = block.events[index] as ChatEvent;
    block.events[index] = { ...message, content, edited: true };
    const [author, ref = null, edits = []] = block.authors[index]!;
    block.authors[index] = [author, ref, [...edits, seq]];
    this.#rewrite(room, block);
    const type = "message_updated";
    const event: MessageUpdatedEvent = { type, content, room: name, username, id, seq, timestamp };
    return { event, json: this.#add(room, event, [person]) };
  }

  /**
   * Wipes the text of a message, and of its edits.
   *
   * @throws {ChatError} `not_found` or `forbidden`
   */
  delete(name: string, change: Change): Logged<MessageDeletedEvent> {
    const room = this.#room(name);
    const { block, index, event: { username } } = this.#findForChange(room, change);
    const [, , edits = []] = block.authors[index]!;
    block.events[index] = withoutText(block.events[index]!);
    this.#rewrite(room, block);
    for (const seq of edits) {
      const found = this.#find(room, seq);
      if (found === undefined) continue;
      found.block.events[found.index] = withoutText(found.event);
      this.#rewrite(room, found.block);
    }
    // The journal has the text too.
    this.settle();
    const { seq, timestamp } = this.#place(room);
    const [id, type] = [change.id, "message_deleted"] as const;
    const event: MessageDeletedEvent = {
      type,
      content: "",
      room: name,
      username,
      id,
      seq,
      timestamp,
    };
    return { event, json: this.#add(room, event, [change.person]) };
  }

  /** Writes all that was appended. To be called before a transaction ends. */
  write(): void {
    const entries: string[] = [];
    for (const room of this.#touched.keys()) {
      if (room.size >= MIN_BLOCK_SIZE) this.#close(room);
      const { events, authors, journaled } = room;
      if (events.length === journaled) continue;
      if (journaled === 0) room.since = this.#journal.end;
      const place = `${this.#rowOf(room)},${firstOpen(room) + journaled}`;
      const [news, theirs] = [events.slice(journaled), authors.slice(journaled)];
      entries.push(`[${place},[${news.join(",")}],${JSON.stringify(theirs)}]`);
      room.journaled = events.length;
    }
    if (entries.length > 0) this.#journal.write(entries);
    for (const room of this.#open) {
      if (this.#journal.end - room.since <= MAX_JOURNAL_SIZE) break;
      this.#close(room);
    }
    for (const room of this.#touched.keys()) this.#trim(room);
    const [oldest] = this.#open;
    const place = oldest?.since ?? this.#journal.end;
    if (place - this.#journal.start >= MIN_CUT_SIZE) this.#journal.dropBefore(place);
  }

  /** Puts all that the journal holds into blocks. To be called within a transaction. */
  settle(): void {
    for (const room of this.#open) this.#close(room);
    this.#journal.clear();
  }

  /** Puts all that the journal of another server holds into blocks, as {@linkcode SqliteLog.settle}. */
  recover(): void {
    const blocks = new Map<number, Block>();
    for (const [room, first, events, authors] of this.#journal.read<LogEvent, AuthorEntry>()) {
      let block = blocks.get(room);
      if (block === undefined) {
        const [newest] = take(this.#blocksBefore(room, Infinity), 1);
        block = { first: (newest?.seq ?? 0) + 1, events: [], authors: [] };
        blocks.set(room, block);
      }
      // Events that a block has are still in the journal if others before them had none.
      const known = block.first + block.events.length - first;
      block.events.push(...events.slice(Math.max(0, known)));
      block.authors.push(...authors.slice(Math.max(0, known)));
    }
    for (const [room, { first, events, authors }] of blocks) {
      if (events.length === 0) continue;
      this.#sql.insert.run(room, first, JSON.stringify(events), JSON.stringify(authors));
    }
    this.#journal.clear();
  }

  /** Takes note that the transaction was committed. */
  commit(): void {
    this.#touched = new Map();
    this.#journal.commit();
  }

  /** Forgets what was done in a transaction that was not committed. */
  rollback(): void {
    this.#journal.rollback();
    for (const [room, { log, count }] of this.#touched) {
      Object.assign(room, log);
      room.events.length = room.authors.length = count;
      room.refs?.forgetAfter(room.lastSeq);
      if (count > 0) this.#open.add(room);
      else this.#open.delete(room);
    }
    this.#open = new Set([...this.#open].sort((a, b) => a.since - b.since));
    this.#touched = new Map();
  }

  state(name: string): LogState {
    const { epoch, oldestSeq, lastSeq } = this.#room(name);
    return { epoch, oldestSeq, lastSeq };
  }

  log(name: string, after: number, limit: number): LogEvent[] {
    return take(this.#after(this.#room(name), after), limit);
  }

  messages(name: string, { before = Infinity, after, limit }: MessageRange): ChatEvent[] {
    const room = this.#room(name);
    if (after !== undefined) {
      return take(
        this.#after(room, after),
        limit,
        (event) => isMessage(event) && event.seq < before,
      ) as ChatEvent[];
    }
    return take(this.#before(room, before), limit, isMessage).reverse() as ChatEvent[];
  }

  #room(name: string): RoomLog {
    let room = this.#rooms.get(name);
    if (room === undefined) {
      const row = this.#sql.room.get(name) as { id: number; epoch: string } | undefined;
      const [newest] = take(this.#blocksBefore(row?.id, Infinity), 1);
      const { oldest } = this.#sql.oldest.get(row?.id ?? null) as { oldest: number | null };
      const lastSeq = newest?.seq ?? 0;
      room = {
        name,
        epoch: row?.epoch ?? this.#options.newId(),
        id: row?.id,
        oldestSeq: oldest ?? lastSeq + 1,
        lastSeq,
        lastTime: newest === undefined ? 0 : Date.parse(newest.timestamp),
        refs: undefined,
        events: [],
        authors: [],
        size: 0,
        journaled: 0,
        since: 0,
      };
      this.#rooms.set(name, room);
      if (this.#rooms.size > MAX_CACHED_ROOMS) this.#forgetRooms();
    }
    return room;
  }

  /** Makes place: rooms that are in use keep their numbers at hand. */
  #forgetRooms(): void {
    for (const [name, room] of this.#rooms) {
      if (this.#rooms.size <= MAX_CACHED_ROOMS / 2) return;
      if (this.#options.isInUse(name) || this.#open.has(room)) continue;
      this.#rooms.delete(name);
    }
  }

  /** Takes note of how a room's log was before the transaction. */
  #touch(room: RoomLog): void {
    if (this.#touched.has(room)) return;
    this.#touched.set(room, { log: { ...room }, count: room.events.length });
  }

  #rowOf(room: RoomLog): number {
    if (room.id === undefined) {
      this.#touch(room);
      room.id = Number(this.#sql.insertRoom.run(room.name, room.epoch).lastInsertRowid);
    }
    return room.id;
  }

  #place(room: RoomLog): { seq: number; timestamp: string } {
    this.#touch(room);
    return { seq: ++room.lastSeq, timestamp: this.#time(room) };
  }

  #time(room: RoomLog): string {
    return toTimestamp(room.lastTime = Math.max(room.lastTime, this.#options.clock()));
  }

  #add(room: RoomLog, event: LogEvent, author: AuthorEntry): string {
    const json = JSON.stringify(event);
    room.events.push(json);
    room.authors.push(author);
    room.size += json.length;
    this.#open.add(room);
    if (room.events.length >= MAX_BLOCK_EVENTS || room.size >= MAX_BLOCK_SIZE) this.#close(room);
    return json;
  }

  /** Makes a block of a room's newest events. */
  #close(room: RoomLog): void {
    const { events, authors } = room;
    if (events.length === 0) return;
    this.#touch(room);
    this.#open.delete(room);
    const row = this.#rowOf(room);
    this.#sql.insert.run(row, firstOpen(room), `[${events.join(",")}]`, JSON.stringify(authors));
    room.events = [];
    room.authors = [];
    room.size = 0;
    room.journaled = 0;
  }

  /**
   * Drops blocks that a room need not keep, if there are enough of them. The newest block stays: it
   * says up to where the journal is of no more use.
   */
  #trim(room: RoomLog): void {
    const { lastSeq, oldestSeq } = room;
    const { keep } = this.#options;
    if (lastSeq - oldestSeq < keep + Math.max(MIN_EXCESS, keep / 8)) return;
    const row = this.#rowOf(room);
    const { start } = this.#sql.start.get(row, lastSeq - keep + 1) as { start: number | null };
    if (start === null || start === oldestSeq) return;
    room.oldestSeq = start;
    this.#sql.trim.run(row, start);
  }

  #rewrite(room: RoomLog, { first, events, authors }: Block): void {
    this.#sql.rewrite.run(JSON.stringify(events), JSON.stringify(authors), room.id!, first);
  }

  /** An event that is in a block. */
  #find(room: RoomLog, seq: number): { block: Block; index: number; event: LogEvent } | undefined {
    const row = this.#sql.blockOf.get(room.id ?? null, seq) as BlockRow | undefined;
    if (row === undefined) return undefined;
    const { first, events, authors } = row;
    const block = { first, events: JSON.parse(events), authors: JSON.parse(authors) };
    const event = block.events[seq - first];
    return event && { block, index: seq - first, event };
  }

  /** @throws {ChatError} `not_found` or `forbidden` */
  #findForChange(room: RoomLog, change: Change) {
    // Blocks can be changed, and the journal cannot.
    this.#close(room);
    const seq = toSeq(room.epoch, change.id);
    const found = seq === undefined ? undefined : this.#find(room, seq);
    const isThere = found?.event.type === "chat";
    const person = isThere ? found.block.authors[found.index]![0] : "";
    const isDeleted = isThere && (found.event as ChatEvent).deleted === true;
    checkChange(isThere ? { person, isDeleted } : undefined, change);
    return found!;
  }

  /** The message that an author sent under a ref before, if it is still there. */
  #repeated(room: RoomLog, author: string, ref: string): ChatEvent | undefined {
    const seq = this.#refs(room).get(author, ref);
    if (seq === undefined) return undefined;
    const json = room.events[seq - firstOpen(room)];
    const event = json === undefined ? this.#find(room, seq)?.event : JSON.parse(json);
    return event as ChatEvent | undefined;
  }

  #refs(room: RoomLog): Refs {
    if (room.refs !== undefined) return room.refs;
    const refs = room.refs = new Refs(Math.min(MAX_REFS, this.#options.keep));
    const addAll = (first: number, authors: readonly AuthorEntry[]) => {
      for (const [i, [, key]] of authors.entries()) {
        if (key) this.#remember(refs, ...splitRefKey(key), first + i);
      }
    };
    const start = room.lastSeq - MAX_REFS - MAX_BLOCK_EVENTS;
    const rows = this.#sql.authors.all(room.id ?? null, start) as BlockRow[];
    for (const { first, authors } of rows) addAll(first, JSON.parse(authors));
    addAll(firstOpen(room), room.authors);
    return refs;
  }

  #remember(refs: Refs, author: string, ref: string, seq: number): void {
    refs.add(author, ref, seq);
    if (++this.#refsAdded >= MAX_ALL_REFS / 2) this.#forgetRefs();
  }

  /** Forgets the older refs of every room. */
  #forgetRefs(): void {
    this.#refsAdded = 0;
    for (const room of this.#rooms.values()) {
      room.refs?.forgetOlder();
      // They are read back when they are needed.
      if (room.refs?.isEmpty) room.refs = undefined;
    }
  }

  /** The events after a `seq`, in order. */
  *#after(room: RoomLog, after: number): Generator<LogEvent> {
    const first = firstOpen(room);
    if (after + 1 < first) yield* this.#blocksAfter(room.id, after);
    for (const json of room.events.slice(Math.max(0, after + 1 - first))) yield JSON.parse(json);
  }

  /** The events before a `seq`, newest first. */
  *#before(room: RoomLog, before: number): Generator<LogEvent> {
    const first = firstOpen(room);
    const open = room.events.slice(0, Math.max(0, before - first));
    for (const json of open.reverse()) yield JSON.parse(json);
    yield* this.#blocksBefore(room.id, before);
  }

  *#blocksAfter(row: number | undefined, after: number): Generator<LogEvent> {
    const id = row ?? null;
    // The block that holds a seq may begin before it.
    const { start } = this.#sql.start.get(id, after + 1) as { start: number | null };
    let from = start ?? 0;
    let rows: BlockRow[];
    do {
      rows = this.#sql.blocksFrom.all(id, from, BLOCKS_AT_A_TIME) as BlockRow[];
      for (const { first, events } of rows) {
        for (const event of JSON.parse(events) as LogEvent[]) if (event.seq > after) yield event;
        from = first + 1;
      }
    } while (rows.length === BLOCKS_AT_A_TIME);
  }

  *#blocksBefore(row: number | undefined, before: number): Generator<LogEvent> {
    let upTo = Math.min(before, Number.MAX_SAFE_INTEGER);
    let rows: BlockRow[];
    do {
      rows = this.#sql.blocksBefore.all(row ?? null, upTo, BLOCKS_AT_A_TIME) as BlockRow[];
      for (const { first, events } of rows) {
        for (const event of (JSON.parse(events) as LogEvent[]).reverse()) {
          if (event.seq < before) yield event;
        }
        upTo = first;
      }
    } while (rows.length === BLOCKS_AT_A_TIME);
  }
}

type BlockRow = Record<"events" | "authors", string> & { first: number };

function prepare(db: DatabaseSync) {
  const sql = (text: string): StatementSync => db.prepare(text);
  return {
    room: sql("SELECT id, epoch FROM rooms WHERE name = ?"),
    insertRoom: sql("INSERT INTO rooms (name, epoch) VALUES (?, ?)"),
    insert: sql("INSERT INTO blocks (room, first, events, authors) VALUES (?, ?, ?, ?)"),
    rewrite: sql("UPDATE blocks SET events = ?, authors = ? WHERE room = ? AND first = ?"),
    oldest: sql("SELECT min(first) AS oldest FROM blocks WHERE room = ?"),
    blockOf: sql(`
      SELECT first, events, authors FROM blocks WHERE room = ? AND first <= ?
      ORDER BY first DESC LIMIT 1
    `),
    authors: sql("SELECT first, authors FROM blocks WHERE room = ? AND first > ? ORDER BY first"),
    start: sql("SELECT max(first) AS start FROM blocks WHERE room = ? AND first <= ?"),
    blocksFrom: sql(`
      SELECT first, events FROM blocks WHERE room = ? AND first >= ? ORDER BY first LIMIT ?
    `),
    blocksBefore: sql(`
      SELECT first, events FROM blocks WHERE room = ? AND first < ? ORDER BY first DESC LIMIT ?
    `),
    trim: sql("DELETE FROM blocks WHERE room = ? AND first < ?"),
  };
}

/** The `seq` of the first event that is in no block yet. */
function firstOpen({ lastSeq, events }: RoomLog): number {
  return lastSeq - events.length + 1;
}

function isMessage(event: LogEvent): boolean {
  return event.type === "chat" && !event.deleted;
}

/** The first of some events that are wanted. */
function take(
  events: Generator<LogEvent>,
  limit: number,
  isWanted: (event: LogEvent) => boolean = () => true,
): LogEvent[] {
  const taken: LogEvent[] = [];
  if (limit <= 0) return taken;
  for (const event of events) {
    if (isWanted(event)) taken.push(event);
    if (taken.length === limit) break;
  }
  return taken;
}
