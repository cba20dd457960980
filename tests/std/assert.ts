/** The functions of `@std/assert` that our tests use, over `node:assert`. See `probe.ts`. */

import { ok } from "node:assert";
import { deepStrictEqual, rejects, strictEqual, throws } from "node:assert/strict";

export class AssertionError extends Error {
  override name = "AssertionError";
}

export function assert(value: unknown, message?: string): asserts value {
  ok(value, message);
}

export function assertEquals<T>(actual: T, expected: T, message?: string): void {
  deepStrictEqual(actual, expected, message);
}

export function assertStrictEquals<T>(actual: unknown, expected: T, message?: string): void {
  strictEqual(actual, expected, message);
}

export function assertNotEquals<T>(actual: T, unexpected: T, message?: string): void {
  let isEqual = true;
  try {
    deepStrictEqual(actual, unexpected);
  } catch {
    isEqual = false;
  }
  ok(!isEqual, message ?? "The values are equal.");
}

export function assertExists<T>(
  value: T,
  message = "The value is missing.",
): asserts value is NonNullable<T> {
  ok(value !== undefined && value !== null, message);
}

export function assertMatch(actual: string, pattern: RegExp, message?: string): void {
  ok(pattern.test(actual), message ?? `${JSON.stringify(actual)} does not match ${pattern}.`);
}

export function assertStringIncludes(actual: string, part: string, message?: string): void {
  const text = `${JSON.stringify(actual)} does not have ${JSON.stringify(part)}.`;
  ok(actual.includes(part), message ?? text);
}

export function assertThrows<E extends Error>(
  run: () => unknown,
  // deno-lint-ignore no-explicit-any
  type: abstract new (...args: any[]) => E,
  part = "",
): E {
  let thrown: unknown;
  throws(() => {
    try {
      return run();
    } catch (error) {
      thrown = error;
      throw error;
    }
  });
  return checkError(thrown, type, part);
}

export async function assertRejects<E extends Error>(
  run: () => PromiseLike<unknown>,
  // deno-lint-ignore no-explicit-any
  type: abstract new (...args: any[]) => E,
  part = "",
): Promise<E> {
  let thrown: unknown;
  await rejects(async () => await run(), (error) => {
    thrown = error;
    return true;
  });
  return checkError(thrown, type, part);
}

function checkError<E extends Error>(
  error: unknown,
  // deno-lint-ignore no-explicit-any
  type: abstract new (...args: any[]) => E,
  part: string,
): E {
  ok(error instanceof type, `Expected ${type.name}, but it was ${error}.`);
  assertStringIncludes(error.message, part);
  return error;
}
