/**
 * The results as text: a table for each scenario, and the bars.
 *
 * @module
 */

import type { Judged } from "./bars.ts";
import type { Measured } from "./measure.ts";
import { readersOfRoom } from "./plan.ts";
import {
  measuredAt,
  type Place,
  ratios,
  type Results,
  type Run,
  type Spread,
  spread,
} from "./results.ts";
import { type Behaviour, type Scenario, type ScenarioName, SCENARIOS } from "./scenarios.ts";

/** Above this share of a core, the load is full. */
const MAX_LOAD_SHARE = 0.9;
/** Above this share of a core, the server is full too, and is the limit. */
const FULL_SERVER_SHARE = 0.95;
/** If messages are sent later than this, the latency is the load's more than the server's. */
const MAX_LATE_MS = 10;
/** A server that delivers less than this share of the due messages has fallen behind. */
const MIN_DUE_SHARE = 0.97;

/** A number with three significant digits, and `k` or `M`. */
export function short(value: number): string {
  const [divisor, unit] = value >= 1e6 ? [1e6, "M"] : value >= 1e4 ? [1e3, "k"] : [1, ""];
  const scaled = value / divisor;
  return (scaled >= 100
    ? scaled.toFixed(0)
    : scaled >= 10
    ? scaled.toFixed(1)
    : scaled.toFixed(2)) +
    unit;
}

function withSpread({ median, min, max }: Spread): string {
  return min === max ? short(median) : `${short(median)} (${short(min)}-${short(max)})`;
}

/** The warnings that belong to a measurement. */
export function marks(measured: Measured, behaviour: Behaviour): string[] {
  const { mode, rate = 0 } = behaviour;
  const { loadShare, serverCpuSeconds, seconds, deliveriesPerSecond } = measured;
  const { lost, starved, closed, evicted, lateMs } = measured;
  const found: string[] = [];
  if (mode !== "idle") {
    const isServerFull = serverCpuSeconds > FULL_SERVER_SHARE * seconds;
    if (loadShare > MAX_LOAD_SHARE) {
      found.push(isServerFull ? "server and load both full" : "limited by the load");
    }
    const due = rate * readersOfRoom(behaviour);
    if (mode === "rate" && deliveriesPerSecond < MIN_DUE_SHARE * due) found.push("behind");
    if (lateMs > MAX_LATE_MS) found.push(`sent ${short(lateMs)} ms late`);
    if (lost !== 0) found.push(`${lost} lost`);
    if (starved > 0) found.push(`${starved} starved`);
  }
  if (closed > 0) found.push(`${closed} closed`);
  if (evicted > 0) found.push(`${evicted} evicted`);
  return found;
}

/** A scenario's table, as lines. */
export function scenarioTable(name: ScenarioName, runs: readonly Run[]): string[] {
  const { title, behaviour, turns }: Scenario = SCENARIOS[name];
  const isIdle = behaviour.mode === "idle";
  const head = isIdle
    ? [
      "server",
      "join CPU s",
      "join s",
      "KB each at first",
      "KB each at last",
      "RSS MB",
      "frames each",
      "KB sent each",
      "",
    ]
    : [
      "server",
      "deliveries / CPU s",
      "x gorilla",
      "deliveries / s",
      "per frame",
      "p50 ms",
      "p99 ms",
      "RSS MB",
      "CPU",
      "load",
      "",
    ];
  const rows = turns.flatMap(({ server, variant, behaviour: own }) => {
    const place: Place = { scenario: name, server, variant };
    const all = [...measuredAt(runs, place).values()];
    const failed = runs.find((run) =>
      run.scenario === name && run.server === server && run.variant === variant &&
      "failure" in run.outcome
    );
    const label = variant === undefined ? server : `${server} (${variant})`;
    const first = all[0];
    if (first === undefined) {
      return failed === undefined ? [] : [[label, (failed.outcome as { failure: string }).failure]];
    }
    const show = (metric: (seen: Measured) => number) => withSpread(spread(all.map(metric))!);
    const middle = (metric: (seen: Measured) => number) => short(spread(all.map(metric))!.median);
    const found = new Set(all.flatMap((seen) => marks(seen, { ...behaviour, ...own })));
    if (failed !== undefined) found.add((failed.outcome as { failure: string }).failure);
    const notes = [...found].join(", ");
    if (isIdle) {
      const { clients } = behaviour;
      return [[
        label,
        show((seen) => seen.joinCpuSeconds),
        middle((seen) => seen.joinSeconds),
        middle((seen) => (seen.rssBeginKb - seen.rssBeforeKb) / clients),
        middle((seen) => (seen.rssEndKb - seen.rssBeforeKb) / clients),
        middle((seen) => seen.rssEndKb / 1024),
        middle((seen) => seen.joinFrames / clients),
        middle((seen) => seen.joinBytes / 1024 / clients),
        notes,
      ]];
    }
    const gorilla: Place = { scenario: name, server: "gorilla" };
    const times = spread(ratios(runs, place, gorilla, (seen) => seen.deliveriesPerCpuSecond));
    return [[
      label,
      show((seen) => seen.deliveriesPerCpuSecond),
      times === undefined ? "" : withSpread(times),
      middle((seen) => seen.deliveriesPerSecond),
      middle((seen) => seen.messagesPerFrame),
      middle((seen) => seen.p50Ms),
      show((seen) => seen.p99Ms),
      middle((seen) => seen.rssMaxKb / 1024),
      percent(spread(all.map((seen) => seen.serverCpuSeconds / seen.seconds))!.median),
      percent(Math.max(...all.map((seen) => seen.loadShare))),
      notes,
    ]];
  });
  return ["", `${name}: ${title}`, "", ...table([head, ...rows])];
}

/** The table of the bars, and of figures without a bound. */
export function barsTable(judged: readonly Judged[]): string[] {
  const rows = judged.map(({ text, unit, bound, value, isMet }) => [
    isMet === undefined ? "shown" : isMet ? "met" : "NOT MET",
    text,
    value === undefined ? "" : `${withSpread(value)} ${unit}`.trim(),
    bound === undefined
      ? ""
      : "atLeast" in bound
      ? `at least ${bound.atLeast}`
      : `at most ${bound.atMost}`,
  ]);
  return [
    "",
    "Bars (medians; what is compared was measured in the same round)",
    "",
    ...table(rows),
  ];
}

/** The machine, the settings and the versions of a comparison. */
export function machineLines({ machine, versions, missing, options }: Results): string[] {
  const { cpu, cores, memoryGb, system, kernel, commit, pinning } = machine;
  return [
    `${cpu}, ${cores} cores, ${memoryGb} GB, ${system}, Linux ${kernel}`,
    `commit ${commit}; pinning: ${pinning}`,
    `${options.rounds} rounds of ${options.seconds} seconds`,
    ...new Set(Object.values(versions)),
    ...missing.map(({ server, install }) => `missing: ${server} (${install})`),
  ];
}

function percent(share: number): string {
  return `${Math.round(share * 100)}%`;
}

function table(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [i, cell] of row.entries()) {
      // A sentence instead of numbers widens no column.
      if (i < row.length - 1 || row.length === rows[0]!.length) {
        widths[i] = Math.max(widths[i] ?? 0, cell.length);
      }
    }
  }
  return rows.map((row) =>
    row.map((cell, i) => cell.padEnd(i < row.length - 1 ? widths[i]! : 0)).join("  ").trimEnd()
  );
}
