// @ts-check
/// <reference lib="dom" />
/**
 * The dialogs of moderation: one removes a person, the other shows and changes a room's settings.
 *
 * @module
 */

import { readRoom } from "./account.js";
import { DEFAULT_ROOM } from "./address.js";
import { element, get } from "./dom.js";

/** @import { RoomSettings } from "./account.js" */
/** @import { Connection } from "../connection.js" */

/** The dialog that removes a person from the room. */
export class KickDialog {
  #parts = {
    dialog: get("kick", HTMLDialogElement),
    form: get("kick-form", HTMLFormElement),
    title: get("kick-title", HTMLElement),
    reason: get("kick-reason", HTMLInputElement),
    ban: get("kick-ban", HTMLInputElement),
    error: get("kick-error", HTMLElement),
    submit: get("kick-button", HTMLButtonElement),
    cancel: get("kick-cancel", HTMLButtonElement),
  };
  /** Gets the focus afterwards: the removed person's button is gone. @type {HTMLElement} */
  #elsewhere;
  /** @type {(words: string) => void} */ #tell;
  /** @type {Connection | undefined} */ #connection;
  #name = "";

  /**
   * @param {HTMLElement} elsewhere gets the focus after a removal
   * @param {(words: string) => void} tell
   */
  constructor(elsewhere, tell) {
    this.#elsewhere = elsewhere;
    this.#tell = tell;
    const { dialog, form, cancel } = this.#parts;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    cancel.addEventListener("click", () => dialog.close());
  }

  /** Closes the dialog: another room is shown. */
  close() {
    this.#parts.dialog.close();
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
      this.#elsewhere.focus();
      this.#tell(`${this.#name} was ${ban.checked ? "banned" : "removed"}`);
    } catch (problem) {
      error.textContent = sentenceOf(problem);
      submit.disabled = false;
    }
  }
}

/**
 * The dialog with a room's settings. Its owner and admins change the moderators and the members; an
 * account can take a room without an owner.
 */
export class SettingsDialog {
  #parts = {
    dialog: get("room-settings", HTMLDialogElement),
    title: get("room-settings-title", HTMLElement),
    owner: get("room-owner", HTMLElement),
    moderatorsFact: get("room-moderators-fact", HTMLElement),
    moderatorNames: get("room-moderators", HTMLElement),
    accessFact: get("room-access-fact", HTMLElement),
    access: get("room-access", HTMLElement),
    claim: get("claim", HTMLElement),
    form: get("room-settings-form", HTMLFormElement),
    fields: get("room-settings-fields", HTMLElement),
    moderators: get("moderators", HTMLTextAreaElement),
    closed: get("closed", HTMLInputElement),
    membersField: get("members-field", HTMLElement),
    members: get("members", HTMLTextAreaElement),
    bansField: get("bans-field", HTMLElement),
    bans: get("bans", HTMLElement),
    error: get("room-settings-error", HTMLElement),
    submit: get("room-settings-button", HTMLButtonElement),
    cancel: get("room-settings-cancel", HTMLButtonElement),
  };
  /** @type {(words: string) => void} */ #onSaved;
  /** @type {Connection | undefined} */ #connection;
  /** The account that may take the room, if any. @type {string | undefined} */ #taker;
  /** The settings when the dialog opened. */
  #before = { private: false, moderators: "", members: "" };

  /** @param {(words: string) => void} onSaved */
  constructor(onSaved) {
    this.#onSaved = onSaved;
    const { dialog, form, closed, cancel } = this.#parts;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    closed.addEventListener("change", () => this.#showMembers());
    cancel.addEventListener("click", () => dialog.close());
  }

  /** Closes the dialog: another room is shown. */
  close() {
    this.#connection = undefined;
    this.#parts.dialog.close();
  }

  /**
   * @param {Connection} connection
   * @param {string | null} account the name of the signed-in account, if any
   */
  async open(connection, account) {
    const { dialog, error } = this.#parts;
    this.#connection = connection;
    error.textContent = "";
    try {
      const settings = await readRoom(connection.room);
      // The dialog may have opened for another room meanwhile.
      if (this.#connection !== connection) return;
      const isFree = settings.owner === null && connection.room !== DEFAULT_ROOM;
      this.#show(settings, isFree ? account ?? undefined : undefined);
    } catch (problem) {
      if (this.#connection !== connection) return;
      this.#show({ private: connection.isPrivate, owner: null, moderators: [] }, undefined);
      this.#parts.owner.textContent = this.#parts.moderatorNames.textContent = "Unknown";
      error.textContent = sentenceOf(problem);
    }
    if (!dialog.open) dialog.showModal();
  }

  /** @param {RoomSettings} settings @param {string | undefined} taker */
  #show({ private: isPrivate, owner, moderators, members, bans = [] }, taker) {
    const parts = this.#parts;
    const mayChange = members !== undefined;
    this.#taker = mayChange ? undefined : taker;
    parts.title.textContent = mayChange ? "Room settings" : "About this room";
    parts.owner.replaceChildren(owner === null ? "Nobody" : element("bdi", "", owner));
    parts.moderatorNames.replaceChildren(
      ...moderators.flatMap((name, i) => [i === 0 ? "" : ", ", element("bdi", "", name)]),
    );
    if (moderators.length === 0) parts.moderatorNames.textContent = "None";
    parts.access.textContent = isPrivate ? "Members only" : "Everyone";
    parts.moderatorsFact.hidden = parts.accessFact.hidden = mayChange;
    parts.claim.hidden = this.#taker === undefined;
    parts.fields.hidden = !mayChange;
    parts.submit.hidden = !mayChange && this.#taker === undefined;
    parts.submit.disabled = false;
    parts.submit.textContent = mayChange ? "Save" : "Take this room";
    parts.cancel.textContent = parts.submit.hidden ? "Close" : "Cancel";
    parts.closed.checked = isPrivate;
    parts.moderators.value = moderators.join("\n");
    parts.members.value = (members ?? []).join("\n");
    this.#before = {
      private: isPrivate,
      moderators: parts.moderators.value,
      members: parts.members.value,
    };
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
    const { dialog, closed, error, submit } = this.#parts;
    const connection = this.#connection;
    const taker = this.#taker;
    const change = taker === undefined ? this.#readChange() : { owner: taker };
    if (connection === undefined || Object.keys(change).length === 0) return dialog.close();
    submit.disabled = true;
    error.textContent = "";
    try {
      await connection.setRoom(change);
      if (taker === undefined) dialog.close();
      else {
        // The settings of its owner come next.
        await this.open(connection, taker);
        closed.focus();
      }
      this.#onSaved(taker === undefined ? "Room settings saved" : "This room is yours now");
    } catch (problem) {
      error.textContent = sentenceOf(problem);
      submit.disabled = false;
    }
  }

  #readChange() {
    const { moderators, closed, members, bans } = this.#parts;
    const before = this.#before;
    const unban = [...bans.querySelectorAll("input")].filter(({ checked }) => checked)
      .map(({ value }) => value);
    return {
      ...(moderators.value !== before.moderators && { moderators: namesIn(moderators.value) }),
      ...(closed.checked !== before.private && { private: closed.checked }),
      ...(members.value !== before.members && { members: namesIn(members.value) }),
      ...(unban.length > 0 && { unban }),
    };
  }
}

/** The names in a text, separated by lines or commas: no name has a comma. @param {string} text */
function namesIn(text) {
  return text.split(/[\n,]/).map((name) => name.trim()).filter((name) => name !== "");
}

/** @param {unknown} problem */
function sentenceOf(problem) {
  return problem instanceof Error ? problem.message : String(problem);
}
