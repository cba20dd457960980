/** Ending a stolen session or an unwanted account, and its remains. */

import { assert, assertEquals } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { DatabaseSync } from "node:sqlite";
import { createSecret } from "../../lib/people/secrets.ts";
import { call, login, PASSWORD, quantile, register, signIn, signUp } from "../support/people.ts";
import { Random, seeds } from "../support/random.ts";
import { startServer, type TestServer } from "../support/server.ts";
import { V1Client } from "../support/v1_client.ts";

const NEW_PASSWORD = "another password";

for (const kind of ["memory:", "sqlite:"]) {
  describe(`An account (${kind})`, () => {
    let folder: string;
    let server: TestServer;
    let root: string;
    let people = 0;

    beforeAll(async () => {
      folder = await Deno.makeTempDir();
      const DATABASE_URL = kind === "memory:" ? kind : `sqlite:${folder}/chat.db`;
      server = await startServer({ ADMINS: "root", DATABASE_URL });
      root = await signUp(server, "root");
    });

    afterAll(async () => {
      await server.stop();
      await Deno.remove(folder, { recursive: true });
      assertEquals(server.log.filter(({ level }) => level === "error"), []);
    });

    const newName = () => `person-${++people}`;

    async function join(room: string, token: string): Promise<V1Client> {
      const client = await V1Client.connect(`${server.ws}/ws/${room}?token=${token}`);
      await client.peek("welcome");
      return client;
    }

    const ask = (method: string, path: string, token: string | undefined, body?: unknown) =>
      call(server, method, path, { token, body });

    it("changes its password, which ends every other session and its sockets", async () => {
      const name = newName();
      const [own, stolen] = [await signUp(server, name), await signIn(server, name)];
      const [mine, theirs] = [await join("r", own), await join("r", stolen)];
      const change = { password: PASSWORD, new_password: NEW_PASSWORD };
      assertEquals((await ask("POST", "/api/password", own, change)).status, 204);
      assertEquals((await theirs.closed).code, 4001);
      assertEquals((await mine.ask({ type: "ping" })).type, "pong");
      await mine.close();
      assertEquals((await ask("GET", "/api/session", stolen)).status, 401);
      assertEquals((await ask("GET", "/api/session", own)).body.username, name);
      assertEquals((await login(server, name)).status, 401);
      assertEquals((await login(server, name, NEW_PASSWORD)).status, 200);
    });

    it("ends all sessions at once, its own included", async () => {
      const name = newName();
      const tokens = [await signUp(server, name), await signIn(server, name)];
      const other = await join("r", await signUp(server, newName()));
      const sockets = [await join("r", tokens[0]!), await join("q", tokens[1]!)];
      const { status, headers } = await ask("POST", "/api/logout?everywhere=1", tokens[0]);
      assertEquals(status, 204);
      assert(headers.get("set-cookie")?.includes("Max-Age=0"));
      for (const socket of sockets) assertEquals((await socket.closed).code, 4001);
      for (const token of tokens) {
        assertEquals((await ask("GET", "/api/session", token)).status, 401);
        assertEquals((await ask("POST", "/api/logout?everywhere=1", token)).status, 401);
      }
      assertEquals((await other.ask({ type: "ping" })).type, "pong");
      await other.close();
      await signIn(server, name);
    });

    it("is removed with its texts and its name, for newcomers and for everyone present", async () => {
      const name = newName();
      const token = await signUp(server, name);
      const hers = await join("den", token);
      await using bob = await V1Client.join(server.ws, "den", "bob");
      for (const content of ["secret 1", "secret 2"]) await hers.ask({ type: "chat", content });
      await hers.ask({ type: "dm", to: "bob", content: "secret 3" });
      await bob.ask({ type: "chat", content: "of bob" });
      const { epoch } = bob.welcome;
      const body = { password: PASSWORD };
      assertEquals((await ask("DELETE", "/api/account", token, body)).status, 204);
      assertEquals((await hers.closed).code, 4001);
      for (let i = 0; i < 2; i++) {
        assertEquals((await bob.nextOf("message_deleted")).username, "");
      }
      await using carl = await V1Client.join(server.ws, "den", "carl");
      const { messages } = await carl.ask({ type: "history" }) as { messages?: unknown[] };
      assertEquals(messages?.length, 1);
      await using back = await V1Client.join(server.ws, "den", "dora", { epoch, after: 0 });
      assertEquals(back.welcome.recovered, true);
      await back.nextOf("message_deleted");
      await back.ask({ type: "ping" });
      const seen = JSON.stringify([carl.events, back.events]);
      assert(!seen.includes("secret") && !seen.includes(`"${name}"`), seen);
      // Nobody becomes this person again.
      assertEquals((await login(server, name)).status, 401);
      assertEquals((await register(server, name.toUpperCase())).status, 409);
      assertEquals((await ask("GET", `/ws/den?username=${name}`, undefined)).status, 401);
      assertEquals((await ask("GET", "/api/session", token)).status, 401);
    });

    it("gets a new password from an admin, and from nobody else", async () => {
      const name = newName();
      const [token, stranger] = [await signUp(server, name), await signUp(server, newName())];
      const socket = await join("r", token);
      const body = { username: name, password: PASSWORD, new_password: NEW_PASSWORD };
      const refused = await ask("POST", "/api/password", stranger, body);
      assertEquals([refused.status, refused.body], [403, {
        error: "Only an admin may set another person's password.",
      }]);
      for (
        const [wrong, status] of [
          [{ ...body, password: "not the admin's" }, 403],
          [{ ...body, username: "nobody-at-all" }, 404],
          [{ ...body, new_password: "short" }, 400],
          [{ ...body, username: 7 }, 400],
        ] as const
      ) {
        assertEquals((await ask("POST", "/api/password", root, wrong)).status, status);
      }
      assertEquals((await socket.ask({ type: "ping" })).type, "pong");
      assertEquals((await ask("POST", "/api/password", root, body)).status, 204);
      assertEquals((await socket.closed).code, 4001);
      assertEquals((await login(server, name)).status, 401);
      assertEquals((await login(server, name, NEW_PASSWORD)).status, 200);
      assertEquals((await ask("GET", "/api/session", root)).body.username, "root");
    });

    for (const seed of seeds(1)) {
      it(`tells a bad token (401) and a bad password (403) apart (SEED=${seed})`, async () => {
        const random = new Random(seed);
        const name = newName();
        const token = await signUp(server, name);
        const doors: [method: string, path: string, body: Record<string, unknown>][] = [
          ["POST", "/api/password", { password: PASSWORD, new_password: NEW_PASSWORD }],
          ["DELETE", "/api/account", { password: PASSWORD }],
        ];
        const bad = [
          undefined,
          createSecret(),
          token.slice(1),
          "x".repeat(random.between(1, 5000)),
          random.pick(["null", "undefined", "0", "..", "%00"]),
        ];
        for (const [method, path, body] of doors) {
          for (const no of bad) assertEquals((await ask(method, path, no, body)).status, 401);
          const wrongs = [`${PASSWORD} `, PASSWORD.slice(1), "", "x".repeat(50_000)];
          for (const password of wrongs) {
            const { status, body: answer } = await ask(method, path, token, { ...body, password });
            assertEquals([status, answer], [403, { error: "The password is wrong." }]);
          }
          for (const wrong of [{}, { ...body, password: 7 }, { ...body, password: null }, []]) {
            assertEquals((await ask(method, path, token, wrong)).status, 400);
          }
        }
        for (const new_password of ["short", "x".repeat(257), 7, null]) {
          const change = { password: PASSWORD, new_password };
          assertEquals((await ask("POST", "/api/password", token, change)).status, 400);
        }
        for (const no of bad.slice(1)) {
          assertEquals((await ask("GET", "/api/session", no)).status, 401);
          const query = encodeURIComponent(no!);
          assertEquals((await ask("GET", `/api/session?token=${query}`, undefined)).status, 401);
          assertEquals((await ask("PUT", "/api/rooms/r", no, { private: true })).status, 401);
        }
        assertEquals((await ask("PUT", "/api/rooms/r", undefined, { private: true })).status, 401);
        assertEquals((await ask("GET", "/api/session", token)).body.username, name);
      });
    }

    it("gives no session to a login that overlaps a new password", async () => {
      const name = newName();
      const token = await signUp(server, name);
      const change = { password: PASSWORD, new_password: NEW_PASSWORD };
      const logins = Array.from({ length: 6 }, () => login(server, name));
      const changed = ask("POST", "/api/password", token, change);
      logins.push(...Array.from({ length: 6 }, () => login(server, name)));
      assertEquals((await changed).status, 204);
      for (const { status, body } of await Promise.all(logins)) {
        if (status !== 200) continue;
        assertEquals((await ask("GET", "/api/session", body.token)).status, 401);
      }
    });
  });
}

describe("A removed account with many messages", () => {
  it("delays nobody, and leaves nothing in the file", async () => {
    const folder = await Deno.makeTempDir();
    const path = `${folder}/chat.db`;
    const env = { DATABASE_URL: `sqlite:${path}` };
    const first = await startServer(env);
    await signUp(first, "alice");
    await first.stop();
    const db = new DatabaseSync(path);
    const messages = 200_000;
    // In 40 rooms; every second message is another person's.
    db.exec(`
      BEGIN;
      WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 39)
      INSERT INTO rooms (name, active) SELECT 'room ' || i, 0 FROM n;
      WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ${messages - 1})
      INSERT INTO events (room, seq, shown, type, epoch, time, username, person, content)
      SELECT (SELECT min(id) FROM rooms) + i % 40, 1 + i / 40, 1, 'chat', 1, i,
        iif(i / 40 % 2, 'alice', 'bob'), iif(i / 40 % 2, 'account:alice', 'guest:b'),
        iif(i / 40 % 2, 'secret ', 'kept ') || i
      FROM n;
      COMMIT;
    `);
    db.close();
    await using server = await startServer(env);
    const token = await signIn(server, "alice");
    await using bob = await V1Client.join(server.ws, "room%201", "bystander");
    const times: number[] = [];
    let isDone = false;
    const watch = async () => {
      while (!isDone) {
        const start = performance.now();
        await bob.ask({ type: "ping" });
        times.push(performance.now() - start);
      }
    };
    const start = performance.now();
    const watching = watch();
    const answer = await call(server, "DELETE", "/api/account", {
      token,
      body: { password: PASSWORD },
    });
    assertEquals(answer.status, 204);
    const reader = new DatabaseSync(path, { readOnly: true });
    const count = (where: string) =>
      reader.prepare(`SELECT count(*) AS n FROM events WHERE ${where}`).get()!.n;
    // On a slow machine the erasure continues after the answer.
    const end = start + 60_000;
    while (count("person = 'account:alice'") !== 0 && performance.now() < end) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const took = performance.now() - start;
    isDone = true;
    await watching;
    const p99 = quantile(times, 0.99);
    // deno-lint-ignore no-console
    console.log(
      `${messages / 2} of ${messages} messages erased in ${Math.round(took)} ms; ` +
        `a bystander's ping: p99 ${p99.toFixed(1)} ms, slowest ${quantile(times, 1).toFixed(1)} ms`,
    );
    assert(p99 < 100, `${p99} ms`);
    assertEquals(
      count("content LIKE 'secret%' OR person = 'account:alice' OR username = 'alice'"),
      0,
    );
    assertEquals(count("content LIKE 'kept%' AND username = 'bob'"), messages / 2);
    reader.close();
    await server.stop();
    for await (const { name } of Deno.readDir(folder)) {
      const bytes = await Deno.readFile(`${folder}/${name}`);
      assertEquals(new TextDecoder("latin1").decode(bytes).includes("secret "), false, name);
    }
    await Deno.remove(folder, { recursive: true });
  });
});
