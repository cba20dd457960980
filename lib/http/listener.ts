/**
 * The listening socket, opened again whenever it fails.
 *
 * When a process has too many files open, accepting a connection fails, and the runtime gives the
 * whole listener up. The connections it has accepted live on; all that is missing is a listener.
 *
 * @module
 */

import { errorFields, type Logger } from "../logger.ts";

/** Where to listen. */
export interface ListenOptions {
  /** Address to listen on. */
  readonly host: string;
  /** TCP port; 0 takes a free one. */
  readonly port: number;
}

/** How long until listening is tried again, in milliseconds. */
const RETRY_MS = 200;

/** Answers HTTP requests on one address until it is closed. */
export class Listener {
  /** The port it listens on. */
  readonly port: number;
  readonly #options: ListenOptions;
  readonly #handler: Deno.ServeHandler;
  readonly #log: Logger;
  #server: Deno.HttpServer<Deno.NetAddr>;
  #isClosed = false;

  /** @throws if the address cannot be listened on */
  constructor(options: ListenOptions, handler: Deno.ServeHandler, log: Logger) {
    this.#options = options;
    this.#handler = handler;
    this.#log = log;
    this.#server = this.#listen(options.port);
    this.port = this.#server.addr.port;
    this.#watch();
  }

  /** Takes no more connections. Resolves when every request has been answered. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#server.shutdown();
  }

  #listen(port: number): Deno.HttpServer<Deno.NetAddr> {
    return Deno.serve({ hostname: this.#options.host, port, onListen: () => {} }, this.#handler);
  }

  #watch(): void {
    this.#server.finished.catch((error) => this.#retry(error));
  }

  #retry(error: unknown): void {
    if (this.#isClosed) return;
    this.#log.error("listener failed", errorFields(error));
    setTimeout(() => {
      if (this.#isClosed) return;
      try {
        this.#server = this.#listen(this.port);
        this.#watch();
      } catch (again) {
        this.#retry(again);
      }
    }, RETRY_MS);
  }
}
