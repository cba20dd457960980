// @ts-check
/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
/**
 * Copies selected messages as plain lines: author, time and text.
 *
 * @module
 */

/**
 * Puts the selection into the clipboard as lines, if it covers more than one row.
 *
 * @param {ClipboardEvent} event
 * @param {HTMLElement} rows
 */
export function copyOf(event, rows) {
  const selection = getSelection();
  if (!selection || selection.rangeCount === 0) return;
  const range = selection.getRangeAt(0);
  const chosen = [...rows.children].filter((row) => range.intersectsNode(row));
  if (chosen.length < 2) return;
  const lines = chosen.map((row) => lineOf(row, range)).filter((line) => line !== "");
  event.clipboardData?.setData("text/plain", lines.join("\n"));
  event.preventDefault();
}

/** The selected part of a row. @param {Element} row @param {Range} range */
function lineOf(row, range) {
  const text = row.querySelector(".text");
  if (!text) return selectedIn(row, range).trim();
  const words = selectedIn(text, range).trim();
  if (words === "") return "";
  const author = row.querySelector(".author")?.textContent ?? "";
  const time = row.querySelector("header time")?.textContent ?? "";
  return `${author}, ${time}: ${words}`;
}

/** @param {Element} part @param {Range} range */
function selectedIn(part, range) {
  if (!range.intersectsNode(part)) return "";
  const chosen = new Range();
  chosen.selectNodeContents(part);
  if (range.compareBoundaryPoints(Range.START_TO_START, chosen) > 0) {
    chosen.setStart(range.startContainer, range.startOffset);
  }
  if (range.compareBoundaryPoints(Range.END_TO_END, chosen) < 0) {
    chosen.setEnd(range.endContainer, range.endOffset);
  }
  const copy = chosen.cloneContents();
  for (const block of copy.querySelectorAll(".block")) {
    block.replaceWith(`\n${block.querySelector("pre")?.textContent ?? ""}\n`);
  }
  return copy.textContent ?? "";
}
