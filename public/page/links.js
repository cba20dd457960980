// @ts-check
/**
 * Finds the addresses in a text. Knows no DOM, and takes time in proportion to the text's length.
 *
 * @module
 */

/** How an address begins. What stands before it may be of any script, but not a Latin word. */
const START = /(?<![a-z0-9])(?:https?:\/\/|mailto:|(?<![./:@-])www\.)/giu;

/**
 * An address ends before this, wherever it stands: space, what cannot be seen, quotation marks, and
 * the punctuation and brackets of scripts that put no space behind them. Joiners stay: Persian and
 * Indic words need them.
 */
const STOP =
  /[[\s\p{C}<>"`\p{Pi}\p{Pf}\u201A\u201E\u2014\u2015\u2025\u2026\u3001-\u3003\u3008-\u3011\u3014-\u301F\uFE10-\uFE6B\uFF01-\uFF0F\uFF1A-\uFF20\uFF3B-\uFF40\uFF5B-\uFF65]--[\u200C\u200D]]/v;

/** What may end a sentence, and may also stand inside an address, but not at its end. */
const TAIL = /[.,;:!?'*\(\[\{[[\p{Po}\p{Pd}]--\p{ASCII}]]/v;

/** What closes a bracket, and what opened it. */
const BRACKETS = new Map([[")", "("], ["]", "["], ["}", "{"]]);

/** Marks of emphasis: they end an address that stands between two of them. */
const EMPHASIS = new Set(["_", "~"]);

/**
 * Splits a text into what is between its addresses, and the addresses: the odd ones of the list.
 * Addresses begin with `http:`, `https:`, `mailto:` or `www.`.
 *
 * @param {string} text
 * @returns {string[]}
 */
export function splitAtLinks(text) {
  const parts = [];
  let from = 0;
  // What was read once is not read again, address or not: that keeps the work linear.
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
 * Where a link to an address leads.
 *
 * @param {string} address as {@linkcode splitAtLinks} found it
 */
export function hrefOf(address) {
  return /^www\./i.test(address) ? `https://${address}` : address;
}

/**
 * Finds the end of an address, without what ends the sentence or closes a bracket around it.
 *
 * @param {string} text
 * @param {number} start
 */
function endOf(text, start) {
  /** How many brackets of a kind are open. @type {Map<string, number>} */
  const open = new Map();
  /** Brackets that close what the address itself opened. @type {Set<number>} */
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

/** A character, or nothing for the second half of one. @param {string} text @param {number} index */
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

/** Whether it leads anywhere. @param {string} address */
function isAddress(address) {
  if (/^mailto:/i.test(address)) return /^mailto:[^@]+@[^@]+$/i.test(address);
  if (/^www\./i.test(address) && !/^www\.[^./?#]+\.[^./?#]/i.test(address)) return false;
  return URL.canParse(hrefOf(address));
}
