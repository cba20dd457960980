/**
 * Translates a batch into the arguments of `turn_v1`, and its result into answers.
 *
 * @module
 */

import { ChatError } from "../../errors.ts";
import { nameKey } from "../../names.ts";
import type { ChatEvent } from "../../protocol/events.ts";
import { toMessage, toRepeated } from "../changes.ts";
import type { Author } from "../engine.ts";
import { REACHABLE_MS } from "../local_bus.ts";
import { toMessageId, toTimestamp } from "../places.ts";
import type { Answer, Job } from "../remote/backend.ts";
import { toRefusal } from "../remote/refusals.ts";
import type { Epochs } from "./epochs.ts";
import {
  type EventRow,
  type PresenceRow,
  type PrivateRow,
  toEvent,
  toPresence,
  toPrivate,
} from "./rows.ts";
import type { Value } from "./sql.ts";

/** The answer of `turn_v1` to one job. */
type AnswerRow =
  | number
  | boolean
  | string
  | null
  | EventRow
  | readonly [isDuplicate: boolean, message: PrivateRow]
  | readonly PresenceRow[]
  | readonly [username: string, person: string];

/** The result of `turn_v1`: the position of each room of the batch, and the answer to each job. */
export type TurnRow = readonly [
  lastSeqs: readonly number[],
  oldestSeqs: readonly number[],
  times: readonly number[],
  answers: readonly AnswerRow[],
];

/** A job's arguments, in the order of the parameters of `turn_v1`. */
type Fields = [
  username: string | null,
  person: string | null,
  content: string | null,
  ref: string | null,
  target: string | null,
  origin: string | null,
  x: string | null,
  y: string | null,
  z: string | null,
];

/** The rooms of jobs, each once. */
export function roomsOf(jobs: readonly Job[]): string[] {
  return [...new Set(jobs.map(({ room }) => room))];
}

/** The arguments of `turn_v1` from `p_names` on. */
export function toArguments(
  epochs: Epochs,
  rooms: readonly string[],
  jobs: readonly Job[],
): Value[] {
  const places = new Map(rooms.map((room, i) => [room, String(i + 1)]));
  const columns: (string | null)[][] = Array.from({ length: 9 }, () => []);
  const refs = new Set<string>();
  for (const job of jobs) {
    const fields = toFields(epochs, job, refs);
    for (const [i, column] of columns.entries()) column.push(fields[i]!);
  }
  return [
    rooms,
    jobs.map((job) => job.type === "change" ? job.change.type : job.type),
    jobs.map(({ room }) => places.get(room)!),
    ...columns.map((column) => column.every((field) => field === null) ? [] : column),
  ];
}

/** @param refs the refs of earlier messages of the batch */
function toFields(epochs: Epochs, job: Job, refs: Set<string>): Fields {
  const { room } = job;
  switch (job.type) {
    case "append": {
      const { username, person, content, ref = null, replyTo = null, origin } = job.draft;
      const isAgain = ref !== null && isRepeated(refs, `${room}\n${ref}\n${person}`);
      const place = toPlace(epochs, room, replyTo);
      return [username, person, content, ref, replyTo, origin, ...place, isAgain ? "again" : null];
    }
    case "change": {
      const { id, person, origin, isModerator = false } = job.change;
      const content = job.change.type === "edit" ? job.change.content : null;
      const place = toPlace(epochs, room, id);
      return [null, person, content, null, id, origin, ...place, isModerator ? "moderator" : null];
    }
    case "whisper": {
      const { username, person, content, ref = null, to, origin } = job.draft;
      const receiver = [to?.username ?? null, to?.person ?? null] as const;
      return [username, person, content, ref, null, origin, job.id, ...receiver];
    }
    case "enter": {
      const { username, person, connection } = job.presence;
      return [username, person, null, null, null, null, connection, nameKey(username), null];
    }
    case "leave":
      return [null, null, null, null, null, null, job.connection, null, null];
    case "publish":
      return [null, null, JSON.stringify(job.event), null, null, null, null, null, null];
    case "settings": {
      const { version, owner = null } = job.settings;
      const stored = JSON.stringify({ ...job.settings, version: version + 1 });
      return [null, null, stored, null, null, null, String(version), owner, null];
    }
    case "present":
      return [null, null, null, null, null, null, null, null, null];
    case "lastSeen": {
      const reach = String(REACHABLE_MS);
      return [null, null, null, null, null, null, reach, nameKey(job.username), null];
    }
  }
}

function isRepeated(refs: Set<string>, ref: string): boolean {
  const { size } = refs;
  return refs.add(ref).size === size;
}

/** The `seq` and the epoch in the id of a message. */
function toPlace(epochs: Epochs, room: string, id: string | null): [string | null, string | null] {
  const place = id === null ? undefined : epochs.parseId(room, id);
  return place === undefined ? [null, null] : [String(place.seq), String(place.epoch)];
}

/** The answers to jobs. */
export function toAnswers(
  epochs: Epochs,
  rooms: readonly string[],
  jobs: readonly Job[],
  [, , times, rows]: TurnRow,
): Answer[] {
  const timeOf = new Map(rooms.map((room, i) => [room, times[i]!]));
  return jobs.map((job, i) => toAnswer(epochs, job, rows[i]!, timeOf.get(job.room)!));
}

function toAnswer(epochs: Epochs, job: Job, row: AnswerRow, time: number): Answer {
  if (typeof row === "string") return toRefusal(row);
  const { room } = job;
  switch (job.type) {
    case "append": {
      if (typeof row !== "number") {
        const first = toEvent(epochs, room, row as EventRow) as ChatEvent;
        return orRefusal(() => toRepeated(first, job.draft));
      }
      const place = { seq: row, timestamp: toTimestamp(time) };
      const id = toMessageId(epochs.nameOf(room), row);
      return { event: toMessage(room, job.draft, id, place), isDuplicate: false };
    }
    case "change":
      return { event: toEvent(epochs, room, row as EventRow), isDuplicate: false };
    case "whisper": {
      const [isDuplicate, message] = row as readonly [boolean, PrivateRow];
      const event = toPrivate(message);
      return isDuplicate ? orRefusal(() => toRepeated(event, job.draft)) : { event, isDuplicate };
    }
    case "present":
      return (row as readonly PresenceRow[]).map(toPresence);
    case "lastSeen":
      return row === null ? undefined : toAuthor(row as readonly [string, string]);
    default:
      return row === null ? undefined : row as number | boolean;
  }
}

/** An author in a row. */
export function toAuthor([username, person]: readonly [string, string]): Author {
  return { username, person };
}

function orRefusal<T extends Answer>(answer: () => T): T | ChatError {
  try {
    return answer();
  } catch (error) {
    if (error instanceof ChatError) return error;
    throw error;
  }
}
