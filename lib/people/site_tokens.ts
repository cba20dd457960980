/**
 * Tokens that sign in the people of the operator's own site: JSON Web Tokens (RFC 7519), signed by
 * that site's server with HMAC and SHA-256, `HS256` (RFC 7518, section 3.2).
 *
 * Tokens with any other algorithm are refused (RFC 8725, section 3.1). The signature is checked
 * before any claim of a token is used.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { createHmac, createSecretKey, type KeyObject, timingSafeEqual } from "node:crypto";
import { ChatError, sessionEnded } from "../errors.ts";
import { parseName } from "../names.ts";

/** A person whom the site has signed in. */
export interface SitePerson {
  /** The site's id of the person. */
  readonly id: string;
  /** A name that has passed `parseName`. */
  readonly username: string;
  /** When the token ends, in milliseconds since 1970. */
  readonly expiresAt: number;
}

/** Maximum length of a token, in characters. */
const MAX_LENGTH = 4096;

/** Maximum length of an id, in UTF-16 units. */
const MAX_ID_LENGTH = 64;

/** Maximum time until a token ends, in seconds. */
const MAX_SECONDS = 24 * 60 * 60;

/** How far the clock of the site may be ahead, in seconds. */
const CLOCK_SECONDS = 60;

/** The compact form (RFC 7515, section 3.1) with a signature of 32 bytes. */
const COMPACT = /^([\w-]+)\.([\w-]+)\.([\w-]{43})$/;

/** Reads the tokens that are signed with one secret. */
export class SiteTokens {
  readonly #key: KeyObject;
  readonly #clock: () => number;

  /**
   * @param secret at least 32 characters: as many bytes as the hash has (RFC 7518, section 3.2)
   * @param clock the time in milliseconds since 1970
   */
  constructor(secret: string, clock: () => number) {
    this.#key = createSecretKey(secret, "utf8");
    this.#clock = clock;
  }

  /** Whether a text may be such a token: no other credential has a dot. */
  static isOne(token: string): boolean {
    return token.includes(".");
  }

  /**
   * The person that a token signs in.
   *
   * @throws {ChatError} `unauthenticated`, with a sentence for the site's operator
   */
  read(token: string): SitePerson {
    const [, header, payload, signature] =
      (token.length <= MAX_LENGTH ? COMPACT.exec(token) : null) ?? [];
    const { alg, crit } = objectIn(header ?? "");
    // A token that needs an unknown extension is invalid (RFC 7515, section 4.1.11).
    if (alg !== "HS256" || crit !== undefined) throw notSigned();
    if (!this.#hasSigned(`${header}.${payload}`, signature!)) throw notSigned();
    return readClaims(objectIn(payload!), this.#clock() / 1000);
  }

  #hasSigned(text: string, signature: string): boolean {
    const right = createHmac("sha256", this.#key).update(text).digest();
    return timingSafeEqual(right, Buffer.from(signature, "base64url"));
  }
}

/** The JSON object in a part of a token; an empty object if the part is anything else. */
function objectIn(part: string): Record<string, unknown> {
  try {
    const value = JSON.parse(Buffer.from(part, "base64url").toString());
    return typeof value === "object" && value !== null ? value : {};
  } catch {
    return {};
  }
}

/** @param now the time in seconds since 1970, as tokens have it (RFC 7519, section 2) */
function readClaims(claims: Record<string, unknown>, now: number): SitePerson {
  const { sub, name, exp, aud, nbf = now, iat = now } = claims;
  // A token for another receiver must be refused (RFC 7519, section 4.1.3). This one has no name.
  if (aud !== undefined) throw badToken("must have no aud: sign a token for this server alone.");
  if (typeof exp !== "number" || exp > now + MAX_SECONDS + CLOCK_SECONDS) {
    throw badToken("needs exp: its end in seconds since 1970, at most 24 hours from now.");
  }
  if (exp <= now) throw sessionEnded();
  for (const start of [nbf, iat]) {
    if (typeof start === "number" && start <= now + CLOCK_SECONDS) continue;
    throw badToken("is not valid yet. Check nbf and iat, in seconds, and the clock of your site.");
  }
  return { id: readId(sub), username: readName(name), expiresAt: exp * 1000 };
}

function readId(sub: unknown): string {
  const isId = typeof sub === "string" && sub !== "" && sub.length <= MAX_ID_LENGTH &&
    sub.isWellFormed() && !/\p{Cc}/u.test(sub);
  if (isId) return sub;
  const kind = `a string of 1 to ${MAX_ID_LENGTH} characters without control characters`;
  throw badToken(`needs sub: your site's id of the person, ${kind}.`);
}

function readName(name: unknown): string {
  if (typeof name !== "string") throw badToken("needs name: the name of the person in the chat.");
  try {
    return parseName("username", name);
  } catch (error) {
    throw badToken(`has a bad name. ${(error as Error).message}`);
  }
}

function notSigned(): ChatError {
  return badToken("must be a JWT that HS256 signs with the server's SIGN_IN_SECRET.");
}

function badToken(rest: string): ChatError {
  return new ChatError("unauthenticated", `The token of your site ${rest}`);
}
