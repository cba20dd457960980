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
import type { Account, Session } from "./accounts.ts";
import { Channels, closedError } from "./channels.ts";
import {
  type Change,
  checkChange,
  DEFAULT_SETTINGS,
  type Draft,
  type Engine,
  type EngineOptions,
  EVERYWHERE,
  type InboxEntry,
  type LogEvent,
  type LogState,
  type MessageRange,
  type News,
  nobodyError,
  type PrivateDraft,
  type PrivateMessage,
  type Receipt,
  refKey,
  type RoomSettings,
} from "./engine.ts";
import {
  type ChatEvent,
  type MessageDeletedEvent,
  type MessageUpdatedEvent,
  ProtocolError,
} from "./protocol.ts";

/** What {@linkcode SqliteEngine} needs. */
export interface SqliteEngineOptions extends EngineOptions {
  /** The file; it is made if need be. `:memory:` for none. */
  readonly path: string;
  /** Puts the commit off to the end of the turn. */
  readonly defer: (callback: () => void) => void;
}

/** The schema, as steps. `PRAGMA user_version` says how many of them a file has behind it. */
const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE rooms (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    epoch TEXT NOT NULL
  ) STRICT;

  -- The log. A message is one row for good: "content" is its present text.
  CREATE TABLE events (
    room INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    type TEXT NOT NULL,
    id TEXT NOT NULL,
    username TEXT NOT NULL,
    person TEXT NOT NULL,
    content TEXT NOT NULL,
    time INTEGER NOT NULL,
    ref TEXT,
    edited INTEGER NOT NULL DEFAULT 0,
    deleted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (room, seq)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX events_id ON events (room, id);
  CREATE UNIQUE INDEX events_ref ON events (room, ref) WHERE ref IS NOT NULL;

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
];

/** How long private messages are kept, in milliseconds. */
const INBOX_MS = 30 * 24 * 60 * 60 * 1000;

/** Rooms whose numbers are kept at hand. */
const MAX_CACHED_ROOMS = 10_000;

/** How many events a room may have beyond those that are kept, before they are dropped in one go. */
const TRIM_EVERY = 100;

/** A room's numbers, as of the last write. */
interface RoomState {
  readonly epoch: string;
  /** Its row; absent until something is written. */
  id: number | undefined;
  lastSeq: number;
  lastTime: number;
}

/** Something to write, and how to tell of it when it is stored. */
interface Job {
  readonly room: string;
  run(): void;
  done(): void;
  fail(error: unknown): void;
}

type Row = Record<string, string | number | null>;

/** Remembers in one SQLite file. */
export class SqliteEngine extends Channels implements Engine {
  readonly #options: SqliteEngineOptions;
  readonly #db: DatabaseSync;
  readonly #sql: ReturnType<typeof prepare>;
  readonly #rooms = new Map<string, RoomState>();
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
      this.#sql.dropOldPrivate.run(options.clock() - INBOX_MS);
    } catch (error) {
      this.#db.close();
      throw error;
    }
  }

  append(room: string, draft: Draft): Promise<Receipt<ChatEvent>> {
    return this.#write(room, (state) => {
      const { content, username, person, origin } = draft;
      const ref = draft.ref === undefined ? null : refKey(draft, draft.ref);
      const first = ref === null ? undefined : this.#sql.byRef.get(state.id!, ref) as Row;
      if (first !== undefined) {
        return { event: toEvent(room, first) as ChatEvent, isDuplicate: true };
      }
      const id = this.#options.newId();
      const { seq, time, timestamp } = this.#place(state);
      this.#sql.insert.run(state.id!, seq, "chat", id, username, person, content, time, ref);
      const event: ChatEvent = { type: "chat", content, room, username, id, seq, timestamp };
      return { event, isDuplicate: false, news: { type: "logged", event, origin } };
    });
  }

  edit(room: string, change: Change & { content: string }): Promise<Receipt<MessageUpdatedEvent>> {
    return this.#write(room, (state) => {
      const { content, id } = change;
      const username = this.#find(state, change);
      this.#sql.edit.run(content, state.id!, id);
      const place = this.#addChange(state, "message_updated", change, username, content);
      const event = { type: "message_updated", content, room, username, id, ...place } as const;
      return { event, isDuplicate: false, news: { type: "logged", event, origin: change.origin } };
    });
  }

  delete(room: string, change: Change): Promise<Receipt<MessageDeletedEvent>> {
    return this.#write(room, (state) => {
      const { id } = change;
      const username = this.#find(state, change);
      this.#sql.delete.run(state.id!, id);
      const place = this.#addChange(state, "message_deleted", change, username, "");
      const event = { type: "message_deleted", content: "", room, username, id, ...place } as const;
      return { event, isDuplicate: false, news: { type: "logged", event, origin: change.origin } };
    });
  }

  whisper(room: string, draft: PrivateDraft): Promise<Receipt<PrivateMessage>> {
    return this.#write(room, (state) => {
      const { content, username, person, to, origin } = draft;
      const ref = draft.ref === undefined ? null : refKey(draft, draft.ref);
      const first = ref === null ? undefined : this.#sql.privateByRef.get(state.id!, person, ref);
      if (first !== undefined) return { event: toPrivate(first as Row), isDuplicate: true };
      if (to === undefined) throw nobodyError();
      const time = this.#time(state);
      const message: PrivateMessage = {
        id: this.#options.newId(),
        content,
        timestamp: new Date(time).toISOString(),
        from: { username, person },
        to,
        fromSeq: this.#lastPrivate(state, person) + 1,
        toSeq: this.#lastPrivate(state, to.person) + 1,
      };
      const { id, fromSeq, toSeq } = message;
      const facts = [id, content, time, username, person, fromSeq, to.username, to.person, toSeq];
      this.#sql.insertPrivate.run(state.id!, person, fromSeq, ...facts, ref);
      this.#sql.insertPrivate.run(state.id!, to.person, toSeq, ...facts, null);
      for (const [owner, seq] of [[person, fromSeq], [to.person, toSeq]] as const) {
        if (seq > this.#options.keep) {
          this.#sql.trimPrivate.run(state.id!, owner, seq - this.#options.keep);
        }
      }
      return { event: message, isDuplicate: false, news: { type: "private", message, origin } };
    });
  }

  state(room: string): Promise<LogState> {
    return this.attempt(() => {
      const { id, epoch, lastSeq } = this.#room(room);
      const { oldest } = this.#sql.oldest.get(id ?? null) as { oldest: number | null };
      return { epoch, oldestSeq: oldest ?? lastSeq + 1, lastSeq };
    });
  }

  log(room: string, after: number, limit: number): Promise<LogEvent[]> {
    return this.attempt(() => {
      const rows = this.#sql.log.all(this.#room(room).id ?? null, after, limit) as Row[];
      return rows.map((row) => toEvent(room, row));
    });
  }

  messages(room: string, { before, after, limit }: MessageRange): Promise<ChatEvent[]> {
    return this.attempt(() => {
      const id = this.#room(room).id ?? null;
      const rows = after !== undefined
        ? this.#sql.messagesAfter.all(id, after, before ?? Number.MAX_SAFE_INTEGER, limit)
        : this.#sql.messagesBefore.all(id, before ?? Number.MAX_SAFE_INTEGER, limit).reverse();
      return (rows as Row[]).map((row) => toEvent(room, row) as ChatEvent);
    });
  }

  inbox(room: string, person: string, after: number, limit: number): Promise<InboxEntry[]> {
    return this.attempt(() => {
      const { id } = this.#room(room);
      const rows = this.#sql.inbox.all(id ?? null, person, after, limit) as Row[];
      return rows.map((row) => ({ inboxSeq: row.seq as number, message: toPrivate(row) }));
    });
  }

  inboxSeq(room: string, person: string): Promise<number> {
    return this.attempt(() => this.#lastPrivate(this.#room(room), person));
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

  addSession({ hash, account, expiresAt }: Session): Promise<void> {
    return this.#put(EVERYWHERE, () => {
      this.#sql.dropExpired.run(this.#options.clock());
      this.#sql.addSession.run(hash, account, expiresAt);
      return { value: undefined };
    });
  }

  session(hash: string): Promise<Session | undefined> {
    return this.attempt(() => {
      const row = this.#sql.session.get(hash) as Row | undefined;
      if (row === undefined) return undefined;
      return { hash, account: row.account as string, expiresAt: row.expires_at as number };
    });
  }

  endSession(hash: string): Promise<void> {
    return this.#put(EVERYWHERE, () => {
      this.#sql.endSession.run(hash);
      return { value: undefined, news: { type: "session_ended", hash } };
    });
  }

  override async close(): Promise<void> {
    if (this.isClosed) return;
    await super.close();
    for (const job of this.#jobs.splice(0)) job.fail(closedError());
    this.#db.close();
  }

  /** Puts a change of a room's log down for this turn's transaction. */
  #write<E>(
    room: string,
    change: (state: RoomState) => Receipt<E> & { news?: News },
  ): Promise<Receipt<E>> {
    return this.#put(room, () => {
      const state = this.#room(room);
      state.id ??= Number(this.#sql.insertRoom.run(room, state.epoch).lastInsertRowid);
      const { news, event, isDuplicate } = change(state);
      return { value: { event, isDuplicate }, news };
    });
  }

  /** Puts any change down for this turn's transaction. The room is told of it when it is stored. */
  #put<T>(room: string, change: () => { value: T; news?: News | undefined }): Promise<T> {
    if (this.isClosed) return Promise.reject(closedError());
    return new Promise((resolve, reject) => {
      let refusal: ProtocolError | undefined;
      let result: ReturnType<typeof change>;
      if (this.#jobs.length === 0) this.#options.defer(() => this.#commit());
      this.#jobs.push({
        room,
        run: () => {
          try {
            result = change();
          } catch (error) {
            if (!(error instanceof ProtocolError)) throw error;
            refusal = error;
          }
        },
        done: () => {
          if (refusal !== undefined) return reject(refusal);
          const { value, news } = result;
          if (news !== undefined) this.publish(room, news);
          resolve(value);
        },
        fail: reject,
      });
    });
  }

  /** Stores all that was put down in this turn, or nothing of it, and then tells of it. */
  #commit(): void {
    const jobs = this.#jobs;
    this.#jobs = [];
    if (jobs.length === 0) return;
    const before = new Map<string, RoomState>();
    try {
      for (const { room } of jobs) {
        if (!before.has(room)) before.set(room, { ...this.#room(room) });
      }
      this.#db.exec("BEGIN IMMEDIATE");
      for (const job of jobs) job.run();
      this.#db.exec("COMMIT");
    } catch (error) {
      // The numbers that were given out are void.
      for (const [room, state] of before) this.#rooms.set(room, state);
      if (this.#db.isTransaction) this.#db.exec("ROLLBACK");
      for (const job of jobs) job.fail(error);
      return;
    }
    for (const job of jobs) job.done();
  }

  /** A room's numbers. Its epoch begins when it is first asked for. */
  #room(name: string): RoomState {
    let state = this.#rooms.get(name);
    if (state === undefined) {
      const row = this.#sql.room.get(name) as { id: number; epoch: string } | undefined;
      const newest = this.#sql.newest.get(row?.id ?? null) as Row | undefined;
      state = {
        epoch: row?.epoch ?? this.#options.newId(),
        id: row?.id,
        lastSeq: newest?.seq as number ?? 0,
        lastTime: newest?.time as number ?? 0,
      };
      this.#rooms.set(name, state);
      if (this.#rooms.size > MAX_CACHED_ROOMS) this.#forgetRooms();
    }
    return state;
  }

  /** Makes place: rooms that are listened to, or have nothing stored, keep their numbers at hand. */
  #forgetRooms(): void {
    for (const name of this.#rooms.keys()) {
      if (this.#rooms.size <= MAX_CACHED_ROOMS / 2) return;
      if (!this.hasSubscribers(name)) this.#rooms.delete(name);
    }
  }

  #place(state: RoomState): { seq: number; time: number; timestamp: string } {
    const time = this.#time(state);
    const seq = ++state.lastSeq;
    const { keep } = this.#options;
    if (seq % TRIM_EVERY === 0 && seq > keep) this.#sql.trim.run(state.id!, seq - keep);
    return { seq, time, timestamp: new Date(time).toISOString() };
  }

  #time(state: RoomState): number {
    return state.lastTime = Math.max(state.lastTime, this.#options.clock());
  }

  #addChange(
    state: RoomState,
    type: "message_updated" | "message_deleted",
    { id, person }: Change,
    username: string,
    content: string,
  ): { seq: number; timestamp: string } {
    const { seq, time, timestamp } = this.#place(state);
    this.#sql.insert.run(state.id!, seq, type, id, username, person, content, time, null);
    return { seq, timestamp };
  }

  /** The name of a message's author, if the message may be changed. */
  #find(state: RoomState, change: Change): string {
    const row = this.#sql.byId.get(state.id!, change.id) as Row | undefined;
    checkChange(row && { person: row.person as string, isDeleted: row.deleted === 1 }, change);
    return row!.username as string;
  }

  #lastPrivate({ id }: RoomState, person: string): number {
    const { last } = this.#sql.lastPrivate.get(id ?? null, person) as { last: number | null };
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
  const columns = "seq, type, id, username, person, content, time, edited, deleted";
  return {
    room: sql("SELECT id, epoch FROM rooms WHERE name = ?"),
    newest: sql("SELECT seq, time FROM events WHERE room = ? ORDER BY seq DESC LIMIT 1"),
    insertRoom: sql("INSERT INTO rooms (name, epoch) VALUES (?, ?)"),
    insert: sql(`
      INSERT INTO events (room, seq, type, id, username, person, content, time, ref)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    `),
    byRef: sql(`SELECT ${columns} FROM events WHERE room = ? AND ref = ?`),
    byId: sql(`SELECT ${columns} FROM events WHERE room = ? AND id = ? AND type = 'chat'`),
    edit: sql(
      "UPDATE events SET content = ?, edited = 1 WHERE room = ? AND id = ? AND type = 'chat'",
    ),
    delete: sql("UPDATE events SET content = '', deleted = 1 WHERE room = ? AND id = ?"),
    oldest: sql("SELECT min(seq) AS oldest FROM events WHERE room = ?"),
    log: sql(`SELECT ${columns} FROM events WHERE room = ? AND seq > ? ORDER BY seq LIMIT ?`),
    messagesAfter: sql(`
      SELECT ${columns} FROM events
      WHERE room = ? AND seq > ? AND seq < ? AND type = 'chat' AND NOT deleted
      ORDER BY seq LIMIT ?
    `),
    messagesBefore: sql(`
      SELECT ${columns} FROM events WHERE room = ? AND seq < ? AND type = 'chat' AND NOT deleted
      ORDER BY seq DESC LIMIT ?
    `),
    trim: sql("DELETE FROM events WHERE room = ? AND seq <= ?"),
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
    addSession: sql("INSERT INTO sessions (hash, account, expires_at) VALUES (?, ?, ?)"),
    session: sql("SELECT account, expires_at FROM sessions WHERE hash = ?"),
    endSession: sql("DELETE FROM sessions WHERE hash = ?"),
    dropExpired: sql("DELETE FROM sessions WHERE expires_at <= ?"),
    // The newest stays, however old it is: the next one's number follows from it.
    dropOldPrivate: sql(`
      DELETE FROM inbox WHERE time < ? AND seq < (
        SELECT max(seq) FROM inbox AS own WHERE own.room = inbox.room AND own.person = inbox.person
      )
    `),
  };
}

function toEvent(room: string, row: Row): LogEvent {
  const { content, username, id, seq } = row as Record<string, string> & { seq: number };
  const timestamp = new Date(row.time as number).toISOString();
  const event = { content: content!, room, username: username!, id: id!, seq, timestamp };
  if (row.type === "message_updated") return { type: "message_updated", ...event };
  if (row.type === "message_deleted") return { type: "message_deleted", ...event };
  return {
    type: "chat",
    ...event,
    ...(row.edited === 1 && !row.deleted && { edited: true }),
    ...(row.deleted === 1 && { deleted: true }),
  };
}

function toPrivate(row: Row): PrivateMessage {
  return {
    id: row.id as string,
    content: row.content as string,
    timestamp: new Date(row.time as number).toISOString(),
    from: { username: row.from_name as string, person: row.from_person as string },
    to: { username: row.to_name as string, person: row.to_person as string },
    fromSeq: row.from_seq as number,
    toSeq: row.to_seq as number,
  };
}
