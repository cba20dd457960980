/**
 * Delivers private messages to the connections of their two people.
 *
 * @module
 */

import { EncodedEvent } from "../delivery/batch.ts";
import type { PrivateMessage } from "../engine/engine.ts";
import { nameKey } from "../names.ts";
import { type DmEvent, envelope } from "../protocol/events.ts";
import type { Member, Room } from "./room.ts";

/**
 * Sends a private message to its two people in a room, but not to the connection that sent it. It
 * looks among the members, since the roster lacks a member whose presence was just lost.
 */
export function tellPrivate(room: Room, message: PrivateMessage, origin: string): void {
  const { from, to, fromSeq, toSeq } = message;
  for (const [{ username, person }, inboxSeq] of [[to, toSeq], [from, fromSeq]] as const) {
    const members = room.membersOf(person).filter((member) => hasName(member, username));
    if (members.length === 0) continue;
    const encoded = new EncodedEvent(toDm(room.name, message, inboxSeq));
    for (const member of members) if (member.id !== origin) member.tellPrivate(encoded, inboxSeq);
  }
}

function hasName({ username }: Member, name: string): boolean {
  return username !== undefined && (username === name || nameKey(username) === nameKey(name));
}

/** A private message as one of its two people receives it. */
export function toDm(room: string, message: PrivateMessage, inboxSeq: number): DmEvent {
  const { id, content, from, to, timestamp, ref } = message;
  return {
    type: "dm",
    ...envelope(room, content, from.username),
    to: to.username,
    id,
    inbox_seq: inboxSeq,
    timestamp,
    ...(ref !== undefined && { ref }),
  };
}
