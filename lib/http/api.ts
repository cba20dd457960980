/**
 * The HTTP API: accounts, and the settings of rooms.
 *
 * It takes JSON from its own pages and from programs. A page of another origin can send neither
 * JSON nor a cookie here without being named in `ALLOWED_ORIGINS`.
 *
 * @module
 */

import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { ChatError, rateLimited } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { parseName } from "../names.ts";
import type { Accounts } from "../people/accounts.ts";
import { readRoomChange } from "../protocol/commands.ts";
import type { RateLimiter } from "../rate_limit.ts";
import { addressKey } from "./addresses.ts";
import { giveToken, identify, readToken, takeToken } from "./credentials.ts";
import type { Rooms } from "./rooms.ts";

/** Most bytes of a request's body. */
const MAX_BODY_BYTES = 64 * 1024;

/** What {@linkcode createApi} needs. */
export interface ApiOptions {
  readonly accounts: Accounts;
  readonly hub: Pick<Rooms, "changeRoom">;
  /** Attempts to register or sign in, by address. */
  readonly authLimiter: RateLimiter;
  /** Whether people may come without an account. */
  readonly guests: boolean;
  readonly log: Logger;
  /** Where a request comes from. */
  readonly addressOf: (c: Context) => string | undefined;
  /** Whether the client's own connection is encrypted. */
  readonly isSecure: (c: Context) => boolean;
}

/** Makes the routes below `/api`. */
export function createApi(options: ApiOptions): Hono {
  const { accounts, hub, authLimiter, log, addressOf, isSecure } = options;
  const api = new Hono();

  api.use(bodyLimit({
    maxSize: MAX_BODY_BYTES,
    onError: () => {
      throw new ChatError("too_big", `A request may have at most ${MAX_BODY_BYTES} bytes.`);
    },
  }));

  api.post("/register", async (c) => {
    const { username, password } = await readLogin(c);
    limitAuth(c);
    const registered = await accounts.register(username, password);
    log.info("registered", { username: registered, address: addressOf(c) });
    return c.json({ username: registered }, 201);
  });

  api.post("/login", async (c) => {
    const { username, password } = await readLogin(c);
    limitAuth(c);
    const session = await accounts.login(username, password);
    const seconds = Math.floor((session.expiresAt - Date.now()) / 1000);
    giveToken(c, session.token, seconds, isSecure(c));
    log.info("signed in", { username: session.username, address: addressOf(c) });
    c.header("cache-control", "no-store");
    const expires = new Date(session.expiresAt).toISOString();
    return c.json({ username: session.username, token: session.token, expires });
  });

  api.post("/logout", async (c) => {
    const token = readToken(c);
    if (token !== undefined) await accounts.logout(token);
    takeToken(c);
    return c.body(null, 204);
  });

  api.get("/session", async (c) => {
    c.header("cache-control", "no-store");
    const guest = { username: null, admin: false, guests: options.guests };
    if (readToken(c) === undefined) return c.json(guest);
    try {
      const { account } = await identify(c, accounts);
      return c.json({ ...guest, username: account!.username, admin: account!.isAdmin });
    } catch (error) {
      if (!(error instanceof ChatError) || error.code !== "unauthenticated") throw error;
      // A token that has ended is of no use to the browser any more.
      takeToken(c);
      return c.json(guest);
    }
  });

  api.put("/rooms/:room", async (c) => {
    const room = parseName("room", c.req.param("room"));
    const change = readRoomChange(await readObject(c));
    const settings = await hub.changeRoom(room, await identify(c, accounts), change);
    return c.json({
      room,
      private: settings.isPrivate,
      owner: settings.owner,
      members: settings.members,
      bans: settings.bans.map(({ key }) => key),
    });
  });

  return api;

  function limitAuth(c: Context): void {
    const seconds = authLimiter.take(addressKey(addressOf(c)));
    if (seconds > 0) throw rateLimited("attempts from your address", Math.ceil(seconds));
  }
}

async function readLogin(c: Context): Promise<{ username: string; password: string }> {
  const { username, password } = await readObject(c);
  if (typeof username !== "string" || typeof password !== "string") {
    throw new ChatError("bad_request", "username and password must be strings.");
  }
  return { username, password };
}

/** The JSON object in a request's body. */
async function readObject(c: Context): Promise<Record<string, unknown>> {
  // No form of another site can have this type (Fetch, section "CORS-safelisted request-header").
  if (!/^application\/json\s*(;|$)/i.test(c.req.header("content-type") ?? "")) {
    throw new ChatError("bad_request", "The content-type must be application/json.");
  }
  const text = await c.req.text();
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = undefined;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new ChatError("bad_request", "The body must be a JSON object.");
  }
  return value as Record<string, unknown>;
}
