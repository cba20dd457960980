/**
 * The memory engine: keeps everything in this process until it ends. For tests, for a first try,
 * and for hosts without a disk.
 *
 * @module
 */

import { ChatError } from "../errors.ts";
import {
  type Account,
  type AccountStore,
  asToken,
  type BotToken,
  type Known,
  type Token,
} from "../people/accounts.ts";
import {
  type Bus,
  DEFAULT_SETTINGS,
  type Engine,
  type EngineOptions,
  EVERYWHERE,
  type Log,
  type OpenRoom,
  type RoomSettings,
  type RoomSettingsStore,
  type Wanted,
} from "./engine.ts";
import { LocalBus } from "./local_bus.ts";
import { LocalInstance } from "./local_instance.ts";
import { MemoryLog, type MemoryLogOptions } from "./memory_log.ts";

/** What {@linkcode MemoryEngine} needs. */
export interface MemoryEngineOptions extends EngineOptions, MemoryLogOptions {}

/** Maximum accounts. */
const MAX_ACCOUNTS = 100_000;

/** How long one step of an erasure takes, in milliseconds; a room is erased in one step. */
const ERASE_MS = 3;

/** Maximum sessions; beyond it, the oldest one ends. */
const MAX_TOKENS = 100_000;

/** Maximum tokens of bots. */
const MAX_ALL_BOT_TOKENS = 100_000;

/** Everything that the instances of one chat share, in memory. */
export class MemoryStore {
  readonly bus: LocalBus;
  readonly log: MemoryLog;
  readonly #options: MemoryEngineOptions;
  readonly #settings = new Map<string, RoomSettings>();
  readonly #accounts = new Map<string, Account>();
  readonly #tokens = new Map<string, Token>();
  readonly #botTokens = new Map<string, BotToken>();
  /** Removed accounts, and the rooms where their messages are not erased yet. */
  readonly #erasures: { readonly account: string; readonly rooms: string[] }[] = [];

  constructor(options: MemoryEngineOptions) {
    this.#options = options;
    this.bus = new LocalBus(options);
    this.log = new MemoryLog(options, this.bus);
  }

  // Room settings, see `RoomSettingsStore`

  settings(room: string): RoomSettings {
    return this.#settings.get(room) ?? DEFAULT_SETTINGS;
  }

  setSettings(room: string, settings: RoomSettings): boolean {
    if (this.settings(room).version !== settings.version) return false;
    const stored = { ...settings, version: settings.version + 1 };
    this.#settings.set(room, stored);
    this.bus.publish(room, { type: "settings", settings: stored });
    return true;
  }

  countOwned(owner: string): number {
    return [...this.#settings.values()].filter((settings) => settings.owner === owner).length;
  }

  // Accounts and tokens, see `AccountStore`

  addAccount(account: Account): boolean {
    const { key } = account;
    if (this.#accounts.has(key)) return false;
    if (this.#accounts.size >= MAX_ACCOUNTS) {
      throw new ChatError("full", "The server cannot store more accounts. Tell its operator.");
    }
    this.#accounts.set(key, account);
    this.bus.publish(EVERYWHERE, { type: "registered", key });
    return true;
  }

  account(key: string): Account | undefined {
    return this.#accounts.get(key);
  }

  setPassword(key: string, passwordHash: string, kept?: string): boolean {
    const account = this.#accounts.get(key);
    if (account === undefined || account.username === "") return false;
    this.#accounts.set(key, { ...account, passwordHash });
    this.endTokens(key, kept);
    return true;
  }

  removeAccount(key: string): boolean {
    const account = this.#accounts.get(key);
    if (account === undefined || account.username === "") return false;
    this.#accounts.set(key, { key, username: "", passwordHash: "" });
    this.#erasures.push({ account: key, rooms: this.log.rooms() });
    this.endTokens(key);
    return true;
  }

  eraseNext(): boolean {
    const end = performance.now() + ERASE_MS;
    while (this.#erasures.length > 0 && performance.now() < end) {
      const { account, rooms } = this.#erasures[0]!;
      const room = rooms.pop();
      if (room === undefined) this.#erasures.shift();
      else this.log.erase(room, account);
    }
    return this.#erasures.length > 0;
  }

  addToken(token: Token): void {
    const now = this.#options.clock();
    for (const { hash, expiresAt } of this.#tokens.values()) {
      // Tokens expire in the order in which they were added.
      if (expiresAt > now && this.#tokens.size < MAX_TOKENS) break;
      this.#tokens.delete(hash);
    }
    this.#tokens.set(token.hash, token);
  }

  token(hash: string): Token | undefined {
    const bot = this.#botTokens.get(hash);
    return bot === undefined ? this.#tokens.get(hash) : asToken(bot);
  }

  addBotToken(token: BotToken, most: number): boolean {
    const own = this.botTokens(token.account);
    if (own.length >= most || own.some(({ name }) => name === token.name)) return false;
    if (this.#botTokens.size >= MAX_ALL_BOT_TOKENS) {
      throw new ChatError("full", "The server cannot store more tokens. Tell its operator.");
    }
    this.#botTokens.set(token.hash, token);
    return true;
  }

  botTokens(account: string): BotToken[] {
    return [...this.#botTokens.values()].filter((token) => token.account === account);
  }

  endBotToken(account: string, name: string): boolean {
    const token = this.botTokens(account).find((token) => token.name === name);
    if (token !== undefined) this.endToken(token.hash);
    return token !== undefined;
  }

  endToken(hash: string): void {
    this.#tokens.delete(hash);
    this.#botTokens.delete(hash);
    this.bus.publish(EVERYWHERE, { type: "token_ended", hash });
  }

  endTokens(account: string, kept = ""): void {
    for (const tokens of [this.#tokens, this.#botTokens]) {
      for (const token of tokens.values()) {
        if (token.account === account && token.hash !== kept) tokens.delete(token.hash);
      }
    }
    this.bus.publish(EVERYWHERE, { type: "tokens_ended", account, kept });
  }

  recheck({ tokens, keys }: Known): Known {
    return {
      tokens: tokens.filter((hash) => this.token(hash) === undefined),
      keys: keys.filter((key) => this.#accounts.has(key)),
    };
  }
}

/** One instance of a chat in memory. */
export class MemoryEngine implements Engine {
  readonly log: Log;
  readonly bus: Bus;
  readonly accounts: AccountStore;
  readonly roomSettings: RoomSettingsStore;
  readonly #instance: LocalInstance;

  /** @param store shared by the instances of one chat; each chat has its own */
  constructor(options: MemoryEngineOptions, store: MemoryStore = new MemoryStore(options)) {
    const { bus, log } = store;
    const instance = new LocalInstance({ name: options.newId(), bus, log, settings: store });
    this.#instance = instance;
    this.bus = instance;
    this.log = {
      ...instance.reads(),
      append: (room, draft) => instance.attempt(() => log.append(room, draft)),
      change: (room, change) => instance.attempt(() => log.change(room, change)),
      whisper: (room, draft) => instance.attempt(() => log.whisper(room, draft)),
    };
    this.accounts = {
      addAccount: (account) => instance.attempt(() => store.addAccount(account)),
      account: (key) => instance.attempt(() => store.account(key)),
      addToken: (token) => instance.attempt(() => store.addToken(token)),
      token: (hash) => instance.attempt(() => store.token(hash)),
      addBotToken: (token, most) => instance.attempt(() => store.addBotToken(token, most)),
      botTokens: (account) => instance.attempt(() => store.botTokens(account)),
      endBotToken: (account, name) => instance.attempt(() => store.endBotToken(account, name)),
      endToken: (hash) => instance.attempt(() => store.endToken(hash)),
      endTokens: (account) => instance.attempt(() => store.endTokens(account)),
      setPassword: (key, hash, kept) => instance.attempt(() => store.setPassword(key, hash, kept)),
      removeAccount: (key) => instance.attempt(() => store.removeAccount(key)),
      eraseNext: () => instance.attempt(() => store.eraseNext()),
      recheck: (known) => instance.attempt(() => store.recheck(known)),
    };
    this.roomSettings = {
      settings: (room) => instance.attempt(() => store.settings(room)),
      setSettings: (room, settings) => instance.attempt(() => store.setSettings(room, settings)),
      countOwned: (owner) => instance.attempt(() => store.countOwned(owner)),
    };
  }

  open(room: string, wanted: Wanted): Promise<OpenRoom> {
    return this.#instance.open(room, wanted);
  }

  check(): Promise<void> {
    return this.#instance.attempt(() => {});
  }

  close(): Promise<void> {
    this.#instance.close();
    return Promise.resolve();
  }
}
