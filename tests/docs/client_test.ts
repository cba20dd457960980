/** docs/client.md: its examples, as they stand, and its tables beside the code. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Connection, RefusedError } from "../../public/connection.js";
import { readPage } from "../support/docs.ts";
import { makeFolder } from "../support/folder.ts";
import { call, signUp } from "../support/people.ts";
import { startServer } from "../support/server.ts";
import { V1Client } from "../support/v1_client.ts";

const ROOT = new URL("../../", import.meta.url);

const page = await readPage("client.md");

const types = await Deno.readTextFile(new URL("lib/client/connection.d.ts", ROOT));

/** The programs of the page, each with what it prints. */
function readExamples(): { program: string; output: string }[] {
  const blocks = page.matchAll(/^```js\n([^]*?)^```\n\n```text\n([^]*?)^```$/gm);
  return [...blocks].map(([, program, output]) => ({ program: program!, output: output! }));
}

/** The names in the body of a type that is exported. */
function membersOf(name: string): string[] {
  const [, body] = new RegExp(`^export (?:interface|class) ${name}\\b[^]*?\\{\n([^]*?)^\\}`, "m")
    .exec(types)!;
  const names = body!.matchAll(/^ {2}(?:readonly )?(\w+)\??[:<(]/gm);
  return [...new Set(Array.from(names, ([, name]) => name!))].filter((name) =>
    name !== "constructor"
  );
}

/** Opens a connection, and waits until the server refuses it. */
function refusalOf(connection: Connection): Promise<{ reason: string; code: number }> {
  return new Promise((resolve) => {
    connection.on("state", (what) => what.state === "refused" && resolve(what));
    connection.open();
  });
}

describe("docs/client.md", () => {
  for (const [i, { program, output }] of readExamples().entries()) {
    it(`is right in example ${i + 1}`, async () => {
      await using server = await startServer();
      await using folder = await makeFolder();
      const code = program.replaceAll("http://localhost:8080", server.url);
      await Deno.writeTextFile(`${folder.path}/program.js`, code);
      const { host } = new URL(server.url);
      const permissions = [`--allow-import=${host}`, `--allow-net=${host}`];
      const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "--quiet", "--no-lock", "--no-config", ...permissions, "program.js"],
        cwd: folder.path,
        env: { NO_COLOR: "1", FORCE_COLOR: "" },
      }).output();
      const decoder = new TextDecoder();
      assertEquals(decoder.decode(stdout), output, decoder.decode(stderr));
    });
  }

  it("has a program in every block of JavaScript", () => {
    assert(readExamples().length >= 4);
    assertEquals(page.match(/^```js$/gm)?.length, readExamples().length);
  });

  it("says what happens when something is wrong", async () => {
    await using server = await startServer();
    const token = await signUp(server, "Owner");
    await call(server, "PUT", "/api/rooms/closed", { token, body: { private: true } });
    await using _holder = await V1Client.join(server.ws, "tea", "Holder");
    const here = { base: server.url, room: "tea", username: "Ada" };
    const WRONG: [options: Partial<typeof here> & { token?: string }, code: number][] = [
      [{ base: `${server.url}/elsewhere/` }, 404],
      [{ username: "server" }, 400],
      [{ room: "a,b" }, 400],
      [{ room: ".." }, 400],
      [{ username: "holder" }, 409],
      [{ token: "x" }, 401],
      [{ room: "closed" }, 403],
    ];
    for (const [options, code] of WRONG) {
      const refused = await refusalOf(new Connection({ ...here, ...options }));
      assertEquals(refused.code, code, JSON.stringify([options, refused]));
      assert(/^[A-Z].*\.$/.test(refused.reason), refused.reason);
    }
    const long = new Connection(here);
    const item = long.send("x".repeat(4097));
    assertEquals([(await refusalOf(long)).code, item.status], [1009, "failed"]);
    await assertRejects(() => long.delete("m"), RefusedError, "Not connected to the server.");
    for (const base of ["localhost:8080", "ws://localhost:8080", "chat.example", "", "http://"]) {
      const sentence = `base must be an address such as https://chat.example/, not "${base}".`;
      assertThrows(() => new Connection({ ...here, base }), TypeError, sentence);
    }
  });

  it("says on the console why nobody is let in, where nobody listens", async () => {
    await using server = await startServer();
    const warnings: unknown[] = [];
    const { warn } = console;
    try {
      const warned = new Promise<void>((resolve) => {
        // deno-lint-ignore no-console
        console.warn = (...words) => {
          warnings.push(...words);
          resolve();
        };
      });
      new Connection({ base: server.url, room: "tea", username: "server" }).open();
      await warned;
      await refusalOf(new Connection({ base: server.url, room: "tea", username: "error" }));
    } finally {
      // deno-lint-ignore no-console
      console.warn = warn;
    }
    assertEquals(warnings, [
      "The connection to the room tea is refused. The username is reserved for the server. " +
      "Choose another.",
    ]);
  });

  it("names everything that the types have", () => {
    const kinds = ["Connection", "ConnectionOptions", "Emits", "Outgoing", "Unsent", "Outbox"];
    for (const kind of [...kinds, "Roster", "Sealer", "Label"]) {
      const members = membersOf(kind);
      assert(members.length >= 3, kind);
      for (const name of members) {
        assert(
          new RegExp(`\`(?:outbox\\.)?${name}[\`(]`).test(page),
          `${kind}.${name} is missing.`,
        );
      }
    }
    const states = types.matchAll(/\bstate: "(\w+)"/g);
    const [, seals] = /type Seal = (.*);/.exec(types)!;
    const [, statuses] = /\bstatus: (.*);/.exec(types)!;
    const words = `${seals} ${statuses}`.matchAll(/"(\w+)"/g);
    for (const [, word] of [...states, ...words]) {
      assert(page.includes(`| \`${word}\` `), `${word} is missing.`);
    }
  });

  it("names every file that the client needs, and its size", async () => {
    const files = new Set(["connection.js"]);
    for (const file of files) {
      const text = await Deno.readTextFile(new URL(`public/${file}`, ROOT));
      for (const [, name] of text.matchAll(/^import .* from "\.\/(.*)";$/gm)) files.add(name!);
    }
    const rows = page.matchAll(/^\| `(\w+\.js)` +\| +(\d+) \|/gm);
    const listed = new Map(Array.from(rows, ([, name, size]) => [name!, Number(size)]));
    assertEquals([...listed.keys()].sort(), [...files].sort());
    for (const [name, listedSize] of listed) {
      const { size } = await Deno.stat(new URL(`public/${name}`, ROOT));
      const kilobytes = size / 1000;
      assert(Math.abs(kilobytes - listedSize) <= 1 + listedSize / 10, `${name}: ${kilobytes} kB`);
    }
  });
});
