/**
 * Limits how often something may happen: token buckets, one for each key.
 *
 * A bucket holds `burst` tokens and gains `perSecond` new ones; each attempt takes one. A full
 * bucket behaves like a new one, so a limiter forgets it.
 *
 * @module
 */

/** How often something may happen, and how often at once. */
export interface Rate {
  /** Tokens that a bucket gains per second; `Infinity` for no limit. */
  readonly perSecond: number;
  /** Maximum tokens in a bucket. */
  readonly burst: number;
}

/** One bucket of tokens, full at first. */
export class TokenBucket {
  readonly #rate: Rate;
  #tokens: number;
  /** When `#tokens` was counted, in milliseconds. */
  #at: number;

  /** @param now the time in milliseconds */
  constructor(rate: Rate, now: number) {
    this.#rate = rate;
    this.#tokens = rate.burst;
    this.#at = now;
  }

  /**
   * Takes tokens: all of them, or none. A count beyond the burst takes a full bucket.
   *
   * @param now the time in milliseconds
   * @returns 0 if there were enough, else the seconds until there are
   */
  take(now: number, count = 1): number {
    this.#fill(now);
    const wanted = Math.min(count, this.#rate.burst);
    if (this.#tokens < wanted) return (wanted - this.#tokens) / this.#rate.perSecond;
    this.#tokens -= wanted;
    return 0;
  }

  /** Whether the bucket has all its tokens. */
  isFull(now: number): boolean {
    this.#fill(now);
    return this.#tokens >= this.#rate.burst;
  }

  #fill(now: number): void {
    const { perSecond, burst } = this.#rate;
    // 0 times Infinity is NaN.
    const gained = perSecond === Infinity ? burst : (now - this.#at) * perSecond / 1000;
    this.#tokens = Math.min(burst, this.#tokens + gained);
    this.#at = now;
  }
}

/** Maximum buckets of a limiter. A new one beyond it replaces the oldest. */
const MAX_BUCKETS = 100_000;

/** One bucket for each key, such as an address. */
export class RateLimiter {
  readonly #rate: Rate;
  readonly #clock: () => number;
  readonly #buckets = new Map<string, TokenBucket>();

  /** @param clock the time in milliseconds */
  constructor(rate: Rate, clock: () => number) {
    this.#rate = rate;
    this.#clock = clock;
  }

  /** The number of buckets. */
  get size(): number {
    return this.#buckets.size;
  }

  /** Takes tokens from a key's bucket. Returns 0, or the seconds until there are enough. */
  take(key: string, count = 1): number {
    if (this.#rate.perSecond === Infinity) return 0;
    const now = this.#clock();
    let bucket = this.#buckets.get(key);
    if (bucket === undefined) {
      if (this.#buckets.size >= MAX_BUCKETS) {
        const [oldest] = this.#buckets.keys();
        this.#buckets.delete(oldest!);
      }
      bucket = new TokenBucket(this.#rate, now);
      this.#buckets.set(key, bucket);
    }
    return bucket.take(now, count);
  }

  /** Forgets the full buckets. Call it about once a second. */
  sweep(): void {
    const now = this.#clock();
    for (const [key, bucket] of this.#buckets) {
      if (bucket.isFull(now)) this.#buckets.delete(key);
    }
  }
}

/** How much one address may send, over all its connections. */
export interface TrafficRates {
  readonly frames: Rate;
  readonly bytes: Rate;
}

/** Limits the frames and the bytes that addresses send. */
export class TrafficLimiter {
  readonly #frames: RateLimiter;
  readonly #bytes: RateLimiter;

  /** @param clock the time in milliseconds */
  constructor({ frames, bytes }: TrafficRates, clock: () => number) {
    this.#frames = new RateLimiter(frames, clock);
    this.#bytes = new RateLimiter(bytes, clock);
  }

  /** Counts one frame of an address. Returns 0, or the seconds until it is allowed. */
  take(address: string, bytes: number): number {
    return this.#frames.take(address) || this.#bytes.take(address, bytes);
  }

  /** Forgets the full buckets. Call it about once a second. */
  sweep(): void {
    this.#frames.sweep();
    this.#bytes.sweep();
  }
}
