/**
 * One client of the load: joins, sends, and counts what it receives.
 *
 * It reads only the markers in received data, and the fields behind them (see `dialects.ts`).
 *
 * @module
 */

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
import type { Histogram } from "./histogram.ts";
import type { LoadPlan } from "./plan.ts";
import type { SocketHandler, Sockets } from "./sockets.ts";
import {
  clientFrame,
  type FrameHandler,
  FrameReader,
  handshake,
  OPCODE,
  type Piece,
} from "./websocket.ts";

/** The state that all clients of a thread share. */
export interface Surroundings {
  readonly plan: LoadPlan;
  readonly sockets: Sockets;
  /** The bytes of the last read, of any socket. One byte at the end stays free for a marker. */
  readonly buffer: Uint8Array;
  /** The time of the last read. */
  readAt: number;
  readonly count: Counts;
  /** How long messages took, in microseconds. */
  readonly latency: Histogram;
  /** Whether clients send messages in answer to received ones. */
  answers: boolean;
  /** Microseconds since the load began. */
  clock(): number;
  /** A client has joined, or never will. */
  onConnected(): void;
  onFailure(reason: string): void;
}

/** The counts of a thread. */
export interface Counts {
  sent: number;
  deliveries: number;
  bytes: number;
  /** Connections that the server closed. */
  closed: number;
  /** Clients that know that all members are present. */
  known: number;
}

/** The second digit of a Socket.IO packet that is a message. */
const MESSAGE_DIGIT = "2".charCodeAt(0);
const NOTHING = new Uint8Array(0);
/** A position beyond every buffer. */
const UNKNOWN = 2 ** 29;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** One connection. */
export class Client implements FrameHandler, SocketHandler {
  readonly isStalled: boolean;
  /** Whether a message that it waited for has arrived since the measurement began. */
  hasHeard = false;
  readonly #id: number;
  readonly #around: Surroundings;
  readonly #dialect: Dialect;
  readonly #message: Message;
  readonly #reader = new FrameReader(this);
  readonly #allKnown: Uint8Array;
  #fd = -1;
  #state: "connecting" | "in" | "closed" = "connecting";
  #hasUpgraded = false;
  #isKnown = false;
  /** Bytes that were read and are not complete yet. */
  #kept = NOTHING;
  /** Bytes that the network has not taken. */
  #unsent = NOTHING;
  /** How many messages the last read asks to send. */
  #owed = 0;
  /**
   * The position of a frame's first marker, and the gap from a marker's fields to the next marker.
   */
  #first = UNKNOWN;
  #gap = UNKNOWN;
  #leastGap = UNKNOWN;

  constructor(id: number, around: Surroundings) {
    const { dialect, stalledEvery = 0, clients, rooms } = around.plan;
    const { contentBytes = 64, isChinese = false } = around.plan;
    this.#id = id;
    this.#around = around;
    this.#dialect = DIALECTS[dialect];
    this.#message = new Message(this.#dialect, id, contentBytes, isChinese);
    this.#allKnown = encoder.encode(`"online":${clients / rooms}`);
    this.isStalled = stalledEvery > 0 && id % stalledEvery === stalledEvery - 1;
  }

  get frames(): number {
    return this.#reader.frames;
  }

  get isFirstOfRoom(): boolean {
    return this.#id < this.#around.plan.rooms;
  }

  get isSender(): boolean {
    return this.#id < (this.#around.plan.senders ?? this.#around.plan.clients);
  }

  /** Connects and asks to join. */
  connect(): void {
    const { sockets, plan: { port: first, siblings = [], rooms } } = this.#around;
    const ports = [first, ...siblings.map(({ port }) => port)];
    const port = ports[Math.floor(this.#id / rooms) % ports.length]!;
    this.#fd = sockets.connect(port);
    sockets.watch(this.#fd, this);
    const path = this.#dialect.path(roomName(this.#id % rooms), clientName(this.#id));
    this.#write(handshake(port, path, this.#dialect.subprotocol));
  }

  /** Sends a message that is due now, or was due earlier. */
  send(due = this.#around.clock()): void {
    if (this.#state === "closed") return;
    this.#around.count.sent++;
    this.#message.setTime(due);
    this.#write(this.#message.frame);
  }

  onReadable(): void {
    const around = this.#around;
    const { sockets, buffer, count } = around;
    const kept = this.#kept.length;
    if (kept > 0) buffer.set(this.#kept);
    const got = sockets.receive(this.#fd, buffer.subarray(kept, -1));
    if (got <= 0) return this.#end("the server ended a connection");
    around.readAt = around.clock();
    count.bytes += got;
    const to = kept + got;
    // Stops every search: the bytes behind it are from an earlier read.
    buffer[to] = MARKER;
    const end = this.#hasUpgraded ? this.#reader.read(buffer, to) : this.#readResponse(to);
    this.#kept = end < to ? buffer.slice(end, to) : NOTHING;
    if (around.answers) { for (let i = this.#owed; i > 0; i--) this.send(); }
    this.#owed = 0;
  }

  onWritable(): void {
    const data = this.#unsent;
    this.#unsent = NOTHING;
    this.#around.sockets.watchWritable(this.#fd, false);
    this.#write(data);
  }

  onText(data: Uint8Array, from: number, to: number, { isBegin, isEnd }: Piece): number {
    if (this.#around.plan.mode === "idle") return this.#lookForAll(data, from, to, isEnd);
    if (this.#dialect.hello !== undefined && this.#talk(data, from, to)) return to - from;
    const { plan, count, latency, readAt } = this.#around;
    const answersOthers = plan.mode === "pair";
    let at = from;
    // The guess saves a search. It skips no marker, since no gap is smaller than the smallest so
    // far.
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
      count.deliveries++;
      const took = readAt - timeAt(data, marker);
      latency.add(took > 0 ? took : 0);
      if ((senderAt(data, marker) === this.#id) !== answersOthers) {
        this.#owed++;
        this.hasHeard = true;
      }
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

  /** Reads the answer to the handshake, and the frames that follow it. */
  #readResponse(to: number): number {
    const { buffer, count } = this.#around;
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
    count.bytes -= end;
    buffer.copyWithin(0, end, to);
    const read = this.#reader.read(buffer, to - end);
    buffer.copyWithin(end, 0, to - end);
    return end + read;
  }

  #letIn(): void {
    this.#state = "in";
    this.#around.onConnected();
    if (this.isStalled) this.#around.sockets.forget(this.#fd);
  }

  #learnGap(gap: number): void {
    this.#leastGap = Math.min(this.#leastGap, gap);
    // A longer gap could contain another message.
    if (gap < 2 * this.#leastGap + FIELDS) this.#gap = gap;
  }

  /** Answers the packets of Socket.IO's own protocol. Returns whether the frame was one. */
  #talk(data: Uint8Array, from: number, to: number): boolean {
    const { hello, heartbeat } = this.#dialect;
    if (data[from + 1] === MESSAGE_DIGIT) return false;
    const text = decoder.decode(data.subarray(from, to));
    if (text.startsWith("0")) this.#write(clientFrame(hello!));
    else if (text === heartbeat!.asks) this.#write(clientFrame(heartbeat!.answer));
    else if (text.startsWith(hello!)) this.#letIn();
    return true;
  }

  /** Searches for the event that says that all members are present. */
  #lookForAll(data: Uint8Array, from: number, to: number, isEnd: boolean): number {
    if (!this.#isKnown && includes(data.subarray(from, to), this.#allKnown)) {
      this.#isKnown = true;
      this.#around.count.known++;
    }
    // The text may be split between two reads.
    return isEnd ? to - from : Math.max(0, to - from - this.#allKnown.length);
  }

  #write(data: Uint8Array): void {
    if (this.#unsent.length > 0) {
      this.#unsent = concat(this.#unsent, data);
      return;
    }
    const { sockets } = this.#around;
    const sent = Math.max(0, sockets.send(this.#fd, data));
    if (sent === data.length) return;
    this.#unsent = data.slice(sent);
    sockets.watchWritable(this.#fd, true);
  }

  #end(reason: string): void {
    if (this.#state === "closed") return;
    const { sockets, count } = this.#around;
    sockets.close(this.#fd);
    count.closed++;
    this.#around.onFailure(reason);
    if (this.#state === "connecting") this.#around.onConnected();
    this.#state = "closed";
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
