/**
 * The newest of what a room said, at hand for those who join and those who come back.
 *
 * It is kept as text, and only so much of it: a room is one of thousands, and as objects it would
 * be several times as large.
 *
 * @module
 */

import { EncodedEvent } from "../delivery/batch.ts";
import { applyChange } from "../engine/changes.ts";
import type { ChatEvent, LogEvent } from "../protocol/events.ts";

/** Events that are kept, if they are not longer than this in UTF-16 units. */
export const TAIL = 128;
const TAIL_SIZE = 64 * 1024;

/** What may be kept beyond that, so that it need not be cut each time: a part of it. */
const SLACK = 1 / 4;

interface Message {
  readonly json: string;
  /** As those are sent it who come later; made for the first of them. */
  again?: EncodedEvent;
}

/** The newest events of one room's log, and the newest messages. */
export class RecentEvents {
  readonly #historySize: number;
  /** Without a hole, up to the newest of the log; as JSON. */
  #events: string[];
  #size: number;
  /** Those that are not deleted. */
  #messages: Message[];

  /**
   * @param historySize how many messages are kept
   * @param events the newest of the log, without a hole, oldest first
   * @param messages the newest that are not deleted, oldest first
   */
  constructor(
    historySize: number,
    events: readonly LogEvent[] = [],
    messages: readonly ChatEvent[] = [],
  ) {
    this.#historySize = historySize;
    this.#events = events.map((event) => JSON.stringify(event));
    this.#size = lengthOf(this.#events);
    this.#messages = messages.map((event) => ({ json: JSON.stringify(event) }));
  }

  /** Adds the next event of the log. */
  add(event: LogEvent, json: string): void {
    this.#events.push(json);
    this.#size += json.length;
    if (this.#events.length > TAIL * (1 + SLACK) || this.#size > TAIL_SIZE * (1 + SLACK)) {
      this.#cut();
    }
    if (event.type !== "chat") return this.#change(event);
    this.#messages.push({ json });
    if (this.#messages.length > this.#historySize * (1 + SLACK)) {
      this.#messages = newest(this.#messages, this.#historySize);
    }
  }

  /** The newest messages, as those are sent them who join. */
  history(): EncodedEvent[] {
    return newest(this.#messages, this.#historySize).map((message) =>
      message.again ??= new EncodedEvent({ ...JSON.parse(message.json), history: true })
    );
  }

  /** The newest events, so many of them, or `undefined` if so many are not here. */
  last(count: number): EncodedEvent[] | undefined {
    if (count > this.#events.length) return undefined;
    return newest(this.#events, count).map((json) => new EncodedEvent(JSON.parse(json), { json }));
  }

  /** Drops the oldest events. */
  #cut(): void {
    this.#events = newest(this.#events, TAIL);
    this.#size = lengthOf(this.#events);
    let count = 0;
    while (this.#size > TAIL_SIZE) this.#size -= this.#events[count++]!.length;
    this.#events.splice(0, count);
  }

  #change(change: LogEvent): void {
    const toChanged = (json: string): LogEvent | undefined =>
      isOf(json, change.id) ? applyChange(JSON.parse(json), change) : undefined;
    this.#events = this.#events.map((json) => {
      const event = toChanged(json);
      return event === undefined ? json : JSON.stringify(event);
    });
    this.#size = lengthOf(this.#events);
    this.#messages = this.#messages.flatMap((message) => {
      const event = toChanged(message.json);
      if (event === undefined) return [message];
      return event.type === "chat" && event.deleted ? [] : [{ json: JSON.stringify(event) }];
    });
  }
}

/** Whether an event is about a message. In a text of somebody's the quotation marks are escaped. */
function isOf(json: string, id: string): boolean {
  return json.includes(`"id":"${id}"`);
}

function lengthOf(texts: readonly string[]): number {
  return texts.reduce((sum, { length }) => sum + length, 0);
}

function newest<T>(list: readonly T[], count: number): T[] {
  return list.slice(Math.max(0, list.length - count));
}
