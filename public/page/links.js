// @ts-check
/**
 * Finds the addresses in a text. Knows no DOM, and takes time in proportion to the text's length.
 *
 * @module
 */

/**
 * Splits a text into what is between its addresses, and the addresses: the odd ones of the list. Only
 * `http:` and `https:` count.
 *
 * @param {string} text
 * @returns {string[]}
 */
export function splitAtLinks(text) {
  const parts = [];
  let from = 0;
  for (const match of text.matchAll(/\bhttps?:\/\/[^\s<>"]+/gi)) {
    const address = withoutTail(match[0]);
    if (!URL.canParse(address)) continue;
    parts.push(text.slice(from, match.index), address);
    from = match.index + address.length;
  }
  return [...parts, text.slice(from)];
}

/** What may end a sentence, or close a bracket around an address. */
const TAIL = new Set(".,;:!?'\"*])}");

/**
 * Takes off what ends the sentence and not the address: a full stop, or the bracket around it.
 *
 * @param {string} address
 */
function withoutTail(address) {
  let end = address.length;
  // How many brackets are closed that were not opened.
  let surplus = count(address, ")") - count(address, "(");
  while (TAIL.has(address[end - 1] ?? "")) {
    if (address[end - 1] === ")") {
      if (surplus <= 0) break;
      surplus--;
    }
    end--;
  }
  return address.slice(0, end);
}

/** @param {string} text @param {string} character */
function count(text, character) {
  let found = 0;
  for (const one of text) if (one === character) found++;
  return found;
}
