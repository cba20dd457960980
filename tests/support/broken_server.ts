/** A TCP server that misbehaves by script. */

/** The script of a connection. */
export interface Script {
  /** The replies, each after received data. */
  readonly replies: readonly (string | Uint8Array)[];
  /**
   * After the last reply: closes the connection on more data, cuts it at once, or stays silent.
   */
  readonly then: "close" | "cut" | "stay";
}

/** A server on a free port of the loopback address. Disposing of it closes its connections. */
export class BrokenServer implements AsyncDisposable {
  readonly port: number;
  /** Resolves when a connection reaches the end of the script. */
  readonly done: Promise<void>;
  readonly #listener: Deno.TcpListener;
  readonly #connections: Promise<void>[] = [];
  readonly #open = new Set<Deno.TcpConn>();
  readonly #accepting: Promise<void>;
  #finish!: () => void;

  constructor(script: Script) {
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.port = this.#listener.addr.port;
    this.done = new Promise((resolve) => this.#finish = resolve);
    this.#accepting = this.#accept(script);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const connection of this.#open) connection.close();
    this.#open.clear();
    await this.#accepting;
    await Promise.all(this.#connections);
  }

  async #accept(script: Script): Promise<void> {
    try {
      for await (const connection of this.#listener) {
        this.#open.add(connection);
        this.#connections.push(this.#run(connection, script).catch(() => {}));
      }
    } catch {
      // The listener is closed.
    }
  }

  async #run(connection: Deno.TcpConn, { replies, then }: Script): Promise<void> {
    const buffer = new Uint8Array(65_536);
    for (const reply of replies) {
      await connection.read(buffer);
      await connection.write(typeof reply === "string" ? new TextEncoder().encode(reply) : reply);
    }
    if (then === "close") await connection.read(buffer);
    this.#finish();
    if (then === "stay") { while (await connection.read(buffer) !== null); }
    if (this.#open.delete(connection)) connection.close();
  }
}
