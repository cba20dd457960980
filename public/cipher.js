// @ts-check
/**
 * End-to-end encryption of a room: texts in, sealed texts out, and back.
 *
 * AES-256-GCM by WebCrypto, a fresh nonce for each text. A sealed text is bound to what its message
 * says in plain sight: the room, the author, the receiver, the author's own `ref`, and what it
 * answers. Nobody without
 * the key can move it to another room, author or message. Knows nothing of connections or pages.
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
 * @property {string | undefined} [ref] The author's `ref` of the message; of an edit, that of the
 *   edited message.
 * @property {string | undefined} [replyTo] The id of the message that this one, or the edited one,
 *   answers.
 * @property {string | undefined} [edits] The id of the message whose new text it is.
 */

/** What every sealed text begins with. The number is the version of the format. */
const PREFIX = "sealed.2.";
/** The format before: it binds no `ref`. Texts in it are opened, and none is sealed any more. */
const OLD_PREFIX = "sealed.1.";
const KEY_BYTES = 32;
/** NIST SP 800-38D, section 8.2.2: 96 random bits. */
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES;
/** How much of a key's hash names the key: enough to tell keys apart. */
const FINGERPRINT_BYTES = 9;

const utf8 = new TextEncoder();
const fromUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A text cannot be opened: the key is another one, or it is not what was sealed. */
export class SealError extends Error {
  /** @override */
  name = "SealError";
}

/**
 * Whether this browser can seal at all: it does so only on pages that came by `https:` or from the
 * same machine.
 */
export function canSeal() {
  return globalThis.crypto?.subtle !== undefined;
}

/**
 * Whether a text is a sealed one, of this format or of a later one, as far as can be seen without
 * the key.
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
 * Whether a text can be a key.
 *
 * @param {string} text
 */
export function isKey(text) {
  return /^[\w-]{43}$/.test(text) && fromBase64Url(text)?.length === KEY_BYTES;
}

/**
 * Names a sealed text: its nonce, which no other text has. Empty for what is not a sealed text.
 *
 * @param {string} sealed
 */
export function nonceOf(sealed) {
  return isSealed(sealed) ? sealed.slice(PREFIX.length, PREFIX.length + NONCE_BYTES * 4 / 3) : "";
}

/** Seals and opens the texts of one room. */
export class Cipher {
  /** Names the key, and says nothing of it: the start of its SHA-256. */
  fingerprint;
  /** @type {CryptoKey} */ #key;

  /** @param {CryptoKey} key @param {string} fingerprint */
  constructor(key, fingerprint) {
    this.#key = key;
    this.fingerprint = fingerprint;
  }

  /**
   * Makes a cipher of a key from {@linkcode createKey}. The key cannot be read out of it again.
   *
   * @param {string} key
   * @throws {SealError} if this is no key
   */
  static async fromKey(key) {
    const bytes = isKey(key) ? fromBase64Url(key) : undefined;
    if (!bytes) throw new SealError("This is not a key: a key has 43 letters, digits, - and _.");
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
   * @param {Label} label the same as when it was sealed
   * @throws {SealError} if the key, the label or the sealed text is another one
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
      throw new SealError("The key is another one, or the message was changed on its way.");
    }
  }
}

/**
 * How many bytes of UTF-8 a text may have so that, sealed, it has no more than `limit`.
 *
 * @param {number} limit
 */
export function maxTextBytes(limit) {
  return Math.max(0, Math.floor((limit - PREFIX.length) * 3 / 4) - OVERHEAD_BYTES);
}

/**
 * The bytes a text is bound to. A JSON array, so that no two labels have the same bytes. Edits
 * name a message without a `ref` by its id.
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
 * @returns {Uint8Array<ArrayBuffer> | undefined} Nothing for what is not the one spelling of some bytes.
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
