/**
 * The actions of people in a room: one function for each command.
 *
 * Each performs its command and returns the answer for the sender, if there is one. The room
 * receives the result as an event of the engine.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import type { Author, Ban, Change, Engine, Receipt } from "../engine/engine.ts";
import { badRequest, ChatError, nobodyWithName, noSuchMessage, notModerator } from "../errors.ts";
import { errorFields, type Logger } from "../logger.ts";
import { ANONYMOUS, nameKey } from "../names.ts";
import { accountPerson, type Identity } from "../people/accounts.ts";
import type {
  ChatCommand,
  Command,
  DeleteCommand,
  DmCommand,
  EditCommand,
  HistoryCommand,
  KickCommand,
  PingCommand,
  RoomCommand,
  TypingCommand,
} from "../protocol/commands.ts";
import {
  type AckEvent,
  type ChatEvent,
  envelope,
  type Event,
  type HistoryEvent,
  type LogEvent,
  type PongEvent,
} from "../protocol/events.ts";
import { type Permissions, roleIn } from "./permissions.ts";
import type { Room } from "./room.ts";

/** Maximum UTF-8 bytes of texts in a page of messages; a single message may be longer. */
const MAX_PAGE_BYTES = 32 * 1024;

/** What actions need. */
export interface ActionContext {
  readonly engine: Pick<Engine, "log" | "bus" | "accounts">;
  readonly permissions: Permissions;
  readonly logger: Logger;
  /** The time in milliseconds. */
  readonly clock: () => number;
}

/** The performer of a command: a member, or over HTTP a person who has not joined. */
export interface Actor {
  /** The origin of its events: the id of its connection, or the person. */
  readonly id: string;
  readonly room: Room;
  /** Absent for a member of the raw relay, and for a person who only reads. */
  readonly username: string | undefined;
  readonly identity: Identity;
  /** Whether it has received everything that it missed. */
  readonly isLive: boolean;
  /** Whether it also receives acks of commands without a `ref`. */
  readonly wantsAck: boolean;
}

/** A change without its author. */
type ChangeRequest = Change extends infer C
  ? C extends Change ? Omit<C, "username" | "person" | "origin"> : never
  : never;

/** An answer to be made from the engine's result. It saves a second promise for each message. */
export class PendingAnswer {
  /** The engine's result. */
  readonly result: Promise<unknown>;
  /** Makes the answer from it, if there is one. */
  readonly toEvent: (result: unknown) => Event | undefined;

  private constructor(
    result: Promise<unknown>,
    toEvent: (result: unknown) => Event | undefined,
  ) {
    this.result = result;
    this.toEvent = toEvent;
  }

  static of<T>(result: Promise<T>, toEvent: (result: T) => Event | undefined): PendingAnswer {
    return new PendingAnswer(result, toEvent as (result: unknown) => Event | undefined);
  }
}

/** The answer to a command: at once, later, or none. */
type Answer = Event | undefined | PendingAnswer;

type Action<C extends Command> = (
  context: ActionContext,
  actor: Actor,
  command: C,
) => Answer | Promise<Event | undefined>;

/** The action of each command. */
const ACTIONS: { readonly [T in Command["type"]]: Action<Extract<Command, { type: T }>> } = {
  chat,
  edit,
  delete: remove,
  dm,
  history,
  typing,
  ping,
  kick,
  room: changeRoom,
};

/**
 * Performs a command.
 *
 * @returns the answer for its sender; a refusal is always a {@linkcode PendingAnswer}
 */
export function perform(context: ActionContext, actor: Actor, command: Command): Answer {
  const action = ACTIONS[command.type] as Action<Command>;
  try {
    const answer = action(context, actor, command);
    return answer instanceof Promise ? PendingAnswer.of(answer, (event) => event) : answer;
  } catch (error) {
    return PendingAnswer.of(Promise.reject(error), () => undefined);
  }
}

function chat(
  context: ActionContext,
  actor: Actor,
  { content, ref, reply_to: replyTo }: ChatCommand,
): Answer {
  stopTyping(context, actor);
  const { room, id: origin } = actor;
  const { username, person } = authorOf(actor);
  const draft = { username, person, origin, content, ref, replyTo };
  const stored = context.engine.log.append(room.name, draft);
  return PendingAnswer.of(stored, (receipt) => toMessageAck(actor, ref, receipt));
}

function edit(context: ActionContext, actor: Actor, { id, content, ref }: EditCommand): Answer {
  return changeMessage(context, actor, { type: "edit", id, content }, ref);
}

function remove(context: ActionContext, actor: Actor, { id, ref }: DeleteCommand): Answer {
  const isModerator = roleIn(actor.room.settings, actor.identity) !== "member";
  return changeMessage(context, actor, { type: "delete", id, isModerator }, ref);
}

/** Edits or deletes a message. */
function changeMessage(
  { engine }: ActionContext,
  actor: Actor,
  change: ChangeRequest,
  ref: string | undefined,
): Answer {
  const { room, id: origin } = actor;
  const stored = engine.log.change(room.name, { ...authorOf(actor), origin, ...change });
  return PendingAnswer.of(stored, (receipt) => toMessageAck(actor, ref, receipt));
}

async function dm(
  { engine }: ActionContext,
  actor: Actor,
  { to, content, ref }: DmCommand,
): Promise<Event | undefined> {
  const { room, identity: { person }, id: origin } = actor;
  const receiver = room.roster.user(to) ?? await findAbsent(engine, room, to);
  if (receiver?.person === person) {
    throw badRequest("You cannot send a private message to yourself.");
  }
  const draft = { ...authorOf(actor), origin, content, ref, to: receiver };
  const { event, isDuplicate } = await engine.log.whisper(room.name, draft);
  const { id, fromSeq: inbox_seq, timestamp } = event;
  return toAck(actor, ref, { id, inbox_seq, timestamp }, isDuplicate);
}

/** The account with this name, or the guest that recently had it in the room. */
async function findAbsent(
  { bus, accounts }: ActionContext["engine"],
  room: Room,
  username: string,
): Promise<Author | undefined> {
  const key = nameKey(username);
  const account = await accounts.account(key);
  if (account === undefined) return await bus.lastSeen(room.name, username);
  // A removed account keeps its key, and receives nothing.
  if (account.username === "") return undefined;
  return { username: account.username, person: accountPerson(key) };
}

async function history(
  { engine }: ActionContext,
  { room, isLive }: Actor,
  { before, after, limit, ref }: HistoryCommand,
): Promise<HistoryEvent> {
  // The answers would fill memory until the member has read what it missed.
  if (!isLive) {
    throw new ChatError("unavailable", "You are still receiving missed messages. Ask again later.");
  }
  const found = await engine.log.messages(room.name, { before, after, limit: limit + 1 });
  return {
    type: "history",
    ...envelope(room.name),
    epoch: room.epoch,
    ...cutPage(found, limit, after !== undefined),
    ...(ref !== undefined && { ref }),
  };
}

function typing(context: ActionContext, actor: Actor, { active }: TypingCommand): undefined {
  if (active) startTyping(context, actor);
  else stopTyping(context, actor);
}

function ping(_context: ActionContext, { room }: Actor, { ref }: PingCommand): PongEvent {
  return { type: "pong", ...envelope(room.name), ...(ref !== undefined && { ref }) };
}

async function kick(
  { engine, permissions }: ActionContext,
  actor: Actor,
  { username, id, reason, ban, ref }: KickCommand,
): Promise<Event | undefined> {
  const { room, identity } = actor;
  const role = roleIn(room.settings, identity);
  if (role === "member") throw notModerator();
  const user = username === undefined
    ? await engine.log.author(room.name, id!)
    : room.roster.user(username);
  if (user === undefined) throw username === undefined ? noSuchMessage() : nobodyWithName();
  const { person } = user;
  const { owner, moderators } = room.settings;
  if (person === identity.person || (owner !== undefined && person === accountPerson(owner))) {
    throw new ChatError("forbidden", "You cannot remove yourself or the owner.");
  }
  if (role === "moderator" && moderators.some((key) => person === accountPerson(key))) {
    throw new ChatError("forbidden", "You cannot remove another moderator.");
  }
  const key = nameKey(user.username);
  // Before the kick: it removes the members, whose addresses the bans need.
  const bans = ban ? bansOf(room, key, person) : [];
  const who = username === undefined ? { person } : { key };
  await engine.bus.publish(room.name, { type: "kicked", who, reason });
  if (ban) await permissions.ban(room.name, ...bans);
  return toAck(actor, ref);
}

/** The bans of a person: by account or secret, as the guest of each client, and by address. */
function bansOf(room: Room, key: string, person: string): Ban[] {
  const bans = new Map<string, Ban>([[person, { key, person }]]);
  for (const { username, identity: { guest }, request: { address } } of room.membersOf(person)) {
    if (username === undefined) bans.set(person, { key, person, address });
    if (guest !== undefined) bans.set(guest, { key, person: guest });
  }
  return [...bans.values()];
}

async function changeRoom(
  { permissions }: ActionContext,
  actor: Actor,
  command: RoomCommand,
): Promise<Event | undefined> {
  await permissions.change(actor.room.name, actor.identity, command);
  return toAck(actor, command.ref);
}

/** Starts a person's typing, if its name is present in the room. */
function startTyping(context: ActionContext, { room, username, id }: Actor): void {
  if (username === undefined || room.roster.user(username) === undefined) return;
  if (!room.typists.start(username, id, room.roster.listings, context.clock())) return;
  publishTyping(context, room, username, true, id);
}

/** Stops a person's typing, and publishes the stop unless the user types on another connection. */
export function stopTyping(context: ActionContext, { room, username, id }: Actor): void {
  if (username === undefined || !room.typists.stop(username, id)) return;
  publishTyping(context, room, username, false, id);
}

/** Stops all expired typing in a room, and publishes each stop. */
export function expireTyping(context: ActionContext, room: Room, now: number): void {
  for (const username of room.typists.expire(now)) {
    publishTyping(context, room, username, false, "");
  }
}

function publishTyping(
  { engine, logger }: ActionContext,
  room: Room,
  username: string,
  isActive: boolean,
  origin: string,
): void {
  engine.bus.publish(room.name, { type: "typing", username, isActive, origin }).catch((error) =>
    logger.error("typing cannot be published", errorFields(error))
  );
}

function authorOf({ username = ANONYMOUS, identity: { person } }: Actor): Author {
  return { username, person };
}

function toMessageAck(actor: Actor, ref: string | undefined, receipt: Receipt<LogEvent>) {
  const { event: { id, seq, timestamp }, isDuplicate } = receipt;
  return toAck(actor, ref, { id, seq, timestamp }, isDuplicate);
}

/** The answer to a command that has a `ref`, or whose sender wants every ack. */
function toAck(
  { room, wantsAck }: Actor,
  ref: string | undefined,
  { id, seq, inbox_seq, timestamp }: Pick<AckEvent, "id" | "seq" | "inbox_seq" | "timestamp"> = {},
  isDuplicate = false,
): AckEvent | undefined {
  if (ref === undefined && !wantsAck) return undefined;
  // No spread: one shape for all acks is faster. JSON leaves out what is undefined.
  return {
    type: "ack",
    content: "",
    room: room.name,
    username: "",
    ref,
    id,
    seq,
    inbox_seq,
    timestamp,
    duplicate: isDuplicate || undefined,
  };
}

/** Cuts a page to `limit` messages and to the size of a frame, and keeps the nearest messages. */
function cutPage(found: readonly ChatEvent[], limit: number, isForward: boolean) {
  const nearest = isForward ? found : found.toReversed();
  let count = 0;
  let bytes = 0;
  for (const { content } of nearest) {
    bytes += Buffer.byteLength(content);
    if (count === limit || (count > 0 && bytes > MAX_PAGE_BYTES)) break;
    count++;
  }
  const messages = nearest.slice(0, count);
  if (!isForward) messages.reverse();
  return { messages, more: count < found.length };
}
