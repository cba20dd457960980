/** A package registry like JSR, on the loopback address. */

import { gunzipSync } from "node:zlib";

type Bytes = Uint8Array<ArrayBuffer>;

const decoder = new TextDecoder();

/** A registry with one version of one package. */
export class Registry implements AsyncDisposable {
  #files = new Map<string, Bytes>();
  readonly #scope: string;
  readonly #name: string;
  readonly #version: string;
  readonly #exports: Record<string, string>;
  readonly #server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    (request) => this.#answer(request),
  );

  /** @param settings those of deno.json */
  constructor(settings: { name: string; version: string; exports: Record<string, string> }) {
    [this.#scope, this.#name] = settings.name.slice(1).split("/") as [string, string];
    this.#version = settings.version;
    this.#exports = settings.exports;
  }

  /** For `JSR_URL`. */
  get url(): string {
    return `http://127.0.0.1:${this.#server.addr.port}/`;
  }

  /** The published files, as prepared by the client. */
  get files(): ReadonlyMap<string, Bytes> {
    return this.#files;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }

  async #answer(request: Request): Promise<Response> {
    const { pathname } = new URL(request.url);
    return pathname.startsWith("/api/")
      ? await this.#publish(request, pathname)
      : await this.#load(pathname);
  }

  /** The requests of `deno publish`: whether the version and the package exist; then the files. */
  async #publish(request: Request, path: string): Promise<Response> {
    if (request.method === "POST") {
      this.#files = untar(new Uint8Array(gunzipSync(await request.bytes())));
      return Response.json({ id: crypto.randomUUID(), status: "success", error: null });
    }
    if (path.endsWith(`/packages/${this.#name}`)) {
      return Response.json({ scope: this.#scope, name: this.#name });
    }
    return Response.json({ code: "notFound", message: "There is none." }, { status: 404 });
  }

  async #load(path: string): Promise<Response> {
    const base = `/@${this.#scope}/${this.#name}`;
    const headers = { connection: "close" };
    if (path === `${base}/meta.json`) {
      const versions = { [this.#version]: {} };
      const about = { scope: this.#scope, name: this.#name, latest: this.#version, versions };
      return Response.json(about, { headers });
    }
    if (path === `${base}/${this.#version}_meta.json`) {
      const about = { manifest: await this.#manifest(), exports: this.#exports };
      return Response.json(about, { headers });
    }
    const file = this.#files.get(path.slice(`${base}/${this.#version}`.length));
    if (file === undefined) return new Response("not found", { status: 404, headers });
    const type = path.endsWith(".ts") ? "text/typescript" : "text/javascript";
    return new Response(file, { headers: { ...headers, "content-type": type } });
  }

  async #manifest(): Promise<Record<string, { size: number; checksum: string }>> {
    const manifest: Record<string, { size: number; checksum: string }> = {};
    for (const [path, bytes] of this.#files) {
      const digest = await crypto.subtle.digest("SHA-256", bytes);
      const hex = [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0"));
      manifest[path] = { size: bytes.length, checksum: `sha256-${hex.join("")}` };
    }
    return manifest;
  }
}

/** The files of an archive (POSIX.1-1988, ustar): a head of 512 bytes, then the file. */
function untar(archive: Bytes): Map<string, Bytes> {
  const files = new Map<string, Bytes>();
  for (let at = 0; archive[at];) {
    const field = (from: number, length: number) =>
      decoder.decode(archive.subarray(at + from, at + from + length)).split("\0")[0]!;
    const size = parseInt(field(124, 12), 8);
    const folder = field(345, 155);
    const path = [...(folder === "" ? [] : [folder]), field(0, 100)].join("/");
    files.set(path.replace(/^(\.?\/)?/, "/"), archive.slice(at + 512, at + 512 + size));
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return files;
}
