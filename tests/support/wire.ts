/** The wire between an instance and its engine, which tests cut, freeze and slow down. */

/** The server of a {@linkcode Wire}. */
export interface WireTarget {
  /** @default "127.0.0.1" */
  readonly hostname?: string;
  readonly port: number;
}

/** Forwards TCP connections to a server, from a free port of the loopback address. */
export class Wire implements AsyncDisposable {
  #target: Deno.ConnectOptions;
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #conns = new Set<Deno.TcpConn>();
  readonly #accepting: Promise<void>;
  /** Each connection, until both its ends are closed. */
  readonly #links = new Set<Promise<void>>();
  /** Pending while the wire is frozen. */
  #thawed = Promise.withResolvers<void>();
  #isFrozen = false;
  #isCut = false;
  #delayMs = 0;

  constructor(target: WireTarget) {
    this.#target = toOptions(target);
    this.#thawed.resolve();
    this.#accepting = this.#accept();
  }

  /** The port to connect to in the server's place. */
  get port(): number {
    return this.#listener.addr.port;
  }

  /** Open connections. */
  get connections(): number {
    return this.#links.size;
  }

  /** Minimum delay of data in each direction, in milliseconds. */
  set delay(ms: number) {
    this.#delayMs = ms;
  }

  /** Forwards every new connection to another server. */
  lead(target: WireTarget): void {
    this.#target = toOptions(target);
  }

  /** Closes all connections, and each new one at once, until {@linkcode mend}. */
  cut(): void {
    this.#isCut = true;
    this.kick();
  }

  /** Lets connections through again. */
  mend(): void {
    this.#isCut = false;
  }

  /** Closes all connections, once. */
  kick(): void {
    for (const conn of this.#conns) conn.close();
    this.#conns.clear();
  }

  /**
   * Forwards nothing, not even the end of a connection, until {@linkcode thaw}: connections open,
   * stay open, and are silent.
   */
  freeze(): void {
    if (this.#isFrozen) return;
    this.#isFrozen = true;
    this.#thawed = Promise.withResolvers();
  }

  /** Forwards everything received meanwhile, and continues. */
  thaw(): void {
    this.#isFrozen = false;
    this.#thawed.resolve();
  }

  /** Closes everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    await this.#accepting;
    this.cut();
    this.thaw();
    await Promise.all(this.#links);
  }

  async #accept(): Promise<void> {
    for await (const client of this.#listener) {
      if (this.#isCut) {
        client.close();
        continue;
      }
      const link = this.#join(client);
      this.#links.add(link);
      link.finally(() => this.#links.delete(link));
    }
  }

  /** Connects a client to the server, until both ends are closed. */
  async #join(client: Deno.TcpConn): Promise<void> {
    this.#conns.add(client);
    try {
      const server = await Deno.connect(this.#target);
      this.#conns.add(server);
      // Kicked before it was connected.
      if (!this.#conns.has(client)) return this.#close(server);
      await Promise.all([this.#pass(client, server), this.#pass(server, client)]);
      this.#close(server);
    } catch {
      // The server refuses the connection.
    } finally {
      this.#close(client);
    }
  }

  /** Forwards the data of one end; closes both if either fails. */
  async #pass(from: Deno.TcpConn, to: Deno.TcpConn): Promise<void> {
    const buffer = new Uint8Array(65536);
    try {
      for (let size: number | null = 0; size !== null;) {
        size = await from.read(buffer);
        if (this.#delayMs > 0) await sleep(this.#delayMs);
        await this.#thawed.promise;
        if (size === null) await to.closeWrite();
        else await writeAll(to, buffer.subarray(0, size));
      }
    } catch {
      this.#close(from);
      this.#close(to);
    }
  }

  #close(conn: Deno.TcpConn): void {
    if (this.#conns.delete(conn)) conn.close();
  }
}

function toOptions({ hostname = "127.0.0.1", port }: WireTarget): Deno.ConnectOptions {
  return { hostname, port };
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function writeAll(conn: Deno.TcpConn, data: Uint8Array): Promise<void> {
  while (data.length > 0) data = data.subarray(await conn.write(data));
}
