/**
 * Starts and stops the server: reads the configuration, makes every part and connects them.
 *
 *     deno run -A main.ts
 *
 * @module
 */

import { setImmediate } from "node:timers";
import { Hub } from "./hub.ts";
import { type Config, ConfigError, findTypos, readConfig } from "./lib/config.ts";
import type { Engine } from "./lib/engine/engine.ts";
import { MemoryEngine } from "./lib/engine/memory.ts";
import type { Backend } from "./lib/engine/remote/backend.ts";
import { ChatError } from "./lib/errors.ts";
import { createApp } from "./lib/http/app.ts";
import { Connections } from "./lib/http/connections.ts";
import { Health } from "./lib/http/health.ts";
import { Listener } from "./lib/http/listener.ts";
import { createLogger, createThrottledLogger, errorFields, type Logger } from "./lib/logger.ts";
import type { Metrics } from "./lib/metrics/metrics.ts";
import { Accounts } from "./lib/people/accounts.ts";
import { Passwords } from "./lib/people/passwords.ts";
import { fail, keepBuffersSmall, runUntilSignal, surviveErrors } from "./lib/process.ts";
import { CLOSE } from "./lib/protocol/codes.ts";
import { RateLimiter, TrafficLimiter } from "./lib/rate_limit.ts";
import { createIds, Timers, Turn, within } from "./lib/time.ts";

/** How long from one sweep to the next, in milliseconds. */
const SWEEP_MS = 1000;

/** How many refusals are logged in a burst; beyond it, one a second. */
const REFUSALS_AT_ONCE = 10;

/** How long a stop waits for the drain and for connections to close, in milliseconds. */
const CLOSE_WAIT_MS = 2500;

/** How long a stop then waits for HTTP requests in flight, in milliseconds. */
const SHUTDOWN_WAIT_MS = 1000;

/** How long this instance counts as alive after its last renewal, in milliseconds. */
const LEASE_MS = 10_000;

/**
 * Modules that few servers need. Imported by a literal name, each would be read at every start.
 */
const MODULES = {
  remote: "./lib/engine/remote/remote_engine.ts",
  postgres: "./lib/engine/postgres/postgres.ts",
  redis: "./lib/engine/redis/redis.ts",
  metrics: "./lib/metrics/metrics.ts",
  opentelemetry: "./lib/metrics/opentelemetry.ts",
} as const;

/** The server cannot start. The message says why, for the person who started it. */
export class StartError extends Error {
  /** Distinguishes it from other errors. */
  override readonly name = "StartError";

  /**
   * Makes the error of a start.
   *
   * @param action what the server cannot do, for a sentence that begins with `Cannot`
   * @param cause the error that says why
   */
  constructor(action: string, cause: unknown) {
    super(`Cannot ${action}: ${(cause as Error).message}`);
  }
}

export { ConfigError, createLogger, readConfig };
export type * from "./lib/config.ts";
export type { LogFields, Logger, LoggerOptions, LogLevel } from "./lib/logger.ts";
export type { Rate } from "./lib/rate_limit.ts";

/** A running server. */
export interface Server {
  /** The port it listens on. */
  readonly port: number;
  /** Drains the hub and closes everything, within 5 seconds. */
  stop(): Promise<void>;
}

/**
 * Starts the server.
 *
 * @throws {StartError} if it cannot open the store or listen on the address
 */
export async function start(config: Config, logger: Logger): Promise<Server> {
  if (config.listen.reusePort) checkReusePort();
  const clock = () => performance.now();
  const newId = createIds();
  const timers = new Timers();
  const { after } = timers;
  const turn = new Turn(setImmediate, (callback) => after(0, callback));
  const engineFailures = createThrottledLogger(logger, clock);
  const parts = { newId, turn, logger, failures: engineFailures };
  const opened = await openEngine(config, parts).catch((error) => {
    throw new StartError(`open ${nameOf(config)}`, error);
  });
  const metrics = await openMetrics(config, clock);
  const engine = metrics?.timeEngine(opened) ?? opened;
  const health = new Health({ store: engine, logger, clock });
  const failures = createThrottledLogger(checkAfterErrors(logger, health), clock);
  const traffic = new TrafficLimiter(config.rates.traffic, clock);
  const refusals = createThrottledLogger(logger, clock, REFUSALS_AT_ONCE);
  const hub = new Hub({
    engine,
    limits: config.limits,
    traffic,
    logger,
    refusals,
    failures,
    clock,
    date: Date.now,
    newId,
    turn,
    after,
    meter: metrics,
  });
  await hub.ready;
  // At least one thread stays free for everything else.
  const passwords = new Passwords(Math.max(1, navigator.hardwareConcurrency - 1), clock);
  const accounts = new Accounts({
    store: engine.accounts,
    passwords,
    clock: Date.now,
    after,
    settings: config.people,
  });
  for (const { username, code } of await accounts.newCodes()) {
    logger.warn("register this admin's name with this code", { username, admin_code: code });
  }
  const connections = new Connections(config.connections);
  const joinLimiter = new RateLimiter(config.rates.join, clock);
  const authLimiter = new RateLimiter(config.rates.auth, clock);
  const askLimiter = new RateLimiter(config.limits.messageRate, clock);
  metrics?.observe({ hub, connections, health });
  const app = createApp({
    hub,
    accounts,
    connections,
    limits: config.limits,
    settings: config.http,
    joinLimiter,
    authLimiter,
    askLimiter,
    traffic,
    health,
    logger,
    refusals,
    failures,
    clock,
    after,
    publicDir: new URL("./public/", import.meta.url),
    meter: metrics,
    metrics: config.metrics.hasPage ? metrics : undefined,
  });

  let listener: Listener;
  try {
    listener = new Listener(config.listen, app.fetch, { logger, after });
  } catch (error) {
    metrics?.close();
    await engine.close();
    throw toListenError(config, error);
  }
  logger.info(`Server starting on :${listener.port}`);
  const sweep = setInterval(() => {
    hub.sweep();
    health.sweep();
    traffic.sweep();
    passwords.sweep();
    joinLimiter.sweep();
    authLimiter.sweep();
    askLimiter.sweep();
    failures.sweep();
    engineFailures.sweep();
    refusals.sweep();
    accounts.erase().catch((error) => {
      // Health reports a store that fails. The erasure continues when the store is back.
      if (!(error instanceof ChatError)) failures.error("erasing failed", errorFields(error));
    });
  }, SWEEP_MS);

  const stop = async () => {
    clearInterval(sweep);
    logger.info("draining", { connections: connections.size });
    await within(CLOSE_WAIT_MS, hub.drain().then(() => connections.closeAll(CLOSE.restart)));
    await within(SHUTDOWN_WAIT_MS, listener.close());
    timers.cancelAll();
    metrics?.close();
    await engine.close();
    logger.info("stopped", { connections: connections.size });
  };
  return { port: listener.port, stop };
}

/** Checks that the runtime can share a port: without its flag, Deno would end the process. */
function checkReusePort(): void {
  // The flag adds this function too.
  if ("listenDatagram" in Deno) return;
  const sentence = "REUSE_PORT=1 needs a flag of Deno. Run deno run -A --unstable-net main.ts.";
  throw new StartError("share the port", new Error(sentence));
}

/** The error of a server that cannot listen. For an address in use, it says what to do. */
function toListenError({ listen, database }: Config, error: unknown): StartError {
  const action = `listen on ${listen.host}:${listen.port}`;
  if (!(error instanceof Deno.errors.AddrInUse)) return new StartError(action, error);
  const ways = ["Stop it", "choose another PORT"];
  if (Deno.build.os === "linux" && database.kind !== "sqlite") {
    ways.push(
      listen.reusePort
        ? "start that one with REUSE_PORT=1 too, as the same user"
        : "if it is this server too, start both with REUSE_PORT=1",
    );
  }
  const sentence = `Another program uses the address. ${ways.slice(0, -1).join(", ")}, or ${
    ways.at(-1)
  }.`;
  return new StartError(action, new Error(sentence));
}

/** Warns that messages in memory end with the server. */
function warnOfMemory({ database, hasSiblings }: Config, logger: Logger): void {
  if (database.kind !== "memory") return;
  logger.warn("messages are kept in memory and are gone when the server ends");
  if (!hasSiblings) return;
  logger.warn(
    "people on different instances do not see each other: " +
      "set DATABASE_URL to a PostgreSQL or Redis that the instances share",
  );
}

/** Warns that the runtime exports tokens. */
function warnOfTraces({ metrics }: Config, logger: Logger): void {
  if (!metrics.tracesUnasked) return;
  logger.warn(
    "OTEL_DENO exports the address of every request as a trace, with the tokens in it: " +
      "set OTEL_DENO_TRACING to false, or to true if you want that",
  );
}

/** A logger that also checks the store after each error, ahead of the next sweep. */
function checkAfterErrors(logger: Logger, health: Health): Logger {
  const error: Logger["error"] = (message, fields) => {
    logger.error(message, fields);
    health.sweep();
  };
  return { ...logger, error };
}

/** What the engines need besides the configuration. */
interface EngineParts {
  readonly newId: () => string;
  readonly turn: Turn;
  readonly logger: Logger;
  /** Logs failures; throttled. */
  readonly failures: Logger;
}

/** Opens the engine that the configuration names, and loads only that engine and its driver. */
async function openEngine(config: Config, parts: EngineParts): Promise<Engine> {
  const { database, engine: { historyKeep: keep, maxStoredBytes } } = config;
  const { newId, turn, logger, failures } = parts;
  const atCommit = (callback: () => void) => turn.commit(callback);
  const options = { clock: Date.now, newId, keep, leaseMs: LEASE_MS };
  const connect = async (backend: Backend) => {
    const { RemoteEngine } = await import(
      MODULES.remote
    ) as typeof import("./lib/engine/remote/remote_engine.ts");
    return RemoteEngine.connect({ backend, newId, leaseMs: LEASE_MS, atCommit, logger, failures });
  };
  switch (database.kind) {
    case "memory":
      return new MemoryEngine(options);
    case "sqlite": {
      const { SqliteEngine } = await import("./lib/engine/sqlite.ts");
      const { path } = database;
      return new SqliteEngine({ ...options, path, maxStoredBytes, atCommit, logger });
    }
    case "postgres": {
      const { PostgresBackend } = await import(
        MODULES.postgres
      ) as typeof import("./lib/engine/postgres/postgres.ts");
      return await connect(new PostgresBackend({ url: database.url, keep }));
    }
    case "redis": {
      const { RedisBackend } = await import(
        MODULES.redis
      ) as typeof import("./lib/engine/redis/redis.ts");
      return await connect(new RedisBackend({ url: database.url, keep }));
    }
  }
}

/** Opens the metrics that the configuration asks for, and loads only what these need. */
async function openMetrics(
  { metrics: { hasPage, hasOtel } }: Config,
  clock: () => number,
): Promise<Metrics | undefined> {
  if (!hasPage && !hasOtel) return undefined;
  const { Metrics } = await import(
    MODULES.metrics
  ) as typeof import("./lib/metrics/metrics.ts");
  if (!hasOtel) return new Metrics(undefined, clock);
  const { OpenTelemetry } = await import(
    MODULES.opentelemetry
  ) as typeof import("./lib/metrics/opentelemetry.ts");
  return new Metrics(new OpenTelemetry(), clock);
}

/** Names the store in the sentence of a failed start. No URL: it may hold a password. */
function nameOf({ database }: Config): string {
  return database.kind === "sqlite" ? `the database ${database.path}` : "the database";
}

/** Runs the server in this process until a signal ends it. */
async function run(): Promise<void> {
  try {
    const env = Deno.env.toObject();
    const config = readConfig(env);
    const logger = createLogger({ level: config.logLevel });
    keepBuffersSmall();
    surviveErrors(logger);
    for (const sentence of findTypos(env)) logger.warn(sentence);
    warnOfMemory(config, logger);
    warnOfTraces(config, logger);
    await runUntilSignal(() => start(config, logger), logger);
  } catch (error) {
    if (!(error instanceof ConfigError || error instanceof StartError)) throw error;
    fail(error.message);
  }
}

if (import.meta.main) await run();
