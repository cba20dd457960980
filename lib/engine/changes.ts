/**
 * The effect of an edit or a deletion on events, the same in every engine.
 *
 * A change becomes the newest event of the log, alters its message, and clears the text of the
 * message's change before it. So a text is in the log once, or twice if its message was edited. A
 * new kind of change needs code here, and nowhere else in the engines.
 *
 * @module
 */

import { noSuchMessage, nothingToAnswer, onlyAuthor, refInUse } from "../errors.ts";
import type { ChatEvent, LogEvent } from "../protocol/events.ts";
import type { Change, Draft, PrivateMessage, Receipt } from "./engine.ts";
import type { Place } from "./places.ts";

/**
 * When an account is removed, its messages among this many newest events of a room in use are
 * deleted one by one, so that everyone there sees them disappear. Older messages are erased without
 * an event.
 */
export const LIVE_EVENTS = 128;

/** How many events a room may have beyond those to be kept, before some are dropped. */
export const EXCESS = 128;

/** How long private messages are kept, in milliseconds; each person's newest one stays. */
export const INBOX_MS = 30 * 24 * 60 * 60 * 1000;

/** An event, and the person who caused it. */
interface Authored {
  readonly event: LogEvent;
  readonly person: string;
}

/**
 * Checks that a message may be changed.
 *
 * @param found the event at the `seq` of the message's id, if there is one
 * @returns the message in its present form
 * @throws {ChatError} `not_found`, or `forbidden` if another person wrote the message
 */
export function checkChange(found: Authored | undefined, change: Change): ChatEvent {
  if (found === undefined || !isMessage(found.event)) {
    throw noSuchMessage();
  }
  if (found.person !== change.person && !change.isModerator) {
    throw onlyAuthor();
  }
  return found.event;
}

/**
 * Checks that a message may be answered: the log has it, deleted or not.
 *
 * @param found the event at the `seq` of the message's id, if there is one
 * @throws {ChatError} `not_found`
 */
export function checkAnswered(found: LogEvent | undefined): void {
  if (found?.type !== "chat") throw nothingToAnswer();
}

/** Makes the event of a new message. */
export function toMessage(room: string, draft: Draft, id: string, place: Place): ChatEvent {
  const { content, username, ref, replyTo } = draft;
  const { seq, timestamp } = place;
  // No spread: it is slow, and every message passes here.
  const event: ChatEvent = ref === undefined
    ? { type: "chat", content, room, username, id, seq, timestamp }
    : { type: "chat", content, room, username, id, seq, timestamp, ref };
  return replyTo === undefined ? event : { ...event, reply_to: replyTo };
}

/**
 * The receipt of a draft that repeats the message with the same `ref`. A message that was edited or
 * deleted no longer has its first text, so any draft counts as its repeat.
 *
 * @throws {ChatError} `conflict` if the draft has another text or `reply_to`
 */
export function toRepeated<E extends ChatEvent | PrivateMessage>(
  first: E,
  { content, replyTo }: Pick<Draft, "content" | "replyTo">,
): Receipt<E> {
  const isChanged = "edited" in first || "deleted" in first;
  const answered = "reply_to" in first ? first.reply_to : undefined;
  if (!isChanged && (first.content !== content || answered !== replyTo)) throw refInUse();
  return { event: first, isDuplicate: true };
}

/** Makes the event that a change adds to the log. */
export function toLogEvent(message: ChatEvent, change: Change, place: Place): LogEvent {
  const { room, username, id } = message;
  const { seq, timestamp } = place;
  switch (change.type) {
    case "edit": {
      const { content } = change;
      return { type: "message_updated", content, room, username, id, seq, timestamp };
    }
    case "delete":
      return { type: "message_deleted", content: "", room, username, id, seq, timestamp };
    case "erase":
      return { type: "message_deleted", content: "", room, username: "", id, seq, timestamp };
  }
}

/** Applies a change to an earlier event. An event about another message stays as it is. */
export function applyChange(event: LogEvent, change: LogEvent): LogEvent {
  if (event.id !== change.id) return event;
  switch (change.type) {
    case "chat":
      return event;
    case "message_updated": {
      const { content } = change;
      return event.type === "chat" ? { ...event, content, edited: true } : { ...event, content };
    }
    case "message_deleted":
      return change.username === "" ? erase(event) : withoutText(event);
  }
}

/** Removes text and author from an event. */
export function erase(event: LogEvent): LogEvent {
  if (event.type !== "chat") return { ...event, content: "", username: "" };
  const { ref: _, reply_to: __, edited: ___, ...rest } = event;
  return { ...rest, content: "", username: "", deleted: true };
}

/**
 * An event as a client receives it. An edit that a later one replaced has lost its text, and gets
 * the present text of its message, if the message is still kept.
 *
 * @param find finds an event of the log by its message's id
 */
export function withPresentText(
  event: LogEvent,
  find: (id: string) => LogEvent | undefined,
): LogEvent {
  if (event.type !== "message_updated" || event.content !== "") return event;
  return { ...event, content: find(event.id)?.content ?? "" };
}

/** Whether an event is a message that is not deleted. */
export function isMessage(event: LogEvent): event is ChatEvent {
  return event.type === "chat" && !event.deleted;
}

/** Whether no copy of the message's text may stay after a change. */
export function isErasure(change: LogEvent): boolean {
  return change.type === "message_deleted";
}

function withoutText(event: LogEvent): LogEvent {
  if (event.type !== "chat") return { ...event, content: "" };
  const { reply_to: _, edited: __, ...rest } = event;
  return { ...rest, content: "", deleted: true };
}
