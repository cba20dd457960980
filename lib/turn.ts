/**
 * The end of a turn of the event loop: when what came in during the turn is stored, and then told.
 *
 * @module
 */

/**
 * Makes a way to put something off to the end of the present turn.
 *
 * What is put off by something that was put off itself (the delivery, by the commit) is done in the
 * same turn, when those have been told who waited for it; and what that puts off, in the next turn.
 * So a message needs one turn of the event loop and not two, and its answer is delivered with it.
 *
 * @param atEnd calls back when the present turn ends
 */
export function createDefer(
  atEnd: (callback: () => void) => void,
): (callback: () => void) => void {
  let putOff: (() => void)[] | undefined;
  const run = (callback: () => void) => {
    const next: (() => void)[] = putOff = [];
    try {
      callback();
    } finally {
      putOff = undefined;
      // Behind the reactions to what was resolved just now.
      for (const one of next) queueMicrotask(one);
    }
  };
  return (callback) => {
    if (putOff === undefined) atEnd(() => run(callback));
    else putOff.push(callback);
  };
}
