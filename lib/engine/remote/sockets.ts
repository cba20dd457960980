/**
 * Sockets to a server. Whatever goes wrong while one opens, and however it ends, there is one error
 * with the reason.
 *
 * @module
 */

import { isIP, type Socket } from "node:net";
import type { TLSSocket } from "node:tls";

/** Why this module ended a socket. A socket itself does not always report an error. */
const reasons = new WeakMap<Socket, Error>();

/**
 * Waits until a socket is connected. {@linkcode whenEnded} reports its later errors.
 *
 * @param signal ends the socket
 * @throws {Error} the socket's own, or one with the code `ENDED`
 */
export async function connected(socket: Socket, signal: AbortSignal): Promise<void> {
  endWith(signal, socket);
  await first(socket, "connect");
}

/**
 * Waits until a socket has TLS.
 *
 * @param signal ends the socket
 * @throws {Error} the system's, or one with the code `TLS`
 */
export async function secured(socket: TLSSocket, signal: AbortSignal): Promise<void> {
  endWith(signal, socket);
  let hasHeard = false;
  socket.prependOnceListener("data", () => hasHeard = true);
  // Deno 2.5 reports TLS as ready when it has only asked for it.
  const fail = (error: Error) => hasHeard || endSocket(socket, toTlsFailure(error));
  socket.once("error", fail);
  socket.once("close", () => fail(ended()));
  try {
    await first(socket, "secureConnect");
  } catch (error) {
    throw toTlsFailure(error as Error);
  }
}

/** The option that names the server for TLS. An IP address has no name. */
export function tlsName(host: string): { servername?: string } {
  return isIP(host) === 0 ? { servername: host } : {};
}

/** Codes of errors before anybody answered: no fault of TLS. */
const UNREACHABLE = /ECONNREFUSED|ENOTFOUND|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|EAI_AGAIN/;

function toTlsFailure(error: Error & { code?: string }): Error {
  return UNREACHABLE.test(error.code ?? "") ? error : failure("TLS", error.message);
}

/** Ends a socket with a reason. */
export function endSocket(socket: Socket, reason: Error): void {
  if (!reasons.has(socket)) reasons.set(socket, reason);
  socket.destroy();
}

/** The first event of a kind. @throws {Error} if the socket ends before */
export function first(socket: Socket, event: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    socket.once(event, resolve);
    socket.once("error", reject);
    whenEnded(socket, reject);
  });
}

/** Calls back once with the reason, when a socket has ended. */
export function whenEnded(socket: Socket, callback: (reason: Error) => void): void {
  let reason: Error | undefined;
  socket.once("error", (error) => reason = error);
  const tell = () => callback(reasons.get(socket) ?? reason ?? ended());
  if (socket.closed) queueMicrotask(tell);
  else socket.once("close", tell);
}

/** Rejects with the reason of a signal. */
export function whenAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason));
  });
}

function ended(): Error {
  return failure("ENDED", "It has closed the connection");
}

/** An error with a code, for programs. */
export function failure(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}

function endWith(signal: AbortSignal, socket: Socket): void {
  // Without a listener, an error would end the process.
  socket.on("error", () => {});
  if (signal.aborted) socket.destroy();
  else signal.addEventListener("abort", () => socket.destroy());
}
