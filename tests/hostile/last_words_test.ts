/** Last messages before a disconnect, and messages to absent people. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { MemoryEngine } from "../../lib/engine/memory.ts";
import { SqliteEngine } from "../../lib/engine/sqlite.ts";
import { CLOSE } from "../../lib/protocol/codes.ts";
import type { DmEvent } from "../../lib/protocol/events.ts";
import { createHub, guest } from "../support/fake_hub.ts";
import { makeFolder } from "../support/folder.ts";
import { signUp } from "../support/people.ts";
import { concat, frame, handshake, RawClient } from "../support/raw.ts";
import { Random, seeds } from "../support/random.ts";
import { startServer } from "../support/server.ts";
import { V1Client } from "../support/v1_client.ts";

const say = (text: string) => frame(JSON.stringify({ type: "chat", content: text }));

/** Ways to end a connection, in one write with the messages before it. */
const CUTS: Record<string, Uint8Array<ArrayBuffer>[]> = {
  "the end of the connection": [],
  "a close frame": [frame(new Uint8Array([3, 232]), { opcode: 8 })],
  "a binary frame": [frame(new Uint8Array([1]), { opcode: 2 })],
  "a message that is too big": [say("x".repeat(5000))],
  "a frame that is too big": [frame("x".repeat(40_000))],
};

describe("user_left", () => {
  for (const kind of ["memory", "sqlite"]) {
    for (const seed of seeds(1)) {
      it(`follows the last message of the leaver (${kind}, SEED=${seed})`, async () => {
        const random = new Random(seed);
        await using folder = await makeFolder();
        const url = kind === "memory" ? "memory:" : `sqlite:${folder.path}/chat.db`;
        await using server = await startServer({ DATABASE_URL: url });
        await using watcher = await V1Client.join(server.ws, "r", "watcher");
        for (const [cut, last] of Object.entries(CUTS)) {
          for (let round = 0; round < 8; round++) {
            const username = `${kind}-${round}`;
            using client = await RawClient.connect(server.port);
            await client.write(handshake(`/ws/r?username=${username}`));
            await client.readAnswer();
            await watcher.next(({ type, ...event }) =>
              type === "user_joined" && event.username === username
            );
            const from = watcher.events.length;
            const count = random.between(1, 30);
            const words = Array.from({ length: count }, (_, i) => say(`word ${i}`));
            await client.write(concat([...words, ...last]));
            if (last.length === 0) client.close();
            await watcher.next(({ type, ...event }) =>
              type === "user_left" && event.username === username
            );
            await watcher.ask({ type: "ping" });
            const seen = watcher.events.slice(from).filter((event) =>
              event.username === username && event.type !== "typing"
            );
            assertEquals(seen.at(-1)!.type, "user_left", cut);
            assertEquals(seen.filter(({ type }) => type === "user_left").length, 1);
            // Bytes that arrived before a reset may be dropped with it.
            if (last.length > 0) assertEquals(seen.length, count + 1, cut);
          }
        }
      });
    }
  }

  it("follows the accepted messages, with a slow disk and a removed member too", async () => {
    for (const end of ["leave", "dismiss", "kick", "evict"]) {
      const { join, hub, turn, settle, engine } = createHub({ sendQueueBytes: 1000 }, {}, {
        open: (options) => new SqliteEngine({ ...options, path: ":memory:" }),
      });
      const watcher = await join("watcher", { format: "v1" });
      const member = await join("member", { format: "v1" });
      await settle();
      watcher.peer.events();
      hub.receive(member.member, "not a command");
      hub.receive(member.member, '{"type":"chat","content":"last words"}');
      if (end === "leave") hub.leave(member.member);
      if (end === "dismiss") hub.dismiss(member.member, CLOSE.binary);
      if (end === "kick") {
        await engine.bus.publish("r", {
          type: "kicked",
          who: { key: "member" },
          reason: undefined,
        });
      }
      if (end === "evict") {
        member.peer.bufferedAmount = 5000;
        hub.sweep();
        hub.leave(member.member);
      }
      turn();
      await settle();
      const events = watcher.peer.events().filter(({ username }) => username === "member");
      assertEquals(events.map(({ type }) => type), ["chat", "user_left"], end);
      await engine.close();
    }
  });
});

describe("A private message to an absent person", () => {
  it("is stored for a guest who was present when the server stopped, and for an account", async () => {
    await using folder = await makeFolder();
    const env = { DATABASE_URL: `sqlite:${folder.path}/chat.db` };
    const old = await startServer(env);
    const token = await signUp(old, "carol");
    const ann = await V1Client.join(old.ws, "r", "ann");
    const bob = await V1Client.join(old.ws, "r", "bob");
    const left = await V1Client.join(old.ws, "r", "left");
    await left.close();
    await ann.next(({ type, username }) => type === "user_left" && username === "left");
    await old.stop();
    await Promise.all([ann.closed, bob.closed]);

    await using server = await startServer(env);
    const places = { epoch: ann.welcome.epoch, after: 0, inbox: 0 };
    const { session } = ann.welcome;
    await using again = await V1Client.join(server.ws, "r", "ann", { session, ...places });
    for (const to of ["bob", "BOB", "left", "carol"]) {
      const { type } = await again.ask({ type: "dm", to, content: `for ${to}` });
      assertEquals(type, "ack", to);
    }
    for (const to of ["nobody", "ann\u0000", "", "x".repeat(10_000)]) {
      const answer = await again.ask({ type: "dm", to, content: "hello" });
      assert(answer.type === "error" && ["not_found", "bad_request"].includes(answer.code), to);
    }
    const elsewhere = await V1Client.join(server.ws, "other", "ann");
    const refused = await elsewhere.ask({ type: "dm", to: "bob", content: "not in this room" });
    assert(refused.type === "error" && refused.code === "not_found");
    await elsewhere.close();

    await using bobAgain = await V1Client.join(server.ws, "r", "bob", {
      ...places,
      session: bob.welcome.session,
    });
    assertEquals((await bobAgain.nextOf("dm")).content, "for bob");
    assertEquals((await bobAgain.nextOf("dm")).content, "for BOB");
    await using carol = await V1Client.connect(
      `${server.ws}/ws/r?username=carol&token=${token}&epoch=${places.epoch}&after=0&inbox=0`,
    );
    assertEquals((await carol.nextOf("dm")).content, "for carol");
    // Another person with the guest's name does not receive the guest's messages.
    await using thief = await V1Client.join(server.ws, "r", "left", places);
    await thief.ask({ type: "ping" });
    assertEquals(thief.all("dm"), []);
  });

  for (const kind of ["memory", "sqlite"]) {
    it(`is refused when a guest has been away for more than 10 minutes (${kind})`, async () => {
      const { join, hub, pass, settle, engine } = createHub({}, {}, {
        open: (options) =>
          kind === "memory"
            ? new MemoryEngine(options)
            : new SqliteEngine({ ...options, path: ":memory:" }),
      });
      const { member, peer } = await join("ann", { format: "v1" });
      const bob = await join("bob", { identity: guest("bob") });
      await settle();
      hub.leave(bob.member);
      await settle();
      const ask = async () => {
        peer.events();
        hub.receive(member, '{"type":"dm","to":"bob","content":"hello","ref":"d"}');
        await settle();
        return peer.events().find((event) => "ref" in event)!.type;
      };
      pass(9 * 60_000);
      await settle();
      assertEquals(await ask(), "ack");
      pass(2 * 60_000);
      await settle();
      // The second has the ref of the first.
      peer.events();
      hub.receive(member, '{"type":"dm","to":"bob","content":"too late","ref":"e"}');
      await settle();
      const answer = peer.events().find((event) => event.type === "error");
      assert(answer?.type === "error" && answer.code === "not_found");
      const { person } = guest("bob");
      const inbox = await engine.log.inbox("r", person, 0, 10);
      assertEquals(inbox.map(({ message }) => (message as unknown as DmEvent).content), ["hello"]);
      await engine.close();
    });
  }
});
