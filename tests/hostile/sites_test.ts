/** Addresses, hosts and origins in every spelling: a client is one client, a site is one site. */

import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ConfigError, readConfig } from "../../lib/config.ts";
import { call, knock, Visitor } from "../support/people.ts";
import { Random, seeds } from "../support/random.ts";
import { startServer } from "../support/server.ts";

/** The same IPv4 address as different proxies write it. */
function spellings(bytes: readonly number[], random: Random): string[] {
  const plain = bytes.join(".");
  const hex = bytes.map((byte) => byte.toString(16).padStart(2, "0"));
  const mapped = `${hex[0]}${hex[1]}:${hex[2]}${hex[3]}`;
  const port = random.between(1024, 65535);
  return [
    plain,
    `${plain}:${port}`,
    `  ${plain}\t`,
    `"${plain}:${port}"`,
    `[${plain}]:${port}`,
    `::ffff:${plain}`,
    `::FFFF:${plain}`,
    `::ffff:${plain}:${port}`,
    `[::ffff:${plain}]`,
    `[::ffff:${plain}]:${port}`,
    `"[::ffff:${plain}]:${port}"`,
    `::ffff:${mapped}`,
    `::FFFF:${mapped.toUpperCase()}`,
    `0:0:0:0:0:ffff:${mapped}`,
    `0000:0000:0000:0000:0000:FFFF:${plain}`,
    `[::ffff:${mapped}%eth0]:${port}`,
  ];
}

/** The same IPv6 customer, at any of its addresses. */
function spellings6(network: readonly number[], random: Random): string[] {
  const groups = () => [...network, ...[0, 0, 0, 0].map(() => random.below(65536))];
  const write = (group: number) => group.toString(16);
  const long = groups().map((group) => write(group).padStart(4, "0")).join(":");
  return [
    groups().map(write).join(":"),
    long,
    long.toUpperCase(),
    `[${long}]`,
    `[${long}]:${random.between(1, 65535)}`,
    `"[${long}]:443"`,
    `${network.map(write).join(":")}::`,
    `${network.map(write).join(":")}::${write(random.between(1, 65535))}`,
  ];
}

describe("A client behind a proxy", () => {
  for (const seed of seeds(2)) {
    it(`is one client in every spelling of its address [SEED=${seed}]`, async () => {
      const random = new Random(seed);
      const limit = 3;
      await using server = await startServer({
        TRUST_PROXY: "1",
        MAX_CONNECTIONS_PER_ADDRESS: String(limit),
        AUTH_RATE_PER_ADDRESS: String(limit),
      });
      const forged = () => random.pick(["", "1.2.3.4, ", "unknown , ", `${"x, ".repeat(500)}`]);
      const header = (address: string) =>
        random.percent(30)
          ? { "Forwarded": `for=1.1.1.1 , For="${address.trim().replaceAll('"', "")}";proto=http` }
          : { "X-Forwarded-For": `${forged()}${address}` };
      for (let i = 0; i < 6; i++) {
        const bytes = [random.between(1, 223), ...[0, 0, 0].map(() => random.below(256))];
        const network = [0x2001, 0xdb8, i, random.between(1, 65535)];
        const all = random.percent(50) ? spellings(bytes, random) : spellings6(network, random);
        const visitors: Visitor[] = [];
        try {
          for (let n = 0; n < limit; n++) {
            visitors.push(
              await Visitor.open(server, `/ws/r${i}?username=u${n}`, header(random.pick(all))),
            );
          }
          for (const address of all) {
            const answer = await knock(server, `/ws/r${i}?username=v`, header(address));
            assertEquals(answer.status, 429, address);
          }
          const guesses = [];
          for (let n = 0; n <= limit && i === 0; n++) {
            const headers = header(random.pick(all));
            const body = { username: "nobody", password: "a wrong password" };
            guesses.push((await call(server, "POST", "/api/login", { body, headers })).status);
          }
          if (i === 0) assertEquals(guesses, [401, 401, 401, 429]);
        } finally {
          for (const visitor of visitors) visitor.close();
        }
      }
    });
  }
});

describe("A server with PUBLIC_URL", () => {
  it("answers only to that host and scheme, and accepts no other page as its own", async () => {
    await using server = await startServer({
      PUBLIC_URL: "https://Chat.example:8443/",
      TRUST_PROXY: "1",
    });
    const own = "https://chat.example:8443";
    const CASES: [headers: Record<string, string>, status: number][] = [
      [{ Host: "chat.example:8443" }, 101],
      [{ Host: "CHAT.example:8443", Origin: own }, 101],
      [{ Host: "chat.example:8443", Origin: own, "X-Forwarded-Proto": "HTTPS" }, 101],
      [{ Host: "chat.example:8443", Origin: own, "X-Forwarded-Proto": "http" }, 421],
      [{ Host: "chat.example:8443", Origin: "http://chat.example:8443" }, 403],
      [{ Host: "chat.example:8443", Origin: "https://chat.example" }, 403],
      [{ Host: "chat.example:8443", Origin: "https://evil.example" }, 403],
      [{ Host: "chat.example:8443", Origin: "null" }, 403],
      // DNS rebinding: the page, its host and its origin are all the attacker's.
      [{ Host: "evil.example", Origin: "http://evil.example" }, 421],
      [{ Host: `evil.example:${server.port}`, Origin: `http://evil.example:${server.port}` }, 421],
      [{ Host: "chat.example" }, 421],
      [{ Host: `127.0.0.1:${server.port}` }, 421],
      [{ Host: "chat.example:8443.evil.example" }, 421],
      [{ Host: "x".repeat(10_000) }, 421],
    ];
    for (const [headers, status] of CASES) {
      const answer = await knock(server, "/ws/r?username=ann", headers);
      assertEquals(answer.status, status, JSON.stringify(headers).slice(0, 100));
      if (status !== 421) continue;
      assertEquals(answer.error, `This server answers only at ${own}. Use that address.`);
    }
    for (const path of ["/", "/api/session", "/chat.js", "/nothing"]) {
      assertEquals((await call(server, "GET", path)).status, 421, path);
    }
    // Monitoring may use any address.
    assertEquals((await call(server, "GET", "/health")).status, 200);
  });

  it("does not start if that is not a site", () => {
    const bad = ["chat.example", "ftp://chat.example", "https://", "https://u:p@chat.example"];
    for (const url of [...bad, "https://chat.example/?x", "https://chat.example/#x", "https://*"]) {
      assertThrows(() => readConfig({ PUBLIC_URL: url }), ConfigError, "PUBLIC_URL must be");
    }
    for (const url of ["http://localhost", "https://CHAT.example/base/", "https://a:443"]) {
      const { origin, scheme } = readConfig({ PUBLIC_URL: url }).http.publicUrl!;
      assertEquals([origin, scheme], [new URL(url).origin, url.split(":")[0]]);
    }
  });
});

describe("An origin", () => {
  it("is the server's own with and without the default port", async () => {
    await using server = await startServer();
    const hosts = ["chat.test", "CHAT.test", "[::1]", "192.0.2.1", "xn--bcher-kva.example"];
    for (const host of hosts) {
      for (const [scheme, port] of [["http", ":80"], ["https", ":443"]]) {
        for (const suffix of ["", port]) {
          const headers = { Host: `${host}${suffix}`, Origin: `${scheme}://${host.toLowerCase()}` };
          const { status } = await knock(server, "/ws/r?username=ann", headers);
          assertEquals(status, 101, JSON.stringify(headers));
        }
        const other = { Host: `${host}:8080`, Origin: `${scheme}://${host}` };
        assertEquals((await knock(server, "/ws/r?username=ann", other)).status, 403);
      }
    }
  });

  it("of an app, or of a page without one, can be allowed by its name", async () => {
    const apps = ["capacitor://localhost", "tauri://localhost", "null", "file://"];
    const extension = "chrome-extension://abcdefghijklmnopabcdefghijklmnop";
    const allowed = [...apps, extension, "https://Site.example:443/", "http://[::1]:3000"];
    await using server = await startServer({ ALLOWED_ORIGINS: allowed.join(" , ") });
    const knockFrom = async (origin: string) =>
      (await knock(server, "/ws/r?username=ann", { Origin: origin })).status;
    for (const origin of [...apps, extension, "https://site.example", "http://[::1]:3000"]) {
      assertEquals(await knockFrom(origin), 101, origin);
    }
    for (const origin of ["capacitor://evil", "http://site.example", "tauri://localhost.evil"]) {
      assertEquals(await knockFrom(origin), 403, origin);
    }
  });

  it("unknown to browsers stops the start", () => {
    const bad = [
      "https://*.example",
      "https://*",
      "*.example",
      "**",
      "chat.example",
      "https://chat.example/path",
      "https://chat.example//",
      "https://chat.example?x",
      "https://chat.example#x",
      "https://user@chat.example",
      "https:chat.example",
      "https://",
      "https://chat example",
      "wss://chat.example",
      "file:///home",
      "capacitor://",
      "capacitor://localhost/app",
      "NULL",
    ];
    for (const origin of bad) {
      const env = { ALLOWED_ORIGINS: `https://good.example,${origin}` };
      assertThrows(() => readConfig(env), ConfigError, `not "${origin}"`);
    }
  });
});
