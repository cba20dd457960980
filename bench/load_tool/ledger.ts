/**
 * The messages of a load, and which visitor has received which of them.
 *
 * @module
 */

import { Histogram } from "../histogram.ts";

/** One message. */
interface Entry {
  /** The visitor that sent it. */
  readonly sender: number;
  /** When it was due, in microseconds. */
  readonly due: number;
  fate: "under way" | "stored" | "refused";
}

/** The messages of one room. A message's ref is its number. */
export class RoomLedger {
  readonly name: string;
  readonly #entries: Entry[] = [];
  #stored = 0;
  #underWay = 0;

  constructor(name: string) {
    this.name = name;
  }

  /** How many messages are stored. */
  get stored(): number {
    return this.#stored;
  }

  /** How many messages have no answer yet. */
  get underWay(): number {
    return this.#underWay;
  }

  /** Records a message. Returns its ref. */
  add(sender: number, due: number): string {
    this.#underWay++;
    return String(this.#entries.push({ sender, due, fate: "under way" }) - 1);
  }

  /** When the message with this ref was due; `undefined` if it is not from this load. */
  dueOf(ref: string | undefined): number | undefined {
    return this.#entries[Number(ref)]?.due;
  }

  /** Records the answer to a message. Returns whether it is the first one. */
  settle(ref: string, fate: "stored" | "refused"): boolean {
    const entry = this.#entries[Number(ref)];
    if (entry?.fate !== "under way") return false;
    entry.fate = fate;
    this.#underWay--;
    if (fate === "stored") this.#stored++;
    return true;
  }

  /** The numbers of the stored messages. */
  *storedNumbers(): Generator<number> {
    for (const [number, { fate }] of this.#entries.entries()) if (fate === "stored") yield number;
  }

  /** How many messages of these senders have no answer. */
  unanswered(isThere: (sender: number) => boolean): number {
    return this.#entries.filter(({ fate, sender }) => fate === "under way" && isThere(sender))
      .length;
  }
}

/** The numbers of the messages that one visitor has received: a bit for each. */
export class Receipts {
  #bits = new Uint8Array(64);
  #count = 0;

  /** How many messages it has received. */
  get count(): number {
    return this.#count;
  }

  has(number: number): boolean {
    return (this.#bits[number >> 3]! & (1 << (number & 7))) !== 0;
  }

  /** Adds a number. Returns whether it is new. */
  add(number: number): boolean {
    if (this.has(number)) return false;
    const at = number >> 3;
    if (at >= this.#bits.length) {
      const longer = new Uint8Array(2 * at);
      longer.set(this.#bits);
      this.#bits = longer;
    }
    this.#bits[at]! |= 1 << (number & 7);
    this.#count++;
    return true;
  }
}

/** The counts of one second. */
export interface Second {
  stored: number;
  deliveries: number;
  /** In microseconds. */
  readonly latency: Histogram;
}

/** The counts of a whole load. */
export class Tally {
  connected = 0;
  sent = 0;
  stored = 0;
  deliveries = 0;
  doubled = 0;
  outOfOrder = 0;
  /** Messages that were due and not sent, because earlier ones still waited for the network. */
  held = 0;
  /** Guests that the server turned away, by the reason. */
  readonly turnedAway = new Counter();
  /** Messages that the server refused, by its code. */
  readonly refused = new Counter();
  /** Connections that the server ended, by the close code. */
  readonly cutOff = new Counter();
  /** The time from when a message was due to its delivery, in microseconds. */
  readonly latency = new Histogram();
  /** How late messages were sent, in microseconds. */
  readonly late = new Histogram();
  readonly seconds: Second[] = [];

  /** Counts a message that the server has stored. @param ms since the load began */
  countStored(ms: number): void {
    this.stored++;
    this.#second(ms).stored++;
  }

  /** Counts a message that has reached one member. @param ms since the load began */
  countDelivery(ms: number, tookUs: number): void {
    this.deliveries++;
    this.latency.add(tookUs);
    const second = this.#second(ms);
    second.deliveries++;
    second.latency.add(tookUs);
  }

  #second(ms: number): Second {
    const index = Math.max(0, Math.floor(ms / 1000));
    while (this.seconds.length <= index) {
      this.seconds.push({ stored: 0, deliveries: 0, latency: new Histogram() });
    }
    return this.seconds[index]!;
  }
}

/** Counts by reason. */
export class Counter {
  readonly #counts = new Map<string, number>();

  add(reason: string): void {
    this.#counts.set(reason, (this.#counts.get(reason) ?? 0) + 1);
  }

  has(reason: string): boolean {
    return this.#counts.has(reason);
  }

  get total(): number {
    return [...this.#counts.values()].reduce((sum, count) => sum + count, 0);
  }

  /** `12 (429: 10, 503: 2)`, or `0`. */
  toString(): string {
    const each = [...this.#counts].sort(([, a], [, b]) => b - a);
    const parts = each.map(([reason, count]) => `${reason}: ${count}`).join(", ");
    return parts === "" ? "0" : `${this.total} (${parts})`;
  }
}
