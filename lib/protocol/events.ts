/**
 * Events, from the server to clients: the type of each, and functions that make their common parts.
 *
 * @module
 */

import type { ChatError, ErrorCode } from "../errors.ts";

/** The fields of every event besides its type. */
export interface EventBase {
  /** A text; empty if the event has none. */
  readonly content: string;
  /** The room of the event; empty if it is about none. */
  readonly room: string;
  /** The user that the event is about; empty if it is about none. */
  readonly username: string;
}

/** A message in the room. */
export interface ChatEvent extends EventBase {
  /** Distinguishes it from other events. */
  readonly type: "chat";
  /** Unique for ever. */
  readonly id: string;
  /** Counts from 1 without holes, and orders the room's events. */
  readonly seq: number;
  /** RFC 3339, UTC, milliseconds; never goes backwards within a room. */
  readonly timestamp: string;
  /** The sender's own id of the message. */
  readonly ref?: string;
  /** The id of the message that this one answers; absent if it answers none, or is deleted. */
  readonly reply_to?: string;
  /** Present if its author has edited it. */
  readonly edited?: true;
  /**
   * Present if it is deleted. It has no text; only a resuming client receives it, so that no `seq`
   * is missing.
   */
  readonly deleted?: true;
  /** Present if it is older than this membership. */
  readonly history?: true;
}

/** A message has a new text. `id` is the message's, `seq` and `timestamp` are the change's. */
export interface MessageUpdatedEvent extends EventBase {
  /** Distinguishes it from other events. */
  readonly type: "message_updated";
  /** The id of the message. */
  readonly id: string;
  /** The number of the change. */
  readonly seq: number;
  /** When the text changed. */
  readonly timestamp: string;
}

/** A message was deleted. `id` is the message's, `seq` and `timestamp` are the deletion's. */
export interface MessageDeletedEvent extends EventBase {
  /** Distinguishes it from other events. */
  readonly type: "message_deleted";
  /** The id of the message. */
  readonly id: string;
  /** The number of the deletion. */
  readonly seq: number;
  /** When the message was deleted. */
  readonly timestamp: string;
}

/** A user joined or left: `NAME joined the room`, `NAME left the room`. */
export interface NoticeEvent extends EventBase {
  /** Distinguishes it from other events. */
  readonly type: "user_joined" | "user_left";
}

/** One user, and the number of its connections. */
export interface UserEntry {
  /** The name of the user. */
  readonly username: string;
  /** How many connections the user has in the room. */
  readonly connections: number;
}

/** The users in the room: `content` is their names, joined by commas (no name contains one). */
export interface OnlineUsersEvent extends EventBase {
  /** Distinguishes it from other events. */
  readonly type: "online_users";
  /** The same names, in the same order; at most 100. */
  readonly users: readonly UserEntry[];
  /** The number of all users. */
  readonly online: number;
}

/** The users that joined and left since the last `presence`. */
export interface PresenceEvent extends EventBase {
  /** Distinguishes it from other events. */
  readonly type: "presence";
  /** At most 50 names in a crowd; in the first `presence` after it has shrunk, every user. */
  readonly joined: readonly string[];
  /** The number of users that joined, named or not. */
  readonly joined_count: number;
  /** At most 50 names in a crowd; after it has shrunk, also those that were left out before. */
  readonly left: readonly string[];
  /** The number of users that left, named or not. */
  readonly left_count: number;
  /** The number of users now. */
  readonly online: number;
  /** All users, in the first `presence` after a crowd has shrunk: `left` may lack some names. */
  readonly users?: readonly UserEntry[];
}

/** A person's rights in a room. All but members moderate. */
export type Role = "owner" | "admin" | "moderator" | "member";

/** The first event: your name, the room, and its newest number. */
export interface WelcomeEvent extends EventBase {
  /** Distinguishes it from other events. */
  readonly type: "welcome";
  /**
   * A guest's secret, which proves that another connection is the same person. Empty for an
   * account.
   */
  readonly session: string;
  /** Your rights here. */
  readonly role: Role;
  /** Whether the room admits only its members. */
  readonly private: boolean;
  /** Identifies the room's numbering: under another epoch, a `seq` means another event. */
  readonly epoch: string;
  /** The room's newest `seq`. */
  readonly seq: number;
  /** The newest `inbox_seq` of your private messages here. */
  readonly inbox_seq: number;
  /** Whether every event after the requested `seq` follows. */
  readonly recovered: boolean;
  /** The users in the room; at most 100. */
  readonly users: readonly UserEntry[];
  /** The number of all users. */
  readonly online: number;
  /** The names of users that are typing now; at most 100. */
  readonly typing: readonly string[];
  /** The maximum sizes of what you send. */
  readonly limits: {
    /** UTF-8 bytes of a message; `null` for no limit. */
    readonly max_message_bytes: number | null;
    /** UTF-8 bytes of a frame; `null` for no limit. */
    readonly max_frame_bytes: number | null;
  };
}

/** The room's numbering continues in a new epoch: every `seq` that you have seen stays valid. */
export interface EpochEvent extends EventBase {
  /** Distinguishes it from other events. */
  readonly type: "epoch";
  /** Replaces the epoch of the `welcome`: resume with it from now on. */
  readonly epoch: string;
}

/** A command has taken effect, and its message is stored. */
export interface AckEvent extends EventBase {
  /** Distinguishes it from other events. */
  readonly type: "ack";
  /** The command's `ref`; absent only over HTTP, for a command without one. */
  readonly ref?: string | undefined;
  /** The id of the message; absent if the command is about none. */
  readonly id?: string | undefined;
  /** Its number in the room; absent for a private message. */
  readonly seq?: number | undefined;
  /** Its number among your private messages; absent for any other message. */
  readonly inbox_seq?: number | undefined;
  /** When the message was stored; absent if the command is about none. */
  readonly timestamp?: string | undefined;
  /** Present if an earlier message has this `ref`. The id and numbers are the earlier message's. */
  readonly duplicate?: true | undefined;
}

/** A page of older or newer messages. */
export interface HistoryEvent extends EventBase {
  /** Distinguishes it from other events. */
  readonly type: "history";
  /** The command's `ref`; absent if it has none. */
  readonly ref?: string;
  /** The epoch of the numbers in `messages`. */
  readonly epoch: string;
  /** Oldest first. */
  readonly messages: readonly ChatEvent[];
  /** Whether there are more messages in the requested direction. */
  readonly more: boolean;
}

/** A user starts or stops typing. */
export interface TypingEvent extends EventBase {
  /** Distinguishes it from other events. */
  readonly type: "typing";
  /** Whether the user is typing. */
  readonly active: boolean;
}

/** A private message from `username` to `to`. */
export interface DmEvent extends EventBase {
  /** Distinguishes it from other events. */
  readonly type: "dm";
  /** The name of the receiver. */
  readonly to: string;
  /** Unique for ever. */
  readonly id: string;
  /** Its number among your private messages in this room. */
  readonly inbox_seq: number;
  /** RFC 3339, UTC, milliseconds. */
  readonly timestamp: string;
  /** The sender's own id of the message. */
  readonly ref?: string;
  /** Present if it is older than this membership. */
  readonly history?: true;
}

/** The answer to `ping`. */
export interface PongEvent extends EventBase {
  /** Distinguishes it from other events. */
  readonly type: "pong";
  /** The command's `ref`; absent if it has none. */
  readonly ref?: string;
}

/** A refusal. `content` is a sentence that says what to do. */
export interface ErrorEvent extends EventBase {
  /** Distinguishes it from other events. */
  readonly type: "error";
  /** The reason, for programs. */
  readonly code: ErrorCode;
  /** Seconds until a retry may succeed, if known. */
  readonly retry_after?: number;
  /** The `ref` of the refused command, if it had a valid one. */
  readonly ref?: string;
}

/** An event of a room's log. Each has its own `seq`. */
export type LogEvent = ChatEvent | MessageUpdatedEvent | MessageDeletedEvent;

/** Any event. */
export type Event =
  | ChatEvent
  | MessageUpdatedEvent
  | MessageDeletedEvent
  | NoticeEvent
  | OnlineUsersEvent
  | PresenceEvent
  | WelcomeEvent
  | EpochEvent
  | AckEvent
  | HistoryEvent
  | TypingEvent
  | DmEvent
  | PongEvent
  | ErrorEvent;

/**
 * Whether plain clients receive events of a type: the tutorial's four types, errors, answers to
 * commands, and private messages.
 */
export const IS_FOR_PLAIN_CLIENTS: Readonly<Record<Event["type"], boolean>> = {
  chat: true,
  user_joined: true,
  user_left: true,
  online_users: true,
  error: true,
  ack: true,
  history: true,
  pong: true,
  dm: true,
  welcome: false,
  epoch: false,
  presence: false,
  typing: false,
  message_updated: false,
  message_deleted: false,
};

/** Makes the common fields of an event. */
export function envelope(room: string, content = "", username = ""): EventBase {
  return { content, room, username };
}

/** Makes the event of a refusal. */
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
