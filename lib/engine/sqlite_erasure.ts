/**
 * Erases the messages of removed accounts, in SQLite: a few milliseconds in each transaction,
 * however many there are.
 *
 * The tables have no index by person, since every message would pay for it. So an erasure reads all
 * rows once, in order. Its progress is kept in memory: after a restart it begins again.
 *
 * @module
 */

import type { DatabaseSync, StatementSync } from "node:sqlite";
import { nameKey } from "../names.ts";
import { accountPerson } from "../people/accounts.ts";
import { LIVE_EVENTS } from "./changes.ts";
import type { EngineEvent } from "./engine.ts";
import type { SqliteLog } from "./sqlite_log.ts";
import type { SqliteAccounts } from "./sqlite_people.ts";

/** How long one step takes, in milliseconds. */
const STEP_MS = 3;

/** Rows that are read between two looks at the clock. */
const CHUNK = 128;

/** A row of `events` that may need a change. */
interface Row {
  readonly id: number;
  readonly name: string;
  readonly seq: number;
  readonly shown: number;
  readonly type: string;
  readonly username: string;
  readonly person: string;
}

/** The progress of one account's erasure. */
interface Progress {
  readonly account: string;
  /** The last row of `inbox` that was read. */
  readonly inbox: readonly [room: number, person: string, seq: number];
  readonly isInboxDone: boolean;
  /** The last row of `events` that was read. */
  readonly event: number;
}

/** One step: its events, and where the next step begins. */
export interface ErasureStep {
  readonly progress: Progress | undefined;
  readonly published: readonly { readonly room: string; readonly event: EngineEvent }[];
}

/** What {@linkcode SqliteErasure} needs. */
export interface ErasureParts {
  readonly log: SqliteLog;
  readonly accounts: SqliteAccounts;
  readonly isInUse: (room: string) => boolean;
}

/** Erases the messages of removed accounts. Call its steps within a transaction. */
export class SqliteErasure {
  readonly #sql: ReturnType<typeof prepare>;
  readonly #parts: ErasureParts;
  #progress: Progress | undefined;

  constructor(db: DatabaseSync, parts: ErasureParts) {
    this.#sql = prepare(db);
    this.#parts = parts;
    this.begin();
  }

  /** Whether there is something to erase. */
  get isPending(): boolean {
    return this.#progress !== undefined;
  }

  /** Begins the erasure of a removed account, if there is one. Call it after each removal. */
  begin(): void {
    this.#progress ??= this.#next();
  }

  /** Erases for a few milliseconds. After the commit, pass the step to {@linkcode accept}. */
  step(): ErasureStep {
    const published: { room: string; event: EngineEvent }[] = [];
    const end = performance.now() + STEP_MS;
    let progress = this.#progress;
    while (progress !== undefined && performance.now() < end) {
      progress = progress.isInboxDone
        ? this.#eraseEvents(progress, published)
        : this.#eraseInbox(progress);
    }
    this.#parts.log.noteErasure();
    return { progress, published };
  }

  /** Continues after a committed step. */
  accept({ progress }: ErasureStep): void {
    this.#progress = progress;
  }

  #next(): Progress | undefined {
    const account = this.#parts.accounts.nextRemoved();
    return account === undefined
      ? undefined
      : { account, inbox: [0, "", 0], isInboxDone: false, event: 0 };
  }

  #eraseInbox(progress: Progress): Progress {
    const { account, inbox } = progress;
    const person = accountPerson(account);
    const rows = this.#sql.inbox.all(...inbox, CHUNK) as {
      room: number;
      person: string;
      seq: number;
      from_person: string;
    }[];
    for (const row of rows) {
      if (row.person === person) this.#sql.dropPrivate.run(row.room, row.person, row.seq);
      else if (row.from_person === person) {
        this.#sql.clearPrivate.run(row.room, row.person, row.seq);
      }
    }
    const last = rows.at(-1);
    if (last === undefined) return { ...progress, isInboxDone: true };
    return { ...progress, inbox: [last.room, last.person, last.seq] };
  }

  #eraseEvents(progress: Progress, published: { room: string; event: EngineEvent }[]) {
    const { account, event: from } = progress;
    const { newest } = this.#sql.newest.get() as { newest: number | null };
    if (newest === null || from >= newest) {
      this.#parts.accounts.noteErased(account);
      return this.#next();
    }
    const to = from + CHUNK;
    const rows = this.#sql.events.all(from, to, accountPerson(account)) as unknown as Row[];
    const erased = new Map<string, string[]>();
    for (const row of rows) {
      if (row.person !== accountPerson(account)) {
        // A moderator's change of the account's message has the account's name.
        if (nameKey(row.username) === account) this.#sql.clearName.run(row.id);
      } else if (row.type === "chat") this.#eraseMessage(row, published, erased);
      else this.#sql.clear.run(nameKey(row.username) === account ? "" : row.username, row.id);
    }
    for (const [room, ids] of erased) published.push({ room, event: { type: "erased", ids } });
    return { ...progress, event: to };
  }

  #eraseMessage(
    { id: row, name, seq, shown }: Row,
    published: { room: string; event: EngineEvent }[],
    erased: Map<string, string[]>,
  ): void {
    const { log, isInUse } = this.#parts;
    if (isInUse(name)) {
      const id = log.idOf(name, seq);
      if (shown === 1 && log.state(name).lastSeq - seq < LIVE_EVENTS) {
        const nobody = { username: "", person: "", origin: "", isModerator: true };
        const { event } = log.change(name, { type: "erase", id, ...nobody });
        published.push({ room: name, event: event! });
      } else erased.set(name, [...erased.get(name) ?? [], id]);
    }
    this.#sql.clear.run("", row);
  }
}

function prepare(db: DatabaseSync) {
  const sql = (text: string): StatementSync => db.prepare(text);
  return {
    newest: sql("SELECT max(id) AS newest FROM events"),
    events: sql(`
      SELECT events.id, name, seq, shown, type, username, person FROM events
      JOIN rooms ON rooms.id = events.room
      WHERE events.id > ? AND events.id <= ? AND (person = ? OR type <> 'chat')
    `),
    clear: sql(`
      UPDATE events SET content = '', username = ?, person = '', ref = NULL, reply_to = NULL, shown = 0
      WHERE id = ?
    `),
    clearName: sql("UPDATE events SET username = '' WHERE id = ?"),
    inbox: sql(`
      SELECT room, person, seq, from_person FROM inbox WHERE (room, person, seq) > (?, ?, ?)
      ORDER BY room, person, seq LIMIT ?
    `),
    dropPrivate: sql("DELETE FROM inbox WHERE room = ? AND person = ? AND seq = ?"),
    clearPrivate: sql(`
      UPDATE inbox SET content = '', from_name = '', from_person = '', ref = NULL
      WHERE room = ? AND person = ? AND seq = ?
    `),
  };
}
