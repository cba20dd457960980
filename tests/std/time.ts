/** The part of `@std/testing/time` that our tests use, over `node:test`. See `probe.ts`. */

import { mock } from "node:test";

export class FakeTime {
  constructor(start = 0) {
    mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: Number(start) });
  }

  tick(ms = 0): void {
    mock.timers.tick(ms);
  }

  restore(): void {
    mock.timers.reset();
  }

  [Symbol.dispose](): void {
    this.restore();
  }
}
