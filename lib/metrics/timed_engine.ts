/**
 * An engine whose calls are measured.
 *
 * @module
 */

import type { Engine, Receipt } from "../engine/engine.ts";
import { ChatError } from "../errors.ts";
import type { Recorder } from "./instruments.ts";

/** The outcome of a call: the engine did it (`ok`), `refused` it, or `failed`. */
export type CallOutcome = "ok" | "refused" | "failed";

/** Receives the measurements. */
export interface EngineMeter {
  /** Receives how long these calls take, in seconds. @param operation such as `log.append` */
  calls(operation: string, outcome: CallOutcome): Recorder;
  /** A message is stored for the first time. */
  stored(kind: "room" | "private"): void;
}

/** Measures every call of an engine that answers with a promise, without changing the answers. */
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
  // A plain object: a proxy would cost more than the measurement.
  const timed: Record<string, Method> = {};
  for (const name of methodsOf(target)) {
    const method = Reflect.get(target, name) as Method;
    timed[name] = timeMethod(`${prefix}${name}`, target, method, meter, clock);
  }
  return timed as T;
}

/** The names of an object's methods, its own and inherited ones. */
function methodsOf(target: object): Set<string> {
  const names = new Set<string>();
  for (let at = target; at !== Object.prototype; at = Object.getPrototypeOf(at)) {
    for (const name of Object.getOwnPropertyNames(at)) {
      if (typeof Reflect.get(target, name) === "function") names.add(name);
    }
  }
  return names;
}

function timeMethod(
  operation: string,
  target: object,
  method: Method,
  meter: EngineMeter,
  clock: () => number,
): Method {
  const stored = STORED[operation];
  let answered: Recorder | undefined;
  const onAnswer = (start: number, answer: unknown) => {
    answered ??= meter.calls(operation, "ok");
    answered.record((clock() - start) / 1000);
    if (stored !== undefined && !(answer as Receipt<unknown>).isDuplicate) meter.stored(stored);
  };
  const onError = (start: number, error: unknown) =>
    meter.calls(operation, outcomeOf(error)).record((clock() - start) / 1000);
  return (...args) => {
    const start = clock();
    const answer = method.apply(target, args);
    if (answer instanceof Promise) {
      answer.then((value) => onAnswer(start, value), (error) => onError(start, error));
    }
    return answer;
  };
}

function outcomeOf(error: unknown): CallOutcome {
  return error instanceof ChatError && error.code !== "unavailable" ? "refused" : "failed";
}
