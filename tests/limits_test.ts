/** Every limit with its own error, and the origins that may connect. */

import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ChatError } from "../lib/errors.ts";
import { addressKey } from "../lib/http/addresses.ts";
import { type Closable, type ConnectionLimits, Connections } from "../lib/http/connections.ts";
import { Client } from "./support/client.ts";
import { createHub } from "./support/fake_hub.ts";
import { call, knock, login, register, signUp, soon, Visitor } from "./support/people.ts";
import { concat, frame, handshake, RawClient } from "./support/raw.ts";
import { startServer, type TestServer } from "./support/server.ts";
import { V1Client } from "./support/v1_client.ts";

/** Runs a test on a server with these settings. Nothing unexpected may be in its log. */
async function on(
  env: Record<string, string>,
  test: (server: TestServer) => Promise<void>,
): Promise<void> {
  const server = await startServer(env);
  try {
    await test(server);
  } finally {
    await server.stop();
  }
  assertEquals(server.log.filter(({ level }) => level === "error"), []);
}

const range = (count: number) => Array.from({ length: count }, (_, i) => i);

/** Opens connections without a name in the lobby; the caller closes them. */
const openMany = (server: TestServer, count: number, query = "") =>
  Promise.all(range(count).map(() => Visitor.open(server, `/ws${query}`)));

describe("MESSAGE_RATE and MESSAGE_BURST", () => {
  const RARE = { MESSAGE_RATE: "1", MESSAGE_BURST: "5" };

  it("refuse excess messages with the ref and the wait, and deliver none of them", () =>
    on(RARE, async (server) => {
      await using alice = await V1Client.join(server.ws, "r", "alice");
      await using bob = await V1Client.join(server.ws, "r", "bob");
      for (const i of range(20)) alice.send({ type: "chat", content: `${i}`, ref: `r${i}` });
      await alice.next(() => alice.all("ack").length + alice.all("error").length === 20);
      const [acks, errors] = [alice.all("ack"), alice.all("error")];
      assert(acks.length >= 5 && acks.length < 12, `${acks.length} were accepted.`);
      for (const { code, content, retry_after: seconds } of errors) {
        assertEquals(code, "rate_limited");
        assertStringIncludes(content, `Wait ${seconds} seconds.`);
        assert(seconds! > 0 && seconds! <= 1, `${seconds}`);
      }
      const refs = [...acks, ...errors].map(({ ref }) => ref).sort();
      assertEquals(refs, range(20).map((i) => `r${i}`).sort());
      // Others got exactly the acked messages, and so did the store.
      await bob.nextOf("chat", ({ seq }) => seq === acks.length);
      await using late = await V1Client.join(server.ws, "r", "late");
      const page = await late.ask({ type: "history" });
      const stored = page.type === "history" ? page.messages : [];
      const accepted = acks.map(({ ref }) => ref!.slice(1));
      assertEquals(stored.map(({ content }) => content), accepted);
      assertEquals(bob.all("chat").map(({ content }) => content), accepted);
    }));

  it("count each connection separately, and every command, bad ones too", () =>
    on(RARE, async (server) => {
      await using alice = await V1Client.join(server.ws, "r", "alice");
      await using bob = await V1Client.join(server.ws, "r", "bob");
      const commands = ["ping", "typing", "history", "nonsense", "dm", "edit", "kick", "room"];
      for (const type of [...commands, ...commands]) alice.send({ type, ref: type });
      alice.socket.send("no JSON");
      await alice.next(() => alice.all("error").some(({ code }) => code === "rate_limited"));
      assertEquals((await bob.ask({ type: "ping" })).type, "pong");
    }));

  it("apply to plain clients and the raw relay, in their own formats", () =>
    on(RARE, async (server) => {
      await using plain = await Client.join(server.ws, "r", "alice");
      await using relay = await Client.connect(`${server.ws}/ws`);
      for (const i of range(12)) {
        plain.send(`plain ${i}`);
        relay.send(`raw ${i}`);
      }
      const refusal = await plain.nextFrame(({ code }) => code === "rate_limited");
      assertMatch(refusal.content, /^Too many messages at once\. Wait [\d.]+ seconds\.$/);
      while (!(await relay.nextText()).startsWith("Error: Too many messages at once."));
    }));

  it("disconnect a member that goes on, with an error and 4029", () =>
    on({ MESSAGE_RATE: "1", MESSAGE_BURST: "1" }, async (server) => {
      await using witness = await V1Client.join(server.ws, "r", "witness");
      const mallory = await V1Client.join(server.ws, "r", "mallory");
      let isClosed = false;
      const closed = mallory.closed.then((closed) => {
        isClosed = true;
        return closed;
      });
      // One by one: the runtime drops queued frames when more input arrives.
      let asked = 0;
      for (; !isClosed && asked < 2000; asked++) {
        mallory.send({ type: "chat", content: `${asked}` });
        await mallory.next(({ type }) => type === "error" || type === "chat").catch(() => closed);
        await Promise.race([closed, new Promise((resolve) => setTimeout(resolve))]);
      }
      const { code, reason } = await soon(closed);
      assertEquals([code, reason], [4029, "too much at once, come back later"]);
      assertEquals(mallory.all("error").at(-1)!.code, "rate_limited");
      await witness.nextOf("user_left", ({ username }) => username === "mallory");
      await using back = await V1Client.join(server.ws, "r", "mallory");
      assertEquals(back.welcome.online, 2);
    }));

  for (const text of ["hello", '{"type":"nonsense"}', '{"type":"chat"}', '{"type":']) {
    it(`end a flood of ${text} in one write, and deliver almost nothing of it`, () =>
      on({ MESSAGE_RATE: "1", MESSAGE_BURST: "1" }, async (server) => {
        await using witness = await V1Client.join(server.ws, "r", "witness");
        using mallory = await RawClient.open(server.port, "/ws/r?username=mallory");
        await mallory.write(concat(range(2000).map(() => frame(text))));
        await witness.nextOf("user_left");
        const frames = await mallory.readFrames();
        assert(frames.length < 500, `${frames.length} frames were answered.`);
        const heard = witness.all("chat").length;
        assert(heard < 20, `${heard} were heard.`);
      }));
  }

  it("disconnect a member that sends five times its rate, however evenly", async () => {
    const { hub, join, pass } = createHub({ messageRate: { perSecond: 10, burst: 30 } });
    const { peer, member } = await join("mallory");
    for (let sent = 0; peer.closed === undefined && sent < 1000; sent++) {
      hub.receive(member, "flood");
      pass(20);
    }
    assertEquals(peer.closed, 4029);
  });

  it("forgive a member that pauses, however often it was refused", async () => {
    const { hub, join, pass } = createHub({ messageRate: { perSecond: 10, burst: 30 } });
    const { peer, member } = await join("alice");
    for (let burst = 0; burst < 10; burst++) {
      for (const i of range(80)) hub.receive(member, `${i}`);
      pass(3000);
    }
    assertEquals(peer.closed, undefined);
  });

  for (const env of [{ MESSAGE_RATE: "0" }, { MESSAGE_RATE: "1", MESSAGE_BURST: "0" }]) {
    it(`with ${JSON.stringify(env)} refuse nothing`, () =>
      on(env, async (server) => {
        await using alice = await V1Client.join(server.ws, "r", "alice");
        for (const i of range(500)) alice.send({ type: "chat", content: `${i}` });
        await alice.nextOf("chat", ({ seq }) => seq === 500);
        assertEquals(alice.all("error"), []);
      }));
  }
});

describe("JOIN_RATE_PER_ADDRESS", () => {
  it("refuses handshakes beyond five times the rate at once: 429 with Retry-After", () =>
    on({ JOIN_RATE_PER_ADDRESS: "1" }, async (server) => {
      const answers = [];
      for (const _ of range(12)) answers.push(await knock(server, "/ws/r?username=alice"));
      const refused = answers.filter(({ status }) => status === 429);
      assert(refused.length >= 4 && refused.length <= 7, `${refused.length} were refused.`);
      for (const { error, headers } of refused) {
        assertEquals(error, "Too many connections at once from your address. Wait 1 seconds.");
        assertEquals(headers.get("retry-after"), "1");
      }
      // For every route, and by plain GET with the same sentence.
      const ways = ["/ws", "/echo", "/ws/r?username=x"];
      for (const path of ways) {
        const { status, headers, body } = await call(server, "GET", path);
        if (status === 429) assertEquals(headers.get("retry-after"), "1");
        assert([426, 429].includes(status), `${path}: ${status} ${JSON.stringify(body)}`);
      }
      // The rest of the server still answers.
      assertEquals((await call(server, "GET", "/health")).status, 200);
    }));

  it("at 0 refuses nothing", () =>
    on({ JOIN_RATE_PER_ADDRESS: "0" }, async (server) => {
      for (const _ of range(150)) {
        assertEquals((await call(server, "GET", "/ws/r?username=alice")).status, 426);
      }
    }));
});

describe("AUTH_RATE_PER_ADDRESS", () => {
  it("refuses attempts to register or sign in: 429 with Retry-After, before any hashing", () =>
    on({ AUTH_RATE_PER_ADDRESS: "2" }, async (server) => {
      assertEquals((await register(server, "alice", "short")).status, 400);
      assertEquals((await login(server, "nobody", "wrong")).status, 401);
      for (const attempt of [register, login]) {
        const { status, body, headers } = await attempt(server, "alice");
        assertEquals(status, 429);
        const seconds = Number(headers.get("retry-after"));
        assert(seconds >= 1 && seconds <= 30, `${seconds}`);
        assertEquals(body.error, `Too many attempts from your address. Wait ${seconds} seconds.`);
        assertEquals(headers.get("set-cookie"), null);
      }
      // Signed-in people and guests are not affected.
      assertEquals((await call(server, "GET", "/api/session")).status, 200);
      assertEquals((await call(server, "GET", "/ws/r?username=bob")).status, 426);
    }));

  it("at 0 refuses nothing", () =>
    on({ AUTH_RATE_PER_ADDRESS: "0" }, async (server) => {
      for (const _ of range(15)) {
        assertEquals((await register(server, "bob", "short")).status, 400);
      }
    }));
});

describe("MAX_CONNECTIONS", () => {
  it("refuses one more with 503, by upgrade and by plain GET, until one closes", () =>
    on({ MAX_CONNECTIONS: "3" }, async (server) => {
      const open = await openMany(server, 2);
      await using alice = await V1Client.join(server.ws, "r", "alice");
      for (const path of ["/ws", "/ws/r?username=bob", "/echo"]) {
        const { status, error } = await knock(server, path);
        assertEquals([status, error], [503, "The server is full. Try again later."], path);
        assertEquals((await call(server, "GET", path)).status, 503);
      }
      assertEquals((await alice.ask({ type: "ping" })).type, "pong");
      for (const visitor of open) visitor.close();
      await server.logged("left", 2);
      await using bob = await V1Client.join(server.ws, "r", "bob");
      assertEquals(bob.welcome.online, 2);
    }));

  it("holds for many simultaneous connections", () =>
    on({ MAX_CONNECTIONS: "10" }, async (server) => {
      await holdsAgainst(server, 60, 10);
    }));

  it("at 0 is no limit, and so are the other limits of connections", () =>
    on({
      MAX_CONNECTIONS: "0",
      MAX_CONNECTIONS_PER_ADDRESS: "0",
      MAX_CONNECTIONS_PER_ACCOUNT: "0",
    }, async (server) => {
      const token = await signUp(server, "alice");
      const open = await openMany(server, 300, `?token=${token}`);
      assertEquals(open.length, 300);
      for (const visitor of open) visitor.close();
    }));
});

/** Many connect at once. At most `max` may be open at a time, and stay open. */
async function holdsAgainst(server: TestServer, crowd: number, most: number): Promise<void> {
  const clients = await Promise.all(range(crowd).map(() => RawClient.connect(server.port)));
  const targets = range(crowd).map((i) => `/ws/r?username=user-${i}`);
  await Promise.all(clients.map((client, i) => client.write(handshake(targets[i]!))));
  const answers = await Promise.all(clients.map((client) => client.readAnswer()));
  const upgraded = clients.filter((_, i) => answers[i]!.status === 101);
  assert(upgraded.length >= most, `${upgraded.length} were let in.`);
  // The first frame tells the admitted ones: members get online_users, others an error.
  const first = await Promise.all(upgraded.map(async (client) => (await client.readFrame())?.text));
  const members = first.filter((text) => text?.includes('"online_users"'));
  assertEquals(members.length, most);
  for (const client of clients) client.close();
}

describe("MAX_CONNECTIONS_PER_ADDRESS", () => {
  it("refuses one more from the same address with 429, and no other address", () =>
    on({ MAX_CONNECTIONS_PER_ADDRESS: "2", TRUST_PROXY: "1" }, async (server) => {
      const from = (address: string) => ({ "X-Forwarded-For": address });
      const open = [];
      for (const _ of range(2)) open.push(await Visitor.open(server, "/ws", from("192.0.2.1")));
      const sentence = "Your address has too many connections. Close some first.";
      for (const path of ["/ws", "/ws/r?username=bob", "/echo"]) {
        const { status, error } = await knock(server, path, from("192.0.2.1"));
        assertEquals([status, error], [429, sentence], path);
      }
      open.push(await Visitor.open(server, "/ws", from("192.0.2.2")));
      // A /64 network is one address.
      for (const i of range(2)) {
        open.push(await Visitor.open(server, "/ws", from(`2001:db8::${i + 1}`)));
      }
      assertEquals((await knock(server, "/ws", from("2001:db8::3"))).status, 429);
      open.push(await Visitor.open(server, "/ws", from("2001:db8:0:1::3")));
      for (const visitor of open) visitor.close();
    }));

  it("holds for many simultaneous connections", () =>
    on({ MAX_CONNECTIONS_PER_ADDRESS: "10" }, async (server) => {
      await holdsAgainst(server, 60, 10);
    }));
});

describe("MAX_CONNECTIONS_PER_ACCOUNT", () => {
  it("refuses one more of the same account with 429, and no other account", () =>
    on({ MAX_CONNECTIONS_PER_ACCOUNT: "2" }, async (server) => {
      const [alice, bob] = [await signUp(server, "alice"), await signUp(server, "bob")];
      const open = [
        await Visitor.open(server, `/ws/a?token=${alice}`),
        await Visitor.open(server, `/ws/b?token=${alice}`),
      ];
      for (const path of [`/ws/c?token=${alice}`, `/ws?token=${alice}`, `/echo?token=${alice}`]) {
        const { status, error } = await knock(server, path);
        const sentence = "Your account has too many connections. Close some first.";
        assertEquals([status, error], [429, sentence], path);
      }
      open.push(await Visitor.open(server, `/ws/a?token=${bob}`));
      for (const i of range(3)) open.push(await Visitor.open(server, `/ws/a?username=guest-${i}`));
      for (const visitor of open) visitor.close();
    }));
});

describe("MAX_ROOMS", () => {
  it("refuses one more room with 503, and no existing room", () =>
    on({ MAX_ROOMS: "2" }, async (server) => {
      await using alice = await V1Client.join(server.ws, "a", "alice");
      await using _bob = await V1Client.join(server.ws, "b", "bob");
      const { status, error } = await knock(server, "/ws/c?username=carl");
      assertEquals([status, error], [503, "Too many rooms are open. Try again later."]);
      await using _carl = await V1Client.join(server.ws, "a", "carl");
      await alice.nextOf("user_joined", ({ username }) => username === "carl");
    }));

  it("at 0 is no limit", () =>
    on({ MAX_ROOMS: "0" }, async (server) => {
      for (const i of range(100)) {
        assertEquals((await call(server, "GET", `/ws/r${i}?username=alice`)).status, 426);
      }
    }));
});

describe("A request's body", () => {
  const ROUTES: [method: string, path: string][] = [
    ["POST", "/api/register"],
    ["POST", "/api/login"],
    ["PUT", "/api/rooms/r"],
  ];
  const SENTENCE = "A request may have at most 65536 bytes.";

  it("above 64 KiB gets 413, however it is sent", () =>
    on({}, async (server) => {
      for (const [method, path] of ROUTES) {
        const body = JSON.stringify({ username: "x".repeat(65536), password: "x" });
        const { status, body: answer } = await call(server, method, path, { body });
        assertEquals([status, answer], [413, { error: SENTENCE }], path);

        using chunked = await RawClient.connect(server.port);
        const chunk = `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`;
        await chunked.write(handshake(path, {
          method,
          headers: {
            "Upgrade": undefined,
            "Connection": undefined,
            "Content-Type": "application/json",
            "Transfer-Encoding": "chunked",
          },
          body: chunk,
        }));
        const raw = await chunked.readAnswer();
        assertEquals([raw.status, raw.body], [413, JSON.stringify({ error: SENTENCE })], path);
      }
    }));

  it("of 64 KiB is accepted", () =>
    on({}, async (server) => {
      const empty = JSON.stringify({ username: "", password: "" }).length;
      const body = JSON.stringify({ username: "x".repeat(65536 - empty), password: "" });
      assertEquals(body.length, 65536);
      assertEquals((await call(server, "POST", "/api/register", { body })).status, 400);
    }));
});

describe("TRUST_PROXY", () => {
  const FORWARDED = { "X-Forwarded-For": "203.0.113.7, 198.51.100.7" };

  for (const [value, address] of [["", "127.0.0.1"], ["1", "198.51.100.7"]] as const) {
    it(`${value || "off"} counts ${address} as the address, in limits and in the log`, () =>
      on({ TRUST_PROXY: value, AUTH_RATE_PER_ADDRESS: "1" }, async (server) => {
        using visitor = await Visitor.open(server, "/ws/r?username=bob", FORWARDED);
        await visitor.nextOf("user_joined");
        const { address: logged } = server.log.find(({ msg }) => msg === "joined")!;
        assertEquals(logged, address);
        const attempt = async (headers: Record<string, string>) =>
          (await register(server, "bob", "short", { headers })).status;
        assertEquals(await attempt(FORWARDED), 400);
        assertEquals(await attempt(FORWARDED), 429);
        const other = { "x-forwarded-for": "198.51.100.8" };
        assertEquals(await attempt(other), value === "1" ? 400 : 429);
        // Addresses that the client put before the proxy's have no effect.
        const forged = { "x-forwarded-for": "1.2.3.4, 198.51.100.7" };
        assertEquals(await attempt(forged), 429);
      }));
  }
});

describe("Origin", () => {
  const SENTENCE = "Pages of this origin may not use this server.";
  const LISTED = "https://site.example";
  const CASES: [what: string, allowed: string, origin: string | undefined, isAllowed: boolean][] = [
    ["none, as of a program", "", undefined, true],
    ["the server's own", "", "http://SELF", true],
    ["the server's own over https", "", "https://SELF", true],
    ["a foreign one", "", "https://evil.example", false],
    ["the server's host on another port", "", "http://127.0.0.1:1", false],
    ["null, as of a sandboxed frame", "", "null", false],
    ["one that is listed", LISTED, LISTED, true],
    ["the server's own, with others listed", LISTED, "http://SELF", true],
    ["none, with others listed", LISTED, undefined, true],
    ["one like a listed one", LISTED, "https://site.example.evil.example", false],
    ["the listed one over http", LISTED, "http://site.example", false],
    ["any, with * allowed", "*", "https://evil.example", true],
    ["null, with * allowed", "*", "null", true],
  ];
  for (const [what, allowed, origin, isAllowed] of CASES) {
    it(`${what}, is ${isAllowed ? "allowed" : "refused with 403"}, on every route`, () =>
      on({ ALLOWED_ORIGINS: allowed }, async (server) => {
        const self = `127.0.0.1:${server.port}`;
        const headers = { Host: self, Origin: origin?.replace("SELF", self) };
        for (const path of ["/ws", "/ws/r?username=bob", "/echo"]) {
          const { status, error } = await knock(server, path, headers);
          assertEquals([status, error], isAllowed ? [101, ""] : [403, SENTENCE], path);
        }
        const plain = { ...headers, Upgrade: undefined, Connection: undefined };
        const session = await knock(server, "/api/session", plain);
        assertEquals(
          [session.status, session.error],
          isAllowed ? [200, undefined] : [403, SENTENCE],
        );
        // A form of another site also fails for its content type.
        for (const path of ["/api/register", "/api/login", "/api/logout"]) {
          using client = await RawClient.connect(server.port);
          const form = { ...plain, "Content-Type": "text/plain", "Content-Length": "2" };
          await client.write(handshake(path, { method: "POST", headers: form, body: "{}" }));
          const { status } = await client.readAnswer("POST");
          const expected = path === "/api/logout" ? 204 : 400;
          assertEquals(status, isAllowed ? expected : 403, path);
        }
      }));
  }
});

/** Connections with only these limits. */
function createConnections(limits: Partial<ConnectionLimits> = {}): Connections {
  return new Connections({
    maxConnections: Infinity,
    maxConnectionsPerAddress: Infinity,
    maxConnectionsPerAccount: Infinity,
    ...limits,
  });
}

/** A connection that records its close. */
function createConnection(): Closable & { closed: unknown[] } {
  const closed: unknown[] = [];
  return { closed, close: (code, reason) => void closed.push([code, reason]) };
}

/** The refusal of a check. */
function refusal(check: () => void): unknown[] {
  const { code, retryAfter } = assertThrows(check, ChatError);
  return [code, retryAfter];
}

const CLOSE = { code: 1012, reason: "server is restarting", reconnect: true };

describe("Connections", () => {
  it("admits the maximum, and one more when one closes", () => {
    const connections = createConnections({ maxConnections: 2 });
    const [first, second] = [createConnection(), createConnection()];
    connections.add(first, {});
    connections.check({});
    connections.add(second, {});
    assertEquals(connections.size, 2);
    assertEquals(refusal(() => connections.check({})), ["full", undefined]);
    assertEquals(refusal(() => connections.add(createConnection(), {})), ["full", undefined]);
    assertEquals(connections.size, 2);
    connections.delete(first);
    connections.add(createConnection(), {});
  });

  it("counts an IPv6 network as one address, and an unknown address as one", () => {
    const connections = createConnections({ maxConnectionsPerAddress: 1 });
    const holder = (address?: string) => ({ address: addressKey(address) });
    connections.add(createConnection(), holder("2001:db8::1"));
    connections.add(createConnection(), holder("192.0.2.1"));
    connections.add(createConnection(), holder());
    for (const address of ["2001:db8::2", "192.0.2.1", undefined]) {
      assertEquals(refusal(() => connections.check(holder(address))), ["rate_limited", 10]);
    }
    connections.check(holder("192.0.2.2"));
  });

  it("counts the connections of an account, without guests", () => {
    const connections = createConnections({ maxConnectionsPerAccount: 1 });
    connections.add(createConnection(), { account: "alice" });
    assertEquals(refusal(() => connections.check({ account: "alice" })), ["rate_limited", 10]);
    connections.check({ account: "bob" });
    for (const _ of [1, 2, 3]) connections.add(createConnection(), {});
  });

  it("frees a place once, even if a connection is deleted twice", () => {
    const limits = { maxConnectionsPerAddress: 2, maxConnectionsPerAccount: 2 };
    const connections = createConnections(limits);
    const holder = { address: "192.0.2.1", account: "alice" };
    const [first, second] = [createConnection(), createConnection()];
    connections.add(first, holder);
    connections.add(second, holder);
    for (const _ of [1, 2, 3]) connections.delete(first);
    assertEquals(connections.size, 1);
    connections.add(createConnection(), holder);
    assertEquals(refusal(() => connections.check({ address: "192.0.2.1" })), ["rate_limited", 10]);
    assertEquals(refusal(() => connections.check({ account: "alice" })), ["rate_limited", 10]);
  });
});

describe("Connections.closeAll", () => {
  it("asks every connection to close, and resolves when the last has closed", async () => {
    const connections = createConnections();
    const open = [createConnection(), createConnection()];
    for (const connection of open) connections.add(connection, {});
    let isDone = false;
    const done = connections.closeAll(CLOSE).then(() => isDone = true);
    for (const { closed } of open) assertEquals(closed, [[1012, "server is restarting"]]);
    connections.delete(open[0]!);
    await Promise.resolve().then(() => {}).then(() => {});
    assertEquals(isDone, false);
    connections.delete(open[1]!);
    await done;
  });

  it("resolves at once if nothing is open, and refuses every connection after it", async () => {
    const connections = createConnections();
    await connections.closeAll(CLOSE);
    assertEquals(refusal(() => connections.check({})), ["full", undefined]);
    assertEquals(refusal(() => connections.add(createConnection(), {})), ["full", undefined]);
  });
});
