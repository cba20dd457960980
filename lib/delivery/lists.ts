/**
 * Lists that live long and are emptied at each delivery.
 *
 * @module
 */

/** Maximum length of a list that keeps its memory. */
const SHORT = 16;

const NOTHING: readonly never[] = Object.freeze([]);

/**
 * Empties a list. A short list keeps its memory: a new array at each delivery costs more, and a
 * long-lived owner may keep dead arrays alive.
 */
export function clear(list: unknown[]): void {
  if (list.length > SHORT) list.length = 0;
  // `pop` keeps the array's memory; `length = 0` and `splice` release it.
  else while (list.length > 0) list.pop();
}

/** Empties a list as {@linkcode clear} does, and returns its former contents. */
export function takeAll<T>(list: T[]): readonly T[] {
  if (list.length === 0) return NOTHING;
  const all = list.slice();
  clear(list);
  return all;
}
