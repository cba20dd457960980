/**
 * Events on their way out, encoded once in each format that a subscriber needs.
 *
 * @module
 */

import {
  chunkMessages,
  encode,
  extendFrames,
  type Format,
  frameEvents,
  isWhole,
} from "../protocol/encode.ts";
import type { Event } from "../protocol/events.ts";

/** What an {@linkcode EncodedEvent} may carry besides its event. */
export interface EncodedEventOptions {
  /** The event as JSON, if the caller has it. */
  readonly json?: string | undefined;
  /** The id of the connection that the event came from. */
  readonly origin?: string;
  /** The epoch of its room, for an event of the log. */
  readonly epoch?: string;
  /** Whether only plain clients receive it. @default false */
  readonly isForPlainOnly?: boolean;
}

/** An event, and its text in each format. */
export class EncodedEvent {
  readonly event: Event;
  /** The id of the connection that the event came from. With `echo=0` it does not receive it. */
  readonly origin: string | undefined;
  readonly #epoch: string | undefined;
  readonly #isForPlainOnly: boolean;
  /** The event as JSON, once a subscriber needs it. */
  #json: string | undefined;
  /** The other texts made so far; `null` if the format does not carry the event. */
  #texts: Partial<Record<Format, string | null>> | undefined;

  constructor(
    event: Event,
    { json, origin, epoch, isForPlainOnly = false }: EncodedEventOptions = {},
  ) {
    this.event = event;
    this.origin = origin;
    this.#epoch = epoch;
    this.#isForPlainOnly = isForPlainOnly;
    this.#json = json;
  }

  /** The event's text, or `undefined` if the format does not carry the event. */
  text(format: Format): string | undefined {
    if (this.#isForPlainOnly && isWhole(format)) return undefined;
    // `chat.v1` carries every event as its JSON; so does `json` for messages, which most events are.
    if (format === "v1" || (format === "json" && this.event.type === "chat")) {
      return this.#json ??= JSON.stringify(this.event);
    }
    const texts = this.#texts ??= {};
    const text = texts[format] ??= encode(this.event, format, this.#epoch) ?? null;
    return text ?? undefined;
  }
}

/** The events of one delivery to an audience, framed once in each format. */
export class Batch {
  readonly events: readonly EncodedEvent[];
  readonly #frames: Partial<Record<Format, readonly string[]>> = {};
  #counts: Partial<Record<Format, number>> | undefined;

  constructor(events: readonly EncodedEvent[]) {
    this.events = events;
  }

  /** The length of its `chat.v1` frames in UTF-16 units; 0 if no subscriber needed them. */
  get size(): number {
    return this.#frames.v1?.reduce((sum, { length }) => sum + length, 0) ?? 0;
  }

  /** How many of the batch's events and of a subscriber's direct events a format carries. */
  count(format: Format, direct: readonly { readonly event: EncodedEvent }[]): number {
    const counts = this.#counts ??= {};
    let count = counts[format] ??= countTexts(this.events, format);
    for (const { event } of direct) if (event.text(format) !== undefined) count++;
    return count;
  }

  /** The frames of the batch's events, followed by a subscriber's direct events. */
  frames(
    format: Format,
    direct: readonly { readonly event: EncodedEvent }[] = [],
  ): readonly string[] {
    const frames = this.#frames[format] ??= toFrames(this.events, format);
    if (direct.length === 0) return frames;
    const texts = toTexts(direct.map(({ event }) => event), format);
    if (texts.length === 0) return frames;
    return format === "v1" ? extendFrames(frames, texts) : [...frames, ...frame(texts, format)];
  }
}

/** How many of some events a format carries. */
export function countTexts(events: readonly EncodedEvent[], format: Format): number {
  let count = 0;
  for (const event of events) if (event.text(format) !== undefined) count++;
  return count;
}

/** The frames of some events: several events a frame, for plain clients one. */
export function toFrames(events: readonly EncodedEvent[], format: Format): string[] {
  return frame(toTexts(events, format), format);
}

function frame(texts: string[], format: Format): string[] {
  switch (format) {
    case "v1":
      return frameEvents(texts);
    case "sse":
      return chunkMessages(texts);
    default:
      return texts;
  }
}

function toTexts(events: readonly EncodedEvent[], format: Format): string[] {
  // An array of the right size: one that grows gets memory for 17 texts.
  const texts = events.map((event) => event.text(format));
  return isComplete(texts) ? texts : texts.filter((text) => text !== undefined);
}

function isComplete(texts: (string | undefined)[]): texts is string[] {
  return !texts.includes(undefined);
}
