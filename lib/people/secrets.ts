/**
 * Secrets that prove who somebody is: tokens of accounts, and the sessions of guests.
 *
 * @module
 */

import { createHash, randomBytes } from "node:crypto";

/** What a secret looks like: 256 bits in base64url (RFC 4648, section 5). */
const SECRET = /^[A-Za-z0-9_-]{43}$/;

/** A new secret of 256 random bits, as 43 characters of base64url. */
export function createSecret(): string {
  return randomBytes(32).toString("base64url");
}

/** Whether a text can be a secret at all. */
export function isSecret(text: string): boolean {
  return SECRET.test(text);
}

/** What is kept of a secret: SHA-256 in base64url. The secret cannot be told from it. */
export function hashSecret(secret: string): string {
  return createHash("sha256").update(secret).digest("base64url");
}
