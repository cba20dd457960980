// @ts-check
/**
 * Finds the addresses in a text, in time proportional to its length. Uses no DOM.
 *
 * @module
 */

/** The start of an address. A letter or digit of ASCII before it makes it part of a word. */
const START = /(?<![a-z0-9])(?:https?:\/\/|mailto:|(?<![./:@-])www\.)/giu;

/**
 * An address ends before these characters: spaces, invisible characters, quotation marks, and the
 * punctuation and brackets of scripts that put no space after them. Joiners are allowed: Persian and
 * Indic words need them.
 */
const STOP =
  /[[\s\p{C}<>"`\p{Pi}\p{Pf}\u201A\u201E\u2014\u2015\u2025\u2026\u3001-\u3003\u3008-\u3011\u3014-\u301F\uFE10-\uFE6B\uFF01-\uFF0F\uFF1A-\uFF20\uFF3B-\uFF40\uFF5B-\uFF65]--[\u200C\u200D]]/v;

/** Punctuation that belongs to an address inside it, but not at its end. */
const TAIL = /[.,;:!?'*\(\[\{[[\p{Po}\p{Pd}]--\p{ASCII}]]/v;

/** Closing brackets and their opening ones. */
const BRACKETS = new Map([[")", "("], ["]", "["], ["}", "{"]]);

/** Marks of emphasis: a pair of them around an address is not part of it. */
const EMPHASIS = new Set(["_", "~"]);

/**
 * Splits a text at its addresses, which are the odd elements of the result. Addresses begin with
 * `http:`, `https:`, `mailto:` or `www.`.
 *
 * @param {string} text
 * @returns {string[]}
 */
export function splitAtLinks(text) {
  const parts = [];
  let from = 0;
  // No part is read twice, so that the work stays linear.
  let read = 0;
  for (const { index } of text.matchAll(START)) {
    if (index < read) continue;
    const end = endOf(text, index);
    const address = text.slice(index, end);
    read = end;
    if (!isAddress(address)) continue;
    parts.push(text.slice(from, index), address);
    from = end;
  }
  return [...parts, text.slice(from)];
}

/**
 * The `href` of a link to an address.
 *
 * @param {string} address as {@linkcode splitAtLinks} found it
 */
export function hrefOf(address) {
  return /^www\./i.test(address) ? `https://${address}` : address;
}

/**
 * Finds the end of an address: before the end of its sentence and before a bracket that closes around
 * it.
 *
 * @param {string} text
 * @param {number} start
 */
function endOf(text, start) {
  /** Open brackets of each kind. @type {Map<string, number>} */
  const open = new Map();
  /** Indexes of brackets that the address itself opened and closed. @type {Set<number>} */
  const matched = new Set();
  let end = start;
  for (; end < text.length && !STOP.test(characterAt(text, end)); end++) {
    const character = text.charAt(end);
    const opener = BRACKETS.get(character);
    if (opener === undefined) open.set(character, (open.get(character) ?? 0) + 1);
    else if ((open.get(opener) ?? 0) > 0) {
      open.set(opener, (open.get(opener) ?? 0) - 1);
      matched.add(end);
    }
  }
  const mark = EMPHASIS.has(text.charAt(start - 1)) ? text.charAt(start - 1) : "";
  while (end > start && isTail(text.charAt(end - 1), matched.has(end - 1), mark)) end--;
  return end;
}

/** The character at an index; `""` at the second half of a surrogate pair. @param {string} text @param {number} index */
function characterAt(text, index) {
  const code = text.charCodeAt(index);
  if (code < 0xD800 || code > 0xDFFF) return text.charAt(index);
  return code < 0xDC00 ? String.fromCodePoint(text.codePointAt(index) ?? 0) : "";
}

/** @param {string} character @param {boolean} isMatched @param {string} mark */
function isTail(character, isMatched, mark) {
  if (BRACKETS.has(character)) return !isMatched;
  return character === mark || TAIL.test(character);
}

/** Whether a link to it can work. @param {string} address */
function isAddress(address) {
  if (/^mailto:/i.test(address)) return /^mailto:[^@]+@[^@]+$/i.test(address);
  if (/^www\./i.test(address) && !/^www\.[^./?#]+\.[^./?#]/i.test(address)) return false;
  return URL.canParse(hrefOf(address));
}
