/** Cookies planted by others, several of one name, and proxies with their own headers for https. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { createSecret } from "../../lib/people/secrets.ts";
import { call, cookieName, knock, login, register, signUp, Visitor } from "../support/people.ts";
import { Random, seeds } from "../support/random.ts";
import { askRaw } from "../support/raw.ts";
import { startServer, type TestServer } from "../support/server.ts";
import { V1Client } from "../support/v1_client.ts";

const V1 = { "Sec-WebSocket-Protocol": "chat.v1" };

/** A browser's cookies of one host, for all its ports. */
class Jar {
  readonly #cookies = new Map<string, string>();

  take(headers: Headers): void {
    for (const cookie of headers.getSetCookie()) {
      const [pair = "", ...flags] = cookie.split("; ");
      const at = pair.indexOf("=");
      if (flags.includes("Max-Age=0")) this.#cookies.delete(pair.slice(0, at));
      else this.#cookies.set(pair.slice(0, at), pair.slice(at + 1));
    }
  }

  get header(): { cookie: string } {
    return { cookie: [...this.#cookies].map((pair) => pair.join("=")).join("; ") };
  }
}

async function whoIs(server: TestServer, headers: Record<string, string>) {
  return (await call(server, "GET", "/api/session", { headers })).body.username;
}

describe("Two servers on one host", () => {
  it("do not sign each other's people in or out", async () => {
    await using one = await startServer();
    await using other = await startServer();
    const jar = new Jar();
    for (const [server, name] of [[one, "ann"], [other, "bob"]] as const) {
      await register(server, name);
      jar.take((await call(server, "GET", "/", { headers: { accept: "text/html" } })).headers);
      jar.take((await login(server, name)).headers);
    }
    for (let i = 0; i < 2; i++) {
      for (const [server, name] of [[one, "ann"], [other, "bob"]] as const) {
        const answer = await call(server, "GET", "/api/session", { headers: jar.header });
        assertEquals(answer.body.username, name);
        jar.take(answer.headers);
      }
    }
    jar.take((await call(one, "POST", "/api/logout", { headers: jar.header })).headers);
    assertEquals(await whoIs(one, jar.header), null);
    assertEquals(await whoIs(other, jar.header), "bob");
  });
});

describe("A second cookie of the same name", () => {
  for (const seed of seeds(2)) {
    it(`gives nobody another identity, in any position [SEED=${seed}]`, async () => {
      const random = new Random(seed);
      await using server = await startServer();
      const [victim, attacker] = [await signUp(server, "victim"), await signUp(server, "mallory")];
      const name = cookieName(server, "session");
      const junk = () => random.pick([createSecret(), "garbage", "", "%00", "x".repeat(3000)]);
      for (let i = 0; i < 10; i++) {
        // Values that are no session are ignored.
        const values = Array.from({ length: random.below(5) }, junk);
        values.splice(random.below(values.length + 1), 0, victim);
        const own = { cookie: values.map((value) => `${name}=${value}`).join("; ") };
        assertEquals(await whoIs(server, own), "victim", own.cookie);
        assertEquals((await knock(server, "/ws/r", own)).status, 101);
        // Between two accounts the server does not decide.
        values.splice(random.below(values.length + 1), 0, attacker);
        const both = { cookie: values.map((value) => `${name}=${value}`).join("; ") };
        const { status, error } = await knock(server, "/ws/r", both);
        assertEquals([status, error.startsWith("Your browser sends the sessions of two")], [
          401,
          true,
        ]);
        assertEquals(await whoIs(server, both) ?? "nobody", "nobody");
      }
    });
  }

  it("turns no guest into the person who planted it", async () => {
    await using server = await startServer();
    const [planted, own] = [createSecret(), createSecret()];
    const name = cookieName(server, "guest");
    using mallory = await Visitor.open(server, "/ws/r?username=mallory", {
      ...V1,
      cookie: `${name}=${planted}`,
    });
    await mallory.nextOf("welcome");
    for (const values of [[planted, own], [own, planted]]) {
      const cookie = values.map((value) => `${name}=${value}`).join("; ");
      // The planted secret is void.
      assertEquals((await knock(server, "/ws/r?username=mallory", { cookie })).status, 409);
      using victim = await Visitor.open(server, "/ws/r?username=vic", { ...V1, cookie });
      const { session } = await victim.nextOf("welcome");
      assert(session !== planted && session !== own);
    }
  });
});

describe("A cookie or a parameter without a value", () => {
  it("counts as absent", async () => {
    await using server = await startServer();
    const token = await signUp(server, "ann");
    const name = cookieName(server, "session");
    for (const cookie of [`${name}=`, `${name}=; a=b`, name, `${name}=; ${name}=`]) {
      assertEquals((await knock(server, "/ws/r?username=bob", { cookie })).status, 101, cookie);
    }
    for (const query of ["token", "session", "format", "epoch", "after", "inbox", "echo"]) {
      assertEquals((await knock(server, `/ws/r?username=bob&${query}=`)).status, 101, query);
    }
    assertEquals((await knock(server, "/ws/r?username=")).status, 400);
    assertEquals((await knock(server, `/ws/r?username=&token=${token}`)).status, 101);
    const cookie = `${name}=${token}`;
    assertEquals(await whoIs(server, { cookie }), "ann");
    const answer = await call(server, "GET", "/api/session?token=", { headers: { cookie } });
    assertEquals(answer.body.username, "ann");
    await using member = await V1Client.connect(`${server.ws}/ws/r?username=carl&token=&session=`);
    assertEquals((await member.nextOf("welcome")).username, "carl");
  });
});

describe("A cookie", () => {
  it("is Secure and for this host only if the client's own connection was https", async () => {
    await using server = await startServer({ TRUST_PROXY: "1" });
    await using strict = await startServer({ PUBLIC_URL: "https://127.0.0.1" });
    const flagsOf = async ({ port }: TestServer, headers: Record<string, string>) => {
      const all = { Host: `127.0.0.1:${port}`, accept: "text/html", ...headers };
      return (await askRaw(port, "/", all)).headers.get("set-cookie")!;
    };
    const https: Record<string, string>[] = [
      { "x-forwarded-proto": "https" },
      { "x-forwarded-proto": "HTTPS" },
      { "x-forwarded-proto": "https, http" },
      { "x-forwarded-proto": " https ,http,http" },
      { "x-forwarded-proto": "wss" },
      { "forwarded": "proto=https" },
      { "forwarded": "for=192.0.2.60;proto=https;by=203.0.113.43" },
      { "forwarded": 'For="[2001:db8::1]:4711" ; Proto="HTTPS", for=10.0.0.1;proto=http' },
      { "x-forwarded-scheme": "https" },
      { "x-forwarded-ssl": "on" },
      { "front-end-https": "On" },
    ];
    const http: Record<string, string>[] = [
      {},
      { "x-forwarded-proto": "http" },
      { "x-forwarded-proto": "http, https" },
      { "x-forwarded-proto": "httpsx" },
      { "x-forwarded-proto": "http", "forwarded": "proto=https" },
      { "forwarded": "for=192.0.2.60;proto=http, proto=https" },
      { "forwarded": "xproto=https" },
      { "x-forwarded-ssl": "off" },
    ];
    for (const headers of https) {
      const cookie = await flagsOf(server, headers);
      assertMatch(
        cookie,
        /^__Host-hubbub_guest_\d+=.*; Path=\/;.*; Secure/,
        JSON.stringify(headers),
      );
      assert(!/domain/i.test(cookie));
    }
    for (const headers of http) {
      const cookie = await flagsOf(server, headers);
      assertMatch(cookie, /^hubbub_guest_\d+=/, JSON.stringify(headers));
      assert(!cookie.includes("Secure"), JSON.stringify(headers));
    }
    assertMatch(await flagsOf(strict, { Host: "127.0.0.1" }), /^__Host-hubbub_guest=.*; Secure/);
  });

  it("on https has a name that http cannot plant, and is deleted completely", async () => {
    await using server = await startServer({ TRUST_PROXY: "1" });
    const https = { "x-forwarded-proto": "https" };
    const token = await signUp(server, "ann");
    const planted = { ...https, cookie: `${cookieName(server, "session")}=${token}` };
    assertEquals(await whoIs(server, planted), null);
    const own = { ...https, cookie: `__Host-${cookieName(server, "session")}=${token}` };
    assertEquals(await whoIs(server, own), "ann");
    const { headers } = await call(server, "POST", "/api/logout", { headers: own });
    assertMatch(headers.get("set-cookie")!, /^__Host-\S+=; Max-Age=0; Path=\/;.*; Secure/);
    assertEquals(await whoIs(server, own), null);
  });

  it("always comes with Cache-Control, as does an answer that depends on one", async () => {
    await using server = await startServer();
    await register(server, "ann");
    const { headers: signedIn } = await login(server, "ann");
    const stale = `${cookieName(server, "session")}=${createSecret()}`;
    const html = { accept: "text/html" };
    const answers = [
      { headers: signedIn },
      await call(server, "GET", "/", { headers: html }),
      await call(server, "GET", "/r/tea", { headers: html }),
      await call(server, "GET", "/r/tea/", { headers: html }),
      await call(server, "GET", "/api/session", { headers: { cookie: stale } }),
      await call(server, "POST", "/api/logout", { headers: { cookie: stale } }),
      await call(server, "GET", "/ws/r?username=ann", { headers: { cookie: stale } }),
      await call(server, "GET", "/r/%zz", { headers: html }),
    ];
    for (const { headers } of answers) {
      assertMatch(headers.get("cache-control") ?? "", /no-store|private/);
    }
    // A cached page still gets the cookie.
    const tag = answers[1]!.headers.get("etag")!;
    const again = await call(server, "GET", "/", { headers: { ...html, "if-none-match": tag } });
    assertEquals([again.status, again.headers.has("set-cookie")], [304, true]);
    assertMatch(again.headers.get("cache-control")!, /private/);
  });
});
