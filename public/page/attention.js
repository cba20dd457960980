// @ts-check
/// <reference lib="dom" />
/**
 * Calls for the person's attention: the count in the title, lines for screen readers, system
 * notifications, and short remarks over the page.
 *
 * @module
 */

import { ROOT, titleOf } from "./address.js";
import { element } from "./dom.js";
import { browser } from "./memory.js";

/** @import { Message } from "./timeline.js" */
/** @import { Visit } from "./visit.js" */

/** Minimum time that a remark stays, and the time for each character: a slow reader's pace. */
const TOAST_MS = 2500;
const TOAST_MS_PER_CHARACTER = 75;
/** Lines for screen readers are gathered for this long; of more than three, only the count is read. */
const ANNOUNCE_MS = 1000;
const MAX_ANNOUNCED = 3;

/** Speaks to the person. */
export class Attention {
  /** @type {{ announcer: HTMLElement, toast: HTMLElement, notify: HTMLButtonElement }} */ #parts;
  /** @type {(visit: Visit) => void} */ #onChoose;
  /** @type {string[]} */ #lines = [];
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #announcing;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #toasting;

  /**
   * @param {{ announcer: HTMLElement, toast: HTMLElement, notify: HTMLButtonElement }} parts
   * @param {(visit: Visit) => void} onChoose called when the person clicks a visit's notification
   */
  constructor(parts, onChoose) {
    this.#parts = parts;
    this.#onChoose = onChoose;
    parts.notify.addEventListener("click", () => this.#toggle());
    this.#showToggle();
  }

  /** @param {string} room @param {number} unread */
  title(room, unread) {
    const count = unread > 0 ? `(${unread}) ` : "";
    document.title = room === "" ? "Hubbub" : `${count}${titleOf(room)} · Hubbub`;
  }

  /** @param {string} words */
  toast(words) {
    const { toast } = this.#parts;
    clearTimeout(this.#toasting);
    // Reopened, the toast lies above a dialog opened since.
    if (toast.matches(":popover-open")) toast.hidePopover();
    toast.showPopover();
    toast.textContent = words;
    this.#toasting = setTimeout(() => {
      toast.replaceChildren();
      toast.hidePopover();
    }, Math.max(TOAST_MS, TOAST_MS_PER_CHARACTER * words.length));
  }

  /**
   * Has screen readers read a line.
   *
   * @param {string} line
   */
  announce(line) {
    this.#lines.push(line);
    this.#announcing ??= setTimeout(() => {
      this.#announcing = undefined;
      const lines = this.#lines.length > MAX_ANNOUNCED
        ? [`${this.#lines.length} new messages`]
        : this.#lines;
      this.#parts.announcer.replaceChildren(...lines.map((line) => element("p", "", line)));
      this.#lines = [];
    }, ANNOUNCE_MS);
  }

  /**
   * Announces a new message: to screen readers if its room is shown, and by a notification if it is
   * for the reader and the page is out of sight.
   *
   * @param {Visit} visit
   * @param {Message} message
   * @param {boolean} isShown
   */
  news(visit, message, isShown) {
    const isForMe = message.mention === true || message.to !== undefined;
    const { room } = visit.place;
    if (isShown) this.announce(lineOf(message));
    else if (isForMe) this.announce(`In ${titleOf(room)}, ${lineOf(message)}`);
    if (!isForMe || (isShown && !document.hidden)) return;
    const { author, to } = message;
    const title = to ? `${author}, privately` : `${author} in ${titleOf(room)}`;
    this.#notify(title, wordsOf(message), visit);
  }

  /** @param {string} title @param {string} body @param {Visit} visit */
  #notify(title, body, visit) {
    if (!browser.notifies || globalThis.Notification?.permission !== "granted") return;
    try {
      const note = new Notification(title, { body, icon: new URL("favicon.svg", ROOT).href });
      note.addEventListener("click", () => {
        globalThis.focus();
        note.close();
        this.#onChoose(visit);
      });
    } catch { /* Some phones have the class but do not allow it here. */ }
  }

  async #toggle() {
    if (browser.notifies) {
      browser.notifies = false;
    } else if (!globalThis.Notification) {
      this.toast("This browser has no notifications");
    } else if (await Notification.requestPermission() === "granted") {
      browser.notifies = true;
      this.toast("You will be notified while this page is in the background");
    } else {
      this.toast("Your browser blocks notifications. Allow them in its settings for this page.");
    }
    this.#showToggle();
  }

  #showToggle() {
    const isOn = browser.notifies && globalThis.Notification?.permission === "granted";
    this.#parts.notify.ariaPressed = String(isOn);
  }
}

/** @param {Message} message */
function lineOf(message) {
  return `${message.author}${message.to ? " privately" : ""}: ${wordsOf(message)}`;
}

/** The text, or a remark in place of it. @param {Message} message */
function wordsOf({ text, seal }) {
  switch (seal) {
    case "broken":
    case "locked":
      return "a message that cannot be read";
    case "replayed":
      return "a message that the server repeated";
    case "bare":
      return `not encrypted: ${text}`;
    default:
      return text;
  }
}
