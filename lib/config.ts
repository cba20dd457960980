/**
 * The configuration: environment variables, read once, checked, frozen, and grouped by the part of
 * the server that uses them.
 *
 * A new setting needs a line here and one in the file that uses it. A limit that is off is
 * `Infinity`.
 *
 * @module
 */

import { LOG_LEVELS, type LogLevel } from "./logger.ts";
import { parseName } from "./names.ts";
import type { Rate } from "./rate_limit.ts";

/** Every setting of the server. */
export interface Config {
  /** Where it listens. */
  readonly listen: ListenSettings;
  /** What the hub allows. */
  readonly limits: LimitSettings;
  /** How many WebSockets may be open. */
  readonly connections: ConnectionSettings;
  /** How often one address may send, join, and sign in. */
  readonly rates: RateSettings;
  /** Who may chat. */
  readonly people: PeopleSettings;
  /** Which sites and headers it trusts, and how long a socket may be silent. */
  readonly http: HttpSettings;
  /** How much it keeps. */
  readonly engine: EngineSettings;
  /** Where it keeps everything. */
  readonly database: Database;
  /** Whether other instances run beside this one: on Deno Deploy, or on the same port. */
  readonly hasSiblings: boolean;
  /** How its metrics go out. */
  readonly metrics: MetricsSettings;
  /** Minimum level of log lines. */
  readonly logLevel: LogLevel;
}

/** The address of the listener. */
export interface ListenSettings {
  /** Host name or address. */
  readonly host: string;
  /** TCP port, 0 to 65535; 0 takes a free one. */
  readonly port: number;
  /** Whether other processes may listen on the same port. */
  readonly reusePort: boolean;
}

/** The limits that the hub enforces. */
export interface LimitSettings {
  /** Maximum UTF-8 bytes of one message's content. */
  readonly maxMessageBytes: number;
  /** Maximum UTF-8 bytes of one frame. */
  readonly maxFrameBytes: number;
  /** Maximum frames that wait for one peer. */
  readonly sendQueueFrames: number;
  /** Maximum bytes that wait for one peer. */
  readonly sendQueueBytes: number;
  /** How long a peer may take nothing while frames wait for it, in milliseconds. */
  readonly writeWaitMs: number;
  /** Maximum messages that a new member receives. */
  readonly historySize: number;
  /** Maximum rooms open at a time. */
  readonly maxRooms: number;
  /** How often one connection may send a frame. */
  readonly messageRate: Rate;
}

/** Maximum WebSockets open at a time. */
export interface ConnectionSettings {
  /** In all. */
  readonly maxConnections: number;
  /** From one address. */
  readonly maxConnectionsPerAddress: number;
  /** Of one account. */
  readonly maxConnectionsPerAccount: number;
}

/** Maximum rates of attempts from one address. */
export interface RateSettings {
  /** Attempts to open a WebSocket. */
  readonly join: Rate;
  /** Attempts to register or sign in. */
  readonly auth: Rate;
  /** Frames over all connections, and their bytes. */
  readonly traffic: { readonly frames: Rate; readonly bytes: Rate };
}

/** Who may chat, who may make an account, and which accounts are admins. */
export interface PeopleSettings {
  /** Whether people may chat without a token. */
  readonly guests: boolean;
  /** Whether everyone may make an account; else the admins alone. */
  readonly registration: boolean;
  /** The secret of the site that signs its own people in; absent if none does. */
  readonly signInSecret: string | undefined;
  /** Names of the admins' accounts. Admins have every right in every room. */
  readonly admins: readonly string[];
  /** The code that registers an admin's name; absent: the server makes one at the start. */
  readonly adminCode: string | undefined;
}

/** Which origins and headers the server trusts, and how long a socket may be silent. */
export interface HttpSettings {
  /** Origins, besides the server's own, whose pages may use the server; `*` for all. */
  readonly allowedOrigins: readonly string[];
  /** Origins whose pages may show the server's page in a frame; `*` for all. */
  readonly embedOrigins: readonly string[];
  /** Whether the server believes what a proxy says about the client. */
  readonly trustProxy: boolean;
  /** The only address that the server answers to; absent for any. */
  readonly publicUrl: PublicUrl | undefined;
  /** How long a silent peer counts as alive, in seconds; 0 for no limit. */
  readonly pongWaitSeconds: number;
}

/** The one address at which people reach the server. */
export interface PublicUrl {
  /** Scheme, host and port, as a browser writes them in `Origin`. */
  readonly origin: string;
  /** Host, with the port unless it is the scheme's default. */
  readonly host: string;
  /** Whether people reach it over TLS. */
  readonly scheme: "http" | "https";
  /** Path of the page, with a slash at both ends. */
  readonly path: string;
}

/** How much the engine keeps. */
export interface EngineSettings {
  /** Minimum events kept per room, and private messages per person and room. */
  readonly historyKeep: number;
  /** Maximum bytes of the database in use. */
  readonly maxStoredBytes: number;
}

/** How the metrics go out. */
export interface MetricsSettings {
  /** Whether `/metrics` answers. */
  readonly hasPage: boolean;
  /** Whether the runtime exports metrics, as its own variables say. */
  readonly hasOtel: boolean;
  /** Whether the runtime traces every request only because `OTEL_DENO` turns on everything. */
  readonly tracesUnasked: boolean;
}

/**
 * Where the server keeps everything: in this process until it ends, in a file, or in a server that
 * several instances share. A URL may hold a password: it goes to the driver, never into a sentence
 * or a log.
 */
export type Database =
  | { readonly kind: "memory" }
  | { readonly kind: "sqlite"; readonly path: string }
  | { readonly kind: "postgres" | "redis"; readonly url: string };

/**
 * An environment variable has a value that the server cannot use. The message says which and why.
 */
export class ConfigError extends Error {
  /** Distinguishes it from other errors. */
  override readonly name = "ConfigError";
}

/** Maximum length of `ADMIN_CODE`, in UTF-16 units. */
const MAX_ADMIN_CODE_LENGTH = 256;

/**
 * Minimum and maximum length of `SIGN_IN_SECRET`, in UTF-16 units. HMAC wants as many bytes as its
 * hash has (RFC 7518, section 3.2).
 */
const MIN_SIGN_IN_SECRET_LENGTH = 32;
const MAX_SIGN_IN_SECRET_LENGTH = 1024;

/** The environment: names to values. */
export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads the configuration.
 *
 * @param env the environment; a variable that is not set, or empty, has its default
 * @throws {ConfigError} at the first value that the server cannot use
 */
export function readConfig(env: Environment): Config {
  return Object.freeze({
    listen: readListen(env),
    limits: readLimits(env),
    connections: readConnections(env),
    rates: readRates(env),
    people: readPeople(env),
    http: readHttp(env),
    engine: readEngine(env),
    database: readDatabase(env),
    hasSiblings: Boolean(env.DENO_DEPLOY) || readListen(env).reusePort,
    metrics: readMetrics(env),
    logLevel: oneOf<LogLevel>(env, "LOG_LEVEL", "info", LOG_LEVELS),
  });
}

/**
 * Minimum length of a setting whose typos are searched for: shorter variables may be other programs'.
 */
const MIN_TYPO_LENGTH = 5;

/**
 * Finds variables that are one typo away from a setting: a letter too many, missing or wrong, or
 * two letters that changed places.
 *
 * @returns a sentence for each
 */
export function findTypos(env: Environment): string[] {
  const settings = settingNames();
  return Object.keys(env).filter((name) => !settings.includes(name)).flatMap((name) => {
    const setting = settings.find((setting) =>
      setting.length >= MIN_TYPO_LENGTH && isOneTypoAway(name, setting)
    );
    return setting ? [`${name} is not a setting. Did you mean ${setting}?`] : [];
  });
}

/** The names of all variables that {@linkcode readConfig} reads. */
function settingNames(): string[] {
  const names = new Set<string>();
  readConfig(new Proxy({}, { get: (_env, name) => void names.add(String(name)) }));
  return [...names];
}

/** Whether two different texts are the same but for one letter, or for two that changed places. */
function isOneTypoAway(a: string, b: string): boolean {
  let start = 0;
  while (start < a.length && a[start] === b[start]) start++;
  let end = 0;
  const maxEnd = Math.min(a.length, b.length) - start;
  while (end < maxEnd && a.at(-1 - end) === b.at(-1 - end)) end++;
  const [left, right] = [a, b].map((text) => text.slice(start, text.length - end)) as [
    string,
    string,
  ];
  if (left.length <= 1 && right.length <= 1) return true;
  return left.length === 2 && right.length === 2 && left[0] === right[1] && left[1] === right[0];
}

function readListen(env: Environment): ListenSettings {
  return Object.freeze({
    host: env.HOST || "0.0.0.0",
    port: whole(env, "PORT", 8080, 0, 65535),
    reusePort: isOn(env, "REUSE_PORT", "off"),
  });
}

function readLimits(env: Environment): LimitSettings {
  const maxMessageBytes = limit(env, "MAX_MESSAGE_BYTES", 4096);
  return Object.freeze({
    maxMessageBytes,
    maxFrameBytes: limit(env, "MAX_FRAME_BYTES", frameBytesFor(maxMessageBytes)),
    sendQueueFrames: limit(env, "SEND_QUEUE_FRAMES", 256),
    sendQueueBytes: limit(env, "SEND_QUEUE_BYTES", 1024 * 1024),
    writeWaitMs: limit(env, "WRITE_WAIT_SECONDS", 10) * 1000,
    historySize: whole(env, "HISTORY_SIZE", 50, 0, 10000),
    maxRooms: limit(env, "MAX_ROOMS", 10000),
    messageRate: rate(limit(env, "MESSAGE_RATE", 10), limit(env, "MESSAGE_BURST", 30)),
  });
}

/**
 * The bytes of a frame that holds a message of this size with every byte escaped (`\u0022`), and
 * its other fields.
 */
function frameBytesFor(messageBytes: number): number {
  return Math.max(32768, 6 * messageBytes + 8192);
}

function readConnections(env: Environment): ConnectionSettings {
  return Object.freeze({
    maxConnections: limit(env, "MAX_CONNECTIONS", 10000),
    maxConnectionsPerAddress: limit(env, "MAX_CONNECTIONS_PER_ADDRESS", 256),
    maxConnectionsPerAccount: limit(env, "MAX_CONNECTIONS_PER_ACCOUNT", 16),
  });
}

function readRates(env: Environment): RateSettings {
  const joinsPerSecond = limit(env, "JOIN_RATE_PER_ADDRESS", 20);
  const attemptsPerMinute = limit(env, "AUTH_RATE_PER_ADDRESS", 10);
  return Object.freeze({
    join: rate(joinsPerSecond, 5 * joinsPerSecond),
    auth: rate(attemptsPerMinute / 60, attemptsPerMinute),
    traffic: readTraffic(env),
  });
}

/**
 * How much one address may send. Its burst has room for messages of full size, its rate for
 * messages of a quarter of that.
 */
function readTraffic(env: Environment): RateSettings["traffic"] {
  const framesPerSecond = limit(env, "MESSAGE_RATE_PER_ADDRESS", 100);
  const burst = 3 * framesPerSecond;
  const messageBytes = Math.max(4096, limit(env, "MAX_MESSAGE_BYTES", 4096));
  return Object.freeze({
    frames: rate(framesPerSecond, burst),
    bytes: rate(framesPerSecond * messageBytes / 4, burst * messageBytes),
  });
}

function readPeople(env: Environment): PeopleSettings {
  return Object.freeze({
    guests: isOn(env, "GUESTS", "on"),
    registration: isOn(env, "REGISTRATION", "on"),
    signInSecret: readSignInSecret(env),
    admins: readAdmins(env),
    adminCode: readAdminCode(env),
  });
}

function readHttp(env: Environment): HttpSettings {
  return Object.freeze({
    allowedOrigins: readOrigins(env),
    embedOrigins: readEmbedOrigins(env),
    trustProxy: isOn(env, "TRUST_PROXY", "off"),
    publicUrl: readPublicUrl(env),
    pongWaitSeconds: whole(env, "PONG_WAIT_SECONDS", 60, 0, 86400),
  });
}

function readEngine(env: Environment): EngineSettings {
  return Object.freeze({
    historyKeep: limit(env, "HISTORY_KEEP", 10000),
    maxStoredBytes: limit(env, "MAX_STORED_BYTES", 2 * 1024 ** 3),
  });
}

function readMetrics(env: Environment): MetricsSettings {
  const isTrue = (name: string) => env[name]?.toLowerCase() === "true";
  const isOtelFor = (name: string) =>
    !isTrue("OTEL_SDK_DISABLED") && isTrue(env[name] ? name : "OTEL_DENO");
  return Object.freeze({
    hasPage: isOn(env, "METRICS", "off"),
    hasOtel: isOtelFor("OTEL_DENO_METRICS"),
    tracesUnasked: isOtelFor("OTEL_DENO_TRACING") && !isTrue("OTEL_DENO_TRACING"),
  });
}

/**
 * Reads `DATABASE_URL`.
 *
 * @throws {ConfigError} if the server cannot use it
 */
export function readDatabase(env: Environment): Database {
  // Deno Deploy has no persistent disk.
  const url = env.DATABASE_URL || (env.DENO_DEPLOY ? "memory:" : "sqlite:chat.db");
  if (url === "memory:") return Object.freeze({ kind: "memory" });
  if (url.startsWith("sqlite:")) {
    return Object.freeze({ kind: "sqlite", path: readPath(url.slice("sqlite:".length)) });
  }
  const kind = URL_KINDS.get(url.split("://")[0]!);
  if (kind !== undefined) return Object.freeze({ kind, url: checkUrl(kind, url) });
  // The value may hold a password, so no sentence quotes it.
  throw new ConfigError(
    "DATABASE_URL must begin with memory:, sqlite:, postgres://, postgresql://, redis:// or rediss://.",
  );
}

/** The servers that several instances can share, by the scheme of their URLs. */
const URL_KINDS: ReadonlyMap<string, "postgres" | "redis"> = new Map([
  ["postgres", "postgres"],
  ["postgresql", "postgres"],
  ["redis", "redis"],
  ["rediss", "redis"],
]);

/** What an address of a server looks like, and what its path may be. */
const URLS = {
  postgres: {
    example: "postgres://user:password@host:5432/database",
    path: /^\/?[^/]*$/,
    pathSentence: "must have only the name of the database after the host, such as /chat.",
  },
  redis: {
    example: "redis://user:password@host:6379/0",
    path: /^\/?\d{0,9}$/,
    pathSentence: "must have only the number of the database after the host, such as /0.",
  },
} as const;

/** Returns an address if it is whole. A driver uses a default for each part that it cannot read. */
function checkUrl(kind: "postgres" | "redis", text: string): string {
  const { example, path, pathSentence } = URLS[kind];
  const url = /[\s\p{Cc}]/u.test(text) ? null : URL.parse(text);
  if (url === null || url.hostname.includes(",")) {
    throw new ConfigError(
      `DATABASE_URL must be an address with one host, such as ${example}, with special characters ` +
        "of the password in percent form, such as %2F for a slash.",
    );
  }
  // After such a character, the rest of a password reads as a path, a query or a fragment.
  if (url.hash !== "" || text.endsWith("#") || /@/.test(url.pathname + url.search)) {
    throw new ConfigError(
      "DATABASE_URL must have %23, %2F, %3F and %40 instead of #, /, ? and @ in the password.",
    );
  }
  if (![url.username, url.password, url.pathname].every(isPercentEncoded)) {
    throw new ConfigError("DATABASE_URL must have %25 instead of % in the password.");
  }
  if (!path.test(url.pathname)) throw new ConfigError(`DATABASE_URL ${pathSentence}`);
  return text;
}

/** Whether each `%` in a text begins the percent form of a character. */
function isPercentEncoded(text: string): boolean {
  try {
    decodeURIComponent(text);
    return true;
  } catch {
    return false;
  }
}

/** Paths after `sqlite:` that other programs read in another way, and what to write instead. */
const BAD_PATHS: readonly (readonly [pattern: RegExp, sentence: string])[] = [
  [/^\/?:memory:/, "must be memory:, not sqlite::memory:."],
  [/^\/?$/, "must name a file, such as sqlite:chat.db."],
  [
    /^\/\//,
    "must be sqlite:chat.db for a file beside where the server starts, or sqlite:///data/chat.db " +
    "for a path from the root.",
  ],
  [/^file:/, "must be sqlite:chat.db, without file: before the path."],
  [/\?/, "must end with the path: leave out the question mark and what follows it."],
  [/%[\da-f]{2}/i, "must hold the path as it is: write a space, for example, instead of %20."],
  [/^~[^/]*\//, "must hold the whole path: write the home folder instead of ~."],
  [/^\s|\s$|\p{Cc}/u, "must not begin or end with a space, or hold a control character."],
];

/** The path in `sqlite:PATH` or `sqlite:///PATH`. */
function readPath(text: string): string {
  const path = text.replace(/^\/{3,}/, "/");
  for (const [pattern, sentence] of BAD_PATHS) {
    if (pattern.test(path)) throw new ConfigError(`DATABASE_URL ${sentence}`);
  }
  return path;
}

function readAdmins(env: Environment): readonly string[] {
  try {
    return Object.freeze(list(env, "ADMINS").map((name) => parseName("username", name)));
  } catch (error) {
    const { message } = error as Error;
    throw new ConfigError(`ADMINS must be names, separated by commas. ${message}`);
  }
}

function readAdminCode({ ADMIN_CODE: code }: Environment): string | undefined {
  if (!code) return undefined;
  if (code.length <= MAX_ADMIN_CODE_LENGTH && code.trim() === code) return code;
  // The value is a secret, so the sentence does not quote it.
  throw new ConfigError(
    `ADMIN_CODE must have at most ${MAX_ADMIN_CODE_LENGTH} characters, and no space around them.`,
  );
}

function readSignInSecret({ SIGN_IN_SECRET: secret }: Environment): string | undefined {
  if (!secret) return undefined;
  const { length } = secret;
  const isLong = length >= MIN_SIGN_IN_SECRET_LENGTH && length <= MAX_SIGN_IN_SECRET_LENGTH;
  if (isLong && secret.trim() === secret) return secret;
  // The sentence does not quote the secret.
  throw new ConfigError(
    `SIGN_IN_SECRET must have ${MIN_SIGN_IN_SECRET_LENGTH} to ${MAX_SIGN_IN_SECRET_LENGTH} ` +
      "characters, and no space around them. Make one with: openssl rand -base64 48",
  );
}

function readOrigins(env: Environment): readonly string[] {
  return Object.freeze(
    list(env, "ALLOWED_ORIGINS").map((text) => {
      const origin = text === "*" || text === "null" ? text : toOrigin(text);
      if (origin !== undefined) return origin;
      throw new ConfigError(
        "ALLOWED_ORIGINS must be origins such as https://chat.example or capacitor://localhost, " +
          `whole and without a path, or null, or *, not "${text}".`,
      );
    }),
  );
}

/** An origin as a Content-Security-Policy can name it (CSP 3, section 2.3.1). */
const NAMEABLE_ORIGIN = /^[a-z][a-z\d+.-]*:\/\/[\w.-]+(:\d+)?$/;

function readEmbedOrigins(env: Environment): readonly string[] {
  return Object.freeze(
    list(env, "EMBED_ORIGINS").map((text) => {
      const origin = text === "*" ? text : toOrigin(text) ?? "";
      if (origin === "*" || NAMEABLE_ORIGIN.test(origin)) return origin;
      throw new ConfigError(
        "EMBED_ORIGINS must be origins such as https://site.example, whole and without a path, or " +
          `*, not "${text}".`,
      );
    }),
  );
}

/** An origin as browsers write it; `undefined` for a text that no browser's origin can equal. */
function toOrigin(text: string): string | undefined {
  const [, scheme = "", host = ""] = /^([a-z][a-z\d+.-]*):\/\/([^\s/?#@*\\]*)\/?$/i.exec(text) ??
    [];
  switch (scheme.toLowerCase()) {
    case "http":
    case "https":
      return URL.parse(`${scheme}://${host}`)?.origin;
    case "file":
      return host === "" ? "file://" : undefined;
    // No page is loaded over these.
    case "ws":
    case "wss":
      return undefined;
  }
  return host === "" ? undefined : `${scheme}://${host}`.toLowerCase();
}

function readPublicUrl(env: Environment): PublicUrl | undefined {
  const text = env.PUBLIC_URL?.trim();
  if (!text) return undefined;
  const url = /^https?:\/\/[^/?#@*\s]+(\/[^?#]*)?$/i.test(text) ? URL.parse(text) : null;
  if (url === null) {
    throw new ConfigError(
      `PUBLIC_URL must be the address of the site, such as https://chat.example, not "${text}".`,
    );
  }
  const { origin, host, protocol } = url;
  const scheme = protocol === "https:" ? "https" : "http";
  return Object.freeze({ origin, host, scheme, path: readSitePath(url) });
}

/** The first segments of the server's own paths. */
const OWN_SEGMENTS = /^\/(api|echo|health|metrics|page|r|ws)(\/|$)/;

/** The end of a room's address. Clients know by it where the site's own path ends. */
const ROOM_ADDRESS = /\/r\/[^/]+\/?$/;

/**
 * The path of the site, with a slash at both ends. A proxy may strip it, so a path must mean the
 * same with it and without it.
 */
function readSitePath({ pathname }: URL): string {
  if (!/^(\/[\w.~-]+)*\/?$/.test(pathname)) {
    throw new ConfigError(
      "PUBLIC_URL must have nothing in its path but letters, digits, and - . _ ~ between single " +
        `slashes, as in https://site.example/chat/, not "${pathname}".`,
    );
  }
  if (OWN_SEGMENTS.test(pathname)) {
    throw new ConfigError(
      "PUBLIC_URL must have another path, such as /chat/: paths that begin with " +
        `"${pathname.split("/", 2).join("/")}" are the server's own.`,
    );
  }
  if (ROOM_ADDRESS.test(pathname)) {
    throw new ConfigError(
      `PUBLIC_URL must have another path, such as /chat/: "${pathname}" is the server's own way to ` +
        "name a room.",
    );
  }
  return pathname.endsWith("/") ? pathname : `${pathname}/`;
}

function whole(env: Environment, name: string, byDefault: number, min: number, max: number) {
  const text = env[name] || String(byDefault);
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= min && value <= max) return value;
  throw new ConfigError(`${name} must be a whole number from ${min} to ${max}, not "${text}".`);
}

/** Reads a limit. 0 turns it off. */
function limit(env: Environment, name: string, byDefault: number): number {
  if (!env[name]) return byDefault;
  return whole(env, name, byDefault, 0, Number.MAX_SAFE_INTEGER) || Infinity;
}

function rate(perSecond: number, burst: number): Rate {
  return Object.freeze({ perSecond, burst });
}

function oneOf<T extends string>(
  env: Environment,
  name: string,
  byDefault: T,
  values: readonly T[],
): T {
  const text = env[name] || byDefault;
  const value = values.find((value) => value === text);
  if (value !== undefined) return value;
  throw new ConfigError(`${name} must be one of ${values.join(", ")}, not "${text}".`);
}

function isOn(env: Environment, name: string, byDefault: "on" | "off"): boolean {
  const text = oneOf(env, name, byDefault, ["on", "off", "1", "0", "true", "false"]);
  return text === "on" || text === "1" || text === "true";
}

function list(env: Environment, name: string): string[] {
  return (env[name] ?? "").split(",").map((item) => item.trim()).filter(Boolean);
}
