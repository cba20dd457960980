/**
 * The HTTP API: accounts, and the settings of rooms.
 *
 * It takes JSON from its own pages and from programs. A page of another origin can send neither
 * JSON nor a cookie here unless `ALLOWED_ORIGINS` names it.
 *
 * @module
 */

import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { badRequest, ChatError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { parseName } from "../names.ts";
import { type Accounts, TOKEN_MS } from "../people/accounts.ts";
import { readRoomChange, withoutNulls } from "../protocol/commands.ts";
import type { RateLimiter } from "../rate_limit.ts";
import { addressOf, isSecure, limitAddress, type TrustSettings } from "./addresses.ts";
import { clearTokenCookie, identify, readToken, setTokenCookie } from "./credentials.ts";
import type { Rooms } from "./rooms.ts";

/** Maximum bytes of a request's body. */
const MAX_BODY_BYTES = 64 * 1024;

/** What {@linkcode createApi} needs. */
export interface ApiOptions {
  readonly accounts: Accounts;
  readonly hub: Pick<Rooms, "changeRoom">;
  readonly settings: TrustSettings;
  /** Attempts to register or sign in, by address. */
  readonly authLimiter: RateLimiter;
  readonly logger: Logger;
}

/** Makes the routes below `/api`. */
export function createApi(options: ApiOptions): Hono {
  const api = new Hono();
  api.use(bodyLimit({
    maxSize: MAX_BODY_BYTES,
    onError: () => {
      throw new ChatError("too_big", `A request may have at most ${MAX_BODY_BYTES} bytes.`);
    },
  }));
  api.post("/register", (c) => register(c, options));
  api.post("/login", (c) => login(c, options));
  api.post("/logout", (c) => logout(c, options));
  api.get("/session", (c) => showSession(c, options));
  api.put("/rooms/:room", (c) => changeRoom(c, c.req.param("room"), options));
  return api;
}

async function register(c: Context, options: ApiOptions): Promise<Response> {
  const { username: name, password } = await readAttempt(c, options);
  const username = await options.accounts.register(name, password);
  options.logger.info("registered", { username, address: addressOf(c, options.settings) });
  return c.json({ username }, 201);
}

async function login(c: Context, options: ApiOptions): Promise<Response> {
  const { accounts, logger, settings } = options;
  const { username: name, password } = await readAttempt(c, options);
  const { username, token, expiresAt } = await accounts.login(name, password);
  setTokenCookie(c, token, TOKEN_MS / 1000, isSecure(c, settings));
  logger.info("signed in", { username, address: addressOf(c, settings) });
  c.header("cache-control", "no-store");
  return c.json({ username, token, expires: new Date(expiresAt).toISOString() });
}

async function logout(c: Context, { accounts }: ApiOptions): Promise<Response> {
  const token = readToken(c);
  if (token !== undefined) await accounts.logout(token);
  clearTokenCookie(c);
  return c.body(null, 204);
}

/** Answers with the account of the request's token; without a valid token, as to a guest. */
async function showSession(c: Context, { accounts }: ApiOptions): Promise<Response> {
  c.header("cache-control", "no-store");
  const guest = { username: null, admin: false, guests: accounts.allowsGuests };
  if (readToken(c) === undefined) return c.json(guest);
  try {
    const { account } = await identify(c, accounts);
    return c.json({ ...guest, username: account!.username, admin: account!.isAdmin });
  } catch (error) {
    if (!(error instanceof ChatError) || error.code !== "unauthenticated") throw error;
    // The browser has no use for a token that has ended.
    clearTokenCookie(c);
    return c.json(guest);
  }
}

async function changeRoom(
  c: Context,
  name: string,
  { accounts, hub }: ApiOptions,
): Promise<Response> {
  const room = parseName("room", name);
  const change = readRoomChange(await readObject(c));
  const identity = await identify(c, accounts);
  const { isPrivate, bans, ...access } = await hub.changeRoom(room, identity, change);
  const { owner, moderators, members } = access;
  const banned = bans.map(({ key }) => key);
  return c.json({ room, private: isPrivate, owner, moderators, members, bans: banned });
}

/** Reads the name and the password of one attempt to register or sign in, and counts it. */
async function readAttempt(
  c: Context,
  { authLimiter, settings }: ApiOptions,
): Promise<{ username: string; password: string }> {
  const { username, password } = await readObject(c);
  if (typeof username !== "string" || typeof password !== "string") {
    throw badRequest("username and password must be strings.");
  }
  limitAddress(authLimiter, addressOf(c, settings), "attempts");
  return { username, password };
}

/** Reads the JSON object in a request's body. */
async function readObject(c: Context): Promise<Record<string, unknown>> {
  // A form on another site cannot send this type (Fetch, section "CORS-safelisted request-header").
  if (!/^application\/json\s*(;|$)/i.test(c.req.header("content-type") ?? "")) {
    throw badRequest("The content-type must be application/json.");
  }
  const value = parseJson(await c.req.text());
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw badRequest("The body must be a JSON object.");
  }
  return withoutNulls(value as Record<string, unknown>);
}

/** The value of a JSON text; `undefined` if the text is malformed. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
