// @ts-check
/**
 * The messages of one room in order, and the notices and lines between them. Uses no DOM and no
 * connection.
 *
 * A hole is an entry for messages that are not loaded, with the numbers around them. The start of the
 * room is the first hole, until everything is loaded.
 *
 * @module
 */

/** @import { Seal } from "../inbox.js" */

/**
 * An edit that the server has not stored yet, or has refused.
 *
 * @typedef {object} Change
 * @property {string} ref The edit's ref, not the message's.
 * @property {string} text
 * @property {"waiting" | "sending" | "failed"} status
 * @property {string} [reason] Why it failed.
 */

/**
 * A message. `id` and `seq` are present once the server has stored it. `seal` is also `locked` without
 * the key to open it.
 *
 * @typedef {object} Message
 * @property {string} [id]
 * @property {string} [ref] The sender's id for it.
 * @property {number} [seq]
 * @property {Date} at
 * @property {string} author
 * @property {string} text
 * @property {string} [to] The only receiver.
 * @property {string} [replyTo] The `id` of the answered message.
 * @property {boolean} own
 * @property {"waiting" | "sending" | "sent" | "failed"} status
 * @property {string} [reason] Why it failed.
 * @property {boolean} [edited]
 * @property {boolean} [deleted]
 * @property {Seal | "locked" | undefined} [seal]
 * @property {boolean} [mention] It contains the reader's name.
 * @property {boolean} [stale] It belongs to a life of the room that the server has forgotten.
 * @property {Change | undefined} [change]
 */

/** @typedef {Message & { kind: "message" }} MessageEntry */
/** @typedef {{ kind: "notice", at: Date, people: Map<string, [string, string]> }} NoticeEntry */
/** Only the view reads `content`. */
/** @typedef {{ kind: "card" | "gap", at: Date, content: unknown[] }} CardEntry */
/** Messages above `after` and below `before` are not loaded. */
/** @typedef {{ kind: "hole", after: number, before: number, state: "open" | "loading" | "failed" }} Hole */
/** The line before new messages. */
/** @typedef {{ kind: "line" }} Line */
/** @typedef {MessageEntry | NoticeEntry | CardEntry | Hole | Line} Entry */

/** `older` fills a hole from its newer end, `newer` from its older end. */
/** @typedef {"older" | "newer"} Direction */

/**
 * The view of a timeline.
 *
 * @typedef {object} Listener
 * @property {(index: number) => void} inserted A new entry has this index.
 * @property {(index: number) => void} removed The entry at this index is gone.
 * @property {(entry: Entry) => void} changed
 * @property {() => boolean} isWatching Whether a person sees entries added at the end.
 * @property {(count: number) => boolean} mayDrop Whether the first entries may be dropped.
 */

/** Maximum entries in memory; older ones can be loaded again. */
const MAX_ENTRIES = 10_000;
/** Entries dropped at a time beyond the maximum. */
const DROP_ENTRIES = 100;

/** The entries of one room. */
export class Timeline {
  /** @type {Entry[]} */ #entries = [];
  /** @type {Map<string, MessageEntry>} */ #byId = new Map();
  /** Own messages that the server has not stored yet. @type {Map<string, MessageEntry>} */
  #byRef = new Map();
  /** The replies to a message, by its id. @type {Map<string, Set<MessageEntry>>} */
  #answers = new Map();
  /** Each name once, so that all its messages share one string. @type {Map<string, string>} */
  #authors = new Map();
  /** @type {Set<Hole>} */ #holes = new Set();
  /** @type {Listener | undefined} */ #listener;
  /** The highest `seq` that the server is known to have. */
  #newest = 0;
  /** Messages up to this `seq` were sent while the reader was away. */
  #missedTo = 0;
  /** The reader has read up to this `seq`. @type {number | undefined} */
  #readTo;
  /** @type {Line | undefined} */ #line;

  /** Sets the only listener, or none. @param {Listener} [listener] */
  listen(listener) {
    this.#listener = listener;
  }

  /** All entries, oldest first. @returns {readonly Entry[]} */
  get entries() {
    return this.#entries;
  }

  /** The count of messages. */
  get size() {
    return this.#byId.size + this.#byRef.size;
  }

  /** Whether the room has no messages, as far as known. */
  get isEmpty() {
    return this.size === 0 && this.#holes.size === 0;
  }

  /** The highest `seq` that the server is known to have. */
  get newestSeq() {
    return this.#newest;
  }

  /** The newest own message that can be edited. @returns {Message | undefined} */
  get lastOwn() {
    return this.#entries.findLast(isChangeable);
  }

  /** The line before new messages, if there are any. @returns {Line | undefined} */
  get line() {
    return this.#line;
  }

  /**
   * Draws the line before the first message of others after `seq`. It stays until the reader writes,
   * or another `seq` is set.
   *
   * @param {{ seq: number }} read
   */
  set lastRead({ seq }) {
    this.#eraseLine();
    this.#readTo = seq;
    this.#drawLine();
  }

  /** @param {string} id @returns {Message | undefined} */
  find(id) {
    return this.#byId.get(id);
  }

  /** The message with this `seq`, or the first after it. @param {number} seq */
  findAt(seq) {
    return this.#entries.find((entry) => isNumbered(entry) && entry.seq >= seq);
  }

  /** The hole that contains this `seq`. @param {number} seq */
  holeAt(seq) {
    return [...this.#holes].find(({ after, before }) => after < seq && seq < before);
  }

  /**
   * Notes the last `seq` of a welcome. Unless it is recovered, the messages up to there become a hole.
   *
   * @param {number} newest
   * @param {{ recovered: boolean }} welcome
   */
  expect(newest, { recovered }) {
    this.#missedTo = newest;
    for (const hole of this.#holes) {
      if (hole.state === "failed") this.#set(hole, { state: "open" });
    }
    if (!recovered && newest > this.#newest) {
      const place = this.#tail();
      const last = this.#entries[place - 1];
      if (last?.kind === "hole") this.#set(last, { before: newest + 1 });
      else {
        this.#insert(place, {
          kind: "hole",
          after: this.#newest,
          before: newest + 1,
          state: "open",
        });
      }
    }
    this.#newest = Math.max(this.#newest, newest);
    this.#readTo ??= this.#newest;
  }

  /**
   * Adds a message: at the end, or in its place if it is old. Updates a known message, also an own one
   * that is being sent.
   *
   * @param {Message} message
   * @param {{ isOld?: boolean }} [how] `isOld`: the server sent it as history
   * @returns {boolean} whether it was added
   */
  add(message, { isOld = false } = {}) {
    if (isOld && message.seq !== undefined) this.#meet(message.seq);
    const known = this.#byId.get(message.id ?? "");
    if (known) {
      Object.assign(known, message, { author: known.author });
      this.#touch(known);
      return false;
    }
    const ref = message.own ? message.ref : undefined;
    if (ref !== undefined && this.#byRef.has(ref)) {
      this.settle(ref, message);
      return false;
    }
    this.#newest = Math.max(this.#newest, message.seq ?? 0);
    if (message.deleted) return false;
    const entry = this.#register(message);
    if (entry.id !== undefined) this.#place(entry, isOld);
    else {
      this.#eraseLine();
      this.#readTo = this.#newest;
      this.#insert(this.#entries.length, entry);
    }
    if (!entry.own && !this.#line) this.#markNew(entry, isOld);
    this.#drop();
    return true;
  }

  /**
   * Fills a hole from one side.
   *
   * @param {Hole} hole
   * @param {Direction} direction
   * @param {readonly Message[]} messages oldest first, deleted ones too
   * @param {boolean} more whether the server has more in this direction
   */
  addPage(hole, direction, messages, more) {
    this.#set(hole, { state: "open" });
    this.#fill(hole, messages, {
      meetsOlder: direction === "newer" || !more,
      meetsNewer: direction === "older" || !more,
    });
  }

  /**
   * Puts the messages around a jump target into the middle of a hole.
   *
   * @param {Hole} hole
   * @param {readonly Message[]} messages oldest first, deleted ones too
   * @param {{ older: boolean, newer: boolean }} more whether the server has more on either side
   */
  addAround(hole, messages, { older, newer }) {
    this.#fill(hole, messages, { meetsOlder: !older, meetsNewer: !newer });
  }

  /** Marks a hole as failed to load. @param {Hole} hole */
  failPage(hole) {
    this.#set(hole, { state: "failed" });
  }

  /** Marks a hole as loading. @param {Hole} hole */
  awaitPage(hole) {
    this.#set(hole, { state: "loading" });
  }

  /**
   * Updates an unsent message. Once the server has stored it, it moves to its place.
   *
   * @param {string} ref
   * @param {Partial<Message>} news
   * @returns {boolean} whether the message is known
   */
  settle(ref, news) {
    const entry = this.#byRef.get(ref);
    if (!entry) return false;
    const isTriedAgain = entry.status === "failed" && news.status === "waiting";
    Object.assign(entry, news, { author: entry.author });
    this.#touch(entry);
    if (news.id === undefined) {
      if (isTriedAgain) this.#move(entry);
      return true;
    }
    this.#byRef.delete(ref);
    this.#newest = Math.max(this.#newest, news.seq ?? 0);
    if (this.#byId.has(news.id)) this.#removeAt(this.#entries.lastIndexOf(entry));
    else {
      this.#byId.set(news.id, entry);
      this.#move(entry);
    }
    return true;
  }

  /** Removes an unsent message. @param {string} ref */
  discard(ref) {
    const entry = this.#byRef.get(ref);
    if (entry) this.#removeAt(this.#entries.lastIndexOf(entry));
  }

  /**
   * Updates a stored message, also a deleted one.
   *
   * @param {string} id
   * @param {Partial<Message>} news
   */
  change(id, news) {
    const entry = this.#byId.get(id);
    if (!entry) return;
    Object.assign(entry, news);
    this.#touch(entry);
  }

  /** Marks all messages as belonging to a life of the room that the server has forgotten. */
  makeStale() {
    for (const hole of this.#holes) this.#remove(hole);
    this.#eraseLine();
    for (const entry of this.#byId.values()) {
      entry.stale = true;
      this.#touch(entry);
    }
    this.#newest = this.#missedTo = 0;
    this.#readTo = undefined;
  }

  /**
   * Adds a notice that someone joined or left. Notices in a row share one entry.
   *
   * @param {string} username
   * @param {"joined" | "left"} what
   */
  addNotice(username, what) {
    const at = new Date();
    const place = this.#tail();
    const last = this.#entries[place - 1];
    const isSame = last?.kind === "notice" && last.at.toDateString() === at.toDateString();
    /** @type {NoticeEntry} */
    const notice = isSame ? last : { kind: "notice", at, people: new Map() };
    const [first] = notice.people.get(username) ?? [what];
    notice.people.set(username, [first, what]);
    if (isSame) this.#touch(notice);
    else this.#insert(place, notice);
  }

  /** Adds a card that only the reader sees. @param {...unknown} content */
  addCard(...content) {
    this.#insert(this.#tail(), { kind: "card", at: new Date(), content });
  }

  /** Adds a remark about missing messages. @param {string} words */
  addGap(words) {
    this.#insert(this.#tail(), { kind: "gap", at: new Date(), content: [words] });
  }

  // ---- The order of entries --------------------------------------------------------------------

  /** Index for a new entry: after everything except messages being sent. */
  #tail() {
    let place = this.#entries.length;
    while (place > 0 && isUnderWay(this.#entries[place - 1])) place--;
    return place;
  }

  /** @param {MessageEntry} entry @param {boolean} isOld */
  #place(entry, isOld) {
    const hole = entry.seq === undefined ? undefined : this.holeAt(entry.seq);
    if (hole) this.#put(hole, [entry], { meetsOlder: false, meetsNewer: isOld });
    else this.#insert(this.#placeFor(entry, isOld), entry);
  }

  /** @param {MessageEntry} entry @param {boolean} isOld */
  #placeFor(entry, isOld) {
    let place = this.#tail();
    if (entry.seq !== undefined) {
      for (let at = place - 1; at >= 0; at--) {
        const other = this.#entries[at];
        if (isNumbered(other) ? other.seq > entry.seq : isHole(other) && other.after >= entry.seq) {
          place = at;
        } else if (!isLoose(other)) break;
      }
    } else if (isOld) {
      while (place > 0 && isEarlier(entry, this.#entries[place - 1])) place--;
    }
    return place;
  }

  /**
   * Moves a sent message after all earlier ones, and before those still unsent.
   *
   * @param {MessageEntry} entry
   */
  #move(entry) {
    const from = this.#entries.lastIndexOf(entry);
    this.#entries.splice(from, 1);
    const hole = entry.seq === undefined ? undefined : this.holeAt(entry.seq);
    const to = this.#placeFor(entry, false);
    if (to === from && !hole) {
      this.#entries.splice(from, 0, entry);
      return;
    }
    this.#listener?.removed(from);
    this.#place(entry, false);
  }

  /** @param {number} index @param {Entry} entry */
  #insert(index, entry) {
    this.#entries.splice(index, 0, entry);
    if (entry.kind === "hole") this.#holes.add(entry);
    this.#listener?.inserted(index);
  }

  /** @param {number} index */
  #removeAt(index) {
    const [entry] = this.#entries.splice(index, 1);
    if (!entry) return;
    if (entry.kind === "message") this.#forget(entry);
    if (entry.kind === "hole") this.#holes.delete(entry);
    if (entry === this.#line) this.#line = undefined;
    this.#listener?.removed(index);
  }

  /** @param {Entry} entry */
  #remove(entry) {
    const index = this.#entries.lastIndexOf(entry);
    if (index >= 0) this.#removeAt(index);
  }

  /** Drops the oldest entries beyond the maximum; a hole replaces them. */
  #drop() {
    while (this.#entries.length >= MAX_ENTRIES + DROP_ENTRIES) {
      if (this.#listener?.mayDrop(DROP_ENTRIES) === false) return;
      this.#dropFirst(DROP_ENTRIES);
    }
  }

  /** Drops the first entries, except unsent messages. @param {number} count */
  #dropFirst(count) {
    let before = 0;
    let at = 0;
    for (let left = count; left > 0; left--) {
      const entry = this.#entries[at];
      if (isNumbered(entry)) before = Math.max(before, entry.seq + 1);
      if (isHole(entry)) before = Math.max(before, entry.before);
      if (isPending(entry)) at++;
      else this.#removeAt(at);
    }
    if (before > 1) this.#insert(0, { kind: "hole", after: 0, before, state: "open" });
  }

  /** @param {Entry} entry */
  #touch(entry) {
    this.#listener?.changed(entry);
    if (entry.kind !== "message" || entry.id === undefined) return;
    for (const answer of this.#answers.get(entry.id) ?? []) this.#listener?.changed(answer);
  }

  // ---- Messages --------------------------------------------------------------------------------

  /** @param {Message} message */
  #register(message) {
    const author = this.#authors.get(message.author) ?? message.author;
    this.#authors.set(author, author);
    /** @type {MessageEntry} */
    const entry = { kind: "message", ...message, author };
    if (entry.id !== undefined) this.#byId.set(entry.id, entry);
    else if (entry.ref !== undefined) this.#byRef.set(entry.ref, entry);
    if (entry.replyTo !== undefined) {
      const answers = this.#answers.get(entry.replyTo) ?? new Set();
      this.#answers.set(entry.replyTo, answers.add(entry));
    }
    this.#touch(entry);
    return entry;
  }

  /** @param {MessageEntry} entry */
  #forget(entry) {
    const { id, ref, replyTo } = entry;
    if (id !== undefined && this.#byId.get(id) === entry) this.#byId.delete(id);
    if (ref !== undefined && this.#byRef.get(ref) === entry) this.#byRef.delete(ref);
    const answers = this.#answers.get(replyTo ?? "");
    answers?.delete(entry);
    if (answers?.size === 0) this.#answers.delete(replyTo ?? "");
    this.#touch(entry);
  }

  // ---- Holes -----------------------------------------------------------------------------------

  /** @param {Hole} hole @param {Partial<Hole>} news */
  #set(hole, news) {
    Object.assign(hole, news);
    this.#touch(hole);
  }

  /** Removes the newest hole if the server's history reaches back over it, to this `seq`. */
  #meet(/** @type {number} */ seq) {
    const hole = [...this.#holes].sort((a, b) => b.before - a.before)[0];
    if (hole && seq <= hole.after) this.#remove(hole);
  }

  /**
   * @param {Hole} hole
   * @param {readonly Message[]} messages
   * @param {{ meetsOlder: boolean, meetsNewer: boolean }} sides the sides of the hole that close
   */
  #fill(hole, messages, { meetsOlder, meetsNewer }) {
    // The hole may have closed while the page was loading.
    if (!this.#holes.has(hole)) return;
    const { after, before } = hole;
    const numbers = messages.flatMap(({ seq }) => seq ?? []);
    const lowest = Math.min(...numbers);
    const highest = Math.max(...numbers);
    const entries = messages
      .filter(({ id, seq = 0, deleted }) =>
        !deleted && !this.#byId.has(id ?? "") && after < seq && seq < before
      )
      .map((message) => this.#register(message));
    this.#put(hole, entries, {
      meetsOlder: meetsOlder || numbers.length === 0 || lowest <= after,
      meetsNewer: meetsNewer || numbers.length === 0 || highest >= before,
    }, numbers.length === 0 ? undefined : { lowest, highest });
    this.#drawLine();
  }

  /**
   * Puts messages into a hole, and keeps the parts that are still missing.
   *
   * @param {Hole} hole
   * @param {readonly MessageEntry[]} entries in order
   * @param {{ meetsOlder: boolean, meetsNewer: boolean }} sides
   * @param {{ lowest: number, highest: number }} [range] the numbers that are loaded now
   */
  #put(hole, entries, { meetsOlder, meetsNewer }, range) {
    const { lowest, highest } = range ??
      { lowest: numberOf(entries[0]), highest: numberOf(entries.at(-1)) };
    const { after } = hole;
    if (meetsNewer) {
      this.#merge(this.#entries.lastIndexOf(hole) + 1, entries);
      if (meetsOlder) return this.#remove(hole);
      this.#set(hole, { before: lowest });
    } else {
      let place = this.#entries.lastIndexOf(hole);
      while (meetsOlder && isLoose(this.#entries[place - 1])) place--;
      this.#merge(place, entries);
      this.#set(hole, { after: highest });
      if (!meetsOlder && lowest - after > 1) {
        this.#insert(place, { kind: "hole", after, before: lowest, state: "open" });
      }
    }
    if (hole.before - hole.after <= 1) this.#remove(hole);
  }

  /** Inserts messages between entries that have a time and no number. */
  #merge(/** @type {number} */ place, /** @type {readonly MessageEntry[]} */ entries) {
    for (const entry of entries) {
      while (isLoose(this.#entries[place]) && isEarlier(this.#entries[place], entry)) place++;
      this.#insert(place++, entry);
    }
  }

  // ---- The line before new messages ------------------------------------------------------------

  /** Counts a new message as read if the reader watches; else draws the line before it. @param {MessageEntry} entry @param {boolean} isOld */
  #markNew(entry, isOld) {
    const isMissed = isOld || (entry.seq ?? Infinity) <= this.#missedTo;
    if (!isMissed && this.#listener?.isWatching()) this.#readTo = this.#newest;
    else if (entry.seq !== undefined) this.#drawLine();
    else if (!isOld) this.#putLine(entry);
  }

  /** Draws the line, or moves it up to older messages loaded since. */
  #drawLine() {
    if (this.#readTo === undefined) return;
    /** @type {MessageEntry | undefined} */
    let first;
    for (let at = this.#entries.length - 1; at >= 0; at--) {
      const entry = this.#entries[at];
      if (!isNumbered(entry)) continue;
      if (entry.seq <= this.#readTo) break;
      if (!entry.own) first = entry;
    }
    if (first) this.#putLine(first);
  }

  /** @param {MessageEntry} first */
  #putLine(first) {
    if (this.#line && this.#entries[this.#entries.lastIndexOf(first) - 1] === this.#line) return;
    this.#eraseLine();
    this.#line = { kind: "line" };
    this.#insert(this.#entries.lastIndexOf(first), this.#line);
  }

  #eraseLine() {
    if (this.#line) this.#remove(this.#line);
  }
}

/** @param {Entry | undefined} entry @returns {entry is Hole} */
export function isHole(entry) {
  return entry?.kind === "hole";
}

/** @param {Entry | undefined} entry @returns {entry is MessageEntry & { id?: never }} */
export function isPending(entry) {
  return entry?.kind === "message" && entry.id === undefined;
}

/**
 * Whether the reader may edit it as its author.
 *
 * @param {Entry} entry
 * @returns {entry is MessageEntry}
 */
export function isChangeable(entry) {
  return entry.kind === "message" && entry.own && entry.id !== undefined && !entry.deleted &&
    !entry.stale && !entry.to && !isUnreadable(entry);
}

/** Whether its text cannot be shown. @param {Pick<Message, "seal">} message */
export function isUnreadable({ seal }) {
  return seal === "broken" || seal === "locked" || seal === "replayed";
}

/** @param {Entry | undefined} entry */
function isUnderWay(entry) {
  return isPending(entry) && entry.status !== "failed";
}

/** @param {Entry | undefined} entry @returns {entry is MessageEntry & { seq: number }} */
function isNumbered(entry) {
  return entry?.kind === "message" && entry.seq !== undefined && !entry.stale;
}

/** Whether an entry has a time and no number. @param {Entry | undefined} entry */
function isLoose(entry) {
  return entry !== undefined && entry.kind !== "hole" && !isPending(entry) &&
    (entry.kind !== "message" || entry.seq === undefined);
}

/** @param {MessageEntry | undefined} entry */
function numberOf(entry) {
  return entry?.seq ?? 0;
}

/** @param {Entry | undefined} a @param {Entry | undefined} b */
function isEarlier(a, b) {
  return timeOf(a) < timeOf(b);
}

/** @param {Entry | undefined} entry */
function timeOf(entry) {
  return entry && "at" in entry ? entry.at.getTime() : 0;
}
