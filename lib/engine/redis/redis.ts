/**
 * Redis as the server that instances share: a list of events for each room, a script for each room
 * and turn, and a channel for each room.
 *
 * @module
 */

import {
  type Account,
  type BotToken,
  type Known,
  NEVER,
  type Token,
} from "../../people/accounts.ts";
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
} from "./keys.ts";
import { META, type ScriptName } from "./scripts.ts";
import { explain, explainLoss, parsePlace, type Place, unanswered } from "./sentences.ts";
import {
  canResume,
  type Generation,
  isPrivateOf,
  type RoomState,
  Stale,
  toState,
} from "./state.ts";
import { Upkeep } from "./upkeep.ts";

/** Maximum entries that one script returns, and maximum that it searches. */
const MAX_READ = 1000;
const MAX_WALKED = 4096;

/** Maximum presences that one script ends. */
const MAX_ENDED = 256;

/** Maximum rooms that a link remembers as noted; beyond it, it forgets all. */
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
      onLost: (reason: Error) => listener.onLost(explainLoss(reason, place)),
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

/** Checks that the server can be used, and identifies its present generation. */
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
      `Redis ${read("redis_version")} is too old. Use 6.2 or newer.`,
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
  readonly #upkeep: Upkeep;
  /** Rooms that are surely in the server's set of rooms. */
  readonly #noted = new Set<string>();
  /**
   * Rooms that are surely in the server's set of an instance's rooms, by {@linkcode
   * connectionsKey}.
   */
  readonly #entered = new Set<string>();
  /** The ends of the leases that this link has renewed. */
  readonly #leases = new Map<string, string>();
  /** Instances whose presences are being ended in the background. */
  readonly #ending = new Set<string>();

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#connections = options.connections;
    this.time = options.time;
    const { connections } = options;
    this.#upkeep = new Upkeep({ connections, clock: () => this.#clock() });
    this.#erasure = new RedisErasure({
      connections,
      channelOf: (room) => this.#channelOf(room),
      roomArgs: (room) => this.#roomArgs(room),
      turn: (jobs, deadline) => this.#runJobs({ instance: "", number: 0, jobs, deadline }),
    });
  }

  turn(batch: Batch): Promise<Answer[]> {
    return this.#runJobs(batch);
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
    const args = [limit, wanted.messages, MAX_WALKED, this.#clock()];
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
    const where = [seq, presence, privates, settings, Math.min(limit, MAX_READ)];
    const args = [...where, name, time, this.#clock()];
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
    const replies = await this.#writeAll([
      this.#script("renew", [LEASES_KEY, ENDED_KEY], [instance, leaseMs, this.#clock()]),
      ["PUBLISH", this.#options.probes, probe],
      ...all.map((room): Command => ["HMGET", roomKey(room, "meta"), ...META]),
    ]);
    this.#upkeep.clean();
    const [[time, ends, expired], , ...metas] = replies;
    if (ends === null) this.#leases.delete(instance);
    else this.#leases.set(instance, ends);
    const over: string[] = ends === null ? [...expired, instance] : expired;
    await Promise.all([...new Set(over)].map((other) => this.#beginEnd(other)));
    const states = all.map((room, i) => this.#state(room, metas[i]));
    return {
      time: Number(time),
      isAlive: ends !== null,
      positions: states.slice(1).map(({ position }) => position),
      everywhere: states[0]!.number,
    };
  }

  async end(instance: string): Promise<void> {
    this.#leases.delete(instance);
    while (!await this.#endSome(instance)) { /* Some are left. */ }
  }

  async presences(instance: string): Promise<{ room: string; connection: string }[]> {
    const rooms = await this.#read(["ZRANGE", instanceKey(instance), 0, -1]) as string[];
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
    // Only a person's oldest messages are ever dropped.
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
    return this.#change(deadline, [
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
    await this.#change(deadline, ["token", hash, account, String(expiresAt)]);
  }

  async token(hash: string): Promise<Token | undefined> {
    const text = await this.#read(this.#toFind(hash));
    if (text === null) return undefined;
    const [expiresAt, account] = split(text, 3);
    return { hash, account: account!, expiresAt: Number(expiresAt) };
  }

  addBotToken(token: BotToken, most: number, deadline: number): Promise<boolean> {
    const { hash, account, name, created } = token;
    const numbers = [NEVER, created, most].map(String);
    return this.#change(deadline, ["bot", hash, account, name, ...numbers]);
  }

  async botTokens(account: string): Promise<BotToken[]> {
    const keys = [2, 5, 6].map((place) => PEOPLE_KEYS[place]!);
    const found: string[][] = await this.#read(this.#script("botTokens", keys, [account]));
    return found.map(([hash, created, name]) => ({
      hash: hash!,
      account,
      name: name!,
      created: Number(created),
    }));
  }

  endBotToken(account: string, name: string, deadline: number): Promise<boolean> {
    return this.#change(deadline, ["endBot", account, name]);
  }

  async endToken(hash: string, deadline: number): Promise<void> {
    const event: EngineEvent = { type: "token_ended", hash };
    await this.#change(deadline, ["end", hash, JSON.stringify(event)]);
  }

  async endTokens(account: string, deadline: number): Promise<void> {
    await this.#change(deadline, ["endAll", account, tokensEnded(account, "")]);
  }

  setPassword(key: string, hash: string, kept: string, deadline: number): Promise<boolean> {
    return this.#change(deadline, ["password", key, hash, kept, tokensEnded(key, kept)]);
  }

  removeAccount(key: string, deadline: number): Promise<boolean> {
    return this.#change(deadline, ["remove", key, tokensEnded(key, "")]);
  }

  eraseNext(deadline: number): Promise<boolean> {
    return this.#attempt(() => this.#erasure.step(deadline));
  }

  async recheck({ tokens, keys }: Known): Promise<Known> {
    const found = await this.#readAll([
      ...tokens.map((hash) => this.#toFind(hash)),
      ...keys.map((key): Command => ["HEXISTS", PEOPLE_KEYS[1]!, key]),
    ]);
    return {
      tokens: tokens.filter((_, i) => found[i] === null),
      keys: keys.filter((_, i) => found[tokens.length + i] === 1),
    };
  }

  close(): void {
    this.#connections.close();
  }

  /** The time that a script uses instead of the server's; empty for the server's. */
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

  /** Notes a batch's rooms and owners on the server, and runs its scripts. */
  async #runJobs(batch: Batch): Promise<Answer[]> {
    const parts = toParts(batch.jobs);
    const ends = await this.#note(batch, parts);
    const replies = await this.#run(parts.map((part) => this.#toCommand(batch, part, ends)));
    const [failure, ...failures] = replies.filter((reply) => reply instanceof Error);
    if (failure !== undefined && failures.length === parts.length - 1) {
      throw this.#toNotDone(failure);
    }
    this.#forgetLeft(batch, parts, replies);
    const answers: Answer[] = Array(batch.jobs.length);
    for (const [i, part] of parts.entries()) {
      const read = replies[i] instanceof Error ? part.fail() : part.read(replies[i]);
      for (const [at, place] of part.places.entries()) answers[place] = read[at];
    }
    return answers;
  }

  /**
   * Notes on the server, before a batch runs, the rooms and owners that others must find.
   *
   * @returns the end of the instance's lease; "0" if it has none, or the batch enters nobody
   */
  async #note(batch: Batch, parts: readonly Part[]): Promise<string> {
    if (this.#noted.size > MAX_NOTED) this.#noted.clear();
    const unknown = parts.filter(({ room, stores }) => stores && !this.#noted.has(room))
      .map(({ room }) => room);
    const commands: Command[] = [
      ...unknown.length > 0 ? [["SADD", ROOMS_KEY, ...unknown]] : [],
      ...parts.flatMap(({ room, owners }) =>
        owners.map((owner) => ["SADD", ownerKey(owner), room])
      ),
    ];
    const entering = parts.filter(({ enters }) => enters).map(({ room }) => room);
    const [leaseEnds] = await Promise.all([this.#visit(batch, entering), this.#writeAll(commands)]);
    for (const room of unknown) this.#noted.add(room);
    return leaseEnds;
  }

  /** Notes the rooms that an instance enters, and returns the end of its lease. */
  async #visit({ instance, number }: Batch, rooms: readonly string[]): Promise<string> {
    if (this.#entered.size > MAX_NOTED) this.#entered.clear();
    const unknown = rooms.filter((room) => !this.#entered.has(connectionsKey(room, instance)));
    const known = rooms.length > 0 ? this.#leases.get(instance) : "0";
    if (known !== undefined && unknown.length === 0) return known;
    const args = [instance, this.#clock(), number, ...unknown];
    const ends = await this.#write(
      this.#script("visit", [LEASES_KEY, instanceKey(instance)], args),
    );
    if (ends === "0") return ends;
    for (const room of unknown) this.#entered.add(connectionsKey(room, instance));
    return ends;
  }

  /** Removes rooms that the instance has left from its rooms. A room that stays does no harm. */
  #forgetLeft({ instance, number }: Batch, parts: readonly Part[], replies: Reply[]): void {
    const left = parts.filter((part, i) =>
      !(replies[i] instanceof Error) && part.isLeft(replies[i])
    )
      .map(({ room }) => room);
    if (left.length === 0) return;
    for (const room of left) this.#entered.delete(connectionsKey(room, instance));
    this.#run([this.#script("forget", [instanceKey(instance)], [number, ...left])]).catch(() => {});
  }

  #toCommand({ instance, number, deadline }: Batch, part: Part, leaseEnds: string): Command {
    const { room, inboxes, args } = part;
    const { keep } = this.#options;
    const keys = [
      ...roomKeys(room),
      answersKey(room, instance),
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
      leaseEnds,
      ...args,
    ]);
  }

  /** Ends some presences of an instance, and the rest in the background. */
  async #beginEnd(instance: string): Promise<void> {
    if (this.#ending.has(instance) || await this.#endSome(instance)) return;
    this.#ending.add(instance);
    // If this link fails, a beat of another link begins again.
    this.end(instance).catch(() => {}).finally(() => this.#ending.delete(instance));
  }

  /**
   * Ends some presences of an instance, and after the last one the instance. False if some are
   * left.
   */
  async #endSome(instance: string): Promise<boolean> {
    const key = instanceKey(instance);
    const rooms = await this.#read(["ZRANGE", key, 0, MAX_ENDED - 1]) as string[];
    const size = Math.max(1, Math.floor(MAX_ENDED / rooms.length));
    const replies = await this.#writeAll(rooms.map((room) => this.#toEnd(room, instance, size)));
    const ended = rooms.filter((_, i) => JSON.parse(replies[i])[3] === "0");
    if (ended.length > 0) await this.#write(["ZREM", key, ...ended]);
    if (ended.length < rooms.length || rooms.length === MAX_ENDED) return false;
    const keys = [LEASES_KEY, ENDED_KEY, key];
    return await this.#write(this.#script("end", keys, [instance, this.#clock()])) === 1;
  }

  /** The script that ends some presences of an instance in a room. */
  #toEnd(room: string, instance: string, size: number): Command {
    const keys = [...roomKeys(room), answersKey(room, instance), connectionsKey(room, instance)];
    const args = [...this.#roomArgs(room), instance, "", Number.MAX_SAFE_INTEGER, this.#clock()];
    return this.#script("turn", keys, [...args, "", "0", "0", `E${size}`]);
  }

  /** The script that finds a token. */
  #toFind(hash: string): Command {
    return this.#script("token", [PEOPLE_KEYS[2]!, PEOPLE_KEYS[5]!], [hash]);
  }

  /** Changes accounts or tokens. True if there was something to change. */
  async #change(deadline: number, args: string[]): Promise<boolean> {
    const common = [...this.#roomArgs(EVERYWHERE), deadline, this.#clock()];
    return await this.#write(this.#script("people", PEOPLE_KEYS, [...common, ...args])) === 1;
  }

  #run(commands: readonly Command[]): Promise<Reply[]> {
    return this.#connections.run(commands);
  }

  async #write(command: Command): Promise<Reply> {
    return (await this.#writeAll([command]))[0];
  }

  async #writeAll(commands: readonly Command[]): Promise<Reply[]> {
    if (commands.length === 0) return [];
    const replies = await this.#run(commands);
    const failure = replies.find((reply) => reply instanceof Error);
    if (failure !== undefined) throw this.#toNotDone(failure);
    return replies;
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

  /** Runs a step that writes, and translates its error replies. */
  async #attempt<T>(step: () => Promise<T>): Promise<T> {
    try {
      return await step();
    } catch (error) {
      throw (error as Error).name === "ReplyError" ? this.#toNotDone(error as Error) : error;
    }
  }

  /**
   * Translates an error reply to a write. If the server is no longer the primary, ends the link.
   */
  #toNotDone(reply: Error): Error {
    if (reply.message.includes("TOOLATE")) return new TooLate();
    const reason = explain(reply, this.#options.place);
    if (/STALE|READONLY|MASTERDOWN/.test(reply.message)) this.#connections.lose(reason);
    return new NotDone(reason.message, { cause: reply });
  }
}

/** The events of entries. An edit without its own text gets that of its message, from `edited`. */
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
