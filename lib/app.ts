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
import type { Connections } from "./connections.ts";
import { checkHandshake, HandshakeError, offeredProtocols } from "./handshake.ts";
import { errorFields, type LogFields, type Logger } from "./logger.ts";
import { LOBBY, NameError, parseName } from "./names.ts";
import { Outbox, type OutboxLimits, type Peer } from "./outbox.ts";
import {
  CLOSE,
  type CloseReason,
  encode,
  ERROR_CLOSE,
  ERROR_STATUS,
  ProtocolError,
  type SizeLimits,
  SUBPROTOCOL,
} from "./protocol.ts";
import type { JoinRequest, Member, Resume } from "./room.ts";
import { isSession } from "./sessions.ts";

/** The hub, as far as HTTP knows it. */
export interface Rooms {
  check(request: JoinRequest): void;
  admit(request: JoinRequest): Promise<void>;
  join(peer: Peer, request: JoinRequest): Member;
  receive(member: Member, text: string): void;
  leave(member: Member): void;
  dismiss(member: Member, close: CloseReason): void;
}

/** What {@linkcode createApp} needs. */
export interface AppOptions {
  readonly hub: Rooms;
  readonly connections: Connections;
  readonly limits: OutboxLimits & SizeLimits;
  readonly log: Logger;
  /** The time in milliseconds. */
  readonly clock: () => number;
  /** Silence after which a peer is dead, in seconds; the runtime pings at half of it. 0 is never. */
  readonly pongWaitSeconds: number;
  /** Absolute path of the folder with the page. */
  readonly publicDir: string;
}

/** What the runtime tells of a request besides the request itself. */
export type AppEnv = { Bindings: Partial<Deno.ServeHandlerInfo> };

/** What an open socket is for. Its methods may throw: the socket is then closed with 1011. */
interface Session {
  message(data: string | ArrayBuffer): void;
  close(event: CloseEvent): void;
}

const GREETING = "WebSocket Chat Server - Connect to /ws";

/** Makes the HTTP application. */
export function createApp(options: AppOptions): Hono<AppEnv> {
  const { hub, connections, log } = options;
  const app = new Hono<AppEnv>();

  // The WebSocket routes stand before every middleware: nothing may touch their answer.
  app.all("/ws", (c) => {
    if (c.req.query("username") !== undefined) return join(c, LOBBY);
    return enter(c, { room: LOBBY, format: "raw" });
  });
  app.all("/ws/:room{[\\s\\S]*}", (c) => join(c, c.req.param("room")));
  app.all("/echo", (c) => upgrade(c, (socket) => new EchoSession(socket, options)));

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
  app.get("/health", (c) => c.json({ status: "ok" }));
  app.use(etag());
  app.get("/", async (c, next) => {
    c.header("vary", "accept");
    if (c.req.header("accept")?.includes("text/html")) return await next();
    return c.text(GREETING);
  });
  const page = serveStatic({ root: options.publicDir, path: "index.html", getContent: readFile });
  app.get("/", page);
  app.get("/r/:room", page);
  app.get("*", serveStatic({ root: options.publicDir, getContent: readFile }));

  app.notFound((c) => c.json({ error: "There is nothing at this address." }, 404));
  app.onError((error, c) => {
    const refusal = refusalOf(error);
    if (refusal === undefined) {
      log.error("request failed", { path: c.req.path, ...errorFields(error) });
      return c.json({ error: "Something went wrong on the server. Try again later." }, 500);
    }
    log.info("refused", { path: c.req.path, status: refusal.status, reason: error.message });
    return c.json({ error: error.message }, refusal.status, refusal.headers);
  });
  return app;

  /** Joins a room by name, as the query says. */
  function join(c: Context<AppEnv>, room: string): Promise<Response> {
    return enter(c, readJoin(c, room));
  }

  async function enter(c: Context<AppEnv>, request: JoinRequest): Promise<Response> {
    hub.check(request);
    const protocol = request.format === "v1" ? SUBPROTOCOL : undefined;
    checkUpgrade(c, protocol);
    await hub.admit(request);
    const address = addressOf(c);
    return upgrade(c, (socket) => openRoom(socket, request, address, options), protocol);
  }

  function checkUpgrade(c: Context<AppEnv>, protocol?: string): void {
    if (connections.isFull) {
      throw new ProtocolError("full", "The server is full. Try again later.");
    }
    checkHandshake(c.req.raw, protocol);
  }

  function upgrade(
    c: Context<AppEnv>,
    serve: (socket: WebSocket) => Session | undefined,
    protocol?: string,
  ): Response {
    checkUpgrade(c, protocol);
    const { socket, response } = Deno.upgradeWebSocket(c.req.raw, {
      idleTimeout: options.pongWaitSeconds,
    });
    // The runtime's own option for this takes only lists with a space behind each comma.
    if (protocol !== undefined) response.headers.set("sec-websocket-protocol", protocol);
    socket.binaryType = "arraybuffer";
    // From here on nothing may throw: not even the making of the session.
    let session: Session | undefined;
    const guard = (handle: () => void) => {
      try {
        handle();
      } catch (error) {
        log.error("socket handler failed", errorFields(error));
        shut(socket, CLOSE.internal);
      }
    };
    // A handshake that is cut off has no events at all: a connection counts from its `open` on.
    socket.onopen = () => {
      connections.add(socket);
      guard(() => session = serve(socket));
    };
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

/** Reads from a request who wants to join, and how. */
function readJoin(c: Context<AppEnv>, room: string): JoinRequest {
  const username = c.req.query("username") ?? "";
  if (room.trim() === "" || username.trim() === "") {
    throw new ProtocolError("bad_request", "room and username are required");
  }
  const session = c.req.query("session");
  if (session !== undefined && !isSession(session)) {
    throw new ProtocolError("bad_request", "The session is not one that this server gave.");
  }
  const isV1 = offeredProtocols(c.req.raw).includes(SUBPROTOCOL);
  return {
    room: parseName("room", room),
    username: parseName("username", username),
    format: isV1 ? "v1" : readFormat(c.req.query("format")),
    echo: c.req.query("echo") !== "0",
    session,
    resume: isV1 ? readResume(c) : undefined,
  };
}

function readFormat(format = "json"): "json" | "text" {
  if (format === "json" || format === "text") return format;
  throw new ProtocolError("bad_request", "The format must be json or text.");
}

/** Up to where the client has seen everything: `?epoch=E&after=SEQ`, and `&inbox=N`. */
function readResume(c: Context<AppEnv>): Resume | undefined {
  const epoch = c.req.query("epoch");
  const after = readWhole(c, "after");
  const inbox = readWhole(c, "inbox");
  if (epoch === undefined && after === undefined) return undefined;
  if (epoch === undefined || after === undefined) {
    throw new ProtocolError("bad_request", "To resume, give both epoch and after.");
  }
  return { epoch, after, inbox };
}

function readWhole(c: Context<AppEnv>, name: string): number | undefined {
  const text = c.req.query(name);
  if (text === undefined) return undefined;
  const value = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(value)) return value;
  throw new ProtocolError("bad_request", `${name} must be a whole number.`);
}

/** Joins the room, or says why not: since the checks before the upgrade, things may have changed. */
function openRoom(
  socket: WebSocket,
  request: JoinRequest,
  address: string | undefined,
  options: AppOptions,
): Session | undefined {
  const { hub, log } = options;
  const { room, username, format = "json" } = request;
  const fields = { room, username, address };
  try {
    const member = hub.join(socket, request);
    log.info("joined", fields);
    return new RoomSession(member, hub, log, fields);
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    const { code, message: content } = error;
    log.info("refused", { ...fields, reason: content });
    socket.send(encode({ type: "error", content, room, username: "", code }, format)!);
    shut(socket, ERROR_CLOSE[code]);
    return undefined;
  }
}

/** A socket that is a member of a room. */
class RoomSession implements Session {
  readonly #member: Member;
  readonly #hub: Rooms;
  readonly #log: Logger;
  readonly #fields: LogFields;

  constructor(member: Member, hub: Rooms, log: Logger, fields: LogFields) {
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
class EchoSession implements Session {
  readonly #socket: WebSocket;
  readonly #outbox: Outbox;
  readonly #options: AppOptions;

  constructor(socket: WebSocket, options: AppOptions) {
    this.#socket = socket;
    this.#outbox = new Outbox(socket, options.limits);
    this.#options = options;
  }

  message(data: string | ArrayBuffer): void {
    const { limits, clock } = this.#options;
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

/** The peer's IP address. It can be read only until the request is upgraded. */
function addressOf(c: Context<AppEnv>): string | undefined {
  const address = c.env.remoteAddr;
  return address && "hostname" in address ? address.hostname : undefined;
}

/** How an expected error is answered; `undefined` for any other. */
function refusalOf(error: Error) {
  if (error instanceof ProtocolError) return { status: ERROR_STATUS[error.code], headers: {} };
  if (error instanceof NameError) return { status: ERROR_STATUS.bad_request, headers: {} };
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
