/**
 * What goes over the wire: commands in, events out, and why a connection is closed.
 *
 * Knows nothing of sockets, rooms or members: text in, values out, and back.
 *
 * @module
 */

import { Buffer } from "node:buffer";

/**
 * How a connection wants its events: `v1` is `chat.v1`, the whole protocol; the others are for plain
 * clients, as JSON objects, as lines for people, or as bare message texts.
 */
export type Format = "v1" | "json" | "text" | "raw";

/** The subprotocol that serious clients ask for. */
export const SUBPROTOCOL = "chat.v1";

/** What every event has. */
interface EventBase {
  /** A text; empty where an event has none. */
  readonly content: string;
  readonly room: string;
  /** Whom the event is about; empty where it is about nobody. */
  readonly username: string;
}

/** A message, as everyone in the room sees it. */
export interface ChatEvent extends EventBase {
  readonly type: "chat";
  /** Unique for ever. */
  readonly id: string;
  /** Whole number from 1, without holes: the room's one order. */
  readonly seq: number;
  /** RFC 3339, UTC, milliseconds; never goes backwards within a room. */
  readonly timestamp: string;
  /** Its text is not the first one. */
  readonly edited?: true;
  /** Its text is gone. Only who resumes is sent such a message, so that no `seq` is missing. */
  readonly deleted?: true;
  /** It was said before this member came. */
  readonly history?: true;
}

/** A message has a new text. `id` is the message's, `seq` and `timestamp` are the change's. */
export interface MessageUpdatedEvent extends EventBase {
  readonly type: "message_updated";
  readonly id: string;
  readonly seq: number;
  readonly timestamp: string;
}

/** A message is gone. `id` is the message's, `seq` and `timestamp` are the deletion's. */
export interface MessageDeletedEvent extends EventBase {
  readonly type: "message_deleted";
  readonly id: string;
  readonly seq: number;
  readonly timestamp: string;
}

/** Somebody came or went: `NAME joined the room`, `NAME left the room`. */
export interface NoticeEvent extends EventBase {
  readonly type: "user_joined" | "user_left";
}

/** One user and how many connections it has. */
export interface UserEntry {
  readonly username: string;
  readonly connections: number;
}

/** Who is in the room: `content` has the names, joined by a comma (which no name may have). */
export interface OnlineUsersEvent extends EventBase {
  readonly type: "online_users";
  /** The same names, in the same order; at most 100. */
  readonly users: readonly UserEntry[];
  /** How many users there are in all. */
  readonly online: number;
}

/** Who came and went since the last one. */
export interface PresenceEvent extends EventBase {
  readonly type: "presence";
  /** At most 50 names. */
  readonly joined: readonly string[];
  /** How many came, named or not. */
  readonly joined_count: number;
  /** At most 50 names. */
  readonly left: readonly string[];
  /** How many went, named or not. */
  readonly left_count: number;
  /** How many users there are now. */
  readonly online: number;
}

/** What somebody may do in a room: what an owner may, and an admin, or what all may. */
export type Role = "owner" | "admin" | "member";

/** The first event: who you are, where, and from which number on. */
export interface WelcomeEvent extends EventBase {
  readonly type: "welcome";
  /** A guest's secret: with it a further connection proves to be the same person. Else empty. */
  readonly session: string;
  /** What you may do here. */
  readonly role: Role;
  /** Whether only its members may come in. */
  readonly private: boolean;
  /** Names the life of the numbering. */
  readonly epoch: string;
  /** The room's newest `seq`. */
  readonly seq: number;
  /** The newest `inbox_seq` of your private messages here. */
  readonly inbox_seq: number;
  /** Whether all that was missed since the asked `seq` follows. */
  readonly recovered: boolean;
  /** Who is in the room; at most 100. */
  readonly users: readonly UserEntry[];
  /** How many users there are in all. */
  readonly online: number;
  readonly limits: {
    /** UTF-8 bytes of a message; `null` for no limit. */
    readonly max_message_bytes: number | null;
    /** UTF-8 bytes of a frame; `null` for no limit. */
    readonly max_frame_bytes: number | null;
  };
}

/** A command was carried out: what was sent is stored. */
export interface AckEvent extends EventBase {
  readonly type: "ack";
  readonly ref: string;
  /** The message's; absent where the command was about none. */
  readonly id?: string;
  /** Its number in the room; absent for a private message. */
  readonly seq?: number;
  /** Its number among your private messages; only for one. */
  readonly inbox_seq?: number;
  readonly timestamp?: string;
  /** It had been sent before under this `ref`: these are the first one's numbers. */
  readonly duplicate?: true;
}

/** A page of older or newer messages. */
export interface HistoryEvent extends EventBase {
  readonly type: "history";
  readonly ref?: string;
  readonly epoch: string;
  /** Oldest first. */
  readonly messages: readonly ChatEvent[];
  /** Whether there are more in the direction that was asked for. */
  readonly more: boolean;
}

/** Somebody types, or no longer does. */
export interface TypingEvent extends EventBase {
  readonly type: "typing";
  readonly active: boolean;
}

/** A private message: `username` wrote it to `to`. */
export interface DmEvent extends EventBase {
  readonly type: "dm";
  readonly to: string;
  readonly id: string;
  /** Its number among your private messages in this room. */
  readonly inbox_seq: number;
  readonly timestamp: string;
  /** It was said before this member came. */
  readonly history?: true;
}

/** The answer to `ping`. */
export interface PongEvent extends EventBase {
  readonly type: "pong";
  readonly ref?: string;
}

/** The server refuses something. `content` is a sentence that says what to do. */
export interface ErrorEvent extends EventBase {
  readonly type: "error";
  readonly code: ErrorCode;
  /** Seconds until it may be tried again, where that is known. */
  readonly retry_after?: number;
  readonly ref?: string;
}

/** Anything the server sends. */
export type Event =
  | ChatEvent
  | MessageUpdatedEvent
  | MessageDeletedEvent
  | NoticeEvent
  | OnlineUsersEvent
  | PresenceEvent
  | WelcomeEvent
  | AckEvent
  | HistoryEvent
  | TypingEvent
  | DmEvent
  | PongEvent
  | ErrorEvent;

/** The client's own id of a command: it comes back with whatever answers the command. */
interface CommandBase {
  /** 1 to 64 characters. */
  readonly ref?: string;
}

/** Says something to the room. */
export interface ChatCommand extends CommandBase {
  readonly type: "chat";
  readonly content: string;
}

/** Says that one types, or no longer does. It ends by itself after 5 seconds. */
export interface TypingCommand extends CommandBase {
  readonly type: "typing";
  readonly active: boolean;
}

/** Says something to one person in the room. */
export interface DmCommand extends CommandBase {
  readonly type: "dm";
  readonly to: string;
  readonly content: string;
}

/** Asks for messages before or after a `seq`, or for the newest. */
export interface HistoryCommand extends CommandBase {
  readonly type: "history";
  readonly before?: number;
  readonly after?: number;
  /** 1 to 100. @default 50 */
  readonly limit: number;
}

/** Asks for a `pong`. */
export interface PingCommand extends CommandBase {
  readonly type: "ping";
}

/** Gives one's own message another text. */
export interface EditCommand extends CommandBase {
  readonly type: "edit";
  readonly id: string;
  readonly content: string;
}

/** Takes one's own message back. */
export interface DeleteCommand extends CommandBase {
  readonly type: "delete";
  readonly id: string;
}

/** Removes somebody from the room, for good with `ban`. For its owner and for admins. */
export interface KickCommand extends CommandBase {
  readonly type: "kick";
  readonly username: string;
  /** What the one who is removed is told; at most 200 characters. */
  readonly reason?: string;
  readonly ban?: boolean;
}

/** Changes the room's settings, those that are named. For its owner and for admins. */
export interface RoomCommand extends CommandBase, RoomChange {
  readonly type: "room";
}

/** New settings of a room; what is absent stays. */
export interface RoomChange {
  /** Whether only members may come in. */
  readonly private?: boolean;
  /** The accounts that may; at most 200 names. */
  readonly members?: readonly string[];
  /** Names that are no longer banned. */
  readonly unban?: readonly string[];
}

/** Anything a client may ask for. */
export type Command =
  | ChatCommand
  | TypingCommand
  | DmCommand
  | HistoryCommand
  | PingCommand
  | EditCommand
  | DeleteCommand
  | KickCommand
  | RoomCommand;

/** The closed list of reasons for an error. */
export type ErrorCode =
  | "bad_request"
  | "too_big"
  | "name_in_use"
  | "unauthenticated"
  | "forbidden"
  | "not_found"
  | "rate_limited"
  | "full"
  | "unavailable";

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

/** Something a client may not do, with the code and the sentence it is told. */
export class ProtocolError extends Error {
  override name = "ProtocolError";
  /** Why, for programs. */
  readonly code: ErrorCode;
  /** The `ref` of the command, if it had a good one. */
  readonly ref: string | undefined;
  /** After how many seconds it may be tried again, where that is known. */
  readonly retryAfter: number | undefined;

  /** @param message a sentence for people that says what to do */
  constructor(
    code: ErrorCode,
    message: string,
    { ref, retryAfter }: { ref?: string | undefined; retryAfter?: number | undefined } = {},
  ) {
    super(message);
    this.code = code;
    this.ref = ref;
    this.retryAfter = retryAfter;
  }
}

/** One way in which a connection ends. */
export interface CloseReason {
  /** RFC 6455, section 7.4, or 4000 to 4999 for our own. */
  readonly code: number;
  /** At most 123 bytes of UTF-8 (RFC 6455, section 5.5). */
  readonly reason: string;
  /** Whether a client should connect again by itself. */
  readonly reconnect: boolean;
}

/** Every way in which the server closes a connection. */
export const CLOSE = {
  restart: { code: 1012, reason: "server is restarting", reconnect: true },
  binary: { code: 1003, reason: "binary frames are not accepted", reconnect: false },
  policy: { code: 1008, reason: "not allowed", reconnect: false },
  tooBig: { code: 1009, reason: "message is too big", reconnect: false },
  internal: { code: 1011, reason: "internal error", reconnect: true },
  overload: { code: 1013, reason: "server is full, try again later", reconnect: true },
  unauthenticated: { code: 4001, reason: "sign in again", reconnect: false },
  forbidden: { code: 4003, reason: "you may not be here", reconnect: false },
  tooSlow: { code: 4008, reason: "client is too slow", reconnect: true },
  nameInUse: { code: 4009, reason: "name is in use", reconnect: false },
  rateLimit: { code: 4029, reason: "too much at once, come back later", reconnect: true },
} as const satisfies Record<string, CloseReason>;

/** The close that goes with an error that ends a connection. */
export const ERROR_CLOSE = {
  bad_request: CLOSE.policy,
  too_big: CLOSE.tooBig,
  name_in_use: CLOSE.nameInUse,
  unauthenticated: CLOSE.unauthenticated,
  forbidden: CLOSE.forbidden,
  not_found: CLOSE.policy,
  rate_limited: CLOSE.rateLimit,
  full: CLOSE.overload,
  unavailable: CLOSE.overload,
} as const satisfies Record<ErrorCode, CloseReason>;

/** How large what a client sends may be. */
export interface SizeLimits {
  /** UTF-8 bytes of one message's content; `Infinity` for no limit. */
  readonly maxMessageBytes: number;
  /** UTF-8 bytes of one whole frame; `Infinity` for no limit. */
  readonly maxFrameBytes: number;
}

/** Longest `ref` and `id`, in UTF-16 units. */
export const MAX_REF_LENGTH = 64;

/** Most messages that one `history` command may ask for. */
export const MAX_PAGE = 100;

/** How many it gets that names no number. */
const DEFAULT_PAGE = 50;

/**
 * Reads one text frame.
 *
 * A JSON object whose `type` is a string is a command. For plain clients any other text is a
 * message, and in the raw format every text is: whoever relays text can tell of no command.
 *
 * @throws {ProtocolError} `too_big`, or `bad_request` with what is wrong
 */
export function decode(text: string, format: Format, limits: SizeLimits): Command {
  if (isLongerThan(text, limits.maxFrameBytes)) {
    throw new ProtocolError("too_big", `A frame may have at most ${limits.maxFrameBytes} bytes.`);
  }
  const object = format === "raw" ? undefined : parseCommandObject(text);
  if (object !== undefined) return readCommand(object, limits);
  if (format === "v1") throw badRequest("A frame must be a JSON object with a type.");
  return { type: "chat", content: readContent(text, limits) };
}

/** The `ref` that a frame seems to have, without reading the frame: for one that is refused as it is. */
export function peekRef(text: string): string | undefined {
  return /"ref"\s*:\s*"([^"\\]{1,64})"/.exec(text)?.[1];
}

/** The JSON object that a frame holds, if it is one with a `type`. */
function parseCommandObject(text: string): Record<string, unknown> | undefined {
  if (!/^\s*\{/.test(text)) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const object = value as Record<string, unknown>;
  return typeof object.type === "string" ? object : undefined;
}

function readCommand(object: Record<string, unknown>, limits: SizeLimits): Command {
  const base = object.ref === undefined ? {} : { ref: readId("ref", object.ref) };
  try {
    return { ...readFields(object, limits), ...base };
  } catch (error) {
    if (error instanceof ProtocolError) {
      throw new ProtocolError(error.code, error.message, base);
    }
    throw error;
  }
}

function readFields(object: Record<string, unknown>, limits: SizeLimits): Command {
  switch (object.type) {
    case "chat":
      return { type: "chat", content: readContent(object.content, limits) };
    case "typing":
      if (typeof object.active !== "boolean") throw badRequest("active must be true or false.");
      return { type: "typing", active: object.active };
    case "dm":
      if (typeof object.to !== "string") throw badRequest("to must be a name.");
      return { type: "dm", to: object.to, content: readContent(object.content, limits) };
    case "history":
      return { type: "history", ...readRange(object) };
    case "ping":
      return { type: "ping" };
    case "edit": {
      const id = readId("id", object.id);
      return { type: "edit", id, content: readContent(object.content, limits) };
    }
    case "delete":
      return { type: "delete", id: readId("id", object.id) };
    case "kick":
      return { type: "kick", ...readKick(object) };
    case "room":
      return { type: "room", ...readRoomChange(object) };
    default:
      throw badRequest("This type of command is unknown.");
  }
}

/** Longest reason for a kick, in UTF-16 units. */
const MAX_REASON_LENGTH = 200;

/** Most names in a list of a room's settings. */
export const MAX_LISTED_NAMES = 200;

function readKick({ username, reason, ban }: Record<string, unknown>) {
  if (typeof username !== "string") throw badRequest("username must be a name.");
  if (reason !== undefined && (typeof reason !== "string" || reason.length > MAX_REASON_LENGTH)) {
    throw badRequest(`reason must be a text of at most ${MAX_REASON_LENGTH} characters.`);
  }
  if (ban !== undefined && typeof ban !== "boolean") throw badRequest("ban must be true or false.");
  return { username, ...(reason !== undefined && { reason }), ...(ban !== undefined && { ban }) };
}

/**
 * Reads new settings of a room.
 *
 * @throws {ProtocolError} `bad_request` if a field is wrong or none is there
 */
export function readRoomChange(object: Record<string, unknown>): RoomChange {
  const { private: isPrivate, members, unban } = object;
  if (isPrivate !== undefined && typeof isPrivate !== "boolean") {
    throw badRequest("private must be true or false.");
  }
  if (isPrivate === undefined && members === undefined && unban === undefined) {
    throw badRequest("Name at least one of private, members and unban.");
  }
  return {
    ...(isPrivate !== undefined && { private: isPrivate }),
    ...(members !== undefined && { members: readNames("members", members) }),
    ...(unban !== undefined && { unban: readNames("unban", unban) }),
  };
}

function readNames(name: string, value: unknown): string[] {
  if (
    !Array.isArray(value) || value.length > MAX_LISTED_NAMES ||
    !value.every((item) => typeof item === "string")
  ) {
    throw badRequest(`${name} must be a list of at most ${MAX_LISTED_NAMES} names.`);
  }
  return value;
}

function readId(name: string, value: unknown): string {
  if (typeof value !== "string" || value.length === 0 || value.length > MAX_REF_LENGTH) {
    throw badRequest(`${name} must be a string of 1 to ${MAX_REF_LENGTH} characters.`);
  }
  return value;
}

function readRange({ before, after, limit }: Record<string, unknown>) {
  if (before !== undefined && after !== undefined) {
    throw badRequest("Ask for messages before or after a number, not both.");
  }
  return {
    ...(before !== undefined && { before: readWhole("before", before, 1) }),
    ...(after !== undefined && { after: readWhole("after", after, 0) }),
    limit: limit === undefined ? DEFAULT_PAGE : readWhole("limit", limit, 1, MAX_PAGE),
  };
}

function readWhole(
  name: string,
  value: unknown,
  least: number,
  most = Number.MAX_SAFE_INTEGER,
): number {
  if (!Number.isInteger(value) || (value as number) < least || (value as number) > most) {
    throw badRequest(`${name} must be a whole number from ${least} to ${most}.`);
  }
  return value as number;
}

function readContent(content: unknown, limits: SizeLimits): string {
  if (typeof content !== "string") throw badRequest("content must be a string.");
  if (isLongerThan(content, limits.maxMessageBytes)) {
    const { maxMessageBytes } = limits;
    throw new ProtocolError(
      "too_big",
      `A message may have at most ${maxMessageBytes} bytes of text.`,
    );
  }
  if (content.trim() === "") throw badRequest("A message must not be empty.");
  if (/[\p{Cc}--[\t\n\r]]/v.test(content) || !content.isWellFormed()) {
    throw badRequest(
      "A message must be Unicode text without control characters other than tab and line break.",
    );
  }
  return content;
}

function badRequest(sentence: string): ProtocolError {
  return new ProtocolError("bad_request", sentence);
}

/** Whether a text has more UTF-8 bytes than `limit`. A unit of UTF-16 is one to three of them. */
function isLongerThan(text: string, limit: number): boolean {
  if (text.length * 3 <= limit) return false;
  return text.length > limit || Buffer.byteLength(text) > limit;
}

/**
 * Writes one event in one format.
 *
 * @returns the event's text, or `undefined` if that format does not carry such an event
 */
export function encode(event: Event, format: Format): string | undefined {
  switch (format) {
    case "v1":
      return JSON.stringify(event);
    case "json":
      if (event.type === "online_users") {
        // The names are in the content already.
        const { users: _, ...plain } = event;
        return JSON.stringify(plain);
      }
      return isForPlainClients(event) ? JSON.stringify(event) : undefined;
    case "text":
      return isForPlainClients(event) ? encodeLine(event) : undefined;
    case "raw":
      if (event.type === "chat") return event.content;
      return event.type === "error" ? encodeLine(event) : undefined;
  }
}

/**
 * Whether plain clients are sent an event: the four that they know, what they asked for with a
 * command, and what somebody tells them alone.
 */
function isForPlainClients(event: Event): boolean {
  switch (event.type) {
    case "presence":
    case "typing":
    case "welcome":
    case "message_updated":
    case "message_deleted":
      return false;
    default:
      return true;
  }
}

function encodeLine(event: Event): string | undefined {
  switch (event.type) {
    case "chat":
      return `${event.username}: ${setIn(event.content)}`;
    case "dm":
      return `${event.username} to ${event.to} alone: ${setIn(event.content)}`;
    case "user_joined":
      return `User '${event.username}' joined the chat`;
    case "user_left":
      return `User '${event.username}' left the chat`;
    case "online_users":
      return `Online: ${event.content.replaceAll(",", ", ")}`;
    case "error":
      return `Error: ${event.content}`;
    case "pong":
      return "Pong";
    case "history":
      return event.messages.map(encodeLine).join("\n");
    default:
      return undefined;
  }
}

/** Sets further lines in, so that nobody can write a line in another's name. */
function setIn(content: string): string {
  return content.replace(/\r\n?|\n/g, "\n  ");
}

/** Most bytes of a `chat.v1` frame with several events. */
const MAX_BATCH_BYTES = 64 * 1024;

/**
 * Puts the texts of `chat.v1` events into as few frames as may be: a single event stands alone,
 * several are an array, and no array is longer than 64 KiB.
 */
export function frameEvents(texts: readonly string[]): string[] {
  if (texts.length === 1) return [texts[0]!];
  const frames: string[] = [];
  let start = 0;
  let length = 2;
  for (let i = 0; i < texts.length; i++) {
    const next = Buffer.byteLength(texts[i]!) + 1;
    if (i > start && length + next > MAX_BATCH_BYTES) {
      frames.push(frameOf(texts, start, i));
      start = i;
      length = 2;
    }
    length += next;
  }
  if (start < texts.length) frames.push(frameOf(texts, start, texts.length));
  return frames;
}

/** The same frames with more events at their end. The last frame may be one that others are sent. */
export function extendFrames(frames: readonly string[], texts: readonly string[]): string[] {
  const last = frames.at(-1);
  if (last === undefined) return frameEvents(texts);
  const body = last.startsWith("[") ? last.slice(1, -1) : last;
  const longer = `[${body},${texts.join(",")}]`;
  if (isLongerThan(longer, MAX_BATCH_BYTES)) return [...frames, ...frameEvents(texts)];
  return [...frames.slice(0, -1), longer];
}

function frameOf(texts: readonly string[], start: number, end: number): string {
  return end - start === 1 ? texts[start]! : `[${texts.slice(start, end).join(",")}]`;
}
