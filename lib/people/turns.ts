/**
 * The queue for hashing passwords, and its order.
 *
 * Free threads serve two groups alternately: people known at their address, and strangers. In each
 * group the address with the fewest recent attempts is first, and among equals the latest attempt:
 * an address that tries often waits behind one that does not. A full queue drops the attempt at its
 * end. So one address cannot fill the queue, and many addresses that each try once delay a newcomer
 * by one turn.
 *
 * The guesses of strangers at one account are limited. An attempt beyond the limit waits. So may
 * the owner's, which is then among the first to continue; at an address where the owner has signed
 * in, it never waits for the limit.
 *
 * @module
 */

import { ChatError } from "../errors.ts";
import { RateLimiter } from "../rate_limit.ts";

/** One attempt to register, to sign in, or to confirm a password. */
export interface Attempt {
  /** The key of the address it comes from. */
  readonly address?: string | undefined;
  /** The key of the account, existing or not, whose password it tries; absent if it tries none. */
  readonly account?: string | undefined;
  /** Whether the account's owner is known at this address. */
  readonly isKnown?: boolean | undefined;
}

/** What a {@linkcode Turns} needs. */
export interface TurnsOptions {
  /** Maximum passwords hashed at a time. */
  readonly threads: number;
  /** The time in milliseconds. It never goes backwards. */
  readonly clock: () => number;
}

/** Maximum attempts that wait for a thread. */
const MAX_WAITING = 64;

/** How long an attempt may wait, in milliseconds. */
const MAX_WAIT_MS = 10_000;

/** How often strangers may guess at one account. */
const GUESSES = { perSecond: 1, burst: 10 };

/** How long an attempt counts against its address, in milliseconds. */
const ATTEMPT_MS = 60_000;

/** Maximum attempts of one address that are counted. */
const MAX_COUNTED = 100;

/** Maximum addresses whose attempts are remembered. */
const MAX_ADDRESSES = 100_000;

interface Waiting extends Attempt {
  readonly since: number;
  /** Recent attempts of its address before it. */
  readonly earlier: number;
  readonly start: () => void;
  readonly refuse: (error: ChatError) => void;
}

/** The queue for hashing passwords. */
export class Turns {
  readonly #options: TurnsOptions;
  readonly #guesses: RateLimiter;
  /** Until when the attempts of each address count; the address that tried last is at the end. */
  readonly #attempts = new Map<string, number>();
  /** In the order of arrival. */
  #waiting: Waiting[] = [];
  #running = 0;
  /** Whether the next turn is a known person's, if one waits. */
  #isForKnown = true;

  constructor(options: TurnsOptions) {
    this.#options = options;
    this.#guesses = new RateLimiter(GUESSES, options.clock);
  }

  /**
   * Waits for a turn, then does the work.
   *
   * @throws {ChatError} `unavailable` if too many attempts wait, or if the turn does not come in time
   */
  async run<T>(attempt: Attempt, work: () => Promise<T>): Promise<T> {
    await new Promise<void>((start, refuse) => this.#add(attempt, start, refuse));
    try {
      return await work();
    } finally {
      this.#running--;
      this.#startNext();
    }
  }

  /**
   * Starts attempts that may run now, and refuses those that waited too long. Call it every second.
   */
  sweep(): void {
    const latest = this.#options.clock() - MAX_WAIT_MS;
    const late = this.#waiting.filter(({ since }) => since < latest);
    for (const attempt of late) this.#refuse(attempt);
    this.#guesses.sweep();
    this.#startNext();
  }

  #add(attempt: Attempt, start: () => void, refuse: (error: ChatError) => void): void {
    const since = this.#options.clock();
    const earlier = this.#countAttempt(attempt.address ?? "", since);
    this.#waiting.push({ ...attempt, since, earlier, start, refuse });
    this.#startNext();
    if (this.#waiting.length > MAX_WAITING) this.#refuse(this.#last());
  }

  /** Counts an attempt of an address. Returns how many recent ones came before it. */
  #countAttempt(address: string, now: number): number {
    const until = Math.max(now, this.#attempts.get(address) ?? now);
    this.#attempts.delete(address);
    this.#attempts.set(address, Math.min(until, now + MAX_COUNTED * ATTEMPT_MS) + ATTEMPT_MS);
    for (const [oldest, until] of this.#attempts) {
      if (until > now && this.#attempts.size <= MAX_ADDRESSES) break;
      this.#attempts.delete(oldest);
    }
    return Math.ceil((until - now) / ATTEMPT_MS);
  }

  #startNext(): void {
    while (this.#running < this.#options.threads) {
      const next = this.#takeNext(this.#isForKnown) ?? this.#takeNext(!this.#isForKnown);
      if (next === undefined) return;
      this.#isForKnown = !next.isKnown;
      this.#running++;
      next.start();
    }
  }

  /** Takes the first attempt of one group that may run now out of the queue. */
  #takeNext(isKnown: boolean): Waiting | undefined {
    const next = this.#inOrder(isKnown).find(({ account }) =>
      isKnown || account === undefined || this.#guesses.take(account) === 0
    );
    return next && this.#remove(next);
  }

  /** The attempts of one group, the next first. */
  #inOrder(isKnown: boolean): Waiting[] {
    // Sorting keeps the order of equals, so the latest attempt is first.
    return this.#waiting.filter((attempt) => (attempt.isKnown ?? false) === isKnown)
      .toReversed().toSorted((a, b) => a.earlier - b.earlier);
  }

  /** The last attempt of the larger group. */
  #last(): Waiting {
    const [some, others] = [this.#inOrder(true), this.#inOrder(false)];
    return (some.length > others.length ? some : others).at(-1)!;
  }

  #refuse(attempt: Waiting): void {
    this.#remove(attempt);
    const sentence = "Too many people are signing in. Try again in a few seconds.";
    attempt.refuse(new ChatError("unavailable", sentence, { retryAfter: 2 }));
  }

  #remove(attempt: Waiting): Waiting {
    this.#waiting = this.#waiting.filter((one) => one !== attempt);
    return attempt;
  }
}
