/**
 * From a request to an open socket: the checks before the upgrade, the upgrade, and the handling of
 * frames from an open socket.
 *
 * Every check comes before `Deno.upgradeWebSocket`: after that call a request can no longer be
 * refused. Every event of an open socket is guarded: the runtime ends the process when a handler
 * throws.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import type { Context } from "hono";
import { Outbox, type OutboxLimits } from "../delivery/outbox.ts";
import { badRequest, ChatError } from "../errors.ts";
import { errorFields, type LogFields, type Logger } from "../logger.ts";
import { LOBBY, parseName } from "../names.ts";
import type { Accounts } from "../people/accounts.ts";
import { CLOSE, type CloseReason, ERROR_CLOSE } from "../protocol/codes.ts";
import type { SizeLimits } from "../protocol/commands.ts";
import { encode, SUBPROTOCOL } from "../protocol/encode.ts";
import { errorEvent } from "../protocol/events.ts";
import { type Rate, type RateLimiter, TokenBucket, type TrafficLimiter } from "../rate_limit.ts";
import { addressKey, addressOf, limitAddress } from "./addresses.ts";
import type { Connections, Holder } from "./connections.ts";
import { identify, readTokens } from "./credentials.ts";
import { asksForUpgrade, checkHandshake, checkMethod, offeredProtocols } from "./handshake.ts";
import { checkOrigin, type TrustSettings } from "./origins.ts";
import { queryOf } from "./queries.ts";
import type { JoinedMember, JoinRequest, Resume, Rooms } from "./rooms.ts";

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
export interface SocketsOptions {
  readonly hub: Rooms;
  readonly accounts: Accounts;
  readonly connections: Connections;
  readonly limits: SocketLimits;
  readonly settings: SocketSettings;
  /** Attempts to open a socket, by address. */
  readonly joinLimiter: RateLimiter;
  /** What each address may send. */
  readonly traffic: TrafficLimiter;
  readonly logger: Logger;
  /** Writes what clients are refused: a throttled logger. */
  readonly refusals: Logger;
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
  /** The address and the account that it counts for. */
  readonly holder: Holder;
  /** The subprotocol that the server will speak; absent for none. */
  readonly protocol?: string | undefined;
  /** @throws {ChatError} if the room does not admit it any more */
  readonly open: (socket: WebSocket) => SocketHandler;
  /** Closes a socket that `open` or a connection limit refuses. */
  readonly refuse: (socket: WebSocket, error: ChatError) => void;
}

/** Answers the requests for WebSockets. */
export class Sockets {
  readonly #options: SocketsOptions;

  constructor(options: SocketsOptions) {
    this.#options = options;
  }

  /** Joins the lobby without a name: the raw relay. */
  async relay(c: Context): Promise<Response> {
    this.#checkAllowed(c);
    const { accounts, settings } = this.#options;
    const identity = await identify(c, accounts, settings);
    return await this.#enter(c, { room: LOBBY, format: "raw", identity });
  }

  /** Joins a room with the name and the options in the query. */
  async join(c: Context, room: string): Promise<Response> {
    this.#checkAllowed(c);
    const { accounts, settings } = this.#options;
    const request = readJoin(c, room, settings);
    const identity = await identify(c, accounts, settings);
    const username = request.username ?? identity.account?.username;
    if (username === undefined) throw incomplete();
    await accounts.checkName(identity, username);
    return await this.#enter(c, { ...request, username, identity });
  }

  /** Opens a socket that returns what it receives. */
  async echo(c: Context): Promise<Response> {
    this.#checkAllowed(c);
    const { accounts, settings } = this.#options;
    const { account } = await identify(c, accounts, settings);
    const holder = this.#holder(c, account?.key);
    return this.#upgrade(c, {
      holder,
      open: (socket) => new EchoSocket(socket, holder.address, this.#options),
      refuse: (socket, { code }) => close(socket, ERROR_CLOSE[code]),
    });
  }

  /** Checks the method, the origin and the rate of attempts, before any check that costs more. */
  #checkAllowed(c: Context): void {
    checkMethod(c.req.raw);
    const { settings, joinLimiter } = this.#options;
    checkOrigin(c, settings);
    limitAddress(joinLimiter, addressOf(c, settings), "connections at once");
  }

  async #enter(c: Context, wanted: JoinRequest): Promise<Response> {
    const { hub, connections } = this.#options;
    const holder = this.#holder(c, wanted.identity.account?.key);
    const request = { ...wanted, address: addressKey(holder.address) };
    const protocol = request.format === "v1" ? SUBPROTOCOL : undefined;
    connections.check(holder);
    if (asksForUpgrade(c.req.raw)) {
      checkHandshake(c.req.raw, protocol);
      await hub.admit(request);
    } else await hub.check(request);
    return this.#upgrade(c, {
      holder,
      protocol,
      open: (socket) => joinRoom(socket, request, holder.address, this.#options),
      refuse: (socket, error) => refuseMember(socket, request, error),
    });
  }

  /** The runtime knows a peer's address only until the upgrade. */
  #holder(c: Context, account: string | undefined): Holder {
    return { address: addressOf(c, this.#options.settings), account };
  }

  #upgrade(c: Context, plan: SocketPlan): Response {
    const { connections, settings } = this.#options;
    connections.check(plan.holder);
    checkHandshake(c.req.raw, plan.protocol);
    const { socket, response } = Deno.upgradeWebSocket(c.req.raw, {
      idleTimeout: settings.pongWaitSeconds,
    });
    // The runtime's own option for this needs a space after each comma of the request's list.
    if (plan.protocol !== undefined) {
      response.headers.set("sec-websocket-protocol", plan.protocol);
    }
    this.#attach(socket, plan, c.req.path);
    return response;
  }

  #attach(socket: WebSocket, plan: SocketPlan, path: string): void {
    let handler: SocketHandler | undefined;
    socket.binaryType = "arraybuffer";
    // An aborted handshake fires no event at all, so a connection counts from its `open` on.
    socket.onopen = () => this.#guard(socket, () => handler = this.#open(socket, plan, path));
    socket.onmessage = ({ data }) => this.#guard(socket, () => handler?.message(data));
    socket.onclose = (event) => {
      this.#options.connections.delete(socket);
      this.#guard(socket, () => handler?.close(event));
    };
    // A close event follows, and is handled.
    socket.onerror = (event) => event.preventDefault();
  }

  #open(socket: WebSocket, plan: SocketPlan, path: string): SocketHandler | undefined {
    const { connections, refusals } = this.#options;
    try {
      connections.add(socket, plan.holder);
      return plan.open(socket);
    } catch (error) {
      // The room or the limits may have changed since the checks before the upgrade.
      if (!(error instanceof ChatError)) throw error;
      const { address, account } = plan.holder;
      refusals.info("refused", { path, address, account, reason: error.message });
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

/** Reads the room, the name and the options of a request. */
function readJoin(
  c: Context,
  room: string,
  settings: TrustSettings,
): Omit<JoinRequest, "identity"> {
  const username = queryOf(c, "username");
  // A request with a token need not name its user: the account has a name.
  const isNamed = username !== undefined || readTokens(c, settings).length > 0;
  if (room.trim() === "" || username?.trim() === "" || !isNamed) throw incomplete();
  const isV1 = offeredProtocols(c.req.raw).includes(SUBPROTOCOL);
  return {
    room: parseName("room", room),
    ...(username !== undefined && { username: parseName("username", username) }),
    format: isV1 ? "v1" : readFormat(queryOf(c, "format")),
    echo: c.req.query("echo") !== "0",
    resume: isV1 ? readResume(c) : undefined,
  };
}

function incomplete(): ChatError {
  return badRequest("room and username are required");
}

function readFormat(format = "json"): "json" | "text" {
  if (format === "json" || format === "text") return format;
  throw badRequest("The format must be json or text.");
}

/** Reads the place up to which the client has seen everything: `?epoch=E&after=SEQ&inbox=N`. */
function readResume(c: Context): Resume | undefined {
  const epoch = queryOf(c, "epoch");
  const after = readWhole(c, "after");
  const inbox = readWhole(c, "inbox");
  if (epoch === undefined && after === undefined) return undefined;
  if (epoch !== undefined && after !== undefined) return { epoch, after, inbox };
  throw badRequest("To resume, give both epoch and after.");
}

function readWhole(c: Context, name: string): number | undefined {
  const text = queryOf(c, name);
  if (text === undefined) return undefined;
  const value = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(value)) return value;
  throw badRequest(`${name} must be a whole number.`);
}

/**
 * Makes a socket a member of a room.
 *
 * @throws {ChatError} if the room does not admit it any more
 */
function joinRoom(
  socket: WebSocket,
  request: JoinRequest,
  address: string | undefined,
  { hub, accounts, logger, refusals }: SocketsOptions,
): SocketHandler {
  const { room, username, identity } = request;
  const fields = { room, username, address };
  const member = hub.join(socket, request);
  logger.info("joined", fields);
  accounts.confirm(identity, username).catch((error) => {
    // Other requests report a failing store.
    if (!(error instanceof ChatError) || error.code !== "unauthenticated") return;
    if (member.isGone) return;
    refusals.info("refused", { ...fields, reason: error.message });
    hub.leave(member);
    refuseMember(socket, request, error);
  });
  return new RoomSocket(member, hub, { logger, refusals }, fields);
}

/** Sends the reason of a refusal in the format that the client asked for, and closes the socket. */
function refuseMember(
  socket: WebSocket,
  { room, format = "json" }: JoinRequest,
  error: ChatError,
): void {
  socket.send(encode(errorEvent(room, error), format)!);
  close(socket, ERROR_CLOSE[error.code]);
}

/** The socket of a member. */
class RoomSocket implements SocketHandler {
  readonly #member: JoinedMember;
  readonly #hub: Rooms;
  readonly #loggers: Pick<SocketsOptions, "logger" | "refusals">;
  readonly #fields: LogFields;

  constructor(
    member: JoinedMember,
    hub: Rooms,
    loggers: Pick<SocketsOptions, "logger" | "refusals">,
    fields: LogFields,
  ) {
    this.#member = member;
    this.#hub = hub;
    this.#loggers = loggers;
    this.#fields = fields;
  }

  message(data: string | ArrayBuffer): void {
    if (typeof data === "string") return this.#hub.receive(this.#member, data);
    this.#loggers.refusals.info("binary frame refused", this.#fields);
    this.#hub.dismiss(this.#member, CLOSE.binary);
  }

  close({ code, wasClean }: CloseEvent): void {
    if (this.#member.isGone) return;
    this.#loggers.logger.info("left", { ...this.#fields, code, wasClean });
    this.#hub.leave(this.#member);
  }
}

/** A socket that returns what it receives, text as text and binary as binary. */
class EchoSocket implements SocketHandler {
  readonly #socket: WebSocket;
  readonly #outbox: Outbox;
  readonly #address: string;
  readonly #allowance: TokenBucket;
  readonly #options: SocketsOptions;

  constructor(socket: WebSocket, address: string | undefined, options: SocketsOptions) {
    this.#socket = socket;
    this.#address = addressKey(address);
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
