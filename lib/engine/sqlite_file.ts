/**
 * The SQLite file: opened if it is Hubbub's and no other server uses it, and watched.
 *
 * Programs that only read may have the file open too. A lock on a file beside it keeps a second
 * server out, and ends with the process however the process ends.
 *
 * @module
 */

import { DatabaseSync, type StatementSync } from "node:sqlite";
import type { Logger } from "../logger.ts";
import { EPOCHS_SCHEMA } from "./sqlite_epochs.ts";
import { findHolder } from "./sqlite_holder.ts";
import { INBOX_SCHEMA, INBOX_UPDATE } from "./sqlite_inbox.ts";
import { LOG_SCHEMA } from "./sqlite_log.ts";
import { isOldFile, migrate } from "./sqlite_migrate.ts";
import { PEOPLE_SCHEMA, PEOPLE_UPDATE } from "./sqlite_people.ts";

/** `PRAGMA application_id` of a file: "HUBB". */
const APPLICATION_ID = 0x48554242;

/**
 * `PRAGMA user_version` of a file. `sqlite_migrate.ts` reads versions 1 to 3; version 4 lacks the
 * ref in the inbox of a private message's receiver, version 5 the tokens of bots.
 */
const VERSION = 6;

/** From this version on, the free pages of a file contain no deleted text. */
const FIRST_CLEAN = 4;

/** How long a commit waits for another program that locks the file, in milliseconds. */
const BUSY_MS = 1000;

/** What SQLite says of a file that another program has locked. */
const LOCKED = /locked|busy/;

const REASONS: readonly (readonly [pattern: RegExp, sentence: string])[] = [
  [/is a directory/i, "It is a folder. Name a file in it."],
  [/no such file/i, "The folder of the file does not exist. Create it first."],
  [/not a database/, "The file is not a database. Choose another file."],
  [/malformed|corrupt/, "The file is damaged. Put a backup in its place, or choose another file."],
  [
    /readonly|read-only|unable to open|permission/i,
    "The file cannot be read and written. Let this user write to it and to its folder.",
  ],
  [/full/, "The disk is full. Make room on it."],
];

/** A file that cannot be used. The message is a sentence for the operator. */
class FileError extends Error {
  override readonly name = "FileError";
}

/** Writes as much as a few long messages: a smaller write may still fit on a full disk. */
const PROBE = `
  BEGIN IMMEDIATE;
  CREATE TABLE IF NOT EXISTS probe (bytes BLOB);
  INSERT INTO probe VALUES (zeroblob(65536));
  COMMIT;
  DROP TABLE probe;
`;

/** One file, open in this process. */
export class SqliteFile {
  readonly db: DatabaseSync;
  /** Absolute; `undefined` for a database in memory. */
  readonly path: string | undefined;
  readonly #lock: DatabaseSync | undefined;
  readonly #begin: StatementSync;
  readonly #commit: StatementSync;
  readonly #size: StatementSync;
  /** The file that was opened. */
  readonly #identity: string | undefined;

  /** @throws an `Error` whose message is a sentence for the person who starts the server */
  constructor(path: string, logger?: Logger) {
    try {
      if (path !== ":memory:") {
        // A missing file is created first, so that a link to it can be followed.
        Deno.openSync(path, { append: true, create: true }).close();
        this.path = Deno.realPathSync(path);
        inspect(this.path);
        this.#lock = lock(this.path);
      }
      this.db = openDatabase(this.path ?? path, logger);
      if (this.path !== undefined) this.#identity = identityOf(Deno.statSync(this.path));
    } catch (error) {
      this.#lock?.close();
      throw toSentence(error, this.path);
    }
    this.#begin = this.db.prepare("BEGIN IMMEDIATE");
    this.#commit = this.db.prepare("COMMIT");
    this.#size = this.db.prepare(`
      SELECT (page_count - freelist_count) * page_size AS size
      FROM pragma_page_count, pragma_freelist_count, pragma_page_size
    `);
  }

  /** The bytes of all pages in use. */
  get size(): number {
    return this.#size.get()!.size as number;
  }

  /** Runs a change in one transaction: stores all of it, or nothing. */
  transact<T>(change: () => T): T {
    try {
      this.#begin.run();
      const result = change();
      this.#commit.run();
      return result;
    } catch (error) {
      rollBack(this.db);
      throw error;
    }
  }

  /** The error, with what to do, if the file is no longer at its path. */
  async findLoss(): Promise<Error | undefined> {
    if (this.path === undefined) return undefined;
    try {
      if (identityOf(await Deno.stat(this.path)) === this.#identity) return undefined;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) return toSentence(error);
      return new Error("The database file is gone. Put it back.");
    }
    return new Error("Another file is in the place of the database. Restart the server to use it.");
  }

  /** @throws an `Error` if the file cannot be read or, with `withWrite`, cannot be written */
  probe(withWrite: boolean): void {
    try {
      this.db.prepare("SELECT count(*) FROM sqlite_schema").get();
      if (withWrite) this.db.exec(PROBE);
    } catch (error) {
      rollBack(this.db);
      throw toSentence(error, this.path);
    }
  }

  close(): void {
    this.db.close();
    this.#lock?.close();
  }
}

/** Ends a failed transaction. SQLite may have ended it already, which Deno 2.5 cannot tell. */
function rollBack(db: DatabaseSync): void {
  try {
    db.exec("ROLLBACK");
  } catch {
    // No transaction is open.
  }
}

function identityOf({ dev, ino }: Deno.FileInfo): string {
  return `${dev} ${ino}`;
}

/** Checks that a file may be opened, without changing it. */
function inspect(path: string): void {
  if (Deno.statSync(path).size === 0) return;
  const db = new DatabaseSync(path, { readOnly: true });
  try {
    readVersion(db);
  } finally {
    db.close();
  }
}

/**
 * The version of a file; 0 if there is nothing in it.
 *
 * @throws an `Error` if the file is another program's, or of a newer version
 */
function readVersion(db: DatabaseSync): number {
  const version = db.prepare("PRAGMA user_version").get()!.user_version as number;
  const { application_id } = db.prepare("PRAGMA application_id").get()!;
  const { tables } = db.prepare("SELECT count(*) AS tables FROM sqlite_schema").get()!;
  const isOurs = application_id === APPLICATION_ID && version > 0;
  const isEmpty = tables === 0 && version === 0 && application_id === 0;
  if (!isOurs && !isEmpty && !isOldFile(db, version)) {
    throw new FileError("The file belongs to another program. Choose another file.");
  }
  if (version > VERSION) {
    throw new FileError(
      "The file was written by a newer version of Hubbub. Use that version for it.",
    );
  }
  return version;
}

/** Whether Hubbub wrote a file, in version 4 or later. */
export function isHubbub(db: DatabaseSync): boolean {
  return db.prepare("PRAGMA application_id").get()!.application_id === APPLICATION_ID;
}

/** Locks the file beside a database with SQLite's own lock, which ends with the process. */
function lock(path: string): DatabaseSync {
  const db = new DatabaseSync(`${path}-lock`);
  try {
    db.exec("PRAGMA journal_mode = MEMORY; PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE");
    return db;
  } catch (error) {
    db.close();
    if (!LOCKED.test((error as Error).message)) throw error;
    throw new FileError(
      `Another Hubbub uses this file${holderOf(path)}. Stop it first, or choose another file; ` +
        "several servers can share only PostgreSQL or Redis.",
    );
  }
}

function openDatabase(path: string, logger: Logger | undefined): DatabaseSync {
  const db = new DatabaseSync(path);
  try {
    // A thread makes the checkpoints. `secure_delete` overwrites deleted content with zeros. The
    // page size applies to new files only. Pages are small because a turn changes a few bytes in
    // each of many pages.
    db.exec(`
      PRAGMA busy_timeout = ${BUSY_MS};
      PRAGMA page_size = 2048;
      PRAGMA journal_mode = WAL;
      PRAGMA synchronous = NORMAL;
      PRAGMA wal_autocheckpoint = 0;
      PRAGMA journal_size_limit = 0;
      PRAGMA secure_delete = ON;
      PRAGMA cache_size = -16384;
      BEGIN IMMEDIATE;
    `);
    const version = readVersion(db);
    if (version === 0) {
      db.exec(EPOCHS_SCHEMA + LOG_SCHEMA + INBOX_SCHEMA + PEOPLE_SCHEMA);
    } else if (!isHubbub(db)) {
      migrate(db, version, logger);
    }
    if (version > 0 && version < 5) db.exec(INBOX_UPDATE);
    // Version 1 had no accounts: its migration makes the present tables.
    if (version > 1 && version < 6) db.exec(PEOPLE_UPDATE);
    const isClean = version === 0 || version >= FIRST_CLEAN;
    db.exec(`
      PRAGMA application_id = ${APPLICATION_ID};
      PRAGMA user_version = ${isClean ? VERSION : version};
      COMMIT;
    `);
    // Until this has succeeded once, free pages may contain texts that an earlier version deleted.
    if (!isClean) db.exec(`VACUUM; PRAGMA user_version = ${VERSION}`);
    db.exec("PRAGMA wal_checkpoint(TRUNCATE)");
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

/** The program that has locked a file, for the end of a part of a sentence. */
function holderOf(path: string | undefined): string {
  const holder = path && findHolder(path);
  return holder ? `: ${holder}` : "";
}

/** The reason why a file cannot be used, as a sentence that says what to do. */
function toSentence(error: unknown, path?: string): FileError {
  if (error instanceof FileError) return error;
  const { message } = error as Error;
  if (LOCKED.test(message)) {
    const sentence = `Another program has locked the file${holderOf(path)}. Stop it.`;
    return new FileError(sentence, { cause: error });
  }
  const [, sentence = message] = REASONS.find(([pattern]) => pattern.test(message)) ?? [];
  return new FileError(sentence, { cause: error });
}
