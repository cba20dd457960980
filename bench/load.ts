/**
 * The load, a separate process: connects, checks, warms up, measures, waits for messages in flight,
 * and prints a {@linkcode LoadResult} as JSON.
 *
 *     deno run -A bench/load.ts '{"port":8080,"pid":1234,…}'
 *
 * @module
 */

import { Histogram } from "./histogram.ts";
import type { Order, Sight } from "./load_worker.ts";
import { type LoadPlan, type LoadResult, readersOfRoom } from "./plan.ts";
import { cpuSecondsBetween, type CpuTimes, cpuTimes, memoryKb } from "./proc.ts";

/** Maximum time to join, and for a first message to reach everyone, in milliseconds. */
const JOIN_MS = 60_000;
const PROBE_MS = 10_000;
/** The load stops waiting for messages in flight after this time without one, in milliseconds. */
const DRAIN_MS = 1000;
/** The time between two looks at the threads and the server's memory, in milliseconds. */
const LOOK_MS = 50;
/** How long the members are idle before the server's memory is measured, in milliseconds. */
const SETTLE_MS = 3000;

/** A run failed. The message says why. */
class LoadError extends Error {}

/** One thread of the load. */
class Thread {
  readonly #worker = new Worker(new URL("./load_worker.ts", import.meta.url), { type: "module" });
  #answers: ((sight: Sight) => void)[] = [];

  constructor() {
    this.#worker.onmessage = ({ data }) => this.#answers.shift()!(data);
  }

  ask(order: Order): Promise<Sight> {
    this.#worker.postMessage(order);
    return new Promise((resolve) => this.#answers.push(resolve));
  }
}

/** The counts of all threads and the server's use of CPU and memory, at one moment. */
interface Moment {
  readonly sights: readonly Sight[];
  readonly cpu: CpuTimes;
  readonly rssKb: number;
  readonly time: number;
}

/** One run. */
class Load {
  readonly #plan: LoadPlan;
  readonly #threads: Thread[];
  #rssMaxKb = 0;

  constructor(plan: LoadPlan) {
    this.#plan = plan;
    this.#threads = Array.from({ length: plan.workers }, () => new Thread());
  }

  async run(): Promise<LoadResult> {
    const { mode, warmSeconds, seconds, messages } = this.#plan;
    const before = this.#moment([]);
    let ready = await this.#join();
    if (mode === "idle") ready = await this.#untilAllKnow(ready);
    else await this.#probe();

    await this.#ask({ type: "start" });
    await sleep(mode === "idle" ? SETTLE_MS : warmSeconds * 1000);
    const begin = await this.#ask({ type: "begin" });
    if (messages === undefined) await this.#watch(seconds * 1000);
    else await this.#watchUntilSent(messages, begin);
    const end = await this.#look();
    const last = mode === "idle" ? end : await this.#drain();
    const rssMaxKb = Math.max(this.#rssMaxKb, end.rssKb);
    return summarise(this.#plan, { before, ready, begin, end, last, rssMaxKb });
  }

  async #join(): Promise<Moment> {
    const { promise, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => reject(new LoadError("Joining took too long.")), JOIN_MS);
    const epoch = Date.now();
    const orders = this.#threads.map((thread, index) =>
      thread.ask({ type: "connect", plan: this.#plan, index, epoch })
    );
    await Promise.race([Promise.all(orders), promise]);
    clearTimeout(timer);
    const joined = await this.#look();
    this.#throwIfFailed(joined);
    return joined;
  }

  /** Waits until every member knows that all are present, or nothing new arrives. */
  async #untilAllKnow(joined: Moment): Promise<Moment> {
    let moment = joined;
    for (let quietMs = 0; quietMs < DRAIN_MS; quietMs += LOOK_MS) {
      if (sum(moment, "known") === this.#plan.clients) break;
      await sleep(LOOK_MS);
      const next = await this.#look();
      if (sum(next, "bytes") === sum(moment, "bytes")) continue;
      moment = next;
      quietMs = 0;
    }
    return moment;
  }

  /** Sends one message in each room, which must reach everyone. */
  async #probe(): Promise<void> {
    await this.#ask({ type: "probe" });
    const wanted = this.#plan.rooms * readersOfRoom(this.#plan);
    for (let waited = 0;; waited += LOOK_MS) {
      const moment = await this.#look();
      this.#throwIfFailed(moment);
      const got = sum(moment, "deliveries");
      if (got === wanted) return;
      if (got > wanted || waited >= PROBE_MS) {
        throw new LoadError(`A message to everyone arrived ${got} times, not ${wanted} times.`);
      }
      await sleep(LOOK_MS);
    }
  }

  /** Waits, and reads the server's memory from time to time. */
  async #watch(ms: number): Promise<void> {
    const end = performance.now() + ms;
    for (let left = ms; left > 0; left = end - performance.now()) {
      await sleep(Math.min(left, 2 * LOOK_MS));
      this.#rssMaxKb = Math.max(this.#rssMaxKb, memoryKb(this.#plan.pid));
    }
  }

  async #watchUntilSent(messages: number, begin: Moment): Promise<void> {
    for (let now = begin; sum(now, "sent") - sum(begin, "sent") < messages;) {
      await this.#watch(LOOK_MS);
      now = await this.#look();
      this.#throwIfFailed(now);
    }
  }

  /** Stops sending, and waits for messages in flight. */
  async #drain(): Promise<Moment> {
    let moment = await this.#ask({ type: "stop" });
    for (let quietMs = 0; quietMs < DRAIN_MS; quietMs += LOOK_MS) {
      if (missing(this.#plan, moment) <= 0) break;
      await sleep(LOOK_MS);
      const next = await this.#look();
      if (sum(next, "deliveries") > sum(moment, "deliveries")) quietMs = 0;
      moment = next;
    }
    return moment;
  }

  #look(): Promise<Moment> {
    return this.#ask({ type: "look" });
  }

  async #ask(order: Order): Promise<Moment> {
    return this.#moment(await Promise.all(this.#threads.map((thread) => thread.ask(order))));
  }

  #moment(sights: readonly Sight[]): Moment {
    const { pid, siblings = [] } = this.#plan;
    const pids = [pid, ...siblings.map((sibling) => sibling.pid)];
    // The numbers of threads are unique on a machine.
    const cpu = new Map(pids.flatMap((pid) => [...cpuTimes(pid)]));
    return { sights, cpu, rssKb: memoryKb(pid), time: performance.now() };
  }

  #throwIfFailed({ sights }: Moment): void {
    const failure = sights.find((sight) => sight.failure !== undefined)?.failure;
    if (failure !== undefined) throw new LoadError(`A client failed: ${failure}.`);
  }
}

/** The moments of a run. */
interface Course {
  /** Before the first client connects. */
  readonly before: Moment;
  /** All clients have joined. */
  readonly ready: Moment;
  /** The begin and the end of the measurement. */
  readonly begin: Moment;
  readonly end: Moment;
  /** No message is in flight any more. */
  readonly last: Moment;
  readonly rssMaxKb: number;
}

type Count = "sent" | "deliveries" | "frames" | "bytes" | "closed" | "known" | "starved";

/** The sum of a count over all threads. */
function sum({ sights }: Moment, count: Count): number {
  return sights.reduce((sum, sight) => sum + sight[count], 0);
}

/** Deliveries that are due and have not arrived. */
function missing(plan: LoadPlan, moment: Moment): number {
  return sum(moment, "sent") * readersOfRoom(plan) - sum(moment, "deliveries");
}

function summarise(plan: LoadPlan, course: Course): LoadResult {
  const { before, ready, begin, end, last, rssMaxKb } = course;
  const grown = (count: Count) => sum(end, count) - sum(begin, count);
  const latency = new Histogram();
  const late = new Histogram();
  const shares: number[] = [];
  for (const [i, sight] of end.sights.entries()) {
    latency.merge(sight.latency);
    late.merge(sight.late);
    const first = begin.sights[i]!;
    shares.push((sight.cpu - first.cpu) / (sight.time - first.time));
  }
  const seconds = (end.time - begin.time) / 1000;
  const serverCpuSeconds = cpuSecondsBetween(begin.cpu, end.cpu);
  const deliveries = grown("deliveries");
  const closed = sum(last, "closed");
  return {
    seconds,
    sent: grown("sent"),
    deliveries,
    deliveriesPerSecond: deliveries / seconds,
    serverCpuSeconds,
    deliveriesPerCpuSecond: serverCpuSeconds > 0 ? deliveries / serverCpuSeconds : 0,
    messagesPerFrame: deliveries / (grown("frames") || 1),
    bytesPerDelivery: grown("bytes") / (deliveries || 1),
    p50Ms: latency.quantile(0.5) / 1000,
    p99Ms: latency.quantile(0.99) / 1000,
    maxMs: latency.quantile(1) / 1000,
    loadShare: Math.max(...shares),
    lateMs: late.quantile(0.99) / 1000,
    rssBeforeKb: before.rssKb,
    rssBeginKb: begin.rssKb,
    rssEndKb: end.rssKb,
    rssMaxKb,
    joinSeconds: (ready.time - before.time) / 1000,
    joinCpuSeconds: cpuSecondsBetween(before.cpu, ready.cpu),
    joinBytes: sum(ready, "bytes"),
    joinFrames: sum(ready, "frames"),
    joinKnown: sum(ready, "known"),
    // A client that was cut off cannot receive the rest.
    lost: closed > 0 || plan.mode === "idle" ? 0 : missing(plan, last),
    closed,
    starved: sum(end, "starved"),
  };
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

if (import.meta.main) {
  let result: LoadResult | { failure: string };
  try {
    result = await new Load(JSON.parse(Deno.args[0]!)).run();
  } catch (error) {
    if (!(error instanceof LoadError)) throw error;
    result = { failure: error.message };
  }
  // deno-lint-ignore no-console
  console.log(JSON.stringify(result));
  Deno.exit();
}
