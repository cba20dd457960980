/**
 * Several instances on one engine, under every kind of failure in the middle of traffic.
 *
 * `CHAOS_ROUNDS=20` runs more rounds of each test than the daily one.
 */

import { assert } from "@std/assert";
import { beforeAll, describe, it } from "@std/testing/bdd";
import { Chaos, ChaosClient, type ChaosEngine, type Figures } from "./support/chaos.ts";
import { POSTGRES_BIN, PostgresServer, withPostgres } from "./support/postgres_server.ts";
import { seeds } from "./support/random.ts";
import { hasRedis, NO_REDIS, RedisServer } from "./support/redis_server.ts";

const ROUNDS = Number(Deno.env.get("CHAOS_ROUNDS") || 1);

/** Maximum tests at a time. */
const LANES = 2;

/** A little longer than a lease, in milliseconds. */
const LEASE_MS = 11_500;

async function createPostgres(): Promise<ChaosEngine> {
  const server = await PostgresServer.start();
  const { pathname } = new URL(await server.createDatabase());
  const name = "PostgreSQL";
  let standby: PostgresServer | undefined;
  return {
    name,
    port: server.port,
    losesTail: false,
    urlAt: (port) => `postgres://postgres:secret@127.0.0.1:${port}${pathname}`,
    kill: () => server.kill(),
    start: () => server.start(),
    freeze: () => server.freeze(),
    thaw: () => server.thaw(),
    async failOver(beforeCut) {
      standby = await server.startStandby();
      await server.query("ALTER SYSTEM SET synchronous_standby_names = '*'");
      await server.query("SELECT pg_reload_conf()");
      await beforeCut();
      await server.kill();
      await standby.promote();
      return standby.port;
    },
    async [Symbol.asyncDispose]() {
      await standby?.[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

async function createRedis(): Promise<ChaosEngine> {
  // With `everysec`, a kill may take what was acknowledged while the disk was slow.
  const server = await RedisServer.start(["--appendfsync", "always"]);
  let replica: RedisServer | undefined;
  return {
    name: "Redis",
    port: server.port,
    losesTail: true,
    urlAt: (port) => `redis://127.0.0.1:${port}`,
    kill: () => server.kill(),
    start: () => server.start(),
    freeze: () => server.freeze(),
    thaw: () => server.thaw(),
    async failOver(beforeCut) {
      replica = await server.startReplica();
      await beforeCut();
      await replica.cutReplication();
      await new Promise((resolve) => setTimeout(resolve, 500));
      await server.kill();
      await replica.promote();
      return replica.port;
    },
    async [Symbol.asyncDispose]() {
      await replica?.[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

const engines: { readonly name: string; readonly create: () => Promise<ChaosEngine> }[] = [];
if (POSTGRES_BIN !== undefined) engines.push({ name: "PostgreSQL", create: createPostgres });
if (hasRedis) engines.push({ name: "Redis", create: createRedis });

describe("A chat of several instances", () => {
  withPostgres(() => {});
  if (!hasRedis) {
    (Deno.env.get("REQUIRE_ALL") === "1" ? it : it.skip)(NO_REDIS, () => {
      throw new Error(NO_REDIS);
    });
  }

  const scenarios: (() => Promise<void>)[] = [];
  let results: Promise<PromiseSettledResult<void>>[] = [];

  // They mostly wait.
  beforeAll(() => {
    results = inLanes(LANES, scenarios);
  });

  /** A test on every engine at once. */
  function itRuns(
    title: string,
    run: (create: () => Promise<ChaosEngine>, seed: number) => Promise<readonly Figures[]>,
  ): void {
    const [seed] = seeds(1);
    const runOn = async ({ name, create }: typeof engines[number]) =>
      report(`${name}: ${title}`, await run(create, seed!));
    const place = scenarios.push(async () => void await Promise.all(engines.map(runOn))) - 1;
    it(`${title} (SEED=${seed})`, async () => {
      const result = await results[place]!;
      if (result.status === "rejected") throw result.reason;
    });
  }

  /** The same, for rounds on the same three instances. */
  function itHolds(title: string, round: (chaos: Chaos) => Promise<void>): void {
    itRuns(title, async (create, seed) => {
      await using chaos = await Chaos.start(await create(), 3, seed);
      for (let i = 0; i < ROUNDS; i++) await round(chaos);
      return chaos.figures;
    });
  }

  itHolds("with cut subscriptions misses nothing", (chaos) =>
    chaos.round(async () => {
      for (let i = 0; i < 5; i++) {
        for (const { wire } of chaos.instances) wire.kick();
        await chaos.sleep(100, 600);
      }
    }));

  itHolds(
    "with a killed and restarted engine loses nothing",
    (chaos) =>
      chaos.round(async () => {
        await chaos.engine.kill();
        await chaos.untilHealth(503);
        await chaos.sleep(0, 1000);
        await chaos.engine.start();
        await chaos.untilHealth(200);
      }),
  );

  itHolds(
    "with a frozen engine stores no refused message",
    (chaos) =>
      chaos.round(async () => {
        await chaos.engine.freeze();
        await Promise.all([chaos.sleep(5000), chaos.untilHealth(503)]);
        await chaos.engine.thaw();
        await chaos.untilHealth(200);
      }),
  );

  itHolds(
    "with a killed instance continues, without its members",
    (chaos) =>
      chaos.round(async () => {
        const instance = chaos.pick();
        const there = chaos.clients.filter((client) => client.instance === instance);
        const others = chaos.clients.filter((client) => client.instance !== instance);
        await instance.kill();
        await chaos.until("without those", 2 * LEASE_MS, () =>
          others.every(({ users }) =>
            there.every(({ name }) => !users.has(name))
          ));
        await instance.start();
      }),
  );

  itHolds(
    "with an instance frozen past its lease gives no name to two people",
    (chaos) =>
      chaos.round(async () => {
        const instance = chaos.pick();
        const other = chaos.instances.find((one) => one !== instance)!;
        const [displaced] = chaos.clients.filter((client) => client.instance === instance);
        const { room, name } = displaced!;
        instance.signal("SIGSTOP");
        await chaos.sleep(LEASE_MS);
        const stranger = new ChaosClient(other, room, name);
        await chaos.until("taken", LEASE_MS, () => stranger.isHere);
        chaos.clients.push(stranger);
        instance.signal("SIGCONT");
        await chaos.until("displaced", 10_000, () => displaced!.closes.includes(4009));
      }),
  );

  itHolds(
    "with an instance cut off from the engine is up to date once it returns",
    (chaos) =>
      chaos.round(async () => {
        const instance = chaos.pick();
        instance.wire.cut();
        await chaos.untilHealth(503, 10_000, [instance]);
        await chaos.sleep(LEASE_MS);
        instance.wire.mend();
        await chaos.untilHealth(200);
      }),
  );

  itHolds(
    "with an instance stopped during a freeze of the engine drains in time",
    (chaos) =>
      chaos.round(async () => {
        const instance = chaos.pick();
        const there = chaos.clients.filter((client) => client.instance === instance);
        await chaos.engine.freeze();
        await chaos.sleep(0, 1500);
        assert(await instance.stop() < 5000);
        // The close frame may be lost on a connection that was sending.
        const codes = there.map(({ closes }) => closes[0]!);
        assert(codes.includes(1012) && codes.every((code) => code === 1012 || code === 0));
        await chaos.engine.thaw();
        await instance.start();
        await chaos.untilHealth(200);
      }),
  );

  // A server fails over once, so each round needs a new one.
  itRuns("with a failover of the engine tells its members about losses", async (create, seed) => {
    const figures: Figures[] = [];
    for (let i = 0; i < ROUNDS; i++) {
      await using chaos = await Chaos.start(await create(), 2 + i % 2, seed + i);
      await chaos.round(async () => {
        const port = await chaos.engine.failOver(() => chaos.sleep(500, 1000));
        for (const { wire } of chaos.instances) wire.lead({ port });
        await chaos.untilHealth(200, 20_000);
      }, chaos.engine.losesTail);
      figures.push(...chaos.figures);
    }
    return figures;
  });
});

/** Runs functions in order, `count` at a time. */
function inLanes(
  lanes: number,
  runs: readonly (() => Promise<void>)[],
): Promise<PromiseSettledResult<void>>[] {
  const results: Promise<PromiseSettledResult<void>>[] = [];
  for (const [i, run] of runs.entries()) {
    const before = Promise.all(results.slice(0, Math.max(0, i + 1 - lanes)));
    results.push(before.then(() => settle(run)));
  }
  return results;
}

async function settle(run: () => Promise<void>): Promise<PromiseSettledResult<void>> {
  const [result] = await Promise.allSettled([run()]);
  return result!;
}

/** Writes the results if `CHAOS_ROUNDS` asks for more than the daily round. */
function report(title: string, figures: readonly Figures[]): void {
  assert(figures.length > 0);
  if (ROUNDS <= 2) return;
  const totals = (["acked", "refused", "unknown", "lost"] as const).map((name) =>
    `${name} ${figures.reduce((sum, one) => sum + one[name], 0)}`
  );
  // deno-lint-ignore no-console
  console.log(`${title}: ${figures.length / 2} rounds, ${totals.join(", ")}`);
}
