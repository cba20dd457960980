/**
 * Hashes passwords with scrypt (RFC 7914), off the event loop and a few at a time.
 *
 * A hash is a string in the PHC format: `$scrypt$ln=14,r=8,p=5$SALT$HASH`.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { randomBytes, scrypt, timingSafeEqual } from "node:crypto";
import { type Attempt, Turns } from "./turns.ts";

/** Minimum length of a password, in UTF-16 units. */
export const MIN_PASSWORD_LENGTH = 8;

/** Maximum length of a password, in UTF-16 units. */
export const MAX_PASSWORD_LENGTH = 256;

/** Cost (OWASP Password Storage Cheat Sheet: N = 2^14, r = 8, p = 5): 16 MiB and about 125 ms. */
const COST = { ln: 14, r: 8, p: 5 };
const SALT_BYTES = 16;
const HASH_BYTES = 32;

interface Cost {
  readonly ln: number;
  readonly r: number;
  readonly p: number;
}

/** Hashes and checks passwords, a bounded number at a time. */
export class Passwords {
  readonly #turns: Turns;
  /** The hash that a password is checked against if the name has no account. */
  readonly #decoy = `${prefix(COST)}$${encode(randomBytes(SALT_BYTES))}$${
    encode(randomBytes(HASH_BYTES))
  }`;

  /**
   * @param threads maximum passwords hashed at a time
   * @param clock the time in milliseconds; it never goes backwards
   */
  constructor(threads: number, clock: () => number = () => performance.now()) {
    this.#turns = new Turns({ threads, clock });
  }

  /** Advances the queue. Call it about once a second. */
  sweep(): void {
    this.#turns.sweep();
  }

  /**
   * Hashes a password with a new salt.
   *
   * @throws {ChatError} `unavailable` if too many wait
   */
  async hash(password: string, attempt: Attempt = {}): Promise<string> {
    const salt = randomBytes(SALT_BYTES);
    const hash = await this.#turns.run(attempt, () => derive(password, salt, COST));
    return `${prefix(COST)}$${encode(salt)}$${encode(hash)}`;
  }

  /**
   * Whether a hash is of this password. Without a hash the answer is false, after the same time.
   *
   * @throws {ChatError} `unavailable` if too many wait
   */
  async check(
    password: string,
    hash: string | undefined,
    attempt: Attempt = {},
  ): Promise<boolean> {
    const [, , cost, salt, expected] = (hash ?? this.#decoy).split("$");
    const [ln, r, p] = cost!.split(",").map((part) => Number(part.split("=")[1]));
    const wanted = { ln: ln!, r: r!, p: p! };
    const actual = await this.#turns.run(attempt, () => derive(password, decode(salt!), wanted));
    return timingSafeEqual(actual, decode(expected!)) && hash !== undefined;
  }
}

function derive(password: string, salt: Uint8Array, { ln, r, p }: Cost): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    // One form for each password, however it was typed (RFC 8265, section 4.2).
    const options = { N: 2 ** ln, r, p, maxmem: 256 * 2 ** ln * r };
    scrypt(password.normalize("NFC"), salt, HASH_BYTES, options, (error, key) => {
      if (error) reject(error);
      else resolve(key);
    });
  });
}

function prefix({ ln, r, p }: Cost): string {
  return `$scrypt$ln=${ln},r=${r},p=${p}`;
}

/** Base64 without padding, as PHC strings have it. */
function encode(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64").replace(/=+$/, "");
}

function decode(text: string): Uint8Array {
  return Buffer.from(text, "base64");
}
