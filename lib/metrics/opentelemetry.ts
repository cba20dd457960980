/**
 * The metrics through OpenTelemetry: the runtime exports what its global provider is given.
 *
 * @module
 */

import { type Meter as OtelMeter, metrics, type ObservableResult } from "@opentelemetry/api";
import type { Definition } from "./definitions.ts";
import type { Readable, Recorder } from "./instruments.ts";

/** Hands the server's instruments to the runtime. */
export class OpenTelemetry {
  readonly #meter: OtelMeter = metrics.getMeter("hubbub");

  /** A histogram of the runtime, which {@linkcode Histogram} hands its values on to. */
  recorder({ name, unit, description, bounds = [] }: Definition): Recorder {
    const advice = { explicitBucketBoundaries: [...bounds] };
    return this.#meter.createHistogram(name, { unit, description, advice });
  }

  /** Has a metric read at each export. */
  observe(metric: Readable): void {
    this.#create(metric.definition).addCallback((result: ObservableResult) => {
      for (const { attributes, value } of metric.points()) result.observe(value, attributes);
    });
  }

  #create({ name, kind, unit, description }: Definition) {
    const options = { unit, description };
    switch (kind) {
      case "counter":
        return this.#meter.createObservableCounter(name, options);
      case "sum":
        return this.#meter.createObservableUpDownCounter(name, options);
      default:
        return this.#meter.createObservableGauge(name, options);
    }
  }
}
