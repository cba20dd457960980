/** A collector of OpenTelemetry's metrics: keeps the newest export of each, as OTLP's JSON. */

import { AssertionError } from "@std/assert";

/** Maximum wait for an expected event, in milliseconds. */
const PATIENCE_MS = 30_000;

type Attributes = Readonly<Record<string, string>>;

interface Point {
  attributes?: { key: string; value: { stringValue?: string } }[];
  asInt?: string | number;
  asDouble?: number;
  /** The count of values of a histogram. */
  count?: string | number;
  explicitBounds?: number[];
}

interface Metric {
  name: string;
  unit: string;
  description: string;
  sum?: { dataPoints: Point[] };
  gauge?: { dataPoints: Point[] };
  histogram?: { dataPoints: Point[] };
}

/** One export of the server's own meter. */
export class Export {
  readonly #metrics: ReadonlyMap<string, Metric>;

  constructor(metrics: readonly Metric[]) {
    this.#metrics = new Map(metrics.map((metric) => [metric.name, metric]));
  }

  /** The names of all metrics, sorted. */
  get names(): string[] {
    return [...this.#metrics.keys()].sort();
  }

  metric(name: string): Metric {
    const metric = this.#metrics.get(name);
    if (metric === undefined) throw new AssertionError(`${name} was not exported.`);
    return metric;
  }

  /** The value of the series with these attributes; of a histogram, its count of values. */
  value(name: string, attributes: Attributes = {}): number | undefined {
    const point = this.#points(name).find((point) => matches(point, attributes));
    return point && Number(point.asInt ?? point.asDouble ?? point.count);
  }

  /** The bounds of a histogram. */
  bounds(name: string): number[] | undefined {
    return this.#points(name)[0]?.explicitBounds;
  }

  #points(name: string): Point[] {
    const { sum, gauge, histogram } = this.#metrics.get(name) ?? {};
    return (sum ?? gauge ?? histogram)?.dataPoints ?? [];
  }
}

function matches({ attributes = [] }: Point, wanted: Attributes): boolean {
  const own = Object.fromEntries(attributes.map(({ key, value }) => [key, value.stringValue]));
  const keys = Object.keys(wanted);
  return keys.length === attributes.length && keys.every((key) => own[key] === wanted[key]);
}

export interface Collector extends AsyncDisposable {
  /** The address for exports. */
  readonly url: string;
  /** The next export that satisfies `isWanted`. */
  when(isWanted: (metrics: Export) => boolean): Promise<Export>;
}

/** Starts a collector on a free port. */
export function collectMetrics(): Collector {
  let onExport = (_metrics: Export) => {};
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    const body = await request.json();
    if (new URL(request.url).pathname !== "/v1/metrics") return Response.json({});
    for (const { scopeMetrics } of body.resourceMetrics) {
      for (const { scope, metrics } of scopeMetrics) {
        if (scope.name === "hubbub") onExport(new Export(metrics));
      }
    }
    return Response.json({});
  });
  return {
    url: `http://127.0.0.1:${server.addr.port}`,
    when: (isWanted) =>
      new Promise((resolve, reject) => {
        const late = new AssertionError("The metrics were not exported.");
        const timer = setTimeout(() => reject(late), PATIENCE_MS);
        onExport = (metrics) => {
          if (!isWanted(metrics)) return;
          clearTimeout(timer);
          resolve(metrics);
        };
      }),
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}
