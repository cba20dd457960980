/**
 * The files of the page: read and compressed once, until they change on the disk. A server that runs
 * from an address reads them from beside its modules, where they never change.
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
import { ChatError, rateLimited } from "../errors.ts";
import { errorFields, type Logger } from "../logger.ts";
import { TokenBucket } from "../rate_limit.ts";
import { type CompressionRequest, type Encoding, ENCODINGS } from "./compression_thread.ts";
import { Compressor } from "./compressor.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** A shorter file fits into one packet with its headers. */
const MIN_COMPRESSED_BYTES = 1024;

/** How an address that is relative to the site's root begins in HTML. */
const RELATIVE_ADDRESS = /(?<= (?:href|src)=")\.\//g;

/** The types of scripts and style sheets. */
const CODE_TYPE = /^text\/(javascript|css)\b/;

/** How often an address is asked for a file, which may not be there. The page has some 50. */
const FETCH_RATE = { perSecond: 10, burst: 200 };

/** How long a file may take to come from an address, in milliseconds. */
const FETCH_MS = 10_000;

/** One version of a file. */
interface StoredFile {
  /** When it was changed, and its size; empty for one that never changes. */
  readonly version: string;
  readonly content: Promise<{ readonly bytes: Bytes; readonly hash: string }>;
  /** The compressed file, in the encodings that were asked for; `undefined` if it is not shorter. */
  readonly encoded: Map<Encoding, Promise<Bytes | undefined>>;
}

/** What {@linkcode Files} needs. */
export interface FilesOptions {
  /** The folder: a `file:`, `http:` or `https:` address that ends with a slash. */
  readonly root: URL;
  /** Hears if files cannot be read or compressed: a throttled logger. */
  readonly logger: Logger;
  /** The time in milliseconds. */
  readonly clock: () => number;
}

/** The files of one folder, in memory once they were asked for. */
export class Files {
  readonly #root: URL;
  readonly #logger: Logger;
  readonly #clock: () => number;
  readonly #compressor: Compressor;
  /** By real path or address, and base: a file is here once, however its path is spelled. */
  readonly #files = new Map<string, StoredFile>();
  readonly #fetches: TokenBucket;

  constructor({ root, logger, clock }: FilesOptions) {
    this.#root = root;
    this.#logger = logger;
    this.#clock = clock;
    this.#compressor = new Compressor(logger);
    this.#fetches = new TokenBucket(FETCH_RATE, clock());
  }

  /**
   * The body of the answer with a file, or `null` if there is no such file. Sets the headers that
   * depend on the encoding.
   *
   * @param path decoded, from the folder on
   * @param base the relative address of the site's root, for HTML that stands further down
   * @throws {ChatError} if the address that has the file does not answer, or is asked too often
   */
  async answer(c: Context, path: string, base = "./"): Promise<Bytes | null> {
    const file = await this.#find(path, base);
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

  async #find(path: string, base: string): Promise<StoredFile | undefined> {
    const url = new URL(`./${path.replace(/^\/+/, "")}`, this.#root);
    if (!url.href.startsWith(this.#root.href) || url.pathname.endsWith("/")) return undefined;
    return await (url.protocol === "file:"
      ? this.#findOnDisk(url, base)
      : this.#findAtAddress(url, base));
  }

  async #findOnDisk(url: URL, base: string): Promise<StoredFile | undefined> {
    try {
      const real = await Deno.realPath(url);
      const { mtime, size, isFile } = await Deno.stat(real);
      if (!isFile) return undefined;
      const version = `${mtime?.getTime()} ${size}`;
      const key = `${base} ${real}`;
      const stored = this.#files.get(key);
      const file = stored?.version === version
        ? stored
        : this.#keep(key, version, Deno.readFile(real), base);
      await file.content;
      return file;
    } catch {
      return undefined;
    }
  }

  async #findAtAddress({ href }: URL, base: string): Promise<StoredFile | undefined> {
    const key = `${base} ${href}`;
    const file = this.#files.get(key) ?? this.#keep(key, "", this.#fetch(href), base);
    try {
      await file.content;
      return file;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      if (error instanceof ChatError) throw error;
      this.#logger.error("a file of the page cannot be read", { href, ...errorFields(error) });
      throw new ChatError("unavailable", "The server cannot read its page now. Try again later.");
    }
  }

  async #fetch(href: string): Promise<Bytes> {
    const seconds = this.#fetches.take(this.#clock());
    if (seconds > 0) throw rateLimited("new addresses", seconds);
    const signal = AbortSignal.timeout(FETCH_MS);
    // Where a file is missing, or is a folder, some servers lead to another address.
    const response = await fetch(href, { redirect: "manual", signal });
    if (response.status === 200) return await response.bytes();
    await response.body?.cancel();
    if (response.status < 500) throw new Deno.errors.NotFound();
    throw new Error(`It is answered with ${response.status}.`);
  }

  /** Stores a file that is being read, until that fails. */
  #keep(key: string, version: string, reading: Promise<Bytes>, base: string): StoredFile {
    const content = read(reading, base).catch((error) => {
      this.#files.delete(key);
      throw error;
    });
    const file = { version, content, encoded: new Map() };
    this.#files.set(key, file);
    return file;
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

async function read(reading: Promise<Bytes>, base: string) {
  const original = await reading;
  const bytes = base === "./" ? original : new TextEncoder().encode(
    new TextDecoder().decode(original).replace(RELATIVE_ADDRESS, base),
  );
  const digest = await crypto.subtle.digest("SHA-256", bytes);
  return { bytes, hash: Buffer.from(digest, 0, 16).toString("base64url") };
}

/** The first of our encodings that a client takes (RFC 9110, section 12.5.3). */
function bestEncoding(accepted: string): Encoding | undefined {
  const weights = new Map(parseAccept(accepted).map(({ type, q }) => [type.toLowerCase(), q]));
  return ENCODINGS.find((encoding) => (weights.get(encoding) ?? weights.get("*") ?? 0) > 0);
}
