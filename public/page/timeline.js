// @ts-check
/**
 * The messages of one room in order, and what stands between them. Knows no DOM, no connection, and
 * nothing of how it is shown.
 *
 * Messages that the server has and the timeline has not are a hole: an entry with the two numbers
 * between which they are. The start of the room is the first hole, until everything is loaded.
 *
 * @module
 */

/** @import { Seal } from "../inbox.js" */

/**
 * An edit of a message that the server has not taken yet, or has refused.
 *
 * @typedef {object} Change
 * @property {string} ref The edit's own, not the message's.
 * @property {string} text
 * @property {"waiting" | "sending" | "failed"} status
 * @property {string} [reason] Why it failed.
 */

/**
 * What can be said of a message. `id` and `seq` are there once the server has it. `seal` is also
 * `locked` where there is no key to open it, and `replayed` where the server sent it a second time.
 *
 * @typedef {object} Message
 * @property {string} [id]
 * @property {string} [ref] The sender's own id of it.
 * @property {number} [seq]
 * @property {Date} at
 * @property {string} author
 * @property {string} text
 * @property {string} [to] The one who alone gets it.
 * @property {string} [replyTo] The `id` of the message that it answers.
 * @property {boolean} own
 * @property {"waiting" | "sending" | "sent" | "failed"} status
 * @property {string} [reason] Why it failed.
 * @property {boolean} [edited]
 * @property {boolean} [deleted]
 * @property {Seal | "locked" | undefined} [seal]
 * @property {boolean} [mention] It has the reader's name in it.
 * @property {boolean} [stale] It is from a life of the room that the server does not remember.
 * @property {Change | undefined} [change]
 */

/** @typedef {Message & { kind: "message" }} MessageEntry */
/** @typedef {{ kind: "notice", at: Date, people: Map<string, [string, string]> }} NoticeEntry */
/** `content` is for the view alone. */
/** @typedef {{ kind: "card" | "gap", at: Date, content: unknown[] }} CardEntry */
/** Messages are missing with numbers above `after` and below `before`. */
/** @typedef {{ kind: "hole", after: number, before: number, state: "open" | "loading" | "failed" }} Hole */
/** The line before what is new. */
/** @typedef {{ kind: "line" }} Line */
/** @typedef {MessageEntry | NoticeEntry | CardEntry | Hole | Line} Entry */

/** `older`: the messages before those that follow the hole. `newer`: those after what precedes it. */
/** @typedef {"older" | "newer"} Direction */

/**
 * The one who shows a timeline.
 *
 * @typedef {object} Listener
 * @property {(index: number) => void} inserted There is a new entry at this index.
 * @property {(index: number) => void} removed The entry at this index is gone.
 * @property {(entry: Entry) => void} changed
 * @property {() => boolean} isWatching Whether a person sees what is added at the end.
 * @property {(count: number) => boolean} mayDrop Whether the first entries may go.
 */

/** Entries kept in memory; older ones can be fetched again. */
const MAX_ENTRIES = 10_000;
/** Beyond the maximum, this many are dropped at once. */
const DROP_ENTRIES = 100;

/** The entries of one room. */
export class Timeline {
  /** @type {Entry[]} */ #entries = [];
  /** @type {Map<string, MessageEntry>} */ #byId = new Map();
  /** Own messages that the server does not have yet. @type {Map<string, MessageEntry>} */
  #byRef = new Map();
  /** The answers to a message, by its id. @type {Map<string, Set<MessageEntry>>} */
  #answers = new Map();
  /** Each name once, however often its owner writes. @type {Map<string, string>} */
  #authors = new Map();
  /** @type {Set<Hole>} */ #holes = new Set();
  /** @type {Listener | undefined} */ #listener;
  /** The highest `seq` that the server is known to have. */
  #newest = 0;
  /** Up to this `seq`, messages were sent while the reader was away. */
  #missedTo = 0;
  /** Up to this `seq`, the reader has read. @type {number | undefined} */
  #readTo;
  /** @type {Line | undefined} */ #line;

  /** Tells one listener what changes, until there is another, or none. @param {Listener} [listener] */
  listen(listener) {
    this.#listener = listener;
  }

  /** All of them, oldest first. @returns {readonly Entry[]} */
  get entries() {
    return this.#entries;
  }

  /** How many messages there are. */
  get size() {
    return this.#byId.size + this.#byRef.size;
  }

  /** Whether nothing was said in the room, as far as is known. */
  get isEmpty() {
    return this.size === 0 && this.#holes.size === 0;
  }

  /** The highest `seq` that the server is known to have. */
  get newestSeq() {
    return this.#newest;
  }

  /** The newest message of the reader's own that can be edited. @returns {Message | undefined} */
  get lastOwn() {
    return this.#entries.findLast(isChangeable);
  }

  /** The line before what is new, if something is. @returns {Line | undefined} */
  get line() {
    return this.#line;
  }

  /**
   * Draws the line before the first message of others after this one. It stays there until the reader
   * writes, or another message is set.
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

  /** The message with this number, or the first after it. @param {number} seq */
  findAt(seq) {
    return this.#entries.find((entry) => isNumbered(entry) && entry.seq >= seq);
  }

  /** The hole that a message with this number is missing in. @param {number} seq */
  holeAt(seq) {
    return [...this.#holes].find(({ after, before }) => after < seq && seq < before);
  }

  /**
   * Takes note of what a welcome says: the room's messages go up to `newest`. What the server does not
   * send by itself is missing.
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
   * Adds a message at the end, or, where it is old, in its place. One that is here already is brought
   * up to date, also an own one that is under way.
   *
   * @param {Message} message
   * @param {{ isOld?: boolean }} [how] `isOld`: the server sent it as history
   * @returns {boolean} whether it is new here
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
   * @param {boolean} more whether the server has still more in this direction
   */
  addPage(hole, direction, messages, more) {
    this.#set(hole, { state: "open" });
    this.#fill(hole, messages, {
      meetsOlder: direction === "newer" || !more,
      meetsNewer: direction === "older" || !more,
    });
  }

  /**
   * Puts a page in the middle of a hole: what is around a message that was jumped to.
   *
   * @param {Hole} hole
   * @param {readonly Message[]} messages oldest first, deleted ones too
   * @param {{ older: boolean, newer: boolean }} more whether the server has still more on either side
   */
  addAround(hole, messages, { older, newer }) {
    this.#fill(hole, messages, { meetsOlder: !older, meetsNewer: !newer });
  }

  /** Says that a page cannot be had now. @param {Hole} hole */
  failPage(hole) {
    this.#set(hole, { state: "failed" });
  }

  /** Says that a page is asked for. @param {Hole} hole */
  awaitPage(hole) {
    this.#set(hole, { state: "loading" });
  }

  /**
   * A message on its way out has another status. Once the server has it, it takes its place.
   *
   * @param {string} ref
   * @param {Partial<Message>} news
   * @returns {boolean} whether there is one
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

  /** A message on its way out is given up. @param {string} ref */
  discard(ref) {
    const entry = this.#byRef.get(ref);
    if (entry) this.#removeAt(this.#entries.lastIndexOf(entry));
  }

  /**
   * A message has another text, or is gone.
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

  /** What is here now is from a life of the room that the server does not remember. */
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
   * Notes quietly that someone came or went. Notices in a row share one entry.
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

  /** Says something to the reader alone. @param {...unknown} content */
  addCard(...content) {
    this.#insert(this.#tail(), { kind: "card", at: new Date(), content });
  }

  /** Says that something may be missing here. @param {string} words */
  addGap(words) {
    this.#insert(this.#tail(), { kind: "gap", at: new Date(), content: [words] });
  }

  // ---- The order of entries --------------------------------------------------------------------

  /** Where what happens now belongs: after all but what is still on its way out. */
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
   * What is sent now stands behind all that was said before, and before what is still to be sent.
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

  /** Drops the oldest entries where there are too many. They are missing from then on. */
  #drop() {
    while (this.#entries.length >= MAX_ENTRIES + DROP_ENTRIES) {
      if (this.#listener?.mayDrop(DROP_ENTRIES) === false) return;
      this.#dropFirst(DROP_ENTRIES);
    }
  }

  /** Drops the first entries, but for what is still to be sent. @param {number} count */
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

  /** The server's history reaches back to this number: nothing is missing after it. */
  #meet(/** @type {number} */ seq) {
    const hole = [...this.#holes].sort((a, b) => b.before - a.before)[0];
    if (hole && seq <= hole.after) this.#remove(hole);
  }

  /**
   * @param {Hole} hole
   * @param {readonly Message[]} messages
   * @param {{ meetsOlder: boolean, meetsNewer: boolean }} sides those without a hole to the messages
   */
  #fill(hole, messages, { meetsOlder, meetsNewer }) {
    // It may have gone while the page was on its way.
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
   * Puts messages into a hole, and leaves of it what is still missing.
   *
   * @param {Hole} hole
   * @param {readonly MessageEntry[]} entries in order
   * @param {{ meetsOlder: boolean, meetsNewer: boolean }} sides
   * @param {{ lowest: number, highest: number }} [range] the numbers that are no longer missing
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

  /** Inserts messages, among what has a time and no number. */
  #merge(/** @type {number} */ place, /** @type {readonly MessageEntry[]} */ entries) {
    for (const entry of entries) {
      while (isLoose(this.#entries[place]) && isEarlier(this.#entries[place], entry)) place++;
      this.#insert(place++, entry);
    }
  }

  // ---- The line before what is new -------------------------------------------------------------

  /** What comes while the reader watches has been read. @param {MessageEntry} entry @param {boolean} isOld */
  #markNew(entry, isOld) {
    const isMissed = isOld || (entry.seq ?? Infinity) <= this.#missedTo;
    if (!isMissed && this.#listener?.isWatching()) this.#readTo = this.#newest;
    else if (entry.seq !== undefined) this.#drawLine();
    else if (!isOld) this.#putLine(entry);
  }

  /** Draws it, or draws it further up where there are older messages now. */
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
 * Whether its author may edit and delete it here.
 *
 * @param {Entry} entry
 * @returns {entry is MessageEntry}
 */
export function isChangeable(entry) {
  return entry.kind === "message" && entry.own && entry.id !== undefined && !entry.deleted &&
    !entry.stale && !entry.to && !isUnreadable(entry);
}

/** Whether what it says cannot be shown. @param {Pick<Message, "seal">} message */
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

/** Whether it has a time and no number. @param {Entry | undefined} entry */
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
