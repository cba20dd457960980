/** The server gets SIGTERM, as for an upgrade. */

import { Client, makeFolder, print, Server } from "./lab.ts";

await using folder = await makeFolder();
await using server = await Server.start(folder.path);
const alice = await Client.join(server, "alice");
server.kill("SIGTERM");
const { code, reason } = await alice.closed;
print(`alice's connection ends with ${code} ${reason || "and no reason"}`);
print(`the server ends with ${(await server.ended).code}`);
