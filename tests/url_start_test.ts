/** The server started from an address, on a machine that has no copy of it. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { gunzipSync } from "node:zlib";
import { type Machine, makeMachine } from "./support/machine.ts";
import { ServerProcess } from "./support/process.ts";
import { V1Client } from "./support/v1_client.ts";

const ROOT = new URL("../", import.meta.url);

/** Serves the files of this folder, as a plain file host. */
class FileHost implements AsyncDisposable {
  /** The requested paths, in order. */
  readonly asked: string[] = [];
  readonly #server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    (request) => this.#answer(new URL(request.url).pathname),
  );

  get url(): string {
    return `http://127.0.0.1:${this.#server.addr.port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }

  async #answer(path: string): Promise<Response> {
    this.asked.push(path);
    try {
      const { isDirectory } = await Deno.stat(new URL(`.${path}`, ROOT));
      if (isDirectory && !path.endsWith("/")) return Response.redirect(`${this.url}${path}/`);
      if (isDirectory) return new Response("<ul><li>a list of files</li></ul>");
      const body = await Deno.readFile(new URL(`.${path}`, ROOT));
      const headers = { "content-type": "text/plain; charset=utf-8", connection: "close" };
      return new Response(body, { headers });
    } catch {
      return new Response("not found", { status: 404, headers: { connection: "close" } });
    }
  }
}

function startFrom(
  host: FileHost,
  { path, cache }: Machine,
  env: Record<string, string>,
): Promise<ServerProcess> {
  return ServerProcess.start({
    permissions: ["-A", `--import-map=${host.url}/deno.json`],
    main: `${host.url}/main.ts`,
    lock: `${path}/deno.lock`,
    cwd: path,
    env: { DENO_DIR: cache, ...env },
  });
}

/** The modules and the style sheet that the page names. */
function filesOf(html: string): string[] {
  return [...html.matchAll(/ (?:href|src)="([^":]+\.(?:js|css|svg))"/g)].map(([, path]) => path!);
}

describe("A server started from an address", () => {
  for (const database of ["memory:", "sqlite:chat.db"]) {
    it(`serves the page and the rooms, with ${database}`, async () => {
      await using host = new FileHost();
      await using machine = await makeMachine();
      await using server = await startFrom(host, machine, { DATABASE_URL: database });
      const page = await fetch(server.url, { headers: { accept: "text/html" } });
      const html = await page.text();
      assertEquals([page.status, html.includes("<title>")], [200, true]);
      const files = filesOf(html);
      assert(files.length > 20, `The page names ${files.length} files.`);
      for (const path of files) {
        const response = await fetch(new URL(path, server.url));
        const wanted = await Deno.readTextFile(new URL(`public/${path}`, ROOT));
        assert(response.headers.has("etag"));
        const text = await response.text();
        // Compressed code has no comments.
        assertEquals(text.split("\n").length, wanted.split("\n").length, path);
      }
      await using alice = await V1Client.join(server.ws, "tea", "alice");
      await using bob = await V1Client.join(server.ws, "tea", "bob");
      const ack = await alice.ask({ type: "chat", content: "hello" });
      assertEquals(ack.type, "ack");
      assertEquals((await bob.nextOf("chat")).content, "hello");
      await alice.close();
      await bob.close();
      assertEquals((await server.stop()).code, 0);
      assertEquals(server.log.filter(({ level }) => level !== "info").map(({ msg }) => msg), [
        ...(database === "memory:"
          ? ["messages are kept in memory and are gone when the server ends"]
          : []),
      ]);
    });
  }

  it("fetches each file once, and serves no other file", async () => {
    await using host = new FileHost();
    await using machine = await makeMachine();
    await using server = await startFrom(host, machine, {});
    const ask = async (path: string, init: RequestInit = {}) => {
      const response = await fetch(`${server.url}${path}`, init);
      return { response, body: await response.bytes() };
    };
    host.asked.length = 0;
    const answers = await Promise.all([ask("/style.css"), ask("/style.css"), ask("/style.css")]);
    const { response } = answers[0]!;
    assertEquals(response.headers.get("content-type"), "text/css; charset=utf-8");
    const tag = response.headers.get("etag")!;
    const again = await ask("/style.css", { headers: { "if-none-match": tag } });
    assertEquals([again.response.status, again.body.length], [304, 0]);
    const head = await ask("/style.css", { method: "HEAD" });
    assertEquals([head.response.status, head.body.length], [200, 0]);
    assertEquals(host.asked, ["/public/style.css"]);

    const raw = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
    const request = "GET /style.css HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip\r\n" +
      "connection: close\r\n\r\n";
    await raw.write(new TextEncoder().encode(request));
    const bytes = await new Response(raw.readable).bytes();
    const text = new TextDecoder("latin1").decode(bytes);
    const body = bytes.subarray(text.indexOf("\r\n\r\n") + 4);
    assert(/^content-encoding: gzip\r$/m.test(text), text.slice(0, 500));
    assert(gunzipSync(body).toString().includes("{"));

    const others = ["/page", "/page/", "/nothing.js", "/../main.ts", "/%2e%2e/main.ts"];
    for (const path of [...others, "/..%2fmain.ts", "/page/..%5c..%5cmain.ts", "/main.ts"]) {
      assertEquals((await ask(path)).response.status, 404, path);
    }
    assertEquals(host.asked.filter((path) => !path.startsWith("/public/")), []);
  });

  it("does not forward a flood of unknown paths, and survives the loss of its address", async () => {
    const host = new FileHost();
    await using machine = await makeMachine();
    await using server = await startFrom(host, machine, {});
    host.asked.length = 0;
    const status = async (path: string) => {
      const response = await fetch(`${server.url}${path}`);
      await response.body?.cancel();
      return response.status;
    };
    assertEquals(await status("/style.css"), 200);
    const flood = Array.from({ length: 500 }, (_, i) => status(`/nothing-${i}.js`));
    const statuses = new Set(await Promise.all(flood));
    assertEquals([...statuses].sort(), [404, 429]);
    assert(host.asked.length < 400, `${host.asked.length} requests were passed on.`);
    assertEquals(await status("/style.css"), 200);
    await host[Symbol.asyncDispose]();
    let last = 429;
    // Until it retries its address, which is gone.
    while (last === 429) {
      last = await status("/chat.js");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const { msg } = await server.logLine(({ level }) => level === "error");
    assertEquals([last, msg], [503, "a file of the page cannot be read"]);
  });
});
