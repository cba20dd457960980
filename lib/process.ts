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

/** Calls `stop` at the first SIGINT or SIGTERM, then ends the process. */
export function endOnSignal(stop: () => Promise<void>, logger: Logger): void {
  let isStopping = false;
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, async () => {
      if (isStopping) return;
      isStopping = true;
      try {
        await stop();
      } catch (error) {
        logger.error("stopping failed", errorFields(error));
        Deno.exit(1);
      }
      Deno.exit(0);
    });
  }
}

/** Prints a sentence for the operator and ends the process with an error. */
export function fail(sentence: string): never {
  // deno-lint-ignore no-console
  console.error(sentence);
  Deno.exit(1);
}
