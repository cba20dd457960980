/** A WebSocket client for tests: records every frame, and waits for expected ones. */

import { AssertionError } from "@std/assert";

/** Maximum wait for an expected event, in milliseconds. */
const PATIENCE_MS = 20_000;

/** A JSON frame of the server. */
export interface Frame {
  type: string;
  content: string;
  room: string;
  username: string;
  [field: string]: unknown;
}

export interface Closed {
  code: number;
  reason: string;
  wasClean: boolean;
}

export class Client implements AsyncDisposable {
  /** Every frame so far, as received. */
  readonly received: (string | ArrayBuffer)[] = [];
  /** Its close. */
  readonly closed: Promise<Closed>;
  readonly socket: WebSocket;
  #read = 0;
  #isClosed = false;
  #wake: () => void = () => {};

  private constructor(url: string, protocols: string[]) {
    this.socket = new WebSocket(url, protocols);
    this.socket.binaryType = "arraybuffer";
    this.closed = new Promise((resolve) => {
      this.socket.onclose = ({ code, reason, wasClean }) => {
        this.#isClosed = true;
        this.#wake();
        resolve({ code, reason, wasClean });
      };
    });
    this.socket.onmessage = ({ data }) => {
      this.received.push(data);
      this.#wake();
    };
    this.socket.onerror = (event) => event.preventDefault();
  }

  /** Connects. Rejects if the server refuses. */
  static async connect(url: string, protocols: string[] = []): Promise<Client> {
    const client = new Client(url, protocols);
    await Promise.race([
      new Promise<void>((resolve) => client.socket.onopen = () => resolve()),
      client.closed.then(() => Promise.reject(new Error(`${url} was refused.`))),
    ]);
    return client;
  }

  /** Connects to a room and reads up to its own `user_joined`. */
  static async join(ws: string, room: string, username: string, query = ""): Promise<Client> {
    const client = await Client.connect(`${ws}/ws/${room}?username=${username}${query}`);
    await client.nextFrame((frame) => frame.type === "user_joined" && frame.username === username);
    return client;
  }

  send(data: string | Uint8Array<ArrayBuffer>): void {
    this.socket.send(data);
  }

  /** The next unread frame. */
  async next(): Promise<string | ArrayBuffer> {
    const stop = AbortSignal.timeout(PATIENCE_MS);
    stop.onabort = () => this.#wake();
    while (this.#read === this.received.length) {
      if (this.#isClosed) throw new AssertionError("The connection was closed.");
      if (stop.aborted) throw new AssertionError("No frame came.");
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    stop.onabort = null;
    return this.received[this.#read++]!;
  }

  /** The next frame, as text. */
  async nextText(): Promise<string> {
    const data = await this.next();
    if (typeof data !== "string") throw new AssertionError("The frame is binary.");
    return data;
  }

  /** The next JSON frame; with `isWanted`, the next that satisfies it, skipping others. */
  async nextFrame(isWanted: (frame: Frame) => boolean = () => true): Promise<Frame> {
    while (true) {
      const frame = JSON.parse(await this.nextText());
      if (isWanted(frame)) return frame;
    }
  }

  /** The next `count` JSON frames. */
  async nextFrames(count: number): Promise<Frame[]> {
    const frames = [];
    while (frames.length < count) frames.push(await this.nextFrame());
    return frames;
  }

  /** Every JSON frame so far, read or not. */
  get frames(): Frame[] {
    return this.received.map((data) => JSON.parse(data as string));
  }

  async close(code = 1000): Promise<Closed> {
    this.socket.close(code);
    return await this.closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
