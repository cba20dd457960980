/**
 * Events on their way out, written once for everyone who is sent them.
 *
 * @module
 */

import { encode, extendFrames, type Format, frameEvents } from "../protocol/encode.ts";
import type { Event } from "../protocol/events.ts";

/** An event on its way out. It is written once in each format that somebody needs. */
export class EncodedEvent {
  readonly event: Event;
  /** The connection it came from, which may want no echo. */
  readonly origin: string | undefined;
  readonly #forPlainOnly: boolean;
  /** What is written so far; `null` where the format does not carry it. */
  readonly #texts: Partial<Record<Format, string | null>> = {};

  constructor(event: Event, { json, origin, forPlainOnly = false }: {
    /** The event as JSON, if it is at hand. */
    json?: string | undefined;
    origin?: string;
    /** Whether `chat.v1` members are not sent it. @default false */
    forPlainOnly?: boolean;
  } = {}) {
    this.event = event;
    this.origin = origin;
    this.#forPlainOnly = forPlainOnly;
    if (json !== undefined) this.#texts.v1 = json;
  }

  /** The event's text, or `undefined` if the format does not carry it. */
  text(format: Format): string | undefined {
    if (format === "v1" && this.#forPlainOnly) return undefined;
    // Messages, which are most of it, are the same JSON for all who are sent JSON.
    const key = format === "json" && this.event.type === "chat" ? "v1" : format;
    const text = this.#texts[key] ??= encode(this.event, format) ?? null;
    return text ?? undefined;
  }
}

/** What happened in a room in one turn: put into frames once in each format that somebody needs. */
export class Batch {
  readonly events: readonly EncodedEvent[];
  readonly #frames: Partial<Record<Format, readonly string[]>> = {};

  constructor(events: readonly EncodedEvent[]) {
    this.events = events;
  }

  /** How long it is in `chat.v1`, if anybody was sent it so, in UTF-16 units. */
  get size(): number {
    return this.#frames.v1?.reduce((sum, { length }) => sum + length, 0) ?? 0;
  }

  /** All of it, and at its end what one member alone is sent. */
  frames(format: Format, own: readonly EncodedEvent[] = []): readonly string[] {
    const frames = this.#frames[format] ??= toFrames(this.events, format);
    const texts = toTexts(own, format);
    if (texts.length === 0) return frames;
    return format === "v1" ? extendFrames(frames, texts) : [...frames, ...texts];
  }
}

/** Events as frames: several in one for `chat.v1`, one each for plain clients. */
export function toFrames(events: readonly EncodedEvent[], format: Format): string[] {
  const texts = toTexts(events, format);
  return format === "v1" ? frameEvents(texts) : texts;
}

function toTexts(events: readonly EncodedEvent[], format: Format): string[] {
  const texts: string[] = [];
  for (const event of events) {
    const text = event.text(format);
    if (text !== undefined) texts.push(text);
  }
  return texts;
}
