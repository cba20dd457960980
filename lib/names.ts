/**
 * The names of users and rooms: one table of rules, one function that applies it.
 *
 * @module
 */

import { ChatError } from "./errors.ts";

/** The kind of a name. It determines the maximum length and the noun in the error. */
export type NameKind = "username" | "room";

/** A name that breaks a rule. The message is a sentence that names the rule. */
export class NameError extends ChatError {
  override readonly name = "NameError";

  constructor(sentence: string) {
    super("bad_request", sentence);
  }
}

/** Maximum length of each kind, in code points after NFC. */
const MAX_NAME_LENGTH: Readonly<Record<NameKind, number>> = { username: 32, room: 64 };

/** The username in messages from the raw relay, whose members have no name. It is reserved. */
export const ANONYMOUS = "anonymous";

/** The room of a client that does not name one. */
export const LOBBY = "lobby";

/** Patterns that a name must not match, each with the end of its error sentence. */
const FORBIDDEN: readonly (readonly [RegExp, string])[] = [
  [/\p{Cs}|\p{Cn}/u, "must not have unassigned or surrogate code points"],
  [/\p{Cc}/u, "must not have control characters"],
  // Default_Ignorable holds the zero-width and bidi controls and the invisible fillers. The
  // variation selectors (FE0E, FE0F) are in it too, but may follow an emoji or a keycap.
  [/(?![\ufe0e\ufe0f])\p{DI}/u, "must not have invisible or direction characters"],
  [/(?<![\p{Emoji}])[\ufe0e\ufe0f]/u, "must not have invisible or direction characters"],
  [/^ | $/u, "must not begin or end with a space"],
  [/ {2}/u, "must not have two spaces in a row"],
  [/^\p{M}/u, "must not begin with a combining mark"],
  [/\p{M}{5}/u, "must not have more than four combining marks in a row"],
  [/^\.+$/u, "must not be dots alone"],
  [
    /[^\p{L}\p{M}\p{Nd}\p{Extended_Pictographic}\p{Emoji_Modifier}\p{Regional_Indicator} _.\-]/u,
    "may only have letters, marks, digits, emoji, spaces inside, and _ . -",
  ],
];

/**
 * Normalizes a name to NFC and checks it against the rules.
 *
 * @param kind what the name is for
 * @param value the name as a client sent it, percent-decoding done
 * @returns the name in NFC: 1 to 32 (username) or 1 to 64 (room) code points
 * @throws {NameError} if the name breaks a rule; the message says which
 */
export function parseName(kind: NameKind, value: string): string {
  const longest = MAX_NAME_LENGTH[kind];
  // Normalizing is quadratic in a run of marks, so refuse hopeless lengths first: NFC composes one
  // code point from at most four, each of at most two units.
  const name = value.length > 8 * longest ? "" : value.normalize("NFC");
  if (name === "" || [...name].length > longest) {
    throw new NameError(`The ${kind} must be 1 to ${longest} characters long.`);
  }
  for (const [pattern, rule] of FORBIDDEN) {
    if (pattern.test(name)) throw new NameError(`The ${kind} ${rule}.`);
  }
  if (kind === "username" && nameKey(name) === ANONYMOUS) {
    throw new NameError(`The username "${ANONYMOUS}" is reserved.`);
  }
  return name;
}

/**
 * The form in which usernames are compared: names with equal keys are the same.
 *
 * NFKC and case folding, so that `Alice`, `alice` and the full-width `ａｌｉｃｅ` are one (Unicode
 * Standard, section 3.13, "Default Caseless Matching"). JavaScript has no case folding; upper case
 * then lower case gives the same classes for the letters that names may have.
 */
export function nameKey(username: string): string {
  // Most names are ASCII, which has nothing to normalise.
  if (/^[ -~]*$/.test(username)) return username.toLowerCase();
  return username.normalize("NFKC").toUpperCase().toLowerCase().normalize("NFKC");
}
