/**
 * One connection to PostgreSQL. Unlike the driver, which would reconnect and let queries wait, a
 * failed connection ends here.
 *
 * Statements are sent as plain texts, in one round trip and without a name on the server, so that
 * they work through any pooler.
 *
 * @module
 */

import { connect, type Socket } from "node:net";
import { failure, whenAborted, whenEnded } from "../remote/sockets.ts";
import { openSocket, show } from "./socket.ts";
import type { Target } from "./url.ts";

/** How long the server may take to accept a connection, in milliseconds. */
const CONNECT_MS = 3000;

/** Makes the driver return values as texts instead of parsing these types. */
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

/** Receives the events of a {@linkcode Connection}. */
export interface ConnectionListener {
  /** The connection was open, and has ended. */
  onEnd(): void;
  /** A notification has come in. */
  onNotify(payload: string): void;
}

/** The part of the driver that this module uses. */
interface Sql {
  unsafe(text: string): Promise<Record<string, string | null>[]>;
  end(options: { timeout: number }): Promise<void>;
}

/** One connection. */
export class Connection {
  readonly #sql: Sql;
  readonly #socket: Socket;
  /** Reject the statements without an answer so far. */
  readonly #rejects = new Set<(error: Error) => void>();

  private constructor(sql: Sql, socket: Socket, onEnd: () => void) {
    this.#sql = sql;
    this.#socket = socket;
    whenEnded(socket, (error) => {
      for (const reject of this.#rejects) reject(error);
      this.close();
      onEnd();
    });
  }

  /**
   * Opens a connection, and sends a first statement.
   *
   * @throws {Error} with a `code` for `explain`
   */
  static async open(
    target: Target,
    { first, listener, signal }: ConnectionOptions,
  ): Promise<{ connection: Connection; answer: string | null }> {
    const { default: postgres } = await import("postgres");
    const { host, port } = target;
    const tcp = host.startsWith("/")
      ? connect(`${host}/.s.PGSQL.${port}`)
      : connect({ host, port, noDelay: true });
    const stop = new AbortController();
    const giveUp = () => stop.abort(failure("ETIMEDOUT", "No answer"));
    const timer = setTimeout(giveUp, CONNECT_MS);
    signal.addEventListener("abort", giveUp);
    if (signal.aborted) giveUp();
    const begin = async () => {
      const socket = await openSocket(tcp, target, stop.signal);
      const sql = postgres(toOptions(target, socket, listener)) as unknown as Sql;
      let isOpen = false;
      const connection = new Connection(sql, socket, () => isOpen && listener.onEnd());
      const answer = await connection.query(first);
      isOpen = true;
      return { connection, answer };
    };
    try {
      return await Promise.race([begin(), whenAborted(stop.signal)]);
    } catch (error) {
      stop.abort(error);
      throw error;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", giveUp);
    }
  }

  /** Sends statements. Returns the first column of the first row, if there is one. */
  async query(text: string): Promise<string | null> {
    const { promise, resolve, reject } = Promise.withResolvers<Record<string, string | null>[]>();
    this.#rejects.add(reject);
    this.#sql.unsafe(text).then(resolve, reject);
    try {
      const [row] = await promise;
      return row === undefined ? null : Object.values(row)[0] ?? null;
    } finally {
      this.#rejects.delete(reject);
    }
  }

  /**
   * Ends the connection at once, and rejects statements without an answer. A repeat does nothing.
   */
  close(): void {
    this.#socket.destroy();
    this.#sql.end({ timeout: 0 }).catch(() => {});
  }
}

type DriverOptions = Parameters<typeof import("postgres")>[0];

function toOptions(target: Target, socket: Socket, listener: ConnectionListener): DriverOptions {
  const { host, port, user, password, database } = target;
  let isUsed = false;
  const options = {
    ...{ host, port, user, password, database, ssl: false },
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
      return show(socket);
    },
    onnotice: () => {},
    onnotify: (_channel: string, payload: string) => listener.onNotify(payload),
  };
  return options as unknown as DriverOptions;
}
