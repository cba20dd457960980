/**
 * Commands, from clients to the server: the type of each, and the reader of frames.
 *
 * @module
 */

import { badRequest, ChatError } from "../errors.ts";
import { BLANKS } from "../names.ts";
import { type Format, isLongerThan, isWhole } from "./encode.ts";

/** What every command may carry. */
interface CommandBase {
  /** The client's own id of the command, returned with the answer; 1 to 64 characters. */
  readonly ref?: string;
}

/** Sends a message to the room. */
export interface ChatCommand extends CommandBase {
  readonly type: "chat";
  readonly content: string;
  /** The id of the message that this one answers. */
  readonly reply_to?: string;
}

/** Starts or stops typing. Typing that is not renewed stops after 5 seconds. */
export interface TypingCommand extends CommandBase {
  readonly type: "typing";
  readonly active: boolean;
}

/** Sends a private message to one person in the room. */
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

/** Replaces the text of the sender's own message. */
export interface EditCommand extends CommandBase {
  readonly type: "edit";
  readonly id: string;
  readonly content: string;
}

/** Deletes the sender's own message; as a moderator, any message. */
export interface DeleteCommand extends CommandBase {
  readonly type: "delete";
  readonly id: string;
}

/**
 * Removes a user, or the author of a message, from the room; with `ban` the person cannot return.
 * For the owner, moderators and admins only.
 */
export interface KickCommand extends CommandBase {
  readonly type: "kick";
  /** Absent if the command names a message. */
  readonly username?: string;
  /** The message whose author is removed: members of the raw relay have no name. */
  readonly id?: string;
  /** Shown to the removed user; at most 200 characters. */
  readonly reason?: string;
  readonly ban?: boolean;
}

/** Changes the named settings of the room. For the owner and admins only. */
export interface RoomCommand extends CommandBase, RoomChange {
  readonly type: "room";
}

/** New settings of a room; an absent one stays as it is. */
export interface RoomChange {
  /** Whether the room admits only its members. */
  readonly private?: boolean;
  /** The names of the members' accounts; at most 200. */
  readonly members?: readonly string[];
  /** Names to unban; at most 200. */
  readonly unban?: readonly string[];
  /** The name of the account that owns the room from now on. */
  readonly owner?: string;
  /** The names of the moderators' accounts; at most 200. */
  readonly moderators?: readonly string[];
}

/** Any command. */
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

/** How large frames and messages may be. */
export interface SizeLimits {
  /** Maximum UTF-8 bytes of the content of one message; `Infinity` for no limit. */
  readonly maxMessageBytes: number;
  /** Maximum UTF-8 bytes of one frame; `Infinity` for no limit. */
  readonly maxFrameBytes: number;
}

/** Length of each end of a frame that {@linkcode peekRef} searches, in UTF-16 units. */
const MAX_PEEKED = 256;

/** Maximum length of a `ref` or an `id`, in UTF-16 units. */
const MAX_REF_LENGTH = 64;

/** Maximum messages in the answer to one `history` command. */
const MAX_PAGE = 100;

/** Maximum messages in the answer to a `history` command without a limit. */
const DEFAULT_PAGE = 50;

/**
 * Reads one text frame.
 *
 * A JSON object whose `type` is a string is a command. Any other text from a plain client is a
 * message. The raw format has no commands: every text is a message.
 *
 * @throws {ChatError} `too_big`, or `bad_request` with a sentence that says what is wrong
 */
export function decode(text: string, format: Format, limits: SizeLimits): Command {
  if (isLongerThan(text, limits.maxFrameBytes)) {
    throw new ChatError("too_big", `A frame may have at most ${limits.maxFrameBytes} bytes.`);
  }
  const object = format === "raw" ? undefined : parseCommandObject(text);
  if (object !== undefined) return readCommand(object, limits);
  if (isWhole(format)) throw badRequest("A frame must be a JSON object with a type.");
  return { type: "chat", content: readContent(text, limits) };
}

/**
 * Best guess at the `ref` of a frame that is refused unparsed. It searches only the two ends, since
 * the frame may have any size.
 */
export function peekRef(text: string): string | undefined {
  for (const part of [text.slice(0, MAX_PEEKED), text.slice(-MAX_PEEKED)]) {
    const ref = /"ref"\s*:\s*"([^"\\]{1,64})"/.exec(part)?.[1];
    if (ref !== undefined && isPlain(ref)) return ref;
  }
}

/**
 * Reads the fields of a message.
 *
 * @throws {ChatError} `too_big` or `bad_request`
 */
export function readChat(
  { content, reply_to, ref }: Record<string, unknown>,
  limits: SizeLimits,
): ChatCommand {
  return readCommand({ type: "chat", content, reply_to, ref }, limits) as ChatCommand;
}

/** Reads the fields of a request for messages. @throws {ChatError} `bad_request` */
export function readHistory({ before, after, limit }: Record<string, unknown>): HistoryCommand {
  return { type: "history", ...readRange({ before, after, limit }) };
}

/** The JSON object in a frame, if it has a `type`. */
function parseCommandObject(text: string): Record<string, unknown> | undefined {
  if (!/^\s*\{/.test(text)) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const object = value as Record<string, unknown>;
  return typeof object.type === "string" ? withoutNulls(object) : undefined;
}

/** Deletes the fields of an object that are `null`: they count as absent. */
export function withoutNulls(object: Record<string, unknown>): Record<string, unknown> {
  for (const name in object) if (object[name] === null) delete object[name];
  return object;
}

function readCommand(object: Record<string, unknown>, limits: SizeLimits): Command {
  if (object.ref === undefined) return readFields(object, limits);
  const ref = readId("ref", object.ref);
  try {
    return Object.assign(readFields(object, limits), { ref });
  } catch (error) {
    if (error instanceof ChatError) throw error.withRef(ref);
    throw error;
  }
}

function readFields(object: Record<string, unknown>, limits: SizeLimits): Command {
  switch (object.type) {
    case "chat": {
      const content = readContent(object.content, limits);
      if (object.reply_to === undefined) return { type: "chat", content };
      return { type: "chat", content, reply_to: readId("reply_to", object.reply_to) };
    }
    case "typing":
      if (typeof object.active !== "boolean") throw badRequest("active must be true or false.");
      return { type: "typing", active: object.active };
    case "dm":
      if (typeof object.to !== "string") throw badRequest("to must be a name.");
      return { type: "dm", to: object.to, content: readContent(object.content, limits) };
    case "history":
      return readHistory(object);
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

/** Maximum length of the reason for a kick, in UTF-16 units. */
const MAX_REASON_LENGTH = 200;

/** Maximum names in a list of a room's settings. */
const MAX_LISTED_NAMES = 200;

function readKick({ username, id, reason, ban }: Record<string, unknown>) {
  if ((username === undefined) === (id === undefined)) {
    throw badRequest("Name either the username or the id of a message.");
  }
  if (username !== undefined && typeof username !== "string") {
    throw badRequest("username must be a name.");
  }
  if (reason !== undefined && (typeof reason !== "string" || reason.length > MAX_REASON_LENGTH)) {
    throw badRequest(`reason must be a text of at most ${MAX_REASON_LENGTH} characters.`);
  }
  if (reason !== undefined && !isPlain(reason)) {
    throw badRequest("reason must be Unicode text without control characters.");
  }
  if (ban !== undefined && typeof ban !== "boolean") throw badRequest("ban must be true or false.");
  return {
    ...(username === undefined ? { id: readId("id", id) } : { username }),
    ...(reason !== undefined && { reason }),
    ...(ban !== undefined && { ban }),
  };
}

/**
 * Reads new settings of a room.
 *
 * @throws {ChatError} `bad_request` if a field is wrong or all are absent
 */
export function readRoomChange(object: Record<string, unknown>): RoomChange {
  const { private: isPrivate, members, unban, owner, moderators } = object;
  if (isPrivate !== undefined && typeof isPrivate !== "boolean") {
    throw badRequest("private must be true or false.");
  }
  if (owner !== undefined && typeof owner !== "string") throw badRequest("owner must be a name.");
  if ([isPrivate, members, unban, owner, moderators].every((value) => value === undefined)) {
    throw badRequest("Name at least one of private, members, moderators, owner and unban.");
  }
  return {
    ...(isPrivate !== undefined && { private: isPrivate }),
    ...(members !== undefined && { members: readNames("members", members) }),
    ...(unban !== undefined && { unban: readNames("unban", unban) }),
    ...(owner !== undefined && { owner }),
    ...(moderators !== undefined && { moderators: readNames("moderators", moderators) }),
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
  if (!isPlain(value)) {
    throw badRequest(`${name} must be Unicode text without control characters.`);
  }
  return value;
}

/** Whether a short text is valid Unicode without control characters. */
function isPlain(text: string): boolean {
  return !/\p{Cc}/u.test(text) && text.isWellFormed();
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

/** A character that shows something. */
const VISIBLE = new RegExp(
  `[^\\p{White_Space}\\p{DI}\\p{Cc}\\p{Cf}\\p{Cs}\\p{NChar}${BLANKS}]`,
  "u",
);

function readContent(content: unknown, limits: SizeLimits): string {
  if (typeof content !== "string") throw badRequest("content must be a string.");
  if (isLongerThan(content, limits.maxMessageBytes)) {
    const { maxMessageBytes } = limits;
    throw new ChatError(
      "too_big",
      `A message may have at most ${maxMessageBytes} bytes of text.`,
    );
  }
  if (/[\p{Cc}--[\t\n\r]]/v.test(content) || !content.isWellFormed()) {
    throw badRequest(
      "A message must be Unicode text without control characters other than tab and line break.",
    );
  }
  if (!VISIBLE.test(content)) throw badRequest("A message must not be empty.");
  return content;
}
