/**
 * The names of keys and channels. All keys of one room share a hash tag, so that a cluster keeps
 * them on one node.
 *
 * @module
 */

import { EVERYWHERE } from "../engine.ts";

/** The keys of one room, in the order that the scripts expect. */
const ROOM_KEYS = [
  "meta",
  "log",
  "refs",
  "privates",
  "private_refs",
  "inboxes",
  "presences",
  "holders",
  "visits",
  "visit_times",
  "settings",
] as const;

/** The first part of every key of a room. */
function ofRoom(room: string): string {
  return `hubbub:{:${room}}`;
}

/** A key of one room. */
export function roomKey(room: string, name: typeof ROOM_KEYS[number]): string {
  return `${ofRoom(room)}:${name}`;
}

/** The keys that every room has. */
export function roomKeys(room: string): string[] {
  const start = ofRoom(room);
  return ROOM_KEYS.map((name) => `${start}:${name}`);
}

/** The numbers of a person's private messages in a room. */
export function inboxKey(room: string, person: string): string {
  return `${ofRoom(room)}:inbox:${person}`;
}

/** The connections of an instance in a room. */
export function connectionsKey(room: string, instance: string): string {
  return `${ofRoom(room)}:connections:${instance}`;
}

/** The answers to a room's jobs in the last batch of an instance. */
export function answersKey(room: string, instance: string): string {
  return `${ofRoom(room)}:answers:${instance}`;
}

/**
 * The channel of a room. All databases of a server share the channels, so its name has the number.
 */
export function channelOf(database: number, room: string): string {
  return `hubbub:${database}:${room}`;
}

/** The room of a channel; `undefined` for another channel. */
export function roomOf(database: number, channel: string): string | undefined {
  const start = channelOf(database, "");
  return channel.startsWith(start) ? channel.slice(start.length) : undefined;
}

/** The keys of accounts and tokens, after the `meta` that numbers their news. */
export const PEOPLE_KEYS: readonly string[] = [
  roomKey(EVERYWHERE, "meta"),
  ...["accounts", "tokens", "expiries", "erasing", "eras", "bots"].map((name) =>
    `${ofRoom(EVERYWHERE)}:${name}`
  ),
];

/** The identity of the server since its last start or failover. */
export const GENERATION_KEY = "hubbub:{server}:generation";

/** Every room that has ever stored something. */
export const ROOMS_KEY = "hubbub:{server}:rooms";

/** The ends of the instances' leases. */
export const LEASES_KEY = "hubbub:{instances}:leases";

/** The instances whose lease has ended. */
export const ENDED_KEY = "hubbub:{instances}:ended";

/** The rooms that an instance may be present in, each with the batch that entered it. */
export function instanceKey(instance: string): string {
  return `hubbub:{instances}:rooms:${instance}`;
}

/** The rooms that an account may own. */
export function ownerKey(account: string): string {
  return `hubbub:{owner:${account}}`;
}
