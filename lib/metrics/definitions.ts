/**
 * Every metric of the server: its name, its unit, and the meaning of its values.
 *
 * Names and units follow OpenTelemetry's semantic conventions. Each attribute has few values, which
 * only the server chooses, so clients cannot add series.
 *
 * @module
 */

import type { RefusedAt, ResumeOutcome } from "../meter.ts";
import { CLOSE, ERROR_CLOSE } from "../protocol/codes.ts";
import { FORMATS } from "../protocol/encode.ts";

/** The definition of one metric. */
export interface Definition {
  readonly name: string;
  /**
   * - `counter`: a sum that only grows
   * - `sum`: a sum that grows and shrinks
   * - `gauge`: a value that cannot be added up over servers
   * - `histogram`: how often values fell into each bucket
   */
  readonly kind: "counter" | "sum" | "gauge" | "histogram";
  /** In UCUM, as OpenTelemetry writes it. */
  readonly unit: string;
  readonly description: string;
  /** The attributes, each with its values from the start. Others are added when first used. */
  readonly attributes: Readonly<Record<string, readonly string[]>>;
  /** The upper bounds of a histogram's buckets. */
  readonly bounds?: readonly number[];
}

const REFUSED_AT: readonly RefusedAt[] = ["command", "join", "http"];
const RESUME_OUTCOMES: readonly ResumeOutcome[] = ["none", "recovered", "lost"];

/** From a tenth of a millisecond to a second, in seconds. */
const SECONDS = [
  0.0001,
  0.00025,
  0.0005,
  0.001,
  0.0025,
  0.005,
  0.01,
  0.025,
  0.05,
  0.1,
  0.25,
  0.5,
  1,
];

/** Every metric, in the order in which they are written. */
export const METRICS = {
  connections: {
    name: "hubbub.connections",
    kind: "sum",
    unit: "{connection}",
    description: "Open connections, in rooms or not.",
    attributes: {},
  },
  members: {
    name: "hubbub.members",
    kind: "sum",
    unit: "{member}",
    description: "Connections in a room, by format.",
    attributes: { format: FORMATS },
  },
  rooms: {
    name: "hubbub.rooms",
    kind: "sum",
    unit: "{room}",
    description: "Rooms that this instance has open.",
    attributes: {},
  },
  storeUp: {
    name: "hubbub.store.up",
    kind: "gauge",
    unit: "{store}",
    description: "Whether the server can store and read: 1, or 0 while it is degraded.",
    attributes: {},
  },
  memory: {
    name: "process.memory.usage",
    kind: "sum",
    unit: "By",
    description: "Memory of the server process: its resident set.",
    attributes: {},
  },
  cpu: {
    name: "process.cpu.time",
    kind: "counter",
    unit: "s",
    description: "CPU time of the server process, all threads together.",
    attributes: {},
  },
  framesReceived: {
    name: "hubbub.frames.received",
    kind: "counter",
    unit: "{frame}",
    description: "Frames that members sent, refused ones included.",
    attributes: { format: FORMATS },
  },
  messagesStored: {
    name: "hubbub.messages.stored",
    kind: "counter",
    unit: "{message}",
    description: "Messages that this instance stored, to a room or private. A repeat counts once.",
    attributes: { kind: ["room", "private"] },
  },
  deliveries: {
    name: "hubbub.deliveries",
    kind: "counter",
    unit: "{event}",
    description: "Events delivered: an event to ten members counts ten times.",
    attributes: { format: FORMATS },
  },
  framesSent: {
    name: "hubbub.frames.sent",
    kind: "counter",
    unit: "{frame}",
    description: "Frames sent to members. A frame of chat.v1 holds one or more events.",
    attributes: { format: FORMATS },
  },
  bytesSent: {
    name: "hubbub.traffic.sent",
    kind: "counter",
    unit: "By",
    description: "UTF-8 bytes of the frames sent to members.",
    attributes: { format: FORMATS },
  },
  deliverySize: {
    name: "hubbub.delivery.size",
    kind: "histogram",
    unit: "{event}",
    description: "Events in one delivery to a room, or to one part of a large room.",
    attributes: {},
    bounds: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000],
  },
  deliveryDuration: {
    name: "hubbub.delivery.duration",
    kind: "histogram",
    unit: "s",
    description: "Time that the deliveries of one turn of the event loop took, in all rooms.",
    attributes: {},
    bounds: SECONDS,
  },
  loopDelay: {
    name: "hubbub.loop.delay",
    kind: "histogram",
    unit: "s",
    description: "How late a timer of the event loop fired, measured ten times a second.",
    attributes: {},
    bounds: SECONDS,
  },
  engineDuration: {
    name: "hubbub.engine.duration",
    kind: "histogram",
    unit: "s",
    description: "Time from a call of the engine to its answer.",
    attributes: { operation: [], outcome: ["ok", "refused", "failed"] },
    bounds: SECONDS,
  },
  welcomes: {
    name: "hubbub.welcomes",
    kind: "counter",
    unit: "{member}",
    description: "Members welcomed, by the outcome of their resume.",
    attributes: { resume: RESUME_OUTCOMES },
  },
  refusals: {
    name: "hubbub.refusals",
    kind: "counter",
    unit: "{refusal}",
    description: "Commands, joins and HTTP requests that were refused, by the code of the error.",
    attributes: { at: REFUSED_AT, code: [...Object.keys(ERROR_CLOSE), "internal"] },
  },
  closes: {
    name: "hubbub.closes",
    kind: "counter",
    unit: "{member}",
    description: "Memberships that the server ended, by close code; 4008 is an eviction.",
    attributes: { code: Object.values(CLOSE).map(({ code }) => String(code)) },
  },
} as const satisfies Record<string, Definition>;
