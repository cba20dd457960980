/**
 * One client of a load on any server: a guest on `chat.v1` that reads everything, over the
 * runtime's own WebSocket.
 *
 * The clients of the comparison (`bench/client.ts`) are faster, but only use the loopback address.
 *
 * @module
 */

import { DIALECTS } from "../dialects.ts";
import { Receipts, type RoomLedger, type Tally } from "./ledger.ts";

/** Maximum time for a join, and for the reason of a refusal, in milliseconds. */
const JOIN_MS = 10_000;
/** A visitor holds its messages back while more bytes than this wait for the network. */
const MAX_BUFFERED = 1024 * 1024;

const { path: pathOf, subprotocol, message } = DIALECTS.v1;

/** The state that all visitors of a load share. */
export interface Surroundings {
  /** The address of the server, which ends with a slash: `ws:` or `wss:`. */
  readonly base: URL;
  readonly tally: Tally;
  readonly content: string;
  /** Microseconds since the load began. */
  clock(): number;
}

/** The part of an event that a load reads. */
interface Told {
  readonly type: string;
  readonly ref?: string;
  readonly code?: string;
  readonly seq?: number;
  readonly history?: true;
}

/** One connection. */
export class Visitor {
  readonly room: RoomLedger;
  readonly receipts = new Receipts();
  readonly #number: number;
  readonly #around: Surroundings;
  readonly #url: URL;
  #socket: WebSocket | undefined;
  #isIn = false;
  #isLeaving = false;
  #seq = 0;
  #onLetIn = () => {};

  constructor(number: number, name: string, room: RoomLedger, around: Surroundings) {
    this.#number = number;
    this.#around = around;
    this.room = room;
    this.#url = new URL(pathOf(room.name, name).slice(1), around.base);
  }

  /** Whether it is in its room. */
  get isIn(): boolean {
    return this.#isIn;
  }

  /** Joins, or counts why it cannot. */
  async join(): Promise<void> {
    const { tally } = this.#around;
    if (await this.#connect()) tally.connected++;
    else if (!this.#isLeaving) tally.turnedAway.add(await this.#askWhy());
  }

  /** Sends a message that is due now, or was due earlier. */
  send(due: number): void {
    const { tally, content } = this.#around;
    if (this.#socket!.bufferedAmount > MAX_BUFFERED) {
      tally.held++;
      return;
    }
    tally.sent++;
    this.#socket!.send(message(content, this.room.add(this.#number, due)));
  }

  /** Leaves. Resolves when the server has answered, which may be never. */
  leave(): Promise<void> {
    this.#isLeaving = true;
    const socket = this.#socket;
    if (socket === undefined || socket.readyState >= WebSocket.CLOSING) return Promise.resolve();
    const closed = new Promise<void>((resolve) =>
      socket.addEventListener("close", () => resolve())
    );
    socket.close(1000);
    return closed;
  }

  /** Resolves to whether it has joined, within {@linkcode JOIN_MS}. */
  async #connect(): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const socket = this.#socket = new WebSocket(this.#url, subprotocol);
    this.#onLetIn = () => resolve(true);
    socket.onmessage = ({ data }) => this.#read(data);
    socket.onerror = (event) => event.preventDefault();
    socket.onclose = ({ code }) => {
      resolve(false);
      this.#end(code);
    };
    const timer = setTimeout(() => resolve(false), JOIN_MS);
    const isIn = await promise;
    clearTimeout(timer);
    if (isIn) return true;
    socket.onmessage = socket.onclose = null;
    socket.close();
    return false;
  }

  /** Why the upgrade was refused: the status of a plain request at the same address. */
  async #askWhy(): Promise<string> {
    const url = new URL(this.#url);
    url.protocol = url.protocol.replace("ws", "http");
    try {
      const response = await fetch(url, { signal: AbortSignal.timeout(JOIN_MS) });
      await response.body?.cancel();
      return response.status === 426 ? "cut off while joining" : String(response.status);
    } catch {
      return "no answer";
    }
  }

  #read(data: unknown): void {
    let told: Told | readonly Told[];
    try {
      told = JSON.parse(String(data));
    } catch {
      return;
    }
    for (const event of [told].flat() as Told[]) this.#take(event);
  }

  #take({ type, ref, code, seq, history }: Told): void {
    const { tally } = this.#around;
    if (type === "chat" && !history) this.#receive(ref, seq);
    else if (type === "ack" && this.room.settle(ref ?? "", "stored")) tally.countStored(this.#ms());
    else if (type === "error") {
      this.room.settle(ref ?? "", "refused");
      tally.refused.add(code ?? "error");
    } else if (type === "welcome") {
      this.#isIn = true;
      this.#onLetIn();
    }
  }

  #receive(ref: string | undefined, seq = 0): void {
    const { tally, clock } = this.#around;
    const due = this.room.dueOf(ref);
    // Somebody else is in the room.
    if (due === undefined) return;
    if (!this.receipts.add(Number(ref))) {
      tally.doubled++;
      return;
    }
    if (seq <= this.#seq) tally.outOfOrder++;
    this.#seq = Math.max(this.#seq, seq);
    tally.countDelivery(this.#ms(), Math.max(0, Math.round(clock() - due)));
  }

  #end(code: number): void {
    if (this.#isIn && !this.#isLeaving) this.#around.tally.cutOff.add(String(code || "no code"));
    this.#isIn = false;
  }

  #ms(): number {
    return this.#around.clock() / 1000;
  }
}
