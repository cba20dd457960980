/**
 * Keeps the write-ahead log of a SQLite file small, without making the server's thread wait for the
 * disk.
 *
 * While somebody writes, a thread (`sqlite_checkpoints.ts`) copies the log into the file again and
 * again. The thread empties the log when nobody writes, when the log is long, or when it may
 * contain a deleted text. Commits wait until the log is empty.
 *
 * @module
 */

import type { DatabaseSync } from "node:sqlite";
import type { Worker } from "node:worker_threads";
import type { Logger } from "../logger.ts";
import { startThread } from "../thread.ts";
import { within } from "../time.ts";
import { type Answer, answer, type Request, type ThreadData } from "./sqlite_checkpoints.ts";

/** The time between two checkpoints while somebody writes, in milliseconds. */
const INTERVAL_MS = 500;

/**
 * A log of this many bytes is emptied early. From the second size on, commits wait for it: a busy
 * machine may let the log grow by a few MB more, and it stays below 16 MB.
 */
const LONG_LOG = 10 * 1024 * 1024;
const TOO_LONG_LOG = 13 * 1024 * 1024;

/** How long commits may wait before the disk counts as stuck, in milliseconds. */
const MAX_HOLD_MS = 2000;

/** How long closing the engine waits for the disk, in milliseconds. */
const CLOSE_WAIT_MS = 1000;

/** The log's size is checked after this many writes. */
const WRITES_PER_LOOK = 128;

/** What {@linkcode Checkpoints} needs. */
export interface CheckpointsOptions {
  readonly path: string;
  /** The connection that writes. It also makes the checkpoints if the thread fails. */
  readonly db: DatabaseSync;
  readonly logger: Logger | undefined;
  /** Called when commits need no longer wait. */
  readonly onRelease: () => void;
}

/** The checkpoints of one file. */
export class Checkpoints {
  readonly #options: CheckpointsOptions;
  readonly #worker: Worker;
  #hasFailed = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** The checkpoints in flight. */
  #round: Promise<void> | undefined;
  #settle: (answer: Answer) => void = () => {};
  /** Writes since the last round began, and since the log's size was checked. */
  #writes = 0;
  #unseen = 0;
  /** When commits began to wait, in milliseconds; `undefined` while they need not wait. */
  #heldAt: number | undefined;
  /** Whether a reader prevented the log from being emptied. */
  #isBlocked = false;
  #mustErase = false;
  #problem: string | undefined;

  constructor(options: CheckpointsOptions) {
    this.#options = options;
    const url = new URL("./sqlite_checkpoints.ts", import.meta.url);
    const workerData: ThreadData = { checkpointsOf: options.path };
    this.#worker = startThread(url, { workerData });
    this.#worker.unref();
    this.#worker.on("message", (answer: Answer) => this.#settle(answer));
    this.#worker.on("error", ({ message: reason }: Error) => this.#fail(reason));
    this.#worker.on("exit", () => this.#fail("The thread has ended."));
  }

  /** Whether commits must wait for {@linkcode CheckpointsOptions.onRelease}. */
  get isHolding(): boolean {
    return this.#heldAt !== undefined;
  }

  /** Whether commits have waited so long that the disk seems to be stuck. */
  get isStuck(): boolean {
    return this.#heldAt !== undefined && performance.now() - this.#heldAt > MAX_HOLD_MS;
  }

  /** Counts a commit. @param isErasing whether it deleted a text, which the log may still contain */
  note(writes: number, isErasing: boolean): void {
    this.#writes += writes;
    this.#mustErase ||= isErasing;
    this.#unseen += writes;
    this.#schedule();
    if (this.#unseen < WRITES_PER_LOOK || this.#isBlocked) return;
    this.#unseen = 0;
    const size = this.#logSize();
    if (this.#round === undefined && size >= LONG_LOG) this.#begin();
    else if (this.#round !== undefined && size >= TOO_LONG_LOG) this.#hold();
  }

  /** Ends the thread. */
  async close(): Promise<void> {
    await within(CLOSE_WAIT_MS, this.#round ?? Promise.resolve());
    clearTimeout(this.#timer);
    if (this.#hasFailed) return;
    await within(CLOSE_WAIT_MS, this.#ask("CLOSE"));
    this.#hasFailed = true;
    await this.#worker.terminate();
  }

  #hold(): void {
    this.#heldAt ??= performance.now();
  }

  #logSize(): number {
    try {
      return Deno.statSync(`${this.#options.path}-wal`).size;
    } catch {
      return 0;
    }
  }

  #schedule(): void {
    if (this.#timer !== undefined || this.#round !== undefined) return;
    this.#timer = setTimeout(() => this.#begin(), INTERVAL_MS);
    Deno.unrefTimer(Number(this.#timer));
  }

  #begin(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#round = this.#run();
  }

  async #run(): Promise<void> {
    const isIdle = this.#writes === 0;
    this.#writes = 0;
    this.#isBlocked = false;
    await this.#ask("PASSIVE");
    if (isIdle || this.#mustErase || this.#logSize() >= LONG_LOG) {
      this.#hold();
      const { busy } = await this.#ask("TRUNCATE");
      this.#isBlocked = busy > 0;
      this.#mustErase &&= this.#isBlocked;
    }
    this.#round = undefined;
    const mustRelease = this.isHolding;
    this.#heldAt = undefined;
    // When nobody writes, one more round empties the log.
    if (!isIdle || this.#isBlocked || this.#writes > 0) this.#schedule();
    if (mustRelease) this.#options.onRelease();
  }

  async #ask(request: Request): Promise<Answer> {
    if (this.#hasFailed) return answer(this.#options.db, request);
    const { promise, resolve } = Promise.withResolvers<Answer>();
    this.#settle = resolve;
    // Without the reference, the process could end before the answer.
    this.#worker.ref();
    this.#worker.postMessage(request);
    const settled = await promise;
    this.#worker.unref();
    const { error: reason } = settled;
    if (reason !== undefined && reason !== this.#problem) {
      this.#options.logger?.warn("checkpoint failed", { reason });
    }
    this.#problem = reason;
    return settled;
  }

  #fail(reason: string): void {
    if (this.#hasFailed) return;
    this.#hasFailed = true;
    this.#options.logger?.warn("checkpoints run on the main thread", { reason });
    this.#settle({ busy: 1 });
  }
}
