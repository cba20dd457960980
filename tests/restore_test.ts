/**
 * Lives of one file: servers stop, are killed, lose their newest commits with the power, or start on
 * an older copy. In each case a client receives every event once and in order, or `recovered: false`.
 */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { DatabaseSync } from "node:sqlite";
import { SqliteEngine } from "../lib/engine/sqlite.ts";
import type { LogEvent, WelcomeEvent } from "../lib/protocol/events.ts";
import type { Member } from "../lib/room/room.ts";
import { createHub, FakePeer, guest } from "./support/fake_hub.ts";
import { Random, seeds } from "./support/random.ts";

const ROOM = "r";
const ALL = 1_000_000;

type FakeHub = ReturnType<typeof createHub>;

/** The files of a database, to copy and cut while a server has them open. */
class Files {
  readonly #dir = Deno.makeTempDirSync();
  #copies = 0;

  /** A path for the files of a new database. */
  newPath(): string {
    return `${this.#dir}/${++this.#copies}.db`;
  }

  /** Copies the current files, as if the machine stopped at this moment. */
  copy(path: string): string {
    const copy = this.newPath();
    // A checkpoint does not restart the log while a reader holds it.
    const reader = new DatabaseSync(path, { readOnly: true });
    try {
      reader.exec("BEGIN; SELECT count(*) FROM sqlite_schema");
      Deno.copyFileSync(path, copy);
      copyIfThere(`${path}-wal`, `${copy}-wal`);
    } finally {
      reader.close();
    }
    return copy;
  }

  /** Cuts off the end of the write-ahead log: commits that never reached the disk. */
  cut(path: string, random: Random): void {
    try {
      const { size } = Deno.statSync(`${path}-wal`);
      Deno.truncateSync(`${path}-wal`, random.between(0, size));
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }

  remove(): void {
    Deno.removeSync(this.#dir, { recursive: true });
  }
}

function copyIfThere(from: string, to: string): void {
  try {
    Deno.copyFileSync(from, to);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** A reader that follows the room over all lives of the server. */
class Reader {
  readonly name: string;
  /** The id of each event since its last new start, by `seq`. */
  readonly seen = new Map<number, string>();
  epoch = "";
  seq = 0;
  resets = 0;
  peer = new FakePeer();
  member: Member | undefined;

  constructor(name: string) {
    this.name = name;
  }

  async connect({ hub }: FakeHub): Promise<void> {
    this.peer = new FakePeer();
    const resume = this.epoch === "" ? {} : { resume: { epoch: this.epoch, after: this.seq } };
    const identity = guest(this.name, true);
    const request = { room: ROOM, username: this.name, format: "v1", identity, ...resume } as const;
    await hub.admit(request);
    this.member = hub.join(this.peer, request);
  }

  /** Reads the received events. */
  read(): void {
    for (const event of this.peer.events()) {
      if (event.type === "welcome") this.#welcomed(event);
      else if (event.type === "chat" && event.history) continue;
      else if (isLogged(event)) {
        assertEquals(event.seq, this.seq + 1, `${this.name} receives every number once, in order`);
        this.#saw(event);
      }
    }
  }

  #welcomed(welcome: WelcomeEvent): void {
    if (!welcome.recovered) {
      this.resets++;
      this.seen.clear();
      this.seq = welcome.seq;
    }
    this.epoch = welcome.epoch;
  }

  #saw({ seq, id, type }: LogEvent): void {
    this.seq = seq;
    this.seen.set(seq, `${type} ${id}`);
  }
}

function isLogged(event: { type: string }): event is LogEvent {
  return ["chat", "message_updated", "message_deleted"].includes(event.type);
}

/** One file, its readers, and all their accidents. */
class World {
  readonly #files = new Files();
  readonly #random: Random;
  readonly #keep: number;
  readonly readers = ["anna", "ben", "cara"].map((name) => new Reader(name));
  #path = this.#files.newPath();
  /** Copies of the files from earlier moments. */
  readonly #backups: string[] = [];
  /** The text of every message, by id. */
  readonly #texts = new Map<string, string>();
  #lives = 0;
  #said = 0;

  constructor(random: Random, keep: number) {
    this.#random = random;
    this.#keep = keep;
  }

  async run(lives: number): Promise<void> {
    try {
      for (let i = 0; i < lives; i++) await this.#live();
    } finally {
      this.#files.remove();
    }
  }

  /** One life of the server, from its start to its end. */
  async #live(): Promise<void> {
    const path = this.#path;
    const fake = this.#open();
    for (const reader of this.readers) await reader.connect(fake);
    await this.#settle(fake);
    const steps = this.#random.between(5, 40);
    for (let i = 0; i < steps; i++) await this.#step(fake, path);
    await this.#check(fake);
    await this.#end(fake, path);
  }

  #open(): FakeHub {
    const path = this.#path;
    return createHub({}, {}, {
      keep: this.#keep,
      firstId: ++this.#lives * 1_000_000,
      open: (options) => new SqliteEngine({ ...options, path }),
    });
  }

  async #step(fake: FakeHub, path: string): Promise<void> {
    const random = this.#random;
    const reader = random.pick(this.readers);
    const order = { talk: 8, change: 4, away: 2, back: 3, backup: 1 };
    switch (random.weighted(order)) {
      case "talk":
        for (let n = random.between(1, 20); n > 0; n--) this.#say(fake, reader);
        break;
      case "change":
        await this.#change(fake, reader);
        break;
      case "away":
        if (reader.member !== undefined) fake.hub.leave(reader.member);
        reader.member = undefined;
        break;
      case "back":
        if (reader.member === undefined) await reader.connect(fake);
        break;
      case "backup":
        this.#backups.push(this.#files.copy(path));
    }
    if (random.percent(70)) await this.#settle(fake);
  }

  #say({ hub }: FakeHub, { member }: Reader): void {
    if (member === undefined) return;
    hub.receive(member, JSON.stringify({ type: "chat", content: `text ${++this.#said}` }));
  }

  /** Edits or deletes one of the newest messages. */
  async #change({ hub, engine }: FakeHub, { member }: Reader): Promise<void> {
    if (member === undefined) return;
    const messages = await engine.log.messages(ROOM, { limit: 10 });
    if (messages.length === 0) return;
    const { id } = this.#random.pick(messages);
    const change = this.#random.percent(50)
      ? { type: "edit", id, content: `text ${++this.#said}` }
      : { type: "delete", id };
    hub.receive(member, JSON.stringify(change));
  }

  async #settle(fake: FakeHub): Promise<void> {
    await fake.settle();
    for (const reader of this.readers) reader.read();
  }

  /** Every reader's events match the log, and no two messages share an id. */
  async #check(fake: FakeHub): Promise<void> {
    await this.#settle(fake);
    const { oldestSeq, lastSeq } = await fake.engine.log.state(ROOM);
    const events = await fake.engine.log.events(ROOM, oldestSeq - 1, ALL);
    const log = new Map(events.map(({ seq, type, id }) => [seq, `${type} ${id}`]));
    for (const reader of this.readers) {
      if (reader.member !== undefined) assertEquals(reader.seq, lastSeq, `${reader.name} is level`);
      // A reader that is away has not had its next welcome yet.
      if (reader.member === undefined) continue;
      for (const [seq, event] of reader.seen) {
        if (seq >= oldestSeq) assertEquals(log.get(seq), event, `${reader.name} saw ${seq}`);
      }
    }
    for (const event of events) {
      if (event.type !== "chat" || event.edited || event.deleted) continue;
      const text = this.#texts.get(event.id) ?? event.content;
      this.#texts.set(event.id, text);
      assertEquals(event.content, text, `${event.id} names one message`);
    }
  }

  /** Ends the life in one of several ways, and checks the loss. */
  async #end(fake: FakeHub, path: string): Promise<void> {
    const random = this.#random;
    const level = this.readers.filter(({ member }) => member !== undefined);
    const kind = random.weighted({ well: 3, killed: 3, cut: 3, restored: 2 });
    if (kind === "killed" || kind === "cut") this.#path = this.#files.copy(path);
    if (kind === "cut") this.#files.cut(this.#path, random);
    if (kind === "restored" && this.#backups.length > 0) {
      this.#path = this.#files.copy(random.pick(this.#backups));
    }
    await fake.engine.close();
    for (const reader of this.readers) reader.member = undefined;
    if (kind === "well" || kind === "killed") await this.#checkPlaces(level);
  }

  /** After an end without loss, readers that were up to date resume. */
  async #checkPlaces(level: readonly Reader[]): Promise<void> {
    const fake = this.#open();
    for (const reader of level) {
      const { resets } = reader;
      await reader.connect(fake);
      await this.#settle(fake);
      assertEquals(reader.resets, resets, `${reader.name} keeps its place`);
    }
    await this.#check(fake);
    await fake.engine.close();
    for (const reader of this.readers) reader.member = undefined;
  }
}

describe("Readers of a file with many lives", () => {
  for (const seed of seeds(4)) {
    for (const keep of [Infinity, 150]) {
      it(`receive everything once, or recovered: false, keeping ${keep} (SEED=${seed})`, async () => {
        const world = new World(new Random(seed), keep);
        await world.run(25);
        const resets = world.readers.reduce((sum, reader) => sum + reader.resets, 0);
        assert(resets > 3, "Some ends of a life lose something.");
      });
    }
  }
});
