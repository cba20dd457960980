// @ts-check
/// <reference lib="dom" />
/**
 * Finds the rooms that other windows of this browser have joined: one browser is one person.
 *
 * @module
 */

import { ROOT } from "./address.js";

/** How long another window has to answer, in milliseconds. */
const PATIENCE_MS = 150;

/** The windows of one browser. */
export class Windows {
  /** @type {BroadcastChannel | undefined} */ #channel;
  /** @type {(username: string) => void} */ #onHere = () => {};
  /** The room of the pending question. */
  #asked = "";

  /**
   * @param {(room: string) => string | undefined} whoIn this window's name in a room, if it is there
   */
  constructor(whoIn) {
    if (!globalThis.BroadcastChannel) return;
    const channel = this.#channel = new BroadcastChannel(`hubbub.windows ${ROOT.pathname}`);
    channel.onmessage = ({ data: { room, username } }) => {
      if (username !== undefined) return room === this.#asked && this.#onHere(username);
      const who = whoIn(room);
      if (who !== undefined) channel.postMessage({ room, username: who });
    };
  }

  /**
   * The name of another window of this browser in a room, if there is one.
   *
   * @param {string} room
   * @returns {Promise<string | undefined>}
   */
  async whoIsIn(room) {
    const channel = this.#channel;
    if (!channel) return undefined;
    return await new Promise((resolve) => {
      this.#asked = room;
      this.#onHere = resolve;
      channel.postMessage({ room });
      setTimeout(resolve, PATIENCE_MS, undefined);
    });
  }
}
