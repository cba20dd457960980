/**
 * Settings of the process: a stray error is logged, and a signal stops the server in order.
 *
 * @module
 */

import { errorFields, type Logger } from "./logger.ts";

/**
 * Stops the runtime from keeping, for each connection, a buffer as large as the largest frame sent
 * to it. Call it early: the runtime reads this variable when the first connection opens.
 */
export function keepBuffersSmall(): void {
  if (Deno.env.get("DENO_USE_WRITEV") === undefined) Deno.env.set("DENO_USE_WRITEV", "1");
}

/**
 * Logs uncaught errors, which would otherwise end the process. The runtime itself throws one when a
 * client sends a message too large for a string.
 */
export function surviveErrors(logger: Logger): void {
  for (const type of ["error", "unhandledrejection"] as const) {
    globalThis.addEventListener(type, (event) => {
      event.preventDefault();
      const error = "reason" in event ? event.reason : (event as ErrorEvent).error;
      logger.error(type, errorFields(error));
    });
  }
}

/**
 * The signals that stop a server in order. A closed terminal sends the first, people the others.
 */
const END_SIGNALS = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"] as const;

/** Calls back at each signal that ends a server in order. */
export function onEndSignal(callback: () => void): void {
  for (const signal of END_SIGNALS) {
    try {
      Deno.addSignalListener(signal, callback);
    } catch {
      // Windows has no SIGQUIT.
    }
  }
}

/** Starts a server. At the first signal, even during the start, stops it and ends the process. */
export async function runUntilSignal(
  start: () => Promise<{ stop(): Promise<void> }>,
  logger: Logger,
): Promise<void> {
  // Before the start: an unhandled signal kills the process, whose port may be open already.
  const signalled = Promise.withResolvers<void>();
  onEndSignal(signalled.resolve);
  const server = await start();
  await signalled.promise;
  try {
    await server.stop();
  } catch (error) {
    logger.error("stopping failed", errorFields(error));
    Deno.exit(1);
  }
  Deno.exit(0);
}

/** Prints a sentence for the operator and ends the process with an error. */
export function fail(sentence: string): never {
  // deno-lint-ignore no-console
  console.error(sentence);
  Deno.exit(1);
}
