/**
 * When the messages of a load at a fixed rate are due: evenly spread, whatever the server does.
 *
 * @module
 */

/** One message is due in each period. A load that is held up sends late, and that counts. */
export class Schedule {
  readonly #clock: () => number;
  readonly #begin: number;
  readonly #periodUs: number;
  /** How many have been sent. */
  #count = 0;

  /** @param clock the time in microseconds */
  constructor(clock: () => number, perSecond: number) {
    this.#clock = clock;
    this.#begin = clock();
    this.#periodUs = 1e6 / perSecond;
  }

  /**
   * Sends what is due, but begins nothing after `end`.
   *
   * @returns how long nothing more will be due, in microseconds
   */
  sendDue(end: number, send: (due: number, lateUs: number) => void): number {
    for (;; this.#count++) {
      const due = this.#begin + Math.floor(this.#count * this.#periodUs);
      const now = this.#clock();
      if (due > now || now >= end) return Math.max(0, due - now);
      send(due, now - due);
    }
  }
}
