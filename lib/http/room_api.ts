/**
 * Rooms over HTTP, for programs without a connection: post and read messages, and list the users.
 *
 * The hub performs the command of each request for a person who has not joined, by the same rules
 * as for a member.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { type Context, Hono } from "hono";
import { badRequest, namesRequired, rateLimited } from "../errors.ts";
import type { Accounts } from "../people/accounts.ts";
import {
  type Command,
  decode,
  readChat,
  readHistory,
  type SizeLimits,
} from "../protocol/commands.ts";
import type { AckEvent, HistoryEvent } from "../protocol/events.ts";
import type { RateLimiter, TrafficLimiter } from "../rate_limit.ts";
import { addressOf } from "./addresses.ts";
import { isJson, parseObject, readText } from "./bodies.ts";
import { identify } from "./credentials.ts";
import { readNames, readPerson, readWhole } from "./joins.ts";
import type { TrustSettings } from "./origins.ts";
import { queryOf } from "./queries.ts";
import type { JoinRequest, Rooms } from "./rooms.ts";
import type { Streams } from "./streams.ts";

/** What {@linkcode createRoomApi} needs. */
export interface RoomApiOptions {
  readonly hub: Pick<Rooms, "ask" | "readPresence">;
  readonly accounts: Accounts;
  readonly settings: TrustSettings;
  readonly limits: SizeLimits;
  readonly streams: Pick<Streams, "open">;
  /** Requests, by person. */
  readonly askLimiter: RateLimiter;
  /** Limits what each address sends. */
  readonly traffic: TrafficLimiter;
}

/** Makes the routes below `/api/rooms/:room`. */
export function createRoomApi(options: RoomApiOptions): Hono {
  const api = new Hono();
  api.post("/:room/messages", (c) => post(c, c.req.param("room"), options));
  api.get("/:room/messages", (c) => showMessages(c, c.req.param("room"), options));
  api.post("/:room/commands", (c) => command(c, c.req.param("room"), options));
  api.get("/:room/presence", (c) => showPresence(c, c.req.param("room"), options));
  api.get("/:room/events", (c) => options.streams.open(c, c.req.param("room")));
  return api;
}

/**
 * Posts a message: the `content` of a JSON object, or a whole body of any other type. `curl -d`
 * sends the type of a form.
 */
async function post(c: Context, room: string, options: RoomApiOptions): Promise<Response> {
  const text = await takeText(c, options);
  const fields = isJson(c) ? parseObject(text) : { content: withoutLastBreak(text) };
  const { content, reply_to } = fields;
  const ref = readKey(c) ?? fields.ref;
  const username = queryOf(c, "username") ?? readName(fields.username);
  const message = readChat({ content, reply_to, ref }, options.limits);
  const request = await readRequest(c, room, username, message, options);
  if (request.username === undefined) throw namesRequired();
  const { id, seq, timestamp, duplicate } = await options.hub.ask(request, message) as AckEvent;
  const answer = { id, seq, timestamp, room: request.room, username: request.username };
  const more = { ...(message.ref && { ref: message.ref }), ...(duplicate && { duplicate }) };
  return c.json({ ...answer, ...more }, duplicate ? 200 : 201);
}

/** Answers with a page of messages. */
async function showMessages(c: Context, room: string, options: RoomApiOptions): Promise<Response> {
  takeTraffic(c, 0, options);
  const [before, after, limit] = ["before", "after", "limit"].map((name) => readWhole(c, name));
  const range = readHistory({ before, after, limit });
  const request = await readRequest(c, room, queryOf(c, "username"), range, options);
  const { epoch, messages, more } = await options.hub.ask(request, range) as HistoryEvent;
  return c.json({ room: request.room, epoch, messages, more });
}

/** Performs any command, and answers with the event that a member would receive. */
async function command(c: Context, room: string, options: RoomApiOptions): Promise<Response> {
  const text = await takeText(c, options);
  if (!isJson(c)) throw badRequest("The content-type must be application/json.");
  const command: Command = decode(text, "v1", options.limits);
  const request = await readRequest(c, room, queryOf(c, "username"), command, options);
  if (request.username === undefined) throw namesRequired();
  const answer = await options.hub.ask(request, command);
  return answer === undefined ? c.body(null, 204) : c.json(answer);
}

/** Answers with the users in the room. */
async function showPresence(c: Context, room: string, options: RoomApiOptions): Promise<Response> {
  takeTraffic(c, 0, options);
  const request = await readRequest(c, room, queryOf(c, "username"), undefined, options);
  const { online, users } = await options.hub.readPresence(request);
  return c.json({ room: request.room, online, users });
}

/**
 * Reads the room and the person of a request, and counts the request for that person. A guest
 * without a secret who posts is the same person for the same address and name, so that a repeated
 * message is recognised. For any other command it is a new person: otherwise anyone at its address
 * could change its messages.
 */
async function readRequest(
  c: Context,
  roomName: string,
  asked: string | undefined,
  command: Command | undefined,
  { accounts, askLimiter, settings }: RoomApiOptions,
): Promise<JoinRequest> {
  const { room, username: name } = readNames(roomName, asked);
  const { key: address } = addressOf(c, settings);
  const known = await identify(c, accounts, settings);
  const counted = known.isProven ? known : accounts.passerby(address, name);
  const seconds = askLimiter.take(counted.person);
  if (seconds > 0) throw rateLimited("requests at once", seconds);
  const identity = command?.type === "chat" ? counted : known;
  return { room, address, ...await readPerson(name, identity, accounts) };
}

/** Reads a body, and counts it for the request's address. */
async function takeText(c: Context, options: RoomApiOptions): Promise<string> {
  const text = await readText(c);
  takeTraffic(c, Buffer.byteLength(text), options);
  return text;
}

/** Counts a request for its address, before any check that costs more. */
function takeTraffic(c: Context, bytes: number, { settings, traffic }: RoomApiOptions): void {
  const seconds = traffic.take(addressOf(c, settings).key, bytes);
  if (seconds > 0) throw rateLimited("requests from your address", seconds);
}

/**
 * The `Idempotency-Key` of a request, without quotation marks around it (RFC 8941, section 3.3.3).
 */
function readKey(c: Context): string | undefined {
  const key = c.req.header("idempotency-key");
  return key === undefined ? undefined : /^"(.*)"$/s.exec(key)?.[1] ?? key;
}

function readName(name: unknown): string | undefined {
  if (name === undefined || typeof name === "string") return name;
  throw badRequest("username must be a name.");
}

/** The text without the line break at its end, which programs that write lines add. */
function withoutLastBreak(text: string): string {
  return text.replace(/\r?\n$/, "");
}
