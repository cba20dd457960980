/**
 * The meter: what the parts of the server report for the metrics.
 *
 * A part has a {@linkcode Meter} only while metrics are on, so it reports with `meter?.`. No report
 * names a room, a person, an address or a token. `lib/metrics/` counts the reports. Nothing reports
 * what the metrics can read at any time, such as the number of open rooms.
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

/** The outcome of a new member's resume. */
export type ResumeOutcome =
  /** It did not ask to resume. */
  | "none"
  /** It receives everything that it missed. */
  | "recovered"
  /** It asked to resume, and has to start anew. */
  | "lost";

/** Counts what the server sends in one format. */
export interface SentMeter {
  /** One member was sent these events in these frames. @param bytes of the frames, as UTF-8 */
  add(events: number, frames: number, bytes: number): void;
}

/** Receives the reports of every part. Times are in milliseconds. */
export interface Meter {
  /** The meter of everything that the server sends in a format. */
  sent(format: string): SentMeter;
  /** A member sent a frame. */
  received(format: string): void;
  /** One delivery to an audience had this many events for all; 0 if it had only direct events. */
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
