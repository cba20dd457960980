/**
 * Close codes: every reason for which the server closes a connection, in one table.
 *
 * @module
 */

import type { ErrorCode } from "../errors.ts";

/** A reason to close a connection. */
export interface CloseReason {
  /** RFC 6455, section 7.4, or 4000 to 4999 for our own. */
  readonly code: number;
  /** At most 123 bytes of UTF-8 (RFC 6455, section 5.5). */
  readonly reason: string;
  /** Whether a client should reconnect without asking its user. */
  readonly reconnect: boolean;
}

/** Every reason for which the server closes a connection. */
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

/** The close code of an error that ends its connection. */
export const ERROR_CLOSE = {
  bad_request: CLOSE.policy,
  conflict: CLOSE.policy,
  too_big: CLOSE.tooBig,
  name_in_use: CLOSE.nameInUse,
  unauthenticated: CLOSE.unauthenticated,
  forbidden: CLOSE.forbidden,
  not_found: CLOSE.policy,
  rate_limited: CLOSE.rateLimit,
  full: CLOSE.overload,
  unavailable: CLOSE.overload,
} as const satisfies Record<ErrorCode, CloseReason>;
