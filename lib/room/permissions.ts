/**
 * Who may be in a room and who decides that: how a room's settings are changed.
 *
 * @module
 */

import type { Ban, Engine, RoomSettings } from "../engine/engine.ts";
import { ChatError, notModerator, storeUnavailable } from "../errors.ts";
import { LOBBY, nameKey, parseName } from "../names.ts";
import type { Identity } from "../people/accounts.ts";
import type { RoomChange } from "../protocol/commands.ts";
import { roleIn } from "./room.ts";

/** Most rooms that one account may own. */
const MAX_OWNED_ROOMS = 100;

/** Most bans of one room: then the oldest is forgotten. */
const MAX_BANS = 1000;

/** Maximum attempts at one change: each fails only because another change came first. */
const MAX_ATTEMPTS = 20;

/** Changes the settings of rooms. No change is lost, whichever instance makes it. */
export class Permissions {
  readonly #engine: Engine;

  /** @param engine stores the settings; the rooms hear every change from it */
  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /**
   * Changes a room's settings, for its owner or an admin. A room that nobody owns belongs from then
   * on to who changes them.
   *
   * @throws {ChatError} `forbidden`, or `not_found` if a member has no account
   * @throws {NameError} if a member's name can be none
   */
  change(room: string, identity: Identity, change: RoomChange): Promise<RoomSettings> {
    return this.#update(room, async (before) => {
      const owner = await this.#checkChange(room, before, identity);
      const unbanned = new Set(change.unban?.map(nameKey));
      return {
        ...before,
        owner,
        isPrivate: change.private ?? before.isPrivate,
        members: change.members ? await this.#accountKeys(change.members) : before.members,
        bans: before.bans.filter(({ key }) => !unbanned.has(key)),
      };
    });
  }

  /** Keeps somebody out of a room. */
  ban(room: string, ban: Ban): Promise<RoomSettings> {
    return this.#update(room, (before) => {
      return Promise.resolve({ ...before, bans: [...before.bans, ban].slice(-MAX_BANS) });
    });
  }

  async #update(
    room: string,
    change: (before: RoomSettings) => Promise<RoomSettings>,
  ): Promise<RoomSettings> {
    const { roomSettings } = this.#engine;
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const settings = await change(await roomSettings.settings(room));
      if (await roomSettings.setSettings(room, settings)) {
        return { ...settings, version: settings.version + 1 };
      }
    }
    throw storeUnavailable();
  }

  /** Checks that somebody may change a room's settings. Returns whose the room then is. */
  async #checkChange(room: string, settings: RoomSettings, identity: Identity): Promise<string> {
    const { account } = identity;
    const { owner } = settings;
    const role = roleIn(settings, identity);
    if (account === undefined || (role === "member" && owner !== undefined)) throw notModerator();
    if (role !== "admin" && room === LOBBY) {
      throw new ChatError("forbidden", "The lobby is for everyone.");
    }
    if (owner !== undefined) return owner;
    if (await this.#engine.roomSettings.countOwned(account.key) >= MAX_OWNED_ROOMS) {
      throw new ChatError("forbidden", `An account may own ${MAX_OWNED_ROOMS} rooms.`);
    }
    return account.key;
  }

  /** The keys of accounts with these names. */
  async #accountKeys(names: readonly string[]): Promise<string[]> {
    const keys = names.map((name) => nameKey(parseName("username", name)));
    for (const [i, key] of keys.entries()) {
      if (await this.#engine.accounts.account(key) === undefined) {
        throw new ChatError("not_found", `There is no account of the name ${names[i]}.`);
      }
    }
    return keys;
  }
}
