// @ts-check
/// <reference lib="dom" />
/**
 * The page inside another site: in a frame with a single room (`?embed=1`), or in the colours of the
 * site (`?theme=light`, `?theme=dark`). It exchanges messages with `embed.js` around the frame; the
 * server lets only the sites of `EMBED_ORIGINS` frame it.
 *
 * @module
 */

const query = new URLSearchParams(location.search);

/** Whether the page shows a single room. */
export const isEmbedded = query.get("embed") === "1";

/** The colours in the address: `light`, `dark` or `""`. */
export const askedTheme = /^(light|dark)$/.exec(query.get("theme") ?? "")?.[0] ?? "";

/** Elements that use Escape themselves; the join dialog only where it can be closed. */
const KEEPS_ESCAPE =
  ":popover-open:not(.toast), dialog[open]:not(#join), #join[open] #join-cancel:not([hidden])";

/** Whether the frame is open; always true without a frame. */
let isOpen = true;

/** Whether the page is out of sight: its tab is in the background, or its frame is closed. */
export function isOutOfSight() {
  return document.hidden || !isOpen;
}

/** Adds the options of this module to an address, so that a reload keeps them. @param {string} address */
export function withLook(address) {
  const url = new URL(address, location.href);
  if (isEmbedded) url.searchParams.set("embed", "1");
  if (askedTheme) url.searchParams.set("theme", askedTheme);
  return url.href;
}

/**
 * Keeps a guest's name in this room for the next visit. For a frame, some browsers store nothing but
 * such a cookie, and only on https.
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

/** The guest's last name in this room, or `""`. */
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
 * Tells the site that the page is ready, and calls `onSight` when the frame opens or closes.
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

/** @param {object} message any site of `EMBED_ORIGINS` may read it */
function tell(message) {
  if (isEmbedded && parent !== window) parent.postMessage(message, "*");
}
