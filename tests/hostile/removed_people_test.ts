/** A removed person stays out, under any name or without one. */

import { assert, assertEquals } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { createSecret } from "../../lib/people/secrets.ts";
import { Client } from "../support/client.ts";
import { call, cookieName, knock, signUp, Visitor } from "../support/people.ts";
import { Random, seeds } from "../support/random.ts";
import { frame, handshake, OPCODE, RawClient } from "../support/raw.ts";
import { startServer, type TestServer } from "../support/server.ts";
import { V1Client } from "../support/v1_client.ts";

const BANNED = "You are banned from this room.";
const V1 = { "Sec-WebSocket-Protocol": "chat.v1" };

let server: TestServer;
let root: string;
let rooms = 0;

beforeAll(async () => {
  server = await startServer({ ADMINS: "root", TRUST_PROXY: "1" });
  root = await signUp(server, "root");
});

afterAll(async () => {
  await server.stop();
  assertEquals(server.log.filter(({ level }) => level === "error"), []);
});

const newRoom = () => `room-${++rooms}`;
const admin = (room: string) => V1Client.connect(`${server.ws}/ws/${room}?token=${root}`);

async function visit(room: string, query: string, headers = {}): Promise<number> {
  return (await call(server, "GET", `/ws/${room}?${query}`, { headers })).status;
}

describe("A banned account", () => {
  it("stays banned as the guest of its browser, and is unbanned as both", async () => {
    const room = newRoom();
    const token = await signUp(server, "mallory");
    const guest = `${cookieName(server, "guest")}=${createSecret()}`;
    const cookie = `${guest}; ${cookieName(server, "session")}=${token}`;
    using browser = await Visitor.open(server, `/ws/${room}`, { Cookie: cookie, ...V1 });
    await browser.nextOf("welcome");
    await using moderator = await admin(room);
    const ban = { type: "kick", username: "mallory", ban: true };
    assertEquals((await moderator.ask(ban)).type, "ack");
    assertEquals(await browser.closeCode(), 4003);
    // It signs out, and returns under a new name.
    const { status, error } = await knock(server, `/ws/${room}?username=eve`, { Cookie: guest });
    assertEquals([status, error], [403, BANNED]);
    assertEquals(await visit(room, `username=mallory&token=${token}`), 403);
    // The ban affects nobody else and no other room.
    assertEquals(await visit(room, "username=eve"), 426);
    assertEquals(await visit(newRoom(), "username=eve", { Cookie: guest }), 426);
    assertEquals((await moderator.ask({ type: "room", unban: ["mallory"] })).type, "ack");
    assertEquals(await visit(room, "username=eve", { Cookie: guest }), 426);
  });

  it("is recognised by its session, and by those of all its connections", async () => {
    const room = newRoom();
    const token = await signUp(server, "trudy");
    const secrets = [createSecret(), createSecret(), createSecret()];
    const sockets = [];
    for (const secret of secrets) {
      sockets.push(
        await V1Client.connect(`${server.ws}/ws/${room}?token=${token}&session=${secret}`),
      );
    }
    for (const socket of sockets) await socket.nextOf("welcome");
    await using moderator = await admin(room);
    assertEquals((await moderator.ask({ type: "kick", username: "TRUDY", ban: true })).type, "ack");
    for (const socket of sockets) assertEquals((await socket.closed).code, 4003);
    for (const secret of secrets) {
      assertEquals(await visit(room, `username=free&session=${secret}`), 403);
    }
  });
});

describe("A banned guest", () => {
  it("stays banned as the account that it becomes", async () => {
    const room = newRoom();
    const secret = createSecret();
    const guest = await V1Client.join(server.ws, room, "bob", { session: secret });
    await using moderator = await admin(room);
    assertEquals((await moderator.ask({ type: "kick", username: "bob", ban: true })).type, "ack");
    assertEquals((await guest.closed).code, 4003);
    const token = await signUp(server, "bobby");
    assertEquals(await visit(room, `username=bobby&token=${token}&session=${secret}`), 403);
    assertEquals(await visit(room, `username=bobby&token=${token}`), 426);
  });
});

describe("A flood of nameless members", () => {
  /** A member of the raw relay, from an address. */
  async function relay(address: string): Promise<RawClient> {
    const client = await RawClient.connect(server.port);
    await client.write(handshake("/ws", { headers: { "X-Forwarded-For": address } }));
    assertEquals((await client.readAnswer()).status, 101);
    return client;
  }

  /** Its texts until the close, and the close code. */
  async function untilClosed(client: RawClient): Promise<string[]> {
    const texts: string[] = [];
    while (true) {
      const next = await client.readFrame();
      assert(next !== undefined, "The connection ended without a close.");
      if (next.opcode !== OPCODE.close) texts.push(next.text);
      else return [...texts, String(next.payload[0]! << 8 | next.payload[1]!)];
    }
  }

  for (const seed of seeds(1)) {
    it(`is ended by the id of any of its messages (SEED=${seed})`, async () => {
      const random = new Random(seed);
      await using moderator = await admin("lobby");
      await using bystander = await Client.join(server.ws, "lobby", "ann");
      const bad = `192.0.2.${random.between(1, 99)}`;
      const good = `192.0.2.${random.between(100, 199)}`;
      const flood = await Promise.all(Array.from({ length: 5 }, () => relay(bad)));
      using friend = await relay(good);
      for (const [i, client] of flood.entries()) await client.write(frame(`flood ${i}`));
      await friend.write(frame("hello"));
      const ids = new Map<string, string>();
      while (ids.size < 6) {
        const { content, id, username } = await moderator.nextOf("chat");
        assertEquals(username, "anonymous");
        ids.set(content, id);
      }
      // Without a ban it removes one connection.
      const one = random.below(flood.length);
      const kick = { type: "kick", id: ids.get(`flood ${one}`) };
      assertEquals((await moderator.ask({ ...kick, reason: "no flood" })).type, "ack");
      const sentence = "Error: You were removed from this room: no flood";
      assertEquals((await untilClosed(flood[one]!)).slice(-2), [sentence, "4003"]);
      const rest = flood.filter((_, i) => i !== one);
      const some = ids.get(`flood ${(one + 1) % flood.length}`);
      assertEquals((await moderator.ask({ type: "kick", id: some, ban: true })).type, "ack");
      for (const client of rest) {
        assertEquals((await untilClosed(client)).at(-1), "4003");
      }
      // The address loses its relays, but keeps its members with a name.
      const headers = { "X-Forwarded-For": bad };
      assertEquals(await call(server, "GET", "/ws", { headers }).then(({ status }) => status), 403);
      assertEquals(await visit("lobby", "username=zoe", headers), 426);
      await friend.write(frame("still here"));
      await bystander.nextFrame(({ content }) => content === "still here");
      // Its messages can be deleted, and the ban lifted.
      for (const [content, id] of ids) {
        if (content.startsWith("flood")) {
          assertEquals((await moderator.ask({ type: "delete", id })).type, "ack");
        }
      }
      assertEquals((await moderator.ask({ type: "room", unban: ["anonymous"] })).type, "ack");
      assertEquals(await call(server, "GET", "/ws", { headers }).then(({ status }) => status), 426);
      for (const client of flood) client.close();
    });
  }

  it("is ended only by moderators, and not by the id of their own or an unknown message", async () => {
    await using moderator = await admin("lobby");
    await using member = await V1Client.join(server.ws, "lobby", "carl");
    const { id } = await moderator.ask({ type: "chat", content: "mine" }) as { id?: string };
    const own = await moderator.ask({ type: "kick", id, ban: true });
    assertEquals([own.type, own.content], ["error", "You cannot remove yourself or the owner."]);
    const other = await member.ask({ type: "kick", id, ban: true });
    assertEquals("code" in other && other.code, "forbidden");
    for (const nothing of ["x", "lobby-1", `${id}9`]) {
      const answer = await moderator.ask({ type: "kick", id: nothing });
      assertEquals("code" in answer && answer.code, "not_found");
    }
    for (const wrong of [{}, { id, username: "carl" }, { id: 7 }]) {
      const answer = await moderator.ask({ type: "kick", ...wrong });
      assertEquals("code" in answer && answer.code, "bad_request");
    }
  });
});
