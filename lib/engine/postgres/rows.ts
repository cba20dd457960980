/**
 * Translates answers and notifications of the functions in `schema.ts` into events, messages and
 * positions.
 *
 * @module
 */

import type { ChatEvent, LogEvent } from "../../protocol/events.ts";
import { toMessage } from "../changes.ts";
import {
  DEFAULT_SETTINGS,
  type EngineEvent,
  type Presence,
  type PrivateMessage,
  type RoomSettings,
} from "../engine.ts";
import { toMessageId, toTimestamp } from "../places.ts";
import type { News, NewsItem, Position } from "../remote/backend.ts";
import type { Epochs } from "./epochs.ts";

/** An event, see `row_v1`. */
export type EventRow = readonly [
  seq: number,
  type: LogEvent["type"],
  epoch: number,
  time: number,
  username: string,
  content: string,
  ref: string | null,
  replyTo: string | null,
  target: string | null,
  shown: boolean,
  changed: number | null,
];

/** A private message, see `private_v1`. */
export type PrivateRow = readonly [
  id: string,
  content: string,
  time: number,
  fromName: string,
  fromPerson: string,
  fromSeq: number,
  toName: string,
  toPerson: string,
  toSeq: number,
  ref: string | null,
];

/** A presence, see `present_v1`. */
export type PresenceRow = readonly [connection: string, username: string, person: string];

/** The position of a room, see `position_v1`. */
export type PositionRow = readonly [
  seq: number,
  presence: number,
  privates: number,
  settings: number,
  erasures: number,
];

/** One event of a notification, as `tell_v1` receives it. */
type ItemRow =
  | readonly [
    type: "chat",
    seq: number,
    time: number,
    origin: string,
    username: string,
    content: string,
    ref: string | null,
    replyTo: string | null,
  ]
  | readonly [type: "logged", origin: string, row: EventRow]
  | readonly [type: "private", origin: string, row: PrivateRow, number: number]
  | readonly [type: "entered" | "left", number: number, ...PresenceRow]
  | readonly [type: "publish", event: EngineEvent, number?: number]
  | readonly [type: "settings", settings: RoomSettings]
  | readonly [type: "erased", number: number, epochs: readonly number[], seqs: readonly number[]];

/** A notification of `tell_v1`. */
export type NewsRow = readonly [
  index: number,
  room: string,
  epoch: number,
  items: readonly ItemRow[] | null,
  position?: PositionRow,
];

/** The event of a row. */
export function toEvent(epochs: Epochs, room: string, row: EventRow): LogEvent {
  const [seq, type, epoch, time, username, content, ref, replyTo, target, shown, changed] = row;
  const id = target ?? toMessageId(epochs.nameOf(room, epoch), seq);
  const base = { content, room, username, id, seq, timestamp: toTimestamp(time) };
  if (type !== "chat") return { type, ...base };
  return {
    type,
    ...base,
    ...(ref !== null && { ref }),
    ...(replyTo !== null && { reply_to: replyTo }),
    ...(!shown ? { deleted: true } : changed !== null && { edited: true }),
  };
}

/** The events of rows. */
export function toEvents(epochs: Epochs, room: string, rows: readonly EventRow[]): LogEvent[] {
  return rows.map((row) => toEvent(epochs, room, row));
}

/** The private message of a row. */
export function toPrivate(row: PrivateRow): PrivateMessage {
  const [id, content, time, fromName, fromPerson, fromSeq, toName, toPerson, toSeq, ref] = row;
  return {
    id,
    content,
    timestamp: toTimestamp(time),
    from: { username: fromName, person: fromPerson },
    to: { username: toName, person: toPerson },
    fromSeq,
    toSeq,
    ...(ref !== null && { ref }),
  };
}

/** The presence of a row. */
export function toPresence([connection, username, person]: PresenceRow): Presence {
  return { username, person, connection };
}

/** The stored settings, or the defaults if nobody has changed them. */
export function toSettings(value: RoomSettings | null): RoomSettings {
  return value === null ? DEFAULT_SETTINGS : { ...DEFAULT_SETTINGS, ...value };
}

/** The position of a row. @param epoch its name as clients see it */
export function toPosition(epoch: string, row: PositionRow): Position {
  const [seq, presence, privates, settings, erasures] = row;
  return { epoch, seq, presence, privates, settings, erasures };
}

/**
 * The news of a notification.
 *
 * @throws {Error} if its epoch began after these
 */
export function toNews(epochs: Epochs, [, room, id, items, position]: NewsRow): News {
  const epoch = epochs.nameOf(room, id);
  if (items === null) return { room, epoch, position: toPosition(epoch, position!) };
  return { room, epoch, items: items.map((item) => toItem(epochs, room, epoch, item)) };
}

function toItem(epochs: Epochs, room: string, epoch: string, item: ItemRow): NewsItem {
  switch (item[0]) {
    case "chat": {
      const [, seq, time, origin, username, content, ref, replyTo] = item;
      const draft = { username, content, ref: ref ?? undefined, replyTo: replyTo ?? undefined };
      const place = { seq, timestamp: toTimestamp(time) };
      const event: ChatEvent = toMessage(
        room,
        { ...draft, person: "", origin },
        toMessageId(epoch, seq),
        place,
      );
      return { event: { type: "logged", event, origin } };
    }
    case "logged": {
      const [, origin, row] = item;
      return { event: { type: "logged", event: toEvent(epochs, room, row), origin } };
    }
    case "private": {
      const [, origin, row, number] = item;
      return { event: { type: "private", message: toPrivate(row), origin }, number };
    }
    case "publish": {
      const [, event, number] = item;
      return { event, number };
    }
    case "settings":
      return { event: { type: "settings", settings: toSettings(item[1]) } };
    case "erased": {
      const [, number, ids, seqs] = item;
      const toId = (seq: number, i: number) => toMessageId(epochs.nameOf(room, ids[i]), seq);
      return { event: { type: "erased", ids: seqs.map(toId) }, number };
    }
    default: {
      const [type, position, ...row] = item;
      return { event: { type, presence: toPresence(row), position }, number: position };
    }
  }
}
