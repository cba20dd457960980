/**
 * One measurement: starts a server and a load, and removes both.
 *
 * @module
 */

import { freePort } from "../tests/support/free_port.ts";
import type { LoadPlan, LoadResult } from "./plan.ts";
import type { Pinning } from "./proc.ts";
import type { Behaviour } from "./scenarios.ts";
import type { Built, Command, ServerKind } from "./servers.ts";

/** How long a server may take to listen, in milliseconds. */
const START_MS = 20_000;
/** How much longer than planned a run may take, in milliseconds. */
const RUN_MS = 120_000;
const RETRY_MS = 20;

/** The settings of one measurement. */
export interface MeasureOptions {
  readonly kind: ServerKind;
  readonly built: Built;
  readonly behaviour: Behaviour;
  readonly env: Readonly<Record<string, string>>;
  readonly seconds: number;
  readonly warmSeconds: number;
  readonly pinning: Pinning;
  /** A folder on disk. */
  readonly folder: string;
}

/** The result of the load, and how many members the server evicted as too slow. */
export type Measured = LoadResult & { evicted: number };

/** The running processes. */
const running = new Set<Deno.ChildProcess>();
let isOver = false;

/** Ends the running processes, and makes no more measurements. Call it when the bench must end. */
export async function endAll(): Promise<void> {
  isOver = true;
  while (running.size > 0) {
    for (const child of running) kill(child);
    await Promise.all([...running].map(({ status }) => status));
  }
}

/** Starts a server, loads it, and ends it. */
export async function measure(options: MeasureOptions): Promise<Measured | { failure: string }> {
  if (isOver) return await new Promise(() => {});
  const { kind, built, behaviour, seconds, warmSeconds, pinning, env } = options;
  const port = freePort();
  const folder = await Deno.makeTempDir({ dir: options.folder });
  const command = built.start({ port, folder });
  await using server = spawn(pinning.server, { ...command, env: { ...command.env, ...env } });
  await using _ = { [Symbol.asyncDispose]: () => remove(folder, server) };
  try {
    await untilListening(port, server);
  } catch (error) {
    return { failure: (error as Error).message };
  }
  const plan: LoadPlan = {
    ...behaviour,
    port,
    pid: server.pid,
    dialect: kind.dialect,
    workers: Math.min(pinning.loadThreads, behaviour.clients),
    seconds,
    warmSeconds,
  };
  const args = ["run", "-A", "--no-config", `${import.meta.dirname}/load.ts`, JSON.stringify(plan)];
  await using load = spawn(pinning.load, { command: [Deno.execPath(), ...args] });
  const timer = setTimeout(() => load.kill(), RUN_MS + (seconds + warmSeconds) * 1000);
  await load.exited;
  clearTimeout(timer);
  if (isOver) return { failure: "The bench was ended." };
  const { stdout, stderr } = load;
  if (stdout === "") return { failure: `The load ended early. ${stderr}`.trim() };
  const result = JSON.parse(stdout);
  if ("failure" in result) return result;
  return { ...result, evicted: server.stdout.split('"msg":"member evicted"').length - 1 };
}

/** A process and its output. */
export interface Process extends AsyncDisposable {
  readonly pid: number;
  readonly exited: Promise<unknown>;
  readonly stdout: string;
  readonly stderr: string;
  kill(): void;
}

/** Starts a process that {@linkcode endAll} ends. */
export function spawn(pinning: readonly string[], { command, env = {} }: Command): Process {
  const [program, ...args] = [...pinning, ...command];
  const options = { args, env, stdin: "null", stdout: "piped", stderr: "piped" } as const;
  const child = new Deno.Command(program!, options).spawn();
  running.add(child);
  const printed = { stdout: "", stderr: "" };
  const collect = async (name: "stdout" | "stderr") => {
    for await (const text of child[name].pipeThrough(new TextDecoderStream())) {
      printed[name] += text;
    }
  };
  child.status.then(() => running.delete(child));
  const exited = Promise.all([child.status, collect("stdout"), collect("stderr")]);
  return Object.assign(printed, {
    pid: child.pid,
    exited,
    kill: () => kill(child),
    async [Symbol.asyncDispose]() {
      kill(child);
      await exited;
    },
  });
}

function kill(child: Deno.ChildProcess): void {
  try {
    child.kill("SIGKILL");
  } catch {
    // It has ended.
  }
}

async function remove(folder: string, server: Process): Promise<void> {
  server.kill();
  await server.exited;
  await Deno.remove(folder, { recursive: true });
}

/** Waits until a server accepts connections. @throws {Error} if it ends, or takes too long */
export async function untilListening(port: number, server: Process): Promise<void> {
  let hasEnded = false;
  server.exited.then(() => hasEnded = true);
  for (let waited = 0; waited < START_MS; waited += RETRY_MS) {
    if (hasEnded) throw new Error(`The server ended at once. ${server.stderr}`.trim());
    try {
      (await Deno.connect({ hostname: "127.0.0.1", port })).close();
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
  throw new Error(`The server did not listen. ${server.stderr}`.trim());
}
