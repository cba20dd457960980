// @ts-check
/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
/**
 * The menu: colours, who one is, and the ways to other dialogs.
 *
 * @module
 */

import { get } from "./dom.js";
import { askedTheme, isEmbedded } from "./embedding.js";
import { browser } from "./memory.js";

/** @import { Session } from "./account.js" */
/** @import { Role } from "../../lib/protocol/events.ts" */

/**
 * @typedef {object} Wishes
 * @property {() => void} onEncrypted A new encrypted room is wanted.
 * @property {() => void} onSettings
 * @property {() => void} onSwitch Another name or room is wanted.
 * @property {() => void} onSignIn
 * @property {() => void} onSignOut
 * @property {() => void} onLeave
 */

/** The menu of the page. */
export class Menu {
  #parts = {
    menu: get("menu", HTMLElement),
    theme: get("theme", HTMLFieldSetElement),
    settings: get("settings", HTMLButtonElement),
    settingsWords: get("settings-words", HTMLElement),
    switchButton: get("switch", HTMLButtonElement),
    switchWords: get("switch-words", HTMLElement),
    signIn: get("sign-in", HTMLButtonElement),
    me: get("me", HTMLElement),
    meName: get("me-name", HTMLElement),
  };
  /** The address counts until the person chooses. */
  #shownTheme = askedTheme || browser.theme;

  /** @param {Wishes} wishes */
  constructor(wishes) {
    const { theme, settings, signIn, switchButton } = this.#parts;
    this.#on(get("private", HTMLButtonElement), wishes.onEncrypted);
    this.#on(settings, wishes.onSettings);
    this.#on(switchButton, wishes.onSwitch);
    this.#on(signIn, wishes.onSignIn);
    this.#on(get("sign-out", HTMLButtonElement), wishes.onSignOut);
    this.#on(get("leave", HTMLButtonElement), wishes.onLeave);
    theme.addEventListener("change", ({ target }) => {
      if (!(target instanceof HTMLInputElement)) return;
      browser.theme = this.#shownTheme = asTheme(target.value);
      this.#showTheme();
    });
    this.#showTheme();
  }

  /** @param {HTMLButtonElement} button @param {() => void} act */
  #on(button, act) {
    button.addEventListener("click", () => {
      const { menu } = this.#parts;
      if (menu.matches(":popover-open")) menu.hidePopover();
      act();
    });
  }

  /** @param {Session} me */
  showMe({ username }) {
    const { me, meName, signIn, switchButton, switchWords } = this.#parts;
    me.hidden = username === null;
    meName.textContent = username ?? "";
    signIn.hidden = username !== null;
    switchWords.textContent = isEmbedded
      ? "Change name"
      : username === null
      ? "Change name or room"
      : "Change room";
    // A room in a frame is the only one, and the name of an account stays.
    switchButton.hidden = isEmbedded && username !== null;
  }

  /** What one may do in the room that is shown; nothing where none is. @param {Role | undefined} role */
  showRole(role) {
    const { settings, settingsWords } = this.#parts;
    settings.hidden = role === undefined;
    const mayChange = role === "owner" || role === "admin";
    settingsWords.textContent = mayChange ? "Room settings" : "About this room";
  }

  #showTheme() {
    document.documentElement.style.colorScheme = this.#shownTheme || "light dark";
    for (const radio of this.#parts.theme.querySelectorAll("input")) {
      radio.checked = radio.value === this.#shownTheme;
    }
  }
}

/** @param {string} value */
function asTheme(value) {
  return value === "light" || value === "dark" ? value : "";
}
