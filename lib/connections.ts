/**
 * Every open WebSocket, counted, so that there are never too many and all can be closed at the end.
 *
 * @module
 */

import type { CloseReason } from "./protocol.ts";

/** Something open that can be closed. */
export interface Closable {
  close(code: number, reason: string): void;
}

/** The open connections of this server. */
export class Connections {
  readonly #open = new Set<Closable>();
  readonly #most: number;
  #isClosing = false;
  #onEmpty: (() => void) | undefined;

  /** @param most how many may be open at a time; `Infinity` for no limit */
  constructor(most: number) {
    this.#most = most;
  }

  /** How many are open. */
  get size(): number {
    return this.#open.size;
  }

  /** Whether no more may be opened. */
  get isFull(): boolean {
    return this.#isClosing || this.#open.size >= this.#most;
  }

  /** Counts a connection as open. */
  add(connection: Closable): void {
    this.#open.add(connection);
  }

  /** Counts a connection as closed. Doing it twice does nothing. */
  delete(connection: Closable): void {
    this.#open.delete(connection);
    if (this.#open.size === 0) this.#onEmpty?.();
  }

  /**
   * Asks every connection to close, and lets no more be opened.
   * Resolves when all have closed: never, if one does not react.
   */
  closeAll({ code, reason }: CloseReason): Promise<void> {
    this.#isClosing = true;
    for (const connection of this.#open) connection.close(code, reason);
    if (this.#open.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#onEmpty = resolve);
  }
}
