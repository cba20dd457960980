/**
 * Accounts, tokens and room settings, in SQLite.
 *
 * @module
 */

import type { DatabaseSync, StatementSync } from "node:sqlite";
import { type Account, type BotToken, type Known, NEVER, type Token } from "../people/accounts.ts";
import { DEFAULT_SETTINGS, type RoomSettings } from "./engine.ts";
import type { Outcome } from "./group_commit.ts";

/** The password of a removed account whose messages are not erased yet. */
const ERASING = "erasing";

/** Makes the names of an account's tokens for bots unique. */
const NAME_INDEX = `
  CREATE UNIQUE INDEX sessions_name ON sessions (account, name) WHERE name IS NOT NULL;
`;

/** Adds the columns for the tokens of bots to an older file. */
export const PEOPLE_UPDATE = `
  ALTER TABLE sessions ADD COLUMN name TEXT;
  ALTER TABLE sessions ADD COLUMN created INTEGER;
  ${NAME_INDEX}
`;

/** The tables. */
export const PEOPLE_SCHEMA = `
  CREATE TABLE accounts (
    key TEXT PRIMARY KEY,
    -- Empty if the account was removed: its key stays taken.
    username TEXT NOT NULL,
    -- For a removed account: 'erasing' until its messages are erased, then empty.
    password_hash TEXT NOT NULL
  ) STRICT;

  CREATE TABLE sessions (
    hash TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    -- 2^53 - 1 for a bot's token: it never expires.
    expires_at INTEGER NOT NULL,
    -- Set only for a bot's token.
    name TEXT,
    created INTEGER
  ) STRICT;
  CREATE INDEX sessions_expiry ON sessions (expires_at);
  ${NAME_INDEX}

  CREATE TABLE settings (
    room TEXT PRIMARY KEY,
    owner TEXT,
    -- RoomSettings, as JSON.
    value TEXT NOT NULL
  ) STRICT;
  CREATE INDEX settings_owner ON settings (owner);
`;

/** Accounts and tokens. Call its writes within a transaction. */
export class SqliteAccounts {
  readonly #sql: ReturnType<typeof prepareAccounts>;

  constructor(db: DatabaseSync) {
    this.#sql = prepareAccounts(db);
  }

  /** Adds an account. False if there is one with this key. */
  addAccount({ key, username, passwordHash }: Account): Outcome<boolean> {
    const { changes } = this.#sql.addAccount.run(key, username, passwordHash);
    if (changes === 0) return { value: false };
    return { value: true, event: { type: "registered", key } };
  }

  /** The account with this key. */
  account(key: string): Account | undefined {
    const row = this.#sql.account.get(key) as Record<string, string> | undefined;
    if (row === undefined) return undefined;
    const { username, password_hash: hash } = row;
    return { key, username: username!, passwordHash: hash === ERASING ? "" : hash! };
  }

  /** Replaces an account's password, and ends its sessions except `kept`. */
  setPassword(key: string, passwordHash: string, kept = ""): Outcome<boolean> {
    const { changes } = this.#sql.setPassword.run(passwordHash, key);
    if (changes === 0) return { value: false };
    return { ...this.endTokens(key, kept), value: true };
  }

  /** Removes an account, whose key stays taken, and ends its sessions. */
  removeAccount(key: string): Outcome<boolean> {
    const { changes } = this.#sql.removeAccount.run(key);
    if (changes === 0) return { value: false };
    return { ...this.endTokens(key), value: true };
  }

  /** The key of a removed account whose messages are not erased yet. */
  nextRemoved(): string | undefined {
    return (this.#sql.nextRemoved.get() as { key: string } | undefined)?.key;
  }

  /** Records that the messages of a removed account are erased. */
  noteErased(key: string): void {
    this.#sql.noteErased.run(key);
  }

  /** Ends every session of an account except `kept`. */
  endTokens(account: string, kept = ""): Outcome<void> {
    this.#sql.endTokens.run(account, kept);
    return { value: undefined, event: { type: "tokens_ended", account, kept } };
  }

  /** Adds a token, and drops the tokens that have expired by `now`. */
  addToken({ hash, account, expiresAt }: Token, now: number): Outcome<void> {
    this.#sql.dropExpired.run(now);
    this.#sql.addToken.run(hash, account, expiresAt);
    return { value: undefined };
  }

  /** The token with this hash, expired or not. */
  token(hash: string): Token | undefined {
    const row = this.#sql.token.get(hash) as { account: string; expires_at: number } | undefined;
    return row && { hash, account: row.account, expiresAt: row.expires_at };
  }

  /** Adds a bot's token. False if the account already has one with this name, or `most` tokens. */
  addBotToken({ hash, account, name, created }: BotToken, most: number): Outcome<boolean> {
    const { addBotToken } = this.#sql;
    const { changes } = addBotToken.run(hash, account, NEVER, name, created, account, most);
    return { value: changes > 0 };
  }

  /** The tokens of an account's bots. */
  botTokens(account: string): BotToken[] {
    return this.#sql.botTokens.all(account).map((row) => ({ ...row }) as unknown as BotToken);
  }

  /** Ends the bot's token with this name. False if there is none. */
  endBotToken(account: string, name: string): Outcome<boolean> {
    const token = this.botTokens(account).find((token) => token.name === name);
    return token === undefined ? { value: false } : { ...this.endToken(token.hash), value: true };
  }

  /** Which of these tokens have ended, and which of these keys have an account. */
  recheck({ tokens, keys }: Known): Known {
    return {
      tokens: tokens.filter((hash) => this.token(hash) === undefined),
      keys: keys.filter((key) => this.account(key) !== undefined),
    };
  }

  /** Ends a token. */
  endToken(hash: string): Outcome<void> {
    this.#sql.endToken.run(hash);
    return { value: undefined, event: { type: "token_ended", hash } };
  }
}

/** The settings of rooms. Call its writes within a transaction. */
export class SqliteSettings {
  readonly #sql: ReturnType<typeof prepareSettings>;

  constructor(db: DatabaseSync) {
    this.#sql = prepareSettings(db);
  }

  /** The settings of a room; {@linkcode DEFAULT_SETTINGS} if nobody has changed them. */
  settings(room: string): RoomSettings {
    const row = this.#sql.settings.get(room) as { value: string } | undefined;
    if (row === undefined) return DEFAULT_SETTINGS;
    // Earlier releases stored no version and no moderators.
    return { ...DEFAULT_SETTINGS, version: 1, ...JSON.parse(row.value) };
  }

  /** Stores the next version of settings. False, with nothing changed, if another came first. */
  setSettings(room: string, settings: RoomSettings): Outcome<boolean> {
    if (this.settings(room).version !== settings.version) return { value: false };
    const stored = { ...settings, version: settings.version + 1 };
    this.#sql.setSettings.run(room, stored.owner ?? null, JSON.stringify(stored));
    return { value: true, event: { type: "settings", settings: stored } };
  }

  /** The number of rooms that an account owns. */
  countOwned(owner: string): number {
    return (this.#sql.countOwned.get(owner) as { count: number }).count;
  }
}

function prepareAccounts(db: DatabaseSync) {
  const sql = (text: string): StatementSync => db.prepare(text);
  return {
    addAccount: sql(
      "INSERT OR IGNORE INTO accounts (key, username, password_hash) VALUES (?, ?, ?)",
    ),
    account: sql("SELECT username, password_hash FROM accounts WHERE key = ?"),
    addToken: sql("INSERT INTO sessions (hash, account, expires_at) VALUES (?, ?, ?)"),
    setPassword: sql(`
      UPDATE accounts SET password_hash = ? WHERE key = ? AND username <> ''
    `),
    removeAccount: sql(`
      UPDATE accounts SET username = '', password_hash = '${ERASING}' WHERE key = ? AND username <> ''
    `),
    nextRemoved: sql(`SELECT key FROM accounts WHERE password_hash = '${ERASING}' LIMIT 1`),
    noteErased: sql("UPDATE accounts SET password_hash = '' WHERE key = ?"),
    addBotToken: sql(`
      INSERT OR IGNORE INTO sessions (hash, account, expires_at, name, created)
      SELECT ?, ?, ?, ?, ?
      WHERE (SELECT count(*) FROM sessions WHERE account = ? AND name IS NOT NULL) < ?
    `),
    botTokens: sql(`
      SELECT hash, account, name, created FROM sessions WHERE account = ? AND name IS NOT NULL
    `),
    endTokens: sql("DELETE FROM sessions WHERE account = ? AND hash <> ?"),
    token: sql("SELECT account, expires_at FROM sessions WHERE hash = ?"),
    endToken: sql("DELETE FROM sessions WHERE hash = ?"),
    dropExpired: sql("DELETE FROM sessions WHERE expires_at <= ?"),
  };
}

function prepareSettings(db: DatabaseSync) {
  const sql = (text: string): StatementSync => db.prepare(text);
  return {
    settings: sql("SELECT value FROM settings WHERE room = ?"),
    setSettings: sql("INSERT OR REPLACE INTO settings (room, owner, value) VALUES (?, ?, ?)"),
    countOwned: sql("SELECT count(*) AS count FROM settings WHERE owner = ?"),
  };
}
