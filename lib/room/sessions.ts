/**
 * What ends a membership from outside its room: the end of a session, or of a guest's right to a
 * name that somebody has registered.
 *
 * @module
 */

import type { Engine, EngineEvent } from "../engine/engine.ts";
import { type ChatError, nameBelongsToAccount, sessionEnded } from "../errors.ts";
import { nameKey } from "../names.ts";
import type { Member } from "./room.ts";

/** The refusal of a member whose membership a server-wide event ends; `undefined` for any other. */
export function endedBy(event: EngineEvent, member: Member): ChatError | undefined {
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

/** The members whose memberships have ended by now, whatever events were missed. */
export async function recheck(
  members: readonly Member[],
  { accounts }: Pick<Engine, "accounts">,
): Promise<[Member, ChatError][]> {
  const tokens = members.map(tokenHash).filter((hash) => hash !== undefined);
  const keys = members.map(guestKey).filter((key) => key !== undefined);
  const found = await accounts.recheck({ tokens: unique(tokens), keys: unique(keys) });
  const [ended, registered] = [new Set(found.tokens), new Set(found.keys)];
  return members.flatMap((member): [Member, ChatError][] => {
    if (ended.has(tokenHash(member) ?? "")) return [[member, sessionEnded()]];
    return registered.has(guestKey(member) ?? "") ? [[member, nameBelongsToAccount()]] : [];
  });
}

function tokenHash({ identity: { account } }: Member): string | undefined {
  return account?.tokenHash;
}

/** The key of a guest's name. */
function guestKey({ identity: { account }, username }: Member): string | undefined {
  return account === undefined && username !== undefined ? nameKey(username) : undefined;
}

function unique(texts: readonly string[]): string[] {
  return [...new Set(texts)];
}
