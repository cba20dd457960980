// @ts-check
/// <reference lib="dom" />
/**
 * The browser's memory: the name, the colours, the joined rooms with their read positions, and a tab's
 * unsent texts. With storage switched off, nothing is remembered and everything else works.
 *
 * @module
 */

import { isSamePlace, ROOT } from "./address.js";

/** @import { Unsent } from "../outbox.js" */
/** @import { Place } from "./address.js" */

/** Servers below different paths of one site share one storage. */
const PREFIX = `hubbub${ROOT.pathname.slice(0, -1)}.`;
/** Maximum rooms whose session is kept. */
const MAX_SESSIONS = 50;
/** Maximum rooms in the list; the one visited longest ago is dropped first. */
const MAX_ROOMS = 100;

/**
 * A joined room: the name used there, and the read position. `seq` is valid within `epoch` only.
 *
 * @typedef {Place & { username: string, epoch: string, seq: number, visitedAt: number }} KnownRoom
 */

/** Shared by all tabs; survives closing the browser. */
export const browser = {
  get name() {
    return read("localStorage", "name");
  },
  set name(name) {
    write("localStorage", "name", name);
  },

  /** Whether to notify the person of mentions. */
  get notifies() {
    return read("localStorage", "notify") === "yes";
  },
  set notifies(isSo) {
    write("localStorage", "notify", isSo ? "yes" : "");
  },

  /** Whether the person has sent a message: the hint about keys is no longer needed. */
  get hasSent() {
    return read("localStorage", "sent") === "yes";
  },
  set hasSent(isSo) {
    write("localStorage", "sent", isSo ? "yes" : "");
  },

  /** `light`, `dark`, or `""` for the system's colours. */
  get theme() {
    const theme = read("localStorage", "theme");
    return theme === "light" || theme === "dark" ? theme : "";
  },
  set theme(theme) {
    write("localStorage", "theme", theme);
  },

  /**
   * The guest's secret: with it, another tab is the same person.
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

  /** The joined rooms, in order of joining. @returns {KnownRoom[]} */
  get rooms() {
    const kept = parse(read("localStorage", "rooms"));
    return Array.isArray(kept) ? kept.filter(isKnownRoom) : [];
  },

  /** Adds a room to the list, or updates it. @param {KnownRoom} known */
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
   * Notes the read position in a room of the list, unless another window has read further.
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

  /** Removes the rooms joined under a name from the list. @param {string} username */
  forgetRoomsOf(username) {
    const rooms = browser.rooms.filter((room) => room.username !== username);
    write("localStorage", "rooms", JSON.stringify(rooms));
  },

  /** Removes a room from the list. @param {Place} place */
  forgetRoom(place) {
    const rooms = browser.rooms.filter((room) => !isSamePlace(room, place));
    write("localStorage", "rooms", JSON.stringify(rooms));
  },

  /** Calls `listener` when another tab changes the list of rooms. @param {() => void} listener */
  onRooms(listener) {
    addEventListener("storage", ({ key }) => key === `${PREFIX}rooms` && listener());
  },
};

/** Belongs to this tab; survives a reload. */
export const tab = {
  /** The room and the name of this tab, for a reload. @returns {(Place & { username: string }) | undefined} */
  get place() {
    const place = parse(read("sessionStorage", "place"));
    return isPlace(place) && isText(place.username) ? place : undefined;
  },
  set place(place) {
    write("sessionStorage", "place", place ? JSON.stringify(place) : "");
  },

  /**
   * The unsent texts of a room, by the id of the visit. In an encrypted room they are sealed, and the
   * id names the key.
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
   * Puts an account's unsent texts aside, out of sight of the next person.
   *
   * @param {string} username
   * @param {ReadonlyMap<string, readonly Unsent[]>} unsent by the id of the visit
   */
  setAside(username, unsent) {
    keepIn("aside", username, unsent.size > 0 ? Object.fromEntries(unsent) : undefined);
  },

  /**
   * Returns the texts put aside for an account, and forgets them.
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
   * The drafts of a room, by receiver. In an encrypted room they are sealed.
   *
   * @param {string} id the visit's
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
 * The id of the visit of a room, with or without a key.
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

/** @param {string} key @param {string} name @param {unknown} value `undefined` forgets it */
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
