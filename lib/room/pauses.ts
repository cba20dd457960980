/**
 * Pauses between frames: the moments at which a drain can stop listening, and close connections.
 *
 * The runtime drops a connection, and the frames queued for it, if a frame arrives right after the
 * call of `close`.
 *
 * @module
 */

import type { After } from "../time.ts";
import type { Member } from "./room.ts";

/** How long no frame may arrive before a drain stops listening, in milliseconds. */
const QUIET_MS = 50;

/** Maximum time a drain waits for such a pause, in milliseconds. */
const MAX_QUIET_WAIT_MS = 500;

/**
 * A pause has begun this long after a frame, in milliseconds: another one right behind it would
 * have come.
 */
const BEGIN_MS = 5;

/** Until then it is safe to close: whoever sends all the time has just sent something. */
const SAFE_MS = 30;

/** A member that has sent nothing for so long is not about to, and nobody is waited for longer. */
const MAX_WAIT_MS = 500;

/** What waiting for pauses needs. */
interface PauseOptions {
  /** The time in milliseconds. */
  readonly clock: () => number;
  readonly after: After;
}

/**
 * Waits for a pause between the frames of all members, but no longer than half a second.
 *
 * @param receivedAt when a frame last came in, in milliseconds
 */
export async function waitForQuiet(
  receivedAt: () => number,
  { clock, after }: PauseOptions,
): Promise<void> {
  const end = clock() + MAX_QUIET_WAIT_MS;
  while (clock() < end && clock() - receivedAt() < QUIET_MS) await sleep(QUIET_MS / 2, after);
}

/** Closes each member at the beginning of its next pause, or at once if it says nothing. */
export async function closeInPauses(
  members: readonly Member[],
  close: (member: Member) => void,
  { clock, after }: PauseOptions,
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
    if (left.length > 0) await sleep(BEGIN_MS / 4, after);
  }
}

function sleep(ms: number, after: After): Promise<void> {
  return new Promise((resolve) => after(ms, resolve));
}
