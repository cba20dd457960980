/** Several server processes on one port, by `REUSE_PORT=1`. Only Linux lets them share it. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { makeFolder } from "./support/folder.ts";
import { ServerProcess, startInVain } from "./support/process.ts";
import { V1Client } from "./support/v1_client.ts";

const describeLinux = Deno.build.os === "linux" ? describe : describe.skip;

/** The settings of a server that shares its port. */
const permissions = ["-A", "--unstable-net"];

/** After this many, each of two servers surely has a connection. */
const MAX_JOINS = 100;

describeLinux("Two servers on one port", () => {
  it("share the connections, and the remaining one takes all when the other stops", async () => {
    await using first = await ServerProcess.start({ permissions, env: { REUSE_PORT: "1" } });
    const env = { REUSE_PORT: "1", PORT: String(first.port) };
    await using second = await ServerProcess.start({ permissions, env });
    assertEquals(second.port, first.port);
    await second.logLine(({ msg }) => msg.includes("do not see each other"));

    let count = 0;
    /** Joins, and recognises the server by its epoch. */
    const join = async () => {
      const client = await V1Client.connect(`${first.ws}/ws/r?username=user${count++}`);
      return { client, epoch: (await client.peek("welcome")).epoch };
    };
    const members = new Map<string, V1Client[]>();
    while (members.size < 2) {
      assert(count < MAX_JOINS, "One of the servers gets no connection.");
      const { client, epoch } = await join();
      members.set(epoch, [...members.get(epoch) ?? [], client]);
    }

    const closed = [...members].map(async ([epoch, [client]]) => {
      await client!.closed;
      return epoch;
    });
    assertEquals((await first.stop()).code, 0);
    const ended = await Promise.race(closed);
    for (const client of members.get(ended)!) assertEquals((await client.closed).code, 1012);
    members.delete(ended);

    const [[staying, clients]] = [...members] as [[string, V1Client[]]];
    for (let i = 0; i < 20; i++) {
      const { client, epoch } = await join();
      assertEquals(epoch, staying);
      clients.push(client);
    }
    // Earlier members noticed nothing.
    clients[0]!.send({ type: "chat", content: "still here" });
    for (const client of clients) {
      await client.nextOf("chat", ({ content }) => content === "still here");
      await client.close();
    }
    assertEquals((await second.stop()).code, 0);
  });

  it("both need the setting, and the second one stops with a sentence", async () => {
    for (
      const [there, here, sentence] of [
        ["0", "0", "if it is this server too, start both with REUSE_PORT=1."],
        ["0", "1", "start that one with REUSE_PORT=1 too, as the same user."],
      ] as const
    ) {
      await using server = await ServerProcess.start({ permissions, env: { REUSE_PORT: there } });
      const stderr = await startInVain({
        permissions,
        env: { REUSE_PORT: here, PORT: String(server.port) },
      });
      assertEquals(
        stderr,
        `Cannot listen on 127.0.0.1:${server.port}: Another program uses the address. ` +
          `Stop it, choose another PORT, or ${sentence}\n`,
      );
    }
  });

  it("need a flag of the runtime, and name it", async () => {
    assertEquals(
      await startInVain({ env: { REUSE_PORT: "1" } }),
      "Cannot share the port: REUSE_PORT=1 needs a flag of Deno. " +
        "Run deno run -A --unstable-net main.ts.\n",
    );
  });

  it("cannot share one SQLite file, and the second names the alternative", async () => {
    await using folder = await makeFolder();
    const env = { REUSE_PORT: "1", DATABASE_URL: `sqlite:${folder.path}/chat.db` };
    await using server = await ServerProcess.start({ permissions, env });
    const stderr = await startInVain({
      permissions,
      env: { ...env, PORT: String(server.port) },
    });
    assertStringIncludes(stderr, "several servers can share only PostgreSQL or Redis.");
    assertEquals((await server.stop()).code, 0);
  });
});

describe("A server on Deno Deploy without a database", () => {
  it("keeps messages in memory, and warns that its instances do not see each other", async () => {
    const env = { DENO_DEPLOY: "1", DATABASE_URL: "" };
    await using server = await ServerProcess.start({ env });
    const warnings = server.log.filter(({ level }) => level === "warn").map(({ msg }) => msg);
    assertEquals(warnings, [
      "messages are kept in memory and are gone when the server ends",
      "people on different instances do not see each other: " +
      "set DATABASE_URL to a PostgreSQL or Redis that the instances share",
    ]);
    assertEquals((await server.stop("SIGINT")).code, 0);
  });
});
