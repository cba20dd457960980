/**
 * What is dropped from a database when there is too much of it, or when it is too old: beside the
 * writes, and one thing at a time.
 *
 * @module
 */

import { INBOX_MS } from "../changes.ts";
import { REACHABLE_MS } from "../local_bus.ts";
import type { BackendOptions } from "../remote/backend.ts";
import type { Connection } from "./connection.ts";
import { call } from "./sql.ts";

/** How often old rows are dropped, in milliseconds. */
const CLEAN_MS = REACHABLE_MS;

/** What {@linkcode Upkeep} needs. */
export interface UpkeepOptions extends Pick<BackendOptions, "keep"> {
  readonly connection: Connection;
  readonly now: () => number | null;
}

/** Drops what is no longer kept. */
export class Upkeep {
  readonly #options: UpkeepOptions;
  /** Statements to send, by what they drop. */
  readonly #waiting = new Map<string, string>();
  #isBusy = false;
  #cleanedAt = -Infinity;

  constructor(options: UpkeepOptions) {
    this.#options = options;
  }

  /** Drops the oldest events of a room. */
  trim(room: string): void {
    this.#send(`room ${room}`, call("trim_v1", room, this.#options.keep));
  }

  /** Drops what is too old, if the last time was long ago. Call it now and then. */
  clean(): void {
    if (performance.now() - this.#cleanedAt < CLEAN_MS) return;
    this.#cleanedAt = performance.now();
    this.#send("old", call("clean_v1", this.#options.now(), INBOX_MS, REACHABLE_MS));
  }

  #send(what: string, sql: string): void {
    this.#waiting.set(what, sql);
    if (!this.#isBusy) this.#sendAll();
  }

  async #sendAll(): Promise<void> {
    this.#isBusy = true;
    try {
      // More may be added during this loop.
      for (const [what, sql] of this.#waiting) {
        this.#waiting.delete(what);
        await this.#options.connection.query(sql);
      }
    } catch {
      // What stays is dropped after a later write, or over the next link.
    } finally {
      this.#isBusy = false;
    }
  }
}
