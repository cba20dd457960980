/** How the real process starts and ends, and how its listener recovers. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { type HttpServer, Listener } from "../lib/http/listener.ts";
import { createLogger } from "../lib/logger.ts";
import { Client } from "./support/client.ts";
import { ServerProcess, startInVain } from "./support/process.ts";
import { processesWith } from "./support/processes.ts";
import { OPCODE, RawClient } from "./support/raw.ts";
import { TEST_ENV } from "./support/server.ts";

const SIGNALS: Deno.Signal[] = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"];

describe("A server that receives the signal to end", () => {
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
  it("says which setting is wrong", async () => {
    const sentence = await startInVain({ env: { PORT: "eighty" } });
    assertEquals(sentence, 'PORT must be a whole number from 0 to 65535, not "eighty".\n');
  });

  it("says that it cannot listen", async () => {
    using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const PORT = String(taken.addr.port);
    assertEquals(
      await startInVain({ env: { PORT, DATABASE_URL: "sqlite:chat.db" } }),
      `Cannot listen on 127.0.0.1:${PORT}: Another program uses the address. ` +
        "Stop it, or choose another PORT.\n",
    );
  });
});

describe("A server that starts", () => {
  it("warns of variables that are almost settings", async () => {
    await using server = await ServerProcess.start({
      env: { MAX_MESSAGE_BYTE: "1", GUEST: "off", PORTS: "1" },
    });
    const warnings = server.log.filter(({ level }) => level === "warn").map(({ msg }) => msg);
    assertEquals(warnings.filter((msg) => msg.includes("not a setting")).sort(), [
      "GUEST is not a setting. Did you mean GUESTS?",
      "MAX_MESSAGE_BYTE is not a setting. Did you mean MAX_MESSAGE_BYTES?",
    ]);
  });
});

describe("deno task dev", () => {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    it(`ends with 0 within 5 seconds at ${signal}`, async () => {
      const id = crypto.randomUUID();
      const task = new Deno.Command(Deno.execPath(), {
        args: ["task", "dev"],
        cwd: new URL("..", import.meta.url),
        // All that it starts inherits the id.
        env: { ...TEST_ENV, DEV_RUN: id },
        stdin: "null",
        stdout: "piped",
        stderr: "null",
      }).spawn();
      const endAll = () => processesWith(id).forEach((pid) => Deno.kill(pid, "SIGKILL"));
      let late: ReturnType<typeof setTimeout> | undefined;
      for await (const text of task.stdout.pipeThrough(new TextDecoderStream())) {
        if (!text.includes("Server starting on :")) continue;
        task.kill(signal);
        late = setTimeout(endAll, 5000);
      }
      clearTimeout(late);
      assertEquals((await task.status).code, 0);
      assertEquals(processesWith(id), []);
    });
  }
});

const HOST = "192.0.2.1";

/** The port that the system gives when asked for any. */
const FREE_PORT = 4321;

/** A listener, the servers it has opened, and everything that it waits for. */
function createListener(port = 0) {
  const opened: Pick<Deno.ServeTcpOptions, "hostname" | "port" | "reusePort">[] = [];
  const handlers: Deno.ServeHandler[] = [];
  const fail: ((error: Error) => void)[] = [];
  const closed: number[] = [];
  const timers: { ms: number; callback: () => void }[] = [];
  const log: Record<string, unknown>[] = [];
  let refusals = 0;
  const serve = (
    { onListen: _, ...options }: Deno.ServeTcpOptions,
    handler: Deno.ServeHandler,
  ): HttpServer => {
    const { port } = options;
    opened.push(options);
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
  const address = { host: HOST, port, reusePort: true };
  const open = () => new Listener(address, handler, { logger, after, serve });
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
    assertEquals(opened, [{ hostname: HOST, port: 0, reusePort: true }]);
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
    assertEquals(test.opened.at(-1), { hostname: HOST, port, reusePort: true });
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
    const address = { host: "127.0.0.1", port: 0, reusePort: false };
    const listener = new Listener(address, handler, options);
    const url = `http://127.0.0.1:${listener.port}`;
    assertEquals(await (await fetch(url)).text(), "hello");
    await listener.close();
    await assertRejects(() => fetch(url), TypeError);
  });
});

const MODULE = new URL("../lib/process.ts", import.meta.url).href;
const LOGGER = new URL("../lib/logger.ts", import.meta.url).href;

/** Starts a program that has all of the module's functions, and a logger. */
function spawn(program: string, env: Record<string, string> = {}): Deno.ChildProcess {
  const functions = "fail, keepBuffersSmall, runUntilSignal, surviveErrors";
  const code = `
    import { ${functions} } from "${MODULE}";
    import { createLogger } from "${LOGGER}";
    const logger = createLogger({ level: "info", clock: () => 0 });
    ${program}`;
  return new Deno.Command(Deno.execPath(), {
    args: ["eval", "--no-lock", code],
    env: { ...env, NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Runs such a program to its end. */
async function run(program: string, env: Record<string, string> = {}) {
  const { code, stdout, stderr } = await spawn(program, env).output();
  const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes).trim();
  return { code, out: decode(stdout), err: decode(stderr) };
}

/**
 * Runs such a program, and sends it signals when it has written a line.
 *
 * @returns the code it ended with, and every line it wrote
 */
async function signal(
  program: string,
  signals: Record<string, Deno.Signal[]>,
): Promise<{ code: number; lines: string[] }> {
  const child = spawn(program);
  const lines: string[] = [];
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    for (const line of text.trim().split("\n")) {
      lines.push(line);
      for (const one of signals[line] ?? []) child.kill(one);
    }
  }
  await child.stderr.cancel();
  const { code } = await child.status;
  return { code, lines };
}

describe("keepBuffersSmall", () => {
  const PROGRAM = 'keepBuffersSmall(); console.log(Deno.env.get("DENO_USE_WRITEV"));';

  it("sets the variable of the runtime, unless it is set already", async () => {
    assertEquals((await run(PROGRAM)).out, "1");
    assertEquals((await run(PROGRAM, { DENO_USE_WRITEV: "0" })).out, "0");
  });
});

describe("surviveErrors", () => {
  it("logs what nobody caught, and the process lives on", async () => {
    const { code, out, err } = await run(`
      surviveErrors(logger);
      setTimeout(() => { throw new Error("thrown"); });
      Promise.reject("rejected");
      setTimeout(() => console.log("alive"), 50);`);
    assertEquals([code, err], [0, ""]);
    const lines = out.split("\n");
    assertEquals(lines.pop(), "alive");
    const logged = lines.map((line) => JSON.parse(line));
    assertEquals(logged.map(({ level, msg, error }) => [level, msg, error]).sort(), [
      ["error", "error", "Error: thrown"],
      ["error", "unhandledrejection", "rejected"],
    ]);
  });
});

describe("runUntilSignal", () => {
  const program = (ms: number) => `
    const stop = async () => {
      console.log("stopping");
      await new Promise((resolve) => setTimeout(resolve, ${ms}));
      console.log("stopped");
    };
    setInterval(() => {}, 1000);
    await runUntilSignal(async () => {
      console.log("started");
      return { stop };
    }, logger);`;

  for (const first of ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"] as const) {
    it(`ends the process with 0 at ${first}, when all is stopped`, async () => {
      const { code, lines } = await signal(program(50), { started: [first] });
      assertEquals([code, lines], [0, ["started", "stopping", "stopped"]]);
    });
  }

  it("ends the process with 1, and says why, when stopping fails", async () => {
    const failing = `
      setInterval(() => {}, 1000);
      await runUntilSignal(async () => {
        console.log("started");
        return { stop: () => Promise.reject(new Error("stuck")) };
      }, logger);`;
    const { code, lines } = await signal(failing, { started: ["SIGTERM"] });
    assertEquals([code, lines.length], [1, 2]);
    const { level, msg, error } = JSON.parse(lines[1]!);
    assertEquals([level, msg, error], ["error", "stopping failed", "Error: stuck"]);
  });

  it("stops once, however many signals come", async () => {
    const { code, lines } = await signal(program(500), {
      started: ["SIGINT"],
      stopping: ["SIGINT", "SIGTERM"],
    });
    assertEquals([code, lines], [0, ["started", "stopping", "stopped"]]);
  });
});

describe("fail", () => {
  it("ends the process with 1 and a sentence for the person who started it", async () => {
    const { code, out, err } = await run('fail("It cannot be."); console.log("never");');
    assertEquals([code, out, err], [1, "", "It cannot be."]);
  });
});
