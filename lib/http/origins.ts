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
  /** The only address that the server answers to; absent for any. */
  readonly publicUrl?: PublicUrl | undefined;
}

/** Maximum length of a host or an origin. Parsing a longer one would take long. */
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
 * Refuses a request for another host, such as one from a browser for which an attacker's host name
 * points to this server (DNS rebinding).
 *
 * @throws {HttpError} 421
 */
export function checkHost(c: Context, { trustProxy, publicUrl }: TrustSettings): void {
  if (publicUrl === undefined) return;
  const { headers } = c.req.raw;
  const scheme = trustProxy ? forwardedScheme(headers) ?? publicUrl.scheme : publicUrl.scheme;
  if (hostOf(headers) === withoutDefaultPort(publicUrl.host) && scheme === publicUrl.scheme) return;
  const address = `${publicUrl.origin}${publicUrl.path}`.replace(/\/$/, "");
  throw new HttpError(421, `This server answers only at ${address}. Use that address.`);
}

/**
 * Whether the page behind a request may use this server. A browser names the page's origin in every
 * request whose answer the page can read, and in all but GET and HEAD (Fetch, "append a request
 * Origin header"; RFC 6455, section 10.2). A request without an origin is not from a browser, or is
 * for an image or a script of a page, which its headers say.
 *
 * @param headers of the request
 * @param allowed origins besides the server's own; `*` for all
 * @param own the server's own origin; absent: any scheme at the host of the request
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
 * Refuses a request from a page that may not use this server.
 *
 * @throws {ChatError} `forbidden`
 */
export function checkOrigin(c: Context, { allowedOrigins, publicUrl }: TrustSettings): void {
  if (isAllowedOrigin(c.req.raw.headers, allowedOrigins, publicUrl?.origin)) return;
  throw new ChatError("forbidden", "Pages of this origin may not use this server.");
}

/** The host as the client sent it. It may not fit into a URL. */
function hostOf(headers: Headers): string | undefined {
  const host = headers.get("host");
  if (host === null || host.length > MAX_HOST_LENGTH) return undefined;
  return withoutDefaultPort(host.toLowerCase());
}

/** A host without the default port of either scheme: a proxy may encrypt. */
function withoutDefaultPort(host: string): string {
  return host.replace(/:(80|443)$/, "");
}
