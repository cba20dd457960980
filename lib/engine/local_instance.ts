/**
 * One instance of an engine without a network: the part that the memory engine and the SQLite
 * engine share.
 *
 * @module
 */

import { restarting } from "../errors.ts";
import type { ChatEvent, LogEvent } from "../protocol/events.ts";
import { EarlyEvents } from "./early_events.ts";
import type {
  Author,
  Bus,
  EngineEvent,
  EngineListener,
  InboxEntry,
  Log,
  LogState,
  MessageRange,
  OpenRoom,
  Presence,
  RoomSettings,
  Wanted,
} from "./engine.ts";
import type { LocalBus } from "./local_bus.ts";

/** The reading half of a {@linkcode Log}, synchronous. */
export interface LogReader {
  author(room: string, id: string): Author | undefined;
  state(room: string): LogState;
  canResume(room: string, epoch: string, seq: number): boolean;
  canResumeInbox(room: string, person: string, epoch: string, inboxSeq: number): boolean;
  events(room: string, after: number, limit: number): LogEvent[];
  messages(room: string, range: MessageRange): ChatEvent[];
  inbox(room: string, person: string, after: number, limit: number): InboxEntry[];
  inboxSeq(room: string, person: string): number;
}

/** Reads the settings of a room, synchronously. */
export interface SettingsReader {
  settings(room: string): RoomSettings;
}

/** What {@linkcode LocalInstance} needs. */
export interface LocalInstanceOptions {
  /** Identifies the instance on the bus. Unique for ever. */
  readonly name: string;
  readonly bus: LocalBus;
  readonly log: LogReader;
  readonly settings: SettingsReader;
}

/** One instance's subscriptions, presences and open rooms, until it closes. */
export class LocalInstance implements Bus {
  readonly #options: LocalInstanceOptions;
  /** Functions that each end one subscription. */
  readonly #subscriptions = new Set<() => void>();
  #isClosed = false;

  constructor(options: LocalInstanceOptions) {
    this.#options = options;
  }

  /** Whether the instance has ended. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /**
   * Runs `act` at once. An error becomes a rejection. After the instance has closed, every call is
   * rejected.
   */
  attempt<T>(act: () => T): Promise<T> {
    if (this.#isClosed) return Promise.reject(restarting());
    try {
      return Promise.resolve(act());
    } catch (error) {
      return Promise.reject(error);
    }
  }

  subscribe(room: string, subscriber: EngineListener): Promise<() => void> {
    return this.attempt(() => this.#subscribe(room, subscriber));
  }

  publish(room: string, event: EngineEvent): Promise<void> {
    return this.attempt(() => this.#options.bus.publish(room, event));
  }

  enter(room: string, presence: Presence): Promise<number> {
    const { bus, name } = this.#options;
    return this.attempt(() => bus.enter(name, room, presence));
  }

  leave(room: string, connection: string): void {
    const { bus, name } = this.#options;
    if (!this.#isClosed) bus.leave(name, room, connection);
  }

  present(room: string): Promise<Presence[]> {
    return this.attempt(() => this.#options.bus.present(room));
  }

  lastSeen(room: string, username: string): Promise<Author | undefined> {
    return this.attempt(() => this.#options.bus.lastSeen(room, username));
  }

  renew(): Promise<void> {
    return this.attempt(() => this.#options.bus.renew(this.#options.name));
  }

  /** The reading half of the instance's {@linkcode Log}. */
  reads(): Pick<Log, keyof LogReader> {
    const { log } = this.#options;
    return {
      author: (room, id) => this.attempt(() => log.author(room, id)),
      state: (room) => this.attempt(() => log.state(room)),
      canResume: (room, epoch, seq) => this.attempt(() => log.canResume(room, epoch, seq)),
      canResumeInbox: (room, person, epoch, seq) =>
        this.attempt(() => log.canResumeInbox(room, person, epoch, seq)),
      events: (room, after, limit) => this.attempt(() => log.events(room, after, limit)),
      messages: (room, range) => this.attempt(() => log.messages(room, range)),
      inbox: (room, person, after, limit) =>
        this.attempt(() => log.inbox(room, person, after, limit)),
      inboxSeq: (room, person) => this.attempt(() => log.inboxSeq(room, person)),
    };
  }

  /** Opens a room, as `Engine.open` says. */
  async open(room: string, wanted: Wanted): Promise<OpenRoom> {
    // A listener may call this while a commit publishes its events. Let that finish first.
    await undefined;
    return await this.attempt(() => this.#open(room, wanted));
  }

  /** Ends the subscriptions and presences of the instance. Every later call is rejected. */
  close(): void {
    this.#isClosed = true;
    for (const end of this.#subscriptions) end();
    this.#options.bus.end(this.#options.name);
  }

  #open(room: string, wanted: Wanted): OpenRoom {
    const { bus, log, settings } = this.#options;
    const early = new EarlyEvents();
    // Subscribe first: the log keeps the numbers of every room with a subscriber.
    const end = this.#subscribe(room, (event) => early.hear(event));
    try {
      const state = log.state(room);
      const after = Math.max(0, state.lastSeq - wanted.events);
      return {
        state,
        events: log.events(room, after, wanted.events),
        messages: log.messages(room, { limit: wanted.messages }),
        settings: settings.settings(room),
        present: bus.present(room),
        position: bus.position,
        listen: (subscriber) => early.handOver(subscriber),
        close: () => {
          end();
          early.drop();
        },
      };
    } catch (error) {
      end();
      throw error;
    }
  }

  #subscribe(room: string, subscriber: EngineListener): () => void {
    // The bus identifies a subscriber by its function, and one function may subscribe twice.
    const stop = this.#options.bus.subscribe(room, (event) => subscriber(event));
    const end = () => {
      this.#subscriptions.delete(end);
      stop();
    };
    this.#subscriptions.add(end);
    return end;
  }
}
