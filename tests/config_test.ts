import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ConfigError, findTypos, readConfig } from "../lib/config.ts";
import { filesIn, readFile, readPage } from "./support/docs.ts";

describe("readConfig", () => {
  it("has a safe default for everything", () => {
    assertEquals(readConfig({}), {
      listen: { host: "0.0.0.0", port: 8080, reusePort: false },
      limits: {
        maxMessageBytes: 4096,
        maxFrameBytes: 32768,
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
        traffic: {
          frames: { perSecond: 100, burst: 300 },
          bytes: { perSecond: 102_400, burst: 1_228_800 },
        },
      },
      people: {
        guests: true,
        registration: true,
        signInSecret: undefined,
        admins: [],
        adminCode: undefined,
      },
      http: {
        allowedOrigins: [],
        embedOrigins: [],
        trustProxy: false,
        publicUrl: undefined,
        pongWaitSeconds: 60,
      },
      engine: { historyKeep: 10000, maxStoredBytes: 2147483648 },
      database: { kind: "sqlite", path: "chat.db" },
      hasSiblings: false,
      metrics: { hasPage: false, hasOtel: false, tracesUnasked: false },
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
    const names = ["MAX_MESSAGE_BYTES", "MAX_ROOMS", "WRITE_WAIT_SECONDS", "MAX_STORED_BYTES"];
    const config = readConfig(Object.fromEntries(names.map((name) => [name, "0"])));
    assertEquals(config.limits.maxMessageBytes, Infinity);
    assertEquals(config.limits.maxRooms, Infinity);
    assertEquals(config.limits.writeWaitMs, Infinity);
    assertEquals(config.engine.maxStoredBytes, Infinity);
  });

  it("reads lists and switches", () => {
    const config = readConfig({
      ADMINS: " alice , Bob",
      ALLOWED_ORIGINS: "https://chat.example,http://localhost:3000",
      ADMIN_CODE: "open sesame",
      GUESTS: "off",
      REGISTRATION: "off",
      SIGN_IN_SECRET: "s".repeat(32),
      TRUST_PROXY: "1",
      REUSE_PORT: "1",
    });
    assertEquals(config.people.admins, ["alice", "Bob"]);
    assertEquals(config.people.adminCode, "open sesame");
    assertEquals(config.http.allowedOrigins, ["https://chat.example", "http://localhost:3000"]);
    assertEquals([config.people.guests, config.http.trustProxy], [false, true]);
    assertEquals([config.people.registration, config.people.signInSecret?.length], [false, 32]);
    assertEquals(config.listen.reusePort, true);
  });

  it("knows what the runtime exports, from the runtime's own variables", () => {
    const read = (env: Record<string, string>) => readConfig(env).metrics;
    const on = { hasPage: false, hasOtel: true };
    assertEquals(read({ OTEL_DENO: "true" }), { ...on, tracesUnasked: true });
    assertEquals(read({ OTEL_DENO: "TRUE", OTEL_DENO_TRACING: "false" }), {
      ...on,
      tracesUnasked: false,
    });
    assertEquals(read({ OTEL_DENO_METRICS: "true" }), { ...on, tracesUnasked: false });
    for (
      const env of [
        { OTEL_DENO: "true", OTEL_SDK_DISABLED: "true" },
        { OTEL_DENO: "true", OTEL_DENO_METRICS: "false", OTEL_DENO_TRACING: "true" },
        { OTEL_DENO: "1" },
      ]
    ) assertEquals(read(env), readConfig({}).metrics, JSON.stringify(env));
  });

  it("takes the ends of a range, and refuses what is beyond", () => {
    const ENDS: [name: string, least: number, most: number][] = [
      ["PORT", 0, 65535],
      ["HISTORY_SIZE", 0, 10000],
      ["PONG_WAIT_SECONDS", 0, 86400],
      ["MAX_ROOMS", 0, Number.MAX_SAFE_INTEGER],
    ];
    for (const [name, least, most] of ENDS) {
      for (const end of [least, most]) readConfig({ [name]: String(end) });
      const sentence = `${name} must be a whole number from ${least} to ${most}, not "${
        most + 1
      }".`;
      assertThrows(() => readConfig({ [name]: String(most + 1) }), ConfigError, sentence);
    }
    assertEquals(readConfig({ PORT: "65535" }).listen.port, 65535);
    assertEquals(readConfig({ PORT: "0" }).listen.port, 0);
    assertEquals(readConfig({ HISTORY_SIZE: "0" }).limits.historySize, 0);
    assertEquals(readConfig({ PONG_WAIT_SECONDS: "0" }).http.pongWaitSeconds, 0);
  });

  it("gives each setting to the part that takes it", () => {
    const config = readConfig({
      HOST: "::1",
      MAX_FRAME_BYTES: "1",
      SEND_QUEUE_FRAMES: "2",
      SEND_QUEUE_BYTES: "3",
      WRITE_WAIT_SECONDS: "4",
      MESSAGE_RATE: "5",
      MESSAGE_BURST: "6",
      MAX_CONNECTIONS: "7",
      MAX_CONNECTIONS_PER_ADDRESS: "8",
      MAX_CONNECTIONS_PER_ACCOUNT: "9",
      JOIN_RATE_PER_ADDRESS: "10",
      AUTH_RATE_PER_ADDRESS: "60",
      HISTORY_KEEP: "11",
      MAX_STORED_BYTES: "12",
      LOG_LEVEL: "warn",
      DATABASE_URL: "memory:",
    });
    const { limits, connections, rates } = config;
    assertEquals(config.listen.host, "::1");
    assertEquals(limits.maxFrameBytes, 1);
    assertEquals([limits.sendQueueFrames, limits.sendQueueBytes, limits.writeWaitMs], [2, 3, 4000]);
    assertEquals(limits.messageRate, { perSecond: 5, burst: 6 });
    assertEquals(connections, {
      maxConnections: 7,
      maxConnectionsPerAddress: 8,
      maxConnectionsPerAccount: 9,
    });
    assertEquals(rates.join, { perSecond: 10, burst: 50 });
    assertEquals(rates.auth, { perSecond: 1, burst: 60 });
    assertEquals(config.engine, { historyKeep: 11, maxStoredBytes: 12 });
    assertEquals(config.logLevel, "warn");
    assertEquals(config.database, { kind: "memory" });
  });

  it("takes every word for on and off", () => {
    for (const text of ["on", "1", "true"]) {
      assertEquals(readConfig({ TRUST_PROXY: text }).http.trustProxy, true, text);
    }
    for (const text of ["off", "0", "false"]) {
      assertEquals(readConfig({ GUESTS: text }).people.guests, false, text);
    }
  });

  it("reads the origins that may frame the page, as a policy can name them", () => {
    const { http } = readConfig({ EMBED_ORIGINS: "HTTPS://Site.example:443/, http://a_b:3000,*" });
    assertEquals(http.embedOrigins, ["https://site.example", "http://a_b:3000", "*"]);
    const bad = ["site.example", "https://site.example/x", "null", "file://", "http://[::1]"];
    for (const text of [...bad, "https://*.example", "'self'", "https://a;x", "https://a b"]) {
      assertThrows(() => readConfig({ EMBED_ORIGINS: text }), ConfigError, "EMBED_ORIGINS must be");
    }
  });

  it("reads the path of the site, with a slash at both ends", () => {
    const pathOf = (url: string) => readConfig({ PUBLIC_URL: url }).http.publicUrl!.path;
    assertEquals(pathOf("https://site.example"), "/");
    assertEquals(pathOf("https://site.example/"), "/");
    assertEquals(pathOf("https://site.example/chat"), "/chat/");
    assertEquals(pathOf("https://site.example/a.b/~c_d-e/"), "/a.b/~c_d-e/");
    assertEquals(pathOf("https://site.example/rooms/"), "/rooms/");
    for (const path of ["/a//b", "//", "/a b", "/caf%C3%A9", "/a!b", "/a;b", "/a/*"]) {
      const url = `https://site.example${path}`;
      assertThrows(() => readConfig({ PUBLIC_URL: url }), ConfigError, "PUBLIC_URL must");
    }
    for (const path of ["/r", "/r/", "/api/x", "/ws", "/page/", "/metrics", "/echo", "/a/r/b"]) {
      const url = `https://site.example${path}`;
      assertThrows(() => readConfig({ PUBLIC_URL: url }), ConfigError, "the server's own");
    }
  });

  it("lets * stand among the origins", () => {
    const { http } = readConfig({ ALLOWED_ORIGINS: "*,https://chat.example" });
    assertEquals(http.allowedOrigins, ["*", "https://chat.example"]);
  });

  it("keeps messages in memory on Deno Deploy, unless told otherwise", () => {
    assertEquals(readConfig({ DENO_DEPLOY: "1" }).database, { kind: "memory" });
    const { database } = readConfig({ DENO_DEPLOY: "1", DATABASE_URL: "sqlite:/data/chat.db" });
    assertEquals(database, { kind: "sqlite", path: "/data/chat.db" });
  });

  it("knows that other instances run on Deno Deploy, and on the same port", () => {
    assertEquals(readConfig({ DENO_DEPLOY: "1" }).hasSiblings, true);
    assertEquals(readConfig({ REUSE_PORT: "1" }).hasSiblings, true);
    assertEquals(readConfig({ REUSE_PORT: "0" }).hasSiblings, false);
  });

  const PATHS: [url: string, path: string][] = [
    ["sqlite:chat.db", "chat.db"],
    ["sqlite:./data/chat.db", "./data/chat.db"],
    ["sqlite:../chat.db", "../chat.db"],
    ["sqlite:/data/chat.db", "/data/chat.db"],
    ["sqlite:///data/chat.db", "/data/chat.db"],
    ["sqlite:////data/chat.db", "/data/chat.db"],
    ["sqlite:my chat #1, 100%.db", "my chat #1, 100%.db"],
    ["sqlite:C:\\data\\chat.db", "C:\\data\\chat.db"],
    ["sqlite:~chat.db", "~chat.db"],
  ];
  for (const [url, path] of PATHS) {
    it(`reads DATABASE_URL=${url} as the file ${path}`, () => {
      assertEquals(readConfig({ DATABASE_URL: url }).database, { kind: "sqlite", path });
    });
  }

  const URLS: [kind: "postgres" | "redis", url: string][] = [
    ["postgres", "postgres://localhost"],
    ["postgres", "postgres://"],
    ["postgres", "postgres:///chat"],
    ["postgres", "postgresql://alice:secret@db.example:5433/chat?sslmode=require"],
    ["postgres", "postgres://alice:p%40ss%2Fword%23%3F%25@[::1]:5432/my%20chat"],
    ["postgres", "postgres://%2Fvar%2Frun%2Fpostgresql/chat"],
    ["redis", "redis://localhost"],
    ["redis", "redis://"],
    ["redis", "redis://:secret@127.0.0.1:6380/"],
    ["redis", "redis://alice:p%40ss@cache.example:6379/15?family=6"],
    ["redis", "rediss://cache.example/0"],
  ];
  for (const [kind, url] of URLS) {
    it(`reads DATABASE_URL=${url} as the address of ${kind}`, () => {
      assertEquals(readConfig({ DATABASE_URL: url }).database, { kind, url });
    });
  }

  const BAD_URLS: [url: string, sentence: string][] = [
    ["postgres:hunter2", "must begin with memory:, sqlite:, postgres://,"],
    ["redis:hunter2", "must begin with"],
    ["POSTGRES://hunter2@host", "must begin with"],
    ["redis+sentinel://:hunter2@host", "must begin with"],
    ["host=db password=hunter2", "must begin with"],
    ["postgres", "must be an address with one host, such as postgres://user:password@host:5432/"],
    ["postgres://alice:hunter2@host:port/chat", "must be an address with one host"],
    ["postgres://alice:hunter2@host:65536/chat", "must be an address with one host"],
    ["postgres://alice:hunter2@one,two/chat", "must be an address with one host"],
    ["postgres://alice:hunter2@one:5432,two:5432/chat", "must be an address with one host"],
    ["postgres://alice:hunter2/@host/chat", "must be an address with one host"],
    ["redis://:hunter2@ho st", "must be an address with one host, such as redis://"],
    ["redis://:hunter2@host\n", "must be an address with one host"],
    ["redis://:hun\tter2@host", "must be an address with one host"],
    ["postgres://alice:1/hunter2@host/chat", "must have %23, %2F, %3F and %40 instead of"],
    ["postgres://alice:1?hunter2@host/chat", "must have %23,"],
    ["postgres://alice:1#hunter2@host/chat", "must have %23,"],
    ["redis://host/0#hunter2", "must have %23,"],
    ["redis://alice:1/hunter2@host", "must have %23,"],
    ["redis://host/0#", "must have %23,"],
    ["postgres://alice:hunter2%@host/chat", "must have %25 instead of %"],
    ["redis://:%ffhunter2@host", "must have %25"],
    ["postgres://host/chat/hunter2", "must have only the name of the database"],
    ["redis://:hunter2@host/chat", "must have only the number of the database"],
    ["redis://:hunter2@host/-1", "must have only the number"],
    ["redis://:hunter2@host/1.5", "must have only the number"],
    ["redis://:hunter2@host/0/1", "must have only the number"],
    ["rediss://:hunter2@host/9999999999", "must have only the number"],
  ];
  for (const [url, sentence] of BAD_URLS) {
    it(`refuses DATABASE_URL=${JSON.stringify(url)} and keeps the password to itself`, () => {
      const read = () => readConfig({ DATABASE_URL: url });
      const { message } = assertThrows(read, ConfigError, `DATABASE_URL ${sentence}`);
      assertEquals([message.match(/\.( |$)/g)?.length, message.includes("hunter")], [1, false]);
    });
  }

  const BAD_DATABASES: [url: string, sentence: string][] = [
    ["sqlite::memory:", "must be memory:, not sqlite::memory:."],
    ["sqlite::memory:?cache=shared", "must be memory:,"],
    ["sqlite:///:memory:", "must be memory:,"],
    ["sqlite:", "must name a file, such as sqlite:chat.db."],
    ["sqlite:/", "must name a file,"],
    ["sqlite:///", "must name a file,"],
    [
      "sqlite://",
      "must be sqlite:chat.db for a file beside where the server starts, or sqlite:///",
    ],
    ["sqlite://chat.db", "must be sqlite:chat.db for"],
    ["sqlite://localhost/chat.db", "must be sqlite:chat.db for"],
    ["sqlite:file:chat.db", "must be sqlite:chat.db, without file:"],
    ["sqlite:file:chat.db?mode=memory", "must be sqlite:chat.db, without file:"],
    ["sqlite:chat.db?mode=ro", "must end with the path: leave out the question mark"],
    ["sqlite:///data/chat.db?", "must end with the path:"],
    ["sqlite:my%20chat.db", "must hold the path as it is:"],
    ["sqlite:~/chat.db", "must hold the whole path:"],
    ["sqlite:~alice/chat.db", "must hold the whole path:"],
    ["sqlite: chat.db", "must not begin or end with a space"],
    ["sqlite:chat.db\r", "must not begin or end with a space"],
    ["sqlite:chat\0.db", "must not begin or end with a space, or hold a control character."],
    ["memory:chat", "must begin with memory:, sqlite:"],
    ["file:chat.db", "must begin with memory:, sqlite:"],
  ];
  for (const [url, sentence] of BAD_DATABASES) {
    it(`refuses DATABASE_URL=${JSON.stringify(url)} and says what to write`, () => {
      const read = () => readConfig({ DATABASE_URL: url });
      const { message } = assertThrows(read, ConfigError, `DATABASE_URL ${sentence}`);
      assertEquals(message.match(/\.( |$)/g)?.length, 1, message);
    });
  }

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
    ["DATABASE_URL", "chat.db", "DATABASE_URL must begin with memory:, sqlite:, postgres://,"],
    ["DATABASE_URL", "xsqlite:chat.db", "DATABASE_URL must begin with"],
    ["DATABASE_URL", "mysql://root:secret@host", "redis:// or rediss://."],
    ["GUESTS", "maybe", 'GUESTS must be one of on, off, 1, 0, true, false, not "maybe".'],
    ["TRUST_PROXY", "2", "TRUST_PROXY must be one of"],
    ["ADMIN_CODE", " padded", "ADMIN_CODE must have at most 256 characters, and no space around"],
    ["ADMIN_CODE", "x".repeat(257), "ADMIN_CODE must have at most 256 characters"],
    ["SIGN_IN_SECRET", "x".repeat(31), "SIGN_IN_SECRET must have 32 to 1024 characters"],
    ["SIGN_IN_SECRET", "x".repeat(1025), "Make one with: openssl rand -base64 48"],
    ["SIGN_IN_SECRET", `${"x".repeat(40)}\n`, "and no space around them"],
    ["REGISTRATION", "closed", "REGISTRATION must be one of on, off"],
    ["ADMINS", "alice,<b>", "ADMINS must be names, separated by commas. The username may only"],
    ["ALLOWED_ORIGINS", "chat.example", 'or *, not "chat.example".'],
    ["ALLOWED_ORIGINS", "https://chat.example/x", "ALLOWED_ORIGINS must be origins such as"],
    ["MESSAGE_RATE", "fast", "MESSAGE_RATE must be a whole number"],
    ["LOG_LEVEL", "loud", 'LOG_LEVEL must be one of info, warn, error, not "loud".'],
    ["LOG_LEVEL", "debug", "LOG_LEVEL must be one of info"],
    ["LOG_LEVEL", "toString", "LOG_LEVEL must be one of"],
  ];
  for (const [name, value, sentence] of BAD) {
    it(`refuses ${name}=${JSON.stringify(value)}`, () => {
      assertThrows(() => readConfig({ [name]: value }), ConfigError, sentence);
    });
  }
});

describe("findTypos", () => {
  const TYPOS: [kind: string, name: string, setting: string][] = [
    ["a letter is missing", "MAX_MESSAGE_BYTE", "MAX_MESSAGE_BYTES"],
    ["the first letter is missing", "UESTS", "GUESTS"],
    ["a letter is too many", "DATABASE_URLS", "DATABASE_URL"],
    ["a letter is doubled", "MAX_ROOOMS", "MAX_ROOMS"],
    ["a letter is wrong", "PUBLIC_URI", "PUBLIC_URL"],
    ["the first letter is wrong", "NAX_CONNECTIONS", "MAX_CONNECTIONS"],
    ["two letters changed places", "LOG_LEVLE", "LOG_LEVEL"],
    ["the first two letters changed places", "DAMINS", "ADMINS"],
    ["a line is missing", "TRUSTPROXY", "TRUST_PROXY"],
    ["the plural is missing", "ADMIN", "ADMINS"],
  ];
  for (const [kind, name, setting] of TYPOS) {
    it(`finds ${name}: ${kind}`, () => {
      const sentence = `${name} is not a setting. Did you mean ${setting}?`;
      assertEquals(findTypos({ [name]: "1" }), [sentence]);
    });
  }

  it("finds each of them", () => {
    assertEquals(findTypos({ GUEST: "off", PORT: "1", MAX_ROOM: "1" }).length, 2);
  });

  it("says nothing of settings, of short words, and of what is further away", () => {
    const names = [
      ...["PORT", "HOST", "GUESTS", "ADMIN_CODE", "OTEL_DENO", "DENO_DEPLOY"],
      ...["PORTS", "HOSTS", "POST", "PROT", "HOSTNAME", "HOSTTYPE"],
      ...["DENO_DIR", "DENO_DEPLOYMENT_ID", "DENO_USE_WRITEV", "OTEL_SERVICE_NAME", "NO_COLOR"],
      ...[
        "DATABASE",
        "MESSAGES",
        "MAX_ROOMS_PER_X",
        "PUBLIC",
        "LOGNAME",
        "LOG_LEVVELS",
        "max_rooms",
      ],
      ...["PATH", "HOME", "SHELL", "USER", "PWD", "LANG", "TERM", "EDITOR", "MAIL", "TZ", "CI"],
    ];
    assertEquals(findTypos(Object.fromEntries(names.map((name) => [name, "1"]))), []);
  });
});

describe("docs/configuration.md", () => {
  it("lists every variable with its default, and no other", async () => {
    const [text] = (await readPage("configuration.md")).split("## Other variables");
    const rows = [...text!.matchAll(/^\| `([A-Z_]+)` +\| (?:`(.*?)`|none) +\|/gm)];
    const defaults = Object.fromEntries(rows.map(([, name, value]) => [name, value]));
    assertEquals(readConfig(defaults), readConfig({}));
    const read = new Set<string>();
    const env = new Proxy<Record<string, string>>({}, {
      get: (_env, name) => void read.add(String(name)),
    });
    readConfig(env);
    // The platform sets this one.
    read.delete("DENO_DEPLOY");
    assertEquals(Object.keys(defaults).sort(), [...read].sort());
  });

  it("names every variable that something else reads, and no other", async () => {
    const [, section] = (await readPage("configuration.md")).split("## Other variables");
    const named = [...section!.matchAll(/^\| `([A-Z_]+)`/gm)].map(([, name]) => name!);
    const read = new Set(["DENO_DEPLOY"]);
    const folders = ["lib/", "public/"].map((folder) => filesIn(folder, ".ts", ".js"));
    for (const file of ["main.ts", "hub.ts", ...(await Promise.all(folders)).flat()]) {
      const text = await readFile(file);
      for (const [, name] of text.matchAll(/\benv\.get\("(\w+)"\)/g)) read.add(name!);
    }
    assertEquals(named.sort(), [...read].sort());
  });
});
