/**
 * Drops old private messages from Redis in the background, a few at a time.
 *
 * @module
 */

import { INBOX_MS } from "../changes.ts";
import type { Command, Connections, Reply } from "./connection.ts";
import { inboxKey, roomKey, ROOMS_KEY } from "./keys.ts";

/** The time between two searches for old messages, in milliseconds. */
const CLEAN_MS = 60 * 60 * 1000;

/** About how many rooms, or people of a room, one step scans. */
const CHUNK = 64;

/** Maximum messages that one script drops. */
const MAX_DROPPED = 16;

/** What {@linkcode Upkeep} needs. */
export interface UpkeepOptions {
  readonly connections: Connections;
  /** The time that scripts use instead of the server's; empty for the server's. */
  readonly clock: () => string;
}

/** Drops private messages that are no longer kept. */
export class Upkeep {
  readonly #options: UpkeepOptions;
  #isBusy = false;
  #cleanedAt = -Infinity;

  constructor(options: UpkeepOptions) {
    this.#options = options;
  }

  /** Drops old messages, if the last time was long ago. Call it often. */
  clean(): void {
    if (this.#isBusy || performance.now() - this.#cleanedAt < CLEAN_MS) return;
    this.#cleanedAt = performance.now();
    this.#isBusy = true;
    // After a failure, the next time or the next link drops the rest.
    this.#dropAll().catch(() => {}).finally(() => this.#isBusy = false);
  }

  async #dropAll(): Promise<void> {
    for await (const rooms of this.#scan("SSCAN", ROOMS_KEY)) {
      const sizes = await this.#ask(rooms.map((room) => ["HLEN", roomKey(room, "inboxes")]));
      for (const [i, room] of rooms.entries()) if (sizes[i] > 0) await this.#dropIn(room);
    }
  }

  async #dropIn(room: string): Promise<void> {
    for await (const found of this.#scan("HSCAN", roomKey(room, "inboxes"))) {
      let people = found.filter((_, i) => i % 2 === 0);
      while (people.length > 0) {
        const more = await this.#ask(people.map((person) => this.#toDrop(room, person)));
        people = people.filter((_, i) => more[i] === 1);
      }
    }
  }

  #toDrop(room: string, person: string): Command {
    const { connections, clock } = this.#options;
    const keys = [
      inboxKey(room, person),
      roomKey(room, "privates"),
      roomKey(room, "private_refs"),
    ];
    return connections.script("dropOld", keys, [person, clock(), INBOX_MS, MAX_DROPPED]);
  }

  async *#scan(command: "SSCAN" | "HSCAN", key: string): AsyncGenerator<string[]> {
    let cursor = "0";
    do {
      const [[next, found]] = await this.#ask([[command, key, cursor, "COUNT", CHUNK]]);
      if (found.length > 0) yield found;
      cursor = next;
    } while (cursor !== "0");
  }

  async #ask(commands: Command[]): Promise<Reply[]> {
    const replies = await this.#options.connections.run(commands);
    const failure = replies.find((reply) => reply instanceof Error);
    if (failure !== undefined) throw failure;
    return replies;
  }
}
