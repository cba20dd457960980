/**
 * Random requests and random commands, from people of every kind.
 *
 * The seed is in the tests' names. `FUZZ_SEED=123 deno task test tests/fuzz_test.ts` repeats it, and
 * `FUZZ_ROUNDS=100` runs for longer.
 */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type { Event } from "../lib/protocol/events.ts";
import { call, knock, signUp } from "./support/people.ts";
import { ServerProcess } from "./support/process.ts";
import { V1Client } from "./support/v1_client.ts";

const SEED = Number(Deno.env.get("FUZZ_SEED") || Math.floor(Math.random() * 1e9));
const ROUNDS = Number(Deno.env.get("FUZZ_ROUNDS") || 2);
const seeded = `[FUZZ_SEED=${SEED}]`;

/** Maximum growth of memory in a round, for caches and buffers. */
const MAX_GROWTH_BYTES = 96 * 1024 * 1024;

/** Numbers from 0 to 1, repeated by the same seed (a 32-bit mix of a counter). */
function createRandom(seed: number): () => number {
  let counter = seed >>> 0;
  return () => {
    counter = (counter + 0x9e3779b9) >>> 0;
    let mixed = Math.imul(counter ^ counter >>> 16, 0x21f0aaad);
    mixed = Math.imul(mixed ^ mixed >>> 15, 0x735a2d97);
    return ((mixed ^ mixed >>> 15) >>> 0) / 2 ** 32;
  };
}

/** Random values. */
class Dice {
  readonly #random: () => number;

  constructor(seed: number) {
    this.#random = createRandom(seed);
  }

  below(count: number): number {
    return Math.floor(this.#random() * count);
  }

  chance(share: number): boolean {
    return this.#random() < share;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }

  /** An unexpected text. */
  text(): string {
    return this.pick<() => string>([
      () => "",
      () => "x".repeat(this.below(40)),
      () => "x".repeat(this.below(6000)),
      () => String.fromCharCode(...Array.from({ length: this.below(20) }, () => this.below(65536))),
      () => String.fromCodePoint(this.below(0xd800), 0x10000 + this.below(0x10000)),
      () =>
        this.pick(["__proto__", "constructor", "toString", "null", "../..", "%00", "\0", "\r\n"]),
      () => this.pick(["' OR 1=1 --", "<script>", "${1}", "{{1}}", "a,b", "\u202eabc", "\ud800"]),
      () => String(this.below(1e9) - 5e8),
    ])();
  }

  /** Any JSON value. */
  value(depth = 0): unknown {
    return this.pick<() => unknown>([
      () => null,
      () => this.chance(0.5),
      () => this.below(200) - 50,
      () => this.pick([1e308, -0, 0.5, 2 ** 53, -1]),
      () => this.text(),
      () => depth > 3 ? [] : Array.from({ length: this.below(5) }, () => this.value(depth + 1)),
      () => depth > 3 ? {} : this.object(["a", "type", "username", "__proto__"], depth + 1),
    ])();
  }

  /** An object with some of these fields, with any values. */
  object(fields: readonly string[], depth = 0): Record<string, unknown> {
    const chosen = fields.filter(() => this.chance(0.7));
    // Unlike an assignment, this makes `__proto__` an ordinary field.
    return Object.fromEntries(chosen.map((field) => [field, this.value(depth)]));
  }
}

const assertAllIsWell = (server: ServerProcess) => {
  assertEquals(server.log.filter(({ level }) => level === "error"), []);
  // The runtime's warning when code reads the signal of a request, as Hono does.
  const complaints = server.stderr.split("\n").filter((line) =>
    !/^Deno\.serve: request\.signal/.test(line)
  );
  assertEquals(complaints.join("\n"), "");
};

async function residentBytes({ pid }: ServerProcess): Promise<number> {
  if (Deno.build.os !== "linux") return 0;
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)![1]) * 1024;
}

describe("Random HTTP requests", () => {
  const METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "QUERY"];
  const PATHS = [
    ...["/", "/health", "/r/x", "/index.html", "/connection.js", "/nothing", "/ws", "/echo"],
    ...["/api/register", "/api/login", "/api/logout", "/api/session", "/api/rooms/r", "/api"],
    ...["/api/rooms/lobby", "/api/rooms/r/messages", "/api/rooms/r/presence", "/ws/r", "/ws/r/x"],
    ...["/api/tokens", "/api/tokens", "/api/tokens/x"],
  ];
  const TYPES = ["application/json", "application/json; charset=utf-8", "text/plain", "", "x/y"];

  const COOKIES = ["hubbub_session", "hubbub_guest", "hubbub_session"];

  const request = (dice: Dice, tokens: readonly string[], port: number) => {
    const segment = () => encodeURIComponent(dice.text().toWellFormed());
    let path = dice.pick(PATHS);
    if (dice.chance(0.2)) path = `/api/rooms/${segment()}`;
    if (dice.chance(0.1)) path = `/ws/${segment()}`;
    if (dice.chance(0.05)) path = `/api/tokens/${segment()}`;
    if (dice.chance(0.1)) path += dice.pick(["/", "//", "/%zz", "/%ff", "/..", "?", "?%"]);
    const names = ["username", "token", "session", "epoch", "after", "inbox", "format", "echo"];
    const query = names.filter(() => dice.chance(0.15)).map((name) => `${name}=${segment()}`);
    if (query.length > 0) path += `?${query.join("&")}`;
    const method = dice.pick(METHODS);
    const headers: Record<string, string> = {
      accept: dice.pick(["text/html", "*/*", ""]),
      "content-type": dice.pick(TYPES),
    };
    if (dice.chance(0.5)) headers.authorization = `Bearer ${dice.pick(tokens)}`;
    if (dice.chance(0.2)) {
      headers.cookie = COOKIES.map((name) => `${name}_${port}=${segment()}`).join("; ");
    }
    if (dice.chance(0.1)) {
      headers.origin = dice.pick(["null", "https://x.example", "%", "http://["]);
    }
    if (dice.chance(0.1)) headers["x-forwarded-for"] = segment() || "x";
    const fields = ["username", "password", "private", "members", "unban", "content"];
    const body = dice.pick<() => string>([
      () => JSON.stringify(dice.object(fields)),
      () => JSON.stringify(dice.value()),
      () => dice.text(),
      () => "[".repeat(dice.below(5000)),
      () => JSON.stringify({ private: dice.chance(0.5), members: [dice.text(), "owner"] }),
      () => JSON.stringify({ name: dice.text() }),
      // Some requests cost a hash, to fill the queue for hashing.
      () => JSON.stringify({ username: dice.pick(["owner", "x"]), password: "x".repeat(9) }),
    ])();
    return { method, path, headers, ...(!["GET", "HEAD"].includes(method) && { body }) };
  };

  it(`all get an answer, never a server error ${seeded}`, async () => {
    await using server = await ServerProcess.start({ env: { MAX_ROOMS: "50" } });
    const tokens = [await signUp(server, "owner"), "A".repeat(43), "garbage"];
    await using witness = await V1Client.join(server.ws, "lobby", "witness");
    const dice = new Dice(SEED);
    const memory: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const ask = async () => {
        for (let i = 0; i < 150; i++) {
          const { method, path, headers, body } = request(dice, tokens, server.port);
          const init = { method, headers, redirect: "manual", ...(body && { body }) } as const;
          const response = await fetch(server.url + path, init);
          const text = await response.text();
          const said = `${method} ${path} ${body}: ${response.status} ${text}`;
          assert(response.status < 500 || response.status === 503, said);
          assert(!/\bat \S.*:\d+:\d+|file:\/\//.test(text), said);
          const isJson = response.headers.get("content-type")?.includes("json");
          // A browser gets a page about the damaged link.
          if (headers.accept === "text/html" && text.includes("cut off or damaged")) continue;
          if (response.status >= 400 && method !== "HEAD") {
            assert(isJson && typeof JSON.parse(text).error === "string", said);
          }
        }
      };
      await Promise.all(Array.from({ length: 4 }, ask));
      memory.push(await residentBytes(server));
    }
    assert(memory.at(-1)! - memory[0]! < MAX_GROWTH_BYTES, `${memory}`);
    assertEquals((await witness.ask({ type: "chat", content: "still here" })).type, "ack");
    assertAllIsWell(server);
  });
});

describe("Random commands", () => {
  const ACCOUNTS = ["root", "owner", "mia"];
  const GUESTS = ["ann", "bob", "carl", "Dö"];
  const EVERYONE = [...ACCOUNTS, ...GUESTS];
  const ROOMS = ["a", "b"];

  /** A command, plausible half of the time. */
  const command = (dice: Dice, ids: readonly string[]): string => {
    const name = () => dice.chance(0.8) ? dice.pick(EVERYONE) : dice.text();
    const id = () => dice.chance(0.8) && ids.length > 0 ? dice.pick(ids) : dice.text();
    const content = () => dice.chance(0.8) ? `hello ${dice.below(100)}` : dice.text();
    const good: (() => Record<string, unknown>)[] = [
      () => ({ type: "chat", content: content() }),
      () => ({ type: "chat", content: content() }),
      () => ({ type: "typing", active: dice.chance(0.5) }),
      () => ({ type: "dm", to: name(), content: content() }),
      () => ({ type: "history", [dice.pick(["before", "after", "x"])]: dice.below(50) + 1 }),
      () => ({ type: "ping" }),
      () => ({ type: "edit", id: id(), content: content() }),
      () => ({ type: "delete", id: id() }),
      () => ({ type: "kick", username: name(), ban: dice.chance(0.5), reason: "fuzz" }),
      () => ({ type: "room", private: dice.chance(0.3), members: dice.chance(0.5) ? ["mia"] : [] }),
      () => ({ type: "room", unban: EVERYONE }),
    ];
    const one = dice.pick(good)();
    if (dice.chance(0.7)) one.ref = dice.chance(0.8) ? `r${dice.below(30)}` : dice.value();
    if (dice.chance(0.5)) return JSON.stringify(one);
    return dice.pick<() => string>([
      () => JSON.stringify({ ...one, ...dice.object(Object.keys(one)) }),
      () => JSON.stringify({ ...dice.object(Object.keys(one)), type: one.type }),
      () => JSON.stringify(dice.value()),
      () => JSON.stringify(one).slice(0, dice.below(30)),
      () => dice.text().toWellFormed().slice(0, 3000),
    ])();
  };

  it(`lose no member and leave every room in order ${seeded}`, async () => {
    const env = { ADMINS: "root", MAX_ROOMS: "50" };
    await using server = await ServerProcess.start({ env });
    const tokens = new Map<string, string>();
    for (const name of ACCOUNTS) tokens.set(name, await signUp(server, name));
    const put = (room: string, body: unknown) =>
      call(server, "PUT", `/api/rooms/${room}`, { body, token: tokens.get("root")! });
    for (const room of ROOMS) {
      const token = tokens.get("owner")!;
      const { status } = await call(server, "PUT", `/api/rooms/${room}`, {
        body: { private: false },
        token,
      });
      assertEquals(status, 200);
    }

    const dice = new Dice(SEED);
    const ids: string[] = [];
    /** The guests' secrets, so that a returning guest is the same person. */
    const sessions = new Map<string, string>();
    const addressOf = (room: string, name: string) => {
      const query = new URLSearchParams({ username: name });
      const token = tokens.get(name);
      const session = sessions.get(name);
      if (token !== undefined) query.set("token", token);
      else if (session !== undefined) query.set("session", session);
      return `/ws/${room}?${query}`;
    };
    const join = async (room: string, name: string) => {
      const client = await V1Client.connect(server.ws + addressOf(room, name));
      const { session } = await client.nextOf("welcome");
      if (session !== "") sessions.set(name, session);
      return client;
    };

    /** One person in one room: talks, is removed, and returns if allowed. */
    const live = async (room: string, name: string): Promise<V1Client | undefined> => {
      let client: V1Client | undefined;
      for (let i = 0; i < 150; i++) {
        if (client === undefined) {
          const { status } = await knock(server, addressOf(room, name), {
            Upgrade: undefined,
            Connection: undefined,
          });
          assert([426, 403].includes(status), `${name} cannot come into ${room}: ${status}`);
          if (status === 403) continue;
          // The person may be banned.
          client = await join(room, name).catch(() => undefined);
          if (client === undefined) continue;
        }
        client.socket.send(command(dice, ids));
        const isOpen = await client.ask({ type: "ping" }).then(() => true, () => false);
        for (const event of client.all("chat").slice(-3)) {
          if (ids.length < 500) ids.push(event.id);
          else ids[dice.below(500)] = event.id;
        }
        if (!isOpen || dice.chance(0.02)) {
          await client.close();
          client = undefined;
        }
      }
      return client;
    };

    const memory: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const lives = await Promise.all(
        ROOMS.flatMap((room) => EVERYONE.map((name) => live(room, name))),
      );
      memory.push(await residentBytes(server));
      await Promise.all(lives.map((client) => client?.close()));
    }
    assert(memory.at(-1)! - memory[0]! < MAX_GROWTH_BYTES, `${memory}`);

    // At the end, all return, are counted, and receive each other's messages.
    for (const room of ROOMS) {
      const { body } = await put(room, { private: false });
      assertEquals(body.owner, "owner");
      const banned = await put(room, { unban: body.bans });
      assertEquals(banned.body.bans, []);
      const clients = [];
      for (const name of EVERYONE) clients.push(await join(room, name));
      const isWhole = (event: Event) =>
        event.type === "presence" && event.online === EVERYONE.length;
      for (const client of clients.slice(0, -1)) await client.next(isWhole);
      await using late = await join(room, "late");
      const { users } = late.all("welcome")[0]!;
      const expected = [...EVERYONE, "late"].map((username) => ({ username, connections: 1 }));
      const byName = (a: { username: string }, b: { username: string }) =>
        a.username < b.username ? -1 : 1;
      assertEquals([...users].sort(byName), expected.sort(byName));
      for (const [i, speaker] of clients.entries()) {
        const content = `the end, says ${EVERYONE[i]}`;
        speaker.send({ type: "chat", content });
        for (const listener of [...clients, late]) {
          await listener.nextOf("chat", (event) => event.content === content && !event.history);
        }
      }
      await Promise.all(clients.map((client) => client.close()));
    }
    assertAllIsWell(server);
    await server.stop();
    assertEquals(server.log.at(-1)!.connections, 0);
  });
});
