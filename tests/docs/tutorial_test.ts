/** The programs of docs/tutorial.md, and the experiments that show what each step mends. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { blocksIn, readPage } from "../support/docs.ts";

const ROOT = new URL("../..", import.meta.url);

const page = await readPage("tutorial.md");

/** A step: its number, its file in `docs/tutorial/`, and its part of the page. */
interface Step {
  number: number;
  file: string;
  text: string;
}

const steps: Step[] = [...page.matchAll(/^## (\d+)\. [^]*?(?=^## |(?![^]))/gm)].map((match) => {
  const [text, number] = match;
  const [file = ""] = new RegExp(`(?<=tutorial/)${number}_\\w+\\.ts`).exec(text) ?? [];
  return { number: Number(number), file, text };
});

function readProgram(file: string): Promise<string> {
  return Deno.readTextFile(new URL(`docs/tutorial/${file}`, ROOT));
}

/** Code without its indentation: on the page, each part begins at the margin. */
function dedent(code: string): string {
  return code.replaceAll(/^ +/gm, "");
}

/** The parts of the code that a step shows, between the lines that leave something out. */
function partsOf(step: Step): string[] {
  return blocksIn(step.text, "ts").flatMap((block) => dedent(block).split("// …\n"));
}

/** A command of the page, and what it prints there. */
interface Experiment {
  command: string;
  name: string;
  step: string;
  output: string;
}

const experiments: Experiment[] = blocksIn(page, "console").flatMap((block) =>
  block.split(/^\$ /m).slice(1).map((text) => {
    const [command, ...lines] = text.split("\n");
    const [, name, step] = /^deno run -A docs\/tutorial\/try\/(\w+)\.ts (\d+)$/.exec(command!)!;
    return { command: command!, name: name!, step: step!, output: lines.join("\n") };
  })
);

/** Numbers that no two runs have in common. */
const MEASURED = /[\d,]+(?= (?:MB|ms|frames|phones|of the 1,000)\b)/g;

/** Maximum experiments at a time. Most of their time they wait. */
const LANES = 3;

/** How long an experiment may take before the test fails, in milliseconds. */
const PATIENCE_MS = 30_000;

/** Runs an experiment. Returns what it prints. */
async function run({ name, step }: Pick<Experiment, "name" | "step">): Promise<string> {
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "-q", `docs/tutorial/try/${name}.ts`, step],
    cwd: ROOT,
    env: { NO_COLOR: "1", FORCE_COLOR: "" },
    stdin: "null",
    signal: AbortSignal.timeout(PATIENCE_MS),
  }).output();
  return new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
}

/** Runs experiments, each at another step if one is given. */
async function runAll(experiments: Experiment[], step?: string): Promise<Map<Experiment, string>> {
  const outputs = new Map<Experiment, string>();
  const waiting = experiments.values();
  const lane = async () => {
    for (const one of waiting) outputs.set(one, await run({ ...one, ...(step && { step }) }));
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  return outputs;
}

describe("docs/tutorial.md", () => {
  it("has a program for each step, and shows it, or all that is new in it", async () => {
    assertEquals(steps.map(({ number }) => number), steps.map((_, i) => i + 1));
    assert(steps.length >= 12);
    let before = new Set<string>();
    for (const step of steps) {
      const program = dedent(await readProgram(step.file));
      const parts = partsOf(step);
      for (const part of parts) {
        assert(program.includes(part), `${step.file} does not have:\n${part}`);
      }
      const shown = new Set(parts.join("").split("\n"));
      const [, ...lines] = program.split("\n");
      const hidden = lines.filter((line) => !before.has(line) && !shown.has(line));
      assertEquals(hidden, [], `${step.file} has lines that the page does not show.`);
      before = new Set(lines);
    }
  });

  it("runs each experiment before and behind its step", () => {
    const names = new Set(experiments.map(({ name }) => name));
    for (const [i, name] of [...names].entries()) {
      const numbers = experiments.filter((one) => one.name === name).map(({ step }) => step);
      assertEquals(numbers, [`${i + 1}`, `${i + 2}`], name);
    }
    assertEquals(names.size, steps.length - 1);
  });

  it("prints what the experiments print: the fault before a step, and none behind it", async () => {
    const outputs = await runAll(experiments);
    for (const [{ command, output }, actual] of outputs) {
      assertEquals(actual.replace(MEASURED, "N"), output.replace(MEASURED, "N"), command);
    }
    /** The number before a word in the output of an experiment before a step, and behind it. */
    const figures = (name: string, word: string): [number, number] => {
      const found = experiments.filter((one) => one.name === name).map((one) => {
        const [figure] = new RegExp(`[\\d,]+(?= ${word})`).exec(outputs.get(one)!)!;
        return Number(figure.replaceAll(",", ""));
      });
      return found as [number, number];
    };
    const assertFalls = (name: string, word: string, factor: number) => {
      const [before, behind] = figures(name, word);
      assert(behind * factor <= before, `${name}: ${before} ${word}, then ${behind}`);
    };
    assertEquals(figures("half_open", "phones")[1], 0);
    assertFalls("half_open", "phones", 1);
    assert(figures("half_open", "phones")[0] > 0);
    assertFalls("slow_reader", "MB", 1.5);
    assertFalls("flood", "of the 1,000", 5);
    assertFalls("busy", "frames", 5);
    assertFalls("busy", "ms", 1);
  });

  it("ends with a program that has none of the faults", async () => {
    // The slow reader's room sends frames that step 7 refuses, and a plain frame is not for step 3.
    const except = ["room", "slow_reader"];
    const mended = experiments.filter(({ name }, i) => i % 2 === 1 && !except.includes(name));
    const outputs = await runAll(mended, `${steps.length}`);
    for (const [{ name, output }, actual] of outputs) {
      assertEquals(actual.replace(MEASURED, "N"), output.replace(MEASURED, "N"), name);
    }
  });
});
