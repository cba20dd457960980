/** Owners of rooms: nobody takes a room in use; owners and admins may give one away. */

import { assertEquals } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { call, signUp } from "../support/people.ts";
import { Random, seeds } from "../support/random.ts";
import { startServer, type TestServer } from "../support/server.ts";
import { V1Client } from "../support/v1_client.ts";

let server: TestServer;
const tokens: Record<string, string> = {};

beforeAll(async () => {
  server = await startServer({ ADMINS: "root" });
  for (const name of ["root", "olga", "mia", "tom"]) tokens[name] = await signUp(server, name);
});
afterAll(() => server.stop());

const change = (room: string, name: string, body: unknown) =>
  call(server, "PUT", `/api/rooms/${room}`, { body, token: tokens[name] });
const join = (room: string, name: string) =>
  V1Client.connect(`${server.ws}/ws/${room}?token=${tokens[name]}`);

describe("A room in use", () => {
  for (const seed of seeds(2)) {
    it(`cannot be claimed, over HTTP or by a command (SEED=${seed})`, async () => {
      const random = new Random(seed);
      const uses = {
        guest: (room: string) => V1Client.join(server.ws, room, "guest"),
        account: (room: string) => join(room, "mia"),
        async message(room: string) {
          const guest = await V1Client.join(server.ws, room, "guest");
          await guest.ask({ type: "chat", content: "ours" });
          await guest.close();
          return guest;
        },
      };
      for (const [use, enter] of Object.entries(uses)) {
        const room = `used-${use}-${seed}`;
        await using other = await enter(room);
        await using olga = await join(room, "olga");
        await olga.nextOf("welcome");
        const body = random.pick([{ private: true }, { owner: "olga" }, { moderators: ["olga"] }]);
        const over = await change(room, "olga", body);
        assertEquals([over.status, over.body.error.startsWith("This room is in use.")], [
          403,
          true,
        ]);
        const answer = await olga.ask({ type: "room", ...body });
        assertEquals(answer.type === "error" && answer.code, "forbidden");
        assertEquals((await call(server, "GET", `/ws/${room}?username=x`)).status, 426);
        // An admin may give it to anyone.
        const given = await change(room, "root", { owner: "Mia" });
        assertEquals([given.status, given.body.owner], [200, "mia"]);
        assertEquals((await change(room, "olga", body)).status, 403);
        assertEquals((await change(room, "mia", { private: false })).status, 200);
        await other.close();
      }
    });
  }

  it("can be claimed by the only account in it, before the first message", async () => {
    await using olga = await join("mine", "olga");
    await using _tab = await join("mine", "olga");
    await olga.nextOf("welcome");
    assertEquals((await olga.ask({ type: "room", private: true })).type, "ack");
  });
});

describe("An owner", () => {
  it("names moderators, who moderate but cannot change the room", async () => {
    const room = "moderated";
    assertEquals((await change(room, "olga", { moderators: ["mia"] })).body.moderators, ["mia"]);
    await using mia = await join(room, "mia");
    assertEquals((await mia.nextOf("welcome")).role, "moderator");
    await using guest = await V1Client.join(server.ws, room, "guest");
    const said = await guest.ask({ type: "chat", content: "spam" });
    const id = said.type === "ack" ? said.id! : "";
    assertEquals((await mia.ask({ type: "delete", id })).type, "ack");
    assertEquals((await mia.ask({ type: "kick", username: "guest", ban: true })).type, "ack");
    assertEquals((await guest.closed).code, 4003);
    await using _olga = await join(room, "olga");
    await mia.next(({ type, username }) => type === "user_joined" && username === "olga");
    for (
      const command of [
        { type: "kick", username: "olga" },
        { type: "room", private: true },
        { type: "room", owner: "mia" },
        { type: "room", moderators: ["mia", "tom"] },
      ]
    ) {
      const answer = await mia.ask(command);
      assertEquals(answer.type === "error" && answer.code, "forbidden", JSON.stringify(command));
    }
    // A private room admits its moderators.
    assertEquals((await change(room, "olga", { private: true })).status, 200);
    assertEquals((await mia.ask({ type: "ping" })).type, "pong");
    assertEquals((await change(room, "olga", { moderators: [] })).status, 200);
    assertEquals((await mia.closed).code, 4003);
  });

  it("hands the room to another account only, and stays in it", async () => {
    const room = "handed";
    assertEquals((await change(room, "olga", { private: true })).status, 200);
    await using olga = await join(room, "olga");
    await olga.nextOf("welcome");
    assertEquals((await change(room, "olga", { owner: "nobody" })).status, 404);
    assertEquals((await change(room, "olga", { owner: 7 })).status, 400);
    assertEquals((await change(room, "tom", { owner: "tom" })).status, 403);
    assertEquals((await change(room, "olga", { owner: "Tom" })).body.owner, "tom");
    assertEquals((await olga.ask({ type: "ping" })).type, "pong");
    assertEquals((await change(room, "olga", { private: false })).status, 403);
    assertEquals((await change(room, "tom", { private: false })).status, 200);
  });
});
