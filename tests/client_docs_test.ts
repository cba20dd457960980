/** docs/client.md: its examples, as they stand, and its tables beside the code. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { readPage } from "./support/docs.ts";
import { makeFolder } from "./support/folder.ts";
import { startServer } from "./support/server.ts";

const ROOT = new URL("..", import.meta.url);

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
        env: { NO_COLOR: "1" },
      }).output();
      const decoder = new TextDecoder();
      assertEquals(decoder.decode(stdout), output, decoder.decode(stderr));
    });
  }

  it("has a program in every block of JavaScript", () => {
    assert(readExamples().length >= 4);
    assertEquals(page.match(/^```js$/gm)?.length, readExamples().length);
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
