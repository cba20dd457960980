/**
 * The heart: rooms, their members, and what each member is sent.
 *
 * The way of a message, in one direction:
 *
 *     receive -> decode -> engine.append -> the room's log -> pending -> flush -> outbox -> peer
 *
 * What happens in a room during one turn of the event loop is gathered in `room.pending` and
 * flushed at the turn's end. Nobody is sent anything in between, so a member that leaves, or is
 * removed because it is too slow, never disturbs a delivery that is under way.
 *
 * The hub knows no sockets, no HTTP, no storage and no timers: a peer is what can be sent to, the
 * engine remembers, and the clock, the end of a turn and the sweep come from outside.
 *
 * @module
 */

import type { Engine } from "./lib/engine.ts";
import { errorFields, type Logger } from "./lib/logger.ts";
import { ANONYMOUS, nameKey } from "./lib/names.ts";
import { Outbox, type OutboxLimits, type Peer } from "./lib/outbox.ts";
import {
  type ChatEvent,
  CLOSE,
  type CloseReason,
  type Command,
  decode,
  encode,
  ERROR_CLOSE,
  type Event,
  type Format,
  ProtocolError,
  type SizeLimits,
} from "./lib/protocol.ts";

/** Every bound the hub keeps. */
export interface HubLimits extends OutboxLimits, SizeLimits {
  /** Rooms alive at a time; `Infinity` for no limit. */
  readonly maxRooms: number;
  /** Messages sent to a member that joins. */
  readonly historySize: number;
}

/** What a {@linkcode Hub} is made of. */
export interface HubOptions {
  readonly engine: Engine;
  readonly limits: HubLimits;
  readonly log: Logger;
  /** The time in milliseconds. It must not go backwards. */
  readonly clock: () => number;
  /** Calls back once, when the present turn of the event loop ends. */
  readonly defer: (callback: () => void) => void;
  /** A new id, unique for ever. */
  readonly newId: () => string;
}

/** Who joins, where, and how it wants to be spoken to. */
export interface JoinRequest {
  /** A name that has passed `parseName`. */
  readonly room: string;
  /** A name that has passed `parseName`; absent for the raw relay, whose members have none. */
  readonly username?: string;
  /** @default "json" */
  readonly format?: Format;
  /** Whether it is sent its own messages. @default true */
  readonly echo?: boolean;
}

/** How long an empty room is kept for those on their way into it, in milliseconds. */
export const EMPTY_ROOM_MS = 10_000;

/** One connection in one room. Made by {@linkcode Hub.join}, opaque to everyone else. */
export class Member {
  /** Names this connection in the log, so that it can be left out of its own echo. */
  readonly id: string;
  readonly peer: Peer;
  readonly room: Room;
  /** The name it goes by; absent in the raw relay. */
  readonly username: string | undefined;
  readonly format: Format;
  readonly echo: boolean;
  readonly outbox: Outbox;
  /** What stands before this place in `room.pending` happened before the member came. */
  since: number;
  /** What it alone is sent, each before place `at` of `room.pending`. */
  aside: { at: number; news: News }[] = [];
  isGone = false;

  /** Use {@linkcode Hub.join}. */
  constructor(id: string, peer: Peer, room: Room, request: JoinRequest, outbox: Outbox) {
    this.id = id;
    this.peer = peer;
    this.room = room;
    this.username = request.username;
    this.format = request.format ?? "json";
    this.echo = request.echo ?? true;
    this.outbox = outbox;
    this.since = room.pending.length;
  }
}

/** An event on its way out. It is written once in each format that somebody needs. */
export class News {
  readonly event: Event;
  /** The connection it came from, which may want no echo. */
  readonly origin: string | undefined;
  readonly #texts = new Map<Format, string | undefined>();

  constructor(event: Event, origin?: string) {
    this.event = event;
    this.origin = origin;
  }

  /** The frame, or `undefined` if the format does not carry this event. */
  text(format: Format): string | undefined {
    if (!this.#texts.has(format)) this.#texts.set(format, encode(this.event, format));
    return this.#texts.get(format);
  }
}

/** A room that somebody is in, or is on the way into. */
export class Room {
  readonly name: string;
  readonly members = new Set<Member>();
  /** Who holds which name, by `nameKey`, in order of joining. */
  readonly holders = new Map<string, Member>();
  /** The newest messages, oldest first, as a joiner is sent them. */
  recent: News[] = [];
  /** The newest `seq` in `recent`. */
  lastSeq = 0;
  /** What happened since the last flush. */
  pending: News[] = [];
  /** When it was last empty, in milliseconds. */
  emptySince: number;
  /** Resolves when `recent` has been read from the log. */
  ready: Promise<void> = Promise.resolve();
  /** Ends the subscription to the log. */
  unsubscribe: () => void = () => {};

  constructor(name: string, now: number) {
    this.name = name;
    this.emptySince = now;
  }

  onlineUsers(): Event {
    const names = Array.from(this.holders.values(), (member) => member.username);
    return { type: "online_users", content: names.join(","), room: this.name, username: "" };
  }

  remember(event: ChatEvent, historySize: number): void {
    if (event.seq <= this.lastSeq) return;
    this.lastSeq = event.seq;
    this.recent.push(new News({ ...event, history: true }));
    if (this.recent.length > historySize) this.recent.shift();
  }
}

/** Rooms, members, presence, delivery and sweep. */
export class Hub {
  readonly #options: HubOptions;
  readonly #rooms = new Map<string, Room>();
  /** Rooms with something to deliver at the end of this turn. */
  #dirty = new Set<Room>();
  /** Messages given to the engine that it has not stored yet. */
  readonly #appending = new Set<Promise<void>>();
  #isDraining = false;

  constructor(options: HubOptions) {
    this.#options = options;
  }

  /**
   * Says whether somebody could join now.
   *
   * @throws {ProtocolError} `name_in_use`, `full` or `unavailable`
   */
  check(request: JoinRequest): void {
    if (this.#isDraining) {
      throw new ProtocolError("unavailable", "The server is restarting. Try again in a moment.");
    }
    const room = this.#rooms.get(request.room);
    if (room === undefined && this.#rooms.size >= this.#options.limits.maxRooms) {
      throw new ProtocolError("full", "There are too many rooms. Try again later.");
    }
    if (request.username !== undefined && room?.holders.has(nameKey(request.username))) {
      throw new ProtocolError("name_in_use", "This name is in use in this room. Choose another.");
    }
  }

  /**
   * Makes ready for a join: the room is loaded, and kept for {@linkcode EMPTY_ROOM_MS}.
   *
   * @throws {ProtocolError} as {@linkcode Hub.check} does
   */
  async admit(request: JoinRequest): Promise<void> {
    this.check(request);
    const room = this.#rooms.get(request.room) ?? this.#open(request.room);
    room.emptySince = this.#options.clock();
    await room.ready;
  }

  /**
   * Makes a peer a member, tells the room, and sends the peer the room's newest messages.
   *
   * @throws {ProtocolError} as {@linkcode Hub.check} does, and if {@linkcode Hub.admit} was not
   *   awaited shortly before
   */
  join(peer: Peer, request: JoinRequest): Member {
    this.check(request);
    const room = this.#rooms.get(request.room);
    if (room === undefined) {
      throw new ProtocolError("unavailable", "Joining took too long. Try again.");
    }
    const { limits, newId } = this.#options;
    const member = new Member(newId(), peer, room, request, new Outbox(peer, limits));
    room.members.add(member);
    if (member.username !== undefined) {
      room.holders.set(nameKey(member.username), member);
      this.#tell(room, room.onlineUsers());
      this.#tell(room, {
        type: "user_joined",
        content: `${member.username} joined the room`,
        room: room.name,
        username: member.username,
      });
    }
    // The raw relay carries what is said from now on and nothing else.
    if (member.format !== "raw") { for (const news of room.recent) this.#tellAside(member, news); }
    return member;
  }

  /** Handles one text frame of a member. Never throws. */
  receive(member: Member, text: string): void {
    if (member.isGone || this.#isDraining) return;
    let command: Command;
    try {
      command = decode(text, member.format, this.#options.limits);
    } catch (error) {
      this.#refuse(member, error);
      return;
    }
    this.#append(member, command);
  }

  /** Takes a member out of its room and tells those left. Done once, however often it is asked. */
  leave(member: Member): void {
    if (member.isGone) return;
    member.isGone = true;
    const { room, username } = member;
    room.members.delete(member);
    if (room.members.size === 0) room.emptySince = this.#options.clock();
    if (username === undefined) return;
    room.holders.delete(nameKey(username));
    const content = `${username} left the room`;
    this.#tell(room, { type: "user_left", content, room: room.name, username });
    this.#tell(room, room.onlineUsers());
  }

  /** Takes a member out, then closes its connection. It is not waited for. */
  dismiss(member: Member, close: CloseReason): void {
    this.leave(member);
    member.peer.close(close.code, close.reason);
  }

  /** Removes members that cannot keep up and forgets empty rooms. To be called every second or so. */
  sweep(): void {
    const now = this.#options.clock();
    for (const room of this.#rooms.values()) {
      for (const member of room.members) {
        if (member.outbox.isOverdue(now)) this.#evict(member);
      }
      if (room.members.size === 0 && now - room.emptySince >= EMPTY_ROOM_MS) this.#forget(room);
    }
  }

  /**
   * Ends it all: nobody joins or speaks any more, what was accepted is delivered, and every member
   * is told that the server restarts.
   */
  async drain(): Promise<void> {
    this.#isDraining = true;
    await Promise.all(this.#appending);
    this.#flush();
    for (const room of this.#rooms.values()) {
      for (const member of room.members) {
        member.isGone = true;
        member.peer.close(CLOSE.restart.code, CLOSE.restart.reason);
      }
      this.#forget(room);
    }
  }

  /** Loads a room. The subscription comes first, so that nothing falls between it and the reading. */
  #open(name: string): Room {
    const { engine, limits, clock } = this.#options;
    const room = new Room(name, clock());
    this.#rooms.set(name, room);
    const early: ChatEvent[] = [];
    let isLoaded = false;
    room.unsubscribe = engine.subscribe(name, (event, origin) => {
      if (!isLoaded) return void early.push(event);
      room.remember(event, limits.historySize);
      this.#tell(room, event, origin);
    });
    room.ready = engine.latest(name, limits.historySize).then((events) => {
      for (const event of [...events, ...early]) room.remember(event, limits.historySize);
      isLoaded = true;
    }).catch((error) => {
      this.#forget(room);
      this.#options.log.error("room cannot be loaded", { room: name, ...errorFields(error) });
      throw new ProtocolError("unavailable", "The room cannot be loaded now. Try again later.");
    });
    return room;
  }

  #forget(room: Room): void {
    room.unsubscribe();
    this.#rooms.delete(room.name);
  }

  /** Gives a message to the log; the log tells the room, its sender included. */
  #append(member: Member, command: Command): void {
    const username = member.username ?? ANONYMOUS;
    const draft = { username, content: command.content, origin: member.id };
    const appending: Promise<void> = this.#options.engine.append(member.room.name, draft)
      .catch((error) => {
        this.#options.log.error("message cannot be stored", errorFields(error));
        const sentence = "The message could not be stored. Send it again later.";
        this.#refuse(member, new ProtocolError("unavailable", sentence, command.ref));
      })
      .then(() => void this.#appending.delete(appending));
    this.#appending.add(appending);
  }

  /** Tells a member why a frame is refused. A frame that is too big also ends its connection. */
  #refuse(member: Member, error: unknown): void {
    if (!(error instanceof ProtocolError)) {
      this.#options.log.error("frame cannot be handled", errorFields(error));
      this.dismiss(member, CLOSE.internal);
      return;
    }
    const { code, ref } = error;
    this.#options.log.info("frame refused", { room: member.room.name, code });
    this.#tellAside(
      member,
      new News({
        type: "error",
        content: error.message,
        room: member.room.name,
        username: "",
        code,
        ...(ref !== undefined && { ref }),
      }),
    );
    if (code === "too_big") {
      this.#deliver(member.room);
      this.dismiss(member, ERROR_CLOSE[code]);
    }
  }

  #evict(member: Member): void {
    if (member.isGone) return;
    const { username, room } = member;
    this.#options.log.warn("member evicted", { room: room.name, username });
    this.dismiss(member, CLOSE.tooSlow);
  }

  /** Puts down what all members of a room are to be sent. */
  #tell(room: Room, event: Event, origin?: string): void {
    room.pending.push(new News(event, origin));
    this.#schedule(room);
  }

  /** Puts down what one member alone is to be sent, after all that has happened so far. */
  #tellAside(member: Member, news: News): void {
    member.aside.push({ at: member.room.pending.length, news });
    this.#schedule(member.room);
  }

  #schedule(room: Room): void {
    if (this.#dirty.size === 0) this.#options.defer(() => this.#flush());
    this.#dirty.add(room);
  }

  #flush(): void {
    const rooms = this.#dirty;
    this.#dirty = new Set();
    for (const room of rooms) this.#deliver(room);
  }

  #deliver(room: Room): void {
    const pending = room.pending;
    room.pending = [];
    const now = this.#options.clock();
    const tooSlow: Member[] = [];
    for (const member of room.members) {
      if (!this.#send(member, pending, now)) tooSlow.push(member);
      member.since = 0;
      member.aside = [];
    }
    for (const member of tooSlow) this.#evict(member);
  }

  /** Sends a member what is new to it. False if it cannot keep up. */
  #send(member: Member, pending: readonly News[], now: number): boolean {
    const { outbox, aside } = member;
    if (outbox.isOverdue(now)) return false;
    const wasBehind = outbox.isBehind;
    let next = 0;
    for (let at = member.since; at <= pending.length; at++) {
      while (aside[next]?.at === at) this.#put(member, aside[next++]!.news, now);
      if (at < pending.length) this.#put(member, pending[at]!, now);
      if (wasBehind && outbox.isOverfull()) return false;
    }
    return true;
  }

  #put(member: Member, news: News, now: number): void {
    if (!member.echo && news.origin === member.id) return;
    const text = news.text(member.format);
    if (text !== undefined) member.outbox.send(text, now);
  }
}
