import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { addressKey, clientAddress } from "../lib/http/addresses.ts";
import { isAllowedOrigin } from "../lib/http/origins.ts";

describe("addressKey", () => {
  const CASES: [address: string | undefined, key: string][] = [
    ["192.0.2.1", "192.0.2.1"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["::FFFF:192.0.2.1", "192.0.2.1"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
    ["2001:db8:1:2::", "2001:db8:1:2::/64"],
    ["2001:db8:1:2::9", "2001:db8:1:2::/64"],
    ["2001:DB8:1:2::9", "2001:db8:1:2::/64"],
    ["2001:0db8:0001:0002::9", "2001:db8:1:2::/64"],
    ["2001:db8::9", "2001:db8:0:0::/64"],
    ["2001:db8::2:0:0:0:9", "2001:db8:0:2::/64"],
    ["fe80::1%eth0", "fe80:0:0:0::/64"],
    ["::1", "0:0:0:0::/64"],
    ["::", "0:0:0:0::/64"],
    ["1::", "1:0:0:0::/64"],
    ["2001:db8::ffff:192.0.2.1", "2001:db8:0:0::/64"],
    ["::ffff:192.0.2.1:0", "192.0.2.1"],
    ["unknown", "unknown"],
    ["", ""],
    [undefined, ""],
  ];
  for (const [address, key] of CASES) {
    it(`counts ${address ?? "nothing"} under "${key}"`, () => {
      assertEquals(addressKey(address), key);
    });
  }
});

describe("clientAddress", () => {
  const CASES: [forwarded: string | undefined, trustProxy: boolean, address: string][] = [
    [undefined, false, "192.0.2.9"],
    [undefined, true, "192.0.2.9"],
    ["198.51.100.1", false, "192.0.2.9"],
    ["198.51.100.1", true, "198.51.100.1"],
    ["203.0.113.1, 198.51.100.1", true, "198.51.100.1"],
    ["203.0.113.1,198.51.100.1", true, "198.51.100.1"],
    [" 198.51.100.1 ", true, "198.51.100.1"],
    ["2001:db8::1", true, "2001:db8::1"],
    ["198.51.100.1,", true, "192.0.2.9"],
    ["", true, "192.0.2.9"],
  ];
  for (const [forwarded, trustProxy, address] of CASES) {
    const trust = trustProxy ? "of a proxy of ours" : "of anybody";
    it(`is ${address} with X-Forwarded-For "${forwarded ?? "absent"}" ${trust}`, () => {
      const headers = new Headers(forwarded === undefined ? {} : { "x-forwarded-for": forwarded });
      assertEquals(clientAddress(headers, "192.0.2.9", trustProxy), address);
    });
  }

  it("is the last X-Forwarded-For, which our own proxy wrote", () => {
    const headers = new Headers();
    headers.append("x-forwarded-for", "203.0.113.1");
    headers.append("x-forwarded-for", "198.51.100.1");
    assertEquals(clientAddress(headers, undefined, true), "198.51.100.1");
  });

  it("is unknown without a peer", () => {
    assertEquals(clientAddress(new Headers(), undefined, true), undefined);
  });
});

describe("isAllowedOrigin", () => {
  const HOST = "chat.example";
  const CASES: [origin: string | undefined, host: string, allowed: string[], isAllowed: boolean][] =
    [
      [undefined, HOST, [], true],
      ["https://chat.example", HOST, [], true],
      ["http://chat.example", HOST, [], true],
      ["https://chat.example", "CHAT.example", [], true],
      ["http://chat.example:8080", "chat.example:8080", [], true],
      ["http://[2001:db8::1]:8080", "[2001:db8::1]:8080", [], true],
      ["http://chat.example:8080", HOST, [], false],
      ["http://chat.example", "chat.example:8080", [], false],
      ["https://evil.example", HOST, [], false],
      ["https://chat.example.evil.example", HOST, [], false],
      ["https://evilchat.example", HOST, [], false],
      ["https://sub.chat.example", HOST, [], false],
      ["null", HOST, [], false],
      ["null", "null", [], false],
      ["", HOST, [], false],
      ["chat.example", HOST, [], false],
      ["file://", HOST, [], false],
      ["file://", "", [], false],
      ["https://site.example", HOST, ["https://site.example"], true],
      ["https://site.example", HOST, ["https://a.example", "https://site.example"], true],
      ["http://site.example", HOST, ["https://site.example"], false],
      ["https://site.example:8443", HOST, ["https://site.example"], false],
      ["https://site.example.evil.example", HOST, ["https://site.example"], false],
      ["https://SITE.example", HOST, ["https://site.example"], false],
      ["https://chat.example", HOST, ["https://site.example"], true],
      ["https://anything.example", HOST, ["*"], true],
      ["null", HOST, ["*"], true],
      ["null", HOST, ["https://site.example"], false],
    ];
  for (const [origin, host, allowed, isAllowed] of CASES) {
    const list = allowed.length === 0 ? "nothing else" : allowed.join(" and ");
    const verb = isAllowed ? "lets" : "does not let";
    it(`${verb} ${origin ?? "no origin"} in at "${host}" with ${list} allowed`, () => {
      const headers = new Headers({ host });
      if (origin !== undefined) headers.set("origin", origin);
      assertEquals(isAllowedOrigin(headers, allowed), isAllowed);
    });
  }

  it("admits no origin if the request has no host", () => {
    assertEquals(isAllowedOrigin(new Headers({ origin: "https://chat.example" }), []), false);
  });
});
