// @ts-check
/// <reference lib="dom" />
/**
 * The list of people on the page.
 *
 * @module
 */

import { isSameName } from "../names.js";
import { avatar, button, element, icon } from "./dom.js";

/** @import { Roster } from "../roster.js" */

/** Maximum names on the page. */
const MAX_SHOWN = 150;
/** A list of more than `CROWD` people is painted at most once in `PAINT_MS`. */
const CROWD = 50;
const PAINT_MS = 250;

/** Who is in the room, with the reader first. */
export class People {
  /** @type {{ list: HTMLElement, rest: HTMLElement, counts: readonly HTMLElement[] }} */ #parts;
  /** @type {(name: string) => void} */ #onChoose;
  /** @type {(name: string) => void} */ #onRemove;
  /** The last arguments of `show`. @type {[Roster, string] | undefined} */ #shown;
  #mayRemove = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;
  #paintedAt = -Infinity;

  /**
   * @param {{ list: HTMLElement, rest: HTMLElement, counts: readonly HTMLElement[] }} parts
   * @param {(name: string) => void} onChoose writes privately to a person
   * @param {(name: string) => void} onRemove removes a person from the room
   */
  constructor(parts, onChoose, onRemove) {
    this.#parts = parts;
    this.#onChoose = onChoose;
    this.#onRemove = onRemove;
  }

  /** Whether the reader may remove people. */
  set mayRemove(/** @type {boolean} */ isSo) {
    if (isSo === this.#mayRemove) return;
    this.#mayRemove = isSo;
    if (this.#shown) this.show(...this.#shown);
  }

  /** Empties the list. */
  reset() {
    clearTimeout(this.#timer);
    this.#paintedAt = -Infinity;
    this.#shown = undefined;
    this.#parts.list.replaceChildren();
    this.#parts.rest.hidden = true;
    for (const count of this.#parts.counts) count.textContent = "0";
  }

  /**
   * Shows the people, at once or within 250 ms.
   *
   * @param {Roster} roster
   * @param {string} self
   */
  show(roster, self) {
    clearTimeout(this.#timer);
    this.#shown = [roster, self];
    const wait = this.#paintedAt + PAINT_MS - performance.now();
    if (wait <= 0 || roster.online <= CROWD) this.#paint(roster, self);
    else this.#timer = setTimeout(() => this.#paint(roster, self), wait);
  }

  /** @param {Roster} roster @param {string} self */
  #paint(roster, self) {
    this.#paintedAt = performance.now();
    const { list, rest, counts } = this.#parts;
    for (const count of counts) count.textContent = String(roster.online);
    // Another tab may have spelled the name differently.
    const me = roster.has(self)
      ? self
      : roster.names.find((name) => isSameName(name, self)) ?? self;
    const others = roster.names.filter((name) => name !== me);
    const shown = others.slice(0, MAX_SHOWN).sort(byName.compare);
    // A large room does not list every name; the reader's own is known.
    const names = roster.online === 0 ? [] : [me, ...shown];
    const focused = list.contains(document.activeElement) ? document.activeElement : undefined;
    list.replaceChildren(...names.map((name) => this.#row(name, me)));
    if (focused instanceof HTMLElement) {
      const again = [...list.querySelectorAll("button")].find(({ dataset, className }) =>
        dataset.name === focused.dataset.name && className === focused.className
      );
      again?.focus();
    }
    const more = roster.online - names.length;
    rest.hidden = more <= 0;
    rest.textContent = more > 0 ? `and ${more.toLocaleString()} more` : "";
  }

  /** @param {string} username @param {string} self */
  #row(username, self) {
    const name = element("span", "name", username);
    name.dir = "auto";
    if (username === self) {
      const row = element("div", "person", avatar(username), name, element("span", "you", "you"));
      return element("li", "", row);
    }
    const what = element("span", "unseen", "Write privately to ");
    const choose = element("button", "person", what, avatar(username), name, icon("whisper"));
    choose.type = "button";
    choose.dataset.name = username;
    choose.title = `Write privately to ${username}`;
    choose.addEventListener("click", () => this.#onChoose(username));
    if (!this.#mayRemove) return element("li", "", choose);
    const remove = button("tool", `Remove ${username}`, () => this.#onRemove(username), "remove");
    remove.dataset.name = username;
    return element("li", "", choose, remove);
  }
}

const byName = new Intl.Collator(undefined, { numeric: true });
