/**
 * The present and recent users of each room, in SQLite, so that a private message finds its
 * receiver after a restart.
 *
 * A running server asks the bus. The rows are for its next start.
 *
 * @module
 */

import type { DatabaseSync, StatementSync } from "node:sqlite";
import { nameKey } from "../names.ts";
import type { Author } from "./engine.ts";
import type { Outcome } from "./group_commit.ts";
import { type Departure, REACHABLE_MS } from "./local_bus.ts";

/** The table, which files of earlier releases of version 4 lack. */
const VISITS_SCHEMA = `
  CREATE TABLE IF NOT EXISTS visits (
    room TEXT NOT NULL,
    -- The name, in the form in which names are compared.
    key TEXT NOT NULL,
    username TEXT NOT NULL,
    person TEXT NOT NULL,
    -- When the user left; NULL while it is present.
    ended INTEGER,
    PRIMARY KEY (room, key)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS visits_ended ON visits (ended);
`;

/** The newest visit with each name in each room. Call its writes within a transaction. */
export class SqliteVisits {
  readonly #sql: ReturnType<typeof prepare>;
  readonly #clock: () => number;

  /** Ends the visits from before the start of the server. Call it within a transaction. */
  constructor(db: DatabaseSync, clock: () => number) {
    db.exec(VISITS_SCHEMA);
    this.#sql = prepare(db);
    this.#clock = clock;
    // A user that was present when the server stopped counts as present until now.
    this.#sql.endAll.run(clock());
    this.dropOld();
  }

  /** The users that can still be found, in order of leaving. */
  departures(): Departure[] {
    return this.#sql.ended.all() as unknown as Departure[];
  }

  /** Records that a user is present. */
  begin(room: string, { username, person }: Author): Outcome<void> {
    this.#sql.begin.run(room, nameKey(username), username, person);
    return { value: undefined };
  }

  /** Records that a user has left. */
  end(room: string, { username, person }: Author): Outcome<void> {
    this.#sql.end.run(this.#clock(), room, nameKey(username), person);
    return { value: undefined };
  }

  /** Drops the visits that ended too long ago. */
  dropOld(): Outcome<void> {
    this.#sql.dropOld.run(this.#clock() - REACHABLE_MS);
    return { value: undefined };
  }
}

function prepare(db: DatabaseSync) {
  const sql = (text: string): StatementSync => db.prepare(text);
  return {
    endAll: sql("UPDATE visits SET ended = ? WHERE ended IS NULL"),
    ended: sql("SELECT room, username, person, ended FROM visits ORDER BY ended"),
    begin: sql(`
      INSERT INTO visits (room, key, username, person) VALUES (?, ?, ?, ?)
      ON CONFLICT DO UPDATE SET username = excluded.username, person = excluded.person, ended = NULL
    `),
    end: sql("UPDATE visits SET ended = ? WHERE room = ? AND key = ? AND person = ?"),
    dropOld: sql("DELETE FROM visits WHERE ended < ?"),
  };
}
