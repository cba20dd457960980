// @ts-check
/**
 * Holds the texts that the server has not stored yet: messages, private messages and edits of one
 * person in one room, in order. It outlives connections, names and pages: an item stays until the
 * server has stored it or its author discards it.
 *
 * An item for an encrypted room names its key, and is sent sealed with that key only. Knows no
 * sockets and no page.
 *
 * @module
 */

import { isSameName } from "./names.js";

/** @import { AckEvent, ChatEvent, DmEvent, ErrorEvent } from "../lib/protocol/events.ts" */
/** @import { Command } from "../lib/protocol/commands.ts" */
/** @import { Label } from "./cipher.js" */

/**
 * Seals outgoing texts and opens incoming ones, as `Cipher` of `cipher.js` does.
 *
 * @typedef {object} Sealer
 * @property {string} fingerprint Names the key.
 * @property {(text: string, label: Label) => Promise<string>} seal
 * @property {(sealed: string, label: Label) => Promise<string>} open
 */

/**
 * The message that an edit changes: its id, its ref, and the id of the message it answers.
 *
 * @typedef {{ id: string, ref?: string | undefined, replyTo?: string | undefined }} Edited
 */

/**
 * A message, a private message (`to`), or the new text of a message (`edits`).
 *
 * @typedef {object} Writing
 * @property {string} content
 * @property {string} [to] The only receiver.
 * @property {string} [replyTo] The id of the answered message.
 * @property {Edited} [edits] The edited message.
 */

/**
 * An outgoing text: `waiting` until it can be sent, `sending` until the server has stored it, then
 * `sent`; or `failed` for `reason`, until its author sends it again.
 *
 * @typedef {Writing & {
 *   ref: string,
 *   status: "waiting" | "sending" | "sent" | "failed",
 *   reason: string,
 *   isLocked?: boolean,
 *   ack?: Pick<AckEvent, "id" | "seq" | "inbox_seq" | "timestamp" | "duplicate">,
 * }} Outgoing The server accepts a `ref` once. A locked item is sealed with a key that this page does
 *   not have: it has no text, and can only be discarded. `ack` is present once the text is sent.
 */

/**
 * An item as the page stores it. `by` is the author. With `key`, `content` is sealed for the author
 * as spelled in `from`; `as` is the identity it was sent under; `reason` is why it failed.
 *
 * @typedef {Writing & {
 *   ref: string,
 *   by: string,
 *   key?: string,
 *   from?: string,
 *   as?: string,
 *   reason?: string,
 * }} Unsent
 */

/**
 * A live connection, as an outbox needs it.
 *
 * @typedef {object} Way
 * @property {string} username The author, as the server spells the name.
 * @property {string} identity The person behind the name: a `ref` counts once for each person.
 * @property {(command: Command) => boolean} put Sends a command; false if there is no connection.
 */

/**
 * The timers and chance: tests replace them.
 *
 * @typedef {object} Surroundings
 * @property {(task: () => void, delayMs: number) => unknown} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {() => string} newRef
 */

/**
 * @typedef {Outgoing & {
 *   by: string,
 *   key?: string,
 *   from?: string,
 *   as?: string,
 *   wire?: string,
 * }} Item
 */

/** Maximum unacknowledged texts. The others wait, so as not to flood the server. */
const WINDOW = 16;
/** How long sending pauses after a temporary error that names no time. */
const PAUSE_MS = 2000;

/** Temporary errors: the server may accept the same text later. */
const PASSING = new Set(["rate_limited", "unavailable", "full"]);

const TOO_FAST = "Slow down a little. Your message goes out in a moment.";
const NOT_SEALED = "Encryption failed. Send it again.";
const IN_THE_OPEN = "You wrote it without encryption. Send it again to encrypt it.";
const OTHER_KEY =
  "It is encrypted with a key that this link does not have. Open the room with its whole link.";
const OTHER_NAME = "You wrote it under another name. Send it again under this one.";
const OTHER_PERSON =
  "It may have been sent under your earlier name. Check before you send it again.";

/** @type {Surroundings} */
const REAL = {
  setTimeout: (task, delayMs) => setTimeout(task, delayMs),
  clearTimeout: (timer) => clearTimeout(timer),
  newRef,
};

/** The texts of one person in one room that the server has not stored yet. */
export class Outbox {
  /** @type {string} */ #room;
  /** @type {Sealer | undefined} */ #cipher;
  /** @type {Surroundings} */ #around;
  /** @type {Map<string, Item>} */ #items = new Map();
  /** @type {Set<(item: Outgoing) => void>} */ #listeners = new Set();
  /** @type {Set<Promise<void>>} */ #sealing = new Set();
  /** The author's name before the first welcome. */
  #author = "";
  /** @type {Way | undefined} */ #way;
  /** @type {unknown} */ #pauseTimer;
  #isPaused = false;
  /** After a `rate_limited`: one text at a time, until all are sent. */
  #isSlow = false;

  /**
   * @param {{ room: string, cipher?: Sealer | undefined }} options With a `cipher` every text is
   *   sealed; without one none is.
   * @param {Partial<Surroundings>} [around]
   */
  constructor({ room, cipher }, around = {}) {
    this.#room = room;
    this.#cipher = cipher;
    this.#around = { ...REAL, ...around };
  }

  /**
   * Calls `listener` with each item whose status changes.
   *
   * @param {(item: Outgoing) => void} listener
   * @returns {() => void} removes the listener
   */
  onChange(listener) {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Sets the author's name before the server spells it. */
  set author(/** @type {string} */ username) {
    this.#author = username;
    this.#sealAll();
  }

  /** The author's current name. */
  get #name() {
    return this.#way?.username ?? this.#author;
  }

  /** The items that the server has not stored yet, oldest first. @returns {Outgoing[]} */
  get items() {
    return [...this.#items.values()];
  }

  /** Whether every item is stored or has failed. */
  get isDone() {
    return this.items.every(({ status }) => status === "failed");
  }

  /**
   * Adds a text. It is sent once: now, or as soon as there is a connection.
   *
   * @param {Writing} writing
   * @returns {Outgoing}
   */
  add(writing) {
    if (writing.edits) this.#replaceEdit(writing.edits.id);
    /** @type {Item} */
    const item = {
      ...writing,
      ref: this.#around.newRef(),
      by: this.#name,
      status: "waiting",
      reason: "",
    };
    this.#items.set(item.ref, item);
    if (this.#cipher) item.key = this.#cipher.fingerprint;
    this.#turnInto(item, "waiting");
    this.#pump();
    return item;
  }

  /** Drops an unsent edit of a message when another one follows. @param {string} id */
  #replaceEdit(id) {
    for (const item of this.#items.values()) {
      if (item.edits?.id === id && item.status !== "sending") this.#items.delete(item.ref);
    }
  }

  /**
   * Sends a failed item again.
   *
   * @param {string} ref
   */
  sendAgain(ref) {
    const item = this.#items.get(ref);
    if (item?.status !== "failed" || item.isLocked) return;
    // It goes to the end: later texts are already sent.
    this.#items.delete(ref);
    this.#items.set(ref, item);
    // The person has checked that it is not in the room.
    if (item.reason === OTHER_PERSON) delete item.as;
    item.by = this.#name;
    if (this.#cipher) item.key = this.#cipher.fingerprint;
    this.#turnInto(item, "waiting");
    this.#pump();
  }

  /**
   * Forgets a failed item.
   *
   * @param {string} ref
   */
  discard(ref) {
    if (this.#items.get(ref)?.status === "failed") this.#items.delete(ref);
  }

  /** Forgets an item of any status: another outbox has it now. @param {string} ref */
  remove(ref) {
    this.#items.delete(ref);
  }

  /** Forgets everything. */
  clear() {
    this.#items.clear();
  }

  // ---- Across reloads ------------------------------------------------------------------------

  /**
   * The unstored items, for keeping across a reload. With a cipher, only sealed items are included;
   * items of another key never are.
   *
   * @returns {Unsent[]}
   */
  save() {
    return [...this.#items.values()].flatMap((item) => {
      const { ref, by, content, to, replyTo, edits, key, from, as, wire, reason, isLocked } = item;
      if (isLocked || key !== this.#cipher?.fingerprint) return [];
      if (key !== undefined && wire === undefined) return [];
      return [{
        ref,
        by,
        content: wire ?? content,
        ...(to !== undefined && { to }),
        ...(replyTo !== undefined && { replyTo }),
        ...(edits !== undefined && { edits }),
        ...(key !== undefined && { key }),
        ...(from !== undefined && { from }),
        ...(as !== undefined && { as }),
        ...(item.status === "failed" && { reason }),
      }];
    });
  }

  /**
   * Restores items from {@linkcode Outbox.save}. Items of another key, and unsealed ones if there is a
   * cipher now, become failed.
   *
   * @param {readonly Unsent[]} unsent
   */
  async load(unsent) {
    const ours = this.#cipher?.fingerprint;
    const opening = unsent.filter(({ ref }) => !this.#items.has(ref)).map((kept) => {
      const { key, content, reason } = kept;
      const status = reason === undefined ? "waiting" : "failed";
      /** @type {Item} */
      const item = { ...kept, status, reason: reason ?? "" };
      this.#items.set(item.ref, item);
      if (key !== undefined) Object.assign(item, { wire: content, content: "" });
      if (key === ours) return key === undefined ? undefined : this.#open(item);
      item.isLocked = key !== undefined;
      this.#turnInto(item, "failed", key === undefined ? IN_THE_OPEN : OTHER_KEY);
    });
    await Promise.all(opening);
    this.#pump();
  }

  /** Resolves when every item is sealed, so that {@linkcode Outbox.save} includes all. */
  async sealed() {
    while (this.#sealing.size > 0) await Promise.all(this.#sealing);
  }

  /** Opens a stored item, so that its author can read it. @param {Item} item */
  async #open(item) {
    try {
      const label = this.#labelOf(item, item.from ?? "");
      item.content = await /** @type {Sealer} */ (this.#cipher).open(item.wire ?? "", label);
      this.#turnInto(item, item.status, item.reason);
    } catch {
      item.isLocked = true;
      this.#turnInto(item, "failed", OTHER_KEY);
    }
  }

  // ---- With a connection ---------------------------------------------------------------------

  /** Starts sending over a connection. @param {Way} way */
  start(way) {
    this.#way = way;
    for (const item of this.#items.values()) {
      const isBack = item.reason === OTHER_NAME && isSameName(item.by, way.username);
      if (isBack) this.#turnInto(item, "waiting");
    }
    this.#pump();
  }

  /**
   * Stops sending over a connection; its unacknowledged texts are sent again over the next one.
   *
   * @param {Way | undefined} way ignored unless it is the current one
   */
  stop(way) {
    if (way === undefined || way !== this.#way) return;
    this.#way = undefined;
    this.#around.clearTimeout(this.#pauseTimer);
    this.#isPaused = this.#isSlow = false;
    for (const item of this.#items.values()) {
      if (item.status === "sending") this.#turnInto(item, "waiting");
    }
  }

  /**
   * Marks an item as stored.
   *
   * @param {AckEvent} ack
   * @returns {Outgoing | undefined} the acknowledged item, if it is one of this outbox
   */
  settle(ack) {
    return this.#settle(ack.ref ?? "", ack);
  }

  /**
   * Marks an own message received from the room as stored: its ack may be late or lost.
   *
   * @param {ChatEvent | DmEvent} event
   */
  heard(event) {
    const item = event.ref === undefined ? undefined : this.#items.get(event.ref);
    if (!item || item.edits || !isSameName(event.username, item.by)) return;
    this.#settle(item.ref, event);
  }

  /** @param {string} ref @param {NonNullable<Outgoing["ack"]>} ack */
  #settle(ref, ack) {
    const item = this.#items.get(ref);
    if (!item) return undefined;
    this.#items.delete(ref);
    if (this.isDone) this.#isSlow = false;
    item.ack = ack;
    this.#turnInto(item, "sent");
    this.#pump();
    return item;
  }

  /**
   * Handles an error of the server.
   *
   * @param {Pick<ErrorEvent, "ref" | "content" | "code" | "retry_after">} error
   * @returns {boolean} whether it is about an item
   */
  refuse({ ref = "", content, code, retry_after: seconds }) {
    const item = this.#items.get(ref);
    if (!item) return false;
    if (!PASSING.has(code)) {
      this.#turnInto(item, "failed", asSentence(content));
      this.#pump();
      return true;
    }
    const isTooFast = code === "rate_limited";
    if (isTooFast) this.#isSlow = true;
    this.#turnInto(item, "waiting", isTooFast ? TOO_FAST : asSentence(content));
    this.#pause(seconds === undefined ? PAUSE_MS : 1000 * seconds);
    return true;
  }

  /** Pauses sending. @param {number} delayMs */
  #pause(delayMs) {
    this.#isPaused = true;
    this.#around.clearTimeout(this.#pauseTimer);
    this.#pauseTimer = this.#around.setTimeout(() => {
      this.#isPaused = false;
      this.#pump();
    }, delayMs);
  }

  /** Sends waiting items in order, as many as the window allows. */
  #pump() {
    this.#sealAll();
    const way = this.#way;
    if (!way || this.#isPaused) return;
    const window = this.#isSlow ? 1 : WINDOW;
    let underWay = 0;
    for (const item of this.#items.values()) {
      if (item.status === "sending") underWay++;
      if (item.status !== "waiting") continue;
      const why = whyNotAs(way, item);
      if (why !== "") {
        this.#turnInto(item, "failed", why);
        continue;
      }
      const isReady = !this.#cipher || (item.wire !== undefined && item.from === way.username);
      if (!isReady || underWay >= window) return;
      underWay++;
      if (!way.put(commandOf(item))) return;
      item.as = way.identity;
      this.#turnInto(item, "sending");
    }
  }

  /** Seals items that are not sealed for the current spelling of the name. */
  #sealAll() {
    const from = this.#name;
    if (!this.#cipher || from === "") return;
    for (const item of this.#items.values()) {
      const isDue = item.status === "waiting" && item.as === undefined && item.content !== "" &&
        isSameName(item.by, from);
      if (!isDue || item.from === from) continue;
      const sealing = this.#seal(item, this.#cipher, from);
      this.#sealing.add(sealing);
      sealing.then(() => this.#sealing.delete(sealing));
    }
  }

  /** @param {Item} item @param {Sealer} cipher @param {string} from */
  async #seal(item, cipher, from) {
    item.from = from;
    delete item.wire;
    try {
      const wire = await cipher.seal(item.content, this.#labelOf(item, from));
      if (item.from !== from) return;
      item.wire = wire;
      this.#turnInto(item, item.status, item.reason);
    } catch {
      delete item.from;
      this.#turnInto(item, "failed", NOT_SEALED);
    }
    this.#pump();
  }

  /** @param {Item} item @param {string} from @returns {Label} */
  #labelOf({ ref, to, replyTo, edits }, from) {
    const room = this.#room;
    if (edits) return { room, from, edits: edits.id, ref: edits.ref, replyTo: edits.replyTo };
    return { room, from, ref, to, replyTo };
  }

  /**
   * @param {Item} item
   * @param {Outgoing["status"]} status
   * @param {string} [reason]
   */
  #turnInto(item, status, reason = "") {
    item.status = status;
    item.reason = reason;
    for (const listener of [...this.#listeners]) listener(item);
  }
}

/** Why an item needs the person's consent before it is sent; `""` if it needs none. @param {Way} way @param {Item} item */
function whyNotAs({ username, identity }, { by, as, from = username }) {
  // A text sent under one spelling of the name may be stored: it cannot be sealed for another.
  if (as !== undefined && (as !== identity || from !== username)) return OTHER_PERSON;
  return by === "" || isSameName(by, username) ? "" : OTHER_NAME;
}

/** @param {Item} item @returns {Command} */
function commandOf({ ref, content, wire = content, to, replyTo, edits }) {
  if (edits) return { type: "edit", id: edits.id, content: wire, ref };
  if (to !== undefined) return { type: "dm", to, content: wire, ref };
  return { type: "chat", content: wire, ref, ...(replyTo !== undefined && { reply_to: replyTo }) };
}

/** A new unique ref. `crypto.randomUUID` is missing on plain http. */
export function newRef() {
  const numbers = crypto.getRandomValues(new Uint32Array(4));
  return Array.from(numbers, (number) => number.toString(36).padStart(7, "0")).join("");
}

/** Gives a server's sentence a capital and a full stop. @param {string} text */
export function asSentence(text) {
  if (text === "") return "";
  return text[0]?.toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}
