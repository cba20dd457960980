/**
 * When fan-outs deliver: at the end of the turn, or after a rest.
 *
 * @module
 */

import type { Meter } from "../meter.ts";
import { Alarm, type AlarmOptions, type Turn } from "../time.ts";

/** What a {@linkcode Schedule} needs. */
export interface ScheduleOptions extends AlarmOptions {
  readonly turn: Pick<Turn, "deliver">;
  readonly meter?: Pick<Meter, "gathered" | "delivered"> | undefined;
}

/** The part of a fan-out that the schedule calls. */
interface Scheduled {
  /** @param now the time in milliseconds */
  deliver(now: number): void;
}

/** Calls each fan-out when its delivery is due. */
export class Schedule {
  readonly #options: ScheduleOptions;
  #due = new Set<Scheduled>();
  #resting = new Set<Scheduled>();
  readonly #alarm: Alarm;

  constructor(options: ScheduleOptions) {
    this.#options = options;
    this.#alarm = new Alarm(options, () => this.#wake());
  }

  /** The time in milliseconds. */
  get now(): number {
    return this.#options.clock();
  }

  /** Counts every delivery; absent while metrics are off. */
  get meter(): ScheduleOptions["meter"] {
    return this.#options.meter;
  }

  /** Delivers at the end of this turn. */
  atTurnEnd(one: Scheduled): void {
    if (this.#due.size === 0) this.#options.turn.deliver(() => this.#deliverDue());
    this.#due.add(one);
  }

  /** Delivers at a time in milliseconds, or earlier. */
  at(time: number, one: Scheduled): void {
    this.#resting.add(one);
    this.#alarm.set(time);
  }

  /** Delivers now. */
  deliver(ones: Iterable<Scheduled>): void {
    const { now, meter } = this;
    for (const one of ones) one.deliver(now);
    meter?.delivered(this.now - now);
  }

  /** Calls back at the end of each turn, until the callback returns true. */
  poll(isDone: () => boolean): void {
    this.#options.turn.deliver(() => {
      if (!isDone()) this.poll(isDone);
    });
  }

  #deliverDue(): void {
    const due = this.#due;
    this.#due = new Set();
    this.deliver(due);
  }

  #wake(): void {
    const resting = this.#resting;
    this.#resting = new Set();
    this.deliver(resting);
  }
}
