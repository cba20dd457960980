/**
 * One thread of the load: its share of the clients, what they send, and what they see.
 *
 * A read takes as much as has come, and of a message only the marker and the fields behind it are
 * looked at (see `dialects.ts`).
 *
 * @module
 */

/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />

import { setImmediate } from "node:timers";
import {
  clientName,
  type Dialect,
  DIALECTS,
  FIELDS,
  MARKER,
  Message,
  roomName,
  senderAt,
  timeAt,
} from "./dialects.ts";
import { Histogram } from "./histogram.ts";
import type { LoadPlan } from "./plan.ts";
import { threadCpuNs } from "./proc.ts";
import { Sockets } from "./sockets.ts";
import {
  clientFrame,
  type FrameHandler,
  FrameReader,
  handshake,
  OPCODE,
  type Piece,
} from "./websocket.ts";

/** What the thread is told. It answers each with a {@linkcode Sight}. */
export type Order =
  | { type: "connect"; plan: LoadPlan; index: number; epoch: number }
  /** Sends one message in each room. */
  | { type: "probe" }
  | { type: "start" }
  /** Begins to measure. */
  | { type: "begin" }
  | { type: "stop" }
  | { type: "look" };

/** What the thread has seen so far. */
export interface Sight {
  sent: number;
  deliveries: number;
  frames: number;
  bytes: number;
  /** Connections that the server closed. */
  closed: number;
  /** Clients that know that all are there. */
  known: number;
  /** Its clock, and its CPU time, in microseconds. */
  time: number;
  cpu: number;
  /** Counts of a {@linkcode Histogram} in microseconds, since the measurement began. */
  latency: Float64Array;
  late: Float64Array;
  failure: string | undefined;
}

/** Most connections that one thread opens at a time. */
const CONNECTING = 128;
/** Sockets are served for so long before orders are looked for, in microseconds. */
const TURN_US = 5000;
/** Begins, after the packet's own digit, what is a message for Socket.IO. */
const MESSAGE_DIGIT = "2".charCodeAt(0);
const NOTHING = new Uint8Array(0);
const decoder = new TextDecoder();

/** A place where no byte can lie. */
const UNKNOWN = 2 ** 29;

const latency = new Histogram();
const late = new Histogram();
const total = { sent: 0, deliveries: 0, bytes: 0, closed: 0, known: 0 };
const sockets = new Sockets();
/** What was read last, of whichever socket. A byte at the end is left for a marker. */
const buffer = new Uint8Array(256 * 1024);
const clients: Client[] = [];
let senders: Client[] = [];
let onConnected = () => {};
let isSending = false;
/** Whether messages are sent for messages that come. */
let isClosedLoop = false;
/** When messages are to be sent that wait for none. */
interface Schedule {
  readonly begin: number;
  readonly period: number;
  count: number;
}
let schedule: Schedule | undefined;
let plan: LoadPlan;
let failure: string | undefined;
/** Microseconds since the load began, the same in all threads. */
let clock = () => 0;
/** When the bytes that are looked at now were read. */
let readAt = 0;

/** One connection. */
class Client implements FrameHandler {
  readonly isStalled: boolean;
  readonly #id: number;
  readonly #plan: LoadPlan;
  readonly #dialect: Dialect;
  readonly #message: Message;
  readonly #reader = new FrameReader(this);
  readonly #allKnown: Uint8Array;
  #fd = -1;
  #state: "connecting" | "in" | "closed" = "connecting";
  #hasUpgraded = false;
  #isKnown = false;
  /** What was read and cannot be understood yet. */
  #kept = NOTHING;
  /** What the network has not taken. */
  #unsent = NOTHING;
  /** How many messages are to be sent for what was read. */
  #owed = 0;
  /** Where the first marker lies in a frame, and how far the next lies behind the last one's fields. */
  #first = UNKNOWN;
  #gap = UNKNOWN;
  #leastGap = UNKNOWN;

  constructor(id: number, plan: LoadPlan) {
    const { dialect, contentBytes = 64, stalledEvery = 0, clients, rooms } = plan;
    this.#id = id;
    this.#plan = plan;
    this.#dialect = DIALECTS[dialect];
    this.#message = new Message(this.#dialect, id, contentBytes);
    this.#allKnown = new TextEncoder().encode(`"online":${clients / rooms}`);
    this.isStalled = stalledEvery > 0 && id % stalledEvery === stalledEvery - 1;
  }

  get frames(): number {
    return this.#reader.frames;
  }

  get isFirstOfRoom(): boolean {
    return this.#id < this.#plan.rooms;
  }

  get isSender(): boolean {
    return this.#id < (this.#plan.senders ?? this.#plan.clients);
  }

  /** Asks to be let in. */
  connect(): void {
    const { port, rooms } = this.#plan;
    this.#fd = sockets.connect(port);
    sockets.watch(this.#fd, this);
    const path = this.#dialect.path(roomName(this.#id % rooms), clientName(this.#id));
    this.#write(handshake(port, path, this.#dialect.subprotocol));
  }

  /** Sends a message now, or one that was due earlier. */
  send(due = clock()): void {
    if (this.#state === "closed") return;
    total.sent++;
    this.#message.setTime(due);
    this.#write(this.#message.frame);
  }

  onReadable(): void {
    const kept = this.#kept.length;
    if (kept > 0) buffer.set(this.#kept);
    const got = sockets.receive(this.#fd, buffer.subarray(kept, -1));
    if (got <= 0) return this.#end("the server ended a connection");
    readAt = clock();
    total.bytes += got;
    const to = kept + got;
    // No search goes further, into what was read before.
    buffer[to] = MARKER;
    const end = this.#hasUpgraded ? this.#reader.read(buffer, to) : this.#readResponse(to);
    this.#kept = end < to ? buffer.slice(end, to) : NOTHING;
    if (isSending && isClosedLoop) { for (let i = this.#owed; i > 0; i--) this.send(); }
    this.#owed = 0;
  }

  onWritable(): void {
    const data = this.#unsent;
    this.#unsent = NOTHING;
    sockets.watchWritable(this.#fd, false);
    this.#write(data);
  }

  onText(data: Uint8Array, from: number, to: number, { isBegin, isEnd }: Piece): number {
    if (this.#plan.mode === "idle") return this.#lookForAll(data, from, to, isEnd);
    if (this.#dialect.hello !== undefined && this.#talk(data, from, to)) return to - from;
    const answersOthers = this.#plan.mode === "pair";
    let at = from;
    // The guess spares a search. It skips no marker: none lies nearer than the least there was.
    let marker = from + this.#first;
    while (at < to) {
      if (marker >= to || data[marker] !== MARKER) {
        marker = data.indexOf(MARKER, at);
        if (marker < 0 || marker >= to) return to - from;
        if (at > from) this.#learnGap(marker - at);
        else if (isBegin) this.#first = Math.min(this.#first, marker - at);
      }
      const next = marker + FIELDS;
      if (next > to) return (isEnd ? to : marker) - from;
      total.deliveries++;
      const took = readAt - timeAt(data, marker);
      latency.add(took > 0 ? took : 0);
      if ((senderAt(data, marker) === this.#id) !== answersOthers) this.#owed++;
      at = next;
      marker = next + this.#gap;
    }
    return to - from;
  }

  onPing(payload: Uint8Array): void {
    this.#write(clientFrame(payload, OPCODE.pong));
  }

  onClose(code: number): void {
    this.#end(`the server closed a connection with ${code}`);
  }

  /** Reads the answer to the handshake, and the frames behind it. */
  #readResponse(to: number): number {
    // Latin-1: each character is one byte.
    const text = String.fromCharCode(...buffer.subarray(0, Math.min(to, 4096)));
    const end = text.indexOf("\r\n\r\n") + 4;
    if (end < 4) return 0;
    if (!text.startsWith("HTTP/1.1 101 ")) {
      this.#end(`the server answered ${text.split("\r\n")[0]}`);
      return to;
    }
    this.#hasUpgraded = true;
    if (this.#dialect.hello === undefined) this.#letIn();
    total.bytes -= end;
    buffer.copyWithin(0, end, to);
    const read = this.#reader.read(buffer, to - end);
    buffer.copyWithin(end, 0, to - end);
    return end + read;
  }

  #letIn(): void {
    this.#state = "in";
    onConnected();
    if (this.isStalled) sockets.forget(this.#fd);
  }

  #learnGap(gap: number): void {
    this.#leastGap = Math.min(this.#leastGap, gap);
    // In a longer one there is room for another message.
    if (gap < 2 * this.#leastGap + FIELDS) this.#gap = gap;
  }

  /** What Socket.IO wants said. Returns whether the frame was about that. */
  #talk(data: Uint8Array, from: number, to: number): boolean {
    const { hello, heartbeat } = this.#dialect;
    if (data[from + 1] === MESSAGE_DIGIT) return false;
    const text = decoder.decode(data.subarray(from, to));
    if (text.startsWith("0")) this.#write(clientFrame(hello!));
    else if (text === heartbeat!.asks) this.#write(clientFrame(heartbeat!.answer));
    else if (text.startsWith(hello!)) this.#letIn();
    return true;
  }

  /** Looks for the news that all are there. */
  #lookForAll(data: Uint8Array, from: number, to: number, isEnd: boolean): number {
    if (!this.#isKnown && includes(data.subarray(from, to), this.#allKnown)) {
      this.#isKnown = true;
      total.known++;
    }
    // It may have been cut in two.
    return isEnd ? to - from : Math.max(0, to - from - this.#allKnown.length);
  }

  #write(data: Uint8Array): void {
    if (this.#unsent.length > 0) {
      this.#unsent = concat(this.#unsent, data);
      return;
    }
    const sent = Math.max(0, sockets.send(this.#fd, data));
    if (sent === data.length) return;
    this.#unsent = data.slice(sent);
    sockets.watchWritable(this.#fd, true);
  }

  #end(reason: string): void {
    if (this.#state === "closed") return;
    if (this.#state === "connecting") onConnected();
    this.#state = "closed";
    sockets.close(this.#fd);
    total.closed++;
    failure ??= reason;
  }
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

function includes(data: Uint8Array, wanted: Uint8Array): boolean {
  search: for (let at = -1; (at = data.indexOf(wanted[0]!, at + 1)) >= 0;) {
    for (let i = 1; i < wanted.length; i++) if (data[at + i] !== wanted[i]) continue search;
    const after = data[at + wanted.length];
    if (after === undefined || after < 48 || after > 57) return true;
  }
  return false;
}

/** Connects this thread's clients, some at a time. */
function connect(plan: LoadPlan, index: number): Promise<void> {
  for (let id = index; id < plan.clients; id += plan.workers) clients.push(new Client(id, plan));
  const { promise, resolve } = Promise.withResolvers<void>();
  let asked = 0;
  let done = 0;
  const connectNext = () => {
    if (asked < clients.length) clients[asked++]!.connect();
  };
  onConnected = () => {
    if (++done === clients.length) resolve();
    else queueMicrotask(connectNext);
  };
  while (asked < Math.min(CONNECTING, clients.length)) connectNext();
  return promise;
}

function start({ mode, outstanding = 1, rate = 1, workers }: LoadPlan): void {
  isSending = true;
  isClosedLoop = mode === "own" || mode === "pair";
  senders = clients.filter((client) =>
    !client.isStalled && (mode === "pair" ? client.isFirstOfRoom : client.isSender)
  );
  if (mode === "rate") schedule = { begin: clock(), period: 1e6 * workers / rate, count: 0 };
  if (!isClosedLoop) return;
  for (let i = 0; i < outstanding; i++) for (const client of senders) client.send();
}

/** Sends what is due by now. Returns for how many microseconds nothing will be. */
function sendDue({ begin, period }: Schedule): number {
  for (;;) {
    const due = begin + Math.floor(schedule!.count * period);
    const now = clock();
    if (due > now) return due - now;
    schedule!.count++;
    late.add(now - due);
    senders[Math.floor(Math.random() * senders.length)]!.send(due);
  }
}

/** Serves the sockets. Lets orders in between. */
async function serve(): Promise<never> {
  for (;;) {
    const turnEnd = clock() + TURN_US;
    for (let now = clock(); now < turnEnd; now = clock()) {
      let us = turnEnd - now;
      if (isSending && schedule !== undefined) us = Math.min(us, sendDue(schedule));
      sockets.wait(us);
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function look(): Sight {
  let frames = 0;
  for (const client of clients) frames += client.frames;
  const times = { time: clock(), cpu: threadCpuNs() / 1000 };
  return { ...total, ...times, frames, latency: latency.counts, late: late.counts, failure };
}

async function obey(order: Order): Promise<void> {
  switch (order.type) {
    case "connect": {
      plan = order.plan;
      const offset = (performance.timeOrigin - order.epoch) * 1000;
      clock = () => Math.trunc(offset + performance.now() * 1000);
      serve();
      return await connect(plan, order.index);
    }
    case "probe":
      for (const client of clients) if (client.isFirstOfRoom) client.send();
      return;
    case "start":
      return start(plan);
    case "begin":
      latency.reset();
      return late.reset();
    case "stop":
      isSending = false;
      return;
  }
}

self.onmessage = async ({ data: order }: MessageEvent<Order>) => {
  try {
    await obey(order);
  } catch (error) {
    failure ??= (error as Error).message;
  }
  self.postMessage(look());
};
