/** A PostgreSQL server for one test: in a temporary folder, on a free port of the loopback. */

import { it } from "@std/testing/bdd";
import { freePort } from "./free_port.ts";

/** How to get PostgreSQL; also the name of a skipped test. */
const MISSING = "Skipped: PostgreSQL is not installed. Install it with: " +
  "apt-get install -y postgresql";

/** Maximum time of the server to start or to stop, in milliseconds. */
const PATIENCE_MS = 30_000;

/** The settings of the server. Its data must survive a kill, but not the machine. */
const SETTINGS = {
  listen_addresses: "127.0.0.1",
  fsync: "off",
  autovacuum: "off",
  full_page_writes: "off",
  max_wal_senders: "4",
  wal_level: "replica",
  hot_standby: "on",
};

const isRoot = Deno.uid() === 0;

/** The folder of PostgreSQL's programs, the newest version first; undefined if there is none. */
export const POSTGRES_BIN = findPrograms();

/** Runs `define` if PostgreSQL is installed; else declares one skipped test that names it. */
export function withPostgres(define: () => void): void {
  if (POSTGRES_BIN !== undefined) return define();
  (Deno.env.get("REQUIRE_ALL") === "1" ? it : it.skip)(MISSING, () => {
    throw new Error(MISSING);
  });
}

/** A server. Disposing of it stops it and removes its folder. */
export class PostgresServer implements AsyncDisposable {
  readonly #folder: string;
  readonly #data: string;
  readonly #port: number;
  #process: Deno.ChildProcess | undefined;
  #databases = 0;

  private constructor(folder: string, port: number) {
    this.#folder = folder;
    this.#data = `${folder}/data`;
    this.#port = port;
  }

  /** Creates a server and starts it. `settings` are added to the common ones. */
  static async start(settings: Readonly<Record<string, string>> = {}): Promise<PostgresServer> {
    const server = new PostgresServer(await makeFolder(), freePort());
    const auth = ["--auth-local=trust", "--auth-host=scram-sha-256", `--pwfile=${server.#pwfile}`];
    await Deno.writeTextFile(server.#pwfile, "secret");
    if (isRoot) await Deno.chmod(server.#pwfile, 0o644);
    await run("initdb", "-D", server.#data, "-U", "postgres", "-E", "UTF8", "--no-sync", ...auth);
    await server.#configure(settings);
    await server.start();
    return server;
  }

  /** Creates a standby of this server, on another port, and starts it. */
  async startStandby(): Promise<PostgresServer> {
    const standby = new PostgresServer(await makeFolder(), freePort());
    const from = ["-h", this.#folder, "-p", String(this.#port), "-U", "postgres"];
    await run("pg_basebackup", ...from, "-D", standby.#data, "-R", "-X", "stream", "-c", "fast");
    await standby.#configure({});
    await standby.start();
    return standby;
  }

  get #pwfile(): string {
    return `${this.#folder}/password`;
  }

  get port(): number {
    return this.#port;
  }

  /** The folder of its socket. */
  get folder(): string {
    return this.#folder;
  }

  /** The database `postgres`, for its superuser. */
  get url(): string {
    return this.urlOf("postgres");
  }

  urlOf(database: string, user = "postgres", password = "secret"): string {
    return `postgres://${user}:${password}@127.0.0.1:${this.#port}/${database}`;
  }

  /** Creates an empty database, and returns its URL. */
  async createDatabase(options = ""): Promise<string> {
    const name = `db${++this.#databases}`;
    await this.query(`CREATE DATABASE ${name} ${options}`);
    return this.urlOf(name);
  }

  /** Runs statements as the superuser. Returns what they print, a row a line, `|` between columns. */
  async query(sql: string, database = "postgres"): Promise<string> {
    const at = ["-h", this.#folder, "-p", String(this.#port), "-U", "postgres", "-d", database];
    return (await run("psql", ...at, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql))
      .trim();
  }

  /** The dump of a database, as `pg_dump` makes it. */
  async dump(database: string): Promise<string> {
    const file = `${this.#folder}/${database}.dump`;
    const at = ["-h", this.#folder, "-p", String(this.#port), "-U", "postgres"];
    await run("pg_dump", ...at, "-Fc", "-f", file, database);
    return file;
  }

  /** Restores a dump into a database. */
  async restore(database: string, file: string): Promise<void> {
    const at = ["-h", this.#folder, "-p", String(this.#port), "-U", "postgres"];
    await run("pg_restore", ...at, "--clean", "--if-exists", "-d", database, file);
  }

  /** Starts it again after a stop or a kill. */
  async start(): Promise<void> {
    // A killed server leaves this file; a process of another test may have its number.
    await Deno.remove(`${this.#data}/postmaster.pid`).catch(() => {});
    const [program, ...args] = asPostgres(`${POSTGRES_BIN}/postgres`, "-D", this.#data);
    this.#process = new Deno.Command(program!, {
      args,
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    const end = Date.now() + PATIENCE_MS;
    while (!await this.#answers()) {
      if (Date.now() > end) throw new Error("PostgreSQL did not start.");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Stops it cleanly, even with connected clients. */
  async stop(): Promise<void> {
    await this.#end("SIGINT");
  }

  /** Kills the server with all its processes. */
  async kill(): Promise<void> {
    for (const pid of await this.#family()) signal(pid, "SIGKILL");
    await this.#process?.status;
    this.#process = undefined;
  }

  /** Freezes all processes of the server. */
  async freeze(): Promise<void> {
    for (const pid of await this.#family()) signal(pid, "SIGSTOP");
  }

  async thaw(): Promise<void> {
    for (const pid of await this.#family()) signal(pid, "SIGCONT");
  }

  /** Promotes a standby. */
  async promote(): Promise<void> {
    await this.query("SELECT pg_promote()");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await Deno.remove(this.#folder, { recursive: true });
  }

  async #configure(settings: Readonly<Record<string, string>>): Promise<void> {
    const all = { ...SETTINGS, port: String(this.#port), unix_socket_directories: this.#folder };
    const lines = Object.entries({ ...all, ...settings }).map(([key, value]) =>
      `${key} = '${value}'`
    );
    await Deno.writeTextFile(`${this.#data}/postgresql.conf`, `\n${lines.join("\n")}\n`, {
      append: true,
    });
  }

  async #answers(): Promise<boolean> {
    const at = ["-h", this.#folder, "-p", String(this.#port), "-q", "-t", "1"];
    return await run("pg_isready", ...at).then(() => true, () => false);
  }

  async #end(how: Deno.Signal): Promise<void> {
    if (this.#process === undefined) return;
    signal(this.#process.pid, how);
    await this.#process.status;
    this.#process = undefined;
  }

  /** The server's processes, the first one first: it starts no new ones when it is stopped. */
  async #family(): Promise<number[]> {
    if (this.#process === undefined) return [];
    const parent = this.#process.pid;
    const path = `/proc/${parent}/task/${parent}/children`;
    const text = await Deno.readTextFile(path).catch(() => "");
    return [parent, ...text.split(" ").filter(Boolean).map(Number)];
  }
}

/** How to get PgBouncer; also the name of a skipped test. */
const NO_POOLER = "Skipped: PgBouncer is not installed. Install it with: " +
  "apt-get install -y pgbouncer";

const POOLER = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].find((path) => {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
});

/** A test that needs PgBouncer. Skipped visibly without it. */
export function itPools(name: string, test: () => Promise<void>): void {
  if (POOLER !== undefined) return void it(name, test);
  (Deno.env.get("REQUIRE_ALL") === "1" ? it : it.skip)(NO_POOLER, () => {
    throw new Error(NO_POOLER);
  });
}

/** A pooler before a server, in transaction mode. */
export class Pooler implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #port: number;

  private constructor(process: Deno.ChildProcess, port: number) {
    this.#process = process;
    this.#port = port;
  }

  static async start(server: PostgresServer): Promise<Pooler> {
    const port = freePort();
    const settings = [
      "[databases]",
      `* = host=127.0.0.1 port=${server.port} user=postgres password=secret`,
      "[pgbouncer]",
      ...["pool_mode = transaction", "listen_addr = 127.0.0.1", `listen_port = ${port}`],
      ...["unix_socket_dir =", "auth_type = any", "default_pool_size = 4"],
    ];
    const file = `${server.folder}/pgbouncer.ini`;
    await Deno.writeTextFile(file, settings.join("\n"), { mode: 0o644 });
    const [program, ...args] = asPostgres(POOLER!, "-q", file);
    const options = { args, stdin: "null", stdout: "null", stderr: "null" } as const;
    const pooler = new Pooler(new Deno.Command(program!, options).spawn(), port);
    const end = Date.now() + PATIENCE_MS;
    while (!await answers(port)) {
      if (Date.now() > end) throw new Error("PgBouncer did not start.");
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return pooler;
  }

  /** The URL of a database of the server, through the pooler. */
  through(url: string): string {
    return url.replace(/:\d+\//, `:${this.#port}/`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    signal(this.#process.pid, "SIGKILL");
    await this.#process.status;
  }
}

async function answers(port: number): Promise<boolean> {
  try {
    (await Deno.connect({ hostname: "127.0.0.1", port })).close();
    return true;
  } catch {
    return false;
  }
}

function signal(pid: number, how: Deno.Signal): void {
  try {
    Deno.kill(pid, how);
  } catch {
    // It has ended meanwhile.
  }
}

/** A command as a user that may run PostgreSQL, which root may not. */
function asPostgres(...command: string[]): string[] {
  if (!isRoot) return command;
  return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", ...command];
}

async function run(name: string, ...rest: string[]): Promise<string> {
  const [program, ...args] = asPostgres(`${POSTGRES_BIN}/${name}`, ...rest);
  const command = new Deno.Command(program!, {
    args,
    stdin: "null",
    cwd: "/",
    env: { LC_ALL: "C" },
  });
  const { success, stdout, stderr } = await command.output();
  if (!success) throw new Error(`${name}: ${new TextDecoder().decode(stderr)}`);
  return new TextDecoder().decode(stdout);
}

async function makeFolder(): Promise<string> {
  const folder = await Deno.makeTempDir({ prefix: "hubbub_pg_" });
  if (isRoot) await new Deno.Command("chown", { args: ["postgres:postgres", folder] }).output();
  return folder;
}

function findPrograms(): string | undefined {
  const found: string[] = [];
  try {
    for (const { name } of Deno.readDirSync("/usr/lib/postgresql")) {
      found.push(`/usr/lib/postgresql/${name}/bin`);
    }
  } catch {
    // The folder is missing: the programs may be on the PATH.
  }
  found.sort((a, b) => Number(b.split("/").at(-2)) - Number(a.split("/").at(-2)));
  found.push(...(Deno.env.get("PATH") ?? "").split(":"));
  return found.find((folder) => {
    try {
      return Deno.statSync(`${folder}/initdb`).isFile && Deno.statSync(`${folder}/postgres`).isFile;
    } catch {
      return false;
    }
  });
}
