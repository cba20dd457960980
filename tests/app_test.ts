import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Hub } from "../hub.ts";
import { readConfig } from "../lib/config.ts";
import { MemoryEngine } from "../lib/engine/memory.ts";
import { createApp } from "../lib/http/app.ts";
import { Connections } from "../lib/http/connections.ts";
import { createLogger } from "../lib/logger.ts";
import { Accounts } from "../lib/people/accounts.ts";
import { Passwords } from "../lib/people/passwords.ts";
import { RateLimiter } from "../lib/rate_limit.ts";
import { guest } from "./support/fake_hub.ts";

/** The routes without a port. */
function createTestApp(env: Record<string, string> = {}) {
  const config = readConfig(env);
  const { limits } = config;
  const logger = createLogger({ level: "error", write: () => {} });
  const clock = () => 0;
  const newId = () => crypto.randomUUID();
  const engine = new MemoryEngine({ clock, newId, keep: 50, leaseMs: 30_000 });
  const later = { turn: { deliver: () => {} }, after: () => {} };
  const hub = new Hub({ engine, limits, logger, clock, date: clock, newId, ...later });
  const passwords = new Passwords(1);
  const accounts = new Accounts({
    store: engine.accounts,
    passwords,
    clock,
    settings: config.people,
  });
  const connections = new Connections(config.connections);
  const app = createApp({
    hub,
    accounts,
    connections,
    limits,
    settings: config.http,
    joinLimiter: new RateLimiter(config.rates.join, clock),
    authLimiter: new RateLimiter(config.rates.auth, clock),
    logger,
    clock,
    publicDir: `${import.meta.dirname}/../public`,
  });
  return { hub, accounts, connections, app };
}

/** The headers of a good handshake. */
const HANDSHAKE = {
  "upgrade": "websocket",
  "connection": "Upgrade",
  "sec-websocket-version": "13",
  "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
};

const REQUIRED = "room and username are required";

describe("GET /health", () => {
  it("says that all is well", async () => {
    const response = await createTestApp().app.request("/health");
    assertEquals([response.status, await response.json()], [200, { status: "ok" }]);
  });
});

describe("GET /", () => {
  it("is the page for browsers", async () => {
    const { app } = createTestApp();
    const accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    const response = await app.request("/", { headers: { accept } });
    assertEquals(response.status, 200);
    assertStringIncludes(response.headers.get("content-type") ?? "", "text/html");
    assertStringIncludes((await response.text()).toLowerCase(), "<!doctype html>");
  });

  it("may load what is its own and nothing else, and is framed by nobody", async () => {
    const { app } = createTestApp();
    const response = await app.request("/", { headers: { accept: "text/html" } });
    await response.body?.cancel();
    const policy = response.headers.get("content-security-policy")!.split("; ").sort();
    assertEquals(policy, [
      "base-uri 'none'",
      "connect-src 'self'",
      "default-src 'none'",
      "form-action 'self'",
      "frame-ancestors 'none'",
      "img-src 'self' data:",
      "script-src 'self'",
      "style-src 'self'",
    ]);
    // Only the proxy that speaks https can promise this one.
    assertEquals(response.headers.get("strict-transport-security"), null);
  });

  it("differs by Accept, and says so to caches", async () => {
    const { app } = createTestApp();
    for (const accept of ["text/html", "*/*"]) {
      const response = await app.request("/", { headers: { accept } });
      await response.body?.cancel();
      assertEquals(response.headers.get("vary"), "accept");
    }
  });

  it("gives a guest a cookie that is Secure on https", async () => {
    const { app } = createTestApp();
    for (const scheme of ["https", "http"]) {
      const url = `${scheme}://chat.example/`;
      const response = await app.request(url, { headers: { accept: "text/html" } });
      await response.body?.cancel();
      const isSecure = response.headers.get("set-cookie")!.includes("; Secure");
      assertEquals(isSecure, scheme === "https");
    }
  });

  it("is a line of text for others", async () => {
    const { app } = createTestApp();
    for (const accept of [undefined, "*/*", "application/json"]) {
      const response = await app.request("/", accept ? { headers: { accept } } : {});
      assertEquals(await response.text(), "WebSocket Chat Server - Connect to /ws");
    }
  });
});

describe("GET /r/:room", () => {
  it("is the page, whatever the room: the page itself says what is wrong with a name", async () => {
    const { app } = createTestApp();
    for (const path of ["/r/general", "/r/caf%C3%A9", "/r/%zz"]) {
      const response = await app.request(path);
      assertStringIncludes(response.headers.get("content-type") ?? "", "text/html");
      await response.body?.cancel();
    }
  });
});

describe("The page's files", () => {
  it("have their types, a strict policy, and a tag for the browser's cache", async () => {
    const { app } = createTestApp();
    const response = await app.request("/connection.js");
    assertStringIncludes(response.headers.get("content-type") ?? "", "text/javascript");
    const policy = response.headers.get("content-security-policy") ?? "";
    assertStringIncludes(policy, "default-src 'none'");
    assert(!policy.includes("unsafe"), policy);
    const tag = response.headers.get("etag") ?? "";
    await response.body?.cancel();
    const again = await app.request("/connection.js", { headers: { "if-none-match": tag } });
    assertEquals(again.status, 304);
  });

  it("are all that is served: no path leads out of the folder", async () => {
    const { app } = createTestApp();
    const paths = ["/../main.ts", "/%2e%2e/main.ts", "/..%2fmain.ts", "//etc/passwd", "/%00"];
    for (const path of [...paths, "/main.ts", "/public/index.html", "/nothing"]) {
      const response = await app.request(path);
      assertEquals(response.status, 404, path);
      assertEquals(await response.json(), { error: "There is nothing at this address." });
    }
  });
});

describe("GET /ws/:room without an upgrade answers as the upgrade would", () => {
  const CASES: [path: string, status: number, error: string][] = [
    ["/ws/general", 400, REQUIRED],
    ["/ws/general?username=", 400, REQUIRED],
    ["/ws/general?username=%20%20", 400, REQUIRED],
    ["/ws/?username=alice", 400, REQUIRED],
    ["/ws/%20?username=alice", 400, REQUIRED],
    ["/ws?username=", 400, REQUIRED],
    ["/ws/general?username=alice", 426, "upgrade required"],
    ["/ws/general?username=Zo%C3%AB", 426, "upgrade required"],
    ["/ws/caf%C3%A9?username=alice", 426, "upgrade required"],
    ["/ws?username=alice", 426, "upgrade required"],
    ["/ws", 426, "upgrade required"],
    ["/echo", 426, "upgrade required"],
    ["/ws/general?username=a%2Cb", 400, "The username may only have letters"],
    ["/ws/general?username=a%00b", 400, "The username must not have control characters."],
    ["/ws/general?username=%FF", 400, "The username may only have letters"],
    ["/ws/general?username=%zz", 400, "The username may only have letters"],
    [`/ws/general?username=${"a".repeat(33)}`, 400, "The username must be 1 to 32"],
    ["/ws/%zz?username=alice", 400, "The room may only have letters"],
    ["/ws/%FF?username=alice", 400, "The room may only have letters"],
    ["/ws/a%2Fb?username=alice", 400, "The room may only have letters"],
    ["/ws/a/b?username=alice", 400, "The room may only have letters"],
    [`/ws/${"r".repeat(65)}?username=alice`, 400, "The room must be 1 to 64"],
    ["/ws/general?username=alice&format=xml", 400, "The format must be json or text."],
  ];
  for (const [path, status, error] of CASES) {
    it(`${path.slice(0, 50)}: ${status}`, async () => {
      const response = await createTestApp().app.request(path);
      assertEquals(response.status, status);
      assertStringIncludes((await response.json()).error, error);
    });
  }

  it("says that a name is in use", async () => {
    const { app, hub } = createTestApp();
    const request = { room: "general", username: "alice", identity: guest("1") };
    await hub.admit(request);
    hub.join({ bufferedAmount: 0, send: () => {}, close: () => {} }, request);
    const response = await app.request("/ws/general?username=Alice");
    assertEquals(response.status, 409);
    assertStringIncludes((await response.json()).error, "in use");
  });

  it("says that the server is full, or has too many rooms", async () => {
    const { app, hub, connections } = createTestApp({ MAX_CONNECTIONS: "1", MAX_ROOMS: "1" });
    const request = { room: "general", username: "bob", identity: guest("1") };
    await hub.admit(request);
    hub.join({ bufferedAmount: 0, send: () => {}, close: () => {} }, request);
    const rooms = await app.request("/ws/other?username=alice");
    assertEquals([rooms.status, (await rooms.json()).error.includes("too many rooms")], [
      503,
      true,
    ]);
    connections.add({ close: () => {} }, {});
    const full = await app.request("/ws/general?username=alice");
    assertEquals([full.status, (await full.json()).error.includes("is full")], [503, true]);
  });
});

describe("A bad handshake is refused before the upgrade", () => {
  const CASES: [why: string, init: RequestInit, status: number][] = [
    ["POST", { method: "POST" }, 405],
    ["PUT", { method: "PUT" }, 405],
    ["DELETE", { method: "DELETE" }, 405],
    ["OPTIONS", { method: "OPTIONS" }, 405],
    ["HEAD", { method: "HEAD" }, 405],
    ["no Upgrade", { headers: { upgrade: "" } }, 426],
    ["another Upgrade", { headers: { upgrade: "h2c" } }, 426],
    ["no Connection", { headers: { connection: "keep-alive" } }, 426],
    ["no version", { headers: { "sec-websocket-version": "" } }, 426],
    ["an old version", { headers: { "sec-websocket-version": "8" } }, 426],
    ["an empty key", { headers: { "sec-websocket-key": "" } }, 400],
    ["a short key", { headers: { "sec-websocket-key": "c2hvcnQ=" } }, 400],
    ["a key that is no base64", { headers: { "sec-websocket-key": "!".repeat(24) } }, 400],
    ["a subprotocol", { headers: { "sec-websocket-protocol": "mqtt" } }, 400],
    ["subprotocols", { headers: { "sec-websocket-protocol": "mqtt,stomp, x" } }, 400],
  ];
  for (const [why, { method, headers }, status] of CASES) {
    for (const path of ["/ws/general?username=alice", "/ws", "/echo"]) {
      it(`${why} at ${path}: ${status}`, async () => {
        const init = { method: method ?? "GET", headers: { ...HANDSHAKE, ...headers } };
        const response = await createTestApp().app.request(path, init);
        assertEquals(response.status, status);
        if (method !== "HEAD") assert((await response.json()).error.length > 0);
      });
    }
  }

  it("names the version that is spoken (RFC 6455, section 4.2.2)", async () => {
    const headers = { ...HANDSHAKE, "sec-websocket-version": "8" };
    const response = await createTestApp().app.request("/ws", { headers });
    assertEquals(response.headers.get("sec-websocket-version"), "13");
    await response.body?.cancel();
  });
});
