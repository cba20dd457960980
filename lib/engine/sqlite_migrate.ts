/**
 * Updates SQLite files of versions 1 to 3: turns blocks and a journal, both JSON lists of events,
 * into rows. Each room had one epoch, which stays valid for its old rows.
 *
 * @module
 */

import type { DatabaseSync } from "node:sqlite";
import type { Logger } from "../logger.ts";
import { nameKey, parseName } from "../names.ts";
import { accountPerson } from "../people/accounts.ts";
import type { LogEvent } from "../protocol/events.ts";
import type { RoomSettings } from "./engine.ts";
import { EPOCHS_SCHEMA } from "./sqlite_epochs.ts";
import { INBOX_SCHEMA } from "./sqlite_inbox.ts";
import { LOG_SCHEMA } from "./sqlite_log.ts";
import { PEOPLE_SCHEMA } from "./sqlite_people.ts";

/** The tables of versions 1 to 3. */
const OLD_TABLES = ["rooms", "blocks", "inbox", "accounts", "sessions", "settings", "journal"];

/** The beginning of an account's person. */
const ACCOUNT = accountPerson("");

/** How often progress is logged, in milliseconds. */
const PROGRESS_MS = 1000;

/** The author of an event, the sender's name and ref, and the `seq` of each change of the event. */
type AuthorEntry = [person: string, key?: string | null, changes?: number[]];

/** The events of one room in one turn. */
type JournalEntry = [room: number, first: number, events: LogEvent[], authors: AuthorEntry[]];

interface OldRoom {
  readonly id: number;
  readonly name: string;
  readonly epoch: string;
}

/** Whether Hubbub wrote a file in version 1, 2 or 3. */
export function isOldFile(db: DatabaseSync, version: number): boolean {
  const { application_id } = db.prepare("PRAGMA application_id").get()!;
  const sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
  const tables = db.prepare(sql).all().map(({ name }) => name as string);
  return application_id === 0 && version >= 1 && version <= 3 && tables.includes("blocks") &&
    tables.every((name) => OLD_TABLES.includes(name));
}

/** Makes rows of a file of an earlier version. Call it within a transaction. */
export function migrate(db: DatabaseSync, version: number, logger?: Logger): void {
  db.exec(`
    DROP INDEX inbox_ref;
    DROP INDEX inbox_time;
    ALTER TABLE rooms RENAME TO old_rooms;
    ALTER TABLE inbox RENAME TO old_inbox;
    ${EPOCHS_SCHEMA} ${LOG_SCHEMA} ${INBOX_SCHEMA}
    ${version < 2 ? PEOPLE_SCHEMA : ""}
  `);
  const journal = version < 3 ? new Map<number, JournalEntry[]>() : readJournal(db);
  new Migration(db, logger).run(journal);
  db.exec(`
    INSERT INTO inbox SELECT old.room, person, seq, epochs.id, old.id, content, time,
      from_name, from_person, from_seq, to_name, to_person, to_seq,
      CASE WHEN seq = max(seq) OVER (
        PARTITION BY old.room, person, substr(ref, instr(ref, char(10)) + 1)
      ) THEN substr(ref, instr(ref, char(10)) + 1) END
    FROM old_inbox AS old JOIN epochs ON epochs.room = old.room;
    DROP TABLE old_inbox; DROP TABLE old_rooms; DROP TABLE blocks; DROP TABLE IF EXISTS journal;
  `);
  renameKeys(db);
}

/** Gives accounts and rooms the present keys of their names, unless the key is taken. */
function renameKeys(db: DatabaseSync): void {
  const keys = new Map<string, string>();
  for (const { key, username } of db.prepare("SELECT key, username FROM accounts").all()) {
    const now = nameKey(username as string);
    const { changes } = now === key
      ? { changes: 0 }
      : db.prepare("UPDATE OR IGNORE accounts SET key = ? WHERE key = ?").run(now, key!);
    if (changes === 0) continue;
    keys.set(key as string, now);
    db.prepare("UPDATE sessions SET account = ? WHERE account = ?").run(now, key!);
    for (
      const column of ["events.person", "inbox.person", "inbox.from_person", "inbox.to_person"]
    ) {
      const [table, name] = column.split(".");
      db.prepare(`UPDATE ${table} SET ${name} = ? WHERE ${name} = ?`)
        .run(accountPerson(now), accountPerson(key as string));
    }
  }
  const rename = (key: string) => keys.get(key) ?? key;
  for (const { room, owner, value } of db.prepare("SELECT * FROM settings").all()) {
    const settings = JSON.parse(value as string) as Pick<RoomSettings, "members" | "bans">;
    const members = settings.members.map(rename);
    const bans = settings.bans.map(({ key, person }) => {
      const account = person.startsWith(ACCOUNT) ? person.slice(ACCOUNT.length) : undefined;
      const now = account === undefined ? person : accountPerson(rename(account));
      return { key: nameKey(key), person: now };
    });
    const heir = owner === null ? null : rename(owner as string);
    const renamed = { ...settings, members, bans, ...(heir !== null && { owner: heir }) };
    db.prepare("UPDATE OR IGNORE settings SET room = ?, owner = ?, value = ? WHERE room = ?")
      .run(toRoomName(room as string), heir, JSON.stringify(renamed), room!);
  }
  for (const { id, name } of db.prepare("SELECT id, name FROM rooms").all()) {
    const now = toRoomName(name as string);
    if (now !== name) db.prepare("UPDATE OR IGNORE rooms SET name = ? WHERE id = ?").run(now, id!);
  }
}

/** The present form of a room's name. A name that breaks a newer rule stays as it is. */
function toRoomName(name: string): string {
  try {
    return parseName("room", name);
  } catch {
    return name;
  }
}

function readJournal(db: DatabaseSync): Map<number, JournalEntry[]> {
  const rows = db.prepare("SELECT entries FROM journal ORDER BY start").all();
  const entries = rows.flatMap(({ entries }) => JSON.parse(entries as string) as JournalEntry[]);
  return Map.groupBy(entries, ([room]) => room);
}

class Migration {
  readonly #sql: ReturnType<typeof prepare>;
  readonly #logger: Logger | undefined;
  readonly #total: number;
  #done = 0;
  #reported = performance.now();

  constructor(db: DatabaseSync, logger: Logger | undefined) {
    this.#sql = prepare(db);
    this.#logger = logger;
    this.#total = (this.#sql.total.get() as { total: number }).total;
  }

  run(journal: ReadonlyMap<number, JournalEntry[]>): void {
    for (const room of this.#sql.rooms.all() as unknown as OldRoom[]) {
      const epoch = Number(this.#sql.addEpoch.run(room.epoch, Date.now(), room.id).lastInsertRowid);
      this.#migrate(room, epoch, journal.get(room.id) ?? []);
    }
  }

  #migrate({ id, name }: OldRoom, epoch: number, journal: readonly JournalEntry[]): void {
    /** The `seq` of each change that a later one replaced. */
    const replaced = new Set<number>();
    const { first: oldest } = this.#sql.oldest.get(id) as { first: number | null };
    let lastSeq = oldest === null ? 0 : oldest - 1;
    let active = 0;
    const addAll = (first: number, events: LogEvent[], authors: AuthorEntry[]) => {
      for (const [i, event] of events.entries()) {
        // The journal may still contain events of a block.
        if (first + i <= lastSeq) continue;
        lastSeq = first + i;
        active = Date.parse(event.timestamp);
        this.#add(id, epoch, event, active, authors[i]!, replaced);
      }
    };
    for (let from = 0;;) {
      const block = this.#sql.block.get(id, from) as Record<string, string> | undefined;
      if (block === undefined) break;
      const first = Number(block.first);
      addAll(first, JSON.parse(block.events!), JSON.parse(block.authors!));
      // Frees its pages for the next rows, so that the file does not grow.
      this.#sql.dropBlock.run(id, first);
      from = first + 1;
    }
    for (const [, first, events, authors] of journal) addAll(first, events, authors);
    this.#sql.addRoom.run(id, name, active);
  }

  #add(
    room: number,
    epoch: number,
    event: LogEvent,
    time: number,
    [person, key, changes = []]: AuthorEntry,
    replaced: Set<number>,
  ): void {
    const { type, seq, username, content, id } = event;
    for (const change of changes.slice(0, -1)) replaced.add(change);
    const isMessage = type === "chat";
    this.#sql.addEvent.run(
      ...[room, seq, isMessage && !event.deleted ? 1 : 0, type, epoch, time, username, person],
      ...[replaced.delete(seq) ? "" : content, key?.slice(key.indexOf("\n") + 1) ?? null],
      ...[isMessage ? null : id, changes.at(-1) ?? null],
    );
    this.#done++;
    if (this.#done % 1000 === 0) this.#report();
  }

  #report(): void {
    const now = performance.now();
    if (now - this.#reported < PROGRESS_MS) return;
    this.#reported = now;
    const total = Math.max(this.#done, this.#total);
    this.#logger?.info("bringing the database up to date", { done: this.#done, total });
  }
}

function prepare(db: DatabaseSync) {
  return {
    rooms: db.prepare("SELECT id, name, epoch FROM old_rooms ORDER BY id"),
    total: db.prepare(`
      SELECT coalesce(sum(last), 0) AS total FROM (
        SELECT first - min(first) OVER (PARTITION BY room) + json_array_length(authors) AS last,
          first = max(first) OVER (PARTITION BY room) AS is_newest
        FROM blocks
      ) WHERE is_newest
    `),
    oldest: db.prepare("SELECT min(first) AS first FROM blocks WHERE room = ?"),
    block: db.prepare(`
      SELECT first, events, authors FROM blocks WHERE room = ? AND first >= ? ORDER BY first LIMIT 1
    `),
    dropBlock: db.prepare("DELETE FROM blocks WHERE room = ? AND first = ?"),
    addEpoch: db.prepare("INSERT INTO epochs (name, started, room) VALUES (?, ?, ?)"),
    addRoom: db.prepare("INSERT INTO rooms (id, name, active) VALUES (?, ?, ?)"),
    addEvent: db.prepare(`
      INSERT INTO events (
        room, seq, shown, type, epoch, time, username, person, content, ref, target, changed
      ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    `),
  };
}
