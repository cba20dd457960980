/**
 * The events of a room between the moment when it is read and the moment when somebody listens.
 *
 * @module
 */

import type { EngineEvent, EngineListener } from "./engine.ts";

/** Queues the events of a room until a subscriber listens. */
export class EarlyEvents {
  #events: EngineEvent[] = [];
  #subscriber: EngineListener | undefined;

  /** Queues an event, or hands it over. */
  hear(event: EngineEvent): void {
    if (this.#subscriber === undefined) this.#events.push(event);
    else this.#subscriber(event);
  }

  /** Hands a subscriber the events so far, and every later one. */
  handOver(subscriber: EngineListener): void {
    // An event that arrives during this loop queues behind the earlier ones.
    while (this.#events.length > 0) subscriber(this.#events.shift()!);
    this.#subscriber = subscriber;
  }

  /** Forgets the events so far. */
  drop(): void {
    this.#events = [];
  }
}
