/**
 * The delay of the event loop, measured by a timer that should fire at a known time.
 *
 * @module
 */

/** The time between two measurements, in milliseconds. */
const INTERVAL_MS = 100;

/** Measures the delay until it is closed. */
export class LoopDelay {
  readonly #clock: () => number;
  readonly #onDelay: (ms: number) => void;
  #timer: ReturnType<typeof setTimeout>;

  /**
   * @param clock the time in milliseconds
   * @param onDelay receives how late each timer fired, in milliseconds
   */
  constructor(clock: () => number, onDelay: (ms: number) => void) {
    this.#clock = clock;
    this.#onDelay = onDelay;
    this.#timer = this.#start();
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #start(): ReturnType<typeof setTimeout> {
    const due = this.#clock() + INTERVAL_MS;
    return setTimeout(() => {
      // The runtime may fire a timer a fraction of a millisecond early.
      this.#onDelay(Math.max(0, this.#clock() - due));
      this.#timer = this.#start();
    }, INTERVAL_MS);
  }
}
