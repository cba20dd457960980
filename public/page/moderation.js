// @ts-check
/// <reference lib="dom" />
/**
 * The two dialogs of those who look after a room: to remove somebody, and to say who may come in.
 *
 * @module
 */

import { readRoom } from "./account.js";
import { element } from "./dom.js";

/** @import { Connection } from "../connection.js" */

/**
 * @typedef {object} KickParts
 * @property {HTMLDialogElement} dialog
 * @property {HTMLFormElement} form
 * @property {HTMLElement} title
 * @property {HTMLInputElement} reason
 * @property {HTMLInputElement} ban
 * @property {HTMLElement} error
 * @property {HTMLButtonElement} submit
 * @property {HTMLButtonElement} cancel
 */

/** Removes somebody. */
export class KickDialog {
  /** @type {KickParts} */ #parts;
  /** @type {(words: string) => void} */ #tell;
  /** @type {Connection | undefined} */ #connection;
  #name = "";

  /** @param {KickParts} parts @param {(words: string) => void} tell */
  constructor(parts, tell) {
    this.#parts = parts;
    this.#tell = tell;
    const { dialog, form, cancel } = parts;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    cancel.addEventListener("click", () => dialog.close());
  }

  /** @param {Connection} connection @param {string} name */
  open(connection, name) {
    const { dialog, form, title, error, submit } = this.#parts;
    this.#connection = connection;
    this.#name = name;
    form.reset();
    error.textContent = "";
    submit.disabled = false;
    title.replaceChildren("Remove ", element("bdi", "", name), "?");
    dialog.showModal();
  }

  async #submit() {
    const { dialog, reason, ban, error, submit } = this.#parts;
    submit.disabled = true;
    error.textContent = "";
    try {
      await this.#connection?.kick(this.#name, { reason: reason.value.trim(), ban: ban.checked });
      dialog.close();
      this.#tell(`${this.#name} was ${ban.checked ? "banned" : "removed"}`);
    } catch (problem) {
      error.textContent = sentenceOf(problem);
      submit.disabled = false;
    }
  }
}

/**
 * @typedef {object} SettingsParts
 * @property {HTMLDialogElement} dialog
 * @property {HTMLFormElement} form
 * @property {HTMLElement} claim
 * @property {HTMLInputElement} closed
 * @property {HTMLElement} membersField
 * @property {HTMLTextAreaElement} members
 * @property {HTMLElement} bansField
 * @property {HTMLElement} bans
 * @property {HTMLElement} error
 * @property {HTMLButtonElement} submit
 * @property {HTMLButtonElement} cancel
 */

/** Says who may come in. */
export class SettingsDialog {
  /** @type {SettingsParts} */ #parts;
  /** @type {() => void} */ #onSaved;
  /** @type {Connection | undefined} */ #connection;
  /** What the server had when the dialog was opened, as far as it is known. */
  #before = { private: false, members: "" };

  /** @param {SettingsParts} parts @param {() => void} onSaved */
  constructor(parts, onSaved) {
    this.#parts = parts;
    this.#onSaved = onSaved;
    const { dialog, form, closed, cancel } = parts;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    closed.addEventListener("change", () => this.#showMembers());
    cancel.addEventListener("click", () => dialog.close());
  }

  /** @param {Connection} connection */
  async open(connection) {
    const { dialog, claim, error, submit } = this.#parts;
    this.#connection = connection;
    claim.hidden = connection.role !== "member";
    error.textContent = "";
    submit.disabled = false;
    this.#show({ private: connection.isPrivate, members: [], bans: [] });
    // An admin who asks for the settings of a room without an owner would become its owner.
    if (connection.role === "owner" || connection.isPrivate) {
      try {
        this.#show(await readRoom(connection.room));
      } catch (problem) {
        error.textContent = sentenceOf(problem);
        submit.disabled = true;
      }
    }
    if (!dialog.open) dialog.showModal();
  }

  /** @param {import("./account.js").RoomSettings} settings */
  #show({ private: isPrivate, members, bans }) {
    const parts = this.#parts;
    parts.closed.checked = isPrivate;
    parts.members.value = members.join("\n");
    this.#before = { private: isPrivate, members: parts.members.value };
    parts.bansField.hidden = bans.length === 0;
    parts.bans.replaceChildren(...bans.map((name) => {
      const box = element("input", "");
      box.type = "checkbox";
      box.value = name;
      return element("label", "check", box, element("bdi", "", name));
    }));
    this.#showMembers();
  }

  #showMembers() {
    this.#parts.membersField.hidden = !this.#parts.closed.checked;
  }

  async #submit() {
    const { dialog, closed, members, bans, error, submit } = this.#parts;
    const before = this.#before;
    const unban = [...bans.querySelectorAll("input")].filter(({ checked }) => checked)
      .map(({ value }) => value);
    const change = {
      ...(closed.checked !== before.private && { private: closed.checked }),
      ...(members.value !== before.members && { members: namesIn(members.value) }),
      ...(unban.length > 0 && { unban }),
    };
    if (Object.keys(change).length === 0) return dialog.close();
    submit.disabled = true;
    error.textContent = "";
    try {
      await this.#connection?.setRoom(change);
      dialog.close();
      this.#onSaved();
    } catch (problem) {
      error.textContent = sentenceOf(problem);
      submit.disabled = false;
    }
  }
}

/** One a line; a comma, which no name can have, does as well. @param {string} text */
function namesIn(text) {
  return text.split(/[\n,]/).map((name) => name.trim()).filter((name) => name !== "");
}

/** @param {unknown} problem */
function sentenceOf(problem) {
  return problem instanceof Error ? problem.message : String(problem);
}
