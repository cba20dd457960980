/**
 * The site that a request is for, and the site whose page sent it.
 *
 * @module
 */

import type { Context } from "hono";
import type { PublicUrl } from "../config.ts";
import { ChatError } from "../errors.ts";
import { HttpError } from "./http_error.ts";
import { forwardedScheme } from "./proxy.ts";

/** Which sites and headers the server trusts. */
export interface TrustSettings {
  /** Origins, besides the server's own, whose pages may use the server; `*` for all. */
  readonly allowedOrigins: readonly string[];
  /** Origins whose pages may show the server's page in a frame; `*` for all. */
  readonly embedOrigins: readonly string[];
  /** Whether the server believes what a proxy says about the client. */
  readonly trustProxy: boolean;
  /** The only site that the server is; absent for any. */
  readonly publicUrl?: PublicUrl | undefined;
}

/** Maximum length of a host, and of an origin. Making a URL of a longer one would take long. */
const MAX_HOST_LENGTH = 300;

/** Whether the client's own connection is encrypted. */
export function isSecure(c: Context, { trustProxy, publicUrl }: TrustSettings): boolean {
  if (publicUrl !== undefined) return publicUrl.scheme === "https";
  const scheme = trustProxy ? forwardedScheme(c.req.raw.headers) : undefined;
  return scheme === undefined ? c.req.url.startsWith("https:") : scheme === "https";
}

/** The port that people reach the server at; `undefined` for the default ones. */
export function publicPort(c: Context, { publicUrl }: TrustSettings): string | undefined {
  const host = publicUrl?.host ?? hostOf(c.req.raw.headers);
  return /:(\d{1,5})$/.exec(host ?? "")?.[1];
}

/**
 * Refuses a request for another site. A browser whose name for another site was made to point here
 * (DNS rebinding) sends that name.
 *
 * @throws {HttpError} 421
 */
export function checkHost(c: Context, { trustProxy, publicUrl }: TrustSettings): void {
  if (publicUrl === undefined) return;
  const { headers } = c.req.raw;
  const scheme = trustProxy ? forwardedScheme(headers) ?? publicUrl.scheme : publicUrl.scheme;
  if (hostOf(headers) === withoutDefaultPort(publicUrl.host) && scheme === publicUrl.scheme) return;
  const address = `${publicUrl.origin}${publicUrl.path}`.replace(/\/$/, "");
  throw new HttpError(421, `This server answers at ${address} alone. Use that address.`);
}

/**
 * Whether the page behind a request may use this server. A browser names the page's origin in every
 * request whose answer the page can read, and in all but GET and HEAD (Fetch, "append a request
 * Origin header"; RFC 6455, section 10.2). A client that sends none is no browser, or a browser that
 * loads an image or the like, and says so.
 *
 * @param headers the request's
 * @param allowed origins besides the server's own; `*` for all
 * @param own the server's own origin; absent for any scheme at the host of the request
 */
export function isAllowedOrigin(
  headers: Headers,
  allowed: readonly string[],
  own?: string,
): boolean {
  const origin = headers.get("origin");
  if (origin === null) return !isForeignPart(headers);
  if (allowed.includes("*") || allowed.includes(origin)) return true;
  if (own !== undefined) return origin === own;
  if (origin.length > MAX_HOST_LENGTH) return false;
  const host = hostOf(headers);
  const { host: originHost } = URL.parse(origin) ?? {};
  return Boolean(host) && originHost !== undefined && withoutDefaultPort(originHost) === host;
}

/** Whether a page of another origin loads an answer as its image or script (Fetch Metadata). */
function isForeignPart(headers: Headers): boolean {
  const site = headers.get("sec-fetch-site");
  return headers.get("sec-fetch-mode") === "no-cors" &&
    (site === "cross-site" || site === "same-site");
}

/**
 * Refuses a request of a page that may not use this server.
 *
 * @throws {ChatError} `forbidden`
 */
export function checkOrigin(c: Context, { allowedOrigins, publicUrl }: TrustSettings): void {
  if (isAllowedOrigin(c.req.raw.headers, allowedOrigins, publicUrl?.origin)) return;
  throw new ChatError("forbidden", "Pages of this origin may not use this server.");
}

/** The host as the client sent it: a URL made of it may be invalid. */
function hostOf(headers: Headers): string | undefined {
  const host = headers.get("host");
  if (host === null || host.length > MAX_HOST_LENGTH) return undefined;
  return withoutDefaultPort(host.toLowerCase());
}

/** A proxy may encrypt, so the default port of either scheme is none. */
function withoutDefaultPort(host: string): string {
  return host.replace(/:(80|443)$/, "");
}
