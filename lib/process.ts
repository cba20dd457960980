/**
 * What a server needs of its process: ids, timers, and an end that no stray error and no signal
 * brings too early.
 *
 * @module
 */

import { randomBytes } from "node:crypto";
import { errorFields, type Logger } from "./logger.ts";

/** Makes ids that are unique for ever: 96 random bits of this process, and a count. */
export function createIds(): () => string {
  const process = randomBytes(12).toString("base64url");
  let count = 0;
  return () => `${process}-${(++count).toString(36)}`;
}

/** Makes timers, all of which `clear` stops. */
export function createTimers() {
  const timers = new Set<ReturnType<typeof setTimeout>>();
  const after = (ms: number, callback: () => void) => {
    const timer = setTimeout(() => {
      timers.delete(timer);
      callback();
    }, ms);
    timers.add(timer);
  };
  return { after, clear: () => timers.forEach((timer) => clearTimeout(timer)) };
}

/** Waits for a promise, but no longer than `ms` milliseconds. */
export async function within(ms: number, promise: Promise<unknown>): Promise<void> {
  const { promise: timeout, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  try {
    await Promise.race([promise, timeout]);
  } finally {
    clearTimeout(timer);
  }
}

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
export function endOnSignal(stop: () => Promise<void>): void {
  let isStopping = false;
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, async () => {
      if (isStopping) return;
      isStopping = true;
      await stop();
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
