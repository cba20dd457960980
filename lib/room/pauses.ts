/**
 * Pauses between a member's frames: the moments at which its connection can be closed.
 *
 * The runtime drops a connection, and the frames queued for it, if a frame arrives right after the
 * call of `close`.
 *
 * @module
 */

import type { After } from "../time.ts";
import type { Member } from "./room.ts";

/**
 * A pause has begun this long after a frame, in milliseconds: another one right behind it would
 * have come.
 */
const BEGIN_MS = 5;

/** Until then it is safe to close: whoever sends all the time has just sent something. */
const SAFE_MS = 30;

/** A member that has sent nothing for so long is not about to, and nobody is waited for longer. */
const MAX_WAIT_MS = 500;

/** Closes each member at the beginning of its next pause, or at once if it says nothing. */
export async function closeInPauses(
  members: readonly Member[],
  close: (member: Member) => void,
  { clock, after }: { readonly clock: () => number; readonly after: After },
): Promise<void> {
  const end = clock() + MAX_WAIT_MS;
  let lookedAt = clock();
  for (let left = members; left.length > 0;) {
    const now = clock();
    // After a delay of the whole process, frames that have come already are yet to be heard.
    const isLate = now - lookedAt >= 2 * BEGIN_MS;
    lookedAt = now;
    for (const member of left) {
      const silent = member.silentMs(now);
      const isPause = silent >= MAX_WAIT_MS || (silent >= BEGIN_MS && silent < SAFE_MS);
      if ((isPause && !isLate) || now >= end) close(member);
    }
    left = left.filter(({ isGone }) => !isGone);
    if (left.length > 0) await new Promise<void>((resolve) => after(BEGIN_MS / 4, resolve));
  }
}
