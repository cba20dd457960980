/**
 * The tests that every engine passes.
 *
 * The suite waits for events, so that an engine may be remote.
 *
 *     testEngine("MyEngine", () => ({ isLasting: true, isShared: true, open: (options) => …, … }));
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  type Author,
  DEFAULT_SETTINGS,
  type Engine,
  type EngineEvent,
  EVERYWHERE,
  type OpenRoom,
  type RoomSettings,
} from "../../lib/engine/engine.ts";
import { ChatError } from "../../lib/errors.ts";
import { accountPerson, asToken, TOKEN_MS } from "../../lib/people/accounts.ts";
import type { ChatEvent, LogEvent } from "../../lib/protocol/events.ts";
import {
  account,
  ALICE,
  ALL,
  assertRefused,
  BOB,
  botToken,
  CAROL,
  change,
  contents,
  type CreateStore,
  deleteMessage,
  draft,
  editMessage,
  isPresenceChange,
  Lab,
  LEASE_MS,
  Listener,
  numbers,
  presence,
  privateDraft,
  say,
  SLACK,
  token,
  toPresenceChange,
  upTo,
} from "./engine_lab.ts";
import { testAtRandom } from "./engine_model.ts";

/** Runs the suite on one kind of engine. */
export function testEngine(name: string, create: CreateStore): void {
  testAppend(name, create);
  testReplies(name, create);
  testDedupe(name, create);
  testResuming(name, create);
  testReading(name, create);
  testRetention(name, create);
  testChanges(name, create);
  testPrivate(name, create);
  testSubscription(name, create);
  testOpen(name, create);
  testPresence(name, create);
  testAccounts(name, create);
  testRoomSettings(name, create);
  testInstances(name, create);
  testClosing(name, create);
  testAtRandom(name, create);
}

function testAppend(name: string, create: CreateStore): void {
  describe(`${name}: append`, () => {
    it("gives a message its id, number and time, and returns the log's event", async () => {
      await using lab = await Lab.open(create);
      const { event, isDuplicate } = await lab.engine.log.append("r", draft(ALICE, "hello"));
      const { id, ...rest } = event;
      assertEquals(isDuplicate, false);
      assertEquals(rest, {
        type: "chat",
        content: "hello",
        room: "r",
        username: "alice",
        seq: 1,
        timestamp: "2026-01-02T03:04:05.678Z",
      });
      assert(id.length > 0);
      assertEquals(await lab.engine.log.events("r", 0, ALL), [event]);
    });

    it("numbers simultaneous messages in several rooms without a hole, in order of the calls", async () => {
      await using lab = await Lab.open(create);
      const rooms = ["one", "two", "three"];
      using listener = await Listener.open(lab.engine, "one");
      const receipts = await Promise.all(
        upTo(600).map((n) => {
          const room = rooms[n % 3]!;
          return lab.engine.log.append(room, draft(n % 2 === 0 ? ALICE : BOB, `message ${n}`));
        }),
      );
      for (const [i, room] of rooms.entries()) {
        const events = receipts.map(({ event }) => event).filter((event) => event.room === room);
        assertEquals(numbers(events), upTo(200));
        assertEquals(
          contents(events),
          upTo(600).filter((n) => n % 3 === i).map((n) => `message ${n}`),
        );
        assertEquals(await lab.engine.log.events(room, 0, ALL), events);
      }
      const told = await listener.seq(200);
      assertEquals(told, await lab.engine.log.events("one", 0, ALL));
    });

    it("keeps the order of the calls when changes and messages are mixed", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      const [first, second] = await say(engine, "r", 2);
      const results = await Promise.all([
        engine.log.append("r", draft(BOB, "a")),
        editMessage(engine, "r", { ...change(ALICE, first!.id), content: "b" }),
        engine.log.append("r", draft(BOB, "c")),
        deleteMessage(engine, "r", change(ALICE, second!.id)),
        engine.log.append("r", draft(BOB, "d")),
      ]);
      assertEquals(numbers(results.map(({ event }) => event as LogEvent)), [3, 4, 5, 6, 7]);
      assertEquals(numbers(await engine.log.events("r", 0, ALL)), upTo(7));
    });

    it("numbers simultaneous messages in more rooms than fit in memory", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      // A remote server cannot do more within its deadline, and has no such memory.
      const rooms = upTo(lab.isShared ? 1000 : 10_001).map((n) => `room ${n}`);
      // The newest room and the oldest one again, in the same turn.
      const again = [rooms.at(-1)!, rooms[0]!];
      const receipts = await Promise.all(
        [...rooms, ...again].map((room) => engine.log.append(room, draft(ALICE, "hello"))),
      );
      assertEquals(numbers(receipts.slice(rooms.length - 1).map(({ event }) => event)), [1, 2, 2]);
      assertEquals(new Set(receipts.map(({ event }) => event.id)).size, receipts.length);
      for (const room of again) {
        assertEquals(numbers(await engine.log.events(room, 0, ALL)), [1, 2]);
        assertEquals((await engine.log.append(room, draft(ALICE, "on"))).event.seq, 3);
      }
    });

    it("never gives an id twice, in any room", async () => {
      await using lab = await Lab.open(create);
      const events = (await Promise.all(
        ["a", "b", "c"].map((room) => say(lab.engine, room, 100)),
      )).flat();
      const ids = new Set(events.map(({ id }) => id));
      assertEquals(ids.size, 300);
    });

    it("never lets time go backwards, though the clock does", async () => {
      await using lab = await Lab.open(create);
      const times: string[] = [];
      const { engine } = lab;
      for (const jump of [0, 1500, -90_000, 1, -1, 120_000, -5]) {
        lab.time += jump;
        times.push((await engine.log.append("r", draft(ALICE, "tick"))).event.timestamp);
        times.push(
          (await engine.log.whisper("r", privateDraft(ALICE, BOB, "tock"))).event.timestamp,
        );
      }
      for (const time of times) assertMatch(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      assertEquals(times, times.toSorted());
      assertEquals(times[2], "2026-01-02T03:04:07.178Z");
      assertEquals(times[4], times[2]);
      const message = (await engine.log.events("r", 0, 1))[0]!;
      const edit = await editMessage(engine, "r", {
        ...change(ALICE, message.id),
        content: "tack",
      });
      assert(edit.event.timestamp >= times.at(-1)!);
    });

    it("never lets time go backwards in a later life either", async () => {
      await using lab = await Lab.open(create);
      const { event: before } = await lab.engine.log.append("r", draft(ALICE, "before"));
      await lab.reopen();
      lab.time -= 60_000;
      const { event: after } = await lab.engine.log.append("r", draft(ALICE, "after"));
      if (lab.isLasting) assertEquals(after.timestamp, before.timestamp);
      else assertEquals(after.seq, 1);
    });

    it("returns every text and name unchanged", async () => {
      await using lab = await Lab.open(create);
      const texts = [
        "'; DROP TABLE events; --",
        '"quoted" `ticked` \\backslashed\\ %s %n $1 ?1 :name',
        "👩‍👩‍👧‍👦 🏳️‍🌈 🇪🇺 👍🏽 e\u0301 é",
        "\u202eright to left\u202c שלום مرحبا",
        "zero\u200bwidth\ufeff and \u2028 separators \u2029",
        "tab\tline\nbreak\r\nand\ttwo\n\n",
        "  spaces around  ",
        "\u{10ffff} \ufffd \uffff \u0301 \u007f \u0085",
        "x".repeat(4096),
        "𝔘".repeat(1024),
        '{"type":"chat"}',
        "null",
        "0",
      ];
      const people = texts.map((text, i): Author => ({
        // A name may contain almost anything, but no line break.
        username: `${i} ${[...text].slice(0, 20).join("").replaceAll(/[\r\n]/g, "_")}`,
        person: `p${i}`,
      }));
      const room = "räume 👾 'x' \"y\" % _";
      for (const [i, text] of texts.entries()) {
        const to = people[(i + 1) % people.length]!;
        await lab.engine.log.append(room, draft(people[i]!, text, text.slice(0, 64)));
        await lab.engine.log.whisper(room, privateDraft(people[i]!, to, text, text.slice(0, 64)));
      }
      if (lab.isLasting) await lab.reopen();
      const log = await lab.engine.log.events(room, 0, ALL);
      assertEquals(contents(log), texts);
      assertEquals(log.map(({ username }) => username), people.map(({ username }) => username));
      for (const [i, text] of texts.entries()) {
        const to = people[(i + 1) % people.length]!;
        const inbox = await lab.engine.log.inbox(room, to.person, 0, ALL);
        const message = inbox.map(({ message }) => message).find((one) =>
          one.to.person === to.person
        );
        assertEquals([message?.content, message?.from, message?.to], [text, people[i], to]);
        const again = await lab.engine.log.append(room, draft(people[i]!, text, text.slice(0, 64)));
        assertEquals([again.isDuplicate, again.event.seq], [true, i + 1]);
      }
      assertEquals((await lab.engine.log.events("räume 👾 'x' \"y\" % x", 0, ALL)).length, 0);
    });
  });

  describe(`${name}: epoch`, () => {
    it("is one for the life of a numbering, in each room", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      const { epoch } = await engine.log.state("r");
      assert(epoch.length > 0);
      await say(engine, "r", 3);
      assertEquals(await engine.log.state("r"), { epoch, oldestSeq: 1, lastSeq: 3 });
      assert((await engine.log.state("other")).epoch !== epoch);
      await say(engine, "r", 3);
      assertEquals((await engine.log.state("r")).epoch, epoch);
    });

    it("of an earlier life can be resumed if and only if the numbering continues", async () => {
      await using lab = await Lab.open(create);
      await say(lab.engine, "r", 3);
      const { epoch } = await lab.engine.log.state("r");
      await lab.reopen();
      const { log } = lab.engine;
      const state = await log.state("r");
      const [event] = await say(lab.engine, "r", 1);
      // Instances on one open store share its life.
      assertEquals(state.epoch === epoch, lab.isShared);
      assertEquals(await log.canResume("r", epoch, 3), lab.isLasting);
      assertEquals([state.lastSeq, event!.seq], lab.isLasting ? [3, 4] : [0, 1]);
    });
  });
}

function testReplies(name: string, create: CreateStore): void {
  describe(`${name}: a reply`, () => {
    it("keeps the id of the answered message, through an edit and a restart", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      using listener = await Listener.open(engine, "r");
      const [message] = await say(engine, "r", 1);
      const reply = { ...draft(BOB, "answer", "ref"), replyTo: message!.id };
      const { event } = await engine.log.append("r", reply);
      assertEquals([event.reply_to, event.ref], [message!.id, "ref"]);
      assertEquals(await listener.seq(2), [message!, event]);
      await editMessage(engine, "r", { ...change(BOB, event.id), content: "other words" });
      const check = async () => {
        const edited = { ...event, content: "other words", edited: true as const };
        assertEquals((await lab.engine.log.events("r", 1, 1))[0], edited);
        assertEquals(await lab.engine.log.messages("r", { limit: 1 }), [edited]);
        const again = await lab.engine.log.append("r", reply);
        assertEquals(again, { event: edited, isDuplicate: true });
      };
      await check();
      if (!lab.isLasting) return;
      await lab.reopen();
      await check();
      // A reply to a reply, from an earlier life.
      const next = { ...draft(CAROL, "and another"), replyTo: event.id };
      assertEquals((await lab.engine.log.append("r", next)).event.reply_to, event.id);
    });

    it("needs a message of its room, also a deleted one", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      const [message] = await say(engine, "r", 1);
      const { event: edit } = await editMessage(engine, "r", {
        ...change(ALICE, message!.id),
        content: "edited",
      });
      const [elsewhere] = await say(engine, "s", 1);
      const idOfEdit = message!.id.replace(/\d+$/, String(edit.seq));
      const [start] = message!.id.split(/\d+$/);
      const ids = [elsewhere!.id, idOfEdit, `${start}99`, `${start}01`, "-1", "1", "no id", "'"];
      for (const replyTo of ids) {
        const reply = { ...draft(BOB, "answer"), replyTo };
        await assertRefused(() => engine.log.append("r", reply), "not_found");
      }
      assertEquals((await engine.log.state("r")).lastSeq, 2);
      await deleteMessage(engine, "r", change(ALICE, message!.id));
      const reply = { ...draft(BOB, "answer"), replyTo: message!.id };
      assertEquals((await engine.log.append("r", reply)).event.reply_to, message!.id);
      if (!lab.isLasting) return;
      await lab.reopen();
      assertEquals((await lab.engine.log.append("r", reply)).event.reply_to, message!.id);
    });

    it("may answer the message just before it, without a change of order", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      const { event: first } = await engine.log.append("r", draft(ALICE, "first"));
      const idAt = (seq: number) => first.id.replace(/\d+$/, String(seq));
      const answer = (content: string, replyTo: string) =>
        engine.log.append("r", { ...draft(ALICE, content), replyTo });
      const results = await Promise.allSettled([
        engine.log.append("r", draft(ALICE, "second")),
        answer("third", idAt(2)),
        answer("no answer", idAt(4)),
        engine.log.append("r", draft(ALICE, "fourth")),
        answer("fifth", idAt(4)),
      ]);
      assertEquals(results.map(({ status }) => status).indexOf("rejected"), 2);
      const log = await engine.log.events("r", 1, ALL) as ChatEvent[];
      assertEquals(contents(log), ["second", "third", "fourth", "fifth"]);
      assertEquals(log.map((event) => event.reply_to), [undefined, idAt(2), undefined, idAt(4)]);
    });

    it("loses the id together with its text", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      const [message] = await say(engine, "r", 1);
      const reply = { ...draft(BOB, "answer", "ref"), replyTo: message!.id };
      const { event } = await engine.log.append("r", reply);
      await deleteMessage(engine, "r", change(BOB, event.id));
      const { reply_to: _, ...rest } = event;
      const deleted = { ...rest, content: "", deleted: true as const };
      const check = async () => {
        assertEquals((await lab.engine.log.events("r", 1, 1))[0], deleted);
        const again = await lab.engine.log.append("r", reply);
        assertEquals(again, { event: deleted, isDuplicate: true });
      };
      await check();
      if (!lab.isLasting) return;
      await lab.reopen();
      await check();
    });

    it("counts as a repeat only for the same answered message", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      const [one, two] = await say(engine, "r", 2);
      const append = (replyTo?: string) =>
        engine.log.append("r", { ...draft(BOB, "answer", "ref"), replyTo });
      const { event } = await append(one!.id);
      assertEquals(await append(one!.id), { event, isDuplicate: true });
      for (const other of [two!.id, undefined, "no id"]) {
        await assertRefused(() => append(other), "conflict");
      }
    });

    it("is still a repeat when the answered message is dropped", async () => {
      await using lab = await Lab.open(create, { keep: 300 });
      const { engine } = lab;
      const [message] = await say(engine, "r", 1);
      await say(engine, "r", 250);
      const reply = { ...draft(BOB, "answer", "ref"), replyTo: message!.id };
      const { event } = await engine.log.append("r", reply);
      await say(engine, "r", 295);
      assert((await engine.log.state("r")).oldestSeq > 1);
      assertEquals(await engine.log.append("r", reply), { event, isDuplicate: true });
      const { ref: _, ...late } = reply;
      await assertRefused(() => engine.log.append("r", late), "not_found");
    });
  });
}

/** Texts that a careless engine would read as something else. */
const STRANGE = [
  ...[
    "';--",
    "\\",
    "\\n",
    "\\'",
    "$1 $fn$",
    "%s %00 %",
    "{a}:b",
    "a:b",
    "a|b",
    "a,b",
    "[1]",
    '"x"',
  ],
  ...["null", "__proto__", " ", "Zoë", "Zoe\u0308", "🎲", "\u2028"],
];

function testDedupe(name: string, create: CreateStore): void {
  describe(`${name}: a repeated ref`, () => {
    it("returns the first message again, and is delivered to nobody", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      using listener = await Listener.open(engine, "r");
      const first = await engine.log.append("r", draft(ALICE, "once", "ref"));
      await engine.log.append("r", draft(BOB, "between"));
      lab.time += 5000;
      const again = await engine.log.append("r", draft(ALICE, "once", "ref"));
      assertEquals(again, { event: first.event, isDuplicate: true });
      assertEquals(first.event.ref, "ref");
      await engine.log.append("r", draft(BOB, "last"));
      assertEquals(contents(await listener.seq(3)), ["once", "between", "last"]);
      assertEquals(contents(await engine.log.events("r", 0, ALL)), ["once", "between", "last"]);
    });

    it("with another text is a conflict, and changes nothing", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      using listener = await Listener.open(engine, "r");
      const first = await engine.log.append("r", draft(ALICE, "once", "ref"));
      await assertRefused(() => engine.log.append("r", draft(ALICE, "twice", "ref")), "conflict");
      const results = await Promise.allSettled([
        engine.log.append("r", draft(BOB, "a")),
        engine.log.append("r", draft(ALICE, "once ", "ref")),
        engine.log.append("r", draft(BOB, "b")),
      ]);
      assertEquals(results.map(({ status }) => status), ["fulfilled", "rejected", "fulfilled"]);
      const again = await engine.log.append("r", draft(ALICE, "once", "ref"));
      assertEquals([again.isDuplicate, again.event.id], [true, first.event.id]);
      assertEquals(contents(await listener.seq(3)), ["once", "a", "b"]);
    });

    it("counts for a person, whatever text names it", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      // A site gives its people ids of its own.
      const authors = STRANGE.map((text, i) => ({ username: `p${i}`, person: `site:${text}` }));
      for (const author of authors) {
        const first = await engine.log.append("r", draft(author, "hello", "ref"));
        assertEquals(first.isDuplicate, false, author.person);
        const again = await engine.log.append("r", draft(author, "hello", "ref"));
        assertEquals([again.isDuplicate, again.event.id], [true, first.event.id], author.person);
        assertEquals(await engine.log.author("r", first.event.id), author);
        await engine.log.whisper("r", privateDraft(ALICE, author, "psst"));
        const [entry] = await engine.log.inbox("r", author.person, 0, ALL);
        assertEquals([entry?.message.to, entry?.inboxSeq], [author, 1]);
        await engine.bus.enter("r", presence(author, `of ${author.person}`));
        await assertRefused(
          () => engine.bus.enter("r", presence({ ...author, person: "other" }, "other")),
          "name_in_use",
        );
      }
      const present = await engine.bus.present("r");
      assertEquals(present.map(({ person }) => person), authors.map(({ person }) => person));
    });

    it("counts for one person under any name, and for one room", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      const first = await engine.log.append("r", draft(ALICE, "hello", "ref"));
      const shouted = await engine.log.append(
        "r",
        draft({ ...ALICE, username: "Wonderland" }, "hello", "ref"),
      );
      assertEquals([shouted.isDuplicate, shouted.event.id], [true, first.event.id]);
      const namesake = await engine.log.append(
        "r",
        draft({ ...ALICE, person: "guest:another alice" }, "other words", "ref"),
      );
      assertEquals([namesake.isDuplicate, namesake.event.content], [false, "other words"]);
      const other = await engine.log.append("r", draft(BOB, "hello", "ref"));
      const elsewhere = await engine.log.append("s", draft(ALICE, "hello", "ref"));
      const otherRef = await engine.log.append("r", draft(ALICE, "hello", "REF"));
      const none = await engine.log.append("r", draft(ALICE, "hello"));
      for (const { isDuplicate } of [other, elsewhere, otherRef, none]) {
        assertEquals(isDuplicate, false);
      }
      assertEquals((await engine.log.state("r")).lastSeq, 5);
    });

    it("stores one message for simultaneous calls", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      using listener = await Listener.open(engine, "r");
      const receipts = await Promise.all(
        upTo(20).map(() => engine.log.append("r", draft(ALICE, "try", "ref"))),
      );
      assertEquals(receipts.map(({ isDuplicate }) => isDuplicate), upTo(20).map((n) => n > 1));
      assertEquals(new Set(receipts.map(({ event }) => event.id)).size, 1);
      await engine.log.append("r", draft(ALICE, "last"));
      assertEquals(contents(await listener.seq(2)), ["try", "last"]);
    });

    it("is known in a later life of the engine, if the message is", async () => {
      await using lab = await Lab.open(create);
      const { event } = await lab.engine.log.append("r", draft(ALICE, "hello", "ref"));
      const { event: note } = await lab.engine.log.whisper(
        "r",
        privateDraft(ALICE, BOB, "psst", "ref"),
      );
      await lab.reopen();
      const again = await lab.engine.log.append("r", draft(ALICE, "hello", "ref"));
      const noteAgain = await lab.engine.log.whisper("r", privateDraft(ALICE, BOB, "psst", "ref"));
      if (!lab.isLasting) return assertEquals(again.isDuplicate, false);
      assertEquals(again, { event, isDuplicate: true });
      assertEquals(noteAgain, { event: note, isDuplicate: true });
    });

    it("returns the current form of the message", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      const { event } = await engine.log.append("r", draft(ALICE, "first", "ref"));
      await editMessage(engine, "r", { ...change(ALICE, event.id), content: "second" });
      const edited = await engine.log.append("r", draft(ALICE, "first", "ref"));
      assertEquals(edited, {
        event: { ...event, content: "second", edited: true },
        isDuplicate: true,
      });
      await deleteMessage(engine, "r", change(ALICE, event.id));
      const deleted = await engine.log.append("r", draft(ALICE, "first", "ref"));
      assertEquals(deleted, { event: { ...event, content: "", deleted: true }, isDuplicate: true });
    });
  });
}

function testResuming(name: string, create: CreateStore): void {
  describe(`${name}: canResume`, () => {
    it("is true up to the newest number of this epoch, and for nothing else", async () => {
      await using lab = await Lab.open(create);
      const { log } = lab.engine;
      await say(lab.engine, "r", 5);
      const { epoch } = await log.state("r");
      const answers = [0, 1, 5, 6, 1000].map((seq) => log.canResume("r", epoch, seq));
      assertEquals(await Promise.all(answers), [true, true, true, false, false]);
      for (const other of ["", "another", `${epoch}x`, epoch.slice(1)]) {
        assertEquals(await log.canResume("r", other, 3), false);
      }
      await say(lab.engine, "s", 5);
      const elsewhere = (await log.state("s")).epoch;
      assertEquals(await log.canResume("r", elsewhere, 3), elsewhere === epoch);
    });

    it("is true from the beginning, whatever the epoch, while the log has its beginning", async () => {
      await using lab = await Lab.open(create, { keep: 20 });
      const { log } = lab.engine;
      assertEquals(await log.canResume("silent", "any", 0), true);
      assertEquals(await log.canResume("silent", "any", 1), false);
      await say(lab.engine, "r", 5);
      assertEquals(await log.canResume("r", "any", 0), true);
      for (let i = 0; i < 40; i++) await say(lab.engine, "r", 10);
      assert((await log.state("r")).oldestSeq > 1);
      assertEquals(await log.canResume("r", "any", 0), false);
    });

    it("is true from the oldest kept number on", async () => {
      await using lab = await Lab.open(create, { keep: 20 });
      const { log } = lab.engine;
      for (let i = 0; i < 40; i++) await say(lab.engine, "r", 10);
      const { epoch, oldestSeq } = await log.state("r");
      const answers = [-2, -1, 0].map((by) => log.canResume("r", epoch, oldestSeq + by));
      assertEquals(await Promise.all(answers), [false, true, true]);
    });

    it("survives a restart, with a new epoch, if the log does", async () => {
      await using lab = await Lab.open(create);
      const lives: string[] = [];
      for (let life = 0; life < 3; life++) {
        const { log } = lab.engine;
        lives.push((await log.state("r")).epoch);
        assertEquals((await log.state("r")).epoch, lives.at(-1));
        await say(lab.engine, "r", 5);
        assertEquals((await log.state("r")).epoch, lives.at(-1));
        await lab.reopen();
      }
      assertEquals(new Set(lives).size, lab.isShared ? 1 : 3);
      const { log } = lab.engine;
      const can = (life: number, seq: number) => log.canResume("r", lives[life]!, seq);
      const first = await Promise.all([1, 5, 6, 10, 15].map((seq) => can(0, seq)));
      const second = await Promise.all([1, 5, 6, 10, 11, 15].map((seq) => can(1, seq)));
      const third = await Promise.all([5, 10, 15, 16].map((seq) => can(2, seq)));
      if (!lab.isLasting) {
        return assertEquals([...first, ...second, ...third].some((answer) => answer), false);
      }
      if (lab.isShared) return assertEquals(first, [true, true, true, true, true]);
      // No client of an earlier life can have seen events of a later one.
      assertEquals(first, [true, true, false, false, false]);
      assertEquals(second, [true, true, true, true, false, false]);
      assertEquals(third, [true, true, true, false]);
      const ids = (await log.events("r", 0, ALL)).map(({ id }) => id);
      assertEquals(new Set(ids).size, 15);
    });

    it("survives a restart in a room without messages", async () => {
      await using lab = await Lab.open(create);
      const { epoch } = await lab.engine.log.state("silent");
      await lab.reopen();
      assertEquals(await lab.engine.log.canResume("silent", epoch, 0), true);
    });
  });

  describe(`${name}: canResumeInbox`, () => {
    it("depends on the person's own numbers, and survives a restart", async () => {
      await using lab = await Lab.open(create);
      const whisper = (from: Author, to: Author) =>
        lab.engine.log.whisper("r", privateDraft(from, to, "psst"));
      const can = ({ person }: Author, epoch: string, seq: number) =>
        lab.engine.log.canResumeInbox("r", person, epoch, seq);
      const { epoch } = await lab.engine.log.state("r");
      assertEquals(await can(ALICE, "any", 0), true);
      for (let i = 0; i < 3; i++) await whisper(ALICE, BOB);
      await whisper(ALICE, CAROL);
      const answers = async () =>
        await Promise.all([
          can(ALICE, epoch, 4),
          can(ALICE, epoch, 5),
          can(BOB, epoch, 3),
          can(BOB, epoch, 4),
          can(CAROL, epoch, 1),
          can(CAROL, "another", 1),
          can(CAROL, "another", 0),
        ]);
      const expected = [true, false, true, false, true, false, true];
      assertEquals(await answers(), expected);
      await lab.reopen();
      if (!lab.isLasting) return assertEquals(await can(ALICE, epoch, 4), false);
      assertEquals(await answers(), expected);
      await whisper(BOB, ALICE);
      assertEquals(await can(ALICE, epoch, 5), lab.isShared);
      assertEquals(await can(ALICE, (await lab.engine.log.state("r")).epoch, 5), true);
    });
  });
}

function testReading(name: string, create: CreateStore): void {
  describe(`${name}: reading`, () => {
    it("of an empty room finds nothing", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      const { oldestSeq, lastSeq } = await engine.log.state("r");
      assertEquals([oldestSeq, lastSeq], [1, 0]);
      assertEquals(await engine.log.events("r", 0, ALL), []);
      assertEquals(await engine.log.messages("r", { limit: 50 }), []);
      assertEquals(await engine.log.messages("r", { before: 10, limit: 50 }), []);
      assertEquals(await engine.log.messages("r", { after: 0, limit: 50 }), []);
      assertEquals(await engine.log.inbox("r", ALICE.person, 0, ALL), []);
      assertEquals(await engine.log.inboxSeq("r", ALICE.person), 0);
      assertEquals(await engine.bus.present("r"), []);
    });

    it("of the log returns the events after a number, up to the limit", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      await say(engine, "r", 30);
      const read = async (after: number, limit: number) =>
        numbers(await engine.log.events("r", after, limit));
      assertEquals(await read(0, 3), [1, 2, 3]);
      assertEquals(await read(27, 3), [28, 29, 30]);
      assertEquals(await read(28, 100), [29, 30]);
      assertEquals(await read(30, 100), []);
      assertEquals(await read(99, 100), []);
      assertEquals(await read(10, 0), []);
      assertEquals(await read(0, ALL), upTo(30));
    });

    it("of messages returns the nearest, oldest first, without changes and deleted ones", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      const events = await say(engine, "r", 10);
      await editMessage(engine, "r", { ...change(ALICE, events[1]!.id), content: "changed" });
      await deleteMessage(engine, "r", change(ALICE, events[4]!.id));
      await say(engine, "r", 2);
      const read = async (range: { before?: number; after?: number; limit: number }) =>
        numbers(await engine.log.messages("r", range));
      assertEquals(await read({ limit: 100 }), [1, 2, 3, 4, 6, 7, 8, 9, 10, 13, 14]);
      assertEquals(await read({ limit: 3 }), [10, 13, 14]);
      assertEquals(await read({ before: 7, limit: 3 }), [3, 4, 6]);
      assertEquals(await read({ before: 1, limit: 3 }), []);
      assertEquals(await read({ before: 99, limit: 2 }), [13, 14]);
      assertEquals(await read({ after: 3, limit: 3 }), [4, 6, 7]);
      assertEquals(await read({ after: 10, limit: 100 }), [13, 14]);
      assertEquals(await read({ after: 0, limit: 2 }), [1, 2]);
      assertEquals(await read({ after: 14, limit: 2 }), []);
      assertEquals(await read({ limit: 0 }), []);
      const [changed] = await engine.log.messages("r", { after: 1, limit: 1 });
      assertEquals(changed, { ...events[1]!, content: "changed", edited: true });
    });
  });
}

function testRetention(name: string, create: CreateStore): void {
  describe(`${name}: keep`, () => {
    it("drops the oldest, never too many, and never restarts the numbers", async () => {
      const keep = 20;
      await using lab = await Lab.open(create, { keep });
      const { engine } = lab;
      for (let last = 5; last <= 600; last += 5) {
        await say(engine, "r", 5);
        const { oldestSeq, lastSeq } = await engine.log.state("r");
        const kept = lastSeq - oldestSeq + 1;
        assertEquals(lastSeq, last);
        assert(
          kept >= Math.min(keep, last) && kept <= keep + SLACK,
          `${kept} of ${last} are kept.`,
        );
      }
      const { oldestSeq, lastSeq } = await engine.log.state("r");
      assert(oldestSeq > 1);
      const kept = upTo(lastSeq).slice(oldestSeq - 1);
      assertEquals(numbers(await engine.log.events("r", 0, ALL)), kept);
      assertEquals(numbers(await engine.log.events("r", oldestSeq - 1, ALL)), kept);
      assertEquals(numbers(await engine.log.messages("r", { limit: ALL })), kept);
      assertEquals(numbers(await engine.log.messages("r", { after: 0, limit: 1 })), [oldestSeq]);
      if (!lab.isLasting) return;
      const { epoch, ...before } = await engine.log.state("r");
      await lab.reopen();
      const { epoch: _, ...after } = await lab.engine.log.state("r");
      assertEquals(after, before);
      const places = [0, oldestSeq - 2, oldestSeq - 1];
      const answers = places.map((seq) => lab.engine.log.canResume("r", epoch, seq));
      assertEquals(await Promise.all(answers), [false, false, true]);
      assertEquals((await say(lab.engine, "r", 1))[0]!.seq, 601);
    });

    it("forgets a ref no sooner than its message", async () => {
      await using lab = await Lab.open(create, { keep: 20 });
      const { engine } = lab;
      const { event } = await engine.log.append("r", draft(ALICE, "hello", "ref"));
      for (let i = 0; i < 40; i++) {
        await say(engine, "r", 10, BOB);
        const { oldestSeq, lastSeq } = await engine.log.state("r");
        if (oldestSeq > 1 && i < 39) continue;
        const again = await engine.log.append("r", draft(ALICE, "hello", "ref"));
        if (again.isDuplicate) assertEquals([again.event.id, again.event.seq], [event.id, 1]);
        else assertEquals([oldestSeq > 1, again.event.seq], [true, lastSeq + 1]);
      }
    });

    it("drops nothing without a limit", async () => {
      await using lab = await Lab.open(create, { keep: Infinity });
      await say(lab.engine, "r", 500);
      const { oldestSeq, lastSeq } = await lab.engine.log.state("r");
      assertEquals([oldestSeq, lastSeq], [1, 500]);
    });

    it("applies to the private messages of each person too", async () => {
      const keep = 20;
      await using lab = await Lab.open(create, { keep });
      for (const n of upTo(400)) {
        await lab.engine.log.whisper(
          "r",
          privateDraft(ALICE, n % 2 === 0 ? BOB : CAROL, `note ${n}`),
        );
      }
      const check = async (person: string, last: number) => {
        const inbox = await lab.engine.log.inbox("r", person, 0, ALL);
        assert(inbox.length >= keep && inbox.length <= keep + SLACK, `${inbox.length} are kept.`);
        const first = last - inbox.length + 1;
        assertEquals(inbox.map(({ inboxSeq }) => inboxSeq), upTo(last).slice(first - 1));
        assertEquals(await lab.engine.log.inboxSeq("r", person), last);
      };
      await check(ALICE.person, 400);
      await check(BOB.person, 200);
      if (!lab.isLasting) return;
      // A restart may drop messages, but a person's numbers continue.
      lab.time += 365 * 24 * 60 * 60 * 1000;
      await lab.reopen();
      const { event } = await lab.engine.log.whisper("r", privateDraft(BOB, ALICE, "a year later"));
      assertEquals([event.fromSeq, event.toSeq], [201, 401]);
    });
  });
}

function testChanges(name: string, create: CreateStore): void {
  describe(`${name}: edit`, () => {
    it("has its own place in the log, is delivered, and changes the message", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      using listener = await Listener.open(engine, "r");
      const [first, second] = await say(engine, "r", 2);
      lab.time += 1000;
      const shouting = { ...change(ALICE, first!.id), username: "ALICE", content: "new" };
      const { event, isDuplicate } = await editMessage(engine, "r", shouting);
      assertEquals(isDuplicate, false);
      assertEquals(event, {
        type: "message_updated",
        content: "new",
        room: "r",
        username: "alice",
        id: first!.id,
        seq: 3,
        timestamp: "2026-01-02T03:04:06.678Z",
      });
      const now: ChatEvent = { ...first!, content: "new", edited: true };
      assertEquals(await engine.log.events("r", 0, ALL), [now, second!, event]);
      assertEquals(await engine.log.messages("r", { limit: 10 }), [now, second!]);
      await listener.seq(3);
      assertEquals(listener.heard.at(-1), { type: "logged", event, origin: `of ${ALICE.person}` });
      const again = await editMessage(engine, "r", {
        ...change(ALICE, first!.id),
        content: "newer",
      });
      assertEquals(again.event.seq, 4);
      assertEquals(contents(await engine.log.events("r", 0, ALL)), [
        "newer",
        "message 2",
        "newer",
        "newer",
      ]);
      // In the kept log, the first edit has the text of its message, and the second its own.
    });

    it("needs the author and an existing message", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      const [message] = await say(engine, "r", 1);
      const edit = (author: Author, id: string, room = "r") =>
        editMessage(engine, room, { ...change(author, id), content: "forged" });
      await assertRefused(() => edit(BOB, message!.id), "forbidden");
      await assertRefused(() => edit({ ...ALICE, person: "guest:x" }, message!.id), "forbidden");
      await assertRefused(() => edit(ALICE, "no such id"), "not_found");
      await assertRefused(() => edit(ALICE, message!.id, "s"), "not_found");
      await deleteMessage(engine, "r", change(ALICE, message!.id));
      await assertRefused(() => edit(ALICE, message!.id), "not_found");
      await assertRefused(() => edit(BOB, message!.id), "not_found");
      assertEquals((await engine.log.state("r")).lastSeq, 2);
      assertEquals((await engine.log.append("r", draft(BOB, "next"))).event.seq, 3);
    });
  });

  describe(`${name}: delete`, () => {
    it("removes the text everywhere, and keeps its place", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      using listener = await Listener.open(engine, "r");
      const { event: message } = await engine.log.append("r", draft(ALICE, "secret one", "ref"));
      await engine.log.append("r", draft(BOB, "answer"));
      await editMessage(engine, "r", { ...change(ALICE, message.id), content: "secret two" });
      await editMessage(engine, "r", { ...change(ALICE, message.id), content: "secret three" });
      const { event, isDuplicate } = await deleteMessage(engine, "r", change(ALICE, message.id));
      assertEquals(isDuplicate, false);
      const { id } = message;
      assertEquals(event, {
        type: "message_deleted",
        content: "",
        room: "r",
        username: "alice",
        id,
        seq: 5,
        timestamp: message.timestamp,
      });
      const check = async () => {
        const log = await lab.engine.log.events("r", 0, ALL);
        assertEquals(log[0], { ...message, content: "", deleted: true });
        assertEquals(log.map(({ type, content }) => `${type}: ${content}`), [
          "chat: ",
          "chat: answer",
          "message_updated: ",
          "message_updated: ",
          "message_deleted: ",
        ]);
        assertEquals(contents(await lab.engine.log.messages("r", { limit: 10 })), ["answer"]);
        assertEquals(contents(await lab.engine.log.messages("r", { after: 0, limit: 1 })), [
          "answer",
        ]);
        const again = await lab.engine.log.append("r", draft(ALICE, "secret one", "ref"));
        assertEquals([again.isDuplicate, again.event.content], [true, ""]);
      };
      await check();
      await listener.seq(5);
      assertEquals(listener.heard.at(-1), { type: "logged", event, origin: `of ${ALICE.person}` });
      if (!lab.isLasting) return;
      await lab.reopen();
      await check();
    });

    it("needs the author, and happens once", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      const [message] = await say(engine, "r", 1);
      const remove = (author: Author, id = message!.id) =>
        deleteMessage(engine, "r", change(author, id));
      await assertRefused(() => remove(BOB), "forbidden");
      await assertRefused(() => remove({ ...ALICE, person: "guest:x" }), "forbidden");
      await assertRefused(() => remove(ALICE, "no such id"), "not_found");
      const both = await Promise.allSettled([remove(ALICE), remove(ALICE)]);
      assertEquals(both.map(({ status }) => status), ["fulfilled", "rejected"]);
      await assertRefused(() => remove(ALICE), "not_found");
      assertEquals((await engine.log.state("r")).lastSeq, 2);
    });

    it("leaves the numbers of its batch unchanged when refused", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      const results = await Promise.allSettled([
        engine.log.append("r", draft(ALICE, "one")),
        deleteMessage(engine, "r", change(ALICE, "no such id")),
        engine.log.append("r", draft(ALICE, "two")),
      ]);
      assertEquals(results.map(({ status }) => status), ["fulfilled", "rejected", "fulfilled"]);
      assertEquals(numbers(await engine.log.events("r", 0, ALL)), [1, 2]);
    });
  });
}

function testPrivate(name: string, create: CreateStore): void {
  describe(`${name}: whisper`, () => {
    it("numbers each person's messages in each room separately, on both sides", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      const sent = await Promise.all([
        engine.log.whisper("r", privateDraft(ALICE, BOB, "a to b")),
        engine.log.whisper("r", privateDraft(BOB, ALICE, "b to a")),
        engine.log.whisper("r", privateDraft(CAROL, ALICE, "c to a")),
        engine.log.whisper("r", privateDraft(BOB, CAROL, "b to c")),
        engine.log.whisper("s", privateDraft(ALICE, BOB, "elsewhere")),
      ]);
      const places = sent.map(({ event }) => [event.fromSeq, event.toSeq]);
      assertEquals(places, [[1, 1], [2, 2], [1, 3], [3, 2], [1, 1]]);
      const { id, ...rest } = sent[0]!.event;
      assert(id.length > 0);
      assertEquals(rest, {
        content: "a to b",
        timestamp: "2026-01-02T03:04:05.678Z",
        from: ALICE,
        to: BOB,
        fromSeq: 1,
        toSeq: 1,
      });
      const [ab, ba, ca, bc] = sent.map(({ event }) => event);
      const inbox = (author: Author, after = 0, limit = ALL) =>
        engine.log.inbox("r", author.person, after, limit);
      assertEquals(await inbox(ALICE), [
        { inboxSeq: 1, message: ab! },
        { inboxSeq: 2, message: ba! },
        { inboxSeq: 3, message: ca! },
      ]);
      assertEquals(await inbox(BOB, 1), [
        { inboxSeq: 2, message: ba! },
        { inboxSeq: 3, message: bc! },
      ]);
      assertEquals(await inbox(ALICE, 0, 1), [{ inboxSeq: 1, message: ab! }]);
      assertEquals(await inbox(ALICE, 3), []);
      assertEquals(await inbox(ALICE, 99), []);
      assertEquals(await engine.log.inboxSeq("r", BOB.person), 3);
      assertEquals(await engine.log.inboxSeq("s", BOB.person), 1);
    });

    it("reaches the room's subscribers, and is in no other person's messages nor in the log", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      using listener = await Listener.open(engine, "r");
      const { event: message } = await engine.log.whisper("r", privateDraft(ALICE, BOB, "psst"));
      const [news] = await listener.count(1);
      assertEquals(news, { type: "private", message, origin: `of ${ALICE.person}` });
      assertEquals(await engine.log.inbox("r", CAROL.person, 0, ALL), []);
      assertEquals(await engine.log.inboxSeq("r", CAROL.person), 0);
      assertEquals(await engine.log.events("r", 0, ALL), []);
      assertEquals(await engine.log.messages("r", { limit: ALL }), []);
      assertEquals((await engine.log.state("r")).lastSeq, 0);
      assertEquals((await engine.log.append("r", draft(ALICE, "aloud"))).event.seq, 1);
    });

    it("keeps its sender's ref for both people, also after a restart", async () => {
      await using lab = await Lab.open(create);
      using listener = await Listener.open(lab.engine, "r");
      // Several senders may use one ref, and so may the receiver.
      const drafts = [
        privateDraft(ALICE, BOB, "from alice", "ref"),
        privateDraft(CAROL, BOB, "from carol", "ref"),
        privateDraft(BOB, ALICE, "from bob", "ref"),
        privateDraft(ALICE, BOB, "without"),
      ];
      for (const one of drafts) await lab.engine.log.whisper("r", one);
      const refs = ["ref", "ref", "ref", undefined];
      const told = await listener.count(4);
      assertEquals(told.map((event) => event.type === "private" && event.message.ref), refs);
      for (let life = 0; life < 2; life++) {
        const { log } = lab.engine;
        const inbox = await log.inbox("r", BOB.person, 0, ALL);
        assertEquals(inbox.map(({ message }) => message.ref), refs);
        for (const [i, one] of drafts.slice(0, 3).entries()) {
          const again = await log.whisper("r", one);
          assertEquals(again, { event: inbox[i]!.message, isDuplicate: true });
        }
        if (!lab.isLasting) return;
        await lab.reopen();
      }
    });

    it("is stored and delivered once for each ref of its sender", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      using listener = await Listener.open(engine, "r");
      const [first, again] = await Promise.all([
        engine.log.whisper("r", privateDraft(ALICE, BOB, "once", "ref")),
        engine.log.whisper("r", privateDraft({ ...ALICE, username: "Alice" }, BOB, "once", "ref")),
      ]);
      assertEquals(first!.isDuplicate, false);
      assertEquals(again, { event: first!.event, isDuplicate: true });
      const later = await engine.log.whisper("r", draft(ALICE, "once", "ref"));
      assertEquals(later, { event: first!.event, isDuplicate: true });
      const other = privateDraft(ALICE, CAROL, "thrice", "ref");
      await assertRefused(() => engine.log.whisper("r", other), "conflict");
      const others = await Promise.all([
        engine.log.whisper("r", privateDraft(BOB, ALICE, "other", "ref")),
        engine.log.whisper("s", privateDraft(ALICE, BOB, "other", "ref")),
      ]);
      assertEquals(others.map(({ isDuplicate }) => isDuplicate), [false, false]);
      assertEquals((await engine.log.append("r", draft(ALICE, "aloud", "ref"))).isDuplicate, false);
      assertEquals((await listener.count(3)).map(({ type }) => type), [
        "private",
        "private",
        "logged",
      ]);
      assertEquals(await engine.log.inboxSeq("r", CAROL.person), 0);
    });
  });
}

function testSubscription(name: string, create: CreateStore): void {
  describe(`${name}: subscribe`, () => {
    it("delivers the same to all subscribers of a room, in order, with its origin", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      using one = await Listener.open(engine, "r");
      using two = await Listener.open(engine, "r");
      using elsewhere = await Listener.open(engine, "s");
      const events = await say(engine, "r", 50);
      await engine.log.append("s", draft(BOB, "elsewhere"));
      const expected = events.map((event): EngineEvent => {
        return { type: "logged", event, origin: `of ${ALICE.person}` };
      });
      assertEquals(await one.count(50), expected);
      assertEquals(await two.count(50), expected);
      assertEquals(contents(await elsewhere.seq(1)), ["elsewhere"]);
      assertEquals(elsewhere.heard.length, 1);
    });

    it("delivers no earlier events", async () => {
      await using lab = await Lab.open(create);
      await say(lab.engine, "r", 3);
      using listener = await Listener.open(lab.engine, "r");
      await say(lab.engine, "r", 1);
      assertEquals(numbers(await listener.seq(4)), [4]);
    });

    it("delivers events that can already be read", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      const reads: Promise<boolean>[] = [];
      using listener = await Listener.open(engine, "r");
      const stop = await engine.bus.subscribe("r", (news) => {
        if (news.type === "logged") {
          const { seq } = news.event;
          reads.push(engine.log.events("r", seq - 1, 1).then((log) => log[0]?.seq === seq));
        }
        if (news.type === "private") {
          const { to, toSeq } = news.message;
          reads.push(
            engine.log.inbox("r", to.person, toSeq - 1, 1).then((found) => found.length === 1),
          );
        }
      });
      await say(engine, "r", 20);
      await engine.log.whisper("r", privateDraft(ALICE, BOB, "psst"));
      await listener.count(21);
      assertEquals(await Promise.all(reads), Array(21).fill(true));
      stop();
    });

    it("ends for its own subscriber at once, and without a hole for the others", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      const seen: EngineEvent[] = [];
      using before = await Listener.open(engine, "r");
      const stop = await engine.bus.subscribe("r", (news) => {
        seen.push(news);
        stop();
      });
      using after = await Listener.open(engine, "r");
      await say(engine, "r", 10);
      assertEquals((await before.count(10)).length, 10);
      assertEquals((await after.count(10)).length, 10);
      assertEquals(seen.length, 1);
    });

    it("delivers nothing after its end, which may be called twice", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      const gone = await Listener.open(engine, "r");
      await say(engine, "r", 1);
      await gone.count(1);
      gone.stop();
      gone.stop();
      using other = await Listener.open(engine, "r");
      gone.stop();
      await say(engine, "r", 5);
      await other.seq(6);
      assertEquals(gone.heard.length, 1);
    });
  });

  describe(`${name}: publish`, () => {
    it("keeps one order for all subscribers, even if one publishes meanwhile", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      const typing = (username: string): EngineEvent => {
        return { type: "typing", username, isActive: true, origin: "c" };
      };
      const stop = await engine.bus.subscribe("r", (event) => {
        if (event.type === "typing" && event.username === "alice") {
          engine.bus.publish("r", typing("bob"));
          engine.bus.publish("r", typing("carol"));
        }
      });
      using listener = await Listener.open(engine, "r");
      await engine.bus.publish("r", typing("alice"));
      assertEquals(await listener.count(3), ["alice", "bob", "carol"].map(typing));
      stop();
    });

    it("delivers unstored events to the room only", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      using listener = await Listener.open(engine, "r");
      using elsewhere = await Listener.open(engine, "s");
      const news: EngineEvent = { type: "typing", username: "alice", isActive: true, origin: "c" };
      await engine.bus.publish("r", news);
      await engine.bus.publish("nobody listens here", news);
      assertEquals(await listener.count(1), [news]);
      assertEquals(await engine.log.events("r", 0, ALL), []);
      assertEquals((await engine.log.state("r")).lastSeq, 0);
      await say(engine, "s", 1);
      assertEquals((await elsewhere.count(1)).map(({ type }) => type), ["logged"]);
    });
  });
}

function testOpen(name: string, create: CreateStore): void {
  const WANTED = { events: 100, messages: 100 };

  describe(`${name}: open`, () => {
    it("reads the state of a room, up to the limits", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      const events = await say(engine, "r", 10);
      await editMessage(engine, "r", { ...change(ALICE, events[8]!.id), content: "changed" });
      await deleteMessage(engine, "r", change(ALICE, events[9]!.id));
      await engine.bus.enter("r", presence(ALICE, "a1"));
      await engine.bus.enter("s", presence(CAROL, "c1"));
      await engine.bus.enter("r", presence(BOB, "b1"));
      await engine.roomSettings.setSettings("r", { ...DEFAULT_SETTINGS, isPrivate: true });
      const room = await engine.open("r", { events: 4, messages: 3 });
      assertEquals(room.state, await engine.log.state("r"));
      assertEquals(room.events, await engine.log.events("r", 8, 4));
      assertEquals(room.messages, await engine.log.messages("r", { limit: 3 }));
      assertEquals(contents(room.messages), ["message 7", "message 8", "changed"]);
      assertEquals(room.settings, { ...DEFAULT_SETTINGS, isPrivate: true, version: 1 });
      assertEquals(room.present, [presence(ALICE, "a1"), presence(BOB, "b1")]);
      room.close();

      const none = await engine.open("r", { events: 0, messages: 0 });
      assertEquals([none.events, none.messages, none.state.lastSeq], [[], [], 12]);
      none.close();
      const all = await engine.open("r", WANTED);
      assertEquals([all.events.length, all.messages.length], [12, 9]);
      all.close();
    });

    it("reads an empty room", async () => {
      await using lab = await Lab.open(create);
      const room = await lab.engine.open("r", WANTED);
      const { epoch } = await lab.engine.log.state("r");
      assertEquals(room.state, { epoch, oldestSeq: 1, lastSeq: 0 });
      assertEquals([room.events, room.messages, room.present], [[], [], []]);
      assertEquals(room.settings, DEFAULT_SETTINGS);
      room.close();
    });

    it("delivers every later event once and in order, also those before listen", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      await say(engine, "r", 3);
      const room = await engine.open("r", WANTED);
      await say(engine, "r", 2);
      const position = await engine.bus.enter("r", presence(ALICE, "a1"));
      using listener = Listener.to(room);
      await say(engine, "r", 2);
      engine.bus.leave("r", "a1");
      const events = await listener.count(6);
      assertEquals(numbers(room.events), [1, 2, 3]);
      assertEquals(numbers(listener.logged), [4, 5, 6, 7]);
      const types = events.map(({ type }) => type);
      assertEquals(types, ["logged", "logged", "entered", "logged", "logged", "left"]);
      assert(room.position < position);
      assertEquals(events.filter(isPresenceChange)[0]!.position, position);
    });

    it("misses and repeats nothing, at any moment", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      const opening: Promise<OpenRoom>[] = [];
      const open = () => void opening.push(engine.open("r", WANTED));
      // Also in the middle of a turn's events.
      const stop = await engine.bus.subscribe("r", open);
      open();
      const said = say(engine, "r", 10);
      const entering = upTo(5).map((n) => engine.bus.enter("r", presence(ALICE, `a${n}`)));
      open();
      await Promise.all([said, ...entering]);
      engine.bus.leave("r", "a2");
      await say(engine, "r", 5);
      stop();
      await say(engine, "r", 1);
      const present = await engine.bus.present("r");
      assertEquals(present.length, 4);
      for (const room of await Promise.all(opening)) {
        using listener = Listener.to(room);
        if (room.state.lastSeq < 16) await listener.seq(16);
        assertEquals(room.state.lastSeq, room.events.length);
        assertEquals([...numbers(room.events), ...numbers(listener.logged)], upTo(16));
        const known = new Map(room.present.map((one) => [one.connection, one]));
        let { position } = room;
        for (const event of listener.heard.filter(isPresenceChange)) {
          assert(event.position > position, "A change of presence is repeated.");
          position = event.position;
          const { connection } = event.presence;
          if (event.type === "entered") known.set(connection, event.presence);
          else known.delete(connection);
        }
        assertEquals([...known.values()], present);
      }
    });

    it("keeps the order when a subscriber publishes during the first events", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      const room = await engine.open("r", WANTED);
      await say(engine, "r", 3);
      using listener = await Listener.open(engine, "r");
      const heard: string[] = [];
      room.listen((event) => {
        heard.push(event.type);
        if (heard.length > 1) return;
        engine.bus.publish("r", { type: "typing", username: "a", isActive: true, origin: "c" });
      });
      await listener.count(1);
      await say(engine, "r", 1);
      await listener.count(2);
      assertEquals(heard, ["logged", "logged", "logged", "typing", "logged"]);
      room.close();
    });

    it("ends with close, called once or twice, before listen or after", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      const [early, late] = [await engine.open("r", WANTED), await engine.open("r", WANTED)];
      using listener = await Listener.open(engine, "r");
      const gone = Listener.to(late);
      await say(engine, "r", 1);
      await Promise.all([listener.count(1), gone.count(1)]);
      for (const room of [early, late, early, late]) room.close();
      const never = Listener.to(early);
      await say(engine, "r", 2);
      await listener.count(3);
      assertEquals([gone.heard.length, never.heard.length], [1, 0]);
    });
  });
}

function testPresence(name: string, create: CreateStore): void {
  const [first, second] = [presence(ALICE, "a1"), presence(ALICE, "a2")];
  const bob = presence(BOB, "b1");

  describe(`${name}: presence`, () => {
    it("is published at its begin and end, and can be read", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      using listener = await Listener.open(engine, "r");
      await engine.bus.enter("r", first);
      await engine.bus.enter("r", bob);
      assertEquals(await engine.bus.present("r"), [first, bob]);
      assertEquals(await engine.bus.present("s"), []);
      engine.bus.leave("r", "a1");
      assertEquals(await engine.bus.present("r"), [bob]);
      assertEquals((await listener.count(3)).map(toPresenceChange), [
        ["entered", first],
        ["entered", bob],
        ["left", first],
      ]);
    });

    it("covers every connection of a person, and ends with the last", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      await engine.bus.enter("r", first);
      await engine.bus.enter("r", second);
      assertEquals(await engine.bus.present("r"), [first, second]);
      engine.bus.leave("r", "a1");
      assertEquals(await engine.bus.present("r"), [second]);
      const stranger = presence({ ...ALICE, person: "guest:x" }, "x1");
      await assertRefused(() => engine.bus.enter("r", stranger), "name_in_use");
      engine.bus.leave("r", "a2");
      await engine.bus.enter("r", stranger);
      assertEquals(await engine.bus.present("r"), [stranger]);
    });

    it("gives a name to one person in any case, and publishes no refusal", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      using listener = await Listener.open(engine, "r");
      await engine.bus.enter("r", first);
      const names = ["alice", "ALICE", "Alice", "ａｌｉｃｅ"];
      for (const [i, username] of names.entries()) {
        const stranger = presence({ username, person: "guest:x" }, `x${i}`);
        await assertRefused(() => engine.bus.enter("r", stranger), "name_in_use");
        engine.bus.leave("r", `x${i}`);
      }
      await engine.bus.enter("s", presence({ ...ALICE, person: "guest:x" }, "x9"));
      const shouting = presence({ ...ALICE, username: "ALICE" }, "a2");
      await engine.bus.enter("r", shouting);
      assertEquals(await engine.bus.present("r"), [first, shouting]);
      assertEquals((await listener.count(2)).map(({ type }) => type), ["entered", "entered"]);
    });

    it("is given to one of two simultaneous strangers", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      const results = await Promise.allSettled([
        engine.bus.enter("r", first),
        engine.bus.enter("r", presence({ ...ALICE, person: "guest:x" }, "x1")),
      ]);
      assertEquals(results.map(({ status }) => status), ["fulfilled", "rejected"]);
    });

    it("ends once, even if left twice", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      using listener = await Listener.open(engine, "r");
      await engine.bus.enter("r", first);
      await engine.bus.enter("r", second);
      engine.bus.leave("r", "a1");
      engine.bus.leave("r", "a1");
      engine.bus.leave("r", "nobody");
      engine.bus.leave("s", "a2");
      assertEquals(await engine.bus.present("r"), [second]);
      await engine.bus.enter("r", bob);
      const types = (await listener.count(4)).map(({ type }) => type);
      assertEquals(types, ["entered", "entered", "left", "entered"]);
    });

    it("returns its position, which matches its event and grows with every change", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      using listener = await Listener.open(engine, "r");
      const entered: number[] = [];
      // The room is empty meanwhile.
      for (let i = 0; i < 2; i++) {
        entered.push(await engine.bus.enter("r", first));
        entered.push(await engine.bus.enter("r", bob));
        engine.bus.leave("r", "a1");
        engine.bus.leave("r", "b1");
      }
      const changes = (await listener.count(8)).filter(isPresenceChange);
      const positions = changes.map(({ position }) => position);
      assertEquals(positions, [...new Set(positions)].toSorted((a, b) => a - b));
      const heard = changes.filter(({ type }) => type === "entered");
      assertEquals(entered, heard.map(({ position }) => position));
    });

    it("survives a lease that its own instance renews too late", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      await engine.bus.enter("r", first);
      lab.time += 10 * LEASE_MS;
      await engine.bus.renew();
      assertEquals(await engine.bus.present("r"), [first]);
    });

    it("does not survive the life of the engine", async () => {
      await using lab = await Lab.open(create);
      await lab.engine.bus.enter("r", first);
      lab.engine.bus.leave("r", first.connection);
      await lab.reopen();
      assertEquals(await lab.engine.bus.present("r"), []);
      await lab.engine.bus.enter("r", presence({ ...ALICE, person: "guest:x" }, "x1"));
    });
  });
}

function testAccounts(name: string, create: CreateStore): void {
  describe(`${name}: an account`, () => {
    it("is added once for each key, and published", async () => {
      await using lab = await Lab.open(create);
      const { accounts } = lab.engine;
      using listener = await Listener.open(lab.engine, EVERYWHERE);
      assertEquals(await accounts.account("alice"), undefined);
      const added = await Promise.all([
        accounts.addAccount(account("alice")),
        accounts.addAccount({ ...account("alice"), passwordHash: "another" }),
        accounts.addAccount(account("bob")),
      ]);
      assertEquals(added, [true, false, true]);
      assertEquals(await listener.count(2), [
        { type: "registered", key: "alice" },
        { type: "registered", key: "bob" },
      ]);
      if (lab.isLasting) await lab.reopen();
      const found = await lab.engine.accounts.account("alice");
      assertEquals(found, account("alice"));
      assertEquals(await lab.engine.accounts.addAccount(account("alice")), false);
    });

    it("gets a new password, which ends all its tokens but one, and is published", async () => {
      await using lab = await Lab.open(create);
      const { accounts } = lab.engine;
      await accounts.addAccount(account("alice"));
      for (const hash of ["one", "two", "three"]) {
        await accounts.addToken(token(hash, lab.time + 1000));
      }
      const other = { ...token("other", lab.time + 1000), account: "bob" };
      await accounts.addToken(other);
      using listener = await Listener.open(lab.engine, EVERYWHERE);
      assertEquals(await accounts.setPassword("alice", "new", "two"), true);
      assertEquals(await listener.count(1), [
        { type: "tokens_ended", account: "alice", kept: "two" },
      ]);
      assertEquals(await accounts.setPassword("nobody", "new"), false);
      const known = async (hashes: string[]) => {
        const found = await Promise.all(
          hashes.map((hash) => lab.engine.accounts.token(hash)),
        );
        return found.flatMap((each) => each?.hash ?? []);
      };
      assertEquals(await known(["one", "two", "three", "other"]), ["two", "other"]);
      if (lab.isLasting) await lab.reopen();
      const found = await lab.engine.accounts.account("alice");
      assertEquals(found, { ...account("alice"), passwordHash: "new" });
      await lab.engine.accounts.endTokens("alice");
      assertEquals(await known(["two", "other"]), ["other"]);
      assertEquals(await lab.engine.accounts.account("alice"), found);
    });
  });

  describe(`${name}: a removed account`, () => {
    const HER: Author = { username: "Alice", person: accountPerson("alice") };
    const eraseAll = async (engine: Engine) => {
      while (await engine.accounts.eraseNext());
    };
    /** Every text and name of a room that a client can receive. */
    const everythingIn = async ({ log }: Engine, room: string) =>
      JSON.stringify([
        await log.events(room, 0, ALL),
        await log.messages(room, { limit: ALL }),
        await log.inbox(room, HER.person, 0, ALL),
        await log.inbox(room, BOB.person, 0, ALL),
      ]);

    it("keeps its key, has no token, and cannot come back", async () => {
      await using lab = await Lab.open(create);
      const { accounts } = lab.engine;
      await accounts.addAccount(account("alice"));
      await accounts.addToken(token("one", lab.time + 1000));
      using listener = await Listener.open(lab.engine, EVERYWHERE);
      assertEquals(await accounts.removeAccount("alice"), true);
      assertEquals(await listener.count(1), [{ type: "tokens_ended", account: "alice", kept: "" }]);
      assertEquals(await accounts.removeAccount("alice"), false);
      assertEquals(await accounts.removeAccount("nobody"), false);
      await eraseAll(lab.engine);
      if (lab.isLasting) await lab.reopen();
      const gone = { key: "alice", username: "", passwordHash: "" };
      assertEquals(await lab.engine.accounts.account("alice"), gone);
      assertEquals(await lab.engine.accounts.token("one"), undefined);
      assertEquals(await lab.engine.accounts.addAccount(account("alice")), false);
      assertEquals(await lab.engine.accounts.setPassword("alice", "new"), false);
    });

    it("leaves none of its texts and names, and everything of others", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      await engine.accounts.addAccount({ ...account("alice"), username: "Alice" });
      for (const room of ["full", "empty"]) {
        // Another person had the name before it was registered.
        await engine.log.append(room, draft({ ...HER, person: "guest:x" }, "of a guest"));
        const { event: first } = await engine.log.append(room, draft(HER, "secret one", "r1"));
        await engine.log.append(room, draft(BOB, "of bob"));
        await editMessage(engine, room, { ...change(HER, first.id), content: "secret two" });
        const { event: second } = await engine.log.append(room, draft(HER, "secret three"));
        await deleteMessage(engine, room, { ...change(BOB, second.id), isModerator: true });
        const { event: bobs } = await engine.log.append(room, draft(BOB, "of bob too"));
        await deleteMessage(engine, room, { ...change(HER, bobs.id), isModerator: true });
        const fourth = { ...draft({ ...HER, username: "ALICE" }, "secret four"), replyTo: bobs.id };
        await engine.log.append(room, fourth);
        await engine.log.whisper(room, privateDraft(HER, BOB, "secret five", "secret ref"));
        await engine.log.whisper(room, privateDraft(BOB, HER, "of bob alone"));
      }
      const before = await engine.log.events("full", 0, ALL);
      using listener = await Listener.open(engine, "full");
      await engine.accounts.removeAccount("alice");
      await eraseAll(engine);
      // In a room in use, the texts vanish from people's screens.
      const [deleted] = (await listener.seq(before.length + 2)).slice(-2);
      assertEquals([deleted!.type, deleted!.username, deleted!.id], [
        "message_deleted",
        "",
        before[1]!.id,
      ]);
      for (const room of ["full", "empty"]) {
        const all = await everythingIn(engine, room);
        assert(!all.includes("secret"), all);
        const messages = await engine.log.messages(room, { limit: ALL });
        assertEquals(messages.map(({ username, content }) => [username, content]), [
          ["Alice", "of a guest"],
          ["bob", "of bob"],
        ]);
        const names = (await engine.log.events(room, 0, ALL)).map(({ username }) => username);
        assert(!all.includes("reply_to"), all);
        assertEquals(names.slice(0, 8), ["Alice", "", "bob", "", "", "", "bob", "bob"]);
        assertEquals(numbers(await engine.log.events(room, 0, ALL)), upTo(names.length));
        assertEquals(await engine.log.author(room, before[1]!.id), undefined);
        assertEquals(await engine.log.inbox(room, HER.person, 0, ALL), []);
        const [hers, his] = await engine.log.inbox(room, BOB.person, 0, ALL);
        assertEquals([hers!.message.content, hers!.message.from.username], ["", ""]);
        assertEquals(his!.message.content, "of bob alone");
        // Changes of it are refused as for any deleted message.
        await assertRefused(
          () => deleteMessage(engine, room, { ...change(HER, before[1]!.id) }),
          "not_found",
        );
      }
      const kept = await everythingIn(engine, "empty");
      if (lab.isLasting) {
        await lab.reopen();
        assertEquals(await everythingIn(lab.engine, "empty"), kept);
      }
    });

    it("is erased in steps that leave time for others, also after a restart", async () => {
      await using lab = await Lab.open(create);
      await lab.engine.accounts.addAccount({ ...account("alice"), username: "Alice" });
      for (let i = 0; i < 40; i++) await say(lab.engine, `room ${i % 10}`, 500, HER);
      await lab.engine.accounts.removeAccount("alice");
      let steps = 0;
      while (await lab.engine.accounts.eraseNext()) {
        steps++;
        if (steps === 2 && lab.isLasting) await lab.kill();
        // Others keep writing meanwhile.
        await lab.engine.log.append("room 1", draft(BOB, `at step ${steps}`));
      }
      assert(steps > 1, `${steps} steps`);
      for (let i = 0; i < 10; i++) {
        const messages = await lab.engine.log.messages(`room ${i}`, { limit: ALL });
        assertEquals(messages.length, i === 1 ? steps : 0);
      }
    });

    it("removes its old messages from a room in use, without an event in the log", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      await engine.accounts.addAccount({ ...account("alice"), username: "Alice" });
      const old = await say(engine, "r", 5, HER);
      await say(engine, "r", 200, BOB);
      using listener = await Listener.open(engine, "r");
      await engine.accounts.removeAccount("alice");
      await eraseAll(engine);
      assertEquals(await listener.count(1), [{ type: "erased", ids: old.map(({ id }) => id) }]);
      assertEquals((await engine.log.state("r")).lastSeq, 205);
      assertEquals((await engine.log.messages("r", { limit: ALL })).length, 200);
    });
  });

  describe(`${name}: a token`, () => {
    it("is found until it ends, which is published", async () => {
      await using lab = await Lab.open(create);
      using listener = await Listener.open(lab.engine, EVERYWHERE);
      const [one, two] = [token("one", lab.time + 1000), token("two", lab.time + 2000)];
      const { accounts } = lab.engine;
      for (const each of [one, two]) await accounts.addToken(each);
      assertEquals(await accounts.token("one"), one);
      assertEquals(await accounts.token("three"), undefined);
      await accounts.endToken("one");
      assertEquals(await listener.count(1), [{ type: "token_ended", hash: "one" }]);
      if (lab.isLasting) await lab.reopen();
      assertEquals(await lab.engine.accounts.token("one"), undefined);
      assertEquals(await lab.engine.accounts.token("two"), two);
    });

    it("is dropped once expired, when another one is added", async () => {
      await using lab = await Lab.open(create);
      const { accounts } = lab.engine;
      const now = lab.time + 1000;
      const known = async () => {
        const found = await Promise.all(["a", "b", "c", "d"].map((hash) => accounts.token(hash)));
        return found.flatMap((each) => each?.hash ?? []).join("");
      };
      await accounts.addToken(token("a", now - 1));
      await accounts.addToken(token("b", now));
      await accounts.addToken(token("c", now + 1));
      assertEquals(await known(), "abc");
      lab.time = now;
      assertEquals(await known(), "abc");
      await accounts.addToken(token("d", now + 1000));
      assertEquals(await known(), "cd");
    });
  });

  describe(`${name}: a bot's token`, () => {
    /** The hashes of an account's tokens, in order. */
    const listed = async ({ engine }: Lab, account = "alice") =>
      (await engine.accounts.botTokens(account)).map(({ hash }) => hash).sort();

    it("is found and listed until it ends, however late, which is published", async () => {
      await using lab = await Lab.open(create);
      const { accounts } = lab.engine;
      const made = [
        botToken("one", { name: "Würfel: 'a\\b' \"%\"", created: 1_764_163_650_123 }),
        botToken("two", { name: "🎲" }),
        botToken("other", { account: "bob", name: "🎲" }),
      ];
      for (const each of made) assertEquals(await accounts.addBotToken(each, 20), true);
      lab.time += 10 * TOKEN_MS;
      await accounts.addToken(token("session", lab.time + 1000));
      using listener = await Listener.open(lab.engine, EVERYWHERE);
      const found = await accounts.botTokens("alice");
      assertEquals(found.toSorted((a, b) => a.hash < b.hash ? -1 : 1), made.slice(0, 2));
      for (const each of made) assertEquals(await accounts.token(each.hash), asToken(each));
      const known = { tokens: ["one", "nobody's", "other"], keys: [] };
      assertEquals(await accounts.recheck(known), { tokens: ["nobody's"], keys: [] });
      assertEquals(await accounts.endBotToken("alice", "bot one"), false);
      assertEquals(await accounts.endBotToken("bob", made[0]!.name), false);
      assertEquals(await accounts.endBotToken("alice", made[0]!.name), true);
      await accounts.endToken("other");
      assertEquals(await listener.count(2), [
        { type: "token_ended", hash: "one" },
        { type: "token_ended", hash: "other" },
      ]);
      if (lab.isLasting) await lab.reopen();
      assertEquals([await listed(lab), await listed(lab, "bob")], [["two"], []]);
      assertEquals(await lab.engine.accounts.token("one"), undefined);
      assertEquals(await lab.engine.accounts.token("two"), asToken(made[1]!));
      assertEquals(await lab.engine.accounts.addBotToken(made[0]!, 20), true);
    });

    it("is unique by name and limited in number, also with simultaneous calls", async () => {
      await using lab = await Lab.open(create);
      const { accounts } = lab.engine;
      await accounts.addAccount(account("alice"));
      const same = await Promise.all(
        ["a", "b", "c"].map((hash) => accounts.addBotToken(botToken(hash, { name: "same" }), 4)),
      );
      assertEquals(same.filter((isAdded) => isAdded).length, 1);
      const more = await Promise.all(
        upTo(6).map((n) => accounts.addBotToken(botToken(`more ${n}`), 4)),
      );
      assertEquals(more.filter((isAdded) => isAdded).length, 3);
      assertEquals((await listed(lab)).length, 4);
      assertEquals(await accounts.addBotToken(botToken("bob's", { account: "bob" }), 4), true);
      assertEquals(await accounts.endBotToken("alice", "same"), true);
      assertEquals(await accounts.addBotToken(botToken("last", { name: "same" }), 4), true);
    });

    it("ends with all tokens, the password or the account, and no other account's does", async () => {
      await using lab = await Lab.open(create);
      const { accounts } = lab.engine;
      await accounts.addAccount(account("alice"));
      await accounts.addToken(token("session", lab.time + 1000));
      await accounts.addBotToken(botToken("bob's", { account: "bob" }), 20);
      const ends = [
        () => accounts.endTokens("bob's"),
        () => accounts.setPassword("alice", "new", "session"),
        () => accounts.endTokens("alice"),
        () => accounts.removeAccount("alice"),
      ];
      for (const [i, end] of ends.entries()) {
        const [one, two] = [botToken(`one ${i}`), botToken(`two ${i}`)];
        for (const each of [one, two]) assertEquals(await accounts.addBotToken(each, 20), true);
        await end();
        if (i === 0) {
          assertEquals((await listed(lab)).length, 2);
          continue;
        }
        assertEquals(await listed(lab), []);
        const found = await Promise.all([one, two].map(({ hash }) => accounts.token(hash)));
        assertEquals(found, [undefined, undefined]);
      }
      assertEquals(await listed(lab, "bob"), ["bob's"]);
      assertEquals((await accounts.token("bob's"))?.account, "bob");
    });
  });
}

function testRoomSettings(name: string, create: CreateStore): void {
  const bans = [{ key: "carol", person: "guest:c" }];

  describe(`${name}: a room's settings`, () => {
    it("are stored, counted for their owner, and published to the room", async () => {
      await using lab = await Lab.open(create);
      const { roomSettings } = lab.engine;
      using listener = await Listener.open(lab.engine, "r");
      assertEquals(await roomSettings.settings("r"), DEFAULT_SETTINGS);
      const lists = { moderators: ["carol"], members: ["bob"], bans };
      const wanted = { owner: "alice", isPrivate: true, ...lists, version: 0 };
      assert(await roomSettings.setSettings("r", wanted));
      const stored: RoomSettings = { ...wanted, version: 1 };
      assertEquals(await roomSettings.settings("s"), DEFAULT_SETTINGS);
      assertEquals(await listener.count(1), [{ type: "settings", settings: stored }]);
      assert(await roomSettings.setSettings("s", { ...DEFAULT_SETTINGS, owner: "alice" }));
      assertEquals(await roomSettings.countOwned("alice"), 2);
      assertEquals(await roomSettings.countOwned("bob"), 0);
      if (lab.isLasting) await lab.reopen();
      const next = lab.engine.roomSettings;
      assertEquals(await next.settings("r"), stored);
      const free = { ...stored, owner: undefined, members: [] };
      assert(await next.setSettings("r", free));
      assertEquals(await next.settings("r"), { ...free, version: 2 });
      assertEquals(await next.countOwned("alice"), 1);
    });

    it("accept one of two simultaneous changes of a version", async () => {
      await using lab = await Lab.open(create);
      const { roomSettings } = lab.engine;
      using listener = await Listener.open(lab.engine, "r");
      const before = await roomSettings.settings("r");
      const [first, second] = [{ ...before, bans }, { ...before, isPrivate: true }];
      const results = await Promise.all([
        roomSettings.setSettings("r", first),
        roomSettings.setSettings("r", second),
      ]);
      assertEquals(results, [true, false]);
      const stored = { ...first, version: 1 };
      assertEquals(await roomSettings.settings("r"), stored);
      assertEquals(await roomSettings.setSettings("r", second), false);
      assertEquals(await roomSettings.setSettings("r", { ...second, version: 2 }), false);
      assert(await roomSettings.setSettings("r", { ...stored, isPrivate: true }));
      assertEquals(await listener.count(2), [
        { type: "settings", settings: stored },
        { type: "settings", settings: { ...stored, isPrivate: true, version: 2 } },
      ]);
    });
  });
}

/** Tests of several instances of one chat, on stores that can be shared. */
function testInstances(name: string, create: CreateStore): void {
  type Test = (one: Engine, two: Engine, lab: Lab) => Promise<void>;
  /** A test with two engines on one store. */
  const itShares = (title: string, test: Test) =>
    it(title, async () => {
      await using lab = await Lab.open(create);
      if (lab.isShared) await test(lab.engine, await lab.openAnother(), lab);
    });

  describe(`${name}: two instances`, () => {
    itShares("have one log, and receive each other's events in one order", async (one, two) => {
      using ones = await Listener.open(one, "r");
      using twos = await Listener.open(two, "r");
      const [first] = await say(one, "r", 1);
      await editMessage(two, "r", { ...change(ALICE, first!.id), content: "new" });
      await Promise.all(upTo(20).map((n) => say(n % 2 === 0 ? one : two, "r", 3)));
      await one.log.whisper("r", privateDraft(ALICE, BOB, "psst"));
      await two.bus.publish("r", { type: "kicked", who: { key: "carol" }, reason: undefined });
      assertEquals(await ones.count(64), await twos.count(64));
      assertEquals(numbers(ones.logged), upTo(62));
      assertEquals(await one.log.events("r", 0, ALL), await two.log.events("r", 0, ALL));
      assertEquals(await one.log.state("r"), await two.log.state("r"));
      assertEquals((await two.log.inbox("r", BOB.person, 0, ALL)).length, 1);
    });

    itShares("each deliver to a subscriber, also to the same one", async (one, two) => {
      const heard: EngineEvent[] = [];
      const subscriber = (event: EngineEvent) => void heard.push(event);
      await one.bus.subscribe("r", subscriber);
      const stop = await two.bus.subscribe("r", subscriber);
      using own = await Listener.open(one, "r");
      using listener = await Listener.open(two, "r");
      await say(one, "r", 1);
      await Promise.all([own.seq(1), listener.seq(1)]);
      await one.close();
      await say(two, "r", 1);
      await listener.seq(2);
      assertEquals(heard.length, 3);
      stop();
    });

    itShares("recognize a ref stored by the other", async (one, two) => {
      const { event } = await one.log.append("r", draft(ALICE, "once", "ref"));
      const again = await two.log.append("r", draft(ALICE, "once", "ref"));
      assertEquals(again, { event, isDuplicate: true });
    });

    itShares("share one list of presences, with one person for each name", async (one, two) => {
      const [alice, bob] = [presence(ALICE, "a1"), presence(BOB, "b1")];
      using listener = await Listener.open(two, "r");
      const positions = [await one.bus.enter("r", alice), await two.bus.enter("r", bob)];
      assert(positions[0]! < positions[1]!);
      assertEquals(await one.bus.present("r"), [alice, bob]);
      assertEquals(await two.bus.present("r"), [alice, bob]);
      const stranger = presence({ ...ALICE, person: "guest:x" }, "x1");
      await assertRefused(() => two.bus.enter("r", stranger), "name_in_use");
      // An instance ends its own presences only.
      two.bus.leave("r", "a1");
      assertEquals(await two.bus.present("r"), [alice, bob]);
      one.bus.leave("r", "a1");
      const changes = (await listener.count(3)).filter(isPresenceChange);
      assertEquals(changes.map(({ position }) => position).slice(0, 2), positions);
      await two.bus.enter("r", stranger);
    });

    itShares("change a room's settings in turn", async (one, two) => {
      using listener = await Listener.open(one, "r");
      const before = await one.roomSettings.settings("r");
      const results = await Promise.all([
        one.roomSettings.setSettings("r", { ...before, isPrivate: true }),
        two.roomSettings.setSettings("r", { ...before, owner: "alice" }),
      ]);
      assertEquals(results.toSorted(), [false, true]);
      const stored = await one.roomSettings.settings("r");
      assertEquals(await two.roomSettings.settings("r"), stored);
      assertEquals(await listener.count(1), [{ type: "settings", settings: stored }]);
    });

    itShares("share accounts and tokens", async (one, two, lab) => {
      using listener = await Listener.open(one, EVERYWHERE);
      assert(await one.accounts.addAccount(account("alice")));
      assertEquals(await two.accounts.addAccount(account("alice")), false);
      await one.accounts.addToken(token("one", lab.time + 1000));
      await two.accounts.endToken("one");
      assertEquals(await one.accounts.token("one"), undefined);
      const both = await Promise.all([
        one.accounts.addBotToken(botToken("two", { name: "dice" }), 20),
        two.accounts.addBotToken(botToken("three", { name: "dice" }), 20),
      ]);
      assertEquals(both.toSorted(), [false, true]);
      const [made] = await two.accounts.botTokens("alice");
      assertEquals(await two.accounts.endBotToken("alice", "dice"), true);
      assertEquals(await one.accounts.token(made!.hash), undefined);
      assertEquals(await listener.count(3), [
        { type: "registered", key: "alice" },
        { type: "token_ended", hash: "one" },
        { type: "token_ended", hash: made!.hash },
      ]);
    });

    itShares("continue when one of them closes, which ends its presences", async (one, two) => {
      using ones = await Listener.open(one, "r");
      using twos = await Listener.open(two, "r");
      const [alice, bob] = [presence(ALICE, "a1"), presence(BOB, "b1")];
      await one.bus.enter("r", alice);
      await two.bus.enter("r", bob);
      await ones.count(2);
      await one.close();
      assertEquals((await twos.count(3)).map(toPresenceChange).at(-1), ["left", alice]);
      assertEquals(await two.bus.present("r"), [bob]);
      await assertRefused(() => one.log.append("r", draft(ALICE, "late")), "unavailable");
      assertEquals(numbers(await say(two, "r", 1)), [1]);
      await twos.seq(1);
      await two.bus.enter("r", presence({ ...ALICE, person: "guest:x" }, "x1"));
      assertEquals(ones.heard.length, 2);
    });
  });

  describe(`${name}: presence`, () => {
    itShares("lasts as long as its instance renews its lease", async (alive, dead, lab) => {
      using listener = await Listener.open(alive, "r");
      const lost = [presence(ALICE, "a1"), presence(ALICE, "a2")];
      const lostElsewhere = presence(CAROL, "c1");
      const staying = presence(BOB, "b1");
      for (const one of lost) await dead.bus.enter("r", one);
      await alive.bus.enter("r", staying);
      await dead.bus.enter("s", lostElsewhere);
      await dead.bus.renew();
      for (let i = 0; i < 3; i++) {
        lab.time += LEASE_MS - 1000;
        await alive.bus.renew();
        await dead.bus.renew();
      }
      assertEquals((await alive.bus.present("r")).length, 3);
      lab.time += LEASE_MS - 1000;
      await alive.bus.renew();
      assertEquals((await alive.bus.present("r")).length, 3);
      lab.time += 2000;
      await alive.bus.renew();
      await alive.bus.renew();
      assertEquals(await alive.bus.present("r"), [staying]);
      assertEquals(await alive.bus.present("s"), []);
      await alive.bus.enter("r", presence({ ...ALICE, person: "guest:x" }, "x1"));
      const left = (await listener.count(6)).filter(({ type }) => type === "left");
      assertEquals(left.map(toPresenceChange), lost.map((presence) => ["left", presence]));
      dead.bus.leave("r", "a1");
      lab.time += LEASE_MS - 1000;
      await alive.bus.renew();
      assertEquals((await alive.bus.present("r")).length, 2);
      assertEquals(listener.heard.length, 6);
    });

    itShares("can be taken up again by an instance that renews too late", async (one, two, lab) => {
      const alice = presence(ALICE, "a1");
      await one.bus.enter("r", alice);
      using listener = await Listener.open(one, "r");
      lab.time += LEASE_MS + 1;
      await two.bus.renew();
      assertEquals((await listener.count(1)).map(toPresenceChange), [["left", alice]]);
      await one.bus.renew();
      await one.bus.enter("r", alice);
      lab.time += LEASE_MS;
      await two.bus.renew();
      assertEquals(await two.bus.present("r"), [alice]);
    });
  });
}

function testClosing(name: string, create: CreateStore): void {
  describe(`${name}: close`, () => {
    it("fails every later call, and may be called twice", async () => {
      await using lab = await Lab.open(create);
      const { engine } = lab;
      const [message] = await say(engine, "r", 1);
      await engine.bus.enter("r", presence(ALICE, "a1"));
      await engine.close();
      await engine.close();
      const typing: EngineEvent = {
        type: "typing",
        username: "alice",
        isActive: true,
        origin: "c",
      };
      const calls: Record<string, () => Promise<unknown>> = {
        append: () => engine.log.append("r", draft(ALICE, "late")),
        edit: () => editMessage(engine, "r", { ...change(ALICE, message!.id), content: "late" }),
        delete: () => deleteMessage(engine, "r", change(ALICE, message!.id)),
        whisper: () => engine.log.whisper("r", privateDraft(ALICE, BOB, "late")),
        state: () => engine.log.state("r"),
        events: () => engine.log.events("r", 0, 1),
        messages: () => engine.log.messages("r", { limit: 1 }),
        inbox: () => engine.log.inbox("r", ALICE.person, 0, 1),
        inboxSeq: () => engine.log.inboxSeq("r", ALICE.person),
        canResume: () => engine.log.canResume("r", "e", 1),
        canResumeInbox: () => engine.log.canResumeInbox("r", ALICE.person, "e", 1),
        check: () => engine.check(),
        publish: () => engine.bus.publish("r", typing),
        enter: () => engine.bus.enter("r", presence(BOB, "b1")),
        subscribe: () => engine.bus.subscribe("r", () => {}),
        present: () => engine.bus.present("r"),
        renew: () => engine.bus.renew(),
        open: () => engine.open("r", { events: 1, messages: 1 }),
        addAccount: () => engine.accounts.addAccount(account("late")),
        account: () => engine.accounts.account("late"),
        addToken: () => engine.accounts.addToken(token("late", Infinity)),
        token: () => engine.accounts.token("late"),
        addBotToken: () => engine.accounts.addBotToken(botToken("late"), 20),
        botTokens: () => engine.accounts.botTokens("late"),
        endBotToken: () => engine.accounts.endBotToken("late", "late"),
        endToken: () => engine.accounts.endToken("late"),
        settings: () => engine.roomSettings.settings("r"),
        setSettings: () => engine.roomSettings.setSettings("r", DEFAULT_SETTINGS),
        countOwned: () => engine.roomSettings.countOwned("late"),
      };
      engine.bus.leave("r", "a1");
      const answers: string[] = [];
      for (const [call, run] of Object.entries(calls)) {
        const answer = await run().then(() => "done", (error) => (error as ChatError).code);
        answers.push(`${call}: ${answer}`);
      }
      assertEquals(answers, Object.keys(calls).map((call) => `${call}: unavailable`));
    });

    it("rejects unstored writes, and keeps stored ones", async () => {
      await using lab = await Lab.open(create);
      await say(lab.engine, "r", 3);
      using listener = await Listener.open(lab.engine, "r");
      const late = upTo(10).map((n) => lab.engine.log.append("r", draft(ALICE, `late ${n}`)));
      const results = Promise.allSettled(late);
      await lab.engine.close();
      const stored: LogEvent[] = [];
      for (const result of await results) {
        if (result.status === "fulfilled") stored.push(result.value.event);
        else assertEquals((result.reason as ChatError).code, "unavailable");
      }
      assertEquals(listener.logged.slice(0, stored.length), stored);
      if (!lab.isLasting) return;
      await lab.reopen();
      assertEquals(await lab.engine.log.events("r", 3, ALL), stored);
    });
  });
}
