/** Frames in the style of other programs: escapes, and `null` for absent fields. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Client } from "../support/client.ts";
import { call, login, signUp } from "../support/people.ts";
import { Random, seeds } from "../support/random.ts";
import { startServer } from "../support/server.ts";
import { V1Client } from "../support/v1_client.ts";

/** JSON of a text with this percentage of its characters as escapes of six bytes. */
function escaped(text: string, random: Random, share: number): string {
  // A lone surrogate can only be sent as an escape.
  const units = Array.from(text, (character) => {
    if (!random.percent(share) && !/["\\\n]/.test(character)) return character;
    return character.split("").map((unit) =>
      `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`
    ).join("");
  });
  return `"${units.join("")}"`;
}

/** A text of exactly `bytes` bytes. */
function textOf(bytes: number, random: Random): string {
  const parts = ["a", "<", "&", '"', "\\", "\n", "é", "日", "😀"];
  let text = "x";
  let left = bytes - 1;
  while (left > 0) {
    const part = random.pick(parts);
    const size = new TextEncoder().encode(part).length;
    if (size > left) continue;
    text += part;
    left -= size;
  }
  return text;
}

describe("A text in JSON escapes", () => {
  for (const seed of seeds(3)) {
    it(`counts the same bytes as without them (SEED=${seed})`, async () => {
      const random = new Random(seed);
      for (const bytes of [512, 4096, random.between(5000, 40_000)]) {
        await using server = await startServer({ MAX_MESSAGE_BYTES: String(bytes) });
        await using bob = await V1Client.join(server.ws, "r", "bob");
        for (const share of [0, 50, 100]) {
          await using alice = await V1Client.join(server.ws, "r", `alice${share}`);
          const say = (command: string) => alice.socket.send(command);
          const text = textOf(bytes, random);
          const content = escaped(text, random, share);
          say(`{"type":"chat","content":${content},"ref":"c"}`);
          const ack = await alice.nextOf("ack");
          say(`{"type":"edit","id":"${ack.id}","content":${content},"ref":"e"}`);
          say(`{"type":"dm","to":"bob","content":${content},"ref":"d"}`);
          assertEquals((await bob.nextOf("chat")).content, text);
          assertEquals((await bob.nextOf("message_updated")).content, text);
          assertEquals((await bob.nextOf("dm")).content, text);
          // One byte more is too big in any spelling.
          say(`{"type":"chat","content":${escaped(text + "x", random, share)},"ref":"f"}`);
          const error = await alice.nextOf("error");
          assertEquals([error.code, error.ref], ["too_big", "f"]);
          assertEquals((await alice.closed).code, 1009);
        }
      }
    });
  }
});

describe("A field that is null", () => {
  const OPTIONAL = {
    chat: { content: "hello", ref: null, reply_to: null, more: null },
    history: { before: null, after: null, limit: null },
    ping: { other: null },
    dm: { to: "bob", content: "hello", ref: null },
    kick: { username: "nobody", reason: null, ban: null },
    room: { private: false, members: null, unban: null, owner: null, moderators: null },
  };

  it("counts as absent in every command, of chat.v1 and of plain clients", async () => {
    await using server = await startServer();
    await using _bob = await V1Client.join(server.ws, "r", "bob");
    await using alice = await V1Client.join(server.ws, "r", "alice");
    await using plain = await Client.join(server.ws, "r", "plain");
    for (const [type, fields] of Object.entries(OPTIONAL)) {
      const kinds: string[] = [];
      const command = { type, ...fields };
      const absent = Object.fromEntries(
        Object.entries(command).filter(([, value]) => value !== null),
      );
      for (const one of [command, absent]) {
        const answer = await alice.ask({ ...one, type });
        kinds.push(answer.type === "error" ? answer.content : answer.type);
      }
      assertEquals(kinds[0], kinds[1], type);
      plain.send(JSON.stringify(command));
    }
    plain.send(JSON.stringify({ type: "ping", ref: "end" }));
    await plain.nextFrame(({ ref }) => ref === "end");
    const errors = plain.frames.filter(({ type }) => type === "error").map(({ code }) => code);
    assertEquals(errors, ["forbidden", "forbidden"]);
    // A required field that is null is missing.
    const error = await alice.ask({ type: "chat", content: null });
    assert(error.type === "error" && error.code === "bad_request");
  });

  it("counts as absent in the body of a request", async () => {
    await using server = await startServer();
    const token = await signUp(server, "owner");
    const put = (body: unknown) => call(server, "PUT", "/api/rooms/den", { body, token });
    const all = { private: true, members: null, unban: null, owner: null, moderators: null };
    assertEquals((await put(all)).status, 200);
    assertEquals((await put({ private: null })).status, 400);
    assertEquals((await login(server, "owner", null)).status, 400);
  });
});

describe("A ref", () => {
  it("is refused if it is not valid Unicode or has control characters", async () => {
    await using server = await startServer();
    await using alice = await V1Client.join(server.ws, "r", "alice");
    for (const ref of ["\ud800", "a\udc00b", "\u0000", "a\nb", "\u007f", "\u0085", ""]) {
      for (const type of ["chat", "ping", "history"]) {
        alice.send({ type, content: "hello", ref });
        assertEquals((await alice.nextOf("error")).code, "bad_request", JSON.stringify(ref));
      }
    }
  });
});
