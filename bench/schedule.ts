/**
 * The times at which the messages of a load with a fixed rate are due, whatever the server does.
 *
 * @module
 */

/** One message is due in each period. If the load is held up and sends late, the delay counts. */
export class Schedule {
  readonly #clock: () => number;
  readonly #begin: number;
  readonly #periodUs: number;
  /** How many messages were sent. */
  #count = 0;

  /** @param clock the time in microseconds */
  constructor(clock: () => number, perSecond: number) {
    this.#clock = clock;
    this.#begin = clock();
    this.#periodUs = 1e6 / perSecond;
  }

  /**
   * Sends due messages, but none after `end`.
   *
   * @returns the microseconds until the next message is due
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
