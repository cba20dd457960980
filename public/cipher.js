// @ts-check
/**
 * End-to-end encryption of a room: seals texts and opens them.
 *
 * AES-256-GCM by WebCrypto, with a fresh nonce for each text. A sealed text is bound to the visible
 * fields of its message: the room, the author, the receiver, the author's `ref`, and the message it
 * answers. Nobody without the key can move it to another room, author or message. Knows nothing of
 * connections or pages.
 *
 * @module
 */

/**
 * What a sealed text is bound to, besides the key.
 *
 * @typedef {object} Label
 * @property {string} room
 * @property {string} from The author's name, as the server spells it.
 * @property {string | undefined} [to] The only receiver of a private message.
 * @property {string | undefined} [ref] The author's `ref` of the message; for an edit, the `ref` of
 *   the edited message.
 * @property {string | undefined} [replyTo] The id of the message answered by this one, or by the
 *   edited one.
 * @property {string | undefined} [edits] The id of the edited message.
 */

/** The start of every sealed text. The number is the version of the format. */
const PREFIX = "sealed.2.";
/** The previous format, without `ref`: still opened, no longer sealed. */
const OLD_PREFIX = "sealed.1.";
const KEY_BYTES = 32;
/** NIST SP 800-38D, section 8.2.2: 96 random bits. */
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES;
/** Bytes of a key's hash in its fingerprint: enough to tell keys apart. */
const FINGERPRINT_BYTES = 9;

const utf8 = new TextEncoder();
const fromUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A text cannot be opened: the key is another one, or the text was changed. */
export class SealError extends Error {
  /** @override */
  name = "SealError";
}

/**
 * Whether this browser can encrypt: it does so only on pages from `https:` or from the same machine.
 */
export function canSeal() {
  return globalThis.crypto?.subtle !== undefined;
}

/**
 * Whether a text looks sealed, in any version of the format. Needs no key.
 *
 * @param {string} text
 */
export function isSealed(text) {
  return /^sealed\.\d+\./.test(text);
}

/** A new key: 256 random bits in base64url, 43 characters. */
export function createKey() {
  return toBase64Url(crypto.getRandomValues(new Uint8Array(KEY_BYTES)));
}

/**
 * Whether a text has the form of a key.
 *
 * @param {string} text
 */
export function isKey(text) {
  return /^[\w-]{43}$/.test(text) && fromBase64Url(text)?.length === KEY_BYTES;
}

/**
 * The nonce of a sealed text, which no other text has; `""` for a text that is not sealed.
 *
 * @param {string} sealed
 */
export function nonceOf(sealed) {
  return isSealed(sealed) ? sealed.slice(PREFIX.length, PREFIX.length + NONCE_BYTES * 4 / 3) : "";
}

/** Seals and opens the texts of one room. */
export class Cipher {
  /** Names the key without revealing it: the start of its SHA-256. */
  fingerprint;
  /** @type {CryptoKey} */ #key;

  /** @param {CryptoKey} key @param {string} fingerprint */
  constructor(key, fingerprint) {
    this.#key = key;
    this.fingerprint = fingerprint;
  }

  /**
   * Makes a cipher from a key of {@linkcode createKey}. It does not give the key back.
   *
   * @param {string} key
   * @throws {SealError} if the text is not a key
   */
  static async fromKey(key) {
    const bytes = isKey(key) ? fromBase64Url(key) : undefined;
    if (!bytes) {
      throw new SealError("This is not a key. A key has 43 characters: letters, digits, - and _.");
    }
    const { subtle } = crypto;
    const imported = await subtle.importKey("raw", bytes, "AES-GCM", false, ["encrypt", "decrypt"]);
    const hash = new Uint8Array(await subtle.digest("SHA-256", bytes));
    return new Cipher(imported, toBase64Url(hash.subarray(0, FINGERPRINT_BYTES)));
  }

  /**
   * Seals a text.
   *
   * @param {string} text
   * @param {Label} label
   */
  async seal(text, label) {
    const iv = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
    const how = { name: "AES-GCM", iv, additionalData: bytesOf(PREFIX, label) };
    const sealed = new Uint8Array(await crypto.subtle.encrypt(how, this.#key, utf8.encode(text)));
    const envelope = new Uint8Array(NONCE_BYTES + sealed.length);
    envelope.set(iv);
    envelope.set(sealed, NONCE_BYTES);
    return PREFIX + toBase64Url(envelope);
  }

  /**
   * Opens a sealed text.
   *
   * @param {string} sealed
   * @param {Label} label the label it was sealed with
   * @throws {SealError} if the key, the label or the sealed text differs
   */
  async open(sealed, label) {
    const format = [PREFIX, OLD_PREFIX].find((prefix) => sealed.startsWith(prefix));
    const envelope = format ? fromBase64Url(sealed.slice(format.length)) : undefined;
    if (!format || !envelope || envelope.length < OVERHEAD_BYTES) {
      throw new SealError("This is not a sealed text of a known format.");
    }
    const iv = envelope.subarray(0, NONCE_BYTES);
    const how = { name: "AES-GCM", iv, additionalData: bytesOf(format, label) };
    try {
      const text = await crypto.subtle.decrypt(how, this.#key, envelope.subarray(NONCE_BYTES));
      return fromUtf8.decode(text);
    } catch {
      throw new SealError("The key is another one, or someone changed the message on its way.");
    }
  }
}

/**
 * Maximum UTF-8 bytes of a text whose sealed form has at most `limit` bytes.
 *
 * @param {number} limit
 */
export function maxTextBytes(limit) {
  return Math.max(0, Math.floor((limit - PREFIX.length) * 3 / 4) - OVERHEAD_BYTES);
}

/**
 * The bytes a text is bound to: a JSON array, so that no two labels have the same bytes. An edit
 * names a message without a `ref` by its id.
 *
 * @param {string} format
 * @param {Label} label
 */
function bytesOf(format, { room, from, to, ref, replyTo, edits }) {
  const message = format === OLD_PREFIX
    ? [edits ?? null]
    : [ref ?? null, edits !== undefined && (ref === undefined ? edits : true), replyTo ?? null];
  return utf8.encode(JSON.stringify([format, room, from, to ?? null, ...message]));
}

/** @param {Uint8Array} bytes */
function toBase64Url(bytes) {
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/**
 * @param {string} text
 * @returns {Uint8Array<ArrayBuffer> | undefined} `undefined` unless it is the canonical encoding
 */
function fromBase64Url(text) {
  if (!/^[\w-]*$/.test(text)) return undefined;
  try {
    const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = Uint8Array.from(binary, (character) => character.charCodeAt(0));
    return toBase64Url(bytes) === text ? bytes : undefined;
  } catch {
    return undefined;
  }
}
