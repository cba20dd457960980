/** The limits of one address over all its connections, and the load on the disk. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { readConfig } from "../../lib/config.ts";
import { SqliteEngine } from "../../lib/engine/sqlite.ts";
import { CLOSE } from "../../lib/protocol/codes.ts";
import { Client } from "../support/client.ts";
import { createHub } from "../support/fake_hub.ts";
import { makeFolder } from "../support/folder.ts";
import { Random, seeds } from "../support/random.ts";
import { startServer } from "../support/server.ts";
import { V1Client } from "../support/v1_client.ts";

describe("MESSAGE_RATE_PER_ADDRESS", () => {
  it("counts the frames of all connections of an address, and no others", async () => {
    await using server = await startServer({ MESSAGE_RATE_PER_ADDRESS: "10", TRUST_PROXY: "1" });
    const clients = [];
    for (let i = 0; i < 4; i++) clients.push(await V1Client.join(server.ws, "r", `user-${i}`));
    for (const client of clients) {
      for (let i = 0; i < 20; i++) client.send({ type: "chat", content: "hello", ref: `${i}` });
    }
    let acked = 0;
    for (const client of clients) {
      await client.ask({ type: "none" }).catch(() => {});
      const errors = client.all("error").filter(({ code }) => code === "rate_limited");
      acked += client.all("ack").length;
      for (const { retry_after, ref } of errors) {
        assert(retry_after! > 0 && retry_after! <= 1 && ref !== undefined);
      }
    }
    assert(acked >= 30 && acked < 60, `${acked} of 80 were stored`);
    for (const client of clients) await client.close();
  });

  it("counts bytes too, and is off with 0", async () => {
    for (const [rate, isLimited] of [["10", true], ["0", false]] as const) {
      await using server = await startServer({ MESSAGE_RATE_PER_ADDRESS: rate });
      await using alice = await V1Client.join(server.ws, "r", "alice");
      // 40 KiB a frame of spaces between the fields: few frames, many bytes.
      const frame = (ref: string) => `{"type":"ping",${" ".repeat(32_000)}"ref":"${ref}"}`;
      for (let i = 0; i < 20; i++) alice.socket.send(frame(`${i}`));
      let answers = 0;
      while (answers < 20) {
        const event = await alice.next();
        if (event.type === "pong" || event.type === "error") answers++;
      }
      assertEquals(alice.all("error").some(({ code }) => code === "rate_limited"), isLimited);
      assert(alice.all("pong").length >= 3);
    }
  });

  it("counts frames to /echo", async () => {
    await using server = await startServer({ MESSAGE_RATE_PER_ADDRESS: "1" });
    await using echo = await Client.connect(`${server.ws}/echo`);
    // A connection that is sending may lose its close frame.
    for (let i = 0; i < 3; i++) {
      echo.send("x");
      await echo.next();
    }
    echo.send("x");
    assertEquals((await echo.closed).code, CLOSE.rateLimit.code);
  });
});

describe("An hour of messages from a few addresses", () => {
  for (const seed of seeds(1)) {
    it(`leaves the disk within MAX_STORED_BYTES and a tenth (SEED=${seed})`, async () => {
      const random = new Random(seed);
      const maxStoredBytes = 64 * 1024 * 1024;
      const { rates: { traffic } } = readConfig({ MESSAGE_RATE_PER_ADDRESS: "30" });
      await using folder = await makeFolder();
      const { join, hub, settle, pass, engine } = createHub(
        { messageRate: { perSecond: 10, burst: 30 } },
        {},
        {
          keep: 10_000,
          traffic,
          open: (options) =>
            new SqliteEngine({ ...options, path: `${folder.path}/chat.db`, maxStoredBytes }),
        },
      );
      const members = [];
      for (let i = 0; i < 24; i++) {
        const echo = { format: "v1", echo: false } as const;
        const address = `192.0.2.${i % 3}`;
        members.push(await join(`user-${i}`, { ...echo, address, room: `r${i % 7}` }));
      }
      const most = { "chat.db": 0, "chat.db-wal": 0 };
      let sent = 0;
      for (let second = 0; second < 3600; second += 10) {
        for (const { member, peer } of members) {
          for (let i = 0; i < 20 && !member.isGone; i++) {
            const content = random.pick(["x", '"', "é"]).repeat(random.pick([10, 1000, 2000]));
            const dm = random.percent(20) ? { type: "dm", to: "user-0" } : { type: "chat" };
            const text = JSON.stringify({ ...dm, content });
            sent += text.length;
            hub.receive(member, text);
          }
          peer.sent.length = 0;
        }
        // The simulated hour waits for the commits of the disk.
        let isStored = false;
        const tick = { username: "tick", person: "tick", origin: "", content: "tick" };
        engine.log.append("clock", tick).then(() => isStored = true);
        while (!isStored) await settle();
        pass(10_000);
        hub.sweep();
        for (const name of ["chat.db", "chat.db-wal"] as const) {
          const { size } = await Deno.stat(`${folder.path}/${name}`);
          most[name] = Math.max(most[name], size);
        }
      }
      assert(sent > 3 * maxStoredBytes);
      const bytes = JSON.stringify(most);
      assert(most["chat.db"] <= 1.1 * maxStoredBytes, bytes);
      // Maximum bytes of the write-ahead log, plus one commit.
      assert(most["chat.db-wal"] <= 20 * 1024 * 1024, bytes);
      await engine.close();
    });
  }
});
