/**
 * Two instances on one Redis beside one: 50 rooms of 32, each of whom sends as its last message comes
 * back. The members of a room are spread over both instances.
 *
 *     deno task bench:instances [--rounds=N] [--seconds=N]
 *
 * All instances share one core, the load and Redis have the others. So what is compared is what the
 * instances deliver for a second of their CPU time, all together: twice as many cores for twice as
 * many instances give twice the ratio, as long as Redis keeps up.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { freePort, RedisServer } from "../tests/support/redis_server.ts";
import { endAll, type Process, spawn, untilListening } from "./measure.ts";
import type { LoadPlan, LoadResult } from "./plan.ts";
import { dividePinning, type Pinning } from "./proc.ts";
import { HUBBUB_ENV } from "./servers.ts";

const ROOMS = 50;
const MEMBERS = 32;
const WARM_SECONDS = 2;

/** What a run has seen, and the share of a core that Redis used. */
type Seen = LoadResult & { redisShare: number };

async function start(redis: RedisServer, { server }: Pinning): Promise<Process & { port: number }> {
  const port = freePort();
  const env = { ...HUBBUB_ENV, PORT: String(port), DATABASE_URL: redis.url };
  const main = new URL("../main.ts", import.meta.url).pathname;
  const process = spawn(server, {
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

async function measure(count: number, seconds: number, pinning: Pinning): Promise<Seen> {
  await using redis = await RedisServer.start();
  const [first, ...others] = await Promise.all(
    Array.from({ length: count }, () => start(redis, pinning)),
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

function describe(count: number, seen: Seen): string {
  const whole = (value: number) => String(Math.round(value));
  return [
    `${count} instance${count === 1 ? "" : "s"}:`,
    `${whole(seen.deliveriesPerSecond)} deliveries a second,`,
    `${whole(seen.deliveriesPerCpuSecond)} for a CPU second of the instances,`,
    `p50 ${seen.p50Ms.toFixed(1)} ms; ${seen.lost} lost; of a core:`,
    `instances ${(seen.serverCpuSeconds / seen.seconds).toFixed(2)},`,
    `load ${seen.loadShare.toFixed(2)}, Redis ${seen.redisShare.toFixed(2)}`,
  ].join(" ");
}

async function run(): Promise<void> {
  const text = { type: "string" } as const;
  const { values } = parseArgs({ args: Deno.args, options: { rounds: text, seconds: text } });
  const pinning = await dividePinning();
  const ratios: number[] = [];
  for (let round = 0; round < Number(values.rounds ?? 5); round++) {
    const seen = new Map<number, Seen>();
    for (const count of round % 2 === 0 ? [1, 2] : [2, 1]) {
      seen.set(count, await measure(count, Number(values.seconds ?? 5), pinning));
      print(describe(count, seen.get(count)!));
    }
    ratios.push(seen.get(2)!.deliveriesPerCpuSecond / seen.get(1)!.deliveriesPerCpuSecond);
  }
  const median = ratios.toSorted((a, b) => a - b)[Math.floor(ratios.length / 2)]!;
  print(
    `For a CPU second, two instances deliver ${median.toFixed(2)} x what one does: with a core`,
  );
  print(`for each, ${(2 * median).toFixed(2)} x (at least 1.5).`);
}

function print(line: string): void {
  // deno-lint-ignore no-console
  console.log(line);
}

if (import.meta.main) {
  Deno.addSignalListener("SIGINT", () => void endAll());
  await run();
}
