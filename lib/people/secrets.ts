/**
 * Secrets that prove who a client is: tokens of accounts, and secrets of guests.
 *
 * @module
 */

import { createHash, randomBytes } from "node:crypto";

/** The form of a secret: 256 bits in base64url (RFC 4648, section 5). */
const SECRET = /^[A-Za-z0-9_-]{43}$/;

/** A new secret of 256 random bits, as 43 characters of base64url. */
export function createSecret(): string {
  return randomBytes(32).toString("base64url");
}

/** Whether a text has the form of a secret. */
export function isSecret(text: string): boolean {
  return SECRET.test(text);
}

/** The SHA-256 of a secret, in base64url: safe to store, as it does not reveal the secret. */
export function hashSecret(secret: string): string {
  return createHash("sha256").update(secret).digest("base64url");
}
