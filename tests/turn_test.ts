import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { setImmediate } from "node:timers";
import { createDefer } from "../lib/time.ts";

describe("createDefer", () => {
  it("puts off to the end of the turn, and from there to behind those who waited", async () => {
    const defer = createDefer(setImmediate);
    const order: string[] = [];
    const stored = Promise.withResolvers<void>();
    const done = Promise.withResolvers<void>();
    stored.promise.then(() => order.push("who waited is told"));
    defer(() => {
      order.push("stored");
      defer(() => {
        order.push("delivered");
        defer(() => {
          order.push("next turn");
          done.resolve();
        });
        setImmediate(() => order.push("another of the next turn"));
      });
      stored.resolve();
    });
    queueMicrotask(() => order.push("this turn"));
    await done.promise;
    assertEquals(order, [
      "this turn",
      "stored",
      "who waited is told",
      "delivered",
      "next turn",
    ]);
    await new Promise((resolve) => setImmediate(resolve));
    assertEquals(order.at(-1), "another of the next turn");
  });

  it("does what was put off, whatever else fails", async () => {
    const failures: unknown[] = [];
    const defer = createDefer((callback) =>
      void setImmediate(() => {
        try {
          callback();
        } catch (error) {
          failures.push(error);
        }
      })
    );
    const { promise, resolve } = Promise.withResolvers<void>();
    defer(() => {
      defer(resolve);
      throw "a failure";
    });
    await promise;
    assertEquals(failures, ["a failure"]);
    const again = Promise.withResolvers<void>();
    defer(again.resolve);
    await again.promise;
  });
});
