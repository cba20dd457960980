// @ts-check
/// <reference lib="dom" />
/**
 * The dialog in which one says who one is and which room to join, and learns why not. Knows the
 * account that is signed in; joins nothing itself.
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
 * @property {() => void} onStay The dialog was closed: one stays where one is.
 * @property {() => void} onMe Who one is for the server is known, or is another.
 * @property {() => Place | undefined} whereElse Another room in which one is, if there is one.
 * @property {(place: Place) => void} onElsewhere
 * @property {() => Promise<boolean>} onSignOut About to sign out; false if the person does not want to.
 * @property {(username: string) => void} onSignedOut As whom one was signed in.
 * @property {(words: string) => void} onStillSignedIn The server does not sign one out.
 */

const WELCOME = "Join the conversation";
/** In a frame there is no other room. */
const PICK = isEmbedded
  ? "Pick a name. No account needed."
  : "Pick a name and a room. No account needed.";
const PICK_ROOM = isEmbedded ? "" : "Pick a room.";
const ELSEWHERE = isEmbedded ? "" : "You can join another room.";
const ACCOUNTS_ONLY = "This server is for people with an account.";
const INVITED =
  "You have the link to an encrypted room. Only people with the link can read what is said there.";
/** Refusals that may have to do with who one is for the server by now. */
const ACCOUNT_CODES = new Set([401, 403, 4001, 4003]);

/** The dialog, and who one is. */
export class Joining {
  /** Who one is for the server. @type {Session} */
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
  /** Few people need it, and not at once: loaded when it is. @type {SignIn | undefined} */ #signIn;
  /** Whether the server has said who one is. */
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
      // Escape has nowhere to go while there is no room behind the dialog.
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

  /** The name to go by: the account's, or the one in the field. */
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
   *   `elsewhere`: a room other than `place` may be named, and this one stands in the field; `other`:
   *   the name under which another window of this browser is there
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
      ". With the same name, both windows are one person.",
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
   * @param {{ name?: string, reason?: string, isNew?: boolean }} [how] `reason`: why one is asked
   *   to; `isNew`: to make an account
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
    // Whatever was being asked is about a room in which one is no longer.
    for (const other of document.querySelectorAll("dialog")) if (other !== dialog) other.close();
    if (!dialog.open) dialog.showModal();
  }

  close() {
    this.#parts.dialog.close();
  }

  /** The room that the dialog names. @returns {Place} */
  get #asked() {
    const { room, roomField } = this.#parts;
    if (roomField.hidden || room.value === this.#place.room) return this.#place;
    // A phone begins every field with a capital; a room's link may name any.
    return { room: toRoom(room.value).toLowerCase(), key: "" };
  }

  /** @param {Place} place */
  #submit(place) {
    const { name, room } = this.#parts;
    if (this.name === "") return this.#complain(name, "Type your name.");
    if (place.room === "") return this.#complain(room, "Type a room.");
    this.#complain(undefined, "");
    if (isEncrypted(place)) {
      // Another try, under another name, is for the same room.
      this.#place = place;
      this.#parts.roomField.hidden = true;
    }
    this.#wishes.onJoin(place, this.name);
  }

  // ---- What comes of it ----------------------------------------------------------------------

  /**
   * Shows how the join goes, while the dialog is open.
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
   * Shows why the server refuses, at the field that can mend it.
   *
   * @param {{ reason: string, code: number }} refusal
   * @param {{ place: Place, username: string, wasIn: boolean, isStill: () => boolean }} join the one
   *   that was refused, and whether it still is
   */
  async showRefusal({ reason, code }, { place, username, wasIn, isStill }) {
    // Registering a name disconnects its guest; the form goes on.
    if (this.#signIn?.isBusy) return;
    if (ACCOUNT_CODES.has(code)) await this.learnSession();
    if (this.#signIn?.isBusy || !isStill()) return;
    if ([401, 4001].includes(code) && this.me.username === null) {
      this.#place = place;
      return this.askToSignIn({ name: username, reason });
    }
    const { name, room, roomField } = this.#parts;
    // The server's sentences about names begin with which of the two they are about.
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
   * @param {HTMLInputElement | undefined} field Nothing when no field is to blame.
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

  // ---- Who one is ----------------------------------------------------------------------------

  /** Asks the server who one is, if it has not said so yet. */
  async knowSession() {
    if (!this.#knowsMe) await this.learnSession();
  }

  /** Asks the server who one is. Where it cannot tell, all stays as it was. */
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

  /** @returns {Promise<boolean>} whether the browser has kept the proof */
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
