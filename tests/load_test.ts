/** Many clients at once: nothing is lost, doubled or reordered, and presence is exact. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Client } from "./support/client.ts";
import { ServerProcess } from "./support/process.ts";
import { RawClient } from "./support/raw.ts";
import { startServer, type TestServer } from "./support/server.ts";
import { V1Client } from "./support/v1_client.ts";

const CLIENTS = 20;
const MESSAGES = 500;
/** Maximum unacked messages of a client. */
const WINDOW = 25;

/** The memory of a process, as the kernel counts it. */
async function residentBytes(pid: number): Promise<number> {
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)![1]) * 1024;
}

describe("20 clients with 500 messages each, while others join and leave", () => {
  it("all receive every message once and in one order", async () => {
    await using server = await startServer();
    const names = Array.from({ length: CLIENTS }, (_, i) => `user-${i}`);
    const clients = await Promise.all(names.map((name) => Client.join(server.ws, "r", name)));

    let isOver = false;
    const churn = async (name: string) => {
      let visits = 0;
      for (; !isOver; visits++) await (await Client.join(server.ws, "r", name)).close();
      return visits;
    };
    const visitors = ["v1", "v2", "v3"].map(churn);

    const talk = async (client: Client, name: string) => {
      for (let sent = 0, seen = 0; seen < MESSAGES; seen++) {
        while (sent < Math.min(MESSAGES, seen + WINDOW)) client.send(`${name} ${sent++}`);
        await client.nextFrame(({ type, username }) => type === "chat" && username === name);
      }
    };
    await Promise.all(clients.map((client, i) => talk(client, names[i]!)));
    const last = clients.map((client) =>
      client.frames.some(({ seq }) => seq === CLIENTS * MESSAGES) ||
      client.nextFrame(({ seq }) => seq === CLIENTS * MESSAGES)
    );
    await Promise.all(last);
    isOver = true;
    const visits = (await Promise.all(visitors)).reduce((sum, count) => sum + count);

    const chats = clients.map(({ frames }) => frames.filter(({ type }) => type === "chat"));
    const expected = names.flatMap((name) =>
      Array.from({ length: MESSAGES }, (_, i) => `${name} ${i}`)
    );
    assertEquals(chats[0]!.map(({ content }) => content).sort(), expected.sort());
    const order = chats[0]!.map(({ seq, id }) => `${seq} ${id}`);
    assertEquals(chats[0]!.map(({ seq }) => seq), order.map((_, i) => i + 1));
    for (const seen of chats) assertEquals(seen.map(({ seq, id }) => `${seq} ${id}`), order);
    assert(visits > 0, "Nobody joined or left.");
    await Promise.all(clients.map((client) => client.close()));
  });
});

describe("500 connections reset at once", () => {
  /** Opens connections that do not read, so that their close is a reset. */
  const open = (server: TestServer, room: string, names: string[]) =>
    Promise.all(names.map((name) => RawClient.open(server.port, `/ws/${room}?username=${name}`)));

  it("in rooms of 100: each leave is announced once, and presence is exact", async () => {
    await using server = await startServer();
    const names = Array.from({ length: 99 }, (_, i) => `user-${i}`);
    const rooms = ["a", "b", "c", "d", "e"];
    const watchers = await Promise.all(
      rooms.map((room) => Client.join(server.ws, room, "watcher")),
    );
    const peers = await Promise.all(rooms.map((room) => open(server, room, names)));
    await server.logged("joined", 500);
    for (const peer of peers.flat()) peer.close();
    for (const watcher of watchers) {
      await watcher.nextFrame(({ type, content }) =>
        type === "online_users" && content === "watcher"
      );
      const left = watcher.frames.filter(({ type }) => type === "user_left");
      assertEquals(left.map(({ username }) => username).sort(), names.toSorted());
      await watcher.close();
    }
  });

  it("in one room: each is counted once, and presence is exact", async () => {
    await using server = await startServer();
    const url = `${server.ws}/ws/r?username=watcher`;
    await using watcher = await V1Client.connect(url);
    const peers = await open(server, "r", Array.from({ length: 500 }, (_, i) => `user-${i}`));
    await watcher.next((event) => event.type === "presence" && event.online === 501);
    for (const peer of peers) peer.close();
    await watcher.next((event) => event.type === "presence" && event.online === 1);
    const sum = { joined: 0, left: 0 };
    for (const event of watcher.events) {
      if (event.type !== "presence") continue;
      sum.joined += event.joined_count;
      sum.left += event.left_count;
    }
    assertEquals(sum, { joined: 501, left: 500 });
  });
});

describe("A reader that stops reading while 16,000 messages of 1.5 KB flow", () => {
  const whereMemoryIsKnown = Deno.build.os === "linux" ? it : it.skip;
  whereMemoryIsKnown("is evicted, costs less than 64 MB, and others miss nothing", async () => {
    const folder = await Deno.makeTempDir();
    const env = { DATABASE_URL: `sqlite:${folder}/chat.db` };
    await using server = await ServerProcess.start({ env });
    const stalled = await RawClient.open(server.port, "/ws/r?username=stalled");
    await using alice = await Client.join(server.ws, "r", "alice");
    await using bob = await Client.join(server.ws, "r", "bob");
    const text = "x".repeat(1500);
    let peak = 0;
    const before = await residentBytes(server.pid);
    for (let sent = 0, seen = 0; seen < 16_000; seen++) {
      while (sent < Math.min(16_000, seen + 50)) alice.send(`${sent++} ${text}`);
      const { content } = await bob.nextFrame(({ type }) => type === "chat");
      assertEquals(content, `${seen} ${text}`);
      if (seen % 500 === 0) peak = Math.max(peak, await residentBytes(server.pid));
    }
    peak = Math.max(peak, await residentBytes(server.pid));
    assert(peak - before < 64 * 1024 * 1024, `It cost ${Math.round((peak - before) / 1e6)} MB.`);
    await server.logLine(({ msg }) => msg === "member evicted");
    stalled.close();
    await server.stop();
    await Deno.remove(folder, { recursive: true });
  });
});
