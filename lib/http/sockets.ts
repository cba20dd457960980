/**
 * From a request to an open socket: the checks before the upgrade, the upgrade, and the handling of
 * the frames.
 *
 * Every check comes before `Deno.upgradeWebSocket`: after that call a request can no longer be
 * refused. Every event of an open socket is guarded, because an error that a handler throws would
 * end the process.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import type { Context } from "hono";
import { Outbox, type OutboxLimits } from "../delivery/outbox.ts";
import { ChatError } from "../errors.ts";
import { errorFields } from "../logger.ts";
import { LOBBY } from "../names.ts";
import { CLOSE, type CloseReason, ERROR_CLOSE } from "../protocol/codes.ts";
import type { SizeLimits } from "../protocol/commands.ts";
import { SUBPROTOCOL } from "../protocol/encode.ts";
import { type Rate, type RateLimiter, TokenBucket, type TrafficLimiter } from "../rate_limit.ts";
import { addressOf, type ClientAddress, limitAddress } from "./addresses.ts";
import { type Connections, type Holder, holderOf } from "./connections.ts";
import { identify } from "./credentials.ts";
import { asksForUpgrade, checkHandshake, checkMethod } from "./handshake.ts";
import { readSocketJoin } from "./joins.ts";
import { Membership, type MembershipOptions, refuse } from "./membership.ts";
import { checkOrigin, type TrustSettings } from "./origins.ts";
import type { JoinRequest } from "./rooms.ts";

/** Which requests may open a socket, and how long a socket may be silent. */
export interface SocketSettings extends TrustSettings {
  /**
   * How long a silent peer counts as alive, in seconds; pings are sent at half of it. 0 for no
   * limit.
   */
  readonly pongWaitSeconds: number;
}

/** What one socket may send, and how far behind it may fall. */
export interface SocketLimits extends OutboxLimits, SizeLimits {
  /** How often one connection may send a frame. */
  readonly messageRate: Rate;
}

/** What {@linkcode Sockets} needs. */
export interface SocketsOptions extends MembershipOptions {
  readonly connections: Connections;
  readonly limits: SocketLimits;
  readonly settings: SocketSettings;
  /** Attempts to open a socket, by address. */
  readonly joinLimiter: RateLimiter;
  /** Limits what each address sends. */
  readonly traffic: TrafficLimiter;
  /** The time in milliseconds. */
  readonly clock: () => number;
}

/** Handles one open socket. Its methods may throw: the socket then closes with 1011. */
interface SocketHandler {
  message(data: string | ArrayBuffer): void;
  close(event: CloseEvent): void;
}

/** How one socket is counted, opened or refused. */
interface SocketPlan {
  /** The client's address, for the log. */
  readonly address: string | undefined;
  /** The address and the account that it counts for. */
  readonly holder: Holder;
  /** The subprotocol that the server will speak; absent for none. */
  readonly protocol?: string | undefined;
  /** @throws {ChatError} if the room no longer admits it */
  readonly open: (socket: WebSocket) => SocketHandler;
  /** Closes a socket that `open` or a connection limit refuses. */
  readonly refuse: (socket: WebSocket, error: ChatError) => void;
}

/** Answers requests for WebSockets. */
export class Sockets {
  readonly #options: SocketsOptions;

  constructor(options: SocketsOptions) {
    this.#options = options;
  }

  /** Joins the lobby without a name: the raw relay. */
  async relay(c: Context): Promise<Response> {
    const address = this.#checkAllowed(c);
    const { accounts, settings } = this.#options;
    const identity = await identify(c, accounts, settings);
    return await this.#enter(c, address, { room: LOBBY, format: "raw", identity });
  }

  /** Joins a room with the name and the options in the query. */
  async join(c: Context, room: string): Promise<Response> {
    const address = this.#checkAllowed(c);
    const { accounts, settings } = this.#options;
    return await this.#enter(c, address, await readSocketJoin(c, room, accounts, settings));
  }

  /** Opens a socket that returns what it receives. */
  async echo(c: Context): Promise<Response> {
    const address = this.#checkAllowed(c);
    const { accounts, settings } = this.#options;
    const holder = holderOf(address, await identify(c, accounts, settings));
    return this.#upgrade(c, {
      address: address.text,
      holder,
      open: (socket) => new EchoSocket(socket, address.key, this.#options),
      refuse: (socket, { code }) => close(socket, ERROR_CLOSE[code]),
    });
  }

  /**
   * Checks the method, the origin and the rate of attempts, before any check that costs more.
   *
   * @returns the client's address, which the runtime knows only until the upgrade
   */
  #checkAllowed(c: Context): ClientAddress {
    checkMethod(c.req.raw);
    const { settings, joinLimiter } = this.#options;
    checkOrigin(c, settings);
    const address = addressOf(c, settings);
    limitAddress(joinLimiter, address, "connections at once");
    return address;
  }

  async #enter(c: Context, address: ClientAddress, wanted: JoinRequest): Promise<Response> {
    const { hub, connections } = this.#options;
    const holder = holderOf(address, wanted.identity);
    const request = { ...wanted, address: address.key };
    const protocol = request.format === "v1" ? SUBPROTOCOL : undefined;
    connections.check(holder);
    if (asksForUpgrade(c.req.raw)) {
      checkHandshake(c.req.raw, protocol);
      await hub.admit(request);
    } else await hub.check(request);
    return this.#upgrade(c, {
      address: address.text,
      holder,
      protocol,
      open: (socket) => Membership.join(socket, request, address.text, this.#options),
      refuse: (socket, error) => refuse(socket, request, error),
    });
  }

  #upgrade(c: Context, plan: SocketPlan): Response {
    const { connections, settings } = this.#options;
    connections.check(plan.holder);
    if (!asksForUpgrade(c.req.raw)) return answerProbe(c);
    checkHandshake(c.req.raw, plan.protocol);
    const { socket, response } = Deno.upgradeWebSocket(c.req.raw, {
      idleTimeout: settings.pongWaitSeconds,
    });
    // Deno's own option for this expects a space after each comma of the request's list.
    if (plan.protocol !== undefined) {
      response.headers.set("sec-websocket-protocol", plan.protocol);
    }
    this.#attach(socket, plan, c.req.path);
    return response;
  }

  #attach(socket: WebSocket, plan: SocketPlan, path: string): void {
    socket.binaryType = "arraybuffer";
    // A close event follows.
    socket.addEventListener("error", (event) => event.preventDefault());
    // An aborted handshake fires no event at all, so a connection counts from its `open` event on.
    socket.addEventListener("open", () => {
      let handler: SocketHandler | undefined;
      this.#guard(socket, () => handler = this.#open(socket, plan, path));
      this.#listen(socket, handler);
    }, { once: true });
  }

  /**
   * Listens to an open socket. Listeners are smaller and faster than the runtime's wrappers for
   * `onmessage` and its like.
   *
   * @param handler absent for a socket that is refused
   */
  #listen(socket: WebSocket, handler: SocketHandler | undefined): void {
    socket.addEventListener("message", ({ data }) => {
      this.#guard(socket, () => handler?.message(data));
    });
    socket.addEventListener("close", (event) => {
      this.#options.connections.delete(socket);
      this.#guard(socket, () => handler?.close(event));
    });
  }

  #open(socket: WebSocket, plan: SocketPlan, path: string): SocketHandler | undefined {
    const { connections, refusals, meter } = this.#options;
    try {
      connections.add(socket, plan.holder);
      return plan.open(socket);
    } catch (error) {
      // The room or the limits may have changed since the checks before the upgrade.
      if (!(error instanceof ChatError)) throw error;
      const { address, holder: { account } } = plan;
      refusals.info("refused", { path, address, account, reason: error.message });
      meter?.refused("join", error.code);
      plan.refuse(socket, error);
      return undefined;
    }
  }

  #guard(socket: WebSocket, handle: () => void): void {
    try {
      handle();
    } catch (error) {
      this.#options.logger.error("socket handler failed", errorFields(error));
      close(socket, CLOSE.internal);
    }
  }
}

/**
 * Answers a request without an upgrade that would be accepted with one (RFC 9110, section 15.5.22).
 */
function answerProbe(c: Context): Response {
  const headers = { upgrade: "websocket", connection: "Upgrade", "cache-control": "no-store" };
  return c.json({ error: "upgrade required" }, 426, headers);
}

/** A socket that returns what it receives, text as text and binary as binary. */
class EchoSocket implements SocketHandler {
  readonly #socket: WebSocket;
  readonly #outbox: Outbox;
  readonly #address: string;
  readonly #allowance: TokenBucket;
  readonly #options: SocketsOptions;

  /** @param address the key of the client's address */
  constructor(socket: WebSocket, address: string, options: SocketsOptions) {
    this.#socket = socket;
    this.#address = address;
    this.#outbox = new Outbox(socket, options.limits);
    this.#allowance = new TokenBucket(options.limits.messageRate, options.clock());
    this.#options = options;
  }

  message(data: string | ArrayBuffer): void {
    const { limits, traffic, clock } = this.#options;
    const size = typeof data === "string" ? Buffer.byteLength(data) : data.byteLength;
    const seconds = this.#allowance.take(clock()) || traffic.take(this.#address, size);
    if (seconds > 0) return close(this.#socket, CLOSE.rateLimit);
    if (size > limits.maxFrameBytes) return close(this.#socket, CLOSE.tooBig);
    if (this.#outbox.isOverdue(clock())) return close(this.#socket, CLOSE.tooSlow);
    this.#outbox.send(data, clock());
  }

  close(): void {}
}

function close(socket: WebSocket, { code, reason }: CloseReason): void {
  socket.close(code, reason);
}
