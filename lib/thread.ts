/**
 * Starts a thread beside the event loop.
 *
 * @module
 */

import { Worker, type WorkerOptions } from "node:worker_threads";

/** Starts a thread with a module, which may have come over the network. */
export function startThread(module: URL, options: WorkerOptions = {}): Worker {
  // A thread begins in a file, or in a script that is written out, which can import from anywhere.
  const script = `data:text/javascript,import ${JSON.stringify(module.href)}`;
  return new Worker(module.protocol === "file:" ? module : new URL(script), options);
}
