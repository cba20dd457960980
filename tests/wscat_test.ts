/** The well-known terminal client, as people use it. */

import { assertEquals } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { Client } from "./support/client.ts";
import { startServer, type TestServer } from "./support/server.ts";
import { Wscat } from "./support/wscat.ts";

let server: TestServer;

beforeAll(async () => {
  server = await startServer();
});

afterAll(() => server.stop());

describe("wscat", () => {
  it("in two terminals at /ws: each line appears in both", async () => {
    await using one = new Wscat(`${server.ws}/ws`);
    await using two = new Wscat(`${server.ws}/ws`);
    await server.logged("joined", 2);
    // wscat drops lines typed before it sees the connection open: wait for a first frame.
    await using probe = await Client.connect(`${server.ws}/ws`);
    probe.send("ready");
    for (const terminal of [one, two]) assertEquals(await terminal.nextLine(), "ready");
    await one.send("hello from one");
    await two.send("hello from two");
    for (const terminal of [one, two]) {
      const lines = [await terminal.nextLine(), await terminal.nextLine()];
      assertEquals(lines.sort(), ["hello from one", "hello from two"]);
    }
  });

  it("in a room: one JSON frame a line", async () => {
    await using alice = new Wscat(`${server.ws}/ws/general?username=alice`);
    assertEquals(JSON.parse(await alice.nextLine()).type, "online_users");
    assertEquals(JSON.parse(await alice.nextLine()).content, "alice joined the room");
    await alice.send("Hello everyone!");
    const { type, content, room, username } = JSON.parse(await alice.nextLine());
    assertEquals([type, content, room, username], ["chat", "Hello everyone!", "general", "alice"]);
  });

  it("with ?format=text: lines for people", async () => {
    await using bob = new Wscat(`${server.ws}/ws/text?username=bob&format=text`);
    assertEquals(await bob.nextLine(), "Online: bob");
    assertEquals(await bob.nextLine(), "User 'bob' joined the chat");
    await bob.send("hi");
    assertEquals(await bob.nextLine(), "bob: hi");
  });
});
