// @ts-check
/// <reference lib="dom" />
/**
 * The form for signing in and for creating an account.
 *
 * @module
 */

import { AccountError, register, signIn } from "./account.js";

/**
 * @typedef {object} Parts
 * @property {HTMLElement} title
 * @property {HTMLElement} intro
 * @property {HTMLFormElement} form
 * @property {HTMLElement} reason
 * @property {HTMLInputElement} name
 * @property {HTMLElement} nameError
 * @property {HTMLInputElement} password
 * @property {HTMLElement} passwordHint
 * @property {HTMLElement} passwordError
 * @property {HTMLElement} codeField Shown once the server asks for the admin code.
 * @property {HTMLInputElement} code
 * @property {HTMLElement} codeError
 * @property {HTMLElement} error
 * @property {HTMLButtonElement} submit
 * @property {HTMLButtonElement} other Switches between the two.
 */

/**
 * @typedef {object} Wishes
 * @property {() => Promise<boolean>} onSignedIn Returns whether the browser has kept the cookie.
 */

/** The texts of the form: for signing in, and for creating an account. */
const WORDS = {
  old: {
    title: "Sign in",
    intro: "Your name is yours in every room.",
    submit: "Sign in",
    busy: "Signing in…",
    other: "Create an account",
    autocomplete: /** @type {const} */ ("current-password"),
  },
  new: {
    title: "Create an account",
    intro: "Your name is yours in every room. No e-mail needed.",
    submit: "Create account",
    busy: "Creating…",
    other: "I already have an account",
    autocomplete: /** @type {const} */ ("new-password"),
  },
};

const NO_COOKIES = "Signing in needs cookies. Allow them for this page, and sign in again.";

/** The form, inside the dialog of `joining.js`. */
export class SignIn {
  /** @type {Parts} */ #parts;
  /** @type {Wishes} */ #wishes;
  /** @type {keyof typeof WORDS} */ #kind = "old";
  #intro = "";
  #isBusy = false;

  /** @param {Parts} parts @param {Wishes} wishes */
  constructor(parts, wishes) {
    this.#parts = parts;
    this.#wishes = wishes;
    parts.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    parts.other.addEventListener("click", () => {
      this.#turnTo(this.#kind === "old" ? "new" : "old");
      this.focus();
    });
  }

  /** Whether a request is pending. */
  get isBusy() {
    return this.#isBusy;
  }

  /**
   * Shows the form.
   *
   * @param {{ name?: string, reason?: string, intro?: string, isNew?: boolean }} how `reason`: why it
   *   is needed; `intro` replaces the usual text; `isNew`: shows the form for a new account
   */
  show({ name, reason = "", intro = "", isNew = false }) {
    const { form, reason: why, name: input, password } = this.#parts;
    this.#intro = intro;
    why.textContent = reason;
    if (name) input.value = name;
    password.value = "";
    this.#askForCode(false);
    form.hidden = false;
    this.#turnTo(isNew ? "new" : "old");
  }

  hide() {
    const { form, password } = this.#parts;
    form.hidden = true;
    password.value = "";
    this.#askForCode(false);
  }

  focus() {
    const { name, password } = this.#parts;
    (name.value ? password : name).focus();
  }

  /** @param {keyof typeof WORDS} kind */
  #turnTo(kind) {
    this.#kind = kind;
    if (kind === "old") this.#askForCode(false);
    const { title, intro, password, passwordHint, other } = this.#parts;
    const words = WORDS[kind];
    title.textContent = words.title;
    intro.textContent = kind === "old" && this.#intro || words.intro;
    password.autocomplete = words.autocomplete;
    passwordHint.hidden = kind === "old";
    other.textContent = words.other;
    this.#complain(undefined, "");
    this.#setBusy(false);
  }

  async #submit() {
    if (this.#isBusy) return;
    const { name: input, password: secret } = this.#parts;
    const name = input.value.normalize("NFC").trim();
    const password = secret.value;
    if (name === "") return this.#complain(input, "Type your name.");
    if (password === "") return this.#complain(secret, "Type your password.");
    this.#complain(undefined, "");
    this.#setBusy(true);
    try {
      if (this.#kind === "new") {
        await register(name, password, this.#parts.code.value.trim());
        // The account exists now, even if signing in fails.
        this.#kind = "old";
      }
      await signIn(name, password);
      if (!await this.#wishes.onSignedIn()) this.#complain(undefined, NO_COOKIES);
    } catch (error) {
      if (!(error instanceof AccountError)) throw error;
      this.#turnTo(this.#kind);
      if (this.#kind === "new" && error.status === 403) this.#askForCode(true);
      this.#complain(this.#fieldFor(error), error.message);
    } finally {
      this.#setBusy(false);
    }
  }

  /** The field that can correct the error. @param {AccountError} error */
  #fieldFor({ status, message }) {
    const { name, password, code, codeField } = this.#parts;
    if (status === 403 && !codeField.hidden) return code;
    // The server's sentences about passwords begin with these words.
    if (status === 401 || message.startsWith("The password")) return password;
    return [400, 409].includes(status) ? name : undefined;
  }

  /** @param {HTMLInputElement | undefined} field @param {string} sentence */
  #complain(field, sentence) {
    const { name, nameError, password, passwordError, code, codeError, error } = this.#parts;
    const fields = /** @type {const} */ ([
      [name, nameError],
      [password, passwordError],
      [code, codeError],
    ]);
    for (const [input, words] of fields) {
      input.removeAttribute("aria-invalid");
      words.textContent = input === field ? sentence : "";
    }
    error.textContent = field ? "" : sentence;
    field?.setAttribute("aria-invalid", "true");
    field?.focus();
    if (field === password) password.select();
  }

  /** @param {boolean} isWanted */
  #askForCode(isWanted) {
    const { code, codeField } = this.#parts;
    codeField.hidden = !isWanted;
    if (!isWanted) code.value = "";
  }

  /** @param {boolean} isBusy */
  #setBusy(isBusy) {
    this.#isBusy = isBusy;
    const { submit } = this.#parts;
    submit.disabled = isBusy;
    submit.textContent = WORDS[this.#kind][isBusy ? "busy" : "submit"];
  }
}
