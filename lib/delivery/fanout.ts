/**
 * The fan-out of one room: delivers its events to its subscribers, once a turn.
 *
 * Everything that a room's members receive goes through its {@linkcode Fanout}. Events collect
 * during a turn of the event loop; at its end every subscriber receives its events, in order, in
 * one frame if it speaks `chat.v1`. A large room is split into audiences, which rest as `pace.ts`
 * says.
 *
 * @module
 */

import type { Event } from "../protocol/events.ts";
import { Audience, type Delivered, type Subscriber } from "./audience.ts";
import { EncodedEvent } from "./batch.ts";
import { MAX_PAUSE_MS, restTogether } from "./pace.ts";
import type { Schedule } from "./schedule.ts";

/** Maximum subscribers of an audience; a larger one is split. */
const MAX_AUDIENCE = 400;

/** Minimum `chat.v1` subscribers of a room that rests after a delivery. */
const MIN_RESTING_SUBSCRIBERS = 50;

/** What a {@linkcode Fanout} needs. */
export interface FanoutOptions {
  readonly schedule: Schedule;
  /** Handles a subscriber that cannot keep up, by its id, after the delivery. */
  readonly onTooSlow: (id: string) => void;
}

/** The subscribers of one room, and everything that is pending for them. */
export class Fanout {
  readonly #schedule: Schedule;
  readonly #onTooSlow: (id: string) => void;
  /** Never empty. A new subscriber goes to the last audience. */
  readonly #audiences: Audience[] = [new Audience()];
  /** How many large deliveries have frames that have not left yet. */
  #leaving = 0;
  /** Whether it will deliver at the end of this turn. */
  #isDue = false;

  constructor({ schedule, onTooSlow }: FanoutOptions) {
    this.#schedule = schedule;
    this.#onTooSlow = onTooSlow;
  }

  /**
   * Adds a subscriber. It receives `first`, then the events it holds, then every event from now on.
   */
  add(subscriber: Subscriber, first: readonly EncodedEvent[] = []): void {
    this.#audiences.at(-1)!.add(subscriber, first);
    this.#arm();
  }

  /** Removes a subscriber: nothing more is sent to it. A repeat does nothing. */
  remove(subscriber: Subscriber): void {
    const { audience } = subscriber;
    if (audience === undefined) return;
    audience.remove(subscriber);
    if (audience.size > 0 || this.#audiences.length === 1) return;
    this.#audiences.splice(this.#audiences.indexOf(audience), 1);
  }

  /** Adds an event for every subscriber. */
  tell(event: Event | EncodedEvent): void {
    const encoded = toEncoded(event);
    for (const audience of this.#audiences) audience.push(encoded);
    this.#arm();
  }

  /**
   * Adds an event for one subscriber, after all pending ones. A subscriber that is not added yet
   * holds it.
   */
  tellOne(subscriber: Subscriber, event: Event | EncodedEvent): void {
    const { audience } = subscriber;
    if (audience === undefined) return void subscriber.hold(toEncoded(event));
    audience.pushDirect(subscriber, toEncoded(event));
    this.#arm();
  }

  /** Sends one subscriber everything pending, then a last event. Remove the subscriber next. */
  tellLast(subscriber: Subscriber, event: Event | EncodedEvent): void {
    const { now } = this.#schedule;
    subscriber.audience?.deliverLast(subscriber, now);
    if (!subscriber.isOverdue(now)) subscriber.send([toEncoded(event)], now);
  }

  /** Delivers to every audience that does not rest. @param now the time in milliseconds */
  deliver(now: number): void {
    this.#deliver(now, false);
  }

  /** Delivers to every audience, resting or not. */
  flush(): void {
    this.#deliver(this.#schedule.now, true);
  }

  #deliver(now: number, isForced: boolean): void {
    this.#isDue = false;
    const delivered: Delivered[] = [];
    for (const audience of this.#audiences) {
      if (!audience.isPending || !(isForced || this.#isReady(audience, now))) continue;
      delivered.push(audience.deliver(now));
    }
    for (const { batch } of delivered) this.#schedule.meter?.gathered(batch.events.length);
    this.#pace(delivered, now);
    for (const { tooSlow } of delivered) tooSlow?.forEach(({ id }) => this.#onTooSlow(id));
    this.#arm();
  }

  /** Lets the audiences of a large delivery rest, and splits those that have grown too large. */
  #pace(delivered: readonly Delivered[], now: number): void {
    const { length } = this.#audiences;
    let large: Delivered[] | undefined;
    for (const one of delivered) {
      const { audience, batch, count } = one;
      const isLarge = batch.events.length > 1 && count * length >= MIN_RESTING_SUBSCRIBERS;
      audience.pace.wait(isLarge);
      if (isLarge) (large ??= []).push(one);
      if (audience.size > MAX_AUDIENCE) this.#audiences.unshift(audience.split());
    }
    if (large !== undefined) this.#restAfter(large, now);
  }

  #isReady({ pace: { restsUntil } }: Audience, now: number): boolean {
    return restsUntil === 0 || (this.#leaving === 0 && restsUntil <= now);
  }

  /** Schedules the next delivery, if anything is pending. */
  #arm(): void {
    if (this.#isDue) return;
    let next = Infinity;
    for (const { isPending, pace: { restsUntil } } of this.#audiences) {
      if (isPending) next = Math.min(next, restsUntil);
    }
    // While a delivery is leaving, resting audiences wait. `#restAfter` arms them afterwards.
    if (next > 0 && (next === Infinity || this.#leaving > 0)) return;
    if (next > 0 && next > this.#schedule.now) return this.#schedule.at(next, this);
    this.#isDue = true;
    this.#schedule.atTurnEnd(this);
  }

  /**
   * Waits a few turns, until the frames of a delivery have left. Then its audiences begin to rest.
   */
  #restAfter(delivered: readonly Delivered[], start: number): void {
    this.#leaving++;
    this.#schedule.poll(() => {
      const end = this.#schedule.now;
      const hasLeft = delivered.every(({ last }) => last === undefined || last.hasDrained);
      if (!hasLeft && end - start < MAX_PAUSE_MS) return false;
      this.#leaving--;
      restTogether(delivered, this.#audiences.map(({ pace }) => pace), start, end);
      this.#schedule.deliver([this]);
      return true;
    });
  }
}

function toEncoded(event: Event | EncodedEvent): EncodedEvent {
  return event instanceof EncodedEvent ? event : new EncodedEvent(event);
}
