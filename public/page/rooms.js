// @ts-check
/// <reference lib="dom" />
/**
 * The list of joined rooms with their unread counts: a column on wide screens, else a menu.
 *
 * @module
 */

import { addressOf, isEncrypted, isSamePlace, titleOf } from "./address.js";
import { button, element, icon } from "./dom.js";

/** @import { Place } from "./address.js" */

/**
 * @typedef {object} RoomEntry
 * @property {Place} place
 * @property {number} unread Unseen messages of others.
 * @property {boolean} isWanted Whether one of them is for the reader.
 */

/**
 * @typedef {object} Parts
 * @property {HTMLElement} list
 * @property {HTMLElement} total The unread count of the other rooms, on the button of the list.
 */

/**
 * @typedef {object} Wishes
 * @property {(place: Place) => void} onGo
 * @property {(place: Place) => void} onLeave
 */

/** Maximum count; a higher one shows as this and a plus sign. */
const MAX_COUNT = 99;

/** The rooms on the page. */
export class Rooms {
  /** @type {Parts} */ #parts;
  /** @type {Wishes} */ #wishes;
  /** The last arguments of `show` as JSON: the same again paint nothing. */
  #shown = "";

  /** @param {Parts} parts @param {Wishes} wishes */
  constructor(parts, wishes) {
    this.#parts = parts;
    this.#wishes = wishes;
  }

  /** @param {readonly RoomEntry[]} entries @param {Place | undefined} here the shown room */
  show(entries, here) {
    const now = JSON.stringify([entries, here]);
    if (now === this.#shown) return;
    this.#shown = now;
    const { list, total } = this.#parts;
    const focused = list.contains(document.activeElement) ? document.activeElement : undefined;
    const again = focused instanceof HTMLElement ? focused.dataset.place : undefined;
    list.replaceChildren(...entries.map((entry) => this.#row(entry, here)));
    if (again !== undefined) {
      [...list.querySelectorAll("a")].find(({ dataset }) => dataset.place === again)?.focus();
    }
    const elsewhere = entries.filter(({ place }) => !here || !isSamePlace(place, here));
    const unread = elsewhere.reduce((sum, entry) => sum + entry.unread, 0);
    total.hidden = unread === 0;
    total.replaceChildren(...countWords(unread));
    total.classList.toggle("wanted", elsewhere.some(({ isWanted }) => isWanted));
  }

  /** @param {RoomEntry} entry @param {Place | undefined} here */
  #row({ place, unread, isWanted }, here) {
    const title = titleOf(place.room);
    const name = element("span", "name", title);
    name.dir = "auto";
    const mark = isEncrypted(place) ? icon("lock") : element("span", "sign", "#");
    if (mark instanceof HTMLElement) mark.setAttribute("aria-hidden", "true");
    const link = element("a", "room", mark, name);
    if (unread > 0) {
      const count = element("span", "count", ...countWords(unread));
      count.classList.toggle("wanted", isWanted);
      if (isWanted) count.append(element("span", "unseen", ", some for you"));
      link.append(" ", count);
    }
    link.href = addressOf(place);
    link.dataset.place = JSON.stringify(place);
    if (here && isSamePlace(place, here)) link.setAttribute("aria-current", "page");
    link.addEventListener("click", (event) => {
      // With a modifier key, the browser opens a tab or a window.
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      this.#wishes.onGo(place);
    });
    const leave = button("tool", `Leave ${title}`, () => this.#wishes.onLeave(place), "close");
    return element("li", "", link, leave);
  }
}

/** @param {number} count @returns {(Node | string)[]} */
function countWords(count) {
  const shown = count > MAX_COUNT ? `${MAX_COUNT}+` : `${count}`;
  return [shown, element("span", "unseen", " unread")];
}
