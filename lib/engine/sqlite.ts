/**
 * The SQLite engine: stores everything in one file.
 *
 * All writes of one turn of the event loop are one transaction (group commit). It costs one write
 * to the disk, however many writes it contains, and nothing is published or acknowledged before it
 * is stored. The file is locked while the server runs: a second server would assign the same `seq`
 * twice.
 *
 * @module
 */

import { DatabaseSync } from "node:sqlite";
import { ChatError, restarting } from "../errors.ts";
import type { AccountStore } from "../people/accounts.ts";
import type { LogEvent } from "../protocol/events.ts";
import {
  type Bus,
  type Engine,
  type EngineEvent,
  type EngineOptions,
  EVERYWHERE,
  type Log,
  type OpenRoom,
  type Receipt,
  type RoomSettingsStore,
  type Wanted,
} from "./engine.ts";
import { LocalBus } from "./local_bus.ts";
import { LocalInstance, type LogReader } from "./local_instance.ts";
import { INBOX_SCHEMA, SqliteInbox } from "./sqlite_inbox.ts";
import { JOURNAL_SCHEMA } from "./sqlite_journal.ts";
import { LOG_SCHEMA, type Logged, SqliteLog } from "./sqlite_log.ts";
import { PEOPLE_SCHEMA, SqliteAccounts, SqliteSettings } from "./sqlite_people.ts";

/** What {@linkcode SqliteEngine} needs. */
export interface SqliteEngineOptions extends EngineOptions {
  /** The path of the file, which is created if it does not exist; `:memory:` for no file. */
  readonly path: string;
  /** Calls back at the end of the turn, to commit. */
  readonly atCommit: (callback: () => void) => void;
}

/** The schema, as steps. `PRAGMA user_version` of a file counts the steps applied to it. */
const MIGRATIONS: readonly string[] = [LOG_SCHEMA + INBOX_SCHEMA, PEOPLE_SCHEMA, JOURNAL_SCHEMA];

/** The result of a write, and the event that its room hears after the commit. */
interface Outcome<T> {
  readonly value: T;
  readonly event?: EngineEvent | undefined;
}

/** A queued write, and the promise to settle after the commit. */
interface Job {
  readonly room: string;
  readonly write: () => Outcome<unknown>;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
  /** The result of `write`, which is not stored yet. */
  outcome?: Outcome<unknown>;
  refusal?: ChatError;
}

/** The tables of the file, each with its statements. */
interface Tables {
  readonly log: SqliteLog;
  readonly inbox: SqliteInbox;
  readonly accounts: SqliteAccounts;
  readonly settings: SqliteSettings;
}

/** The only instance that uses a SQLite file. */
export class SqliteEngine implements Engine {
  readonly log: Log;
  readonly bus: Bus;
  readonly accounts: AccountStore;
  readonly roomSettings: RoomSettingsStore;
  readonly #options: SqliteEngineOptions;
  readonly #db: DatabaseSync;
  readonly #tables: Tables;
  readonly #localBus: LocalBus;
  readonly #instance: LocalInstance;
  #jobs: Job[] = [];

  /** @throws if the file cannot be opened, is in use, or was written by a newer version */
  constructor(options: SqliteEngineOptions) {
    this.#options = options;
    this.#localBus = new LocalBus(options);
    this.#db = new DatabaseSync(options.path);
    try {
      setUp(this.#db);
      this.#tables = openTables(this.#db, options, this.#localBus);
      this.#transact(() => {
        this.#tables.log.recover();
        this.#tables.inbox.dropOld();
      });
    } catch (error) {
      this.#db.close();
      throw error;
    }
    this.#instance = this.#createInstance();
    this.bus = this.#instance;
    this.log = this.#createLog();
    this.accounts = this.#createAccounts();
    this.roomSettings = this.#createRoomSettings();
  }

  open(room: string, wanted: Wanted): Promise<OpenRoom> {
    return this.#instance.open(room, wanted);
  }

  close(): Promise<void> {
    if (this.#instance.isClosed) return Promise.resolve();
    this.#instance.close();
    for (const job of this.#jobs.splice(0)) job.reject(restarting());
    try {
      this.#transact(() => this.#tables.log.settle());
    } catch {
      // The next start recovers the journal instead.
    }
    this.#db.close();
    return Promise.resolve();
  }

  #createInstance(): LocalInstance {
    const { log, inbox, settings } = this.#tables;
    const reader: LogReader = {
      state: (room) => log.state(room),
      events: (room, after, limit) => log.events(room, after, limit),
      messages: (room, range) => log.messages(room, range),
      inbox: (room, person, after, limit) => inbox.read(room, person, after, limit),
      inboxSeq: (room, person) => inbox.lastSeq(room, person),
    };
    const name = this.#options.newId();
    return new LocalInstance({ name, bus: this.#localBus, log: reader, settings });
  }

  #createLog(): Log {
    const { log, inbox } = this.#tables;
    return {
      ...this.#instance.reads(),
      append: (room, draft) =>
        this.#put(room, () => {
          const appended = log.append(room, draft);
          return "repeated" in appended
            ? { value: { event: appended.repeated, isDuplicate: true } }
            : toOutcome(appended, draft.origin);
        }),
      change: (room, change) =>
        this.#put(room, () => toOutcome(log.change(room, change), change.origin)),
      whisper: (room, draft) =>
        this.#put(room, () => {
          const value = inbox.whisper(room, draft);
          if (value.isDuplicate) return { value };
          return { value, event: { type: "private", message: value.event, origin: draft.origin } };
        }),
    };
  }

  #createAccounts(): AccountStore {
    const { accounts } = this.#tables;
    return {
      addAccount: (account) =>
        this.#put(EVERYWHERE, () => {
          const { key } = account;
          if (!accounts.addAccount(account)) return { value: false };
          return { value: true, event: { type: "registered", key } };
        }),
      account: (key) => this.#instance.attempt(() => accounts.account(key)),
      addToken: (token) =>
        this.#put(EVERYWHERE, () => ({ value: accounts.addToken(token, this.#options.clock()) })),
      token: (hash) => this.#instance.attempt(() => accounts.token(hash)),
      endToken: (hash) =>
        this.#put(EVERYWHERE, () => {
          return { value: accounts.endToken(hash), event: { type: "token_ended", hash } };
        }),
    };
  }

  #createRoomSettings(): RoomSettingsStore {
    const { settings } = this.#tables;
    return {
      settings: (room) => this.#instance.attempt(() => settings.settings(room)),
      setSettings: (room, wanted) =>
        this.#put(room, () => {
          const stored = settings.setSettings(room, wanted);
          if (stored === undefined) return { value: false };
          return { value: true, event: { type: "settings", settings: stored } };
        }),
      countOwned: (owner) => this.#instance.attempt(() => settings.countOwned(owner)),
    };
  }

  /** Queues a write for this turn's transaction. The room hears its event when it is stored. */
  #put<T>(room: string, write: () => Outcome<T>): Promise<T> {
    if (this.#instance.isClosed) return Promise.reject(restarting());
    return new Promise((resolve, reject) => {
      if (this.#jobs.length === 0) this.#options.atCommit(() => this.#commit());
      this.#jobs.push({ room, write, resolve: resolve as Job["resolve"], reject });
    });
  }

  /** Stores all writes of this turn, or none, and then publishes their events. */
  #commit(): void {
    const jobs = this.#jobs;
    this.#jobs = [];
    if (jobs.length === 0) return;
    try {
      this.#transact(() => {
        for (const job of jobs) run(job);
        this.#tables.log.write();
      });
    } catch (error) {
      for (const job of jobs) job.reject(error);
      return;
    }
    for (const { room, outcome, refusal, resolve, reject } of jobs) {
      if (outcome === undefined) {
        reject(refusal);
        continue;
      }
      if (outcome.event !== undefined) this.#localBus.publish(room, outcome.event);
      resolve(outcome.value);
    }
  }

  /** Runs a change in one transaction: all of it is stored, or nothing. */
  #transact(change: () => void): void {
    const { log } = this.#tables;
    this.#db.exec("BEGIN IMMEDIATE");
    try {
      change();
      this.#db.exec("COMMIT");
      log.commit();
    } catch (error) {
      // The numbers assigned in this transaction are void.
      log.rollback();
      if (this.#db.isTransaction) this.#db.exec("ROLLBACK");
      throw error;
    }
  }
}

/** Locks the file, and brings it to the newest schema. */
function setUp(db: DatabaseSync): void {
  // A checkpoint waits for the disk. One per 40 MB of log instead of 4 MB halves the time of the
  // slowest commits.
  db.exec(`
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    PRAGMA wal_autocheckpoint = 10000;
  `);
  const { user_version } = db.prepare("PRAGMA user_version").get() as { user_version: number };
  if (user_version > MIGRATIONS.length) {
    throw new Error("The file was written by a newer version of Hubbub. Use that version for it.");
  }
  for (const [i, step] of MIGRATIONS.entries()) {
    if (i < user_version) continue;
    db.exec(`BEGIN IMMEDIATE; ${step}; PRAGMA user_version = ${i + 1}; COMMIT`);
  }
}

function openTables(db: DatabaseSync, options: SqliteEngineOptions, bus: LocalBus): Tables {
  const isInUse = (room: string) => bus.hasSubscribers(room);
  const log = new SqliteLog(db, { ...options, isInUse });
  return {
    log,
    inbox: new SqliteInbox(db, log, options),
    accounts: new SqliteAccounts(db),
    settings: new SqliteSettings(db),
  };
}

/** Runs a job's write, and records a refusal. Any other error ends the transaction. */
function run(job: Job): void {
  try {
    job.outcome = job.write();
  } catch (error) {
    if (!(error instanceof ChatError)) throw error;
    job.refusal = error;
  }
}

function toOutcome<E extends LogEvent>(
  { event, json }: Logged<E>,
  origin: string,
): Outcome<Receipt<E>> {
  return { value: { event, isDuplicate: false }, event: { type: "logged", event, json, origin } };
}
