/**
 * The place of an event in a log: its `seq`, its `timestamp`, and the message id from its `seq`.
 *
 * @module
 */

/** The part of an event that the log assigns. */
export interface Place {
  readonly seq: number;
  readonly timestamp: string;
}

let lastTime = NaN;
let lastTimestamp = "";

/**
 * Formats a time in milliseconds since 1970 as RFC 3339 in UTC. Many messages share a millisecond,
 * so the last result is kept.
 */
export function toTimestamp(time: number): string {
  if (time !== lastTime) {
    lastTimestamp = new Date(time).toISOString();
    lastTime = time;
  }
  return lastTimestamp;
}

/** The id of the message at a `seq`: the epoch identifies the log, both identify the message. */
export function toMessageId(epoch: string, seq: number): string {
  return `${epoch}-${seq}`;
}

/** The `seq` of the message with this id, if the id belongs to the log with this epoch. */
export function toSeq(epoch: string, id: string): number | undefined {
  if (!id.startsWith(`${epoch}-`)) return undefined;
  const seq = Number(id.slice(epoch.length + 1));
  return toMessageId(epoch, seq) === id ? seq : undefined;
}
