/** The remote engine on PostgreSQL, and what keeps the two together when things go wrong. */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { setImmediate } from "node:timers";
import type { EngineOptions } from "../lib/engine/engine.ts";
import { PostgresBackend } from "../lib/engine/postgres/postgres.ts";
import { RemoteEngine } from "../lib/engine/remote/remote_engine.ts";
import type { Logger } from "../lib/logger.ts";
import type { Store } from "./support/engine_lab.ts";
import { testEngine } from "./support/engine_suite.ts";
import { PostgresServer, withPostgres } from "./support/postgres_server.ts";

const SILENT: Logger = { info: () => {}, warn: () => {}, error: () => {} };

/** A database of its own, which several engines may be open on. */
class Database implements Store {
  readonly isLasting = true;
  readonly isShared = true;
  readonly #url: string;

  constructor(url: string) {
    this.#url = url;
  }

  open({ clock, keep, ...options }: EngineOptions): Promise<RemoteEngine> {
    return RemoteEngine.connect({
      ...options,
      backend: new PostgresBackend({ url: this.#url, keep, clock }),
      atCommit: (callback) => void setImmediate(callback),
      logger: SILENT,
      failures: SILENT,
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }
}

withPostgres(() =>
  describe("PostgreSQL", () => {
    let server: PostgresServer;
    beforeAll(async () => {
      server = await PostgresServer.start();
    });
    afterAll(() => server[Symbol.asyncDispose]());

    testEngine("RemoteEngine on PostgreSQL", async () => new Database(await server.createDatabase()));
  })
);
