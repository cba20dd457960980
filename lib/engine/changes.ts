/**
 * What an edit or a deletion does to events: the same in every engine.
 *
 * A change becomes the newest event of the log, and alters the message and earlier changes of it. A
 * new kind of change needs code here, and nowhere else in the engines.
 *
 * @module
 */

import { ChatError } from "../errors.ts";
import type { ChatEvent, LogEvent } from "../protocol/events.ts";
import type { Change } from "./engine.ts";
import type { Place } from "./places.ts";

/** An event, and the person who caused it. */
interface Authored {
  readonly event: LogEvent;
  readonly person: string;
}

/**
 * Checks that a message may be changed.
 *
 * @param found the event at the `seq` of the message's id, if there is one
 * @returns the message as it is now
 * @throws {ChatError} `not_found`, or `forbidden` if another person wrote the message
 */
export function checkChange(found: Authored | undefined, change: Change): ChatEvent {
  if (found === undefined || !isMessage(found.event)) {
    throw new ChatError("not_found", "There is no such message in this room.");
  }
  if (found.person !== change.person && !change.isModerator) {
    throw new ChatError("forbidden", "Only its author may change a message.");
  }
  return found.event;
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
  }
}

/** Applies a change to an earlier event. An event about another message stays as it is. */
export function applyChange(event: LogEvent, change: LogEvent): LogEvent {
  if (event.id !== change.id) return event;
  switch (change.type) {
    case "chat":
      return event;
    case "message_updated":
      return event.type === "chat" ? { ...event, content: change.content, edited: true } : event;
    case "message_deleted":
      return withoutText(event);
  }
}

/** Whether an event is a message that is not deleted. */
export function isMessage(event: LogEvent): event is ChatEvent {
  return event.type === "chat" && !event.deleted;
}

/** Whether a change erases every copy of its message's text, those in earlier changes included. */
export function isErasure(change: LogEvent): boolean {
  return change.type === "message_deleted";
}

function withoutText(event: LogEvent): LogEvent {
  if (event.type !== "chat") return { ...event, content: "" };
  const { edited: _, ...rest } = event;
  return { ...rest, content: "", deleted: true };
}
