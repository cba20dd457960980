/**
 * The thread that compresses files. A long file at the best quality takes a tenth of a second.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { parentPort } from "node:worker_threads";
import { brotliCompressSync, gzipSync } from "node:zlib";

/** The encodings that the server knows, by their names in HTTP; the smaller result first. */
export const ENCODINGS = ["br", "gzip"] as const;

/** The name of an encoding. */
export type Encoding = (typeof ENCODINGS)[number];

/** A request to the thread, which answers each in turn with the compressed bytes. */
export interface CompressionRequest {
  readonly bytes: Uint8Array;
  readonly encoding: Encoding;
  /** Whether the bytes are a script or a style sheet. */
  readonly isCode: boolean;
}

/** Comments that begin a line: a block up to its end, or the rest of the line. */
const COMMENTS = /^[ \t]*(?:\/\*(?:(?!\*\/)[\s\S])*\*\/|\/\/.*)/gm;

/** Compresses bytes as far as possible, and code without its comments. */
export function compress({ bytes, encoding, isCode }: CompressionRequest): Uint8Array<ArrayBuffer> {
  const content = isCode
    ? Buffer.from(withoutComments(Buffer.from(bytes).toString()))
    : Buffer.from(bytes);
  // Brotli's own default is its best quality.
  const compressed = encoding === "br"
    ? brotliCompressSync(content)
    : gzipSync(content, { level: 9 });
  return new Uint8Array(compressed);
}

/**
 * Removes the comments that begin a line: half of the bytes, which only readers of the source need.
 * Line breaks stay, so that errors name the right lines. A test checks that the page's own files
 * mean the same without comments.
 */
export function withoutComments(code: string): string {
  return code.replace(COMMENTS, (comment) => comment.replace(/[^\n]/g, ""));
}

// There is no port if the server's own thread imports this module.
parentPort?.on("message", (request) => parentPort!.postMessage(compress(request)));
