/**
 * How a connection proves to be the same person as another one: by a secret that only the first one
 * was told.
 *
 * @module
 */

import { createHash, randomBytes } from "node:crypto";

/** What a session looks like: 256 bits in base64url (RFC 4648, section 5). */
const SESSION = /^[A-Za-z0-9_-]{43}$/;

/** A new secret of 256 random bits, as 43 characters of base64url. */
export function createSession(): string {
  return randomBytes(32).toString("base64url");
}

/** Whether a text can be a session at all. */
export function isSession(text: string): boolean {
  return SESSION.test(text);
}

/** Who a session stands for: a name for the server's own use, from which the secret cannot be told. */
export function personOf(session: string): string {
  return `guest:${createHash("sha256").update(session).digest("base64url")}`;
}
