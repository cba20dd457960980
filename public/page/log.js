// @ts-check
/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
/**
 * Shows a part of a timeline. Follows the end while the reader is there, does not move while the
 * reader is elsewhere, and remembers the reader's place in each timeline. Knows nothing of connections
 * or forms.
 *
 * The page holds a few hundred rows around the reader. Changes are painted once a frame.
 *
 * @module
 */

import { copyOf } from "./copying.js";
import { button, element, listOf } from "./dom.js";
import { fillMessage, isAction } from "./message.js";
import { isHole, Timeline } from "./timeline.js";

/** @import { MessageWishes } from "./message.js" */
/** @import { CardEntry, Direction, Entry, Hole, Line, MessageEntry } from "./timeline.js" */

/**
 * @typedef {object} Parts
 * @property {HTMLElement} scroller The scrolling element.
 * @property {HTMLElement} rows The list in it.
 * @property {HTMLElement} top The line before the list.
 */

/**
 * Reports of the log.
 *
 * @typedef {object} LogWishes
 * @property {(following: boolean) => void} onFollow The view reaches the end, or leaves it.
 * @property {(seq: number) => void} onSeen The reader has seen the messages up to this one.
 * @property {(hole: Hole, direction: Direction) => void} onHole The reader is near a hole. Answer with
 *   `addPage` or `failPage` of the timeline.
 */

/** @typedef {MessageWishes & LogWishes} Wishes */

/**
 * The reader's place in a timeline: the end, or an entry that begins `y` pixels below the view's top.
 *
 * @typedef {{ entry: Entry, y: number } | "end"} Place
 */

/** Maximum rows on the page; beyond it, `KEEP_ROWS` remain. */
const MAX_ROWS = 300;
const KEEP_ROWS = 200;
/** Rows added at a time when the reader comes near an edge. */
const STEP_ROWS = 40;
/** Distance from an edge at which more is loaded, in CSS pixels. */
const EDGE_PX = 800;
/** Distance from the end that still counts as the end, in CSS pixels. */
const NEAR_END_PX = 96;
/** Distance of the line before new messages from the top of the view, in CSS pixels. */
const LINE_PX = 16;
/** A message this long after its author's last one begins a new group. */
const GROUP_MS = 5 * 60_000;
/** How often a page in the background is painted: it has no frames. */
const HIDDEN_PAINT_MS = 250;

const dayName = new Intl.DateTimeFormat("en", { weekday: "long", day: "numeric", month: "long" });
const dayAndYear = new Intl.DateTimeFormat("en", { dateStyle: "full" });

/** The view of a timeline. */
export class Log {
  /** @type {Parts} */ #parts;
  /** @type {Wishes} */ #wishes;
  #timeline = new Timeline();
  /**
   * The reader's place in the other timelines, and their line before new messages.
   *
   * @type {WeakMap<Timeline, { place: Place, line: Line | undefined }>}
   */
  #places = new WeakMap();
  /** The rows of the painted entries. @type {Map<Entry, HTMLElement>} */
  #rows = new Map();
  /** The entries on the page. @type {Entry[]} */
  #painted = [];
  /** Entries whose rows are out of date. @type {Set<Entry>} */
  #changed = new Set();
  /** The range of entries on the page: from `#start`, up to and without `#end`. */
  #start = 0;
  #end = 0;
  #following = true;
  /** Whether the view has not been put to where reading begins yet. */
  #isFirst = true;
  #isScheduled = false;
  /** The highest `seq` reported as seen. */
  #seen = 0;
  #isModerated = false;
  /** @type {string | undefined} */ #editing;

  /** @param {Parts} parts @param {Wishes} wishes */
  constructor(parts, wishes) {
    this.#parts = parts;
    this.#wishes = wishes;
    const { scroller, rows } = parts;
    scroller.addEventListener("scroll", () => this.#look(), { passive: true });
    scroller.addEventListener("keydown", (event) => this.#onKey(event));
    rows.addEventListener("focusin", ({ target }) => setTabStops(target, 0));
    rows.addEventListener("focusout", ({ target }) => setTabStops(target, -1));
    rows.addEventListener("copy", (event) => copyOf(event, rows));
    // A touch keyboard or a growing composer must not hide the last row.
    new ResizeObserver(() => this.#following && this.#scrollToEnd()).observe(scroller);
    document.addEventListener("visibilitychange", () => this.#schedule());
    this.#awaitMidnight();
  }

  /** Whether new rows are scrolled into view. */
  get following() {
    return this.#following;
  }

  /** Sets whether the reader may delete messages of others. */
  set moderated(/** @type {boolean} */ isSo) {
    if (isSo === this.#isModerated) return;
    this.#isModerated = isSo;
    for (const entry of this.#rows.keys()) this.#changed.add(entry);
    this.#schedule();
  }

  /** Sets the id of the message in the composer. */
  set editing(/** @type {string | undefined} */ id) {
    this.#editing = id;
    this.#schedule();
  }

  /**
   * Shows another timeline where the reader left it, at first at its end. If the new messages do not
   * fit, the view begins at the line before them.
   *
   * @param {Timeline} timeline
   */
  show(timeline) {
    const left = this.#timeline;
    this.#places.set(left, { place: this.#place(), line: left.line });
    this.#timeline.listen();
    this.#timeline = timeline;
    timeline.listen({
      inserted: (index) => this.#onInserted(index),
      removed: (index) => this.#onRemoved(index),
      changed: (entry) => {
        if (this.#rows.has(entry)) this.#changed.add(entry);
        this.#schedule();
      },
      isWatching: () => this.#following && !document.hidden,
      mayDrop: (count) => this.#following || this.#start > count + STEP_ROWS,
    });
    this.#rows.clear();
    this.#painted = [];
    this.#changed.clear();
    this.#seen = 0;
    this.#parts.rows.replaceChildren();
    const { place = "end", line } = this.#places.get(timeline) ?? {};
    const { entries } = timeline;
    const at = place === "end" ? -1 : entries.indexOf(place.entry);
    if (place === "end" || at < 0) {
      this.#isFirst = !this.#places.has(timeline) || timeline.line !== line;
      this.#start = Math.max(0, entries.length - KEEP_ROWS);
      this.#end = entries.length;
      this.#follow(true);
      this.#paint();
    } else this.#paintAround(at, (row) => this.#scrollTo(row, place.y));
  }

  /** Scrolls to the last row and follows from there. */
  toEnd() {
    this.#isFirst = false;
    const { length } = this.#timeline.entries;
    this.#start = length - this.#start > MAX_ROWS ? Math.max(0, length - KEEP_ROWS) : this.#start;
    this.#end = length;
    this.#follow(true);
    this.#paint();
  }

  /**
   * Scrolls to a message, focuses it, and highlights it for a moment.
   *
   * @param {string | number} which its id, or a `seq`: that message or the next one
   * @returns {boolean} whether it is loaded
   */
  reveal(which) {
    const entry = typeof which === "string"
      ? this.#timeline.find(which)
      : this.#timeline.findAt(which);
    if (!entry) return false;
    const at = this.#timeline.entries.indexOf(/** @type {MessageEntry} */ (entry));
    this.#paintAround(at, (row) => {
      row.scrollIntoView({ block: "center" });
      row.querySelector("article")?.focus({ preventScroll: true });
      row.classList.remove("found");
      // Forces a layout, so that the animation can run again.
      void row.offsetWidth;
      row.classList.add("found");
      row.addEventListener("animationend", () => row.classList.remove("found"), { once: true });
    });
    return true;
  }

  // ---- Changes of the timeline -----------------------------------------------------------------

  /** @param {number} index */
  #onInserted(index) {
    const isAtEnd = this.#end === this.#timeline.entries.length - 1;
    if (index < this.#start) {
      this.#start++;
      this.#end++;
    } else if (index < this.#end || isAtEnd) this.#end++;
    this.#schedule();
  }

  /** @param {number} index */
  #onRemoved(index) {
    if (index < this.#start) this.#start--;
    if (index < this.#end) this.#end--;
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
    const anchor = this.#following ? undefined : this.#anchor();
    this.#paintRows();
    if (anchor) this.#scrollTo(anchor.row, anchor.y);
    else this.#scrollToEnd();
    if (this.#isFirst) this.#begin();
    this.#look();
  }

  /**
   * Paints the rows around an entry, and scrolls there.
   *
   * @param {number} index
   * @param {(row: HTMLElement) => void} go
   */
  #paintAround(index, go) {
    const { entries } = this.#timeline;
    const entry = entries[index];
    this.#isFirst = false;
    if (!entry) return;
    this.#start = Math.max(0, index - KEEP_ROWS / 2);
    this.#end = Math.min(entries.length, index + KEEP_ROWS / 2);
    this.#follow(false);
    this.#paintRows();
    const row = this.#rows.get(entry);
    if (row) go(row);
    this.#look();
  }

  #paintRows() {
    this.#isScheduled = false;
    const { rows, top } = this.#parts;
    const { entries, size } = this.#timeline;
    this.#choose();
    const before = this.#painted;
    const focus = rows.contains(document.activeElement)
      ? before.find((entry) => this.#rows.get(entry)?.contains(document.activeElement))
      : undefined;
    this.#painted = entries.slice(this.#start, this.#end);
    const wanted = new Set(this.#painted);
    for (const [entry, row] of this.#rows) {
      if (wanted.has(entry)) continue;
      row.remove();
      this.#rows.delete(entry);
    }
    let next = rows.firstElementChild;
    let last = entries[this.#start - 1];
    let day = timeOf(last);
    for (const entry of this.#painted) {
      const row = this.#row(entry);
      this.#dress(entry, row, last, day);
      if (row === next) next = row.nextElementSibling;
      else rows.insertBefore(row, next);
      last = entry;
      if (entry.kind !== "line") day = timeOf(entry);
    }
    this.#changed.clear();
    if (focus) this.#keepFocus(focus, before);
    top.hidden = this.#start > 0 || size === 0 || isHole(entries[0]);
  }

  /** Limits the entries on the page. */
  #choose() {
    const { length } = this.#timeline.entries;
    if (this.#following) {
      this.#end = length;
      if (this.#end - this.#start > MAX_ROWS) this.#start = this.#end - KEEP_ROWS;
    } else if (this.#end - this.#start > MAX_ROWS + STEP_ROWS) {
      // The reader is at the start: rows at the end go.
      this.#end = this.#start + MAX_ROWS;
    }
  }

  /** @param {Entry} entry */
  #row(entry) {
    let row = this.#rows.get(entry);
    if (!row) {
      row = document.createElement("li");
      this.#rows.set(entry, row);
    } else if (!this.#changed.has(entry)) return row;
    this.#fill(row, entry);
    return row;
  }

  /** @param {HTMLElement} row @param {Entry} entry */
  #fill(row, entry) {
    delete row.dataset.day;
    switch (entry.kind) {
      case "message":
        return fillMessage(row, entry, this.#wishes, {
          isModerated: this.#isModerated,
          find: (id) => this.#timeline.find(id),
        });
      case "notice":
        row.className = "notice";
        return row.replaceChildren(element("p", "", describe(entry.people)));
      case "hole":
        row.className = "hole";
        return row.replaceChildren(this.#holeWords(entry));
      case "line": {
        row.className = "new-line";
        const line = element("p", "", "New since you were here");
        line.role = "separator";
        line.ariaLabel = line.textContent;
        return row.replaceChildren(line);
      }
      case "gap":
        row.className = "gap";
        return row.replaceChildren(element("p", "", ...contentOf(entry)));
      case "card":
        row.className = "card";
        return row.replaceChildren(...contentOf(entry));
    }
  }

  /** @param {Hole} hole */
  #holeWords(hole) {
    if (hole.state !== "failed") {
      const which = hole.after === 0 ? "older" : "more";
      return element("p", "", `Loading ${which} messages…`);
    }
    const again = button("link", "Try again", () => this.#ask(hole));
    return element("p", "", "These messages could not be loaded. ", again);
  }

  /**
   * Sets what depends on the neighbours (whether the row continues a group or begins a day), and
   * whether the message is being edited.
   *
   * @param {Entry} entry
   * @param {HTMLElement} row
   * @param {Entry | undefined} before
   * @param {Date | undefined} lastDay
   */
  #dress(entry, row, before, lastDay) {
    row.classList.toggle("follows", joins(entry, before));
    const isEdited = entry.kind === "message" && entry.id !== undefined &&
      entry.id === this.#editing;
    row.classList.toggle("editing", isEdited);
    if (entry.kind === "hole" || entry.kind === "line") return;
    const day = isSameDay(entry.at, lastDay) ? "" : dayLabel(entry.at);
    if (day === (row.dataset.day ?? "")) return;
    row.dataset.day = day;
    row.querySelector(":scope > .day")?.remove();
    if (!day) return;
    const time = element("time", "", day);
    time.dateTime = isoDay(entry.at);
    row.prepend(element("p", "day", time));
  }

  /**
   * Returns the lost focus to the nearest message that remains.
   *
   * @param {Entry} entry the entry that had the focus
   * @param {Entry[]} before the entries that were on the page
   */
  #keepFocus(entry, before) {
    const { rows, scroller } = this.#parts;
    if (rows.contains(document.activeElement)) return;
    const at = before.indexOf(entry);
    const near = [...before.slice(at), ...before.slice(0, at).reverse()];
    const articles = near.map((other) => this.#rows.get(other)?.querySelector("article"));
    (articles.find((article) => article) ?? scroller).focus({ preventScroll: true });
  }

  /** Day labels say "Today" until midnight. */
  #awaitMidnight() {
    const now = new Date();
    const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate() + 1);
    setTimeout(() => {
      this.#schedule();
      this.#awaitMidnight();
    }, midnight.getTime() - now.getTime() + 100);
  }

  // ---- Scrolling -------------------------------------------------------------------------------

  /** Scrolls to the line before new messages, if they do not fit. */
  #begin() {
    const { line, entries, size } = this.#timeline;
    if (size === 0) return;
    this.#isFirst = false;
    if (!line) return;
    const row = this.#rows.get(line);
    const isInView = row && this.#top(row) >= 0;
    if (!isInView) this.#paintAround(entries.indexOf(line), (row) => this.#scrollTo(row, LINE_PX));
  }

  #look() {
    const { scroller } = this.#parts;
    const { scrollTop, scrollHeight, clientHeight } = scroller;
    const { length } = this.#timeline.entries;
    const below = scrollHeight - scrollTop - clientHeight;
    const isAtEnd = this.#end === length;
    this.#follow(isAtEnd && below < NEAR_END_PX);
    if (scrollTop < EDGE_PX && this.#start > 0) {
      this.#start = Math.max(0, this.#start - STEP_ROWS);
      if (!this.#following) this.#end = Math.min(this.#end, this.#start + MAX_ROWS);
      this.#schedule();
    } else if (below < EDGE_PX && !isAtEnd) {
      this.#end = Math.min(length, this.#end + STEP_ROWS);
      this.#start = Math.max(this.#start, this.#end - MAX_ROWS);
      this.#schedule();
    }
    let isLoading = false;
    for (const entry of this.#painted) {
      if (entry.kind !== "hole") continue;
      if (entry.state === "open" && this.#isNear(entry)) this.#ask(entry);
      isLoading ||= entry.state === "loading";
    }
    scroller.ariaBusy = String(isLoading);
    this.#tellSeen();
  }

  /** @param {Hole} hole */
  #isNear(hole) {
    const row = this.#rows.get(hole);
    if (!row) return false;
    const top = this.#top(row);
    return top > -EDGE_PX && top < this.#parts.scroller.clientHeight + EDGE_PX;
  }

  /** Asks for the messages on the reader's side of a hole. @param {Hole} hole */
  #ask(hole) {
    const row = this.#rows.get(hole);
    const isAbove = !row || this.#top(row) < this.#parts.scroller.clientHeight / 2;
    this.#timeline.awaitPage(hole);
    this.#wishes.onHole(hole, isAbove || hole.after === 0 ? "older" : "newer");
  }

  #tellSeen() {
    if (document.hidden) return;
    const { clientHeight } = this.#parts.scroller;
    for (let at = this.#rowAt(clientHeight); at >= 0; at--) {
      const entry = this.#painted[at];
      if (entry?.kind !== "message" || entry.seq === undefined || entry.stale) continue;
      if (entry.seq > this.#seen) this.#wishes.onSeen(this.#seen = entry.seq);
      return;
    }
  }

  /** Index of the last row that ends above a height, or that fills the whole view. @param {number} height */
  #rowAt(height) {
    const { children } = this.#parts.rows;
    const first = this.#firstBelow(height + 1);
    const row = children[first];
    return row && this.#top(row) <= 0 ? first : first - 1;
  }

  /** Index of the first row that ends below a height of the view. @param {number} height */
  #firstBelow(height) {
    const { children } = this.#parts.rows;
    const edge = this.#parts.scroller.getBoundingClientRect().top + height;
    let low = 0;
    let high = children.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((children[middle]?.getBoundingClientRect().bottom ?? 0) > edge) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** The row that must not move: the first in view that is neither a hole nor a line. */
  #anchor() {
    const { children } = this.#parts.rows;
    let at = this.#firstBelow(0);
    while (at < this.#painted.length - 1 && !this.#isFirm(this.#painted[at])) at++;
    const row = children[at];
    return row ? { row, y: this.#top(row) } : undefined;
  }

  /** Whether an entry stays on the page. @param {Entry | undefined} entry */
  #isFirm(entry) {
    if (!entry || entry.kind === "hole" || entry.kind === "line") return false;
    const at = this.#timeline.entries.indexOf(entry, Math.max(0, this.#start));
    return at >= 0 && at < this.#end;
  }

  /** @returns {Place} */
  #place() {
    if (this.#following) return "end";
    const anchor = this.#anchor();
    const entry = this.#painted.find((entry) => this.#rows.get(entry) === anchor?.row);
    return anchor && entry ? { entry, y: anchor.y } : "end";
  }

  /** Distance of a row from the top of the view. @param {Element} row */
  #top(row) {
    return row.getBoundingClientRect().top - this.#parts.scroller.getBoundingClientRect().top;
  }

  /** @param {Element} row @param {number} y */
  #scrollTo(row, y) {
    this.#parts.scroller.scrollTop += this.#top(row) - y;
  }

  #scrollToEnd() {
    const { scroller } = this.#parts;
    scroller.scrollTop = scroller.scrollHeight;
  }

  /** @param {boolean} following */
  #follow(following) {
    if (following === this.#following) return;
    this.#following = following;
    this.#wishes.onFollow(following);
  }

  /**
   * Handles the keys: arrows go from message to message, Home and End to the first and the last.
   *
   * @param {KeyboardEvent} event
   */
  #onKey(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    // Inside code, these keys scroll it.
    if (event.target instanceof HTMLPreElement) return;
    if (event.key === "ArrowUp" || event.key === "ArrowDown") return this.#walk(event);
    if (event.key !== "Home" && event.key !== "End") return;
    event.preventDefault();
    const hadFocus = this.#parts.rows.contains(document.activeElement);
    if (event.key === "End") this.toEnd();
    else if (this.#timeline.entries.length > 0) {
      this.#paintAround(0, () => this.#parts.scroller.scrollTop = 0);
    }
    const articles = this.#articles();
    if (hadFocus) articles.at(event.key === "End" ? -1 : 0)?.focus({ preventScroll: true });
  }

  /** @param {KeyboardEvent} event */
  #walk(event) {
    const articles = this.#articles();
    const at = articles.findIndex((article) => article.contains(document.activeElement));
    const to = at < 0 ? articles.length - 1 : at + (event.key === "ArrowUp" ? -1 : 1);
    const target = articles[to];
    if (!target || (at < 0 && event.key === "ArrowDown")) return;
    event.preventDefault();
    target.focus({ preventScroll: true });
    target.scrollIntoView({ block: "nearest" });
  }

  #articles() {
    return [...this.#parts.rows.querySelectorAll("article")];
  }
}

/**
 * Makes the links and buttons of a message reachable by Tab only while the focus is in it.
 *
 * @param {EventTarget | null} target
 * @param {number} tabIndex
 */
function setTabStops(target, tabIndex) {
  if (!(target instanceof Element)) return;
  for (const stop of target.closest("article")?.querySelectorAll(".when, .quote, .copy") ?? []) {
    /** @type {HTMLElement} */ (stop).tabIndex = tabIndex;
  }
}

/** @param {CardEntry} entry */
function contentOf({ content }) {
  return /** @type {(Node | string)[]} */ (content);
}

/** @param {Entry | undefined} entry */
function timeOf(entry) {
  return entry && "at" in entry ? entry.at : undefined;
}

/**
 * Whether a message continues the group of the one before it.
 *
 * @param {Entry} entry
 * @param {Entry | undefined} before
 */
function joins(entry, before) {
  return entry.kind === "message" && before?.kind === "message" &&
    entry.author === before.author && entry.to === before.to &&
    !isAction(entry) && !isAction(before) &&
    Math.abs(entry.at.getTime() - before.at.getTime()) < GROUP_MS &&
    isSameDay(entry.at, before.at);
}

/** @param {Date} a @param {Date | undefined} b */
function isSameDay(a, b) {
  return b !== undefined && a.getDate() === b.getDate() && a.getMonth() === b.getMonth() &&
    a.getFullYear() === b.getFullYear();
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

/** @param {Date} at */
function dayLabel(at) {
  const now = new Date();
  if (isSameDay(at, now)) return "Today";
  // By the calendar, since a day may have 23 or 25 hours.
  const yesterday = new Date(now.getFullYear(), now.getMonth(), now.getDate() - 1);
  if (isSameDay(at, yesterday)) return "Yesterday";
  return (at.getFullYear() === now.getFullYear() ? dayName : dayAndYear).format(at);
}

/** @param {Date} at */
function isoDay(at) {
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}
