// @ts-check
/**
 * One joined room: its place, name, messages, drafts, unsent texts and read position. The page shows
 * one visit at a time. Uses no DOM.
 *
 * @module
 */

import { canSeal, Cipher, isKey, isSealed, maxTextBytes } from "../cipher.js";
import { Connection } from "../connection.js";
import { isSameName } from "../names.js";
import { Outbox } from "../outbox.js";
import { isEncrypted, isSamePlace, keyTroubleOf } from "./address.js";
import { Drafts } from "./drafts.js";
import { browser, tab, visitId } from "./memory.js";
import { Timeline } from "./timeline.js";

/** @import { ConnectionState } from "../connection.js" */
/** @import { Told } from "../inbox.js" */
/** @import { Outgoing } from "../outbox.js" */
/** @import { Place } from "./address.js" */
/** @import { Direction, Hole, Message } from "./timeline.js" */

/**
 * Receives the reports of a visit.
 *
 * @typedef {object} Host
 * @property {(visit: Visit, state: ConnectionState, username: string) => void} onState The state of
 *   the visit's connection has changed, or of its replacement under the name `username`.
 * @property {() => "socket" | "stream"} way The transport of the page's newest connection.
 * @property {(visit: Visit) => void} onEvents Events have arrived.
 * @property {(visit: Visit, message: Message) => void} onNews A new message of someone else.
 * @property {(visit: Visit, item: Outgoing) => void} onOutgoing
 * @property {(visit: Visit, sentence: string) => void} onComplaint The server sent an error.
 * @property {(visit: Visit) => void} onUnread The number of unread messages has changed.
 * @property {(visit: Visit) => void} onTimeline The visit has a new timeline.
 * @property {(visit: Visit, ref: string) => void} onTaken This visit sends a text that another visit
 *   of the room may also hold.
 */

/** Messages in one page of history. */
const PAGE = 50;
/** How often the read position is stored at most: in a busy room, every message moves it. */
const KEEP_MS = 1000;

/** One room that the page has joined or is joining. */
export class Visit {
  /** @type {Place} */ place;
  /** The messages; replaced by an empty timeline after a gap. */
  timeline = new Timeline();
  /** @type {Drafts} */ drafts;
  /** @type {Outbox} */ outbox;
  /** The other people who type. @type {Set<string>} */ typists = new Set();
  /** Whether the server has ever admitted the person. */
  hasArrived = false;

  /** @type {Cipher | undefined} */ #cipher;
  /** Its id in the browser's memory. @type {string} */ id;
  /** @type {Host} */ #host;
  /** @type {string | URL} */ #base;
  /** @type {Connection | undefined} */ #connection;
  /** Replaces the connection once it is live, under another name. @type {Connection | undefined} */ #candidate;
  /** Matches the reader's name in a text. */
  #mention = /(?!)/;
  /** The read position. */
  #read = { epoch: "", seq: 0 };
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #keeping;
  /** The unseen messages of others. @type {{ seq: number, isForMe: boolean }[]} */
  #unseen = [];

  /**
   * @param {Place} place
   * @param {Cipher | undefined} cipher
   * @param {{ base: string | URL, host: Host }} options
   */
  constructor(place, cipher, { base, host }) {
    const { room } = place;
    const id = this.id = visitId(room, cipher?.fingerprint);
    this.place = place;
    this.#cipher = cipher;
    this.#base = base;
    this.#host = host;
    this.outbox = new Outbox({ room, cipher });
    this.outbox.onChange((item) => {
      tab.keepUnsent(id, this.outbox.save());
      this.#showOutgoing(item);
    });
    const store = {
      read: () => tab.drafts(id),
      write: (/** @type {Record<string, string>} */ drafts) => tab.keepDrafts(id, drafts),
    };
    this.drafts = new Drafts({ room, cipher, store });
    const known = browser.rooms.find((known) => isSamePlace(known, place));
    if (known) this.#read = { epoch: known.epoch, seq: known.seq };
  }

  /**
   * Creates the visit of a place, with its stored drafts and unsent texts.
   *
   * @param {Place} place
   * @param {{ base: string | URL, host: Host }} options
   */
  static async create(place, options) {
    const canOpen = isKey(place.key) && canSeal();
    const cipher = canOpen ? await Cipher.fromKey(place.key) : undefined;
    const visit = new Visit(place, cipher, options);
    await visit.drafts.load();
    // Texts of another key are included: they show as locked, and cannot be sent.
    for (const items of tab.unsent(place.room).values()) await visit.outbox.load(items);
    for (const item of visit.outbox.items) visit.#showOutgoing(item);
    return visit;
  }

  // ---- State ---------------------------------------------------------------------------------

  /** @returns {ConnectionState} */
  get state() {
    return this.#connection?.state ?? { state: "closed" };
  }

  get isLive() {
    return this.state.state === "live";
  }

  /** Whether it is live by plain HTTP, which occupies a connection of the browser. */
  get isOnStream() {
    return this.state.state === "live" && this.state.via === "stream";
  }

  /** The reader's name in the room. */
  get username() {
    return this.#connection?.username ?? "";
  }

  /** The connection, for requests such as removing people or changing the room. */
  get connection() {
    return this.#connection;
  }

  get isEncrypted() {
    return isEncrypted(this.place);
  }

  /** Why its texts can be neither read nor written; `""` if they can. */
  get keyTrouble() {
    return keyTroubleOf(this.place);
  }

  /** Maximum UTF-8 bytes of a message. */
  get maxBytes() {
    const limit = this.#connection?.maxMessageBytes ?? Infinity;
    return this.#cipher && limit !== Infinity ? maxTextBytes(limit) : limit;
  }

  /** The count of unseen messages of others. */
  get unread() {
    return this.#unseen.length;
  }

  /** Whether one of them is for the reader: private, or with the reader's name in it. */
  get isWanted() {
    return this.#unseen.some(({ isForMe }) => isForMe);
  }

  // ---- Joining and leaving -------------------------------------------------------------------

  /**
   * Joins or rejoins. With a new name, the old connection stays until the server accepts the name.
   *
   * @param {string} username
   */
  join(username) {
    this.#dropCandidate();
    const isBack = this.#connection && this.#connection.username === username;
    if (isBack) return this.#connection?.open();
    const { room } = this.place;
    const session = browser.session(room, username) ?? this.#connection?.session;
    const joining = new Connection({
      base: this.#base,
      room,
      username,
      via: this.#host.way(),
      outbox: this.outbox,
      ...(session && { session }),
      ...(this.#cipher && { cipher: this.#cipher }),
    });
    joining.on("state", (state) => this.#onState(joining, state));
    joining.on("events", (events) => joining === this.#connection && this.#receive(events));
    joining.on("gap", (gap) => joining === this.#connection && this.#onGap(gap));
    if (this.isLive) this.#candidate = joining;
    else this.#adopt(joining);
    joining.open();
  }

  /** @param {Connection} joining @param {ConnectionState} state */
  #onState(joining, state) {
    if (joining === this.#candidate) {
      if (state.state === "live") this.#adopt(joining);
      else if (state.state === "refused" || state.state === "reconnecting") this.#dropCandidate();
    } else if (joining !== this.#connection) return;
    if (joining === this.#connection) {
      if (state.state === "live") this.#arrive(joining);
      else this.typists.clear();
    }
    this.#host.onState(this, state, joining.username);
  }

  /** @param {Connection} joining */
  #adopt(joining) {
    const left = this.#connection;
    this.#connection = joining;
    this.#candidate = undefined;
    left?.close();
    this.#mention = mentionOf(joining.username);
    this.typists.clear();
    // Another name has other private messages and other own messages.
    if (left) this.#beginAnew();
  }

  /** Starts an empty timeline with the unsent texts. */
  #beginAnew() {
    this.timeline = new Timeline();
    this.#keepUnseen(() => false);
    for (const item of this.outbox.items) this.#showOutgoing(item);
    this.#host.onTimeline(this);
  }

  #dropCandidate() {
    const dropped = this.#candidate;
    this.#candidate = undefined;
    dropped?.close();
  }

  /** @param {Connection} connection */
  #arrive({ room, username, session }) {
    this.hasArrived = true;
    if (session) browser.keepSession(room, username, session);
  }

  /** Closes the connection; `join()` with the same name reopens it and catches up. */
  sleep() {
    this.#dropCandidate();
    this.#keepRead();
    return this.#connection?.close();
  }

  /** Call this when the connection may be dead: see `Connection`. */
  check() {
    this.#connection?.check();
  }

  /** Call this when the network is gone. */
  interrupt() {
    this.#connection?.interrupt("Your device is offline.");
  }

  retry() {
    this.#connection?.retry();
  }

  /** Forgets the connection and the messages. Unsent texts stay. */
  end() {
    this.sleep();
    this.#connection = undefined;
    this.#beginAnew();
  }

  /** Forgets the drafts and the unsent texts. */
  forget() {
    this.outbox.clear();
    this.drafts.clear();
    tab.keepUnsent(this.id, []);
  }

  // ---- Events --------------------------------------------------------------------------------

  /** @param {readonly Told[]} events */
  #receive(events) {
    for (const event of events) this.#receiveOne(event);
    this.#showEdits();
    this.#host.onEvents(this);
  }

  /** Shows unsent edits at their messages, which may have just arrived. */
  #showEdits() {
    for (const { ref, edits, content, status, reason } of this.outbox.items) {
      if (!edits || status === "sent" || !this.timeline.find(edits.id)) continue;
      this.timeline.discard(ref);
      this.timeline.change(edits.id, { change: { ref, text: content, status, reason } });
    }
  }

  /** @param {Told} event */
  #receiveOne(event) {
    const isSelf = "username" in event && isSameName(event.username, this.username);
    switch (event.type) {
      case "welcome":
        this.timeline.expect(event.seq, event);
        this.#findPlace(event);
        if (!event.recovered) this.markNew();
        this.typists = new Set(event.typing.filter((name) => !isSameName(name, event.username)));
        return;
      case "epoch":
        this.#read.epoch = event.epoch;
        return this.#keepRead();
      case "chat":
      case "dm":
        return this.#receiveMessage(event, isSelf);
      case "message_updated":
        return this.timeline.change(event.id, {
          text: event.content,
          edited: true,
          ...this.#sealOf(event),
        });
      case "message_deleted":
        this.#keepUnseen(({ seq }) => seq !== this.timeline.find(event.id)?.seq);
        return this.timeline.change(event.id, { text: "", deleted: true });
      case "user_left":
        this.typists.delete(event.username);
        return isSelf ? undefined : this.timeline.addNotice(event.username, "left");
      case "user_joined":
        return isSelf ? undefined : this.timeline.addNotice(event.username, "joined");
      case "typing":
        if (event.active && !isSelf) this.typists.add(event.username);
        else this.typists.delete(event.username);
        return;
      case "error":
        // A rate-limited `typing` needs no remark; a rate-limited message waits in the outbox.
        if (event.code !== "rate_limited") this.#host.onComplaint(this, event.content);
        return;
    }
  }

  /** @param {Extract<Told, { type: "chat" | "dm" }>} event @param {boolean} isOwn */
  #receiveMessage(event, isOwn) {
    const message = this.#toMessage(event, isOwn);
    const isOld = event.history === true;
    if (!this.timeline.add(message, { isOld })) return;
    this.typists.delete(message.author);
    if (isOwn || message.deleted) return;
    const seq = message.seq ?? this.timeline.newestSeq;
    const isNews = !isOld || (event.type === "chat" && this.#read.seq > 0 && seq > this.#read.seq);
    if (isNews) {
      this.#unseen.push({ seq, isForMe: message.mention === true || message.to !== undefined });
      this.#host.onUnread(this);
    }
    if (!isOld) this.#host.onNews(this, message);
  }

  /**
   * @param {Extract<Told, { type: "chat" | "dm" }>} event
   * @param {boolean} own
   * @returns {Message}
   */
  #toMessage(event, own) {
    return {
      id: event.id,
      at: dateOf(event.timestamp),
      author: event.username,
      text: event.content,
      own,
      status: "sent",
      ...(event.ref !== undefined && { ref: event.ref }),
      ...this.#sealOf(event),
      ...(event.type === "dm" ? { to: event.to } : {
        seq: event.seq,
        ...(event.reply_to !== undefined && { replyTo: event.reply_to }),
        ...(event.edited && { edited: true }),
        ...(event.deleted && { deleted: true }),
        ...(!own && this.#mention.test(event.content) && { mention: true }),
      }),
    };
  }

  /** @param {Told} event @returns {Pick<Message, "seal">} */
  #sealOf({ seal, content }) {
    if (seal) return { seal };
    if (isSealed(content)) return { seal: "locked" };
    return { seal: this.isEncrypted && content !== "" ? "bare" : undefined };
  }

  /** @param {{ isNewLife: boolean }} gap */
  #onGap({ isNewLife }) {
    if (isNewLife) {
      this.timeline.makeStale();
      this.timeline.addGap(
        "The server started anew. Messages sent while you were away may be missing here",
      );
    } else {
      // Missed edits would never show: load the newest messages again.
      this.#beginAnew();
    }
  }

  // ---- History and read position -------------------------------------------------------------

  /**
   * Fills a hole in the timeline from one side.
   *
   * @param {Hole} hole
   * @param {Direction} direction
   */
  async fill(hole, direction) {
    const { timeline } = this;
    const range = direction === "older" ? { before: hole.before } : { after: hole.after };
    const page = await this.#load(range);
    if (!page) return timeline.failPage(hole);
    timeline.addPage(hole, direction, page.messages, page.more);
    this.#showEdits();
  }

  /**
   * Loads the messages around a `seq`, if they are missing.
   *
   * @param {number} seq
   */
  async loadAround(seq) {
    const { timeline } = this;
    if (!timeline.holeAt(seq)) return;
    const [older, newer] = await Promise.all([
      this.#load({ before: seq + 1 }),
      this.#load({ after: seq }),
    ]);
    const hole = timeline.holeAt(seq);
    if (!older || !newer || !hole) return;
    const messages = [...older.messages, ...newer.messages];
    timeline.addAround(hole, messages, { older: older.more, newer: newer.more });
    this.#showEdits();
  }

  /**
   * Loads a page of history; `undefined` if the server does not give one.
   *
   * @param {{ before?: number, after?: number }} range
   * @returns {Promise<{ messages: Message[], more: boolean } | undefined>}
   */
  async #load(range) {
    const asked = this.#connection;
    try {
      const page = await asked?.history({ ...range, limit: PAGE });
      if (!page || asked !== this.#connection) return undefined;
      const messages = page.messages.map((event) => {
        const told = /** @type {Extract<Told, { type: "chat" }>} */ (event);
        return this.#toMessage(told, isSameName(told.username, this.username));
      });
      return { messages, more: page.more };
    } catch {
      return undefined;
    }
  }

  /** Draws the line before the messages after the read position. */
  markNew() {
    if (this.#read.epoch !== "") this.timeline.lastRead = { seq: this.#read.seq };
  }

  /** Moves the read position into the epoch of a welcome. @param {{ epoch: string, seq: number }} welcome */
  #findPlace({ epoch, seq }) {
    const isFirst = this.#read.epoch === "";
    // A read position beyond the room's last `seq` belongs to an earlier life of the room.
    if (isFirst || seq < this.#read.seq) this.#read.seq = seq;
    this.#read.epoch = epoch;
    this.#keepRead();
  }

  /** Marks everything up to a message as seen. @param {number} seq */
  see(seq) {
    this.#keepUnseen((unseen) => unseen.seq > seq);
    if (seq <= this.#read.seq || this.#read.epoch === "") return;
    this.#read.seq = seq;
    this.#keeping ??= setTimeout(() => this.#keepRead(), KEEP_MS);
  }

  #keepRead() {
    clearTimeout(this.#keeping);
    this.#keeping = undefined;
    if (this.#read.epoch !== "") browser.keepRead(this.place, this.#read);
  }

  /** @param {(unseen: { seq: number }) => boolean} isKept */
  #keepUnseen(isKept) {
    const { length } = this.#unseen;
    this.#unseen = this.#unseen.filter(isKept);
    if (this.#unseen.length !== length) this.#host.onUnread(this);
  }

  /** Adds the room to the browser's list, as visited now. */
  remember() {
    browser.keepRoom({
      ...this.place,
      username: this.username,
      ...this.#read,
      visitedAt: Date.now(),
    });
  }

  // ---- Writing -------------------------------------------------------------------------------

  /** @param {string} text @param {string} [replyTo] the id of the answered message */
  say(text, replyTo) {
    this.#live.send(text, replyTo === undefined ? {} : { replyTo });
  }

  /** @param {string} to @param {string} text */
  whisper(to, text) {
    this.#live.whisper(to, text);
  }

  /** @param {string} id @param {string} text */
  edit(id, text) {
    this.#live.edit(id, text);
  }

  /** @returns {Connection} */
  get #live() {
    if (!this.#connection) throw new Error("Nobody has joined this room.");
    return this.#connection;
  }

  /** Sends a failed text again, and removes it from other visits of the room. @param {string} ref */
  sendAgain(ref) {
    this.#forgetElsewhere(ref);
    this.#host.onTaken(this, ref);
    this.outbox.sendAgain(ref);
  }

  /** Removes a text that another visit of the room sends. @param {string} ref */
  giveUp(ref) {
    this.outbox.remove(ref);
    this.timeline.discard(ref);
  }

  /** @param {string} ref */
  #forgetElsewhere(ref) {
    for (const [id, items] of tab.unsent(this.place.room)) {
      if (id !== this.id) tab.keepUnsent(id, items.filter((item) => item.ref !== ref));
    }
  }

  /** @param {string} ref */
  discard(ref) {
    const edited = this.outbox.items.find((item) => item.ref === ref)?.edits;
    this.outbox.discard(ref);
    if (edited) this.timeline.change(edited.id, { change: undefined });
    this.timeline.discard(ref);
    tab.keepUnsent(this.id, this.outbox.save());
    this.#forgetElsewhere(ref);
  }

  /**
   * Shows an item at the message that it edits, or as a message of its own: new messages, and failed
   * edits whose message is not loaded.
   *
   * @param {Outgoing} item
   */
  #showOutgoing(item) {
    const { ref, content, to, replyTo, edits, status, reason, ack, isLocked } = item;
    const edited = edits && this.timeline.find(edits.id);
    if (edits && (status !== "failed" || (edited && !edited.deleted))) {
      const change = status === "sent" ? undefined : { ref, text: content, status, reason };
      this.timeline.change(edits.id, { change });
      if (status === "sent") this.timeline.discard(ref);
    } else if (ack?.id !== undefined) {
      const { id, seq, timestamp = "" } = ack;
      const numbers = { id, at: dateOf(timestamp), ...(seq !== undefined && { seq }) };
      this.timeline.settle(ref, { status, reason, ...numbers });
    } else if (!this.timeline.settle(ref, { status, reason, text: content })) {
      this.timeline.add({
        ref,
        at: new Date(),
        author: this.username,
        text: content,
        own: true,
        status,
        reason,
        ...(isLocked && { seal: "locked" }),
        ...(to !== undefined && { to }),
        ...(replyTo !== undefined && { replyTo }),
      });
    }
    this.#host.onOutgoing(this, item);
  }
}

/** @param {string} username */
function mentionOf(username) {
  const name = username.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`(?<![\\p{L}\\p{N}_])@?${name}(?![\\p{L}\\p{N}_])`, "iu");
}

/** @param {string} timestamp */
function dateOf(timestamp) {
  const at = new Date(timestamp);
  return Number.isNaN(at.getTime()) ? new Date() : at;
}
