/**
 * Instruments: each holds the series of one metric, one for each combination of attributes.
 *
 * To count is to add to a number. Everything else happens when the metrics are read.
 *
 * @module
 */

import type { Definition } from "./definitions.ts";

/** The attributes of one series, by name. */
export type Attributes = Readonly<Record<string, string>>;

/** One series of a counter or a gauge at one moment. */
export interface Point {
  readonly attributes: Attributes;
  readonly value: number;
}

/** A metric whose points can be read. */
export interface Readable {
  readonly definition: Definition;
  points(): Iterable<Point>;
}

/** The series of a metric, made when first used. */
class SeriesMap<T> {
  readonly #names: readonly string[];
  readonly #make: (attributes: Attributes) => T;
  readonly #series = new Map<string, T>();

  constructor({ attributes }: Definition, make: (attributes: Attributes) => T) {
    this.#names = Object.keys(attributes);
    this.#make = make;
    // Begin at 0, so that the first increase is visible.
    for (const values of combinations(Object.values(attributes))) this.at(values);
  }

  at(values: readonly string[]): T {
    const key = values.length === 1 ? values[0]! : values.join(" ");
    let series = this.#series.get(key);
    if (series === undefined) {
      series = this.#make(Object.fromEntries(this.#names.map((name, i) => [name, values[i]!])));
      this.#series.set(key, series);
    }
    return series;
  }

  all(): Iterable<T> {
    return this.#series.values();
  }
}

/** Every combination of one value from each list. */
function combinations(lists: readonly (readonly string[])[]): string[][] {
  const [first, ...rest] = lists;
  if (first === undefined) return [[]];
  return first.flatMap((value) => combinations(rest).map((others) => [value, ...others]));
}

/** One series of a {@linkcode Counter}. */
export class Count implements Point {
  readonly attributes: Attributes;
  #value = 0;

  constructor(attributes: Attributes) {
    this.attributes = attributes;
  }

  get value(): number {
    return this.#value;
  }

  add(by = 1): void {
    this.#value += by;
  }
}

/** A sum that only grows. */
export class Counter implements Readable {
  readonly definition: Definition;
  readonly #series: SeriesMap<Count>;

  constructor(definition: Definition) {
    this.definition = definition;
    this.#series = new SeriesMap(definition, (attributes) => new Count(attributes));
  }

  /** The series with these attributes, in the order of the definition. */
  at(...values: readonly string[]): Count {
    return this.#series.at(values);
  }

  points(): Iterable<Point> {
    return this.#series.all();
  }
}

/** A metric whose value the server's parts give whenever the metrics are read. */
export class Observed implements Readable {
  readonly definition: Definition;
  readonly #read: () => Iterable<Point>;

  constructor(definition: Definition, read: () => Iterable<Point>) {
    this.definition = definition;
    this.#read = read;
  }

  points(): Iterable<Point> {
    return this.#read();
  }
}

/** Receives each value of a histogram, as OpenTelemetry's own histograms do. */
export interface Recorder {
  record(value: number, attributes?: Attributes): void;
}

/** One series of a {@linkcode Histogram}. */
export class Distribution {
  readonly attributes: Attributes;
  readonly #bounds: readonly number[];
  readonly #counts: number[];
  readonly #recorder: Recorder | undefined;
  /** The attributes for the recorder: `undefined` for none, which is far cheaper to record. */
  readonly #recorded: Attributes | undefined;
  #sum = 0;

  constructor(attributes: Attributes, bounds: readonly number[], recorder: Recorder | undefined) {
    this.attributes = attributes;
    this.#bounds = bounds;
    this.#counts = new Array(bounds.length + 1).fill(0);
    this.#recorder = recorder;
    this.#recorded = Object.keys(attributes).length > 0 ? attributes : undefined;
  }

  /** How many values each bucket has, without those of lower buckets; the last has no bound. */
  get counts(): readonly number[] {
    return this.#counts;
  }

  get sum(): number {
    return this.#sum;
  }

  record(value: number): void {
    let bucket = 0;
    while (bucket < this.#bounds.length && value > this.#bounds[bucket]!) bucket++;
    this.#counts[bucket]!++;
    this.#sum += value;
    this.#recorder?.record(value, this.#recorded);
  }
}

/** How often values fell into each bucket. */
export class Histogram {
  readonly definition: Definition;
  readonly #series: SeriesMap<Distribution>;

  constructor(definition: Definition, recorder: Recorder | undefined) {
    this.definition = definition;
    const { bounds = [] } = definition;
    this.#series = new SeriesMap(
      definition,
      (attributes) => new Distribution(attributes, bounds, recorder),
    );
  }

  /** The series with these attributes, in the order of the definition. */
  at(...values: readonly string[]): Distribution {
    return this.#series.at(values);
  }

  distributions(): Iterable<Distribution> {
    return this.#series.all();
  }
}
