/** A member that reads nothing, in a room that talks a lot. */

import { Client, makeFolder, openRaw, print, Server } from "./lab.ts";

const TEXT = "x".repeat(500_000);

await using folder = await makeFolder();
await using server = await Server.start(folder.path);
const alice = await Client.join(server, "alice");
using _carol = await openRaw(server, "carol");
await alice.until(({ type, username }) => type === "joined" && username === "carol");

const before = await server.usage();
let hasLeft = false;
for (let i = 0; i < 240; i++) {
  alice.say(`${i}${TEXT}`);
  await alice.until(({ content }) => content === `${i}${TEXT}`);
  hasLeft ||= alice.events.some(({ type }) => type === "left");
  alice.events.length = 0;
}
const after = await server.usage();
print(`the server grows by ${after.memory - before.memory} MB`);
print(`carol is ${hasLeft ? "removed" : "still in the room"}`);
await alice.close();
