/**
 * Refusals: each has a code for programs and a sentence for people.
 *
 * A refusal that several files need has its function here. The HTTP status of a code is in
 * `http/app.ts`, its close code in `protocol/codes.ts`.
 *
 * @module
 */

/** The closed list of reasons for an error. */
export type ErrorCode =
  | "bad_request"
  | "conflict"
  | "too_big"
  | "name_in_use"
  | "unauthenticated"
  | "forbidden"
  | "not_found"
  | "rate_limited"
  | "full"
  | "unavailable";

/** What an error may carry besides its code and sentence. */
export interface ChatErrorOptions {
  /** The `ref` of the refused command, if it had a valid one. */
  readonly ref?: string | undefined;
  /** Seconds until a retry may succeed, if known. */
  readonly retryAfter?: number | undefined;
}

/** An expected error, safe to show to a client. Every other error is logged and never sent. */
export class ChatError extends Error {
  override readonly name: string = "ChatError";
  /** The reason, for programs. */
  readonly code: ErrorCode;
  /** The `ref` of the refused command, if it had a valid one. */
  readonly ref: string | undefined;
  /** Seconds until a retry may succeed, if known. */
  readonly retryAfter: number | undefined;

  /** @param sentence for people; it says what to do */
  constructor(code: ErrorCode, sentence: string, { ref, retryAfter }: ChatErrorOptions = {}) {
    super(sentence);
    this.code = code;
    this.ref = ref;
    this.retryAfter = retryAfter;
  }

  /** A copy of the error that carries this `ref`. */
  withRef(ref: string | undefined): ChatError {
    return new ChatError(this.code, this.message, { ref, retryAfter: this.retryAfter });
  }
}

/** The refusal of malformed input. */
export function badRequest(sentence: string): ChatError {
  return new ChatError("bad_request", sentence);
}

/** The refusal of a request without a room or a name. */
export function namesRequired(): ChatError {
  return badRequest("room and username are required");
}

/**
 * The refusal of what a client does too often.
 *
 * @param what the words for it, such as `messages at once`
 * @param seconds the time until it is allowed again
 */
export function rateLimited(what: string, seconds: number): ChatError {
  const retryAfter = Math.ceil(seconds * 10) / 10;
  return new ChatError("rate_limited", `Too many ${what}. Wait ${retryAfter} seconds.`, {
    retryAfter,
  });
}

/** The refusal of a ref that the person used for a message with another text or `reply_to`. */
export function refInUse(): ChatError {
  return new ChatError(
    "conflict",
    "This ref belongs to another message of yours. Use a new ref.",
  );
}

/** The refusal when another person holds the name in the room. */
export function nameInUse(): ChatError {
  return new ChatError("name_in_use", "This name is in use in this room. Choose another.");
}

/** The refusal when an account owns the name. */
export function nameBelongsToAccount(): ChatError {
  const sentence = "This name belongs to an account. Sign in, or choose another name.";
  return new ChatError("unauthenticated", sentence);
}

/** The refusal when nobody in the room has the name. */
export function nobodyWithName(): ChatError {
  return new ChatError("not_found", "Nobody with this name is in the room.");
}

/** The refusal of a change to a message that the room does not have. */
export function noSuchMessage(): ChatError {
  return new ChatError("not_found", "There is no such message in this room.");
}

/** The refusal of a change to another person's message. */
export function onlyAuthor(): ChatError {
  return new ChatError("forbidden", "Only the author of a message may change it.");
}

/** The refusal of an answer to a message that the room does not have. */
export function nothingToAnswer(): ChatError {
  return new ChatError(
    "not_found",
    "This room does not have the message that you answer. Send yours without reply_to.",
  );
}

/** The refusal of an expired, revoked or invalid token. */
export function sessionEnded(): ChatError {
  return new ChatError("unauthenticated", "Your session has ended. Sign in again.");
}

/** The refusal of a guest where an account is needed. */
export function notSignedIn(): ChatError {
  return new ChatError("unauthenticated", "Sign in to do this.");
}

/** The refusal of a command that only the room's owner, its moderators and admins may use. */
export function notModerator(): ChatError {
  return new ChatError(
    "forbidden",
    "Only the room's owner, its moderators or an admin may do this.",
  );
}

/** The refusal of a change that only the room's owner and admins may make. */
export function notOwner(): ChatError {
  return new ChatError("forbidden", "Only the room's owner or an admin may do this.");
}

/** The refusal when an account claims a room that others use. */
export function roomInUse(): ChatError {
  const sentence = "This room is in use. Choose a new one, or ask an admin to give it to you.";
  return new ChatError("forbidden", sentence);
}

/** The refusal of every request while the server stops. */
export function restarting(): ChatError {
  return new ChatError("unavailable", "The server is restarting. Try again in a moment.");
}

/** The refusal when the engine fails. */
export function storeUnavailable(): ChatError {
  const sentence = "The server cannot store or read anything now. Try again later.";
  return new ChatError("unavailable", sentence);
}
