// @ts-check
/**
 * Tracks the events received from one room, so that a reconnect resumes without a gap or a repeat. In
 * an encrypted room it also opens texts, and marks those that the server tampered with.
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
 * The result of opening a text: it opened (`sound`), it did not (`broken`), it repeats another message
 * or an earlier text (`replayed`), or it was not sealed (`bare`). Absent without a cipher.
 *
 * @typedef {"sound" | "broken" | "replayed" | "bare"} Seal
 */

/**
 * An event of the server, with its content opened.
 *
 * @typedef {Event & { seal?: Seal }} Told
 */

/** @typedef {{ ref?: string | undefined, replyTo?: string | undefined }} Bound */

/** Maximum messages whose refs and nonces are remembered; the oldest are forgotten first. */
const MAX_REMEMBERED = 20_000;

/** The events of one room, as one client sees them. */
export class Inbox {
  /** @type {string} */ #room;
  /** @type {Sealer | undefined} */ #cipher;
  /** @type {string | undefined} */ #epoch;
  #seq = 0;
  /** Private messages received: all up to `#inboxSeq`, and those in `#ahead`. */
  #inboxSeq = 0;
  /** @type {Set<number>} */ #ahead = new Set();

  /**
   * What the edits of a message are bound to, by its id: the author's ref, and the message it answers.
   *
   * @type {Map<string, Bound>}
   */
  #bounds = new Map();
  /** The message id of each nonce. @type {Map<string, string>} */ #owners = new Map();
  /** The nonce of each message's newest text, by id. @type {Map<string, string>} */
  #newest = new Map();

  /** @param {{ room: string, cipher?: Sealer | undefined }} options */
  constructor({ room, cipher }) {
    this.#room = room;
    this.#cipher = cipher;
  }

  /**
   * Where the server should resume; `undefined` before the first welcome.
   *
   * @returns {{ epoch: string, after: number, inbox: number } | undefined}
   */
  get place() {
    if (this.#epoch === undefined) return undefined;
    return { epoch: this.#epoch, after: this.#seq, inbox: this.#inboxSeq };
  }

  /** What the edits of a message are bound to, if remembered. @param {string} id */
  boundOf(id) {
    return this.#bounds.get(id);
  }

  /**
   * Adopts the numbering of a welcome.
   *
   * @param {WelcomeEvent} welcome
   * @returns {{ isNewLife: boolean } | undefined} the gap before it, if there is one
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
   * Counts an event.
   *
   * @param {Event} event
   * @returns {"next" | "again" | "hole"} `next`: new; `again`: a repeat; `hole`: an earlier event is
   *   missing
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
   * Counts a private message. Acks and received messages share one numbering, and may arrive out of
   * order.
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
   * Opens the texts of a frame. Call it only with a cipher.
   *
   * @param {readonly Event[]} events
   * @returns {Promise<Told[]>}
   */
  async open(events) {
    this.#noteAll(events);
    return await Promise.all(events.map((event) => this.#open(event)));
  }

  /**
   * Marks repeated texts. Call it for each frame in order.
   *
   * @param {readonly Told[]} told
   * @param {readonly Event[]} events the same events, still sealed
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
   * Whether a text belongs to another message, or is an older text of the same one.
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
   * Remembers what the edits of a message are bound to. The first value stays, so that the server
   * cannot change it later.
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
      // The sealed text is noise to a person.
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
