/**
 * The configuration: environment variables, read once, checked, and frozen.
 *
 * @module
 */

import { LOG_LEVELS, type LogLevel } from "./logger.ts";
import { parseName } from "./names.ts";
import type { Rate } from "./rate_limit.ts";

/** Everything that can be set from outside. Limits that are off are `Infinity`. */
export interface Config {
  /** Address to listen on. */
  readonly host: string;
  /** TCP port, 0 to 65535; 0 takes a free one. */
  readonly port: number;
  /** UTF-8 bytes of one message's content. */
  readonly maxMessageBytes: number;
  /** UTF-8 bytes of one frame. */
  readonly maxFrameBytes: number;
  /** Silence after which a peer is dead, in seconds; 0 if it may be silent for ever. */
  readonly pongWaitSeconds: number;
  /** Time in which a peer that is behind must take something, in seconds. */
  readonly writeWaitSeconds: number;
  /** Frames that may wait for one peer. */
  readonly sendQueueFrames: number;
  /** Bytes that may wait for one peer. */
  readonly sendQueueBytes: number;
  /** Messages sent to a joiner. */
  readonly historySize: number;
  /** WebSockets open at a time. */
  readonly maxConnections: number;
  /** WebSockets open at a time from one address. */
  readonly maxConnectionsPerAddress: number;
  /** WebSockets open at a time of one account. */
  readonly maxConnectionsPerAccount: number;
  /** Rooms alive at a time. */
  readonly maxRooms: number;
  /** Commands of one connection. */
  readonly messageRate: Rate;
  /** Attempts to join from one address. */
  readonly joinRate: Rate;
  /** Attempts to register or sign in from one address. */
  readonly authRate: Rate;
  /** Whether people may come without an account. */
  readonly guests: boolean;
  /** Names of accounts that may do everything everywhere. */
  readonly admins: readonly string[];
  /** Origins, besides the server's own, whose pages may connect; `*` for all. */
  readonly allowedOrigins: readonly string[];
  /** Whether a proxy's `X-Forwarded-For` and `X-Forwarded-Proto` are believed. */
  readonly trustProxy: boolean;
  /** Events kept per room, and private messages per person and room. */
  readonly historyKeep: number;
  /** Where everything is kept. */
  readonly database: Database;
  readonly logLevel: LogLevel;
}

/** Where everything is kept: in this process until it ends, or in a file. */
export type Database = { readonly kind: "memory" } | {
  readonly kind: "sqlite";
  readonly path: string;
};

/** An environment variable has a value that cannot be used. The message says which and why. */
export class ConfigError extends Error {
  override name = "ConfigError";
}

/** The environment: names to values. */
export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads the configuration.
 *
 * @param env the environment; what is not set, or empty, has its default
 * @throws {ConfigError} at the first value that cannot be used
 */
export function readConfig(env: Environment): Config {
  const whole = (name: string, byDefault: number, least: number, most: number): number => {
    const text = env[name] || String(byDefault);
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < least || value > most) {
      throw new ConfigError(
        `${name} must be a whole number from ${least} to ${most}, not "${text}".`,
      );
    }
    return value;
  };
  const limit = (name: string, byDefault: number): number =>
    whole(name, byDefault, 0, Number.MAX_SAFE_INTEGER) || Infinity;
  const oneOf = <T extends string>(name: string, byDefault: T, values: readonly T[]): T => {
    const text = env[name] || byDefault;
    const value = values.find((value) => value === text);
    if (value === undefined) {
      throw new ConfigError(`${name} must be one of ${values.join(", ")}, not "${text}".`);
    }
    return value;
  };
  const list = (name: string): readonly string[] =>
    Object.freeze((env[name] ?? "").split(",").map((item) => item.trim()).filter(Boolean));
  const isOn = (name: string, byDefault: "on" | "off") => {
    const text = oneOf(name, byDefault, ["on", "off", "1", "0", "true", "false"]);
    return text === "on" || text === "1" || text === "true";
  };
  const rate = (perSecond: number, burst: number): Rate => Object.freeze({ perSecond, burst });
  const joinsPerSecond = limit("JOIN_RATE_PER_ADDRESS", 20);
  const authsPerMinute = limit("AUTH_RATE_PER_ADDRESS", 10);
  return Object.freeze({
    host: env.HOST || "0.0.0.0",
    port: whole("PORT", 8080, 0, 65535),
    maxMessageBytes: limit("MAX_MESSAGE_BYTES", 4096),
    maxFrameBytes: limit("MAX_FRAME_BYTES", 16384),
    pongWaitSeconds: whole("PONG_WAIT_SECONDS", 60, 0, 86400),
    writeWaitSeconds: limit("WRITE_WAIT_SECONDS", 10),
    sendQueueFrames: limit("SEND_QUEUE_FRAMES", 256),
    sendQueueBytes: limit("SEND_QUEUE_BYTES", 1024 * 1024),
    historySize: whole("HISTORY_SIZE", 50, 0, 10000),
    maxConnections: limit("MAX_CONNECTIONS", 10000),
    maxConnectionsPerAddress: limit("MAX_CONNECTIONS_PER_ADDRESS", 256),
    maxConnectionsPerAccount: limit("MAX_CONNECTIONS_PER_ACCOUNT", 16),
    maxRooms: limit("MAX_ROOMS", 10000),
    messageRate: rate(limit("MESSAGE_RATE", 10), limit("MESSAGE_BURST", 30)),
    joinRate: rate(joinsPerSecond, 5 * joinsPerSecond),
    authRate: rate(authsPerMinute / 60, authsPerMinute),
    guests: isOn("GUESTS", "on"),
    admins: readAdmins(list("ADMINS")),
    allowedOrigins: readOrigins(list("ALLOWED_ORIGINS")),
    trustProxy: isOn("TRUST_PROXY", "off"),
    historyKeep: limit("HISTORY_KEEP", 10000),
    database: readDatabase(env),
    logLevel: oneOf<LogLevel>("LOG_LEVEL", "info", LOG_LEVELS),
  });
}

function readDatabase(env: Environment): Database {
  // Deno Deploy has no disk that lasts.
  const url = env.DATABASE_URL || (env.DENO_DEPLOY ? "memory:" : "sqlite:chat.db");
  if (url === "memory:") return Object.freeze({ kind: "memory" });
  if (/^sqlite:./.test(url)) return Object.freeze({ kind: "sqlite", path: url.slice(7) });
  // The value may hold a password: say its scheme and no more.
  const scheme = url.split(":")[0];
  throw new ConfigError(`DATABASE_URL must be memory: or sqlite:PATH, not "${scheme}:…".`);
}

function readAdmins(names: readonly string[]): readonly string[] {
  try {
    return Object.freeze(names.map((name) => parseName("username", name)));
  } catch (error) {
    const { message } = error as Error;
    throw new ConfigError(`ADMINS must be names, separated by commas. ${message}`);
  }
}

function readOrigins(origins: readonly string[]): readonly string[] {
  for (const origin of origins) {
    if (origin === "*" || URL.parse(origin)?.origin === origin) continue;
    throw new ConfigError(
      `ALLOWED_ORIGINS must be origins such as https://chat.example, or *, not "${origin}".`,
    );
  }
  return origins;
}
