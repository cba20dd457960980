/** A frame that the server does not expect. */

import { Client, describe, makeFolder, print, Server } from "./lab.ts";

await using folder = await makeFolder();
await using server = await Server.start(folder.path);
const alice = await Client.join(server, "alice");
const bob = await Client.join(server, "bob");
const mallory = await Client.join(server, "mallory");

mallory.socket.send("hello");
await mallory.closed;
alice.say("are you still there?");
try {
  const event = await bob.until(({ content }) => content !== undefined);
  print(`bob sees ${describe(event)}`);
} catch {
  await server.ended;
  print(`the server has ended: ${await server.error()}`);
}
await Promise.all([alice.close(), bob.close()]);
