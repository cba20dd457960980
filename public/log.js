// @ts-check
/// <reference lib="dom" />
/**
 * The list of what was said: rows, their grouping by author and by day, notices of who came and
 * went, and whether the view follows the end. Knows nothing of connections or forms.
 *
 * Whatever people wrote enters the page as text nodes only.
 *
 * @module
 */

/** @typedef {import("./connection.js").Frame} Frame */

/** Older rows are dropped beyond this many. */
const MAX_ROWS = 1000;
/** Messages of one author further apart than this get a heading of their own. */
const GROUP_MS = 5 * 60_000;
/** This close to the end, in CSS pixels, still counts as being there. */
const NEAR_END_PX = 96;
/** A notice names this many people, then counts the rest. */
const MAX_NAMED = 3;

const DAY_MS = 86_400_000;
const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const dayName = new Intl.DateTimeFormat("en", { weekday: "long", day: "numeric", month: "long" });
const fullDate = new Intl.DateTimeFormat("en", { dateStyle: "full", timeStyle: "short" });
const names = new Intl.ListFormat("en");
const graphemes = new Intl.Segmenter();

/** The rows of one room. */
export class Log {
  /** @type {HTMLElement} */ #scroller;
  /** @type {HTMLElement} */ #rows;
  /** @type {(following: boolean) => void} */ #onFollow;
  #self = "";
  #following = true;
  /** Ids of the messages on the page, oldest first, with their rows. @type {Map<string, Element>} */
  #shown = new Map();
  /** The last row, when it is a message that another may join. @type {Frame & { at: Date } | undefined} */
  #lastMessage;
  /** The last row, when it is a notice: what each person did first and last. @type {Map<string, [string, string]> | undefined} */
  #lastNotice;
  #lastDay = "";
  #lastSeq = 0;

  /**
   * @param {object} options
   * @param {HTMLElement} options.scroller What scrolls.
   * @param {HTMLElement} options.rows The list in it.
   * @param {(following: boolean) => void} options.onFollow Told when the view reaches the end, or
   *   leaves it.
   */
  constructor({ scroller, rows, onFollow }) {
    this.#scroller = scroller;
    this.#rows = rows;
    this.#onFollow = onFollow;
    scroller.addEventListener("scroll", () => this.#look(), { passive: true });
    // A keyboard that slides in, or a composer that grows, must not hide the last row.
    new ResizeObserver(() => this.#following && this.toEnd()).observe(scroller);
  }

  /** How many messages are on the page. */
  get size() {
    return this.#shown.size;
  }

  /** Whether new rows are scrolled into view. */
  get following() {
    return this.#following;
  }

  /**
   * Starts over.
   *
   * @param {string} self Whose messages are ours.
   */
  reset(self) {
    this.#self = self;
    this.#rows.replaceChildren();
    this.#shown.clear();
    this.#lastMessage = this.#lastNotice = undefined;
    this.#lastDay = "";
    this.#lastSeq = 0;
    this.toEnd();
  }

  /**
   * Shows a chat message.
   *
   * @param {Frame} frame
   * @returns {boolean} `false` when it was on the page already.
   */
  addMessage(frame) {
    const id = frame.id ?? "";
    if (this.#shown.has(id)) return false;
    const at = dateOf(frame.timestamp);
    if (frame.history && this.#lastSeq > 0 && (frame.seq ?? 0) > this.#lastSeq + 1) this.#addGap();
    this.#lastSeq = frame.seq ?? 0;
    this.#addDay(at);

    const before = this.#lastMessage;
    const follows = before?.username === frame.username &&
      at.getTime() - before.at.getTime() < GROUP_MS;
    const row = messageRow(frame, at, { follows, own: frame.username === this.#self });
    this.#append(row);
    this.#shown.set(id || String(this.#shown.size), row);
    this.#lastMessage = { ...frame, at };
    return true;
  }

  /**
   * Notes quietly that someone came or went. Notices in a row share one line.
   *
   * @param {string} username
   * @param {"joined" | "left"} what
   */
  addNotice(username, what) {
    const notice = this.#lastNotice ?? new Map();
    const [first] = notice.get(username) ?? [what];
    notice.set(username, [first, what]);
    const words = describe(notice);
    if (this.#lastNotice) {
      const line = this.#rows.lastElementChild?.firstElementChild;
      if (line) line.textContent = words;
      if (this.#following) this.toEnd();
    } else {
      this.#addDay(new Date());
      this.#append(element("li", "notice", element("p", "", words)));
      this.#lastNotice = notice;
    }
  }

  /** Scrolls to the last row and follows from there. */
  toEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#look();
  }

  /** @param {Element} row */
  #append(row) {
    this.#lastMessage = this.#lastNotice = undefined;
    this.#rows.append(row);
    // Taking rows from the top would move the text under someone who is reading up there.
    const most = this.#following ? MAX_ROWS : 2 * MAX_ROWS;
    while (this.#rows.childElementCount > most) this.#removeFirst();
    if (this.#following) this.toEnd();
  }

  #removeFirst() {
    const row = this.#rows.firstElementChild;
    row?.remove();
    for (const [id, shown] of this.#shown) {
      if (shown === row) this.#shown.delete(id);
      break; // Both are in the same order: only the first can be it.
    }
  }

  /** @param {Date} at */
  #addDay(at) {
    const day = at.toDateString();
    if (day === this.#lastDay) return;
    this.#lastDay = day;
    const time = element("time", "", dayLabel(at));
    time.dateTime = isoDay(at);
    this.#append(element("li", "day", time));
    // "Today" may have become "Yesterday" since it was written.
    for (const old of this.#rows.querySelectorAll(".day time")) {
      old.textContent = dayLabel(new Date(`${old.getAttribute("datetime")}T00:00`));
    }
  }

  #addGap() {
    const words = "Some messages sent while you were away are not shown.";
    this.#append(element("li", "notice", element("p", "", words)));
  }

  #look() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    const following = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    if (following === this.#following) return;
    this.#following = following;
    this.#onFollow(following);
  }
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
 * @param {Frame} frame
 * @param {Date} at
 * @param {{ follows: boolean, own: boolean }} how
 */
function messageRow(frame, at, { follows, own }) {
  const author = element("strong", "author", frame.username);
  author.dir = "auto";
  const time = element("time", "", clock.format(at));
  time.dateTime = at.toISOString();
  time.title = fullDate.format(at);
  const text = element("p", "text", ...linked(frame.content));
  text.dir = "auto";
  const article = element("article", "", element("header", "", author, time), text);
  if (!own && !follows) article.prepend(avatar(frame.username));
  setHue(article, frame.username);
  const row = element("li", "message", article);
  row.classList.toggle("own", own);
  row.classList.toggle("follows", follows);
  return row;
}

/**
 * Splits text into strings and links. Only `http:` and `https:` become links.
 *
 * @param {string} text
 * @returns {(Node | string)[]}
 */
function linked(text) {
  const parts = [];
  let from = 0;
  for (const match of text.matchAll(/\bhttps?:\/\/[^\s<>"]+/gi)) {
    const address = withoutTail(match[0]);
    if (!URL.canParse(address)) continue;
    const link = element("a", "", address);
    link.href = address;
    link.target = "_blank";
    link.rel = "noopener nofollow";
    parts.push(text.slice(from, match.index), link);
    from = match.index + address.length;
  }
  return [...parts, text.slice(from)];
}

/**
 * Takes off what ends the sentence and not the address: a full stop, or the bracket around it.
 *
 * @param {string} address
 */
function withoutTail(address) {
  let end = address.length;
  while (/[.,;:!?'"*\])}]/.test(address[end - 1] ?? "")) {
    const kept = address.slice(0, end);
    if (kept.endsWith(")") && kept.split("(").length >= kept.split(")").length) break;
    end--;
  }
  return address.slice(0, end);
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
function listOf(who) {
  if (who.length <= MAX_NAMED + 1) return names.format(who);
  return names.format([...who.slice(0, MAX_NAMED), `${who.length - MAX_NAMED} others`]);
}

/** @param {string | undefined} timestamp */
function dateOf(timestamp) {
  const at = new Date(timestamp ?? NaN);
  return Number.isNaN(at.getTime()) ? new Date() : at;
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
