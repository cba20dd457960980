/**
 * Refusals that only HTTP knows, each with its status.
 *
 * @module
 */

/** The refusal of a request for its form, not for its command. */
export class HttpError extends Error {
  override readonly name: string = "HttpError";
  readonly status: 400 | 405 | 421 | 426;
  /** Headers of the answer. */
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: 400 | 405 | 421 | 426,
    message: string,
    headers: Record<string, string> = {},
  ) {
    super(message);
    this.status = status;
    this.headers = headers;
  }
}
