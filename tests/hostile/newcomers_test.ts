/** A newcomer's welcome: the newest messages, the people, and who is typing. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type { Event } from "../../lib/protocol/events.ts";
import { Client } from "../support/client.ts";
import { createHub } from "../support/fake_hub.ts";
import { makeFolder } from "../support/folder.ts";
import { Random, seeds } from "../support/random.ts";
import { startServer } from "../support/server.ts";
import { V1Client } from "../support/v1_client.ts";

const HISTORY = 50;

describe("A newcomer", () => {
  for (const seed of seeds(3)) {
    it(`gets the newest 50 messages, however many were deleted (SEED=${seed})`, async () => {
      const random = new Random(seed);
      await using folder = await makeFolder();
      const url = random.pick(["memory:", `sqlite:${folder.path}/chat.db`]);
      await using server = await startServer({ DATABASE_URL: url });
      const room = `room-${seed}`;
      await using author = await V1Client.join(server.ws, room, "author");
      const kept: string[] = [];
      for (let round = 0; round < 4; round++) {
        for (let i = random.between(20, 90); i > 0; i--) {
          const ack = await author.ask({ type: "chat", content: `message ${round} ${i}` });
          assert(ack.type === "ack" && ack.id !== undefined);
          kept.push(ack.id);
        }
        const share = random.between(0, 100);
        const gone = kept.filter(() => random.percent(share));
        for (const id of gone) {
          await author.ask({ type: "delete", id });
          kept.splice(kept.indexOf(id), 1);
        }
        const expected = kept.slice(-HISTORY);
        await using plain = await Client.connect(`${server.ws}/ws/${room}?username=plain${round}`);
        await using serious = await V1Client.join(server.ws, room, `serious${round}`);
        await author.ask({ type: "ping" });
        author.send({ type: "chat", content: `end of ${round}` });
        const end = await author.nextOf("chat", ({ content }) => content === `end of ${round}`);
        kept.push(end.id);
        await plain.nextFrame(({ id }) => id === end.id);
        await serious.nextOf("chat", ({ id }) => id === end.id);
        const old = plain.frames.filter(({ history }) => history).map(({ id }) => id);
        assertEquals(old, expected);
        const again = serious.all("chat").filter(({ history }) => history).map(({ id }) => id);
        assertEquals(again, expected);
      }
    });
  }

  it("learns who is typing, and not who has stopped or left", async () => {
    await using server = await startServer();
    await using alice = await V1Client.join(server.ws, "r", "alice");
    const { session } = alice.welcome;
    await using tab = await V1Client.join(server.ws, "r", "alice", { session });
    await using bob = await V1Client.join(server.ws, "r", "bob");
    assertEquals(bob.welcome.typing, []);
    for (const who of [alice, tab, bob]) who.send({ type: "typing", active: true });
    await tab.ask({ type: "ping" });
    await bob.ask({ type: "ping" });
    await using carol = await V1Client.join(server.ws, "r", "carol");
    assertEquals(carol.welcome.typing, ["alice", "bob"]);
    // Alice's other tab goes on.
    await tab.close();
    bob.send({ type: "typing", active: false });
    await carol.nextOf("typing", ({ username, active }) => username === "bob" && !active);
    await using dora = await V1Client.join(server.ws, "r", "dora");
    assertEquals(dora.welcome.typing, ["alice"]);
    await alice.close();
    await dora.nextOf("typing", ({ username, active }) => username === "alice" && !active);
  });

  for (const seed of seeds(5)) {
    it(`knows everyone by welcome and presence once a large room is small (SEED=${seed})`, async () => {
      const random = new Random(seed);
      const { join, hub, settle, pass } = createHub();
      const watchers: { names: Set<string>; online: number; peer: { events(): Event[] } }[] = [];
      const crowd: Awaited<ReturnType<typeof join>>[] = [];
      let count = 0;
      const rest = async () => {
        for (let i = 0; i < 4; i++) {
          pass(2500);
          await settle();
        }
      };
      for (let round = 0; round < 6; round++) {
        const size = random.pick([3, 60, 99, 101, 130, 260]);
        while (crowd.length < size) {
          crowd.push(await join(`crowd-${++count}`));
          if (random.percent(20)) await settle();
          if (random.percent(5)) pass(random.between(0, 60));
          if (random.percent(3)) {
            const { peer } = await join(`watcher-${++count}`, { format: "v1" });
            watchers.push({ names: new Set(), online: 0, peer });
          }
        }
        const target = random.pick([0, 2, 50, 90]);
        while (crowd.length > target) {
          hub.leave(crowd.splice(random.below(crowd.length), 1)[0]!.member);
          if (random.percent(3)) await settle();
          if (random.percent(3)) pass(random.between(0, 60));
        }
        await settle();
        await rest();
        for (const watcher of watchers) {
          for (const event of watcher.peer.events()) {
            if (event.type === "welcome") {
              watcher.names = new Set(event.users.map(({ username }) => username));
            }
            if (event.type === "presence") {
              for (const name of event.joined) watcher.names.add(name);
              for (const name of event.left) watcher.names.delete(name);
              watcher.online = event.online;
            }
          }
        }
        const present = crowd.length + watchers.length;
        if (present > 100) continue;
        for (const { names, online } of watchers) {
          assertEquals([names.size, online], [present, present], `round ${round}`);
        }
      }
    });
  }
});
