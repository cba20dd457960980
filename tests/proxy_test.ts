/** The proxy settings of docs/deploy.md, in real proxies before real servers. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { Client } from "./support/client.ts";
import { blocksIn, readPage } from "./support/docs.ts";
import { makeFolder } from "./support/folder.ts";
import { freePort } from "./support/free_port.ts";
import { call, knock, login, register, Visitor } from "./support/people.ts";
import {
  change,
  describeCaddy,
  describeNginx,
  nginxSettings,
  startCaddy,
  startNginx,
} from "./support/proxies.ts";
import { askRaw, frame, handshake, OPCODE, RawClient } from "./support/raw.ts";
import { startServer, type TestServer } from "./support/server.ts";
import { V1Client } from "./support/v1_client.ts";

/** The address of the proxy, as the server sees it. */
const PROXY_ADDRESS = "127.0.0.7";

describeNginx("docs/deploy.md: nginx before the server", () => {
  let folder: string;
  let server: TestServer;
  let stop: () => Promise<void>;
  let proxy: { url: string; ws: string; port: number };

  beforeAll(async () => {
    folder = await Deno.makeTempDir();
    server = await startServer({ TRUST_PROXY: "1", ADMINS: "root", METRICS: "on" });
    const port = freePort();
    proxy = { port, url: `http://127.0.0.1:${port}`, ws: `ws://127.0.0.1:${port}` };
    const settings = await nginxSettings([
      // On the loopback address only.
      ["listen 80;", `listen 127.0.0.1:${port};`],
      ["listen [::]:80;", ""],
      ["127.0.0.1:8080", `127.0.0.1:${server.port}`],
      ["/var/log/nginx", folder],
      // The same, with shorter times.
      ["client_header_timeout 10s", "client_header_timeout 1s"],
      ["client_body_timeout 10s", "client_body_timeout 1s"],
      ["proxy_read_timeout 75s", "proxy_read_timeout 3s"],
    ]);
    stop = await startNginx(folder, settings, port, PROXY_ADDRESS);
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

  it("gives the server's reason for a refusal", async () => {
    const { status, error } = await knock(proxy, "/ws/r?username=a,b");
    assertEquals([status, error.startsWith("The username may only have")], [400, true]);
    assertEquals((await call(proxy, "GET", "/ws/r?username=carl")).status, 426);
  });

  it("passes the real address to the server, whatever the client claims", async () => {
    // Three different addresses: the client's claim, its own, and the proxy's towards the server.
    using client = await RawClient.connect(proxy.port);
    const headers = { "X-Forwarded-For": "1.2.3.4" };
    const joined = server.log.filter(({ msg }) => msg === "joined").length;
    await client.write(handshake("/ws/far?username=dora", { headers }));
    assertEquals((await client.readAnswer()).status, 101);
    await server.logged("joined", joined + 1);
    const { username, address } = server.log.findLast(({ msg }) => msg === "joined")!;
    assertEquals([username, address], ["dora", "127.0.0.1"]);
  });

  it("tells the site's own pages from foreign ones", async () => {
    const headers = { Host: `127.0.0.1:${proxy.port}` };
    const own = { ...headers, Origin: proxy.url };
    assertEquals((await knock(proxy, "/ws/r?username=erin", own)).status, 101);
    const foreign = { ...headers, Origin: "https://evil.example" };
    assertEquals((await knock(proxy, "/ws/r?username=erin", foreign)).status, 403);
  });

  it("lets nobody else claim that a connection is encrypted", async () => {
    assertEquals((await register(proxy, "frank")).status, 201);
    const https = { headers: { "x-forwarded-proto": "https" } };
    const { headers } = await login(proxy, "frank", undefined, https);
    assert(!headers.get("set-cookie")!.includes("Secure"));
  });

  it("cuts off slow headers and bodies before they reach the server", async () => {
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

  it("refuses a body that is too big by its announced length", async () => {
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
    // The client sends nothing more: the connection must end without it.
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

describeNginx("docs/deploy.md: nginx before two servers", () => {
  it("spreads members over two servers, and moves all to the remaining one", async () => {
    await using folder = await makeFolder();
    await using a = await startServer({ TRUST_PROXY: "1" });
    await using b = await startServer({ TRUST_PROXY: "1" });
    const port = freePort();
    const [, upstream, pass] = blocksIn(await readPage("deploy.md"), "nginx") as [
      string,
      string,
      string,
    ];
    const settings = await nginxSettings([
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

describeCaddy("docs/deploy.md: Caddy before the server", () => {
  it("serves the page and the chat, blocks outside metrics, and survives large bodies", async () => {
    await using folder = await makeFolder();
    await using server = await startServer({ TRUST_PROXY: "1", METRICS: "on" });
    const port = freePort();
    const [settings] = blocksIn(await readPage("deploy.md"), "caddy") as [string];
    const stop = await startCaddy(
      folder.path,
      change(settings, [
        ["{\n\tservers", "{\n\tadmin off\n\tservers"],
        ["chat.example", `http://127.0.0.1:${port}`],
        ["127.0.0.1:8080", `127.0.0.1:${server.port}`],
      ]),
      port,
    );
    try {
      const site = { port, url: `http://127.0.0.1:${port}` };
      const page = await call(site, "GET", "/", { headers: { accept: "text/html" } });
      assertStringIncludes(page.body, "<!DOCTYPE html>");
      assertEquals((await call(site, "GET", "/metrics")).status, 404);
      await using alice = await V1Client.join(`ws://127.0.0.1:${port}`, "r", "alice");
      assertEquals((await alice.ask({ type: "chat", content: "hello" })).type, "ack");
      const body = JSON.stringify({ content: "x".repeat(100_000) });
      const large = await call(site, "POST", "/api/rooms/r/messages?username=bob", { body });
      assertEquals(large.status, 413);
      await alice.close();
    } finally {
      await stop();
    }
  });

  it("spreads members over two servers, and moves all to the remaining one", async () => {
    await using folder = await makeFolder();
    await using a = await startServer({ TRUST_PROXY: "1" });
    await using b = await startServer({ TRUST_PROXY: "1" });
    const port = freePort();
    const balanced = blocksIn(await readPage("deploy.md"), "caddy").find((block) =>
      block.includes("lb_policy")
    )!;
    const settings = change(`{\n\tadmin off\n}\nhttp://127.0.0.1:${port} {\n${balanced}}\n`, [
      ["127.0.0.1:8081", `127.0.0.1:${a.port}`],
      ["127.0.0.1:8082", `127.0.0.1:${b.port}`],
    ]);
    const stop = await startCaddy(folder.path, settings, port);
    try {
      const join = (name: string) => V1Client.join(`ws://127.0.0.1:${port}`, "r", name);
      const count = (server: TestServer) => server.log.filter(({ msg }) => msg === "joined").length;
      const clients = [];
      for (const name of ["alice", "bob", "carol", "dora"]) clients.push(await join(name));
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

/** A server below a path, behind a proxy that keeps the path or strips it. */
async function startBelow(
  start: (port: number, server: TestServer) => Promise<() => Promise<void>>,
  path = "/chat/",
) {
  const port = freePort();
  const origin = `http://127.0.0.1:${port}`;
  const env = { TRUST_PROXY: "1", PUBLIC_URL: `${origin}${path}`, METRICS: "on" };
  const server = await startServer(env);
  const stop = await start(port, server);
  return {
    port,
    origin,
    url: `${origin}${path.slice(0, -1)}`,
    ws: `ws://127.0.0.1:${port}${path.slice(0, -1)}`,
    async [Symbol.asyncDispose]() {
      await stop();
      await server.stop();
    },
  };
}

/** Requests everything that a site has below its path. */
async function visitSite(site: { url: string; ws: string; origin: string; port: number }) {
  const page = await call(site, "GET", "/", { headers: { accept: "text/html" } });
  assertStringIncludes(page.body, 'href="./style.css"');
  // A proxy that strips the path leaves one slash of two.
  for (const path of ["/chat/metrics", "/chat/chat/metrics", "/chat/chat/chat/metrics"]) {
    assert(!(await askRaw(site.port, path)).body.includes("hubbub_"), path);
  }
  const room = await call(site, "GET", "/r/tea", { headers: { accept: "text/html" } });
  assertStringIncludes(room.body, 'href="../style.css"');
  const cookies = room.headers.getSetCookie();
  assertEquals(cookies.length, 1);
  assertStringIncludes(cookies[0]!, `hubbub_guest_${site.port}!chat=`);
  assertStringIncludes(cookies[0]!, "; Path=/;");
  for (const path of ["/style.css", "/page/app.js", "/connection.js", "/favicon.svg", "/health"]) {
    assertEquals((await call(site, "GET", path)).status, 200, path);
  }
  const { status, redirected, url } = await fetch(site.url, {
    headers: { accept: "text/html" },
  }).then(async (response) => (await response.body?.cancel(), response));
  assertEquals([status, redirected, url], [200, true, `${site.url}/`]);
  await register(site, "ann");
  const { status: signedIn, headers } = await login(site, "ann");
  assertEquals(signedIn, 200);
  assertStringIncludes(headers.get("set-cookie")!, `hubbub_session_${site.port}!chat=`);
  await using bob = await V1Client.join(site.ws, "tea", "bob");
  await using carl = await Client.join(site.ws, "tea", "carl");
  bob.send({ type: "chat", content: "below a path" });
  await carl.nextFrame(({ content }) => content === "below a path");
  await carl.close(1000);
  await bob.close();
}

describe("docs/deploy.md: below a path of a site", () => {
  const nginxSite = (port: number, server: TestServer, folder: string, end: string) =>
    nginxSettings([
      ["listen 80;", `listen 127.0.0.1:${port};`],
      ["listen [::]:80;", ""],
      ["location / {", "location /chat/ {"],
      ["location = /metrics {", "location ~ ^(/chat)+/metrics$ {"],
      ["http://127.0.0.1:8080;", `http://127.0.0.1:${server.port}${end};`],
      ["/var/log/nginx", folder],
    ]).then((settings) => startNginx(folder, settings, port));

  describeNginx("behind nginx", () => {
    for (const [what, end] of [["keeps", ""], ["strips", "/"]] as const) {
      it(`works if the proxy ${what} the path`, async () => {
        await using folder = await makeFolder();
        await using site = await startBelow((port, server) =>
          nginxSite(port, server, folder.path, end)
        );
        await visitSite(site);
      });
    }
  });

  describeCaddy("behind Caddy", () => {
    for (
      const [what, directive] of [["keeps", "handle"], ["strips", "handle_path"]] as const
    ) {
      it(`works if the proxy ${what} the path`, async () => {
        const [block] = blocksIn(await readPage("deploy.md"), "caddy").filter((block) =>
          block.includes("/chat/")
        );
        await using folder = await makeFolder();
        await using site = await startBelow((port, server) => {
          const settings = change(block!, [
            ["site.example", `http://127.0.0.1:${port}`],
            ["handle_path", directive],
            ["127.0.0.1:8080", `127.0.0.1:${server.port}`],
          ]);
          return startCaddy(folder.path, `{\n\tadmin off\n}\n${settings}`, port);
        });
        await visitSite(site);
      });
    }
  });

  it("redirects to the page, and links to it from a damaged address", async () => {
    await using server = await startServer({ PUBLIC_URL: "http://127.0.0.1/chat" });
    const headers = { Host: "127.0.0.1", Accept: "text/html" };
    const ask = (path: string) => askRaw(server.port, path, headers);
    const redirect = await ask("/chat?theme=dark");
    assertEquals(redirect.status, 308);
    assertEquals(redirect.headers.get("location"), "/chat/?theme=dark");
    for (const [path, root] of [["/chat/r/%zz", "../"], ["/r/%zz", "../"], ["/chat/%zz", "./"]]) {
      assertStringIncludes((await ask(path!)).body, `<a href="${root}">`);
    }
    const elsewhere = await ask("/chatter");
    assertEquals(elsewhere.status, 404);
  });
});

describe("Two servers below two paths of a host", () => {
  it("do not sign each other's people in or out", async () => {
    await using one = await startServer({ PUBLIC_URL: "https://127.0.0.1/one" });
    await using other = await startServer({ PUBLIC_URL: "https://127.0.0.1/other/" });
    const names = [];
    for (const { port } of [one, other]) {
      const { headers } = await askRaw(port, "/", { Host: "127.0.0.1", Accept: "text/html" });
      names.push(headers.get("set-cookie")!.split("=")[0]);
    }
    assertEquals(names, ["__Host-hubbub_guest!one", "__Host-hubbub_guest!other"]);
  });
});
