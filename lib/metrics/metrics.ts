/**
 * The metrics of one server: counts the reports of its parts, reads the rest from the parts, and
 * gives out everything as text and through OpenTelemetry.
 *
 * @module
 */

import process from "node:process";
import type { Engine } from "../engine/engine.ts";
import type { Meter, RefusedAt, ResumeOutcome, SentMeter } from "../meter.ts";
import { FORMATS } from "../protocol/encode.ts";
import { type Definition, METRICS } from "./definitions.ts";
import {
  type Count,
  Counter,
  type Distribution,
  Histogram,
  Observed,
  type Readable,
} from "./instruments.ts";
import { LoopDelay } from "./loop_delay.ts";
import type { OpenTelemetry } from "./opentelemetry.ts";
import { PROMETHEUS_TYPE, toPrometheus } from "./prometheus.ts";
import { type CallOutcome, type EngineMeter, timeEngine } from "./timed_engine.ts";

/** The parts of the server that are read with the metrics. */
export interface Sources {
  readonly hub: {
    census(): { readonly rooms: number; readonly members: ReadonlyMap<string, number> };
  };
  /** Every open connection. */
  readonly connections: { readonly size: number };
  readonly health: { readonly isDegraded: boolean };
}

/** Receives every report. Writes the metrics as text, and passes them to OpenTelemetry. */
export class Metrics implements Meter, EngineMeter {
  /** The `Content-Type` of {@linkcode Metrics.text}. */
  readonly type = PROMETHEUS_TYPE;
  readonly #all: (Readable | Histogram)[] = [];
  readonly #otel: OpenTelemetry | undefined;
  readonly #clock: () => number;
  readonly #sent: ReadonlyMap<string, Sent>;
  readonly #framesReceived: ReadonlyMap<string, Count>;
  readonly #stored: Readonly<Record<"room" | "private", Count>>;
  readonly #deliverySize: Distribution;
  readonly #deliveryDuration: Distribution;
  readonly #engineDuration: Histogram;
  readonly #welcomes: Counter;
  readonly #refusals: Counter;
  readonly #closes: Counter;
  readonly #loopDelay: LoopDelay;

  /**
   * Begins to measure the delay of the event loop, until {@linkcode Metrics.close}.
   *
   * @param otel receives every metric too; absent while OpenTelemetry is off
   * @param clock the time in milliseconds
   */
  constructor(otel: OpenTelemetry | undefined, clock: () => number) {
    this.#otel = otel;
    this.#clock = clock;
    const framesReceived = this.#counter(METRICS.framesReceived);
    this.#framesReceived = new Map(FORMATS.map((format) => [format, framesReceived.at(format)]));
    const stored = this.#counter(METRICS.messagesStored);
    this.#stored = { room: stored.at("room"), private: stored.at("private") };
    const deliveries = this.#counter(METRICS.deliveries);
    const frames = this.#counter(METRICS.framesSent);
    const bytes = this.#counter(METRICS.bytesSent);
    this.#sent = new Map(FORMATS.map((format) => {
      return [format, new Sent(deliveries.at(format), frames.at(format), bytes.at(format))];
    }));
    this.#deliverySize = this.#histogram(METRICS.deliverySize).at();
    this.#deliveryDuration = this.#histogram(METRICS.deliveryDuration).at();
    this.#engineDuration = this.#histogram(METRICS.engineDuration);
    this.#welcomes = this.#counter(METRICS.welcomes);
    this.#refusals = this.#counter(METRICS.refusals);
    this.#closes = this.#counter(METRICS.closes);
    const delay = this.#histogram(METRICS.loopDelay).at();
    this.#loopDelay = new LoopDelay(clock, (ms) => delay.record(ms / 1000));
  }

  /** The present metrics in Prometheus' format. */
  text(): string {
    return toPrometheus(this.#all);
  }

  /** An engine whose calls are measured. */
  timeEngine(engine: Engine): Engine {
    return timeEngine(engine, this, this.#clock);
  }

  /** Reads these parts whenever the metrics are read. Call it once. */
  observe({ hub, connections, health }: Sources): void {
    this.#observe(METRICS.connections, () => connections.size);
    this.#observe(METRICS.rooms, () => hub.census().rooms);
    this.#observe(METRICS.storeUp, () => health.isDegraded ? 0 : 1);
    this.#observe(METRICS.memory, () => Deno.memoryUsage().rss);
    this.#observe(METRICS.cpu, cpuSeconds);
    this.#register(
      new Observed(METRICS.members, () => {
        const { members } = hub.census();
        // A format without members is 0.
        return FORMATS.map((format) => ({
          attributes: { format },
          value: members.get(format) ?? 0,
        }));
      }),
    );
  }

  /** Stops measuring the delay of the event loop. */
  close(): void {
    this.#loopDelay.close();
  }

  sent(format: string): SentMeter {
    return this.#sent.get(format)!;
  }

  received(format: string): void {
    this.#framesReceived.get(format)!.add();
  }

  gathered(events: number): void {
    if (events > 0) this.#deliverySize.record(events);
  }

  delivered(ms: number): void {
    this.#deliveryDuration.record(ms / 1000);
  }

  refused(at: RefusedAt, code: string): void {
    this.#refusals.at(at, code).add();
  }

  closed(code: number): void {
    this.#closes.at(String(code)).add();
  }

  welcomed(resume: ResumeOutcome): void {
    this.#welcomes.at(resume).add();
  }

  calls(operation: string, outcome: CallOutcome): Distribution {
    return this.#engineDuration.at(operation, outcome);
  }

  stored(kind: "room" | "private"): void {
    this.#stored[kind].add();
  }

  #counter(definition: Definition): Counter {
    return this.#register(new Counter(definition));
  }

  #histogram(definition: Definition): Histogram {
    const histogram = new Histogram(definition, this.#otel?.recorder(definition));
    this.#all.push(histogram);
    return histogram;
  }

  #observe(definition: Definition, read: () => number): void {
    this.#register(new Observed(definition, () => [{ attributes: {}, value: read() }]));
  }

  #register<T extends Readable>(metric: T): T {
    this.#all.push(metric);
    this.#otel?.observe(metric);
    return metric;
  }
}

/** Counts what the server sends in one format. */
class Sent implements SentMeter {
  readonly #events: Count;
  readonly #frames: Count;
  readonly #bytes: Count;

  constructor(events: Count, frames: Count, bytes: Count) {
    this.#events = events;
    this.#frames = frames;
    this.#bytes = bytes;
  }

  add(events: number, frames: number, bytes: number): void {
    this.#events.add(events);
    this.#frames.add(frames);
    this.#bytes.add(bytes);
  }
}

/** CPU time of this process, in seconds. */
function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}
