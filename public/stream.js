// @ts-check
/**
 * Replaces a WebSocket by plain HTTP, where WebSockets are blocked: Server-Sent Events bring the
 * events of the room, and each command is a POST.
 *
 * Reads the stream with `fetch`, which runs in a browser, in Deno and in Node 22, and shows the reason
 * of a refusal.
 *
 * @module
 */

/** @import { ErrorCode } from "../lib/errors.ts" */

/** @typedef {{ type: string, data: string }} ServerEvent */

/**
 * The network and the timers: tests replace them.
 *
 * @typedef {object} Surroundings
 * @property {(url: string, init: RequestInit) => Promise<Response>} fetch
 * @property {(task: () => void, delayMs: number) => unknown} setTimeout
 * @property {(timer: any) => void} clearTimeout
 */

/** The values of `readyState`, as a WebSocket has them. */
const CONNECTING = 0;
const OPEN = 1;
const CLOSING = 2;
const CLOSED = 3;

/** The close code of a connection that ended without a goodbye (RFC 6455, section 7.1.5). */
const LOST = 1006;
/** How long the stream may be silent. The server sends a comment every 15 s: two may be late. */
const SILENCE_MS = 40_000;
/** How long the server may take to answer a command. */
const ANSWER_MS = 10_000;

/**
 * The `code` of a refused command, by HTTP status. After any other status, the command may or may not
 * have run.
 *
 * @type {Record<number, ErrorCode>}
 */
const CODES = {
  400: "bad_request",
  401: "unauthenticated",
  403: "forbidden",
  404: "not_found",
  409: "conflict",
  413: "too_big",
  429: "rate_limited",
  503: "unavailable",
};

/**
 * Parses an event stream by the rules of the HTML standard (section 9.2.6). Reads `event` and `data`;
 * ignores `id` and `retry`, since the connection itself resumes and waits.
 */
export class EventParser {
  /** Drops a leading byte order mark, and joins a character cut in two. */
  #decoder = new TextDecoder();
  /** The start of an unfinished line. */
  #rest = "";
  /** Whether the last piece ended with CR: a following LF ends the same line. */
  #isAfterCr = false;
  #type = "";
  /** @type {string[]} */ #data = [];

  /**
   * Reads the next piece of the stream, which may be cut anywhere.
   *
   * @param {Uint8Array} bytes
   * @returns {ServerEvent[]} the events completed by it
   */
  push(bytes) {
    const piece = this.#decoder.decode(bytes, { stream: true });
    const text = this.#isAfterCr && piece.startsWith("\n") ? piece.slice(1) : piece;
    if (piece !== "") this.#isAfterCr = piece.endsWith("\r");
    const lines = text.split(/\r\n|\r|\n/);
    lines[0] = this.#rest + lines[0];
    this.#rest = lines.pop() ?? "";
    return lines.flatMap((line) => this.#take(line));
  }

  /** @param {string} line @returns {ServerEvent[]} */
  #take(line) {
    if (line === "") return this.#dispatch();
    const [, field, value = ""] = /** @type {string[]} */ (/^([^:]*)(?:: ?(.*))?$/s.exec(line));
    if (field === "event") this.#type = value;
    if (field === "data") this.#data.push(value);
    return [];
  }

  /** @returns {ServerEvent[]} */
  #dispatch() {
    const event = { type: this.#type || "message", data: this.#data.join("\n") };
    const isEmpty = this.#data.length === 0;
    this.#type = "";
    this.#data = [];
    return isEmpty ? [] : [event];
  }
}

/**
 * The part of a WebSocket's interface that a connection uses, over `GET …/events` and
 * `POST …/commands`.
 *
 * Closes with 1006 after 40 s without a byte, or when a command has no answer after 10 s. The sender
 * then repeats the command with its `ref` on the next connection, and the server performs it once.
 */
export class Stream {
  /** @type {0 | 1 | 2 | 3} */ readyState = CONNECTING;
  /** Called when the stream begins. @type {(() => void) | null} */ onopen = null;
  /**
   * Called with each frame: an event or an array of events, as JSON.
   *
   * @type {((event: { data: string }) => void) | null}
   */
  onmessage = null;
  /** Called before `onclose` if the stream ends without a close event. @type {((event: Event) => void) | null} */
  onerror = null;
  /** @type {((event: { code: number, reason: string, wasClean: boolean }) => void) | null} */
  onclose = null;
  /**
   * The answer that refused the stream, once the stream is closed.
   *
   * @type {Response | undefined}
   */
  refusal;

  /** @type {Surroundings} */ #around;
  /** @type {URL} */ #commands;
  #room = "";
  #abort = new AbortController();
  /** @type {unknown} */ #silence;
  #parser = new EventParser();
  /** Commands that wait for the answer to an earlier one. @type {string[]} */ #waiting = [];
  #isPosting = false;
  #end = { code: LOST, reason: "" };

  /**
   * Connects at once.
   *
   * @param {string} url `…/api/rooms/ROOM/events?…`; commands go to `commands` beside it
   * @param {Surroundings} around
   */
  constructor(url, around) {
    this.#around = around;
    this.#commands = new URL("commands", url);
    this.#commands.search = new URL(url).search;
    for (const name of ["epoch", "after", "inbox"]) this.#commands.searchParams.delete(name);
    this.#run(url);
  }

  /**
   * Sends a command once all earlier ones are answered. The answer arrives as a frame; a refusal, as
   * an `error` with the command's `ref`.
   *
   * @param {string} command JSON
   */
  send(command) {
    this.#waiting.push(command);
    if (!this.#isPosting) this.#postAll();
  }

  /**
   * Ends the stream, and drops the unanswered commands.
   *
   * @param {number} [code] the code for `onclose`
   * @param {string} [reason]
   */
  close(code = 1005, reason = "") {
    if (this.readyState >= CLOSING) return;
    this.readyState = CLOSING;
    this.#end = { code, reason };
    this.#abort.abort();
  }

  /** @param {string} url */
  async #run(url) {
    try {
      await this.#read(url);
    } catch {
      // The network failed, or `close()` was called.
    }
    this.close(LOST);
    this.#around.clearTimeout(this.#silence);
    this.readyState = CLOSED;
    const wasClean = this.#end.code !== LOST;
    if (!wasClean) this.onerror?.(new Event("error"));
    this.onclose?.({ ...this.#end, wasClean });
  }

  /** @param {string} url */
  async #read(url) {
    this.#hear();
    const response = await this.#fetch(url, { headers: { accept: "text/event-stream" } });
    const isStream = response.headers.get("content-type")?.startsWith("text/event-stream");
    if (!response.ok || !isStream) {
      this.refusal = new Response(await response.text(), response);
      return;
    }
    this.readyState = OPEN;
    this.onopen?.();
    // Not every browser iterates over a body.
    const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
    for (let it = await reader.read(); !it.done; it = await reader.read()) {
      this.#hear();
      this.#take(this.#parser.push(it.value));
    }
  }

  /** @param {string | URL} url @param {RequestInit} init */
  #fetch(url, init) {
    const { signal } = this.#abort;
    return this.#around.fetch(String(url), { cache: "no-store", signal, ...init });
  }

  /** Restarts the time that the stream may be silent. */
  #hear() {
    this.#around.clearTimeout(this.#silence);
    this.#silence = this.#around.setTimeout(() => this.close(LOST), SILENCE_MS);
  }

  /** Emits events that arrived together as one frame. @param {ServerEvent[]} events */
  #take(events) {
    const frames = events.filter(({ type }) => type === "message").map(({ data }) => data);
    if (this.#room === "") this.#greet(frames);
    if (frames.length > 0) this.#hand(frames.length === 1 ? frames.join() : `[${frames.join()}]`);
    const goodbye = events.find(({ type }) => type === "close");
    if (goodbye) this.#leave(goodbye.data);
  }

  /** @param {string} frame */
  #hand(frame) {
    if (this.readyState === OPEN) this.onmessage?.({ data: frame });
  }

  /**
   * Keeps the secret from the welcome: it identifies a guest without a cookie.
   *
   * @param {string[]} frames
   */
  #greet(frames) {
    const welcome = frames.map(parse).find((event) => event?.type === "welcome");
    if (!welcome) return;
    this.#room = welcome.room;
    if (welcome.session) this.#commands.searchParams.set("session", welcome.session);
  }

  /** @param {string} data */
  #leave(data) {
    const { code, reason } = parse(data) ?? {};
    this.close(Number(code) || LOST, String(reason ?? ""));
  }

  // ---- Commands ------------------------------------------------------------------------------

  async #postAll() {
    this.#isPosting = true;
    try {
      for (let next; (next = this.#waiting.shift()) !== undefined;) await this.#post(next);
    } catch {
      // The command may or may not have arrived.
      this.close(LOST);
    }
    this.#isPosting = false;
  }

  /** @param {string} command */
  async #post(command) {
    const timer = this.#around.setTimeout(() => this.close(LOST), ANSWER_MS);
    try {
      const headers = { "content-type": "application/json", accept: "application/json" };
      const init = { method: "POST", headers, body: command };
      const response = await this.#fetch(this.#commands, init);
      const text = await response.text();
      if (response.status === 204) return;
      this.#hand(response.ok ? text : this.#refusalOf(command, response, text));
    } finally {
      this.#around.clearTimeout(timer);
    }
  }

  /**
   * The `error` event for a refused command.
   *
   * @param {string} command
   * @param {Response} response
   * @param {string} text
   * @throws if the answer is not the server's
   */
  #refusalOf(command, { status, headers }, text) {
    const content = parse(text)?.error;
    const code = CODES[status];
    if (!code || typeof content !== "string") throw new Error(`Not an answer: ${status}`);
    const seconds = Number(headers.get("retry-after"));
    const { ref } = parse(command) ?? {};
    const event = { type: "error", content, room: this.#room, username: "", code };
    return JSON.stringify({ ...event, ...(seconds && { retry_after: seconds }), ref });
  }
}

/** @param {string} text @returns {any} `undefined` if it is not JSON */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
