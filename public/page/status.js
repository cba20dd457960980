// @ts-check
/// <reference lib="dom" />
/**
 * The state of the connection: a word and a countdown in the bar, and the line of trouble over the
 * messages. A live connection shows nothing.
 *
 * @module
 */

import { get } from "./dom.js";
import { Trouble } from "./trouble.js";

/** @import { Visit } from "./visit.js" */

/** Shows the state of a visit's connection. */
export class Status {
  #parts = {
    status: get("status", HTMLElement),
    words: get("status-words", HTMLElement),
    countdown: get("countdown", HTMLElement),
  };
  #trouble = new Trouble({
    words: get("trouble-words", HTMLElement),
    retry: get("retry", HTMLButtonElement),
  });
  /** @type {Visit | undefined} */ #visit;
  /** @type {() => void} */ #onRetry;
  /** @type {ReturnType<typeof setInterval> | undefined} */ #ticking;

  /** @param {() => void} onRetry called when the person asks to try now */
  constructor(onRetry) {
    this.#onRetry = onRetry;
  }

  /** @param {Visit} visit */
  show(visit) {
    if (visit !== this.#visit) this.#trouble.clear();
    this.#visit = visit;
    const { status, words, countdown } = this.#parts;
    const { state } = visit;
    clearInterval(this.#ticking);
    status.dataset.state = state.state;
    words.textContent = wordsFor(visit);
    countdown.textContent = "";
    if (state.state === "reconnecting") {
      const tick = () => {
        const seconds = Math.max(1, Math.ceil((state.retryAt - performance.now()) / 1000));
        countdown.textContent = `in ${seconds} s`;
      };
      tick();
      this.#ticking = setInterval(tick, 1000);
      const why = state.reason || "The connection was lost.";
      this.#trouble.show(`${why} Your messages wait until you reconnect.`, {
        retry: this.#onRetry,
      });
    } else if (state.state !== "connecting") this.showWaiting(visit);
  }

  /** Shows why messages wait on a live connection. @param {Visit} visit */
  showWaiting({ isLive, outbox }) {
    const waiting = isLive ? outbox.items.filter(({ status }) => status === "waiting") : [];
    // After a `rate_limited`, one message has the reason, and the others wait for it.
    const held = waiting.find(({ reason }) => reason !== "");
    if (held) this.#trouble.show(held.reason);
    else if (waiting.length === 0) this.#trouble.clear();
  }
}

/** @param {Visit} visit */
function wordsFor({ state: { state }, hasArrived }) {
  switch (state) {
    case "live":
      return "";
    case "connecting":
      return hasArrived ? "Reconnecting" : "Connecting";
    case "reconnecting":
      return navigator.onLine ? "Reconnecting" : "Offline, retrying";
    default:
      return "Not connected";
  }
}
