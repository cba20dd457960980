/**
 * Which refs were used in one log, and for which message: what a repeat is known by.
 *
 * Kept by author and then by ref. One map with both in its key would need a new text for each
 * message, and that costs more than the look-up does.
 *
 * @module
 */

/** `ref` to `seq`, by author. */
type ByAuthor = Map<string, Map<string, number>>;

/** The newest refs of one log. */
export class Refs {
  readonly #keep: number;
  /** The newest, and as many before them: the older ones are forgotten all at once. */
  #newer: ByAuthor = new Map();
  #older: ByAuthor = new Map();
  #newerCount = 0;

  /** @param keep how many are known at the least; at the most it is twice as many */
  constructor(keep: number) {
    this.#keep = keep;
  }

  /** Whether none is known. */
  get isEmpty(): boolean {
    return this.#newer.size + this.#older.size === 0;
  }

  /** The `seq` of the message that an author sent under a ref, if it is known. */
  get(author: string, ref: string): number | undefined {
    return this.#newer.get(author)?.get(ref) ?? this.#older.get(author)?.get(ref);
  }

  /** Takes note of a ref that is not known yet. */
  add(author: string, ref: string, seq: number): void {
    if (this.#newerCount >= this.#keep) this.forgetOlder();
    let refs = this.#newer.get(author);
    if (refs === undefined) this.#newer.set(author, refs = new Map());
    refs.set(ref, seq);
    this.#newerCount++;
  }

  /** Forgets the older ones. The newer ones are the older ones now. */
  forgetOlder(): void {
    this.#older = this.#newer;
    this.#newer = new Map();
    this.#newerCount = 0;
  }

  /** Forgets what was used for a message before a `seq`. */
  forgetBefore(seq: number): void {
    this.#forget((at) => at < seq);
  }

  /** Forgets what was used for a message after a `seq`. */
  forgetAfter(seq: number): void {
    this.#forget((at) => at > seq);
  }

  #forget(isOver: (seq: number) => boolean): void {
    this.#newerCount = 0;
    for (const half of [this.#newer, this.#older]) {
      for (const [author, refs] of half) {
        for (const [ref, seq] of refs) if (isOver(seq)) refs.delete(ref);
        if (refs.size === 0) half.delete(author);
        else if (half === this.#newer) this.#newerCount += refs.size;
      }
    }
  }
}
