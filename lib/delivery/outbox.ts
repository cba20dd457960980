/**
 * The outbox of one peer: sends frames, and measures how far behind the peer is.
 *
 * A WebSocket queues without limit for a peer that does not read. Its `bufferedAmount` is the only
 * sign, and counts bytes only. From it, an outbox derives how many frames wait, and for how long.
 *
 * @module
 */

import { clear } from "./lists.ts";

/** The part of a `WebSocket` that sending needs. */
export interface Peer {
  /** Bytes that were sent and have not left for the network yet. */
  readonly bufferedAmount: number;
  send(data: string | ArrayBuffer): void;
  close(code?: number, reason?: string): void;
}

/** How far behind a peer may fall. */
export interface OutboxLimits {
  /** Maximum frames that wait; `Infinity` for no limit. */
  readonly sendQueueFrames: number;
  /** Maximum bytes that wait; `Infinity` for no limit. */
  readonly sendQueueBytes: number;
  /** Maximum time in which nothing leaves, in milliseconds; `Infinity` for no limit. */
  readonly writeWaitMs: number;
}

/** Sends to one {@linkcode Peer}, and measures how far behind it is. */
export class Outbox {
  readonly #peer: Peer;
  readonly #limits: OutboxLimits;
  /** Sizes of the frames that may still wait, oldest first. */
  readonly #waiting: number[] = [];
  /** The sum of `#waiting`. */
  #bytes = 0;
  /** When bytes last left, or the queue was last empty, in milliseconds. */
  #progressAt = 0;
  #wasBehind = false;

  /** @param limits how far behind the peer may fall */
  constructor(peer: Peer, limits: OutboxLimits) {
    this.#peer = peer;
    this.#limits = limits;
  }

  /**
   * Sends one frame. Never throws: the close event handles a peer that is gone.
   *
   * @param now the time in milliseconds
   * @returns by how many bytes the peer's queue has grown; 0 if the frame has left, or is lost
   */
  send(data: string | ArrayBuffer, now: number): number {
    const before = this.#peer.bufferedAmount;
    try {
      this.#peer.send(data);
    } catch {
      return 0;
    }
    const size = this.#peer.bufferedAmount - before;
    if (size <= 0) return 0;
    if (this.#waiting.length === 0) this.#progressAt = now;
    this.#waiting.push(size);
    this.#bytes += size;
    return size;
  }

  /**
   * Whether the peer cannot keep up: too much waits, or nothing has left for too long.
   *
   * Call it before the frames of a turn are sent, not between them: nothing leaves during a turn,
   * so only then are all waiting frames from earlier turns.
   *
   * @param now the time in milliseconds
   */
  isOverdue(now: number): boolean {
    this.#settle(now);
    this.#wasBehind = this.#waiting.length > 0;
    return this.isOverfull() ||
      (this.#waiting.length > 0 && now - this.#progressAt >= this.#limits.writeWaitMs);
  }

  /** Whether a maximum is exceeded. For a peer that is behind, check it between frames too. */
  isOverfull(): boolean {
    return this.#waiting.length > this.#limits.sendQueueFrames ||
      this.#bytes > this.#limits.sendQueueBytes;
  }

  /** Whether anything waited at the last {@linkcode isOverdue}. */
  get wasBehind(): boolean {
    return this.#wasBehind;
  }

  /** Forgets the frames that have left since the last call. */
  #settle(now: number): void {
    const left = this.#peer.bufferedAmount;
    if (left < this.#bytes) this.#progressAt = now;
    if (left === 0) {
      clear(this.#waiting);
      this.#bytes = 0;
      return;
    }
    let gone = 0;
    while (gone < this.#waiting.length && this.#bytes - this.#waiting[gone]! >= left) {
      this.#bytes -= this.#waiting[gone++]!;
    }
    if (gone > 0) this.#waiting.splice(0, gone);
  }
}
