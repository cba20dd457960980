/**
 * The logs of rooms, in SQLite: many events in one row, a block.
 *
 * A row per message would cost more than all other work on the message. So a room's events become
 * one row, a block, when they fill a page of the file. A block has the JSON of its events, as
 * clients receive it, and their authors. Until then they are in memory, and in the journal
 * (`sqlite_journal.ts`), which stores the events of all rooms in one turn as one row. When the
 * journal is long, the rooms whose events have waited longest get their blocks, and the journal is
 * cut. When a server starts, the journal has events only if the previous server was killed.
 *
 * Refs are kept in memory, and read back from the blocks at a room's first write: an index of refs
 * would be written in a different place for each sender.
 *
 * @module
 */

import type { DatabaseSync, StatementSync } from "node:sqlite";
import { nameKey } from "../names.ts";
import type { ChatEvent, LogEvent } from "../protocol/events.ts";
import { applyChange, checkChange, isErasure, isMessage, toLogEvent } from "./changes.ts";
import type { Change, Draft, LogState, MessageRange } from "./engine.ts";
import { type Place, toMessageId, toSeq, toTimestamp } from "./places.ts";
import { refKey, Refs, splitRefKey } from "./refs.ts";
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
    -- A list of LogEvent. Each message has its present text.
    events TEXT NOT NULL,
    -- A list with an AuthorEntry for each event.
    authors TEXT NOT NULL,
    PRIMARY KEY (room, first)
  ) STRICT, WITHOUT ROWID;
`;

/** Minimum UTF-16 units of a block made at the end of a turn: it fills a page of the file. */
const MIN_BLOCK_SIZE = 4096;

/** Maximum events of a block, and about its maximum UTF-16 units: a change rewrites the block. */
const MAX_BLOCK_EVENTS = 128;
const MAX_BLOCK_SIZE = 64 * 1024;

/** Maximum length of the journal, and minimum length of a cut, in UTF-16 units. */
const MAX_JOURNAL_SIZE = 4 * 1024 * 1024;
const MIN_CUT_SIZE = 256 * 1024;

/** Maximum blocks that one query reads. */
const BLOCKS_AT_A_TIME = 16;

/** Maximum rooms in memory, not counting rooms in use. */
export const MAX_CACHED_ROOMS = 10_000;

/** Minimum refs remembered per room; maximum over all rooms. */
const MAX_REFS = 10_000;
const MAX_ALL_REFS = 500_000;

/** Minimum events that are dropped at once. */
const MIN_EXCESS = 100;

/** The author of an event, its `refKey` if it has one, and the `seq` of each change of it. */
type AuthorEntry = [person: string, key?: string | null, changes?: number[]];

/** The log of one room. */
interface RoomLog {
  readonly name: string;
  readonly epoch: string;
  /** The id of its row; absent until the first write. */
  id: number | undefined;
  /** The oldest `seq` that is still kept; `lastSeq + 1` if there is none. */
  oldestSeq: number;
  lastSeq: number;
  lastTime: number;
  /** Absent until a message has a ref. */
  refs: Refs | undefined;
  /** The JSON of the newest events, which are in no block yet. */
  events: string[];
  authors: AuthorEntry[];
  /** The length of `events` in UTF-16 units. */
  size: number;
  /** How many of `events` are in the journal, and the place of the first of them. */
  journaled: number;
  since: number;
}

/** A room's log when the transaction began. */
interface Before {
  readonly log: Readonly<RoomLog>;
  readonly count: number;
}

interface Block {
  readonly first: number;
  readonly events: LogEvent[];
  readonly authors: AuthorEntry[];
}

/** A new event, and its JSON. */
export interface Logged<E> {
  readonly event: E;
  readonly json: string;
}

/** What {@linkcode SqliteLog} needs. */
export interface SqliteLogOptions {
  /** The time in milliseconds since 1970. */
  readonly clock: () => number;
  /** Makes an epoch. */
  readonly newId: () => string;
  /** Minimum events kept per room; `Infinity` for all. */
  readonly keep: number;
  /** Whether a room must stay in memory. */
  readonly isInUse: (room: string) => boolean;
}

/** The logs of all rooms. Call its writes within a transaction. */
export class SqliteLog {
  readonly #options: SqliteLogOptions;
  readonly #sql: ReturnType<typeof prepare>;
  readonly #rooms = new Map<string, RoomLog>();
  readonly #journal: SqliteJournal;
  /** Rooms with events that are in no block yet, the longest waiting first. */
  #open = new Set<RoomLog>();
  /** Rooms that the transaction has changed. */
  #touched = new Map<RoomLog, Before>();
  /** Refs added since older ones were last forgotten. */
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

  /** The row of a room, which is inserted if it does not exist. */
  rowOf(name: string): number {
    return this.#rowOf(this.#room(name));
  }

  /** The present time in a room: it never goes backwards. */
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
   * Changes a message, and adds the change.
   *
   * @throws {ChatError} `not_found` or `forbidden`
   */
  change(name: string, change: Change): Logged<LogEvent> {
    const room = this.#room(name);
    const { block, index, message } = this.#findForChange(room, change);
    const event = toLogEvent(message, change, this.#place(room));
    const [author, ref = null, changes = []] = block.authors[index]!;
    block.authors[index] = [author, ref, [...changes, event.seq]];
    this.#apply(room, block, index, event);
    if (isErasure(event)) {
      for (const seq of changes) {
        const found = this.#find(room, seq);
        if (found !== undefined) this.#apply(room, found.block, found.index, event);
      }
      // The journal may contain the text too.
      this.settle();
    }
    return { event, json: this.#add(room, event, [change.person]) };
  }

  /** Writes every new event to the file. Call it at the end of a transaction. */
  write(): void {
    const entries: string[] = [];
    for (const room of this.#touched.keys()) {
      if (room.size >= MIN_BLOCK_SIZE) this.#close(room);
      const { events, authors, journaled } = room;
      if (events.length === journaled) continue;
      if (journaled === 0) room.since = this.#journal.end;
      const place = `${this.#rowOf(room)},${firstOpen(room) + journaled}`;
      const [added, addedAuthors] = [events.slice(journaled), authors.slice(journaled)];
      entries.push(`[${place},[${added.join(",")}],${JSON.stringify(addedAuthors)}]`);
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

  /** Moves every event of the journal into a block. */
  settle(): void {
    for (const room of this.#open) this.#close(room);
    this.#journal.clear();
  }

  /** Moves every event of the journal of a killed server into a block. */
  recover(): void {
    const blocks = new Map<number, Block>();
    for (const [room, first, events, authors] of this.#journal.read<LogEvent, AuthorEntry>()) {
      let block = blocks.get(room);
      if (block === undefined) {
        const [newest] = take(this.#blocksBefore(room, Infinity), 1);
        block = { first: (newest?.seq ?? 0) + 1, events: [], authors: [] };
        blocks.set(room, block);
      }
      // The journal may still have events that are in a block, after older events of other rooms.
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

  /** Accepts the changes of a transaction that was committed. */
  commit(): void {
    this.#touched = new Map();
    this.#journal.commit();
  }

  /** Undoes the changes of a transaction that was not committed. */
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

  events(name: string, after: number, limit: number): LogEvent[] {
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
      // Before `set`, so that this room is not forgotten itself.
      if (this.#rooms.size >= MAX_CACHED_ROOMS) this.#forgetRooms();
      this.#rooms.set(name, room);
    }
    return room;
  }

  /** Forgets rooms that are neither in use nor changed since they were last stored in blocks. */
  #forgetRooms(): void {
    for (const [name, room] of this.#rooms) {
      if (this.#rooms.size <= MAX_CACHED_ROOMS / 2) return;
      if (this.#options.isInUse(name) || this.#open.has(room) || this.#touched.has(room)) continue;
      this.#rooms.delete(name);
    }
  }

  /** Remembers a room's log as it was before the transaction. */
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

  #place(room: RoomLog): Place {
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

  /** Moves a room's newest events into a block. */
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
   * Drops the blocks beyond `keep`, several at once. The newest block stays: it shows which part of
   * the journal is obsolete.
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

  /** Applies a change to an event of a block. */
  #apply(room: RoomLog, block: Block, index: number, change: LogEvent): void {
    const { first, events, authors } = block;
    events[index] = applyChange(events[index]!, change);
    this.#sql.rewrite.run(JSON.stringify(events), JSON.stringify(authors), room.id!, first);
  }

  /** Finds an event that is in a block. */
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
    // An event can be changed in a block, but not in the journal.
    this.#close(room);
    const seq = toSeq(room.epoch, change.id);
    const found = seq === undefined ? undefined : this.#find(room, seq);
    const [person = ""] = found?.block.authors[found.index] ?? [];
    const message = checkChange(found && { event: found.event, person }, change);
    return { ...found!, message };
  }

  /** The message that an author sent under a ref before, if it is still kept. */
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
      // The next write reads them back.
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

/** The first `limit` events that are wanted. */
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
