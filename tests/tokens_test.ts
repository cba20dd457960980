/** Tokens that accounts create for their bots, over HTTP and sockets. */

import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { DatabaseSync } from "node:sqlite";
import { MemoryEngine } from "../lib/engine/memory.ts";
import { ChatError } from "../lib/errors.ts";
import { Accounts, MAX_BOT_TOKENS } from "../lib/people/accounts.ts";
import { Passwords } from "../lib/people/passwords.ts";
import { makeFolder } from "./support/folder.ts";
import { call, knock, login, PASSWORD, register, signIn, signUp, soon } from "./support/people.ts";
import { startServer, type TestServer } from "./support/server.ts";
import { V1Client } from "./support/v1_client.ts";

const BOT = "A bot's token cannot do this. Sign in with the account's password.";

let server: TestServer;
let people = 0;

beforeAll(async () => {
  server = await startServer({ ADMINS: "Root" });
});

afterAll(async () => {
  await server.stop();
  assertEquals(server.log.filter(({ level }) => level === "error"), []);
});

const newName = () => `person-${++people}`;

const ask = (method: string, path: string, token?: string, body?: unknown) =>
  call(server, method, path, { token, body });

const make = (token: string | undefined, name: unknown) =>
  ask("POST", "/api/tokens", token, { name });

/** The names of an account's tokens, in the server's order. */
async function list(token: string): Promise<string[]> {
  const { status, body } = await ask("GET", "/api/tokens", token);
  assertEquals(status, 200, JSON.stringify(body));
  return body.tokens.map(({ name }: { name: string }) => name);
}

/** A new account's session, and a token of its bot. */
async function signUpWithBot(username = newName()) {
  const session = await signUp(server, username);
  const { body } = await make(session, "dice");
  return { username, session, bot: body.token as string };
}

async function join(token: string, room = "r"): Promise<V1Client> {
  const client = await V1Client.connect(`${server.ws}/ws/${room}?token=${token}`);
  await client.peek("welcome");
  return client;
}

/** Accounts without a server, on a store that the test controls. */
function createAccounts(passwords: Passwords) {
  const clock = Date.now;
  const newId = () => crypto.randomUUID();
  const store = new MemoryEngine({ clock, newId, keep: 9, leaseMs: 1000 }).accounts;
  const settings = { admins: [], guests: true, registration: true };
  const after = () => {};
  return { accounts: new Accounts({ store, passwords, clock, after, settings }), store };
}

describe("A bot's token", () => {
  it("is shown once, and listed by its name, oldest first", async () => {
    const session = await signUp(server, newName());
    const before = Date.now();
    const { status, body, headers } = await make(session, "dice");
    assertEquals([status, Object.keys(body)], [201, ["name", "token", "created"]]);
    assertEquals(body.name, "dice");
    assertMatch(body.token, /^[A-Za-z0-9_-]{43}$/);
    assertEquals(headers.get("cache-control"), "no-store");
    assertEquals(headers.get("set-cookie"), null);
    assert(Date.parse(body.created) >= before && Date.parse(body.created) <= Date.now());
    await make(session, "another: 🎲 (100 %)");
    await make(session, "aaa");
    assertEquals(await list(session), ["dice", "another: 🎲 (100 %)", "aaa"]);
    const listed = await ask("GET", "/api/tokens", session);
    assertEquals(listed.body.tokens[0], { name: "dice", created: body.created });
    assert(!JSON.stringify(listed.body).includes(body.token));
    assertEquals(await list(await signUp(server, newName())), []);
  });

  it("joins, sends and reads as the account, by header and by query", async () => {
    const { username, bot } = await signUpWithBot();
    await using member = await join(bot);
    assertEquals((await member.nextOf("welcome")).username, username);
    await using other = await V1Client.join(server.ws, "r", newName());
    await member.ask({ type: "chat", content: "You rolled 6." });
    assertEquals((await other.nextOf("chat")).username, username);
    const body = { username, admin: false, guests: true };
    assertEquals((await ask("GET", "/api/session", bot)).body, body);
    assertEquals((await ask("GET", `/api/session?token=${bot}`)).body, body);
    const posted = await ask("POST", "/api/rooms/r/messages", bot, { content: "over HTTP" });
    assertEquals([posted.status, posted.body.username], [201, username]);
    const room = `room-of-${username}`;
    assertEquals((await ask("PUT", `/api/rooms/${room}`, bot, { private: true })).status, 200);
    assertEquals((await ask("GET", `/api/rooms/${room}`, bot)).body.owner, username);
    const { status, error } = await knock(server, `/ws/r?username=bob&token=${bot}`);
    assertEquals([status, error], [403, `You are signed in as ${username}. Use that name.`]);
  });

  it("does not make a guesser of the password count as the owner", async () => {
    const guesses: (boolean | undefined)[] = [];
    const passwords = new Passwords(1);
    passwords.check = (_password, _hash, attempt) => {
      guesses.push(attempt?.isKnown);
      return Promise.resolve(guesses.length === 1);
    };
    const { accounts } = createAccounts(passwords);
    await accounts.register("alice", PASSWORD, { from: { address: "home" } });
    const session = await accounts.login("alice", PASSWORD, { address: "home" });
    const bot = await accounts.createBotToken(await accounts.authenticate(session.token), "dice");
    for (const { token } of [session, bot]) {
      const from = { address: "x", tokens: [token] };
      await assertRejects(() => accounts.login("alice", "a guess", from), ChatError);
    }
    assertEquals(guesses, [true, true, false]);
  });

  it("cannot manage the account", async () => {
    const { username, session, bot } = await signUpWithBot();
    const admin = await signUpWithBot("Root");
    const change = { password: PASSWORD, new_password: "another password" };
    const calls: [method: string, path: string, token: string, body?: unknown][] = [
      ["POST", "/api/tokens", bot, { name: "more" }],
      ["GET", "/api/tokens", bot],
      ["DELETE", "/api/tokens/dice", bot],
      ["DELETE", "/api/tokens", bot, { name: "dice" }],
      ["POST", "/api/logout?everywhere=1", bot],
      ["POST", "/api/password", bot, change],
      ["POST", "/api/password", bot, { ...change, password: "a wrong one" }],
      ["DELETE", "/api/account", bot, { password: PASSWORD }],
      ["POST", "/api/password", admin.bot, { ...change, username }],
    ];
    for (const [method, path, token, body] of calls) {
      const answer = await ask(method, path, token, body);
      assertEquals([answer.status, answer.body], [403, { error: BOT }], `${method} ${path}`);
    }
    assertEquals(await list(session), ["dice"]);
    assertEquals((await login(server, username)).status, 200);
  });

  it("cannot be created, listed or deleted without an account", async () => {
    const { session } = await signUpWithBot();
    for (const token of [undefined, "A".repeat(43), "garbage"]) {
      assertEquals((await make(token, "x")).status, 401);
      assertEquals((await ask("GET", "/api/tokens", token)).status, 401);
      assertEquals((await ask("DELETE", "/api/tokens/dice", token)).status, 401);
      assertEquals((await ask("DELETE", "/api/tokens", token, { name: "dice" })).status, 401);
    }
    const other = await signUp(server, newName());
    assertEquals((await ask("DELETE", "/api/tokens/dice", other)).status, 404);
    assertEquals(await list(session), ["dice"]);
  });
});

describe("The end of a bot's token", () => {
  it("by its name closes its sockets at once with 4001, and no others", async () => {
    const { username, session, bot } = await signUpWithBot();
    const spare = (await make(session, "spare / 1")).body.token;
    for (
      const [name, token, end] of [
        ["dice", bot, () => ask("DELETE", "/api/tokens/dice", session)],
        ["spare / 1", spare, () => ask("DELETE", "/api/tokens/spare%20%2F%201", session)],
      ] as const
    ) {
      const sockets = [await join(token), await join(token, "q")];
      await using own = await join(session);
      assertEquals((await end()).status, 204, name);
      const closed = await soon(Promise.all(sockets.map(({ closed }) => closed)));
      assertEquals(closed.map(({ code }) => code), [4001, 4001]);
      assertEquals((await sockets[0]!.nextOf("error")).code, "unauthenticated");
      assertEquals((await own.ask({ type: "ping" })).type, "pong");
      const { status, error } = await knock(server, `/ws/r?token=${token}`);
      assertEquals([status, error], [401, "Your session has ended. Sign in again."]);
      assertEquals((await ask("GET", "/api/session", token)).status, 401);
      assertEquals((await end()).body, { error: "You have no token with this name." });
    }
    assertEquals(await list(session), []);
    assertEquals((await make(session, "dice")).status, 201);
    assertEquals((await ask("DELETE", "/api/tokens", session, { name: "dice" })).status, 204);
    assertEquals((await ask("DELETE", "/api/tokens", session, { name: "dice" })).status, 404);
    assertEquals((await ask("GET", "/api/session", session)).body.username, username);
  });

  it("follows the bot's own logout, which keeps the account's sessions", async () => {
    const { session, bot } = await signUpWithBot();
    const other = (await make(session, "other")).body.token;
    const [socket, second] = [await join(bot), await join(other)];
    await using own = await join(session);
    assertEquals((await ask("POST", "/api/logout", bot)).status, 204);
    assertEquals((await soon(socket.closed)).code, 4001);
    for (const member of [own, second]) {
      assertEquals((await member.ask({ type: "ping" })).type, "pong");
    }
    await second.close();
    assertEquals(await list(session), ["other"]);
    // Signing out ends that session only; the bots continue.
    await ask("POST", "/api/logout", session);
    assertEquals((await ask("GET", "/api/session", other)).status, 200);
  });

  it("follows a logout everywhere, a new password, own or by an admin, and the account's removal", async () => {
    const admin = (await login(server, "Root")).status === 200
      ? await signIn(server, "Root")
      : await signUp(server, "Root");
    const change = { password: PASSWORD, new_password: PASSWORD };
    const ends: [what: string, end: (session: string, username: string) => Promise<unknown>][] = [
      ["everywhere", (session) => ask("POST", "/api/logout?everywhere=1", session)],
      ["password", (session) => ask("POST", "/api/password", session, change)],
      ["admin", (_, username) => ask("POST", "/api/password", admin, { ...change, username })],
      ["account", (session) => ask("DELETE", "/api/account", session, { password: PASSWORD })],
    ];
    for (const [what, end] of ends) {
      const { username, session, bot } = await signUpWithBot();
      const socket = await join(bot);
      assertEquals(((await end(session, username)) as { status: number }).status, 204, what);
      assertEquals((await soon(socket.closed, 2000)).code, 4001, what);
      assertEquals((await ask("GET", "/api/session", bot)).status, 401, what);
      if (what === "account") continue;
      assertEquals(await list(await signIn(server, username)), [], what);
    }
  });

  it("is not caused by time or a restart", async () => {
    await using folder = await makeFolder();
    const env = { DATABASE_URL: `sqlite:${folder.path}/chat.db` };
    const first = await startServer(env);
    const session = await signUp(first, "bob");
    const { body: { token } } = await call(first, "POST", "/api/tokens", {
      token: session,
      body: { name: "dice" },
    });
    await first.stop();
    const db = new DatabaseSync(`${folder.path}/chat.db`);
    const { changes } = db.prepare("UPDATE sessions SET expires_at = ? WHERE name IS NULL")
      .run(Date.now() - 1);
    const stored = JSON.stringify(db.prepare("SELECT * FROM sessions").all());
    db.close();
    assertEquals([changes, stored.includes(token)], [1, false]);
    await using second = await startServer(env);
    // Each sign-in makes the store drop expired sessions.
    const again = await signIn(second, "bob");
    const who = await call(second, "GET", "/api/session", { token });
    assertEquals([who.status, who.body.username], [200, "bob"]);
    assertEquals((await call(second, "GET", "/api/session", { token: session })).status, 401);
    const { body } = await call(second, "GET", "/api/tokens", { token: again });
    assertEquals(body.tokens.length, 1);
    const log = JSON.stringify([...first.log, ...second.log]);
    assert(!log.includes(token) && log.includes('"token made"'));
  });

  it("follows when the account's sessions end while it is being created", async () => {
    const { accounts, store } = createAccounts(new Passwords(1));
    const { addBotToken } = store;
    store.addBotToken = async (token, most) => {
      await store.endTokens(token.account);
      return await addBotToken(token, most);
    };
    await accounts.register("alice", PASSWORD);
    const { token } = await accounts.login("alice", PASSWORD);
    const identity = await accounts.authenticate(token);
    const error = await assertRejects(
      () => accounts.createBotToken(identity, "dice"),
      ChatError,
    );
    assertEquals(error.code, "unauthenticated");
    assertEquals(await store.botTokens("alice"), []);
  });
});

describe("The name of a bot's token", () => {
  it("is text of 1 to 64 visible characters; anything else gets a sentence", async () => {
    const session = await signUp(server, newName());
    const BAD: [name: unknown, sentence: string][] = [
      ...[undefined, null, 1, true, ["dice"], { name: "dice" }].map((name): [unknown, string] => [
        name,
        "name must be a string.",
      ]),
      ["", "The token name must be 1 to 64 characters long."],
      ["x".repeat(65), "The token name must be 1 to 64 characters long."],
      ["x".repeat(60_000), "The token name must be 1 to 64 characters long."],
      ["e\u0301".repeat(65), "The token name must be 1 to 64 characters long."],
      ["🎲".repeat(65), "The token name must be 1 to 64 characters long."],
      ["di\nce", "The token name must not have control characters."],
      ["di\0ce", "The token name must not have control characters."],
      ["di\x7fce", "The token name must not have control characters."],
      ["di\u200bce", "The token name must not have invisible or direction characters."],
      ["\u202edice", "The token name must not have invisible or direction characters."],
      ["\u3164", "The token name must not have invisible or direction characters."],
      ["\u2800", "The token name must not have blank characters."],
      ["\ud800", "The token name must not have unassigned or surrogate code points."],
      [" ", "The token name must not begin or end with a space."],
      ["dice ", "The token name must not begin or end with a space."],
      ["di  ce", "The token name must not have two spaces in a row."],
      ["di\u00a0ce", "The token name must not have other spaces"],
      ["\ue000", "The token name must not have other spaces"],
      ["\u0301", "The token name must not begin with a combining mark"],
      ["..", "The token name must not be dots alone."],
    ];
    for (const [name, sentence] of BAD) {
      const { status, body } = await make(session, name);
      assertEquals(status, 400, JSON.stringify(name));
      assertStringIncludes(body.error, sentence);
      const deleted = await ask("DELETE", "/api/tokens", session, { name });
      assertEquals([deleted.status, deleted.body], [400, body], JSON.stringify(name));
    }
    for (const body of ["", "{", "[]", "null", '"dice"']) {
      assertEquals((await ask("POST", "/api/tokens", session, body)).status, 400, body);
      assertEquals((await ask("DELETE", "/api/tokens", session, body)).status, 400, body);
    }
    const form = { body: "name=dice", headers: { "content-type": "text/plain" }, token: session };
    assertEquals((await call(server, "POST", "/api/tokens", form)).status, 400);
    assertEquals(await list(session), []);
  });

  it("may contain any sign, and is the same in each form of Unicode", async () => {
    const session = await signUp(server, newName());
    const names = [
      "x".repeat(64),
      "🎲".repeat(64),
      "<b>&\"'; DROP TABLE sessions; --",
      "%2e%2e/\\",
    ];
    for (const name of names) {
      const { status, body } = await make(session, name);
      assertEquals([status, body.name], [201, name.replace("'", "’")]);
      assertEquals((await make(session, name)).status, 409);
      const path = `/api/tokens/${encodeURIComponent(name)}`;
      assertEquals((await ask("DELETE", path, session)).status, 204, name);
    }
    assertEquals((await make(session, "Zoe\u0308")).body.name, "Zo\u00eb");
    const twice = await make(session, "Zo\u00eb");
    assertEquals([twice.status, twice.body], [409, {
      error: "You have a token with this name. Choose another name, or delete that token first.",
    }]);
    assertEquals((await ask("DELETE", "/api/tokens/Zoe%CC%88", session)).status, 204);
    for (const path of ["/api/tokens/%ff", "/api/tokens/%", "/api/tokens/a/b"]) {
      const { status } = await ask("DELETE", path, session);
      assert(status === 400 || status === 404, `${path}: ${status}`);
    }
  });

  it("belongs to one token of its account, however many requests come at once", async () => {
    const [session, other] = [await signUp(server, newName()), await signUp(server, newName())];
    const answers = await Promise.all([1, 2, 3, 4].map(() => make(session, "dice")));
    assertEquals(answers.map(({ status }) => status).sort(), [201, 409, 409, 409]);
    assertEquals((await make(other, "dice")).status, 201);
    const { body } = answers.find(({ status }) => status === 201)!;
    assertEquals((await ask("GET", "/api/session", body.token)).status, 200);
  });

  it(`is one of ${MAX_BOT_TOKENS} at most, also with many requests at once`, async () => {
    const session = await signUp(server, newName());
    const answers = await Promise.all(
      Array.from({ length: MAX_BOT_TOKENS + 5 }, (_, i) => make(session, `bot ${i}`)),
    );
    const refused = answers.filter(({ status }) => status !== 201);
    assertEquals(refused.map(({ status }) => status), Array(5).fill(409));
    const sentence = "You have 20 tokens, the maximum. Delete one that is no longer in use.";
    assertEquals(refused[0]!.body, { error: sentence });
    const names = await list(session);
    assertEquals(names.length, MAX_BOT_TOKENS);
    const path = `/api/tokens/${encodeURIComponent(names[0]!)}`;
    assertEquals((await ask("DELETE", path, session)).status, 204);
    assertEquals((await make(session, "the next one")).status, 201);
  });

  it("is limited like sign-ins", async () => {
    await using strict = await startServer({ AUTH_RATE_PER_ADDRESS: "5" });
    assertEquals((await register(strict, "bob")).status, 201);
    const session = await signIn(strict, "bob");
    const statuses: number[] = [];
    for (let i = 0; i < 40 && statuses.at(-1) !== 429; i++) {
      const options = { token: session, body: { name: `bot ${i}` } };
      statuses.push((await call(strict, "POST", "/api/tokens", options)).status);
    }
    assertEquals(statuses.at(-1), 429);
  });
});
