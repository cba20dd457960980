// @ts-check
/**
 * What a line means that somebody typed: a message, or a command such as `/msg Grace hello`.
 *
 * @module
 */

import { isSameName } from "./connection.js";

/**
 * @typedef {{ type: "say", text: string }
 *   | { type: "whisper", to: string, text: string }
 *   | { type: "nick", name: string }
 *   | { type: "who" }
 *   | { type: "help" }
 *   | { type: "wrong", why: string }} Line
 */

/** What there is, for people. */
export const HELP = /** @type {const} */ ([
  ["/me waves", "says what you do"],
  ["/msg NAME text", "tells it to one person alone"],
  ["/nick NAME", "changes your name"],
  ["/who", "shows who is here"],
  ["/help", "shows this"],
]);

/**
 * Reads a line.
 *
 * @param {string} text
 * @param {readonly string[]} names who is in the room: a name may have spaces in it
 * @returns {Line}
 */
export function readLine(text, names) {
  const [, command = "", rest = ""] = /^\/([a-z]+)(?:\s+([\s\S]*))?$/i.exec(text) ?? [];
  if (command === "") {
    // Two strokes begin a text that begins with one.
    return { type: "say", text: text.startsWith("//") ? text.slice(1) : text };
  }
  switch (command.toLowerCase()) {
    case "me":
      if (rest.trim() === "") return { type: "wrong", why: "Write what you do: /me waves" };
      return { type: "say", text: `/me ${rest}` };
    case "msg":
    case "w":
      return readWhisper(rest, names);
    case "nick":
      if (rest.trim() === "") return { type: "wrong", why: "Write the new name: /nick NAME" };
      return { type: "nick", name: rest.trim() };
    case "who":
      return { type: "who" };
    case "help":
      return { type: "help" };
    default: {
      const why = `There is no /${command}. /help shows what there is; // begins a text with a /.`;
      return { type: "wrong", why };
    }
  }
}

/**
 * @param {string} rest
 * @param {readonly string[]} names
 * @returns {Line}
 */
function readWhisper(rest, names) {
  const longestFirst = [...names].sort((a, b) => b.length - a.length);
  const known = longestFirst.find((name) =>
    isSameName(rest.slice(0, name.length), name) && /^(\s|$)/.test(rest.slice(name.length))
  );
  const to = known ?? /^\S+/.exec(rest)?.[0] ?? "";
  const text = rest.slice(to.length).trim();
  if (to === "" || text === "") {
    return { type: "wrong", why: "Write whom and what: /msg NAME text" };
  }
  return { type: "whisper", to, text };
}
