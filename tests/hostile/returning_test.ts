/** A member that returns after many messages: pages in order, complete and bounded. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { MemoryEngine } from "../../lib/engine/memory.ts";
import { SqliteEngine } from "../../lib/engine/sqlite.ts";
import type { DmEvent, Event, WelcomeEvent } from "../../lib/protocol/events.ts";
import { createHub, type FakeHubOptions, FakePeer, guest } from "../support/fake_hub.ts";
import { Random, seeds } from "../support/random.ts";

const ENGINES: Record<string, FakeHubOptions["open"]> = {
  memory: (options) => new MemoryEngine({ ...options, maxSize: 2 ** 30 }),
  sqlite: (options) => new SqliteEngine({ ...options, path: ":memory:" }),
};

/** Maximum UTF-16 units that may wait for a slow reader at a time. */
const MAX_WAITING = 300 * 1024;

async function setUp(open: FakeHubOptions["open"], keep: number) {
  const fake = createHub({ historySize: 50 }, {}, { keep, ...(open && { open }) });
  const steady = await fake.join("steady", { format: "v1" });
  await fake.settle();
  const [welcome] = steady.peer.events() as WelcomeEvent[];
  const victim = { username: "victim", person: guest("victim").person };
  const sender = { username: "sender", person: "p", origin: "" };
  let count = 0;
  const whisper = async (times: number, size: () => number) => {
    const stored = [];
    for (let i = 0; i < times; i++) {
      const content = `${++count} ${'"'.repeat(size())}`;
      stored.push(fake.engine.log.whisper("r", { ...sender, to: victim, content }));
      if (i % 500 === 499) await fake.settle();
    }
    await fake.settle();
    await Promise.all(stored);
  };
  const say = async (content: string) => {
    const stored = fake.engine.log.append("r", { ...sender, content });
    await fake.settle();
    await stored;
  };
  const comeBack = async (after: number, inbox: number) => {
    const resume = { epoch: welcome!.epoch, after, inbox };
    const request = {
      room: "r",
      username: "victim",
      format: "v1" as const,
      identity: guest("victim", true),
      resume,
    };
    await fake.hub.admit(request);
    const peer = new FakePeer();
    peer.isStalled = true;
    fake.hub.join(peer, request);
    await fake.settle();
    return peer;
  };
  return { ...fake, whisper, say, comeBack, total: () => count };
}

const dms = (events: Event[]) => events.filter((event): event is DmEvent => event.type === "dm");

for (const [name, open] of Object.entries(ENGINES)) {
  describe(`A slow returning member (${name})`, () => {
    for (const seed of seeds(2)) {
      it(`gets its private messages in pages, in order, with those sent meanwhile (SEED=${seed})`, async () => {
        const random = new Random(seed);
        const { whisper, say, comeBack, total, settle, pass, turn, engine } = await setUp(
          open,
          20_000,
        );
        await whisper(random.between(500, 1500), () => random.below(4000));
        for (let i = 0; i < 20; i++) await say(`missed ${i}`);
        const inbox = random.below(10);
        const peer = await comeBack(0, inbox);
        const events: Event[] = [];
        for (let round = 0; round < 400; round++) {
          assert(
            peer.bufferedAmount <= MAX_WAITING,
            `${peer.bufferedAmount} wait in round ${round}`,
          );
          events.push(...peer.events());
          if (round < 30) {
            // More than the queue of a member that catches up can hold.
            if (random.percent(30)) await whisper(random.between(1, 150), () => random.below(4000));
            if (random.percent(30)) await say(`live ${round}`);
          }
          peer.bufferedAmount = 0;
          pass(20);
          turn();
          await settle();
        }
        events.push(...peer.events());
        const [welcome] = events as WelcomeEvent[];
        assertEquals([welcome!.type, welcome!.recovered], ["welcome", true]);
        const numbers = dms(events).map(({ inbox_seq }) => inbox_seq);
        assertEquals(numbers, Array.from({ length: total() - inbox }, (_, i) => inbox + 1 + i));
        const seqs = events.flatMap((event) => event.type === "chat" ? [event.seq] : []);
        assertEquals(seqs, seqs.map((_, i) => i + 1));
        assertEquals(seqs.length, (await engine.log.state("r")).lastSeq);
        await engine.close();
      });
    }

    it("recovers up to 10,000 private messages, and gets recovered: false after more", async () => {
      const { whisper, comeBack, settle, pass, engine } = await setUp(open, 20_000);
      await whisper(10_001, () => 1);
      for (const [inbox, recovered, count] of [[0, false, 50], [1, true, 10_000]] as const) {
        const peer = await comeBack(0, inbox);
        peer.drain();
        for (let i = 0; i < 250; i++) {
          pass(20);
          await settle();
        }
        const events = peer.events();
        assertEquals((events[0] as WelcomeEvent).recovered, recovered);
        const found = dms(events);
        assertEquals(found.length, count);
        assertEquals(found.at(-1)!.inbox_seq, 10_001);
        assertEquals(found.every(({ history }) => history === true), !recovered);
      }
      await engine.close();
    });
  });
}

describe("A newcomer on a slow line", () => {
  it("gets a long history in pages, then everything live", async () => {
    const fake = createHub({ historySize: 1000, maxMessageBytes: 65_536, maxFrameBytes: 500_000 });
    const author = { username: "author", person: "p", origin: "" };
    for (let i = 1; i <= 1000; i++) {
      const content = "x".repeat(i % 100 === 0 ? 60_000 : 100);
      await fake.engine.log.append("r", { ...author, content });
    }
    for (const format of ["v1", "json"] as const) {
      const { peer } = await fake.join(`new-${format}`, { format });
      peer.isStalled = true;
      const events: Event[] = [];
      for (let round = 0; round < 100; round++) {
        await fake.settle();
        assert(peer.bufferedAmount <= MAX_WAITING && peer.sent.length <= 256);
        events.push(...peer.events());
        if (round === 2) await fake.engine.log.append("r", { ...author, content: "live" });
        peer.bufferedAmount = 0;
        fake.pass(20);
      }
      const { lastSeq } = await fake.engine.log.state("r");
      const seqs = events.flatMap((event) => event.type === "chat" ? [event.seq] : []);
      assertEquals(seqs, Array.from({ length: 1001 }, (_, i) => lastSeq - 1000 + i));
      assertEquals(peer.closed, undefined);
    }
  });
});
