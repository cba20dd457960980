/**
 * The heart: members join rooms, send commands, receive events, and leave.
 *
 * The way of a message, in one direction:
 *
 *     receive -> decode -> perform -> engine.log -> the room's events -> fan-out -> outbox -> peer
 *
 * The way of a message that is posted over HTTP, by a person who has not joined:
 *
 *     ask -> perform -> engine.log -> the same
 *
 * The way of a member:
 *
 *     admit -> (upgrade) -> join -> engine.bus.enter -> the room gets "entered" -> welcome -> live
 *
 * Every command goes to the engine, which publishes the result to all instances, this one included.
 * Events collect until the end of the turn (`lib/delivery/`): a `chat.v1` member receives all of
 * them in one frame, a reader of Server-Sent Events in one chunk, a plain client one frame for
 * each.
 *
 * The hub knows no sockets, storage or timers, and of HTTP only the interface that it implements.
 * It sends to peers, stores through the engine, and receives the clock and the turn from outside.
 *
 * @module
 */

import { EncodedEvent } from "./lib/delivery/batch.ts";
import type { Peer } from "./lib/delivery/outbox.ts";
import { Schedule } from "./lib/delivery/schedule.ts";
import {
  type Engine,
  type EngineEvent,
  EVERYWHERE,
  type RoomSettings,
} from "./lib/engine/engine.ts";
import {
  ChatError,
  nameInUse,
  rateLimited,
  restarting,
  sessionEnded,
  storeUnavailable,
} from "./lib/errors.ts";
import type { Attendance, JoinRequest, RoomAccess, Rooms, RoomVisit } from "./lib/http/rooms.ts";
import { errorFields, type Logger } from "./lib/logger.ts";
import type { Meter } from "./lib/meter.ts";
import type { Identity } from "./lib/people/accounts.ts";
import { CLOSE, type CloseReason, ERROR_CLOSE } from "./lib/protocol/codes.ts";
import {
  type Command,
  decode,
  peekRef,
  type RoomChange,
  type SizeLimits,
} from "./lib/protocol/commands.ts";
import { isWhole } from "./lib/protocol/encode.ts";
import { envelope, errorEvent, type Event, type LogEvent } from "./lib/protocol/events.ts";
import { type ActionContext, expireTyping, stopTyping } from "./lib/room/actions.ts";
import { type Census, Directory, type DirectoryLimits } from "./lib/room/directory.ts";
import { JoinNotices } from "./lib/room/notices.ts";
import { closeInPauses, waitForQuiet } from "./lib/room/pauses.ts";
import { Performer } from "./lib/room/performer.ts";
import { Permissions } from "./lib/room/permissions.ts";
import { tellPrivate } from "./lib/room/private.ts";
import { Sessions } from "./lib/room/sessions.ts";
import { welcome, type WelcomeOptions } from "./lib/room/welcome.ts";
import { Member, type MemberLimits, type Room } from "./lib/room/room.ts";
import type { TrafficLimiter } from "./lib/rate_limit.ts";
import type { After, Turn } from "./lib/time.ts";

/** Every limit that the hub enforces, each declared by the part that uses it. */
export type HubLimits = DirectoryLimits & MemberLimits & SizeLimits;

/** What a {@linkcode Hub} needs. */
export interface HubOptions {
  readonly engine: Engine;
  readonly limits: HubLimits;
  /** What each address may send. */
  readonly traffic: TrafficLimiter;
  readonly logger: Logger;
  /** Logs refusals; throttled. */
  readonly refusals: Logger;
  /** Logs failures of the engine; throttled. */
  readonly failures: Logger;
  /** The time in milliseconds. It never goes backwards. */
  readonly clock: () => number;
  /** The time in milliseconds since 1970. */
  readonly date: () => number;
  readonly turn: Pick<Turn, "deliver" | "hear">;
  readonly after: After;
  /** Makes an id that is unique for ever. */
  readonly newId: () => string;
  /** Absent while metrics are off. */
  readonly meter?: Meter | undefined;
}

/** How long an empty room stays open for members on their way in, in milliseconds. */
export const EMPTY_ROOM_MS = 10_000;

/** Maximum time a drain waits for the engine's answers, in milliseconds. */
const MAX_ANSWER_WAIT_MS = 1000;

/** Rooms and members: join, receive, leave, events of the engine, sweep, drain. */
export class Hub implements Rooms {
  /** Resolves when the hub is subscribed to server-wide events. Joins wait for it. */
  readonly ready: Promise<unknown>;
  readonly #options: HubOptions;
  readonly #notices: JoinNotices;
  readonly #permissions: Permissions;
  readonly #actions: ActionContext;
  readonly #performer: Performer;
  readonly #welcome: WelcomeOptions;
  readonly #rooms: Directory;
  /** Whether the hub refuses joins. */
  #isDraining = false;
  /** Whether the hub ignores frames. */
  #isDeaf = false;
  /** When a frame last came in, in milliseconds. */
  #receivedAt = -Infinity;

  constructor(options: HubOptions) {
    const { engine, limits, after, failures, meter } = options;
    this.#options = options;
    this.#rooms = new Directory({
      ...options,
      logger: failures,
      schedule: new Schedule(options),
      onEvent: (room, event) => this.#onRoomEvent(room, event),
      onTooSlow: (member) => this.#evict(member),
    });
    this.#notices = new JoinNotices(options);
    this.#permissions = new Permissions(engine);
    this.#actions = { ...options, logger: failures, permissions: this.#permissions };
    this.#performer = new Performer(this.#actions);
    this.#welcome = {
      log: engine.log,
      limits,
      after,
      send: ({ subscriber }, events) => subscriber.send(events, options.clock()),
      onListed: (room, reader) => this.#notices.listed(room, reader),
      meter,
    };
    const sessions = new Sessions({
      ...options,
      members: () => this.#allMembers(),
      expel: (member, error) => this.#expel(member, error),
    });
    this.ready = engine.bus.subscribe(EVERYWHERE, (event) => sessions.hear(event));
  }

  // Join

  /**
   * Prepares a join: opens the room, and keeps it open for {@linkcode EMPTY_ROOM_MS}.
   *
   * @throws {ChatError} `name_in_use`, `forbidden`, `full` or `unavailable`
   */
  async admit(request: JoinRequest): Promise<void> {
    await this.#open(request);
  }

  async #open(request: JoinRequest): Promise<Room> {
    this.#check(request);
    await this.ready;
    const room = await this.#rooms.open(request.room);
    room.expect(this.#options.clock());
    this.#check(request);
    return room;
  }

  /** Checks a join as {@linkcode Hub.admit} does, without opening the room. */
  async check(request: JoinRequest): Promise<void> {
    this.#check(request);
    if (this.#rooms.get(request.room) === undefined) await this.#permissions.check(request);
  }

  /**
   * Makes a peer a member. The member goes live once the room has received its `entered` event.
   *
   * @throws {ChatError} as {@linkcode Hub.admit} does, which must have been awaited shortly before
   */
  join(peer: Peer, request: JoinRequest): Member {
    this.#check(request);
    const room = this.#rooms.get(request.room);
    if (room === undefined) {
      throw new ChatError("unavailable", "Joining took too long. Try again.");
    }
    const { newId, clock } = this.#options;
    const member = new Member({ ...this.#options, id: newId(), peer, room, request, now: clock() });
    room.add(member);
    if (member.username !== undefined) this.#enter(member, member.username);
    // A member without a name has no presence, and in the raw relay no welcome either.
    else if (isWhole(member.format)) this.#onEntered(member);
    else member.goLive([]);
    return member;
  }

  /** @throws {ChatError} if the hub would refuse the join now */
  #check(request: JoinRequest): void {
    if (this.#isDraining) throw restarting();
    this.#rooms.checkPlace(request.room);
    this.#rooms.get(request.room)?.check(request);
  }

  #enter(member: Member, username: string): void {
    const { room, id: connection, person } = member;
    this.#options.engine.bus.enter(room.name, { connection, username, person }).then(
      (position) => room.whenAt(position, () => this.#onEntered(member)),
      (error) => this.#refuseJoin(member, this.#toRefusal(error)),
    );
  }

  #refuseJoin(member: Member, error: ChatError): void {
    this.#options.meter?.refused("join", error.code);
    this.#expel(member, error);
  }

  #onEntered(member: Member): void {
    if (member.isGone) return;
    welcome(member, this.#welcome).catch((error) => {
      this.#options.failures.error("member cannot be welcomed", errorFields(error));
      this.#refuseJoin(member, new ChatError("unavailable", "The room cannot be read. Try again."));
    });
  }

  // Receive

  /** Handles one text frame of a member. Never throws. */
  receive(member: Member, text: string): void {
    if (member.isGone) return;
    const { clock, limits, turn, meter } = this.#options;
    meter?.received(member.format);
    this.#receivedAt = clock();
    member.hear(this.#receivedAt);
    if (this.#isDeaf) return;
    turn.hear(member);
    const refusal = this.#refusalOf(member);
    if (refusal !== undefined) return this.#expel(member, refusal);
    const seconds = member.takeToken(text, this.#receivedAt);
    if (seconds > 0) return this.#refuseFlood(member, seconds, text);
    try {
      this.#perform(member, decode(text, member.format, limits));
    } catch (error) {
      this.#refuse(member, this.#toRefusal(error));
    }
  }

  /** Refuses a frame unparsed: parsing costs the server more than sending costs the client. */
  #refuseFlood(member: Member, seconds: number, text: string): void {
    const refusal = rateLimited("messages at once", seconds);
    if (!member.isFlooding) return this.#refuse(member, refusal.withRef(peekRef(text)));
    this.#options.meter?.refused("command", refusal.code);
    this.#expel(member, refusal);
  }

  #perform(member: Member, command: Command): void {
    this.#performer.perform(member, command, (event) => {
      if (event !== undefined) member.tell(event);
    }, (error) => this.#refuse(member, this.#toRefusal(error).withRef(command.ref)));
  }

  /**
   * Performs a command of a person who has not joined.
   *
   * @returns the event that a member would receive as the answer, if there is one
   * @throws {ChatError} as {@linkcode Hub.admit} does, or as the command is refused
   */
  async ask(request: JoinRequest, command: Command): Promise<Event | undefined> {
    this.#options.turn.hear(request);
    const room = await this.#open(request);
    const { username, identity } = request;
    const actor = { id: identity.person, room, username, identity, isLive: true, wantsAck: true };
    return await new Promise((resolve, reject) => {
      this.#performer.perform(actor, command, resolve, (error) => {
        reject(this.#toRefusal(error).withRef(command.ref));
      });
    });
  }

  /**
   * Reads who is in a room.
   *
   * @throws {ChatError} as {@linkcode Hub.admit} does
   */
  async readPresence(request: JoinRequest): Promise<Attendance> {
    const { roster } = await this.#open(request);
    return { users: roster.entries(), online: roster.size };
  }

  /** Reads a room's settings as the person may know them. @throws {ChatError} as a join would */
  readRoom(visit: RoomVisit): Promise<RoomAccess> {
    return this.#permissions.read(visit);
  }

  /**
   * Changes the settings of a room, and expels the members that it no longer admits.
   *
   * @throws {ChatError} `forbidden`, `not_found`, `bad_request` or `unavailable`
   */
  changeRoom(room: string, identity: Identity, change: RoomChange): Promise<RoomSettings> {
    return this.#permissions.change(room, identity, change);
  }

  // Leave

  /** Removes a member from its room and ends its presence. A repeat does nothing. */
  leave(member: Member): void {
    if (!member.end()) return;
    const { room, username, id } = member;
    room.remove(member, this.#options.clock());
    if (username === undefined) return;
    stopTyping(this.#actions, member);
    this.#options.engine.bus.leave(room.name, id);
  }

  /** Removes a member and closes its connection, without waiting for the close. */
  dismiss(member: Member, close: CloseReason): void {
    if (!member.isGone) this.#options.meter?.closed(close.code);
    this.leave(member);
    member.close(close);
  }

  /** Delivers everything pending to a member, then the error, and dismisses the member. */
  #expel(member: Member, error: ChatError): void {
    if (member.isGone) return;
    member.tellLast(errorEvent(member.room.name, error));
    this.dismiss(member, ERROR_CLOSE[error.code]);
  }

  #evict(member: Member): void {
    if (member.isGone) return;
    const { username, room } = member;
    this.#options.refusals.warn("member evicted", { room: room.name, username });
    this.dismiss(member, CLOSE.tooSlow);
  }

  /** Answers a frame with an error. A frame that is too big also ends the connection. */
  #refuse(member: Member, error: ChatError): void {
    if (member.isGone) return;
    this.#options.meter?.refused("command", error.code);
    const { name } = member.room;
    // A failure of the engine has its own log line.
    if (error.code !== "unavailable") {
      this.#options.refusals.info("frame refused", { room: name, code: error.code });
    }
    if (error.code === "too_big") this.#expel(member, error);
    else member.tell(errorEvent(name, error));
  }

  /**
   * The refusal that a client receives. An unexpected error is logged, and its details are not
   * sent.
   */
  #toRefusal(error: unknown): ChatError {
    if (error instanceof ChatError) return error;
    this.#options.failures.error("command failed", errorFields(error));
    return storeUnavailable();
  }

  /** Why a member may no longer be in its room; `undefined` if it may. */
  #refusalOf({ room, request }: Member): ChatError | undefined {
    return this.#hasExpired(request.identity) ? sessionEnded() : room.refusalOf(request);
  }

  #hasExpired({ expiresAt }: Identity): boolean {
    return expiresAt !== undefined && expiresAt <= this.#options.date();
  }

  // Events of the engine

  #onRoomEvent(room: Room, event: EngineEvent): void {
    switch (event.type) {
      case "logged":
        return this.#onLogged(room, event.event, event.origin);
      case "private":
        return tellPrivate(room, event.message, event.origin);
      case "typing": {
        const { username, isActive: active } = event;
        room.typists.record(username, active);
        return room.fanout.tell({ type: "typing", ...envelope(room.name, "", username), active });
      }
      case "entered":
        if (room.entered(event.presence, event.position)) {
          this.#notices.joined(room, event.presence.username);
        }
        return room.callWaiting();
      case "left":
        if (room.left(event.presence, event.position)) {
          this.#notices.left(room, event.presence.username);
        }
        return room.callWaiting();
      case "erased":
        return room.recent.erase(event.ids);
      case "kicked":
        return this.#onKicked(room, event);
      case "epoch":
        room.continueIn(event.epoch);
        return room.fanout.tell({ type: "epoch", ...envelope(room.name), epoch: event.epoch });
      case "lost":
        return this.#onLost(room);
      case "displaced": {
        const member = room.members.get(event.connection);
        return member && this.#expel(member, nameInUse());
      }
      case "settings":
        room.changeSettings(event.settings);
        for (const member of room.members.values()) {
          const refusal = this.#refusalOf(member);
          if (refusal !== undefined) this.#expel(member, refusal);
        }
    }
  }

  #onLogged(room: Room, event: LogEvent, origin: string): void {
    if (event.seq <= room.lastSeq) return;
    if (event.seq !== room.lastSeq + 1) return this.#onHole(room, event.seq);
    const encoded = new EncodedEvent(event, { origin, epoch: room.epoch });
    room.record(event, encoded.text("v1")!);
    room.fanout.tell(encoded);
  }

  /** The engine promises events without holes. At a hole, members reconnect and read the log. */
  #onHole(room: Room, seq: number): void {
    this.#options.logger.error("room missed events", { room: room.name, after: room.lastSeq, seq });
    this.#reopen(room, CLOSE.internal);
  }

  #onLost(room: Room): void {
    this.#options.logger.error("room lost events", { room: room.name, seq: room.lastSeq });
    this.#reopen(room, CLOSE.restart);
  }

  /** Closes a room, so that its members reconnect and learn what they can resume. */
  #reopen(room: Room, reason: CloseReason): void {
    for (const member of room.members.values()) this.dismiss(member, reason);
    this.#rooms.close(room);
  }

  #onKicked(room: Room, { who, reason }: Extract<EngineEvent, { type: "kicked" }>): void {
    const sentence = "You were removed from this room" + (reason ? `: ${reason}` : ".");
    const members = "key" in who ? room.membersNamed(who.key) : room.membersOf(who.person);
    for (const member of members) this.#expel(member, new ChatError("forbidden", sentence));
  }

  #allMembers(): Member[] {
    return [...this.#rooms].flatMap((room) => [...room.members.values()]);
  }

  /** Counts the open rooms and their members. */
  census(): Census {
    return this.#rooms.census();
  }

  // Sweep and drain

  /**
   * Evicts members that cannot keep up, expels those whose session has expired, ends expired
   * typing, closes empty rooms, and renews the engine's lease. Call it about once a second.
   */
  sweep(): void {
    const { clock, engine, failures } = this.#options;
    const now = clock();
    engine.bus.renew().catch((error) => {
      // Health reports a store that fails.
      if (!(error instanceof ChatError)) failures.error("lease not renewed", errorFields(error));
    });
    for (const room of this.#rooms) {
      for (const member of room.members.values()) {
        if (member.subscriber.isOverdue(now)) this.#evict(member);
        else if (this.#hasExpired(member.identity)) this.#expel(member, sessionEnded());
      }
      expireTyping(this.#actions, room, now);
      if (room.emptyMs(now) >= EMPTY_ROOM_MS) this.#rooms.close(room);
    }
  }

  /**
   * Stops accepting joins, lets commands in flight finish, delivers what was accepted, and closes
   * every member with 1012. Takes at most one second, plus one if the engine does not answer.
   */
  async drain(): Promise<void> {
    this.#isDraining = true;
    await waitForQuiet(() => this.#receivedAt, this.#options);
    this.#isDeaf = true;
    await this.#performer.allAnswered(MAX_ANSWER_WAIT_MS, this.#options.after);
    const members = this.#allMembers();
    for (const room of this.#rooms) {
      room.fanout.flush();
      // Close the room first: no member needs to hear of these leaves.
      this.#rooms.close(room);
    }
    await closeInPauses(members, (member) => this.dismiss(member, CLOSE.restart), this.#options);
  }
}
