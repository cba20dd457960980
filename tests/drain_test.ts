/** How the real process starts and ends. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Client } from "./support/client.ts";
import { ServerProcess } from "./support/process.ts";
import { OPCODE, RawClient } from "./support/raw.ts";

const SIGNALS: Deno.Signal[] = ["SIGTERM", "SIGINT"];

describe("A server that is told to end", () => {
  for (const signal of SIGNALS) {
    it(`by ${signal}: closes everyone with 1012, logs it, and exits with 0`, async () => {
      await using server = await ServerProcess.start();
      const clients = await Promise.all([
        Client.join(server.ws, "r", "alice"),
        Client.join(server.ws, "other", "bob"),
        Client.connect(`${server.ws}/ws`),
        Client.connect(`${server.ws}/echo`),
      ]);
      const { code } = await server.stop(signal);
      assertEquals(code, 0);
      for (const client of clients) {
        const closed = await client.closed;
        assertEquals([closed.code, closed.reason], [1012, "server is restarting"]);
      }
      const messages = server.log.map(({ msg }) => msg);
      assertEquals(messages.slice(-2), ["draining", "stopped"]);
      assertEquals(server.stderr, "");
    });
  }

  it("delivers everything that it accepted", async () => {
    await using server = await ServerProcess.start();
    const names = ["alice", "bob", "carol"];
    const clients = await Promise.all(names.map((name) => Client.join(server.ws, "r", name)));
    for (let i = 0; i < 2000; i++) {
      for (const [n, client] of clients.entries()) client.send(`${names[n]} ${i}`);
    }
    // The signal comes when all is sent, while much of it is on the way in and on the way out.
    while (clients.some(({ socket }) => socket.bufferedAmount > 0)) await clients[0]!.nextFrame();
    assertEquals((await server.stop()).code, 0);
    for (const client of clients) assertEquals((await client.closed).code, 1012);
    const seen = clients.map(({ frames }) =>
      frames.filter(({ type }) => type === "chat").map(({ seq, content }) => `${seq} ${content}`)
    );
    assert(seen[0]!.length > 0);
    assertEquals(seen[0]!.map((line) => parseInt(line)), seen[0]!.map((_, i) => i + 1));
    assertEquals(seen[1], seen[0]);
    assertEquals(seen[2], seen[0]);
  });

  it("delivers what still waits for a member that reads late", async () => {
    await using server = await ServerProcess.start({
      env: { SEND_QUEUE_FRAMES: "0", SEND_QUEUE_BYTES: "0" },
    });
    using late = await RawClient.open(server.port, "/ws/r?username=late");
    await using alice = await Client.join(server.ws, "r", "alice");
    const text = "x".repeat(4000);
    const count = 2500;
    for (let i = 0; i < count; i++) alice.send(text);
    await alice.nextFrame(({ seq }) => seq === count);
    server.kill("SIGTERM");
    await alice.closed;
    const frames = await late.readFrames();
    assertEquals(frames.filter(({ text }) => text.includes('"chat"')).length, count);
    const last = frames.at(-1)!;
    assertEquals(last.opcode, OPCODE.close);
    assertEquals(new DataView(last.payload.buffer).getUint16(0), 1012);
    assertEquals((await server.exited).code, 0);
  });

  it("ends within 5 seconds even when peers do not react", async () => {
    await using server = await ServerProcess.start({
      env: { SEND_QUEUE_FRAMES: "0", SEND_QUEUE_BYTES: "0" },
    });
    using _stalled = await RawClient.open(server.port, "/ws/r?username=stalled");
    using _silent = await RawClient.open(server.port, "/echo");
    using halfway = await RawClient.connect(server.port);
    await halfway.write("GET /health HTTP/1.1\r\nHost: x\r\n");
    await using alice = await Client.join(server.ws, "r", "alice");
    for (let i = 0; i < 2500; i++) alice.send("x".repeat(4000));
    await alice.nextFrame(({ seq }) => seq === 2500);
    const start = performance.now();
    assertEquals((await server.stop()).code, 0);
    const took = performance.now() - start;
    assert(took < 5000, `It took ${Math.round(took)} ms.`);
    assertEquals((await alice.closed).code, 1012);
  });
});

describe("A server that cannot start", () => {
  const run = async (env: Record<string, string>) => {
    const output = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "main.ts"],
      cwd: new URL("..", import.meta.url),
      env: { HOST: "127.0.0.1", PORT: "0", ...env },
    }).output();
    return { code: output.code, stderr: new TextDecoder().decode(output.stderr) };
  };

  it("says which setting is wrong", async () => {
    const { code, stderr } = await run({ PORT: "eighty" });
    assertEquals(code, 1);
    assertEquals(stderr, 'PORT must be a whole number from 0 to 65535, not "eighty".\n');
  });

  it("says that it cannot listen", async () => {
    using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { code, stderr } = await run({ PORT: String(taken.addr.port) });
    assertEquals(code, 1);
    assertStringIncludes(stderr, `Cannot listen on 127.0.0.1:${taken.addr.port}: `);
    assert(!stderr.includes("    at "), stderr);
  });
});
