/**
 * The server: environment, parts, hub, app, serve, drain. The only file that knows everyone.
 *
 *     deno run -A main.ts
 *
 * @module
 */

import { setImmediate } from "node:timers";
import { Hub } from "./hub.ts";
import { createApp } from "./lib/app.ts";
import { type Config, ConfigError, readConfig } from "./lib/config.ts";
import { Connections } from "./lib/connections.ts";
import { MemoryEngine } from "./lib/engine.ts";
import { Listener } from "./lib/listener.ts";
import { createLogger, errorFields, type Logger } from "./lib/logger.ts";
import { CLOSE } from "./lib/protocol.ts";

/** How often members that cannot keep up are looked for. */
const SWEEP_MS = 1000;
/** How long the end waits: for members to take their last frames, then for the last requests. */
const CLOSE_WAIT_MS = 2500;
const SHUTDOWN_WAIT_MS = 1000;

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
 * @throws if the address cannot be listened on
 */
export function start(config: Config, log: Logger): Server {
  const clock = () => performance.now();
  const newId = () => crypto.randomUUID();
  const limits = { ...config, writeWaitMs: config.writeWaitSeconds * 1000 };
  const engine = new MemoryEngine({
    clock: Date.now,
    newId,
    keep: config.historySize,
    maxRooms: config.maxRooms,
  });
  const hub = new Hub({ engine, limits, log, clock, newId, defer: setImmediate });
  const connections = new Connections(config.maxConnections);
  const publicDir = `${import.meta.dirname}/public`;
  const app = createApp({ ...config, hub, connections, limits, log, clock, publicDir });

  const listener = new Listener(config, app.fetch, log);
  log.info(`Server starting on :${listener.port}`);
  const sweep = setInterval(() => hub.sweep(), SWEEP_MS);

  const stop = async () => {
    clearInterval(sweep);
    log.info("draining", { connections: connections.size });
    await within(CLOSE_WAIT_MS, hub.drain().then(() => connections.closeAll(CLOSE.restart)));
    await within(SHUTDOWN_WAIT_MS, listener.close());
    log.info("stopped", { connections: connections.size });
  };
  return { port: listener.port, stop };
}

/** Waits for a promise, but no longer than `ms` milliseconds. */
async function within(ms: number, promise: Promise<unknown>): Promise<void> {
  const { promise: timeout, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await Promise.race([promise, timeout]);
  clearTimeout(timer);
}

/** Runs the server as this process, until a signal ends it. */
function run(): void {
  let config: Config;
  try {
    config = readConfig(Deno.env.toObject());
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return fail(error.message);
  }
  const log = createLogger({ level: config.logLevel });

  // What nobody caught must not end the process. The runtime itself throws so when a client
  // sends a message larger than a string can be.
  for (const type of ["error", "unhandledrejection"] as const) {
    globalThis.addEventListener(type, (event) => {
      event.preventDefault();
      log.error(type, errorFields("reason" in event ? event.reason : (event as ErrorEvent).error));
    });
  }

  let server: Server;
  try {
    server = start(config, log);
  } catch (error) {
    return fail(`Cannot listen on ${config.host}:${config.port}: ${(error as Error).message}`);
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

if (import.meta.main) run();
