/**
 * Whether an instance hears the server's notifications, judged by probes that it sends itself.
 *
 * A connection may accept a subscription and never deliver: one that died without a word, or a
 * pooler in transaction mode. In the first case a new link helps. If two links in a row hear nothing,
 * news have to be polled for, until a probe is heard again.
 *
 * @module
 */

import type { Logger } from "../../logger.ts";

/** What {@linkcode Hearing} needs. */
export interface HearingOptions {
  readonly logger: Logger;
  /** The server, for people. */
  readonly server: string;
}

/** Maximum probes that are remembered. */
const MAX_HEARD = 8;

/** Whether an instance hears the server's notifications. */
export class Hearing {
  readonly #options: HearingOptions;
  /** The newest probes that were heard. */
  readonly #heard: string[] = [];
  /** Whether the present link has heard a probe. */
  #hasHeard = false;
  /** How many links in a row have heard none. */
  #deafLinks = 0;
  #isDeaf = false;

  constructor(options: HearingOptions) {
    this.#options = options;
  }

  /** Whether news have to be polled for. */
  get isDeaf(): boolean {
    return this.#isDeaf;
  }

  /** Why news may be late; `undefined` if they are not, or are polled for. */
  get problem(): Error | undefined {
    if (this.#deafLinks === 0 || this.#isDeaf) return undefined;
    return new Error(`${this.#options.server} sends no notifications.`);
  }

  /** Begins with a new link. */
  begin(): void {
    this.#hasHeard = false;
  }

  /** Notes that a probe came back. */
  hear(probe: string): void {
    this.#heard.push(probe);
    if (this.#heard.length > MAX_HEARD) this.#heard.shift();
    this.#hasHeard = true;
    this.#deafLinks = 0;
    if (!this.#isDeaf) return;
    this.#isDeaf = false;
    this.#options.logger.warn("notifications arrive again", { server: this.#options.server });
  }

  /** Whether a probe came back. */
  heard(probe: string): boolean {
    return this.#heard.includes(probe);
  }

  /** Notes that a probe has not come back. Returns whether another link may help. */
  miss(): boolean {
    if (this.#isDeaf) return false;
    this.#deafLinks = this.#hasHeard ? 1 : this.#deafLinks + 1;
    this.#hasHeard = false;
    if (this.#deafLinks < 2) return true;
    this.#isDeaf = true;
    this.#options.logger.warn(
      "no notifications arrive, so what other instances say comes late: connect without a pooler",
      {
        server: this.#options.server,
      },
    );
    return false;
  }
}
