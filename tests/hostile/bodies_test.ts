/** Request bodies that are optional, and that the server may ignore. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ServerProcess } from "../support/process.ts";
import { RawClient } from "../support/raw.ts";

const REQUESTS = [
  "POST /api/logout",
  "POST /api/logout?everywhere=1",
  "POST /api/login",
  "POST /api/rooms/r/messages?username=ann",
  "PUT /api/rooms/r",
  "DELETE /api/account",
  "DELETE /api/tokens",
  "DELETE /api/tokens/bot",
  "DELETE /nothing",
  "GET /api/session",
  "GET /ws/r?username=ann",
  "GET /",
];

const TYPE = "content-type: application/json\r\n";

/** The end of a request, from the headers of its body. */
const BODIES: Record<string, string> = {
  "no body": "\r\n",
  "an empty body": `${TYPE}content-length: 0\r\n\r\n`,
  "a body": `${TYPE}content-length: 2\r\n\r\n{}`,
  "a body in chunks": `${TYPE}transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n`,
  "an empty body in chunks": `${TYPE}transfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
  "a body that breaks off": `${TYPE}content-length: 100\r\n\r\n{`,
  "a body that breaks off in a chunk": `${TYPE}transfer-encoding: chunked\r\n\r\nff\r\n{`,
};

describe("A request", () => {
  it("gets an answer with and without a body, and nothing is written to standard error", async () => {
    await using server = await ServerProcess.start();
    const head = `HTTP/1.1\r\nhost: 127.0.0.1:${server.port}\r\n`;
    for (const request of REQUESTS) {
      for (const [kind, end] of Object.entries(BODIES)) {
        using client = await RawClient.connect(server.port);
        await client.write(`${request} ${head}${end}`);
        if (kind.includes("breaks off")) await client.endWriting();
        const answer = await client.tryReadAnswer();
        if (answer === undefined) assert(kind.includes("breaks off"), `${request}, ${kind}`);
        else assert(answer.status < 500, `${request}, ${kind}: ${answer.status}`);
      }
    }
    assertEquals((await server.stop()).code, 0);
    assertEquals(server.stderr, "");
    assertEquals(server.log.filter(({ level }) => level === "error"), []);
  });
});
