/**
 * The newest refs of one log and their messages, by which a repeat is recognised.
 *
 * Refs are kept by person and then by ref. One map with both in its key would need a new string for
 * each message, which costs more than the second look-up.
 *
 * @module
 */

/** `ref` to `seq`, by person. */
type ByPerson = Map<string, Map<string, number>>;

/** The newest refs of one log. A ref may outlive its message. */
export class Refs {
  readonly #keep: number;
  /** The newest refs, at most `#keep`. */
  #newer: ByPerson = new Map();
  /** The refs before them, which are forgotten all at once. */
  #older: ByPerson = new Map();
  #newerCount = 0;
  #olderCount = 0;

  /** @param keep minimum refs remembered; the maximum is twice as many */
  constructor(keep: number) {
    this.#keep = keep;
  }

  /** The number of refs that are remembered. */
  get size(): number {
    return this.#newerCount + this.#olderCount;
  }

  /** The `seq` of the message that a person sent under a ref, if it is remembered. */
  get(person: string, ref: string): number | undefined {
    return this.#newer.get(person)?.get(ref) ?? this.#older.get(person)?.get(ref);
  }

  /** Remembers the message that a person sent under a ref. */
  add(person: string, ref: string, seq: number): void {
    if (this.#newerCount >= this.#keep) this.#forgetOlder();
    let refs = this.#newer.get(person);
    if (refs === undefined) this.#newer.set(person, refs = new Map());
    refs.set(ref, seq);
    this.#newerCount++;
  }

  #forgetOlder(): void {
    this.#older = this.#newer;
    this.#olderCount = this.#newerCount;
    this.#newer = new Map();
    this.#newerCount = 0;
  }
}
