// @ts-check
/// <reference lib="dom" />
/**
 * The dialog that asks for a name and a room, and shows why the server refuses. Knows the signed-in
 * account; leaves the joining to `onJoin`.
 *
 * @module
 */

import { AccountError, readSession, signOut } from "./account.js";
import {
  DEFAULT_ROOM,
  isEncrypted,
  keyTroubleOf,
  newEncryptedPlace,
  titleOf,
  toRoom,
  whyNoEncryption,
} from "./address.js";
import { element, get } from "./dom.js";
import { isEmbedded } from "./embedding.js";
import { browser } from "./memory.js";

/** @import { Session } from "./account.js" */
/** @import { ConnectionState } from "../connection.js" */
/** @import { Place } from "./address.js" */
/** @import { SignIn } from "./sign_in.js" */
/** @import { Visit } from "./visit.js" */

/**
 * @typedef {object} Wishes
 * @property {(place: Place, name: string) => void} onJoin
 * @property {() => void} onStay The person closed the dialog and stays in the current room.
 * @property {() => void} onMe The session is known, or has changed.
 * @property {() => Place | undefined} whereElse Another joined room, if there is one.
 * @property {(place: Place) => void} onElsewhere
 * @property {() => Promise<boolean>} onSignOut Asks before signing out; false to stay signed in.
 * @property {(username: string) => void} onSignedOut Gets the name of the account.
 * @property {(words: string) => void} onStillSignedIn The server did not sign the account out.
 */

const WELCOME = "Join the conversation";
/** A frame has a single room. */
const PICK = isEmbedded
  ? "Pick a name. No account needed."
  : "Pick a name and a room. No account needed.";
const PICK_ROOM = isEmbedded ? "" : "Pick a room.";
const ELSEWHERE = isEmbedded ? "" : "You can join another room.";
const ACCOUNTS_ONLY = "You need an account to use this server.";
const INVITED =
  "You have the link to an encrypted room. Only people with the link can read its messages.";
/** Refusals that a changed session may explain. */
const ACCOUNT_CODES = new Set([401, 403, 4001, 4003]);

/** The dialog and the session. */
export class Joining {
  /** The session with the server. @type {Session} */
  me = { username: null, guests: true };

  #parts = {
    dialog: get("join", HTMLDialogElement),
    form: get("join-form", HTMLFormElement),
    title: get("join-title", HTMLElement),
    intro: get("join-intro", HTMLElement),
    reason: get("join-reason", HTMLElement),
    name: get("name", HTMLInputElement),
    nameField: get("name-field", HTMLElement),
    nameHint: get("name-hint", HTMLElement),
    nameError: get("name-error", HTMLElement),
    room: get("room", HTMLInputElement),
    roomField: get("room-field", HTMLElement),
    roomError: get("room-error", HTMLElement),
    me: get("join-me", HTMLElement),
    meName: get("join-me-name", HTMLElement),
    account: get("join-account", HTMLElement),
    guest: get("account-guest", HTMLButtonElement),
    error: get("join-error", HTMLElement),
    submit: get("join-button", HTMLButtonElement),
    encrypted: get("join-private", HTMLButtonElement),
    cancel: get("join-cancel", HTMLButtonElement),
  };
  /** @type {Wishes} */ #wishes;
  /** Loaded at its first use: few people need it. @type {SignIn | undefined} */ #signIn;
  /** Whether the server has reported the session. */
  #knowsMe = false;
  /** The room in question. @type {Place} */ #place = { room: DEFAULT_ROOM, key: "" };
  /** The visit behind the dialog. @type {() => Visit | undefined} */ #behind;

  /** @param {() => Visit | undefined} behind the visit that the page shows @param {Wishes} wishes */
  constructor(behind, wishes) {
    this.#behind = behind;
    this.#wishes = wishes;
    this.#listen();
  }

  #listen() {
    const { dialog, form, name, reason, guest, encrypted, cancel } = this.#parts;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      reason.textContent = "";
      this.#submit(this.#asked);
    });
    get("join-sign-in", HTMLButtonElement).addEventListener("click", () => {
      this.askToSignIn({ name: name.value });
    });
    get("join-register", HTMLButtonElement).addEventListener("click", () => {
      this.askToSignIn({ name: name.value, isNew: true });
    });
    get("join-sign-out", HTMLButtonElement).addEventListener("click", () => this.signOut());
    guest.addEventListener("click", () => {
      if (this.#isBehindLive) dialog.close();
      else this.ask(this.#place);
    });
    encrypted.addEventListener("click", () => this.#submit(newEncryptedPlace()));
    cancel.addEventListener("click", () => dialog.close());
    dialog.addEventListener("cancel", (event) => {
      // Without a joined room, there is nothing behind the dialog.
      if (!this.#isBehindLive && !this.#wishes.whereElse()) event.preventDefault();
    });
    dialog.addEventListener("close", () => {
      const state = this.#behind()?.state.state ?? "closed";
      const isNowhere = state === "closed" || state === "refused";
      const elsewhere = this.#wishes.whereElse();
      if (isNowhere && elsewhere) this.#wishes.onElsewhere(elsewhere);
      else if (isNowhere) dialog.showModal();
      else this.#wishes.onStay();
    });
  }

  get isOpen() {
    return this.#parts.dialog.open;
  }

  get #isBehindLive() {
    return this.#behind()?.isLive ?? false;
  }

  /** The name to join under: the account's, or the one in the field. */
  get name() {
    return this.me.username ?? this.#parts.name.value.normalize("NFC").trim();
  }

  /** @param {string} name */
  set name(name) {
    this.#parts.name.value = name;
  }

  // ---- Asking --------------------------------------------------------------------------------

  /**
   * Asks for a name and a room.
   *
   * @param {Place} place
   * @param {{ title?: string, intro?: string, elsewhere?: string, other?: string }} [how]
   *   `elsewhere`: lets the person choose the room, and is the first value of the field; `other`: the
   *   name that another window of this browser has in the room
   */
  ask(place, { title = "", intro = "", elsewhere, other: twin = "" } = {}) {
    this.#place = place;
    if (!this.me.guests && this.me.username === null) return this.askToSignIn();
    const parts = this.#parts;
    const isInvited = isEncrypted(place) && elsewhere === undefined;
    const isGuest = this.me.username === null;
    parts.title.textContent = title || (isInvited ? "Join an encrypted room" : WELCOME);
    parts.intro.textContent = intro ||
      (isInvited ? keyTroubleOf(place) || INVITED : isGuest ? PICK : PICK_ROOM);
    parts.room.value = elsewhere ?? place.room;
    parts.roomField.hidden = isInvited || isEmbedded;
    parts.encrypted.hidden = parts.roomField.hidden || whyNoEncryption() !== "";
    const other = this.#wishes.whereElse();
    parts.cancel.hidden = !this.#isBehindLive && !other;
    parts.cancel.textContent = this.#isBehindLive || !other
      ? "Stay in this room"
      : `Go to ${titleOf(other.room)}`;
    parts.nameField.hidden = parts.account.hidden = !isGuest;
    if (twin !== "" && isGuest) parts.name.value = `${twin} 2`;
    parts.nameHint.hidden = twin === "";
    parts.nameHint.replaceChildren(
      "In another window you are here as ",
      element("bdi", "", twin),
      ". Use that name to be one person in both windows.",
    );
    this.#complain(undefined, "");
    parts.reason.textContent = "";
    this.#signIn?.hide();
    parts.form.hidden = false;
    this.#open();
    this.showState({ state: "closed" });
    if (elsewhere !== undefined && !isEmbedded) {
      (isGuest && elsewhere ? parts.name : parts.room).focus();
    } else (parts.name.value || !isGuest ? parts.submit : parts.name).focus();
  }

  /**
   * Shows the form for signing in.
   *
   * @param {{ name?: string, reason?: string, isNew?: boolean }} [how] `reason`: why it is needed;
   *   `isNew`: shows the form for a new account
   */
  async askToSignIn(how = {}) {
    const { form, guest } = this.#parts;
    try {
      this.#signIn ??= await this.#loadSignIn();
    } catch {
      return this.#complain(undefined, "The server does not answer. Try again in a moment.");
    }
    form.hidden = true;
    this.#signIn.show({ ...how, intro: this.me.guests ? "" : ACCOUNTS_ONLY });
    guest.hidden = !this.me.guests && !this.#isBehindLive;
    guest.textContent = this.#isBehindLive ? "Stay in this room" : "Continue without an account";
    this.#open();
    this.#signIn.focus();
  }

  async #loadSignIn() {
    const { SignIn } = await import("./sign_in.js");
    return new SignIn({
      title: this.#parts.title,
      intro: this.#parts.intro,
      form: get("account-form", HTMLFormElement),
      reason: get("account-reason", HTMLElement),
      name: get("account-name", HTMLInputElement),
      nameError: get("account-name-error", HTMLElement),
      password: get("password", HTMLInputElement),
      passwordHint: get("password-hint", HTMLElement),
      passwordError: get("password-error", HTMLElement),
      codeField: get("admin-code-field", HTMLElement),
      code: get("admin-code", HTMLInputElement),
      codeError: get("admin-code-error", HTMLElement),
      error: get("account-error", HTMLElement),
      submit: get("account-button", HTMLButtonElement),
      other: get("account-other", HTMLButtonElement),
    }, { onSignedIn: () => this.#onSignedIn() });
  }

  #open() {
    const { dialog } = this.#parts;
    for (const popover of document.querySelectorAll("[popover]:popover-open:not(.toast)")) {
      /** @type {HTMLElement} */ (popover).hidePopover();
    }
    // Other dialogs are about the room that the person left.
    for (const other of document.querySelectorAll("dialog")) if (other !== dialog) other.close();
    if (!dialog.open) dialog.showModal();
  }

  close() {
    this.#parts.dialog.close();
  }

  /** The room in the dialog. @returns {Place} */
  get #asked() {
    const { room, roomField } = this.#parts;
    if (roomField.hidden || room.value === this.#place.room) return this.#place;
    // Phones capitalise the first letter of a field; a link keeps its capitals.
    return { room: toRoom(room.value).toLowerCase(), key: "" };
  }

  /** @param {Place} place */
  #submit(place) {
    const { name, room } = this.#parts;
    if (this.name === "") return this.#complain(name, "Type your name.");
    if (place.room === "") return this.#complain(room, "Type the name of a room.");
    this.#complain(undefined, "");
    if (isEncrypted(place)) {
      // The next attempt, under another name, joins the same room.
      this.#place = place;
      this.#parts.roomField.hidden = true;
    }
    this.#wishes.onJoin(place, this.name);
  }

  // ---- Results -------------------------------------------------------------------------------

  /**
   * Shows the state of the join while the dialog is open.
   *
   * @param {ConnectionState} state
   */
  showState(state) {
    if (!this.isOpen) return;
    const { submit } = this.#parts;
    submit.disabled = state.state === "connecting";
    submit.textContent = state.state === "connecting" ? "Joining…" : "Join";
    if (state.state !== "reconnecting") return;
    this.#complain(undefined, `${state.reason || "The server does not answer."} Still trying.`);
  }

  /**
   * Shows a refusal at the field that can correct it.
   *
   * @param {{ reason: string, code: number }} refusal
   * @param {{ place: Place, username: string, wasIn: boolean, isStill: () => boolean }} join the
   *   refused join; `isStill` tells whether the refusal still counts
   */
  async showRefusal({ reason, code }, { place, username, wasIn, isStill }) {
    // Registering a name disconnects its guest; the form continues.
    if (this.#signIn?.isBusy) return;
    if (ACCOUNT_CODES.has(code)) await this.learnSession();
    if (this.#signIn?.isBusy || !isStill()) return;
    if ([401, 4001].includes(code) && this.me.username === null) {
      this.#place = place;
      return this.askToSignIn({ name: username, reason });
    }
    const { name, room, roomField } = this.#parts;
    // The server's sentences about a room's name begin with these words.
    const aboutRoom = code === 400 && reason.startsWith("The room");
    const isGuest = this.me.username === null;
    const aboutName = [400, 409, 4009].includes(code) && !aboutRoom && isGuest;
    if (wasIn) {
      const title = `You are no longer in ${titleOf(place.room)}`;
      this.ask(place, { title, intro: ELSEWHERE });
      room.select();
    } else if (!this.isOpen) this.ask(place);
    if (aboutName) return this.#complain(name, reason);
    if (aboutRoom && !roomField.hidden) return this.#complain(room, reason);
    this.#complain(undefined, "");
    this.#parts.reason.textContent = reason;
  }

  /**
   * @param {HTMLInputElement | undefined} field the field to correct, if there is one
   * @param {string} sentence
   */
  #complain(field, sentence) {
    const { name, nameError, room, roomError, error: other } = this.#parts;
    for (const [input, error] of /** @type {const} */ ([[name, nameError], [room, roomError]])) {
      input.removeAttribute("aria-invalid");
      error.textContent = input === field ? sentence : "";
    }
    other.textContent = field ? "" : sentence;
    field?.setAttribute("aria-invalid", "true");
    field?.focus();
  }

  // ---- The session ---------------------------------------------------------------------------

  /** Reads the session if it is not known yet. */
  async knowSession() {
    if (!this.#knowsMe) await this.learnSession();
  }

  /** Reads the session. Keeps the old one if the server does not answer. */
  async learnSession() {
    try {
      this.me = await readSession();
      this.#knowsMe = true;
    } catch (error) {
      if (!(error instanceof AccountError)) throw error;
    }
    this.#showMe();
  }

  #showMe() {
    const { me, meName } = this.#parts;
    me.hidden = this.me.username === null;
    meName.textContent = this.me.username ?? "";
    this.#wishes.onMe();
  }

  /** @returns {Promise<boolean>} whether the browser has kept the cookie */
  async #onSignedIn() {
    await this.learnSession();
    if (this.me.username === null) return false;
    const next = this.#asked;
    this.ask(this.#place);
    this.#submit(next.room === "" ? this.#place : next);
    return true;
  }

  /** Signs out, if the person and the server agree. */
  async signOut() {
    const { username } = this.me;
    const place = this.#behind()?.place ?? this.#place;
    if (username === null || !await this.#wishes.onSignOut()) return;
    try {
      await signOut();
    } catch (error) {
      return this.#wishes.onStillSignedIn(error instanceof Error ? error.message : String(error));
    }
    this.#wishes.onSignedOut(username);
    await this.learnSession();
    this.name = browser.name;
    const next = isEncrypted(place) ? { room: DEFAULT_ROOM, key: "" } : place;
    this.ask(next, { title: "You are signed out" });
  }
}
