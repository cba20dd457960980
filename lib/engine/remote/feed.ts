/**
 * The events of one room, as an instance hears them from a server on another machine: each once, in
 * order, without a hole, however late, often or seldom they arrive.
 *
 * What is heard and what is read follow the same rule, so the two need no lock between them. A feed
 * reads what it missed: when a later event shows a hole, when a subscription is live again, when a
 * receipt or a comparison of positions is ahead of what it heard.
 *
 * @module
 */

import type { After } from "../../time.ts";
import type { EngineEvent, EngineListener, Presence } from "../engine.ts";
import type { News, NewsItem, Opened, Page, Position } from "./backend.ts";

/** How long a receipt may be ahead of what was heard before the rest is read, in milliseconds. */
const NEWS_MS = 250;

/** How long to wait after a read that failed, in milliseconds. */
const RETRY_MS = 200;

/** Maximum news that wait during a read. Beyond it, what they say is read instead. */
const MAX_WAITING = 1000;

/** What a {@linkcode Feed} needs. */
export interface FeedOptions {
  /** Reads what comes after a position, as many events as fit into a page. */
  readonly read: (since: Position) => Promise<Page>;
  /** Hears every event. The last one is `lost` if the room has to be opened again. */
  readonly onEvent: EngineListener;
  readonly after: After;
}

/** The numbered kinds of events, each numbered without a hole. */
type Kind = Exclude<keyof Position, "epoch">;

/** The events of one room, in order. */
export class Feed {
  readonly #options: FeedOptions;
  /** Where the feed stands; `undefined` until it starts. */
  #position: Position | undefined;
  /** The presences that were told, by connection. */
  readonly #present = new Map<string, Presence>();
  /** News that came before the start, or during a read. */
  #waiting: News[] = [];
  /** Where the room is known to stand, beyond what is waited for. */
  #expected: Partial<Position> | undefined;
  #isExpecting = false;
  /** Those who wait until the feed has reached a position. */
  #awaited: { readonly position: Partial<Position>; readonly resolve: () => void }[] = [];
  #isReading = false;
  /** Whether something happened that asks for a read. */
  #mustRead = false;
  #isClosed = false;

  constructor(options: FeedOptions) {
    this.#options = options;
  }

  /** Starts at the moment when the room was read. Call it once. */
  start({ position, present }: Opened): void {
    this.#position = position;
    for (const presence of present) this.#present.set(presence.connection, presence);
    this.#hearWaiting();
    this.#resolveReached();
    if (this.#mustRead) this.catchUp();
  }

  /** Takes news that were heard: tells what comes next, and reads what is missing before it. */
  hear(news: News): void {
    if (this.#isClosed) return;
    if (this.#position === undefined || this.#isReading) this.#queue(news);
    else this.#take(news);
    this.#resolveReached();
  }

  /** Tells an event that is not part of the numbering. */
  tell(event: EngineEvent): void {
    if (!this.#isClosed && this.#position !== undefined) this.#options.onEvent(event);
  }

  /** Reads what is missing, if the feed stays behind where the room is known to stand. */
  expect(position: Partial<Position>): void {
    if (this.#isClosed || this.#hasReached(position)) return;
    this.#expected = { ...this.#expected, ...position };
    if (!this.#isExpecting) this.#waitForExpected();
  }

  /** Resolves when the feed has told what is up to a position, or is closed. */
  reach(position: Partial<Position>): Promise<void> {
    return new Promise((resolve) => {
      this.#awaited.push({ position, resolve });
      this.#resolveReached();
    });
  }

  /** Reads what is missing, if the room stands elsewhere. For when nothing more is on its way. */
  compare(position: Position): void {
    if (!this.#hasReached(position)) this.catchUp();
  }

  /** Reads what may have been missed. */
  catchUp(): void {
    this.#mustRead = true;
    if (!this.#isReading && !this.#isClosed && this.#position !== undefined) this.#readAll();
  }

  /** Ends the feed. A repeat does nothing. */
  close(): void {
    this.#isClosed = true;
    this.#waiting = [];
    this.#resolveReached();
  }

  #resolveReached(): void {
    if (this.#awaited.length === 0) return;
    const isDone = (position: Partial<Position>) => this.#isClosed || this.#hasReached(position);
    for (const { position, resolve } of this.#awaited) if (isDone(position)) resolve();
    this.#awaited = this.#awaited.filter(({ position }) => !isDone(position));
  }

  #hasReached({ epoch, ...numbers }: Partial<Position>): boolean {
    const position = this.#position;
    if (position === undefined) return false;
    if (epoch !== undefined && epoch !== position.epoch) return false;
    return Object.entries(numbers).every(([kind, number]) => number <= position[kind as Kind]);
  }

  /** Waits for what is expected now. What is expected in the meantime is waited for afterwards. */
  #waitForExpected(): void {
    const expected = this.#expected!;
    this.#expected = undefined;
    this.#isExpecting = true;
    this.#options.after(NEWS_MS, () => {
      this.#isExpecting = false;
      if (!this.#hasReached(expected)) this.catchUp();
      if (this.#expected !== undefined) this.expect(this.#expected);
    });
  }

  #queue(news: News): void {
    if (this.#waiting.length < MAX_WAITING) this.#waiting.push(news);
    else this.#mustRead = true;
  }

  #take(news: News): void {
    const rest = this.#tellNext(news);
    if (rest === undefined) return;
    this.#queue(rest);
    this.catchUp();
  }

  /** Tells what comes next. Returns the news from the first hole on, if there is one. */
  #tellNext(news: News): News | undefined {
    const { epoch, items, position } = news;
    if (epoch !== this.#position!.epoch) return news;
    if (items === undefined) return this.#hasReached(position!) ? undefined : news;
    for (const [i, item] of items.entries()) {
      if (this.#isClosed) return undefined;
      if (!this.#tellItem(item)) return { ...news, items: items.slice(i) };
    }
    return undefined;
  }

  /** Tells an event unless it was told before. False if something is missing before it. */
  #tellItem({ event, number }: NewsItem): boolean {
    const kind = kindOf(event);
    if (kind !== undefined) {
      const next = numberOf(event) ?? number!;
      const last = this.#position![kind];
      if (next <= last) return true;
      if (next > last + 1) return false;
      this.#position = { ...this.#position!, [kind]: next };
    }
    this.#note(event);
    this.#options.onEvent(event);
    return true;
  }

  /** Keeps the presences as they are told. */
  #note(event: EngineEvent): void {
    if (event.type === "entered") this.#present.set(event.presence.connection, event.presence);
    else if (event.type === "left") this.#present.delete(event.presence.connection);
  }

  async #readAll(): Promise<void> {
    this.#isReading = true;
    while (this.#mustRead && !this.#isClosed) {
      this.#mustRead = false;
      // The page is of a later moment than these, and contains what they say.
      const covered = this.#waiting;
      this.#waiting = [];
      let page: Page;
      try {
        page = await this.#options.read(this.#position!);
      } catch {
        this.#waiting = [...covered, ...this.#waiting].slice(-MAX_WAITING);
        this.#mustRead = true;
        await new Promise<void>((resolve) => this.#options.after(RETRY_MS, resolve));
        continue;
      }
      for (const news of [...covered, ...this.#waiting]) this.#tellErasures(news);
      this.#takePage(page);
      for (const news of covered) this.#tellUnnumbered(news);
      this.#resolveReached();
    }
    this.#isReading = false;
    this.#hearWaiting();
  }

  /** Takes the news that came in the meantime. */
  #hearWaiting(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const news of waiting) this.hear(news);
  }

  #takePage(page: Page): void {
    if (this.#isClosed) return;
    const { position: { epoch, seq, erasures }, continues, events } = page;
    if (!continues || erasures !== this.#position!.erasures) return this.#lose();
    if (epoch !== this.#position!.epoch) return this.#goOn(epoch);
    const before = this.#position!.seq;
    for (const event of events) this.#tellItem({ event: { type: "logged", event, origin: "" } });
    if (this.#isClosed) return;
    // If nothing came next, it was dropped meanwhile.
    if (this.#position!.seq === before && before < seq) this.#lose();
    else if (this.#position!.seq < seq) this.#mustRead = true;
    else this.#takeState(page);
  }

  /** Goes on in another epoch, in which the version of the settings may stand for other ones. */
  #goOn(epoch: string): void {
    this.#position = { ...this.#position!, epoch, settings: -1 };
    this.#options.onEvent({ type: "epoch", epoch });
    this.#mustRead = true;
  }

  /** Takes everything of a page but the log, which has been told up to the page's moment. */
  #takeState({ position, privates, privatesTo, settings, present }: Page): void {
    for (const { message } of privates) {
      this.#options.onEvent({ type: "private", message, origin: "" });
    }
    if (privatesTo < position.privates) {
      this.#position = { ...this.#position!, privates: privatesTo };
      this.#mustRead = true;
      return;
    }
    if (settings !== undefined) this.#options.onEvent({ type: "settings", settings });
    const before = this.#position!.presence;
    this.#position = position;
    if (present !== undefined) this.#tellChanges(present, before, position.presence);
  }

  /** Tells how the presences differ from those that were told. The last change has the position. */
  #tellChanges(present: readonly Presence[], before: number, position: number): void {
    const now = new Set(present.map(({ connection }) => connection));
    const left = [...this.#present.values()].filter(({ connection }) => !now.has(connection));
    const entered = present.filter(({ connection }) => !this.#present.has(connection));
    const changes = [
      ...left.map((presence) => ({ type: "left", presence }) as const),
      ...entered.map((presence) => ({ type: "entered", presence }) as const),
    ];
    for (const [i, change] of changes.entries()) {
      const event = { ...change, position: i === changes.length - 1 ? position : before };
      this.#note(event);
      this.#options.onEvent(event);
    }
  }

  /** Tells of erasures, which no page contains. */
  #tellErasures({ items = [] }: News): void {
    for (const item of items) if (item.event.type === "erased") this.#tellItem(item);
  }

  #tellUnnumbered({ items = [] }: News): void {
    for (const { event } of items) if (kindOf(event) === undefined) this.tell(event);
  }

  #lose(): void {
    this.close();
    this.#options.onEvent({ type: "lost" });
  }
}

/** How an event is numbered; `undefined` if it is not. */
function kindOf({ type }: EngineEvent): Kind | undefined {
  switch (type) {
    case "logged":
      return "seq";
    case "entered":
    case "left":
      return "presence";
    case "private":
      return "privates";
    case "settings":
      return "settings";
    case "erased":
      return "erasures";
    default:
      return undefined;
  }
}

/** The number that an event itself has. */
function numberOf(event: EngineEvent): number | undefined {
  switch (event.type) {
    case "logged":
      return event.event.seq;
    case "entered":
    case "left":
      return event.position;
    case "settings":
      return event.settings.version;
    default:
      return undefined;
  }
}
