/** Performing commands, and waiting for their answers. */

import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type { ActionContext, Actor } from "../lib/room/actions.ts";
import { Performer } from "../lib/room/performer.ts";

/** A performer whose engine and timers the test controls. */
function createPerformer() {
  const answers: PromiseWithResolvers<void>[] = [];
  const timers: { ms: number; ring: () => void }[] = [];
  const permissions = {
    change: () => {
      answers.push(Promise.withResolvers<void>());
      return answers.at(-1)!.promise;
    },
  };
  const performer = new Performer({ permissions } as unknown as ActionContext);
  const actor = { room: { name: "r" }, wantsAck: true } as unknown as Actor;
  const told: unknown[] = [];
  const perform = (type: "room" | "ping") =>
    performer.perform(actor, { type }, (event) => told.push(event?.type), (e) => told.push(e));
  let isDone = false;
  const wait = () => {
    const after = (ms: number, ring: () => void) => void timers.push({ ms, ring });
    performer.allAnswered(1000, after).then(() => isDone = true);
  };
  return { answers, timers, told, perform, wait, isDone: () => isDone };
}

/** Resolves when all ready callbacks have run. */
const settled = () => new Promise<void>((resolve) => setTimeout(resolve));

describe("Performer.allAnswered", () => {
  it("waits for the last answer, also a refusal", async () => {
    const { answers, told, perform, wait, isDone } = createPerformer();
    perform("room");
    perform("room");
    wait();
    answers[0]!.resolve();
    await settled();
    assertEquals([told, isDone()], [["ack"], false]);
    const refusal = new Error("No.");
    answers[1]!.reject(refusal);
    await settled();
    assertEquals([told, isDone()], [["ack", refusal], true]);
  });

  it("waits no longer than its limit", async () => {
    const { answers, timers, perform, wait, isDone } = createPerformer();
    perform("room");
    wait();
    await settled();
    assertEquals([timers.map(({ ms }) => ms), isDone()], [[1000], false]);
    timers[0]!.ring();
    await settled();
    assertEquals(isDone(), true);
    answers[0]!.resolve();
  });

  it("resolves at once without commands in flight", async () => {
    const { told, timers, perform, wait, isDone } = createPerformer();
    perform("ping");
    wait();
    await settled();
    assertEquals([told, timers, isDone()], [["pong"], [], true]);
  });
});
