import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { withoutComments } from "../lib/http/compression_thread.ts";
import { describe, it } from "@std/testing/bdd";
import { pathToFileURL } from "node:url";
import { brotliDecompressSync, gunzipSync } from "node:zlib";
import { Hub } from "../hub.ts";
import { readConfig } from "../lib/config.ts";
import { MemoryEngine } from "../lib/engine/memory.ts";
import { ChatError, type ErrorCode, nameInUse } from "../lib/errors.ts";
import { createApp } from "../lib/http/app.ts";
import { Connections } from "../lib/http/connections.ts";
import { checkHandshake, HandshakeError, offeredProtocols } from "../lib/http/handshake.ts";
import type { JoinRequest } from "../lib/http/rooms.ts";
import { createLogger } from "../lib/logger.ts";
import { Accounts } from "../lib/people/accounts.ts";
import { Passwords } from "../lib/people/passwords.ts";
import { createSecret, hashSecret } from "../lib/people/secrets.ts";
import { RateLimiter, TrafficLimiter } from "../lib/rate_limit.ts";
import { Client } from "./support/client.ts";
import { createFakeApp, serveFakeApp } from "./support/fake_app.ts";
import { guest } from "./support/fake_hub.ts";
import { makeFolder } from "./support/folder.ts";
import { cookieName, knock, Visitor } from "./support/people.ts";
import { frame, OPCODE, RawClient } from "./support/raw.ts";

/** A static import; a dynamic one has a parenthesis, a type import is in a comment. */
const STATIC_IMPORT = /^(?:import\s+(?:[^"'();]*\bfrom\s+)?|export\s[^"'();]*\bfrom\s+)"([^"]+)"/gm;

const PUBLIC = new URL("../public/", import.meta.url);

/** The routes without a port. */
function createTestApp(env: Record<string, string> = {}, publicDir = PUBLIC) {
  const config = readConfig(env);
  const { limits } = config;
  const logger = createLogger({ level: "error", write: () => {} });
  const clock = () => 0;
  const newId = () => crypto.randomUUID();
  const engine = new MemoryEngine({ clock, newId, keep: 50, leaseMs: 30_000 });
  const traffic = new TrafficLimiter(config.rates.traffic, clock);
  const loggers = { refusals: logger, failures: logger };
  const later = { turn: { deliver: () => {}, hear: () => {} }, after: () => {}, ...loggers };
  const hub = new Hub({ engine, limits, traffic, logger, clock, date: clock, newId, ...later });
  const passwords = new Passwords(1);
  const accounts = new Accounts({
    store: engine.accounts,
    passwords,
    clock,
    after: () => {},
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
    askLimiter: new RateLimiter(config.limits.messageRate, clock),
    traffic,
    health: { isDegraded: false },
    logger,
    refusals: logger,
    failures: logger,
    clock,
    after: () => {},
    publicDir,
  });
  return { hub, accounts, connections, app };
}

/** A body without its encoding. */
function unpack(body: Uint8Array<ArrayBuffer>, encoding: string | null): Uint8Array {
  if (encoding === null || body.length === 0) return body;
  return new Uint8Array(encoding === "br" ? brotliDecompressSync(body) : gunzipSync(body));
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
  it("answers 200 and ok", async () => {
    const response = await createTestApp().app.request("/health");
    assertEquals([response.status, await response.json()], [200, { status: "ok" }]);
  });

  it("answers 503 while the store fails", async () => {
    const { app, health } = createFakeApp();
    health.isDegraded = true;
    const degraded = await app.request("/health");
    assertEquals([degraded.status, await degraded.json()], [503, { status: "degraded" }]);
    health.isDegraded = false;
    assertEquals((await app.request("/health")).status, 200);
  });
});

describe("A refusal because the store fails", () => {
  it("is not logged for each request: the failure is logged once", async () => {
    const { app, hub, log } = createFakeApp();
    const ask = async (code: ErrorCode) => {
      hub.onAdmit = () => {
        throw new ChatError(code, "No.");
      };
      const { status } = await app.request("/ws/r?username=alice");
      return [status, log.splice(0).map(({ msg }) => msg)];
    };
    assertEquals(await ask("unavailable"), [503, []]);
    assertEquals(await ask("full"), [503, ["refused"]]);
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

  it("loads only its own files, and cannot be framed", async () => {
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
    // Only a proxy with https may add this header.
    assertEquals(response.headers.get("strict-transport-security"), null);
  });

  it("varies by Accept, and tells caches", async () => {
    const { app } = createTestApp();
    for (const accept of ["text/html", "*/*"]) {
      const response = await app.request("/", { headers: { accept } });
      await response.body?.cancel();
      const isPage = accept === "text/html";
      assertEquals(response.headers.get("vary"), isPage ? "accept, accept-encoding" : "accept");
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

  it("is a line of text for other clients", async () => {
    const { app } = createTestApp();
    for (const accept of [undefined, "*/*", "application/json"]) {
      const response = await app.request("/", accept ? { headers: { accept } } : {});
      assertEquals(await response.text(), "WebSocket Chat Server - Connect to /ws");
    }
  });
});

describe("GET /r/:room", () => {
  it("is the page for any room: the page itself explains a bad name", async () => {
    const { app } = createTestApp();
    for (const path of ["/r/general", "/r/general/", "/r/caf%C3%A9", "/r/%00"]) {
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
    // Only documents need the policy; scripts have the other headers.
    assertEquals(response.headers.get("x-content-type-options"), "nosniff");
    assertEquals(response.headers.get("cross-origin-resource-policy"), "same-origin");
    const picture = await app.request("/favicon.svg");
    await picture.body?.cancel();
    const policy = picture.headers.get("content-security-policy") ?? "";
    assertStringIncludes(policy, "default-src 'none'");
    assert(!policy.includes("unsafe"), policy);
    const tag = response.headers.get("etag") ?? "";
    await response.body?.cancel();
    const again = await app.request("/connection.js", { headers: { "if-none-match": tag } });
    assertEquals(again.status, 304);
  });

  it("are compressed if the client accepts it, each encoding with its own tag", async () => {
    const { app } = createTestApp();
    const plain = await Deno.readFile(new URL("connection.js", PUBLIC));
    const code = new TextEncoder().encode(withoutComments(new TextDecoder().decode(plain)));
    const CASES: [accepted: string | undefined, encoding: string | null][] = [
      [undefined, null],
      ["", null],
      ["identity", null],
      ["deflate, zstd", null],
      ["gzip", "gzip"],
      ["gzip, deflate", "gzip"],
      ["gzip, deflate, br, zstd", "br"],
      ["br;q=0.1, gzip", "br"],
      ["br;q=0, GZIP;q=0.5", "gzip"],
      ["*", "br"],
      ["*;q=0", null],
      ["br;q=0, *", "gzip"],
      ["gzip;q=0.000", null],
    ];
    const tags = new Map<string | null, string | null>();
    for (const [accepted, encoding] of CASES) {
      const headers: HeadersInit = accepted === undefined ? {} : { "accept-encoding": accepted };
      const response = await app.request("/connection.js", { headers });
      const body = new Uint8Array(await response.arrayBuffer());
      assertEquals(response.headers.get("content-encoding"), encoding, accepted);
      assertEquals(unpack(body, encoding), encoding === null ? plain : code);
      assertEquals(response.headers.get("vary"), "accept-encoding");
      assertEquals(response.headers.get("cache-control"), "no-cache");
      assertEquals(response.headers.get("content-type"), "text/javascript; charset=utf-8");
      if (encoding !== null) assert(body.length < plain.length / 3);
      const tag = response.headers.get("etag");
      assertEquals(tags.get(encoding) ?? tag, tag);
      tags.set(encoding, tag);
      const again = await app.request("/connection.js", {
        headers: { ...headers, "if-none-match": `"x", W/${tag}` },
      });
      assertEquals([again.status, await again.text()], [304, ""]);
      for (const name of ["etag", "vary", "cache-control"]) {
        assertEquals(again.headers.get(name), response.headers.get(name), name);
      }
    }
    assertEquals(new Set(tags.values()).size, 3);
    // Each encoding has its own tag.
    const headers = { "accept-encoding": "gzip", "if-none-match": tags.get("br")! };
    const other = await app.request("/connection.js", { headers });
    assertEquals(other.status, 200);
    await other.body?.cancel();
  });

  it("are not compressed if tiny, and HEAD gives the length of GET", async () => {
    const { app } = createTestApp();
    for (const path of ["/favicon.svg", "/style.css", "/r/tea"]) {
      const headers = { "accept-encoding": "br" };
      const get = await app.request(path, { headers });
      const { length } = new Uint8Array(await get.arrayBuffer());
      const head = await app.request(path, { method: "HEAD", headers });
      assertEquals([head.status, await head.text()], [200, ""]);
      assertEquals(head.headers.get("content-length"), String(length));
      for (const name of ["etag", "content-encoding", "content-type", "vary", "cache-control"]) {
        assertEquals(head.headers.get(name), get.headers.get(name), name);
      }
      const isTiny = path === "/favicon.svg";
      assertEquals(get.headers.get("content-encoding"), isTiny ? null : "br", path);
      const isPage = path === "/r/tea";
      assertEquals(get.headers.get("cache-control"), isPage ? "private, no-cache" : "no-cache");
    }
  });

  it("are compressed once for each change on the disk", async () => {
    await using folder = await makeFolder();
    const { app } = createTestApp({}, pathToFileURL(`${folder.path}/`));
    const ask = async (tag = "") => {
      const headers = { "accept-encoding": "br", "if-none-match": tag };
      const response = await app.request("/a.css", { headers });
      const body = unpack(new Uint8Array(await response.arrayBuffer()), "br");
      return { tag: response.headers.get("etag")!, text: new TextDecoder().decode(body) };
    };
    const write = async (text: string, time: number) => {
      await Deno.writeTextFile(`${folder.path}/a.css`, text);
      await Deno.utime(`${folder.path}/a.css`, time, time);
    };
    await write("a".repeat(5000), 1);
    const answers = await Promise.all([ask(), ask(), ask()]);
    assertEquals(new Set(answers.map(({ tag }) => tag)).size, 1);
    // Of the same size.
    await write("b".repeat(5000), 2);
    const second = await ask(answers[0]!.tag);
    assertEquals(second.text, "b".repeat(5000));
    // At the same time.
    await write("b".repeat(6000), 2);
    assertEquals((await ask(second.tag)).text, "b".repeat(6000));
    await Deno.remove(`${folder.path}/a.css`);
    const gone = await app.request("/a.css");
    assertEquals([gone.status, gone.headers.get("cache-control")], [404, null]);
    await gone.body?.cancel();
  });

  it("keep their meaning when the server strips their comments", async () => {
    const { parse } = await import("npm:acorn@^8");
    const paths = [...Deno.readDirSync(new URL("page", PUBLIC))].map(({ name }) => `page/${name}`);
    paths.push(...[...Deno.readDirSync(PUBLIC)].map(({ name }) => name));
    const scripts = paths.filter((path) => path.endsWith(".js"));
    assert(scripts.length > 30);
    for (const path of scripts) {
      const code = await Deno.readTextFile(new URL(path, PUBLIC));
      const short = withoutComments(code);
      // A node's content and line, without the column.
      const trees = [code, short].map((text) =>
        JSON.stringify(
          parse(text, { ecmaVersion: "latest", sourceType: "module", locations: true }),
          (key, value) => ["start", "end", "column"].includes(key) ? undefined : value,
        )
      );
      assertEquals(trees[0], trees[1], path);
      assert(!/^\s*\/[*/]/m.test(short), path);
    }
    const code = 'a = "/* b */"; // c\n  /** d\n */ e = `\n/`;\n// f\ng /* h */';
    assertEquals(withoutComments(code), 'a = "/* b */"; // c\n\n e = `\n/`;\n\ng /* h */');
  });

  it("needed by the page's modules are listed in its head, so that they load at once", async () => {
    const html = await Deno.readTextFile(new URL("index.html", PUBLIC));
    const named = [...html.matchAll(/<link rel="modulepreload" href="\.([^"]+)">/g)];
    const needed = new Set<string>();
    const visit = async (path: string) => {
      const text = await Deno.readTextFile(new URL(`.${path}`, PUBLIC));
      for (const [, target] of text.matchAll(STATIC_IMPORT)) {
        const { pathname } = new URL(target!, `http://page${path}`);
        if (needed.has(pathname)) continue;
        needed.add(pathname);
        await visit(pathname);
      }
    };
    await visit("/page/app.js");
    assertEquals(
      named.map(([, path]) => path),
      [...needed].sort(),
      `The head of index.html should have these lines:\n${
        [...needed].sort().map((path) => `    <link rel="modulepreload" href=".${path}">`).join(
          "\n",
        )
      }`,
    );
  });

  it("are the only files served: no path leads out of the folder", async () => {
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

  it("refuses a name in use", async () => {
    const { app, hub } = createTestApp();
    const request = { room: "general", username: "alice", identity: guest("1") };
    await hub.admit(request);
    hub.join({ bufferedAmount: 0, send: () => {}, close: () => {} }, request);
    const response = await app.request("/ws/general?username=Alice");
    assertEquals(response.status, 409);
    assertStringIncludes((await response.json()).error, "in use");
  });

  it("refuses when the server is full or has too many rooms", async () => {
    const { app, hub, connections } = createTestApp({ MAX_CONNECTIONS: "1", MAX_ROOMS: "1" });
    const request = { room: "general", username: "bob", identity: guest("1") };
    await hub.admit(request);
    hub.join({ bufferedAmount: 0, send: () => {}, close: () => {} }, request);
    const rooms = await app.request("/ws/other?username=alice");
    assertEquals([rooms.status, (await rooms.json()).error.includes("Too many rooms")], [
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
    ["HEAD", { method: "HEAD" }, 426],
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

  it("names the supported version (RFC 6455, section 4.2.2)", async () => {
    const headers = { ...HANDSHAKE, "sec-websocket-version": "8" };
    const response = await createTestApp().app.request("/ws", { headers });
    assertEquals(response.headers.get("sec-websocket-version"), "13");
    await response.body?.cancel();
  });
});

/** A good handshake with these headers changed; `undefined` leaves a header out. */
function handshake(changed: Record<string, string | undefined> = {}, method = "GET"): Request {
  const headers = new Headers();
  const all = {
    "upgrade": "websocket",
    "connection": "Upgrade",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    ...changed,
  };
  for (const [name, value] of Object.entries(all)) {
    if (value !== undefined) headers.set(name, value);
  }
  return new Request("http://chat.example/ws", { method, headers });
}

describe("checkHandshake", () => {
  const GOOD: [why: string, headers: Record<string, string>, protocol?: string][] = [
    ["the minimum of headers", {}],
    ["other cases", { upgrade: "WebSocket", connection: "upgrade" }],
    ["more than one token", { upgrade: "h2c, websocket", connection: "keep-alive, Upgrade" }],
    ["tokens without spaces", { connection: "keep-alive,Upgrade" }],
    ["a key whose last bits are not zero", { "sec-websocket-key": "AQIDBAUGBwgJCgsMDQ4PEC==" }],
    ["a key of + and /", { "sec-websocket-key": "+/+/+/+/+/+/+/+/+/+/+w==" }],
    ["the subprotocol", { "sec-websocket-protocol": "chat.v1" }, "chat.v1"],
    [
      "the subprotocol among others",
      { "sec-websocket-protocol": "mqtt, chat.v1 ,stomp" },
      "chat.v1",
    ],
    ["no subprotocol on a route that has one", {}, "chat.v1"],
  ];
  for (const [why, headers, protocol] of GOOD) {
    it(`accepts a handshake with ${why}`, () => {
      checkHandshake(handshake(headers), protocol);
    });
  }

  const BAD: [why: string, request: Request, status: number, protocol?: string][] = [
    ["POST", handshake({}, "POST"), 405],
    ["no version", handshake({ "sec-websocket-version": undefined }), 426],
    ["version 8", handshake({ "sec-websocket-version": "8" }), 426],
    ["no key", handshake({ "sec-websocket-key": undefined }), 400],
    ["a key of 15 bytes", handshake({ "sec-websocket-key": `${"A".repeat(20)}=` }), 400],
    ["a key of 17 bytes", handshake({ "sec-websocket-key": `${"A".repeat(23)}=` }), 400],
    ["a key and more", handshake({ "sec-websocket-key": `${"A".repeat(22)}==A` }), 400],
    ["a key behind more", handshake({ "sec-websocket-key": `!${"A".repeat(22)}==` }), 400],
    ["a subprotocol", handshake({ "sec-websocket-protocol": "chat.v1" }), 400],
    ["an empty subprotocol", handshake({ "sec-websocket-protocol": "" }), 400, "chat.v1"],
    ["another", handshake({ "sec-websocket-protocol": "mqtt" }), 400, "chat.v1"],
    [
      "the subprotocol in capitals",
      handshake({ "sec-websocket-protocol": "CHAT.V1" }),
      400,
      "chat.v1",
    ],
  ];
  for (const [why, request, status, protocol] of BAD) {
    it(`refuses ${why} with ${status}`, () => {
      const error = assertThrows(() => checkHandshake(request, protocol), HandshakeError);
      assertEquals(error.status, status);
    });
  }

  it("names in each refusal the headers a client needs", () => {
    const headersOf = (request: Request) =>
      assertThrows(() => checkHandshake(request), HandshakeError).headers;
    assertEquals(headersOf(handshake({}, "PUT")), { allow: "GET, HEAD" });
    assertEquals(headersOf(handshake({ "sec-websocket-version": "8" })), {
      "sec-websocket-version": "13",
    });
    assertEquals(headersOf(handshake({ "sec-websocket-key": "" })), {});
  });
});

describe("offeredProtocols", () => {
  it("are listed in order and as written", () => {
    const offered = (header?: string) =>
      offeredProtocols(handshake({ "sec-websocket-protocol": header }));
    assertEquals(offered(), []);
    assertEquals(offered("chat.v1"), ["chat.v1"]);
    assertEquals(offered("mqtt,Chat.V1 , x"), ["mqtt", "Chat.V1", "x"]);
  });
});

const V1 = ["chat.v1"];

/** Waits for the next turn of the event loop. */
const pause = () => new Promise((resolve) => setTimeout(resolve, 20));

describe("A request to join", () => {
  type Wish = Partial<Omit<JoinRequest, "identity">>;
  const CASES: [path: string, protocols: string[], request: Wish][] = [
    ["/ws/r?username=bob", [], { room: "r", username: "bob", format: "json", echo: true }],
    ["/ws?username=bob", [], { room: "lobby", username: "bob", format: "json" }],
    ["/ws", [], { room: "lobby", format: "raw" }],
    ["/ws?format=text", [], { room: "lobby", format: "raw" }],
    ["/ws/Caf%C3%A9?username=Zoe%CC%88", [], { room: "Café", username: "Zoë" }],
    ["/ws/r?username=bob&format=text", [], { format: "text" }],
    ["/ws/r?username=bob&format=json", [], { format: "json" }],
    ["/ws/r?username=bob", V1, { format: "v1", resume: undefined }],
    ["/ws/r?username=bob", ["mqtt", "chat.v1"], { format: "v1" }],
    ["/ws/r?username=bob&format=text", V1, { format: "v1" }],
    ["/ws/r?username=bob&echo=0", [], { echo: false }],
    ["/ws/r?username=bob&echo=1", [], { echo: true }],
    [
      "/ws/r?username=bob&epoch=e&after=0",
      V1,
      { resume: { epoch: "e", after: 0, inbox: undefined } },
    ],
    [
      "/ws/r?username=bob&epoch=e&after=12&inbox=3",
      V1,
      { resume: { epoch: "e", after: 12, inbox: 3 } },
    ],
    ["/ws/r?username=bob&inbox=3", V1, { resume: undefined }],
    ["/ws/r?username=bob&epoch=e&after=1", [], { resume: undefined }],
    [
      "/ws/r?username=bob&epoch=e&after=9007199254740991",
      V1,
      { resume: { epoch: "e", after: Number.MAX_SAFE_INTEGER, inbox: undefined } },
    ],
  ];
  for (const [path, protocols, wish] of CASES) {
    const what = protocols.length > 0 ? ` with ${protocols}` : "";
    it(`${path}${what} asks the hub for ${JSON.stringify(wish)}`, async () => {
      await using server = serveFakeApp();
      await using client = await Client.connect(server.ws + path, protocols);
      assertEquals(client.socket.protocol, protocols.length > 0 ? "chat.v1" : "");
      await server.logged("joined");
      const [request] = server.hub.admitted;
      const { identity, ...rest } = request!;
      assertEquals({ ...rest, ...wish }, rest);
      assert(identity.person.startsWith("guest:"));
      assertEquals(server.hub.joined.map(({ request }) => request), [request!]);
    });
  }

  it("without a name uses the account's name", async () => {
    await using server = serveFakeApp();
    const token = server.signIn("Alice");
    await using _client = await Client.connect(`${server.ws}/ws/r?token=${token}`);
    const { username, room, address } = await server.logged("joined");
    assertEquals([username, room, address], ["Alice", "r", "127.0.0.1"]);
    assertEquals(server.hub.admitted[0]!.identity.account!.tokenHash, hashSecret(token));
  });

  const BAD: [path: string, protocol: string | undefined, error: string][] = [
    ["/ws/r?username=bob&epoch=e", "chat.v1", "To resume, give both epoch and after."],
    ["/ws/r?username=bob&after=1", "chat.v1", "To resume, give both epoch and after."],
    ["/ws/r?username=bob&epoch=e&after=-1", "chat.v1", "after must be a whole number."],
    ["/ws/r?username=bob&epoch=e&after=1.5", "chat.v1", "after must be a whole number."],
    ["/ws/r?username=bob&epoch=e&after=1e3", "chat.v1", "after must be a whole number."],
    [
      "/ws/r?username=bob&epoch=e&after=9007199254740992",
      "chat.v1",
      "after must be a whole number.",
    ],
    [
      "/ws/r?username=bob&epoch=e&after=1&inbox=x",
      "chat.v1",
      "inbox must be a whole number.",
    ],
    ["/ws/r?username=bob&format=raw", undefined, "The format must be json or text."],
    ["/ws/r?username=bob&format=v1", undefined, "The format must be json or text."],
  ];
  for (const [path, protocol, error] of BAD) {
    it(`${path} is refused before the hub sees it: ${error}`, async () => {
      await using server = serveFakeApp();
      const answer = await knock(server, path, { "Sec-WebSocket-Protocol": protocol });
      assertEquals([answer.status, answer.error], [400, error]);
      assertEquals(server.hub.admitted, []);
    });
  }

  it("is authenticated by an account's token or a guest's secret", async () => {
    await using server = serveFakeApp();
    const ways = [
      `token=${server.signIn("alice")}`,
      `username=bob&session=${createSecret()}`,
      "username=bob",
    ];
    for (const way of ways) await knock(server, `/ws/r?${way}`);
    const proofs = server.hub.admitted.map(({ identity }) => identity.isProven);
    assertEquals(proofs, [true, true, false]);
  });

  it("of a guest with two secrets uses the one in the query", async () => {
    await using server = serveFakeApp();
    const [shown, cookie] = [createSecret(), createSecret()];
    const headers = { Cookie: `${cookieName(server, "guest")}=${cookie}` };
    await knock(server, `/ws/r?username=bob&session=${shown}`, headers);
    await knock(server, "/ws/r?username=bob", headers);
    const secrets = server.hub.admitted.map(({ identity }) => identity.secret);
    assertEquals(secrets, [shown, cookie]);
  });

  it("with the name of another account is refused before the hub sees it", async () => {
    await using server = serveFakeApp({ ADMINS: "Root" });
    const token = server.signIn("Alice");
    const CASES: [query: string, status: number, error: string][] = [
      [`username=bob&token=${token}`, 403, "You are signed in as Alice. Use that name."],
      ["username=ALICE", 401, "This name belongs to an account. Sign in, or choose another name."],
      ["username=root", 401, "This name belongs to an account. Sign in, or choose another name."],
    ];
    for (const [query, status, error] of CASES) {
      const answer = await knock(server, `/ws/r?${query}`);
      assertEquals([answer.status, answer.error], [status, error]);
    }
    assertEquals(server.hub.admitted, []);
    assertEquals((await knock(server, `/ws/r?username=alice&token=${token}`)).status, 101);
  });

  it("of a foreign page, or above the limit, is refused before the token is read", async () => {
    for (const route of ["/ws/r?username=bob&", "/ws?", "/echo?"]) {
      await using server = serveFakeApp({ JOIN_RATE_PER_ADDRESS: "1" });
      server.store.failure = new Error("The store was asked.");
      const path = `${route}token=${createSecret()}`;
      assertEquals((await knock(server, path, { Origin: "https://evil.example" })).status, 403);
      // The refusal of the foreign page did not count against the address.
      for (let i = 0; i < 5; i++) assertEquals((await knock(server, path)).status, 500);
      assertEquals((await knock(server, path)).status, 429);
    }
  });
});

describe("A socket", () => {
  it("passes frames to the hub until it closes: then the member leaves, once", async () => {
    await using server = serveFakeApp();
    const client = await Client.connect(`${server.ws}/ws/r?username=bob`);
    await server.logged("joined");
    client.send("hello");
    client.send("world");
    await client.close(1000);
    const { code, room, username, wasClean } = await server.logged("left");
    assertEquals([code, wasClean, room, username], [1000, true, "r", "bob"]);
    assertEquals(server.hub.received, ["hello", "world"]);
    assertEquals(server.hub.left.length, 1);
    assertEquals(server.connections.size, 0);
  });

  it("of a member that has left already leaves no second time when it closes", async () => {
    await using server = serveFakeApp();
    const client = await Client.connect(`${server.ws}/ws/r?username=bob`);
    await server.logged("joined");
    const [{ member, peer }] = server.hub.joined as [typeof server.hub.joined[0]];
    server.hub.leave(member);
    peer.close(4008, "client is too slow");
    assertEquals((await client.closed).code, 4008);
    while (server.connections.size > 0) await pause();
    assertEquals(server.hub.left.length, 1);
    assertEquals(server.log.map(({ msg }) => msg), ["joined"]);
  });

  it("that sends binary is dismissed with 1003, and the log names the member", async () => {
    await using server = serveFakeApp();
    const client = await Client.connect(`${server.ws}/ws/r?username=bob`);
    client.send(new Uint8Array([1]));
    assertEquals((await client.closed).code, 1003);
    const { username, address } = await server.logged("binary frame refused");
    assertEquals([username, address], ["bob", "127.0.0.1"]);
    assertEquals([server.hub.received, server.hub.left.length], [[], 1]);
  });

  it("whose handler throws closes with 1011, is logged, and leaves", async () => {
    await using server = serveFakeApp();
    server.hub.onReceive = () => {
      throw new Error("nobody thought of this");
    };
    const client = await Client.connect(`${server.ws}/ws/r?username=bob`);
    client.send("hello");
    assertEquals((await client.closed).code, 1011);
    const { level, error } = await server.logged("socket handler failed");
    assertEquals([level, error], ["error", "Error: nobody thought of this"]);
    await server.logged("left");
    assertEquals([server.hub.left.length, server.connections.size], [1, 0]);
  });

  it("that the room no longer admits when it opens gets the reason, and does not join", async () => {
    const CASES: [query: string, protocols: string[], frame: string][] = [
      ["", [], '{"type":"error","content":"This name is in use in this room. Choose another."'],
      ["", V1, '{"type":"error","content":"This name is in use in this room. Choose another."'],
      ["&format=text", [], "Error: This name is in use in this room. Choose another."],
    ];
    for (const [query, protocols, frame] of CASES) {
      await using server = serveFakeApp();
      server.hub.onJoin = () => {
        throw nameInUse();
      };
      const url = `${server.ws}/ws/r?username=bob${query}`;
      const client = await Client.connect(url, protocols);
      client.send("hello");
      const text = await client.nextText();
      assert(text.startsWith(frame), text);
      assertEquals((await client.closed).code, 4009);
      const { path, address, reason } = await server.logged("refused");
      assertEquals([path, address, reason], ["/ws/r", "127.0.0.1", nameInUse().message]);
      while (server.connections.size > 0) await pause();
      assertEquals([server.hub.received, server.hub.left], [[], []]);
      assertEquals(server.log.map(({ msg }) => msg), ["refused"]);
    }
  });

  it("whose joining fails unexpectedly closes with 1011 and without the reason", async () => {
    await using server = serveFakeApp();
    server.hub.onJoin = () => {
      throw new Error("nobody thought of this");
    };
    const client = await Client.connect(`${server.ws}/ws/r?username=bob`);
    const { code, reason } = await client.closed;
    assertEquals([code, reason, client.received], [1011, "internal error", []]);
    assertEquals((await server.logged("socket handler failed")).level, "error");
    while (server.connections.size > 0) await pause();
  });

  it("is refused with the hub's own status when the hub does not admit it", async () => {
    await using server = serveFakeApp();
    server.hub.onAdmit = () => {
      throw new ChatError("forbidden", "No.");
    };
    const { status, error } = await knock(server, "/ws/r?username=bob");
    assertEquals([status, error, server.hub.joined], [403, "No.", []]);
  });
});

describe("/echo", () => {
  it("closes for a client that sends and does not read, before much data waits", async () => {
    await using server = serveFakeApp({ SEND_QUEUE_BYTES: "100000", MESSAGE_RATE: "0" });
    using client = await RawClient.open(server.port, "/echo");
    const count = 2000;
    const sent = frame("x".repeat(16_000));
    for (let i = 0; i < count && server.connections.size > 0; i++) await client.write(sent);
    const echoed = (await client.readFrames()).filter(({ opcode }) => opcode === OPCODE.text);
    assert(echoed.length < count, `${echoed.length} frames were echoed.`);
    client.close();
    while (server.connections.size > 0) await pause();
  });
});

describe("A member whose right to join ended meanwhile", () => {
  it("receives the reason and leaves: its session has ended", async () => {
    await using server = serveFakeApp();
    const token = server.signIn("alice");
    server.hub.onJoin = () => server.store.tokens.clear();
    const client = await Client.connect(`${server.ws}/ws/r?token=${token}`);
    assertEquals((await client.nextFrame()).content, "Your session has ended. Sign in again.");
    assertEquals((await client.closed).code, 4001);
    assertEquals(server.hub.left.length, 1);
    const { username, reason } = await server.logged("refused");
    assertEquals([username, reason], ["alice", "Your session has ended. Sign in again."]);
  });

  it("receives the reason and leaves: an account has its name", async () => {
    await using server = serveFakeApp();
    server.hub.onJoin = () => void server.signIn("Bob");
    const client = await Client.connect(`${server.ws}/ws/r?username=bob`);
    assertEquals((await client.nextFrame()).code, "unauthenticated");
    assertEquals((await client.closed).code, 4001);
    assertEquals(server.hub.left.length, 1);
  });

  it("gets nothing more if it has already left", async () => {
    await using server = serveFakeApp();
    server.hub.onJoin = () => {
      server.signIn("bob");
      queueMicrotask(() => server.hub.leave(server.hub.joined[0]!.member));
    };
    await using client = await Client.connect(`${server.ws}/ws/r?username=bob`);
    await server.logged("joined");
    await pause();
    assertEquals([client.received, server.hub.left.length], [[], 1]);
    assertEquals(server.log.map(({ msg }) => msg), ["joined"]);
  });

  it("stays if the store fails, or if its right has not ended", async () => {
    for (const failure of [new Error("disk"), new ChatError("unavailable", "Later."), undefined]) {
      await using server = serveFakeApp();
      const token = server.signIn("alice");
      server.hub.onJoin = () => server.store.failure = failure;
      await using client = await Client.connect(`${server.ws}/ws/r?token=${token}`);
      await server.logged("joined");
      await pause();
      client.send("hello");
      while (server.hub.received.length === 0) await pause();
      assertEquals([client.received, server.hub.left], [[], []]);
    }
  });

  it("stays if its name cannot be registered", async () => {
    await using server = serveFakeApp();
    await using client = await Client.connect(`${server.ws}/ws`);
    await server.logged("joined");
    await pause();
    assertEquals([client.received, server.hub.left], [[], []]);
  });
});

describe("A connection", () => {
  it("counts for its account from its opening to its closing", async () => {
    await using server = serveFakeApp({ MAX_CONNECTIONS_PER_ACCOUNT: "1" });
    const token = server.signIn("alice");
    for (const path of [`/ws/r?token=${token}`, `/echo?token=${token}`, `/ws?token=${token}`]) {
      const client = await Client.connect(server.ws + path);
      assertEquals((await knock(server, `/ws/r?token=${token}`)).status, 429, path);
      assertEquals((await knock(server, "/ws/r?username=bob")).status, 101);
      await client.close();
      while ((await knock(server, `/ws/x?token=${token}&format=xml`)).status === 429) await pause();
      while (server.connections.size > 0) await pause();
    }
  });

  it("above the limit when it opens gets the reason in its own format", async () => {
    const CASES: [path: string, text: string | undefined][] = [
      ["/echo", undefined],
      ["/ws/r?format=text", "Error: The server is full. Try again later."],
    ];
    for (const [path, text] of CASES) {
      await using server = serveFakeApp({ MAX_CONNECTIONS: "1" });
      const token = server.signIn("alice");
      // Both pass the check before either opens.
      const gate = Promise.withResolvers<void>();
      let asked = 0;
      server.store.onAsk = () => {
        if (++asked === 2) gate.resolve();
        return gate.promise;
      };
      const headers = { Authorization: `Bearer ${token}` };
      const clients = await Promise.all([1, 2].map(() => Visitor.open(server, path, headers)));
      const farewell = async ({ client }: Visitor) => {
        const first = await client.readFrame();
        const last = first?.opcode === OPCODE.close ? first : await client.readFrame();
        const code = last && new DataView(last.payload.buffer).getUint16(0);
        return [code, last === first ? undefined : first?.text];
      };
      assertEquals(await Promise.race(clients.map(farewell)), [1013, text]);
      assertEquals([server.connections.size, server.hub.joined.length], [1, text ? 1 : 0]);
      clients.forEach((client) => client.close());
      while (server.connections.size > 0) await pause();
    }
  });
});
