/** Addresses and handshakes: their cost, their answers, and the rooms they load. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { MemoryEngine } from "../../lib/engine/memory.ts";
import { createFakeApp, serveFakeApp } from "../support/fake_app.ts";
import { createHub, guest } from "../support/fake_hub.ts";
import { call, knock, signUp } from "../support/people.ts";
import { Random, seeds } from "../support/random.ts";
import { askRaw, RawClient } from "../support/raw.ts";
import { startServer } from "../support/server.ts";
import { V1Client } from "../support/v1_client.ts";

describe("A request that opens no socket", () => {
  it("loads no room, valid or not", async () => {
    await using server = serveFakeApp({ MAX_CONNECTIONS_PER_ADDRESS: "1" });
    const bad: Record<string, string | undefined>[] = [
      { "Sec-WebSocket-Key": "short" },
      { "Sec-WebSocket-Version": "8" },
      { "Sec-WebSocket-Protocol": "mqtt" },
      { "Origin": "https://evil.example" },
      { "Authorization": "Bearer garbage" },
      { "Connection": "close" },
      { "Upgrade": undefined },
    ];
    for (const headers of bad) {
      const { status } = await knock(server, "/ws/r?username=ann", headers as never);
      assert(status >= 400, JSON.stringify(headers));
    }
    for (const path of ["/ws/r?username=ann", "/ws", "/ws/r?username=ann&format=text"]) {
      assertEquals((await call(server, "GET", path)).status, 426);
      assertEquals((await askRaw(server.port, path, {}, "HEAD")).status, 426);
      assertEquals((await call(server, "POST", path)).status, 405);
    }
    using _first = await RawClient.open(server.port, "/ws/r?username=ann");
    assertEquals(server.hub.admitted.length, 1);
    while (server.connections.size === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    assertEquals((await knock(server, "/ws/other?username=bob")).status, 429);
    assertEquals(server.hub.admitted.length, 1);
  });

  it("opens nothing in the engine, and is refused like a join", async () => {
    const opened: string[] = [];
    const { hub, engine } = createHub({}, {}, {
      open: (options) => {
        const engine = new MemoryEngine(options);
        const open = engine.open.bind(engine);
        return Object.assign(engine, {
          open: (...args: Parameters<typeof open>) => {
            opened.push(args[0]);
            return open(...args);
          },
        });
      },
    });
    const identity = guest("ann");
    for (let i = 0; i < 10; i++) await hub.check({ room: `r${i}`, username: "ann", identity });
    const { version } = await engine.roomSettings.settings("den");
    const bans = [{ key: "ann", person: "guest:ann" }];
    const open = { owner: "root", isPrivate: false, moderators: [], members: [], bans: [] };
    await engine.roomSettings.setSettings("den", { ...open, version, isPrivate: true });
    await engine.roomSettings.setSettings("pub", { ...open, version, bans });
    const refusal = (answer: Promise<void>) => answer.then(() => "", (error) => error.message);
    const rooms = ["den", "pub"];
    const requests = rooms.map((room) => ({ room, username: "ann", identity }));
    const checked = await Promise.all(requests.map((request) => refusal(hub.check(request))));
    assertEquals(opened, []);
    const joins = await Promise.all(requests.map((request) => refusal(hub.admit(request))));
    assertEquals([checked, opened], [joins, rooms]);
    for (const sentence of checked) assertStringIncludes(sentence, "room");
  });
});

describe("A private room", () => {
  it("tells a stranger only that it is private", async () => {
    await using server = await startServer();
    const owner = await signUp(server, "owner");
    const member = await signUp(server, "member");
    const put = { token: owner, body: { private: true, members: ["member"] } };
    assertEquals((await call(server, "PUT", "/api/rooms/den", put)).status, 200);
    const ask = async (query: string) => {
      const { status, body } = await call(server, "GET", `/ws/den?${query}`);
      const upgrade = await knock(server, `/ws/den?${query}`);
      assertEquals([upgrade.status, upgrade.error], [status, body.error], query);
      return `${status} ${body.error}`;
    };
    const empty = await ask("username=stranger");
    await using _member = await V1Client.connect(`${server.ws}/ws/den?token=${member}`);
    await using inside = await V1Client.connect(`${server.ws}/ws/den?token=${owner}`);
    await inside.nextOf("welcome");
    const banned = await signUp(server, "banned");
    await inside.ask({ type: "kick", username: "banned", ban: true });
    // Members, their count and bans do not show.
    for (const query of ["username=stranger", "username=other", `token=${banned}`]) {
      assertEquals(await ask(query), empty);
    }
    // A registered name gets the same refusal in an unused room.
    for (const name of ["member", "owner"]) {
      const { status, error } = await knock(server, `/ws/nowhere?username=${name}`);
      assertEquals(await ask(`username=${name}`), `${status} ${error}`);
    }
  });
});

describe("A handshake", () => {
  it("with the example keys of RFC 6455, and with any 16 bytes, is accepted", async () => {
    await using server = await startServer();
    const keys = [
      "dGhlIHNhbXBsZSBub25jZQ==",
      "x3JJHMbDL1EzLkh9GBhXDw==",
      "AQIDBAUGBwgJCgsMDQ4PEC==",
    ];
    for (let i = 0; i < 20; i++) {
      keys.push(crypto.getRandomValues(new Uint8Array(16)).toBase64());
    }
    for (const key of keys) {
      const { status } = await knock(server, "/ws/r?username=ann", { "Sec-WebSocket-Key": key });
      assertEquals(status, 101, key);
    }
  });

  it("at /ws may name its room and its user in the query", async () => {
    await using server = await startServer();
    await using ann = await V1Client.connect(`${server.ws}/ws?room=tea&username=ann`);
    const { room, username } = await ann.nextOf("welcome");
    assertEquals([room, username], ["tea", "ann"]);
    const nowhere = await V1Client.connect(`${server.ws}/ws?room=&username=bob`);
    await using bob = nowhere;
    assertEquals((await bob.nextOf("welcome")).room, "lobby");
    assertEquals((await knock(server, "/ws?room=tea")).error, "room and username are required");
    assertEquals((await knock(server, "/ws?room=a%2Fb&username=ann")).status, 400);
    assertEquals((await knock(server, "/ws?room=")).status, 101);
  });
});

describe("HEAD", () => {
  it("gets the answer of GET, with the length and without the body", async () => {
    await using server = await startServer();
    const html = { accept: "text/html" };
    const cases: [path: string, headers: Record<string, string>][] = [
      ["/", {}],
      ["/", html],
      ["/r/tea", html],
      ["/r/tea/", html],
      ["/r/%zz", html],
      ["/r/%zz", {}],
      ["/chat.js", {}],
      ["/health", {}],
      ["/nothing", {}],
      ["/api/session", {}],
      ["/api/nothing", {}],
      ["/ws", {}],
      ["/ws/r", {}],
      ["/ws/r?username=ann", {}],
      ["/echo", {}],
    ];
    for (const [path, headers] of cases) {
      const get = await askRaw(server.port, path, headers);
      const head = await askRaw(server.port, path, headers, "HEAD");
      assertEquals(head.body, "", path);
      const rest = ({ status, headers }: typeof get) => {
        const names = ["content-length", "content-type", "cache-control", "etag", "upgrade"];
        return [status, ...names.map((name) => headers.get(name))];
      };
      assertEquals(rest(head), rest(get), path);
      assertEquals(
        Number(head.headers.get("content-length")),
        new TextEncoder().encode(get.body).length,
      );
    }
  });
});

describe("A link to a room", () => {
  for (const seed of seeds(1)) {
    it(`opens the page, also with a slash at its end; a damaged one gets an explanation [SEED=${seed}]`, async () => {
      const random = new Random(seed);
      await using server = await startServer();
      for (const room of ["tea", "caf%C3%A9", "%E2%98%95", "a%20b", "100%25"]) {
        for (const path of [`/r/${room}`, `/r/${room}/`]) {
          const { status, body } = await askRaw(server.port, path, { accept: "text/html" });
          assertEquals([status, body.includes("<!DOCTYPE html>")], [200, true], path);
        }
      }
      const cuts = ["%", "%E2%98", "%e", "%zz", "%C3", "a%F0%9F%98", "%FF", "%C0%80", "%ED%A0%80"];
      for (const prefix of ["/r/", "/", "/r/tea/", "/x/"]) {
        const path = `${prefix}${random.pick(["", "tea", "caf%C3%A9"])}${random.pick(cuts)}`;
        const page = await askRaw(server.port, path, { accept: "text/html,*/*" });
        assertEquals([page.status, page.headers.get("content-type")], [
          404,
          "text/html; charset=UTF-8",
        ]);
        assertStringIncludes(page.body, "cut off or damaged", path);
        const json = await askRaw(server.port, path);
        assertEquals(json.status, 404);
        assertStringIncludes(JSON.parse(json.body).error, "cut off or damaged");
      }
    });
  }
});

describe("The worst of each header and path", () => {
  const SIZE = 60_000;
  const fill = (text: string) => text.repeat(Math.floor(SIZE / text.length));
  const spaced = (first: string, last: string) => `${first}${" ".repeat(SIZE)}${last}`;

  /** The minimum time of a request on the loop, in milliseconds. */
  async function cost(path: string, headers: Record<string, string>): Promise<number> {
    const { app } = createFakeApp({
      TRUST_PROXY: "1",
      ALLOWED_ORIGINS: "https://site.example",
      JOIN_RATE_PER_ADDRESS: "0",
    });
    const times = [];
    for (let i = 0; i < 5; i++) {
      const start = performance.now();
      await (await app.request(path, { headers })).arrayBuffer();
      times.push(performance.now() - start);
    }
    return Math.min(...times);
  }

  it("costs a few milliseconds at most", async () => {
    const marks = fill("%CC%81%CC%A3");
    const texts = [
      marks,
      fill(","),
      fill("; "),
      fill('"'),
      fill("a=b;"),
      fill(":"),
      fill("1."),
      fill("::"),
      fill("[") + fill("]"),
      spaced("a", "b"),
      spaced("", "a,"),
      fill("hubbub_session="),
      fill("for=1;"),
      fill("\t ,"),
    ];
    const names = [
      "origin",
      "host",
      "x-forwarded-for",
      "x-forwarded-proto",
      "forwarded",
      "cookie",
      "authorization",
      "connection",
      "upgrade",
      "sec-websocket-key",
      "sec-websocket-protocol",
      "sec-websocket-version",
      "accept",
      "content-type",
      "if-none-match",
      "x-forwarded-ssl",
    ];
    const found: string[] = [];
    for (const name of names) {
      for (const text of texts) {
        const prefix = { origin: "https://", authorization: "Bearer " }[name] ?? "";
        const value = `${prefix}${text}`;
        for (const path of ["/ws/r?username=ann", "/", "/api/session"]) {
          const upgrade = { upgrade: "websocket", connection: "Upgrade" };
          const ms = await cost(path, { ...(path.startsWith("/ws") && upgrade), [name]: value });
          if (ms > 20) found.push(`${name}: ${text.slice(0, 12)} at ${path}: ${ms.toFixed(1)} ms`);
        }
      }
    }
    for (const text of [marks, fill("%25"), fill("%"), fill("a/"), fill("%FF")]) {
      for (const path of [`/${text}`, `/r/${text}`, `/ws/${text}`, `/?${text}`, `/?a=${text}`]) {
        const ms = await cost(path, { accept: "text/html" });
        if (ms > 20) found.push(`${path.slice(0, 20)}: ${ms.toFixed(1)} ms`);
      }
    }
    assertEquals(found, []);
  });
});
