/**
 * The events of one room, as an instance hears them from an engine on another machine: each once, in
 * order, without a hole, however late, often or seldom they arrive.
 *
 * An event that is heard and an event that is read follow the same rule, so the two need no lock
 * between them. What was missed is read: when a later event shows a hole, when a subscription is live
 * again, when a receipt or a comparison of positions is ahead of what was heard.
 *
 * @module
 */

import type { After } from "../time.ts";

/** How long a receipt may be ahead of what was heard before the rest is read, in milliseconds. */
const PATIENCE_MS = 50;

/** How long to wait after a read that failed, in milliseconds. */
const RETRY_MS = 200;

/** The place of a room's numbering: `seq` counts under `epoch` only. */
export interface Position {
  readonly epoch: string;
  /** The newest number; 0 if there is none yet. */
  readonly seq: number;
}

/** A stretch of a room's events, and where the room stood when it was made. */
export interface Stretch<E> extends Position {
  /** The number of the first event. */
  readonly first: number;
  readonly events: readonly E[];
}

/** What a {@linkcode Feed} needs. */
export interface FeedOptions<E> {
  /** Where the room stands; the feed tells everything after it. */
  readonly position: Position;
  /**
   * Reads the events after a number, as many as fit into a page. Its first event comes later than
   * the next number if the engine no longer has what is between.
   */
  readonly read: (after: number) => Promise<Stretch<E>>;
  readonly onEvent: (event: E) => void;
  /**
   * The numbering is another one, or events are gone that were never heard: the room is to be opened
   * anew. The feed has ended.
   */
  readonly onLost: () => void;
  readonly after: After;
}

/** The events of one room, in order. */
export class Feed<E> {
  readonly #options: FeedOptions<E>;
  readonly #epoch: string;
  #seq: number;
  #isReading = false;
  /** Whether something happened during a read that asks for another. */
  #isAgain = false;
  #isClosed = false;

  constructor(options: FeedOptions<E>) {
    this.#options = options;
    this.#epoch = options.position.epoch;
    this.#seq = options.position.seq;
  }

  /** The number of the newest event that was told. */
  get seq(): number {
    return this.#seq;
  }

  /** Takes events that were heard: tells those that come next, and reads what is missing before. */
  hear(stretch: Stretch<E>): void {
    if (!this.#take(stretch)) this.catchUp();
  }

  /** Reads what is missing, if a receipt of an own write stays ahead of what is heard. */
  expect({ epoch, seq }: Position): void {
    if (epoch === this.#epoch && seq <= this.#seq) return;
    this.#options.after(PATIENCE_MS, () => {
      if (epoch !== this.#epoch || seq > this.#seq) this.catchUp();
    });
  }

  /**
   * Reads what is missing, if the room is ahead of what was heard.
   *
   * @param asked the feed's `seq` when the room was asked where it stands: a room that stood behind
   *   that has lost its tail
   */
  compare({ epoch, seq }: Position, asked: number): void {
    if (this.#isClosed) return;
    if (epoch !== this.#epoch || seq < asked) this.#lose();
    else if (seq > this.#seq) this.catchUp();
  }

  /** Reads what may have been missed, since the subscription is live again. */
  catchUp(): void {
    this.#isAgain = true;
    if (!this.#isReading && !this.#isClosed) this.#readAll();
  }

  /** Ends the feed. A repeat does nothing. */
  close(): void {
    this.#isClosed = true;
  }

  async #readAll(): Promise<void> {
    this.#isReading = true;
    while (this.#isAgain && !this.#isClosed) {
      this.#isAgain = false;
      const asked = this.#seq;
      let stretch: Stretch<E>;
      try {
        stretch = await this.#options.read(asked);
      } catch {
        this.#options.after(RETRY_MS, () => this.catchUp());
        break;
      }
      if (this.#isClosed) break;
      // The engine no longer has what comes next, or has less than it had.
      if (!this.#take(stretch) || stretch.seq < asked) this.#lose();
      else if (stretch.seq > this.#seq) this.#isAgain = true;
    }
    this.#isReading = false;
  }

  /**
   * Tells the events of a stretch that come next.
   *
   * @returns whether nothing is missing before them
   */
  #take({ epoch, first, events }: Stretch<E>): boolean {
    if (this.#isClosed) return true;
    if (epoch !== this.#epoch) {
      this.#lose();
      return true;
    }
    if (first > this.#seq + 1) return events.length === 0;
    for (const event of events.slice(this.#seq + 1 - first)) {
      this.#seq++;
      this.#options.onEvent(event);
      if (this.#isClosed) return true;
    }
    return true;
  }

  #lose(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#options.onLost();
  }
}
