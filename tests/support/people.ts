/** People for tests: they register, sign in, and send HTTP requests. */

import { assertEquals, AssertionError } from "@std/assert";
import type { Event } from "../../lib/protocol/events.ts";
import { TEST_ENV } from "./server.ts";
import { handshake, OPCODE, RawClient, type RawHeaders } from "./raw.ts";

/** The default password of people in tests. */
export const PASSWORD = "correct horse battery";

/** Any server, in this process or in another. */
export interface Where {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  readonly port: number;
}

/** Parts of a request besides its method and address. */
export interface CallOptions {
  /** Sent as JSON; a string is sent unchanged. */
  body?: unknown;
  /** Sent as `Authorization: Bearer`. */
  token?: string | undefined;
  headers?: Record<string, string>;
}

/** An answer of the API. */
export interface Answer {
  status: number;
  /** The JSON in the body; `undefined` if it is empty. */
  // deno-lint-ignore no-explicit-any
  body: any;
  headers: Headers;
}

/** Sends one HTTP request and reads the answer. */
export async function call(
  server: Where,
  method: string,
  path: string,
  { body, token, headers = {} }: CallOptions = {},
): Promise<Answer> {
  const all: Record<string, string> = { ...headers };
  if (body !== undefined) all["content-type"] ??= "application/json";
  if (token !== undefined) all.authorization = `Bearer ${token}`;
  const response = await fetch(server.url + path, {
    method,
    headers: all,
    ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
  });
  const text = await response.text();
  const isJson = response.headers.get("content-type")?.startsWith("application/json");
  return {
    status: response.status,
    body: text === "" ? undefined : isJson ? JSON.parse(text) : text,
    headers: response.headers,
  };
}

/** Registers an account. Only names of admins need the code. */
export function register(
  server: Where,
  username: unknown,
  password: unknown = PASSWORD,
  options: CallOptions = {},
): Promise<Answer> {
  const body = { username, password, admin_code: TEST_ENV.ADMIN_CODE };
  return call(server, "POST", "/api/register", { ...options, body });
}

/** Asks for a token. */
export function login(
  server: Where,
  username: unknown,
  password: unknown = PASSWORD,
  options: CallOptions = {},
): Promise<Answer> {
  return call(server, "POST", "/api/login", { ...options, body: { username, password } });
}

/** A new token of an account. */
export async function signIn(server: Where, username: string): Promise<string> {
  const { status, body } = await login(server, username);
  assertEquals(status, 200, JSON.stringify(body));
  return body.token;
}

/** Creates an account. Returns a token of it. */
export async function signUp(server: Where, username: string): Promise<string> {
  const { status, body } = await register(server, username);
  assertEquals(status, 201, JSON.stringify(body));
  return await signIn(server, username);
}

/** In a browser's form: a cookie's name includes the port. */
function hostOf({ port }: Where): RawHeaders {
  return { Host: `127.0.0.1:${port}` };
}

/** The name of a cookie that a server sets over http. */
export function cookieName({ port }: Where, kind: "session" | "guest"): string {
  return `hubbub_${kind}_${port}`;
}

/** The status of a WebSocket handshake: 101, or that of the refusal. */
export async function knock(
  server: Where,
  target: string,
  headers: RawHeaders = {},
): Promise<{ status: number; error: string; headers: Headers }> {
  using client = await RawClient.connect(server.port);
  await client.write(handshake(target, { headers: { ...hostOf(server), ...headers } }));
  const { status, body, headers: answer } = await client.readAnswer();
  return { status, error: body === "" ? "" : JSON.parse(body).error, headers: answer };
}

/** A WebSocket opened with given headers, such as a browser's cookies. */
export class Visitor implements Disposable {
  readonly client: RawClient;
  #unread: Event[] = [];

  private constructor(client: RawClient) {
    this.client = client;
  }

  static async open(server: Where, target: string, headers: RawHeaders = {}): Promise<Visitor> {
    const client = await RawClient.connect(server.port);
    await client.write(handshake(target, { headers: { ...hostOf(server), ...headers } }));
    const { status, body } = await client.readAnswer();
    if (status === 101) return new Visitor(client);
    client.close();
    throw new AssertionError(`${target} was refused: ${status} ${body}`);
  }

  /** The next event of a type, skipping others. */
  async nextOf<T extends Event["type"]>(type: T): Promise<Extract<Event, { type: T }>> {
    while (true) {
      const event = this.#unread.shift();
      if (event === undefined) await this.#receive();
      else if (event.type === type) return event as Extract<Event, { type: T }>;
    }
  }

  /** The code in the close frame; `undefined` if the connection ends without one. */
  async closeCode(): Promise<number | undefined> {
    while (true) {
      const next = await this.client.readFrame();
      if (next === undefined) return undefined;
      if (next.opcode === OPCODE.close) return next.payload[0]! << 8 | next.payload[1]!;
    }
  }

  close(): void {
    this.client.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async #receive(): Promise<void> {
    const next = await this.client.readFrame();
    if (next === undefined) throw new AssertionError("The connection was closed.");
    if (next.opcode === OPCODE.text) this.#unread.push(...[JSON.parse(next.text)].flat());
  }
}

/** Resolves as `promise` does, and fails if that takes longer. */
export async function soon<T>(promise: Promise<T>, ms = 1000): Promise<T> {
  const start = performance.now();
  const value = await promise;
  const took = performance.now() - start;
  if (took > ms) throw new AssertionError(`It took ${Math.round(took)} ms, not ${ms} at most.`);
  return value;
}

/** The middle one of some numbers, or the one at another share of them. */
export function quantile(numbers: readonly number[], share = 0.5): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? NaN;
}
