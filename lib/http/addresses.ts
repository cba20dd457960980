/**
 * Where a request comes from: the peer's address, and the origin of the page behind it.
 *
 * @module
 */

/** Under what an address is counted: an IPv6 network of 64 bits is one customer (RFC 6177). */
export function addressKey(address: string | undefined): string {
  if (address === undefined) return "";
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address);
  if (mapped) return mapped[1]!;
  if (!address.includes(":")) return address;
  const [head = "", tail] = address.toLowerCase().split("%")[0]!.split("::");
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
 * @param trustProxy whether that is a proxy of ours, which has put its own peer last
 */
export function clientAddress(
  headers: Headers,
  peer: string | undefined,
  trustProxy: boolean,
): string | undefined {
  const forwarded = trustProxy ? headers.get("x-forwarded-for") : null;
  return forwarded?.split(",").at(-1)?.trim() || peer;
}

/**
 * Whether the page behind a request may speak to this server. A browser names the page's origin in
 * every request that could do harm (RFC 6454; RFC 6455, section 10.2); who names none is no browser.
 *
 * @param headers the request's
 * @param allowed origins besides the server's own; `*` for all
 */
export function isAllowedOrigin(headers: Headers, allowed: readonly string[]): boolean {
  const origin = headers.get("origin");
  if (origin === null || allowed.includes("*") || allowed.includes(origin)) return true;
  // The host as the client named it: a URL made of it may be no URL at all.
  const host = headers.get("host")?.toLowerCase();
  return Boolean(host) && URL.parse(origin)?.host === host;
}
