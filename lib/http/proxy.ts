/**
 * What a trusted proxy says about the client: its address, and the scheme of its connection.
 *
 * Each header is cut to a maximum length before it is matched, because a client can write the
 * beginning of most of them.
 *
 * @module
 */

/** Maximum length of one element of a header's list. */
const MAX_ELEMENT_LENGTH = 200;

/** Headers with the scheme of the client's connection, the most common first. */
const SCHEME_HEADERS = [
  "x-forwarded-proto",
  "x-forwarded-protocol",
  "x-forwarded-scheme",
  "x-url-scheme",
] as const;

/** Headers that are `on` when the client's connection is encrypted. */
const TLS_HEADERS = ["x-forwarded-ssl", "front-end-https"] as const;

/** The client's address in the header that the proxy appends to; `undefined` if there is none. */
export function forwardedAddress(headers: Headers): string | undefined {
  const list = headers.get("x-forwarded-for");
  if (list !== null) return parseAddress(lastOf(list));
  return parseAddress(parameterOf(lastOf(headers.get("forwarded") ?? ""), "for"));
}

/** The scheme of the client's own connection. With several proxies it is the first in the list. */
export function forwardedScheme(headers: Headers): "http" | "https" | undefined {
  for (const name of SCHEME_HEADERS) {
    const list = headers.get(name);
    if (list !== null) return readScheme(unquote(firstOf(list)));
  }
  const forwarded = headers.get("forwarded");
  if (forwarded !== null) return readScheme(parameterOf(firstOf(forwarded), "proto"));
  for (const name of TLS_HEADERS) {
    const value = headers.get(name);
    if (value !== null) return firstOf(value).toLowerCase() === "on" ? "https" : "http";
  }
  return undefined;
}

/**
 * The canonical form of an IP address, without brackets, port and zone; IPv4 if it is IPv4-mapped.
 * `undefined` for any other text.
 */
export function parseAddress(text: string): string | undefined {
  const bare = unquote(text);
  if (bare.length > MAX_ELEMENT_LENGTH) return undefined;
  const [, bracketed] = /^\[([^\]]*)\](?::\d*)?$/.exec(bare) ?? [];
  // After a dotted quad, a colon can only begin a port.
  const address = bracketed ?? bare.replace(/(\.\d+):\d*$/, "$1");
  return address.includes(":") ? parseIPv6(address) : parseIPv4(address);
}

function parseIPv4(text: string): string | undefined {
  if (!/^\d{1,3}(\.\d{1,3}){3}$/.test(text)) return undefined;
  const bytes = text.split(".").map(Number);
  return bytes.every((byte) => byte <= 255) ? bytes.join(".") : undefined;
}

function parseIPv6(text: string): string | undefined {
  const [address = ""] = text.split("%");
  if (!/^[\da-f:.]+$/i.test(address)) return undefined;
  const canonical = URL.parse(`http://[${address}]`)?.hostname.slice(1, -1);
  const [, high, low] = /^::ffff:([\da-f]+):([\da-f]+)$/.exec(canonical ?? "") ?? [];
  if (high === undefined || low === undefined) return canonical;
  return [high, low].map((half) => parseInt(half, 16))
    .flatMap((half) => [half >> 8, half & 0xff]).join(".");
}

function readScheme(text: string): "http" | "https" | undefined {
  switch (text.toLowerCase()) {
    case "https":
    case "wss":
      return "https";
    case "http":
    case "ws":
      return "http";
  }
  return undefined;
}

function firstOf(list: string): string {
  return list.slice(0, MAX_ELEMENT_LENGTH).split(",")[0]!.trim();
}

function lastOf(list: string): string {
  const last = list.slice(-MAX_ELEMENT_LENGTH).split(",").at(-1)!;
  return last.trim().split(/\s/).at(-1)!;
}

/** A parameter of one element of `Forwarded` (RFC 7239, section 4); empty if it is absent. */
function parameterOf(element: string, name: string): string {
  for (const pair of element.split(";")) {
    const [key = "", value = ""] = pair.split("=");
    if (key.trim().toLowerCase() === name) return unquote(value);
  }
  return "";
}

function unquote(text: string): string {
  return text.trim().replace(/^"|"$/g, "");
}
