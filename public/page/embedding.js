// @ts-check
/// <reference lib="dom" />
/**
 * The page as another site shows it: in a frame (`?embed=1`), with one room and no way to others, or
 * in the colours of that site (`?theme=light`, `?theme=dark`). It talks to `embed.js` around the
 * frame; the server lets only sites of `EMBED_ORIGINS` be there.
 *
 * @module
 */

const query = new URLSearchParams(location.search);

/** Whether the page shows one room, without the ways to others. */
export const isEmbedded = query.get("embed") === "1";

/** The colours that the address asks for: `light` or `dark`, or nothing. */
export const askedTheme = /^(light|dark)$/.exec(query.get("theme") ?? "")?.[0] ?? "";

/** What keeps Escape for itself. The join dialog does so only where it can be closed. */
const KEEPS_ESCAPE =
  ":popover-open:not(.toast), dialog[open]:not(#join), #join[open] #join-cancel:not([hidden])";

/** Whether the frame is open. Elsewhere there is no frame to be closed. */
let isOpen = true;

/** Whether nobody can see the page: its tab is in the background, or its frame is closed. */
export function isOutOfSight() {
  return document.hidden || !isOpen;
}

/** Adds to an address what the page must not forget on a reload. @param {string} address */
export function withLook(address) {
  const url = new URL(address, location.href);
  if (isEmbedded) url.searchParams.set("embed", "1");
  if (askedTheme) url.searchParams.set("theme", askedTheme);
  return url.href;
}

/**
 * Keeps the name of a guest in this room for the next visit. Some browsers keep nothing else for a
 * frame than such a cookie, and that on https alone.
 *
 * @param {string} name
 */
export function keepName(name) {
  if (!isEmbedded) return;
  const scope = `Path=${location.pathname}; Max-Age=31536000; Secure; SameSite=None; Partitioned`;
  try {
    document.cookie = `hubbub_name=${encodeURIComponent(name)}; ${scope}`;
  } catch { /* Cookies are off. */ }
}

/** The name that a guest in this room had, or nothing. */
export function keptName() {
  try {
    const [, name = ""] = /(?:^|; )hubbub_name=([^;]*)/.exec(document.cookie) ?? [];
    return decodeURIComponent(name);
  } catch {
    return "";
  }
}

/** Tells the site how many messages are unread. @param {number} count */
export function tellUnread(count) {
  tell({ hubbub: "unread", count });
}

/**
 * Tells the site that the page is there, and calls back when the frame is opened or closed.
 *
 * @param {() => void} onSight
 */
export function greet(onSight) {
  document.documentElement.classList.toggle("embedded", isEmbedded);
  addEventListener("message", ({ source, data }) => {
    if (source !== parent || typeof data?.isOpen !== "boolean") return;
    isOpen = data.isOpen;
    onSight();
  });
  addEventListener("keydown", ({ key, defaultPrevented }) => {
    if (key !== "Escape" || defaultPrevented || document.querySelector(KEEPS_ESCAPE)) return;
    tell({ hubbub: "close" });
  });
  tell({ hubbub: "ready" });
}

/** @param {object} message has nothing in it that the sites of `EMBED_ORIGINS` may not know */
function tell(message) {
  if (isEmbedded && parent !== window) parent.postMessage(message, "*");
}
