/** Signals to the real process, under load and in its first moment. */

import { DatabaseSync } from "node:sqlite";
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { freePort } from "../support/free_port.ts";
import { ServerProcess } from "../support/process.ts";
import { Random, seeds } from "../support/random.ts";
import { V1Client } from "../support/v1_client.ts";

const SIGNALS = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"] as const;

/** Maximum wait for an expected event, in milliseconds. */
const PATIENCE_MS = 30_000;

describe("A server under load", () => {
  for (const seed of seeds(1)) {
    for (const signal of SIGNALS) {
      it(`loses no acked message at ${signal}, and closes everybody with 1012 [SEED=${seed}]`, async () => {
        const random = new Random(seed);
        const folder = await Deno.makeTempDir();
        try {
          const env = { DATABASE_URL: `sqlite:${folder}/chat.db` };
          await using server = await ServerProcess.start({ env });
          const acked: string[] = [];
          const wanted = random.between(500, 2000);
          const isBusy = Promise.withResolvers<void>();
          const clients: V1Client[] = [];
          for (let i = 0; i < 100; i++) {
            const client = await V1Client.join(server.ws, `r${i % 10}`, `u${i}`);
            client.socket.addEventListener("message", ({ data }) => {
              for (const { type, ref } of [JSON.parse(data)].flat()) {
                if (type === "ack") acked.push(ref);
              }
              if (acked.length >= wanted) isBusy.resolve();
            });
            clients.push(client);
          }
          let sent = 0;
          const talks = clients.map((client, i) =>
            setInterval(() => {
              if (client.socket.readyState !== WebSocket.OPEN) return;
              const ref = `${i}-${sent++}`;
              client.send({ type: "chat", content: ref, ref });
            }, random.between(50, 200))
          );
          try {
            await isBusy.promise;
            assertEquals((await server.stop(signal)).code, 0);
          } finally {
            talks.forEach(clearInterval);
          }
          const codes = await Promise.all(clients.map(async ({ closed }) => (await closed).code));
          const others = codes.filter((code) => code !== 1012);
          assert(others.length <= 1, `${others}`);
          using db = new DatabaseSync(`${folder}/chat.db`, { readOnly: true });
          const rows = db.prepare("SELECT content FROM messages").all();
          const stored = new Set(rows.map(({ content }) => content));
          assertEquals(acked.filter((ref) => !stored.has(ref)), []);
        } finally {
          await Deno.remove(folder, { recursive: true });
        }
      });
    }
  }
});

describe("A server whose port has just opened", () => {
  for (const signal of SIGNALS) {
    it(`ends in order at ${signal}`, async () => {
      const port = freePort();
      await using server = ServerProcess.spawn({ env: { PORT: String(port) } });
      const end = performance.now() + PATIENCE_MS;
      while (!await isOpen(port)) {
        assert(performance.now() < end, "The port did not open.");
      }
      assertEquals((await server.stop(signal)).code, 0);
      assertEquals(server.log.at(-1)!.msg, "stopped");
    });
  }
});

async function isOpen(port: number): Promise<boolean> {
  try {
    using _conn = await Deno.connect({ hostname: "127.0.0.1", port });
    return true;
  } catch {
    return false;
  }
}
