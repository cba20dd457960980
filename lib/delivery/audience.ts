/**
 * Subscribers and audiences: which events are pending, and which subscriber receives which of them.
 *
 * Events collect in an audience until its next delivery. Nothing is sent in between, so removing or
 * evicting a subscriber never disturbs a delivery.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import type { SentMeter } from "../meter.ts";
import { type Format, isWhole } from "../protocol/encode.ts";
import { Batch, countTexts, type EncodedEvent, toFrames } from "./batch.ts";
import { takeAll } from "./lists.ts";
import { Outbox, type OutboxLimits, type Peer } from "./outbox.ts";
import { Pace } from "./pace.ts";

/** What a {@linkcode Subscriber} needs. */
export interface SubscriberOptions {
  /** The connection's id. */
  readonly id: string;
  readonly peer: Peer;
  readonly format: Format;
  /** The {@linkcode EncodedEvent.origin} of its own messages. */
  readonly origin: string;
  /** Whether it receives its own messages. */
  readonly echo: boolean;
  readonly limits: OutboxLimits;
  /** Counts what it is sent; absent while metrics are off. */
  readonly sent?: SentMeter | undefined;
}

/** An event for one subscriber only. */
interface Direct {
  readonly event: EncodedEvent;
  /** Index of the pending event before which it is sent. */
  readonly at: number;
}

/** One connection that events are delivered to. */
export class Subscriber {
  /** The connection's id. */
  readonly id: string;
  readonly format: Format;
  readonly #peer: Peer;
  readonly #origin: string;
  readonly #echo: boolean;
  readonly #outbox: Outbox;
  readonly #sent: SentMeter | undefined;
  #audience: Audience | undefined;
  /** Index of the first pending event that it receives. */
  #from = 0;
  /** Events for it only, held until its next delivery or until it goes live. */
  #direct: Direct[] = [];

  constructor({ id, peer, format, origin, echo, limits, sent }: SubscriberOptions) {
    this.id = id;
    this.format = format;
    this.#peer = peer;
    this.#origin = origin;
    this.#echo = echo;
    this.#outbox = new Outbox(peer, limits);
    this.#sent = sent;
  }

  /** The audience that contains it; absent before it is live and after it is removed. */
  get audience(): Audience | undefined {
    return this.#audience;
  }

  /** Whether every frame sent to it has left for the network. */
  get hasDrained(): boolean {
    return this.#peer.bufferedAmount === 0;
  }

  /** Whether frames were still waiting for the network when the last delivery began. */
  get wasBehind(): boolean {
    return this.#outbox.wasBehind;
  }

  /** Whether it cannot keep up. @param now the time in milliseconds */
  isOverdue(now: number): boolean {
    return this.#outbox.isOverdue(now);
  }

  /** Sends it events at once, ahead of all pending events. @param now the time in milliseconds */
  send(events: readonly EncodedEvent[], now: number): void {
    const frames = toFrames(events, this.format);
    let bytes = 0;
    for (const frame of frames) bytes += this.#send(frame, now);
    this.#sent?.add(countTexts(events, this.format), frames.length, bytes);
  }

  /** Holds an event for it, to be sent before pending event `at`. True if it held none before. */
  hold(event: EncodedEvent, at = 0): boolean {
    return this.#direct.push({ event, at }) === 1;
  }

  /** Goes live: receives `first`, then the held events, then every pending event from `from` on. */
  start(audience: Audience, from: number, first: readonly EncodedEvent[]): void {
    const held = this.#direct.map(({ event }) => event);
    this.#direct = [...first, ...held].map((event) => ({ event, at: from }));
    this.#audience = audience;
    this.#from = from;
  }

  /** Assigns it to another audience, or to none. Nothing may be pending for it. */
  moveTo(audience: Audience | undefined): void {
    this.#audience = audience;
  }

  /** Sends its part of a batch. False if it cannot keep up. @param now the time in milliseconds */
  deliver(batch: Batch, now: number): boolean {
    const direct = takeAll(this.#direct);
    const from = this.#from;
    this.#from = 0;
    if (this.#outbox.isOverdue(now)) return false;
    const { wasBehind } = this.#outbox;
    // Most subscribers receive the whole batch, followed by the acks of their own messages.
    const isAlike = from === 0 && this.#echo &&
      (direct.length === 0 || direct[0]!.at === batch.events.length);
    const selected = isAlike ? undefined : this.#select(batch.events, from, direct);
    const frames = selected === undefined
      ? batch.frames(this.format, direct)
      : toFrames(selected, this.format);
    let bytes = 0;
    for (const frame of frames) {
      bytes += this.#send(frame, now);
      if (wasBehind && this.#outbox.isOverfull()) return false;
    }
    this.#sent?.add(
      selected === undefined ? batch.count(this.format, direct) : countTexts(selected, this.format),
      frames.length,
      bytes,
    );
    return true;
  }

  /** Sends a frame. Returns its UTF-8 bytes, if metrics count them. */
  #send(frame: string, now: number): number {
    const size = this.#outbox.send(frame, now);
    // The peer has counted the bytes, unless they have left already.
    return size > 0 || this.#sent === undefined ? size : Buffer.byteLength(frame);
  }

  /** The events that it receives, with each event for it only in its place. */
  #select(
    events: readonly EncodedEvent[],
    from: number,
    direct: readonly Direct[],
  ): EncodedEvent[] {
    const selected: EncodedEvent[] = [];
    let next = 0;
    for (let at = from; at <= events.length; at++) {
      while (next < direct.length && direct[next]!.at <= at) selected.push(direct[next++]!.event);
      const event = events[at];
      if (event !== undefined && (this.#echo || event.origin !== this.#origin)) {
        selected.push(event);
      }
    }
    return selected;
  }
}

/** The result of one delivery. */
export interface Delivered {
  readonly audience: Audience;
  readonly batch: Batch;
  /** How long the batch was gathered, in milliseconds. */
  readonly gatheredMs: number;
  /** How many subscribers with the whole protocol received it. */
  readonly count: number;
  /** The last of them that is not behind. When its frames have left, all frames have. */
  readonly last: Subscriber | undefined;
  /** The subscribers that could not keep up, if there are any. */
  readonly tooSlow: readonly Subscriber[] | undefined;
}

/** Subscribers that receive deliveries together: all of a small room, a part of a large one. */
export class Audience {
  readonly pace: Pace;
  readonly #subscribers = new Set<Subscriber>();
  /** Events for every subscriber at the next delivery. */
  readonly #pending: EncodedEvent[] = [];
  /** Subscribers that hold events for one subscriber only. */
  readonly #withDirect: Subscriber[] = [];

  constructor(pace: Pace = new Pace()) {
    this.pace = pace;
  }

  get size(): number {
    return this.#subscribers.size;
  }

  get isPending(): boolean {
    return this.#pending.length > 0 || this.#withDirect.length > 0;
  }

  /** Adds a subscriber. It receives `first`, then every event from now on. */
  add(subscriber: Subscriber, first: readonly EncodedEvent[]): void {
    this.#subscribers.add(subscriber);
    subscriber.start(this, this.#pending.length, first);
    this.#withDirect.push(subscriber);
  }

  remove(subscriber: Subscriber): void {
    this.#subscribers.delete(subscriber);
    subscriber.moveTo(undefined);
  }

  /** Adds an event for every subscriber. */
  push(event: EncodedEvent): void {
    this.#pending.push(event);
  }

  /** Adds an event for one subscriber only, after everything that is pending. */
  pushDirect(subscriber: Subscriber, event: EncodedEvent): void {
    if (subscriber.hold(event, this.#pending.length)) this.#withDirect.push(subscriber);
  }

  /** Delivers everything pending to one subscriber that is about to be removed. */
  deliverLast(subscriber: Subscriber, now: number): void {
    subscriber.deliver(new Batch(this.#pending), now);
  }

  /** Delivers everything that is pending. @param now the time in milliseconds */
  deliver(now: number): Delivered {
    const batch = new Batch(takeAll(this.#pending));
    const isForAll = batch.events.length > 0;
    const withDirect = takeAll(this.#withDirect);
    // An event for one subscriber must not cost a loop over all of them.
    const receivers = isForAll ? this.#subscribers : withDirect;
    let tooSlow: Subscriber[] | undefined;
    let count = 0;
    let last: Subscriber | undefined;
    for (const subscriber of receivers) {
      if (subscriber.audience !== this) continue;
      if (!subscriber.deliver(batch, now)) (tooSlow ??= []).push(subscriber);
      if (!isWhole(subscriber.format)) continue;
      count++;
      if (!subscriber.wasBehind) last = subscriber;
    }
    const gatheredMs = this.pace.gather(now, isForAll);
    return { audience: this, batch, gatheredMs, count, last, tooSlow };
  }

  /** Moves half of the subscribers to a new audience. Nothing may be pending. */
  split(): Audience {
    const half = new Audience(this.pace.split());
    let left = this.#subscribers.size >> 1;
    for (const subscriber of this.#subscribers) {
      if (left-- === 0) break;
      this.#subscribers.delete(subscriber);
      half.#subscribers.add(subscriber);
      subscriber.moveTo(half);
    }
    return half;
  }
}
