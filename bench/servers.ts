/**
 * The servers of the comparison: what each is, and how to build and start it.
 *
 * @module
 */

import type { DialectName } from "./dialects.ts";
import { hasProgram, versionOf } from "./proc.ts";

const ROOT = new URL("..", import.meta.url).pathname;
const PEERS = `${import.meta.dirname}/peers`;

/** Exact versions, so that results can be reproduced. */
const NPM = { ws: "8.23.0", "socket.io": "4.8.4", bun: "1.4.5" } as const;

const NPM_MISSING = "install Node with npm: apt-get install nodejs npm";

/** The settings of one start of a server. */
export interface StartOptions {
  readonly port: number;
  /** An empty folder on disk, only for this start. */
  readonly folder: string;
}

/** The command and the environment of a process. */
export interface Command {
  readonly command: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** A server that can be started. */
export interface Built {
  readonly version: string;
  start(options: StartOptions): Command;
}

/** A server is missing on this machine. The message is the command that installs it. */
export class Missing extends Error {}

/** One server of the comparison. */
export interface ServerKind {
  readonly title: string;
  readonly dialect: DialectName;
  /** What it batches, if anything. */
  readonly batches: string;
  /**
   * Builds it in a folder that may have been used before.
   *
   * @throws {Missing}
   */
  build(cache: string): Promise<Built>;
}

export type ServerName = keyof typeof SERVERS;

const EACH = "nothing: a frame and a write for each delivery";

/** All servers, in the order in which they take turns. */
export const SERVERS = {
  hubbub: {
    title: "Hubbub, chat.v1",
    dialect: "v1",
    batches:
      "all of a turn, and in busy big rooms of a short while, into one frame for each member",
    build: () => buildHubbub(({ folder }) => `sqlite:${folder}/chat.db`),
  },
  "hubbub-memory": {
    title: "Hubbub, chat.v1, memory:",
    dialect: "v1",
    batches: "as hubbub",
    build: () => buildHubbub(() => "memory:"),
  },
  "hubbub-plain": {
    title: "Hubbub, plain clients",
    dialect: "plain",
    batches: "no frames: plain clients get one for each message",
    build: () => buildHubbub(({ folder }) => `sqlite:${folder}/chat.db`),
  },
  gorilla: {
    title: "Go, gorilla/websocket",
    dialect: "plain",
    batches: EACH,
    build: (cache) => buildGorilla(cache, "each"),
  },
  "gorilla-join": {
    title: "Go, gorilla/websocket, joining",
    dialect: "plain",
    batches: "what waits in a client's queue into one frame",
    build: (cache) => buildGorilla(cache, "join"),
  },
  bun: {
    title: "Bun, publish",
    dialect: "plain",
    batches: "the frames of a turn into one write for each member",
    build: (cache) =>
      buildNpm(cache, "bun", (folder) => ({
        program: `${folder}/node_modules/.bin/bun`,
        script: "bun.mjs",
      })),
  },
  ws: {
    title: "Node, ws",
    dialect: "plain",
    batches: EACH,
    build: (cache) => buildNpm(cache, "ws", () => ({ program: "node", script: "ws.mjs" })),
  },
  "socket.io": {
    title: "Node, Socket.IO",
    dialect: "socketio",
    batches: EACH,
    build: (cache) =>
      buildNpm(cache, "socket.io", () => ({ program: "node", script: "socketio.mjs" })),
  },
  deno: {
    title: "Deno, each message at once",
    dialect: "plain",
    batches: EACH,
    build: () => buildDeno([]),
  },
  "deno-v1": {
    title: "Deno, each message at once, chat.v1 frames",
    dialect: "v1",
    batches: EACH,
    build: () => buildDeno([]),
  },
  "deno-turn": {
    title: "Deno, one frame a turn",
    dialect: "v1",
    batches: "what happens in a turn into one frame for each member",
    build: () => buildDeno(["turn"], { DENO_USE_WRITEV: "1" }),
  },
  "deno-fair": {
    title: "Deno, one frame a turn, nobody starves",
    dialect: "v1",
    batches: "as deno-turn, with longer turns when many sockets wait",
    build: () => buildDeno(["fair"], { DENO_USE_WRITEV: "1" }),
  },
  "deno-store": {
    title: "Deno, one frame a turn, nobody starves, SQLite",
    dialect: "v1",
    batches: "as deno-fair, and what happens in a turn into one transaction",
    build: () => buildDeno(["store"], { DENO_USE_WRITEV: "1" }),
  },
  "deno-join": {
    title: "Deno, joins announced at Hubbub's pace",
    dialect: "v1",
    batches: "the joins of up to a second into one frame for each member",
    build: () => buildDeno(["join"], { DENO_USE_WRITEV: "1" }),
  },
  "deno-bare": {
    title: "Deno, WebSockets that do nothing",
    dialect: "plain",
    batches: EACH,
    build: () => buildDeno(["bare"]),
  },
  "c-each": {
    title: "C, a write for each delivery",
    dialect: "plain",
    batches: EACH,
    build: (cache) => buildC(cache, "each"),
  },
  "c-turn": {
    title: "C, a write for each client and turn",
    dialect: "plain",
    batches: "the frames of a turn into one write for each member",
    build: (cache) => buildC(cache, "turn"),
  },
} as const satisfies Record<string, ServerKind>;

/** Turns off every limit that the load would reach. Everything else is as people run it. */
export const HUBBUB_ENV = {
  HOST: "127.0.0.1",
  LOG_LEVEL: "warn",
  MAX_CONNECTIONS: "0",
  MAX_CONNECTIONS_PER_ADDRESS: "0",
  MAX_CONNECTIONS_PER_ACCOUNT: "0",
  MAX_ROOMS: "0",
  MESSAGE_RATE: "0",
  MESSAGE_RATE_PER_ADDRESS: "0",
  JOIN_RATE_PER_ADDRESS: "0",
  AUTH_RATE_PER_ADDRESS: "0",
};

function buildHubbub(database: (options: StartOptions) => string): Promise<Built> {
  return Promise.resolve({
    version: `Deno ${Deno.version.deno}`,
    start: (options) => ({
      command: [Deno.execPath(), "run", "-A", `${ROOT}main.ts`],
      env: { ...HUBBUB_ENV, PORT: String(options.port), DATABASE_URL: database(options) },
    }),
  });
}

function buildDeno(args: string[], env: Record<string, string> = {}): Promise<Built> {
  return Promise.resolve({
    version: `Deno ${Deno.version.deno}`,
    start: ({ port, folder }) => ({
      command: [Deno.execPath(), "run", "-A", "--no-config", `${PEERS}/deno.mjs`, ...args],
      env: { ...env, PORT: String(port), FOLDER: folder },
    }),
  });
}

async function buildGorilla(cache: string, how: "each" | "join"): Promise<Built> {
  const help = "apt-get install golang-go golang-github-gorilla-websocket-dev";
  if (!await hasProgram("go")) throw new Missing(help);
  const program = `${cache}/gorilla`;
  // Debian installs the library as source in this folder.
  const env = { GO111MODULE: "off", GOPATH: "/usr/share/gocode" };
  await run(["go", "build", "-o", program, "."], { cwd: `${PEERS}/gorilla`, env }, help);
  return {
    version: await versionOf(["go", "version"]) ?? "Go",
    start: ({ port }) => ({ command: [program, String(port), how] }),
  };
}

async function buildC(cache: string, how: "each" | "turn"): Promise<Built> {
  const help = "apt-get install gcc libc6-dev";
  if (!await hasProgram("gcc")) throw new Missing(help);
  const program = `${cache}/epoll`;
  await run(["gcc", "-O2", "-o", program, `${PEERS}/epoll.c`], {}, help);
  return {
    version: await versionOf(["gcc", "--version"]) ?? "gcc",
    start: ({ port }) => ({ command: [program, String(port), how] }),
  };
}

/** Installs a package from npm beside the scripts that import it, outside this repository. */
async function buildNpm(
  cache: string,
  name: keyof typeof NPM,
  find: (folder: string) => { program: string; script: string },
): Promise<Built> {
  if (!await hasProgram("npm")) throw new Missing(NPM_MISSING);
  const folder = `${cache}/npm-${name}`;
  const wanted = `${name}@${NPM[name]}`;
  await Deno.mkdir(folder, { recursive: true });
  if (await installedVersion(folder, name) !== NPM[name]) {
    const args = ["--prefix", folder, "--no-audit", "--no-fund", "--loglevel=error"];
    await run(["npm", "install", ...args, wanted], {}, `npm install ${wanted}`);
  }
  const { program, script } = find(folder);
  await Deno.copyFile(`${PEERS}/${script}`, `${folder}/${script}`);
  const runtime = await versionOf([program, "--version"]);
  if (runtime === undefined) throw new Missing(`npm install ${wanted}`);
  return {
    version: name === "bun" ? `Bun ${runtime}` : `${wanted} on Node ${runtime}`,
    start: ({ port }) => ({
      command: [program, `${folder}/${script}`],
      env: { PORT: String(port), NODE_ENV: "production" },
    }),
  };
}

async function installedVersion(folder: string, name: string): Promise<string | undefined> {
  try {
    const path = `${folder}/node_modules/${name}/package.json`;
    return JSON.parse(await Deno.readTextFile(path)).version;
  } catch {
    return undefined;
  }
}

/** @throws {Missing} with `help` if the command fails */
async function run(
  [program, ...args]: [string, ...string[]],
  options: Deno.CommandOptions,
  help: string,
): Promise<void> {
  const { success, stderr } = await new Deno.Command(program, { ...options, args }).output();
  if (success) return;
  const reason = new TextDecoder().decode(stderr).trim().split("\n")[0];
  throw new Missing(`${help} (${program} said: ${reason})`);
}
