// @ts-check
/// <reference lib="dom" />
/**
 * The text box: its text, its receiver or message, and the bytes left.
 *
 * @module
 */

import { isSpeech } from "../commands.js";
import { Completion } from "./completion.js";
import { refuseFiles } from "./files.js";
import { element } from "./dom.js";
import { browser } from "./memory.js";
import { suggest } from "./suggestions.js";

/**
 * What the text is: a message to the room, a private message, a new text of a message, or a reply to
 * one. `text` is the text of that message.
 *
 * @typedef {{ type: "say" }
 *   | { type: "whisper", to: string }
 *   | { type: "edit", id: string, text: string }
 *   | { type: "reply", id: string, author: string, text: string }} Mode
 */

/**
 * The unsent texts of one room. `to` is the receiver's name; `""` for the room.
 *
 * @typedef {object} Drafts
 * @property {(to: string) => string} get
 * @property {(to: string, text: string) => void} set
 */

/**
 * @typedef {object} Parts
 * @property {HTMLFormElement} form
 * @property {HTMLTextAreaElement} text
 * @property {HTMLElement} options
 * @property {HTMLElement} optionsStatus
 * @property {HTMLButtonElement} send
 * @property {HTMLElement} keys
 * @property {HTMLElement} counter
 * @property {HTMLElement} hint
 * @property {HTMLElement} mode
 * @property {HTMLElement} modeWords
 * @property {HTMLButtonElement} modeEnd
 */

/**
 * @typedef {object} Wishes
 * @property {(text: string, mode: Mode) => boolean} onSubmit Returns whether to clear the text.
 * @property {(active: boolean) => void} onTyping
 * @property {(mode: Mode) => void} onMode The mode has changed.
 * @property {() => void} onEditLast The person asks to edit the newest own message.
 * @property {() => readonly string[]} names The other people in the room.
 */

/** Part of the limit from which the bytes left are shown. */
const COUNT_FROM = 0.85;
/** Maximum code points of a quotation. */
const MAX_QUOTED = 100;
const TEXT_ONLY = "Hubbub sends text only. Put the file somewhere and send its link.";
/** Touch keyboards have no Shift + Enter. */
const touch = matchMedia("(pointer: coarse) and (not (any-pointer: fine))");
const utf8 = new TextEncoder();

/** The text box, its mode and its counter. */
export class Composer {
  /** @type {Parts} */ #parts;
  /** @type {Wishes} */ #wishes;
  /** @type {Completion} */ #completion;
  /** @type {Mode} */ #mode = { type: "say" };
  /** @type {Drafts} */ #drafts = { get: () => "", set: () => {} };
  /** Unfinished edits of each room, by the message's id. @type {WeakMap<Drafts, Map<string, string>>} */
  #edits = new WeakMap();
  /** The last mode of each room. @type {WeakMap<Drafts, Mode>} */ #modes = new WeakMap();
  #maxBytes = Infinity;
  /** Why the box is closed; `""` if it is open. */
  #closedBecause = "";

  /** @param {Parts} parts @param {Wishes} wishes */
  constructor(parts, wishes) {
    this.#parts = parts;
    this.#wishes = wishes;
    const { form, text, options, optionsStatus, keys, modeEnd } = parts;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    text.addEventListener("keydown", (event) => this.#onKey(event));
    text.addEventListener("input", () => {
      this.hint("");
      // Only public writing shows as typing.
      if (isPublic(this.#mode)) wishes.onTyping(isSpeech(this.#read()));
      this.#update();
    });
    this.#completion = new Completion(
      { text, list: options, status: optionsStatus },
      (before) => suggest(before, wishes.names(), { commands: this.#mode.type !== "edit" }),
    );
    modeEnd.addEventListener("click", () => this.#stop());
    refuseFiles(() => this.hint(TEXT_ONLY));
    if (browser.hasSent) keys.replaceChildren();
    const showEnter = () => text.enterKeyHint = touch.matches ? "enter" : "send";
    touch.addEventListener("change", showEnter);
    showEnter();
    this.#update();
  }

  /** Sets the maximum UTF-8 bytes of a message. */
  set maxBytes(/** @type {number} */ bytes) {
    this.#maxBytes = bytes;
    this.#update();
  }

  /** Closes the box and shows the reason in it; `""` opens it. */
  set closedBecause(/** @type {string} */ reason) {
    this.#closedBecause = reason;
    this.#parts.text.disabled = reason !== "";
    this.#showMode();
    this.#update();
  }

  focus() {
    this.#parts.text.focus();
  }

  /**
   * Switches to the drafts of another room. The former room keeps its drafts and unfinished edits.
   *
   * @param {Drafts} drafts
   */
  use(drafts) {
    this.#drafts = drafts;
    if (!this.#edits.has(drafts)) this.#edits.set(drafts, new Map());
    this.#become(this.#modes.get(drafts) ?? { type: "say" });
    this.hint("");
  }

  /** Switches back to messages for the room. */
  say() {
    this.#become({ type: "say" });
    this.#focusEnd();
  }

  /** @param {string} to */
  whisper(to) {
    this.#become({ type: "whisper", to });
    this.#focusEnd();
  }

  /**
   * @param {string} id
   * @param {string} text the current text of the message
   * @param {string} [draft] the unfinished new text
   */
  edit(id, text, draft) {
    if (draft !== undefined) this.#edits.get(this.#drafts)?.set(id, draft);
    this.#become({ type: "edit", id, text });
    this.#focusEnd();
  }

  /**
   * Turns the message for the room into a reply.
   *
   * @param {{ id: string, author: string, text: string }} message
   */
  reply({ id, author, text }) {
    this.#become({ type: "reply", id, author, text });
    this.#focusEnd();
  }

  /**
   * Shows a remark about the text until it changes.
   *
   * @param {string} words
   */
  hint(words) {
    if (this.#parts.hint.textContent !== words) this.#parts.hint.textContent = words;
  }

  #submit() {
    const content = this.#read();
    if (content === "" || this.#left(content) < 0 || this.#closedBecause) return;
    const mode = this.#mode;
    const drafts = this.#drafts;
    const isUnchanged = mode.type === "edit" && content === mode.text;
    if (isUnchanged) return this.#stop();
    if (!this.#wishes.onSubmit(content, mode)) return;
    this.#parts.keys.replaceChildren();
    browser.hasSent = true;
    this.#forget(drafts, mode);
    // The text may have been a command that changed the room.
    if (drafts !== this.#drafts) return;
    this.#become(mode.type === "whisper" ? mode : { type: "say" });
    this.#focusEnd();
    this.hint("");
  }

  /** Ends the mode; discards an edit. */
  #stop() {
    if (this.#mode.type === "edit") this.#forget(this.#drafts, this.#mode);
    this.say();
  }

  /** Forgets a sent or discarded text. @param {Drafts} drafts @param {Mode} mode */
  #forget(drafts, mode) {
    if (mode.type === "edit") this.#edits.get(drafts)?.delete(mode.id);
    else drafts.set(receiverOf(mode), "");
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    // Enter that ends a composition belongs to the input method; Safari marks it by the number alone.
    if (event.isComposing || event.keyCode === 229) return;
    if (this.#completion.onKey(event)) return;
    const { key, shiftKey, ctrlKey, metaKey } = event;
    if (key === "Enter" && !shiftKey && (!touch.matches || ctrlKey || metaKey)) {
      event.preventDefault();
      this.#submit();
    } else if (key === "Escape" && this.#mode.type !== "say") {
      event.preventDefault();
      this.#stop();
    } else if (key === "ArrowUp" && this.#parts.text.value === "") {
      event.preventDefault();
      this.#wishes.onEditLast();
    }
  }

  /** @param {Mode} mode */
  #become(mode) {
    this.#mode = mode;
    this.#modes.set(this.#drafts, mode);
    this.#completion.close();
    this.#parts.text.value = mode.type === "edit"
      ? this.#edits.get(this.#drafts)?.get(mode.id) ?? mode.text
      : this.#drafts.get(receiverOf(mode));
    this.#showMode();
    this.#update();
    this.#wishes.onMode(mode);
  }

  #showMode() {
    const mode = this.#mode;
    const { mode: chip, modeWords, text, modeEnd } = this.#parts;
    chip.hidden = mode.type === "say";
    chip.dataset.mode = mode.type;
    modeWords.replaceChildren(...modeLine(mode));
    modeEnd.ariaLabel = modeEnd.title = mode.type === "edit"
      ? "Stop editing"
      : mode.type === "reply"
      ? "Stop replying"
      : "Back to the room";
    text.placeholder = this.#closedBecause ||
      (mode.type === "whisper" ? "Write a private message" : "Write a message");
  }

  #focusEnd() {
    const { text } = this.#parts;
    text.focus();
    text.setSelectionRange(text.value.length, text.value.length);
  }

  /** The text to send: without blank lines around it, but with its indentation. */
  #read() {
    return this.#parts.text.value.replace(/^\s*\n/, "").trimEnd();
  }

  /** @param {string} content */
  #left(content) {
    // A UTF-16 unit has at most three bytes in UTF-8: most texts need no counting.
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
    const mode = this.#mode;
    if (mode.type === "edit") {
      if (text.value !== mode.text) this.#edits.get(this.#drafts)?.set(mode.id, text.value);
    } else this.#drafts.set(receiverOf(mode), text.value);
  }
}

/** @param {Mode} mode @returns {(Node | string)[]} */
function modeLine(mode) {
  switch (mode.type) {
    case "say":
      return [];
    case "whisper":
      return ["Only to ", element("bdi", "", mode.to)];
    case "edit":
      return ["Editing your message ", quote(mode.text)];
    case "reply":
      return ["Reply to ", element("bdi", "", mode.author), " ", quote(mode.text)];
  }
}

/** The first line of a message. @param {string} text */
function quote(text) {
  const points = [...text.trim().split("\n", 1)[0] ?? ""];
  const isLong = points.length > MAX_QUOTED;
  return element("q", "", points.slice(0, MAX_QUOTED).join("") + (isLong ? "…" : ""));
}

/** @param {Mode} mode */
function isPublic({ type }) {
  return type === "say" || type === "reply";
}

/** @param {Mode} mode */
function receiverOf(mode) {
  return mode.type === "whisper" ? mode.to : "";
}

/** @param {number} count @param {string} what */
function plural(count, what) {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}
