/**
 * Remembers in one SQLite file.
 *
 * All that is written in one turn of the event loop is one transaction (group commit): it costs one
 * write to the disk, however much it is, and nothing is told or acknowledged before it is stored.
 * The file is locked while the server runs: a second server on it would give the same numbers twice.
 *
 * @module
 */

import { DatabaseSync, type StatementSync } from "node:sqlite";
import { ChatError, nobodyWithName, restarting } from "../errors.ts";
import { nameKey } from "../names.ts";
import type { Account, Token } from "../people/accounts.ts";
import type { ChatEvent, MessageDeletedEvent, MessageUpdatedEvent } from "../protocol/events.ts";
import {
  type Change,
  DEFAULT_SETTINGS,
  type Draft,
  type Engine,
  type EngineEvent,
  type EngineOptions,
  EVERYWHERE,
  type InboxEntry,
  type LogEvent,
  type LogState,
  type MessageRange,
  type PrivateDraft,
  type PrivateMessage,
  type Receipt,
  refKey,
  type RoomSettings,
  toTimestamp,
} from "./engine.ts";
import { LocalBus } from "./local_bus.ts";
import { JOURNAL_SCHEMA } from "./sqlite_journal.ts";
import { LOG_SCHEMA, type Logged, SqliteLog } from "./sqlite_log.ts";

/** What {@linkcode SqliteEngine} needs. */
export interface SqliteEngineOptions extends EngineOptions {
  /** The file; it is made if need be. `:memory:` for none. */
  readonly path: string;
  /** Puts the commit off to the end of the turn. */
  readonly defer: (callback: () => void) => void;
}

/** The schema, as steps. `PRAGMA user_version` says how many of them a file has behind it. */
const MIGRATIONS: readonly string[] = [
  `${LOG_SCHEMA}
  -- Private messages, one row for each of the two people.
  CREATE TABLE inbox (
    room INTEGER NOT NULL,
    person TEXT NOT NULL,
    seq INTEGER NOT NULL,
    id TEXT NOT NULL,
    content TEXT NOT NULL,
    time INTEGER NOT NULL,
    from_name TEXT NOT NULL,
    from_person TEXT NOT NULL,
    from_seq INTEGER NOT NULL,
    to_name TEXT NOT NULL,
    to_person TEXT NOT NULL,
    to_seq INTEGER NOT NULL,
    ref TEXT,
    PRIMARY KEY (room, person, seq)
  ) STRICT, WITHOUT ROWID;
  CREATE UNIQUE INDEX inbox_ref ON inbox (room, person, ref) WHERE ref IS NOT NULL;
  CREATE INDEX inbox_time ON inbox (time);
  `,
  `
  CREATE TABLE accounts (
    key TEXT PRIMARY KEY,
    username TEXT NOT NULL,
    password_hash TEXT NOT NULL
  ) STRICT;

  CREATE TABLE sessions (
    hash TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    expires_at INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX sessions_expiry ON sessions (expires_at);

  CREATE TABLE settings (
    room TEXT PRIMARY KEY,
    owner TEXT,
    -- RoomSettings, as JSON.
    value TEXT NOT NULL
  ) STRICT;
  CREATE INDEX settings_owner ON settings (owner);
  `,
  JOURNAL_SCHEMA,
];

/** How long private messages are kept, in milliseconds. */
const INBOX_MS = 30 * 24 * 60 * 60 * 1000;

/** What a change leads to. */
interface Outcome<T> {
  readonly value: T;
  readonly news?: EngineEvent | undefined;
}

/** A change to make in this turn's transaction, and whom to tell how it went. */
interface Job {
  readonly room: string;
  readonly change: () => Outcome<unknown>;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
  /** What became of it, as long as it is not stored. */
  outcome?: Outcome<unknown>;
  refusal?: ChatError;
}

type Row = Record<string, string | number | null>;

/** Remembers in one SQLite file. */
export class SqliteEngine extends LocalBus implements Engine {
  readonly #options: SqliteEngineOptions;
  readonly #db: DatabaseSync;
  readonly #sql: ReturnType<typeof prepare>;
  readonly #log: SqliteLog;
  #jobs: Job[] = [];

  /** @throws if the file cannot be opened, is in use, or was written by a newer version */
  constructor(options: SqliteEngineOptions) {
    super(options);
    this.#options = options;
    this.#db = new DatabaseSync(options.path);
    try {
      // A checkpoint waits for the disk: once in 40 MB of log, not in 4, halves the slowest commits.
      this.#db.exec(`
        PRAGMA locking_mode = EXCLUSIVE;
        PRAGMA journal_mode = WAL;
        PRAGMA synchronous = NORMAL;
        PRAGMA wal_autocheckpoint = 10000;
      `);
      migrate(this.#db);
      this.#sql = prepare(this.#db);
      const isInUse = (room: string) => this.hasSubscribers(room);
      this.#log = new SqliteLog(this.#db, { ...options, isInUse });
      this.#transact(() => {
        this.#log.recover();
        this.#sql.dropOldPrivate.run(options.clock() - INBOX_MS);
      });
    } catch (error) {
      this.#db.close();
      throw error;
    }
  }

  append(room: string, draft: Draft): Promise<Receipt<ChatEvent>> {
    return this.#put(room, () => {
      const appended = this.#log.append(room, draft);
      return "repeated" in appended
        ? { value: { event: appended.repeated, isDuplicate: true } }
        : toOutcome(appended, draft.origin);
    });
  }

  edit(room: string, change: Change & { content: string }): Promise<Receipt<MessageUpdatedEvent>> {
    return this.#put(room, () => toOutcome(this.#log.edit(room, change), change.origin));
  }

  delete(room: string, change: Change): Promise<Receipt<MessageDeletedEvent>> {
    return this.#put(room, () => toOutcome(this.#log.delete(room, change), change.origin));
  }

  whisper(room: string, draft: PrivateDraft): Promise<Receipt<PrivateMessage>> {
    return this.#put(room, () => {
      const { content, username, person, to, origin } = draft;
      const row = this.#log.rowOf(room);
      const ref = draft.ref === undefined ? null : refKey(nameKey(username), draft.ref);
      const first = ref === null ? undefined : this.#sql.privateByRef.get(row, person, ref);
      if (first !== undefined) {
        return { value: { event: toPrivate(first as Row), isDuplicate: true } };
      }
      if (to === undefined) throw nobodyWithName();
      const message: PrivateMessage = {
        id: this.#options.newId(),
        content,
        timestamp: this.#log.timeIn(room),
        from: { username, person },
        to,
        fromSeq: this.#lastPrivate(row, person) + 1,
        toSeq: this.#lastPrivate(row, to.person) + 1,
      };
      const { id, timestamp, fromSeq, toSeq } = message;
      const from = [username, person, fromSeq];
      const facts = [id, content, Date.parse(timestamp), ...from, to.username, to.person, toSeq];
      this.#sql.insertPrivate.run(row, person, fromSeq, ...facts, ref);
      this.#sql.insertPrivate.run(row, to.person, toSeq, ...facts, null);
      for (const [owner, seq] of [[person, fromSeq], [to.person, toSeq]] as const) {
        if (seq > this.#options.keep) {
          this.#sql.trimPrivate.run(row, owner, seq - this.#options.keep);
        }
      }
      const value = { event: message, isDuplicate: false };
      return { value, news: { type: "private", message, origin } };
    });
  }

  state(room: string): Promise<LogState> {
    return this.attempt(() => this.#log.state(room));
  }

  log(room: string, after: number, limit: number): Promise<LogEvent[]> {
    return this.attempt(() => this.#log.log(room, after, limit));
  }

  messages(room: string, range: MessageRange): Promise<ChatEvent[]> {
    return this.attempt(() => this.#log.messages(room, range));
  }

  inbox(room: string, person: string, after: number, limit: number): Promise<InboxEntry[]> {
    return this.attempt(() => {
      const row = this.#log.findRow(room) ?? null;
      const rows = this.#sql.inbox.all(row, person, after, limit) as Row[];
      return rows.map((row) => ({ inboxSeq: row.seq as number, message: toPrivate(row) }));
    });
  }

  inboxSeq(room: string, person: string): Promise<number> {
    return this.attempt(() => this.#lastPrivate(this.#log.findRow(room), person));
  }

  settings(room: string): Promise<RoomSettings> {
    return this.attempt(() => {
      const row = this.#sql.settings.get(room) as { value: string } | undefined;
      return row === undefined ? DEFAULT_SETTINGS : JSON.parse(row.value);
    });
  }

  setSettings(room: string, settings: RoomSettings): Promise<void> {
    return this.#put(room, () => {
      this.#sql.setSettings.run(room, settings.owner ?? null, JSON.stringify(settings));
      return { value: undefined, news: { type: "settings", settings } };
    });
  }

  countOwned(owner: string): Promise<number> {
    return this.attempt(() => (this.#sql.countOwned.get(owner) as { count: number }).count);
  }

  addAccount({ key, username, passwordHash }: Account): Promise<boolean> {
    return this.#put(EVERYWHERE, () => {
      const { changes } = this.#sql.addAccount.run(key, username, passwordHash);
      return changes === 0 ? { value: false } : { value: true, news: { type: "registered", key } };
    });
  }

  account(key: string): Promise<Account | undefined> {
    return this.attempt(() => {
      const row = this.#sql.account.get(key) as Row | undefined;
      if (row === undefined) return undefined;
      const { username, password_hash } = row as Record<string, string>;
      return { key, username: username!, passwordHash: password_hash! };
    });
  }

  addToken({ hash, account, expiresAt }: Token): Promise<void> {
    return this.#put(EVERYWHERE, () => {
      this.#sql.dropExpired.run(this.#options.clock());
      this.#sql.addToken.run(hash, account, expiresAt);
      return { value: undefined };
    });
  }

  token(hash: string): Promise<Token | undefined> {
    return this.attempt(() => {
      const row = this.#sql.token.get(hash) as Row | undefined;
      if (row === undefined) return undefined;
      return { hash, account: row.account as string, expiresAt: row.expires_at as number };
    });
  }

  endToken(hash: string): Promise<void> {
    return this.#put(EVERYWHERE, () => {
      this.#sql.endToken.run(hash);
      return { value: undefined, news: { type: "token_ended", hash } };
    });
  }

  override async close(): Promise<void> {
    if (this.isClosed) return;
    await super.close();
    for (const job of this.#jobs.splice(0)) job.reject(restarting());
    try {
      this.#transact(() => this.#log.settle());
    } catch {
      // Then it is done when the file is next opened.
    }
    this.#db.close();
  }

  /** Puts a change down for this turn's transaction. The room is told of it when it is stored. */
  #put<T>(room: string, change: () => Outcome<T>): Promise<T> {
    if (this.isClosed) return Promise.reject(restarting());
    return new Promise((resolve, reject) => {
      if (this.#jobs.length === 0) this.#options.defer(() => this.#commit());
      this.#jobs.push({ room, change, resolve: resolve as Job["resolve"], reject });
    });
  }

  /** Stores all that was put down in this turn, or nothing of it, and then tells of it. */
  #commit(): void {
    const jobs = this.#jobs;
    this.#jobs = [];
    if (jobs.length === 0) return;
    try {
      this.#transact(() => {
        for (const job of jobs) run(job);
        this.#log.write();
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
      if (outcome.news !== undefined) this.publish(room, outcome.news);
      resolve(outcome.value);
    }
  }

  /** Does all of it or nothing. */
  #transact(change: () => void): void {
    this.#db.exec("BEGIN IMMEDIATE");
    try {
      change();
      this.#db.exec("COMMIT");
      this.#log.commit();
    } catch (error) {
      // The numbers that were given out are void.
      this.#log.rollback();
      if (this.#db.isTransaction) this.#db.exec("ROLLBACK");
      throw error;
    }
  }

  #lastPrivate(row: number | undefined, person: string): number {
    const { last } = this.#sql.lastPrivate.get(row ?? null, person) as { last: number | null };
    return last ?? 0;
  }
}

function migrate(db: DatabaseSync): void {
  const { user_version } = db.prepare("PRAGMA user_version").get() as { user_version: number };
  if (user_version > MIGRATIONS.length) {
    throw new Error("The file was written by a newer version of Hubbub.");
  }
  for (const [i, step] of MIGRATIONS.entries()) {
    if (i < user_version) continue;
    db.exec(`BEGIN IMMEDIATE; ${step}; PRAGMA user_version = ${i + 1}; COMMIT`);
  }
}

/** Every statement, prepared once. */
function prepare(db: DatabaseSync) {
  const sql = (text: string): StatementSync => db.prepare(text);
  return {
    insertPrivate: sql(`
      INSERT INTO inbox (
        room, person, seq, id, content, time,
        from_name, from_person, from_seq, to_name, to_person, to_seq, ref
      ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    `),
    privateByRef: sql("SELECT * FROM inbox WHERE room = ? AND person = ? AND ref = ?"),
    inbox: sql(
      "SELECT * FROM inbox WHERE room = ? AND person = ? AND seq > ? ORDER BY seq LIMIT ?",
    ),
    lastPrivate: sql("SELECT max(seq) AS last FROM inbox WHERE room = ? AND person = ?"),
    trimPrivate: sql("DELETE FROM inbox WHERE room = ? AND person = ? AND seq <= ?"),
    settings: sql("SELECT value FROM settings WHERE room = ?"),
    setSettings: sql("INSERT OR REPLACE INTO settings (room, owner, value) VALUES (?, ?, ?)"),
    countOwned: sql("SELECT count(*) AS count FROM settings WHERE owner = ?"),
    addAccount: sql(
      "INSERT OR IGNORE INTO accounts (key, username, password_hash) VALUES (?, ?, ?)",
    ),
    account: sql("SELECT username, password_hash FROM accounts WHERE key = ?"),
    addToken: sql("INSERT INTO sessions (hash, account, expires_at) VALUES (?, ?, ?)"),
    token: sql("SELECT account, expires_at FROM sessions WHERE hash = ?"),
    endToken: sql("DELETE FROM sessions WHERE hash = ?"),
    dropExpired: sql("DELETE FROM sessions WHERE expires_at <= ?"),
    // The newest stays, however old it is: the next one's number follows from it.
    dropOldPrivate: sql(`
      DELETE FROM inbox WHERE time < ? AND seq < (
        SELECT max(seq) FROM inbox AS own WHERE own.room = inbox.room AND own.person = inbox.person
      )
    `),
  };
}

/** Makes a change, if it may be made. What goes wrong otherwise ends the transaction. */
function run(job: Job): void {
  try {
    job.outcome = job.change();
  } catch (error) {
    if (!(error instanceof ChatError)) throw error;
    job.refusal = error;
  }
}

function toOutcome<E extends LogEvent>(
  { event, json }: Logged<E>,
  origin: string,
): Outcome<Receipt<E>> {
  return { value: { event, isDuplicate: false }, news: { type: "logged", event, json, origin } };
}

function toPrivate(row: Row): PrivateMessage {
  return {
    id: row.id as string,
    content: row.content as string,
    timestamp: toTimestamp(row.time as number),
    from: { username: row.from_name as string, person: row.from_person as string },
    to: { username: row.to_name as string, person: row.to_person as string },
    fromSeq: row.from_seq as number,
    toSeq: row.to_seq as number,
  };
}
