/**
 * HTTP: the routes, the checks before an upgrade, and the upgrade.
 *
 * A refused WebSocket is refused before `Deno.upgradeWebSocket` is called, because after it nothing
 * but its own answer may be sent. From there on a socket's events go to the hub, each one guarded:
 * what a handler throws would otherwise end the process.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { type Context, Hono } from "hono";
import { etag } from "hono/etag";
import { secureHeaders } from "hono/secure-headers";
import { serveStatic } from "hono/serve-static";
import { Outbox, type OutboxLimits } from "../delivery/outbox.ts";
import { ChatError, type ErrorCode, rateLimited } from "../errors.ts";
import { errorFields, type LogFields, type Logger } from "../logger.ts";
import { LOBBY, parseName } from "../names.ts";
import type { Accounts } from "../people/accounts.ts";
import { CLOSE, type CloseReason, ERROR_CLOSE } from "../protocol/codes.ts";
import type { SizeLimits } from "../protocol/commands.ts";
import { encode, SUBPROTOCOL } from "../protocol/encode.ts";
import { type Rate, type RateLimiter, TokenBucket } from "../rate_limit.ts";
import { addressKey, clientAddress, isAllowedOrigin } from "./addresses.ts";
import { createApi } from "./api.ts";
import type { Connections } from "./connections.ts";
import { giveGuestSecret, identify, readToken } from "./credentials.ts";
import { checkHandshake, HandshakeError, offeredProtocols } from "./handshake.ts";
import type { JoinedMember, JoinRequest, Resume, Rooms } from "./rooms.ts";

/** What {@linkcode createApp} needs. */
export interface AppOptions {
  readonly hub: Rooms;
  readonly accounts: Accounts;
  readonly connections: Connections;
  readonly limits: OutboxLimits & SizeLimits & { readonly messageRate: Rate };
  /** Attempts to join, and to register or sign in, by address. */
  readonly joinLimiter: RateLimiter;
  readonly authLimiter: RateLimiter;
  readonly log: Logger;
  /** The time in milliseconds. */
  readonly clock: () => number;
  /** Silence after which a peer is dead, in seconds; the runtime pings at half of it. 0 is never. */
  readonly pongWaitSeconds: number;
  /** Whether people may come without an account. */
  readonly guests: boolean;
  /** Origins, besides the server's own, whose pages may connect; `*` for all. */
  readonly allowedOrigins: readonly string[];
  /** Whether a proxy's `X-Forwarded-For` and `X-Forwarded-Proto` are believed. */
  readonly trustProxy: boolean;
  /** Absolute path of the folder with the page. */
  readonly publicDir: string;
}

/** What the runtime tells of a request besides the request itself. */
export type AppEnv = { Bindings: Partial<Deno.ServeHandlerInfo> };

/** What an open socket is for. Its methods may throw: the socket is then closed with 1011. */
interface SocketHandler {
  message(data: string | ArrayBuffer): void;
  close(event: CloseEvent): void;
}

/** How a request becomes a socket. */
interface UpgradeOptions {
  /** Whose it will be: an account's key; absent for a guest. */
  readonly account?: string | undefined;
  /** The subprotocol that will be spoken. */
  readonly protocol?: string | undefined;
  /** Begins what the socket is for, given where it comes from. */
  readonly serve: (socket: WebSocket, address: string | undefined) => SocketHandler;
  /** Ends a socket that is one too many, or comes too late. */
  readonly refuse: (socket: WebSocket, error: ChatError) => void;
}

const GREETING = "WebSocket Chat Server - Connect to /ws";

/** Makes the HTTP application. */
export function createApp(options: AppOptions): Hono<AppEnv> {
  const { hub, accounts, connections, log, trustProxy } = options;
  const app = new Hono<AppEnv>();

  // The WebSocket routes stand before every middleware: nothing may touch their answer.
  app.all("/ws", (c) => c.req.query("username") === undefined ? relay(c) : join(c, LOBBY));
  app.all("/ws/:room{[\\s\\S]*}", (c) => join(c, c.req.param("room")));
  app.all("/echo", async (c) => {
    knock(c);
    const { account } = await identify(c, accounts);
    return upgrade(c, {
      account: account?.key,
      serve: (socket) => new EchoSocket(socket, options),
      refuse: (socket, { code }) => shut(socket, ERROR_CLOSE[code]),
    });
  });

  app.use(secureHeaders({
    // Whether the site is on https for good is known to the proxy that speaks it.
    strictTransportSecurity: false,
    contentSecurityPolicy: {
      defaultSrc: ["'none'"],
      scriptSrc: ["'self'"],
      styleSrc: ["'self'"],
      connectSrc: ["'self'"],
      imgSrc: ["'self'", "data:"],
      baseUri: ["'none'"],
      formAction: ["'self'"],
      frameAncestors: ["'none'"],
    },
  }));
  app.use("/api/*", (c, next) => {
    checkOrigin(c);
    return next();
  });
  const isSecure = (c: Context) =>
    (trustProxy ? c.req.header("x-forwarded-proto") : undefined) === "https" ||
    c.req.url.startsWith("https:");
  app.route("/api", createApi({ ...options, addressOf, isSecure }));
  app.get("/health", (c) => c.json({ status: "ok" }));
  app.use(etag());
  app.get("/", async (c, next) => {
    c.header("vary", "accept");
    if (c.req.header("accept")?.includes("text/html")) return await next();
    return c.text(GREETING);
  });
  const page = serveStatic({ root: options.publicDir, path: "index.html", getContent: readFile });
  for (const path of ["/", "/r/:room"]) {
    app.get(path, (c, next) => {
      if (options.guests) giveGuestSecret(c, isSecure(c));
      return next();
    }, page);
  }
  app.get("*", serveStatic({ root: options.publicDir, getContent: readFile }));

  app.notFound((c) => c.json({ error: "There is nothing at this address." }, 404));
  app.onError((error, c) => {
    const refusal = refusalOf(error);
    if (refusal === undefined) {
      log.error("request failed", { path: c.req.path, ...errorFields(error) });
      return c.json({ error: "Something went wrong on the server. Try again later." }, 500);
    }
    const { path } = c.req;
    const { status } = refusal;
    log.info("refused", { path, status, reason: error.message, address: addressOf(c) });
    for (const [name, value] of Object.entries(refusal.headers)) c.header(name, value);
    return c.json({ error: error.message }, refusal.status);
  });
  return app;

  /** Joins the lobby without a name: the raw relay. */
  async function relay(c: Context<AppEnv>): Promise<Response> {
    knock(c);
    return await enter(c, { room: LOBBY, format: "raw", identity: await identify(c, accounts) });
  }

  /** Joins a room by name, as the query says. */
  async function join(c: Context<AppEnv>, room: string): Promise<Response> {
    knock(c);
    const request = readJoin(c, room);
    const identity = await identify(c, accounts);
    const username = request.username ?? identity.account?.username;
    if (username === undefined) throw missing();
    await accounts.checkName(identity, username);
    return await enter(c, { ...request, username, identity });
  }

  /** What is checked of everyone who wants a socket, before anything else. */
  function knock(c: Context<AppEnv>): void {
    checkOrigin(c);
    const seconds = options.joinLimiter.take(addressKey(addressOf(c)));
    if (seconds > 0) throw rateLimited("connections at once from your address", Math.ceil(seconds));
  }

  function checkOrigin(c: Context): void {
    if (isAllowedOrigin(c.req.raw.headers, options.allowedOrigins)) return;
    throw new ChatError("forbidden", "Pages of this origin may not use this server.");
  }

  /** The address a request comes from. The peer's can be read only until the upgrade. */
  function addressOf(c: Context): string | undefined {
    // Without a runtime around it, as in tests, a request has no environment at all.
    const env: AppEnv["Bindings"] | undefined = c.env;
    const peer = env?.remoteAddr;
    const hostname = peer && "hostname" in peer ? peer.hostname : undefined;
    return clientAddress(c.req.raw.headers, hostname, trustProxy);
  }

  async function enter(c: Context<AppEnv>, request: JoinRequest): Promise<Response> {
    await hub.admit(request);
    return upgrade(c, {
      account: request.identity.account?.key,
      protocol: request.format === "v1" ? SUBPROTOCOL : undefined,
      serve: (socket, address) => openRoom(socket, request, address, options),
      refuse: (socket, error) => refuseRoom(socket, request, error),
    });
  }

  function upgrade(
    c: Context<AppEnv>,
    { account, protocol, serve, refuse }: UpgradeOptions,
  ): Response {
    const owner = { address: addressOf(c), account };
    const { path } = c.req;
    connections.check(owner);
    checkHandshake(c.req.raw, protocol);
    const { socket, response } = Deno.upgradeWebSocket(c.req.raw, {
      idleTimeout: options.pongWaitSeconds,
    });
    // The runtime's own option for this takes only lists with a space behind each comma.
    if (protocol !== undefined) response.headers.set("sec-websocket-protocol", protocol);
    socket.binaryType = "arraybuffer";
    // From here on nothing may throw: not even the making of the session.
    let session: SocketHandler | undefined;
    const guard = (handle: () => void) => {
      try {
        handle();
      } catch (error) {
        log.error("socket handler failed", errorFields(error));
        shut(socket, CLOSE.internal);
      }
    };
    // A handshake that is cut off has no events at all: a connection counts from its `open` on.
    socket.onopen = () =>
      guard(() => {
        try {
          connections.add(socket, owner);
          session = serve(socket, owner.address);
        } catch (error) {
          // Since the checks before the upgrade, things may have changed.
          if (!(error instanceof ChatError)) throw error;
          log.info("refused", { path, ...owner, reason: error.message });
          refuse(socket, error);
        }
      });
    socket.onmessage = ({ data }) => guard(() => session?.message(data));
    socket.onclose = (event) => {
      connections.delete(socket);
      guard(() => session?.close(event));
    };
    // A close event follows, and says all there is to say.
    socket.onerror = (event) => event.preventDefault();
    return response;
  }
}

/** Reads from a request where and how somebody wants to join. */
function readJoin(c: Context<AppEnv>, room: string): Omit<JoinRequest, "identity"> {
  const username = c.req.query("username");
  // Only who has an account may leave its name to the server.
  const isNamed = username !== undefined || readToken(c) !== undefined;
  if (room.trim() === "" || username?.trim() === "" || !isNamed) throw missing();
  const isV1 = offeredProtocols(c.req.raw).includes(SUBPROTOCOL);
  return {
    room: parseName("room", room),
    ...(username !== undefined && { username: parseName("username", username) }),
    format: isV1 ? "v1" : readFormat(c.req.query("format")),
    echo: c.req.query("echo") !== "0",
    resume: isV1 ? readResume(c) : undefined,
  };
}

function missing(): ChatError {
  return new ChatError("bad_request", "room and username are required");
}

function readFormat(format = "json"): "json" | "text" {
  if (format === "json" || format === "text") return format;
  throw new ChatError("bad_request", "The format must be json or text.");
}

/** Up to where the client has seen everything: `?epoch=E&after=SEQ`, and `&inbox=N`. */
function readResume(c: Context<AppEnv>): Resume | undefined {
  const epoch = c.req.query("epoch");
  const after = readWhole(c, "after");
  const inbox = readWhole(c, "inbox");
  if (epoch === undefined && after === undefined) return undefined;
  if (epoch === undefined || after === undefined) {
    throw new ChatError("bad_request", "To resume, give both epoch and after.");
  }
  return { epoch, after, inbox };
}

function readWhole(c: Context<AppEnv>, name: string): number | undefined {
  const text = c.req.query(name);
  if (text === undefined) return undefined;
  const value = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(value)) return value;
  throw new ChatError("bad_request", `${name} must be a whole number.`);
}

/** Joins the room. */
function openRoom(
  socket: WebSocket,
  request: JoinRequest,
  address: string | undefined,
  { hub, accounts, log }: AppOptions,
): SocketHandler {
  const { room, username } = request;
  const fields = { room, username, address };
  const member = hub.join(socket, request);
  log.info("joined", fields);
  accounts.confirm(request.identity, username).catch((error) => {
    // Where nothing can be read now, everything else says so.
    if (!(error instanceof ChatError) || error.code !== "unauthenticated") return;
    if (member.isGone) return;
    log.info("refused", { ...fields, reason: error.message });
    hub.leave(member);
    refuseRoom(socket, request, error);
  });
  return new RoomSocket(member, hub, log, fields);
}

/** Says, in the format that was asked for, why somebody cannot join after all. */
function refuseRoom(
  socket: WebSocket,
  { room, format = "json" }: JoinRequest,
  { code, message: content }: ChatError,
): void {
  socket.send(encode({ type: "error", content, room, username: "", code }, format)!);
  shut(socket, ERROR_CLOSE[code]);
}

/** A socket that is a member of a room. */
class RoomSocket implements SocketHandler {
  readonly #member: JoinedMember;
  readonly #hub: Rooms;
  readonly #log: Logger;
  readonly #fields: LogFields;

  constructor(member: JoinedMember, hub: Rooms, log: Logger, fields: LogFields) {
    this.#member = member;
    this.#hub = hub;
    this.#log = log;
    this.#fields = fields;
  }

  message(data: string | ArrayBuffer): void {
    if (typeof data === "string") return this.#hub.receive(this.#member, data);
    this.#log.info("binary frame refused", this.#fields);
    this.#hub.dismiss(this.#member, CLOSE.binary);
  }

  close({ code, wasClean }: CloseEvent): void {
    if (this.#member.isGone) return;
    this.#log.info("left", { ...this.#fields, code, wasClean });
    this.#hub.leave(this.#member);
  }
}

/** A socket that is sent back what it sends, text as text and binary as binary. */
class EchoSocket implements SocketHandler {
  readonly #socket: WebSocket;
  readonly #outbox: Outbox;
  readonly #allowance: TokenBucket;
  readonly #options: AppOptions;

  constructor(socket: WebSocket, options: AppOptions) {
    this.#socket = socket;
    this.#outbox = new Outbox(socket, options.limits);
    this.#allowance = new TokenBucket(options.limits.messageRate, options.clock());
    this.#options = options;
  }

  message(data: string | ArrayBuffer): void {
    const { limits, clock } = this.#options;
    if (this.#allowance.take(clock()) > 0) return shut(this.#socket, CLOSE.rateLimit);
    const size = typeof data === "string" ? Buffer.byteLength(data) : data.byteLength;
    if (size > limits.maxFrameBytes) return shut(this.#socket, CLOSE.tooBig);
    if (this.#outbox.isOverdue(clock())) return shut(this.#socket, CLOSE.tooSlow);
    this.#outbox.send(data, clock());
  }

  close(): void {}
}

function shut(socket: WebSocket, { code, reason }: CloseReason): void {
  socket.close(code, reason);
}

/** The HTTP status that says the same as an error code. */
export const ERROR_STATUS = {
  bad_request: 400,
  too_big: 413,
  name_in_use: 409,
  unauthenticated: 401,
  forbidden: 403,
  not_found: 404,
  rate_limited: 429,
  full: 503,
  unavailable: 503,
} as const satisfies Record<ErrorCode, number>;

/** How an expected error is answered; `undefined` for any other. */
function refusalOf(error: Error) {
  if (error instanceof ChatError) {
    const { retryAfter } = error;
    const headers = retryAfter === undefined
      ? {}
      : { "retry-after": String(Math.ceil(retryAfter)) };
    return { status: ERROR_STATUS[error.code], headers };
  }
  if (error instanceof HandshakeError) return error;
  return undefined;
}

/** A file's bytes, or `null` if there is no such file. */
async function readFile(path: string): Promise<Uint8Array<ArrayBuffer> | null> {
  try {
    return await Deno.readFile(path);
  } catch {
    return null;
  }
}
