/**
 * Counts times in buckets, 32 for each doubling, so that a percentile is exact to about 3 %.
 *
 * @module
 */

const BITS = 5;
const STEPS = 1 << BITS;
const BUCKETS = STEPS * 28;

/** A histogram of whole numbers from 0 to 2^31. */
export class Histogram {
  /** How often each bucket was hit. */
  readonly counts: Float64Array;

  /** @param counts of another histogram */
  constructor(counts = new Float64Array(BUCKETS)) {
    this.counts = counts;
  }

  add(value: number): void {
    const shift = value < STEPS ? 0 : 26 - Math.clz32(value);
    // Each value below 32 has its own bucket; above, the leading bit is left out.
    const bucket = shift === 0 ? value : (shift << BITS) + (value >> shift);
    this.counts[bucket]!++;
  }

  merge(counts: Float64Array): void {
    for (let i = 0; i < counts.length; i++) this.counts[i]! += counts[i]!;
  }

  reset(): void {
    this.counts.fill(0);
  }

  /** The value that this share of all values does not exceed; 0 without values. */
  quantile(share: number): number {
    let total = 0;
    for (const count of this.counts) total += count;
    let left = share * total;
    for (let i = 0; i < this.counts.length; i++) {
      left -= this.counts[i]!;
      if (left <= 0 && this.counts[i]! > 0) return lowest(i + 1) - (i < 2 * STEPS ? 1 : 0);
    }
    return 0;
  }
}

/** The lowest value that falls into a bucket. */
function lowest(bucket: number): number {
  if (bucket < 2 * STEPS) return bucket;
  const shift = (bucket >> BITS) - 1;
  return ((bucket & (STEPS - 1)) + STEPS) * 2 ** shift;
}
