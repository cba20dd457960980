/** The nginx settings of docs/security.md and docs/deploy.md, in a real nginx before real servers. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { Client } from "./support/client.ts";
import { makeFolder } from "./support/folder.ts";
import { call, knock, login, register, Visitor } from "./support/people.ts";
import { askRaw, frame, handshake, OPCODE, RawClient } from "./support/raw.ts";
import { startServer, type TestServer } from "./support/server.ts";
import { V1Client } from "./support/v1_client.ts";

/** What a person should read when there is no nginx. */
const NO_NGINX = "Skipped: nginx is not installed. Install it with: apt-get install -y nginx-light";
const PLACES = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/bin/nginx"];

/** From where the server sees the proxy come. */
const PROXY_ADDRESS = "127.0.0.7";

/** How long something that must happen may take before the test fails, in milliseconds. */
const PATIENCE_MS = 20_000;

const nginx = PLACES.find((path) => {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
});
const describeProxy = nginx ? describe : describe.skip;
if (!nginx) {
  // deno-lint-ignore no-console
  console.log(NO_NGINX);
  if (Deno.env.get("REQUIRE_ALL") === "1") {
    it("proxy tests have an nginx", () => {
      throw new Error(NO_NGINX);
    });
  }
}

/** A port that was free a moment ago. */
function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** The nginx settings in a page of the documentation, block by block. */
async function readBlocks(page: string): Promise<string[]> {
  const doc = await Deno.readTextFile(new URL(`../docs/${page}`, import.meta.url));
  return [...doc.matchAll(/```nginx\n([^]*?)```/g)].map(([, block]) => block!);
}

/** The settings in the documentation, with these places and times in the place of those there. */
async function readSettings(changes: readonly [there: string, here: string][]): Promise<string> {
  let [settings] = await readBlocks("security.md") as [string];
  for (const [there, here] of changes) {
    assert(settings.includes(there), `docs/security.md has no "${there}".`);
    settings = settings.replaceAll(there, here);
  }
  return settings;
}

/** Starts nginx in the foreground, and waits until it answers. */
async function startNginx(folder: string, settings: string, port: number) {
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((kind) => `${kind}_temp_path ${folder}/${kind};`);
  await Deno.writeTextFile(
    `${folder}/nginx.conf`,
    `daemon off;
    worker_processes 1;
    pid ${folder}/nginx.pid;
    error_log stderr;
    events { worker_connections 256; }
    http { proxy_bind ${PROXY_ADDRESS}; ${temporary.join(" ")} ${settings} }`,
  );
  const child = new Deno.Command(nginx!, {
    args: ["-p", folder, "-c", `${folder}/nginx.conf`, "-e", "stderr"],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const stderr = new Response(child.stderr).text();
  const end = performance.now() + PATIENCE_MS;
  let status: Deno.CommandStatus | undefined;
  child.status.then((ended) => status = ended);
  while (true) {
    try {
      using _conn = await Deno.connect({ hostname: "127.0.0.1", port });
      break;
    } catch (error) {
      if (status !== undefined) throw new Error(await stderr);
      if (performance.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
  return async () => {
    child.kill("SIGTERM");
    await child.status;
    await stderr;
  };
}

describeProxy("docs/security.md: nginx before the server", () => {
  let folder: string;
  let server: TestServer;
  let stop: () => Promise<void>;
  let proxy: { url: string; ws: string; port: number };

  beforeAll(async () => {
    folder = await Deno.makeTempDir();
    server = await startServer({ TRUST_PROXY: "1", ADMINS: "root", METRICS: "on" });
    const port = freePort();
    proxy = { port, url: `http://127.0.0.1:${port}`, ws: `ws://127.0.0.1:${port}` };
    const settings = await readSettings([
      // On the loopback address alone.
      ["listen 80;", `listen 127.0.0.1:${port};`],
      ["listen [::]:80;", ""],
      ["127.0.0.1:8080", `127.0.0.1:${server.port}`],
      ["/var/log/nginx", folder],
      // The same things, sooner.
      ["client_header_timeout 10s", "client_header_timeout 1s"],
      ["client_body_timeout 10s", "client_body_timeout 1s"],
      ["proxy_read_timeout 75s", "proxy_read_timeout 3s"],
    ]);
    stop = await startNginx(folder, settings, port);
  });
  afterAll(async () => {
    await stop();
    await server.stop();
    await Deno.remove(folder, { recursive: true });
    assertEquals(server.log.filter(({ level }) => level === "error"), []);
  });

  it("keeps the metrics inside, however their address is written", async () => {
    for (const path of ["/metrics", "/%6detrics", "//metrics", "/./metrics", "/metrics?x"]) {
      const answer = await askRaw(proxy.port, path);
      assertEquals(answer.status, 404, path);
    }
    assertEquals((await fetch(`${server.url}/metrics`)).status, 200);
  });

  it("serves the page, and the chat for plain clients and for chat.v1", async () => {
    const page = await call(proxy, "GET", "/", { headers: { accept: "text/html" } });
    assertStringIncludes(page.body, "<!DOCTYPE html>");
    await using alice = await V1Client.join(proxy.ws, "r", "alice");
    await using bob = await Client.join(proxy.ws, "r", "bob");
    alice.send({ type: "chat", content: "through the proxy" });
    await bob.nextFrame(({ content }) => content === "through the proxy");
    bob.send("and back");
    await alice.nextOf("chat", ({ content }) => content === "and back");
    await bob.close(1000);
    await alice.nextOf("user_left");
  });

  it("says why somebody is refused, in the server's own words", async () => {
    const { status, error } = await knock(proxy, "/ws/r?username=a,b");
    assertEquals([status, error.startsWith("The username may only have")], [400, true]);
    assertEquals((await call(proxy, "GET", "/ws/r?username=carl")).status, 426);
  });

  it("lets the server see the real address, whatever the client claims", async () => {
    // Three addresses, all different: the client's claim, its own, and the proxy's towards the server.
    using client = await RawClient.connect(proxy.port);
    const headers = { "X-Forwarded-For": "1.2.3.4" };
    const joined = server.log.filter(({ msg }) => msg === "joined").length;
    await client.write(handshake("/ws/far?username=dora", { headers }));
    assertEquals((await client.readAnswer()).status, 101);
    await server.logged("joined", joined + 1);
    const { username, address } = server.log.findLast(({ msg }) => msg === "joined")!;
    assertEquals([username, address], ["dora", "127.0.0.1"]);
  });

  it("knows the site's own pages from foreign ones", async () => {
    const headers = { Host: `127.0.0.1:${proxy.port}` };
    const own = { ...headers, Origin: proxy.url };
    assertEquals((await knock(proxy, "/ws/r?username=erin", own)).status, 101);
    const foreign = { ...headers, Origin: "https://evil.example" };
    assertEquals((await knock(proxy, "/ws/r?username=erin", foreign)).status, 403);
  });

  it("believes nobody else that a connection is encrypted", async () => {
    assertEquals((await register(proxy, "frank")).status, 201);
    const https = { headers: { "x-forwarded-proto": "https" } };
    const { headers } = await login(proxy, "frank", undefined, https);
    assert(!headers.get("set-cookie")!.includes("Secure"));
  });

  it("cuts off headers and bodies that come too slowly, and the server never hears of them", async () => {
    const before = server.log.length;
    using slowHeaders = await RawClient.connect(proxy.port);
    await slowHeaders.write("GET /health HTTP/1.1\r\nHost: a\r\n");
    using slowBody = await RawClient.connect(proxy.port);
    const headers = {
      "Upgrade": undefined,
      "Connection": undefined,
      "Content-Type": "application/json",
      "Content-Length": "100",
    };
    await slowBody.write(handshake("/api/login", { method: "POST", headers, body: "{" }));
    for (const client of [slowHeaders, slowBody]) {
      const answer = await client.tryReadAnswer();
      assert(answer === undefined || answer.status === 408, `${answer?.status}`);
    }
    assertEquals(server.log.length, before);
  });

  it("refuses a body that is too big by its length alone", async () => {
    using client = await RawClient.connect(proxy.port);
    const headers = {
      "Upgrade": undefined,
      "Connection": undefined,
      "Content-Length": "100000",
    };
    await client.write(handshake("/api/login", { method: "POST", headers }));
    assertEquals((await client.readAnswer()).status, 413);
  });

  it("ends the connection of a closed peer that does not answer the close", async () => {
    using silent = await Visitor.open(proxy, "/ws/r?username=gina");
    await silent.client.write(frame("bytes", { opcode: OPCODE.binary }));
    assertEquals(await silent.closeCode(), 1003);
    // Nothing more is sent. The test fails if it does not end by itself.
    assertEquals(await silent.client.readFrames(), []);
  });

  it("keeps tokens out of its log", async () => {
    const token = "A".repeat(43);
    assertEquals((await knock(proxy, `/ws/r?username=x&token=${token}`)).status, 401);
    assertEquals((await call(proxy, "GET", "/health")).status, 200);
    const logs = [];
    for await (const { name } of Deno.readDir(folder)) {
      if (name.endsWith(".log")) logs.push(await Deno.readTextFile(`${folder}/${name}`));
    }
    assertStringIncludes(logs.join(), '"GET /ws/r" 401');
    assert(!logs.join().includes(token));
  });
});

describeProxy("docs/deploy.md: nginx before two servers", () => {
  it("shares members out, and gives all to the one that stays", async () => {
    await using folder = await makeFolder();
    await using a = await startServer({ TRUST_PROXY: "1" });
    await using b = await startServer({ TRUST_PROXY: "1" });
    const port = freePort();
    const [upstream, pass] = await readBlocks("deploy.md") as [string, string];
    const settings = await readSettings([
      ["listen 80;", `listen 127.0.0.1:${port};`],
      ["listen [::]:80;", ""],
      ["        proxy_pass http://127.0.0.1:8080;\n", pass],
      ["server {", `${upstream}server {`],
      ["127.0.0.1:8081", `127.0.0.1:${a.port}`],
      ["127.0.0.1:8082", `127.0.0.1:${b.port}`],
      ["/var/log/nginx", folder.path],
    ]);
    const stop = await startNginx(folder.path, settings, port);
    try {
      const join = (name: string) => V1Client.join(`ws://127.0.0.1:${port}`, "r", name);
      const names = ["alice", "bob", "carol", "dora"];
      const clients = [];
      for (const name of names) clients.push(await join(name));
      const count = (server: TestServer) => server.log.filter(({ msg }) => msg === "joined").length;
      assertEquals([count(a), count(b)], [2, 2]);
      await a.stop();
      for (const name of ["erin", "frank", "gina", "heidi"]) clients.push(await join(name));
      assertEquals([count(a), count(b)], [2, 6]);
      for (const client of clients) await client.close();
    } finally {
      await stop();
    }
  });
});
