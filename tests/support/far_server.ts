/**
 * A server for several instances, in this process: a memory store behind a wire that a test slows,
 * deafens, freezes or cuts, to test the remote engine's reaction.
 *
 * @module
 */

import { setImmediate } from "node:timers";
import { type EngineEvent, EVERYWHERE } from "../../lib/engine/engine.ts";
import { MemoryStore } from "../../lib/engine/memory.ts";
import {
  type Answer,
  type Backend,
  type Batch,
  type Beat,
  type Job,
  type Link,
  type LinkListener,
  type NewsItem,
  type Page,
  type Position,
  type Pulse,
  TooLate,
} from "../../lib/engine/remote/backend.ts";
import { ChatError, storeUnavailable } from "../../lib/errors.ts";

/** The engine's options that the server needs. */
export interface FarServerOptions {
  readonly clock: () => number;
  readonly newId: () => string;
  readonly keep: number;
  readonly leaseMs: number;
}

/** Numbers of one room. */
interface FarRoom {
  presence: number;
  readonly privates: Page["privates"][number][];
  erasures: number;
  /** Events of `EVERYWHERE`. */
  count: number;
}

/** The last batch of an instance. */
interface Kept {
  readonly number: number;
  readonly answers: Answer[];
}

/** The wire of one instance to the server. */
export class FarWire implements Backend {
  readonly name = "The far server";
  /** The delay of a call, of an answer, and of news, in milliseconds. */
  there = 0;
  back = 0;
  news = 0;
  /** Whether news and probes are lost. */
  isDeaf = false;
  /** Whether answers are lost. */
  isMute = false;
  /** The count of opened links. */
  links = 0;
  /** The calls that reached the server, by name. */
  readonly calls: string[] = [];
  readonly #server: FarServer;
  readonly #open = new Set<FarLink>();
  #isCut = false;

  constructor(server: FarServer) {
    this.#server = server;
  }

  connect(listener: LinkListener, signal: AbortSignal): Promise<Link> {
    return new Promise((resolve, reject) => {
      const give = () => {
        if (signal.aborted) return;
        if (this.#isCut) return reject(new Error("The wire is cut."));
        this.links++;
        const link = new FarLink(this, this.#server, listener, () => this.#open.delete(link));
        this.#open.add(link);
        resolve(link);
      };
      signal.addEventListener("abort", () => reject(new Error("Given up.")));
      this.#server.receive(give);
    });
  }

  /** Ends every link once. */
  kick(): void {
    for (const link of [...this.#open]) link.lose(new Error("The link is broken."));
  }

  /** Ends every link, until it is mended. */
  cut(): void {
    this.#isCut = true;
    this.kick();
  }

  mend(): void {
    this.#isCut = false;
  }
}

/** The server. */
export class FarServer {
  readonly store: MemoryStore;
  readonly #options: FarServerOptions;
  readonly #rooms = new Map<string, FarRoom>();
  readonly #links = new Set<FarLink>();
  readonly #kept = new Map<string, Kept>();
  /** The instance of each connection. */
  readonly #holders = new Map<string, string>();
  /** The end of each instance's lease. */
  readonly #leases = new Map<string, number>();
  readonly #ended = new Set<string>();
  #frozen: (() => void)[] | undefined;
  #items: { readonly room: string; readonly item: NewsItem }[] = [];

  constructor(options: FarServerOptions) {
    this.#options = options;
    this.store = new MemoryStore(options);
  }

  /** Stops until {@linkcode thaw}. */
  freeze(): void {
    this.#frozen ??= [];
  }

  thaw(): void {
    const waiting = this.#frozen ?? [];
    this.#frozen = undefined;
    for (const run of waiting) run();
  }

  /** Runs arriving calls, unless the server is frozen. */
  receive(run: () => void): void {
    if (this.#frozen === undefined) run();
    else this.#frozen.push(run);
  }

  add(link: FarLink): void {
    this.#links.add(link);
    this.#room(EVERYWHERE);
  }

  remove(link: FarLink): void {
    this.#links.delete(link);
  }

  turn({ instance, number, jobs, deadline }: Batch): Answer[] {
    const kept = this.#kept.get(instance);
    if (kept?.number === number) return kept.answers;
    if (Date.now() > deadline) throw new TooLate();
    const answers = jobs.map((job) => {
      try {
        return this.#run(instance, job);
      } catch (error) {
        if (error instanceof ChatError) return error;
        throw error;
      }
    });
    this.#kept.set(instance, { number, answers });
    this.publish();
    return answers;
  }

  #run(instance: string, job: Job): Answer {
    const { log, bus } = this.store;
    const { room } = job;
    const numbers = this.#room(room);
    switch (job.type) {
      case "append":
        return log.append(room, job.draft);
      case "change":
        return log.change(room, job.change);
      case "whisper":
        return log.whisper(room, job.draft);
      case "enter":
        if (!this.#isAlive(instance)) throw storeUnavailable();
        if (bus.presence(room, job.presence.connection) === undefined) {
          bus.enter(instance, room, job.presence);
          this.#holders.set(job.presence.connection, instance);
        }
        return numbers.presence;
      case "leave":
        return void bus.leave(instance, room, job.connection);
      case "publish":
        return void bus.publish(room, job.event);
      case "settings":
        return this.store.setSettings(room, job.settings);
      case "present":
        return bus.present(room);
      case "lastSeen":
        return bus.lastSeen(room, job.username);
    }
  }

  beat({ instance, leaseMs, probe, rooms }: Beat, link: FarLink): Pulse {
    const now = this.#options.clock();
    const isAlive = !this.#ended.has(instance) &&
      (!this.#leases.has(instance) || this.#isAlive(instance));
    if (isAlive) this.#leases.set(instance, now + leaseMs);
    for (const [other, until] of this.#leases) if (until < now) this.end(other);
    link.probe(probe);
    this.publish();
    const everywhere = this.#room(EVERYWHERE).count;
    return {
      time: Date.now(),
      isAlive,
      positions: rooms.map((room) => this.position(room)),
      everywhere,
    };
  }

  end(instance: string): void {
    this.#leases.delete(instance);
    this.#ended.add(instance);
    this.store.bus.end(instance);
    this.publish();
  }

  presences(instance: string): { room: string; connection: string }[] {
    return [...this.#rooms.keys()].flatMap((room) =>
      this.store.bus.present(room)
        .filter(({ connection }) => this.#holders.get(connection) === instance)
        .map(({ connection }) => ({ room, connection }))
    );
  }

  position(room: string): Position {
    const { presence, privates, erasures } = this.#room(room);
    const { epoch, lastSeq } = this.store.log.state(room);
    const settings = this.store.settings(room).version;
    return { epoch, seq: lastSeq, presence, privates: privates.length, settings, erasures };
  }

  page(room: string, since: Position, limit: number): Page {
    const { log, bus } = this.store;
    const position = this.position(room);
    return {
      position,
      continues: log.canResume(room, since.epoch, since.seq),
      events: log.events(room, since.seq, limit),
      privates: this.#room(room).privates.slice(since.privates, since.privates + limit),
      privatesTo: Math.min(position.privates, since.privates + limit),
      settings: since.settings === position.settings ? undefined : this.store.settings(room),
      present: since.presence === position.presence ? undefined : bus.present(room),
    };
  }

  #isAlive(instance: string): boolean {
    return (this.#leases.get(instance) ?? -Infinity) >= this.#options.clock();
  }

  #room(name: string): FarRoom {
    let room = this.#rooms.get(name);
    if (room === undefined) {
      room = { presence: 0, privates: [], erasures: 0, count: 0 };
      this.#rooms.set(name, room);
      this.store.bus.subscribe(name, (event) => this.#onEvent(name, event));
    }
    return room;
  }

  #onEvent(name: string, event: EngineEvent): void {
    const room = this.#room(name);
    let item: NewsItem = { event };
    if (name === EVERYWHERE) item = { event, number: ++room.count };
    else if (event.type === "private") {
      item = { event, number: room.privates.length + 1 };
      room.privates.push({ number: item.number!, message: event.message });
    } else if (event.type === "entered" || event.type === "left") {
      item = { event: { ...event, position: ++room.presence } };
    } else if (event.type === "erased") item = { event, number: ++room.erasures };
    this.#items.push({ room: name, item });
  }

  /** Sends the news of the last changes. */
  publish(): void {
    const items = this.#items;
    this.#items = [];
    for (const room of new Set(items.map(({ room }) => room))) {
      const { epoch } = this.store.log.state(room);
      const own = items.filter((one) => one.room === room).map(({ item }) => item);
      for (const link of this.#links) link.tell({ room, epoch, items: own });
    }
  }
}

/** One link. Its calls, its answers and its news each keep their order. */
class FarLink implements Link {
  readonly time = Date.now();
  readonly #wire: FarWire;
  readonly #server: FarServer;
  readonly #listener: LinkListener;
  readonly #onClose: () => void;
  readonly #subscribed = new Set<string>([EVERYWHERE]);
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();
  readonly #waiting = new Set<(error: Error) => void>();
  #isClosed = false;

  constructor(wire: FarWire, server: FarServer, listener: LinkListener, onClose: () => void) {
    this.#wire = wire;
    this.#server = server;
    this.#listener = listener;
    this.#onClose = onClose;
    server.add(this);
  }

  turn = (batch: Batch) => this.#call("turn", () => this.#server.turn(batch));
  subscribe = (room: string) =>
    this.#call("subscribe", () => {
      this.#subscribed.add(room);
      this.#server.position(room);
    });
  unsubscribe = (room: string) => void this.#subscribed.delete(room);
  open = (room: string, { events, messages }: { events: number; messages: number }) =>
    this.#call("open", () => {
      const { log, bus } = this.#server.store;
      const position = this.#server.position(room);
      const { oldestSeq } = log.state(room);
      return {
        position,
        oldestSeq,
        events: log.events(room, Math.max(0, position.seq - events), events),
        messages: log.messages(room, { limit: messages }),
        settings: this.#server.store.settings(room),
        present: bus.present(room),
      };
    });
  page = (room: string, since: Position, limit: number) =>
    this.#call("page", () => this.#server.page(room, since, limit));
  beat = (beat: Beat) => this.#call("beat", () => this.#server.beat(beat, this));
  end = (instance: string) => this.#call("end", () => this.#server.end(instance));
  presences = (instance: string) => this.#call("presences", () => this.#server.presences(instance));

  author = this.#reads("author");
  state = this.#reads("state");
  canResume = this.#reads("canResume");
  canResumeInbox = this.#reads("canResumeInbox");
  events = this.#reads("events");
  messages = this.#reads("messages");
  inbox = this.#reads("inbox");
  inboxSeq = this.#reads("inboxSeq");

  settings = this.#stores("settings");
  countOwned = this.#stores("countOwned");
  addAccount = this.#stores("addAccount");
  account = this.#stores("account");
  addToken = this.#stores("addToken");
  token = this.#stores("token");
  addBotToken = this.#stores("addBotToken");
  botTokens = this.#stores("botTokens");
  endBotToken = this.#stores("endBotToken");
  endToken = this.#stores("endToken");
  endTokens = (account: string) =>
    this.#call("endTokens", () => this.#server.store.endTokens(account));
  setPassword = (key: string, hash: string, kept: string) =>
    this.#call("setPassword", () => this.#server.store.setPassword(key, hash, kept));
  removeAccount = this.#stores("removeAccount");
  eraseNext = () => this.#call("eraseNext", () => this.#server.store.eraseNext());
  recheck = this.#stores("recheck");

  close(): void {
    this.#isClosed = true;
    this.#server.remove(this);
    this.#onClose();
    for (const timer of this.#timers) clearTimeout(timer);
    for (const reject of this.#waiting) reject(new Error("The link is closed."));
    this.#waiting.clear();
  }

  lose(reason: Error): void {
    this.close();
    this.#listener.onLost(reason);
  }

  tell(news: { room: string; epoch: string; items: NewsItem[] }): void {
    if (!this.#subscribed.has(news.room) || this.#wire.isDeaf) return;
    this.#later(this.#wire.news, () => this.#listener.onNews(news));
  }

  probe(probe: string): void {
    if (!this.#wire.isDeaf) this.#later(this.#wire.news, () => this.#listener.onProbe(probe));
  }

  #reads<K extends keyof MemoryStore["log"]>(name: K) {
    type Method = Extract<MemoryStore["log"][K], (...args: never[]) => unknown>;
    return (...args: Parameters<Method>) =>
      this.#call(name, () => {
        const { log } = this.#server.store;
        return (log[name] as (...args: unknown[]) => ReturnType<Method>)(...args);
      });
  }

  #stores<K extends keyof MemoryStore>(name: K) {
    type Method = Extract<MemoryStore[K], (...args: never[]) => unknown>;
    return (...args: Parameters<Method>) =>
      this.#call(name, () => {
        const { store } = this.#server;
        return (store[name] as (...args: unknown[]) => ReturnType<Method>).apply(store, args);
      });
  }

  #call<T>(name: string, run: () => T): Promise<T> {
    if (this.#isClosed) return Promise.reject(new Error("The link is closed."));
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    this.#waiting.add(reject);
    const answer = (settle: () => void) => {
      if (this.#wire.isMute) return;
      this.#later(this.#wire.back, () => {
        this.#waiting.delete(reject);
        settle();
      });
    };
    this.#later(this.#wire.there, () =>
      this.#server.receive(() => {
        this.#wire.calls.push(name);
        try {
          const value = run();
          this.#server.publish();
          answer(() => resolve(value));
        } catch (error) {
          answer(() => reject(error));
        }
      }));
    return promise;
  }

  /** Calls back after a delay, in order among equal delays, unless the link closes first. */
  #later(ms: number, run: () => void): void {
    if (ms === 0) return void setImmediate(() => this.#isClosed || run());
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      run();
    }, ms);
    this.#timers.add(timer);
  }
}
