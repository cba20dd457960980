/**
 * Who came and who went: told at once in a small room, gathered in a crowd.
 *
 * In a room of many each notice would go to many, and there are as many notices as people: what they
 * cost grows with the square. So above {@linkcode CROWD} users they are gathered for a while, longer
 * the larger the room is, and then told in one event.
 *
 * @module
 */

import { EncodedEvent } from "../delivery/batch.ts";
import type { Delivery } from "../delivery/delivery.ts";
import type { Event } from "../protocol/events.ts";
import { Alarm, type AlarmOptions } from "../time.ts";
import { CROWD, type Room } from "./room.ts";

/** For how long the notices of a crowd are gathered: so much for each user, and no less. */
const GATHER_MS_PER_USER = 1 / 10;
const MIN_GATHER_MS = 50;

/** What {@linkcode JoinNotices} needs. */
export interface JoinNoticesOptions extends AlarmOptions {
  readonly delivery: Delivery;
}

/** Tells rooms who came and who went. */
export class JoinNotices {
  readonly #options: JoinNoticesOptions;
  /** Rooms whose next `presence` is gathered. */
  readonly #gathering = new Set<Room>();
  readonly #alarm: Alarm;

  /** Tells nothing until somebody comes or goes. */
  constructor(options: JoinNoticesOptions) {
    this.#options = options;
    this.#alarm = new Alarm(options, () => this.#tellGathered());
  }

  /** Tells a room that somebody came, who is among its users already. */
  joined(room: Room, username: string): void {
    room.change(username, "joined");
    this.#tell(room, () => joinNotices(room, username));
  }

  /** Tells a room that somebody went, who is no longer among its users. */
  left(room: Room, username: string): void {
    room.change(username, "left");
    this.#tell(room, () => leaveNotices(room, username));
  }

  /** Tells a room that is given up nothing more. */
  forget(room: Room): void {
    this.#gathering.delete(room);
  }

  #tell(room: Room, toNotices: () => readonly Event[]): void {
    if (room.users.size > CROWD) return this.#gather(room);
    for (const event of [...toNotices(), room.takePresence()]) {
      this.#options.delivery.tell(room, event);
    }
  }

  #gather(room: Room): void {
    if (room.presenceDue !== undefined) return;
    const ms = Math.max(MIN_GATHER_MS, room.users.size * GATHER_MS_PER_USER);
    room.presenceDue = this.#options.clock() + ms;
    this.#gathering.add(room);
    this.#alarm.set(room.presenceDue);
  }

  #tellGathered(): void {
    const { clock, delivery } = this.#options;
    const now = clock();
    for (const room of this.#gathering) {
      if (room.presenceDue !== undefined && room.presenceDue > now) {
        this.#alarm.set(room.presenceDue);
        continue;
      }
      this.#gathering.delete(room);
      room.presenceDue = undefined;
      if (room.changes.size === 0) continue;
      delivery.tell(room, room.takePresence());
      delivery.tell(room, new EncodedEvent(room.onlineUsers(), { forPlainOnly: true }));
    }
  }
}

/** What a small room is told of somebody who came, before the `presence`. */
export function joinNotices(room: Room, username: string): Event[] {
  const content = `${username} joined the room`;
  return [room.onlineUsers(), { type: "user_joined", content, room: room.name, username }];
}

/** What a small room is told of somebody who left, before the `presence`. */
function leaveNotices(room: Room, username: string): Event[] {
  const content = `${username} left the room`;
  return [{ type: "user_left", content, room: room.name, username }, room.onlineUsers()];
}
