/** The client module: with a fake clock and network, and against the real server. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { CLOSE } from "../lib/protocol/codes.ts";
import { Caller, chat, dm, World } from "./support/caller.ts";
import { freePort } from "./support/free_port.ts";
import { Line } from "./support/line.ts";
import { itInNode, runInNode } from "./support/node.ts";
import { startServer } from "./support/server.ts";
import { V1Client } from "./support/v1_client.ts";
import { Cipher, createKey } from "../public/cipher.js";
import { RefusedError } from "../public/connection.js";
import { isSameName } from "../public/names.js";
import { Outbox } from "../public/outbox.js";

describe("Connection, with a fake clock", () => {
  it("waits twice as long each time, and never more than 30 seconds", async () => {
    const world = new World();
    const waits = [];
    world.connection.open();
    for (let n = 0; n < 9; n++) {
      await world.closeSocket(1006);
      waits.push(world.nextTimer().delayMs);
      world.ring();
    }
    assertEquals(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
  });

  it("spreads the first wait over a window that grows with the room", async () => {
    for (
      const [online, random, waitMs] of [[2, 1, 500], [2, 0.5, 250], [5000, 0.5, 5000]] as const
    ) {
      const world = new World();
      world.connection.open();
      world.welcome({ online });
      world.luck = random;
      await world.closeSocket(1006);
      assertEquals(world.nextTimer().delayMs, waitMs);
    }
    const crowd = new World();
    crowd.connection.open();
    crowd.welcome({ online: 1_000_000 });
    await crowd.closeSocket(1006);
    assertEquals(crowd.nextTimer().delayMs, 30_000);
  });

  it("notices at once that the network is gone, and ignores a clock that is set back", () => {
    const world = new World();
    world.connection.open();
    world.welcome();
    world.now -= 3_600_000;
    world.ring();
    assertEquals(world.sent, [{ type: "ping" }]);
    world.ring();
    assertEquals(world.connection.state.state, "reconnecting");
    world.ring();
    world.welcome();
    world.connection.interrupt("Your device is offline.");
    const { state } = world.connection;
    assert(state.state === "reconnecting" && state.reason === "Your device is offline.");
  });

  it("accepts another spelling of its name from the server, but no other name", () => {
    for (
      const [username, isSame] of [["ADA", true], ["Mallory", false], ["Ada 2", false]] as const
    ) {
      const world = new World();
      world.connection.send("hello");
      world.connection.open();
      world.welcome({ username });
      assertEquals(world.connection.state.state, isSame ? "live" : "refused");
      assertEquals(world.sent.length, isSame ? 1 : 0);
    }
  });

  it("emits no event after a welcome under another name", () => {
    const world = new World();
    world.connection.open();
    world.frame([{ type: "welcome", username: "Mallory" }, { ...chat(1), history: true }]);
    assertEquals([world.told("welcome"), world.told("chat")], [[], []]);
  });

  it("needs no name with a token, and takes the one in the welcome", () => {
    const world = new World({ token: "secret" });
    world.connection.open();
    const query = () => Object.fromEntries(new URL(world.url).searchParams);
    assertEquals([world.connection.username, query()], ["", { token: "secret" }]);
    world.welcome({ username: "Dice", session: "" });
    assertEquals([world.connection.state.state, world.connection.username], ["live", "Dice"]);
    world.connection.interrupt("");
    world.ring();
    assertEquals([query().token, query().username], ["secret", "Dice"]);
    world.frame([{ type: "welcome", username: "Mallory" }]);
    assertEquals(world.connection.state.state, "refused");
  });

  it("counts its own message from the room as the lost ack", () => {
    const world = new World();
    world.connection.open();
    world.welcome();
    const item = world.connection.send("hello");
    world.frame({ ...chat(1), username: "Ada", content: "hello", ref: item.ref });
    assertEquals([item.status, item.ack?.id, item.ack?.seq], ["sent", "m1", 1]);
    world.frame({ type: "ack", ref: item.ref, id: "m1", seq: 1, duplicate: true });
    assertEquals(world.connection.outbox.items, []);
  });

  it("ignores retry() while it is live", () => {
    const world = new World();
    world.connection.open();
    world.welcome();
    world.connection.retry();
    assertEquals(world.connection.state.state, "live");
  });

  it("returns to the first wait after a stable connection", async () => {
    const world = new World();
    world.connection.open();
    for (const [livedMs, waitMs] of [[10, 500], [10, 1000], [10_000, 500]] as const) {
      world.welcome();
      world.now += livedMs;
      await world.closeSocket(1011);
      assertEquals(world.nextTimer().delayMs, waitMs);
      world.ring();
    }
  });

  it("does not reconnect after a refusal", async () => {
    for (const code of [1003, 1008, 1009, 4001, 4003, 4009]) {
      const world = new World();
      world.connection.open();
      await world.closeSocket(code);
      const { state } = world.connection;
      assert(state.state === "refused" && state.code === code && state.reason.endsWith("."));
    }
  });

  it("reconnects after every close code that the server marks for it", async () => {
    for (const { code, reconnect } of Object.values(CLOSE)) {
      const world = new World();
      world.connection.open();
      world.welcome();
      await world.closeSocket(code);
      const { state } = world.connection.state;
      assertEquals([code, state], [code, reconnect ? "reconnecting" : "refused"]);
    }
  });

  it("reconnects after any other end", async () => {
    for (const code of [1001, 1005, 1006, 1011, 1012, 1013, 4008, 4029]) {
      const world = new World();
      world.connection.open();
      world.welcome();
      await world.closeSocket(code);
      const isBusy = code === 1013 || code === 4029;
      assertEquals(world.connection.state.state, "reconnecting");
      assertEquals(world.nextTimer().delayMs, isBusy ? 10_000 : 500);
    }
  });

  it("gives the server's reason for a refusal, and waits as long as the server asks", async () => {
    const world = new World();
    world.answer = Response.json({ error: "the room is closed on Sundays" }, { status: 403 });
    world.connection.open();
    await world.closeSocket(1006);
    const reason = "The room is closed on Sundays.";
    assertEquals(world.connection.state, { state: "refused", reason, code: 403 });
    const headers = { "retry-after": "7" };
    world.answer = Response.json({ error: "Too many." }, { status: 429, headers });
    world.connection.open();
    await world.closeSocket(1006);
    assertEquals(world.nextTimer().delayMs, 17_000);
  });

  it("gives the server's error before a close as the reason", async () => {
    const world = new World();
    world.connection.open();
    world.frame({ type: "error", content: "This name is in use.", code: "name_in_use" });
    await world.closeSocket(4009);
    const { state } = world.connection;
    assertEquals(state, { state: "refused", reason: "This name is in use.", code: 4009 });
  });

  it("ignores a socket that it has given up", () => {
    const world = new World();
    world.connection.open();
    world.connection.close();
    world.welcome();
    assertEquals(world.connection.state, { state: "closed" });
    assertEquals(world.connection.send("hello").status, "waiting");
    assertEquals(world.sent, []);
  });

  it("pings a silent server after 25 seconds, and gives it up after 10 more", () => {
    const world = new World();
    world.connection.open();
    world.welcome();
    assertEquals(world.nextTimer().delayMs, 25_000);
    world.pass(24_000);
    world.frame({ type: "presence", joined: [], left: [], online: 1 });
    world.pass(24_000);
    assertEquals(world.sent, []);
    world.pass(1000);
    assertEquals(world.sent, [{ type: "ping" }]);
    world.pass(9000);
    world.frame({ type: "pong" });
    world.pass(25_000);
    assertEquals(world.sent.length, 2);
    world.pass(10_000);
    assertEquals(world.connection.state.state, "reconnecting");
  });

  it("gives up a server that does not answer a message either", () => {
    const world = new World();
    world.connection.open();
    world.welcome();
    world.connection.send("anyone?");
    world.pass(9999);
    assertEquals(world.connection.state.state, "live");
    world.pass(1);
    assertEquals(world.connection.state.state, "reconnecting");
    assertEquals(world.connection.outbox.items.map(({ status }) => status), ["waiting"]);
  });

  it("resumes when an event arrives out of order", () => {
    const world = new World();
    world.connection.open();
    world.welcome({ seq: 7 });
    world.frame(chat(8));
    world.frame([chat(8), chat(10)]);
    assertEquals(world.told("chat"), [8]);
    assertEquals(world.connection.state.state, "reconnecting");
    world.ring();
    assert(world.url.includes("epoch=e&after=8&inbox=0"), world.url);
    world.welcome({ seq: 10, recovered: true });
    world.frame([chat(9), chat(10)]);
    assertEquals(world.told("chat"), [8, 9, 10]);
  });

  it("counts received private messages and acks in one numbering, in any order", () => {
    const world = new World();
    world.connection.open();
    world.welcome();
    const { ref } = world.connection.whisper("Grace", "psst");
    world.frame(dm(2));
    world.frame(dm(2));
    assertEquals(world.told("dm"), [2]);
    world.connection.close();
    world.connection.open();
    assert(world.url.includes("inbox=0"));
    world.welcome({ recovered: true });
    world.frame([dm(2), { type: "ack", ref, id: "d1", inbox_seq: 1, duplicate: true }]);
    assertEquals(world.told("dm"), [2]);
    world.connection.close();
    world.connection.open();
    assert(world.url.includes("inbox=2"));
  });

  it("sends at most 16 messages ahead of their acks", () => {
    const world = new World();
    const items = Array.from({ length: 20 }, (_, n) => world.connection.send(`${n}`));
    world.connection.open();
    world.welcome();
    assertEquals(world.sent.length, 16);
    world.frame({ type: "ack", ref: items[0]!.ref, id: "a", seq: 1 });
    assertEquals(world.sent.length, 17);
    assertEquals(items[0]!.status, "sent");
  });

  it("retries a text after a temporary error, and fails it after a permanent one", () => {
    const world = new World();
    world.connection.open();
    world.welcome();
    const first = world.connection.send("one");
    const error = { type: "error", content: "try later", code: "unavailable", ref: first.ref };
    world.frame(error);
    assertEquals([first.status, first.reason], ["waiting", "Try later."]);
    world.connection.send("two");
    assertEquals(world.sent.length, 1);
    world.pass(2000);
    assertEquals(world.sent.map(({ content }) => content), ["one", "one", "two"]);
    world.frame({ ...error, code: "forbidden" });
    assertEquals(first.status, "failed");
    world.connection.outbox.sendAgain(first.ref);
    assertEquals(world.sent.at(-1), { type: "chat", content: "one", ref: first.ref });
    world.frame({ ...error, code: "forbidden" });
    world.connection.outbox.discard(first.ref);
    assertEquals(world.connection.outbox.items.map(({ content }) => content), ["two"]);
  });

  it("sends one message at a time after a rate limit", () => {
    const world = new World();
    world.connection.open();
    world.welcome();
    const items = ["one", "two", "three"].map((text) => world.connection.send(text));
    const error = { type: "error", content: "too fast", code: "rate_limited", retry_after: 0.7 };
    for (const { ref } of items) world.frame({ ...error, ref });
    assertEquals(items.map(({ status }) => status), ["waiting", "waiting", "waiting"]);
    assert(items[0]!.reason.startsWith("Slow down"));
    world.pass(699);
    assertEquals(world.sent.length, 3);
    world.pass(1);
    for (const [index, { ref }] of items.entries()) {
      assertEquals(world.sent.length, 4 + index);
      world.frame({ type: "ack", ref, id: `m${index}`, seq: index + 1 });
    }
    assertEquals(items.map(({ status }) => status), ["sent", "sent", "sent"]);
    for (const text of ["four", "five"]) world.connection.send(text);
    assertEquals(world.sent.length, 8);
  });

  it("removes people and changes the room, and knows its new role", async () => {
    const world = new World();
    world.connection.open();
    world.welcome({ role: "member", private: false });
    const kicked = world.connection.kick("Bob", { reason: "spam", ban: true });
    const kick = world.sent[0]!;
    assertEquals(kick, { type: "kick", username: "Bob", reason: "spam", ban: true, ref: kick.ref });
    world.frame({ type: "error", content: "no", code: "forbidden", ref: kick.ref });
    await assertRejects(() => kicked, RefusedError, "No.");
    assertEquals(world.connection.role, "member");
    const changed = world.connection.setRoom({ private: true, members: ["Grace"] });
    const change = world.sent[1]!;
    assertEquals(change, { type: "room", private: true, members: ["Grace"], ref: change.ref });
    world.frame({ type: "ack", ref: change.ref });
    await changed;
    assertEquals([world.connection.role, world.connection.isPrivate], ["owner", true]);
  });

  it("repeats typing every three seconds, and reports its end once", () => {
    const world = new World();
    world.connection.typing(true);
    world.connection.open();
    world.welcome();
    world.connection.typing(false);
    for (let n = 0; n < 5; n++) {
      world.connection.typing(true);
      world.pass(1000);
    }
    world.connection.typing(false);
    world.connection.typing(false);
    assertEquals(world.sent.map(({ active }) => active), [true, true, false]);
  });

  it("ignores unknown events of a newer server", () => {
    const world = new World();
    world.connection.open();
    for (const data of ["{", "null", "3", "[]", "[null,{}]", new ArrayBuffer(1)]) world.data(data);
    world.welcome();
    world.frame({ type: "confetti" });
    assertEquals(world.connection.state.state, "live");
  });

  it("compares names as the server does", () => {
    assert(isSameName("Ada", "ＡＤＡ") && isSameName("straße", "STRASSE"));
    assert(!isSameName("Ada", "Ida"));
  });
});

describe("Connection, with a server", () => {
  it("joins, sends, and gets its own message once, after the ack", async () => {
    await using server = await startServer();
    await using ada = new Caller(server);
    await ada.live();
    await using grace = new Caller(server, { username: "Grace" });
    await grace.live();
    await ada.until(() => ada.connection.roster.online === 2);
    assertEquals(ada.connection.roster.names, ["Ada", "Grace"]);
    const counts: number[] = [];
    ada.connection.on("people", ({ online }) => counts.push(online));
    const item = ada.connection.send("Good morning");
    await ada.said("Good morning");
    await grace.said("Good morning");
    assertEquals(item.status, "sent");
    assertEquals(ada.chats().at(-1)!.id, item.ack!.id);
    const ack = ada.story.findIndex((entry) => entry === item);
    const own = ada.story.findIndex((entry) => "type" in entry && entry.type === "chat");
    assert(ack >= 0 && ack < own);
    await grace.connection.close();
    await ada.until(() => ada.connection.roster.online === 1);
    assertEquals(ada.connection.roster.names, ["Ada"]);
    assertEquals(counts.at(-1), 1);
  });

  it("misses nothing and repeats nothing over a cut line", async () => {
    await using server = await startServer();
    await using line = new Line(server.port);
    await using ada = new Caller(line);
    await using grace = new Caller(server, { username: "Grace" });
    await ada.live();
    await grace.live();
    for (let round = 0; round < 5; round++) {
      for (let n = 0; n < 20; n++) grace.connection.send(`${round}.${n}`);
      await ada.said(`${round}.0`);
      line.cut({ serverNotices: round % 2 === 0 });
      for (let n = 20; n < 40; n++) grace.connection.send(`${round}.${n}`);
      await grace.said(`${round}.39`);
      ada.connection.send(`Ada ${round}`);
      line.mend();
      ada.connection.retry();
      await ada.said(`${round}.39`);
      await grace.said(`Ada ${round}`);
      await ada.said(`Ada ${round}`);
    }
    const seqs = ada.chats().map(({ seq }) => seq);
    assertEquals(seqs, seqs.map((_, index) => index + 1));
    assertEquals(ada.chats().map(({ id }) => id), grace.chats().map(({ id }) => id));
    assertEquals(ada.gaps, []);
  });

  it("delivers texts sent over a dead line once, acked or not", async () => {
    await using server = await startServer();
    await using line = new Line(server.port);
    await using ada = new Caller(line);
    await using grace = new Caller(server, { username: "Grace" });
    await ada.live();
    await grace.live();
    line.deafen();
    const heard = ada.connection.send("the server hears this, and Ada no ack");
    await grace.said("the server hears this, and Ada no ack");
    assertEquals(heard.status, "sending");
    line.cut();
    await ada.reaches("reconnecting");
    const unheard = ada.connection.send("said into a dead line");
    assertEquals([heard.status, unheard.status], ["waiting", "waiting"]);
    line.mend();
    ada.connection.retry();
    await ada.said("said into a dead line");
    await grace.said("said into a dead line");
    const expected = [heard.content, unheard.content];
    for (const caller of [ada, grace]) {
      assertEquals(caller.chats().map(({ content }) => content), expected);
    }
    assertEquals(heard.status, "sent");
    assertEquals(ada.connection.outbox.items, []);
  });

  it("restores unsent texts of an earlier page, and sends them once", async () => {
    await using server = await startServer();
    await using line = new Line(server.port);
    const ada = new Caller(line);
    await ada.live();
    line.deafen();
    ada.connection.send("half way");
    await server.logged("joined");
    await using watcher = await V1Client.join(server.ws, "tea", "Grace");
    await watcher.nextOf("chat", ({ content }) => content === "half way");
    line.cut();
    await ada.reaches("reconnecting");
    const { session } = ada.connection;
    await ada.connection.close();
    const kept = ada.connection.outbox.save();
    assertEquals(kept.map(({ content }) => content), ["half way"]);
    const outbox = new Outbox({ room: "tea" });
    await outbox.load(JSON.parse(JSON.stringify(kept)));
    await using again = new Caller(server, { session: session!, outbox });
    await again.until(() => again.connection.outbox.items.length === 0);
    assertEquals(again.chats().map(({ content }) => content), ["half way"]);
    await watcher.ask({ type: "ping" });
    assertEquals(watcher.all("chat").length, 1);
  });

  it("delivers private messages to the two people only, missed ones too", async () => {
    await using server = await startServer();
    await using line = new Line(server.port);
    await using ada = new Caller(server);
    await using grace = new Caller(line, { username: "Grace" });
    await using linus = new Caller(server, { username: "Linus" });
    for (const caller of [ada, grace, linus]) await caller.live();
    await ada.until(() => ada.connection.roster.online === 3);
    const item = ada.connection.whisper("Grace", "psst");
    await grace.whispered("psst");
    await ada.until(() => item.status === "sent");
    line.cut({ serverNotices: false });
    await grace.reaches("reconnecting");
    ada.connection.whisper("Grace", "are you there?");
    await ada.until(() => ada.connection.outbox.items.length === 0);
    line.mend();
    grace.connection.retry();
    await grace.whispered("are you there?");
    grace.connection.whisper("Ada", "I am");
    await ada.whispered("I am");
    const wrong = ada.connection.whisper("Nobody", "hello?");
    await ada.until(() => wrong.status === "failed");
    assertEquals(wrong.reason, "Nobody with this name is in the room.");
    assertEquals(grace.whispers().map(({ content }) => content), ["psst", "are you there?"]);
    assertEquals(linus.whispers(), []);
    line.letGo();
  });

  it("pages through history, and edits and deletes own messages", async () => {
    await using server = await startServer({ HISTORY_SIZE: "5" });
    await using ada = new Caller(server);
    await ada.live();
    for (let n = 1; n <= 20; n++) ada.connection.send(`${n}`);
    await ada.said("20");
    await using grace = new Caller(server, { username: "Grace" });
    await grace.said("20");
    assertEquals(grace.chats().map(({ content }) => content), ["16", "17", "18", "19", "20"]);
    const { id, seq } = ada.chats()[3]!;
    ada.connection.edit(id, "four");
    await grace.hears("message_updated");
    await ada.connection.delete(ada.chats()[4]!.id);
    await grace.hears("message_deleted");
    const page = await grace.connection.history({ before: 16, limit: 13 });
    assertEquals(page.messages.map(({ content }) => content).slice(0, 3), ["2", "3", "four"]);
    assertEquals([page.messages[2]!.seq, page.messages[2]!.edited, page.more], [seq, true, true]);
    const rest = await grace.connection.history({ before: page.messages[0]!.seq });
    assertEquals([rest.messages.map(({ content }) => content), rest.more], [["1"], false]);
    const refused = grace.connection.edit(id, "mine");
    await grace.until(() => refused.status === "failed");
    assert(refused.reason.includes("author"), refused.reason);
    const error = await assertRejects(() => grace.connection.delete(id), RefusedError);
    assertEquals(error.code, "forbidden");
  });

  it("tells who types", async () => {
    await using server = await startServer();
    await using ada = new Caller(server);
    await using grace = new Caller(server, { username: "Grace" });
    await ada.live();
    await grace.live();
    ada.connection.typing(true);
    await grace.hears("typing", (event) => event.active && event.username === "Ada");
    ada.connection.send("done");
    await grace.hears("typing", (event) => !event.active);
  });

  /** Ada sends one message, and another while the server restarts. */
  async function talkOverARestart(
    env: Record<string, string>,
    check: (ada: Caller) => void,
  ): Promise<void> {
    const port = String(freePort());
    let server = await startServer({ ...env, PORT: port });
    try {
      await using ada = new Caller(server);
      await ada.live();
      ada.connection.send("before");
      await ada.said("before");
      await server.stop();
      await ada.reaches("reconnecting");
      ada.connection.send("meanwhile");
      server = await startServer({ ...env, PORT: port });
      ada.connection.retry();
      await ada.said("meanwhile");
      check(ada);
    } finally {
      await server.stop();
    }
  }

  it("reports a gap when the server restarts without its memory", async () => {
    await talkOverARestart({}, (ada) => {
      assertEquals(ada.gaps, [{ isNewLife: true }]);
      assertEquals(ada.chats().map(({ content }) => content), ["before", "meanwhile"]);
    });
  });

  it("loses nothing over a restart of a server with memory", async () => {
    const path = await Deno.makeTempFile({ suffix: ".db" });
    try {
      await talkOverARestart({ DATABASE_URL: `sqlite:${path}` }, (ada) => {
        assertEquals(ada.gaps, []);
        assertEquals(ada.chats().map(({ seq }) => seq), [1, 2]);
      });
    } finally {
      for (const end of ["", "-wal", "-shm"]) await Deno.remove(path + end).catch(() => {});
    }
  });

  it("reports why it may not join", async () => {
    await using server = await startServer();
    await using ada = new Caller(server);
    await ada.live();
    await using other = new Caller(server, { username: "ada" });
    const state = await other.reaches("refused");
    assert(state.state === "refused" && state.code === 409 && state.reason.includes("in use"));
    await using same = new Caller(server, { session: ada.connection.session! });
    await same.live();
    await using dots = new Caller(server, { room: ".." });
    await dots.reaches("refused");
    await using comma = new Caller(server, { username: "Ada, Countess" });
    const wrong = await comma.reaches("refused");
    assert(wrong.state === "refused" && wrong.code === 400 && wrong.reason.startsWith("The user"));
  });

  it("seals every text for people with the key, and shows the server none", async () => {
    await using server = await startServer();
    await using line = new Line(server.port);
    const key = createKey();
    const sealed = async (username: string, theKey = key, at: { url: string } = server) =>
      new Caller(at, { username, cipher: await Cipher.fromKey(theKey) });
    await using ada = await sealed("Ada", key, line);
    await using grace = await sealed("Grace");
    await using eve = await sealed("Eve", createKey());
    await using plain = await V1Client.join(server.ws, "tea", "Plain");
    for (const caller of [ada, grace, eve]) await caller.live();
    await ada.until(() => ada.connection.roster.online === 4);
    ada.connection.send("the plan");
    await grace.said("the plan");
    await eve.hears("chat", ({ seal }) => seal === "broken");
    ada.connection.whisper("Grace", "the secret");
    await grace.whispered("the secret");
    await ada.said("the plan");
    ada.connection.edit(ada.chats()[0]!.id, "the new plan");
    await grace.hears("message_updated", (event) => event.content === "the new plan");
    plain.send({ type: "chat", content: "not sealed" });
    await grace.hears("chat", ({ seal, content }) => seal === "bare" && content === "not sealed");
    // Sealed for one room or person, delivered as another.
    const { content: stolen } = await plain.nextOf("chat");
    plain.send({ type: "chat", content: stolen });
    await grace.hears("chat", ({ seal, username }) => seal === "broken" && username === "Plain");
    line.cut();
    await ada.reaches("reconnecting");
    ada.connection.send("while away");
    for (let n = 0; n < 30; n++) grace.connection.send(`more ${n}`);
    await grace.said("more 29");
    line.mend();
    ada.connection.retry();
    await ada.said("while away");
    await grace.said("while away");
    const page = await grace.connection.history();
    assertEquals(page.messages[0]!.content, "the new plan");
    const expected = [...Array.from({ length: 30 }, (_, n) => `more ${n}`), "while away"];
    assertEquals(ada.chats().slice(-31).map(({ content }) => content), expected);
    assertEquals(eve.chats().filter(({ seal }) => seal === "sound"), []);
    assertEquals(eve.chats().filter(({ content }) => content.includes("plan")), []);
    await plain.ask({ type: "ping" });
    for (const event of plain.all("chat")) {
      assert(event.username === "Plain" || event.content.startsWith("sealed.2."));
    }
  });

  itInNode("works in Node unchanged", async () => {
    await using server = await startServer();
    const module = new URL("../public/connection.js", import.meta.url).href;
    const script = `
      const { Connection } = await import(${JSON.stringify(module)});
      const { Cipher, createKey } = await import(${
      JSON.stringify(module.replace("connection", "cipher"))
    });
      const connection = new Connection({
        base: ${JSON.stringify(server.url)}, room: "tea", username: "Node",
        cipher: await Cipher.fromKey(createKey()),
      });
      connection.on("events", (events) => {
        for (const { type, content } of events) {
          if (type === "chat") {
            console.log(content);
            connection.close();
          }
        }
      });
      connection.open();
      connection.send("from Node");`;
    assertEquals(await runInNode(script), ["from Node\n", ""]);
  });
});
