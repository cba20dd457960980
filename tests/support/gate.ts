/** A proxy between clients and the server that blocks WebSockets. */

/** The gate's treatment of a request for a WebSocket. */
export type Treatment =
  /** Forwards it. */
  | "pass"
  /** Answers in the server's place, with its own page. */
  | 403
  | 502
  /** Ends the connection, or lets it hang. */
  | "drop"
  | "hang"
  /** Forwards it, and cuts the socket after some milliseconds. */
  | { cutAfterMs: number };

export class Gate implements AsyncDisposable {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  /** The treatment of the next request for a WebSocket. */
  sockets: Treatment;
  /** The status for requests below these paths, which it answers itself; others are forwarded. */
  readonly pages = new Map<string, number>();
  /** The first lines of all requests so far, with `WebSocket` before each that asks for one. */
  readonly requests: string[] = [];
  readonly #server: { readonly port: number };
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #open = new Set<Deno.TcpConn>();
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();
  readonly #running: Promise<unknown>[] = [];
  #wake = () => {};

  /** @param server the server to forward to; its port may change */
  constructor(server: { readonly port: number }, sockets: Treatment) {
    this.#server = server;
    this.sockets = sockets;
    this.url = `http://127.0.0.1:${this.#listener.addr.port}`;
    this.#running.push(this.#accept());
  }

  /** The requests for WebSockets so far. */
  get upgrades(): string[] {
    return this.requests.filter((line) => line.startsWith("WebSocket"));
  }

  /** Resolves after this many requests for WebSockets since the start. */
  async upgraded(count: number): Promise<void> {
    while (this.upgrades.length < count) {
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }

  /** Ends all open connections. */
  cut(): void {
    for (const connection of this.#open) close(connection);
    this.#open.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const timer of this.#timers) clearTimeout(timer);
    this.cut();
    await Promise.all(this.#running);
  }

  async #accept(): Promise<void> {
    for await (const caller of this.#listener) {
      this.#open.add(caller);
      this.#running.push(this.#serve(caller).catch(() => {}).finally(() => close(caller)));
    }
  }

  /** Clients wait for each answer, so a read begins with the start of a request. */
  async #serve(caller: Deno.TcpConn): Promise<void> {
    let server: Deno.TcpConn | undefined;
    const bytes = new Uint8Array(64 * 1024);
    for (let n = await caller.read(bytes); n !== null; n = await caller.read(bytes)) {
      const head = new TextDecoder().decode(bytes.subarray(0, n));
      if (!await this.#answer(caller, head)) continue;
      server ??= await this.#connect(caller);
      await writeAll(server, bytes.subarray(0, n));
    }
    if (server) close(server);
  }

  /** @returns whether to forward the request */
  async #answer(caller: Deno.TcpConn, text: string): Promise<boolean> {
    const [, line, path] = /^((?:GET|POST) (\S+)) HTTP/.exec(text) ?? [];
    if (line === undefined) return true;
    const isUpgrade = /^upgrade: websocket\r$/im.test(text);
    this.requests.push(isUpgrade ? `WebSocket ${line}` : line);
    this.#wake();
    const page = [...this.pages].find(([start]) => path!.startsWith(start))?.[1];
    const treatment = isUpgrade ? this.sockets : page ?? "pass";
    if (typeof treatment === "number") {
      await writeAll(caller, new TextEncoder().encode(pageOf(treatment)));
      return false;
    }
    if (treatment === "drop") close(caller);
    if (typeof treatment === "object") this.#cutLater(caller, treatment.cutAfterMs);
    return treatment === "pass" || typeof treatment === "object";
  }

  #cutLater(caller: Deno.TcpConn, ms: number): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      close(caller);
    }, ms);
    this.#timers.add(timer);
  }

  async #connect(caller: Deno.TcpConn): Promise<Deno.TcpConn> {
    const server = await Deno.connect({ hostname: "127.0.0.1", port: this.#server.port });
    this.#open.add(server);
    const back = async () => {
      const bytes = new Uint8Array(64 * 1024);
      for (let n = await server.read(bytes); n !== null; n = await server.read(bytes)) {
        await writeAll(caller, bytes.subarray(0, n));
      }
    };
    this.#running.push(back().catch(() => {}).finally(() => [server, caller].forEach(close)));
    return server;
  }
}

function pageOf(status: number): string {
  const body = "<h1>Blocked</h1>";
  const head = `HTTP/1.1 ${status} Blocked\r\ncontent-type: text/html\r\n`;
  return `${head}content-length: ${body.length}\r\n\r\n${body}`;
}

async function writeAll(to: Deno.TcpConn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await to.write(bytes.subarray(at));
}

function close(connection: Deno.TcpConn): void {
  try {
    connection.close();
  } catch { /* It had ended by itself. */ }
}
