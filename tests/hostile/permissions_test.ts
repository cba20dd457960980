/** The minimum permissions of the server. */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type { AckEvent } from "../../lib/protocol/events.ts";
import { ServerProcess } from "../support/process.ts";
import { V1Client } from "../support/v1_client.ts";

const ROOT = new URL("../..", import.meta.url);

describe("The permissions of docs/security.md", () => {
  it("match the Dockerfile, and suffice to store, checkpoint, serve and stop", async () => {
    const docs = await Deno.readTextFile(new URL("docs/security.md", ROOT));
    const [, flags] = /^deno run (--allow-net .*) main\.ts$/m.exec(docs)!;
    const dockerfile = await Deno.readTextFile(new URL("Dockerfile", ROOT));
    const words = ["run", ...flags!.split(" "), "main.ts"].map((word) => JSON.stringify(word));
    assertStringIncludes(dockerfile, `CMD [${words.join(", ")}]`);

    const folder = await Deno.makeTempDir();
    try {
      await using server = await ServerProcess.start({
        env: { DATABASE_URL: `sqlite:${folder}/chat.db` },
        permissions: flags!.replaceAll("/data", folder).split(" "),
      });
      const page = await fetch(server.url, { headers: { accept: "text/html" } });
      assertStringIncludes(await page.text(), "<!DOCTYPE html>");
      const ann = await V1Client.connect(`${server.ws}/ws/r?username=ann`);
      const ack = await ann.ask({ type: "chat", content: "hello" }) as AckEvent;
      assertEquals((await ann.ask({ type: "delete", id: ack.id })).type, "ack");
      // The thread that makes the checkpoints erases the text from the log.
      while ((await Deno.stat(`${folder}/chat.db-wal`)).size > 0) {
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      await ann.close();
      assertEquals((await server.stop()).code, 0);
      assertEquals(server.stderr, "");
      assertEquals(server.log.filter(({ level }) => level !== "info"), []);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
});
