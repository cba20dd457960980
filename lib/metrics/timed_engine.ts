/**
 * An engine whose calls are measured.
 *
 * @module
 */

import type { Engine, Receipt } from "../engine/engine.ts";
import { ChatError } from "../errors.ts";

/** What became of a call: `refused` is a refusal of what was asked, `failed` the engine's failure. */
export type CallOutcome = "ok" | "refused" | "failed";

/** Receives what is measured. */
export interface EngineMeter {
  /** The engine has answered. @param operation such as `log.append` @param ms how long it took */
  called(operation: string, outcome: CallOutcome, ms: number): void;
  /** A message is stored for the first time. */
  stored(kind: "room" | "private"): void;
}

/** Measures every call of an engine that answers with a promise. The answers stay as they are. */
export function timeEngine(engine: Engine, meter: EngineMeter, clock: () => number): Engine {
  const timed = <T extends object>(prefix: string, target: T) => time(prefix, target, meter, clock);
  const { open, check } = timed("", engine);
  return {
    log: timed("log.", engine.log),
    bus: timed("bus.", engine.bus),
    accounts: timed("accounts.", engine.accounts),
    roomSettings: timed("settings.", engine.roomSettings),
    open,
    check,
    close: () => engine.close(),
  };
}

/** The calls that store a message. */
const STORED: Readonly<Record<string, "room" | "private">> = {
  "log.append": "room",
  "log.whisper": "private",
};

type Method = (...args: unknown[]) => unknown;

/** An object with the same methods, each measured. */
function time<T extends object>(
  prefix: string,
  target: T,
  meter: EngineMeter,
  clock: () => number,
): T {
  const methods = new Map<PropertyKey, Method>();
  return new Proxy(target, {
    get(_, name) {
      const method = Reflect.get(target, name) as unknown;
      if (typeof method !== "function") return method;
      let timed = methods.get(name);
      if (timed === undefined) {
        timed = timeMethod(`${prefix}${String(name)}`, method.bind(target), meter, clock);
        methods.set(name, timed);
      }
      return timed;
    },
  });
}

function timeMethod(
  operation: string,
  method: Method,
  meter: EngineMeter,
  clock: () => number,
): Method {
  const stored = STORED[operation];
  return (...args) => {
    const start = clock();
    const answer = method(...args);
    if (answer instanceof Promise) {
      answer.then(
        (result) => {
          meter.called(operation, "ok", clock() - start);
          if (stored !== undefined && !(result as Receipt<unknown>).isDuplicate) {
            meter.stored(stored);
          }
        },
        (error) => meter.called(operation, outcomeOf(error), clock() - start),
      );
    }
    return answer;
  };
}

function outcomeOf(error: unknown): CallOutcome {
  return error instanceof ChatError && error.code !== "unavailable" ? "refused" : "failed";
}
