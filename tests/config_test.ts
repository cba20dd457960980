import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ConfigError, readConfig } from "../lib/config.ts";

describe("readConfig", () => {
  it("has a safe default for everything", () => {
    assertEquals(readConfig({}), {
      listen: { host: "0.0.0.0", port: 8080 },
      limits: {
        maxMessageBytes: 4096,
        maxFrameBytes: 16384,
        sendQueueFrames: 256,
        sendQueueBytes: 1048576,
        writeWaitMs: 10_000,
        historySize: 50,
        maxRooms: 10000,
        messageRate: { perSecond: 10, burst: 30 },
      },
      connections: {
        maxConnections: 10000,
        maxConnectionsPerAddress: 256,
        maxConnectionsPerAccount: 16,
      },
      rates: {
        join: { perSecond: 20, burst: 100 },
        auth: { perSecond: 1 / 6, burst: 10 },
      },
      people: { guests: true, admins: [] },
      http: { allowedOrigins: [], trustProxy: false, pongWaitSeconds: 60 },
      historyKeep: 10000,
      database: { kind: "sqlite", path: "chat.db" },
      logLevel: "info",
    });
  });

  it("takes an empty value for one that is not set", () => {
    assertEquals(readConfig({ PORT: "", HOST: "", LOG_LEVEL: "" }), readConfig({}));
  });

  it("is frozen", () => {
    const assertFrozen = (value: unknown) => {
      if (typeof value !== "object" || value === null) return;
      assert(Object.isFrozen(value), JSON.stringify(value));
      Object.values(value).forEach(assertFrozen);
    };
    assertFrozen(readConfig({ ADMINS: "alice", ALLOWED_ORIGINS: "https://chat.example" }));
  });

  it("turns a limit off with 0", () => {
    const config = readConfig({ MAX_MESSAGE_BYTES: "0", MAX_ROOMS: "0", WRITE_WAIT_SECONDS: "0" });
    assertEquals(config.limits.maxMessageBytes, Infinity);
    assertEquals(config.limits.maxRooms, Infinity);
    assertEquals(config.limits.writeWaitMs, Infinity);
  });

  it("reads lists and switches", () => {
    const config = readConfig({
      ADMINS: " alice , Bob",
      ALLOWED_ORIGINS: "https://chat.example,http://localhost:3000",
      GUESTS: "off",
      TRUST_PROXY: "1",
    });
    assertEquals(config.people.admins, ["alice", "Bob"]);
    assertEquals(config.http.allowedOrigins, ["https://chat.example", "http://localhost:3000"]);
    assertEquals([config.people.guests, config.http.trustProxy], [false, true]);
  });

  it("keeps messages in memory on Deno Deploy, unless told otherwise", () => {
    assertEquals(readConfig({ DENO_DEPLOY: "1" }).database, { kind: "memory" });
    const { database } = readConfig({ DENO_DEPLOY: "1", DATABASE_URL: "sqlite:/data/chat.db" });
    assertEquals(database, { kind: "sqlite", path: "/data/chat.db" });
  });

  const BAD: [name: string, value: string, sentence: string][] = [
    ["PORT", "http", 'PORT must be a whole number from 0 to 65535, not "http".'],
    ["PORT", "65536", "PORT must be a whole number from 0 to 65535"],
    ["PORT", "-1", "PORT must be"],
    ["PORT", "80.5", "PORT must be"],
    ["PORT", "1e3", "PORT must be"],
    ["PORT", "0x50", "PORT must be"],
    ["PORT", " 80", "PORT must be"],
    ["MAX_FRAME_BYTES", "many", "MAX_FRAME_BYTES must be a whole number from 0"],
    ["HISTORY_SIZE", "99999999999999999999", "HISTORY_SIZE must be"],
    ["DATABASE_URL", "chat.db", 'DATABASE_URL must be memory: or sqlite:PATH, not "chat.db:…".'],
    ["DATABASE_URL", "sqlite:", "DATABASE_URL must be memory: or sqlite:PATH"],
    ["DATABASE_URL", "mysql://root:secret@host", 'not "mysql:…".'],
    ["GUESTS", "maybe", 'GUESTS must be one of on, off, 1, 0, true, false, not "maybe".'],
    ["TRUST_PROXY", "2", "TRUST_PROXY must be one of"],
    ["ADMINS", "alice,<b>", "ADMINS must be names, separated by commas. The username may only"],
    ["ALLOWED_ORIGINS", "chat.example", 'or *, not "chat.example".'],
    ["ALLOWED_ORIGINS", "https://chat.example/", "ALLOWED_ORIGINS must be origins such as"],
    ["MESSAGE_RATE", "fast", "MESSAGE_RATE must be a whole number"],
    ["LOG_LEVEL", "loud", 'LOG_LEVEL must be one of info, warn, error, not "loud".'],
    ["LOG_LEVEL", "toString", "LOG_LEVEL must be one of"],
  ];
  for (const [name, value, sentence] of BAD) {
    it(`refuses ${name}=${JSON.stringify(value)}`, () => {
      assertThrows(() => readConfig({ [name]: value }), ConfigError, sentence);
    });
  }
});
