/**
 * The files of the page: read and compressed once, until they change on the disk. A server whose
 * modules came over HTTP fetches the files from the same place, where they never change.
 *
 * Each encoding of a file has its own tag, so that a browser downloads a file again only when it
 * has changed, and a cache never confuses two encodings.
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

/** The beginning of an address in HTML that is relative to the site's root. */
const RELATIVE_ADDRESS = /(?<= (?:href|src)=")\.\//g;

/** The types of scripts and style sheets. */
const CODE_TYPE = /^text\/(javascript|css)\b/;

/** Maximum rate of fetches. The page has about 50 files; any other path is missing. */
const FETCH_RATE = { perSecond: 10, burst: 200 };

/** Maximum time of a fetch, in milliseconds. */
const FETCH_MS = 10_000;

/** One version of a file. */
interface StoredFile {
  /** The time of its last change, and its size; empty for a file that never changes. */
  readonly version: string;
  readonly content: Promise<{ readonly bytes: Bytes; readonly hash: string }>;
  /** The compressed file in each requested encoding; `undefined` if it is not shorter. */
  readonly encoded: Map<Encoding, Promise<Bytes | undefined>>;
}

/** What {@linkcode Files} needs. */
export interface FilesOptions {
  /** The folder: a `file:`, `http:` or `https:` address that ends with a slash. */
  readonly root: URL;
  /** Logs files that cannot be read or compressed; throttled. */
  readonly logger: Logger;
  /** The time in milliseconds. */
  readonly clock: () => number;
}

/** The files of one folder, in memory after their first request. */
export class Files {
  readonly #root: URL;
  readonly #logger: Logger;
  readonly #clock: () => number;
  readonly #compressor: Compressor;
  /** By root, and real path or address: a file is stored once for all spellings of its path. */
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
   * @param path decoded, relative to the folder
   * @param root the relative address of the site's root, for HTML at a deeper path
   * @throws {ChatError} if the file must be fetched, and the fetch fails or exceeds the rate
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
    const url = new URL(`./${path.replace(/^\/+/, "")}`, this.#root);
    if (!url.href.startsWith(this.#root.href) || url.pathname.endsWith("/")) return undefined;
    const isOnDisk = url.protocol === "file:";
    return await (isOnDisk ? this.#findOnDisk(url, root) : this.#findOverHttp(url, root));
  }

  async #findOnDisk(url: URL, root: string): Promise<StoredFile | undefined> {
    try {
      const real = await Deno.realPath(url);
      const { mtime, size, isFile } = await Deno.stat(real);
      if (!isFile) return undefined;
      const version = `${mtime?.getTime()} ${size}`;
      const key = `${root} ${real}`;
      const stored = this.#files.get(key);
      const file = stored?.version === version
        ? stored
        : this.#keep(key, version, Deno.readFile(real).then((bytes) => setRoot(bytes, root)));
      await file.content;
      return file;
    } catch {
      return undefined;
    }
  }

  async #findOverHttp({ href }: URL, root: string): Promise<StoredFile | undefined> {
    const key = `${root} ${href}`;
    const file = this.#files.get(key) ??
      this.#keep(key, "", this.#fetch(href).then((bytes) => setRoot(bytes, root)));
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
    // Some hosts redirect if a file is missing or is a folder.
    const response = await fetch(href, { redirect: "manual", signal });
    if (response.status === 200) return await response.bytes();
    await response.body?.cancel();
    if (response.status < 500) throw new Deno.errors.NotFound();
    throw new Error(`The host of the file answers with status ${response.status}.`);
  }

  /** Stores a file that is being read. If reading fails, drops it. */
  #keep(key: string, version: string, reading: Promise<Bytes>): StoredFile {
    const content = addHash(reading).catch((error) => {
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

/** Makes the relative addresses in HTML begin at another root. */
function setRoot(bytes: Bytes, root: string): Bytes {
  if (root === "./") return bytes;
  const html = new TextDecoder().decode(bytes);
  return new TextEncoder().encode(html.replace(RELATIVE_ADDRESS, root));
}

async function addHash(reading: Promise<Bytes>) {
  const bytes = await reading;
  const digest = await crypto.subtle.digest("SHA-256", bytes);
  return { bytes, hash: Buffer.from(digest, 0, 16).toString("base64url") };
}

/** The first of our encodings that a client takes (RFC 9110, section 12.5.3). */
function bestEncoding(accepted: string): Encoding | undefined {
  const weights = new Map(parseAccept(accepted).map(({ type, q }) => [type.toLowerCase(), q]));
  return ENCODINGS.find((encoding) => (weights.get(encoding) ?? weights.get("*") ?? 0) > 0);
}
