/**
 * Counts every open WebSocket, enforces the limits, and closes all of them when the server stops.
 *
 * @module
 */

import { ChatError } from "../errors.ts";
import type { Identity } from "../people/accounts.ts";
import type { CloseReason } from "../protocol/codes.ts";
import type { ClientAddress } from "./addresses.ts";

/** A connection that can be closed. */
export interface Closable {
  close(code: number, reason: string): void;
}

/** How long a client with too many connections must wait before it asks again, in seconds. */
const RETRY_SECONDS = 10;

/** The address and the account that a connection counts for. */
export interface Holder {
  /** The key of the address. @default "" */
  readonly address?: string | undefined;
  /** The account's key, or the person of the operator's site; absent for a guest. */
  readonly account?: string | undefined;
}

/** The address and the account that a connection of a person counts for. */
export function holderOf(
  { key: address }: ClientAddress,
  { account, username, person }: Identity,
): Holder {
  return { address, account: account?.key ?? (username === undefined ? undefined : person) };
}

/** Maximum connections open at a time; `Infinity` for no limit. */
export interface ConnectionLimits {
  readonly maxConnections: number;
  readonly maxConnectionsPerAddress: number;
  readonly maxConnectionsPerAccount: number;
}

/** The open connections of this server. */
export class Connections {
  readonly #limits: ConnectionLimits;
  readonly #open = new Map<Closable, Holder>();
  /** How many connections each address has, by its key. */
  readonly #perAddress = new Map<string, number>();
  /** How many connections each account has, by its key. */
  readonly #perAccount = new Map<string, number>();
  #isClosing = false;
  #onEmpty: (() => void) | undefined;

  constructor(limits: ConnectionLimits) {
    this.#limits = limits;
  }

  /** The number of open connections. */
  get size(): number {
    return this.#open.size;
  }

  /**
   * Checks that one more connection may open.
   *
   * @throws {ChatError} `full`, or `rate_limited` if its address or its account has too many
   */
  check({ address = "", account }: Holder): void {
    const { maxConnections, maxConnectionsPerAddress, maxConnectionsPerAccount } = this.#limits;
    if (this.#isClosing || this.#open.size >= maxConnections) {
      throw new ChatError("full", "The server is full. Try again later.");
    }
    if ((this.#perAddress.get(address) ?? 0) >= maxConnectionsPerAddress) {
      throw tooMany("Your address has too many connections. Close some first.");
    }
    if (account === undefined) return;
    if ((this.#perAccount.get(account) ?? 0) >= maxConnectionsPerAccount) {
      throw tooMany("Your account has too many connections. Close some first.");
    }
  }

  /**
   * Counts a connection as open. It checks again: connections that arrive at the same moment were
   * all checked before any was open.
   *
   * @throws {ChatError} as {@linkcode Connections.check} does
   */
  add(connection: Closable, holder: Holder): void {
    this.check(holder);
    this.#open.set(connection, holder);
    this.#count(holder, 1);
  }

  /** Counts a connection as closed. A second call does nothing. */
  delete(connection: Closable): void {
    const holder = this.#open.get(connection);
    if (holder === undefined) return;
    this.#open.delete(connection);
    this.#count(holder, -1);
    if (this.#open.size === 0) this.#onEmpty?.();
  }

  /**
   * Asks every connection to close, and refuses new ones. Resolves when all have closed, so never
   * if one does not answer.
   */
  closeAll({ code, reason }: CloseReason): Promise<void> {
    this.#isClosing = true;
    for (const connection of this.#open.keys()) connection.close(code, reason);
    if (this.#open.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#onEmpty = resolve);
  }

  #count({ address = "", account }: Holder, by: number): void {
    add(this.#perAddress, address, by);
    if (account !== undefined) add(this.#perAccount, account, by);
  }
}

function tooMany(sentence: string): ChatError {
  return new ChatError("rate_limited", sentence, { retryAfter: RETRY_SECONDS });
}

/** Adds to the count under a key, and forgets a key whose count is zero. */
function add(counts: Map<string, number>, key: string, by: number): void {
  const value = (counts.get(key) ?? 0) + by;
  if (value > 0) counts.set(key, value);
  else counts.delete(key);
}
