/** Accounts, tokens, guests and the API, as a client sees them: over HTTP and WebSockets. */

import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { DatabaseSync } from "node:sqlite";
import { Hub } from "../hub.ts";
import { readConfig } from "../lib/config.ts";
import { MemoryEngine } from "../lib/engine/memory.ts";
import { ChatError, storeUnavailable } from "../lib/errors.ts";
import { createApp } from "../lib/http/app.ts";
import { Connections } from "../lib/http/connections.ts";
import { createLogger } from "../lib/logger.ts";
import { Accounts } from "../lib/people/accounts.ts";
import { Passwords } from "../lib/people/passwords.ts";
import { createSecret, hashSecret } from "../lib/people/secrets.ts";
import { RateLimiter, TrafficLimiter } from "../lib/rate_limit.ts";
import { Client } from "./support/client.ts";
import { createFakeApp, NOW } from "./support/fake_app.ts";
import {
  call,
  cookieName,
  knock,
  login,
  PASSWORD,
  quantile,
  register,
  signIn,
  signUp,
  soon,
  Visitor,
} from "./support/people.ts";
import { startServer, TEST_ENV, type TestServer } from "./support/server.ts";
import { V1Client } from "./support/v1_client.ts";

/** The form of a secret. */
const SECRET = /^[A-Za-z0-9_-]{43}$/;

/** 256 bits that belong to nobody. */
const NOBODYS_TOKEN = "A".repeat(43);

const V1 = { "Sec-WebSocket-Protocol": "chat.v1" };

let server: TestServer;
/** A token of alice, whose name was registered as Alice. */
let alice: string;
let rooms = 0;

beforeAll(async () => {
  server = await startServer({ ADMINS: "Root" });
  alice = await signUp(server, "Alice");
});

afterAll(async () => {
  await server.stop();
  assertEquals(server.log.filter(({ level }) => level === "error"), []);
});

const newRoom = () => `room-${++rooms}`;

/** Joins a room with a token. */
const join = (room: string, token: string, username?: string) =>
  V1Client.connect(
    `${server.ws}/ws/${room}?${new URLSearchParams({ token, ...(username && { username }) })}`,
  );

describe("POST /api/register", () => {
  it("creates an account, and returns its name in NFC", async () => {
    const { status, body } = await register(server, "Zoe\u0308");
    assertEquals([status, body], [201, { username: "Zo\u00eb" }]);
  });

  it("refuses a name that is taken, in any case and any Unicode form", async () => {
    const names = ["Alice", "alice", "ALICE", "\uff21\uff4c\uff49\uff43\uff45", "al\u0131ce"];
    for (const name of [...names, "ZOE\u0308", "zo\u00eb"]) {
      const { status, body } = await register(server, name);
      assertEquals(status, 409, name);
      assertEquals(body, { error: "An account has this name. Choose another." });
    }
  });

  it("creates one account when many requests for one name come at once", async () => {
    const names = ["erin", "Erin", "ERIN", "\uff45rin"];
    const answers = await Promise.all(names.map((name) => register(server, name)));
    assertEquals(answers.map(({ status }) => status).sort(), [201, 409, 409, 409]);
  });

  const BAD: [what: string, username: unknown, password: unknown, sentence: string][] = [
    ["a password of 7", "carl", "x".repeat(7), "The password must have 8 to 256 characters."],
    ["a password of 257", "carl", "x".repeat(257), "The password must have 8 to 256 characters."],
    ["an empty password", "carl", "", "The password must have 8 to 256 characters."],
    ["a number for a password", "carl", 12345678, "username and password must be strings."],
    ["null for a password", "carl", null, "username and password must be strings."],
    ["no name", undefined, PASSWORD, "username and password must be strings."],
    ["a list for a name", ["carl"], PASSWORD, "username and password must be strings."],
    ["an empty name", "", PASSWORD, "The username must be 1 to 32 characters long."],
    ["a long name", "c".repeat(33), PASSWORD, "The username must be 1 to 32 characters long."],
    ["a comma in the name", "a,b", PASSWORD, "The username may only have letters"],
    [
      "a reserved name",
      "Anonymous",
      PASSWORD,
      "The username is reserved for the server. Choose another.",
    ],
  ];
  for (const [what, username, password, sentence] of BAD) {
    it(`refuses ${what} with 400 and the reason`, async () => {
      const { status, body } = await register(server, username, password);
      assertEquals(status, 400);
      assertStringIncludes(body.error, sentence);
    });
  }

  it("accepts passwords of 8 and of 256 characters", async () => {
    for (const [name, password] of [["short", "x".repeat(8)], ["long", "ü".repeat(256)]] as const) {
      assertEquals((await register(server, name, password)).status, 201);
      assertEquals((await login(server, name, password)).status, 200);
    }
  });
});

describe("POST /api/login", () => {
  it("returns a token, its end, and the name as registered", async () => {
    const { status, body, headers } = await login(server, "\uff41LICE");
    assertEquals([status, body.username], [200, "Alice"]);
    assertMatch(body.token, SECRET);
    const days = (Date.parse(body.expires) - Date.now()) / 86_400_000;
    assert(days > 29.9 && days <= 30, `${days} days`);
    assertEquals(headers.get("cache-control"), "no-store");
    const [, maxAge] = /Max-Age=(\d+)/.exec(headers.get("set-cookie")!)!;
    assert(Math.abs(Number(maxAge) - 30 * 86_400) < 60, maxAge);
  });

  it("sets the token as a cookie that no script can read and no other site can send", async () => {
    const { body, headers } = await login(server, "alice");
    const [cookie, ...flags] = headers.get("set-cookie")!.split("; ");
    assertEquals(cookie, `${cookieName(server, "session")}=${body.token}`);
    const rest = flags.filter((flag) => !flag.startsWith("Max-Age=")).sort();
    assertEquals(rest, ["HttpOnly", "Path=/", "SameSite=Lax"]);
  });

  it("answers a wrong password and an unknown name alike, in the same time", async () => {
    const times: Record<string, number[]> = { Alice: [], nobody: [] };
    const answers = new Set<string>();
    for (let i = 0; i < 4; i++) {
      for (const [name, list] of Object.entries(times)) {
        const start = performance.now();
        const { status, body, headers } = await login(server, name, "another password");
        list.push(performance.now() - start);
        const rest = [...headers].filter(([name]) => name !== "date");
        answers.add(JSON.stringify([status, body, rest]));
      }
    }
    assertEquals(answers.size, 1, [...answers].join("\n"));
    assertStringIncludes([...answers][0]!, '[401,{"error":"The name or the password is wrong."}');
    const [wrong, unknown] = Object.values(times).map((list) => quantile(list));
    // Without hashing, the answer takes a millisecond or two.
    assert(unknown! > wrong! / 3 && unknown! < wrong! * 3, JSON.stringify(times));
    assert(unknown! > 20, JSON.stringify(times));
  });

  it("answers an impossible name or password the same way", async () => {
    for (const [name, password] of [["", ""], ["a,b", "x"], ["Alice", "x".repeat(9999)]] as const) {
      const { status, body } = await login(server, name, password);
      assertEquals([status, body], [401, { error: "The name or the password is wrong." }]);
    }
  });

  it("accepts JSON only, so that no form of another site can sign anyone in", async () => {
    const body = JSON.stringify({ username: "alice", password: PASSWORD });
    for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/jsonx"]) {
      const answer = await call(server, "POST", "/api/login", {
        body,
        headers: { "content-type": type },
      });
      assertEquals([answer.status, answer.headers.get("set-cookie")], [400, null], type);
    }
    for (const body of ["", "{", "[]", "null", '"x"', "1", "\0"]) {
      assertEquals((await call(server, "POST", "/api/login", { body })).status, 400, body);
    }
  });
});

describe("A token", () => {
  it("is accepted in the cookie, in Authorization, and in the query", async () => {
    const name = cookieName(server, "session");
    const cookie = `other=1; ${name}=${alice}`;
    const ways: [query: string, headers: Record<string, string>][] = [
      ["", { Cookie: cookie }],
      ["", { Authorization: `Bearer ${alice}` }],
      ["", { Authorization: `bearer ${alice}` }],
      [`?token=${alice}`, {}],
      // An explicit token counts before the cookie.
      [`?token=${alice}`, { Cookie: `${name}=${NOBODYS_TOKEN}` }],
      [`?token=${NOBODYS_TOKEN}`, { Authorization: `Bearer ${alice}` }],
    ];
    for (const [query, headers] of ways) {
      const { body } = await call(server, "GET", `/api/session${query}`, { headers });
      assertEquals(body.username, "Alice", JSON.stringify(headers));
      using visitor = await Visitor.open(server, `/ws/${newRoom()}${query}`, { ...V1, ...headers });
      assertEquals((await visitor.nextOf("welcome")).username, "Alice");
    }
  });

  it("that is invalid gets 401 before the upgrade, and never makes a guest", async () => {
    for (const token of [NOBODYS_TOKEN, "garbage", "A".repeat(10_000), "%00", "../x"]) {
      const query = `token=${encodeURIComponent(token)}`;
      for (const path of [`/ws/r?username=bob&${query}`, `/ws?${query}`, `/echo?${query}`]) {
        const { status, error } = await knock(server, path);
        assertEquals([status, error], [401, "Your session has ended. Sign in again."], path);
        assertEquals((await call(server, "GET", path)).status, 401);
      }
    }
    const headers = { Cookie: `${cookieName(server, "session")}=${NOBODYS_TOKEN}` };
    assertEquals((await knock(server, "/ws/r?username=bob", headers)).status, 401);
  });

  it("fixes the name to its owner's, which may be left out", async () => {
    const room = newRoom();
    await using member = await join(room, alice);
    assertEquals((await member.nextOf("welcome")).username, "Alice");
    await using again = await join(room, alice, "\uff41lice");
    assertEquals((await again.nextOf("welcome")).users.length, 1);
    const { status, error } = await knock(server, `/ws/${room}?username=bob&token=${alice}`);
    assertEquals([status, error], [403, "You are signed in as Alice. Use that name."]);
  });

  it("without a name or an account is refused with 400: a guest needs a name", async () => {
    const { status, error } = await knock(server, `/ws/${newRoom()}`);
    assertEquals([status, error], [400, "room and username are required"]);
  });
});

describe("GET /api/session", () => {
  it("names the signed-in account, and is not cacheable", async () => {
    const { status, body, headers } = await call(server, "GET", "/api/session", { token: alice });
    assertEquals([status, body], [200, { username: "Alice", admin: false, guests: true }]);
    assertEquals(headers.get("cache-control"), "no-store");
  });

  it("reports that nobody is signed in, and deletes a useless cookie", async () => {
    const nobody = { username: null, admin: false, guests: true };
    const plain = await call(server, "GET", "/api/session");
    assertEquals([plain.body, plain.headers.get("set-cookie")], [nobody, null]);
    const name = cookieName(server, "session");
    const headers = { cookie: `${name}=${NOBODYS_TOKEN}` };
    const stale = await call(server, "GET", "/api/session", { headers });
    assertEquals(stale.body, nobody);
    assertStringIncludes(stale.headers.get("set-cookie")!, `${name}=; Max-Age=0`);
  });
});

describe("POST /api/logout", () => {
  it("ends its session and that session's sockets with 4001 within a second, and no others", async () => {
    const [first, second] = [await signIn(server, "alice"), await signIn(server, "alice")];
    const [room, other] = [newRoom(), newRoom()];
    await using kept = await join(room, second);
    await using guest = await V1Client.join(server.ws, room, "bob");
    const ended = [await join(room, first), await join(other, first)];
    for (const member of ended) await member.nextOf("welcome");
    const { status, headers } = await call(server, "POST", "/api/logout", { token: first });
    assertEquals(status, 204);
    const gone = `${cookieName(server, "session")}=; Max-Age=0; Path=/`;
    assertStringIncludes(headers.get("set-cookie")!, gone);
    const closed = await soon(Promise.all(ended.map(({ closed }) => closed)));
    assertEquals(closed.map(({ code }) => code), [4001, 4001]);
    for (const member of ended) {
      const { code, content } = await member.nextOf("error");
      assertEquals([code, content], ["unauthenticated", "Your session has ended. Sign in again."]);
    }
    for (const member of [kept, guest]) {
      assertEquals((await member.ask({ type: "ping" })).type, "pong");
    }
    assertEquals((await knock(server, `/ws/${room}?token=${first}`)).status, 401);
    const { body } = await call(server, "GET", "/api/session", { token: second });
    assertEquals(body.username, "Alice");
  });

  it("answers the same without a session or with an ended one", async () => {
    for (const token of [undefined, "garbage", NOBODYS_TOKEN]) {
      assertEquals((await call(server, "POST", "/api/logout", { token })).status, 204);
    }
  });
});

describe("A registered name", () => {
  it("never admits a guest, in any case and any Unicode form", async () => {
    for (const name of ["Alice", "ALICE", "\uff41\uff4c\uff49\uff43\uff45"]) {
      const { status, error } = await knock(server, `/ws/r?username=${encodeURIComponent(name)}`);
      assertEquals(status, 401, name);
      assertEquals(error, "This name belongs to an account. Sign in, or choose another name.");
    }
  });

  it("disconnects the guests who hold it when it is registered, with 4001 and the reason", async () => {
    await using witness = await V1Client.join(server.ws, "r1", "witness");
    const guests = [
      await V1Client.join(server.ws, "r1", "DORA"),
      await V1Client.join(server.ws, "r2", "dora"),
    ];
    const plain = await Client.join(server.ws, "r3", "Dora");
    assertEquals((await register(server, "Dora")).status, 201);
    for (const guest of [...guests, plain]) assertEquals((await soon(guest.closed)).code, 4001);
    for (const guest of guests) {
      assertStringIncludes((await guest.nextOf("error")).content, "belongs to an account");
    }
    await witness.nextOf("user_left", ({ username }) => username === "DORA");
    assertEquals((await witness.ask({ type: "ping" })).type, "pong");
  });

  it("in ADMINS never admits a guest, even before it is registered", async () => {
    for (const name of ["Root", "root", "\uff32OOT"]) {
      const { status } = await knock(server, `/ws/r?username=${encodeURIComponent(name)}`);
      assertEquals(status, 401, name);
    }
  });
});

describe("GUESTS=off", () => {
  it("admits everybody with an account, and nobody without one", async () => {
    await using closed = await startServer({ GUESTS: "off" });
    for (const path of ["/ws/r?username=bob", "/ws", "/ws?username=bob", "/echo"]) {
      assertEquals((await knock(closed, path)).status, 401, path);
      const { status, body } = await call(closed, "GET", path);
      assertEquals([status, body], [401, { error: "Sign in to chat here." }]);
    }
    const query = `session=${NOBODYS_TOKEN}`;
    assertEquals((await knock(closed, `/ws/r?username=bob&${query}`)).status, 401);
    const token = await signUp(closed, "bob");
    await using member = await Client.join(closed.ws, "r", "bob", `&token=${token}`);
    member.send("hello");
    await member.nextFrame(({ content }) => content === "hello");
    const { body } = await call(closed, "GET", "/api/session");
    assertEquals(body, { username: null, admin: false, guests: false });
    const page = await call(closed, "GET", "/", { headers: { accept: "text/html" } });
    assertEquals(page.headers.get("set-cookie"), null);
  });
});

describe("A guest", () => {
  /** The cookie that a browser gets from the page. */
  const visitPage = async (where = server, headers: Record<string, string> = {}) => {
    const all = { accept: "text/html", ...headers };
    const { headers: answer } = await call(where, "GET", "/", { headers: all });
    return answer.get("set-cookie");
  };

  it("gets one cookie from the page, which no script can read", async () => {
    const [cookie, ...flags] = (await visitPage())!.split("; ");
    assertMatch(cookie!, /^hubbub_guest_\d+=[A-Za-z0-9_-]{43}$/);
    assertEquals(flags.sort(), ["HttpOnly", "Max-Age=31536000", "Path=/", "SameSite=Lax"]);
    assertEquals(await visitPage(server, { cookie: cookie! }), null);
    assert(await visitPage(server, { cookie: `${cookieName(server, "guest")}=garbage` }) !== null);
  });

  it("is one user in two tabs of one browser, and in no other browser", async () => {
    const room = newRoom();
    const [cookie] = (await visitPage())!.split(";");
    const [other] = (await visitPage())!.split(";");
    const target = `/ws/${room}?username=bob`;
    using first = await Visitor.open(server, target, { ...V1, Cookie: cookie! });
    await first.nextOf("welcome");
    using second = await Visitor.open(server, target, { ...V1, Cookie: cookie! });
    const { users, online } = await second.nextOf("welcome");
    assertEquals([users, online], [[{ username: "bob", connections: 2 }], 1]);
    for (
      const headers of [{}, { Cookie: other! }, {
        Cookie: `${cookieName(server, "guest")}=garbage`,
      }]
    ) {
      const { status, error } = await knock(server, target, { ...V1, ...headers });
      assertEquals([status, error.startsWith("This name is in use")], [409, true]);
    }
  });

  it("rejoins with ?session= while its dead connection still holds the name", async () => {
    const room = newRoom();
    // This connection never reads or closes again.
    using dead = await Visitor.open(server, `/ws/${room}?username=bob`, V1);
    const { session } = await dead.nextOf("welcome");
    assertMatch(session, SECRET);
    await assertRejects(() => V1Client.join(server.ws, room, "bob"), Error, "refused");
    await assertRejects(
      () => V1Client.join(server.ws, room, "bob", { session: NOBODYS_TOKEN }),
      Error,
      "refused",
    );
    await using back = await V1Client.join(server.ws, room, "bob", { session });
    assertEquals(back.welcome.users, [{ username: "bob", connections: 2 }]);
    assertEquals(back.welcome.session, session);
  });

  it("with an impossible secret is refused with the reason", async () => {
    const { status, error } = await knock(server, "/ws/r?username=bob&session=garbage");
    assertEquals([status, error], [400, "This session is not from this server. Join without it."]);
  });
});

describe("Cookies", () => {
  it("are Secure where a trusted proxy says that the client came over https", async () => {
    await using behind = await startServer({ TRUST_PROXY: "1" });
    const cookieOf = async (where: TestServer, headers: Record<string, string>) => {
      const page = { ...headers, accept: "text/html" };
      return (await call(where, "GET", "/", { headers: page })).headers.get("set-cookie")!;
    };
    const https = { "x-forwarded-proto": "https" };
    assertStringIncludes(await cookieOf(behind, https), "; Secure");
    assert(!(await cookieOf(behind, { "x-forwarded-proto": "http" })).includes("Secure"));
    assert(!(await cookieOf(behind, {})).includes("Secure"));
    // Without TRUST_PROXY the header is ignored: a browser would drop the cookie.
    assert(!(await cookieOf(server, https)).includes("Secure"));
    assertEquals((await register(behind, "bob")).status, 201);
    const { headers } = await login(behind, "bob", PASSWORD, { headers: https });
    assertStringIncludes(headers.get("set-cookie")!, "; Secure");
  });
});

describe("A change during a join", () => {
  /** A server whose joins wait, after all checks, until the test continues them. */
  function startSlow() {
    const config = readConfig(TEST_ENV);
    const { limits } = config;
    const logger = createLogger({ level: "error", write: () => {} });
    const clock = () => performance.now();
    const newId = () => crypto.randomUUID();
    const engine = new MemoryEngine({ clock: Date.now, newId, keep: 50, leaseMs: 30_000 });
    const [checked, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const open = engine.open.bind(engine);
    engine.open = async (room, wanted) => {
      checked.resolve();
      await gate.promise;
      return await open(room, wanted);
    };
    const turn = { deliver: (callback: () => void) => void setTimeout(callback), hear: () => {} };
    const after = () => {};
    const traffic = new TrafficLimiter(config.rates.traffic, clock);
    const hub = new Hub({
      engine,
      limits,
      traffic,
      logger,
      refusals: logger,
      failures: logger,
      clock,
      date: Date.now,
      newId,
      turn,
      after,
    });
    const passwords = new Passwords(1);
    const accounts = new Accounts({
      store: engine.accounts,
      passwords,
      clock: Date.now,
      after,
      settings: config.people,
    });
    const limiter = new RateLimiter(config.rates.join, clock);
    const app = createApp({
      hub,
      accounts,
      connections: new Connections(config.connections),
      limits,
      settings: config.http,
      joinLimiter: limiter,
      authLimiter: limiter,
      askLimiter: limiter,
      traffic,
      health: { isDegraded: false },
      logger,
      refusals: logger,
      failures: logger,
      clock,
      after,
      publicDir: new URL("../public/", import.meta.url),
    });
    const http = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, app.fetch);
    const { port } = http.addr;
    return {
      where: { url: `http://127.0.0.1:${port}`, port },
      accounts,
      isChecked: checked.promise,
      goOn: gate.resolve,
      [Symbol.asyncDispose]: () => http.shutdown(),
    };
  }

  it("counts: a session that ends before its socket opens loses the socket", async () => {
    await using slow = startSlow();
    await slow.accounts.register("alice", PASSWORD);
    const { token } = await slow.accounts.login("alice", PASSWORD);
    const opening = Visitor.open(slow.where, `/ws/r?token=${token}`);
    await slow.isChecked;
    await slow.accounts.logout(token);
    slow.goOn();
    using visitor = await opening;
    assertEquals((await visitor.nextOf("error")).code, "unauthenticated");
    assertEquals(await soon(visitor.closeCode()), 4001);
  });

  it("counts: a name registered during a guest's join is not the guest's", async () => {
    await using slow = startSlow();
    const opening = Visitor.open(slow.where, "/ws/r?username=DORA");
    await slow.isChecked;
    await slow.accounts.register("dora", PASSWORD);
    slow.goOn();
    using visitor = await opening;
    assertEquals((await visitor.nextOf("error")).code, "unauthenticated");
    assertEquals(await soon(visitor.closeCode()), 4001);
  });
});

describe("The store and the log", () => {
  it("contain no password, token or guest's secret, and neither does any error", async () => {
    const folder = await Deno.makeTempDir();
    const path = `${folder}/chat.db`;
    const said: string[] = [];
    const secrets = [PASSWORD, "a wrong password"];
    const env = { DATABASE_URL: `sqlite:${path}`, LOG_LEVEL: "info" };
    const stored = await startServer(env);
    const keep = (answer: unknown) => said.push(JSON.stringify(answer));
    const token = await signUp(stored, "bob");
    secrets.push(token);
    const body = { name: "dice" };
    const bot = (await call(stored, "POST", "/api/tokens", { token, body })).body.token;
    secrets.push(bot);
    keep((await call(stored, "POST", "/api/tokens", { token, body })).body);
    keep((await call(stored, "POST", `/api/tokens?token=${bot}`, { body })).body);
    keep((await register(stored, "bob")).body);
    keep((await login(stored, "bob", "a wrong password")).body);
    keep((await login(stored, "nobody", "a wrong password")).body);
    keep(await knock(stored, `/ws/r?username=carl&token=${token}`));
    keep(await knock(stored, `/ws/r,?token=${token}`));
    keep((await call(stored, "GET", `/nothing?token=${token}`)).body);
    keep((await call(stored, "PUT", `/api/rooms/r,?token=${token}`, { body: {} })).body);
    await using member = await V1Client.connect(`${stored.ws}/ws/r?token=${token}`);
    await using guest = await V1Client.join(stored.ws, "r", "guest");
    secrets.push(guest.welcome.session);
    await guest.ask({ type: "chat", content: "hello" });
    keep(await guest.ask({ type: "kick", username: "bob" }));
    await member.nextOf("chat");
    await call(stored, "POST", "/api/logout", { token });
    await member.closed;
    const second = await signIn(stored, "bob");
    secrets.push(second);
    await stored.stop();

    const files = await Array.fromAsync(Deno.readDir(folder));
    const places: [where: string, text: string][] = [
      ["the log", JSON.stringify(stored.log)],
      ["an error", said.join("\n")],
    ];
    for (const { name } of files) {
      const bytes = await Deno.readFile(`${folder}/${name}`);
      places.push([name, new TextDecoder("latin1").decode(bytes)]);
    }
    for (const [where, text] of places) {
      for (const secret of secrets) assert(!text.includes(secret), `${where} has "${secret}".`);
    }
    const db = new DatabaseSync(path);
    const rows = db.prepare("SELECT key, username, password_hash FROM accounts").all();
    const sessions = db.prepare("SELECT hash, account FROM sessions").all();
    db.close();
    assertEquals(rows.map(({ key, username }) => `${key} ${username}`), ["bob bob"]);
    assertMatch(String(rows[0]!.password_hash), /^\$scrypt\$ln=14,r=8,p=5\$\S{22}\$\S{43}$/);
    assertEquals(sessions.map(({ account }) => account), ["bob", "bob"]);
    await Deno.remove(folder, { recursive: true });
  });

  it("keep accounts and tokens over a restart, but no expired token", async () => {
    const folder = await Deno.makeTempDir();
    const path = `${folder}/chat.db`;
    const env = { DATABASE_URL: `sqlite:${path}` };
    const first = await startServer(env);
    const [old, good] = [await signUp(first, "bob"), await signIn(first, "bob")];
    await first.stop();
    const db = new DatabaseSync(path);
    const hash = new Uint8Array(
      await crypto.subtle.digest("SHA-256", new TextEncoder().encode(old)),
    ).toBase64({ alphabet: "base64url", omitPadding: true });
    const { changes } = db.prepare("UPDATE sessions SET expires_at = ? WHERE hash = ?")
      .run(Date.now() - 1, hash);
    db.close();
    assertEquals(Number(changes), 1);
    const second = await startServer(env);
    try {
      const { status, error } = await knock(second, `/ws/r?token=${old}`);
      assertEquals([status, error], [401, "Your session has ended. Sign in again."]);
      assertEquals(
        (await call(second, "GET", "/api/session", { token: good })).body.username,
        "bob",
      );
      assertEquals((await register(second, "BOB")).status, 409);
    } finally {
      await second.stop();
      await Deno.remove(folder, { recursive: true });
    }
  });
});

/** The application, and requests to it. */
function createTestApp(env: Record<string, string> = {}) {
  const fake = createFakeApp(env);
  const ask = async (path: string, init: RequestInit = {}) => {
    const response = await fake.app.request(path, init);
    const text = await response.text();
    const body = text === "" ? undefined : JSON.parse(text);
    return { status: response.status, body, headers: response.headers };
  };
  const send = (method: string, path: string, body: unknown, token?: string) =>
    ask(path, {
      method,
      body: JSON.stringify(body),
      headers: {
        "content-type": "application/json",
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
      },
    });
  return { ...fake, ask, send, changes: fake.hub.changes };
}

/** Changes that a room's owner may make. */
const CHANGE = { private: true, members: ["bob"] };

/** A failure of the store, and the client's answer. */
const FAILURES: [what: string, failure: ChatError | Error, status: number, error: string][] = [
  [
    "cannot be reached",
    storeUnavailable(),
    503,
    "The server cannot store or read anything now. Try again later.",
  ],
  [
    "fails unexpectedly",
    new Error("disk I/O error"),
    500,
    "Something went wrong on the server. Try again later.",
  ],
];

describe("A store that", () => {
  for (const [what, failure, status, error] of FAILURES) {
    it(`${what} makes no guest of an account: GET /api/session keeps the cookie and answers ${status}`, async () => {
      const { store, signIn, ask } = createTestApp();
      const headers = { cookie: `hubbub_session=${signIn("alice")}` };
      assertEquals((await ask("/api/session", { headers })).body.username, "alice");
      store.failure = failure;
      const answer = await ask("/api/session", { headers });
      assertEquals([answer.status, answer.body], [status, { error }]);
      assertEquals(answer.headers.get("set-cookie"), null);
      assertEquals(answer.headers.get("cache-control"), "no-store");
      store.failure = undefined;
      assertEquals((await ask("/api/session", { headers })).body.username, "alice");
    });

    it(`${what} stops every request that needs it with ${status}`, async () => {
      const { store, signIn, ask, send, changes } = createTestApp();
      const token = signIn("alice");
      store.failure = failure;
      const login = { username: "alice", password: "correct horse" };
      const answers = [
        await send("POST", "/api/register", login),
        await send("POST", "/api/login", login),
        await send("POST", "/api/logout", {}, token),
        await send("PUT", "/api/rooms/r", CHANGE, token),
        await ask(`/api/rooms/r?token=${token}`),
        await ask(`/ws/r?token=${token}`),
        await ask("/ws/r?username=bob"),
      ];
      for (const { status: actual, body, headers } of answers) {
        assertEquals([actual, body], [status, { error }]);
        assertEquals(headers.get("set-cookie"), null);
      }
      assertEquals(changes, []);
    });
  }

  it("fails unexpectedly is logged once with its error, which no client sees", async () => {
    const { store, log, signIn, ask } = createTestApp();
    const headers = { cookie: `hubbub_session=${signIn("alice")}` };
    store.failure = new Error("disk I/O error");
    const { body } = await ask("/api/session", { headers });
    assertEquals(JSON.stringify(body).includes("disk"), false);
    assertEquals(log.map(({ level, msg, path, error }) => [level, msg, path, error]), [
      ["error", "request failed", "/api/session", "Error: disk I/O error"],
    ]);
    assertStringIncludes(String(log[0]!.stack), "accounts_test.ts");
  });
});

describe("GET /api/session", () => {
  it("accepts a token until it ends, and then deletes the cookie", async () => {
    const { signIn, ask } = createTestApp();
    const session = (expiresAt: number) =>
      ask("/api/session", {
        headers: { cookie: `hubbub_session=${signIn("Alice", expiresAt)}` },
      });
    const good = await session(NOW + 1);
    assertEquals([good.body.username, good.headers.get("set-cookie")], ["Alice", null]);
    const ended = await session(NOW);
    assertEquals([ended.status, ended.body.username], [200, null]);
    assertEquals(
      ended.headers.get("set-cookie"),
      "hubbub_session=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax",
    );
  });

  it("reads a token only after the word Bearer", async () => {
    const { signIn, ask } = createTestApp();
    const token = signIn("alice");
    const CASES: [authorization: string, username: string | null][] = [
      [`Bearer ${token}`, "alice"],
      [`bearer  ${token}`, "alice"],
      [`XBearer ${token}`, null],
      [`Bearer ${token} more`, null],
      [`Bearer${token}`, null],
      [`Basic ${token}`, null],
    ];
    for (const [authorization, username] of CASES) {
      const { body, headers } = await ask("/api/session", { headers: { authorization } });
      assertEquals([body.username, headers.get("set-cookie")], [username, null], authorization);
    }
  });

  it("marks admins", async () => {
    const { signIn, ask } = createTestApp({ ADMINS: "Root" });
    for (const [username, admin] of [["root", true], ["alice", false]] as const) {
      const { body } = await ask(`/api/session?token=${signIn(username)}`);
      assertEquals(body, { username, admin, guests: true });
    }
  });

  it("refuses a token whose account is gone", async () => {
    const { store, signIn, ask } = createTestApp();
    const token = signIn("alice");
    store.accounts.clear();
    const { status, body } = await ask(`/api/session?token=${token}`);
    assertEquals([status, body], [401, { error: "Your session has ended. Sign in again." }]);
  });
});

describe("POST /api/login", () => {
  it("returns a token for 30 days, in the body and in the cookie", async () => {
    const { store, log, send } = createTestApp();
    const login = { username: "Alice", password: "correct horse" };
    assertEquals((await send("POST", "/api/register", login)).body, { username: "Alice" });
    const { body, headers } = await send("POST", "/api/login", { ...login, username: "alice" });
    const expiresAt = NOW + 30 * 24 * 60 * 60 * 1000;
    assertEquals([body.username, body.expires], ["Alice", new Date(expiresAt).toISOString()]);
    const hash = hashSecret(body.token);
    assertEquals([...store.tokens.values()], [{ hash, account: "alice", expiresAt }]);
    assertMatch(headers.get("set-cookie")!, /^hubbub_session=\S+; Max-Age=2592000; Path=\/; /);
    assertEquals(log.map(({ msg, username }) => [msg, username]), [
      ["registered", "Alice"],
      ["signed in", "Alice"],
    ]);
  });
});

describe("PUT /api/rooms/:room", () => {
  it("lists the members and bans, and keeps the person behind a ban secret", async () => {
    const { changes, signIn, send } = createTestApp();
    signIn("carol");
    const { status, body } = await send("PUT", "/api/rooms/r", CHANGE, signIn("alice"));
    assertEquals(status, 200);
    assertEquals(body, {
      room: "r",
      private: true,
      owner: "alice",
      moderators: ["carol"],
      members: ["bob"],
      bans: ["mallory"],
    });
    assertEquals(changes, [CHANGE]);
  });

  it("refuses a bad token, a bad room and a bad change, and changes nothing", async () => {
    const { changes, signIn, send } = createTestApp();
    const token = signIn("alice");
    const statuses = [
      await send("PUT", "/api/rooms/r", CHANGE, createSecret()),
      await send("PUT", "/api/rooms/a,b", CHANGE, token),
      await send("PUT", "/api/rooms/r", { private: "yes" }, token),
      await send("PUT", "/api/rooms/r", [], token),
    ].map(({ status }) => status);
    assertEquals([statuses, changes], [[401, 400, 400, 400], []]);
  });
});

describe("A body", () => {
  it("is accepted as JSON, in every spelling of that type, and as no other type", async () => {
    const { ask } = createTestApp();
    const login = JSON.stringify({ username: "nobody", password: "x" });
    const status = async (type: string) => {
      const headers = { "content-type": type };
      return (await ask("/api/login", { method: "POST", body: login, headers })).status;
    };
    for (const type of ["application/json", "Application/JSON", "application/json ; charset=x"]) {
      assertEquals(await status(type), 401, type);
    }
    for (const body of ["", "{", "[]", "null", "1", '"x"', "[{}]"]) {
      const headers = { "content-type": "application/json" };
      const answer = await ask("/api/login", { method: "POST", body, headers });
      assertEquals(answer.body, { error: "The body must be a JSON object." }, body);
    }
    for (const type of ["text/plain", "application/jsonp", "x-application/json", "text/json"]) {
      assertEquals(await status(type), 400, type);
    }
  });
});

describe("A refusal", () => {
  it("is logged with its path, status, reason and address, and without the query", async () => {
    const { log, ask } = createTestApp({ TRUST_PROXY: "1" });
    const headers = { "x-forwarded-for": "192.0.2.1" };
    await ask(`/ws/r?token=${createSecret()}`, { headers });
    assertEquals(log.map(({ time: _, ...rest }) => rest), [{
      level: "info",
      msg: "refused",
      path: "/ws/r",
      status: 401,
      reason: "Your session has ended. Sign in again.",
      address: "192.0.2.1",
    }]);
  });

  it("for too many attempts gives whole seconds, rounded up, in the sentence and the header", async () => {
    const { ask } = createTestApp({ JOIN_RATE_PER_ADDRESS: "3" });
    for (let i = 0; i < 15; i++) assertEquals((await ask("/ws")).status, 426);
    const { status, body, headers } = await ask("/ws");
    assertEquals([status, headers.get("retry-after")], [429, "1"]);
    assertEquals(body.error, "Too many connections at once from your address. Wait 1 seconds.");
  });
});
