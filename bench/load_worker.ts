/**
 * One thread of the load: its share of the clients, and when they send.
 *
 * @module
 */

/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />

import { setImmediate } from "node:timers";
import { Client, type Counts, type Surroundings } from "./client.ts";
import { Histogram } from "./histogram.ts";
import type { LoadPlan } from "./plan.ts";
import { threadCpuNs } from "./proc.ts";
import { Schedule } from "./schedule.ts";
import { Sockets } from "./sockets.ts";

/** An order to the thread. It answers each with a {@linkcode Sight}. */
export type Order =
  /** Joins. It is the first order. `epoch`: when the load began, in milliseconds since 1970. */
  | { type: "connect"; plan: LoadPlan; index: number; epoch: number }
  /** Sends one message in each room. */
  | { type: "probe" }
  | { type: "start" }
  /** Begins to measure. */
  | { type: "begin" }
  | { type: "stop" }
  | { type: "look" };

/** The thread's counts so far. */
export interface Sight extends Counts {
  frames: number;
  /** Senders that have received no message that they waited for since the measurement began. */
  starved: number;
  /** Its clock, and its CPU time, in microseconds. */
  time: number;
  cpu: number;
  /** Counts of a {@linkcode Histogram} in microseconds, since the measurement began. */
  latency: Float64Array;
  late: Float64Array;
  /** Why the first connection to fail failed. */
  failure: string | undefined;
}

/** Maximum connections that one thread opens at a time. */
const CONNECTING = 128;
/** How long sockets are served before the thread looks for orders, in microseconds. */
const TURN_US = 5000;
/** Maximum bytes of one read. */
const READ_BYTES = 256 * 1024;

/** The clients of one thread. */
class Crowd implements Surroundings {
  readonly plan: LoadPlan;
  readonly sockets = new Sockets();
  readonly buffer = new Uint8Array(READ_BYTES);
  readAt = 0;
  readonly count: Counts = { sent: 0, deliveries: 0, bytes: 0, closed: 0, known: 0 };
  readonly latency = new Histogram();
  readonly late = new Histogram();
  answers = false;
  failure: string | undefined;
  readonly #clients: Client[] = [];
  #senders: Client[] = [];
  #schedule: Schedule | undefined;
  /** How far this thread's clock began after the load's, in microseconds. */
  readonly #offset: number;
  #onConnected = () => {};

  constructor(plan: LoadPlan, index: number, epoch: number) {
    this.plan = plan;
    this.#offset = (performance.timeOrigin - epoch) * 1000;
    for (let id = index; id < plan.clients; id += plan.workers) {
      this.#clients.push(new Client(id, this));
    }
  }

  clock(): number {
    return Math.trunc(this.#offset + performance.now() * 1000);
  }

  onConnected(): void {
    this.#onConnected();
  }

  onFailure(reason: string): void {
    this.failure ??= reason;
  }

  /** Connects all clients, {@linkcode CONNECTING} at a time. */
  connect(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiting = this.#clients.values();
    let left = this.#clients.length;
    const connectNext = () => {
      try {
        waiting.next().value?.connect();
      } catch (error) {
        reject(error);
      }
    };
    this.#onConnected = () => {
      if (--left === 0) resolve();
      else queueMicrotask(connectNext);
    };
    for (let i = 0; i < CONNECTING; i++) connectNext();
    return promise;
  }

  probe(): void {
    for (const client of this.#clients) if (client.isFirstOfRoom) client.send();
  }

  start(): void {
    const { mode, outstanding = 1, rate = 1, workers } = this.plan;
    this.#senders = this.#clients.filter((client) =>
      !client.isStalled && (mode === "pair" ? client.isFirstOfRoom : client.isSender)
    );
    if (mode === "rate") {
      this.#schedule = new Schedule(() => this.clock(), rate / workers);
    }
    this.answers = mode === "own" || mode === "pair";
    if (!this.answers) return;
    for (let i = 0; i < outstanding; i++) for (const client of this.#senders) client.send();
  }

  /** Begins the measurement. */
  begin(): void {
    for (const client of this.#clients) client.hasHeard = false;
  }

  stop(): void {
    this.answers = false;
    this.#schedule = undefined;
  }

  /** Serves the sockets, sends due messages, and takes orders in between. */
  async serve(): Promise<never> {
    for (;;) {
      const end = this.clock() + TURN_US;
      for (let now = this.clock(); now < end; now = this.clock()) {
        this.sockets.wait(Math.min(end - now, this.#sendDue(end)));
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  look(): Sight {
    let frames = 0;
    let starved = 0;
    for (const client of this.#clients) {
      frames += client.frames;
      if (this.answers && client.isSender && !client.hasHeard) starved++;
    }
    return {
      ...this.count,
      frames,
      starved,
      time: this.clock(),
      cpu: threadCpuNs() / 1000,
      latency: this.latency.counts,
      late: this.late.counts,
      failure: this.failure,
    };
  }

  /** Sends due messages. Returns the microseconds until the next one is due. */
  #sendDue(end: number): number {
    return this.#schedule?.sendDue(end, (due, lateUs) => {
      this.late.add(lateUs);
      this.#senders[Math.floor(Math.random() * this.#senders.length)]!.send(due);
    }) ?? Infinity;
  }
}

let crowd: Crowd | undefined;

async function obey(order: Order): Promise<void> {
  if (order.type === "connect") {
    crowd = new Crowd(order.plan, order.index, order.epoch);
    crowd.serve();
    await crowd.connect();
  } else if (order.type === "begin") {
    crowd!.latency.reset();
    crowd!.late.reset();
    crowd!.begin();
  } else if (order.type !== "look") crowd![order.type]();
}

self.onmessage = async ({ data: order }: MessageEvent<Order>) => {
  try {
    await obey(order);
  } catch (error) {
    crowd?.onFailure((error as Error).message);
  }
  self.postMessage(crowd!.look());
};
