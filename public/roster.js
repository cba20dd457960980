// @ts-check
/**
 * Who is in the room, as far as the server tells: everyone in a small room, and in a crowd the names
 * that are known and the count of all.
 *
 * @module
 */

/** @import { Event } from "../lib/protocol/events.ts" */

/** The people of one room. */
export class Roster {
  /**
   * In order of joining; the number counts a person's connections, where it is known.
   *
   * @type {Map<string, number>}
   */
  #people = new Map();
  #online = 0;

  /** The names that are known, in order of joining. */
  get names() {
    return [...this.#people.keys()];
  }

  /** How many people there are in all. */
  get online() {
    return this.#online;
  }

  /** How many there are whose names are not known. */
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
   * Learns from an event.
   *
   * @param {Event} event
   * @returns {boolean} whether anything is new
   */
  apply(event) {
    switch (event.type) {
      case "welcome":
      case "online_users":
        // A list that is not everyone adds names and takes none away.
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

  /** Of a crowd not every leaving is told by name: who is known the longest may be long gone. */
  #forgetSurplus() {
    for (const name of this.#people.keys()) {
      if (this.#people.size <= this.#online) break;
      this.#people.delete(name);
    }
  }
}
