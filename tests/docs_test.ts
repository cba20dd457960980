/** The examples of docs/protocol.md, run against the server; and the docs in the code. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ERROR_STATUS } from "../lib/http/app.ts";
import { CLOSE } from "../lib/protocol/codes.ts";
import type { Event } from "../lib/protocol/events.ts";
import { makeFolder } from "./support/folder.ts";
import { ServerProcess } from "./support/process.ts";
import { startServer } from "./support/server.ts";
import { V1Client } from "./support/v1_client.ts";

const text = await Deno.readTextFile(new URL("../docs/protocol.md", import.meta.url));

interface Example {
  heading: string;
  lines: string[];
}

/** The blocks marked `chat`, each under the heading it stands below. */
function readExamples(): Example[] {
  const examples: Example[] = [];
  let heading = "";
  let open: Example | undefined;
  for (const line of text.split("\n")) {
    if (line.startsWith("## ")) heading = line.slice(3);
    else if (line === "```chat") examples.push(open = { heading, lines: [] });
    else if (line === "```") open = undefined;
    else open?.lines.push(line);
  }
  return examples;
}

/** Checks an event against an example: `…` stands for any text, `$name` for the same one each time. */
function assertLike(actual: unknown, example: unknown, names: Map<string, string>): void {
  if (typeof example === "string" && example.startsWith("$")) {
    if (!names.has(example)) names.set(example, actual as string);
    assertEquals(actual, names.get(example));
  } else if (example === "…") {
    assert(typeof actual === "string" && actual.length > 0, `${actual} is no text.`);
  } else if (typeof example === "object" && example !== null) {
    assertEquals(Object.keys(actual as object), Object.keys(example));
    for (const [key, value] of Object.entries(example)) {
      assertLike((actual as Record<string, unknown>)[key], value, names);
    }
  } else {
    assertEquals(actual, example);
  }
}

async function run(lines: string[]): Promise<string[]> {
  await using server = await startServer();
  const clients = new Map<string, V1Client>();
  const sessions = new Map<string, { session: string; epoch: string }>();
  const names = new Map<string, string>();
  const types: string[] = [];
  for (const line of lines) {
    const [, who, what, json = ""] = /^(\w+) (joins|leaves|comes back after|[<>])(?: (.*))?$/.exec(
      line,
    )!;
    const client = clients.get(who!);
    if (what === "joins" || what === "comes back after") {
      const query = new URLSearchParams({ username: who! });
      if (what !== "joins") {
        const resume = { ...sessions.get(who!), after: json, inbox: "0" };
        for (const [name, value] of Object.entries(resume)) query.set(name, value);
      }
      const url = `${server.ws}/ws/general?${query}`;
      const joined = await V1Client.connect(url);
      clients.set(who!, joined);
      const { session, epoch } = await joined.peek("welcome");
      sessions.set(who!, { session, epoch });
    } else if (what === "leaves") {
      await client!.close();
      clients.delete(who!);
      for (const other of clients.values()) {
        await other.peek("user_left", ({ username }) => username === who);
      }
    } else if (what === ">") {
      let command = json;
      for (const [name, value] of names) command = command.replaceAll(name, value);
      client!.send(JSON.parse(command));
      types.push(JSON.parse(json).type);
    } else {
      const example: Event = JSON.parse(json);
      // What an example is not about may come in between: two events of one type differ in somebody.
      const event = await client!.next((event) =>
        event.type === example.type &&
        event.username === example.username && isAbout(event, example)
      );
      assertLike(event, example, names);
      types.push(example.type);
    }
  }
  for (const client of clients.values()) await client.close();
  return types;
}

/** Whether an event is the one that an example shows, and not an earlier one of the same kind. */
function isAbout(event: Event, example: Event): boolean {
  if ("online" in example && "online" in event && example.online !== event.online) return false;
  return !("ref" in example) || ("ref" in event && event.ref === example.ref);
}

describe("docs/protocol.md", () => {
  const shown = new Set<string>();

  for (const [i, { heading, lines }] of readExamples().entries()) {
    it(`is right in example ${i + 1}: ${heading}`, async () => {
      for (const type of await run(lines)) shown.add(type);
    });
  }

  it("shows every command and every event", () => {
    const all = [
      ...["chat", "typing", "dm", "history", "ping", "edit", "delete", "kick", "room"],
      ...["welcome", "ack", "error", "presence", "pong", "online_users", "user_joined"],
      ...["user_left", "message_updated", "message_deleted"],
    ];
    assertEquals([...shown].filter((type) => type !== "fly").sort(), all.sort());
  });

  it("names every error code with its status, and every close code", () => {
    for (const [code, status] of Object.entries(ERROR_STATUS)) {
      assert(new RegExp(`\\| \`${code}\` +\\| ${status} `).test(text), code);
    }
    for (const { code, reconnect } of Object.values(CLOSE)) {
      const [, answer] = new RegExp(`^\\| ${code} \\|[^|]*\\| (\\w+)`, "m").exec(text) ?? [];
      assertEquals(answer === "yes", reconnect, `Clients that were closed with ${code} come back`);
    }
  });
});

interface Documented {
  name: string;
  declarations?: { jsDoc?: { doc?: string }; declarationKind?: string }[];
  jsDoc?: { doc?: string };
  declarationKind?: string;
}

const root = new URL("..", import.meta.url);

/** The files of a folder and of the folders in it. */
async function filesIn(folder: string): Promise<string[]> {
  const files: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(new URL(folder, root))) {
    if (isDirectory) files.push(...await filesIn(`${folder}${name}/`));
    else files.push(`${folder}${name}`);
  }
  return files;
}

describe("hub.ts and lib/", () => {
  it("say of everything they export what it is", async () => {
    const files = ["hub.ts", ...await filesIn("lib/")];
    for (const file of files) {
      const { stdout } = await new Deno.Command(Deno.execPath(), {
        args: ["doc", "--json", file],
        cwd: root,
      }).output();
      const modules: Record<string, { symbols: Documented[] }> =
        JSON.parse(new TextDecoder().decode(stdout)).nodes;
      for (const { symbols } of Object.values(modules)) {
        for (const symbol of symbols) {
          for (const { declarationKind, jsDoc } of symbol.declarations ?? [symbol]) {
            if (declarationKind !== "export") continue;
            assert(jsDoc?.doc, `${file}: ${symbol.name} has no description.`);
          }
        }
      }
    }
  });

  it("need what is locked: a start, with whatever engine, downloads and notes nothing else", async () => {
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
