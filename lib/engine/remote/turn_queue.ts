/**
 * The jobs of an instance, in order: all of one turn of the event loop go out as one batch, and the
 * next batch when that one is answered.
 *
 * Waiting jobs are bounded in number, size and time. A batch that went out and has no answer may
 * have taken effect. So the queue repeats it on the next link, with the same number, until it gets
 * the answer. Nothing overtakes it, and its writes are neither acknowledged nor refused before.
 * After a minute they are refused all the same, since the server does not keep its answers for
 * ever.
 *
 * @module
 */

import { ChatError, restarting, storeUnavailable } from "../../errors.ts";
import { type After, within } from "../../time.ts";
import { type Answer, type Job, type Link, NotDone } from "./backend.ts";
import { EXPIRY_MS, LONG_PATIENCE_MS, PATIENCE_MS, type Uplink } from "./uplink.ts";

/** Maximum waiting jobs, and UTF-16 units of their texts. */
const MAX_JOBS = 20_000;
const MAX_SIZE = 16 * 1024 * 1024;

/** Maximum jobs of a batch, and UTF-16 units of their texts. */
const MAX_BATCH_JOBS = 500;
const MAX_BATCH_SIZE = 512 * 1024;

/** How long a batch is repeated, in milliseconds. The server keeps its answers for longer. */
const MAX_REPEAT_MS = 60_000;

/** How long a job that stores nothing waits for its answer, in milliseconds. */
const MAX_READ_MS = 2000;

/** A timer that is later than this, in milliseconds, shows that the process was paused. */
const STOPPED_MS = 1000;

/** What a {@linkcode TurnQueue} needs. */
export interface TurnQueueOptions {
  readonly uplink: Uplink;
  /** The time in milliseconds. It never goes backwards. */
  readonly clock: () => number;
  readonly after: After;
  /** Calls back at the end of the turn. */
  readonly atCommit: (callback: () => void) => void;
  /** The present name of the instance. */
  readonly instance: () => string;
  /** Receives the answers to the jobs of a batch, before the callers. */
  readonly onAnswers: (jobs: readonly Job[], answers: readonly Answer[]) => void;
}

/** A job, and the promise of its answer. */
interface Entry {
  readonly job: Job;
  /** UTF-16 units of its text. */
  readonly size: number;
  /** When it is refused if it has not gone out by then, in milliseconds. */
  readonly expires: number;
  readonly resolve: (answer: Exclude<Answer, ChatError>) => void;
  readonly reject: (error: ChatError) => void;
}

/** A batch that went out. */
interface Flight {
  readonly instance: string;
  readonly number: number;
  readonly entries: readonly Entry[];
  /** When the jobs that store nothing are refused, in milliseconds; `Infinity` afterwards. */
  readsExpire: number;
  /** When the whole batch is refused, in milliseconds. */
  expires: number;
}

/** The jobs of an instance, one batch at a time. */
export class TurnQueue {
  readonly #options: TurnQueueOptions;
  #entries: Entry[] = [];
  #size = 0;
  #flight: Flight | undefined;
  #isSending = false;
  #number = 0;
  #isFlushAhead = false;
  /** When the timer for expired jobs fires, in milliseconds. */
  #alarm = Infinity;
  #isClosed = false;
  #onLanded: () => void = () => {};

  constructor(options: TurnQueueOptions) {
    this.#options = options;
  }

  /** The number of the newest batch that will not be repeated. */
  get answered(): number {
    return this.#flight === undefined ? this.#number : this.#number - 1;
  }

  /**
   * Queues a job for the batch of this turn.
   *
   * @throws {ChatError} the server's refusal, or `unavailable`
   */
  put(job: Job): Promise<Exclude<Answer, ChatError>> {
    if (this.#isClosed) return Promise.reject(restarting());
    const size = sizeOf(job);
    const isFull = this.#entries.length >= MAX_JOBS || this.#size + size > MAX_SIZE;
    if (isFull || this.#options.uplink.isDown) return Promise.reject(storeUnavailable());
    return new Promise((resolve, reject) => {
      const patience = isStored(job) ? PATIENCE_MS : LONG_PATIENCE_MS;
      const expires = this.#options.clock() + patience;
      this.#entries.push({ job, size, expires, resolve, reject });
      this.#size += size;
      this.#flushLater();
    });
  }

  /** Sends the next batch, if there is a link and none is in flight. Call it for each new link. */
  flush(): void {
    const { link } = this.#options.uplink;
    if (link === undefined || this.#isSending) return this.#expireLater();
    this.#flight ??= this.#takeOff();
    if (this.#flight !== undefined) this.#send(link, this.#flight);
  }

  /** Refuses waiting jobs, and waits up to `ms` milliseconds for the batch in flight. */
  async close(ms: number): Promise<void> {
    this.#isClosed = true;
    this.#refuse(() => true, restarting());
    if (this.#flight === undefined) return;
    await within(ms, new Promise<void>((resolve) => this.#onLanded = resolve));
    if (this.#flight !== undefined) this.#land(this.#flight, restarting());
  }

  #flushLater(): void {
    if (this.#isFlushAhead || this.#flight !== undefined) return this.#expireLater();
    this.#isFlushAhead = true;
    this.#options.atCommit(() => {
      this.#isFlushAhead = false;
      this.flush();
    });
  }

  /** Takes the next batch from the queue. */
  #takeOff(): Flight | undefined {
    let count = 0;
    for (let size = 0; count < Math.min(this.#entries.length, MAX_BATCH_JOBS); count++) {
      size += this.#entries[count]!.size;
      if (size > MAX_BATCH_SIZE && count > 0) break;
    }
    if (count === 0) return undefined;
    const entries = this.#entries.splice(0, count);
    for (const { size } of entries) this.#size -= size;
    const now = this.#options.clock();
    return {
      instance: this.#options.instance(),
      number: ++this.#number,
      entries,
      readsExpire: now + MAX_READ_MS,
      expires: now + MAX_REPEAT_MS,
    };
  }

  async #send(link: Link, flight: Flight): Promise<void> {
    const { uplink } = this.#options;
    const { instance, number, entries } = flight;
    const jobs = entries.map(({ job }) => job);
    this.#isSending = true;
    try {
      const { deadline } = uplink;
      this.#land(
        flight,
        await uplink.attempt(link, link.turn({ instance, number, jobs, deadline })),
      );
    } catch (error) {
      if (error instanceof NotDone) this.#land(flight, storeUnavailable());
      // It may have taken effect: repeat it on the next link.
      else uplink.drop(link, error as Error);
    }
    this.#isSending = false;
    this.flush();
  }

  /** Settles a batch. */
  #land(flight: Flight, result: readonly Answer[] | ChatError): void {
    if (flight !== this.#flight) return;
    this.#flight = undefined;
    const { entries } = flight;
    if (!(result instanceof ChatError)) {
      this.#options.onAnswers(entries.map(({ job }) => job), result);
    }
    for (const [i, { resolve, reject }] of entries.entries()) {
      const answer = result instanceof ChatError ? result : result[i];
      if (answer instanceof ChatError) reject(answer);
      else resolve(answer);
    }
    this.#onLanded();
  }

  /** Sets the timer that refuses expired jobs. */
  #expireLater(): void {
    const { readsExpire = Infinity, expires = Infinity } = this.#flight ?? {};
    const waits = this.#entries.length > 0 ? this.#options.clock() + EXPIRY_MS : Infinity;
    const due = Math.min(waits, readsExpire, expires);
    if (due >= this.#alarm || this.#isClosed) return;
    this.#alarm = due;
    this.#options.after(Math.max(1, due - this.#options.clock()), () => {
      // An earlier timer has replaced this one.
      if (this.#alarm !== due) return;
      this.#alarm = Infinity;
      const now = this.#options.clock();
      // The answer may have come while the process was paused.
      if (this.#flight !== undefined && now - due > STOPPED_MS) this.#flight.expires += now - due;
      this.#expire(now);
      this.#expireLater();
    });
  }

  #expire(now: number): void {
    const { isDown } = this.#options.uplink;
    this.#refuse(({ expires }) => isDown || expires <= now, storeUnavailable());
    const flight = this.#flight;
    if (flight === undefined) return;
    if (flight.expires <= now) return this.#land(flight, storeUnavailable());
    if (flight.readsExpire > now) return;
    flight.readsExpire = Infinity;
    for (const { job, reject } of flight.entries) if (!isStored(job)) reject(storeUnavailable());
  }

  /** Refuses some waiting jobs. */
  #refuse(isRefused: (entry: Entry) => boolean, error: ChatError): void {
    const refused = this.#entries.filter(isRefused);
    if (refused.length === 0) return;
    this.#entries = this.#entries.filter((entry) => !isRefused(entry));
    for (const { size, reject } of refused) {
      this.#size -= size;
      reject(error);
    }
  }
}

/** Whether a job stores something for good. */
function isStored({ type }: Job): boolean {
  return type === "append" || type === "change" || type === "whisper" || type === "settings";
}

function sizeOf(job: Job): number {
  switch (job.type) {
    case "append":
    case "whisper":
      return job.draft.content.length + 200;
    case "change":
      return (job.change.type === "edit" ? job.change.content.length : 0) + 200;
    case "settings":
      return JSON.stringify(job.settings).length;
    default:
      return 200;
  }
}
