/**
 * What the parts of the server report to whoever watches it.
 *
 * A part has a {@linkcode Meter} only while metrics are on, so it reports with `meter?.`. No report
 * names a room, a person, an address or a token. `lib/metrics/` counts what is reported here; what
 * can be read off the server's parts at any time, such as the open rooms, nobody reports.
 *
 * @module
 */

/** Where a client was refused. */
export type RefusedAt =
  /** A frame of an open connection. */
  | "command"
  /** A request for a connection, before or right after its upgrade. */
  | "join"
  /** Any other request. */
  | "http";

/** What became of a new member's resume. */
export type ResumeOutcome =
  /** It did not ask to resume. */
  | "none"
  /** It receives everything that it missed. */
  | "recovered"
  /** It asked, and must start anew. */
  | "lost";

/** Counts what is sent in one format. */
export interface SentMeter {
  /** One frame went out to a member. @param bytes its UTF-8 bytes */
  frame(bytes: number): void;
  /** One member received this many events. */
  events(count: number): void;
}

/** Receives the reports of every part. Times are in milliseconds. */
export interface Meter {
  /** The meter of everything that is sent in a format. */
  sent(format: string): SentMeter;
  /** A member sent a frame. */
  received(format: string): void;
  /** The events of one delivery to an audience; 0 if each of its members had its own only. */
  gathered(events: number): void;
  /** The deliveries of one turn, in all rooms, took this long. */
  delivered(ms: number): void;
  /** A client was refused. @param code an `ErrorCode`, or a word for another status of HTTP */
  refused(at: RefusedAt, code: string): void;
  /** The server ended a membership. @param code one of `CLOSE` */
  closed(code: number): void;
  /** A member was welcomed. */
  welcomed(resume: ResumeOutcome): void;
}
