// @ts-check
/// <reference lib="dom" />
/**
 * The line that says why messages do not go out just now.
 *
 * @module
 */

/** What is over sooner is not worth a word, unless there is something to do, in milliseconds. */
const DELAY_MS = 1000;

/**
 * @typedef {object} Parts
 * @property {HTMLElement} words
 * @property {HTMLButtonElement} retry
 */

/** One line for all that is wrong. It lies over the page, so that nothing moves when it comes or goes. */
export class Trouble {
  /** @type {Parts} */ #parts;
  /** What is wrong. */
  #words = "";
  /** @type {(() => void) | undefined} */ #retry;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;

  /** @param {Parts} parts */
  constructor(parts) {
    this.#parts = parts;
    parts.retry.addEventListener("click", () => this.#retry?.());
  }

  /**
   * Says what is wrong: at once if the person can do something, else if it lasts.
   *
   * @param {string} words
   * @param {{ retry?: () => void }} [how] `retry`: what the button does; without it there is none
   */
  show(words, { retry } = {}) {
    this.#words = words;
    this.#retry = retry;
    if (retry || this.#parts.words.textContent !== "") this.#paint();
    else this.#timer ??= setTimeout(() => this.#paint(), DELAY_MS);
  }

  /** All is well again. */
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
