/** The published package, and its types in a TypeScript program. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { makeFolder } from "./support/folder.ts";
import { makeMachine } from "./support/machine.ts";
import { ServerProcess } from "./support/process.ts";
import { Registry } from "./support/registry.ts";
import { V1Client } from "./support/v1_client.ts";

const ROOT = new URL("../", import.meta.url);

const settings = JSON.parse(await Deno.readTextFile(new URL("deno.json", ROOT)));

async function run(...args: string[]): Promise<{ code: number; output: string }> {
  return await runWith({}, ...args);
}

async function runWith(env: Record<string, string>, ...args: string[]) {
  const options = { args, cwd: ROOT, env: { NO_COLOR: "1", ...env } };
  const command = new Deno.Command(Deno.execPath(), options);
  const { code, stdout, stderr } = await command.output();
  const decoder = new TextDecoder();
  return { code, output: decoder.decode(stdout) + decoder.decode(stderr) };
}

/** Checks a program that imports the package. */
async function check(
  name: string,
  lines: readonly string[],
): Promise<{ code: number; output: string }> {
  await using folder = await makeFolder();
  const path = `${folder.path}/program.ts`;
  const module = new URL(settings.exports[name], ROOT).href;
  await Deno.writeTextFile(path, [`import * as hubbub from "${module}";`, ...lines].join("\n"));
  const config = new URL("deno.json", ROOT).pathname;
  // Quiet, so that names of downloaded packages, such as redis-errors, do not look like errors.
  return await run("check", "--quiet", "--no-lock", `--config=${config}`, path);
}

describe("The package", () => {
  it("can be published, with complete types and only the needed files", async () => {
    // `deno task publish:check` also checks the types inside.
    const { code, output } = await run("publish", "--dry-run", "--allow-dirty", "--no-check");
    assertEquals(code, 0, output);
    const warnings = [...output.matchAll(/(?:warning|error)\[([\w-]+)\][^\n]*\n\s*--> (\S+?):/g)];
    // The modules that main.ts loads on demand, at addresses beside it, without an import map.
    const known = "unanalyzable-dynamic-import main.ts";
    const others = warnings
      .map(([, kind, path]) => `${kind} ${path!.slice(path!.lastIndexOf("/") + 1)}`)
      .filter((warning) => warning !== known);
    assertEquals(others, [], output);
    const files = [...output.matchAll(/^ +(file:\S+) \(/gm)]
      .map(([, href]) => href!.slice(ROOT.href.length));
    for (const file of ["main.ts", "public/index.html", "public/page/app.js", "LICENSE"]) {
      assert(files.includes(file), `${file} is left out.`);
    }
    assertEquals(files.filter((file) => /^(tests|bench|\.|Dockerfile)/.test(file)), []);
  });

  it("has the newest version of the changelog", async () => {
    const changelog = await Deno.readTextFile(new URL("CHANGELOG.md", ROOT));
    const [, version] = /^## (\d+\.\d+\.\d+) \(\d{4}-\d\d-\d\d, tag `v\1`\)$/m.exec(changelog) ??
      [];
    assertEquals(version, settings.version);
  });

  it("starts a server inside a program", async () => {
    const { code, output } = await check(".", [
      'const config = hubbub.readConfig({ PORT: "0" });',
      'const server = await hubbub.start(config, hubbub.createLogger({ level: "warn" }));',
      "const port: number = server.port;",
      "await server.stop();",
      "export { port };",
    ]);
    assertEquals(code, 0, output);
  });

  it("has a typed client", async () => {
    const program = [
      'const options = { base: "http://localhost:8080", room: "tea", username: "Ada" };',
      "const connection = new hubbub.Connection(options);",
      'connection.on("events", (events) => {',
      '  for (const event of events) if (event.type === "chat") console.log(event.seq + 1);',
      "});",
      'connection.on("state", (what) => what.state === "refused" && console.log(what.reason));',
      "connection.open();",
      'const sent: hubbub.Outgoing = connection.send("Good morning", { replyTo: "1" });',
      "export { sent };",
    ];
    const { code, output } = await check("./client", program);
    assertEquals(code, 0, output);
    const wrong = ["connection.send(1);", "connection.nothing();"];
    const { output: complaints } = await check("./client", [...program, ...wrong]);
    assertStringIncludes(complaints, "'number' is not assignable to parameter of type 'string'");
    assertStringIncludes(complaints, "Property 'nothing' does not exist on type 'Connection'");
  });

  it("describes every part of the client, and nothing else", async () => {
    const real = new URL("public/connection.js", ROOT).href;
    const { code, output } = await check("./client", [
      `import * as real from "${real}";`,
      // Everything described exists, with that type.
      "const connection: typeof hubbub.Connection = real.Connection;",
      "const refused: typeof hubbub.RefusedError = real.RefusedError;",
      "const state: real.ConnectionState = {} as hubbub.ConnectionState;",
      "const emits: real.Emits = {} as Omit<real.Emits, keyof hubbub.Emits> &",
      '  Omit<hubbub.Emits, "people"> & Pick<real.Emits, "people">;',
      // Everything that exists is described.
      "type Missing<A, B> = Exclude<keyof A, keyof B>;",
      "const nothing: never[] = [] as (",
      "  | Missing<real.Connection, hubbub.Connection>",
      "  | Missing<real.Emits, hubbub.Emits>",
      '  | Exclude<Missing<real.ConnectionOptions, hubbub.ConnectionOptions>, "outbox">',
      "  | Missing<typeof real, typeof hubbub>",
      ")[];",
      "export { connection, emits, nothing, refused, state };",
    ]);
    assertEquals(code, 0, output);
  });

  it("runs from a registry, with types for a program there", async () => {
    await using registry = new Registry(settings);
    const env = { JSR_URL: registry.url };
    const published = await runWith(
      env,
      ...["publish", "--allow-dirty", "--no-check", "--no-provenance", "--token=none"],
    );
    assertEquals(published.code, 0, published.output);
    await using machine = await makeMachine();
    await using server = await ServerProcess.start({
      main: `jsr:${settings.name}`,
      lock: `${machine.path}/deno.lock`,
      cwd: machine.path,
      env: { ...env, DENO_DIR: machine.cache, DATABASE_URL: "sqlite:chat.db", METRICS: "on" },
    });
    const page = await fetch(server.url, { headers: { accept: "text/html" } });
    assertStringIncludes(await page.text(), "/connection.js");
    await using alice = await V1Client.join(server.ws, "tea", "alice");
    assertEquals((await alice.ask({ type: "chat", content: "hello" })).type, "ack");
    await alice.close();
    assertEquals((await server.stop()).code, 0);
    assertEquals(server.log.filter(({ level }) => level !== "info"), []);

    const program = `${machine.path}/program.ts`;
    await Deno.writeTextFile(
      program,
      `import { Connection } from "jsr:${settings.name}/client";\n` +
        'export const text: string = new Connection({ base: "a:b", room: "r" }).send("a").content;\n' +
        "export const wrong: string = new Connection(1);",
    );
    const checking = ["check", "--no-config", "--no-lock", program];
    const { output } = await runWith({ ...env, DENO_DIR: machine.cache }, ...checking);
    assertEquals(output.match(/TS\d+/g), ["TS2322", "TS2345"], output);
  });
});

describe("deno.lock", () => {
  it("has all that a start needs, with any engine, and nothing else", async () => {
    const lock = JSON.parse(await Deno.readTextFile(new URL("../deno.lock", import.meta.url)));
    const names = Object.keys(lock.specifiers).map((specifier) =>
      specifier.slice(0, specifier.lastIndexOf("@"))
    );
    assertEquals(names, ["npm:@opentelemetry/api", "npm:hono", "npm:ioredis", "npm:postgres"]);
    await using folder = await makeFolder();
    const copy = `${folder.path}/deno.lock`;
    await Deno.copyFile(new URL("../deno.lock", import.meta.url), copy);
    await using server = await ServerProcess.start({ lock: copy });
    await server.stop();
    // The runtime notes here what it downloads besides.
    assertEquals(JSON.parse(await Deno.readTextFile(copy)), lock);
    const script = 'import "postgres"; import "ioredis"; import "@opentelemetry/api";';
    const { success } = await new Deno.Command(Deno.execPath(), {
      args: ["eval", `--lock=${copy}`, script],
      cwd: new URL("..", import.meta.url),
    }).output();
    assert(success);
    assertEquals(JSON.parse(await Deno.readTextFile(copy)), lock);
  });
});
