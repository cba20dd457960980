import { assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { DEFAULT_SETTINGS, type EngineOptions } from "../lib/engine/engine.ts";
import { MemoryEngine, MemoryStore } from "../lib/engine/memory.ts";
import { ChatError } from "../lib/errors.ts";
import { Permissions } from "../lib/room/permissions.ts";
import { account } from "./support/fake_hub.ts";

const OPTIONS: EngineOptions = {
  clock: Date.now,
  newId: () => crypto.randomUUID(),
  keep: 10,
  leaseMs: 30_000,
};

const X = { key: "x", person: "guest:x" };
const Y = { key: "y", person: "guest:y" };

describe("Permissions", () => {
  it("of two instances keep both of two bans that are made at once", async () => {
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

  it("keep a ban that is made while the owner changes the room", async () => {
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
      members: [],
      bans: [X],
      version: 2,
    });
  });

  it("are unavailable when other changes come first without end", async () => {
    const engine = new MemoryEngine(OPTIONS);
    let attempts = 0;
    engine.roomSettings.setSettings = () => Promise.resolve(++attempts < 0);
    const error = await assertRejects(() => new Permissions(engine).ban("r", X), ChatError);
    assertEquals(error.code, "unavailable");
    assertEquals(attempts, 20);
  });
});
