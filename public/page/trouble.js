// @ts-check
/// <reference lib="dom" />
/**
 * The line that says why messages are not being sent.
 *
 * @module
 */

/** How long a problem must last before it shows, unless the person can act, in milliseconds. */
const DELAY_MS = 1000;

/**
 * @typedef {object} Parts
 * @property {HTMLElement} words
 * @property {HTMLButtonElement} retry
 */

/** One line for the current problem. It lies over the page, so that nothing moves. */
export class Trouble {
  /** @type {Parts} */ #parts;
  /** The problem; `""` for none. */
  #words = "";
  /** @type {(() => void) | undefined} */ #retry;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;

  /** @param {Parts} parts */
  constructor(parts) {
    this.#parts = parts;
    parts.retry.addEventListener("click", () => this.#retry?.());
  }

  /**
   * Shows a problem: at once if the person can act, else after a second.
   *
   * @param {string} words
   * @param {{ retry?: () => void }} [how] `retry`: the button's action; without one, there is no button
   */
  show(words, { retry } = {}) {
    this.#words = words;
    this.#retry = retry;
    if (retry || this.#parts.words.textContent !== "") this.#paint();
    else this.#timer ??= setTimeout(() => this.#paint(), DELAY_MS);
  }

  /** Hides the line. */
  clear() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#words = "";
    this.#retry = undefined;
    this.#paint();
  }

  #paint() {
    const { words, retry } = this.#parts;
    if (words.textContent !== this.#words) words.textContent = this.#words;
    retry.hidden = this.#retry === undefined;
  }
}
