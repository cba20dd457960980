/**
 * The two connections of one instance to Redis: one for commands, one for subscriptions.
 *
 * The driver queues nothing, repeats nothing and does not reconnect. A failed connection ends both.
 *
 * @module
 */

import type { Redis, RedisOptions } from "ioredis";
import { connect as connectTcp, type Socket } from "node:net";
import { setImmediate } from "node:timers";
import { connect as connectTls } from "node:tls";
import { connected, secured, tlsName, whenAborted } from "../remote/sockets.ts";
import { type ScriptName, SCRIPTS } from "./scripts.ts";
import { explain, type Place, unanswered } from "./sentences.ts";

/** Maximum commands in one write. */
const MAX_WRITTEN = 512;

/** A command and its arguments. */
export type Command = (string | number)[];

/** A server's reply to a command: any value of the protocol. */
// deno-lint-ignore no-explicit-any
export type Reply = any;

/** Receives what connections receive. */
export interface ConnectionListener {
  onMessage(channel: string, text: string): void;
  onLost(reason: Error): void;
}

/**
 * Opens the socket of a connection, and destroys it at once when the connection is closed. The
 * driver's own class waits two seconds for a server that does not answer, and leaves its timer
 * behind.
 */
class Connector {
  readonly #place: Place;
  readonly #stop = new AbortController();

  constructor({ place }: { place: Place }) {
    this.#place = place;
  }

  check(): boolean {
    return true;
  }

  async connect(): Promise<Socket> {
    const { host, port, isSecure } = this.#place;
    const { signal } = this.#stop;
    if (isSecure) {
      const socket = connectTls({ host, port, ...tlsName(host) });
      await secured(socket, signal);
      return socket;
    }
    const socket = connectTcp({ host, port });
    await connected(socket, signal);
    return socket;
  }

  disconnect(): void {
    this.#stop.abort();
  }
}

/** The connections of one instance. */
export class Connections {
  readonly #commands: Redis;
  readonly #subscriber: Redis;
  readonly #listener: ConnectionListener;
  readonly #shas = new Map<ScriptName, string>();
  #isClosed = false;
  /** Why the connections were lost. */
  #reason: Error | undefined;

  private constructor(commands: Redis, subscriber: Redis, listener: ConnectionListener) {
    this.#commands = commands;
    this.#subscriber = subscriber;
    this.#listener = listener;
    let reason: Error | undefined;
    for (const one of [commands, subscriber]) {
      one.on("error", (error) => reason ??= error);
      one.on("close", () => this.lose(reason ?? new Error("Redis has closed the connection.")));
    }
    subscriber.on("message", (channel, text) => {
      if (!this.#isClosed) listener.onMessage(channel, text);
    });
  }

  /**
   * Opens both connections, and signs in.
   *
   * @throws {Error} whose message is a sentence that says what to do
   */
  static async open(
    place: Place,
    listener: ConnectionListener,
    signal: AbortSignal,
  ): Promise<Connections> {
    const { Redis } = await import("ioredis");
    const isOpening = { value: true };
    const connections = new Connections(create(Redis, place), create(Redis, place), {
      onMessage: (channel, text) => listener.onMessage(channel, text),
      onLost: (reason) => isOpening.value || listener.onLost(reason),
    });
    const stop = () => connections.close();
    signal.addEventListener("abort", stop);
    try {
      signal.throwIfAborted();
      await Promise.race([connections.#signIn(place), whenAborted(signal)]);
      isOpening.value = false;
      return connections;
    } catch (error) {
      connections.close();
      throw signal.aborted ? unanswered(place) : explain(connections.#reason ?? error, place);
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }

  /**
   * Sends commands without waiting for replies between them, and returns the reply to each; an
   * error reply is a value. If they are many, the server begins before the last ones are written.
   */
  async send(commands: readonly Command[]): Promise<Reply[]> {
    const sent: Promise<Reply[]>[] = [];
    for (let at = 0; at < commands.length; at += MAX_WRITTEN) {
      if (at > 0) await new Promise((resolve) => setImmediate(resolve));
      const replies = this.#write(commands.slice(at, at + MAX_WRITTEN));
      replies.catch(() => {});
      sent.push(replies);
    }
    return (await Promise.all(sent)).flat(1);
  }

  async #write(commands: readonly Command[]): Promise<Reply[]> {
    if (this.#isClosed) throw new Error("The connection to Redis is closed.");
    const results = await this.#commands.pipeline(commands.map((one) => ["call", ...one])).exec();
    return results!.map(([error, reply]) => {
      if (error === null) return reply;
      if (error.name === "ReplyError") return error;
      throw error;
    });
  }

  /** Sends one command. */
  async ask(...command: Command): Promise<Reply> {
    const [reply] = await this.send([command]);
    if (reply instanceof Error) throw reply;
    return reply;
  }

  /** The command that runs a script. */
  script(name: ScriptName, keys: readonly string[], args: readonly (string | number)[]): Command {
    return ["EVALSHA", this.#shas.get(name)!, keys.length, ...keys, ...args];
  }

  /** Sends commands. If the server has forgotten its scripts, loads them again. */
  async run(commands: readonly Command[]): Promise<Reply[]> {
    const replies = await this.send(commands);
    const missing = replies.flatMap((reply, i) =>
      reply instanceof Error && reply.message.startsWith("NOSCRIPT") ? [i] : []
    );
    if (missing.length === 0) return replies;
    await this.loadScripts();
    const again = await this.send(missing.map((i) => commands[i]!));
    for (const [at, i] of missing.entries()) replies[i] = again[at];
    return replies;
  }

  /** Loads the scripts into the server. */
  async loadScripts(): Promise<void> {
    const names = Object.keys(SCRIPTS) as ScriptName[];
    const shas = await this.send(names.map((name) => ["SCRIPT", "LOAD", SCRIPTS[name]]));
    for (const [i, name] of names.entries()) {
      if (shas[i] instanceof Error) throw shas[i];
      this.#shas.set(name, shas[i]);
    }
  }

  /** Resolves when a subscription is live. */
  async subscribe(channel: string): Promise<void> {
    if (this.#isClosed) throw new Error("The connection to Redis is closed.");
    await this.#subscriber.subscribe(channel);
  }

  /** Ends a subscription. */
  unsubscribe(channel: string): void {
    if (!this.#isClosed) this.#subscriber.unsubscribe(channel).catch(() => {});
  }

  /** Closes the connections, and reports why. */
  lose(reason: Error): void {
    if (this.#isClosed) return;
    this.#reason = reason;
    this.close();
    this.#listener.onLost(reason);
  }

  /** Closes both connections at once. A repeat does nothing. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#commands.disconnect();
    this.#subscriber.disconnect();
  }

  async #signIn({ username, password, database }: Place): Promise<void> {
    await Promise.all([this.#commands, this.#subscriber].map(async (one) => {
      await one.connect();
      if (username !== "") await one.call("AUTH", username, password);
      else if (password !== "") await one.call("AUTH", password);
      if (database !== 0) await one.call("SELECT", database);
    }));
  }
}

function create(Driver: typeof Redis, place: Place): Redis {
  const options = {
    place,
    Connector: Connector as unknown as NonNullable<RedisOptions["Connector"]>,
    ...(place.isSecure && { tls: {} }),
    protocol: 2 as const,
    lazyConnect: true,
    enableOfflineQueue: false,
    enableReadyCheck: false,
    retryStrategy: () => null,
    reconnectOnError: null,
    autoResubscribe: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    connectTimeout: 0,
    disableClientInfo: true,
  };
  return new Driver(options);
}
