/**
 * The HTTP API: accounts, and the settings of rooms. Messages and presence are in `room_api.ts`.
 *
 * It takes JSON from the server's own pages and from programs. A page of another origin can send
 * neither JSON nor a cookie here unless `ALLOWED_ORIGINS` names it.
 *
 * @module
 */

import { type Context, Hono } from "hono";
import { badRequest, ChatError, notSignedIn } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { parseName } from "../names.ts";
import { type Accounts, type Caller, type Identity, TOKEN_MS } from "../people/accounts.ts";
import { readRoomChange } from "../protocol/commands.ts";
import type { RateLimiter } from "../rate_limit.ts";
import { addressOf, limitAddress } from "./addresses.ts";
import { readObject } from "./bodies.ts";
import {
  clearTokenCookie,
  identify,
  namedToken,
  readTokens,
  setTokenCookie,
} from "./credentials.ts";
import type { TrustSettings } from "./origins.ts";
import { createRoomApi, type RoomApiOptions } from "./room_api.ts";
import type { RoomAccess, Rooms } from "./rooms.ts";

/** What {@linkcode createApi} needs. */
export interface ApiOptions extends RoomApiOptions {
  readonly hub: RoomApiOptions["hub"] & Pick<Rooms, "readRoom" | "changeRoom">;
  /** Attempts to register or sign in, by address. */
  readonly authLimiter: RateLimiter;
  readonly logger: Logger;
}

/** Makes the routes below `/api`. */
export function createApi(options: ApiOptions): Hono {
  const api = new Hono();
  api.use((c, next) => {
    c.header("cache-control", "no-store");
    return next();
  });
  api.post("/register", (c) => register(c, options));
  api.post("/login", (c) => login(c, options));
  api.post("/logout", (c) => logout(c, options));
  api.post("/password", (c) => changePassword(c, options));
  api.delete("/account", (c) => removeAccount(c, options));
  api.get("/session", (c) => showSession(c, options));
  api.get("/tokens", (c) => listTokens(c, options));
  api.post("/tokens", (c) => makeToken(c, options));
  api.delete("/tokens", async (c) => endToken(c, (await readObject(c)).name, options));
  api.delete("/tokens/:name", (c) => endToken(c, c.req.param("name"), options));
  api.get("/rooms/:room", (c) => showRoom(c, c.req.param("room"), options));
  api.put("/rooms/:room", (c) => changeRoom(c, c.req.param("room"), options));
  api.route("/rooms", createRoomApi(options));
  return api;
}

async function register(c: Context, options: ApiOptions): Promise<Response> {
  const { username: name, password, code, from } = await readAttempt(c, options);
  const username = await options.accounts.register(name, password, { code, from });
  options.logger.info("registered", { username, address: addressOf(c, options.settings).text });
  return c.json({ username }, 201);
}

async function login(c: Context, options: ApiOptions): Promise<Response> {
  const { accounts, logger, settings } = options;
  const { username: name, password, from } = await readAttempt(c, options);
  const { username, token, expiresAt } = await accounts.login(name, password, from);
  setTokenCookie(c, token, TOKEN_MS / 1000, settings);
  logger.info("signed in", { username, address: addressOf(c, settings).text });
  return c.json({ username, token, expires: new Date(expiresAt).toISOString() });
}

async function logout(c: Context, { accounts, settings }: ApiOptions): Promise<Response> {
  if (c.req.query("everywhere") === "1") {
    await accounts.logoutEverywhere(await identifyAccount(c, accounts, settings));
  } else {
    for (const token of readTokens(c, settings)) await accounts.logout(token);
  }
  clearTokenCookie(c, settings);
  return c.body(null, 204);
}

/** Changes the sender's own password; with a `username`, an admin sets that account's password. */
async function changePassword(c: Context, options: ApiOptions): Promise<Response> {
  const { accounts, logger, settings } = options;
  const { password, new_password, username } = await readObject(c);
  if (typeof password !== "string" || typeof new_password !== "string") {
    throw badRequest("password and new_password must be strings.");
  }
  const identity = await identifyAccount(c, accounts, settings);
  const from = readCaller(c, options);
  if (username === undefined) {
    await accounts.changePassword(identity, password, new_password, from);
  } else if (typeof username === "string") {
    await accounts.setPassword(identity, password, { username, newPassword: new_password, from });
  } else throw badRequest("username must be a name.");
  logger.info("password changed", { by: identity.username, of: username });
  return c.body(null, 204);
}

async function removeAccount(c: Context, options: ApiOptions): Promise<Response> {
  const { accounts, logger, settings } = options;
  const { password } = await readObject(c);
  if (typeof password !== "string") throw badRequest("password must be a string.");
  const identity = await identifyAccount(c, accounts, settings);
  await accounts.remove(identity, password, readCaller(c, options));
  logger.info("account removed", { address: addressOf(c, settings).text });
  clearTokenCookie(c, settings);
  return c.body(null, 204);
}

/** Makes a token for a bot, and shows it once. */
async function makeToken(c: Context, options: ApiOptions): Promise<Response> {
  const { accounts, logger, settings, authLimiter } = options;
  const { name } = await readObject(c);
  if (typeof name !== "string") throw badRequest("name must be a string.");
  const identity = await identifyAccount(c, accounts, settings);
  const address = addressOf(c, settings);
  limitAddress(authLimiter, address, "attempts");
  const { created, ...made } = await accounts.createBotToken(identity, name);
  logger.info("token made", { username: identity.username, address: address.text });
  return c.json({ ...made, created: new Date(created).toISOString() }, 201);
}

async function listTokens(c: Context, { accounts, settings }: ApiOptions): Promise<Response> {
  const all = await accounts.botTokens(await identifyAccount(c, accounts, settings));
  const tokens = all.map(({ name, created }) => ({
    name,
    created: new Date(created).toISOString(),
  }));
  return c.json({ tokens });
}

async function endToken(c: Context, name: unknown, options: ApiOptions): Promise<Response> {
  const { accounts, logger, settings } = options;
  if (typeof name !== "string") throw badRequest("name must be a string.");
  const identity = await identifyAccount(c, accounts, settings);
  await accounts.endBotToken(identity, name);
  const { text: address } = addressOf(c, settings);
  logger.info("token deleted", { username: identity.username, address });
  return c.body(null, 204);
}

/** The account of a request. @throws {ChatError} `unauthenticated` if it has no valid token */
async function identifyAccount(
  c: Context,
  accounts: Accounts,
  settings: TrustSettings,
): Promise<Identity> {
  const identity = await identify(c, accounts, settings);
  if (identity.account === undefined) throw notSignedIn();
  return identity;
}

/**
 * Answers with the person of the request's token; without one, or with an old cookie, with none.
 */
async function showSession(c: Context, { accounts, settings }: ApiOptions): Promise<Response> {
  const guest = { username: null, admin: false, guests: accounts.allowsGuests };
  if (readTokens(c, settings).length === 0) return c.json(guest);
  try {
    const { username, account } = await identify(c, accounts, settings);
    return c.json({ ...guest, username, admin: account?.isAdmin ?? false });
  } catch (error) {
    const isOld = error instanceof ChatError && error.code === "unauthenticated";
    if (!isOld || namedToken(c) !== undefined) throw error;
    // The token has ended, so the browser need not keep it.
    clearTokenCookie(c, settings);
    return c.json(guest);
  }
}

async function showRoom(
  c: Context,
  name: string,
  { accounts, hub, settings }: ApiOptions,
): Promise<Response> {
  const room = parseName("room", name);
  const identity = await identify(c, accounts, settings);
  const { username } = identity;
  const access = await hub.readRoom({
    room,
    identity,
    ...(username !== undefined && { username }),
  });
  return c.json(await toAnswer(room, access, accounts));
}

async function changeRoom(
  c: Context,
  name: string,
  { accounts, hub, settings }: ApiOptions,
): Promise<Response> {
  const room = parseName("room", name);
  const change = readRoomChange(await readObject(c));
  const identity = await identifyAccount(c, accounts, settings);
  const access = await hub.changeRoom(room, identity, change);
  return c.json(await toAnswer(room, access, accounts));
}

/** A room's settings as clients receive them. The names of owner and moderators are public. */
async function toAnswer(room: string, access: RoomAccess, accounts: Accounts) {
  const { isPrivate, owner, moderators, members, bans } = access;
  const names = await Promise.all(moderators.map((key) => accounts.nameOf(key)));
  return {
    room,
    private: isPrivate,
    owner: owner === undefined ? null : await accounts.nameOf(owner) ?? null,
    moderators: names.filter((name) => name !== undefined),
    members,
    bans: bans?.map(({ key }) => key),
  };
}

/** Reads one attempt to register or sign in, and counts it. */
async function readAttempt(
  c: Context,
  options: ApiOptions,
): Promise<{ username: string; password: string; code: string; from: Caller }> {
  const { username, password, admin_code: code = "" } = await readObject(c);
  if (typeof username !== "string" || typeof password !== "string") {
    throw badRequest("username and password must be strings.");
  }
  if (typeof code !== "string") throw badRequest("admin_code must be a string.");
  return { username, password, code, from: readCaller(c, options) };
}

/** Counts an attempt for the request's address, and returns where it comes from. */
function readCaller(c: Context, { authLimiter, settings }: ApiOptions): Caller {
  const address = addressOf(c, settings);
  limitAddress(authLimiter, address, "attempts");
  return { address: address.key, tokens: readTokens(c, settings) };
}
