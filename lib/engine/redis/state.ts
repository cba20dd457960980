/**
 * The state of a room, computed from its `meta`, even if a new generation of the server has begun
 * since the room was last written.
 *
 * @module
 */

import { createHash } from "node:crypto";
import type { LogState } from "../engine.ts";
import type { Position } from "../remote/backend.ts";
import { roomKey } from "./keys.ts";

/** The server between two starts or failovers. */
export interface Generation {
  /** The time and the identity, as rooms store it. */
  readonly name: string;
  /** When it began, in microseconds since 1970; it grows with each generation. */
  readonly time: number;
}

/** One epoch of a room, and where it begins. */
interface Epoch {
  readonly name: string;
  readonly firstSeq: number;
  readonly firstPrivate: number;
}

/** The state of a room. */
export interface RoomState {
  readonly position: Position;
  readonly log: LogState;
  /** Newest first. */
  readonly epochs: readonly Epoch[];
  /** Counts the events of `EVERYWHERE`. */
  readonly number: number;
}

/** A room was written in a later generation of the server than the connection's. */
export class Stale extends Error {
  override readonly name = "Stale";
}

/** The epoch of a room in a generation of the server, as the scripts name it. */
function epochOf(room: string, generation: Generation): string {
  const text = `${generation.name}\n${roomKey(room, "meta")}`;
  return createHash("sha1").update(text).digest("hex").slice(0, 16);
}

/**
 * Computes the state of a room.
 *
 * @param meta the fields of `META`
 * @throws {Stale}
 */
export function toState(
  room: string,
  meta: readonly (string | null)[],
  generation: Generation,
): RoomState {
  const [g, e, s, o, , pv, pr, sv, er, n, x] = meta;
  const isNew = g !== generation.name;
  if (isNew && g && parseInt(g) > generation.time) {
    throw new Stale("Redis has restarted since this connection was opened.");
  }
  const seq = Number(s ?? 0);
  const base = isNew ? generation.time : 0;
  const privates = Math.max(Number(pr ?? 0), base);
  const epochs = (x ?? "").split("\n").filter((line) => line !== "").map(toEpoch);
  const epoch = isNew ? epochOf(room, generation) : e!;
  if (isNew) epochs.unshift({ name: epoch, firstSeq: seq + 1, firstPrivate: privates + 1 });
  return {
    position: {
      epoch,
      seq,
      presence: Math.max(Number(pv ?? 0), base),
      privates,
      settings: Number(sv ?? 0),
      erasures: Number(er ?? 0),
    },
    log: { epoch, oldestSeq: Number(o ?? 1), lastSeq: seq },
    epochs,
    number: Number(n ?? 0),
  };
}

/** Whether a client can resume, see `Log.canResume`. */
export function canResume({ log, epochs }: RoomState, epoch: string, seq: number): boolean {
  if (!(seq >= log.oldestSeq - 1 && seq <= log.lastSeq)) return false;
  if (seq === 0) return true;
  // The event after a dropped one has the same epoch or a later one.
  return Math.max(seq, log.oldestSeq) < endOf(epochs, epoch, "firstSeq");
}

/** Whether a private message with this number was written in an epoch or an earlier one. */
export function isPrivateOf({ epochs }: RoomState, epoch: string, number: number): boolean {
  return number < endOf(epochs, epoch, "firstPrivate");
}

/** The first number of the next epoch; 0 if the epoch is unknown. */
function endOf(
  epochs: readonly Epoch[],
  name: string,
  field: "firstSeq" | "firstPrivate",
): number {
  const at = epochs.findIndex((epoch) => epoch.name === name);
  if (at === -1) return 0;
  return at === 0 ? Infinity : epochs[at - 1]![field];
}

function toEpoch(line: string): Epoch {
  const [name, seq, number] = line.split(" ");
  return { name: name!, firstSeq: Number(seq), firstPrivate: Number(number) };
}
