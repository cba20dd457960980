/**
 * Refusals that only HTTP knows, each with its status.
 *
 * @module
 */

/** A request that is refused as such, whatever it asks for. */
export class HttpError extends Error {
  override readonly name: string = "HttpError";
  readonly status: 400 | 405 | 421 | 426;
  /** Headers that the answer must have. */
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
