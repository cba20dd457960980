/**
 * What goes over the wire: commands in, events out, and why a connection is closed.
 *
 * Knows nothing of sockets, rooms or members: text in, values out, and back.
 *
 * @module
 */

/** How a connection wants its events: JSON objects, lines for people, or bare message texts. */
export type Format = "json" | "text" | "raw";

/** A message, as everyone in the room sees it. */
export interface ChatEvent {
  readonly type: "chat";
  /** The message's text. */
  readonly content: string;
  readonly room: string;
  /** Who wrote it. */
  readonly username: string;
  /** Unique for ever. */
  readonly id: string;
  /** Whole number from 1, without holes: the room's one order. */
  readonly seq: number;
  /** RFC 3339, UTC, milliseconds; never goes backwards within a room. */
  readonly timestamp: string;
  /** Set on messages sent again to a member that joins. */
  readonly history?: true;
}

/** Somebody came or went. */
export interface NoticeEvent {
  readonly type: "user_joined" | "user_left";
  /** `NAME joined the room` or `NAME left the room`. */
  readonly content: string;
  readonly room: string;
  /** Who came or went. */
  readonly username: string;
}

/** Who is in the room now. */
export interface OnlineUsersEvent {
  readonly type: "online_users";
  /** The names, joined by a comma (which no name may have). */
  readonly content: string;
  readonly room: string;
  readonly username: "";
}

/** The server refuses something. */
export interface ErrorEvent {
  readonly type: "error";
  /** A sentence that says what to do. */
  readonly content: string;
  readonly room: string;
  readonly username: "";
  readonly code: ErrorCode;
  /** The client's own id of the command that was refused. */
  readonly ref?: string;
}

/** Anything the server sends. */
export type Event = ChatEvent | NoticeEvent | OnlineUsersEvent | ErrorEvent;

/** Anything a client may ask for. */
export type Command = { readonly type: "chat"; readonly content: string; readonly ref?: string };

/** The closed list of reasons for an error. */
export type ErrorCode =
  | "bad_request"
  | "too_big"
  | "name_in_use"
  | "full"
  | "unavailable";

/** The HTTP status that says the same as an error code. */
export const ERROR_STATUS = {
  bad_request: 400,
  too_big: 413,
  name_in_use: 409,
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

  /** @param message a sentence for people that says what to do */
  constructor(code: ErrorCode, message: string, ref?: string) {
    super(message);
    this.code = code;
    this.ref = ref;
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
  tooBig: { code: 1009, reason: "message is too big", reconnect: false },
  internal: { code: 1011, reason: "internal error", reconnect: true },
  overload: { code: 1013, reason: "server is full, try again later", reconnect: true },
  tooSlow: { code: 4008, reason: "client is too slow", reconnect: true },
  nameInUse: { code: 4009, reason: "name is in use", reconnect: false },
} as const satisfies Record<string, CloseReason>;

/** The close that goes with an error that ends a connection. */
export const ERROR_CLOSE = {
  bad_request: CLOSE.internal,
  too_big: CLOSE.tooBig,
  name_in_use: CLOSE.nameInUse,
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

/** Longest `ref`, in UTF-16 units. */
export const MAX_REF_LENGTH = 64;

/**
 * Reads one text frame.
 *
 * A JSON object whose `type` is a string is a command; any other text is a chat message itself.
 * In the raw format every text is a message: whoever relays text can tell of no command.
 *
 * @throws {ProtocolError} `too_big`, or `bad_request` with what is wrong
 */
export function decode(text: string, format: Format, limits: SizeLimits): Command {
  if (isLongerThan(text, limits.maxFrameBytes)) {
    throw new ProtocolError("too_big", `A frame may have at most ${limits.maxFrameBytes} bytes.`);
  }
  const object = format === "raw" ? undefined : parseCommandObject(text);
  if (object === undefined) return { type: "chat", content: checkContent(text, limits) };
  const ref = readRef(object);
  try {
    return { ...readCommand(object, limits), ...(ref !== undefined && { ref }) };
  } catch (error) {
    if (error instanceof ProtocolError) throw new ProtocolError(error.code, error.message, ref);
    throw error;
  }
}

/** The JSON object that a frame holds, if it is one with a `type`: else the frame is a message. */
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
  switch (object.type) {
    case "chat":
      return { type: "chat", content: checkContent(object.content, limits) };
    default:
      throw new ProtocolError("bad_request", "This type of command is unknown.");
  }
}

function readRef(object: Record<string, unknown>): string | undefined {
  const ref = object.ref;
  if (ref === undefined) return undefined;
  if (typeof ref !== "string" || ref.length === 0 || ref.length > MAX_REF_LENGTH) {
    throw new ProtocolError(
      "bad_request",
      `ref must be a string of 1 to ${MAX_REF_LENGTH} characters.`,
    );
  }
  return ref;
}

function checkContent(content: unknown, limits: SizeLimits): string {
  if (typeof content !== "string") {
    throw new ProtocolError("bad_request", "content must be a string.");
  }
  if (isLongerThan(content, limits.maxMessageBytes)) {
    throw new ProtocolError(
      "too_big",
      `A message may have at most ${limits.maxMessageBytes} bytes of text.`,
    );
  }
  if (content.trim() === "") throw new ProtocolError("bad_request", "A message must not be empty.");
  if (/(?![\t\n\r])\p{Cc}/u.test(content) || !content.isWellFormed()) {
    throw new ProtocolError(
      "bad_request",
      "A message must be Unicode text without control characters other than tab and line break.",
    );
  }
  return content;
}

const utf8 = new TextEncoder();

/** Whether a text has more UTF-8 bytes than `limit`. A unit of UTF-16 is one to three of them. */
function isLongerThan(text: string, limit: number): boolean {
  if (text.length * 3 <= limit) return false;
  return text.length > limit || utf8.encode(text).length > limit;
}

/**
 * Writes one event in one format.
 *
 * @returns the frame's text, or `undefined` if that format does not carry such an event
 */
export function encode(event: Event, format: Format): string | undefined {
  switch (format) {
    case "json":
      return JSON.stringify(event);
    case "text":
      return encodeLine(event);
    case "raw":
      if (event.type === "chat") return event.content;
      return event.type === "error" ? encodeLine(event) : undefined;
  }
}

function encodeLine(event: Event): string {
  switch (event.type) {
    case "chat":
      // Further lines are set in, so that nobody can write a line in another's name.
      return `${event.username}: ${event.content.replace(/\r\n?|\n/g, "\n  ")}`;
    case "user_joined":
      return `User '${event.username}' joined the chat`;
    case "user_left":
      return `User '${event.username}' left the chat`;
    case "online_users":
      return `Online: ${event.content.replaceAll(",", ", ")}`;
    case "error":
      return `Error: ${event.content}`;
  }
}
