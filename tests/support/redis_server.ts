/** A Redis for one test: on a free port of the loopback address, with its data in a new folder. */

import { AssertionError } from "@std/assert";
import { type Folder, makeFolder } from "./folder.ts";
import { freePort } from "./free_port.ts";

/** The sentence if Redis is missing. */
export const NO_REDIS =
  "Skipped: redis-server is not installed. Install it with: apt-get install -y redis-server";
const PLACES = ["/usr/bin/redis-server", "/usr/local/bin/redis-server"];

/** Maximum wait for an expected event, in milliseconds. */
const PATIENCE_MS = 20_000;

const program = PLACES.find((path) => {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
});

/** Whether the machine has a Redis. */
export const hasRedis = program !== undefined;

/** Settings of a server, in the form of `redis.conf`. */
export type RedisSettings = readonly string[];

/** A Redis server. Disposing of it ends it, and removes its data. */
export class RedisServer implements AsyncDisposable {
  readonly port: number;
  readonly #folder: Folder;
  readonly #settings: RedisSettings;
  #process: Deno.ChildProcess | undefined;
  #isFrozen = false;

  private constructor(port: number, folder: Folder, settings: RedisSettings) {
    this.port = port;
    this.#folder = folder;
    this.#settings = settings;
  }

  /** Starts a server and waits until it answers. */
  static async start(settings: RedisSettings = []): Promise<RedisServer> {
    const server = new RedisServer(freePort(), await makeFolder(), settings);
    try {
      await server.start();
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
    return server;
  }

  /** `redis://127.0.0.1:PORT` */
  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** Starts the process again, on the same port and data, and waits until it answers. */
  async start(): Promise<void> {
    const log = { stdin: "null", stdout: "null", stderr: "null" } as const;
    const common = ["--bind", "127.0.0.1", "--dir", this.#folder.path, "--save", ""];
    const file = ["--appendonly", "yes", "--appendfsync", "everysec"];
    const port = this.#settings.includes("--tls-port") ? [] : ["--port", String(this.port)];
    const args = [...port, ...common, ...file, ...this.#settings];
    this.#process = new Deno.Command(program!, { args, ...log }).spawn();
    if (port.length > 0) {
      await this.#waitFor(async () => !(await this.ask("PING")).includes("LOAD"));
    }
  }

  /** Sends one command, and returns the reply as the wire has it. */
  async ask(...command: string[]): Promise<string> {
    using connection = await Deno.connect({ hostname: "127.0.0.1", port: this.port });
    const bytes = new TextEncoder();
    const parts = command.map((part) => `$${bytes.encode(part).length}\r\n${part}\r\n`);
    await connection.write(bytes.encode(`*${command.length}\r\n${parts.join("")}`));
    const buffer = new Uint8Array(65536);
    const count = await connection.read(buffer);
    if (count === null) throw new AssertionError("Redis closed the connection.");
    return new TextDecoder().decode(buffer.subarray(0, count));
  }

  /** Removes all data, but not the scripts. */
  async flush(): Promise<void> {
    await this.ask("FLUSHALL");
  }

  /** Stops the process cleanly. */
  async stop(): Promise<void> {
    await this.#end("SIGTERM");
  }

  /** Kills the process. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  /** Freezes the process until {@linkcode thaw}. */
  freeze(): void {
    this.#process!.kill("SIGSTOP");
    this.#isFrozen = true;
  }

  /** Continues a frozen process. */
  thaw(): void {
    if (this.#isFrozen) this.#process?.kill("SIGCONT");
    this.#isFrozen = false;
  }

  /** Starts a replica of this server, and waits until it has all data. */
  async startReplica(): Promise<RedisServer> {
    const replica = await RedisServer.start(["--repl-diskless-sync-delay", "0"]);
    await replica.ask("REPLICAOF", "127.0.0.1", String(this.port));
    await replica.#waitFor(async () =>
      (await replica.ask("INFO", "replication")).includes("master_link_status:up")
    );
    return replica;
  }

  /** Waits until a replica is up to date. */
  async level(replica: RedisServer): Promise<void> {
    await this.#waitFor(async () => {
      const [own, other] = await Promise.all([this.#offset(), replica.#offset()]);
      return own === other;
    });
  }

  /** Ends the replication to this replica, which accepts no writes and gets no later ones. */
  async cutReplication(): Promise<void> {
    await this.ask("REPLICAOF", "127.0.0.1", String(freePort()));
  }

  /** Makes a replica a primary. */
  async promote(): Promise<void> {
    await this.ask("REPLICAOF", "NO", "ONE");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await this.#folder[Symbol.asyncDispose]();
  }

  async #offset(): Promise<string> {
    return /master_repl_offset:(\d+)/.exec(await this.ask("INFO", "replication"))![1]!;
  }

  async #end(signal: Deno.Signal): Promise<void> {
    // If thawed first, the process might answer before the signal arrives.
    this.#process?.kill(signal);
    this.thaw();
    await this.#process?.status;
    this.#process = undefined;
  }

  async #waitFor(isDone: () => Promise<boolean>): Promise<void> {
    const end = performance.now() + PATIENCE_MS;
    while (!await isDone().catch(() => false)) {
      if (performance.now() > end) throw new AssertionError("Redis did not get ready.");
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}
