/**
 * Permissions: roles in a room, bans and private rooms, and changes of a room's settings.
 *
 * @module
 */

import type { Ban, Engine, RoomSettings } from "../engine/engine.ts";
import { ChatError, notOwner, roomInUse, storeUnavailable } from "../errors.ts";
import { LOBBY, nameKey, parseName } from "../names.ts";
import type { JoinRequest, RoomAccess, RoomVisit } from "../http/rooms.ts";
import type { Identity } from "../people/accounts.ts";
import type { RoomChange } from "../protocol/commands.ts";
import type { Role } from "../protocol/events.ts";

/** Maximum rooms that one account may own. */
const MAX_OWNED_ROOMS = 100;

/** Maximum bans of one room; beyond it the oldest is lifted. */
const MAX_BANS = 1000;

/** Maximum attempts at one change: each fails only because another change came first. */
const MAX_ATTEMPTS = 20;

/** A person who is in a room or wants to join it. */
export type Visitor = Pick<JoinRequest, "identity" | "username" | "address">;

/** A person's rights in a room with these settings. */
export function roleIn({ owner, moderators }: RoomSettings, { account }: Identity): Role {
  if (account === undefined) return "member";
  if (account.isAdmin) return "admin";
  if (account.key === owner) return "owner";
  return moderators.includes(account.key) ? "moderator" : "member";
}

/**
 * The refusal of a person that the settings ban or do not admit; `undefined` for everyone else.
 */
export function whyForbidden(settings: RoomSettings, visitor: Visitor): ChatError | undefined {
  const { identity } = visitor;
  // A fast path: every command asks this, and most rooms forbid nothing.
  if (!settings.isPrivate && settings.bans.length === 0) return undefined;
  if (roleIn(settings, identity) !== "member") return undefined;
  // A stranger learns only that the room is private.
  if (settings.isPrivate && !isListed(settings, identity)) {
    return new ChatError("forbidden", "This room is private. Ask its owner to let you in.");
  }
  if (isBanned(settings, visitor)) {
    return new ChatError("forbidden", "You are banned from this room.");
  }
  return undefined;
}

function isBanned({ bans }: RoomSettings, { identity, username, address }: Visitor): boolean {
  const { person, guest } = identity;
  const key = username === undefined ? undefined : nameKey(username);
  return bans.some((ban) =>
    ban.person === person || ban.person === guest || ban.key === key ||
    (key === undefined && ban.address !== undefined && ban.address === address)
  );
}

function isSameBan(ban: Ban, { key, person, address }: Ban): boolean {
  return ban.key === key && ban.person === person && ban.address === address;
}

function isListed({ members }: RoomSettings, { account }: Identity): boolean {
  return account !== undefined && members.includes(account.key);
}

/** What {@linkcode Permissions} needs of the engine, which publishes every change to the room. */
export type PermissionsStore = Pick<Engine, "roomSettings" | "accounts" | "log" | "bus">;

/** Changes the settings of rooms, by compare-and-set: two changes at once both take effect. */
export class Permissions {
  readonly #store: PermissionsStore;

  constructor(store: PermissionsStore) {
    this.#store = store;
  }

  /**
   * Checks that a room's settings admit a person, and returns them.
   *
   * @throws {ChatError} `forbidden` or `unavailable`
   */
  async check(visit: RoomVisit & Visitor): Promise<RoomSettings> {
    const settings = await this.#store.roomSettings.settings(visit.room).catch(() => {
      throw storeUnavailable();
    });
    const refusal = whyForbidden(settings, visit);
    if (refusal !== undefined) throw refusal;
    return settings;
  }

  /**
   * Reads the part of a room's settings that the person may know. Only those who may change members
   * and bans can read them.
   *
   * @throws {ChatError} `forbidden` or `unavailable`
   */
  async read(visit: RoomVisit): Promise<RoomAccess> {
    const settings = await this.check(visit);
    const role = roleIn(settings, visit.identity);
    if (role === "owner" || role === "admin") return settings;
    const { owner, moderators, isPrivate } = settings;
    return { owner, moderators, isPrivate };
  }

  /**
   * Changes a room's settings for its owner or an admin. An account that changes a room without an
   * owner claims it, which is possible while nobody else uses the room.
   *
   * @throws {ChatError} `forbidden`, `not_found` if a name has no account, `bad_request` if it
   *   breaks a rule, or `unavailable`
   */
  async change(room: string, identity: Identity, change: RoomChange): Promise<RoomSettings> {
    const unbanned = new Set(change.unban?.map(nameKey));
    return await this.#update(room, async (before) => {
      const owner = await this.#checkChange(room, before, identity, change);
      const { private: isPrivate = before.isPrivate, members, moderators } = change;
      const listed = members ? await this.#accountKeys(members) : before.members;
      const hasHandedOver = before.owner !== undefined && before.owner !== owner;
      return {
        ...before,
        owner,
        isPrivate,
        // The former owner stays a member.
        members: hasHandedOver ? [...new Set([...listed, before.owner])] : listed,
        moderators: moderators ? await this.#accountKeys(moderators) : before.moderators,
        bans: before.bans.filter(({ key }) => !unbanned.has(key)),
      };
    });
  }

  /**
   * Adds bans to a room's settings. An existing ban is not added again.
   *
   * @throws {ChatError} `unavailable`
   */
  async ban(room: string, ...bans: readonly Ban[]): Promise<RoomSettings> {
    return await this.#update(
      room,
      (before) => {
        const isNew = (ban: Ban) => !before.bans.some((other) => isSameBan(ban, other));
        return { ...before, bans: [...before.bans, ...bans.filter(isNew)].slice(-MAX_BANS) };
      },
    );
  }

  async #update(
    room: string,
    change: (before: RoomSettings) => RoomSettings | Promise<RoomSettings>,
  ): Promise<RoomSettings> {
    const { roomSettings } = this.#store;
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const settings = await change(await roomSettings.settings(room));
      if (await roomSettings.setSettings(room, settings)) {
        return { ...settings, version: settings.version + 1 };
      }
    }
    throw storeUnavailable();
  }

  /**
   * Checks that a person may change a room's settings. Returns the room's owner after the change.
   */
  async #checkChange(
    room: string,
    settings: RoomSettings,
    identity: Identity,
    { owner: heir }: RoomChange,
  ): Promise<string | undefined> {
    const { account } = identity;
    const role = roleIn(settings, identity);
    const isAdmin = role === "admin";
    if (account === undefined || role === "moderator") throw notOwner();
    if (role === "member" && settings.owner !== undefined) throw notOwner();
    if (!isAdmin && room === LOBBY) throw new ChatError("forbidden", "The lobby is for everyone.");
    let { owner } = settings;
    if (owner === undefined && (!isAdmin || room !== LOBBY)) {
      if (await this.#isUnused(room, identity)) owner = account.key;
      else if (!isAdmin) throw roomInUse();
    }
    if (heir !== undefined) [owner] = await this.#accountKeys([heir]);
    if (!isAdmin && owner !== settings.owner) await this.#checkOwned(owner!, account.key);
    return owner;
  }

  /** Whether a room has no messages, and nobody in it but this person. */
  async #isUnused(room: string, { person }: Identity): Promise<boolean> {
    const { bus, log } = this.#store;
    // The cheaper check first.
    if ((await log.messages(room, { limit: 1 })).length > 0) return false;
    const present = await bus.present(room);
    return present.every((presence) => presence.person === person);
  }

  async #checkOwned(owner: string, self: string): Promise<void> {
    if (await this.#store.roomSettings.countOwned(owner) < MAX_OWNED_ROOMS) return;
    throw new ChatError(
      "forbidden",
      owner === self
        ? `You own ${MAX_OWNED_ROOMS} rooms, the maximum. Use one of them.`
        : `${owner} owns ${MAX_OWNED_ROOMS} rooms, the maximum. Choose another owner.`,
    );
  }

  /** The keys of the accounts with these names. */
  async #accountKeys(names: readonly string[]): Promise<string[]> {
    const keys = names.map((name) => nameKey(parseName("username", name)));
    for (const [i, key] of keys.entries()) {
      if (!(await this.#store.accounts.account(key))?.username) {
        throw new ChatError("not_found", `There is no account with the name ${names[i]}.`);
      }
    }
    return keys;
  }
}
