/** No stranger becomes an admin by being first. */

import { assertEquals, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { call, login, PASSWORD } from "../support/people.ts";
import { Random, seeds } from "../support/random.ts";
import { startServer } from "../support/server.ts";

const REFUSAL =
  "This is an admin's name. Register it with the admin code, which the server's operator has.";

const register = (server: { url: string; port: number }, username: string, admin_code?: unknown) =>
  call(server, "POST", "/api/register", {
    body: { username, password: PASSWORD, ...(admin_code !== undefined && { admin_code }) },
  });

describe("A name in ADMINS", () => {
  for (const seed of seeds(1)) {
    it(`is registered only with ADMIN_CODE, in every spelling (SEED=${seed})`, async () => {
      const random = new Random(seed);
      const code = `code-${seed}-käse`;
      await using server = await startServer({ ADMINS: "root,Chef", ADMIN_CODE: code });
      const wrong = [
        undefined,
        null,
        "",
        " ",
        code.slice(0, -1),
        `${code}x`,
        code.toUpperCase(),
        code.normalize("NFD"),
        "x".repeat(random.between(1, 60_000)),
      ];
      for (const name of ["root", "ROOT", "ｒｏｏｔ", "chef"]) {
        for (const bad of wrong) {
          const { status, body } = await register(server, name, bad);
          assertEquals([status, body.error], [403, REFUSAL], JSON.stringify(bad));
        }
        for (const bad of [7, {}, [code], true]) {
          assertEquals((await register(server, name, bad)).status, 400);
        }
      }
      assertEquals((await register(server, "ROOT", code)).status, 201);
      assertEquals((await register(server, "root", code)).status, 409);
      const { body: { token } } = await login(server, "root");
      const { body } = await call(server, "GET", "/api/session", { token });
      assertEquals([body.username, body.admin], ["ROOT", true]);
      // Other names need no code, and gain nothing from it.
      assertEquals((await register(server, "alice")).status, 201);
      assertEquals((await register(server, "bob", code)).status, 201);
      const bob = (await login(server, "bob")).body.token;
      assertEquals((await call(server, "GET", "/api/session", { token: bob })).body.admin, false);
      const log = JSON.stringify(server.log);
      assertEquals(log.includes(code), false);
    });
  }

  it("gets a new code at each start, printed once, until it has an account", async () => {
    const folder = await Deno.makeTempDir();
    const env = { ADMINS: "root,chef", ADMIN_CODE: "", DATABASE_URL: `sqlite:${folder}/chat.db` };
    const seen = new Set<string>();
    const codesOf = (log: Record<string, unknown>[]) =>
      new Map(
        log.filter((line) => "admin_code" in line).map((
          line,
        ) => [line.username as string, line.admin_code as string]),
      );
    const first = await startServer(env);
    let codes = codesOf(first.log);
    assertEquals([...codes.keys()], ["root", "chef"]);
    for (const code of codes.values()) seen.add(code);
    await first.stop();
    {
      await using second = await startServer(env);
      codes = codesOf(second.log);
      // The codes of the first start are void, and so is another admin's.
      for (const code of [...seen, codes.get("chef")]) {
        assertEquals((await register(second, "root", code)).status, 403);
      }
      for (const code of codes.values()) seen.add(code);
      assertEquals(seen.size, 4);
      for (const code of seen) assertMatch(code, /^[a-z2-7]{16}$/);
      assertEquals((await register(second, "root", codes.get("root"))).status, 201);
      assertEquals(codesOf(second.log).size, 2);
    }
    {
      await using third = await startServer(env);
      assertEquals([...codesOf(third.log).keys()], ["chef"]);
    }
    await Deno.remove(folder, { recursive: true });
  });

  it("counts towards the attempts of its address", async () => {
    await using server = await startServer({ ADMINS: "root", AUTH_RATE_PER_ADDRESS: "5" });
    const statuses = [];
    for (let i = 0; i < 7; i++) {
      statuses.push((await register(server, "root", `guess ${i}`)).status);
    }
    assertEquals(statuses, [403, 403, 403, 403, 403, 429, 429]);
  });
});
