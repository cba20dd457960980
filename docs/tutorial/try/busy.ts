/** Thirty members who all say twenty things at once. */

import { Client, makeFolder, print, Server } from "./lab.ts";

const [MEMBERS, MESSAGES] = [30, 20];

await using folder = await makeFolder();
await using server = await Server.start(folder.path);
const members: Client[] = [];
for (let i = 0; i < MEMBERS; i++) members.push(await Client.join(server, `member ${i}`));
const last = `member ${MEMBERS - 1}`;
for (const member of members) await member.until(({ username }) => username === last);

const before = await server.usage();
const framesBefore = members.reduce((sum, { frames }) => sum + frames, 0);
for (let i = 1; i <= MESSAGES; i++) {
  for (const member of members) member.say(`message ${i}`, `${i}`);
}
for (const member of members) {
  await member.until(({ seq }) => seq === MEMBERS * MESSAGES);
  await member.until(({ type, ref }) => type === "ack" && ref === `${MESSAGES}`);
}
const after = await server.usage();
const frames = members.reduce((sum, member) => sum + member.frames, 0) - framesBefore;
print(`${MEMBERS * MEMBERS * MESSAGES} messages reach their readers in ${frames} frames`);
print(`the server works for ${after.cpu - before.cpu} ms`);
await Promise.all(members.map((member) => member.close()));
