/** Phones that lose the network: one in a room, and 30 while they connect. */

import { Client, makeFolder, openRaw, print, Server } from "./lab.ts";

await using folder = await makeFolder();
await using server = await Server.start(folder.path);
const bob = await Client.join(server, "bob");

// Alice's phone reads, and answers no ping.
using _phone = await openRaw(server, "alice");
await bob.until(({ type, username }) => type === "left" && username === "alice");
await bob.settle();
const seen = bob.events.filter(({ type }) => type === "left");
print(`bob sees alice leave ${seen.length === 1 ? "once" : `${seen.length} times`}`);

// An answer that nobody has read turns the end of a connection into a reset.
for (let i = 0; i < 30; i++) {
  const conn = await openRaw(server, `phone${i}`, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
  await conn.read(new Uint8Array(1));
  conn.close();
}
await bob.settle();
const carol = await Client.join(server, "carol");
const { users = [] } = await carol.until(({ type }) => type === "joined");
print(`carol sees ${users.filter((name) => name.startsWith("phone")).length} phones in the room`);
await Promise.all([bob.close(), carol.close()]);
