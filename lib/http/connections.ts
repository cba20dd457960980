/**
 * Every open WebSocket, counted, so that there are never too many and all can be closed at the end.
 *
 * @module
 */

import { ChatError } from "../errors.ts";
import type { CloseReason } from "../protocol/codes.ts";
import { addressKey } from "./addresses.ts";

/** Something open that can be closed. */
export interface Closable {
  close(code: number, reason: string): void;
}

/** When somebody with too many connections may ask again. */
const RETRY_SECONDS = 10;

/** Whose connection it is. */
export interface Owner {
  /** The peer's address, as far as it is known. */
  readonly address?: string | undefined;
  /** The account's key; absent for a guest. */
  readonly account?: string | undefined;
}

/** How many may be open at a time; `Infinity` for no limit. */
export interface ConnectionLimits {
  /** In all. */
  readonly maxConnections: number;
  readonly maxConnectionsPerAddress: number;
  readonly maxConnectionsPerAccount: number;
}

/** The open connections of this server. */
export class Connections {
  readonly #limits: ConnectionLimits;
  readonly #open = new Map<Closable, Owner>();
  /** How many each address and each account has. */
  readonly #perAddress = new Map<string, number>();
  readonly #perAccount = new Map<string, number>();
  #isClosing = false;
  #onEmpty: (() => void) | undefined;

  constructor(limits: ConnectionLimits) {
    this.#limits = limits;
  }

  /** How many are open. */
  get size(): number {
    return this.#open.size;
  }

  /**
   * Says whether somebody may open one more.
   *
   * @throws {ChatError} `full`, or `rate_limited` if it has too many itself
   */
  check({ address, account }: Owner): void {
    const { maxConnections, maxConnectionsPerAddress, maxConnectionsPerAccount } = this.#limits;
    if (this.#isClosing || this.#open.size >= maxConnections) {
      throw new ChatError("full", "The server is full. Try again later.");
    }
    if ((this.#perAddress.get(addressKey(address)) ?? 0) >= maxConnectionsPerAddress) {
      const sentence = "There are too many connections from your address. Close some first.";
      throw new ChatError("rate_limited", sentence, { retryAfter: RETRY_SECONDS });
    }
    if (
      account !== undefined && (this.#perAccount.get(account) ?? 0) >= maxConnectionsPerAccount
    ) {
      const sentence = "Your account has too many connections. Close some first.";
      throw new ChatError("rate_limited", sentence, { retryAfter: RETRY_SECONDS });
    }
  }

  /**
   * Counts a connection as open. Of many that come in the same moment, each was checked before any
   * was open: so it is checked again.
   *
   * @throws {ChatError} as {@linkcode Connections.check} does
   */
  add(connection: Closable, owner: Owner): void {
    this.check(owner);
    this.#open.set(connection, owner);
    count(this.#perAddress, addressKey(owner.address), 1);
    if (owner.account !== undefined) count(this.#perAccount, owner.account, 1);
  }

  /** Counts a connection as closed. Doing it twice does nothing. */
  delete(connection: Closable): void {
    const owner = this.#open.get(connection);
    if (owner === undefined) return;
    this.#open.delete(connection);
    count(this.#perAddress, addressKey(owner.address), -1);
    if (owner.account !== undefined) count(this.#perAccount, owner.account, -1);
    if (this.#open.size === 0) this.#onEmpty?.();
  }

  /**
   * Asks every connection to close, and lets no more be opened.
   * Resolves when all have closed: never, if one does not react.
   */
  closeAll({ code, reason }: CloseReason): Promise<void> {
    this.#isClosing = true;
    for (const connection of this.#open.keys()) connection.close(code, reason);
    if (this.#open.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#onEmpty = resolve);
  }
}

function count(counts: Map<string, number>, key: string, by: number): void {
  const value = (counts.get(key) ?? 0) + by;
  if (value > 0) counts.set(key, value);
  else counts.delete(key);
}
