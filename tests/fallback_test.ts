/** The client module where WebSockets are blocked: to plain HTTP, and back. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cipher, createKey } from "../public/cipher.js";
import { RefusedError } from "../public/connection.js";
import { Fallback, PROBE_EVERY_MS, PROBE_MS } from "../public/fallback.js";
import { EventParser, Stream } from "../public/stream.js";
import { Caller, World } from "./support/caller.ts";
import { makeFolder } from "./support/folder.ts";
import { Gate, type Treatment } from "./support/gate.ts";
import { itInNode, runInNode } from "./support/node.ts";
import { call, signUp } from "./support/people.ts";
import { startServer } from "./support/server.ts";
import { V1Client } from "./support/v1_client.ts";

/** Maximum time of a hanging attempt: the client's own 15 s are too long for a test. */
const HANG_MS = 1000;
/** Times of the client and their replacements in these tests, in milliseconds. */
const SHORT = new Map([[15_000, HANG_MS], [PROBE_EVERY_MS, 150], [PROBE_MS, 100]]);

const hurry = {
  setTimeout: (task: () => void, ms: number) => setTimeout(task, SHORT.get(ms) ?? ms),
};

/** All events of a stream in pieces. */
function parse(...pieces: (string | Uint8Array)[]) {
  const parser = new EventParser();
  const encoder = new TextEncoder();
  return pieces.flatMap((piece) =>
    parser.push(typeof piece === "string" ? encoder.encode(piece) : piece)
  );
}

describe("EventParser", () => {
  const message = (data: string, type = "message") => ({ type, data });

  it("reads lines that end with LF, CR or CRLF", () => {
    for (const end of ["\n", "\r", "\r\n"]) {
      const text = ["data: one", "", "event: close", "data: two", "", ""].join(end);
      assertEquals(parse(text), [message("one"), message("two", "close")]);
    }
  });

  it("reads a stream cut anywhere, in a character or between CR and LF", () => {
    const text = "\ufeff: heartbeat\r\nid: e:1\r\ndata: Zoë 🎉\r\ndata:  two\r\rdata: 李\n\n";
    const bytes = new TextEncoder().encode(text);
    const expected = [message("Zoë 🎉\n two"), message("李")];
    for (let cut = 0; cut <= bytes.length; cut++) {
      assertEquals(parse(bytes.subarray(0, cut), bytes.subarray(cut)), expected, `cut at ${cut}`);
    }
    assertEquals(parse(...Array.from(bytes, (byte) => Uint8Array.of(byte))), expected);
  });

  it("ignores comments, unknown fields, and events without data or without an end", () => {
    assertEquals(parse(":\n\nretry: 5\n\nevent: x\n\ndata: one\n\ndata: two\n"), [message("one")]);
    assertEquals(parse("data\n\ndata:\ndata\n\n"), [message(""), message("\n")]);
    assertEquals(parse("data:a:b\ndatas: c\n data: d\n\n"), [message("a:b")]);
  });

  it("drops a byte order mark at the start only", () => {
    assertEquals(parse("\ufeffdata: \ufeffone\n\n"), [message("\ufeffone")]);
  });
});

/** A scripted server at the other end of a stream, and a fake clock. */
class Desk {
  readonly posts: { url: URL; body: string; answer: PromiseWithResolvers<Response> }[] = [];
  readonly frames: string[] = [];
  errors = 0;
  readonly closed: Promise<{ code: number; reason: string; wasClean: boolean }>;
  readonly stream: Stream;
  readonly timers = new Map<number, { task: () => void; delayMs: number }>();
  #body!: ReadableStreamDefaultController<Uint8Array>;
  #lastTimer = 0;

  constructor(query = "username=Ada&epoch=e&after=1&inbox=2") {
    const body = new ReadableStream<Uint8Array>({ start: (body) => void (this.#body = body) });
    this.stream = new Stream(`http://chat.example/base/api/rooms/tea/events?${query}`, {
      fetch: (url, init) => {
        init.signal?.addEventListener("abort", () => this.#abort());
        if (init.method !== "POST") {
          const headers = { "content-type": "text/event-stream" };
          return Promise.resolve(new Response(body, { headers }));
        }
        const answer = Promise.withResolvers<Response>();
        this.posts.push({ url: new URL(url), body: String(init.body), answer });
        return answer.promise;
      },
      setTimeout: (task, delayMs) => {
        this.timers.set(++this.#lastTimer, { task, delayMs });
        return this.#lastTimer;
      },
      clearTimeout: (timer) => this.timers.delete(timer),
    });
    this.stream.onmessage = ({ data }) => this.frames.push(data);
    this.stream.onerror = () => this.errors++;
    this.closed = new Promise((resolve) => this.stream.onclose = resolve);
  }

  async opened(): Promise<void> {
    await new Promise<void>((resolve) => this.stream.onopen = resolve);
  }

  async says(text: string): Promise<void> {
    this.#body.enqueue(new TextEncoder().encode(text));
    await settled();
  }

  async answers(status: number, body?: unknown, headers = {}): Promise<void> {
    const text = body === undefined ? null : typeof body === "string" ? body : JSON.stringify(body);
    this.posts.at(-1)!.answer.resolve(new Response(text, { status, headers }));
    await settled();
  }

  ends(): void {
    this.#body.close();
  }

  /** Runs the timer with this delay. */
  ring(ms: number): void {
    const [id, timer] = [...this.timers].find(([, { delayMs }]) => delayMs === ms)!;
    this.timers.delete(id);
    timer.task();
  }

  #abort(): void {
    const error = new DOMException("aborted", "AbortError");
    try {
      this.#body.error(error);
    } catch { /* It has ended. */ }
    for (const { answer } of this.posts) answer.reject(error);
  }
}

/** Resolves when all ready callbacks have run. */
const settled = () => new Promise<void>((resolve) => setTimeout(resolve));

const WELCOME = `data: {"type":"welcome","room":"tea","session":"secret"}\n\n`;

describe("Stream", () => {
  it("emits events that arrive together as one frame, and ends with the server's code", async () => {
    const desk = new Desk();
    await desk.opened();
    await desk.says(`retry: 100\n\n${WELCOME}id: e:1\ndata: {"seq":1}\n\n`);
    await desk.says(`data: {"seq":2}\n\n`);
    assertEquals(desk.frames.map((frame) => JSON.parse(frame)), [
      [{ type: "welcome", room: "tea", session: "secret" }, { seq: 1 }],
      { seq: 2 },
    ]);
    await desk.says(`event: close\ndata: {"code":4003,"reason":"forbidden"}\n\n`);
    assertEquals(await desk.closed, { code: 4003, reason: "forbidden", wasClean: true });
    assertEquals([desk.stream.readyState, desk.timers.size, desk.errors], [3, 0, 0]);
  });

  it("keeps the answer that refused it, from the server or something else", async () => {
    for (
      const [status, type] of [
        [403, "application/json"],
        [200, "text/html"],
        [502, "text/event-stream"],
      ] as const
    ) {
      const answer = new Response("No.", { status, headers: { "content-type": type } });
      const stream = new Stream("http://chat.example/api/rooms/tea/events", {
        fetch: () => Promise.resolve(answer),
        setTimeout: () => 0,
        clearTimeout: () => {},
      });
      let isOpened = false;
      stream.onopen = () => isOpened = true;
      const code = await new Promise((resolve) => stream.onclose = ({ code }) => resolve(code));
      assertEquals([code, isOpened, stream.refusal?.status], [1006, false, status]);
      assertEquals(await stream.refusal?.text(), "No.");
    }
  });

  it("ends with 1006 without a close event, and with the given code after close()", async () => {
    const [lost, left] = [new Desk(), new Desk()];
    await Promise.all([lost.opened(), left.opened()]);
    lost.ends();
    assertEquals([(await lost.closed).code, lost.errors], [1006, 1]);
    left.stream.close(1000);
    assertEquals([(await left.closed).code, left.errors], [1000, 0]);
  });

  it("sends nothing more once it has ended", async () => {
    const desk = new Desk();
    await desk.opened();
    await desk.says(WELCOME);
    for (const n of [1, 2]) desk.stream.send(`{"ref":"${n}"}`);
    desk.ends();
    await desk.closed;
    await desk.answers(200, { type: "ack", ref: "1" });
    assertEquals([desk.posts.length, desk.frames.length], [1, 1]);
  });

  it("stays open while bytes arrive, and is lost after 40 seconds without one", async () => {
    const desk = new Desk();
    assertEquals([...desk.timers.values()].map(({ delayMs }) => delayMs), [40_000]);
    await desk.opened();
    const [before] = desk.timers.keys();
    await desk.says(":\n\n");
    assertEquals(desk.frames, []);
    assertEquals([...desk.timers.values()].map(({ delayMs }) => delayMs), [40_000]);
    assert(!desk.timers.has(before!));
    desk.ring(40_000);
    assertEquals((await desk.closed).code, 1006);
  });

  it("posts one command at a time, in order, with the welcome's secret and without a place", async () => {
    const desk = new Desk();
    await desk.opened();
    await desk.says(WELCOME);
    for (const n of [1, 2, 3]) desk.stream.send(`{"ref":"${n}"}`);
    for (const n of [1, 2, 3]) {
      await settled();
      assertEquals([desk.posts.length, desk.posts.at(-1)!.body], [n, `{"ref":"${n}"}`]);
      await desk.answers(n === 2 ? 204 : 200, n === 2 ? undefined : { type: "ack", ref: `${n}` });
    }
    assertEquals(desk.frames.slice(1), [`{"type":"ack","ref":"1"}`, `{"type":"ack","ref":"3"}`]);
    const url = "http://chat.example/base/api/rooms/tea/commands?username=Ada&session=secret";
    assertEquals(new Set(desk.posts.map(({ url }) => url.href)), new Set([url]));
    desk.stream.close();
    await desk.closed;
  });

  it("turns a refusal into an error event with the command's ref", async () => {
    const desk = new Desk();
    await desk.opened();
    await desk.says(WELCOME);
    const refusals = { 400: "bad_request", 401: "unauthenticated", 403: "forbidden" };
    const more = { 404: "not_found", 409: "conflict", 413: "too_big", 503: "unavailable" };
    for (const [status, code] of Object.entries({ ...refusals, ...more })) {
      desk.stream.send(`{"type":"chat","ref":"r"}`);
      await desk.answers(Number(status), { error: "No." });
      const base = { type: "error", content: "No.", room: "tea", username: "" };
      assertEquals(JSON.parse(desk.frames.at(-1)!), { ...base, code, ref: "r" });
    }
    desk.stream.send(`{"type":"typing"}`);
    await desk.answers(429, { error: "Slowly." }, { "retry-after": "3" });
    const base = { type: "error", content: "Slowly.", room: "tea", username: "" };
    const expected = { ...base, code: "rate_limited", retry_after: 3 };
    assertEquals(JSON.parse(desk.frames.at(-1)!), expected);
    desk.stream.close();
    await desk.closed;
  });

  it("is lost when the fate of a command is unknown", async () => {
    const troubles: ((desk: Desk) => unknown)[] = [
      (desk) => desk.ring(10_000),
      (desk) => desk.posts[0]!.answer.reject(new TypeError("connection reset")),
      (desk) => desk.answers(502, "<h1>Bad gateway</h1>"),
      (desk) => desk.answers(403, "<h1>Blocked</h1>"),
      (desk) => desk.answers(500, { error: "Something went wrong." }),
    ];
    for (const trouble of troubles) {
      const desk = new Desk();
      await desk.opened();
      await desk.says(WELCOME);
      desk.stream.send(`{"ref":"1"}`);
      desk.stream.send(`{"ref":"2"}`);
      await trouble(desk);
      assertEquals((await desk.closed).code, 1006);
      assertEquals([desk.posts.length, desk.frames.length, desk.timers.size], [1, 1, 0]);
    }
  });
});

/** A fallback that probes for WebSockets, with a fake clock and sockets. */
class Lookout {
  readonly timers = new Map<number, { task: () => void; delayMs: number }>();
  sent: string[] = [];
  /** Open sockets. */
  open = 0;
  /** How often a WebSocket worked. */
  through = 0;
  socket = {} as WebSocket;
  #lastTimer = 0;
  readonly fallback = new Fallback("stream", {
    openSocket: () => {
      this.open++;
      const send = (text: string) => this.sent.push(text);
      return this.socket = { send, close: () => this.open-- } as unknown as WebSocket;
    },
    setTimeout: (task, delayMs) => {
      this.timers.set(++this.#lastTimer, { task, delayMs });
      return this.#lastTimer;
    },
    clearTimeout: (timer) => this.timers.delete(timer),
  });

  constructor() {
    this.watch();
  }

  watch(): void {
    this.fallback.watch("ws://chat.example/echo", () => this.through++);
  }

  /** The delays of its timers, in milliseconds. */
  get waits(): number[] {
    return [...this.timers.values()].map(({ delayMs }) => delayMs);
  }

  /** Runs its only timer. */
  ring(): void {
    const [[id, { task }]] = this.timers as unknown as [[number, { task: () => void }]];
    this.timers.delete(id);
    task();
  }

  opens(): void {
    this.socket.onopen?.(new Event("open"));
  }

  echoes(): void {
    this.socket.onmessage?.(new MessageEvent("message"));
  }
}

describe("Fallback", () => {
  it("accepts a socket that echoes at once and at the end", () => {
    const lookout = new Lookout();
    assertEquals([lookout.waits, lookout.open], [[PROBE_EVERY_MS], 0]);
    lookout.ring();
    lookout.opens();
    assertEquals([lookout.waits, lookout.sent.length], [[PROBE_MS], 1]);
    lookout.echoes();
    assertEquals([lookout.waits, lookout.through], [[PROBE_MS], 0]);
    lookout.ring();
    assertEquals([lookout.waits, lookout.sent.length], [[PROBE_MS], 2]);
    lookout.echoes();
    assertEquals(lookout.through, 1);
    lookout.fallback.rest();
    assertEquals([lookout.waits, lookout.open], [[], 0]);
  });

  it("tries again later after a failed socket, and ignores that socket", () => {
    let prevented = 0;
    const failures: ((lookout: Lookout) => void)[] = [
      // The socket never opens, never answers, or is dead without a close.
      (lookout) => lookout.ring(),
      (lookout) => {
        lookout.opens();
        lookout.ring();
      },
      (lookout) => {
        lookout.opens();
        lookout.echoes();
        lookout.ring();
        lookout.ring();
      },
      ({ socket }) => socket.onclose?.(new CloseEvent("close")),
      ({ socket }) => {
        socket.onerror?.({ preventDefault: () => prevented++ } as unknown as Event);
        socket.onclose?.(new CloseEvent("close"));
      },
    ];
    for (const fail of failures) {
      const lookout = new Lookout();
      lookout.ring();
      fail(lookout);
      assertEquals([lookout.waits, lookout.open], [[PROBE_EVERY_MS], 0], `${fail}`);
      lookout.echoes();
      lookout.echoes();
      lookout.socket.onclose?.(new CloseEvent("close"));
      assertEquals([lookout.waits, lookout.through], [[PROBE_EVERY_MS], 0], `${fail}`);
    }
    assertEquals(prevented, 1);
  });

  it("probes once at a time, however often it is asked", () => {
    const lookout = new Lookout();
    lookout.watch();
    assertEquals(lookout.waits, [PROBE_EVERY_MS]);
    lookout.ring();
    lookout.watch();
    assertEquals([lookout.waits, lookout.open], [[PROBE_EVERY_MS], 0]);
  });
});

const UPGRADE = { error: "upgrade required" };
const isStream = (url: string) => url.includes("/api/rooms/tea/events?");

describe("Connection, with a fake clock and no WebSockets", () => {
  it("asks why a socket failed, and opens a stream at once if the server would admit it", async () => {
    const world = new World();
    world.answer = Response.json(UPGRADE, { status: 426 });
    world.streamAnswer = Response.json({ error: "the room is closed" }, { status: 403 });
    world.connection.open();
    await world.fails();
    // The refusal of the stream is final: the client does not ask again.
    const reason = "The room is closed.";
    assertEquals(world.connection.state, { state: "refused", reason, code: 403 });
    assertEquals(world.calls.map(isStream), [false, false, true]);
  });

  it("waits as long as the server asks when it refuses the stream", async () => {
    const world = new World();
    world.answer = Response.json(UPGRADE, { status: 426 });
    const headers = { "retry-after": "7" };
    world.streamAnswer = Response.json({ error: "Too many." }, { status: 429, headers });
    world.connection.open();
    await world.fails();
    assertEquals(world.nextTimer().delayMs, 17_000);
    world.ring();
    assert(isStream(world.calls.at(-1)!));
  });

  it("reports when both ways are blocked, and tries both again", async () => {
    for (const page of [undefined, new Response("<h1>Blocked</h1>", { status: 403 })]) {
      const world = new World();
      world.answer = Response.json(UPGRADE, { status: 426 });
      world.streamAnswer = page;
      world.connection.open();
      for (let n = 0; n < 2; n++) {
        await world.fails();
        const { state } = world.connection;
        assert(state.state === "reconnecting" && state.reason.includes("proxy"), state.state);
        world.ring();
      }
      assertEquals(world.calls.map(isStream), [false, false, true, false, false, true, false]);
    }
  });

  it("opens a stream if something else answers in the server's place, unless busy", async () => {
    for (
      const [status, isTaken] of [[403, true], [404, true], [502, true], [503, false]] as const
    ) {
      const world = new World();
      world.answer = new Response("<h1>Proxy</h1>", { status });
      world.connection.open();
      await world.fails();
      assertEquals([status, world.calls.some(isStream)], [status, isTaken]);
    }
  });

  it("opens no stream while the server is down", async () => {
    const world = new World();
    world.connection.open();
    for (let n = 0; n < 5; n++) {
      await world.fails();
      world.ring();
    }
    assert(!world.calls.some(isStream));
  });

  it("opens a stream after two young sockets cut in a row", async () => {
    for (
      const [ends, isTaken] of [
        [[[1006, 100], [1006, 100]], true],
        [[[0, 9999], [1005, 9999]], true],
        [[[1006, 100], [1006, 10_000], [1006, 100]], false],
        [[[1006, 100], [1012, 100], [1006, 100]], false],
        [[[1012, 100], [1012, 100], [1013, 100], [4008, 100]], false],
      ] as const
    ) {
      const world = new World();
      world.connection.open();
      for (const [code, livedMs] of ends) {
        world.welcome();
        world.now += livedMs;
        await world.closeSocket(code);
        world.ring();
      }
      assertEquals(world.calls.some(isStream), isTaken, JSON.stringify(ends));
    }
  });

  it("asks for the reason after a hanging upgrade, and ignores that socket", async () => {
    const world = new World();
    world.answer = Response.json(UPGRADE, { status: 426 });
    world.connection.open();
    world.pass(15_000);
    world.welcome();
    assertEquals(world.connection.state.state, "connecting");
    await world.decides();
    assertEquals(world.calls.map(isStream), [false, false, true]);
  });
});

/** Ada behind a gate, and Grace in front of it. */
async function meet(sockets: Treatment, env: Record<string, string> = {}) {
  const server = await startServer(env);
  const gate = new Gate(server, sockets);
  const grace = await V1Client.join(server.ws, "tea", "Grace");
  return {
    server,
    gate,
    grace,
    async [Symbol.asyncDispose]() {
      await grace.close();
      await gate[Symbol.asyncDispose]();
      await server.stop();
    },
  };
}

/** Sends a message, and waits until it is stored. */
const say = (client: V1Client, content: string) => client.ask({ type: "chat", content });

const onStream = { state: "live", via: "stream" } as const;

describe("Connection, behind a proxy", () => {
  const treatments: Treatment[] = [403, 502, "drop", "hang", { cutAfterMs: 30 }];
  for (const sockets of treatments) {
    it(`uses plain HTTP if upgrades end like this: ${JSON.stringify(sockets)}`, async () => {
      await using stage = await meet(sockets);
      const { gate, grace } = stage;
      await using ada = new Caller(gate, {}, hurry);
      ada.connection.send("one");
      await ada.until(() => "via" in ada.connection.state && ada.connection.state.via === "stream");
      assertEquals(ada.connection.state, onStream);
      await grace.nextOf("chat", ({ content }) => content === "one");
      await say(grace, "two");
      await ada.said("two");
      assertEquals(ada.chats().map(({ content }) => content), ["one", "two"]);
      assertEquals(gate.upgrades.length, typeof sockets === "object" ? 2 : 1);
    });
  }

  it("uses plain HTTP if a page answers every request for a socket", async () => {
    for (const status of [403, 404, 502]) {
      await using stage = await meet(403);
      stage.gate.pages.set("/ws/", status);
      await using ada = new Caller(stage.gate);
      await ada.live();
      assertEquals(ada.connection.state, onStream);
    }
  });

  it("does everything on a stream that it does on a socket", async () => {
    await using stage = await meet(403);
    const { gate, grace } = stage;
    await using ada = new Caller(gate);
    await ada.live();
    const item = ada.connection.send("one");
    await ada.until(() => item.status === "sent");
    const { id } = item.ack as { id: string };
    ada.connection.edit(id, "won");
    await grace.nextOf("message_updated", ({ content }) => content === "won");
    await ada.hears("message_updated");
    ada.connection.typing(true);
    await grace.nextOf("typing", ({ username, active }) => username === "Ada" && active);
    grace.send({ type: "typing", active: true });
    await ada.hears("typing", ({ username }) => username === "Grace");
    const answer = ada.connection.send("answer", { replyTo: id });
    await grace.nextOf("chat", ({ reply_to }) => reply_to === id);
    ada.connection.whisper("Grace", "psst");
    await grace.nextOf("dm", ({ content }) => content === "psst");
    await grace.ask({ type: "dm", to: "Ada", content: "yes?" });
    await ada.whispered("yes?");
    const page = await ada.connection.history({ before: 3, limit: 10 });
    assertEquals(page.messages.map(({ content }) => content), ["won"]);
    await ada.until(() => answer.status === "sent");
    assertEquals((await ada.connection.delete(answer.ack!.id!)).type, "ack");
    await grace.nextOf("message_deleted");
    await assertRejects(() => ada.connection.kick("Grace"), RefusedError, "owner");
    await assertRejects(() => ada.connection.delete("nothing"), RefusedError, "no such message");
    const nobody = ada.connection.whisper("Zoe", "psst");
    await ada.until(() => nobody.status === "failed");
    await ada.connection.close();
    await grace.nextOf("user_left", ({ username }) => username === "Ada");
    assertEquals(gate.upgrades.length, 1);
  });

  it("delivers repeated texts once, and resumes where the stream was cut", async () => {
    await using stage = await meet("drop");
    const { gate, grace } = stage;
    await using ada = new Caller(gate);
    await ada.live();
    const texts: string[] = [];
    for (let round = 0; round < 20; round++) {
      for (const who of ["ada", "grace", "ada"]) {
        const text = `${who} ${texts.push(who)}`;
        if (who === "ada") ada.connection.send(text);
        else await say(grace, text);
      }
      gate.cut();
      ada.connection.whisper("Grace", `psst ${round}`);
      await ada.until(() => ada.connection.state.state !== "live");
      ada.connection.retry();
      await ada.live();
    }
    await ada.until(() => ada.connection.outbox.isDone);
    const { messages } = await ada.connection.history({ limit: 100 });
    assertEquals(messages.length, texts.length);
    await ada.until(() => ada.chats().length >= texts.length);
    const seqs = ada.chats().map(({ seq }) => seq);
    assertEquals(seqs, Array.from(texts, (_, n) => n + 1));
    const own = messages.filter(({ username }) => username === "Ada").map(({ content }) => content);
    assertEquals(own, own.toSorted((a, b) => Number(a.split(" ")[1]) - Number(b.split(" ")[1])));
    await grace.nextOf("dm", ({ content }) => content === "psst 19");
    assertEquals(
      grace.all("dm").map(({ content }) => content),
      texts.slice(0, 20).map((_, n) => `psst ${n}`),
    );
    assertEquals(ada.gaps, []);
  });

  it("begins with a stream on request, and falls back to a socket", async () => {
    await using stage = await meet("pass");
    await using ada = new Caller(stage.gate, { via: "stream" });
    await ada.live();
    assertEquals([ada.connection.state, stage.gate.upgrades], [onStream, []]);
    stage.gate.pages.set("/api/", 502);
    await using bob = new Caller(stage.gate, { username: "Bob", via: "stream" });
    await bob.live();
    assertEquals(bob.connection.state, { state: "live", via: "socket" });
  });

  it("signs in on both ways, with GUESTS=off", async () => {
    await using server = await startServer({ GUESTS: "off" });
    await using gate = new Gate(server, 403);
    const token = await signUp(server, "mia");
    await using mia = new Caller(gate, { username: "mia", token }, hurry);
    const item = mia.connection.send("hello");
    await mia.until(() => item.status === "sent");
    assertEquals(mia.connection.state, onStream);
    gate.sockets = "pass";
    await mia.until(() => "via" in mia.connection.state && mia.connection.state.via === "socket");
  });

  itInNode("uses plain HTTP in Node unchanged", async () => {
    await using stage = await meet(403);
    const module = new URL("../public/connection.js", import.meta.url).href;
    const script = `
      const { Connection } = await import(${JSON.stringify(module)});
      const connection = new Connection({
        base: ${JSON.stringify(stage.gate.url)}, room: "tea", username: "Node",
      });
      connection.on("events", (events) => {
        for (const { type, content } of events) {
          if (type === "chat") {
            console.log(content, connection.state.via);
            connection.close();
          }
        }
      });
      connection.open();
      connection.send("from Node");`;
    assertEquals(await runInNode(script), ["from Node stream\n", ""]);
  });

  it("seals every text on a stream as on a socket", async () => {
    await using stage = await meet(502);
    const cipher = await Cipher.fromKey(createKey());
    await using ada = new Caller(stage.gate, { cipher });
    await using bob = new Caller(stage.server, { cipher, username: "Bob" });
    await Promise.all([ada.live(), bob.live()]);
    ada.connection.send("the plan");
    await bob.said("the plan");
    bob.connection.send("agreed");
    await ada.said("agreed");
    assertEquals(ada.chats().map(({ seal }) => seal), ["sound", "sound"]);
    await stage.grace.nextOf("chat", ({ content }) => content.startsWith("sealed.2."));
  });

  it("learns on a stream that it was removed, that its session ended, or that a name is taken", async () => {
    await using stage = await meet(403, { ADMINS: "root" });
    const { gate, server } = stage;
    const root = await signUp(server, "root");
    const mia = await signUp(server, "mia");
    const authorization = `Bearer ${mia}`;
    const signedIn = {
      fetch: (url: string, init: RequestInit) =>
        fetch(url, { ...init, headers: { ...init.headers as object, authorization } }),
    };
    await using member = new Caller(gate, { username: "mia" }, signedIn);
    await using guest = new Caller(gate, { username: "Bob" });
    await Promise.all([member.live(), guest.live()]);
    await using other = new Caller(gate, { username: "Grace" });
    const taken = await other.reaches("refused");
    assert(taken.state === "refused" && taken.code === 409 && taken.reason.includes("in use"));
    const admin = await V1Client.connect(`${server.ws}/ws/tea?username=root&token=${root}`);
    await admin.ask({ type: "kick", username: "Bob", reason: "spam" });
    const kicked = await guest.reaches("refused");
    const reason = "You were removed from this room: spam.";
    assertEquals(kicked, { state: "refused", reason, code: 4003 });
    await call(server, "POST", "/api/logout", { token: mia });
    const ended = await member.reaches("refused");
    assert(ended.state === "refused" && ended.code === 4001, JSON.stringify(ended));
    await admin.close();
  });

  it("stays on a stream over a restart of the server, without loss", async () => {
    await using folder = await makeFolder();
    const env = { DATABASE_URL: `sqlite:${folder.path}/chat.db` };
    const place = { port: 0 };
    const first = await startServer(env);
    place.port = first.port;
    await using gate = new Gate(place, 403);
    await using ada = new Caller(gate);
    await ada.live();
    ada.connection.send("before");
    await ada.said("before");
    await first.stop();
    await ada.reaches("reconnecting");
    ada.connection.send("meanwhile");
    await using second = await startServer(env);
    place.port = second.port;
    ada.connection.retry();
    await ada.said("meanwhile");
    assertEquals(ada.connection.state, onStream);
    assertEquals(ada.chats().map(({ content, seq }) => [content, seq]), [["before", 1], [
      "meanwhile",
      2,
    ]]);
    assertEquals(ada.gaps, []);
  });

  it("returns to a socket once one works and lasts, without loss or repeat", async () => {
    await using stage = await meet(403);
    const { gate, grace } = stage;
    await using ada = new Caller(gate, {}, hurry);
    await ada.live();
    // The first probes are refused, and the next are cut too early.
    await gate.upgraded(3);
    gate.sockets = { cutAfterMs: 50 };
    await gate.upgraded(6);
    assertEquals(ada.connection.state, onStream);
    gate.sockets = "pass";
    let n = 0;
    const sent: Promise<unknown>[] = [];
    const isBack = () => "via" in ada.connection.state && ada.connection.state.via === "socket";
    for (let after = 0; after < 20; after += isBack() ? 1 : 0) {
      sent.push(say(grace, `grace ${++n}`));
      ada.connection.send(`ada ${n}`);
      ada.connection.whisper("Grace", `psst ${n}`);
      await sent.at(-1);
      await new Promise((resolve) => setTimeout(resolve, 3));
    }
    await ada.until(() => ada.connection.outbox.isDone && ada.chats().length >= 2 * n);
    assertEquals(ada.connection.state, { state: "live", via: "socket" });
    assertEquals(ada.chats().map(({ seq }) => seq), Array.from({ length: 2 * n }, (_, i) => i + 1));
    for (const who of ["ada", "grace"]) {
      const said = ada.chats().map(({ content }) => content).filter((text) => text.startsWith(who));
      assertEquals(said, Array.from({ length: n }, (_, i) => `${who} ${i + 1}`));
    }
    await grace.nextOf("dm", ({ content }) => content === `psst ${n}`);
    assertEquals(grace.all("dm").length, n);
    assertEquals(ada.gaps, []);
    // The probes do not show in the room.
    const joins = grace.all("user_joined").filter(({ username }) => username === "Ada");
    assert(joins.length <= 2, `${joins.length} joins`);
    assert(gate.upgrades.slice(1, -1).every((line) => line.startsWith("WebSocket GET /echo?")));
  });
});
