// @ts-check
/// <reference lib="dom" />
/**
 * What the page says of the room that is shown: its name and what protects it, in the bar and where
 * nothing has been said yet, and the way to copy its link.
 *
 * @module
 */

import { addressOf, titleOf } from "./address.js";
import { get } from "./dom.js";
import { isEmbedded } from "./embedding.js";

/** @import { Visit } from "./visit.js" */

const SAY_HELLO = isEmbedded
  ? "Say hello."
  : "Say hello, or send the link to someone you would like to talk to.";
const MEMBERS_ONLY = "Only members may come in. The server can read what is said.";

/**
 * @typedef {object} Wishes
 * @property {() => void} onSettings
 * @property {(words: string) => void} onWords Something is to be said in passing.
 */

/** The bar's words, and those of an empty room. */
export class Header {
  #parts = {
    name: get("room-name", HTMLElement),
    lock: get("lock", SVGElement),
    about: get("about", HTMLButtonElement),
    membersOnly: get("members-only", HTMLButtonElement),
    copy: get("copy", HTMLButtonElement),
    empty: get("empty", HTMLElement),
    emptyTitle: get("empty-title", HTMLElement),
    emptyWords: get("empty-words", HTMLElement),
    emptyAbout: get("empty-about", HTMLButtonElement),
    invite: get("invite", HTMLButtonElement),
    privacy: get("privacy", HTMLDialogElement),
  };
  /** @type {Visit | undefined} */ #visit;
  /** @type {Wishes} */ #wishes;

  /** @param {Wishes} wishes */
  constructor(wishes) {
    this.#wishes = wishes;
    const { about, emptyAbout, membersOnly, copy, invite, privacy } = this.#parts;
    for (const button of [about, emptyAbout]) {
      button.addEventListener("click", () => privacy.showModal());
    }
    for (const button of [copy, invite]) button.addEventListener("click", () => this.#copyLink());
    membersOnly.addEventListener("click", () => {
      if (this.#visit?.connection?.role === "member") wishes.onWords(MEMBERS_ONLY);
      else wishes.onSettings();
    });
  }

  /** @param {Visit} visit */
  show(visit) {
    this.#visit = visit;
    const { name, lock, about, membersOnly, copy, emptyTitle, emptyWords, emptyAbout, invite } =
      this.#parts;
    const { place, isEncrypted, keyTrouble } = visit;
    name.textContent = titleOf(place.room);
    lock.toggleAttribute("hidden", !isEncrypted);
    about.hidden = !isEncrypted;
    about.textContent = keyTrouble ? "No key" : "Encrypted";
    membersOnly.hidden = !visit.connection?.isPrivate;
    emptyAbout.hidden = !isEncrypted || keyTrouble !== "";
    // A link without its key helps nobody.
    copy.hidden = invite.hidden = keyTrouble !== "" || isEmbedded;
    emptyTitle.textContent = isEncrypted ? "This room is encrypted" : "Nothing said here yet";
    emptyWords.textContent = keyTrouble ||
      (isEncrypted
        ? "Only people with the link can read what is written here. Send it to those you want to talk to."
        : SAY_HELLO);
    this.#parts.empty.hidden = !visit.isLive || !visit.timeline.isEmpty;
  }

  async #copyLink() {
    if (!this.#visit) return;
    const link = new URL(addressOf(this.#visit.place), location.href).href;
    const done = this.#visit.isEncrypted ? "Encrypted room's link copied" : "Link copied";
    await this.copy(link, done, "Please copy the link from the address bar");
  }

  /** @param {string} text @param {string} done @param {string} instead What to do where it cannot be done. */
  async copy(text, done, instead) {
    try {
      // There is no clipboard on plain http, other than on localhost.
      await navigator.clipboard.writeText(text);
      this.#wishes.onWords(done);
    } catch {
      this.#wishes.onWords(instead);
    }
  }
}
