/** Somebody joins, speaks and leaves, and somebody else takes the name: what does the room see? */

import { Client, describe, makeFolder, print, Server } from "./lab.ts";

await using folder = await makeFolder();
await using server = await Server.start(folder.path);
const bob = await Client.join(server, "bob");
const alice = await Client.join(server, "alice");
alice.say("hello");
await bob.until(({ content }) => content === "hello");
try {
  const impostor = await Client.join(server, "alice");
  impostor.say("I owe you all a drink");
  await bob.until(({ content }) => content === "I owe you all a drink");
  await impostor.close();
} catch (error) {
  print((error as Error).message);
}
await alice.close();
await bob.settle();
for (const event of bob.events) {
  if (event.type !== "ack") print(`bob sees ${describe(event)}`);
}
await bob.close();
