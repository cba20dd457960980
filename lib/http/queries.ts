/**
 * Reads the query and the path of a request.
 *
 * @module
 */

import type { Context } from "hono";
import { getPath } from "hono/utils/url";

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

/**
 * The path of a request below the site's own path. Some proxies take that away, others pass it on.
 *
 * @param sitePath with a slash at both ends
 */
export function readPath(request: Request, sitePath: string): string {
  const path = getPath(request);
  return path.startsWith(sitePath) ? path.slice(sitePath.length - 1) : path;
}

/**
 * The relative address of the site's root, `./` or some `../`, as seen from a path below it. It holds
 * behind any proxy, whatever the site's own path is.
 */
export function rootFrom(path: string): string {
  const depth = path.split("/").length - 2;
  return depth === 0 ? "./" : "../".repeat(depth);
}
