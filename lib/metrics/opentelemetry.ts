/**
 * The metrics through OpenTelemetry: the runtime exports the instruments of its global provider.
 *
 * @module
 */

import { type Meter as OtelMeter, metrics, type ObservableResult } from "@opentelemetry/api";
import type { Definition } from "./definitions.ts";
import type { Readable, Recorder } from "./instruments.ts";

/** Passes the server's instruments to the runtime. */
export class OpenTelemetry {
  readonly #meter: OtelMeter = metrics.getMeter("hubbub");

  /** A histogram of the runtime, to which a {@linkcode Histogram} passes each of its values. */
  recorder({ name, unit, description, bounds = [] }: Definition): Recorder {
    const advice = { explicitBucketBoundaries: [...bounds] };
    return this.#meter.createHistogram(name, { unit, description, advice });
  }

  /** Lets the runtime read a metric at each export. */
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
