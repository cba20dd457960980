/**
 * The end of a turn of the event loop: what is put off until then is done in one go, in order.
 *
 * A callback may put off another: it is done in the same go. So what an engine commits at a turn's
 * end, the hub delivers at the same turn's end.
 *
 * @module
 */

import { setImmediate } from "node:timers";

/** Runs a callback once, when the present turn of the event loop ends. */
export type Defer = (callback: () => void) => void;

/**
 * Makes a queue for the ends of turns.
 *
 * @param onError is told of what a callback throws; the others are done all the same
 */
export function createDefer(onError: (error: unknown) => void): Defer {
  let queue: (() => void)[] = [];
  const run = () => {
    const callbacks = queue;
    queue = [];
    for (const callback of callbacks) {
      try {
        callback();
      } catch (error) {
        onError(error);
      }
    }
  };
  return (callback) => {
    if (queue.length === 0) setImmediate(run);
    queue.push(callback);
  };
}
