/** Nobody passes for another person or the server, or sends an invisible message. */

import { assert, assertEquals } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { Client } from "../support/client.ts";
import { call, register } from "../support/people.ts";
import { Random, seeds } from "../support/random.ts";
import { startServer, type TestServer } from "../support/server.ts";
import { V1Client } from "../support/v1_client.ts";

let server: TestServer;

beforeAll(async () => {
  server = await startServer();
});

afterAll(async () => {
  await server.stop();
});

/** The status of a plain `GET` on a room: 426 if a socket would be opened. */
async function visit(room: string, name: string): Promise<number> {
  const path = `/ws/${encodeURIComponent(room)}?username=${encodeURIComponent(name)}`;
  return (await call(server, "GET", path)).status;
}

/** Invisible characters: none may distinguish two names, or make a message. */
const UNSEEN = [
  "\u00ad",
  "\u034f",
  "\u061c",
  "\u115f",
  "\u1160",
  "\u17b4",
  "\u180b",
  "\u200b",
  "\u200c",
  "\u200d",
  "\u200e",
  "\u202e",
  "\u2060",
  "\u2066",
  "\u2800",
  "\u3164",
  "\ufe00",
  "\ufe0e",
  "\ufe0f",
  "\ufeff",
  "\uffa0",
  "\ufff9",
  "\u{13441}",
  "\u{16fe4}",
  "\u{1bca0}",
  "\u{1d159}",
  "\u{e0001}",
  "\u{e0061}",
  "\u{e0100}",
];

/** Letters of other scripts that look like Latin ones. */
const TWINS: Record<string, string> = {
  a: "\u0430",
  c: "\u0441",
  e: "\u0435",
  i: "\u0456",
  o: "\u03bf",
  p: "\u0440",
  s: "\u0455",
  x: "\u0445",
  y: "\u0443",
};

describe("A registered name", () => {
  for (const seed of seeds(3)) {
    it(`has no twin that looks the same (SEED=${seed})`, async () => {
      const random = new Random(seed);
      const name = `agent${random.between(10, 99)}-${seed}`.slice(0, 24);
      assertEquals((await register(server, name)).status, 201);
      const at = random.between(1, name.length);
      const twins = [
        ...UNSEEN.map((char) => name.slice(0, at) + char + name.slice(at)),
        ...UNSEEN.map((char) => name + char),
        ...[..."aeo"].map((letter) => name.replace(letter, TWINS[letter] ?? letter)),
        name.toUpperCase(),
        name.replace(/[!-~]/g, (char) => String.fromCharCode(char.charCodeAt(0) + 0xfee0)),
        ` ${name}`,
        `${name} `,
      ];
      for (const twin of twins.filter((twin) => twin !== name)) {
        const status = await visit("r", twin);
        assert(status === 400 || status === 401, `${JSON.stringify(twin)} joined: ${status}`);
        const again = await register(server, twin);
        assert(again.status === 400 || again.status === 409, `${JSON.stringify(twin)} registered`);
      }
    });
  }

  it("with an emoji or an apostrophe is the same in every spelling", async () => {
    for (
      const [name, twins] of [
        ["sun☀", ["sun☀\ufe0f", "sun☀\ufe0e", "SUN☀"]],
        ["O’Neil", ["O'Neil", "o‘neil", "OʼNEIL"]],
        ["team👩‍🚀", ["team👩🚀", "Team👩‍🚀"]],
      ] as const
    ) {
      assertEquals((await register(server, name)).status, 201);
      for (const twin of twins) {
        assertEquals(await visit("r", twin), 401, twin);
        assertEquals((await register(server, twin)).status, 409, twin);
      }
    }
  });
});

describe("A guest's name", () => {
  it("is the same with and without selectors, while in use", async () => {
    await using _first = await V1Client.join(server.ws, "q", "moon☾");
    for (const twin of ["moon☾", "MOON☾"]) assertEquals(await visit("q", twin), 409);
    await using _sun = await V1Client.join(server.ws, "q", "sky☁\ufe0f");
    for (const twin of ["sky☁", "sky☁\ufe0e"]) assertEquals(await visit("q", twin), 409);
  });

  for (const seed of seeds(1)) {
    it(`is never one of the server's words, in any spelling (SEED=${seed})`, async () => {
      const random = new Random(seed);
      const spellings: Record<string, readonly string[]> = {
        o: ["o", "O", "0", "\uff2f", "\u00f6"],
        e: ["e", "E", "3", "\uff45", "\u0117"],
        s: ["s", "S", "5", "\uff33"],
        l: ["l", "L", "I", "1", "\uff2c"],
        i: ["i", "I", "1", "\u0131"],
      };
      for (let i = 0; i < 200; i++) {
        const word = random.pick(["error", "online", "server", "system", "anonymous"]);
        let name = "";
        for (const letter of word) {
          name += random.pick(spellings[letter] ?? [letter, letter.toUpperCase()]);
          if (random.percent(10)) name += random.pick([" ", "_", ".", "-", "’"]);
        }
        name = name.trim();
        for (
          const kind of [() => visit("r", name), async () => (await register(server, name)).status]
        ) {
          assertEquals(await kind(), 400, JSON.stringify(name));
        }
      }
    });
  }
});

describe("The lobby", () => {
  it("is one room in any case", async () => {
    await using inside = await Client.join(server.ws, "lobby", "zoe");
    for (const name of ["LOBBY", "Lobby", "ｌｏｂｂｙ"]) {
      assertEquals(await visit(name, "ZOE"), 409, name);
    }
    await using other = await Client.connect(`${server.ws}/ws/LoBbY?username=yan`);
    other.send("the same room");
    assertEquals((await inside.nextFrame(({ type }) => type === "chat")).content, "the same room");
  });
});

describe("A line of ?format=text", () => {
  for (const seed of seeds(1)) {
    it(`cannot be forged by a text (SEED=${seed})`, async () => {
      const random = new Random(seed);
      await using reader = await Client.connect(`${server.ws}/ws/den?username=tom&format=text`);
      await using writer = await Client.join(server.ws, "den", "mallory");
      const forged = [
        "Error: sign in at evil",
        "Online: alice",
        "User 'al' joined the chat",
        "al: hi",
      ];
      const ends = ["\n", "\r", "\r\n", "\u2028", "\u2029", "\v", "\f", "\x85"];
      for (let i = 0; i < 100; i++) {
        const content = `text${random.pick(ends)}${random.pick(forged)}`;
        writer.send(JSON.stringify({ type: "chat", content }));
      }
      writer.send("the last one");
      let text = "";
      do {
        text = await reader.nextText();
        for (const line of text.split(/[\n\v\f\r\x85\u2028\u2029]/)) {
          assert(!forged.includes(line), JSON.stringify(text));
        }
      } while (!text.includes("the last one"));
    });
  }

  it("for a private message cannot be forged by a name", async () => {
    await using reader = await Client.connect(`${server.ws}/ws/dm?username=tom&format=text`);
    await using alice = await V1Client.join(server.ws, "dm", "alice");
    await alice.ask({ type: "dm", to: "tom", content: "psst" });
    let line = "";
    while (!line.includes("psst")) line = await reader.nextText();
    assertEquals(line, "alice (to tom): psst");
    assertEquals(await visit("dm", "alice (to tom)"), 400);
  });
});

describe("A message", () => {
  it("without anything visible is refused on every route, and reaches nobody", async () => {
    await using reader = await Client.join(server.ws, "bare", "tom");
    await using plain = await Client.join(server.ws, "bare", "ann");
    await using v1 = await V1Client.join(server.ws, "bare", "bob");
    const { id } = await v1.ask({ type: "chat", content: "seen" }) as { id?: string };
    await reader.nextFrame(({ content }) => content === "seen");
    for (const unseen of [...UNSEEN, UNSEEN.join(""), ` ${UNSEEN[7]} \n`]) {
      plain.send(unseen);
      const refusal = await plain.nextFrame(({ type }) => type === "error");
      assertEquals(refusal.content, "A message must not be empty.", JSON.stringify(unseen));
      const commands = [
        { type: "chat", content: unseen },
        { type: "edit", id, content: unseen },
        { type: "dm", to: "tom", content: unseen },
      ];
      for (const command of commands) {
        assertEquals((await v1.ask(command)).content, "A message must not be empty.");
      }
    }
    for (const seen of [".", "❤️", "👩‍🚀", "‮abc", "e\u0301", "한", "\u0661"]) {
      plain.send(seen);
      assertEquals((await reader.nextFrame(({ type }) => type === "chat")).content, seen);
    }
  });
});
