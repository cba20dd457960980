/**
 * The URL of a PostgreSQL database, and the sentences for people when it cannot be used.
 *
 * @module
 */

/** The values of `sslmode`, with the same meaning as in libpq. */
const SSL_MODES = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] as const;

/** A database, and how to connect to it. */
export interface Target {
  /** The name or address of the host, or the folder of a Unix socket. */
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
  readonly ssl: (typeof SSL_MODES)[number];
  /** Maximum connections: 2 or 3. */
  readonly connections: number;
}

/**
 * Reads `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=MODE&connections=N`. Ignores every
 * other parameter except `host`, which replaces the host.
 *
 * @throws {Error} whose message says what to write instead
 */
export function parseTarget(text: string): Target {
  const form = "postgres://USER:PASSWORD@HOST:PORT/DATABASE";
  if (!URL.canParse(text)) throw new Error(`DATABASE_URL is not a URL. Write ${form}.`);
  const url = new URL(text);
  const database = decode(url.pathname.slice(1));
  const host = url.searchParams.get("host") ?? decode(url.hostname).replace(/^\[(.*)\]$/, "$1");
  if (host === "" || database === "" || url.username === "") {
    throw new Error(`DATABASE_URL lacks a host, a user or a database. Write ${form}.`);
  }
  return {
    host,
    port: Number(url.port || 5432),
    user: decode(url.username),
    password: decode(url.password),
    database,
    ssl: readChoice(url, "sslmode", SSL_MODES, "prefer"),
    connections: Number(readChoice(url, "connections", ["2", "3"] as const, "3")),
  };
}

function readChoice<T extends string>(
  url: URL,
  name: string,
  choices: readonly T[],
  usual: T,
): T {
  const value = url.searchParams.get(name) ?? usual;
  const choice = choices.find((one) => one === value);
  if (choice !== undefined) return choice;
  throw new Error(
    `DATABASE_URL has ${name}=${value}. Write ${name}= and one of: ${choices.join(", ")}.`,
  );
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new Error("DATABASE_URL has a % that begins no escape. Write %25 for it.");
  }
}

/** Replaces a driver's error by one with a sentence that says what to do. */
export function explain(error: unknown, target: Target): Error {
  const { code = "", message } = error as { code?: string; message: string };
  const sentence = toSentence(code, message, target);
  return new Error(sentence ?? `PostgreSQL at ${place(target)}: ${message}`, { cause: error });
}

function toSentence(code: string, message: string, target: Target): string | undefined {
  const { user, database } = target;
  const server = `PostgreSQL at ${place(target)}`;
  switch (code) {
    case "ECONNREFUSED":
    case "ENOENT":
      return `Nothing answers at ${place(target)}. Start PostgreSQL, or correct DATABASE_URL.`;
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `There is no host ${target.host}. Correct DATABASE_URL.`;
    case "ETIMEDOUT":
      return `${server} does not answer. Check the server, and the firewalls on the way.`;
    case "ENDED":
    case "ECONNRESET":
    case "EPIPE":
      return `${server} closes the connection. See its log.`;
    case "TLS":
      return `${server} offers no TLS that sslmode accepts: ${message}. ` +
        "Correct its certificate, or sslmode in DATABASE_URL.";
    case "NO_TLS":
      return `${server} offers no TLS. Turn it on there, or correct sslmode in DATABASE_URL.`;
    case "NO_AUTH":
      return `${server} wants another way to sign in. Allow scram-sha-256 in pg_hba.conf.`;
    case "NO_POSTGRES":
      return `The server at ${place(target)} is not PostgreSQL. Correct DATABASE_URL.`;
    case "28P01":
      return `${server} refuses the password of ${user}. Correct DATABASE_URL.`;
    case "28000":
      if (/no encryption|SSL off/.test(message)) {
        return `${server} wants TLS. Add ?sslmode=require to DATABASE_URL.`;
      }
      return `${server} does not let ${user} use the database ${database} from here. ` +
        "Correct DATABASE_URL, or allow it in pg_hba.conf.";
    case "3D000":
      return `${server} has no database ${database}. Create it: createdb ${database}`;
    case "42501":
      return `${user} may not create or use the schema hubbub. As the owner of the database, run: ` +
        `CREATE SCHEMA hubbub AUTHORIZATION ${user}`;
    case "53300":
      return `${server} has no connection left. Raise max_connections, or start fewer instances.`;
    case "57P03":
      return `${server} is starting or stopping. Wait a moment.`;
    case "25006":
      return readOnly(target);
  }
}

/** The sentence for a standby, which follows another server. */
export function standby(target: Target): string {
  return `PostgreSQL at ${place(target)} is a standby. Name the primary server in DATABASE_URL, ` +
    "or promote this one.";
}

function readOnly(target: Target): string {
  return `PostgreSQL at ${place(target)} is read-only. Name the primary server in DATABASE_URL.`;
}

/** The sentence for tables of a newer release. */
export function newer(target: Target, version: number): string {
  return `A newer release of Hubbub uses the database ${target.database}: its tables have version ` +
    `${version}. Update this one.`;
}

/** The sentence for a database that cannot store every text. */
export function wrongEncoding(target: Target, encoding: string): string {
  return `The database ${target.database} has the encoding ${encoding}. Create one with UTF8: ` +
    `createdb -E UTF8 -T template0 ${target.database}`;
}

function place({ host, port }: Target): string {
  return `${host}:${port}`;
}
