/**
 * An engine in the hands of a test: opened on a store, with a clock that the test sets, and listeners
 * that wait for events.
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

/** A place that engines can be opened on. It is gone when it is disposed of. */
export interface Store extends AsyncDisposable {
  /** Whether an engine finds what the one before it wrote. */
  readonly isLasting: boolean;
  /** Whether several engines can be open on it at a time, as instances of one chat. */
  readonly isShared: boolean;
  open(options: EngineOptions): Engine | Promise<Engine>;
  /** Lets the next engine find what is stored by now, whatever the present one still does. */
  freeze?(): void | Promise<void>;
}

export type CreateStore = () => Store | Promise<Store>;

/** How long an event may take before a test fails, in milliseconds. */
const PATIENCE_MS = 10_000;

/** What the clock shows when a test begins. */
const START = Date.parse("2026-01-02T03:04:05.678Z");

export const LEASE_MS = 30_000;

/** More events than any test writes. */
export const ALL = 1_000_000;

/** How many events more than it must an engine may keep, whatever it must. */
export const SLACK = 250;

export const ALICE: Author = { username: "alice", person: "guest:a" };
export const BOB: Author = { username: "bob", person: "guest:b" };
export const CAROL: Author = { username: "carol", person: "guest:c" };

/** An engine in a test's hands: its clock is the test's, and it can be closed and opened again. */
export class Lab implements AsyncDisposable {
  /** What the engine's clock shows. */
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

  /** Opens the next engine on what this one leaves behind if it is killed now, if that can be had. */
  async kill(): Promise<void> {
    await this.#store.freeze?.();
    await this.reopen();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const engine of [this.engine, ...this.#others]) await engine.close();
    await this.#store[Symbol.asyncDispose]();
  }
}

/** Keeps the events that a room hears, and waits for them. */
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

  /** Listens to a room that was opened. */
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

  /** Waits until this many events have come in all, and returns them. */
  async count(count: number): Promise<readonly EngineEvent[]> {
    await this.#until(() => this.heard.length >= count, `${count} events`);
    return this.heard;
  }

  /** Waits until the event with this `seq` has come. */
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
