/** A server inside the test's process, on a free port of the loopback address. */

import { AssertionError } from "@std/assert";
import { readConfig } from "../../lib/config.ts";
import { createLogger } from "../../lib/logger.ts";
import { start } from "../../main.ts";

/** Maximum wait for an expected event, in milliseconds. */
const PATIENCE_MS = 20_000;

/** On a free port, without files, and without limits that would disturb tests. */
export const TEST_ENV: Record<string, string> = {
  HOST: "127.0.0.1",
  PORT: "0",
  DATABASE_URL: "memory:",
  MESSAGE_RATE: "0",
  MESSAGE_RATE_PER_ADDRESS: "0",
  JOIN_RATE_PER_ADDRESS: "0",
  AUTH_RATE_PER_ADDRESS: "0",
  MAX_CONNECTIONS_PER_ADDRESS: "0",
  ADMIN_CODE: "the code of the tests",
};

export interface TestServer extends AsyncDisposable {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  /** `ws://127.0.0.1:PORT` */
  readonly ws: string;
  readonly port: number;
  /** The log lines so far. */
  readonly log: Record<string, unknown>[];
  /** Resolves when `count` lines with this message have been logged since the start. */
  logged(msg: string, count?: number): Promise<void>;
  stop(): Promise<void>;
}

/** @param env settings beside the defaults, as environment variables */
export async function startServer(env: Record<string, string> = {}): Promise<TestServer> {
  const log: Record<string, unknown>[] = [];
  let wake = () => {};
  const write = (line: string) => {
    log.push(JSON.parse(line));
    wake();
  };
  const logger = createLogger({ level: "info", write });
  const logged = async (msg: string, count = 1) => {
    const timer = setTimeout(() => wake(), PATIENCE_MS);
    const end = performance.now() + PATIENCE_MS;
    while (log.filter((line) => line.msg === msg).length < count) {
      if (performance.now() >= end) throw new AssertionError(`"${msg}" was not logged.`);
      await new Promise<void>((resolve) => wake = resolve);
    }
    clearTimeout(timer);
  };
  const config = readConfig({ ...TEST_ENV, ...env });
  const { port, stop } = await start(config, logger);
  const host = `127.0.0.1:${port}`;
  return {
    url: `http://${host}`,
    ws: `ws://${host}`,
    port,
    log,
    logged,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
