/**
 * The scenarios: the members, their messages, and the servers that take turns.
 *
 * @module
 */

import type { LoadPlan } from "./plan.ts";
import type { ServerName } from "./servers.ts";

/** The part of a plan that a scenario determines. */
export type Behaviour = Omit<
  LoadPlan,
  "port" | "pid" | "dialect" | "workers" | "warmSeconds" | "seconds"
>;

/** One server's turn in a scenario. */
export interface Turn {
  readonly server: ServerName;
  /** Distinguishes several turns of one server. */
  readonly variant?: string;
  readonly behaviour?: Partial<Behaviour>;
  readonly env?: Readonly<Record<string, string>>;
}

/** One scenario. */
export interface Scenario {
  readonly title: string;
  readonly behaviour: Behaviour;
  readonly turns: readonly Turn[];
  /** Minimum seconds of the measurement. */
  readonly minSeconds?: number;
  readonly warmSeconds?: number;
}

export type ScenarioName = keyof typeof SCENARIOS;

const turns = (...servers: ServerName[]): readonly Turn[] => servers.map((server) => ({ server }));

const PEERS = [
  "gorilla",
  "gorilla-join",
  "bun",
  "ws",
  "socket.io",
  "deno",
  "deno-turn",
  "c-each",
  "c-turn",
];
const EVERYONE = turns("hubbub", "hubbub-plain", ...PEERS as ServerName[]);
const WITH_MEMORY = turns("hubbub", "hubbub-memory", "hubbub-plain", ...PEERS as ServerName[]);

/** More turns for comparison with the least server: with a store, and with other texts. */
const CLOSELY: readonly Turn[] = [
  ...turns("deno-store"),
  ...(["1 KB", "Chinese"] as const).flatMap((variant) =>
    (["hubbub", "deno-turn"] as const).map((server) => ({
      server,
      variant,
      behaviour: variant === "Chinese" ? { isChinese: true } : { contentBytes: 1000 },
    }))
  ),
];

const crowd = (rate: number): Behaviour => ({ mode: "rate", clients: 1000, rooms: 1, rate });

const stalled = (clients: number, rate: number) => ({
  title: `a room of ${clients}, ${rate} messages of 1,000 bytes a second; 1 in 10 reads nothing`,
  behaviour: { mode: "rate", clients, rooms: 1, rate, contentBytes: 1000, stalledEvery: 10 },
  turns: [{ server: "hubbub" }, {
    server: "hubbub",
    variant: "all read",
    behaviour: { stalledEvery: 0 },
  }],
  minSeconds: 15,
  // Long enough for the heap to grow to the size that the room needs.
  warmSeconds: 5,
} as const satisfies Scenario);

/** All scenarios, in the order in which they run. */
export const SCENARIOS = {
  room: {
    title: "one room of 32; each sends its next message when its last one comes back",
    behaviour: { mode: "own", clients: 32, rooms: 1 },
    turns: [...WITH_MEMORY, ...CLOSELY],
  },
  "crowd-10": {
    title: "one room of 1,000; 10 messages a second",
    behaviour: crowd(10),
    turns: turns("hubbub", "hubbub-memory", "deno-v1", "deno-store"),
    // With fewer than a hundred messages, a percentile is a matter of luck.
    minSeconds: 10,
  },
  "crowd-100": {
    title: "one room of 1,000; 100 messages a second",
    behaviour: crowd(100),
    turns: turns("hubbub", "hubbub-memory", "deno-v1", "deno-store", "gorilla", "bun"),
    minSeconds: 5,
  },
  "crowd-1000": {
    title: "one room of 1,000; 1,000 messages a second",
    behaviour: crowd(1000),
    turns: EVERYONE,
  },
  pairs: {
    title: "1,000 rooms of 2; each answers the other",
    behaviour: { mode: "pair", clients: 2000, rooms: 1000 },
    turns: [...WITH_MEMORY, ...turns("deno-fair"), ...CLOSELY],
  },
  rooms: {
    title: "50 rooms of 40; 2,000 messages a second in all",
    behaviour: { mode: "rate", clients: 2000, rooms: 50, rate: 2000 },
    turns: turns(
      ...["hubbub", "hubbub-memory", "hubbub-plain", "gorilla", "bun"] as const,
      ...["deno-turn", "deno-store"] as const,
    ),
    minSeconds: 10,
  },
  flood: {
    title: "one room of 200; 8 flood it, with 16 messages each in flight",
    behaviour: { mode: "own", clients: 200, rooms: 1, senders: 8, outstanding: 16 },
    turns: [...WITH_MEMORY, ...CLOSELY],
  },
  sustained: {
    title: "one room of 1,000; 6,000 messages a second",
    behaviour: crowd(6000),
    turns: turns("hubbub"),
    minSeconds: 10,
    warmSeconds: 3,
  },
  idle: {
    title: "10,000 silent members in 1,000 rooms",
    behaviour: { mode: "idle", clients: 10_000, rooms: 1000 },
    turns: turns("hubbub", "deno-bare"),
    // V8 returns memory after half a minute of calm.
    minSeconds: 45,
  },
  storm: {
    title: "10,000 join one room at once",
    behaviour: { mode: "idle", clients: 10_000, rooms: 1 },
    turns: turns("hubbub", "deno-join", "deno-bare"),
  },
  history: {
    title: "100,000 messages, all kept",
    behaviour: {
      mode: "own",
      clients: 8,
      rooms: 1,
      outstanding: 16,
      contentBytes: 256,
      messages: 100_000,
    },
    turns: [
      { server: "hubbub", env: { HISTORY_KEEP: "0" } },
      { server: "hubbub-memory", env: { HISTORY_KEEP: "0" } },
    ],
    warmSeconds: 3,
  },
  "stalled-220": stalled(220, 500),
  "stalled-5000": stalled(5000, 50),
} as const satisfies Record<string, Scenario>;
