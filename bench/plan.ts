/**
 * What one run of the load is asked to do, and what it has seen. Both travel as JSON.
 *
 * @module
 */

import type { DialectName } from "./dialects.ts";

/**
 * How the clients behave.
 *
 * - `own`: each sender sends its next message when it sees its own last one come back
 * - `pair`: each answers the other's message
 * - `rate`: so many messages a second from members taken at random, no matter what comes back
 * - `idle`: they join, and that is all
 */
export type Mode = "own" | "pair" | "rate" | "idle";

/** What one run of the load does. */
export interface LoadPlan {
  /** Where the server listens, on the loopback address. */
  readonly port: number;
  /** The server's process: its CPU time and memory are measured. */
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
  /** Messages that each sender has under way, in `own`. @default 1 */
  readonly outstanding?: number;
  /** Messages a second in all, in `rate`. */
  readonly rate?: number;
  /** Bytes of a message's text. @default 64 */
  readonly contentBytes?: number;
  /** 10: every tenth client reads nothing, ever. 0: all read. @default 0 */
  readonly stalledEvery?: number;
  /** How long the load runs before it is measured, in seconds. */
  readonly warmSeconds: number;
  /** How long it is measured. */
  readonly seconds: number;
  /** Ends the measurement when so many messages have been sent, instead of after `seconds`. */
  readonly messages?: number;
  /** Threads that make the load. */
  readonly workers: number;
}

/** How many get a message: all in the room who read at all. */
export function readersOfRoom(
  { clients, rooms, stalledEvery = 0 }: Pick<LoadPlan, "clients" | "rooms" | "stalledEvery">,
): number {
  const stalled = stalledEvery === 0 ? 0 : Math.floor(clients / stalledEvery);
  return (clients - stalled) / rooms;
}

/** What one run of the load has seen. Times are in seconds or milliseconds, as named. */
export interface LoadResult {
  /** How long was measured. */
  seconds: number;
  /** Messages sent. */
  sent: number;
  /** Messages received, each member's counted. */
  deliveries: number;
  deliveriesPerSecond: number;
  /** CPU time of the server, user and system. */
  serverCpuSeconds: number;
  deliveriesPerCpuSecond: number;
  messagesPerFrame: number;
  bytesPerDelivery: number;
  /** From sending to receiving; in `rate` from when it was due to be sent. */
  p50Ms: number;
  p99Ms: number;
  maxMs: number;
  /** Share of a core that the busiest thread of the load used. */
  loadShare: number;
  /** 99 of 100 messages of `rate` were sent no later than this after they were due. */
  lateMs: number;
  /** The server's memory: before anybody connected, when the measurement began and ended, and most. */
  rssBeforeKb: number;
  rssBeginKb: number;
  rssEndKb: number;
  rssMaxKb: number;
  /** Connecting everybody: how long it took, and what it cost. */
  joinSeconds: number;
  joinCpuSeconds: number;
  joinBytes: number;
  joinFrames: number;
  /** In `idle`: how many clients were told that all are there. */
  joinKnown: number;
  /** Messages that should have come and did not, after a wait. */
  lost: number;
  /** Connections that the server closed. */
  closed: number;
  /** What kept the run from being one, as a sentence. */
  failure?: string;
}
