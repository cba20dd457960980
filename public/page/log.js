// @ts-check
/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
/**
 * What was said: entries in order, of which a stretch is on the page. It follows the end while the
 * reader is there, and stays where it is while the reader is elsewhere. Knows nothing of connections
 * or forms.
 *
 * Everything is kept in memory, up to a bound; the page holds a few hundred rows of it, whichever
 * part is being read. Changes are gathered and painted once a frame.
 *
 * Whatever people wrote enters the page as text nodes only.
 *
 * @module
 */

import { splitAtLinks } from "./links.js";

/** @import { Seal } from "../connection.js" */

/**
 * What can be said of a message. `id` and `seq` are there once the server has it, `ref` while it has
 * not. `seal` is also `locked` where there is no key to open it.
 *
 * @typedef {object} Message
 * @property {string} [id]
 * @property {string} [ref]
 * @property {number} [seq]
 * @property {Date} at
 * @property {string} author
 * @property {string} text
 * @property {string} [to] The one who alone gets it.
 * @property {boolean} own
 * @property {"waiting" | "sending" | "sent" | "failed"} status
 * @property {string} [reason] Why it failed.
 * @property {boolean} [edited]
 * @property {boolean} [deleted]
 * @property {Seal | "locked"} [seal]
 * @property {boolean} [mention] It has the reader's name in it.
 * @property {boolean} [stale] It is from a life of the room that the server does not remember.
 */

/**
 * @typedef {object} Parts
 * @property {HTMLElement} scroller What scrolls.
 * @property {HTMLElement} rows The list in it.
 * @property {HTMLElement} top What stands before the list.
 */

/**
 * What the reader does, and what the log wants.
 *
 * @typedef {object} Wishes
 * @property {(following: boolean) => void} onFollow The view reaches the end, or leaves it.
 * @property {() => void} onOlder There is nothing older in memory, and the reader is near the top.
 * @property {(message: Message) => void} onEdit
 * @property {(message: Message) => void} onDelete
 * @property {(message: Message) => void} onRetry
 * @property {(message: Message) => void} onDiscard
 * @property {(name: string) => void} onWhisper
 */

/** @typedef {Message & { kind: "message", day?: string }} MessageEntry */
/** @typedef {{ kind: "notice", at: Date, people: Map<string, [string, string]>, day?: string }} NoticeEntry */
/** @typedef {{ kind: "card" | "gap", at: Date, content: (Node | string)[], day?: string }} CardEntry */
/** @typedef {MessageEntry | NoticeEntry | CardEntry} Entry */

/** Most rows on the page, and to how many they are cut. */
const MAX_ROWS = 300;
const KEEP_ROWS = 200;
/** So many rows are added at a time when the reader comes near an edge. */
const STEP_ROWS = 40;
/** This near to an edge, in CSS pixels, more is fetched. */
const EDGE_PX = 800;
/** This close to the end, in CSS pixels, still counts as being there. */
const NEAR_END_PX = 96;
/** Entries kept in memory; older ones can be fetched again. */
const MAX_ENTRIES = 10_000;
/** Messages of one author further apart than this get a heading of their own. */
const GROUP_MS = 5 * 60_000;
/** A notice names this many people, then counts the rest. */
const MAX_NAMED = 3;
/** A page in the background is painted this often: it has no frames. */
const HIDDEN_PAINT_MS = 250;

const DAY_MS = 86_400_000;
const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const dayName = new Intl.DateTimeFormat("en", { weekday: "long", day: "numeric", month: "long" });
const fullDate = new Intl.DateTimeFormat("en", { dateStyle: "full", timeStyle: "short" });
const names = new Intl.ListFormat("en");
const graphemes = new Intl.Segmenter();

/** @type {WeakMap<Date, string>} */
const days = new WeakMap();

const BROKEN =
  "This message cannot be read: your link has another key, or it was changed on its way.";
const LOCKED = "Encrypted. Open the room with its whole link to read this.";

/** The entries of one room. */
export class Log {
  /** @type {Parts} */ #parts;
  /** @type {Wishes} */ #wishes;
  /** @type {Entry[]} */ #entries = [];
  /** @type {Map<string, MessageEntry>} */ #byId = new Map();
  /** @type {Map<string, MessageEntry>} */ #byRef = new Map();
  /** The rows that were made so far. @type {Map<Entry, HTMLElement>} */
  #rows = new Map();
  /** Entries whose rows are no longer right. @type {Set<Entry>} */
  #changed = new Set();
  /** What is on the page: from here, up to there. */
  #start = 0;
  #end = 0;
  #following = true;
  #isScheduled = false;
  /** The first entry that came while nobody looked. @type {Entry | undefined} */
  #fresh;
  /** Whether the reader may delete what others said. */
  #isModerated = false;
  /** Whether the server may have older messages. */
  #hasOlder = false;
  #isFetching = false;

  /** @param {Parts} parts @param {Wishes} wishes */
  constructor(parts, wishes) {
    this.#parts = parts;
    this.#wishes = wishes;
    const { scroller } = parts;
    scroller.addEventListener("scroll", () => this.#look(), { passive: true });
    scroller.addEventListener("keydown", (event) => this.#walk(event));
    // A keyboard that slides in, or a composer that grows, must not hide the last row.
    new ResizeObserver(() => this.#following && this.#scrollToEnd()).observe(scroller);
  }

  /** How many messages there are. */
  get size() {
    return this.#byId.size + this.#byRef.size;
  }

  /** Whether new rows are scrolled into view. */
  get following() {
    return this.#following;
  }

  /** The lowest `seq` in memory that the server still knows. @returns {number | undefined} */
  get oldestSeq() {
    const oldest = this.#entries.find((entry) => "seq" in entry && entry.seq !== undefined);
    return oldest?.kind === "message" && !oldest.stale ? oldest.seq : undefined;
  }

  /** The newest message of the reader's own that can be edited. @returns {Message | undefined} */
  get lastOwn() {
    return this.#entries.findLast(isChangeable);
  }

  /** Whether the reader may delete what others said. */
  set moderated(/** @type {boolean} */ isSo) {
    if (isSo === this.#isModerated) return;
    this.#isModerated = isSo;
    for (const entry of this.#entries) if (entry.kind === "message") this.#changed.add(entry);
    this.#schedule();
  }

  /** Starts over. */
  reset() {
    this.#entries = [];
    this.#byId.clear();
    this.#byRef.clear();
    this.#rows.clear();
    this.#changed.clear();
    this.#start = this.#end = 0;
    this.#fresh = undefined;
    this.setOlder(false);
    this.#parts.rows.replaceChildren();
    this.#follow(true);
  }

  /** @param {string} id @returns {Message | undefined} */
  find(id) {
    return this.#byId.get(id);
  }

  /**
   * Adds a message at the end, or, where it is old, in its place by time. One that is here already is
   * brought up to date.
   *
   * @param {Message} message
   * @param {{ isOld?: boolean, isFresh?: boolean }} [how] `isFresh`: nobody has looked at it yet
   * @returns {boolean} whether it is new here
   */
  add(message, { isOld = false, isFresh = false } = {}) {
    const known = this.#byId.get(message.id ?? "");
    if (known) {
      Object.assign(known, message);
      this.#touch(known);
      return false;
    }
    if (message.deleted) return false;
    /** @type {MessageEntry} */
    const entry = { kind: "message", ...message };
    if (entry.id) this.#byId.set(entry.id, entry);
    else if (entry.ref) this.#byRef.set(entry.ref, entry);
    const place = isPending(entry) ? this.#entries.length : this.#placeFor(entry, isOld);
    this.#insert(place, entry);
    if (isFresh && !this.#fresh) this.#fresh = entry;
    return true;
  }

  /**
   * Adds a page of older messages before all others.
   *
   * @param {readonly Message[]} messages oldest first
   * @param {boolean} more whether there are still older ones
   */
  addOlder(messages, more) {
    this.#isFetching = false;
    const fresh = messages.filter(({ id, deleted }) => !deleted && !this.#byId.has(id ?? ""));
    for (const message of fresh.toReversed()) {
      /** @type {MessageEntry} */
      const entry = { kind: "message", ...message };
      this.#byId.set(entry.id ?? "", entry);
      // Private messages of old may stand before what is now older than they are.
      let at = 0;
      while (at < this.#entries.length && isEarlier(this.#entries[at], entry)) at++;
      this.#insert(at, entry);
    }
    this.setOlder(more);
  }

  /**
   * Tells whether the server may have messages older than these.
   *
   * @param {boolean} hasOlder
   */
  setOlder(hasOlder) {
    this.#hasOlder = hasOlder;
    this.#isFetching = false;
    this.#schedule();
  }

  /**
   * A message on its way out has another status. Once the server has it, it takes its place.
   *
   * @param {string} ref
   * @param {Partial<Message>} news
   */
  settle(ref, news) {
    const entry = this.#byRef.get(ref);
    if (!entry) return;
    const isTriedAgain = entry.status === "failed" && news.status === "waiting";
    Object.assign(entry, news);
    this.#touch(entry);
    if (news.id === undefined) {
      if (isTriedAgain) this.#moveToEnd(entry);
      return;
    }
    this.#byRef.delete(ref);
    if (this.#byId.has(news.id)) return this.#removeAt(this.#entries.indexOf(entry));
    this.#byId.set(news.id, entry);
    this.#moveToEnd(entry);
  }

  /**
   * A message on its way out is given up.
   *
   * @param {string} ref
   */
  discard(ref) {
    const entry = this.#byRef.get(ref);
    if (!entry) return;
    this.#byRef.delete(ref);
    this.#removeAt(this.#entries.indexOf(entry));
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
    for (const entry of this.#entries) {
      if (entry.kind !== "message" || !entry.id) continue;
      entry.stale = true;
      this.#touch(entry);
    }
    this.setOlder(false);
  }

  /**
   * Notes quietly that someone came or went. Notices in a row share one line.
   *
   * @param {string} username
   * @param {"joined" | "left"} what
   */
  addNotice(username, what) {
    const at = new Date();
    const place = this.#tail();
    const last = this.#entries[place - 1];
    const isSame = last?.kind === "notice" && dayOf(last.at) === dayOf(at);
    /** @type {NoticeEntry} */
    const notice = isSame ? last : { kind: "notice", at, people: new Map() };
    const [first] = notice.people.get(username) ?? [what];
    notice.people.set(username, [first, what]);
    if (isSame) this.#touch(notice);
    else this.#insert(place, notice);
  }

  /**
   * Says something to the reader alone.
   *
   * @param {...(Node | string)} content
   */
  addCard(...content) {
    this.#insert(this.#tail(), { kind: "card", at: new Date(), content });
  }

  /**
   * Says that something may be missing here.
   *
   * @param {string} words
   */
  addGap(words) {
    this.#insert(this.#tail(), { kind: "gap", at: new Date(), content: [words] });
  }

  /** All that is here has been looked at. */
  forgetFresh() {
    const fresh = this.#fresh;
    this.#fresh = undefined;
    if (fresh) this.#schedule();
  }

  /** Scrolls to the last row and follows from there. */
  toEnd() {
    this.#end = this.#entries.length;
    this.#start = Math.max(this.#start, this.#end - MAX_ROWS);
    this.#follow(true);
    this.#paint();
  }

  // ---- The order of entries --------------------------------------------------------------------

  /** Where what happens now belongs: after all but what is still on its way out. */
  #tail() {
    let place = this.#entries.length;
    while (place > 0 && isUnderWay(this.#entries[place - 1])) place--;
    return place;
  }

  /** @param {Entry} entry @param {boolean} isOld */
  #placeFor(entry, isOld) {
    let place = this.#tail();
    while (place > 0 && isBefore(entry, this.#entries[place - 1], isOld)) place--;
    return place;
  }

  /** @param {number} index @param {Entry} entry */
  #insert(index, entry) {
    const isAtEnd = this.#end === this.#entries.length;
    this.#entries.splice(index, 0, entry);
    if (index < this.#start) {
      this.#start++;
      this.#end++;
    } else if (index < this.#end || isAtEnd) this.#end++;
    if (this.#entries.length > MAX_ENTRIES && this.#start > STEP_ROWS) {
      this.#removeAt(0);
      this.#hasOlder = true;
    }
    this.#schedule();
  }

  /** @param {number} index */
  #removeAt(index) {
    const [entry] = this.#entries.splice(index, 1);
    if (!entry) return;
    if (index < this.#start) this.#start--;
    if (index < this.#end) this.#end--;
    if (entry.kind === "message" && this.#byId.get(entry.id ?? "") === entry) {
      this.#byId.delete(entry.id ?? "");
    }
    this.#rows.get(entry)?.remove();
    this.#rows.delete(entry);
    this.#changed.delete(entry);
    this.#schedule();
  }

  /**
   * What is sent now stands behind all that was said before, and before what is still to be sent.
   *
   * @param {Entry} entry
   */
  #moveToEnd(entry) {
    this.#entries.splice(this.#entries.indexOf(entry), 1);
    this.#entries.splice(this.#placeFor(entry, false), 0, entry);
    this.#schedule();
  }

  /** @param {Entry} entry */
  #touch(entry) {
    this.#changed.add(entry);
    this.#schedule();
  }

  // ---- Painting --------------------------------------------------------------------------------

  #schedule() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    const turn = () => this.#isScheduled && this.#paint();
    if (document.hidden) setTimeout(turn, HIDDEN_PAINT_MS);
    else requestAnimationFrame(turn);
  }

  #paint() {
    this.#isScheduled = false;
    const { scroller, rows, top } = this.#parts;
    const isFollowing = this.#following;
    this.#choose(isFollowing);
    const anchor = isFollowing ? undefined : this.#anchor();

    const wanted = new Set(this.#entries.slice(this.#start, this.#end));
    for (const [entry, row] of this.#rows) {
      if (wanted.has(entry)) continue;
      row.remove();
      this.#rows.delete(entry);
    }
    let next = rows.firstElementChild;
    let before = this.#entries[this.#start - 1];
    for (const entry of wanted) {
      const row = this.#row(entry);
      this.#dress(entry, row, before);
      if (row === next) next = row.nextElementSibling;
      else rows.insertBefore(row, next);
      before = entry;
    }
    this.#changed.clear();
    top.hidden = this.#start > 0 || this.#byId.size === 0;
    top.textContent = this.#hasOlder
      ? "Loading older messages…"
      : "This is where the conversation begins";

    if (anchor) scroller.scrollTop += anchor.row.getBoundingClientRect().top - anchor.y;
    else this.#scrollToEnd();
    this.#look();
    scroller.ariaBusy = String(this.#isFetching);
  }

  /** Settles which entries are on the page. @param {boolean} isFollowing */
  #choose(isFollowing) {
    const length = this.#entries.length;
    if (isFollowing) {
      this.#end = length;
      if (this.#end - this.#start > MAX_ROWS) this.#start = this.#end - KEEP_ROWS;
    } else if (this.#end - this.#start > MAX_ROWS + STEP_ROWS) {
      // Someone reads up there: the end can wait.
      this.#end = this.#start + MAX_ROWS;
    }
  }

  /** The row that must not move: the first that is in view. */
  #anchor() {
    const { scroller, rows } = this.#parts;
    const edge = scroller.getBoundingClientRect().top;
    const all = rows.children;
    let low = 0;
    let high = all.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((all[middle]?.getBoundingClientRect().bottom ?? 0) > edge) high = middle;
      else low = middle + 1;
    }
    const row = all[low];
    return row ? { row, y: row.getBoundingClientRect().top } : undefined;
  }

  /** @param {Entry} entry */
  #row(entry) {
    let row = this.#rows.get(entry);
    if (!row) {
      row = document.createElement("li");
      this.#rows.set(entry, row);
    } else if (!this.#changed.has(entry)) return row;
    const hadFocus = row.contains(document.activeElement);
    delete entry.day;
    if (entry.kind === "message") {
      fillMessage(row, entry, this.#wishes, this.#isModerated);
    } else if (entry.kind === "notice") {
      row.className = "notice";
      row.replaceChildren(element("p", "", describe(entry.people)));
    } else {
      row.className = entry.kind;
      row.replaceChildren(
        ...entry.kind === "gap" ? [element("p", "", ...entry.content)] : entry.content,
      );
    }
    // Who walks through the messages by keyboard stays where they are when one changes under them.
    if (hadFocus) row.querySelector("article")?.focus({ preventScroll: true });
    return row;
  }

  /**
   * What depends on the neighbours: whether it joins the group before it, and begins a day.
   *
   * @param {Entry} entry
   * @param {HTMLElement} row
   * @param {Entry | undefined} before
   */
  #dress(entry, row, before) {
    row.classList.toggle("follows", joins(entry, before));
    row.classList.toggle("fresh", entry === this.#fresh);
    const day = dayOf(entry.at) === dayOf(before?.at) ? "" : dayLabel(entry.at);
    if (day === (entry.day ?? "")) return;
    entry.day = day;
    row.querySelector(":scope > .day")?.remove();
    if (!day) return;
    const time = element("time", "", day);
    time.dateTime = isoDay(entry.at);
    row.prepend(element("p", "day", time));
  }

  // ---- Scrolling -------------------------------------------------------------------------------

  #look() {
    const { scrollTop, scrollHeight, clientHeight } = this.#parts.scroller;
    const below = scrollHeight - scrollTop - clientHeight;
    const isAtEnd = this.#end === this.#entries.length;
    this.#follow(isAtEnd && below < NEAR_END_PX);
    if (scrollTop < EDGE_PX && this.#start > 0) {
      this.#start = Math.max(0, this.#start - STEP_ROWS);
      if (!this.#following) this.#end = Math.min(this.#end, this.#start + MAX_ROWS);
      this.#schedule();
    } else if (scrollTop < EDGE_PX && this.#hasOlder && !this.#isFetching) {
      this.#isFetching = true;
      this.#wishes.onOlder();
    } else if (below < EDGE_PX && !isAtEnd) {
      this.#end = Math.min(this.#entries.length, this.#end + STEP_ROWS);
      this.#start = Math.max(this.#start, this.#end - MAX_ROWS);
      this.#schedule();
    }
  }

  /** @param {boolean} following */
  #follow(following) {
    if (following === this.#following) return;
    this.#following = following;
    this.#wishes.onFollow(following);
  }

  #scrollToEnd() {
    const { scroller } = this.#parts;
    scroller.scrollTop = scroller.scrollHeight;
  }

  /**
   * The arrow keys go from message to message.
   *
   * @param {KeyboardEvent} event
   */
  #walk(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.key !== "ArrowUp" && event.key !== "ArrowDown") return;
    const articles = [...this.#parts.rows.querySelectorAll("article")];
    const at = articles.findIndex((article) => article.contains(document.activeElement));
    const to = at < 0 ? articles.length - 1 : at + (event.key === "ArrowUp" ? -1 : 1);
    const target = articles[to];
    if (!target || (at < 0 && event.key === "ArrowDown")) return;
    event.preventDefault();
    target.focus({ preventScroll: true });
    target.scrollIntoView({ block: "nearest" });
  }
}

/** @param {Entry | undefined} entry @returns {entry is MessageEntry} */
function isPending(entry) {
  return entry?.kind === "message" && entry.id === undefined;
}

/** @param {Entry | undefined} entry */
function isUnderWay(entry) {
  return isPending(entry) && entry.status !== "failed";
}

/**
 * Whether its author may edit and delete it here.
 *
 * @param {Entry} entry
 * @returns {entry is MessageEntry}
 */
function isChangeable(entry) {
  return entry.kind === "message" && entry.own && entry.id !== undefined && !entry.deleted &&
    !entry.stale && !entry.to && entry.seal !== "broken" && entry.seal !== "locked";
}

/**
 * Whether those who look after the room may delete it.
 *
 * @param {MessageEntry} message
 */
function isRemovable({ id, to, deleted, stale }) {
  return id !== undefined && to === undefined && !deleted && !stale;
}

/** The day of a time, here. Asked for often. @param {Date | undefined} at */
function dayOf(at) {
  if (!at) return "";
  const known = days.get(at);
  if (known) return known;
  const day = at.toDateString();
  days.set(at, day);
  return day;
}

/**
 * Whether an entry belongs before one that is there already: by number if both have one, else, where
 * it is old, by time.
 *
 * @param {Entry} entry
 * @param {Entry | undefined} other
 * @param {boolean} isOld
 */
function isBefore(entry, other, isOld) {
  if (entry.kind !== "message" || other?.kind !== "message") return false;
  if (entry.seq === undefined || other.seq === undefined) return isOld && isEarlier(entry, other);
  return !other.stale && entry.seq < other.seq;
}

/** @param {Entry | undefined} a @param {Entry | undefined} b */
function isEarlier(a, b) {
  return (a?.at.getTime() ?? 0) < (b?.at.getTime() ?? 0);
}

/**
 * Whether a message joins the group of the one before it.
 *
 * @param {Entry} entry
 * @param {Entry | undefined} before
 */
function joins(entry, before) {
  return entry.kind === "message" && before?.kind === "message" &&
    entry.author === before.author && entry.to === before.to &&
    !isAction(entry) && !isAction(before) &&
    Math.abs(entry.at.getTime() - before.at.getTime()) < GROUP_MS &&
    dayOf(entry.at) === dayOf(before.at);
}

/** @param {Message} message */
function isAction({ text, deleted }) {
  return !deleted && text.startsWith("/me ");
}

/**
 * A person's round mark: the first letter of the name on the person's colour.
 *
 * @param {string} username
 */
export function avatar(username) {
  const [first] = graphemes.segment(username);
  const mark = element("span", "avatar", (first?.segment ?? "?").toUpperCase());
  mark.setAttribute("aria-hidden", "true");
  setHue(mark, username);
  return mark;
}

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {string} className
 * @param {(Node | string)[]} children Strings become text, never markup.
 * @returns {HTMLElementTagNameMap[T]}
 */
export function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/**
 * @param {string} className
 * @param {string} label
 * @param {() => void} onClick
 * @param {string} [iconName]
 */
export function button(className, label, onClick, iconName) {
  const made = element("button", className);
  made.type = "button";
  made.addEventListener("click", onClick);
  if (!iconName) {
    made.append(label);
    return made;
  }
  made.title = made.ariaLabel = label;
  made.append(icon(iconName));
  return made;
}

/** @param {string} name */
export function icon(name) {
  const template = document.getElementById(`icon-${name}`);
  if (!(template instanceof HTMLTemplateElement)) throw new Error(`There is no icon "${name}".`);
  const [picture] = template.content.children;
  return /** @type {Element} */ (picture).cloneNode(true);
}

/**
 * @param {HTMLElement} row
 * @param {MessageEntry} message
 * @param {Wishes} wishes
 * @param {boolean} isModerated
 */
function fillMessage(row, message, wishes, isModerated) {
  const { author: name, at, to, own, status, id } = message;
  const author = element("strong", "author", name);
  author.dir = "auto";
  const time = element("time", "", clock.format(at));
  time.dateTime = at.toISOString();
  time.title = fullDate.format(at);
  const header = element("header", "", author);
  if (to !== undefined) header.append(privateTag(message, wishes));
  header.append(time);
  const article = element("article", "", header, bubble(message));
  article.tabIndex = -1;
  if (!own) article.prepend(avatar(name));
  if (isChangeable(message)) {
    const tools = element(
      "div",
      "tools",
      button("tool", "Edit", () => wishes.onEdit(message), "edit"),
      button("tool", "Delete", () => wishes.onDelete(message), "delete"),
    );
    article.append(tools);
  } else if (isModerated && isRemovable(message)) {
    const tool = button("tool", "Delete", () => wishes.onDelete(message), "delete");
    article.append(element("div", "tools", tool));
  }
  if (id === undefined) article.append(progress(message, wishes));
  setHue(article, name);
  row.className = "message";
  row.dataset.status = status;
  for (
    const [kind, isSo] of Object.entries({
      own,
      private: to !== undefined,
      mention: message.mention === true,
      action: isAction(message),
      dim: message.deleted === true || ["broken", "locked"].includes(message.seal ?? ""),
    })
  ) row.classList.toggle(kind, isSo);
  row.replaceChildren(article);
}

/** @param {MessageEntry} message @param {Wishes} wishes */
function privateTag({ own, author, to = "" }, wishes) {
  if (own) {
    const name = element("bdi", "", to);
    return element("span", "tag", "only to ", name);
  }
  const answer = button("tag", "only to you", () => wishes.onWhisper(author));
  answer.title = "Answer privately";
  return answer;
}

/** @param {MessageEntry} message */
function bubble(message) {
  const text = element("p", "text", ...words(message));
  text.dir = "auto";
  const made = element("div", "bubble", text);
  if (message.edited && !message.deleted) made.append(" ", element("small", "mark", "edited"));
  if (message.seal === "bare") {
    made.append(" ", element("small", "mark warn", "not encrypted"));
  }
  return made;
}

/** @param {MessageEntry} message @returns {(Node | string)[]} */
function words(message) {
  if (message.deleted) return ["Message deleted"];
  if (message.seal === "broken") return [icon("lock"), BROKEN];
  if (message.seal === "locked") return [icon("lock"), LOCKED];
  if (!isAction(message)) return linked(message.text);
  const author = element("b", "", message.author);
  author.dir = "auto";
  return [author, " ", ...linked(message.text.slice(4))];
}

/** @param {MessageEntry} message @param {Wishes} wishes */
function progress(message, wishes) {
  if (message.status !== "failed") {
    const label = message.status === "waiting" ? "Waiting to be sent" : "Sending";
    return element("p", "progress", label);
  }
  return element(
    "p",
    "progress failed",
    element("span", "", `Not sent. ${message.reason ?? ""}`),
    button("link", "Send again", () => wishes.onRetry(message)),
    button("link", "Discard", () => wishes.onDiscard(message)),
  );
}

/**
 * Splits text into strings and links. Only `http:` and `https:` become links.
 *
 * @param {string} text
 * @returns {(Node | string)[]}
 */
function linked(text) {
  return splitAtLinks(text).map((part, i) => {
    if (i % 2 === 0) return part;
    const link = element("a", "", part);
    link.href = part;
    link.target = "_blank";
    link.rel = "noopener nofollow";
    return link;
  });
}

/** @param {Map<string, [string, string]>} notice */
function describe(notice) {
  /** @type {Record<string, string[]>} */
  const by = {};
  for (const [username, [first, last]] of notice) {
    const what = first === last ? last : last === "left" ? "came and went" : "came back";
    (by[what] ??= []).push(username);
  }
  return Object.entries(by).map(([what, who]) => `${listOf(who)} ${what}`).join(" · ");
}

/** @param {string[]} who */
export function listOf(who) {
  if (who.length <= MAX_NAMED + 1) return names.format(who);
  return names.format([...who.slice(0, MAX_NAMED), `${who.length - MAX_NAMED} others`]);
}

/** @param {Date} at */
function dayLabel(at) {
  const now = new Date();
  if (at.toDateString() === now.toDateString()) return "Today";
  if (at.toDateString() === new Date(now.getTime() - DAY_MS).toDateString()) return "Yesterday";
  return dayName.format(at);
}

/** @param {Date} at */
function isoDay(at) {
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

/**
 * The same name has the same hue on every screen. The style sheet picks a lightness that is readable.
 *
 * @param {HTMLElement} target
 * @param {string} username
 */
function setHue(target, username) {
  let hash = 1;
  for (const character of username) {
    hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x85ebca6b);
    hash ^= hash >>> 13;
  }
  target.style.setProperty("--hue", String((hash >>> 0) % 360));
}
