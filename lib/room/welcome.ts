/**
 * The start of a membership: the welcome, then the events that the member missed, or the room's
 * newest messages.
 *
 * A new member goes live at once. A returning member with the whole protocol first receives every
 * event and private message that it missed, once and in order, in pages that a slow reader can
 * take. Where that is impossible, its welcome says `recovered: false`.
 *
 * @module
 */

import { EncodedEvent } from "../delivery/batch.ts";
import type { Log } from "../engine/engine.ts";
import type { Meter, ResumeOutcome } from "../meter.ts";
import type { SizeLimits } from "../protocol/commands.ts";
import { type Format, isWhole } from "../protocol/encode.ts";
import { envelope, type UserEntry, type WelcomeEvent } from "../protocol/events.ts";
import type { After } from "../time.ts";
import { notice, onlineUsers, presence } from "./notices.ts";
import { roleIn } from "./permissions.ts";
import { toDm } from "./private.ts";
import type { Member, Room } from "./room.ts";
import { CROWD } from "./roster.ts";

/** Maximum events that are read from the log at a time, and sent in one page. */
const PAGE_EVENTS = 64;

/** Maximum UTF-16 units in a page of several events. */
const PAGE_SIZE = 64 * 1024;

/** Maximum events, and their UTF-16 units, that a member receives at once when it goes live. */
const LAST_PAGE_EVENTS = 200;
const LAST_PAGE_SIZE = 256 * 1024;

/** The time between two checks whether a page has left, in milliseconds. */
const PAGE_POLL_MS = 20;

/** Maximum missed events of the room that can be recovered, and maximum missed private messages. */
const MAX_MISSED = 10_000;

/** What a welcome needs. */
export interface WelcomeOptions {
  readonly log: Log;
  readonly limits: SizeLimits & { readonly historySize: number };
  /** Sends a member events ahead of everything pending. */
  readonly send: (member: Member, events: readonly EncodedEvent[]) => void;
  readonly after: After;
  /** Called when a user is sent a list of a room's users. */
  readonly onListed: (room: Room, reader: string) => void;
  readonly meter?: Meter | undefined;
}

/** Where a member's missed events begin. */
interface Start {
  /** Whether it receives everything that it missed. */
  readonly isRecovered: boolean;
  /** The `seq` after which it receives the log, if it is recovered. */
  readonly seq: number;
  /** The `inbox_seq` after which it receives private messages. */
  readonly inboxSeq: number;
  /** Whether no private message may be missing after `inboxSeq`. */
  readonly isInboxWhole: boolean;
  /** The newest `inbox_seq`. */
  readonly lastInboxSeq: number;
}

/** The start of a new member. */
const NEW: Start = {
  isRecovered: false,
  seq: 0,
  inboxSeq: 0,
  isInboxWhole: false,
  lastInboxSeq: 0,
};

/** Welcomes a member, which the roster must include, and makes it live. */
export async function welcome(member: Member, options: WelcomeOptions): Promise<void> {
  const { room } = member;
  const start = member.isReturning ? await findStart(member, options) : NEW;
  if (!start.isRecovered && room.recent.isShort) await room.refill(options.log);
  if (member.isGone) return;
  options.meter?.welcomed(outcomeOf(member, start));
  await catchUp(member, start, options);
}

function outcomeOf({ request: { resume } }: Member, { isRecovered }: Start): ResumeOutcome {
  if (resume === undefined) return "none";
  return isRecovered ? "recovered" : "lost";
}

async function findStart(
  { room: { name, lastSeq }, person, request: { resume } }: Member,
  { log, limits: { historySize } }: WelcomeOptions,
): Promise<Start> {
  const lastInboxSeq = await log.inboxSeq(name, person);
  const isInboxWhole = resume !== undefined && (resume.inbox === undefined ||
    (lastInboxSeq - resume.inbox <= MAX_MISSED &&
      await log.canResumeInbox(name, person, resume.epoch, resume.inbox)));
  const isRecovered = isInboxWhole && lastSeq - resume.after <= MAX_MISSED &&
    await log.canResume(name, resume.epoch, resume.after);
  const inboxSeq = isInboxWhole
    ? resume.inbox ?? lastInboxSeq
    : Math.max(0, lastInboxSeq - historySize);
  return { isRecovered, seq: resume?.after ?? 0, inboxSeq, isInboxWhole, lastInboxSeq };
}

/**
 * Sends a member its welcome and everything after its start, and makes it live. If that is too long
 * for one page, each page is sent when the one before it has left.
 */
async function catchUp(member: Member, start: Start, options: WelcomeOptions): Promise<void> {
  const { room, format, username = "" } = member;
  const { isRecovered, lastInboxSeq } = start;
  const known = room.roster.entries();
  options.onListed(room, username);
  let { seq, inboxSeq } = start;
  const history = isRecovered ? [] : room.recent.history(room.epoch);
  if (!isRecovered) seq = room.lastSeq;
  const isAll = history.length === 0 && seq === room.lastSeq;
  let unsent = isWhole(format) ? [toWelcome(member, options, { ...start, isAll })] : [];
  unsent.push(...ownNotices(member), ...history);
  let hasWaited = false;
  while (true) {
    const recent = room.recent.after(seq, room.epoch);
    if (recent !== undefined) {
      unsent.push(...recent);
      seq = room.lastSeq;
    }
    const hasInbox = inboxSeq >= Math.max(lastInboxSeq, member.queue!.lastDropped);
    // Nothing is awaited between the last look at the log and going live, so no event is lost.
    if (recent !== undefined && hasInbox && isLastPage(unsent, format)) break;
    hasWaited = true;
    if (recent === undefined) {
      const page = await options.log.events(room.name, seq, PAGE_EVENTS);
      if (page[0]?.seq !== seq + 1) throw cutLog();
      unsent.push(...page.map((event) => new EncodedEvent(event, { epoch: room.epoch })));
      seq = page.at(-1)!.seq;
    } else if (!hasInbox) {
      const page = await readInbox(member, start, inboxSeq, options);
      unsent.push(...page.events);
      inboxSeq = page.lastSeq;
      if (page.events.length < PAGE_EVENTS && !member.isGone) continue;
    }
    await sendPages(member, unsent, options);
    if (member.isGone) return;
    unsent = [];
  }
  if (hasWaited) {
    unsent.push(...rosterChanges(room, known));
    options.onListed(room, username);
  }
  member.goLive([...unsent, ...member.queue!.after(inboxSeq)]);
}

/** Reads the next private messages of a member that is catching up. */
async function readInbox(
  { room: { name }, person, isReturning, queue }: Member,
  { isRecovered, isInboxWhole, lastInboxSeq }: Start,
  after: number,
  { log }: WelcomeOptions,
): Promise<{ events: EncodedEvent[]; lastSeq: number }> {
  // A new member receives no messages from before its join.
  const from = isReturning ? after : Math.max(after, queue!.first! - 1);
  const entries = await log.inbox(name, person, from, PAGE_EVENTS);
  const isNext = entries[0]?.inboxSeq === from + 1;
  if (!isNext && (isInboxWhole || from >= lastInboxSeq)) throw cutLog();
  const events = entries.map(({ message, inboxSeq }) => {
    const event = toDm(name, message, inboxSeq);
    const isOld = !isRecovered && inboxSeq <= lastInboxSeq;
    return new EncodedEvent(isOld ? { ...event, history: true } : event);
  });
  return { events, lastSeq: entries.at(-1)?.inboxSeq ?? lastInboxSeq };
}

function cutLog(): Error {
  return new Error("The log was cut while it was read.");
}

function isLastPage(events: readonly EncodedEvent[], format: Format): boolean {
  if (events.length > LAST_PAGE_EVENTS) return false;
  return events.reduce((sum, event) => sum + sizeOf(event, format), 0) <= LAST_PAGE_SIZE;
}

function sizeOf(event: EncodedEvent, format: Format): number {
  return event.text(format)?.length ?? 0;
}

/** Sends a member events in pages, and waits until the last one has left. */
async function sendPages(
  member: Member,
  events: readonly EncodedEvent[],
  options: WelcomeOptions,
): Promise<void> {
  for (let start = 0; start < events.length && !member.isGone;) {
    let end = start;
    let size = 0;
    while (end < events.length && end - start < PAGE_EVENTS) {
      size += sizeOf(events[end]!, member.format);
      if (size > PAGE_SIZE && end > start) break;
      end++;
    }
    options.send(member, events.slice(start, end));
    await hasTakenPage(member, options);
    start = end;
  }
}

/**
 * Waits until every frame sent to a member has left. The sweep evicts a member that does not read.
 */
async function hasTakenPage(member: Member, { after }: WelcomeOptions): Promise<void> {
  while (!member.isGone && !member.hasDrained) {
    await new Promise<void>((resolve) => after(PAGE_POLL_MS, resolve));
  }
}

/** The changes of a room's users since a list of them was sent. */
function rosterChanges(room: Room, known: readonly UserEntry[]): EncodedEvent[] {
  const before = new Set(known.map(({ username }) => username));
  const now = room.roster.entries().map(({ username }) => username);
  const joined = now.filter((username) => !before.has(username));
  const left = [...before].filter((username) => room.roster.user(username) === undefined);
  const list = new EncodedEvent(onlineUsers(room));
  if (joined.length + left.length === 0) return [list];
  return [list, new EncodedEvent(presence(room, joined, left))];
}

/** The notices of a member's own join, as everyone in a small room receives them. */
function ownNotices({ id, room, username = "" }: Member): EncodedEvent[] {
  const isNews = room.roster.size <= CROWD && room.roster.isFirst({ username, connection: id });
  if (!isNews) return [];
  const notices = [
    onlineUsers(room),
    notice(room, username, "joined"),
    presence(room, [username], []),
  ];
  return notices.map((event) => new EncodedEvent(event));
}

/** @param start `isAll`: only new events of the log follow the welcome */
function toWelcome(
  { room, identity, username = "" }: Member,
  { limits: { maxMessageBytes, maxFrameBytes } }: WelcomeOptions,
  { isRecovered, lastInboxSeq, isAll }: Start & { readonly isAll: boolean },
): EncodedEvent {
  const event: WelcomeEvent = {
    type: "welcome",
    ...envelope(room.name, "", username),
    session: identity.secret ?? "",
    role: roleIn(room.settings, identity),
    private: room.settings.isPrivate,
    epoch: room.epoch,
    seq: room.lastSeq,
    inbox_seq: lastInboxSeq,
    recovered: isRecovered,
    users: room.roster.entries(),
    online: room.roster.size,
    typing: room.typists.names(),
    limits: {
      max_message_bytes: orNull(maxMessageBytes),
      max_frame_bytes: orNull(maxFrameBytes),
    },
  };
  return new EncodedEvent(event, isAll ? { epoch: room.epoch } : {});
}

function orNull(limit: number): number | null {
  return limit === Infinity ? null : limit;
}
