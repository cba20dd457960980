/**
 * The load, as a process of its own: connects, checks, warms up, measures, waits for what is still
 * under way, and prints a {@linkcode LoadResult} as JSON.
 *
 *     deno run -A bench/load.ts '{"port":8080,"pid":1234,…}'
 *
 * @module
 */

import { Histogram } from "./histogram.ts";
import type { Order, Sight } from "./load_worker.ts";
import { type LoadPlan, type LoadResult, readersOfRoom } from "./plan.ts";
import { cpuSecondsBetween, type CpuTimes, cpuTimes, memoryKb } from "./proc.ts";

/** How long joining may take, and a first message to everyone, in milliseconds. */
const JOIN_MS = 60_000;
const PROBE_MS = 10_000;
/** How long messages that are under way at the end are waited for after the last one has come. */
const DRAIN_MS = 1000;
/** How often is looked whether something has happened, and at the server's memory. */
const LOOK_MS = 50;
/** How long the members stay idle before the server's memory counts. */
const SETTLE_MS = 3000;

/** A run that is no measurement. The message says why. */
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

/** What all threads have seen together, and what the server has used, at one moment. */
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

  /** Waits until everyone has been told that all are there, or nobody hears anything new. */
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

  /** Sends one message in each room: everyone must get it. */
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

  /** Lets it run, and looks at the server's memory from time to time. */
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

  /** Sends no more, and waits for what is under way. */
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
    // No two threads of a machine have one number.
    const cpu = new Map(pids.flatMap((pid) => [...cpuTimes(pid)]));
    return { sights, cpu, rssKb: memoryKb(pid), time: performance.now() };
  }

  #throwIfFailed({ sights }: Moment): void {
    const failure = sights.find((sight) => sight.failure !== undefined)?.failure;
    if (failure !== undefined) throw new LoadError(`The clients could not go on: ${failure}.`);
  }
}

/** The moments between which the numbers lie. */
interface Course {
  /** Nobody has connected. */
  readonly before: Moment;
  /** All are there. */
  readonly ready: Moment;
  /** What is measured lies between these. */
  readonly begin: Moment;
  readonly end: Moment;
  /** Nothing is under way any more. */
  readonly last: Moment;
  readonly rssMaxKb: number;
}

type Count = "sent" | "deliveries" | "frames" | "bytes" | "closed" | "known";

/** What all threads have counted together. */
function sum({ sights }: Moment, count: Count): number {
  return sights.reduce((sum, sight) => sum + sight[count], 0);
}

/** Deliveries that were to be made and have not been. */
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
    // Who was cut off could get no more.
    lost: closed > 0 || plan.mode === "idle" ? 0 : missing(plan, last),
    closed,
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
