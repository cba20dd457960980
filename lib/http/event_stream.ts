/**
 * One stream of Server-Sent Events (HTML, section 9.2), as a peer that the hub can send to.
 *
 * The runtime pulls the next bytes once the network has accepted the last ones. A reader that does
 * not read therefore shows in `bufferedAmount`, as with a WebSocket.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import type { Peer } from "../delivery/outbox.ts";
import { CLOSE } from "../protocol/codes.ts";

const encoder = new TextEncoder();

/** The last encoded text and its bytes: all readers of a room receive the same text. */
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
  /** The bytes that the runtime has not pulled yet. */
  #waiting: Uint8Array<ArrayBuffer>[] = [];
  #bytes = 0;
  /** Whether the runtime has pulled, and still waits for bytes. */
  #isPulling = false;
  #state: "open" | "closing" | "ended" = "open";

  /**
   * @param onEnd called once, at the end of the stream: when the runtime has pulled everything after
   *   {@linkcode EventStream.close}, or when the reader goes away
   */
  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
    this.body = new ReadableStream({
      start: (controller) => void (this.#controller = controller),
      pull: () => this.#pull(),
      cancel: () => this.#end(),
    }, { highWaterMark: 0 });
  }

  /** How many bytes the runtime has not pulled yet. */
  get bufferedAmount(): number {
    return this.#bytes;
  }

  /** Sends the text of whole messages. After a close it does nothing. */
  send(text: string): void {
    if (this.#state === "open") this.#add(text);
  }

  /**
   * Sends the reason as an event `close`, and ends the stream. If the reader is too slow, drops
   * what it has not received: it can resume.
   */
  close(code: number, reason: string): void {
    if (this.#state !== "open") return;
    this.#state = "closing";
    if (code === CLOSE.tooSlow.code) this.#drop();
    this.#add(`event: close\ndata: ${JSON.stringify({ code, reason })}\n\n`);
  }

  #add(text: string): void {
    const bytes = encode(text);
    if (this.#isPulling) {
      this.#isPulling = false;
      return this.#controller.enqueue(bytes);
    }
    this.#waiting.push(bytes);
    this.#bytes += bytes.length;
  }

  #pull(): void {
    const [first] = this.#waiting;
    if (first !== undefined) {
      const bytes = this.#waiting.length === 1 ? first : Buffer.concat(this.#waiting);
      this.#drop();
      this.#controller.enqueue(bytes);
    } else if (this.#state === "closing") {
      this.#controller.close();
      this.#end();
    } else this.#isPulling = true;
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
