/**
 * The listening socket, which opens again whenever it fails.
 *
 * When a process has too many files open, accepting a connection fails, and the runtime closes the
 * whole listener. Its open connections continue, so listening again is enough.
 *
 * @module
 */

import { errorFields, type Logger } from "../logger.ts";

/** Where to listen. */
export interface ListenAddress {
  /** Address to listen on. */
  readonly host: string;
  /** TCP port; 0 takes a free one. */
  readonly port: number;
  /** Whether other processes may listen on the same port; only on Linux. */
  readonly reusePort: boolean;
}

/** What a {@linkcode Listener} needs. */
export interface ListenerOptions {
  readonly logger: Logger;
  /** Calls back once, after this many milliseconds. */
  readonly after: (ms: number, callback: () => void) => void;
  /** Opens a server. @default Deno.serve */
  readonly serve?: (options: Deno.ServeTcpOptions, handler: Deno.ServeHandler) => HttpServer;
}

/** The part of a `Deno.HttpServer` that a {@linkcode Listener} uses. */
export type HttpServer = Pick<Deno.HttpServer<Deno.NetAddr>, "addr" | "finished" | "shutdown">;

/** How long a listener waits before it tries to listen again, in milliseconds. */
const RETRY_MS = 200;

/** Answers HTTP requests on one address until it is closed. */
export class Listener {
  /** The port it listens on. */
  readonly port: number;
  readonly #listen: (port: number) => HttpServer;
  readonly #options: ListenerOptions;
  #server: HttpServer;
  #isClosed = false;

  /** @throws if the server cannot listen on the address */
  constructor(address: ListenAddress, handler: Deno.ServeHandler, options: ListenerOptions) {
    const { serve = Deno.serve } = options;
    const { host: hostname, reusePort } = address;
    this.#listen = (port) => serve({ hostname, port, reusePort, onListen: () => {} }, handler);
    this.#options = options;
    this.#server = this.#listen(address.port);
    this.port = this.#server.addr.port;
    this.#watch();
  }

  /** Stops accepting connections. Resolves when every request has its answer. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#server.shutdown();
  }

  #watch(): void {
    this.#server.finished.catch((error) => this.#recover(error));
  }

  #recover(error: unknown): void {
    if (this.#isClosed) return;
    const { logger, after } = this.#options;
    logger.error("listener failed", errorFields(error));
    after(RETRY_MS, () => this.#retry());
  }

  #retry(): void {
    if (this.#isClosed) return;
    try {
      this.#server = this.#listen(this.port);
    } catch (error) {
      return this.#recover(error);
    }
    this.#watch();
  }
}
