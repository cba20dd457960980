/**
 * Whether an instance receives the server's notifications, judged by probes that it sends itself.
 *
 * A connection may accept a subscription and never deliver: because it died unnoticed, or because a
 * pooler in transaction mode is in between. In the first case a new link helps. If two links in a
 * row receive nothing, the instance polls until a probe arrives again.
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

/** Maximum remembered probes. */
const MAX_HEARD = 8;

/** Whether an instance receives the server's notifications. */
export class Hearing {
  readonly #options: HearingOptions;
  /** The newest received probes. */
  readonly #heard: string[] = [];
  /** Whether the present link has received a probe. */
  #hasHeard = false;
  /** How many links in a row have received none. */
  #deafLinks = 0;
  #isDeaf = false;

  constructor(options: HearingOptions) {
    this.#options = options;
  }

  /** Whether the instance must poll for news. */
  get isDeaf(): boolean {
    return this.#isDeaf;
  }

  /** Why news may be late; `undefined` if they arrive, or the instance polls. */
  get problem(): Error | undefined {
    if (this.#deafLinks === 0 || this.#isDeaf) return undefined;
    return new Error(`${this.#options.server} sends no notifications.`);
  }

  /** Begins with a new link. */
  begin(): void {
    this.#hasHeard = false;
  }

  /** Records that a probe came back. */
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

  /** Records that a probe has not come back. Returns whether another link may help. */
  miss(): boolean {
    if (this.#isDeaf) return false;
    this.#deafLinks = this.#hasHeard ? 1 : this.#deafLinks + 1;
    this.#hasHeard = false;
    if (this.#deafLinks < 2) return true;
    this.#isDeaf = true;
    this.#options.logger.warn(
      "no notifications arrive, so messages of other instances are late: connect without a pooler",
      {
        server: this.#options.server,
      },
    );
    return false;
  }
}
