/**
 * Starts threads beside the one of the event loop.
 *
 * @module
 */

import { Worker, type WorkerOptions } from "node:worker_threads";

/** Starts a thread that runs a module of this server. The module may have come over HTTP. */
export function startThread(module: URL, options: WorkerOptions = {}): Worker {
  // A thread starts from a file or from an inline script. The script can import a module over HTTP.
  const script = `data:text/javascript,import ${JSON.stringify(module.href)}`;
  return new Worker(module.protocol === "file:" ? module : new URL(script), options);
}
