/** The examples of docs/http.md, run one after the other against one server; and its routes. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { blocksIn, codesIn, readPage, tableIn } from "../support/docs.ts";
import { createFakeApp } from "../support/fake_app.ts";
import { startServer } from "../support/server.ts";
import { itWith } from "../support/tools.ts";

const page = await readPage("http.md");

interface Example {
  command: string;
  /** The lines that it prints, with `…` for what differs each time. */
  output: string[];
}

/** The commands in the blocks marked `console`. */
function readExamples(): Example[] {
  const examples: Example[] = [];
  for (const block of blocksIn(page, "console")) {
    for (const line of block.split("\n").slice(0, -1)) {
      if (line.startsWith("$ ")) examples.push({ command: line.slice(2), output: [] });
      else examples.at(-1)!.output.push(line);
    }
  }
  return examples;
}

/** What an example prints, as a pattern. */
function toPattern(output: readonly string[]): RegExp {
  const escaped = output.join("\n").split("…").map((part) => part.replace(/[^\w\s]/g, "\\$&"));
  return new RegExp(`^${escaped.join('[^"\\n]+')}$`);
}

async function run(command: string): Promise<string> {
  const { stdout } = await new Deno.Command("bash", { args: ["-c", command] }).output();
  return new TextDecoder().decode(stdout).replace(/\n$/, "");
}

const itWithCurl = await itWith("docs/http.md", "bash", "curl");

describe("docs/http.md", () => {
  itWithCurl("is right in every example", async () => {
    await using server = await startServer();
    const examples = readExamples();
    assert(examples.length >= 9);
    for (const { command, output } of examples) {
      const printed = await run(command.replaceAll("http://localhost:8080", server.url));
      const isRight = toPattern(output).test(printed);
      assertEquals(isRight ? command : printed, isRight ? command : output.join("\n"), command);
    }
  });
});

/** The routes that a page's table names, as `METHOD /path`. */
async function routesOn(name: string, title: string): Promise<string[]> {
  const cells = tableIn(await readPage(name), title).flatMap(([cell]) => codesIn(cell!));
  return cells.map((code) => code.startsWith("/") ? `ALL ${code}` : code);
}

/** The routes of the server, without those of files and of what every request passes. */
function routesOfServer(): string[] {
  const { app } = createFakeApp();
  const routes = app.routes.map(({ method, path }) =>
    `${method} ${
      path.replace(/\{.*\}/, "").replace(/:\w+/g, (name) => name.slice(1).toUpperCase())
    }`
  );
  const own = routes.filter((route) => !/\*$|\/$/.test(route) || route === "GET /");
  // The application of the tests has no metrics.
  return [...new Set([...own, "GET /metrics"])].sort();
}

describe("The tables of routes", () => {
  it("have every route of the server, and no other", async () => {
    assertEquals((await routesOn("http.md", "route")).sort(), routesOfServer());
  });

  it("of accounts and of bots have none that the server lacks", async () => {
    const routes = new Set(routesOfServer());
    const named = [
      ...await routesOn("accounts.md", "request"),
      ...await routesOn("bots.md", "request"),
    ];
    const lacking = named.filter((route) => / \/api\//.test(route) && !routes.has(route));
    assertEquals(lacking, []);
  });
});
