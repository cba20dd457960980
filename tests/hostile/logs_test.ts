/** Strangers and the log: they can neither fill it nor write lines of their own. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { createLogger } from "../../lib/logger.ts";
import { call, knock } from "../support/people.ts";
import { Random, seeds } from "../support/random.ts";
import { frame, handshake, RawClient } from "../support/raw.ts";
import { startServer } from "../support/server.ts";

describe("A flood of refusals", () => {
  for (const seed of seeds(1)) {
    it(`is logged as a few lines, then one a second, and all are counted [SEED=${seed}]`, async () => {
      const random = new Random(seed);
      await using server = await startServer({ ALLOWED_ORIGINS: "https://site.example" });
      const start = performance.now();
      const refuse = [
        () => knock(server, `/ws/${"r".repeat(random.between(65, 20_000))}?username=ann`),
        () => knock(server, `/ws/%0a%0d%1b%5b${random.below(100)}?username=ann`),
        () => knock(server, "/ws/r?username=ann", { Origin: "https://evil.example" }),
        () => knock(server, "/ws/r?username=ann&token=garbage"),
        () => call(server, "GET", "/ws/r"),
        () => call(server, "POST", "/api/login", { body: "{" }),
      ];
      const count = 600;
      for (let i = 0; i < count; i += 10) {
        const answers = await Promise.all(
          Array.from({ length: 10 }, () => random.pick(refuse)()),
        );
        for (const { status } of answers) assert(status >= 400 && status < 500);
      }
      const lines = () => server.log.filter(({ msg }) => msg === "refused");
      const counted = () =>
        lines().reduce((sum, { omitted }) => sum + 1 + ((omitted as number) ?? 0), 0);
      while (counted() < count) await server.logged("refused", lines().length + 1);
      assertEquals(counted(), count);
      const seconds = (performance.now() - start) / 1000;
      assert(lines().length <= 10 + seconds + 1, `${lines().length} lines in ${seconds} s`);
      for (const line of lines()) assert(JSON.stringify(line).length < 2000);
    });
  }

  it("on a socket is limited as well", async () => {
    await using server = await startServer({ MESSAGE_RATE: "1", MESSAGE_BURST: "1" });
    using client = await RawClient.open(server.port, "/ws/r?username=ann");
    for (let i = 0; i < 60; i++) await client.write(frame('{"type":"nonsense"}'));
    await client.endWriting();
    await client.readFrames();
    const lines = server.log.filter(({ msg }) => msg === "frame refused");
    assert(lines.length <= 12, `${lines.length} lines`);
  });
});

describe("A request without an upgrade that would be accepted with one", () => {
  it("gets 426, and is not logged as refused", async () => {
    await using server = await startServer();
    for (const path of ["/ws/r?username=ann", "/ws", "/echo"]) {
      const { status, headers } = await call(server, "GET", path);
      assertEquals([status, headers.get("upgrade")], [426, "websocket"], path);
      assertEquals(headers.get("cache-control"), "no-store");
    }
    assertEquals((await knock(server, "/ws/r?username=a,b")).status, 400);
    const refused = server.log.filter(({ msg }) => msg === "refused");
    assertEquals(refused.map(({ status }) => status), [400]);
  });
});

describe("A line of the log", () => {
  for (const seed of seeds(2)) {
    it(`stays one short line, whatever a client puts into it [SEED=${seed}]`, () => {
      const random = new Random(seed);
      const lines: string[] = [];
      const logger = createLogger({ level: "info", write: (line) => lines.push(line) });
      const BREAKS = ["\n", "\r", "\u0085", "\u2028", "\u2029", "\x1b[2J", "\x9b", "\0", "\u202e"];
      for (let i = 0; i < 200; i++) {
        const text = Array.from(
          { length: random.pick([3, 50, 5000]) },
          () => random.pick([...BREAKS, "a", '"', "\\", "\ud83d", "\u{1f600}", "\u200d"]),
        ).join("");
        logger.warn(text, { path: text, reason: text, error: text });
        const line = lines.pop()!;
        // deno-lint-ignore no-control-regex
        assert(!/[\x00-\x1f\x7f-\x9f\u2028\u2029\u202e]/.test(line), JSON.stringify(line));
        assert(line.length < 6 * 4 * 201 + 200, `${line.length}`);
        const { path } = JSON.parse(line);
        const cut = text.length > 200 ? `${text.slice(0, 200)}…` : text;
        assertEquals(path, cut);
      }
    });
  }

  it("contains only the beginning of an address, and no query", async () => {
    await using server = await startServer();
    using client = await RawClient.connect(server.port);
    await client.write(handshake(`/ws/${"x".repeat(50_000)}?username=ann&token=secret`));
    assertEquals((await client.readAnswer()).status, 400);
    await server.logged("refused");
    const { path } = server.log.find(({ msg }) => msg === "refused")!;
    assertEquals(path, `/ws/${"x".repeat(196)}…`);
  });
});
