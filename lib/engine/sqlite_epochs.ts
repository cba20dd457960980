/**
 * The epochs of a SQLite file: each start of an engine begins one, and each row has the epoch that
 * it was written in.
 *
 * A room's epoch, as clients see it, is the name of an epoch and the row of the room. A client can
 * resume after a `seq` exactly if the row with this `seq` was written in the client's epoch or an
 * earlier one. After a restore, or the loss of a log's end, the row was written later.
 *
 * @module
 */

import { randomBytes } from "node:crypto";
import type { DatabaseSync, StatementSync } from "node:sqlite";

/** The table. */
export const EPOCHS_SCHEMA = `
  CREATE TABLE epochs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    started INTEGER NOT NULL,
    -- The only room of the epoch; NULL for all rooms. Before version 4, each room had an epoch.
    room INTEGER,
    -- Whether a whole room was dropped.
    dropped INTEGER NOT NULL DEFAULT 0
  ) STRICT;
`;

/** Maximum earlier epochs in memory. */
const MAX_EARLIER = 10_000;

type Row = { readonly name: string; readonly room: number | null };

/** The epochs of one file. */
export class SqliteEpochs {
  /** The present epoch's place in the order of epochs. */
  readonly id: number;
  readonly #name = randomBytes(9).toString("base64url");
  readonly #sql: ReturnType<typeof prepare>;
  readonly #earlier = new Map<number, Row>();
  /** The newest epoch in which a whole room was dropped; 0 if there is none. */
  #newestDrop: number;

  /** Begins an epoch. Call it within a transaction. */
  constructor(db: DatabaseSync, now: number) {
    this.#sql = prepare(db);
    this.id = Number(this.#sql.insert.run(this.#name, now).lastInsertRowid);
    this.#newestDrop = (this.#sql.newestDrop.get() as { id: number | null }).id ?? 0;
  }

  /** The name of an epoch as clients see it in the room with this row. */
  nameOf(room: number, id = this.id): string {
    if (id === this.id) return `${this.#name}-${room}`;
    let epoch = this.#earlier.get(id);
    if (epoch === undefined) {
      epoch = this.#sql.byId.get(id) as Row;
      if (this.#earlier.size >= MAX_EARLIER) this.#earlier.clear();
      this.#earlier.set(id, epoch);
    }
    return epoch.room === null ? `${epoch.name}-${room}` : epoch.name;
  }

  /** The place of an epoch of the room with this row, by the name that clients see. */
  find(name: string, room: number): number | undefined {
    const suffix = `-${room}`;
    const short = name.endsWith(suffix) ? name.slice(0, -suffix.length) : "";
    const row = this.#sql.byName.get(name, room, short) as { id: number } | undefined;
    return row?.id;
  }

  /** Records that a whole room is dropped. */
  noteDrop(): void {
    this.#sql.noteDrop.run(this.id);
    this.#newestDrop = this.id;
  }

  /** Whether no room was dropped since the epoch with this name, as clients see it, began. */
  isWholeSince(name: string): boolean {
    if (this.#newestDrop === 0) return true;
    const short = name.slice(0, Math.max(0, name.lastIndexOf("-")));
    const row = this.#sql.byName.get(name, null, short) as { id: number } | undefined;
    return row !== undefined && this.#newestDrop < row.id;
  }
}

function prepare(db: DatabaseSync) {
  const sql = (text: string): StatementSync => db.prepare(text);
  return {
    insert: sql("INSERT INTO epochs (name, started) VALUES (?, ?)"),
    byId: sql("SELECT name, room FROM epochs WHERE id = ?"),
    byName: sql(`
      SELECT id FROM epochs WHERE name = ? AND room = ?
      UNION ALL SELECT id FROM epochs WHERE name = ? AND room IS NULL
    `),
    newestDrop: sql("SELECT max(id) AS id FROM epochs WHERE dropped"),
    noteDrop: sql("UPDATE epochs SET dropped = 1 WHERE id = ?"),
  };
}
