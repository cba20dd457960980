/**
 * Reads the query and the path of a request.
 *
 * @module
 */

import type { Context } from "hono";

/** A parameter of the query. An empty one counts as absent: many clients write it so. */
export function queryOf(c: Context, name: string): string | undefined {
  return c.req.query(name) || undefined;
}

/** Whether the path of an address has a percent sign that begins no whole letter. */
export function isCutPath(url: string): boolean {
  const [path = ""] = url.split(/[?#]/, 1);
  try {
    decodeURIComponent(path);
    return false;
  } catch {
    return true;
  }
}
