import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { RateLimiter, TokenBucket } from "../lib/rate_limit.ts";

const RATE = { perSecond: 10, burst: 3 };

describe("TokenBucket.take", () => {
  it("gives the burst at once, then the wait", () => {
    const bucket = new TokenBucket(RATE, 0);
    assertEquals([1, 2, 3].map(() => bucket.take(0)), [0, 0, 0]);
    assertEquals(bucket.take(0), 0.1);
    assertEquals(bucket.take(50), 0.05);
  });

  it("gives a token again after exactly that wait", () => {
    const bucket = new TokenBucket(RATE, 0);
    for (let i = 0; i < 3; i++) bucket.take(0);
    assert(bucket.take(99) > 0);
    assertEquals(bucket.take(100), 0);
    assert(bucket.take(100) > 0);
  });

  it("charges nothing for a refusal", () => {
    const bucket = new TokenBucket(RATE, 0);
    for (let i = 0; i < 100; i++) bucket.take(0);
    assertEquals(bucket.take(100), 0);
  });

  it("never holds more than the burst", () => {
    const bucket = new TokenBucket(RATE, 0);
    const given = [1, 2, 3, 4].map(() => bucket.take(1e9));
    assertEquals(given.map((seconds) => seconds === 0), [true, true, true, false]);
  });

  it("gives exactly the rate in the long run", () => {
    const bucket = new TokenBucket(RATE, 0);
    let given = 0;
    // Steps that are exact in binary, so that rounding does not count.
    for (let now = 0; now <= 10_000; now += 6.25) if (bucket.take(now) === 0) given++;
    assertEquals(given, RATE.burst + 100);
  });

  it("always gives without a limit", () => {
    const rates = [{ perSecond: Infinity, burst: 3 }, { perSecond: 10, burst: Infinity }];
    for (const rate of [...rates, { perSecond: Infinity, burst: Infinity }]) {
      const bucket = new TokenBucket(rate, 0);
      for (let i = 0; i < 1000; i++) assertEquals(bucket.take(0), 0);
    }
  });

  it("supports rates below one a second", () => {
    const bucket = new TokenBucket({ perSecond: 10 / 60, burst: 1 }, 0);
    assertEquals(bucket.take(0), 0);
    assertEquals(Math.ceil(bucket.take(0)), 6);
    assertEquals(bucket.take(6000), 0);
  });
});

describe("TokenBucket.isFull", () => {
  it("is false from a token taken until it is back", () => {
    const bucket = new TokenBucket(RATE, 0);
    assert(bucket.isFull(0));
    bucket.take(0);
    assert(!bucket.isFull(99));
    assert(bucket.isFull(100));
  });

  it("is always true without a limit", () => {
    for (const burst of [3, Infinity]) {
      const bucket = new TokenBucket({ perSecond: Infinity, burst }, 0);
      for (const now of [0, 0, 5]) {
        assert(bucket.isFull(now));
        bucket.take(now);
      }
    }
  });
});

/** A limiter whose clock the test moves. */
function createLimiter(rate = RATE) {
  const clock = { now: 0 };
  return { clock, limiter: new RateLimiter(rate, () => clock.now) };
}

describe("RateLimiter", () => {
  it("counts each key separately", () => {
    const { limiter } = createLimiter();
    for (let i = 0; i < 3; i++) assertEquals(limiter.take("a"), 0);
    assert(limiter.take("a") > 0);
    assertEquals(limiter.take("b"), 0);
  });

  it("forgets a key once its bucket is full, and not before", () => {
    const { limiter, clock } = createLimiter();
    limiter.take("a");
    limiter.take("b");
    limiter.take("b");
    clock.now = 100;
    limiter.sweep();
    assertEquals(limiter.size, 1);
    clock.now = 200;
    limiter.sweep();
    assertEquals(limiter.size, 0);
  });

  it("treats a forgotten key like a remembered one", () => {
    const { limiter, clock } = createLimiter();
    for (let i = 0; i < 3; i++) limiter.take("a");
    clock.now = 299;
    limiter.sweep();
    assertEquals([1, 2, 3].map(() => limiter.take("a") === 0), [true, true, false]);
  });

  it("keeps a bounded number of keys", () => {
    const { limiter } = createLimiter();
    for (let i = 0; i < 150_000; i++) limiter.take(`address ${i}`);
    assertEquals(limiter.size, 100_000);
  });

  it("keeps no key without a limit", () => {
    const { limiter } = createLimiter({ perSecond: Infinity, burst: Infinity });
    for (let i = 0; i < 100; i++) assertEquals(limiter.take(`${i}`), 0);
    assertEquals(limiter.size, 0);
  });
});
