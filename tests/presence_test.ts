/** Presence: exact and immediate in small rooms, cheap in large ones. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type { Format } from "../lib/protocol/encode.ts";
import type { Event, PresenceEvent } from "../lib/protocol/events.ts";
import { CROWD } from "../lib/room/roster.ts";
import { createHub } from "./support/fake_hub.ts";

const V1 = { format: "v1" } as const;

const presences = (events: Event[]) =>
  events.filter((event): event is PresenceEvent => event.type === "presence");

/** A hub with this many announced users in one room. */
async function crowdOf(count: number, format: Format = "json") {
  const test = createHub();
  const members = [];
  for (let i = 0; i < count; i++) members.push(await test.join(`user-${i}`, { format }));
  // One more turn for each delivery: a large room rests as long as one takes.
  for (let i = 0; i < 2; i++) test.turn();
  test.pass(60_000);
  for (let i = 0; i < 2; i++) test.turn();
  for (const { peer } of members) peer.sent.length = 0;
  return { ...test, members };
}

describe("A room of up to 100 users", () => {
  it("announces each join and leave to everyone, in the same turn", async () => {
    const { hub, join, turn, members } = await crowdOf(CROWD - 1, "v1");
    const last = await join("last", V1);
    turn();
    const { peer } = members[0]!;
    const came = peer.events();
    assertEquals(came.map(({ type }) => type), ["online_users", "user_joined", "presence"]);
    assertEquals(presences(came)[0]!.online, CROWD);
    hub.leave(last.member);
    turn();
    const went = peer.events();
    assertEquals(went.map(({ type }) => type), ["user_left", "online_users", "presence"]);
    assertEquals(presences(went)[0]!.left, ["last"]);
  });
});

describe("A room of more than 100 users", () => {
  it("gathers joins and leaves into one presence for chat.v1 members", async () => {
    const { hub, join, turn, pass, members } = await crowdOf(200, "v1");
    const { peer } = members[0]!;
    for (let i = 0; i < 60; i++) await join(`new-${i}`, V1);
    hub.leave(members[1]!.member);
    turn();
    assertEquals(peer.sent, []);
    pass(49);
    turn();
    assertEquals(peer.sent, []);
    pass(1);
    turn();
    const [presence, ...more] = peer.events() as PresenceEvent[];
    assertEquals(more, []);
    assertEquals(presence!.joined.length, 50);
    assertEquals([presence!.joined_count, presence!.left_count], [60, 1]);
    assertEquals(presence!.left, ["user-1"]);
    assertEquals(presence!.online, 259);
  });

  it("sends plain members one online_users with the first 100 names and the count", async () => {
    const { join, turn, pass, members } = await crowdOf(200);
    const { peer } = members[0]!;
    for (let i = 0; i < 10; i++) await join(`new-${i}`);
    pass(50);
    turn();
    const [online, ...more] = peer.events();
    assertEquals(more, []);
    assertEquals(online!.type, "online_users");
    assertEquals(online!.content.split(",").length, 100);
    assert("online" in online! && online.online === 210);
  });

  it("welcomes with the first 100 users and the count, without a notice of the own join", async () => {
    const { join, turn } = await crowdOf(200, "v1");
    const { peer } = await join("new", V1);
    turn();
    const [welcome, ...more] = peer.events();
    assertEquals(more, []);
    assert(welcome!.type === "welcome");
    assertEquals([welcome.users.length, welcome.online], [100, 201]);
  });

  it("lists the current first 100 for each new member", async () => {
    const { hub, join, settle, members } = await crowdOf(150, "v1");
    const comer = async (name: string) => {
      const { peer } = await join(name, V1);
      await settle();
      const [welcome] = peer.events();
      assert(welcome!.type === "welcome");
      return welcome.users.map(({ username, connections }) => `${username} ${connections}`);
    };
    const first = Array.from({ length: 100 }, (_, i) => `user-${i} 1`);
    assertEquals(await comer("a"), first);
    assertEquals(await comer("b"), first);
    hub.leave(members[0]!.member);
    hub.leave(members[120]!.member);
    assertEquals(await comer("c"), [...first.slice(1), "user-100 1"]);
    const { identity } = members[1]!.member;
    const { member } = await join("user-1", { ...V1, identity });
    assertEquals((await comer("d"))[0], "user-1 2");
    hub.leave(member);
    assertEquals((await comer("e"))[0], "user-1 1");
  });

  it("announces nothing if a user joined and left in between", async () => {
    const { hub, join, turn, pass, members } = await crowdOf(200, "v1");
    hub.leave((await join("visitor", V1)).member);
    pass(50);
    turn();
    assertEquals(members[0]!.peer.sent, []);
  });

  it("is exact again once it is small", async () => {
    const { hub, turn, pass, members } = await crowdOf(150, "v1");
    for (const { member } of members.slice(1)) hub.leave(member);
    pass(1000);
    turn();
    const events = members[0]!.peer.events();
    const left = presences(events).flatMap(({ left_count }) => left_count);
    assertEquals(left.reduce((sum, count) => sum + count), 149);
    assertEquals(presences(events).at(-1)!.online, 1);
    const online = events.findLast(({ type }) => type === "online_users");
    assertEquals(online!.content, "user-0");
  });

  it("delivers messages at once, also while notices are gathered", async () => {
    const { hub, join, turn, members } = await crowdOf(200, "v1");
    await join("new", V1);
    hub.receive(members[0]!.member, JSON.stringify({ type: "chat", content: "hello" }));
    turn();
    assertEquals(members[1]!.peer.events().map(({ content }) => content), ["hello"]);
  });
});

describe("A storm of people joining one room", () => {
  /** Bytes sent in total while `count` people join at one pace, and the frames for the first of them. */
  const storm = async (count: number, format: Format) => {
    const { join, turn, pass } = createHub();
    const members = [];
    for (let i = 0; i < count; i++) {
      members.push(await join(`user-${String(i).padStart(5, "0")}`, { format }));
      if (i % 100 === 99) {
        turn();
        // 10,000 of them in one second.
        pass(10);
        turn();
      }
    }
    pass(1000);
    turn();
    const bytes = members.reduce(
      (sum, { peer }) => sum + peer.sent.reduce((bytes, text) => bytes + text.length, 0),
      0,
    );
    return { perMember: bytes / count, frames: members[0]!.peer.sent.length };
  };

  for (const format of ["v1", "json"] as const) {
    it(`costs each ${format} member the same, at any size`, async () => {
      const few = await storm(2_000, format);
      const many = await storm(10_000, format);
      const ratio = many.perMember / few.perMember;
      assert(ratio < 1.5, `${few.perMember} bytes a member, then ${many.perMember}.`);
      // The first 100 joins are announced one by one; then there is one frame a window.
      assert(many.frames < 400, `${many.frames} frames`);
    });
  }
});
