/**
 * Server-wide events from the server: registrations and ended tokens.
 *
 * They are numbered but not kept. If some are missing, subscribers receive `missed`, and check
 * themselves which members must go.
 *
 * @module
 */

import type { EngineListener } from "../engine.ts";
import type { NewsItem } from "./backend.ts";

/** Server-wide events, and their subscribers. */
export class ServerNews {
  /** Subscribers, and the number after which each receives events. */
  readonly #subscribers = new Map<EngineListener, number>();
  /** The number of the newest event that was passed on. */
  #number = 0;
  /** The number that the server had reached at the last comparison. */
  #expected = 0;

  /** The number of the newest event that was passed on. */
  get number(): number {
    return this.#number;
  }

  /** Starts at a number. Events up to it count as received. */
  start(number: number): void {
    this.#number = this.#expected = number;
  }

  /** Passes every event after a number to a subscriber. Returns a function that ends this. */
  subscribe(after: number, subscriber: EngineListener): () => void {
    // The same function may subscribe twice.
    const own: EngineListener = (event) => subscriber(event);
    this.#subscribers.set(own, after);
    return () => this.#subscribers.delete(own);
  }

  /** Passes on the events that are no repeats. */
  hear(items: readonly NewsItem[]): void {
    for (const { event, number = 0 } of items) {
      if (number <= this.#number) continue;
      const isHole = number > this.#number + 1;
      this.#number = number;
      for (const [subscriber, after] of this.#subscribers) if (number > after) subscriber(event);
      if (isHole) this.#miss();
    }
  }

  /**
   * Compares numbers with the server. An event that is still missing at the next comparison was
   * missed.
   *
   * @param asked {@linkcode number} when the server was asked: a lower answer shows lost events
   */
  compare(number: number, asked: number): void {
    if (number < asked || this.#expected > this.#number) {
      this.#number = number;
      this.#miss();
    }
    this.#expected = number;
  }

  /** Ends every subscription. */
  close(): void {
    this.#subscribers.clear();
  }

  #miss(): void {
    for (const subscriber of this.#subscribers.keys()) subscriber({ type: "missed" });
  }
}
