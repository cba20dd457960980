/** Bob's connection is gone for a moment, and alice goes on talking. */

import { Client, makeFolder, print, Server } from "./lab.ts";

await using folder = await makeFolder();
await using server = await Server.start(folder.path);
const alice = await Client.join(server, "alice");
const bob = await Client.join(server, "bob");
alice.say("one");
const { seq = 0 } = await bob.until(({ content }) => content === "one");

await bob.close();
await alice.until(({ type, username }) => type === "left" && username === "bob");
alice.say("two");
alice.say("three");
await alice.until(({ content }) => content === "three");

const bobAgain = await Client.join(server, "bob", seq);
alice.say("four");
await bobAgain.until(({ content }) => content === "four");
const contents = [...bob.chats, ...bobAgain.chats].map(({ content }) => content);
print(`bob has ${contents.join(", ")}`);
await Promise.all([alice.close(), bobAgain.close()]);
