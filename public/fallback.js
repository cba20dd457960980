// @ts-check
/**
 * Which way a connection takes: a WebSocket, or, where none gets through, plain HTTP (`stream.js`);
 * and when it may go back to a WebSocket.
 *
 * @module
 */

/**
 * What is needed from the outside, so that tests can stand in for the network and for time.
 *
 * @typedef {object} Surroundings
 * @property {(url: string) => WebSocket} openSocket
 * @property {(task: () => void, delayMs: number) => unknown} setTimeout
 * @property {(timer: any) => void} clearTimeout
 */

/** A connection that lasted this long was a good one. */
export const STEADY_MS = 10_000;
/** After this many sockets in a row that are cut young, none gets through: one may be an accident. */
const MAX_CUTS = 2;
/**
 * How often a WebSocket is tried again. People move between networks a few times a day, and a stream
 * does all that a socket does: being back a few minutes later is soon enough.
 */
export const PROBE_EVERY_MS = 5 * 60_000;
/** How long that WebSocket must work: longer than a socket that is cut young. */
export const PROBE_MS = 12_000;

/** The status with which the server answers when it would let us in, but heard of no WebSocket. */
export const NO_UPGRADE = 426;

/**
 * The codes of a connection that ended without a close frame (RFC 6455, section 7.4.1; Deno has 0)
 * or with one that made no sense. No server sends them, so something on the way cut it.
 */
const CUT = new Set([0, 1002, 1005, 1006]);

/** Knows whether WebSockets get through. */
export class Fallback {
  /**
   * The way of the next attempt.
   *
   * @type {"socket" | "stream"}
   */
  via;

  /** @type {Surroundings} */ #around;
  /** How many sockets in a row have been cut young. */
  #cuts = 0;
  /** @type {unknown} */ #timer;
  /** @type {WebSocket | undefined} */ #probe;

  /** @param {"socket" | "stream"} via @param {Surroundings} around */
  constructor(via, around) {
    this.via = via;
    this.#around = around;
  }

  /**
   * A connection has ended that was live. After two sockets in a row that were cut within 10 s, the
   * next attempt is a stream. A server that restarts says so, and is not counted.
   *
   * @param {number} code
   * @param {number} livedMs
   */
  ended(code, livedMs) {
    if (this.via === "stream") return;
    this.#cuts = CUT.has(code) && livedMs < STEADY_MS ? this.#cuts + 1 : 0;
    if (this.#cuts < MAX_CUTS) return;
    this.via = "stream";
    this.#cuts = 0;
  }

  /**
   * Looks every 5 minutes whether a WebSocket gets through and stays.
   *
   * @param {string} url of a socket that sends back what it receives
   * @param {() => void} onThrough
   */
  watch(url, onThrough) {
    this.rest();
    this.#timer = this.#around.setTimeout(() => this.#try(url, onThrough), PROBE_EVERY_MS);
  }

  /** Stops looking. */
  rest() {
    this.#around.clearTimeout(this.#timer);
    const probe = this.#probe;
    this.#probe = undefined;
    probe?.close();
  }

  /** @param {string} url @param {() => void} onThrough */
  #try(url, onThrough) {
    const probe = this.#probe = this.#around.openSocket(url);
    const fail = () => {
      if (probe === this.#probe) this.watch(url, onThrough);
    };
    const patience = () => this.#timer = this.#around.setTimeout(fail, PROBE_MS);
    // It must carry something at the end, too: a socket may be dead without being closed.
    const askAgain = () => {
      patience();
      probe.send("And still?");
    };
    let echoes = 0;
    patience();
    probe.onopen = () => probe.send("Does this get through?");
    probe.onmessage = () => {
      if (probe !== this.#probe) return;
      if (++echoes === 2) return onThrough();
      this.#around.clearTimeout(this.#timer);
      this.#timer = this.#around.setTimeout(askAgain, PROBE_MS);
    };
    probe.onclose = fail;
    probe.onerror = (event) => {
      event.preventDefault?.();
      fail();
    };
  }
}
