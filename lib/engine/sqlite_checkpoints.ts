/**
 * The thread that copies the write-ahead log of a SQLite file into the file. It waits for the disk
 * instead of the server's own thread.
 *
 * @module
 */

import { DatabaseSync } from "node:sqlite";
import { parentPort, workerData } from "node:worker_threads";

/** A request to the thread. It answers every one. `CLOSE` ends its connection. */
export type Request = "PASSIVE" | "TRUNCATE" | "CLOSE";

/** The result: `busy` is 1 if a reader prevented a complete checkpoint; `error` if it failed. */
export type Answer = { readonly busy: number; readonly error?: string };

/** The data that the thread starts with. */
export interface ThreadData {
  readonly checkpointsOf: string;
}

/** Makes a checkpoint, or closes the connection. */
export function answer(db: DatabaseSync, request: Request): Answer {
  try {
    if (request !== "CLOSE") {
      return db.prepare(`PRAGMA wal_checkpoint(${request})`).get() as unknown as Answer;
    }
    db.close();
    return { busy: 0 };
  } catch (error) {
    return { busy: 1, error: (error as Error).message };
  }
}

const path = (workerData as ThreadData | null)?.checkpointsOf;
if (path !== undefined) {
  // Throws if the file has just been moved away, for which SQLite would make a new one.
  Deno.statSync(path);
  const db = new DatabaseSync(path);
  // Opens the files now: later, other files may be at these paths.
  db.prepare("SELECT count(*) FROM sqlite_schema").get();
  parentPort!.on("message", (request) => parentPort!.postMessage(answer(db, request)));
}
