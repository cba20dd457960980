// @ts-check
/**
 * The rooms one is in: which visit is shown, which one is on its way, which ones go on in the
 * background. Knows no DOM.
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
 * @property {(visit: Visit, state: ConnectionState, username: string) => void} onState The shown
 *   visit's connection does something else now.
 * @property {(visit: Visit, state: ConnectionState, username: string) => void} onWay The state of a
 *   connection has changed that is to lead into another room, or to give the shown visit another name.
 * @property {(visit: Visit) => void} onEvents
 * @property {(visit: Visit) => void} onTimeline
 * @property {(visit: Visit, message: Message) => void} onNews
 * @property {(visit: Visit, item: Outgoing) => void} onOutgoing
 * @property {(visit: Visit, sentence: string) => void} onComplaint
 * @property {() => void} onRooms The list of rooms, or what is unread in one, is another.
 */

/** How long a room in the background stays connected. On the way back it catches up. */
const BACKGROUND_MS = 10 * 60_000;

/**
 * Rooms in the background that stay connected by plain HTTP. Browsers keep six HTTP/1.1 connections
 * to a server, for all their tabs: each stream takes one, and what is sent needs another.
 */
const MAX_BACKGROUND_STREAMS = 2;

/** All visits of this page. */
export class Visits {
  /** @type {Visit[]} */ #visits = [];
  /** @type {Visit | undefined} */ #shown;
  /** The visit that replaces the shown one once it is live. @type {Visit | undefined} */
  #candidate;
  /** Numbers the choices of a room: a later one makes an earlier one void. */
  #turn = 0;
  /** Closes rooms in the background. @type {Map<Visit, ReturnType<typeof setTimeout>>} */
  #closing = new Map();
  /** Those that were connected when the page went away. @type {Visit[]} */ #paused = [];
  /** How the newest connection got through. @type {"socket" | "stream"} */ #via = "socket";
  /** @type {string | URL} */ #base;
  /** @type {Wishes} */ #wishes;

  /** @param {string | URL} base @param {Wishes} wishes */
  constructor(base, wishes) {
    this.#base = base;
    this.#wishes = wishes;
    browser.onRooms(() => wishes.onRooms());
  }

  /** The visit that the page shows. */
  get shown() {
    return this.#shown;
  }

  /** @returns {readonly Visit[]} */
  get all() {
    return this.#visits;
  }

  /** Messages of others in all rooms that one has not seen. */
  get unread() {
    return this.#visits.reduce((sum, { unread }) => sum + unread, 0);
  }

  /** @param {Place} place @returns {Visit | undefined} */
  find(place) {
    return this.#visits.find((visit) => isSamePlace(visit.place, place));
  }

  /**
   * Goes into a room. One stays where one is until a room that is new lets one in.
   *
   * @param {Place} place
   * @param {string} username
   */
  async go(place, username) {
    this.stay();
    const turn = ++this.#turn;
    const visit = await this.#visitOf(place);
    // Meanwhile the person may have chosen another room.
    if (turn !== this.#turn) return;
    const isNew = visit !== this.#shown;
    const isCandidate = isNew && this.#shown?.isLive && !visit.hasArrived;
    if (isCandidate) this.#candidate = visit;
    // First, so that what is shown is not how the last attempt ended.
    visit.join(username);
    if (isNew && !isCandidate) this.#show(visit);
  }

  /**
   * Joins a room in the background, where something waits to be sent.
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
    // Meanwhile there may be one.
    const visit = this.find(place) ?? made;
    if (visit === made && !this.#visits.includes(made)) this.#visits.push(made);
    return visit;
  }

  /** Stops being on the way into another room. */
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

  /** Closes the rooms by plain HTTP that were left longest ago, but for a few. */
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
   * Leaves a room for good: it is no longer in the list.
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
   * Forgets everything, since another person may come next: what was said, written and begun. What
   * is not sent is put aside until the account is signed in again.
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

  /** Takes up what an account had not sent when it was signed out. @param {string} username */
  takeUp(username) {
    for (const [id, items] of tab.takeUp(username)) {
      const visit = this.#visits.find((visit) => visit.id === id);
      if (visit) visit.outbox.load(items);
      else tab.keepUnsent(id, items);
    }
  }

  // ---- The network, the computer and the browser come and go ---------------------------------

  check() {
    for (const visit of this.#visits) visit.check();
  }

  interrupt() {
    for (const visit of this.#visits) visit.interrupt();
  }

  /** Closes all connections until `resume`: the page goes away, perhaps to come back as it is. */
  pause() {
    this.#paused = this.#visits.filter(({ state: { state } }) =>
      state === "live" || state === "connecting" || state === "reconnecting"
    );
    for (const visit of this.#paused) visit.sleep();
  }

  /** The page is back. */
  resume() {
    for (const visit of this.#paused) visit.join(visit.username);
    this.#paused = [];
  }

  // ---- What happens in visits ----------------------------------------------------------------

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
