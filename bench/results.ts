/**
 * The results of a comparison, as they are written to disk, and figures over several rounds.
 *
 * @module
 */

import type { Measured } from "./measure.ts";
import { hasProgram, type Pinning, versionOf } from "./proc.ts";
import type { ScenarioName } from "./scenarios.ts";
import type { ServerName } from "./servers.ts";

/** One measurement of a comparison. */
export interface Run {
  readonly scenario: ScenarioName;
  readonly server: ServerName;
  readonly variant?: string;
  /** From 1. Ratios compare measurements of one round. */
  readonly round: number;
  /** The result, or why there is none. */
  readonly outcome: Measured | { failure: string };
}

/** The results of a comparison. */
export interface Results {
  readonly date: string;
  readonly machine: Machine;
  readonly options: { readonly rounds: number; readonly seconds: number };
  readonly versions: Partial<Record<ServerName, string>>;
  readonly missing: { readonly server: ServerName; readonly install: string }[];
  readonly runs: Run[];
}

/** The machine of a comparison. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGb: number;
  readonly system: string;
  readonly kernel: string;
  readonly deno: string;
  readonly commit: string;
  readonly pinning: string;
}

/** Describes this machine. */
export async function describeMachine(pinning: Pinning): Promise<Machine> {
  const read = (path: string) => Deno.readTextFile(path).catch(() => "");
  const cpu = /model name\s*:\s*(.+)/.exec(await read("/proc/cpuinfo"))?.[1] ?? Deno.build.arch;
  const name = /^PRETTY_NAME="?(.+?)"?$/m.exec(await read("/etc/os-release"))?.[1];
  const git = ["git", "-C", import.meta.dirname!, "describe", "--always", "--dirty"];
  return {
    cpu,
    cores: navigator.hardwareConcurrency,
    memoryGb: Math.round(Deno.systemMemoryInfo().total / 2 ** 30),
    system: name ?? Deno.build.os,
    kernel: Deno.osRelease(),
    deno: Deno.version.deno,
    commit: await hasProgram("git") ? await versionOf(git) ?? "unknown" : "unknown",
    pinning: pinning.isPinned
      ? `the server on one core, the load on ${pinning.loadThreads} other`
      : "none: the server and the load share the cores",
  };
}

/** The median of several rounds, and their range. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** Summarises values; `undefined` if there are none. */
export function spread(values: readonly number[]): Spread | undefined {
  if (values.length === 0) return undefined;
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
  return { median, min: sorted[0]!, max: sorted.at(-1)! };
}

/** The turns of one server in one scenario. */
export interface Place {
  readonly scenario: ScenarioName;
  readonly server: ServerName;
  readonly variant?: string | undefined;
}

/** A figure of a measurement. */
export type Metric = (measured: Measured) => number;

/** The measurements of a place, by round. */
export function measuredAt(runs: readonly Run[], place: Place): Map<number, Measured> {
  const found = new Map<number, Measured>();
  for (const { scenario, server, variant, round, outcome } of runs) {
    if (scenario !== place.scenario || server !== place.server || variant !== place.variant) {
      continue;
    }
    if (!("failure" in outcome)) found.set(round, outcome as Measured);
  }
  return found;
}

/** A figure in every round. */
export function valuesAt(runs: readonly Run[], place: Place, metric: Metric): number[] {
  return [...measuredAt(runs, place).values()].map(metric);
}

/** One place's figure divided by another's, for every round that has both. */
export function ratios(runs: readonly Run[], place: Place, to: Place, metric: Metric): number[] {
  const others = measuredAt(runs, to);
  return [...measuredAt(runs, place)].flatMap(([round, measured]) => {
    const other = others.get(round);
    return other === undefined || metric(other) === 0 ? [] : [metric(measured) / metric(other)];
  });
}
