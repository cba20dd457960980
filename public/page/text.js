// @ts-check
/**
 * Finds the links and the code in a text, in time proportional to its length. Uses no DOM.
 *
 * Code is the only Markdown: `` `inline` `` within one line, and blocks between lines that begin with
 * three backticks. An unclosed block ends with the text.
 *
 * @module
 */

import { hrefOf, splitAtLinks } from "./links.js";

/**
 * A part of a text. The `text` of code has no backticks.
 *
 * @typedef {{ type: "text" | "code" | "block", text: string }
 *   | { type: "link", text: string, href: string }} Run
 */

/** The line before a block: three or more backticks, and optionally the language. */
const FENCE = /^ {0,3}(`{3,})[ \t]*([\w+#.-]*)[ \t]*$/;

/**
 * Splits a text into its runs.
 *
 * @param {string} text
 * @returns {Run[]}
 */
export function readText(text) {
  if (!text.includes("`")) return readLinks(text);
  /** @type {Run[]} */
  const runs = [];
  /** @type {string[]} */
  let prose = [];
  const lines = text.split("\n");
  const flush = () => {
    if (prose.length > 0) runs.push(...readProse(prose.join("\n")));
    prose = [];
  };
  for (let at = 0; at < lines.length; at++) {
    const [, fence] = FENCE.exec(lines[at] ?? "") ?? [];
    if (fence === undefined) {
      prose.push(lines[at] ?? "");
      continue;
    }
    const end = findEnd(lines, at + 1, fence);
    const code = lines.slice(at + 1, end).join("\n");
    if (code.trim() === "") prose.push(...lines.slice(at, end + 1));
    else {
      flush();
      runs.push({ type: "block", text: code });
    }
    at = end;
  }
  flush();
  return runs;
}

/**
 * Index of the line that closes a block, or of the end of the text.
 *
 * @param {readonly string[]} lines
 * @param {number} from
 * @param {string} fence
 */
function findEnd(lines, from, fence) {
  for (let at = from; at < lines.length; at++) {
    const [, closing = "", language] = FENCE.exec(lines[at] ?? "") ?? [];
    if (language === "" && closing.length >= fence.length) return at;
  }
  return lines.length;
}

/** @param {string} text without blocks @returns {Run[]} */
function readProse(text) {
  /** @type {Run[]} */
  const runs = [];
  let from = 0;
  for (const { start, end, ticks } of codesOf(text)) {
    runs.push(...readLinks(text.slice(from, start)));
    runs.push({ type: "code", text: trimOnce(text.slice(start + ticks, end - ticks)) });
    from = end;
  }
  return [...runs, ...readLinks(text.slice(from))];
}

/**
 * Finds inline code: from a row of backticks to the next row of the same length in the line.
 *
 * @param {string} text
 */
function codesOf(text) {
  const rows = [...text.matchAll(/`+|\n/g)].map((match) => ({ at: match.index, row: match[0] }));
  // From the end, so that `next` is the next row of each length in the line.
  /** @type {Map<string, number>} */
  const next = new Map();
  const partners = new Array(rows.length).fill(-1);
  for (let i = rows.length - 1; i >= 0; i--) {
    const { row } = /** @type {{ row: string }} */ (rows[i]);
    if (row === "\n") next.clear();
    else {
      partners[i] = next.get(row) ?? -1;
      next.set(row, i);
    }
  }
  const codes = [];
  for (let i = 0; i < rows.length; i++) {
    const first = rows[i];
    const last = rows[partners[i]];
    if (!first || !last || text.slice(first.at + first.row.length, last.at).trim() === "") continue;
    codes.push({ start: first.at, end: last.at + last.row.length, ticks: first.row.length });
    i = partners[i];
  }
  return codes;
}

/** Removes one space on both sides, which separates inner backticks from the outer ones. @param {string} code */
function trimOnce(code) {
  return code.startsWith(" ") && code.endsWith(" ") ? code.slice(1, -1) : code;
}

/** @param {string} text @returns {Run[]} */
function readLinks(text) {
  /** @type {Run[]} */
  const runs = [];
  for (const [index, part] of splitAtLinks(text).entries()) {
    if (index % 2 === 1) runs.push({ type: "link", text: part, href: hrefOf(part) });
    else if (part !== "") runs.push({ type: "text", text: part });
  }
  return runs;
}
