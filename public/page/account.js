// @ts-check
/// <reference lib="dom" />
/**
 * Requests about accounts and room settings. The session is a cookie that no script can read. Uses no
 * DOM.
 *
 * @module
 */

import { ROOT } from "./address.js";
import { isEmbedded } from "./embedding.js";

/**
 * @typedef {object} Session
 * @property {string | null} username The name of the signed-in account, if any.
 * @property {boolean} guests Whether the server admits people without an account.
 */

/**
 * The settings of a room.
 *
 * @typedef {object} RoomSettings
 * @property {boolean} private
 * @property {string | null} owner The name of the owner's account.
 * @property {string[]} moderators The names of the moderators' accounts.
 * @property {string[]} [members] Present if the reader may change the room.
 * @property {string[]} [bans] Present if the reader may change the room.
 */

/** How long the server may take to answer: a page that waits longer seems broken. */
const PATIENCE_MS = 10_000;

const NO_ANSWER = "The server does not answer. Try again in a moment.";

/** The server refused a request. The message is its sentence. */
export class AccountError extends Error {
  /** @override */
  name = "AccountError";
  /** @param {string} sentence @param {number} status the HTTP status; 0 for no answer */
  constructor(sentence, status) {
    super(sentence);
    this.status = status;
  }
}

/** @returns {Promise<Session>} @throws {AccountError} */
export async function readSession() {
  return await call("GET", "session");
}

/**
 * @param {string} username
 * @param {string} password
 * @param {string} adminCode the code for an admin's name; `""` for any other name
 * @throws {AccountError}
 */
export async function register(username, password, adminCode) {
  await call("POST", "register", {
    username,
    password,
    ...(adminCode && { admin_code: adminCode }),
  });
}

/** @param {string} username @param {string} password @throws {AccountError} */
export async function signIn(username, password) {
  await call("POST", "login", { username, password });
}

/** @throws {AccountError} */
export async function signOut() {
  await call("POST", "logout");
}

/**
 * Reads the settings of a room, as far as the reader may see them.
 *
 * @param {string} room
 * @returns {Promise<RoomSettings>}
 * @throws {AccountError}
 */
export async function readRoom(room) {
  return await call("GET", `rooms/${encodeURIComponent(room)}`);
}

/**
 * @param {string} method
 * @param {string} path
 * @param {object} [body]
 * @returns {Promise<any>}
 */
async function call(method, path, body) {
  let response;
  let answer;
  try {
    response = await fetch(new URL(`api/${path}${isEmbedded ? "?embed=1" : ""}`, ROOT), {
      method,
      signal: AbortSignal.timeout(PATIENCE_MS),
      ...(body && {
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      }),
    });
    const text = await response.text();
    answer = text === "" ? undefined : JSON.parse(text);
  } catch {
    throw new AccountError(NO_ANSWER, 0);
  }
  if (!response.ok) throw new AccountError(answer?.error ?? NO_ANSWER, response.status);
  return answer;
}
