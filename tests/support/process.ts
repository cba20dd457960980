/** The server as people run it: a separate process, on a free port of the loopback address. */

import { assertEquals, AssertionError } from "@std/assert";
import { TEST_ENV } from "./server.ts";

/** Maximum wait for an expected event, in milliseconds. */
const PATIENCE_MS = 30_000;

const ROOT = new URL("../..", import.meta.url).pathname;

export interface LogLine {
  time: string;
  level: string;
  msg: string;
  [field: string]: unknown;
}

/** How a process ended. */
export interface Exit {
  code: number;
  signal: Deno.Signal | null;
}

export interface ProcessOptions {
  /** Settings beside the defaults, as environment variables. */
  env?: Record<string, string>;
  /** Maximum open files. @default this process's maximum */
  maxOpenFiles?: number;
  /** The permissions of the process, as flags. @default all */
  permissions?: readonly string[];
  /** Its lock file. @default that of the tests */
  lock?: string;
  /** The module to run. @default this repository's `main.ts` */
  main?: string;
  /**
   * The working directory. @default a temporary folder, so that no test opens the `chat.db` of the
   * person who runs the tests
   */
  cwd?: string;
}

/** A server process. Disposing of it kills it if it still runs. */
export class ServerProcess implements AsyncDisposable {
  /** The log lines so far. */
  readonly log: LogLine[] = [];
  /** Its standard error so far. */
  stderr = "";
  /** How it ended. */
  readonly exited: Promise<Exit>;
  #port = 0;
  readonly #child: Deno.ChildProcess;
  /** The folder that ends with it. */
  readonly #folder: string | undefined;
  /** Resolves at the end of both outputs. */
  readonly #outputs: Promise<unknown>;
  #hasEnded = false;
  #wake: () => void = () => {};

  private constructor(child: Deno.ChildProcess, folder: string | undefined) {
    this.#child = child;
    this.#folder = folder;
    this.#outputs = Promise.all([this.#readLog(child.stdout), this.#readErrors(child.stderr)]);
    this.exited = this.#watch();
  }

  /** Starts a server and waits until it listens. */
  static async start(options: ProcessOptions = {}): Promise<ServerProcess> {
    const server = ServerProcess.spawn(options);
    try {
      const { msg } = await server.logLine(({ msg }) => msg.startsWith("Server starting on :"));
      server.#port = Number(msg.split(":")[1]);
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
    return server;
  }

  /** Starts a server. */
  static spawn(options: ProcessOptions = {}): ServerProcess {
    const { env = {}, maxOpenFiles, permissions = ["-A"] } = options;
    const flags = ["--no-prompt", `--lock=${options.lock ?? `${ROOT}tests/deno.lock`}`];
    const main = options.main ?? `${ROOT}main.ts`;
    const command = [Deno.execPath(), "run", ...flags, ...permissions, main];
    if (maxOpenFiles !== undefined) {
      command.unshift("sh", "-c", `ulimit -n ${maxOpenFiles}; exec "$@"`, "sh");
    }
    const [program, ...args] = command;
    const folder = options.cwd === undefined ? Deno.makeTempDirSync() : undefined;
    const child = new Deno.Command(program!, {
      args,
      cwd: options.cwd ?? folder!,
      env: { ...TEST_ENV, ...env },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    return new ServerProcess(child, folder);
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** Its port. */
  get port(): number {
    return this.#port;
  }

  /** `http://127.0.0.1:PORT` */
  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** `ws://127.0.0.1:PORT` */
  get ws(): string {
    return `ws://127.0.0.1:${this.#port}`;
  }

  /** The first log line, past or future, that satisfies `isWanted`. */
  async logLine(isWanted: (line: LogLine) => boolean): Promise<LogLine> {
    const stop = AbortSignal.timeout(PATIENCE_MS);
    stop.onabort = () => this.#wake();
    for (let next = 0;; next++) {
      while (next === this.log.length) {
        if (this.#hasEnded) this.#fail("The server process ended");
        if (stop.aborted) this.#fail("The server did not write the log line");
        await new Promise<void>((resolve) => this.#wake = resolve);
      }
      if (isWanted(this.log[next]!)) {
        stop.onabort = null;
        return this.log[next]!;
      }
    }
  }

  /** Sends a signal. */
  kill(signal: Deno.Signal): void {
    if (!this.#hasEnded) this.#child.kill(signal);
  }

  /** Sends a signal and waits for the end. */
  async stop(signal: Deno.Signal = "SIGTERM"): Promise<Exit> {
    this.kill(signal);
    return await this.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop("SIGKILL");
  }

  async #watch(): Promise<Exit> {
    const { code, signal } = await this.#child.status;
    await this.#outputs;
    if (this.#folder !== undefined) await Deno.remove(this.#folder, { recursive: true });
    this.#hasEnded = true;
    this.#wake();
    return { code, signal };
  }

  async #readLog(stdout: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<void> {
    let rest = "";
    for await (const text of stdout.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop()!;
      for (const line of lines) this.log.push(JSON.parse(line));
      this.#wake();
    }
  }

  async #readErrors(stderr: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<void> {
    for await (const text of stderr.pipeThrough(new TextDecoderStream())) this.stderr += text;
  }

  #fail(what: string): never {
    const log = this.log.map((line) => JSON.stringify(line)).join("\n");
    throw new AssertionError(`${what}.\n${log}\n${this.stderr}`);
  }
}

/** Starts a server that must fail, and returns its output. */
export async function startInVain(options: ProcessOptions): Promise<string> {
  await using server = ServerProcess.spawn(options);
  assertEquals((await server.exited).code, 1);
  return server.stderr;
}
