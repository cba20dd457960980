/**
 * One stream of Server-Sent Events (HTML, section 9.2), as a peer that the hub can send to.
 *
 * The runtime takes what waits here whenever the network has taken what it took before. So a reader
 * that does not read shows in `bufferedAmount`, as that of a WebSocket does.
 *
 * @module
 */

import type { Peer } from "../delivery/outbox.ts";
import { CLOSE } from "../protocol/codes.ts";

const encoder = new TextEncoder();

/** The text that was encoded last, and its bytes: the readers of a room receive the same text. */
let last = { text: "", bytes: new Uint8Array() };

function encode(text: string): Uint8Array<ArrayBuffer> {
  if (text !== last.text) last = { text, bytes: encoder.encode(text) };
  return last.bytes;
}

/** A stream of events to one reader. */
export class EventStream implements Peer {
  /** The body of the answer. */
  readonly body: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly #onEnd: () => void;
  #controller!: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>>;
  /** What waits for the reader. */
  #waiting: Uint8Array<ArrayBuffer>[] = [];
  #bytes = 0;
  /** Whether the runtime waits for the next bytes. */
  #isHungry = false;
  #state: "open" | "closing" | "ended" = "open";

  /**
   * @param onEnd hears once when the stream has ended: after {@linkcode EventStream.close} and all
   *   that waited, or because the reader went away
   */
  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
    this.body = new ReadableStream({
      start: (controller) => void (this.#controller = controller),
      pull: () => this.#pull(),
      cancel: () => this.#end(),
    }, { highWaterMark: 0 });
  }

  /** The bytes that wait for the reader. */
  get bufferedAmount(): number {
    return this.#bytes;
  }

  /** Sends the text of whole messages. After the end it does nothing. */
  send(text: string): void {
    if (this.#state === "open") this.#add(text);
  }

  /**
   * Tells the reader why the stream ends, and ends it. What a slow reader has not taken is dropped:
   * it can resume.
   */
  close(code: number, reason: string): void {
    if (this.#state !== "open") return;
    this.#state = "closing";
    if (code === CLOSE.tooSlow.code) this.#drop();
    this.#add(`event: close\ndata: ${JSON.stringify({ code, reason })}\n\n`);
  }

  #add(text: string): void {
    const bytes = encode(text);
    if (this.#isHungry) {
      this.#isHungry = false;
      return this.#controller.enqueue(bytes);
    }
    this.#waiting.push(bytes);
    this.#bytes += bytes.length;
  }

  #pull(): void {
    const [first] = this.#waiting;
    if (first !== undefined) {
      const bytes = this.#waiting.length === 1 ? first : join(this.#waiting, this.#bytes);
      this.#drop();
      this.#controller.enqueue(bytes);
    } else if (this.#state === "closing") {
      this.#controller.close();
      this.#end();
    } else this.#isHungry = true;
  }

  #drop(): void {
    this.#waiting = [];
    this.#bytes = 0;
  }

  #end(): void {
    if (this.#state === "ended") return;
    this.#state = "ended";
    this.#drop();
    this.#onEnd();
  }
}

function join(parts: readonly Uint8Array[], length: number): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
