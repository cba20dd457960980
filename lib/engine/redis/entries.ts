/**
 * Events, private messages and presences as Redis stores and publishes them: one field a line, the
 * text last. So a script finds a field without a parser, and changes it without a copy of the rest.
 *
 * @module
 */

import type { ChatEvent, LogEvent } from "../../protocol/events.ts";
import {
  DEFAULT_SETTINGS,
  type Presence,
  type PrivateMessage,
  type RoomSettings,
} from "../engine.ts";
import { toTimestamp } from "../places.ts";
import type { NewsItem } from "../remote/backend.ts";

/** An entry of a log: `c` is a message, `d` a deleted one, `u` an edit, `x` a deletion. */
export interface Entry {
  readonly kind: "c" | "d" | "u" | "x";
  readonly seq: string;
  readonly time: string;
  /** The `seq` of a message's newest change, or of a change's message. */
  readonly link: string;
  readonly id: string;
  readonly person: string;
  /** As JSON; empty if there is none. */
  readonly ref: string;
  readonly username: string;
  readonly reply: string;
  readonly content: string;
}

/** A private message. Its flags say whose inbox has it: `f` the sender's, `t` the receiver's. */
export interface PrivateEntry {
  readonly flags: string;
  readonly number: string;
  readonly id: string;
  readonly time: string;
  readonly fromSeq: string;
  readonly toSeq: string;
  readonly person: string;
  readonly username: string;
  readonly toPerson: string;
  readonly toName: string;
  /** As JSON; empty if there is none. */
  readonly ref: string;
  readonly content: string;
}

/** Reads an entry of a log. */
export function parseEntry(text: string): Entry {
  const [kind, seq, time, link, id, person, ref, username, reply, content] = split(text, 10);
  return {
    kind: kind as Entry["kind"],
    seq: seq!,
    time: time!,
    link: link!,
    person: person!,
    ref: ref!,
    id: id!,
    username: username!,
    reply: reply!,
    content: content!,
  };
}

/** Writes an entry of a log. */
export function formatEntry(entry: Entry): string {
  const { kind, seq, time, link, person, ref, id, username, reply, content } = entry;
  return [kind, seq, time, link, id, person, ref, username, reply, content].join("\n");
}

/** The event of an entry. */
export function toEvent(room: string, entry: Entry): LogEvent {
  const { kind, content, username, id, ref, reply } = entry;
  const seq = Number(entry.seq);
  const timestamp = toTimestamp(Number(entry.time));
  const base = { content, room, username, id, seq, timestamp };
  if (kind === "u") return { type: "message_updated", ...base };
  if (kind === "x") return { type: "message_deleted", ...base };
  const event: ChatEvent = {
    type: "chat",
    ...base,
    ...(ref !== "" && { ref: JSON.parse(ref) as string }),
    ...(reply !== "" && { reply_to: reply }),
  };
  if (kind === "d") return { ...event, deleted: true };
  return entry.link === "" ? event : { ...event, edited: true };
}

/** The event of an entry's text. */
export function readEvent(room: string, text: string): LogEvent {
  return toEvent(room, parseEntry(text));
}

/** A `ref` as entries contain it. */
export function toRef(ref: string | undefined): string {
  return ref === undefined ? "" : JSON.stringify(ref);
}

/** Reads an entry of a private message. */
export function parsePrivate(text: string): PrivateEntry {
  const [
    flags,
    number,
    id,
    time,
    fromSeq,
    toSeq,
    person,
    username,
    toPerson,
    toName,
    ref,
    content,
  ] = split(text, 12);
  return {
    flags: flags!,
    number: number!,
    id: id!,
    time: time!,
    fromSeq: fromSeq!,
    toSeq: toSeq!,
    person: person!,
    username: username!,
    toPerson: toPerson!,
    toName: toName!,
    ref: ref!,
    content: content!,
  };
}

/** Writes an entry of a private message. */
export function formatPrivate(entry: PrivateEntry): string {
  const { flags, number, id, time, fromSeq, toSeq, ref, content } = entry;
  const { person, username, toPerson, toName } = entry;
  return [flags, number, id, time, fromSeq, toSeq, person, username, toPerson, toName, ref, content]
    .join("\n");
}

/** The message of an entry. */
export function toPrivate(text: string): PrivateMessage {
  const entry = parsePrivate(text);
  return {
    id: entry.id,
    content: entry.content,
    timestamp: toTimestamp(Number(entry.time)),
    from: { username: entry.username, person: entry.person },
    to: { username: entry.toName, person: entry.toPerson },
    fromSeq: Number(entry.fromSeq),
    toSeq: Number(entry.toSeq),
    ...(entry.ref !== "" && { ref: JSON.parse(entry.ref) as string }),
  };
}

/** A presence, its position, and its instance. */
function toPresence(text: string): { presence: Presence; position: number; instance: string } {
  const [instance, number, connection, , person, username] = split(text, 6);
  const presence = { username: username!, person: person!, connection: connection! };
  return { presence, position: Number(number), instance: instance! };
}

/** The presences of a room, in order of entering. */
export function toPresences(texts: readonly string[]): Presence[] {
  return texts.map(toPresence).sort((a, b) => a.position - b.position)
    .map(({ presence }) => presence);
}

/** The settings of a room; the defaults if nobody has changed them. */
export function toSettings(text: string | null): RoomSettings {
  return text === null ? DEFAULT_SETTINGS : { ...DEFAULT_SETTINGS, ...JSON.parse(text) };
}

/** The items of a room's news. An event of the log follows the text that names its origin. */
export function toItems(room: string, texts: readonly string[]): NewsItem[] {
  const items: NewsItem[] = [];
  for (let i = 0; i < texts.length; i++) {
    const text = texts[i]!;
    if (text[0] !== "l") items.push(toItem(room, text));
    else {
      const event = readEvent(room, texts[++i]!);
      items.push({ event: { type: "logged", event, origin: text.slice(1) } });
    }
  }
  return items;
}

function toItem(room: string, text: string): NewsItem {
  const rest = text.slice(1);
  switch (text[0]) {
    case "p": {
      const [origin, entry] = split(rest, 2);
      const number = Number(parsePrivate(entry!).number);
      return { event: { type: "private", message: toPrivate(entry!), origin: origin! }, number };
    }
    case "e":
    case "x": {
      const { presence, position } = toPresence(rest);
      const type = text[0] === "e" ? "entered" : "left";
      return { event: { type, presence, position }, number: position };
    }
    case "s":
      return { event: { type: "settings", settings: toSettings(rest) } };
    case "E": {
      const [number, ids] = split(rest, 2);
      return { event: { type: "erased", ids: JSON.parse(ids!) }, number: Number(number) };
    }
    default: {
      const [number, event] = split(rest, 2);
      const item = { event: JSON.parse(event!) };
      return room === "" ? { ...item, number: Number(number) } : item;
    }
  }
}

/** Splits a text into its first lines and the rest, `count` parts in all. */
export function split(text: string, count: number): string[] {
  const parts: string[] = [];
  let from = 0;
  while (parts.length < count - 1) {
    const end = text.indexOf("\n", from);
    parts.push(text.slice(from, end));
    from = end + 1;
  }
  parts.push(text.slice(from));
  return parts;
}
