/**
 * What a client may not do: a code for programs, a sentence for people.
 *
 * @module
 */

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

/** Something a client may not do, with the code and the sentence it is told. */
export class ChatError extends Error {
  override name = "ChatError";
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

/** A `bad_request`, with what is wrong. */
export function badRequest(sentence: string): ChatError {
  return new ChatError("bad_request", sentence);
}
