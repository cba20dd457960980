/**
 * Private messages, in SQLite: one row for each of the two people.
 *
 * @module
 */

import type { DatabaseSync, StatementSync } from "node:sqlite";
import { nobodyWithName } from "../errors.ts";
import { nameKey } from "../names.ts";
import type { EngineOptions, InboxEntry, PrivateDraft, PrivateMessage, Receipt } from "./engine.ts";
import { toTimestamp } from "./places.ts";
import { refKey } from "./refs.ts";
import type { SqliteLog } from "./sqlite_log.ts";

/** The table. */
export const INBOX_SCHEMA = `
  -- Private messages, one row for each of the two people.
  CREATE TABLE inbox (
    room INTEGER NOT NULL,
    person TEXT NOT NULL,
    seq INTEGER NOT NULL,
    id TEXT NOT NULL,
    content TEXT NOT NULL,
    time INTEGER NOT NULL,
    from_name TEXT NOT NULL,
    from_person TEXT NOT NULL,
    from_seq INTEGER NOT NULL,
    to_name TEXT NOT NULL,
    to_person TEXT NOT NULL,
    to_seq INTEGER NOT NULL,
    ref TEXT,
    PRIMARY KEY (room, person, seq)
  ) STRICT, WITHOUT ROWID;
  CREATE UNIQUE INDEX inbox_ref ON inbox (room, person, ref) WHERE ref IS NOT NULL;
  CREATE INDEX inbox_time ON inbox (time);
`;

/** How long private messages are kept, in milliseconds. */
const INBOX_MS = 30 * 24 * 60 * 60 * 1000;

type Row = Record<string, string | number | null>;

/** The inboxes of all people. Call its writes within a transaction. */
export class SqliteInbox {
  readonly #options: EngineOptions;
  readonly #sql: ReturnType<typeof prepare>;
  readonly #log: SqliteLog;

  /** @param log finds the row and the time of a room */
  constructor(db: DatabaseSync, log: SqliteLog, options: EngineOptions) {
    this.#options = options;
    this.#sql = prepare(db);
    this.#log = log;
  }

  /**
   * Adds a private message for its two people, or finds the one that it repeats.
   *
   * @throws {ChatError} `not_found`
   */
  whisper(room: string, draft: PrivateDraft): Receipt<PrivateMessage> {
    const { content, username, person, to } = draft;
    const row = this.#log.rowOf(room);
    const ref = draft.ref === undefined ? null : refKey(nameKey(username), draft.ref);
    const first = ref === null ? undefined : this.#sql.byRef.get(row, person, ref);
    if (first !== undefined) return { event: toMessage(first as Row), isDuplicate: true };
    if (to === undefined) throw nobodyWithName();
    const message: PrivateMessage = {
      id: this.#options.newId(),
      content,
      timestamp: this.#log.timeIn(room),
      from: { username, person },
      to,
      fromSeq: this.#lastSeq(row, person) + 1,
      toSeq: this.#lastSeq(row, to.person) + 1,
    };
    this.#insert(row, person, message.fromSeq, message, ref);
    this.#insert(row, to.person, message.toSeq, message, null);
    return { event: message, isDuplicate: false };
  }

  /** The private messages of a person after an `inboxSeq`, in order, at most `limit`. */
  read(room: string, person: string, after: number, limit: number): InboxEntry[] {
    const row = this.#log.findRow(room) ?? null;
    const rows = this.#sql.read.all(row, person, after, limit) as Row[];
    return rows.map((row) => ({ inboxSeq: row.seq as number, message: toMessage(row) }));
  }

  /** The `inboxSeq` of a person's newest private message; 0 if there is none. */
  lastSeq(room: string, person: string): number {
    return this.#lastSeq(this.#log.findRow(room) ?? null, person);
  }

  /** Drops the messages older than {@linkcode INBOX_MS}. */
  dropOld(): void {
    this.#sql.dropOld.run(this.#options.clock() - INBOX_MS);
  }

  #insert(room: number, owner: string, seq: number, message: PrivateMessage, ref: string | null) {
    const { id, content, timestamp, from, to, fromSeq, toSeq } = message;
    this.#sql.insert.run(
      ...[room, owner, seq, id, content, Date.parse(timestamp)],
      ...[from.username, from.person, fromSeq],
      ...[to.username, to.person, toSeq, ref],
    );
    const { keep } = this.#options;
    if (seq > keep) this.#sql.trim.run(room, owner, seq - keep);
  }

  #lastSeq(row: number | null, person: string): number {
    const { last } = this.#sql.lastSeq.get(row, person) as { last: number | null };
    return last ?? 0;
  }
}

function prepare(db: DatabaseSync) {
  const sql = (text: string): StatementSync => db.prepare(text);
  return {
    insert: sql(`
      INSERT INTO inbox (
        room, person, seq, id, content, time,
        from_name, from_person, from_seq, to_name, to_person, to_seq, ref
      ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    `),
    byRef: sql("SELECT * FROM inbox WHERE room = ? AND person = ? AND ref = ?"),
    read: sql("SELECT * FROM inbox WHERE room = ? AND person = ? AND seq > ? ORDER BY seq LIMIT ?"),
    lastSeq: sql("SELECT max(seq) AS last FROM inbox WHERE room = ? AND person = ?"),
    trim: sql("DELETE FROM inbox WHERE room = ? AND person = ? AND seq <= ?"),
    // The newest message stays, however old it is: the number of the next one follows from it.
    dropOld: sql(`
      DELETE FROM inbox WHERE time < ? AND seq < (
        SELECT max(seq) FROM inbox AS own WHERE own.room = inbox.room AND own.person = inbox.person
      )
    `),
  };
}

function toMessage(row: Row): PrivateMessage {
  return {
    id: row.id as string,
    content: row.content as string,
    timestamp: toTimestamp(row.time as number),
    from: { username: row.from_name as string, person: row.from_person as string },
    to: { username: row.to_name as string, person: row.to_person as string },
    fromSeq: row.from_seq as number,
    toSeq: row.to_seq as number,
  };
}
