/**
 * The tokens and guest secrets of requests, and the cookies in which a browser keeps them.
 *
 * A cookie's name holds the port, as browsers send a host's cookies to all its ports, and begins
 * with `__Host-` on https, where browsers then let no other host and no page on http set it (RFC
 * 6265bis, section 4.1.3). Elsewhere another site may plant a cookie of the same name. The server
 * cannot know which of two is its own, so a second one never decides who the browser is.
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
type CookieKind = "session" | "guest";

/** How long a browser keeps a guest's secret, in seconds. */
const GUEST_SECONDS = 365 * 24 * 60 * 60;

/** Maximum cookies of one name that are looked up. */
const MAX_COOKIES = 50;

/**
 * The tokens that a request carries: the one in `Authorization` or in `?token=`, or all in cookies.
 */
export function readTokens(c: Context, settings: TrustSettings): readonly string[] {
  const token = namedToken(c);
  return token === undefined ? readCookies(c, "session", settings) : [token];
}

/** The token that a request names itself: a browser adds a cookie on its own. */
export function namedToken(c: Context): string | undefined {
  const [, bearer] = /^Bearer +(\S+)$/i.exec(c.req.header("authorization") ?? "") ?? [];
  return bearer ?? queryOf(c, "token");
}

/**
 * The sender of a request: the account of its token, or a guest.
 *
 * @throws {ChatError} `unauthenticated` if the token has ended or is invalid, or if the server
 *   allows no guests; `bad_request` if the guest's secret is malformed
 */
export async function identify(
  c: Context,
  accounts: Accounts,
  settings: TrustSettings,
): Promise<Identity> {
  const tokens = readTokens(c, settings);
  const secret = queryOf(c, "session") ?? guestCookie(c, settings);
  if (tokens.length > 0) return await authenticate(tokens, secret, accounts);
  return accounts.guest(secret);
}

/** The account of the only valid token. With those of two accounts, nobody knows whose it is. */
async function authenticate(
  tokens: readonly string[],
  secret: string | undefined,
  accounts: Accounts,
): Promise<Identity> {
  const found = new Map<string, Identity>();
  for (const token of tokens) {
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

/** Gives a browser the token of an account, in a cookie that no script can read. */
export function setTokenCookie(
  c: Context,
  token: string,
  seconds: number,
  settings: TrustSettings,
): void {
  sendCookie(c, "session", token, seconds, settings);
}

/** Makes a browser forget its token. */
export function clearTokenCookie(c: Context, settings: TrustSettings): void {
  sendCookie(c, "session", "", 0, settings);
}

/** Gives a browser a guest's secret, unless it has one, so that all its tabs are one person. */
export function setGuestCookie(c: Context, settings: TrustSettings): void {
  if (guestCookie(c, settings) !== undefined) return;
  sendCookie(c, "guest", createSecret(), GUEST_SECONDS, settings);
}

function guestCookie(c: Context, settings: TrustSettings): string | undefined {
  const secrets = readCookies(c, "guest", settings);
  return secrets.length === 1 && isSecret(secrets[0]!) ? secrets[0] : undefined;
}

/**
 * The different values of every cookie of a name, without those that can be no secret if any can.
 */
function readCookies(c: Context, kind: CookieKind, settings: TrustSettings): readonly string[] {
  const name = cookieName(c, kind, settings);
  const values = new Set<string>();
  for (const pair of (c.req.header("cookie") ?? "").split(";")) {
    const at = pair.indexOf("=");
    if (at > 0 && pair.slice(0, at).trim() === name) values.add(pair.slice(at + 1).trim());
  }
  values.delete("");
  const secrets = [...values].filter(isSecret);
  return secrets.length > 0 ? secrets.slice(0, MAX_COOKIES) : [...values].slice(0, 1);
}

function sendCookie(
  c: Context,
  kind: CookieKind,
  value: string,
  maxAge: number,
  settings: TrustSettings,
): void {
  const secure = isSecure(c, settings);
  const options = { httpOnly: true, sameSite: "Lax", path: "/", maxAge, secure } as const;
  setCookie(c, cookieName(c, kind, settings), value, options);
}

function cookieName(c: Context, kind: CookieKind, settings: TrustSettings): string {
  const prefix = isSecure(c, settings) ? "__Host-" : "";
  const port = publicPort(c, settings);
  return `${prefix}hubbub_${kind}${port === undefined ? "" : `_${port}`}`;
}
