/**
 * The newest events of a room's log, in memory for new members and for members that resume.
 *
 * They are kept as JSON, up to a maximum: there may be thousands of rooms, and events as objects
 * take several times the memory.
 *
 * @module
 */

import { EncodedEvent } from "../delivery/batch.ts";
import { applyChange, erase, isMessage } from "../engine/changes.ts";
import type { ChatEvent, LogEvent } from "../protocol/events.ts";

/** Maximum events that are kept. */
export const MAX_RECENT_EVENTS = 128;

/** Maximum UTF-16 units that are kept. */
const MAX_RECENT_SIZE = 64 * 1024;

/**
 * Maximum excess of a list, as a fraction of its maximum. Beyond it, the oldest entries are
 * dropped.
 */
const SLACK = 1 / 4;

interface Message {
  readonly json: string;
  /** The message as part of the history, encoded for the first new member. */
  encoded?: EncodedEvent;
}

/** The newest events of one room's log, and its newest messages. */
export class RecentEvents {
  readonly #historySize: number;
  /** As JSON, without a hole, up to `#lastSeq`. */
  #events: string[];
  /** UTF-16 units of `#events`. */
  #size: number;
  #lastSeq: number;
  /** The newest messages that are not deleted. */
  #messages: Message[];
  /** Whether the log may have messages before them. */
  #hasOlder: boolean;

  /**
   * @param historySize how many messages are kept
   * @param lastSeq the `seq` of the newest event of the log
   * @param events the newest events of the log, oldest first; those before a hole are ignored
   * @param messages the newest messages that are not deleted, oldest first
   */
  constructor(
    historySize: number,
    lastSeq = 0,
    events: readonly LogEvent[] = [],
    messages: readonly ChatEvent[] = [],
  ) {
    this.#historySize = historySize;
    this.#lastSeq = lastSeq;
    this.#events = withoutHole(events, lastSeq).map((event) => JSON.stringify(event));
    this.#size = lengthOf(this.#events);
    this.#messages = toMessages(messages);
    this.#hasOlder = messages.length >= historySize;
  }

  /** The `seq` of the newest event of the log. */
  get lastSeq(): number {
    return this.#lastSeq;
  }

  /** Whether deletions have left too few messages although the log may have older ones. */
  get isShort(): boolean {
    return this.#hasOlder && this.#messages.length < this.#historySize;
  }

  /**
   * Replaces the messages by ones read from the log again.
   *
   * @param seq the newest event of the log at the time of the read
   * @param messages the newest messages up to `seq` that are not deleted, oldest first
   * @returns false, with nothing changed, if the events since `seq` are no longer in memory
   */
  replaceMessages(seq: number, messages: readonly ChatEvent[]): boolean {
    if (this.#lastSeq - seq > this.#events.length) return false;
    this.#messages = toMessages(messages);
    this.#hasOlder = messages.length >= this.#historySize;
    for (const json of newest(this.#events, this.#lastSeq - seq)) {
      const event: LogEvent = JSON.parse(json);
      if (event.type !== "chat") this.#applyToMessages(event);
      else if (isMessage(event)) this.#addMessage(json);
    }
    return true;
  }

  /** Adds the next event of the log. @param json the event as JSON */
  add(event: LogEvent, json: string): void {
    this.#lastSeq = event.seq;
    this.#events.push(json);
    this.#size += json.length;
    const isOverfull = this.#events.length > MAX_RECENT_EVENTS * (1 + SLACK) ||
      this.#size > MAX_RECENT_SIZE * (1 + SLACK);
    if (isOverfull) this.#cut();
    if (event.type === "chat") this.#addMessage(json);
    else this.#apply(event);
  }

  /** The newest messages, as the history of a new member. @param epoch the room's epoch */
  history(epoch: string): EncodedEvent[] {
    return newest(this.#messages, this.#historySize).map((message) =>
      message.encoded ??= new EncodedEvent({ ...JSON.parse(message.json), history: true }, {
        epoch,
      })
    );
  }

  /**
   * Every event after a `seq`, oldest first, or `undefined` if one of them is no longer in memory.
   *
   * @param epoch the room's epoch
   */
  after(seq: number, epoch: string): EncodedEvent[] | undefined {
    const count = this.#lastSeq - seq;
    if (count > this.#events.length) return undefined;
    return newest(this.#events, count).map((json) =>
      new EncodedEvent(JSON.parse(json), { json, epoch })
    );
  }

  /** Removes text and author from the events of these messages. */
  erase(ids: readonly string[]): void {
    const erased = new Set(ids);
    const isErased = (json: string) => erased.has(JSON.parse(json).id);
    this.#events = this.#events.map((json) =>
      isErased(json) ? JSON.stringify(erase(JSON.parse(json))) : json
    );
    this.#size = lengthOf(this.#events);
    this.#messages = this.#messages.filter(({ json }) => !isErased(json));
  }

  #addMessage(json: string): void {
    this.#messages.push({ json });
    if (this.#messages.length > this.#historySize * (1 + SLACK)) {
      this.#messages = newest(this.#messages, this.#historySize);
      this.#hasOlder = true;
    }
  }

  /** Applies an edit or a deletion to the earlier events. */
  #apply(change: LogEvent): void {
    const last = this.#events.length - 1;
    this.#events = this.#events.map((json, i) => {
      const event = i < last ? changed(json, change) : undefined;
      return event === undefined ? json : JSON.stringify(event);
    });
    this.#size = lengthOf(this.#events);
    this.#applyToMessages(change);
  }

  #applyToMessages(change: LogEvent): void {
    this.#messages = this.#messages.flatMap((message) => {
      const event = changed(message.json, change);
      if (event === undefined) return [message];
      return isMessage(event) ? [{ json: JSON.stringify(event) }] : [];
    });
  }

  /** Drops the oldest events. */
  #cut(): void {
    this.#events = newest(this.#events, MAX_RECENT_EVENTS);
    this.#size = lengthOf(this.#events);
    let count = 0;
    while (this.#size > MAX_RECENT_SIZE) this.#size -= this.#events[count++]!.length;
    this.#events.splice(0, count);
  }
}

/** An event after a change; `undefined` if the change is about another message. */
function changed(json: string, change: LogEvent): LogEvent | undefined {
  // Quotation marks inside a text are escaped, so only the field itself matches.
  return json.includes(`"id":"${change.id}"`) ? applyChange(JSON.parse(json), change) : undefined;
}

function toMessages(events: readonly ChatEvent[]): Message[] {
  return events.map((event) => ({ json: JSON.stringify(event) }));
}

/** The events that lead to `lastSeq` without a hole. */
function withoutHole(events: readonly LogEvent[], lastSeq: number): readonly LogEvent[] {
  let start = events.length;
  while (start > 0 && events[start - 1]!.seq === lastSeq - (events.length - start)) start--;
  return events.slice(start);
}

function lengthOf(texts: readonly string[]): number {
  return texts.reduce((sum, { length }) => sum + length, 0);
}

function newest<T>(list: readonly T[], count: number): T[] {
  return list.slice(Math.max(0, list.length - count));
}
