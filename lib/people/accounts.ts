/**
 * Accounts with their passwords and tokens, and guests with their secrets.
 *
 * Signing in gives a token that lasts for one session. A token that an account makes for a bot
 * lasts until the account ends it. A bot has the rights of its account, but cannot manage the
 * account: list, make or end tokens, change the password, or remove the account.
 *
 * A token or a guest's secret is 256 random bits. The store keeps only its hash, so that a copy of
 * the store gives no access.
 *
 * A person that the operator's own site signs in has a token of that site, and no account. The store
 * does not contain that token.
 *
 * @module
 */

import {
  badRequest,
  ChatError,
  nameBelongsToAccount,
  notSignedIn,
  sessionEnded,
} from "../errors.ts";
import { nameKey, parseName } from "../names.ts";
import { type After, within } from "../time.ts";
import { MAX_PASSWORD_LENGTH, MIN_PASSWORD_LENGTH, type Passwords } from "./passwords.ts";
import { createCode, createSecret, hashSecret, isSame, isSecret } from "./secrets.ts";
import { SiteTokens } from "./site_tokens.ts";

/** An account as it is stored. */
export interface Account {
  /** `nameKey(username)`, unique among accounts. */
  readonly key: string;
  /** As it was registered; empty if the account was removed, whose key stays taken. */
  readonly username: string;
  /** In the PHC string format; empty if the account was removed. */
  readonly passwordHash: string;
}

/** A token as it is stored. */
export interface Token {
  /** `hashSecret(token)` */
  readonly hash: string;
  /** The account's key. */
  readonly account: string;
  /** Milliseconds since 1970; {@linkcode NEVER} for a bot's token. */
  readonly expiresAt: number;
}

/** When a bot's token expires. No other token has this time. */
export const NEVER = Number.MAX_SAFE_INTEGER;

/** A bot's token as it is stored. It is a {@linkcode Token} too. */
export interface BotToken {
  /** `hashSecret(token)` */
  readonly hash: string;
  /** The account's key. */
  readonly account: string;
  /** Unique among the tokens of its account. */
  readonly name: string;
  /** Milliseconds since 1970. */
  readonly created: number;
}

/** Where accounts and tokens are kept. */
export interface AccountStore {
  /** Adds an account. False if the key has one already. */
  addAccount(account: Account): Promise<boolean>;
  /** The account with this key. */
  account(key: string): Promise<Account | undefined>;
  /** Adds a token, and drops expired ones. */
  addToken(token: Token): Promise<void>;
  /** The token with this hash, expired or not. */
  token(hash: string): Promise<Token | undefined>;
  /** Adds a bot's token. False if the account already has one of this name, or `most` tokens. */
  addBotToken(token: BotToken, most: number): Promise<boolean>;
  /** The tokens of an account's bots, in any order. */
  botTokens(account: string): Promise<readonly BotToken[]>;
  /** Ends the bot's token with this name, as {@linkcode endToken} does. False if there is none. */
  endBotToken(account: string, name: string): Promise<boolean>;
  /** Drops a token, and tells every instance to close the sockets of its session. */
  endToken(hash: string): Promise<void>;
  /** Drops every token of an account, those of its bots too, as {@linkcode endToken} does. */
  endTokens(account: string): Promise<void>;
  /**
   * Replaces an account's password, and ends its tokens, except the session's with the hash `kept`.
   * False if there is no such account.
   */
  setPassword(key: string, passwordHash: string, kept?: string): Promise<boolean>;
  /**
   * Removes an account for good, and ends its tokens. {@linkcode eraseNext} erases its messages.
   * False if there is no such account.
   */
  removeAccount(key: string): Promise<boolean>;
  /**
   * Erases some messages of removed accounts, for a few milliseconds: their messages lose text and
   * name, and their private messages are deleted. False if nothing is left to erase.
   */
  eraseNext(): Promise<boolean>;
  /** Which of these tokens have ended, and which of these keys have an account now. */
  recheck(known: Known): Promise<Known>;
}

/** Hashes of tokens, and keys of names. */
export interface Known {
  readonly tokens: readonly string[];
  readonly keys: readonly string[];
}

/** The person behind a connection. */
export interface Identity {
  /**
   * Identifies the person to the engine: the same for all connections of one person, and secret.
   */
  readonly person: string;
  /** The name that comes with the token that the connection presented; absent for a guest. */
  readonly username?: string;
  /** When that token ends, in milliseconds since 1970; absent for a guest. */
  readonly expiresAt?: number;
  /** The account; absent for a guest, and for a person of the operator's site. */
  readonly account?: {
    readonly key: string;
    readonly isAdmin: boolean;
    /** The hash of the token that the connection presented. */
    readonly tokenHash: string;
  };
  /** The guest that the client is without its token, if it presented a secret too. */
  readonly guest?: string | undefined;
  /** The secret with which a guest can return; absent for those who have a token. */
  readonly secret?: string;
  /** Whether the connection presented a secret or a token, so the person may be returning. */
  readonly isProven: boolean;
}

/** How long a token is valid, in milliseconds. */
export const TOKEN_MS = 30 * 24 * 60 * 60 * 1000;

/** Where an attempt to register or sign in comes from. */
export interface Caller {
  /** The key of the address. */
  readonly address?: string | undefined;
  /** The tokens that the client holds. */
  readonly tokens?: readonly string[] | undefined;
}

/** Maximum tokens that an account may have for bots. */
export const MAX_BOT_TOKENS = 20;

/** Maximum pairs of an account and an address that are remembered. */
const MAX_KNOWN = 10_000;

/** How long a removal waits for its erasure, which then continues unawaited, in milliseconds. */
const MAX_ERASE_WAIT_MS = 5000;

/** The pause between two steps of an erasure, in milliseconds: about as long as a step takes. */
const ERASE_PAUSE_MS = 4;

/** What {@linkcode Accounts} needs. */
export interface AccountsOptions {
  readonly store: AccountStore;
  readonly passwords: Passwords;
  /** The time in milliseconds since 1970. */
  readonly clock: () => number;
  readonly after: After;
  readonly settings: PeopleSettings;
}

/** Which accounts are admins, and who may chat besides accounts. */
export interface PeopleSettings {
  /** Names of the admins' accounts. Admins have every right in every room. */
  readonly admins: readonly string[];
  /** The code that registers an admin's name; absent: each name gets its own. */
  readonly adminCode?: string | undefined;
  /** Whether people may chat without a token. */
  readonly guests: boolean;
  /** Whether everyone may make an account; else the admins alone. */
  readonly registration: boolean;
  /** The secret of the site that signs its own people in; absent if none does. */
  readonly signInSecret?: string | undefined;
}

/** Registers accounts, issues tokens, and identifies the people who present one. */
export class Accounts {
  readonly #options: AccountsOptions;
  /** The code that registers each admin's name, by key. */
  readonly #admins: ReadonlyMap<string, string>;
  /** The addresses where owners have signed in ({@linkcode placeOf}), the latest at the end. */
  readonly #known = new Set<string>();
  /** Absent if no site signs people in. */
  readonly #siteTokens: SiteTokens | undefined;
  #erasing: Promise<void> | undefined;

  constructor(options: AccountsOptions) {
    this.#options = options;
    const { admins, adminCode, signInSecret } = options.settings;
    if (signInSecret !== undefined) this.#siteTokens = new SiteTokens(signInSecret, options.clock);
    this.#admins = new Map(admins.map((name) => [nameKey(name), adminCode ?? createCode()]));
  }

  /** Whether people may chat without a token. */
  get allowsGuests(): boolean {
    return this.#options.settings.guests;
  }

  /** The account's name, as it was registered; `undefined` if the account was removed. */
  async nameOf(key: string): Promise<string | undefined> {
    return (await this.#options.store.account(key))?.username || undefined;
  }

  /** The codes made for admins' names that have no account yet. */
  async newCodes(): Promise<{ username: string; code: string }[]> {
    const { store, settings: { admins, adminCode } } = this.#options;
    const codes = [];
    for (const username of adminCode === undefined ? admins : []) {
      const key = nameKey(username);
      if (await store.account(key) === undefined) {
        codes.push({ username, code: this.#admins.get(key)! });
      }
    }
    return codes;
  }

  /**
   * Makes an account.
   *
   * @param code the admin code, which the names of admins need
   * @returns the account's name, in NFC
   * @throws {NameError} if the name breaks a rule
   * @throws {ChatError} `bad_request` for a bad password, `name_in_use`, `forbidden` for an admin's
   *   name without its code or where only admins register, or `unavailable`
   */
  async register(
    name: string,
    password: string,
    { code = "", from: { address } = {} }: { code?: string; from?: Caller } = {},
  ): Promise<string> {
    const username = parseName("username", name);
    checkPassword(password);
    const { store, passwords, settings } = this.#options;
    const key = nameKey(username);
    const adminCode = this.#admins.get(key);
    if (adminCode === undefined && !settings.registration) throw registrationClosed();
    if (await store.account(key) !== undefined) throw nameTaken();
    if (adminCode !== undefined && !isSame(code, adminCode)) {
      throw new ChatError(
        "forbidden",
        "This is an admin's name. Register it with the admin code, which the server's operator has.",
      );
    }
    const passwordHash = await passwords.hash(password, { address });
    if (!await store.addAccount({ key, username, passwordHash })) throw nameTaken();
    this.#remember(key, address);
    return username;
  }

  /**
   * Issues a token. A wrong password and an unknown name get the same refusal, after the same time.
   *
   * @throws {ChatError} `unauthenticated` or `unavailable`
   */
  async login(
    name: string,
    password: string,
    from: Caller = {},
  ): Promise<{ username: string; token: string; expiresAt: number }> {
    const { store, clock } = this.#options;
    const key = nameKey(name);
    const account = await store.account(key);
    if (!await this.#isRight(password, account, key, from) || account === undefined) {
      throw wrongLogin();
    }
    this.#remember(key, from.address);
    const token = createSecret();
    const expiresAt = clock() + TOKEN_MS;
    const hash = hashSecret(token);
    await store.addToken({ hash, account: account.key, expiresAt });
    // While the password was checked, it may have changed, or the account may have been removed.
    const { passwordHash } = await store.account(account.key) ?? {};
    if (passwordHash !== account.passwordHash) {
      await store.endToken(hash);
      throw wrongLogin();
    }
    return { username: account.username, token, expiresAt };
  }

  /**
   * Whether an account's owner has signed in at this address, or holds a session of the account. A
   * bot's token does not count: a stranger who finds one must not guess passwords the faster.
   */
  async #isKnown(key: string, { address = "", tokens = [] }: Caller): Promise<boolean> {
    if (this.#known.has(placeOf(key, address))) return true;
    for (const token of tokens) {
      const stored = isSecret(token)
        ? await this.#options.store.token(hashSecret(token))
        : undefined;
      if (stored?.account !== key || stored.expiresAt === NEVER) continue;
      if (stored.expiresAt > this.#options.clock()) return true;
    }
    return false;
  }

  #remember(key: string, address = ""): void {
    const place = placeOf(key, address);
    this.#known.delete(place);
    this.#known.add(place);
    const [oldest] = this.#known;
    if (this.#known.size > MAX_KNOWN) this.#known.delete(oldest!);
  }

  /** Whether a password is the account's. The check takes the same time without an account. */
  async #isRight(
    password: string,
    account: Account | undefined,
    key: string,
    from: Caller,
  ): Promise<boolean> {
    const attempt = {
      address: from.address,
      account: key,
      isKnown: await this.#isKnown(key, from),
    };
    // No account has a longer password: hashing more would only cost time.
    const tried = password.slice(0, MAX_PASSWORD_LENGTH + 1);
    return await this.#options.passwords.check(tried, account?.passwordHash || undefined, attempt);
  }

  /**
   * Makes a token for a bot of an account.
   *
   * @returns the token, which is shown only now, and its name in NFC
   * @throws {NameError} if the name breaks a rule
   * @throws {ChatError} `conflict` if the account already has a token with this name, or
   *   {@linkcode MAX_BOT_TOKENS}; `unauthenticated`, `forbidden` for a bot, or `unavailable`
   */
  async createBotToken(
    identity: Identity,
    requested: string,
  ): Promise<{ name: string; token: string; created: number }> {
    const { key, tokenHash } = signedIn(identity);
    const { store, clock } = this.#options;
    const name = parseName("token name", requested);
    const token = createSecret();
    const made = { hash: hashSecret(token), account: key, name, created: clock() };
    if (!await store.addBotToken(made, MAX_BOT_TOKENS)) {
      throw noPlaceFor(name, await store.botTokens(key));
    }
    // The session may have ended meanwhile: the new token must not outlive it.
    if (await store.token(tokenHash) === undefined) {
      await store.endToken(made.hash);
      throw sessionEnded();
    }
    return { name, token, created: made.created };
  }

  /**
   * The tokens of an account's bots, oldest first.
   *
   * @throws {ChatError} `unauthenticated`, `forbidden` for a bot, or `unavailable`
   */
  async botTokens(identity: Identity): Promise<{ name: string; created: number }[]> {
    const tokens = await this.#options.store.botTokens(signedIn(identity).key);
    return tokens.map(({ name, created }) => ({ name, created })).sort((a, b) =>
      a.created - b.created || (a.name < b.name ? -1 : 1)
    );
  }

  /**
   * Ends a bot's token, and closes its sockets.
   *
   * @throws {NameError} if the name breaks a rule
   * @throws {ChatError} `not_found` if the account has no token with this name; `unauthenticated`,
   *   `forbidden` for a bot, or `unavailable`
   */
  async endBotToken(identity: Identity, requested: string): Promise<void> {
    const { key } = signedIn(identity);
    if (await this.#options.store.endBotToken(key, parseName("token name", requested))) return;
    throw new ChatError("not_found", "You have no token with this name.");
  }

  /**
   * Changes the password of an account, and ends its other sessions and the tokens of its bots.
   *
   * @throws {ChatError} `forbidden` if the password is wrong or for a bot, `bad_request` for a bad
   *   new one, or `unavailable`
   */
  async changePassword(
    identity: Identity,
    password: string,
    newPassword: string,
    from: Caller = {},
  ): Promise<void> {
    const { key, tokenHash } = await this.#prove(identity, password, from);
    const { store, passwords } = this.#options;
    const hash = await passwords.hash(checkPassword(newPassword), { address: from.address });
    // An admin may have set a new password meanwhile, which ended this session.
    if (await store.token(tokenHash) === undefined) throw sessionEnded();
    await store.setPassword(key, hash, tokenHash);
  }

  /**
   * Sets the password of another person's account for an admin, and ends its sessions.
   *
   * @param password the admin's own
   * @throws {ChatError} `forbidden` if the password is wrong, or the person is no admin; `not_found`
   *   if there is no such account; `bad_request` for a bad new password, or `unavailable`
   */
  async setPassword(
    identity: Identity,
    password: string,
    { username, newPassword, from = {} }: {
      username: string;
      newPassword: string;
      from?: Caller;
    },
  ): Promise<void> {
    if (!identity.account?.isAdmin) {
      throw new ChatError("forbidden", "Only an admin may set another person's password.");
    }
    await this.#prove(identity, password, from);
    const { store, passwords } = this.#options;
    const hash = await passwords.hash(checkPassword(newPassword), { address: from.address });
    if (!await store.setPassword(nameKey(username), hash)) {
      throw new ChatError("not_found", "There is no account with this name.");
    }
  }

  /**
   * Removes an account for good: its sessions end, its messages lose their text and its name, and
   * nobody can register the name again.
   *
   * @throws {ChatError} `forbidden` if the password is wrong, or `unavailable`
   */
  async remove(identity: Identity, password: string, from: Caller = {}): Promise<void> {
    const { key } = await this.#prove(identity, password, from);
    await this.#options.store.removeAccount(key);
    // If this fails, the sweep erases later.
    await within(MAX_ERASE_WAIT_MS, this.erase().catch(() => {}));
  }

  /**
   * Erases the messages of removed accounts, step by step. Call it about once a second: it
   * continues what a restart or a failure of the store has interrupted.
   */
  erase(): Promise<void> {
    return this.#erasing ??= this.#eraseAll().finally(() => this.#erasing = undefined);
  }

  async #eraseAll(): Promise<void> {
    const { store, after } = this.#options;
    // Without a pause between turns, the runtime reads from no socket.
    while (await store.eraseNext()) {
      await new Promise<void>((resolve) => after(ERASE_PAUSE_MS, resolve));
    }
  }

  /**
   * Ends every session of an account, and the tokens of its bots.
   *
   * @throws {ChatError} `unauthenticated` for a guest, `forbidden` for a bot, or `unavailable`
   */
  async logoutEverywhere(identity: Identity): Promise<void> {
    await this.#options.store.endTokens(signedIn(identity).key);
  }

  /**
   * Checks the password of a person who is signed in.
   *
   * @throws {ChatError} `forbidden`, `unauthenticated` for a guest, or `unavailable`
   */
  async #prove(identity: Identity, password: string, from: Caller) {
    const account = signedIn(identity);
    const stored = await this.#options.store.account(account.key);
    if (!await this.#isRight(password, stored, account.key, from)) {
      throw new ChatError("forbidden", "The password is wrong.");
    }
    return account;
  }

  /** Ends the token of a session or a bot. An unknown token does nothing. */
  async logout(token: string): Promise<void> {
    const { store } = this.#options;
    const hash = hashSecret(token);
    if (isSecret(token) && await store.token(hash) !== undefined) await store.endToken(hash);
  }

  /**
   * The person that a token belongs to: an account, or a person of the operator's site.
   *
   * @param secret a guest's secret, if the client presented one beside the token
   * @throws {ChatError} `unauthenticated` if the token has ended or is invalid
   */
  async authenticate(token: string, secret?: string): Promise<Identity> {
    const guest = secret !== undefined && isSecret(secret) ? guestPerson(secret) : undefined;
    if (this.#siteTokens !== undefined && SiteTokens.isOne(token)) {
      const { id, username, expiresAt } = this.#siteTokens.read(token);
      return { person: `site:${id}`, username, expiresAt, guest, isProven: true };
    }
    const { store, clock } = this.#options;
    const stored = isSecret(token) ? await store.token(hashSecret(token)) : undefined;
    if (stored === undefined || stored.expiresAt <= clock()) throw sessionEnded();
    const account = await store.account(stored.account);
    if (account === undefined) throw sessionEnded();
    const { key, username } = account;
    return {
      person: accountPerson(key),
      username,
      expiresAt: stored.expiresAt,
      account: { key, isAdmin: this.#admins.has(key), tokenHash: stored.hash },
      guest,
      isProven: true,
    };
  }

  /**
   * The guest with a secret, or a new one.
   *
   * @param secret the secret that the guest presented, if any
   * @throws {ChatError} `unauthenticated` if the server allows no guests, `bad_request` if the
   *   secret is malformed
   */
  guest(secret?: string): Identity {
    this.#checkGuests();
    if (secret !== undefined && !isSecret(secret)) {
      throw badRequest("This session is not from this server. Join without it.");
    }
    const own = secret ?? createSecret();
    return { person: guestPerson(own), secret: own, isProven: secret !== undefined };
  }

  #checkGuests(): void {
    if (!this.allowsGuests) throw new ChatError("unauthenticated", "Sign in to chat here.");
  }

  /**
   * A guest without a secret who posts over HTTP. The same address and name is the same person, so
   * that a repeated message is recognised. Anyone at that address can be this person, so it may
   * only post.
   *
   * @param address the key of the address
   * @throws {ChatError} `unauthenticated` if the server allows no guests
   */
  passerby(address: string, username = ""): Identity {
    this.#checkGuests();
    return {
      person: `passerby:${hashSecret(placeOf(nameKey(username), address))}`,
      isProven: false,
    };
  }

  /**
   * Checks that a person may use a name: only the one of its token, if it has one, and no name of
   * another's account.
   *
   * @throws {ChatError} `forbidden` or `unauthenticated`
   */
  async checkName(identity: Identity, username: string): Promise<void> {
    const key = nameKey(username);
    const { username: own, account } = identity;
    if (own !== undefined && nameKey(own) !== key) {
      throw new ChatError("forbidden", `You are signed in as ${own}. Use that name.`);
    }
    if (account !== undefined) return;
    if (this.#admins.has(key) || await this.#options.store.account(key) !== undefined) {
      throw nameBelongsToAccount();
    }
  }

  /**
   * Checks a person again after the join. Before it had a socket to close, its session may have
   * ended, or somebody may have registered its name.
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

/** The {@linkcode Identity.person} of an account. */
export function accountPerson(key: string): string {
  return `account:${key}`;
}

/**
 * The account of a person who signed in with its password. Only that person may manage it.
 *
 * @throws {ChatError} `unauthenticated` for a guest, `forbidden` for a bot
 */
function signedIn({ account, expiresAt }: Identity) {
  if (account === undefined) throw notSignedIn();
  if (expiresAt !== NEVER) return account;
  const sentence = "A bot's token cannot do this. Sign in with the account's password.";
  throw new ChatError("forbidden", sentence);
}

/** The refusal of one more token. */
function noPlaceFor(name: string, tokens: readonly BotToken[]): ChatError {
  return new ChatError(
    "conflict",
    tokens.some((token) => token.name === name)
      ? "You have a token with this name. Choose another name, or delete that token first."
      : `You have ${MAX_BOT_TOKENS} tokens, the maximum. Delete one that is no longer in use.`,
  );
}

/** The bot's token as {@linkcode AccountStore.token} finds it. */
export function asToken({ hash, account }: BotToken): Token {
  return { hash, account, expiresAt: NEVER };
}

/** A text that identifies an account at an address. */
function placeOf(key: string, address: string): string {
  return `${address} ${key}`;
}

/** Returns a new password. @throws {ChatError} `bad_request` if it is too short or too long */
function checkPassword(password: string): string {
  if (password.length >= MIN_PASSWORD_LENGTH && password.length <= MAX_PASSWORD_LENGTH) {
    return password;
  }
  throw badRequest(
    `The password must have ${MIN_PASSWORD_LENGTH} to ${MAX_PASSWORD_LENGTH} characters.`,
  );
}

function wrongLogin(): ChatError {
  return new ChatError("unauthenticated", "The name or the password is wrong.");
}

function registrationClosed(): ChatError {
  return new ChatError(
    "forbidden",
    "Only admins can make an account here. Ask the server's operator.",
  );
}

function guestPerson(secret: string): string {
  return `guest:${hashSecret(secret)}`;
}

function nameTaken(): ChatError {
  return new ChatError("name_in_use", "An account has this name. Choose another.");
}
