/**
 * Ends memberships for reasons outside the room: the session has ended, or somebody has registered
 * the guest's name.
 *
 * @module
 */

import type { Engine, EngineEvent } from "../engine/engine.ts";
import { type ChatError, nameBelongsToAccount, sessionEnded } from "../errors.ts";
import { errorFields, type Logger } from "../logger.ts";
import { nameKey } from "../names.ts";
import type { After } from "../time.ts";
import type { Member } from "./room.ts";

/** What {@linkcode Sessions} needs. */
export interface SessionsOptions {
  readonly engine: Pick<Engine, "accounts">;
  /** The members of all rooms. */
  readonly members: () => readonly Member[];
  /** Ends a membership. */
  readonly expel: (member: Member, error: ChatError) => void;
  /** Logs failures of the engine; throttled. */
  readonly failures: Logger;
  readonly after: After;
}

/** How long a failed check of sessions waits before it is repeated, in milliseconds. */
const RECHECK_MS = 1000;

/** Ends the memberships that server-wide events concern. */
export class Sessions {
  readonly #options: SessionsOptions;

  constructor(options: SessionsOptions) {
    this.#options = options;
  }

  /** Handles a server-wide event. */
  hear(event: EngineEvent): void {
    if (event.type === "missed") return void this.#recheck();
    const { members, expel } = this.#options;
    for (const member of members()) {
      const refusal = endedBy(event, member);
      if (refusal !== undefined) expel(member, refusal);
    }
  }

  /** Ends the memberships whose event this instance missed. */
  async #recheck(): Promise<void> {
    const { engine: { accounts }, members, expel, failures, after } = this.#options;
    const all = members();
    try {
      const found = await accounts.recheck({
        tokens: unique(all.map(tokenHash)),
        keys: unique(all.map(guestKey)),
      });
      const [ended, registered] = [new Set(found.tokens), new Set(found.keys)];
      for (const member of all) {
        if (ended.has(tokenHash(member) ?? "")) expel(member, sessionEnded());
        else if (registered.has(guestKey(member) ?? "")) expel(member, nameBelongsToAccount());
      }
    } catch (error) {
      failures.error("sessions cannot be checked", errorFields(error));
      after(RECHECK_MS, () => void this.#recheck());
    }
  }
}

/** The refusal of a member whose membership an event ends; `undefined` for any other. */
function endedBy(event: EngineEvent, member: Member): ChatError | undefined {
  const { account } = member.identity;
  switch (event.type) {
    case "token_ended":
      return account?.tokenHash === event.hash ? sessionEnded() : undefined;
    case "tokens_ended": {
      const isEnded = account?.key === event.account && account.tokenHash !== event.kept;
      return isEnded ? sessionEnded() : undefined;
    }
    case "registered":
      return guestKey(member) === event.key ? nameBelongsToAccount() : undefined;
    default:
      return undefined;
  }
}

function tokenHash({ identity: { account } }: Member): string | undefined {
  return account?.tokenHash;
}

/** The key of a name that comes with no account. */
function guestKey({ identity: { account }, username }: Member): string | undefined {
  return account === undefined && username !== undefined ? nameKey(username) : undefined;
}

function unique(texts: readonly (string | undefined)[]): string[] {
  return [...new Set(texts)].filter((text) => text !== undefined);
}
