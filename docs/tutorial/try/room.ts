/** Two people in one room: does one hear the other? */

import { Client, describe, makeFolder, print, Server } from "./lab.ts";

await using folder = await makeFolder();
await using server = await Server.start(folder.path);
const alice = await Client.join(server, "alice");
const bob = await Client.join(server, "bob");
alice.say("hello");
await alice.until(({ content }) => content === "hello");
await bob.settle();
print(`bob sees ${bob.chats.map(describe).join(", ") || "nothing"}`);
await Promise.all([alice.close(), bob.close()]);
