/**
 * The open rooms of this instance.
 *
 * @module
 */

import type { Schedule } from "../delivery/schedule.ts";
import type { Engine, EngineEvent } from "../engine/engine.ts";
import { ChatError } from "../errors.ts";
import { errorFields, type Logger } from "../logger.ts";
import type { Format } from "../protocol/encode.ts";
import { MAX_RECENT_EVENTS } from "./recent.ts";
import { type Member, Room } from "./room.ts";

/** Limits of the rooms of one instance. */
export interface DirectoryLimits {
  /** Maximum rooms open at a time; `Infinity` for no limit. */
  readonly maxRooms: number;
  /** Maximum messages that a new member receives. */
  readonly historySize: number;
}

/** The rooms and members of one instance, counted. */
export interface Census {
  readonly rooms: number;
  readonly members: ReadonlyMap<Format, number>;
}

/** What a {@linkcode Directory} needs. */
export interface DirectoryOptions {
  readonly engine: Pick<Engine, "open">;
  readonly schedule: Schedule;
  readonly limits: DirectoryLimits;
  readonly logger: Logger;
  /** The time in milliseconds. */
  readonly clock: () => number;
  /** Handles every event of an open room. */
  readonly onEvent: (room: Room, event: EngineEvent) => void;
  /** Handles a member that cannot keep up. */
  readonly onTooSlow: (member: Member) => void;
}

/** Opens rooms, each once, and keeps them until they are closed. */
export class Directory {
  readonly #options: DirectoryOptions;
  readonly #rooms = new Map<string, Room>();
  readonly #opening = new Map<string, Promise<Room>>();

  constructor(options: DirectoryOptions) {
    this.#options = options;
  }

  /** Every open room. */
  [Symbol.iterator](): Iterator<Room> {
    return this.#rooms.values();
  }

  /** How many rooms are open, and how many members each format has. */
  census(): Census {
    const members = new Map<Format, number>();
    for (const room of this) {
      for (const { format } of room.members.values()) {
        members.set(format, (members.get(format) ?? 0) + 1);
      }
    }
    return { rooms: this.#rooms.size, members };
  }

  /** The open room with this name. */
  get(name: string): Room | undefined {
    return this.#rooms.get(name);
  }

  /** @throws {ChatError} `full` if the room is not open and no further room can be opened */
  checkPlace(name: string): void {
    if (this.#rooms.has(name) || this.#opening.has(name)) return;
    if (this.#isFull && this.#emptyRoom() === undefined) {
      throw new ChatError("full", "Too many rooms are open. Try again later.");
    }
  }

  /**
   * The room with this name. Opens it if it is not open.
   *
   * @throws {ChatError} `full`, or `unavailable` if the engine fails
   */
  async open(name: string): Promise<Room> {
    const room = this.#rooms.get(name);
    if (room !== undefined) return room;
    let opening = this.#opening.get(name);
    if (opening === undefined) {
      this.checkPlace(name);
      const empty = this.#isFull ? this.#emptyRoom() : undefined;
      if (empty !== undefined) this.close(empty);
      opening = this.#load(name).finally(() => this.#opening.delete(name));
      this.#opening.set(name, opening);
    }
    return await opening;
  }

  /** Closes a room and ends its subscription. */
  close(room: Room): void {
    room.close();
    // Another room may have been opened under its name since.
    if (this.#rooms.get(room.name) === room) this.#rooms.delete(room.name);
  }

  get #isFull(): boolean {
    return this.#rooms.size + this.#opening.size >= this.#options.limits.maxRooms;
  }

  /** A room without members, kept open for a member on its way in. It may be closed for another. */
  #emptyRoom(): Room | undefined {
    return this.#rooms.values().find((room) => room.members.size === 0);
  }

  async #load(name: string): Promise<Room> {
    const { engine, schedule, limits: { historySize }, clock, logger } = this.#options;
    const { onEvent, onTooSlow } = this.#options;
    try {
      const wanted = { events: MAX_RECENT_EVENTS, messages: historySize };
      const opened = await engine.open(name, wanted);
      const room = new Room(name, opened, { historySize, schedule, now: clock(), onTooSlow });
      this.#rooms.set(name, room);
      opened.listen((event) => onEvent(room, event));
      return room;
    } catch (error) {
      logger.error("room cannot be loaded", { room: name, ...errorFields(error) });
      throw new ChatError("unavailable", "The room cannot be loaded now. Try again later.");
    }
  }
}
