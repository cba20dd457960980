/**
 * Who somebody is: accounts with passwords, the tokens they are given, and guests.
 *
 * A token or a guest's secret is 256 random bits. Only its hash is stored, so that nobody who reads
 * the store can use it.
 *
 * @module
 */

import { ChatError, nameBelongsToAccount, sessionEnded } from "../errors.ts";
import { NameError, nameKey, parseName } from "../names.ts";
import { MAX_PASSWORD_LENGTH, MIN_PASSWORD_LENGTH, type Passwords } from "./passwords.ts";
import { createSecret, hashSecret, isSecret } from "./secrets.ts";

/** An account as it is stored. */
export interface Account {
  /** `nameKey(username)`: no two accounts have the same. */
  readonly key: string;
  /** As it was registered. */
  readonly username: string;
  /** In the PHC string format. */
  readonly passwordHash: string;
}

/** A token that was given out, as it is stored. */
export interface Token {
  /** `hashSecret(token)` */
  readonly hash: string;
  /** The account's key. */
  readonly account: string;
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
}

/** Where accounts and sessions are kept. */
export interface AccountStore {
  /** Adds an account. False if there is one with this key. */
  addAccount(account: Account): Promise<boolean>;
  /** The account with this key. */
  account(key: string): Promise<Account | undefined>;
  /** Adds a session, and drops those that have expired. */
  addToken(token: Token): Promise<void>;
  /** The session with this hash, expired or not. */
  token(hash: string): Promise<Token | undefined>;
  /** Ends a session, and tells everyone: its sockets are to be closed. */
  endToken(hash: string): Promise<void>;
}

/** Who is behind a connection. */
export interface Identity {
  /** For the engine: the same for all connections of one person; never sent to anyone. */
  readonly person: string;
  /** The account; absent for a guest. */
  readonly account?: {
    readonly key: string;
    readonly username: string;
    readonly isAdmin: boolean;
    /** Of the session behind it. */
    readonly tokenHash: string;
    /** When that ends, in milliseconds since 1970. */
    readonly expiresAt: number;
  };
  /** A guest's own secret, with which it can come back; absent for an account, which has a token. */
  readonly secret?: string;
  /** Whether it has shown a secret or a token, and so may have been here before. */
  readonly isProven: boolean;
}

/** How long a token is good for, in milliseconds. */
export const TOKEN_MS = 30 * 24 * 60 * 60 * 1000;

/** What {@linkcode Accounts} needs. */
export interface AccountsOptions {
  readonly store: AccountStore;
  readonly passwords: Passwords;
  /** The time in milliseconds since 1970. */
  readonly clock: () => number;
  /** Names of accounts that may do everything everywhere. */
  readonly admins: readonly string[];
  /** Whether people may come without an account. */
  readonly guests: boolean;
}

/** Registers accounts, gives out tokens, and says who is behind one. */
export class Accounts {
  readonly #options: AccountsOptions;
  readonly #admins: ReadonlySet<string>;

  constructor(options: AccountsOptions) {
    this.#options = options;
    this.#admins = new Set(options.admins.map(nameKey));
  }

  /**
   * Makes an account.
   *
   * @returns its name, in NFC
   * @throws {NameError} if the name breaks a rule
   * @throws {ChatError} `bad_request` for a bad password, `name_in_use`, or `unavailable`
   */
  async register(name: string, password: string): Promise<string> {
    const username = parseName("username", name);
    if (password.length < MIN_PASSWORD_LENGTH || password.length > MAX_PASSWORD_LENGTH) {
      throw new ChatError(
        "bad_request",
        `The password must have ${MIN_PASSWORD_LENGTH} to ${MAX_PASSWORD_LENGTH} characters.`,
      );
    }
    const { store, passwords } = this.#options;
    const key = nameKey(username);
    if (await store.account(key) !== undefined) throw taken();
    const passwordHash = await passwords.hash(password);
    if (!await store.addAccount({ key, username, passwordHash })) throw taken();
    return username;
  }

  /**
   * Gives out a token. A wrong password and an unknown name are answered alike, and as late.
   *
   * @throws {ChatError} `unauthenticated` or `unavailable`
   */
  async login(
    name: string,
    password: string,
  ): Promise<{ username: string; token: string; expiresAt: number }> {
    const { store, passwords, clock } = this.#options;
    const account = await store.account(nameKey(toName(name)));
    // A password that nobody can have is not worth its length in hashing.
    const tried = password.slice(0, MAX_PASSWORD_LENGTH + 1);
    if (!await passwords.check(tried, account?.passwordHash) || account === undefined) {
      throw new ChatError("unauthenticated", "The name or the password is wrong.");
    }
    const token = createSecret();
    const expiresAt = clock() + TOKEN_MS;
    await store.addToken({ hash: hashSecret(token), account: account.key, expiresAt });
    return { username: account.username, token, expiresAt };
  }

  /** Ends a token's session. If there is none, nobody is told of anything. */
  async logout(token: string): Promise<void> {
    const { store } = this.#options;
    const hash = hashSecret(token);
    if (isSecret(token) && await store.token(hash) !== undefined) await store.endToken(hash);
  }

  /**
   * Says who a token stands for.
   *
   * @throws {ChatError} `unauthenticated` if it is not, or no longer, a token
   */
  async authenticate(token: string): Promise<Identity> {
    const { store, clock } = this.#options;
    const session = isSecret(token) ? await store.token(hashSecret(token)) : undefined;
    const account = session && session.expiresAt > clock()
      ? await store.account(session.account)
      : undefined;
    if (session === undefined || account === undefined) throw sessionEnded();
    const { key, username } = account;
    return {
      person: `account:${key}`,
      account: {
        key,
        username,
        isAdmin: this.#admins.has(key),
        tokenHash: session.hash,
        expiresAt: session.expiresAt,
      },
      isProven: true,
    };
  }

  /**
   * Says who a guest is: the one who was given the secret, or somebody new.
   *
   * @param secret what the guest has shown, if anything
   * @throws {ChatError} `unauthenticated` if there are no guests here, `bad_request` if the
   *   secret can be none
   */
  guest(secret?: string): Identity {
    if (!this.#options.guests) {
      throw new ChatError("unauthenticated", "Sign in to chat here.");
    }
    if (secret !== undefined && !isSecret(secret)) {
      throw new ChatError("bad_request", "The session is not one that this server gave.");
    }
    const own = secret ?? createSecret();
    return { person: `guest:${hashSecret(own)}`, secret: own, isProven: secret !== undefined };
  }

  /**
   * Checks that somebody may go by a name: an account by its own, a guest by none of an account.
   *
   * @throws {ChatError} `forbidden` or `unauthenticated`
   */
  async checkName(identity: Identity, username: string): Promise<void> {
    const key = nameKey(username);
    if (identity.account !== undefined) {
      if (identity.account.key === key) return;
      const own = identity.account.username;
      throw new ChatError("forbidden", `You are signed in as ${own}. Use that name.`);
    }
    if (this.#admins.has(key) || await this.#options.store.account(key) !== undefined) {
      throw nameBelongsToAccount();
    }
  }

  /**
   * Checks again that somebody who has joined may be there: before, nobody could tell it that its
   * session has ended, or that its name is an account's now.
   *
   * @throws {ChatError} `unauthenticated`
   */
  async confirm(identity: Identity, username: string | undefined): Promise<void> {
    const { account } = identity;
    if (account !== undefined) {
      if (await this.#options.store.token(account.tokenHash) === undefined) throw sessionEnded();
    } else if (username !== undefined) await this.checkName(identity, username);
  }
}

function taken(): ChatError {
  return new ChatError("name_in_use", "There is an account of this name. Choose another.");
}

/** A name as it would be registered; what can be no name is left as it is, and belongs to nobody. */
function toName(name: string): string {
  try {
    return parseName("username", name);
  } catch (error) {
    if (error instanceof NameError) return "";
    throw error;
  }
}
