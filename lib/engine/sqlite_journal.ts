/**
 * The newest events of all rooms, in SQLite: one row for all events of one turn.
 *
 * A write costs as much as the pages it touches, and a row per room would touch a page per room. So
 * events are written here first, and move into their room's blocks (`sqlite_log.ts`) when they fill
 * one.
 *
 * @module
 */

import type { DatabaseSync } from "node:sqlite";

/** The table. */
export const JOURNAL_SCHEMA = `
  -- The events of a turn. "start" is the length of everything written before it.
  CREATE TABLE journal (
    start INTEGER PRIMARY KEY,
    -- A list of JournalEntry.
    entries TEXT NOT NULL
  ) STRICT;
`;

/** The events of one room in a turn: its row, the first `seq`, and two lists as in a block. */
export type JournalEntry<Event, Author> = [
  room: number,
  first: number,
  events: Event[],
  authors: Author[],
];

/** A queue of rows: it grows at its end, and is cut at its start. */
export class SqliteJournal {
  readonly #sql: ReturnType<typeof prepare>;
  #start = 0;
  #end = 0;
  /** `#start` and `#end` at the last commit. */
  #committed = { start: 0, end: 0 };

  constructor(db: DatabaseSync) {
    this.#sql = prepare(db);
  }

  /** The place of its oldest row: the number of UTF-16 units ever written before it. */
  get start(): number {
    return this.#start;
  }

  /** The place of the next row. */
  get end(): number {
    return this.#end;
  }

  /** Adds a row: the JSON of some {@linkcode JournalEntry}. */
  write(entries: readonly string[]): void {
    const text = `[${entries.join(",")}]`;
    this.#sql.insert.run(this.#end, text);
    this.#end += text.length;
  }

  /** Drops the rows that end before a place. */
  dropBefore(place: number): void {
    this.#sql.drop.run(place);
    this.#start = place;
  }

  /** Drops all rows. */
  clear(): void {
    this.#sql.clear.run();
    this.#start = this.#end;
  }

  /** Every entry, oldest first. */
  read<Event, Author>(): JournalEntry<Event, Author>[] {
    const rows = this.#sql.read.all() as { entries: string }[];
    return rows.flatMap(({ entries }) => JSON.parse(entries));
  }

  /** Accepts the changes of a transaction that was committed. */
  commit(): void {
    this.#committed = { start: this.#start, end: this.#end };
  }

  /** Undoes the changes of a transaction that was not committed. */
  rollback(): void {
    this.#start = this.#committed.start;
    this.#end = this.#committed.end;
  }
}

function prepare(db: DatabaseSync) {
  return {
    insert: db.prepare("INSERT INTO journal (start, entries) VALUES (?, ?)"),
    drop: db.prepare("DELETE FROM journal WHERE start < ?"),
    clear: db.prepare("DELETE FROM journal"),
    read: db.prepare("SELECT entries FROM journal ORDER BY start"),
  };
}
