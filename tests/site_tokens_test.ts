/** People signed in by the operator's own site, over HTTP, sockets and streams. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { Buffer } from "node:buffer";
import { generateKeyPairSync, sign as signWithKey } from "node:crypto";
import { Connection } from "../public/connection.js";
import { makeFolder } from "./support/folder.ts";
import { call, cookieName, knock, register, signUp } from "./support/people.ts";
import { startServer, type TestServer } from "./support/server.ts";
import { inSeconds, sign, SIGN_IN_SECRET, siteToken } from "./support/site_token.ts";
import { StreamReader } from "./support/stream_reader.ts";
import { V1Client } from "./support/v1_client.ts";

const NOT_SIGNED =
  "The token of your site must be a JWT that HS256 signs with the server's SIGN_IN_SECRET.";
const ENDED = "Your session has ended. Sign in again.";

let server: TestServer;
let ids = 0;

beforeAll(async () => {
  server = await startServer({ SIGN_IN_SECRET, GUESTS: "off", ADMINS: "Root" });
});

afterAll(async () => {
  await server.stop();
  assertEquals(server.log.filter(({ level }) => level === "error"), []);
});

/** A unique id or name. */
const fresh = (kind: string) => `${kind}-${++ids}`;

async function join(token: string, room: string, at = server): Promise<V1Client> {
  const client = await V1Client.connect(`${at.ws}/ws/${room}?token=${token}`);
  await client.peek("welcome");
  return client;
}

function post(token: string, room: string, content: string, at = server, key = fresh("key")) {
  const headers = { "idempotency-key": key };
  return call(at, "POST", `/api/rooms/${room}/messages`, { token, headers, body: { content } });
}

const claims = (more: Record<string, unknown> = {}) => ({
  sub: "42",
  name: "Ada",
  exp: inSeconds(600),
  ...more,
});

const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });

/** A token signed by a key pair, as its header claims. */
function signRs256(): string {
  const text = ['{"alg":"RS256"}', JSON.stringify(claims())]
    .map((part) => Buffer.from(part).toString("base64url")).join(".");
  return `${text}.${signWithKey("sha256", Buffer.from(text), privateKey).toString("base64url")}`;
}

/** The parts of a valid token. */
const parts = () => sign(claims()).split(".") as [string, string, string];

const withHeader = (header: unknown) => sign(claims(), { header });

/** Tokens with a wrong signature. */
const FORGED: Record<string, () => string> = {
  "algorithm none": () => withHeader({ alg: "none" }),
  "algorithm none without a signature": () => `${withHeader({ alg: "none" }).slice(0, -43)}`,
  "algorithm None": () => withHeader({ alg: "None" }),
  "another spelling of the algorithm": () => withHeader({ alg: "hs256" }),
  "a list of algorithms": () => withHeader({ alg: ["HS256"] }),
  "no algorithm": () => withHeader({ typ: "JWT" }),
  "HS512": () => sign(claims(), { header: { alg: "HS512" }, hash: "sha512" }),
  "HS512 that is HS256": () => withHeader({ alg: "HS512" }),
  "RS256": signRs256,
  "RS256 that is HS256": () => withHeader({ alg: "RS256" }),
  "HS256 by a public key": () =>
    sign(claims(), { secret: publicKey.export({ type: "spki", format: "pem" }) as string }),
  "an extension": () => withHeader({ alg: "HS256", b64: false, crit: ["b64"] }),
  "another secret": () => sign(claims(), { secret: `${SIGN_IN_SECRET}.` }),
  "an empty secret": () => sign(claims(), { secret: "" }),
  "other claims": () => parts().with(1, sign(claims({ sub: "1" })).split(".")[1]!).join("."),
  "another header": () => parts().with(0, withHeader({ alg: "HS256" }).split(".")[0]!).join("."),
  "half a signature": () => sign(claims()).slice(0, -20),
  "a longer signature": () => `${sign(claims())}AAAA`,
  "a padded signature": () => `${sign(claims())}=`,
  "five parts": () => `${sign(claims())}.AAAA.AAAA`,
  "two parts": () => parts().slice(1).join("."),
  "dots": () => "..",
  "a header that is null": () => withHeader(null),
  "a header that is no JSON": () => withHeader("alg: HS256"),
  "a header with an inherited algorithm": () => withHeader('{"__proto__":{"alg":"HS256"}}'),
  "a deep header": () => withHeader("[".repeat(1500)),
  "a huge header": () => withHeader({ alg: "HS256", x: "x".repeat(9000) }),
  "huge claims": () => sign(claims({ x: "x".repeat(9000) })),
};

/** Signed tokens with wrong claims, and the sentence about each. */
const WRONG: Record<string, [claims: () => unknown, sentence: string]> = {
  "another receiver": [() => claims({ aud: "other-service" }), "must have no aud"],
  "no end": [() => ({ ...claims(), exp: undefined }), "needs exp"],
  "an end in text": [() => claims({ exp: String(inSeconds(600)) }), "needs exp"],
  "an end that is null": [() => claims({ exp: null }), "needs exp"],
  "an end in milliseconds": [() => claims({ exp: Date.now() + 600_000 }), "needs exp"],
  "an end in 25 hours": [() => claims({ exp: inSeconds(25 * 3600) }), "needs exp"],
  "an endless end": [() => '{"sub":"42","name":"Ada","exp":1e999}', "needs exp"],
  "a past end": [() => claims({ exp: inSeconds(-1) }), ENDED],
  "an end before 1970": [() => claims({ exp: -1 }), ENDED],
  "a start in the future": [() => claims({ nbf: inSeconds(90) }), "is not valid yet"],
  "a start in text": [() => claims({ nbf: "0" }), "is not valid yet"],
  "a future issue": [() => claims({ iat: inSeconds(90) }), "is not valid yet"],
  "no id": [() => ({ ...claims(), sub: undefined }), "needs sub"],
  "an empty id": [() => claims({ sub: "" }), "needs sub"],
  "an id that is a number": [() => claims({ sub: 42 }), "needs sub"],
  "a long id": [() => claims({ sub: "x".repeat(65) }), "needs sub"],
  "an id with NUL": [() => claims({ sub: "4\0" }), "needs sub"],
  "an id with a line break": [() => claims({ sub: "4\n2" }), "needs sub"],
  "an id with half a letter": [() => claims({ sub: "\ud83c" }), "needs sub"],
  "no name": [() => ({ ...claims(), name: undefined }), "needs name"],
  "a name that is a list": [() => claims({ name: ["Ada"] }), "needs name"],
  "the server's name": [() => claims({ name: "Server" }), "The username is reserved"],
  "a name with direction": [() => claims({ name: "A\u202eda" }), "has a bad name."],
  "a long name": [() => claims({ name: "x".repeat(33) }), "must be 1 to 32 characters"],
  "claims that are null": [() => null, "needs exp"],
  "claims that are a list": [() => [claims()], "needs exp"],
  "claims that are no JSON": [() => "sub=42", "needs exp"],
  "inherited claims": [() => `{"__proto__":${JSON.stringify(claims())}}`, "needs exp"],
  "deep claims": [() => "[".repeat(1500) + "]".repeat(1500), "needs exp"],
};

/** Asserts that every route refuses a token with the same sentence. */
async function assertRefused(token: string, sentence: string): Promise<void> {
  const byHeader = await post(token, "r", "hello");
  assertEquals(byHeader.status, 401);
  assertStringIncludes(byHeader.body.error, sentence);
  const { error } = byHeader.body;
  const query = `token=${encodeURIComponent(token)}`;
  const { status, body } = await call(server, "GET", `/api/session?${query}`);
  assertEquals([status, body.error], [401, error]);
  assertEquals((await call(server, "GET", `/api/rooms/r/events?${query}`)).body.error, error);
  const { status: socket, error: why } = await knock(server, `/ws/r?${query}`);
  assertEquals([socket, why], [401, error]);
}

describe("A token of the operator's site", () => {
  it("signs in its person for sockets, streams, posts and reads", async () => {
    const room = fresh("room");
    const name = fresh("Ada");
    const token = siteToken(fresh("id"), name, { nbf: inSeconds(30), iat: inSeconds(0), iss: "x" });
    await using socket = await join(token, room);
    const welcome = await socket.nextOf("welcome");
    assertEquals([welcome.username, welcome.session, welcome.role], [name, "", "member"]);
    const posted = await post(token, room, "over HTTP");
    assertEquals([posted.status, posted.body.username], [201, name]);
    assertEquals((await socket.nextOf("chat")).username, name);
    const headers = { authorization: `Bearer ${token}` };
    await using stream = await StreamReader.join(server, room, { headers });
    assertEquals(stream.welcome.username, name);
    const present = await call(server, "GET", `/api/rooms/${room}/presence?token=${token}`);
    assertEquals(present.body.users, [{ username: name, connections: 2 }]);
    const session = await call(server, "GET", "/api/session", { token });
    assertEquals(session.body, { username: name, admin: false, guests: false });
    // Guests stay out.
    assertEquals((await knock(server, `/ws/${room}?username=${fresh("guest")}`)).status, 401);
    assert(!JSON.stringify(server.log).includes(token.slice(-43)));
  });

  it("is refused with a sentence on every route without a valid signature", async () => {
    for (const [what, forge] of Object.entries(FORGED)) {
      await assertRefused(forge(), NOT_SIGNED).catch((error) => {
        throw new Error(`${what}: ${error.message}`);
      });
    }
  });

  it("is refused with a sentence that names the wrong claim", async () => {
    for (const [what, [make, sentence]] of Object.entries(WRONG)) {
      await assertRefused(sign(make()), sentence).catch((error) => {
        throw new Error(`${what}: ${error.message}`);
      });
    }
  });

  it("is ignored in a cookie, and everywhere without the setting", async () => {
    const token = siteToken(fresh("id"), fresh("Ada"));
    const cookie = `${cookieName(server, "session")}=${token}`;
    assertEquals((await knock(server, "/ws/r", { Cookie: cookie })).error, ENDED);
    await using other = await startServer();
    assertEquals((await post(token, "r", "hello", other)).body.error, ENDED);
  });

  it("names one person under every name", async () => {
    const room = fresh("room");
    const [id, name] = [fresh("id"), fresh("Ada")];
    const { body: { id: message } } = await post(siteToken(id, name), room, "hello");
    const edit = (token: string) =>
      call(server, "POST", `/api/rooms/${room}/commands`, {
        token,
        body: { type: "edit", id: message, content: "hello!", ref: "1" },
      });
    assertEquals((await edit(siteToken(fresh("id"), name))).status, 403);
    assertEquals((await edit(siteToken(id, fresh("Lovelace")))).status, 200);
  });

  it("accepts any text as an id, and each as another person", async () => {
    await using folder = await makeFolder();
    const env = { SIGN_IN_SECRET, DATABASE_URL: `sqlite:${folder.path}/chat.db` };
    await using lasting = await startServer(env);
    const texts = ["Zoë 🎲", "Zoe\u0308 🎲", "';--", "a:b/{c}%00\\", "__proto__", "a@b.example"];
    for (const id of texts) {
      for (const duplicate of [undefined, true]) {
        const { body } = await post(siteToken(id, "Ada"), "r", `I am ${id}`, lasting, "the key");
        assertEquals(body.duplicate, duplicate, id);
      }
    }
  });

  it("gives its name, unless an account or another person has that", async () => {
    const [room, id, name] = [fresh("room"), fresh("id"), fresh("Ada")];
    const token = siteToken(id, name);
    await using first = await join(token, room);
    await using second = await join(siteToken(id, name), room);
    assertEquals((await second.nextOf("welcome")).online, 1);
    const other = siteToken(fresh("id"), name);
    assertEquals((await knock(server, `/ws/${room}?token=${other}`)).status, 409);
    const { status, error } = await knock(server, `/ws/${room}?username=Eve&token=${token}`);
    assertEquals([status, error], [403, `You are signed in as ${name}. Use that name.`]);
    const BELONGS = "This name belongs to an account. Sign in, or choose another name.";
    assertEquals((await post(siteToken(id, "root"), room, "hello")).body.error, BELONGS);
    await signUp(server, name);
    assertEquals((await first.closed).code, 4001);
    assertEquals((await post(token, room, "hello")).body.error, BELONGS);
  });

  it("gives no rights of an account", async () => {
    const [room, name] = [fresh("room"), fresh("Ada")];
    const token = siteToken(fresh("id"), name);
    const SIGN_IN = "Sign in to do this.";
    const password = "correct horse battery";
    for (
      const [method, path, body] of [
        ["PUT", `/api/rooms/${room}`, { private: true }],
        ["POST", "/api/tokens", { name: "bot" }],
        ["GET", "/api/tokens", undefined],
        ["POST", "/api/password", { password, new_password: password }],
        ["DELETE", "/api/account", { password }],
        ["POST", "/api/logout?everywhere=1", undefined],
      ] as const
    ) {
      const { status, body: answer } = await call(server, method, path, { token, body });
      assertEquals([status, answer.error], [401, SIGN_IN], path);
    }
    await using member = await join(token, room);
    for (const command of [{ type: "room", private: true }, { type: "kick", username: "x" }]) {
      const answer = await member.ask(command);
      assert(answer.type === "error" && answer.code === "forbidden");
    }
    const owner = await signUp(server, fresh("owner"));
    const own = fresh("room");
    await call(server, "PUT", `/api/rooms/${own}`, { token: owner, body: { private: true } });
    assertEquals((await knock(server, `/ws/${own}?token=${token}`)).status, 403);
  });

  it("is banned as a person, whatever its name", async () => {
    const [room, id, name] = [fresh("room"), fresh("id"), fresh("Ada")];
    const owner = await signUp(server, fresh("owner"));
    await call(server, "PUT", `/api/rooms/${room}`, { token: owner, body: { moderators: [] } });
    await using member = await join(siteToken(id, name), room);
    await using moderator = await join(owner, room);
    await moderator.ask({ type: "kick", username: name, ban: true });
    assertEquals((await member.closed).code, 4003);
    const again = siteToken(id, fresh("Lovelace"));
    assertEquals((await knock(server, `/ws/${room}?token=${again}`)).status, 403);
  });

  it("counts its connections for one person", async () => {
    const env = { SIGN_IN_SECRET, MAX_CONNECTIONS_PER_ACCOUNT: "1" };
    await using strict = await startServer(env);
    const [id, name] = [fresh("id"), fresh("Ada")];
    await using _first = await join(siteToken(id, name), "r", strict);
    assertEquals((await knock(strict, `/ws/s?token=${siteToken(id, "Eve")}`)).status, 429);
    await using _other = await join(siteToken(fresh("id"), "Eve"), "s", strict);
  });

  it("closes its sockets and streams at its end, and a new one resumes", async () => {
    const [room, id, name] = [fresh("room"), fresh("id"), fresh("Ada")];
    const short = siteToken(id, name, { exp: inSeconds(1.5) });
    await using stream = await StreamReader.join(server, room, { query: { token: short } });
    const connection = new Connection({ base: server.url, room, token: short });
    const heard: string[] = [];
    const heardThree = new Promise<void>((resolve) =>
      connection.on("events", (events) => {
        for (const event of events) if (event.type === "chat") heard.push(event.content);
        if (heard.length === 3) resolve();
      })
    );
    const until = (wanted: string) =>
      new Promise<object>((resolve) => {
        const stop = connection.on("state", (what) => {
          if (what.state !== wanted) return;
          stop();
          resolve(what);
        });
      });
    const live = until("live");
    connection.open();
    await live;
    const refused = until("refused");
    assertEquals(await refused, { state: "refused", reason: ENDED, code: 4001 });
    assertEquals((await stream.end())?.code, 4001);
    const other = siteToken(fresh("id"), fresh("Bob"));
    await post(other, room, "one");
    await post(other, room, "two");
    const again = until("live");
    connection.open({ token: siteToken(id, name) });
    await again;
    await post(other, room, "three");
    await heardThree;
    assertEquals(heard, ["one", "two", "three"]);
    await connection.close();
  });
});

describe("REGISTRATION=off", () => {
  it("allows new accounts only for admins, with their code", async () => {
    await using closed = await startServer({ REGISTRATION: "off", ADMINS: "Root" });
    const { status, body } = await register(closed, "alice");
    assertEquals([status, body.error], [
      403,
      "Only admins can make an account here. Ask the server's operator.",
    ]);
    assertEquals((await register(closed, "Root")).status, 201);
  });
});
