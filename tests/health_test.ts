/** What the server says of its store. */

import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Health } from "../lib/http/health.ts";
import { createLogger } from "../lib/logger.ts";

/** A health whose clock and whose store a test moves by hand. */
function createHealth() {
  let time = 0;
  const log: string[] = [];
  const checks: PromiseWithResolvers<void>[] = [];
  const check = () => {
    checks.push(Promise.withResolvers());
    return checks.at(-1)!.promise;
  };
  const write = (line: string) => {
    const { level, msg, reason = "" } = JSON.parse(line);
    log.push(`${level} ${msg}: ${reason}`);
  };
  const logger = createLogger({ level: "info", write });
  const health = new Health({ store: { check }, logger, clock: () => time });
  return {
    health,
    checks,
    pass: (ms: number) => void (time += ms),
    readLog: () => log.splice(0),
    /** Makes a check, which ends at once. */
    async sweep(error?: unknown) {
      health.sweep();
      if (error === undefined) checks.at(-1)!.resolve();
      else checks.at(-1)!.reject(error);
      await settled();
    },
  };
}

/** Resolves when everything that a settled promise sets off has happened. */
const settled = () => new Promise((resolve) => setTimeout(resolve));

const UNAVAILABLE = "error store unavailable: ";
const BACK = "warn store is back: ";

describe("Health", () => {
  it("is well until a check fails, and again from the next check that does not", async () => {
    const { health, sweep } = createHealth();
    assertEquals(health.isDegraded, false);
    await sweep();
    assertEquals(health.isDegraded, false);
    await sweep(new Error("The disk is full."));
    assertEquals(health.isDegraded, true);
    await sweep();
    assertEquals(health.isDegraded, false);
  });

  it("logs each change once, with the reason", async () => {
    const { sweep, readLog } = createHealth();
    await sweep();
    for (let i = 0; i < 3; i++) await sweep(new Error("The disk is full."));
    assertEquals(readLog(), [UNAVAILABLE + "The disk is full."]);
    await sweep("no error");
    for (let i = 0; i < 3; i++) await sweep();
    assertEquals(readLog(), [BACK]);
    await sweep("no error");
    assertEquals(readLog(), [UNAVAILABLE + "no error"]);
  });

  it("makes one check at a time", async () => {
    const { health, checks } = createHealth();
    for (let i = 0; i < 3; i++) health.sweep();
    assertEquals(checks.length, 1);
    checks[0]!.resolve();
    await settled();
    for (let i = 0; i < 3; i++) health.sweep();
    assertEquals(checks.length, 2);
    checks[1]!.reject(new Error("no"));
    await settled();
    health.sweep();
    assertEquals(checks.length, 3);
  });

  it("takes a check for failed that has no answer within 2 seconds", async () => {
    const { health, checks, pass, readLog, sweep } = createHealth();
    health.sweep();
    for (const isDegraded of [false, false, true, true]) {
      pass(999);
      health.sweep();
      assertEquals(health.isDegraded, isDegraded);
    }
    assertEquals(readLog(), [UNAVAILABLE + "The store does not answer within 2 seconds."]);
    // An answer this late says nothing of now.
    checks[0]!.resolve();
    await settled();
    assertEquals([health.isDegraded, readLog()], [true, []]);
    await sweep();
    assertEquals([health.isDegraded, readLog()], [false, [BACK]]);
  });

  it("takes a late answer for a failure though nothing looked meanwhile", async () => {
    const { health, checks, pass } = createHealth();
    health.sweep();
    pass(2001);
    checks[0]!.resolve();
    await settled();
    assertEquals(health.isDegraded, true);
  });

  it("takes a check for failed that throws", () => {
    const logger = createLogger({ level: "info", write: () => {} });
    const check = () => {
      throw new Error("broken");
    };
    const health = new Health({ store: { check }, logger, clock: () => 0 });
    health.sweep();
    assertEquals(health.isDegraded, true);
  });
});
