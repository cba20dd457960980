/**
 * Whether the server can store and read, for `/health`.
 *
 * @module
 */

import type { Logger } from "../logger.ts";

/** A part that can check whether it works. */
export interface Checkable {
  /** Rejects with the reason while nothing can be stored or read. */
  check(): Promise<void>;
}

/** What {@linkcode Health} needs. */
export interface HealthOptions {
  readonly store: Checkable;
  readonly logger: Logger;
  /** The time in milliseconds. It never goes backwards. */
  readonly clock: () => number;
}

/** A check that takes longer fails, in milliseconds. */
const MAX_CHECK_MS = 2000;

/** Checks the store once a second, however many requests ask, and logs each change. */
export class Health {
  readonly #options: HealthOptions;
  #isDegraded = false;
  /** When the running check began, in milliseconds; `undefined` between checks. */
  #startedAt: number | undefined;

  constructor(options: HealthOptions) {
    this.#options = options;
  }

  /** Whether the last check found that nothing can be stored or read. */
  get isDegraded(): boolean {
    return this.#isDegraded;
  }

  /** Starts a check unless one runs, and fails a slow one. Call it once a second. */
  sweep(): void {
    if (this.#startedAt === undefined) this.#check(this.#options.clock());
    else if (this.#isLate(this.#startedAt)) this.#fail(noAnswer());
  }

  async #check(startedAt: number): Promise<void> {
    this.#startedAt = startedAt;
    try {
      await this.#options.store.check();
      if (this.#isLate(startedAt)) throw noAnswer();
      this.#succeed();
    } catch (error) {
      this.#fail(error);
    }
    this.#startedAt = undefined;
  }

  #isLate(startedAt: number): boolean {
    return this.#options.clock() - startedAt > MAX_CHECK_MS;
  }

  #fail(error: unknown): void {
    if (this.#isDegraded) return;
    this.#isDegraded = true;
    const reason = error instanceof Error ? error.message : String(error);
    this.#options.logger.error("store unavailable", { reason });
  }

  #succeed(): void {
    if (!this.#isDegraded) return;
    this.#isDegraded = false;
    this.#options.logger.warn("store is back");
  }
}

function noAnswer(): Error {
  return new Error(`The store does not answer within ${MAX_CHECK_MS / 1000} seconds.`);
}
