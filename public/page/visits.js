// @ts-check
/**
 * The visits of this page: the shown one, the one being joined, and those in the background. Uses no
 * DOM.
 *
 * @module
 */

import { isSamePlace } from "./address.js";
import { browser, tab } from "./memory.js";
import { Visit } from "./visit.js";

/** @import { ConnectionState } from "../connection.js" */
/** @import { Outgoing } from "../outbox.js" */
/** @import { Place } from "./address.js" */
/** @import { Message } from "./timeline.js" */

/**
 * @typedef {object} Wishes
 * @property {(visit: Visit) => void} onShow Another visit is shown.
 * @property {(visit: Visit, state: ConnectionState, username: string) => void} onState The state of
 *   the shown visit's connection has changed.
 * @property {(visit: Visit, state: ConnectionState, username: string) => void} onWay The state of a
 *   connection to another room, or under another name, has changed.
 * @property {(visit: Visit) => void} onEvents
 * @property {(visit: Visit) => void} onTimeline
 * @property {(visit: Visit, message: Message) => void} onNews
 * @property {(visit: Visit, item: Outgoing) => void} onOutgoing
 * @property {(visit: Visit, sentence: string) => void} onComplaint
 * @property {() => void} onRooms The list of rooms or an unread count has changed.
 */

/** How long a room in the background stays connected. It catches up when it is shown again. */
const BACKGROUND_MS = 10 * 60_000;

/**
 * Maximum rooms in the background that stay connected by plain HTTP. A browser opens six HTTP/1.1
 * connections to a server, for all its tabs: each stream takes one, and sending needs another.
 */
const MAX_BACKGROUND_STREAMS = 2;

/** All visits of this page. */
export class Visits {
  /** @type {Visit[]} */ #visits = [];
  /** @type {Visit | undefined} */ #shown;
  /** The visit that replaces the shown one once it is live. @type {Visit | undefined} */
  #candidate;
  /** Number of the choice of a room: a later choice cancels an earlier one. */
  #turn = 0;
  /** The timers that close rooms in the background. @type {Map<Visit, ReturnType<typeof setTimeout>>} */
  #closing = new Map();
  /** The visits connected before `pause()`. @type {Visit[]} */ #paused = [];
  /** The transport of the newest connection. @type {"socket" | "stream"} */ #via = "socket";
  /** @type {string | URL} */ #base;
  /** @type {Wishes} */ #wishes;

  /** @param {string | URL} base @param {Wishes} wishes */
  constructor(base, wishes) {
    this.#base = base;
    this.#wishes = wishes;
    browser.onRooms(() => wishes.onRooms());
  }

  /** The shown visit. */
  get shown() {
    return this.#shown;
  }

  /** @returns {readonly Visit[]} */
  get all() {
    return this.#visits;
  }

  /** Unseen messages of others, in all rooms. */
  get unread() {
    return this.#visits.reduce((sum, { unread }) => sum + unread, 0);
  }

  /** @param {Place} place @returns {Visit | undefined} */
  find(place) {
    return this.#visits.find((visit) => isSamePlace(visit.place, place));
  }

  /**
   * Goes to a room. The shown room stays until a new room admits the person.
   *
   * @param {Place} place
   * @param {string} username
   */
  async go(place, username) {
    this.stay();
    const turn = ++this.#turn;
    const visit = await this.#visitOf(place);
    // The person may have chosen another room meanwhile.
    if (turn !== this.#turn) return;
    const isNew = visit !== this.#shown;
    const isCandidate = isNew && this.#shown?.isLive && !visit.hasArrived;
    if (isCandidate) this.#candidate = visit;
    // Before showing it, so that the page does not show the end of the last attempt.
    visit.join(username);
    if (isNew && !isCandidate) this.#show(visit);
  }

  /**
   * Joins a room in the background if it has unsent texts.
   *
   * @param {Place} place
   * @param {string} username
   */
  async wake(place, username) {
    const visit = await this.#visitOf(place);
    if (visit === this.#shown || visit.outbox.isDone) return;
    visit.join(username);
    this.#closeLater(visit);
  }

  /** @param {Place} place */
  async #visitOf(place) {
    const made = this.find(place) ??
      await Visit.create(place, { base: this.#base, host: this.#host });
    // Another call may have created it meanwhile.
    const visit = this.find(place) ?? made;
    if (visit === made && !this.#visits.includes(made)) this.#visits.push(made);
    return visit;
  }

  /** Stops joining another room. */
  stay() {
    this.#turn++;
    const given = this.#candidate;
    this.#candidate = undefined;
    if (given) this.#drop(given);
  }

  /** @param {Visit} visit */
  #show(visit) {
    const left = this.#shown;
    this.#shown = visit;
    clearTimeout(this.#closing.get(visit));
    this.#closing.delete(visit);
    if (left && !left.hasArrived && left.outbox.items.length === 0) this.#drop(left);
    else if (left) this.#closeLater(left);
    this.#spareStreams();
    this.#wishes.onShow(visit);
    if (visit.hasArrived && visit.username !== "") this.#keepPlace(visit);
  }

  /** @param {Visit} visit */
  #closeLater(visit) {
    const timer = setTimeout(() => {
      if (visit.outbox.isDone) visit.sleep();
      else this.#closeLater(visit);
    }, BACKGROUND_MS);
    this.#closing.set(visit, timer);
  }

  /** Closes streams in the background beyond the maximum, those left longest ago first. */
  #spareStreams() {
    const done = [...this.#closing.keys()].filter(({ isOnStream, outbox }) =>
      isOnStream && outbox.isDone
    );
    for (const visit of done.slice(0, -MAX_BACKGROUND_STREAMS)) visit.sleep();
  }

  /** @param {Visit} visit */
  #keepPlace(visit) {
    tab.place = { ...visit.place, username: visit.username };
    visit.remember();
  }

  /**
   * Leaves a room, and removes it from the list.
   *
   * @param {Place} place
   */
  leave(place) {
    const visit = this.find(place);
    browser.forgetRoom(place);
    visit?.forget();
    if (visit) this.#drop(visit);
    this.#wishes.onRooms();
  }

  /** @param {Visit} visit */
  #drop(visit) {
    visit.end();
    clearTimeout(this.#closing.get(visit));
    this.#closing.delete(visit);
    this.#visits = this.#visits.filter((other) => other !== visit);
    if (visit !== this.#shown) return;
    this.#shown = undefined;
    tab.place = undefined;
  }

  /**
   * Forgets all messages and drafts, since another person may come next. Unsent texts are put aside
   * until the account signs in again.
   *
   * @param {string} username the account's
   */
  forgetAll(username) {
    this.stay();
    this.#paused = [];
    const unsent = this.#visits.map(({ id, outbox }) => /** @type {const} */ ([id, outbox.save()]));
    tab.setAside(username, new Map(unsent.filter(([, items]) => items.length > 0)));
    for (const visit of this.#visits) {
      visit.forget();
      this.#drop(visit);
    }
  }

  /** Restores the texts that an account had not sent before it signed out. @param {string} username */
  takeUp(username) {
    for (const [id, items] of tab.takeUp(username)) {
      const visit = this.#visits.find((visit) => visit.id === id);
      if (visit) visit.outbox.load(items);
      else tab.keepUnsent(id, items);
    }
  }

  // ---- Network, computer, browser ------------------------------------------------------------

  check() {
    for (const visit of this.#visits) visit.check();
  }

  interrupt() {
    for (const visit of this.#visits) visit.interrupt();
  }

  /** Closes all connections until `resume()`: the browser may keep the page and show it again. */
  pause() {
    this.#paused = this.#visits.filter(({ state: { state } }) =>
      state === "live" || state === "connecting" || state === "reconnecting"
    );
    for (const visit of this.#paused) visit.sleep();
  }

  /** Opens the connections closed by `pause()`. */
  resume() {
    for (const visit of this.#paused) visit.join(visit.username);
    this.#paused = [];
  }

  // ---- Reports of the visits -----------------------------------------------------------------

  /** @type {import("./visit.js").Host} */
  #host = {
    way: () => this.#via,
    onState: (visit, state, username) => {
      if (state.state === "live") this.#via = state.via;
      const isOnWay = visit === this.#candidate ||
        (visit === this.#shown && username !== visit.username);
      if (visit === this.#candidate && state.state === "live") {
        this.#candidate = undefined;
        this.#show(visit);
      } else if (isOnWay) return this.#wishes.onWay(visit, state, username);
      if (visit !== this.#shown) return;
      if (state.state === "live") this.#keepPlace(visit);
      else if (state.state === "refused") tab.place = undefined;
      this.#wishes.onState(visit, state, username);
    },
    onEvents: (visit) => this.#wishes.onEvents(visit),
    onNews: (visit, message) => this.#wishes.onNews(visit, message),
    onOutgoing: (visit, item) => this.#wishes.onOutgoing(visit, item),
    onComplaint: (visit, sentence) => this.#wishes.onComplaint(visit, sentence),
    onUnread: () => this.#wishes.onRooms(),
    onTimeline: (visit) => this.#wishes.onTimeline(visit),
    onTaken: (taker, ref) => {
      const others = this.#visits.filter((visit) =>
        visit !== taker && visit.place.room === taker.place.room
      );
      for (const visit of others) visit.giveUp(ref);
    },
  };
}
