/**
 * The engine of an instance whose messages, presences and accounts are on a server that it shares
 * with other instances.
 *
 * The server publishes every event to all instances, this one included: a write goes out with its
 * turn ({@linkcode TurnQueue}), and its event comes back through the room's {@linkcode Feed}. Once
 * a second a beat renews the lease of the instance, sends a probe that must come back, and compares
 * positions.
 *
 * @module
 */

import { ChatError, restarting, storeUnavailable } from "../../errors.ts";
import type { Logger } from "../../logger.ts";
import type { AccountStore } from "../../people/accounts.ts";
import type { ChatEvent, LogEvent } from "../../protocol/events.ts";
import { Timers, within } from "../../time.ts";
import {
  type Author,
  type Bus,
  type Engine,
  type EngineEvent,
  type EngineListener,
  type EngineOptions,
  EVERYWHERE,
  type Log,
  type OpenRoom,
  type Presence,
  type PrivateMessage,
  type Receipt,
  type RoomSettings,
  type RoomSettingsStore,
  type Wanted,
} from "../engine.ts";
import { Attendance } from "./attendance.ts";
import { EarlyEvents } from "../early_events.ts";
import {
  type Answer,
  type Backend,
  type Job,
  type Link,
  type News,
  NotDone,
  type Position,
  type Pulse,
} from "./backend.ts";
import { Feed } from "./feed.ts";
import { Hearing } from "./hearing.ts";
import { ServerNews } from "./server_news.ts";
import { TurnQueue } from "./turn_queue.ts";
import { Uplink } from "./uplink.ts";

/** What {@linkcode RemoteEngine} needs. */
export interface RemoteEngineOptions extends Pick<EngineOptions, "newId" | "leaseMs"> {
  readonly backend: Backend;
  /** Calls back at the end of the turn, to send the turn's writes. */
  readonly atCommit: (callback: () => void) => void;
  readonly logger: Logger;
  /** Logs failures; throttled. */
  readonly failures: Logger;
}

/** How long a change of settings waits for its event, in milliseconds. */
const TOLD_MS = 1000;

/** How long a probe may take to come back, in milliseconds. */
const PROBE_MS = 1500;

/** The time between two comparisons of positions while no news arrive, in milliseconds. */
const POLL_MS = 200;

/** Maximum rooms whose positions one beat compares. */
const ROOMS_PER_BEAT = 500;

/** Maximum events that a feed reads at a time. */
const PAGE_EVENTS = 200;

/** How long {@linkcode RemoteEngine.close} waits for calls without an answer, in milliseconds. */
const CLOSE_MS = 1000;

/** One instance of a chat on a server. */
export class RemoteEngine implements Engine {
  readonly log: Log;
  readonly bus: Bus;
  readonly accounts: AccountStore;
  readonly roomSettings: RoomSettingsStore;
  readonly #options: RemoteEngineOptions;
  readonly #timers = new Timers();
  readonly #uplink: Uplink;
  readonly #turns: TurnQueue;
  readonly #attendance: Attendance;
  readonly #feeds = new Map<string, Set<Feed>>();
  readonly #everywhere: ServerNews;
  readonly #hearing: Hearing;
  /** The name of the instance; another one after its lease has expired. */
  #instance: string;
  /** The running beat. */
  #beating: Promise<void> | undefined;
  /** Why the last beat failed. */
  #problem: Error | undefined;
  /** The index of the first room that the next beat compares. */
  #nextRoom = 0;
  #closing: Promise<void> | undefined;

  private constructor(options: RemoteEngineOptions) {
    const { backend, newId, logger, failures, atCommit } = options;
    const clock = () => performance.now();
    const { after } = this.#timers;
    this.#options = options;
    this.#instance = newId();
    this.#everywhere = new ServerNews();
    this.#hearing = new Hearing({ logger, server: backend.name });
    this.#uplink = new Uplink({
      backend,
      clock,
      after,
      failures,
      listener: {
        onNews: (news) => this.#onNews(news),
        onProbe: (probe) => this.#hearing.hear(probe),
      },
      onUp: (link) => void this.#onUp(link),
    });
    this.#turns = new TurnQueue({
      uplink: this.#uplink,
      clock,
      after,
      atCommit,
      instance: () => this.#instance,
      onAnswers: (jobs, answers) => this.#onAnswers(jobs, answers),
    });
    this.#attendance = new Attendance({
      turns: this.#turns,
      onDisplaced: (room, connection) => this.#tell(room, { type: "displaced", connection }),
    });
    this.log = this.#createLog();
    this.bus = this.#createBus();
    this.accounts = this.#createAccounts();
    this.roomSettings = this.#createRoomSettings();
  }

  /**
   * Connects to the server, and begins the lease of the instance.
   *
   * @throws {Error} whose message is a sentence that says why it cannot, and what to do
   */
  static async connect(options: RemoteEngineOptions): Promise<RemoteEngine> {
    const engine = new RemoteEngine(options);
    try {
      const link = await engine.#uplink.open();
      engine.#everywhere.start((await engine.#beat(link, [])).everywhere);
    } catch (error) {
      await engine.close();
      throw error;
    }
    return engine;
  }

  async open(room: string, wanted: Wanted): Promise<OpenRoom> {
    const early = new EarlyEvents();
    const feed = this.#addFeed(room, (event) => early.hear(event));
    const close = () => {
      this.#removeFeed(room, feed);
      early.drop();
    };
    try {
      await this.#uplink.call((link) => link.subscribe(room));
      const opened = await this.#uplink.call((link) => link.open(room, wanted));
      if (this.#closing !== undefined) throw restarting();
      feed.start(opened);
      const { position, oldestSeq, events, messages, settings, present } = opened;
      return {
        state: { epoch: position.epoch, oldestSeq, lastSeq: position.seq },
        events,
        messages,
        settings,
        present,
        position: position.presence,
        listen: (subscriber) => early.handOver(subscriber),
        close,
      };
    } catch (error) {
      close();
      throw error;
    }
  }

  async check(): Promise<void> {
    if (this.#closing !== undefined) throw restarting();
    await this.#beating?.catch(() => {});
    const problem = this.#uplink.problem ?? this.#problem ?? this.#hearing.problem;
    if (problem !== undefined) throw problem;
  }

  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #close(): Promise<void> {
    const end = performance.now() + CLOSE_MS;
    for (const feed of [...this.#feeds.values()].flatMap((feeds) => [...feeds])) feed.close();
    this.#everywhere.close();
    await this.#turns.close(CLOSE_MS);
    const { link } = this.#uplink;
    const left = end - performance.now();
    if (link !== undefined && left > 0) {
      await within(left, link.end(this.#instance).catch(() => {}));
    }
    this.#timers.cancelAll();
    this.#uplink.close();
  }

  #createLog(): Log {
    const read = this.#uplink;
    const put = <T>(job: Job) => this.#turns.put(job) as Promise<T>;
    const { newId } = this.#options;
    return {
      append: (room, draft) => put<Receipt<ChatEvent>>({ type: "append", room, draft }),
      change: (room, change) => put<Receipt<LogEvent>>({ type: "change", room, change }),
      whisper: (room, draft) =>
        put<Receipt<PrivateMessage>>({ type: "whisper", room, draft, id: newId() }),
      author: (room, id) => read.call((link) => link.author(room, id)),
      state: (room) => read.call((link) => link.state(room)),
      canResume: (room, epoch, seq) => read.call((link) => link.canResume(room, epoch, seq)),
      canResumeInbox: (room, person, epoch, seq) =>
        read.call((link) => link.canResumeInbox(room, person, epoch, seq)),
      events: (room, after, limit) => read.call((link) => link.events(room, after, limit)),
      messages: (room, range) => read.call((link) => link.messages(room, range)),
      inbox: (room, person, after, limit) =>
        read.call((link) => link.inbox(room, person, after, limit)),
      inboxSeq: (room, person) => read.call((link) => link.inboxSeq(room, person)),
    };
  }

  #createBus(): Bus {
    const put = <T>(job: Job) => this.#turns.put(job) as Promise<T>;
    return {
      subscribe: (room, subscriber) => this.#subscribe(room, subscriber),
      publish: (room, event) => put<void>({ type: "publish", room, event }),
      enter: (room, presence) => this.#attendance.enter(room, presence),
      leave: (room, connection) => this.#attendance.leave(room, connection),
      present: (room) => put<Presence[]>({ type: "present", room }),
      lastSeen: (room, username) => put<Author | undefined>({ type: "lastSeen", room, username }),
      renew: () => this.#renew(),
    };
  }

  #createAccounts(): AccountStore {
    const uplink = this.#uplink;
    return {
      addAccount: (account) => uplink.call((link) => link.addAccount(account, uplink.deadline)),
      account: (key) => uplink.call((link) => link.account(key)),
      addToken: (token) => uplink.call((link) => link.addToken(token, uplink.deadline)),
      token: (hash) => uplink.call((link) => link.token(hash)),
      addBotToken: (token, most) =>
        uplink.call((link) => link.addBotToken(token, most, uplink.deadline)),
      botTokens: (account) => uplink.call((link) => link.botTokens(account)),
      endBotToken: (account, name) =>
        uplink.call((link) => link.endBotToken(account, name, uplink.deadline)),
      endToken: (hash) => uplink.call((link) => link.endToken(hash, uplink.deadline)),
      endTokens: (account) => uplink.call((link) => link.endTokens(account, uplink.deadline)),
      setPassword: (key, hash, kept = "") =>
        uplink.call((link) => link.setPassword(key, hash, kept, uplink.deadline)),
      removeAccount: (key) => uplink.call((link) => link.removeAccount(key, uplink.deadline)),
      eraseNext: () => uplink.call((link) => link.eraseNext(uplink.deadline)),
      recheck: (known) => uplink.call((link) => link.recheck(known)),
    };
  }

  #createRoomSettings(): RoomSettingsStore {
    const uplink = this.#uplink;
    return {
      settings: (room) => uplink.call((link) => link.settings(room)),
      setSettings: (room, settings) => this.#setSettings(room, settings),
      countOwned: (owner) => uplink.call((link) => link.countOwned(owner)),
    };
  }

  /**
   * Stores settings, and waits until the room's feeds have passed them on: then joins obey them.
   */
  async #setSettings(room: string, settings: RoomSettings): Promise<boolean> {
    const isStored = await this.#turns.put({ type: "settings", room, settings }) as boolean;
    if (!isStored) return false;
    const position = { settings: settings.version + 1 };
    const feeds = [...this.#feedsOf(room)].map((feed) => feed.reach(position));
    if (feeds.length > 0) await within(TOLD_MS, Promise.all(feeds));
    return true;
  }

  async #subscribe(room: string, subscriber: EngineListener): Promise<() => void> {
    if (room !== EVERYWHERE) {
      const opened = await this.open(room, { events: 0, messages: 0 });
      opened.listen(subscriber);
      return () => opened.close();
    }
    if (this.#closing !== undefined) throw restarting();
    const { link } = this.#uplink;
    if (link === undefined) throw storeUnavailable();
    const { everywhere } = await this.#beat(link, []);
    return this.#everywhere.subscribe(everywhere, subscriber);
  }

  // Feeds

  #addFeed(room: string, onEvent: EngineListener): Feed {
    const feed = new Feed({
      read: (since) => this.#uplink.call((link) => link.page(room, since, PAGE_EVENTS), true),
      onEvent,
      after: this.#timers.after,
    });
    this.#feeds.set(room, (this.#feeds.get(room) ?? new Set()).add(feed));
    return feed;
  }

  #removeFeed(room: string, feed: Feed): void {
    feed.close();
    const feeds = this.#feeds.get(room);
    if (!feeds?.delete(feed) || feeds.size > 0) return;
    this.#feeds.delete(room);
    this.#uplink.link?.unsubscribe(room);
  }

  #feedsOf(room: string): Iterable<Feed> {
    return this.#feeds.get(room) ?? [];
  }

  #onNews(news: News): void {
    if (news.room === EVERYWHERE) this.#everywhere.hear(news.items ?? []);
    else for (const feed of this.#feedsOf(news.room)) feed.hear(news);
  }

  #tell(room: string, event: EngineEvent): void {
    for (const feed of this.#feedsOf(room)) feed.tell(event);
  }

  /** Tells the feeds which positions the jobs of a batch have reached. */
  #onAnswers(jobs: readonly Job[], answers: readonly Answer[]): void {
    const reached = new Map<string, Partial<Position>>();
    for (const [i, job] of jobs.entries()) {
      if (job.type === "publish" && this.#hearing.isDeaf) this.#tell(job.room, job.event);
      if (job.type === "enter" && typeof answers[i] === "number") {
        this.#attendance.confirm(job.room, job.presence.connection);
      }
      const own = reachedBy(job, answers[i]);
      if (own !== undefined) reached.set(job.room, { ...reached.get(job.room), ...own });
    }
    for (const [room, position] of reached) {
      for (const feed of this.#feedsOf(room)) feed.expect(position);
    }
  }

  // Beats

  /** Renews the lease, and compares the positions of some rooms. */
  #renew(): Promise<void> {
    if (this.#closing !== undefined) return Promise.reject(restarting());
    return this.#beating ??= this.#beatOnce().finally(() => this.#beating = undefined);
  }

  async #beatOnce(): Promise<void> {
    const { link } = this.#uplink;
    if (link === undefined) throw storeUnavailable();
    const rooms = this.#nextRooms();
    const pulse = await this.#beat(link, rooms);
    for (const [i, room] of rooms.entries()) {
      for (const feed of this.#feedsOf(room)) feed.expect(pulse.positions[i]!);
    }
    if (!this.#attendance.isEven) await this.#reconcile(link);
  }

  /** Sends a beat. If the lease has expired, the instance takes another name and begins anew. */
  async #beat(link: Link, rooms: readonly string[]): Promise<Pulse> {
    const instance = this.#instance;
    const pulse = await this.#sendBeat(link, instance, rooms);
    if (pulse.isAlive) return pulse;
    // Another beat may have noticed first.
    if (instance === this.#instance) this.#instance = this.#options.newId();
    const next = await this.#beat(link, rooms);
    await this.#reconcile(link);
    return next;
  }

  async #sendBeat(link: Link, instance: string, rooms: readonly string[]): Promise<Pulse> {
    const { leaseMs, newId } = this.#options;
    const probe = newId();
    const asked = this.#everywhere.number;
    try {
      const beat = { instance, leaseMs, probe, rooms, answered: this.#turns.answered };
      const pulse = await this.#uplink.attempt(link, link.beat(beat));
      this.#problem = undefined;
      this.#uplink.setTime(pulse.time);
      this.#expectProbe(link, probe);
      this.#everywhere.compare(pulse.everywhere, asked);
      return pulse;
    } catch (error) {
      this.#problem = error as Error;
      if (!(error instanceof NotDone)) this.#uplink.drop(link, error as Error);
      throw storeUnavailable();
    }
  }

  async #reconcile(link: Link): Promise<void> {
    const instance = this.#instance;
    const known = await this.#uplink.attempt(link, link.presences(instance));
    if (instance === this.#instance) this.#attendance.reconcile(known);
    else await this.#reconcile(link);
  }

  #nextRooms(): string[] {
    const rooms = [...this.#feeds.keys()];
    if (rooms.length <= ROOMS_PER_BEAT) return rooms;
    const start = this.#nextRoom % rooms.length;
    this.#nextRoom = start + ROOMS_PER_BEAT;
    return rooms.slice(start, start + ROOMS_PER_BEAT);
  }

  /** Ends a link that does not receive its own probe. If no link receives any, polls for news. */
  #expectProbe(link: Link, probe: string): void {
    this.#timers.after(PROBE_MS, () => {
      if (link !== this.#uplink.link || this.#hearing.heard(probe)) return;
      const wasDeaf = this.#hearing.isDeaf;
      if (this.#hearing.miss()) this.#uplink.drop(link, this.#hearing.problem!);
      else if (!wasDeaf) this.#poll();
    });
  }

  async #poll(): Promise<void> {
    const { link } = this.#uplink;
    if (this.#closing !== undefined || !this.#hearing.isDeaf) return;
    if (link !== undefined) await this.#compareAll(link).catch(() => {});
    this.#timers.after(POLL_MS, () => void this.#poll());
  }

  /** Brings everything up to date on a new link. */
  async #onUp(link: Link): Promise<void> {
    this.#hearing.begin();
    this.#turns.flush();
    try {
      const subscribing = Array.from(this.#feeds.keys(), (room) => link.subscribe(room));
      await this.#uplink.attempt(link, Promise.all(subscribing));
      await this.#compareAll(link);
      await this.#reconcile(link);
    } catch {
      // The link has failed, or fails at its next beat. The next link does all of this again.
      this.#uplink.drop(link, new Error("The link failed as soon as it was open."));
    }
  }

  /** Compares the positions of all rooms at once. */
  async #compareAll(link: Link): Promise<void> {
    const rooms = [...this.#feeds.keys()];
    for (let start = 0; start < Math.max(1, rooms.length); start += ROOMS_PER_BEAT) {
      const some = rooms.slice(start, start + ROOMS_PER_BEAT);
      const { positions } = await this.#beat(link, some);
      for (const [i, room] of some.entries()) {
        for (const feed of this.#feedsOf(room)) feed.compare(positions[i]!);
      }
    }
  }
}

/** The position that a room's feed reaches with the event of a job; `undefined` if it has none. */
function reachedBy(job: Job, answer: Answer): Partial<Position> | undefined {
  if (answer instanceof ChatError || answer === undefined) return undefined;
  switch (job.type) {
    case "append":
    case "change":
      return { seq: (answer as Receipt<LogEvent>).event.seq };
    case "enter":
      return { presence: answer as number };
    case "settings":
      return answer === true ? { settings: job.settings.version + 1 } : undefined;
    default:
      return undefined;
  }
}
