/**
 * The comparison: every scenario and every server that this machine can run, in several rounds.
 *
 *     deno task bench [SCENARIO…] [--only=SERVER,…] [--rounds=N] [--seconds=N] [--out=FOLDER]
 *
 * Without arguments it takes about 40 minutes and writes `results/results.json` and
 * `results/chart.svg`; a partial run writes `results/partial.json` and `.svg`.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { judge, type Judged } from "./bars.ts";
import { drawChart } from "./chart.ts";
import { endAll, measure } from "./measure.ts";
import { dividePinning, type Pinning } from "./proc.ts";
import { barsTable, machineLines, scenarioTable, short } from "./report.ts";
import { describeMachine, type Results, type Run } from "./results.ts";
import { type Scenario, type ScenarioName, SCENARIOS, type Turn } from "./scenarios.ts";
import { type Built, Missing, type ServerKind, type ServerName, SERVERS } from "./servers.ts";

const ROUNDS = 3;
const SECONDS = 3;
const WARM_SECONDS = 1;

/** The command line is wrong. The message says what to write. */
class UsageError extends Error {}

interface Options {
  readonly scenarios: readonly ScenarioName[];
  readonly servers: readonly ServerName[];
  readonly rounds: number;
  readonly seconds: number;
  /** Whether it runs every scenario with every server. */
  readonly isWhole: boolean;
  readonly out: string;
}

/** What `--help` prints. */
function help(): string {
  const list = (all: Record<string, { title: string }>) =>
    Object.entries(all).map(([name, { title }]) => `  ${name.padEnd(15)} ${title}`).join("\n");
  return `Compares the server with others on this machine. Everything takes about 40 minutes.

  deno task bench [SCENARIO…] [--only=SERVER,…] [--rounds=N] [--seconds=N] [--out=FOLDER]

  --only=SERVER,…  only these servers
  --rounds=N       rounds of each scenario: ${ROUNDS}
  --seconds=N      seconds of each measurement: ${SECONDS}
  --out=FOLDER     the folder for the results: bench/results

Scenarios:
${list(SCENARIOS)}

Servers:
${list(SERVERS)}

bench/README.md says what each scenario measures. Ctrl-C ends early and writes nothing.`;
}

/**
 * Reads the command line.
 *
 * @returns `undefined` if it asks for help
 * @throws {UsageError} if an argument is wrong
 */
function readOptions(args: readonly string[]): Options | undefined {
  const { values, positionals } = parseOptions(args);
  if (values.help) return undefined;
  const names = Object.keys(SCENARIOS) as ScenarioName[];
  const servers = Object.keys(SERVERS) as ServerName[];
  const only = values.only?.split(",") ?? servers;
  return {
    scenarios: positionals.length === 0 ? names : pick("scenario", positionals, names),
    servers: pick("server", only, servers),
    rounds: whole("rounds", values.rounds, ROUNDS),
    seconds: whole("seconds", values.seconds, SECONDS),
    isWhole: positionals.length === 0 && values.only === undefined,
    out: values.out ?? `${import.meta.dirname}/results`,
  };
}

function parseOptions(args: readonly string[]) {
  const text = { type: "string" } as const;
  const help = { type: "boolean", short: "h" } as const;
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { only: text, rounds: text, seconds: text, out: text, help },
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function pick<T extends string>(what: string, wanted: readonly string[], all: readonly T[]): T[] {
  return wanted.map((name) => {
    const found = all.find((one) => one === name);
    if (found === undefined) {
      throw new UsageError(`There is no ${what} "${name}". There are: ${all.join(", ")}.`);
    }
    return found;
  });
}

function whole(name: string, text: string | undefined, byDefault: number): number {
  if (text === undefined) return byDefault;
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || value > 3600) {
    throw new UsageError(`--${name} must be a whole number from 1 to 3600, not "${text}".`);
  }
  return value;
}

/** The folder for built programs, kept between runs outside the repository. */
function cacheFolder(): string {
  const base = Deno.env.get("XDG_CACHE_HOME") ?? `${Deno.env.get("HOME") ?? "/tmp"}/.cache`;
  return `${base}/hubbub-bench`;
}

/** One comparison. */
class Bench {
  readonly #options: Options;
  readonly #results: Results;
  readonly #built: ReadonlyMap<ServerName, Built>;
  readonly #pinning: Pinning;
  readonly #folder: string;

  constructor(
    options: Options,
    parts: { results: Results; built: Map<ServerName, Built>; pinning: Pinning; folder: string },
  ) {
    this.#options = options;
    this.#results = parts.results;
    this.#built = parts.built;
    this.#pinning = parts.pinning;
    this.#folder = parts.folder;
  }

  async run(): Promise<void> {
    for (const name of this.#options.scenarios) {
      const { turns }: Scenario = SCENARIOS[name];
      const possible = turns.filter(({ server }) => this.#built.has(server));
      for (let round = 1; round <= this.#options.rounds; round++) {
        for (const turn of possible) await this.#take(name, turn, round);
      }
      print(...scenarioTable(name, this.#results.runs));
    }
  }

  async #take(name: ScenarioName, turn: Turn, round: number): Promise<void> {
    const { behaviour, minSeconds = 0, warmSeconds = WARM_SECONDS }: Scenario = SCENARIOS[name];
    const { server, variant } = turn;
    const kind: ServerKind = SERVERS[server];
    const outcome = await measure({
      kind,
      built: this.#built.get(server)!,
      behaviour: { ...behaviour, ...turn.behaviour },
      env: turn.env ?? {},
      // A shorter time on the command line counts, even below the scenario's minimum.
      seconds: this.#options.seconds < SECONDS
        ? this.#options.seconds
        : Math.max(minSeconds, this.#options.seconds),
      warmSeconds,
      pinning: this.#pinning,
      folder: this.#folder,
    });
    const run: Run = { scenario: name, server, ...(variant && { variant }), round, outcome };
    this.#results.runs.push(run);
    const found = "failure" in outcome
      ? outcome.failure
      : `${short(outcome.deliveriesPerCpuSecond)} deliveries per CPU second`;
    note(`${name} ${round}/${this.#options.rounds} ${kind.title}: ${found}`);
  }
}

/** Builds all servers that take part. */
async function build(servers: readonly ServerName[], cache: string) {
  const built = new Map<ServerName, Built>();
  const missing: Results["missing"] = [];
  for (const server of servers) {
    try {
      built.set(server, await SERVERS[server].build(cache));
    } catch (error) {
      if (!(error instanceof Missing)) throw error;
      missing.push({ server, install: error.message });
      note(`${server} is missing: ${error.message}`);
    }
  }
  return { built, missing };
}

async function write(results: Results, { out, isWhole }: Options): Promise<void> {
  const [json, svg] = isWhole ? ["results", "chart"] : ["partial", "partial"];
  await Deno.mkdir(out, { recursive: true });
  const bars = judge(results.runs);
  await Deno.writeTextFile(`${out}/${json}.json`, toJson(results, bars));
  const chart = drawChart(results);
  if (chart !== undefined) await Deno.writeTextFile(`${out}/${svg}.svg`, chart);
  print(...barsTable(bars), "", `Written to ${out}/${json}.json.`);
}

/** The results as JSON, one line for each run. */
function toJson(results: Results, bars: readonly Judged[]): string {
  const digits = (_key: string, value: unknown) =>
    typeof value === "number" ? Number(value.toPrecision(6)) : value;
  const parts = Object.entries({ ...results, bars }).map(([name, value]) => {
    const lines = Array.isArray(value)
      ? `[\n${value.map((item) => JSON.stringify(item, digits)).join(",\n")}\n]`
      : JSON.stringify(value);
    return `${JSON.stringify(name)}: ${lines}`;
  });
  return `{\n${parts.join(",\n")}\n}\n`;
}

function print(...lines: string[]): void {
  // deno-lint-ignore no-console
  for (const line of lines) console.log(line);
}

/** Prints progress, apart from the results. */
function note(line: string): void {
  // deno-lint-ignore no-console
  console.error(line);
}

async function run(): Promise<void> {
  let options: Options | undefined;
  try {
    options = readOptions(Deno.args);
    if (options === undefined) return print(help());
    if (Deno.build.os !== "linux") throw new UsageError("The bench needs Linux.");
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    note(error.message);
    Deno.exit(2);
  }
  const cache = cacheFolder();
  await Deno.mkdir(cache, { recursive: true });
  const folder = await Deno.makeTempDir({ dir: cache, prefix: "run-" });
  const clean = async () => {
    await endAll();
    await removeFolder(folder);
  };
  let isInterrupted = false;
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, async () => {
      if (isInterrupted) return;
      isInterrupted = true;
      await clean();
      Deno.exit(130);
    });
  }
  try {
    const pinning = await dividePinning();
    const { built, missing } = await build(options.servers, cache);
    const versions = Object.fromEntries([...built].map(([name, { version }]) => [name, version]));
    const results: Results = {
      date: new Date().toISOString(),
      machine: await describeMachine(pinning),
      options: { rounds: options.rounds, seconds: options.seconds },
      versions,
      missing,
      runs: [],
    };
    print(...machineLines(results));
    await new Bench(options, { results, built, pinning, folder }).run();
    await write(results, options);
  } catch (error) {
    // After an interrupt, everything fails.
    if (!isInterrupted) throw error;
  } finally {
    if (!isInterrupted) await clean();
  }
  if (!isInterrupted) Deno.exit();
}

/** Removes a folder while something else may remove parts of it. */
async function removeFolder(folder: string): Promise<void> {
  for (let left = 10;; left--) {
    try {
      return await Deno.remove(folder, { recursive: true });
    } catch (error) {
      const isThere = await Deno.stat(folder).then(() => true, () => false);
      if (!isThere) return;
      if (left === 0) throw error;
    }
  }
}

if (import.meta.main) await run();
