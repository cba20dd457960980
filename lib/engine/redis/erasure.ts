/**
 * Erases the messages of removed accounts, in Redis: a few hundred entries in each step.
 *
 * A step reads entries, and replaces those that nobody has changed since. The progress is kept in
 * memory: the next link begins again, and finds less to do.
 *
 * @module
 */

import { nameKey } from "../../names.ts";
import { accountPerson } from "../../people/accounts.ts";
import { LIVE_EVENTS } from "../changes.ts";
import type { Answer, Job } from "../remote/backend.ts";
import type { Command, Connections, Reply } from "./connection.ts";
import { type Entry, formatEntry, formatPrivate, parseEntry, parsePrivate } from "./entries.ts";
import { inboxKey, PEOPLE_KEYS, roomKey, ROOMS_KEY } from "./keys.ts";
import { META } from "./scripts.ts";

/** Entries that one step reads. */
const CHUNK = 256;

/** The progress of one account's erasure. */
interface Progress {
  readonly account: string;
  /** The rooms that are left, the present one at the end. */
  readonly rooms: string[];
  /** The last event of the present room that was read. */
  seq: number;
  /** Where the scan of the room's private messages continues; `undefined` at their end. */
  cursor: string | undefined;
}

/** What {@linkcode RedisErasure} needs. */
export interface ErasureParts {
  readonly connections: Connections;
  readonly channelOf: (room: string) => string;
  /** The first arguments of a script that writes to a room. */
  readonly roomArgs: (room: string) => string[];
  /** Runs jobs. */
  readonly turn: (jobs: Job[], deadline: number) => Promise<Answer[]>;
}

/** Erases the messages of removed accounts. */
export class RedisErasure {
  readonly #parts: ErasureParts;
  #progress: Progress | undefined;

  constructor(parts: ErasureParts) {
    this.#parts = parts;
  }

  /** Erases some messages. False if nothing is left to erase. */
  async step(deadline: number): Promise<boolean> {
    const progress = this.#progress ??= await this.#next();
    if (progress === undefined) return false;
    const room = progress.rooms.at(-1);
    if (room === undefined) {
      await this.#ask(["SREM", PEOPLE_KEYS[4]!, progress.account]);
      this.#progress = undefined;
    } else if (progress.cursor !== undefined) await this.#erasePrivates(room, progress);
    else if (!await this.#eraseEvents(room, progress, deadline)) {
      progress.rooms.pop();
      [progress.seq, progress.cursor] = [0, "0"];
    }
    return true;
  }

  async #next(): Promise<Progress | undefined> {
    const account = await this.#ask(["SRANDMEMBER", PEOPLE_KEYS[4]!]);
    if (account === null) return undefined;
    return { account, rooms: await this.#ask(["SMEMBERS", ROOMS_KEY]), seq: 0, cursor: "0" };
  }

  async #erasePrivates(room: string, progress: Progress): Promise<void> {
    const key = roomKey(room, "privates");
    const person = accountPerson(progress.account);
    const [next, found] = await this.#ask(["HSCAN", key, progress.cursor!, "COUNT", CHUNK]);
    const args: string[] = [];
    for (let i = 0; i < found.length; i += 2) {
      args.push(...toErased(found[i], found[i + 1], person));
    }
    if (args.length > 0) {
      await this.#run("rewritePrivates", [key, roomKey(room, "private_refs")], args);
    }
    progress.cursor = next === "0" ? undefined : next;
    if (next !== "0") return;
    await this.#ask(["DEL", inboxKey(room, person)]);
    await this.#ask(["HDEL", roomKey(room, "inboxes"), person]);
  }

  /** Erases some of a room's events. False at their end. */
  async #eraseEvents(room: string, progress: Progress, deadline: number): Promise<boolean> {
    const keys = [roomKey(room, "meta"), roomKey(room, "log")];
    const read = () => this.#run("events", keys, [progress.seq, CHUNK]);
    let [meta, texts] = await read();
    if (texts.length === 0) return false;
    const live = await this.#deleteLive(room, progress, texts, meta, deadline);
    if (live.size > 0) [meta, texts] = await read();
    const { account } = progress;
    const ids = live.isInUse ? live.idsBeside(texts, account) : [];
    const args = (texts as string[]).flatMap((text) => {
      const entry = parseEntry(text);
      const erased = eraseEntry(entry, account);
      return erased === undefined ? [] : [entry.seq, text, formatEntry(erased)];
    });
    if (args.length > 0) {
      const news = ids.length > 0 ? JSON.stringify(ids) : "";
      const common = [...this.#parts.roomArgs(room), news];
      await this.#run("rewrite", [...keys, roomKey(room, "refs")], [...common, ...args]);
    }
    // Later events are not the account's, which has ended.
    if (texts.length < CHUNK) return false;
    progress.seq = Number(parseEntry(texts.at(-1)).seq);
    return true;
  }

  /** Deletes messages that members may see one by one, so that they disappear for everyone. */
  async #deleteLive(
    room: string,
    { account }: Progress,
    texts: string[],
    meta: string[],
    deadline: number,
  ): Promise<Live> {
    const person = accountPerson(account);
    const own = texts.map(parseEntry).filter((entry) => entry.person === person);
    const isInUse = own.length > 0 && await this.#isInUse(room);
    const newest = Number(meta[META.indexOf("s")]);
    const live = isInUse
      ? own.filter(({ kind, seq }) => kind === "c" && newest - Number(seq) < LIVE_EVENTS)
      : [];
    const nobody = { username: "", person: "", origin: "", isModerator: true };
    const jobs = live.map(({ id }): Job => ({
      type: "change",
      room,
      change: { type: "erase", id, ...nobody },
    }));
    if (jobs.length > 0) await this.#parts.turn(jobs, deadline);
    return new Live(isInUse, live.map(({ id }) => id));
  }

  async #isInUse(room: string): Promise<boolean> {
    const { connections, channelOf } = this.#parts;
    const [present, listening] = await connections.run([
      ["HLEN", roomKey(room, "presences")],
      ["PUBSUB", "NUMSUB", channelOf(room)],
    ]);
    return present > 0 || listening[1] > 0;
  }

  #run(name: "events" | "rewrite" | "rewritePrivates", keys: string[], args: (string | number)[]) {
    return this.#ask(this.#parts.connections.script(name, keys, args));
  }

  async #ask(command: Command): Promise<Reply> {
    const [reply] = await this.#parts.connections.run([command]);
    if (reply instanceof Error) throw reply;
    return reply;
  }
}

/** The messages that were deleted one by one. */
class Live {
  readonly isInUse: boolean;
  readonly #ids: ReadonlySet<string>;

  constructor(isInUse: boolean, ids: readonly string[]) {
    this.isInUse = isInUse;
    this.#ids = new Set(ids);
  }

  get size(): number {
    return this.#ids.size;
  }

  /** The ids of an account's other messages. */
  idsBeside(texts: readonly string[], account: string): string[] {
    const person = accountPerson(account);
    return texts.map(parseEntry).flatMap((entry) => {
      const isMessage = entry.kind === "c" || entry.kind === "d";
      return isMessage && entry.person === person && !this.#ids.has(entry.id) ? [entry.id] : [];
    });
  }
}

/** An entry without an account's text and name; `undefined` if it needs no change. */
function eraseEntry(entry: Entry, account: string): Entry | undefined {
  const { kind, person, username } = entry;
  const isMessage = kind === "c" || kind === "d";
  const hasName = nameKey(username) === account;
  if (person !== accountPerson(account)) {
    // A moderator's change of the account's message has the account's name.
    return !isMessage && hasName ? { ...entry, username: "" } : undefined;
  }
  const nobody = { ...entry, person: "", ref: "", content: "" };
  if (!isMessage) return { ...nobody, username: hasName ? "" : username };
  return { ...nobody, kind: "d", username: "", reply: "" };
}

/** The arguments that erase a person from a private message: number, old text, new text, ref. */
function toErased(number: string, text: string, person: string): string[] {
  const entry = parsePrivate(text);
  const isOwn = entry.person === person;
  if (!isOwn && entry.toPerson !== person) return [];
  const lost = new Set([...isOwn ? ["f"] : [], ...entry.toPerson === person ? ["t"] : []]);
  const flags = [...entry.flags].filter((flag) => !lost.has(flag)).join("");
  const field = isOwn && entry.ref !== "" ? `${person}\n${entry.ref}` : "";
  const nobody = { person: "", username: "", ref: "", content: "" };
  const rest = { ...entry, flags, ...(isOwn && nobody) };
  const after = flags === "" ? "" : formatPrivate(rest);
  return after === text ? [] : [number, text, after, field];
}
