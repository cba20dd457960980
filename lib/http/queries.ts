/**
 * Reads the query and the path of a request.
 *
 * @module
 */

import type { Context } from "hono";
import { getPath } from "hono/utils/url";

/** A parameter of the query. An empty one counts as absent, since many clients send it that way. */
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
 * The path of a request below the site's path. Some proxies strip the site's path, others keep it.
 *
 * @param sitePath with a slash at both ends
 */
export function readPath(request: Request, sitePath: string): string {
  const path = getPath(request);
  return path.startsWith(sitePath) ? path.slice(sitePath.length - 1) : path;
}

/**
 * The address of the site's root relative to a path below it: `./`, `../` and so on. It works
 * behind any proxy, whatever the site's own path is.
 */
export function rootFrom(path: string): string {
  const depth = path.split("/").length - 2;
  return depth === 0 ? "./" : "../".repeat(depth);
}
