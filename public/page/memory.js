// @ts-check
/// <reference lib="dom" />
/**
 * What this browser remembers: a name, colours, the rooms one is in and how far they are read, and
 * what a tab has still to say. Storage may be switched off: then nothing is remembered, and all else
 * works.
 *
 * @module
 */

import { isSamePlace, ROOT } from "./address.js";

/** @import { Unsent } from "../outbox.js" */
/** @import { Place } from "./address.js" */

/** Servers below different paths of one site have one storage. */
const PREFIX = `hubbub${ROOT.pathname.slice(0, -1)}.`;
/** Rooms of which the session is kept. */
const MAX_SESSIONS = 50;
/** Rooms in the list of one's rooms; beyond it, the one that was visited longest ago goes. */
const MAX_ROOMS = 100;

/**
 * A room one is in: as who, and how far it is read. `seq` counts under `epoch` only.
 *
 * @typedef {Place & { username: string, epoch: string, seq: number, visitedAt: number }} KnownRoom
 */

/** Kept for all tabs, and over the end of the browser. */
export const browser = {
  get name() {
    return read("localStorage", "name");
  },
  set name(name) {
    write("localStorage", "name", name);
  },

  /** Whether the person wants to be told of mentions. */
  get notifies() {
    return read("localStorage", "notify") === "yes";
  },
  set notifies(isSo) {
    write("localStorage", "notify", isSo ? "yes" : "");
  },

  /** Whether the person has sent a message, and so knows how. */
  get hasSent() {
    return read("localStorage", "sent") === "yes";
  },
  set hasSent(isSo) {
    write("localStorage", "sent", isSo ? "yes" : "");
  },

  /** `light` or `dark`, or nothing for what the system says. */
  get theme() {
    const theme = read("localStorage", "theme");
    return theme === "light" || theme === "dark" ? theme : "";
  },
  set theme(theme) {
    write("localStorage", "theme", theme);
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
    write("localStorage", "sessions", JSON.stringify(kept));
  },

  /** The rooms one is in, in the order of joining. @returns {KnownRoom[]} */
  get rooms() {
    const kept = parse(read("localStorage", "rooms"));
    return Array.isArray(kept) ? kept.filter(isKnownRoom) : [];
  },

  /** Adds a room to the list, or brings it up to date. @param {KnownRoom} known */
  keepRoom(known) {
    const rooms = browser.rooms;
    const at = rooms.findIndex((room) => isSamePlace(room, known));
    const before = rooms[at];
    if (!before) rooms.push(known);
    else if (before.epoch !== known.epoch) rooms[at] = known;
    // Another window may have read further.
    else rooms[at] = { ...known, seq: Math.max(before.seq, known.seq) };
    while (rooms.length > MAX_ROOMS) {
      const oldest = rooms.reduce((a, b) => b.visitedAt < a.visitedAt ? b : a);
      rooms.splice(rooms.indexOf(oldest), 1);
    }
    write("localStorage", "rooms", JSON.stringify(rooms));
  },

  /**
   * Notes how far a room of the list is read. Another window may be further.
   *
   * @param {Place} place
   * @param {{ epoch: string, seq: number }} read
   */
  keepRead(place, { epoch, seq }) {
    const rooms = browser.rooms.map((room) => {
      if (!isSamePlace(room, place)) return room;
      return { ...room, epoch, seq: room.epoch === epoch ? Math.max(room.seq, seq) : seq };
    });
    write("localStorage", "rooms", JSON.stringify(rooms));
  },

  /** Takes the rooms off the list in which one is under a name. @param {string} username */
  forgetRoomsOf(username) {
    const rooms = browser.rooms.filter((room) => room.username !== username);
    write("localStorage", "rooms", JSON.stringify(rooms));
  },

  /** Takes a room off the list. @param {Place} place */
  forgetRoom(place) {
    const rooms = browser.rooms.filter((room) => !isSamePlace(room, place));
    write("localStorage", "rooms", JSON.stringify(rooms));
  },

  /** Calls back when another tab has changed the list of rooms. @param {() => void} listener */
  onRooms(listener) {
    addEventListener("storage", ({ key }) => key === `${PREFIX}rooms` && listener());
  },
};

/** Kept for this tab alone, and over its reload. */
export const tab = {
  /** Where this tab is, and as who: what a reload comes back to. @returns {(Place & { username: string }) | undefined} */
  get place() {
    const place = parse(read("sessionStorage", "place"));
    return isPlace(place) && isText(place.username) ? place : undefined;
  },
  set place(place) {
    write("sessionStorage", "place", place ? JSON.stringify(place) : "");
  },

  /**
   * What was written in a room and is not sent yet, by the id of the visit. In an encrypted room it
   * is sealed, and the id names the key.
   *
   * @param {string} room
   * @returns {Map<string, Unsent[]>}
   */
  unsent(room) {
    const kept = Object.entries(Object(parse(read("sessionStorage", "unsent"))));
    const ours = kept.filter(([id, items]) => roomOf(id) === room && Array.isArray(items));
    return new Map(ours.map(([id, items]) => [id, items.filter(isUnsent)]));
  },

  /** @param {string} id @param {readonly Unsent[]} unsent */
  keepUnsent(id, unsent) {
    keepIn("unsent", id, unsent.length > 0 ? unsent : undefined);
  },

  /**
   * Puts what an account has not sent aside, out of sight of whoever comes next.
   *
   * @param {string} username
   * @param {ReadonlyMap<string, readonly Unsent[]>} unsent by the id of the visit
   */
  setAside(username, unsent) {
    keepIn("aside", username, unsent.size > 0 ? Object.fromEntries(unsent) : undefined);
  },

  /**
   * Takes up what was put aside for an account.
   *
   * @param {string} username
   * @returns {[id: string, items: Unsent[]][]}
   */
  takeUp(username) {
    const kept = Object(Object(parse(read("sessionStorage", "aside")))[username]);
    tab.setAside(username, new Map());
    return Object.entries(kept).filter(([, items]) => Array.isArray(items))
      .map(([id, items]) => [id, items.filter(isUnsent)]);
  },

  /**
   * The drafts of a room, by addressee. In an encrypted room they are sealed.
   *
   * @param {string} id of the visit
   * @returns {Record<string, string>}
   */
  drafts(id) {
    const kept = Object(Object(parse(read("sessionStorage", "drafts")))[id]);
    return Object.fromEntries(Object.entries(kept).filter(([, text]) => isText(text)));
  },

  /** @param {string} id @param {Record<string, string>} drafts */
  keepDrafts(id, drafts) {
    keepIn("drafts", id, Object.keys(drafts).length > 0 ? drafts : undefined);
  },
};

/**
 * Names the visit of a room with a key, or of one without.
 *
 * @param {string} room
 * @param {string} [fingerprint] the key's
 */
export function visitId(room, fingerprint = "") {
  return `${fingerprint} ${room}`;
}

/** @param {string} id */
function roomOf(id) {
  return id.slice(id.indexOf(" ") + 1);
}

/** @returns {{ room: string, username: string, session: string }[]} */
function sessions() {
  const kept = parse(read("localStorage", "sessions"));
  if (!Array.isArray(kept)) return [];
  return kept.filter((entry) => isText(entry?.session));
}

/** @param {string} key @param {string} name @param {unknown} value nothing to forget it */
function keepIn(key, name, value) {
  const all = Object(parse(read("sessionStorage", key)));
  write("sessionStorage", key, JSON.stringify({ ...all, [name]: value }));
}

/** @param {any} item @returns {item is Unsent} */
function isUnsent(item) {
  const { ref, by, content, to, replyTo, edits, key, from, as, reason } = Object(item);
  return isText(ref) && isText(by) && isText(content) &&
    [to, replyTo, key, from, as, reason].every((part) => part === undefined || isText(part)) &&
    (edits === undefined || isText(edits?.id));
}

/** @param {any} known @returns {known is KnownRoom} */
function isKnownRoom(known) {
  return isPlace(known) && isText(known.username) && isText(known.epoch) &&
    Number.isSafeInteger(known.seq) && Number.isFinite(known.visitedAt);
}

/** @param {any} place */
function isPlace(place) {
  return isText(place?.room) && isText(place.key);
}

/** @param {unknown} value @returns {value is string} */
function isText(value) {
  return typeof value === "string";
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
    globalThis[place].setItem(PREFIX + key, value);
  } catch { /* Storage is off. */ }
}

/** @param {"localStorage" | "sessionStorage"} place @param {string} key */
function read(place, key) {
  try {
    return globalThis[place].getItem(PREFIX + key) ?? "";
  } catch {
    return "";
  }
}
