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

/** A figure as a multiple of another server's. */
function times(
  text: string,
  scenario: ScenarioName,
  [server, other]: readonly [ServerName, ServerName],
  metric: Metric,
): Bar {
  return {
    text: `${scenario}: ${text}`,
    unit: "x",
    values: (runs) => ratios(runs, at(scenario, server), at(scenario, other), metric),
  };
}

/** The deliveries per CPU second, as a multiple of another server's. */
function timesAsGood(
  scenario: ScenarioName,
  server: ServerName,
  other: ServerName,
  atLeast: number,
): Bar {
  const text = `${server} per CPU second, times ${other}`;
  return { ...times(text, scenario, [server, other], perCpu), bound: { atLeast } };
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
  const text = `hubbub ${what}, times sending each message at once`;
  return { ...times(text, scenario, ["hubbub", "deno-v1"], metric), bound: { atMost: 1.15 } };
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
    {
      text: `${scenario}: hubbub p99 of those who read, times the same when all read`,
      unit: "x",
      bound: { atMost: 1.5 },
      values: (runs) =>
        ratios(runs, at(scenario, "hubbub"), at(scenario, "hubbub", "all read"), p99),
    },
  ];
}

/** The least server with the same way of sending: a frame a turn for `chat.v1`, else at once. */
const LEAST = {
  "hubbub": "deno-turn",
  "hubbub-memory": "deno-turn",
  "hubbub-plain": "deno",
} as const;

/** A share of what the least server delivers per CPU second. */
function shareOfLeast(scenario: ScenarioName, server: keyof typeof LEAST, atLeast: number): Bar {
  return timesAsGood(scenario, server, LEAST[server], atLeast);
}

/**
 * Hubbub's share of the least server with another text, divided by its share with 64 bytes of
 * English.
 */
function sameShare(scenario: ScenarioName, variant: string): Bar {
  const share = (runs: readonly Run[], variant?: string) =>
    spread(
      ratios(runs, at(scenario, "hubbub", variant), at(scenario, "deno-turn", variant), perCpu),
    )?.median;
  return {
    text: `${scenario}, ${variant}: hubbub's share of the least server, times that of 64 bytes`,
    unit: "x",
    bound: { atLeast: 1 },
    values: (runs) => {
      const [usual, other] = [share(runs), share(runs, variant)];
      return usual === undefined || other === undefined ? [] : [other / usual];
    },
  };
}

/** Shows what of a goal is within the runtime's reach. */
function reaches(
  scenario: ScenarioName,
  [server, other]: readonly [ServerName, ServerName],
  what: string,
  metric: Metric,
): Bar {
  return times(`${server} ${what}, times ${other}`, scenario, [server, other], metric);
}

/** The p99, as a multiple of another server's. */
function p99Times(scenario: ScenarioName, server: ServerName, other: ServerName): Bar {
  const text = `${server} p99, times ${other}'s`;
  return { ...times(text, scenario, [server, other], p99), bound: { atMost: 1 } };
}

const starved: Metric = (seen) => seen.starved;

const BARS: readonly Bar[] = [
  shareOfLeast("pairs", "hubbub-memory", 0.75),
  shareOfLeast("pairs", "hubbub", 0.65),
  reaches("pairs", ["deno-fair", "deno-turn"], "per CPU second", perCpu),
  reaches("pairs", ["deno-store", "deno-turn"], "per CPU second", perCpu),
  timesAsGood("pairs", "hubbub-memory", "deno-fair", 0.75),
  timesAsGood("pairs", "hubbub", "deno-store", 0.65),
  timesAsGood("pairs", "hubbub", "gorilla", 1),
  timesAsGood("pairs", "hubbub-memory", "gorilla", 1),
  reaches("pairs", ["deno-fair", "gorilla"], "per CPU second", perCpu),
  reaches("pairs", ["deno-store", "gorilla"], "per CPU second", perCpu),
  p99Times("pairs", "hubbub", "deno-turn"),
  p99Times("pairs", "hubbub-memory", "deno-turn"),
  told(at("pairs", "hubbub"), "members that heard nothing", "", starved),
  told(at("pairs", "hubbub-memory"), "members that heard nothing", "", starved),
  told(at("pairs", "deno-turn"), "members that heard nothing", "", starved),
  ...(["room", "flood"] as const).flatMap((scenario) => [
    shareOfLeast(scenario, "hubbub", 0.8),
    shareOfLeast(scenario, "hubbub-memory", 0.8),
    timesAsGood(scenario, "hubbub", "hubbub-memory", 0.8),
    reaches(scenario, ["deno-store", "deno-turn"], "per CPU second", perCpu),
  ]),
  timesAsGood("rooms", "hubbub", "gorilla", 1.1),
  p99Times("rooms", "hubbub", "gorilla"),
  reaches("rooms", ["hubbub-memory", "gorilla"], "per CPU second", perCpu),
  reaches("rooms", ["deno-store", "gorilla"], "per CPU second", perCpu),
  reaches("rooms", ["deno-store", "gorilla"], "p99", p99),
  ...(["crowd-10", "crowd-100"] as const).flatMap((scenario) => [
    noSlower(scenario, "p50", p50),
    noSlower(scenario, "p99", p99),
    reaches(scenario, ["hubbub-memory", "deno-v1"], "p50", p50),
    reaches(scenario, ["deno-store", "deno-v1"], "p50", p50),
    reaches(scenario, ["deno-store", "deno-v1"], "p99", p99),
  ]),
  ...(["room", "crowd-1000", "pairs", "flood"] as const).map((scenario) =>
    shareOfLeast(scenario, "hubbub-plain", 0.95)
  ),
  ...(["room", "pairs", "flood"] as const).flatMap((scenario) =>
    ["1 KB", "Chinese"].map((variant) => sameShare(scenario, variant))
  ),
  atMost(at("storm", "hubbub"), "CPU time", "s", 1.2, ({ joinCpuSeconds }) => joinCpuSeconds),
  told(at("storm", "deno-join"), "CPU time", "s", ({ joinCpuSeconds }) => joinCpuSeconds),
  told(at("storm", "deno-bare"), "CPU time", "s", ({ joinCpuSeconds }) => joinCpuSeconds),
  told(at("storm", "hubbub"), "sent to each", "KB", ({ joinBytes }) => joinBytes / 1024 / 10_000),
  told(at("storm", "hubbub"), "frames to each", "", ({ joinFrames }) => joinFrames / 10_000),
  told(at("storm", "hubbub"), "know that all are there", "", ({ joinKnown }) => joinKnown),
  {
    text: "idle: hubbub memory of a member, times a bare WebSocket's",
    unit: "x",
    bound: { atMost: 1.05 },
    values: (runs) => ratios(runs, at("idle", "hubbub"), at("idle", "deno-bare"), idleKb),
  },
  told(at("idle", "hubbub"), "memory", "KB each", idleKb),
  told(at("idle", "deno-bare"), "memory", "KB each", idleKb),
  told(at("idle", "hubbub"), "memory just after joining", "KB each", joinedKb),
  told(at("idle", "deno-bare"), "memory just after joining", "KB each", joinedKb),
  timesAsGood("crowd-1000", "hubbub", "gorilla", 8),
  timesAsGood("crowd-1000", "hubbub", "bun", 1.5),
  {
    text: "sustained: hubbub million deliveries a second",
    unit: "M/s",
    // 6.0, less the messages in flight when the time is up.
    bound: { atLeast: 5.95 },
    values: (runs) =>
      valuesAt(runs, at("sustained", "hubbub"), (seen) => seen.deliveriesPerSecond / 1e6),
  },
  told(at("sustained", "hubbub"), "p99", "ms", p99),
  atMost(at("sustained", "hubbub"), "closed", "members", 0, ({ closed }) => closed),
  told(at("history", "hubbub"), "memory grown", "MB", grownMb),
  told(at("history", "hubbub-memory"), "memory grown", "MB", grownMb),
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
