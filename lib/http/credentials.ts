/**
 * The tokens and guest secrets of requests, and the cookies that hold them in a browser.
 *
 * A cookie's name contains the port and the site's path, because browsers send the cookies of a
 * host to all its ports and paths. On https the name begins with `__Host-`, so no other host and no
 * page on http can set it (RFC 6265bis, section 4.1.3). On http another site may plant a cookie
 * with the same name. The server cannot tell which of two cookies is its own, so a second cookie
 * never decides who the browser is.
 *
 * In a frame on another site, browsers send no `SameSite=Lax` cookie. On https the page in a frame
 * has its own cookies, separate for each site around the frame (CHIPS, `Partitioned`). They count
 * only if there is no ordinary cookie.
 *
 * @module
 */

import type { Context } from "hono";
import { setCookie } from "hono/cookie";
import { ChatError, sessionEnded } from "../errors.ts";
import type { Accounts, Identity } from "../people/accounts.ts";
import { createSecret, isSecret } from "../people/secrets.ts";
import { isSecure, publicPort, type TrustSettings } from "./origins.ts";
import { queryOf } from "./queries.ts";

/** What a cookie holds: an account's token or a guest's secret. */
type Credential = "session" | "guest";

/** The kind of a cookie: for the page in frames of other sites, or for the page anywhere else. */
type CookieKind = Credential | `${Credential}_embedded`;

/** How long a browser keeps a guest's secret, in seconds. */
const GUEST_SECONDS = 365 * 24 * 60 * 60;

/** Maximum cookies with one name that are looked up. */
const MAX_COOKIES = 50;

/**
 * The tokens of a request: the one in `Authorization` or in `?token=`, else all in cookies.
 */
export function readTokens(c: Context, settings: TrustSettings): readonly string[] {
  const token = namedToken(c);
  return token === undefined ? readCookies(c, "session", settings) : [token];
}

/** The token that a client itself put into a request, unlike a cookie, which the browser adds. */
export function namedToken(c: Context): string | undefined {
  const [, bearer] = /^Bearer +(\S+)$/i.exec(c.req.header("authorization") ?? "") ?? [];
  return bearer ?? queryOf(c, "token");
}

/**
 * The sender of a request: the person of its token, or a guest.
 *
 * @throws {ChatError} `unauthenticated` if the token has ended or is invalid, or if the server
 *   allows no guests; `bad_request` if the guest's secret is malformed
 */
export async function identify(
  c: Context,
  accounts: Accounts,
  settings: TrustSettings,
): Promise<Identity> {
  const secret = queryOf(c, "session") ?? guestCookie(c, settings);
  const named = namedToken(c);
  if (named !== undefined) return await accounts.authenticate(named, secret);
  const tokens = readCookies(c, "session", settings);
  if (tokens.length > 0) return await authenticate(tokens, secret, accounts);
  return accounts.guest(secret);
}

/**
 * The account of the only valid cookie. Cookies of two accounts are refused: either could be
 * planted.
 */
async function authenticate(
  tokens: readonly string[],
  secret: string | undefined,
  accounts: Accounts,
): Promise<Identity> {
  const found = new Map<string, Identity>();
  // A token that the operator's site has signed counts in no cookie.
  for (const token of tokens.filter(isSecret)) {
    try {
      const identity = await accounts.authenticate(token, secret);
      found.set(identity.person, identity);
    } catch (error) {
      if (!(error instanceof ChatError) || error.code !== "unauthenticated") throw error;
    }
  }
  const [identity] = found.values();
  if (identity === undefined) throw sessionEnded();
  if (found.size === 1) return identity;
  const sentence = "Your browser sends the sessions of two accounts. Delete the cookies of this " +
    "site, and sign in again.";
  throw new ChatError("unauthenticated", sentence);
}

/** Stores an account's token in the browser, in a cookie that no script can read. */
export function setTokenCookie(
  c: Context,
  token: string,
  seconds: number,
  settings: TrustSettings,
): void {
  sendCookie(c, kindFor(c, "session", settings), token, seconds, settings);
}

/** Deletes the browser's token. */
export function clearTokenCookie(c: Context, settings: TrustSettings): void {
  sendCookie(c, "session", "", 0, settings);
  if (mayEmbed(c, settings)) sendCookie(c, "session_embedded", "", 0, settings);
}

/** Stores a guest's secret in a browser without one, so that all its tabs are one person. */
export function setGuestCookie(c: Context, settings: TrustSettings): void {
  if (guestCookie(c, settings) !== undefined) return;
  sendCookie(c, kindFor(c, "guest", settings), createSecret(), GUEST_SECONDS, settings);
}

function guestCookie(c: Context, settings: TrustSettings): string | undefined {
  const secrets = readCookies(c, "guest", settings);
  return secrets.length === 1 && isSecret(secrets[0]!) ? secrets[0] : undefined;
}

/** The values of the ordinary cookies; if there are none, those of the page in a frame. */
function readCookies(
  c: Context,
  credential: Credential,
  settings: TrustSettings,
): readonly string[] {
  const values = valuesOf(c, cookieName(c, credential, settings));
  if (values.length > 0 || !mayEmbed(c, settings)) return values;
  return valuesOf(c, cookieName(c, `${credential}_embedded`, settings));
}

/**
 * The distinct values of the cookies with a name that have the form of a secret; if none has, the
 * first value.
 */
function valuesOf(c: Context, name: string): readonly string[] {
  const values = new Set<string>();
  for (const pair of (c.req.header("cookie") ?? "").split(";")) {
    const at = pair.indexOf("=");
    if (at > 0 && pair.slice(0, at).trim() === name) values.add(pair.slice(at + 1).trim());
  }
  values.delete("");
  const secrets = [...values].filter(isSecret);
  return secrets.length > 0 ? secrets.slice(0, MAX_COOKIES) : [...values].slice(0, 1);
}

/** Whether pages in frames can have cookies: browsers accept them only on https. */
function mayEmbed(c: Context, settings: TrustSettings): boolean {
  return settings.embedOrigins.length > 0 && isSecure(c, settings);
}

/** The kind of a request's cookie. The page in a frame adds `?embed=1` to its requests. */
function kindFor(c: Context, credential: Credential, settings: TrustSettings): CookieKind {
  const isEmbedded = queryOf(c, "embed") === "1" && mayEmbed(c, settings);
  return isEmbedded ? `${credential}_embedded` : credential;
}

function sendCookie(
  c: Context,
  kind: CookieKind,
  value: string,
  maxAge: number,
  settings: TrustSettings,
): void {
  const options = { httpOnly: true, path: "/", maxAge, secure: isSecure(c, settings) };
  const scope = kind.endsWith("_embedded")
    ? { sameSite: "None", partitioned: true } as const
    : { sameSite: "Lax" } as const;
  setCookie(c, cookieName(c, kind, settings), value, { ...options, ...scope });
}

function cookieName(c: Context, kind: CookieKind, settings: TrustSettings): string {
  const prefix = isSecure(c, settings) ? "__Host-" : "";
  const port = publicPort(c, settings);
  // A cookie's name cannot contain a slash (RFC 6265, section 4.1.1), nor a site's path a `!`.
  const path = (settings.publicUrl?.path ?? "/").slice(0, -1).replaceAll("/", "!");
  return `${prefix}hubbub_${kind}${port === undefined ? "" : `_${port}`}${path}`;
}
