/**
 * Time: the two phases at the end of a turn, one timer for many waiters, and ids that are unique
 * for ever.
 *
 * @module
 */

import { randomBytes } from "node:crypto";

/**
 * A turn is full after this many connections. The runtime reads at most 128 sockets in a round of
 * the event loop (the cooperative budget of Tokio), some of them for other things than messages,
 * and none while a callback of `setImmediate` waits.
 */
const FULL_TURN = 100;

/** Maximum rounds that a turn reads on: about 2,000 sockets in all. */
const MAX_READS = 16;

/**
 * The end of a turn of the event loop, in two phases.
 *
 * First the writes queued during the turn are committed. Then, after the callbacks of every promise
 * that the commit settled, the pending events are delivered. So one turn is one transaction and one
 * frame per member, and an ack leaves in the same frame as its message.
 *
 * A full turn reads on before it ends. Otherwise the runtime reads the sockets that were just
 * answered first, and under full load other sockets are never read.
 *
 * It relies on Node's rule that microtasks run to their end between two `setImmediate` callbacks.
 */
export class Turn {
  readonly #atEnd: (callback: () => void) => void;
  readonly #later: (callback: () => void) => void;
  #commits: (() => void)[] = [];
  #deliveries: (() => void)[] = [];
  /** Whether a commit phase is scheduled and has not run. */
  #isCommitAhead = false;
  /** How many delivery phases are scheduled and have not run. */
  #deliveriesAhead = 0;
  /** The connections heard since the turn began or last read on. */
  #heard = new Set<unknown>();

  /**
   * @param atEnd calls back at the end of this turn, in order of the calls, as `setImmediate` does
   * @param later calls back once the runtime has read more sockets, as `setTimeout` does
   */
  constructor(atEnd: (callback: () => void) => void, later = atEnd) {
    this.#atEnd = atEnd;
    this.#later = later;
  }

  /**
   * Notes that a connection was heard.
   *
   * @param connection identifies the connection; a request over HTTP counts as one
   */
  hear(connection: unknown): void {
    this.#heard.add(connection);
    if (this.#deliveriesAhead === 0) this.#schedule();
  }

  /** Runs a callback in the next commit phase. */
  commit(callback: () => void): void {
    this.#commits.push(callback);
    if (!this.#isCommitAhead) this.#schedule();
  }

  /** Runs a callback in the next delivery phase. */
  deliver(callback: () => void): void {
    this.#deliveries.push(callback);
    if (this.#deliveriesAhead === 0) this.#schedule();
  }

  #schedule(): void {
    this.#isCommitAhead = true;
    this.#deliveriesAhead++;
    this.#endTurn(MAX_READS);
  }

  /** Runs both phases at the end of the turn, or first reads on, at most `reads` times. */
  #endTurn(reads: number): void {
    // Both callbacks are always scheduled, so that the delivery follows the commit's promises.
    let readsOn = false;
    this.#atEnd(() => {
      readsOn = this.#heard.size >= FULL_TURN && reads > 0;
      this.#heard = new Set();
      if (!readsOn) this.#commitAll();
    });
    this.#atEnd(() => {
      if (readsOn) this.#later(() => this.#endTurn(reads - 1));
      else this.#deliverAll();
    });
  }

  #commitAll(): void {
    this.#isCommitAhead = false;
    const commits = this.#commits;
    this.#commits = [];
    runAll(commits);
  }

  #deliverAll(): void {
    this.#deliveriesAhead--;
    const deliveries = this.#deliveries;
    this.#deliveries = [];
    runAll(deliveries);
  }
}

/** Runs every callback. If some throw, the rest still run; then the first error is thrown. */
function runAll(callbacks: readonly (() => void)[]): void {
  for (const [i, callback] of callbacks.entries()) {
    try {
      callback();
    } catch (error) {
      runAll(callbacks.slice(i + 1));
      throw error;
    }
  }
}

/** Calls back once, after this many milliseconds. */
export type After = (ms: number, callback: () => void) => void;

/** What an {@linkcode Alarm} needs. */
export interface AlarmOptions {
  /** The time in milliseconds. It never goes backwards. */
  readonly clock: () => number;
  readonly after: After;
}

/** One timer for many waiters, since a timer for each is expensive. */
export class Alarm {
  readonly #options: AlarmOptions;
  readonly #ring: () => void;
  /** When the timer fires, in milliseconds. */
  #due = Infinity;

  /** @param ring handles what is due and calls {@linkcode Alarm.set} for the rest; it may be called early */
  constructor(options: AlarmOptions, ring: () => void) {
    this.#options = options;
    this.#ring = ring;
  }

  /** Rings at this time or earlier. */
  set(due: number): void {
    if (due >= this.#due) return;
    this.#due = due;
    this.#options.after(Math.max(0, due - this.#options.clock()), () => {
      if (this.#due === due) this.#due = Infinity;
      this.#ring();
    });
  }
}

/** Timers that can all be cancelled at once, so that none outlives the server. */
export class Timers {
  readonly #running = new Set<ReturnType<typeof setTimeout>>();

  /** Calls back once, after this many milliseconds, unless it is cancelled first. */
  readonly after: After = (ms, callback) => {
    const timer = setTimeout(() => {
      this.#running.delete(timer);
      callback();
    }, ms);
    this.#running.add(timer);
  };

  /** Cancels every timer that is running. */
  cancelAll(): void {
    for (const timer of this.#running) clearTimeout(timer);
    this.#running.clear();
  }
}

/** Waits for a promise, but no longer than `ms` milliseconds. */
export async function within(ms: number, promise: Promise<unknown>): Promise<void> {
  const { promise: timeout, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  try {
    await Promise.race([promise, timeout]);
  } finally {
    clearTimeout(timer);
  }
}

/** Makes ids that are unique for ever: 96 random bits of this process, and a count. */
export function createIds(): () => string {
  const process = randomBytes(12).toString("base64url");
  let count = 0;
  return () => `${process}-${(++count).toString(36)}`;
}
