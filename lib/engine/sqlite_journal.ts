/**
 * The newest of what all rooms said, in SQLite: one row for all that was said in one turn, in
 * however many rooms.
 *
 * A row for each room would be a page of its own for each, and a page is what a write costs. So
 * what is said goes here first, and to its room's blocks (`lib/sqlite_log.ts`) when there is enough
 * of it to fill one.
 *
 * @module
 */

import type { DatabaseSync } from "node:sqlite";

/** The table. */
export const JOURNAL_SCHEMA = `
  -- What was said in a turn; "start" is the length of all that was written before it.
  CREATE TABLE journal (
    start INTEGER PRIMARY KEY,
    -- A list of JournalEntry.
    entries TEXT NOT NULL
  ) STRICT;
`;

/** What one room said in a turn: its row, the first `seq`, and what a block has of each event. */
export type JournalEntry<Event, Author> = [
  room: number,
  first: number,
  events: Event[],
  authors: Author[],
];

/** Written to at its end, and dropped from its start. */
export class SqliteJournal {
  readonly #sql: ReturnType<typeof prepare>;
  #start = 0;
  #end = 0;
  /** Both, as of the last commit. */
  #committed = { start: 0, end: 0 };

  /** Takes it over as it is in the file. */
  constructor(db: DatabaseSync) {
    this.#sql = prepare(db);
  }

  /** Where its oldest row begins, in UTF-16 units that were ever written to it. */
  get start(): number {
    return this.#start;
  }

  /** Where the next row will begin. */
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

  /** All that is in it, oldest first. */
  read<Event, Author>(): JournalEntry<Event, Author>[] {
    const rows = this.#sql.read.all() as { entries: string }[];
    return rows.flatMap(({ entries }) => JSON.parse(entries));
  }

  /** Takes note that the transaction was committed. */
  commit(): void {
    this.#committed = { start: this.#start, end: this.#end };
  }

  /** Begins and ends again where it did before the transaction. */
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
