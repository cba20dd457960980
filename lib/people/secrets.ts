/**
 * Secrets that prove who a client is: tokens of accounts, and secrets of guests.
 *
 * @module
 */

import { hash, randomBytes, timingSafeEqual } from "node:crypto";

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

/** A code of 80 random bits that people copy by hand: 16 characters of base32 (RFC 4648). */
export function createCode(): string {
  const alphabet = "abcdefghijklmnopqrstuvwxyz234567";
  return Array.from(randomBytes(16), (byte) => alphabet[byte % 32]).join("");
}

/** Whether two secrets are the same, in a time that does not depend on where they differ. */
export function isSame(one: string, other: string): boolean {
  // Their hashes have the same length.
  return timingSafeEqual(hash("sha256", one, "buffer"), hash("sha256", other, "buffer"));
}

/** The SHA-256 of a secret, in base64url: safe to store, as it does not reveal the secret. */
export function hashSecret(secret: string): string {
  return hash("sha256", secret, "base64url");
}
