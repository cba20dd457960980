/**
 * Pauses between frames: the moments when a drain can stop listening, and close connections.
 *
 * The runtime drops a connection, and the frames queued for it, if a frame arrives right after the
 * call of `close`.
 *
 * @module
 */

import type { After } from "../time.ts";
import type { Member } from "./room.ts";

/** A drain stops listening after this time without a frame, in milliseconds. */
const QUIET_MS = 50;

/** Maximum time a drain waits for such a pause, in milliseconds. */
const MAX_QUIET_WAIT_MS = 500;

/**
 * A pause has begun this long after a frame, in milliseconds: a frame sent right behind it would
 * have arrived.
 */
const BEGIN_MS = 5;

/** Until this long after a frame, in milliseconds, a close is safe: a busy member has just sent. */
const SAFE_MS = 30;

/**
 * A member silent for this long is safe to close, in milliseconds. No member is waited for longer.
 */
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

/** Closes each member at the beginning of its next pause, or at once if it is silent. */
export async function closeInPauses(
  members: readonly Member[],
  close: (member: Member) => void,
  { clock, after }: PauseOptions,
): Promise<void> {
  const end = clock() + MAX_WAIT_MS;
  let lookedAt = clock();
  for (let left = members; left.length > 0;) {
    const now = clock();
    // After a delay of the whole process, arrived frames may not have been read yet.
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
