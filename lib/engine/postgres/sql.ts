/**
 * Writes values as literals of PostgreSQL.
 *
 * @module
 */

/** A value in a statement: a text, a number, an array of texts, or NULL. */
export type Value = string | number | boolean | null | undefined | readonly (string | null)[];

/** A call of one of the functions in `schema.ts`. */
export function call(name: string, ...values: Value[]): string {
  return `SELECT hubbub.${name}(${values.map(quote).join(",")})`;
}

/** A value as a literal. */
export function quote(value: Value): string {
  if (value === null || value === undefined) return "NULL";
  if (typeof value === "string") return quoteText(value);
  if (typeof value === "object") return quoteText(toArray(value));
  // No limit is the largest integer of PostgreSQL.
  if (value === Infinity) return "9223372036854775807";
  return String(value);
}

/** Replaces U+0000, which no text of PostgreSQL can contain. */
function quoteText(text: string): string {
  return `E'${text.replaceAll("\0", "\ufffd").replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
}

function toArray(texts: readonly (string | null)[]): string {
  return `{${
    texts.map((text) => text === null ? "NULL" : `"${text.replaceAll(/["\\]/g, "\\$&")}"`).join(",")
  }}`;
}
