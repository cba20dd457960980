// @ts-check
/**
 * What a client has seen of one room: the numbering, by which a reconnect resumes without a gap or a
 * repeat, and, in an encrypted room, the opening of what comes and the signs of a server that cheats.
 *
 * Knows no sockets and no page.
 *
 * @module
 */

import { isSealed, nonceOf } from "./cipher.js";

/** @import { Event, WelcomeEvent } from "../lib/protocol/events.ts" */
/** @import { Label } from "./cipher.js" */
/** @import { Sealer } from "./outbox.js" */

/**
 * What opening a sealed text came to: it was `sound`, it could not be opened (`broken`), it is a
 * repeat of another message or of an earlier text (`replayed`), or it was not sealed at all (`bare`).
 * Absent where there is no cipher.
 *
 * @typedef {"sound" | "broken" | "replayed" | "bare"} Seal
 */

/**
 * An event of the server; in a sealed room its content has been opened.
 *
 * @typedef {Event & { seal?: Seal }} Told
 */

/** @typedef {{ ref?: string | undefined, replyTo?: string | undefined }} Bound */

/** Messages of which the refs and the nonces are remembered; the oldest are forgotten first. */
const MAX_REMEMBERED = 20_000;

/** The events of one room, as one client sees them. */
export class Inbox {
  /** @type {string} */ #room;
  /** @type {Sealer | undefined} */ #cipher;
  /** @type {string | undefined} */ #epoch;
  #seq = 0;
  /** The private messages seen: all up to `#inboxSeq`, and these beyond it. */
  #inboxSeq = 0;
  /** @type {Set<number>} */ #ahead = new Set();

  /**
   * What the edits of each message are bound to, by its id: the author's ref, and what it answers.
   *
   * @type {Map<string, Bound>}
   */
  #bounds = new Map();
  /** The message of each nonce. @type {Map<string, string>} */ #owners = new Map();
  /** The nonce of each message's newest text, by id. @type {Map<string, string>} */
  #newest = new Map();

  /** @param {{ room: string, cipher?: Sealer | undefined }} options */
  constructor({ room, cipher }) {
    this.#room = room;
    this.#cipher = cipher;
  }

  /**
   * The place from which the server is to go on, if the room has been seen before.
   *
   * @returns {{ epoch: string, after: number, inbox: number } | undefined}
   */
  get place() {
    if (this.#epoch === undefined) return undefined;
    return { epoch: this.#epoch, after: this.#seq, inbox: this.#inboxSeq };
  }

  /** What the edits of a message are bound to, as far as it is remembered. @param {string} id */
  boundOf(id) {
    return this.#bounds.get(id);
  }

  /**
   * Takes up the numbering of a welcome.
   *
   * @param {WelcomeEvent} welcome
   * @returns {{ isNewLife: boolean } | undefined} the gap that there is now, if there is one
   */
  begin({ epoch, seq, inbox_seq, recovered }) {
    const before = this.#epoch;
    this.#epoch = epoch;
    if (recovered) return undefined;
    this.#seq = seq;
    this.#inboxSeq = inbox_seq;
    this.#ahead.clear();
    return before === undefined ? undefined : { isNewLife: before !== epoch };
  }

  /**
   * Keeps the numbering.
   *
   * @param {Event} event
   * @returns {"next" | "again" | "hole"} whether it is to be told on, was told already, or comes
   *   after one that is missing
   */
  follow(event) {
    switch (event.type) {
      case "chat":
        return event.history ? "next" : this.#step(event.seq);
      case "message_updated":
      case "message_deleted":
        return this.#step(event.seq);
      case "epoch":
        this.#epoch = event.epoch;
        return "next";
      case "dm":
        return event.history || this.sawPrivate(event.inbox_seq) ? "next" : "again";
      default:
        return "next";
    }
  }

  /** @param {number} seq @returns {"next" | "again" | "hole"} */
  #step(seq) {
    if (seq <= this.#seq) return "again";
    if (seq > this.#seq + 1) return "hole";
    this.#seq = seq;
    return "next";
  }

  /**
   * Counts a private message. Acks and private messages of others are numbered together, and may
   * come in another order.
   *
   * @param {number} seq
   * @returns {boolean} whether it is new
   */
  sawPrivate(seq) {
    if (seq <= this.#inboxSeq || this.#ahead.has(seq)) return false;
    this.#ahead.add(seq);
    while (this.#ahead.delete(this.#inboxSeq + 1)) this.#inboxSeq++;
    return true;
  }

  // ---- Sealed texts --------------------------------------------------------------------------

  /**
   * Opens the texts of a frame. Where there is no cipher, that is nothing.
   *
   * @param {readonly Event[]} events
   * @returns {Promise<Told[]>}
   */
  async open(events) {
    this.#noteAll(events);
    return await Promise.all(events.map((event) => this.#open(event)));
  }

  /**
   * Marks repeated texts. Frames are to be checked in their order.
   *
   * @param {readonly Told[]} told
   * @param {readonly Event[]} events the same, still sealed
   */
  checkRepeats(told, events) {
    for (const [i, event] of told.entries()) {
      const sealed = /** @type {Event} */ (events[i]);
      if (event.type === "history" && sealed.type === "history") {
        this.checkRepeats(event.messages, sealed.messages);
      } else if (event.seal === "sound" && "id" in event && event.id !== undefined) {
        if (this.#isRepeat(event.id, nonceOf(sealed.content))) {
          Object.assign(event, { seal: "replayed", content: "" });
        }
      }
    }
  }

  /**
   * Whether a text belongs to another message, or is an earlier text of the same one.
   *
   * @param {string} id
   * @param {string} nonce
   */
  #isRepeat(id, nonce) {
    const owner = this.#owners.get(nonce);
    if (owner !== undefined) return owner !== id || this.#newest.get(id) !== nonce;
    remember(this.#owners, nonce, id);
    remember(this.#newest, id, nonce);
    return false;
  }

  /** @param {readonly Event[]} events */
  #noteAll(events) {
    for (const event of events) {
      if (event.type === "history") this.#noteAll(event.messages);
      else if (event.type === "chat") {
        this.note(event.id, { ref: event.ref, replyTo: event.reply_to });
      }
    }
  }

  /**
   * Remembers what the edits of a message are bound to. The first one stands: where the server names
   * another one later, nothing opens.
   *
   * @param {string} id
   * @param {Bound} bound
   */
  note(id, bound) {
    if (this.#cipher && !this.#bounds.has(id)) remember(this.#bounds, id, bound);
  }

  /** @param {Event} event @returns {Promise<Told>} */
  async #open(event) {
    switch (event.type) {
      case "chat": {
        if (event.deleted) return event;
        const { id, ref, reply_to: replyTo, edited } = event;
        const edits = edited ? id : undefined;
        return { ...event, ...await this.#unseal(event, { ref, replyTo, edits }) };
      }
      case "message_updated": {
        const { id } = event;
        return { ...event, ...await this.#unseal(event, { ...this.#bounds.get(id), edits: id }) };
      }
      case "dm":
        return { ...event, ...await this.#unseal(event, { ref: event.ref, to: event.to }) };
      case "history": {
        const messages = await Promise.all(event.messages.map((message) => this.#open(message)));
        return { ...event, messages: /** @type {any} */ (messages) };
      }
      default:
        return event;
    }
  }

  /**
   * @param {{ content: string, username: string }} event
   * @param {Omit<Label, "room" | "from">} bound
   * @returns {Promise<{ content: string, seal: Seal }>}
   */
  async #unseal({ content, username }, bound) {
    if (!isSealed(content)) return { content, seal: "bare" };
    const label = { room: this.#room, from: username, ...bound };
    try {
      const text = await /** @type {Sealer} */ (this.#cipher).open(content, label);
      return { content: text, seal: "sound" };
    } catch {
      // Never what is in it: to a person it is noise.
      return { content: "", seal: "broken" };
    }
  }
}

/**
 * @template T
 * @param {Map<string, T>} map
 * @param {string} key
 * @param {T} value
 */
function remember(map, key, value) {
  map.delete(key);
  map.set(key, value);
  const [oldest] = map.keys();
  if (map.size > MAX_REMEMBERED && oldest !== undefined) map.delete(oldest);
}
