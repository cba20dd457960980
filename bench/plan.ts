/**
 * The task and the result of one run of the load. Both are passed as JSON.
 *
 * @module
 */

import type { DialectName } from "./dialects.ts";

/**
 * How the clients behave.
 *
 * - `own`: each sender sends its next message when its own last one comes back
 * - `pair`: each answers the other's message
 * - `rate`: random members send at a fixed rate, no matter what comes back
 * - `idle`: they only join
 */
export type Mode = "own" | "pair" | "rate" | "idle";

/** The task of one run of the load. */
export interface LoadPlan {
  /** The server's port, on the loopback address. */
  readonly port: number;
  /** The server's process, whose CPU time and memory are measured. */
  readonly pid: number;
  /** Other instances of the server: the members of a room are spread over all of them. */
  readonly siblings?: readonly { readonly port: number; readonly pid: number }[];
  readonly dialect: DialectName;
  readonly mode: Mode;
  readonly clients: number;
  /** Client `i` is in room `i % rooms`. */
  readonly rooms: number;
  /** How many of the clients send, in `own`. @default all */
  readonly senders?: number;
  /** Messages that each sender has in flight, in `own`. @default 1 */
  readonly outstanding?: number;
  /** Messages a second in all, in `rate`. */
  readonly rate?: number;
  /** Bytes of a message's text. @default 64 */
  readonly contentBytes?: number;
  /** Whether the text is Chinese, three bytes a character, instead of English. @default false */
  readonly isChinese?: boolean;
  /** 10: every tenth client never reads. 0: all read. @default 0 */
  readonly stalledEvery?: number;
  /** How long the load runs before the measurement, in seconds. */
  readonly warmSeconds: number;
  /** How long the measurement lasts. */
  readonly seconds: number;
  /** Ends the measurement after this many sent messages instead of after `seconds`. */
  readonly messages?: number;
  /** Threads of the load. */
  readonly workers: number;
}

/** How many clients receive a message: those in the room that read. */
export function readersOfRoom(
  { clients, rooms, stalledEvery = 0 }: Pick<LoadPlan, "clients" | "rooms" | "stalledEvery">,
): number {
  const stalled = stalledEvery === 0 ? 0 : Math.floor(clients / stalledEvery);
  return (clients - stalled) / rooms;
}

/** The result of one run of the load. Times are in seconds or milliseconds, as named. */
export interface LoadResult {
  /** How long the measurement lasted. */
  seconds: number;
  /** Messages sent. */
  sent: number;
  /** Messages received, counted for each member. */
  deliveries: number;
  deliveriesPerSecond: number;
  /** CPU time of the server, user and system. */
  serverCpuSeconds: number;
  deliveriesPerCpuSecond: number;
  messagesPerFrame: number;
  bytesPerDelivery: number;
  /** From sending to receiving; in `rate` from when a message was due. */
  p50Ms: number;
  p99Ms: number;
  maxMs: number;
  /** Share of a core that the busiest thread of the load used. */
  loadShare: number;
  /** In `rate`, 99 of 100 messages were sent at most this long after they were due. */
  lateMs: number;
  /**
   * The server's memory before the first connection, at the begin and end of the measurement, and
   * its maximum.
   */
  rssBeforeKb: number;
  rssBeginKb: number;
  rssEndKb: number;
  rssMaxKb: number;
  /** The time and the cost of connecting all clients. */
  joinSeconds: number;
  joinCpuSeconds: number;
  joinBytes: number;
  joinFrames: number;
  /** In `idle`: how many clients learnt that all members are present. */
  joinKnown: number;
  /** Deliveries that were due and did not arrive, after a wait. */
  lost: number;
  /** Connections that the server closed. */
  closed: number;
  /** In `own` and `pair`: senders that received no message that they waited for. */
  starved: number;
  /** Why the run failed, as a sentence. */
  failure?: string;
}
