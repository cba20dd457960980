/**
 * Private messages, in SQLite: one row for each of the two people.
 *
 * @module
 */

import type { DatabaseSync, StatementSync } from "node:sqlite";
import { nobodyWithName } from "../errors.ts";
import { INBOX_MS, toRepeated } from "./changes.ts";
import type { EngineOptions, InboxEntry, PrivateDraft, PrivateMessage, Receipt } from "./engine.ts";
import type { Outcome } from "./group_commit.ts";
import { toTimestamp } from "./places.ts";
import type { SqliteEpochs } from "./sqlite_epochs.ts";
import type { SqliteLog } from "./sqlite_log.ts";

/** Finds a sender's own message by ref. In a receiver's inbox, several senders may share a ref. */
const REF_INDEX = `
  CREATE UNIQUE INDEX inbox_ref ON inbox (room, person, ref)
    WHERE ref IS NOT NULL AND person = from_person;
`;

/** Updates the table from version 4 to version 5, in which the receiver's row has the ref too. */
export const INBOX_UPDATE = `
  DROP INDEX inbox_ref;
  ${REF_INDEX}
  UPDATE inbox SET ref = (
    SELECT ref FROM inbox AS sent
    WHERE sent.room = inbox.room AND sent.person = inbox.from_person AND sent.seq = inbox.from_seq
  ) WHERE person <> from_person;
`;

/** The table. */
export const INBOX_SCHEMA = `
  -- Private messages, one row for each of the two people.
  CREATE TABLE inbox (
    room INTEGER NOT NULL,
    -- The owner of the inbox.
    person TEXT NOT NULL,
    seq INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
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
  ${REF_INDEX}
  CREATE INDEX inbox_time ON inbox (room, time);
`;

type Row = Record<string, string | number | null>;

/** The inboxes of all people. Call its writes within a transaction. */
export class SqliteInbox {
  readonly #options: EngineOptions;
  readonly #sql: ReturnType<typeof prepare>;
  readonly #log: SqliteLog;
  readonly #epochs: SqliteEpochs;

  /** @param log has the row and the time of each room */
  constructor(db: DatabaseSync, log: SqliteLog, epochs: SqliteEpochs, options: EngineOptions) {
    this.#epochs = epochs;
    this.#options = options;
    this.#sql = prepare(db);
    this.#log = log;
  }

  /**
   * Adds a private message for its two people, or finds the one that it repeats.
   *
   * @throws {ChatError} `not_found` or `conflict`
   */
  whisper(room: string, draft: PrivateDraft): Outcome<Receipt<PrivateMessage>> {
    const { content, username, person, to, ref, origin } = draft;
    const row = this.#log.findRow(room);
    const first = ref === undefined ? undefined : this.#sql.byRef.get(row, person, ref) as Row;
    if (first !== undefined) return { value: toRepeated(toMessage(first), draft) };
    if (to === undefined) throw nobodyWithName();
    this.#log.addRow(room);
    const message: PrivateMessage = {
      id: this.#options.newId(),
      content,
      timestamp: this.#log.timeIn(room),
      from: { username, person },
      to,
      fromSeq: this.#lastSeq(row, person) + 1,
      toSeq: this.#lastSeq(row, to.person) + 1,
      ...(ref !== undefined && { ref }),
    };
    this.#insert(row, person, message.fromSeq, message);
    this.#insert(row, to.person, message.toSeq, message);
    const event = { type: "private", message, origin } as const;
    return { value: { event: message, isDuplicate: false }, event };
  }

  /** The private messages of a person after an `inboxSeq`, in order, at most `limit`. */
  read(room: string, person: string, after: number, limit: number): InboxEntry[] {
    const rows = this.#sql.read.all(this.#log.findRow(room), person, after, limit) as Row[];
    return rows.map((row) => ({ inboxSeq: row.seq as number, message: toMessage(row) }));
  }

  /** The `inboxSeq` of a person's newest private message; 0 if there is none. */
  lastSeq(room: string, person: string): number {
    return this.#lastSeq(this.#log.findRow(room), person);
  }

  /** Whether a client that has seen everything up to an `inboxSeq` in an epoch can resume. */
  canResume(room: string, person: string, epoch: string, inboxSeq: number): boolean {
    const row = this.#log.findRow(room);
    if (inboxSeq > this.#lastSeq(row, person)) return false;
    // Only a person's oldest messages are ever dropped, so a look at the next one is enough.
    const next = this.#sql.next.get(row, person, inboxSeq) as Record<string, number> | undefined;
    if ((next?.seq ?? inboxSeq) > inboxSeq + 1) return false;
    if (inboxSeq === 0) return this.#log.isWhole(room, epoch);
    // If the message was dropped, the next row has the same epoch or a later one.
    return next !== undefined && next.epoch! <= (this.#epochs.find(epoch, row) ?? 0);
  }

  /** Drops the messages older than {@linkcode INBOX_MS}, except the newest of each person. */
  dropOld(): void {
    this.#sql.dropOld.run(this.#options.clock() - INBOX_MS);
  }

  #insert(room: number, owner: string, seq: number, message: PrivateMessage): void {
    const { id, content, timestamp, from, to, fromSeq, toSeq, ref = null } = message;
    this.#sql.insert.run(
      ...[room, owner, seq, this.#epochs.id, id, content, Date.parse(timestamp)],
      ...[from.username, from.person, fromSeq],
      ...[to.username, to.person, toSeq, ref],
    );
    const { keep } = this.#options;
    if (seq > keep) this.#sql.trim.run(room, owner, seq - keep);
  }

  #lastSeq(row: number, person: string): number {
    return (this.#sql.lastSeq.get(row, person) as { last: number | null }).last ?? 0;
  }
}

function prepare(db: DatabaseSync) {
  const sql = (text: string): StatementSync => db.prepare(text);
  return {
    insert: sql("INSERT INTO inbox VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"),
    byRef: sql(`
      SELECT * FROM inbox WHERE room = ? AND person = ? AND ref = ? AND person = from_person
    `),
    read: sql("SELECT * FROM inbox WHERE room = ? AND person = ? AND seq > ? ORDER BY seq LIMIT ?"),
    lastSeq: sql("SELECT max(seq) AS last FROM inbox WHERE room = ? AND person = ?"),
    next: sql(`
      SELECT seq, epoch FROM inbox WHERE room = ? AND person = ? AND seq >= ? ORDER BY seq LIMIT 1
    `),
    trim: sql("DELETE FROM inbox WHERE room = ? AND person = ? AND seq <= ?"),
    // The newest message stays at any age: the number of the next one follows from it.
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
    ...(row.ref !== null && { ref: row.ref as string }),
  };
}
