/**
 * The sentences for people when Redis cannot be used. Each says what to do, and none has the
 * password.
 *
 * @module
 */

/** Where the server is, and how to sign in. */
export interface Place {
  readonly host: string;
  readonly port: number;
  readonly isSecure: boolean;
  readonly username: string;
  readonly password: string;
  readonly database: number;
}

/**
 * Reads `redis://user:password@host:port/database`, or `rediss://` for TLS.
 *
 * @throws {Error} if the database is not a number
 */
export function parsePlace(url: string): Place {
  const { protocol, hostname, port, username, password, pathname } = new URL(url);
  const database = pathname.slice(1) || "0";
  if (!/^\d{1,5}$/.test(database)) {
    throw new Error("The database in DATABASE_URL must be a number, such as redis://host:6379/0.");
  }
  return {
    host: hostname.replace(/^\[|\]$/g, "") || "127.0.0.1",
    port: Number(port || 6379),
    isSecure: protocol === "rediss:",
    username: decodeURIComponent(username),
    password: decodeURIComponent(password),
    database: Number(database),
  };
}

/** Codes of errors when nothing answers at an address. */
const UNREACHABLE = /ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT/;

/** The sentence for each error reply. */
const REPLIES: readonly (readonly [reply: RegExp, sentence: (place: Place) => string])[] = [
  [/^NOAUTH/, () => "Redis wants a password. Set it in DATABASE_URL: redis://:PASSWORD@host."],
  [
    /^WRONGPASS|^ERR invalid password/,
    () => "Redis refuses the user or the password. Correct them in DATABASE_URL.",
  ],
  [
    /^ERR (AUTH|Client sent AUTH)/,
    () => "Redis has no password, but DATABASE_URL does. Remove it there, or set it in Redis.",
  ],
  [
    /DB index|SELECT is not allowed/,
    ({ database }) => `Redis has no database ${database}. Choose another one in DATABASE_URL.`,
  ],
  [/^LOADING/, () => "Redis is still loading its data. It answers when it has them."],
  [
    /^NOPERM/,
    ({ username }) =>
      "The user in DATABASE_URL lacks rights in Redis. Grant them with: " +
      `ACL SETUSER ${username || "default"} resetkeys ~hubbub:* resetchannels &hubbub* ` +
      "+@all -@dangerous +info",
  ],
  [
    /^READONLY|^MASTERDOWN/,
    () => "This Redis is a replica, which takes no writes. Name the primary in DATABASE_URL.",
  ],
  [
    /^OOM/,
    () => "Redis is full. Give it more memory (maxmemory), or keep less (HISTORY_KEEP).",
  ],
  [
    /^MISCONF/,
    () =>
      "Redis cannot save to its disk, and takes no writes. Make room on the disk, or see its log.",
  ],
  [/^NOREPLICAS/, () => "Redis has too few replicas, and takes no writes. Start its replicas."],
  [
    /unknown command/i,
    () => "This server lacks a command of Redis that Hubbub needs. Use Redis 6.2 or newer.",
  ],
];

/** Replaces a driver's error by one with a sentence. */
export function explain(error: unknown, place: Place): Error {
  const { message, code = "" } = error as { message: string; code?: string };
  const [, sentence] = REPLIES.find(([reply]) => reply.test(message)) ?? [];
  if (sentence !== undefined) return new Error(sentence(place), { cause: error });
  const where = `${place.host}:${place.port}`;
  if (/ENOTFOUND|EAI_AGAIN/.test(`${code} ${message}`)) {
    const text = `There is no host ${place.host}. Correct DATABASE_URL.`;
    return new Error(text, { cause: error });
  }
  if (/RESP type|no Redis/.test(message)) {
    const text = `The server at ${where} is not Redis. Correct DATABASE_URL.`;
    return new Error(text, { cause: error });
  }
  if (UNREACHABLE.test(`${code} ${message}`)) {
    const text = `Nothing answers at ${where}. Start Redis there, or correct DATABASE_URL.`;
    return new Error(text, { cause: error });
  }
  if (isTlsFault(`${code} ${message}`, place)) {
    const text = place.isSecure
      ? `Redis at ${where} does not answer with TLS that can be trusted. Write redis:// without TLS, or give it a certificate that this machine trusts.`
      : `The server at ${where} closes the connection. If it wants TLS, write rediss:// in DATABASE_URL.`;
    return new Error(text, { cause: error });
  }
  return error instanceof Error ? error : new Error(message);
}

/** Replaces the error of a connection that was open: TLS cannot be the reason. */
export function explainLoss(error: Error, place: Place): Error {
  if (!isTlsFault(`${(error as { code?: string }).code} ${error.message}`, place)) {
    return explain(error, place);
  }
  return new Error("Redis has closed the connection.", { cause: error });
}

/** The error for a server that accepts a connection and does not answer. */
export function unanswered({ host, port, isSecure }: Place): Error {
  const other = isSecure ? "redis:// if it has no TLS" : "rediss:// if it wants TLS";
  return new Error(`Redis at ${host}:${port} does not answer. Look at its log; write ${other}.`);
}

function isTlsFault(text: string, { isSecure }: Place): boolean {
  return /ENDED|closed|writeable|ECONNRESET|EPIPE|hang up/i.test(text) ||
    isSecure && /^TLS /.test(text);
}
