/** The routes below /api, without a port, and on a store that fails when a test says so. */

import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ChatError, storeUnavailable } from "../lib/errors.ts";
import { createSecret, hashSecret } from "../lib/people/secrets.ts";
import { createFakeApp, NOW } from "./support/fake_app.ts";

/** The application, and ways to ask it for something. */
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

/** What the owner of a room may ask for. */
const CHANGE = { private: true, members: ["bob"] };

/** How a store fails, and what the client receives. */
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
    it(`${what} turns no account into a guest: GET /api/session keeps the cookie and answers ${status}`, async () => {
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

  it("fails unexpectedly is logged once with its error, and nothing of it is sent", async () => {
    const { store, log, signIn, ask } = createTestApp();
    const headers = { cookie: `hubbub_session=${signIn("alice")}` };
    store.failure = new Error("disk I/O error");
    const { body } = await ask("/api/session", { headers });
    assertEquals(JSON.stringify(body).includes("disk"), false);
    assertEquals(log.map(({ level, msg, path, error }) => [level, msg, path, error]), [
      ["error", "request failed", "/api/session", "Error: disk I/O error"],
    ]);
    assertStringIncludes(String(log[0]!.stack), "api_test.ts");
  });
});

describe("GET /api/session", () => {
  it("takes a token until the moment it ends, and forgets the cookie from then on", async () => {
    const { signIn, ask } = createTestApp();
    const session = (expiresAt: number) =>
      ask("/api/session", {
        headers: { cookie: `hubbub_session=${signIn("Alice", expiresAt)}` },
      });
    const good = await session(NOW + 1);
    assertEquals([good.body.username, good.headers.get("set-cookie")], ["Alice", null]);
    const ended = await session(NOW);
    assertEquals([ended.status, ended.body.username], [200, null]);
    assertEquals(ended.headers.get("set-cookie"), "hubbub_session=; Max-Age=0; Path=/");
  });

  it("reads a token after the word Bearer alone, and else sees a guest", async () => {
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

  it("says who is an admin", async () => {
    const { signIn, ask } = createTestApp({ ADMINS: "Root" });
    for (const [username, admin] of [["root", true], ["alice", false]] as const) {
      const { body } = await ask(`/api/session?token=${signIn(username)}`);
      assertEquals(body, { username, admin, guests: true });
    }
  });

  it("takes no token whose account is gone", async () => {
    const { store, signIn, ask } = createTestApp();
    const token = signIn("alice");
    store.accounts.clear();
    assertEquals((await ask(`/api/session?token=${token}`)).body.username, null);
  });
});

describe("POST /api/login", () => {
  it("gives a token for 30 days, in the body and in the cookie", async () => {
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
  it("answers who may be in the room, and keeps the person behind a ban secret", async () => {
    const { changes, signIn, send } = createTestApp();
    const { status, body } = await send("PUT", "/api/rooms/r", CHANGE, signIn("alice"));
    assertEquals(status, 200);
    assertEquals(body, {
      room: "r",
      private: true,
      owner: "alice",
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
  it("is JSON in every spelling of its type, and in no other type", async () => {
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

  it("for too many attempts names whole seconds, rounded up, in the sentence and the header", async () => {
    const { ask } = createTestApp({ JOIN_RATE_PER_ADDRESS: "3" });
    for (let i = 0; i < 15; i++) assertEquals((await ask("/ws")).status, 426);
    const { status, body, headers } = await ask("/ws");
    assertEquals([status, headers.get("retry-after")], [429, "1"]);
    assertEquals(body.error, "Too many connections at once from your address. Wait 1 seconds.");
  });
});
