/** The listener, on servers that fail when a test says so. */

import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { type HttpServer, Listener } from "../lib/http/listener.ts";
import { createLogger } from "../lib/logger.ts";

const HOST = "192.0.2.1";

/** The port that the system gives when asked for any. */
const FREE_PORT = 4321;

/** A listener, the servers it has opened, and everything that it waits for. */
function createListener(port = 0) {
  const opened: { hostname: string | undefined; port: number | undefined }[] = [];
  const handlers: Deno.ServeHandler[] = [];
  const fail: ((error: Error) => void)[] = [];
  const closed: number[] = [];
  const timers: { ms: number; callback: () => void }[] = [];
  const log: Record<string, unknown>[] = [];
  let refusals = 0;
  const serve = (
    { hostname, port }: Deno.ServeTcpOptions,
    handler: Deno.ServeHandler,
  ): HttpServer => {
    opened.push({ hostname, port });
    handlers.push(handler);
    if (refusals > 0) {
      refusals--;
      throw new Error("Address already in use");
    }
    const { promise: finished, reject } = Promise.withResolvers<void>();
    const index = fail.push(reject) - 1;
    const addr = { transport: "tcp", hostname: HOST, port: port || FREE_PORT } as const;
    const shutdown = () => Promise.resolve(void closed.push(index));
    return { addr, finished, shutdown };
  };
  const logger = createLogger({ level: "info", write: (line) => log.push(JSON.parse(line)) });
  const after = (ms: number, callback: () => void) => void timers.push({ ms, callback });
  const handler = () => new Response("hello");
  const open = () => new Listener({ host: HOST, port }, handler, { logger, after, serve });
  return {
    open,
    opened,
    handler,
    handlers,
    closed,
    timers,
    /** The newest server gives up. */
    async fail(message: string) {
      fail.at(-1)!(new Error(message));
      await Promise.resolve().then(() => {});
    },
    /** The next attempts to listen fail. */
    refuse: (times: number) => refusals = times,
    /** Lets the time of every timer come. */
    wake: () => timers.splice(0).forEach(({ callback }) => callback()),
    /** The errors in the log. */
    get errors() {
      return log.map(({ level, msg, error }) => [level, msg, error]);
    },
  };
}

const TOO_MANY = ["error", "listener failed", "Error: Too many open files"];
const IN_USE = ["error", "listener failed", "Error: Address already in use"];

describe("A Listener", () => {
  it("listens on its address, and knows its port", () => {
    const { open, opened, handler, handlers, timers, errors } = createListener();
    assertEquals(open().port, FREE_PORT);
    assertEquals(opened, [{ hostname: HOST, port: 0 }]);
    assertEquals(handlers, [handler]);
    assertEquals([timers, errors], [[], []]);
  });

  it("throws if it cannot listen in the first place, and does not try again", () => {
    const test = createListener();
    test.refuse(1);
    assertThrows(test.open, Error, "Address already in use");
    assertEquals([test.timers, test.errors], [[], []]);
  });

  it("whose server fails logs the error, and listens again on the same port", async () => {
    const test = createListener();
    const { port } = test.open();
    await test.fail("Too many open files");
    assertEquals(test.errors, [TOO_MANY]);
    assertEquals([test.opened.length, test.timers.map(({ ms }) => ms)], [1, [200]]);
    test.wake();
    assertEquals(test.opened.at(-1), { hostname: HOST, port });
    assertEquals([test.opened.length, test.handlers.at(-1)], [2, test.handler]);
  });

  it("does so however often it fails", async () => {
    const test = createListener();
    test.open();
    for (let count = 1; count <= 3; count++) {
      await test.fail("Too many open files");
      test.wake();
      assertEquals([test.opened.length, test.errors.length], [count + 1, count]);
    }
  });

  it("that cannot listen again logs that too, and tries until it can", async () => {
    const test = createListener();
    test.open();
    await test.fail("Too many open files");
    test.refuse(2);
    for (let count = 2; count <= 4; count++) {
      test.wake();
      assertEquals(test.opened.length, count);
    }
    assertEquals(test.errors, [TOO_MANY, IN_USE, IN_USE]);
    assertEquals(test.timers, []);
    // The one it has opened in the end counts like the first.
    await test.fail("Too many open files");
    assertEquals([test.errors.length, test.timers.length], [4, 1]);
  });

  it("that is closed while it waits does not listen again", async () => {
    const test = createListener();
    const listener = test.open();
    await test.fail("Too many open files");
    await listener.close();
    test.wake();
    assertEquals([test.opened.length, test.timers.length], [1, 0]);
  });

  it("that is closed before its server ends does nothing more", async () => {
    const test = createListener();
    await test.open().close();
    await test.fail("Interrupted");
    assertEquals([test.errors, test.timers, test.opened.length], [[], [], 1]);
  });

  it("closes the server that listens now", async () => {
    const test = createListener();
    const listener = test.open();
    await test.fail("Too many open files");
    test.wake();
    await listener.close();
    assertEquals(test.closed, [1]);
  });

  it("answers requests with the runtime's own server, until it is closed", async () => {
    const logger = createLogger({ level: "info", write: () => {} });
    const handler = () => new Response("hello");
    const options = { logger, after: () => {} };
    const listener = new Listener({ host: "127.0.0.1", port: 0 }, handler, options);
    const url = `http://127.0.0.1:${listener.port}`;
    assertEquals(await (await fetch(url)).text(), "hello");
    await listener.close();
    await assertRejects(() => fetch(url), TypeError);
  });
});
