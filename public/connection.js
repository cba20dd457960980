// @ts-check
/**
 * One person's place in one room, kept over a network that comes and goes.
 *
 * Owns the socket, when to try again, and the reason when the server says no. Knows nothing of any
 * page: the same file runs in a browser, in Deno and in Node 22.
 *
 * @module
 */

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
 * One event from the server. `chat` also has `id`, `seq` and `timestamp`, and `history` when it is
 * replayed to someone who just joined; `error` has `code`.
 *
 * @typedef {object} Frame
 * @property {string} type
 * @property {string} content
 * @property {string} room
 * @property {string} username
 * @property {string} [id]
 * @property {number} [seq]
 * @property {string} [timestamp]
 * @property {boolean} [history]
 * @property {string} [code]
 */

/**
 * @typedef {object} ConnectionOptions
 * @property {string | URL} base Where the server is, `http:` or `https:`; `ws/ROOM` is beside it.
 * @property {string} room
 * @property {string} username
 * @property {boolean} [rejoining] This person was in the room a moment ago, so their own last
 *   connection may still hold the name: wait for it rather than give up. Default `false`.
 */

/**
 * What is needed from the outside, so that tests can stand in for the network and for time.
 *
 * @typedef {object} Surroundings
 * @property {(url: string) => WebSocket} openSocket
 * @property {(url: string) => Promise<Response>} fetch
 * @property {(task: () => void, delayMs: number) => unknown} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {() => number} now
 * @property {() => number} random
 */

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
/** How long the server may take to notice that our lost connection is dead, and free the name. */
const NAME_HELD_MS = 90_000;
/** The same, for a page that was reloaded and so said goodbye properly. */
const REJOIN_HELD_MS = 10_000;

const NAME_IN_USE = "Someone in this room is already using that name. Pick another one.";
const NAME_HELD = "Your last connection still holds your name.";

/**
 * What an HTTP status or a close code means for us. A code that is not here is a lost connection:
 * try again.
 *
 * @type {Record<number, { then: "refuse" | "wait" | "name", say: string }>}
 */
const MEANING = {
  400: { then: "refuse", say: "The server does not accept that name or room." },
  401: { then: "refuse", say: "You need to log in to join this room." },
  403: { then: "refuse", say: "You may not join this room." },
  404: { then: "refuse", say: "There is no chat server at this address." },
  409: { then: "name", say: NAME_IN_USE },
  429: { then: "wait", say: "Too many attempts." },
  503: { then: "wait", say: "The server has no room at the moment." },
  1003: { then: "refuse", say: "The server did not understand what was sent." },
  1008: { then: "refuse", say: "The server ended the connection." },
  1009: { then: "refuse", say: "The message was too long for the server." },
  1013: { then: "wait", say: "The server has no room at the moment." },
  4001: { then: "refuse", say: "You have been logged out." },
  4003: { then: "refuse", say: "You may not be in this room." },
  4009: { then: "name", say: NAME_IN_USE },
  4029: { then: "wait", say: "Too many messages at once." },
};

/** @type {Surroundings} */
const REAL = {
  openSocket: (url) => new WebSocket(url),
  fetch: (url) => fetch(url, { headers: { accept: "application/json" } }),
  setTimeout: (task, delayMs) => setTimeout(task, delayMs),
  clearTimeout: (timer) => clearTimeout(timer),
  now: () => Date.now(),
  random: () => Math.random(),
};

/** Joins a room and stays there until told to leave or turned away. */
export class Connection {
  /** The room, as the server will spell it. */
  room;
  /** The person's name, as the server will spell it. */
  username;

  /** @type {Surroundings} */ #around;
  /** @type {string} */ #url;
  /** @type {ConnectionState} */ #state = { state: "closed" };
  /** @type {Set<(state: ConnectionState) => void>} */ #onState = new Set();
  /** @type {Set<(frame: Frame) => void>} */ #onFrame = new Set();
  /** @type {WebSocket | undefined} */ #socket;
  /** @type {unknown} */ #timer;
  /** Counts attempts, so that whatever a given-up one still has to say is not heard. */
  #turn = 0;
  #attempt = 0;
  #liveSince = 0;
  #nameHeldUntil = 0;
  /** The server's last complaint on this socket: it explains the close that may follow. */
  #complaint = "";

  /**
   * Nothing happens before `open()`.
   *
   * @param {ConnectionOptions} options
   * @param {Partial<Surroundings>} [around]
   */
  constructor({ base, room, username, rejoining = false }, around = {}) {
    this.#around = { ...REAL, ...around };
    this.room = room.normalize("NFC").trim();
    this.username = username.normalize("NFC").trim();
    const query = `username=${encodeURIComponent(this.username)}`;
    this.#url = new URL(`ws/${encodeURIComponent(this.room)}?${query}`, base).href;
    if (rejoining) this.#nameHeldUntil = this.#around.now() + REJOIN_HELD_MS;
  }

  /** @returns {ConnectionState} */
  get state() {
    return this.#state;
  }

  /**
   * Calls back on every change of state, from the next one on.
   *
   * @param {(state: ConnectionState) => void} listener
   */
  onState(listener) {
    this.#onState.add(listener);
  }

  /**
   * Calls back with every event from the server, in order.
   *
   * @param {(frame: Frame) => void} listener
   */
  onFrame(listener) {
    this.#onFrame.add(listener);
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
   * Sends a chat message.
   *
   * @param {string} content
   * @returns {boolean} `false` when not live: nothing was sent, keep the text.
   */
  send(content) {
    if (this.#state.state !== "live" || this.#socket?.readyState !== 1) return false;
    this.#socket.send(JSON.stringify({ type: "chat", content }));
    return true;
  }

  /** Leaves for good. `open()` joins again. */
  close() {
    this.#drop();
    this.#attempt = 0;
    this.#nameHeldUntil = 0;
    this.#become({ state: "closed" });
  }

  #try() {
    this.#drop();
    if (/^\.{0,2}$/.test(this.room)) {
      // A URL swallows these two, whichever way they are written: they would name another address.
      const reason = "The room needs a name of more than dots.";
      return this.#become({ state: "refused", reason, code: 400 });
    }
    const turn = this.#turn;
    const socket = this.#around.openSocket(this.#url.replace(/^http/, "ws"));
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
      else this.#askWhy(turn);
    };
    socket.onclose = ({ code }) => end(code);
    // Some runtimes have no close event for a socket that never opened.
    socket.onerror = () => this.#state.state === "connecting" && end(0);
  }

  /** @param {unknown} data */
  #receive(data) {
    const frame = decode(data);
    if (!frame) return;
    this.#complaint = frame.type === "error" ? frame.content : "";
    if (this.#state.state !== "live" && frame.type !== "error") this.#joined();
    for (const listener of this.#onFrame) listener(frame);
  }

  /** The server spoke to us as a member: an open socket alone does not say that. */
  #joined() {
    this.#around.clearTimeout(this.#timer);
    this.#liveSince = this.#around.now();
    this.#become({ state: "live" });
  }

  /**
   * A browser does not tell why an upgrade failed. Asking the same address without one does.
   *
   * @param {number} turn
   */
  async #askWhy(turn) {
    let status = 0;
    let sentence = "";
    let waitMs = 0;
    try {
      const response = await this.#around.fetch(this.#url);
      status = response.status;
      waitMs = 1000 * (Number(response.headers.get("retry-after")) || 0);
      const body = await response.json();
      if (typeof body?.error === "string") sentence = body.error;
    } catch {
      // No network, or no sentence to be had: the status alone must do.
    }
    if (turn === this.#turn) this.#lost(status, sentence, waitMs);
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
    if (this.#state.state === "live") {
      this.#nameHeldUntil = now + NAME_HELD_MS;
      if (now - this.#liveSince >= STEADY_MS) this.#attempt = 0;
    }
    this.#drop();
    const { then, say } = MEANING[code] ?? { then: "retry", say: "" };
    if (then === "refuse" || (then === "name" && now >= this.#nameHeldUntil)) {
      this.#attempt = 0;
      return this.#become({ state: "refused", reason: asSentence(sentence) || say, code });
    }
    const first = then === "wait" ? OVERLOAD_WAIT_MS : FIRST_WAIT_MS;
    const longest = Math.min(
      LONGEST_WAIT_MS,
      Math.max(first, FIRST_WAIT_MS * 2 ** this.#attempt++),
    );
    const wait = waitMs + longest * (1 + this.#around.random()) / 2;
    this.#timer = this.#around.setTimeout(() => this.#try(), wait);
    this.#become({
      state: "reconnecting",
      retryAt: now + wait,
      attempt: this.#attempt,
      reason: then === "name" ? NAME_HELD : asSentence(sentence) || say,
    });
  }

  /** Forgets the socket and the timer; whatever they still report belongs to an old turn. */
  #drop() {
    this.#turn++;
    this.#around.clearTimeout(this.#timer);
    this.#socket?.close();
    this.#socket = undefined;
  }

  /** @param {ConnectionState} state */
  #become(state) {
    this.#state = state;
    for (const listener of this.#onState) listener(state);
  }
}

/**
 * @param {unknown} data
 * @returns {Frame | undefined} Nothing for what is not an event: a newer server may send such things.
 */
function decode(data) {
  if (typeof data !== "string") return;
  try {
    const frame = JSON.parse(data);
    const strings = [frame.type, frame.content, frame.room, frame.username];
    if (strings.every((field) => typeof field === "string")) return frame;
  } catch {
    // Not JSON, or `null`.
  }
}

/** @param {string} text */
function asSentence(text) {
  if (text === "") return "";
  return text[0]?.toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}
