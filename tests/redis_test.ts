/** The engine on a real Redis, which the tests start themselves. */

import { setImmediate } from "node:timers";
import { it } from "@std/testing/bdd";
import { RemoteEngine } from "../lib/engine/remote/remote_engine.ts";
import { RedisBackend } from "../lib/engine/redis/redis.ts";
import type { Store } from "./support/engine_lab.ts";
import { testEngine } from "./support/engine_suite.ts";
import { hasRedis, NO_REDIS, RedisServer } from "./support/redis_server.ts";

const SILENT = { error() {}, warn() {}, info() {} };

/** A server of its own for each store. */
async function createStore(): Promise<Store> {
  const server = await RedisServer.start();
  return {
    isLasting: true,
    isShared: true,
    open: ({ clock, newId, keep, leaseMs }) =>
      RemoteEngine.connect({
        backend: new RedisBackend({ url: server.url, keep, clock }),
        newId,
        leaseMs,
        atCommit: (callback) => void setImmediate(callback),
        logger: SILENT,
        failures: SILENT,
      }),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

if (hasRedis) testEngine("RemoteEngine on Redis", createStore);
else {
  // deno-lint-ignore no-console
  console.log(NO_REDIS);
  if (Deno.env.get("REQUIRE_ALL") === "1") {
    it("Redis tests have a redis-server", () => {
      throw new Error(NO_REDIS);
    });
  }
}
