/**
 * The cost of appending messages to the engines: one, many in one turn, in one room and in many.
 */

import { setImmediate } from "node:timers";
import type { Engine } from "../../lib/engine/engine.ts";
import { MemoryEngine } from "../../lib/engine/memory.ts";
import { SqliteEngine } from "../../lib/engine/sqlite.ts";

let id = 0;
const newId = () => String(++id);
const options = { clock: Date.now, newId, keep: 10_000, leaseMs: Infinity };
const folder = await Deno.makeTempDir();
const engines: Record<string, Engine> = {
  memory: new MemoryEngine(options),
  sqlite: new SqliteEngine({ ...options, path: `${folder}/chat.db`, atCommit: setImmediate }),
};
globalThis.addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));

const append = (engine: Engine, room = "r") => {
  const content = "the quick brown fox jumps over the lazy dog";
  return engine.log.append(room, {
    username: "alice",
    person: "guest:1",
    origin: "1",
    ref: newId(),
    content,
  });
};

for (const [name, engine] of Object.entries(engines)) {
  for (const messages of [1, 100]) {
    const what = messages === 1 ? "a message" : `${messages} messages in one turn`;
    Deno.bench(`append ${what}, ${name}`, { group: `${messages}` }, async () => {
      await Promise.all(Array.from({ length: messages }, () => append(engine)));
    });
  }
  Deno.bench(`append a message in each of 100 rooms, ${name}`, { group: "rooms" }, async () => {
    await Promise.all(Array.from({ length: 100 }, (_, room) => append(engine, `r${room}`)));
  });
}
