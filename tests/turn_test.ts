/** Everything in lib/time.ts. */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { setImmediate } from "node:timers";
import { Alarm, createIds, Timers, Turn, within } from "../lib/time.ts";

const nextTurn = () => new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)));

describe("Turn", () => {
  it("commits first, then delivers once the callbacks of all settled promises have run", async () => {
    const turn = new Turn(setImmediate);
    const order: string[] = [];
    const stored = Promise.withResolvers<void>();
    const answer = async () => {
      await stored.promise;
      for (let i = 0; i < 10; i++) await null;
      order.push("answered");
    };
    answer();
    turn.deliver(() => order.push("delivered"));
    turn.commit(() => {
      order.push("committed");
      turn.deliver(() => order.push("delivered what the commit brought"));
      stored.resolve();
    });
    queueMicrotask(() => order.push("this turn"));
    await nextTurn();
    assertEquals(order, [
      "this turn",
      "committed",
      "answered",
      "delivered",
      "delivered what the commit brought",
    ]);
  });

  it("defers work added during a commit or a delivery to the next turn, without loss", async () => {
    const turn = new Turn(setImmediate);
    const order: string[] = [];
    turn.commit(() => {
      order.push("commit 1");
      turn.commit(() => {
        order.push("commit 2");
        turn.deliver(() => order.push("deliver 2"));
      });
    });
    turn.deliver(() => {
      order.push("deliver 1");
      turn.deliver(() => order.push("deliver again"));
      setImmediate(() => setImmediate(() => order.push("later")));
    });
    await nextTurn();
    await nextTurn();
    assertEquals(order, [
      "commit 1",
      "deliver 1",
      "commit 2",
      "deliver again",
      "deliver 2",
      "later",
    ]);
  });

  it("schedules the end of a turn once, however much there is to do", () => {
    const ends: (() => void)[] = [];
    const turn = new Turn((callback) => ends.push(callback));
    for (let i = 0; i < 5; i++) {
      turn.commit(() => {});
      turn.deliver(() => {});
    }
    assertEquals(ends.length, 2);
    for (const end of ends.splice(0)) end();
    turn.deliver(() => {});
    turn.commit(() => {});
    assertEquals(ends.length, 2);
  });

  describe("that is full", () => {
    /** A turn whose phases and pauses the test runs. */
    function createTurn() {
      const ends: (() => void)[] = [];
      const pauses: (() => void)[] = [];
      const turn = new Turn((callback) => ends.push(callback), (callback) => pauses.push(callback));
      const order: string[] = [];
      const work = () => {
        turn.commit(() => order.push("committed"));
        turn.deliver(() => order.push("delivered"));
      };
      const hear = (from: number, to: number) => {
        for (let i = from; i < to; i++) turn.hear(i);
      };
      const end = () => ends.splice(0).forEach((phase) => phase());
      return { order, pauses, work, hear, end };
    }

    it("reads on before it commits and delivers, until it is not full", () => {
      const { order, pauses, work, hear, end } = createTurn();
      work();
      hear(0, 128);
      end();
      assertEquals([order, pauses.length], [[], 1]);
      // What is added meanwhile belongs to the same turn.
      work();
      hear(128, 200);
      pauses.pop()!();
      end();
      assertEquals(order, ["committed", "committed", "delivered", "delivered"]);
      end();
      assertEquals(pauses.length, 0);
    });

    it("ends after 16 more reads, however many connections go on sending", () => {
      const { order, pauses, work, hear, end } = createTurn();
      work();
      let rounds = 0;
      for (hear(0, 128), end(); pauses.length > 0; rounds++) {
        hear(0, 128);
        pauses.pop()!();
        end();
      }
      assertEquals([order, rounds], [["committed", "delivered"], 16]);
    });

    it("is one turn: what was heard in earlier turns does not count", () => {
      const { order, pauses, work, hear, end } = createTurn();
      for (let i = 0; i < 200; i++) {
        hear(i, i + 1);
        end();
      }
      work();
      end();
      assertEquals([order, pauses.length], [["committed", "delivered"], 0]);
    });

    it("counts a connection once, however many frames it sends", () => {
      const { order, pauses, work, hear, end } = createTurn();
      work();
      for (let i = 0; i < 1000; i++) hear(0, 8);
      end();
      assertEquals([order, pauses.length], [["committed", "delivered"], 0]);
    });
  });

  it("runs every task, even if one fails", () => {
    const ends: (() => void)[] = [];
    const turn = new Turn((callback) => ends.push(callback));
    const done: string[] = [];
    const fail = () => {
      throw "a failure";
    };
    turn.commit(fail);
    turn.commit(() => done.push("commit"));
    turn.deliver(fail);
    turn.deliver(() => done.push("deliver"));
    const failures: unknown[] = [];
    for (const end of ends.splice(0)) {
      try {
        end();
      } catch (failure) {
        failures.push(failure);
      }
    }
    assertEquals([failures, done], [["a failure", "a failure"], ["commit", "deliver"]]);
    turn.deliver(() => done.push("next turn"));
    for (const end of ends) end();
    assertEquals(done.at(-1), "next turn");
  });
});

describe("Alarm", () => {
  it("rings once for many, no later than the earliest, and again when set again", () => {
    let now = 100;
    const timers: { ms: number; callback: () => void }[] = [];
    const rings: number[] = [];
    const after = (ms: number, callback: () => void) => void timers.push({ ms, callback });
    const alarm = new Alarm({ clock: () => now, after }, () => rings.push(now));
    for (const due of [150, 160, 150, 155]) alarm.set(due);
    assertEquals(timers.map(({ ms }) => ms), [50]);
    alarm.set(120);
    assertEquals(timers.map(({ ms }) => ms), [50, 20]);
    now = 120;
    timers[1]!.callback();
    assertEquals(rings, [120]);
    alarm.set(150);
    assertEquals(timers.map(({ ms }) => ms), [50, 20, 30]);
    now = 150;
    timers[0]!.callback();
    alarm.set(140);
    assertEquals(timers.at(-1)!.ms, 0);
  });
});

describe("createIds", () => {
  it("never makes the same id twice, in one process or in two", () => {
    const [first, second] = [createIds(), createIds()];
    const ids = [...Array(100)].flatMap(() => [first(), second()]);
    assertEquals(new Set(ids).size, 200);
    for (const id of ids) assertMatch(id, /^[A-Za-z0-9_-]{16}-[0-9a-z]+$/);
  });

  it("makes ids short enough for a command", () => {
    const newId = createIds();
    for (let i = 0; i < 100_000; i++) newId();
    assert(newId().length <= 24);
  });
});

describe("Timers", () => {
  it("ring once, after their delay", async () => {
    const { after } = new Timers();
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

  it("can be cancelled before they ring", async () => {
    const timers = new Timers();
    let rings = 0;
    for (const ms of [1, 5, 100_000]) timers.after(ms, () => rings++);
    timers.cancelAll();
    await new Promise((resolve) => setTimeout(resolve, 20));
    assertEquals(rings, 0);
  });
});

describe("within", () => {
  it("returns a result that arrives in time", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    let isOver = false;
    const waiting = within(100_000, promise).then(() => isOver = true);
    await new Promise((resolve) => setTimeout(resolve, 5));
    assertEquals(isOver, false);
    resolve();
    await waiting;
  });

  it("fails after its time without a result", async () => {
    const start = performance.now();
    await within(20, new Promise(() => {}));
    const took = performance.now() - start;
    assert(took >= 19 && took < 5000, `${took}`);
  });

  it("fails with the error it waits for", async () => {
    await assertRejects(() => within(100_000, Promise.reject(new Error("no"))), Error, "no");
  });

  it("leaves no timer behind", async () => {
    await within(100_000, Promise.resolve());
    await within(100_000, Promise.reject(new Error("no"))).catch(() => {});
  });
});
