/**
 * The tokens and guest secrets of requests, and the cookies in which a browser keeps them.
 *
 * @module
 */

import type { Context } from "hono";
import { deleteCookie, getCookie, setCookie } from "hono/cookie";
import type { Accounts, Identity } from "../people/accounts.ts";
import { createSecret, isSecret } from "../people/secrets.ts";

/** The cookie with an account's token. */
const TOKEN_COOKIE = "hubbub_session";
/** The cookie with a guest's secret. */
const GUEST_COOKIE = "hubbub_guest";

/** How long a browser keeps a guest's secret, in seconds. */
const GUEST_SECONDS = 365 * 24 * 60 * 60;

/** The token that a request carries: in `Authorization`, in `?token=`, or in a cookie. */
export function readToken(c: Context): string | undefined {
  const [, bearer] = /^Bearer +(\S+)$/i.exec(c.req.header("authorization") ?? "") ?? [];
  return bearer ?? c.req.query("token") ?? getCookie(c, TOKEN_COOKIE);
}

/** Whether a request names a token itself: a browser adds a cookie on its own. */
export function namesToken(c: Context): boolean {
  return readToken(c) !== getCookie(c, TOKEN_COOKIE);
}

/**
 * The sender of a request: the account of its token, or a guest.
 *
 * @throws {ChatError} `unauthenticated` if the token has ended or is invalid, or if the server
 *   allows no guests; `bad_request` if the guest's secret is malformed
 */
export async function identify(c: Context, accounts: Accounts): Promise<Identity> {
  const token = readToken(c);
  const secret = c.req.query("session") ?? guestCookie(c);
  if (token !== undefined) return await accounts.authenticate(token, secret);
  return accounts.guest(secret);
}

/** Gives a browser the token of an account, in a cookie that no script can read. */
export function setTokenCookie(
  c: Context,
  token: string,
  seconds: number,
  isSecure: boolean,
): void {
  setCookie(c, TOKEN_COOKIE, token, cookieOptions(seconds, isSecure));
}

/** Makes a browser forget its token. */
export function clearTokenCookie(c: Context): void {
  deleteCookie(c, TOKEN_COOKIE, { path: "/" });
}

/** Gives a browser a guest's secret, unless it has one, so that all its tabs are one person. */
export function setGuestCookie(c: Context, isSecure: boolean): void {
  if (guestCookie(c) !== undefined) return;
  setCookie(c, GUEST_COOKIE, createSecret(), cookieOptions(GUEST_SECONDS, isSecure));
}

function guestCookie(c: Context): string | undefined {
  const secret = getCookie(c, GUEST_COOKIE);
  return secret !== undefined && isSecret(secret) ? secret : undefined;
}

function cookieOptions(maxAge: number, secure: boolean) {
  return { httpOnly: true, sameSite: "Lax", path: "/", maxAge, secure } as const;
}
