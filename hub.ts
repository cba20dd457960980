/**
 * The heart: rooms, their members, and what each member is sent.
 *
 * The way of a message, in one direction:
 *
 *     receive -> decode -> engine.append -> the room's log -> pending -> flush -> outbox -> peer
 *
 * What happens in a room during one turn of the event loop is gathered in `room.pending` and
 * flushed at the turn's end: a `chat.v1` member gets one frame for all of it, a plain client one for
 * each event. Nobody is sent anything in between, so a member that leaves, or is removed because it
 * is too slow, never disturbs a delivery that is under way.
 *
 * The hub knows no sockets, no HTTP, no storage and no timers: a peer is what can be sent to, the
 * engine remembers, and the clock, the end of a turn and the sweep come from outside.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import type { Identity } from "./lib/accounts.ts";
import {
  type Engine,
  EVERYWHERE,
  type LogEvent,
  type News,
  type Presence,
  type PrivateMessage,
  type Receipt,
  type RoomSettings,
} from "./lib/engine.ts";
import { errorFields, type Logger } from "./lib/logger.ts";
import { ANONYMOUS, LOBBY, NameError, nameKey, parseName } from "./lib/names.ts";
import { Outbox, type OutboxLimits, type Peer } from "./lib/outbox.ts";
import { Batch, Outgoing, toFrames } from "./lib/outgoing.ts";
import {
  type AckEvent,
  type ChatEvent,
  CLOSE,
  type CloseReason,
  type Command,
  decode,
  type DmCommand,
  type DmEvent,
  ERROR_CLOSE,
  type Event,
  type HistoryCommand,
  type HistoryEvent,
  type KickCommand,
  peekRef,
  ProtocolError,
  type RoomChange,
  type SizeLimits,
} from "./lib/protocol.ts";
import { type Rate, TokenBucket } from "./lib/rate_limit.ts";
import { CROWD, type JoinRequest, Member, roleIn, Room, TAIL } from "./lib/room.ts";

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

/** For how long the notices of a crowd are gathered: so much for each user, and no less. */
const GATHER_MS_PER_USER = 1 / 40;
const MIN_GATHER_MS = 50;

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

/** Most rooms that one account may own, and most bans of one room: then the oldest is forgotten. */
const MAX_OWNED_ROOMS = 100;
const MAX_BANS = 1000;

/** Most private messages sent to somebody who comes back. */
const MAX_MISSED_PRIVATE = 1000;

/** Rooms, members, presence, delivery and sweep. */
export class Hub {
  readonly #options: HubOptions;
  /** Names this process for the engine. */
  readonly #instance: string;
  readonly #rooms = new Map<string, Room>();
  /** Rooms with something to deliver at the end of this turn. */
  #dirty = new Set<Room>();
  /** Rooms whose next `presence` is gathered. */
  readonly #gathering = new Set<Room>();
  /** When the timer for the next of them goes off, in milliseconds. */
  #timerDue = Infinity;
  /** Resolves when the last change of a room's settings is done. */
  #lastChange: Promise<unknown> = Promise.resolve();
  /** How many commands the engine has not answered yet. */
  #underWay = 0;
  #onAllAnswered: () => void = () => {};
  /** Whether nobody may join any more, and then, whether nobody is heard any more. */
  #isDraining = false;
  #isDeaf = false;
  /** When something last came in, in milliseconds. */
  #receivedAt = -Infinity;
  /** Ends the subscription to what concerns no single room. */
  readonly #unsubscribe: () => void;

  constructor(options: HubOptions) {
    this.#options = options;
    this.#instance = options.newId();
    this.#unsubscribe = options.engine.subscribe(EVERYWHERE, (news) => this.#onNotice(news));
  }

  /**
   * Says whether somebody could join now.
   *
   * @throws {ProtocolError} `name_in_use`, `forbidden`, `full` or `unavailable`
   */
  check(request: JoinRequest): void {
    if (this.#isDraining) {
      throw new ProtocolError("unavailable", "The server is restarting. Try again in a moment.");
    }
    const room = this.#rooms.get(request.room);
    if (room === undefined && this.#rooms.size >= this.#options.limits.maxRooms) {
      throw new ProtocolError("full", "There are too many rooms. Try again later.");
    }
    const { username, identity } = request;
    const user = username === undefined ? undefined : room?.users.get(nameKey(username));
    if (user !== undefined && user.person !== identity.person) {
      throw new ProtocolError("name_in_use", "This name is in use in this room. Choose another.");
    }
    const reason = room?.reasonToRefuse(request);
    if (reason !== undefined) throw reason;
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
    this.check(request);
  }

  /**
   * Makes a peer a member, tells the room, and sends the peer what it missed, or the room's newest
   * messages.
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
    const { limits, newId, engine, clock } = this.#options;
    const member = new Member(newId(), peer, room, request, {
      outbox: new Outbox(peer, limits),
      allowance: new TokenBucket(limits.messageRate, clock()),
    });
    room.members.set(member.id, member);
    if (member.username === undefined) {
      // The raw relay carries what is said from now on and nothing else.
      this.#goLive(member);
    } else {
      const { id: connection, username, person } = member;
      const presence = { connection, username, person, instance: this.#instance };
      engine.enter(room.name, presence).catch((error) => this.#expel(member, error));
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
    if (member.refusals > MAX_REFUSALS) return this.#expel(member, tooMuch(seconds));
    // What is refused is not read: that alone would cost more than it costs to send.
    if (seconds > 0) return this.#refuse(member, tooMuch(seconds, peekRef(text)));
    try {
      this.#carryOut(member, decode(text, member.format, limits));
    } catch (error) {
      this.#refuse(member, error);
    }
  }

  /**
   * Changes who may come into a room, and lets those go who no longer may.
   *
   * @throws {ProtocolError} `forbidden`, `not_found` or `bad_request`
   */
  changeRoom(room: string, identity: Identity, change: RoomChange): Promise<RoomSettings> {
    return this.#changeSettings(room, async (before) => {
      const owner = await this.#checkChange(room, before, identity);
      const unbanned = new Set(change.unban?.map(nameKey));
      return {
        owner,
        isPrivate: change.private ?? before.isPrivate,
        members: change.members ? await this.#accountKeys(change.members) : before.members,
        bans: before.bans.filter(({ key }) => !unbanned.has(key)),
      };
    });
  }
  /** Takes a member out of its room and tells those left. Done once, however often it is asked. */
  leave(member: Member): void {
    if (member.isGone) return;
    member.isGone = true;
    const { room, username } = member;
    room.members.delete(member.id);
    if (room.members.size === 0) room.emptySince = this.#options.clock();
    if (username === undefined) return;
    this.#setTyping(member, false);
    this.#options.engine.leave(room.name, member.id).catch((error) => {
      this.#options.log.error("leaving cannot be told", errorFields(error));
    });
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
    engine.renew(this.#instance).catch((error) => log.error("no renewal", errorFields(error)));
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
    this.#unsubscribe();
    if (this.#underWay > 0) {
      await new Promise<void>((resolve) => this.#onAllAnswered = resolve);
    }
    this.#flush();
    for (const room of this.#rooms.values()) {
      for (const member of room.members.values()) {
        member.isGone = true;
        member.peer.close(CLOSE.restart.code, CLOSE.restart.reason);
        this.#options.engine.leave(room.name, member.id).catch(() => {});
      }
      this.#forget(room);
    }
  }

  // Rooms and the news of the engine

  /** Loads a room. The subscription comes first, so that nothing falls between it and the reading. */
  #open(name: string): Room {
    const { engine, clock, log } = this.#options;
    const room = new Room(name, clock());
    this.#rooms.set(name, room);
    const early: News[] = [];
    let isLoaded = false;
    room.unsubscribe = engine.subscribe(name, (news) => {
      if (isLoaded) this.#onNews(room, news);
      else early.push(news);
    });
    room.ready = this.#load(room).then(() => {
      isLoaded = true;
      for (const news of early) this.#onNews(room, news);
    }).catch((error) => {
      this.#forget(room);
      log.error("room cannot be loaded", { room: name, ...errorFields(error) });
      throw new ProtocolError("unavailable", "The room cannot be loaded now. Try again later.");
    });
    return room;
  }

  async #load(room: Room): Promise<void> {
    const { engine, limits: { historySize } } = this.#options;
    const { epoch, lastSeq } = await engine.state(room.name);
    const tail = await engine.log(room.name, Math.max(0, lastSeq - TAIL), TAIL);
    // What was stored since is told by the subscription.
    const before = lastSeq + 1;
    const messages = await engine.messages(room.name, { before, limit: historySize });
    room.settings = await engine.settings(room.name);
    room.epoch = epoch;
    room.lastSeq = lastSeq;
    room.tail = tail.filter(({ seq }) => seq <= lastSeq).map((event) => new Outgoing(event));
    room.recent = messages.map((event) => new Outgoing(event));
    for (const presence of await engine.present(room.name)) room.add(presence);
  }

  #forget(room: Room): void {
    room.unsubscribe();
    this.#gathering.delete(room);
    this.#rooms.delete(room.name);
  }

  #onNews(room: Room, news: News): void {
    switch (news.type) {
      case "logged": {
        const { event, origin } = news;
        if (event.seq <= room.lastSeq) return;
        const outgoing = new Outgoing(event, { origin });
        room.remember(outgoing, event, this.#options.limits.historySize);
        room.pending.push(outgoing);
        return this.#schedule(room);
      }
      case "private":
        return this.#onPrivate(room, news.message, news.origin);
      case "typing": {
        const { username, isActive: active } = news;
        this.#tell(room, { type: "typing", content: "", room: room.name, username, active });
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
  #onNotice(news: News): void {
    for (const room of this.#rooms.values()) {
      for (const member of room.members.values()) {
        const { account } = member.identity;
        if (news.type === "session_ended" && account?.tokenHash === news.hash) {
          this.#expel(member, sessionEnded());
        }
        if (news.type === "registered" && account === undefined && isCalled(member, news.key)) {
          const sentence = "This name belongs to an account now. Sign in, or choose another name.";
          this.#expel(member, new ProtocolError("unauthenticated", sentence));
        }
      }
    }
  }

  #onKicked(room: Room, key: string, reason: string | undefined): void {
    const sentence = "You were removed from this room" + (reason ? `: ${reason}` : ".");
    for (const id of [...room.users.get(key)?.connections ?? []]) {
      const member = room.members.get(id);
      if (member !== undefined) this.#expel(member, new ProtocolError("forbidden", sentence));
    }
  }

  #onPrivate(room: Room, message: PrivateMessage, origin: string): void {
    const { from, to, fromSeq, toSeq } = message;
    const sides = [{ owner: to, seq: toSeq }, { owner: from, seq: fromSeq }];
    for (const { owner, seq } of sides) {
      const user = room.users.get(nameKey(owner.username));
      if (user?.person !== owner.person) continue;
      const news = new Outgoing(toDm(room.name, message, seq));
      for (const id of user.connections) {
        const member = room.members.get(id);
        if (member === undefined || id === origin) continue;
        if (member.isLive) this.#tellAside(member, news);
        else member.held.push(news);
      }
    }
  }

  #onEntered(room: Room, presence: Presence): void {
    const isNew = room.add(presence);
    const member = room.members.get(presence.connection);
    if (member?.isReturning) {
      if (isNew) this.#announce(room, presence.username);
      this.#welcomeBack(member, isNew);
      return;
    }
    // A welcome comes before everything else, the news of one's own coming included.
    if (member !== undefined) this.#goLive(member);
    if (member?.format === "v1") this.#tellAside(member, this.#welcome(member, false, 0));
    if (isNew) this.#announce(room, presence.username);
    if (member !== undefined) {
      for (const news of this.#history(room)) this.#tellAside(member, news);
    }
  }

  /** Tells a room that somebody came. */
  #announce(room: Room, username: string): void {
    room.change(username, "joined");
    if (room.users.size > CROWD) return this.#gather(room);
    for (const notice of joinNotices(room, username)) this.#tell(room, notice);
    this.#tell(room, room.takePresence());
  }

  #onLeft(room: Room, presence: Presence): void {
    if (!room.remove(presence)) return;
    const { username } = presence;
    room.change(username, "left");
    if (room.users.size > CROWD) return this.#gather(room);
    const content = `${username} left the room`;
    this.#tell(room, { type: "user_left", content, room: room.name, username });
    this.#tell(room, room.onlineUsers());
    this.#tell(room, room.takePresence());
  }

  /** Lets the notices of a crowd come together for a while, longer the larger it is. */
  #gather(room: Room): void {
    if (room.presenceDue !== undefined) return;
    const ms = Math.max(MIN_GATHER_MS, room.users.size * GATHER_MS_PER_USER);
    room.presenceDue = this.#options.clock() + ms;
    this.#gathering.add(room);
    this.#wakeAt(room.presenceDue);
  }

  /** Sees to it that the one timer goes off in time. */
  #wakeAt(due: number): void {
    if (due >= this.#timerDue) return;
    this.#timerDue = due;
    this.#options.after(due - this.#options.clock(), () => {
      if (this.#timerDue === due) this.#timerDue = Infinity;
      this.#tellGathered();
    });
  }

  #tellGathered(): void {
    const now = this.#options.clock();
    for (const room of this.#gathering) {
      if (room.presenceDue !== undefined && room.presenceDue > now) {
        this.#wakeAt(room.presenceDue);
        continue;
      }
      this.#gathering.delete(room);
      room.presenceDue = undefined;
      if (room.changes.size === 0) continue;
      this.#tell(room, room.takePresence());
      this.#tell(room, room.onlineUsers(), { forPlainOnly: true });
    }
  }

  // Welcome, and welcome back

  #welcome(member: Member, recovered: boolean, inboxSeq: number): Outgoing {
    const { room, identity, username = "" } = member;
    const { maxMessageBytes, maxFrameBytes } = this.#options.limits;
    const orNull = (limit: number) => limit === Infinity ? null : limit;
    return new Outgoing({
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

  #history(room: Room): Outgoing[] {
    return room.history(this.#options.limits.historySize);
  }

  /**
   * Welcomes somebody who was here before: what was missed follows, once and in order, if all of it
   * is still there; else the newest messages. Only then is the member live.
   */
  async #welcomeBack(member: Member, isNew: boolean): Promise<void> {
    const { room, person, request: { resume } } = member;
    try {
      const state = await this.#options.engine.state(room.name);
      const { isWhole, entries, lastSeq } = await this.#missedPrivate(member, state.epoch);
      if (member.isGone) return;
      const recovered = resume !== undefined && isWhole && resume.epoch === state.epoch &&
        resume.after <= state.lastSeq && resume.after >= state.oldestSeq - 1;
      // As of now, not as of its coming: who came in between is no news for it.
      const first = [this.#welcome(member, recovered, lastSeq)];
      if (isNew && room.users.size <= CROWD) {
        const notices = joinNotices(room, member.username!);
        first.push(...notices.map((notice) => new Outgoing(notice)));
      }
      let rest: Outgoing[] | undefined;
      if (recovered) {
        // Nothing is awaited between the last look at the tail and the going live.
        let isPaged = false;
        for (let seq = resume.after; (rest = room.tailAfter(seq)) === undefined;) {
          seq = await this.#sendPage(member, first.splice(0), seq);
          if (member.isGone) return;
          isPaged = true;
        }
        // Who came and went meanwhile.
        if (isPaged) first.push(new Outgoing(room.onlineUsers()));
      } else rest = this.#history(room);
      const old = recovered ? {} : { history: true } as const;
      const missed = entries.map(({ message, inboxSeq }) =>
        new Outgoing({ ...toDm(room.name, message, inboxSeq), ...old })
      );
      // What came in the meantime and was not read from the inbox.
      const held = member.held.filter(({ event }) => (event as DmEvent).inbox_seq > lastSeq);
      this.#sendNow(member, [...first, ...rest, ...missed, ...held]);
      member.held = [];
      this.#goLive(member);
    } catch (error) {
      this.#options.log.error("member cannot be welcomed back", { person, ...errorFields(error) });
      this.#expel(member, new ProtocolError("unavailable", "The room cannot be read. Try again."));
    }
  }

  /** The private messages that somebody who comes back is sent, and whether they are all. */
  async #missedPrivate({ room, person, request: { resume } }: Member, epoch: string) {
    const { engine, limits } = this.#options;
    const last = await engine.inboxSeq(room.name, person);
    const asked = resume === undefined ? 0 : resume.inbox ?? last;
    // A number of another epoch, or one that was never given, says nothing.
    const isKnown = resume !== undefined && resume.epoch === epoch && asked <= last;
    const wantsAny = resume === undefined || resume.inbox !== undefined;
    const after = isKnown
      ? Math.max(asked, last - MAX_MISSED_PRIVATE)
      : wantsAny
      ? Math.max(0, last - limits.historySize)
      : last;
    const entries = await engine.inbox(room.name, person, after, MAX_MISSED_PRIVATE);
    const lastSeq = entries.at(-1)?.inboxSeq ?? last;
    return { entries, lastSeq, isWhole: isKnown && entries.length >= last - asked };
  }

  /**
   * Sends a member the next page of what it missed, and waits until it has taken it.
   *
   * @returns up to where it has been sent the log now
   */
  async #sendPage(member: Member, first: Outgoing[], after: number): Promise<number> {
    const page = await this.#options.engine.log(member.room.name, after, CATCH_UP_PAGE);
    if (member.isGone) return after;
    if (page[0]?.seq !== after + 1) throw new Error("The log was cut while it was read.");
    this.#sendNow(member, [...first, ...page.map((event) => new Outgoing(event))]);
    // No more than a page waits for a slow reader; the sweep sees to one that reads nothing.
    while (!member.isGone && member.peer.bufferedAmount > 0) {
      await new Promise<void>((resolve) => this.#options.after(CATCH_UP_MS, resolve));
    }
    return page.at(-1)!.seq;
  }

  #goLive(member: Member): void {
    const at = member.room.pending.length;
    member.isLive = true;
    member.since = at;
    for (const aside of member.aside) aside.at = at;
    if (member.aside.length > 0) this.#schedule(member.room);
  }

  // Commands

  #carryOut(member: Member, command: Command): void {
    const { ref } = command;
    const { engine } = this.#options;
    const { room: { name: room }, username = ANONYMOUS, person, id: origin } = member;
    const author = { username, person, origin };
    switch (command.type) {
      case "chat": {
        this.#setTyping(member, false);
        const stored = engine.append(room, { ...author, content: command.content, ref });
        return this.#answer(member, ref, stored.then((receipt) => toAck(room, ref, receipt)));
      }
      case "edit": {
        const { id, content } = command;
        const stored = engine.edit(room, { ...author, id, content });
        return this.#answer(member, ref, stored.then((receipt) => toAck(room, ref, receipt)));
      }
      case "delete": {
        const isModerator = roleIn(member.room.settings, member.identity) !== "member";
        const stored = engine.delete(room, { ...author, id: command.id, isModerator });
        return this.#answer(member, ref, stored.then((receipt) => toAck(room, ref, receipt)));
      }
      case "dm":
        return this.#answer(member, ref, this.#whisper(member, command));
      case "kick":
        return this.#answer(member, ref, this.#kick(member, command));
      case "room": {
        const changed = this.changeRoom(room, member.identity, command);
        return this.#answer(member, ref, changed.then(() => toBareAck(room, ref)));
      }
      case "history":
        return this.#answer(member, ref, this.#readHistory(member.room, command));
      case "typing":
        return this.#setTyping(member, command.active);
      case "ping":
        return this.#tellAside(
          member,
          new Outgoing({ type: "pong", content: "", room, username: "", ...withRef(ref) }),
        );
    }
  }

  /** Answers a command when the engine has carried it out, or says why it has not. */
  #answer(member: Member, ref: string | undefined, answer: Promise<Event | undefined>): void {
    this.#underWay++;
    answer.then((event) => {
      if (event !== undefined && !member.isGone) this.#tellAside(member, new Outgoing(event));
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
  #toRefusal(error: unknown, ref: string | undefined): ProtocolError {
    if (error instanceof ProtocolError) {
      return new ProtocolError(error.code, error.message, { ref });
    }
    if (error instanceof NameError) return new ProtocolError("bad_request", error.message, { ref });
    this.#options.log.error("command failed", errorFields(error));
    const sentence = "The server cannot store or read anything now. Try again later.";
    return new ProtocolError("unavailable", sentence, { ref });
  }

  async #whisper(member: Member, { to, content, ref }: DmCommand): Promise<AckEvent | undefined> {
    const { room, username = ANONYMOUS, person, id: origin } = member;
    const receiver = room.users.get(nameKey(to));
    if (receiver?.person === person) {
      throw new ProtocolError("bad_request", "A private message goes to somebody else.");
    }
    const draft = { username, person, origin, content, ref, to: receiver };
    const { event, isDuplicate } = await this.#options.engine.whisper(room.name, draft);
    if (ref === undefined) return undefined;
    return {
      type: "ack",
      content: "",
      room: room.name,
      username: "",
      ref,
      id: event.id,
      inbox_seq: event.fromSeq,
      timestamp: event.timestamp,
      ...(isDuplicate && { duplicate: true }),
    };
  }

  async #kick(
    { room, identity }: Member,
    { username, reason, ban, ref }: KickCommand,
  ): Promise<AckEvent | undefined> {
    if (roleIn(room.settings, identity) === "member") throw notModerator();
    const key = nameKey(username);
    const user = room.users.get(key);
    if (user === undefined) {
      throw new ProtocolError("not_found", "Nobody with this name is in the room.");
    }
    if (user.person === identity.person || user.person === `account:${room.settings.owner}`) {
      throw new ProtocolError("forbidden", "The room's owner and you yourself cannot be removed.");
    }
    await this.#options.engine.publish(room.name, { type: "kicked", key, reason });
    if (ban) {
      await this.#changeSettings(room.name, (before) => {
        const bans = [...before.bans, { key, person: user.person }].slice(-MAX_BANS);
        return Promise.resolve({ ...before, bans });
      });
    }
    return toBareAck(room.name, ref);
  }

  async #readHistory(room: Room, command: HistoryCommand): Promise<HistoryEvent> {
    const { before, after, limit, ref } = command;
    const range = { before, after, limit: limit + 1 };
    const found = await this.#options.engine.messages(room.name, range);
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
    engine.publish(room.name, { type: "typing", username, isActive, origin }).catch((error) =>
      log.error("typing cannot be told", errorFields(error))
    );
  }

  // Permissions and refusals

  /** Changes a room's settings, one change after the other, so that none is lost. */
  #changeSettings(
    room: string,
    change: (before: RoomSettings) => Promise<RoomSettings>,
  ): Promise<RoomSettings> {
    const { engine } = this.#options;
    const changed = this.#lastChange.then(async () => {
      const settings = await change(await engine.settings(room));
      await engine.setSettings(room, settings);
      return settings;
    });
    this.#lastChange = changed.catch(() => {});
    return changed;
  }

  /** Checks that somebody may change a room's settings. Returns whose the room then is. */
  async #checkChange(room: string, settings: RoomSettings, identity: Identity): Promise<string> {
    const { account } = identity;
    const { owner } = settings;
    const role = roleIn(settings, identity);
    if (account === undefined || (role === "member" && owner !== undefined)) throw notModerator();
    if (role !== "admin" && room === LOBBY) {
      throw new ProtocolError("forbidden", "The lobby is for everyone.");
    }
    if (owner !== undefined) return owner;
    if (await this.#options.engine.countOwned(account.key) >= MAX_OWNED_ROOMS) {
      throw new ProtocolError("forbidden", `An account may own ${MAX_OWNED_ROOMS} rooms.`);
    }
    return account.key;
  }

  /** The keys of accounts with these names. */
  async #accountKeys(names: readonly string[]): Promise<string[]> {
    const keys = names.map((name) => nameKey(parseName("username", name)));
    for (const [i, key] of keys.entries()) {
      if (await this.#options.engine.account(key) === undefined) {
        throw new ProtocolError("not_found", `There is no account of the name ${names[i]}.`);
      }
    }
    return keys;
  }

  /** Why a member may no longer be where it is, if so. Asked before each of its commands. */
  #reasonToGo(member: Member): ProtocolError | undefined {
    if (this.#hasExpired(member)) return sessionEnded();
    return member.room.reasonToRefuse(member.request);
  }

  #hasExpired({ identity: { account } }: Member): boolean {
    return account !== undefined && account.expiresAt <= this.#options.date();
  }

  /** Tells a member why a frame is refused. A frame that is too big also ends its connection. */
  #refuse(member: Member, error: unknown): void {
    if (member.isGone) return;
    if (!(error instanceof ProtocolError)) {
      this.#options.log.error("frame cannot be handled", errorFields(error));
      this.dismiss(member, CLOSE.internal);
      return;
    }
    this.#options.log.info("frame refused", { room: member.room.name, code: error.code });
    if (error.code === "too_big") this.#expel(member, error);
    else this.#tellAside(member, toErrorEvent(member.room.name, error));
  }

  /** Tells a member why it cannot stay, after all that was under way to it, and closes. */
  #expel(member: Member, error: unknown): void {
    if (member.isGone) return;
    if (!(error instanceof ProtocolError)) return this.#refuse(member, error);
    this.#deliver(member.room);
    this.#sendNow(member, [toErrorEvent(member.room.name, error)]);
    this.dismiss(member, ERROR_CLOSE[error.code]);
  }

  #evict(member: Member): void {
    if (member.isGone) return;
    const { username, room } = member;
    this.#options.log.warn("member evicted", { room: room.name, username });
    this.dismiss(member, CLOSE.tooSlow);
  }

  // Delivery

  /** Puts down what all members of a room are to be sent. */
  #tell(room: Room, event: Event, { forPlainOnly = false } = {}): Outgoing {
    const news = new Outgoing(event, { forPlainOnly });
    room.pending.push(news);
    this.#schedule(room);
    return news;
  }

  /** Puts down what one member alone is to be sent, after all that has happened so far. */
  #tellAside(member: Member, news: Outgoing): void {
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
    const batch = new Batch(room.pending);
    room.pending = [];
    const now = this.#options.clock();
    const tooSlow: Member[] = [];
    for (const member of room.members.values()) {
      if (!member.isLive) continue;
      if (!this.#send(member, batch, now)) tooSlow.push(member);
      member.since = 0;
      if (member.aside.length > 0) member.aside = [];
    }
    for (const member of tooSlow) this.#evict(member);
  }

  /** Sends a member what is new to it. False if it cannot keep up. */
  #send(member: Member, batch: Batch, now: number): boolean {
    const { outbox, format } = member;
    if (outbox.isOverdue(now)) return false;
    const wasBehind = outbox.isBehind;
    const hasOwn = member.since > 0 || member.aside.length > 0 || !member.echo;
    const frames = hasOwn ? toFrames(ownNews(member, batch.events), format) : batch.frames(format);
    for (const frame of frames) {
      outbox.send(frame, now);
      if (wasBehind && outbox.isOverfull()) return false;
    }
    return true;
  }

  /** Sends a member something before the end of the turn. */
  #sendNow(member: Member, news: readonly Outgoing[]): void {
    const now = this.#options.clock();
    for (const frame of toFrames(news, member.format)) member.outbox.send(frame, now);
  }
}

/** What one member is sent of what happened: what it alone is sent stands in its place. */
function ownNews(member: Member, events: readonly Outgoing[]): Outgoing[] {
  const { aside, since, echo, id } = member;
  const news: Outgoing[] = [];
  let next = 0;
  for (let at = since; at <= events.length; at++) {
    while (next < aside.length && aside[next]!.at <= at) news.push(aside[next++]!.news);
    const event = events[at];
    if (event !== undefined && (echo || event.origin !== id)) news.push(event);
  }
  return news;
}

function withRef(ref: string | undefined): { ref?: string } {
  return ref === undefined ? {} : { ref };
}

/** The answer to a command that asks for one: it does so by a `ref`. */
function toAck(
  room: string,
  ref: string | undefined,
  { event: { id, seq, timestamp }, isDuplicate }: Receipt<LogEvent>,
): AckEvent | undefined {
  if (ref === undefined) return undefined;
  const base = { type: "ack", content: "", room, username: "", ref } as const;
  return { ...base, id, seq, timestamp, ...(isDuplicate && { duplicate: true }) };
}

/** The answer to a command that was carried out and made nothing that has a number. */
function toBareAck(room: string, ref: string | undefined): AckEvent | undefined {
  return ref === undefined ? undefined : { type: "ack", content: "", room, username: "", ref };
}

function toErrorEvent(room: string, error: ProtocolError): Outgoing {
  const { message: content, code, ref, retryAfter } = error;
  return new Outgoing({
    type: "error",
    content,
    room,
    username: "",
    code,
    ...(retryAfter !== undefined && { retry_after: retryAfter }),
    ...withRef(ref),
  });
}

function notModerator(): ProtocolError {
  return new ProtocolError("forbidden", "Only the room's owner or an admin may do this.");
}

function tooMuch(seconds: number, ref?: string): ProtocolError {
  const retryAfter = Math.ceil(seconds * 10) / 10;
  const sentence = `Too many messages at once. Wait ${retryAfter} seconds.`;
  return new ProtocolError("rate_limited", sentence, { ref, retryAfter });
}

function sessionEnded(): ProtocolError {
  return new ProtocolError("unauthenticated", "Your session has ended. Sign in again.");
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

/** What a small room is told of somebody who came. */
function joinNotices(room: Room, username: string): Event[] {
  const content = `${username} joined the room`;
  return [room.onlineUsers(), { type: "user_joined", content, room: room.name, username }];
}

function toDm(room: string, message: PrivateMessage, inboxSeq: number): DmEvent {
  const { id, content, from, to, timestamp } = message;
  const base = { type: "dm", content, room, username: from.username, to: to.username } as const;
  return { ...base, id, inbox_seq: inboxSeq, timestamp };
}
