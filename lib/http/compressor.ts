/**
 * Compresses files in a separate thread, so that the server's thread does not wait.
 *
 * @module
 */

import type { Worker } from "node:worker_threads";
import { errorFields, type Logger } from "../logger.ts";
import { startThread } from "../thread.ts";
import type { CompressionRequest } from "./compression_thread.ts";

/** Compresses files one after another. Its thread runs while there is work. */
export class Compressor {
  readonly #logger: Logger;
  #worker: Worker | undefined;
  /** The callbacks for the results, oldest request first. */
  readonly #waiting: ((result: Uint8Array<ArrayBuffer> | undefined) => void)[] = [];

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** The compressed bytes, or `undefined` if the thread fails. */
  compress(request: CompressionRequest): Promise<Uint8Array<ArrayBuffer> | undefined> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      try {
        this.#worker ??= this.#start();
        this.#worker.postMessage(request);
      } catch (error) {
        this.#fail(error);
      }
    });
  }

  #start(): Worker {
    const worker = startThread(new URL("./compression_thread.ts", import.meta.url));
    worker.on("message", (result: Uint8Array<ArrayBuffer>) => {
      this.#waiting.shift()?.(result);
      if (this.#waiting.length === 0) this.#end();
    });
    worker.on("error", (error: unknown) => this.#fail(error));
    return worker;
  }

  #fail(error: unknown): void {
    this.#logger.warn("files are sent uncompressed", errorFields(error));
    this.#end();
    for (const resolve of this.#waiting.splice(0)) resolve(undefined);
  }

  #end(): void {
    this.#worker?.terminate();
    this.#worker = undefined;
  }
}
