/**
 * CORS (Fetch, section "CORS protocol"): pages of the origins in `ALLOWED_ORIGINS` may read the
 * API, the refusals of WebSockets, and the client modules. Pages of other origins may read nothing.
 *
 * @module
 */

import type { Context, MiddlewareHandler } from "hono";
import type { TrustSettings } from "./origins.ts";

/** Paths whose answers pages of other origins may read. */
const SHARED = /^\/(api\/|ws(\/|$)|echo$)|\.js$/;

/** The script that puts a button on a site. Pages of every origin may load it. */
const EMBED_SCRIPT = "/embed.js";

/** Headers of the answer to a preflight. */
const PREFLIGHT = {
  "access-control-allow-methods": "GET, POST, PUT, DELETE",
  "access-control-allow-headers": "authorization, content-type, idempotency-key, last-event-id",
  "access-control-max-age": "600",
} as const;

/**
 * Lets pages of the allowed origins read answers, refusals included, and answers their preflights.
 * The answer to an upgrade stays untouched: after it a request can no longer be refused.
 */
export function shareAnswers({ allowedOrigins }: TrustSettings): MiddlewareHandler {
  return async (c, next) => {
    const { path } = c.req;
    const isShared = allowedOrigins.length > 0 && SHARED.test(path);
    const origin = isShared ? readableBy(c, allowedOrigins) : undefined;
    if (origin !== undefined && isPreflight(c)) c.res = c.body(null, 204, PREFLIGHT);
    else await next();
    const { headers, status } = c.res;
    if (status === 101) return;
    // Browsers send no Origin when they load a classic script.
    if (path === EMBED_SCRIPT || origin !== undefined || (isShared && path.endsWith(".js"))) {
      headers.set("cross-origin-resource-policy", "cross-origin");
    }
    if (isShared) headers.append("vary", "origin");
    if (origin !== undefined) allow(headers, origin);
  };
}

/** Whether a browser asks if its page may send a request (Fetch, "CORS-preflight request"). */
function isPreflight({ req }: Context): boolean {
  return req.method === "OPTIONS" && req.header("access-control-request-method") !== undefined;
}

/** The origin that may read the answer, as the header names it; `undefined` for none. */
function readableBy({ req }: Context, allowed: readonly string[]): string | undefined {
  const origin = req.header("origin");
  if (origin === undefined) return undefined;
  if (allowed.includes(origin)) return origin;
  return allowed.includes("*") ? "*" : undefined;
}

function allow(headers: Headers, origin: string): void {
  headers.set("access-control-allow-origin", origin);
  headers.set("access-control-expose-headers", "retry-after");
  // `null` is the origin of every page in a sandbox. Neither it nor `*` names one site.
  if (origin === "*" || origin === "null") return;
  headers.set("access-control-allow-credentials", "true");
}
