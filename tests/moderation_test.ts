/** The rights of owners, admins, moderators, members and everybody else. */

import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { DEFAULT_SETTINGS, type EngineOptions } from "../lib/engine/engine.ts";
import { MemoryEngine, MemoryStore } from "../lib/engine/memory.ts";
import { ChatError } from "../lib/errors.ts";
import type { ChatEvent, ErrorEvent, Event } from "../lib/protocol/events.ts";
import { Permissions } from "../lib/room/permissions.ts";
import { Client } from "./support/client.ts";
import { account, createHub } from "./support/fake_hub.ts";
import { type Answer, call, knock, PASSWORD, signIn, signUp, soon } from "./support/people.ts";
import { startServer, type TestServer } from "./support/server.ts";
import { V1Client } from "./support/v1_client.ts";

const ONLY_MODERATORS = "Only the room's owner, its moderators or an admin may do this.";
const ONLY_OWNER = "Only the room's owner or an admin may do this.";
const PRIVATE = "This room is private. Ask its owner to let you in.";
const BANNED = "You are banned from this room.";

let server: TestServer;
/** Tokens by name: an admin and three ordinary accounts. */
const tokens: Record<string, string> = {};
let rooms = 0;

beforeAll(async () => {
  server = await startServer({ ADMINS: "root" });
  for (const name of ["root", "olga", "mia", "tom"]) tokens[name] = await signUp(server, name);
});

afterAll(async () => {
  await server.stop();
  assertEquals(server.log.filter(({ level }) => level === "error"), []);
});

const newRoom = () => `room-${++rooms}`;

/** Joins a room: with the account of this name, or as a guest. */
async function join(room: string, name: string): Promise<V1Client> {
  const token = tokens[name] === undefined ? "" : `&token=${tokens[name]}`;
  const client = await V1Client.connect(`${server.ws}/ws/${room}?username=${name}${token}`);
  await client.peek("welcome");
  return client;
}

/** The status for a person who would join a room; 426 if admitted. */
async function visit(room: string, name: string): Promise<Answer> {
  const token = tokens[name] === undefined ? "" : `&token=${tokens[name]}`;
  return await call(server, "GET", `/ws/${room}?username=${name}${token}`);
}

const change = (room: string, name: string, body: unknown) =>
  call(server, "PUT", `/api/rooms/${room}`, { body, token: tokens[name] });

/** A room owned by Olga. */
async function newOwnRoom(settings: Record<string, unknown> = { private: false }): Promise<string> {
  const room = newRoom();
  assertEquals((await change(room, "olga", settings)).status, 200);
  return room;
}

function assertError(event: Event, code: string, sentence: string): void {
  const { type, content, code: actual } = event as ErrorEvent;
  assertEquals([type, actual, content], ["error", code, sentence]);
}

describe("kick", () => {
  it("by the owner removes every connection under the name, with 4003 and the reason", async () => {
    const room = await newOwnRoom();
    await using olga = await join(room, "olga");
    await using carl = await join(room, "carl");
    const first = await V1Client.join(server.ws, room, "bob");
    const { session } = first.welcome;
    const second = await V1Client.join(server.ws, room, "bob", { session });
    const answer = await olga.ask({ type: "kick", username: "BOB", reason: "spam" });
    assertEquals(answer.type, "ack");
    for (const member of [first, second]) {
      const error = await member.nextOf("error");
      assertError(error, "forbidden", "You were removed from this room: spam");
      assertEquals((await soon(member.closed)).code, 4003);
    }
    await carl.nextOf("user_left", ({ username }) => username === "bob");
    assertEquals((await carl.ask({ type: "ping" })).type, "pong");
    // Without a ban, a removed person may return.
    await using back = await V1Client.join(server.ws, room, "bob", { session });
    assertEquals(back.welcome.online, 3);
  });

  it("reaches plain clients, with the reason in their own format", async () => {
    const room = await newOwnRoom();
    await using olga = await join(room, "olga");
    const json = await Client.join(server.ws, room, "bob");
    const text = await Client.connect(`${server.ws}/ws/${room}?username=carl&format=text`);
    for (const username of ["bob", "carl"]) {
      assertEquals((await olga.ask({ type: "kick", username })).type, "ack");
    }
    assertEquals((await soon(json.closed)).code, 4003);
    assertEquals(json.frames.at(-1)!.content, "You were removed from this room.");
    assertEquals((await soon(text.closed)).code, 4003);
    assertEquals(text.received.at(-1), "Error: You were removed from this room.");
  });

  it("by an admin works in every room, the lobby included", async () => {
    for (const room of [newRoom(), await newOwnRoom(), "lobby"]) {
      await using root = await join(room, "root");
      assertEquals((await root.peek("welcome")).role, "admin");
      const bob = await join(room, "bob");
      assertEquals((await root.ask({ type: "kick", username: "bob" })).type, "ack");
      assertEquals((await soon(bob.closed)).code, 4003);
    }
  });

  it("by anyone else is refused", async () => {
    const room = await newOwnRoom();
    await using bob = await join(room, "bob");
    for (const name of ["mia", "carl"]) {
      await using member = await join(room, name);
      const answer = await member.ask({ type: "kick", username: "bob", ban: true });
      assertError(answer, "forbidden", ONLY_MODERATORS);
    }
    // The owner of another room has no rights here.
    await using olga = await join(newRoom(), "olga");
    assertError(await olga.ask({ type: "kick", username: "bob" }), "forbidden", ONLY_MODERATORS);
    assertEquals((await bob.ask({ type: "ping" })).type, "pong");
  });

  it("cannot remove the owner, the sender, or an absent person", async () => {
    const room = await newOwnRoom();
    await using olga = await join(room, "olga");
    await using root = await join(room, "root");
    const sentence = "You cannot remove yourself or the owner.";
    for (const [who, username] of [[root, "olga"], [olga, "OLGA"], [root, "root"]] as const) {
      for (const ban of [false, true]) {
        assertError(await who.ask({ type: "kick", username, ban }), "forbidden", sentence);
      }
    }
    const answer = await olga.ask({ type: "kick", username: "nobody" });
    assertError(answer, "not_found", "Nobody with this name is in the room.");
    assertEquals((await olga.ask({ type: "ping" })).type, "pong");
  });
});

describe("A ban", () => {
  it("excludes the name, and the person under any name, until it is lifted", async () => {
    const room = await newOwnRoom();
    await using olga = await join(room, "olga");
    const bob = await V1Client.join(server.ws, room, "bob");
    const { session } = bob.welcome;
    const again = (username: string, query = "") =>
      call(server, "GET", `/ws/${room}?username=${username}${query}`);
    assertEquals((await olga.ask({ type: "kick", username: "bob", ban: true })).type, "ack");
    assertEquals((await soon(bob.closed)).code, 4003);
    for (const name of ["bob", "Bob", "\uff42ob"]) {
      const { status, body } = await again(encodeURIComponent(name));
      assertEquals([status, body], [403, { error: BANNED }]);
    }
    assertEquals((await again("bobby", `&session=${session}`)).status, 403);
    assertEquals((await again("bobby")).status, 426);
    // The ban applies to this room only.
    assertEquals((await call(server, "GET", `/ws/${newRoom()}?username=bob`)).status, 426);
    assertEquals((await olga.ask({ type: "room", unban: ["BOB"] })).type, "ack");
    for (const query of ["", `&session=${session}`]) {
      assertEquals((await again("bob", query)).status, 426);
    }
  });

  it("excludes an account by name and person, but never an admin", async () => {
    const room = await newOwnRoom();
    await using olga = await join(room, "olga");
    const mia = await join(room, "mia");
    assertEquals((await olga.ask({ type: "kick", username: "mia", ban: true })).type, "ack");
    assertEquals((await soon(mia.closed)).code, 4003);
    assertEquals((await visit(room, "mia")).status, 403);
    const root = await join(room, "root");
    assertEquals((await olga.ask({ type: "kick", username: "root", ban: true })).type, "ack");
    assertEquals((await soon(root.closed)).code, 4003);
    assertEquals((await visit(room, "root")).status, 426);
  });

  it("of two people at once bans both", async () => {
    const folder = await Deno.makeTempDir();
    for (const database of ["memory:", `sqlite:${folder}/chat.db`]) {
      await using other = await startServer({ ADMINS: "root", DATABASE_URL: database });
      const token = await signUp(other, "root");
      await using root = await V1Client.connect(`${other.ws}/ws/r?token=${token}`);
      const names = ["a", "b", "c", "d"];
      const guests = [];
      for (const name of names) guests.push(await V1Client.join(other.ws, "r", name));
      for (const username of names) root.send({ type: "kick", username, ban: true, ref: username });
      await root.next(() => root.all("ack").length === names.length);
      for (const guest of guests) assertEquals((await guest.closed).code, 4003);
      for (const name of names) {
        const { status } = await call(other, "GET", `/ws/r?username=${name}`);
        assertEquals(status, 403, `${name} on ${database}`);
      }
    }
    await Deno.remove(folder, { recursive: true });
  });
});

describe("delete", () => {
  it("of another's message is allowed to the owner and to admins", async () => {
    const room = await newOwnRoom();
    await using bob = await join(room, "bob");
    for (const [name, mayDelete] of Object.entries({ olga: true, root: true, mia: false })) {
      await using member = await join(room, name);
      bob.send({ type: "chat", content: `for ${name}` });
      const { id } = await member.nextOf("chat", ({ content }) => content === `for ${name}`);
      const answer = await member.ask({ type: "delete", id });
      if (mayDelete) {
        assertEquals(answer.type, "ack");
        await bob.nextOf("message_deleted", (event) => event.id === id);
      } else assertError(answer, "forbidden", "Only the author of a message may change it.");
    }
    await using carl = await join(room, "carl");
    bob.send({ type: "chat", content: "for carl" });
    const { id } = await carl.nextOf("chat", ({ content }) => content === "for carl");
    const answer = await carl.ask({ type: "delete", id });
    assertError(answer, "forbidden", "Only the author of a message may change it.");
  });

  it("is allowed to moderators; editing another's message is allowed to nobody", async () => {
    const room = await newOwnRoom();
    await using bob = await join(room, "bob");
    await using olga = await join(room, "olga");
    bob.send({ type: "chat", content: "mine" });
    const { id } = await olga.nextOf("chat") as ChatEvent;
    const answer = await olga.ask({ type: "edit", id, content: "olga's" });
    assertError(answer, "forbidden", "Only the author of a message may change it.");
  });
});

describe("A private room", () => {
  it("is refused to strangers before the upgrade, and by plain GET with the reason", async () => {
    const room = await newOwnRoom({ private: true, members: ["mia"] });
    for (const name of ["tom", "bob"]) {
      const token = tokens[name] === undefined ? "" : `&token=${tokens[name]}`;
      const { status, error } = await knock(server, `/ws/${room}?username=${name}${token}`);
      assertEquals([status, error], [403, PRIVATE]);
      assertEquals((await visit(room, name)).body, { error: PRIVATE });
    }
  });

  it("admits the owner, its members and admins, and tells them that it is private", async () => {
    const room = await newOwnRoom({ private: true, members: ["MIA"] });
    const roles = { olga: "owner", mia: "member", root: "admin" };
    for (const [name, role] of Object.entries(roles)) {
      await using member = await join(room, name);
      const welcome = await member.nextOf("welcome");
      assertEquals([welcome.private, welcome.role], [true, role]);
    }
  });

  for (const how of ["by command", "over HTTP"]) {
    it(`made private ${how} closes strangers with 4003 within a second, and keeps members`, async () => {
      const room = await newOwnRoom();
      await using olga = await join(room, "olga");
      await using mia = await join(room, "mia");
      await using root = await join(room, "root");
      const strangers = [await join(room, "tom"), await join(room, "bob")];
      const plain = await Client.join(server.ws, room, "carl");
      const settings = { private: true, members: ["mia"] };
      if (how === "by command") {
        assertEquals((await olga.ask({ type: "room", ...settings })).type, "ack");
      } else assertEquals((await change(room, "olga", settings)).status, 200);
      for (const stranger of strangers) {
        assertEquals((await soon(stranger.closed)).code, 4003);
        assertError(await stranger.nextOf("error"), "forbidden", PRIVATE);
      }
      assertEquals((await soon(plain.closed)).code, 4003);
      await mia.next((event) => event.type === "presence" && event.online === 3);
      for (const member of [olga, mia, root]) {
        assertEquals((await member.ask({ type: "ping" })).type, "pong");
      }
      // A member removed from the list is closed too.
      assertEquals((await olga.ask({ type: "room", members: [] })).type, "ack");
      assertEquals((await soon(mia.closed)).code, 4003);
      assertEquals((await change(room, "olga", { private: false })).status, 200);
      assertEquals((await visit(room, "tom")).status, 426);
    });
  }
});

describe("PUT /api/rooms/:room", () => {
  it("gives the room to the account that changes it first, and returns the settings", async () => {
    const room = newRoom();
    const { status, body } = await change(room, "olga", { private: true, members: ["Mia"] });
    const lists = { moderators: [], members: ["mia"], bans: [] };
    assertEquals([status, body], [200, { room, private: true, owner: "olga", ...lists }]);
    for (const name of ["mia", "tom"]) {
      const { status, body } = await change(room, name, { private: false });
      assertEquals([status, body], [403, { error: ONLY_OWNER }]);
    }
    assertEquals((await change(room, "root", { private: false })).body.owner, "olga");
  });

  it("gives a room to one of two accounts that claim it at once", async () => {
    const folder = await Deno.makeTempDir();
    for (const database of ["memory:", `sqlite:${folder}/chat.db`]) {
      await using other = await startServer({ DATABASE_URL: database });
      const both = [await signUp(other, "ann"), await signUp(other, "bea")];
      for (let i = 0; i < 5; i++) {
        const put = (token: string) =>
          call(other, "PUT", `/api/rooms/r${i}`, { body: { private: true }, token });
        const answers = await Promise.all(both.map(put));
        assertEquals(answers.map(({ status }) => status).sort(), [200, 403], database);
      }
    }
    await Deno.remove(folder, { recursive: true });
  });

  it("needs an account: a guest and an ended session get a sentence", async () => {
    const guest = await call(server, "PUT", `/api/rooms/${newRoom()}`, { body: { private: true } });
    assertEquals([guest.status, guest.body], [401, { error: "Sign in to do this." }]);
    const token = "A".repeat(43);
    const body = { private: true };
    const ended = await call(server, "PUT", `/api/rooms/${newRoom()}`, { body, token });
    assertEquals(ended.status, 401);
  });

  it("is refused for the lobby, except to admins", async () => {
    const { status, body } = await change("lobby", "olga", { private: true });
    assertEquals([status, body], [403, { error: "The lobby is for everyone." }]);
    await using olga = await join("lobby", "olga");
    const answer = await olga.ask({ type: "room", private: true });
    assertError(answer, "forbidden", "The lobby is for everyone.");
    assertEquals((await change("lobby", "root", { unban: [] })).status, 200);
    assertEquals((await visit("lobby", "bob")).status, 426);
  });

  const BAD: [what: string, body: unknown, status: number, sentence: string][] = [
    ["nothing", {}, 400, "Name at least one of private, members, moderators, owner"],
    ["only unknown fields", { public: true }, 400, "Name at least one of"],
    ["a text for private", { private: "yes" }, 400, "private must be true or false."],
    ["null for private", { private: null }, 400, "Name at least one of"],
    ["a text for members", { members: "mia" }, 400, "members must be a list"],
    ["a number among members", { members: ["mia", 1] }, 400, "members must be a list"],
    ["201 members", { members: Array(201).fill("mia") }, 400, "at most 200 names"],
    ["201 to unban", { unban: Array(201).fill("mia") }, 400, "at most 200 names"],
    ["a bad name", { members: ["a,b"] }, 400, "The username may only have letters"],
    ["a name without account", { members: ["nobody"] }, 404, "There is no account with the name"],
    ["a list", [], 400, "The body must be a JSON object."],
    ["no JSON", "{", 400, "The body must be a JSON object."],
  ];
  for (const [what, body, status, sentence] of BAD) {
    it(`with ${what} is answered ${status} and changes nothing`, async () => {
      const room = await newOwnRoom({ private: true, members: ["mia"] });
      const answer = await change(room, "olga", body);
      assertEquals(answer.status, status);
      assertStringIncludes(answer.body.error, sentence);
      const after = await change(room, "olga", { unban: [] });
      assertEquals([after.body.private, after.body.members], [true, ["mia"]]);
    });
  }

  it("with a bad room name gets 400", async () => {
    for (const room of ["a,b", "%00", "%zz", "a%2Fb", "x".repeat(65), "%20"]) {
      assertEquals((await change(room, "olga", { private: true })).status, 400, room);
    }
  });

  it("allows at most 100 rooms for an account", async () => {
    await using other = await startServer();
    const token = await signUp(other, "greedy");
    const take = (room: string) =>
      call(other, "PUT", `/api/rooms/${room}`, { body: { private: true }, token });
    for (let i = 0; i < 100; i++) assertEquals((await take(`r${i}`)).status, 200);
    const { status, body } = await take("one-more");
    assertEquals([status, body], [403, {
      error: "You own 100 rooms, the maximum. Use one of them.",
    }]);
    assertEquals((await take("r0")).status, 200);
  });
});

describe("Settings and bans", () => {
  it("survive a restart on the same file", async () => {
    const folder = await Deno.makeTempDir();
    const env = { DATABASE_URL: `sqlite:${folder}/chat.db`, ADMINS: "root" };
    const first = await startServer(env);
    const olga = await signUp(first, "olga");
    await signUp(first, "mia");
    const before = await V1Client.connect(`${first.ws}/ws/r?token=${olga}`);
    before.send({ type: "room", unban: [], ref: "take" });
    await before.next((event) => "ref" in event && event.ref === "take");
    const bob = await V1Client.join(first.ws, "r", "bob");
    await before.ask({ type: "kick", username: "bob", ban: true });
    await bob.closed;
    await before.ask({ type: "room", members: ["mia"] });
    const take = { body: { private: true, members: ["mia"] }, token: olga };
    assertEquals((await call(first, "PUT", "/api/rooms/secret", take)).status, 200);
    await first.stop();
    await before.closed;

    const second = await startServer(env);
    try {
      const query = `username=bobby&session=${bob.all("welcome")[0]!.session}`;
      for (const path of ["/ws/r?username=bob", `/ws/r?${query}`]) {
        assertEquals((await knock(second, path)).error, BANNED, path);
      }
      assertEquals((await knock(second, "/ws/secret?username=carl")).error, PRIVATE);
      const mia = await signIn(second, "mia");
      assertEquals((await call(second, "GET", `/ws/secret?token=${mia}`)).status, 426);
      const change = { body: { unban: ["bob"] }, token: olga };
      const { body } = await call(second, "PUT", "/api/rooms/r", change);
      assertEquals([body.owner, body.members, body.bans], ["olga", ["mia"], []]);
      assertEquals((await call(second, "GET", "/ws/r?username=bob")).status, 426);
    } finally {
      await second.stop();
      await Deno.remove(folder, { recursive: true });
    }
  });
});

describe("GET /api/rooms/:room", () => {
  const read = (room: string, name?: string, at = server, all = tokens) =>
    call(at, "GET", `/api/rooms/${room}`, { token: name === undefined ? undefined : all[name] });

  it("names the owner and the moderators, and shows its owner and admins everything", async () => {
    await using other = await startServer({ ADMINS: "Root" });
    const all: Record<string, string> = {};
    for (const name of ["Root", "Olga", "Zoë", "tom"]) all[name] = await signUp(other, name);
    const body = { private: false, moderators: ["ZOË"], members: ["Tom"] };
    const put = await call(other, "PUT", "/api/rooms/tea", { body, token: all.Olga });
    const open = { room: "tea", private: false, owner: "Olga", moderators: ["Zoë"] };
    const whole = { ...open, members: ["tom"], bans: [] };
    assertEquals([put.status, put.body], [200, whole]);
    for (const name of ["Olga", "Root", "Zoë", "tom", undefined]) {
      const { status, body, headers } = await read("tea", name, other, all);
      const mayChange = name === "Olga" || name === "Root";
      assertEquals([status, body], [200, mayChange ? whole : open], name);
      assertEquals(headers.get("cache-control"), "no-store");
    }
    const free = { room: "free", private: false, owner: null, moderators: [] };
    assertEquals((await read("free", "tom", other, all)).body, free);
    // Reading a room does not claim it.
    assertEquals((await read("free", "Root", other, all)).body.owner, null);
    assertEquals((await read("a,b", "tom", other, all)).status, 400);
    assertEquals((await call(other, "GET", "/api/rooms/tea", { token: "bad" })).status, 401);
    await call(other, "DELETE", "/api/account", {
      body: { password: PASSWORD },
      token: all["Zoë"],
    });
    await call(other, "DELETE", "/api/account", { body: { password: PASSWORD }, token: all.Olga });
    const left = { room: "tea", private: false, owner: null, moderators: [] };
    assertEquals((await read("tea", "tom", other, all)).body, left);
  });

  it("gives people whom the room refuses the sentence, and nothing else", async () => {
    const room = await newOwnRoom({ private: true, members: ["mia"] });
    for (const name of ["tom", undefined]) {
      const { status, body } = await read(room, name);
      assertEquals([status, body], [403, { error: PRIVATE }], name);
    }
    assertEquals((await read(room, "mia")).body.owner, "olga");
    const open = await newOwnRoom();
    await using tom = await join(open, "tom");
    await using olga = await join(open, "olga");
    await olga.ask({ type: "kick", username: "tom", ban: true });
    await tom.closed;
    const { status, body } = await read(open, "tom");
    assertEquals([status, body], [403, { error: BANNED }]);
    assertEquals((await read(open)).status, 200);
    assertEquals((await read(open, "olga")).body.bans, ["tom"]);
  });

  it("asks guests to sign in with GUESTS=off", async () => {
    await using other = await startServer({ GUESTS: "off" });
    const { status, body } = await read("tea", undefined, other);
    assertEquals([status, body], [401, { error: "Sign in to chat here." }]);
  });
});

describe("Simultaneous changes of a room's settings", () => {
  it("give the room to one account, and refuse the other", async () => {
    const { hub } = createHub();
    const change = (name: string) => hub.changeRoom("r", account(name), { private: true });
    const results = await Promise.allSettled([change("ann"), change("bea")]);
    assertEquals(results.map(({ status }) => status), ["fulfilled", "rejected"]);
    assertEquals((await hub.changeRoom("r", account("ann"), { unban: [] })).owner, "ann");
  });

  it("keep both: two bans are two bans", async () => {
    const { hub, join, turn } = createHub();
    const { member } = await join("root", { identity: account("root", { isAdmin: true }) });
    const guests = [await join("bob"), await join("carl")];
    turn();
    for (const username of ["bob", "carl"]) {
      hub.receive(member, JSON.stringify({ type: "kick", username, ban: true }));
    }
    // Resolves when all ready callbacks have run.
    await new Promise((resolve) => setTimeout(resolve));
    const root = account("root", { isAdmin: true });
    const { bans } = await hub.changeRoom("r", root, { private: false });
    assertEquals(bans.map(({ key }) => key), ["bob", "carl"]);
    assertEquals(guests.map(({ peer }) => peer.closed), [4003, 4003]);
  });
});

describe("A session that expires", () => {
  it("closes its socket at the next command, which has no effect", async () => {
    const { hub, join, pass, turn } = createHub();
    const { peer, member } = await join("alice", {
      identity: account("alice", { expiresAt: 60_000 }),
    });
    const bob = await join("bob");
    turn();
    pass(59_999);
    hub.receive(member, "in time");
    turn();
    bob.peer.read();
    peer.read();
    pass(1);
    hub.receive(member, "too late");
    turn();
    assertEquals(peer.read(), ["error: Your session has ended. Sign in again."]);
    assertEquals(peer.closed, 4001);
    assertEquals(bob.peer.read(), ["user_left: alice left the room", "online_users: bob"]);
  });

  it("closes its socket at the next sweep, even when silent", async () => {
    const { hub, join, pass, turn } = createHub();
    const { peer } = await join("alice", { identity: account("alice", { expiresAt: 60_000 }) });
    const bob = await join("bob");
    turn();
    pass(59_999);
    hub.sweep();
    turn();
    assertEquals(peer.closed, undefined);
    pass(1);
    hub.sweep();
    turn();
    assertEquals([peer.closed, bob.peer.closed], [4001, undefined]);
    assertEquals(bob.peer.read().slice(-2), [
      "user_left: alice left the room",
      "online_users: bob",
    ]);
  });
});

const OPTIONS: EngineOptions = {
  clock: Date.now,
  newId: () => crypto.randomUUID(),
  keep: 10,
  leaseMs: 30_000,
};

const X = { key: "x", person: "guest:x" };
const Y = { key: "y", person: "guest:y" };

describe("Permissions", () => {
  it("of two instances keep two simultaneous bans", async () => {
    const store = new MemoryStore(OPTIONS);
    const [one, two] = [new MemoryEngine(OPTIONS, store), new MemoryEngine(OPTIONS, store)];
    const answers = await Promise.all([
      new Permissions(one).ban("r", X),
      new Permissions(two).ban("r", Y),
    ]);
    const settings = await one.roomSettings.settings("r");
    assertEquals(settings, { ...DEFAULT_SETTINGS, bans: [X, Y], version: 2 });
    assertEquals(answers.map(({ version }) => version), [1, 2]);
  });

  it("keep a ban made while the owner changes the room", async () => {
    const store = new MemoryStore(OPTIONS);
    const [one, two] = [new MemoryEngine(OPTIONS, store), new MemoryEngine(OPTIONS, store)];
    const owner = account("alice", { isAdmin: true });
    await Promise.all([
      new Permissions(one).change("r", owner, { private: true }),
      new Permissions(two).ban("r", X),
    ]);
    assertEquals(await two.roomSettings.settings("r"), {
      owner: "alice",
      isPrivate: true,
      moderators: [],
      members: [],
      bans: [X],
      version: 2,
    });
  });

  it("are unavailable when other changes always come first", async () => {
    const engine = new MemoryEngine(OPTIONS);
    let attempts = 0;
    engine.roomSettings.setSettings = () => Promise.resolve(++attempts < 0);
    const error = await assertRejects(() => new Permissions(engine).ban("r", X), ChatError);
    assertEquals(error.code, "unavailable");
    assertEquals(attempts, 20);
  });
});
