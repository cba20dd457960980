/**
 * The goals of the server. Each bar is a figure from the results and a bound.
 *
 * @module
 */

import type { Measured } from "./measure.ts";
import {
  type Metric,
  type Place,
  ratios,
  type Run,
  type Spread,
  spread,
  valuesAt,
} from "./results.ts";
import type { ScenarioName } from "./scenarios.ts";
import type { ServerName } from "./servers.ts";

/** A bar and the figure that was reached. */
export interface Judged {
  readonly text: string;
  readonly unit: string;
  /** The bound of the median; absent if the figure is only shown. */
  readonly bound?: { readonly atLeast: number } | { readonly atMost: number };
  /** Absent if it was not measured. */
  readonly value?: Spread;
  /** Absent if there is no bound or no value. */
  readonly isMet?: boolean;
}

interface Bar extends Omit<Judged, "value" | "isMet"> {
  values(runs: readonly Run[]): number[];
}

const perCpu: Metric = ({ deliveriesPerCpuSecond }) => deliveriesPerCpuSecond;
const p50: Metric = ({ p50Ms }) => p50Ms;
const p99: Metric = ({ p99Ms }) => p99Ms;

const at = (scenario: ScenarioName, server: ServerName, variant?: string): Place => ({
  scenario,
  server,
  variant,
});

/** The deliveries per CPU second, as a multiple of another server's. */
function timesAsGood(
  scenario: ScenarioName,
  server: ServerName,
  other: ServerName,
  atLeast: number,
): Bar {
  return {
    text: `${scenario}: ${server} per CPU second, times ${other}`,
    unit: "x",
    bound: { atLeast },
    values: (runs) => ratios(runs, at(scenario, server), at(scenario, other), perCpu),
  };
}

function atMost(place: Place, what: string, unit: string, most: number, metric: Metric): Bar {
  return {
    text: `${place.scenario}: ${place.server} ${what}`,
    unit,
    bound: { atMost: most },
    values: (runs) => valuesAt(runs, place, metric),
  };
}

function told(place: Place, what: string, unit: string, metric: Metric): Bar {
  const who = place.variant === undefined ? place.server : `${place.server} (${place.variant})`;
  return {
    text: `${place.scenario}: ${who} ${what}`,
    unit,
    values: (runs) => valuesAt(runs, place, metric),
  };
}

/**
 * The latency in a quiet room, as a multiple of that of a server that sends each message at once.
 */
function noSlower(scenario: ScenarioName, what: string, metric: Metric): Bar {
  return {
    text: `${scenario}: hubbub ${what}, times sending each message at once`,
    unit: "x",
    bound: { atMost: 1.15 },
    values: (runs) => ratios(runs, at(scenario, "hubbub"), at(scenario, "deno-v1"), metric),
  };
}

const joinedKb: Metric = ({ rssBeginKb, rssBeforeKb }) => (rssBeginKb - rssBeforeKb) / 10_000;
const idleKb: Metric = ({ rssEndKb, rssBeforeKb }) => (rssEndKb - rssBeforeKb) / 10_000;
const grownMb = ({ rssMaxKb, rssBeginKb }: Measured) => (rssMaxKb - rssBeginKb) / 1024;

/** Each of `count` stalled members may use its limit of 1 MiB, and everything else 20 MB. */
function stalled(scenario: "stalled-220" | "stalled-5000", count: number): Bar[] {
  return [
    atMost(at(scenario, "hubbub"), "memory grown", "MB", count + 20, grownMb),
    told(at(scenario, "hubbub", "all read"), "memory grown", "MB", grownMb),
    told(at(scenario, "hubbub"), "evicted", "members", ({ evicted }) => evicted),
    { ...slowedDown(scenario, "hubbub"), bound: { atMost: 1.5 } },
    slowedDown(scenario, "deno-v1"),
    slowedDown(scenario, "c-each"),
  ];
}

/** How much stalled members slow down the others. */
function slowedDown(scenario: ScenarioName, server: ServerName): Bar {
  return {
    text: `${scenario}: ${server} p99 of those who read, times the same when all read`,
    unit: "x",
    values: (runs) => ratios(runs, at(scenario, server), at(scenario, server, "all read"), p99),
  };
}

const BARS: readonly Bar[] = [
  timesAsGood("room", "hubbub", "gorilla", 15),
  timesAsGood("room", "hubbub", "bun", 0.9),
  timesAsGood("crowd-1000", "hubbub", "gorilla", 8),
  timesAsGood("crowd-1000", "hubbub", "bun", 1.5),
  atMost(at("crowd-1000", "hubbub"), "p99", "ms", 25, p99),
  timesAsGood("flood", "hubbub", "gorilla", 60),
  timesAsGood("flood", "hubbub", "bun", 2),
  {
    text: "sustained: hubbub million deliveries a second",
    unit: "M/s",
    // 6.0, less the messages in flight when the time is up.
    bound: { atLeast: 5.95 },
    values: (runs) =>
      valuesAt(runs, at("sustained", "hubbub"), (seen) => seen.deliveriesPerSecond / 1e6),
  },
  atMost(at("sustained", "hubbub"), "p99", "ms", 50, p99),
  atMost(at("sustained", "hubbub"), "closed", "members", 0, ({ closed }) => closed),
  ...(["room", "crowd-1000", "flood"] as const).flatMap((scenario) => [
    timesAsGood(scenario, "hubbub-plain", "gorilla", 1.2),
    timesAsGood(scenario, "hubbub-plain", "c-each", 0.8),
  ]),
  timesAsGood("pairs", "hubbub", "gorilla", 1.5),
  timesAsGood("pairs", "hubbub", "bun", 0.7),
  ...(["crowd-10", "crowd-100"] as const).flatMap((scenario) => [
    noSlower(scenario, "p50", p50),
    noSlower(scenario, "p99", p99),
  ]),
  ...(["room", "crowd-1000", "pairs", "flood"] as const).map((scenario): Bar => ({
    text: `${scenario}: hubbub per CPU second, times the least server that sends alike`,
    unit: "x",
    values: (runs) => ratios(runs, at(scenario, "hubbub"), at(scenario, "deno-turn"), perCpu),
  })),
  timesAsGood("room", "hubbub", "hubbub-memory", 0.8),
  timesAsGood("flood", "hubbub", "hubbub-memory", 0.8),
  {
    text: "idle: hubbub memory of a member, times a bare WebSocket's",
    unit: "x",
    bound: { atMost: 1.25 },
    values: (runs) => ratios(runs, at("idle", "hubbub"), at("idle", "deno-bare"), idleKb),
  },
  told(at("idle", "hubbub"), "memory", "KB each", idleKb),
  told(at("idle", "deno-bare"), "memory", "KB each", idleKb),
  told(at("idle", "hubbub"), "memory just after joining", "KB each", joinedKb),
  told(at("idle", "deno-bare"), "memory just after joining", "KB each", joinedKb),
  told(at("history", "hubbub"), "memory grown", "MB", grownMb),
  told(at("history", "hubbub-memory"), "memory grown", "MB", grownMb),
  atMost(at("storm", "hubbub"), "CPU time", "s", 1, ({ joinCpuSeconds }) => joinCpuSeconds),
  told(at("storm", "deno-bare"), "CPU time", "s", ({ joinCpuSeconds }) => joinCpuSeconds),
  told(at("storm", "hubbub"), "sent to each", "KB", ({ joinBytes }) => joinBytes / 1024 / 10_000),
  told(at("storm", "hubbub"), "frames to each", "", ({ joinFrames }) => joinFrames / 10_000),
  told(at("storm", "hubbub"), "know that all are there", "", ({ joinKnown }) => joinKnown),
  ...stalled("stalled-220", 22),
  ...stalled("stalled-5000", 500),
];

/** Compares the measurements with every bar that they have a figure for. */
export function judge(runs: readonly Run[]): Judged[] {
  return BARS.flatMap(({ values, ...bar }) => {
    const value = spread(values(runs));
    if (value === undefined) return [];
    const { bound } = bar;
    if (bound === undefined) return [{ ...bar, value }];
    const isMet = "atLeast" in bound ? value.median >= bound.atLeast : value.median <= bound.atMost;
    return [{ ...bar, value, isMet }];
  });
}
