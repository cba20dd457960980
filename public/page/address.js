// @ts-check
/// <reference lib="dom" />
/**
 * Reads and writes the addresses of places: a room, the key in its link, and a message in the room.
 *
 * @module
 */

import { canSeal, createKey, isKey } from "../cipher.js";

/**
 * A room, and the key of its texts; `""` without a key.
 *
 * @typedef {{ room: string, key: string }} Place
 */

/** The server's base address, which may have a path. */
export const ROOT = new URL("../", import.meta.url);

/** The form of an encrypted room's name. */
const SEALED_ROOM = /^private-([a-z2-7]{16})$/;
const LETTERS = "abcdefghijklmnopqrstuvwxyz234567";

const NO_KEY =
  "Your link lacks the key of this room. Ask for the whole link to read and write here.";
const NO_CRYPTO = "Browsers encrypt only on https pages. Open this room at its https address.";

/** The room of an address without one. */
export const DEFAULT_ROOM = "lobby";

/**
 * Reads an address: `/r/ROOM#key=KEY`, `/?room=ROOM`, or neither.
 *
 * @param {string} href
 * @returns {{ place: Place | undefined, at: number | undefined }} `at` is the `seq` of a message
 */
export function readAddress(href) {
  const url = new URL(href);
  const [, inPath = ""] = /\/r\/([^/]+)\/?$/.exec(url.pathname) ?? [];
  const room = toRoom(decode(inPath) || (url.searchParams.get("room") ?? ""));
  const at = Number(url.searchParams.get("at"));
  return {
    place: room === "" ? undefined : { room, key: keyIn(url) },
    at: Number.isSafeInteger(at) && at > 0 ? at : undefined,
  };
}

/**
 * The address of a place, or of a message in it.
 *
 * @param {Place} place
 * @param {number} [at] the message's `seq`
 */
export function addressOf({ room, key }, at) {
  const query = at === undefined ? "" : `?at=${at}`;
  return `${ROOT.pathname}r/${encodeURIComponent(room)}${query}${key ? `#key=${key}` : ""}`;
}

/** A typed room name in the server's form. @param {string} text */
export function toRoom(text) {
  return text.normalize("NFC").trim();
}

/** @param {Place} a @param {Place} b */
export function isSamePlace(a, b) {
  return a.room === b.room && a.key === b.key;
}

/** Whether the texts of a place are encrypted. @param {Place} place */
export function isEncrypted({ room, key }) {
  return key !== "" || SEALED_ROOM.test(room);
}

/** Why texts of a place can be neither read nor written; `""` if they can. @param {Place} place */
export function keyTroubleOf(place) {
  if (!isEncrypted(place)) return "";
  if (!isKey(place.key)) return NO_KEY;
  return canSeal() ? "" : NO_CRYPTO;
}

/** The name of a room on the page. @param {string} room */
export function titleOf(room) {
  const [, letters] = SEALED_ROOM.exec(room) ?? [];
  return letters ? `Encrypted room ${letters.slice(0, 4)}` : room;
}

/** Why this page cannot create an encrypted room; `""` if it can. */
export function whyNoEncryption() {
  return canSeal() ? "" : NO_CRYPTO;
}

/** A place with a random name and a new key. @returns {Place} */
export function newEncryptedPlace() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const name = Array.from(bytes, (byte) => LETTERS[byte % 32]).join("");
  return { room: `private-${name}`, key: createKey() };
}

/** @param {URL} url */
function keyIn(url) {
  return new URLSearchParams(url.hash.slice(1)).get("key") ?? "";
}

/** @param {string} text */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}
