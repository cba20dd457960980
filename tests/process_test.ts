import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { createIds, createTimers, within } from "../lib/process.ts";

describe("createIds", () => {
  it("makes ids that are never the same, in one process and in two", () => {
    const [first, second] = [createIds(), createIds()];
    const ids = [...Array(100)].flatMap(() => [first(), second()]);
    assertEquals(new Set(ids).size, 200);
    for (const id of ids) assertMatch(id, /^[A-Za-z0-9_-]{16}-[0-9a-z]+$/);
  });

  it("makes ids short enough to name in a command", () => {
    const newId = createIds();
    for (let i = 0; i < 100_000; i++) newId();
    assert(newId().length <= 24);
  });
});

describe("createTimers", () => {
  it("makes timers that ring once, after their time", async () => {
    const { after } = createTimers();
    const start = performance.now();
    let rings = 0;
    await new Promise<void>((resolve) =>
      after(20, () => {
        rings++;
        resolve();
      })
    );
    assert(performance.now() - start >= 19);
    assertEquals(rings, 1);
  });

  it("clears those that have not rung: the test would leak them otherwise", async () => {
    const { after, clear } = createTimers();
    let rings = 0;
    for (const ms of [1, 5, 100_000]) after(ms, () => rings++);
    clear();
    await new Promise((resolve) => setTimeout(resolve, 20));
    assertEquals(rings, 0);
  });
});

describe("within", () => {
  it("waits for what comes in time, and leaves no timer behind", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    let isOver = false;
    const waiting = within(100_000, promise).then(() => isOver = true);
    await new Promise((resolve) => setTimeout(resolve, 5));
    assertEquals(isOver, false);
    resolve();
    await waiting;
  });

  it("waits no longer than its time for what never comes", async () => {
    const start = performance.now();
    await within(20, new Promise(() => {}));
    const took = performance.now() - start;
    assert(took >= 19 && took < 5000, `${took}`);
  });

  it("leaves no timer behind when what it waits for fails", async () => {
    await assertRejects(() => within(100_000, Promise.reject(new Error("no"))), Error, "no");
  });
});
