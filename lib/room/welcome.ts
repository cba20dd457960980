/**
 * The start of a membership: the welcome, then the events that the member missed, or the room's
 * newest messages.
 *
 * A new member goes live at once. A returning `chat.v1` member first receives every event it
 * missed, once and in order, in pages as large as a slow reader can take; or it learns from
 * `recovered: false` that this is not possible.
 *
 * @module
 */

import { EncodedEvent } from "../delivery/batch.ts";
import type { InboxEntry, Log, PrivateMessage } from "../engine/engine.ts";
import type { SizeLimits } from "../protocol/commands.ts";
import { type DmEvent, envelope, type WelcomeEvent } from "../protocol/events.ts";
import type { After } from "../time.ts";
import { joinNotices, onlineUsers, presence } from "./notices.ts";
import { roleIn } from "./permissions.ts";
import type { Member } from "./room.ts";
import { CROWD } from "./roster.ts";

/** Maximum missed events that are read and sent at a time. */
const PAGE_EVENTS = 64;

/** How long between two checks whether a page has left, in milliseconds. */
const PAGE_POLL_MS = 20;

/** Maximum missed events that a returning member receives. */
const MAX_MISSED_EVENTS = 10_000;

/** Maximum missed private messages that a returning member receives. */
const MAX_MISSED_PRIVATE = 1000;

/** What a welcome needs. */
export interface WelcomeOptions {
  readonly log: Log;
  readonly limits: SizeLimits & { readonly historySize: number };
  /** Sends a member events ahead of everything pending. */
  readonly send: (member: Member, events: readonly EncodedEvent[]) => void;
  readonly after: After;
}

/** The private messages that a member missed. */
interface MissedMessages {
  readonly entries: readonly InboxEntry[];
  /** The newest `inbox_seq` in `entries`; without entries, the newest that is stored. */
  readonly lastSeq: number;
  /** Whether no message is missing between the resume position and `lastSeq`. */
  readonly isWhole: boolean;
}

/** Welcomes a member that the roster includes, and makes it live. */
export async function welcome(member: Member, options: WelcomeOptions): Promise<void> {
  if (member.isReturning) return await welcomeBack(member, options);
  const greeting = member.format === "v1" ? [toWelcome(member, options, false, 0)] : [];
  member.goLive([...greeting, ...ownNotices(member), ...member.room.recent.history()]);
}

async function welcomeBack(member: Member, options: WelcomeOptions): Promise<void> {
  const { room, request: { resume } } = member;
  const missed = await readMissedPrivate(member, options);
  const recovered = resume !== undefined && missed.isWhole &&
    room.lastSeq - resume.after <= MAX_MISSED_EVENTS &&
    await options.log.canResume(room.name, resume.epoch, resume.after);
  if (member.isGone) return;
  let unsent = [toWelcome(member, options, recovered, missed.lastSeq), ...ownNotices(member)];
  let events = recovered ? room.recent.after(resume.after) : room.recent.history();
  let seq = resume?.after ?? 0;
  while (events === undefined) {
    seq = await sendPage(member, unsent, seq, options);
    if (member.isGone) return;
    // Users may have joined and left while the page was sent.
    unsent = [new EncodedEvent(onlineUsers(room))];
    // From here on nothing is awaited until the member is live, so no event falls between.
    events = room.recent.after(seq);
  }
  const messages = missed.entries.map(({ message, inboxSeq }) => {
    const event = toDm(room.name, message, inboxSeq);
    return new EncodedEvent(recovered ? event : { ...event, history: true });
  });
  member.goLive([...unsent, ...events, ...messages, ...member.queuedAfter(missed.lastSeq)]);
}

/**
 * Sends a member the next page of missed events, and waits until the page has left.
 *
 * @param first the events that precede the page
 * @param after the `seq` up to which it has received the log
 * @returns the `seq` up to which it has received the log now
 */
async function sendPage(
  member: Member,
  first: readonly EncodedEvent[],
  after: number,
  options: WelcomeOptions,
): Promise<number> {
  const page = await options.log.events(member.room.name, after, PAGE_EVENTS);
  if (member.isGone) return after;
  if (page[0]?.seq !== after + 1) throw new Error("The log was cut while it was read.");
  options.send(member, [...first, ...page.map((event) => new EncodedEvent(event))]);
  await hasTakenPage(member, options);
  return page.at(-1)!.seq;
}

/**
 * Waits until every frame sent to a member has left. The sweep evicts a member that does not read.
 */
async function hasTakenPage(member: Member, { after }: WelcomeOptions): Promise<void> {
  while (!member.isGone && !member.hasDrained) {
    await new Promise<void>((resolve) => after(PAGE_POLL_MS, resolve));
  }
}

async function readMissedPrivate(
  { room, person, request: { resume } }: Member,
  { log, limits: { historySize } }: WelcomeOptions,
): Promise<MissedMessages> {
  const { name } = room;
  const last = await log.inboxSeq(name, person);
  const newest = Math.max(0, last - historySize);
  const read = async (after: number, isWhole: boolean) => {
    const entries = await log.inbox(name, person, after, MAX_MISSED_PRIVATE);
    return { entries, lastSeq: entries.at(-1)?.inboxSeq ?? last, isWhole };
  };
  if (resume === undefined) return await read(newest, false);
  const { epoch, inbox } = resume;
  if (inbox === undefined) return { entries: [], lastSeq: last, isWhole: true };
  if (!await log.canResumeInbox(name, person, epoch, inbox)) return await read(newest, false);
  const missed = await read(Math.max(inbox, last - MAX_MISSED_PRIVATE), true);
  return { ...missed, isWhole: missed.entries.length >= last - inbox };
}

/** The notices of a member's own join, as everyone in a small room receives them. */
function ownNotices({ id, room, username = "" }: Member): EncodedEvent[] {
  const isNews = room.roster.size <= CROWD && room.roster.isFirst({ username, connection: id });
  if (!isNews) return [];
  const notices = [...joinNotices(room, username), presence(room, [username], [])];
  return notices.map((event) => new EncodedEvent(event));
}

function toWelcome(
  { room, identity, username = "" }: Member,
  { limits: { maxMessageBytes, maxFrameBytes } }: WelcomeOptions,
  recovered: boolean,
  inboxSeq: number,
): EncodedEvent {
  const event: WelcomeEvent = {
    type: "welcome",
    ...envelope(room.name, "", username),
    session: identity.secret ?? "",
    role: roleIn(room.settings, identity),
    private: room.settings.isPrivate,
    epoch: room.epoch,
    seq: room.lastSeq,
    inbox_seq: inboxSeq,
    recovered,
    users: room.roster.entries(),
    online: room.roster.size,
    limits: {
      max_message_bytes: orNull(maxMessageBytes),
      max_frame_bytes: orNull(maxFrameBytes),
    },
  };
  return new EncodedEvent(event);
}

function orNull(limit: number): number | null {
  return limit === Infinity ? null : limit;
}

/** A private message as one of its two people receives it. */
export function toDm(room: string, message: PrivateMessage, inboxSeq: number): DmEvent {
  const { id, content, from, to, timestamp } = message;
  return {
    type: "dm",
    ...envelope(room, content, from.username),
    to: to.username,
    id,
    inbox_seq: inboxSeq,
    timestamp,
  };
}
