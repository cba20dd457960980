/**
 * Where a request comes from: the peer's address, and the origin of the page behind it.
 *
 * @module
 */

import type { Context } from "hono";
import { ChatError, rateLimited } from "../errors.ts";
import type { RateLimiter } from "../rate_limit.ts";

/** Which origins and headers the server trusts. */
export interface TrustSettings {
  /** Origins, besides the server's own, whose pages may use the server; `*` for all. */
  readonly allowedOrigins: readonly string[];
  /** Whether the server believes a proxy's `X-Forwarded-For` and `X-Forwarded-Proto`. */
  readonly trustProxy: boolean;
}

/**
 * The key under which an address is counted: an IPv6 network of 64 bits is one customer (RFC 6177).
 */
export function addressKey(address: string | undefined): string {
  if (address === undefined) return "";
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address);
  if (mapped) return mapped[1]!;
  if (!address.includes(":")) return address;
  const [head = "", tail] = address.toLowerCase().split("::");
  const groups = head === "" ? [] : head.split(":");
  if (tail !== undefined) {
    const rest = tail === "" ? [] : tail.split(":");
    while (groups.length + rest.length < 8) groups.push("0");
    groups.push(...rest);
  }
  return `${groups.slice(0, 4).map((group) => group.replace(/^0+(?=.)/, "")).join(":")}::/64`;
}

/**
 * The address that a request comes from.
 *
 * @param headers the request's
 * @param peer the other end of the TCP connection
 * @param trustProxy whether `peer` is our proxy, which appends the client's address to the header
 */
export function clientAddress(
  headers: Headers,
  peer: string | undefined,
  trustProxy: boolean,
): string | undefined {
  const forwarded = trustProxy ? headers.get("x-forwarded-for") : null;
  return forwarded?.split(",").at(-1)?.trim() || peer;
}

/** The address that a request comes from. The runtime knows it only until an upgrade. */
export function addressOf(c: Context, { trustProxy }: TrustSettings): string | undefined {
  // A request that a test makes has no environment.
  const env: Partial<Deno.ServeHandlerInfo> | undefined = c.env;
  const peer = env?.remoteAddr;
  const hostname = peer && "hostname" in peer ? peer.hostname : undefined;
  return clientAddress(c.req.raw.headers, hostname, trustProxy);
}

/** Whether the client's own connection is encrypted. */
export function isSecure(c: Context, { trustProxy }: TrustSettings): boolean {
  const forwarded = trustProxy ? c.req.header("x-forwarded-proto") : undefined;
  return forwarded === "https" || c.req.url.startsWith("https:");
}

/**
 * Whether the page behind a request may use this server. A browser names the page's origin in every
 * request that could do harm (RFC 6454; RFC 6455, section 10.2); a client that sends none is not a
 * browser.
 *
 * @param headers the request's
 * @param allowed origins besides the server's own; `*` for all
 */
export function isAllowedOrigin(headers: Headers, allowed: readonly string[]): boolean {
  const origin = headers.get("origin");
  if (origin === null || allowed.includes("*") || allowed.includes(origin)) return true;
  // Take the host as the client sent it: a URL made of it may be invalid.
  const host = headers.get("host")?.toLowerCase();
  return Boolean(host) && URL.parse(origin)?.host === host;
}

/**
 * Refuses a request of a page that may not use this server.
 *
 * @throws {ChatError} `forbidden`
 */
export function checkOrigin(c: Context, { allowedOrigins }: TrustSettings): void {
  if (isAllowedOrigin(c.req.raw.headers, allowedOrigins)) return;
  throw new ChatError("forbidden", "Pages of this origin may not use this server.");
}

/**
 * Counts one attempt of an address.
 *
 * @param what the attempts, in the words of the refusal
 * @throws {ChatError} `rate_limited` if the address makes too many
 */
export function limitAddress(
  limiter: RateLimiter,
  address: string | undefined,
  what: string,
): void {
  const seconds = limiter.take(addressKey(address));
  if (seconds > 0) throw rateLimited(`${what} from your address`, Math.ceil(seconds));
}
