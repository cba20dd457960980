/**
 * Instances on one engine, clients on all of them, and the promises that must hold.
 *
 * @module
 */

import { assert, assertEquals, AssertionError } from "@std/assert";
import { SUBPROTOCOL } from "../../lib/protocol/encode.ts";
import type { Event, LogEvent } from "../../lib/protocol/events.ts";
import { ServerProcess } from "./process.ts";
import { Random } from "./random.ts";
import { freePort } from "./free_port.ts";
import { Wire } from "./wire.ts";

/** Wait of a client before it reconnects, in milliseconds. */
const RETRY_MS = 100;

/** Maximum time of wrong presence: a lease and its renewal, and as much again for slow machines. */
const PRESENCE_MS = 30_000;

/** Maximum time until everything else is up to date, in milliseconds. */
const LEVEL_MS = 20_000;

/** An engine for several instances, under the test's control. */
export interface ChaosEngine extends AsyncDisposable {
  readonly name: string;
  readonly port: number;
  /** The `DATABASE_URL` for an instance with this wire. */
  urlAt(port: number): string;
  kill(): Promise<void>;
  start(): Promise<void>;
  freeze(): void | Promise<void>;
  thaw(): void | Promise<void>;
  /**
   * Promotes a replica, which may lack the last messages.
   *
   * @returns the replica's port
   */
  failOver(beforeCut: () => Promise<void>): Promise<number>;
  /** Whether the failover loses acked messages. */
  readonly losesTail: boolean;
}

/** One instance, and its wire to the engine. */
class Instance implements AsyncDisposable {
  readonly wire: Wire;
  readonly port = freePort();
  readonly #engine: ChaosEngine;
  #process!: ServerProcess;

  constructor(engine: ChaosEngine) {
    this.#engine = engine;
    this.wire = new Wire({ port: engine.port });
  }

  async start(): Promise<void> {
    const env = { DATABASE_URL: this.#engine.urlAt(this.wire.port), PORT: String(this.port) };
    this.#process = await ServerProcess.start({ env });
  }

  signal(signal: Deno.Signal): void {
    this.#process.kill(signal);
  }

  async kill(): Promise<void> {
    await this.#process.stop("SIGKILL");
  }

  /** Stops it as a service manager does. Returns the time it took, in milliseconds. */
  async stop(): Promise<number> {
    const start = performance.now();
    await this.#process.stop("SIGTERM");
    return performance.now() - start;
  }

  /** The status of `/health`. */
  async health(): Promise<number> {
    const response = await fetch(`http://127.0.0.1:${this.port}/health`);
    await response.body?.cancel();
    return response.status;
  }

  /** The newest lines of its log. */
  get log(): string[] {
    return this.#process.log.slice(-20).map((line) => JSON.stringify(line));
  }

  /** Its unexpected log lines: errors. */
  get faults(): string[] {
    const { log, stderr } = this.#process;
    const isFault = (msg: string) => /command failed|missed events|cannot be welcomed/.test(msg);
    return [...log.filter(({ msg }) => isFault(msg)).map((line) => JSON.stringify(line)), stderr]
      .filter((text) => text !== "");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGCONT");
    await this.kill();
    await this.wire[Symbol.asyncDispose]();
  }
}

/** The fate of a message: `unknown` if the connection ended first. */
type Outcome = "acked" | "refused" | "unknown";

/** A part of a room's log that a client received without a break. */
type Stretch = { readonly seq: number; readonly id: string }[];

/** A client that reconnects and resumes, sends each message once, and records its events. */
export class ChaosClient {
  readonly name: string;
  readonly room: string;
  readonly instance: Instance;
  readonly outcomes = new Map<string, Outcome>();
  /** The same for its private messages, with their receivers. */
  readonly whispers = new Map<string, { readonly to: ChaosClient; outcome: Outcome }>();
  /** The private messages it received. */
  readonly heard: string[] = [];
  /** Each begins where the client could not resume. */
  readonly stretches: Stretch[] = [];
  /** The errors found. */
  readonly faults: string[] = [];
  /** The users in the room, from its events. */
  readonly users = new Set<string>();
  /** The close codes of its connections. */
  readonly closes: number[] = [];
  #socket: WebSocket | undefined;
  #isWelcome = false;
  #welcomes = 0;
  #epoch = "";
  #seq = 0;
  #session = "";
  /** All private messages up to this one arrived, and these beyond it. */
  #inbox = 0;
  readonly #ahead = new Set<number>();
  #sent = 0;
  /** Distinguishes its messages from those of another client with its name. */
  readonly #id = crypto.randomUUID().slice(0, 8);
  #isOver = false;
  #running: Promise<void>;

  constructor(instance: Instance, room: string, name: string) {
    this.instance = instance;
    this.room = room;
    this.name = name;
    this.#running = this.#run();
  }

  get isHere(): boolean {
    return this.#isWelcome;
  }

  get seq(): number {
    return this.#seq;
  }

  /** Sends a unique message. */
  say(): void {
    if (!this.#isWelcome) return;
    const content = `${this.name} ${this.#id} ${++this.#sent}`;
    this.outcomes.set(content, "unknown");
    this.#socket!.send(JSON.stringify({ type: "chat", content, ref: content }));
  }

  /** Sends a unique private message. */
  whisper(to: ChaosClient): void {
    if (!this.#isWelcome || !to.isHere) return;
    const content = `${this.name} ${this.#id} ${++this.#sent}`;
    this.whispers.set(content, { to, outcome: "unknown" });
    this.#socket!.send(JSON.stringify({ type: "dm", to: to.name, content, ref: content }));
  }

  /** Leaves for good. */
  async leave(): Promise<void> {
    this.#isOver = true;
    this.#socket?.close();
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#isOver) {
      const before = this.#welcomes;
      await this.#connect();
      if (this.#welcomes === before && !this.#isOver) await this.#askWhy();
      if (!this.#isOver) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  /** Asks why there was no welcome, as a browser does: another person may own the name. */
  async #askWhy(): Promise<void> {
    const query = new URLSearchParams({ username: this.name, session: this.#session });
    const url = `http://127.0.0.1:${this.instance.port}/ws/${this.room}?${query}`;
    const response = await fetch(url).catch(() => undefined);
    await response?.body?.cancel();
    if (response?.status !== 409) return;
    this.closes.push(4009);
    this.#isOver = true;
  }

  #connect(): Promise<void> {
    const query = new URLSearchParams({ username: this.name });
    if (this.#session !== "") query.set("session", this.#session);
    if (this.#epoch !== "") {
      query.set("epoch", this.#epoch);
      query.set("after", String(this.#seq));
      query.set("inbox", String(this.#inbox));
    }
    const { port } = this.instance;
    const socket = new WebSocket(`ws://127.0.0.1:${port}/ws/${this.room}?${query}`, [SUBPROTOCOL]);
    this.#socket = socket;
    return new Promise((resolve) => {
      socket.onmessage = ({ data }) => {
        const frame = JSON.parse(data);
        for (const event of Array.isArray(frame) ? frame : [frame]) this.#receive(event);
      };
      socket.onerror = (event) => event.preventDefault();
      socket.onclose = ({ code }) => {
        this.#isWelcome = false;
        this.closes.push(code);
        // Another person owns the name.
        if (code === 4009) this.#isOver = true;
        resolve();
      };
    });
  }

  #receive(event: Event): void {
    switch (event.type) {
      case "welcome":
        return this.#begin(event);
      case "epoch":
        this.#epoch = event.epoch;
        return;
      case "chat":
      case "message_updated":
      case "message_deleted":
        return this.#note(event);
      case "dm":
        if (!event.history) this.heard.push(event.content);
        return this.#count(event.inbox_seq);
      case "ack":
        if (event.inbox_seq !== undefined) this.#count(event.inbox_seq);
        return this.#settle(event.ref!, "acked");
      case "error":
        if (event.ref !== undefined) this.#settle(event.ref, "refused");
        return;
      case "presence":
        for (const username of event.joined) this.#change(username, true);
        for (const username of event.left) this.#change(username, false);
    }
  }

  #settle(ref: string, outcome: Outcome): void {
    const whisper = this.whispers.get(ref);
    if (whisper !== undefined) whisper.outcome = outcome;
    else this.outcomes.set(ref, outcome);
  }

  #count(inboxSeq: number): void {
    this.#ahead.add(inboxSeq);
    while (this.#ahead.delete(this.#inbox + 1)) this.#inbox++;
  }

  #begin(welcome: Extract<Event, { type: "welcome" }>): void {
    this.#isWelcome = true;
    this.#welcomes++;
    this.#session = welcome.session;
    this.#epoch = welcome.epoch;
    this.users.clear();
    for (const { username } of welcome.users) this.users.add(username);
    if (welcome.recovered) return;
    this.#seq = welcome.seq;
    this.#inbox = welcome.inbox_seq;
    this.stretches.push([]);
  }

  #note(event: LogEvent & { history?: true }): void {
    if (event.history) return;
    if (event.seq !== this.#seq + 1) {
      this.faults.push(`${this.name} received ${event.seq} after ${this.#seq}`);
    }
    this.#seq = event.seq;
    this.stretches.at(-1)!.push({ seq: event.seq, id: event.id });
  }

  #change(username: string, isHere: boolean): void {
    // The own join arrives again after the welcome.
    if (this.users.has(username) === isHere && username !== this.name) {
      const what = isHere ? "joined" : "left";
      this.faults.push(`${this.name} heard twice that ${username} ${what}`);
    }
    if (isHere) this.users.add(username);
    else this.users.delete(username);
  }
}

/** The counts of messages, by fate. */
export interface Figures {
  readonly acked: number;
  readonly refused: number;
  readonly unknown: number;
  /** Acked, but not in the log. */
  readonly lost: number;
}

/** Instances on one engine, and their clients. */
export class Chaos implements AsyncDisposable {
  readonly engine: ChaosEngine;
  readonly instances: Instance[] = [];
  clients: ChaosClient[] = [];
  /** The fates of messages, for each room of each round. */
  readonly figures: Figures[] = [];
  readonly #random: Random;
  #rounds = 0;
  #talking: ReturnType<typeof setInterval> | undefined;

  private constructor(engine: ChaosEngine, random: Random) {
    this.engine = engine;
    this.#random = random;
  }

  /** Starts instances. */
  static async start(engine: ChaosEngine, count: number, seed: number): Promise<Chaos> {
    const chaos = new Chaos(engine, new Random(seed));
    for (let i = 0; i < count; i++) {
      const instance = new Instance(engine);
      chaos.instances.push(instance);
      await instance.start();
    }
    return chaos;
  }

  /** One of the instances. */
  pick(): Instance {
    return this.#random.pick(this.instances);
  }

  /** A pseudo-random number of milliseconds. */
  async sleep(least: number, most = least): Promise<void> {
    const ms = this.#random.between(least, most);
    await new Promise((resolve) => setTimeout(resolve, ms));
  }

  /**
   * Lets clients talk in two rooms, causes a failure meanwhile, and checks the promises
   * afterwards.
   *
   * @param mayLose whether acked messages may be lost, with notice to the clients
   */
  async round(happen: () => Promise<void>, mayLose = false): Promise<void> {
    const round = ++this.#rounds;
    const rooms = [`room-${round}-a`, `room-${round}-b`];
    this.clients = this.instances.flatMap((instance, i) =>
      [0, 1, 2, 3].map((n) => new ChaosClient(instance, rooms[n % 2]!, `${"abc"[i]}${n}-${round}`))
    );
    await this.until("all are here", LEVEL_MS, () => this.clients.every(({ isHere }) => isHere));
    this.#talk();
    await this.sleep(300, 700);
    await happen();
    await this.sleep(300, 700);
    clearInterval(this.#talking);
    await this.#settle();
    for (const room of rooms) await this.#check(room, mayLose);
    for (const { faults } of this.instances) assertEquals(faults, []);
    await Promise.all(this.clients.map((client) => client.leave()));
  }

  /** Waits until a condition holds. */
  async until(what: string, ms: number, holds: () => boolean | Promise<boolean>): Promise<void> {
    const end = performance.now() + ms;
    while (!await holds()) {
      if (performance.now() > end) {
        const logs = this.instances.map(({ port, log }) => `${port}\n${log.join("\n")}`);
        throw new AssertionError(`${this.engine.name}: not ${what}\n${logs.join("\n")}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Waits until every instance reports this health. */
  async untilHealth(status: number, ms = 10_000, instances = this.instances): Promise<void> {
    for (const instance of instances) {
      await this.until(`at health ${status}`, ms, async () => await instance.health() === status);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#talking);
    await Promise.all(this.clients.map((client) => client.leave()));
    for (const instance of this.instances) await instance[Symbol.asyncDispose]();
    await this.engine[Symbol.asyncDispose]();
  }

  #talk(): void {
    this.#talking = setInterval(() => {
      for (const client of this.clients) {
        if (this.#random.percent(40)) client.say();
        const to = this.#random.pick(this.#present(client.room));
        if (to !== client && this.#random.percent(5)) client.whisper(to);
      }
    }, 20);
  }

  /** The clients that are still in a room. */
  #present(room: string): ChaosClient[] {
    return this.clients.filter((client) => client.room === room && !client.closes.includes(4009));
  }

  /** Waits until everybody has reconnected and received everything. */
  async #settle(): Promise<void> {
    await this.untilHealth(200, LEVEL_MS);
    for (const room of new Set(this.clients.map(({ room }) => room))) {
      const present = this.#present(room);
      await this.until("all are back", LEVEL_MS, () => present.every(({ isHere }) => isHere));
      let last = -1;
      await this.until("level", LEVEL_MS, async () => {
        const seqs = present.map(({ seq }) => seq);
        const isLevel = seqs.every((seq) => seq === seqs[0] && seq === last);
        last = Math.max(...seqs);
        await new Promise((resolve) => setTimeout(resolve, 200));
        return isLevel;
      });
    }
  }

  async #check(room: string, mayLose: boolean): Promise<void> {
    const log = await this.#readLog(room);
    const present = this.#present(room);
    const here = present.map(({ name }) => name).sort();
    const clients = this.clients.filter((client) => client.room === room);
    await this.until(
      `the truth of ${here} in ${room}`,
      PRESENCE_MS,
      () => present.every(({ users }) => [...users].sort().join() === here.join()),
    ).catch((error) => {
      const views = present.map(({ name, users }) => `${name}: ${[...users].sort()}`);
      throw new AssertionError(`${error.message}\n${views.join("\n")}`);
    });
    for (const client of clients) this.#checkClient(client, log, mayLose);
    this.#checkOutcomes(clients, log, mayLose);
    if (!mayLose) this.#checkWhispers(clients);
  }

  /** Every acked private message arrived once, and no refused one did. */
  #checkWhispers(clients: readonly ChaosClient[]): void {
    const displaced = new Set(
      clients.filter(({ closes }) => closes.includes(4009)).map(({ name }) => name),
    );
    for (const { name, whispers } of clients) {
      for (const [text, { to, outcome }] of whispers) {
        // Two clients had the name, one after the other.
        if (displaced.has(to.name)) continue;
        const count = to.heard.filter((one) => one === text).length;
        const what = `${to.name} received ${count} times what ${name} was ${outcome}: ${text}`;
        if (outcome === "acked") assertEquals(count, 1, what);
        else assert(outcome === "unknown" && count <= 1 || count === 0, what);
      }
    }
  }

  /** Each part that a client received matches the log, unless lost since. */
  #checkClient({ name, stretches, faults }: ChaosClient, log: LogEvent[], mayLose: boolean): void {
    assertEquals(faults, []);
    for (const [i, stretch] of stretches.entries()) {
      if (mayLose && i < stretches.length - 1) continue;
      for (const { seq, id } of stretch) {
        assertEquals(log[seq - 1]?.id, id, `${this.engine.name}: ${name} received ${id}`);
      }
    }
    if (!mayLose) assertEquals(stretches.length, 1, `${name} could not resume`);
  }

  #checkOutcomes(clients: readonly ChaosClient[], log: LogEvent[], mayLose: boolean): void {
    const stored = log.map(({ content }) => content);
    assertEquals(new Set(stored).size, stored.length, "A message is stored twice.");
    const known = new Set(stored);
    const outcomes = clients.flatMap(({ outcomes }) => [...outcomes]);
    const of = (wanted: Outcome) =>
      outcomes.filter(([, one]) => one === wanted).map(([text]) => text);
    const [acked, refused, unknown] = [of("acked"), of("refused"), of("unknown")];
    assert(acked.length > 0);
    assertEquals(refused.filter((text) => known.has(text)), [], "Refused, and stored after all.");
    const lost = acked.filter((text) => !known.has(text));
    if (!mayLose) assertEquals(lost, [], "Acknowledged, and lost.");
    this.figures.push({
      acked: acked.length,
      refused: refused.length,
      unknown: unknown.length,
      lost: lost.length,
    });
  }

  /** The log of a room, the same on every instance. */
  async #readLog(room: string): Promise<LogEvent[]> {
    const logs = await Promise.all(this.instances.map(({ port }) => readLog(port, room)));
    for (const log of logs) assertEquals(log, logs[0]);
    return logs[0]!;
  }
}

/** Reads a whole log, as a client that resumes from the beginning. */
async function readLog(port: number, room: string): Promise<LogEvent[]> {
  const query = new URLSearchParams({ username: `reader-${port}`, epoch: "any", after: "0" });
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws/${room}?${query}`, [SUBPROTOCOL]);
  const log: LogEvent[] = [];
  let last = Infinity;
  await new Promise<void>((resolve, reject) => {
    socket.onclose = () => reject(new AssertionError(`The log of ${room} cannot be read.`));
    socket.onmessage = ({ data }) => {
      const frame = JSON.parse(data);
      for (const event of (Array.isArray(frame) ? frame : [frame]) as Event[]) {
        if (event.type === "welcome") {
          assert(event.recovered);
          last = event.seq;
        } else if ("seq" in event && event.type !== "ack") log.push(event);
      }
      if (log.length >= last) resolve();
    };
  });
  socket.onclose = null;
  const closed = new Promise((resolve) => socket.onclose = resolve);
  socket.close();
  await closed;
  return log;
}
