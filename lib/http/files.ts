/**
 * The files of the page: read and compressed once, until they change on the disk.
 *
 * Each encoding of a file has a tag of its own, so that a browser asks for the file again only when
 * the file has changed, and a cache never takes one encoding for another.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import type { Context } from "hono";
import { parseAccept } from "hono/utils/accept";
import { COMPRESSIBLE_CONTENT_TYPE_REGEX } from "hono/utils/compress";
import { getMimeType } from "hono/utils/mime";
import type { Logger } from "../logger.ts";
import { type CompressionRequest, type Encoding, ENCODINGS } from "./compression_thread.ts";
import { Compressor } from "./compressor.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** A shorter file fits into one packet with its headers. */
const MIN_COMPRESSED_BYTES = 1024;

/** How an address that is relative to the site's root begins in HTML. */
const RELATIVE_ADDRESS = /(?<= (?:href|src)=")\.\//g;

/** The types of scripts and style sheets. */
const CODE_TYPE = /^text\/(javascript|css)\b/;

/** One version of a file. */
interface StoredFile {
  /** When it was changed, and its size. */
  readonly version: string;
  readonly content: Promise<{ readonly bytes: Bytes; readonly hash: string }>;
  /** The compressed file, in the encodings that were asked for; `undefined` if it is not shorter. */
  readonly encoded: Map<Encoding, Promise<Bytes | undefined>>;
}

/** The files of one folder, in memory once they were asked for. */
export class Files {
  readonly #compressor: Compressor;
  /** By real path and root: a file is here once, however its path is spelled. */
  readonly #files = new Map<string, StoredFile>();

  /** @param logger hears if files cannot be compressed */
  constructor(logger: Logger) {
    this.#compressor = new Compressor(logger);
  }

  /**
   * The body of the answer with a file, or `null` if there is no such file. Sets the headers that
   * depend on the encoding.
   *
   * @param root the relative address of the site's root, for HTML that stands further down
   */
  async answer(c: Context, path: string, root = "./"): Promise<Bytes | null> {
    const file = await this.#find(path, root);
    if (file === undefined) return null;
    const { bytes, hash } = await file.content;
    const type = getMimeType(path) ?? "";
    const isWorth = bytes.length >= MIN_COMPRESSED_BYTES &&
      COMPRESSIBLE_CONTENT_TYPE_REGEX.test(type);
    if (!isWorth) {
      c.header("etag", `"${hash}"`);
      return bytes;
    }
    c.header("vary", "accept-encoding", { append: true });
    const encoding = bestEncoding(c.req.header("accept-encoding") ?? "");
    const isCode = CODE_TYPE.test(type);
    const compressed = encoding && await this.#compress(file, { bytes, encoding, isCode });
    if (compressed === undefined) {
      c.header("etag", `"${hash}"`);
      return bytes;
    }
    c.header("etag", `"${hash}-${encoding}"`);
    c.header("content-encoding", encoding);
    return compressed;
  }

  async #find(path: string, root: string): Promise<StoredFile | undefined> {
    try {
      const real = await Deno.realPath(path);
      const { mtime, size, isFile } = await Deno.stat(real);
      if (!isFile) return undefined;
      const version = `${mtime?.getTime()} ${size}`;
      const key = `${root} ${real}`;
      let file = this.#files.get(key);
      if (file?.version !== version) {
        const content = read(real, root).catch((error) => {
          this.#files.delete(key);
          throw error;
        });
        file = { version, content, encoded: new Map() };
        this.#files.set(key, file);
      }
      await file.content;
      return file;
    } catch {
      return undefined;
    }
  }

  #compress(
    { encoded }: StoredFile,
    request: CompressionRequest,
  ): Promise<Bytes | undefined> {
    const { bytes, encoding } = request;
    let result = encoded.get(encoding);
    if (result === undefined) {
      result = this.#compressor.compress(request).then((compressed) =>
        compressed !== undefined && compressed.length < bytes.length ? compressed : undefined
      );
      encoded.set(encoding, result);
    }
    return result;
  }
}

async function read(path: string, root: string) {
  const original = await Deno.readFile(path);
  const bytes = root === "./" ? original : new TextEncoder().encode(
    new TextDecoder().decode(original).replace(RELATIVE_ADDRESS, root),
  );
  const digest = await crypto.subtle.digest("SHA-256", bytes);
  return { bytes, hash: Buffer.from(digest, 0, 16).toString("base64url") };
}

/** The first of our encodings that a client takes (RFC 9110, section 12.5.3). */
function bestEncoding(accepted: string): Encoding | undefined {
  const weights = new Map(parseAccept(accepted).map(({ type, q }) => [type.toLowerCase(), q]));
  return ENCODINGS.find((encoding) => (weights.get(encoding) ?? weights.get("*") ?? 0) > 0);
}
