/**
 * Rooms as streams of Server-Sent Events, for clients whose network blocks WebSockets, and for
 * programs that only read.
 *
 * A reader with a name or an account is a member like any other. A reader without either is not
 * present in the room.
 *
 * @module
 */

import type { Context } from "hono";
import type { RateLimiter } from "../rate_limit.ts";
import type { After } from "../time.ts";
import { addressOf, limitAddress } from "./addresses.ts";
import { type Connections, type Holder, holderOf } from "./connections.ts";
import { EventStream } from "./event_stream.ts";
import { readStreamJoin } from "./joins.ts";
import { Membership, type MembershipOptions } from "./membership.ts";
import type { TrustSettings } from "./origins.ts";
import type { JoinRequest } from "./rooms.ts";

/**
 * The time between two heartbeats, in milliseconds. Some proxies end a stream after 30 silent
 * seconds.
 */
const HEARTBEAT_MS = 15_000;

/** A comment, which readers ignore. */
const HEARTBEAT = ":\n\n";

/** Minimum and maximum time that a reader waits before it reconnects, in milliseconds. */
const MIN_RETRY_MS = 1000;
const MAX_RETRY_MS = 5000;

const HEADERS = {
  "content-type": "text/event-stream",
  "cache-control": "no-store, no-transform",
  // Without it, nginx buffers the events up to a few thousand bytes.
  "x-accel-buffering": "no",
} as const;

/** What {@linkcode Streams} needs. */
export interface StreamsOptions extends MembershipOptions {
  readonly connections: Connections;
  readonly settings: TrustSettings;
  /** Attempts to join, by address. */
  readonly joinLimiter: RateLimiter;
  readonly after: After;
}

/** Answers requests for event streams. */
export class Streams {
  readonly #options: StreamsOptions;
  readonly #open = new Set<EventStream>();
  #isBeating = false;

  constructor(options: StreamsOptions) {
    this.#options = options;
  }

  /**
   * Answers with the events of a room.
   *
   * @throws {ChatError} if the room does not admit the reader
   */
  async open(c: Context, room: string): Promise<Response> {
    const { accounts, connections, hub, joinLimiter, settings } = this.#options;
    const address = addressOf(c, settings);
    limitAddress(joinLimiter, address, "connections at once");
    const wanted = await readStreamJoin(c, room, accounts, settings);
    const request = { ...wanted, address: address.key };
    const holder = holderOf(address, request.identity);
    connections.check(holder);
    if (c.req.method === "HEAD") {
      await hub.check(request);
      return c.body(null, 200, HEADERS);
    }
    await hub.admit(request);
    return c.body(this.#join(request, holder, address.text), 200, HEADERS);
  }

  /** Sends heartbeats to streams with nothing to send, until the last stream has ended. */
  #beat(): void {
    if (this.#isBeating || this.#open.size === 0) return;
    this.#isBeating = true;
    this.#options.after(HEARTBEAT_MS, () => {
      this.#isBeating = false;
      for (const stream of this.#open) if (stream.bufferedAmount === 0) stream.send(HEARTBEAT);
      this.#beat();
    });
  }

  /** Makes a new stream a member of a room. */
  #join(request: JoinRequest, holder: Holder, address: string | undefined): EventStream["body"] {
    const { connections } = this.#options;
    const stream = new EventStream(() => {
      connections.delete(stream);
      this.#open.delete(stream);
      membership?.close();
    });
    connections.add(stream, holder);
    stream.send(`retry: ${retryMs()}\n\n`);
    let membership: Membership | undefined;
    try {
      membership = Membership.join(stream, request, address, this.#options);
    } catch (error) {
      connections.delete(stream);
      throw error;
    }
    this.#open.add(stream);
    this.#beat();
    return stream.body;
  }
}

/** A random time, so that after a restart the readers do not reconnect all at once. */
function retryMs(): number {
  return Math.round(MIN_RETRY_MS + Math.random() * (MAX_RETRY_MS - MIN_RETRY_MS));
}
