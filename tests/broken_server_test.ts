/** Database servers that end a connection at any moment, or answer wrongly. */

import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { PostgresBackend } from "../lib/engine/postgres/postgres.ts";
import { RedisBackend } from "../lib/engine/redis/redis.ts";
import type { Backend } from "../lib/engine/remote/backend.ts";
import { BrokenServer, type Script } from "./support/broken_server.ts";

/** Maximum silence of a server before a test gives up, in milliseconds. */
const SILENCE_MS = 200;

/**
 * Connects, and returns the sentence of the refusal. Gives up on a server that is silent at the
 * end of its script.
 */
async function refusalOf(create: (port: number) => Backend, script: Script): Promise<string> {
  await using server = new BrokenServer(script);
  const stop = new AbortController();
  const told: unknown[] = [];
  const listener = {
    onNews: (news: unknown) => told.push(news),
    onProbe: (probe: unknown) => told.push(probe),
    onLost: (reason: unknown) => told.push(reason),
  };
  let timer: ReturnType<typeof setTimeout> | undefined;
  const connecting = assertRejects(
    () => create(server.port).connect(listener, stop.signal),
    Error,
  );
  server.done.then(() => timer = setTimeout(() => stop.abort(), SILENCE_MS));
  const { message } = await connecting;
  clearTimeout(timer);
  // Late errors of the drivers must not end the process.
  await new Promise((resolve) => setTimeout(resolve, 20));
  assertEquals(told, []);
  return message;
}

/** Tests each script: one connection must suffice for the refusal. */
function testScripts(
  create: (port: number) => Backend,
  scripts: readonly (readonly [name: string, sentence: string, script: Script])[],
): void {
  for (const [name, sentence, script] of scripts) {
    it(name, async () => {
      assertStringIncludes(await refusalOf(create, script), sentence);
    });
  }
}

/** A message of PostgreSQL. */
function message(type: string, ...parts: readonly (string | number)[]): Uint8Array {
  const bytes = parts.flatMap((part) =>
    typeof part === "string"
      ? [...new TextEncoder().encode(part)]
      : [part >>> 24, part >>> 16 & 255, part >>> 8 & 255, part & 255]
  );
  const length = bytes.length + 4;
  return new Uint8Array([type.charCodeAt(0), 0, 0, length >> 8, length & 255, ...bytes]);
}

function join(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(parts.flatMap((part) => [...part]));
}

const SASL = message("R", 10, "SCRAM-SHA-256\0\0");
const SASL_ON = message("R", 11, "r=nonce,s=c2FsdA==,i=4096");
const READY = join(message("R", 0), message("Z", "I"));
const HALF_ROW = message("D", 1, 1, "[false").subarray(0, 12);
const HTTP = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";

/** A first TLS record, and bytes that are none. */
const NO_HANDSHAKE = new Uint8Array(64).fill(7);

/** Deno 2.5 gives no reason when a socket that turned to TLS ends. */
const noTls = Deno.version.deno.startsWith("2.5.")
  ? "closes the connection"
  : "no TLS that sslmode accepts";

describe("A connection to PostgreSQL is refused in one sentence when the server", () => {
  const create = (port: number) =>
    new PostgresBackend({ url: `postgres://u:secret@127.0.0.1:${port}/d`, keep: 1 });
  const closes = "closes the connection. See its log.";
  const silent = "does not answer";
  const foreign = "is not PostgreSQL";
  testScripts(create, [
    ["closes it at once", closes, { replies: [], then: "cut" }],
    ["closes it when it has heard something", closes, { replies: [], then: "close" }],
    ["says nothing", silent, { replies: [], then: "stay" }],
    ["closes it after the question for TLS", closes, { replies: ["N"], then: "close" }],
    ["says nothing after the question for TLS", silent, { replies: ["N"], then: "stay" }],
    ["closes it after it asked for a password", closes, { replies: ["N", SASL], then: "close" }],
    ["says nothing to a password", silent, { replies: ["N", SASL], then: "stay" }],
    ["closes it in the middle of signing in", closes, {
      replies: ["N", SASL, SASL_ON],
      then: "close",
    }],
    ["closes it after the first statement", closes, { replies: ["N", READY], then: "close" }],
    ["says nothing to the first statement", silent, { replies: ["N", READY], then: "stay" }],
    ["closes it in the middle of an answer", closes, {
      replies: ["N", READY, HALF_ROW],
      then: "cut",
    }],
    ["stops in the middle of an answer", silent, { replies: ["N", READY, HALF_ROW], then: "stay" }],
    ["speaks HTTP", foreign, { replies: [HTTP], then: "stay" }],
    ["speaks HTTP later", foreign, { replies: ["N", HTTP], then: "stay" }],
    ["asks for an unknown kind of sign-in", foreign, {
      replies: ["N", SASL, message("R", 11, "rubbish")],
      then: "stay",
    }],
    ["asks for half a password", foreign, { replies: ["N", message("R")], then: "stay" }],
    ["asks for a sign-in that the driver lacks", "Allow scram-sha-256", {
      replies: ["N", message("R", 7)],
      then: "stay",
    }],
    ["says it has TLS, and closes", noTls, {
      replies: ["S"],
      then: "close",
    }],
    ["says it has TLS, and is silent", silent, { replies: ["S"], then: "stay" }],
    ["says it has TLS, and has none", noTls, {
      replies: ["S", NO_HANDSHAKE],
      then: "stay",
    }],
  ]);

  it("lacks the required TLS", async () => {
    const strict = (port: number) =>
      new PostgresBackend({
        url: `postgres://u:secret@127.0.0.1:${port}/d?sslmode=require`,
        keep: 1,
      });
    for (const then of ["close", "stay"] as const) {
      assertStringIncludes(await refusalOf(strict, { replies: ["N"], then }), "offers no TLS");
    }
    const wrong = await refusalOf(strict, { replies: ["S", NO_HANDSHAKE], then: "stay" });
    assertStringIncludes(wrong, noTls);
  });
});

describe("A connection to Redis is refused in one sentence when the server", () => {
  const create = (port: number) =>
    new RedisBackend({ url: `redis://:secret@127.0.0.1:${port}`, keep: 1 });
  const closes = "closes the connection";
  const silent = "does not answer";
  const half = "$100\r\n# Server\r\nredis_version:7.0.0";
  testScripts(create, [
    ["closes it at once", closes, { replies: [], then: "cut" }],
    ["closes it when it has heard something", closes, { replies: [], then: "close" }],
    ["says nothing", silent, { replies: [], then: "stay" }],
    ["closes it after the password", closes, { replies: ["+OK\r\n"], then: "close" }],
    ["says nothing after the password", silent, { replies: ["+OK\r\n"], then: "stay" }],
    ["closes it in the middle of an answer", closes, { replies: ["+OK\r\n", half], then: "cut" }],
    ["stops in the middle of an answer", silent, { replies: ["+OK\r\n", half], then: "stay" }],
    ["speaks HTTP", "is not Redis", { replies: [HTTP], then: "stay" }],
    ["answers with bytes that are no reply", "is not Redis", {
      replies: ["\u0001\u0002\r\n"],
      then: "stay",
    }],
    ["answers with the wrong reply", "is not Redis", {
      replies: ["+OK\r\n", ":1\r\n"],
      then: "stay",
    }],
  ]);

  describe("has no TLS, and", () => {
    const secure = (port: number) =>
      new RedisBackend({ url: `rediss://:secret@127.0.0.1:${port}`, keep: 1 });
    testScripts(secure, [
      ["closes it at once", "without TLS", { replies: [], then: "cut" }],
      ["says nothing", silent, { replies: [], then: "stay" }],
      ["closes it in the handshake", "TLS", { replies: [NO_HANDSHAKE], then: "cut" }],
      ["answers as a plain Redis does", "TLS", { replies: ["-ERR Protocol\r\n"], then: "stay" }],
    ]);
  });
});
