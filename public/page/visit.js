// @ts-check
/**
 * One room that one is in: where it is, as who, what was said there, what one has begun to write and
 * has still to send, and how far one has read. The one owner of all that; it knows no DOM, and the
 * page shows one visit at a time.
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
 * Who wants to know what happens in a visit.
 *
 * @typedef {object} Host
 * @property {(visit: Visit, state: ConnectionState, username: string) => void} onState The state of
 *   the visit's connection has changed, or of one that is to replace it, as `username`.
 * @property {() => "socket" | "stream"} way How the page's newest connection got through.
 * @property {(visit: Visit) => void} onEvents Something was said, or somebody came, went or types.
 * @property {(visit: Visit, message: Message) => void} onNews Somebody else has just said something.
 * @property {(visit: Visit, item: Outgoing) => void} onOutgoing
 * @property {(visit: Visit, sentence: string) => void} onComplaint The server complains of something.
 * @property {(visit: Visit) => void} onUnread The number of unread messages has changed.
 * @property {(visit: Visit) => void} onTimeline The visit has another timeline.
 * @property {(visit: Visit, ref: string) => void} onTaken A text that another visit of the room may
 *   have, too, is this one's alone from now on.
 */

/** Messages in one page of history. */
const PAGE = 50;
/** How far a room is read is kept at most this often: a busy one is read on with every message. */
const KEEP_MS = 1000;

/** One room that one is in, or is on the way into. */
export class Visit {
  /** @type {Place} */ place;
  /** What was said; another one where it begins anew. */
  timeline = new Timeline();
  /** @type {Drafts} */ drafts;
  /** @type {Outbox} */ outbox;
  /** Who else types. @type {Set<string>} */ typists = new Set();
  /** Whether the server has ever let us in. */
  hasArrived = false;

  /** @type {Cipher | undefined} */ #cipher;
  /** Names it in the browser's memory. @type {string} */ id;
  /** @type {Host} */ #host;
  /** @type {string | URL} */ #base;
  /** @type {Connection | undefined} */ #connection;
  /** Is to replace the connection, under another name. @type {Connection | undefined} */ #candidate;
  /** Finds the reader's name in a text. */
  #mention = /(?!)/;
  /** How far the room is read. */
  #read = { epoch: "", seq: 0 };
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #keeping;
  /** What others said and one has not seen, by number. @type {{ seq: number, isForMe: boolean }[]} */
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
   * Makes a visit of a place, with what was left there before.
   *
   * @param {Place} place
   * @param {{ base: string | URL, host: Host }} options
   */
  static async create(place, options) {
    const canOpen = isKey(place.key) && canSeal();
    const cipher = canOpen ? await Cipher.fromKey(place.key) : undefined;
    const visit = new Visit(place, cipher, options);
    await visit.drafts.load();
    // What was written under another key is there, too, as what cannot be sent from here.
    for (const items of tab.unsent(place.room).values()) await visit.outbox.load(items);
    for (const item of visit.outbox.items) visit.#showOutgoing(item);
    return visit;
  }

  // ---- What it is now ------------------------------------------------------------------------

  /** @returns {ConnectionState} */
  get state() {
    return this.#connection?.state ?? { state: "closed" };
  }

  get isLive() {
    return this.state.state === "live";
  }

  /** Whether it is live by plain HTTP, with a request that stays open. */
  get isOnStream() {
    return this.state.state === "live" && this.state.via === "stream";
  }

  /** The own name there. */
  get username() {
    return this.#connection?.username ?? "";
  }

  /** The connection, for what only the server can do: removing people, changing the room. */
  get connection() {
    return this.#connection;
  }

  get isEncrypted() {
    return isEncrypted(this.place);
  }

  /** Why texts there can be neither read nor written; `""` if they can. */
  get keyTrouble() {
    return keyTroubleOf(this.place);
  }

  /** UTF-8 bytes that a message may have. */
  get maxBytes() {
    const limit = this.#connection?.maxMessageBytes ?? Infinity;
    return this.#cipher && limit !== Infinity ? maxTextBytes(limit) : limit;
  }

  /** How many messages of others one has not seen. */
  get unread() {
    return this.#unseen.length;
  }

  /** Whether one of them is for the reader: it has the own name in it, or is private. */
  get isWanted() {
    return this.#unseen.some(({ isForMe }) => isForMe);
  }

  // ---- Coming and going ----------------------------------------------------------------------

  /**
   * Joins, or comes back. Under another name than now, one stays under the old one until the server
   * takes the new one.
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
    // To another person the room looks another way: private messages, and which ones are own.
    if (left) this.#beginAnew();
  }

  /** Starts with an empty timeline, and what is still to be sent. */
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

  /** Closes the connection for now; `join` with the same name comes back and catches up. */
  sleep() {
    this.#dropCandidate();
    this.#keepRead();
    return this.#connection?.close();
  }

  /** To be called when the network or the computer was away: see `Connection`. */
  check() {
    this.#connection?.check();
  }

  /** The network is gone. */
  interrupt() {
    this.#connection?.interrupt("Your device is offline.");
  }

  retry() {
    this.#connection?.retry();
  }

  /** Forgets the person: the connection and the texts. What is not sent stays. */
  end() {
    this.sleep();
    this.#connection = undefined;
    this.#beginAnew();
  }

  /** Forgets what was written here and is not sent. */
  forget() {
    this.outbox.clear();
    this.drafts.clear();
    tab.keepUnsent(this.id, []);
  }

  // ---- What the server says ------------------------------------------------------------------

  /** @param {readonly Told[]} events */
  #receive(events) {
    for (const event of events) this.#receiveOne(event);
    this.#showEdits();
    this.#host.onEvents(this);
  }

  /** Shows the edits that are not sent at messages that may be new here. */
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
        // Too fast can be here what nobody needs to know of: that one types. A message waits by itself.
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
      // What was changed meanwhile would stand here as it was: the newest messages come anew.
      this.#beginAnew();
    }
  }

  // ---- What was said earlier, and how far it is read -----------------------------------------

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
   * Loads what stands around a message, if that is missing.
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
   * A page of history, if it can be had now.
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

  /** Draws the line before what is new since one was here. */
  markNew() {
    if (this.#read.epoch !== "") this.timeline.lastRead = { seq: this.#read.seq };
  }

  /** Finds where one was, among what there is now. @param {{ epoch: string, seq: number }} welcome */
  #findPlace({ epoch, seq }) {
    const isFirst = this.#read.epoch === "";
    // In another life of the room the number may stand for another message; a greater one does.
    if (isFirst || seq < this.#read.seq) this.#read.seq = seq;
    this.#read.epoch = epoch;
    this.#keepRead();
  }

  /** The reader has seen everything up to a message. @param {number} seq */
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

  /** Puts the room into the browser's list, as one that is visited now. */
  remember() {
    browser.keepRoom({
      ...this.place,
      username: this.username,
      ...this.#read,
      visitedAt: Date.now(),
    });
  }

  // ---- What one writes -----------------------------------------------------------------------

  /** @param {string} text @param {string} [replyTo] the id of the message that it answers */
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

  /** Sends a text again that has failed. From now on it is this visit's alone. @param {string} ref */
  sendAgain(ref) {
    this.#forgetElsewhere(ref);
    this.#host.onTaken(this, ref);
    this.outbox.sendAgain(ref);
  }

  /** Another visit of the room has taken over a text. @param {string} ref */
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
   * Shows an item where it stands: at the message that it changes, or as a message of its own. So is
   * an edit that has failed and whose message is not here.
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
