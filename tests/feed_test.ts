/** The feed of a room whose engine is far away: whatever the wire does, each event once and in order. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Feed, type Stretch } from "../lib/engine/feed.ts";
import { Random, seeds } from "./support/random.ts";

const EPOCH = "e";

/** A room on another machine, and a wire to it that the test holds. */
class Far {
  epoch = EPOCH;
  oldest = 1;
  lastSeq = 0;
  /** Whether reads fail. */
  isDown = false;
  reads = 0;
  readonly told: number[] = [];
  losses = 0;
  readonly timers: { ms: number; callback: () => void }[] = [];
  readonly feed: Feed<number>;
  readonly #pageSize: number;
  #waiting: (() => void)[] = [];

  constructor({ from = 0, pageSize = 3 } = {}) {
    this.#pageSize = pageSize;
    this.lastSeq = from;
    this.feed = new Feed({
      position: { epoch: EPOCH, seq: from },
      read: (after) => this.#read(after),
      onEvent: (event) => this.told.push(event),
      onLost: () => this.losses++,
      after: (ms, callback) => this.timers.push({ ms, callback }),
    });
  }

  /** Writes events, and gives the news of them. */
  write(count = 1): Stretch<number> {
    const first = this.lastSeq + 1;
    this.lastSeq += count;
    return this.#stretch(first, this.lastSeq);
  }

  /** Answers every read that waits, and those that follow. */
  async answer(): Promise<void> {
    while (this.#waiting.length > 0) {
      for (const answer of this.#waiting.splice(0)) answer();
      for (let i = 0; i < 5; i++) await Promise.resolve();
    }
  }

  /** Lets every timer ring that is set now. */
  ring(): void {
    for (const { callback } of this.timers.splice(0)) callback();
  }

  #read(after: number): Promise<Stretch<number>> {
    this.reads++;
    return new Promise((resolve, reject) =>
      this.#waiting.push(() => {
        if (this.isDown) return reject(new Error("down"));
        const first = Math.max(after + 1, this.oldest);
        resolve(this.#stretch(first, Math.min(this.lastSeq, first + this.#pageSize - 1)));
      })
    );
  }

  #stretch(first: number, last: number): Stretch<number> {
    const events = Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => first + i);
    return { epoch: this.epoch, seq: this.lastSeq, first, events };
  }
}

const upTo = (last: number) => Array.from({ length: last }, (_, i) => i + 1);

describe("Feed", () => {
  it("tells what it hears at once, and repeats once", async () => {
    const far = new Far();
    const [one, two] = [far.write(2), far.write(1)];
    for (const news of [one, one, two, one, two]) far.feed.hear(news);
    assertEquals([far.told, far.reads], [[1, 2, 3], 0]);
    await far.answer();
  });

  it("reads what a hole hides, page by page, and tells later news after it", async () => {
    const far = new Far();
    far.write(8);
    const news = far.write(1);
    far.feed.hear(news);
    assertEquals(far.told, []);
    far.feed.hear(far.write(1));
    await far.answer();
    assertEquals(far.told, upTo(10));
    far.feed.hear(news);
    assertEquals([far.told, far.losses], [upTo(10), 0]);
  });

  it("goes on from the position at which the room was opened", () => {
    const far = new Far({ from: 40 });
    far.feed.hear(far.write(2));
    assertEquals([far.told, far.feed.seq], [[41, 42], 42]);
  });

  it("reads once more if something happens while it reads", async () => {
    const far = new Far();
    far.write(1);
    far.feed.catchUp();
    far.write(1);
    far.feed.catchUp();
    await far.answer();
    assertEquals(far.told, [1, 2]);
    assert(far.reads <= 3);
  });

  it("reads what a receipt is ahead of, unless it is heard in time", async () => {
    const far = new Far();
    const { epoch, seq, ...news } = far.write(1);
    far.feed.expect({ epoch, seq });
    far.feed.hear({ epoch, seq, ...news });
    far.ring();
    assertEquals(far.reads, 0);
    const { seq: ahead } = far.write(2);
    far.feed.expect({ epoch, seq: ahead });
    far.ring();
    await far.answer();
    assertEquals(far.told, [1, 2, 3]);
  });

  it("learns of a last event that nothing follows, from a comparison of positions", async () => {
    const far = new Far();
    far.write(1);
    far.feed.compare({ epoch: EPOCH, seq: 1 }, 0);
    await far.answer();
    assertEquals(far.told, [1]);
    far.feed.compare({ epoch: EPOCH, seq: 1 }, 1);
    assertEquals(far.reads, 1);
  });

  it("takes an answer that is older than what was heard meanwhile for no loss", async () => {
    const far = new Far();
    far.feed.hear(far.write(1));
    const asked = far.feed.seq;
    far.feed.catchUp();
    const old = { epoch: EPOCH, seq: far.lastSeq };
    far.feed.hear(far.write(3));
    far.feed.compare(old, asked);
    far.lastSeq = 1;
    await far.answer();
    assertEquals([far.told, far.losses], [[1, 2, 3, 4], 0]);
  });

  it("tries again after a read that failed", async () => {
    const far = new Far();
    far.write(2);
    far.isDown = true;
    far.feed.catchUp();
    await far.answer();
    assertEquals([far.told, far.timers.map(({ ms }) => ms)], [[], [200]]);
    far.isDown = false;
    far.ring();
    await far.answer();
    assertEquals(far.told, [1, 2]);
  });

  it("is lost under another epoch, with a lost tail, and where the engine has dropped the next", async () => {
    const losses: ((far: Far) => void)[] = [
      (far) => {
        far.epoch = "another";
        far.feed.hear(far.write(1));
      },
      (far) => {
        far.epoch = "another";
        far.feed.catchUp();
      },
      (far) => far.feed.compare({ epoch: "another", seq: 2 }, 2),
      (far) => far.feed.compare({ epoch: EPOCH, seq: 1 }, 2),
      (far) => {
        far.lastSeq = 1;
        far.feed.catchUp();
      },
      (far) => {
        far.write(5);
        far.oldest = 5;
        far.feed.catchUp();
      },
    ];
    for (const lose of losses) {
      const far = new Far();
      far.feed.hear(far.write(2));
      lose(far);
      await far.answer();
      assertEquals([far.told, far.losses], [[1, 2], 1], String(lose));
      // It has ended: nothing is told any more.
      far.epoch = EPOCH;
      far.feed.hear(far.write(1));
      far.feed.catchUp();
      await far.answer();
      assertEquals([far.told, far.losses], [[1, 2], 1]);
    }
  });

  it("tells nothing after it was closed, in the middle of a read neither", async () => {
    const far = new Far();
    far.write(2);
    far.feed.catchUp();
    far.feed.close();
    await far.answer();
    far.feed.hear(far.write(1));
    far.ring();
    assertEquals([far.told, far.losses], [[], 0]);
  });

  for (const seed of seeds(5)) {
    it(`tells each event once and in order, whatever is lost, late or repeated (SEED=${seed})`, async () => {
      const random = new Random(seed);
      for (let run = 0; run < 100; run++) {
        const far = new Far({ pageSize: random.between(1, 5) });
        const wire: Stretch<number>[] = [];
        for (let step = 0; step < 60; step++) {
          switch (
            random.weighted({ write: 40, hear: 30, lose: 8, read: 10, down: 5, answer: 10 })
          ) {
            case "write":
              wire.push(far.write(random.between(1, 3)));
              break;
            case "hear": {
              const news = wire.splice(random.percent(80) ? 0 : random.below(wire.length || 1), 1);
              if (news[0]) far.feed.hear(news[0]);
              if (news[0] && random.percent(20)) far.feed.hear(news[0]);
              break;
            }
            case "lose":
              wire.splice(0, random.below(3));
              break;
            case "read":
              far.feed.expect({ epoch: EPOCH, seq: far.lastSeq });
              break;
            case "down":
              far.isDown = !far.isDown;
              break;
            case "answer":
              far.ring();
              await far.answer();
              break;
          }
          assertEquals(far.told, upTo(far.told.length));
        }
        far.isDown = false;
        far.feed.compare({ epoch: EPOCH, seq: far.lastSeq }, far.feed.seq);
        await far.answer();
        far.ring();
        await far.answer();
        assertEquals([far.told, far.losses], [upTo(far.lastSeq), 0]);
      }
    });
  }
});
