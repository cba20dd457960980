/** What pages of other sites may read: those in ALLOWED_ORIGINS everything, others nothing. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { call, knock } from "./support/people.ts";
import { startServer, type TestServer } from "./support/server.ts";
import { V1Client } from "./support/v1_client.ts";

const APP = "https://app.example";
const FOREIGN = "https://evil.example";
const PREFLIGHT = {
  "access-control-request-method": "POST",
  "access-control-request-headers": "content-type,authorization",
};

/** The headers of an answer about other origins. */
async function grantsOf(
  server: TestServer,
  [method, path]: readonly [string, string],
  headers: Record<string, string>,
) {
  const answer = await call(server, method, path, { headers });
  const { headers: sent, status } = answer;
  return {
    status,
    origin: sent.get("access-control-allow-origin"),
    credentials: sent.get("access-control-allow-credentials"),
    exposed: sent.get("access-control-expose-headers"),
    policy: sent.get("cross-origin-resource-policy"),
    varies: /(^|, )origin(,|$)/i.test(sent.get("vary") ?? ""),
    all: [...sent.keys()].filter((name) => name.startsWith("access-control-")),
  };
}

/** Requests that pages of a site need, and their answers. */
const NEEDS: readonly (readonly [status: number, method: string, path: string])[] = [
  [200, "GET", "/api/session"],
  [200, "HEAD", "/api/session"],
  [400, "POST", "/api/login"],
  [200, "GET", "/api/rooms/tea/messages"],
  [400, "POST", "/api/rooms/tea/messages"],
  [200, "HEAD", "/api/rooms/tea/events"],
  [404, "GET", "/api/nothing"],
  [404, "OPTIONS", "/api/login"],
  [426, "GET", "/ws/r?username=ann"],
  [400, "GET", "/ws/r?username=a,b"],
  [405, "POST", "/ws/r?username=ann"],
  [426, "GET", "/ws"],
  [426, "GET", "/echo"],
  [200, "GET", "/connection.js"],
  [200, "HEAD", "/inbox.js"],
  [200, "GET", "/chat.js"],
  [404, "GET", "/nothing.js"],
];

describe("An allowed origin", () => {
  it("may read the API, the refusals of WebSockets and the client modules", async () => {
    await using server = await startServer({ ALLOWED_ORIGINS: APP });
    for (const [status, method, path] of NEEDS) {
      const grants = await grantsOf(server, [method, path], { origin: APP });
      assertEquals(grants, {
        status,
        origin: APP,
        credentials: "true",
        exposed: "retry-after",
        policy: "cross-origin",
        varies: true,
        all: [
          "access-control-allow-credentials",
          "access-control-allow-origin",
          "access-control-expose-headers",
        ],
      }, `${method} ${path}`);
    }
  });

  it("may read every refusal: too big, too often, too many, at another address", async () => {
    const site = { ALLOWED_ORIGINS: APP };
    await using server = await startServer({ ...site, AUTH_RATE_PER_ADDRESS: "1" });
    const post = async (body: unknown) => {
      const headers = { origin: APP };
      const answer = await call(server, "POST", "/api/login", { headers, body });
      return [answer.status, answer.headers.get("access-control-allow-origin")];
    };
    assertEquals(await post({ username: "x".repeat(70_000) }), [413, APP]);
    const attempt = { username: "ann", password: "no such person" };
    assertEquals(await post(attempt), [401, APP]);
    assertEquals(await post(attempt), [429, APP]);
    await using ann = await V1Client.join(server.ws, "r", "ann");
    assertEquals(
      (await grantsOf(server, ["GET", "/ws/r?username=ann"], { origin: APP })).status,
      409,
    );
    const long = await grantsOf(server, ["GET", `/api/${"x".repeat(17_000)}`], { origin: APP });
    assertEquals([long.status, long.origin], [400, APP]);
    await using elsewhere = await startServer({ ...site, PUBLIC_URL: "https://chat.example" });
    const misled = await grantsOf(elsewhere, ["GET", "/api/session"], { origin: APP });
    assertEquals([misled.status, misled.origin], [421, APP]);
    await ann.close();
  });

  it("passes preflight for every method and header of the API", async () => {
    await using server = await startServer({ ALLOWED_ORIGINS: APP });
    for (const path of ["/api/login", "/api/rooms/tea/messages", "/ws/tea?username=ann"]) {
      const headers = { origin: APP, ...PREFLIGHT };
      const { status, headers: sent } = await call(server, "OPTIONS", path, { headers });
      assertEquals([status, sent.get("access-control-allow-origin")], [204, APP]);
      const listOf = (name: string) => sent.get(`access-control-allow-${name}`)!.split(", ");
      assertEquals(listOf("methods"), ["GET", "POST", "PUT", "DELETE"]);
      const known = ["authorization", "content-type", "idempotency-key", "last-event-id"];
      assertEquals(listOf("headers"), known);
      assertEquals(sent.get("vary"), "origin");
    }
  });

  it("may revalidate an unchanged module", async () => {
    await using server = await startServer({ ALLOWED_ORIGINS: APP });
    const first = await call(server, "GET", "/connection.js", { headers: { origin: APP } });
    const etag = first.headers.get("etag")!;
    const headers = { origin: APP, "if-none-match": etag };
    const { status, origin, varies } = await grantsOf(server, ["GET", "/connection.js"], headers);
    assertEquals([status, origin, varies], [304, APP, true]);
  });

  it("opens WebSockets without extra headers in the answer", async () => {
    await using open = await startServer({ ALLOWED_ORIGINS: APP });
    await using plain = await startServer();
    const namesOf = async (server: TestServer, headers: Record<string, string>) => {
      const answer = await knock(server, "/ws/r?username=ann", headers);
      assertEquals(answer.status, 101);
      return [...answer.headers.keys()].sort();
    };
    assertEquals(await namesOf(open, { Origin: APP }), await namesOf(plain, {}));
  });

  it("gets no credentials if it is `*`", async () => {
    for (const [setting, origin, granted] of [["*", FOREIGN, "*"], ["null", "null", "null"]]) {
      await using server = await startServer({ ALLOWED_ORIGINS: setting! });
      const grants = await grantsOf(server, ["GET", "/api/session"], { origin: origin! });
      assertEquals([grants.origin, grants.credentials], [granted!, null]);
    }
    await using both = await startServer({ ALLOWED_ORIGINS: `*,${APP}` });
    const named = await grantsOf(both, ["GET", "/api/session"], { origin: APP });
    assertEquals([named.origin, named.credentials], [APP, "true"]);
  });
});

describe("Any other origin", () => {
  it("is refused, and learns nothing else", async () => {
    for (const env of [{}, { ALLOWED_ORIGINS: APP }]) {
      await using server = await startServer(env);
      for (const [, method, path] of NEEDS) {
        for (const origin of [FOREIGN, `${APP}:8443`, `${APP}.evil.example`, "null", "", "x"]) {
          const headers = { origin, ...PREFLIGHT };
          const grants = await grantsOf(server, [method, path], headers);
          assertEquals(grants.all, [], `${method} ${path} ${origin}`);
          assertEquals(grants.varies, env.ALLOWED_ORIGINS !== undefined, `${method} ${path}`);
          if (!path.endsWith(".js")) assertEquals(grants.policy, policyOf(path), path);
        }
      }
      const refusal = await call(server, "OPTIONS", "/api/login", {
        headers: { origin: FOREIGN, ...PREFLIGHT },
      });
      assertEquals(refusal.status, 403);
      assertEquals(refusal.body, { error: "Pages of this origin may not use this server." });
    }
  });

  it("cannot load a module as a plain script, unless some origin is allowed", async () => {
    await using closed = await startServer();
    await using open = await startServer({ ALLOWED_ORIGINS: APP });
    const policy = async (server: TestServer, path: string) =>
      (await grantsOf(server, ["GET", path], {})).policy;
    assertEquals(await policy(closed, "/connection.js"), "same-origin");
    assertEquals(await policy(open, "/connection.js"), "cross-origin");
    assertEquals(await policy(open, "/style.css"), "same-origin");
    // The button is for all sites.
    assertEquals(await policy(closed, "/embed.js"), "cross-origin");
  });

  it("cannot request files without its name, as for an image", async () => {
    await using server = await startServer({ ALLOWED_ORIGINS: APP });
    const statusOf = async (site: string, mode: string) => {
      const headers = { "sec-fetch-site": site, "sec-fetch-mode": mode };
      return (await call(server, "GET", "/api/session", { headers })).status;
    };
    assertEquals(await statusOf("cross-site", "no-cors"), 403);
    assertEquals(await statusOf("same-site", "no-cors"), 403);
    // The page itself, and a person who follows a link.
    assertEquals(await statusOf("same-origin", "cors"), 200);
    assertEquals(await statusOf("cross-site", "navigate"), 200);
    assertEquals(await statusOf("none", "navigate"), 200);
  });

  it("reads neither the page nor its health", async () => {
    await using server = await startServer({ ALLOWED_ORIGINS: "*" });
    for (const path of ["/", "/r/tea", "/health", "/style.css"]) {
      const { all, status } = await grantsOf(server, ["GET", path], { origin: APP });
      assertEquals([status, all], [200, []], path);
    }
  });
});

/** The policy for loading an answer from other sites: refusals of WebSockets have none. */
function policyOf(path: string): string | null {
  return path.startsWith("/api/") ? "same-origin" : null;
}

describe("The setting EMBED_ORIGINS", () => {
  async function framing(env: Record<string, string>) {
    await using server = await startServer(env);
    const { headers } = await call(server, "GET", "/r/tea?embed=1");
    const [, ancestors] = /frame-ancestors ([^;]*)/.exec(
      headers.get("content-security-policy")!,
    )!;
    return [ancestors, headers.get("x-frame-options")];
  }

  it("decides who may frame the page: nobody, these sites, or all", async () => {
    assertEquals(await framing({}), ["'none'", "DENY"]);
    const sites = "https://site.example,http://localhost:3000";
    assertEquals(await framing({ EMBED_ORIGINS: sites }), [sites.replace(",", " "), null]);
    assertEquals(await framing({ EMBED_ORIGINS: "*" }), ["*", null]);
  });

  it("lets no page read anything", async () => {
    await using server = await startServer({ EMBED_ORIGINS: "*" });
    const { all } = await grantsOf(server, ["GET", "/connection.js"], { origin: APP });
    assertEquals(all, []);
    const { status } = await call(server, "GET", "/api/session", { headers: { origin: APP } });
    assertEquals(status, 403);
  });
});

describe("Cookies of the page in a frame", () => {
  const HTTPS = { "x-forwarded-proto": "https" };
  const PAGE = { accept: "text/html", ...HTTPS };
  const env = { EMBED_ORIGINS: "https://site.example", TRUST_PROXY: "1" };

  it("are sent within that site alone, on https", async () => {
    await using server = await startServer(env);
    const cookieAt = async (path: string, headers: Record<string, string>) =>
      (await call(server, "GET", path, { headers })).headers.get("set-cookie") ?? "";
    const embedded = await cookieAt("/r/tea?embed=1", PAGE);
    assertStringIncludes(embedded, "__Host-hubbub_guest_embedded_");
    assertStringIncludes(embedded, "; Path=/; HttpOnly; Secure; SameSite=None; Partitioned");
    for (const [path, headers] of [["/r/tea", PAGE], ["/r/tea?embed=1", { accept: "text/html" }]]) {
      const ordinary = await cookieAt(path as string, headers as Record<string, string>);
      assert(ordinary.includes("SameSite=Lax") && !ordinary.includes("embedded"), ordinary);
    }
    await using closed = await startServer({ TRUST_PROXY: "1" });
    const { headers } = await call(closed, "GET", "/r/tea?embed=1", { headers: PAGE });
    assertStringIncludes(headers.get("set-cookie")!, "SameSite=Lax");
  });

  it("sign in and out in the frame, and count if there is no ordinary cookie", async () => {
    await using server = await startServer(env);
    const sign = async (name: string, path: string) => {
      const body = { username: name, password: "correct horse" };
      await call(server, "POST", "/api/register", { body });
      const { headers } = await call(server, "POST", path, { body, headers: HTTPS });
      return headers.get("set-cookie")!.split(";")[0]!;
    };
    const inFrame = await sign("ann", "/api/login?embed=1");
    const outside = await sign("bob", "/api/login");
    assertStringIncludes(inFrame, "__Host-hubbub_session_embedded_");
    const whoIs = async (cookie: string) => {
      const answer = await call(server, "GET", "/api/session", { headers: { cookie, ...HTTPS } });
      return answer.body.username;
    };
    assertEquals(await whoIs(inFrame), "ann");
    assertEquals(await whoIs(`${inFrame}; ${outside}`), "bob");
    const { headers, status } = await call(server, "POST", "/api/logout?embed=1", {
      headers: { cookie: inFrame, ...HTTPS },
    });
    assertEquals(status, 204);
    assertEquals(headers.getSetCookie().map((cookie) => /Max-Age=0/.test(cookie)), [true, true]);
    assertEquals(await whoIs(inFrame), null);
  });

  it("give the site around the frame no rights", async () => {
    await using server = await startServer(env);
    const page = await call(server, "GET", "/r/tea?embed=1", { headers: PAGE });
    const cookie = page.headers.get("set-cookie")!.split(";")[0]!;
    const headers = { origin: "https://site.example", cookie, ...HTTPS };
    assertEquals((await call(server, "POST", "/api/logout", { headers })).status, 403);
    const handshake = { Origin: headers.origin, Cookie: cookie, "X-Forwarded-Proto": "https" };
    assertEquals((await knock(server, "/ws/r?username=ann", handshake)).status, 403);
  });
});
