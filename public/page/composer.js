// @ts-check
/// <reference lib="dom" />
/**
 * Where one writes: the text box, what it is for just now, how much still fits, and the draft.
 *
 * @module
 */

import { element } from "./dom.js";
import { tab } from "./memory.js";

/**
 * What is being written: something for the room, for one person alone, or a new text for a message.
 *
 * @typedef {{ type: "say" }
 *   | { type: "whisper", to: string }
 *   | { type: "edit", id: string }} Mode
 */

/**
 * @typedef {object} Parts
 * @property {HTMLFormElement} form
 * @property {HTMLTextAreaElement} text
 * @property {HTMLButtonElement} send
 * @property {HTMLElement} counter
 * @property {HTMLElement} hint
 * @property {HTMLElement} mode
 * @property {HTMLElement} modeWords
 * @property {HTMLButtonElement} modeEnd
 */

/**
 * @typedef {object} Wishes
 * @property {(text: string, mode: Mode) => boolean} onSubmit Whether it was taken.
 * @property {(active: boolean) => void} onTyping
 * @property {() => void} onEditLast The newest own message is to be edited.
 */

/** From this part of the limit on, what is left is shown. */
const COUNT_FROM = 0.85;
const utf8 = new TextEncoder();

/** The text box and what belongs to it. */
export class Composer {
  /** @type {Parts} */ #parts;
  /** @type {Wishes} */ #wishes;
  /** @type {Mode} */ #mode = { type: "say" };
  /** What was in the box before an edit began. */
  #kept = "";
  #maxBytes = Infinity;
  /** Why nothing can be written here. */
  #closedBecause = "";

  /** @param {Parts} parts @param {Wishes} wishes */
  constructor(parts, wishes) {
    this.#parts = parts;
    this.#wishes = wishes;
    const { form, text, modeEnd } = parts;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    text.addEventListener("keydown", (event) => this.#onKey(event));
    text.addEventListener("input", () => {
      this.hint("");
      // Whom one writes to privately is nobody else's business, nor that one does.
      if (this.#mode.type === "say") wishes.onTyping(isSpeech(this.#read()));
      this.#update();
    });
    modeEnd.addEventListener("click", () => this.say());
    this.#set(tab.draft);
  }

  /** UTF-8 bytes that a message may have. */
  set maxBytes(/** @type {number} */ bytes) {
    this.#maxBytes = bytes;
    this.#update();
  }

  /** Closes the box, with the reason in its place, or opens it with none. */
  set closedBecause(/** @type {string} */ reason) {
    this.#closedBecause = reason;
    const { text } = this.#parts;
    text.disabled = reason !== "";
    text.placeholder = reason || this.#placeholder();
    this.#update();
  }

  focus() {
    this.#parts.text.focus();
  }

  /** Writes to the room again. */
  say() {
    this.#become({ type: "say" });
  }

  /** @param {string} to */
  whisper(to) {
    this.#become({ type: "whisper", to });
  }

  /** @param {string} id @param {string} text */
  edit(id, text) {
    this.#become({ type: "edit", id }, text);
  }

  /**
   * Says something about what was written, until it is changed.
   *
   * @param {string} words
   */
  hint(words) {
    if (this.#parts.hint.textContent !== words) this.#parts.hint.textContent = words;
  }

  /** Whether nothing has been written. */
  get isEmpty() {
    return this.#read() === "";
  }

  /** Ends what was going on: the room is another one. */
  reset() {
    // What was meant for one person must not end up in a room.
    if (this.#mode.type === "whisper") this.#set("");
    if (this.#mode.type !== "say") this.say();
    this.hint("");
  }

  #submit() {
    const content = this.#read();
    if (content === "" || this.#left(content) < 0 || this.#closedBecause) return;
    const mode = this.#mode;
    if (!this.#wishes.onSubmit(content, mode)) return;
    if (mode.type === "edit") this.say();
    else this.#set("");
    this.hint("");
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    // Enter that ends a composition belongs to the input method; Safari tells only by the number.
    if (event.isComposing || event.keyCode === 229) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      this.#submit();
    } else if (event.key === "Escape" && this.#mode.type !== "say") {
      event.preventDefault();
      this.say();
    } else if (event.key === "ArrowUp" && this.#parts.text.value === "") {
      event.preventDefault();
      this.#wishes.onEditLast();
    }
  }

  /** @param {Mode} mode @param {string} [text] */
  #become(mode, text) {
    const wasEditing = this.#mode.type === "edit";
    if (mode.type === "edit" && !wasEditing) this.#kept = this.#parts.text.value;
    this.#mode = mode;
    if (mode.type === "edit") this.#set(text ?? "");
    else if (wasEditing) this.#set(this.#kept);
    const { mode: chip, modeWords, text: box, modeEnd } = this.#parts;
    chip.hidden = mode.type === "say";
    chip.dataset.mode = mode.type;
    modeWords.replaceChildren(
      ...mode.type === "whisper"
        ? ["Only to ", element("bdi", "", mode.to)]
        : mode.type === "edit"
        ? ["Editing your message"]
        : [],
    );
    modeEnd.ariaLabel = modeEnd.title = mode.type === "edit" ? "Stop editing" : "Back to the room";
    box.placeholder = this.#closedBecause || this.#placeholder();
    box.focus();
    box.setSelectionRange(box.value.length, box.value.length);
  }

  #placeholder() {
    return this.#mode.type === "whisper" ? "Write a private message" : "Write a message";
  }

  /** What would be sent: without blank lines around it, but with its indentation. */
  #read() {
    return this.#parts.text.value.replace(/^\s*\n/, "").trimEnd();
  }

  /** @param {string} text */
  #set(text) {
    this.#parts.text.value = text;
    this.#update();
  }

  /** @param {string} content */
  #left(content) {
    // A unit of UTF-16 is at most three bytes: most texts need no counting.
    if (content.length * 3 < this.#maxBytes * COUNT_FROM) return Infinity;
    return this.#maxBytes - utf8.encode(content).length;
  }

  #update() {
    const { text, send, counter } = this.#parts;
    const content = this.#read();
    const left = this.#left(content);
    send.disabled = content.trim() === "" || left < 0 || this.#closedBecause !== "";
    const isNear = left < this.#maxBytes * (1 - COUNT_FROM);
    counter.textContent = !isNear
      ? ""
      : left < 0
      ? `${plural(-left, "byte")} too long`
      : `${plural(left, "byte")} left`;
    counter.classList.toggle("over", left < 0);
    text.ariaInvalid = String(left < 0);
    if (!CSS.supports("field-sizing", "content")) {
      text.style.height = "auto";
      text.style.height = `${text.scrollHeight}px`;
    }
    const drafts = { say: text.value, edit: this.#kept, whisper: "" };
    tab.draft = drafts[this.#mode.type];
  }
}

/** @param {number} count @param {string} what */
function plural(count, what) {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

/**
 * Whether a text will be said, so that others may see that it is being written.
 *
 * @param {string} text
 */
function isSpeech(text) {
  return text !== "" && (!text.startsWith("/") || /^\/(me |\/)/.test(text));
}
