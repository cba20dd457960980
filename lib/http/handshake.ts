/**
 * Checks the opening handshake of RFC 6455 before the runtime upgrades the connection.
 *
 * `Deno.upgradeWebSocket` accepts any version, an empty key and any method, and throws on the rest.
 * After that call a request can no longer be refused, so this module checks everything first.
 *
 * @module
 */

import { HttpError } from "./http_error.ts";

/** The reason why a request is not a WebSocket handshake, as an HTTP answer. */
export class HandshakeError extends HttpError {
  override readonly name = "HandshakeError";
}

/**
 * The subprotocols that a request offers, in its order of preference.
 * Unlike most tokens of HTTP they are case-sensitive.
 */
export function offeredProtocols({ headers }: Request): string[] {
  const header = headers.get("sec-websocket-protocol");
  return header === null ? [] : header.split(",").map((protocol) => protocol.trim());
}

/** Whether a request asks for an upgrade. Any other learns only whether one would be accepted. */
export function asksForUpgrade({ method, headers }: Request): boolean {
  return method === "GET" && tokens(headers.get("upgrade")).includes("websocket") &&
    tokens(headers.get("connection")).includes("upgrade");
}

/**
 * Checks that the server can accept a handshake (RFC 6455, section 4.2.1).
 *
 * @param request a request that asks for an upgrade
 * @param protocol the subprotocol that the server will speak; absent for none
 * @throws {HandshakeError} if it cannot
 */
export function checkHandshake(request: Request, protocol?: string): void {
  const { headers } = request;
  checkMethod(request);
  if (headers.get("sec-websocket-version") !== "13") {
    // RFC 6455, section 4.2.2, paragraph 4: the answer names the version that the server speaks.
    throw new HandshakeError(426, "Sec-WebSocket-Version must be 13.", {
      "sec-websocket-version": "13",
    });
  }
  // Sixteen bytes in base64. The four unused bits may be anything: in an example of RFC 6455,
  // section 4.1, they are not zero.
  if (!/^[A-Za-z0-9+/]{22}==$/.test(headers.get("sec-websocket-key") ?? "")) {
    throw new HandshakeError(400, "Sec-WebSocket-Key must be 16 bytes in base64.");
  }
  const offered = offeredProtocols(request);
  if (offered.length > 0 && (protocol === undefined || !offered.includes(protocol))) {
    throw new HandshakeError(
      400,
      "Unknown Sec-WebSocket-Protocol. Offer chat.v1 to join a room, or none.",
    );
  }
}

/**
 * Checks the method. HEAD gets the answer of a GET without an upgrade.
 *
 * @throws {HandshakeError} for any other method
 */
export function checkMethod({ method }: Request): void {
  if (method === "GET" || method === "HEAD") return;
  throw new HandshakeError(405, "A WebSocket is opened with GET.", { allow: "GET, HEAD" });
}

/** Maximum length of a header that is read. */
const MAX_HEADER_LENGTH = 1000;

/** The members of a comma-separated header, in lower case (RFC 9110, section 5.6.1). */
function tokens(header: string | null): string[] {
  const list = (header ?? "").slice(0, MAX_HEADER_LENGTH).toLowerCase().split(",");
  // Not `trim`: it removes kinds of space that are none in HTTP and for the runtime.
  return list.map((token) => token.replace(/^[ \t]+|[ \t]+$/g, ""));
}
