/** Long logs: no command reads more rows than it needs. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { setImmediate } from "node:timers";
import type { Engine, EngineOptions } from "../../lib/engine/engine.ts";
import { MemoryEngine } from "../../lib/engine/memory.ts";
import { SqliteEngine } from "../../lib/engine/sqlite.ts";
import { makeFolder } from "../support/folder.ts";
import { quantile } from "../support/people.ts";

/** Maximum time of a command on the loop, in milliseconds: most take a tenth. */
const MOST_MS = 10;

const COUNT = 9900;
const LONG = "x".repeat(4000);
const SENDER = { username: "a", person: "p", origin: "" };
const RECEIVER = { username: "b", person: "q" };

const ENGINES: Record<string, (options: EngineOptions, path: string) => Engine> = {
  memory: (options) => new MemoryEngine({ ...options, maxSize: 2 ** 30 }),
  sqlite: (options, path) =>
    new SqliteEngine({ ...options, path, atCommit: (callback) => void setImmediate(callback) }),
};

/** Runs a function `count` times, a hundred at once. */
async function repeat<T>(count: number, act: (i: number) => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  for (let i = 0; i < count; i += 100) {
    results.push(...await Promise.all(Array.from({ length: 100 }, (_, k) => act(i + k))));
  }
  return results;
}

describe("A long log", () => {
  for (const [name, open] of Object.entries(ENGINES)) {
    it(`costs a command no more than a short one (${name})`, async () => {
      await using folder = await makeFolder();
      let id = 0;
      const newId = () => `id-${++id}`;
      const options = { clock: Date.now, newId, keep: 10_000, leaseMs: 30_000 };
      const engine = open(options, `${folder.path}/chat.db`);
      const { log } = engine;
      const { event: edited } = await log.append("edits", { ...SENDER, content: "first" });
      const edit = (room: string, id: string) =>
        log.change(room, { ...SENDER, type: "edit", id, content: LONG });
      await repeat(COUNT, () => edit("edits", edited.id));
      const said = await repeat(
        COUNT / 2,
        (i) => log.append("deleted", { ...SENDER, content: LONG, ref: `${i}` }),
      );
      await repeat(
        COUNT / 2,
        (i) => log.change("deleted", { ...SENDER, type: "delete", id: said[i]!.event.id }),
      );
      await repeat(COUNT, () => log.whisper("dms", { ...SENDER, to: RECEIVER, content: LONG }));

      const check = async (what: string, act: () => Promise<unknown>) => {
        const times: number[] = [];
        for (let i = 0; i < 9; i++) {
          const start = performance.now();
          await act();
          times.push(performance.now() - start);
        }
        const ms = quantile(times);
        assert(ms < MOST_MS, `${what}: ${ms} ms`);
      };
      for (const room of ["edits", "deleted"]) {
        const { epoch } = await log.state(room);
        await check(`history of ${room}`, () => log.messages(room, { limit: 101 }));
        await check(`before`, () => log.messages(room, { before: COUNT / 2, limit: 101 }));
        await check(`after`, () => log.messages(room, { after: 2, limit: 101 }));
        await check(`a join to ${room}`, async () => {
          (await engine.open(room, { events: 128, messages: 50 })).close();
        });
        await check(`missed of ${room}`, () => log.events(room, COUNT / 2, 64));
        await check(`resume in ${room}`, () => log.canResume(room, epoch, 1));
      }
      await check("an edit", () => edit("edits", edited.id));
      const { epoch } = await log.state("dms");
      await check("resume of dms", () => log.canResumeInbox("dms", RECEIVER.person, epoch, 1));
      await check("missed dms", () => log.inbox("dms", RECEIVER.person, COUNT / 2, 64));
      // Only the newest text of an edited message is kept.
      const newest = await log.messages("edits", { limit: 2 });
      assertEquals(newest.map(({ content }) => content), [LONG]);
      await engine.close();
    });
  }
});
