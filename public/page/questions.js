// @ts-check
/// <reference lib="dom" />
/**
 * Questions before something is lost: a deleted message, or unsent texts.
 *
 * @module
 */

import { get } from "./dom.js";

const deletion = get("ask", HTMLDialogElement);
const quote = get("ask-quote", HTMLElement);
const unsent = get("unsent", HTMLDialogElement);
const unsentWords = get("unsent-words", HTMLElement);

/**
 * @param {string} text the message's
 * @returns {Promise<boolean>} whether to delete it
 */
export async function mayDelete(text) {
  quote.textContent = text;
  return await askIn(deletion);
}

/**
 * @param {number} count unsent texts
 * @param {string} what the sentence about their fate
 * @returns {Promise<boolean>} whether to leave
 */
export async function mayLeave(count, what) {
  if (count === 0) return true;
  const texts = count === 1 ? "A message is" : `${count} messages are`;
  unsentWords.textContent = `${texts} not sent yet. ${what}`;
  return await askIn(unsent);
}

/** @param {HTMLDialogElement} dialog */
async function askIn(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  return dialog.returnValue === "yes";
}
