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
import { memoryKb, processCpuNs } from "./proc.ts";

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
  readonly serverCpuNs: number;
  readonly time: number;
}

class Load {
  readonly #plan: LoadPlan;
  readonly #threads: Thread[];
  #rssMaxKb = 0;

  constructor(plan: LoadPlan) {
    this.#plan = plan;
    this.#threads = Array.from({ length: plan.workers }, () => new Thread());
  }

  async run(): Promise<LoadResult> {
    const { mode, pid, warmSeconds, seconds, messages } = this.#plan;
    const rssBeforeKb = memoryKb(pid);
    const before = await this.#ask({ type: "look" });
    const epoch = Date.now();
    const joined = await this.#join(epoch);
    let joinKnown = 0;
    if (mode === "idle") joinKnown = await this.#waitForAll();
    else await this.#probe();
    const ready = mode === "idle" ? await this.#ask({ type: "look" }) : joined;
    const joinSeconds = (performance.now() - before.time) / 1000;

    await this.#ask({ type: "start" });
    await sleep(mode === "idle" ? SETTLE_MS : warmSeconds * 1000);
    const begin = await this.#ask({ type: "begin" });
    const rssBeginKb = this.#rss();
    if (messages === undefined) await this.#watch(seconds * 1000);
    else await this.#watchUntilSent(messages, begin);
    const end = await this.#ask({ type: "look" });
    const rssEndKb = this.#rss();
    const last = mode === "idle" ? end : await this.#drain();

    const sum = (moment: Moment, field: "sent" | "deliveries" | "frames" | "bytes" | "closed") =>
      moment.sights.reduce((sum, sight) => sum + sight[field], 0);
    const grown = (field: "sent" | "deliveries" | "frames" | "bytes") =>
      sum(end, field) - sum(begin, field);
    const measured = (end.time - begin.time) / 1000;
    const serverCpuSeconds = (end.serverCpuNs - begin.serverCpuNs) / 1e9;
    const latency = new Histogram();
    const late = new Histogram();
    for (const sight of end.sights) {
      latency.merge(sight.latency);
      late.merge(sight.late);
    }
    const shares = end.sights.map((sight, i) => {
      const first = begin.sights[i]!;
      return (sight.cpu - first.cpu) / (sight.time - first.time);
    });
    const deliveries = grown("deliveries");
    const closed = sum(last, "closed");
    return {
      seconds: measured,
      sent: grown("sent"),
      deliveries,
      deliveriesPerSecond: deliveries / measured,
      serverCpuSeconds,
      deliveriesPerCpuSecond: serverCpuSeconds > 0 ? deliveries / serverCpuSeconds : 0,
      messagesPerFrame: deliveries / (grown("frames") || 1),
      bytesPerDelivery: grown("bytes") / (deliveries || 1),
      p50Ms: latency.quantile(0.5) / 1000,
      p99Ms: latency.quantile(0.99) / 1000,
      maxMs: latency.quantile(1) / 1000,
      loadShare: Math.max(...shares),
      lateMs: late.quantile(0.99) / 1000,
      rssBeforeKb,
      rssBeginKb,
      rssEndKb,
      rssMaxKb: this.#rssMaxKb,
      joinSeconds,
      joinCpuSeconds: (ready.serverCpuNs - before.serverCpuNs) / 1e9,
      joinBytes: sum(ready, "bytes"),
      joinFrames: sum(ready, "frames"),
      joinKnown,
      lost: closed > 0
        ? 0
        : sum(last, "sent") * readersOfRoom(this.#plan) - sum(last, "deliveries"),
      closed,
    };
  }

  async #join(epoch: number): Promise<Moment> {
    const { promise, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => reject(new LoadError("Joining took too long.")), JOIN_MS);
    const orders = this.#threads.map((thread, index) =>
      thread.ask({ type: "connect", plan: this.#plan, index, epoch })
    );
    await Promise.race([Promise.all(orders), promise]);
    clearTimeout(timer);
    const joined = await this.#ask({ type: "look" });
    this.#throwIfFailed(joined);
    return joined;
  }

  /** Waits until everyone has been told that all are there, or nobody hears anything new. */
  async #waitForAll(): Promise<number> {
    let known = 0;
    let bytes = 0;
    for (let quietMs = 0; known < this.#plan.clients && quietMs < DRAIN_MS; quietMs += LOOK_MS) {
      await sleep(LOOK_MS);
      const { sights } = await this.#ask({ type: "look" });
      const heard = sights.reduce((sum, sight) => sum + sight.bytes, 0);
      if (heard > bytes) quietMs = 0;
      bytes = heard;
      known = sights.reduce((sum, sight) => sum + sight.known, 0);
    }
    return known;
  }

  /** Sends one message in each room: everyone must get it. */
  async #probe(): Promise<void> {
    await this.#ask({ type: "probe" });
    const wanted = this.#plan.rooms * readersOfRoom(this.#plan);
    for (let waited = 0;; waited += LOOK_MS) {
      const moment = await this.#ask({ type: "look" });
      this.#throwIfFailed(moment);
      const got = moment.sights.reduce((sum, { deliveries }) => sum + deliveries, 0);
      if (got === wanted) return;
      if (got > wanted || waited >= PROBE_MS) {
        throw new LoadError(`A message to everyone arrived ${got} times, not ${wanted} times.`);
      }
      await sleep(LOOK_MS);
    }
  }

  async #watch(ms: number): Promise<void> {
    const end = performance.now() + ms;
    for (let left = ms; left > 0; left = end - performance.now()) {
      await sleep(Math.min(left, 2 * LOOK_MS));
      this.#rss();
    }
  }

  async #watchUntilSent(messages: number, begin: Moment): Promise<void> {
    const sent = ({ sights }: Moment) => sights.reduce((sum, sight) => sum + sight.sent, 0);
    for (let now = begin; sent(now) - sent(begin) < messages;) {
      await this.#watch(LOOK_MS);
      now = await this.#ask({ type: "look" });
      this.#throwIfFailed(now);
    }
  }

  /** Sends no more, and waits for what is under way. */
  async #drain(): Promise<Moment> {
    await this.#ask({ type: "stop" });
    let got = -1;
    for (let quietMs = 0;; quietMs += LOOK_MS) {
      const moment = await this.#ask({ type: "look" });
      const { sent, deliveries } = moment.sights.reduce((sum, sight) => ({
        sent: sum.sent + sight.sent,
        deliveries: sum.deliveries + sight.deliveries,
      }), { sent: 0, deliveries: 0 });
      if (deliveries >= sent * readersOfRoom(this.#plan)) return moment;
      if (deliveries > got) quietMs = 0;
      got = deliveries;
      if (quietMs >= DRAIN_MS) return moment;
      await sleep(LOOK_MS);
    }
  }

  #rss(): number {
    const kb = memoryKb(this.#plan.pid);
    this.#rssMaxKb = Math.max(this.#rssMaxKb, kb);
    return kb;
  }

  async #ask(order: Order): Promise<Moment> {
    const sights = await Promise.all(this.#threads.map((thread) => thread.ask(order)));
    return { sights, serverCpuNs: processCpuNs(this.#plan.pid), time: performance.now() };
  }

  #throwIfFailed({ sights }: Moment): void {
    const failure = sights.find((sight) => sight.failure !== undefined)?.failure;
    if (failure !== undefined) throw new LoadError(`The clients could not go on: ${failure}.`);
  }
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
