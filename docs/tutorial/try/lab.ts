/** What the experiments share: the server of a step, as a process of its own, and its clients. */

/** How long to wait for an event, in milliseconds. */
const PATIENCE_MS = 20_000;

const FOLDER = new URL("../", import.meta.url);

/** Finds the program of the step that the command line names. */
function findStep(): string {
  const [step] = Deno.args;
  for (const { name } of Deno.readDirSync(FOLDER)) {
    if (name.startsWith(`${step}_`)) return new URL(name, FOLDER).href;
  }
  print("Name a step, from 1 to 12: deno run -A docs/tutorial/try/room.ts 1");
  Deno.exit(1);
}

/** Prints a line. */
export function print(line: string): void {
  // deno-lint-ignore no-console
  console.log(line);
}

/** Makes a folder, which is removed at the end with all that is in it. */
export async function makeFolder(): Promise<{ path: string } & AsyncDisposable> {
  const path = await Deno.makeTempDir();
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

/** What a server has used so far. */
interface Usage {
  /** In MB. */
  readonly memory: number;
  /** Processor time in milliseconds. */
  readonly cpu: number;
}

/** The server of a step, as a process of its own. Disposing of it ends it. */
export class Server implements AsyncDisposable {
  /** How the process ended. */
  readonly ended: Promise<Deno.CommandStatus>;
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #outputs: Promise<unknown>;
  #port = 0;
  #text = "";
  #wake = () => {};

  private constructor(folder: string) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", new URL("measure.ts", import.meta.url).href, findStep()],
      env: { PORT: "0", NO_COLOR: "1", IDLE_SECONDS: "4", DATABASE: `${folder}/tutorial.db` },
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const { stdin, stdout, stderr, status } = this.#child;
    this.#input = stdin.getWriter();
    this.#outputs = Promise.all([this.#read(stdout), this.#read(stderr)]);
    this.ended = this.#outputs.then(() => status);
  }

  /** @param folder where the server keeps its database */
  static async start(folder: string): Promise<Server> {
    const server = new Server(folder);
    server.#port = Number((await server.#find(/:(\d+)\//))[1]);
    return server;
  }

  /** The port it listens on. */
  get port(): number {
    return this.#port;
  }

  /** The first line of an error that it has printed. */
  async error(): Promise<string> {
    return (await this.#find(/.*Error: .*/))[0];
  }

  async usage(): Promise<Usage> {
    this.#text = "";
    await this.#input.write(new TextEncoder().encode("\n"));
    const { memory, cpu } = JSON.parse((await this.#find(/\{.*\}/))[0]);
    return { memory: Math.round(memory / 1e6), cpu: Math.round(cpu / 1e3) };
  }

  kill(signal: Deno.Signal): void {
    this.#child.kill(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await this.#input.close().catch(() => {});
    await this.ended;
  }

  async #read(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<void> {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      this.#text += text;
      this.#wake();
    }
  }

  /** Waits until the server has printed this. */
  async #find(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const found = pattern.exec(this.#text);
      if (found !== null) return found;
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }
}

/**
 * Opens a WebSocket as a device would that answers nothing.
 *
 * @param request what to send before
 */
export async function openRaw(
  { port }: Server,
  username: string,
  request = "",
): Promise<Deno.TcpConn> {
  const conn = await Deno.connect({ port });
  const lines = [
    `GET /ws/home?username=${username} HTTP/1.1`,
    "Host: localhost",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
  ];
  await conn.write(new TextEncoder().encode(`${request}${lines.join("\r\n")}\r\n\r\n`));
  return conn;
}

/** What a server sends. */
export interface Event {
  readonly type?: string;
  readonly username?: string;
  readonly content?: string;
  readonly users?: readonly string[];
  readonly ref?: string;
  readonly seq?: number;
}

/** What a person reads of an event. */
export function describe({ type, username = "somebody", content }: Event): string {
  return content === undefined ? `${username} ${type}` : `${username}: ${content}`;
}

/** A WebSocket client. */
export class Client {
  readonly username: string;
  readonly socket: WebSocket;
  /** All that the server has sent, without what {@linkcode Client.settle} says. */
  readonly events: Event[] = [];
  readonly closed: Promise<CloseEvent>;
  /** How many frames the server has sent. */
  frames = 0;
  #wake = () => {};

  private constructor(socket: WebSocket, username: string) {
    this.socket = socket;
    this.username = username;
    const { promise, resolve } = Promise.withResolvers<CloseEvent>();
    this.closed = promise;
    socket.onmessage = ({ data }) => {
      this.frames++;
      this.events.push(...[JSON.parse(data)].flat());
      this.#wake();
    };
    socket.onerror = (event) => event.preventDefault();
    socket.onclose = (event) => {
      resolve(event);
      this.#wake();
    };
  }

  /**
   * Joins the room `home`.
   *
   * @throws if the server refuses
   */
  static async join(server: Server, username: string, after?: number): Promise<Client> {
    const query = new URLSearchParams({ username });
    if (after !== undefined) query.set("after", `${after}`);
    const socket = new WebSocket(`ws://localhost:${server.port}/ws/home?${query}`);
    const client = new Client(socket, username);
    const opened = new Promise((resolve) => socket.onopen = resolve);
    await Promise.race([opened, client.closed]);
    if (socket.readyState !== WebSocket.OPEN) throw new Error(`${username} is refused.`);
    return client;
  }

  /** The messages that the server has sent. */
  get chats(): Event[] {
    return this.events.filter(({ content }) => content !== undefined);
  }

  say(content: string, ref = crypto.randomUUID() as string): void {
    this.socket.send(JSON.stringify({ content, ref }));
  }

  /**
   * Waits for an event.
   *
   * @throws if the connection ends first, or nothing comes for long
   */
  async until(isWanted: (event: Event) => boolean): Promise<Event> {
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      this.#wake();
    }, PATIENCE_MS);
    try {
      for (;;) {
        const event = this.events.find(isWanted);
        if (event !== undefined) return event;
        if (isLate) throw new Error(`${this.username} waits in vain: is this the right step?`);
        if (this.socket.readyState !== WebSocket.OPEN) {
          throw new Error(`The connection of ${this.username} has ended.`);
        }
        await new Promise<void>((resolve) => this.#wake = resolve);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  /** Waits until the server has handled, and sent to this client, whatever happened until now. */
  async settle(): Promise<void> {
    for (let i = 0; i < 3; i++) {
      const marker = crypto.randomUUID();
      this.say(marker);
      await this.until(({ content }) => content === marker);
      this.events.splice(this.events.findIndex(({ content }) => content === marker), 1);
    }
  }

  async close(): Promise<void> {
    this.socket.close();
    await this.closed;
  }
}
