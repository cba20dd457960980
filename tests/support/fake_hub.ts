/** A hub with fake peers, whose clock and turns of the event loop the test controls. */

import { setImmediate } from "node:timers";
import { Hub, type HubLimits } from "../../hub.ts";
import type { Peer } from "../../lib/delivery/outbox.ts";
import type { Engine, EngineOptions, Log } from "../../lib/engine/engine.ts";
import { MemoryEngine } from "../../lib/engine/memory.ts";
import type { SqliteEngineOptions } from "../../lib/engine/sqlite.ts";
import type { JoinRequest } from "../../lib/http/rooms.ts";
import { createLogger, createThrottledLogger } from "../../lib/logger.ts";
import type { Identity } from "../../lib/people/accounts.ts";
import { type Rate, TrafficLimiter, type TrafficRates } from "../../lib/rate_limit.ts";
import type { Event } from "../../lib/protocol/events.ts";

const UNLIMITED: Rate = { perSecond: Infinity, burst: Infinity };

/** A connection that takes its frames, unless it is stalled: then they wait. */
export class FakePeer implements Peer {
  readonly sent: string[] = [];
  closed: number | undefined;
  bufferedAmount = 0;
  isStalled = false;

  send(data: string): void {
    this.sent.push(data);
    if (this.isStalled) this.bufferedAmount += data.length;
  }

  close(code: number): void {
    this.closed ??= code;
  }

  /** Takes all waiting frames, and ends the stall. */
  drain(): void {
    this.isStalled = false;
    this.bufferedAmount = 0;
  }

  /** The events received since the last call; or those of the first `frames` frames. */
  events(frames = Infinity): Event[] {
    return this.sent.splice(0, frames).flatMap((text) => JSON.parse(text));
  }

  /** The frames received since the last call, each in short form. */
  read(): string[] {
    return this.sent.splice(0).map((text) => {
      const { type, content, history } = JSON.parse(text);
      return `${type}${history ? " again" : ""}: ${content}`;
    });
  }
}

/** A guest with this secret. */
export function guest(secret: string, isProven = false): Identity {
  return { person: `guest:${secret}`, secret, isProven };
}

/** A signed-in person. */
export function account(key: string, { isAdmin = false, expiresAt = Infinity } = {}): Identity {
  const account = { key, isAdmin, tokenHash: `token of ${key}` };
  return { person: `account:${key}`, username: key, expiresAt, account, isProven: true };
}

/** Settings of the engine behind a hub. */
export interface FakeHubOptions {
  /** @default 1000 */
  keep?: number;
  /** The first id. @default 0 */
  firstId?: number;
  /** @default a {@linkcode MemoryEngine} */
  open?: (options: EngineOptions & Pick<SqliteEngineOptions, "atCommit">) => Engine;
  /** @default no limit */
  traffic?: TrafficRates;
}

/** A hub whose clock and turns of the event loop the test controls. */
export function createHub(
  limits: Partial<HubLimits> = {},
  changed: { readonly log?: Partial<Log> } = {},
  options: FakeHubOptions = {},
) {
  const { keep = 1000, firstId = 0, open = (options) => new MemoryEngine(options) } = options;
  const { traffic = { frames: UNLIMITED, bytes: UNLIMITED } } = options;

  let time = 0;
  let id = firstId;
  const commits: (() => void)[] = [];
  const deliveries: (() => void)[] = [];
  let timers: { due: number; callback: () => void }[] = [];
  const log: string[] = [];
  const newId = () => String(++id);
  const clock = () => time;
  const atCommit = (callback: () => void) => void commits.push(callback);
  const engine = open({ clock, newId, keep, leaseMs: 30_000, atCommit });
  Object.assign(engine.log, changed.log);
  const logger = createLogger({ level: "info", write: (line) => log.push(line) });
  const hub = new Hub({
    engine,
    limits: {
      maxMessageBytes: 4096,
      maxFrameBytes: 16384,
      maxRooms: 100,
      historySize: 50,
      sendQueueFrames: 256,
      sendQueueBytes: 1_000_000,
      writeWaitMs: 10_000,
      messageRate: UNLIMITED,
      ...limits,
    },
    traffic: new TrafficLimiter(traffic, clock),
    logger,
    refusals: logger,
    failures: createThrottledLogger(logger, clock),
    clock,
    date: clock,
    turn: { deliver: (callback) => void deliveries.push(callback), hear: () => {} },
    after: (ms, callback) => timers.push({ due: time + ms, callback }),
    newId,
  });
  const join = async (username?: string, request: Partial<JoinRequest> = {}) => {
    const peer = new FakePeer();
    const name = username === undefined ? {} : { username };
    const full = { room: "r", ...name, identity: guest(newId()), ...request };
    await hub.admit(full);
    return { peer, member: hub.join(peer, full) };
  };
  const commit = () => commits.splice(0).forEach((callback) => callback());
  const deliver = () => deliveries.splice(0).forEach((callback) => callback());
  /** Ends the turn of the event loop. */
  const turn = () => {
    commit();
    deliver();
  };
  return {
    hub,
    engine,
    join,
    log,
    turn,
    /** Ends turns until no answer and no callback is pending. */
    async settle() {
      do {
        commit();
        await new Promise((resolve) => setImmediate(resolve));
        deliver();
        await new Promise((resolve) => setImmediate(resolve));
      } while (commits.length + deliveries.length > 0);
    },
    /** Advances the clock. */
    pass(ms: number) {
      time += ms;
      const due = timers.filter((timer) => timer.due <= time);
      timers = timers.filter((timer) => timer.due > time);
      for (const { callback } of due) callback();
    },
    /** Callbacks that wait for the end of the turn. */
    get waiting() {
      return commits.length + deliveries.length;
    },
  };
}
