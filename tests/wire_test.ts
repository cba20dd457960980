/** The wire that tests put between an instance and its engine. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Wire } from "./support/wire.ts";

/** An echo server on a free port. */
function startEcho(): { port: number } & AsyncDisposable {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const conns: Promise<void>[] = [];
  const serve = async () => {
    for await (const conn of listener) {
      conns.push(conn.readable.pipeTo(conn.writable).catch(() => {}));
    }
  };
  const serving = serve();
  return {
    port: listener.addr.port,
    async [Symbol.asyncDispose]() {
      listener.close();
      await serving;
      await Promise.all(conns);
    },
  };
}

/** A connection that sends a word and reads the answer. */
class Line implements Disposable {
  readonly #conn: Deno.TcpConn;

  private constructor(conn: Deno.TcpConn) {
    this.#conn = conn;
  }

  static async open({ port }: { port: number }): Promise<Line> {
    return new Line(await Deno.connect({ hostname: "127.0.0.1", port }));
  }

  async say(text: string): Promise<void> {
    await this.#conn.write(new TextEncoder().encode(text));
  }

  /** The received text; empty at the end of the connection, clean or not. */
  async hear(): Promise<string> {
    const buffer = new Uint8Array(1024);
    const size = await this.#conn.read(buffer).catch(() => null);
    return new TextDecoder().decode(buffer.subarray(0, size ?? 0));
  }

  async ask(text: string): Promise<string> {
    await this.say(text);
    return await this.hear();
  }

  end(): Promise<void> {
    return this.#conn.closeWrite();
  }

  [Symbol.dispose](): void {
    this.#conn.close();
  }
}

describe("A wire", () => {
  it("passes on the data of both sides, and their end", async () => {
    await using echo = startEcho();
    await using wire = new Wire(echo);
    using line = await Line.open(wire);
    using other = await Line.open(wire);
    assertEquals([await line.ask("one"), await other.ask("two")], ["one", "two"]);
    assertEquals(wire.connections, 2);
    await line.end();
    assertEquals(await line.hear(), "");
    assertEquals(await other.ask("three"), "three");
  });

  it("when cut, ends all connections, and new ones, until it is mended", async () => {
    await using echo = startEcho();
    await using wire = new Wire(echo);
    using line = await Line.open(wire);
    assertEquals(await line.ask("one"), "one");
    wire.cut();
    assertEquals(await line.hear(), "");
    using refused = await Line.open(wire);
    assertEquals(await refused.hear(), "");
    wire.mend();
    using later = await Line.open(wire);
    assertEquals(await later.ask("two"), "two");
  });

  it("when kicked, ends all connections, and accepts new ones at once", async () => {
    await using echo = startEcho();
    await using wire = new Wire(echo);
    using line = await Line.open(wire);
    assertEquals(await line.ask("one"), "one");
    wire.kick();
    assertEquals(await line.hear(), "");
    using later = await Line.open(wire);
    assertEquals(await later.ask("two"), "two");
  });

  it("when frozen, opens connections and is silent, and then passes on everything", async () => {
    await using echo = startEcho();
    await using wire = new Wire(echo);
    using line = await Line.open(wire);
    assertEquals(await line.ask("one"), "one");
    wire.freeze();
    using later = await Line.open(wire);
    await Promise.all([line.say("two"), later.say("three")]);
    let hasHeard = false;
    const heard = Promise.all([line.hear(), later.hear()]).finally(() => hasHeard = true);
    // Another wire has answered three times meanwhile.
    await using thawed = new Wire(echo);
    using judge = await Line.open(thawed);
    for (const word of ["a", "b", "c"]) assertEquals(await judge.ask(word), word);
    assert(!hasHeard);
    wire.thaw();
    assertEquals(await heard, ["two", "three"]);
  });

  it("when frozen, can be kicked and closed", async () => {
    await using echo = startEcho();
    await using wire = new Wire(echo);
    using line = await Line.open(wire);
    assertEquals(await line.ask("one"), "one");
    wire.freeze();
    await line.say("two");
    wire.freeze();
    wire.kick();
    assertEquals(await line.hear(), "");
    using later = await Line.open(wire);
    await later.say("three");
  });

  it("takes at least its delay in each direction", async () => {
    await using echo = startEcho();
    await using wire = new Wire(echo);
    using line = await Line.open(wire);
    wire.delay = 30;
    const start = performance.now();
    assertEquals(await line.ask("one"), "one");
    assert(performance.now() - start >= 59);
    wire.delay = 0;
    assertEquals(await line.ask("two"), "two");
  });

  it("ends a connection that the server refuses, and accepts the next", async () => {
    let port: number;
    {
      await using gone = startEcho();
      port = gone.port;
    }
    await using wire = new Wire({ port });
    for (let i = 0; i < 2; i++) {
      using line = await Line.open(wire);
      assertEquals(await line.hear(), "");
    }
  });

  it("when closed, refuses connections", async () => {
    await using echo = startEcho();
    const wire = new Wire(echo);
    const { port } = wire;
    await wire[Symbol.asyncDispose]();
    await assertRejects(() => Line.open({ port }), Deno.errors.ConnectionRefused);
  });
});
