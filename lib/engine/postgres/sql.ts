/**
 * Values as PostgreSQL's literals.
 *
 * @module
 */

/** What stands in a statement: a text, a number, texts in an array, or nothing. */
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
  // A bound without an end is the largest integer of PostgreSQL.
  if (value === Infinity) return "9223372036854775807";
  return String(value);
}

/** No text of PostgreSQL can hold U+0000. */
function quoteText(text: string): string {
  return `E'${text.replaceAll("\0", "\ufffd").replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
}

function toArray(texts: readonly (string | null)[]): string {
  return `{${
    texts.map((text) => text === null ? "NULL" : `"${text.replaceAll(/["\\]/g, "\\$&")}"`).join(",")
  }}`;
}
