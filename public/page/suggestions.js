// @ts-check
/**
 * Finds completions of a text: commands after a `/`, people after an `@` or a `/msg`. Uses no DOM.
 *
 * @module
 */

import { findWord, HELP, quoteName } from "../commands.js";
import { isSameName } from "../names.js";

/**
 * `insert` replaces the text from `from` on. `isLikely`: the person seems to mean the first option, so
 * that Enter takes it.
 *
 * @typedef {{ label: string, about: string, insert: string }} Option
 * @typedef {{ from: number, isLikely: boolean, options: readonly Option[] }} Suggestions
 */

/** Maximum options at a time. */
const MAX_OPTIONS = 8;
/** Maximum UTF-16 units of a typed name. */
const MAX_NAME_UNITS = 80;

const COMMAND = /^\s*[/／]([a-z]*)$/i;
const RECEIVER = /^\s*[/／](?:msg|w)\s+@?["“”„‟«»「」『』＂]?\s*([^"“”„‟«»「」『』＂]*)$/i;
const MENTION = /(?:^|[\s([{"'“„«「『])[@＠]((?:[^\s@＠][^@＠\n]*)?)$/u;

/**
 * Finds the completions of a text.
 *
 * @param {string} before the text before the cursor
 * @param {readonly string[]} names the people to suggest
 * @param {{ commands?: boolean }} [how] `commands`: whether to suggest commands, true by default; an
 *   edit has none
 * @returns {Suggestions | undefined} `undefined` if there are none
 */
export function suggest(before, names, { commands = true } = {}) {
  return (commands ? suggestCommands(before) ?? suggestReceivers(before, names) : undefined) ??
    suggestMentions(before, names);
}

/** @param {string} before */
function suggestCommands(before) {
  const word = COMMAND.exec(before)?.[1];
  if (word === undefined) return undefined;
  const typed = `/${word.toLowerCase()}`;
  const options = HELP.map(([label, about]) => ({ label, about, insert: firstWord(label) }))
    .filter(({ insert }) => insert.startsWith(typed));
  return offer(
    before.length - typed.length,
    word,
    options,
    ({ insert }) => insert.trim() === typed,
  );
}

/** The command to insert: with a space if an argument follows. @param {string} usage */
function firstWord(usage) {
  return /^\S+ ?/.exec(usage)?.[0] ?? "";
}

/** @param {string} before @param {readonly string[]} names */
function suggestReceivers(before, names) {
  const typed = RECEIVER.exec(before)?.[1];
  if (typed === undefined || typed.length > MAX_NAME_UNITS) return undefined;
  const from = (/^\s*\S+\s+/.exec(before)?.[0] ?? "").length;
  return suggestNames(from, typed, names, (name) => `${quoteName(name, names)} `);
}

/** @param {string} before @param {readonly string[]} names */
function suggestMentions(before, names) {
  const typed = MENTION.exec(before.slice(-MAX_NAME_UNITS))?.[1];
  if (typed === undefined) return undefined;
  return suggestNames(before.length - typed.length - 1, typed, names, (name) => `@${name} `);
}

/**
 * @param {number} from
 * @param {string} typed
 * @param {readonly string[]} names
 * @param {(name: string) => string} insertion
 */
function suggestNames(from, typed, names, insertion) {
  const wanted = typed.replace(/\s+/g, " ");
  const found = names.map((name) => ({ name, at: findWord(name, wanted) }))
    .filter(({ at }) => at >= 0)
    .sort((a, b) => Number(a.at > 0) - Number(b.at > 0) || byName.compare(a.name, b.name));
  const options = found.slice(0, MAX_OPTIONS)
    .map(({ name }) => ({ label: name, about: "", insert: insertion(name) }));
  return offer(from, typed, options, ({ label }) => isSameName(label, typed));
}

/**
 * @param {number} from
 * @param {string} typed
 * @param {readonly Option[]} options
 * @param {(option: Option) => boolean} isComplete whether the whole option is typed already
 * @returns {Suggestions | undefined}
 */
function offer(from, typed, options, isComplete) {
  const isWhole = options.some(isComplete);
  if (options.length === 0 || (isWhole && options.length === 1)) return undefined;
  return { from, isLikely: !isWhole && /\S$/.test(typed), options };
}

const byName = new Intl.Collator(undefined, { numeric: true });
