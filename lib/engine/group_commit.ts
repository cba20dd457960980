/**
 * Group commit: all writes of one turn of the event loop are one transaction.
 *
 * A transaction costs one write to the disk, however many writes it contains. Nothing is published
 * or acknowledged before it is stored.
 *
 * @module
 */

import { ChatError, storeUnavailable } from "../errors.ts";
import type { EngineEvent } from "./engine.ts";

/** Maximum queued writes while commits have to wait. Further writes are refused. */
const MAX_QUEUED = 10_000;

/** The result of a write, and the event that its room receives after the commit. */
export interface Outcome<T> {
  readonly value: T;
  readonly event?: EngineEvent | undefined;
  /** The events that other rooms receive. */
  readonly published?: readonly { readonly room: string; readonly event: EngineEvent }[];
}

/** A queued write, and the promise to settle after the commit. */
interface Job {
  readonly room: string;
  readonly write: () => Outcome<unknown>;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
  /** The result of `write`, which is not stored yet. */
  outcome?: Outcome<unknown>;
  refusal?: ChatError;
}

/** What {@linkcode GroupCommit} needs. */
export interface GroupCommitOptions {
  /** Calls back at the end of the turn, to commit. */
  readonly atCommit: (callback: () => void) => void;
  /** Stores all of these writes, or throws and stores none. */
  readonly transact: (write: () => void, count: number) => void;
  /** Whether writes must wait for another call of {@linkcode GroupCommit.commit}. */
  readonly mustWait: () => boolean;
  readonly publish: (room: string, event: EngineEvent) => void;
}

/** The writes of a turn. A refused write does not affect the others. */
export class GroupCommit {
  readonly #options: GroupCommitOptions;
  #jobs: Job[] = [];
  /** The rooms of `#jobs`. */
  #rooms = new Set<string>();

  constructor(options: GroupCommitOptions) {
    this.#options = options;
  }

  /**
   * Queues a write for this turn's transaction. The room receives its event when it is stored.
   *
   * @throws {ChatError} `unavailable` if too many writes wait
   */
  put<T>(room: string, write: () => Outcome<T>): Promise<T> {
    if (this.#jobs.length >= MAX_QUEUED && this.#options.mustWait()) {
      return Promise.reject(storeUnavailable());
    }
    return new Promise((resolve, reject) => {
      if (this.#jobs.length === 0) this.#options.atCommit(() => this.commit());
      this.#jobs.push({ room, write, resolve: resolve as Job["resolve"], reject });
      this.#rooms.add(room);
    });
  }

  /** Calls back when the queued writes of a room are stored or have failed; at once without any. */
  whenDone(room: string, callback: () => void): void {
    if (!this.#rooms.has(room)) return callback();
    this.put(room, () => ({ value: undefined })).then(callback, callback);
  }

  /** Rejects the writes that are not stored yet. */
  rejectAll(error: Error): void {
    this.#rooms.clear();
    for (const job of this.#jobs.splice(0)) job.reject(error);
  }

  /** Stores all queued writes, or none, and then publishes their events. */
  commit(): void {
    const jobs = this.#jobs;
    if (jobs.length === 0 || this.#options.mustWait()) return;
    this.#jobs = [];
    this.#rooms = new Set();
    try {
      this.#options.transact(() => jobs.forEach(run), jobs.length);
    } catch (error) {
      for (const job of jobs) job.reject(error);
      return;
    }
    for (const { room, outcome, refusal, resolve, reject } of jobs) {
      if (outcome === undefined) {
        reject(refusal);
        continue;
      }
      if (outcome.event !== undefined) this.#options.publish(room, outcome.event);
      outcome.published?.forEach((one) => this.#options.publish(one.room, one.event));
      resolve(outcome.value);
    }
  }
}

/** Runs a job's write, and records a refusal. Any other error ends the transaction. */
function run(job: Job): void {
  try {
    job.outcome = job.write();
  } catch (error) {
    if (!(error instanceof ChatError)) throw error;
    job.refusal = error;
  }
}
