/**
 * What the server asks of its process: that no stray error ends it, and that a signal ends it well.
 *
 * @module
 */

import { errorFields, type Logger } from "./logger.ts";

/**
 * Keeps the runtime from holding, for each connection and for good, a buffer as large as the largest
 * frame it was sent. The runtime reads this variable when the first connection opens.
 */
export function keepBuffersSmall(): void {
  if (Deno.env.get("DENO_USE_WRITEV") === undefined) Deno.env.set("DENO_USE_WRITEV", "1");
}

/**
 * Logs what nobody caught, which would otherwise end the process. The runtime itself throws so when a
 * client sends a message larger than a string can be.
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

/** Calls back at the first signal that asks this process to end, then ends it. */
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

/** Ends this process with a sentence for the person who started it. */
export function fail(sentence: string): never {
  // deno-lint-ignore no-console
  console.error(sentence);
  Deno.exit(1);
}
