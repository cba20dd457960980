// @ts-check
/**
 * One person's place in one room, kept over a network that comes and goes.
 *
 * Owns the socket, when to try again, and the reason when the server says no. `inbox.js` keeps the
 * numbering of what was seen, `outbox.js` what is still to be sent, `fallback.js` whether WebSockets
 * get through; where they do not, a `stream.js` stands in for the socket. Speaks `chat.v1`. Knows
 * nothing of any page: the same file runs in a browser, in Deno and in Node 22.
 *
 *     const connection = new Connection({ base: "http://localhost:8080", room: "tea", username: "Ada" });
 *     connection.on("events", (events) => console.log(events));
 *     connection.open();
 *     connection.send("Good morning");
 *
 * @module
 */

import { Fallback, NO_UPGRADE, STEADY_MS } from "./fallback.js";
import { Inbox } from "./inbox.js";
import { isSameName } from "./names.js";
import { asSentence, newRef, Outbox } from "./outbox.js";
import { Roster } from "./roster.js";
import { Stream } from "./stream.js";

/** @import { AckEvent, ErrorEvent, Event, HistoryEvent } from "../lib/protocol/events.ts" */
/** @import { Command, RoomChange } from "../lib/protocol/commands.ts" */
/** @import { Role, WelcomeEvent } from "../lib/protocol/events.ts" */
/** @import { Told } from "./inbox.js" */
/** @import { Outgoing, Sealer, Way, Writing } from "./outbox.js" */

/**
 * What the connection is doing. It is live `via` a WebSocket or, where none gets through, a stream
 * of Server-Sent Events; what it does is the same. `retryAt` is in milliseconds of the injected
 * `now()`. `reason` is a sentence for a person, `""` when there is nothing worth saying. `code` is
 * the HTTP status or the close code that ended it.
 *
 * @typedef {{ state: "connecting" }
 *   | { state: "live", via: "socket" | "stream" }
 *   | { state: "reconnecting", retryAt: number, attempt: number, reason: string }
 *   | { state: "refused", reason: string, code: number }
 *   | { state: "closed" }} ConnectionState
 */

/**
 * The events of a {@linkcode Connection}.
 *
 * - `state`: its state has changed.
 * - `events`: the events of one frame, in order. Every message comes once, and in the order of its
 *   `seq`; an own one comes after its `outgoing` has said `sent`.
 * - `outgoing`: a text to be sent has another status.
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
 * @typedef {object} ConnectionOptions
 * @property {string | URL} base Where the server is, `http:` or `https:`; `ws/ROOM`, `api/` and
 *   `echo` are beside it.
 * @property {string} room
 * @property {string} [username] May be absent with a `token`, with which a name comes.
 * @property {string} [token] An account's, from signing in or made for a bot; or one with which the
 *   site's own server signs the person in.
 * @property {string} [session] The secret from an earlier welcome: proves to be the same person.
 * @property {"socket" | "stream"} [via] The way of the first attempt, a socket by default: another
 *   connection to the server may know that none gets through.
 * @property {Sealer} [cipher] Seals every text. Without it nothing is sealed.
 * @property {Outbox} [outbox] What is still to be sent, with the same cipher; one of its own by
 *   default. It outlives the connection.
 */

/**
 * What is needed from the outside, so that tests can stand in for the network and for time.
 *
 * @typedef {object} Surroundings
 * @property {(url: string, protocol?: string) => WebSocket} openSocket
 * @property {(url: string, init: RequestInit) => Promise<Response>} fetch
 * @property {(task: () => void, delayMs: number) => unknown} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {() => number} now Milliseconds of a clock that nobody can set.
 * @property {() => number} random
 * @property {() => string} newRef
 */

const PROTOCOL = "chat.v1";
/** How much of a guest's secret tells guests apart. */
const IDENTITY_LENGTH = 8;
/** The first wait before trying again. Each further one is twice as long, less some jitter. */
const FIRST_WAIT_MS = 500;
/** How much longer that first wait may be for each person in the room: all of them come back. */
const SPREAD_MS = 2;
/** The first wait when the server says that it has too much to do. */
const OVERLOAD_WAIT_MS = 10_000;
/** No wait is longer than this, unless the server names a longer one. */
const LONGEST_WAIT_MS = 30_000;
/** How long one attempt may take, and how long the question why after it. */
const ATTEMPT_MS = 15_000;
/** How long the server may be silent before it is asked whether it is still there. */
const SILENCE_MS = 25_000;
/** A server that says nothing for this long after it was sent something is gone. */
const ANSWER_MS = 10_000;
/** The server forgets after 5 s that somebody types: said again this often. */
const TYPING_AGAIN_MS = 3000;

const NAME_IN_USE = "Someone in this room is already using that name. Pick another one.";
const GONE = "The connection ended before the server answered.";

/**
 * What an HTTP status or a close code means for us. A code that is not here is a lost connection:
 * try again.
 *
 * @type {Record<number, { then: "refuse" | "wait" | "retry", say: string }>}
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

const PROXY =
  "The server is there, but something on the way, perhaps a proxy, lets no connection through.";

/** @type {Surroundings} */
const REAL = {
  openSocket: (url, protocol) => new WebSocket(url, protocol),
  fetch: (url, init) => fetch(url, init),
  setTimeout: (task, delayMs) => setTimeout(task, delayMs),
  clearTimeout: (timer) => clearTimeout(timer),
  now: () => performance.now(),
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
  /** The room. */
  room;
  /** The person's name; once joined, as the server spells it. `""` if only a token tells, until then. */
  username;
  /** What is still to be sent. */
  outbox;
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
  /** @type {string | undefined} */ #token;
  /** @type {Surroundings} */ #around;
  /** @type {Sealer | undefined} */ #cipher;
  /** @type {Inbox} */ #inbox;
  /** @type {ConnectionState} */ #state = { state: "closed" };
  /** @type {{ [type in keyof Emits]?: Set<(what: any) => void> }} */ #listeners = {};

  /** @type {WebSocket | Stream | undefined} */ #socket;
  /** @type {Fallback} */ #fallback;
  /** The outbox's way to the server, while there is one. @type {Way | undefined} */ #way;
  /** Cancels the request that asks why an attempt failed. */ #asking = new AbortController();
  /**
   * For the attempt, the wait or the watch over a live connection: there is one of them at a time.
   *
   * @type {unknown}
   */
  #timer;
  /** Numbers the attempts: events of earlier ones are ignored. */
  #turn = 0;
  #attempt = 0;
  #liveSince = 0;
  /** Whether the server owes an answer. */
  #isAsked = false;
  /** The server's last complaint on this socket: it explains the close that may follow. */
  #complaint = "";
  /** Opening sealed texts takes turns, so that their order stays. */
  #opening = Promise.resolve();
  /** @type {Map<string, { resolve: (event: any) => void, reject: (error: Error) => void }>} */
  #requests = new Map();
  /** Runs while the server knows that one types. @type {unknown} */ #typingTimer;

  /**
   * Nothing happens before `open()`.
   *
   * @param {ConnectionOptions} options
   * @param {Partial<Surroundings>} [around]
   * @throws {TypeError} if `base` is no address of a server
   */
  constructor(
    { base, room, username = "", token, session, via = "socket", cipher, outbox },
    around = {},
  ) {
    checkBase(base);
    this.#around = { ...REAL, ...around };
    this.#fallback = new Fallback(via, this.#around);
    this.#base = base;
    this.#token = token;
    this.room = room.normalize("NFC").trim();
    this.username = username.normalize("NFC").trim();
    this.session = session;
    this.#cipher = cipher;
    this.#inbox = new Inbox({ room: this.room, cipher });
    this.outbox = outbox ?? new Outbox({ room: this.room, cipher }, this.#around);
    this.outbox.author = this.username;
  }

  /** @returns {ConnectionState} */
  get state() {
    return this.#state;
  }

  /**
   * Calls back at every later event of a type.
   *
   * @template {keyof Emits} T
   * @param {T} type
   * @param {(what: Emits[T]) => void} listener
   * @returns {() => void} stops it
   */
  on(type, listener) {
    if (type === "outgoing") return this.outbox.onChange(/** @type {any} */ (listener));
    const listeners = this.#listeners[type] ??= new Set();
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }

  /**
   * Joins. Does nothing when already joining or joined.
   *
   * @param {{ token?: string }} [how] `token`: a new one in place of the old, from the next attempt on
   */
  open({ token = this.#token } = {}) {
    this.#token = token;
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
    if (this.#state.state === "live") this.#ping();
  }

  /**
   * To be called when the network is known to be gone: the wait for it begins at once.
   *
   * @param {string} reason a sentence for the person
   */
  interrupt(reason) {
    const { state } = this.#state;
    if (state === "live" || state === "connecting") this.#lost(0, reason);
  }

  /**
   * Leaves. `open()` joins again, and goes on from there. What is unsent stays in the outbox.
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
   * @param {{ replyTo?: string }} [how] `replyTo`: the id of the message that it answers
   * @returns {Outgoing}
   */
  send(content, { replyTo } = {}) {
    return this.#add({ content, ...(replyTo !== undefined && { replyTo }) });
  }

  /**
   * Says something to one person in the room.
   *
   * @param {string} to
   * @param {string} content
   * @returns {Outgoing}
   */
  whisper(to, content) {
    return this.#add({ content, to });
  }

  /**
   * Gives an own message another text. It goes out like a message: now, or as soon as it can.
   *
   * @param {string} id
   * @param {string} content
   * @returns {Outgoing}
   */
  edit(id, content) {
    return this.#add({ content, edits: { id, ...this.#inbox.boundOf(id) } });
  }

  /** @param {Writing} writing */
  #add(writing) {
    this.#forgetTyping();
    return this.outbox.add(writing);
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
   * Asks for the messages before or after a `seq`, or for the newest.
   *
   * @param {{ before?: number, after?: number, limit?: number }} [range]
   * @returns {Promise<HistoryEvent & { messages: readonly Told[] }>}
   * @throws {RefusedError} if the server does not do it, or there is no connection
   */
  async history({ before, after, limit = 50 } = {}) {
    const range = { ...(before && { before }), ...(after !== undefined && { after }) };
    return await this.#request({ type: "history", limit, ...range });
  }

  /**
   * Says that one types, or no longer does. May be called on every key.
   *
   * @param {boolean} active
   */
  typing(active) {
    const isKnown = this.#typingTimer !== undefined;
    if (this.#state.state !== "live" || active === isKnown) return;
    if (active) {
      const forget = () => this.#typingTimer = undefined;
      this.#typingTimer = this.#around.setTimeout(forget, TYPING_AGAIN_MS);
    } else this.#forgetTyping();
    this.#put({ type: "typing", active });
  }

  #forgetTyping() {
    this.#around.clearTimeout(this.#typingTimer);
    this.#typingTimer = undefined;
  }

  // ---- The connection ------------------------------------------------------------------------

  /** @param {{ isThere?: boolean }} [known] whether the server has just been heard */
  #try({ isThere = false } = {}) {
    this.#drop();
    if (/^\.*$/.test(this.room)) {
      // A URL swallows these, whichever way they are written: they would name another address.
      const reason = "The room needs a name of more than dots.";
      return this.#become({ state: "refused", reason, code: 400 });
    }
    const turn = this.#turn;
    const { url, socket } = this.#fallback.via === "socket"
      ? this.#openSocket()
      : this.#openStream();
    this.#socket = socket;
    this.#complaint = "";
    this.#become({ state: "connecting" });

    let isOver = false;
    const end = (/** @type {number} */ code) => {
      if (isOver || turn !== this.#turn) return;
      isOver = true;
      if (this.#state.state === "live") {
        this.#fallback.ended(code, this.#around.now() - this.#liveSince);
        this.#lost(code, this.#complaint);
      } else if (code in MEANING) this.#lost(code, this.#complaint);
      else if (socket instanceof Stream) {
        this.#learnWhy(turn, socket.refusal, isThere);
      } else this.#askWhy(turn, url);
    };
    this.#timer = this.#around.setTimeout(() => end(0), ATTEMPT_MS);
    socket.onmessage = (/** @type {{ data: unknown }} */ { data }) => {
      if (!isOver && turn === this.#turn) this.#receive(data);
    };
    socket.onclose = (/** @type {{ code: number }} */ { code }) => end(code);
    // Some runtimes have no close event for a socket that never opened.
    socket.onerror = (/** @type {globalThis.Event} */ event) => {
      event.preventDefault?.();
      if (this.#state.state === "connecting") end(0);
    };
  }

  /** A new socket, and the address that says to a plain request why the upgrade fails. */
  #openSocket() {
    const url = this.#url(`ws/${encodeURIComponent(this.room)}`);
    return { url, socket: this.#around.openSocket(url.replace(/^http/, "ws"), PROTOCOL) };
  }

  /** A new stream. */
  #openStream() {
    const url = this.#url(`api/rooms/${encodeURIComponent(this.room)}/events`);
    return { url, socket: new Stream(url, this.#around) };
  }

  /** @param {string} path */
  #url(path) {
    const url = new URL(path, this.#base);
    url.hash = "";
    const query = url.searchParams;
    if (this.username) query.set("username", this.username);
    if (this.#token) query.set("token", this.#token);
    if (this.session) query.set("session", this.session);
    for (const [name, value] of Object.entries(this.#inbox.place ?? {})) {
      query.set(name, String(value));
    }
    return url.href;
  }

  /**
   * A browser does not tell why an upgrade failed. Asking the same address without one does. If the
   * server would let us in, or does not hear the question either, WebSockets do not get through: a
   * stream may. That a server comes back between the two is rare, and costs nothing but the way.
   *
   * @param {number} turn
   * @param {string} url
   */
  async #askWhy(turn, url) {
    this.#around.clearTimeout(this.#timer);
    this.#timer = this.#around.setTimeout(() => this.#lost(0, ""), ATTEMPT_MS);
    const headers = { accept: "application/json" };
    const why = await readRefusal(
      this.#around.fetch(url, { signal: this.#asking.signal, headers }),
    );
    if (turn !== this.#turn) return;
    if (!isBlocked(why)) return this.#lost(why.status, why.sentence, why.waitMs);
    this.#fallback.via = "stream";
    this.#try({ isThere: why.status === NO_UPGRADE });
  }

  /**
   * Reads the refusal of a stream. If it is not the server's own, the next attempt is a socket.
   *
   * @param {number} turn
   * @param {Response | undefined} refusal
   * @param {boolean} isThere
   */
  async #learnWhy(turn, refusal, isThere) {
    const { status, sentence, waitMs } = await readRefusal(refusal);
    if (turn !== this.#turn) return;
    if (sentence === "") this.#fallback.via = "socket";
    if (sentence === "" && isThere) this.#lost(0, PROXY);
    else this.#lost(status, sentence, waitMs);
  }

  /** Tries from time to time, outside of any room, whether a WebSocket gets through. */
  #watch() {
    const url = this.#url("echo").replace(/^http/, "ws");
    this.#fallback.watch(url, () => this.#goBack());
  }

  /** Goes from a stream back to a socket, unless that would break off a request. */
  #goBack() {
    if (this.#requests.size > 0) return this.#watch();
    this.#fallback.via = "socket";
    this.#attempt = 0;
    this.#try();
  }

  /** @param {WelcomeEvent} welcome @returns {boolean} whether it is one to go on with */
  #welcomed(welcome) {
    if (this.username !== "" && !isSameName(welcome.username, this.username)) {
      // In an encrypted room, texts sealed for one name would be passed off as another's.
      const reason = `The server lets you in as ${welcome.username}, not as ${this.username}.`;
      this.#refuse(0, `${reason} Nothing was sent.`);
      return false;
    }
    this.session = welcome.session;
    if (this.username === "") this.outbox.author = welcome.username;
    this.username = welcome.username;
    this.maxMessageBytes = welcome.limits.max_message_bytes;
    this.role = welcome.role;
    this.isPrivate = welcome.private;
    const gap = this.#inbox.begin(welcome);
    this.#liveSince = this.#around.now();
    if (this.#fallback.via === "stream") this.#watch();
    this.#become({ state: "live", via: this.#fallback.via });
    if (gap) this.#emit("gap", gap);
    this.#listen();
    const { session } = welcome;
    const identity = session === ""
      ? `account ${welcome.username}`
      : `guest ${session.slice(0, IDENTITY_LENGTH)}`;
    const put = (/** @type {Command} */ command) => {
      const isPut = this.#put(command);
      if (isPut) this.#expect();
      return isPut;
    };
    this.#way = { username: welcome.username, identity, put };
    this.outbox.start(this.#way);
    return true;
  }

  /** The server is there: from now on it may be silent for a while. */
  #listen() {
    this.#isAsked = false;
    this.#around.clearTimeout(this.#timer);
    this.#timer = this.#around.setTimeout(() => this.#ping(), SILENCE_MS);
  }

  #ping() {
    this.#put({ type: "ping" });
    this.#expect();
  }

  /** From now on the server owes an answer. */
  #expect() {
    if (this.#isAsked) return;
    this.#isAsked = true;
    this.#around.clearTimeout(this.#timer);
    this.#timer = this.#around.setTimeout(() => this.#lost(0, ""), ANSWER_MS);
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
    if (then === "refuse") return this.#refuse(code, reason);
    const wait = waitMs + this.#wait(then);
    this.#timer = this.#around.setTimeout(() => this.#try(), wait);
    const retryAt = now + wait;
    this.#become({ state: "reconnecting", retryAt, attempt: this.#attempt, reason });
  }

  /** @param {number} code @param {string} reason */
  #refuse(code, reason) {
    this.#drop();
    this.#attempt = 0;
    this.#become({ state: "refused", reason, code });
  }

  /**
   * How long to wait before the next attempt. The first wait is anywhere within a window that grows
   * with the room: when a server restarts, all its people come back. (Full jitter: "Exponential
   * Backoff And Jitter", AWS Architecture Blog.)
   *
   * @param {"wait" | "retry"} then
   */
  #wait(then) {
    const random = this.#around.random();
    const doubled = FIRST_WAIT_MS * 2 ** this.#attempt++;
    if (then === "wait") return longest(Math.max(OVERLOAD_WAIT_MS, doubled)) * (1 + random) / 2;
    const isFirst = this.#attempt === 1;
    if (isFirst) return longest(Math.max(doubled, SPREAD_MS * this.roster.online)) * random;
    return longest(doubled) * (1 + random) / 2;
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
    this.#around.clearTimeout(this.#timer);
    this.#fallback.rest();
    this.#forgetTyping();
    this.#isAsked = false;
    this.#asking.abort();
    this.#asking = new AbortController();
    for (const { reject } of this.#requests.values()) reject(new RefusedError(GONE, "unavailable"));
    this.#requests.clear();
    this.outbox.stop(this.#way);
    this.#way = undefined;
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
    if (this.#state.state === "live") this.#listen();
    if (!this.#cipher) return this.#take(events);
    const turn = this.#turn;
    const opened = this.#inbox.open(events);
    this.#opening = this.#opening.then(async () => {
      const told = await opened;
      if (turn !== this.#turn) return;
      this.#inbox.checkRepeats(told, events);
      this.#take(told);
    });
  }

  /**
   * Takes what concerns the connection itself, and tells the rest on.
   *
   * @param {Told[]} events
   */
  #take(events) {
    /** @type {Told[]} */
    const told = [];
    let isNews = false;
    let isOutOfStep = false;
    for (const event of events) {
      if (this.#state.state === "connecting") {
        if (event.type === "error") this.#complaint = event.content;
        if (event.type !== "welcome") continue;
        if (!this.#welcomed(event)) return;
      }
      this.#complaint = event.type === "error" ? event.content : "";
      if (this.#isOurs(event)) continue;
      const step = this.#inbox.follow(event);
      if (step === "again") continue;
      isOutOfStep = step === "hole";
      if (isOutOfStep) break;
      if (event.type === "chat" || event.type === "dm") this.outbox.heard(event);
      if (this.roster.apply(event)) isNews = true;
      told.push(event);
    }
    if (told.length > 0) this.#emit("events", told);
    if (isNews) this.#emit("people", this.roster);
    // Something is missing that the server must have sent: ask for it anew.
    if (isOutOfStep && this.#state.state === "live") this.#lost(0, "");
  }

  /** Whether an event is an answer to the connection itself, which it has then. @param {Told} event */
  #isOurs(event) {
    switch (event.type) {
      case "ack":
        this.#onAck(event);
        return true;
      case "error":
        return this.outbox.refuse(event) || this.#reject(event);
      case "history":
        return this.#answer(event.ref, event);
      case "pong":
        return true;
      default:
        return false;
    }
  }

  /** @param {AckEvent} ack */
  #onAck(ack) {
    if (ack.inbox_seq !== undefined) this.#inbox.sawPrivate(ack.inbox_seq);
    const item = this.outbox.settle(ack);
    if (item && !item.edits && ack.id !== undefined) {
      this.#inbox.note(ack.id, { ref: ack.ref, replyTo: item.replyTo });
    }
    if (!item) this.#answer(ack.ref, ack);
  }

  /** @param {ErrorEvent} error @returns {boolean} whether it was about a request */
  #reject({ ref = "", content, code }) {
    const request = this.#requests.get(ref);
    this.#requests.delete(ref);
    request?.reject(new RefusedError(asSentence(content), code));
    return request !== undefined;
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

  /** @param {ConnectionState} state */
  #become(state) {
    this.#state = state;
    if (state.state === "refused" && !this.#listeners.state?.size) {
      // deno-lint-ignore no-console
      console.warn(`The connection to the room ${this.room} is refused. ${state.reason}`);
    }
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

/** @param {string | URL} base @throws {TypeError} */
function checkBase(base) {
  if (/^https?:\/\/[^/]/i.test(String(base)) && URL.canParse(base)) return;
  throw new TypeError(`base must be an address such as https://chat.example/, not "${base}".`);
}

/** @param {number} waitMs */
function longest(waitMs) {
  return Math.min(LONGEST_WAIT_MS, waitMs);
}

/**
 * Reads why the server refuses. Where there is no sentence of it, the status alone must do; where
 * there is no answer, it is 0.
 *
 * @param {Response | undefined | Promise<Response>} answer
 */
async function readRefusal(answer) {
  const refusal = { status: 0, sentence: "", waitMs: 0 };
  try {
    const response = await answer;
    if (!response) return refusal;
    refusal.status = response.status;
    refusal.waitMs = 1000 * (Number(response.headers.get("retry-after")) || 0);
    const body = await response.json();
    if (typeof body?.error === "string") refusal.sentence = body.error;
  } catch {
    // No network, or no JSON.
  }
  return refusal;
}

/**
 * Whether a WebSocket failed on its way: the server says that it would take one, or something else
 * answers for it, and does not say that it is busy.
 *
 * @param {{ status: number, sentence: string }} why
 */
function isBlocked({ status, sentence }) {
  if (status === NO_UPGRADE) return true;
  return sentence === "" && status >= 400 && MEANING[status]?.then !== "wait";
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
