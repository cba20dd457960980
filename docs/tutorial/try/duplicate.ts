/** Alice's connection ends before she hears whether her message arrived, so she sends it again. */

import { Client, makeFolder, print, Server } from "./lab.ts";

const MESSAGE = { content: "I bring a cake.", ref: "alice's 7th message" };

await using folder = await makeFolder();
await using server = await Server.start(folder.path);
const bob = await Client.join(server, "bob");
const alice = await Client.join(server, "alice");
alice.say(MESSAGE.content, MESSAGE.ref);
await bob.until(({ content }) => content === MESSAGE.content);
await alice.close();
await bob.until(({ type }) => type === "left");

const aliceAgain = await Client.join(server, "alice");
aliceAgain.say(MESSAGE.content, MESSAGE.ref);
aliceAgain.say("That is all.");
await Promise.all(
  [aliceAgain, bob].map((one) => one.until(({ content }) => content === "That is all.")),
);
print(`bob sees: ${bob.chats.map(({ content }) => content).join(" ")}`);
const ack = aliceAgain.events.find(({ type, ref }) => type === "ack" && ref === MESSAGE.ref);
print(ack ? `alice learns that it is message ${ack.seq}` : "alice learns nothing");
await Promise.all([aliceAgain.close(), bob.close()]);
