/**
 * The logs of rooms, in SQLite: one row for all that a room said in one turn.
 *
 * A row for each message would cost more than everything else that is done with it. So the events
 * of a turn are one row, a block: their JSON as it goes over the wire, and beside it who wrote them.
 * A quiet room has blocks of one event; a busy one has hundreds in a row, and reads them as cheaply.
 *
 * Which refs were used is kept in memory and read back from the blocks when a room is first written
 * to: an index of them would be written to in as many places as there are senders.
 *
 * @module
 */

import type { DatabaseSync, StatementSync } from "node:sqlite";
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
import { nameKey } from "./names.ts";
import type { ChatEvent, MessageDeletedEvent, MessageUpdatedEvent } from "./protocol.ts";
import { Refs } from "./refs.ts";

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

/** Events in a block at the most, and about how many UTF-16 units: a change reads and writes it all. */
const MAX_BLOCK_EVENTS = 128;
const MAX_BLOCK_SIZE = 64 * 1024;

/** How many blocks are read at a time, until there are as many events as were asked for. */
const BLOCKS_AT_A_TIME = 16;

/** Rooms whose numbers are kept at hand. */
const MAX_CACHED_ROOMS = 10_000;

/** Refs that are remembered of one room, and of all together. */
const MAX_REFS = 10_000;
const MAX_ALL_REFS = 500_000;

/** How many events a room may have beyond those that are kept, before they are dropped in one go. */
const MIN_EXCESS = 100;

/** Who wrote an event, under which name and ref if it has one, and the `seq` of each edit of it. */
type AuthorEntry = [person: string, key?: string | null, edits?: number[]];

/** A room's numbers, as of the last write. */
export interface RoomNumbers {
  readonly name: string;
  readonly epoch: string;
  /** Its row; absent until something is written. */
  id: number | undefined;
  lastSeq: number;
  lastTime: number;
}

interface RoomLog extends RoomNumbers {
  /** Absent until somebody uses one. */
  refs: Refs | undefined;
  /** What was appended since the last {@linkcode SqliteLog.write}. */
  events: string[];
  authors: AuthorEntry[];
  size: number;
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
  /** Rooms with something appended that is not written yet. */
  readonly #open = new Set<RoomLog>();
  /** How many refs were taken note of since the older ones were last forgotten. */
  #refsAdded = 0;

  constructor(db: DatabaseSync, options: SqliteLogOptions) {
    this.#options = options;
    this.#sql = prepare(db);
  }

  /** A room's numbers. Its epoch begins when it is first asked for. */
  room(name: string): RoomNumbers {
    return this.#room(name);
  }

  /** The row of a room, made if need be. */
  rowOf(name: string): number {
    const room = this.#room(name);
    return room.id ??= Number(this.#sql.insertRoom.run(name, room.epoch).lastInsertRowid);
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
   * @throws {ProtocolError} `not_found` or `forbidden`
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
   * @throws {ProtocolError} `not_found` or `forbidden`
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
    for (const room of this.#open) this.#write(room);
  }

  /** Forgets what was done to these rooms since their numbers were as they are here. */
  restore(before: Iterable<RoomNumbers>): void {
    this.#open.clear();
    for (const numbers of before) this.#rooms.set(numbers.name, toRoomLog(numbers));
  }

  state(name: string): LogState {
    const { id, epoch, lastSeq } = this.#room(name);
    const { oldest } = this.#sql.oldest.get(id ?? null) as { oldest: number | null };
    return { epoch, oldestSeq: oldest ?? lastSeq + 1, lastSeq };
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
      const [newest] = row === undefined ? [] : take(this.#before(row, Infinity), 1);
      room = toRoomLog({
        name,
        epoch: row?.epoch ?? this.#options.newId(),
        id: row?.id,
        lastSeq: newest?.seq ?? 0,
        lastTime: newest === undefined ? 0 : Date.parse(newest.timestamp),
      });
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

  #place(room: RoomLog): { seq: number; timestamp: string } {
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
    if (room.events.length >= MAX_BLOCK_EVENTS || room.size >= MAX_BLOCK_SIZE) this.#write(room);
    return json;
  }

  #write(room: RoomLog): void {
    this.#open.delete(room);
    const { events, authors, lastSeq, name } = room;
    const { keep } = this.#options;
    const row = this.rowOf(name);
    const first = lastSeq - events.length + 1;
    this.#sql.insert.run(row, first, `[${events.join(",")}]`, JSON.stringify(authors));
    room.events = [];
    room.authors = [];
    room.size = 0;
    const excess = Math.max(MIN_EXCESS, keep / 8);
    if (lastSeq > keep && Math.trunc(lastSeq / excess) > Math.trunc((first - 1) / excess)) {
      this.#sql.trim.run(row, row, lastSeq - keep + 1);
    }
  }

  #rewrite(room: RoomLog, { first, events, authors }: Block): void {
    this.#sql.rewrite.run(JSON.stringify(events), JSON.stringify(authors), room.id!, first);
  }

  #find(room: RoomLog, seq: number): { block: Block; index: number; event: LogEvent } | undefined {
    if (this.#open.has(room)) this.#write(room);
    const row = this.#sql.blockOf.get(room.id ?? null, seq) as BlockRow | undefined;
    if (row === undefined) return undefined;
    const { first, events, authors } = row;
    const block = { first, events: JSON.parse(events), authors: JSON.parse(authors) };
    const event = block.events[seq - first];
    return event && { block, index: seq - first, event };
  }

  /** @throws {ProtocolError} `not_found` or `forbidden` */
  #findForChange(room: RoomLog, change: Change) {
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
    return seq === undefined ? undefined : this.#find(room, seq)?.event as ChatEvent | undefined;
  }

  #refs(room: RoomLog): Refs {
    if (room.refs !== undefined) return room.refs;
    const refs = room.refs = new Refs(Math.min(MAX_REFS, this.#options.keep));
    const rows = this.#sql.authors.all(room.id ?? null, room.lastSeq - MAX_REFS) as BlockRow[];
    for (const { first, authors } of rows) {
      for (const [i, [, key]] of (JSON.parse(authors) as AuthorEntry[]).entries()) {
        if (key) this.#remember(refs, ...splitRefKey(key), first + i);
      }
    }
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
  *#after({ id = null }: RoomRow, after: number): Generator<LogEvent> {
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

  /** The events before a `seq`, newest first. */
  *#before({ id = null }: RoomRow, before: number): Generator<LogEvent> {
    let upTo = Math.min(before, Number.MAX_SAFE_INTEGER);
    let rows: BlockRow[];
    do {
      rows = this.#sql.blocksBefore.all(id, upTo, BLOCKS_AT_A_TIME) as BlockRow[];
      for (const { first, events } of rows) {
        for (const event of (JSON.parse(events) as LogEvent[]).reverse()) {
          if (event.seq < before) yield event;
        }
        upTo = first;
      }
    } while (rows.length === BLOCKS_AT_A_TIME);
  }
}

interface RoomRow {
  readonly id?: number | null | undefined;
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
    trim: sql(`
      DELETE FROM blocks WHERE room = ? AND first < (
        SELECT max(first) FROM blocks WHERE room = ? AND first <= ?
      )
    `),
  };
}

function toRoomLog({ name, epoch, id, lastSeq, lastTime }: RoomNumbers): RoomLog {
  const nothing = { refs: undefined, events: [], authors: [], size: 0 };
  return { name, epoch, id, lastSeq, lastTime, ...nothing };
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
