/** A telephone line between clients and the server: TCP, passed on until it is cut. */

export class Line implements AsyncDisposable {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  /** The server's port. It may change between calls. */
  serverPort: number;
  readonly #port: number;
  #listener: Deno.TcpListener;
  #callers = new Set<Deno.TcpConn>();
  #servers = new Set<Deno.TcpConn>();
  #running: Promise<unknown>[] = [];
  #serverNotices = true;
  #isDeaf = false;

  constructor(serverPort: number) {
    this.serverPort = serverPort;
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.#port = this.#listener.addr.port;
    this.url = `http://127.0.0.1:${this.#port}`;
    this.#running.push(this.#accept());
  }

  /** Drops everything from the server to callers. The server still receives. */
  deafen(): void {
    this.#isDeaf = true;
  }

  /** Ends all calls and accepts no more. The server may be left unaware. */
  cut({ serverNotices = true } = {}): void {
    this.#serverNotices = serverNotices;
    this.#listener.close();
    hangUp(this.#callers);
    if (serverNotices) this.letGo();
  }

  /** Ends all calls, and accepts new ones at once. The server may be left unaware. */
  drop({ serverNotices = true } = {}): void {
    this.#isDeaf = false;
    this.#serverNotices = serverNotices;
    hangUp(this.#callers);
    if (serverNotices) this.letGo();
  }

  /** Accepts calls again, and forwards both ways. */
  mend(): void {
    this.#isDeaf = false;
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: this.#port });
    this.#running.push(this.#accept());
  }

  /** Lets the server notice which calls have ended. */
  letGo(): void {
    hangUp(this.#servers);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.cut();
    } catch { /* It was cut. */ }
    this.letGo();
    await Promise.all(this.#running);
  }

  async #accept(): Promise<void> {
    for await (const caller of this.#listener) this.#running.push(this.#connect(caller));
  }

  async #connect(caller: Deno.TcpConn): Promise<void> {
    let server: Deno.TcpConn;
    try {
      server = await Deno.connect({ hostname: "127.0.0.1", port: this.serverPort });
    } catch {
      return hangUp(new Set([caller]));
    }
    this.#callers.add(caller);
    this.#servers.add(server);
    await Promise.all([
      pass(caller, server).then(() => this.#serverNotices && hangUp(new Set([server]))),
      pass(server, caller, () => this.#isDeaf).then(() => hangUp(new Set([caller]))),
    ]);
  }
}

async function pass(from: Deno.TcpConn, to: Deno.TcpConn, isLost = () => false): Promise<void> {
  const bytes = new Uint8Array(16 * 1024);
  try {
    for (let n = await from.read(bytes); n !== null; n = await from.read(bytes)) {
      if (isLost()) continue;
      for (let at = 0; at < n;) at += await to.write(bytes.subarray(at, n));
    }
  } catch { /* One of them hung up. */ }
}

function hangUp(calls: Set<Deno.TcpConn>): void {
  for (const call of calls) {
    try {
      call.close();
    } catch { /* It had ended by itself. */ }
  }
  calls.clear();
}
