/**
 * No text costs more time than its length justifies: the worst texts go through every route, with
 * plain ones of the same size for comparison.
 */

import { assert, assertEquals } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { ServerProcess } from "../support/process.ts";
import { Random, seeds } from "../support/random.ts";
import { concat, frame, handshake, RawClient, type RawHeaders } from "../support/raw.ts";

/**
 * Maximum time of a text relative to plain text of the same size: quadratic work takes hundreds of
 * times as much.
 */
const MOST_TIMES = 10;

/** A time that is always acceptable, on a busy machine too, in milliseconds. */
const SLACK_MS = 15;

/** Measurements of each; the shortest counts. */
const TRIES = 5;

/** Maximum bytes of a frame, and frames sent at once. */
const MAX_FRAME_BYTES = 32768;
const FRAMES = 10;

/** Parts of texts that are known to cause more than linear work. */
const PARTS: Record<string, readonly string[]> = {
  // Marks of different classes, in the wrong order: normalizing sorts them.
  marks: ["\u0345", "\u0315", "\u0300", "\u0316", "\u0323", "\u0301"],
  "marks that decompose": ["\u0344", "\u0385", "\u1fc1", "\u0f73", "\u0f81"],
  "letters that decompose": ["\u1f82", "\u0390", "\ufdfa", "\uac01", "\u1e69"],
  "emoji, selectors and joiners": ["👩", "\u200d", "\ufe0f", "🏽", "\u20e3", "1", "\u{e0067}"],
  "spaces and line breaks": [" ", "\t", "\n", "\u2028", "\u00a0"],
  "signs of JSON": ['"ref"', ":", " ", '"', "\\", "[", "{", ","],
  "signs of addresses": ["/", "..", "%", "&", "=", "?", "#", ";", "+"],
  "signs of headers": [",", ";", "=", " ", '"', ":", "-", "0", "[", "]"],
  "half a pair": ["\ud83d", "\udc69", "\u0301"],
};

/** A text of about `size` bytes. */
function worst(random: Random, parts: readonly string[], size: number): string {
  // Half of them in long runs of one part, half mixed.
  const isMixed = random.percent(50);
  let text = "a";
  while (text.length * 2 < size) {
    const part = random.pick(parts);
    text += isMixed ? part : part.repeat(random.between(1, 2000));
  }
  while (byteLength(text) > size) text = text.slice(0, Math.floor(text.length * 0.9));
  return text;
}

const byteLength = (text: string) => new TextEncoder().encode(text).length;

/** A request with a text, and its connection. */
type Door = (text: string) => string;

const json = { "Content-Type": "application/json", "Upgrade": undefined, "Connection": undefined };

function post(method: string, path: string, body: unknown): string {
  const text = JSON.stringify(body);
  const headers = { ...json, "Content-Length": String(byteLength(text)) };
  return handshake(path, { method, headers, body: text });
}

/** Percent-encodes a text, which may contain lone surrogates. */
const encode = (text: string) => encodeURIComponent(text.toWellFormed());

/** A text in the form of a header value. */
const headed = (text: string) => text.replace(/[^\x20-\x7e]/g, (char) => encode(char).slice(0, 9));

const get = (path: string, headers: RawHeaders = {}) =>
  handshake(path, { headers: { "Upgrade": undefined, "Connection": undefined, ...headers } });

const inHeader = (name: string, path = "/ws/r?username=a"): Door => (text) =>
  get(path, { [name]: headed(text).slice(0, 50_000) });

/** Every part of a request that contains a text, and its maximum bytes. */
const DOORS: Record<string, [size: number, door: Door]> = {
  "a room's name, under the bound": [5000, (text) => get(`/ws/${encode(text)}?username=a`)],
  "a room's name, over the bound": [18_000, (text) => get(`/ws/${encode(text)}?username=a`)],
  "a username": [5000, (text) => get(`/ws/r?username=${encode(text)}`)],
  "a token": [5000, (text) => get(`/ws/r?username=a&token=${encode(text)}`)],
  "a session": [5000, (text) => get(`/ws/r?username=a&session=${encode(text)}`)],
  "an epoch": [5000, (text) => get(`/ws/r?username=a&epoch=${encode(text)}&after=1`, v1)],
  "a number": [5000, (text) => get(`/ws/r?username=a&epoch=e&after=${encode(text)}`, v1)],
  "a query": [15_000, (text) => get(`/ws/r?${headed(text).replaceAll(" ", "&")}&username=a`)],
  "a path": [5000, (text) => get(`/${encode(text)}`)],
  "a page's room": [5000, (text) => get(`/r/${encode(text)}`, { Accept: "text/html" })],
  "Cookie": [50_000, inHeader("Cookie")],
  "Cookie, for the API": [50_000, inHeader("Cookie", "/api/session")],
  "Origin": [50_000, inHeader("Origin")],
  "Origin, with a host": [50_000, (text) => get("/ws", { Origin: `http://${headed(text)}` })],
  "X-Forwarded-For": [50_000, inHeader("X-Forwarded-For")],
  "X-Forwarded-Proto": [50_000, inHeader("X-Forwarded-Proto", "/r/tea")],
  "Authorization": [50_000, (text) => get("/ws", { Authorization: `Bearer ${headed(text)}` })],
  "Sec-WebSocket-Protocol": [50_000, inHeader("Sec-WebSocket-Protocol")],
  "Sec-WebSocket-Key": [50_000, inHeader("Sec-WebSocket-Key")],
  "Upgrade": [50_000, inHeader("Upgrade")],
  "Accept": [50_000, inHeader("Accept", "/")],
  "If-None-Match": [50_000, inHeader("If-None-Match", "/style.css")],
  "Range": [50_000, inHeader("Range", "/style.css")],
  "Content-Type": [50_000, (text) => {
    const headers = { ...json, "Content-Type": headed(text), "Content-Length": "2" };
    return handshake("/api/login", { method: "POST", headers, body: "{}" });
  }],
  "a name to register": [
    60_000,
    (text) => post("POST", "/api/register", { username: text, password: "12345678" }),
  ],
  "a password to register": [
    60_000,
    (text) => post("POST", "/api/register", { username: "b", password: text }),
  ],
  "a room to change": [5000, (text) => post("PUT", `/api/rooms/${encode(text)}`, {})],
  "members": [30_000, (text) => post("PUT", "/api/rooms/r", { members: [text, text] })],
  "many members": [200, (text) => post("PUT", "/api/rooms/r", { members: Array(200).fill(text) })],
  "names to unban": [30_000, (text) => post("PUT", "/api/rooms/r", { unban: [text, text] })],
  "a body": [60_000, (text) => {
    const headers = { ...json, "Content-Length": String(byteLength(text)) };
    return handshake("/api/login", { method: "POST", headers, body: text.toWellFormed() });
  }],
};

const v1 = { "Sec-WebSocket-Protocol": "chat.v1" };

/** Every text field of a command. */
const FIELDS: Record<string, [size: number, command: (text: string) => unknown]> = {
  "content": [4000, (content) => ({ type: "chat", content })],
  "to": [30_000, (to) => ({ type: "dm", to, content: "x" })],
  "to, of the maximum length": [250, (to) => ({ type: "dm", to, content: "x" })],
  "ref": [30_000, (ref) => ({ type: "ping", ref })],
  "id": [30_000, (id) => ({ type: "delete", id })],
  "id, of the maximum length": [64, (id) => ({ type: "edit", id, content: "x" })],
  "username": [30_000, (username) => ({ type: "kick", username })],
  "reason": [30_000, (reason) => ({ type: "kick", username: "b", reason })],
  "members": [15_000, (text) => ({ type: "room", members: [text, text] })],
  "unban": [15_000, (text) => ({ type: "room", unban: [text, text] })],
  "before": [30_000, (before) => ({ type: "history", before })],
  "type": [30_000, (type) => ({ type })],
  "no field": [25_000, (text) => ({ [text]: text.slice(0, 1000), type: "ping" })],
};

let server: ServerProcess;
let limited: ServerProcess;

beforeAll(async () => {
  server = await ServerProcess.start({ env: { TRUST_PROXY: "1" } });
  limited = await ServerProcess.start({
    env: { MESSAGE_RATE: "1", MESSAGE_BURST: "1" },
  });
});

afterAll(async () => {
  for (const one of [server, limited]) {
    await one.stop();
    assertEquals(one.log.filter(({ level }) => level === "error"), []);
  }
});

async function shortest(act: () => Promise<void>): Promise<number> {
  let best = Infinity;
  for (let i = 0; i < TRIES; i++) {
    const start = performance.now();
    await act();
    best = Math.min(best, performance.now() - start);
  }
  return best;
}

async function compare(what: string, bad: () => Promise<void>, plain: () => Promise<void>) {
  // A busy machine gets a second try.
  for (let chance = 3;; chance--) {
    const [slow, usual] = [await shortest(bad), await shortest(plain)];
    if (slow <= usual * MOST_TIMES + SLACK_MS) return;
    const figures = `${slow.toFixed(1)} ms, plain text ${usual.toFixed(1)} ms`;
    assert(chance > 0, `${what}: ${figures}`);
  }
}

/** Sends a request, and reads its answer. */
async function request(text: string): Promise<void> {
  using client = await RawClient.connect(server.port);
  await client.write(text);
  const answer = await client.tryReadAnswer();
  assert(answer === undefined || answer.status < 500, `${answer?.status} ${answer?.body}`);
}

/** Sends frames, and waits until the server has worked through them. */
async function say(client: RawClient, data: Uint8Array): Promise<void> {
  await client.write(data);
  await client.write(frame('{"type":"ping","ref":"done"}'));
  while (true) {
    const next = await client.readFrame();
    assert(next !== undefined, "The connection was closed.");
    if (next.text.includes('"ref":"done"')) return;
  }
}

async function openRoom(port: number, room: string): Promise<RawClient> {
  const client = await RawClient.connect(port);
  await client.write(handshake(`/ws/${room}?username=a`, { headers: v1 }));
  assertEquals((await client.readAnswer()).status, 101);
  return client;
}

for (const seed of seeds(1)) {
  describe(`A text takes time in proportion to its length (SEED=${seed})`, () => {
    for (const [name, [size, door]] of Object.entries(DOORS)) {
      it(`as ${name}`, async () => {
        const random = new Random(seed);
        for (const [kind, parts] of Object.entries(PARTS)) {
          const bad = door(worst(random, parts, size));
          const plain = door("a".repeat(size));
          await compare(`${name}, ${kind}`, () => request(bad), () => request(plain));
        }
      });
    }

    for (const [name, [size, command]] of Object.entries(FIELDS)) {
      it(`as ${name} of a command`, async () => {
        const random = new Random(seed);
        using client = await openRoom(server.port, "tea");
        for (const [kind, parts] of Object.entries(PARTS)) {
          const toFrame = (text: string): Uint8Array => {
            const json = JSON.stringify(command(text));
            // Escapes may have made it too long for a frame.
            if (byteLength(json) > MAX_FRAME_BYTES) return toFrame(text.slice(0, -500));
            return concat(Array(FRAMES).fill(frame(json)));
          };
          const bad = toFrame(worst(random, parts, size));
          const plain = toFrame("a".repeat(size));
          await compare(`${name}, ${kind}`, () => say(client, bad), () => say(client, plain));
        }
      });
    }

    it("as a frame refused unread", async () => {
      const random = new Random(seed);
      for (const [kind, parts] of Object.entries(PARTS)) {
        using client = await openRoom(limited.port, "tea");
        // Uses up the only allowed frame.
        await client.write(frame('{"type":"ping","ref":"done"}'));
        const send = async (text: string) => {
          await client.write(frame(text.toWellFormed()));
          let next;
          while ((next = await client.readFrame())?.text.includes("rate_limited") === false);
          assert(next !== undefined, "The connection was closed.");
        };
        const [bad, plain] = [worst(random, parts, 2_000_000), "a".repeat(2_000_000)];
        await compare(kind, () => send(bad), () => send(plain));
      }
    });
  });
}
