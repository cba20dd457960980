/** The layout of the code: which file may import which. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";

const ROOT = new URL("..", import.meta.url);

/** The floors of the house, from the ground up. A file imports from its own floor's folder or below. */
const FLOORS: readonly (readonly string[])[] = [
  ["lib/"],
  ["lib/protocol/"],
  ["lib/delivery/", "lib/people/", "lib/client/"],
  ["lib/http/", "lib/engine/"],
  ["lib/engine/remote/", "lib/metrics/"],
  ["lib/engine/postgres/", "lib/engine/redis/"],
  ["lib/room/"],
  ["hub.ts"],
  ["main.ts"],
];

/** The folder of a file, or the file itself at the top level. */
function placeOf(file: string): string {
  return file.includes("/") ? file.slice(0, file.lastIndexOf("/") + 1) : file;
}

function floorOf(file: string): number {
  const floor = FLOORS.findIndex((places) => places.includes(placeOf(file)));
  assert(floor >= 0, `${file} stands on no floor.`);
  return floor;
}

async function* walk(folder: string): AsyncGenerator<string> {
  for await (const { name, isDirectory } of Deno.readDir(new URL(folder, ROOT))) {
    if (isDirectory) yield* walk(`${folder}${name}/`);
    else if (name.endsWith(".ts")) yield `${folder}${name}`;
  }
}

/** The server's files that a file imports, types included. */
async function importsOf(file: string): Promise<string[]> {
  const text = await Deno.readTextFile(new URL(file, ROOT));
  const found = text.matchAll(/(?:from|import\()\s*"(\.{1,2}\/[^"]+\.ts)"/g);
  return [...found].map(([, path]) =>
    new URL(path!, new URL(file, ROOT)).href.slice(ROOT.href.length)
  );
}

const files = ["main.ts", "hub.ts", ...await Array.fromAsync(walk("lib/"))].sort();
const imports = new Map<string, string[]>();
for (const file of files) imports.set(file, await importsOf(file));

describe("An import", () => {
  it("never runs up, nor between folders of one floor", () => {
    const wrong: string[] = [];
    for (const [file, targets] of imports) {
      for (const target of targets) {
        const isBelow = floorOf(target) < floorOf(file);
        if (!isBelow && placeOf(target) !== placeOf(file)) wrong.push(`${file} -> ${target}`);
      }
    }
    assertEquals(wrong, []);
  });

  it("of an optional part happens only when a setting needs it", async () => {
    const reached = new Set(["main.ts"]);
    const bare = new Set<string>();
    for (const file of reached) {
      const text = await Deno.readTextFile(new URL(file, ROOT));
      // The runtime also loads literal dynamic imports early.
      const names =
        /^(?:import|export) (?!type )[^;]*?"([^"]+)";$|(?<!typeof )import\("([^"]+)"\)/gm;
      for (const [, early, late] of text.matchAll(names)) {
        const path = early ?? late;
        if (!path!.startsWith(".")) bare.add(path!);
        else reached.add(new URL(path!, new URL(file, ROOT)).href.slice(ROOT.href.length));
      }
    }
    assert(reached.has("lib/engine/memory.ts") && bare.has("hono"), "Imports are not found.");
    const lazy = [
      "lib/engine/remote/",
      "lib/engine/postgres/",
      "lib/engine/redis/",
      "lib/metrics/",
    ];
    assertEquals([...reached].filter((file) => lazy.includes(placeOf(file))), []);
    assertEquals(
      ["postgres", "ioredis", "@opentelemetry/api"].filter((name) => bare.has(name)),
      [],
    );
  });

  it("never makes a circle", () => {
    const done = new Set<string>();
    const visit = (file: string, path: readonly string[]): void => {
      assert(!path.includes(file), `A circle: ${[...path, file].join(" -> ")}`);
      if (done.has(file)) return;
      for (const target of imports.get(file)!) visit(target, [...path, file]);
      done.add(file);
    };
    for (const file of files) visit(file, []);
  });
});

/** The lines of each class body in a formatted file. */
function classBodies(text: string): string[][] {
  const bodies: string[][] = [];
  let body: string[] | undefined;
  for (const line of text.split("\n")) {
    if (/^(export )?(abstract )?class /.test(line)) bodies.push(body = []);
    else if (line === "}") body = undefined;
    else body?.push(line);
  }
  return bodies;
}

describe("A field of a class", () => {
  /** A declaration: its modifiers, its name, and its type or value. */
  const FIELD = /^ {2}((?:\w+ )*)(#?\w+)[?!]?(?:: ([^=]+))?(?: =(.*)|;)$/;

  it("is private or readonly", async () => {
    const wrong: string[] = [];
    for (const file of files) {
      const text = await Deno.readTextFile(new URL(file, ROOT));
      for (const line of classBodies(text).flat()) {
        const [, modifiers = "", name = ""] = FIELD.exec(line) ?? [];
        if (name === "" || name.startsWith("#") || modifiers.includes("readonly")) continue;
        wrong.push(`${file}: ${line.trim()}`);
      }
    }
    assertEquals(wrong, []);
  });

  it("with a collection is private or read-only", async () => {
    const wrong: string[] = [];
    for (const file of files) {
      const text = await Deno.readTextFile(new URL(file, ROOT));
      for (const line of classBodies(text).flat()) {
        const [, , name = "", type = "", value = ""] = FIELD.exec(line) ?? [];
        if (name === "" || name.startsWith("#")) continue;
        const isMutable = /(^|[^\w])(Map|Set|Array)</.test(type) || /\[\]\s*$/.test(type) ||
          /new (Map|Set)\b|^\s*\[/.test(value);
        if (isMutable && !/^readonly .*\[\]$/.test(type.trim())) {
          wrong.push(`${file}: ${line.trim()}`);
        }
      }
    }
    assertEquals(wrong, []);
  });
});

describe("A test", () => {
  it("starts servers only by ServerProcess, which never opens the user's chat.db", async () => {
    const wrong: string[] = [];
    for await (const file of walk("tests/")) {
      const text = await Deno.readTextFile(new URL(file, ROOT));
      if (/"run",[^\]]*\bmain\.ts"/.test(text)) wrong.push(file);
    }
    assertEquals(wrong, []);
  });
});
