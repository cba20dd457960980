// @ts-check
/**
 * The comparing of names, as the server does it (`lib/names.ts`).
 *
 * @module
 */

/**
 * Whether two names are the same for the server, which looks at neither case nor width, nor at what
 * cannot be seen.
 *
 * @param {string} a
 * @param {string} b
 */
export function isSameName(a, b) {
  return a === b || foldName(a) === foldName(b);
}

/** The form in which the server compares names. @param {string} name */
export function foldName(name) {
  return name.replace(/\p{DI}/gu, "").normalize("NFKC").toUpperCase().toLowerCase()
    .normalize("NFKC").replace(/['‘ʻʼʽˈ]/g, "’");
}
