/**
 * A load for your server: guests join rooms, send messages, and count what they receive.
 *
 *     deno task load ws://localhost:8080 --clients=100 --rate=50 --rooms=10 --seconds=20
 *
 * The comparison with other servers is `bench/main.ts`, which has its own load.
 *
 * @module
 */

import { cpuUsage } from "node:process";
import { words } from "../dialects.ts";
import { RoomLedger, Tally } from "./ledger.ts";
import { drawLoad } from "./chart.ts";
import { HELP, type LoadOptions, readLoadOptions, SETTINGS, UsageError } from "./options.ts";
import { short } from "../report.ts";
import { Schedule } from "../schedule.ts";
import { type Surroundings, Visitor } from "./visitor.ts";

/** Maximum guests that join in a second. */
const JOINS_PER_SECOND = 100;
/** Maximum guests that are joining at a time. */
const JOINING = 64;
/** Maximum time for all guests to join, and for the last messages to arrive, in milliseconds. */
const JOIN_MS = 60_000;
const DRAIN_MS = 10_000;
/** At the end, the load waits until the server sends nothing for this long, in milliseconds. */
const QUIET_MS = 2000;
/** How long the server may take to close the connections, in milliseconds. */
const LEAVE_MS = 1000;
/** The time between two checks for due and arrived messages, in milliseconds. */
const LOOK_MS = 5;
/** Beyond this delay in milliseconds, or this share of a core, the load itself may be slow. */
const LATE_MS = 50;
const BUSY = 0.8;

/** The results of a load that are not counts. */
interface Findings {
  /** Deliveries of stored messages that did not arrive. */
  readonly lost: number;
  /** Messages that were neither stored nor refused, though their sender stayed. */
  readonly unanswered: number;
  /** How long messages were sent, in seconds. */
  readonly seconds: number;
  /** Share of a core that this process used. */
  readonly busy: number;
  /** Guests that did not join in time. */
  readonly late: number;
}

/** One load. */
export class Load {
  readonly tally = new Tally();
  readonly #options: LoadOptions;
  readonly #rooms: readonly RoomLedger[];
  readonly #visitors: readonly Visitor[];
  readonly #stopped = Promise.withResolvers<void>();
  readonly #joinMs: number;
  #isStopped = false;
  #isJoining = true;
  #beginMs = performance.now();

  /** @param joinMs how long joining may take in all, in milliseconds */
  constructor(options: LoadOptions, joinMs = JOIN_MS) {
    this.#options = options;
    this.#joinMs = joinMs;
    const run = crypto.randomUUID().slice(0, 6);
    const around: Surroundings = {
      base: options.base,
      tally: this.tally,
      content: words(options.size),
      clock: () => (performance.now() - this.#beginMs) * 1000,
    };
    this.#rooms = Array.from(
      { length: options.rooms },
      (_, i) => new RoomLedger(`load-${run}-room-${i}`),
    );
    this.#visitors = Array.from(
      { length: options.clients },
      (_, i) => new Visitor(i, `load-${run}-${i}`, this.#rooms[i % options.rooms]!, around),
    );
  }

  /** Its progress, in one line. */
  get progress(): string {
    const { tally } = this;
    const now = this.#visitors.filter(({ isIn }) => isIn).length;
    const last = tally.seconds.at(-2) ?? tally.seconds.at(-1);
    if (last === undefined) return `joining: ${now} of ${this.#options.clients}`;
    return [
      `${Math.round((performance.now() - this.#beginMs) / 1000)} of ${this.#options.seconds} s`,
      `${now} connected`,
      `a second: ${last.stored} stored, ${last.deliveries} delivered`,
      `p99 ${milliseconds(last.latency.quantile(0.99))}`,
    ].join("   ");
  }

  /** Ends the sending, or the joining, early. */
  stop(): void {
    this.#isStopped = true;
    this.#stopped.resolve();
  }

  async run(): Promise<Findings> {
    await this.#within(this.#joinMs, this.#joinAll());
    this.#isJoining = false;
    // A guest that joined later would miss the messages before.
    for (const visitor of this.#visitors) if (!visitor.isIn) visitor.leave();
    this.#beginMs = performance.now();
    const before = cpuUsage();
    await this.#talk();
    const seconds = (performance.now() - this.#beginMs) / 1000;
    const { user, system } = cpuUsage(before);
    const busy = (user + system) / 1e6 / seconds;
    await this.#drain();
    const findings = {
      lost: this.#lost(),
      unanswered: this.#unanswered(),
      seconds,
      busy,
      late: this.#visitors.length - this.tally.connected - this.tally.turnedAway.total,
    };
    const leaving = this.#visitors.map((visitor) => visitor.leave());
    await within(LEAVE_MS, Promise.all(leaving));
    return findings;
  }

  /** Lets all guests join, at most {@linkcode JOINING} at a time. */
  async #joinAll(): Promise<void> {
    const waiting = this.#visitors.values();
    const joinSome = async () => {
      for (const visitor of waiting) {
        if (this.#isStopped || !this.#isJoining) return;
        const begin = performance.now();
        await visitor.join();
        const pauseMs = 1000 * JOINING / JOINS_PER_SECOND - (performance.now() - begin);
        await this.#within(Math.max(0, pauseMs), new Promise(() => {}));
      }
    };
    const startMs = 1000 / JOINS_PER_SECOND;
    await Promise.all(Array.from({ length: JOINING }, async (_, i) => {
      await this.#within(i * startMs, new Promise(() => {}));
      await joinSome();
    }));
  }

  /** Sends due messages until the time is over. */
  async #talk(): Promise<void> {
    const senders = this.#visitors.filter(({ isIn }) => isIn);
    if (senders.length === 0) return;
    const clock = () => performance.now() * 1000;
    const offset = this.#beginMs * 1000;
    const schedule = new Schedule(clock, this.#options.rate);
    const end = clock() + this.#options.seconds * 1e6;
    while (clock() < end && !this.#isStopped) {
      const turnEnd = Math.min(end, clock() + LOOK_MS * 1000);
      const idleUs = schedule.sendDue(turnEnd, (due, lateUs) => {
        const sender = senders[Math.floor(Math.random() * senders.length)]!;
        if (!sender.isIn) return;
        this.tally.late.add(Math.round(lateUs));
        sender.send(due - offset);
      });
      await sleep(Math.min(LOOK_MS, idleUs / 1000));
    }
  }

  /** Waits for messages in flight, as long as some still arrive. */
  async #drain(): Promise<void> {
    const end = performance.now() + DRAIN_MS;
    let seen = -1;
    let quietMs = 0;
    while (performance.now() < end && quietMs < QUIET_MS && !this.#isComplete()) {
      const now = this.tally.deliveries + this.tally.stored;
      quietMs = now === seen ? quietMs + LOOK_MS : 0;
      seen = now;
      await sleep(LOOK_MS);
    }
    // A doubled delivery arrives after the first one.
    await sleep(10 * LOOK_MS);
  }

  #isComplete(): boolean {
    return this.#rooms.every((room) => room.underWay === 0) &&
      this.#visitors.every(({ isIn, receipts, room }) => !isIn || receipts.count >= room.stored);
  }

  #lost(): number {
    let lost = 0;
    for (const { isIn, receipts, room } of this.#visitors) {
      if (!isIn) continue;
      for (const number of room.storedNumbers()) if (!receipts.has(number)) lost++;
    }
    return lost;
  }

  #unanswered(): number {
    const isThere = (sender: number) => this.#visitors[sender]!.isIn;
    return this.#rooms.reduce((sum, room) => sum + room.unanswered(isThere), 0);
  }

  /** Waits for a task, at most this long, and only until the load is stopped. */
  #within(ms: number, task: Promise<unknown>): Promise<void> {
    return within(ms, Promise.race([task, this.#stopped.promise]));
  }
}

/** The closing table. */
function toTable(tally: Tally, { lost, unanswered, seconds }: Findings, clients: number): string {
  const perSecond = (count: number) => short(count / Math.max(seconds, 0.001));
  const latency = [[0.5, "p50"], [0.9, "p90"], [0.99, "p99"], [1, "max"]] as const;
  const rows: [string, string | number][] = [
    ["connected", `${tally.connected} of ${clients}`],
    ["turned away", String(tally.turnedAway)],
    ["cut off", String(tally.cutOff)],
    ["messages sent", tally.sent],
    ["acknowledged", tally.stored],
    ["refused", String(tally.refused)],
    ["held back", tally.held],
    [
      "throughput",
      `${perSecond(tally.stored)} stored, ` +
      `${perSecond(tally.deliveries)} delivered a second`,
    ],
    [
      "latency",
      latency.map(([share, name]) => `${name} ${milliseconds(tally.latency.quantile(share))}`).join(
        ", ",
      ),
    ],
    ["lost", lost + unanswered === 0 ? 0 : `${lost} deliveries, ${unanswered} without an answer`],
    ["doubled", tally.doubled],
    ["out of order", tally.outOfOrder],
  ];
  return rows.map(([name, value]) => `${name.padEnd(14)}${value}`).join("\n");
}

/** What a reader of the figures must know, as sentences. */
function remarks(tally: Tally, { busy, late }: Findings): string[] {
  const isLimited = ["429", "503"].some((status) => tally.turnedAway.has(status)) ||
    tally.refused.has("rate_limited") || tally.cutOff.has("4029");
  const lateMs = tally.late.quantile(0.99) / 1000;
  return [
    ...(late > 0 ? [`${late} guests did not join in time.`] : []),
    ...(isLimited
      ? [`The server limits what one address may do. For a load, start it with ${SETTINGS}.`]
      : []),
    ...(tally.cutOff.has("4008")
      ? ["The server cut off guests who read too slowly: this machine is too slow for this load."]
      : []),
    ...(busy > BUSY
      ? [`The load used ${Math.round(100 * busy)} % of a core: it may be slower than the server.`]
      : []),
    ...(lateMs > LATE_MS
      ? [`This machine sent up to ${Math.round(lateMs)} ms late, which is part of the latency.`]
      : []),
  ];
}

function milliseconds(us: number): string {
  return us === 0 ? "-" : `${Number((us / 1000).toPrecision(3))} ms`;
}

/** Shows the progress: on a terminal in one line, elsewhere as a line a second. */
function showProgress(load: Load): () => void {
  const isTerminal = Deno.stderr.isTerminal();
  const write = (text: string) => Deno.stderr.writeSync(new TextEncoder().encode(text));
  const show = () => write(isTerminal ? `\r\x1b[K${load.progress}` : `${load.progress}\n`);
  const timer = setInterval(show, 1000);
  return () => {
    clearInterval(timer);
    if (isTerminal) write("\r\x1b[K");
  };
}

/** Waits for a task, at most this long. */
async function within(ms: number, task: Promise<unknown>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await Promise.race([task, promise]);
  clearTimeout(timer);
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Prints a line for people. */
// deno-lint-ignore no-console
const print = (text: string) => console.log(text);

async function save(path: string, content: string): Promise<void> {
  try {
    await Deno.writeTextFile(path, content);
  } catch (error) {
    throw new UsageError(`Cannot write the chart: ${(error as Error).message}`);
  }
}

async function run(options: LoadOptions): Promise<number> {
  const { clients, rate, rooms, size, chart, base } = options;
  const load = new Load(options);
  let interrupts = 0;
  const interrupt = () => ++interrupts === 1 ? load.stop() : Deno.exit(130);
  for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, interrupt);
  const hide = showProgress(load);
  const findings = await load.run();
  hide();
  const { tally } = load;
  print(toTable(tally, findings, clients));
  for (const remark of remarks(tally, findings)) print(`\n${remark}`);
  if (chart !== undefined) {
    const note = `${base.host}: ${clients} guests in ${rooms} rooms, ` +
      `${rate} messages of ${size} bytes a second.`;
    await save(chart, drawLoad(note, tally.seconds));
  }
  if (findings.lost + findings.unanswered + tally.doubled > 0) return 2;
  return tally.stored > 0 ? 0 : 1;
}

if (import.meta.main) {
  try {
    const options = await readLoadOptions(Deno.args);
    if (options === undefined) print(HELP);
    else Deno.exit(await run(options));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    // deno-lint-ignore no-console
    console.error(error.message);
    Deno.exit(1);
  }
}
