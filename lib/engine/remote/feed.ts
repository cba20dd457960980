/**
 * The events of one room from a server on another machine: the feed passes on each once, in order
 * and without a hole, even if they arrive late, twice or not at all.
 *
 * Received news and read pages follow the same rule, so the two need no lock between them. A feed
 * reads what it has missed when a later event shows a hole, when a subscription is live again, or
 * when a receipt or a comparison of positions is ahead of it.
 *
 * @module
 */

import type { After } from "../../time.ts";
import type { EngineEvent, EngineListener, Presence } from "../engine.ts";
import type { News, NewsItem, Opened, Page, Position } from "./backend.ts";

/** How long a feed that is behind a receipt waits for news before it reads, in milliseconds. */
const NEWS_MS = 250;

/** How long a feed waits after a failed read, in milliseconds. */
const RETRY_MS = 200;

/** Maximum news that wait during a read. Beyond it, another read replaces them. */
const MAX_WAITING = 1000;

/** What a {@linkcode Feed} needs. */
export interface FeedOptions {
  /** Reads the events after a position, up to one page. */
  readonly read: (since: Position) => Promise<Page>;
  /** Receives every event. The last one is `lost` if the room must be opened again. */
  readonly onEvent: EngineListener;
  readonly after: After;
}

/** The numbered kinds of events, each numbered without a hole. */
type Kind = Exclude<keyof Position, "epoch">;

/** The events of one room, in order. */
export class Feed {
  readonly #options: FeedOptions;
  /** The position of the newest event that was passed on; `undefined` until the start. */
  #position: Position | undefined;
  /** The presences that were passed on, by connection. */
  readonly #present = new Map<string, Presence>();
  /** News that came before the start, or during a read. */
  #waiting: News[] = [];
  /** A position of the room, learnt while the feed waits for an earlier one. */
  #expected: Partial<Position> | undefined;
  #isExpecting = false;
  /** Callers that wait until the feed has reached a position. */
  #awaited: { readonly position: Partial<Position>; readonly resolve: () => void }[] = [];
  #isReading = false;
  /** Whether another read is needed. */
  #mustRead = false;
  #isClosed = false;

  constructor(options: FeedOptions) {
    this.#options = options;
  }

  /** Starts at the moment at which the room was read. Call it once. */
  start({ position, present }: Opened): void {
    this.#position = position;
    for (const presence of present) this.#present.set(presence.connection, presence);
    this.#hearWaiting();
    this.#resolveReached();
    if (this.#mustRead) this.catchUp();
  }

  /** Takes received news: passes on the next events, or reads the missing ones before them. */
  hear(news: News): void {
    if (this.#isClosed) return;
    if (this.#position === undefined || this.#isReading) this.#queue(news);
    else this.#take(news);
    this.#resolveReached();
  }

  /** Passes on an event without a number. */
  tell(event: EngineEvent): void {
    if (!this.#isClosed && this.#position !== undefined) this.#options.onEvent(event);
  }

  /** Waits for news up to this position of the room. If they do not come, reads. */
  expect(position: Partial<Position>): void {
    if (this.#isClosed || this.#hasReached(position)) return;
    this.#expected = { ...this.#expected, ...position };
    if (!this.#isExpecting) this.#waitForExpected();
  }

  /** Resolves when the feed has passed on every event up to a position, or is closed. */
  reach(position: Partial<Position>): Promise<void> {
    return new Promise((resolve) => {
      this.#awaited.push({ position, resolve });
      this.#resolveReached();
    });
  }

  /**
   * Reads at once unless the feed has reached this position. Call it when no news is on its way.
   */
  compare(position: Position): void {
    if (!this.#hasReached(position)) this.catchUp();
  }

  /** Reads the events that the feed may have missed. */
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

  /** Waits for the expected position. A position that is expected meanwhile is waited for next. */
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

  /** Passes on the next events. Returns the news from the first hole on, if there is one. */
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

  /** Passes on an event, unless it is a repeat. False if an event before it is missing. */
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

  /** Records a passed on change of presence. */
  #note(event: EngineEvent): void {
    if (event.type === "entered") this.#present.set(event.presence.connection, event.presence);
    else if (event.type === "left") this.#present.delete(event.presence.connection);
  }

  async #readAll(): Promise<void> {
    this.#isReading = true;
    while (this.#mustRead && !this.#isClosed) {
      this.#mustRead = false;
      // The page is newer than these news, and contains their events.
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

  /** Takes the news that came meanwhile. */
  #hearWaiting(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const news of waiting) this.hear(news);
  }

  #takePage(page: Page): void {
    if (this.#isClosed) return;
    const { position: { epoch, seq, erasures }, continues, events } = page;
    if (!continues || erasures !== this.#position!.erasures) return this.#lose();
    if (epoch !== this.#position!.epoch) return this.#continueIn(epoch);
    const before = this.#position!.seq;
    for (const event of events) this.#tellItem({ event: { type: "logged", event, origin: "" } });
    if (this.#isClosed) return;
    // If the page lacks the next event, the log has dropped it.
    if (this.#position!.seq === before && before < seq) this.#lose();
    else if (this.#position!.seq < seq) this.#mustRead = true;
    else this.#takeState(page);
  }

  /** Continues in a new epoch, in which the same version may mean other settings. */
  #continueIn(epoch: string): void {
    this.#position = { ...this.#position!, epoch, settings: -1 };
    this.#options.onEvent({ type: "epoch", epoch });
    this.#mustRead = true;
  }

  /** Takes everything of a page but the log, whose events have all been passed on. */
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

  /** Passes on the changes of presence since the last ones. The last change gets the position. */
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

  /** Passes on erasures, which no page contains. */
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

/** The kind of an event's number; `undefined` if it has none. */
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
