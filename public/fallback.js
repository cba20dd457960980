// @ts-check
/**
 * Chooses a connection's transport: a WebSocket, or plain HTTP (`stream.js`) where WebSockets are
 * blocked, and back to a WebSocket once one works.
 *
 * @module
 */

/**
 * The network and the timers: tests replace them.
 *
 * @typedef {object} Surroundings
 * @property {(url: string) => WebSocket} openSocket
 * @property {(task: () => void, delayMs: number) => unknown} setTimeout
 * @property {(timer: any) => void} clearTimeout
 */

/** A connection that lasted this long counts as stable. */
export const STEADY_MS = 10_000;
/** WebSockets count as blocked after this many young sockets cut in a row. */
const MAX_CUTS = 2;
/**
 * How often a WebSocket is tried again. A stream does all that a socket does, and people change
 * networks a few times a day: a few minutes are soon enough.
 */
export const PROBE_EVERY_MS = 5 * 60_000;
/** How long that WebSocket must work: longer than `STEADY_MS`. */
export const PROBE_MS = 12_000;

/** The server's status for a request that lacks only the upgrade. */
export const NO_UPGRADE = 426;

/**
 * Close codes without a valid close frame (RFC 6455, section 7.4.1; Deno has 0). No server sends
 * them, so something on the way cut the connection.
 */
const CUT = new Set([0, 1002, 1005, 1006]);

/** Knows whether WebSockets work. */
export class Fallback {
  /**
   * The transport of the next attempt.
   *
   * @type {"socket" | "stream"}
   */
  via;

  /** @type {Surroundings} */ #around;
  /** Young sockets cut in a row. */
  #cuts = 0;
  /** @type {unknown} */ #timer;
  /** @type {WebSocket | undefined} */ #probe;

  /** @param {"socket" | "stream"} via @param {Surroundings} around */
  constructor(via, around) {
    this.via = via;
    this.#around = around;
  }

  /**
   * Notes the end of a live connection. After two sockets in a row that were cut within 10 s, the
   * next attempt is a stream. The close code of a restart does not count.
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
   * Checks every 5 minutes whether a WebSocket works and stays open.
   *
   * @param {string} url of a socket that echoes
   * @param {() => void} onThrough
   */
  watch(url, onThrough) {
    this.rest();
    this.#timer = this.#around.setTimeout(() => this.#try(url, onThrough), PROBE_EVERY_MS);
  }

  /** Stops checking. */
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
    // The second echo comes at the end: a socket may be dead without being closed.
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
