/**
 * The end of a turn of the event loop: when what came in during the turn is stored, and then told.
 *
 * @module
 */

/**
 * Makes a way to put something off to the end of the present turn.
 *
 * What is put off by something that was put off itself (the delivery, by the commit) is done in the
 * same turn, when those have been told who waited for it; and what that puts off, in the next turn.
 * So a message needs one turn of the event loop and not two, and its answer is delivered with it.
 *
 * @param atEnd calls back when the present turn ends
 */
export function createDefer(
  atEnd: (callback: () => void) => void,
): (callback: () => void) => void {
  let putOff: (() => void)[] | undefined;
  const run = (callback: () => void) => {
    const next: (() => void)[] = putOff = [];
    try {
      callback();
    } finally {
      putOff = undefined;
      // Behind the reactions to what was resolved just now.
      for (const one of next) queueMicrotask(one);
    }
  };
  return (callback) => {
    if (putOff === undefined) atEnd(() => run(callback));
    else putOff.push(callback);
  };
}

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
