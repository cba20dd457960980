/**
 * The thread that compresses files: a long file at the best quality takes a tenth of a second.
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
}

/** Compresses bytes as small as can be. */
export function compress({ bytes, encoding }: CompressionRequest): Uint8Array<ArrayBuffer> {
  // Brotli's own default is its best quality.
  const compressed = encoding === "br"
    ? brotliCompressSync(Buffer.from(bytes))
    : gzipSync(Buffer.from(bytes), { level: 9 });
  return new Uint8Array(compressed);
}

// Without a port, this is the thread of the server.
parentPort?.on("message", (request) => parentPort!.postMessage(compress(request)));
