/** Visitors that join and leave again and again, in a room small enough to announce each. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type { Event } from "../../lib/protocol/events.ts";
import { createHub } from "../support/fake_hub.ts";
import { Random, seeds } from "../support/random.ts";

/** Minimum bytes of a handshake. */
const HANDSHAKE_BYTES = 500;

/** A calm room with this many members. */
async function calmRoom(size: number, format: "v1" | "json") {
  const fake = createHub();
  const members = [];
  for (let i = 0; i < size; i++) members.push(await fake.join(`member-${i}`, { format }));
  await fake.settle();
  fake.pass(120_000);
  await fake.settle();
  for (const { peer } of members) peer.sent.length = 0;
  return { ...fake, members };
}

const names = (events: Event[], type: Event["type"]) =>
  events.filter((event) => event.type === type).map(({ username }) => username);

describe("Visitors that join and leave again and again", () => {
  for (const seed of seeds(2)) {
    for (const format of ["v1", "json"] as const) {
      it(`make a room of 98 send a bounded number of bytes (${format}, SEED=${seed})`, async () => {
        const random = new Random(seed);
        const { join, hub, settle, pass, members } = await calmRoom(98, format);
        const perSecond = random.between(10, 60);
        const present = [];
        let bytesIn = 0;
        for (let i = 0; i < 20 * perSecond; i++) {
          // One name or many, and visits of many lengths.
          const name = random.percent(50) ? `visitor-${i % 3}-${i}` : `guest-${i}`;
          present.push(await join(name));
          bytesIn += HANDSHAKE_BYTES;
          while (present.length > 2) {
            hub.leave(present.splice(random.below(present.length), 1)[0]!.member);
          }
          await settle();
          pass(1000 / perSecond);
          await settle();
        }
        for (const { member } of present) hub.leave(member);
        let out = 0;
        for (const { peer } of members) for (const text of peer.sent) out += text.length;
        // Announcing each at once would cost 1,700 times as much for chat.v1 and 370 for plain clients.
        assert(out < 25_000_000, `${out} bytes out for ${bytesIn} in`);
      });
    }
  }

  it("do not delay the announcement of any join or leave beyond two seconds", async () => {
    const { join, hub, settle, pass, members } = await calmRoom(60, "v1");
    const watcher = members[0]!.peer;
    const churn = async (times: number) => {
      for (let i = 0; i < times; i++) {
        hub.leave((await join(`visitor-${i}`)).member);
        await settle();
      }
    };
    await churn(40);
    watcher.events();
    const friend = await join("friend");
    await churn(20);
    pass(2000);
    await settle();
    const came = watcher.events();
    assertEquals(names(came, "user_joined"), ["friend"]);
    assertEquals(came.filter(({ type }) => type === "online_users").length, 1);
    hub.leave(friend.member);
    await churn(20);
    pass(2000);
    await settle();
    assertEquals(names(watcher.events(), "user_left"), ["friend"]);
    // After a calm period, each join is announced at once again.
    pass(20_000);
    await settle();
    watcher.events();
    const late = await join("late");
    await settle();
    assertEquals(names(watcher.events(), "user_joined"), ["late"]);
    hub.leave(late.member);
    await settle();
    assertEquals(names(watcher.events(), "user_left"), ["late"]);
  });
});

describe("An ordinary room", () => {
  it("announces each join and leave at once, as it fills, empties and fills again", async () => {
    const { join, hub, settle, pass, members } = await calmRoom(1, "json");
    const watcher = members[0]!.peer;
    for (let round = 0; round < 2; round++) {
      const guests = [];
      for (let i = 1; i < 100; i++) {
        guests.push(await join(`guest-${i}`));
        await settle();
        assertEquals(names(watcher.events(), "user_joined"), [`guest-${i}`]);
      }
      for (const { member } of guests) {
        hub.leave(member);
        await settle();
        assertEquals(names(watcher.events(), "user_left"), [member.username]);
      }
      pass(120_000);
      await settle();
    }
  });
});
