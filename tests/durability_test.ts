/** Acked messages are stored: the real process, killed without warning, on a real file. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { afterEach, beforeEach, describe, it } from "@std/testing/bdd";
import type { ChatEvent, HistoryEvent } from "../lib/protocol/events.ts";
import { ServerProcess, startInVain } from "./support/process.ts";
import { V1Client } from "./support/v1_client.ts";

let folder: string;
let env: Record<string, string>;

beforeEach(async () => {
  folder = await Deno.makeTempDir();
  env = { DATABASE_URL: `sqlite:${folder}/chat.db` };
});

afterEach(() => Deno.remove(folder, { recursive: true }));

/** All messages of a room, by paging back from the newest. */
async function readAll(client: V1Client): Promise<ChatEvent[]> {
  const all: ChatEvent[] = [];
  for (let more = true; more;) {
    const before = all[0] && { before: all[0].seq };
    const page = await client.ask({ type: "history", limit: 100, ...before }) as HistoryEvent;
    all.unshift(...page.messages);
    more = page.more;
  }
  return all;
}

const contentsOf = (name: string, count: number) =>
  Array.from({ length: count }, (_, i) => `${name} ${i}`);

describe("kill -9 in the middle of a burst, and a restart on the same file", () => {
  it("loses no acked message, repeats nothing, and lets everyone resume without a gap", async () => {
    const names = ["alice", "bob", "carol"];
    const first = await ServerProcess.start({ env });
    const before = await Promise.all(names.map((name) => V1Client.join(first.ws, "r", name)));
    /** Talks, with up to 100 messages under way, until the connection is gone. */
    const talk = async (client: V1Client, name: string) => {
      let sent = 0;
      try {
        for (let acked = 0;; acked++) {
          for (; sent < acked + 100; sent++) {
            client.send({ type: "chat", content: `${name} ${sent}`, ref: `${sent}` });
          }
          await client.nextOf("ack");
          if (acked === 1000) first.kill("SIGKILL");
        }
      } catch {
        return sent;
      }
    };
    const counts = await Promise.all(before.map((client, n) => talk(client, names[n]!)));
    await first.exited;
    const acks = before.map((client) => client.all("ack"));
    assert(acks.every((list, n) => list.length < counts[n]!), "Nothing was under way.");

    await using second = await ServerProcess.start({ env });
    const after = await Promise.all(before.map((client, n) => {
      const { session, epoch, seq } = client.welcome;
      const seen = client.all("chat").at(-1)?.seq ?? seq;
      return V1Client.join(second.ws, "r", names[n]!, { session, epoch, after: seen });
    }));
    for (const [n, client] of after.entries()) {
      assertEquals(client.welcome.recovered, true);
      const acked = new Set(acks[n]!.map(({ ref }) => ref));
      for (let i = 0; i < counts[n]!; i++) {
        if (acked.has(`${i}`)) continue;
        client.send({ type: "chat", content: `${names[n]} ${i}`, ref: `${i}` });
      }
    }
    const total = counts.reduce((sum, count) => sum + count);
    for (const client of after) {
      await client.next(() => client.all("chat").at(-1)?.seq === total);
    }
    const log = await readAll(after[0]!);
    assertEquals(log.map(({ seq }) => seq), Array.from({ length: total }, (_, i) => i + 1));
    for (const [n, name] of names.entries()) {
      const mine = log.filter(({ username }) => username === name);
      assertEquals(mine.map(({ content }) => content).sort(), contentsOf(name, counts[n]!).sort());
      for (const { seq, id, ref } of acks[n]!) {
        assertEquals([log[seq! - 1]!.id, log[seq! - 1]!.content], [id, `${name} ${ref}`]);
      }
      // This client saw exactly the stored messages: no gap, no repeat.
      const seen = [...before[n]!.all("chat"), ...after[n]!.all("chat")];
      assertEquals(
        seen.map(({ seq, id }) => `${seq} ${id}`),
        log.map(({ seq, id }) => `${seq} ${id}`),
      );
    }
    await Promise.all(after.map((client) => client.close()));
  });
});

describe("A file", () => {
  it("keeps a room's messages and numbering over a restart, so that everyone resumes", async () => {
    const welcomes = [];
    for (const expected of [0, 1]) {
      await using server = await ServerProcess.start({ env });
      const [before] = welcomes;
      const resume = before && { session: before.session, epoch: before.epoch, after: 1 };
      await using alice = await V1Client.join(server.ws, "r", "alice", resume);
      assertEquals(alice.welcome.seq, expected);
      await alice.ask({ type: "chat", content: `message ${expected}` });
      welcomes.push(alice.welcome);
      assertEquals((await server.stop()).code, 0);
    }
    assert(welcomes[0]!.epoch !== welcomes[1]!.epoch);
    assertEquals(welcomes[1]!.recovered, true);
  });

  it("admits one server at a time; the second one stops with a sentence", async () => {
    await using _first = await ServerProcess.start({ env });
    const sentence = await startInVain({ env });
    assertStringIncludes(sentence, `Cannot open the database ${folder}/chat.db: `);
    assert(!sentence.includes("    at "), sentence);
  });

  it("in a missing folder stops the start", async () => {
    const sentence = await startInVain({ env: { DATABASE_URL: `sqlite:${folder}/no/chat.db` } });
    assertStringIncludes(sentence, "Cannot open the database ");
  });
});
