/**
 * The connections of one instance to PostgreSQL: one receives notifications, one writes, and one
 * reads, if there is a third.
 *
 * @module
 */

import { nameKey } from "../../names.ts";
import {
  type Account,
  accountPerson,
  type BotToken,
  type Known,
  NEVER,
  type Token,
} from "../../people/accounts.ts";
import type { ChatEvent, LogEvent } from "../../protocol/events.ts";
import { EXCESS, LIVE_EVENTS } from "../changes.ts";
import {
  type Author,
  EVERYWHERE,
  type InboxEntry,
  type LogState,
  type MessageRange,
  type RoomSettings,
  type Wanted,
} from "../engine.ts";
import {
  type Answer,
  type BackendOptions,
  type Batch,
  type Beat,
  type Link,
  type LinkListener,
  NotDone,
  type Opened,
  type Page,
  type Position,
  type Pulse,
  TooLate,
} from "../remote/backend.ts";
import type { Connection } from "./connection.ts";
import { Epochs } from "./epochs.ts";
import { roomsOf, toAnswers, toArguments, toAuthor, type TurnRow } from "./jobs.ts";
import {
  type EventRow,
  type NewsRow,
  type PositionRow,
  type PresenceRow,
  type PrivateRow,
  toEvents,
  toNews,
  toPosition,
  toPresence,
  toPrivate,
  toSettings,
} from "./rows.ts";
import { call, quote, type Value } from "./sql.ts";
import { Upkeep } from "./upkeep.ts";

/** Maximum presences of ended instances to end at a time. */
const MAX_ENDS = 2000;

/** The error codes of PostgreSQL that end a link: another epoch has begun, or it is a standby. */
const LOST = ["HB001", "25006"];

/** The server's answer when a link begins, see `begin_v1`. */
export type BeginRow = readonly [
  time: number,
  epoch: number,
  started: number,
  epochs: readonly (readonly [id: number, name: string])[],
];

/** What {@linkcode PostgresLink} needs. */
export interface PostgresLinkOptions extends BackendOptions {
  readonly listener: LinkListener;
  readonly hearing: Connection;
  readonly writing: Connection;
  /** May be the same as `writing`. */
  readonly reading: Connection;
  readonly begin: BeginRow;
}

/** The connections of one instance. */
export class PostgresLink implements Link {
  readonly time: number;
  readonly #options: PostgresLinkOptions;
  readonly #epochs: Epochs;
  /** The first number of `presence` and `privates`. */
  readonly #start: number;
  readonly #subscribed = new Set<string>([EVERYWHERE]);
  readonly #upkeep: Upkeep;
  #isClosed = false;

  constructor(options: PostgresLinkOptions) {
    const { begin: [time, epoch, started, epochs], keep, reading } = options;
    this.time = time;
    this.#options = options;
    this.#epochs = new Epochs(epoch, epochs);
    this.#start = started * 1000;
    this.#upkeep = new Upkeep({ connection: reading, keep, now: () => this.#now });
  }

  /** Passes a notification on. */
  hear(payload: string): void {
    if (this.#isClosed) return;
    const { listener } = this.#options;
    const row = JSON.parse(payload) as string | NewsRow;
    if (typeof row === "string") return listener.onProbe(row);
    if (!this.#subscribed.has(row[1])) return;
    try {
      listener.onNews(toNews(this.#epochs, row));
    } catch (error) {
      this.lose(error as Error);
    }
  }

  /** Ends the link because a connection has failed. A repeat does nothing. */
  lose(reason: Error): void {
    if (this.#isClosed) return;
    this.close();
    this.#options.listener.onLost(reason);
  }

  async turn({ instance, number, jobs, deadline }: Batch): Promise<Answer[]> {
    const rooms = roomsOf(jobs);
    const keep = this.#options.keep;
    const head = [this.#epochs.id, this.#now, deadline, instance, number, keep];
    const row = await this.#write<TurnRow>(
      "turn_v1",
      ...head,
      ...toArguments(this.#epochs, rooms, jobs),
    );
    const [lastSeqs, oldestSeqs] = row;
    for (const [i, room] of rooms.entries()) {
      if (lastSeqs[i]! - oldestSeqs[i]! >= keep + EXCESS) this.#upkeep.trim(room);
    }
    return toAnswers(this.#epochs, rooms, jobs, row);
  }

  subscribe(room: string): Promise<void> {
    this.#subscribed.add(room);
    return Promise.resolve();
  }

  unsubscribe(room: string): void {
    this.#subscribed.delete(room);
  }

  async open(room: string, { events, messages }: Wanted): Promise<Opened> {
    type Row = readonly [
      position: PositionRow,
      oldestSeq?: number,
      events?: readonly EventRow[],
      messages?: readonly EventRow[],
      settings?: RoomSettings | null,
      present?: readonly PresenceRow[],
    ];
    const row = await this.#read<Row>("open_v1", this.#epochs.id, room, events, messages);
    const [
      position,
      oldestSeq = 1,
      eventRows = [],
      messageRows = [],
      settings = null,
      present = [],
    ] = row;
    return {
      position: this.#toPosition(room, position),
      oldestSeq,
      events: toEvents(this.#epochs, room, eventRows),
      messages: toEvents(this.#epochs, room, messageRows) as ChatEvent[],
      settings: toSettings(settings),
      present: present.map(toPresence),
    };
  }

  async page(room: string, since: Position, limit: number): Promise<Page> {
    type Row = readonly [
      position: PositionRow,
      continues?: boolean,
      events?: readonly EventRow[],
      privates?: readonly (readonly [number: number, message: PrivateRow])[],
      settings?: RoomSettings | null,
      present?: readonly PresenceRow[] | null,
    ];
    const { epoch, seq, presence, privates, settings } = since;
    const known = this.#epochs.find(room, epoch);
    const from = [known, seq, presence, privates, settings];
    const row = await this.#read<Row>("page_v1", this.#epochs.id, room, ...from, limit);
    const [at, continues = seq === 0, events = [], messages = [], changed = null, present] = row;
    const position = this.#toPosition(room, at);
    return {
      position,
      continues,
      events: toEvents(this.#epochs, room, events),
      privates: messages.map(([number, message]) => ({ number, message: toPrivate(message) })),
      privatesTo: messages.length < limit ? position.privates : messages.at(-1)![0],
      settings: position.settings === settings ? undefined : toSettings(changed),
      present: position.presence === presence ? undefined : (present ?? []).map(toPresence),
    };
  }

  async beat({ instance, leaseMs, probe, rooms, answered }: Beat): Promise<Pulse> {
    type Row = readonly [
      time: number,
      isAlive: boolean,
      positions: readonly PositionRow[] | null,
      everywhere: number | null,
    ];
    const lease = [instance, leaseMs, probe] as const;
    // Reads and upkeep may keep the other connection busy. A full disk must not prevent the
    // renewal.
    const { writing } = this.#options;
    const sql = call("beat_v1", this.#epochs.id, this.#now, ...lease, rooms, answered, MAX_ENDS);
    const [[time, isAlive, positions, everywhere]] = await Promise.all([
      this.#ask<Row>(writing, sql),
      this.#send(writing, call("space_v1")),
    ]);
    this.#upkeep.clean();
    return {
      time,
      isAlive,
      positions: (positions ?? []).map((row, i) => this.#toPosition(rooms[i]!, row)),
      everywhere: everywhere ?? this.#start,
    };
  }

  async end(instance: string): Promise<void> {
    const sql = call("end_v1", this.#epochs.id, this.#now, [instance], MAX_ENDS);
    while (await this.#send(this.#options.writing, sql) === "t");
  }

  async presences(instance: string): Promise<{ room: string; connection: string }[]> {
    const rows = await this.#select<[string, string][]>(`
      SELECT json_agg(json_build_array(rooms.name, connection))
      FROM hubbub.presence JOIN hubbub.rooms ON rooms.id = presence.room
      WHERE instance = ${quote(instance)}`);
    return (rows ?? []).map(([room, connection]) => ({ room, connection }));
  }

  async author(room: string, id: string): Promise<Author | undefined> {
    const place = this.#epochs.parseId(room, id);
    if (place === undefined) return undefined;
    const row = await this.#select<[string, string]>(`
      SELECT json_build_array(username, person) FROM hubbub.events
      WHERE room = ${roomId(room)} AND seq = ${place.seq} AND epoch = ${place.epoch}
        AND type = 'chat' AND person <> ''`);
    return row === undefined ? undefined : toAuthor(row);
  }

  async state(room: string): Promise<LogState> {
    const { position, oldestSeq } = await this.open(room, { events: 0, messages: 0 });
    return { epoch: position.epoch, oldestSeq, lastSeq: position.seq };
  }

  canResume(room: string, epoch: string, seq: number): Promise<boolean> {
    const known = this.#epochs.find(room, epoch);
    return this.#test("resume_v1", this.#epochs.id, room, known, seq);
  }

  canResumeInbox(room: string, person: string, epoch: string, seq: number): Promise<boolean> {
    return this.#test("resume_inbox_v1", room, person, this.#epochs.find(room, epoch), seq);
  }

  async events(room: string, after: number, limit: number): Promise<LogEvent[]> {
    const sql = `SELECT hubbub.events_v1(${roomId(room)}, ${quote(after)}, ${quote(limit)})`;
    return toEvents(this.#epochs, room, await this.#select<EventRow[]>(sql) ?? []);
  }

  async messages(room: string, range: MessageRange): Promise<ChatEvent[]> {
    const { before = Infinity, after = 0, limit } = range;
    const bounds = [after, before, limit, range.after === undefined].map(quote).join(",");
    const sql = `SELECT hubbub.messages_v1(${roomId(room)}, ${bounds})`;
    const rows = await this.#select<EventRow[]>(sql) ?? [];
    return toEvents(this.#epochs, room, rows) as ChatEvent[];
  }

  async inbox(room: string, person: string, after: number, limit: number): Promise<InboxEntry[]> {
    type Row = readonly [inboxSeq: number, message: PrivateRow];
    const rows = await this.#select<Row[]>(`
      SELECT json_agg(json_build_array(seq, hubbub.private_v1(w)::json) ORDER BY seq) FROM (
        SELECT * FROM hubbub.inbox
        WHERE room = ${roomId(room)} AND person = ${quote(person)} AND seq > ${quote(after)}
        ORDER BY seq LIMIT ${quote(limit)}) AS w`);
    return (rows ?? []).map(([inboxSeq, row]) => ({ inboxSeq, message: toPrivate(row) }));
  }

  async inboxSeq(room: string, person: string): Promise<number> {
    const newest = await this.#select<number>(`
      SELECT max(seq) FROM hubbub.inbox
      WHERE room = ${roomId(room)} AND person = ${quote(person)}`);
    return newest ?? 0;
  }

  async settings(room: string): Promise<RoomSettings> {
    const value = await this.#select<RoomSettings>(
      `SELECT value FROM hubbub.settings WHERE room = ${quote(room)}`,
    );
    return toSettings(value ?? null);
  }

  async countOwned(owner: string): Promise<number> {
    const sql = `SELECT count(*) FROM hubbub.settings WHERE owner = ${quote(owner)}`;
    return await this.#select<number>(sql) ?? 0;
  }

  addAccount({ key, username, passwordHash }: Account, deadline: number): Promise<boolean> {
    return this.#write("add_account_v1", this.#epochs.id, deadline, key, username, passwordHash);
  }

  async account(key: string): Promise<Account | undefined> {
    const row = await this.#select<[string, string]>(`
      SELECT json_build_array(username, password_hash) FROM hubbub.accounts
      WHERE key = ${quote(key)}`);
    if (row === undefined) return undefined;
    const [username, hash] = row;
    return { key, username, passwordHash: username === "" ? "" : hash };
  }

  async addToken({ hash, account, expiresAt }: Token, deadline: number): Promise<void> {
    await this.#write("add_token_v1", this.#now, deadline, hash, account, String(expiresAt));
  }

  async token(hash: string): Promise<Token | undefined> {
    const row = await this.#select<[string, string]>(`
      SELECT json_build_array(account, expires_at::text) FROM hubbub.sessions
      WHERE hash = ${quote(hash)}`);
    return row && { hash, account: row[0], expiresAt: Number(row[1]) };
  }

  addBotToken(token: BotToken, most: number, deadline: number): Promise<boolean> {
    const { hash, account, name, created } = token;
    return this.#write("add_bot_v1", deadline, hash, account, NEVER, name, created, most);
  }

  async botTokens(account: string): Promise<BotToken[]> {
    const rows = await this.#select<BotToken[]>(`
      SELECT coalesce(json_agg(json_build_object(
        'hash', hash, 'account', account, 'name', name, 'created', created)), '[]')
      FROM hubbub.sessions WHERE account = ${quote(account)} AND name IS NOT NULL`);
    return rows!;
  }

  endBotToken(account: string, name: string, deadline: number): Promise<boolean> {
    return this.#write("end_bot_v1", this.#epochs.id, deadline, account, name);
  }

  async endToken(hash: string, deadline: number): Promise<void> {
    await this.#write("end_token_v1", this.#epochs.id, deadline, hash);
  }

  async endTokens(account: string, deadline: number): Promise<void> {
    await this.#write("end_tokens_v1", this.#epochs.id, deadline, account, "");
  }

  setPassword(key: string, hash: string, kept: string, deadline: number): Promise<boolean> {
    return this.#write("set_password_v1", this.#epochs.id, deadline, key, hash, kept);
  }

  removeAccount(key: string, deadline: number): Promise<boolean> {
    return this.#write("remove_account_v1", this.#epochs.id, deadline, key);
  }

  /** Reads the next events, and erases some. Only this process can compare names. */
  async eraseNext(deadline: number): Promise<boolean> {
    type Row = readonly [
      account: string,
      ...from: [room: number, seq: number],
      ...to: [room: number | null, seq: number | null],
      room: number | null,
      names: readonly string[] | null,
    ];
    const row = await this.#read<Row | null>("erasing_v1", accountPerson(""));
    if (row === null) return false;
    const [account, ...place] = row;
    const names = place.pop() as readonly string[] | null ?? [];
    const own = names.filter((name) => nameKey(name) === account);
    const head = [this.#epochs.id, this.#now, deadline, account, accountPerson(account)];
    await this.#write("erase_v1", ...head, ...place as Value[], own, LIVE_EVENTS);
    return true;
  }

  async recheck({ tokens, keys }: Known): Promise<Known> {
    const row = await this.#select<[string[], string[]]>(`
      SELECT json_build_array(
        (SELECT coalesce(json_agg(t), '[]') FROM unnest(${quote(tokens)}::text[]) AS t
          WHERE NOT EXISTS (SELECT FROM hubbub.sessions WHERE hash = t)),
        (SELECT coalesce(json_agg(k), '[]') FROM unnest(${quote(keys)}::text[]) AS k
          WHERE EXISTS (SELECT FROM hubbub.accounts WHERE key = k)))`);
    return { tokens: row![0], keys: row![1] };
  }

  close(): void {
    this.#isClosed = true;
    const { hearing, writing, reading } = this.#options;
    for (const connection of [hearing, writing, reading]) connection.close();
  }

  /** The value of `p_now`. */
  get #now(): number | null {
    return this.#options.clock?.() ?? null;
  }

  #toPosition(room: string, row: PositionRow): Position {
    return toPosition(this.#epochs.nameOf(room), row);
  }

  /**
   * Calls a function that writes, again if it asks for that. After its deadline it does nothing.
   */
  async #write<T>(name: string, ...values: Value[]): Promise<T> {
    const sql = call(name, ...values);
    let answer = await this.#send(this.#options.writing, sql);
    while (answer === "again") answer = await this.#send(this.#options.writing, sql);
    if (answer === "late") throw new TooLate();
    return JSON.parse(answer!) as T;
  }

  #read<T>(name: string, ...values: Value[]): Promise<T> {
    return this.#ask(this.#options.reading, call(name, ...values));
  }

  async #test(name: string, ...values: Value[]): Promise<boolean> {
    return await this.#send(this.#options.reading, call(name, ...values)) === "t";
  }

  async #ask<T>(connection: Connection, sql: string): Promise<T> {
    return JSON.parse((await this.#send(connection, sql))!) as T;
  }

  async #select<T>(sql: string): Promise<T | undefined> {
    const answer = await this.#send(this.#options.reading, sql);
    return answer === null ? undefined : JSON.parse(answer) as T;
  }

  /**
   * Sends a statement.
   *
   * @throws {NotDone} if the server answers with an error
   */
  async #send(connection: Connection, sql: string): Promise<string | null> {
    if (this.#isClosed) throw new Error("The link is closed.");
    try {
      return await connection.query(sql);
    } catch (error) {
      const { code, severity, message } = error as Error & { code?: string; severity?: string };
      // The server may have run the statement, and ended the connection before its answer.
      if (severity !== "ERROR") throw error;
      if (LOST.includes(code!)) this.lose(error as Error);
      throw new NotDone(`PostgreSQL: ${message}`, { cause: error });
    }
  }
}

/** The id of a room's row, as a part of a statement. */
function roomId(room: string): string {
  return `(SELECT id FROM hubbub.rooms WHERE name = ${quote(room)})`;
}
