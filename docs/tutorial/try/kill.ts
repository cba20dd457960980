/** The server is killed behind ten acknowledged messages, and starts again. */

import { Client, makeFolder, print, Server } from "./lab.ts";

await using folder = await makeFolder();
const acknowledged: string[] = [];
{
  await using server = await Server.start(folder.path);
  const alice = await Client.join(server, "alice");
  for (let i = 1; i <= 10; i++) {
    alice.say(`message ${i}`, `${i}`);
    await alice.until(({ type, ref }) => type === "ack" && ref === `${i}`);
    acknowledged.push(`message ${i}`);
  }
  // In the middle of some more.
  for (let i = 0; i < 10; i++) alice.say("more");
  server.kill("SIGKILL");
  await alice.closed;
}
await using server = await Server.start(folder.path);
const bob = await Client.join(server, "bob", 0);
await bob.settle();
const kept = acknowledged.filter((text) => bob.chats.some(({ content }) => content === text));
print(`${acknowledged.length} messages are acknowledged, ${kept.length} are still there`);
await bob.close();
