/**
 * Sockets to a server: whatever the other side does while they open, and whenever they end, one
 * error says so.
 *
 * @module
 */

import { isIP, type Socket } from "node:net";
import type { TLSSocket } from "node:tls";

/** The reasons of sockets that were ended here: a socket does not always tell of an error. */
const reasons = new WeakMap<Socket, Error>();

/**
 * Waits until a socket is connected. Later errors of it are heard by {@linkcode whenEnded}.
 *
 * @param signal ends the socket
 * @throws {Error} of the socket, or with the code `ENDED`
 */
export async function connected(socket: Socket, signal: AbortSignal): Promise<void> {
  endWith(signal, socket);
  await first(socket, "connect");
}

/**
 * Waits until a socket has TLS.
 *
 * @param signal ends the socket
 * @throws {Error} of the system, or with the code `TLS`
 */
export async function secured(socket: TLSSocket, signal: AbortSignal): Promise<void> {
  endWith(signal, socket);
  let hasHeard = false;
  socket.prependOnceListener("data", () => hasHeard = true);
  // Deno 2.5 says that TLS is there when it has only asked for it.
  const fail = (error: Error) => hasHeard || endSocket(socket, toTlsFailure(error));
  socket.once("error", fail);
  socket.once("close", () => fail(ended()));
  try {
    await first(socket, "secureConnect");
  } catch (error) {
    throw toTlsFailure(error as Error);
  }
}

/** What TLS needs to know of the other side. */
export function tlsName(host: string): { servername?: string } {
  return isIP(host) === 0 ? { servername: host } : {};
}

/** Codes of sockets that found nobody who could have TLS. */
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

/** Calls back once, when a socket has ended, with the reason. */
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

/** An error with a code that says what it is about. */
export function failure(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}

function endWith(signal: AbortSignal, socket: Socket): void {
  // Without a listener, an error would end the process.
  socket.on("error", () => {});
  if (signal.aborted) socket.destroy();
  else signal.addEventListener("abort", () => socket.destroy());
}
