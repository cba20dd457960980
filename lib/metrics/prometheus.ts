/**
 * The metrics as text, in the exposition format of Prometheus, version 0.0.4.
 *
 * Names and units are translated as OpenTelemetry's specification of Prometheus compatibility says,
 * so that a query finds a metric whichever way it was exported.
 *
 * @module
 */

import type { Definition } from "./definitions.ts";
import { type Attributes, type Distribution, Histogram, type Readable } from "./instruments.ts";

/** The `Content-Type` of the text. */
export const PROMETHEUS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/** The ends of names for units. Annotations such as `{frame}` are not units. */
const UNIT_WORDS: Readonly<Record<string, string>> = { s: "_seconds", By: "_bytes" };

const TYPES = { counter: "counter", sum: "gauge", gauge: "gauge", histogram: "histogram" } as const;

/** Writes every metric. */
export function toPrometheus(metrics: Iterable<Readable | Histogram>): string {
  let text = "";
  for (const metric of metrics) {
    const { definition } = metric;
    const name = prometheusName(definition);
    text += `# HELP ${name} ${definition.description}\n# TYPE ${name} ${TYPES[definition.kind]}\n`;
    if (metric instanceof Histogram) {
      for (const series of metric.distributions()) text += distribution(name, definition, series);
    } else {
      for (const { attributes, value } of metric.points()) text += line(name, attributes, value);
    }
  }
  return text;
}

/** The name of a metric in Prometheus. */
export function prometheusName({ name, unit, kind }: Definition): string {
  const total = kind === "counter" ? "_total" : "";
  return name.replaceAll(".", "_") + (UNIT_WORDS[unit] ?? "") + total;
}

/** The lines of one series of a histogram. Each bucket includes all smaller ones. */
function distribution(
  name: string,
  { bounds = [] }: Definition,
  { attributes, counts, sum }: Distribution,
): string {
  let text = "";
  let count = 0;
  for (const [bucket, own] of counts.entries()) {
    count += own;
    const le = bucket < bounds.length ? String(bounds[bucket]) : "+Inf";
    text += line(`${name}_bucket`, { ...attributes, le }, count);
  }
  return text + line(`${name}_sum`, attributes, sum) + line(`${name}_count`, attributes, count);
}

/** One sample. No value of an attribute needs escaping: all are the server's own words. */
function line(name: string, attributes: Attributes, value: number): string {
  const labels = Object.entries(attributes).map(([key, text]) => `${key}="${text}"`).join(",");
  return `${name}${labels && `{${labels}}`} ${value}\n`;
}
