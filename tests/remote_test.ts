/** Tests of the remote engine, on a server in this process whose wire fails at will. */

import { setImmediate } from "node:timers";
import type { Engine, EngineOptions } from "../lib/engine/engine.ts";
import { RemoteEngine } from "../lib/engine/remote/remote_engine.ts";
import { Turn } from "../lib/time.ts";
import type { Store } from "./support/engine_lab.ts";
import { testEngine } from "./support/engine_suite.ts";
import { FarServer, Wire } from "./support/far_server.ts";

const turn = new Turn(setImmediate);
const silent = { info() {}, warn() {}, error() {} };

/** A far server, and instances that each have a wire to it. */
class FarStore implements Store {
  readonly isLasting = true;
  readonly isShared = true;
  readonly wires: Wire[] = [];
  readonly #delays: Partial<Pick<Wire, "there" | "back" | "news">>;
  #server: FarServer | undefined;

  constructor(delays: Partial<Pick<Wire, "there" | "back" | "news">> = {}) {
    this.#delays = delays;
  }

  open(options: EngineOptions): Promise<Engine> {
    this.#server ??= new FarServer(options);
    const wire = Object.assign(new Wire(this.#server), this.#delays);
    this.wires.push(wire);
    return RemoteEngine.connect({
      backend: wire,
      newId: options.newId,
      leaseMs: options.leaseMs,
      atCommit: (callback) => turn.commit(callback),
      logger: silent,
      failures: silent,
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }
}

testEngine("RemoteEngine", () => new FarStore());
testEngine("RemoteEngine far away", () => new FarStore({ there: 1, back: 2, news: 4 }));
