/**
 * Copies the database into a new file, even while the server runs:
 *
 *     deno task backup COPY
 *
 * @module
 */

import { dirname, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { readDatabase } from "../config.ts";
import { fail } from "../process.ts";
import { isHubbub } from "./sqlite_file.ts";

/** How long a backup waits for a lock, in milliseconds. */
const LOCK_WAIT_MS = 5000;

/** Why there is no file to copy, and what to do instead. Names no URL: it may hold a password. */
const NO_FILE = {
  memory: "DATABASE_URL is memory:, which keeps nothing to back up.",
  postgres: "DATABASE_URL is PostgreSQL. Back it up with pg_dump: docs/deploy.md says how.",
  redis: "DATABASE_URL is Redis. Back it up with redis-cli --rdb: docs/deploy.md says how.",
};

/**
 * Copies the state of a database at one moment into a new file, and checks the copy.
 *
 * @param path the file of the database
 * @param copy the new file, which appears when it is complete
 * @returns a sentence with the content of the copy
 * @throws an `Error` if there is no such database, or the copy exists or cannot be made
 */
function backUp(path: string, copy: string): string {
  if (!exists(path)) throw new Error(`There is no database at ${path}.`);
  if (exists(copy)) throw new Error(`${copy} exists already. Name a new file.`);
  let part: string | undefined;
  try {
    part = Deno.makeTempFileSync({ dir: dirname(copy), suffix: ".part" });
    const target = part;
    use(path, (db) => db.prepare("VACUUM INTO ?").run(target));
    const content = use(part, check);
    using file = Deno.openSync(part, { read: true, write: true });
    file.syncSync();
    Deno.renameSync(part, copy);
    return `${copy} holds ${content}.`;
  } catch (error) {
    if (part !== undefined) Deno.removeSync(part);
    throw new Error(`Cannot copy ${path} to ${copy}: ${(error as Error).message}`);
  }
}

/** Opens a database until `act` has returned. */
function use<T>(path: string, act: (db: DatabaseSync) => T): T {
  // Not read-only: SQLite would then leave a -wal and a -shm beside the file.
  const db = new DatabaseSync(path);
  try {
    db.exec(`PRAGMA busy_timeout = ${LOCK_WAIT_MS}`);
    if (isHubbub(db)) return act(db);
    throw new Error(
      "The file is not a database of this version. Start the server on it once, then back it up.",
    );
  } finally {
    db.close();
  }
}

/** The number of messages and rooms in a copy. @throws an `Error` if the copy is damaged */
function check(db: DatabaseSync): string {
  const { integrity_check } = db.prepare("PRAGMA integrity_check(1)").get()!;
  if (integrity_check !== "ok") {
    throw new Error(`The copy is damaged: ${integrity_check}. Check the disk.`);
  }
  const { rooms, messages } = db.prepare(`
    SELECT count(DISTINCT room) AS rooms, count(*) AS messages FROM messages WHERE NOT deleted
  `).get()!;
  return `${messages} message${messages === 1 ? "" : "s"} in ${rooms} room${
    rooms === 1 ? "" : "s"
  }`;
}

function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

if (import.meta.main) {
  try {
    const [copy, ...rest] = Deno.args;
    if (!copy || copy.startsWith("-") || rest.length > 0) {
      throw new Error("Name one file: deno task backup COPY");
    }
    const database = readDatabase(Deno.env.toObject());
    if (database.kind !== "sqlite") throw new Error(NO_FILE[database.kind]);
    // A task runs in the project's folder, wherever it is called from.
    const target = resolve(Deno.env.get("INIT_CWD") ?? ".", copy);
    // deno-lint-ignore no-console
    console.log(backUp(resolve(database.path), target));
  } catch (error) {
    fail((error as Error).message);
  }
}
