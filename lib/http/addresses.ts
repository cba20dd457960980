/**
 * The address that a request comes from, and what one address may do.
 *
 * @module
 */

import type { Context } from "hono";
import { rateLimited } from "../errors.ts";
import type { RateLimiter } from "../rate_limit.ts";
import type { TrustSettings } from "./origins.ts";
import { forwardedAddress, parseAddress } from "./proxy.ts";

/** The address of a client. */
export interface ClientAddress {
  /** In canonical form; absent if the runtime does not know it. */
  readonly text: string | undefined;
  /** The key that it is counted under, by {@linkcode addressKey}. */
  readonly key: string;
}

/**
 * The key that an address is counted under: an IPv6 network of 64 bits is one customer (RFC 6177).
 */
export function addressKey(address: string | undefined): string {
  const canonical = parseAddress(address ?? "");
  if (canonical === undefined) return address ?? "";
  if (!canonical.includes(":")) return canonical;
  const [head = "", tail] = canonical.split("::");
  const groups = head === "" ? [] : head.split(":");
  if (tail !== undefined) {
    const rest = tail === "" ? [] : tail.split(":");
    while (groups.length + rest.length < 8) groups.push("0");
    groups.push(...rest);
  }
  return `${groups.slice(0, 4).join(":")}::/64`;
}

/**
 * The address that a request comes from.
 *
 * @param headers of the request
 * @param peer the other end of the TCP connection
 * @param trustProxy whether `peer` is our proxy, which appends the client's address to a header
 */
export function clientAddress(
  headers: Headers,
  peer: string | undefined,
  trustProxy: boolean,
): string | undefined {
  const forwarded = trustProxy ? forwardedAddress(headers) : undefined;
  return forwarded ?? parseAddress(peer ?? "") ?? peer;
}

/** The address that a request comes from. The runtime knows it only until an upgrade. */
export function addressOf(c: Context, { trustProxy }: TrustSettings): ClientAddress {
  // A request from a test has no environment.
  const env: Partial<Deno.ServeHandlerInfo> | undefined = c.env;
  const peer = env?.remoteAddr;
  const hostname = peer && "hostname" in peer ? peer.hostname : undefined;
  const text = clientAddress(c.req.raw.headers, hostname, trustProxy);
  return { text, key: addressKey(text) };
}

/**
 * Counts one attempt of an address.
 *
 * @param what the name of the attempts in the refusal
 * @throws {ChatError} `rate_limited` if the address makes too many
 */
export function limitAddress(
  limiter: RateLimiter,
  { key }: ClientAddress,
  what: string,
): void {
  const seconds = limiter.take(key);
  if (seconds > 0) throw rateLimited(`${what} from your address`, Math.ceil(seconds));
}
