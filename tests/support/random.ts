/**
 * Pseudo-random numbers for randomised tests, repeated by a seed.
 *
 * Each run uses new seeds, and each test has its seed in its name: `SEED=that` repeats it.
 */

/** The seeds of a test: that of the environment variable `SEED`, or `count` new ones. */
export function seeds(count: number): number[] {
  const given = Deno.env.get("SEED");
  if (given !== undefined && given !== "") return [Number(given)];
  return [...crypto.getRandomValues(new Uint32Array(count))];
}

/** One sequence of numbers. */
export class Random {
  #state: number;

  /** @param seed a whole number from 0 to 4294967295 */
  constructor(seed: number) {
    // Neighbouring seeds begin far from each other, and the state is never 0.
    this.#state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) || 1;
    for (let i = 0; i < 8; i++) this.#next();
  }

  /** A whole number from 0 to `limit` - 1. */
  below(limit: number): number {
    return Math.floor(this.#next() / 2 ** 32 * limit);
  }

  /** A whole number from `least` to `most`. */
  between(least: number, most: number): number {
    return least + this.below(most - least + 1);
  }

  /** True with this percentage. */
  percent(share: number): boolean {
    return this.below(100) < share;
  }

  /** One of the items, all equally likely. */
  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }

  /** A key of a table of weights, with a probability in proportion to its weight. */
  weighted<K extends string>(weights: Readonly<Record<K, number>>): K {
    const entries = Object.entries(weights) as [K, number][];
    let left = this.below(entries.reduce((sum, [, weight]) => sum + weight, 0));
    for (const [key, weight] of entries) {
      left -= weight;
      if (left < 0) return key;
    }
    return entries.at(-1)![0];
  }

  /** Marsaglia, "Xorshift RNGs" (2003), with 32 bits. */
  #next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return Math.imul(x, 0x2545f491) >>> 0;
  }
}
