/**
 * The connection of an instance to its server: one link at a time, opened again when it fails, and
 * calls that each have a deadline.
 *
 * A call without an answer in time ends the link, since a later answer could be taken for the next
 * call's. The server does nothing after the deadline of a write, so a refused write is never stored
 * later.
 *
 * @module
 */

import { ChatError, restarting, storeUnavailable } from "../../errors.ts";
import type { Logger } from "../../logger.ts";
import { type After, Alarm } from "../../time.ts";
import type { Backend, Link, LinkListener } from "./backend.ts";

/** How long a write may wait to go out, in milliseconds. The server does not run it later. */
export const PATIENCE_MS = 1000;

/** How long any other call may wait to go out, in milliseconds: joins come in crowds. */
export const LONG_PATIENCE_MS = 5000;

/** The time between two searches for expired calls, in milliseconds. */
export const EXPIRY_MS = 250;

/** How long a call waits for its answer, in milliseconds. */
const ANSWER_MS = 2000;

/** How long a link may take to open, in milliseconds. */
const CONNECT_MS = 5000;

/** The pause before a link is opened again, in milliseconds; it doubles up to the maximum. */
const MIN_RETRY_MS = 100;
const MAX_RETRY_MS = 1000;

/** Maximum calls at a time; further calls wait. */
const MAX_CALLS = 16;

/** Maximum waiting calls. */
const MAX_WAITING = 20_000;

/** What an {@linkcode Uplink} needs. */
export interface UplinkOptions {
  readonly backend: Backend;
  /** The time in milliseconds. It never goes backwards. */
  readonly clock: () => number;
  readonly after: After;
  /** Logs failures; throttled. */
  readonly failures: Logger;
  readonly listener: Omit<LinkListener, "onLost">;
  /** Called for each new link but the first. */
  readonly onUp: (link: Link) => void;
}

/** A call that waits for its turn, or for a link. */
interface Waiting {
  readonly expires: number;
  readonly start: (link: Link) => void;
  readonly refuse: (error: ChatError) => void;
}

/** A call without an answer so far. */
interface Attempt {
  readonly link: Link;
  /** When the link is ended, in milliseconds. */
  readonly due: number;
}

/** The link of an instance, and its calls. */
export class Uplink {
  readonly #options: UplinkOptions;
  #link: Link | undefined;
  #calls = 0;
  #waiting: Waiting[] = [];
  #isExpiryAhead = false;
  /** Calls without an answer, oldest first. */
  readonly #attempts = new Set<Attempt>();
  readonly #alarm: Alarm;
  /** When the last link ended, in milliseconds. */
  #downSince = -Infinity;
  /** Why the last link ended, or could not be opened. */
  #problem: Error | undefined;
  /** The server's clock minus this process's, in milliseconds. */
  #offset = 0;
  readonly #closing = new AbortController();

  constructor(options: UplinkOptions) {
    this.#options = options;
    this.#alarm = new Alarm(options, () => this.#dropLate());
  }

  /** The link; `undefined` while there is none. */
  get link(): Link | undefined {
    return this.#link;
  }

  /** Why there is no link; `undefined` while there is one. */
  get problem(): Error | undefined {
    return this.#link === undefined ? this.#problem : undefined;
  }

  /** Whether the server has been unreachable for so long that calls no longer wait. */
  get isDown(): boolean {
    return this.#link === undefined && this.#options.clock() - this.#downSince > PATIENCE_MS;
  }

  /** A deadline by the server's clock, in milliseconds since 1970. */
  get deadline(): number {
    return this.#options.clock() + this.#offset + PATIENCE_MS;
  }

  /** Sets the server's time, so that deadlines are never later than intended. */
  setTime(time: number): void {
    this.#offset = time - this.#options.clock();
  }

  /** Opens the first link. @throws {Error} whose message says why it cannot */
  async open(): Promise<Link> {
    return await this.#connect();
  }

  /**
   * Calls the server.
   *
   * @param isUrgent whether the call goes ahead of waiting calls
   * @throws {ChatError} the server's refusal, or `unavailable`
   */
  call<T>(ask: (link: Link) => Promise<T>, isUrgent = false): Promise<T> {
    if (this.#closing.signal.aborted) return Promise.reject(restarting());
    if (this.isDown || this.#waiting.length >= MAX_WAITING) {
      return Promise.reject(storeUnavailable());
    }
    return new Promise((resolve, reject) => {
      const start = (link: Link) => {
        this.#calls++;
        this.attempt(link, ask(link)).then(resolve, (error) => reject(toRefusal(error))).finally(
          () => {
            this.#calls--;
            this.#startWaiting();
          },
        );
      };
      if (this.#link !== undefined && this.#calls < MAX_CALLS) return start(this.#link);
      const expires = this.#options.clock() + LONG_PATIENCE_MS;
      this.#wait({ expires, start, refuse: reject }, isUrgent);
    });
  }

  /**
   * Waits for an answer of a link, and ends the link if it does not come in time.
   *
   * @throws what the link rejects with
   */
  async attempt<T>(link: Link, answer: Promise<T>): Promise<T> {
    const attempt = { link, due: this.#options.clock() + ANSWER_MS };
    this.#attempts.add(attempt);
    this.#alarm.set(attempt.due);
    try {
      return await answer;
    } catch (error) {
      // If the link has ended, its reason is logged already.
      if (link === this.#link && !(error instanceof ChatError)) this.#note(error as Error);
      throw error;
    } finally {
      this.#attempts.delete(attempt);
    }
  }

  /** Ends a link, unless another one has replaced it, and opens the next one. */
  drop(link: Link, reason: Error): void {
    if (link !== this.#link || this.#closing.signal.aborted) return;
    this.#fail(reason);
    this.#link = undefined;
    this.#downSince = this.#options.clock();
    link.close();
    this.#reconnect();
  }

  /** Ends the link and every call. A repeat does nothing. */
  close(): void {
    this.#closing.abort();
    for (const { refuse } of this.#waiting.splice(0)) refuse(restarting());
    this.#link?.close();
    this.#link = undefined;
  }

  async #connect(): Promise<Link> {
    const { backend, listener } = this.#options;
    const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(CONNECT_MS)]);
    let lost: Error | undefined;
    const link: Link = await backend.connect({
      onNews: (news) => listener.onNews(news),
      onProbe: (probe) => listener.onProbe(probe),
      onLost: (reason) => {
        lost = reason;
        this.drop(link, reason);
      },
    }, signal);
    if (lost !== undefined || this.#closing.signal.aborted) {
      link.close();
      throw lost ?? restarting();
    }
    this.#link = link;
    this.setTime(link.time);
    return link;
  }

  async #reconnect(): Promise<void> {
    for (
      let wait = MIN_RETRY_MS;
      !this.#closing.signal.aborted;
      wait = Math.min(2 * wait, MAX_RETRY_MS)
    ) {
      try {
        const link = await this.#connect();
        this.#options.onUp(link);
        return this.#startWaiting();
      } catch (error) {
        if (!this.#closing.signal.aborted) this.#fail(error as Error);
      }
      await new Promise<void>((resolve) => this.#options.after(wait, resolve));
    }
  }

  /** Ends links that have not answered in time. */
  #dropLate(): void {
    const { backend, clock } = this.#options;
    for (const { link, due } of this.#attempts) {
      if (due > clock()) return this.#alarm.set(due);
      this.drop(link, new Error(`${backend.name} does not answer.`));
    }
  }

  #wait(waiting: Waiting, isUrgent: boolean): void {
    if (isUrgent) this.#waiting.unshift(waiting);
    else this.#waiting.push(waiting);
    this.#expireLater();
  }

  #startWaiting(): void {
    while (this.#link !== undefined && this.#calls < MAX_CALLS) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      next.start(this.#link);
    }
  }

  /** Sets the timer that refuses expired calls. */
  #expireLater(): void {
    if (this.#isExpiryAhead || this.#waiting.length === 0) return;
    this.#isExpiryAhead = true;
    this.#options.after(EXPIRY_MS, () => {
      this.#isExpiryAhead = false;
      const now = this.#options.clock();
      const isOver = ({ expires }: Waiting) => this.isDown || expires <= now;
      const over = this.#waiting.filter(isOver);
      this.#waiting = this.#waiting.filter((one) => !isOver(one));
      for (const { refuse } of over) refuse(storeUnavailable());
      this.#expireLater();
    });
  }

  #fail(reason: Error): void {
    this.#problem = reason;
    this.#note(reason);
  }

  #note(reason: Error): void {
    const { failures, backend: { name } } = this.#options;
    failures.error("engine failed", { engine: name, reason: reason.message });
  }
}

/** The refusal that a caller receives. Any other error was logged, and its details are not sent. */
export function toRefusal(error: unknown): ChatError {
  return error instanceof ChatError ? error : storeUnavailable();
}
