/**
 * Redis as the server that instances share: a list of events for each room, a script for each room
 * and turn, and a channel for each room.
 *
 * @module
 */

import type { Account, Known, Token } from "../../people/accounts.ts";
import type { ChatEvent, LogEvent } from "../../protocol/events.ts";
import { withPresentText } from "../changes.ts";
import {
  type Author,
  type EngineEvent,
  EVERYWHERE,
  type InboxEntry,
  type LogState,
  type MessageRange,
  type RoomSettings,
  type Wanted,
} from "../engine.ts";
import {
  type Answer,
  type Backend,
  type BackendOptions,
  type Batch,
  type Beat,
  type Link,
  type LinkListener,
  NotDone,
  type Opened,
  type Page,
  type Position,
  type Pulse,
  TooLate,
} from "../remote/backend.ts";
import { type Command, Connections, type Reply } from "./connection.ts";
import {
  parseEntry,
  readEvent,
  split,
  toEvent,
  toItems,
  toPresences,
  toPrivate,
  toSettings,
} from "./entries.ts";
import { RedisErasure } from "./erasure.ts";
import { type Part, toParts } from "./jobs.ts";
import {
  answersKey,
  channelOf,
  connectionsKey,
  ENDED_KEY,
  GENERATION_KEY,
  inboxKey,
  instanceKey,
  LEASES_KEY,
  ownerKey,
  PEOPLE_KEYS,
  roomKey,
  roomKeys,
  roomOf,
  ROOMS_KEY,
  tokensKey,
} from "./keys.ts";
import { META, type ScriptName } from "./scripts.ts";
import { explain, parsePlace, type Place, unanswered } from "./sentences.ts";
import {
  canResume,
  type Generation,
  isPrivateOf,
  type RoomState,
  Stale,
  toState,
} from "./state.ts";

/** Maximum entries that one script reads or walks over. */
const MAX_READ = 1000;
const MAX_WALKED = 4096;

/** Maximum presences that one script ends. */
const MAX_ENDED = 256;

/** Rooms that are known to be noted, before they are forgotten. */
const MAX_NOTED = 10_000;

/** What {@linkcode RedisBackend} needs. */
export interface RedisOptions extends BackendOptions {
  /** `redis://user:password@host:port/database`, or `rediss://` for TLS. */
  readonly url: string;
}

/** Redis, or a server that speaks its protocol. */
export class RedisBackend implements Backend {
  readonly name = "Redis";
  readonly #options: RedisOptions;
  readonly #place: Place;

  /** @throws {Error} if the URL has a database that is not a number */
  constructor(options: RedisOptions) {
    this.#options = options;
    this.#place = parsePlace(options.url);
  }

  async connect(listener: LinkListener, signal: AbortSignal): Promise<Link> {
    const place = this.#place;
    const hearing = {
      onMessage: (channel: string, text: string) =>
        hear(listener, roomOf(place.database, channel), text),
      onLost: (reason: Error) => listener.onLost(explain(reason, place)),
    };
    const connections = await Connections.open(place, hearing, signal);
    const stop = () => connections.close();
    signal.addEventListener("abort", stop);
    try {
      const generation = await begin(connections);
      const probes = `hubbub-probe:${crypto.randomUUID()}`;
      const news = channelOf(place.database, EVERYWHERE);
      await Promise.all([news, probes].map((one) => connections.subscribe(one)));
      const [seconds, micros] = await connections.ask("TIME") as string[];
      const time = Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
      return new RedisLink({ ...this.#options, connections, place, generation, probes, time });
    } catch (error) {
      connections.close();
      throw signal.aborted ? unanswered(place) : explain(error, place);
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }
}

/** Checks that the server can be used, and finds out which life of it this is. */
async function begin(connections: Connections): Promise<Generation> {
  const info = await connections.ask("INFO");
  if (!/^redis_version:/m.test(info)) throw new Error("no Redis");
  const read = (field: string) => new RegExp(`^${field}:(.*?)\\r?$`, "m").exec(info)?.[1] ?? "";
  checkServer(read);
  await connections.loadScripts();
  const identity = `${read("run_id")} ${read("master_replid")}`;
  const [time] = await connections.run([
    connections.script("generation", [GENERATION_KEY], [identity]),
  ]);
  if (time instanceof Error) throw time;
  return { name: `${time}-${identity.replace(" ", "-")}`, time: Number(time) };
}

/** @throws {Error} whose message is a sentence that says what to change in the server */
function checkServer(read: (field: string) => string): void {
  const [major = 0, minor = 0] = read("redis_version").split(".").map(Number);
  if (major < 6 || major === 6 && minor < 2) {
    throw new Error(
      `Redis ${read("redis_version")} is too old. Use 6.2 or newer: LPOP takes a count there.`,
    );
  }
  if (read("loading") === "1") throw new Error("LOADING");
  if (read("redis_mode") !== "standalone") {
    throw new Error(
      `Redis runs in the mode ${
        read("redis_mode")
      }. Use a standalone server, with replicas or not.`,
    );
  }
  if (read("role") !== "master") throw new Error("READONLY");
  const policy = read("maxmemory_policy");
  if (policy !== "noeviction") {
    throw new Error(
      `Redis may forget messages: its maxmemory-policy is ${policy}. ` +
        "Set it with: CONFIG SET maxmemory-policy noeviction",
    );
  }
}

function hear(listener: LinkListener, room: string | undefined, text: string): void {
  if (room === undefined) return listener.onProbe(text);
  const [epoch, ...items] = JSON.parse(text) as string[];
  listener.onNews({ room, epoch: epoch!, items: toItems(room, items) });
}

/** What {@linkcode RedisLink} needs. */
interface LinkOptions extends BackendOptions {
  readonly connections: Connections;
  readonly place: Place;
  readonly generation: Generation;
  /** The channel of this link's probes. */
  readonly probes: string;
  readonly time: number;
}

/** The connections of one instance to Redis. */
class RedisLink implements Link {
  readonly time: number;
  readonly #options: LinkOptions;
  readonly #connections: Connections;
  readonly #erasure: RedisErasure;
  /** Rooms that are in the set of all rooms. */
  readonly #noted = new Set<string>();

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#connections = options.connections;
    this.time = options.time;
    this.#erasure = new RedisErasure({
      connections: options.connections,
      channelOf: (room) => this.#channelOf(room),
      roomArgs: (room) => this.#roomArgs(room),
      turn: (room, jobs, deadline) =>
        this.#runJobs({ instance: "", number: 0, jobs, deadline }, [room]),
    });
  }

  turn(batch: Batch): Promise<Answer[]> {
    return this.#runJobs(batch, batch.jobs.map(({ room }) => room));
  }

  subscribe(room: string): Promise<void> {
    return this.#connections.subscribe(this.#channelOf(room));
  }

  unsubscribe(room: string): void {
    this.#connections.unsubscribe(this.#channelOf(room));
  }

  async open(room: string, wanted: Wanted): Promise<Opened> {
    const keys = ["meta", "log", "settings", "presences"] as const;
    const limit = Math.min(wanted.events, MAX_READ);
    const args = [limit, wanted.messages, MAX_WALKED];
    const [meta, entries, edited, found, from, settings, present] = await this.#read(
      this.#script("open", keys.map((key) => roomKey(room, key)), args),
    );
    const { log, position } = this.#state(room, meta);
    const messages = found.map((text: string) => readEvent(room, text) as ChatEvent).reverse();
    const missing = wanted.messages - messages.length;
    if (missing > 0 && Number(from) >= log.oldestSeq) {
      const older = await this.messages(room, { before: Number(from) + 1, limit: missing });
      messages.unshift(...older);
    }
    return {
      position,
      oldestSeq: log.oldestSeq,
      events: toEvents(room, entries, edited),
      messages,
      settings: toSettings(settings),
      present: toPresences(present),
    };
  }

  async page(room: string, since: Position, limit: number): Promise<Page> {
    const keys = ["meta", "log", "settings", "presences", "privates"] as const;
    const { name, time } = this.#options.generation;
    const { seq, presence, privates, settings } = since;
    const args = [seq, presence, privates, settings, Math.min(limit, MAX_READ), name, time];
    const [meta, entries, edited, whispers, last, changed, present] = await this.#read(
      this.#script("page", keys.map((key) => roomKey(room, key)), args),
    );
    const state = this.#state(room, meta);
    const isWhole = seq === 0 && state.log.oldestSeq === 1;
    return {
      position: state.position,
      continues: isWhole || seq > 0 && canResume(state, since.epoch, seq),
      events: toEvents(room, entries, edited),
      privates: whispers.filter((text: string | null) => text !== null).map((text: string) => ({
        number: Number(split(text, 3)[1]),
        message: toPrivate(text),
      })),
      privatesTo: last === null ? state.position.privates : Number(last),
      settings: state.position.settings === settings ? undefined : toSettings(changed),
      present: present === null ? undefined : toPresences(present),
    };
  }

  async beat({ instance, leaseMs, probe, rooms }: Beat): Promise<Pulse> {
    const all = [EVERYWHERE, ...rooms];
    const replies = await this.#run([
      this.#script("renew", [LEASES_KEY, ENDED_KEY], [instance, leaseMs, this.#clock()]),
      ["PUBLISH", this.#options.probes, probe],
      ...all.map((room): Command => ["HMGET", roomKey(room, "meta"), ...META]),
    ]);
    const failure = replies.find((reply) => reply instanceof Error);
    if (failure !== undefined) throw this.#toNotDone(failure);
    const [[time, isAlive, expired], , ...metas] = replies;
    for (const other of isAlive === 1 ? expired : [...expired, instance]) await this.end(other);
    const states = all.map((room, i) => this.#state(room, metas[i]));
    return {
      time: Number(time),
      isAlive: isAlive === 1,
      positions: states.slice(1).map(({ position }) => position),
      everywhere: states[0]!.number,
    };
  }

  async end(instance: string): Promise<void> {
    const rooms = await this.#read(["SMEMBERS", instanceKey(instance)]) as string[];
    for (let left = rooms; left.length > 0;) left = await this.#endIn(left, instance);
    const keys = [LEASES_KEY, ENDED_KEY, instanceKey(instance)];
    await this.#write(this.#script("end", keys, [instance, this.#clock()]));
  }

  async presences(instance: string): Promise<{ room: string; connection: string }[]> {
    const rooms = await this.#read(["SMEMBERS", instanceKey(instance)]) as string[];
    const found = await this.#readAll(
      rooms.map((room) => ["ZRANGE", connectionsKey(room, instance), 0, -1]),
    );
    return rooms.flatMap((room, i) =>
      (found[i] as string[]).map((connection) => ({ room, connection }))
    );
  }

  async author(room: string, id: string): Promise<Author | undefined> {
    const seq = Number(id.slice(id.lastIndexOf("-") + 1));
    if (!Number.isSafeInteger(seq) || seq < 1) return undefined;
    const [, [text]] = await this.#readEvents(room, seq - 1, 1);
    const entry = text === undefined ? undefined : parseEntry(text);
    if (entry?.id !== id || entry.person === "") return undefined;
    return entry.kind === "c" || entry.kind === "d"
      ? { username: entry.username, person: entry.person }
      : undefined;
  }

  async state(room: string): Promise<LogState> {
    return (await this.#stateOf(room)).log;
  }

  async canResume(room: string, epoch: string, seq: number): Promise<boolean> {
    return canResume(await this.#stateOf(room), epoch, seq);
  }

  async canResumeInbox(
    room: string,
    person: string,
    epoch: string,
    inboxSeq: number,
  ): Promise<boolean> {
    const [meta, last, first, numbers] = await this.#readInbox(room, person, inboxSeq - 1, 1);
    const state = this.#state(room, meta);
    if (inboxSeq > Number(last)) return false;
    if (inboxSeq === 0) return Number(first) <= 1;
    // Only the oldest messages of a person are ever dropped.
    if (Number(first) > inboxSeq + 1 || numbers.length === 0) return false;
    return isPrivateOf(state, epoch, Number(numbers[0]));
  }

  async events(room: string, after: number, limit: number): Promise<LogEvent[]> {
    const events: LogEvent[] = [];
    let from = after;
    while (events.length < limit) {
      const size = Math.min(limit - events.length, MAX_READ);
      const [, entries, edited] = await this.#readEvents(room, from, size);
      for (const event of toEvents(room, entries, edited)) events.push(event);
      if (entries.length < size) break;
      from = events.at(-1)!.seq;
    }
    return events;
  }

  async messages(
    room: string,
    { before = Infinity, after, limit }: MessageRange,
  ): Promise<ChatEvent[]> {
    const step = after === undefined ? -1 : 1;
    let from = after === undefined ? Math.min(before, Number.MAX_SAFE_INTEGER) - 1 : after + 1;
    const events: ChatEvent[] = [];
    const keys = [roomKey(room, "meta"), roomKey(room, "log")];
    while (events.length < limit) {
      const size = Math.min(limit - events.length, MAX_READ);
      const [meta, found, next] = await this.#read(
        this.#script("messages", keys, [from, step, size, MAX_WALKED]),
      );
      for (const text of found) events.push(readEvent(room, text) as ChatEvent);
      const { oldestSeq, lastSeq } = this.#state(room, meta).log;
      from = Number(next);
      if (from < oldestSeq || from > Math.min(lastSeq, before - 1)) break;
    }
    return after === undefined ? events.reverse() : events.filter(({ seq }) => seq < before);
  }

  async inbox(
    room: string,
    person: string,
    after: number,
    limit: number,
  ): Promise<InboxEntry[]> {
    const entries: InboxEntry[] = [];
    let from = after;
    while (entries.length < limit) {
      const size = Math.min(limit - entries.length, MAX_READ);
      const [, , first, numbers, texts] = await this.#readInbox(room, person, from, size);
      for (const [i, text] of texts.entries()) {
        if (text !== null) entries.push({ inboxSeq: Number(first) + i, message: toPrivate(text) });
      }
      if (numbers.length < size) break;
      from = Number(first) + numbers.length - 1;
    }
    return entries;
  }

  async inboxSeq(room: string, person: string): Promise<number> {
    return Number(await this.#read(["HGET", roomKey(room, "inboxes"), person]) ?? 0);
  }

  async settings(room: string): Promise<RoomSettings> {
    return toSettings(await this.#read(["GET", roomKey(room, "settings")]));
  }

  async countOwned(owner: string): Promise<number> {
    const rooms = await this.#read(["SMEMBERS", ownerKey(owner)]) as string[];
    const owners = await this.#readAll(rooms.map((room) => ["HGET", roomKey(room, "meta"), "ow"]));
    return owners.filter((each) => each === owner).length;
  }

  addAccount({ key, username, passwordHash }: Account, deadline: number): Promise<boolean> {
    const event: EngineEvent = { type: "registered", key };
    return this.#change("", deadline, [
      "add",
      key,
      `${username}\n${passwordHash}`,
      JSON.stringify(event),
    ]);
  }

  async account(key: string): Promise<Account | undefined> {
    const text = await this.#read(["HGET", PEOPLE_KEYS[1]!, key]);
    if (text === null) return undefined;
    const [username, passwordHash] = split(text, 2);
    return { key, username: username!, passwordHash: passwordHash! };
  }

  async addToken({ hash, account, expiresAt }: Token, deadline: number): Promise<void> {
    const ends = String(expiresAt);
    await this.#change(account, deadline, ["token", hash, `${ends}\n${account}`, ends]);
  }

  async token(hash: string): Promise<Token | undefined> {
    const text = await this.#read(["HGET", PEOPLE_KEYS[2]!, hash]);
    if (text === null) return undefined;
    const [expiresAt, account] = split(text, 2);
    return { hash, account: account!, expiresAt: Number(expiresAt) };
  }

  async endToken(hash: string, deadline: number): Promise<void> {
    const event: EngineEvent = { type: "token_ended", hash };
    await this.#change("", deadline, ["end", hash, JSON.stringify(event)]);
  }

  async endTokens(account: string, deadline: number): Promise<void> {
    await this.#change(account, deadline, ["endAll", "", tokensEnded(account, "")]);
  }

  setPassword(key: string, hash: string, kept: string, deadline: number): Promise<boolean> {
    return this.#change(key, deadline, ["password", key, hash, kept, tokensEnded(key, kept)]);
  }

  removeAccount(key: string, deadline: number): Promise<boolean> {
    return this.#change(key, deadline, ["remove", key, tokensEnded(key, "")]);
  }

  eraseNext(deadline: number): Promise<boolean> {
    return this.#attempt(() => this.#erasure.step(deadline));
  }

  async recheck({ tokens, keys }: Known): Promise<Known> {
    const found = await this.#readAll([
      ...tokens.map((hash): Command => ["HEXISTS", PEOPLE_KEYS[2]!, hash]),
      ...keys.map((key): Command => ["HEXISTS", PEOPLE_KEYS[1]!, key]),
    ]);
    return {
      tokens: tokens.filter((_, i) => found[i] === 0),
      keys: keys.filter((_, i) => found[tokens.length + i] === 1),
    };
  }

  close(): void {
    this.#connections.close();
  }

  /** The time for a script to take for its own, or nothing. */
  #clock(): string {
    const { clock } = this.#options;
    return clock === undefined ? "" : String(clock());
  }

  #script(name: ScriptName, keys: readonly string[], args: readonly (string | number)[]): Command {
    return this.#connections.script(name, keys, args);
  }

  #channelOf(room: string): string {
    return channelOf(this.#options.place.database, room);
  }

  /** The first arguments of a script that writes to a room. */
  #roomArgs(room: string): string[] {
    const { generation } = this.#options;
    return [generation.name, String(generation.time), this.#channelOf(room)];
  }

  #state(room: string, meta: (string | null)[]): RoomState {
    try {
      return toState(room, meta, this.#options.generation);
    } catch (error) {
      if (error instanceof Stale) this.#connections.lose(error);
      throw error;
    }
  }

  async #stateOf(room: string): Promise<RoomState> {
    return this.#state(room, await this.#read(["HMGET", roomKey(room, "meta"), ...META]));
  }

  #readEvents(room: string, after: number, limit: number): Promise<Reply> {
    const keys = [roomKey(room, "meta"), roomKey(room, "log")];
    return this.#read(this.#script("events", keys, [after, limit]));
  }

  #readInbox(room: string, person: string, after: number, limit: number): Promise<Reply> {
    const keys = [
      roomKey(room, "meta"),
      roomKey(room, "inboxes"),
      inboxKey(room, person),
      roomKey(room, "privates"),
    ];
    return this.#read(this.#script("inbox", keys, [person, after, limit]));
  }

  /** Runs the scripts of a batch, in one write with what must be noted before them. */
  async #runJobs(batch: Batch, rooms: readonly string[]): Promise<Answer[]> {
    const parts = toParts(batch.jobs);
    const before = this.#toNote(batch.instance, parts, rooms);
    const entering = parts.some(({ enters }) => enters);
    const guard = this.#script("guard", [LEASES_KEY], [batch.instance, this.#clock()]);
    const replies = await this.#run([
      ...before,
      ...parts.map((part) => this.#toCommand(batch, part)),
      ...entering ? [guard] : [],
    ]);
    const answers = this.#toAnswers(batch, parts, replies.slice(before.length), entering);
    for (const room of rooms) this.#noted.add(room);
    return answers;
  }

  /** The sets that must have the rooms of a batch before its scripts run. */
  #toNote(instance: string, parts: readonly Part[], rooms: readonly string[]): Command[] {
    if (this.#noted.size > MAX_NOTED) this.#noted.clear();
    const unknown = [...new Set(rooms)].filter((room) => !this.#noted.has(room));
    const entered = parts.filter(({ enters }) => enters).map(({ room }) => room);
    return [
      ...unknown.length > 0 ? [["SADD", ROOMS_KEY, ...unknown]] : [],
      ...entered.length > 0 ? [["SADD", instanceKey(instance), ...entered]] : [],
      ...parts.flatMap(({ room, owners }) =>
        owners.map((owner) => ["SADD", ownerKey(owner), room])
      ),
    ];
  }

  #toCommand({ instance, number, deadline }: Batch, part: Part): Command {
    const { room, index, inboxes, args } = part;
    const { keep } = this.#options;
    const keys = [
      ...roomKeys(room),
      answersKey(room, instance, index),
      connectionsKey(room, instance),
      ...inboxes,
    ];
    return this.#script("turn", keys, [
      ...this.#roomArgs(room),
      instance,
      number === 0 ? "" : number,
      deadline,
      this.#clock(),
      keep === Infinity ? "" : keep,
      room === EVERYWHERE ? "1" : "0",
      ...args,
    ]);
  }

  #toAnswers(batch: Batch, parts: Part[], replies: Reply[], entering: boolean): Answer[] {
    const results = replies.slice(0, parts.length);
    const failures = results.filter((reply) => reply instanceof Error);
    const [failure] = failures;
    if (failure !== undefined && failures.length === parts.length) throw this.#toNotDone(failure);
    const hasLease = !entering || replies.at(-1) === 1;
    const answers: Answer[] = Array(batch.jobs.length);
    for (const [i, part] of parts.entries()) {
      let read = results[i] instanceof Error ? part.fail() : part.read(results[i]);
      if (!hasLease) read = part.withoutEntering(read);
      for (const [at, place] of part.places.entries()) answers[place] = read[at];
    }
    return answers;
  }

  /** Ends some presences of an instance in each room, and returns the rooms that have more. */
  async #endIn(rooms: readonly string[], instance: string): Promise<string[]> {
    const some = rooms.slice(0, MAX_ENDED);
    const size = Math.max(1, Math.floor(MAX_ENDED / some.length));
    const replies = await this.#run(some.map((room) => {
      const keys = [
        ...roomKeys(room),
        answersKey(room, instance, 0),
        connectionsKey(room, instance),
      ];
      const args = [...this.#roomArgs(room), instance, "", Number.MAX_SAFE_INTEGER, this.#clock()];
      return this.#script("turn", keys, [...args, "", "0", `E${size}`]);
    }));
    const failure = replies.find((reply) => reply instanceof Error);
    if (failure !== undefined) throw this.#toNotDone(failure);
    const left = some.filter((_, i) => JSON.parse(replies[i])[2] !== "0");
    return [...left, ...rooms.slice(MAX_ENDED)];
  }

  /** Changes accounts or tokens; true if there was something to change. */
  async #change(account: string, deadline: number, args: string[]): Promise<boolean> {
    const keys = [...PEOPLE_KEYS, tokensKey(account)];
    const common = [...this.#roomArgs(EVERYWHERE), deadline, this.#clock()];
    return await this.#write(this.#script("people", keys, [...common, ...args])) === 1;
  }

  #run(commands: readonly Command[]): Promise<Reply[]> {
    return this.#connections.run(commands);
  }

  async #write(command: Command): Promise<Reply> {
    const [reply] = await this.#run([command]);
    if (reply instanceof Error) throw this.#toNotDone(reply);
    return reply;
  }

  async #read(command: Command): Promise<Reply> {
    return (await this.#readAll([command]))[0];
  }

  async #readAll(commands: readonly Command[]): Promise<Reply[]> {
    const replies = await this.#run(commands);
    const failure = replies.find((reply) => reply instanceof Error);
    if (failure !== undefined) throw explain(failure, this.#options.place);
    return replies;
  }

  /** Runs a step whose error replies are of a write. */
  async #attempt<T>(step: () => Promise<T>): Promise<T> {
    try {
      return await step();
    } catch (error) {
      throw (error as Error).name === "ReplyError" ? this.#toNotDone(error as Error) : error;
    }
  }

  /** What an error reply to a write means. A server that is no primary any more ends the link. */
  #toNotDone(reply: Error): Error {
    if (reply.message.includes("TOOLATE")) return new TooLate();
    const reason = explain(reply, this.#options.place);
    if (/STALE|READONLY|MASTERDOWN/.test(reply.message)) this.#connections.lose(reason);
    return new NotDone(reason.message, { cause: reply });
  }
}

/** The events of entries, with the texts of edits whose own text is gone. */
function toEvents(room: string, entries: string[], edited: string[]): LogEvent[] {
  const messages = new Map(
    edited.map((text) => [parseEntry(text).id, readEvent(room, text)] as const),
  );
  return entries.map((text) => {
    const entry = parseEntry(text);
    return withPresentText(toEvent(room, entry), (id) => messages.get(id));
  });
}

function tokensEnded(account: string, kept: string): string {
  const event: EngineEvent = { type: "tokens_ended", account, kept };
  return JSON.stringify(event);
}
