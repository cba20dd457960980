// @ts-check
/**
 * The unsent texts of one room: a draft for the room, and one for each receiver of a private message.
 * They survive a reload; in an encrypted room they are sealed with the room's key. Uses no DOM.
 *
 * @module
 */

/** @import { Sealer } from "../outbox.js" */

/**
 * Stores drafts by receiver; `""` is the room.
 *
 * @typedef {object} DraftStore
 * @property {() => Record<string, string>} read
 * @property {(drafts: Record<string, string>) => void} write
 */

/** The drafts of one room. */
export class Drafts {
  /** @type {string} */ #room;
  /** @type {Sealer | undefined} */ #cipher;
  /** @type {DraftStore} */ #store;
  /** @type {Map<string, string>} */ #texts = new Map();
  /** The drafts as stored: sealed if there is a cipher. @type {Record<string, string>} */ #kept =
    {};

  /** @param {{ room: string, cipher: Sealer | undefined, store: DraftStore }} options */
  constructor({ room, cipher, store }) {
    this.#room = room;
    this.#cipher = cipher;
    this.#store = store;
  }

  /** Reads the drafts stored before a reload. Those that cannot be opened are forgotten. */
  async load() {
    for (const [to, kept] of Object.entries(this.#store.read())) {
      const text = await this.#cipher?.open(kept, this.#labelOf(to)).catch(() => "") ?? kept;
      if (text === "" || this.#texts.has(to)) continue;
      this.#texts.set(to, text);
      this.#kept[to] = kept;
    }
  }

  /** @param {string} to the receiver; `""` is the room */
  get(to) {
    return this.#texts.get(to) ?? "";
  }

  /** @param {string} to @param {string} text */
  set(to, text) {
    if (text === this.get(to)) return;
    if (text === "") this.#texts.delete(to);
    else this.#texts.set(to, text);
    this.#keep(to, text);
  }

  /** Forgets all drafts. */
  clear() {
    this.#texts.clear();
    this.#kept = {};
    this.#store.write({});
  }

  /** @param {string} to @param {string} text */
  async #keep(to, text) {
    const kept = text && this.#cipher ? await this.#cipher.seal(text, this.#labelOf(to)) : text;
    if (text !== this.get(to)) return;
    if (kept === "") delete this.#kept[to];
    else this.#kept[to] = kept;
    this.#store.write(this.#kept);
  }

  /** A draft's label has no author, so that it cannot pass for a message. @param {string} to */
  #labelOf(to) {
    return { room: this.#room, from: "", to };
  }
}
