// @ts-check
/**
 * The people of a room: all names in a small room; in a large one, the known names and the count.
 *
 * @module
 */

/** @import { Event } from "../lib/protocol/events.ts" */

/** The people of one room. */
export class Roster {
  /**
   * The connections of each person, by name, in order of joining; 1 where the number is unknown.
   *
   * @type {Map<string, number>}
   */
  #people = new Map();
  #online = 0;

  /** The known names, in order of joining. */
  get names() {
    return [...this.#people.keys()];
  }

  /** The count of all people. */
  get online() {
    return this.#online;
  }

  /** The count of people with unknown names. */
  get unknown() {
    return Math.max(0, this.#online - this.#people.size);
  }

  /** @param {string} name */
  has(name) {
    return this.#people.has(name);
  }

  clear() {
    this.#people.clear();
    this.#online = 0;
  }

  /**
   * Applies an event.
   *
   * @param {Event} event
   * @returns {boolean} whether the roster changed
   */
  apply(event) {
    switch (event.type) {
      case "welcome":
      case "online_users":
        // A partial list adds names and removes none.
        if (event.type === "welcome" || event.users.length === event.online) this.#people.clear();
        for (const { username, connections } of event.users) {
          this.#people.set(username, connections);
        }
        this.#online = event.online;
        break;
      case "presence":
        for (const name of event.left) this.#people.delete(name);
        for (const name of event.joined) this.#add(name);
        if (event.users !== undefined) {
          this.#people = new Map(event.users.map((user) => [user.username, user.connections]));
        }
        this.#online = event.online;
        break;
      case "user_joined":
        this.#add(event.username);
        this.#online = Math.max(this.#online, this.#people.size);
        break;
      case "user_left":
        if (this.#people.delete(event.username)) this.#online = Math.max(0, this.#online - 1);
        break;
      default:
        return false;
    }
    this.#forgetSurplus();
    return true;
  }

  /** @param {string} name */
  #add(name) {
    if (!this.#people.has(name)) this.#people.set(name, 1);
  }

  /** A large room does not name everyone who leaves: the oldest names are the likeliest to be gone. */
  #forgetSurplus() {
    for (const name of this.#people.keys()) {
      if (this.#people.size <= this.#online) break;
      this.#people.delete(name);
    }
  }
}
