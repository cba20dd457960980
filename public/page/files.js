// @ts-check
/// <reference lib="dom" />
/**
 * Refuses dropped and pasted files, so that the browser does not open them in place of the page.
 *
 * @module
 */

/**
 * Refuses files anywhere on the page. Text is dropped and pasted as usual.
 *
 * @param {() => void} onRefused
 */
export function refuseFiles(onRefused) {
  document.addEventListener("dragover", (event) => {
    // Without this the browser would open the file, and fire no drop event.
    if (hasFiles(event) || !isEditable(event.target)) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    if (hasFiles(event)) onRefused();
    if (hasFiles(event) || !isEditable(event.target)) event.preventDefault();
  });
  document.addEventListener("paste", (event) => {
    // Spreadsheets paste a picture beside the text.
    const { files, types } = event.clipboardData ?? {};
    if (!files?.length || types?.includes("text/plain")) return;
    event.preventDefault();
    onRefused();
  });
}

/** @param {DragEvent} event */
function hasFiles({ dataTransfer }) {
  return dataTransfer?.types.includes("Files") ?? false;
}

/** Whether text can be dropped here. @param {EventTarget | null} target */
function isEditable(target) {
  return target instanceof Element && target.matches("input:enabled, textarea:enabled");
}
