/**
 * The epochs of a database, and their names as clients see them, which differ from room to room.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { toMessageId } from "../places.ts";

/** Maximum rooms whose marks are remembered. */
const MAX_MARKS = 10_000;

/** The epochs up to the present one. */
export class Epochs {
  /** The present epoch's place in the order of epochs. */
  readonly id: number;
  readonly #names: ReadonlyMap<number, string>;
  readonly #ids: ReadonlyMap<string, number>;
  readonly #marks = new Map<string, string>();

  /** @param epochs the places and the names of all epochs */
  constructor(id: number, epochs: readonly (readonly [id: number, name: string])[]) {
    this.id = id;
    this.#names = new Map(epochs);
    this.#ids = new Map(epochs.map(([id, name]) => [name, id]));
  }

  /**
   * The name of an epoch as clients see it in a room.
   *
   * @throws {Error} if the epoch began after this one
   */
  nameOf(room: string, id = this.id): string {
    const name = this.#names.get(id);
    if (name === undefined) throw new Error("Another epoch has begun.");
    return `${name}-${this.#markOf(room)}`;
  }

  /** The place of a room's epoch, by the name that clients see; 0 if there is no such epoch. */
  find(room: string, name: string): number {
    const end = `-${this.#markOf(room)}`;
    return name.endsWith(end) ? this.#ids.get(name.slice(0, -end.length)) ?? 0 : 0;
  }

  /** The epoch and the `seq` in the id of a message of a room. */
  parseId(room: string, id: string): { readonly epoch: number; readonly seq: number } | undefined {
    const end = id.lastIndexOf("-");
    const name = id.slice(0, Math.max(0, end));
    const [epoch, seq] = [this.find(room, name), Number(id.slice(end + 1))];
    return epoch > 0 && Number.isSafeInteger(seq) && toMessageId(name, seq) === id
      ? { epoch, seq }
      : undefined;
  }

  /** The part of a name that differs from room to room: see the view `messages`. */
  #markOf(room: string): string {
    let mark = this.#marks.get(room);
    if (mark === undefined) {
      mark = createHash("sha256").update(room).digest("hex").slice(0, 16);
      if (this.#marks.size >= MAX_MARKS) this.#marks.clear();
      this.#marks.set(room, mark);
    }
    return mark;
  }
}
