// @ts-check
/**
 * Reads a typed line: a message, or a command such as `/msg Grace hello`.
 *
 * @module
 */

import { foldName, isSameName } from "./names.js";

/**
 * `isPrivate`: the line is meant for one person, so nobody else may get it.
 *
 * @typedef {{ type: "say", text: string }
 *   | { type: "whisper", to: string, text: string }
 *   | { type: "nick", name: string }
 *   | { type: "help" }
 *   | { type: "wrong", why: string, isPrivate?: true }} Line
 */

/** The commands, and the effect of each. */
export const HELP = /** @type {const} */ ([
  ["/me waves", "says what you do"],
  ["/msg NAME text", "sends a private message"],
  ["/nick NAME", "changes your name"],
  ["/say /text", "sends a text that begins with a /"],
  ["/help", "lists the commands"],
]);

/** Chinese and Japanese keyboards type a wide slash. */
const COMMAND = /^[/／]([a-z]+)(?:\s+([\s\S]*))?$/i;
/** Also matches after spaces or invisible marks, and with the name right after it. */
const WHISPER = /^[\s\p{DI}]*[/／](?:\s*msg|w)(?![\p{L}\p{N}_/.-])\s*([\s\S]*)$/iu;
const QUOTED = /^@?["“”„‟«»「」『』＂]\s*(.*?)\s*["“”„‟«»「」『』＂](?=\s|$)/u;
/** A name of one word: the letters, emoji and signs that the server allows. */
const NAME =
  /^(?![.'‘’])[\p{L}\p{M}\p{Nd}\p{Extended_Pictographic}\p{Emoji_Modifier}\p{Regional_Indicator}\p{Default_Ignorable_Code_Point}_.\-'‘’]{1,64}$/u;
/** Maximum words of a name. */
const MAX_WORDS = 16;

/**
 * Reads a line.
 *
 * @param {string} text
 * @param {readonly string[]} names the people in the room; empty while unknown
 * @returns {Line}
 */
export function readLine(text, names) {
  const whisper = WHISPER.exec(text);
  if (whisper) return readWhisper(whisper[1] ?? "", names);
  const [, command, rest = ""] = COMMAND.exec(text) ?? [];
  if (command === undefined) return { type: "say", text };
  const isBare = rest.trim() === "";
  switch (command.toLowerCase()) {
    case "me":
      if (isBare) return { type: "wrong", why: "Write what you do: /me waves" };
      return { type: "say", text: `/me ${rest}` };
    case "say":
      if (isBare) return { type: "wrong", why: "Write what to say: /say /text" };
      return { type: "say", text: rest };
    case "nick":
      if (isBare) return { type: "wrong", why: "Write the new name: /nick NAME" };
      return { type: "nick", name: rest.trim() };
    case "help":
      if (isBare) return { type: "help" };
      return { type: "wrong", why: "/help takes no text. To send this line, put /say before it." };
    default: {
      const why = `There is no /${command}. See /help, or put /say before the line to send it.`;
      return { type: "wrong", why };
    }
  }
}

/**
 * Whether an unfinished text is for everyone in the room: only then may the room see the person type.
 *
 * @param {string} text
 */
export function isSpeech(text) {
  return text !== "" && !/^[\s\p{DI}]*[/／](?!(?:me|say)\s|[/／])/iu.test(text);
}

/**
 * A name as `/msg` expects it: in quotes if it would be misread otherwise.
 *
 * @param {string} name
 * @param {readonly string[]} names the people in the room
 */
export function quoteName(name, names) {
  const isOneWord = NAME.test(name) && !names.some((other) => continues(other, name));
  return isOneWord ? name : `"${name}"`;
}

/**
 * @param {string} rest
 * @param {readonly string[]} names
 * @returns {Line}
 */
function readWhisper(rest, names) {
  const [named = "", quoted] = QUOTED.exec(rest) ?? [];
  if (quoted) return whisperTo(spelled(quoted, names) ?? quoted, rest.slice(named.length));
  const known = readKnown(rest, names);
  if (known) return known;
  const [typed = ""] = /^\S*/.exec(rest) ?? [];
  const word = typed.replace(/^@/, "");
  if (word === "") return wrong("Write a name and a text: /msg NAME text");
  if (!NAME.test(word)) return wrong('Write the name in quotes: /msg "NAME" text');
  if (names.length === 0 || names.some((name) => resembles(name, word))) {
    const why = names.length === 0
      ? "The list of people has not arrived yet."
      : `Nobody here is called ${word}.`;
    return wrong(`${why} Write the whole name in quotes: /msg "NAME" text`);
  }
  return whisperTo(word, rest.slice(typed.length));
}

/**
 * Reads the longest name at the start of a text that someone in the room has.
 *
 * @param {string} rest
 * @param {readonly string[]} names
 */
function readKnown(rest, names) {
  const start = rest.startsWith("@") ? 1 : 0;
  const ends = [...rest.slice(start).matchAll(/\S(?=\s|$)/g)].slice(0, MAX_WORDS)
    .map(({ index }) => start + index + 1);
  for (const end of ends.reverse()) {
    const to = spelled(rest.slice(start, end), names);
    if (to !== undefined) return whisperTo(to, rest.slice(end));
  }
  return undefined;
}

/** @param {string} to @param {string} text @returns {Line} */
function whisperTo(to, text) {
  if (text.trim() === "") return wrong(`Write your message to ${to} after the name.`);
  return { type: "whisper", to, text: text.trim() };
}

/** @param {string} why @returns {Line} */
function wrong(why) {
  return { type: "wrong", why, isPrivate: true };
}

/**
 * A name in the room as its owner spells it.
 *
 * @param {string} typed
 * @param {readonly string[]} names
 */
function spelled(typed, names) {
  const name = typed.trim().replace(/\s+/g, " ");
  return names.find((other) => other === name) ?? names.find((other) => isSameName(other, name));
}

/** Whether a name consists of another one and further words. @param {string} name @param {string} start */
function continues(name, start) {
  return foldName(name).startsWith(`${foldName(start)} `);
}

/**
 * Whether a word may stand for a name: a word of the name begins with it, or it is the name and a
 * sign after it.
 *
 * @param {string} name
 * @param {string} word
 */
function resembles(name, word) {
  return findWord(name, word) >= 0 || isSameName(name, word.replace(/[_.\-'‘’]+$/u, ""));
}

/**
 * Index in `name` of the first word that begins with `typed`, in any case and with or without accents;
 * -1 if there is none.
 *
 * @param {string} name
 * @param {string} typed
 */
export function findWord(name, typed) {
  const whole = plain(name);
  const start = plain(typed);
  let at = whole.indexOf(start);
  while (at > 0 && /[\p{L}\p{N}\p{M}]$/u.test(whole.slice(0, at))) {
    at = whole.indexOf(start, at + 1);
  }
  return at;
}

/** @param {string} name */
function plain(name) {
  return foldName(name).normalize("NFD").replace(/[\u0300-\u036f]/g, "");
}
