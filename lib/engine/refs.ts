/**
 * The refs that were used in one log, and the message of each: how a repeat is recognized.
 *
 * Refs are kept by author and then by ref. One map with both in its key would need a new string for
 * each message, and that costs more than the second look-up.
 *
 * @module
 */

/** The key of a private message, or of a stored ref: the sender, by `nameKey`, and the ref. */
export function refKey(author: string, ref: string): string {
  return `${author}\n${ref}`;
}

/** The sender and the ref in a {@linkcode refKey}. No name has a line break. */
export function splitRefKey(key: string): [author: string, ref: string] {
  const end = key.indexOf("\n");
  return [key.slice(0, end), key.slice(end + 1)];
}

/** `ref` to `seq`, by author. */
type ByAuthor = Map<string, Map<string, number>>;

/** The newest refs of one log. */
export class Refs {
  readonly #keep: number;
  /** The newest refs, at most `#keep`. */
  #newer: ByAuthor = new Map();
  /** The refs before them, which are forgotten together. */
  #older: ByAuthor = new Map();
  #newerCount = 0;

  /** @param keep minimum refs remembered; the maximum is twice as many */
  constructor(keep: number) {
    this.#keep = keep;
  }

  /** Whether no ref is remembered. */
  get isEmpty(): boolean {
    return this.#newer.size + this.#older.size === 0;
  }

  /** The `seq` of the message that an author sent under a ref, if it is remembered. */
  get(author: string, ref: string): number | undefined {
    return this.#newer.get(author)?.get(ref) ?? this.#older.get(author)?.get(ref);
  }

  /** Remembers a ref that is not remembered yet. */
  add(author: string, ref: string, seq: number): void {
    if (this.#newerCount >= this.#keep) this.forgetOlder();
    let refs = this.#newer.get(author);
    if (refs === undefined) this.#newer.set(author, refs = new Map());
    refs.set(ref, seq);
    this.#newerCount++;
  }

  /** Forgets the older refs. The newer ones take their place. */
  forgetOlder(): void {
    this.#older = this.#newer;
    this.#newer = new Map();
    this.#newerCount = 0;
  }

  /** Forgets the refs of messages before a `seq`. */
  forgetBefore(seq: number): void {
    this.#forget((at) => at < seq);
  }

  /** Forgets the refs of messages after a `seq`. */
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
