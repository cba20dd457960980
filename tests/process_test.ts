import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";

const MODULE = new URL("../lib/process.ts", import.meta.url).href;
const LOGGER = new URL("../lib/logger.ts", import.meta.url).href;

/** Starts a program that has all of the module's functions, and a logger. */
function spawn(program: string, env: Record<string, string> = {}): Deno.ChildProcess {
  const functions = "endOnSignal, fail, keepBuffersSmall, surviveErrors";
  const code = `
    import { ${functions} } from "${MODULE}";
    import { createLogger } from "${LOGGER}";
    const logger = createLogger({ level: "info", clock: () => 0 });
    ${program}`;
  return new Deno.Command(Deno.execPath(), {
    args: ["eval", "--no-lock", code],
    env: { ...env, NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Runs such a program to its end. */
async function run(program: string, env: Record<string, string> = {}) {
  const { code, stdout, stderr } = await spawn(program, env).output();
  const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes).trim();
  return { code, out: decode(stdout), err: decode(stderr) };
}

/**
 * Runs such a program, and sends it signals when it has written a line.
 *
 * @returns the code it ended with, and every line it wrote
 */
async function signal(
  program: string,
  signals: Record<string, Deno.Signal[]>,
): Promise<{ code: number; lines: string[] }> {
  const child = spawn(program);
  const lines: string[] = [];
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    for (const line of text.trim().split("\n")) {
      lines.push(line);
      for (const one of signals[line] ?? []) child.kill(one);
    }
  }
  await child.stderr.cancel();
  const { code } = await child.status;
  return { code, lines };
}

describe("keepBuffersSmall", () => {
  const PROGRAM = 'keepBuffersSmall(); console.log(Deno.env.get("DENO_USE_WRITEV"));';

  it("sets the variable of the runtime, unless it is set already", async () => {
    assertEquals((await run(PROGRAM)).out, "1");
    assertEquals((await run(PROGRAM, { DENO_USE_WRITEV: "0" })).out, "0");
  });
});

describe("surviveErrors", () => {
  it("logs what nobody caught, and the process lives on", async () => {
    const { code, out, err } = await run(`
      surviveErrors(logger);
      setTimeout(() => { throw new Error("thrown"); });
      Promise.reject("rejected");
      setTimeout(() => console.log("alive"), 50);`);
    assertEquals([code, err], [0, ""]);
    const lines = out.split("\n");
    assertEquals(lines.pop(), "alive");
    const logged = lines.map((line) => JSON.parse(line));
    assertEquals(logged.map(({ level, msg, error }) => [level, msg, error]).sort(), [
      ["error", "error", "Error: thrown"],
      ["error", "unhandledrejection", "rejected"],
    ]);
  });
});

describe("endOnSignal", () => {
  const program = (ms: number) => `
    endOnSignal(async () => {
      console.log("stopping");
      await new Promise((resolve) => setTimeout(resolve, ${ms}));
      console.log("stopped");
    });
    setInterval(() => {}, 1000);
    console.log("started");`;

  for (const first of ["SIGINT", "SIGTERM"] as const) {
    it(`ends the process with 0 at ${first}, when all is stopped`, async () => {
      const { code, lines } = await signal(program(50), { started: [first] });
      assertEquals([code, lines], [0, ["started", "stopping", "stopped"]]);
    });
  }

  it("stops once, however many signals come", async () => {
    const { code, lines } = await signal(program(500), {
      started: ["SIGINT"],
      stopping: ["SIGINT", "SIGTERM"],
    });
    assertEquals([code, lines], [0, ["started", "stopping", "stopped"]]);
  });
});

describe("fail", () => {
  it("ends the process with 1 and a sentence for the person who started it", async () => {
    const { code, out, err } = await run('fail("It cannot be."); console.log("never");');
    assertEquals([code, out, err], [1, "", "It cannot be."]);
  });
});
