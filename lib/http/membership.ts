/**
 * The membership of one connection in one room, from join to leave, over a WebSocket or a stream.
 *
 * @module
 */

import type { Peer } from "../delivery/outbox.ts";
import { ChatError } from "../errors.ts";
import type { LogFields, Logger } from "../logger.ts";
import type { Meter } from "../meter.ts";
import type { Accounts } from "../people/accounts.ts";
import { CLOSE, ERROR_CLOSE } from "../protocol/codes.ts";
import { encode } from "../protocol/encode.ts";
import { errorEvent } from "../protocol/events.ts";
import type { JoinedMember, JoinRequest, Rooms } from "./rooms.ts";

/** What a {@linkcode Membership} needs. */
export interface MembershipOptions {
  readonly hub: Rooms;
  readonly accounts: Accounts;
  readonly logger: Logger;
  /** Logs refusals; throttled. */
  readonly refusals: Logger;
  /** Absent while metrics are off. */
  readonly meter?: Meter | undefined;
}

/** A peer that is a member of a room. */
export class Membership {
  readonly #member: JoinedMember;
  readonly #options: MembershipOptions;
  readonly #fields: LogFields;

  private constructor(member: JoinedMember, options: MembershipOptions, fields: LogFields) {
    this.#member = member;
    this.#options = options;
    this.#fields = fields;
  }

  /**
   * Makes a peer a member of a room. If its session has just ended, or somebody has just registered
   * its name, the peer receives the error and is removed.
   *
   * @param address the client's address, for the logger
   * @throws {ChatError} if the room no longer admits it
   */
  static join(
    peer: Peer,
    request: JoinRequest,
    address: string | undefined,
    options: MembershipOptions,
  ): Membership {
    const { room, username, identity } = request;
    const { hub, accounts, logger, refusals, meter } = options;
    const fields = { room, username, address };
    const member = hub.join(peer, request);
    logger.info("joined", fields);
    accounts.confirm(identity, username).catch((error) => {
      // Health reports a store that fails.
      if (!(error instanceof ChatError) || error.code !== "unauthenticated") return;
      if (member.isGone) return;
      refusals.info("refused", { ...fields, reason: error.message });
      meter?.refused("join", error.code);
      hub.leave(member);
      refuse(peer, request, error);
    });
    return new Membership(member, options, fields);
  }

  /** Handles one frame of the peer. */
  message(data: string | ArrayBuffer): void {
    const { hub, refusals } = this.#options;
    if (typeof data === "string") return hub.receive(this.#member, data);
    refusals.info("binary frame refused", this.#fields);
    hub.dismiss(this.#member, CLOSE.binary);
  }

  /** Removes the member after its connection has ended, and logs how it ended. */
  close({ code, wasClean }: { readonly code?: number; readonly wasClean?: boolean } = {}): void {
    if (this.#member.isGone) return;
    this.#options.logger.info("left", { ...this.#fields, code, wasClean });
    this.#options.hub.leave(this.#member);
  }
}

/** Sends a refusal in the format that the client asked for, and closes the peer. */
export function refuse(
  peer: Peer,
  { room, format = "json" }: JoinRequest,
  error: ChatError,
): void {
  const { code, reason } = ERROR_CLOSE[error.code];
  peer.send(encode(errorEvent(room, error), format)!);
  peer.close(code, reason);
}
