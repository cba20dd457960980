/**
 * The engines side by side: stored messages a second, the time until another instance receives one,
 * and round trips to the server.
 *
 *     deno task bench:engines [ENGINE…] [--rounds=N] [--ms=N]
 *
 * It starts PostgreSQL and Redis itself, as processes. Everything else runs in this process.
 *
 * @module
 */

import { setImmediate } from "node:timers";
import { parseArgs } from "node:util";
import { Redis } from "ioredis";
import postgres from "postgres";
import type { Engine } from "../lib/engine/engine.ts";
import { MemoryEngine } from "../lib/engine/memory.ts";
import { PostgresBackend } from "../lib/engine/postgres/postgres.ts";
import { RedisBackend } from "../lib/engine/redis/redis.ts";
import type { Backend } from "../lib/engine/remote/backend.ts";
import { RemoteEngine } from "../lib/engine/remote/remote_engine.ts";
import { SqliteEngine } from "../lib/engine/sqlite.ts";
import { createIds, Turn } from "../lib/time.ts";
import { POSTGRES_BIN, PostgresServer } from "../tests/support/postgres_server.ts";
import { hasRedis, RedisServer } from "../tests/support/redis_server.ts";
import { Meter } from "./meter.ts";

const BATCHES = [100, 10, 1];
const ROOM = "bench";
const TEXT = "x".repeat(100);
const WANTED = { events: 100, messages: 50 };

/** Batches that are stored before the measurement. */
const WARM_BATCHES = 200;

/** An engine in this process waits for a timer after this many batches. */
const REST_BATCHES = 50;

/** Messages that another instance receives in one round, one at a time. */
const HEARD = 100;

/** The pause before each of them, in milliseconds. */
const IDLE_MS = 5;

const newId = createIds();
const turn = new Turn(setImmediate);
const atCommit = (callback: () => void) => turn.commit(callback);
const silent = { info() {}, warn() {}, error() {} };
const options = { clock: Date.now, newId, keep: 10_000, leaseMs: 10_000 };

/** A place to store messages. */
interface Store extends AsyncDisposable {
  /** Opens an instance, as the server does. @param port reaches the engine's server; its own if absent */
  open(port?: number): Promise<Engine>;
  readonly server?: {
    readonly port: number;
    /** Makes the smallest call of the server, with the same driver. */
    ask(): Promise<unknown>;
  };
}

/** An engine and its setup. */
interface Kind {
  readonly title: string;
  /** Whether it sometimes waits for a timer, and not only for the event loop. */
  readonly isResting: boolean;
  /** The command that installs the server; absent if the machine has it. */
  readonly missing?: string | undefined;
  create(): Promise<Store>;
}

const NO_POSTGRES = POSTGRES_BIN === undefined ? "apt-get install -y postgresql" : undefined;
const NO_REDIS = hasRedis ? undefined : "apt-get install -y redis-server";

const KINDS = {
  memory: { title: "memory:", isResting: true, create: createMemory },
  "memory-busy": { title: "memory:, without a rest", isResting: false, create: createMemory },
  sqlite: { title: "sqlite:", isResting: true, create: createSqlite },
  "sqlite-busy": { title: "sqlite:, without a rest", isResting: false, create: createSqlite },
  postgres: {
    ...{ title: "PostgreSQL, fsync on", isResting: false, missing: NO_POSTGRES },
    create: () => createPostgres("on"),
  },
  "postgres-off": {
    ...{ title: "PostgreSQL, fsync off", isResting: false, missing: NO_POSTGRES },
    create: () => createPostgres("off"),
  },
  redis: {
    ...{ title: "Redis, fsync once a second", isResting: false, missing: NO_REDIS },
    create: () => createRedis("everysec"),
  },
  "redis-always": {
    ...{ title: "Redis, fsync at each write", isResting: false, missing: NO_REDIS },
    create: () => createRedis("always"),
  },
} as const satisfies Record<string, Kind>;

type Name = keyof typeof KINDS;

function createMemory(): Promise<Store> {
  return Promise.resolve({
    open: () => Promise.resolve(new MemoryEngine(options)),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  });
}

async function createSqlite(): Promise<Store> {
  const folder = await Deno.makeTempDir();
  const path = `${folder}/chat.db`;
  return {
    open: () => Promise.resolve(new SqliteEngine({ ...options, path, atCommit })),
    [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }),
  };
}

async function createPostgres(fsync: "on" | "off"): Promise<Store> {
  const server = await PostgresServer.start({ fsync });
  const sql = postgres(server.url, { max: 1, prepare: false, fetch_types: false });
  await sql.unsafe("CREATE TABLE bench (id bigserial PRIMARY KEY, content text NOT NULL)");
  return {
    open: (port = server.port) => {
      const url = server.url.replace(`:${server.port}/`, `:${port}/`);
      return connect(new PostgresBackend({ url, keep: options.keep }));
    },
    server: {
      port: server.port,
      ask: () => sql.unsafe(`INSERT INTO bench (content) VALUES ('${TEXT}')`),
    },
    async [Symbol.asyncDispose]() {
      await sql.end();
      await server[Symbol.asyncDispose]();
    },
  };
}

async function createRedis(appendfsync: "everysec" | "always"): Promise<Store> {
  const server = await RedisServer.start(["--appendfsync", appendfsync]);
  const redis = new Redis(server.port, "127.0.0.1");
  return {
    open: (port = server.port) => {
      const url = `redis://127.0.0.1:${port}`;
      return connect(new RedisBackend({ url, keep: options.keep }));
    },
    server: { port: server.port, ask: () => redis.ping() },
    async [Symbol.asyncDispose]() {
      redis.disconnect();
      await server[Symbol.asyncDispose]();
    },
  };
}

function connect(backend: Backend): Promise<Engine> {
  return RemoteEngine.connect({
    ...{ backend, newId, leaseMs: options.leaseMs, atCommit },
    ...{ logger: silent, failures: silent },
  });
}

/** Stores messages, all in one turn. */
function append(engine: Engine, count: number): Promise<unknown> {
  const writing = Array.from({ length: count }, () =>
    engine.log.append(ROOM, {
      username: "alice",
      person: "guest:1",
      origin: "1",
      ref: newId(),
      content: TEXT,
    }));
  return Promise.all(writing);
}

/** One engine under test: an instance that subscribes to its room, as every server does. */
class Subject {
  readonly #store: Store;
  readonly #engine: Engine;
  readonly #isResting: boolean;
  readonly figures = new Map<string, number[]>();

  private constructor(store: Store, engine: Engine, isResting: boolean) {
    this.#store = store;
    this.#engine = engine;
    this.#isResting = isResting;
  }

  static async create(kind: Kind): Promise<Subject> {
    const store = await kind.create();
    const engine = await store.open();
    await engine.bus.subscribe(ROOM, () => {});
    const subject = new Subject(store, engine, kind.isResting);
    for (let i = 0; i < WARM_BATCHES; i++) await append(engine, 10);
    return subject;
  }

  async close(): Promise<void> {
    await this.#engine.close();
    await this.#store[Symbol.asyncDispose]();
  }

  /** Stores batches, one at a time, for some milliseconds. */
  async store(size: number, ms: number): Promise<void> {
    const start = performance.now();
    let batches = 0;
    for (; performance.now() < start + ms; batches++) {
      await append(this.#engine, size);
      if (batches % REST_BATCHES === 0) await this.#rest();
    }
    this.#note(`${size}`, batches * size * 1000 / (performance.now() - start));
  }

  /** Measures how soon another instance receives messages, one at a time. */
  async hear(): Promise<void> {
    const { server } = this.#store;
    if (server === undefined) return;
    const other = await this.#store.open();
    let onHeard = () => {};
    await other.bus.subscribe(ROOM, () => onHeard());
    const heard: number[] = [];
    const asked: number[] = [];
    for (let i = 0; i < HEARD; i++) {
      await idle();
      const hearing = new Promise<void>((resolve) => onHeard = resolve);
      const start = performance.now();
      const stored = append(this.#engine, 1);
      await hearing;
      heard.push(performance.now() - start);
      await stored;
      await idle();
      asked.push(await timeOf(() => server.ask()));
    }
    await other.close();
    this.#note("heard p50", quantile(heard, 0.5));
    this.#note("heard p99", quantile(heard, 0.99));
    this.#note("asked p50", quantile(asked, 0.5));
  }

  /** Counts round trips of an instance with one room. */
  async count(): Promise<void> {
    const { server } = this.#store;
    if (server === undefined) return;
    using meter = new Meter(server.port);
    const engine = await this.#store.open(meter.port);
    const count = async (what: string, action: () => Promise<unknown>) => {
      const before = meter.roundTrips;
      await action();
      this.#note(what, meter.roundTrips - before);
    };
    await count("open", async () => (await engine.open(ROOM, WANTED)).listen(() => {}));
    await count("turn", () => append(engine, 10));
    await count("second", () => engine.bus.renew());
    await engine.close();
  }

  /** Lets the event loop turn, which an engine in this process would otherwise never do. */
  async #rest(): Promise<void> {
    if (this.#store.server !== undefined) return;
    await new Promise<void>((end) => this.#isResting ? setTimeout(end, 0) : setImmediate(end));
  }

  #note(what: string, figure: number): void {
    this.figures.set(what, [...this.figures.get(what) ?? [], figure]);
  }
}

function idle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, IDLE_MS));
}

async function timeOf(action: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await action();
  return performance.now() - start;
}

function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!;
}

/** A table in Markdown. */
function table(...rows: readonly (readonly string[])[]): string {
  const [head, ...body] = rows;
  return [head!, head!.map(() => "---"), ...body].map((row) => `| ${row.join(" | ")} |`).join("\n");
}

/** The engines to compare, and the minimum ratio. */
const RATIOS: readonly (readonly [name: Name, base: Name, batch: number, bar?: number])[] = [
  ["postgres", "sqlite", 100, 1 / 10],
  ["postgres", "sqlite", 10, 1 / 8],
  ["postgres", "sqlite-busy", 10],
  ["postgres-off", "sqlite", 100, 1 / 10],
  ["postgres-off", "sqlite", 10, 1 / 8],
  ["postgres-off", "sqlite-busy", 10],
  ["redis", "memory", 100, 1 / 8],
  ["redis", "memory", 10, 1 / 4],
  ["redis", "memory-busy", 100],
  ["redis", "memory-busy", 10],
];

function report(subjects: ReadonlyMap<Name, Subject>): string {
  const read = (name: Name, what: string) => {
    const figures = subjects.get(name)?.figures.get(what);
    return figures === undefined ? NaN : quantile(figures, 0.5);
  };
  const names = [...subjects.keys()];
  const remote = names.filter((name) => !Number.isNaN(read(name, "turn")));
  const whole = (value: number) => String(Math.round(value));
  const stored = names.map((name) => [
    KINDS[name].title,
    ...BATCHES.map((size) => whole(read(name, `${size}`))),
  ]);
  const heard = remote.map((name) => {
    const [p50, p99, asked] = ["heard p50", "heard p99", "asked p50"].map((what) =>
      read(name, what)
    );
    return [
      KINDS[name].title,
      ...[p50!, p99!, asked!].map((ms) => `${ms.toFixed(2)} ms`),
      `${(p50! / asked!).toFixed(2)} x (at most 3)`,
      ...["turn", "open", "second"].map((what) => whole(read(name, what))),
    ];
  });
  const ratios = RATIOS.filter(([name, base]) => subjects.has(name) && subjects.has(base)).map(
    ([name, base, size, bar]) => {
      const ratio = pairwise(subjects.get(name)!, subjects.get(base)!, `${size}`);
      return [
        KINDS[name].title,
        KINDS[base].title,
        `${size}`,
        ratio.toFixed(3),
        bar?.toFixed(3) ?? "",
      ];
    },
  );
  return [
    table(["stored messages a second, batches of", ...BATCHES.map(String)], ...stored),
    table(["of", "to", "batches of", "ratio", "at least"], ...ratios),
    table(
      [
        "heard when idle",
        "p50",
        "p99",
        "INSERT, PING",
        "ratio",
        "trips a turn",
        "a room",
        "a second",
      ],
      ...heard,
    ),
  ].join("\n\n");
}

/** The median of the rounds' ratios. */
function pairwise(one: Subject, other: Subject, what: string): number {
  const [a, b] = [one.figures.get(what)!, other.figures.get(what)!];
  return quantile(a.map((figure, i) => figure / b[i]!), 0.5);
}

async function run(): Promise<void> {
  const text = { type: "string" } as const;
  const { values, positionals } = parseArgs({
    args: Deno.args,
    allowPositionals: true,
    options: { rounds: text, ms: text, help: { type: "boolean", short: "h" } },
  });
  const names = Object.keys(KINDS) as Name[];
  if (values.help) {
    return print(
      `deno task bench:engines [ENGINE…] [--rounds=7] [--ms=500]\nEngines: ${names.join(", ")}.`,
    );
  }
  const unknown = positionals.find((name) => !names.includes(name as Name));
  if (unknown !== undefined) {
    return print(`There is no engine "${unknown}". There are: ${names.join(", ")}.`);
  }
  const wanted = names.filter((name) => positionals.length === 0 || positionals.includes(name));
  const subjects = new Map<Name, Subject>();
  const closeAll = async () => {
    for (const subject of subjects.values()) await subject.close();
  };
  Deno.addSignalListener("SIGINT", () => void closeAll().finally(() => Deno.exit(130)));
  try {
    for (const name of wanted) {
      const { missing, ...kind }: Kind = KINDS[name];
      if (missing !== undefined) print(`${name} is missing: ${missing}`);
      else subjects.set(name, await Subject.create(kind));
    }
    await measure([...subjects.values()], Number(values.rounds ?? 7), Number(values.ms ?? 500));
    print(report(subjects));
  } finally {
    await closeAll();
  }
  Deno.exit();
}

/** Measures all engines in turn. */
async function measure(subjects: readonly Subject[], rounds: number, ms: number): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    for (const size of BATCHES) {
      for (const subject of subjects) await subject.store(size, ms);
    }
    for (const subject of subjects) await subject.hear();
  }
  for (const subject of subjects) await subject.count();
}

function print(line: string): void {
  // deno-lint-ignore no-console
  console.log(line);
}

if (import.meta.main) await run();
