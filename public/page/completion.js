// @ts-check
/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
/**
 * Offers completions in a list above a text box, by keyboard, pointer and touch. The focus stays in
 * the box. A text area may not be a combobox (ARIA in HTML), so the list is announced as a status, and
 * its options as the active descendant.
 *
 * @module
 */

import { element } from "./dom.js";

/** @import { Suggestions } from "./suggestions.js" */

/** Kinds of input other than typing. */
const NOT_TYPED = /^(?:insertFromPaste|insertFromDrop|insertFromYank|history)/;

/** The options for a text box. */
export class Completion {
  /** @type {HTMLTextAreaElement} */ #text;
  /** @type {HTMLElement} */ #list;
  /** @type {HTMLElement} */ #status;
  /** @type {(before: string) => Suggestions | undefined} */ #suggest;
  /** The offered options. @type {Suggestions | undefined} */ #offered;
  /** The option that Enter takes; -1 for none. */
  #chosen = -1;

  /**
   * @param {{ text: HTMLTextAreaElement, list: HTMLElement, status: HTMLElement }} parts
   * @param {(before: string) => Suggestions | undefined} suggest
   */
  constructor({ text, list, status }, suggest) {
    this.#text = text;
    this.#list = list;
    this.#status = status;
    this.#suggest = suggest;
    text.ariaAutoComplete = "list";
    text.setAttribute("aria-controls", list.id);
    text.addEventListener("input", (event) => {
      if (event instanceof InputEvent && NOT_TYPED.test(event.inputType)) this.close();
      else this.#refresh();
    });
    text.addEventListener("blur", () => this.close());
    document.addEventListener("selectionchange", () => {
      if (this.#offered) this.#refresh();
    });
    // A click leaves the focus in the text box.
    list.addEventListener("mousedown", (event) => event.preventDefault());
    list.addEventListener("click", ({ target }) => {
      const row = target instanceof Element ? target.closest("li") : null;
      if (row) this.#take([...list.children].indexOf(row));
    });
  }

  /**
   * Handles a key of the list.
   *
   * @param {KeyboardEvent} event
   * @returns {boolean} whether the key was used
   */
  onKey(event) {
    if (!this.#offered) return false;
    const { key, shiftKey, ctrlKey, altKey, metaKey } = event;
    if (shiftKey || ctrlKey || altKey || metaKey) return false;
    const count = this.#offered.options.length;
    if (key === "ArrowDown") this.#choose((this.#chosen + 1) % count);
    else if (key === "ArrowUp") this.#choose(this.#chosen > 0 ? this.#chosen - 1 : count - 1);
    else if (key === "Escape") this.close();
    else if ((key === "Enter" || key === "Tab") && this.#chosen >= 0) this.#take(this.#chosen);
    else return false;
    event.preventDefault();
    return true;
  }

  /** Hides the list until the next typed character. */
  close() {
    if (!this.#offered) return;
    this.#offered = undefined;
    this.#list.hidden = true;
    this.#list.replaceChildren();
    this.#status.textContent = "";
    this.#choose(-1);
  }

  #refresh() {
    const { selectionStart, selectionEnd, value } = this.#text;
    const offered = selectionStart === selectionEnd
      ? this.#suggest(value.slice(0, selectionStart))
      : undefined;
    if (!offered) return this.close();
    const isSame = JSON.stringify(offered) === JSON.stringify(this.#offered);
    this.#offered = offered;
    if (isSame) return;
    const { options, isLikely } = offered;
    this.#list.replaceChildren(...options.map(({ label, about }, index) => {
      const row = element("li", "", element("bdi", "", label), element("span", "about", about));
      row.id = `${this.#list.id}-${index}`;
      row.role = "option";
      return row;
    }));
    this.#list.hidden = false;
    this.#status.textContent = options.length === 1
      ? "1 suggestion"
      : `${options.length} suggestions`;
    this.#choose(isLikely ? 0 : -1);
  }

  /** @param {number} chosen */
  #choose(chosen) {
    this.#chosen = chosen;
    for (const [index, row] of [...this.#list.children].entries()) {
      row.ariaSelected = String(index === chosen);
    }
    const row = this.#list.children[chosen];
    if (row) this.#text.setAttribute("aria-activedescendant", row.id);
    else this.#text.removeAttribute("aria-activedescendant");
    row?.scrollIntoView({ block: "nearest" });
  }

  /** @param {number} index */
  #take(index) {
    const option = this.#offered?.options[index];
    if (!this.#offered || !option) return;
    const { from } = this.#offered;
    const { value, selectionStart } = this.#text;
    const end = value[selectionStart] === " " ? selectionStart + 1 : selectionStart;
    this.close();
    this.#text.setRangeText(
      option.insert,
      from,
      option.insert.endsWith(" ") ? end : selectionStart,
      "end",
    );
    const inputType = "insertReplacementText";
    this.#text.dispatchEvent(new InputEvent("input", { bubbles: true, inputType }));
  }
}
