// @ts-check
/// <reference lib="dom" />
/**
 * Keeps the address bar and the room that is shown in step, and leads to single messages.
 *
 * @module
 */

import { addressOf, isSamePlace, readAddress } from "./address.js";

/** @import { Place } from "./address.js" */
/** @import { Log } from "./log.js" */
/** @import { Visit } from "./visit.js" */

/**
 * @typedef {object} Wishes
 * @property {(place: Place) => void} onPlace The address names another room: somebody went back, or
 *   changed it.
 * @property {() => void} onMissing The message that the address names is not to be had.
 */

/** The address bar. */
export class Navigation {
  /** @type {Log} */ #log;
  /** @type {Wishes} */ #wishes;
  /** @type {Visit | undefined} */ #visit;
  /** The message that the address names, to be shown as soon as it can be. @type {number | undefined} */
  #wanted = readAddress(location.href).at;

  /** @param {Log} log @param {Wishes} wishes */
  constructor(log, wishes) {
    this.#log = log;
    this.#wishes = wishes;
    addEventListener("popstate", () => this.#follow());
  }

  #follow() {
    const { place, at } = readAddress(location.href);
    this.#wanted = at;
    if (!place) return;
    if (this.#visit && isSamePlace(place, this.#visit.place)) this.showWanted();
    else this.#wishes.onPlace(place);
  }

  /** Has the address name the room that is shown. @param {Visit} visit */
  show(visit) {
    this.#visit = visit;
    const { place } = readAddress(location.href);
    const isRoom = location.pathname.startsWith("/r/");
    if (isRoom && place && isSamePlace(place, visit.place)) return;
    if (isRoom) history.pushState(null, "", addressOf(visit.place));
    else history.replaceState(null, "", addressOf(visit.place));
  }

  /** Shows the message that the address names, once its room is there. */
  async showWanted() {
    const visit = this.#visit;
    const seq = this.#wanted;
    if (seq === undefined || !visit?.isLive) return;
    this.#wanted = undefined;
    await visit.loadAround(seq);
    if (visit === this.#visit && !this.#log.reveal(seq)) this.#wishes.onMissing();
  }

  /** Goes to a message, as a link to it does. @param {string} id */
  async jump(id) {
    const visit = this.#visit;
    const seq = visit?.timeline.find(id)?.seq ?? seqIn(id);
    if (!visit || seq === undefined) return;
    history.pushState(null, "", addressOf(visit.place, seq));
    this.#wanted = seq;
    await this.showWanted();
  }
}

/** The number of a message, with which its id ends. @param {string} id */
function seqIn(id) {
  const seq = Number(/-(\d+)$/.exec(id)?.[1]);
  return Number.isSafeInteger(seq) ? seq : undefined;
}
