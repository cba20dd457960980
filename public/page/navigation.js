// @ts-check
/// <reference lib="dom" />
/**
 * Keeps the address bar in step with the shown room, and goes to single messages.
 *
 * @module
 */

import { addressOf, isSamePlace, readAddress, ROOT } from "./address.js";
import { isEmbedded, withLook } from "./embedding.js";

/** @import { Place } from "./address.js" */
/** @import { Log } from "./log.js" */
/** @import { Visit } from "./visit.js" */

/**
 * @typedef {object} Wishes
 * @property {(place: Place) => void} onPlace The address names another room: the person went back,
 *   or changed it.
 * @property {() => void} onMissing The message in the address does not exist.
 */

/** The address bar. */
export class Navigation {
  /** @type {Log} */ #log;
  /** @type {Wishes} */ #wishes;
  /** @type {Visit | undefined} */ #visit;
  /** The place and message in the address, until the message is shown. */
  #wanted = readAddress(location.href);

  /** @param {Log} log @param {Wishes} wishes */
  constructor(log, wishes) {
    this.#log = log;
    this.#wishes = wishes;
    addEventListener("popstate", () => this.#follow());
  }

  #follow() {
    this.#wanted = readAddress(location.href);
    const { place } = this.#wanted;
    if (!place) return;
    if (this.#visit && isSamePlace(place, this.#visit.place)) this.showWanted();
    else this.#wishes.onPlace(place);
  }

  /**
   * Puts the shown room into the address.
   *
   * @param {Visit} visit
   * @param {{ isBack?: boolean }} [how] `isBack`: the person stays in the room, so its address replaces
   *   that of another room
   */
  show(visit, { isBack = false } = {}) {
    this.#visit = visit;
    const { place } = readAddress(location.href);
    const isRoom = location.pathname !== ROOT.pathname;
    const isThere = isRoom && place && isSamePlace(place, visit.place);
    const address = withLook(addressOf(visit.place));
    if (!isThere && isRoom && !isBack) history.pushState(null, "", address);
    else if (!isThere) history.replaceState(null, "", address);
    this.showWanted();
  }

  /** Shows the message in the address, once its room is live. */
  async showWanted() {
    const visit = this.#visit;
    const { place, at } = this.#wanted;
    // Before the first welcome, the room's messages are unknown.
    const isThere = visit?.isLive && visit.timeline.newestSeq > 0;
    if (at === undefined || !isThere || !place || !isSamePlace(place, visit.place)) return;
    this.#wanted = { place: undefined, at: undefined };
    await visit.loadAround(at);
    if (visit === this.#visit && !this.#log.reveal(at)) this.#wishes.onMissing();
  }

  /** Goes to a message, as a link to it does. @param {string} id */
  async jump(id) {
    const visit = this.#visit;
    const seq = visit?.timeline.find(id)?.seq ?? seqIn(id);
    if (!visit || seq === undefined) return;
    const address = withLook(addressOf(visit.place, seq));
    // A frame must not add to the history of the site around it.
    if (isEmbedded) history.replaceState(null, "", address);
    else history.pushState(null, "", address);
    this.#wanted = { place: visit.place, at: seq };
    await this.showWanted();
  }
}

/** The `seq` at the end of a message's id. @param {string} id */
function seqIn(id) {
  const seq = Number(/-(\d+)$/.exec(id)?.[1]);
  return Number.isSafeInteger(seq) ? seq : undefined;
}
