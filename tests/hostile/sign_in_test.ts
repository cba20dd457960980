/** Floods of sign-ins: nobody blocks another's sign-in, and guesses at one account are limited. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ChatError } from "../../lib/errors.ts";
import { type Attempt, Turns } from "../../lib/people/turns.ts";
import { login, quantile, register } from "../support/people.ts";
import { Random, seeds } from "../support/random.ts";
import { startServer, type TestServer } from "../support/server.ts";

const from = (address: string) => ({ headers: { "x-forwarded-for": address } });

/** Signs in wrongly from many addresses until stopped. Returns the count of checked guesses. */
async function flood(
  server: TestServer,
  addresses: readonly string[],
  names: () => string,
  signal: AbortSignal,
): Promise<number> {
  let heard = 0;
  const guess = async (address: string) => {
    const { status, body } = await fetch(`${server.url}/api/login`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-forwarded-for": address },
      body: JSON.stringify({ username: names(), password: "a wrong password" }),
      signal,
    });
    await body?.cancel();
    if (status === 401) heard++;
    return status;
  };
  await Promise.allSettled(addresses.map(async (address) => {
    while (await guess(address) !== 429);
  }));
  return heard;
}

describe("A flood of sign-ins from 45 addresses", () => {
  for (const seed of seeds(1)) {
    for (const target of ["the owner's own account", "all kinds of names"]) {
      it(`at ${target} delays the owner by seconds at most [SEED=${seed}]`, async () => {
        const random = new Random(seed);
        await using server = await startServer({ TRUST_PROXY: "1", AUTH_RATE_PER_ADDRESS: "10" });
        await register(server, "owner", undefined, from("203.0.113.1"));
        const addresses = Array.from(
          { length: 45 },
          (_, i) => i % 3 === 0 ? `2001:db8:${i}::1` : `198.51.${random.below(256)}.${i}`,
        );
        const names = target.startsWith("the")
          ? () => "owner"
          : () => random.pick(["owner", "OWNER", `n${random.below(1e6)}`, "a,b", ""]);
        const stop = new AbortController();
        const attack = flood(server, addresses, names, stop.signal);
        const times: number[] = [];
        // From a known address of the owner, and from a new one.
        for (let i = 0; i < 6; i++) {
          const start = performance.now();
          const where = i % 2 === 0 ? "203.0.113.1" : `203.0.113.${100 + i}`;
          const { status } = await login(server, "owner", undefined, from(where));
          assertEquals(status, 200, `attempt ${i}`);
          times.push(performance.now() - start);
        }
        stop.abort();
        const heard = await attack;
        assert(quantile(times, 1) < 5000, JSON.stringify(times));
        // Ten at once and one a second.
        const seconds = times.reduce((sum, ms) => sum + ms, 0) / 1000;
        if (target.startsWith("the")) assert(heard <= 12 + seconds, `${heard} in ${seconds} s`);
      });
    }
  }
});

/** A queue whose clock and work the test controls. */
function createTurns(threads = 1) {
  let time = 0;
  const turns = new Turns({ threads, clock: () => time });
  const began: string[] = [];
  const refused: string[] = [];
  const running: (() => void)[] = [];
  const settle = () => new Promise<void>((resolve) => setTimeout(resolve));
  return {
    began,
    refused,
    turns,
    pass: (ms: number) => void (time += ms),
    settle,
    add(name: string, attempt: Attempt) {
      const work = () => {
        began.push(name);
        return new Promise<void>((resolve) => running.push(resolve));
      };
      turns.run(attempt, work).catch((error) => {
        assert(error instanceof ChatError && error.code === "unavailable");
        refused.push(name);
      });
    },
    /** Ends running work until nothing starts any more. */
    async finish(count = Infinity) {
      for (let i = 0; i < count; i++) {
        await settle();
        const end = running.shift();
        if (end === undefined) return;
        end();
      }
      await settle();
    },
  };
}

describe("The queue for hashing", () => {
  it("cannot be filled by one address: another address is next", async () => {
    const { add, began, refused, finish } = createTurns();
    for (let i = 0; i < 500; i++) add(`flood ${i}`, { address: "192.0.2.1" });
    add("other", { address: "192.0.2.2" });
    await finish(2);
    assertEquals(began.slice(0, 2), ["flood 0", "other"]);
    await finish();
    // One that ran, and the waiting ones.
    assertEquals(began.length, 1 + 64);
    assertEquals(refused.length, 500 + 1 - 65);
  });

  it("alternates between known and unknown people, however many wait", async () => {
    const { add, began, finish } = createTurns();
    for (let i = 0; i < 20; i++) {
      add(`known ${i}`, { address: `k${i}`, account: `a${i}`, isKnown: true });
    }
    for (let i = 0; i < 20; i++) add(`new ${i}`, { address: `n${i}`, account: `b${i}` });
    await finish(7);
    const kinds = began.slice(1, 7).map((name) => name.split(" ")[0]);
    assertEquals(kinds, ["new", "known", "new", "known", "new", "known"]);
    await finish();
  });

  it("lets strangers guess at one account once a second, and its owner sign in at once", async () => {
    const { add, began, finish, pass, turns, settle } = createTurns(4);
    for (let i = 0; i < 30; i++) add(`guess ${i}`, { address: `g${i}`, account: "owner" });
    await finish();
    assertEquals(began.length, 10);
    add("owner", { address: "home", account: "owner", isKnown: true });
    add("other", { address: "g1", account: "another" });
    await finish();
    assertEquals(began.slice(10), ["owner", "other"]);
    for (let i = 0; i < 3; i++) {
      pass(1000);
      turns.sweep();
      await finish();
    }
    assertEquals(began.length, 15);
    // From a new address the owner is ahead of all waiting strangers.
    add("owner on the way", { address: "train", account: "owner" });
    pass(1000);
    turns.sweep();
    await settle();
    assertEquals(began.at(-1), "owner on the way");
    await finish();
  });

  it("refuses an attempt after ten seconds of waiting", async () => {
    const { add, refused, pass, turns, finish, settle } = createTurns();
    add("long", { address: "a" });
    add("late", { address: "b" });
    pass(10_001);
    turns.sweep();
    await settle();
    assertEquals(refused, ["late"]);
    await finish();
  });

  it("frees the thread when the work fails", async () => {
    const turns = new Turns({ threads: 1, clock: () => 0 });
    await assertRejects(() => turns.run({}, () => Promise.reject(new Error("broken"))), Error);
    assertEquals(await turns.run({}, () => Promise.resolve(1)), 1);
  });
});
