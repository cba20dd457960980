/** The server's report on its store. */

import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Health } from "../lib/http/health.ts";
import { createLogger } from "../lib/logger.ts";

/** A health with a fake clock and a fake store. */
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
    /** Runs a check, which ends at once. */
    async sweep(error?: unknown) {
      health.sweep();
      if (error === undefined) checks.at(-1)!.resolve();
      else checks.at(-1)!.reject(error);
      await settled();
    },
  };
}

/** Resolves when all callbacks of settled promises have run. */
const settled = () => new Promise((resolve) => setTimeout(resolve));

const UNAVAILABLE = "error store unavailable: ";
const BACK = "warn store is back: ";

describe("Health", () => {
  it("is ok until a check fails, and again from the next good check", async () => {
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

  it("runs one check at a time", async () => {
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

  it("counts a check without an answer within 2 seconds as failed", async () => {
    const { health, checks, pass, readLog, sweep } = createHealth();
    health.sweep();
    for (const isDegraded of [false, false, true, true]) {
      pass(999);
      health.sweep();
      assertEquals(health.isDegraded, isDegraded);
    }
    assertEquals(readLog(), [UNAVAILABLE + "The store does not answer within 2 seconds."]);
    // So late an answer says nothing about the present.
    checks[0]!.resolve();
    await settled();
    assertEquals([health.isDegraded, readLog()], [true, []]);
    await sweep();
    assertEquals([health.isDegraded, readLog()], [false, [BACK]]);
  });

  it("counts a late answer as a failure, even if no timer ran", async () => {
    const { health, checks, pass } = createHealth();
    health.sweep();
    pass(2001);
    checks[0]!.resolve();
    await settled();
    assertEquals(health.isDegraded, true);
  });

  it("counts a check that throws as failed", () => {
    const logger = createLogger({ level: "info", write: () => {} });
    const check = () => {
      throw new Error("broken");
    };
    const health = new Health({ store: { check }, logger, clock: () => 0 });
    health.sweep();
    assertEquals(health.isDegraded, true);
  });
});
