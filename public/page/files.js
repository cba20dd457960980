// @ts-check
/// <reference lib="dom" />
/**
 * Files that are dropped on the page or pasted: the page keeps its place, and says that it takes none.
 *
 * @module
 */

/**
 * Refuses files, wherever on the page they are dropped or pasted. Text is taken as ever.
 *
 * @param {() => void} onRefused
 */
export function refuseFiles(onRefused) {
  document.addEventListener("dragover", (event) => {
    // Only a drop that is allowed is heard of: the browser would open any other file in place of the page.
    if (hasFiles(event) || !isEditable(event.target)) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    if (hasFiles(event)) onRefused();
    if (hasFiles(event) || !isEditable(event.target)) event.preventDefault();
  });
  document.addEventListener("paste", (event) => {
    // Spreadsheets give a picture beside the text.
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
