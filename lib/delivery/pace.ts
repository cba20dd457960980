/**
 * When things are delivered: at the end of the turn in which they happen, or after a rest.
 *
 * What a frame costs is nearly the same, whether it has one event or twenty. So a large room in which
 * much is said makes a pause after a delivery, as long as that took: what is said meanwhile goes into
 * one frame. A room in which less is said than it can deliver one by one never waits, nor does one
 * whose frames are so long already that it is their bytes that cost.
 *
 * The audiences of a room take turns: while one is delivered to, the others rest. So each frame has
 * as much in it as if all were delivered to at once, and nobody waits until all the others have theirs.
 *
 * @module
 */

import type { Audience, Room } from "../room/room.ts";
import { Alarm, type AlarmOptions } from "../time.ts";
import type { Batch } from "./batch.ts";
import type { Peer } from "./outbox.ts";

/** What {@linkcode Pace} needs. */
export interface PaceOptions extends AlarmOptions {
  /** Calls back once, when the present turn of the event loop ends. */
  readonly defer: (callback: () => void) => void;
  /** Delivers to an audience all that was put down for it. */
  readonly deliver: (audience: Audience) => Delivered;
}

/** One delivery to one audience. */
export interface Delivered {
  readonly audience: Audience;
  /** What everyone was sent. */
  readonly batch: Batch;
  /** For how long it was gathered, in milliseconds. */
  readonly gatheredMs: number;
  /** How many members were sent it in `chat.v1`. */
  readonly count: number;
  /** The last of those who keep up. */
  readonly last: Peer | undefined;
}

/** Members that are sent the same frame from which on a room may rest. */
const MIN_RESTING_MEMBERS = 50;
/** With how many events during a delivery the pause is as long as the delivery. */
const FULL_PAUSE_EVENTS = 5;
/** How much is said during a delivery, in UTF-16 units, when longer frames are hardly cheaper. */
const LONG_FRAME = 8 * 1024;
/** A longer pause would be felt, in milliseconds. No longer is waited for a delivery, either. */
const MAX_PAUSE_MS = 50;
/** A shorter rest is not worth a timer, in milliseconds. */
const MIN_REST_MS = 1;

/** Sees to it that everyone is delivered to in time. */
export class Pace {
  readonly #options: PaceOptions;
  /** Those that are delivered to at the end of this turn. */
  #due = new Set<Audience>();
  /** Those that are delivered to when they have rested. */
  readonly #resting = new Set<Audience>();
  readonly #alarm: Alarm;

  /** Delivers nothing until it is told that there is something. */
  constructor(options: PaceOptions) {
    this.#options = options;
    this.#alarm = new Alarm(options, () => this.#wake());
  }

  /** Takes note that there is something to deliver. */
  schedule(audience: Audience): void {
    const { clock, defer } = this.#options;
    const { restsUntil, room: { leaving } } = audience;
    if (restsUntil > 0 && (leaving > 0 || restsUntil > clock())) {
      this.#resting.add(audience);
      // Else the alarm is set when all has left.
      if (leaving === 0) this.#alarm.set(restsUntil);
      return;
    }
    if (this.#due.size === 0) defer(() => this.#deliver());
    this.#due.add(audience);
  }

  /** Delivers to all, resting or not. */
  flush(): void {
    for (const audience of this.#resting) this.#due.add(audience);
    this.#resting.clear();
    this.#deliver();
  }

  /** Delivers to those that have rested. In one room that is one after the other. */
  #wake(): void {
    const now = this.#options.clock();
    for (const audience of this.#resting) {
      if (audience.room.leaving > 0) continue;
      if (audience.restsUntil > now) {
        this.#alarm.set(audience.restsUntil);
        continue;
      }
      this.#resting.delete(audience);
      this.#due.add(audience);
    }
    if (this.#due.size > 0) this.#deliver();
  }

  #deliver(): void {
    const audiences = this.#due;
    this.#due = new Set();
    const { clock, defer, deliver } = this.#options;
    const start = clock();
    const large: Delivered[] = [];
    for (const audience of audiences) {
      const delivered = deliver(audience);
      const isLarge = delivered.batch.events.length > 1 &&
        delivered.count * audience.room.audiences.length >= MIN_RESTING_MEMBERS;
      audience.restsUntil = isLarge ? Infinity : 0;
      if (isLarge) large.push(delivered);
    }
    if (large.length === 0) return;
    const byRoom = Map.groupBy(large, ({ audience }) => audience.room);
    for (const room of byRoom.keys()) room.leaving++;
    // The frames leave in the turns that follow, a few at a time: it is over when the last has left.
    const look = () => {
      const end = clock();
      const isOver = end - start >= MAX_PAUSE_MS ||
        large.every(({ last }) => last === undefined || last.bufferedAmount === 0);
      if (!isOver) return defer(look);
      for (const [room, delivered] of byRoom) {
        room.leaving--;
        rest(room, delivered, start, end);
      }
      this.#wake();
    };
    defer(look);
  }
}

/** Lets those audiences of a room rest that were delivered to from `start` to `end`. */
function rest({ audiences }: Room, delivered: readonly Delivered[], start: number, end: number) {
  const tookMs = end - start;
  for (const { audience } of delivered) audience.noteDelivery(tookMs / delivered.length);
  const roomMs = audiences.reduce((sum, audience) => sum + audience.tookMs, 0);
  const othersMs = Math.max(0, roomMs - tookMs);
  for (const [index, one] of delivered.entries()) {
    const pauseMs = Math.min(MAX_PAUSE_MS, pauseFactor(one, roomMs) * roomMs);
    // Those that were delivered to together take turns from now on.
    const ahead = (delivered.length - 1 - index) / audiences.length;
    const restMs = (pauseMs + othersMs) * (1 - ahead);
    one.audience.restsUntil = restMs < MIN_REST_MS ? 0 : end + restMs;
  }
}

/** How long a room pauses, as a part, from 0 to 1, of the time that a delivery to all of it takes. */
function pauseFactor({ batch: { events, size }, gatheredMs }: Delivered, roomMs: number): number {
  // What is said while a delivery lasts. What is said during a pause must not prolong it.
  const part = Math.min(1, roomMs / gatheredMs);
  const load = Math.min(1, Math.max(0, (events.length * part - 1) / (FULL_PAUSE_EVENTS - 1)));
  const gain = Math.min(1, Math.max(0, 2 - 2 * size * part / LONG_FRAME));
  return load * gain;
}
