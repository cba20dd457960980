/**
 * A room that this instance has open, and its members: one for each connection.
 *
 * They hold state and answer questions about it. The hub decides what happens.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { Subscriber } from "../delivery/audience.ts";
import type { EncodedEvent } from "../delivery/batch.ts";
import { Fanout } from "../delivery/fanout.ts";
import type { OutboxLimits, Peer } from "../delivery/outbox.ts";
import type { Schedule } from "../delivery/schedule.ts";
import type { Log, OpenRoom, Presence, RoomSettings } from "../engine/engine.ts";
import type { ChatError } from "../errors.ts";
import type { JoinedMember, JoinRequest } from "../http/rooms.ts";
import type { Meter } from "../meter.ts";
import type { Identity } from "../people/accounts.ts";
import type { CloseReason } from "../protocol/codes.ts";
import { type Format, isWhole } from "../protocol/encode.ts";
import type { Event, LogEvent } from "../protocol/events.ts";
import { type Rate, TokenBucket, type TrafficLimiter } from "../rate_limit.ts";
import { type Visitor, whyForbidden } from "./permissions.ts";
import { RecentEvents } from "./recent.ts";
import { Roster, Typists } from "./roster.ts";

/** A member is disconnected after this many rate-limited frames in a row. */
const MAX_REFUSALS = 100;

/** A member's life. */
type Life =
  /** It receives missed events first; new private messages are queued. */
  | { readonly state: "catching up"; readonly queue: PrivateQueue }
  /** It receives every event of the room. */
  | { readonly state: "live" }
  /** It receives nothing more. */
  | { readonly state: "gone" };

const LIVE: Life = Object.freeze({ state: "live" });
const GONE: Life = Object.freeze({ state: "gone" });

/** Maximum private messages in the queue of a member, and their UTF-16 units. */
const MAX_QUEUED = 64;
const MAX_QUEUED_SIZE = 64 * 1024;

/** The newest private messages for a member that is catching up. The log has the older ones. */
class PrivateQueue {
  readonly #queued: { readonly event: EncodedEvent; readonly inboxSeq: number }[] = [];
  #size = 0;
  #first: number | undefined;
  #lastDropped = 0;

  /** The `inbox_seq` of the first message that was ever added. */
  get first(): number | undefined {
    return this.#first;
  }

  /** The greatest `inbox_seq` of a message that was dropped; 0 if none was. */
  get lastDropped(): number {
    return this.#lastDropped;
  }

  /** Adds a message, and drops the oldest ones beyond the maximum. */
  add(event: EncodedEvent, inboxSeq: number): void {
    this.#first ??= inboxSeq;
    this.#queued.push({ event, inboxSeq });
    this.#size += sizeOf(event);
    while (this.#queued.length > MAX_QUEUED || this.#size > MAX_QUEUED_SIZE) {
      const dropped = this.#queued.shift()!;
      this.#size -= sizeOf(dropped.event);
      this.#lastDropped = dropped.inboxSeq;
    }
  }

  /** The queued messages with a greater `inbox_seq`. */
  after(inboxSeq: number): EncodedEvent[] {
    return this.#queued.filter((queued) => queued.inboxSeq > inboxSeq).map(({ event }) => event);
  }
}

function sizeOf(event: EncodedEvent): number {
  return event.text("v1")!.length;
}

/** Limits of one member. */
export interface MemberLimits extends OutboxLimits {
  /** How often it may send a frame. */
  readonly messageRate: Rate;
}

/** What a {@linkcode Member} needs. */
export interface MemberOptions {
  /** Unique for ever. */
  readonly id: string;
  readonly peer: Peer;
  readonly room: Room;
  readonly request: JoinRequest;
  readonly limits: MemberLimits;
  /** Limits what its address sends. */
  readonly traffic: TrafficLimiter;
  /** The time of joining, in milliseconds. */
  readonly now: number;
  readonly meter?: Meter | undefined;
}

/** One connection in one room. */
export class Member implements JoinedMember {
  /** Identifies this connection, here and in the engine. */
  readonly id: string;
  readonly room: Room;
  readonly request: JoinRequest;
  readonly subscriber: Subscriber;
  readonly #peer: Peer;
  readonly #allowance: TokenBucket;
  readonly #traffic: TrafficLimiter;
  /** Consecutive frames that the rate limit refused. */
  #refusals = 0;
  /** When its last frame came, in milliseconds. */
  #heardAt = -Infinity;
  #life: Life = { state: "catching up", queue: new PrivateQueue() };

  constructor({ id, peer, room, request, limits, traffic, now, meter }: MemberOptions) {
    this.id = id;
    this.room = room;
    this.request = request;
    this.#peer = peer;
    this.#allowance = new TokenBucket(limits.messageRate, now);
    this.#traffic = traffic;
    const { format, request: { echo = true } } = this;
    // A reader of a stream posts over HTTP, where the origin of a message is the person.
    const origin = format === "sse" ? this.person : id;
    const sent = meter?.sent(format);
    this.subscriber = new Subscriber({ id, peer, format, origin, echo, limits, sent });
  }

  /** Its name; absent in the raw relay. */
  get username(): string | undefined {
    return this.request.username;
  }

  get identity(): Identity {
    return this.request.identity;
  }

  /** The same for every connection of one person; never sent to anyone. */
  get person(): string {
    return this.identity.person;
  }

  /** Always false: a member receives acks only of commands with a `ref`. */
  get wantsAck(): boolean {
    return false;
  }

  get format(): Format {
    return this.request.format ?? "json";
  }

  get isGone(): boolean {
    return this.#life.state === "gone";
  }

  /** Whether it may have missed something and can resume. */
  get isReturning(): boolean {
    const { identity, resume } = this.request;
    return isWhole(this.format) && (identity.isProven || resume !== undefined);
  }

  /** Whether every frame sent to it has left for the network. */
  get hasDrained(): boolean {
    return this.subscriber.hasDrained;
  }

  /** Records that a frame came. @param now the time in milliseconds */
  hear(now: number): void {
    this.#heardAt = now;
  }

  /** How long it has sent nothing, in milliseconds. */
  silentMs(now: number): number {
    return now - this.#heardAt;
  }

  /**
   * Counts one frame against the limits of the member and of its address.
   *
   * @param now the time in milliseconds
   * @returns 0 if the frame is allowed, else the seconds until one is
   */
  takeToken(text: string, now: number): number {
    // Only a full bucket ends a run of refusals: a single allowed frame does not.
    if (this.#allowance.isFull(now)) this.#refusals = 0;
    const { address = "" } = this.request;
    const seconds = this.#allowance.take(now) ||
      this.#traffic.take(address, Buffer.byteLength(text));
    if (seconds > 0) this.#refusals++;
    return seconds;
  }

  /** Whether it keeps sending despite many refusals. */
  get isFlooding(): boolean {
    return this.#refusals > MAX_REFUSALS;
  }

  /** Adds an event for it, after all pending ones. */
  tell(event: Event | EncodedEvent): void {
    if (!this.isGone) this.room.fanout.tellOne(this.subscriber, event);
  }

  /** Sends it everything pending, then a last event. */
  tellLast(event: Event): void {
    this.room.fanout.tellLast(this.subscriber, event);
  }

  /** Whether it receives every event of the room. */
  get isLive(): boolean {
    return this.#life.state === "live";
  }

  /** Adds a private message for it. While it is catching up, the message is queued. */
  tellPrivate(event: EncodedEvent, inboxSeq: number): void {
    if (this.#life.state === "catching up") this.#life.queue.add(event, inboxSeq);
    else this.tell(event);
  }

  /** The private messages that arrived while it is catching up; absent in any other state. */
  get queue(): PrivateQueue | undefined {
    return this.#life.state === "catching up" ? this.#life.queue : undefined;
  }

  /** Sends it `first`, and from then on every event of the room. Call it once. */
  goLive(first: readonly EncodedEvent[]): void {
    this.#life = LIVE;
    this.room.fanout.add(this.subscriber, first);
  }

  /** Ends the membership. True the first time. */
  end(): boolean {
    if (this.isGone) return false;
    this.#life = GONE;
    return true;
  }

  /** Asks the peer to close, without waiting for the close. */
  close({ code, reason }: CloseReason): void {
    this.#peer.close(code, reason);
  }
}

/** What a {@linkcode Room} needs. */
export interface RoomOptions {
  /** Maximum messages that a new member receives. */
  readonly historySize: number;
  readonly schedule: Schedule;
  /** The time in milliseconds. */
  readonly now: number;
  /** Handles a member that cannot keep up. */
  readonly onTooSlow: (member: Member) => void;
}

/** A room that this instance has open. */
export class Room {
  readonly name: string;
  readonly fanout: Fanout;
  readonly roster = new Roster();
  readonly typists = new Typists();
  readonly recent: RecentEvents;
  readonly #opened: OpenRoom;
  readonly #historySize: number;
  /** The members on this instance, by id. */
  readonly #members = new Map<string, Member>();
  /** The same members, by person. */
  readonly #people = new Map<string, Set<Member>>();
  #epoch: string;
  #settings: RoomSettings;
  /** The newest change of presence that the roster includes. */
  #position: number;
  /** The running {@linkcode Room.refill}, if there is one. */
  #refilling: Promise<void> | undefined;
  /** Callbacks, each of which waits until the roster has reached a position. */
  #waiting: { readonly position: number; readonly callback: () => void }[] = [];
  /** When it last became empty or expected a member, in milliseconds. */
  #emptySince: number;

  constructor(name: string, opened: OpenRoom, options: RoomOptions) {
    const { historySize, schedule, now, onTooSlow } = options;
    const { state, events, messages, settings, present, position } = opened;
    this.name = name;
    this.#epoch = state.epoch;
    this.fanout = new Fanout({
      schedule,
      onTooSlow: (id) => {
        const member = this.#members.get(id);
        if (member !== undefined) onTooSlow(member);
      },
    });
    this.recent = new RecentEvents(historySize, state.lastSeq, events, messages);
    this.#opened = opened;
    this.#historySize = historySize;
    this.#settings = settings;
    this.#position = position;
    this.#emptySince = now;
    for (const presence of present) this.roster.add(presence);
  }

  get members(): ReadonlyMap<string, Member> {
    return this.#members;
  }

  /** Identifies the room's numbering, see `LogState`. */
  get epoch(): string {
    return this.#epoch;
  }

  /** The owner of the room, and the people it admits. */
  get settings(): RoomSettings {
    return this.#settings;
  }

  /** The `seq` of the newest event of the log. */
  get lastSeq(): number {
    return this.recent.lastSeq;
  }

  /** The members on this instance under a name. */
  membersNamed(username: string): Member[] {
    const ids = [...this.roster.user(username)?.connections ?? []];
    return ids.map((id) => this.#members.get(id)).filter((member) => member !== undefined);
  }

  /** One person's members on this instance, with a name or without. */
  membersOf(person: string): Member[] {
    return [...this.#people.get(person) ?? []];
  }

  /** Adds a member; {@linkcode Member.goLive} adds it to the fan-out. */
  add(member: Member): void {
    this.#members.set(member.id, member);
    const { person } = member;
    this.#people.set(person, (this.#people.get(person) ?? new Set()).add(member));
  }

  /** Removes a member. Nothing more is sent to it. @param now the time in milliseconds */
  remove(member: Member, now: number): void {
    this.#members.delete(member.id);
    const own = this.#people.get(member.person);
    if (own?.delete(member) && own.size === 0) this.#people.delete(member.person);
    this.fanout.remove(member.subscriber);
    if (this.#members.size === 0) this.#emptySince = now;
  }

  /** Keeps an empty room open for a member on its way in. @param now the time in milliseconds */
  expect(now: number): void {
    this.#emptySince = now;
  }

  /** How long the room has had and expected no member, in milliseconds; 0 while it has one. */
  emptyMs(now: number): number {
    return this.#members.size === 0 ? now - this.#emptySince : 0;
  }

  /** @throws {ChatError} `name_in_use` or `forbidden` if the room would refuse the join now */
  check(request: JoinRequest): void {
    const { username, identity } = request;
    // Only people that the room admits may learn which names are in use.
    const refusal = this.refusalOf(request);
    if (refusal !== undefined) throw refusal;
    if (username !== undefined) this.roster.checkName(username, identity.person);
  }

  /** The refusal of a person who is banned or not admitted; `undefined` for everyone else. */
  refusalOf(visitor: Visitor): ChatError | undefined {
    return whyForbidden(this.#settings, visitor);
  }

  /** Records the next event of the log. @param json the event as JSON */
  record(event: LogEvent, json: string): void {
    this.recent.add(event, json);
  }

  /** Reads the messages of `recent` again, if deletions have left too few. */
  async refill(log: Pick<Log, "messages">): Promise<void> {
    while (this.recent.isShort) {
      await (this.#refilling ??= this.#refill(log).finally(() => this.#refilling = undefined));
    }
  }

  async #refill(log: Pick<Log, "messages">): Promise<void> {
    const seq = this.lastSeq;
    const messages = await log.messages(this.name, { before: seq + 1, limit: this.#historySize });
    this.recent.replaceMessages(seq, messages);
  }

  /** Records that a connection entered. True if its user was not present before. */
  entered(presence: Presence, position: number): boolean {
    const isNew = this.roster.add(presence);
    this.#position = position;
    return isNew;
  }

  /** Records that a connection left. True if its user is no longer present. */
  left(presence: Presence, position: number): boolean {
    const isLast = this.roster.remove(presence);
    // A dead instance does not announce the end of typing.
    if (isLast) this.typists.record(presence.username, false);
    this.#position = position;
    return isLast;
  }

  /** Records that the log continues in a new epoch. */
  continueIn(epoch: string): void {
    this.#epoch = epoch;
  }

  changeSettings(settings: RoomSettings): void {
    this.#settings = settings;
  }

  /**
   * Calls back once the roster includes this position: now, or from {@linkcode Room.callWaiting}.
   */
  whenAt(position: number, callback: () => void): void {
    if (position <= this.#position) callback();
    else this.#waiting.push({ position, callback });
  }

  /** Runs every callback whose position the roster has reached. */
  callWaiting(): void {
    if (this.#waiting.length === 0) return;
    const reached = this.#waiting.filter(({ position }) => position <= this.#position);
    this.#waiting = this.#waiting.filter(({ position }) => position > this.#position);
    for (const { callback } of reached) callback();
  }

  /** Ends the subscription to the room. */
  close(): void {
    this.#opened.close();
  }
}
