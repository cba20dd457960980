/**
 * From what happened to what is sent: once a turn, and to each member only what is new to it.
 *
 * What happens in a room during a turn of the event loop is put down in `room.pending`; what one
 * member alone is told, in `member.aside`, with its place in between. At the turn's end each member
 * is sent both in order. Nobody is sent anything before, so a member that leaves, or is removed
 * because it is too slow, never disturbs a delivery that is under way.
 *
 * What a frame costs is nearly the same, whether it has one event or twenty. So a large room in which
 * much is said rests after a delivery for as long as that took: what is said meanwhile goes into one
 * frame. A room in which less is said than it can deliver one by one never waits, nor does one whose
 * frames are so long already that it is their bytes that cost.
 *
 * @module
 */

import { Alarm, type AlarmOptions } from "./alarm.ts";
import type { Peer } from "./outbox.ts";
import { Batch, Outgoing, toFrames } from "./outgoing.ts";
import type { Event } from "./protocol.ts";
import type { Member, Room } from "./room.ts";

/** What {@linkcode Delivery} needs. */
export interface DeliveryOptions extends AlarmOptions {
  /** Calls back once, when the present turn of the event loop ends. */
  readonly defer: (callback: () => void) => void;
  /** Is told of a member that cannot keep up. */
  readonly onTooSlow: (member: Member) => void;
}

/** Members that are sent the same frame from which on a room may rest. */
const MIN_RESTING_MEMBERS = 50;
/** With how many events during a delivery a room rests for the whole time that the delivery took. */
const FULL_REST_EVENTS = 5;
/** How long frames are, in UTF-16 units, when longer ones are hardly cheaper for each event. */
const LONG_FRAME = 8 * 1024;
/** Rests in milliseconds: a shorter one is not worth a timer, a longer one would be felt. */
const MIN_REST_MS = 1;
const MAX_REST_MS = 50;

/** One delivery in one room. */
interface Delivered {
  readonly room: Room;
  readonly batch: Batch;
  /** How many members were sent it in `chat.v1`. */
  readonly count: number;
  /** The last of them of those who keep up. */
  readonly last: Peer | undefined;
  /** How long its events have been gathered, in milliseconds. */
  readonly gatheredMs: number;
}

/** Delivers what happens to those it concerns. */
export class Delivery {
  readonly #options: DeliveryOptions;
  /** Rooms with something to deliver at the end of this turn. */
  #dirty = new Set<Room>();
  /** Rooms with something to deliver when they have rested. */
  readonly #resting = new Set<Room>();
  readonly #alarm: Alarm;

  /** Delivers nothing until something is told. */
  constructor(options: DeliveryOptions) {
    this.#options = options;
    this.#alarm = new Alarm(options, () => this.#wake());
  }

  /** Puts down what all members of a room are to be sent. */
  tell(room: Room, news: Outgoing | Event): void {
    room.pending.push(news instanceof Outgoing ? news : new Outgoing(news));
    this.#schedule(room);
  }

  /** Puts down what one member alone is to be sent, after all that has happened so far. */
  tellAside(member: Member, news: Outgoing | Event): void {
    const { room } = member;
    const at = room.pending.length;
    if (member.aside.length === 0) room.told.push(member);
    member.aside.push({ at, news: news instanceof Outgoing ? news : new Outgoing(news) });
    this.#schedule(room);
  }

  /** Lets a member see what happens from now on. */
  goLive(member: Member): void {
    const at = member.room.pending.length;
    member.isLive = true;
    member.since = at;
    for (const aside of member.aside) aside.at = at;
    if (member.aside.length === 0) return;
    member.room.told.push(member);
    this.#schedule(member.room);
  }

  /** Sends a member something before the end of the turn. */
  sendNow(member: Member, news: readonly Outgoing[]): void {
    const now = this.#options.clock();
    for (const frame of toFrames(news, member.format)) member.outbox.send(frame, now);
  }

  /** Delivers in all rooms what was put down, resting or not. */
  flush(): void {
    for (const room of this.#resting) this.#dirty.add(room);
    this.#resting.clear();
    this.#deliverDirty();
  }

  /**
   * Delivers in one room what was put down.
   *
   * @returns what became of it
   */
  deliver(room: Room): Delivered {
    const batch = new Batch(room.pending);
    // One who is sent something alone must not cost a look at all the others.
    const receivers = batch.events.length > 0 ? room.members.values() : room.told;
    room.pending = [];
    const now = this.#options.clock();
    const tooSlow: Member[] = [];
    let count = 0;
    let last: Peer | undefined;
    for (const member of receivers) {
      if (!member.isLive || member.isGone) continue;
      if (!send(member, batch, now)) tooSlow.push(member);
      member.since = 0;
      if (member.aside.length > 0) member.aside = [];
      if (member.format !== "v1") continue;
      count++;
      if (!member.outbox.wasBehind) last = member.peer;
    }
    room.told = [];
    for (const member of tooSlow) this.#options.onTooSlow(member);
    const gatheredMs = now - room.deliveredAt;
    if (batch.events.length > 0) room.deliveredAt = now;
    return { room, batch, count, last, gatheredMs };
  }

  #schedule(room: Room): void {
    if (room.restsUntil > 0 && room.restsUntil > this.#options.clock()) {
      this.#resting.add(room);
      this.#alarm.set(room.restsUntil);
      return;
    }
    if (this.#dirty.size === 0) this.#options.defer(() => this.#deliverDirty());
    this.#dirty.add(room);
  }

  /** Delivers in the rooms that have rested. */
  #wake(): void {
    const now = this.#options.clock();
    for (const room of this.#resting) {
      if (room.restsUntil > now) {
        this.#alarm.set(room.restsUntil);
        continue;
      }
      this.#resting.delete(room);
      this.#dirty.add(room);
    }
    if (this.#dirty.size > 0) this.#deliverDirty();
  }

  #deliverDirty(): void {
    const rooms = this.#dirty;
    this.#dirty = new Set();
    const { clock, defer } = this.#options;
    const start = clock();
    const large: Delivered[] = [];
    for (const room of rooms) {
      const delivered = this.deliver(room);
      room.restsUntil = 0;
      if (delivered.count < MIN_RESTING_MEMBERS || delivered.batch.events.length < 2) continue;
      room.restsUntil = Infinity;
      large.push(delivered);
    }
    if (large.length === 0) return;
    // The frames leave in the turns that follow, a few at a time: it is over when the last has left.
    const look = () => {
      const end = clock();
      const isOver = end - start >= MAX_REST_MS ||
        large.every(({ last }) => last === undefined || last.bufferedAmount === 0);
      if (!isOver) return defer(look);
      for (const delivered of large) {
        const restMs = restAfter(delivered, end - start);
        delivered.room.restsUntil = restMs < MIN_REST_MS ? 0 : end + restMs;
      }
      this.#wake();
    };
    defer(look);
  }
}

/** For how long a large room rests after a delivery that took so long, in milliseconds. */
function restAfter({ batch, gatheredMs }: Delivered, deliveryMs: number): number {
  // How much is said while a delivery lasts. What is said while the room rests must not prolong it.
  const said = batch.events.length * Math.min(1, deliveryMs / gatheredMs);
  const load = Math.min(1, (said - 1) / (FULL_REST_EVENTS - 1));
  const gain = Math.min(1, Math.max(0, 2 - batch.size / LONG_FRAME));
  return Math.min(MAX_REST_MS, deliveryMs * load * gain);
}

/** Sends a member what is new to it. False if it cannot keep up. */
function send(member: Member, batch: Batch, now: number): boolean {
  const { outbox, format, aside } = member;
  if (outbox.isOverdue(now)) return false;
  const { wasBehind } = outbox;
  // Most are sent what all are sent, and after it the acks for what they said themselves.
  const isAlike = member.since === 0 && member.echo &&
    (aside.length === 0 || aside[0]!.at === batch.events.length);
  const frames = isAlike
    ? batch.frames(format, aside.map(({ news }) => news))
    : toFrames(ownNews(member, batch.events), format);
  for (const frame of frames) {
    outbox.send(frame, now);
    if (wasBehind && outbox.isOverfull()) return false;
  }
  return true;
}

/** What one member is sent of what happened: what it alone is sent stands in its place. */
function ownNews(member: Member, events: readonly Outgoing[]): Outgoing[] {
  const { aside, since, echo, id } = member;
  const news: Outgoing[] = [];
  let next = 0;
  for (let at = since; at <= events.length; at++) {
    while (next < aside.length && aside[next]!.at <= at) news.push(aside[next++]!.news);
    const event = events[at];
    if (event !== undefined && (echo || event.origin !== id)) news.push(event);
  }
  return news;
}
