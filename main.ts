/**
 * The server: environment, parts, hub, app, serve, drain. The only file that knows everyone.
 *
 *     deno run -A main.ts
 *
 * @module
 */

import { randomBytes } from "node:crypto";
import { setImmediate } from "node:timers";
import { Hub, type HubOptions } from "./hub.ts";
import { type Config, ConfigError, readConfig } from "./lib/config.ts";
import type { Engine } from "./lib/engine/engine.ts";
import { MemoryEngine } from "./lib/engine/memory.ts";
import { createApp } from "./lib/http/app.ts";
import { Connections } from "./lib/http/connections.ts";
import { Listener } from "./lib/http/listener.ts";
import { createLogger, errorFields, type Logger } from "./lib/logger.ts";
import { Accounts } from "./lib/people/accounts.ts";
import { Passwords } from "./lib/people/passwords.ts";
import { CLOSE } from "./lib/protocol/codes.ts";
import { RateLimiter } from "./lib/rate_limit.ts";
import { createDefer } from "./lib/time.ts";

/** How often members that cannot keep up are looked for. */
const SWEEP_MS = 1000;
/** How long the end waits: for members to take their last frames, then for the last requests. */
const CLOSE_WAIT_MS = 2500;
const SHUTDOWN_WAIT_MS = 1000;

/** How long this process counts as alive for others after it was last heard of. */
const LEASE_MS = 30_000;

/** The server cannot start. The message says why, for the person who started it. */
export class StartError extends Error {
  override name = "StartError";
}

/** A running server. */
export interface Server {
  /** The port it listens on. */
  readonly port: number;
  /** Says goodbye to everyone and ends, within 5 seconds. */
  stop(): Promise<void>;
}

/**
 * Starts the server.
 *
 * @throws if the store cannot be opened or the address cannot be listened on
 */
export async function start(config: Config, log: Logger): Promise<Server> {
  const clock = () => performance.now();
  const newId = createIds();
  const timers = new Set<ReturnType<typeof setTimeout>>();
  const after = (ms: number, callback: () => void) => {
    const timer = setTimeout(() => {
      timers.delete(timer);
      callback();
    }, ms);
    timers.add(timer);
  };
  const limits = { ...config, writeWaitMs: config.writeWaitSeconds * 1000 };

  const defer = createDefer(setImmediate);
  const engine = await openEngine(config, { newId, defer });
  const hub = new Hub({
    engine,
    limits,
    log,
    clock,
    date: Date.now,
    newId,
    defer,
    after,
  });
  // One thread at least is left to everything else.
  const passwords = new Passwords(Math.max(1, navigator.hardwareConcurrency - 1));
  const accounts = new Accounts({ ...config, store: engine.accounts, passwords, clock: Date.now });
  const connections = new Connections(config);
  const joinLimiter = new RateLimiter(config.joinRate, clock);
  const authLimiter = new RateLimiter(config.authRate, clock);
  const app = createApp({
    ...config,
    hub,
    accounts,
    connections,
    limits,
    joinLimiter,
    authLimiter,
    log,
    clock,
    publicDir: `${import.meta.dirname}/public`,
  });

  let listener: Listener;
  try {
    listener = new Listener(config, app.fetch, log);
  } catch (error) {
    await engine.close();
    const { message } = error as Error;
    throw new StartError(`Cannot listen on ${config.host}:${config.port}: ${message}`);
  }
  log.info(`Server starting on :${listener.port}`);
  const sweep = setInterval(() => {
    hub.sweep();
    joinLimiter.sweep();
    authLimiter.sweep();
  }, SWEEP_MS);

  const stop = async () => {
    clearInterval(sweep);
    log.info("draining", { connections: connections.size });
    await within(CLOSE_WAIT_MS, hub.drain().then(() => connections.closeAll(CLOSE.restart)));
    await within(SHUTDOWN_WAIT_MS, listener.close());
    for (const timer of timers) clearTimeout(timer);
    await engine.close();
    log.info("stopped", { connections: connections.size });
  };
  return { port: listener.port, stop };
}

/** Ids that are unique for ever: 96 random bits of this process, and a count. */
function createIds(): () => string {
  const process = randomBytes(12).toString("base64url");
  let count = 0;
  return () => `${process}-${(++count).toString(36)}`;
}

/** Opens the store that the configuration names. A driver is loaded only by those who use it. */
async function openEngine(
  { database, historyKeep: keep }: Config,
  { newId, defer }: Pick<HubOptions, "newId" | "defer">,
): Promise<Engine> {
  const options = { clock: Date.now, newId, keep, leaseMs: LEASE_MS };
  if (database.kind === "memory") return new MemoryEngine(options);
  const { SqliteEngine } = await import("./lib/engine/sqlite.ts");
  try {
    return new SqliteEngine({ ...options, path: database.path, atCommit: defer });
  } catch (error) {
    const { message } = error as Error;
    throw new StartError(`Cannot open the database ${database.path}: ${message}`);
  }
}

/** Waits for a promise, but no longer than `ms` milliseconds. */
async function within(ms: number, promise: Promise<unknown>): Promise<void> {
  const { promise: timeout, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await Promise.race([promise, timeout]);
  clearTimeout(timer);
}

/** Runs the server as this process, until a signal ends it. */
async function run(): Promise<void> {
  let config: Config;
  try {
    config = readConfig(Deno.env.toObject());
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return fail(error.message);
  }
  const log = createLogger({ level: config.logLevel });

  // The runtime otherwise keeps, for each connection and for good, a buffer as large as the largest
  // frame it was sent. It asks for this when the first connection opens.
  if (Deno.env.get("DENO_USE_WRITEV") === undefined) Deno.env.set("DENO_USE_WRITEV", "1");

  // What nobody caught must not end the process. The runtime itself throws so when a client
  // sends a message larger than a string can be.
  for (const type of ["error", "unhandledrejection"] as const) {
    globalThis.addEventListener(type, (event) => {
      event.preventDefault();
      log.error(type, errorFields("reason" in event ? event.reason : (event as ErrorEvent).error));
    });
  }

  if (config.database.kind === "memory") {
    log.warn("messages are kept in memory and are gone when the server ends");
  }
  let server: Server;
  try {
    server = await start(config, log);
  } catch (error) {
    if (!(error instanceof StartError)) throw error;
    return fail(error.message);
  }
  let isStopping = false;
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, async () => {
      if (isStopping) return;
      isStopping = true;
      await server.stop();
      Deno.exit(0);
    });
  }
}

function fail(sentence: string): never {
  // deno-lint-ignore no-console
  console.error(sentence);
  Deno.exit(1);
}

if (import.meta.main) await run();
