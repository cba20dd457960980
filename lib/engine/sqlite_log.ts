/**
 * The logs of rooms, in SQLite: one row for each event, and one index.
 *
 * The index separates messages that people see from edits, deletions and deleted messages, so that
 * a page of messages reads exactly as many rows as it has messages.
 *
 * Refs are kept in memory, and read from the rows at a room's first write: an index of refs would
 * be written at a different place for each sender.
 *
 * @module
 */

import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { ChatEvent, LogEvent } from "../protocol/events.ts";
import {
  applyChange,
  checkAnswered,
  checkChange,
  EXCESS,
  isErasure,
  isMessage,
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
  LogState,
  MessageRange,
  Receipt,
} from "./engine.ts";
import type { Outcome } from "./group_commit.ts";
import { type Place, toMessageId, toTimestamp } from "./places.ts";
import { Refs } from "./refs.ts";
import type { SqliteEpochs } from "./sqlite_epochs.ts";

/** The tables, and the view that people read. */
export const LOG_SCHEMA = `
  CREATE TABLE rooms (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    -- When somebody last wrote, to the minute; in milliseconds since 1970, as every time here.
    active INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX rooms_active ON rooms (active);

  CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    room INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    -- 1 for a message that is not deleted, 0 for everything else.
    shown INTEGER NOT NULL,
    -- 'chat', 'message_updated' or 'message_deleted'.
    type TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    time INTEGER NOT NULL,
    username TEXT NOT NULL,
    -- Who caused the event.
    person TEXT NOT NULL,
    -- Empty in a change that a later one replaced.
    content TEXT NOT NULL,
    ref TEXT,
    reply_to TEXT,
    -- The id of the changed message; NULL for a message.
    target TEXT,
    -- The seq of a message's newest change.
    changed INTEGER
  ) STRICT;
  CREATE UNIQUE INDEX events_place ON events (room, shown, seq);

  CREATE VIEW messages AS
    SELECT rooms.name AS room, events.seq,
      epochs.name || iif(epochs.room IS NULL, '-' || events.room, '') || '-' || events.seq AS id,
      events.username, events.content,
      strftime('%Y-%m-%dT%H:%M:%S', events.time / 1000, 'unixepoch')
        || printf('.%03dZ', events.time % 1000) AS timestamp,
      events.shown AND events.changed IS NOT NULL AS edited,
      NOT events.shown AS deleted,
      events.reply_to, events.ref
    FROM events
    JOIN rooms ON rooms.id = events.room
    JOIN epochs ON epochs.id = events.epoch
    WHERE events.type = 'chat';
`;

/** Maximum rooms in memory, not counting rooms in use. */
export const MAX_CACHED_ROOMS = 10_000;

/** Minimum refs remembered per room, and maximum over all rooms; of kept messages only. */
const MAX_REFS = 10_000;
const MAX_ALL_REFS = 2_000_000;

/** How far a room's `active` may lag behind, in milliseconds. */
const ACTIVE_MS = 60_000;

/** Maximum events dropped at once. */
const MAX_DROPPED = 128;

/** The log of one room. */
interface RoomLog {
  readonly name: string;
  /** The room's row, and whether it is stored. */
  readonly id: number;
  hasRow: boolean;
  readonly epoch: string;
  /** The oldest `seq` that is still kept; `lastSeq + 1` if there is none. */
  oldestSeq: number;
  lastSeq: number;
  lastTime: number;
  /** The `active` of the room's row. */
  active: number;
  /** Absent until a message has a ref. */
  refs: Refs | undefined;
}

/** A row of `events`. */
type Row =
  & Readonly<Record<"seq" | "shown" | "epoch" | "time", number>>
  & Readonly<Record<"username" | "person" | "content", string>>
  & Readonly<Record<"ref" | "reply_to" | "target", string | null>>
  & { readonly type: LogEvent["type"]; readonly changed: number | null };

/** What {@linkcode SqliteLog} needs. */
export interface SqliteLogOptions extends Pick<EngineOptions, "clock" | "keep"> {
  /** Whether a room must stay in memory, and its numbers in the file. */
  readonly isInUse: (room: string) => boolean;
  /** Called for a room whose log has a hole. */
  readonly onHole: (room: string) => void;
}

/** The logs of all rooms. Call its writes within a transaction. */
export class SqliteLog {
  readonly #options: SqliteLogOptions;
  readonly #sql: ReturnType<typeof prepare>;
  readonly #epochs: SqliteEpochs;
  readonly #rooms = new Map<string, RoomLog>();
  /** The rooms that the transaction changes, and the state of each before it. */
  #touched = new Map<RoomLog, Readonly<RoomLog>>();
  /** Rooms with refs in memory, in the order in which they were read. */
  readonly #withRefs = new Set<RoomLog>();
  /** Refs added since the refs of all rooms were last counted. */
  #refsAdded = 0;
  #nextId: number;
  #hasErased = false;

  constructor(db: DatabaseSync, epochs: SqliteEpochs, options: SqliteLogOptions) {
    this.#options = options;
    this.#epochs = epochs;
    this.#sql = prepare(db, epochs.id);
    const newest = this.#sql.newestId.get() as { seq: number } | undefined;
    this.#nextId = (newest?.seq ?? 0) + 1;
  }

  /** The row of a room. Inserts it if it does not exist. */
  addRow(name: string): number {
    return this.#addRow(this.#room(name)).id;
  }

  /** The row that a room has or will have. */
  findRow(name: string): number {
    return this.#room(name).id;
  }

  /** The id of the message at a `seq`, which the room must have. */
  idOf(name: string, seq: number): string {
    const room = this.#room(name);
    return toMessageId(this.#epochs.nameOf(room.id, this.#find(room.id, seq)!.epoch), seq);
  }

  /** Notes that the transaction erases texts. */
  noteErasure(): void {
    this.#hasErased = true;
  }

  /** The present time in a room, which never goes backwards. */
  timeIn(name: string): string {
    return toTimestamp(this.#time(this.#room(name)));
  }

  /**
   * Adds a message, or finds the one that it repeats.
   *
   * @throws {ChatError} `conflict` or `not_found`
   */
  append(name: string, draft: Draft): Outcome<Receipt<ChatEvent>> {
    const room = this.#room(name);
    const { username, person, content, ref, replyTo } = draft;
    const known = ref === undefined ? undefined : this.#refs(room).get(person, ref);
    const row = known === undefined ? undefined : this.#find(room.id, known);
    // A rolled back write leaves its ref in memory.
    if (row?.person === person && row.ref === ref) {
      return { value: toRepeated(this.#toEvent(room, row) as ChatEvent, draft) };
    }
    if (replyTo !== undefined) checkAnswered(this.#findById(room, replyTo)?.event);
    const place = this.#place(room);
    const { seq } = place;
    const event = toMessage(name, draft, toMessageId(room.epoch, seq), place);
    const { id, lastTime } = room;
    const answered = replyTo ?? null;
    this.#sql.append.run(id, seq, lastTime, username, person, content, ref ?? null, answered);
    if (ref !== undefined) this.#remember(room, person, ref, seq);
    return toOutcome(event, draft.origin);
  }

  /**
   * Changes a message, and adds the change.
   *
   * @throws {ChatError} `not_found` or `forbidden`
   */
  change(name: string, change: Change): Outcome<Receipt<LogEvent>> {
    const room = this.#room(name);
    const found = this.#findById(room, change.id);
    const message = checkChange(found, change);
    const event = toLogEvent(message, change, this.#place(room));
    const { seq, type, username, content } = event;
    const { id, lastTime } = room;
    this.#sql.addChange.run(id, seq, type, lastTime, username, change.person, content, message.id);
    const after = applyChange(message, event) as ChatEvent;
    const { shown, changed } = found!.row;
    this.#sql.rewrite.run(
      ...[after.content, after.reply_to ?? null, Number(isMessage(after)), seq],
      ...[id, shown, message.seq],
    );
    if (changed !== null) this.#sql.clear.run(id, changed);
    this.#hasErased ||= isErasure(event);
    return toOutcome(event, change.origin);
  }

  /** Accepts the changes of a transaction that was committed. True if it erased a text. */
  commit(): boolean {
    // A new map, since a cleared map's old table keeps its later tables alive (docs/performance.md).
    this.#touched = new Map();
    const hasErased = this.#hasErased;
    this.#hasErased = false;
    return hasErased;
  }

  /** Undoes the changes of a transaction that was not committed. */
  rollback(): void {
    for (const [room, { refs: _, ...before }] of this.#touched) Object.assign(room, before);
    this.commit();
  }

  author(name: string, id: string): Author | undefined {
    const row = this.#findById(this.#room(name), id)?.row;
    return row?.type === "chat" && row.person !== ""
      ? { username: row.username, person: row.person }
      : undefined;
  }

  state(name: string): LogState {
    const { epoch, oldestSeq, lastSeq } = this.#room(name);
    return { epoch, oldestSeq, lastSeq };
  }

  canResume(name: string, epoch: string, seq: number): boolean {
    const room = this.#room(name);
    if (!(seq >= room.oldestSeq - 1 && seq <= room.lastSeq)) return false;
    // The row after a dropped one has the same epoch or a later one.
    const row = this.#find(room.id, Math.max(seq, room.oldestSeq));
    const known = this.#epochs.find(epoch, room.id) ?? 0;
    const isSame = seq === 0
      ? this.isWhole(name, epoch)
      : known === this.#epochs.id || (row?.epoch ?? Infinity) <= known;
    return isSame && this.#hasAllAfter(room, seq);
  }

  /** Whether no room with this name was dropped since the client's epoch. */
  isWhole(name: string, epoch: string): boolean {
    const known = this.#epochs.find(epoch, this.#room(name).id);
    return known !== undefined || this.#epochs.isWholeSince(epoch);
  }

  events(name: string, after: number, limit: number): LogEvent[] {
    const room = this.#room(name);
    const from = Math.max(after, room.oldestSeq - 1);
    const to = Math.min(from + limit, room.lastSeq);
    if (to <= from) return [];
    const rows = this.#sql.events.all(room.id, from, to) as unknown as Row[];
    let first = rows.length;
    while (first > 0 && rows[first - 1]!.seq === to - rows.length + first) first--;
    if (first > 0 || rows.length < to - from) this.#noteHole(room, to - rows.length + first + 1);
    // A message with many edits is read once.
    const found = new Map<string, LogEvent | undefined>();
    const find = (id: string) => {
      if (!found.has(id)) found.set(id, this.#findById(room, id)?.event);
      return found.get(id);
    };
    return rows.slice(first).map((row) => withPresentText(this.#toEvent(room, row), find));
  }

  messages(name: string, { before = Infinity, after, limit }: MessageRange): ChatEvent[] {
    const room = this.#room(name);
    const [sql, from] = after === undefined
      ? [this.#sql.newestMessages, 0] as const
      : [this.#sql.oldestMessages, after] as const;
    const to = Math.min(before, Number.MAX_SAFE_INTEGER);
    const rows = sql.all(room.id, from, to, limit) as unknown as Row[];
    if (after === undefined) rows.reverse();
    return rows.map((row) => this.#toEvent(room, row) as ChatEvent);
  }

  /**
   * Drops the oldest events and private messages of the room that has been silent for longest. An
   * unused room with few of them left is dropped as a whole.
   *
   * @returns whether it found something to drop
   */
  dropOldest(): boolean {
    const rows = this.#sql.silentRooms.all() as { name: string }[];
    for (const room of rows.map(({ name }) => this.#room(name))) {
      const count = room.lastSeq - room.oldestSeq + 1;
      const { changes } = this.#sql.dropPrivate.run(room.id, MAX_DROPPED);
      const isUnused = !this.#options.isInUse(room.name);
      if (changes === 0 && count <= MAX_DROPPED && isUnused) this.#dropRoom(room);
      else if (count > 1) this.#drop(room, MAX_DROPPED);
      else if (changes === 0) {
        // The newest event stays: the room's numbering continues from it.
        this.#setActive(room, this.#options.clock());
        continue;
      }
      return true;
    }
    return false;
  }

  #room(name: string): RoomLog {
    let room = this.#rooms.get(name);
    if (room === undefined) {
      room = this.#read(name);
      // Before adding the room, which must not be forgotten itself.
      if (this.#rooms.size >= MAX_CACHED_ROOMS) this.#forgetRooms();
      this.#rooms.set(name, room);
    }
    return room;
  }

  #read(name: string): RoomLog {
    const row = this.#sql.room.get(name) as Record<string, number | null> | undefined;
    const id = row?.id ?? this.#nextId++;
    const lastSeq = Math.max(row?.newest0 ?? 0, row?.newest1 ?? 0);
    return {
      name,
      id,
      hasRow: row !== undefined,
      epoch: this.#epochs.nameOf(id),
      oldestSeq: Math.min(row?.oldest0 ?? lastSeq + 1, row?.oldest1 ?? lastSeq + 1),
      lastSeq,
      lastTime: Math.max(row?.active ?? 0, this.#find(id, lastSeq)?.time ?? 0),
      active: row?.active ?? 0,
      refs: undefined,
    };
  }

  /** Removes unused rooms from memory. */
  #forgetRooms(): void {
    for (const [name, room] of this.#rooms) {
      if (this.#rooms.size <= MAX_CACHED_ROOMS / 2) return;
      if (this.#options.isInUse(name) || this.#touched.has(room)) continue;
      this.#rooms.delete(name);
      this.#withRefs.delete(room);
    }
  }

  /** Remembers a room's state before the transaction. */
  #touch(room: RoomLog): void {
    if (!this.#touched.has(room)) this.#touched.set(room, { ...room });
  }

  #addRow(room: RoomLog): RoomLog {
    if (room.hasRow) return room;
    this.#touch(room);
    room.active = this.#options.clock();
    this.#sql.insertRoom.run(room.id, room.name, room.active);
    room.hasRow = true;
    return room;
  }

  /** The next place in a log, and room for it. The caller must add its event at once. */
  #place(room: RoomLog): Place {
    this.#addRow(room);
    const excess = room.lastSeq - room.oldestSeq + 2 - this.#options.keep;
    if (excess >= EXCESS) this.#drop(room, Math.min(excess, MAX_DROPPED));
    const timestamp = toTimestamp(this.#time(room));
    return { seq: ++room.lastSeq, timestamp };
  }

  #time(room: RoomLog): number {
    this.#touch(room);
    const time = room.lastTime = Math.max(room.lastTime, this.#options.clock());
    if (room.hasRow && time - room.active >= ACTIVE_MS) this.#setActive(room, time);
    return time;
  }

  #setActive(room: RoomLog, time: number): void {
    this.#touch(room);
    room.active = time;
    this.#sql.setActive.run(time, room.id);
  }

  /** Drops this many of a room's oldest events, but never the newest one. */
  #drop(room: RoomLog, count: number): void {
    this.#touch(room);
    room.oldestSeq = Math.min(room.oldestSeq + count, room.lastSeq);
    this.#sql.drop.run(room.id, room.oldestSeq);
  }

  /** Drops all of a room. The next message there begins another room with this name. */
  #dropRoom(room: RoomLog): void {
    this.#rooms.delete(room.name);
    this.#withRefs.delete(room);
    this.#epochs.noteDrop();
    this.#sql.drop.run(room.id, Number.MAX_SAFE_INTEGER);
    this.#sql.dropInbox.run(room.id);
    this.#sql.dropRow.run(room.id);
  }

  #find(room: number, seq: number): Row | undefined {
    return this.#sql.find.get(room, seq) as Row | undefined;
  }

  /** The message with an id, if the room has it. */
  #findById(room: RoomLog, id: string) {
    const row = this.#find(room.id, Number(id.slice(id.lastIndexOf("-") + 1)));
    const event = row && this.#toEvent(room, row);
    return event?.id === id ? { row: row!, event, person: row!.person } : undefined;
  }

  #hasAllAfter(room: RoomLog, seq: number): boolean {
    const { count } = this.#sql.count.get(room.id, seq) as { count: number };
    if (count === room.lastSeq - seq) return true;
    // Reads back to the newest hole, which it notes.
    this.events(room.name, room.oldestSeq - 1, Infinity);
    return false;
  }

  /** Treats the events before a hole as dropped. */
  #noteHole(room: RoomLog, end: number): void {
    room.oldestSeq = end;
    this.#options.onHole(room.name);
  }

  #toEvent({ id: room, name }: RoomLog, row: Row): LogEvent {
    const { type, content, username, seq, shown, ref, reply_to, target } = row;
    const id = target ?? toMessageId(this.#epochs.nameOf(room, row.epoch), seq);
    const timestamp = toTimestamp(row.time);
    const base = { content, room: name, username, id, seq, timestamp };
    if (type !== "chat") return { type, ...base };
    return {
      type,
      ...base,
      ...(ref !== null && { ref }),
      ...(reply_to !== null && { reply_to }),
      ...(shown === 0 ? { deleted: true } : row.changed !== null && { edited: true }),
    };
  }

  /** The refs of a room's newest messages. */
  #refs(room: RoomLog): Refs {
    if (room.refs !== undefined) return room.refs;
    room.refs = new Refs(MAX_REFS);
    this.#withRefs.add(room);
    const rows = this.#sql.refs.all(room.id, room.lastSeq - MAX_REFS) as unknown as Row[];
    for (const { seq, person, ref } of rows) this.#remember(room, person, ref!, seq);
    return room.refs;
  }

  #remember(room: RoomLog, person: string, ref: string, seq: number): void {
    room.refs!.add(person, ref, seq);
    if (++this.#refsAdded >= MAX_ALL_REFS / 2) this.#forgetRefs(room);
  }

  /** If there are too many refs, forgets those of some rooms. Their next writes read them again. */
  #forgetRefs(present: RoomLog): void {
    this.#refsAdded = 0;
    let count = 0;
    for (const { refs } of this.#withRefs) count += refs!.size;
    for (const room of this.#withRefs) {
      if (count <= MAX_ALL_REFS / 2) return;
      if (room === present) continue;
      count -= room.refs!.size;
      room.refs = undefined;
      this.#withRefs.delete(room);
    }
  }
}

function prepare(db: DatabaseSync, epoch: number) {
  const sql = (text: string): StatementSync => db.prepare(text);
  const row = "seq, shown, type, epoch, time, username, person, content, ref, reply_to, target, " +
    "changed";
  const place = "FROM events WHERE room = rooms.id AND shown";
  const messages = (order: "ASC" | "DESC") =>
    sql(`
      SELECT ${row} FROM events WHERE room = ? AND shown = 1 AND seq > ? AND seq < ?
      ORDER BY seq ${order} LIMIT ?
    `);
  return {
    newestId: sql("SELECT seq FROM sqlite_sequence WHERE name = 'rooms'"),
    room: sql(`
      SELECT id, active,
        (SELECT min(seq) ${place} = 0) AS oldest0, (SELECT min(seq) ${place} = 1) AS oldest1,
        (SELECT max(seq) ${place} = 0) AS newest0, (SELECT max(seq) ${place} = 1) AS newest1
      FROM rooms WHERE name = ?
    `),
    insertRoom: sql("INSERT INTO rooms (id, name, active) VALUES (?, ?, ?)"),
    setActive: sql("UPDATE rooms SET active = ? WHERE id = ?"),
    append: sql(`
      INSERT INTO events (
        room, seq, shown, type, epoch, time, username, person, content, ref, reply_to
      ) VALUES (?, ?, 1, 'chat', ${epoch}, ?, ?, ?, ?, ?, ?)
    `),
    addChange: sql(`
      INSERT INTO events (room, seq, shown, type, epoch, time, username, person, content, target)
      VALUES (?, ?, 0, ?, ${epoch}, ?, ?, ?, ?, ?)
    `),
    rewrite: sql(`
      UPDATE events SET content = ?, reply_to = ?, shown = ?, changed = ?
      WHERE room = ? AND shown = ? AND seq = ?
    `),
    clear: sql("UPDATE events SET content = '' WHERE room = ? AND shown = 0 AND seq = ?"),
    find: sql(`SELECT ${row} FROM events WHERE room = ? AND shown IN (0, 1) AND seq = ?`),
    events: sql(`
      SELECT ${row} FROM events WHERE room = ? AND shown IN (0, 1) AND seq > ? AND seq <= ?
      ORDER BY seq
    `),
    count: sql(`
      SELECT count(*) AS count FROM events WHERE room = ? AND shown IN (0, 1) AND seq > ?
    `),
    newestMessages: messages("DESC"),
    oldestMessages: messages("ASC"),
    refs: sql(`
      SELECT seq, person, ref FROM events
      WHERE room = ? AND shown IN (0, 1) AND seq > ? AND ref IS NOT NULL ORDER BY seq
    `),
    drop: sql("DELETE FROM events WHERE room = ? AND shown IN (0, 1) AND seq < ?"),
    dropInbox: sql("DELETE FROM inbox WHERE room = ?"),
    // The newest message of each person stays: the number of the next one follows from it.
    dropPrivate: sql(`
      DELETE FROM inbox WHERE (room, person, seq) IN (
        SELECT room, person, seq FROM inbox WHERE room = ? AND seq < (
          SELECT max(seq) FROM inbox AS own WHERE own.room = inbox.room AND own.person = inbox.person
        ) ORDER BY time LIMIT ?
      )
    `),
    dropRow: sql("DELETE FROM rooms WHERE id = ?"),
    silentRooms: sql("SELECT name FROM rooms ORDER BY active LIMIT 16"),
  };
}

function toOutcome<E extends LogEvent>(event: E, origin: string): Outcome<Receipt<E>> {
  return { value: { event, isDuplicate: false }, event: { type: "logged", event, origin } };
}
