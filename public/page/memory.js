// @ts-check
/// <reference lib="dom" />
/**
 * What this browser remembers: a name, who it was in which room, and what a tab was doing. Storage
 * may be switched off: then nothing is remembered, and all else works.
 *
 * @module
 */

/** @import { Unsent } from "../connection.js" */

/** Rooms of which the session is kept. */
const MAX_SESSIONS = 50;

/**
 * Where a tab was, and what it had still to say.
 *
 * @typedef {{ room: string, username: string, unsent: Unsent[] }} Place
 */

/** Kept for all tabs, and over the end of the browser. */
export const browser = {
  get name() {
    return read("localStorage", "hubbub.name");
  },
  set name(name) {
    write("localStorage", "hubbub.name", name);
  },

  /** Whether the person wants to be told of mentions. */
  get notifies() {
    return read("localStorage", "hubbub.notify") === "yes";
  },
  set notifies(isSo) {
    write("localStorage", "hubbub.notify", isSo ? "yes" : "");
  },

  /** Whether the person has sent a message, and so knows how. */
  get hasSent() {
    return read("localStorage", "hubbub.sent") === "yes";
  },
  set hasSent(isSo) {
    write("localStorage", "hubbub.sent", isSo ? "yes" : "");
  },

  /** `light` or `dark`, or nothing for what the system says. */
  get theme() {
    const theme = read("localStorage", "hubbub.theme");
    return theme === "light" || theme === "dark" ? theme : "";
  },
  set theme(theme) {
    write("localStorage", "hubbub.theme", theme);
  },

  /**
   * The secret that makes another tab the same person.
   *
   * @param {string} room
   * @param {string} username
   * @returns {string | undefined}
   */
  session(room, username) {
    return sessions().find((kept) => kept.room === room && kept.username === username)?.session;
  },

  /** @param {string} room @param {string} username @param {string} session */
  keepSession(room, username, session) {
    const others = sessions().filter((kept) => kept.room !== room || kept.username !== username);
    const kept = [{ room, username, session }, ...others].slice(0, MAX_SESSIONS);
    write("localStorage", "hubbub.sessions", JSON.stringify(kept));
  },
};

/** Kept for this tab alone, and over its reload. */
export const tab = {
  get draft() {
    return read("sessionStorage", "hubbub.draft");
  },
  set draft(draft) {
    write("sessionStorage", "hubbub.draft", draft);
  },

  /** @returns {Place | undefined} */
  get place() {
    const { room, username, unsent } = Object(parse(read("sessionStorage", "hubbub.place")));
    if (typeof room !== "string" || typeof username !== "string") return undefined;
    return { room, username, unsent: Array.isArray(unsent) ? unsent.filter(isUnsent) : [] };
  },
  set place(place) {
    write("sessionStorage", "hubbub.place", place ? JSON.stringify(place) : "");
  },
};

/** @returns {{ room: string, username: string, session: string }[]} */
function sessions() {
  const kept = parse(read("localStorage", "hubbub.sessions"));
  if (!Array.isArray(kept)) return [];
  return kept.filter((entry) => typeof entry?.session === "string");
}

/** @param {any} item @returns {item is Unsent} */
function isUnsent(item) {
  return typeof item?.ref === "string" && typeof item.content === "string" &&
    ["string", "undefined"].includes(typeof item.to);
}

/** @param {string} text */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** @param {"localStorage" | "sessionStorage"} place @param {string} key @param {string} value */
function write(place, key, value) {
  try {
    globalThis[place].setItem(key, value);
  } catch { /* As said. */ }
}

/** @param {"localStorage" | "sessionStorage"} place @param {string} key */
function read(place, key) {
  try {
    return globalThis[place].getItem(key) ?? "";
  } catch {
    return "";
  }
}
