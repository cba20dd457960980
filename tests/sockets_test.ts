/** From a request for a WebSocket to the hub, with a hub that records what HTTP asks of it. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ChatError, nameInUse } from "../lib/errors.ts";
import type { JoinRequest } from "../lib/http/rooms.ts";
import { createSecret, hashSecret } from "../lib/people/secrets.ts";
import { Client } from "./support/client.ts";
import { serveFakeApp } from "./support/fake_app.ts";
import { knock, Visitor } from "./support/people.ts";
import { frame, OPCODE, RawClient } from "./support/raw.ts";

const V1 = ["chat.v1"];

/** The next turn of the event loop, and what it brings. */
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

  it("without a name has the name of its account", async () => {
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

  it("is proven by an account, and by a guest that shows its secret", async () => {
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

  it("of a guest with two secrets is of the one in the query, which a program chose", async () => {
    await using server = serveFakeApp();
    const [shown, cookie] = [createSecret(), createSecret()];
    const headers = { Cookie: `hubbub_guest=${cookie}` };
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

  it("of a foreign page, or one too many, is refused before the token is read", async () => {
    for (const route of ["/ws/r?username=bob&", "/ws?", "/echo?"]) {
      await using server = serveFakeApp({ JOIN_RATE_PER_ADDRESS: "1" });
      server.store.failure = new Error("The store was asked.");
      const path = `${route}token=${createSecret()}`;
      assertEquals((await knock(server, path, { Origin: "https://evil.example" })).status, 403);
      // The refusal of the foreign page took nothing from the allowance of the address.
      for (let i = 0; i < 5; i++) assertEquals((await knock(server, path)).status, 500);
      assertEquals((await knock(server, path)).status, 429);
    }
  });
});

describe("A socket", () => {
  it("gives the hub what it receives, until it closes: then the member leaves, once", async () => {
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

  it("that sends binary is dismissed with 1003, and the log says who", async () => {
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

  it("that the room no longer admits when it opens receives the reason, and is no member", async () => {
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
  it("closes for a client that sends and does not read, before much waits for it", async () => {
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

describe("A member whose right has ended while it joined", () => {
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

  it("receives nothing more if it has left already", async () => {
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

  it("stays if it has no name that could be registered", async () => {
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

  it("that is one too many when it opens receives the reason in its own format", async () => {
    const CASES: [path: string, text: string | undefined][] = [
      ["/echo", undefined],
      ["/ws/r?format=text", "Error: The server is full. Try again later."],
    ];
    for (const [path, text] of CASES) {
      await using server = serveFakeApp({ MAX_CONNECTIONS: "1" });
      const token = server.signIn("alice");
      // Both are checked before either is open.
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
