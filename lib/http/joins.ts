/**
 * Reads the room, the person and the options of a join from a request.
 *
 * @module
 */

import type { Context } from "hono";
import { badRequest, namesRequired } from "../errors.ts";
import { parseName } from "../names.ts";
import type { Accounts, Identity } from "../people/accounts.ts";
import { SUBPROTOCOL } from "../protocol/encode.ts";
import { identify, readTokens } from "./credentials.ts";
import { offeredProtocols } from "./handshake.ts";
import type { TrustSettings } from "./origins.ts";
import { queryOf } from "./queries.ts";
import type { JoinRequest, Resume } from "./rooms.ts";

/** A room, and the person's name if the request gives one. */
type Names = Pick<JoinRequest, "room" | "username">;

/**
 * Reads a join of a WebSocket: the room, the name and the options in the query.
 *
 * @throws {ChatError} `bad_request`, `unauthenticated`, `forbidden` or `unavailable`
 */
export async function readSocketJoin(
  c: Context,
  room: string,
  accounts: Accounts,
  settings: TrustSettings,
): Promise<JoinRequest> {
  const username = queryOf(c, "username");
  // A request with a token need not name its user: a name comes with the token.
  const isNamed = username !== undefined || readTokens(c, settings).length > 0;
  if (!isNamed) throw namesRequired();
  const names = readNames(room, username);
  const isV1 = offeredProtocols(c.req.raw).includes(SUBPROTOCOL);
  const options = {
    format: isV1 ? "v1" as const : readFormat(queryOf(c, "format")),
    echo: c.req.query("echo") !== "0",
    resume: isV1 ? readResume(c) : undefined,
  };
  const identity = await identify(c, accounts, settings);
  const person = await readPerson(names.username, identity, accounts);
  if (person.username === undefined) throw namesRequired();
  return { ...names, ...options, ...person };
}

/**
 * Reads a join of an event stream. A reader without a name and a token is not present in the room.
 *
 * @throws {ChatError} `bad_request`, `unauthenticated`, `forbidden` or `unavailable`
 */
export async function readStreamJoin(
  c: Context,
  room: string,
  accounts: Accounts,
  settings: TrustSettings,
): Promise<JoinRequest> {
  const names = readNames(room, queryOf(c, "username"));
  const options = {
    format: "sse" as const,
    echo: c.req.query("echo") !== "0",
    resume: readLastEventId(c) ?? readResume(c),
  };
  const identity = await identify(c, accounts, settings);
  return { ...names, ...options, ...await readPerson(names.username, identity, accounts) };
}

/**
 * Checks the names of a request.
 *
 * @throws {ChatError} `bad_request`
 */
export function readNames(room: string, username: string | undefined): Names {
  if (room.trim() === "" || username?.trim() === "") throw namesRequired();
  return {
    room: parseName("room", room),
    ...(username !== undefined && { username: parseName("username", username) }),
  };
}

/**
 * The person behind a request, and its name: the one in the request, else that of its token.
 *
 * @throws {ChatError} `forbidden` or `unauthenticated` if the name belongs to another account
 */
export async function readPerson(
  asked: string | undefined,
  identity: Identity,
  accounts: Accounts,
): Promise<Pick<JoinRequest, "username" | "identity">> {
  const username = asked ?? identity.username;
  if (username === undefined) return { identity };
  await accounts.checkName(identity, username);
  return { username, identity };
}

function readFormat(format = "json"): "json" | "text" {
  if (format === "json" || format === "text") return format;
  throw badRequest("The format must be json or text.");
}

/** Reads which events the client has seen: `?epoch=E&after=SEQ&inbox=N`. */
function readResume(c: Context): Resume | undefined {
  const epoch = queryOf(c, "epoch");
  const after = readWhole(c, "after");
  const inbox = readWhole(c, "inbox");
  if (epoch === undefined && after === undefined) return undefined;
  if (epoch !== undefined && after !== undefined) return { epoch, after, inbox };
  throw badRequest("To resume, give both epoch and after.");
}

/**
 * Reads the id of the last event of an earlier stream. It is newer than `after` in the query, which
 * a browser repeats when it reconnects.
 */
function readLastEventId(c: Context): Resume | undefined {
  const id = c.req.header("last-event-id");
  if (!id) return undefined;
  const [, epoch, seq] = /^([^:]{1,200}):(\d{1,16})$/.exec(id) ?? [];
  const after = Number(seq);
  if (epoch === undefined || !Number.isSafeInteger(after)) {
    throw badRequest("Last-Event-ID must be the id of an event of this room.");
  }
  return { epoch, after, inbox: readWhole(c, "inbox") };
}

/** Reads a whole number in the query. @throws {ChatError} `bad_request` */
export function readWhole(c: Context, name: string): number | undefined {
  const text = queryOf(c, name);
  if (text === undefined) return undefined;
  const value = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(value)) return value;
  throw badRequest(`${name} must be a whole number.`);
}
