/**
 * The client's side of RFC 6455, as far as the load needs it. Frames are written by hand, and read
 * in place, without copies and without strings.
 *
 * @module
 */

const encoder = new TextEncoder();

export const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** The request of the handshake. The key is the example of RFC 6455: the load checks no answer. */
export function handshake(port: number, path: string, subprotocol?: string): Uint8Array {
  const lines = [
    `GET ${path} HTTP/1.1`,
    `Host: 127.0.0.1:${port}`,
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
    ...(subprotocol === undefined ? [] : [`Sec-WebSocket-Protocol: ${subprotocol}`]),
  ];
  return encoder.encode(lines.join("\r\n") + "\r\n\r\n");
}

/**
 * A frame for the server. The mask key is zero, which RFC 6455 allows: the payload stays readable
 * and its digits can be changed in place.
 */
export function clientFrame(payload: Uint8Array | string, opcode: number = OPCODE.text) {
  const bytes = typeof payload === "string" ? encoder.encode(payload) : payload;
  if (bytes.length > 0xffff) throw new RangeError("A frame of the load has at most 65,535 bytes.");
  const head = bytes.length < 126
    ? [0x80 | opcode, 0x80 | bytes.length]
    : [0x80 | opcode, 0x80 | 126, bytes.length >> 8, bytes.length & 0xff];
  const frame = new Uint8Array(head.length + 4 + bytes.length);
  frame.set(head);
  frame.set(bytes, head.length + 4);
  return frame;
}

/** No frame has begun. */
const NONE = -1;

/** The first byte of a text frame that is a whole message. */
const SINGLE_TEXT = 0x80 | OPCODE.text;

/** Which part of a message a payload is. */
export interface Piece {
  /** Whether the message begins with it. */
  readonly isBegin: boolean;
  /** Whether the message ends with it. */
  readonly isEnd: boolean;
}

const WHOLE: Piece = { isBegin: true, isEnd: true };
const BEGIN: Piece = { isBegin: true, isEnd: false };
const MIDDLE: Piece = { isBegin: false, isEnd: false };
const END: Piece = { isBegin: false, isEnd: true };

/** Receives the frames of a {@linkcode FrameReader}. */
export interface FrameHandler {
  /**
   * The payload of a message, in `data` from `from` to `to`.
   *
   * @returns how many bytes are done with. The rest comes again, followed by the next bytes. Of the
   *   last piece, all bytes must be done with
   */
  onText(data: Uint8Array, from: number, to: number, piece: Piece): number;
  onPing(payload: Uint8Array): void;
  onClose(code: number): void;
}

/**
 * Reads frames from a byte stream that may be split anywhere. Holds back only a part of a head, an
 * incomplete control frame, and bytes that `onText` is not done with.
 */
export class FrameReader {
  /** Messages so far: a text or binary frame, with the fragments that continue it. */
  frames = 0;
  readonly #handler: FrameHandler;
  /** The opcode of the frame that has begun. */
  #opcode: number = NONE;
  /** Whether it is the last fragment of its message. */
  #isLast = true;
  /** Whether a part of the message has been handled. */
  #isUnderWay = false;
  /** Bytes of the frame that have not come yet. */
  #left = 0;
  /** Bytes of the last fragment that are not done with, in front of the next head. */
  #rest = 0;

  constructor(handler: FrameHandler) {
    this.#handler = handler;
  }

  /**
   * Reads `data` up to `to`. May move bytes in front of the unread ones.
   *
   * @returns the index from which bytes must be kept, and passed again in front of the next ones
   */
  read(data: Uint8Array, to: number): number {
    for (let at = 0;;) {
      if (this.#opcode === NONE) {
        if (this.#rest === 0 && !this.#isUnderWay) at = this.#readWhole(data, at, to);
        const head = this.#readHead(data, at + this.#rest, to);
        if (head === 0) return at;
        // Moves the bytes that are not done with in front of the next ones.
        if (this.#rest > 0) data.copyWithin(at + head, at, at + this.#rest);
        at += head;
        if (this.#opcode < OPCODE.close) {
          this.#left += this.#rest;
          this.#rest = 0;
        }
      }
      const end = at + this.#rest + this.#left;
      const isWhole = end <= to;
      if (this.#opcode >= OPCODE.close) {
        if (!isWhole) return at;
        this.#control(data.slice(at + this.#rest, end));
        data.copyWithin(end - this.#rest, at, at + this.#rest);
        at = end - this.#rest;
      } else {
        const stop = isWhole ? end : to;
        const done = this.#handler.onText(data, at, stop, this.#piece(isWhole));
        this.#left -= done;
        this.#isUnderWay = !(isWhole && this.#isLast);
        at += done;
        if (!isWhole) return at;
        this.#rest = stop - at;
      }
      this.#opcode = NONE;
    }
  }

  /** A fast path for whole messages of one frame. Returns where they end. */
  #readWhole(data: Uint8Array, at: number, to: number): number {
    while (to - at >= 4 && data[at] === SINGLE_TEXT) {
      let size = data[at + 1]!;
      let from = at + 2;
      if (size === 126) {
        size = data[at + 2]! << 8 | data[at + 3]!;
        from = at + 4;
      }
      const end = from + size;
      if (data[at + 1] === 127 || end > to) break;
      this.frames++;
      this.#handler.onText(data, from, end, WHOLE);
      at = end;
    }
    return at;
  }

  #piece(isWhole: boolean): Piece {
    if (isWhole && this.#isLast) return this.#isUnderWay ? END : WHOLE;
    return this.#isUnderWay ? MIDDLE : BEGIN;
  }

  /** Reads a head. Returns its length, or 0 if it is incomplete. */
  #readHead(data: Uint8Array, at: number, to: number): number {
    const have = to - at;
    if (have < 2) return 0;
    let length = 2;
    let size = data[at + 1]! & 127;
    if (size === 126) {
      if (have < 4) return 0;
      length = 4;
      size = data[at + 2]! << 8 | data[at + 3]!;
    } else if (size === 127) {
      if (have < 10) return 0;
      length = 10;
      size = 0;
      for (let i = at + 2; i < at + 10; i++) size = size * 256 + data[i]!;
    }
    this.#opcode = data[at]! & 15;
    this.#left = size;
    if (this.#opcode < OPCODE.close) {
      this.#isLast = data[at]! >= 128;
      if (this.#opcode !== OPCODE.continuation) this.frames++;
    }
    return length;
  }

  #control(payload: Uint8Array): void {
    if (this.#opcode === OPCODE.ping) this.#handler.onPing(payload);
    else if (this.#opcode === OPCODE.close) {
      this.#handler.onClose(payload.length < 2 ? 1005 : payload[0]! * 256 + payload[1]!);
    }
  }
}
