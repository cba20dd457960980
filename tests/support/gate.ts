/** A proxy between clients and the server that has something against WebSockets. */

/** What the gate does with a request for a WebSocket. */
export type Treatment =
  /** It lets it through. */
  | "pass"
  /** It answers for the server, with a page of its own. */
  | 403
  | 502
  /** It ends the connection, or lets it hang. */
  | "drop"
  | "hang"
  /** It lets it through, and cuts the socket after some milliseconds. */
  | { cutAfterMs: number };

export class Gate implements AsyncDisposable {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  /** What happens to the next request for a WebSocket. */
  sockets: Treatment;
  /** The status with which it answers requests below these paths itself; others get through. */
  readonly pages = new Map<string, number>();
  /** The first lines of all requests so far, each behind `WebSocket` if it asks for one. */
  readonly requests: string[] = [];
  readonly #server: { readonly port: number };
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #open = new Set<Deno.TcpConn>();
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();
  readonly #running: Promise<unknown>[] = [];
  #wake = () => {};

  /** @param server where what gets through goes; its port may change */
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

  /** Resolves when so many WebSockets have been asked for since the start. */
  async upgraded(count: number): Promise<void> {
    while (this.upgrades.length < count) {
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }

  /** Ends all connections that are open. */
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

  /** Clients wait for an answer before they ask again: each request begins with what is read. */
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

  /** @returns whether the request is to go on to the server */
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
