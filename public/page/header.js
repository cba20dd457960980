// @ts-check
/// <reference lib="dom" />
/**
 * The shown room's name and protection, in the bar and in the empty log, and its link to copy.
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
const MEMBERS_ONLY = "Only members can join. The server can read the messages.";

/**
 * @typedef {object} Wishes
 * @property {() => void} onSettings
 * @property {(words: string) => void} onWords Shows a short remark.
 */

/** The texts of the bar and of an empty room. */
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
    // A link without its key is useless.
    copy.hidden = invite.hidden = keyTrouble !== "" || isEmbedded;
    emptyTitle.textContent = isEncrypted ? "This room is encrypted" : "No messages yet";
    emptyWords.textContent = keyTrouble ||
      (isEncrypted
        ? "Only people with the link can read the messages. Send it to those you want to talk to."
        : SAY_HELLO);
    this.#parts.empty.hidden = !visit.isLive || !visit.timeline.isEmpty;
  }

  async #copyLink() {
    if (!this.#visit) return;
    const link = new URL(addressOf(this.#visit.place), location.href).href;
    const done = this.#visit.isEncrypted ? "Encrypted room's link copied" : "Link copied";
    await this.copy(link, done, "Copying failed. Copy the link from the address bar.");
  }

  /** @param {string} text @param {string} done @param {string} instead the remark if copying fails */
  async copy(text, done, instead) {
    try {
      // On plain http, only localhost has a clipboard.
      await navigator.clipboard.writeText(text);
      this.#wishes.onWords(done);
    } catch {
      this.#wishes.onWords(instead);
    }
  }
}
