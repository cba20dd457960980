// @ts-check
/**
 * Compares names as the server does (`lib/names.ts`).
 *
 * @module
 */

/**
 * Whether two names are the same for the server, which ignores case, width and invisible characters.
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
