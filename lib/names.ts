/**
 * The names of users and rooms: one table of rules, one function that applies it, and the form in
 * which names are compared.
 *
 * @module
 */

import { ChatError } from "./errors.ts";
import { hasOneScript } from "./scripts.ts";

/** The kind of a name. It determines the rules, the maximum length and the noun in the error. */
export type NameKind = "username" | "room" | "token name";

/** A name that breaks a rule. The message is a sentence that names the rule. */
export class NameError extends ChatError {
  override readonly name = "NameError";

  constructor(sentence: string) {
    super("bad_request", sentence);
  }
}

/** Maximum length of each kind, in code points after NFC. */
const MAX_NAME_LENGTH: Readonly<Record<NameKind, number>> = {
  username: 32,
  room: 64,
  "token name": 64,
};

/** The username in messages from the raw relay, whose members have no name. It is reserved. */
export const ANONYMOUS = "anonymous";

/** The room of a client that does not name one. */
export const LOBBY = "lobby";

/**
 * Letters and symbols that fonts leave blank, for a character class. No property of Unicode names
 * them.
 */
export const BLANKS = "\\u{2800}\\u{13441}\\u{13442}\\u{16fe4}\\u{1d159}";

/** The emoji in which selectors, joiners and tags belong (UTS #51, section 1.4.9). */
const EMOJI_SEQUENCES =
  /\d\ufe0f?\u20e3|\p{RGI_Emoji_Tag_Sequence}|\p{ExtPict}(?:[\ufe0e\ufe0f]|\p{EMod})?(?:\u200d\p{ExtPict}(?:\ufe0f|\p{EMod})?)*/gv;

/** A rule: what breaks it, and the end of the error sentence. */
type Rule = readonly [isBroken: (name: string) => boolean, sentence: string];

/** The rules of every kind. */
const RULES: readonly Rule[] = [
  [has(/\p{Cs}|\p{Cn}/u), "must not have unassigned or surrogate code points"],
  [has(/\p{Cc}/u), "must not have control characters"],
  // Default_Ignorable holds the zero-width and bidi controls, the selectors, and most fillers.
  [
    (name) => /\p{DI}/u.test(name.replace(EMOJI_SEQUENCES, "")),
    "must not have invisible or direction characters",
  ],
  [has(new RegExp(`[${BLANKS}]`, "u")), "must not have blank characters"],
  [has(/^ | $/u), "must not begin or end with a space"],
  [has(/ {2}/u), "must not have two spaces in a row"],
  [
    has(/(?:^|[ _.\-’])\p{M}/u),
    "must not begin with a combining mark, or have one after a space or a sign",
  ],
  [has(/\p{M}{5}/u), "must not have more than four combining marks in a row"],
  [has(/(\p{M})\1/u), "must not have the same combining mark twice in a row"],
  [has(/^\.+$/u), "must not be dots alone"],
];

/** The rules of the names that people see in a chat, beside those of every kind. */
const CHAT_RULES: readonly Rule[] = [
  ...RULES,
  [
    has(/[^\p{L}\p{M}\p{Nd}\p{ExtPict}\p{EMod}\p{RI}\p{DI} _.\-’]/u),
    "may only have letters, marks, digits, emoji, spaces inside, and _ . - ’",
  ],
];

const KIND_RULES: Readonly<Record<NameKind, readonly Rule[]>> = {
  username: [
    ...CHAT_RULES,
    [
      (name) => !hasOneScript(name),
      "must keep to one script: all Latin, or all Cyrillic, and so on",
    ],
    [readsAsServer, "is reserved for the server. Choose another"],
  ],
  room: CHAT_RULES,
  // Only its owner reads a token's name, so every sign is allowed.
  "token name": [
    ...RULES,
    [
      has(/(?! )\p{Z}|\p{Co}/u),
      "must not have other spaces than the plain one, or private-use characters",
    ],
  ],
};

function has(pattern: RegExp): (name: string) => boolean {
  return (name) => pattern.test(name);
}

/**
 * Checks a name against the rules.
 *
 * @param kind what the name is for
 * @param value the name as a client sent it, percent-decoding done
 * @returns the name as it is kept: in NFC, 1 to 32 (username) or 1 to 64 (others) code points, an
 *   apostrophe as ’; a room's without variation selectors, and the lobby's in lower case
 * @throws {NameError} if the name breaks a rule; the message says which
 */
export function parseName(kind: NameKind, value: string): string {
  const longest = MAX_NAME_LENGTH[kind];
  const name = isNormalizable(kind, value) ? value.normalize("NFC").replace(/['‘]/g, "’") : "";
  if (name === "" || [...name].length > longest) {
    throw new NameError(`The ${kind} must be 1 to ${longest} characters long.`);
  }
  for (const [isBroken, sentence] of KIND_RULES[kind]) {
    if (isBroken(name)) throw new NameError(`The ${kind} ${sentence}.`);
  }
  if (kind !== "room") return name;
  return nameKey(name) === LOBBY ? LOBBY : name.replace(/[\ufe0e\ufe0f]/g, "");
}

/**
 * The form in which usernames are compared: names with equal keys are the same. A text that is too
 * long for a name has the empty key, which no name has.
 *
 * NFKC and case folding without Default_Ignorable code points (Unicode Standard, section 3.13,
 * `toNFKC_Casefold`), so that `Alice`, `alice` and the full-width `ａｌｉｃｅ` are one, and an emoji is
 * the same with and without its selector. JavaScript has no case folding; upper case then lower
 * case gives the same classes for the letters that names may have.
 */
export function nameKey(username: string): string {
  // Most names are ASCII, which has nothing to normalize.
  const isShort = username.length <= MAX_NAME_LENGTH.username;
  if (isShort && /^[ -&(-~]*$/.test(username)) return username.toLowerCase();
  if (!isNormalizable("username", username)) return "";
  return username.replace(/\p{DI}/gu, "").normalize("NFKC").toUpperCase().toLowerCase()
    .normalize("NFKC").replace(/['‘ʻʼʽˈ]/g, "’");
}

/**
 * Whether a text is short enough to be a name in any form. No other text is normalized, since a run
 * of marks takes quadratic time: NFC composes one code point from at most four, each of at most two
 * units, and no name has a run of more than 30 (UAX #15, section 13).
 */
function isNormalizable(kind: NameKind, text: string): boolean {
  return text.length <= 8 * MAX_NAME_LENGTH[kind] && !/\p{M}{31}/u.test(text);
}

/** The words with which the server's own lines begin, and the name of members without one. */
const RESERVED: ReadonlySet<string> = new Set(
  ["error", "online", "server", "system", ANONYMOUS].map(toReading),
);

/** How a notice ends, and how older versions began a private message. */
const NOTICE = / (?:joined|left) the (?:chat|room)$| to .+ alone$/;

/** Whether a name in front of a text reads as the server's own words. */
function readsAsServer(name: string): boolean {
  return RESERVED.has(toReading(name)) || NOTICE.test(nameKey(name));
}

/** What a reader sees at a glance: letters without marks and signs, digits as letters like them. */
function toReading(name: string): string {
  return nameKey(name).normalize("NFD").replace(/[^\p{L}\p{Nd}]/gu, "")
    .replaceAll("0", "o").replaceAll("3", "e").replaceAll("5", "s").replace(/[1i]/g, "l");
}
