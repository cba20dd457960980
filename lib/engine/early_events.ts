/**
 * The events of a room from the moment it is read until somebody listens.
 *
 * @module
 */

import type { EngineEvent, EngineListener } from "./engine.ts";

/** Queues the events of a room until a subscriber listens. */
export class EarlyEvents {
  #events: EngineEvent[] = [];
  #subscriber: EngineListener | undefined;

  /** Queues an event, or passes it to the subscriber. */
  hear(event: EngineEvent): void {
    if (this.#subscriber === undefined) this.#events.push(event);
    else this.#subscriber(event);
  }

  /** Passes the queued events, and every later one, to a subscriber. */
  handOver(subscriber: EngineListener): void {
    // An event that arrives during this loop queues behind the earlier ones.
    while (this.#events.length > 0) subscriber(this.#events.shift()!);
    this.#subscriber = subscriber;
  }

  /** Drops the queued events. */
  drop(): void {
    this.#events = [];
  }
}
