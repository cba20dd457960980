// @ts-check
/**
 * What a line means that somebody typed: a message, or a command such as `/msg Grace hello`.
 *
 * @module
 */

import { foldName, isSameName } from "./names.js";

/**
 * `isPrivate`: the line was meant for one person alone, so nobody else may get it.
 *
 * @typedef {{ type: "say", text: string }
 *   | { type: "whisper", to: string, text: string }
 *   | { type: "nick", name: string }
 *   | { type: "help" }
 *   | { type: "wrong", why: string, isPrivate?: true }} Line
 */

/** The commands, and what each does. */
export const HELP = /** @type {const} */ ([
  ["/me waves", "says what you do"],
  ["/msg NAME text", "tells it to one person alone"],
  ["/nick NAME", "changes your name"],
  ["/say /text", "says a text that begins with a /"],
  ["/help", "lists the commands"],
]);

/** Keyboards with Chinese or Japanese letters make a wide slash. */
const COMMAND = /^[/／]([a-z]+)(?:\s+([\s\S]*))?$/i;
/** A private command is one also among blanks, after invisible marks, and with the name right behind. */
const WHISPER = /^[\s\p{DI}]*[/／](?:\s*msg|w)(?![\p{L}\p{N}_/.-])\s*([\s\S]*)$/iu;
const QUOTED = /^@?["“”„‟«»「」『』＂]\s*(.*?)\s*["“”„‟«»「」『』＂](?=\s|$)/u;
/** Letters, emoji and signs, as the server allows them in a name, without a space. */
const NAME =
  /^(?![.'‘’])[\p{L}\p{M}\p{Nd}\p{Extended_Pictographic}\p{Emoji_Modifier}\p{Regional_Indicator}\p{Default_Ignorable_Code_Point}_.\-'‘’]{1,64}$/u;
/** More words than a name can have. */
const MAX_WORDS = 16;

/**
 * Reads a line.
 *
 * @param {string} text
 * @param {readonly string[]} names who is in the room; none while that is not known
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
      return { type: "wrong", why: "/help stands alone; put /say before it to say it." };
    default: {
      const why =
        `There is no /${command}. /help lists what there is; put /say before it to say it.`;
      return { type: "wrong", why };
    }
  }
}

/**
 * Whether a text, as far as it is written, is for everyone in the room, who may then see that it is
 * being written.
 *
 * @param {string} text
 */
export function isSpeech(text) {
  return text !== "" && !/^[\s\p{DI}]*[/／](?!(?:me|say)\s|[/／])/iu.test(text);
}

/**
 * A name as `/msg` reads it whole.
 *
 * @param {string} name
 * @param {readonly string[]} names who is in the room
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
  if (word === "") return wrong("Write whom and what: /msg NAME text");
  if (!NAME.test(word)) return wrong('Write the name in quotes: /msg "NAME" text');
  if (names.length === 0 || names.some((name) => resembles(name, word))) {
    const why = names.length === 0
      ? "It is not known yet who is here."
      : `Nobody here is called ${word}.`;
    return wrong(`${why} Write the whole name in quotes: /msg "NAME" text`);
  }
  return whisperTo(word, rest.slice(typed.length));
}

/**
 * Reads the longest name of somebody in the room at the start of a text.
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
  if (text.trim() === "") return wrong(`Write what to tell ${to} behind the name.`);
  return { type: "whisper", to, text: text.trim() };
}

/** @param {string} why @returns {Line} */
function wrong(why) {
  return { type: "wrong", why, isPrivate: true };
}

/**
 * The name of somebody in the room as that person spells it.
 *
 * @param {string} typed
 * @param {readonly string[]} names
 */
function spelled(typed, names) {
  const name = typed.trim().replace(/\s+/g, " ");
  return names.find((other) => other === name) ?? names.find((other) => isSameName(other, name));
}

/** Whether a name begins with another and goes on in a new word. @param {string} name @param {string} start */
function continues(name, start) {
  return foldName(name).startsWith(`${foldName(start)} `);
}

/**
 * Whether somebody may have meant a name by a word: one of its words begins with it, or it is the
 * name with a sign behind it.
 *
 * @param {string} name
 * @param {string} word
 */
function resembles(name, word) {
  return findWord(name, word) >= 0 || isSameName(name, word.replace(/[_.\-'‘’]+$/u, ""));
}

/**
 * Where in a name a word begins with what was typed, in any case and with or without accents: 0 at
 * its start, -1 for nowhere.
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
