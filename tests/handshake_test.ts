import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { checkHandshake, HandshakeError, offeredProtocols } from "../lib/http/handshake.ts";

/** A good handshake, but for these headers; without a value, a header is left out. */
function handshake(changed: Record<string, string | undefined> = {}, method = "GET"): Request {
  const headers = new Headers();
  const all = {
    "upgrade": "websocket",
    "connection": "Upgrade",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    ...changed,
  };
  for (const [name, value] of Object.entries(all)) {
    if (value !== undefined) headers.set(name, value);
  }
  return new Request("http://chat.example/ws", { method, headers });
}

describe("checkHandshake", () => {
  const GOOD: [why: string, headers: Record<string, string>, protocol?: string][] = [
    ["the least there can be", {}],
    ["other cases", { upgrade: "WebSocket", connection: "upgrade" }],
    ["more than one token", { upgrade: "h2c, websocket", connection: "keep-alive, Upgrade" }],
    ["tokens without spaces", { connection: "keep-alive,Upgrade" }],
    ["a key of + and /", { "sec-websocket-key": "+/+/+/+/+/+/+/+/+/+/+w==" }],
    ["the subprotocol", { "sec-websocket-protocol": "chat.v1" }, "chat.v1"],
    ["it among others", { "sec-websocket-protocol": "mqtt, chat.v1 ,stomp" }, "chat.v1"],
    ["none where one could be", {}, "chat.v1"],
  ];
  for (const [why, headers, protocol] of GOOD) {
    it(`takes a handshake with ${why}`, () => {
      checkHandshake(handshake(headers), protocol);
    });
  }

  const BAD: [why: string, request: Request, status: number, protocol?: string][] = [
    ["POST", handshake({}, "POST"), 405],
    ["no Upgrade", handshake({ upgrade: undefined }), 426],
    ["another Upgrade", handshake({ upgrade: "websockets" }), 426],
    ["no Connection", handshake({ connection: undefined }), 426],
    ["another Connection", handshake({ connection: "keep-alive" }), 426],
    ["no version", handshake({ "sec-websocket-version": undefined }), 426],
    ["version 8", handshake({ "sec-websocket-version": "8" }), 426],
    ["no key", handshake({ "sec-websocket-key": undefined }), 400],
    ["a key of 15 bytes", handshake({ "sec-websocket-key": `${"A".repeat(20)}=` }), 400],
    ["a key of 17 bytes", handshake({ "sec-websocket-key": `${"A".repeat(23)}=` }), 400],
    ["a key with stray bits", handshake({ "sec-websocket-key": `${"A".repeat(21)}B==` }), 400],
    ["a key and more", handshake({ "sec-websocket-key": `${"A".repeat(22)}==A` }), 400],
    ["a key behind more", handshake({ "sec-websocket-key": `!${"A".repeat(22)}==` }), 400],
    ["a subprotocol", handshake({ "sec-websocket-protocol": "chat.v1" }), 400],
    ["an empty subprotocol", handshake({ "sec-websocket-protocol": "" }), 400, "chat.v1"],
    ["another", handshake({ "sec-websocket-protocol": "mqtt" }), 400, "chat.v1"],
    ["it in capitals", handshake({ "sec-websocket-protocol": "CHAT.V1" }), 400, "chat.v1"],
  ];
  for (const [why, request, status, protocol] of BAD) {
    it(`refuses ${why} with ${status}`, () => {
      const error = assertThrows(() => checkHandshake(request, protocol), HandshakeError);
      assertEquals(error.status, status);
    });
  }

  it("says with each refusal what a client should have sent", () => {
    const headersOf = (request: Request) =>
      assertThrows(() => checkHandshake(request), HandshakeError).headers;
    assertEquals(headersOf(handshake({}, "PUT")), { allow: "GET" });
    assertEquals(headersOf(handshake({ upgrade: undefined })), {
      upgrade: "websocket",
      connection: "Upgrade",
    });
    assertEquals(headersOf(handshake({ "sec-websocket-version": "8" })), {
      "sec-websocket-version": "13",
    });
    assertEquals(headersOf(handshake({ "sec-websocket-key": "" })), {});
  });
});

describe("offeredProtocols", () => {
  it("are those of the header, in order and as they were written", () => {
    const offered = (header?: string) =>
      offeredProtocols(handshake({ "sec-websocket-protocol": header }));
    assertEquals(offered(), []);
    assertEquals(offered("chat.v1"), ["chat.v1"]);
    assertEquals(offered("mqtt,Chat.V1 , x"), ["mqtt", "Chat.V1", "x"]);
  });
});
