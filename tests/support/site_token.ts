/** Tokens of a site that signs in its own people, valid and invalid. */

import { Buffer } from "node:buffer";
import { createHmac } from "node:crypto";

export const SIGN_IN_SECRET = "the secret that the site and the chat share";

/** Deviations of a token from a valid one. */
export interface Forgery {
  /** @default `SIGN_IN_SECRET` */
  secret?: string;
  /** Its JSON, or a text in place of it. @default `{ alg: "HS256", typ: "JWT" }` */
  header?: unknown;
  /** The hash of the signature. @default "sha256" */
  hash?: string;
}

/** Signs claims, or a text in place of their JSON. */
export function sign(claims: unknown, forgery: Forgery = {}): string {
  const { secret = SIGN_IN_SECRET, hash = "sha256" } = forgery;
  const { header = { alg: "HS256", typ: "JWT" } } = forgery;
  const text = [header, claims].map(toPart).join(".");
  return `${text}.${createHmac(hash, secret).update(text).digest("base64url")}`;
}

function toPart(value: unknown): string {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return Buffer.from(text).toString("base64url");
}

/** A token for a person, for ten minutes unless the claims say otherwise. */
export function siteToken(sub: string, name: string, claims: Record<string, unknown> = {}): string {
  return sign({ sub, name, exp: inSeconds(600), ...claims });
}

/** A time in the form of tokens, in seconds since 1970. */
export function inSeconds(seconds: number): number {
  return Date.now() / 1000 + seconds;
}
