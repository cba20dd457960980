/**
 * The SQLite engine: stores everything in one file, as rows that other programs may read while the
 * server runs.
 *
 * @module
 */

import { restarting, storeUnavailable } from "../errors.ts";
import type { Logger } from "../logger.ts";
import type { AccountStore } from "../people/accounts.ts";
import {
  type Bus,
  type Engine,
  type EngineOptions,
  EVERYWHERE,
  type Log,
  type OpenRoom,
  type RoomSettingsStore,
  type Wanted,
} from "./engine.ts";
import { GroupCommit, type Outcome } from "./group_commit.ts";
import { LocalBus, REACHABLE_MS } from "./local_bus.ts";
import { LocalInstance } from "./local_instance.ts";
import { SqliteEpochs } from "./sqlite_epochs.ts";
import { SqliteErasure } from "./sqlite_erasure.ts";
import { SqliteFile } from "./sqlite_file.ts";
import { SqliteInbox } from "./sqlite_inbox.ts";
import { SqliteLog } from "./sqlite_log.ts";
import { SqliteAccounts, SqliteSettings } from "./sqlite_people.ts";
import { SqliteVisits } from "./sqlite_visits.ts";
import { Checkpoints } from "./sqlite_wal.ts";

/** What {@linkcode SqliteEngine} needs. */
export interface SqliteEngineOptions extends EngineOptions {
  /** The path of the file, which is created if it does not exist; `:memory:` for no file. */
  readonly path: string;
  /** Calls back at the end of the turn, to commit. */
  readonly atCommit: (callback: () => void) => void;
  /**
   * Maximum bytes of the file in use. Beyond it, the rooms that have been silent for longest lose
   * their oldest messages. @default Infinity
   */
  readonly maxStoredBytes?: number;
  readonly logger?: Logger | undefined;
}

/** The engine checks the file's size after this many writes. */
const WRITES_PER_LOOK = 64;

/** One call of `dropOldest` makes room for this many writes: it drops twice as many events. */
const WRITES_PER_DROP = 64;

/** How long a transaction may drop messages, in milliseconds. */
const DROP_MS = 3;

/** The tables of the file, each with its statements. */
interface Tables {
  readonly log: SqliteLog;
  readonly inbox: SqliteInbox;
  readonly accounts: SqliteAccounts;
  readonly settings: SqliteSettings;
  readonly visits: SqliteVisits;
  readonly erasure: SqliteErasure;
}

/** The only instance that uses a SQLite file. */
export class SqliteEngine implements Engine {
  readonly log: Log;
  readonly bus: Bus;
  readonly accounts: AccountStore;
  readonly roomSettings: RoomSettingsStore;
  readonly #options: SqliteEngineOptions;
  readonly #file: SqliteFile;
  readonly #tables: Tables;
  readonly #checkpoints: Checkpoints | undefined;
  readonly #commits: GroupCommit;
  readonly #instance: LocalInstance;
  #writesSinceLook = 0;
  /** Whether the next transactions must drop messages. */
  #isTooBig = false;
  /** Whether the file is no longer at its path. Then nothing is stored. */
  #isLost = false;
  #hasLastCommitFailed = false;
  #closing: Promise<void> | undefined;

  /** @throws an `Error` whose message says why the file cannot be opened, and what to do */
  constructor(options: SqliteEngineOptions) {
    this.#options = options;
    const { atCommit, newId, logger } = options;
    const bus = new LocalBus(options);
    this.#file = new SqliteFile(options.path, logger);
    this.#tables = openTables(this.#file, options, bus);
    const { path, db } = this.#file;
    this.#checkpoints = path === undefined
      ? undefined
      : new Checkpoints({ path, db, logger, onRelease: () => this.#commits.commit() });
    this.#commits = new GroupCommit({
      atCommit,
      transact: (write, count) => this.#transact(write, count),
      mustWait: () => this.#checkpoints?.isHolding ?? false,
      publish: (room, event) => bus.publish(room, event),
    });
    const { log, inbox, settings } = this.#tables;
    const reader = {
      author: log.author.bind(log),
      state: log.state.bind(log),
      canResume: log.canResume.bind(log),
      canResumeInbox: inbox.canResume.bind(inbox),
      events: log.events.bind(log),
      messages: log.messages.bind(log),
      inbox: inbox.read.bind(inbox),
      inboxSeq: inbox.lastSeq.bind(inbox),
    };
    this.#instance = new LocalInstance({ name: newId(), bus, log: reader, settings });
    this.bus = this.#createBus(bus);
    this.log = this.#createLog();
    this.accounts = this.#createAccounts();
    this.roomSettings = this.#createRoomSettings();
  }

  open(room: string, wanted: Wanted): Promise<OpenRoom> {
    return this.#instance.open(room, wanted);
  }

  async check(): Promise<void> {
    if (this.#instance.isClosed) throw restarting();
    const problem = await this.#file.findLoss();
    this.#isLost = problem !== undefined;
    if (problem !== undefined) throw problem;
    if (this.#checkpoints?.isStuck) throw new Error("The disk does not answer. Check it.");
    if (this.#instance.isClosed) throw restarting();
    this.#file.probe(this.#hasLastCommitFailed);
    this.#hasLastCommitFailed = false;
  }

  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #close(): Promise<void> {
    this.#instance.close();
    this.#commits.rejectAll(restarting());
    await this.#checkpoints?.close();
    this.#file.close();
  }

  #createBus(bus: LocalBus): Bus {
    const instance = this.#instance;
    const { visits } = this.#tables;
    const { clock } = this.#options;
    let droppedAt = clock();
    // A failed write of a visit matters only after a restart.
    const note = (write: () => Outcome<void>) => void this.#put(EVERYWHERE, write).catch(() => {});
    return {
      subscribe: (room, subscriber) => instance.subscribe(room, subscriber),
      publish: (room, event) => instance.publish(room, event),
      enter: (room, presence) => {
        if (!bus.hasUser(room, presence.username)) note(() => visits.begin(room, presence));
        return instance.enter(room, presence);
      },
      leave: (room, connection) => {
        // First the room receives the messages queued before the leave.
        this.#commits.whenDone(room, () => {
          const left = bus.presence(room, connection);
          instance.leave(room, connection);
          if (left === undefined || bus.hasUser(room, left.username)) return;
          note(() => visits.end(room, left));
        });
      },
      present: (room) => instance.present(room),
      lastSeen: (room, username) => instance.lastSeen(room, username),
      renew: () => {
        if (clock() - droppedAt >= REACHABLE_MS) {
          droppedAt = clock();
          note(() => visits.dropOld());
        }
        return instance.renew();
      },
    };
  }

  #createLog(): Log {
    const { log, inbox } = this.#tables;
    return {
      ...this.#instance.reads(),
      append: (room, draft) => this.#put(room, () => log.append(room, draft)),
      change: (room, change) => this.#put(room, () => log.change(room, change)),
      whisper: (room, draft) => this.#put(room, () => inbox.whisper(room, draft)),
    };
  }

  #createAccounts(): AccountStore {
    const { accounts, erasure } = this.#tables;
    const { clock } = this.#options;
    return {
      addAccount: (account) => this.#put(EVERYWHERE, () => accounts.addAccount(account)),
      account: (key) => this.#instance.attempt(() => accounts.account(key)),
      setPassword: (key, hash, kept) =>
        this.#put(EVERYWHERE, () => accounts.setPassword(key, hash, kept)),
      removeAccount: async (key) => {
        const isRemoved = await this.#put(EVERYWHERE, () => accounts.removeAccount(key));
        erasure.begin();
        return isRemoved;
      },
      eraseNext: () => this.#eraseNext(),
      recheck: (known) => this.#instance.attempt(() => accounts.recheck(known)),
      addToken: (token) => this.#put(EVERYWHERE, () => accounts.addToken(token, clock())),
      token: (hash) => this.#instance.attempt(() => accounts.token(hash)),
      addBotToken: (token, most) => this.#put(EVERYWHERE, () => accounts.addBotToken(token, most)),
      botTokens: (account) => this.#instance.attempt(() => accounts.botTokens(account)),
      endBotToken: (account, name) =>
        this.#put(EVERYWHERE, () => accounts.endBotToken(account, name)),
      endToken: (hash) => this.#put(EVERYWHERE, () => accounts.endToken(hash)),
      endTokens: (account) => this.#put(EVERYWHERE, () => accounts.endTokens(account)),
    };
  }

  async #eraseNext(): Promise<boolean> {
    const { erasure } = this.#tables;
    if (!await this.#instance.attempt(() => erasure.isPending)) return false;
    const step = await this.#put(EVERYWHERE, () => {
      const step = erasure.step();
      return { value: step, published: step.published };
    });
    erasure.accept(step);
    return step.progress !== undefined;
  }

  #createRoomSettings(): RoomSettingsStore {
    const { settings } = this.#tables;
    return {
      settings: (room) => this.#instance.attempt(() => settings.settings(room)),
      setSettings: (room, next) => this.#put(room, () => settings.setSettings(room, next)),
      countOwned: (owner) => this.#instance.attempt(() => settings.countOwned(owner)),
    };
  }

  #put<T>(room: string, write: () => Outcome<T>): Promise<T> {
    if (this.#instance.isClosed) return Promise.reject(restarting());
    if (this.#isLost) return Promise.reject(storeUnavailable());
    return this.#commits.put(room, write);
  }

  /** Runs writes in one transaction: stores all of them, or none. */
  #transact(write: () => void, count: number): void {
    const { log } = this.#tables;
    try {
      this.#file.transact(() => {
        write();
        this.#writesSinceLook += count;
        if (this.#writesSinceLook >= WRITES_PER_LOOK) {
          this.#writesSinceLook = 0;
          this.#isTooBig = this.#isBeyondBound();
        }
        if (this.#isTooBig) this.#shrink(count);
      });
    } catch (error) {
      this.#hasLastCommitFailed = true;
      // The numbers assigned in this transaction are void.
      log.rollback();
      throw error;
    }
    this.#hasLastCommitFailed = false;
    this.#checkpoints?.note(count, log.commit());
  }

  #isBeyondBound(): boolean {
    const { maxStoredBytes = Infinity } = this.#options;
    return this.#file.size > maxStoredBytes;
  }

  /**
   * Drops the oldest messages for a few milliseconds, or until the file is small enough, but at
   * least as many as were written, so that the file does not grow.
   */
  #shrink(writes: number): void {
    const end = performance.now() + DROP_MS;
    let left = writes / WRITES_PER_DROP;
    while (this.#isTooBig && (left > 0 || performance.now() < end)) {
      this.#isTooBig = this.#tables.log.dropOldest() && this.#isBeyondBound();
      left--;
    }
  }
}

/** Opens the tables, and begins an epoch. */
function openTables(file: SqliteFile, options: SqliteEngineOptions, bus: LocalBus): Tables {
  const { db } = file;
  const isInUse = (room: string) => bus.hasSubscribers(room);
  const onHole = (room: string) => options.logger?.error("events are missing in a log", { room });
  try {
    return file.transact(() => {
      const epochs = new SqliteEpochs(db, options.clock());
      const log = new SqliteLog(db, epochs, { ...options, isInUse, onHole });
      const inbox = new SqliteInbox(db, log, epochs, options);
      inbox.dropOld();
      const visits = new SqliteVisits(db, options.clock);
      for (const departure of visits.departures()) bus.addDeparture(departure);
      const accounts = new SqliteAccounts(db);
      const erasure = new SqliteErasure(db, { log, accounts, isInUse });
      return { log, inbox, accounts, settings: new SqliteSettings(db), visits, erasure };
    });
  } catch (error) {
    file.close();
    throw error;
  }
}
