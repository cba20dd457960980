// @ts-check
/**
 * One person's place in one room, kept over a network that comes and goes.
 *
 * Owns the socket, the numbering of what was seen, what is still to be sent, when to try again, and
 * the reason when the server says no. Speaks `chat.v1`. Knows nothing of any page: the same file
 * runs in a browser, in Deno and in Node 22.
 *
 *     const connection = new Connection({ base: "http://localhost:8080", room: "tea", username: "Ada" });
 *     connection.on("events", (events) => console.log(events));
 *     connection.open();
 *     connection.send("Good morning");
 *
 * @module
 */

import { isSealed } from "./cipher.js";
import { Roster } from "./roster.js";

/** @import { AckEvent, ErrorEvent, Event, HistoryEvent } from "../lib/protocol/events.ts" */
/** @import { Command, RoomChange } from "../lib/protocol/commands.ts" */
/** @import { Role, WelcomeEvent } from "../lib/protocol/events.ts" */
/** @import { Label } from "./cipher.js" */

/**
 * What the connection is doing. `retryAt` is in the terms of the injected `now()`: milliseconds.
 * `reason` is a sentence for a person, `""` when there is nothing worth saying. `code` is the HTTP
 * status or the close code that ended it.
 *
 * @typedef {{ state: "connecting" }
 *   | { state: "live" }
 *   | { state: "reconnecting", retryAt: number, attempt: number, reason: string }
 *   | { state: "refused", reason: string, code: number }
 *   | { state: "closed" }} ConnectionState
 */

/**
 * What opening a sealed text came to: it was `sound`, it could not be opened (`broken`), or it was
 * not sealed at all (`bare`). Absent where there is no cipher.
 *
 * @typedef {"sound" | "broken" | "bare"} Seal
 */

/**
 * An event of the server; in a sealed room its content has been opened.
 *
 * @typedef {Event & { seal?: Seal }} Told
 */

/**
 * A message on its way out. It is `waiting` until it can go, `sending` until the server has stored
 * it, then `sent`; or it has `failed` for `reason`, and may be sent again.
 *
 * @typedef {object} Outgoing
 * @property {string} ref Names it here and for the server, which takes the same `ref` only once.
 * @property {string} content
 * @property {string} [to] The one who gets it, if it is private.
 * @property {"waiting" | "sending" | "sent" | "failed"} status
 * @property {string} reason
 * @property {AckEvent} [ack] Its id and its numbers, once it is sent.
 */

/**
 * What is told by {@linkcode Connection.on}.
 *
 * - `state`: the connection does something else now.
 * - `events`: what one frame of the server told, in order. Every message comes once, and in the order
 *   of its `seq`; an own one comes after its `outgoing` has said `sent`.
 * - `outgoing`: a message to be sent has another status.
 * - `gap`: something may have been missed for good. `isNewLife`: the numbering starts anew, and what
 *   was told before has no place in it.
 * - `people`: somebody came or went.
 *
 * @typedef {{
 *   state: ConnectionState,
 *   events: readonly Told[],
 *   outgoing: Outgoing,
 *   gap: { isNewLife: boolean },
 *   people: Roster,
 * }} Emits
 */

/**
 * Seals what is sent and opens what comes, as `Cipher` of `cipher.js` does.
 *
 * @typedef {object} Sealer
 * @property {(text: string, label: Label) => Promise<string>} seal
 * @property {(sealed: string, label: Label) => Promise<string>} open
 */

/**
 * What it takes to send a message, now or in another life of the page.
 *
 * @typedef {Pick<Outgoing, "ref" | "content" | "to">} Unsent
 */

/**
 * @typedef {object} ConnectionOptions
 * @property {string | URL} base Where the server is, `http:` or `https:`; `ws/ROOM` is beside it.
 * @property {string} room
 * @property {string} username
 * @property {string} [session] The secret from an earlier welcome: proves to be the same person.
 * @property {Sealer} [cipher] Seals every text. Without it nothing is sealed.
 * @property {readonly Unsent[]} [unsent] What an earlier connection could not send.
 */

/**
 * What is needed from the outside, so that tests can stand in for the network and for time.
 *
 * @typedef {object} Surroundings
 * @property {(url: string, protocol: string) => WebSocket} openSocket
 * @property {(url: string, signal: AbortSignal) => Promise<Response>} fetch
 * @property {(task: () => void, delayMs: number) => unknown} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {() => number} now
 * @property {() => number} random
 * @property {() => string} newRef
 */

const PROTOCOL = "chat.v1";
/** The first wait before trying again. Each further one is twice as long, less some jitter. */
const FIRST_WAIT_MS = 500;
/** The first wait when the server says that it has too much to do. */
const OVERLOAD_WAIT_MS = 10_000;
/** No wait is longer than this, unless the server names a longer one. */
const LONGEST_WAIT_MS = 30_000;
/** How long one attempt may take, the question why included. */
const ATTEMPT_MS = 15_000;
/** A connection that lasted this long was a good one: waits start from the first again. */
const STEADY_MS = 10_000;
/** After so much silence the server is asked whether it is still there. */
const SILENCE_MS = 25_000;
/** A server that says nothing for so long after it was sent something is gone. */
const ANSWER_MS = 10_000;
/** Messages under way at a time. The rest waits for their acks, and the server is not flooded. */
const WINDOW = 16;
/** How long a message waits that the server could not take just now, unless it says how long. */
const PAUSE_MS = 2000;
/** How long own messages are held back until their acks say which they are. */
const HOLD_MS = 5000;
/** The server forgets after 5 s that somebody types: said again this often. */
const TYPING_AGAIN_MS = 3000;

/** Errors that pass: the same message may be taken later. */
const PASSING = new Set(["rate_limited", "unavailable", "full"]);

const NAME_IN_USE = "Someone in this room is already using that name. Pick another one.";
const TOO_FAST = "Slow down a little. What you wrote goes out by itself, in a moment.";
const GONE = "The connection ended before the server answered.";

/**
 * What an HTTP status or a close code means for us. A code that is not here is a lost connection:
 * try again.
 *
 * @type {Record<number, { then: "refuse" | "wait", say: string }>}
 */
const MEANING = {
  400: { then: "refuse", say: "The server does not accept that name or room." },
  401: { then: "refuse", say: "Sign in to join this room." },
  403: { then: "refuse", say: "You may not join this room." },
  404: { then: "refuse", say: "There is no chat server at this address." },
  409: { then: "refuse", say: NAME_IN_USE },
  429: { then: "wait", say: "Too many attempts." },
  503: { then: "wait", say: "The server has no room at the moment." },
  1003: { then: "refuse", say: "The server did not understand what was sent." },
  1008: { then: "refuse", say: "The server ended the connection." },
  1009: { then: "refuse", say: "The message was too long for the server." },
  1013: { then: "wait", say: "The server has no room at the moment." },
  4001: { then: "refuse", say: "Your session has ended. Sign in again." },
  4003: { then: "refuse", say: "You may not be in this room." },
  4009: { then: "refuse", say: NAME_IN_USE },
  4029: { then: "wait", say: "Too many messages at once." },
};

/** @type {Surroundings} */
const REAL = {
  openSocket: (url, protocol) => new WebSocket(url, protocol),
  fetch: (url, signal) => fetch(url, { signal, headers: { accept: "application/json" } }),
  setTimeout: (task, delayMs) => setTimeout(task, delayMs),
  clearTimeout: (timer) => clearTimeout(timer),
  now: () => Date.now(),
  random: () => Math.random(),
  newRef,
};

/** The server refuses what was asked for. The message is its sentence. */
export class RefusedError extends Error {
  /** @override */
  name = "RefusedError";
  /** @param {string} sentence @param {string} code */
  constructor(sentence, code) {
    super(sentence);
    this.code = code;
  }
}

/** Joins a room and stays there until told to leave or turned away. */
export class Connection {
  /** The room, as the server will spell it. */
  room;
  /** The person's name, as the server will spell it. */
  username;
  /** Who is in the room. */
  roster = new Roster();
  /**
   * The secret that proves to be the same person again, once the server gave one.
   *
   * @type {string | undefined}
   */
  session;
  /**
   * UTF-8 bytes of a message, as the server takes it; `null` for no limit.
   *
   * @type {number | null}
   */
  maxMessageBytes = 4096;
  /**
   * What the person may do here: owners and admins may remove people, delete any message, and change
   * the room's settings.
   *
   * @type {Role}
   */
  role = "member";
  /** Whether only the room's members may come in. */
  isPrivate = false;

  /** @type {string | URL} */ #base;
  /** @type {Surroundings} */ #around;
  /** @type {Sealer | undefined} */ #cipher;
  /** @type {ConnectionState} */ #state = { state: "closed" };
  /** @type {{ [type in keyof Emits]?: Set<(what: any) => void> }} */ #listeners = {};

  /** @type {WebSocket | undefined} */ #socket;
  /** Stops the question why. */ #asking = new AbortController();
  /**
   * For the attempt, the wait or the watch over a live connection: there is one of them at a time.
   *
   * @type {unknown}
   */
  #timer;
  /** Counts attempts, so that whatever a given-up one still has to say is not heard. */
  #turn = 0;
  #attempt = 0;
  #liveSince = 0;
  /** When the server was heard last, and since when it owes an answer. */
  #heardAt = 0;
  /** @type {number | undefined} */ #askedAt;
  /** The server's last complaint on this socket: it explains the close that may follow. */
  #complaint = "";

  // What was seen
  /** @type {string | undefined} */ #epoch;
  #seq = 0;
  /** The private messages seen: all up to `#inbox`, and these beyond it. */
  #inbox = 0;
  /** @type {Set<number>} */ #ahead = new Set();
  /**
   * Told by the server, and not yet told on: an own message among it waits for its ack.
   *
   * @type {Told[]}
   */
  #backlog = [];
  /** @type {unknown} */ #holdTimer;
  #isHolding = true;
  /** Opening sealed texts takes turns, so that their order stays. */
  #opening = Promise.resolve();

  // What is to be sent
  /**
   * In order; with its sealed content, once it is sealed.
   *
   * @type {Map<string, Outgoing & { wire?: string }>}
   */
  #outbox = new Map();
  /** Ids of own messages whose acks have come and which themselves have not. @type {Set<string>} */
  #own = new Set();
  /** @type {unknown} */ #pauseTimer;
  #isPaused = false;
  /** The server had too much from us: one message at a time, until all that waits is sent. */
  #isSlow = false;
  /** @type {Map<string, { resolve: (event: any) => void, reject: (error: Error) => void }>} */
  #requests = new Map();
  #typedAt = -Infinity;

  /**
   * Nothing happens before `open()`.
   *
   * @param {ConnectionOptions} options
   * @param {Partial<Surroundings>} [around]
   */
  constructor({ base, room, username, session, cipher, unsent = [] }, around = {}) {
    this.#around = { ...REAL, ...around };
    this.#base = base;
    this.room = room.normalize("NFC").trim();
    this.username = username.normalize("NFC").trim();
    this.session = session;
    this.#cipher = cipher;
    for (const item of unsent) this.#enqueue(item);
  }

  /** @returns {ConnectionState} */
  get state() {
    return this.#state;
  }

  /** The messages that the server has not stored yet, oldest first. @returns {Outgoing[]} */
  get unsent() {
    return [...this.#outbox.values()];
  }

  /**
   * Calls back whenever something is told, from now on.
   *
   * @template {keyof Emits} T
   * @param {T} type
   * @param {(what: Emits[T]) => void} listener
   * @returns {() => void} stops it
   */
  on(type, listener) {
    const listeners = this.#listeners[type] ??= new Set();
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }

  /** Joins. Does nothing when already joining or joined. */
  open() {
    const { state } = this.#state;
    if (state === "closed" || state === "refused") this.#try();
  }

  /** Ends the wait for the next attempt, because the network is back or a person asked. */
  retry() {
    if (this.#state.state === "reconnecting") this.#try();
  }

  /**
   * To be called when the connection may have died unnoticed: the computer slept, the network is
   * another one. A connection that is waiting tries now, a live one asks the server for an answer.
   */
  check() {
    this.retry();
    if (this.#state.state === "live" && this.#askedAt === undefined) this.#ping();
  }

  /**
   * Leaves for good. `open()` joins again. What is unsent stays unsent.
   *
   * @param {number} [code] the close code
   * @returns {Promise<void>} resolves when the connection is closed
   */
  close(code = 1000) {
    const closed = this.#drop(code);
    this.#attempt = 0;
    this.#become({ state: "closed" });
    return closed;
  }

  /**
   * Says something to the room. It goes out now, or as soon as there is a connection, and once.
   *
   * @param {string} content
   * @returns {Outgoing}
   */
  send(content) {
    return this.#enqueue({ ref: this.#around.newRef(), content });
  }

  /**
   * Says something to one person in the room.
   *
   * @param {string} to
   * @param {string} content
   * @returns {Outgoing}
   */
  whisper(to, content) {
    return this.#enqueue({ ref: this.#around.newRef(), content, to });
  }

  /**
   * Sends a message again that has failed.
   *
   * @param {string} ref
   */
  sendAgain(ref) {
    const item = this.#outbox.get(ref);
    if (item?.status !== "failed") return;
    // It goes to the end: what was said since then is sent already.
    this.#outbox.delete(ref);
    this.#outbox.set(ref, item);
    this.#turnInto(item, "waiting");
    this.#pump();
  }

  /**
   * Forgets a message that has failed.
   *
   * @param {string} ref
   */
  discard(ref) {
    if (this.#outbox.get(ref)?.status === "failed") this.#outbox.delete(ref);
  }

  /**
   * Gives an own message another text.
   *
   * @param {string} id
   * @param {string} content
   * @returns {Promise<AckEvent>}
   * @throws {RefusedError} if the server does not do it, or there is no connection
   */
  async edit(id, content) {
    const label = { room: this.room, from: this.username, edits: id };
    const wire = this.#cipher ? await this.#cipher.seal(content, label) : content;
    return this.#request({ type: "edit", id, content: wire });
  }

  /**
   * Takes an own message back; owners and admins any message.
   *
   * @param {string} id
   * @returns {Promise<AckEvent>}
   * @throws {RefusedError} if the server does not do it, or there is no connection
   */
  async delete(id) {
    return await this.#request({ type: "delete", id });
  }

  /**
   * Removes everyone under a name from the room. For its owner and for admins.
   *
   * @param {string} username
   * @param {{ reason?: string, ban?: boolean }} [how] `reason` is what they are told; with `ban`
   *   neither the name nor the person can come back
   * @returns {Promise<AckEvent>}
   * @throws {RefusedError} if the server does not do it, or there is no connection
   */
  async kick(username, { reason, ban } = {}) {
    return await this.#request({
      type: "kick",
      username,
      ...(reason && { reason }),
      ...(ban && { ban }),
    });
  }

  /**
   * Changes the room's settings, those that are named. For its owner and for admins; whoever has an
   * account and changes those of a room without an owner owns it from then on.
   *
   * @param {RoomChange} change
   * @returns {Promise<AckEvent>}
   * @throws {RefusedError} if the server does not do it, or there is no connection
   */
  async setRoom(change) {
    const ack = await this.#request({ ...change, type: "room" });
    if (this.role === "member") this.role = "owner";
    this.isPrivate = change.private ?? this.isPrivate;
    return ack;
  }

  /**
   * Asks for the messages before a number, or for the newest.
   *
   * @param {{ before?: number, limit?: number }} [range]
   * @returns {Promise<HistoryEvent & { messages: readonly Told[] }>}
   * @throws {RefusedError} if the server does not do it, or there is no connection
   */
  async history({ before, limit = 50 } = {}) {
    return await this.#request({ type: "history", limit, ...(before && { before }) });
  }

  /**
   * Says that one types, or no longer does. May be called on every key.
   *
   * @param {boolean} active
   */
  typing(active) {
    const now = this.#around.now();
    const isKnown = now - this.#typedAt < TYPING_AGAIN_MS;
    if (this.#state.state !== "live" || (active ? isKnown : this.#typedAt === -Infinity)) return;
    this.#typedAt = active ? now : -Infinity;
    this.#put({ type: "typing", active });
  }

  // ---- The connection ------------------------------------------------------------------------

  #try() {
    this.#drop();
    if (/^\.*$/.test(this.room)) {
      // A URL swallows these, whichever way they are written: they would name another address.
      const reason = "The room needs a name of more than dots.";
      return this.#become({ state: "refused", reason, code: 400 });
    }
    const turn = this.#turn;
    const url = this.#url();
    const socket = this.#around.openSocket(url.replace(/^http/, "ws"), PROTOCOL);
    this.#socket = socket;
    this.#complaint = "";
    this.#timer = this.#around.setTimeout(() => this.#lost(0, ""), ATTEMPT_MS);
    this.#become({ state: "connecting" });

    socket.onmessage = ({ data }) => {
      if (turn === this.#turn) this.#receive(data);
    };
    let isOver = false;
    const end = (/** @type {number} */ code) => {
      if (isOver || turn !== this.#turn) return;
      isOver = true;
      if (this.#state.state === "live" || code in MEANING) this.#lost(code, this.#complaint);
      else this.#askWhy(turn, url);
    };
    socket.onclose = ({ code }) => end(code);
    // Some runtimes have no close event for a socket that never opened.
    socket.onerror = (event) => {
      event.preventDefault?.();
      if (this.#state.state === "connecting") end(0);
    };
  }

  #url() {
    const url = new URL(`ws/${encodeURIComponent(this.room)}`, this.#base);
    url.hash = "";
    const query = url.searchParams;
    query.set("username", this.username);
    if (this.session) query.set("session", this.session);
    if (this.#epoch !== undefined) {
      query.set("epoch", this.#epoch);
      query.set("after", String(this.#seq));
      query.set("inbox", String(this.#inbox));
    }
    return url.href;
  }

  /**
   * A browser does not tell why an upgrade failed. Asking the same address without one does.
   *
   * @param {number} turn
   * @param {string} url
   */
  async #askWhy(turn, url) {
    let status = 0;
    let sentence = "";
    let waitMs = 0;
    try {
      const response = await this.#around.fetch(url, this.#asking.signal);
      status = response.status;
      waitMs = 1000 * (Number(response.headers.get("retry-after")) || 0);
      const body = await response.json();
      if (typeof body?.error === "string") sentence = body.error;
    } catch {
      // No network, or no sentence to be had: the status alone must do.
    }
    if (turn === this.#turn) this.#lost(status, sentence, waitMs);
  }

  /** @param {WelcomeEvent} welcome */
  #welcomed(welcome) {
    this.#around.clearTimeout(this.#timer);
    const isReturn = this.#epoch !== undefined;
    const isNewLife = this.#epoch !== welcome.epoch;
    this.session = welcome.session;
    this.username = welcome.username;
    this.maxMessageBytes = welcome.limits.max_message_bytes;
    this.role = welcome.role;
    this.isPrivate = welcome.private;
    // From here on, all that was seen is part of this life of the log.
    this.#epoch = welcome.epoch;
    if (!welcome.recovered) {
      this.#seq = welcome.seq;
      this.#inbox = welcome.inbox_seq;
      this.#ahead.clear();
    }
    this.#liveSince = this.#around.now();
    this.#typedAt = -Infinity;
    this.#become({ state: "live" });
    if (isReturn && !welcome.recovered) this.#emit("gap", { isNewLife });
    this.#pump();
    this.#watch();
  }

  /** Looks after a live connection: asks the server when it is silent, gives up when it stays so. */
  #watch() {
    this.#around.clearTimeout(this.#timer);
    const now = this.#around.now();
    if (this.#askedAt !== undefined && now - this.#askedAt >= ANSWER_MS) return this.#lost(0, "");
    if (this.#askedAt === undefined && now - this.#heardAt >= SILENCE_MS) return this.#ping();
    const due = this.#askedAt === undefined
      ? this.#heardAt + SILENCE_MS
      : this.#askedAt + ANSWER_MS;
    this.#timer = this.#around.setTimeout(() => this.#watch(), due - now);
  }

  #ping() {
    this.#put({ type: "ping" });
    this.#expect();
  }

  /** From now on the server owes an answer. */
  #expect() {
    if (this.#askedAt !== undefined) return;
    this.#askedAt = this.#around.now();
    this.#watch();
  }

  /**
   * The one place where a connection ends against our will.
   *
   * @param {number} code
   * @param {string} sentence
   * @param {number} [waitMs]
   */
  #lost(code, sentence, waitMs = 0) {
    const now = this.#around.now();
    if (this.#state.state === "live" && now - this.#liveSince >= STEADY_MS) this.#attempt = 0;
    this.#drop();
    const { then, say } = MEANING[code] ?? { then: "retry", say: "" };
    const reason = asSentence(sentence) || say;
    if (then === "refuse") {
      this.#attempt = 0;
      for (const item of this.#outbox.values()) this.#turnInto(item, "failed", reason);
      return this.#become({ state: "refused", reason, code });
    }
    const first = then === "wait" ? OVERLOAD_WAIT_MS : FIRST_WAIT_MS;
    const doubled = Math.max(first, FIRST_WAIT_MS * 2 ** this.#attempt++);
    const longest = Math.min(LONGEST_WAIT_MS, doubled);
    const wait = waitMs + longest * (1 + this.#around.random()) / 2;
    this.#timer = this.#around.setTimeout(() => this.#try(), wait);
    const retryAt = now + wait;
    this.#become({ state: "reconnecting", retryAt, attempt: this.#attempt, reason });
  }

  /**
   * Forgets the socket and the timers; whatever they still report belongs to an old turn. What was
   * not told on will be told again.
   *
   * @param {number} [code]
   * @returns {Promise<void>} resolves when the socket is closed
   */
  #drop(code) {
    this.#turn++;
    const { clearTimeout } = this.#around;
    clearTimeout(this.#timer);
    clearTimeout(this.#pauseTimer);
    clearTimeout(this.#holdTimer);
    this.#holdTimer = undefined;
    this.#isPaused = this.#isSlow = false;
    this.#askedAt = undefined;
    this.#asking.abort();
    this.#asking = new AbortController();
    this.#backlog = [];
    this.#own.clear();
    for (const { reject } of this.#requests.values()) reject(new RefusedError(GONE, "unavailable"));
    this.#requests.clear();
    for (const item of this.#outbox.values()) {
      if (item.status === "sending") this.#turnInto(item, "waiting");
    }
    const socket = this.#socket;
    this.#socket = undefined;
    if (!socket || socket.readyState === 3) return Promise.resolve();
    return new Promise((resolve) => {
      socket.onclose = () => resolve();
      socket.close(code);
    });
  }

  // ---- What comes in -------------------------------------------------------------------------

  /** @param {unknown} data */
  #receive(data) {
    const events = decode(data);
    this.#heardAt = this.#around.now();
    this.#askedAt = undefined;
    if (!this.#cipher) return this.#take(events);
    const turn = this.#turn;
    const opened = Promise.all(events.map((event) => this.#open(event)));
    this.#opening = this.#opening.then(async () => {
      const told = await opened;
      if (turn === this.#turn) this.#take(told);
    });
  }

  /**
   * Takes what concerns the connection itself, and puts down the rest to be told on.
   *
   * @param {Told[]} events
   */
  #take(events) {
    for (const event of events) {
      if (this.#state.state === "connecting") {
        if (event.type === "error") this.#complaint = event.content;
        if (event.type !== "welcome") continue;
        this.#welcomed(event);
      }
      this.#complaint = "";
      switch (event.type) {
        case "ack":
          this.#settle(event);
          break;
        case "error":
          this.#complaint = event.content;
          if (!this.#refuse(event.ref, event)) this.#backlog.push(event);
          break;
        case "history":
          if (!this.#answer(event.ref, event)) this.#backlog.push(event);
          break;
        case "pong":
          break;
        default:
          this.#backlog.push(event);
      }
    }
    this.#tellOn();
    this.#pump();
  }

  /** Tells on what has come, up to an own message of which only its ack can say which one it is. */
  #tellOn() {
    /** @type {Told[]} */
    const events = [];
    let isNews = false;
    let isOutOfStep = false;
    while (this.#backlog.length > 0) {
      const event = /** @type {Told} */ (this.#backlog[0]);
      if (this.#isHeld(event)) break;
      this.#backlog.shift();
      const step = this.#follow(event);
      if (step === "again") continue;
      if (step === "hole") {
        isOutOfStep = true;
        break;
      }
      if (this.roster.apply(event)) isNews = true;
      events.push(event);
    }
    if (this.#backlog.length === 0) {
      this.#around.clearTimeout(this.#holdTimer);
      this.#holdTimer = undefined;
      this.#isHolding = true;
    } else if (!isOutOfStep) {
      this.#holdTimer ??= this.#around.setTimeout(() => {
        this.#holdTimer = undefined;
        this.#isHolding = false;
        this.#tellOn();
      }, HOLD_MS);
    }
    if (events.length > 0) this.#emit("events", events);
    if (isNews) this.#emit("people", this.roster);
    // Something is missing that the server must have sent: ask for it anew.
    if (isOutOfStep && this.#state.state === "live") this.#lost(0, "");
  }

  /** @param {Told} event */
  #isHeld(event) {
    if (event.type !== "chat" || event.username !== this.username) return false;
    if (this.#own.delete(event.id) || !this.#isHolding) return false;
    return [...this.#outbox.values()].some(({ status, to }) => status === "sending" && !to);
  }

  /**
   * Keeps the numbering.
   *
   * @param {Told} event
   * @returns {"next" | "again" | "hole"}
   */
  #follow(event) {
    switch (event.type) {
      case "chat":
        if (event.history) return "next";
        return this.#step(event.seq);
      case "message_updated":
      case "message_deleted":
        return this.#step(event.seq);
      case "dm":
        return event.history || this.#sawPrivate(event.inbox_seq) ? "next" : "again";
      default:
        return "next";
    }
  }

  /** @param {number} seq @returns {"next" | "again" | "hole"} */
  #step(seq) {
    if (seq <= this.#seq) return "again";
    if (seq > this.#seq + 1) return "hole";
    this.#seq = seq;
    return "next";
  }

  /**
   * Acks and private messages of others are numbered together, and may come in another order.
   *
   * @param {number} seq
   */
  #sawPrivate(seq) {
    if (seq <= this.#inbox || this.#ahead.has(seq)) return false;
    this.#ahead.add(seq);
    while (this.#ahead.delete(this.#inbox + 1)) this.#inbox++;
    return true;
  }

  /** @param {Told} event @returns {Promise<Told>} */
  async #open(event) {
    switch (event.type) {
      case "chat": {
        if (event.deleted) return event;
        const edits = event.edited ? { edits: event.id } : {};
        return { ...event, ...await this.#unseal(event, edits) };
      }
      case "message_updated":
        return { ...event, ...await this.#unseal(event, { edits: event.id }) };
      case "dm":
        return { ...event, ...await this.#unseal(event, { to: event.to }) };
      case "history": {
        const messages = await Promise.all(event.messages.map((message) => this.#open(message)));
        return { ...event, messages: /** @type {any} */ (messages) };
      }
      default:
        return event;
    }
  }

  /**
   * @param {{ content: string, username: string }} event
   * @param {{ to?: string, edits?: string }} bound
   * @returns {Promise<{ content: string, seal: Seal }>}
   */
  async #unseal({ content, username }, bound) {
    if (!isSealed(content)) return { content, seal: "bare" };
    const label = { room: this.room, from: username, ...bound };
    try {
      const text = await /** @type {Sealer} */ (this.#cipher).open(content, label);
      return { content: text, seal: "sound" };
    } catch {
      // Never what is in it: to a person it is noise.
      return { content: "", seal: "broken" };
    }
  }

  // ---- What goes out -------------------------------------------------------------------------

  /** @param {Unsent} message @returns {Outgoing} */
  #enqueue({ ref, content, to }) {
    /** @type {Outgoing & { wire?: string }} */
    const item = { ref, content, status: "waiting", reason: "" };
    if (to !== undefined) item.to = to;
    this.#outbox.set(ref, item);
    this.#typedAt = -Infinity;
    if (this.#cipher) this.#seal(item, this.#cipher);
    else item.wire = content;
    this.#pump();
    return item;
  }

  /** @param {Outgoing & { wire?: string }} item @param {Sealer} cipher */
  async #seal(item, cipher) {
    const { content, to } = item;
    const label = { room: this.room, from: this.username, ...(to !== undefined && { to }) };
    try {
      item.wire = await cipher.seal(content, label);
    } catch {
      this.#turnInto(item, "failed", "It could not be encrypted.");
    }
    this.#pump();
  }

  /** Sends what is waiting, in order, as far as it may go now. */
  #pump() {
    if (this.#state.state !== "live" || this.#isPaused) return;
    const window = this.#isSlow ? 1 : WINDOW;
    let underWay = 0;
    for (const item of this.#outbox.values()) {
      if (item.status === "sending") underWay++;
      if (item.status !== "waiting") continue;
      if (item.wire === undefined || underWay >= window) return;
      underWay++;
      const { ref, wire: content, to } = item;
      const isPut = this.#put(
        to === undefined ? { type: "chat", content, ref } : { type: "dm", to, content, ref },
      );
      if (!isPut) return;
      this.#turnInto(item, "sending");
      this.#expect();
    }
  }

  /** @param {AckEvent} ack */
  #settle(ack) {
    const item = this.#outbox.get(ack.ref);
    if (!item) {
      this.#answer(ack.ref, ack);
      return;
    }
    this.#outbox.delete(ack.ref);
    if (![...this.#outbox.values()].some(({ status }) => status !== "failed")) this.#isSlow = false;
    if (ack.inbox_seq !== undefined) this.#sawPrivate(ack.inbox_seq);
    else if (ack.id !== undefined && (ack.seq ?? 0) > this.#seq) this.#own.add(ack.id);
    item.ack = ack;
    this.#turnInto(item, "sent");
  }

  /**
   * @param {string | undefined} ref
   * @param {Pick<ErrorEvent, "content" | "code" | "retry_after">} error
   * @returns {boolean} whether it was about something that is known here
   */
  #refuse(ref, { content, code, retry_after: seconds }) {
    const item = ref === undefined ? undefined : this.#outbox.get(ref);
    if (item && PASSING.has(code)) {
      const isTooFast = code === "rate_limited";
      if (isTooFast) this.#isSlow = true;
      this.#turnInto(item, "waiting", isTooFast ? TOO_FAST : asSentence(content));
      this.#pause(seconds === undefined ? PAUSE_MS : 1000 * seconds);
      return true;
    }
    if (item) {
      this.#turnInto(item, "failed", asSentence(content));
      return true;
    }
    const request = this.#requests.get(ref ?? "");
    this.#requests.delete(ref ?? "");
    request?.reject(new RefusedError(asSentence(content), code));
    return request !== undefined;
  }

  /** Sends nothing for a while. @param {number} delayMs */
  #pause(delayMs) {
    this.#isPaused = true;
    this.#around.clearTimeout(this.#pauseTimer);
    this.#pauseTimer = this.#around.setTimeout(() => {
      this.#isPaused = false;
      this.#pump();
    }, delayMs);
  }

  /**
   * @param {string | undefined} ref
   * @param {Event} event
   */
  #answer(ref, event) {
    const request = this.#requests.get(ref ?? "");
    this.#requests.delete(ref ?? "");
    request?.resolve(event);
    return request !== undefined;
  }

  /**
   * @param {Command} command
   * @returns {Promise<any>}
   */
  #request(command) {
    return new Promise((resolve, reject) => {
      const ref = this.#around.newRef();
      if (!this.#put({ ...command, ref })) {
        return reject(new RefusedError("There is no connection now.", "unavailable"));
      }
      this.#requests.set(ref, { resolve, reject });
      this.#expect();
    });
  }

  /**
   * Puts a command on the wire.
   *
   * @param {Command} command
   * @returns {boolean} whether there was one
   */
  #put(command) {
    if (this.#state.state !== "live" || this.#socket?.readyState !== 1) return false;
    this.#socket.send(JSON.stringify(command));
    return true;
  }

  /**
   * @param {Outgoing} item
   * @param {Outgoing["status"]} status
   * @param {string} [reason]
   */
  #turnInto(item, status, reason = "") {
    item.status = status;
    item.reason = reason;
    this.#emit("outgoing", item);
  }

  /** @param {ConnectionState} state */
  #become(state) {
    this.#state = state;
    this.#emit("state", state);
  }

  /**
   * @template {keyof Emits} T
   * @param {T} type
   * @param {Emits[T]} what
   */
  #emit(type, what) {
    for (const listener of [...this.#listeners[type] ?? []]) listener(what);
  }
}

/**
 * Whether two names are the same for the server, which looks at neither case nor width.
 *
 * @param {string} a
 * @param {string} b
 */
export function isSameName(a, b) {
  return a === b || foldName(a) === foldName(b);
}

/** The form in which the server compares names. @param {string} name */
export function foldName(name) {
  return name.replace(/\p{DI}/gu, "").normalize("NFKC").toUpperCase().toLowerCase()
    .normalize("NFKC").replace(/['‘ʻʼʽˈ]/g, "’");
}

/** A name for a message that nobody else will give. `crypto.randomUUID` is not there on plain http. */
function newRef() {
  const numbers = crypto.getRandomValues(new Uint32Array(4));
  return Array.from(numbers, (number) => number.toString(36).padStart(7, "0")).join("");
}

/**
 * @param {unknown} data
 * @returns {Event[]} Without what is not an event: a newer server may send such things.
 */
function decode(data) {
  if (typeof data !== "string") return [];
  try {
    const frame = JSON.parse(data);
    return [frame].flat().filter((event) => typeof event?.type === "string");
  } catch {
    return [];
  }
}

/** @param {string} text */
function asSentence(text) {
  if (text === "") return "";
  return text[0]?.toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}
