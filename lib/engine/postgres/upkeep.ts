/**
 * Drops excess and old rows from a database, in the background and in short steps.
 *
 * @module
 */

import { INBOX_MS } from "../changes.ts";
import { REACHABLE_MS } from "../local_bus.ts";
import type { BackendOptions } from "../remote/backend.ts";
import type { Connection } from "./connection.ts";
import { call } from "./sql.ts";

/** The time between two searches for old rows, in milliseconds. */
const CLEAN_MS = REACHABLE_MS;

/** What {@linkcode Upkeep} needs. */
export interface UpkeepOptions extends Pick<BackendOptions, "keep"> {
  readonly connection: Connection;
  readonly now: () => number | null;
}

/** Maximum rows that one statement checks: reads wait for it. */
const STEP = 1000;

/** Drops rows that are no longer kept. */
export class Upkeep {
  readonly #options: UpkeepOptions;
  /** The names of the tasks that are running. */
  readonly #running = new Set<string>();
  #cleanedAt = -Infinity;

  constructor(options: UpkeepOptions) {
    this.#options = options;
  }

  /** Drops the oldest events of a room. */
  trim(room: string): void {
    this.#run(`room ${room}`, () => call("trim_v1", room, this.#options.keep, STEP));
  }

  /** Drops old rows, if the last time was long ago. Call it often. */
  clean(): void {
    if (performance.now() - this.#cleanedAt < CLEAN_MS) return;
    this.#cleanedAt = performance.now();
    const { now } = this.#options;
    this.#run("inbox", (from) => call("clean_inbox_v1", now(), INBOX_MS, from, STEP));
    this.#run("visits", () => call("clean_visits_v1", now(), REACHABLE_MS, STEP));
    this.#run("rooms", (from) => call("clean_rooms_v1", from, STEP));
  }

  /** Sends statements, each from where the last one stopped, until one has reached the end. */
  async #run(what: string, next: (from: string) => string): Promise<void> {
    if (this.#running.has(what)) return;
    this.#running.add(what);
    try {
      let from: string | null = "0";
      while (from !== null) from = await this.#options.connection.query(next(from));
    } catch {
      // After a failure, a later call or the next link drops the rest.
    } finally {
      this.#running.delete(what);
    }
  }
}
