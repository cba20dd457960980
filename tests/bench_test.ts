/** The bench runs, counts correctly, and leaves nothing behind. Its speed is not tested. */

import {
  assert,
  assertEquals,
  AssertionError,
  assertMatch,
  assertStringIncludes,
} from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { SCENARIOS } from "../bench/scenarios.ts";
import { SERVERS } from "../bench/servers.ts";
import { processesWith } from "./support/processes.ts";

const MAIN = new URL("../bench/main.ts", import.meta.url).pathname;
const MEMBERS = 32;

/** A run of the bench, and the folder of its files. */
class BenchRun implements AsyncDisposable {
  readonly #id = crypto.randomUUID();
  readonly #folder = Deno.makeTempDirSync();
  readonly #child: Deno.ChildProcess;
  stdout = "";
  stderr = "";
  readonly exited: Promise<number>;
  #hasEnded = false;

  constructor(...args: string[]) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-lock", "--no-check", MAIN, `--out=${this.#folder}/out`, ...args],
      // All its processes inherit the id.
      env: { XDG_CACHE_HOME: `${this.#folder}/cache`, DENO_DIR: denoDir(), BENCH_RUN: this.#id },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const read = async (name: "stdout" | "stderr") => {
      const texts = this.#child[name].pipeThrough(new TextDecoderStream());
      for await (const text of texts) this[name] += text;
    };
    const ended = Promise.all([this.#child.status, read("stdout"), read("stderr")]);
    this.exited = ended.then(([{ code }]) => {
      this.#hasEnded = true;
      return code;
    });
  }

  /** Resolves when it measures: the load and the server run. */
  async measures(): Promise<void> {
    const isLoad = (pid: number) => {
      try {
        return Deno.readTextFileSync(`/proc/${pid}/cmdline`).includes("load.ts");
      } catch {
        return false;
      }
    };
    while (!this.processes().some(isLoad)) {
      if (this.#hasEnded) throw new AssertionError(`The bench has ended. ${this.stderr}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  interrupt(): void {
    this.#child.kill("SIGINT");
  }

  async results() {
    return JSON.parse(await Deno.readTextFile(`${this.#folder}/out/partial.json`));
  }

  /** Its processes, by id. */
  processes(): number[] {
    return processesWith(this.#id);
  }

  /** Its leftover files and processes. */
  left(): unknown[] {
    const files = [...Deno.readDirSync(`${this.#folder}/cache/hubbub-bench`)];
    return [...files.map(({ name }) => name), ...this.processes()];
  }

  async [Symbol.asyncDispose]() {
    try {
      this.#child.kill("SIGINT");
    } catch {
      // It has ended.
    }
    await this.exited;
    await Deno.remove(this.#folder, { recursive: true });
  }
}

/** The runtime's cache, so that a run in another folder downloads nothing. */
function denoDir(): string {
  const caches = Deno.env.get("XDG_CACHE_HOME") ?? `${Deno.env.get("HOME")}/.cache`;
  return Deno.env.get("DENO_DIR") ?? `${caches}/deno`;
}

const whereItRuns = Deno.build.os === "linux" ? it : it.skip;

describe("The bench", () => {
  whereItRuns("counts what a room of 32 says, and leaves nothing behind", async () => {
    await using bench = new BenchRun("room", "--only=hubbub-memory", "--rounds=1", "--seconds=1");
    assertEquals(await bench.exited, 0, bench.stderr);
    const { runs: [run], machine, missing } = await bench.results();
    assertEquals(missing, []);
    assert(machine.cores > 0);
    const { outcome, ...place } = run;
    assertEquals(place, { scenario: "room", server: "hubbub-memory", round: 1 });
    assertEquals([outcome.lost, outcome.closed, outcome.evicted], [0, 0, 0]);
    // Messages in flight at the start and the end of the count make the difference.
    const { sent, deliveries } = outcome;
    assert(sent > 0);
    assert(Math.abs(deliveries / MEMBERS - sent) <= 2 * MEMBERS, `${sent} and ${deliveries}`);
    assert(outcome.serverCpuSeconds > 0 && outcome.p99Ms >= outcome.p50Ms);
    assert(outcome.messagesPerFrame >= 1);
    assertEquals(bench.left(), []);
  });

  whereItRuns(
    "starves no member of 1,000 busy rooms",
    async () => {
      await using bench = new BenchRun(
        "pairs",
        "--only=hubbub-memory",
        "--rounds=1",
        "--seconds=3",
      );
      assertEquals(await bench.exited, 0, bench.stderr);
      const { runs: [run] } = await bench.results();
      assertEquals([run.outcome.starved, run.outcome.lost], [0, 0]);
    },
  );

  whereItRuns("leaves nothing behind when it is interrupted", async () => {
    await using bench = new BenchRun("room", "--only=hubbub-memory", "--seconds=60");
    await bench.measures();
    bench.interrupt();
    assertEquals(await bench.exited, 130);
    assertEquals(bench.left(), []);
  });

  for (const option of ["--help", "-h"]) {
    it(`says with ${option} how to call it, and measures nothing`, async () => {
      await using bench = new BenchRun(option);
      assertEquals([await bench.exited, bench.stderr], [0, ""]);
      assertStringIncludes(bench.stdout, "deno task bench [SCENARIO…] [--only=SERVER,…]");
      for (const name of [...Object.keys(SCENARIOS), ...Object.keys(SERVERS)]) {
        assertMatch(bench.stdout, new RegExp(`^  ${name} `, "m"));
      }
    });
  }

  whereItRuns("says what there is when asked for what there is not", async () => {
    await using bench = new BenchRun("rome");
    assertEquals(await bench.exited, 2);
    assert(bench.stderr.startsWith('There is no scenario "rome". There are: room, '));
  });
});
