/**
 * The words with which a server's functions and scripts refuse a job.
 *
 * @module
 */

import {
  type ChatError,
  nameInUse,
  nobodyWithName,
  noSuchMessage,
  nothingToAnswer,
  onlyAuthor,
  storeUnavailable,
} from "../../errors.ts";

/** The refusal of each word. */
const REFUSALS: Readonly<Record<string, () => ChatError>> = {
  answered: nothingToAnswer,
  author: onlyAuthor,
  lease: storeUnavailable,
  message: noSuchMessage,
  name: nameInUse,
  nobody: nobodyWithName,
};

/**
 * The refusal for a server's word.
 *
 * @throws {Error} if the word is unknown
 */
export function toRefusal(word: string): ChatError {
  const refuse = REFUSALS[word];
  if (refuse === undefined) throw new Error(`No refusal has the word ${word}.`);
  return refuse();
}
