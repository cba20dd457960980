// @ts-check
/**
 * Keeps one person in one room over an unreliable network, in the `chat.v1` protocol.
 *
 * Owns the socket, the time of the next attempt, and the reason of a refusal. `inbox.js` counts the
 * events received, `outbox.js` holds the unsent texts, and `fallback.js` knows whether WebSockets
 * work; where they do not, `stream.js` replaces the socket. Uses no DOM: the same file runs in a
 * browser, in Deno and in Node 22.
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
 * The state of a connection. It is live `via` a WebSocket or, where WebSockets are blocked, a stream
 * of Server-Sent Events; both work alike. `retryAt` is in milliseconds of the injected `now()`.
 * `reason` is a sentence for the person, or `""`. `code` is the HTTP status or the close code of the
 * refusal.
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
 * - `state`: the state has changed.
 * - `events`: the events of one frame, in order. Each message arrives once and in the order of `seq`;
 *   an own message arrives after its `outgoing` with the status `sent`.
 * - `outgoing`: the status of an outgoing text has changed.
 * - `gap`: messages may be lost. With `isNewLife` the numbering starts again, and earlier `seq`
 *   numbers mean nothing any more.
 * - `people`: the roster has changed.
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
 * @property {string | URL} base The server's address, `http:` or `https:`; `ws/ROOM`, `api/` and
 *   `echo` are relative to it.
 * @property {string} room
 * @property {string} [username] Optional with a `token`: the welcome gives its name.
 * @property {string} [token] The token of an account, of a bot, or of a person whom the site's own
 *   server signs in.
 * @property {string} [session] The secret from an earlier welcome: identifies the same guest.
 * @property {"socket" | "stream"} [via] The transport of the first attempt, a socket by default. Pass
 *   `"stream"` if another connection found WebSockets blocked.
 * @property {Sealer} [cipher] Seals every text. Without one, texts are sent as they are.
 * @property {Outbox} [outbox] The unsent texts, with the same cipher; a new outbox by default. It
 *   outlives the connection.
 */

/**
 * The network, the clock and chance: tests replace them.
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
/** Characters of a guest's secret that tell guests apart. */
const IDENTITY_LENGTH = 8;
/** Maximum first wait before the next attempt. Each further wait is twice as long, less jitter. */
const FIRST_WAIT_MS = 500;
/** The first wait may grow by this much for each person in the room: all of them reconnect. */
const SPREAD_MS = 2;
/** The first wait when the server is overloaded. */
const OVERLOAD_WAIT_MS = 10_000;
/** Maximum wait, unless the server asks for a longer one. */
const LONGEST_WAIT_MS = 30_000;
/** How long one attempt may take, and as long the request for its reason. */
const ATTEMPT_MS = 15_000;
/** How long the server may be silent before the connection sends a ping. */
const SILENCE_MS = 25_000;
/** How long the server may take to answer before the connection counts as lost. */
const ANSWER_MS = 10_000;
/** How often `typing` is repeated: the server forgets it after 5 s. */
const TYPING_AGAIN_MS = 3000;

const NAME_IN_USE = "Someone in this room is already using that name. Pick another one.";
const GONE = "The connection ended before the server answered. Try again.";

/**
 * What to do after an HTTP status or a close code, and the sentence to show if the server gives none.
 * Any other code means a lost connection: retry.
 *
 * @type {Record<number, { then: "refuse" | "wait" | "retry", say: string }>}
 */
const MEANING = {
  400: { then: "refuse", say: "The server does not accept this name or room. Try another one." },
  401: { then: "refuse", say: "Sign in to join this room." },
  403: { then: "refuse", say: "You are not allowed in this room. Pick another one." },
  404: { then: "refuse", say: "There is no chat server at this address. Check the address." },
  409: { then: "refuse", say: NAME_IN_USE },
  429: { then: "wait", say: "Too many attempts." },
  503: { then: "wait", say: "The server is full at the moment." },
  1003: { then: "refuse", say: "The server did not understand this client. Update it." },
  1008: { then: "refuse", say: "The server ended the connection. Join again." },
  1009: { then: "refuse", say: "Your message was too long for the server. Shorten it." },
  1013: { then: "wait", say: "The server is full at the moment." },
  4001: { then: "refuse", say: "Your session has ended. Sign in again." },
  4003: { then: "refuse", say: "You are no longer allowed in this room. Pick another one." },
  4009: { then: "refuse", say: NAME_IN_USE },
  4029: { then: "wait", say: "You sent too many messages at once." },
};

const PROXY =
  "The server answers, but something on the way, perhaps a proxy, blocks the connection.";

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

/** The server refused a request. The message is its sentence. */
export class RefusedError extends Error {
  /** @override */
  name = "RefusedError";
  /** @param {string} sentence @param {string} code */
  constructor(sentence, code) {
    super(sentence);
    this.code = code;
  }
}

/** Joins a room, and reconnects until `close()` or a refusal. */
export class Connection {
  room;
  /** The name; from the welcome on, as the server spells it. `""` until then if only a token is given. */
  username;
  /** The unsent texts. */
  outbox;
  /** Who is in the room. */
  roster = new Roster();
  /**
   * The guest's secret from the welcome: with it, another connection is the same person.
   *
   * @type {string | undefined}
   */
  session;
  /**
   * Maximum UTF-8 bytes of a message; `null` for no limit.
   *
   * @type {number | null}
   */
  maxMessageBytes = 4096;
  /**
   * What the person may do here: moderators, owners and admins remove people and delete any message;
   * owners and admins change the room's settings.
   *
   * @type {Role}
   */
  role = "member";
  /** Whether the room admits its members only. */
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
  /** The outbox's way to the server, while live. @type {Way | undefined} */ #way;
  /** Cancels the request that asks why an attempt failed. */ #asking = new AbortController();
  /**
   * Limits the attempt, the wait or the silence of a live connection: one of them at a time.
   *
   * @type {unknown}
   */
  #timer;
  /** Number of the attempt: events of earlier attempts are ignored. */
  #turn = 0;
  #attempt = 0;
  #liveSince = 0;
  /** Whether the server owes an answer. */
  #isAsked = false;
  /** The server's last error on this socket: it explains a close that follows. */
  #complaint = "";
  /** Frames of sealed texts are opened one after another, to keep their order. */
  #opening = Promise.resolve();
  /** @type {Map<string, { resolve: (event: any) => void, reject: (error: Error) => void }>} */
  #requests = new Map();
  /** Runs while the server has the person as typing. @type {unknown} */ #typingTimer;

  /**
   * Does not connect before `open()`.
   *
   * @param {ConnectionOptions} options
   * @param {Partial<Surroundings>} [around]
   * @throws {TypeError} if `base` is not an `http:` or `https:` address
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
   * Calls `listener` for every later event of a type.
   *
   * @template {keyof Emits} T
   * @param {T} type
   * @param {(what: Emits[T]) => void} listener
   * @returns {() => void} removes the listener
   */
  on(type, listener) {
    if (type === "outgoing") return this.outbox.onChange(/** @type {any} */ (listener));
    const listeners = this.#listeners[type] ??= new Set();
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }

  /**
   * Joins. Has no effect on a connection that joins, has joined or retries.
   *
   * @param {{ token?: string }} [how] `token`: replaces the old one at the next attempt
   */
  open({ token = this.#token } = {}) {
    this.#token = token;
    const { state } = this.#state;
    if (state === "closed" || state === "refused") this.#try();
  }

  /** Ends the wait for the next attempt: the network is back, or the person asks. */
  retry() {
    if (this.#state.state === "reconnecting") this.#try();
  }

  /**
   * Call this when the connection may be dead: the computer slept, or the network changed. A waiting
   * connection retries at once; a live one pings the server.
   */
  check() {
    this.retry();
    if (this.#state.state === "live") this.#ping();
  }

  /**
   * Call this when the network is gone: the connection counts as lost at once.
   *
   * @param {string} reason a sentence for the person
   */
  interrupt(reason) {
    const { state } = this.#state;
    if (state === "live" || state === "connecting") this.#lost(0, reason);
  }

  /**
   * Leaves. `open()` joins again and resumes. Unsent texts stay in the outbox.
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
   * Sends a message to the room: once, now or as soon as the connection is live.
   *
   * @param {string} content
   * @param {{ replyTo?: string }} [how] `replyTo`: the id of the message to answer
   * @returns {Outgoing}
   */
  send(content, { replyTo } = {}) {
    return this.#add({ content, ...(replyTo !== undefined && { replyTo }) });
  }

  /**
   * Sends a private message to one person in the room.
   *
   * @param {string} to
   * @param {string} content
   * @returns {Outgoing}
   */
  whisper(to, content) {
    return this.#add({ content, to });
  }

  /**
   * Replaces the text of an own message: now or as soon as the connection is live.
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
   * Deletes an own message; moderators, owners and admins delete any message.
   *
   * @param {string} id
   * @returns {Promise<AckEvent>}
   * @throws {RefusedError} if the server refuses, or the connection is not live
   */
  async delete(id) {
    return await this.#request({ type: "delete", id });
  }

  /**
   * Removes all connections of a name from the room. For moderators, owners and admins.
   *
   * @param {string} username
   * @param {{ reason?: string, ban?: boolean }} [how] The person sees `reason`; `ban` keeps the name
   *   and the person out of the room
   * @returns {Promise<AckEvent>}
   * @throws {RefusedError} if the server refuses, or the connection is not live
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
   * Changes the given settings of the room. For its owner and for admins; in a room without an owner,
   * the account that changes them becomes the owner.
   *
   * @param {RoomChange} change
   * @returns {Promise<AckEvent>}
   * @throws {RefusedError} if the server refuses, or the connection is not live
   */
  async setRoom(change) {
    const ack = await this.#request({ ...change, type: "room" });
    if (this.role === "member") this.role = "owner";
    this.isPrivate = change.private ?? this.isPrivate;
    return ack;
  }

  /**
   * Loads the messages before or after a `seq`, or the newest.
   *
   * @param {{ before?: number, after?: number, limit?: number }} [range]
   * @returns {Promise<HistoryEvent & { messages: readonly Told[] }>}
   * @throws {RefusedError} if the server refuses, or the connection is not live
   */
  async history({ before, after, limit = 50 } = {}) {
    const range = { ...(before && { before }), ...(after !== undefined && { after }) };
    return await this.#request({ type: "history", limit, ...range });
  }

  /**
   * Tells the room that the person types, or has stopped. May be called at every key.
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

  /** @param {{ isThere?: boolean }} [known] whether the server has just answered */
  #try({ isThere = false } = {}) {
    this.#drop();
    if (/^\.*$/.test(this.room)) {
      // URLs drop dot segments, escaped or not: they would name another address.
      const reason = "The room's name cannot be dots alone. Pick another one.";
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
    // Some runtimes fire no close event for a socket that never opened.
    socket.onerror = (/** @type {globalThis.Event} */ event) => {
      event.preventDefault?.();
      if (this.#state.state === "connecting") end(0);
    };
  }

  /** A new socket, and the address where a plain request learns why the upgrade fails. */
  #openSocket() {
    const url = this.#url(`ws/${encodeURIComponent(this.room)}`);
    return { url, socket: this.#around.openSocket(url.replace(/^http/, "ws"), PROTOCOL) };
  }

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
   * Asks the same address without an upgrade why the upgrade failed, which browsers do not say. If
   * the server would accept it, or something else answers, WebSockets are blocked: a stream is next.
   * A server that restarts between the two requests is rare, and only costs the better transport.
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
   * Reads the refusal of a stream. If something else than the server refused, a socket is next.
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

  /** Checks from time to time, outside of any room, whether WebSockets work. */
  #watch() {
    const url = this.#url("echo").replace(/^http/, "ws");
    this.#fallback.watch(url, () => this.#goBack());
  }

  /** Goes from a stream back to a socket, unless a request is pending. */
  #goBack() {
    if (this.#requests.size > 0) return this.#watch();
    this.#fallback.via = "socket";
    this.#attempt = 0;
    this.#try();
  }

  /** @param {WelcomeEvent} welcome @returns {boolean} whether the connection goes on */
  #welcomed(welcome) {
    if (this.username !== "" && !isSameName(welcome.username, this.username)) {
      // In an encrypted room, texts sealed for one name would appear under another.
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

  /** Restarts the time that the server may be silent: it was heard. */
  #listen() {
    this.#isAsked = false;
    this.#around.clearTimeout(this.#timer);
    this.#timer = this.#around.setTimeout(() => this.#ping(), SILENCE_MS);
  }

  #ping() {
    this.#put({ type: "ping" });
    this.#expect();
  }

  /** Starts the time that the server has for an answer. */
  #expect() {
    if (this.#isAsked) return;
    this.#isAsked = true;
    this.#around.clearTimeout(this.#timer);
    this.#timer = this.#around.setTimeout(() => this.#lost(0, ""), ANSWER_MS);
  }

  /**
   * Handles every lost connection: refuses, or schedules the next attempt.
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
   * The wait before the next attempt. The first one is random within a window that grows with the
   * room: after a restart of the server, everyone reconnects. (Full jitter: "Exponential Backoff And
   * Jitter", AWS Architecture Blog.)
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
   * Closes the socket and stops the timers; what they still report belongs to an old turn. The server
   * resends events that were not emitted yet.
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

  // ---- Incoming ------------------------------------------------------------------------------

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
   * Handles the answers to this connection's own commands, and emits all other events.
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
    // An event is missing: a new connection resumes from the last one.
    if (isOutOfStep && this.#state.state === "live") this.#lost(0, "");
  }

  /** Handles an answer to this connection's own command; false for any other event. @param {Told} event */
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

  /** @param {ErrorEvent} error @returns {boolean} whether it answers a request */
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
        return reject(
          new RefusedError("Not connected to the server. Try again in a moment.", "unavailable"),
        );
      }
      this.#requests.set(ref, { resolve, reject });
      this.#expect();
    });
  }

  /**
   * Sends a command.
   *
   * @param {Command} command
   * @returns {boolean} false without a live connection
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
 * Reads a refusal. `sentence` is `""` if the answer has none; `status` is 0 if there is no answer.
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
 * Whether something on the way blocks WebSockets: the server would accept one, or something else
 * answers in its place and does not report that it is busy.
 *
 * @param {{ status: number, sentence: string }} why
 */
function isBlocked({ status, sentence }) {
  if (status === NO_UPGRADE) return true;
  return sentence === "" && status >= 400 && MEANING[status]?.then !== "wait";
}

/**
 * @param {unknown} data
 * @returns {Event[]} without unknown values, which a newer server may send
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
