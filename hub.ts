/**
 * The heart: rooms, their members, and what each member is sent.
 *
 * The way of a message, in one direction:
 *
 *     receive -> decode -> engine.append -> the room's log -> pending -> flush -> outbox -> peer
 *
 * Whatever a member asks for goes to the engine, and what comes of it comes back as news, to this
 * process as to every other. What is news is put down and delivered at the end of the turn
 * (`lib/delivery.ts`): a `chat.v1` member gets one frame for all of it, a plain client one for each
 * event.
 *
 * The hub knows no sockets, no HTTP, no storage and no timers: a peer is what can be sent to, the
 * engine remembers, and the clock, the end of a turn and the sweep come from outside.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { EncodedEvent } from "./lib/delivery/batch.ts";
import { Delivery } from "./lib/delivery/delivery.ts";
import { Outbox, type OutboxLimits, type Peer } from "./lib/delivery/outbox.ts";
import {
  type Engine,
  type EngineEvent,
  EVERYWHERE,
  type Presence,
  type PrivateMessage,
  type Receipt,
  type RoomSettings,
} from "./lib/engine/engine.ts";
import {
  ChatError,
  nameBelongsToAccount,
  nameInUse,
  nobodyWithName,
  notModerator,
  rateLimited,
  restarting,
  sessionEnded,
  storeUnavailable,
} from "./lib/errors.ts";
import { errorFields, type Logger } from "./lib/logger.ts";
import { ANONYMOUS, nameKey } from "./lib/names.ts";
import type { Identity } from "./lib/people/accounts.ts";
import { CLOSE, type CloseReason, ERROR_CLOSE } from "./lib/protocol/codes.ts";
import {
  type Command,
  decode,
  type DmCommand,
  type HistoryCommand,
  type KickCommand,
  peekRef,
  type RoomChange,
  type SizeLimits,
} from "./lib/protocol/commands.ts";
import type {
  AckEvent,
  ChatEvent,
  DmEvent,
  Event,
  HistoryEvent,
  LogEvent,
} from "./lib/protocol/events.ts";
import { type Rate, TokenBucket } from "./lib/rate_limit.ts";
import { JoinNotices, joinNotices } from "./lib/room/notices.ts";
import { Permissions } from "./lib/room/permissions.ts";
import { RecentEvents, TAIL } from "./lib/room/recent.ts";
import { CROWD, type JoinRequest, Member, roleIn, Room } from "./lib/room/room.ts";

/** Every bound the hub keeps. */
export interface HubLimits extends OutboxLimits, SizeLimits {
  /** Rooms alive at a time; `Infinity` for no limit. */
  readonly maxRooms: number;
  /** Messages sent to a member that joins. */
  readonly historySize: number;
  /** Frames that one connection may send. */
  readonly messageRate: Rate;
}

/** What a {@linkcode Hub} is made of. */
export interface HubOptions {
  readonly engine: Engine;
  readonly limits: HubLimits;
  readonly log: Logger;
  /** The time in milliseconds. It must not go backwards. */
  readonly clock: () => number;
  /** The time in milliseconds since 1970. */
  readonly date: () => number;
  /** Calls back once, when the present turn of the event loop ends. */
  readonly defer: (callback: () => void) => void;
  /** Calls back once, after so many milliseconds. */
  readonly after: (ms: number, callback: () => void) => void;
  /** A new id, unique for ever. */
  readonly newId: () => string;
}

/** How long an empty room is kept for those on their way into it, in milliseconds. */
export const EMPTY_ROOM_MS = 10_000;

/** How long somebody types who does not say so again, in milliseconds. */
export const TYPING_MS = 5000;

/** Events read from the log at a time for somebody who missed more, and how long until the next. */
const CATCH_UP_PAGE = 64;
const CATCH_UP_MS = 20;

/** For how long it must be quiet before connections are closed, and how long that is waited for. */
const QUIET_MS = 50;
const MAX_QUIET_WAIT_MS = 500;

/** How many frames in a row may be refused because a member sends too many: then it is let go. */
const MAX_REFUSALS = 100;

/** Most private messages sent to somebody who comes back. */
const MAX_MISSED_PRIVATE = 1000;

/** Rooms, members, presence, delivery and sweep. */
export class Hub {
  readonly #options: HubOptions;
  readonly #rooms = new Map<string, Room>();
  readonly #delivery: Delivery;
  readonly #notices: JoinNotices;
  readonly #settings: Permissions;
  /** How many commands the engine has not answered yet. */
  #underWay = 0;
  #onAllAnswered: () => void = () => {};
  /** Whether nobody may join any more, and then, whether nobody is heard any more. */
  #isDraining = false;
  #isDeaf = false;
  /** When something last came in, in milliseconds. */
  #receivedAt = -Infinity;
  /** Ends the subscription to what concerns no single room. */
  readonly #unsubscribe: Promise<() => void>;

  constructor(options: HubOptions) {
    this.#options = options;
    this.#delivery = new Delivery({ ...options, onTooSlow: (member) => this.#evict(member) });
    this.#notices = new JoinNotices({ ...options, delivery: this.#delivery });
    this.#settings = new Permissions(options.engine);
    this.#unsubscribe = options.engine.bus.subscribe(EVERYWHERE, (news) => this.#onNotice(news));
  }

  /**
   * Says whether somebody could join now.
   *
   * @throws {ChatError} `name_in_use`, `forbidden`, `full` or `unavailable`
   */
  check(request: JoinRequest): void {
    if (this.#isDraining) {
      throw restarting();
    }
    const room = this.#rooms.get(request.room);
    if (room === undefined && this.#isFull && this.#emptyRoom() === undefined) {
      throw new ChatError("full", "There are too many rooms. Try again later.");
    }
    const { username, identity } = request;
    const user = username === undefined ? undefined : room?.users.get(nameKey(username));
    if (user !== undefined && user.person !== identity.person) throw nameInUse();
    const reason = room?.reasonToRefuse(request);
    if (reason !== undefined) throw reason;
  }

  /**
   * Makes ready for a join: the room is loaded, and kept for {@linkcode EMPTY_ROOM_MS}.
   *
   * @throws {ChatError} as {@linkcode Hub.check} does
   */
  async admit(request: JoinRequest): Promise<void> {
    this.check(request);
    const room = this.#rooms.get(request.room) ?? this.#open(request.room);
    room.emptySince = this.#options.clock();
    await room.ready;
    this.check(request);
  }

  /**
   * Makes a peer a member, tells the room, and sends the peer what it missed, or the room's newest
   * messages.
   *
   * @throws {ChatError} as {@linkcode Hub.check} does, and if {@linkcode Hub.admit} was not
   *   awaited shortly before
   */
  join(peer: Peer, request: JoinRequest): Member {
    this.check(request);
    const room = this.#rooms.get(request.room);
    if (room === undefined) {
      throw new ChatError("unavailable", "Joining took too long. Try again.");
    }
    const { limits, newId, engine, clock } = this.#options;
    const member = new Member(newId(), peer, room, request, {
      outbox: new Outbox(peer, limits),
      allowance: new TokenBucket(limits.messageRate, clock()),
    });
    room.seat(member);
    if (member.username === undefined) {
      // The raw relay carries what is said from now on and nothing else.
      this.#delivery.goLive(member);
    } else {
      const { id: connection, username, person } = member;
      const presence = { connection, username, person };
      engine.bus.enter(room.name, presence).catch((error) => this.#expel(member, error));
    }
    return member;
  }

  /** Handles one text frame of a member. Never throws. */
  receive(member: Member, text: string): void {
    if (member.isGone || this.#isDeaf) return;
    const { clock, limits } = this.#options;
    this.#receivedAt = clock();
    const reason = this.#reasonToGo(member);
    if (reason !== undefined) return this.#expel(member, reason);
    // Only a pause makes it good: one token among many refusals does not.
    if (member.allowance.isFull(this.#receivedAt)) member.refusals = 0;
    const seconds = member.allowance.take(this.#receivedAt);
    if (seconds > 0) member.refusals++;
    if (member.refusals > MAX_REFUSALS) {
      return this.#expel(member, rateLimited("messages at once", seconds));
    }
    // What is refused is not read: that alone would cost more than it costs to send.
    if (seconds > 0) {
      return this.#refuse(member, rateLimited("messages at once", seconds).withRef(peekRef(text)));
    }
    try {
      this.#carryOut(member, decode(text, member.format, limits));
    } catch (error) {
      this.#refuse(member, error);
    }
  }

  /**
   * Changes who may come into a room, and lets those go who no longer may.
   *
   * @throws {ChatError} `forbidden`, `not_found` or `bad_request`
   */
  changeRoom(room: string, identity: Identity, change: RoomChange): Promise<RoomSettings> {
    return this.#settings.change(room, identity, change);
  }

  /** Takes a member out of its room and tells those left. Done once, however often it is asked. */
  leave(member: Member): void {
    if (member.isGone) return;
    member.isGone = true;
    const { room, username } = member;
    room.unseat(member);
    if (room.members.size === 0) room.emptySince = this.#options.clock();
    if (username === undefined) return;
    this.#setTyping(member, false);
    this.#options.engine.bus.leave(room.name, member.id);
  }

  /** Takes a member out, then closes its connection. It is not waited for. */
  dismiss(member: Member, close: CloseReason): void {
    this.leave(member);
    member.peer.close(close.code, close.reason);
  }

  /**
   * Removes members that cannot keep up and those whose session has ended by itself, forgets empty
   * rooms and who no longer types, and tells the engine that this process is alive. To be called
   * every second or so.
   */
  sweep(): void {
    const { clock, engine, log } = this.#options;
    const now = clock();
    engine.bus.renew().catch((error) => log.error("no renewal", errorFields(error)));
    for (const room of this.#rooms.values()) {
      for (const member of room.members.values()) {
        if (member.outbox.isOverdue(now)) this.#evict(member);
        else if (this.#hasExpired(member)) this.#expel(member, sessionEnded());
      }
      for (const { username, until } of room.typing.values()) {
        if (until <= now) this.#stopTyping(room, username, "");
      }
      if (room.members.size === 0 && now - room.emptySince >= EMPTY_ROOM_MS) this.#forget(room);
    }
  }

  /**
   * Ends it all: nobody joins any more, who is speaking may finish, what was accepted is delivered,
   * and every member is told that the server restarts. Takes half a second and what the engine takes.
   */
  async drain(): Promise<void> {
    this.#isDraining = true;
    // The runtime drops a connection at once, and what it was sent with it, if something comes in
    // after its close was asked for. So wait until those who are speaking have finished.
    const { clock, after } = this.#options;
    const end = clock() + MAX_QUIET_WAIT_MS;
    while (clock() < end && clock() - this.#receivedAt < QUIET_MS) {
      await new Promise<void>((resolve) => after(QUIET_MS / 2, resolve));
    }
    this.#isDeaf = true;
    (await this.#unsubscribe)();
    if (this.#underWay > 0) {
      await new Promise<void>((resolve) => this.#onAllAnswered = resolve);
    }
    this.#delivery.flush();
    for (const room of this.#rooms.values()) {
      for (const member of room.members.values()) {
        member.isGone = true;
        member.peer.close(CLOSE.restart.code, CLOSE.restart.reason);
        this.#options.engine.bus.leave(room.name, member.id);
      }
      this.#forget(room);
    }
  }

  // Rooms and the news of the engine

  get #isFull(): boolean {
    return this.#rooms.size >= this.#options.limits.maxRooms;
  }

  /** A room with nobody in it: kept for somebody on the way, but not at the cost of others. */
  #emptyRoom(): Room | undefined {
    for (const room of this.#rooms.values()) if (room.members.size === 0) return room;
    return undefined;
  }

  /** Loads a room. */
  #open(name: string): Room {
    const { clock, log } = this.#options;
    const empty = this.#isFull ? this.#emptyRoom() : undefined;
    if (empty !== undefined) this.#forget(empty);
    const room = new Room(name, clock());
    this.#rooms.set(name, room);
    room.ready = this.#load(room).catch((error) => {
      this.#forget(room);
      log.error("room cannot be loaded", { room: name, ...errorFields(error) });
      throw new ChatError("unavailable", "The room cannot be loaded now. Try again later.");
    });
    return room;
  }

  async #load(room: Room): Promise<void> {
    const { engine, limits: { historySize } } = this.#options;
    const open = await engine.open(room.name, { events: TAIL, messages: historySize });
    room.unsubscribe = () => open.close();
    // It may have been given up meanwhile.
    if (this.#rooms.get(room.name) !== room) return open.close();
    room.settings = open.settings;
    room.epoch = open.state.epoch;
    room.lastSeq = open.state.lastSeq;
    room.tail = new RecentEvents(historySize, open.events, open.messages);
    for (const presence of open.present) room.add(presence);
    open.listen((event) => this.#onNews(room, event));
  }

  #forget(room: Room): void {
    room.unsubscribe();
    this.#notices.forget(room);
    // Another may have been opened under its name since it was given up.
    if (this.#rooms.get(room.name) === room) this.#rooms.delete(room.name);
  }

  #onNews(room: Room, news: EngineEvent): void {
    switch (news.type) {
      case "logged": {
        const { event, json, origin } = news;
        if (event.seq <= room.lastSeq) return;
        const outgoing = new EncodedEvent(event, { json, origin });
        room.remember(event, outgoing.text("v1")!);
        return this.#delivery.tell(room, outgoing);
      }
      case "private":
        return this.#onPrivate(room, news.message, news.origin);
      case "typing": {
        const { username, isActive: active } = news;
        this.#delivery.tell(room, {
          type: "typing",
          content: "",
          room: room.name,
          username,
          active,
        });
        return;
      }
      case "entered":
        return this.#onEntered(room, news.presence);
      case "left":
        return this.#onLeft(room, news.presence);
      case "kicked":
        return this.#onKicked(room, news.key, news.reason);
      case "settings":
        room.settings = news.settings;
        for (const member of room.members.values()) {
          const reason = this.#reasonToGo(member);
          if (reason !== undefined) this.#expel(member, reason);
        }
    }
  }

  /** Handles what concerns no single room. */
  #onNotice(news: EngineEvent): void {
    for (const room of this.#rooms.values()) {
      for (const member of room.members.values()) {
        const { account } = member.identity;
        if (news.type === "token_ended" && account?.tokenHash === news.hash) {
          this.#expel(member, sessionEnded());
        }
        if (news.type === "registered" && account === undefined && isCalled(member, news.key)) {
          this.#expel(member, nameBelongsToAccount());
        }
      }
    }
  }

  #onKicked(room: Room, key: string, reason: string | undefined): void {
    const sentence = "You were removed from this room" + (reason ? `: ${reason}` : ".");
    for (const id of [...room.users.get(key)?.connections ?? []]) {
      const member = room.members.get(id);
      if (member !== undefined) this.#expel(member, new ChatError("forbidden", sentence));
    }
  }

  #onPrivate(room: Room, message: PrivateMessage, origin: string): void {
    const { from, to, fromSeq, toSeq } = message;
    const sides = [{ owner: to, seq: toSeq }, { owner: from, seq: fromSeq }];
    for (const { owner, seq } of sides) {
      const user = room.users.get(nameKey(owner.username));
      if (user?.person !== owner.person) continue;
      const news = new EncodedEvent(toDm(room.name, message, seq));
      for (const id of user.connections) {
        const member = room.members.get(id);
        if (member === undefined || id === origin) continue;
        if (member.isLive) this.#delivery.tellAside(member, news);
        else member.held.push(news);
      }
    }
  }

  #onEntered(room: Room, presence: Presence): void {
    const isNew = room.add(presence);
    const member = room.members.get(presence.connection);
    if (member?.isReturning) {
      if (isNew) this.#notices.joined(room, presence.username);
      this.#welcomeBack(member, isNew);
      return;
    }
    // A welcome comes before everything else, the news of one's own coming included.
    if (member !== undefined) this.#delivery.goLive(member);
    if (member?.format === "v1") this.#delivery.tellAside(member, this.#welcome(member, false, 0));
    if (isNew) this.#notices.joined(room, presence.username);
    if (member !== undefined) {
      for (const news of room.tail.history()) this.#delivery.tellAside(member, news);
    }
  }

  #onLeft(room: Room, presence: Presence): void {
    if (room.remove(presence)) this.#notices.left(room, presence.username);
  }

  // Welcome, and welcome back

  #welcome(member: Member, recovered: boolean, inboxSeq: number): EncodedEvent {
    const { room, identity, username = "" } = member;
    const { maxMessageBytes, maxFrameBytes } = this.#options.limits;
    const orNull = (limit: number) => limit === Infinity ? null : limit;
    return new EncodedEvent({
      type: "welcome",
      content: "",
      room: room.name,
      username,
      session: identity.secret ?? "",
      role: roleIn(room.settings, identity),
      private: room.settings.isPrivate,
      epoch: room.epoch,
      seq: room.lastSeq,
      inbox_seq: inboxSeq,
      recovered,
      users: room.userEntries(),
      online: room.users.size,
      limits: {
        max_message_bytes: orNull(maxMessageBytes),
        max_frame_bytes: orNull(maxFrameBytes),
      },
    });
  }

  /**
   * Welcomes somebody who was here before: what was missed follows, once and in order, if all of it
   * is still there; else the newest messages. Only then is the member live.
   */
  async #welcomeBack(member: Member, isNew: boolean): Promise<void> {
    const { room, person, request: { resume } } = member;
    try {
      const state = await this.#options.engine.log.state(room.name);
      const { isWhole, entries, lastSeq } = await this.#missedPrivate(member, state.epoch);
      if (member.isGone) return;
      const recovered = resume !== undefined && isWhole && resume.epoch === state.epoch &&
        resume.after <= state.lastSeq && resume.after >= state.oldestSeq - 1;
      // As of now, not as of its coming: who came in between is no news for it.
      const first = [this.#welcome(member, recovered, lastSeq)];
      if (isNew && room.users.size <= CROWD) {
        const notices = joinNotices(room, member.username!);
        first.push(...notices.map((notice) => new EncodedEvent(notice)));
      }
      let rest: EncodedEvent[] | undefined;
      if (recovered) {
        // Nothing is awaited between the last look at the tail and the going live.
        let isPaged = false;
        for (let seq = resume.after; (rest = room.tail.last(room.lastSeq - seq)) === undefined;) {
          seq = await this.#sendPage(member, first.splice(0), seq);
          if (member.isGone) return;
          isPaged = true;
        }
        // Who came and went meanwhile.
        if (isPaged) first.push(new EncodedEvent(room.onlineUsers()));
      } else rest = room.tail.history();
      const old = recovered ? {} : { history: true } as const;
      const missed = entries.map(({ message, inboxSeq }) =>
        new EncodedEvent({ ...toDm(room.name, message, inboxSeq), ...old })
      );
      // What came in the meantime and was not read from the inbox.
      const held = member.held.filter(({ event }) => (event as DmEvent).inbox_seq > lastSeq);
      this.#delivery.sendNow(member, [...first, ...rest, ...missed, ...held]);
      member.held = [];
      this.#delivery.goLive(member);
    } catch (error) {
      this.#options.log.error("member cannot be welcomed back", { person, ...errorFields(error) });
      this.#expel(member, new ChatError("unavailable", "The room cannot be read. Try again."));
    }
  }

  /** The private messages that somebody who comes back is sent, and whether they are all. */
  async #missedPrivate({ room, person, request: { resume } }: Member, epoch: string) {
    const { engine, limits } = this.#options;
    const last = await engine.log.inboxSeq(room.name, person);
    const asked = resume === undefined ? 0 : resume.inbox ?? last;
    // A number of another epoch, or one that was never given, says nothing.
    const isKnown = resume !== undefined && resume.epoch === epoch && asked <= last;
    const wantsAny = resume === undefined || resume.inbox !== undefined;
    const after = isKnown
      ? Math.max(asked, last - MAX_MISSED_PRIVATE)
      : wantsAny
      ? Math.max(0, last - limits.historySize)
      : last;
    const entries = await engine.log.inbox(room.name, person, after, MAX_MISSED_PRIVATE);
    const lastSeq = entries.at(-1)?.inboxSeq ?? last;
    return { entries, lastSeq, isWhole: isKnown && entries.length >= last - asked };
  }

  /**
   * Sends a member the next page of what it missed, and waits until it has taken it.
   *
   * @returns up to where it has been sent the log now
   */
  async #sendPage(member: Member, first: EncodedEvent[], after: number): Promise<number> {
    const page = await this.#options.engine.log.events(member.room.name, after, CATCH_UP_PAGE);
    if (member.isGone) return after;
    if (page[0]?.seq !== after + 1) throw new Error("The log was cut while it was read.");
    this.#delivery.sendNow(member, [...first, ...page.map((event) => new EncodedEvent(event))]);
    // No more than a page waits for a slow reader; the sweep sees to one that reads nothing.
    while (!member.isGone && member.peer.bufferedAmount > 0) {
      await new Promise<void>((resolve) => this.#options.after(CATCH_UP_MS, resolve));
    }
    return page.at(-1)!.seq;
  }

  // Commands

  #carryOut(member: Member, command: Command): void {
    const { ref } = command;
    const { engine } = this.#options;
    const { room: { name: room }, username = ANONYMOUS, person, id: origin } = member;
    const author = { username, person, origin };
    const toPlaceAck = ({ event: { id, seq, timestamp }, isDuplicate }: Receipt<LogEvent>) =>
      toAck(room, ref, { id, seq, timestamp }, isDuplicate);
    const toDoneAck = () => toAck(room, ref);
    switch (command.type) {
      case "chat": {
        this.#setTyping(member, false);
        const stored = engine.log.append(room, { ...author, content: command.content, ref });
        return this.#answer(member, ref, stored, toPlaceAck);
      }
      case "edit": {
        const { id, content } = command;
        const stored = engine.log.change(room, { ...author, type: "edit", id, content });
        return this.#answer(member, ref, stored, toPlaceAck);
      }
      case "delete": {
        const isModerator = roleIn(member.room.settings, member.identity) !== "member";
        const stored = engine.log.change(room, {
          ...author,
          type: "delete",
          id: command.id,
          isModerator,
        });
        return this.#answer(member, ref, stored, toPlaceAck);
      }
      case "dm":
        return this.#answer(member, ref, this.#whisper(member, command), (ack) => ack);
      case "kick":
        return this.#answer(member, ref, this.#kick(member, command), toDoneAck);
      case "room": {
        const changed = this.changeRoom(room, member.identity, command);
        return this.#answer(member, ref, changed, toDoneAck);
      }
      case "history":
        return this.#answer(member, ref, this.#readHistory(member.room, command), (page) => page);
      case "typing":
        return this.#setTyping(member, command.active);
      case "ping":
        return this.#delivery.tellAside(member, {
          type: "pong",
          content: "",
          room,
          username: "",
          ...withRef(ref),
        });
    }
  }

  /** Answers a command when the engine has carried it out, or says why it has not. */
  #answer<T>(
    member: Member,
    ref: string | undefined,
    result: Promise<T>,
    toEvent: (result: T) => Event | undefined,
  ): void {
    this.#underWay++;
    result.then((value) => {
      const event = toEvent(value);
      if (event !== undefined && !member.isGone) this.#delivery.tellAside(member, event);
      this.#answered();
    }, (error) => {
      this.#refuse(member, this.#toRefusal(error, ref));
      this.#answered();
    });
  }

  #answered(): void {
    if (--this.#underWay === 0) this.#onAllAnswered();
  }

  /** What a client is told of an error. */
  #toRefusal(error: unknown, ref: string | undefined): ChatError {
    if (error instanceof ChatError) return error.withRef(ref);
    this.#options.log.error("command failed", errorFields(error));
    return storeUnavailable().withRef(ref);
  }

  async #whisper(member: Member, { to, content, ref }: DmCommand): Promise<AckEvent | undefined> {
    const { room, username = ANONYMOUS, person, id: origin } = member;
    const receiver = room.users.get(nameKey(to));
    if (receiver?.person === person) {
      throw new ChatError("bad_request", "A private message goes to somebody else.");
    }
    const draft = { username, person, origin, content, ref, to: receiver };
    const { event, isDuplicate } = await this.#options.engine.log.whisper(room.name, draft);
    const { id, fromSeq: inbox_seq, timestamp } = event;
    return toAck(room.name, ref, { id, inbox_seq, timestamp }, isDuplicate);
  }

  async #kick(
    { room, identity }: Member,
    { username, reason, ban }: KickCommand,
  ): Promise<void> {
    if (roleIn(room.settings, identity) === "member") throw notModerator();
    const key = nameKey(username);
    const user = room.users.get(key);
    if (user === undefined) throw nobodyWithName();
    if (user.person === identity.person || user.person === `account:${room.settings.owner}`) {
      throw new ChatError("forbidden", "The room's owner and you yourself cannot be removed.");
    }
    await this.#options.engine.bus.publish(room.name, { type: "kicked", key, reason });
    if (ban) await this.#settings.ban(room.name, { key, person: user.person });
  }

  async #readHistory(room: Room, command: HistoryCommand): Promise<HistoryEvent> {
    const { before, after, limit, ref } = command;
    const range = { before, after, limit: limit + 1 };
    const found = await this.#options.engine.log.messages(room.name, range);
    return {
      type: "history",
      content: "",
      room: room.name,
      username: "",
      epoch: room.epoch,
      ...cutPage(found, limit, after !== undefined),
      ...withRef(ref),
    };
  }

  #setTyping({ room, username, id }: Member, isActive: boolean): void {
    if (username === undefined) return;
    const key = nameKey(username);
    if (!isActive) {
      if (room.typing.has(key)) this.#stopTyping(room, username, id);
      return;
    }
    const isNews = !room.typing.has(key);
    room.typing.set(key, { username, until: this.#options.clock() + TYPING_MS });
    if (isNews) this.#publishTyping(room, username, true, id);
  }

  #stopTyping(room: Room, username: string, origin: string): void {
    room.typing.delete(nameKey(username));
    this.#publishTyping(room, username, false, origin);
  }

  #publishTyping(room: Room, username: string, isActive: boolean, origin: string): void {
    const { engine, log } = this.#options;
    engine.bus.publish(room.name, { type: "typing", username, isActive, origin }).catch((error) =>
      log.error("typing cannot be told", errorFields(error))
    );
  }

  // Permissions and refusals

  /** Why a member may no longer be where it is, if so. Asked before each of its commands. */
  #reasonToGo(member: Member): ChatError | undefined {
    if (this.#hasExpired(member)) return sessionEnded();
    return member.room.reasonToRefuse(member.request);
  }

  #hasExpired({ identity: { account } }: Member): boolean {
    return account !== undefined && account.expiresAt <= this.#options.date();
  }

  /** Tells a member why a frame is refused. A frame that is too big also ends its connection. */
  #refuse(member: Member, error: unknown): void {
    if (member.isGone) return;
    if (!(error instanceof ChatError)) {
      this.#options.log.error("frame cannot be handled", errorFields(error));
      this.dismiss(member, CLOSE.internal);
      return;
    }
    this.#options.log.info("frame refused", { room: member.room.name, code: error.code });
    if (error.code === "too_big") this.#expel(member, error);
    else this.#delivery.tellAside(member, toErrorEvent(member.room.name, error));
  }

  /** Tells a member why it cannot stay, after all that was under way to it, and closes. */
  #expel(member: Member, error: unknown): void {
    if (member.isGone) return;
    if (!(error instanceof ChatError)) return this.#refuse(member, error);
    this.#delivery.deliver(member.audience);
    this.#delivery.sendNow(member, [toErrorEvent(member.room.name, error)]);
    this.dismiss(member, ERROR_CLOSE[error.code]);
  }

  #evict(member: Member): void {
    if (member.isGone) return;
    const { username, room } = member;
    this.#options.log.warn("member evicted", { room: room.name, username });
    this.dismiss(member, CLOSE.tooSlow);
  }
}

function withRef(ref: string | undefined): { ref?: string } {
  return ref === undefined ? {} : { ref };
}

/** The answer to a command that asks for one: it does so by a `ref`. */
function toAck(
  room: string,
  ref: string | undefined,
  fields: Pick<AckEvent, "id" | "seq" | "inbox_seq" | "timestamp"> = {},
  isDuplicate = false,
): AckEvent | undefined {
  if (ref === undefined) return undefined;
  const base = { type: "ack", content: "", room, username: "", ref } as const;
  return { ...base, ...fields, ...(isDuplicate && { duplicate: true }) };
}

function toErrorEvent(room: string, error: ChatError): EncodedEvent {
  const { message: content, code, ref, retryAfter } = error;
  return new EncodedEvent({
    type: "error",
    content,
    room,
    username: "",
    code,
    ...(retryAfter !== undefined && { retry_after: retryAfter }),
    ...withRef(ref),
  });
}

function isCalled({ username }: Member, key: string): boolean {
  return username !== undefined && nameKey(username) === key;
}

/** Most UTF-8 bytes of texts in a page of messages. One message may be longer. */
const MAX_PAGE_BYTES = 32 * 1024;

/** Cuts a page to the messages that were asked for and that fit one frame, nearest first. */
function cutPage(found: readonly ChatEvent[], limit: number, isForward: boolean) {
  const nearest = isForward ? found : found.toReversed();
  let count = 0;
  let bytes = 0;
  for (const { content } of nearest) {
    bytes += Buffer.byteLength(content);
    if (count === limit || (count > 0 && bytes > MAX_PAGE_BYTES)) break;
    count++;
  }
  const messages = nearest.slice(0, count);
  if (!isForward) messages.reverse();
  return { messages, more: count < found.length };
}

function toDm(room: string, message: PrivateMessage, inboxSeq: number): DmEvent {
  const { id, content, from, to, timestamp } = message;
  const base = { type: "dm", content, room, username: from.username, to: to.username } as const;
  return { ...base, id, inbox_seq: inboxSeq, timestamp };
}
