/**
 * Two instances that share a Redis, and one instance: 50 rooms of 32, whose members each send the
 * next message when the last one comes back. The members of a room are spread over both instances.
 *
 *     deno task bench:instances [--rounds=N] [--seconds=N]
 *
 * Two instances are measured in two ways. With a core for each, and the load and Redis on the
 * second core: their deliveries a second. On one core, like the one instance, and the load and
 * Redis on the others: their deliveries per second of CPU time, together.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { freePort } from "../tests/support/free_port.ts";
import { RedisServer } from "../tests/support/redis_server.ts";
import { endAll, type Process, spawn, untilListening } from "./measure.ts";
import type { LoadPlan, LoadResult } from "./plan.ts";
import { dividePinning, type Pinning } from "./proc.ts";
import { HUBBUB_ENV } from "./servers.ts";

const ROOMS = 50;
const MEMBERS = 32;
const WARM_SECONDS = 2;

/** The number of instances, and whether each has its own core. */
const SETUPS = {
  one: { title: "one instance", count: 1, isApart: false },
  apart: { title: "two, a core for each", count: 2, isApart: true },
  together: { title: "two on one core", count: 2, isApart: false },
} as const;

type Setup = keyof typeof SETUPS;

/** The result of a run, and the share of a core that Redis used. */
type Seen = LoadResult & { redisShare: number };

async function start(
  redis: RedisServer,
  pinning: readonly string[],
): Promise<Process & { port: number }> {
  const port = freePort();
  const env = { ...HUBBUB_ENV, PORT: String(port), DATABASE_URL: redis.url };
  const main = new URL("../main.ts", import.meta.url).pathname;
  const process = spawn(pinning, {
    command: [Deno.execPath(), "run", "-A", "--no-lock", main],
    env,
  });
  await untilListening(port, process);
  return Object.assign(process, { port });
}

/** Seconds of CPU time that Redis has used. */
async function redisCpu(redis: RedisServer): Promise<number> {
  const found = (await redis.ask("INFO", "cpu")).matchAll(/used_cpu_(?:sys|user):([\d.]+)/g);
  return [...found].reduce((sum, [, seconds]) => sum + Number(seconds), 0);
}

async function measure(setup: Setup, seconds: number, pinning: Pinning): Promise<Seen> {
  const { count, isApart } = SETUPS[setup];
  await using redis = await RedisServer.start();
  const [first, ...others] = await Promise.all(
    Array.from(
      { length: count },
      (_, i) => start(redis, isApart && i > 0 ? pinning.load : pinning.server),
    ),
  );
  const plan: LoadPlan = {
    ...{ mode: "own", dialect: "v1", clients: ROOMS * MEMBERS, rooms: ROOMS },
    ...{ port: first!.port, pid: first!.pid },
    siblings: others.map(({ port, pid }) => ({ port, pid })),
    ...{ workers: pinning.loadThreads, seconds, warmSeconds: WARM_SECONDS },
  };
  const script = new URL("./load.ts", import.meta.url).pathname;
  const before = [performance.now(), await redisCpu(redis)] as const;
  const load = spawn(pinning.load, {
    command: [Deno.execPath(), "run", "-A", "--no-config", script, JSON.stringify(plan)],
  });
  await load.exited;
  const redisShare = (await redisCpu(redis) - before[1]) * 1000 / (performance.now() - before[0]);
  for (const process of [first!, ...others]) await process[Symbol.asyncDispose]();
  const result = JSON.parse(load.stdout || JSON.stringify({ failure: load.stderr }));
  if ("failure" in result) throw new Error(result.failure);
  return { ...result, redisShare };
}

function describe(setup: Setup, seen: Seen): string {
  const whole = (value: number) => String(Math.round(value));
  return [
    `${SETUPS[setup].title}:`,
    `${whole(seen.deliveriesPerSecond)} deliveries a second,`,
    `${whole(seen.deliveriesPerCpuSecond)} for a CPU second of the instances,`,
    `p50 ${seen.p50Ms.toFixed(1)} ms; ${seen.lost} lost; of a core:`,
    `instances ${(seen.serverCpuSeconds / seen.seconds).toFixed(2)},`,
    `load ${seen.loadShare.toFixed(2)}, Redis ${seen.redisShare.toFixed(2)}`,
  ].join(" ");
}

async function run(): Promise<void> {
  const text = { type: "string" } as const;
  const { values } = parseArgs({
    args: Deno.args,
    options: { rounds: text, seconds: text, help: { type: "boolean", short: "h" } },
  });
  if (values.help) return print("deno task bench:instances [--rounds=5] [--seconds=5]");
  const pinning = await dividePinning();
  const names = Object.keys(SETUPS) as Setup[];
  const rounds: Record<Setup, Seen>[] = [];
  for (let round = 0; round < Number(values.rounds ?? 5); round++) {
    const seen = new Map<Setup, Seen>();
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      seen.set(name, await measure(name, Number(values.seconds ?? 5), pinning));
      print(describe(name, seen.get(name)!));
    }
    rounds.push(Object.fromEntries(seen) as Record<Setup, Seen>);
  }
  const ratio = (setup: Setup, figure: "deliveriesPerSecond" | "deliveriesPerCpuSecond") =>
    median(rounds.map((seen) => seen[setup][figure] / seen.one[figure]));
  print(
    `With a core for each, two deliver ${ratio("apart", "deliveriesPerSecond")} x as much in a`,
  );
  print(
    `second (at least 1.5), ${ratio("apart", "deliveriesPerCpuSecond")} x for a CPU second; on`,
  );
  print(`one core ${ratio("together", "deliveriesPerCpuSecond")} x for a CPU second.`);
}

function median(values: readonly number[]): string {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!.toFixed(2);
}

function print(line: string): void {
  // deno-lint-ignore no-console
  console.log(line);
}

if (import.meta.main) {
  Deno.addSignalListener("SIGINT", () => void endAll());
  await run();
}
