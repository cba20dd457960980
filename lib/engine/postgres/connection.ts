/**
 * One connection to PostgreSQL. The driver would connect again by itself, and let queries wait
 * meanwhile; here a connection that fails has ended.
 *
 * Statements are sent as plain texts, in one round trip and without a name on the server, so that
 * they get through any pooler.
 *
 * @module
 */

import { connect, type Socket } from "node:net";
import type { Target } from "./url.ts";

/** How long the server may take to accept a connection, in milliseconds. */
const CONNECT_MS = 3000;

/** The types that the driver would parse: what is asked for comes as a text. */
const AS_TEXT = {
  to: 25,
  from: [16, 21, 23, 26, 114, 700, 701],
  serialize: (text: string) => text,
  parse: (text: string) => text,
};

/** What {@linkcode Connection.open} needs. */
export interface ConnectionOptions {
  /** The first statement to send. */
  readonly first: string;
  readonly listener: ConnectionListener;
  /** Ends the attempt. */
  readonly signal: AbortSignal;
}

/** What a {@linkcode Connection} tells. */
export interface ConnectionListener {
  /** The connection has ended; it had been open. */
  onEnd(): void;
  /** A notification has come in. */
  onNotify(payload: string): void;
}

/** The part of the driver that is used. */
interface Sql {
  unsafe(text: string): Promise<Record<string, string | null>[]>;
  end(options: { timeout: number }): Promise<void>;
}

/** One connection. */
export class Connection {
  readonly #sql: Sql;
  readonly #socket: Socket;

  private constructor(sql: Sql, socket: Socket) {
    this.#sql = sql;
    this.#socket = socket;
  }

  /**
   * Opens a connection, and sends a first statement.
   *
   * @throws {Error} of the driver
   */
  static async open(
    target: Target,
    { first, listener, signal }: ConnectionOptions,
  ): Promise<{ connection: Connection; answer: string | null }> {
    const { default: postgres } = await import("postgres");
    const { host, port, user, password, database, ssl } = target;
    const socket = host.startsWith("/")
      ? connect(`${host}/.s.PGSQL.${port}`)
      : connect({ host, port, noDelay: true });
    // The driver looks here for the name in the certificate.
    Object.assign(socket, { host });
    const connected = whenConnected(socket);
    // It may fail before the driver asks for it.
    connected.catch(() => {});
    let isUsed = false;
    let isOpen = false;
    const options = {
      ...{ host, port, user, password, database, ssl },
      max: 1,
      prepare: false,
      fetch_types: false,
      idle_timeout: 0,
      max_lifetime: 0,
      connect_timeout: 0,
      backoff: () => 0,
      connection: { application_name: "hubbub" },
      types: { text: AS_TEXT },
      socket: () => {
        if (isUsed) throw new Error("The connection has ended.");
        isUsed = true;
        return connected;
      },
      onnotice: () => {},
      onnotify: (_channel: string, payload: string) => listener.onNotify(payload),
      onclose: () => isOpen && listener.onEnd(),
    };
    const sql = postgres(options as unknown as Parameters<typeof postgres>[0]) as unknown as Sql;
    const connection = new Connection(sql, socket);
    const giveUp = () => {
      socket.destroy(Object.assign(new Error("No answer."), { code: "ETIMEDOUT" }));
    };
    const timer = setTimeout(giveUp, CONNECT_MS);
    signal.addEventListener("abort", giveUp);
    if (signal.aborted) giveUp();
    const ended = whenEnded(socket);
    try {
      const answer = await Promise.race([connection.query(first), ended.promise]);
      isOpen = true;
      return { connection, answer };
    } catch (error) {
      connection.close();
      throw error;
    } finally {
      clearTimeout(timer);
      ended.forget();
      signal.removeEventListener("abort", giveUp);
    }
  }

  /** Sends statements. Returns the first column of the first row, if there is one. */
  async query(text: string): Promise<string | null> {
    const [row] = await this.#sql.unsafe(text);
    return row === undefined ? null : Object.values(row)[0] ?? null;
  }

  /** Ends the connection at once. What is under way is rejected. A repeat does nothing. */
  close(): void {
    this.#socket.destroy();
    this.#sql.end({ timeout: 0 }).catch(() => {});
  }
}

/** How long the driver may take to say why a connection has ended, in milliseconds. */
const REASON_MS = 100;

/** Rejects when a socket has ended, whether or not the driver has noticed. */
function whenEnded(socket: Socket): { promise: Promise<never>; forget: () => void } {
  const { promise, reject } = Promise.withResolvers<never>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const onClose = () => {
    const error = Object.assign(new Error("The connection has ended."), { code: "ECONNRESET" });
    timer = setTimeout(() => reject(error), REASON_MS);
  };
  if (socket.closed) onClose();
  else socket.once("close", onClose);
  const forget = () => {
    socket.off("close", onClose);
    clearTimeout(timer);
  };
  return { promise, forget };
}

function whenConnected(socket: Socket): Promise<Socket> {
  return new Promise((resolve, reject) => {
    socket.once("connect", () => {
      socket.off("error", reject);
      resolve(socket);
    });
    socket.once("error", reject);
  });
}
