/**
 * Translates the jobs of a batch into arguments for each room's script, and its reply into answers.
 *
 * @module
 */

import { ChatError, storeUnavailable } from "../../errors.ts";
import { nameKey } from "../../names.ts";
import type { ChatEvent, LogEvent } from "../../protocol/events.ts";
import { toMessage, toRepeated } from "../changes.ts";
import type { Author } from "../engine.ts";
import { toMessageId, toTimestamp } from "../places.ts";
import type { Answer, Job } from "../remote/backend.ts";
import { toRefusal } from "../remote/refusals.ts";
import { readEvent, split, toPresences, toPrivate, toRef } from "./entries.ts";
import { inboxKey } from "./keys.ts";

/** How many keys a room's script takes before the inboxes. */
const FIRST_INBOX = 13;

/** The jobs of one room in a batch. */
export class Part {
  readonly room: string;
  readonly #places: number[] = [];
  readonly #jobs: Job[] = [];
  readonly #args: string[] = [];
  readonly #inboxes: string[] = [];

  constructor(room: string) {
    this.room = room;
  }

  /** The places of the jobs in the batch. */
  get places(): readonly number[] {
    return this.#places;
  }

  get args(): readonly string[] {
    return this.#args;
  }

  /** The inboxes that the jobs change. */
  get inboxes(): readonly string[] {
    return this.#inboxes;
  }

  /** Whether a job makes a connection present. */
  get enters(): boolean {
    return this.#jobs.some(({ type }) => type === "enter");
  }

  /** Whether a job may store something for good. */
  get stores(): boolean {
    return this.#jobs.some(({ type }) =>
      type === "append" || type === "change" || type === "whisper" || type === "settings"
    );
  }

  /** The accounts that jobs make owner of the room. */
  get owners(): string[] {
    return this.#jobs.flatMap((job) =>
      job.type === "settings" && job.settings.owner !== undefined ? [job.settings.owner] : []
    );
  }

  add(place: number, job: Job): void {
    this.#places.push(place);
    this.#jobs.push(job);
    this.#encode(job);
  }

  /** Whether a reply says that the instance has no connection in the room any more. */
  isLeft(reply: string): boolean {
    return (JSON.parse(reply) as string[])[2] === "left";
  }

  /** The answers to the jobs. */
  read(reply: string): Answer[] {
    const [epoch, time, , ...answers] = JSON.parse(reply) as string[];
    const timestamp = toTimestamp(Number(time));
    return this.#jobs.map((job, i) => {
      try {
        return this.#answer(job, answers[i]!, { epoch: epoch!, timestamp });
      } catch (error) {
        if (error instanceof ChatError) return error;
        throw error;
      }
    });
  }

  #encode(job: Job): void {
    const args = this.#args;
    switch (job.type) {
      case "append": {
        const { origin, person, ref, replyTo = "", username, content } = job.draft;
        args.push(`a${origin}`, [person, toRef(ref), username, replyTo, content].join("\n"));
        return;
      }
      case "change": {
        const { origin, type, id, person, isModerator } = job.change;
        const content = job.change.type === "edit" ? job.change.content : "";
        args.push(`c${origin}`, type, id, person, isModerator ? "1" : "0", content);
        return;
      }
      case "whisper": {
        const { origin, person, ref, to, username, content } = job.draft;
        args.push(`w${origin}`, person, toRef(ref), to?.person ?? "", job.id, username);
        args.push(to?.username ?? "", content);
        args.push(this.#inbox(person), this.#inbox(to?.person ?? person));
        return;
      }
      case "enter": {
        const { connection, username, person } = job.presence;
        args.push(`e${connection}`, nameKey(username), person, username);
        return;
      }
      case "leave":
        args.push(`x${job.connection}`);
        return;
      case "publish":
        args.push(`o${JSON.stringify(job.event)}`);
        return;
      case "settings": {
        const { version, owner = "" } = job.settings;
        const stored = { ...job.settings, version: version + 1 };
        args.push(`S${version}`, JSON.stringify(stored), owner);
        return;
      }
      case "present":
        args.push("p");
        return;
      case "lastSeen":
        args.push(`s${nameKey(job.username)}`);
    }
  }

  /** The place of an inbox among the keys. */
  #inbox(person: string): string {
    const key = inboxKey(this.room, person);
    let at = this.#inboxes.indexOf(key);
    if (at === -1) at = this.#inboxes.push(key) - 1;
    return String(FIRST_INBOX + 1 + at);
  }

  #answer(job: Job, answer: string, at: { epoch: string; timestamp: string }): Answer {
    const { room } = this;
    const rest = answer.slice(1);
    if (answer[0] === "!") throw toRefusal(rest);
    switch (job.type) {
      case "append": {
        if (answer[0] === "=") return toRepeated(readEvent(room, rest) as ChatEvent, job.draft);
        const place = { seq: Number(answer), timestamp: at.timestamp };
        const event: LogEvent = toMessage(
          room,
          job.draft,
          toMessageId(at.epoch, place.seq),
          place,
        );
        return { event, isDuplicate: false };
      }
      case "change":
        return { event: readEvent(room, rest), isDuplicate: false };
      case "whisper": {
        const message = toPrivate(rest);
        if (answer[0] === "=") return toRepeated(message, job.draft);
        return { event: message, isDuplicate: false };
      }
      case "enter":
        return Number(answer);
      case "settings":
        return answer === "1";
      case "present":
        return toPresences(JSON.parse(answer));
      case "lastSeen":
        return toAuthor(answer);
      case "leave":
      case "publish":
        return undefined;
    }
  }

  /** The answers if the script failed. */
  fail(): Answer[] {
    return this.#jobs.map(() => storeUnavailable());
  }
}

/** Divides the jobs of a batch by room, in order. */
export function toParts(jobs: readonly Job[]): Part[] {
  const parts = new Map<string, Part>();
  for (const [i, job] of jobs.entries()) {
    const part = parts.get(job.room) ?? new Part(job.room);
    parts.set(job.room, part);
    part.add(i, job);
  }
  return [...parts.values()];
}

function toAuthor(answer: string): Author | undefined {
  if (answer === "") return undefined;
  const [person, username] = split(answer, 2);
  return { username: username!, person: person! };
}
