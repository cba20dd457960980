/** A bare TCP client for tests: sends any bytes, well-formed or not, and reads the answer. */

import { AssertionError } from "@std/assert";

/** Maximum wait for an answer, in milliseconds. */
const PATIENCE_MS = 20_000;

/** `Sec-WebSocket-Key` of the example in RFC 6455, section 1.3. */
const KEY = "dGhlIHNhbXBsZSBub25jZQ==";

export const OPCODE = {
  continuation: 0x0,
  text: 0x1,
  binary: 0x2,
  close: 0x8,
  ping: 0x9,
  pong: 0xa,
} as const;

/** Headers by name. A value replaces the default; `undefined` leaves the header out. */
export type RawHeaders = Record<string, string | undefined>;

export interface RawRequest {
  /** @default "GET" */
  method?: string;
  /** @default "1.1" */
  version?: string;
  headers?: RawHeaders;
  /** Sent unchanged after the empty line. */
  body?: string;
}

/** An HTTP answer. */
export interface RawAnswer {
  status: number;
  headers: Headers;
  body: string;
}

export interface RawFrame {
  fin: boolean;
  opcode: number;
  payload: Uint8Array<ArrayBuffer>;
  /** The payload as UTF-8. */
  text: string;
}

export interface FrameOptions {
  /** @default true */
  fin?: boolean;
  /** The three reserved bits, as a number from 0 to 7. @default 0 */
  rsv?: number;
  /** @default `OPCODE.text` */
  opcode?: number;
  /** Whether the payload is masked, as a client's must be. @default true */
  masked?: boolean;
  /** The announced length. @default the payload's */
  length?: number | bigint;
  /** Bytes of the length after the first: 0, 2 or 8. @default the fewest */
  lengthBytes?: 0 | 2 | 8;
}

const utf8 = new TextEncoder();
const MASK = Uint8Array.of(0x37, 0xfa, 0x21, 0x3d);

/** The bytes of one frame (RFC 6455, section 5.2), valid or not by the options. */
export function frame(
  payload: string | Uint8Array = "",
  options: FrameOptions = {},
): Uint8Array<ArrayBuffer> {
  const { fin = true, rsv = 0, opcode = OPCODE.text, masked = true } = options;
  const data = typeof payload === "string" ? utf8.encode(payload) : payload;
  const length = BigInt(options.length ?? data.length);
  const { lengthBytes = length < 126n ? 0 : length < 65536n ? 2 : 8 } = options;
  const maskAt = 2 + lengthBytes;
  const dataAt = maskAt + (masked ? MASK.length : 0);
  const bytes = new Uint8Array(dataAt + data.length);
  const view = new DataView(bytes.buffer);
  bytes[0] = (fin ? 0x80 : 0) | rsv << 4 | opcode;
  bytes[1] = (masked ? 0x80 : 0) |
    [Number(length & 0x7fn), 0, 126, 0, 0, 0, 0, 0, 127][lengthBytes]!;
  if (lengthBytes === 2) view.setUint16(2, Number(length));
  if (lengthBytes === 8) view.setBigUint64(2, length);
  if (masked) bytes.set(MASK, maskAt);
  for (let i = 0; i < data.length; i++) {
    bytes[dataAt + i] = data[i]! ^ (masked ? MASK[i % MASK.length]! : 0);
  }
  return bytes;
}

/** The bytes of a close frame; without a code, of an empty one. */
export function closeFrame(
  code?: number,
  reason: string | Uint8Array = "",
): Uint8Array<ArrayBuffer> {
  if (code === undefined) return frame("", { opcode: OPCODE.close });
  const payload = concat([
    Uint8Array.of(code >> 8, code & 0xff),
    typeof reason === "string" ? utf8.encode(reason) : reason,
  ]);
  return frame(payload, { opcode: OPCODE.close });
}

/** The text of a request; by default a valid WebSocket handshake. */
export function handshake(target: string, request: RawRequest = {}): string {
  const { method = "GET", version = "1.1", headers = {}, body = "" } = request;
  const all: RawHeaders = {
    "Host": "127.0.0.1",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
    ...headers,
  };
  const lines = Object.entries(all)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${target} HTTP/${version}\r\n${lines.join("")}\r\n${body}`;
}

/** Sends one plain request with unchanged headers, and reads the answer. */
export async function askRaw(
  port: number,
  target: string,
  headers: RawHeaders = {},
  method = "GET",
): Promise<RawAnswer> {
  using client = await RawClient.connect(port);
  const plain = {
    "Upgrade": undefined,
    "Connection": undefined,
    "Sec-WebSocket-Key": undefined,
    "Sec-WebSocket-Version": undefined,
  };
  await client.write(handshake(target, { method, headers: { ...plain, ...headers } }));
  return await client.readAnswer(method);
}

export function concat(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** One TCP connection. */
export class RawClient implements Disposable {
  readonly #conn: Deno.TcpConn;
  /** Received and unread bytes. */
  #unread = new Uint8Array();
  #isClosed = false;

  private constructor(conn: Deno.TcpConn) {
    this.#conn = conn;
  }

  static async connect(port: number): Promise<RawClient> {
    return new RawClient(await Deno.connect({ hostname: "127.0.0.1", port }));
  }

  /** Connects and opens a WebSocket. */
  static async open(port: number, target: string): Promise<RawClient> {
    const client = await RawClient.connect(port);
    await client.write(handshake(target));
    const { status, body } = await client.readAnswer();
    if (status === 101) return client;
    client.close();
    throw new AssertionError(`${target} was refused: ${status} ${body}`);
  }

  /** Writes the bytes, or as many as possible until either end closes. */
  async write(data: string | Uint8Array): Promise<void> {
    let rest = typeof data === "string" ? utf8.encode(data) : data;
    try {
      while (rest.length > 0) rest = rest.subarray(await this.#conn.write(rest));
    } catch (error) {
      if (!this.#isClosed && !isReset(error)) throw error;
    }
  }

  /** Reads one HTTP answer, with its body if it has one. */
  async readAnswer(method = "GET"): Promise<RawAnswer> {
    const answer = await this.tryReadAnswer(method);
    if (answer === undefined) throw new AssertionError("The connection ended without an answer.");
    return answer;
  }

  /** Reads one HTTP answer, or `undefined` if the connection ends before it. */
  async tryReadAnswer(method = "GET"): Promise<RawAnswer | undefined> {
    let end: number;
    while ((end = indexOfEmptyLine(this.#unread)) < 0) {
      if (!await this.#receive()) return undefined;
    }
    const [first = "", ...lines] = decode(this.#take(end)).trimEnd().split("\r\n");
    const headers = new Headers(lines.map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon), line.slice(colon + 1).trim()];
    }));
    const status = Number(first.split(" ")[1]);
    const length = method === "HEAD" ? 0 : Number(headers.get("content-length") ?? 0);
    while (this.#unread.length < length && await this.#receive());
    return { status, headers, body: decode(this.#take(length)) };
  }

  /** Reads one frame, or `undefined` if the connection ends before it. */
  async readFrame(): Promise<RawFrame | undefined> {
    if (!await this.#has(2)) return undefined;
    const [first = 0, second = 0] = this.#unread;
    const lengthBytes = second === 126 ? 2 : second === 127 ? 8 : 0;
    if (!await this.#has(2 + lengthBytes)) return undefined;
    let length = lengthBytes === 0 ? second : 0;
    for (const byte of this.#unread.subarray(2, 2 + lengthBytes)) length = length * 256 + byte;
    if (!await this.#has(2 + lengthBytes + length)) return undefined;
    this.#take(2 + lengthBytes);
    const payload = this.#take(length);
    return { fin: first >= 0x80, opcode: first & 0xf, payload, text: decode(payload) };
  }

  /** Reads frames until the connection ends. */
  async readFrames(): Promise<RawFrame[]> {
    const frames: RawFrame[] = [];
    let frame: RawFrame | undefined;
    while ((frame = await this.readFrame()) !== undefined) frames.push(frame);
    return frames;
  }

  /** Receives one byte and leaves the rest to the system, so that {@linkcode close} is a reset. */
  async receiveOneByte(): Promise<void> {
    await this.#receive(1);
  }

  /** Ends the writing side, and continues to read. */
  async endWriting(): Promise<void> {
    try {
      await this.#conn.closeWrite();
    } catch (error) {
      if (!isReset(error)) throw error;
    }
  }

  /** Closes at once: with a reset if received bytes are unread. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#conn.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Whether this many bytes arrive before the connection ends. */
  async #has(count: number): Promise<boolean> {
    while (this.#unread.length < count) {
      if (!await this.#receive()) return false;
    }
    return true;
  }

  #take(count: number): Uint8Array<ArrayBuffer> {
    const taken = this.#unread.slice(0, count);
    this.#unread = this.#unread.subarray(count);
    return taken;
  }

  /** Waits for bytes. False if the connection has ended. */
  async #receive(most = 65536): Promise<boolean> {
    const buffer = new Uint8Array(most);
    let isLate = false;
    // Only closing the connection ends a read.
    const timer = setTimeout(() => {
      isLate = true;
      this.close();
    }, PATIENCE_MS);
    try {
      const count = await this.#conn.read(buffer);
      if (count === null) return false;
      this.#unread = concat([this.#unread, buffer.subarray(0, count)]);
      return true;
    } catch (error) {
      if (isLate) throw new AssertionError("Nothing came, and the connection did not end.");
      if (isReset(error)) return false;
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }
}

function isReset(error: unknown): boolean {
  return error instanceof Deno.errors.ConnectionReset ||
    error instanceof Deno.errors.BrokenPipe ||
    error instanceof Deno.errors.ConnectionAborted ||
    error instanceof Deno.errors.NotConnected;
}

function indexOfEmptyLine(bytes: Uint8Array): number {
  const at = latin1.decode(bytes).indexOf("\r\n\r\n");
  return at < 0 ? at : at + 4;
}

// One unit for each byte, so that an index in the text is an index in the bytes.
const latin1 = new TextDecoder("latin1");

function decode(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
