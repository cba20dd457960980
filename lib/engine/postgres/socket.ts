/**
 * The socket of a connection to PostgreSQL. It is opened, with TLS if `sslmode` asks for it, before
 * the driver gets it. Whatever goes wrong, and however it ends, there is one error with the reason.
 *
 * @module
 */

import type { Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { connected, endSocket, failure, first, secured, tlsName } from "../remote/sockets.ts";
import type { Target } from "./url.ts";

/** The request for TLS: its length, and its number. */
const WANT_TLS = new Uint8Array([0, 0, 0, 8, 4, 210, 22, 47]);

/** How each `sslmode` checks the certificate, as libpq does it. */
const CHECKS = {
  allow: { rejectUnauthorized: false },
  prefer: { rejectUnauthorized: false },
  require: { rejectUnauthorized: false },
  "verify-ca": { checkServerIdentity: () => undefined },
  "verify-full": {},
} as const;

/** Maximum bytes of a server's message before it has let the client in. */
const MAX_GREETING = 65_536;

/**
 * Waits for a connection, and adds TLS.
 *
 * @param signal ends the socket
 * @throws {Error} with a `code`
 */
export async function openSocket(
  tcp: Socket,
  target: Target,
  signal: AbortSignal,
): Promise<Socket> {
  const { ssl } = target;
  await connected(tcp, signal);
  if (ssl === "disable") return tcp;
  tcp.write(WANT_TLS);
  const answer = await first(tcp, "data") as Uint8Array;
  if (answer.length === 1 && answer[0] === "S".charCodeAt(0)) {
    const socket = connectTls({ socket: tcp, ...tlsName(target.host), ...CHECKS[ssl] });
    tcp.once("close", () => socket.destroy());
    socket.once("close", () => tcp.destroy());
    await secured(socket, signal);
    return socket;
  }
  if (!["N", "E"].includes(String.fromCharCode(answer[0]!))) throw noPostgres();
  if (ssl === "prefer" || ssl === "allow") return tcp;
  throw failure("NO_TLS", "It has no TLS");
}

/**
 * The socket as the driver sees it. The driver fails if the socket ends at a bad moment, or if the
 * server is not PostgreSQL. So it does not learn of the end, and receives only checked messages.
 */
export function show(socket: Socket): unknown {
  return {
    on(event: string, listener: (...args: unknown[]) => void) {
      if (event === "data") hearServer(socket, listener);
      else if (event === "drain") socket.on(event, listener);
    },
    once: (event: string, listener: () => void) => socket.once(event, listener),
    removeListener() {},
    write: (bytes: Uint8Array, callback?: () => void) => socket.write(bytes, callback),
    end() {},
    destroy: () => socket.destroy(),
    get readyState() {
      return socket.readyState;
    },
  };
}

/** Passes on what a server sends, after a check that it is PostgreSQL. */
function hearServer(socket: Socket, listener: (bytes: Uint8Array) => void): void {
  let isIn = false;
  socket.on("data", (bytes: Uint8Array) => {
    if (socket.destroyed) return;
    try {
      isIn ||= checkGreeting(bytes);
      listener(bytes);
    } catch (error) {
      endSocket(socket, error as Error);
    }
  });
}

/** What a server asks of a client that signs in: the numbers in its messages of type R. */
const AUTH = { ok: 0, cleartext: 3, md5: 5, sasl: 10, saslGoOn: 11, saslEnd: 12 } as const;

/**
 * Checks the beginning of what a server sends, on some of which the driver would fail.
 *
 * @returns whether the server has let the client in
 * @throws {Error} with a `code`
 */
function checkGreeting(bytes: Uint8Array): boolean {
  const type = String.fromCharCode(bytes[0]!);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = bytes.length < 5 ? 0 : view.getUint32(1);
  if (!"RENv".includes(type) || length > MAX_GREETING) throw noPostgres();
  if (type !== "R") return false;
  if (length < 8 || bytes.length < 9) throw noPostgres();
  const auth = view.getUint32(5);
  if (!(Object.values(AUTH) as number[]).includes(auth)) {
    throw failure("NO_AUTH", "It wants another way to sign in");
  }
  if (auth === AUTH.saslGoOn && !SALT.test(new TextDecoder().decode(bytes.subarray(9)))) {
    throw noPostgres();
  }
  return auth === AUTH.ok || auth === AUTH.saslEnd;
}

/** A server's second message in SCRAM: its nonce, a salt, and how often to hash. */
const SALT = /^r=[^,]+,s=[A-Za-z0-9+/]+=*,i=[1-9]\d{0,6}/;

function noPostgres(): Error {
  return failure("NO_POSTGRES", "It does not speak as PostgreSQL does");
}
