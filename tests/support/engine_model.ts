/**
 * Compares an engine with a simple model, in random steps.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type {
  Author,
  Draft,
  EngineEvent,
  InboxEntry,
  PrivateDraft,
  PrivateMessage,
  Receipt,
} from "../../lib/engine/engine.ts";
import { nameKey } from "../../lib/names.ts";
import type { ChatEvent, LogEvent } from "../../lib/protocol/events.ts";
import {
  ALICE,
  ALL,
  assertRefused,
  BOB,
  CAROL,
  change,
  type CreateStore,
  deleteMessage,
  draft,
  editMessage,
  Lab,
  Listener,
  privateDraft,
  SLACK,
  upTo,
} from "./engine_lab.ts";
import { Random, seeds } from "./random.ts";

/** The expected contents of a room, as simply as possible. */
class RoomModel {
  /** All kept events, in their current form. */
  events: LogEvent[] = [];
  lastSeq = 0;
  oldestSeq = 1;
  /** Authors by message. */
  readonly persons = new Map<string, string>();
  /** The id, first text and answered message of each message with a ref, by person and ref. */
  readonly refs = new Map<string, Pick<Draft, "content" | "replyTo"> & { readonly id: string }>();
  readonly inboxes = new Map<string, InboxEntry[]>();
  readonly privateRefs = new Map<string, PrivateMessage>();
  /** The events of the room since the engine was opened. */
  told: EngineEvent[] = [];

  message(id: string | undefined): ChatEvent | undefined {
    return this.events.find((event): event is ChatEvent =>
      event.type === "chat" && event.id === id
    );
  }

  inbox(person: string): InboxEntry[] {
    const inbox = this.inboxes.get(person) ?? [];
    this.inboxes.set(person, inbox);
    return inbox;
  }

  /** The readable events: a replaced change has the current text of its message. */
  view(): LogEvent[] {
    return this.events.map((event, i) => {
      const isReplaced = event.type === "message_updated" &&
        this.events.slice(i + 1).some(({ id }) => id === event.id);
      return isReplaced ? { ...event, content: this.message(event.id)?.content ?? "" } : event;
    });
  }

  /** Drops events that the engine may have dropped. */
  trim(oldestSeq: number): void {
    this.oldestSeq = oldestSeq;
    this.events = this.events.filter(({ seq }) => seq >= oldestSeq);
  }
}

const MODEL_KEEP = 30;

const STEPS = {
  append: 30,
  appendWithRef: 12,
  reply: 8,
  repeat: 12,
  edit: 12,
  delete: 8,
  whisper: 10,
  repeatWhisper: 5,
  atOnce: 5,
  jump: 10,
  reopen: 2,
  kill: 2,
};

/** An engine and a model of it, which must never differ. */
class Comparison {
  readonly #lab: Lab;
  readonly #random: Random;
  readonly #rooms = new Map(["red", "green", "blue"].map((name) => [name, new RoomModel()]));
  readonly #people = [ALICE, { ...ALICE, username: "Alice" }, BOB, CAROL];
  #listeners = new Map<string, Listener>();
  #refs = 0;
  #texts = 0;

  constructor(lab: Lab, random: Random) {
    this.#lab = lab;
    this.#random = random;
  }

  async run(steps: number): Promise<void> {
    await this.#listen();
    for (let i = 0; i < steps; i++) {
      const room = this.#random.pick([...this.#rooms.keys()]);
      await this.#step(room, this.#rooms.get(room)!);
      await this.#compare(room);
    }
    for (const room of this.#rooms.keys()) await this.#compare(room);
    for (const listener of this.#listeners.values()) listener.stop();
  }

  async #step(room: string, model: RoomModel): Promise<void> {
    const random = this.#random;
    const author = random.pick(this.#people);
    switch (random.weighted(STEPS)) {
      case "append":
        return await this.#append(room, model, draft(author, this.#text()));
      case "appendWithRef":
        return await this.#append(room, model, draft(author, this.#text(), `ref ${++this.#refs}`));
      case "reply":
        return await this.#reply(room, model, draft(author, this.#text(), `ref ${++this.#refs}`));
      case "repeat":
        if (model.refs.size === 0) return;
        return await this.#repeat(room, model, random.pick([...model.refs.keys()]));
      case "edit":
        return await this.#change(room, model, author, this.#text());
      case "delete":
        return await this.#change(room, model, author, undefined);
      case "whisper": {
        const to = random.pick(this.#people.filter(({ person }) => person !== author.person));
        const ref = random.percent(50) ? `ref ${++this.#refs}` : undefined;
        return await this.#whisper(room, model, privateDraft(author, to, this.#text(), ref));
      }
      case "repeatWhisper":
        if (model.privateRefs.size === 0) return;
        return await this.#repeatWhisper(room, model, random.pick([...model.privateRefs.keys()]));
      case "atOnce": {
        const drafts = upTo(random.between(2, 40)).map(() => draft(author, this.#text()));
        const receipts = await Promise.all(
          drafts.map((one) => this.#lab.engine.log.append(room, one)),
        );
        for (const [i, receipt] of receipts.entries()) {
          this.#added(room, model, drafts[i]!, receipt);
        }
        return;
      }
      case "jump":
        this.#lab.time += random.between(-5000, 8000);
        return;
      case "reopen":
        return await this.#restart(() => this.#lab.reopen());
      case "kill":
        return await this.#restart(() => this.#lab.kill());
    }
  }

  async #restart(restart: () => Promise<void>): Promise<void> {
    if (!this.#lab.isLasting) return;
    for (const name of this.#rooms.keys()) await this.#compareNews(name);
    await restart();
    await this.#listen();
  }

  async #listen(): Promise<void> {
    for (const listener of this.#listeners.values()) listener.stop();
    for (const [room, model] of this.#rooms) {
      this.#listeners.set(room, await Listener.open(this.#lab.engine, room));
      model.told = [];
    }
  }

  #text(): string {
    return `text ${++this.#texts}`;
  }

  /** Notes an event that must be the next of the log. */
  #next(model: RoomModel, event: LogEvent, origin: string): void {
    assertEquals(event.seq, ++model.lastSeq);
    const now = new Date(this.#lab.time).toISOString();
    const last = model.events.at(-1)?.timestamp ?? now;
    assert(event.timestamp >= now && event.timestamp >= last, "Time goes backwards.");
    model.events.push(event);
    model.told.push({ type: "logged", event, origin });
  }

  async #append(room: string, model: RoomModel, one: Draft): Promise<void> {
    this.#added(room, model, one, await this.#lab.engine.log.append(room, one));
  }

  /** Replies to a random message, mostly a kept one. */
  async #reply(room: string, model: RoomModel, one: Draft): Promise<void> {
    const others = [...this.#rooms.values()].flatMap(({ events }) => events.map(({ id }) => id));
    const own = model.events.map(({ id }) => id);
    const replyTo = this.#random.pick([...others, ...own, ...own, ...own, "no such id"]);
    const reply = { ...one, replyTo };
    if (model.message(replyTo) !== undefined) return await this.#append(room, model, reply);
    await assertRefused(() => this.#lab.engine.log.append(room, reply), "not_found");
  }

  #added(room: string, model: RoomModel, one: Draft, receipt: Receipt<ChatEvent>): void {
    const { event, isDuplicate } = receipt;
    assertEquals(isDuplicate, false);
    const { id, seq, timestamp } = event;
    const { content, username, person, ref, replyTo } = one;
    assertEquals(event, {
      ...{ type: "chat", content, room, username, id, seq, timestamp },
      ...(ref !== undefined && { ref }),
      ...(replyTo !== undefined && { reply_to: replyTo }),
    });
    assert(!model.persons.has(id), "An id was given twice.");
    model.persons.set(id, person);
    if (ref !== undefined) model.refs.set(`${person}/${ref}`, { id, content, replyTo });
    this.#next(model, event, one.origin);
  }

  async #repeat(room: string, model: RoomModel, key: string): Promise<void> {
    const [person, ref] = key.split("/") as [string, string];
    const author = this.#random.pick(this.#people.filter((one) => one.person === person));
    const { id, content, replyTo } = model.refs.get(key)!;
    const isOther = this.#random.percent(30);
    const one = { ...draft(author, isOther ? this.#text() : content, ref), replyTo };
    const message = model.message(id);
    const run = () => this.#lab.engine.log.append(room, one);
    const isUnchanged = message !== undefined && !message.edited && !message.deleted;
    if (isOther && isUnchanged) return await assertRefused(run, "conflict");
    // A dropped message may be known or not; a kept one must be known.
    if (message === undefined && (isOther || replyTo !== undefined)) return;
    const receipt = await run();
    if (message !== undefined) return assertEquals(receipt, { event: message, isDuplicate: true });
    if (receipt.isDuplicate) return assertEquals(receipt.event.id, id);
    this.#added(room, model, one, receipt);
  }

  async #change(room: string, model: RoomModel, author: Author, content?: string): Promise<void> {
    const { engine } = this.#lab;
    const random = this.#random;
    const ids = [...model.persons.keys(), "no such id"];
    // Mostly a recent and own one, so that many change more than once.
    const id = (random.percent(80) ? ids.at(-1 - random.below(8)) : undefined) ?? random.pick(ids);
    const own = this.#people.find(({ person }) => person === model.persons.get(id));
    const wish = change(random.percent(70) ? own ?? author : author, id);
    const message = model.message(id);
    const run = () => {
      if (content === undefined) return deleteMessage(engine, room, wish);
      return editMessage(engine, room, { ...wish, content });
    };
    if (message === undefined || message.deleted) return await assertRefused(run, "not_found");
    if (model.persons.get(id) !== wish.person) return await assertRefused(run, "forbidden");
    const { event } = await run();
    const { type, username, seq, timestamp } = event;
    const base = { room, username: message.username, id, seq, timestamp };
    assertEquals(username, message.username);
    if (content === undefined) {
      assertEquals(event, { type: "message_deleted", content: "", ...base });
      model.events = model.events.map((one) => this.#withoutText(one, id));
    } else {
      assertEquals([type, event.content], ["message_updated", content]);
      const at = model.events.indexOf(message);
      model.events[at] = { ...message, content, edited: true };
    }
    this.#next(model, event, wish.origin);
  }

  #withoutText(event: LogEvent, id: string): LogEvent {
    if (event.id !== id) return event;
    if (event.type !== "chat") return { ...event, content: "" };
    const { reply_to: _, edited: __, ...rest } = event;
    return { ...rest, content: "", deleted: true };
  }

  async #whisper(
    room: string,
    model: RoomModel,
    one: PrivateDraft & { to: Author },
  ): Promise<void> {
    const { event, isDuplicate } = await this.#lab.engine.log.whisper(room, one);
    assertEquals(isDuplicate, false);
    const { id, timestamp } = event;
    const { content, username, person, to, ref, origin } = one;
    const [mine, theirs] = [model.inbox(person), model.inbox(to.person)];
    const message: PrivateMessage = {
      id,
      content,
      timestamp,
      from: { username, person },
      to,
      fromSeq: (mine.at(-1)?.inboxSeq ?? 0) + 1,
      toSeq: (theirs.at(-1)?.inboxSeq ?? 0) + 1,
      ...(ref !== undefined && { ref }),
    };
    assertEquals(event, message);
    mine.push({ inboxSeq: message.fromSeq, message });
    theirs.push({ inboxSeq: message.toSeq, message });
    if (ref !== undefined) model.privateRefs.set(`${person}/${nameKey(username)}/${ref}`, message);
    model.told.push({ type: "private", message, origin });
  }

  async #repeatWhisper(room: string, model: RoomModel, key: string): Promise<void> {
    const [person, username, ref] = key.split("/") as [string, string, string];
    const first = model.privateRefs.get(key)!;
    const isOther = this.#random.percent(30);
    const content = isOther ? this.#text() : first.content;
    const one = privateDraft({ person, username }, first.to, content, ref);
    const oldest = (await this.#lab.engine.log.inbox(room, person, 0, 1))[0]!.inboxSeq;
    // Dropped messages may be forgotten.
    if (first.fromSeq < oldest) return;
    const run = () => this.#lab.engine.log.whisper(room, one);
    if (isOther) return await assertRefused(run, "conflict");
    assertEquals(await run(), { event: first, isDuplicate: true });
  }

  /** Checks everything visible of a room. */
  async #compare(room: string): Promise<void> {
    const model = this.#rooms.get(room)!;
    const { engine } = this.#lab;
    const { oldestSeq, lastSeq } = await engine.log.state(room);
    assertEquals(lastSeq, model.lastSeq);
    assert(oldestSeq >= model.oldestSeq, "What was dropped came back.");
    const kept = lastSeq - oldestSeq + 1;
    assert(kept >= Math.min(lastSeq, MODEL_KEEP), `${kept} of ${lastSeq} events are kept.`);
    assert(kept <= MODEL_KEEP + SLACK, `${kept} events are kept.`);
    model.trim(oldestSeq);
    const view = model.view();
    assertEquals(await engine.log.events(room, 0, ALL), view);

    const limit = this.#random.between(0, 60);
    const seq = this.#random.between(Math.max(0, oldestSeq - 5), lastSeq + 5);
    const after = view.filter((event) => event.seq > seq);
    assertEquals(
      await engine.log.events(room, Math.max(seq, oldestSeq - 1), limit),
      after.slice(0, limit),
    );
    const messages = model.events.filter((event): event is ChatEvent =>
      event.type === "chat" && !event.deleted
    );
    const [older, newer] = [
      messages.filter((event) => event.seq < seq),
      messages.filter((event) => event.seq > seq),
    ];
    const newest = (events: ChatEvent[]) => events.slice(Math.max(0, events.length - limit));
    assertEquals(await engine.log.messages(room, { limit }), newest(messages));
    assertEquals(await engine.log.messages(room, { before: seq, limit }), newest(older));
    assertEquals(await engine.log.messages(room, { after: seq, limit }), newer.slice(0, limit));

    for (const { person } of [ALICE, BOB, CAROL]) await this.#compareInbox(room, model, person);
    await this.#compareNews(room);
  }

  async #compareInbox(room: string, model: RoomModel, person: string): Promise<void> {
    const { engine } = this.#lab;
    const expected = model.inbox(person);
    const last = expected.at(-1)?.inboxSeq ?? 0;
    const found = await engine.log.inbox(room, person, 0, ALL);
    assertEquals(await engine.log.inboxSeq(room, person), last);
    assert(found.length >= Math.min(last, MODEL_KEEP) && found.length <= MODEL_KEEP + SLACK);
    assertEquals(found, expected.slice(expected.length - found.length));
  }

  async #compareNews(room: string): Promise<void> {
    const { told } = this.#rooms.get(room)!;
    assertEquals(await this.#listeners.get(room)!.count(told.length), told);
  }
}

/** Tests that compare an engine with a model, step by step. */
export function testAtRandom(name: string, create: CreateStore): void {
  describe(`${name}: any sequence of calls`, () => {
    for (const seed of seeds(3)) {
      it(`has the results of the model (SEED=${seed})`, async () => {
        await using lab = await Lab.open(create, { keep: MODEL_KEEP });
        // Each step of an engine on another server takes several round trips.
        await new Comparison(lab, new Random(seed)).run(lab.isShared ? 150 : 400);
      });
    }
  });
}
