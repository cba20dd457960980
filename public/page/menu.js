// @ts-check
/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
/**
 * The menu: colours, the signed-in account, and the dialogs.
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
 * @property {() => void} onEncrypted Starts an encrypted room.
 * @property {() => void} onSettings
 * @property {() => void} onSwitch Asks for another name or room.
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
  /** The colours in the address apply until the person chooses others. */
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
    // A frame has a single room, and an account keeps its name.
    switchButton.hidden = isEmbedded && username !== null;
  }

  /** Shows the item for the reader's role in the shown room; hides it without a room. @param {Role | undefined} role */
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
