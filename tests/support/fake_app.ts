/** The HTTP application on a store and a hub under the test's control. */

import { readConfig } from "../../lib/config.ts";
import type { Peer } from "../../lib/delivery/outbox.ts";
import { createApp } from "../../lib/http/app.ts";
import { Connections } from "../../lib/http/connections.ts";
import type { JoinedMember, JoinRequest, Rooms } from "../../lib/http/rooms.ts";
import { createLogger } from "../../lib/logger.ts";
import {
  type Account,
  Accounts,
  type AccountStore,
  asToken,
  type BotToken,
  type Known,
  type Token,
} from "../../lib/people/accounts.ts";
import { Passwords } from "../../lib/people/passwords.ts";
import { createSecret, hashSecret } from "../../lib/people/secrets.ts";
import type { CloseReason } from "../../lib/protocol/codes.ts";
import type { Command, RoomChange } from "../../lib/protocol/commands.ts";
import type { Event } from "../../lib/protocol/events.ts";
import { RateLimiter, TrafficLimiter } from "../../lib/rate_limit.ts";

/** The fixed time, in milliseconds since 1970. */
export const NOW = Date.UTC(2026, 0, 1);

/** A store that a test fills and makes fail. */
export class FakeStore implements AccountStore {
  readonly tokens = new Map<string, Token>();
  readonly accounts = new Map<string, Account>();
  /** The error of every call, if set. */
  failure: Error | undefined;
  /** Every call waits for this. */
  onAsk: () => void | Promise<void> = () => {};

  async addAccount(account: Account): Promise<boolean> {
    await this.#answer();
    this.accounts.set(account.key, account);
    return true;
  }

  async account(key: string): Promise<Account | undefined> {
    await this.#answer();
    return this.accounts.get(key);
  }

  async addToken(token: Token): Promise<void> {
    await this.#answer();
    this.tokens.set(token.hash, token);
  }

  async token(hash: string): Promise<Token | undefined> {
    await this.#answer();
    return this.tokens.get(hash);
  }

  async addBotToken(token: BotToken): Promise<boolean> {
    await this.#answer();
    this.tokens.set(token.hash, asToken(token));
    return true;
  }

  async botTokens(): Promise<BotToken[]> {
    await this.#answer();
    return [];
  }

  async endBotToken(): Promise<boolean> {
    await this.#answer();
    return false;
  }

  async endToken(hash: string): Promise<void> {
    await this.#answer();
    this.tokens.delete(hash);
  }

  async endTokens(account: string): Promise<void> {
    await this.#answer();
    for (const [hash, token] of this.tokens) {
      if (token.account === account) this.tokens.delete(hash);
    }
  }

  async setPassword(key: string, passwordHash: string): Promise<boolean> {
    await this.#answer();
    this.accounts.set(key, { ...this.accounts.get(key)!, passwordHash });
    return true;
  }

  async removeAccount(key: string): Promise<boolean> {
    await this.#answer();
    this.accounts.set(key, { key, username: "", passwordHash: "" });
    return true;
  }

  async eraseNext(): Promise<boolean> {
    await this.#answer();
    return false;
  }

  async recheck({ tokens, keys }: Known): Promise<Known> {
    await this.#answer();
    return {
      tokens: tokens.filter((hash) => !this.tokens.has(hash)),
      keys: keys.filter((key) => this.accounts.has(key)),
    };
  }

  async #answer(): Promise<void> {
    await this.onAsk();
    if (this.failure !== undefined) throw this.failure;
  }
}

/** A hub that records its calls, and fails on demand. */
export class FakeRooms implements Rooms {
  readonly admitted: JoinRequest[] = [];
  readonly checked: JoinRequest[] = [];
  readonly joined: { peer: Peer; request: JoinRequest; member: { isGone: boolean } }[] = [];
  readonly received: string[] = [];
  readonly left: JoinedMember[] = [];
  readonly asked: Command[] = [];
  readonly changes: RoomChange[] = [];
  /** Called before each of these, to fail or to change something. */
  onAdmit: () => void | Promise<void> = () => {};
  onJoin: () => void = () => {};
  onReceive: (text: string) => void = () => {};

  async admit(request: JoinRequest): Promise<void> {
    this.admitted.push(request);
    await this.onAdmit();
  }

  async check(request: JoinRequest): Promise<void> {
    this.checked.push(request);
    await this.onAdmit();
  }

  join(peer: Peer, request: JoinRequest): JoinedMember {
    this.onJoin();
    const member = { isGone: false };
    this.joined.push({ peer, request, member });
    return member;
  }

  receive(_member: JoinedMember, text: string): void {
    this.received.push(text);
    this.onReceive(text);
  }

  leave(member: JoinedMember & { isGone: boolean }): void {
    this.left.push(member);
    Object.assign(member, { isGone: true });
  }

  dismiss(member: JoinedMember & { isGone: boolean }, { code, reason }: CloseReason): void {
    this.leave(member);
    this.joined.find((one) => one.member === member)!.peer.close(code, reason);
  }

  ask(_request: JoinRequest, command: Command): Promise<Event> {
    this.asked.push(command);
    const fields = { content: "", room: "r", username: "" };
    return Promise.resolve({ type: "pong", ...fields });
  }

  readPresence() {
    return Promise.resolve({ users: [], online: 0 });
  }

  readRoom() {
    return Promise.resolve({ owner: "alice", isPrivate: false, moderators: [] });
  }

  changeRoom(_room: string, _identity: unknown, change: RoomChange) {
    this.changes.push(change);
    const bans = [{ key: "mallory", person: "guest:secret" }];
    const lists = { moderators: ["carol"], members: ["bob"], bans };
    return Promise.resolve({ owner: "alice", isPrivate: true, ...lists });
  }
}

/** The application and its parts. Its clock stands still. */
export function createFakeApp(env: Record<string, string> = {}) {
  const config = readConfig(env);
  const store = new FakeStore();
  const hub = new FakeRooms();
  const log: Record<string, unknown>[] = [];
  let wake = () => {};
  const write = (line: string) => {
    log.push(JSON.parse(line));
    wake();
  };
  const logger = createLogger({ level: "info", write });
  const clock = () => 0;
  const connections = new Connections(config.connections);
  const timers: { ms: number; callback: () => void }[] = [];
  const health = { isDegraded: false };
  const passwords = new Passwords(1);
  const app = createApp({
    hub,
    accounts: new Accounts({
      store,
      passwords,
      clock: () => NOW,
      after: () => {},
      settings: config.people,
    }),
    connections,
    limits: config.limits,
    settings: config.http,
    joinLimiter: new RateLimiter(config.rates.join, clock),
    authLimiter: new RateLimiter(config.rates.auth, clock),
    askLimiter: new RateLimiter(config.limits.messageRate, clock),
    traffic: new TrafficLimiter(config.rates.traffic, clock),
    health,
    logger,
    refusals: logger,
    failures: logger,
    clock,
    after: (ms, callback) => void timers.push({ ms, callback }),
    publicDir: new URL("../../public/", import.meta.url),
  });
  return {
    app,
    store,
    hub,
    connections,
    health,
    log,
    /** The waiting timers. */
    timers,
    /** Resolves when a line with this message has been logged. */
    async logged(msg: string): Promise<Record<string, unknown>> {
      while (true) {
        const line = log.find((line) => line.msg === msg);
        if (line !== undefined) return line;
        await new Promise<void>((resolve) => wake = resolve);
      }
    },
    /** A new token of an account. */
    signIn(username: string, expiresAt = NOW + 1): string {
      const key = username.toLowerCase();
      store.accounts.set(key, { key, username, passwordHash: "" });
      const token = createSecret();
      const hash = hashSecret(token);
      store.tokens.set(hash, { hash, account: key, expiresAt });
      return token;
    },
  };
}

/** The application on a free port. */
export function serveFakeApp(env: Record<string, string> = {}) {
  const fake = createFakeApp(env);
  const options = { hostname: "127.0.0.1", port: 0, onListen: () => {} };
  const server = Deno.serve(options, fake.app.fetch);
  const { port } = server.addr;
  return {
    ...fake,
    port,
    url: `http://127.0.0.1:${port}`,
    ws: `ws://127.0.0.1:${port}`,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}
