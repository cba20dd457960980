/**
 * The pace of a large room: how long an audience rests after a delivery.
 *
 * A frame costs nearly the same whether it carries one event or twenty. So a large, busy room
 * pauses after a delivery for as long as the delivery took, and the events of the pause share one
 * frame. A room never pauses if it is so quiet that its messages leave one by one, or if its frames
 * are so long that their bytes are the cost.
 *
 * The audiences of a room take turns: during a delivery to one, the others rest. So each frame
 * carries as many events as a delivery to the whole room would, and no subscriber waits for the
 * whole room.
 *
 * @module
 */

import type { Batch } from "./batch.ts";

/** With this many events during a delivery, the pause is as long as the delivery. */
const FULL_PAUSE_EVENTS = 5;
/**
 * With this many UTF-16 units during a delivery there is no pause: longer frames would hardly be
 * cheaper.
 */
const LONG_FRAME = 8 * 1024;
/** Maximum pause in milliseconds: people would notice a longer one. */
export const MAX_PAUSE_MS = 50;
/** Minimum rest in milliseconds: a shorter one is not worth a timer. */
const MIN_REST_MS = 1;

/** The delivery times of one audience, and the end of its rest. */
export class Pace {
  #restsUntil = 0;
  /** When the last delivery to everyone began, in milliseconds. */
  #deliveredAt: number;
  /** How long a delivery to everyone takes, in milliseconds; 0 if not measured yet. */
  #tookMs = 0;

  /** @param deliveredAt when the last delivery to everyone began, in milliseconds */
  constructor(deliveredAt = -Infinity) {
    this.#deliveredAt = deliveredAt;
  }

  /**
   * When the next delivery may begin, in milliseconds: 0 at any time, `Infinity` while one is
   * leaving.
   */
  get restsUntil(): number {
    return this.#restsUntil;
  }

  /** How long a delivery to everyone takes, in milliseconds; 0 if not measured yet. */
  get tookMs(): number {
    return this.#tookMs;
  }

  /** The pace of an audience that is split off. */
  split(): Pace {
    return new Pace(this.#deliveredAt);
  }

  /** Begins a delivery. Returns how long its events were gathered, in milliseconds. */
  gather(now: number, isForAll: boolean): number {
    const gatheredMs = now - this.#deliveredAt;
    if (isForAll) this.#deliveredAt = now;
    return gatheredMs;
  }

  /** If a delivery is leaving, rests until {@linkcode Pace.rest} is called; else ends the rest. */
  wait(isLeaving: boolean): void {
    this.#restsUntil = isLeaving ? Infinity : 0;
  }

  /** Records how long a delivery took. An outlier counts as at most twice the last one. */
  record(ms: number): void {
    this.#tookMs = this.#tookMs === 0 ? ms : Math.min(ms, 2 * this.#tookMs);
  }

  /** Rests for this long from `now` on, in milliseconds, if that is worth a timer. */
  rest(now: number, ms: number): void {
    // A delivery within one tick of the clock measures 0, and gets no rest.
    this.#restsUntil = ms >= MIN_REST_MS ? now + ms : 0;
  }
}

/** A delivery that has left, to one audience. */
interface Delivered {
  readonly audience: { readonly pace: Pace };
  readonly batch: Batch;
  readonly gatheredMs: number;
}

/**
 * Sets the rest of every audience in one delivery to a room.
 *
 * For example: a delivery to two audiences together takes 10 ms, 5 ms for each. With 5 or more
 * events in that time the room pauses for 10 ms: one audience rests for 5 ms, the other for 10, and
 * from then on they take turns.
 *
 * @param delivered the deliveries, which began at `start` and had left at `end`
 * @param paces the paces of all audiences of the room
 */
export function restTogether(
  delivered: readonly Delivered[],
  paces: readonly Pace[],
  start: number,
  end: number,
): void {
  const tookMs = end - start;
  for (const { audience } of delivered) audience.pace.record(tookMs / delivered.length);
  const roomMs = paces.reduce((sum, pace) => sum + pace.tookMs, 0);
  const othersMs = Math.max(0, roomMs - tookMs);
  for (const [index, one] of delivered.entries()) {
    const pauseMs = Math.min(MAX_PAUSE_MS, pauseFactor(one, roomMs) * roomMs);
    // Audiences that shared this delivery take turns from now on.
    const ahead = (delivered.length - 1 - index) / paces.length;
    one.audience.pace.rest(end, (pauseMs + othersMs) * (1 - ahead));
  }
}

/** The pause as a share, from 0 to 1, of the time that a delivery to the whole room takes. */
function pauseFactor({ batch: { events, size }, gatheredMs }: Delivered, roomMs: number): number {
  // Count only the events of a delivery's time: events during a pause must not prolong the pause.
  const part = Math.min(1, roomMs / gatheredMs);
  const load = Math.min(1, Math.max(0, (events.length * part - 1) / (FULL_PAUSE_EVENTS - 1)));
  const gain = Math.min(1, Math.max(0, 2 - 2 * size * part / LONG_FRAME));
  return load * gain;
}
