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
const heard = bob.until(({ content }) => content !== undefined);
const outcome = await Promise.race([
  heard.then((event) => `bob sees ${describe(event)}`),
  server.ended.then(async () => `the server has ended: ${await server.error()}`),
]);
print(outcome);
await Promise.all([alice.close(), bob.close()]);
