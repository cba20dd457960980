/**
 * From what happened to what is sent: once a turn, and to each member only what is new to it.
 *
 * What happens in a room during a turn of the event loop is put down in `audience.pending`; what
 * one member alone is told, in `member.aside`, with its place in between. At the turn's end each
 * member is sent both in order. Nobody is sent anything before, so a member that leaves, or is
 * removed because it is too slow, never disturbs a delivery that is under way.
 *
 * When that is, for a large room in which much is said, is the matter of `pace.ts`.
 *
 * @module
 */

import type { Event } from "../protocol/events.ts";
import type { Audience, Member, Room } from "../room/room.ts";
import { Batch, EncodedEvent, toFrames } from "./batch.ts";
import type { Peer } from "./outbox.ts";
import { type Delivered, Pace, type PaceOptions } from "./pace.ts";

/** What {@linkcode Delivery} needs. */
export interface DeliveryOptions extends Omit<PaceOptions, "deliver"> {
  /** Is told of a member that cannot keep up. */
  readonly onTooSlow: (member: Member) => void;
}

/** Delivers what happens to those it concerns. */
export class Delivery {
  readonly #options: DeliveryOptions;
  readonly #pace: Pace;

  /** Delivers nothing until something is told. */
  constructor(options: DeliveryOptions) {
    this.#options = options;
    this.#pace = new Pace({ ...options, deliver: (audience) => this.deliver(audience) });
  }

  /** Puts down what all members of a room are to be sent. */
  tell(room: Room, news: EncodedEvent | Event): void {
    const outgoing = news instanceof EncodedEvent ? news : new EncodedEvent(news);
    for (const audience of room.audiences) {
      audience.pending.push(outgoing);
      this.#pace.schedule(audience);
    }
  }

  /** Puts down what one member alone is to be sent, after all that has happened so far. */
  tellAside(member: Member, news: EncodedEvent | Event): void {
    const { audience } = member;
    const at = audience.pending.length;
    if (member.aside.length === 0) audience.told.push(member);
    member.aside.push({ at, news: news instanceof EncodedEvent ? news : new EncodedEvent(news) });
    this.#pace.schedule(audience);
  }

  /** Lets a member see what happens from now on. */
  goLive(member: Member): void {
    const { audience } = member;
    const at = audience.pending.length;
    member.isLive = true;
    member.since = at;
    for (const aside of member.aside) aside.at = at;
    if (member.aside.length === 0) return;
    audience.told.push(member);
    this.#pace.schedule(audience);
  }

  /** Sends a member something before the end of the turn. */
  sendNow(member: Member, news: readonly EncodedEvent[]): void {
    const now = this.#options.clock();
    for (const frame of toFrames(news, member.format)) member.outbox.send(frame, now);
  }

  /** Delivers in all rooms what was put down, resting or not. */
  flush(): void {
    this.#pace.flush();
  }

  /**
   * Delivers to one audience what was put down.
   *
   * @returns what became of it
   */
  deliver(audience: Audience): Delivered {
    const batch = new Batch(audience.pending);
    // One who is sent something alone must not cost a look at all the others.
    const receivers = batch.events.length > 0 ? audience.members : audience.told;
    audience.pending = [];
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
    audience.told = [];
    audience.room.splitIfLarge(audience);
    for (const member of tooSlow) this.#options.onTooSlow(member);
    const gatheredMs = now - audience.deliveredAt;
    if (batch.events.length > 0) audience.deliveredAt = now;
    return { audience, batch, gatheredMs, count, last };
  }
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
function ownNews(member: Member, events: readonly EncodedEvent[]): EncodedEvent[] {
  const { aside, since, echo, id } = member;
  const news: EncodedEvent[] = [];
  let next = 0;
  for (let at = since; at <= events.length; at++) {
    while (next < aside.length && aside[next]!.at <= at) news.push(aside[next++]!.news);
    const event = events[at];
    if (event !== undefined && (echo || event.origin !== id)) news.push(event);
  }
  return news;
}
