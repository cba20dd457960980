/**
 * Attacks by a hostile client, which nobody else notices.
 *
 * Every attack hits a server with two members. Afterwards the same server must admit a third member,
 * all three must receive each other's messages, and `online_users` must be exact.
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Client, type Frame } from "./support/client.ts";
import { ServerProcess } from "./support/process.ts";
import {
  closeFrame,
  concat,
  frame,
  type FrameOptions,
  handshake,
  OPCODE,
  type RawAnswer,
  RawClient,
  type RawFrame,
  type RawRequest,
} from "./support/raw.ts";
import { startServer } from "./support/server.ts";

const TOWN = "town";
const TARGET = `/ws/${TOWN}?username=mallory`;

/** Two members of one room, whom no attack may disturb. */
class Town implements AsyncDisposable {
  readonly port: number;
  readonly ws: string;
  readonly ann: Client;
  readonly bob: Client;
  /** Number of the next message in {@linkcode Town.isWell}. */
  #said = 0;

  private constructor(server: { port: number; ws: string }, ann: Client, bob: Client) {
    this.port = server.port;
    this.ws = server.ws;
    this.ann = ann;
    this.bob = bob;
  }

  static async settle(server: { port: number; ws: string }): Promise<Town> {
    const ann = await Client.join(server.ws, TOWN, "ann");
    const bob = await Client.join(server.ws, TOWN, "bob");
    return new Town(server, ann, bob);
  }

  /** Connects to the room as a member that may misbehave. */
  mallory(): Promise<RawClient> {
    return RawClient.open(this.port, TARGET);
  }

  /** Sends one request on a new connection. No answer may contain a stack or be a 500. */
  async ask(target: string, request: RawRequest = {}): Promise<RawAnswer> {
    using client = await RawClient.connect(this.port);
    await client.write(handshake(target, request));
    const answer = await client.readAnswer(request.method);
    assertIsClean(answer);
    return answer;
  }

  /** Mallory's messages, as Ann received them. */
  get rumours(): string[] {
    return this.ann.frames.filter(isFrom("mallory")).map(({ content }) => content);
  }

  /** Proves that the listener, the delivery and the presence work. */
  async isWell(): Promise<void> {
    {
      await using carol = await Client.join(this.ws, TOWN, "carol");
      await isOnline(carol, "ann,bob,carol");
      await this.chats([this.ann, this.bob, carol]);
    }
    await isOnline(this.ann, "ann,bob");
    await isOnline(this.bob, "ann,bob");
  }

  /** Everyone sends a message, and everyone receives it. */
  async chats(members = [this.ann, this.bob]): Promise<void> {
    for (const speaker of members) {
      const content = `all is well ${++this.#said}`;
      speaker.send(content);
      for (const member of members) {
        await member.nextFrame((frame) => frame.type === "chat" && frame.content === content);
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.ann.close(), this.bob.close()]);
  }
}

function isFrom(username: string): (frame: Frame) => boolean {
  return (frame) => frame.type === "chat" && frame.username === username;
}

/** Waits until a member's newest `online_users` is this list. */
async function isOnline(member: Client, names: string): Promise<void> {
  const newest = () => member.frames.findLast(({ type }) => type === "online_users")?.content;
  while (newest() !== names) await member.next();
}

function assertIsClean({ status, body }: RawAnswer): void {
  assert(status < 500, `The answer is ${status}: ${body}`);
  assert(!/\bat \S.*:\d+:\d+|file:\/\//.test(body), `The answer has a stack: ${body}`);
}

/** Runs an attack on a new server, and proves that the server still works. */
async function survives(
  attack: (town: Town) => Promise<void>,
  env: Record<string, string> = {},
): Promise<void> {
  const server = await startServer(env);
  try {
    await using town = await Town.settle(server);
    await attack(town);
    await town.isWell();
  } finally {
    await server.stop();
  }
  assertEquals(server.log.filter(({ level }) => level === "error"), []);
  const { msg, connections } = server.log.at(-1)!;
  assertEquals({ msg, connections }, { msg: "stopped", connections: 0 });
}

/** The next text frame that is an event of this type. */
async function nextEvent(client: RawClient, type: string): Promise<Frame> {
  while (true) {
    const next = await client.readFrame();
    assert(next !== undefined, `The connection ended before an event of type ${type}.`);
    if (next.opcode !== OPCODE.text) continue;
    const event = JSON.parse(next.text);
    if (event.type === type) return event;
  }
}

/** Reads up to the close frame, or to the end if none comes, and gives its code. */
async function closeCode(client: RawClient): Promise<number | undefined> {
  let next: RawFrame | undefined;
  do next = await client.readFrame(); while (next !== undefined && next.opcode !== OPCODE.close);
  return next && next.payload[0]! << 8 | next.payload[1]!;
}

function bytes(...values: number[]): Uint8Array {
  return Uint8Array.from(values);
}

function control(opcode: number, payload: string | Uint8Array, options: FrameOptions = {}) {
  return frame(payload, { opcode, ...options });
}

describe("a hostile handshake", () => {
  const header = (name: string, value?: string): RawRequest => ({ headers: { [name]: value } });
  const plain = { Upgrade: undefined, Connection: undefined };

  const refused: [string, RawRequest, number][] = [
    ["no key", header("Sec-WebSocket-Key"), 400],
    ["an empty key", header("Sec-WebSocket-Key", ""), 400],
    ["a key that is not base64", header("Sec-WebSocket-Key", "!".repeat(24)), 400],
    ["a key of 15 bytes", header("Sec-WebSocket-Key", btoa("x".repeat(15))), 400],
    ["a key of 17 bytes", header("Sec-WebSocket-Key", btoa("x".repeat(17))), 400],
    ["a key that is not ASCII", header("Sec-WebSocket-Key", "é"), 400],
    ["no version", header("Sec-WebSocket-Version"), 426],
    ["version 8", header("Sec-WebSocket-Version", "8"), 426],
    ["version 12", header("Sec-WebSocket-Version", "12"), 426],
    ["versions 13, 8", header("Sec-WebSocket-Version", "13, 8"), 426],
    ["the method POST", { method: "POST" }, 405],
    ["the method PUT", { method: "PUT" }, 405],
    ["the method DELETE", { method: "DELETE" }, 405],
    ["the method HEAD", { method: "HEAD" }, 426],
    ["the method OPTIONS", { method: "OPTIONS" }, 405],
    ["the method TRACE", { method: "TRACE" }, 405],
    ["an unknown method", { method: "BREW" }, 405],
    ["the subprotocol a", header("Sec-WebSocket-Protocol", "a"), 400],
    ["the subprotocols a,b", header("Sec-WebSocket-Protocol", "a,b"), 400],
    ["the subprotocols a, b", header("Sec-WebSocket-Protocol", "a, b"), 400],
    ["a garbled subprotocol", header("Sec-WebSocket-Protocol", ",;é\t,"), 400],
    ["no Upgrade", header("Upgrade"), 426],
    ["another Upgrade", header("Upgrade", "h2c"), 426],
    ["no Connection", header("Connection"), 426],
    ["another Connection", header("Connection", "keep-alive, Upgraded"), 426],
    ["a body", { headers: { "Content-Length": "5" }, body: "hello" }, 400],
    [
      "a body in chunks",
      { headers: { "Transfer-Encoding": "chunked" }, body: "5\r\nhello\r\n0\r\n\r\n" },
      400,
    ],
    ["a negative length", header("Content-Length", "-1"), 400],
    ["HTTP/2.0", { version: "2.0" }, 400],
    ["a header name with a space", header("Up grade", "x"), 400],
    ["a header of 600 KB", header("X-Long", "x".repeat(600_000)), 400],
  ];
  for (const [what, request, status] of refused) {
    it(`with ${what} is answered ${status}`, () =>
      survives(async (town) => {
        const answer = await town.ask(TARGET, request);
        assertEquals(answer.status, status);
        if (what.includes("version")) {
          assertEquals(answer.headers.get("sec-websocket-version"), "13");
        }
      }));
  }

  const accepted: [string, RawRequest][] = [
    ["Upgrade: WebSocket", header("Upgrade", "WebSocket")],
    ["Upgrade in a list", header("Upgrade", "h2c, wEbSoCkEt")],
    ["Connection: keep-alive, Upgrade", header("Connection", "keep-alive, Upgrade")],
    ["Connection: upgrade,close", header("Connection", "upgrade,close")],
  ];
  for (const [what, request] of accepted) {
    it(`with ${what} is accepted`, () =>
      survives(async (town) => assertEquals((await town.ask(TARGET, request)).status, 101)));
  }

  for (const host of ["[", "a b", "", undefined, ":::", "é", "a:99999999", "x@y", "a?b", "a#b"]) {
    it(`with the host ${JSON.stringify(host)} gets a clean answer, as does a plain request`, () =>
      survives(async (town) => {
        await town.ask(TARGET, header("Host", host));
        for (const target of ["/", "/health", "/nothing", TARGET, "/echo"]) {
          await town.ask(target, { headers: { ...plain, Host: host, Accept: "text/html" } });
        }
      }));
  }

  const targets: [string, number][] = [
    ["http://127.0.0.1/ws/town?username=mallory", 101],
    ["ws://x:y@z[/ws/town?username=mallory", 101],
    ["*", 400],
    ["127.0.0.1:80", 400],
    ["ws/town", 400],
    ["/ws/%FF?username=m", 400],
    ["/ws/%zz?username=m", 400],
    ["/ws/%00?username=m", 400],
    ["/ws/%2F?username=m", 400],
    ["/ws/%0A?username=m", 400],
    ["/ws/a%0D%0Ab?username=m", 400],
    ["/ws/%E2%80%A8?username=m", 400],
    ["/ws/%ED%A0%80?username=m", 400],
    ["/ws/..?username=m", 400],
    ["/ws/%2e%2e/a?username=m", 400],
    ["/ws/?username=m", 400],
    ["/ws/%20?username=m", 400],
    ["/ws/town?username=%FF", 400],
    ["/ws/town?username=%zz", 400],
    ["/ws/town?username=%00", 400],
    ["/ws/town?username=%2F", 400],
    ["/ws/town?username=a,b", 400],
    ["/ws/town?username", 400],
    ["/ws/town?username=m&format=__proto__", 400],
    ["/ws/town?__proto__=m&constructor=m", 400],
    ["/ws/town#?username=m", 400],
    ["/../../../etc/passwd", 404],
    ["/..%2f..%2f..%2fetc%2fpasswd", 404],
    ["/%00", 404],
    ["/%zz", 404],
  ];
  for (const [target, status] of targets) {
    it(`for ${target} is answered ${status}`, () =>
      survives(async (town) => assertEquals((await town.ask(target)).status, status)));
  }

  it("for an address of 60 KB is answered 400", () =>
    survives(async (town) => {
      const long = "a".repeat(60_000);
      assertEquals((await town.ask(`/ws/${long}?username=m`)).status, 400);
      assertEquals((await town.ask(`/ws/town?username=${long}`)).status, 400);
      assertEquals((await town.ask(`/ws/town?username=&x=${long}`)).status, 400);
    }));

  it("in HTTP/1.0 gets a clean answer", () =>
    survives(async (town) => {
      await town.ask(TARGET, { version: "1.0" });
    }));

  it("with both a length and chunks is not read as two requests", () =>
    survives(async (town) => {
      using client = await RawClient.connect(town.port);
      await client.write(handshake("/health", {
        method: "POST",
        headers: { ...plain, "Content-Length": "4", "Transfer-Encoding": "chunked" },
        body: "0\r\n\r\nGET /ws HTTP/1.1\r\nHost: a\r\n\r\n",
      }));
      await client.endWriting();
      assertIsClean(await client.readAnswer());
    }));

  it("in single bytes is accepted", () =>
    survives(async (town) => {
      using mallory = await RawClient.connect(town.port);
      for (const byte of handshake(TARGET)) await mallory.write(byte);
      assertEquals((await mallory.readAnswer()).status, 101);
      for (const byte of frame("slowly")) await mallory.write(bytes(byte));
      assertEquals((await nextEvent(mallory, "chat")).content, "slowly");
    }));

  it("followed by garbage ends only its connection", () =>
    survives(async (town) => {
      for (const garbage of [handshake(TARGET), "\xff".repeat(1000), "\0".repeat(1000)]) {
        using mallory = await RawClient.connect(town.port);
        await mallory.write(handshake(TARGET) + garbage);
        await mallory.endWriting();
        assertIsClean(await mallory.readAnswer());
        await mallory.readFrames();
        await isOnline(town.ann, "ann,bob");
      }
      assertEquals(town.rumours, []);
    }));

  it("followed by a good frame is accepted, and the frame is received", () =>
    survives(async (town) => {
      using mallory = await RawClient.connect(town.port);
      await mallory.write(concat([new TextEncoder().encode(handshake(TARGET)), frame("early")]));
      assertEquals((await mallory.readAnswer()).status, 101);
      assertEquals((await nextEvent(mallory, "chat")).content, "early");
    }));

  it("left unfinished delays nobody", () =>
    survives(async (town) => {
      const half = handshake(TARGET).slice(0, -20);
      const clients = await Promise.all(range(100, () => RawClient.connect(town.port)));
      await Promise.all(clients.map((client) => client.write(half)));
      await town.isWell();
      for (const client of clients) client.close();
    }));

  it("cut off before the answer leaves no member behind, 300 times", () =>
    survives(async (town) => {
      await Promise.all(range(300, async (i) => {
        const client = await RawClient.connect(town.port);
        await client.write(handshake(`/ws/town?username=m${i}`));
        client.close();
      }));
    }));

  it("reset before the answer leaves no member behind, 300 times", () =>
    survives(async (town) => {
      await Promise.all(range(300, async (i) => {
        const client = await RawClient.connect(town.port);
        await client.write(handshake("/health", { headers: plain }));
        await client.receiveOneByte();
        await client.write(handshake(`/ws/town?username=m${i}`));
        client.close();
      }));
    }));

  it("for one name, sent 20 times at once, admits one member", () =>
    survives(async (town) => {
      const clients = await Promise.all(range(20, () => RawClient.connect(town.port)));
      await Promise.all(clients.map((client) => client.write(handshake(TARGET))));
      const answers = await Promise.all(clients.map((client) => client.readAnswer()));
      for (const answer of answers) assertIsClean(answer);
      await isOnline(town.ann, "ann,bob,mallory");
      for (const client of clients) client.close();
      await isOnline(town.ann, "ann,bob");
      const joins = town.ann.frames.filter(({ type, username }) =>
        type === "user_joined" && username === "mallory"
      );
      assertEquals(joins.length, 1);
    }));
});

describe("a name of a built-in property", () => {
  const names = ["__proto__", "constructor", "toString", "hasOwnProperty", "valueOf", "prototype"];

  it("is an ordinary room and an ordinary username", () =>
    survives(async (town) => {
      for (const room of names) {
        const members: Client[] = [];
        for (const name of names) members.push(await Client.join(town.ws, room, name));
        for (const member of members) await isOnline(member, names.join(","));
        for (const [i, speaker] of members.entries()) {
          speaker.send(`I am ${names[i]}`);
          for (const member of members) {
            const { content, username } = await member.nextFrame(({ type }) => type === "chat");
            assertEquals({ content, username }, {
              content: `I am ${names[i]}`,
              username: names[i],
            });
          }
        }
        for (const member of members) await member.close();
      }
    }));
});

describe("a frame that breaks RFC 6455", () => {
  const cut: [string, Uint8Array, number?][] = [
    ...[1, 2, 4, 7].map((rsv): [string, Uint8Array] => [
      `with the reserved bits ${rsv}`,
      frame("hi", { rsv }),
    ]),
    ...[3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map((opcode): [string, Uint8Array] => [
      `with the unknown opcode ${opcode}`,
      control(opcode, "hi"),
    ]),
    ["that is a fragment of a ping", control(OPCODE.ping, "a", { fin: false })],
    ["that is a fragment of a pong", control(OPCODE.pong, "a", { fin: false })],
    ["that is a fragment of a close", control(OPCODE.close, "", { fin: false })],
    ["that is a ping of 126 bytes", control(OPCODE.ping, "a".repeat(126))],
    ["that is a ping of 64 KB", control(OPCODE.ping, "a".repeat(65_536))],
    ["that is a close of 126 bytes", closeFrame(1000, "a".repeat(124))],
    ["that continues nothing", control(OPCODE.continuation, "a")],
    ["that continues nothing, nor ends it", control(OPCODE.continuation, "a", { fin: false })],
    ["that begins a text within a text", concat([frame("a", { fin: false }), frame("b")])],
    ["with a byte that UTF-8 never has", frame(bytes(0xff))],
    ["with an overlong NUL", frame(bytes(0xc0, 0x80))],
    ["with a surrogate in UTF-8", frame(bytes(0xed, 0xa0, 0x80))],
    ["with a code point above U+10FFFF", frame(bytes(0xf4, 0x90, 0x80, 0x80))],
    ["with half a character", frame(bytes(0xe2, 0x82))],
    [
      "with half a character in a fragment",
      concat([frame(bytes(0xe2), { fin: false }), control(OPCODE.continuation, "a")]),
    ],
    ["that is a close of 1 byte", control(OPCODE.close, bytes(3))],
    ["that is a close with a garbled reason", closeFrame(1000, bytes(0xff))],
    ...[0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535].map(
      (code): [string, Uint8Array, number] => [
        `that is a close with the code ${code}`,
        closeFrame(code),
        1002,
      ],
    ),
    ["with a length above 2^63", frame("", { length: 1n << 63n })],
    ["with a length of 2^64 - 1", frame("", { length: (1n << 64n) - 1n })],
    ["that announces 2^40 bytes", frame("", { length: 2 ** 40 })],
    ["that is an HTTP request", new TextEncoder().encode(handshake("/health"))],
  ];
  for (const [what, attack, code] of cut) {
    it(`${what} ends its connection`, () =>
      survives(async (town) => {
        using mallory = await town.mallory();
        await mallory.write(attack);
        if (code !== undefined) assertEquals(await closeCode(mallory), code);
        await mallory.readFrames();
        await isOnline(town.bob, "ann,bob");
        assertEquals(town.rumours, []);
      }));
  }

  const unfinished: [string, Uint8Array][] = [
    ["after one byte", frame("hello").subarray(0, 1)],
    ["in its length", frame("", { length: 1000 }).subarray(0, 3)],
    ["in its mask", frame("hello").subarray(0, 4)],
    ["in its payload", frame("hello").subarray(0, 8)],
    ["63 MiB before its end", frame("", { length: 63 * 2 ** 20 })],
    ["between two fragments", frame("hello", { fin: false })],
    ["within a character", frame(bytes(0xe2, 0x82), { fin: false })],
    ["in a close", closeFrame(1000, "bye").subarray(0, 5)],
  ];
  for (const [where, part] of unfinished) {
    it(`that stops ${where} waits, and is forgotten when its sender disconnects`, () =>
      survives(async (town) => {
        {
          using mallory = await town.mallory();
          await mallory.write(part);
          await town.chats();
          await isOnline(town.ann, "ann,bob,mallory");
        }
        await isOnline(town.ann, "ann,bob");
        assertEquals(town.rumours, []);
      }));
  }

  it("without a mask is read or ends its connection, and nothing else", () =>
    survives(async (town) => {
      using mallory = await town.mallory();
      await mallory.write(frame("bare", { masked: false }));
      await mallory.endWriting();
      await mallory.readFrames();
      await isOnline(town.ann, "ann,bob");
      assert(town.rumours.every((content) => content === "bare"));
    }));

  it("after a close frame is ignored", () =>
    survives(async (town) => {
      using mallory = await town.mallory();
      await mallory.write(concat([closeFrame(1000), frame("late")]));
      assertEquals(await closeCode(mallory), 1000);
      await isOnline(town.ann, "ann,bob");
      assertEquals(town.rumours, []);
    }));
});

describe("an unusual frame within the rules", () => {
  const euro = bytes(0xe2, 0x82, 0xac);
  const continued = (payload: string | Uint8Array, fin = true) =>
    control(OPCODE.continuation, payload, { fin });
  const heard: [string, Uint8Array, string][] = [
    ["its length in 2 bytes instead of none", frame("hi", { lengthBytes: 2 }), "hi"],
    ["its length in 8 bytes instead of none", frame("hi", { lengthBytes: 8 }), "hi"],
    [
      "a character cut by a fragment's end",
      concat([frame(euro.subarray(0, 1), { fin: false }), continued(euro.subarray(1))]),
      "€",
    ],
    [
      "pings between its fragments",
      concat([frame("a", { fin: false }), control(OPCODE.ping, "p"), continued("b")]),
      "ab",
    ],
    [
      "1,000 fragments of 1 byte",
      concat([
        frame("x", { fin: false }),
        ...range(998, () => continued("x", false)),
        continued("x"),
      ]),
      "x".repeat(1000),
    ],
    [
      "10,000 empty fragments",
      concat([
        frame("", { fin: false }),
        ...range(9998, () => continued("", false)),
        continued("x"),
      ]),
      "x",
    ],
  ];
  for (const [what, attack, content] of heard) {
    it(`with ${what} is received as any other`, () =>
      survives(async (town) => {
        using mallory = await town.mallory();
        await mallory.write(attack);
        assertEquals((await nextEvent(mallory, "chat")).content, content);
        await town.chats();
        assertEquals(town.rumours, [content]);
      }));
  }
});

describe("a flood", () => {
  const FLOOD = 10_000;

  it("of 10,000 pings gets 10,000 pongs", () =>
    survives(async (town) => {
      using mallory = await town.mallory();
      const ping = control(OPCODE.ping, "p".repeat(125));
      const writing = mallory.write(concat([...range(FLOOD, () => ping), frame("done")]));
      let pongs = 0;
      while (true) {
        const next = await mallory.readFrame();
        assert(next !== undefined, `The connection ended after ${pongs} pongs.`);
        if (next.opcode === OPCODE.pong) pongs++;
        else if (next.text.includes('"done"')) break;
      }
      await writing;
      assertEquals(pongs, FLOOD);
      await town.chats();
    }));

  it("of pings whose pongs are not read delays only its sender", () =>
    survives(async (town) => {
      using mallory = await town.mallory();
      // More than the system buffers in both directions.
      const pings = concat(range(FLOOD, () => control(OPCODE.ping, "p".repeat(125))));
      const writing = mallory.write(concat(range(25, () => pings)));
      await town.chats();
      mallory.close();
      await writing;
    }));

  const floods: [string, Uint8Array][] = [
    ["pongs that nobody asked for", control(OPCODE.pong, "p")],
    ["empty messages", frame("")],
    ["commands that do not exist", frame('{"type":"x"}')],
    ["fragments of a message that never ends", control(OPCODE.continuation, "x", { fin: false })],
  ];
  for (const [what, one] of floods) {
    it(`of 10,000 ${what} disturbs nobody`, () =>
      survives(async (town) => {
        using mallory = await town.mallory();
        if (what.startsWith("fragments")) await mallory.write(frame("x", { fin: false }));
        await mallory.write(concat(range(FLOOD, () => one)));
        await town.chats();
        assertEquals(town.rumours, []);
      }));
  }

  it("of 60 members that reset their connections leaves none behind", () =>
    survives(async (town) => {
      const mob = await Promise.all(
        range(60, (i) => RawClient.open(town.port, `/ws/${TOWN}?username=m${i}`)),
      );
      await Promise.all(mob.map((client) => client.receiveOneByte()));
      for (const client of mob) client.close();
      await isOnline(town.ann, "ann,bob");
    }));
});

describe("a hostile message", () => {
  const command = (fields: string) => `{"type":"chat",${fields}}`;
  const deep = (count: number) => "[".repeat(count) + "]".repeat(count);

  const refused: [string, string][] = [
    ["a command that does not exist", '{"type":"nothing"}'],
    ["the command __proto__", '{"type":"__proto__"}'],
    ["the command constructor", '{"type":"constructor","content":"x"}'],
    ["an empty type", '{"type":"","content":"x"}'],
    ["no content", '{"type":"chat"}'],
    ["content in __proto__", command('"__proto__":{"content":"x"}')],
    ["the content null", command('"content":null')],
    ["the content 1e999", command('"content":1e999')],
    ["the content true", command('"content":true')],
    ["an object as content", command('"content":{"toString":"x"}')],
    ["an array as content", command('"content":["x"]')],
    ["arrays 8,000 deep as content", command(`"content":${deep(8000)}`)],
    ["an empty text", ""],
    ["only spaces", " \n\t\u3000"],
    ["a NUL", "a\0b"],
    ["an escaped NUL", command('"content":"a\\u0000b"')],
    ["an escape sequence of a terminal", "\x1b[2J"],
    ["a control character of the second set", "a\u009bb"],
    ["a high surrogate alone", command('"content":"\\ud800"')],
    ["a low surrogate alone", command('"content":"a\\udc00b"')],
    ["surrogates in the wrong order", command('"content":"\\udc00\\ud800"')],
    ["a ref of 10,000 characters", command(`"content":"x","ref":"${"r".repeat(10_000)}"`)],
    ["an empty ref", command('"content":"x","ref":""')],
    ["a number as ref", command('"content":"x","ref":1')],
    ["an object as ref", command('"content":"x","ref":{"length":1}')],
  ];
  for (const [what, text] of refused) {
    it(`with ${what} is refused, and its sender stays`, () =>
      survives(async (town) => {
        using mallory = await town.mallory();
        await mallory.write(frame(text));
        const { code, content } = await nextEvent(mallory, "error");
        assertEquals(code, "bad_request");
        assertMatch(content, /^[A-Za-z].*\.$/);
        await mallory.write(frame("still here"));
        await nextEvent(mallory, "chat");
        await town.chats();
        assertEquals(town.rumours, ["still here"]);
      }));
  }

  // Only a JSON object whose type is a string is a command; anything else is a message.
  const said: string[] = [
    '{"type":1,"content":"x"}',
    '{"type":null,"content":"x"}',
    '{"type":true,"content":"x"}',
    '{"type":["chat"],"content":"x"}',
    '{"type":{"toString":"chat"},"content":"x"}',
    '{"__proto__":{"type":"chat","content":"x"}}',
    '{"constructor":{"prototype":{"type":"chat"}}}',
    '{"type":"chat","content":{{',
    '{"type":"chat","content":"x"',
    "[".repeat(4000),
    '[{"type":"chat","content":"x"}]',
    '"chat"',
    "null",
    "1e999",
    "<script>alert(1)</script>",
    "%s%n ${x} {{x}} '; --",
    "\u{1f600}\u202e\u{e0001}",
  ];
  for (const text of said) {
    const name = text.length > 50 ? `${text.slice(0, 10)}... (${text.length} long)` : text;
    it(`that is ${name} is delivered unchanged`, () =>
      survives(async (town) => {
        using mallory = await town.mallory();
        await mallory.write(frame(text));
        assertEquals((await nextEvent(mallory, "chat")).content, text);
        await town.chats();
        assertEquals(town.rumours, [text]);
      }));
  }

  it("has no effect through unknown fields, however deep", () =>
    survives(async (town) => {
      using mallory = await town.mallory();
      const extra = `"__proto__":{"username":"ann"},"username":"ann","seq":0,"x":${deep(8000)}`;
      await mallory.write(frame(command(`"content":"x",${extra},"room":"other"`)));
      const { username, room, seq } = await nextEvent(mallory, "chat");
      assertEquals({ username, room, seq }, { username: "mallory", room: TOWN, seq: 1 });
      assertEquals(Object.hasOwn(Object.prototype, "username"), false);
    }));

  it("in binary ends its connection with 1003, whole or in fragments, on any route", () =>
    survives(async (town) => {
      const whole = control(OPCODE.binary, bytes(1, 2, 3));
      const empty = control(OPCODE.binary, "");
      const fragments = concat([
        control(OPCODE.binary, bytes(1), { fin: false }),
        control(OPCODE.continuation, bytes(2)),
      ]);
      for (const target of [TARGET, "/ws", `${TARGET}&format=text`]) {
        for (const attack of [whole, empty, fragments]) {
          using mallory = await RawClient.open(town.port, target);
          await mallory.write(attack);
          assertEquals(await closeCode(mallory), 1003);
          await isOnline(town.ann, "ann,bob");
        }
      }
      assertEquals(town.rumours, []);
    }));
});

describe("a message's size", () => {
  const env = { MAX_MESSAGE_BYTES: "100", MAX_FRAME_BYTES: "300" };
  const chat = (content: string) => JSON.stringify({ type: "chat", content });
  /** A command of exactly `bytes` bytes. */
  const padded = (size: number) => {
    const fields = '{"type":"chat","content":"x","pad":""}';
    return fields.replace('""', `"${"p".repeat(size - fields.length)}"`);
  };

  const fits: [string, string][] = [
    ["100 letters", "a".repeat(100)],
    ["33 euro signs and a letter", "€".repeat(33) + "a"],
    ["25 emoji", "😀".repeat(25)],
    ["100 letters in a command", chat("a".repeat(100))],
    ["a frame of 300 bytes", padded(300)],
  ];
  for (const [what, text] of fits) {
    it(`of ${what} is accepted at a limit of 100 and 300 bytes`, () =>
      survives(async (town) => {
        using mallory = await town.mallory();
        await mallory.write(frame(text));
        await nextEvent(mallory, "chat");
        await town.chats();
        assertEquals(town.rumours.length, 1);
      }, env));
  }

  const tooBig: [string, string][] = [
    ["101 letters", "a".repeat(101)],
    ["34 euro signs", "€".repeat(34)],
    ["25 emoji and a letter", "😀".repeat(25) + "a"],
    ["101 letters in a command", chat("a".repeat(101))],
    ["a frame of 301 bytes", padded(301)],
    ["a frame of 301 bytes in 251 characters", padded(227).replace("x", "€".repeat(25))],
    ["a megabyte", "a".repeat(1_000_000)],
    ["a megabyte of spaces before a command", " ".repeat(1_000_000) + chat("x")],
    ["a megabyte of brackets", "[".repeat(1_000_000)],
  ];
  for (const [what, text] of tooBig) {
    it(`of ${what} gets an error, then 1009, at a limit of 100 and 300 bytes`, () =>
      survives(async (town) => {
        using mallory = await town.mallory();
        await mallory.write(frame(text));
        assertEquals((await nextEvent(mallory, "error")).code, "too_big");
        assertEquals(await closeCode(mallory), 1009);
        await isOnline(town.ann, "ann,bob");
        assertEquals(town.rumours, []);
      }, env));
  }

  it("is counted in UTF-8 bytes by /echo too", () =>
    survives(async (town) => {
      using fitting = await RawClient.open(town.port, "/echo");
      await fitting.write(frame("€".repeat(100)));
      assertEquals((await fitting.readFrame())?.text, "€".repeat(100));
      using mallory = await RawClient.open(town.port, "/echo");
      await mallory.write(frame("€".repeat(101)));
      assertEquals((await mallory.readFrame())?.opcode, OPCODE.close);
    }, env));
});

describe("a closed member", () => {
  it("that never answers is out of the room, and counts as a connection until it ends", () =>
    survives(async (town) => {
      {
        using first = await town.mallory();
        await first.write(control(OPCODE.binary, "x"));
        await isOnline(town.ann, "ann,bob");
        using second = await town.mallory();
        await second.write(frame("x".repeat(5000)));
        await isOnline(town.ann, "ann,bob");
        using client = await RawClient.connect(town.port);
        await client.write(handshake(TARGET));
        const { status, body } = await client.readAnswer();
        assertEquals(status, 503);
        assertMatch(body, /^\{"error":"[^"]+"\}$/);
      }
      await eventually(async () => await status(town, TARGET) === 101);
    }, { MAX_CONNECTIONS: "4" }));
});

describe("random bytes", () => {
  // FUZZ_SEED=... repeats a run.
  const seed = Number(Deno.env.get("FUZZ_SEED") ?? crypto.getRandomValues(new Uint32Array(1))[0]);

  it(`as 3,000 frames disturb nobody (FUZZ_SEED=${seed})`, () =>
    survives(async (town) => {
      const random = new Random(seed);
      for (let round = 0; round < 10; round++) {
        await Promise.all(range(10, async (i) => {
          using client = await RawClient.open(town.port, `/ws/${TOWN}?username=m${i}`);
          await client.write(concat(range(30, () => randomFrame(random))));
          await client.endWriting();
          await client.readFrames();
        }));
        await isOnline(town.ann, "ann,bob");
        await isOnline(town.bob, "ann,bob");
      }
    }));

  it(`as 1,500 handshakes get clean answers (FUZZ_SEED=${seed})`, () =>
    survives(async (town) => {
      const random = new Random(seed);
      for (let round = 0; round < 150; round++) {
        await Promise.all(range(10, async () => {
          using client = await RawClient.connect(town.port);
          await client.write(randomHandshake(random));
          await client.endWriting();
          let answer: RawAnswer | undefined;
          while ((answer = await client.tryReadAnswer()) !== undefined) {
            assertIsClean(answer);
            if (answer.status === 101) await client.readFrames();
          }
        }));
      }
    }));
});

describe("a server process", () => {
  it("survives a message larger than a string can be", async () => {
    // The member ends by its silence: the runtime has stopped reading from it.
    await using server = await ServerProcess.start({ env: { PONG_WAIT_SECONDS: "8" } });
    await using town = await Town.settle(server);
    {
      using mallory = await town.mallory();
      const part = "a".repeat(8 * 2 ** 20);
      await mallory.write(frame(part, { fin: false }));
      const middle = control(OPCODE.continuation, part, { fin: false });
      for (let i = 0; i < 66; i++) await mallory.write(middle);
      await mallory.write(control(OPCODE.continuation, part));
      await town.chats();
    }
    await isOnline(town.ann, "ann,bob");
    await town.isWell();
    assertEquals(town.rumours, []);
    assertEquals(await server.stop(), { code: 0, signal: null });
  });

  it("survives running out of open files, and accepts connections again", async () => {
    await using server = await ServerProcess.start({ maxOpenFiles: 64 });
    await using town = await Town.settle(server);
    const attempts = await Promise.allSettled(range(100, () => RawClient.connect(server.port)));
    await server.logLine(({ msg }) => msg === "listener failed");
    await town.chats();
    for (const attempt of attempts) {
      if (attempt.status === "fulfilled") attempt.value.close();
    }
    await eventually(async () => await status(town, "/health") === 200);
    await town.isWell();
    assertEquals(await server.stop(), { code: 0, signal: null });
  });
});

/** The status of one request's answer; `undefined` if there is no answer. */
async function status({ port }: Town, target: string): Promise<number | undefined> {
  let client: RawClient;
  try {
    client = await RawClient.connect(port);
  } catch {
    return undefined;
  }
  using _ = client;
  await client.write(handshake(target));
  return (await client.tryReadAnswer())?.status;
}

/** Repeats the request until the condition holds. */
async function eventually(isSo: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!await isSo()) {
    assert(performance.now() < deadline, "It did not come about in 20 seconds.");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function range<T>(count: number, make: (i: number) => T): T[] {
  return Array.from({ length: count }, (_, i) => make(i));
}

/** Pseudo-random numbers, repeated by the same seed (a 32-bit xorshift, Marsaglia 2003). */
class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0 || 1;
  }

  /** A whole number from 0 to `end` - 1. */
  below(end: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % end;
  }

  /** True once in `times` calls, on average. */
  once(times: number): boolean {
    return this.below(times) === 0;
  }

  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)]!;
  }

  bytes(count: number): Uint8Array {
    return Uint8Array.from(range(count, () => this.below(256)));
  }

  /** A text with a few bytes changed, removed, repeated or inserted. */
  garble(text: string, scraps: readonly string[]): string {
    for (let changes = this.below(5); changes > 0; changes--) {
      const at = this.below(text.length + 1);
      const end = at + this.below(12);
      const scrap = this.pick([
        "",
        text.slice(at, end).repeat(2),
        this.pick(scraps),
        String.fromCharCode(this.below(256)),
      ]);
      text = text.slice(0, at) + scrap + text.slice(this.once(2) ? at : end);
    }
    return text;
  }
}

/** Mostly a valid text frame with a garbled command; sometimes anything. */
function randomFrame(random: Random): Uint8Array {
  const command = random.garble('{"type":"chat","content":"hello","ref":"r"}', [
    '"__proto__":{',
    "\\ud800",
    "\\u0000",
    "1e999",
    "[[[[",
    "\u{1f600}",
    "null",
  ]);
  const payload = random.once(8) ? random.bytes(random.below(300)) : command;
  const size = new TextEncoder().encode(command).length;
  return frame(payload, {
    fin: !random.once(20),
    rsv: random.once(50) ? random.below(8) : 0,
    opcode: random.once(10) ? random.below(16) : OPCODE.text,
    masked: !random.once(20),
    length: random.once(50) ? random.below(100_000) : payload === command ? size : payload.length,
  });
}

/** The bytes of a garbled handshake. */
function randomHandshake(random: Random): Uint8Array {
  const targets = [
    TARGET,
    "/ws",
    "/echo",
    "/",
    "/health",
    "/page/app.js",
    "/ws/%F0%9F%98%80?username=m",
  ];
  const text = random.garble(handshake(random.pick(targets)), [
    "\r\n",
    "\r\n\r\n",
    "\0",
    "%",
    "%00",
    "?",
    "&username=",
    "Sec-WebSocket-Protocol: a\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Host: [\r\n",
    " HTTP/1.0\r\n",
    "x".repeat(9000),
  ]);
  return Uint8Array.from(text, (unit) => unit.charCodeAt(0));
}
