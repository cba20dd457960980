/**
 * The presences that this instance should have. The server's may differ, since calls fail, and an
 * expired lease ends all of them. Each new link compares the two, and makes the server's equal.
 *
 * @module
 */

import { ChatError } from "../../errors.ts";
import type { Presence } from "../engine.ts";
import type { TurnQueue } from "./turn_queue.ts";

/** What {@linkcode Attendance} needs. */
export interface AttendanceOptions {
  readonly turns: Pick<TurnQueue, "put">;
  /** Called for a connection that cannot enter again: another person has the name. */
  readonly onDisplaced: (room: string, connection: string) => void;
}

/** The presences of this instance. */
export class Attendance {
  readonly #options: AttendanceOptions;
  /** By room and connection. */
  readonly #rooms = new Map<string, Map<string, Presence>>();
  /** Connections that are entering for the first time. */
  readonly #entering = new Set<string>();
  #isEven = true;

  constructor(options: AttendanceOptions) {
    this.#options = options;
  }

  /** Whether the server has the same presences, as far as this instance knows. */
  get isEven(): boolean {
    return this.#isEven;
  }

  /**
   * Makes a connection present.
   *
   * @returns the position of its `entered` event
   * @throws {ChatError} `name_in_use` or `unavailable`
   */
  async enter(room: string, presence: Presence): Promise<number> {
    const { connection } = presence;
    this.#add(room, presence);
    this.#entering.add(connection);
    try {
      return await this.#options.turns.put({ type: "enter", room, presence }) as number;
    } catch (error) {
      this.#remove(room, connection);
      // The server may have made it present all the same.
      this.#isEven &&= (error as ChatError).code !== "unavailable";
      throw error;
    } finally {
      this.#entering.delete(connection);
    }
  }

  /**
   * Handles an `enter` that took effect: ends the presence if its connection has left meanwhile.
   */
  confirm(room: string, connection: string): void {
    if (!this.#rooms.get(room)?.has(connection)) this.#leave(room, connection);
  }

  /** Ends the presence of a connection, and retries until that succeeds. A repeat does nothing. */
  leave(room: string, connection: string): void {
    if (this.#remove(room, connection)) this.#leave(room, connection);
  }

  /** Compares the server's presences of this instance, and makes them equal. */
  reconcile(present: readonly { readonly room: string; readonly connection: string }[]): void {
    this.#isEven = true;
    const known = new Set<string>();
    for (const { room, connection } of present) {
      known.add(connection);
      if (!this.#rooms.get(room)?.has(connection)) this.#leave(room, connection);
    }
    for (const [room, presences] of this.#rooms) {
      for (const presence of presences.values()) {
        const { connection } = presence;
        if (!known.has(connection) && !this.#entering.has(connection)) {
          this.#reenter(room, presence);
        }
      }
    }
  }

  #leave(room: string, connection: string): void {
    this.#options.turns.put({ type: "leave", room, connection }).catch(() => this.#isEven = false);
  }

  #reenter(room: string, presence: Presence): void {
    this.#options.turns.put({ type: "enter", room, presence }).catch((error: ChatError) => {
      if (error.code === "unavailable") this.#isEven = false;
      else if (this.#remove(room, presence.connection)) {
        this.#options.onDisplaced(room, presence.connection);
      }
    });
  }

  #add(room: string, presence: Presence): void {
    const presences = this.#rooms.get(room) ?? new Map<string, Presence>();
    this.#rooms.set(room, presences.set(presence.connection, presence));
  }

  /** Removes a connection. Returns whether it was there. */
  #remove(room: string, connection: string): boolean {
    const presences = this.#rooms.get(room);
    if (!presences?.delete(connection)) return false;
    if (presences.size === 0) this.#rooms.delete(room);
    return true;
  }
}
