/**
 * An engine under the test's control: opened on a store, with a fake clock, and listeners that wait for
 * events.
 *
 * @module
 */

import { assert, assertEquals, AssertionError, assertRejects } from "@std/assert";
import type {
  Author,
  ChangeBase,
  Draft,
  Engine,
  EngineEvent,
  EngineOptions,
  OpenRoom,
  Presence,
  PrivateDraft,
  Receipt,
} from "../../lib/engine/engine.ts";
import { ChatError, type ErrorCode } from "../../lib/errors.ts";
import type { Account, BotToken, Token } from "../../lib/people/accounts.ts";
import type { LogEvent } from "../../lib/protocol/events.ts";

/** A store for engines. Disposing of it removes it. */
export interface Store extends AsyncDisposable {
  /** Whether an engine finds the data of the one before it. */
  readonly isLasting: boolean;
  /** Whether several engines can be open on it at a time, as instances of one chat. */
  readonly isShared: boolean;
  open(options: EngineOptions): Engine | Promise<Engine>;
  /** Gives the next engine the data stored by now, whatever the current one still does. */
  freeze?(): void | Promise<void>;
}

export type CreateStore = () => Store | Promise<Store>;

/** Maximum wait for an event, in milliseconds. */
const PATIENCE_MS = 10_000;

/** The time at the start of a test. */
const START = Date.parse("2026-01-02T03:04:05.678Z");

export const LEASE_MS = 30_000;

/** More events than any test writes. */
export const ALL = 1_000_000;

/** Maximum events that an engine may keep beyond the required number. */
export const SLACK = 250;

export const ALICE: Author = { username: "alice", person: "guest:a" };
export const BOB: Author = { username: "bob", person: "guest:b" };
export const CAROL: Author = { username: "carol", person: "guest:c" };

/** An engine with a fake clock, which can be closed and opened again. */
export class Lab implements AsyncDisposable {
  /** The time of the engine's clock. */
  time = START;
  engine!: Engine;
  readonly #store: Store;
  readonly #options: EngineOptions;
  readonly #others: Engine[] = [];

  private constructor(store: Store, options: Partial<EngineOptions>) {
    this.#store = store;
    this.#options = {
      clock: () => this.time,
      newId: () => crypto.randomUUID(),
      keep: Infinity,
      leaseMs: LEASE_MS,
      ...options,
    };
  }

  static async open(create: CreateStore, options: Partial<EngineOptions> = {}): Promise<Lab> {
    const lab = new Lab(await create(), options);
    lab.engine = await lab.#store.open(lab.#options);
    return lab;
  }

  get isLasting(): boolean {
    return this.#store.isLasting;
  }

  get isShared(): boolean {
    return this.#store.isShared;
  }

  /** Opens another engine beside the first one, as a further instance of the chat. */
  async openAnother(): Promise<Engine> {
    const other = await this.#store.open(this.#options);
    this.#others.push(other);
    return other;
  }

  /** Ends the engine and opens the next one on the same store. */
  async reopen(): Promise<void> {
    await this.engine.close();
    this.engine = await this.#store.open(this.#options);
  }

  /** Opens the next engine on the data that a kill would leave now, if the store supports it. */
  async kill(): Promise<void> {
    await this.#store.freeze?.();
    await this.reopen();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const engine of [this.engine, ...this.#others]) await engine.close();
    await this.#store[Symbol.asyncDispose]();
  }
}

/** Records the events of a room, and waits for them. */
export class Listener implements Disposable {
  readonly #heard: EngineEvent[] = [];
  #stop = () => {};
  #wake = () => {};

  private constructor() {}

  /** Listens to a room from now on. */
  static async open(engine: Engine, room: string): Promise<Listener> {
    const listener = new Listener();
    listener.#stop = await engine.bus.subscribe(room, (event) => listener.#hear(event));
    return listener;
  }

  /** Listens to an opened room. */
  static to(room: OpenRoom): Listener {
    const listener = new Listener();
    listener.#stop = () => room.close();
    room.listen((event) => listener.#hear(event));
    return listener;
  }

  /** Every event so far. */
  get heard(): readonly EngineEvent[] {
    return this.#heard;
  }

  stop(): void {
    this.#stop();
  }

  #hear(event: EngineEvent): void {
    this.#heard.push(event);
    this.#wake();
  }

  /** The logged events so far. */
  get logged(): LogEvent[] {
    return this.heard.flatMap((one) => one.type === "logged" ? [one.event] : []);
  }

  /** Waits for this many events in total, and returns them. */
  async count(count: number): Promise<readonly EngineEvent[]> {
    await this.#until(() => this.heard.length >= count, `${count} events`);
    return this.heard;
  }

  /** Waits for the event with this `seq`. */
  async seq(seq: number): Promise<LogEvent[]> {
    await this.#until(() => this.logged.some((event) => event.seq >= seq), `seq ${seq}`);
    return this.logged;
  }

  async #until(isDone: () => boolean, what: string): Promise<void> {
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      this.#wake();
    }, PATIENCE_MS);
    while (!isDone() && !isLate) await new Promise<void>((resolve) => this.#wake = resolve);
    clearTimeout(timer);
    if (!isDone()) throw new AssertionError(`Waited for ${what}, and had ${this.heard.length}.`);
  }

  [Symbol.dispose](): void {
    this.stop();
  }
}

export function draft(author: Author, content: string, ref?: string): Draft {
  return { ...author, content, origin: `of ${author.person}`, ...(ref !== undefined && { ref }) };
}

export function privateDraft(from: Author, to: Author, content: string, ref?: string) {
  return { ...draft(from, content, ref), to } satisfies PrivateDraft;
}

/** The request to change a message, without the change itself. */
export function change(author: Author, id: string): ChangeBase {
  return { ...author, id, origin: `of ${author.person}` };
}

/** Changes the text of a message. */
export function editMessage(
  engine: Engine,
  room: string,
  wish: ChangeBase & { readonly content: string },
): Promise<Receipt<LogEvent>> {
  return engine.log.change(room, { ...wish, type: "edit" });
}

/** Deletes a message. */
export function deleteMessage(
  engine: Engine,
  room: string,
  wish: ChangeBase,
): Promise<Receipt<LogEvent>> {
  return engine.log.change(room, { ...wish, type: "delete" });
}

export function presence(author: Author, connection: string): Presence {
  return { ...author, connection };
}

export async function assertRefused(run: () => Promise<unknown>, code: ErrorCode): Promise<void> {
  const error = await assertRejects(run, ChatError);
  assertEquals(error.code, code);
}

export function contents(events: readonly { content: string }[]): string[] {
  return events.map(({ content }) => content);
}

export function numbers(events: readonly { seq: number }[]): number[] {
  return events.map(({ seq }) => seq);
}

type PresenceChange = Extract<EngineEvent, { type: "entered" | "left" }>;

export function isPresenceChange(event: EngineEvent): event is PresenceChange {
  return event.type === "entered" || event.type === "left";
}

/** A change of presence without its position, which is the engine's choice. */
export function toPresenceChange(event: EngineEvent): [type: string, presence: Presence] {
  assert(isPresenceChange(event));
  return [event.type, event.presence];
}

export function account(key: string): Account {
  return { key, username: key.toUpperCase(), passwordHash: `hash of ${key}` };
}

export function token(hash: string, expiresAt: number): Token {
  return { hash, account: "alice", expiresAt };
}

export function botToken(hash: string, fields: Partial<BotToken> = {}): BotToken {
  return { hash, account: "alice", name: `bot ${hash}`, created: 1, ...fields };
}

/** 1 to `count`. */
export function upTo(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i + 1);
}

/** Appends this many messages at once. */
export async function say(engine: Engine, room: string, count: number, author = ALICE) {
  const receipts = upTo(count).map((n) => engine.log.append(room, draft(author, `message ${n}`)));
  return (await Promise.all(receipts)).map(({ event }) => event);
}
