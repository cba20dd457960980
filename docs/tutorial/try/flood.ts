/** A member that sends 1,000 messages at once, and one that sends a very long message. */

import { Client, makeFolder, print, Server } from "./lab.ts";

await using folder = await makeFolder();
await using server = await Server.start(folder.path);
const alice = await Client.join(server, "alice");

/** Sends messages until the server has handled them, or has closed the connection. */
async function flood(username: string, messages: string[]): Promise<number> {
  const client = await Client.join(server, username);
  for (const message of messages) client.say(message);
  const isLast = ({ content }: { content?: string }) => content === messages.at(-1);
  await Promise.race([client.closed, client.until(isLast)]);
  await alice.settle();
  await client.close();
  return alice.chats.filter((chat) => chat.username === username).length;
}

const many = await flood("mallory", Array.from({ length: 1000 }, (_, i) => `spam ${i}`));
print(`alice receives ${many} of the 1,000 messages`);
const long = await flood("trudy", ["x".repeat(1_000_000)]);
print(`alice receives ${long} of the 1 very long message`);
await alice.close();
