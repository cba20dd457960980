/**
 * The thread that copies the write-ahead log of a SQLite file into the file. It waits for the disk,
 * so that the server's own thread need not.
 *
 * @module
 */

import { DatabaseSync } from "node:sqlite";
import { parentPort, workerData } from "node:worker_threads";

/** A request to the thread, which answers each. `CLOSE` ends its connection. */
export type Request = "PASSIVE" | "TRUNCATE" | "CLOSE";

/** Whether a reader kept the checkpoint from its end; or why there was none. */
export type Answer = { readonly busy: number; readonly error?: string };

let db: DatabaseSync | undefined;

parentPort?.on("message", (request: Request) => parentPort!.postMessage(answer(request)));

function answer(request: Request): Answer {
  try {
    if (request !== "CLOSE") {
      db ??= new DatabaseSync(workerData as string);
      return db.prepare(`PRAGMA wal_checkpoint(${request})`).get() as unknown as Answer;
    }
    db?.close();
    return { busy: 0 };
  } catch (error) {
    return { busy: 1, error: (error as Error).message };
  }
}
