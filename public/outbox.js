// @ts-check
/**
 * What a person has written in one room and the server has not stored yet: messages, private
 * messages and edits, in order. It outlives connections, names and pages: each item stays until the
 * server has it, or its author takes it back.
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
 * Seals what is sent and opens what comes, as `Cipher` of `cipher.js` does.
 *
 * @typedef {object} Sealer
 * @property {string} fingerprint Names the key.
 * @property {(text: string, label: Label) => Promise<string>} seal
 * @property {(sealed: string, label: Label) => Promise<string>} open
 */

/**
 * A message of one's own that gets another text: its id, its ref, and the id of what it answers.
 *
 * @typedef {{ id: string, ref?: string | undefined, replyTo?: string | undefined }} Edited
 */

/**
 * What a person writes: a message, a private message (`to`), or a new text for a message (`edits`).
 *
 * @typedef {object} Writing
 * @property {string} content
 * @property {string} [to] The only receiver.
 * @property {string} [replyTo] The id of the message that it answers.
 * @property {Edited} [edits] The message that it changes.
 */

/**
 * A text on its way out. It is `waiting` until it can go, `sending` until the server has stored it,
 * then `sent`; or it has `failed` for `reason`, and may be sent again.
 *
 * @typedef {Writing & {
 *   ref: string,
 *   status: "waiting" | "sending" | "sent" | "failed",
 *   reason: string,
 *   isLocked?: boolean,
 *   ack?: Pick<AckEvent, "id" | "seq" | "inbox_seq" | "timestamp" | "duplicate">,
 * }} Outgoing `ref` names it here and for the server, which takes the same `ref` only once. A locked
 *   one is sealed with a key that is not here: it has no text, and can only be discarded. `ack` is
 *   there once it is sent.
 */

/**
 * An item as it is kept over the end of a page. `by` is its author. With `key`, `content` is sealed,
 * for the author as spelled in `from`; `as` is the identity under which it went out, if it did;
 * `reason` is why it failed, if so.
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
 * @property {string} identity The person behind it: another one repeats no `ref` of this one.
 * @property {(command: Command) => boolean} put Sends a command; false if there is no connection.
 */

/**
 * What is needed from the outside, so that tests can stand in for time and chance.
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

/** Texts under way at a time. The rest waits for their acks, and the server is not flooded. */
const WINDOW = 16;
/** How long a text waits that the server could not take just now, unless it says how long. */
const PAUSE_MS = 2000;

/** Errors that pass: the same text may be taken later. */
const PASSING = new Set(["rate_limited", "unavailable", "full"]);

const TOO_FAST = "Slow down a little. What you wrote goes out by itself, in a moment.";
const NOT_SEALED = "It could not be encrypted.";
const IN_THE_OPEN = "It was written where nothing is encrypted.";
const OTHER_KEY =
  "It is encrypted with a key that this link does not have. Open the room with its whole link.";
const OTHER_NAME = "It was written under another name.";
const OTHER_PERSON = "It may have been sent already, under the name you had before. Look first.";

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
  /** The name under which texts are sealed before there is a connection. */
  #author = "";
  /** @type {Way | undefined} */ #way;
  /** @type {unknown} */ #pauseTimer;
  #isPaused = false;
  /** The server had too much from us: one text at a time, until all that waits is sent. */
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
   * Calls back with each item whose status changes.
   *
   * @param {(item: Outgoing) => void} listener
   * @returns {() => void} stops it
   */
  onChange(listener) {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** The author, as far as it is known before the server spells the name. */
  set author(/** @type {string} */ username) {
    this.#author = username;
    this.#sealAll();
  }

  /** The author now. */
  get #name() {
    return this.#way?.username ?? this.#author;
  }

  /** Everything the server has not stored yet, oldest first. @returns {Outgoing[]} */
  get items() {
    return [...this.#items.values()];
  }

  /** Whether everything is stored, or has failed. */
  get isDone() {
    return this.items.every(({ status }) => status === "failed");
  }

  /**
   * Adds what a person wrote. It goes out now, or as soon as there is a connection, and once.
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

  /** An edit that has not gone out yet is void when another one follows. @param {string} id */
  #replaceEdit(id) {
    for (const item of this.#items.values()) {
      if (item.edits?.id === id && item.status !== "sending") this.#items.delete(item.ref);
    }
  }

  /**
   * Sends an item again that has failed.
   *
   * @param {string} ref
   */
  sendAgain(ref) {
    const item = this.#items.get(ref);
    if (item?.status !== "failed" || item.isLocked) return;
    // It goes to the end: what was written since then is sent already.
    this.#items.delete(ref);
    this.#items.set(ref, item);
    // Whoever sends it again has seen that it is not there.
    if (item.reason === OTHER_PERSON) delete item.as;
    item.by = this.#name;
    if (this.#cipher) item.key = this.#cipher.fingerprint;
    this.#turnInto(item, "waiting");
    this.#pump();
  }

  /**
   * Forgets an item that has failed.
   *
   * @param {string} ref
   */
  discard(ref) {
    if (this.#items.get(ref)?.status === "failed") this.#items.delete(ref);
  }

  /** Forgets an item, whatever its status: another outbox has it now. @param {string} ref */
  remove(ref) {
    this.#items.delete(ref);
  }

  /** Forgets everything. */
  clear() {
    this.#items.clear();
  }

  // ---- Over the end of a page ----------------------------------------------------------------

  /**
   * Everything that is not stored, in a form that can be kept: with a cipher nothing is in the clear,
   * and what is not sealed yet is left out. So is what belongs to another key.
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
   * Takes over what {@linkcode Outbox.save} gave. What was sealed with another key, or not sealed
   * where there is a key now, is there as failed.
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

  /** Resolves when everything is sealed, and {@linkcode Outbox.save} leaves nothing out. */
  async sealed() {
    while (this.#sealing.size > 0) await Promise.all(this.#sealing);
  }

  /** Opens an item that was kept sealed, so that its author can read it. @param {Item} item */
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

  /** Sends over a connection from now on. @param {Way} way */
  start(way) {
    this.#way = way;
    for (const item of this.#items.values()) {
      const isBack = item.reason === OTHER_NAME && isSameName(item.by, way.username);
      if (isBack) this.#turnInto(item, "waiting");
    }
    this.#pump();
  }

  /**
   * A connection is gone: what was under way goes out again with the next one.
   *
   * @param {Way | undefined} way If another one is in use by now, nothing happens.
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
   * The server has stored an item.
   *
   * @param {AckEvent} ack
   * @returns {Outgoing | undefined} the item, if it was about one
   */
  settle(ack) {
    return this.#settle(ack.ref ?? "", ack);
  }

  /**
   * A message of one's own came back from the room: it is stored, whether or not its ack has come.
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
   * The server refuses something.
   *
   * @param {Pick<ErrorEvent, "ref" | "content" | "code" | "retry_after">} error
   * @returns {boolean} whether it was about an item
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

  /** Sends nothing for a while. @param {number} delayMs */
  #pause(delayMs) {
    this.#isPaused = true;
    this.#around.clearTimeout(this.#pauseTimer);
    this.#pauseTimer = this.#around.setTimeout(() => {
      this.#isPaused = false;
      this.#pump();
    }, delayMs);
  }

  /** Sends what is waiting, in order, as far as it may go now. */
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

  /** Seals items that are unsealed, or sealed for an earlier spelling of the name. */
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

/** Why an item is not sent as somebody without being asked; `""` if it is. @param {Way} way @param {Item} item */
function whyNotAs({ username, identity }, { by, as, from = username }) {
  // What went out sealed for one spelling of the name can be sealed for no other: it may be stored.
  if (as !== undefined && (as !== identity || from !== username)) return OTHER_PERSON;
  return by === "" || isSameName(by, username) ? "" : OTHER_NAME;
}

/** @param {Item} item @returns {Command} */
function commandOf({ ref, content, wire = content, to, replyTo, edits }) {
  if (edits) return { type: "edit", id: edits.id, content: wire, ref };
  if (to !== undefined) return { type: "dm", to, content: wire, ref };
  return { type: "chat", content: wire, ref, ...(replyTo !== undefined && { reply_to: replyTo }) };
}

/** A ref that nobody else gives. `crypto.randomUUID` is not there on plain http. */
export function newRef() {
  const numbers = crypto.getRandomValues(new Uint32Array(4));
  return Array.from(numbers, (number) => number.toString(36).padStart(7, "0")).join("");
}

/** A server's sentence as it stands on a page: with a capital and a full stop. @param {string} text */
export function asSentence(text) {
  if (text === "") return "";
  return text[0]?.toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}
