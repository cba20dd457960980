/**
 * One timer for many who wait: a timer for each would cost more than most of what they wait for.
 *
 * @module
 */

/** What {@linkcode Alarm} needs. */
export interface AlarmOptions {
  /** The time in milliseconds. */
  readonly clock: () => number;
  /** Calls back once, after so many milliseconds. */
  readonly after: (ms: number, callback: () => void) => void;
}

/** Rings when the earliest of those who wait is due. */
export class Alarm {
  readonly #options: AlarmOptions;
  readonly #ring: () => void;
  /** When the timer goes off, in milliseconds. */
  #due = Infinity;

  /** @param ring sees who is due, and calls {@linkcode Alarm.set} for the rest; it may ring early */
  constructor(options: AlarmOptions, ring: () => void) {
    this.#options = options;
    this.#ring = ring;
  }

  /** Sees to it that it rings when somebody is due. */
  set(due: number): void {
    if (due >= this.#due) return;
    this.#due = due;
    this.#options.after(Math.max(0, due - this.#options.clock()), () => {
      if (this.#due === due) this.#due = Infinity;
      this.#ring();
    });
  }
}
