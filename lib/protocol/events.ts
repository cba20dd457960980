/**
 * What the server sends: every event, as it goes over the wire.
 *
 * @module
 */

import type { ChatError, ErrorCode } from "../errors.ts";

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

/** What a room's log holds. Each has its own `seq`. */
export type LogEvent = ChatEvent | MessageUpdatedEvent | MessageDeletedEvent;

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

/** What every event has besides its type. Most have no content and are about nobody. */
export function envelope(room: string, content = "", username = ""): EventBase {
  return { content, room, username };
}

/** Says why something is refused. */
export function errorEvent(room: string, error: ChatError): ErrorEvent {
  const { message, code, ref, retryAfter } = error;
  return {
    type: "error",
    ...envelope(room, message),
    code,
    ...(retryAfter !== undefined && { retry_after: retryAfter }),
    ...(ref !== undefined && { ref }),
  };
}
